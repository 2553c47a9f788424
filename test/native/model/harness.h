// A model of the store that is plain and obviously right: a std::list in order of recency, a std::unordered_map over
// it, and arithmetic for what an entry is charged. The harness runs one operation on the store and on the model and
// compares everything that can be seen:
//
//   - the outcome: status, value bytes, codec, client flags, expiry, fetched, idle time, and that versions rise;
//   - the removals, in order, with reason, key, value, codec and flags: the sequence of victims is a pure function of
//     the operations, the sizes and the limit, and the model computes it;
//   - the accounted bytes, entry counts, payload and the counters of every shard;
//   - the records: each is the effect of the operation that left it, and their fold equals the contents of the store;
//     where they go through change rings, which are drained, committed and given up again at random: what is drained,
//     to the byte of the room that it takes, what the ring keeps in place, when it is full, and that the drained
//     records, applied to a store of another shape, make the same contents;
//   - what a walk emits: only what is there, and all that was there throughout;
//   - pinned values: unchanged until they are released, charged until then;
//   - what lives that begin by reading a log back make of its records, generations of epochs included: see `recovers`;
//   - Store::Verify().
//
// What the model does not compute but accepts within bounds: when the timer wheel meets an expired entry (never before
// it expires; by the end of an upkeep that had nothing left to do, one tick after it), in which order cleared entries
// are reclaimed, which entry of an overlong hash chain gives way, and whether a large value is pinned or copied when
// the pin budget is nearly used up.
//
// An operation is data (Op), drawn from a seed or from fuzzer input, and means something in every state; so any part of
// a failing sequence can be left out to find a shorter one that fails.
#pragma once

#include <array>
#include <cstdint>
#include <list>
#include <map>
#include <memory>
#include <set>
#include <string>
#include <unordered_map>
#include <unordered_set>
#include <vector>

#include "model/coverage.h"
#include "model/ops.h"
#include "store/entry.h"
#include "store/fill_watch.h"
#include "store/store.h"
#include "support/store_fixture.h"
#include "test.h"

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
  // Shared by an entry and those who pinned it: what they must read, and what it is charged when it has left.
  struct Held {
    std::string value;
    uint64_t charge = 0;
    uint32_t nonwhole_chunks = 0;
    int pins = 0;
    bool left = false;     // no longer reachable: its charge is the zombies'
    bool cleared = false;  // was dead when last seen: may be reachable or not
  };
  struct Entry {
    std::string key, value;
    Codec codec = Codec::kRaw;
    uint32_t client_flags = 0;
    uint64_t expires_ms = kNeverExpires;
    uint64_t version = 0;
    bool fetched = false;
    uint32_t access_s = 0;
    uint64_t filed_ms = 0;  // when it was given its expiry
    uint64_t charge = 0;
    int size_class = 0;
    bool chunked = false;
    uint32_t nonwhole_chunks = 0;
    std::shared_ptr<Held> held;
    int pins() const { return held == nullptr ? 0 : held->pins; }
  };
  using List = std::list<Entry>;  // the newest first
  struct ModelShard {
    List lru;
    std::unordered_map<std::string, List::iterator> index;
    uint64_t live_charge = 0, zombie_charge = 0, body_charge = 0, payload = 0;
    uint64_t dead = 0;                      // cleared, not yet reclaimed
    uint64_t dead_charge_max = 0;           // what they may still be charged with, pinned ones included
    uint64_t limit = 0, entries_limit = 0;  // as of the last look
    uint64_t last_version = 0;              // the highest that was given or read back
    uint32_t epoch = 0;                     // of the versions given from now on
    uint64_t cleared_version = 0;           // what is below it is not applied any more
    uint64_t gone_version = 0;              // what an absence may be told because of, at least
    bool gone_known = true;                 // and exactly
    int bodies = 0;
    StoreStats counters;  // the counters only
  };
  struct Layout {
    uint64_t charge = 0;
    int size_class = 0;
    bool chunked = false;
    uint32_t nonwhole_chunks = 0;
  };
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
    uint64_t charge;
    Layout layout;
    size_t written = 0;
    uint64_t written_ms = 0;  // 0: its sender is never slow
    bool lost = false;
  };
  struct CursorHandle {
    Cursor cursor;
    std::vector<std::set<std::string>> must;
  };
  struct Ticket {
    uint32_t key;
    std::unique_ptr<FillTicket> ticket;
    bool voided = false;
  };
  struct ExpectedRecord {
    RecordKind kind;
    uint64_t version;  // 0: not known
    std::string key, value;
    uint8_t codec = 0;
    uint32_t client_flags = 0;
    int64_t expires_wall_ms = 0;
    uint32_t epoch = 0;  // of a barrier
    // Where it lies in a ring, and what it keeps in place there.
    uint64_t ring_begin = 0, ring_end = 0;
    std::shared_ptr<Held> pinned;
  };
  // A change ring, as change_ring.h draws it.
  struct Ring {
    uint64_t capacity = 0;
    uint64_t written = 0, freed = 0;
    uint64_t count = 0;
    std::vector<ExpectedRecord> records;  // what is not committed
    size_t drained = 0;                   // of them
    uint64_t drained_at = 0;              // the position behind those
    size_t seen = 0;                      // of them, drained at least once
    uint64_t pinned_charge = 0;
    uint32_t barrier = 0, barrier_committed = 0;  // epoch of the last barrier that was drained, committed
    bool reserved_pinned = false;
  };
  // What one request comes to, by the model.
  struct Expected {
    Status status = Status::kNotFound;
    bool check_entry = false;  // the fields below are those of `entry`
    bool fetched = false;
    uint32_t idle_s = 0;
    bool has_value = false;
    std::string value;
    Codec codec = Codec::kRaw;
    uint32_t client_flags = 0;
    uint64_t version = 0;
    uint64_t expires_ms = 0;
    uint32_t value_bytes = 0;
    bool mutates = false;      // record_version is a new one
    bool new_version = false;  // version is the record's
    uint64_t number = 0;
    bool check_number = false;
    std::shared_ptr<Held> pinned;
  };

  bool Fail(const std::string& what);
  const std::string& KeyName(uint32_t key);
  std::string ValueOf(const Op& op) const;
  uint64_t ExpiryOf(uint8_t selector) const;

  // ---- the model's own arithmetic ----
  int ClassOf(uint64_t bytes) const;
  Layout LayoutOf(size_t key_bytes, uint64_t value_bytes, uint64_t expires_ms, uint32_t client_flags) const;

  // ---- the model's moves; each notes the removals it causes ----
  ModelShard& ShardFor(const std::string& key, uint32_t* index = nullptr);
  List::iterator Find(ModelShard& shard, const std::string& key);
  bool IsExpired(const Entry& entry) const {
    return entry.expires_ms != kNeverExpires && entry.expires_ms <= now_.boot_ms;
  }
  List::iterator Lookup(ModelShard& shard, const std::string& key, bool is_get);
  // Takes an entry out. `reason` null-like kCleared: no event.
  void Unlink(ModelShard& shard, List::iterator entry, Reason reason, bool announce, bool keep_walks = false);
  bool MakeRoom(ModelShard& shard, uint64_t charge, bool new_entry, bool keep_newest);
  List::iterator LinkFront(ModelShard& shard, Entry entry);
  Status Put(ModelShard& shard, Entry from, List::iterator old, bool log, Expected* expected);
  Status Rebuild(ModelShard& shard, List::iterator* entry, Entry changed, bool announce_replaced);
  Status Extend(ModelShard& shard, List::iterator* entry, Entry changed);
  Status SetExpiry(ModelShard& shard, List::iterator* entry, uint64_t expires_ms);
  bool has_rings() const { return !rings_.empty(); }
  // For a record of a key alone.
  bool ReserveRecord(uint32_t shard_index, size_t key_bytes);
  // For that of an entry that is about to be stored, or was received as a body.
  bool ReserveEntry(uint32_t shard_index, const Entry& entry, bool in_body);
  bool ReserveBarrier(bool is_due);
  bool Refused(uint32_t shard_index);
  bool RingHasRoom(const Ring& ring, uint64_t bytes, uint64_t spare) const;
  bool RingHoldsRoom(const ModelShard& shard, uint64_t charge) const;
  // If that is what was decided: the entry stays in place for its record.
  void PinForRing(uint32_t shard_index, Entry* entry);
  // What is held in place, by readers and by the ring; and how much of it is dead.
  uint64_t PinnedCharge(const ModelShard& shard, std::set<const Held*>* counted, uint64_t* cleared) const;
  Status NoMemory(ModelShard& shard, Status status);
  void ExpectRecord(uint32_t shard_index, RecordKind kind, const Entry& entry);
  void ExpectBarrier(uint64_t version);
  // That of a key which may be absent. `expected` may be null.
  void ExpectDelete(uint32_t shard_index, const std::string& key, Expected* expected);
  void VoidFills(const std::string& key);
  void ForgetInWalks(const std::string& key);
  void Execute(const Request& request, const std::string& key, bool may_pin, const Outcome* actual, Scratch* scratch,
               Expected* expected);
  void ExecuteGet(ModelShard& shard, const Request& request, const std::string& key, const Outcome* actual,
                  Scratch* scratch, Expected* expected);
  bool GiveValue(ModelShard& shard, List::iterator entry, bool may_pin, const Outcome* actual, Scratch* scratch,
                 Expected* expected);
  void DescribeEntry(const Entry& entry, Expected* expected) const;
  Status Condition(const Request& request, ModelShard& shard, List::iterator entry) const;
  // Makes the entries below this version dead; all of them by default. Says how many.
  uint64_t ClearShard(ModelShard& shard, uint64_t below = ~uint64_t{0});
  void ClearModel();
  bool EpochsUsedUp() const;
  bool ClearsUsedUp() const;

  // ---- running and comparing ----
  void BeforeCall();
  bool CompareOutcome(const Request& request, const std::string& key, const Outcome& actual, const Expected& expected,
                      const char* scratch, bool batch = false);
  bool AfterCall(const char* what);
  bool CompareRemovals();
  bool CompareRecords();
  bool CompareRecord(const StoredRecord& actual, const ExpectedRecord& expected);
  bool CompareRing(uint32_t shard_index);
  bool CompareCommitVersion(const Outcome& actual, ModelShard& shard, uint32_t shard_index, bool batch);
  bool CompareShards();
  bool CompareFold();
  void Fold(const StoredRecord& record);

  bool DoRequest(const Op& op);
  // What there is under the key, expired or not. Changes nothing.
  Outcome LookAt(std::string_view key);
  // Asks by Store::GetPlain or SetPlain, and makes the outcome whole by looking. False: it is no such request, or
  // GetPlain has left it to Execute.
  bool AskPlainly(const Request& request, const Now& now, Scratch* scratch, Outcome* outcome);
  bool DoMany(const Op& op);
  bool HasBodyPlace(uint32_t shard_index, uint64_t charge, const Now& now);
  bool DoReserve(const Op& op);
  bool DoWriteBody(const Op& op);
  bool DoLink(const Op& op, bool abandon);
  bool DoReadPin(const Op& op, bool release);
  bool DoClear();
  bool DoScheduleClear(const Op& op);
  bool DoResize(const Op& op, bool step);
  bool DoCursor(const Op& op);
  bool DoMaintain(bool until_done);
  bool DoApply(const Op& op);
  bool DoApplyClear(const Op& op, bool keep_version);
  bool DoApplyClearAt(const Op& op, bool keep_version);
  // Removals of expired entries, for which a record that is read back needs the room.
  bool FollowRecovery(ModelShard& shard, uint64_t charge);
  void StartEpoch(uint32_t epoch);
  bool DoRenumber(const Op& op);
  bool DoServe();
  std::vector<uint64_t> LastVersions() const;
  bool DoFill(const Op& op);
  bool DoDrain(uint32_t shard_index, size_t capacity);
  bool DoCommit(uint32_t shard_index);
  bool DoRewind(uint32_t shard_index);
  bool DrainEverything();
  bool Replay();
  void RunScheduledClear();
  // Leaves the record of a clear to come, 0: of none. False: no room.
  bool Schedule(uint64_t at_ms);
  Request MakeRequest(const Op& op, const std::string& key, const std::string& value);
  // Removals that upkeep and resizing may cause; checks that each is allowed.
  bool FollowUpkeep(bool shrinking_only);

  const Life life_;
  RemovalRecorder removals_;
  std::vector<std::unique_ptr<RecordRecorder>> recorders_;
  std::vector<RecordSink*> sinks_;
  std::unique_ptr<Store> store_;
  Now now_;
  uint64_t page_bytes_ = 0;
  std::vector<uint32_t> class_sizes_, class_charges_;
  std::vector<int> class_of_;  // by units of eight bytes
  std::vector<std::string> key_names_;
  std::string scratch_;

  std::vector<ModelShard> shards_;
  std::vector<StoreStats> before_;  // of the store, before the call
  std::vector<int> refuse_;         // reservations still to be refused, by shard
  uint32_t epoch_ = 0;
  uint64_t scheduled_clear_ms_ = 0;
  int64_t scheduled_wall_ms_ = 0;   // the same as its record has it
  uint64_t scheduled_version_ = 0;  // of the record that says so; not known after a clear that came by itself
  bool scheduled_known_ = true;
  bool uses_time_ = false;
  bool recovering_ = false;
  bool thrifty_ = false;              // with epochs: StartEpoch() was called
  std::vector<uint64_t> cleared_at_;  // the last versions of the shards behind the last clear; empty: not known
  uint64_t last_clear_version_ = 0;   // 0: not known
  std::vector<PinHandle> pins_;
  std::vector<BodyHandle> bodies_;
  std::vector<CursorHandle> cursors_;
  std::vector<Ticket> tickets_;
  std::vector<Removal> expected_removals_;
  std::vector<uint64_t> expected_cleared_;
  std::vector<std::vector<ExpectedRecord>> expected_records_;
  uint64_t flood_slot_ = ~uint64_t{0};  // where in the removals victims of an overlong chain may stand
  uint32_t flood_shard_ = 0;
  uint64_t resize_memory_ = 0, resize_entries_ = 0;
  bool resizing_ = false;
  std::vector<Ring> rings_;
  std::string drain_bytes_;
  std::string replay_;  // the drained records, as they came
  bool replay_whole_ = true;
  uint64_t fold_barrier_ = 0;  // what is below it has been cleared
  int64_t fold_clear_at_ = 0;  // wall time of the clear that is to come
  std::map<std::string, StoredRecord> fold_;
  std::unordered_set<std::string> lost_;  // in the fold, but evicted or expired
  uint64_t step_ = 0;
  std::string failure_;
  Coverage coverage_;
};

}  // namespace cairn::model
