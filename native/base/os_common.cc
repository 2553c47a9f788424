// What is the same on every system.
#include "base/os.h"

#include <chrono>
#include <thread>

#if defined(_MSC_VER) && !defined(__clang__)
#include <intrin.h>
#endif

namespace cairn {
namespace {

// About 1 to 4 microseconds: longer than the lock of a shard is held, shorter than going to sleep and being woken.
constexpr int kSpinPauses = 100;

inline void Pause() {
#if defined(_MSC_VER) && !defined(__clang__)
#if defined(_M_ARM64)
  __yield();
#else
  _mm_pause();
#endif
#elif defined(__x86_64__) || defined(__i386__)
  __builtin_ia32_pause();
#elif defined(__aarch64__)
  // `yield` is a no-op on most cores; `isb` empties the pipeline, which takes about as long as x86's pause.
  asm volatile("isb" ::: "memory");
#endif
}

}  // namespace

uint64_t OsMonotonicNs() {
  const auto since = std::chrono::steady_clock::now().time_since_epoch();
  return static_cast<uint64_t>(std::chrono::duration_cast<std::chrono::nanoseconds>(since).count());
}

void OsSleepUs(uint32_t microseconds) { std::this_thread::sleep_for(std::chrono::microseconds(microseconds)); }

// How long a sleeper trusts that it was seen, where that cannot be made sure of.
constexpr int kUnorderedWaitMs = 10;

void OsLock::LockSlow() {
  // With one processor the holder cannot let go while we spin.
  static const int spin_pauses = OsCpuCount() > 1 ? kSpinPauses : 0;
  for (int i = 0; i < spin_pauses; ++i) {
    // If a thread sleeps already, the holder is slow or not running: sleep too.
    if (asleep_.load(std::memory_order_relaxed) != 0) break;
    // Only read while it is taken, so that the holder keeps the cache line.
    if (state_.load(std::memory_order_relaxed) == 0 && TryLock()) return;
    Pause();
  }
  for (;;) {
    asleep_.store(1, std::memory_order_seq_cst);
    // An Unlock() that has not seen this has let go of the lock by now, for us to see.
    const bool is_ordered = os_internal::InterruptAll();
    uint32_t unlocked = 0;
    // We leave asleep_ up: there may be other sleepers, and only we could tell.
    if (state_.compare_exchange_strong(unlocked, 1, std::memory_order_seq_cst)) return;
    OsWaitOnWord(&asleep_, 1, is_ordered ? -1 : kUnorderedWaitMs);
  }
}

void OsLock::WakeOne() {
  asleep_.store(0, std::memory_order_seq_cst);
  OsWakeWord(&asleep_, false);
}

}  // namespace cairn
