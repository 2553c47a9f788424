#include "process/janitor.h"

#include <algorithm>
#include <cstdlib>
#include <utility>

#include "base/check.h"
#include "base/clock.h"
#include "process/registry.h"

namespace cairn {
namespace {

// While entries can expire: how late an expired entry that is not read may leave.
constexpr int kTimedSleepMs = 100;
// While memory is ready for a cache that may have stopped growing.
constexpr int kAheadSleepMs = 50;
// When OsLightenUnlock() is called: not so early that a process which ends at once has to wait for it.
constexpr int kLightenAfterMs = 100;
// Otherwise: how late free pages go back to the system, and how long the thread outlives the last cache.
constexpr int kIdleSleepMs = 1000;
// Steps of Store::Maintain for one cache before the others get their turn.
constexpr int kStepsPerTurn = 64;

}  // namespace

Janitor& Janitor::Get() {
  static Janitor* const janitor = new Janitor;
  return *janitor;
}

void Janitor::Add(const std::shared_ptr<CacheInstance>& cache) {
  std::list<std::weak_ptr<CacheInstance>> added = {cache};
  {
    OsLockGuard guard(&lock_);
    caches_.splice(caches_.end(), added);
    StartLocked();
  }
  Wake();
}

void Janitor::Bury(CacheInstance* cache) {
  std::list<CacheInstance*> added = {cache};
  {
    OsLockGuard guard(&lock_);
    buried_.splice(buried_.end(), added);
    StartLocked();
  }
  Wake();
}

void Janitor::Wake() {
  if (wake_.exchange(1, std::memory_order_acq_rel) == 0) OsWakeWord(&wake_, false);
}

void Janitor::StartLocked() {
  if (running_ || stopped_.load(std::memory_order_relaxed)) return;
  if (!exit_handler_) {
    exit_handler_ = true;
    // Runs at exit() however it came about, on whichever thread; workers have ended by then.
    std::atexit([] { Janitor::Get().Stop(); });
  }
  if (thread_ != 0) OsJoinThread(thread_);  // it has left Loop() for good: this does not wait
  thread_ = OsStartThread("cairn-janitor", &Janitor::Run, this);
  // Without the thread (no resources) expired and cleared entries are reclaimed by the callers that meet them.
  running_ = thread_ != 0;
}

void Janitor::Run(void* self) { static_cast<Janitor*>(self)->Loop(); }

void Janitor::Loop() {
  std::vector<std::shared_ptr<CacheInstance>> caches;
  std::list<CacheInstance*> buried;
  bool lingered = false;
  const uint64_t started_ms = ReadBootMs();
  while (!stopped_.load(std::memory_order_acquire)) {
    // Taken down before looking, so that a wake-up during the turn is not lost.
    wake_.store(0, std::memory_order_seq_cst);
    bool idle;
    for (size_t count = 8;; count *= 2) {
      caches.reserve(count);
      OsLockGuard guard(&lock_);
      if (caches_.size() > caches.capacity()) continue;
      std::erase_if(caches_, [&caches](const std::weak_ptr<CacheInstance>& weak) {
        std::shared_ptr<CacheInstance> cache = weak.lock();
        if (cache == nullptr) return true;
        caches.push_back(std::move(cache));
        return false;
      });
      buried.splice(buried.end(), buried_);
      idle = caches.empty() && buried.empty();
      if (idle && lingered) {
        running_ = false;
        return;
      }
      break;
    }
    bool more = false;
    bool timed = false;
    bool ahead = false;
    for (const std::shared_ptr<CacheInstance>& cache : caches) {
      Store* store = cache->store();
      timed = timed || store->uses_time();
      const Now now = cache->ReadBothClocks();
      int steps = 0;
      while (store->Maintain(now)) {
        if (stopped_.load(std::memory_order_relaxed)) return;
        if (++steps == kStepsPerTurn) {
          more = true;
          break;
        }
      }
      ahead = ahead || store->is_ahead();
    }
    // Outside the lock: where this was the last reference the cache comes back through Bury().
    caches.clear();
    // The store gives its memory back in steps.
    for (CacheInstance* cache : buried) delete cache;
    buried.clear();
    if (!more) {
      const int sleep_ms = ahead ? kAheadSleepMs : timed ? kTimedSleepMs : kIdleSleepMs;
      OsWaitOnWord(&wake_, 0, lightened_ ? sleep_ms : std::min(sleep_ms, kLightenAfterMs));
      lingered = idle && wake_.load(std::memory_order_acquire) == 0;
      if (!lightened_ && ReadBootMs() - started_ms >= kLightenAfterMs) {
        OsLightenUnlock();
        lightened_ = true;
      }
    }
  }
}

void Janitor::Stop() {
  stopped_.store(true, std::memory_order_release);
  Wake();
  OsThread thread = 0;
  {
    OsLockGuard guard(&lock_);
    std::swap(thread, thread_);
  }
  if (thread != 0) OsJoinThread(thread);
}

bool Janitor::running() {
  OsLockGuard guard(&lock_);
  return running_;
}

}  // namespace cairn
