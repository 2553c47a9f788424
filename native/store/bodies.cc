#include "store/bodies.h"

#include "base/check.h"

namespace cairn {

int Bodies::FreeSlot(uint64_t charge) const {
  if (!Fits(charge, 0)) return 0;
  for (int slot = 1; slot < kEntrySlots; slot++) {
    if (memory_->InSlot(slot) == 0) return slot;
  }
  return 0;
}

int Bodies::AnySlot() const {
  int slot = kEntrySlots - 1;
  while (slot > 0 && memory_->InSlot(slot) != 0) slot--;
  return slot;
}

void Bodies::TakeStalled(uint64_t charge, const Now& now) {
  uint64_t bytes = 0;
  for (int slot = 1; slot < kEntrySlots; slot++) {
    if (IsStalled(slot, now)) bytes += memory_->ChargeOf(EntryOf(slot), memory_->InSlot(slot));
  }
  // Take bodies away only if that makes enough room.
  if (bytes == 0 || !Fits(charge, bytes)) return;
  while (FreeSlot(charge) == 0) {
    int oldest = 0;
    for (int slot = 1; slot < kEntrySlots; slot++) {
      if (!IsStalled(slot, now)) continue;
      if (oldest == 0 || state_->written_ms[slot] < state_->written_ms[oldest]) oldest = slot;
    }
    if (oldest == 0) return;
    Abandon(oldest);
  }
}

void Bodies::Write(int slot, size_t offset, std::string_view bytes, const Now& now) {
  EntryHeader* entry = EntryOf(slot);
  if (now.boot_ms != 0) state_->written_ms[slot] = now.boot_ms;
  CHECK(offset + bytes.size() <= entry->value_bytes);
  memory_->WriteStream(entry, KeyBytesOf(entry) + offset, bytes.data(), bytes.size());
}

size_t Bodies::BeginWrite(int slot, size_t offset, size_t bytes, std::span<char>* places, size_t count, Pin* pin) {
  CHECK(offset + bytes <= EntryOf(slot)->value_bytes);
  if (!memory_->PinInSlot(slot, pin)) return 0;
  return memory_->PinnedPlaces(*pin, offset, bytes, places, count);
}

void Bodies::EndWrite(int slot, const Now& now) {
  if (now.boot_ms != 0) state_->written_ms[slot] = now.boot_ms;
  memory_->UnpinInSlot(slot);
}

void Bodies::Abandon(int slot) {
  CHECK(slot > 0 && slot < kEntrySlots && memory_->InSlot(slot) != 0);
  memory_->RemoveSlotBytes(slot);
  state_->generations[slot]++;
  memory_->GiveUp(memory_->TakeFromSlot(slot));
}

}  // namespace cairn
