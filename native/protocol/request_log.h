// The newest of the requests that took long, and of those with large values: `stats slow` and `stats large`. Every such
// request is seen, in contrast to the samples of request_observer.h, which also says how long a request takes.
//
// The requests of one client that are slow in one wake-up of its thread are one entry, because they mostly waited for
// the same work. The entry has their number, and describes the last of them, which took longest.
//
// Memory: kEntriesMax entries in each list; a new entry replaces the oldest. Entries are made before the lock is taken,
// and freed after it.
// Thread safety: any thread. Lock order: lock_ is a leaf.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "base/os.h"
#include "base/thread_annotations.h"
#include "protocol/command_class.h"

namespace cairn {

struct LoggedRequest {
  CommandClass command = CommandClass::kOther;
  std::string key;  // empty: the command has none
  std::string client;
  int64_t wall_ms = 0;   // when it was executed
  uint64_t ns = 0;       // that it took
  uint64_t bytes = 0;    // of the value that was received or sent
  uint64_t wake_up = 0;  // slow ones: the ticks at which its thread was woken
  uint64_t count = 0;    // of requests
};

class RequestLog {
 public:
  // A limit that no request reaches.
  static constexpr uint64_t kNoLimit = ~uint64_t{0};
  static constexpr size_t kEntriesMax = 128;

  struct Limits {
    uint64_t slow_ns = kNoLimit;
    uint64_t large_bytes = kNoLimit;
  };

  struct List {
    uint64_t total = 0;  // requests, since the last Clear()
    std::vector<LoggedRequest> entries;
  };

  explicit RequestLog(const Limits& limits) : limits_(limits) {}
  RequestLog(const RequestLog&) = delete;
  RequestLog& operator=(const RequestLog&) = delete;

  const Limits& limits() const { return limits_; }
  // The requests that the entry counts reached the limit, which is not looked at here.
  void AddSlow(const LoggedRequest& request);
  void AddLarge(const LoggedRequest& request);
  // The newest first.
  List Slow() { return Read(&slow_); }
  List Large() { return Read(&large_); }
  void Clear();

 private:
  using Entry = std::shared_ptr<const LoggedRequest>;
  struct Kept {
    uint64_t total = 0;
    std::array<Entry, kEntriesMax> entries;  // the newest first; behind the oldest, null
  };

  static Entry Push(Entry entry, Entry* place, Kept* list);
  List Read(const Kept* list);

  const Limits limits_;
  OsLock lock_;
  Kept slow_ GUARDED_BY(lock_);
  Kept large_ GUARDED_BY(lock_);
};

}  // namespace cairn
