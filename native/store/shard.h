// A Shard holds one slice of the key space. It executes verbs: looks the key up in its Entries, makes Room, writes the
// bytes into its EntryMemory, and lets its Recorder give each change a version and leave a record.
//
// Thread safety: a Shard is a lock, and ShardGuard holds it. A method that needs the lock says REQUIRES_LOCK(this),
// which clang checks. Under the lock nothing is called outside store/ except the removal sink.
// Ownership: the state is in the mapping (ShardState and behind it); this object is one process's view of it.
// Invariants (Verify()): those of its parts, and
//   (1) charged_bytes is the sum of the charges of entries, of entries that left while pinned, and of bodies; it never
//       exceeds limit_bytes while unlocked, except between a shrinking and its last step;
//   (2) versions rise with each change.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string_view>

#include "store/atomic_batch.h"
#include "store/bodies.h"
#include "store/concat_steps.h"
#include "store/entries.h"
#include "store/fill_watch.h"
#include "store/presence.h"
#include "store/record.h"
#include "store/recorder.h"
#include "store/request.h"
#include "store/room.h"
#include "store/shard_state.h"

namespace cairn {

// Whether a large value may be pinned for its reader, instead of being copied under the lock.
enum class Pins : uint8_t { kAllowed, kNone };

class CAPABILITY("shard") Shard final : private ChunkMover {
 public:
  Shard(char* base, const ShardConfig& config);
  Shard(const Shard&) = delete;
  Shard& operator=(const Shard&) = delete;
  // Sets up the zeroed mapping. False: not even the first page of the table fits.
  [[nodiscard]] bool Init(uint64_t memory_bytes, uint64_t entries_limit, uint32_t epoch) REQUIRES_LOCK(this);

  // The lock lies in the state that it guards.
  void Lock() const ACQUIRE() NO_THREAD_SAFETY_ANALYSIS { state_->lock.Lock(); }
  void Unlock() const RELEASE() NO_THREAD_SAFETY_ANALYSIS { state_->lock.Unlock(); }
  // See OsLock.
  bool TryLock() const TRY_ACQUIRE(true) NO_THREAD_SAFETY_ANALYSIS { return state_->lock.TryLock(); }
  bool UnlockAndTell() const RELEASE() NO_THREAD_SAFETY_ANALYSIS { return state_->lock.UnlockAndTell(); }

  // ---- without the lock ----

  uint64_t HashOf(std::string_view key) const { return TableHash(config_.hash, key, config_.secrets); }
  NO_SANITIZE_THREAD void HintBucket(uint64_t hash) const NO_THREAD_SAFETY_ANALYSIS { entries_.HintBucket(hash); }
  void ReadPinned(const Pin& pin, size_t offset, char* data, size_t bytes) const {
    memory_.ReadPinned(pin, offset, data, bytes);
  }
  size_t PinnedPlaces(const Pin& pin, size_t offset, size_t bytes, std::span<char>* places, size_t count) const {
    return memory_.PinnedPlaces(pin, offset, bytes, places, count);
  }
  uint64_t header_bytes() const { return config_.header_bytes; }
  char* PageAddress(uint32_t page_plus_1) const { return memory_.arena()->PageAddress(page_plus_1); }
  bool has_ring() const { return config_.ring_bytes != 0; }
  ChangeRing* ring() { return recorder_.ring(); }
  void SetRemovalSink(RemovalSink* sink) NO_THREAD_SAFETY_ANALYSIS { entries_.SetRemovalSink(sink); }
  RemovalSink* removal_sink() const NO_THREAD_SAFETY_ANALYSIS { return entries_.removal_sink(); }

  // ---- verbs ----

  void Execute(const Request& request, uint64_t hash, const Now& now, Scratch* scratch, Pins pins, Outcome* outcome)
      REQUIRES_LOCK(this);
  // See Store::GetPlain and SetPlain. In line: shard_inl.h.
  Status GetPlain(std::string_view key, uint64_t hash, const Now& now, char* room, size_t capacity, PlainValue* value)
      REQUIRES_LOCK(this);
  template <bool kLogged>
  Status SetPlain(std::string_view key, std::string_view value, Codec codec, uint64_t expires_ms, uint64_t hash,
                  const Now& now) REQUIRES_LOCK(this);
  // An append or prepend in steps; see concat_steps.h. `steps` null: in one.
  void Concat(const Request& request, uint64_t hash, const Now& now, Outcome* outcome, ConcatSteps* steps)
      REQUIRES_LOCK(this);
  bool CopyConcat(const ConcatSteps& steps, std::string_view key, uint64_t hash, size_t from, size_t to, size_t bytes)
      REQUIRES_LOCK(this);
  bool EndConcat(const ConcatSteps& steps, const Request& request, uint64_t hash, const Now& now, Outcome* outcome)
      REQUIRES_LOCK(this);
  // A value that comes in pieces: room is made in steps, so that each hold of the lock evicts and moves little (true:
  // there is more to do); Reserve() takes a body slot, Bodies::Write() fills it, Link() makes it the key's entry.
  bool MakeRoomStep(const Request& request, uint32_t value_bytes, const Now& now) REQUIRES_LOCK(this);
  // See Store::HasFreeRoom().
  bool HasFreeRoom(const Request& request) const REQUIRES_LOCK(this);
  Status Reserve(const Request& request, uint64_t hash, uint32_t value_bytes, const Now& now, int* slot)
      REQUIRES_LOCK(this);
  void Link(int slot, const Request& request, uint64_t hash, const Now& now, Outcome* outcome) REQUIRES_LOCK(this);
  bool BeginFill(std::string_view key, uint64_t hash, FillOf what, const Now& now, FillTicket* ticket)
      REQUIRES_LOCK(this);
  // The parts of an atomic batch that are this shard's, in three steps under one hold of the lock: what they need and
  // whether it can be had; memory for all of them; all of them at once. A refusal changes nothing except that entries
  // may have been evicted. Abandon takes the memory back. REQUIRES: the step before, and its success.
  Status PlanAtomic(AtomicRun* run, const Now& now, AtomicOutcome* outcome) REQUIRES_LOCK(this);
  Status StageAtomic(const AtomicRun& run) REQUIRES_LOCK(this);
  void AbandonAtomic(const AtomicRun& run) REQUIRES_LOCK(this);
  void CommitAtomic(const AtomicRun& run, uint64_t batch_id, uint32_t batch_count, const Now& now) REQUIRES_LOCK(this);
  // The Outcome::commit_version of an outcome. REQUIRES: the same hold of the lock as the request.
  uint64_t CommitVersionOf(const Outcome& outcome) const REQUIRES_LOCK(this) {
    if (outcome.record_version != 0) return outcome.record_version;
    // Of an entry whose cas token is another one.
    if (outcome.commit_version != 0) return outcome.commit_version;
    return outcome.version != 0 ? outcome.version : recorder_.gone_version();
  }

  // ---- the whole ----

  // Makes all entries dead, and leaves the record of the clear. Returns the number of entries that were live. REQUIRES:
  // version > last_version(); room for the record was reserved.
  uint64_t Clear(uint64_t version) REQUIRES_LOCK(this);
  // True if the last clear was the last change of this shard, so no entry is live.
  bool is_as_cleared() const REQUIRES_LOCK(this) { return entries_.cleared_version() == recorder_.last_version(); }
  // At most kStepEntriesMax entries of each kind of upkeep; true: there is more to do.
  bool MaintainStep(const Now& now) REQUIRES_LOCK(this);
  // Frees some of the records drained before a place of the ring. True: there are more.
  bool CommitRingStep(uint64_t up_to) REQUIRES_LOCK(this);
  void SetValueBytesMax(uint64_t bytes) REQUIRES_LOCK(this) { state_->value_bytes_max = bytes; }

  // ---- records that come in, from a log, a dump or a primary ----

  Status Apply(const RecordView& record, uint64_t hash, const Now& now, Origin origin) REQUIRES_LOCK(this);
  // Entries of lower versions are dead. Returns their number.
  uint64_t ApplyClear(uint64_t version) REQUIRES_LOCK(this);
  // See Store::StubOf() and Revive().
  bool StubOf(std::string_view key, uint64_t hash, const Now& now, StubInfo* info) REQUIRES_LOCK(this);
  // See Store::StubShare().
  double StubShare() const REQUIRES_LOCK(this) { return entries_.debts().StubShare(); }
  // See Store::LastChangeOf().
  uint64_t LastChangeOf(std::string_view key, uint64_t hash, const Now& now, uint64_t* value_version)
      REQUIRES_LOCK(this);
  Status Revive(const RecordView& record, uint64_t newest_version, uint64_t hash, const Now& now) REQUIRES_LOCK(this);
  // See Store::SettleRecovered().
  void SettleRecovered() REQUIRES_LOCK(this) {
    entries_.SettleTouches();
    entries_.SettleAll(&fills_);
  }
  void SetRecovering(bool recovering) REQUIRES_LOCK(this) { state_->recovering = recovering; }
  // Gives every entry a version of epoch 0, counted from `counter`.
  void Renumber(uint64_t counter) REQUIRES_LOCK(this);

  // ---- its parts ----

  Entries* entries() REQUIRES_LOCK(this) { return &entries_; }
  const Entries* entries() const REQUIRES_LOCK(this) { return &entries_; }
  Walks* walks() REQUIRES_LOCK(this) { return entries_.walks(); }
  EntryMemory* memory() REQUIRES_LOCK(this) { return &memory_; }
  Room* room() REQUIRES_LOCK(this) { return &room_; }
  const Room* room() const REQUIRES_LOCK(this) { return &room_; }
  Recorder* recorder() REQUIRES_LOCK(this) { return &recorder_; }
  Bodies* bodies() REQUIRES_LOCK(this) { return &bodies_; }
  Growth* growth() REQUIRES_LOCK(this) { return &growth_; }
  FillWatch* fills() REQUIRES_LOCK(this) { return &fills_; }

  StoreStats Stats() const REQUIRES_LOCK(this);
  void ResetStats() REQUIRES_LOCK(this);
  void Verify() REQUIRES_LOCK(this);

 private:
  EntryHeader* At(Ref ref) const { return memory_.At(ref); }
  // The key has changed: a load of it that is under way stores nothing.
  void VoidFills(uint64_t hash) REQUIRES_LOCK(this) {
    if (!fills_.empty()) [[unlikely]]
      fills_.Void(hash);
  }

  // ---- shard_verbs.cc ----

  void Get(const Request& request, uint64_t hash, const Now& now, Scratch* scratch, Pins pins, Outcome* outcome)
      REQUIRES_LOCK(this);
  void Touch(const Request& request, uint64_t hash, const Now& now, Scratch* scratch, Pins pins, Outcome* outcome)
      REQUIRES_LOCK(this);
  void Remove(const Request& request, uint64_t hash, const Now& now, Scratch* scratch, Pins pins, Outcome* outcome)
      REQUIRES_LOCK(this);
  bool GiveValue(Ref ref, Scratch* scratch, Pins pins, Outcome* outcome) REQUIRES_LOCK(this);
  // Undoes GiveValue(). `scratch_used`: before it.
  void TakeValueBack(Scratch* scratch, size_t scratch_used, Outcome* outcome) REQUIRES_LOCK(this);
  void Describe(const EntryHeader* entry, const Now& now, Outcome* outcome) const REQUIRES_LOCK(this);
  // Gives the entry this expiry and this end of its freshness; with kKeepExpiry neither. On failure it is as it was,
  // but may have moved.
  Status Retime(Ref* ref, std::string_view key, const Ends& ends, uint64_t hash, const Now& now) REQUIRES_LOCK(this) {
    return ends.expires_ms == kKeepExpiry ? Status::kStored : Remark(ref, key, ends, MarksOf(At(*ref)), hash, now);
  }
  // The same, with these marks. REQUIRES: an expiry.
  Status Remark(Ref* ref, std::string_view key, const Ends& ends, const Marks& marks, uint64_t hash, const Now& now)
      REQUIRES_LOCK(this);
  // The entry was touched: leaves the record.
  void LeaveTouch(Ref ref, uint64_t hash, const Now& now, Outcome* outcome) REQUIRES_LOCK(this);
  // Of a key without a live entry. REQUIRES: outcome->status is what presence.h answers.
  void RemoveAbsent(const Request& request, Found found, uint64_t hash, Outcome* outcome) REQUIRES_LOCK(this);

  // ---- shard_meta.cc ----

  void MetaGet(const Request& request, uint64_t hash, const Now& now, Scratch* scratch, Pins pins, Outcome* outcome)
      REQUIRES_LOCK(this);
  // Of a key that has no entry.
  void Vivify(const Request& request, Found found, uint64_t hash, const Now& now, Outcome* outcome) REQUIRES_LOCK(this);
  void Invalidate(const Request& request, uint64_t hash, const Now& now, Outcome* outcome) REQUIRES_LOCK(this);
  void MarkStale(const Request& request, Ref ref, uint64_t hash, const Now& now, Outcome* outcome) REQUIRES_LOCK(this);
  // What is stored is older than what it replaces, and stale.
  bool IsLower(const Request& request, Found found) const REQUIRES_LOCK(this);
  // The marks and, in place of an older value, the expiry of an entry that a request stores.
  void ApplyMeta(const Request& request, Found found, NewEntry* entry) const REQUIRES_LOCK(this);

  // ---- shard_store.cc ----

  // What is stored meanwhile leaves no record, and is owed as the flags say (0 or kEntryOwed).
  class Quiet;
  // Stubs whose records the backend has by now make room.
  void FreeStubs() REQUIRES_LOCK(this) {
    if (!entries_.debts().has_backend()) [[likely]]
      return;
    int budget = kStepEntriesMax;
    entries_.FreeStubs(&fills_, &budget);
  }
  // Room for the record of a delete, and for the stub of its key; `ref`: what the table has under it.
  bool ReserveDelete(std::string_view key, Ref ref) REQUIRES_LOCK(this) {
    return recorder_.ReserveKey(key.size()) && (owed_flag_ == 0 || room_.MakeForStub(ref, key) == Status::kStored);
  }
  // No memory for a stub, or only owed keys in a full chain of the table.
  [[gnu::noinline]] Status RefuseStub() REQUIRES_LOCK(this) {
    state_->counters.log_full++;
    return Status::kLogFull;
  }
  // The stub of a key that is about to have an entry, which is in memory slot 0, leaves.
  [[gnu::noinline]] void DropStub(std::string_view key, uint64_t hash) REQUIRES_LOCK(this);
  // Leaves the record of a delete, and the stub of its key if there is a backend; otherwise the entry, if there is one,
  // leaves. False, and nothing was changed: the stub has no memory. REQUIRES: ReserveDelete().
  [[nodiscard]] bool LeaveDelete(Ref ref, std::string_view key, uint64_t hash, Reason reason, uint64_t* version)
      REQUIRES_LOCK(this);
  // Whether what is under the key is newer than the backend's row.
  bool BlocksFill(Found found) const REQUIRES_LOCK(this);
  // A set found no room: the value that it was to replace is gone all the same. Returns `status`, or kLogFull.
  // REQUIRES: room for a record was reserved.
  [[gnu::noinline]] Status LoseOld(Status status, std::string_view key, uint64_t hash, Outcome* outcome)
      REQUIRES_LOCK(this);
  // Tests the verb's conditions on the look-up: kStored if they hold, otherwise the answer.
  Status Condition(const Request& request, Found found) const REQUIRES_LOCK(this) {
    if (request.verb == Verb::kSet && !request.has_compare && request.fill == nullptr) [[likely]]
      return Status::kStored;
    return ConditionOf(request, found);
  }
  Status ConditionOf(const Request& request, Found found) const REQUIRES_LOCK(this);
  // The value, or its absence, that a load has brought from the backend.
  [[gnu::noinline]] void StoreFill(Found old, const Request& request, uint64_t hash, const Now& now, Outcome* outcome)
      REQUIRES_LOCK(this);
  // A storing verb without room: kSet removes the old entry, as memcached does.
  Status Refuse(Status status, Verb verb, std::string_view key, uint64_t hash, Outcome* outcome) REQUIRES_LOCK(this);
  // Stores an entry in place of `old` (0: none). `version` 0: the next one. kLogFull: nothing was changed, except that
  // `old` may have left memory, as by an eviction.
  Status Write(const NewEntry& entry, std::string_view value, uint64_t hash, Ref old, uint64_t version, const Now& now,
               Outcome* outcome) REQUIRES_LOCK(this);
  bool FitsAtAll(const NewEntry& entry, const Layout& layout) const REQUIRES_LOCK(this) {
    return entry.value_bytes <= state_->value_bytes_max && layout.charge <= memory_.state().limit_bytes;
  }
  // Write() has found no room. `is_lost`: the old entry has left, or has to.
  [[gnu::noinline]] Status RefuseWrite(Status room, bool is_lost, std::string_view key, uint64_t hash, Outcome* outcome)
      REQUIRES_LOCK(this);
  // Overwrites `old`, if it has the same size class and is not pinned or chunked. False: nothing was changed.
  bool WriteInPlace(const NewEntry& entry, const Layout& layout, std::string_view value, Ref old, uint64_t version,
                    const Now& now) REQUIRES_LOCK(this);
  // The same entry with a longer value and/or another expiry; keeps its place in the order, its walk bits and its
  // version. Updates *ref. kNoMemory, and nothing changed, if there is no room beside the old one.
  Status Rewrite(Ref* ref, const NewEntry& entry, std::string_view before, std::string_view behind, uint64_t hash,
                 const Now& now, Farewell farewell) REQUIRES_LOCK(this);
  void FinishStore(Ref ref, const Now& now, Outcome* outcome) REQUIRES_LOCK(this);
  void FinishWrite(const NewEntry& from, std::string_view value, Ref ref, uint64_t version, const Now& now,
                   Outcome* outcome) REQUIRES_LOCK(this);
  void StoreValue(const Request& request, uint64_t hash, const Now& now, Outcome* outcome) REQUIRES_LOCK(this) {
    StoreValue(entries_.Lookup(request.key, hash, now, Purpose::kOther, StaleTo(request)), request, hash, now, outcome);
  }
  // `old`: the result of Lookup() for the key.
  void StoreValue(Found old, const Request& request, uint64_t hash, const Now& now, Outcome* outcome)
      REQUIRES_LOCK(this);
  [[gnu::noinline]] Status SetBesideStubs(const Request& request, uint64_t hash, const Now& now) REQUIRES_LOCK(this) {
    FreeStubs();
    Outcome outcome;
    StoreValue(entries_.Lookup(request.key, hash, now, Purpose::kOther, StaleIs::kLive), request, hash, now, &outcome);
    return outcome.status;
  }
  [[gnu::noinline]] Status SetOver(Found old, const Request& request, uint64_t hash, const Now& now)
      REQUIRES_LOCK(this) {
    if (entries_.debts().has_backend()) [[unlikely]]
      return SetBesideStubs(request, hash, now);
    Outcome outcome;
    StoreValue(old, request, hash, now, &outcome);
    return outcome.status;
  }
  void Count(const Request& request, uint64_t hash, const Now& now, Outcome* outcome) REQUIRES_LOCK(this);
  void CountAbsent(const Request& request, Found found, uint64_t hash, const Now& now, Outcome* outcome)
      REQUIRES_LOCK(this);
  // The answer to a Reserve() that is refused.
  Status RefuseBody(Status status, const Request& request, uint64_t hash, const Now& now) REQUIRES_LOCK(this);

  // ---- shard_atomic.cc ----

  bool SetPlacesAside(const AtomicRun& run) REQUIRES_LOCK(this);
  bool StagePart(const AtomicPart& part, uint32_t staged) REQUIRES_LOCK(this);
  void SetPart(const AtomicPart& part, uint32_t staged, const Now& now) REQUIRES_LOCK(this);
  void DeletePart(const AtomicPart& part, uint32_t staged, const Now& now) REQUIRES_LOCK(this);

  // ---- shard_concat.cc ----

  bool BeginConcat(const NewEntry& from, Ref old, ConcatSteps* steps, Status* status) REQUIRES_LOCK(this);
  void FinishConcat(const Request& request, Ref ref, uint64_t hash, const Now& now, Outcome* outcome)
      REQUIRES_LOCK(this);
  // Adds `added` behind the value of a chunked entry that is not pinned: replaces only chunks that change their size.
  // Otherwise as Rewrite().
  Status Extend(Ref* ref, const NewEntry& entry, std::string_view added, const Now& now) REQUIRES_LOCK(this);

  // ---- shard_apply.cc ----

  // Before a record is applied while recovering: takes out expired entries, as far as its own needs the room.
  void MakeRoomFromExpired(const RecordView& record, const Now& now) REQUIRES_LOCK(this);
  struct Incoming;
  Status ApplySet(const Incoming& in, const Now& now) REQUIRES_LOCK(this);
  Status ApplyExpiredSet(const Incoming& in) REQUIRES_LOCK(this);
  StubInfo StubInfoOf(const Incoming& in, Ref old) const REQUIRES_LOCK(this);
  Status ApplyAsStub(const Incoming& in) REQUIRES_LOCK(this);
  Status ApplyTouch(const Incoming& in, const Now& now) REQUIRES_LOCK(this);
  Status ApplyDelete(const Incoming& in) REQUIRES_LOCK(this);
  bool LeaveDeleteOf(const Incoming& in, Reason reason) REQUIRES_LOCK(this);

  // ---- of the arena's mover: shard.cc ----

  void TookFreshPage() REQUIRES_LOCK(this) override;
  void MovedChunk(Ref from, Ref to) REQUIRES_LOCK(this) override;
  void MovedOverflowBucket(Ref from, Ref to) REQUIRES_LOCK(this) override { entries_.MovedOverflowBucket(from, to); }

  ShardState* state_ PT_GUARDED_BY(this);
  ShardConfig config_;
  EntryMemory memory_;
  Recorder recorder_;
  Entries entries_ GUARDED_BY(this);
  Room room_ GUARDED_BY(this);
  Bodies bodies_ GUARDED_BY(this);
  Growth growth_ GUARDED_BY(this);
  FillWatch fills_ GUARDED_BY(this);
  uint16_t owed_flag_;  // of an entry whose record was just left: kEntryOwed with a backend and a log, otherwise 0
};

}  // namespace cairn
