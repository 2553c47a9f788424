#include "model/coverage.h"

#include <cstddef>

#include "model/words.h"

namespace cairn::model {

void Coverage::Add(const Coverage& other) {
  static_assert(sizeof(Coverage) % sizeof(uint64_t) == 0);
  auto* to = reinterpret_cast<uint64_t*>(this);
  const auto* from = reinterpret_cast<const uint64_t*>(&other);
  for (size_t i = 0; i < sizeof(Coverage) / sizeof(uint64_t); ++i) to[i] += from[i];
}

// The formatter would align this list anew each time.
// clang-format off
#define CAIRN_MODEL_COVERAGE(X) \
  X(evictions) X(expirations) X(wheel_expirations) X(relocations) X(splits) X(merges) X(pins) X(zombies) \
  X(copies_of_large) X(bodies_linked) X(bodies_refused) X(clears) X(scheduled_clears) X(schedules_applied) \
  X(barriers_applied) X(resizes_up) X(resizes_down) X(resize_evictions) X(walks_finished) X(walked) \
  X(walks_restarted) X(log_full) X(too_large) X(no_memory) X(needs_room) X(applied) X(fills_voided) X(fills_stored) \
  X(in_place) X(rebuilt) X(plain_gets) X(plain_sets) X(records) X(ring_full) X(ring_pinned) X(ring_copied_large) \
  X(ring_zombies) X(ring_drained) X(ring_rewound) X(ring_wrapped) X(ring_waits_for_memory) X(ring_replayed) \
  X(extended) X(concats_in_steps) X(bodies_lost) X(renumbered) X(renumbered_dead) X(recovered) \
  X(value_limits_lowered) \
  X(recovery_expirations) X(repeated_clears) X(counters_over) X(stale_absent) X(stale_accepted) \
  X(made_fresh) X(made_stale) X(records_freshness) X(records_delta)
// clang-format on

std::string Coverage::Missing(bool with_collisions) const {
  std::string missing;
#define X(name) \
  if (name == 0) missing += " " #name;
  CAIRN_MODEL_COVERAGE(X)
#undef X
  if (with_collisions && flood_evictions == 0) missing += " flood_evictions";
  return missing;
}

std::string Coverage::Text() const {
  std::string text = Format("steps=%llu lives=%llu flood_evictions=%llu", static_cast<unsigned long long>(steps),
                            static_cast<unsigned long long>(lives), static_cast<unsigned long long>(flood_evictions));
#define X(name) text += Format(" " #name "=%llu", static_cast<unsigned long long>(name));
  CAIRN_MODEL_COVERAGE(X)
#undef X
  return text;
}

}  // namespace cairn::model
