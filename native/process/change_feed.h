// The way of a cache's records from the rings of its shards to its log, and the news of it back.
//
//   writers -> rings (store) -> Drain() -> scribe -> log -> Commit() -> marks -> doors that hold replies and reads
//
// One scribe at a time, a thread that blocks in Drain(). What Drain() gives is a copy: the rings keep it until
// Commit(), so that another scribe gets it again (Rewind). Records of one shard come in the order of their versions;
// between shards there is no order. Each Drain() that gives records is a turn; up to kLogTurnsMax of them may be on
// their way to the log at once, and their commits may come in any order. The marks move over a turn when all turns
// before it are committed too.
//
// Who waits for the log rings the bell (CommitMarks::RingBell). While nobody does, the scribe takes its time: it looks
// every kNapMs as long as there is traffic, so that a writer who does not wait pays nothing for it, and sleeps when
// there is none; then the next record wakes it.
//
// States, set by the scribe and its keeper:
//
//   kOpening   recovery is under way; the cache is not served yet
//   kRunning   what is recorded reaches the log
//   kFull      the log has had no room for so long that waiting is pointless: mutations are refused once the rings are
//              full, reads go on; back to kRunning when there is room
//   kStuck     kFull for so long that whoever waits for what was done gives up: it may be in the log later, or never
//   kFailed    there is no scribe any more: what is not committed never will be; reads go on
//   kClosed    the cache has ended
//
// Thread safety: Drain, Commit and Rewind by the scribe's thread; the rest from any thread. Nothing here is called
// under a shard's lock but the bell's flag. The lock is a leaf; wakers are called without it.
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
#include "store/change_bell.h"
#include "store/commit_marks.h"
#include "store/log_view.h"
#include "store/store.h"

namespace cairn {

// Numbers about the log that its scribe reports, for `stats`.
inline constexpr size_t kLogMetricsMax = 64;

class ChangeFeed final : public ChangeBell, public LogView {
 public:
  enum class State : uint32_t { kOpening = 0, kRunning = 1, kFull = 2, kFailed = 3, kClosed = 4, kStuck = 5 };

  // REQUIRES: the store has rings, and outlives every call but that of the destructor.
  explicit ChangeFeed(Store* store);
  ~ChangeFeed();
  ChangeFeed(const ChangeFeed&) = delete;
  ChangeFeed& operator=(const ChangeFeed&) = delete;

  CommitMarks* marks() override { return &marks_; }
  // What the state means to those who wait.
  Health health() const override;
  State state() const { return state_.load(std::memory_order_acquire); }
  // kClosed is for ever. Wakes everybody who waits for anything.
  void SetState(State state);

  // ---- the scribe ----

  struct Turn {
    uint64_t number = 0;  // from 1 on; 0: there are no records
    size_t bytes = 0;     // of whole records
    uint32_t record_count = 0;
    uint32_t epoch = 0;       // the highest of their versions; 0: there are none
    size_t bytes_needed = 0;  // no record fitted: the next one takes so much
  };
  // Copies records that were not drained yet. Waits for the first at most so long; less if poked or closed.
  // REQUIRES: turns_in_flight() < kLogTurnsMax.
  Turn Drain(char* out, size_t capacity, uint32_t timeout_ms);
  // What this turn drained is in the log. REQUIRES: it is in flight, and not committed yet.
  void Commit(uint64_t turn);
  // The number of the last turn, and how many there are from the oldest that is not committed on.
  uint64_t last_turn() const { return next_turn_ - 1; }
  uint32_t turns_in_flight() const { return static_cast<uint32_t>(next_turn_ - first_turn_); }
  // A new scribe, or one that could not append what it drained: from the last commit on, again.
  void Rewind();
  // Lets a Drain() return, the present or the next one.
  void Poke();
  // Marks count from here on: what was recovered is committed. REQUIRES: nothing was recorded yet.
  void Activate();

  // ---- those who wait ----

  // A version per shard: everything that was done so far.
  using Target = std::array<uint64_t, kShardCountMax>;
  void ReadTarget(Target* target) const;
  bool Covers(const Target& target) const;
  // Blocks until everything up to the target is committed. False: the time is over, or it will never be.
  [[nodiscard]] bool WaitCommitted(const Target& target, uint32_t timeout_ms);
  // Blocks until something was committed since `seen` was read from progress(), or the state has changed, or the time
  // is over.
  uint32_t progress() const override { return commit_word_.load(std::memory_order_seq_cst); }
  void WaitForRoom(uint32_t seen, uint32_t timeout_ms);
  std::shared_ptr<LogWatch> Watch(std::shared_ptr<Waker> waker) override;
  void Unwatch(const LogWatch* watch) override;

  // ---- numbers ----

  Numbers ReadNumbers() const override;
  void SetMetrics(const double* numbers, size_t count);
  void ReadMetrics(double* numbers, size_t count) const override;

  // ChangeBell: lets the scribe look now.
  void Ring() override;

 private:
  // Per shard: what is committed, and what of the ring is free, when the log has what was drained up to then.
  struct Drained {
    uint64_t version = 0;
    RingPlace place;
  };

  bool Collect(char* out, size_t capacity, Turn* turn);
  bool CollectShard(uint32_t shard, char* out, size_t capacity, Turn* turn);
  void Settle(const std::vector<Drained>& drained, uint32_t record_count, uint64_t drained_at_ms);
  void WakeWaiters(bool everybody);

  Store* const store_;
  const uint32_t shard_count_;
  CommitMarks marks_;
  std::atomic<State> state_{State::kOpening};

  // What the scribe waits on.
  std::atomic<uint32_t> bell_word_{0};
  std::atomic<bool> scribe_waits_{false};
  std::atomic<bool> poked_{false};
  // Of the scribe's thread.
  uint32_t first_shard_ = 0;  // of the next turn
  uint64_t drained_at_ms_ = 0;
  uint64_t traffic_at_ms_ = 0;
  std::vector<Drained> drained_;
  // Turns in flight are those of [first_turn_, next_turn_), each in the slot that its number has modulo kLogTurnsMax.
  struct Flight {
    bool is_committed = false;
    uint32_t record_count = 0;
    uint64_t drained_at_ms = 0;
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
