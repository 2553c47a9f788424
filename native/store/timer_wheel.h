// Entries by expiry: a hierarchical timing wheel (G. Varghese and A. Lauck, "Hashed and Hierarchical Timing Wheels",
// SOSP 1987). Six levels of 64 slots; a tick is 128 ms, so a level spans 8 s, 9 min, 9 h, 24 days, 4 years, 278 years.
// Links are in the entries' expiry blocks, doubly linked, so Add and Remove are O(1). Every read decides by the exact
// expiry whether an entry has expired; the wheel only finds it soon after.
//
// Thread safety: none; the shard's lock guards it.
// Invariant: an entry is in the lowest level whose current turn contains its tick, in the slot of that tick. An entry
// that was added after its tick is in the slot of the tick that was current then.
#pragma once

#include <cstdint>

#include "store/arena.h"
#include "store/entry.h"

namespace cairn {

inline constexpr int kWheelTickShift = 7;
inline constexpr int kWheelLevels = 6;
inline constexpr int kWheelSlots = 64;

struct WheelState {
  uint64_t tick;  // all entries of earlier ticks have been found
  uint64_t occupied[kWheelLevels];
  Ref slots[kWheelLevels * kWheelSlots];
  uint64_t entries;
};

class TimerWheel {
 public:
  TimerWheel(const Arena* arena, WheelState* state) : arena_(arena), state_(state) {}

  // REQUIRES: the entry has an expiry block and is not in the wheel.
  void Add(Ref ref);
  void Remove(Ref ref);
  void Moved(Ref to);

  // Turns up to `now_ms`. Returns an expired entry, still in the wheel (the caller removes it), or 0: then the wheel is
  // at now, or *budget is used up. Each entry moved, slot passed or entry found costs 1.
  Ref Advance(uint64_t now_ms, int* budget);

  bool empty() const { return state_->entries == 0; }
  void Check() const;

 private:
  EntryHeader* At(Ref ref) const { return reinterpret_cast<EntryHeader*>(arena_->At(ref)); }
  int SlotFor(uint64_t expires_ms) const;
  void File(Ref ref, int slot);

  const Arena* arena_;
  WheelState* state_;
};

}  // namespace cairn
