// Store: cursors over all shards.
#include "store/store_inl.h"

namespace cairn {

void Store::OpenCursor(Cursor::Order order, Cursor* cursor) {
  cursor->order = order;
  cursor->shards_done = 0;
  cursor->next_shard = 0;
  cursor->shards = std::make_unique<Cursor::PerShard[]>(shard_count_);
}

void Store::StartWalk(uint32_t index, Cursor::Order order, Cursor::PerShard* walk) {
  Shard* shard = ShardAt(index);
  for (;;) {
    bool ready;
    uint32_t generation;
    {
      const ShardGuard guard(shard);
      walk->slot = static_cast<int8_t>(shard->walks()->Open(order, &ready));
      generation = shard->walks()->GenerationOf(walk->slot);
      if (ready) {
        walk->generation = shard->walks()->Start(walk->slot, order);
        return;
      }
    }
    // An abandoned walk left marks behind: finish it, in steps, then start.
    for (;;) {
      const ShardGuard guard(shard);
      if (!shard->walks()->IsCurrent(walk->slot, generation)) break;
      if (shard->walks()->Clean(walk->slot)) {
        walk->generation = shard->walks()->Start(walk->slot, order);
        return;
      }
    }
  }
}

size_t Store::StepCursor(Cursor* cursor, const Now& now, Emits emits, WalkedEntry* entries, size_t count,
                         Scratch* scratch, bool* done, size_t* bytes_needed) {
  CheckClock(now);
  *done = false;
  *bytes_needed = 0;
  while (cursor->shards_done < shard_count_) {
    const uint32_t index = cursor->next_shard;
    Cursor::PerShard* walk = &cursor->shards[index];
    if (walk->done) {
      cursor->next_shard = (index + 1) % shard_count_;
      continue;
    }
    Shard* shard = ShardAt(index);
    if (walk->slot < 0) StartWalk(index, cursor->order, walk);
    WalkStep step{.now = now,
                  .stale_is = cursor->accepts_stale ? StaleIs::kLive : StaleIs::kAbsent,
                  .emits = emits,
                  .entries = entries,
                  .count = count,
                  .scratch = scratch};
    bool current;
    {
      const ShardGuard guard(shard);
      Walks* walks = shard->walks();
      current = walks->IsCurrent(walk->slot, walk->generation);
      if (current) {
        walks->Step(walk->slot, &step);
        if (step.done) walks->Close(walk->slot, walk->generation);
      }
    }
    walk->done = step.done;
    *bytes_needed = step.bytes_needed;
    const size_t emitted = step.emitted;
    if (!current) {
      // The slot went to another walk: this shard again from its beginning. What was emitted comes twice.
      walk->slot = -1;
      continue;
    }
    if (walk->done) cursor->shards_done++;
    if (emitted == 0 && *bytes_needed != 0) return 0;
    cursor->next_shard = (index + 1) % shard_count_;
    if (emitted > 0) return emitted;
  }
  *done = true;
  return 0;
}

void Store::CloseCursor(Cursor* cursor) {
  if (cursor->shards == nullptr) return;
  for (uint32_t i = 0; i < shard_count_; i++) {
    const Cursor::PerShard& walk = cursor->shards[i];
    if (walk.slot < 0 || walk.done) continue;
    Shard* shard = ShardAt(i);
    const ShardGuard guard(shard);
    shard->walks()->Close(walk.slot, walk.generation);
  }
  cursor->shards.reset();
  cursor->shards_done = shard_count_;
}

}  // namespace cairn
