#include "store/entries.h"

#include <algorithm>
#include <cstring>

#include "store/entries_inl.h"

namespace cairn {

namespace {

// Counts a live entry that leaves, and tells the recorder of an absence that has no record.
[[gnu::always_inline]] inline void CountLeaving(const EntryHeader* entry, Reason reason, StoreStats* counters,
                                                Recorder* recorder) {
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
  if (ref == 0) return Nothing();
  const EntryHeader* entry = At(ref);
  if (IsStub(entry)) return FoundStub(ref, now);
  const bool expired = IsExpired(entry, now);
  if ((expired || IsDead(entry)) && debts_.Owes(entry)) return FoundStub(ref, now);
  if (IsDead(entry)) return Nothing();
  if (expired) return {ref, nothing_};
  if (IsNegative(entry)) return {ref, Presence::kAbsent};
  return {ref, stale_is == StaleIs::kAbsent && IsStale(entry, now) ? Presence::kStale : Presence::kLive};
}

Found Entries::FoundStub(Ref ref, const Now& now) const {
  const EntryHeader* entry = At(ref);
  // Of which the backend has everything: as if it had left already.
  if (IsStub(entry) && debts_.IsStored(entry)) return {ref, nothing_};
  const bool is_gone = (IsStub(entry) && KindOfStub(entry) == StubKind::kGone) || IsExpired(entry, now);
  return {ref, is_gone ? Presence::kAbsent : Presence::kStub};
}

Found Entries::MeetUnusual(Ref ref, Reason reason, uint64_t hash, const Now& now) {
  SettleTouches();
  if (!IsStub(At(ref))) ref = Leave(ref, reason, hash);
  if (ref == 0) return Nothing();
  const Found found = FoundStub(ref, now);
  if (found.presence == Presence::kAbsent) recorder_->NoteGone(At(ref)->version);
  return found;
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

Ref Entries::FloodVictim(uint64_t hash) {
  Ref victim = table_.FloodVictim(hash);
  const auto is_owed = [this](Ref ref) { return IsStub(At(ref)) || debts_.Owes(At(ref)); };
  for (int i = 1; i < kChainBucketsMax * kBucketSlots && victim != 0 && is_owed(victim); i++)
    victim = table_.FloodVictim(hash);
  return victim != 0 && is_owed(victim) ? 0 : victim;
}

inline bool Entries::InsertSlot(int slot, uint64_t hash) {
  while (!table_.Insert(hash, memory_->SlotAddress(slot))) {
    const Ref victim = FloodVictim(hash);
    if (victim == 0) return table_.InsertSetAside(hash, memory_->SlotAddress(slot));
    state_->counters.hash_flood_evictions++;
    Leave(victim, Reason::kEvicted);
  }
  return true;
}

bool Entries::CountBuckets(uint32_t bucket_index, uint64_t count, uint64_t* wanted) const {
  uint64_t owed = 0;
  uint64_t length = 0;
  for (const Bucket* bucket = table_.At(bucket_index); bucket != nullptr; bucket = table_.Next(bucket)) {
    length++;
    for (int i = 0; i < bucket->Count(); i++) {
      if (IsStub(At(bucket->refs[i])) || debts_.Owes(At(bucket->refs[i]))) owed++;
    }
  }
  const uint64_t buckets = (owed + count + kBucketSlots - 1) / kBucketSlots;
  *wanted += buckets - std::min(buckets, length);
  return buckets <= kChainBucketsMax;
}

bool Entries::Enter(int slot, uint64_t hash, uint8_t walk_bits) {
  if (!InsertSlot(slot, hash)) return false;
  const Ref ref = memory_->InSlot(slot);
  memory_->TakeFromSlot(slot);
  EntryHeader* entry = At(ref);
  entry->flags = WithKind(entry->flags, ChunkKind::kEntry);
  SetWalkBits(entry, walk_bits);
  walks_.Came(walk_bits);
  lru_.PushFront(ref);
  if (IsTimed(entry)) wheel_.Add(ref);
  if (IsNegative(entry)) [[unlikely]]
    debts_.CountNegative(1);
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
  bool is_fetched() const override { return (entry_->flags & kEntryFetched) != 0; }
  uint64_t expires_ms() const override { return ExpiresMsOf(entry_); }
  uint32_t accessed_s() const override {
    return (entry_->flags & kEntryHasAccess) != 0 ? LoadU32(BytesOf(entry_) + OffsetsOf(entry_).access) : 0;
  }

 private:
  const EntryMemory* memory_;
  const EntryHeader* entry_;
};

void Entries::AnnounceTo(RemovalSink* sink, Reason reason, const EntryHeader* entry) const {
  if (sink->wanted(reason) && !IsNegative(entry)) sink->OnRemoved(reason, RemovedView(memory_, entry));
  // Unlink() tells of no negative entry.
  if (reason == Reason::kEvicted && sink->is_tapped()) [[unlikely]]
    sink->TellTaps(RemovedView(memory_, entry));
}

template <bool kMayBeNegative>
inline void Entries::Unlink(Ref ref, Reason reason, Farewell farewell) {
  EntryHeader* entry = At(ref);
  Population* population = &state_->population;
  const bool dead = IsDead(entry);
  if (dead) {
    population->dead_entries--;
    if (population->newest_dead == ref) population->newest_dead = entry->lru_next;
  } else {
    population->live_entries--;
    if (kMayBeNegative && IsNegative(entry)) {
      debts_.CountNegative(-1);
    } else {
      CountLeaving(entry, reason, &state_->counters, recorder_);
      // The sink is told of the entries that a clear takes as a number (RemovalSink::OnCleared).
      if (farewell == Farewell::kTold && reason != Reason::kCleared) Announce(reason, entry);
    }
  }
  walks_.StepOver(ref);
  if (!dead) walks_.Went(WalkBitsOf(entry));
  lru_.Unlink(ref);
  if (IsTimed(entry)) wheel_.Remove(ref);
  population->payload_bytes -= KeyBytesOf(entry) + entry->value_bytes;
}

inline void Entries::Free(Ref ref) {
  EntryHeader* entry = At(ref);
  if (PinsOf(entry) != 0) {
    entry->flags = WithKind(entry->flags, ChunkKind::kUnlinked);
  } else {
    memory_->Free(ref);
  }
}

inline void Entries::Release(Ref ref, uint64_t hash) {
  const HashTable::Slot slot = table_.FindRef(hash, ref);
  CHECK(slot.bucket != nullptr);
  table_.Remove(hash, slot);
  Free(ref);
  table_.Adjust();
}

Ref Entries::Leave(Ref ref, Reason reason, uint64_t hash, Farewell farewell) {
  const EntryHeader* entry = At(ref);
  if ((entry->flags & (kEntryOwed | kEntryRetimed | kEntryStub | kEntryNegative)) == 0) [[likely]] {
    Unlink<false>(ref, reason, farewell);
    Release(ref, hash);
    return 0;
  }
  return LeaveOwing(ref, reason, hash, farewell);
}

Ref Entries::LeaveOwing(Ref ref, Reason reason, uint64_t hash, Farewell farewell) {
  const EntryHeader* entry = At(ref);
  if (IsStub(entry)) {
    debts_.Went(ref);
    Release(ref, hash);
    return 0;
  }
  if (reason != Reason::kReplaced && reason != Reason::kDeleted && debts_.Owes(entry)) {
    return LeaveStub(ref, hash, debts_.StubFor(entry, state_->recovering), reason, farewell);
  }
  Unlink<true>(ref, reason, farewell);
  Release(ref, hash);
  return 0;
}

Ref Entries::LeaveStub(Ref ref, uint64_t hash, const StubInfo& info, Reason reason, Farewell farewell) {
  Ref stub = ref;
  if (!memory_->IsStubSized(ref)) {
    const std::string_view key = memory_->KeyOf(At(ref));
    std::memcpy(stub_key_.get(), key.data(), key.size());
    const std::string_view kept_key(stub_key_.get(), key.size());
    const bool has_memory = AllocateStub(kept_key, info);
    // What has made room may have moved it.
    ref = Find(kept_key, hash);
    if (!has_memory && (PinsOf(At(ref)) != 0 || (At(ref)->flags & kEntryChunked))) return ref;
    stub = has_memory ? memory_->TakeFromSlot(0) : ref;
  }
  Unlink<true>(ref, reason, farewell);
  if (stub != ref) {
    const HashTable::Slot slot = table_.FindRef(hash, ref);
    CHECK(slot.bucket != nullptr);
    slot.bucket->refs[slot.index] = stub;
    At(stub)->flags = WithKind(At(stub)->flags, ChunkKind::kEntry);
    Free(ref);
  }
  At(stub)->value_bytes = kStubValueBytes;
  debts_.Write(At(stub), info);
  debts_.Came(stub);
  return stub;
}

bool Entries::AllocateStub(std::string_view key, const StubInfo& info) {
  const NewEntry from = Debts::StubEntryOf(key, info);
  if (!memory_->Allocate(from, memory_->LayoutOf(from), 0)) return false;
  memory_->WriteStream(At(memory_->InSlot(0)), 0, key.data(), key.size());
  return true;
}

Ref Entries::EnterStub(std::string_view key, uint64_t hash, const StubInfo& info) {
  if (!AllocateStub(key, info)) return 0;
  // What made room may have moved it, or made a stub of it.
  const Ref old = Find(key, hash);
  if (old != 0) Leave(old, info.kind == StubKind::kGone ? Reason::kDeleted : Reason::kReplaced, hash);
  const Ref stub = EnterSlotAsStub(hash, info);
  CHECK(stub != 0 || old == 0);
  if (stub == 0) memory_->Free(memory_->TakeFromSlot(0));
  return stub;
}

Ref Entries::EnterSlotAsStub(uint64_t hash, const StubInfo& info) {
  if (!InsertSlot(0, hash)) return 0;
  const Ref ref = memory_->TakeFromSlot(0);
  At(ref)->flags = WithKind(At(ref)->flags, ChunkKind::kEntry);
  debts_.Write(At(ref), info);
  debts_.Came(ref);
  recorder_->NoteStored(info.newest_version);
  table_.Adjust();
  return debts_.newest_stub();
}

bool Entries::RewriteStub(Ref stub, std::string_view key, const StubInfo& info) {
  const NewEntry from = Debts::StubEntryOf(key, info);
  const Layout layout = memory_->LayoutOf(from);
  if (((At(stub)->flags | layout.flags) & kEntryChunked) || memory_->arena()->ClassAt(stub) != layout.size_class)
    return false;
  EntryMemory::WriteFields(At(stub), from, layout, Now{});
  memory_->WriteStream(At(stub), 0, key.data(), key.size());
  debts_.Write(At(stub), info);
  recorder_->NoteStored(info.newest_version);
  return true;
}

Ref Entries::LeaveGone(Ref ref, std::string_view key, uint64_t hash, Reason reason) {
  if (ref == 0) return EnterStub(key, hash, {});
  if (IsStub(At(ref))) return ref;
  const Ref left = LeaveStub(ref, hash, {}, reason, Farewell::kTold);
  return Stayed(left) ? 0 : left;
}

bool Entries::LeaveForStub(Ref ref, uint64_t hash, Reason reason) {
  return !Stayed(LeaveStub(ref, hash, debts_.StubFor(At(ref), state_->recovering), reason, Farewell::kTold));
}

bool Entries::SettleStub(Ref stub, uint64_t hash, FillWatch* fills) {
  if (!debts_.IsStored(At(stub))) {
    if (debts_.ForgetStoredValue(At(stub))) fills->Void(hash);
    return false;
  }
  fills->Void(hash);
  Leave(stub, Reason::kReplaced, hash);
  return true;
}

void Entries::FreeStubs(FillWatch* fills, int* budget) {
  while (const Ref stub = debts_.NextStored(budget)) SettleStub(stub, HashOfEntry(stub), fills);
}

void Entries::Moved(Ref from, Ref to) {
  const EntryHeader* entry = At(to);
  const HashTable::Slot slot = table_.FindRef(HashOfEntry(to), from);
  CHECK(slot.bucket != nullptr);
  slot.bucket->refs[slot.index] = to;
  if (IsStub(entry)) return debts_.Moved(to);
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
  const uint64_t entries = live();
  population->newest_dead = lru_.head();
  population->dead_entries += population->live_entries;
  debts_.CountNegative(-static_cast<int>(debts_.negative_count()));
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
    if (!IsDead(entry) && !IsNegative(entry)) entries++;
    // No reader holds an entry yet, and the pages that are kept for them have room for a stub.
    CHECK(!Stayed(Leave(ref, Reason::kCleared)));
  }
  walks_.Close(slot, walks_.GenerationOf(slot));
  state_->population.cleared_version = version;
  return entries;
}

bool Entries::Reclaim() {
  int reclaimed = 0;
  while (state_->population.dead_entries > 0 && reclaimed < kStepEntriesMax) {
    CHECK(IsDead(At(lru_.tail())));
    if (Stayed(Leave(lru_.tail(), Reason::kCleared))) return false;
    reclaimed++;
  }
  return reclaimed == kStepEntriesMax;
}

bool Entries::ExpireOne(const Now& now, int* budget) {
  const Ref ref = wheel_.Advance(now.boot_ms, budget);
  if (ref == 0) return false;
  return !Stayed(Leave(ref, Reason::kExpired));
}

void Entries::SettleAll(FillWatch* fills) {
  fills->VoidAll();
  while (const Ref stub = debts_.newest_stub()) Leave(stub, Reason::kReplaced);
  for (Ref ref = lru_.tail(); ref != 0; ref = At(ref)->lru_prev)
    At(ref)->flags &= static_cast<uint16_t>(~(kEntryOwed | kEntryRetimed));
}

uint64_t Entries::Renumber(uint64_t counter) {
  while (Reclaim()) {
  }
  CHECK(state_->population.dead_entries == 0);
  for (Ref ref = lru_.tail(); ref != 0; ref = At(ref)->lru_prev) At(ref)->version = ++counter;
  for (Ref ref = debts_.newest_stub(); ref != 0; ref = At(ref)->lru_next) At(ref)->version = ++counter;
  state_->population.cleared_version = 0;
  return counter;
}

// ---- looking ----

void Entries::AddStats(StoreStats* stats) const {
  stats->hits = state_->touches.hits;
  stats->misses = state_->touches.misses;
  stats->gets = stats->hits + stats->misses;
  stats->entries = live();
  stats->stubs = debts_.stub_count();
  stats->stub_bytes = debts_.stub_bytes();
  stats->negative_entries = debts_.negative_count();
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
  uint64_t negative = 0;
  uint64_t unemitted[kCursorsPerShard] = {};
  Ref prev = 0;
  bool seen_dead = false;
  for (Ref ref = lru_.head(); ref != 0; ref = At(ref)->lru_next) {
    const EntryHeader* entry = At(ref);
    CHECK(KindOf(entry->flags) == ChunkKind::kEntry && entry->lru_prev == prev && !IsStub(entry));
    prev = ref;
    entries++;
    if (IsDead(entry)) {
      if (!seen_dead) CHECK(population.newest_dead == ref);
      seen_dead = true;
    } else {
      CHECK(!seen_dead);
      live++;
      if (IsNegative(entry)) negative++;
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
  CHECK(negative == debts_.negative_count());
  const uint64_t stub_bytes = VerifyStubs();
  charges.charged += stub_bytes;
  CHECK(entries + debts_.stub_count() == state_->table.entries);
  for (int slot = 0; slot < kCursorsPerShard; slot++) CHECK(unemitted[slot] == walks_.unemitted(slot));
  VerifyTable();
  return charges;
}

uint64_t Entries::VerifyStubs() {
  uint64_t bytes = 0;
  uint32_t count = 0;
  for (Ref ref = debts_.newest_stub(); ref != 0; ref = At(ref)->lru_next) {
    const EntryHeader* stub = At(ref);
    CHECK(IsStub(stub) && KindOf(stub->flags) == ChunkKind::kEntry && stub->value_bytes == kStubValueBytes);
    CHECK(PinsOf(stub) == 0 && stub->version != 0);
    CHECK(table_.FindRef(HashOfEntry(ref), ref).bucket != nullptr);
    bytes += memory_->ChargeOf(stub, ref);
    count++;
  }
  CHECK(count == debts_.stub_count() && bytes == debts_.stub_bytes());
  return bytes;
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
