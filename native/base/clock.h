// Time is an argument. The edges read the clock once per call or wake-up and pass it down; tests make it up.
#pragma once

#include <cstdint>

namespace cairn {

// A moment on both clocks.
struct Now {
  // Milliseconds of the boot clock: never goes back, counts while the machine sleeps. Expiry inside a store is in it.
  uint64_t boot_ms = 0;
  // Unix time in milliseconds of the same moment. Only edges use it: absolute expiry in the protocol and in records.
  int64_t wall_ms = 0;

  // What to add to boot-clock milliseconds to get Unix milliseconds.
  int64_t WallOffset() const { return wall_ms - static_cast<int64_t>(boot_ms); }
};

// Reads both clocks of the machine.
Now ReadClock();

// Reads the boot clock alone, in milliseconds: one vDSO call.
uint64_t ReadBootMs();

// Expiry of an entry, in boot-clock milliseconds. An entry is expired from that millisecond on.
inline constexpr uint64_t kNeverExpires = 0;
// As the expiry of a request: leave the entry's expiry as it is.
inline constexpr uint64_t kKeepExpiry = ~uint64_t{0};
// An expiry that has passed for every clock.
inline constexpr uint64_t kAlreadyExpired = 1;

// End of the freshness of an entry, in boot-clock milliseconds: from then on it is stale. kAlwaysFresh: never.
inline constexpr uint64_t kAlwaysFresh = 0;

// When an entry ends for a reader that does not accept stale entries; kNeverExpires: never.
inline constexpr uint64_t EndMs(uint64_t expires_ms, uint64_t fresh_until_ms) {
  static_assert(kNeverExpires == 0 && kAlwaysFresh == 0);
  return expires_ms - 1 < fresh_until_ms - 1 ? expires_ms : fresh_until_ms;  // 0 is the latest of all
}

}  // namespace cairn
