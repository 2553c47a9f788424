#include "store/shard.h"

#include <algorithm>

#include "store/shard_inl.h"

namespace cairn {

namespace {

constexpr uint64_t RoundUp(uint64_t value, uint64_t multiple) { return (value + multiple - 1) / multiple * multiple; }

// Shards lie at multiples of a large page, so that the same field of each would fall into the same set of a
// processor's cache, of which a set holds 8 or 16 lines. Therefore the state of a shard begins at one of 64 lines, by
// the shard's number. An odd step reaches all of them.
constexpr uint64_t kCacheLineBytes = 64;
constexpr uint64_t kStateColours = 64;
constexpr uint64_t kStateColoursBytes = kStateColours * kCacheLineBytes;
constexpr uint64_t kColourStep = 7;

uint64_t StateOffset(uint32_t index) { return index * kColourStep % kStateColours * kCacheLineBytes; }

// Behind the state: the page descriptors, then the table's directory.
char* DescriptorsOf(ShardState* state) { return reinterpret_cast<char*>(state) + RoundUp(sizeof(ShardState), 64); }
char* DirectoryOf(ShardState* state, uint32_t pages) {
  return DescriptorsOf(state) + RoundUp(uint64_t{pages} * sizeof(PageDesc), 64);
}

}  // namespace

// ---- set-up ----

uint64_t ShardState::HeaderBytes(uint32_t pages, uint64_t page_bytes) {
  uint64_t bytes = kStateColoursBytes + RoundUp(sizeof(ShardState), 64);
  bytes += RoundUp(uint64_t{pages} * sizeof(PageDesc), 64);
  bytes += uint64_t{pages} * sizeof(uint32_t);
  return RoundUp(bytes, page_bytes);
}

Shard::Shard(char* base, const ShardConfig& config)
    : state_(reinterpret_cast<ShardState*>(base + StateOffset(config.index))),
      config_(config),
      memory_(EntryMemory::Places{base, &state_->arena, reinterpret_cast<PageDesc*>(DescriptorsOf(state_)),
                                  config.header_bytes, &state_->memory},
              config.classes, config.track_access, this, &room_, config.backends != nullptr ? kStubValueBytes : 0),
      recorder_(&state_->recorder, &state_->ring, base + config.header_bytes - config.ring_bytes, config.ring_bytes,
                &memory_, &state_->counters),
      entries_(state_, reinterpret_cast<uint32_t*>(DirectoryOf(state_, config.pages_ceiling)), config, &memory_,
               &recorder_),
      room_(state_, config, &memory_, &entries_),
      bodies_(&state_->bodies, &memory_),
      growth_(&state_->growth, memory_.arena(), base, config.header_bytes, config.large_bytes),
      owed_flag_(config.backends != nullptr && config.ring_bytes != 0 ? kEntryOwed : 0) {}

bool Shard::Init(uint64_t memory_bytes, uint64_t entries_limit, uint32_t epoch) {
  recorder_.NoteVersion(VersionOf(epoch, 0));
  state_->arena.pages_ceiling = config_.pages_ceiling;
  room_.SetLimits(memory_bytes, entries_limit);
  return memory_.state().limit_bytes > 0 && entries_.Init();
}

// ---- the arena's mover ----

void Shard::MovedChunk(Ref from, Ref to) {
  const ChunkKind kind = KindOf(At(to)->flags);
  if (kind == ChunkKind::kChunk) return memory_.MovedChunk(to);
  memory_.MovedHead(to);
  // Pinned entries do not move, so an unlinked one is in a slot.
  if (kind == ChunkKind::kUnlinked) return memory_.MovedInSlot(from, to);
  CHECK(kind == ChunkKind::kEntry);
  entries_.Moved(from, to);
}

void Shard::TookFreshPage() {
  RemovalSink* sink = entries_.removal_sink();
  if (growth_.TookFreshPage() && sink != nullptr) sink->OnGrowing();
}

// ---- the whole ----

uint64_t Shard::Clear(uint64_t version) {
  entries_.SettleTouches();
  const uint64_t entries = entries_.Bury(version);
  state_->counters.clears++;
  fills_.VoidAll();
  recorder_.LeaveBarrier(RecordKind::kClear, version, 0);
  return entries;
}

uint64_t Shard::ApplyClear(uint64_t version) {
  entries_.SettleTouches();
  if (version <= entries_.cleared_version()) return 0;
  fills_.VoidAll();
  state_->counters.clears++;
  // A snapshot that was taken while requests were served holds entries that are newer than this clear, in any order.
  // Only recovery applies such records, before requests are served.
  const bool all_are_older = recorder_.newest_version() < version;
  const uint64_t entries = all_are_older ? entries_.Bury(version) : entries_.LeaveBelow(version);
  recorder_.NoteVersion(version);
  return entries;
}

void Shard::Renumber(uint64_t counter) {
  entries_.SettleTouches();
  recorder_.Renumbered(entries_.Renumber(counter));
}

bool Shard::CommitRingStep(uint64_t up_to) {
  return !recorder_.ring()->Free(up_to, kStepEntriesMax, [this](const Pin& pin) { memory_.Unpin(pin.ref); });
}

bool Shard::MaintainStep(const Now& now) {
  entries_.SettleTouches();
  int budget = kStepEntriesMax;
  while (!state_->recovering && entries_.ExpireOne(now, &budget)) {
  }
  bool more = budget < 0;
  if (entries_.Reclaim()) more = true;
  int stub_budget = kStepEntriesMax;
  entries_.FreeStubs(&fills_, &stub_budget);
  if (stub_budget == 0 && entries_.debts().has_unvisited()) more = true;
  if (!entries_.CleanAbandonedWalks()) more = true;
  // A shrinking that bodies and pins hold up goes on in a later turn: there is nothing to do now.
  bool moved = false;
  if (!room_.ShrinkStep(&moved) && moved) more = true;
  return more;
}

// ---- looking ----

StoreStats Shard::Stats() const {
  StoreStats stats = state_->counters;
  entries_.AddStats(&stats);
  stats.entries_max = state_->entries_limit_target;
  stats.charged_bytes = memory_.state().charged_bytes;
  stats.limit_bytes = memory_.state().limit_bytes;
  stats.memory_bytes = state_->memory_bytes;
  const uint64_t page_bytes = config_.classes->page_bytes();
  stats.committed_bytes = uint64_t{memory_.arena()->committed_pages()} * page_bytes +
                          ShardState::HeaderBytes(state_->arena.pages_touched, 64);
  stats.committed_bytes += growth_.AheadBytes();
  if (has_ring()) stats.committed_bytes += recorder_.ring()->touched_bytes();
  stats.pages_used = state_->arena.pages_used;
  stats.pages_free = state_->arena.pages_total - std::min(state_->arena.pages_used, state_->arena.pages_total);
  stats.pinned_pages = state_->arena.pinned_pages;
  stats.relocations = state_->arena.relocations;
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

void Shard::Verify() {
  const Entries::Charges entries = entries_.Verify();
  memory_.arena()->CheckPages();
  room_.Verify();
  uint64_t bodies = 0;
  for (int slot = 0; slot < kEntrySlots; slot++) {
    const Ref ref = memory_.InSlot(slot);
    if (ref == 0) continue;
    CHECK(slot != 0);
    CHECK(KindOf(At(ref)->flags) == ChunkKind::kUnlinked && At(ref)->lru_prev == static_cast<uint32_t>(slot));
    bodies += memory_.ChargeOf(At(ref), ref);
  }
  CHECK(bodies == memory_.state().slot_bytes);
  // The rest of the charge is that of entries that left while they were pinned.
  CHECK(entries.charged + bodies + (memory_.state().pinned_bytes - entries.pinned) == memory_.state().charged_bytes);
  if (!has_ring()) return;
  recorder_.ring()->Verify([this](const Pin& pin) {
    const EntryHeader* entry = At(pin.ref);
    CHECK(KindOf(entry->flags) == ChunkKind::kEntry || KindOf(entry->flags) == ChunkKind::kUnlinked);
    CHECK(PinsOf(entry) > 0 && entry->value_bytes > kRingInlineValueBytesMax);
  });
  CHECK(recorder_.ring()->pinned_bytes() <= memory_.state().pinned_bytes);
  CHECK(recorder_.gone_version() <= recorder_.last_version());
}

}  // namespace cairn
