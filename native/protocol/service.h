// A Service is shared by all sessions of one server: the store, the server's options, its counters, and the wake-ups of
// waiting sessions.
//
// A Workbench is shared by the sessions of one thread: room for a group of requests and their outcomes, counters that
// only this thread writes, its events for clients that watch, and its samples of requests.
//
// Thread safety: a Service may be used from any thread; a Workbench and its sessions belong to one thread.
// Ownership: the store outlives the service, the service its workbenches, a workbench its sessions.
// Lock order: the service's lock is a leaf: under it pointers are linked and numbers read; nothing is called, allocated
// or waited for.
#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "base/clock.h"
#include "base/os.h"
#include "base/waker_list.h"
#include "protocol/ack.h"
#include "protocol/authentication.h"
#include "protocol/certificate_refresh.h"
#include "protocol/counters.h"
#include "protocol/event_log.h"
#include "protocol/key_display.h"
#include "protocol/key_group.h"
#include "protocol/limits.h"
#include "protocol/pinned_values.h"
#include "protocol/prefix_stats.h"
#include "protocol/request_log.h"
#include "protocol/request_observer.h"
#include "protocol/scan_cursor.h"
#include "protocol/test_loads.h"
#include "protocol/watch_hub.h"
#include "store/commit_marks.h"
#include "store/log_view.h"
#include "store/read_through.h"
#include "store/store.h"

namespace cairn {

class Session;
class Workbench;

// Which protocols are served. kAuto: a client tells by its first byte.
enum class Protocols : uint8_t { kAuto, kAscii, kBinary };

// The two ends of a connection, for `stats conns`, and what is served at the listener's.
struct ConnectionNames {
  std::string peer;
  std::string listener;
  std::optional<Protocols> protocols = {};  // without it: the server's
};

class Service {
 public:
  struct Options {
    // The reply to `version`: a version of memcached.
    std::string version;
    // The version of this package, for `stats cairn`.
    std::string cairn_version;
    // -I: see ItemBytes().
    uint64_t item_bytes_max = kItemBytesDefault;
    Protocols protocols = Protocols::kAuto;
    // How clients log in; accounts are given to authentication().
    Login login = Login::kNone;
    // True: debugtime, debugpark, debugresume, debughold and debugcommit are commands. For tests only: they stop
    // connections and move the clock.
    bool test_commands = false;
    // -F, -X: clients can neither clear the cache, nor list keys.
    bool disable_flush_all = false;
    bool disable_dumping = false;
    // -W: clients cannot watch.
    bool disable_watch = false;
    // Keys of lists and event lines are hidden; see KeyDisplay.
    bool hide_keys = false;
    // -D: requests are counted by the prefix of their keys from the start; see PrefixStats.
    char prefix_delimiter = ':';
    bool counts_prefixes = false;
    // Which requests `stats slow` and `stats large` list.
    RequestLog::Limits request_log;
    // -o track_sizes: `stats sizes` counts the entries.
    bool track_sizes = false;
    // -A: clients can end the server, with `shutdown`.
    bool enable_shutdown = false;
    // The thread that is woken when a client asks for that, or for other certificates; null: none.
    std::shared_ptr<Waker> owner;
    // The log behind the store; null: no log. It outlives the service.
    LogView* log = nullptr;
    // The loads of values that are not in memory; null: none, and a request for such a value is refused. It outlives
    // the service.
    ReadThrough* loads = nullptr;
    // The level of sessions without their own. REQUIRES: there is a log, if it is not kMemory; a backend, if it is
    // kStored.
    Ack ack = Ack::kMemory;
    // The names of the log's own numbers in `stats cairn`, in their order. A name that ends in _at_ms is a point in
    // time, in Unix milliseconds or 0 for never; it is shown as an age.
    std::vector<std::string> log_metrics;

    // The limit of unsent_bytes(), for `stats cairn`; 0: the front has none.
    uint64_t unsent_bytes_max = 0;
    // Where clients of UDP are served, by the thread that starts the service, beside any front; 0: nowhere.
    uint32_t udp_port = 0;
    // The server's options, for `stats` and `stats settings` only.
    uint64_t process_id = 0;
    uint32_t connections_max = 1024;
    uint32_t tcp_port = 0;
    uint32_t thread_count = 1;
    uint32_t backlog = 1024;
    uint32_t idle_timeout_s = 0;
    uint32_t verbosity = 0;
    std::string interfaces;
    std::string socket_path;
    std::string auth_file;
    // What the statistics say of TLS, in memcached's words and numbers.
    struct Tls {
      bool is_enabled = false;
      bool has_session_cache = false;
      uint32_t verify_mode = 0;
      uint32_t key_format = 0;
      std::string chain_cert = "NULL";
      std::string key = "NULL";
      std::string ca_cert = "NULL";
      std::string ciphers = "NULL";
      std::string min_version = "NULL";
    };
    Tls tls;
  };

  Service(Store* store, Options options, const Now& started);
  // REQUIRES: no workbench, no waker.
  ~Service();
  Service(const Service&) = delete;
  Service& operator=(const Service&) = delete;

  Store* store() const { return store_; }
  const Options& options() const { return options_; }
  // The marks that a session's replies wait for: the log's, or the service's own, which only debughold activates.
  CommitMarks* commits(Ack ack = Ack::kMemory) { return ack == Ack::kMemory ? &own_commits_ : options_.log->marks(); }
  LogView* log() const { return options_.log; }
  LogView::Health LogHealth() const {
    return options_.log == nullptr ? LogView::Health::kRunning : options_.log->health();
  }
  // The next progress of the log wakes every front once. REQUIRES: there is a log.
  void ArmLogWatch() { log_watch_->Arm(); }
  // Null: values are not loaded.
  ReadThrough* loads() const { return options_.loads; }
  // The loads that debugpark waits for.
  TestLoads* test_loads() { return &test_loads_; }
  // Who may use the port.
  Authentication* authentication() { return &authentication_; }
  // The certificates that refresh_certs waits for.
  CertificateRefresh* certificates() { return &certificates_; }

  // The front's time, as moved by debugtime. Costs one relaxed load if it was never moved.
  Now Time(const Now& now) const {
    if (!time_moved_.load(std::memory_order_relaxed)) [[likely]]
      return now;
    return MovedTime(now);
  }
  // debugtime: moves the time forward by `ms`; stops it at `time`, which is Time() already; lets it run again.
  void MoveTime(uint64_t ms);
  void StopTime(const Now& time);
  void StartTime() { time_stopped_at_ms_.store(0, std::memory_order_relaxed); }

  // Wakes every front, which then calls Session::Continue() on its waiting sessions. Called after marks have advanced,
  // never under a lock. Loads wake the fronts themselves.
  void WakeAll() { wakers_->Wake(); }
  void AddWaker(std::shared_ptr<Waker> waker) { wakers_->Add(std::move(waker)); }
  void RemoveWaker(const Waker* waker) { wakers_->Remove(waker); }

  // Counts a new connection; one refused above the limit; an idle one that was closed.
  void CountConnection() { own_counters_.AddShared(Counter::kConnections, 1); }
  void CountRejected() { own_counters_.AddShared(Counter::kConnectionsRejected, 1); }
  void CountIdleKick() { own_counters_.AddShared(Counter::kIdleKicks, 1); }
  // The front can accept no client; it can again, after `us` microseconds.
  void StopAccepting() {
    own_counters_.AddShared(Counter::kListenDisabled, 1);
    is_accepting_.store(false, std::memory_order_relaxed);
  }
  void ResumeAccepting(uint64_t us) {
    own_counters_.AddShared(Counter::kListenDisabledUs, us);
    is_accepting_.store(true, std::memory_order_relaxed);
  }
  // The memory of replies that clients have not taken yet.
  void ChangeUnsent(size_t before, size_t now) { unsent_bytes_.fetch_add(now - before, std::memory_order_relaxed); }
  size_t unsent_bytes() const { return unsent_bytes_.load(std::memory_order_relaxed); }
  void CountOutputDrop() { own_counters_.AddShared(Counter::kOutputDrops, 1); }
  // Handshakes of TLS: one that began a session, one that failed.
  void CountTlsSession() { own_counters_.AddShared(Counter::kTlsSessions, 1); }
  void CountTlsFailure() { own_counters_.AddShared(Counter::kTlsFailures, 1); }
  // The server has begun to use certificates; when it did, on the boot clock.
  void CountRefresh(const Now& now) { certificates_since_ms_.store(now.boot_ms, std::memory_order_relaxed); }
  uint64_t certificates_since_ms() const { return certificates_since_ms_.load(std::memory_order_relaxed); }
  bool is_accepting() const { return is_accepting_.load(std::memory_order_relaxed); }
  // The clients that watch.
  WatchHub* watch_hub() { return &watch_hub_; }
  const KeyDisplay& keys() const { return keys_; }
  // Its requests by the prefixes of their keys.
  PrefixStats* prefixes() { return &prefixes_; }
  // What its requests are like.
  RequestSamples* samples() { return &samples_; }
  RequestLog* request_log() { return &request_log_; }
  const ScanCursors& scan_cursors() const { return scan_cursors_; }
  // A client has asked the owner to end the server: woken, the owner takes what was asked for, once.
  enum class Shutdown : uint8_t { kNone, kPlain, kGraceful };
  void AskShutdown(Shutdown how) {
    shutdown_.store(how, std::memory_order_relaxed);
    if (options_.owner != nullptr) options_.owner->Wake();
  }
  Shutdown TakeShutdown() { return shutdown_.exchange(Shutdown::kNone, std::memory_order_relaxed); }
  void SetVerbosity(uint32_t verbosity) { verbosity_.store(verbosity, std::memory_order_relaxed); }
  uint32_t verbosity() const { return verbosity_.load(std::memory_order_relaxed); }

  // The sums over all workbenches and the service itself, since the start or the last reset.
  CounterValues ReadCounters();
  // Connections open now.
  size_t ConnectionCount();
  // `stats reset`: sets the counters of the service and of the store to 0, and forgets the samples.
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
  CounterValues Sum() REQUIRES_LOCK(lock_);

  Store* const store_;
  const Options options_;
  const Now started_;
  CommitMarks own_commits_;
  TestLoads test_loads_;
  CertificateRefresh certificates_;
  Authentication authentication_;

  std::atomic<bool> time_moved_{false};
  std::atomic<uint64_t> time_ahead_ms_{0};
  std::atomic<uint64_t> time_stopped_at_ms_{0};  // boot clock, already ahead; 0: it runs

  Counters own_counters_;  // AddShared() only
  const KeyDisplay keys_{options_.hide_keys};
  PrefixStats prefixes_{options_.prefix_delimiter, options_.counts_prefixes, &keys_};
  const TickClock tick_clock_;
  RequestSamples samples_;
  RequestLog request_log_{options_.request_log};
  const ScanCursors scan_cursors_;
  std::atomic<uint32_t> verbosity_{0};
  std::atomic<bool> is_accepting_{true};
  std::atomic<Shutdown> shutdown_{Shutdown::kNone};
  std::atomic<size_t> unsent_bytes_{0};
  std::atomic<uint64_t> certificates_since_ms_{0};

  const std::shared_ptr<WakerList> wakers_ = std::make_shared<WakerList>();
  WatchHub watch_hub_{store_, &own_counters_, &keys_, wakers_.get()};
  std::shared_ptr<LogWatch> log_watch_;  // null without a log

  OsLock lock_;
  Workbench* workbenches_ GUARDED_BY(lock_) = nullptr;
  Session* sessions_ GUARDED_BY(lock_) = nullptr;  // newest first
  size_t session_count_ GUARDED_BY(lock_) = 0;
  uint64_t last_session_id_ GUARDED_BY(lock_) = 0;
  CounterValues retired_ GUARDED_BY(lock_);   // of workbenches that are gone
  CounterValues baseline_ GUARDED_BY(lock_);  // at the last reset
};

class Workbench {
 public:
  // `pinned`: takes the values that leave from their entries; null: all values are copied. It outlives the workbench.
  explicit Workbench(Service* service, PinnedValues* pinned = nullptr);
  ~Workbench();
  Workbench(const Workbench&) = delete;
  Workbench& operator=(const Workbench&) = delete;

  Service* service() const { return service_; }
  Counters* counters() { return &counters_; }
  KeyGroup* group() { return &group_; }
  // What its sessions do, for clients that watch.
  EventLog* events() { return &events_; }
  // Counts a gat. A key that was refused is neither a hit nor a miss.
  void CountGat(Status status) {
    if (status == Status::kFound) counters_.Add(Counter::kGatHits, 1);
    if (status == Status::kNotFound) counters_.Add(Counter::kGatMisses, 1);
  }
  PinnedValues* pinned() { return pinned_; }
  // Its front calls BeginWakeUp().
  RequestObserver* observer() { return &observer_; }

 private:
  friend class Service;
  Service* const service_;
  PinnedValues* const pinned_;
  Workbench* next_ = nullptr;  // guarded by the service's lock
  Workbench** link_ = nullptr;
  Counters counters_;
  EventLog events_;
  RequestObserver observer_;
  KeyGroup group_;
};

}  // namespace cairn
