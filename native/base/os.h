// What the core needs of an operating system; one os_*.cc each for Linux, macOS and Windows. No other file outside
// native/server calls the OS.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>

#include "base/thread_annotations.h"

namespace cairn {

// ---- memory ----

// Reserves address space, readable and writable, that takes no memory until it is touched (Windows: until committed).
// Null on failure. `bytes` is a multiple of OsPageBytes().
void* OsReserve(size_t bytes);
// Makes [address, address + bytes) usable. May be repeated. False: the system has no memory. Linux, macOS: no-op.
[[nodiscard]] bool OsCommit(void* address, size_t bytes);
// Gives the memory back; the contents are lost. The range must be committed again before use. It is of whole pages,
// here and below: systems round up to those, so that what lies behind would be lost too.
void OsDecommit(void* address, size_t bytes);
void OsRelease(void* address, size_t bytes);
// Gives the memory back as OsDecommit does, but the range stays usable; what it holds is lost. Cannot fail.
void OsDiscard(void* address, size_t bytes);
// Asks for large pages where the system has them on request.
void OsAdviseHugePages(void* address, size_t bytes);
// Has memory put behind the range now, so that nobody waits for it at the first touch. Changes no byte of it, whoever
// writes there meanwhile. Only a wish, and none where there are no large pages to wait for.
void OsPopulate(void* address, size_t bytes);
size_t OsPageBytes();
unsigned OsCpuCount();
// Memory that this process may use: the smaller of physical memory and the container's limit, bytes.
uint64_t OsMemoryBytes();
// Fills with bytes from the system's random source; ends the process if there is none.
void OsRandom(void* data, size_t bytes);

// ---- clocks ----

// Milliseconds of a clock that never goes back and counts while the machine sleeps; its zero is about the boot.
uint64_t OsBootMs();
// Unix time in milliseconds.
int64_t OsWallMs();

// ---- waiting on a word ----

// Sleeps while *word == expected, until woken or, roughly, timeout_ms passed (-1: no limit). May return early.
void OsWaitOnWord(const std::atomic<uint32_t>* word, uint32_t expected, int timeout_ms);
void OsWakeWord(std::atomic<uint32_t>* word, bool all);

// Makes every later OsLock::Unlock() of this process a plain store, if the system can interrupt the other processors
// for whoever goes to sleep. May take some 20 ms, once: for a thread that nobody waits for.
void OsLightenUnlock();

namespace os_internal {

inline std::atomic<bool> unlock_is_light{false};
// Whatever a processor that has such unlocks was doing, with all its memory accesses in order, lies before or after it.
// False: the system refuses it by now, so that the order of an unlock may be unknown. There are no light ones from then
// on, and whoever sleeps has to look again by itself.
bool InterruptAll();

}  // namespace os_internal

// A mutual exclusion lock of eight bytes that may live in memory shared by processes: spins shortly, then sleeps.
// Zero-initialised memory is an unlocked lock. Not recursive. Unlock() looks at the lock once more after it has let go:
// its memory stays until every Unlock() has returned.
//
// Taking it is one locked instruction. Letting go of it is none, once OsLightenUnlock() was called: a store to one word
// and then a look at the other, whether somebody sleeps. A processor may do these two in the other order, so that the
// sleeper, who writes to the other word and then looks at the first, would not be seen. So it is the sleeper who pays
// for the order: between its two it makes every other processor finish what it has begun (membarrier(2); D. Goldblatt,
// "Asymmetric fences", P1202R5).
class CAPABILITY("lock") OsLock {
 public:
  void Lock() ACQUIRE() {
    if (!TryLock()) LockSlow();
  }
  bool TryLock() TRY_ACQUIRE(true) {
    uint32_t unlocked = 0;
    return state_.compare_exchange_strong(unlocked, 1, std::memory_order_acquire, std::memory_order_relaxed);
  }
  void Unlock() RELEASE() { UnlockAndTell(); }
  // True if somebody may have been asleep waiting for it. Whoever takes the lock again and again lets them go first.
  bool UnlockAndTell() RELEASE() {
    uint32_t asleep;
    if (os_internal::unlock_is_light.load(std::memory_order_acquire)) [[likely]] {
      state_.store(0, std::memory_order_release);
      std::atomic_signal_fence(std::memory_order_seq_cst);
      asleep = asleep_.load(std::memory_order_relaxed);
    } else {
      state_.store(0, std::memory_order_seq_cst);
      asleep = asleep_.load(std::memory_order_seq_cst);
    }
    if (asleep == 0) [[likely]]
      return false;
    WakeOne();
    return true;
  }

 private:
  void LockSlow() ACQUIRE();
  void WakeOne();
  // 1: somebody holds it.
  std::atomic<uint32_t> state_{0};
  // 1: somebody sleeps, or is about to. Whoever takes it down wakes one sleeper, who sets it up again: there may be
  // others.
  std::atomic<uint32_t> asleep_{0};
};

class SCOPED_CAPABILITY OsLockGuard {
 public:
  explicit OsLockGuard(OsLock* lock) ACQUIRE(lock) : lock_(lock) { lock_->Lock(); }
  ~OsLockGuard() RELEASE() { lock_->Unlock(); }
  OsLockGuard(const OsLockGuard&) = delete;
  OsLockGuard& operator=(const OsLockGuard&) = delete;

 private:
  OsLock* lock_;
};

// ---- threads ----

// Sleeps for about so many microseconds, or longer.
void OsSleepUs(uint32_t microseconds);

// Starts a detached-by-handle thread named `name` (<= 15 characters) with all signals blocked. 0 on failure.
using OsThread = uintptr_t;
OsThread OsStartThread(const char* name, void (*run)(void*), void* argument);
void OsJoinThread(OsThread thread);

// ---- process ----

// Keeps the library that `code` is of loaded for as long as the process lives, whoever lets go of it: threads of ours
// may be running in it. Linux: a no-op, as the addon is linked so. May be repeated.
void OsKeepLoaded(void (*code)());

// Processor time that all threads of this process have used so far, in microseconds.
void OsCpuTimes(uint64_t* user_us, uint64_t* system_us);

}  // namespace cairn
