// Single flight for reads through to the database: for each key that a request needs and memory does not have, one load
// serves the requests of all threads and connections.
//
// A *load* is kept under its key. Its *waiters* are sessions (ReadThrough) and JavaScript handles (LoadSeat). A
// *loader* (class Loader, on the thread that has the database) takes loads from the queue, reads the values, and ends
// the loads.
// A load carries no value: its loader stores the value in the cache, and each waiter executes its request again.
//
//            Begin, Prefetch        Drain               End
//   (none) ------------------> queued ------> taken ------------> loaded or failed -- last waiter leaves --> (none)
//                                ^              |
//                                '-- the loader's thread ends
//
// A load never stores a value older than a write. Its FillTicket (store/fill_watch.h) begins before the load can be
// taken, under a hold of the shard's lock that has found the key absent. A set, delete or clear after that voids the
// ticket, and the loaded value is not stored. A voided load is joined by no later request; while it is queued, it ends
// as loaded without being taken, because the write has made the request's answer.
//
// A load goes on without waiters: its value is stored all the same.
//
// Nothing is evicted for a value that only waiters of kFreeRoom want. Without free room it is not stored, and its load
// ends as loaded: another waiter, which has joined by then, executes its request again.
//
// Each backend of the cache has its queue and its loaders. A loader that ends gives its loads back: they wait in the
// queue for the next loader. FailAll() ends this wait when there will be no loader; it also fails later loads of this
// backend, until a loader is made.
//
// Thread safety: a LoadTable may be used from any thread; a LoadSeat and a Loader belong to one thread each.
// Lock order: the table's lock is a leaf: under it nothing is called, allocated or waited for, neither a shard's lock
// nor a Waker. It is never taken under a shard's lock.
// Bounds: LoadLimits.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "base/clock.h"
#include "base/hash.h"
#include "base/limits.h"
#include "base/os.h"
#include "base/waker.h"
#include "base/waker_list.h"
#include "store/read_through.h"
#include "store/request.h"

namespace cairn {

// Whether a value that is loaded may take the place of others.
enum class LoadInto : uint8_t { kAnyRoom, kFreeRoom };

class Store;
class Loader;
class LoadSeat;
struct KeyLoad;
struct LoadWaiter;

struct LoadLimits {
  uint32_t loads_max = kLoadsMax;
  uint64_t key_bytes_max = kLoadKeyBytesMax;
  uint32_t waiters_max = kLoadWaitersMax;
};

class LoadTable final : public ReadThrough {
 public:
  // The store outlives the table.
  explicit LoadTable(Store* store, LoadLimits limits = {});
  // REQUIRES: no waiter, seat or loader is left.
  ~LoadTable() override;
  LoadTable(const LoadTable&) = delete;
  LoadTable& operator=(const LoadTable&) = delete;

  // ---- ReadThrough: for sessions, which are woken by their wakers ----

  [[nodiscard]] uint64_t Begin(std::string_view key, const Now& now) override;
  void Prefetch(std::string_view key, const Now& now) override;
  [[nodiscard]] Load Poll(uint64_t load) override;
  void Leave(uint64_t load) override;

  // ---- the owner ----

  // A backend will have no loader for now: each of its loads fails with `why`, and so does each later one until a
  // loader is made.
  void FailAll(std::string_view why, uint32_t backend = 0);
  // The cache has ended: as FailAll(), for good. Loaders are woken.
  void Close();

  // Loads that exist, ended ones with waiters included.
  uint32_t load_count() const { return load_count_.load(std::memory_order_relaxed); }
  // Since the start: loads that were begun, requests that joined one, loads that failed, loads that were refused.
  uint64_t begun_count() const { return begun_count_.load(std::memory_order_relaxed); }
  uint64_t joined_count() const { return joined_count_.load(std::memory_order_relaxed); }
  uint64_t failed_count() const { return failed_count_.load(std::memory_order_relaxed); }
  uint64_t refused_count() const { return refused_count_.load(std::memory_order_relaxed); }

 private:
  friend class Loader;
  friend class LoadSeat;

  // The most wakers to be called after one hold of the lock.
  static constexpr int kWakesPerHold = 16;
  struct Wakes {
    std::shared_ptr<Waker> wakers[kWakesPerHold];
    int count = 0;
    bool full() const { return count == kWakesPerHold; }
    void WakeAll();
  };

  // Joins or begins a load. Null: there are too many. `seat` null: a session's.
  LoadWaiter* Enter(std::string_view key, const Now& now, LoadSeat* seat, uint64_t id, LoadInto into);
  KeyLoad* FindOrListLocked(std::unique_ptr<KeyLoad>* fresh) REQUIRES_LOCK(lock_);
  KeyLoad* FindLocked(uint64_t hash, std::string_view key) REQUIRES_LOCK(lock_);
  void UnlistLocked(KeyLoad* load) REQUIRES_LOCK(lock_);
  void EnqueueLocked(KeyLoad* load) REQUIRES_LOCK(lock_);
  void DequeueLocked(KeyLoad* load) REQUIRES_LOCK(lock_);
  void LeaveLocked(LoadWaiter* waiter) REQUIRES_LOCK(lock_);
  // Takes back a reference. True: it was the last; the caller frees the load outside the lock.
  [[nodiscard]] bool DropLocked(KeyLoad* load) REQUIRES_LOCK(lock_);
  // Watches the key and queues the load, or ends it if the key is present.
  void Start(KeyLoad* load, const Now& now);
  // For the thread that has the load and its ticket: ends the ticket, then as Tell().
  bool End(KeyLoad* load, Load result, const std::shared_ptr<const std::string>& why);
  // Ends the load for its waiters, if it has not ended, and takes back one reference. True: sessions are to be woken.
  bool Tell(KeyLoad* load, Load result, const std::shared_ptr<const std::string>& why);
  void Fail(std::string_view why, uint32_t backend);
  void Free(KeyLoad* load);

  Store* const store_;
  const LoadLimits limits_;
  const HashSecrets secrets_;
  WakerList loaders_;

  static constexpr uint32_t kHeads = 4096;
  OsLock lock_;
  const std::unique_ptr<KeyLoad*[]> heads_;  // what it points to: guarded by lock_
  // Loads of one backend.
  struct Lane {
    KeyLoad* all = nullptr;  // those that have not ended
    KeyLoad* queue_head = nullptr;
    KeyLoad* queue_tail = nullptr;
    // Not null: loads fail with this at once.
    std::shared_ptr<const std::string> refusal;
  };
  Lane lanes_[kBackendsMax] GUARDED_BY(lock_);
  uint64_t key_bytes_ GUARDED_BY(lock_) = 0;
  uint32_t waiter_count_ GUARDED_BY(lock_) = 0;
  uint32_t owner_count_ GUARDED_BY(lock_) = 0;  // seats and loaders
  bool is_closed_ GUARDED_BY(lock_) = false;
  std::atomic<uint32_t> load_count_{0};    // written under lock_
  std::atomic<uint64_t> next_task_id_{1};  // unique in the table, whichever loader takes the load
  std::atomic<uint64_t> begun_count_{0};
  std::atomic<uint64_t> joined_count_{0};
  std::atomic<uint64_t> failed_count_{0};
  std::atomic<uint64_t> refused_count_{0};
};

// A handle's place in the table: the loads for which its thread waits.
class LoadSeat {
 public:
  // `waker` is woken when loads have ended. The table outlives the seat.
  LoadSeat(LoadTable* table, std::shared_ptr<Waker> waker);
  // Leaves all loads.
  ~LoadSeat();
  LoadSeat(const LoadSeat&) = delete;
  LoadSeat& operator=(const LoadSeat&) = delete;

  // Joins or begins a load of the key. 0: there are too many. The number is unique within the seat.
  [[nodiscard]] uint64_t Begin(std::string_view key, const Now& now, LoadInto into = LoadInto::kAnyRoom);
  // No caller waits for it any more. A number whose end was taken is ignored.
  void Leave(uint64_t id);

  struct Ended {
    uint64_t id = 0;
    std::shared_ptr<const std::string> why;  // null: loaded
    bool is_unknown = false;                 // a read is a miss
  };
  // Takes loads that have ended, oldest first, at most `count` and at most kEndedPerHold; 0: there is no more.
  [[nodiscard]] size_t TakeEnded(Ended* ended, size_t count);
  size_t waiting_count() const { return waiters_.size(); }

 private:
  friend class LoadTable;
  static constexpr size_t kEndedPerHold = 64;

  LoadTable* const table_;
  const std::shared_ptr<Waker> waker_;
  uint64_t next_id_ = 1;
  std::unordered_map<uint64_t, LoadWaiter*> waiters_;
  // Waiters whose loads have ended, oldest first; guarded by the table's lock.
  LoadWaiter* ended_head_ = nullptr;
  LoadWaiter* ended_tail_ = nullptr;
};

// A load that a loader has taken. The key is valid until the load is ended.
struct LoadTask {
  uint64_t id = 0;
  std::string_view key;
};

// How a load ends.
struct LoadResult {
  enum class Kind : uint8_t {
    kValue = 1,    // `value` and the fields behind it
    kAbsent = 2,   // neither the log nor the database has a value; `absent_ms`
    kAgain = 3,    // the loader does not know: the waiters execute their requests again
    kFailed = 4,   // `why`
    kUnknown = 5,  // `why`: it is a miss for reads
  };
  uint64_t id = 0;
  Kind kind = Kind::kAgain;
  Codec codec = Codec::kRaw;
  uint32_t client_flags = 0;
  uint64_t expires_ms = kNeverExpires;
  std::string_view value;
  // How long the key is known to be absent, at least kAbsentMsMin.
  uint64_t absent_ms = 0;
  std::string_view why;
};

// The thread that reads a database. There may be several at a time, as when a new one takes over.
class Loader {
 public:
  // `waker` is woken when loads are queued, also those of other backends, and at once if there are any.
  Loader(LoadTable* table, std::shared_ptr<Waker> waker, uint32_t backend = 0);
  // Gives the loads that it has taken back to the queue.
  ~Loader();
  Loader(const Loader&) = delete;
  Loader& operator=(const Loader&) = delete;

  // Takes queued loads, oldest first, at most `count`; 0: the queue is empty. The waker is woken when the queue ceases
  // to be empty, so a loader that leaves loads in it drains again without being woken.
  [[nodiscard]] size_t Drain(LoadTask* tasks, size_t count);
  // Stores the values and ends the loads. Ignores ids that this loader does not have: another one got the load.
  void End(const LoadResult* results, size_t count, const Now& now);
  // Loads that were drained and have not been ended.
  size_t taken_count() const { return taken_.size(); }

 private:
  // Null: the load has ended well.
  std::shared_ptr<const std::string> Store(KeyLoad* load, const LoadResult& result, const Now& now);

  LoadTable* const table_;
  const std::shared_ptr<Waker> waker_;
  const uint32_t backend_;
  std::unordered_map<uint64_t, KeyLoad*> taken_;
};

}  // namespace cairn
