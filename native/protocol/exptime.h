// Times as they travel in the protocol: seconds, relative up to 30 days, Unix time above, past when negative.
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

}  // namespace cairn
