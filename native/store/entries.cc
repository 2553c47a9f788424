#include "store/entries.h"

#include <algorithm>

#include "store/entries_inl.h"

namespace cairn {

namespace {

// Counts a live entry that leaves, and tells the recorder of an absence that has no record.
void CountLeaving(const EntryHeader* entry, Reason reason, StoreStats* counters, Recorder* recorder) {
  const bool fetched = (entry->flags & kEntryFetched) != 0;
  if (reason == Reason::kEvicted) {
    counters->evictions++;
    if (!fetched) counters->evicted_unfetched++;
    recorder->NoteGone(entry->version);
  } else if (reason == Reason::kExpired) {
    counters->expirations++;
    if (!fetched) counters->expired_unfetched++;
    recorder->NoteGone(entry->version);
  }
}

}  // namespace

// ---- finding ----

Found Entries::Look(std::string_view key, uint64_t hash, const Now& now, StaleIs stale_is) const {
  const Ref ref = Find(key, hash);
  if (ref == 0 || IsDead(At(ref))) return Nothing();
  if (IsExpired(At(ref), now)) return {ref, nothing_};
  return {ref, stale_is == StaleIs::kAbsent && IsStale(At(ref), now) ? Presence::kStale : Presence::kLive};
}

void Entries::PrefetchEntry(uint64_t hash) const {
  const Bucket* bucket = table_.BucketOf(hash);
  for (uint32_t bits = bucket->Match(HashTable::TagOf(hash)); bits != 0; bits &= bits - 1) {
    __builtin_prefetch(At(bucket->refs[__builtin_ctz(bits)]));
  }
  if (bucket->next != 0) __builtin_prefetch(memory_->arena()->At(bucket->next));
}

void Entries::PrefetchValue(uint64_t hash) const {
  const Bucket* bucket = table_.BucketOf(hash);
  const uint32_t bits = bucket->Match(HashTable::TagOf(hash));
  if (bits == 0) return;
  const EntryHeader* entry = At(bucket->refs[__builtin_ctz(bits)]);
  __builtin_prefetch(reinterpret_cast<const char*>(entry) + 64);
  __builtin_prefetch(reinterpret_cast<const char*>(entry) + 128);
}

// ---- coming and going ----

bool Entries::Enter(int slot, uint64_t hash, uint8_t walk_bits) {
  while (!table_.Insert(hash, memory_->SlotAddress(slot))) {
    const Ref victim = table_.FloodVictim(hash);
    if (victim == 0) return false;
    state_->counters.hash_flood_evictions++;
    Leave(victim, Reason::kEvicted);
  }
  const Ref ref = memory_->InSlot(slot);
  memory_->TakeFromSlot(slot);
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

class Entries::RemovedView final : public RemovedEntry {
 public:
  RemovedView(const EntryMemory* memory, const EntryHeader* entry) : memory_(memory), entry_(entry) {}
  size_t key_bytes() const override { return KeyBytesOf(entry_); }
  size_t value_bytes() const override { return entry_->value_bytes; }
  Codec codec() const override { return CodecOf(entry_); }
  uint32_t client_flags() const override { return ClientFlagsOf(entry_); }
  void CopyKey(char* data) const override { memory_->ReadStream(entry_, 0, data, KeyBytesOf(entry_)); }
  void CopyValue(char* data, size_t bytes) const override {
    memory_->ReadStream(entry_, KeyBytesOf(entry_), data, bytes);
  }

 private:
  const EntryMemory* memory_;
  const EntryHeader* entry_;
};

void Entries::AnnounceTo(RemovalSink* sink, Reason reason, const EntryHeader* entry) const {
  if (sink->wanted(reason)) sink->OnRemoved(reason, RemovedView(memory_, entry));
}

void Entries::Leave(Ref ref, Reason reason, uint64_t hash, Farewell farewell) {
  EntryHeader* entry = At(ref);
  Population* population = &state_->population;
  const bool dead = IsDead(entry);
  if (dead) {
    population->dead_entries--;
    if (population->newest_dead == ref) population->newest_dead = entry->lru_next;
  } else {
    population->live_entries--;
    CountLeaving(entry, reason, &state_->counters, recorder_);
    // The sink is told of the entries that a clear takes as a number (RemovalSink::OnCleared).
    if (farewell == Farewell::kTold && reason != Reason::kCleared) Announce(reason, entry);
  }
  walks_.StepOver(ref);
  if (!dead) walks_.Went(WalkBitsOf(entry));
  const HashTable::Slot slot = table_.FindRef(hash, ref);
  CHECK(slot.bucket != nullptr);
  table_.Remove(hash, slot);
  lru_.Unlink(ref);
  if (IsTimed(entry)) wheel_.Remove(ref);
  population->payload_bytes -= KeyBytesOf(entry) + entry->value_bytes;
  if (PinsOf(entry) != 0) {
    entry->flags = WithKind(entry->flags, ChunkKind::kUnlinked);
  } else {
    memory_->Free(ref);
  }
  table_.Adjust();
}

void Entries::Moved(Ref from, Ref to) {
  const EntryHeader* entry = At(to);
  const HashTable::Slot slot = table_.FindRef(HashOfEntry(to), from);
  CHECK(slot.bucket != nullptr);
  slot.bucket->refs[slot.index] = to;
  lru_.Moved(to);
  if (IsTimed(entry)) wheel_.Moved(to);
  if (state_->population.newest_dead == from) state_->population.newest_dead = to;
  walks_.Moved(from, to);
}

// ---- the order ----

void Entries::Bump(Ref ref) {
  if (lru_.head() == ref) return;
  walks_.StepOver(ref);
  lru_.MoveToFront(ref);
}

void Entries::SettleTouchesNow() {
  TouchState* touches = &state_->touches;
  const uint32_t count = touches->count;
  touches->count = 0;
  for (uint32_t i = 0; i < count; i++) Bump(touches->refs[i]);
}

// ---- all of them ----

uint64_t Entries::Bury(uint64_t version) {
  Population* population = &state_->population;
  const uint64_t entries = population->live_entries;
  population->newest_dead = lru_.head();
  population->dead_entries += entries;
  population->live_entries = 0;
  population->cleared_version = version;
  walks_.AllDied();
  return entries;
}

uint64_t Entries::LeaveBelow(uint64_t version) {
  uint64_t entries = 0;
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
  state_->population.cleared_version = version;
  return entries;
}

bool Entries::Reclaim() {
  int reclaimed = 0;
  while (state_->population.dead_entries > 0 && reclaimed < kStepEntriesMax) {
    CHECK(IsDead(At(lru_.tail())));
    Leave(lru_.tail(), Reason::kCleared);
    reclaimed++;
  }
  return reclaimed == kStepEntriesMax;
}

bool Entries::ExpireOne(const Now& now, int* budget) {
  const Ref ref = wheel_.Advance(now.boot_ms, budget);
  if (ref == 0) return false;
  Leave(ref, Reason::kExpired);
  return true;
}

uint64_t Entries::Renumber(uint64_t counter) {
  while (Reclaim()) {
  }
  for (Ref ref = lru_.tail(); ref != 0; ref = At(ref)->lru_prev) At(ref)->version = ++counter;
  state_->population.cleared_version = 0;
  return counter;
}

// ---- looking ----

void Entries::AddStats(StoreStats* stats) const {
  stats->hits = state_->touches.hits;
  stats->misses = state_->touches.misses;
  stats->gets = stats->hits + stats->misses;
  stats->entries = state_->population.live_entries;
  stats->cleared_entries = state_->population.dead_entries;
  stats->payload_bytes = state_->population.payload_bytes;
  stats->index_bytes = table_.index_bytes();
  stats->buckets = table_.bucket_count();
  stats->splits = state_->table.splits;
  stats->merges = state_->table.merges;
}

Entries::Charges Entries::Verify() {
  SettleTouches();
  wheel_.Check();
  const Population& population = state_->population;
  Charges charges;
  uint64_t entries = 0;
  uint64_t live = 0;
  uint64_t payload = 0;
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
      if (!seen_dead) CHECK(population.newest_dead == ref);
      seen_dead = true;
    } else {
      CHECK(!seen_dead);
      live++;
    }
    CHECK(entry->version <= recorder_->newest_version());
    payload += KeyBytesOf(entry) + entry->value_bytes;
    charges.charged += memory_->ChargeOf(entry, ref);
    if (PinsOf(entry) != 0) charges.pinned += memory_->ChargeOf(entry, ref);
    if (IsTimed(entry)) expiring++;
    CHECK(table_.FindRef(HashOfEntry(ref), ref).bucket != nullptr);
    for (int slot = 0; slot < kCursorsPerShard && !seen_dead; slot++) {
      if ((WalkBitsOf(entry) ^ walks_.emitted_bits()) >> slot & 1) unemitted[slot]++;
    }
    if (entry->flags & kEntryChunked) VerifyChunks(ref);
  }
  CHECK(lru_.tail() == prev);
  CHECK(seen_dead || population.newest_dead == 0);
  CHECK(live == population.live_entries && entries - live == population.dead_entries);
  CHECK(payload == population.payload_bytes);
  CHECK(expiring == state_->wheel.entries);
  CHECK(entries == state_->table.entries);
  for (int slot = 0; slot < kCursorsPerShard; slot++) CHECK(unemitted[slot] == walks_.unemitted(slot));
  VerifyTable();
  return charges;
}

void Entries::VerifyChunks(Ref ref) const {
  const EntryHeader* entry = At(ref);
  uint64_t stream = 0;
  Ref before = ref;
  bool first = true;
  for (Ref chunk = LoadU32(BytesOf(entry) + OffsetsOf(entry).first_chunk); chunk != 0;
       chunk = memory_->ChunkAt(chunk)->next) {
    CHECK(KindOf(memory_->ChunkAt(chunk)->flags) == ChunkKind::kChunk && memory_->ChunkAt(chunk)->prev == before);
    CHECK((memory_->ChunkAt(chunk)->is_first != 0) == first);
    first = false;
    before = chunk;
    stream += memory_->ChunkAt(chunk)->data_bytes;
  }
  CHECK(stream + std::min(KeyBytesOf(entry), kKeyBytesInlineMax) == KeyBytesOf(entry) + entry->value_bytes);
}

void Entries::VerifyTable() {
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
