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

Shard::Chunks Shard::ChunksOf(uint64_t stream_bytes) const {
  const SizeClasses& classes = *config_.classes;
  const uint64_t whole_data = classes.page_bytes() - sizeof(ChunkHeader);
  const uint64_t large_data = classes.chunk_bytes_max() - sizeof(ChunkHeader);
  const uint64_t behind = stream_bytes % whole_data;
  return {stream_bytes / whole_data, behind / large_data, behind % large_data};
}

int Shard::ClassOfRest(const Chunks& chunks) const {
  return config_.classes->ClassOf(chunks.rest_bytes + sizeof(ChunkHeader));
}

uint64_t Shard::ChargeOf(const Chunks& chunks) const {
  const SizeClasses& classes = *config_.classes;
  uint64_t charge = chunks.wholes * classes.charge(classes.whole_class());
  charge += chunks.larges * classes.charge(classes.count() - 1);
  if (chunks.rest_bytes > 0) charge += classes.charge(ClassOfRest(chunks));
  return charge;
}

uint32_t Shard::PinnedPagesOf(const Layout& layout) const {
  const Chunks chunks = ChunksOf(layout.chunk_stream);
  return static_cast<uint32_t>(1 + chunks.larges + (chunks.rest_bytes > 0 ? 1 : 0));
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

int Shard::TakeLast(Chunks* chunks, uint64_t* data_bytes) const {
  const SizeClasses& classes = *config_.classes;
  if (chunks->rest_bytes > 0) {
    const int size_class = ClassOfRest(*chunks);
    *data_bytes = chunks->rest_bytes;
    chunks->rest_bytes = 0;
    return size_class;
  }
  const bool large = chunks->larges > 0;
  (large ? chunks->larges : chunks->wholes)--;
  const int size_class = large ? classes.count() - 1 : classes.whole_class();
  *data_bytes = (large ? classes.chunk_bytes_max() : classes.page_bytes()) - sizeof(ChunkHeader);
  return size_class;
}

Ref Shard::AllocateChunk(int size_class) {
  Ref ref = arena_.Allocate(size_class);
  while (ref == 0 && EvictMoreForPage()) ref = arena_.Allocate(size_class);
  if (ref != 0) state_->charged_bytes += config_.classes->charge(size_class);
  return ref;
}

void Shard::PushChunk(Ref owner, Ref added, uint64_t data_bytes) {
  char* link = FirstChunkLink(owner);
  const Ref next = LoadU32(link);
  *ChunkAt(added) = ChunkHeader{next, owner, static_cast<uint32_t>(data_bytes), 1, WithKind(0, ChunkKind::kChunk)};
  if (next != 0) {
    ChunkAt(next)->prev = added;
    ChunkAt(next)->is_first = 0;
  }
  StoreU32(link, added);
}

Ref Shard::PopChunk(Ref owner) {
  char* link = FirstChunkLink(owner);
  const Ref first = LoadU32(link);
  const Ref next = ChunkAt(first)->next;
  if (next != 0) {
    ChunkAt(next)->prev = owner;
    ChunkAt(next)->is_first = 1;
  }
  StoreU32(link, next);
  return first;
}

void Shard::FreeChunk(Ref ref) {
  state_->charged_bytes -= config_.classes->charge(arena_.ClassAt(ref));
  arena_.Free(ref);
}

bool Shard::AllocateEntry(const NewEntry& from, const Layout& layout, int slot) {
  const Ref head = AllocateChunk(layout.size_class);
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
  StoreU32(FirstChunkLink(head), 0);
  Chunks chunks = ChunksOf(layout.chunk_stream);
  while (chunks.rest_bytes > 0 || chunks.larges > 0 || chunks.wholes > 0) {
    uint64_t data_bytes;
    const int size_class = TakeLast(&chunks, &data_bytes);
    const Ref added = AllocateChunk(size_class);
    const Ref owner = state_->bodies[slot];
    if (added == 0) {
      FreeEntry(owner);
      state_->bodies[slot] = 0;
      return false;
    }
    PushChunk(owner, added, data_bytes);
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

Status Shard::Extend(Ref* ref, const NewEntry& from, std::string_view added, const Now& now) {
  const Layout layout = LayoutOf(from);
  if (layout.charge > state_->limit_bytes) return Status::kTooLarge;
  Bump(*ref);
  const Chunks before = ChunksOf(layout.chunk_stream - added.size());
  const Chunks after = ChunksOf(layout.chunk_stream);
  // What is of another size now is replaced: the rest, and what was smaller than a page if it has become one. A rest of
  // the largest size that is now full is a large chunk where it is.
  const bool fills_rest = after.larges == before.larges + 1 && after.rest_bytes == 0 && before.rest_bytes != 0 &&
                          ClassOfRest(before) == config_.classes->count() - 1;
  const bool keeps_rest =
      after.larges == before.larges &&
      (before.rest_bytes == after.rest_bytes || (before.rest_bytes != 0 && ClassOfRest(before) == ClassOfRest(after)));
  const bool grows_in_place = after.wholes == before.wholes && (keeps_rest || fills_rest);
  const uint64_t kept = before.wholes + (after.wholes == before.wholes ? before.larges : 0);
  Chunks wanted{after.wholes - before.wholes, after.larges, after.rest_bytes};
  if (wanted.wholes == 0) wanted.larges -= before.larges;
  if (grows_in_place) wanted = Chunks{0, 0, 0};
  if (!MakeRoom(ChargeOf(wanted), false, true)) return Status::kNoMemory;
  // The entry may move while memory is taken, but it stays the newest; and chunks in front of its others are found
  // through it.
  int count = 0;
  while (wanted.rest_bytes > 0 || wanted.larges > 0 || wanted.wholes > 0) {
    uint64_t data_bytes;
    const Ref chunk = AllocateChunk(TakeLast(&wanted, &data_bytes));
    if (chunk == 0) {
      for (; count > 0; count--) FreeChunk(PopChunk(lru_.head()));
      return Status::kNoMemory;
    }
    PushChunk(lru_.head(), chunk, data_bytes);
    count++;
  }
  const Ref head = lru_.head();
  EntryHeader* entry = At(head);
  Ref first_new = 0;
  Ref last_new = 0;
  for (int i = 0; i < count; i++) {
    const Ref chunk = PopChunk(head);
    if (i == 0) first_new = chunk;
    last_new = chunk;
  }
  Announce(Reason::kReplaced, entry);
  Ref last_kept = 0;
  Ref tail = LoadU32(FirstChunkLink(head));
  for (uint64_t i = 0; i < kept; i++) {
    last_kept = tail;
    tail = ChunkAt(tail)->next;
  }
  const auto data_of = [this](Ref chunk) { return arena_.At(chunk) + sizeof(ChunkHeader); };
  if (grows_in_place) {
    if (!added.empty()) {
      std::memcpy(data_of(tail) + before.rest_bytes, added.data(), added.size());
      ChunkAt(tail)->data_bytes += static_cast<uint32_t>(added.size());
    }
  } else {
    // From here on nothing is allocated, so nothing moves.
    Ref to = first_new;
    size_t offset = 0;
    const auto put = [&](const char* data, size_t bytes) {
      while (bytes > 0) {
        const ChunkHeader* chunk = ChunkAt(to);
        const size_t piece = std::min<size_t>(bytes, chunk->data_bytes - offset);
        std::memcpy(data_of(to) + offset, data, piece);
        data += piece;
        bytes -= piece;
        offset += piece;
        if (offset == chunk->data_bytes) {
          to = chunk->next;
          offset = 0;
        }
      }
    };
    for (Ref chunk = tail; chunk != 0;) {
      const Ref next = ChunkAt(chunk)->next;
      put(data_of(chunk), ChunkAt(chunk)->data_bytes);
      FreeChunk(chunk);
      chunk = next;
    }
    put(added.data(), added.size());
    ChunkAt(last_new)->next = 0;
    for (Ref chunk = first_new; chunk != last_new; chunk = ChunkAt(chunk)->next) {
      ChunkAt(ChunkAt(chunk)->next)->prev = chunk;
      ChunkAt(ChunkAt(chunk)->next)->is_first = 0;
    }
    ChunkAt(first_new)->prev = last_kept != 0 ? last_kept : head;
    ChunkAt(first_new)->is_first = last_kept == 0;
    if (last_kept != 0) {
      ChunkAt(last_kept)->next = first_new;
    } else {
      StoreU32(FirstChunkLink(head), first_new);
    }
  }
  entry->value_bytes = static_cast<uint32_t>(from.value_bytes);
  entry->flags &= static_cast<uint16_t>(~kEntryCodecMask);
  entry->flags |= static_cast<uint16_t>(from.codec);
  if (entry->flags & kEntryHasAccess) {
    StoreU32(BytesOf(entry) + OffsetsOf(entry).access, static_cast<uint32_t>(now.boot_ms / 1000));
  }
  state_->payload_bytes += added.size();
  *ref = head;
  return Status::kStored;
}

bool Shard::HasRoomFor(uint64_t charge, bool keep_newest) const {
  // Bodies, and entries that a reader holds in place, give nothing back when they are evicted.
  uint64_t kept = state_->body_bytes + state_->pinned_bytes;
  if (keep_newest && PinsOf(At(lru_.head())) == 0) kept += ChargeOf(At(lru_.head()), lru_.head());
  return kept + charge <= state_->limit_bytes;
}

bool Shard::RoomStep(const Layout& layout, bool keep_newest) {
  // MakeRoom() will refuse it: nothing is evicted in vain.
  if (!HasRoomFor(layout.charge, keep_newest)) return false;
  for (int i = 0; i < kStepEntriesMax && state_->charged_bytes + layout.charge > state_->limit_bytes; i++) {
    if ((keep_newest && lru_.tail() == lru_.head()) || !EvictTail()) return false;
  }
  if (state_->charged_bytes + layout.charge > state_->limit_bytes) return true;
  const uint64_t wholes = ChunksOf(layout.chunk_stream).wholes;
  for (int i = 0; i < kEvacuationsPerStep; i++) {
    const ArenaState& arena = state_->arena;
    if (arena.pages_used + wholes <= arena.pages_total || !arena_.EvacuateOne()) return false;
  }
  return true;
}

bool Shard::MakeRoom(uint64_t charge, bool new_entry, bool keep_newest) {
  if (!HasRoomFor(charge, keep_newest)) return false;
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
