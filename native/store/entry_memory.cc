#include "store/entry_memory.h"

#include "base/check.h"

namespace cairn {

// ---- streams ----

void EntryMemory::WriteStream(EntryHeader* entry, size_t offset, const char* data, size_t bytes) {
  if (bytes == 0) return;
  VisitStream(entry, offset, bytes, [&data](char* piece, size_t piece_bytes) {
    std::memcpy(piece, data, piece_bytes);
    data += piece_bytes;
  });
}

void EntryMemory::CopyValue(const EntryHeader* from, size_t from_offset, EntryHeader* to, size_t to_offset,
                            size_t bytes) {
  if (bytes == 0) return;
  size_t offset = KeyBytesOf(to) + to_offset;
  VisitStream(from, KeyBytesOf(from) + from_offset, bytes, [&](const char* piece, size_t piece_bytes) {
    WriteStream(to, offset, piece, piece_bytes);
    offset += piece_bytes;
  });
}

template <class Visit>
void EntryMemory::VisitPinned(const Pin& pin, size_t offset, size_t bytes, Visit visit) const {
  offset += pin.skip_bytes;
  if (pin.first_chunk == 0) {
    visit(std::span<char>(arena_.At(pin.ref) + offset, bytes));
    return;
  }
  for (Ref ref = pin.first_chunk; bytes > 0;) {
    const ChunkHeader* chunk = ChunkAt(ref);
    if (offset < chunk->data_bytes) {
      const size_t piece = std::min<size_t>(bytes, chunk->data_bytes - offset);
      if (!visit(std::span<char>(DataOf(ref) + offset, piece))) return;
      bytes -= piece;
      offset = 0;
    } else {
      offset -= chunk->data_bytes;
    }
    ref = chunk->next;
  }
}

void EntryMemory::ReadPinned(const Pin& pin, size_t offset, char* data, size_t bytes) const {
  VisitPinned(pin, offset, bytes, [&data](std::span<char> piece) {
    std::memcpy(data, piece.data(), piece.size());
    data += piece.size();
    return true;
  });
}

size_t EntryMemory::PinnedPlaces(const Pin& pin, size_t offset, size_t bytes, std::span<char>* places,
                                 size_t count) const {
  size_t found = 0;
  VisitPinned(pin, offset, bytes, [&](std::span<char> place) {
    places[found++] = place;
    return found != count;
  });
  return found;
}

std::string_view EntryMemory::KeyOf(const EntryHeader* entry) const {
  const size_t bytes = KeyBytesOf(entry);
  if (!(entry->flags & kEntryChunked) || bytes <= kKeyBytesInlineMax) {
    return {BytesOf(entry) + StreamOffsetOf(entry->flags, IsLongKey(entry)), bytes};
  }
  ReadStream(entry, 0, key_buffer_.get(), bytes);
  return {key_buffer_.get(), bytes};
}

// ---- layout and charge ----

Chunks EntryMemory::ChunksOf(uint64_t stream_bytes) const {
  const SizeClasses& classes = arena_.classes();
  const uint64_t whole_data = classes.page_bytes() - sizeof(ChunkHeader);
  const uint64_t large_data = classes.chunk_bytes_max() - sizeof(ChunkHeader);
  const uint64_t behind = stream_bytes % whole_data;
  return {stream_bytes / whole_data, behind / large_data, behind % large_data};
}

int EntryMemory::ClassOfRest(const Chunks& chunks) const {
  return arena_.classes().ClassOf(chunks.rest_bytes + sizeof(ChunkHeader));
}

uint64_t EntryMemory::ChargeOf(const Chunks& chunks) const {
  const SizeClasses& classes = arena_.classes();
  uint64_t charge = chunks.wholes * classes.charge(classes.whole_class());
  charge += chunks.larges * classes.charge(classes.count() - 1);
  if (chunks.rest_bytes > 0) charge += classes.charge(ClassOfRest(chunks));
  return charge;
}

uint32_t EntryMemory::PinnedPagesOf(const Layout& layout) const {
  const Chunks chunks = ChunksOf(layout.chunk_stream);
  return static_cast<uint32_t>(1 + chunks.larges + (chunks.rest_bytes > 0 ? 1 : 0));
}

uint64_t EntryMemory::ChargeOf(const EntryHeader* entry, Ref ref) const {
  const SizeClasses& classes = arena_.classes();
  uint64_t charge = kIndexShareBytes + classes.charge(arena_.ClassAt(ref));
  for (Ref chunk = FirstChunkOf(entry); chunk != 0; chunk = ChunkAt(chunk)->next) {
    charge += classes.charge(arena_.ClassAt(chunk));
  }
  return charge;
}

int EntryMemory::TakeLast(Chunks* chunks, uint64_t* data_bytes) const {
  const SizeClasses& classes = arena_.classes();
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

bool EntryMemory::IsStubSized(Ref ref) const {
  const EntryHeader* entry = At(ref);
  if ((entry->flags & kEntryChunked) || PinsOf(entry) != 0) return false;
  const uint64_t bytes = StreamOffsetOf(entry->flags, IsLongKey(entry)) + KeyBytesOf(entry) + value_bytes_min_;
  return arena_.classes().ClassOf(bytes) == arena_.ClassAt(ref);
}

// ---- chunks ----

Ref EntryMemory::AllocateChunk(int size_class) {
  Ref ref = arena_.Allocate(size_class);
  while (ref == 0 && evictor_->EvictForPage()) ref = arena_.Allocate(size_class);
  if (ref != 0) state_->charged_bytes += arena_.classes().charge(size_class);
  return ref;
}

void EntryMemory::FreeChunk(Ref ref) {
  state_->charged_bytes -= arena_.classes().charge(arena_.ClassAt(ref));
  arena_.Free(ref);
}

void EntryMemory::PushChunk(Ref owner, Ref added, uint64_t data_bytes) {
  char* link = FirstChunkLink(owner);
  const Ref next = LoadU32(link);
  *ChunkAt(added) = ChunkHeader{next, owner, static_cast<uint32_t>(data_bytes), 1, WithKind(0, ChunkKind::kChunk)};
  if (next != 0) {
    ChunkAt(next)->prev = added;
    ChunkAt(next)->is_first = 0;
  }
  StoreU32(link, added);
}

Ref EntryMemory::PopChunk(Ref owner) {
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

// ---- entries ----

bool EntryMemory::Allocate(const NewEntry& from, const Layout& layout, int slot) {
  DCHECK(InSlot(slot) == 0);
  const Ref head = AllocateChunk(layout.size_class);
  if (head == 0) return false;
  state_->charged_bytes += kIndexShareBytes;
  EntryHeader* entry = At(head);
  std::memset(static_cast<void*>(entry), 0, sizeof(EntryHeader));
  entry->flags = WithKind(0, ChunkKind::kUnlinked);
  WriteFields(entry, from, layout, Now{});
  entry->lru_prev = static_cast<uint32_t>(slot);
  state_->slots[slot] = head;
  if (!(layout.flags & kEntryChunked)) return true;

  // The last chunk first, each put before the chunks that are there: the head is then all that has to be found again
  // when an allocation moves things.
  StoreU32(FirstChunkLink(head), 0);
  Chunks chunks = ChunksOf(layout.chunk_stream);
  while (!chunks.empty()) {
    uint64_t data_bytes;
    const int size_class = TakeLast(&chunks, &data_bytes);
    const Ref added = AllocateChunk(size_class);
    if (added == 0) {
      Free(TakeFromSlot(slot));
      return false;
    }
    PushChunk(InSlot(slot), added, data_bytes);
  }
  return true;
}

Ref EntryMemory::TakeFromSlot(int slot) {
  const Ref ref = state_->slots[slot];
  DCHECK(ref != 0);
  state_->slots[slot] = 0;
  return ref;
}

void EntryMemory::Free(Ref ref) {
  const SizeClasses& classes = arena_.classes();
  uint64_t charge = kIndexShareBytes + classes.charge(arena_.ClassAt(ref));
  for (Ref chunk = FirstChunkOf(At(ref)); chunk != 0;) {
    const Ref next = ChunkAt(chunk)->next;
    charge += classes.charge(arena_.ClassAt(chunk));
    arena_.Free(chunk);
    chunk = next;
  }
  arena_.Free(ref);
  state_->charged_bytes -= charge;
}

bool EntryMemory::PinPages(Ref ref, uint32_t pages_max, Pin* pin) {
  EntryHeader* entry = At(ref);
  const Ref first = FirstChunkOf(entry);
  uint32_t pages = arena_.IsPinned(ref) ? 0 : 1;
  for (Ref chunk = first; chunk != 0; chunk = ChunkAt(chunk)->next) {
    if (!arena_.IsWhole(chunk) && !arena_.IsPinned(chunk)) pages++;
  }
  if (arena_.state().pinned_pages + pages > pages_max) return false;
  AddPin(entry);
  arena_.PinPage(ref);
  for (Ref chunk = first; chunk != 0; chunk = ChunkAt(chunk)->next) arena_.PinPage(chunk);
  const size_t key_bytes = KeyBytesOf(entry);
  pin->ref = ref;
  pin->first_chunk = first;
  pin->skip_bytes = static_cast<uint32_t>(first == 0 ? OffsetsOf(entry).stream + key_bytes
                                                     : key_bytes - std::min(key_bytes, kKeyBytesInlineMax));
  return true;
}

void EntryMemory::UnpinPages(Ref ref) {
  EntryHeader* entry = At(ref);
  DCHECK(PinsOf(entry) > 0);
  RemovePin(entry);
  arena_.UnpinPage(ref);
  for (Ref chunk = FirstChunkOf(entry); chunk != 0; chunk = ChunkAt(chunk)->next) arena_.UnpinPage(chunk);
}

bool EntryMemory::PinEntry(Ref ref, uint32_t pages_max, Pin* pin) {
  EntryHeader* entry = At(ref);
  if (PinsOf(entry) >= kPinsPerEntryMax || !PinPages(ref, pages_max, pin)) return false;
  if (PinsOf(entry) == 1) state_->pinned_bytes += ChargeOf(entry, ref);
  return true;
}

bool EntryMemory::PinMayLast(Ref ref) const {
  return PinsOf(At(ref)) + kPinsPerEntrySpare <= kPinsPerEntryMax &&
         arena_.state().pinned_pages + kPinnedPagesSpare <= kPinnedPagesMax &&
         state_->pinned_bytes <= state_->limit_bytes / kLastingPinShareMax;
}

void EntryMemory::Unpin(Ref ref) {
  EntryHeader* entry = At(ref);
  UnpinPages(ref);
  if (PinsOf(entry) != 0) return;
  state_->pinned_bytes -= ChargeOf(entry, ref);
  if (KindOf(entry->flags) == ChunkKind::kUnlinked) Free(ref);
}

bool EntryMemory::PinInSlot(int slot, Pin* pin) { return PinPages(InSlot(slot), kPinnedPagesMax, pin); }

void EntryMemory::UnpinInSlot(int slot) { UnpinPages(InSlot(slot)); }

void EntryMemory::GiveUp(Ref ref) {
  if (PinsOf(At(ref)) == 0) return Free(ref);
  state_->pinned_bytes += ChargeOf(At(ref), ref);
}

// ---- growing at the end ----

Extension EntryMemory::PlanExtension(const Layout& layout, size_t added_bytes) const {
  const Chunks before = ChunksOf(layout.chunk_stream - added_bytes);
  const Chunks after = ChunksOf(layout.chunk_stream);
  // A chunk whose size changes is replaced: the rest, and the large ones if they have become a whole page. A rest of
  // the largest size that is now full is a large chunk where it is.
  const bool fills_rest = after.larges == before.larges + 1 && after.rest_bytes == 0 && before.rest_bytes != 0 &&
                          ClassOfRest(before) == arena_.classes().count() - 1;
  const bool keeps_rest =
      after.larges == before.larges &&
      (before.rest_bytes == after.rest_bytes || (before.rest_bytes != 0 && ClassOfRest(before) == ClassOfRest(after)));
  Extension extension;
  extension.in_place = after.wholes == before.wholes && (keeps_rest || fills_rest);
  extension.kept = before.wholes + (after.wholes == before.wholes ? before.larges : 0);
  extension.rest_bytes = before.rest_bytes;
  extension.wanted = {after.wholes - before.wholes, after.larges, after.rest_bytes};
  if (extension.wanted.wholes == 0) extension.wanted.larges -= before.larges;
  if (extension.in_place) extension.wanted = Chunks{0, 0, 0};
  return extension;
}

bool EntryMemory::TakeChunks(const Extension& extension, const Ref* owner, TakenChunks* taken) {
  int count = 0;
  bool complete = true;
  for (Chunks wanted = extension.wanted; !wanted.empty() && complete;) {
    uint64_t data_bytes;
    const Ref chunk = AllocateChunk(TakeLast(&wanted, &data_bytes));
    complete = chunk != 0;
    if (!complete) break;
    // In front of the entry's chunks, where a move finds it.
    PushChunk(*owner, chunk, data_bytes);
    count++;
  }
  for (int i = 0; i < count; i++) {
    const Ref chunk = PopChunk(*owner);
    if (!complete) FreeChunk(chunk);
    if (i == 0) taken->first = chunk;
    taken->last = chunk;
  }
  return complete;
}

void EntryMemory::Splice(const Extension& extension, Ref owner, const TakenChunks& taken, std::string_view added) {
  Ref last_kept = 0;
  Ref tail = LoadU32(FirstChunkLink(owner));
  for (uint64_t i = 0; i < extension.kept; i++) {
    last_kept = tail;
    tail = ChunkAt(tail)->next;
  }
  if (extension.in_place) {
    if (added.empty()) return;
    std::memcpy(DataOf(tail) + extension.rest_bytes, added.data(), added.size());
    ChunkAt(tail)->data_bytes += static_cast<uint32_t>(added.size());
    return;
  }
  Ref to = taken.first;
  size_t offset = 0;
  const auto put = [&](const char* data, size_t bytes) {
    while (bytes > 0) {
      const ChunkHeader* chunk = ChunkAt(to);
      const size_t piece = std::min<size_t>(bytes, chunk->data_bytes - offset);
      std::memcpy(DataOf(to) + offset, data, piece);
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
    put(DataOf(chunk), ChunkAt(chunk)->data_bytes);
    FreeChunk(chunk);
    chunk = next;
  }
  put(added.data(), added.size());
  LinkTail(owner, last_kept, taken);
}

void EntryMemory::LinkTail(Ref owner, Ref last_kept, const TakenChunks& taken) {
  ChunkAt(taken.last)->next = 0;
  for (Ref chunk = taken.first; chunk != taken.last; chunk = ChunkAt(chunk)->next) {
    ChunkAt(ChunkAt(chunk)->next)->prev = chunk;
    ChunkAt(ChunkAt(chunk)->next)->is_first = 0;
  }
  ChunkAt(taken.first)->prev = last_kept != 0 ? last_kept : owner;
  ChunkAt(taken.first)->is_first = last_kept == 0;
  if (last_kept != 0) {
    ChunkAt(last_kept)->next = taken.first;
  } else {
    StoreU32(FirstChunkLink(owner), taken.first);
  }
}

// ---- moves ----

void EntryMemory::MovedChunk(Ref to) {
  const ChunkHeader* chunk = ChunkAt(to);
  if (chunk->next != 0) ChunkAt(chunk->next)->prev = to;
  if (chunk->is_first) {
    StoreU32(FirstChunkLink(chunk->prev), to);
  } else {
    ChunkAt(chunk->prev)->next = to;
  }
}

void EntryMemory::MovedHead(Ref to) {
  const Ref first = FirstChunkOf(At(to));
  if (first != 0) ChunkAt(first)->prev = to;
}

void EntryMemory::MovedInSlot(Ref from, Ref to) {
  const uint32_t slot = At(to)->lru_prev;
  Ref* const place = slot < kEntrySlots ? &state_->slots[slot] : &staged_[slot - kEntrySlots];
  CHECK(*place == from);
  *place = to;
}

// ---- staged entries ----

void EntryMemory::Stage(uint32_t index) {
  const Ref ref = TakeFromSlot(0);
  At(ref)->lru_prev = kEntrySlots + index;
  staged_[index] = ref;
}

void EntryMemory::Unstage(uint32_t index) {
  DCHECK(InSlot(0) == 0);
  const Ref ref = staged_[index];
  At(ref)->lru_prev = 0;
  state_->slots[0] = ref;
  staged_[index] = 0;
}

}  // namespace cairn
