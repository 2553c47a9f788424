// The processor's own counter of time, for durations on hot paths: reading it takes one to four instructions, a clock
// of the system about fifty.
//
// Its unit is a tick. A TickClock compares the counter with the system's clock over its whole life to convert ticks, so
// the conversion gets better with time: its relative error is about 1 us / age. Counters of x86 processors are constant
// and equal on all cores since about 2009; where they are not, durations are wrong, and negative ones are 0.
#pragma once

#include <cstdint>

#include "base/os.h"

namespace cairn {

inline uint64_t ReadTicks() {
#if defined(__x86_64__) || defined(__i386__)
  return __builtin_ia32_rdtsc();
#elif defined(__aarch64__)
  uint64_t ticks;
  asm volatile("mrs %0, cntvct_el0" : "=r"(ticks));
  return ticks;
#else
  return OsMonotonicNs();
#endif
}

// Thread safety: immutable; any thread.
class TickClock {
 public:
  TickClock() = default;
  // For tests: a clock as if made when the readings were these.
  TickClock(uint64_t begin_ticks, uint64_t begin_ns) : begin_ticks_(begin_ticks), begin_ns_(begin_ns) {}

  // Nanoseconds between two readings: `ticks` is the later less the earlier.
  uint64_t NsOf(uint64_t ticks) const {
    const auto age_ticks = static_cast<int64_t>(ReadTicks() - begin_ticks_);
    const auto age_ns = static_cast<int64_t>(OsMonotonicNs() - begin_ns_);
    if (static_cast<int64_t>(ticks) <= 0 || age_ticks <= 0 || age_ns <= 0) return 0;
    return static_cast<uint64_t>(static_cast<double>(ticks) * static_cast<double>(age_ns) /
                                 static_cast<double>(age_ticks));
  }

  // Fewer ticks than this time takes, so that a duration of fewer is known to be shorter. In the first kYoungNs, when
  // the thread may have been stopped between the two readings, as few as the slowest counter of such a processor has;
  // then 7/8 of the ticks that the time takes.
  uint64_t TicksBelow(uint64_t ns) const {
    const auto age_ticks = static_cast<int64_t>(ReadTicks() - begin_ticks_);
    const uint64_t age_ns = OsMonotonicNs() - begin_ns_;
    if (age_ticks <= 0 || age_ns < kYoungNs) return ns / kNsPerTickMax;
    return static_cast<uint64_t>(0.875 * static_cast<double>(ns) * static_cast<double>(age_ticks) /
                                 static_cast<double>(age_ns));
  }

 private:
  static constexpr uint64_t kYoungNs = 1'000'000'000;
#if defined(__x86_64__) || defined(__i386__)
  static constexpr uint64_t kNsPerTickMax = 2;  // 500 MHz
#elif defined(__aarch64__)
  static constexpr uint64_t kNsPerTickMax = 1000;  // 1 MHz
#else
  static constexpr uint64_t kNsPerTickMax = 1;
#endif

  const uint64_t begin_ticks_ = ReadTicks();
  const uint64_t begin_ns_ = OsMonotonicNs();
};

}  // namespace cairn
