// The parts of Entries that every request goes through, in a header so that they are inlined into the verbs.
#pragma once

#include "store/entries.h"

namespace cairn {

inline Ref Entries::Find(std::string_view key, uint64_t hash) const {
  const HashTable::Slot slot = table_.Find(hash, [this, key](Ref ref) {
    const EntryHeader* entry = At(ref);
    // One candidate in 26 is not the entry, so what follows the key will be wanted: let all of it come at once.
    __builtin_prefetch(BytesOf(entry) + 64);
    __builtin_prefetch(BytesOf(entry) + 128);
    return memory_->KeyEquals(entry, key);
  });
  return slot.bucket == nullptr ? 0 : slot.bucket->refs[slot.index];
}

inline Found Entries::Lookup(std::string_view key, uint64_t hash, const Now& now, Purpose purpose, StaleIs stale_is) {
  const Ref ref = Find(key, hash);
  if (ref == 0) return Nothing();
  const EntryHeader* entry = At(ref);
  if (IsDead(entry)) [[unlikely]]
    return MeetUnusual(ref, Reason::kCleared, hash, now);
  // One test for an entry that has none of these.
  constexpr uint16_t kUnusual = kEntryHasExpiry | kEntryHasFreshness | kEntryStub | kEntryNegative;
  if ((entry->flags & kUnusual) != 0) [[unlikely]] {
    if (IsStub(entry)) [[unlikely]]
      return MeetUnusual(ref, Reason::kExpired, hash, now);
    if (IsExpired(entry, now)) [[unlikely]] {
      if (purpose == Purpose::kGet) state_->counters.get_expired++;
      return MeetUnusual(ref, Reason::kExpired, hash, now);
    }
    if (IsNegative(entry)) [[unlikely]]
      return {ref, Presence::kAbsent};
    if (stale_is == StaleIs::kAbsent && IsStale(entry, now)) [[unlikely]] {
      recorder_->NoteGone(entry->version);
      return {ref, Presence::kStale};
    }
  }
  return {ref, Presence::kLive};
}

inline void Entries::BumpLater(Ref ref) {
  // Its present neighbours are most probably those that its move will write.
  const EntryHeader* entry = At(ref);
  __builtin_prefetch(At(entry->lru_prev), 1);
  __builtin_prefetch(At(entry->lru_next), 1);
  TouchState* touches = &state_->touches;
  touches->refs[touches->count] = ref;
  if (++touches->count == kTouchesMax) SettleTouches();
}

}  // namespace cairn
