// The parts of Shard that every request goes through, in a header so that they are inlined into the verbs.
#pragma once

#include <cstring>
#include <utility>

#include "store/entries_inl.h"
#include "store/shard.h"

namespace cairn {

class Shard::Quiet {
 public:
  Quiet(Shard* shard, uint16_t owed_flag) NO_THREAD_SAFETY_ANALYSIS
      : silence_(&shard->recorder_),
        shard_(shard),
        before_(std::exchange(shard->owed_flag_, owed_flag)) {}
  ~Quiet() { shard_->owed_flag_ = before_; }
  Quiet(const Quiet&) = delete;
  Quiet& operator=(const Quiet&) = delete;

 private:
  const Recorder::Silence silence_;
  Shard* const shard_;
  const uint16_t before_;
};

inline bool Shard::WriteInPlace(const NewEntry& from, const Layout& layout, std::string_view value, Ref old,
                                uint64_t version, const Now& now) {
  EntryHeader* entry = At(old);
  if (((entry->flags | layout.flags) & (kEntryChunked | kEntryStub | kEntryNegative)) || PinsOf(entry) != 0 ||
      memory_.arena()->ClassAt(old) != layout.size_class) {
    return false;
  }
  entries_.Announce(Reason::kReplaced, entry);
  {
    const Entries::Edit edit(&entries_, old);
    EntryMemory::WriteFields(entry, from, layout, now);
  }
  char* stream = BytesOf(entry) + StreamOffsetOf(entry->flags, IsLongKey(entry));
  std::memcpy(stream, from.key.data(), from.key.size());
  if (!value.empty()) std::memcpy(stream + from.key.size(), value.data(), value.size());
  entry->version = version != 0 ? version : recorder_.NextVersion();
  entry->flags |= owed_flag_;
  entries_.BumpLater(old);
  return true;
}

inline Status Shard::GetPlain(std::string_view key, uint64_t hash, const Now& now, char* room, size_t capacity,
                              PlainValue* value) {
  const auto [ref, presence] = entries_.Lookup(key, hash, now, Purpose::kGet, StaleIs::kAbsent);
  if (presence != Presence::kLive) {
    if (presence == Presence::kStub || presence == Presence::kUnknown) return Status::kNeedsRoom;
    entries_.CountMiss();
    return Status::kNotFound;
  }
  EntryHeader* entry = At(ref);
  const uint32_t bytes = entry->value_bytes;
  if (bytes > capacity || (entry->flags & kEntryChunked) || IsLongKey(entry)) [[unlikely]] {
    return Status::kNeedsRoom;
  }
  std::memcpy(room, BytesOf(entry) + StreamOffsetOf(entry->flags, false) + entry->key_bytes, bytes);
  entries_.CountHit();
  entries_.Use(ref, entry, now);
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
  const Found found = entries_.Lookup(key, hash, now, Purpose::kOther, StaleIs::kLive);
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
