// The one native thread of a process that does upkeep: turns timer wheels, reclaims cleared entries, gives free memory
// back, and deletes ended caches. It never touches Node-API and never holds a lock for long: all it does
// to a live cache is Store::Maintain().
//
// The thread starts with the first cache and ends by itself some time after the last one is gone. It sleeps for a
// second at a time while no cache has anything to do, a tenth of one while entries can expire, and less while a cache
// grows. An atexit handler stops it, so that nothing of ours runs while the process is being torn down.
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

  // Looks after the cache from now on; keeps it alive only while it works on it. Starts the thread.
  void Add(const std::shared_ptr<CacheInstance>& cache);
  // Deletes an instance that nobody refers to any more: unmapping takes its time. The deleter of every CachePointer.
  // After Stop() it only keeps it: the process is ending.
  void Bury(CacheInstance* cache);
  // There is something to do now: after a clear, a resize, the first entry with an expiry.
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
  OsLock lock_;             // the thread is started under it, and nothing allocated by us
  std::list<std::weak_ptr<CacheInstance>> caches_ GUARDED_BY(lock_);
  std::list<CacheInstance*> buried_ GUARDED_BY(lock_);
  OsThread thread_ GUARDED_BY(lock_) = 0;   // 0: never started, or joined
  bool running_ GUARDED_BY(lock_) = false;  // false once Loop() has decided to return
  bool exit_handler_ GUARDED_BY(lock_) = false;
  std::atomic<bool> stopped_{false};
  std::atomic<uint32_t> wake_{0};  // 1: somebody called Wake() since the last turn
};

}  // namespace cairn
