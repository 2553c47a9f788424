// What the requests of one thread are like, from a sample of them: how long they take (`stats latencies`) and which
// keys are hot (`stats topkeys`).
//
// Of kSampleRate requests, each key of a get-type command being one, one is looked at. The gap to the next is random,
// between 1 and 2 * kSampleRate - 1 with kSampleRate as its mean, so that no pattern of the clients escapes. All others
// cost a countdown in the memory of the thread.
//
// A latency begins when the front's thread is woken for bytes of clients, so it includes the requests and clients that
// are served before it in this wake-up, and ends when its reply is composed: for a request that waits for a load or for
// room, after this wait; for a reply that waits for a commit, before it. The time in queues and buffers of the system
// is not in it. Of a get-type command with many keys, that of the last key is the command's, so every command is
// sampled with the same probability.
//
// Memory: 150 KiB for each thread.
// Thread safety: IsDue(), Sample() and the times belong to one thread; any thread may read and clear.
// Lock order: an observer's lock is a leaf.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <string_view>
#include <utility>
#include <vector>

#include "base/os.h"
#include "base/thread_annotations.h"
#include "base/ticks.h"
#include "protocol/latency_histogram.h"
#include "protocol/top_keys.h"
#include "store/request.h"

namespace cairn {

// How the commands are counted.
enum class CommandClass : uint8_t {
  kGet,      // get of one key
  kGetMany,  // get of many keys, gets
  kMetaGet,
  kSet,  // set, add, replace, append, prepend, cas
  kMetaSet,
  kDelete,      // delete, md
  kArithmetic,  // incr, decr, ma
  kTouch,       // touch, gat, gats
  kOther,
};
inline constexpr size_t kCommandClassCount = static_cast<size_t>(CommandClass::kOther) + 1;
// get, gets, mg, set, ms, delete, incr, touch, other.
std::string_view NameOf(CommandClass command);
// That of a request of the store; of a read: kGet.
CommandClass ClassOf(const Request& request);

// The bytes of the value that the reply to a read has.
inline uint64_t SentBytes(const Outcome& outcome) { return outcome.has_value ? uint64_t{outcome.value_bytes} : 0; }

using Latencies = std::array<LatencyHistogram, kCommandClassCount>;

class RequestObserver {
 public:
  static constexpr uint32_t kSampleRate = 128;

  // `seed`: of the gaps. `clock` outlives it.
  RequestObserver(const TickClock* clock, uint64_t seed) : clock_(clock), random_(seed | 1), countdown_(NextGap()) {}
  RequestObserver(const RequestObserver&) = delete;
  RequestObserver& operator=(const RequestObserver&) = delete;

  // ---- its thread ----

  // The front's thread has been woken; the bytes that it finds are served from now on.
  void BeginWakeUp() { woken_ticks_ = ReadTicks(); }
  // The same for requests that have waited since an earlier one. Returns when the thread has been woken.
  uint64_t BeginWakeUpAt(uint64_t ticks) { return std::exchange(woken_ticks_, ticks); }
  uint64_t woken_ticks() const { return woken_ticks_; }

  // Called once for each request when its reply has been composed. True: Sample() it.
  bool IsDue() { return --countdown_ == 0; }
  // `key`: empty for a command without one. `value_bytes`: of the value that was stored or sent. `is_whole`: false for
  // a key that its command has others behind.
  void Sample(CommandClass command, std::string_view key, uint64_t value_bytes, bool is_whole = true);
  // The two together, for a request of the store.
  void Observe(const Request& request, uint64_t value_bytes) {
    if (IsDue()) [[unlikely]]
      Sample(ClassOf(request), request.key, value_bytes);
  }
  // The same for a command of this class, with a key or without one.
  void ObserveCommand(CommandClass command, std::string_view key = {}) {
    if (IsDue()) [[unlikely]]
      Sample(command, key, 0);
  }

  // ---- any thread ----

  void AddLatencies(Latencies* sum);
  void CopyTopKeys(TopKeys* by_requests, TopKeys* by_bytes);
  void Clear();

 private:
  uint32_t NextGap();

  const TickClock* const clock_;
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
