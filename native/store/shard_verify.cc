// The invariants of shard.h, walked and checked.
#include "store/shard.h"

#include <algorithm>

#include "store/shard_inl.h"

namespace cairn {

void Shard::Verify() {
  SettleTouches();
  memory_.arena()->CheckPages();
  wheel_.Check();
  uint64_t entries = 0;
  uint64_t live = 0;
  uint64_t payload = 0;
  uint64_t charged = 0;
  uint64_t pinned = 0;
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
      if (!seen_dead) CHECK(state_->population.newest_dead == ref);
      seen_dead = true;
    } else {
      CHECK(!seen_dead);
      live++;
    }
    CHECK(entry->version <= recorder_.newest_version());
    payload += KeyBytesOf(entry) + entry->value_bytes;
    charged += memory_.ChargeOf(entry, ref);
    if (PinsOf(entry) != 0) pinned += memory_.ChargeOf(entry, ref);
    if (IsTimed(entry)) expiring++;
    CHECK(table_.FindRef(HashOfEntry(ref), ref).bucket != nullptr);
    for (int slot = 0; slot < kCursorsPerShard && !seen_dead; slot++) {
      if ((WalkBitsOf(entry) ^ walks_.emitted_bits()) >> slot & 1) unemitted[slot]++;
    }
    uint64_t stream = 0;
    if (entry->flags & kEntryChunked) {
      Ref before = ref;
      bool first = true;
      for (Ref chunk = LoadU32(BytesOf(entry) + OffsetsOf(entry).first_chunk); chunk != 0;
           chunk = memory_.ChunkAt(chunk)->next) {
        CHECK(KindOf(memory_.ChunkAt(chunk)->flags) == ChunkKind::kChunk && memory_.ChunkAt(chunk)->prev == before);
        CHECK((memory_.ChunkAt(chunk)->is_first != 0) == first);
        first = false;
        before = chunk;
        stream += memory_.ChunkAt(chunk)->data_bytes;
      }
      CHECK(stream + std::min(KeyBytesOf(entry), kKeyBytesInlineMax) == KeyBytesOf(entry) + entry->value_bytes);
    }
  }
  CHECK(lru_.tail() == prev);
  CHECK(seen_dead || state_->population.newest_dead == 0);
  CHECK(live == state_->population.live_entries && entries - live == state_->population.dead_entries);
  CHECK(payload == state_->population.payload_bytes);
  CHECK(expiring == state_->wheel.entries);
  CHECK(entries == state_->table.entries);
  for (int slot = 0; slot < kCursorsPerShard; slot++) CHECK(unemitted[slot] == walks_.unemitted(slot));
  uint64_t bodies = 0;
  for (int slot = 0; slot < kEntrySlots; slot++) {
    const Ref ref = memory_.InSlot(slot);
    if (ref == 0) continue;
    CHECK(slot != 0);
    CHECK(KindOf(At(ref)->flags) == ChunkKind::kUnlinked && At(ref)->lru_prev == static_cast<uint32_t>(slot));
    bodies += memory_.ChargeOf(At(ref), ref);
  }
  CHECK(bodies == memory_.state().slot_bytes);
  // What remains of the charge are entries that left while they were pinned.
  CHECK(charged + bodies + (memory_.state().pinned_bytes - pinned) == memory_.state().charged_bytes);
  CHECK(memory_.state().charged_bytes <= memory_.state().limit_bytes);
  CHECK(state_->entries_limit == 0 || entries <= state_->entries_limit);
  CHECK(state_->arena.pinned_pages <= (has_ring() ? kRingPinnedPagesMax : kPinnedPagesMax));
  if (has_ring()) {
    recorder_.ring()->Verify([this](const Pin& pin) {
      const EntryHeader* entry = At(pin.ref);
      CHECK(KindOf(entry->flags) == ChunkKind::kEntry || KindOf(entry->flags) == ChunkKind::kUnlinked);
      CHECK(PinsOf(entry) > 0 && entry->value_bytes > kRingInlineValueBytesMax);
    });
    CHECK(recorder_.ring()->pinned_bytes() <= memory_.state().pinned_bytes);
    CHECK(recorder_.gone_version() <= recorder_.last_version());
  }
  CHECK(state_->arena.pages_used <= state_->arena.pages_total ||
        state_->arena.pages_total > PagesFor(state_->memory_bytes) ||
        memory_.state().limit_bytes != state_->limit_target_bytes ||
        state_->arena.pages_used <= state_->arena.pages_ceiling);
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
