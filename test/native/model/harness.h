// Runs one operation on a store and on the model of it (model_shard.h has its rules), and compares everything that can
// be seen:
//
//   - the outcome: status, value bytes, codec, client flags, expiry, fetched, idle time, and that versions rise;
//   - the removals, in order, with reason, key, value, codec and flags: the sequence of victims is a pure function of
//     the operations, the sizes and the limit, and the model computes it;
//   - the accounted bytes, entry counts, payload and the counters of every shard;
//   - the records: each is the effect of the operation that left it, and their fold equals the contents of the store;
//     where they go through change rings, which are drained, committed and rewound at random: what is drained, to the
//     byte of the room that it takes, what the ring holds in place, when it is full, and that the drained records,
//     applied to a store of another shape, make the same contents;
//   - what a walk emits: only what is there, and all that was there throughout;
//   - pinned values: unchanged until they are released, charged until then;
//   - what lives that begin by reading a log back make of its records, renumbering included: see `recovers`;
//   - Store::Verify().
//
// What the model does not compute but accepts within bounds: when the timer wheel meets an expired entry (never before
// it expires; by the end of an upkeep that had nothing left to do, one tick after it), in which order cleared entries
// are reclaimed, which entry of an overlong hash chain gives way, and whether a large value is pinned or copied when
// the pin budget is nearly used up.
//
// Where things are: compare.cc compares; drive_*.cc run an operation each on both sides: requests; bodies, pins and
// loads; upkeep and walks; clears and epochs; the journal (rings, and what their records come to); recovery.
#pragma once

#include <cstdint>
#include <deque>
#include <map>
#include <memory>
#include <set>
#include <string>
#include <vector>

#include "model/coverage.h"
#include "model/model_shard.h"
#include "model/ops.h"
#include "model/sizes.h"
#include "store/fill_watch.h"
#include "store/store.h"
#include "support/store_fixture.h"

namespace cairn::model {

class Harness {
 public:
  explicit Harness(const Life& life);
  ~Harness();
  Harness(const Harness&) = delete;
  Harness& operator=(const Harness&) = delete;

  // Runs one operation on both. False: they differ, and failure() says how.
  bool Step(const Op& op);
  // Releases everything, compares once more. False as Step().
  bool Finish();
  const std::string& failure() const { return failure_; }
  const Coverage& coverage() const { return coverage_; }

 private:
  struct PinHandle {
    uint32_t shard;
    Pin pin;
    std::shared_ptr<Held> held;
  };
  struct BodyHandle {
    Body body;
    Request request;  // without key and value
    uint32_t key;
    std::string value;
    Footprint footprint;
    size_t written = 0;
    uint64_t written_ms = 0;  // 0: its sender is never slow
    bool lost = false;
  };
  struct CursorHandle {
    Cursor cursor;
    uint64_t id;  // in ModelShard::walks
  };
  struct Ticket {
    uint32_t key;
    std::unique_ptr<FillTicket> ticket;
    std::shared_ptr<ModelShard::Load> load;
  };

  bool Fail(const std::string& what);
  const std::string& KeyName(uint32_t key);
  std::string ValueOf(const Op& op) const;
  uint64_t ExpiryOf(uint8_t selector) const;
  ModelShard& ShardFor(const std::string& key, uint32_t* index = nullptr);
  uint32_t IndexOf(const ModelShard& shard) const;
  bool has_rings() const { return shards_[0].journal.is_ring(); }
  std::vector<uint64_t> LastVersions() const;

  // ---- comparing ----
  void BeforeCall();
  bool AfterCall(const char* what);
  bool CompareOutcome(const Request& request, const std::string& key, const Outcome& actual, const Expected& expected,
                      const char* scratch, bool batch = false);
  bool CompareCommitVersion(const Outcome& actual, ModelShard& shard, uint32_t shard_index, bool batch);
  bool CompareRemovals();
  bool CompareRecords();
  bool CompareRecord(const StoredRecord& actual, const ExpectedRecord& expected);
  bool CompareRing(uint32_t shard_index);
  bool CompareShards();
  bool CompareFold();
  void Fold(const StoredRecord& record);

  // ---- requests ----
  // Until something can expire or become stale, the clock need not be read.
  static bool IsTimed(const Request& request);
  Request MakeRequest(const Op& op, const std::string& key, const std::string& value);
  static Seen SeenOf(const Outcome& outcome, bool may_pin);
  bool DoRequest(const Op& op);
  bool DoMany(const Op& op);
  // What there is under the key, expired or not. Changes nothing.
  Outcome LookAt(std::string_view key);
  // Asks by Store::GetPlain or SetPlain, and makes the outcome whole by looking. False: it is no such request, or
  // GetPlain has left it to Execute.
  bool AskPlainly(const Request& request, const Now& now, Scratch* scratch, Outcome* outcome);

  // ---- bodies, pins, loads ----
  bool HasBodyPlace(uint32_t shard_index, uint64_t charge, const Now& now);
  bool DoReserve(const Op& op);
  bool DoWriteBody(const Op& op);
  bool DoLink(const Op& op, bool abandon);
  bool DoReadPin(const Op& op, bool release);
  bool DoFill(const Op& op);

  // ---- upkeep and walks ----
  // Removals that upkeep and resizing may cause; checks that each is allowed.
  bool FollowUpkeep(bool shrinking_only);
  bool DoMaintain(bool until_done);
  bool DoResize(const Op& op, bool step);
  bool DoCursor(const Op& op);
  void CloseWalk(size_t which);

  // ---- clears and epochs ----
  bool TakesBarrier(bool is_promised);
  // The next version of all shards together.
  uint64_t TakeVersionOfAll();
  bool AreAsCleared() const;
  // Its version. 0: a journal has no room, nothing was changed.
  uint64_t ClearModel(bool is_promised);
  void RunScheduledClear();
  // Leaves the record of a clear to come, 0: of none. False: no room.
  bool Schedule(uint64_t at_ms);
  bool DoClear();
  bool DoScheduleClear(const Op& op);
  bool DoApplyClear(const Op& op, Origin origin);
  bool DoApplyClearAt(const Op& op, Origin origin);
  void StartEpoch(uint32_t epoch);
  uint32_t Epoch() const;  // the highest of any version

  // ---- the journal ----
  bool DoDrain(uint32_t shard_index, size_t capacity);
  bool DoCommit(uint32_t shard_index);
  bool DoRewind(uint32_t shard_index);
  bool DrainEverything();
  bool Replay();

  // ---- recovery ----
  bool DoApply(const Op& op);
  // What a record that was applied with its version does to the fold: it leaves none itself.
  void FoldApplied(const RecordView& record, ModelShard::Effect effect);
  // Removals of expired entries, for which a record that is read back needs the room.
  bool FollowRecovery(ModelShard& shard, uint64_t charge);
  bool DoRenumber(const Op& op);
  bool DoServe();

  const Life life_;
  RemovalRecorder removals_;
  std::unique_ptr<Store> store_;
  Now now_;
  std::unique_ptr<Sizes> sizes_;
  std::vector<std::string> key_names_;
  std::string scratch_;

  Coverage coverage_;
  Events events_;
  std::deque<ModelShard> shards_;
  std::vector<StoreStats> before_;  // of the store, before the call
  uint64_t last_of_all_ = 0;        // the last version of any shard before the call, or of all in it
  uint64_t scheduled_clear_ms_ = 0;
  int64_t scheduled_wall_ms_ = 0;   // the same as its record has it
  uint64_t scheduled_version_ = 0;  // of the record that says so
  bool recovering_ = false;
  std::vector<PinHandle> pins_;
  std::vector<BodyHandle> bodies_;
  std::vector<CursorHandle> cursors_;
  uint64_t walks_ = 0;
  std::vector<Ticket> tickets_;
  std::vector<uint64_t> expected_cleared_;
  uint64_t resize_memory_ = 0, resize_entries_ = 0, value_bytes_at_first_ = 0;
  bool resizing_ = false;
  std::string drain_bytes_;
  std::string replay_;  // the drained records, as they came
  bool replay_whole_ = true;
  uint64_t fold_barrier_ = 0;       // what is below it has been cleared
  int64_t fold_clear_at_ = 0;       // wall time of the clear that is to come
  uint64_t fold_said_version_ = 0;  // of the record that says so, or that none is
  std::map<std::string, StoredRecord> fold_;
  uint64_t step_ = 0;
  std::string failure_;
};

}  // namespace cairn::model
