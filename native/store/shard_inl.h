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

inline Shard::Layout Shard::LayoutOf(const NewEntry& entry) const {
  const SizeClasses& classes = *config_.classes;
  Layout layout;
  layout.long_key = entry.key.size() > kKeyBytesInlineMax;
  layout.flags = static_cast<uint16_t>(static_cast<uint16_t>(entry.codec) | entry.extra_flags);
  if (entry.expires_ms != kNeverExpires) layout.flags |= kEntryHasExpiry;
  if (entry.client_flags != 0) layout.flags |= kEntryHasClientFlags;
  if (config_.track_access) layout.flags |= kEntryHasAccess;
  const uint64_t stream = entry.key.size() + entry.value_bytes;
  uint64_t bytes = StreamOffsetOf(layout.flags, layout.long_key) + stream;
  layout.chunk_stream = 0;
  layout.charge = kIndexShareBytes;
  if (bytes > classes.chunk_bytes_max()) {
    layout.flags |= kEntryChunked | kEntryHasExpiry;
    const size_t in_head = std::min(entry.key.size(), kKeyBytesInlineMax);
    bytes = StreamOffsetOf(layout.flags, layout.long_key) + in_head;
    layout.chunk_stream = stream - in_head;
    layout.charge += ChargeOf(ChunksOf(layout.chunk_stream));
  }
  layout.size_class = classes.ClassOf(bytes);
  layout.charge += classes.charge(layout.size_class);
  return layout;
}

inline void Shard::WriteFields(EntryHeader* entry, const NewEntry& from, const Layout& layout, const Now& now) {
  char* bytes = BytesOf(entry);
  const EntryOffsets at = OffsetsOf(layout.flags, layout.long_key);
  entry->value_bytes = static_cast<uint32_t>(from.value_bytes);
  entry->key_bytes = static_cast<uint8_t>(layout.long_key ? kLongKeyMark : from.key.size());
  entry->flags = WithKind(layout.flags, KindOf(entry->flags));
  if (layout.flags & kEntryHasExpiry) *ExpiryOf(entry) = ExpiryBlock{from.expires_ms, 0, 0};
  if (layout.flags & kEntryHasAccess) StoreU32(bytes + at.access, static_cast<uint32_t>(now.boot_ms / 1000));
  if (layout.flags & kEntryHasClientFlags) StoreU32(bytes + at.client_flags, from.client_flags);
  if (layout.long_key) StoreU32(bytes + at.key_length, static_cast<uint32_t>(from.key.size()));
}

inline bool Shard::PutInPlace(const NewEntry& from, const Layout& layout, std::string_view value, Ref old,
                              uint64_t version, const Now& now) {
  EntryHeader* entry = At(old);
  if (((entry->flags | layout.flags) & kEntryChunked) || PinsOf(entry) != 0 ||
      arena_.ClassAt(old) != layout.size_class) {
    return false;
  }
  Announce(Reason::kReplaced, entry);
  if (IsTimed(entry)) wheel_.Remove(old);
  state_->payload_bytes += from.value_bytes;
  state_->payload_bytes -= entry->value_bytes;
  WriteFields(entry, from, layout, now);
  char* stream = BytesOf(entry) + StreamOffsetOf(entry->flags, IsLongKey(entry));
  std::memcpy(stream, from.key.data(), from.key.size());
  if (!value.empty()) std::memcpy(stream + from.key.size(), value.data(), value.size());
  entry->version = version != 0 ? version : NextVersion();
  if (IsTimed(entry)) wheel_.Add(old);
  BumpLater(old);
  return true;
}

inline Status Shard::GetPlain(std::string_view key, uint64_t hash, const Now& now, char* room, size_t capacity,
                              PlainValue* value) {
  const Ref ref = Lookup(key, hash, now, true);
  if (ref == 0) {
    CountMiss();
    return Status::kNotFound;
  }
  EntryHeader* entry = At(ref);
  const uint32_t bytes = entry->value_bytes;
  if (bytes > capacity || (entry->flags & kEntryChunked) || IsLongKey(entry)) [[unlikely]] {
    return Status::kNeedsRoom;
  }
  std::memcpy(room, BytesOf(entry) + StreamOffsetOf(entry->flags, false) + entry->key_bytes, bytes);
  CountHit();
  Use(ref, entry, now);
  value->codec = CodecOf(entry);
  value->value_bytes = bytes;
  value->client_flags = ClientFlagsOf(entry);
  return Status::kFound;
}

inline Request PlainSet(std::string_view key, std::string_view value, Codec codec, uint64_t expires_ms) {
  Request request;
  request.verb = Verb::kSet;
  request.codec = codec;
  request.key = key;
  request.value = value;
  request.expires_ms = expires_ms;
  return request;
}

template <bool kLogged>
inline Status Shard::SetPlain(std::string_view key, std::string_view value, Codec codec, uint64_t expires_ms,
                              uint64_t hash, const Now& now) {
  const Ref old = Lookup(key, hash, now, false);
  DCHECK(kLogged || records_ == nullptr);
  if (old != 0 && fills_.empty()) [[likely]] {
    NewEntry from;
    from.key = key;
    from.value_bytes = value.size();
    from.codec = codec;
    from.expires_ms = expires_ms;
    const Layout layout = LayoutOf(from);
    if (FitsAtAll(from, layout)) [[likely]] {
      if constexpr (kLogged) {
        if (!ReserveRecord(from)) return Status::kLogFull;
      }
      if (PutInPlace(from, layout, value, old, 0, now)) [[likely]] {
        state_->newest_epoch = std::max(state_->newest_epoch, state_->epoch);
        state_->counters.sets++;
        if constexpr (kLogged) LeaveSetRecord(from, value.data(), old, At(old)->version, now);
        return Status::kStored;
      }
    }
  }
  return SetOver(old, PlainSet(key, value, codec, expires_ms), hash, now);
}

}  // namespace cairn
