// Events for the clients that watch: what a thread has done, on its way to them.
//
//   a request, a connection, an eviction -> EventLog of the thread -> WatchHub::Drain() -> Watcher -> its client
//
// An EventLog has two buffers of kEventLogBytes: its thread appends to one while the other is read. An event that finds
// no room is counted, and gone: no thread waits for a watcher. Without a watcher there are no buffers, and hears()
// is one load and one branch.
//
// Thread safety: any thread may call any method. Append() is called by one thread as a rule; the log of evictions has
// many.
// Lock order: an EventLog's lock is a leaf. It is taken under a shard's lock (evictions), and under the hub's.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <string_view>

#include "base/os.h"
#include "base/waker.h"
#include "protocol/counters.h"
#include "store/request.h"

namespace cairn {

// The streams that a client can watch; a bit for each. memcached's others, kSilent, can be watched too, but there is
// nothing to tell: raw commands, slabs that move, a crawler, a proxy.
enum EventStream : uint32_t {
  kFetchers = 1,
  kMutations = 2,
  kEvictions = 4,
  kConnectionEvents = 8,
  kDeletions = 16,
  kSilent = 32,
};
// Those that requests for keys belong to.
inline constexpr uint32_t kRequestStreams = kFetchers | kMutations | kDeletions;

// Why a connection ended.
enum class CloseReason : uint8_t { kError, kNormal, kIdleTimeout };

// One event; its text, a key or the name of a client's end, follows it in the log.
struct Event {
  enum class Kind : uint8_t { kItemGet, kItemStore, kEviction, kDeleted, kConnected, kDisconnected };

  Kind kind = Kind::kItemGet;
  Status status = Status::kNotFound;  // kItemGet, kItemStore
  Verb verb = Verb::kGet;             // kItemStore
  bool is_meta = false;               // kDeleted: by md
  bool is_fetched = false;            // kEviction
  CloseReason reason = CloseReason::kError;
  int64_t ttl_s = 0;  // kItemStore, 0 for never; kEviction, -1 for never
  // kEviction, from which the hub computes the times: as the entry has them, on the boot clock.
  uint64_t expires_ms = 0;
  uint32_t accessed_s = 0;
  uint32_t idle_s = 0;
  uint32_t value_bytes = 0;
  uint64_t client = 0;  // the number of its session
  int64_t wall_ms = 0;  // 0: the time at which the hub reads it
  uint64_t number = 0;  // given by Append(): events of all logs are in this order
};

constexpr uint32_t StreamOf(Event::Kind kind) {
  switch (kind) {
    case Event::Kind::kItemGet:
      return kFetchers;
    case Event::Kind::kItemStore:
      return kMutations;
    case Event::Kind::kEviction:
      return kEvictions;
    case Event::Kind::kDeleted:
      return kDeletions;
    case Event::Kind::kConnected:
    case Event::Kind::kDisconnected:
      break;
  }
  return kConnectionEvents;
}

class EventLog {
 public:
  // One call on a session leaves up to kRequestsPerCallMax events, before they can be read.
  static constexpr size_t kEventLogBytes = 512 * 1024;

  // `last_number`: of all logs of a hub. `counters`: gets the events that were written and dropped. `bell`: rung when
  // the log is half full; null: it is not. All outlive it.
  EventLog(std::atomic<uint64_t>* last_number, Counters* counters, Waker* bell)
      : last_number_(last_number), counters_(counters), bell_(bell) {}
  EventLog(const EventLog&) = delete;
  EventLog& operator=(const EventLog&) = delete;

  // Whether one of these streams is watched.
  bool hears(uint32_t streams) const { return (streams_.load(std::memory_order_relaxed) & streams) != 0; }

  void Append(const Event& event, std::string_view text) {
    AppendCopied(event, text.size(), [text](char* to) { text.copy(to, text.size()); });
  }
  // The same with a text that is in pieces: copy(to) writes its `text_bytes` bytes.
  template <class Copy>
  void AppendCopied(const Event& event, size_t text_bytes, Copy copy) {
    bool is_half_full = false;
    {
      const OsLockGuard guard(&lock_);
      if (char* to = RoomFor(event, text_bytes, &is_half_full)) copy(to);
    }
    if (is_half_full && bell_ != nullptr) bell_->Wake();
  }

  // ---- the hub ----

  // From now on hears these streams; 0: none, and the events it has are gone. False: there is no memory for its
  // buffers.
  [[nodiscard]] bool Hear(uint32_t streams);
  // The events that have not been read, for Next(); those that are left in the view come again. Valid until the next
  // call. One thread at a time.
  std::string_view* Unread();
  // The first event of `events`, which it takes away. REQUIRES: they are not empty.
  static std::string_view Next(std::string_view* events, Event* event);

 private:
  struct Header;
  // Room for the text of an event; null: there is none. *is_half_full is set by the event with which it becomes so.
  char* RoomFor(const Event& event, size_t text_bytes, bool* is_half_full) REQUIRES_LOCK(lock_);

  std::atomic<uint32_t> streams_{0};
  std::atomic<uint64_t>* const last_number_;
  Counters* const counters_;
  Waker* const bell_;
  OsLock lock_;
  std::unique_ptr<char[]> filled_ GUARDED_BY(lock_);  // null: there is no watcher
  size_t used_ GUARDED_BY(lock_) = 0;
  // The hub's.
  std::unique_ptr<char[]> read_;
  std::string_view unread_;
};

}  // namespace cairn
