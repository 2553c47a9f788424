// Key -> entry: linear hashing (W. Litwin, "Linear Hashing: A New Tool for File and Table Addressing", VLDB 1980) over
// buckets of one cache line.
//
//   Bucket, 64 bytes:  tag[12] u8 (0 = empty) | next u32 (overflow bucket, Ref) | ref[12] u32
//
// The bucket number is the low half of the hash, the tag its top byte (0 counts as 1). For every 9.6 entries added, one
// bucket is split in two; for every 8.4 removed, two are merged. So the table is never copied, and no operation takes
// longer in a large table. Chains are compact: only the last bucket of a chain has empty slots, and an overflow bucket
// is never empty.
//
// Thread safety: none; the shard's lock guards it. Primary buckets are in table pages of the arena, overflow buckets in
// chunks of their own class, which may move (MovedOverflowBucket).
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>

#if defined(__SSE2__)
#include <emmintrin.h>
#endif

#include "base/limits.h"
#include "base/thread_annotations.h"
#include "store/arena.h"

namespace cairn {

inline constexpr int kBucketSlots = 12;

struct alignas(64) Bucket {
  uint8_t tags[kBucketSlots];
  uint32_t next;
  uint32_t refs[kBucketSlots];

  // A bit for each slot with this tag.
  uint32_t Match(uint8_t tag) const {
#if defined(__SSE2__)
    const __m128i line = _mm_load_si128(reinterpret_cast<const __m128i*>(tags));
    return static_cast<uint32_t>(_mm_movemask_epi8(_mm_cmpeq_epi8(line, _mm_set1_epi8(static_cast<char>(tag))))) &
           0xfff;
#else
    uint32_t bits = 0;
    for (int i = 0; i < kBucketSlots; i++) bits |= static_cast<uint32_t>(tags[i] == tag) << i;
    return bits;
#endif
  }
  int Count() const {
    int count = 0;
    while (count < kBucketSlots && tags[count] != 0) count++;
    return count;
  }
};
static_assert(sizeof(Bucket) == 64 && offsetof(Bucket, next) == 12 && offsetof(Bucket, refs) == kBucketFirstRefOffset);

// The table's state in the mapping.
struct TableState {
  uint32_t level;  // buckets = 2^level + split
  uint32_t split;
  uint32_t entries;  // slots in use
  uint32_t table_pages;
  uint32_t overflow_buckets;
  uint32_t flood_turn;
  uint64_t splits, merges;
};

// Recomputes the hash of an entry from its key.
class EntryHasher {
 public:
  virtual uint64_t HashOfEntry(Ref ref) = 0;

 protected:
  ~EntryHasher() = default;
};

class HashTable {
 public:
  struct Slot {
    Bucket* bucket = nullptr;
    int index = 0;
  };

  // `directory`: page + 1 of each table page, room for every page of the arena.
  HashTable(Arena* arena, TableState* state, uint32_t* directory, EntryHasher* hasher);

  // Makes the first page of buckets. False: no page.
  [[nodiscard]] bool Init();

  static uint8_t TagOf(uint64_t hash) {
    const uint8_t tag = static_cast<uint8_t>(hash >> 56);
    return tag == 0 ? 1 : tag;
  }
  Bucket* BucketOf(uint64_t hash) const { return At(IndexOf(hash)); }
  // As BucketOf, while another thread may change the table: an address for a prefetch only.
  NO_SANITIZE_THREAD const void* HintOf(uint64_t hash) const {
    const uint32_t low = static_cast<uint32_t>(hash);
    const uint32_t level = state_->level & 31;
    uint32_t index = low & ((uint32_t{2} << level) - 1);
    if (index >= (uint32_t{1} << level) + state_->split) index &= (uint32_t{1} << level) - 1;
    const uint32_t page = directory_[index >> buckets_per_page_shift_];
    return arena_->PageAddress(page) + (index & buckets_per_page_mask_) * sizeof(Bucket);
  }
  Bucket* Next(const Bucket* bucket) const {
    return bucket->next == 0 ? nullptr : reinterpret_cast<Bucket*>(arena_->At(bucket->next));
  }

  // The slot whose entry `matches(ref)`; bucket is null if there is none.
  template <class Matches>
  Slot Find(uint64_t hash, Matches matches) const {
    const uint8_t tag = TagOf(hash);
    for (Bucket* bucket = BucketOf(hash); bucket != nullptr; bucket = Next(bucket)) {
      for (uint32_t bits = bucket->Match(tag); bits != 0; bits &= bits - 1) {
        const int index = __builtin_ctz(bits);
        if (matches(bucket->refs[index])) return {bucket, index};
      }
    }
    return {};
  }
  Slot FindRef(uint64_t hash, Ref ref) const {
    return Find(hash, [ref](Ref candidate) { return candidate == ref; });
  }

  // True if Insert() for this hash needs no new bucket.
  bool HasRoom(uint64_t hash) const;
  // Appends the entry. If the chain is full, first adds an overflow bucket, which may move chunks; *ref_location is
  // read after that. False, and nothing changed, if the chain has kChainBucketsMax buckets or no memory is left: the
  // caller then makes room with FloodVictim().
  [[nodiscard]] bool Insert(uint64_t hash, const Ref* ref_location);
  // The entry of the chain to be replaced by a new one; the slots take turns.
  Ref FloodVictim(uint64_t hash);
  // Removes the slot; the last entry of the chain takes its place.
  void Remove(uint64_t hash, Slot slot);

  // One step of growing or shrinking, if due. May move chunks.
  void Adjust();

  // ---- places for entries that must enter later (an atomic batch) ----

  // Grows as `count` more entries will need it, as far as there is memory. May move chunks.
  void GrowFor(uint64_t count);
  // Sets `count` overflow buckets aside. False: no memory, and none is set aside. Until ReleaseBuckets() the table
  // neither grows nor shrinks, and buckets that chains release are set aside too. May move chunks.
  [[nodiscard]] bool SetBucketsAside(uint64_t count);
  // Insert() into a chain that is full, with a bucket that was set aside. False: there is none, or the chain has
  // kChainBucketsMax.
  [[nodiscard]] bool InsertSetAside(uint64_t hash, const Ref* ref_location);
  void ReleaseBuckets();

  // For the arena's mover: repoints the chain that leads to the bucket now at `to`.
  void MovedOverflowBucket(Ref from, Ref to);

  uint32_t bucket_count() const { return (uint32_t{1} << state_->level) + state_->split; }
  uint64_t index_bytes() const {
    return uint64_t{state_->table_pages} * arena_->classes().page_bytes() + uint64_t{state_->overflow_buckets} * 64;
  }
  const TableState& state() const { return *state_; }
  Bucket* At(uint32_t index) const {
    return reinterpret_cast<Bucket*>(arena_->PageAddress(directory_[index >> buckets_per_page_shift_])) +
           (index & buckets_per_page_mask_);
  }
  uint32_t IndexOf(uint64_t hash) const {
    const uint32_t low = static_cast<uint32_t>(hash);
    const uint32_t index = low & ((uint32_t{2} << state_->level) - 1);
    return index < bucket_count() ? index : low & ((uint32_t{1} << state_->level) - 1);
  }

  // ---- the order of the table: see key_list.h ----

  // The bits of the hash in reverse.
  static uint64_t OrderOf(uint64_t hash) {
    hash = (hash >> 1 & 0x5555555555555555) | (hash & 0x5555555555555555) << 1;
    hash = (hash >> 2 & 0x3333333333333333) | (hash & 0x3333333333333333) << 2;
    hash = (hash >> 4 & 0x0f0f0f0f0f0f0f0f) | (hash & 0x0f0f0f0f0f0f0f0f) << 4;
    return __builtin_bswap64(hash);
  }
  // The chain in whose range `offset` is, and the last of that range.
  const Bucket* ChainAt(uint64_t offset, uint64_t* last) const {
    const uint32_t index = IndexOf(OrderOf(offset));
    // The bits of a hash that lead to this chain: of a chain that was split, one more.
    const uint32_t level_bit = uint32_t{1} << state_->level;
    const bool was_split = (index & (level_bit - 1)) < state_->split;
    *last = offset | ~uint64_t{0} >> (state_->level + (was_split ? 1 : 0));
    return At(index);
  }

 private:
  void SplitOne();
  void MergeOne();
  void FreeOverflow(Bucket* bucket);
  // Puts an empty overflow bucket at the end of the chain.
  Bucket* AddBucket(uint64_t hash, Ref added);
  void SetAside(Bucket* bucket);
  // Moves all entries of a chain to arrays and leaves its buckets empty and linked. Returns the number of entries.
  int Drain(Bucket* first, uint8_t* tags, Ref* refs, Bucket** buckets, int* bucket_count);

  Arena* arena_;
  TableState* state_;
  uint32_t* directory_;
  EntryHasher* hasher_;
  int buckets_per_page_shift_;
  uint32_t buckets_per_page_mask_;
  bool sets_aside_ = false;  // since SetBucketsAside()
  Ref set_aside_ = 0;        // the first of them; each has the next one
};

}  // namespace cairn
