// What of Shard deals with bytes: streams in pieces, layouts, allocation, eviction for room.
#include "store/shard.h"

#include <algorithm>
#include <cstring>

#include "store/shard_inl.h"

namespace cairn {

Status Shard::Extend(Ref* ref, const NewEntry& from, std::string_view added, const Now& now) {
  const Layout layout = memory_.LayoutOf(from);
  if (layout.charge > memory_.state().limit_bytes) return Status::kTooLarge;
  Bump(*ref);
  const Extension extension = memory_.PlanExtension(layout, added.size());
  EntryMemory::TakenChunks taken;
  // The entry may move while memory is taken, but it stays the newest.
  if (!MakeRoom(memory_.ChargeOf(extension.wanted), false, true) ||
      !memory_.TakeChunks(extension, lru_.head_address(), &taken)) {
    return Status::kNoMemory;
  }
  const Ref head = lru_.head();
  EntryHeader* entry = At(head);
  Announce(Reason::kReplaced, entry);
  memory_.Splice(extension, head, taken, added);
  entry->value_bytes = static_cast<uint32_t>(from.value_bytes);
  entry->flags &= static_cast<uint16_t>(~kEntryCodecMask);
  entry->flags |= static_cast<uint16_t>(from.codec);
  StampAccess(entry, now);
  state_->payload_bytes += added.size();
  *ref = head;
  return Status::kStored;
}

uint64_t Shard::ChargeOfNewest() const {
  const Ref head = lru_.head();
  return PinsOf(At(head)) == 0 ? memory_.ChargeOf(At(head), head) : 0;
}

bool Shard::RoomStep(const Layout& layout, bool keep_newest) {
  // MakeRoom() will refuse it: nothing is evicted in vain.
  if (!memory_.FitsBesideKept(layout.charge, keep_newest ? ChargeOfNewest() : 0)) return false;
  for (int i = 0; i < kStepEntriesMax && memory_.IsOver(layout.charge); i++) {
    if ((keep_newest && lru_.tail() == lru_.head()) || !EvictTail()) return false;
  }
  if (memory_.IsOver(layout.charge)) return true;
  const uint64_t wholes = memory_.ChunksOf(layout.chunk_stream).wholes;
  for (int i = 0; i < kEvacuationsPerStep; i++) {
    const ArenaState& arena = state_->arena;
    if (arena.pages_used + wholes <= arena.pages_total || !memory_.arena()->EvacuateOne()) return false;
  }
  return true;
}

bool Shard::MakeRoom(uint64_t charge, bool new_entry, bool keep_newest) {
  if (!memory_.FitsBesideKept(charge, keep_newest ? ChargeOfNewest() : 0)) return false;
  auto full = [this, charge, new_entry] {
    return memory_.IsOver(charge) || (new_entry && state_->entries_limit != 0 &&
                                      state_->live_entries + state_->dead_entries >= state_->entries_limit);
  };
  while (full()) {
    if (keep_newest && lru_.tail() == lru_.head()) return false;
    if (!EvictTail()) return false;
  }
  return true;
}

bool Shard::EvictTail() {
  const Ref tail = lru_.tail();
  if (tail == 0) return false;
  RemoveEntry(tail, IsDead(At(tail)) ? Reason::kCleared : Reason::kEvicted);
  return true;
}

bool Shard::EvictForPage() {
  if (lru_.tail() == lru_.head()) return false;
  state_->counters.reserve_evictions++;
  return EvictTail();
}

}  // namespace cairn
