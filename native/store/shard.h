// A Shard holds one slice of the key space: an arena for the bytes, a table that finds entries by key, a list that
// orders them by recency, a wheel that orders them by expiry. It decides what is evicted, gives every mutation its
// version, and offers its record to a sink: all in one place, Commit().
//
// Thread safety: the methods below Lock() require that the caller holds the lock; nothing is called under it but what
// lies in store/ and the two sinks.
// Ownership: the state lies in the mapping (ShardState and behind it); this object is one process's view of it.
// Invariants (Verify()):
//   (1) an entry is in the table if and only if it is in the list; in the wheel if and only if it has an expiry;
//   (2) charged_bytes is the sum of the charges of linked entries, of unlinked ones that are still pinned, and of
//       bodies; it never exceeds limit_bytes while unlocked, except between a shrinking and its last step;
//   (3) entries of a version below cleared_version are dead: no request meets them; they form the cold end of the list;
//   (4) versions rise by one per mutation;
//   (5) the arena's and the wheel's own.
#pragma once

#include <algorithm>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <string_view>

#include "base/hash.h"
#include "base/os.h"
#include "store/arena.h"
#include "store/change_ring.h"
#include "store/entry.h"
#include "store/fill_watch.h"
#include "store/hash_table.h"
#include "store/lru_list.h"
#include "store/record.h"
#include "store/removal.h"
#include "store/request.h"
#include "store/store.h"
#include "store/timer_wheel.h"

namespace cairn {

// What an entry counts for its place in the table: a bucket of 64 bytes holds 9.6 or so, and overflow comes on top.
inline constexpr uint64_t kIndexShareBytes = 8;
// Pages that a step of making room empties under one hold of the lock.
inline constexpr int kEvacuationsPerStep = 4;
// What large pages have.
inline constexpr uint64_t kLargePageBytes = uint64_t{2} << 20;
// Before this much is left of the large page that a shard grows into, the next one is made ready...
inline constexpr uint64_t kAheadLeadBytes = kLargePageBytes / 4 * 3;
// ... and given back when the shard has not grown for so long, unless a page or so is left.
inline constexpr uint64_t kAheadIdleMs = 40;
inline constexpr uint64_t kAheadKeptBytes = kLargePageBytes / 64;
// Bodies that are being received at the same time, per shard. Slot 0 is the shard's own, for an insert in progress.
inline constexpr int kBodiesMax = 64;

// Hits that a shard collects before it moves their entries to the front. The moves need two or three cache lines each
// that nothing else needs; done one by one, every hit waits for them (an unlock cannot pass a store that misses). So a
// hit only asks for these lines, and by the time that its entry is moved they are there. The order is still exact: the
// moves are done, in their order, before anything looks at it.
inline constexpr uint32_t kTouchesMax = 31;

struct WalkState {
  bool open;
  uint8_t order;        // Cursor::Order
  uint32_t generation;  // raised when the slot is given to another walk
  Ref next;             // the entry to visit next; 0: at the end
  uint64_t unemitted;   // live entries that were there at the start, still are, and have not been emitted
  uint64_t last_step;   // of ShardState::walk_steps
};

// Everything of a shard that lies in the mapping, but for the page descriptors, the directory and the pages behind it.
struct ShardState {
  alignas(64) OsLock lock;
  uint32_t epoch;         // of the versions given from now on
  uint32_t newest_epoch;  // of the versions in the shard
  TableState table;
  LruState lru;
  alignas(64) uint64_t version_counter;
  uint64_t cleared_version;  // entries of a lower version are dead
  uint64_t charged_bytes;
  uint64_t limit_bytes;  // follows limit_target_bytes down in steps
  uint64_t limit_target_bytes;
  uint64_t entries_limit;  // total; 0 = none
  uint64_t entries_limit_target;
  uint64_t live_entries;
  uint64_t dead_entries;
  Ref newest_dead;  // dead entries are the cold end of the list; 0: there are none
  uint64_t payload_bytes;
  uint64_t body_bytes;    // charged for bodies
  uint64_t pinned_bytes;  // charged for entries with pins, linked or not
  uint64_t memory_bytes;
  uint64_t value_bytes_max;
  uint8_t open_walks;   // bit per slot: open, or given up half-way and not yet cleaned
  uint8_t mark_parity;  // bit per slot: the mark that says "emitted"
  uint64_t walk_steps;
  WalkState walks[kCursorsPerShard];
  Ref bodies[kBodiesMax];
  uint32_t body_generations[kBodiesMax];  // raised when the slot's body was given up, or taken away
  // When it was begun or written to last. 0: by somebody who is never slow, or it is whole and waits for the log.
  uint64_t body_written_ms[kBodiesMax];
  // Hits whose move to the front of the list is still to be done, in order; see kTouchesMax.
  alignas(64) uint32_t touch_count;
  Ref touches[kTouchesMax];
  WheelState wheel;
  ArenaState arena;
  StoreStats counters;  // only the counters since opening
  // What a request that finds nothing may be told because of: the version of the last delete, clear, or touch that gave
  // an expiry, and of the newest entry that was evicted or expired. Only kept where there are records; those that are
  // read back need not count, as the log has them.
  alignas(64) uint64_t gone_version;
  // Memory that was made ready ahead of growth; see BeginAhead(). Of the shard's region, up to where memory is there.
  uint64_t ahead_end;
  uint64_t ahead_grew_ms;
  uint32_t ahead_pages_seen;  // ArenaState::pages_touched
  bool ahead_given_back;      // of the present large page
  bool recovering;            // see Store::SetRecovering
  RingState ring;
};

class Shard final : private ChunkMover, private EntryHasher {
 public:
  struct Config {
    HashKind hash;
    HashSecrets secrets;
    bool track_access;
    const SizeClasses* classes;
    uint64_t header_bytes;  // of the region before the first page, the ring included, which is its end
    uint64_t ring_bytes;
    uint32_t pages_ceiling;
    uint64_t large_bytes;  // of the region, what has large pages; 0: nothing
  };

  // Bytes of state, descriptors and directory for so many pages, rounded up to whole pages.
  static uint64_t HeaderBytes(uint32_t pages, uint64_t page_bytes);
  // Pages that no charge may use: one for each class, those for pins, and the table's last.
  static uint32_t ReservePages(const SizeClasses& classes, bool has_ring);

  Shard(char* base, const Config& config);
  Shard(const Shard&) = delete;
  Shard& operator=(const Shard&) = delete;
  // Sets up the zeroed mapping. False: not even the first page of the table fits.
  [[nodiscard]] bool Init(uint64_t memory_bytes, uint64_t entries_limit, uint32_t epoch);

  OsLock* lock() const { return &state_->lock; }
  // Does the moves that hits have left behind. Whatever looks at the order, or moves or removes entries, calls it
  // first.
  void SettleTouches() {
    if (state_->touch_count != 0) SettleTouchesNow();
  }
  uint64_t header_bytes() const { return config_.header_bytes; }
  uint64_t HashOf(std::string_view key) const { return TableHash(config_.hash, key, config_.secrets); }

  // Starts fetching the bucket while the lock is still being taken. Reads the table's state without the lock: what it
  // gets may be stale or half changed, and is used as the address of a prefetch only. No address that it can compute is
  // dereferenced but the directory's, which lies in the mapping for any level and split.
  NO_SANITIZE_THREAD void HintBucket(uint64_t hash) const { __builtin_prefetch(table_.HintOf(hash)); }

  // ---- under the lock ----

  void Execute(const Request& request, uint64_t hash, const Now& now, Scratch* scratch, bool may_pin, Outcome* outcome);

  // See Store::GetPlain and SetPlain. In line: shard_inl.h.
  Status GetPlain(std::string_view key, uint64_t hash, const Now& now, char* room, size_t capacity, PlainValue* value);
  template <bool kLogged>
  Status SetPlain(std::string_view key, std::string_view value, Codec codec, uint64_t expires_ms, uint64_t hash,
                  const Now& now);

  // Stages of prefetching for a group of requests; see Store::ExecuteMany.
  void PrefetchBucket(uint64_t hash) const { __builtin_prefetch(table_.BucketOf(hash)); }
  void PrefetchEntry(uint64_t hash) const;
  void PrefetchValue(uint64_t hash) const;

  // An append or prepend that would copy more than kConcatCopiedBytesMax under one hold of the lock is done in steps:
  // Concat() with `steps`, which then has a slot; CopyConcat() for the old value, WriteBody() for what is added;
  // EndConcat(). False from one of the latter two: the entry is another one now, Abandon() the slot and begin again.
  struct ConcatSteps {
    int slot = 0;              // 0: it is done, *outcome says how; unless
    bool wants_room = false;   // another call is to go on making room
    bool room_in_one = false;  // given: no, this one makes all of it
    uint64_t version = 0;
    uint32_t old_bytes = 0;
  };
  void Concat(const Request& request, uint64_t hash, const Now& now, Outcome* outcome, ConcatSteps* steps);
  bool CopyConcat(const ConcatSteps& steps, std::string_view key, uint64_t hash, size_t from, size_t to, size_t bytes);
  bool EndConcat(const ConcatSteps& steps, const Request& request, uint64_t hash, const Now& now, Outcome* outcome);

  // One step of making room for a Reserve() to come, so that no hold of the lock evicts or moves more than a little.
  // True: there is more to do.
  bool MakeRoomStep(const Request& request, uint32_t value_bytes, const Now& now);
  Status Reserve(const Request& request, uint64_t hash, uint32_t value_bytes, const Now& now, int* slot);
  void WriteBody(int slot, size_t offset, std::string_view bytes, const Now& now);
  uint32_t BodyGeneration(int slot) const { return state_->body_generations[slot]; }
  void Link(int slot, const Request& request, uint64_t hash, const Now& now, Outcome* outcome);
  void Abandon(int slot);
  void Unpin(Ref ref);
  bool BeginFill(std::string_view key, uint64_t hash, bool if_absent, const Now& now, FillTicket* ticket);
  void EndFill(FillTicket* ticket) { fills_.End(ticket); }
  void VoidFills() { fills_.VoidAll(); }

  // Makes all entries dead. With a sink and `leave_record`, leaves the barrier record; 0 if the log had no room.
  // `epoch` is that of the versions from now on: the present one if there is no higher one left.
  uint64_t Clear(uint32_t epoch, bool leave_record, bool is_due, const Now& now, uint64_t* entries);
  // Leaves the record of a clear that is to come at this time, or, with 0, of that none is. Its version; 0: no room.
  // REQUIRES: there is a sink.
  uint64_t LeaveClearAt(int64_t wall_ms);
  // The effect of a barrier record that is read back: entries of an epoch below its version's are gone. Count of them.
  uint64_t ApplyClear(uint64_t version);
  // At most kStepEntriesMax entries; true: there is more to do.
  bool MaintainStep(const Now& now);
  void SetValueBytesMax(uint64_t bytes) { state_->value_bytes_max = bytes; }
  uint64_t live_entries() const { return state_->live_entries; }
  void SetLimits(uint64_t memory_bytes, uint64_t entries_limit);
  // One step towards the limits; true when they are reached. *moved is set if it came nearer: otherwise bodies and pins
  // hold it up.
  bool ShrinkStep(bool* moved);
  int BeginReturn(uint32_t* pages, int count, bool shrinking);
  void EndReturn(const uint32_t* pages, int count) { arena_.EndReturn(pages, count); }
  char* PageAddress(uint32_t page_plus_1) const { return arena_.PageAddress(page_plus_1); }

  // The first touch of a large page takes long: all of it is cleared, and a virtual machine may have to get it from its
  // host first. So upkeep touches the next one while the shard grows into the present one, one at most, and gives it
  // back when the shard grows no further. `what` is to be done with the memory at `address` without the lock;
  // EndAhead() comes after kGiveBack. `shrinking`: gives back what is beyond the limit, and nothing else.
  struct AheadStep {
    enum class What : uint8_t { kNothing, kPopulate, kGiveBack } what = What::kNothing;
    char* address = nullptr;
    size_t bytes = 0;
  };
  AheadStep BeginAhead(const Now& now, bool shrinking);
  void EndAhead() { arena_.OpenUnused(); }
  // Something is ready that will have to be given back if the shard does not grow.
  bool MayGiveAheadBack() const { return AheadBytes() != 0 && !IsAtLargePageEnd(); }

  // Slot for a walk; the least recently used one if all are taken. *ready false: the slot must be cleaned first, by
  // calling CleanWalk until it returns true.
  int OpenWalk(Cursor::Order order, bool* ready);
  bool CleanWalk(int slot);
  uint32_t StartWalk(int slot, Cursor::Order order);
  uint32_t WalkGeneration(int slot) const { return state_->walks[slot].generation; }
  bool WalkIsCurrent(int slot, uint32_t generation) const {
    return state_->walks[slot].open && state_->walks[slot].generation == generation;
  }
  size_t StepWalk(int slot, const Now& now, bool with_values, WalkedEntry* entries, size_t count, Scratch* scratch,
                  bool* done, size_t* bytes_needed);
  void CloseWalk(int slot, uint32_t generation);
  // One step of going the rest of the way of walks that were given up; true when there are none.
  bool CleanAbandonedWalks();

  Status Apply(const RecordView& record, uint64_t hash, const Now& now, bool keep_version);
  void SetRecovering(bool recovering) { state_->recovering = recovering; }

  // What Outcome::commit_version says of it. REQUIRES: in the same hold of the lock as the request.
  uint64_t CommitVersionOf(const Outcome& outcome) const {
    if (outcome.record_version != 0) return outcome.record_version;
    return outcome.version != 0 ? outcome.version : state_->gone_version;
  }
  uint64_t last_version() const { return (uint64_t{state_->epoch} << kVersionCounterBits) | state_->version_counter; }
  // Gives every entry a version of epoch 0, from this counter on.
  void Renumber(uint64_t counter);
  // A version came in with a record: later ones are higher.
  void NoteVersion(uint64_t version) {
    cleared_at_ = 0;  // what comes with it need not be younger than the last version that was given
    if (EpochOf(version) < state_->epoch) return;
    state_->epoch = EpochOf(version);
    state_->version_counter = std::max(state_->version_counter, version & kVersionCounterMask);
  }
  // From now on versions are of this epoch at least, and count from there at least.
  void StartEpoch(uint32_t epoch, uint64_t counter) {
    state_->epoch = std::max(state_->epoch, epoch);
    state_->version_counter = std::max(state_->version_counter, counter);
  }
  // No version was given since the last clear, and none came in.
  bool is_as_cleared() const { return cleared_at_ == last_version(); }
  ChangeRing* ring() { return &ring_; }
  // True: there is more of what was drained to be freed.
  bool CommitRingStep();

  StoreStats Stats() const;
  void ResetStats();
  void Verify();

  // ---- without the lock ----

  void ReadPinned(const Pin& pin, size_t offset, char* data, size_t bytes) const;
  void SetRecordSink(RecordSink* sink) { records_ = sink; }
  bool has_ring() const { return config_.ring_bytes != 0; }
  void SetRemovalSink(RemovalSink* sink) { removals_ = sink; }
  RemovalSink* removal_sink() const { return removals_; }
  bool has_record_sink() const { return records_ != nullptr; }
  // What the entries may be charged with this memory; 0 if it does not even hold the reserves.
  uint64_t LimitFor(uint64_t memory_bytes) const;
  uint32_t PagesFor(uint64_t memory_bytes) const;

 private:
  // What is to be stored: sizes and metadata decide the layout, the pieces are written later.
  struct NewEntry {
    std::string_view key;
    uint64_t value_bytes = 0;
    Codec codec = Codec::kRaw;
    uint32_t client_flags = 0;
    uint64_t expires_ms = kNeverExpires;
    uint16_t extra_flags = 0;  // kEntryFetched
    bool value_may_change = false;
  };
  struct Layout {
    uint16_t flags;
    bool long_key;
    int size_class;         // of the head
    uint32_t inline_key;    // key bytes in the head, if chunked
    uint64_t chunk_stream;  // bytes of the stream in chunks
    uint64_t charge;
  };
  EntryHeader* At(Ref ref) const { return reinterpret_cast<EntryHeader*>(arena_.At(ref)); }
  ChunkHeader* ChunkAt(Ref ref) const { return reinterpret_cast<ChunkHeader*>(arena_.At(ref)); }
  bool IsDead(const EntryHeader* entry) const { return entry->version < state_->cleared_version; }
  static bool IsExpired(const EntryHeader* entry, const Now& now) {
    static_assert(kNeverExpires == 0);  // so that it is the latest of all below
    return (entry->flags & kEntryHasExpiry) && ExpiryOf(entry)->expires_ms - 1 < now.boot_ms;
  }

  bool KeyEquals(const EntryHeader* entry, std::string_view key) const;
  HashTable::Slot FindSlot(std::string_view key, uint64_t hash) const;
  Ref Find(std::string_view key, uint64_t hash) const;
  // The live entry under the key; one that is dead or has expired is removed on the way.
  Ref Lookup(std::string_view key, uint64_t hash, const Now& now, bool is_get);

  // Copies stream bytes (key, then value) of an entry from `offset` on.
  void ReadStream(const EntryHeader* entry, size_t offset, char* data, size_t bytes) const;
  void WriteStream(EntryHeader* entry, size_t offset, const char* data, size_t bytes);
  template <class Visit>
  void VisitStream(const EntryHeader* entry, size_t offset, size_t bytes, Visit visit) const;
  std::string_view KeyOf(const EntryHeader* entry) const;  // may use key_buffer_

  Layout LayoutOf(const NewEntry& entry) const;
  // The chunks of a stream, in their order: whole pages, large chunks (fewer than fill a page), one for the rest.
  struct Chunks {
    uint64_t wholes;
    uint64_t larges;
    uint64_t rest_bytes;  // 0: no chunk
  };
  Chunks ChunksOf(uint64_t stream_bytes) const;
  int ClassOfRest(const Chunks& chunks) const;
  uint64_t ChargeOf(const Chunks& chunks) const;
  // Takes the last one off: its size class and how many bytes of the stream it holds.
  int TakeLast(Chunks* chunks, uint64_t* data_bytes) const;
  // A charged piece of memory; 0: none. May move what is not pinned.
  Ref AllocateChunk(int size_class);
  void FreeChunk(Ref ref);
  char* FirstChunkLink(Ref owner) const { return BytesOf(At(owner)) + OffsetsOf(At(owner)).first_chunk; }
  // Puts a chunk before those of a chunked entry; takes the first one off again.
  void PushChunk(Ref owner, Ref added, uint64_t data_bytes);
  Ref PopChunk(Ref owner);
  // Pages that an entry of this layout has a part of at most, and that a pin therefore may hold; whole ones need none.
  uint32_t PinnedPagesOf(const Layout& layout) const;
  uint64_t ChargeOf(const EntryHeader* entry, Ref ref) const;
  // Allocates an unlinked entry in body slot `slot`, header and fields written, stream not. False: no memory.
  bool AllocateEntry(const NewEntry& entry, const Layout& layout, int slot);
  void FreeEntry(Ref ref);

  // Evicts from the cold end until the charge fits, and one more entry if `new_entry`. `keep_newest`: the newest entry
  // is not evicted. False, and nothing evicted: it does not fit beside what cannot be evicted.
  bool MakeRoom(uint64_t charge, bool new_entry, bool keep_newest);
  bool HasRoomFor(uint64_t charge, bool keep_newest) const;
  bool EvictTail();
  bool EvictMoreForPage();

  // Some of the evictions and moves that the allocation of an entry needs; true: there are more.
  bool RoomStep(const Layout& layout, bool keep_newest);
  NewEntry BodyEntryOf(const Request& request, uint32_t value_bytes) const;
  // A free slot for a body of that charge; 0 if there are too many already.
  int FreeBodySlot(uint64_t charge) const;
  // If there is none: takes those of the slowest senders away, if that helps.
  void TakeStalledBodies(uint64_t charge, const Now& now);

  // Puts the entry of body slot `slot` into the table, the list and the wheel. False: no room in the table.
  bool LinkEntry(int slot, uint64_t hash, uint8_t marks);
  // Takes it out of all three and frees it (or leaves it unlinked while pinned).
  void RemoveEntry(Ref ref, Reason reason, uint64_t hash, bool announce = true);
  void RemoveEntry(Ref ref, Reason reason) { RemoveEntry(ref, reason, HashOfEntry(ref)); }
  void Announce(Reason reason, const EntryHeader* entry);
  void Bump(Ref ref);
  void CountMiss() {
    state_->counters.gets++;
    state_->counters.misses++;
  }
  void CountHit() {
    state_->counters.gets++;
    state_->counters.hits++;
  }
  // An entry was read: what that leaves in it, and its place in the order.
  void Use(Ref ref, EntryHeader* entry, const Now& now) {
    entry->flags |= kEntryFetched;
    if (entry->flags & kEntryHasAccess) {
      StoreU32(BytesOf(entry) + OffsetsOf(entry).access, static_cast<uint32_t>(now.boot_ms / 1000));
    }
    BumpLater(ref);
  }
  void BumpLater(Ref ref) {
    // Its neighbours now are most probably those that will be written to when it is moved.
    const EntryHeader* entry = At(ref);
    __builtin_prefetch(At(entry->lru_prev), 1);
    __builtin_prefetch(At(entry->lru_next), 1);
    state_->touches[state_->touch_count] = ref;
    if (++state_->touch_count == kTouchesMax) SettleTouches();
  }
  void SettleTouchesNow();
  // Makes every live entry dead.
  void BuryAll();
  void StepOverForWalks(Ref ref);
  void EndWalk(int slot);
  Ref WalkStart(bool oldest_first) const;

  // Stores an entry in place of `old` (0: none). `version` 0: the next one.
  Status Put(const NewEntry& entry, std::string_view value, uint64_t hash, Ref old, uint64_t version, const Now& now,
             Outcome* outcome);
  // The same entry with a longer value and/or another expiry, its order of recency, marks and version kept. Updates
  // *ref. kNoMemory, and nothing changed, if there is no room beside the old one.
  Status Rebuild(Ref* ref, const NewEntry& entry, std::string_view before, std::string_view behind, uint64_t hash,
                 const Now& now, bool announce);
  bool FitsAtAll(const NewEntry& entry, const Layout& layout) const {
    return entry.value_bytes <= state_->value_bytes_max && layout.charge <= state_->limit_bytes;
  }
  // Stores it where `old` is, if that has room for exactly such an entry. False: nothing was changed.
  bool PutInPlace(const NewEntry& entry, const Layout& layout, std::string_view value, Ref old, uint64_t version,
                  const Now& now);
  // A chunked entry that is not pinned, with `added` behind its value: only chunks that change their size are replaced.
  // Otherwise as Rebuild().
  Status Extend(Ref* ref, const NewEntry& entry, std::string_view added, const Now& now);
  void WriteFields(EntryHeader* entry, const NewEntry& from, const Layout& layout, const Now& now);
  void FinishStore(Ref ref, RecordKind kind, uint64_t version, const Now& now, Outcome* outcome);
  void FinishPut(const NewEntry& from, std::string_view value, Ref ref, uint64_t version, const Now& now,
                 Outcome* outcome);
  void Get(const Request& request, uint64_t hash, const Now& now, Scratch* scratch, bool may_pin, Outcome* outcome);
  void StoreValue(const Request& request, uint64_t hash, const Now& now, Outcome* outcome) {
    StoreOver(Lookup(request.key, hash, now, false), request, hash, now, outcome);
  }
  // `old`: what Lookup() found under the key.
  void StoreOver(Ref old, const Request& request, uint64_t hash, const Now& now, Outcome* outcome);
  [[gnu::noinline]] Status SetOver(Ref old, const Request& request, uint64_t hash, const Now& now) {
    Outcome outcome;
    StoreOver(old, request, hash, now, &outcome);
    return outcome.status;
  }
  bool BeginConcat(const NewEntry& from, Ref old, ConcatSteps* steps, Status* status);
  void FinishConcat(Ref ref, uint64_t hash, const Now& now, Outcome* outcome);
  void Count(const Request& request, uint64_t hash, const Now& now, Outcome* outcome);
  void Touch(const Request& request, uint64_t hash, const Now& now, Scratch* scratch, bool may_pin, Outcome* outcome);
  void Remove(const Request& request, uint64_t hash, const Now& now, Scratch* scratch, bool may_pin, Outcome* outcome);
  bool GiveValue(Ref ref, Scratch* scratch, bool may_pin, Outcome* outcome);
  void Describe(const EntryHeader* entry, const Now& now, Outcome* outcome) const;
  // False, and not pinned, if so many pages would then have pins.
  bool PinEntry(Ref ref, uint32_t pages_max, Pin* pin);
  Status SetExpiry(Ref* ref, std::string_view key, uint64_t expires_ms, uint64_t hash, const Now& now);
  // Before a record is applied while recovering: takes out expired entries, as far as its own needs the room.
  void MakeRoomFromExpired(const RecordView& record, const Now& now);
  void RemoveAbsent(const Request& request, uint64_t hash, const Now& now, Outcome* outcome);
  // Whether the verb's condition on the present entry holds: kStored, or the answer.
  Status Condition(const Request& request, Ref old) const;
  // What a storing verb does when there is no room: kSet removes the old entry, as memcached does.
  Status Refuse(Status status, Verb verb, std::string_view key, uint64_t hash, const Now& now, Outcome* outcome);

  // The one place of every mutation: room for its record, then the next version, then the record.
  // For a record without a value.
  bool ReserveRecord(size_t key_bytes) {
    if (records_ == nullptr) [[likely]]
      return true;
    return ReserveKeyRecord(key_bytes);
  }
  bool ReserveKeyRecord(size_t key_bytes);
  // For that of an entry which is about to be stored; `in_body`: its memory has been allocated already. Decides whether
  // its value will be pinned. With a ring, no room also means that only what the ring has pinned is in the entry's way.
  bool ReserveRecord(const NewEntry& entry, bool in_body = false) {
    if (records_ == nullptr) [[likely]]
      return true;
    return ReserveEntryRecord(entry, in_body);
  }
  bool ReserveEntryRecord(const NewEntry& entry, bool in_body);
  // The same for a value that may have to be pinned, or beside some that are.
  [[gnu::noinline]] bool ReserveBesidePinned(const NewEntry& entry, bool in_body);
  bool ReserveBarrier(bool is_due);
  // Whether an entry of this charge would find room if the log had what the ring keeps in place for it.
  bool RingHoldsRoom(uint64_t charge) const {
    return state_->ring.pinned_bytes != 0 && state_->body_bytes + state_->pinned_bytes + charge > state_->limit_bytes;
  }
  // Counts a request that found no memory for an entry beside the one that is there. What to answer: `status`, or that
  // it has to wait for the log, for which the ring keeps some.
  Status NoMemory(Status status) {
    const bool wait = status == Status::kNoMemory && state_->ring.pinned_bytes != 0;
    (wait ? state_->counters.log_full : state_->counters.no_memory)++;
    return wait ? Status::kLogFull : status;
  }
  uint64_t NextVersion() { return (uint64_t{state_->epoch} << kVersionCounterBits) | ++state_->version_counter; }
  void EmitEntry(RecordKind kind, Ref ref, uint64_t version, const Now& now) {
    if (records_ != nullptr) [[unlikely]]
      LeaveRecord(kind, ref, version, now);
  }
  void LeaveRecord(RecordKind kind, Ref ref, uint64_t version, const Now& now);
  // For an entry that was stored just now, from what it was made of: to read what was just written would be to wait
  // until the cache has it.
  void LeaveSetRecord(const NewEntry& from, const char* value, Ref ref, uint64_t version, const Now& now);
  static int64_t ExpiresWallMs(uint64_t expires_ms, const Now& now) {
    return expires_ms == kNeverExpires ? 0 : ExpiresWallMsByClock(expires_ms, now);
  }
  static int64_t ExpiresWallMsByClock(uint64_t expires_ms, const Now& now);
  // An absence that is told from now on may be because of this change.
  void NoteGone(uint64_t version) {
    if (records_ != nullptr) [[unlikely]]
      state_->gone_version = std::max(state_->gone_version, version);
  }
  uint64_t EmitKey(RecordKind kind, std::string_view key, const Now& now);

  // Of the region, where the large page ends that the shard grows into, and what is left of that.
  uint64_t TouchedEnd() const {
    return config_.header_bytes + uint64_t{state_->arena.pages_touched} * config_.classes->page_bytes();
  }
  uint64_t LargePageEnd() const { return (TouchedEnd() + kLargePageBytes - 1) & ~(kLargePageBytes - 1); }
  bool IsAtLargePageEnd() const {
    return LargePageEnd() - TouchedEnd() <= std::max(kAheadKeptBytes, config_.classes->page_bytes());
  }
  uint64_t AheadBytes() const { return state_->ahead_end - std::min(state_->ahead_end, LargePageEnd()); }
  bool WantsAhead() const;

  void TookFreshPage() override;
  void MovedChunk(Ref from, Ref to) override;
  void MovedOverflowBucket(Ref from, Ref to) override { table_.MovedOverflowBucket(from, to); }
  uint64_t HashOfEntry(Ref ref) override { return HashOf(KeyOf(At(ref))); }

  class RemovedView;

  char* base_;
  ShardState* state_;
  Config config_;
  Arena arena_;
  HashTable table_;
  LruList lru_;
  TimerWheel wheel_;
  ChangeRing ring_;                     // of no bytes, and never used, where there is none
  bool value_reserved_pinned_ = false;  // of the record that ReserveRecord made room for last
  uint64_t cleared_at_ = 0;             // last_version() at the end of the last clear; 0: see NoteVersion()
  RecordSink* records_ = nullptr;       // the ring, another sink, or null: no records are kept
  RemovalSink* removals_ = nullptr;
  FillWatch fills_;
  std::unique_ptr<char[]> key_buffer_;  // kKeyBytesMax; a long key in one piece. Guarded by the lock
};

}  // namespace cairn
