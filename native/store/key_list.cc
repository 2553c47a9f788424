#include "store/key_list.h"

#include <algorithm>

#include "store/entries.h"
#include "store/store_inl.h"

namespace cairn {

namespace {

struct Candidate {
  uint64_t offset;
  Ref ref;
};

}  // namespace

bool Entries::ListKeys(const Now& now, uint64_t* offset, KeyListStep* step) const {
  Candidate found[kChainBucketsMax * kBucketSlots];
  while (step->work < kListStepWork) {
    uint64_t last = 0;
    const Bucket* const first = table_.ChainAt(*offset, &last);
    size_t count = 0;
    for (const Bucket* bucket = first; bucket != nullptr; bucket = table_.Next(bucket)) {
      const int entries = bucket->Count();
      for (int i = 0; i < entries; i++) __builtin_prefetch(At(bucket->refs[i]));
      for (int i = 0; i < entries; i++) {
        const Ref ref = bucket->refs[i];
        step->work += kListEntryWork;
        if (IsStub(At(ref)) || IsDead(At(ref)) || !IsListed(At(ref), now, StaleIs::kAbsent)) continue;
        const std::string_view key = memory_->KeyOf(At(ref));
        if (key.substr(0, step->prefix.size()) != step->prefix) continue;
        const uint64_t at = HashTable::OrderOf(HashOf(key));
        if (at >= *offset) found[count++] = {at, ref};
      }
      step->work++;
    }
    std::sort(found, found + count, [](const Candidate& a, const Candidate& b) { return a.offset < b.offset; });
    for (size_t i = 0; i < count; i++) {
      if (EmitKey(found[i].ref, step)) continue;
      // A second key with all 64 bits of a hash would keep the list at its place: it is passed over.
      const bool is_second = i > 0 && found[i].offset == found[i - 1].offset;
      *offset = found[i].offset + (is_second ? 1 : 0);
      return false;
    }
    if (last == UINT64_MAX) return true;
    *offset = last + 1;
  }
  return false;
}

bool Entries::EmitKey(Ref ref, KeyListStep* step) const {
  const std::string_view key = memory_->KeyOf(At(ref));
  Scratch* to = &step->scratch;
  if (step->emitted == step->count || to->capacity - to->used < key.size()) return false;
  std::memcpy(to->data + to->used, key.data(), key.size());
  to->used += key.size();
  step->key_bytes[step->emitted++] = static_cast<uint32_t>(key.size());
  return true;
}

bool Store::ListKeys(const Now& now, KeyPlace* place, KeyListStep* step) {
  CheckClock(now);
  while (place->shard < shard_count_ && step->emitted < step->count && step->work < kListStepWork) {
    Shard* const shard = ShardAt(place->shard);
    const ShardGuard guard(shard);
    const Entries* const entries = shard->entries();
    if (entries->count() != 0 && !entries->ListKeys(now, &place->offset, step)) break;
    *place = {place->shard + 1, 0};
  }
  return place->shard >= shard_count_;
}

}  // namespace cairn
