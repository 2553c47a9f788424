// The memory of one shard: pages of equal size, each cut into chunks of one size class, or holding one large chunk.
//
// Thread safety: none; the shard's lock guards it.
// Invariants (CheckPages()):
//   (1) every page is exactly one of: never used, free, returned, of a class, whole, table;
//   (2) a page of a class that is not full is on exactly one list of its class: the one of its occupancy, or the one
//       of pinned pages;
//   (3) live + free chunks of a page = its capacity.
//
// Why an allocation within the shard's limit cannot fail: with pages of P bytes, a class charges P / capacity for a
// chunk, rounded up, so charged bytes / P is at least the number of full pages that the chunks would fill. The limit
// leaves one page for each class, and the pages for pins, which cannot be emptied. So when there is no free page, some
// class has at least a page's worth of free chunks, and one of its partial pages can be emptied into the others
// (Evacuate).
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>

#include "base/check.h"
#include "base/limits.h"
#include "store/entry.h"

namespace cairn {

// The size classes for one page size. 8-byte steps to 128, 16-byte steps to 256, then 8 classes per doubling up to an
// eighth of a page; above 1 KiB rounded down so that whole chunks fill a page.
class SizeClasses {
 public:
  static constexpr int kClassesMax = 88;

  explicit SizeClasses(uint64_t page_bytes);

  int count() const { return count_; }
  uint64_t page_bytes() const { return page_bytes_; }
  // The pseudo classes behind the ordinary ones: overflow buckets of the hash table, and whole pages.
  int overflow_class() const { return count_; }
  int whole_class() const { return count_ + 1; }
  size_t chunk_bytes_max() const { return sizes_[count_ - 1]; }
  // The smallest class that holds `bytes`. REQUIRES: bytes <= chunk_bytes_max().
  int ClassOf(size_t bytes) const { return class_of_[(bytes + 7) >> 3]; }
  uint32_t size(int size_class) const { return sizes_[size_class]; }
  uint32_t capacity(int size_class) const { return capacities_[size_class]; }
  // The charge of a chunk against the limit: its share of a page.
  uint32_t charge(int size_class) const { return charges_[size_class]; }

 private:
  uint64_t page_bytes_;
  int count_ = 0;
  uint32_t sizes_[kClassesMax + 2];
  uint32_t capacities_[kClassesMax + 2];
  uint32_t charges_[kClassesMax + 2];
  std::unique_ptr<uint8_t[]> class_of_;
};

// The smallest class. A free chunk is zero up to here, except its link.
inline constexpr size_t kChunkBytesMin = 32;
// The offset of the first reference in a hash bucket (hash_table.h asserts it).
inline constexpr size_t kBucketFirstRefOffset = 16;

enum class PageKind : uint8_t { kUnused = 0, kFree, kReturning, kReturned, kChunks, kWhole, kTable };

struct PageDesc {
  PageKind kind;
  uint8_t size_class;
  uint8_t list;  // its list + 1, 0 = on none
  uint8_t unused;
  uint16_t live;
  uint16_t carved;      // slots handed out at least once
  uint32_t free_slot;   // index + 1 of the first free chunk
  uint32_t pinned;      // pins in this page
  uint32_t prev, next;  // page index + 1
};
static_assert(sizeof(PageDesc) == 24);

inline constexpr int kOccupancyLists = 4;
// Pages with pins and room. They are filled first, so that values pinned one after another share pages.
inline constexpr int kPinnedList = kOccupancyLists;

// The arena's state in the mapping.
struct ArenaState {
  uint32_t pages_total;    // budget: used pages never exceed it, except while shrinking
  uint32_t pages_ceiling;  // of the address space
  uint32_t pages_used;
  uint32_t pages_touched;                  // pages [0, pages_touched) were used at least once, or closed
  uint32_t closed_from, closed_to;         // pages that must not be taken now; see CloseUnused(). Both 0: none
  uint32_t free_head, free_count;          // page index + 1; with memory
  uint32_t returned_head, returned_count;  // page index + 1; their memory was returned
  uint32_t returning_count;
  uint32_t pinned_pages;
  uint64_t relocations;
  struct ClassState {
    uint32_t lists[kOccupancyLists + 1];  // page index + 1
    uint32_t free_chunks;                 // in pages on the lists, without pinned ones
    uint32_t pages;
  } classes[SizeClasses::kClassesMax + 2];
};

// Told when a chunk moves. Called with the bytes already at `to`.
class ChunkMover {
 public:
  virtual void MovedChunk(Ref from, Ref to) = 0;
  virtual void MovedOverflowBucket(Ref from, Ref to) = 0;
  // A page was taken that had never been used.
  virtual void TookFreshPage() = 0;

 protected:
  ~ChunkMover() = default;
};

class Arena {
 public:
  // `base`: the shard's. `state`, `descs`: in the mapping, zeroed. Pages begin at base + pages_offset.
  Arena(char* base, ArenaState* state, PageDesc* descs, uint64_t pages_offset, const SizeClasses* classes,
        ChunkMover* mover);

  char* At(Ref ref) const { return base_ + uint64_t{ref} * kGranuleBytes; }
  Ref RefOf(const void* address) const {
    return static_cast<Ref>((static_cast<const char*>(address) - base_) / kGranuleBytes);
  }
  const SizeClasses& classes() const { return *classes_; }

  // A chunk of the class, whose kind is still kFree; 0 if there is no page. May move other chunks (see ChunkMover),
  // except those in pages with pins.
  Ref Allocate(int size_class);
  void Free(Ref ref);
  int ClassAt(Ref ref) const { return DescOf(ref)->size_class; }

  // A page for the table. Index of the page + 1, or 0.
  uint32_t AllocateTablePage();
  void FreeTablePage(uint32_t page_plus_1);
  char* PageAddress(uint32_t page_plus_1) const {
    return base_ + pages_offset_ + (uint64_t{page_plus_1 - 1} << page_shift_);
  }

  // Pins the page of a chunk; whole pages need no pin.
  bool IsPinned(Ref ref) const { return DescOf(ref)->pinned != 0; }
  bool IsWhole(Ref ref) const { return DescOf(ref)->kind == PageKind::kWhole; }
  void PinPage(Ref ref);
  void UnpinPage(Ref ref);

  // Empties one page, if possible without exceeding the budget; for shrinking.
  bool EvacuateOne();

  // Takes up to `count` free pages, whose memory the caller returns to the system without the lock before EndReturn.
  int BeginReturn(uint32_t* pages_plus_1, int count);
  void EndReturn(const uint32_t* pages_plus_1, int count);

  // Pages [from, to) have never been used, and are not used until OpenUnused(), so that their memory can be returned
  // without the lock. An allocation that needs a fresh page meanwhile takes the one behind them; they then count as
  // returned. REQUIRES: pages_touched <= from < to < pages_ceiling; none are closed.
  void CloseUnused(uint32_t from, uint32_t to);
  void OpenUnused();

  void CheckPages() const;

  const ArenaState& state() const { return *state_; }
  // Pages with memory: used, free, or being returned.
  uint32_t committed_pages() const { return state_->pages_used + state_->free_count + state_->returning_count; }

 private:
  PageDesc* DescOf(Ref ref) const { return &descs_[PageIndexOf(ref)]; }
  uint32_t PageIndexOf(Ref ref) const {
    return static_cast<uint32_t>((uint64_t{ref} * kGranuleBytes - pages_offset_) >> page_shift_);
  }
  char* SlotAddress(uint32_t page_index, uint32_t slot, int size_class) const {
    return base_ + pages_offset_ + (uint64_t{page_index} << page_shift_) + uint64_t{slot} * classes_->size(size_class);
  }
  uint32_t AllocatePage();  // index + 1, 0 if none
  uint32_t TakePage();
  uint32_t TakeFreshPage();
  void FreePage(uint32_t page_index);
  void ListPage(uint32_t page_index);
  void UnlistPage(uint32_t page_index);
  Ref TakeSlot(uint32_t page_index, int size_class);
  bool IsFreeSlot(const char* address, int size_class) const;

  char* base_;
  ArenaState* state_;
  PageDesc* descs_;
  uint64_t pages_offset_;
  int page_shift_;
  const SizeClasses* classes_;
  ChunkMover* mover_;
};

}  // namespace cairn
