// What of Shard serves walks: marks instead of positions, so that hits cannot hide an entry from a walk.
#include "store/shard.h"

#include <algorithm>

#include "store/shard_inl.h"

namespace cairn {

// ---- walks ----

// Steps of other walks over a shard after which a walk that took none counts as forgotten.
static constexpr uint64_t kForgottenWalkSteps = 4096;

int Shard::OpenWalk(Cursor::Order order, bool* ready) {
  SettleTouches();
  int best = -1;
  for (int slot = 0; slot < kCursorsPerShard; slot++) {
    if (state_->walks[slot].open) continue;
    if (best == -1 || state_->walks[slot].unemitted < state_->walks[best].unemitted) best = slot;
  }
  if (best == -1) {
    // One that nobody has stepped for long was forgotten. Otherwise the one that has come least far gives way, so that
    // the others come to their end however many walks compete.
    best = 0;
    for (int slot = 1; slot < kCursorsPerShard; slot++) {
      if (state_->walks[slot].last_step < state_->walks[best].last_step) best = slot;
    }
    if (state_->walk_steps - state_->walks[best].last_step < kForgottenWalkSteps) {
      for (int slot = 0; slot < kCursorsPerShard; slot++) {
        const WalkState& walk = state_->walks[slot];
        const uint64_t left = state_->walks[best].unemitted;
        const bool later = walk.last_step > state_->walks[best].last_step;
        if (walk.unemitted > left || (walk.unemitted == left && later)) best = slot;
      }
    }
  }
  // Whoever had it learns from the generation that it has to start again.
  WalkState* walk = &state_->walks[best];
  walk->open = true;
  walk->generation++;
  walk->last_step = ++state_->walk_steps;
  walk->order = static_cast<uint8_t>(order);
  walk->next = WalkStart(order == Cursor::Order::kOldestFirst);
  state_->open_walks |= static_cast<uint8_t>(1 << best);
  *ready = walk->unemitted == 0;
  return best;
}

Ref Shard::WalkStart(bool oldest_first) const {
  if (!oldest_first) return lru_.head();
  return state_->newest_dead == 0 ? lru_.tail() : At(state_->newest_dead)->lru_prev;
}

uint32_t Shard::StartWalk(int slot, Cursor::Order order) {
  SettleTouches();
  WalkState* walk = &state_->walks[slot];
  CHECK(walk->unemitted == 0);
  state_->walk_parity ^= static_cast<uint8_t>(1 << slot);
  walk->unemitted = state_->live_entries;
  walk->next = WalkStart(order == Cursor::Order::kOldestFirst);
  return walk->generation;
}

void Shard::EndWalk(int slot) {
  state_->walks[slot].next = 0;
  state_->open_walks &= static_cast<uint8_t>(~(1 << slot));
}

bool Shard::CleanAbandonedWalks() {
  for (int slot = 0; slot < kCursorsPerShard; slot++) {
    if (!(state_->open_walks >> slot & 1) || state_->walks[slot].open) continue;
    if (!CleanWalk(slot)) return false;
    EndWalk(slot);
  }
  return true;
}

bool Shard::CleanWalk(int slot) {
  WalkState* walk = &state_->walks[slot];
  bool done = walk->unemitted == 0;
  WalkedEntry ignored;
  Scratch none;
  size_t needed;
  if (!done) StepWalk(slot, Now{}, StaleIs::kLive, false, &ignored, 0, &none, &done, &needed);
  return done;
}

size_t Shard::StepWalk(int slot, const Now& now, StaleIs stale_is, bool with_values, WalkedEntry* entries, size_t count,
                       Scratch* scratch, bool* done, size_t* bytes_needed) {
  SettleTouches();
  WalkState* walk = &state_->walks[slot];
  const bool oldest_first = walk->order == static_cast<uint8_t>(Cursor::Order::kOldestFirst);
  const bool cleaning = count == 0;
  const uint8_t bit = static_cast<uint8_t>(1 << slot);
  size_t emitted = 0;
  *bytes_needed = 0;
  walk->last_step = ++state_->walk_steps;
  for (int visits = 0; visits < kStepEntriesMax && walk->unemitted > 0; visits++) {
    if (walk->next == 0 || IsDead(At(walk->next))) {
      // Entries that were hit went to the front, behind a walk from there; what is left of them is found in another
      // pass, which skips those that have been emitted. Dead entries have no part in it, however many there are.
      walk->next = WalkStart(oldest_first);
    }
    EntryHeader* entry = At(walk->next);
    const Ref next = oldest_first ? entry->lru_prev : entry->lru_next;
    if (((WalkBitsOf(entry) ^ state_->walk_parity) & bit) != 0) {
      if (!cleaning && !IsExpired(entry, now) && (stale_is == StaleIs::kLive || !IsStale(entry, now))) {
        const size_t key_bytes = KeyBytesOf(entry);
        const size_t value_bytes = with_values ? entry->value_bytes : 0;
        if (emitted == count) break;
        if (scratch->capacity - scratch->used < key_bytes + value_bytes) {
          *bytes_needed = key_bytes + value_bytes;
          break;
        }
        WalkedEntry* out = &entries[emitted++];
        out->key_offset = scratch->used;
        out->key_bytes = static_cast<uint32_t>(key_bytes);
        out->value_offset = scratch->used + key_bytes;
        out->value_bytes = entry->value_bytes;
        out->codec = CodecOf(entry);
        out->client_flags = ClientFlagsOf(entry);
        out->version = entry->version;
        out->expires_ms = ExpiresMsOf(entry);
        out->fresh_until_ms = FreshUntilOf(entry);
        out->has_value = with_values;
        memory_.ReadStream(entry, 0, scratch->data + scratch->used, key_bytes + value_bytes);
        scratch->used += key_bytes + value_bytes;
      }
      SetWalkBits(entry, WalkBitsOf(entry) ^ bit);
      walk->unemitted--;
    }
    walk->next = next;
  }
  *done = walk->unemitted == 0;
  return emitted;
}

void Shard::CloseWalk(int slot, uint32_t generation) {
  WalkState* walk = &state_->walks[slot];
  if (walk->generation != generation || !walk->open) return;
  walk->open = false;
  // One that was given up half-way keeps its place until upkeep has gone the rest of the way.
  if (walk->unemitted == 0) EndWalk(slot);
}

}  // namespace cairn
