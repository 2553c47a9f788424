// The parts of Shard that every request goes through, in a header so that they are inlined into the verbs.
#pragma once

#include <algorithm>
#include <cstring>

#include "store/shard.h"

namespace cairn {

inline HashTable::Slot Shard::FindSlot(std::string_view key, uint64_t hash) const {
  return table_.Find(hash, [this, key](Ref ref) {
    const EntryHeader* entry = At(ref);
    // One candidate in 26 is not the entry, so what follows the key will be wanted: let all of it come at once.
    __builtin_prefetch(BytesOf(entry) + 64);
    __builtin_prefetch(BytesOf(entry) + 128);
    return memory_.KeyEquals(entry, key);
  });
}

inline Ref Shard::Find(std::string_view key, uint64_t hash) const {
  const HashTable::Slot slot = FindSlot(key, hash);
  return slot.bucket == nullptr ? 0 : slot.bucket->refs[slot.index];
}

inline Found Shard::Lookup(std::string_view key, uint64_t hash, const Now& now, Purpose purpose, StaleIs stale_is) {
  const Ref ref = Find(key, hash);
  if (ref == 0) return {};
  const EntryHeader* entry = At(ref);
  if (IsDead(entry)) [[unlikely]]
    return LeaveAbsent(ref, Reason::kCleared, hash);
  // One test for an entry that has neither.
  if ((entry->flags & (kEntryHasExpiry | kEntryHasFreshness)) != 0) [[unlikely]] {
    if (IsExpired(entry, now)) [[unlikely]] {
      if (purpose == Purpose::kGet) state_->counters.get_expired++;
      return LeaveAbsent(ref, Reason::kExpired, hash);
    }
    if (stale_is == StaleIs::kAbsent && IsStale(entry, now)) [[unlikely]] {
      recorder_.NoteGone(entry->version);
      return {ref, Presence::kStale};
    }
  }
  return {ref, Presence::kLive};
}

inline bool Shard::WriteInPlace(const NewEntry& from, const Layout& layout, std::string_view value, Ref old,
                                uint64_t version, const Now& now) {
  EntryHeader* entry = At(old);
  if (((entry->flags | layout.flags) & kEntryChunked) || PinsOf(entry) != 0 ||
      memory_.arena()->ClassAt(old) != layout.size_class) {
    return false;
  }
  Announce(Reason::kReplaced, entry);
  if (IsTimed(entry)) wheel_.Remove(old);
  state_->population.payload_bytes += from.value_bytes;
  state_->population.payload_bytes -= entry->value_bytes;
  EntryMemory::WriteFields(entry, from, layout, now);
  char* stream = BytesOf(entry) + StreamOffsetOf(entry->flags, IsLongKey(entry));
  std::memcpy(stream, from.key.data(), from.key.size());
  if (!value.empty()) std::memcpy(stream + from.key.size(), value.data(), value.size());
  entry->version = version != 0 ? version : recorder_.NextVersion();
  if (IsTimed(entry)) wheel_.Add(old);
  BumpLater(old);
  return true;
}

inline Status Shard::GetPlain(std::string_view key, uint64_t hash, const Now& now, char* room, size_t capacity,
                              PlainValue* value) {
  const auto [ref, presence] = Lookup(key, hash, now, Purpose::kGet, StaleIs::kAbsent);
  if (presence != Presence::kLive) {
    if (presence == Presence::kStub) return Status::kNeedsRoom;
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
  // A stale entry is replaced as a live one is.
  const Found found = Lookup(key, hash, now, Purpose::kOther, StaleIs::kLive);
  const Ref old = found.ref;
  DCHECK(kLogged || !recorder_.keeps_records());
  if (old != 0 && fills_.empty()) [[likely]] {
    NewEntry from;
    from.key = key;
    from.value_bytes = value.size();
    from.codec = codec;
    from.expires_ms = expires_ms;
    const Layout layout = memory_.LayoutOf(from);
    if (FitsAtAll(from, layout)) [[likely]] {
      if constexpr (kLogged) {
        if (!recorder_.ReserveSet(from)) return Status::kLogFull;
      }
      if (WriteInPlace(from, layout, value, old, 0, now)) [[likely]] {
        state_->counters.sets++;
        if constexpr (kLogged) recorder_.LeaveSet(from, value.data(), old, At(old)->version, now);
        return Status::kStored;
      }
    }
  }
  return SetOver(found, PlainSet(key, value, codec, expires_ms), hash, now);
}

}  // namespace cairn
