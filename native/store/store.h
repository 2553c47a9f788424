// A Store is one cache: its shards, their mapping, and the rule that assigns a key to a shard.
//
// Thread safety: any thread may call any method at any time between Open() and the destructor. A call takes the lock of
// one shard at a time, except a clear and an atomic batch, which take several in the order of the shards. It never
// holds one across a system call, an allocation, a callback or a wait for anything else.
// Ownership: keys and values are copied in and copied out; no pointer into the arena leaves it, except those of
// PinnedPlaces() and PinBody(), which are valid as long as the Pin. Request and Outcome hold views of the caller's
// memory only.
// Invariants: Verify().
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>

#include "base/clock.h"
#include "base/hash.h"
#include "base/limits.h"
#include "base/os.h"
#include "store/atomic_batch.h"
#include "store/change_bell.h"
#include "store/change_ring.h"
#include "store/commit_marks.h"
#include "store/cursor.h"
#include "store/debts.h"
#include "store/fill_watch.h"
#include "store/growth.h"
#include "store/key_list.h"
#include "store/record.h"
#include "store/recorder.h"
#include "store/refusal.h"
#include "store/removal.h"
#include "store/request.h"
#include "store/store_stats.h"

namespace cairn {

class Shard;
class SizeClasses;
struct ConcatSteps;

struct StoreOptions {
  // The limit on the memory of the mapping: index, headers, slack, reserves, values. At least kMemoryBytesMin.
  uint64_t memory_bytes = uint64_t{64} << 20;
  // The highest memory_bytes of Resize(); address space is reserved for it, not memory. 0: 4 x memory_bytes.
  uint64_t memory_bytes_ceiling = 0;
  // The most entries, including cleared ones whose memory is not yet freed; 0: only memory limits them.
  uint64_t entries_max = 0;
  // A power of two up to kShardCountMax; 0: chosen from the cores, then halved until a shard's quota is
  // >= max(kShardQuotaBytesMin, kValuesPerShardMin x value_bytes_max) and entries_max / shards >= kShardEntriesMin.
  uint32_t shard_count = 0;
  // Where shard_count is 0, at least this number is chosen. A power of two up to kShardCountMax.
  uint32_t shard_count_min = 1;
  // Larger values are refused with kTooLarge. At most half of what a shard can hold, and kValueBytesMax. 0: 1/1024 of
  // memory_bytes, at least 1 MiB.
  uint64_t value_bytes_max = 0;
  // Stores the time of the last access in every entry (Outcome::idle_s): four bytes each.
  bool track_access = false;
  HashKind hash = HashKind::kFast;
  // The random secrets of the table hash; tests fix them. All zero: drawn from the OS.
  HashSecrets secrets = {};
  // The epoch to open with (the version's high 32 bits). Greater than every earlier epoch of this data.
  uint32_t epoch = 1;
  // The change rings for a log, of all shards; part of memory_bytes, and at most a quarter of it. A shard's ring has a
  // power of two of bytes, always at least kRingBytesMin. Values are then at most kLoggedValueBytesMax. 0: no rings,
  // nothing is recorded.
  uint64_t ring_bytes = 0;
  // There is a database behind the cache, which may have values of keys without an entry (see presence.h).
  bool has_backend = false;
  // Of several databases, and which keys belong to which.
  uint32_t backend_count = 1;
  std::vector<BackendRoute> backend_routes = {};
  // Page size for tests of tiny arenas; 0: derived from the quota of a shard. A power of two.
  uint64_t page_bytes = 0;
  // The system's page size, for tests of those that are larger than this machine's; 0: OsPageBytes().
  uint64_t system_page_bytes = 0;
};

// A value being received: space in the arena that no key leads to yet. This is its only handle: call Link or Abandon.
struct Body {
  uint32_t shard = 0;
  uint32_t ref = 0;
  uint32_t value_bytes = 0;
  uint32_t generation = 0;
  explicit operator bool() const { return ref != 0; }
};

// A place in a shard's ring, up to which it was drained.
struct RingPlace {
  uint64_t position = 0;
};

// The result of one DrainRing().
struct RingDrain {
  size_t bytes = 0;
  uint32_t record_count = 0;
  // Every change of the shard up to this version was drained, or left no record. 0: as last time.
  uint64_t version = 0;
  // The size of the next record, if it did not fit.
  size_t bytes_needed = 0;
  // The next record is a part of an atomic batch, and the drain was to stop there.
  bool at_part = false;
  // The end of the drained records, for CommitRing().
  RingPlace place;
};

// The answer of FindInRing(). kNone: no such record is in the ring; the log has it, or there is none. kNeedsRoom: it
// has more bytes. kBusy: as many threads as can are reading its value; call again.
enum class InRing : uint8_t { kNone, kCopied, kNeedsRoom, kBusy };

struct RingStats {
  uint64_t fill_bytes = 0;  // written and not committed
  uint64_t capacity_bytes = 0;
  uint64_t records = 0;  // since opening
};

class Store {
 public:
  // Maps the memory and makes the shards. Null if an option is out of range or the system has no memory; `refusal` says
  // which.
  static std::unique_ptr<Store> Open(const StoreOptions& options, Refusal* refusal);
  // REQUIRES: no call in progress, no pins held. Unmaps the memory.
  ~Store();
  Store(const Store&) = delete;
  Store& operator=(const Store&) = delete;

  // True once an entry with an expiry or an end of freshness was stored, a delayed clear was scheduled, or access is
  // tracked: from then on the calls below need Now; before, a default Now{} will do, and the clock need not be read.
  bool uses_time() const { return uses_time_.load(std::memory_order_relaxed); }

  // Executes one request. Values of hits go to scratch (see Scratch): up to kCopyUnderLockBytesMax they are copied
  // there; larger ones are pinned (Outcome::pin) where the pin budget allows, otherwise copied. A hit whose value has
  // no room answers kNeedsRoom and changes nothing.
  void Execute(const Request& request, const Now& now, Scratch* scratch, Outcome* outcome);

  // The two most frequent requests, at half the cost, with the same effects as Execute().
  //
  // kGet. kFound: the value is at room[0, value->value_bytes). kNotFound. kNeedsRoom: the value does not fit, or the
  // case is unusual; nothing was changed, call Execute().
  Status GetPlain(std::string_view key, const Now& now, char* room, size_t capacity, PlainValue* value);
  // kSet, for values up to kCopyUnderLockBytesMax. REQUIRES: expires_ms is not kKeepExpiry.
  Status SetPlain(std::string_view key, std::string_view value, Codec codec, uint64_t expires_ms, const Now& now);

  // Executes many requests: grouped by shard, one lock per group of up to kGroupRequests, with the cache misses of a
  // group overlapped. Requests for one key keep their order; requests for different keys may be reordered. Values come
  // as with Execute(), but are never pinned. If scratch runs out, that request and every later one of its shard answer
  // kNeedsRoom and change nothing; repeating them in order keeps the order per key. If the log has no room, that
  // request, every later change of its shard, and reads of keys that those would change answer kLogFull and change
  // nothing.
  void ExecuteMany(const Request* requests, size_t count, const Now& now, Scratch* scratch, Outcome* outcomes);

  // Executes sets and deletes as one: all of them at one moment, in their order, or none. A thread that sees one of
  // them done sees all of them done, in every call from then on; a call for many keys (ExecuteMany, a walk) is not one
  // moment itself. With a log, its records are in one group of it or in none. Requests with `fill` are changes made
  // before that are made again: if one of their tickets is void, nothing is done (kExists); they keep the end of
  // freshness of a present entry. REQUIRES: verbs kSet and kDelete, without `compare`, `from_backend` and
  // kKeepExpiry; the bytes of keys and values do not change during the call.
  AtomicOutcome ExecuteAtomic(Request* requests, size_t count, const Now& now);

  // Copies value bytes [offset, offset + bytes) of a pinned entry. No lock: a pinned entry does not move or change.
  void ReadPinned(const Pin& pin, size_t offset, char* data, size_t bytes) const;
  // Where those bytes are, as long as the pin lasts, for a caller that passes them to the system: at up to `count`
  // places, of which the last may end before them. Returns the number of places. They are not to be changed.
  size_t PinnedPlaces(const Pin& pin, size_t offset, size_t bytes, std::span<char>* places, size_t count) const;
  void Unpin(const Pin& pin);

  // Stores a large value in steps, so that it is copied without a lock and not buffered elsewhere: Reserve makes room
  // for it (evicting as the verb would), WriteBody fills it, Link executes the request with this value. `request` must
  // be the same in both calls, except `value`, which is ignored; verbs kSet, kAdd, kReplace, kCas; its expiry is
  // kKeepExpiry only if the value has more than kBodyKeepsExpiryBytesMin. Reserve answers kStored (continue),
  // kTooLarge, kNoMemory or kLogFull. If too many bodies are being received, it answers kNoMemory and evicts nothing.
  // Before that it takes away bodies for which no byte has come for kBodyStalledMs (by the `now` of their calls, if
  // given): for these WriteBody then returns false, and Link answers kNoMemory. After a Link that answers kLogFull
  // or kNotResident the body stays, to be linked again or abandoned, and is never taken away; after any other answer it
  // is gone.
  [[nodiscard]] Status Reserve(const Request& request, uint32_t value_bytes, const Now& now, Body* body);
  bool WriteBody(const Body& body, size_t offset, std::string_view bytes, const Now& now = {});
  // In place of WriteBody(), for a caller that lets the system write: where those bytes go, at up to `count` places, of
  // which the last may end before them. No other call for the body until UnpinBody(). Returns the number of places. 0:
  // nothing is pinned, and WriteBody() is to be used.
  size_t PinBody(const Body& body, size_t offset, size_t bytes, std::span<char>* places, size_t count, Pin* pin);
  // The bytes have been written, as far as they have come.
  void UnpinBody(const Body& body, const Pin& pin, const Now& now);
  void Link(Body* body, const Request& request, const Now& now, Outcome* outcome);
  void Abandon(Body* body);

  // Makes every entry dead at one moment, in O(shards); their memory is freed in steps afterwards. Cancels a delayed
  // clear. Returns the version of the clear, which is the same in every shard: entries of lower versions are dead. Each
  // shard's ring has a record of it. 0: a ring has no room, nothing changed.
  uint64_t Clear(const Now& now);
  // Schedules a Clear() at that time of the boot clock, which the first call after that time executes; 0: cancels it.
  // Replaces a delayed clear. In a store with records it leaves one in every ring, so that the clear takes place even
  // if the process ends before. `version`: that of the record now in force, the same in every shard's ring; 0: none.
  // False: a ring has no room; nothing was changed.
  [[nodiscard]] bool ScheduleClear(uint64_t at_ms, const Now& now, uint64_t* version);
  // The record of the delayed clear, for a snapshot. False: there is none.
  [[nodiscard]] bool PendingClear(const Now& now, RecordView* record);

  // Changes the memory limit and/or the entry limit (0: keeps it). Higher limits take effect at once. For lower ones it
  // evicts in steps: false means call again, from any thread, until true. `held_up`, if given: true if no progress is
  // possible until a pin or a body is released. The janitor goes on with it, too. Where value_bytes_max was not given,
  // it is lowered to half of what a shard can hold, and rises again with the limit. CheckResize() refuses limits above
  // the ceiling, below the need of one shard, or without memory of the system, with the reason in `refusal`; Resize()
  // then changes nothing.
  [[nodiscard]] bool CheckResize(uint64_t memory_bytes, Refusal* refusal) const;
  bool Resize(uint64_t memory_bytes, uint64_t entries_max, const Now& now, bool* held_up = nullptr);

  // One turn of upkeep: turns the wheels, frees cleared entries, returns free pages, touches memory that a growing
  // cache is about to need. Each hold of a lock visits at most kStepEntriesMax entries. True: there is more to do now.
  bool Maintain(const Now& now);
  // True: the last turn left memory prepared for growth, which must be returned if the shard does not grow: call
  // Maintain() again in kAheadIdleMs.
  bool is_ahead() const { return is_ahead_.load(std::memory_order_relaxed); }

  // Walks emit entries with values: no stubs, and no keys that the backend has said to be absent. A snapshot for
  // recovery may leave stubs out because the log is kept from the writer's cursor on: recovery applies all records from
  // there on as owed, which makes the stubs again.
  void OpenCursor(Cursor::Order order, Cursor* cursor);
  // Emits up to `count` entries that fit into scratch. 0 with *done: the walk is
  // over. 0 without: nothing fitted; the next entry needs a capacity of scratch->used + *bytes_needed.
  size_t StepCursor(Cursor* cursor, const Now& now, Emits emits, WalkedEntry* entries, size_t count, Scratch* scratch,
                    bool* done, size_t* bytes_needed);
  void CloseCursor(Cursor* cursor);
  // One step of a list of keys from *place on, which it moves; true: behind the last key. See key_list.h; the keys are
  // those of walks.
  bool ListKeys(const Now& now, KeyPlace* place, KeyListStep* step);

  // Applies a record read from a log (if its version is higher than the key's), from a dump or from a primary. kLogFull
  // for one that is owed and is read back: memory has no room for its stub, because there are too many keys that the
  // backend does not have yet. Nothing was changed; the writer has to carry on first, see SettleRecovered().
  [[nodiscard]] Status Apply(const RecordView& record, const Now& now, Origin origin);

  // ---- the backend (see debts.h) ----

  const Backends& backends() const { return backends_; }
  // What a backend has; its writer's thread raises its marks.
  StoredChanges* stored(uint32_t backend = 0) { return backends_.At(backend); }
  CommitMarks* stored_marks(uint32_t backend = 0) { return stored(backend)->marks(); }
  // The backend has no value of the key: it is absent until a change of it, or until `until_ms` of the boot clock.
  // `ticket`: of a load that began with BeginFill(). Answers as a fill does.
  [[nodiscard]] Status FillNegative(std::string_view key, FillTicket* ticket, uint64_t until_ms, const Now& now);
  // Whether the value of a kSet fits without an eviction, as it is now.
  bool HasFreeRoom(const Request& request);
  // What the key's stub says; kGone also if its expiry has come. False: it has none.
  bool StubOf(std::string_view key, const Now& now, StubInfo* info);
  // How much is taken of the memory for stubs of evicted and deleted entries that are owed, from 0 to 1: of the fullest
  // shard. Near 1, changes are refused with kLogFull until the backend has more of them.
  double StubShare() const;
  // A version up to which the backend has to come to have all changes of the key; 0: none is owed. `*value_version`,
  // where it is not null: its newest dead letter, if there is one by then, has at least this version.
  uint64_t LastChangeOf(std::string_view key, const Now& now, uint64_t* value_version = nullptr);
  // Puts the value of a kValue stub back, as the log has it in `record` (of which key, value, codec and client flags
  // count): with its version, owed as before, under the stub's expiry, and without a record. The value of an entry that
  // a clear took comes back as a new set, with a record, because its version is below the clear's. kNotFound: the stub
  // is another one than that of `newest_version`, or none: look the key up again. Otherwise as a set: kNoMemory,
  // kTooLarge, kLogFull, and the stub stays.
  [[nodiscard]] Status Revive(const RecordView& record, uint64_t newest_version, const Now& now);

  // True while a log is read back: Apply() from a log then stores expired entries too, because a later touch in
  // the log may have extended their life. If memory is needed, expired entries are removed first; no read ever returns
  // one. A delayed clear that is due is not executed either, because a later record may say that it was; the first call
  // after `false` executes what is still due. REQUIRES: no requests in between.
  void SetRecovering(bool recovering);
  // While a log is read back: the backend has all records that were applied so far as owed. After an Apply() that
  // answered kLogFull this makes room; records of the same group of the log that the backend does not have yet are then
  // applied again.
  void SettleRecovered();
  // While a log is read back whose epochs start over: all its further records are newer than all present entries. Gives
  // every entry a version of epoch 0, which no record has, counted from a random number, so that no cas token which a
  // client still holds is given to another entry. StartEpoch() must be called again.
  void Renumber();

  // Watches a key for a load that will fill it: from now on any requested change of the key voids the ticket, also a
  // delete of the absent key, but neither eviction nor expiry nor a touch. False, and nothing is watched, if only an
  // absent key was to be loaded and the key has a live entry. EndFill stops watching: idempotent, from any thread;
  // after it the ticket may be destroyed.
  [[nodiscard]] bool BeginFill(std::string_view key, FillOf what, const Now& now, FillTicket* ticket);
  void EndFill(std::string_view key, FillTicket* ticket);

  // ---- change rings ----
  //
  // One reader at a time, from any thread, for DrainRing, CommitRing and RewindRing. Rings may be read in any order:
  // each of them has the record of a clear, at the place of the clear among its changes.

  bool has_rings() const { return ring_bytes_ != 0; }
  // Copies whole records that were not drained yet to out[0, capacity). Values are copied without the lock.
  // `parts`: whether it stops before a part of an atomic batch.
  RingDrain DrainRing(uint32_t shard, char* out, size_t capacity, ChangeRing::Parts parts = ChangeRing::Parts::kTake);
  // The parts of one atomic batch with which the records begin that were not drained yet.
  ChangeRing::Run PartsOfRing(uint32_t shard) const;
  // The log has the records drained before a place, or all drained so far: frees their space, and the values kept in
  // place for them. Places of several drains may be committed one by one, in their order.
  void CommitRing(uint32_t shard, const RingPlace& place);
  void CommitRing(uint32_t shard);
  // Records that were drained and not committed are drained again.
  void RewindRing(uint32_t shard);
  // Copies the record of a key that has this version to out[0, capacity), unless the log has it: `bytes` is its size,
  // also with kNeedsRoom. From any thread, at any time; looks at no more than kStepEntriesMax records under one hold of
  // the lock, and copies a large value without it.
  InRing FindInRing(std::string_view key, uint64_t version, char* out, size_t capacity, size_t* bytes);
  RingStats RingStatsOf(uint32_t shard) const;
  // The last version that the shard has given, with or without a record, or that came in with a record.
  uint64_t LastVersion(uint32_t shard) const;
  // Every version given from now on has at least this epoch. Called before the first request of a cache with a log:
  // with an epoch that no record of the log has, every new version is higher than all recovered ones, before or after
  // this call.
  //
  // Counters begin at random: a log that could not be written at its opening opens with the same epoch again, and must
  // not repeat a version that a client still holds.
  void StartEpoch(uint32_t epoch);
  // The bell to ring for new records; null: none. It outlives the store, or the calls in progress when it is replaced.
  void SetChangeBell(ChangeBell* bell) { bell_.store(bell, std::memory_order_release); }

  StoreStats Stats() const;
  StoreStats ShardStats(uint32_t shard) const;
  void ResetStats();

  // An optional observer, set before the first request or never. It outlives the store.
  void SetRemovalSink(RemovalSink* sink);
  // Null: there is none.
  RemovalSink* removal_sink() const;

  // Walks everything and CHECKs the invariants; for tests. O(entries).
  void Verify() const;

  uint32_t shard_count() const { return shard_count_; }
  uint32_t ShardOf(std::string_view key) const;
  uint64_t value_bytes_max() const { return value_bytes_max_.load(std::memory_order_relaxed); }
  const StoreOptions& options() const { return options_; }
  uint64_t page_bytes() const { return page_bytes_; }
  uint64_t entries() const;
  // Direct access for tests and models.
  Shard* shard(uint32_t index);

 private:
  // ---- opening, in this order; each returns an error, or an empty string: store_open.cc ----

  // The options are complete; `value_bytes_are_given`: value_bytes_max is not one that was chosen.
  Store(const StoreOptions& options, bool value_bytes_are_given);
  Refusal Map();
  Refusal MakeShards();
  // Lowers value_bytes_max to what a shard can hold, unless it was given.
  Refusal FitValueBytesMax();
  uint32_t PagesCeiling() const;  // of one shard
  uint64_t ShardHeaderBytes() const;
  char* BaseOf(uint32_t index) const { return base_ + uint64_t{index} * shard_stride_bytes_; }
  void KeepRecords();

  Shard* ShardAt(uint32_t index) const;

  // One hold of a shard's lock: store_inl.h. kLogged false: by what leaves no records.
  template <bool kLogged>
  class HoldOf;
  using ShardHold = HoldOf<true>;
  // ---- clears: store_clear.cc ----

  void RunScheduledClear(const Now& now);
  class AllShards;
  uint64_t ClearLocked(Recorder::Barrier barrier) REQUIRES_LOCK(clear_lock_);
  bool ScheduleLocked(uint64_t at_ms, const Now& now) REQUIRES_LOCK(clear_lock_);
  void SetClearAt(uint64_t at_ms, uint64_t version) REQUIRES_LOCK(clear_lock_);
  Status ApplyClearLocked(const RecordView& record, Origin origin) REQUIRES_LOCK(clear_lock_);
  Status ApplyClearAtLocked(const RecordView& record, const Now& now, Origin origin) REQUIRES_LOCK(clear_lock_);

  // ---- limits and upkeep: store_upkeep.cc ----

  void SetLimits(uint64_t memory_bytes, uint64_t entries_max);
  // Half of what a shard can hold with this memory limit: the largest value has to fit twice.
  uint64_t HalfOfShard(uint64_t memory_bytes) const;
  // Makes the pages of a larger limit usable. False: the system has no memory for them.
  bool CommitFor(uint64_t memory_bytes) const;
  // Returns the memory of some free pages, outside the lock. True if there were any.
  bool ReturnPages(Shard* shard, Growth::Purpose purpose);

  // ---- walks: store_walks.cc; batches: store_batch.cc ----

  void StartWalk(uint32_t index, Cursor::Order order, Cursor::PerShard* walk);
  class RunShards;
  class Refusals;
  struct BatchWindow;
  void SortByShard(BatchWindow* window);
  [[gnu::always_inline]] ChangeRing::Note ExecuteGroup(uint32_t index, const BatchWindow& window, size_t from,
                                                       size_t to, const Now& now, Scratch* scratch, Refusals* refusals);

  // ---- single requests: store.cc, store_large.cc ----

  template <bool kLogged>
  [[gnu::noinline]] void ExecuteOne(const Request& request, const Now& now, Scratch* scratch, Outcome* outcome);
  template <bool kLogged>
  [[gnu::noinline]] Status SetPlainOne(std::string_view key, std::string_view value, Codec codec, uint64_t expires_ms,
                                       const Now& now);
  // The shard of a key and the key's hash in it; prefetches the bucket.
  Shard* Route(std::string_view key, uint32_t* index, uint64_t* hash) const;
  // noinline keeps the stack frame of the rare path out of the common one: delayed clears that are due, and requests in
  // several steps.
  [[gnu::noinline]] void ExecuteAttentively(const Request& request, const Now& now, Scratch* scratch, Outcome* outcome);
  [[gnu::noinline]] void ExecuteConcat(const Request& request, const Now& now, Outcome* outcome);
  bool CopyConcat(Shard* shard, const ConcatSteps& steps, const Request& request, uint64_t hash, const Now& now,
                  Outcome* outcome);

  // ---- after the lock of a shard was released ----

  // Tells the reader of its ring what ChangeRing::Note says.
  void Tell(ChangeRing::Note note);
  // Lets the sink do what it cannot under a lock.
  static void Unlocked(RemovalSink* sink) {
    if (sink != nullptr && sink->pending()) [[unlikely]]
      sink->OnUnlocked();
  }
  void CheckClock(const Now& now) {
    if (now.boot_ms >= attention_at_ms_.load(std::memory_order_relaxed)) [[unlikely]]
      RunScheduledClear(now);
  }

  StoreOptions options_;
  void* mapping_ = nullptr;
  char* base_ = nullptr;  // of the first shard, within the mapping, on a large page's boundary
  uint64_t mapping_bytes_ = 0;
  uint64_t shard_stride_bytes_ = 0;
  uint64_t page_bytes_ = 0;
  // False if the system's pages are larger than the store's: returning one of the store's would return its neighbours
  // too.
  bool returns_pages_ = true;
  uint32_t shard_count_ = 0;
  int shard_shift_ = 0;
  const bool value_bytes_are_given_;
  std::atomic<uint64_t> value_bytes_max_{0};
  std::atomic<bool> uses_time_{false};
  // From when on requests take a longer way: when the scheduled clear is due; always, where records are kept. In one
  // word so that a cache without a log pays nothing for what only one with a log needs.
  std::atomic<uint64_t> attention_at_ms_{~uint64_t{0}};
  // When the scheduled clear is due, where records are kept.
  std::atomic<uint64_t> logged_clear_at_ms_{~uint64_t{0}};
  bool logged_ = false;
  std::atomic<uint64_t>* clear_at_ms() { return logged_ ? &logged_clear_at_ms_ : &attention_at_ms_; }
  std::atomic<uint64_t> memory_bytes_{0};
  std::atomic<uint64_t> entries_max_{0};
  std::atomic<uint64_t> clears_{0};
  std::atomic<uint64_t> atomic_ids_{0};  // from a random number on, so that no log has one twice
  std::atomic<bool> is_ahead_{false};
  std::atomic<uint32_t> upkeep_pauses_{0};  // still to be made, a hold each
  // Of the record that says whether a clear is to come, and when; 0: there was none yet.
  uint64_t clear_at_version_ GUARDED_BY(clear_lock_) = 0;
  std::atomic<bool> is_recovering_{false};  // written by SetRecovering()
  OsLock clear_lock_;                       // one Clear or Resize at a time; taken before any shard's lock
  const Backends backends_;
  uint64_t ring_bytes_ = 0;  // of one shard
  std::atomic<ChangeBell*> bell_{nullptr};
  std::unique_ptr<SizeClasses> classes_;
  // Shards, in raw memory because they can neither be copied nor moved.
  std::unique_ptr<char[]> shards_;
};

}  // namespace cairn
