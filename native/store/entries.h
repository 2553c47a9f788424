// The entries of a shard that keys lead to: a table finds them by key, a list orders them by last use, a wheel by
// expiry, walks visit them. Enter() and Leave() are the only ways in and out. They keep all of these in step, and tell
// the counters, the recorder and the removal sink.
//
// Thread safety: none; the shard's lock guards it, except HintBucket() and Prefetch*() as they say.
// Ownership: the bytes are the EntryMemory's.
// Invariants (Verify()):
//   (1) an entry is in the table if and only if it is in the list; in the wheel if and only if it has an expiry;
//   (2) entries of a version below cleared_version are dead: no look-up finds them; they are the cold end of the list;
//   (3) once the touches are settled, the list is in the exact order of the last uses.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string_view>

#include "base/hash.h"
#include "store/debts.h"
#include "store/entry_memory.h"
#include "store/fill_watch.h"
#include "store/hash_table.h"
#include "store/key_list.h"
#include "store/lru_list.h"
#include "store/population.h"
#include "store/presence.h"
#include "store/recorder.h"
#include "store/removal.h"
#include "store/shard_state.h"
#include "store/timer_wheel.h"
#include "store/walks.h"

namespace cairn {

// Whether the removal sink is told of an entry that leaves: not if an entry with the same value follows it.
enum class Farewell : uint8_t { kTold, kUntold };
// kGet counts an entry that it finds expired.
enum class Purpose : uint8_t { kGet, kOther };

class Entries final : private EntryHasher {
 public:
  Entries(ShardState* state, uint32_t* directory, const ShardConfig& config, EntryMemory* memory, Recorder* recorder)
      : state_(state),
        base_(memory->arena()->At(0)),
        memory_(memory),
        recorder_(recorder),
        hash_(config.hash),
        secrets_(config.secrets),
        nothing_(config.backends != nullptr ? Presence::kUnknown : Presence::kAbsent),
        table_(memory->arena(), &state->table, directory, this),
        lru_(memory->arena(), &state->lru),
        wheel_(memory->arena(), &state->wheel),
        walks_(&state->walks, memory, &lru_, &state->population),
        debts_(&state->debts, memory, config.backends, config.index),
        stub_key_(config.backends != nullptr ? new char[kKeyBytesMax] : nullptr) {}
  Entries(const Entries&) = delete;
  Entries& operator=(const Entries&) = delete;

  // Makes the first page of the table. False: it does not fit.
  [[nodiscard]] bool Init() { return table_.Init(); }
  // Set before the first request or never.
  void SetRemovalSink(RemovalSink* sink) { removals_ = sink; }
  RemovalSink* removal_sink() const { return removals_; }
  uint64_t HashOf(std::string_view key) const { return TableHash(hash_, key, secrets_); }

  // ---- finding ----

  // Of any state: also dead, expired and stale ones.
  Ref Find(std::string_view key, uint64_t hash) const;
  // The entry under the key, if a request may find it. Removes a dead or expired entry.
  [[gnu::always_inline]] Found Lookup(std::string_view key, uint64_t hash, const Now& now, Purpose purpose,
                                      StaleIs stale_is);
  // The same, and changes nothing.
  Found Look(std::string_view key, uint64_t hash, const Now& now, StaleIs stale_is) const;
  bool IsDead(const EntryHeader* entry) const { return state_->population.IsDead(entry); }

  // Prefetches the bucket while the lock is being taken. It reads the table's state without the lock, so the state may
  // be stale or half changed; the result is used as the address of a prefetch only. Only an address in the directory is
  // dereferenced, which is in the mapping for any level and split.
  NO_SANITIZE_THREAD void HintBucket(uint64_t hash) const { __builtin_prefetch(table_.HintOf(hash)); }
  // The stages of prefetching for a group of requests; see Store::ExecuteMany.
  void PrefetchBucket(uint64_t hash) const { __builtin_prefetch(table_.BucketOf(hash)); }
  void PrefetchEntry(uint64_t hash) const;
  void PrefetchValue(uint64_t hash) const;

  // ---- coming and going ----

  // Makes an entry of the bytes in memory slot `slot`, as the newest. False: no room in the table, not even by evicting
  // an entry of the same bucket that is not owed.
  bool Enter(int slot, uint64_t hash, uint8_t walk_bits);
  // Removes the entry, or the stub, and frees it; a pinned entry stays unlinked until it is unpinned. `reason` is that
  // of a live entry: a dead one has left with the clear. An owed entry that is evicted, expires or was cleared becomes
  // a stub, which is returned; 0: there is none. If there is no memory for the stub, the entry stays, and is returned
  // (Stayed()): a debt is never forgotten. May move other entries, and this one if it stays.
  // REQUIRES: memory slot 0 is empty, if the entry is owed and becomes a stub.
  Ref Leave(Ref ref, Reason reason, uint64_t hash, Farewell farewell = Farewell::kTold);
  Ref Leave(Ref ref, Reason reason) { return Leave(ref, reason, HashOfEntry(ref)); }
  // Whether Leave() returned the entry itself. One that stays is chunked or pinned: no store writes over it in place.
  bool Stayed(Ref left) const { return left != 0 && !IsStub(At(left)); }
  // The key is deleted by a record that the backend will not have at first: from now on it has a stub that says so,
  // whose version the caller then writes (SetGone()). `ref`: what Find() gives for it. 0: there is no memory, and
  // nothing was changed. REQUIRES: there is a backend.
  Ref LeaveGone(Ref ref, std::string_view key, uint64_t hash, Reason reason);
  void SetGone(Ref stub, uint64_t version) {
    StubInfo info;
    info.newest_version = version;
    debts_.Write(At(stub), info);
  }
  // An owed entry becomes a stub, though a request is about to replace it. False: no memory, and nothing was changed.
  bool LeaveForStub(Ref ref, uint64_t hash, Reason reason);
  // Puts a stub under a key, in place of what is there. 0: no memory, or only owed keys in a full chain of the table,
  // and nothing was changed.
  Ref EnterStub(std::string_view key, uint64_t hash, const StubInfo& info);
  // The same in two steps, for a key that has nothing. AllocateStub() makes it in memory slot 0, which has to be empty;
  // false: no memory. EnterSlotAsStub() enters what is there; 0: it is as it was.
  [[nodiscard]] bool AllocateStub(std::string_view key, const StubInfo& info);
  Ref EnterSlotAsStub(uint64_t hash, const StubInfo& info);
  // Adds to `wanted` the buckets without which a chain has no places for `count` more entries that may not be evicted,
  // in place of all that may. False: the chain would be too long.
  bool CountBuckets(uint32_t bucket_index, uint64_t count, uint64_t* wanted) const;
  HashTable* table() { return &table_; }
  // The stub of the key says something else from now on. False: that needs other memory, and nothing was changed.
  bool RewriteStub(Ref stub, std::string_view key, const StubInfo& info);
  // What the stub says, or would say, of a key that is owed and that no request finds.
  StubInfo InfoOf(Ref ref) const {
    return IsStub(At(ref)) ? debts_.InfoOf(At(ref)) : debts_.StubFor(At(ref), state_->recovering);
  }
  // The stub leaves if the backend has all that it says: true. If the backend has the value alone, it is one of an
  // expiry. Loads that began before may have read an older row: `fills` voids them.
  bool SettleStub(Ref stub, uint64_t hash, FillWatch* fills);
  // Frees stubs whose records the backend has, at the cost of 1 of *budget for each that is visited. Loads that began
  // beside a stub may have read the row before it was written: `fills` voids them.
  void FreeStubs(FillWatch* fills, int* budget);
  // Tells the removal sink of a value that is about to go while its entry stays.
  void Announce(Reason reason, const EntryHeader* entry) {
    if (removals_ != nullptr) [[unlikely]]
      AnnounceTo(removals_, reason, entry);
  }
  // Lets the table grow or shrink by a step, if that is due. May move entries.
  void Adjust() { table_.Adjust(); }

  // While it exists, the value's size and the expiry of an entry may change where they are.
  class Edit {
   public:
    Edit(Entries* entries, Ref ref) : entries_(entries), ref_(ref), entry_(entries->At(ref)) {
      if (IsTimed(entry_)) entries_->wheel_.Remove(ref_);
      entries_->state_->population.payload_bytes -= entry_->value_bytes;
    }
    ~Edit() {
      entries_->state_->population.payload_bytes += entry_->value_bytes;
      if (IsTimed(entry_)) entries_->wheel_.Add(ref_);
    }
    Edit(const Edit&) = delete;
    Edit& operator=(const Edit&) = delete;

   private:
    Entries* entries_;
    Ref ref_;
    EntryHeader* entry_;
  };

  // ---- the order ----

  // The ends of the list; 0: it is empty. REQUIRES: touches are settled.
  Ref newest() const { return lru_.head(); }
  Ref oldest() const { return lru_.tail(); }
  // A place that has the newest entry's Ref, wherever it moves.
  const Ref* newest_address() const { return lru_.head_address(); }
  // Makes the entry the newest. REQUIRES: touches are settled.
  void Bump(Ref ref);
  // Notes that the entry is to become the newest.
  void BumpLater(Ref ref);
  // An entry was read: marks it fetched, stamps the access, and notes the hit.
  void Use(Ref ref, EntryHeader* entry, const Now& now) {
    entry->flags |= kEntryFetched;
    StampAccess(entry, now);
    BumpLater(ref);
  }
  // Moves the noted entries to the front. Call it before reading the order, and before moving or removing entries.
  void SettleTouches() {
    if (state_->touches.count != 0) SettleTouchesNow();
  }
  void CountHit() { state_->touches.hits++; }
  void CountMiss() { state_->touches.misses++; }

  // ---- all of them ----

  // Makes every live entry dead; their memory is freed by Reclaim(). Returns their number. REQUIRES: touches are
  // settled, no entry has a version of `version` or above.
  uint64_t Bury(uint64_t version);
  // The same by removing them, whatever versions there are: for a clear that is read back.
  uint64_t LeaveBelow(uint64_t version);
  uint64_t cleared_version() const { return state_->population.cleared_version; }
  // Frees at most kStepEntriesMax dead entries. True: there are more.
  bool Reclaim();
  // Removes expired entries, at the cost of *budget (see TimerWheel::Advance). False: none is left, or none of budget.
  bool ExpireOne(const Now& now, int* budget);
  bool has_timed() const { return !wheel_.empty(); }
  // The backend has everything: nothing is owed, and no stub stays.
  void SettleAll(FillWatch* fills);
  // Gives every entry a version of epoch 0, counted from `counter` in the order of the list. Returns the last.
  uint64_t Renumber(uint64_t counter);
  Debts* mutable_debts() { return &debts_; }
  const Debts& debts() const { return debts_; }
  // Entries that have a value and are not dead.
  uint64_t live() const { return state_->population.live_entries - debts_.negative_count(); }
  // All that the list has: dead and negative ones included, stubs not.
  uint64_t count() const { return state_->population.entries(); }

  // The walks, with the order settled.
  Walks* walks() {
    SettleTouches();
    return &walks_;
  }
  uint8_t emitted_bits() const { return walks_.emitted_bits(); }
  bool CleanAbandonedWalks() { return !walks_.any_open() || walks_.CleanAbandoned(); }

  // One step of a list of keys from *offset on, which it moves; true: behind the last. key_list.cc.
  bool ListKeys(const Now& now, uint64_t* offset, KeyListStep* step) const;

  // ---- of the arena's mover ----

  // An entry that is in the list has moved.
  void Moved(Ref from, Ref to);
  void MovedOverflowBucket(Ref from, Ref to) { table_.MovedOverflowBucket(from, to); }

  // ---- looking ----

  void AddStats(StoreStats* stats) const;
  // What entries are charged together, and those of them that are pinned.
  struct Charges {
    uint64_t charged = 0;
    uint64_t pinned = 0;
  };
  Charges Verify();

 private:
  class RemovedView;

  EntryHeader* At(Ref ref) const { return reinterpret_cast<EntryHeader*>(base_ + uint64_t{ref} * kGranuleBytes); }
  uint64_t HashOfEntry(Ref ref) override { return HashOf(memory_->KeyOf(At(ref))); }
  // False: no room.
  bool EmitKey(Ref ref, KeyListStep* step) const;
  // A look-up has found an entry that is no live one with a value: a stub, a dead, expired or negative entry.
  [[gnu::noinline]] Found MeetUnusual(Ref ref, Reason reason, uint64_t hash, const Now& now);
  // Of a stub, or of an owed entry that is dead or has expired.
  Found FoundStub(Ref ref, const Now& now) const;
  // Puts what is in a memory slot into the table, also in place of an entry of the same chain that is not owed.
  [[gnu::always_inline]] bool InsertSlot(int slot, uint64_t hash);
  // Takes the entry out of list, wheel and walks, and tells of it.
  template <bool kMayBeNegative>
  [[gnu::always_inline]] void Unlink(Ref ref, Reason reason, Farewell farewell);
  // Frees the memory, once no reader holds it.
  [[gnu::always_inline]] void Free(Ref ref);
  // Takes the entry out of the table, and frees it.
  [[gnu::always_inline]] void Release(Ref ref, uint64_t hash);
  // Leave() of a stub, of a negative entry, and of an entry that may be owed.
  [[gnu::noinline]] Ref LeaveOwing(Ref ref, Reason reason, uint64_t hash, Farewell farewell);
  // An entry of a full hash chain that gives way; 0: all of them are owed.
  [[gnu::noinline]] Ref FloodVictim(uint64_t hash);
  // The entry leaves, and a stub has its place in the table; its memory too, if that has the size of one. The stub's
  // memory is taken first: without it, nothing is changed, and the entry is returned.
  Ref LeaveStub(Ref ref, uint64_t hash, const StubInfo& info, Reason reason, Farewell farewell);
  void AnnounceTo(RemovalSink* sink, Reason reason, const EntryHeader* entry) const;
  // What a look-up finds that finds no entry.
  Found Nothing() const { return {0, nothing_}; }
  void SettleTouchesNow();
  void VerifyChunks(Ref ref) const;
  uint64_t VerifyStubs();
  void VerifyTable();

  ShardState* state_;
  char* base_;  // the arena's, here to save a load in every look-up
  EntryMemory* memory_;
  Recorder* recorder_;
  const HashKind hash_;
  const HashSecrets secrets_;
  const Presence nothing_;
  HashTable table_;
  LruList lru_;
  TimerWheel wheel_;
  Walks walks_;
  Debts debts_;
  std::unique_ptr<char[]> stub_key_;  // of the entry that becomes a stub
  RemovalSink* removals_ = nullptr;
};

}  // namespace cairn
