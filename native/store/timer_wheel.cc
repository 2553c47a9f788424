#include "store/timer_wheel.h"

#include <algorithm>
#include <bit>

namespace cairn {

// The first entry of a slot has the slot's number + 1 in place of a predecessor. No Ref is that small: pages begin
// behind the shard's header.
static constexpr uint32_t kSlotMarkMax = kWheelLevels * kWheelSlots;

int TimerWheel::SlotFor(uint64_t expires_ms) const {
  const uint64_t tick = std::max(expires_ms >> kWheelTickShift, state_->tick);
  for (int level = 0; level < kWheelLevels; level++) {
    const int shift = 6 * level;
    if ((tick >> shift) - (state_->tick >> shift) < kWheelSlots) {
      return level * kWheelSlots + static_cast<int>((tick >> shift) & 63);
    }
  }
  // Beyond all levels: as far away as can be; filed again from there.
  const int shift = 6 * (kWheelLevels - 1);
  return (kWheelLevels - 1) * kWheelSlots + static_cast<int>(((state_->tick >> shift) + 63) & 63);
}

void TimerWheel::File(Ref ref, int slot) {
  ExpiryBlock* block = ExpiryOf(At(ref));
  block->wheel_prev = static_cast<uint32_t>(slot + 1);
  block->wheel_next = state_->slots[slot];
  if (block->wheel_next != 0) ExpiryOf(At(block->wheel_next))->wheel_prev = ref;
  state_->slots[slot] = ref;
  state_->occupied[slot / kWheelSlots] |= uint64_t{1} << (slot % kWheelSlots);
}

void TimerWheel::Add(Ref ref) {
  File(ref, SlotFor(ExpiryOf(At(ref))->expires_ms));
  state_->entries++;
}

void TimerWheel::Remove(Ref ref) {
  const ExpiryBlock* block = ExpiryOf(At(ref));
  if (block->wheel_next != 0) ExpiryOf(At(block->wheel_next))->wheel_prev = block->wheel_prev;
  if (block->wheel_prev <= kSlotMarkMax) {
    const uint32_t slot = block->wheel_prev - 1;
    state_->slots[slot] = block->wheel_next;
    if (block->wheel_next == 0) state_->occupied[slot / kWheelSlots] &= ~(uint64_t{1} << (slot % kWheelSlots));
  } else {
    ExpiryOf(At(block->wheel_prev))->wheel_next = block->wheel_next;
  }
  state_->entries--;
}

void TimerWheel::Moved(Ref to) {
  const ExpiryBlock* block = ExpiryOf(At(to));
  if (block->wheel_next != 0) ExpiryOf(At(block->wheel_next))->wheel_prev = to;
  if (block->wheel_prev <= kSlotMarkMax) {
    state_->slots[block->wheel_prev - 1] = to;
  } else {
    ExpiryOf(At(block->wheel_prev))->wheel_next = to;
  }
}

Ref TimerWheel::Advance(uint64_t now_ms, int* budget) {
  const uint64_t now_tick = now_ms >> kWheelTickShift;
  while (state_->tick < now_tick) {
    if (state_->entries == 0) {
      state_->tick = now_tick;
      return 0;
    }
    if (--*budget < 0) return 0;
    // The start of the next occupied slot of any level; the higher level first where two begin together.
    uint64_t next = ~uint64_t{0};
    int next_level = 0;
    for (int level = 0; level < kWheelLevels; level++) {
      if (state_->occupied[level] == 0) continue;
      const int shift = 6 * level;
      const uint64_t current = state_->tick >> shift;
      const int ahead = std::countr_zero(std::rotr(state_->occupied[level], static_cast<int>(current & 63)));
      const uint64_t start = std::max((current + static_cast<uint64_t>(ahead)) << shift, state_->tick);
      if (start <= next) {
        next = start;
        next_level = level;
      }
    }
    if (next >= now_tick) {
      // Nothing begins before now. Level 0 slots of the current tick wait until it is over.
      state_->tick = now_tick;
      return 0;
    }
    state_->tick = next;
    const int slot = next_level * kWheelSlots + static_cast<int>((next >> (6 * next_level)) & 63);
    const Ref ref = state_->slots[slot];
    if (next_level == 0) return ref;
    Remove(ref);
    Add(ref);
  }
  return 0;
}

void TimerWheel::Check() const {
  uint64_t entries = 0;
  for (int slot = 0; slot < kWheelLevels * kWheelSlots; slot++) {
    const int level = slot / kWheelSlots;
    CHECK((state_->slots[slot] != 0) == ((state_->occupied[level] >> (slot % kWheelSlots)) & 1));
    uint32_t prev = static_cast<uint32_t>(slot + 1);
    for (Ref ref = state_->slots[slot]; ref != 0; ref = ExpiryOf(At(ref))->wheel_next) {
      const EntryHeader* entry = At(ref);
      CHECK(IsTimed(entry) && KindOf(entry->flags) == ChunkKind::kEntry);
      const ExpiryBlock* block = ExpiryOf(entry);
      CHECK(block->wheel_prev == prev);
      prev = ref;
      entries++;
      const int shift = 6 * level;
      const uint64_t tick = block->expires_ms >> kWheelTickShift;
      // When the wheel passes the slot's span, the entry must have expired or be filed again: so the slot begins no
      // later than the entry's tick, unless that had passed when it was filed.
      const uint64_t current = state_->tick >> shift;
      const uint64_t start = (current + ((static_cast<uint64_t>(slot) - current) & 63)) << shift;
      CHECK(tick < state_->tick || start <= std::max(tick, state_->tick));
      if (level > 0 && level < kWheelLevels - 1) CHECK((tick >> shift) - (start >> shift) == 0 || tick < state_->tick);
    }
  }
  CHECK(entries == state_->entries);
}

}  // namespace cairn
