// Times as they travel in the protocol: seconds, relative up to 30 days, Unix time above, past when negative; and, in
// flags of the meta protocol only, milliseconds from now.
#pragma once

#include <cstdint>

#include "base/clock.h"

namespace cairn {

// A number of seconds above this is a Unix time.
inline constexpr int32_t kRelativeSecondsMax = 30 * 24 * 60 * 60;

// The expiry of a request with an exptime of `seconds`: 32 bits, in the binary protocol without a sign. 0 is never; a
// time in the past is kAlreadyExpired.
inline uint64_t ExpiryOfSeconds(int64_t seconds, const Now& now) {
  if (seconds == 0) return kNeverExpires;
  if (seconds < 0) return kAlreadyExpired;
  if (seconds <= kRelativeSecondsMax) return now.boot_ms + static_cast<uint64_t>(seconds) * 1000;
  const int64_t wall_ms = seconds * 1000;
  if (wall_ms <= now.wall_ms) return kAlreadyExpired;
  return static_cast<uint64_t>(wall_ms - now.WallOffset());
}

// The most milliseconds of a request, either side of now: as many as JavaScript's numbers hold exactly.
inline constexpr int64_t kMillisecondsMax = (int64_t{1} << 53) - 1;

// The expiry of a request with a time to live of `ms`: 0 is never, a negative one has ended already. None is a Unix
// time. REQUIRES: within kMillisecondsMax.
inline uint64_t ExpiryOfMilliseconds(int64_t ms, const Now& now) {
  if (ms == 0) return kNeverExpires;
  if (ms < 0) return kAlreadyExpired;
  return now.boot_ms + static_cast<uint64_t>(ms);
}

// A time as a flag of the meta protocol has it: "90" or "1500ms".
struct FlagTime {
  int64_t count = 0;
  bool is_ms = false;
};

inline uint64_t ExpiryOfTime(FlagTime time, const Now& now) {
  return time.is_ms ? ExpiryOfMilliseconds(time.count, now) : ExpiryOfSeconds(time.count, now);
}

}  // namespace cairn
