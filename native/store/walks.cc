#include "store/walks.h"

#include "base/check.h"

namespace cairn {

namespace {

// Steps of other walks over a shard after which a walk that took none counts as forgotten.
constexpr uint64_t kForgottenWalkSteps = 4096;

}  // namespace

int Walks::Open(Cursor::Order order, bool* ready) {
  int best = -1;
  for (int slot = 0; slot < kCursorsPerShard; slot++) {
    if (state_->slots[slot].open) continue;
    if (best == -1 || state_->slots[slot].unemitted < state_->slots[best].unemitted) best = slot;
  }
  if (best == -1) {
    best = 0;
    for (int slot = 1; slot < kCursorsPerShard; slot++) {
      if (state_->slots[slot].last_step < state_->slots[best].last_step) best = slot;
    }
    // No walk was forgotten: the one that has come least far gives way, so that the others come to their end however
    // many walks compete.
    if (state_->steps - state_->slots[best].last_step < kForgottenWalkSteps) {
      for (int slot = 0; slot < kCursorsPerShard; slot++) {
        const WalkState& walk = state_->slots[slot];
        const uint64_t left = state_->slots[best].unemitted;
        const bool later = walk.last_step > state_->slots[best].last_step;
        if (walk.unemitted > left || (walk.unemitted == left && later)) best = slot;
      }
    }
  }
  // The cursor that had the slot learns from the generation that it has to start again.
  WalkState* walk = &state_->slots[best];
  walk->open = true;
  walk->generation++;
  walk->last_step = ++state_->steps;
  walk->order = static_cast<uint8_t>(order);
  walk->next = BeginOf(order == Cursor::Order::kOldestFirst);
  state_->open |= static_cast<uint8_t>(1 << best);
  *ready = walk->unemitted == 0;
  return best;
}

Ref Walks::BeginOf(bool oldest_first) const {
  if (!oldest_first) return lru_->head();
  return population_->newest_dead == 0 ? lru_->tail() : memory_->At(population_->newest_dead)->lru_prev;
}

uint32_t Walks::Start(int slot, Cursor::Order order) {
  WalkState* walk = &state_->slots[slot];
  CHECK(walk->unemitted == 0);
  state_->parity ^= static_cast<uint8_t>(1 << slot);
  walk->unemitted = population_->live_entries;
  walk->next = BeginOf(order == Cursor::Order::kOldestFirst);
  return walk->generation;
}

void Walks::End(int slot) {
  state_->slots[slot].next = 0;
  state_->open &= static_cast<uint8_t>(~(1 << slot));
}

void Walks::StepOverNow(Ref ref) {
  for (int slot = 0; slot < kCursorsPerShard; slot++) {
    WalkState* walk = &state_->slots[slot];
    if (!(state_->open >> slot & 1) || walk->next != ref) continue;
    const EntryHeader* entry = memory_->At(ref);
    walk->next = walk->order == static_cast<uint8_t>(Cursor::Order::kOldestFirst) ? entry->lru_prev : entry->lru_next;
  }
}

bool Walks::CleanAbandoned() {
  for (int slot = 0; slot < kCursorsPerShard; slot++) {
    if (!(state_->open >> slot & 1) || state_->slots[slot].open) continue;
    if (!Clean(slot)) return false;
    End(slot);
  }
  return true;
}

bool Walks::Clean(int slot) {
  WalkStep step;
  step.done = state_->slots[slot].unemitted == 0;
  if (!step.done) Step(slot, &step);
  return step.done;
}

bool Walks::Emit(const EntryHeader* entry, WalkStep* step) const {
  if (step->emitted == step->count) return false;
  Scratch* scratch = step->scratch;
  const size_t key_bytes = KeyBytesOf(entry);
  const size_t value_bytes = step->emits == Emits::kKeysAndValues ? entry->value_bytes : 0;
  if (scratch->capacity - scratch->used < key_bytes + value_bytes) {
    step->bytes_needed = key_bytes + value_bytes;
    return false;
  }
  WalkedEntry* out = &step->entries[step->emitted++];
  out->key_offset = scratch->used;
  out->key_bytes = static_cast<uint32_t>(key_bytes);
  out->value_offset = scratch->used + key_bytes;
  out->value_bytes = entry->value_bytes;
  out->codec = CodecOf(entry);
  out->client_flags = ClientFlagsOf(entry);
  out->version = entry->version;
  out->expires_ms = ExpiresMsOf(entry);
  out->fresh_until_ms = FreshUntilOf(entry);
  memory_->ReadStream(entry, 0, scratch->data + scratch->used, key_bytes + value_bytes);
  scratch->used += key_bytes + value_bytes;
  return true;
}

void Walks::Step(int slot, WalkStep* step) {
  WalkState* walk = &state_->slots[slot];
  const bool oldest_first = walk->order == static_cast<uint8_t>(Cursor::Order::kOldestFirst);
  const auto bit = static_cast<uint8_t>(1 << slot);
  step->emitted = 0;
  step->bytes_needed = 0;
  walk->last_step = ++state_->steps;
  for (int visits = 0; visits < kStepEntriesMax && walk->unemitted > 0; visits++) {
    if (walk->next == 0 || population_->IsDead(memory_->At(walk->next))) walk->next = BeginOf(oldest_first);
    EntryHeader* entry = memory_->At(walk->next);
    const Ref next = oldest_first ? entry->lru_prev : entry->lru_next;
    if (((WalkBitsOf(entry) ^ state_->parity) & bit) != 0) {
      if (step->count != 0 && IsListed(entry, step->now, step->stale_is) && !Emit(entry, step)) break;
      SetWalkBits(entry, WalkBitsOf(entry) ^ bit);
      walk->unemitted--;
    }
    walk->next = next;
  }
  step->done = walk->unemitted == 0;
}

void Walks::Close(int slot, uint32_t generation) {
  WalkState* walk = &state_->slots[slot];
  if (walk->generation != generation || !walk->open) return;
  walk->open = false;
  // A walk that was closed half-way keeps its slot until upkeep has gone the rest of the way.
  if (walk->unemitted == 0) End(slot);
}

}  // namespace cairn
