#include "store/hash_table.h"

#include <bit>

namespace cairn {

namespace {

// Set points in tenths of an entry per bucket; see native/store/hash_table.h. Between them lies the hysteresis.
constexpr uint64_t kSplitAboveTenths = 96;
constexpr uint64_t kMergeBelowTenths = 84;
constexpr int kChainEntriesMax = kChainBucketsMax * kBucketSlots;
// The first reference of a bucket that is set aside: it is in use (Arena::IsFreeSlot), and in no chain.
constexpr Ref kSetAside = ~Ref{0};

}  // namespace

HashTable::HashTable(Arena* arena, TableState* state, uint32_t* directory, EntryHasher* hasher)
    : arena_(arena),
      state_(state),
      directory_(directory),
      hasher_(hasher),
      buckets_per_page_shift_(std::countr_zero(arena->classes().page_bytes() / sizeof(Bucket))),
      buckets_per_page_mask_((uint32_t{1} << buckets_per_page_shift_) - 1) {}

bool HashTable::Init() {
  const uint32_t page = arena_->AllocateTablePage();
  if (page == 0) return false;
  directory_[0] = page;
  std::memset(arena_->PageAddress(page), 0, arena_->classes().page_bytes());
  state_->table_pages = 1;
  state_->level = static_cast<uint32_t>(buckets_per_page_shift_);
  state_->split = 0;
  return true;
}

bool HashTable::HasRoom(uint64_t hash) const {
  const Bucket* bucket = BucketOf(hash);
  while (bucket->next != 0) bucket = Next(bucket);
  return bucket->tags[kBucketSlots - 1] == 0;
}

bool HashTable::Insert(uint64_t hash, const Ref* ref_location) {
  Bucket* bucket = BucketOf(hash);
  int length = 1;
  while (bucket->next != 0) {
    bucket = Next(bucket);
    length++;
  }
  if (bucket->tags[kBucketSlots - 1] != 0) {
    if (length >= kChainBucketsMax) return false;
    const Ref added = arena_->Allocate(arena_->classes().overflow_class());
    if (added == 0) return false;
    // The allocation may have moved the chain's overflow buckets, and the entry itself.
    bucket = AddBucket(hash, added);
  }
  const int index = bucket->Count();
  bucket->tags[index] = TagOf(hash);
  bucket->refs[index] = *ref_location;
  state_->entries++;
  return true;
}

Bucket* HashTable::AddBucket(uint64_t hash, Ref added) {
  Bucket* last = BucketOf(hash);
  while (last->next != 0) last = Next(last);
  last->next = added;
  auto* bucket = reinterpret_cast<Bucket*>(arena_->At(added));
  std::memset(static_cast<void*>(bucket), 0, sizeof(Bucket));
  state_->overflow_buckets++;
  return bucket;
}

Ref HashTable::FloodVictim(uint64_t hash) {
  Ref refs[kChainEntriesMax];
  int count = 0;
  for (Bucket* bucket = BucketOf(hash); bucket != nullptr; bucket = Next(bucket)) {
    for (int i = 0; i < kBucketSlots && bucket->tags[i] != 0; i++) refs[count++] = bucket->refs[i];
  }
  return count == 0 ? 0 : refs[state_->flood_turn++ % static_cast<uint32_t>(count)];
}

void HashTable::Remove(uint64_t hash, Slot slot) {
  Bucket* before_last = nullptr;
  Bucket* last = BucketOf(hash);
  while (last->next != 0) {
    before_last = last;
    last = Next(last);
  }
  const int index = last->Count() - 1;
  DCHECK(index >= 0);
  slot.bucket->tags[slot.index] = last->tags[index];
  slot.bucket->refs[slot.index] = last->refs[index];
  last->tags[index] = 0;
  last->refs[index] = 0;
  if (index == 0 && before_last != nullptr) {
    before_last->next = 0;
    FreeOverflow(last);
  }
  state_->entries--;
}

void HashTable::FreeOverflow(Bucket* bucket) {
  state_->overflow_buckets--;
  if (sets_aside_) return SetAside(bucket);
  arena_->Free(arena_->RefOf(bucket));
}

void HashTable::GrowFor(uint64_t count) {
  const uint64_t tenths = (state_->entries + count) * 10;
  for (uint32_t before = 0; tenths > bucket_count() * kSplitAboveTenths && bucket_count() != before;) {
    before = bucket_count();
    SplitOne();
  }
}

void HashTable::SetAside(Bucket* bucket) {
  std::memset(static_cast<void*>(bucket), 0, sizeof(Bucket));
  bucket->refs[0] = kSetAside;
  bucket->next = set_aside_;
  set_aside_ = arena_->RefOf(bucket);
}

bool HashTable::SetBucketsAside(uint64_t count) {
  sets_aside_ = true;
  for (; count > 0; count--) {
    const Ref added = arena_->Allocate(arena_->classes().overflow_class());
    if (added == 0) {
      ReleaseBuckets();
      return false;
    }
    SetAside(reinterpret_cast<Bucket*>(arena_->At(added)));
  }
  return true;
}

bool HashTable::InsertSetAside(uint64_t hash, const Ref* ref_location) {
  int length = 1;
  for (const Bucket* bucket = BucketOf(hash); bucket->next != 0; bucket = Next(bucket)) length++;
  if (set_aside_ == 0 || length >= kChainBucketsMax) return false;
  const Ref added = set_aside_;
  set_aside_ = reinterpret_cast<const Bucket*>(arena_->At(added))->next;
  AddBucket(hash, added);
  return Insert(hash, ref_location);
}

void HashTable::ReleaseBuckets() {
  sets_aside_ = false;
  while (set_aside_ != 0) {
    const Ref ref = set_aside_;
    set_aside_ = reinterpret_cast<const Bucket*>(arena_->At(ref))->next;
    arena_->Free(ref);
  }
}

void HashTable::Adjust() {
  const uint64_t tenths = uint64_t{state_->entries} * 10;
  const uint64_t buckets = bucket_count();
  if (tenths > buckets * kSplitAboveTenths) {
    SplitOne();
  } else if (tenths < buckets * kMergeBelowTenths && buckets > buckets_per_page_mask_ + 1) {
    MergeOne();
  }
}

int HashTable::Drain(Bucket* first, uint8_t* tags, Ref* refs, Bucket** buckets, int* bucket_count) {
  int count = 0;
  int chain = 0;
  for (Bucket* bucket = first; bucket != nullptr; bucket = Next(bucket)) {
    buckets[chain++] = bucket;
    for (int i = 0; i < kBucketSlots && bucket->tags[i] != 0; i++) {
      tags[count] = bucket->tags[i];
      refs[count++] = bucket->refs[i];
    }
  }
  *bucket_count = chain;
  return count;
}

namespace {

// Fills a chain from arrays, taking its overflow buckets from `spare`.
struct ChainFiller {
  Arena* arena;
  Bucket* bucket;
  int index = 0;

  void Add(uint8_t tag, Ref ref, Bucket** spare, int* spare_count) {
    if (index == kBucketSlots) {
      CHECK(*spare_count > 0);
      Bucket* next = spare[--*spare_count];
      std::memset(static_cast<void*>(next), 0, sizeof(Bucket));
      bucket->next = arena->RefOf(next);
      bucket = next;
      index = 0;
    }
    bucket->tags[index] = tag;
    bucket->refs[index] = ref;
    index++;
  }
};

}  // namespace

void HashTable::SplitOne() {
  if (sets_aside_) return;
  const uint32_t added = bucket_count();
  const uint32_t page_slot = added >> buckets_per_page_shift_;
  if (page_slot >= state_->table_pages) {
    const uint32_t page = arena_->AllocateTablePage();
    if (page == 0) return;  // chains grow a little longer instead; the next insert tries again
    directory_[page_slot] = page;
    std::memset(arena_->PageAddress(page), 0, arena_->classes().page_bytes());
    state_->table_pages++;
  }
  Bucket* low = At(state_->split);
  Bucket* high = At(added);
  uint8_t tags[kChainEntriesMax];
  Ref refs[kChainEntriesMax];
  Bucket* buckets[kChainBucketsMax];
  int chain = 0;
  const int count = Drain(low, tags, refs, buckets, &chain);
  for (int i = 0; i < count; i++) __builtin_prefetch(arena_->At(refs[i]));
  const uint32_t level_bit = uint32_t{1} << state_->level;
  state_->split++;
  if (state_->split == level_bit) {
    state_->level++;
    state_->split = 0;
  }
  state_->splits++;
  std::memset(static_cast<void*>(low), 0, sizeof(Bucket));
  std::memset(static_cast<void*>(high), 0, sizeof(Bucket));
  // Two chains need no more overflow buckets together than the one that they come from.
  Bucket* spare[kChainBucketsMax];
  int spare_count = 0;
  for (int i = chain - 1; i >= 1; i--) spare[spare_count++] = buckets[i];
  ChainFiller fill_low{arena_, low};
  ChainFiller fill_high{arena_, high};
  for (int i = 0; i < count; i++) {
    const bool to_high = (hasher_->HashOfEntry(refs[i]) & level_bit) != 0;
    (to_high ? fill_high : fill_low).Add(tags[i], refs[i], spare, &spare_count);
  }
  while (spare_count > 0) FreeOverflow(spare[--spare_count]);
}

void HashTable::MergeOne() {
  if (sets_aside_) return;
  const uint32_t removed = bucket_count() - 1;
  uint32_t level = state_->level;
  uint32_t split = state_->split;
  if (split == 0) {
    level--;
    split = uint32_t{1} << level;
  }
  split--;
  uint8_t tags[2 * kChainEntriesMax];
  Ref refs[2 * kChainEntriesMax];
  Bucket* buckets[2 * kChainBucketsMax];
  auto length_of = [this](Bucket* bucket, int* entries) {
    int length = 0;
    for (; bucket != nullptr; bucket = Next(bucket)) {
      length++;
      *entries += bucket->Count();
    }
    return length;
  };
  int entries = 0;
  int overflow = length_of(At(split), &entries) - 1;
  overflow += length_of(At(removed), &entries) - 1;
  const int needed = entries == 0 ? 0 : (entries + kBucketSlots - 1) / kBucketSlots - 1;
  if (needed + 1 > kChainBucketsMax) return;
  Ref extra = 0;
  if (needed > overflow) {
    extra = arena_->Allocate(arena_->classes().overflow_class());
    if (extra == 0) return;
    state_->overflow_buckets++;
  }
  Bucket* low = At(split);
  Bucket* high = At(removed);
  int chain_low = 0;
  int chain_high = 0;
  int count = Drain(low, tags, refs, buckets, &chain_low);
  Bucket* buckets_high[kChainBucketsMax];
  count += Drain(high, tags + count, refs + count, buckets_high, &chain_high);
  Bucket* spare[2 * kChainBucketsMax];
  int spare_count = 0;
  if (extra != 0) spare[spare_count++] = reinterpret_cast<Bucket*>(arena_->At(extra));
  for (int i = chain_high - 1; i >= 1; i--) spare[spare_count++] = buckets_high[i];
  for (int i = chain_low - 1; i >= 1; i--) spare[spare_count++] = buckets[i];
  std::memset(static_cast<void*>(low), 0, sizeof(Bucket));
  ChainFiller fill{arena_, low};
  for (int i = 0; i < count; i++) fill.Add(tags[i], refs[i], spare, &spare_count);
  while (spare_count > 0) FreeOverflow(spare[--spare_count]);
  state_->level = level;
  state_->split = split;
  state_->merges++;
  const uint32_t page_slot = removed >> buckets_per_page_shift_;
  if ((removed & buckets_per_page_mask_) == 0) {
    arena_->FreeTablePage(directory_[page_slot]);
    directory_[page_slot] = 0;
    state_->table_pages--;
  }
}

void HashTable::MovedOverflowBucket(Ref from, Ref to) {
  const auto* moved = reinterpret_cast<const Bucket*>(arena_->At(to));
  if (moved->refs[0] == kSetAside) {
    Ref* link = &set_aside_;
    while (*link != from) {
      CHECK(*link != 0);
      link = &reinterpret_cast<Bucket*>(arena_->At(*link))->next;
    }
    *link = to;
    return;
  }
  Bucket* bucket = BucketOf(hasher_->HashOfEntry(moved->refs[0]));
  while (bucket->next != from) {
    CHECK(bucket->next != 0);
    bucket = Next(bucket);
  }
  bucket->next = to;
}

}  // namespace cairn
