// Time is an argument. The edges read the clock once per call or wake-up and pass it down; tests pass times of their
// own.
#pragma once

#include <cstdint>

namespace cairn {

// A moment on both clocks.
struct Now {
  // Milliseconds of the boot clock, which never goes back and counts while the machine sleeps. The store's expiries use
  // it.
  uint64_t boot_ms = 0;
  // Unix time of the same moment, in milliseconds. Only edges use it, for absolute expiries in the protocol and in
  // records.
  int64_t wall_ms = 0;

  // Unix milliseconds less boot-clock milliseconds.
  int64_t WallOffset() const { return wall_ms - static_cast<int64_t>(boot_ms); }
};

// Reads both clocks of the machine.
Now ReadClock();

// Reads the boot clock alone, in milliseconds: one vDSO call.
uint64_t ReadBootMs();

// The expiry of an entry, in boot-clock milliseconds: from that millisecond on it is expired.
inline constexpr uint64_t kNeverExpires = 0;
// As the expiry of a request: keeps the entry's expiry.
inline constexpr uint64_t kKeepExpiry = ~uint64_t{0};
// An expiry in the past of every clock.
inline constexpr uint64_t kAlreadyExpired = 1;

// End of the freshness of an entry, in boot-clock milliseconds: from then on it is stale. kAlwaysFresh: never.
inline constexpr uint64_t kAlwaysFresh = 0;

// When an entry ends for a reader that does not accept stale entries; kNeverExpires: never.
inline constexpr uint64_t EndMs(uint64_t expires_ms, uint64_t fresh_until_ms) {
  static_assert(kNeverExpires == 0 && kAlwaysFresh == 0);
  return expires_ms - 1 < fresh_until_ms - 1 ? expires_ms : fresh_until_ms;  // 0 is the latest of all
}

}  // namespace cairn
