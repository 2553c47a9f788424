#include "store/shard.h"

#include <algorithm>
#include <cstring>

#include "store/shard_inl.h"

namespace cairn {

namespace {

constexpr uint64_t RoundUp(uint64_t value, uint64_t multiple) { return (value + multiple - 1) / multiple * multiple; }

}  // namespace

// ---- set-up ----

uint64_t Shard::HeaderBytes(uint32_t pages, uint64_t page_bytes) {
  uint64_t bytes = RoundUp(sizeof(ShardState), 64);
  bytes += RoundUp(uint64_t{pages} * sizeof(PageDesc), 64);
  bytes += uint64_t{pages} * sizeof(uint32_t);
  return RoundUp(bytes, page_bytes);
}

uint32_t Shard::ReservePages(const SizeClasses& classes, bool has_ring) {
  // A partial page for each class, overflow buckets included; the table's last page and one for its growth.
  return static_cast<uint32_t>(classes.count()) + 1 + (has_ring ? kRingPinnedPagesMax : kPinnedPagesMax) + 2;
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
      ring_(&state_->ring, base + config.header_bytes - config.ring_bytes, config.ring_bytes),
      records_(config.ring_bytes != 0 ? &ring_ : nullptr),
      key_buffer_(new char[kKeyBytesMax]) {}

uint32_t Shard::PagesFor(uint64_t memory_bytes) const {
  const uint64_t page_bytes = config_.classes->page_bytes();
  // The header of the pages that this memory holds, or held before it was shrunk; what the ceiling reserves beyond is
  // never touched.
  const uint32_t pages = std::max(static_cast<uint32_t>(memory_bytes / page_bytes), state_->arena.pages_touched);
  const uint64_t header = HeaderBytes(pages, page_bytes) + config_.ring_bytes;
  return memory_bytes <= header ? 0 : static_cast<uint32_t>((memory_bytes - header) / page_bytes);
}

uint64_t Shard::LimitFor(uint64_t memory_bytes) const {
  const uint32_t pages = PagesFor(memory_bytes);
  const uint32_t reserve = ReservePages(*config_.classes, has_ring());
  return pages <= reserve ? 0 : uint64_t{pages - reserve} * config_.classes->page_bytes();
}

bool Shard::Init(uint64_t memory_bytes, uint64_t entries_limit, uint32_t epoch) {
  state_->epoch = epoch;
  state_->arena.pages_ceiling = config_.pages_ceiling;
  SetLimits(memory_bytes, entries_limit);
  return state_->limit_bytes > 0 && table_.Init();
}

// ---- finding ----

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
  if (state_->open_walks != 0) [[unlikely]]
    StepOverForWalks(ref);
  lru_.MoveToFront(ref);
}

void Shard::SettleTouchesNow() {
  const uint32_t count = state_->touch_count;
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
  if (IsTimed(entry)) wheel_.Add(ref);
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
  const bool dead = IsDead(entry);
  if (dead) {
    state_->dead_entries--;
    if (state_->newest_dead == ref) state_->newest_dead = entry->lru_next;
  } else {
    state_->live_entries--;
    const bool fetched = (entry->flags & kEntryFetched) != 0;
    if (reason == Reason::kEvicted) {
      state_->counters.evictions++;
      if (!fetched) state_->counters.evicted_unfetched++;
      NoteGone(entry->version);
    } else if (reason == Reason::kExpired) {
      state_->counters.expirations++;
      if (!fetched) state_->counters.expired_unfetched++;
      NoteGone(entry->version);
    }
    if (announce) Announce(reason, entry);
  }
  if (state_->open_walks != 0) [[unlikely]]
    StepOverForWalks(ref);
  for (uint8_t bits = dead ? 0 : MarksOf(entry) ^ state_->mark_parity; bits != 0; bits &= bits - 1) {
    state_->walks[__builtin_ctz(bits)].unemitted--;
  }
  const HashTable::Slot slot = table_.FindRef(hash, ref);
  CHECK(slot.bucket != nullptr);
  table_.Remove(hash, slot);
  lru_.Unlink(ref);
  if (IsTimed(entry)) wheel_.Remove(ref);
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
  if (IsTimed(entry)) wheel_.Moved(to);
  if (state_->newest_dead == from) state_->newest_dead = to;
  for (WalkState& walk : state_->walks) {
    if (walk.next == from) walk.next = to;
  }
}

// ---- records ----

bool Shard::ReserveKeyRecord(size_t key_bytes) {
  const size_t bytes = RecordBytes(key_bytes, 0);
  if (records_ == &ring_ ? ring_.Reserve(bytes) : records_->Reserve(bytes)) return true;
  state_->counters.log_full++;
  return false;
}

bool Shard::ReserveEntryRecord(const NewEntry& entry, bool in_body) {
  value_reserved_pinned_ = false;
  bool reserved;
  if (records_ == &ring_ && entry.value_bytes <= kRingInlineValueBytesMax && ring_.pinned_bytes() == 0) [[likely]] {
    reserved = ring_.Reserve(RecordBytes(entry.key.size(), entry.value_bytes));
  } else if (records_ != &ring_) {
    reserved = records_->Reserve(RecordBytes(entry.key.size(), entry.value_bytes));
  } else {
    reserved = ReserveBesidePinned(entry, in_body);
  }
  if (!reserved) state_->counters.log_full++;
  return reserved;
}

bool Shard::ReserveBesidePinned(const NewEntry& entry, bool in_body) {
  const uint64_t charge = LayoutOf(entry).charge;
  const size_t key_bytes = entry.key.size();
  if (!in_body && RingHoldsRoom(charge)) return false;
  if (entry.value_bytes > kRingInlineValueBytesMax) {
    const bool may_pin =
        state_->arena.pinned_pages + PinnedPagesOf(LayoutOf(entry)) <= kRingPinnedPagesMax &&
        (ring_.pinned_bytes() == 0 || ring_.pinned_bytes() + charge <= state_->limit_bytes / kRingPinnedShareMax);
    value_reserved_pinned_ = may_pin && ring_.ReservePinned(key_bytes);
    if (value_reserved_pinned_) return true;
    if (entry.value_bytes > kRingCopiedValueBytesMax) return false;
  }
  return ring_.Reserve(RecordBytes(key_bytes, entry.value_bytes));
}

bool Shard::ReserveBarrier(bool is_due) {
  if (records_ == nullptr) return true;
  if (records_ == &ring_ ? ring_.ReserveBarrier(is_due) : records_->Reserve(RecordBytes(0, 0))) return true;
  state_->counters.log_full++;
  return false;
}

int64_t Shard::ExpiresWallMsByClock(uint64_t expires_ms, const Now& now) {
  // Whoever came before anything could expire has read no clock; the entry was given its time since. Once in the life
  // of a store, if ever.
  const Now& clock = now.boot_ms != 0 ? now : ReadClock();
  return static_cast<int64_t>(expires_ms) + clock.WallOffset();
}

void Shard::LeaveSetRecord(const NewEntry& from, const char* value, Ref ref, uint64_t version, const Now& now) {
  if (records_ != &ring_ || value_reserved_pinned_ || from.value_may_change)
    return LeaveRecord(RecordKind::kSet, ref, version, now);
  ring_.Append({.record_bytes = static_cast<uint32_t>(RecordBytes(from.key.size(), from.value_bytes)),
                .kind = RecordKind::kSet,
                .codec = static_cast<uint8_t>(from.codec),
                .reserved0 = 0,
                .version = version,
                .expires_wall_ms = ExpiresWallMs(from.expires_ms, now),
                .client_flags = from.client_flags,
                .key_bytes = static_cast<uint32_t>(from.key.size()),
                .value_bytes = static_cast<uint32_t>(from.value_bytes),
                .reserved1 = 0},
               from.key.data(), value);
}

void Shard::LeaveRecord(RecordKind kind, Ref ref, uint64_t version, const Now& now) {
  const EntryHeader* entry = At(ref);
  const size_t key_bytes = KeyBytesOf(entry);
  const uint32_t value_bytes = kind == RecordKind::kSet ? entry->value_bytes : 0;
  RecordHeader header{};
  header.record_bytes = static_cast<uint32_t>(RecordBytes(key_bytes, value_bytes));
  header.kind = kind;
  header.codec = static_cast<uint8_t>(CodecOf(entry));
  header.version = version;
  header.expires_wall_ms = ExpiresWallMs(ExpiresMsOf(entry), now);
  header.client_flags = ClientFlagsOf(entry);
  header.key_bytes = static_cast<uint32_t>(key_bytes);
  header.value_bytes = value_bytes;
  if (records_ == &ring_ && !(entry->flags & kEntryChunked) && !(value_reserved_pinned_ && value_bytes != 0)) {
    const char* stream = BytesOf(entry) + StreamOffsetOf(entry->flags, IsLongKey(entry));
    return ring_.Append(header, stream, stream + key_bytes);
  }
  RecordSink* sink = records_;
  const auto payload = [sink](const char* piece, size_t bytes) { sink->Payload(piece, bytes); };
  if (sink != &ring_ || value_bytes == 0 || !value_reserved_pinned_) {
    sink->Begin(header);
    VisitStream(entry, 0, key_bytes + value_bytes, payload);
    sink->Commit();
    return;
  }
  Pin pin;
  CHECK(PinEntry(ref, kRingPinnedPagesMax, &pin));
  ring_.BeginPinned(header);
  VisitStream(entry, 0, key_bytes, payload);
  // As with bytes: the reader is told when it begins to be much.
  const uint64_t much = state_->limit_bytes / kRingPinnedShareMax / 4;
  const uint64_t before = ring_.pinned_bytes();
  ring_.CommitPinned(pin, ChargeOf(entry, ref));
  if (before < much && ring_.pinned_bytes() >= much) ring_.NoteFull();
}

uint64_t Shard::EmitKey(RecordKind kind, std::string_view key, const Now&) {
  const uint64_t version = NextVersion();
  if (records_ == nullptr) [[likely]]
    return version;
  state_->gone_version = version;
  RecordHeader header{};
  header.record_bytes = static_cast<uint32_t>(RecordBytes(key.size(), 0));
  header.kind = kind;
  header.version = version;
  header.key_bytes = static_cast<uint32_t>(key.size());
  if (records_ == &ring_ && !key.empty()) [[likely]] {
    ring_.Append(header, key.data(), key.data());
    return version;
  }
  records_->Begin(header);
  if (!key.empty()) records_->Payload(key.data(), key.size());
  records_->Commit();
  return version;
}

// ---- the whole ----

void Shard::BuryAll() {
  state_->newest_dead = lru_.head();
  state_->dead_entries += state_->live_entries;
  state_->live_entries = 0;
  // Walks have nothing left to emit, and what their marks say of the dead is of no interest.
  for (WalkState& walk : state_->walks) walk.unemitted = 0;
}

uint64_t Shard::Clear(uint32_t epoch, bool leave_record, bool is_due, const Now& now, uint64_t* entries) {
  SettleTouches();
  if (leave_record && !ReserveBarrier(is_due)) return 0;
  if (epoch > state_->epoch) {
    state_->epoch = epoch;
    state_->cleared_version = uint64_t{epoch} << kVersionCounterBits;
  } else {
    state_->cleared_version = NextVersion();
  }
  *entries = state_->live_entries;
  BuryAll();
  state_->counters.clears++;
  fills_.VoidAll();
  const uint64_t version = leave_record ? EmitKey(RecordKind::kClear, {}, now) : NextVersion();
  NoteGone(version);
  cleared_at_ = last_version();
  return version;
}

uint64_t Shard::LeaveClearAt(int64_t wall_ms) {
  if (!ReserveBarrier(false)) return 0;
  RecordHeader header{};
  header.record_bytes = kRecordHeaderBytes;
  header.kind = RecordKind::kClearAt;
  header.version = NextVersion();
  header.expires_wall_ms = wall_ms;
  records_->Begin(header);
  records_->Commit();
  return header.version;
}

uint64_t Shard::ApplyClear(uint64_t version) {
  SettleTouches();
  const uint32_t epoch = EpochOf(version);
  const uint64_t barrier = uint64_t{epoch} << kVersionCounterBits;
  if (barrier <= state_->cleared_version) return 0;
  fills_.VoidAll();
  state_->counters.clears++;
  uint64_t entries = 0;
  if (state_->newest_epoch < epoch) {
    entries = state_->live_entries;
    BuryAll();
  } else {
    // A snapshot that was taken while it was being written to holds newer entries than this barrier, in any order.
    // Only recovery comes here, before anything is served.
    // A walk's position survives that entries are removed and moved.
    bool ready;
    const int slot = OpenWalk(Cursor::Order::kOldestFirst, &ready);
    WalkState* walk = &state_->walks[slot];
    while (walk->next != 0) {
      const EntryHeader* entry = At(walk->next);
      if (entry->version >= barrier) {
        walk->next = entry->lru_prev;
        continue;
      }
      if (!IsDead(entry)) entries++;
      RemoveEntry(walk->next, Reason::kCleared, HashOfEntry(walk->next), false);
    }
    CloseWalk(slot, walk->generation);
  }
  state_->cleared_version = barrier;
  state_->epoch = std::max(state_->epoch, epoch);
  return entries;
}

void Shard::Renumber(uint64_t counter) {
  SettleTouches();
  // What is dead is known by its version, and lies at the cold end.
  while (state_->dead_entries > 0) {
    CHECK(IsDead(At(lru_.tail())));
    RemoveEntry(lru_.tail(), Reason::kCleared);
  }
  for (Ref ref = lru_.tail(); ref != 0; ref = At(ref)->lru_prev) At(ref)->version = ++counter;
  state_->epoch = 0;
  state_->newest_epoch = 0;
  state_->version_counter = counter;
  state_->cleared_version = 0;
  state_->gone_version = 0;
}

bool Shard::CommitRingStep() {
  return !ring_.Free(kStepEntriesMax, [this](const Pin& pin) { Unpin(pin.ref); });
}

bool Shard::MaintainStep(const Now& now) {
  SettleTouches();
  int budget = kStepEntriesMax;
  while (!state_->recovering) {
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
  if (state_->open_walks != 0 && !CleanAbandonedWalks()) more = true;
  // A shrinking that bodies and pins hold up goes on in a later turn: there is nothing to do now.
  bool moved = false;
  if (!ShrinkStep(&moved) && moved) more = true;
  return more;
}

bool Shard::WantsAhead() const {
  const ArenaState& arena = state_->arena;
  const uint64_t end = LargePageEnd();
  if (state_->ahead_end > end || end + kLargePageBytes > config_.large_bytes || arena.closed_to != 0) return false;
  if (!IsAtLargePageEnd() && (state_->ahead_given_back || end - TouchedEnd() > kAheadLeadBytes)) return false;
  // Not beyond what the shard may use, and not while there are pages that go first.
  return config_.header_bytes + uint64_t{arena.pages_total} * config_.classes->page_bytes() >= end + kLargePageBytes &&
         arena.free_count == 0 && arena.returned_count == 0;
}

void Shard::TookFreshPage() {
  if (config_.large_bytes == 0) return;
  const uint64_t end = LargePageEnd();
  if (end > state_->ahead_end) state_->ahead_end = end;
  const uint64_t page_bytes = config_.classes->page_bytes();
  if (TouchedEnd() - page_bytes == end - kLargePageBytes) state_->ahead_given_back = false;
  if (removals_ != nullptr && WantsAhead()) removals_->OnGrowing();
}

Shard::AheadStep Shard::BeginAhead(const Now& now, bool shrinking) {
  AheadStep step;
  if (config_.large_bytes == 0) return step;
  const ArenaState& arena = state_->arena;
  const uint64_t end = LargePageEnd();
  const bool grew = arena.pages_touched != state_->ahead_pages_seen && !shrinking;
  if (grew) {
    state_->ahead_pages_seen = arena.pages_touched;
    state_->ahead_grew_ms = now.boot_ms;
  }
  if (grew && WantsAhead()) {
    state_->ahead_end = end + kLargePageBytes;
    return {AheadStep::What::kPopulate, base_ + end, kLargePageBytes};
  }
  if (state_->ahead_end <= end || arena.closed_to != 0) return step;
  const uint64_t page_bytes = config_.classes->page_bytes();
  const bool idle = !grew && !shrinking && !IsAtLargePageEnd() && now.boot_ms >= state_->ahead_grew_ms + kAheadIdleMs;
  const bool too_much = config_.header_bytes + uint64_t{arena.pages_total} * page_bytes < state_->ahead_end;
  if (!idle && !too_much) return step;
  const auto from = static_cast<uint32_t>((end - config_.header_bytes) / page_bytes);
  const auto to = static_cast<uint32_t>((state_->ahead_end - config_.header_bytes) / page_bytes);
  if (to >= arena.pages_ceiling) return step;
  arena_.CloseUnused(from, to);
  step = {AheadStep::What::kGiveBack, base_ + end, state_->ahead_end - end};
  state_->ahead_end = end;
  state_->ahead_given_back = true;
  return step;
}

void Shard::SetLimits(uint64_t memory_bytes, uint64_t entries_limit) {
  state_->memory_bytes = memory_bytes;
  state_->limit_target_bytes = LimitFor(memory_bytes);
  state_->limit_bytes = std::max(state_->limit_target_bytes, state_->charged_bytes);
  state_->entries_limit_target = entries_limit;
  const uint64_t entries = state_->live_entries + state_->dead_entries;
  state_->entries_limit = entries_limit == 0 ? 0 : std::max(entries_limit, entries);
  const uint32_t needed =
      static_cast<uint32_t>((state_->limit_bytes + config_.classes->page_bytes() - 1) / config_.classes->page_bytes()) +
      ReservePages(*config_.classes, has_ring());
  state_->arena.pages_total = std::min(std::max(PagesFor(memory_bytes), needed), config_.pages_ceiling);
}

bool Shard::ShrinkStep(bool* moved) {
  SettleTouches();
  const auto done = [this] {
    return state_->limit_bytes == state_->limit_target_bytes && state_->entries_limit == state_->entries_limit_target &&
           state_->arena.pages_used <= state_->arena.pages_total;
  };
  if (done() && state_->arena.pages_total <= PagesFor(state_->memory_bytes)) return true;
  const uint64_t limit_bytes = state_->limit_bytes;
  const uint64_t entries_limit = state_->entries_limit;
  const uint32_t pages_used = state_->arena.pages_used;
  for (int i = 0; i < kStepEntriesMax; i++) {
    const bool over = state_->charged_bytes > state_->limit_target_bytes ||
                      (state_->entries_limit_target != 0 &&
                       state_->live_entries + state_->dead_entries > state_->entries_limit_target);
    if (!over || !EvictTail()) break;
    *moved = true;
  }
  SetLimits(state_->memory_bytes, state_->entries_limit_target);
  for (int i = 0; i < kEvacuationsPerStep && state_->arena.pages_used > state_->arena.pages_total; i++) {
    if (!arena_.EvacuateOne()) break;
  }
  if (state_->limit_bytes != limit_bytes || state_->entries_limit != entries_limit ||
      state_->arena.pages_used != pages_used) {
    *moved = true;
  }
  return done();
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
  stats.committed_bytes =
      uint64_t{arena_.committed_pages()} * page_bytes + HeaderBytes(state_->arena.pages_touched, 64);
  stats.committed_bytes += AheadBytes();
  if (has_ring()) stats.committed_bytes += ring_.touched_bytes();
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

}  // namespace cairn
