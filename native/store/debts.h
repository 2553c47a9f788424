// What a shard owes the backend behind the cache: the records that the log has and the backend does not have yet.
//
//   set, delete -> record, the key is owed -> the writer commits it -> the stored mark passes its version: not owed
//
// An entry whose newest value is owed has kEntryOwed, one whose expiry is owed has kEntryRetimed. Both flags count only
// until the stored mark passes: the entry's version, or that of the shard's newest touch. The mark is that of the
// backend which the key belongs to; its writer passes the records of other backends, too.
//
// A key that is owed and whose entry left memory has a stub: an entry of the table with 8 bytes in place of the value.
// A read uses the stub and never the backend's row, which is older.
//
//   kind     says                                       becomes
//   kValue   the log has the value (value_version)      an entry by Shard::Revive()
//   kGone    the key was deleted                        absent, without asking the backend
//   kExpiry  the backend has the value; the expiry is   an entry by a fill, with the stub's expiry
//            the stub's
//
// Once the stored mark has passed value_version, and a touch is still owed, a kValue stub is one of kExpiry: the log
// may have dropped the value. Loads that began before may have read an older row, so the change voids their tickets.
//
// A stub whose expiry has come says that the key is gone, whatever its kind.
//
// Thread safety: none; the shard's lock guards it. The stored mark is read without it.
// Invariants (Verify()): stubs are in the table and in this list; not in the LRU list, not in the wheel, and no walk
// visits them. stub_bytes is the sum of their charges.
#pragma once

#include <cstdint>
#include <cstring>

#include "store/backends.h"
#include "store/entry.h"
#include "store/entry_memory.h"
#include "store/lru_list.h"

namespace cairn {

// In the codec's place in the flags of a stub: never change one.
enum class StubKind : uint8_t { kValue = 0, kGone = 1, kExpiry = 2 };

// What a stub says.
struct StubInfo {
  StubKind kind = StubKind::kGone;
  uint64_t value_version = 0;   // kValue: of the record with the value
  uint64_t newest_version = 0;  // of the newest record of the key; identifies this stub for Revive()
  uint64_t expires_ms = kNeverExpires;
  uint64_t fresh_until_ms = kAlwaysFresh;
};

inline constexpr uint32_t kStubValueBytes = 8;
// Stubs of entries that were evicted or deleted take at most this share of the shard's limit. Without room for its stub
// an owed entry is neither evicted nor deleted: the request answers kLogFull until the writer has committed more.
inline constexpr uint64_t kStubShareMax = 8;

// In the mapping.
struct DebtsState {
  LruState stubs;  // the newest stub first
  uint64_t stub_bytes;
  uint64_t newest_touch;  // the version of the shard's newest touch
  uint64_t seen_marks;    // the sum of the stored marks when the visiting of stubs last began
  uint32_t stub_count;
  uint32_t unvisited;  // stubs that were not compared with their mark yet
  uint32_t negative_count;
};

inline bool IsStub(const EntryHeader* entry) { return (entry->flags & kEntryStub) != 0; }
inline bool IsNegative(const EntryHeader* entry) { return (entry->flags & kEntryNegative) != 0; }
inline StubKind KindOfStub(const EntryHeader* stub) { return static_cast<StubKind>(stub->flags & kEntryCodecMask); }

class Debts {
 public:
  // `backends` null: there is none, and nothing is ever owed.
  Debts(DebtsState* state, EntryMemory* memory, const Backends* backends, uint32_t shard)
      : state_(state),
        memory_(memory),
        backends_(backends),
        one_(backends != nullptr && backends->is_one() ? backends->At(0)->marks() : nullptr),
        shard_(shard),
        stubs_(memory->arena(), &state->stubs) {}

  bool has_backend() const { return backends_ != nullptr; }
  // The stored mark for the key of an entry or a stub.
  uint64_t MarkOf(const EntryHeader* entry) const {
    if (one_ != nullptr) [[likely]]
      return one_->Mark(shard_);
    return backends_ == nullptr ? ~uint64_t{0} : MarkByKey(entry);
  }

  // ---- entries ----

  bool OwesValue(const EntryHeader* entry) const {
    return (entry->flags & kEntryOwed) != 0 && entry->version > MarkOf(entry);
  }
  bool Owes(const EntryHeader* entry) const {
    return OwesValue(entry) || ((entry->flags & kEntryRetimed) != 0 && state_->newest_touch > MarkOf(entry));
  }
  // The version of the shard's newest touch.
  uint64_t newest_touch() const { return state_->newest_touch; }
  // The entry's expiry was changed by the record of this version.
  void NoteTouch(EntryHeader* entry, uint64_t version) {
    if (!has_backend()) return;
    entry->flags |= kEntryRetimed;
    if (version > state_->newest_touch) state_->newest_touch = version;
  }
  // What the stub of an owed entry says. `recovering`: records of other shards than the present ones are read back, and
  // only versions of one key can be compared. REQUIRES: Owes(entry).
  StubInfo StubFor(const EntryHeader* entry, bool recovering) const;

  // ---- stubs ----

  uint64_t stub_bytes() const { return state_->stub_bytes; }
  uint32_t stub_count() const { return state_->stub_count; }
  // Whether stubs of evicted and deleted entries with this charge have room.
  bool HasRoomFor(uint64_t charge) const {
    return state_->stub_bytes + charge <= memory_->state().limit_bytes / kStubShareMax;
  }
  StubInfo InfoOf(const EntryHeader* stub) const;
  // How much of that share is taken: from 0 to 1.
  double StubShare() const {
    const double most = static_cast<double>(memory_->state().limit_bytes / kStubShareMax);
    const double share = most == 0 ? 0 : static_cast<double>(state_->stub_bytes) / most;
    return share < 1 ? share : 1;
  }
  // Whether the backend has all that the stub says.
  bool IsStored(const EntryHeader* stub) const { return stub->version <= MarkOf(stub); }
  // A kValue stub is one of kExpiry from now on, if the backend has the value. True: it was changed.
  bool ForgetStoredValue(EntryHeader* stub);
  static NewEntry StubEntryOf(std::string_view key, const StubInfo& info);
  // Writes what the stub says, except its expiry. REQUIRES: the entry has the size of a stub.
  void Write(EntryHeader* stub, const StubInfo& info);
  // A stub has come, is about to go, has moved.
  void Came(Ref stub);
  void Went(Ref stub);
  void Moved(Ref to) { stubs_.Moved(to); }
  // A stub whose record the backend has by now; 0: none was found among *budget visited ones.
  Ref NextStored(int* budget);
  // Whether stubs are left that were not compared with the present marks.
  bool has_unvisited() const {
    return state_->stub_count != 0 && (state_->unvisited != 0 || state_->seen_marks != Marks());
  }
  Ref newest_stub() const { return stubs_.head(); }

  // ---- negative entries: the backend has no value of the key ----

  void CountNegative(int change) { state_->negative_count += static_cast<uint32_t>(change); }
  uint32_t negative_count() const { return state_->negative_count; }

 private:
  EntryHeader* At(Ref ref) const { return memory_->At(ref); }
  uint64_t MarkByKey(const EntryHeader* entry) const;
  // Changes with each mark of the shard.
  uint64_t Marks() const {
    if (one_ != nullptr) return one_->Mark(shard_);
    return backends_ == nullptr ? 0 : backends_->SumOfMarks(shard_);
  }

  DebtsState* state_;
  EntryMemory* memory_;
  const Backends* backends_;
  const CommitMarks* one_;  // of the only backend; null: there is none, or there are several
  uint32_t shard_;
  LruList stubs_;
};

}  // namespace cairn
