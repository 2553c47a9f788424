#include "store/shard.h"

#include <algorithm>
#include <charconv>
#include <cstring>

namespace cairn {

namespace {

constexpr uint64_t RoundUp(uint64_t value, uint64_t multiple) { return (value + multiple - 1) / multiple * multiple; }

bool IsText(Codec codec) { return codec == Codec::kAscii || codec == Codec::kUtf8 || codec == Codec::kWtf8; }

bool IsAscii(std::string_view bytes) {
  return std::none_of(bytes.begin(), bytes.end(), [](char c) { return static_cast<unsigned char>(c) >= 0x80; });
}

// Whether the bytes are well-formed UTF-8 (The Unicode Standard, table 3-7).
bool IsUtf8(std::string_view bytes) {
  for (size_t i = 0; i < bytes.size();) {
    const auto lead = static_cast<unsigned char>(bytes[i]);
    if (lead < 0x80) {
      i++;
      continue;
    }
    size_t length;
    unsigned char low = 0x80;
    unsigned char high = 0xbf;
    if (lead >= 0xc2 && lead <= 0xdf) {
      length = 2;
    } else if (lead >= 0xe0 && lead <= 0xef) {
      length = 3;
      if (lead == 0xe0) low = 0xa0;
      if (lead == 0xed) high = 0x9f;
    } else if (lead >= 0xf0 && lead <= 0xf4) {
      length = 4;
      if (lead == 0xf0) low = 0x90;
      if (lead == 0xf4) high = 0x8f;
    } else {
      return false;
    }
    if (bytes.size() - i < length) return false;
    for (size_t k = 1; k < length; k++) {
      const auto next = static_cast<unsigned char>(bytes[i + k]);
      if (next < low || next > high) return false;
      low = 0x80;
      high = 0xbf;
    }
    i += length;
  }
  return true;
}

// The codec of a value with something of another codec put before or behind it; see docs/values.md. False: it cannot be.
bool JoinCodecs(Codec old, Codec added_codec, std::string_view added, Codec* joined) {
  if (old == Codec::kRaw) {
    *joined = Codec::kRaw;
    return added_codec == Codec::kRaw || IsText(added_codec);
  }
  if (!IsText(old)) return false;
  if (added_codec == Codec::kRaw) {
    // From the port: text stays text as long as it is.
    if (IsAscii(added)) {
      *joined = old;
    } else if (IsUtf8(added)) {
      *joined = old == Codec::kWtf8 ? Codec::kWtf8 : Codec::kUtf8;
    } else {
      *joined = Codec::kRaw;
    }
    return true;
  }
  if (!IsText(added_codec)) return false;
  *joined = std::max(old, added_codec);
  return true;
}
static_assert(Codec::kAscii < Codec::kUtf8 && Codec::kUtf8 < Codec::kWtf8);

// The number that a value spells, as strtoull and memcached read it: blanks and a plus sign may precede the digits, a
// blank may end them. At most 20 characters.
bool ParseDecimal(const char* text, size_t bytes, uint64_t* number) {
  auto is_blank = [](char c) { return c == ' ' || (c >= '\t' && c <= '\r'); };
  if (bytes == 0 || bytes > 20) return false;
  const char* end = text + bytes;
  while (text < end && is_blank(*text)) text++;
  if (text < end && *text == '+') text++;
  const auto [stop, error] = std::from_chars(text, end, *number);
  return error == std::errc{} && (stop == end || is_blank(*stop));
}

}  // namespace

// ---- set-up ----

uint64_t Shard::HeaderBytes(uint32_t pages, uint64_t page_bytes) {
  uint64_t bytes = RoundUp(sizeof(ShardState), 64);
  bytes += RoundUp(uint64_t{pages} * sizeof(PageDesc), 64);
  bytes += uint64_t{pages} * sizeof(uint32_t);
  return RoundUp(bytes, page_bytes);
}

uint32_t Shard::ReservePages(const SizeClasses& classes) {
  // A partial page for each class, overflow buckets included; the table's last page and one for its growth.
  return static_cast<uint32_t>(classes.count()) + 1 + kPinnedPagesMax + 2;
}

Shard::Shard(char* base, const Config& config)
    : base_(base),
      state_(reinterpret_cast<ShardState*>(base)),
      config_(config),
      arena_(base, &state_->arena, reinterpret_cast<PageDesc*>(base + RoundUp(sizeof(ShardState), 64)),
             config.header_bytes, config.classes, this),
      table_(&arena_, &state_->table,
             reinterpret_cast<uint32_t*>(base + RoundUp(sizeof(ShardState), 64) +
                                         RoundUp(uint64_t{config.pages_ceiling} * sizeof(PageDesc), 64)),
             this),
      lru_(&arena_, &state_->lru),
      wheel_(&arena_, &state_->wheel),
      key_buffer_(new char[kKeyBytesMax]) {}

uint32_t Shard::PagesFor(uint64_t memory_bytes) const {
  const uint64_t page_bytes = config_.classes->page_bytes();
  // The header of the pages that this memory holds; what the ceiling reserves beyond is never touched.
  const uint64_t header = HeaderBytes(static_cast<uint32_t>(memory_bytes / page_bytes), page_bytes);
  return memory_bytes <= header ? 0 : static_cast<uint32_t>((memory_bytes - header) / page_bytes);
}

uint64_t Shard::LimitFor(uint64_t memory_bytes) const {
  const uint32_t pages = PagesFor(memory_bytes);
  const uint32_t reserve = ReservePages(*config_.classes);
  return pages <= reserve ? 0 : uint64_t{pages - reserve} * config_.classes->page_bytes();
}

bool Shard::Init(uint64_t memory_bytes, uint64_t entries_limit, uint32_t epoch) {
  state_->epoch = epoch;
  state_->arena.pages_ceiling = config_.pages_ceiling;
  SetLimits(memory_bytes, entries_limit);
  return state_->limit_bytes > 0 && table_.Init();
}

// ---- streams ----

template <class Visit>
void Shard::VisitStream(const EntryHeader* entry, size_t offset, size_t bytes, Visit visit) const {
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

void Shard::ReadStream(const EntryHeader* entry, size_t offset, char* data, size_t bytes) const {
  if (bytes == 0) return;
  VisitStream(entry, offset, bytes, [&data](const char* piece, size_t piece_bytes) {
    std::memcpy(data, piece, piece_bytes);
    data += piece_bytes;
  });
}

void Shard::WriteStream(EntryHeader* entry, size_t offset, const char* data, size_t bytes) {
  if (bytes == 0) return;
  VisitStream(entry, offset, bytes, [&data](char* piece, size_t piece_bytes) {
    std::memcpy(piece, data, piece_bytes);
    data += piece_bytes;
  });
}

void Shard::ReadPinned(const class Pin& pin, size_t offset, char* data, size_t bytes) const {
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
    return {BytesOf(entry) + OffsetsOf(entry).stream, bytes};
  }
  ReadStream(entry, 0, key_buffer_.get(), bytes);
  return {key_buffer_.get(), bytes};
}

bool Shard::KeyEquals(const EntryHeader* entry, std::string_view key) const {
  if (key.size() <= kKeyBytesInlineMax) {
    return entry->key_bytes == key.size() &&
           std::memcmp(BytesOf(entry) + OffsetsOf(entry->flags, false).stream, key.data(), key.size()) == 0;
  }
  if (!IsLongKey(entry) || KeyBytesOf(entry) != key.size()) return false;
  bool equal = true;
  VisitStream(entry, 0, key.size(), [&](const char* piece, size_t bytes) {
    equal = equal && std::memcmp(piece, key.data(), bytes) == 0;
    key.remove_prefix(bytes);
  });
  return equal;
}

// ---- finding ----

HashTable::Slot Shard::FindSlot(std::string_view key, uint64_t hash) const {
  return table_.Find(hash, [this, key](Ref ref) { return KeyEquals(At(ref), key); });
}

Ref Shard::Find(std::string_view key, uint64_t hash) const {
  const HashTable::Slot slot = FindSlot(key, hash);
  return slot.bucket == nullptr ? 0 : slot.bucket->refs[slot.index];
}

Ref Shard::Lookup(std::string_view key, uint64_t hash, const Now& now, bool is_get) {
  const Ref ref = Find(key, hash);
  if (ref == 0) return 0;
  const EntryHeader* entry = At(ref);
  if (IsDead(entry)) [[unlikely]] {
    SettleTouches();
    RemoveEntry(ref, Reason::kCleared, hash);
    return 0;
  }
  if (IsExpired(entry, now)) [[unlikely]] {
    if (is_get) state_->counters.get_expired++;
    SettleTouches();
    RemoveEntry(ref, Reason::kExpired, hash);
    return 0;
  }
  return ref;
}

void Shard::PrefetchEntry(uint64_t hash) const {
  const Bucket* bucket = table_.BucketOf(hash);
  for (uint32_t bits = bucket->Match(HashTable::TagOf(hash)); bits != 0; bits &= bits - 1) {
    __builtin_prefetch(At(bucket->refs[__builtin_ctz(bits)]));
  }
  if (bucket->next != 0) __builtin_prefetch(arena_.At(bucket->next));
}

void Shard::PrefetchValue(uint64_t hash) const {
  const Bucket* bucket = table_.BucketOf(hash);
  const uint32_t bits = bucket->Match(HashTable::TagOf(hash));
  if (bits == 0) return;
  const EntryHeader* entry = At(bucket->refs[__builtin_ctz(bits)]);
  __builtin_prefetch(reinterpret_cast<const char*>(entry) + 64);
  __builtin_prefetch(reinterpret_cast<const char*>(entry) + 128);
}

// ---- layout and memory ----

uint64_t Shard::ChunksCharge(uint64_t stream_bytes, uint32_t* chunk_count) const {
  const SizeClasses& classes = *config_.classes;
  const uint64_t whole_data = classes.page_bytes() - sizeof(ChunkHeader);
  const uint64_t large_data = classes.chunk_bytes_max() - sizeof(ChunkHeader);
  const uint64_t wholes = stream_bytes / whole_data;
  uint64_t rest = stream_bytes % whole_data;
  uint64_t charge = wholes * classes.charge(classes.whole_class());
  const uint64_t larges = rest / large_data;
  rest %= large_data;
  charge += larges * classes.charge(classes.count() - 1);
  uint64_t count = wholes + larges;
  if (rest > 0) {
    charge += classes.charge(classes.ClassOf(rest + sizeof(ChunkHeader)));
    count++;
  }
  *chunk_count = static_cast<uint32_t>(count);
  return charge;
}

Shard::Layout Shard::LayoutOf(const NewEntry& entry) const {
  const SizeClasses& classes = *config_.classes;
  Layout layout;
  layout.long_key = entry.key.size() > kKeyBytesInlineMax;
  layout.flags = static_cast<uint16_t>(static_cast<uint16_t>(entry.codec) | entry.extra_flags);
  if (entry.expires_ms != kNeverExpires) layout.flags |= kEntryHasExpiry;
  if (entry.client_flags != 0) layout.flags |= kEntryHasClientFlags;
  if (config_.track_access) layout.flags |= kEntryHasAccess;
  const uint64_t stream = entry.key.size() + entry.value_bytes;
  uint64_t bytes = OffsetsOf(layout.flags, layout.long_key).stream + stream;
  layout.chunk_stream = 0;
  layout.charge = kIndexShareBytes;
  if (bytes > classes.chunk_bytes_max()) {
    layout.flags |= kEntryChunked;
    const size_t in_head = std::min(entry.key.size(), kKeyBytesInlineMax);
    bytes = OffsetsOf(layout.flags, layout.long_key).stream + in_head;
    layout.chunk_stream = stream - in_head;
    uint32_t chunk_count;
    layout.charge += ChunksCharge(layout.chunk_stream, &chunk_count);
  }
  layout.size_class = classes.ClassOf(bytes);
  layout.charge += classes.charge(layout.size_class);
  return layout;
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

void Shard::WriteFields(EntryHeader* entry, const NewEntry& from, const Layout& layout, const Now& now) {
  char* bytes = BytesOf(entry);
  const EntryOffsets at = OffsetsOf(layout.flags, layout.long_key);
  entry->value_bytes = static_cast<uint32_t>(from.value_bytes);
  entry->key_bytes = static_cast<uint8_t>(layout.long_key ? kLongKeyMark : from.key.size());
  entry->flags = WithKind(layout.flags, KindOf(entry->flags));
  if (layout.flags & kEntryHasExpiry) *ExpiryOf(entry) = ExpiryBlock{from.expires_ms, 0, 0};
  if (layout.flags & kEntryHasAccess) StoreU32(bytes + at.access, static_cast<uint32_t>(now.boot_ms / 1000));
  if (layout.flags & kEntryHasClientFlags) StoreU32(bytes + at.client_flags, from.client_flags);
  if (layout.long_key) StoreU32(bytes + at.key_length, static_cast<uint32_t>(from.key.size()));
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
  if (charge > state_->limit_bytes) return false;
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

// ---- linking ----

void Shard::StepOverForWalks(Ref ref) {
  for (int slot = 0; slot < kCursorsPerShard; slot++) {
    WalkState* walk = &state_->walks[slot];
    if (!(state_->open_walks >> slot & 1) || walk->next != ref) continue;
    const EntryHeader* entry = At(ref);
    walk->next = walk->order == static_cast<uint8_t>(Cursor::Order::kOldestFirst) ? entry->lru_prev : entry->lru_next;
  }
}

void Shard::Bump(Ref ref) {
  if (lru_.head() == ref) return;
  if (state_->open_walks != 0) [[unlikely]] StepOverForWalks(ref);
  lru_.MoveToFront(ref);
}

void Shard::SettleTouchesNow() {
  const uint32_t count = state_->touch_count;
  for (uint32_t i = 0; i < count; i++) {
    const EntryHeader* entry = At(state_->touches[i]);
    if (entry->lru_prev != 0) __builtin_prefetch(At(entry->lru_prev), 1);
    if (entry->lru_next != 0) __builtin_prefetch(At(entry->lru_next), 1);
  }
  state_->touch_count = 0;
  for (uint32_t i = 0; i < count; i++) Bump(state_->touches[i]);
}

bool Shard::LinkEntry(int slot, uint64_t hash, uint8_t marks) {
  while (!table_.Insert(hash, &state_->bodies[slot])) {
    const Ref victim = table_.FloodVictim(hash);
    if (victim == 0) return false;
    state_->counters.hash_flood_evictions++;
    RemoveEntry(victim, IsDead(At(victim)) ? Reason::kCleared : Reason::kEvicted);
  }
  const Ref ref = state_->bodies[slot];
  state_->bodies[slot] = 0;
  EntryHeader* entry = At(ref);
  entry->flags = WithKind(entry->flags, ChunkKind::kEntry);
  SetMarks(entry, marks);
  for (uint8_t bits = marks ^ state_->mark_parity; bits != 0; bits &= bits - 1) {
    state_->walks[__builtin_ctz(bits)].unemitted++;
  }
  lru_.PushFront(ref);
  if (entry->flags & kEntryHasExpiry) wheel_.Add(ref);
  state_->live_entries++;
  state_->payload_bytes += KeyBytesOf(entry) + entry->value_bytes;
  return true;
}

class Shard::RemovedView final : public RemovedEntry {
 public:
  RemovedView(const Shard* shard, const EntryHeader* entry) : shard_(shard), entry_(entry) {}
  size_t key_bytes() const override { return KeyBytesOf(entry_); }
  size_t value_bytes() const override { return entry_->value_bytes; }
  Codec codec() const override { return CodecOf(entry_); }
  uint32_t client_flags() const override { return ClientFlagsOf(entry_); }
  void CopyKey(char* data) const override { shard_->ReadStream(entry_, 0, data, KeyBytesOf(entry_)); }
  void CopyValue(char* data, size_t bytes) const override {
    shard_->ReadStream(entry_, KeyBytesOf(entry_), data, bytes);
  }

 private:
  const Shard* shard_;
  const EntryHeader* entry_;
};

void Shard::Announce(Reason reason, const EntryHeader* entry) {
  if (removals_ == nullptr || !removals_->wanted(reason)) return;
  removals_->OnRemoved(reason, RemovedView(this, entry));
}

void Shard::RemoveEntry(Ref ref, Reason reason, uint64_t hash, bool announce) {
  EntryHeader* entry = At(ref);
  if (IsDead(entry)) {
    state_->dead_entries--;
  } else {
    state_->live_entries--;
    const bool fetched = (entry->flags & kEntryFetched) != 0;
    if (reason == Reason::kEvicted) {
      state_->counters.evictions++;
      if (!fetched) state_->counters.evicted_unfetched++;
    } else if (reason == Reason::kExpired) {
      state_->counters.expirations++;
      if (!fetched) state_->counters.expired_unfetched++;
    }
    if (announce) Announce(reason, entry);
  }
  if (state_->open_walks != 0) [[unlikely]] StepOverForWalks(ref);
  for (uint8_t bits = MarksOf(entry) ^ state_->mark_parity; bits != 0; bits &= bits - 1) {
    state_->walks[__builtin_ctz(bits)].unemitted--;
  }
  const HashTable::Slot slot = table_.FindRef(hash, ref);
  CHECK(slot.bucket != nullptr);
  table_.Remove(hash, slot);
  lru_.Unlink(ref);
  if (entry->flags & kEntryHasExpiry) wheel_.Remove(ref);
  state_->payload_bytes -= KeyBytesOf(entry) + entry->value_bytes;
  if (PinsOf(entry) != 0) {
    entry->flags = WithKind(entry->flags, ChunkKind::kUnlinked);
  } else {
    FreeEntry(ref);
  }
  table_.Adjust();
}

void Shard::MovedChunk(Ref from, Ref to) {
  EntryHeader* entry = At(to);
  const ChunkKind kind = KindOf(entry->flags);
  if (kind == ChunkKind::kChunk) {
    const ChunkHeader* chunk = ChunkAt(to);
    if (chunk->next != 0) ChunkAt(chunk->next)->prev = to;
    if (chunk->is_first) {
      EntryHeader* owner = At(chunk->prev);
      StoreU32(BytesOf(owner) + OffsetsOf(owner).first_chunk, to);
    } else {
      ChunkAt(chunk->prev)->next = to;
    }
    return;
  }
  if (entry->flags & kEntryChunked) {
    const Ref first = LoadU32(BytesOf(entry) + OffsetsOf(entry).first_chunk);
    if (first != 0) ChunkAt(first)->prev = to;
  }
  if (kind == ChunkKind::kUnlinked) {
    // Pinned entries do not move, so this is a body.
    CHECK(entry->lru_prev < kBodiesMax && state_->bodies[entry->lru_prev] == from);
    state_->bodies[entry->lru_prev] = to;
    return;
  }
  CHECK(kind == ChunkKind::kEntry);
  const HashTable::Slot slot = table_.FindRef(HashOfEntry(to), from);
  CHECK(slot.bucket != nullptr);
  slot.bucket->refs[slot.index] = to;
  lru_.Moved(to);
  if (entry->flags & kEntryHasExpiry) wheel_.Moved(to);
  for (WalkState& walk : state_->walks) {
    if (walk.next == from) walk.next = to;
  }
}

// ---- records ----

bool Shard::ReserveRecord(size_t key_bytes, uint64_t value_bytes) {
  if (records_ == nullptr) return true;
  if (records_->Reserve(RecordBytes(key_bytes, value_bytes))) return true;
  state_->counters.log_full++;
  return false;
}

void Shard::EmitEntry(RecordKind kind, const EntryHeader* entry, uint64_t version, const Now& now) {
  if (records_ == nullptr) return;
  const size_t key_bytes = KeyBytesOf(entry);
  const uint32_t value_bytes = kind == RecordKind::kSet ? entry->value_bytes : 0;
  const uint64_t expires_ms = ExpiresMsOf(entry);
  RecordHeader header{};
  header.record_bytes = static_cast<uint32_t>(RecordBytes(key_bytes, value_bytes));
  header.kind = kind;
  header.codec = static_cast<uint8_t>(CodecOf(entry));
  header.version = version;
  header.expires_wall_ms = expires_ms == kNeverExpires ? 0 : static_cast<int64_t>(expires_ms) + now.WallOffset();
  header.client_flags = ClientFlagsOf(entry);
  header.key_bytes = static_cast<uint32_t>(key_bytes);
  header.value_bytes = value_bytes;
  records_->Begin(header);
  VisitStream(entry, 0, key_bytes + value_bytes,
              [this](const char* piece, size_t bytes) { records_->Payload(piece, bytes); });
  records_->Commit();
}

uint64_t Shard::EmitKey(RecordKind kind, std::string_view key, const Now&) {
  const uint64_t version = NextVersion();
  if (records_ == nullptr) return version;
  RecordHeader header{};
  header.record_bytes = static_cast<uint32_t>(RecordBytes(key.size(), 0));
  header.kind = kind;
  header.version = version;
  header.key_bytes = static_cast<uint32_t>(key.size());
  records_->Begin(header);
  if (!key.empty()) records_->Payload(key.data(), key.size());
  records_->Commit();
  return version;
}

// ---- requests ----

void Shard::Execute(const Request& request, uint64_t hash, const Now& now, Scratch* scratch, bool may_pin,
                    Outcome* outcome) {
  switch (request.verb) {
    case Verb::kGet:
    case Verb::kPeek:
    case Verb::kHas:
      return Get(request, hash, now, scratch, may_pin, outcome);
    case Verb::kSet:
    case Verb::kAdd:
    case Verb::kReplace:
    case Verb::kCas:
      return StoreValue(request, hash, now, outcome);
    case Verb::kAppend:
    case Verb::kPrepend:
      SettleTouches();
      return Concat(request, hash, now, outcome);
    case Verb::kIncr:
    case Verb::kDecr:
      return Count(request, hash, now, outcome);
    case Verb::kTouch:
    case Verb::kGetAndTouch:
      SettleTouches();
      return Touch(request, hash, now, scratch, may_pin, outcome);
    case Verb::kDelete:
    case Verb::kTake:
    case Verb::kEvict:
      SettleTouches();
      return Remove(request, hash, now, scratch, may_pin, outcome);
  }
}

void Shard::Describe(const EntryHeader* entry, const Now& now, Outcome* outcome) const {
  outcome->codec = CodecOf(entry);
  outcome->fetched = (entry->flags & kEntryFetched) != 0;
  outcome->client_flags = ClientFlagsOf(entry);
  outcome->value_bytes = entry->value_bytes;
  outcome->version = entry->version;
  outcome->expires_ms = ExpiresMsOf(entry);
  if (entry->flags & kEntryHasAccess) {
    outcome->idle_s = static_cast<uint32_t>(now.boot_ms / 1000) - LoadU32(BytesOf(entry) + OffsetsOf(entry).access);
  }
}

bool Shard::PinEntry(Ref ref, class Pin* pin) {
  EntryHeader* entry = At(ref);
  if (PinsOf(entry) >= kPinsPerEntryMax) return false;
  const EntryOffsets at = OffsetsOf(entry);
  const Ref first = (entry->flags & kEntryChunked) ? LoadU32(BytesOf(entry) + at.first_chunk) : 0;
  uint32_t pages = arena_.IsPinned(ref) ? 0 : 1;
  for (Ref chunk = first; chunk != 0; chunk = ChunkAt(chunk)->next) {
    if (!arena_.IsWhole(chunk) && !arena_.IsPinned(chunk)) pages++;
  }
  if (state_->arena.pinned_pages + pages > kPinnedPagesMax) return false;
  entry->pins_marks++;
  arena_.PinPage(ref);
  for (Ref chunk = first; chunk != 0; chunk = ChunkAt(chunk)->next) arena_.PinPage(chunk);
  const size_t key_bytes = KeyBytesOf(entry);
  pin->ref = ref;
  pin->first_chunk = first;
  pin->skip_bytes = static_cast<uint32_t>(first == 0 ? at.stream + key_bytes
                                                     : key_bytes - std::min(key_bytes, kKeyBytesInlineMax));
  return true;
}

void Shard::Unpin(Ref ref) {
  EntryHeader* entry = At(ref);
  DCHECK(PinsOf(entry) > 0);
  entry->pins_marks--;
  arena_.UnpinPage(ref);
  if (entry->flags & kEntryChunked) {
    for (Ref chunk = LoadU32(BytesOf(entry) + OffsetsOf(entry).first_chunk); chunk != 0; chunk = ChunkAt(chunk)->next) {
      arena_.UnpinPage(chunk);
    }
  }
  if (PinsOf(entry) == 0 && KindOf(entry->flags) == ChunkKind::kUnlinked) FreeEntry(ref);
}

bool Shard::GiveValue(Ref ref, Scratch* scratch, bool may_pin, Outcome* outcome) {
  const EntryHeader* entry = At(ref);
  const uint32_t bytes = entry->value_bytes;
  outcome->value_bytes = bytes;
  if (bytes > kCopyUnderLockBytesMax && may_pin && PinEntry(ref, &outcome->pin)) {
    outcome->has_value = true;
    return true;
  }
  if (scratch == nullptr || scratch->capacity - scratch->used < bytes) {
    outcome->status = Status::kNeedsRoom;
    return false;
  }
  outcome->value_offset = scratch->used;
  outcome->has_value = true;
  if (bytes > 0) ReadStream(entry, KeyBytesOf(entry), scratch->data + scratch->used, bytes);
  scratch->used += bytes;
  return true;
}

void Shard::Get(const Request& request, uint64_t hash, const Now& now, Scratch* scratch, bool may_pin,
                Outcome* outcome) {
  StoreStats* counters = &state_->counters;
  if (request.verb != Verb::kGet) {
    const Ref ref = Find(request.key, hash);
    if (ref == 0 || IsDead(At(ref)) || IsExpired(At(ref), now)) {
      outcome->status = Status::kNotFound;
      return;
    }
    if (request.verb == Verb::kPeek && !request.no_value && !GiveValue(ref, scratch, may_pin, outcome)) return;
    Describe(At(ref), now, outcome);
    outcome->status = Status::kFound;
    return;
  }
  const Ref ref = Lookup(request.key, hash, now, true);
  if (ref == 0) {
    counters->gets++;
    counters->misses++;
    outcome->status = Status::kNotFound;
    return;
  }
  EntryHeader* entry = At(ref);
  if (!request.no_value && !GiveValue(ref, scratch, may_pin, outcome)) return;
  Describe(entry, now, outcome);
  outcome->status = Status::kFound;
  counters->gets++;
  counters->hits++;
  if (request.no_bump) return;
  entry->flags |= kEntryFetched;
  if (entry->flags & kEntryHasAccess) {
    StoreU32(BytesOf(entry) + OffsetsOf(entry).access, static_cast<uint32_t>(now.boot_ms / 1000));
  }
  BumpLater(ref);
}

Status Shard::Condition(const Request& request, Ref old) const {
  switch (request.verb) {
    case Verb::kAdd:
      if (old != 0) return Status::kNotStored;
      break;
    case Verb::kReplace:
    case Verb::kAppend:
    case Verb::kPrepend:
      if (old == 0) return Status::kNotStored;
      break;
    case Verb::kCas:
      if (old == 0) return Status::kNotFound;
      break;
    default:
      break;
  }
  if ((request.has_compare || request.verb == Verb::kCas) && old != 0 && At(old)->version != request.compare) {
    return Status::kExists;
  }
  if (request.fill != nullptr && request.fill->voided()) return Status::kExists;
  return Status::kStored;
}

Status Shard::Refuse(Status status, Verb verb, std::string_view key, uint64_t hash, const Now& now, Outcome* outcome) {
  if (status == Status::kTooLarge) {
    state_->counters.too_large++;
  } else {
    state_->counters.no_memory++;
  }
  if (verb != Verb::kSet) return status;
  if (!fills_.empty()) [[unlikely]] fills_.Void(hash);
  const Ref old = Find(key, hash);
  if (old == 0 || IsDead(At(old))) return status;
  if (!ReserveRecord(key.size(), 0)) return Status::kLogFull;
  outcome->record_version = EmitKey(RecordKind::kDelete, key, now);
  SettleTouches();
  RemoveEntry(old, Reason::kReplaced, hash);
  return status;
}

void Shard::FinishStore(Ref ref, RecordKind kind, uint64_t version, const Now& now, Outcome* outcome) {
  EntryHeader* entry = At(ref);
  EmitEntry(kind, entry, version, now);
  outcome->version = entry->version;
  outcome->record_version = version;
  outcome->expires_ms = ExpiresMsOf(entry);
  outcome->codec = CodecOf(entry);
  outcome->client_flags = ClientFlagsOf(entry);
  outcome->value_bytes = entry->value_bytes;
}

Status Shard::Put(const NewEntry& from, std::string_view value, uint64_t hash, Ref old, uint64_t version,
                  const Now& now, Outcome* outcome) {
  const Layout layout = LayoutOf(from);
  if (from.value_bytes > state_->value_bytes_max || layout.charge > state_->limit_bytes) return Status::kTooLarge;
  if (!ReserveRecord(from.key.size(), from.value_bytes)) return Status::kLogFull;
  EntryHeader* entry = old == 0 ? nullptr : At(old);
  if (entry != nullptr && !((entry->flags | layout.flags) & kEntryChunked) && PinsOf(entry) == 0 &&
      arena_.ClassAt(old) == layout.size_class) {
    Announce(Reason::kReplaced, entry);
    if (entry->flags & kEntryHasExpiry) wheel_.Remove(old);
    state_->payload_bytes += from.value_bytes;
    state_->payload_bytes -= entry->value_bytes;
    WriteFields(entry, from, layout, now);
    char* stream = BytesOf(entry) + OffsetsOf(entry).stream;
    std::memcpy(stream, from.key.data(), from.key.size());
    if (!value.empty()) std::memcpy(stream + from.key.size(), value.data(), value.size());
    entry->version = version != 0 ? version : NextVersion();
    if (entry->flags & kEntryHasExpiry) wheel_.Add(old);
    BumpLater(old);
    FinishStore(old, RecordKind::kSet, entry->version, now, outcome);
    return Status::kStored;
  }
  SettleTouches();
  uint8_t marks = state_->mark_parity;
  const bool replaced = old != 0;
  if (replaced) {
    marks = MarksOf(entry);
    RemoveEntry(old, Reason::kReplaced, hash);
  }
  if (!MakeRoom(layout.charge, true, false) || !AllocateEntry(from, layout, 0)) {
    state_->counters.no_memory++;
    // The old entry is gone: the log must say so. A delete's record fits into what was reserved.
    if (replaced) outcome->record_version = EmitKey(RecordKind::kDelete, from.key, now);
    return Status::kNoMemory;
  }
  entry = At(state_->bodies[0]);
  if (entry->flags & kEntryHasAccess) {
    StoreU32(BytesOf(entry) + OffsetsOf(entry).access, static_cast<uint32_t>(now.boot_ms / 1000));
  }
  if (entry->flags & kEntryChunked) {
    WriteStream(entry, 0, from.key.data(), from.key.size());
    WriteStream(entry, from.key.size(), value.data(), value.size());
  } else {
    char* stream = BytesOf(entry) + OffsetsOf(entry).stream;
    std::memcpy(stream, from.key.data(), from.key.size());
    if (!value.empty()) std::memcpy(stream + from.key.size(), value.data(), value.size());
  }
  entry->version = version != 0 ? version : NextVersion();
  CHECK(LinkEntry(0, hash, marks));
  const Ref ref = lru_.head();
  FinishStore(ref, RecordKind::kSet, At(ref)->version, now, outcome);
  table_.Adjust();
  return Status::kStored;
}

void Shard::StoreValue(const Request& request, uint64_t hash, const Now& now, Outcome* outcome) {
  StoreStats* counters = &state_->counters;
  const Ref old = Lookup(request.key, hash, now, false);
  const Status condition = Condition(request, old);
  if (request.verb == Verb::kCas) {
    if (condition == Status::kNotFound) counters->cas_misses++;
    if (condition == Status::kExists) counters->cas_exists++;
  }
  if (condition != Status::kStored) {
    if (old != 0) Describe(At(old), now, outcome);
    outcome->status = condition;
    return;
  }
  NewEntry from;
  from.key = request.key;
  from.value_bytes = request.value.size();
  from.codec = request.codec;
  from.client_flags = request.client_flags;
  from.expires_ms = request.expires_ms;
  if (from.expires_ms == kKeepExpiry) from.expires_ms = old == 0 ? kNeverExpires : ExpiresMsOf(At(old));
  Status status = Put(from, request.value, hash, old, 0, now, outcome);
  if (status == Status::kStored) {
    counters->sets++;
    if (request.verb == Verb::kCas) counters->cas_hits++;
    if (!fills_.empty()) [[unlikely]] fills_.Void(hash);
  } else if (status == Status::kTooLarge) {
    status = Refuse(status, request.verb, request.key, hash, now, outcome);
  } else if (status == Status::kNoMemory && !fills_.empty()) {
    fills_.Void(hash);
  }
  outcome->status = status;
}

Status Shard::Rebuild(Ref* ref, const NewEntry& from, std::string_view before, std::string_view behind, uint64_t hash,
                      const Now& now) {
  const Layout layout = LayoutOf(from);
  EntryHeader* entry = At(*ref);
  const size_t key_bytes = from.key.size();
  const uint32_t old_value_bytes = entry->value_bytes;
  const uint64_t version = entry->version;
  if (!((entry->flags | layout.flags) & kEntryChunked) && PinsOf(entry) == 0 &&
      arena_.ClassAt(*ref) == layout.size_class) {
    if (entry->flags & kEntryHasExpiry) wheel_.Remove(*ref);
    const char* old_value = BytesOf(entry) + OffsetsOf(entry).stream + key_bytes;
    char* stream = BytesOf(entry) + OffsetsOf(layout.flags, layout.long_key).stream;
    std::memmove(stream + key_bytes + before.size(), old_value, old_value_bytes);
    std::memcpy(stream, from.key.data(), key_bytes);
    if (!before.empty()) std::memcpy(stream + key_bytes, before.data(), before.size());
    if (!behind.empty()) std::memcpy(stream + key_bytes + before.size() + old_value_bytes, behind.data(), behind.size());
    WriteFields(entry, from, layout, now);
    state_->payload_bytes += from.value_bytes;
    state_->payload_bytes -= old_value_bytes;
    if (entry->flags & kEntryHasExpiry) wheel_.Add(*ref);
    Bump(*ref);
    return Status::kStored;
  }
  if (layout.charge > state_->limit_bytes) return Status::kTooLarge;
  // Both exist for a moment; the old one, now the newest, is not evicted for the new one.
  Bump(*ref);
  if (!MakeRoom(layout.charge, false, true) || !AllocateEntry(from, layout, 0)) return Status::kNoMemory;
  const Ref old = lru_.head();
  EntryHeader* old_entry = At(old);
  entry = At(state_->bodies[0]);
  WriteStream(entry, 0, from.key.data(), key_bytes);
  size_t offset = key_bytes;
  WriteStream(entry, offset, before.data(), before.size());
  offset += before.size();
  VisitStream(old_entry, key_bytes, old_value_bytes, [&](const char* piece, size_t bytes) {
    WriteStream(entry, offset, piece, bytes);
    offset += bytes;
  });
  WriteStream(entry, offset, behind.data(), behind.size());
  if (entry->flags & kEntryHasAccess) {
    StoreU32(BytesOf(entry) + OffsetsOf(entry).access, static_cast<uint32_t>(now.boot_ms / 1000));
  }
  entry->version = version;
  const uint8_t marks = MarksOf(old_entry);
  RemoveEntry(old, Reason::kReplaced, hash, false);
  CHECK(LinkEntry(0, hash, marks));
  *ref = lru_.head();
  return Status::kStored;
}

void Shard::Concat(const Request& request, uint64_t hash, const Now& now, Outcome* outcome) {
  Ref ref = Lookup(request.key, hash, now, false);
  Status status = Condition(request, ref);
  Codec codec;
  if (status == Status::kStored && !JoinCodecs(CodecOf(At(ref)), request.codec, request.value, &codec)) {
    status = Status::kNotStored;
  }
  if (status != Status::kStored) {
    if (ref != 0) Describe(At(ref), now, outcome);
    outcome->status = status;
    return;
  }
  const EntryHeader* entry = At(ref);
  NewEntry from;
  from.key = request.key;
  from.value_bytes = uint64_t{entry->value_bytes} + request.value.size();
  from.codec = codec;
  from.client_flags = ClientFlagsOf(entry);
  from.expires_ms = ExpiresMsOf(entry);
  from.extra_flags = entry->flags & kEntryFetched;
  if (from.value_bytes > state_->value_bytes_max) {
    state_->counters.too_large++;
    outcome->status = Status::kTooLarge;
    return;
  }
  if (!ReserveRecord(from.key.size(), from.value_bytes)) {
    outcome->status = Status::kLogFull;
    return;
  }
  Announce(Reason::kReplaced, entry);
  const bool append = request.verb == Verb::kAppend;
  status = Rebuild(&ref, from, append ? std::string_view{} : request.value, append ? request.value : std::string_view{},
                   hash, now);
  if (status == Status::kStored) {
    At(ref)->version = NextVersion();
    FinishStore(ref, RecordKind::kSet, At(ref)->version, now, outcome);
    state_->counters.sets++;
    if (!fills_.empty()) [[unlikely]] fills_.Void(hash);
    table_.Adjust();
  } else {
    (status == Status::kTooLarge ? state_->counters.too_large : state_->counters.no_memory)++;
  }
  outcome->status = status;
}

void Shard::Count(const Request& request, uint64_t hash, const Now& now, Outcome* outcome) {
  const bool incr = request.verb == Verb::kIncr;
  StoreStats* counters = &state_->counters;
  const Ref old = Lookup(request.key, hash, now, false);
  char digits[24];
  NewEntry from;
  from.key = request.key;
  if (old == 0) {
    (incr ? counters->incr_misses : counters->decr_misses)++;
    if (!request.has_initial) {
      outcome->status = Status::kNotFound;
      return;
    }
    const auto end = std::to_chars(digits, digits + sizeof digits, request.initial).ptr;
    from.value_bytes = static_cast<uint64_t>(end - digits);
    from.codec = request.codec;
    from.client_flags = request.client_flags;
    from.expires_ms = request.expires_ms == kKeepExpiry ? kNeverExpires : request.expires_ms;
    outcome->status = Put(from, {digits, static_cast<size_t>(end - digits)}, hash, 0, 0, now, outcome);
    if (outcome->status == Status::kStored) {
      outcome->number = request.initial;
      if (!fills_.empty()) [[unlikely]] fills_.Void(hash);
    }
    return;
  }
  const EntryHeader* entry = At(old);
  if (request.has_compare && entry->version != request.compare) {
    Describe(entry, now, outcome);
    outcome->status = Status::kExists;
    return;
  }
  const Codec codec = CodecOf(entry);
  uint64_t number = 0;
  bool numeric = codec != Codec::kJson && codec != Codec::kStructured && entry->value_bytes <= 20;
  if (numeric) {
    ReadStream(entry, KeyBytesOf(entry), digits, entry->value_bytes);
    numeric = ParseDecimal(digits, entry->value_bytes, &number);
  }
  if (!numeric) {
    outcome->status = Status::kNonNumeric;
    return;
  }
  if (incr) {
    number += request.delta;
  } else {
    number -= std::min(number, request.delta);
  }
  const auto end = std::to_chars(digits, digits + sizeof digits, number).ptr;
  size_t length = static_cast<size_t>(end - digits);
  if (request.pad_decimal && length < entry->value_bytes) {
    std::memset(digits + length, ' ', entry->value_bytes - length);
    length = entry->value_bytes;
  }
  from.value_bytes = length;
  from.codec = codec;
  from.client_flags = ClientFlagsOf(entry);
  from.expires_ms = ExpiresMsOf(entry);
  from.extra_flags = entry->flags & kEntryFetched;
  const Status status = Put(from, {digits, length}, hash, old, 0, now, outcome);
  if (status != Status::kStored) {
    if (status == Status::kNoMemory && !fills_.empty()) fills_.Void(hash);
    outcome->status = status;
    return;
  }
  (incr ? counters->incr_hits : counters->decr_hits)++;
  if (!fills_.empty()) [[unlikely]] fills_.Void(hash);
  outcome->number = number;
  outcome->status = Status::kFound;
}

Status Shard::SetExpiry(Ref* ref, std::string_view key, uint64_t expires_ms, uint64_t hash, const Now& now) {
  EntryHeader* entry = At(*ref);
  if (expires_ms == kKeepExpiry || (expires_ms == kNeverExpires && !(entry->flags & kEntryHasExpiry))) {
    return Status::kStored;
  }
  if (expires_ms != kNeverExpires && (entry->flags & kEntryHasExpiry)) {
    wheel_.Remove(*ref);
    ExpiryOf(entry)->expires_ms = expires_ms;
    wheel_.Add(*ref);
    return Status::kStored;
  }
  NewEntry from;
  from.key = key;
  from.value_bytes = entry->value_bytes;
  from.codec = CodecOf(entry);
  from.client_flags = ClientFlagsOf(entry);
  from.expires_ms = expires_ms;
  from.extra_flags = entry->flags & (kEntryFetched | kEntryStale | kEntryWon);
  return Rebuild(ref, from, {}, {}, hash, now);
}

void Shard::Touch(const Request& request, uint64_t hash, const Now& now, Scratch* scratch, bool may_pin,
                  Outcome* outcome) {
  const bool get = request.verb == Verb::kGetAndTouch;
  StoreStats* counters = &state_->counters;
  Ref ref = Lookup(request.key, hash, now, get);
  if (ref == 0) {
    counters->touches++;
    if (get) {
      counters->gets++;
      counters->misses++;
    }
    outcome->status = Status::kNotFound;
    return;
  }
  if (request.has_compare && At(ref)->version != request.compare) {
    Describe(At(ref), now, outcome);
    outcome->status = Status::kExists;
    return;
  }
  if (!ReserveRecord(request.key.size(), 0)) {
    outcome->status = Status::kLogFull;
    return;
  }
  if (get && !request.no_value && !GiveValue(ref, scratch, may_pin, outcome)) return;
  Describe(At(ref), now, outcome);
  const Status status = SetExpiry(&ref, request.key, request.expires_ms, hash, now);
  if (status != Status::kStored) {
    if (outcome->pin.ref != 0) Unpin(outcome->pin.ref);
    outcome->pin = {};
    outcome->has_value = false;
    counters->no_memory++;
    outcome->status = status;
    return;
  }
  counters->touches++;
  counters->touch_hits++;
  EntryHeader* entry = At(ref);
  if (get) {
    counters->gets++;
    counters->hits++;
    entry->flags |= kEntryFetched;
    if (entry->flags & kEntryHasAccess) {
      StoreU32(BytesOf(entry) + OffsetsOf(entry).access, static_cast<uint32_t>(now.boot_ms / 1000));
    }
  }
  if (!request.no_bump) Bump(ref);
  outcome->record_version = NextVersion();
  EmitEntry(RecordKind::kTouch, entry, outcome->record_version, now);
  outcome->expires_ms = ExpiresMsOf(entry);
  outcome->status = Status::kFound;
  table_.Adjust();
}

void Shard::Remove(const Request& request, uint64_t hash, const Now& now, Scratch* scratch, bool may_pin,
                   Outcome* outcome) {
  StoreStats* counters = &state_->counters;
  const bool evict = request.verb == Verb::kEvict;
  const Ref ref = Lookup(request.key, hash, now, false);
  if (ref == 0) {
    if (!evict) counters->deletes++;
    // The delete of an absent key still says that what a load brings back may be old.
    if (!fills_.empty()) [[unlikely]] fills_.Void(hash);
    outcome->status = Status::kNotFound;
    return;
  }
  if (request.has_compare && At(ref)->version != request.compare) {
    Describe(At(ref), now, outcome);
    outcome->status = Status::kExists;
    return;
  }
  if (!evict && !ReserveRecord(request.key.size(), 0)) {
    outcome->status = Status::kLogFull;
    return;
  }
  if (request.verb == Verb::kTake && !request.no_value && !GiveValue(ref, scratch, may_pin, outcome)) return;
  Describe(At(ref), now, outcome);
  outcome->version = 0;
  if (!evict) {
    counters->deletes++;
    counters->delete_hits++;
    outcome->record_version = EmitKey(RecordKind::kDelete, request.key, now);
  }
  if (!fills_.empty()) [[unlikely]] fills_.Void(hash);
  RemoveEntry(ref, evict ? Reason::kEvicted : Reason::kDeleted, hash);
  outcome->status = Status::kFound;
}

bool Shard::BeginFill(std::string_view key, uint64_t hash, bool if_absent, const Now& now, FillTicket* ticket) {
  if (if_absent && Lookup(key, hash, now, false) != 0) return false;
  fills_.Begin(hash, ticket);
  return true;
}

// ---- bodies ----

Status Shard::Reserve(const Request& request, uint64_t hash, uint32_t value_bytes, const Now& now, int* slot) {
  SettleTouches();
  NewEntry from;
  from.key = request.key;
  from.value_bytes = value_bytes;
  from.codec = request.codec;
  from.client_flags = request.client_flags;
  from.expires_ms = request.expires_ms == kKeepExpiry ? kNeverExpires : request.expires_ms;
  const Layout layout = LayoutOf(from);
  Outcome unused;
  if (value_bytes > state_->value_bytes_max || layout.charge > state_->limit_bytes) {
    return Refuse(Status::kTooLarge, request.verb, request.key, hash, now, &unused);
  }
  int free_slot = 1;
  while (free_slot < kBodiesMax && state_->bodies[free_slot] != 0) free_slot++;
  if (free_slot == kBodiesMax || state_->body_bytes + layout.charge > state_->limit_bytes / 2 ||
      !MakeRoom(layout.charge, false, false) || !AllocateEntry(from, layout, free_slot)) {
    return Refuse(Status::kNoMemory, request.verb, request.key, hash, now, &unused);
  }
  EntryHeader* entry = At(state_->bodies[free_slot]);
  WriteStream(entry, 0, request.key.data(), request.key.size());
  state_->body_bytes += layout.charge;
  *slot = free_slot;
  return Status::kStored;
}

void Shard::WriteBody(int slot, size_t offset, std::string_view bytes) {
  EntryHeader* entry = At(state_->bodies[slot]);
  CHECK(offset + bytes.size() <= entry->value_bytes);
  WriteStream(entry, KeyBytesOf(entry) + offset, bytes.data(), bytes.size());
}

void Shard::Abandon(int slot) {
  const Ref ref = state_->bodies[slot];
  CHECK(slot > 0 && slot < kBodiesMax && ref != 0);
  state_->body_bytes -= ChargeOf(At(ref), ref);
  state_->bodies[slot] = 0;
  FreeEntry(ref);
}

void Shard::Link(int slot, const Request& request, uint64_t hash, const Now& now, Outcome* outcome) {
  SettleTouches();
  StoreStats* counters = &state_->counters;
  const Ref old = Lookup(request.key, hash, now, false);
  const Status condition = Condition(request, old);
  if (request.verb == Verb::kCas) {
    if (condition == Status::kNotFound) counters->cas_misses++;
    if (condition == Status::kExists) counters->cas_exists++;
  }
  if (condition != Status::kStored) {
    if (old != 0) Describe(At(old), now, outcome);
    Abandon(slot);
    outcome->status = condition;
    return;
  }
  if (!ReserveRecord(request.key.size(), At(state_->bodies[slot])->value_bytes)) {
    outcome->status = Status::kLogFull;
    return;
  }
  uint8_t marks = state_->mark_parity;
  if (old != 0) {
    marks = MarksOf(At(old));
    RemoveEntry(old, Reason::kReplaced, hash);
  }
  MakeRoom(0, true, false);
  EntryHeader* entry = At(state_->bodies[slot]);
  state_->body_bytes -= ChargeOf(entry, state_->bodies[slot]);
  if (entry->flags & kEntryHasAccess) {
    StoreU32(BytesOf(entry) + OffsetsOf(entry).access, static_cast<uint32_t>(now.boot_ms / 1000));
  }
  entry->version = NextVersion();
  CHECK(LinkEntry(slot, hash, marks));
  counters->sets++;
  if (request.verb == Verb::kCas) counters->cas_hits++;
  FinishStore(lru_.head(), RecordKind::kSet, At(lru_.head())->version, now, outcome);
  if (!fills_.empty()) [[unlikely]] fills_.Void(hash);
  table_.Adjust();
  outcome->status = Status::kStored;
}

// ---- the whole ----

uint64_t Shard::Clear(uint32_t epoch, bool leave_record, const Now& now, uint64_t* entries) {
  SettleTouches();
  if (leave_record && !ReserveRecord(0, 0)) return 0;
  state_->epoch = epoch;
  state_->cleared_epoch = epoch;
  *entries = state_->live_entries;
  state_->dead_entries += state_->live_entries;
  state_->live_entries = 0;
  state_->counters.clears++;
  fills_.VoidAll();
  return leave_record ? EmitKey(RecordKind::kClear, {}, now) : NextVersion();
}

bool Shard::MaintainStep(const Now& now) {
  SettleTouches();
  int budget = kStepEntriesMax;
  for (;;) {
    const Ref ref = wheel_.Advance(now.boot_ms, &budget);
    if (ref == 0) break;
    RemoveEntry(ref, Reason::kExpired);
  }
  bool more = budget < 0;
  int reclaimed = 0;
  while (state_->dead_entries > 0 && reclaimed < kStepEntriesMax && lru_.tail() != 0 && IsDead(At(lru_.tail()))) {
    RemoveEntry(lru_.tail(), Reason::kCleared);
    reclaimed++;
  }
  if (reclaimed == kStepEntriesMax) more = true;
  if (!ShrinkStep()) more = true;
  return more;
}

void Shard::SetLimits(uint64_t memory_bytes, uint64_t entries_limit) {
  state_->memory_bytes = memory_bytes;
  state_->limit_target_bytes = LimitFor(memory_bytes);
  state_->limit_bytes = std::max(state_->limit_target_bytes, state_->charged_bytes);
  state_->entries_limit_target = entries_limit;
  const uint64_t entries = state_->live_entries + state_->dead_entries;
  state_->entries_limit = entries_limit == 0 ? 0 : std::max(entries_limit, entries);
  const uint32_t needed = static_cast<uint32_t>((state_->limit_bytes + config_.classes->page_bytes() - 1) /
                                                config_.classes->page_bytes()) +
                          ReservePages(*config_.classes);
  state_->arena.pages_total = std::min(std::max(PagesFor(memory_bytes), needed), config_.pages_ceiling);
}

bool Shard::ShrinkStep() {
  SettleTouches();
  const uint64_t entries = state_->live_entries + state_->dead_entries;
  if (state_->limit_bytes == state_->limit_target_bytes && state_->entries_limit == state_->entries_limit_target &&
      state_->arena.pages_total <= PagesFor(state_->memory_bytes) &&
      state_->arena.pages_used <= state_->arena.pages_total) {
    return true;
  }
  (void)entries;
  for (int i = 0; i < kStepEntriesMax; i++) {
    const bool over = state_->charged_bytes > state_->limit_target_bytes ||
                      (state_->entries_limit_target != 0 &&
                       state_->live_entries + state_->dead_entries > state_->entries_limit_target);
    if (!over || !EvictTail()) break;
  }
  SetLimits(state_->memory_bytes, state_->entries_limit_target);
  for (int i = 0; i < 4 && state_->arena.pages_used > state_->arena.pages_total; i++) {
    if (!arena_.EvacuateOne()) break;
  }
  return state_->limit_bytes == state_->limit_target_bytes && state_->entries_limit == state_->entries_limit_target &&
         state_->arena.pages_used <= state_->arena.pages_total;
}

int Shard::BeginReturn(uint32_t* pages, int count, bool shrinking) {
  const ArenaState& arena = state_->arena;
  uint32_t excess = 0;
  if (shrinking || arena_.committed_pages() > arena.pages_total) {
    if (arena_.committed_pages() > arena.pages_total) excess = arena_.committed_pages() - arena.pages_total;
  } else if (arena.free_count > arena.pages_used / 8 + 16) {
    excess = arena.free_count - (arena.pages_used / 8 + 16);
  }
  return arena_.BeginReturn(pages, static_cast<int>(std::min<uint32_t>(excess, static_cast<uint32_t>(count))));
}

// ---- walks ----

int Shard::OpenWalk(Cursor::Order order, bool* ready) {
  SettleTouches();
  int best = -1;
  for (int slot = 0; slot < kCursorsPerShard; slot++) {
    if (state_->walks[slot].open) continue;
    if (best == -1 || state_->walks[slot].unemitted < state_->walks[best].unemitted) best = slot;
  }
  if (best == -1) {
    best = 0;
    for (int slot = 1; slot < kCursorsPerShard; slot++) {
      if (state_->walks[slot].last_step < state_->walks[best].last_step) best = slot;
    }
  }
  // Whoever had it learns from the generation that it has to start again.
  WalkState* walk = &state_->walks[best];
  walk->open = true;
  walk->generation++;
  walk->last_step = ++state_->walk_steps;
  walk->order = static_cast<uint8_t>(order);
  walk->next = order == Cursor::Order::kOldestFirst ? lru_.tail() : lru_.head();
  state_->open_walks |= static_cast<uint8_t>(1 << best);
  *ready = walk->unemitted == 0;
  return best;
}

uint32_t Shard::StartWalk(int slot, Cursor::Order order) {
  SettleTouches();
  WalkState* walk = &state_->walks[slot];
  CHECK(walk->unemitted == 0);
  state_->mark_parity ^= static_cast<uint8_t>(1 << slot);
  walk->unemitted = state_->live_entries + state_->dead_entries;
  walk->next = order == Cursor::Order::kOldestFirst ? lru_.tail() : lru_.head();
  return walk->generation;
}

bool Shard::CleanWalk(int slot) {
  WalkState* walk = &state_->walks[slot];
  bool done = walk->unemitted == 0;
  WalkedEntry ignored;
  Scratch none;
  size_t needed;
  if (!done) StepWalk(slot, Now{}, false, &ignored, 0, &none, &done, &needed);
  return done;
}

size_t Shard::StepWalk(int slot, const Now& now, bool with_values, WalkedEntry* entries, size_t count,
                       Scratch* scratch, bool* done, size_t* bytes_needed) {
  SettleTouches();
  WalkState* walk = &state_->walks[slot];
  const bool oldest_first = walk->order == static_cast<uint8_t>(Cursor::Order::kOldestFirst);
  const bool cleaning = count == 0;
  const uint8_t bit = static_cast<uint8_t>(1 << slot);
  size_t emitted = 0;
  *bytes_needed = 0;
  walk->last_step = ++state_->walk_steps;
  for (int visits = 0; visits < kStepEntriesMax && walk->unemitted > 0; visits++) {
    if (walk->next == 0) {
      // Entries that were hit went to the front, behind a walk from there; what is left of them is found in another
      // pass, which skips those that have been emitted.
      walk->next = oldest_first ? lru_.tail() : lru_.head();
    }
    EntryHeader* entry = At(walk->next);
    const Ref next = oldest_first ? entry->lru_prev : entry->lru_next;
    if (((MarksOf(entry) ^ state_->mark_parity) & bit) != 0) {
      if (!cleaning && !IsDead(entry) && !IsExpired(entry, now)) {
        const size_t key_bytes = KeyBytesOf(entry);
        const size_t value_bytes = with_values ? entry->value_bytes : 0;
        if (emitted == count) break;
        if (scratch->capacity - scratch->used < key_bytes + value_bytes) {
          *bytes_needed = key_bytes + value_bytes;
          break;
        }
        WalkedEntry* out = &entries[emitted++];
        out->key_offset = scratch->used;
        out->key_bytes = static_cast<uint32_t>(key_bytes);
        out->value_offset = scratch->used + key_bytes;
        out->value_bytes = entry->value_bytes;
        out->codec = CodecOf(entry);
        out->client_flags = ClientFlagsOf(entry);
        out->version = entry->version;
        out->expires_ms = ExpiresMsOf(entry);
        out->has_value = with_values;
        ReadStream(entry, 0, scratch->data + scratch->used, key_bytes + value_bytes);
        scratch->used += key_bytes + value_bytes;
      }
      SetMarks(entry, MarksOf(entry) ^ bit);
      walk->unemitted--;
    }
    walk->next = next;
  }
  *done = walk->unemitted == 0;
  return emitted;
}

void Shard::CloseWalk(int slot, uint32_t generation) {
  WalkState* walk = &state_->walks[slot];
  if (walk->generation != generation || !walk->open) return;
  walk->open = false;
  walk->next = 0;
  state_->open_walks &= static_cast<uint8_t>(~(1 << slot));
}

// ---- records coming in ----

Status Shard::Apply(const RecordView& record, uint64_t hash, const Now& now, bool keep_version) {
  SettleTouches();
  Outcome outcome;
  const bool expires = record.expires_wall_ms != 0;
  const bool expired = expires && record.expires_wall_ms <= now.wall_ms;
  const uint64_t expires_ms =
      !expires ? kNeverExpires
               : static_cast<uint64_t>(std::max<int64_t>(record.expires_wall_ms - now.WallOffset(), kAlreadyExpired));
  Ref old = Find(record.key, hash);
  if (old != 0 && (IsDead(At(old)) || IsExpired(At(old), now))) {
    RemoveEntry(old, IsDead(At(old)) ? Reason::kCleared : Reason::kExpired, hash);
    old = 0;
  }
  if (keep_version) {
    if (EpochOf(record.version) < state_->cleared_epoch) return Status::kNotStored;
    if (old != 0 && At(old)->version >= record.version) return Status::kNotStored;
  }
  Status status = Status::kNotFound;
  switch (record.kind) {
    case RecordKind::kSet: {
      if (expired) {
        // It has expired since: what it replaced is gone all the same.
        if (old == 0) return Status::kNotStored;
        if (!keep_version) {
          if (!ReserveRecord(record.key.size(), 0)) return Status::kLogFull;
          EmitKey(RecordKind::kDelete, record.key, now);
        }
        RemoveEntry(old, Reason::kReplaced, hash);
        return Status::kNotStored;
      }
      NewEntry from;
      from.key = record.key;
      from.value_bytes = record.value.size();
      from.codec = static_cast<Codec>(record.codec);
      from.client_flags = record.client_flags;
      from.expires_ms = expires_ms;
      RecordSink* const sink = records_;
      if (keep_version) records_ = nullptr;
      status = Put(from, record.value, hash, old, keep_version ? record.version : 0, now, &outcome);
      records_ = sink;
      break;
    }
    case RecordKind::kTouch: {
      if (old == 0) return Status::kNotFound;
      if (!keep_version && !ReserveRecord(record.key.size(), 0)) return Status::kLogFull;
      status = SetExpiry(&old, record.key, expires_ms, hash, now);
      if (status != Status::kStored) return status;
      if (!keep_version) EmitEntry(RecordKind::kTouch, At(old), NextVersion(), now);
      table_.Adjust();
      break;
    }
    case RecordKind::kDelete: {
      if (old == 0) return Status::kNotFound;
      if (!keep_version) {
        if (!ReserveRecord(record.key.size(), 0)) return Status::kLogFull;
        EmitKey(RecordKind::kDelete, record.key, now);
      }
      RemoveEntry(old, Reason::kDeleted, hash);
      status = Status::kStored;
      break;
    }
    case RecordKind::kClear:
      CHECK(false);  // the store's
  }
  if (!fills_.empty()) [[unlikely]] fills_.Void(hash);
  return status;
}

// ---- looking ----

StoreStats Shard::Stats() const {
  StoreStats stats = state_->counters;
  stats.entries = state_->live_entries;
  stats.cleared_entries = state_->dead_entries;
  stats.entries_max = state_->entries_limit_target;
  stats.charged_bytes = state_->charged_bytes;
  stats.limit_bytes = state_->limit_bytes;
  stats.payload_bytes = state_->payload_bytes;
  stats.memory_bytes = state_->memory_bytes;
  const uint64_t page_bytes = config_.classes->page_bytes();
  stats.committed_bytes = uint64_t{arena_.committed_pages()} * page_bytes + HeaderBytes(state_->arena.pages_touched, 64);
  stats.index_bytes = table_.index_bytes();
  stats.pages_used = state_->arena.pages_used;
  stats.pages_free = state_->arena.pages_total - std::min(state_->arena.pages_used, state_->arena.pages_total);
  stats.pinned_pages = state_->arena.pinned_pages;
  stats.buckets = table_.bucket_count();
  stats.relocations = state_->arena.relocations;
  stats.splits = state_->table.splits;
  stats.merges = state_->table.merges;
  return stats;
}

void Shard::ResetStats() {
  state_->counters = StoreStats{};
  state_->arena.relocations = 0;
  state_->table.splits = 0;
  state_->table.merges = 0;
}

void Shard::Verify() {
  SettleTouches();
  arena_.CheckPages();
  wheel_.Check();
  uint64_t entries = 0;
  uint64_t live = 0;
  uint64_t payload = 0;
  uint64_t charged = 0;
  uint64_t expiring = 0;
  uint64_t unemitted[kCursorsPerShard] = {};
  Ref prev = 0;
  bool seen_dead = false;
  for (Ref ref = lru_.head(); ref != 0; ref = At(ref)->lru_next) {
    const EntryHeader* entry = At(ref);
    CHECK(KindOf(entry->flags) == ChunkKind::kEntry && entry->lru_prev == prev);
    prev = ref;
    entries++;
    if (IsDead(entry)) {
      seen_dead = true;
    } else {
      CHECK(!seen_dead);
      live++;
    }
    CHECK(EpochOf(entry->version) <= state_->epoch);
    payload += KeyBytesOf(entry) + entry->value_bytes;
    charged += ChargeOf(entry, ref);
    if (entry->flags & kEntryHasExpiry) expiring++;
    CHECK(table_.FindRef(HashOfEntry(ref), ref).bucket != nullptr);
    for (int slot = 0; slot < kCursorsPerShard; slot++) {
      if ((MarksOf(entry) ^ state_->mark_parity) >> slot & 1) unemitted[slot]++;
    }
    uint64_t stream = 0;
    if (entry->flags & kEntryChunked) {
      Ref before = ref;
      bool first = true;
      for (Ref chunk = LoadU32(BytesOf(entry) + OffsetsOf(entry).first_chunk); chunk != 0; chunk = ChunkAt(chunk)->next) {
        CHECK(KindOf(ChunkAt(chunk)->flags) == ChunkKind::kChunk && ChunkAt(chunk)->prev == before);
        CHECK((ChunkAt(chunk)->is_first != 0) == first);
        first = false;
        before = chunk;
        stream += ChunkAt(chunk)->data_bytes;
      }
      CHECK(stream + std::min(KeyBytesOf(entry), kKeyBytesInlineMax) == KeyBytesOf(entry) + entry->value_bytes);
    }
  }
  CHECK(lru_.tail() == prev);
  CHECK(live == state_->live_entries && entries - live == state_->dead_entries);
  CHECK(payload == state_->payload_bytes);
  CHECK(expiring == state_->wheel.entries);
  CHECK(entries == state_->table.entries);
  for (int slot = 0; slot < kCursorsPerShard; slot++) CHECK(unemitted[slot] == state_->walks[slot].unemitted);
  uint64_t bodies = 0;
  for (int slot = 0; slot < kBodiesMax; slot++) {
    const Ref ref = state_->bodies[slot];
    if (ref == 0) continue;
    CHECK(slot != 0);
    CHECK(KindOf(At(ref)->flags) == ChunkKind::kUnlinked && At(ref)->lru_prev == static_cast<uint32_t>(slot));
    bodies += ChargeOf(At(ref), ref);
  }
  CHECK(bodies == state_->body_bytes);
  // What remains of the charge are entries that left while they were pinned.
  CHECK(charged + bodies <= state_->charged_bytes);
  if (state_->arena.pinned_pages == 0) CHECK(charged + bodies == state_->charged_bytes);
  CHECK(state_->charged_bytes <= state_->limit_bytes);
  CHECK(state_->entries_limit == 0 || entries <= state_->entries_limit);
  CHECK(state_->arena.pinned_pages <= kPinnedPagesMax);
  CHECK(state_->arena.pages_used <= state_->arena.pages_total || state_->arena.pages_total > PagesFor(state_->memory_bytes) ||
        state_->limit_bytes != state_->limit_target_bytes || state_->arena.pages_used <= state_->arena.pages_ceiling);
  uint64_t slots = 0;
  uint32_t overflow = 0;
  for (uint32_t index = 0; index < table_.bucket_count(); index++) {
    int chain = 0;
    for (const Bucket* bucket = table_.At(index); bucket != nullptr; bucket = table_.Next(bucket)) {
      CHECK(++chain <= kChainBucketsMax);
      if (chain > 1) overflow++;
      const int count = bucket->Count();
      CHECK(count == kBucketSlots || bucket->next == 0);
      CHECK(count > 0 || chain == 1);
      for (int i = 0; i < count; i++) {
        const uint64_t hash = HashOfEntry(bucket->refs[i]);
        CHECK(table_.IndexOf(hash) == index && HashTable::TagOf(hash) == bucket->tags[i]);
        slots++;
      }
    }
  }
  CHECK(slots == state_->table.entries && overflow == state_->table.overflow_buckets);
}

}  // namespace cairn
