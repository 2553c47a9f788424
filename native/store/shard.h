// A Shard holds one slice of the key space: an arena for the bytes, a table that finds entries by key, a list that
// orders them by recency, a wheel that orders them by expiry. It decides which entry is evicted. Every change gets a
// version and leaves a record through its Recorder.
//
// Thread safety: a Shard is a lock, and ShardGuard holds it. A method that needs the lock says REQUIRES_LOCK(this),
// which clang checks. Under the lock nothing is called outside store/ except the removal sink.
// Ownership: the state is in the mapping (ShardState and behind it); this object is one process's view of it.
// Invariants (Verify()):
//   (1) an entry is in the table if and only if it is in the list; in the wheel if and only if it has an expiry;
//   (2) charged_bytes is the sum of the charges of linked entries, of unlinked ones that are still pinned, and of
//       bodies; it never exceeds limit_bytes while unlocked, except between a shrinking and its last step;
//   (3) entries of a version below cleared_version are dead: no request finds them; they are the cold end of the list;
//   (4) versions rise with each change;
//   (5) the arena's and the wheel's own.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string_view>

#include "base/hash.h"
#include "store/fill_watch.h"
#include "store/presence.h"
#include "store/record.h"
#include "store/removal.h"
#include "store/request.h"
#include "store/shard_state.h"
#include "store/store.h"

namespace cairn {

// How far an append or prepend in steps is; see Shard::Concat().
struct ConcatSteps {
  int slot = 0;              // 0: it is done, *outcome says how; unless
  bool wants_room = false;   // another call is to go on making room
  bool room_in_one = false;  // given: no, this one makes all of it
  uint64_t version = 0;
  uint32_t old_bytes = 0;
};

// When an entry ends, and from when on it is stale.
struct Ends {
  uint64_t expires_ms;
  uint64_t fresh_until_ms;
};

// Whether a large value may be pinned for its reader, instead of being copied under the lock.
enum class Pins : uint8_t { kAllowed, kNone };

class CAPABILITY("shard") Shard final : private ChunkMover, private EntryHasher, private PageEvictor {
 public:
  struct Config {
    uint32_t index;  // of the shard in its store
    HashKind hash;
    HashSecrets secrets;
    bool track_access;
    const SizeClasses* classes;
    uint64_t header_bytes;  // of the region before the first page, the ring included, which is its end
    uint64_t ring_bytes;
    uint32_t pages_ceiling;
    uint64_t large_bytes;  // of the region, what has large pages; 0: nothing
  };

  // Bytes of state, descriptors and directory for `pages` pages, rounded up to whole pages.
  static uint64_t HeaderBytes(uint32_t pages, uint64_t page_bytes);
  // Pages in reserve, which no charge may use: one for each class, those for pins, and the table's last.
  static uint32_t ReservePages(const SizeClasses& classes, bool has_ring);

  Shard(char* base, const Config& config);
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

  // Moves the entries of collected hits to the front. Call it before reading the order, and before moving or removing
  // entries.
  void SettleTouches() REQUIRES_LOCK(this) {
    if (state_->touches.count != 0) SettleTouchesNow();
  }
  uint64_t header_bytes() const { return config_.header_bytes; }
  uint64_t HashOf(std::string_view key) const { return TableHash(config_.hash, key, config_.secrets); }

  // Prefetches the bucket while the lock is being taken. It reads the table's state without the lock, so the state may
  // be stale or half changed; the result is used as the address of a prefetch only. Only an address in the directory is
  // dereferenced, which is in the mapping for any level and split.
  NO_SANITIZE_THREAD void HintBucket(uint64_t hash) const NO_THREAD_SAFETY_ANALYSIS {
    __builtin_prefetch(table_.HintOf(hash));
  }

  // ---- under the lock ----

  void Execute(const Request& request, uint64_t hash, const Now& now, Scratch* scratch, Pins pins, Outcome* outcome)
      REQUIRES_LOCK(this);

  // See Store::GetPlain and SetPlain. In line: shard_inl.h.
  Status GetPlain(std::string_view key, uint64_t hash, const Now& now, char* room, size_t capacity, PlainValue* value)
      REQUIRES_LOCK(this);
  template <bool kLogged>
  Status SetPlain(std::string_view key, std::string_view value, Codec codec, uint64_t expires_ms, uint64_t hash,
                  const Now& now) REQUIRES_LOCK(this);

  // The stages of prefetching for a group of requests; see Store::ExecuteMany.
  void PrefetchBucket(uint64_t hash) const REQUIRES_LOCK(this) { __builtin_prefetch(table_.BucketOf(hash)); }
  void PrefetchEntry(uint64_t hash) const REQUIRES_LOCK(this);
  void PrefetchValue(uint64_t hash) const REQUIRES_LOCK(this);

  // An append or prepend that would copy more than kConcatCopiedBytesMax under one hold of the lock is done in steps:
  // Concat() with `steps`, which then has a slot; CopyConcat() for the old value and WriteBody() for the added bytes;
  // EndConcat(). False from CopyConcat() or EndConcat(): the entry has changed; Abandon() the slot and begin again.
  void Concat(const Request& request, uint64_t hash, const Now& now, Outcome* outcome, ConcatSteps* steps)
      REQUIRES_LOCK(this);
  bool CopyConcat(const ConcatSteps& steps, std::string_view key, uint64_t hash, size_t from, size_t to, size_t bytes)
      REQUIRES_LOCK(this);
  bool EndConcat(const ConcatSteps& steps, const Request& request, uint64_t hash, const Now& now, Outcome* outcome)
      REQUIRES_LOCK(this);

  // One step of making room for a later Reserve(), so that each hold of the lock evicts and moves little. True: there
  // is more to do.
  bool MakeRoomStep(const Request& request, uint32_t value_bytes, const Now& now) REQUIRES_LOCK(this);
  Status Reserve(const Request& request, uint64_t hash, uint32_t value_bytes, const Now& now, int* slot)
      REQUIRES_LOCK(this);
  void WriteBody(int slot, size_t offset, std::string_view bytes, const Now& now) REQUIRES_LOCK(this) {
    bodies_.Write(slot, offset, bytes, now);
  }
  uint32_t BodyGeneration(int slot) const REQUIRES_LOCK(this) { return bodies_.GenerationOf(slot); }
  void Link(int slot, const Request& request, uint64_t hash, const Now& now, Outcome* outcome) REQUIRES_LOCK(this);
  void Abandon(int slot) REQUIRES_LOCK(this) { bodies_.Abandon(slot); }
  void Unpin(Ref ref) REQUIRES_LOCK(this) { memory_.Unpin(ref); }
  bool BeginFill(std::string_view key, uint64_t hash, bool if_absent, const Now& now, FillTicket* ticket)
      REQUIRES_LOCK(this);
  void EndFill(FillTicket* ticket) REQUIRES_LOCK(this) { fills_.End(ticket); }
  void VoidAllFills() REQUIRES_LOCK(this) { fills_.VoidAll(); }

  // Makes all entries dead, and leaves the record of the clear. Returns the number of entries that were live. REQUIRES:
  // version > last_version(); room for the record was reserved.
  uint64_t Clear(uint64_t version) REQUIRES_LOCK(this);
  // True if the last clear was the last change of this shard, so no entry is live.
  bool is_as_cleared() const REQUIRES_LOCK(this) {
    return state_->population.cleared_version == recorder_.last_version();
  }
  // Applies a clear's record that is read back: entries of lower versions are dead. Returns their number.
  uint64_t ApplyClear(uint64_t version) REQUIRES_LOCK(this);
  // At most kStepEntriesMax entries; true: there is more to do.
  bool MaintainStep(const Now& now) REQUIRES_LOCK(this);
  void SetValueBytesMax(uint64_t bytes) REQUIRES_LOCK(this) { state_->value_bytes_max = bytes; }
  uint64_t live_entries() const REQUIRES_LOCK(this) { return state_->population.live_entries; }
  void SetLimits(uint64_t memory_bytes, uint64_t entries_limit) REQUIRES_LOCK(this);
  // One step towards the limits; true when they are reached. *moved is set if the step made progress; otherwise bodies
  // and pins prevent it.
  bool ShrinkStep(bool* moved) REQUIRES_LOCK(this);
  bool IsShrunk() const REQUIRES_LOCK(this);
  int BeginReturn(uint32_t* pages, int count, Growth::Purpose purpose) REQUIRES_LOCK(this);
  void EndReturn(const uint32_t* pages, int count) REQUIRES_LOCK(this) { memory_.arena()->EndReturn(pages, count); }
  char* PageAddress(uint32_t page_plus_1) const { return memory_.arena()->PageAddress(page_plus_1); }

  // Memory prepared for growth.
  Growth* growth() REQUIRES_LOCK(this) { return &growth_; }
  // The walks, with the order settled.
  Walks* walks() REQUIRES_LOCK(this) {
    SettleTouches();
    return &walks_;
  }

  Status Apply(const RecordView& record, uint64_t hash, const Now& now, bool keep_version) REQUIRES_LOCK(this);
  void SetRecovering(bool recovering) REQUIRES_LOCK(this) { state_->recovering = recovering; }

  // The Outcome::commit_version of an outcome. REQUIRES: the same hold of the lock as the request.
  uint64_t CommitVersionOf(const Outcome& outcome) const REQUIRES_LOCK(this) {
    if (outcome.record_version != 0) return outcome.record_version;
    return outcome.version != 0 ? outcome.version : recorder_.gone_version();
  }
  // Gives every entry a version of epoch 0, counted from `counter`.
  void Renumber(uint64_t counter) REQUIRES_LOCK(this);
  Recorder* recorder() REQUIRES_LOCK(this) { return &recorder_; }
  ChangeRing* ring() { return recorder_.ring(); }
  // Frees some of the records drained before a place of the ring. True: there are more.
  bool CommitRingStep(uint64_t up_to) REQUIRES_LOCK(this);

  StoreStats Stats() const REQUIRES_LOCK(this);
  void ResetStats() REQUIRES_LOCK(this);
  void Verify() REQUIRES_LOCK(this);

  // ---- without the lock ----

  void ReadPinned(const Pin& pin, size_t offset, char* data, size_t bytes) const {
    memory_.ReadPinned(pin, offset, data, bytes);
  }
  bool has_ring() const { return config_.ring_bytes != 0; }
  void SetRemovalSink(RemovalSink* sink) { removals_ = sink; }
  RemovalSink* removal_sink() const { return removals_; }
  // The limit on the entries' charge with this memory; 0 if it does not hold even the reserves.
  uint64_t LimitFor(uint64_t memory_bytes) const REQUIRES_LOCK(this);
  uint32_t PagesFor(uint64_t memory_bytes) const REQUIRES_LOCK(this);

 private:
  EntryHeader* At(Ref ref) const { return memory_.At(ref); }
  bool IsDead(const EntryHeader* entry) const REQUIRES_LOCK(this) { return state_->population.IsDead(entry); }
  // Whether the removal sink is told of an entry that leaves; it is not if another one with its value takes its place.
  enum class Farewell : uint8_t { kTold, kUntold };
  HashTable::Slot FindSlot(std::string_view key, uint64_t hash) const REQUIRES_LOCK(this);
  Ref Find(std::string_view key, uint64_t hash) const REQUIRES_LOCK(this);
  enum class Purpose : uint8_t { kGet, kOther };  // kGet counts what it finds expired
  // The entry under the key, if a request may find it. Removes a dead or expired entry.
  [[gnu::always_inline]] Found Lookup(std::string_view key, uint64_t hash, const Now& now, Purpose purpose,
                                      StaleIs stale_is) REQUIRES_LOCK(this);
  [[gnu::noinline]] Found LeaveAbsent(Ref ref, Reason reason, uint64_t hash) REQUIRES_LOCK(this) {
    SettleTouches();
    Leave(ref, reason, hash);
    return {};
  }
  // The same, and changes nothing.
  Found Look(std::string_view key, uint64_t hash, const Now& now, StaleIs stale_is) const REQUIRES_LOCK(this);
  // The fields that a changed value of the entry keeps.
  NewEntry KeptOf(const EntryHeader* entry, std::string_view key) const REQUIRES_LOCK(this);

  // kNewEntry: one more entry. kBody: a value that is no entry yet. kNewest: a longer value of the newest entry, which
  // is not evicted for it.
  enum class RoomFor : uint8_t { kNewEntry, kBody, kNewest };
  // Evicts from the cold end until the charge fits. False, and nothing evicted: it does not fit beside entries that
  // cannot be evicted.
  bool MakeRoom(uint64_t charge, RoomFor what) REQUIRES_LOCK(this);
  bool IsFull(uint64_t charge, RoomFor what) const REQUIRES_LOCK(this);
  // The entry at the cold end leaves. False: there is none.
  bool Evict() REQUIRES_LOCK(this);
  bool EvictForPage() REQUIRES_LOCK(this) override;

  // Does some of the evictions and moves that the allocation of an entry needs; true: there are more.
  bool RoomStep(const Layout& layout, RoomFor what) REQUIRES_LOCK(this);
  // The charge of the newest entry, if it is not counted among those that cannot be evicted.
  uint64_t ChargeOfNewest() const REQUIRES_LOCK(this);
  // The answer to a Reserve() that is refused.
  Status RefuseBody(Status status, const Request& request, uint64_t hash, const Now& now) REQUIRES_LOCK(this);
  static NewEntry BodyEntryOf(const Request& request, uint32_t value_bytes);
  // Puts the entry of body slot `slot` into the table, the list and the wheel. False: no room in the table.
  bool Enter(int slot, uint64_t hash, uint8_t walk_bits) REQUIRES_LOCK(this);
  // Removes the entry from all three and frees it; a pinned entry stays unlinked until it is unpinned. Every way out of
  // the shard ends here. `reason` is that of a live entry: a dead one has left with the clear.
  void Leave(Ref ref, Reason reason, uint64_t hash, Farewell farewell = Farewell::kTold) REQUIRES_LOCK(this);
  void Leave(Ref ref, Reason reason) REQUIRES_LOCK(this) { Leave(ref, reason, HashOfEntry(ref)); }
  void Announce(Reason reason, const EntryHeader* entry) REQUIRES_LOCK(this);
  // The key has changed: a load of it that is under way stores nothing.
  void VoidFills(uint64_t hash) REQUIRES_LOCK(this) {
    if (!fills_.empty()) [[unlikely]]
      fills_.Void(hash);
  }
  void Bump(Ref ref) REQUIRES_LOCK(this);
  void CountMiss() REQUIRES_LOCK(this) { state_->touches.misses++; }
  void CountHit() REQUIRES_LOCK(this) { state_->touches.hits++; }
  // An entry was read: marks it fetched, stamps the access, and notes the hit.
  void Use(Ref ref, EntryHeader* entry, const Now& now) REQUIRES_LOCK(this) {
    entry->flags |= kEntryFetched;
    StampAccess(entry, now);
    BumpLater(ref);
  }
  void BumpLater(Ref ref) REQUIRES_LOCK(this) {
    // Its present neighbours are most probably those that its move will write.
    const EntryHeader* entry = At(ref);
    __builtin_prefetch(At(entry->lru_prev), 1);
    __builtin_prefetch(At(entry->lru_next), 1);
    TouchState* touches = &state_->touches;
    touches->refs[touches->count] = ref;
    if (++touches->count == kTouchesMax) SettleTouches();
  }
  void SettleTouchesNow() REQUIRES_LOCK(this);
  // Makes every live entry dead.
  void BuryAll() REQUIRES_LOCK(this);

  // Stores an entry in place of `old` (0: none). `version` 0: the next one.
  Status Write(const NewEntry& entry, std::string_view value, uint64_t hash, Ref old, uint64_t version, const Now& now,
               Outcome* outcome) REQUIRES_LOCK(this);
  // The same entry with a longer value and/or another expiry; keeps its place in the order, its walk bits and its
  // version. Updates *ref. kNoMemory, and nothing changed, if there is no room beside the old one.
  Status Rewrite(Ref* ref, const NewEntry& entry, std::string_view before, std::string_view behind, uint64_t hash,
                 const Now& now, Farewell farewell) REQUIRES_LOCK(this);
  bool FitsAtAll(const NewEntry& entry, const Layout& layout) const REQUIRES_LOCK(this) {
    return entry.value_bytes <= state_->value_bytes_max && layout.charge <= memory_.state().limit_bytes;
  }
  // Overwrites `old`, if it has the same size class and is not pinned or chunked. False: nothing was changed.
  bool WriteInPlace(const NewEntry& entry, const Layout& layout, std::string_view value, Ref old, uint64_t version,
                    const Now& now) REQUIRES_LOCK(this);
  // Adds `added` behind the value of a chunked entry that is not pinned: replaces only chunks that change their size.
  // Otherwise as Rewrite().
  Status Extend(Ref* ref, const NewEntry& entry, std::string_view added, const Now& now) REQUIRES_LOCK(this);
  void FinishStore(Ref ref, const Now& now, Outcome* outcome) REQUIRES_LOCK(this);
  void FinishWrite(const NewEntry& from, std::string_view value, Ref ref, uint64_t version, const Now& now,
                   Outcome* outcome) REQUIRES_LOCK(this);
  void Get(const Request& request, uint64_t hash, const Now& now, Scratch* scratch, Pins pins, Outcome* outcome)
      REQUIRES_LOCK(this);
  void StoreValue(const Request& request, uint64_t hash, const Now& now, Outcome* outcome) REQUIRES_LOCK(this) {
    StoreValue(Lookup(request.key, hash, now, Purpose::kOther, StaleTo(request)), request, hash, now, outcome);
  }
  // `old`: the result of Lookup() for the key.
  void StoreValue(Found old, const Request& request, uint64_t hash, const Now& now, Outcome* outcome)
      REQUIRES_LOCK(this);
  [[gnu::noinline]] Status SetOver(Found old, const Request& request, uint64_t hash, const Now& now)
      REQUIRES_LOCK(this) {
    Outcome outcome;
    StoreValue(old, request, hash, now, &outcome);
    return outcome.status;
  }
  bool BeginConcat(const NewEntry& from, Ref old, ConcatSteps* steps, Status* status) REQUIRES_LOCK(this);
  void FinishConcat(Ref ref, uint64_t hash, const Now& now, Outcome* outcome) REQUIRES_LOCK(this);
  void Count(const Request& request, uint64_t hash, const Now& now, Outcome* outcome) REQUIRES_LOCK(this);
  void CountAbsent(const Request& request, Found found, uint64_t hash, const Now& now, Outcome* outcome)
      REQUIRES_LOCK(this);
  bool ReadNumber(const EntryHeader* entry, uint64_t* number) const REQUIRES_LOCK(this);
  void Touch(const Request& request, uint64_t hash, const Now& now, Scratch* scratch, Pins pins, Outcome* outcome)
      REQUIRES_LOCK(this);
  void Remove(const Request& request, uint64_t hash, const Now& now, Scratch* scratch, Pins pins, Outcome* outcome)
      REQUIRES_LOCK(this);
  bool GiveValue(Ref ref, Scratch* scratch, Pins pins, Outcome* outcome) REQUIRES_LOCK(this);
  void Describe(const EntryHeader* entry, const Now& now, Outcome* outcome) const REQUIRES_LOCK(this);
  // Gives the entry this expiry and this end of its freshness; with kKeepExpiry neither. On failure it is as it was,
  // but may have moved.
  Status Retime(Ref* ref, std::string_view key, const Ends& ends, uint64_t hash, const Now& now) REQUIRES_LOCK(this);
  // Before a record is applied while recovering: takes out expired entries, as far as its own needs the room.
  void MakeRoomFromExpired(const RecordView& record, const Now& now) REQUIRES_LOCK(this);
  struct Incoming;
  Status ApplySet(const Incoming& in, const Now& now) REQUIRES_LOCK(this);
  Status ApplyExpiredSet(const Incoming& in) REQUIRES_LOCK(this);
  Status ApplyTouch(const Incoming& in, const Now& now) REQUIRES_LOCK(this);
  Status ApplyDelete(const Incoming& in) REQUIRES_LOCK(this);
  bool LeaveDeleteOf(const Incoming& in) REQUIRES_LOCK(this);
  void RemoveAbsent(const Request& request, Found found, uint64_t hash, Outcome* outcome) REQUIRES_LOCK(this);
  // Tests the verb's conditions on the look-up: kStored if they hold, otherwise the answer.
  Status Condition(const Request& request, Found found) const REQUIRES_LOCK(this);
  // A storing verb without room: kSet removes the old entry, as memcached does.
  Status Refuse(Status status, Verb verb, std::string_view key, uint64_t hash, Outcome* outcome) REQUIRES_LOCK(this);

  void TookFreshPage() REQUIRES_LOCK(this) override;
  void MovedChunk(Ref from, Ref to) REQUIRES_LOCK(this) override;
  void MovedOverflowBucket(Ref from, Ref to) REQUIRES_LOCK(this) override { table_.MovedOverflowBucket(from, to); }
  uint64_t HashOfEntry(Ref ref) REQUIRES_LOCK(this) override { return HashOf(memory_.KeyOf(At(ref))); }

  class RemovedView;

  char* base_;
  ShardState* state_ PT_GUARDED_BY(this);
  Config config_;
  EntryMemory memory_;
  HashTable table_ GUARDED_BY(this);
  LruList lru_ GUARDED_BY(this);
  TimerWheel wheel_ GUARDED_BY(this);
  Recorder recorder_;
  Walks walks_ GUARDED_BY(this);
  Bodies bodies_ GUARDED_BY(this);
  Growth growth_ GUARDED_BY(this);
  RemovalSink* removals_ = nullptr;
  FillWatch fills_ GUARDED_BY(this);
};

// Holds a shard's lock, and nothing more: for what leaves neither records nor removals. See Store::ShardHold.
class SCOPED_CAPABILITY ShardGuard {
 public:
  explicit ShardGuard(const Shard* shard) ACQUIRE(shard) : shard_(shard) { shard->Lock(); }
  ~ShardGuard() RELEASE() { shard_->Unlock(); }
  ShardGuard(const ShardGuard&) = delete;
  ShardGuard& operator=(const ShardGuard&) = delete;

 private:
  const Shard* const shard_;
};

}  // namespace cairn
