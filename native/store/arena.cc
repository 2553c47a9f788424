#include "store/arena.h"

#include <bit>
#include <cstring>

namespace cairn {

SizeClasses::SizeClasses(uint64_t page_bytes) : page_bytes_(page_bytes) {
  const uint32_t chunk_max = static_cast<uint32_t>(page_bytes / 8);
  uint32_t last = 0;
  auto add = [&](uint32_t size) {
    if (size > 1024) size = static_cast<uint32_t>(page_bytes / (page_bytes / size)) & ~7u;
    if (size <= last) return;
    CHECK(count_ < kClassesMax);
    last = size;
    sizes_[count_] = size;
    capacities_[count_] = static_cast<uint32_t>(page_bytes / size);
    charges_[count_] = static_cast<uint32_t>((page_bytes + capacities_[count_] - 1) / capacities_[count_]);
    count_++;
  };
  for (uint32_t size = 32; size <= 128; size += 8) add(size);
  for (uint32_t size = 144; size <= 256; size += 16) add(size);
  for (uint32_t from = 256; from < chunk_max; from *= 2) {
    for (uint32_t i = 1; i <= 8; i++) add(from + from / 8 * i);
  }
  sizes_[overflow_class()] = 64;
  capacities_[overflow_class()] = static_cast<uint32_t>(page_bytes / 64);
  charges_[overflow_class()] = 64;
  sizes_[whole_class()] = static_cast<uint32_t>(page_bytes);
  capacities_[whole_class()] = 1;
  charges_[whole_class()] = static_cast<uint32_t>(page_bytes);
  class_of_ = std::make_unique<uint8_t[]>(chunk_bytes_max() / 8 + 1);
  int size_class = 0;
  for (size_t units = 0; units <= chunk_bytes_max() / 8; units++) {
    while (sizes_[size_class] < units * 8) size_class++;
    class_of_[units] = static_cast<uint8_t>(size_class);
  }
}

Arena::Arena(char* base, ArenaState* state, PageDesc* descs, uint64_t pages_offset, const SizeClasses* classes,
             ChunkMover* mover)
    : base_(base),
      state_(state),
      descs_(descs),
      pages_offset_(pages_offset),
      page_shift_(std::countr_zero(classes->page_bytes())),
      classes_(classes),
      mover_(mover) {}

// Which list a page of this occupancy is on. Fuller pages are filled first, emptier ones are emptied first.
static int ListOf(uint32_t live, uint32_t capacity) { return static_cast<int>(live * kOccupancyLists / capacity); }

void Arena::ListPage(uint32_t page_index) {
  PageDesc* desc = &descs_[page_index];
  ArenaState::ClassState* state = &state_->classes[desc->size_class];
  const uint32_t capacity = classes_->capacity(desc->size_class);
  DCHECK(desc->list == 0 && desc->live < capacity);
  const int list = desc->pinned != 0 ? kPinnedList : ListOf(desc->live, capacity);
  desc->list = static_cast<uint8_t>(list + 1);
  desc->prev = 0;
  desc->next = state->lists[list];
  if (desc->next != 0) descs_[desc->next - 1].prev = page_index + 1;
  state->lists[list] = page_index + 1;
  if (list != kPinnedList) state->free_chunks += capacity - desc->live;
}

void Arena::UnlistPage(uint32_t page_index) {
  PageDesc* desc = &descs_[page_index];
  ArenaState::ClassState* state = &state_->classes[desc->size_class];
  DCHECK(desc->list != 0);
  if (desc->prev != 0) {
    descs_[desc->prev - 1].next = desc->next;
  } else {
    state->lists[desc->list - 1] = desc->next;
  }
  if (desc->next != 0) descs_[desc->next - 1].prev = desc->prev;
  if (desc->list - 1 != kPinnedList) state->free_chunks -= classes_->capacity(desc->size_class) - desc->live;
  desc->list = 0;
}

uint32_t Arena::TakePage() {
  uint32_t page;
  if (state_->free_head != 0) {
    page = state_->free_head;
    state_->free_head = descs_[page - 1].next;
    state_->free_count--;
  } else if (state_->returned_head != 0) {
    page = state_->returned_head;
    state_->returned_head = descs_[page - 1].next;
    state_->returned_count--;
  } else if (state_->pages_touched < state_->pages_ceiling) {
    page = TakeFreshPage();
  } else {
    return 0;
  }
  descs_[page - 1] = PageDesc{};
  state_->pages_used++;
  return page;
}

uint32_t Arena::TakeFreshPage() {
  if (state_->pages_touched == state_->closed_from && state_->closed_to != 0) [[unlikely]] {
    for (uint32_t i = state_->closed_from; i < state_->closed_to; i++) {
      descs_[i] = PageDesc{};
      descs_[i].kind = PageKind::kReturning;
    }
    state_->returning_count += state_->closed_to - state_->closed_from;
    state_->pages_touched = state_->closed_to;
  }
  const uint32_t page = ++state_->pages_touched;
  mover_->TookFreshPage();
  return page;
}

uint32_t Arena::AllocatePage() {
  if (state_->pages_used >= state_->pages_total && !EvacuateOne()) return 0;
  return TakePage();
}

void Arena::FreePage(uint32_t page_index) {
  PageDesc* desc = &descs_[page_index];
  DCHECK(desc->list == 0 && desc->pinned == 0);
  *desc = PageDesc{};
  desc->kind = PageKind::kFree;
  desc->next = state_->free_head;
  state_->free_head = page_index + 1;
  state_->free_count++;
  state_->pages_used--;
}

Ref Arena::TakeSlot(uint32_t page_index, int size_class) {
  PageDesc* desc = &descs_[page_index];
  const uint32_t capacity = classes_->capacity(size_class);
  char* address;
  if (desc->free_slot != 0) {
    address = SlotAddress(page_index, desc->free_slot - 1, size_class);
    desc->free_slot = LoadU32(address);
  } else {
    DCHECK(desc->carved < capacity);
    address = SlotAddress(page_index, desc->carved, size_class);
    desc->carved++;
    std::memset(address, 0, kChunkBytesMin);
  }
  desc->live++;
  if (desc->list - 1 == kPinnedList) [[unlikely]] {
    if (desc->live == capacity) UnlistPage(page_index);
    return RefOf(address);
  }
  ArenaState::ClassState* state = &state_->classes[size_class];
  state->free_chunks--;
  if (desc->live == capacity || ListOf(desc->live, capacity) != desc->list - 1) {
    desc->live--;  // UnlistPage takes the page's free chunks off the count as they were
    state->free_chunks++;
    UnlistPage(page_index);
    desc->live++;
    if (desc->live < capacity) ListPage(page_index);
  }
  return RefOf(address);
}

Ref Arena::Allocate(int size_class) {
  if (size_class == classes_->whole_class()) {
    const uint32_t page = AllocatePage();
    if (page == 0) return 0;
    PageDesc* desc = &descs_[page - 1];
    desc->kind = PageKind::kWhole;
    desc->size_class = static_cast<uint8_t>(size_class);
    desc->live = 1;
    desc->carved = 1;
    state_->classes[size_class].pages++;
    char* address = PageAddress(page);
    std::memset(address, 0, sizeof(FreeChunk));
    return RefOf(address);
  }
  ArenaState::ClassState* state = &state_->classes[size_class];
  if (state->lists[kPinnedList] != 0) [[unlikely]]
    return TakeSlot(state->lists[kPinnedList] - 1, size_class);
  for (int list = kOccupancyLists - 1; list >= 0; list--) {
    if (state->lists[list] != 0) return TakeSlot(state->lists[list] - 1, size_class);
  }
  const uint32_t page = AllocatePage();
  if (page == 0) return 0;
  // Emptying a page of this very class may have left room in another one.
  PageDesc* desc = &descs_[page - 1];
  desc->kind = PageKind::kChunks;
  desc->size_class = static_cast<uint8_t>(size_class);
  state->pages++;
  ListPage(page - 1);
  return TakeSlot(page - 1, size_class);
}

void Arena::Free(Ref ref) {
  const uint32_t page_index = PageIndexOf(ref);
  PageDesc* desc = &descs_[page_index];
  const int size_class = desc->size_class;
  if (desc->kind == PageKind::kWhole) {
    state_->classes[size_class].pages--;
    desc->live = 0;
    FreePage(page_index);
    return;
  }
  DCHECK(desc->kind == PageKind::kChunks && desc->live > 0);
  const uint32_t capacity = classes_->capacity(size_class);
  char* address = At(ref);
  auto* chunk = reinterpret_cast<FreeChunk*>(address);
  const uint32_t slot = static_cast<uint32_t>((address - PageAddress(page_index + 1)) /
                                              static_cast<ptrdiff_t>(classes_->size(size_class)));
  std::memset(address, 0, kChunkBytesMin);
  chunk->next_slot = desc->free_slot;
  const bool listed = desc->list != 0;
  if (desc->live == 1 && desc->pinned == 0) {
    if (listed) UnlistPage(page_index);
    state_->classes[size_class].pages--;
    FreePage(page_index);
    return;
  }
  const int list_before = desc->list - 1;
  if (listed && desc->pinned != 0) {
    desc->live--;
  } else if (listed && ListOf(desc->live - 1u, capacity) == list_before) {
    desc->live--;
    state_->classes[size_class].free_chunks++;
  } else {
    if (listed) UnlistPage(page_index);
    desc->live--;
    ListPage(page_index);
  }
  desc->free_slot = slot + 1;
}

uint32_t Arena::AllocateTablePage() {
  const uint32_t page = AllocatePage();
  if (page != 0) descs_[page - 1].kind = PageKind::kTable;
  return page;
}

void Arena::FreeTablePage(uint32_t page_plus_1) {
  DCHECK(descs_[page_plus_1 - 1].kind == PageKind::kTable);
  FreePage(page_plus_1 - 1);
}

void Arena::PinPage(Ref ref) {
  const uint32_t page_index = PageIndexOf(ref);
  PageDesc* desc = &descs_[page_index];
  if (desc->kind == PageKind::kWhole) return;
  if (desc->pinned++ == 0) {
    state_->pinned_pages++;
    if (desc->list != 0) {
      UnlistPage(page_index);
      ListPage(page_index);
    }
  }
}

void Arena::UnpinPage(Ref ref) {
  const uint32_t page_index = PageIndexOf(ref);
  PageDesc* desc = &descs_[page_index];
  if (desc->kind == PageKind::kWhole) return;
  DCHECK(desc->pinned > 0);
  if (--desc->pinned == 0) {
    state_->pinned_pages--;
    if (desc->list != 0) UnlistPage(page_index);
    if (desc->live == 0) {
      state_->classes[desc->size_class].pages--;
      FreePage(page_index);
    } else if (desc->live < classes_->capacity(desc->size_class)) {
      ListPage(page_index);
    }
  }
}

bool Arena::IsFreeSlot(const char* address, int size_class) const {
  // An overflow bucket in use holds at least one reference, its first; any other chunk has its kind in the flags.
  if (size_class == classes_->overflow_class()) return LoadU32(address + kBucketFirstRefOffset) == 0;
  return KindOf(reinterpret_cast<const FreeChunk*>(address)->flags) == ChunkKind::kFree;
}

bool Arena::EvacuateOne() {
  // The partial page whose live chunks take the fewest bytes, of a class with a page's worth of free chunks.
  uint32_t best = 0;
  uint64_t best_bytes = ~uint64_t{0};
  for (int c = 0; c <= classes_->overflow_class(); c++) {
    const ArenaState::ClassState& state = state_->classes[c];
    if (state.free_chunks < classes_->capacity(c)) continue;
    for (int list = 0; list < kOccupancyLists; list++) {
      // The first few of the emptiest list: its pages differ by less than a quarter of a page.
      uint32_t page = state.lists[list];
      for (int i = 0; i < 4 && page != 0; i++, page = descs_[page - 1].next) {
        const uint64_t bytes = uint64_t{descs_[page - 1].live} * classes_->size(c);
        if (bytes < best_bytes) {
          best_bytes = bytes;
          best = page;
        }
      }
      if (state.lists[list] != 0) break;
    }
  }
  if (best == 0) return false;
  const uint32_t page_index = best - 1;
  PageDesc* desc = &descs_[page_index];
  const int size_class = desc->size_class;
  UnlistPage(page_index);
  const uint32_t size = classes_->size(size_class);
  for (uint32_t slot = 0; slot < desc->carved && desc->live > 0; slot++) {
    char* from = SlotAddress(page_index, slot, size_class);
    if (IsFreeSlot(from, size_class)) continue;
    int list = kOccupancyLists - 1;
    while (state_->classes[size_class].lists[list] == 0) {
      list--;
      CHECK(list >= 0);
    }
    const Ref to = TakeSlot(state_->classes[size_class].lists[list] - 1, size_class);
    std::memcpy(At(to), from, size);
    if (size_class == classes_->overflow_class()) {
      mover_->MovedOverflowBucket(RefOf(from), to);
    } else {
      mover_->MovedChunk(RefOf(from), to);
    }
    desc->live--;
    state_->relocations++;
  }
  DCHECK(desc->live == 0);
  state_->classes[size_class].pages--;
  FreePage(page_index);
  return true;
}

int Arena::BeginReturn(uint32_t* pages_plus_1, int count) {
  int taken = 0;
  while (taken < count && state_->free_head != 0) {
    const uint32_t page = state_->free_head;
    state_->free_head = descs_[page - 1].next;
    state_->free_count--;
    state_->returning_count++;
    descs_[page - 1].kind = PageKind::kReturning;
    descs_[page - 1].next = 0;
    pages_plus_1[taken++] = page;
  }
  return taken;
}

void Arena::EndReturn(const uint32_t* pages_plus_1, int count) {
  for (int i = 0; i < count; i++) {
    PageDesc* desc = &descs_[pages_plus_1[i] - 1];
    DCHECK(desc->kind == PageKind::kReturning);
    desc->kind = PageKind::kReturned;
    desc->next = state_->returned_head;
    state_->returned_head = pages_plus_1[i];
    state_->returned_count++;
    state_->returning_count--;
  }
}

void Arena::CloseUnused(uint32_t from, uint32_t to) {
  CHECK(state_->pages_touched <= from && from < to && to < state_->pages_ceiling && state_->closed_to == 0);
  state_->closed_from = from;
  state_->closed_to = to;
}

void Arena::OpenUnused() {
  const uint32_t from = state_->closed_from;
  const uint32_t to = state_->closed_to;
  state_->closed_from = state_->closed_to = 0;
  if (state_->pages_touched <= from) return;
  // They were passed over.
  for (uint32_t page = to; page > from; page--) EndReturn(&page, 1);
}

void Arena::CheckPages() const {
  uint32_t kinds[7] = {};
  uint32_t pinned_pages = 0;
  uint32_t free_chunks[SizeClasses::kClassesMax + 2] = {};
  uint32_t pages[SizeClasses::kClassesMax + 2] = {};
  for (uint32_t i = 0; i < state_->pages_touched; i++) {
    const PageDesc& desc = descs_[i];
    kinds[static_cast<int>(desc.kind)]++;
    if (desc.pinned != 0) pinned_pages++;
    if (desc.kind == PageKind::kWhole) pages[desc.size_class]++;
    if (desc.kind != PageKind::kChunks) continue;
    const int c = desc.size_class;
    const uint32_t capacity = classes_->capacity(c);
    pages[c]++;
    CHECK(desc.carved <= capacity && desc.live <= desc.carved);
    CHECK(desc.live > 0 || desc.pinned > 0);
    uint32_t live = 0;
    for (uint32_t slot = 0; slot < desc.carved; slot++) {
      if (!IsFreeSlot(SlotAddress(i, slot, c), c)) live++;
    }
    CHECK(live == desc.live);
    uint32_t free_slots = 0;
    for (uint32_t slot = desc.free_slot; slot != 0; slot = LoadU32(SlotAddress(i, slot - 1, c))) {
      CHECK(IsFreeSlot(SlotAddress(i, slot - 1, c), c));
      CHECK(++free_slots <= capacity);
    }
    CHECK(free_slots + live == desc.carved);
    CHECK((desc.live < capacity) == (desc.list != 0));
    if (desc.list != 0 && desc.pinned != 0) {
      CHECK(desc.list - 1 == kPinnedList);
    } else if (desc.list != 0) {
      CHECK(desc.list == ListOf(desc.live, capacity) + 1);
      free_chunks[c] += capacity - desc.live;
    }
  }
  CHECK(kinds[static_cast<int>(PageKind::kUnused)] == 0);
  CHECK(kinds[static_cast<int>(PageKind::kFree)] == state_->free_count);
  CHECK(kinds[static_cast<int>(PageKind::kReturned)] == state_->returned_count);
  CHECK(kinds[static_cast<int>(PageKind::kReturning)] == state_->returning_count);
  CHECK(kinds[4] + kinds[5] + kinds[6] == state_->pages_used);
  CHECK(pinned_pages == state_->pinned_pages);
  for (int c = 0; c <= classes_->whole_class(); c++) {
    CHECK(state_->classes[c].free_chunks == free_chunks[c]);
    CHECK(state_->classes[c].pages == pages[c]);
    uint32_t listed = 0;
    for (int list = 0; list <= kPinnedList; list++) {
      uint32_t prev = 0;
      for (uint32_t page = state_->classes[c].lists[list]; page != 0; page = descs_[page - 1].next) {
        CHECK(descs_[page - 1].prev == prev && descs_[page - 1].list == list + 1 && descs_[page - 1].size_class == c);
        prev = page;
        CHECK(++listed <= state_->pages_touched);
      }
    }
  }
}

}  // namespace cairn
