// What of Shard deals with bytes: streams in pieces, layouts, allocation, eviction for room.
#include "store/shard.h"

#include <algorithm>
#include <cstring>

#include "store/shard_inl.h"

namespace cairn {

// ---- streams ----

void Shard::WriteStream(EntryHeader* entry, size_t offset, const char* data, size_t bytes) {
  if (bytes == 0) return;
  VisitStream(entry, offset, bytes, [&data](char* piece, size_t piece_bytes) {
    std::memcpy(piece, data, piece_bytes);
    data += piece_bytes;
  });
}

void Shard::ReadPinned(const Pin& pin, size_t offset, char* data, size_t bytes) const {
  if (pin.first_chunk == 0) {
    std::memcpy(data, arena_.At(pin.ref) + pin.skip_bytes + offset, bytes);
    return;
  }
  offset += pin.skip_bytes;
  for (Ref ref = pin.first_chunk; bytes > 0;) {
    const ChunkHeader* chunk = ChunkAt(ref);
    if (offset < chunk->data_bytes) {
      const size_t piece = std::min<size_t>(bytes, chunk->data_bytes - offset);
      std::memcpy(data, reinterpret_cast<const char*>(chunk) + sizeof(ChunkHeader) + offset, piece);
      data += piece;
      bytes -= piece;
      offset = 0;
    } else {
      offset -= chunk->data_bytes;
    }
    ref = chunk->next;
  }
}

std::string_view Shard::KeyOf(const EntryHeader* entry) const {
  const size_t bytes = KeyBytesOf(entry);
  if (!(entry->flags & kEntryChunked) || bytes <= kKeyBytesInlineMax) {
    return {BytesOf(entry) + StreamOffsetOf(entry->flags, IsLongKey(entry)), bytes};
  }
  ReadStream(entry, 0, key_buffer_.get(), bytes);
  return {key_buffer_.get(), bytes};
}

// ---- layout and memory ----

uint64_t Shard::ChunksCharge(uint64_t stream_bytes) const {
  const SizeClasses& classes = *config_.classes;
  const uint64_t whole_data = classes.page_bytes() - sizeof(ChunkHeader);
  const uint64_t large_data = classes.chunk_bytes_max() - sizeof(ChunkHeader);
  uint64_t rest = stream_bytes % whole_data;
  uint64_t charge = stream_bytes / whole_data * classes.charge(classes.whole_class());
  charge += rest / large_data * classes.charge(classes.count() - 1);
  rest %= large_data;
  if (rest > 0) charge += classes.charge(classes.ClassOf(rest + sizeof(ChunkHeader)));
  return charge;
}

uint32_t Shard::PinnedPagesOf(const Layout& layout) const {
  const SizeClasses& classes = *config_.classes;
  const uint64_t rest = layout.chunk_stream % (classes.page_bytes() - sizeof(ChunkHeader));
  const uint64_t large_data = classes.chunk_bytes_max() - sizeof(ChunkHeader);
  return static_cast<uint32_t>(1 + (rest + large_data - 1) / large_data);
}

uint64_t Shard::ChargeOf(const EntryHeader* entry, Ref ref) const {
  const SizeClasses& classes = *config_.classes;
  uint64_t charge = kIndexShareBytes + classes.charge(arena_.ClassAt(ref));
  if (entry->flags & kEntryChunked) {
    for (Ref chunk = LoadU32(BytesOf(entry) + OffsetsOf(entry).first_chunk); chunk != 0; chunk = ChunkAt(chunk)->next) {
      charge += classes.charge(arena_.ClassAt(chunk));
    }
  }
  return charge;
}

bool Shard::AllocateEntry(const NewEntry& from, const Layout& layout, int slot) {
  const SizeClasses& classes = *config_.classes;
  auto allocate = [&](int size_class) {
    Ref ref = arena_.Allocate(size_class);
    while (ref == 0 && EvictMoreForPage()) ref = arena_.Allocate(size_class);
    if (ref != 0) state_->charged_bytes += classes.charge(size_class);
    return ref;
  };
  const Ref head = allocate(layout.size_class);
  if (head == 0) return false;
  state_->charged_bytes += kIndexShareBytes;
  EntryHeader* entry = At(head);
  std::memset(static_cast<void*>(entry), 0, sizeof(EntryHeader));
  entry->flags = WithKind(0, ChunkKind::kUnlinked);
  WriteFields(entry, from, layout, Now{});
  entry->lru_prev = static_cast<uint32_t>(slot);
  state_->bodies[slot] = head;
  if (!(layout.flags & kEntryChunked)) return true;

  // The last chunk first, each put before the ones that are there: the head is then all that has to be found again
  // when an allocation moves things.
  const size_t first_chunk = OffsetsOf(entry).first_chunk;
  StoreU32(BytesOf(entry) + first_chunk, 0);
  const uint64_t whole_data = classes.page_bytes() - sizeof(ChunkHeader);
  const uint64_t large_data = classes.chunk_bytes_max() - sizeof(ChunkHeader);
  uint64_t wholes = layout.chunk_stream / whole_data;
  uint64_t rest = layout.chunk_stream % whole_data;
  uint64_t larges = rest / large_data;
  rest %= large_data;
  while (rest > 0 || larges > 0 || wholes > 0) {
    uint64_t data_bytes;
    int size_class;
    if (rest > 0) {
      data_bytes = rest;
      size_class = classes.ClassOf(rest + sizeof(ChunkHeader));
      rest = 0;
    } else if (larges > 0) {
      data_bytes = large_data;
      size_class = classes.count() - 1;
      larges--;
    } else {
      data_bytes = whole_data;
      size_class = classes.whole_class();
      wholes--;
    }
    const Ref added = allocate(size_class);
    const Ref owner = state_->bodies[slot];
    if (added == 0) {
      FreeEntry(owner);
      state_->bodies[slot] = 0;
      return false;
    }
    char* link = BytesOf(At(owner)) + first_chunk;
    const Ref next = LoadU32(link);
    *ChunkAt(added) = ChunkHeader{next, owner, static_cast<uint32_t>(data_bytes), 1, WithKind(0, ChunkKind::kChunk)};
    if (next != 0) {
      ChunkAt(next)->prev = added;
      ChunkAt(next)->is_first = 0;
    }
    StoreU32(link, added);
  }
  return true;
}

void Shard::FreeEntry(Ref ref) {
  const EntryHeader* entry = At(ref);
  const SizeClasses& classes = *config_.classes;
  uint64_t charge = kIndexShareBytes + classes.charge(arena_.ClassAt(ref));
  if (entry->flags & kEntryChunked) {
    for (Ref chunk = LoadU32(BytesOf(entry) + OffsetsOf(entry).first_chunk); chunk != 0;) {
      const Ref next = ChunkAt(chunk)->next;
      charge += classes.charge(arena_.ClassAt(chunk));
      arena_.Free(chunk);
      chunk = next;
    }
  }
  arena_.Free(ref);
  state_->charged_bytes -= charge;
}

bool Shard::MakeRoom(uint64_t charge, bool new_entry, bool keep_newest) {
  // Bodies, and entries that a reader holds in place, give nothing back when they are evicted.
  uint64_t kept = state_->body_bytes + state_->pinned_bytes;
  if (keep_newest && PinsOf(At(lru_.head())) == 0) kept += ChargeOf(At(lru_.head()), lru_.head());
  if (kept + charge > state_->limit_bytes) return false;
  auto full = [this, charge, new_entry] {
    return state_->charged_bytes + charge > state_->limit_bytes ||
           (new_entry && state_->entries_limit != 0 &&
            state_->live_entries + state_->dead_entries >= state_->entries_limit);
  };
  while (full()) {
    if (keep_newest && lru_.tail() == lru_.head()) return false;
    if (!EvictTail()) return false;
  }
  return true;
}

bool Shard::EvictTail() {
  const Ref tail = lru_.tail();
  if (tail == 0) return false;
  RemoveEntry(tail, IsDead(At(tail)) ? Reason::kCleared : Reason::kEvicted);
  return true;
}

bool Shard::EvictMoreForPage() {
  // The reserve makes this unreachable but by bad luck with overflow buckets. The newest entry may be one that the
  // caller still reads from.
  if (lru_.tail() == lru_.head()) return false;
  state_->counters.reserve_evictions++;
  return EvictTail();
}

}  // namespace cairn
