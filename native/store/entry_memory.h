// The bytes of a shard's entries: their layout, their pieces of memory, their charge, and their stream, which is the
// key followed by the value.
//
// A small entry is one piece. A chunked entry has a head and a list of chunks: whole pages, then large chunks, then one
// for the rest (entry.h draws both). An entry being written is in a slot until the shard links it. No key leads to it;
// the slot finds it again when an allocation moves it.
//
// Thread safety: none; the shard's lock guards it, except ReadPinned() and PinnedPlaces().
// Ownership: the memory is the arena's. Key and value are copied in and out.
// Invariants: (1) charged_bytes is the sum of the charges of all entries: linked, pinned after they left, in slots;
// (2) pinned_bytes is the sum over entries with pins; (3) slot_bytes is the sum over entries in slots from 1 on.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <memory>
#include <span>
#include <string_view>

#include "base/clock.h"
#include "base/limits.h"
#include "store/arena.h"
#include "store/entry.h"
#include "store/request.h"

namespace cairn {

// The charge of an entry for its place in the table: a bucket of 64 bytes holds about 9.6 entries; overflow buckets add
// to that.
inline constexpr uint64_t kIndexShareBytes = 8;
// The most entries being written at a time. Slot 0 is for an insert in progress, the others for bodies.
inline constexpr int kEntrySlots = 64;

// In the mapping.
struct MemoryState {
  uint64_t charged_bytes;
  uint64_t limit_bytes;   // charged_bytes never exceeds it while unlocked; the shard lowers it in steps
  uint64_t slot_bytes;    // charged for entries in slots from 1 on
  uint64_t pinned_bytes;  // charged for entries with pins, linked or not
  Ref slots[kEntrySlots];
};

// An entry to be stored. Sizes and metadata decide the layout; the bytes are written later.
struct NewEntry {
  std::string_view key;
  uint64_t value_bytes = 0;
  Codec codec = Codec::kRaw;
  uint32_t client_flags = 0;
  uint64_t expires_ms = kNeverExpires;
  uint64_t fresh_until_ms = kAlwaysFresh;
  uint16_t extra_flags = 0;  // kEntryFetched, kEntryOwed, kEntryRetimed, kEntryStub, kEntryNegative
  bool value_may_change = false;
  Marks marks;
};

// The fields that a changed value of the entry keeps. It has no marks, as in memcached.
inline NewEntry KeptOf(const EntryHeader* entry, std::string_view key) {
  NewEntry kept;
  kept.key = key;
  kept.value_bytes = entry->value_bytes;
  kept.codec = CodecOf(entry);
  kept.client_flags = ClientFlagsOf(entry);
  kept.expires_ms = ExpiresMsOf(entry);
  kept.fresh_until_ms = FreshUntilOf(entry);
  kept.extra_flags = entry->flags & (kEntryFetched | kEntryOwed | kEntryRetimed);
  return kept;
}

struct Layout {
  uint16_t flags;
  bool long_key;
  int size_class;         // of the head
  uint64_t chunk_stream;  // bytes of the stream in chunks
  uint64_t charge;
};

// The chunks of a stream, in their order: whole pages, large chunks (fewer than fill a page), one for the rest.
struct Chunks {
  uint64_t wholes;
  uint64_t larges;
  uint64_t rest_bytes;  // 0: no chunk
  bool empty() const { return wholes == 0 && larges == 0 && rest_bytes == 0; }
};

// How a chunked entry grows at its end: the first `kept` chunks stay, and `wanted` replaces the others; or its last
// chunk takes the added bytes in place.
struct Extension {
  Chunks wanted;
  uint64_t kept;
  uint64_t rest_bytes;  // in the last chunk before
  bool in_place;
};

// Evicts an entry for an allocation that found no page. Rarely called: the arena's reserve makes it unreachable, except
// with very many overflow buckets.
class PageEvictor {
 public:
  // False: no entry may go. The newest entry stays, because the caller may read from it.
  virtual bool EvictForPage() = 0;

 protected:
  ~PageEvictor() = default;
};

inline uint32_t AccessSeconds(const Now& now) { return static_cast<uint32_t>(now.boot_ms / 1000); }

// Stores the time of this access in an entry that has the field.
inline void StampAccess(EntryHeader* entry, const Now& now) {
  if (entry->flags & kEntryHasAccess) StoreU32(BytesOf(entry) + OffsetsOf(entry).access, AccessSeconds(now));
}

class EntryMemory {
 public:
  struct Places {
    char* base;  // of the shard
    ArenaState* arena;
    PageDesc* pages;
    uint64_t pages_offset;
    MemoryState* memory;
  };
  // `value_bytes_min`: every entry in one piece has room for a value of this size.
  EntryMemory(const Places& places, const SizeClasses* classes, bool track_access, ChunkMover* mover,
              PageEvictor* evictor, uint64_t value_bytes_min = 0)
      : arena_(places.base, places.arena, places.pages, places.pages_offset, classes, mover),
        state_(places.memory),
        track_access_(track_access),
        value_bytes_min_(value_bytes_min),
        evictor_(evictor),
        key_buffer_(new char[kKeyBytesMax]) {}

  Arena* arena() { return &arena_; }
  const Arena* arena() const { return &arena_; }
  const SizeClasses& classes() const { return arena_.classes(); }
  const MemoryState& state() const { return *state_; }
  void SetLimit(uint64_t bytes) { state_->limit_bytes = bytes; }
  EntryHeader* At(Ref ref) const { return reinterpret_cast<EntryHeader*>(arena_.At(ref)); }
  ChunkHeader* ChunkAt(Ref ref) const { return reinterpret_cast<ChunkHeader*>(arena_.At(ref)); }

  // ---- streams ----

  // Calls visit(piece, bytes) for the pieces of `bytes` of the stream from `offset` on.
  template <class Visit>
  void VisitStream(const EntryHeader* entry, size_t offset, size_t bytes, Visit visit) const;
  void ReadStream(const EntryHeader* entry, size_t offset, char* data, size_t bytes) const;
  void WriteStream(EntryHeader* entry, size_t offset, const char* data, size_t bytes);
  // Copies a part of a value into the stream of another entry. REQUIRES: nothing is allocated in between.
  void CopyValue(const EntryHeader* from, size_t from_offset, EntryHeader* to, size_t to_offset, size_t bytes);
  // The key in one piece; a chunked long key is copied to a buffer that the next call overwrites.
  std::string_view KeyOf(const EntryHeader* entry) const;
  bool KeyEquals(const EntryHeader* entry, std::string_view key) const;
  // Value bytes of a pinned entry. Without the lock: a pinned entry neither moves nor changes.
  void ReadPinned(const Pin& pin, size_t offset, char* data, size_t bytes) const;
  // Where these bytes are: up to `count` places, the last of which may end before them. Returns the number of places.
  size_t PinnedPlaces(const Pin& pin, size_t offset, size_t bytes, std::span<char>* places, size_t count) const;

  // ---- layout and charge ----

  Layout LayoutOf(const NewEntry& entry) const;
  uint64_t ChargeOf(const EntryHeader* entry, Ref ref) const;
  uint64_t ChargeOf(const Chunks& chunks) const;
  Chunks ChunksOf(uint64_t stream_bytes) const;
  // The most pages that a pin of an entry with this layout holds; whole pages need no pin.
  uint32_t PinnedPagesOf(const Layout& layout) const;
  // Whether the charge fits beside what cannot be evicted: entries in slots, entries with pins, and `keep` more.
  bool FitsBesideKept(uint64_t charge, uint64_t keep = 0) const {
    return state_->slot_bytes + state_->pinned_bytes + keep + charge <= state_->limit_bytes;
  }
  bool IsOver(uint64_t charge) const { return state_->charged_bytes + charge > state_->limit_bytes; }

  // Whether a stub of this entry's key would take the entry's place: in one piece, of the same size class.
  bool IsStubSized(Ref ref) const;

  // ---- entries ----

  // Writes the header's sizes and flags and the optional fields; kind, version and links stay as they are.
  static void WriteFields(EntryHeader* entry, const NewEntry& from, const Layout& layout, const Now& now);
  // Makes an unlinked entry in the empty slot: writes the fields, not the stream. False: no memory. May move chunks
  // that are not pinned.
  [[nodiscard]] bool Allocate(const NewEntry& entry, const Layout& layout, int slot);
  // Frees the entry's memory. REQUIRES: no pins, in no slot.
  void Free(Ref ref);
  Ref InSlot(int slot) const { return state_->slots[slot]; }
  const Ref* SlotAddress(int slot) const { return &state_->slots[slot]; }
  // Takes the entry out of its slot; the caller links or frees it.
  Ref TakeFromSlot(int slot);
  // Begin and end to count the entry of a slot from 1 on as being received.
  void AddSlotBytes(uint64_t charge) { state_->slot_bytes += charge; }
  void RemoveSlotBytes(int slot) { state_->slot_bytes -= ChargeOf(At(InSlot(slot)), InSlot(slot)); }

  // ---- staged entries: those of an atomic batch, from their allocation until all of them enter ----

  // From now on until EndStaging(), which no staged entry outlives, staged[] has the places of entries that are in no
  // slot. Stage() moves the entry in slot 0 to staged[index], Unstage() moves it back.
  void BeginStaging(Ref* staged) { staged_ = staged; }
  void EndStaging() { staged_ = nullptr; }
  void Stage(uint32_t index);
  void Unstage(uint32_t index);

  // Keeps an entry in place for a reader without the lock. False, and not pinned: more than `pages_max` pages would
  // have pins, or the entry has kPinsPerEntryMax.
  [[nodiscard]] bool PinEntry(Ref ref, uint32_t pages_max, Pin* pin);
  // Whether readers find enough room for their pins while this one lasts. REQUIRES: the entry is pinned.
  bool PinMayLast(Ref ref) const;
  // Frees the entry if it has left meanwhile.
  void Unpin(Ref ref);
  // Keeps the entry of a slot from 1 on in place for one writer without the lock, as PinEntry() does for readers. It is
  // charged as being received, not as pinned.
  [[nodiscard]] bool PinInSlot(int slot, Pin* pin);
  void UnpinInSlot(int slot);
  // Frees the entry that was in a slot from 1 on, and was taken out; if it has a writer, that one's Unpin() does.
  void GiveUp(Ref ref);

  // ---- growing at the end: plan, take, splice ----

  // REQUIRES: the layout is that of a chunked entry with `added_bytes` more.
  Extension PlanExtension(const Layout& layout, size_t added_bytes) const;
  // A list of chunks that belong to no entry yet.
  struct TakenChunks {
    Ref first = 0;
    Ref last = 0;
  };
  // Allocates the wanted chunks. False: no memory, and nothing was taken. The entry may move meanwhile; *owner is its
  // place before and after. REQUIRES: the entry has no pins.
  [[nodiscard]] bool TakeChunks(const Extension& extension, const Ref* owner, TakenChunks* taken);
  // Links the chunks and writes `added` behind the value. Allocates nothing. REQUIRES: nothing was allocated since
  // TakeChunks().
  void Splice(const Extension& extension, Ref owner, const TakenChunks& taken, std::string_view added);

  // A chunk, head or entry in a slot has moved to `to`: repoints the links to it within the entry.
  void MovedChunk(Ref to);
  void MovedHead(Ref to);
  void MovedInSlot(Ref from, Ref to);

 private:
  // False: more than `pages_max` pages would have pins.
  bool PinPages(Ref ref, uint32_t pages_max, Pin* pin);
  void UnpinPages(Ref ref);
  int ClassOfRest(const Chunks& chunks) const;
  // Removes the last chunk; returns its size class, and the bytes of the stream in it.
  int TakeLast(Chunks* chunks, uint64_t* data_bytes) const;
  // A charged piece of memory; 0: none. May move chunks that are not pinned.
  Ref AllocateChunk(int size_class);
  void FreeChunk(Ref ref);
  Ref FirstChunkOf(const EntryHeader* entry) const {
    return (entry->flags & kEntryChunked) ? LoadU32(BytesOf(entry) + OffsetsOf(entry).first_chunk) : 0;
  }
  char* FirstChunkLink(Ref owner) const { return BytesOf(At(owner)) + OffsetsOf(At(owner)).first_chunk; }
  // Calls visit(piece) for the pieces of a part of a pinned value, until it returns false.
  template <class Visit>
  void VisitPinned(const Pin& pin, size_t offset, size_t bytes, Visit visit) const;
  char* DataOf(Ref chunk) const { return arena_.At(chunk) + sizeof(ChunkHeader); }
  // Adds a chunk before those of a chunked entry; removes the first one.
  void PushChunk(Ref owner, Ref added, uint64_t data_bytes);
  Ref PopChunk(Ref owner);
  // Links the chunks behind `last_kept` (0: behind the head), as the end of the entry.
  void LinkTail(Ref owner, Ref last_kept, const TakenChunks& taken);

  Arena arena_;
  MemoryState* state_;
  const bool track_access_;
  const uint64_t value_bytes_min_;
  PageEvictor* evictor_;
  Ref* staged_ = nullptr;               // see BeginStaging()
  std::unique_ptr<char[]> key_buffer_;  // kKeyBytesMax: a long key in one piece
};

// ---- in line: what every request goes through ----

// memcmp() == 0, without a call for the lengths that keys have.
inline bool SameBytes(const char* a, const char* b, size_t bytes) {
  if (bytes < 8) return std::memcmp(a, b, bytes) == 0;
  uint64_t difference = 0;
  auto word = [](const char* from) {
    uint64_t value;
    std::memcpy(&value, from, sizeof value);
    return value;
  };
  for (size_t i = 0; i + 8 < bytes; i += 8) difference |= word(a + i) ^ word(b + i);
  return (difference | (word(a + bytes - 8) ^ word(b + bytes - 8))) == 0;
}

template <class Visit>
void EntryMemory::VisitStream(const EntryHeader* entry, size_t offset, size_t bytes, Visit visit) const {
  const EntryOffsets at = OffsetsOf(entry);
  const char* head = BytesOf(entry) + at.stream;
  if (!(entry->flags & kEntryChunked)) {
    visit(const_cast<char*>(head) + offset, bytes);
    return;
  }
  const size_t in_head = std::min(KeyBytesOf(entry), kKeyBytesInlineMax);
  if (offset < in_head) {
    const size_t piece = std::min(bytes, in_head - offset);
    visit(const_cast<char*>(head) + offset, piece);
    offset += piece;
    bytes -= piece;
  }
  offset -= in_head;
  for (Ref ref = LoadU32(BytesOf(entry) + at.first_chunk); bytes > 0;) {
    ChunkHeader* chunk = ChunkAt(ref);
    if (offset < chunk->data_bytes) {
      const size_t piece = std::min<size_t>(bytes, chunk->data_bytes - offset);
      visit(reinterpret_cast<char*>(chunk) + sizeof(ChunkHeader) + offset, piece);
      bytes -= piece;
      offset = 0;
    } else {
      offset -= chunk->data_bytes;
    }
    ref = chunk->next;
  }
}

inline void EntryMemory::ReadStream(const EntryHeader* entry, size_t offset, char* data, size_t bytes) const {
  if (bytes == 0) return;
  VisitStream(entry, offset, bytes, [&data](const char* piece, size_t piece_bytes) {
    std::memcpy(data, piece, piece_bytes);
    data += piece_bytes;
  });
}

inline bool EntryMemory::KeyEquals(const EntryHeader* entry, std::string_view key) const {
  if (key.size() <= kKeyBytesInlineMax) {
    return entry->key_bytes == key.size() &&
           SameBytes(BytesOf(entry) + StreamOffsetOf(entry->flags, false), key.data(), key.size());
  }
  if (!IsLongKey(entry) || KeyBytesOf(entry) != key.size()) return false;
  bool equal = true;
  VisitStream(entry, 0, key.size(), [&](const char* piece, size_t bytes) {
    equal = equal && std::memcmp(piece, key.data(), bytes) == 0;
    key.remove_prefix(bytes);
  });
  return equal;
}

inline Layout EntryMemory::LayoutOf(const NewEntry& entry) const {
  const SizeClasses& classes = arena_.classes();
  Layout layout;
  layout.long_key = entry.key.size() > kKeyBytesInlineMax;
  layout.flags = static_cast<uint16_t>(static_cast<uint16_t>(entry.codec) | entry.extra_flags);
  if (entry.expires_ms != kNeverExpires) layout.flags |= kEntryHasExpiry;
  if (entry.client_flags != 0) layout.flags |= kEntryHasClientFlags;
  if (entry.fresh_until_ms != kAlwaysFresh) layout.flags |= kEntryHasFreshness;
  if (entry.marks.any()) layout.flags |= kEntryHasMarks;
  if (track_access_) layout.flags |= kEntryHasAccess;
  const uint64_t stream = entry.key.size() + entry.value_bytes;
  uint64_t bytes =
      StreamOffsetOf(layout.flags, layout.long_key) + entry.key.size() + std::max(entry.value_bytes, value_bytes_min_);
  layout.chunk_stream = 0;
  layout.charge = kIndexShareBytes;
  if (bytes > classes.chunk_bytes_max()) {
    layout.flags |= kEntryChunked | kEntryHasExpiry;
    const size_t in_head = std::min(entry.key.size(), kKeyBytesInlineMax);
    bytes = StreamOffsetOf(layout.flags, layout.long_key) + in_head;
    layout.chunk_stream = stream - in_head;
    layout.charge += ChargeOf(ChunksOf(layout.chunk_stream));
  }
  layout.size_class = classes.ClassOf(bytes);
  layout.charge += classes.charge(layout.size_class);
  return layout;
}

inline void EntryMemory::WriteFields(EntryHeader* entry, const NewEntry& from, const Layout& layout, const Now& now) {
  entry->value_bytes = static_cast<uint32_t>(from.value_bytes);
  entry->key_bytes = static_cast<uint8_t>(layout.long_key ? kLongKeyMark : from.key.size());
  entry->flags = WithKind(layout.flags, KindOf(entry->flags));
  if (!HasOptionalFields(layout.flags) && !layout.long_key) [[likely]]
    return;
  char* bytes = BytesOf(entry);
  const EntryOffsets at = OffsetsOf(layout.flags, layout.long_key);
  if (layout.flags & kEntryHasExpiry) *ExpiryOf(entry) = ExpiryBlock{from.expires_ms, 0, 0};
  if (layout.flags & kEntryHasFreshness) {
    std::memcpy(bytes + at.freshness, &from.fresh_until_ms, sizeof from.fresh_until_ms);
  }
  SetMarks(entry, from.marks);
  if (layout.flags & kEntryHasAccess) StoreU32(bytes + at.access, AccessSeconds(now));
  if (layout.flags & kEntryHasClientFlags) StoreU32(bytes + at.client_flags, from.client_flags);
  if (layout.long_key) StoreU32(bytes + at.key_length, static_cast<uint32_t>(from.key.size()));
}

}  // namespace cairn
