// The walks over a shard's entries, oldest first or newest first. A walk emits every entry that exists from its start
// to its end, even if hits move the entry meanwhile, because it does not rely on its position alone.
//
// An entry has a bit for each walk. A bit equal to the walk's parity means "not to be emitted". Starting a walk flips
// the parity, so that every live entry is to be emitted, in O(1). A walk that reaches the end of the list starts over
// until `unemitted` is 0, because hits may have moved entries behind it.
//
// Thread safety: none; the shard's lock guards it.
// Invariant: `unemitted` of a walk is the number of live entries whose bit differs from its parity.
#pragma once

#include <cstddef>
#include <cstdint>

#include "base/clock.h"
#include "base/limits.h"
#include "store/cursor.h"
#include "store/entry_memory.h"
#include "store/lru_list.h"
#include "store/population.h"
#include "store/presence.h"

namespace cairn {

struct WalkState {
  bool open;
  uint8_t order;        // Cursor::Order
  uint32_t generation;  // raised when another walk gets the slot
  Ref next;             // the entry to visit next; 0: at the end
  uint64_t unemitted;
  uint64_t last_step;  // of WalksState::steps
};

// In the mapping.
struct WalksState {
  uint8_t open;    // a bit per slot: open, or closed before its end and not yet cleaned
  uint8_t parity;  // a bit per slot
  uint64_t steps;
  WalkState slots[kCursorsPerShard];
};

// One step of a walk: its limits and its results.
struct WalkStep {
  Now now;
  StaleIs stale_is = StaleIs::kAbsent;
  Emits emits = Emits::kKeys;
  WalkedEntry* entries = nullptr;
  size_t count = 0;  // 0: emits nothing, and counts what it visits as emitted
  Scratch* scratch = nullptr;
  size_t emitted = 0;
  bool done = false;
  size_t bytes_needed = 0;  // of the next entry, if scratch has no room for it
};

class Walks {
 public:
  Walks(WalksState* state, EntryMemory* memory, const LruList* lru, const Population* population)
      : state_(state), memory_(memory), lru_(lru), population_(population) {}

  // ---- of cursors. REQUIRES: touches are settled ----

  // A slot for a walk: a free one, otherwise one that was abandoned, otherwise the one that has progressed least. If
  // *ready is false, the slot must be cleaned first: call Clean() until it returns true.
  int Open(Cursor::Order order, bool* ready);
  bool Clean(int slot);
  // Begins the walk of a clean slot. Returns its generation, for IsCurrent() and Close().
  uint32_t Start(int slot, Cursor::Order order);
  uint32_t GenerationOf(int slot) const { return state_->slots[slot].generation; }
  bool IsCurrent(int slot, uint32_t generation) const {
    return state_->slots[slot].open && state_->slots[slot].generation == generation;
  }
  // Visits at most kStepEntriesMax entries.
  void Step(int slot, WalkStep* step);
  void Close(int slot, uint32_t generation);
  // One step of finishing walks that were closed before their end; true when there are none.
  bool CleanAbandoned();
  bool any_open() const { return state_->open != 0; }

  // ---- of the shard, as its entries come, move and go ----

  // The bits of an entry that no walk is to emit.
  uint8_t emitted_bits() const { return state_->parity; }
  // A live entry with these bits was added, or removed.
  void Came(uint8_t bits) {
    for (uint8_t open = bits ^ state_->parity; open != 0; open &= open - 1) {
      state_->slots[__builtin_ctz(open)].unemitted++;
    }
  }
  void Went(uint8_t bits) {
    for (uint8_t open = bits ^ state_->parity; open != 0; open &= open - 1) {
      state_->slots[__builtin_ctz(open)].unemitted--;
    }
  }
  // The entry is about to leave its place in the list: walks that would visit it next continue behind it.
  void StepOver(Ref ref) {
    if (state_->open != 0) [[unlikely]]
      StepOverNow(ref);
  }
  void Moved(Ref from, Ref to) {
    for (WalkState& walk : state_->slots) {
      if (walk.next == from) walk.next = to;
    }
  }
  // Every entry is dead now: nothing is left to emit, and the bits of dead entries do not matter.
  void AllDied() {
    for (WalkState& walk : state_->slots) walk.unemitted = 0;
  }
  // The entry that a walk visits next, which stays right while entries leave and move: for a shard that visits its
  // entries and removes some.
  Ref NextOf(int slot) const { return state_->slots[slot].next; }
  void GoTo(int slot, Ref next) { state_->slots[slot].next = next; }
  uint64_t unemitted(int slot) const { return state_->slots[slot].unemitted; }

 private:
  void StepOverNow(Ref ref);
  // The first entry of a walk, which skips dead entries, the cold end of the list.
  Ref BeginOf(bool oldest_first) const;
  void End(int slot);
  // False: no room for the entry, or `count` entries were emitted.
  bool Emit(const EntryHeader* entry, WalkStep* step) const;

  WalksState* state_;
  EntryMemory* memory_;
  const LruList* lru_;
  const Population* population_;
};

}  // namespace cairn
