// Shard: evictions that make room.
#include "store/shard.h"

#include <algorithm>

#include "store/shard_inl.h"

namespace cairn {

uint64_t Shard::ChargeOfNewest() const {
  const Ref head = lru_.head();
  return PinsOf(At(head)) == 0 ? memory_.ChargeOf(At(head), head) : 0;
}

bool Shard::RoomStep(const Layout& layout, RoomFor what) {
  const bool keep_newest = what == RoomFor::kNewest;
  // MakeRoom() will refuse it: nothing is evicted in vain.
  if (!memory_.FitsBesideKept(layout.charge, keep_newest ? ChargeOfNewest() : 0)) return false;
  for (int i = 0; i < kStepEntriesMax && memory_.IsOver(layout.charge); i++) {
    if ((keep_newest && lru_.tail() == lru_.head()) || !Evict()) return false;
  }
  if (memory_.IsOver(layout.charge)) return true;
  const uint64_t wholes = memory_.ChunksOf(layout.chunk_stream).wholes;
  for (int i = 0; i < kEvacuationsPerStep; i++) {
    const ArenaState& arena = state_->arena;
    if (arena.pages_used + wholes <= arena.pages_total || !memory_.arena()->EvacuateOne()) return false;
  }
  return true;
}

bool Shard::IsFull(uint64_t charge, RoomFor what) const {
  return memory_.IsOver(charge) || (what == RoomFor::kNewEntry && state_->entries_limit != 0 &&
                                    state_->population.entries() >= state_->entries_limit);
}

bool Shard::MakeRoom(uint64_t charge, RoomFor what) {
  const bool keep_newest = what == RoomFor::kNewest;
  if (!memory_.FitsBesideKept(charge, keep_newest ? ChargeOfNewest() : 0)) return false;
  while (IsFull(charge, what)) {
    if (keep_newest && lru_.tail() == lru_.head()) return false;
    if (!Evict()) return false;
  }
  return true;
}

bool Shard::Evict() {
  const Ref tail = lru_.tail();
  if (tail == 0) return false;
  Leave(tail, Reason::kEvicted);
  return true;
}

bool Shard::EvictForPage() {
  if (lru_.tail() == lru_.head()) return false;
  state_->counters.reserve_evictions++;
  return Evict();
}

}  // namespace cairn
