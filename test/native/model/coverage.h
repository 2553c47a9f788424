#pragma once

#include <cstdint>
#include <string>

namespace cairn::model {

// What happened in the runs so far, to see that they reach the interesting states.
struct Coverage {
  uint64_t steps = 0, lives = 0;
  uint64_t evictions = 0, expirations = 0, wheel_expirations = 0, relocations = 0, splits = 0, merges = 0;
  uint64_t pins = 0, zombies = 0, copies_of_large = 0, bodies_linked = 0, bodies_refused = 0;
  uint64_t clears = 0, scheduled_clears = 0, schedules_applied = 0, barriers_applied = 0, resizes_up = 0,
           resizes_down = 0, resize_evictions = 0, value_limits_lowered = 0;
  uint64_t walks_finished = 0, walked = 0, walks_restarted = 0;
  uint64_t log_full = 0, too_large = 0, no_memory = 0, needs_room = 0, applied = 0, fills_voided = 0, fills_stored = 0;
  uint64_t flood_evictions = 0, in_place = 0, rebuilt = 0, records = 0, plain_gets = 0, plain_sets = 0;
  uint64_t ring_full = 0, ring_pinned = 0, ring_copied_large = 0, ring_zombies = 0, ring_drained = 0, ring_rewound = 0,
           ring_wrapped = 0, ring_waits_for_memory = 0, ring_replayed = 0;
  uint64_t extended = 0, concats_in_steps = 0, bodies_lost = 0;
  uint64_t renumbered = 0, renumbered_dead = 0, recovered = 0, recovery_expirations = 0, repeated_clears = 0,
           counters_over = 0, stale_absent = 0, stale_accepted = 0, made_fresh = 0, made_stale = 0,
           records_freshness = 0, records_delta = 0;
  void Add(const Coverage& other);
  // The names of what never happened.
  std::string Missing(bool with_collisions) const;
  std::string Text() const;
};

}  // namespace cairn::model
