// The calls that the core makes to the operating system; os_*.cc implement them for Linux, macOS and Windows. Only
// these files and native/server call the operating system.
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
// Makes [address, address + bytes) usable; may be repeated. False: the system has no memory. Linux, macOS: no-op.
[[nodiscard]] bool OsCommit(void* address, size_t bytes);
// Returns the memory to the system; its contents are lost. The range must be committed again before use. Here and
// below, the range must be whole pages: systems round up to pages, and would discard the bytes behind it too.
void OsDecommit(void* address, size_t bytes);
void OsRelease(void* address, size_t bytes);
// Returns the memory as OsDecommit does, but the range stays usable; its contents are lost. Cannot fail.
void OsDiscard(void* address, size_t bytes);
// Asks for large pages, on systems that give them on request.
void OsAdviseHugePages(void* address, size_t bytes);
// Asks the system to put memory behind the range now, so that the first touch does not wait for it. It changes no byte,
// even if another thread writes there meanwhile. Best effort; a no-op on systems without large pages.
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
// Nanoseconds of a clock that never goes back, from an unknown moment on; for durations. It may stand still while the
// machine sleeps.
uint64_t OsMonotonicNs();

// ---- waiting on a word ----

// Sleeps while *word == expected, until it is woken or about timeout_ms have passed (-1: no limit). May return early.
void OsWaitOnWord(const std::atomic<uint32_t>* word, uint32_t expected, int timeout_ms);
void OsWakeWord(std::atomic<uint32_t>* word, bool all);

// Makes every later OsLock::Unlock() of this process a plain store, if the system lets a thread that goes to sleep
// interrupt the other processors. May take about 20 ms, once: call it in a thread that no other thread waits for.
void OsLightenUnlock();

namespace os_internal {

inline std::atomic<bool> unlock_is_light{false};
// A memory barrier on all processors that run this process: the memory accesses of each lie in order before or after
// it. False: the system now refuses it, so the order of a light unlock is unknown. Unlocks are no longer light from
// then on, and a sleeping thread must look at the lock again by itself.
bool InterruptAll();

}  // namespace os_internal

// A mutual exclusion lock of eight bytes, which may be in memory shared by processes: spins shortly, then sleeps.
// Zero-initialised memory is an unlocked lock. Not recursive. Unlock() reads the lock once more after releasing it, so
// its memory must stay until every Unlock() has returned.
//
// Lock() is one locked instruction. After OsLightenUnlock(), Unlock() needs none: it stores to `state_` and then reads
// `asleep_`. A processor may reorder the two, and would then miss a sleeper, which writes `asleep_` and then reads
// `state_`. So the sleeper pays for the order: between its two accesses it makes every other processor finish its
// pending accesses (membarrier(2); D. Goldblatt, "Asymmetric fences", P1202R5).
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
  // True if a thread may have slept waiting for the lock. A caller that takes the lock in a loop then lets that thread
  // go first.
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
  // 1: a thread holds it.
  std::atomic<uint32_t> state_{0};
  // 1: a thread sleeps, or is about to. A thread that clears it wakes one sleeper, which sets it again, because there
  // may be more sleepers.
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

// Sleeps for at least about this time.
void OsSleepUs(uint32_t microseconds);

// Starts a detached-by-handle thread named `name` (<= 15 characters) with all signals blocked. 0 on failure.
using OsThread = uintptr_t;
OsThread OsStartThread(const char* name, void (*run)(void*), void* argument);
void OsJoinThread(OsThread thread);

// ---- process ----

// Keeps the library that contains `code` loaded until the process ends, even if Node unloads it, because native threads
// may be running in it. Linux: a no-op, because the addon is linked `nodelete`. May be repeated.
void OsKeepLoaded(void (*code)());

// Processor time that all threads of this process have used so far, in microseconds.
void OsCpuTimes(uint64_t* user_us, uint64_t* system_us);

}  // namespace cairn
