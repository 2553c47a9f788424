// Carries a cache's records from the rings of its shards to its log, and the news of commits back.
//
//   writers -> rings (store) -> Drain() -> scribe -> log -> Commit() -> marks -> doors that hold replies and reads
//
// There is one scribe at a time, a thread that blocks in Drain(). Drain() returns a copy: the rings keep the records
// until Commit(), so that another scribe can drain them again (Rewind). Records of one shard come in the order of their
// versions; between shards there is no order. Each Drain() that returns records is a turn. Up to kLogTurnsMax turns may
// be on their way to the log at once, and may be committed in any order. The marks pass a turn when all turns before it
// are committed too.
//
// The parts of an atomic batch lie in the rings of several shards, and are drained in one turn: the log has them in one
// group, or has none. A ring whose next record is a part waits until the next records of all rings are parts that make
// the batch whole; the other rings go on. The thread that writes the batch leaves its parts one after another, so that
// the scribe may find the first before the last is there; the bell rings for the last. Recorder::Part has the rules
// that keep two batches from waiting for one another.
//
// A thread that waits for the log rings the bell (CommitMarks::RingBell). With no waiters the scribe polls every kNapMs
// while records come, so that writers which do not wait pay nothing for a wake-up. When no records come it sleeps; the
// next record wakes it.
//
// States, set by the scribe and its keeper:
//
//   kOpening   recovery is under way; the cache is not served yet
//   kRunning   what is recorded reaches the log
//   kFull      the log has had no room for PATIENCE_MS (src/scribe/appending.ts): changes are refused once the rings
//              are full, reads go on; back to kRunning when there is room
//   kStuck     kFull for STUCK_MS: callers stop waiting for commits of executed changes, which may come later or never
//   kFailed    there is no scribe any more: uncommitted records will never be committed; reads go on
//   kClosed    the cache has ended
//
// Thread safety: Drain, Commit and Rewind by the scribe's thread; the rest from any thread. Under a shard's lock only
// the bell's flag is used. The lock is a leaf; wakers are called without it.
#pragma once

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <vector>

#include "base/limits.h"
#include "base/os.h"
#include "base/waker.h"
#include "process/log_places.h"
#include "store/change_bell.h"
#include "store/commit_marks.h"
#include "store/log_view.h"
#include "store/store.h"

namespace cairn {

// The most numbers that the scribe reports about the log, for `stats`.
inline constexpr size_t kLogMetricsMax = 512;

class ChangeFeed final : public ChangeBell, public LogView {
 public:
  enum class State : uint32_t { kOpening = 0, kRunning = 1, kFull = 2, kFailed = 3, kClosed = 4, kStuck = 5 };

  // REQUIRES: the store has rings, and outlives every call except the destructor.
  explicit ChangeFeed(Store* store);
  ~ChangeFeed();
  ChangeFeed(const ChangeFeed&) = delete;
  ChangeFeed& operator=(const ChangeFeed&) = delete;

  CommitMarks* marks() override { return &marks_; }
  // What the state means to waiting threads.
  Health health() const override;
  State state() const { return state_.load(std::memory_order_acquire); }
  // kClosed is final. Wakes every waiting thread.
  void SetState(State state);

  // ---- the scribe ----

  struct Turn {
    uint64_t number = 0;  // from 1 on; 0: there are no records
    size_t bytes = 0;     // of whole records
    uint32_t record_count = 0;
    uint32_t epoch = 0;       // the highest of their versions; 0: there are none
    size_t bytes_needed = 0;  // no record fitted: the size of the next one, or of all parts of the next batch
  };
  // Copies records that were not drained yet. Waits up to timeout_ms for the first; returns early if poked or closed.
  // REQUIRES: turns_in_flight() < kLogTurnsMax.
  Turn Drain(char* out, size_t capacity, uint32_t timeout_ms);
  // The log has the records of this turn, in this range. REQUIRES: the turn is in flight, and not committed yet.
  void Commit(uint64_t turn, const LogRange& range = {});
  // The number of the last turn, and the count of turns from the oldest uncommitted one on.
  uint64_t last_turn() const { return next_turn_ - 1; }
  uint32_t turns_in_flight() const { return static_cast<uint32_t>(next_turn_ - first_turn_); }
  // Makes Drain() start again behind the last commit: for a new scribe, or one that could not append.
  void Rewind();
  // Makes the present or the next Drain() return.
  void Poke();
  // Marks count from here on: recovered entries are committed. REQUIRES: nothing was recorded yet.
  void Activate();

  // Where the log has the records of each shard: those of committed turns, and those that the scribe adds at recovery.
  // Null: the cache has no backend, and nothing looks for them. A turn's records are here before the rings free them:
  // a record that Store::FindInRing() does not find any more is found here.
  LogPlaces* places() { return places_.get(); }

  // ---- those who wait ----

  // The backend has more, or takes changes no more: waiting threads look.
  void TellStored() { WakeWaiters(false); }

  // A version per shard: all changes made so far.
  using Target = std::array<uint64_t, kShardCountMax>;
  void ReadTarget(Target* target) const;
  bool Covers(const Target& target) const;
  // Blocks until everything up to the target is committed. False: the time is over, or it will never be committed.
  [[nodiscard]] bool WaitCommitted(const Target& target, uint32_t timeout_ms);
  // Blocks until a commit or a change of state since `seen` was read from progress(), or until the time is over.
  uint32_t progress() const override { return commit_word_.load(std::memory_order_seq_cst); }
  void WaitForRoom(uint32_t seen, uint32_t timeout_ms);
  std::shared_ptr<LogWatch> Watch(std::shared_ptr<Waker> waker) override;
  void Unwatch(const LogWatch* watch) override;

  // ---- numbers ----

  Numbers ReadNumbers() const override;
  // Numbers from `place` on; the others stay. The writer of the log has the first, that of the database those behind.
  void SetMetrics(const double* numbers, size_t count, size_t place = 0);
  void ReadMetrics(double* numbers, size_t count) const override;

  // ChangeBell: makes the scribe drain now.
  void Ring() override;

 private:
  // Per shard: the version that is committed, and the place up to which the ring is free, once the log has all records
  // drained up to then.
  struct Drained {
    uint64_t version = 0;
    RingPlace place;
    uint64_t record_version = 0;  // not less than that of the last record that was drained; 0: none was
  };

  bool Collect(char* out, size_t capacity, Turn* turn);
  bool CollectAll(char* out, size_t capacity, Turn* turn);
  bool CollectShard(uint32_t shard, char* out, size_t capacity, Turn* turn);
  bool CollectBatches(char* out, size_t capacity, Turn* turn);
  // An atomic batch whose parts are all next in their rings. False: there is none.
  struct WholeBatch {
    uint64_t id;
    size_t bytes;
    uint32_t shard;  // the first that has parts of it
  };
  bool FindWholeBatch(WholeBatch* batch) const;
  void AddToTurn(uint32_t shard, const RingDrain& drain, Turn* turn);
  void MeetParts(uint32_t shard);
  void Settle(const std::vector<Drained>& drained, uint32_t record_count, uint64_t drained_at_ms);
  void WakeWaiters(bool everybody);

  Store* const store_;
  const uint32_t shard_count_;
  CommitMarks marks_;
  const std::unique_ptr<LogPlaces> places_;
  std::atomic<State> state_{State::kOpening};

  // What the scribe waits on.
  std::atomic<uint32_t> bell_word_{0};
  std::atomic<bool> scribe_waits_{false};
  std::atomic<bool> poked_{false};
  // Used by the scribe's thread only.
  uint32_t first_slot_ = 0;  // of the next turn: a shard, or shard_count_ for atomic batches
  // Per shard: the parts of an atomic batch that are next in its ring, if there are any.
  std::vector<ChangeRing::Run> parts_next_;
  uint32_t parts_next_count_ = 0;   // of shards that have some
  uint32_t first_batch_shard_ = 0;  // where the look for a whole batch begins
  bool looks_again_ = false;        // what the last look at all rings has found may have made more ready
  uint64_t drained_at_ms_ = 0;
  uint64_t traffic_at_ms_ = 0;
  std::vector<Drained> drained_;
  // Turns in flight are [first_turn_, next_turn_), each in the slot of its number modulo kLogTurnsMax.
  struct Flight {
    bool is_committed = false;
    uint32_t record_count = 0;
    uint64_t drained_at_ms = 0;
    LogRange range;
    std::vector<Drained> drained;
  };
  uint64_t first_turn_ = 1;
  uint64_t next_turn_ = 1;
  std::array<Flight, kLogTurnsMax> flights_;
  Flight* FlightOf(uint64_t turn) { return &flights_[turn % kLogTurnsMax]; }

  // Raised by each commit and change of state.
  std::atomic<uint32_t> commit_word_{0};
  std::atomic<uint32_t> commit_waiters_{0};
  std::atomic<uint64_t> records_committed_{0};
  std::atomic<uint64_t> committed_up_to_ms_{0};  // boot clock: everything older is committed
  std::atomic<uint64_t> rung_at_ms_{0};  // boot clock: when the scribe was first woken from its sleep; 0: not yet
  std::array<std::atomic<double>, kLogMetricsMax> metrics_{};

  using WatchList = std::vector<std::shared_ptr<LogWatch>>;
  mutable OsLock lock_;
  std::shared_ptr<const WatchList> watches_ GUARDED_BY(lock_);
  template <class Edit>
  void EditWatches(Edit edit);
};

}  // namespace cairn
