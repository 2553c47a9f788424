// The one native thread of a process that does upkeep: turns timer wheels, frees cleared entries, returns free memory
// to the system, and deletes ended caches. It never uses Node-API and never holds a lock for long: on a live cache it
// only calls Store::Maintain().
//
// The thread starts with the first cache and ends some time after the last one is gone. It sleeps for a second at a
// time while no cache has work, for 0.1 s while entries can expire, and for less while a cache grows. An atexit handler
// stops it, so that it does not run while the process is torn down.
//
// Thread safety: any thread may call any method. Wake() costs one atomic exchange when the janitor is awake.
#pragma once

#include <atomic>
#include <cstdint>
#include <list>
#include <memory>

#include "base/os.h"

namespace cairn {

class CacheInstance;

class Janitor {
 public:
  // Never destroyed.
  static Janitor& Get();

  // Maintains the cache from now on, holding a reference only while it works on it. Starts the thread.
  void Add(const std::shared_ptr<CacheInstance>& cache);
  // Deletes an instance without references, because unmapping takes long. The deleter of every CachePointer. After
  // Stop() the instance is kept instead: the process is ending.
  void Bury(CacheInstance* cache);
  // Wakes the thread for new work: after a clear, a resize, the first entry with an expiry.
  void Wake();
  // Stops the thread and waits for it; idempotent, and final. Called by the atexit handler.
  void Stop();

  // For tests: true while the thread exists.
  bool running();

 private:
  Janitor() = default;
  static void Run(void* self);
  void Loop();
  void StartLocked() REQUIRES_LOCK(lock_);

  bool lightened_ = false;  // the thread's: OsLightenUnlock() was called
  OsLock lock_;             // the thread is started under it; the janitor allocates nothing under it
  std::list<std::weak_ptr<CacheInstance>> caches_ GUARDED_BY(lock_);
  std::list<CacheInstance*> buried_ GUARDED_BY(lock_);
  OsThread thread_ GUARDED_BY(lock_) = 0;   // 0: never started, or joined
  bool running_ GUARDED_BY(lock_) = false;  // false once Loop() has decided to return
  bool exit_handler_ GUARDED_BY(lock_) = false;
  std::atomic<bool> stopped_{false};
  std::atomic<uint32_t> wake_{0};  // 1: Wake() was called since the last turn
};

}  // namespace cairn
