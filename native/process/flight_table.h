// Single flight across threads: of all the calls that want a key which is not in the cache, one loads it and the others
// wait for what it finds, whichever threads they are in.
//
// A *flight* is one load of one key. Its *members* are the handles that take part, at most one membership per handle
// and flight: the leader, whose thread runs its own loader, and the waiters. A FlightSeat is a handle's place in the
// table; it belongs to the handle's thread, and the handle's many callers in that thread share its membership.
//
//            Join                 Fill, Settle
//   (none) --------> leading --------------------------------> ended, every waiter has the answer
//     |                 |  seat closes or its thread dies ---> the next waiter is told kLead and leads
//     |                 |  Leave, and nobody else waits -----> ended: the caller aborts its load
//     |                 |  Leave, others wait ---------------> goes on for them; told kAbort when the last one leaves
//     | Join            |
//     '-------------> waiting -- news, Leave, seat closes ---> ended
//
// What a flight stores is never older than a write: FillTicket (store/fill_watch.h) is begun before the loader is
// called, under the same hold of the shard's lock that found the key absent, so that between "absent" and "watched"
// nothing can slip in; a set, delete or clear since then voids the fill. A voided flight still answers those that
// joined it before the write; whoever comes later starts a new one.
//
// Thread safety: a FlightTable may be used from any thread. A FlightSeat is used by one thread, the one of its handle;
// only the table reaches into it from others, under the table's lock.
// Lock order: the table's lock is a leaf: under it nothing is called, allocated or waited for, no shard's lock and no
// Waker. It is never taken under a shard's lock.
// Bounds: FlightLimits. Memberships are at most flights x seats; answers under way are bounded by carried_bytes_max.
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
#include "store/fill_watch.h"
#include "store/request.h"

namespace cairn {

class Store;
class FlightSeat;
struct Flight;
struct FlightMember;

struct FlightLimits {
  uint32_t flights_max = kFlightsMax;
  uint64_t key_bytes_max = kFlightKeyBytesMax;
  uint64_t carried_bytes_max = kFlightCarriedBytesMax;
};

// What a loader came to, as it travels between threads.
struct FlightAnswer {
  enum class Kind : uint8_t {
    kValue,    // `codec` and `bytes`
    kNothing,  // the loader found that there is no value
    kError,    // `name`, `bytes` is the message, `code` (empty: it had none)
  };
  Kind kind = Kind::kNothing;
  Codec codec = Codec::kRaw;
  std::string bytes;
  std::string name;
  std::string code;
};

enum class FlightRole : uint8_t {
  kLead = 1,     // call the loader, then Settle
  kWait = 2,     // news will come
  kPresent = 3,  // no flight: the key has meanwhile been stored. Look again
  kAlone = 4,    // no flight: the table is full. Load without sharing and without storing
  kClosed = 5,   // no flight: the cache has ended
};

struct FlightJoin {
  FlightRole role;
  // The membership: unique within the seat. The same as an earlier call's if the seat takes part in this flight
  // already.
  uint64_t id = 0;
};

// What a seat is told about one of its memberships.
struct FlightNews {
  enum class Kind : uint8_t {
    kAnswer = 1,  // the flight ended; `answer`
    kAgain = 2,   // the flight ended without an answer for you: look into the cache again, from the start
    kLead = 3,    // the leader is gone; you are the leader now: call the loader, then Settle
    kAbort = 4,   // to a leader that has left: nobody waits any more, abort the load
    kClosed = 5,  // the cache has ended
  };
  uint64_t id = 0;
  Kind kind = Kind::kAgain;
  std::shared_ptr<const FlightAnswer> answer;
};

enum class FlightLeave : uint8_t {
  kLeft = 1,    // the membership has ended
  kGoesOn = 2,  // the load goes on for others: it is settled when it ends, or kAbort comes
  kAbort = 3,   // the membership has ended, and nobody waits for the load: abort it
};

class FlightTable {
 public:
  // Allocates nothing until the first seat.
  explicit FlightTable(FlightLimits limits = {});
  // REQUIRES: no seat is left.
  ~FlightTable();
  FlightTable(const FlightTable&) = delete;
  FlightTable& operator=(const FlightTable&) = delete;

  // The cache has ended: every member of every flight is told kClosed, and Join answers kClosed from now on.
  void Close();

  // Flights that exist, voided ones included.
  uint32_t flight_count() const { return flight_count_.load(std::memory_order_relaxed); }
  // Loads that were led, and calls that joined one instead of loading.
  uint64_t led_count() const { return led_count_.load(std::memory_order_relaxed); }
  uint64_t joined_count() const { return joined_count_.load(std::memory_order_relaxed); }
  // Of answers that were not taken yet.
  uint64_t carried_bytes();

  // Walks everything and CHECKs the invariants; for tests.
  void Verify();

 private:
  friend class FlightSeat;
  // Wakers that are to be called once the lock is free: so many per hold of it.
  static constexpr int kWakesPerHold = 16;
  // Members that are told something under one hold of the lock.
  static constexpr int kToldPerHold = 256;
  struct Wakes {
    std::shared_ptr<Waker> wakers[kWakesPerHold];
    int count = 0;
    bool full() const { return count == kWakesPerHold; }
    void WakeAll();
  };

  Flight* FindLocked(uint64_t hash, std::string_view key) REQUIRES_LOCK(lock_);
  void UnlistLocked(Flight* flight) REQUIRES_LOCK(lock_);
  void AddMemberLocked(Flight* flight, FlightMember* member) REQUIRES_LOCK(lock_);
  // Takes the member off the flight, in which it has no further part. The last one unlists the flight.
  void EndMemberLocked(FlightMember* member) REQUIRES_LOCK(lock_);
  // Ends a member that waits, and a leader that was loading for it alone. REQUIRES: `wakes` is not full.
  void LeaveLocked(FlightMember* member, Wakes* wakes) REQUIRES_LOCK(lock_);
  // Puts news into the member's seat. REQUIRES: `wakes` is not full.
  void TellLocked(FlightMember* member, FlightNews::Kind kind, Wakes* wakes) REQUIRES_LOCK(lock_);
  void DropNewsLocked(FlightMember* member) REQUIRES_LOCK(lock_);
  // Ends every member, telling all the same, in as many holds of the lock as it takes. REQUIRES: the flight is
  // unlisted, and kept by a member that the caller has not freed yet.
  void TellAll(Flight* flight, FlightNews::Kind kind, const std::shared_ptr<const FlightAnswer>& answer);
  // Null: it would exceed carried_bytes_max.
  std::shared_ptr<const FlightAnswer> MakeAnswer(FlightAnswer::Kind kind, Codec codec, std::string_view bytes,
                                                 std::string_view name, std::string_view code);
  // Ends a leader before it has an answer: the next waiter leads, or all are sent to the cache again.
  void HandOver(FlightMember* leader);
  // Frees a member that has ended, and with the last one the flight.
  void Free(FlightMember* member);

  const FlightLimits limits_;
  HashSecrets secrets_;  // drawn with the first seat, constant from then on
  // Outlives the table, because answers do.
  std::shared_ptr<std::atomic<uint64_t>> carried_bytes_;

  // Listed flights by key: a few per head even when the table is full.
  static constexpr uint32_t kHeads = 4096;
  OsLock lock_;
  std::unique_ptr<Flight*[]> heads_ GUARDED_BY(lock_);
  Flight* all_ GUARDED_BY(lock_) = nullptr;
  uint64_t key_bytes_ GUARDED_BY(lock_) = 0;
  uint32_t seat_count_ GUARDED_BY(lock_) = 0;
  bool closed_ GUARDED_BY(lock_) = false;
  std::atomic<uint32_t> flight_count_{0};  // written under lock_
  std::atomic<uint64_t> led_count_{0};
  std::atomic<uint64_t> joined_count_{0};
};

class FlightSeat {
 public:
  // `table` and `store` outlive the seat; all seats of a table have the same store. `waker` is woken when there is
  // news.
  FlightSeat(FlightTable* table, Store* store, std::shared_ptr<Waker> waker);
  // Gives up all memberships: flights that it leads go to their next waiter.
  ~FlightSeat();
  FlightSeat(const FlightSeat&) = delete;
  FlightSeat& operator=(const FlightSeat&) = delete;

  // Joins the flight of the key, or starts one. With `if_absent`, a key that turns out to be in the store is kPresent.
  // A flight that is running is joined either way.
  [[nodiscard]] FlightJoin Join(std::string_view key, bool if_absent, const Now& now);

  // The ticket to store the loaded value with (Request::fill), before Settle. Null: the membership has ended (its news
  // is under way), nothing is to be stored. REQUIRES: id leads.
  FillTicket* ticket(uint64_t id);
  // The key of a flight, valid as long as the membership. REQUIRES: the membership has not ended, or its news was not
  // taken.
  std::string_view key(uint64_t id) const;

  // The load has ended: waiters get the answer, and the membership has ended. An answer that cannot be carried sends
  // them to the cache again. REQUIRES: id leads, or had been told kAbort or kClosed by news that was not taken yet.
  void Settle(uint64_t id, FlightAnswer::Kind kind, Codec codec, std::string_view bytes, std::string_view name = {},
              std::string_view code = {});
  // The load will not be run or has no answer: waiters look again. The same otherwise.
  void SettleAgain(uint64_t id);

  // Nobody in this thread waits for the flight any more.
  [[nodiscard]] FlightLeave Leave(uint64_t id);

  // Takes what the seat was told, oldest first, at most `count` and at most kNewsPerHold; 0: there is no more. All
  // kinds but kLead end the membership.
  [[nodiscard]] size_t TakeNews(FlightNews* news, size_t count);

  // Memberships that have not ended or whose news was not taken yet.
  size_t member_count() const { return members_.size(); }
  // Those among them that wait for another thread: what the thread must stay alive for.
  size_t waiting_count() const { return waiting_count_; }

 private:
  friend class FlightTable;
  // What TakeNews takes under one hold of the lock.
  static constexpr size_t kNewsPerHold = 64;

  FlightMember* Find(uint64_t id) const;
  void Forget(FlightMember* member);
  // Ends a leader and closes its flight to others. True: somebody waits for an answer.
  bool EndLead(FlightMember* member);

  FlightTable* const table_;
  Store* const store_;
  const std::shared_ptr<Waker> waker_;
  uint64_t next_id_ = 1;
  size_t waiting_count_ = 0;
  std::unordered_map<uint64_t, FlightMember*> members_;
  // Members with news, oldest first; guarded by the table's lock.
  FlightMember* news_head_ = nullptr;
  FlightMember* news_tail_ = nullptr;
};

}  // namespace cairn
