#include "store/shard.h"

#include <algorithm>
#include <cstring>

#include "store/shard_inl.h"

namespace cairn {

namespace {

constexpr uint64_t RoundUp(uint64_t value, uint64_t multiple) { return (value + multiple - 1) / multiple * multiple; }

}  // namespace

namespace {

// Shards lie at multiples of a large page, so that the same field of each would fall into the same set of a
// processor's cache, of which a set holds 8 or 16 lines. Therefore the state of a shard begins at one of 64 lines, by
// the shard's number. An odd step reaches all of them.
constexpr uint64_t kCacheLineBytes = 64;
constexpr uint64_t kStateColours = 64;
constexpr uint64_t kStateColoursBytes = kStateColours * kCacheLineBytes;
constexpr uint64_t kColourStep = 7;

uint64_t StateOffset(uint32_t index) { return index * kColourStep % kStateColours * kCacheLineBytes; }

char* BehindState(ShardState* state, uint64_t bytes) { return reinterpret_cast<char*>(state) + bytes; }

}  // namespace

// ---- set-up ----

uint64_t Shard::HeaderBytes(uint32_t pages, uint64_t page_bytes) {
  uint64_t bytes = kStateColoursBytes + RoundUp(sizeof(ShardState), 64);
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
      state_(reinterpret_cast<ShardState*>(base + StateOffset(config.index))),
      config_(config),
      memory_(EntryMemory::Places{base, &state_->arena,
                                  reinterpret_cast<PageDesc*>(BehindState(state_, RoundUp(sizeof(ShardState), 64))),
                                  config.header_bytes, &state_->memory},
              config.classes, config.track_access, this, this),
      table_(memory_.arena(), &state_->table,
             reinterpret_cast<uint32_t*>(BehindState(
                 state_,
                 RoundUp(sizeof(ShardState), 64) + RoundUp(uint64_t{config.pages_ceiling} * sizeof(PageDesc), 64))),
             this),
      lru_(memory_.arena(), &state_->lru),
      wheel_(memory_.arena(), &state_->wheel),
      recorder_(&state_->recorder, &state_->ring, base + config.header_bytes - config.ring_bytes, config.ring_bytes,
                &memory_, &state_->counters),
      walks_(&state_->walks, &memory_, &lru_, &state_->population),
      bodies_(&state_->bodies, &memory_),
      growth_(&state_->growth, memory_.arena(), base, config.header_bytes, config.large_bytes) {}

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
  recorder_.NoteVersion(VersionOf(epoch, 0));
  state_->arena.pages_ceiling = config_.pages_ceiling;
  SetLimits(memory_bytes, entries_limit);
  return memory_.state().limit_bytes > 0 && table_.Init();
}

// ---- finding ----

void Shard::PrefetchEntry(uint64_t hash) const {
  const Bucket* bucket = table_.BucketOf(hash);
  for (uint32_t bits = bucket->Match(HashTable::TagOf(hash)); bits != 0; bits &= bits - 1) {
    __builtin_prefetch(At(bucket->refs[__builtin_ctz(bits)]));
  }
  if (bucket->next != 0) __builtin_prefetch(memory_.arena()->At(bucket->next));
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

void Shard::Bump(Ref ref) {
  if (lru_.head() == ref) return;
  walks_.StepOver(ref);
  lru_.MoveToFront(ref);
}

void Shard::SettleTouchesNow() {
  TouchState* touches = &state_->touches;
  const uint32_t count = touches->count;
  touches->count = 0;
  for (uint32_t i = 0; i < count; i++) Bump(touches->refs[i]);
}

bool Shard::Enter(int slot, uint64_t hash, uint8_t walk_bits) {
  while (!table_.Insert(hash, memory_.SlotAddress(slot))) {
    const Ref victim = table_.FloodVictim(hash);
    if (victim == 0) return false;
    state_->counters.hash_flood_evictions++;
    Leave(victim, Reason::kEvicted);
  }
  const Ref ref = memory_.InSlot(slot);
  memory_.TakeFromSlot(slot);
  EntryHeader* entry = At(ref);
  entry->flags = WithKind(entry->flags, ChunkKind::kEntry);
  SetWalkBits(entry, walk_bits);
  walks_.Came(walk_bits);
  lru_.PushFront(ref);
  if (IsTimed(entry)) wheel_.Add(ref);
  state_->population.live_entries++;
  state_->population.payload_bytes += KeyBytesOf(entry) + entry->value_bytes;
  return true;
}

class Shard::RemovedView final : public RemovedEntry {
 public:
  RemovedView(const Shard* shard, const EntryHeader* entry) : shard_(shard), entry_(entry) {}
  size_t key_bytes() const override { return KeyBytesOf(entry_); }
  size_t value_bytes() const override { return entry_->value_bytes; }
  Codec codec() const override { return CodecOf(entry_); }
  uint32_t client_flags() const override { return ClientFlagsOf(entry_); }
  void CopyKey(char* data) const override { shard_->memory_.ReadStream(entry_, 0, data, KeyBytesOf(entry_)); }
  void CopyValue(char* data, size_t bytes) const override {
    shard_->memory_.ReadStream(entry_, KeyBytesOf(entry_), data, bytes);
  }

 private:
  const Shard* shard_;
  const EntryHeader* entry_;
};

void Shard::Announce(Reason reason, const EntryHeader* entry) {
  if (removals_ == nullptr || !removals_->wanted(reason)) return;
  removals_->OnRemoved(reason, RemovedView(this, entry));
}

void Shard::Leave(Ref ref, Reason reason, uint64_t hash, Farewell farewell) {
  EntryHeader* entry = At(ref);
  const bool dead = IsDead(entry);
  if (dead) {
    state_->population.dead_entries--;
    if (state_->population.newest_dead == ref) state_->population.newest_dead = entry->lru_next;
  } else {
    state_->population.live_entries--;
    const bool fetched = (entry->flags & kEntryFetched) != 0;
    if (reason == Reason::kEvicted) {
      state_->counters.evictions++;
      if (!fetched) state_->counters.evicted_unfetched++;
      recorder_.NoteGone(entry->version);
    } else if (reason == Reason::kExpired) {
      state_->counters.expirations++;
      if (!fetched) state_->counters.expired_unfetched++;
      recorder_.NoteGone(entry->version);
    }
    // Those that a clear takes are told as a number (RemovalSink::OnCleared).
    if (farewell == Farewell::kTold && reason != Reason::kCleared) Announce(reason, entry);
  }
  walks_.StepOver(ref);
  if (!dead) walks_.Went(WalkBitsOf(entry));
  const HashTable::Slot slot = table_.FindRef(hash, ref);
  CHECK(slot.bucket != nullptr);
  table_.Remove(hash, slot);
  lru_.Unlink(ref);
  if (IsTimed(entry)) wheel_.Remove(ref);
  state_->population.payload_bytes -= KeyBytesOf(entry) + entry->value_bytes;
  if (PinsOf(entry) != 0) {
    entry->flags = WithKind(entry->flags, ChunkKind::kUnlinked);
  } else {
    memory_.Free(ref);
  }
  table_.Adjust();
}

void Shard::MovedChunk(Ref from, Ref to) {
  EntryHeader* entry = At(to);
  const ChunkKind kind = KindOf(entry->flags);
  if (kind == ChunkKind::kChunk) return memory_.MovedChunk(to);
  memory_.MovedHead(to);
  // Pinned entries do not move, so an unlinked one is in a slot.
  if (kind == ChunkKind::kUnlinked) return memory_.MovedInSlot(from, to);
  CHECK(kind == ChunkKind::kEntry);
  const HashTable::Slot slot = table_.FindRef(HashOfEntry(to), from);
  CHECK(slot.bucket != nullptr);
  slot.bucket->refs[slot.index] = to;
  lru_.Moved(to);
  if (IsTimed(entry)) wheel_.Moved(to);
  if (state_->population.newest_dead == from) state_->population.newest_dead = to;
  walks_.Moved(from, to);
}

// ---- the whole ----

void Shard::BuryAll() {
  state_->population.newest_dead = lru_.head();
  state_->population.dead_entries += state_->population.live_entries;
  state_->population.live_entries = 0;
  walks_.AllDied();
}

uint64_t Shard::Clear(uint64_t version) {
  SettleTouches();
  const uint64_t entries = state_->population.live_entries;
  BuryAll();
  state_->population.cleared_version = version;
  state_->counters.clears++;
  fills_.VoidAll();
  recorder_.LeaveBarrier(RecordKind::kClear, version, 0);
  return entries;
}

uint64_t Shard::ApplyClear(uint64_t version) {
  SettleTouches();
  if (version <= state_->population.cleared_version) return 0;
  fills_.VoidAll();
  state_->counters.clears++;
  uint64_t entries = 0;
  if (recorder_.newest_version() < version) {
    entries = state_->population.live_entries;
    BuryAll();
  } else {
    // A snapshot that was taken while it was being written to holds newer entries than this clear, in any order.
    // Only recovery comes here, before anything is served.
    bool ready;
    const int slot = walks_.Open(Cursor::Order::kOldestFirst, &ready);
    while (const Ref ref = walks_.NextOf(slot)) {
      const EntryHeader* entry = At(ref);
      if (entry->version >= version) {
        walks_.GoTo(slot, entry->lru_prev);
        continue;
      }
      if (!IsDead(entry)) entries++;
      Leave(ref, Reason::kCleared);
    }
    walks_.Close(slot, walks_.GenerationOf(slot));
  }
  state_->population.cleared_version = version;
  recorder_.NoteVersion(version);
  return entries;
}

void Shard::Renumber(uint64_t counter) {
  SettleTouches();
  // What is dead is known by its version, and lies at the cold end.
  while (state_->population.dead_entries > 0) {
    CHECK(IsDead(At(lru_.tail())));
    Leave(lru_.tail(), Reason::kCleared);
  }
  for (Ref ref = lru_.tail(); ref != 0; ref = At(ref)->lru_prev) At(ref)->version = ++counter;
  recorder_.Renumbered(counter);
  state_->population.cleared_version = 0;
}

bool Shard::CommitRingStep(uint64_t up_to) {
  return !recorder_.ring()->Free(up_to, kStepEntriesMax, [this](const Pin& pin) { memory_.Unpin(pin.ref); });
}

bool Shard::MaintainStep(const Now& now) {
  SettleTouches();
  int budget = kStepEntriesMax;
  while (!state_->recovering) {
    const Ref ref = wheel_.Advance(now.boot_ms, &budget);
    if (ref == 0) break;
    Leave(ref, Reason::kExpired);
  }
  bool more = budget < 0;
  int reclaimed = 0;
  while (state_->population.dead_entries > 0 && reclaimed < kStepEntriesMax && lru_.tail() != 0 &&
         IsDead(At(lru_.tail()))) {
    Leave(lru_.tail(), Reason::kCleared);
    reclaimed++;
  }
  if (reclaimed == kStepEntriesMax) more = true;
  if (walks_.any_open() && !walks_.CleanAbandoned()) more = true;
  // A shrinking that bodies and pins hold up goes on in a later turn: there is nothing to do now.
  bool moved = false;
  if (!ShrinkStep(&moved) && moved) more = true;
  return more;
}

void Shard::TookFreshPage() {
  if (growth_.TookFreshPage() && removals_ != nullptr) removals_->OnGrowing();
}

void Shard::SetLimits(uint64_t memory_bytes, uint64_t entries_limit) {
  state_->memory_bytes = memory_bytes;
  state_->limit_target_bytes = LimitFor(memory_bytes);
  memory_.SetLimit(std::max(state_->limit_target_bytes, memory_.state().charged_bytes));
  state_->entries_limit_target = entries_limit;
  state_->entries_limit = entries_limit == 0 ? 0 : std::max(entries_limit, state_->population.entries());
  const uint32_t needed = static_cast<uint32_t>((memory_.state().limit_bytes + config_.classes->page_bytes() - 1) /
                                                config_.classes->page_bytes()) +
                          ReservePages(*config_.classes, has_ring());
  state_->arena.pages_total = std::min(std::max(PagesFor(memory_bytes), needed), config_.pages_ceiling);
}

bool Shard::IsShrunk() const {
  return memory_.state().limit_bytes == state_->limit_target_bytes &&
         state_->entries_limit == state_->entries_limit_target && state_->arena.pages_used <= state_->arena.pages_total;
}

bool Shard::ShrinkStep(bool* moved) {
  SettleTouches();
  if (IsShrunk() && state_->arena.pages_total <= PagesFor(state_->memory_bytes)) return true;
  const uint64_t limit_bytes = memory_.state().limit_bytes;
  const uint64_t entries_limit = state_->entries_limit;
  const uint32_t pages_used = state_->arena.pages_used;
  for (int i = 0; i < kStepEntriesMax; i++) {
    const bool over =
        memory_.state().charged_bytes > state_->limit_target_bytes ||
        (state_->entries_limit_target != 0 && state_->population.entries() > state_->entries_limit_target);
    if (!over || !Evict()) break;
    *moved = true;
  }
  SetLimits(state_->memory_bytes, state_->entries_limit_target);
  for (int i = 0; i < kEvacuationsPerStep && state_->arena.pages_used > state_->arena.pages_total; i++) {
    if (!memory_.arena()->EvacuateOne()) break;
  }
  if (memory_.state().limit_bytes != limit_bytes || state_->entries_limit != entries_limit ||
      state_->arena.pages_used != pages_used) {
    *moved = true;
  }
  return IsShrunk();
}

int Shard::BeginReturn(uint32_t* pages, int count, Growth::Purpose purpose) {
  const ArenaState& arena = state_->arena;
  uint32_t excess = 0;
  if (purpose == Growth::Purpose::kShrink || memory_.arena()->committed_pages() > arena.pages_total) {
    if (memory_.arena()->committed_pages() > arena.pages_total)
      excess = memory_.arena()->committed_pages() - arena.pages_total;
  } else if (arena.free_count > arena.pages_used / 8 + 16) {
    excess = arena.free_count - (arena.pages_used / 8 + 16);
  }
  return memory_.arena()->BeginReturn(pages,
                                      static_cast<int>(std::min<uint32_t>(excess, static_cast<uint32_t>(count))));
}

// ---- looking ----

StoreStats Shard::Stats() const {
  StoreStats stats = state_->counters;
  stats.hits = state_->touches.hits;
  stats.misses = state_->touches.misses;
  stats.gets = stats.hits + stats.misses;
  stats.entries = state_->population.live_entries;
  stats.cleared_entries = state_->population.dead_entries;
  stats.entries_max = state_->entries_limit_target;
  stats.charged_bytes = memory_.state().charged_bytes;
  stats.limit_bytes = memory_.state().limit_bytes;
  stats.payload_bytes = state_->population.payload_bytes;
  stats.memory_bytes = state_->memory_bytes;
  const uint64_t page_bytes = config_.classes->page_bytes();
  stats.committed_bytes =
      uint64_t{memory_.arena()->committed_pages()} * page_bytes + HeaderBytes(state_->arena.pages_touched, 64);
  stats.committed_bytes += growth_.AheadBytes();
  if (has_ring()) stats.committed_bytes += recorder_.ring()->touched_bytes();
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
  state_->touches.hits = 0;
  state_->touches.misses = 0;
  state_->arena.relocations = 0;
  state_->table.splits = 0;
  state_->table.merges = 0;
}

}  // namespace cairn
