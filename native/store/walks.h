// The walks over a shard's entries, oldest first or newest first. Every entry that is there from the start of a walk to
// its end is emitted, however often it is hit meanwhile: a walk does not count on its position alone.
//
// An entry has a bit for each walk. A bit that equals the walk's parity says "not to be emitted"; starting a walk turns
// the parity over, so that every live entry has to be emitted, in O(1). A walk that reaches the end of the list goes
// round again until `unemitted` is 0: hits have moved entries behind it.
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
  uint32_t generation;  // raised when the slot is given to another walk
  Ref next;             // the entry to visit next; 0: at the end
  uint64_t unemitted;
  uint64_t last_step;  // of WalksState::steps
};

// In the mapping.
struct WalksState {
  uint8_t open;    // bit per slot: open, or closed half-way and not yet cleaned
  uint8_t parity;  // bit per slot
  uint64_t steps;
  WalkState slots[kCursorsPerShard];
};

// One step of a walk: what it may take, and what came of it.
struct WalkStep {
  Now now;
  StaleIs stale_is = StaleIs::kAbsent;
  bool with_values = false;
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

  // A slot for a walk: a free one, else one that was forgotten, else the one that has come least far.
  // *ready false: the slot must be cleaned first, by calling Clean() until it returns true.
  int Open(Cursor::Order order, bool* ready);
  bool Clean(int slot);
  // Begins the walk of a slot that is clean. Its generation, which IsCurrent() and Close() want to see again.
  uint32_t Start(int slot, Cursor::Order order);
  uint32_t GenerationOf(int slot) const { return state_->slots[slot].generation; }
  bool IsCurrent(int slot, uint32_t generation) const {
    return state_->slots[slot].open && state_->slots[slot].generation == generation;
  }
  // Visits at most kStepEntriesMax entries.
  void Step(int slot, WalkStep* step);
  void Close(int slot, uint32_t generation);
  // One step of going the rest of the way of walks that were closed half-way; true when there are none.
  bool CleanAbandoned();
  bool any_open() const { return state_->open != 0; }

  // ---- of the shard, as its entries come, move and go ----

  // The bits of an entry that no walk has to emit.
  uint8_t emitted_bits() const { return state_->parity; }
  // A live entry with these bits came, or went.
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
  // The entry is about to leave its place in the list: walks that would visit it next go on behind it.
  void StepOver(Ref ref) {
    if (state_->open != 0) [[unlikely]]
      StepOverNow(ref);
  }
  void Moved(Ref from, Ref to) {
    for (WalkState& walk : state_->slots) {
      if (walk.next == from) walk.next = to;
    }
  }
  // Every entry died: nothing is left to emit, and what the bits of the dead say is of no interest.
  void AllDied() {
    for (WalkState& walk : state_->slots) walk.unemitted = 0;
  }
  // The entry that a walk visits next, which survives that entries leave and move: for a shard that goes through its
  // entries and removes some.
  Ref NextOf(int slot) const { return state_->slots[slot].next; }
  void GoTo(int slot, Ref next) { state_->slots[slot].next = next; }
  uint64_t unemitted(int slot) const { return state_->slots[slot].unemitted; }

 private:
  void StepOverNow(Ref ref);
  // Where a walk begins: dead entries, which are the cold end, have no part in it.
  Ref BeginOf(bool oldest_first) const;
  void End(int slot);
  // False: no room for the entry, or as many were emitted as were asked for.
  bool Emit(const EntryHeader* entry, WalkStep* step) const;

  WalksState* state_;
  EntryMemory* memory_;
  const LruList* lru_;
  const Population* population_;
};

}  // namespace cairn
