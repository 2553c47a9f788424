// A Service is what all sessions of one server share: the store behind them, what the server was told when it was
// started, its counters, and the means by which a session that waits learns that it may go on.
//
// A Workbench is what the sessions of one thread share: room for a group of requests and its outcomes, and counters
// that only this thread writes.
//
// Thread safety: a Service may be used from any thread; a Workbench and its sessions belong to one thread.
// Ownership: the store outlives the service, the service its workbenches, a workbench its sessions.
// Lock order: the service's lock is a leaf: under it pointers are linked and numbers read; nothing is called, allocated
// or waited for.
#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "base/clock.h"
#include "base/os.h"
#include "base/waker.h"
#include "protocol/limits.h"
#include "protocol/service_log.h"
#include "protocol/tickets.h"
#include "store/commit_marks.h"
#include "store/store.h"

namespace cairn {

class Session;
class Workbench;

// Who is at the ends of a connection, for `stats conns`.
struct ConnectionNames {
  std::string peer;
  std::string listener;
};

// What one workbench counts. Written by its thread alone, read by any.
struct ProtocolCounters {
  std::atomic<uint64_t> bytes_read{0};
  std::atomic<uint64_t> bytes_written{0};
  std::atomic<uint64_t> flushes{0};    // flush_all
  std::atomic<uint64_t> too_large{0};  // refused by the item size, before the store was asked
  // memcached counts every storage command and keeps gat apart from get; the store counts what was stored, and both as
  // gets. These are the differences.
  std::atomic<uint64_t> not_stored{0};
  std::atomic<uint64_t> gat_hits{0};
  std::atomic<uint64_t> gat_misses{0};
  std::atomic<uint64_t> yields{0};  // times a session stopped because its replies had not left
  // What the log did to requests.
  std::atomic<uint64_t> held{0};     // replies, or values in them, that waited for a commit
  std::atomic<uint64_t> parked{0};   // requests that waited for room
  std::atomic<uint64_t> refused{0};  // requests that were not executed, or not told of

  // One writer: no locked instruction is needed.
  static void Add(std::atomic<uint64_t>* counter, uint64_t count) {
    counter->store(counter->load(std::memory_order_relaxed) + count, std::memory_order_relaxed);
  }
};

// Sums over all workbenches, and what the service counts itself.
struct ServiceStats {
  uint64_t bytes_read = 0;
  uint64_t bytes_written = 0;
  uint64_t flushes = 0;
  uint64_t too_large = 0;
  uint64_t not_stored = 0;
  uint64_t gat_hits = 0;
  uint64_t gat_misses = 0;
  uint64_t yields = 0;
  uint64_t held = 0;
  uint64_t parked = 0;
  uint64_t refused = 0;
  uint64_t connections = 0;  // now
  uint64_t connections_total = 0;
  uint64_t connections_rejected = 0;
  uint64_t idle_kicks = 0;
};

class Service {
 public:
  struct Options {
    // What `version` answers: a version of memcached.
    std::string version;
    // Our own, for `stats cairn`.
    std::string cairn_version;
    // -I: see ItemBytes().
    uint64_t item_bytes_max = kItemBytesDefault;
    // debugtime, debugpark, debugresume, debughold, debugcommit are commands. For tests only: they stop connections and
    // move the clock.
    bool test_commands = false;
    // The log behind the store; null: there is none. It outlives the service.
    ServiceLog* log = nullptr;
    // The level of sessions that are told none: replies wait until what they tell of is in the log. REQUIRES: there is
    // one.
    bool waits_for_log = false;
    // What the log's own numbers are called in `stats cairn`, in their order. One that ends in _at_ms is a point in
    // time, Unix milliseconds or 0 for never; it is shown as an age.
    std::vector<std::string> log_metrics;

    // For `stats` and `stats settings` only: what the server was told.
    uint64_t process_id = 0;
    uint32_t connections_max = 1024;
    uint32_t tcp_port = 0;
    uint32_t thread_count = 1;
    uint32_t backlog = 1024;
    uint32_t idle_timeout_s = 0;
    uint32_t verbosity = 0;
    std::string interfaces;
    std::string socket_path;
  };

  Service(Store* store, Options options, const Now& started);
  // REQUIRES: no workbench, no waker.
  ~Service();
  Service(const Service&) = delete;
  Service& operator=(const Service&) = delete;

  Store* store() const { return store_; }
  const Options& options() const { return options_; }
  // What replies of a session wait for: the log's marks, or the service's own, which hold nothing back but for
  // debughold.
  CommitMarks* commits(bool waits_for_log = false) { return waits_for_log ? options_.log->marks() : &own_commits_; }
  ServiceLog* log() const { return options_.log; }
  ServiceLog::State LogState() const {
    return options_.log == nullptr ? ServiceLog::State::kRunning : options_.log->state();
  }
  TicketTable* tickets() { return &tickets_; }

  // The front's time, moved by debugtime. The cost is one relaxed load when it never was.
  Now Time(const Now& now) const {
    if (!time_moved_.load(std::memory_order_relaxed)) [[likely]]
      return now;
    return MovedTime(now);
  }
  // debugtime: forward by so many milliseconds; stop at `time`, which is Time() already; go on.
  void MoveTime(uint64_t ms);
  void StopTime(const Now& time);
  void StartTime() { time_stopped_at_ms_.store(0, std::memory_order_relaxed); }

  // Wakes every front. Called after marks were advanced and after a ticket was resolved; never under a lock.
  void WakeAll();
  void AddWaker(std::shared_ptr<Waker> waker);
  void RemoveWaker(const Waker* waker);

  // A connection over the limit was turned away; an idle one was closed.
  void CountRejected() { connections_rejected_.fetch_add(1, std::memory_order_relaxed); }
  void CountIdleKick() { idle_kicks_.fetch_add(1, std::memory_order_relaxed); }
  void SetVerbosity(uint32_t verbosity) { verbosity_.store(verbosity, std::memory_order_relaxed); }
  uint32_t verbosity() const { return verbosity_.load(std::memory_order_relaxed); }

  // Since the start or the last reset.
  ServiceStats Stats();
  // `stats reset`: the counters of the service and of the store begin anew.
  void ResetStats();
  const Now& started() const { return started_; }

  // The open sessions, for `stats conns`.
  struct Connection {
    uint64_t id;
    std::shared_ptr<const ConnectionNames> names;
    uint64_t idle_ms;
  };
  std::vector<Connection> Connections(const Now& now);

 private:
  friend class Session;
  friend class Workbench;

  Now MovedTime(const Now& now) const;
  ServiceStats Sum() REQUIRES_LOCK(lock_);

  Store* const store_;
  const Options options_;
  const Now started_;
  CommitMarks own_commits_;
  TicketTable tickets_;

  std::atomic<bool> time_moved_{false};
  std::atomic<uint64_t> time_ahead_ms_{0};
  std::atomic<uint64_t> time_stopped_at_ms_{0};  // boot clock, already ahead; 0: it runs

  std::atomic<uint64_t> connections_rejected_{0};
  std::atomic<uint64_t> idle_kicks_{0};
  std::atomic<uint32_t> verbosity_{0};

  using WakerList = std::vector<std::shared_ptr<Waker>>;
  // Replaces the list by an edited copy that is made outside the lock.
  template <class Edit>
  void EditWakers(Edit edit);

  OsLock lock_;
  std::shared_ptr<const WakerList> wakers_ GUARDED_BY(lock_);
  Workbench* workbenches_ GUARDED_BY(lock_) = nullptr;
  Session* sessions_ GUARDED_BY(lock_) = nullptr;  // newest first
  size_t session_count_ GUARDED_BY(lock_) = 0;
  uint64_t connections_total_ GUARDED_BY(lock_) = 0;
  ServiceStats retired_ GUARDED_BY(lock_);   // of workbenches that are gone
  ServiceStats baseline_ GUARDED_BY(lock_);  // at the last reset
};

// A key of a group; the rest of it is in the request of the same index.
struct GroupKey {
  bool with_cas;  // gets, gats
  bool is_last;   // of its command: END follows
};

class Workbench {
 public:
  explicit Workbench(Service* service);
  ~Workbench();
  Workbench(const Workbench&) = delete;
  Workbench& operator=(const Workbench&) = delete;

  Service* service() const { return service_; }
  ProtocolCounters* counters() { return &counters_; }

 private:
  friend class Service;
  friend class Session;
  Service* const service_;
  Workbench* next_ = nullptr;  // guarded by the service's lock
  Workbench** link_ = nullptr;
  ProtocolCounters counters_;
  // A group exists only during a call on one session; it is empty in between.
  size_t group_count_ = 0;
  Request requests_[kGroupKeysMax];
  GroupKey keys_[kGroupKeysMax];
  Outcome outcomes_[kGroupKeysMax];
  std::unique_ptr<char[]> scratch_;
};

}  // namespace cairn
