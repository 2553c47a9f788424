// The clients of a service that watch, and the way of the events to them.
//
//   EventLogs (one per workbench, one of evictions) -> Drain() -> lines -> a buffer per Watcher -> Take() -> its client
//
// No thread waits for a watcher. The session of each watcher calls Proceed() every few milliseconds, and when a log or
// the buffer of a watcher is half full: it drains a bounded part of all logs, and takes the lines that are for it. A
// watcher whose client does not read keeps kWatcherBytes of lines; further ones are counted, and the client is told of
// them (skipped=N) when it reads again.
//
// Thread safety: any thread may call any method; a Watcher belongs to its session.
// Lock order: lock_, then that of an EventLog, or of the store's removal sink. Sessions that do not watch never take
// it, apart from workbenches that come and go.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <string_view>
#include <vector>

#include "base/clock.h"
#include "base/os.h"
#include "base/waker.h"
#include "protocol/byte_buffer.h"
#include "protocol/counters.h"
#include "protocol/event_log.h"
#include "protocol/key_display.h"
#include "store/removal.h"
#include "store/store.h"

namespace cairn {

class WatchHub;

// A client that watches. It no longer does when this ends.
class Watcher {
 public:
  // memcached's watcher_logbuf_size.
  static constexpr size_t kWatcherBytes = 256 * 1024;

  ~Watcher();
  Watcher(const Watcher&) = delete;
  Watcher& operator=(const Watcher&) = delete;

  // Drains the logs, and appends the lines for this client to `out` if it takes any. Called about every interval_ms().
  void Proceed(bool takes_lines, const Now& now, ByteBuffer* out);
  // Shorter while there are events, longer while there are none.
  uint64_t interval_ms() const { return interval_ms_; }

  static constexpr uint64_t kIntervalMsMin = 1;
  static constexpr uint64_t kIntervalMsMax = 100;

 private:
  friend class WatchHub;
  Watcher(WatchHub* hub, uint32_t streams) : hub_(hub), streams_(streams) {}

  void SetInterval(bool has_many, bool has_some);

  WatchHub* const hub_;
  const uint32_t streams_;
  uint64_t interval_ms_ = kIntervalMsMin;
  // Guarded by the hub's lock.
  uint64_t first_number_ = 0;  // of the events that it is told
  std::unique_ptr<char[]> lines_;
  size_t used_ = 0;
  uint64_t skipped_ = 0;
};

class WatchHub {
 public:
  // memcached's limit.
  static constexpr size_t kWatchersMax = 20;
  // The events that are drained before a watcher takes its lines, which have room in its buffer then, whatever their
  // keys are; and the times that one call does so: about half a millisecond. A front serves its other clients before
  // the next call.
  static constexpr size_t kEventsPerDrain = 192;
  static constexpr int kDrainsPerCall = 8;

  // `bell`: wakes the sessions that watch, when the buffer of one of them is half full. All arguments outlive the hub.
  WatchHub(Store* store, Counters* counters, const KeyDisplay* keys, Waker* bell);
  // REQUIRES: no watcher and no log is left.
  ~WatchHub();
  WatchHub(const WatchHub&) = delete;
  WatchHub& operator=(const WatchHub&) = delete;

  // The log of a thread, from now on. REQUIRES: it was made with last_number().
  void AddLog(EventLog* log);
  void RemoveLog(EventLog* log);
  std::atomic<uint64_t>* last_number() { return &last_number_; }

  enum class Answer : uint8_t { kAdded, kTooMany, kNoMemory };
  // A client watches these streams; it is told what happens from now on.
  Answer Add(uint32_t streams, std::unique_ptr<Watcher>* watcher);
  size_t watcher_count() const { return watcher_count_.load(std::memory_order_relaxed); }

 private:
  friend class Watcher;

  // Evictions come from any thread, under the lock of a shard.
  class Evictions final : public RemovalTap {
   public:
    explicit Evictions(EventLog* log) : log_(log) {}
    void OnEvicted(const RemovedEntry& entry) override;

   private:
    EventLog* const log_;
  };

  void Remove(Watcher* watcher);
  // Makes lines of up to kEventsPerDrain events. Returns how many there were.
  size_t Drain(const Now& now) REQUIRES_LOCK(lock_);
  void Tell(const Event& event, std::string_view text) REQUIRES_LOCK(lock_);
  void Tap(bool yes) REQUIRES_LOCK(lock_);
  // Has all logs hear what the watchers want. False: there is no memory for that.
  [[nodiscard]] bool Listen() REQUIRES_LOCK(lock_);

  Store* const store_;
  Counters* const counters_;
  const KeyDisplay* const keys_;
  Waker* const bell_;
  std::atomic<uint64_t> last_number_{0};
  std::atomic<size_t> watcher_count_{0};

  OsLock lock_;
  std::vector<EventLog*> logs_ GUARDED_BY(lock_);
  size_t next_log_ GUARDED_BY(lock_) = 0;  // at which the next Drain() begins
  std::vector<Watcher*> watchers_ GUARDED_BY(lock_);
  uint32_t streams_ GUARDED_BY(lock_) = 0;
  bool is_a_watcher_half_full_ GUARDED_BY(lock_) = false;
  bool is_tapped_ GUARDED_BY(lock_) = false;
  EventLog eviction_log_;
  Evictions evictions_{&eviction_log_};
};

}  // namespace cairn
