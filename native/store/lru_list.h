// Entries by recency: an intrusive doubly linked list of Refs. The head is the newest. O(1) everywhere.
#pragma once

#include "store/arena.h"
#include "store/entry.h"

namespace cairn {

struct LruState {
  Ref head;
  Ref tail;
};

// Hits that a shard collects before it moves their entries to the front. A move writes two or three cache lines that
// the hit does not need; moved one by one, every hit would wait for them, because an unlock cannot pass a store that
// misses. So a hit only prefetches these lines, and they have arrived when its entry is moved. The order is still
// exact: all moves are done, in their order, before anything reads the order.
//
// Hits and misses are counted here, and the lock is in the same cache line (shard_state.h), so that a read writes no
// other: a line that two threads write moves between their processors.
inline constexpr uint32_t kTouchesMax = 9;

struct TouchState {
  uint64_t hits, misses;  // of get-type verbs
  uint32_t count;
  Ref refs[kTouchesMax];
};
static_assert(sizeof(TouchState) == 56);

class LruList {
 public:
  LruList(const Arena* arena, LruState* state) : arena_(arena), state_(state) {}

  Ref head() const { return state_->head; }
  const Ref* head_address() const { return &state_->head; }
  Ref tail() const { return state_->tail; }

  void PushFront(Ref ref) {
    EntryHeader* entry = At(ref);
    entry->lru_prev = 0;
    entry->lru_next = state_->head;
    if (state_->head != 0) {
      At(state_->head)->lru_prev = ref;
    } else {
      state_->tail = ref;
    }
    state_->head = ref;
  }

  void Unlink(Ref ref) {
    EntryHeader* entry = At(ref);
    if (entry->lru_prev != 0) {
      At(entry->lru_prev)->lru_next = entry->lru_next;
    } else {
      state_->head = entry->lru_next;
    }
    if (entry->lru_next != 0) {
      At(entry->lru_next)->lru_prev = entry->lru_prev;
    } else {
      state_->tail = entry->lru_prev;
    }
  }

  void MoveToFront(Ref ref) {
    if (state_->head == ref) return;
    Unlink(ref);
    PushFront(ref);
  }

  // An entry has moved to `to`: repoints its neighbours.
  void Moved(Ref to) {
    const EntryHeader* entry = At(to);
    (entry->lru_prev != 0 ? At(entry->lru_prev)->lru_next : state_->head) = to;
    (entry->lru_next != 0 ? At(entry->lru_next)->lru_prev : state_->tail) = to;
  }

 private:
  EntryHeader* At(Ref ref) const { return reinterpret_cast<EntryHeader*>(arena_->At(ref)); }

  const Arena* arena_;
  LruState* state_;
};

}  // namespace cairn
