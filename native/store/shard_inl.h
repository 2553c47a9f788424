// The parts of Shard that every request goes through, in a header so that they are inlined into the verbs.
#pragma once

#include <algorithm>
#include <cstring>

#include "store/shard.h"

namespace cairn {

// memcmp() == 0, without a call for the lengths that keys have.
inline bool SameBytes(const char* a, const char* b, size_t bytes) {
  if (bytes < 8) return std::memcmp(a, b, bytes) == 0;
  uint64_t difference = 0;
  auto word = [](const char* from) {
    uint64_t value;
    std::memcpy(&value, from, sizeof value);
    return value;
  };
  for (size_t i = 0; i + 8 < bytes; i += 8) difference |= word(a + i) ^ word(b + i);
  return (difference | (word(a + bytes - 8) ^ word(b + bytes - 8))) == 0;
}

template <class Visit>
void Shard::VisitStream(const EntryHeader* entry, size_t offset, size_t bytes, Visit visit) const {
  const EntryOffsets at = OffsetsOf(entry);
  const char* head = BytesOf(entry) + at.stream;
  if (!(entry->flags & kEntryChunked)) {
    visit(const_cast<char*>(head) + offset, bytes);
    return;
  }
  const size_t in_head = std::min(KeyBytesOf(entry), kKeyBytesInlineMax);
  if (offset < in_head) {
    const size_t piece = std::min(bytes, in_head - offset);
    visit(const_cast<char*>(head) + offset, piece);
    offset += piece;
    bytes -= piece;
  }
  offset -= in_head;
  for (Ref ref = LoadU32(BytesOf(entry) + at.first_chunk); bytes > 0;) {
    ChunkHeader* chunk = ChunkAt(ref);
    if (offset < chunk->data_bytes) {
      const size_t piece = std::min<size_t>(bytes, chunk->data_bytes - offset);
      visit(reinterpret_cast<char*>(chunk) + sizeof(ChunkHeader) + offset, piece);
      bytes -= piece;
      offset = 0;
    } else {
      offset -= chunk->data_bytes;
    }
    ref = chunk->next;
  }
}

inline void Shard::ReadStream(const EntryHeader* entry, size_t offset, char* data, size_t bytes) const {
  if (bytes == 0) return;
  VisitStream(entry, offset, bytes, [&data](const char* piece, size_t piece_bytes) {
    std::memcpy(data, piece, piece_bytes);
    data += piece_bytes;
  });
}

inline bool Shard::KeyEquals(const EntryHeader* entry, std::string_view key) const {
  if (key.size() <= kKeyBytesInlineMax) {
    return entry->key_bytes == key.size() &&
           SameBytes(BytesOf(entry) + StreamOffsetOf(entry->flags, false), key.data(), key.size());
  }
  if (!IsLongKey(entry) || KeyBytesOf(entry) != key.size()) return false;
  bool equal = true;
  VisitStream(entry, 0, key.size(), [&](const char* piece, size_t bytes) {
    equal = equal && std::memcmp(piece, key.data(), bytes) == 0;
    key.remove_prefix(bytes);
  });
  return equal;
}

inline HashTable::Slot Shard::FindSlot(std::string_view key, uint64_t hash) const {
  return table_.Find(hash, [this, key](Ref ref) {
    const EntryHeader* entry = At(ref);
    // One candidate in 26 is not the entry, so what follows the key will be wanted: let all of it come at once.
    __builtin_prefetch(BytesOf(entry) + 64);
    __builtin_prefetch(BytesOf(entry) + 128);
    return KeyEquals(entry, key);
  });
}

inline Ref Shard::Find(std::string_view key, uint64_t hash) const {
  const HashTable::Slot slot = FindSlot(key, hash);
  return slot.bucket == nullptr ? 0 : slot.bucket->refs[slot.index];
}

inline Ref Shard::Lookup(std::string_view key, uint64_t hash, const Now& now, bool is_get) {
  const Ref ref = Find(key, hash);
  if (ref == 0) return 0;
  const EntryHeader* entry = At(ref);
  if (IsDead(entry)) [[unlikely]] {
    SettleTouches();
    RemoveEntry(ref, Reason::kCleared, hash);
    return 0;
  }
  if (IsExpired(entry, now)) [[unlikely]] {
    if (is_get) state_->counters.get_expired++;
    SettleTouches();
    RemoveEntry(ref, Reason::kExpired, hash);
    return 0;
  }
  return ref;
}

}  // namespace cairn
