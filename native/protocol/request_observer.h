// What the requests of one thread are like: from a sample of them, how long they take (`stats latencies`) and which
// keys are hot (`stats topkeys`); from all of them, which took long or have large values (request_log.h).
//
// Of kSampleRate requests, each key of a get-type command being one, one is looked at. The gap to the next is random,
// between 1 and 2 * kSampleRate - 1 with kSampleRate as its mean, so that no pattern of the clients escapes. All others
// cost a countdown in the memory of the thread, and a look at the time: of the gets that are looked up together, one.
//
// A latency begins when the front's thread is woken for bytes of clients, so it includes the requests and clients that
// are served before it in this wake-up, and ends when its reply is composed: for a request that waits for a load or for
// room, after this wait; for a reply that waits for a commit, before it. The time in queues and buffers of the system
// is not in it. Of a get-type command with many keys, that of the last key is the command's, so every command is
// sampled with the same probability.
//
// Slow requests that follow one another in one wake-up of one client are a run. The thread counts them without a lock,
// and gives the run to the log at the end of the session's call, so that a thread which is late is not held up further.
//
// Memory: 150 KiB for each thread.
// Thread safety: one thread executes requests; any thread may read and clear the samples.
// Lock order: an observer's lock is a leaf.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/clock.h"
#include "base/os.h"
#include "base/thread_annotations.h"
#include "base/ticks.h"
#include "protocol/command_class.h"
#include "protocol/latency_histogram.h"
#include "protocol/request_log.h"
#include "protocol/top_keys.h"
#include "store/request.h"

namespace cairn {

// The bytes of the value that the reply to a read has.
inline uint64_t SentBytes(const Outcome& outcome) { return outcome.has_value ? uint64_t{outcome.value_bytes} : 0; }

using Latencies = std::array<LatencyHistogram, kCommandClassCount>;

class RequestObserver {
 public:
  static constexpr uint32_t kSampleRate = 128;

  // `seed`: of the gaps. `clock` and `log` outlive it.
  RequestObserver(const TickClock* clock, RequestLog* log, uint64_t seed)
      : clock_(clock),
        log_(log),
        slow_ticks_(TicksBelowSlow()),
        large_bytes_(log->limits().large_bytes),
        random_(seed | 1),
        countdown_(NextGap()) {}
  RequestObserver(const RequestObserver&) = delete;
  RequestObserver& operator=(const RequestObserver&) = delete;

  // ---- its thread ----

  // The front's thread has been woken; the bytes that it finds are served from now on.
  void BeginWakeUp() { woken_ticks_ = ReadTicks(); }
  // The same for requests that have waited since an earlier one. Returns when the thread has been woken.
  uint64_t BeginWakeUpAt(uint64_t ticks) {
    EndRun();
    return std::exchange(woken_ticks_, ticks);
  }
  uint64_t woken_ticks() const { return woken_ticks_; }
  // The requests until EndCall() are those of a client with this name, and are executed at this time.
  void BeginCall(const std::string* client, const Now* now) {
    client_ = client;
    now_ = now;
  }
  void EndCall() { EndRun(); }

  // Called once for each request when its reply has been composed. True: Sample() it.
  bool IsDue() { return --countdown_ == 0; }
  // `key`: empty for a command without one. `value_bytes`: of the value that was stored or sent. `is_whole`: false for
  // a key that its command has others behind.
  void Sample(CommandClass command, std::string_view key, uint64_t value_bytes, bool is_whole = true);
  // The two together, for a request of the store.
  void Observe(const Request& request, uint64_t value_bytes) {
    if (IsDue()) [[unlikely]]
      Sample(ClassOf(request), request.key, value_bytes);
    if (IsLarge(value_bytes)) [[unlikely]]
      LogLarge(ClassOf(request), request.key, value_bytes);
    if (IsSlow()) [[unlikely]]
      LogSlow(ClassOf(request), request.key, value_bytes);
  }
  // The same for a command of this class, with a key or without one.
  void ObserveCommand(CommandClass command, std::string_view key = {}) {
    if (IsDue()) [[unlikely]]
      Sample(command, key, 0);
    if (IsSlow()) [[unlikely]]
      LogSlow(command, key, 0);
  }
  // For requests that are not given to Observe(). True: LogLarge() it.
  bool IsLarge(uint64_t value_bytes) const { return value_bytes >= large_bytes_; }
  void LogLarge(CommandClass command, std::string_view key, uint64_t value_bytes);
  // True: the requests that have just been answered may be slow, and LogSlow() decides.
  bool IsSlow() const { return ReadTicks() - woken_ticks_ >= slow_ticks_; }
  // `count`: how many requests have been answered, of which this is the last.
  void LogSlow(CommandClass command, std::string_view key, uint64_t value_bytes, uint64_t count = 1);

  // ---- any thread ----

  void AddLatencies(Latencies* sum);
  void CopyTopKeys(TopKeys* by_requests, TopKeys* by_bytes);
  void Clear();

 private:
  uint32_t NextGap();
  uint64_t TicksBelowSlow() const;
  void EndRun() {
    if (run_.count != 0) [[unlikely]]
      LogRun();
  }
  void LogRun();

  const TickClock* const clock_;
  RequestLog* const log_;
  uint64_t slow_ticks_;  // fewer than a slow request takes
  const uint64_t large_bytes_;
  const std::string* client_ = nullptr;
  const Now* now_ = nullptr;
  LoggedRequest run_;  // of `count` requests
  uint64_t run_ticks_ = 0;
  uint64_t random_;
  uint32_t countdown_;
  uint64_t woken_ticks_ = ReadTicks();

  OsLock lock_;
  Latencies latencies_ GUARDED_BY(lock_);
  TopKeys by_requests_ GUARDED_BY(lock_);
  TopKeys by_bytes_ GUARDED_BY(lock_);
};

// The observers of a service. Those of threads that have ended are no longer counted; threads end with their server.
//
// Thread safety: any thread. Lock order: lock_, then that of an observer.
class RequestSamples {
 public:
  // The keys of a list.
  static constexpr size_t kTopKeysShown = 20;

  void Add(RequestObserver* observer);
  void Remove(RequestObserver* observer);
  void Clear();

  void ReadLatencies(Latencies* sum);
  struct HotKeys {
    std::vector<TopKey> keys;
    uint64_t total = 0;  // of all keys
  };
  // Of the samples, since the last Clear().
  void ReadTopKeys(HotKeys* by_requests, HotKeys* by_bytes);

 private:
  OsLock lock_;
  std::vector<RequestObserver*> observers_ GUARDED_BY(lock_);
};

}  // namespace cairn
