// Gives each change of a shard its version, and leaves its record for the log, if there is one.
//
// The recorder is the only user of the shard's change ring. A change goes through it in three steps, in this order:
//
//   1. room      ReserveKey(), ReserveSet(), ReserveBarrier(): before anything is changed. False: the request answers
//                kLogFull and has changed nothing.
//   2. version   NextVersion()
//   3. record    LeaveSet(), LeaveEntry(), LeaveDelete(), LeaveBarrier(): cannot fail after step 1.
//
// Without a ring, step 1 always succeeds and step 3 does nothing; step 2 is the same.
//
// Thread safety: none; the shard's lock guards it, except what change_ring.h says of its reader.
// Invariant: versions rise with each change, and records are in the ring in the order of their versions.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <string_view>

#include "store/change_ring.h"
#include "store/entry_memory.h"
#include "store/record.h"
#include "store/store_stats.h"

namespace cairn {

// In the mapping, beside the ring's own state.
struct RecorderState {
  uint64_t last_version;    // the last version given, or that came in with a record
  uint64_t newest_version;  // no entry has a later one
  // The last change that may be the cause of an absence: the last delete, clear, or touch to an expiry or to an end of
  // freshness, or the newest entry that was evicted or has expired. Kept only with a ring. Records read back from the
  // log do not count, because the log has them.
  uint64_t gone_version;
};

class Recorder {
 public:
  // `ring_bytes` 0: there is no ring.
  Recorder(RecorderState* state, RingState* ring, char* ring_at, uint64_t ring_bytes, EntryMemory* memory,
           StoreStats* counters)
      : state_(state),
        memory_(memory),
        counters_(counters),
        ring_(ring, ring_at, ring_bytes),
        keeps_records_(ring_bytes != 0) {}

  bool has_ring() const { return ring_.capacity() != 0; }
  // Whether a change leaves a record: there is a ring, and the change does not come from the log.
  bool keeps_records() const { return keeps_records_; }
  ChangeRing* ring() { return &ring_; }
  const ChangeRing* ring() const { return &ring_; }

  // ---- versions ----

  // A version is one number of 64 bits: a counter that overflows raises the epoch above it, and nothing else happens.
  uint64_t NextVersion() { return state_->newest_version = ++state_->last_version; }
  // The last version given, or that came in with a record.
  uint64_t last_version() const { return state_->last_version; }
  // Versions given from now on are later than `version`, which came in with a record, or begins an epoch.
  void NoteVersion(uint64_t version) { state_->last_version = std::max(state_->last_version, version); }
  // Every entry has a version of epoch 0 now, up to this counter.
  void Renumbered(uint64_t counter);
  // The shard now holds an entry of this version, which came in with a record.
  void NoteStored(uint64_t version) { state_->newest_version = std::max(state_->newest_version, version); }
  uint64_t newest_version() const { return state_->newest_version; }

  // ---- absence ----

  // From now on this change may be the cause of an absence.
  void NoteGone(uint64_t version) {
    if (keeps_records()) [[unlikely]]
      state_->gone_version = std::max(state_->gone_version, version);
  }
  uint64_t gone_version() const { return state_->gone_version; }

  // ---- room ----

  // For a record without a value: of a delete, or of a touch that makes the entry fresh until `fresh_until_ms`.
  [[nodiscard]] bool ReserveKey(size_t key_bytes, uint64_t fresh_until_ms = kAlwaysFresh) {
    if (!keeps_records()) [[likely]]
      return true;
    return ReserveKeyInRing(key_bytes, fresh_until_ms);
  }
  // For the record of an entry about to be stored. Decides whether the ring keeps the value in place instead of copying
  // it. False also if only values that the ring keeps in place leave no memory for the entry.
  enum class EntryIs : uint8_t { kToBeAllocated, kInSlot };
  [[nodiscard]] bool ReserveSet(const NewEntry& entry, EntryIs entry_is = EntryIs::kToBeAllocated) {
    if (!keeps_records()) [[likely]]
      return true;
    return ReserveSetInRing(entry, entry_is);
  }
  // For the records of an atomic batch that lie one behind the other in this ring: see ChangeRing::ReserveRun().
  [[nodiscard]] bool ReserveRun(uint64_t bytes, uint64_t largest_bytes) {
    if (!keeps_records() || ring_.ReserveRun(bytes, largest_bytes)) return true;
    counters_->log_full++;
    return false;
  }
  // For a clear or a delayed clear. kDue: a delayed clear whose time has come, which is never refused.
  enum class Barrier : uint8_t { kRequested, kDue };
  [[nodiscard]] bool ReserveBarrier(Barrier barrier);
  // Whether an entry of this charge would find room if the log had the values that the ring keeps in place.
  bool HoldsRoomFor(uint64_t charge) const { return ring_.pinned_bytes() != 0 && !memory_->FitsBesideKept(charge); }
  // The answer to a request that found no memory beside the present entry: `status`, or kLogFull if the ring keeps that
  // memory for the log. Counts it.
  Status NoMemory(Status status);

  // ---- records ----

  // For a key that is gone, with the next version, which it returns.
  uint64_t LeaveDelete(std::string_view key);
  // For all shards: a clear, or a delayed clear at `wall_ms` (0: cancels it). The caller gives the version, which is
  // the same in every shard and becomes this shard's last one. REQUIRES: version > last_version(); ReserveBarrier().
  void LeaveBarrier(RecordKind kind, uint64_t version, int64_t wall_ms);
  // For an entry that was just stored, from its source bytes, because reading back fresh writes would wait for the
  // cache.
  void LeaveSet(const NewEntry& from, const char* value, Ref ref, uint64_t version, const Now& now) {
    if (keeps_records()) [[unlikely]]
      LeaveSetInRing(from, value, ref, version, now);
  }
  // For an entry, from its memory.
  void LeaveEntry(RecordKind kind, Ref ref, uint64_t version, const Now& now) {
    if (keeps_records()) [[unlikely]]
      LeaveEntryInRing(kind, ref, version, now);
  }

  // For an entry of an atomic batch, from its memory, however large its value is. REQUIRES: ReserveRun().
  void LeaveOfRun(Ref ref, uint64_t version, const Now& now) {
    reserved_ = Reserved::kWithFields;
    LeaveEntry(RecordKind::kSet, ref, version, now);
  }

  // While it exists, records of sets say that `delta` was added to a number.
  class Extra {
   public:
    Extra(Recorder* recorder, int64_t delta) : recorder_(recorder), before_(recorder->extra_) {
      recorder->extra_.SetDelta(delta);
    }
    ~Extra() { recorder_->extra_ = before_; }
    Extra(const Extra&) = delete;
    Extra& operator=(const Extra&) = delete;

   private:
    Recorder* recorder_;
    const RecordFields before_;
  };

  // While it exists, the record of a set, a delete or a touch says that it is a part of an atomic batch. The log gets
  // all parts in one group (process/change_feed.h), if the thread that writes the batch keeps these rules:
  //
  //   - it leaves either all parts or none: it has made room for all of them, under the locks of all their shards,
  //     before it leaves the first;
  //   - the parts of one shard lie one behind the other, and two batches lie in the same order in every ring that has
  //     parts of both: the locks are held until the last part is left;
  //   - the records have at most kAtomicBatchBytesMax together; it refuses a larger batch;
  //   - no other batch of the log has this id.
  class Part {
   public:
    Part(Recorder* recorder, uint64_t id, uint32_t count, uint32_t index) : recorder_(recorder) {
      DCHECK(recorder->extra_.fields == 0 && index < count);
      recorder->extra_.SetBatch(id, count, index);
    }
    ~Part() { recorder_->extra_ = RecordFields{}; }
    Part(const Part&) = delete;
    Part& operator=(const Part&) = delete;

   private:
    Recorder* recorder_;
  };

  // While it exists, changes leave no record, because they come from the log.
  class Silence {
   public:
    explicit Silence(Recorder* recorder) : recorder_(recorder) { recorder->keeps_records_ = false; }
    ~Silence() { recorder_->keeps_records_ = recorder_->has_ring(); }
    Silence(const Silence&) = delete;
    Silence& operator=(const Silence&) = delete;

   private:
    Recorder* recorder_;
  };

 private:
  // The optional fields of a record, and their bytes, or a little more.
  RecordFields FieldsOf(RecordKind kind, uint64_t fresh_until_ms, const Now& now) const;
  size_t FieldBytes(uint64_t fresh_until_ms) const {
    return (fresh_until_ms != kAlwaysFresh ? RecordFieldBytes(kFieldFreshness) : 0) + extra_.bytes();
  }
  bool ReserveKeyInRing(size_t key_bytes, uint64_t fresh_until_ms);
  bool ReserveSetInRing(const NewEntry& entry, EntryIs entry_is);
  // The same for a value that may be kept in place, or while others are.
  [[gnu::noinline]] bool ReserveBesidePinned(const NewEntry& entry, EntryIs entry_is);
  void LeaveSetInRing(const NewEntry& from, const char* value, Ref ref, uint64_t version, const Now& now);
  void LeaveEntryInRing(RecordKind kind, Ref ref, uint64_t version, const Now& now);
  // The record of an entry whose value the ring keeps in place.
  void LeavePinned(const RecordHeader& header, const RecordFields& fields, Ref ref);

  RecorderState* state_;
  EntryMemory* memory_;
  StoreStats* counters_;
  ChangeRing ring_;
  bool keeps_records_;
  // Of every record, but the delta only of those of sets.
  RecordFields extra_;
  // The form of the record for which ReserveSet() last made room: as for ChangeRing::Append(), with optional fields, or
  // with its value kept in place.
  enum class Reserved : uint8_t { kPlain, kWithFields, kPinned };
  Reserved reserved_ = Reserved::kPlain;
};

}  // namespace cairn
