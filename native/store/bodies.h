// Values being received: entries in slots of the shard's memory that no key leads to yet.
//
// Thread safety: none; the shard's lock guards it.
// Invariant: entries in slots from 1 on are charged half of the limit at most.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string_view>

#include "base/clock.h"
#include "base/limits.h"
#include "store/entry_memory.h"

namespace cairn {

// In the mapping. Slot 0 is the shard's own, for an insert in progress.
struct BodiesState {
  uint32_t generations[kEntrySlots];  // raised when the slot's body is abandoned or taken away
  // When the body was begun or last written to. 0: never stalled, or complete and waiting for the log.
  uint64_t written_ms[kEntrySlots];
};

class Bodies {
 public:
  Bodies(BodiesState* state, EntryMemory* memory) : state_(state), memory_(memory) {}

  // A free slot for a body of that charge; 0 if all slots are taken, or the bodies' charge would be too high.
  int FreeSlot(uint64_t charge) const;
  // If there is no slot: takes bodies away that have stalled longest, if that makes enough room.
  void TakeStalled(uint64_t charge, const Now& now);
  // The last free slot, without regard to charges; 0: none.
  int AnySlot() const;
  // The slot now has a body of that charge.
  void Began(int slot, uint64_t charge, uint64_t written_ms) {
    memory_->AddSlotBytes(charge);
    state_->written_ms[slot] = written_ms;
  }
  // REQUIRES: offset and bytes lie within the value, for Write() and BeginWrite().
  void Write(int slot, size_t offset, std::string_view bytes, const Now& now);
  // Keeps the body in place for the writer of its bytes without the lock: those from `offset` on are at up to `count`
  // places, of which the last may end before `bytes`. Returns the number of places; 0: too many pages have pins.
  size_t BeginWrite(int slot, size_t offset, size_t bytes, std::span<char>* places, size_t count, Pin* pin);
  void EndWrite(int slot, const Now& now);
  // The body is complete: from now on it cannot stall.
  void IsWhole(int slot) { state_->written_ms[slot] = 0; }
  uint32_t GenerationOf(int slot) const { return state_->generations[slot]; }
  EntryHeader* EntryOf(int slot) const { return memory_->At(memory_->InSlot(slot)); }
  // The body is about to be linked, and counts as an entry from now on.
  void Leaves(int slot) { memory_->RemoveSlotBytes(slot); }
  void Abandon(int slot);

 private:
  bool IsStalled(int slot, const Now& now) const {
    return memory_->InSlot(slot) != 0 && state_->written_ms[slot] != 0 &&
           state_->written_ms[slot] + kBodyStalledMs <= now.boot_ms;
  }
  bool Fits(uint64_t charge, uint64_t less) const {
    return memory_->state().slot_bytes - less + charge <= memory_->state().limit_bytes / 2;
  }

  BodiesState* state_;
  EntryMemory* memory_;
};

}  // namespace cairn
