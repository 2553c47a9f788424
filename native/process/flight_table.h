// Single flight across threads: of all calls that want a key which is not in the cache, in any thread, one loads it and
// the others wait for its result.
//
// A *flight* is one load of one key. Its *members* are the handles that take part, at most one membership per handle
// and flight: the leader, whose thread runs its loader, and the waiters. A FlightSeat is a handle's place in the table.
// It belongs to the handle's thread; all callers of the handle share its membership.
//
//            Join                 Fill, Settle
//   (none) --------> leading --------------------------------> ended, every waiter has the answer
//     |                 |  seat closes or its thread dies ---> the next waiter is told kLead and leads
//     |                 |  Leave, and no other waits --------> ended: the caller aborts its load
//     |                 |  Leave, others wait ---------------> goes on for them; told kAbort when the last one leaves
//     | Join            |
//     '-------------> waiting -- news, Leave, seat closes ---> ended
//
// A flight never stores a value older than a write. Its FillTicket (store/fill_watch.h) begins before the loader is
// called, under the same hold of the shard's lock that found the key absent, so no write can come between "absent" and
// "watched". A set, delete or clear after that voids the fill. A voided flight still answers its members; a later call
// starts a new flight.
//
// Thread safety: a FlightTable may be used from any thread. A FlightSeat is used by its handle's thread; other threads
// reach into it only through the table, under the table's lock.
// Lock order: the table's lock is a leaf: under it nothing is called, allocated or waited for, neither a shard's lock
// nor a Waker. It is never taken under a shard's lock.
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

// The result of a loader, as it travels between threads.
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
  // The membership: unique within the seat. If the seat is already a member of this flight, the same id again.
  uint64_t id = 0;
};

// News for a seat about one of its memberships.
struct FlightNews {
  enum class Kind : uint8_t {
    kAnswer = 1,  // the flight ended; `answer`
    kAgain = 2,   // the flight ended without an answer for you: look into the cache again, from the start
    kLead = 3,    // the leader is gone; you are the leader now: call the loader, then Settle
    kAbort = 4,   // to a leader that has left: no member waits any more, abort the load
    kClosed = 5,  // the cache has ended
  };
  uint64_t id = 0;
  Kind kind = Kind::kAgain;
  std::shared_ptr<const FlightAnswer> answer;
};

enum class FlightLeave : uint8_t {
  kLeft = 1,    // the membership has ended
  kGoesOn = 2,  // the load goes on for others: it is settled when it ends, or kAbort comes
  kAbort = 3,   // the membership has ended, and no member waits for the load: abort it
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
  // Bytes of answers that were not taken yet.
  uint64_t carried_bytes();

  // Walks everything and CHECKs the invariants; for tests.
  void Verify();

 private:
  friend class FlightSeat;
  // The most wakers to be called after one hold of the lock.
  static constexpr int kWakesPerHold = 16;
  // The most members that get news under one hold of the lock.
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
  // Removes the member from the flight. The last one unlists the flight.
  void EndMemberLocked(FlightMember* member) REQUIRES_LOCK(lock_);
  // Ends a waiting member, and a leader that loads for it alone. REQUIRES: `wakes` is not full.
  void LeaveLocked(FlightMember* member, Wakes* wakes) REQUIRES_LOCK(lock_);
  // Puts news into the member's seat. REQUIRES: `wakes` is not full.
  void TellLocked(FlightMember* member, FlightNews::Kind kind, Wakes* wakes) REQUIRES_LOCK(lock_);
  void DropNewsLocked(FlightMember* member) REQUIRES_LOCK(lock_);
  // Ends every member with the same news, in as many holds of the lock as needed. REQUIRES: the flight is unlisted, and
  // kept by a member that the caller has not freed yet.
  void TellAll(Flight* flight, FlightNews::Kind kind, const std::shared_ptr<const FlightAnswer>& answer);
  // Null: it would exceed carried_bytes_max.
  std::shared_ptr<const FlightAnswer> MakeAnswer(FlightAnswer::Kind kind, Codec codec, std::string_view bytes,
                                                 std::string_view name, std::string_view code);
  // Ends a leader before it has an answer: the next waiter leads, or all read the cache again.
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
  // `table` and `store` outlive the seat; all seats of a table have the same store. `waker` is woken for news.
  FlightSeat(FlightTable* table, Store* store, std::shared_ptr<Waker> waker);
  // Ends all memberships: flights that it leads pass to their next waiter.
  ~FlightSeat();
  FlightSeat(const FlightSeat&) = delete;
  FlightSeat& operator=(const FlightSeat&) = delete;

  // Joins the flight of the key, or starts one. With `if_absent`, a key that turns out to be in the store is kPresent.
  // A flight that is running is joined either way.
  [[nodiscard]] FlightJoin Join(std::string_view key, bool if_absent, const Now& now);

  // The ticket to store the loaded value with (Request::fill), before Settle. Null: the membership has ended (its news
  // is on the way), and nothing is to be stored. REQUIRES: id leads.
  FillTicket* ticket(uint64_t id);
  // The key of a flight, valid while the membership exists. REQUIRES: the membership has not ended, or its news was not
  // taken.
  std::string_view key(uint64_t id) const;

  // The load has ended: waiters get the answer, and the membership ends. If the answer cannot be carried, they read the
  // cache again. REQUIRES: id leads, or has news kAbort or kClosed that was not taken yet.
  void Settle(uint64_t id, FlightAnswer::Kind kind, Codec codec, std::string_view bytes, std::string_view name = {},
              std::string_view code = {});
  // The load will not be run or has no answer: waiters read the cache again. Otherwise as Settle.
  void SettleAgain(uint64_t id);

  // No caller in this thread waits for the flight any more.
  [[nodiscard]] FlightLeave Leave(uint64_t id);

  // Takes the seat's news, oldest first, at most `count` and at most kNewsPerHold; 0: there is no more. Every kind
  // except kLead ends the membership.
  [[nodiscard]] size_t TakeNews(FlightNews* news, size_t count);

  // The number of memberships that have not ended, or whose news was not taken yet.
  size_t member_count() const { return members_.size(); }
  // The number of these that wait for another thread, for which this thread must stay alive.
  size_t waiting_count() const { return waiting_count_; }

 private:
  friend class FlightTable;
  // The most news that TakeNews takes under one hold of the lock.
  static constexpr size_t kNewsPerHold = 64;

  FlightMember* Find(uint64_t id) const;
  void Forget(FlightMember* member);
  // Ends a leader and closes its flight to others. True: a member waits for an answer.
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
