// What of Shard answers requests: one function per family of verbs, bodies, and records that come in.
#include "store/shard.h"

#include <algorithm>
#include <charconv>
#include <cstring>
#include <optional>

#include "store/shard_inl.h"

namespace cairn {

namespace {

bool IsText(Codec codec) { return codec == Codec::kAscii || codec == Codec::kUtf8 || codec == Codec::kWtf8; }

bool IsAscii(std::string_view bytes) {
  return std::none_of(bytes.begin(), bytes.end(), [](char c) { return static_cast<unsigned char>(c) >= 0x80; });
}

// Whether the bytes are well-formed UTF-8 (The Unicode Standard, table 3-7).
bool IsUtf8(std::string_view bytes) {
  for (size_t i = 0; i < bytes.size();) {
    const auto lead = static_cast<unsigned char>(bytes[i]);
    if (lead < 0x80) {
      i++;
      continue;
    }
    size_t length;
    unsigned char low = 0x80;
    unsigned char high = 0xbf;
    if (lead >= 0xc2 && lead <= 0xdf) {
      length = 2;
    } else if (lead >= 0xe0 && lead <= 0xef) {
      length = 3;
      if (lead == 0xe0) low = 0xa0;
      if (lead == 0xed) high = 0x9f;
    } else if (lead >= 0xf0 && lead <= 0xf4) {
      length = 4;
      if (lead == 0xf0) low = 0x90;
      if (lead == 0xf4) high = 0x8f;
    } else {
      return false;
    }
    if (bytes.size() - i < length) return false;
    for (size_t k = 1; k < length; k++) {
      const auto next = static_cast<unsigned char>(bytes[i + k]);
      if (next < low || next > high) return false;
      low = 0x80;
      high = 0xbf;
    }
    i += length;
  }
  return true;
}

// The codec of a value with something of another codec put before or behind it; see docs/values.md. False: it cannot
// be.
bool JoinCodecs(Codec old, Codec added_codec, std::string_view added, Codec* joined) {
  if (old == Codec::kRaw) {
    *joined = Codec::kRaw;
    return added_codec == Codec::kRaw || IsText(added_codec);
  }
  if (!IsText(old)) return false;
  if (added_codec == Codec::kRaw) {
    // From the port: text stays text as long as it is.
    if (IsAscii(added)) {
      *joined = old;
    } else if (IsUtf8(added)) {
      *joined = old == Codec::kWtf8 ? Codec::kWtf8 : Codec::kUtf8;
    } else {
      *joined = Codec::kRaw;
    }
    return true;
  }
  if (!IsText(added_codec)) return false;
  *joined = std::max(old, added_codec);
  return true;
}
static_assert(Codec::kAscii < Codec::kUtf8 && Codec::kUtf8 < Codec::kWtf8);

// Reads a value as memcached does, which is strtoull and a few checks: blanks and a sign may precede the digits; the
// end of the value, a blank or a NUL ends them, and nothing behind that is read. A minus sign counts down from 2^64,
// and is refused if that leaves a number of 2^63 or more.
bool ParseDecimal(const char* text, size_t bytes, uint64_t* number) {
  auto is_blank = [](char c) { return c == ' ' || (c >= '\t' && c <= '\r'); };
  if (bytes == 0) return false;
  const char* at = text;
  const char* end = text + bytes;
  while (at < end && is_blank(*at)) at++;
  const bool is_negative = at < end && *at == '-';
  if (at < end && (*at == '+' || is_negative)) at++;
  const auto [stop, error] = std::from_chars(at, end, *number);
  if (error != std::errc{} || (stop != end && *stop != '\0' && !is_blank(*stop))) return false;
  if (is_negative) *number = 0 - *number;
  // memcached looks for the sign in all of the text up to a NUL.
  constexpr uint64_t kSignBit = uint64_t{1} << 63;
  if (*number < kSignBit) return true;
  const std::string_view all(text, bytes);
  return all.substr(0, all.find('\0')).find('-') == std::string_view::npos;
}

}  // namespace

// ---- requests ----

void Shard::Execute(const Request& request, uint64_t hash, const Now& now, Scratch* scratch, bool may_pin,
                    Outcome* outcome) {
  switch (request.verb) {
    case Verb::kGet:
    case Verb::kPeek:
    case Verb::kHas:
      return Get(request, hash, now, scratch, may_pin, outcome);
    case Verb::kSet:
    case Verb::kAdd:
    case Verb::kReplace:
    case Verb::kCas:
      return StoreValue(request, hash, now, outcome);
    case Verb::kAppend:
    case Verb::kPrepend:
      SettleTouches();
      return Concat(request, hash, now, outcome, nullptr);
    case Verb::kIncr:
    case Verb::kDecr:
      return Count(request, hash, now, outcome);
    case Verb::kTouch:
    case Verb::kGetAndTouch:
      SettleTouches();
      return Touch(request, hash, now, scratch, may_pin, outcome);
    case Verb::kDelete:
    case Verb::kTake:
    case Verb::kEvict:
      SettleTouches();
      return Remove(request, hash, now, scratch, may_pin, outcome);
  }
}

void Shard::Describe(const EntryHeader* entry, const Now& now, Outcome* outcome) const {
  outcome->codec = CodecOf(entry);
  outcome->fetched = (entry->flags & kEntryFetched) != 0;
  outcome->value_bytes = entry->value_bytes;
  outcome->version = entry->version;
  // The defaults of an outcome say what an entry without such fields has.
  if (!HasOptionalFields(entry->flags)) [[likely]]
    return;
  outcome->client_flags = ClientFlagsOf(entry);
  outcome->expires_ms = ExpiresMsOf(entry);
  outcome->fresh_until_ms = FreshUntilOf(entry);
  if (entry->flags & kEntryHasAccess) {
    // Another thread, whose clock was read a little later, may have been here first.
    const uint32_t now_s = AccessSeconds(now);
    outcome->idle_s = now_s - std::min(now_s, LoadU32(BytesOf(entry) + OffsetsOf(entry).access));
  }
}

bool Shard::GiveValue(Ref ref, Scratch* scratch, bool may_pin, Outcome* outcome) {
  const EntryHeader* entry = At(ref);
  const uint32_t bytes = entry->value_bytes;
  outcome->value_bytes = bytes;
  if (bytes > kCopyUnderLockBytesMax && may_pin && memory_.PinEntry(ref, kPinnedPagesMax, &outcome->pin)) {
    outcome->has_value = true;
    return true;
  }
  if (scratch == nullptr || scratch->capacity - scratch->used < bytes) {
    outcome->status = Status::kNeedsRoom;
    return false;
  }
  outcome->value_offset = scratch->used;
  outcome->has_value = true;
  char* to = scratch->data + scratch->used;
  if (!((entry->flags & kEntryChunked) || IsLongKey(entry))) [[likely]] {
    if (bytes > 0) std::memcpy(to, BytesOf(entry) + StreamOffsetOf(entry->flags, false) + entry->key_bytes, bytes);
  } else {
    memory_.ReadStream(entry, KeyBytesOf(entry), to, bytes);
  }
  scratch->used += bytes;
  return true;
}

void Shard::Get(const Request& request, uint64_t hash, const Now& now, Scratch* scratch, bool may_pin,
                Outcome* outcome) {
  if (request.verb != Verb::kGet) {
    const auto [ref, presence] = Look(request.key, hash, now, StaleTo(request));
    outcome->status = MeetPresence(request.verb, presence);
    if (outcome->status != Status::kStored) {
      // That the entry is not there any more has to be as safe as that it was.
      if (ref != 0) recorder_.NoteGone(At(ref)->version);
      return;
    }
    if (request.verb == Verb::kPeek && !request.no_value && !GiveValue(ref, scratch, may_pin, outcome)) return;
    Describe(At(ref), now, outcome);
    outcome->status = Status::kFound;
    return;
  }
  const auto [ref, presence] = Lookup(request.key, hash, now, Purpose::kGet, StaleTo(request));
  if (presence != Presence::kLive) {
    outcome->status = MeetPresence(request.verb, presence);
    if (outcome->status == Status::kNotFound) CountMiss();
    return;
  }
  EntryHeader* entry = At(ref);
  if (!request.no_value && !GiveValue(ref, scratch, may_pin, outcome)) return;
  Describe(entry, now, outcome);
  outcome->status = Status::kFound;
  CountHit();
  if (!request.no_bump) Use(ref, entry, now);
}

Found Shard::Look(std::string_view key, uint64_t hash, const Now& now, StaleIs stale_is) const {
  const Ref ref = Find(key, hash);
  if (ref == 0 || IsDead(At(ref))) return {};
  if (IsExpired(At(ref), now)) return {ref, Presence::kAbsent};
  return {ref, stale_is == StaleIs::kAbsent && IsStale(At(ref), now) ? Presence::kStale : Presence::kLive};
}

NewEntry Shard::KeptOf(const EntryHeader* entry, std::string_view key) const {
  NewEntry kept;
  kept.key = key;
  kept.value_bytes = entry->value_bytes;
  kept.codec = CodecOf(entry);
  kept.client_flags = ClientFlagsOf(entry);
  kept.expires_ms = ExpiresMsOf(entry);
  kept.fresh_until_ms = FreshUntilOf(entry);
  kept.extra_flags = entry->flags & kEntryFetched;
  return kept;
}

Status Shard::Condition(const Request& request, Found found) const {
  if (request.verb == Verb::kSet && !request.has_compare && request.fill == nullptr) [[likely]]
    return Status::kStored;
  const Status status = MeetPresence(request.verb, found.presence);
  if (status != Status::kStored) return status;
  const bool compares = request.has_compare || request.verb == Verb::kCas;
  if (compares && found.is_live() && At(found.ref)->version != request.compare) return Status::kExists;
  if (request.fill != nullptr && request.fill->voided()) return Status::kExists;
  return Status::kStored;
}

Status Shard::Refuse(Status status, Verb verb, std::string_view key, uint64_t hash, Outcome* outcome) {
  if (status == Status::kTooLarge) {
    state_->counters.too_large++;
  } else {
    state_->counters.no_memory++;
  }
  if (verb != Verb::kSet) return status;
  if (!fills_.empty()) [[unlikely]]
    fills_.Void(hash);
  const Ref old = Find(key, hash);
  const bool present = old != 0 && !IsDead(At(old));
  // Of an entry that was evicted the log may still have the value.
  if (!present && !recorder_.keeps_records()) return status;
  if (!recorder_.ReserveKey(key.size())) return Status::kLogFull;
  outcome->record_version = recorder_.LeaveDelete(key);
  if (!present) return status;
  SettleTouches();
  RemoveEntry(old, Reason::kReplaced, hash);
  return status;
}

void Shard::FinishStore(Ref ref, RecordKind kind, uint64_t version, const Now& now, Outcome* outcome) {
  EntryHeader* entry = At(ref);
  recorder_.LeaveEntry(kind, ref, version, now);
  outcome->version = entry->version;
  outcome->record_version = version;
  outcome->expires_ms = ExpiresMsOf(entry);
  outcome->fresh_until_ms = FreshUntilOf(entry);
  outcome->codec = CodecOf(entry);
  outcome->client_flags = ClientFlagsOf(entry);
  outcome->value_bytes = entry->value_bytes;
}

void Shard::FinishPut(const NewEntry& from, std::string_view value, Ref ref, uint64_t version, const Now& now,
                      Outcome* outcome) {
  if (recorder_.keeps_records()) [[unlikely]]
    recorder_.LeaveSet(from, value.data(), ref, version, now);
  outcome->version = version;
  outcome->record_version = version;
  outcome->expires_ms = from.expires_ms;
  outcome->fresh_until_ms = from.fresh_until_ms;
  outcome->codec = from.codec;
  outcome->client_flags = from.client_flags;
  outcome->value_bytes = static_cast<uint32_t>(value.size());
}

Status Shard::Put(const NewEntry& from, std::string_view value, uint64_t hash, Ref old, uint64_t version,
                  const Now& now, Outcome* outcome) {
  const Layout layout = memory_.LayoutOf(from);
  if (!FitsAtAll(from, layout)) return Status::kTooLarge;
  if (!recorder_.ReserveSet(from)) return Status::kLogFull;
  if (old != 0 && PutInPlace(from, layout, value, old, version, now)) {
    FinishPut(from, value, old, At(old)->version, now, outcome);
    return Status::kStored;
  }
  SettleTouches();
  uint8_t walk_bits = state_->walk_parity;
  const bool replaced = old != 0;
  if (replaced) {
    walk_bits = WalkBitsOf(At(old));
    RemoveEntry(old, Reason::kReplaced, hash);
  }
  if (!MakeRoom(layout.charge, true, false) || !memory_.Allocate(from, layout, 0)) {
    state_->counters.no_memory++;
    // The old entry is gone: the log must say so. A delete's record fits into what was reserved.
    if (replaced) outcome->record_version = recorder_.LeaveDelete(from.key);
    return Status::kNoMemory;
  }
  EntryHeader* entry = At(memory_.InSlot(0));
  StampAccess(entry, now);
  if (entry->flags & kEntryChunked) {
    memory_.WriteStream(entry, 0, from.key.data(), from.key.size());
    memory_.WriteStream(entry, from.key.size(), value.data(), value.size());
  } else {
    char* stream = BytesOf(entry) + StreamOffsetOf(entry->flags, IsLongKey(entry));
    std::memcpy(stream, from.key.data(), from.key.size());
    if (!value.empty()) std::memcpy(stream + from.key.size(), value.data(), value.size());
  }
  if (version == 0) version = recorder_.NextVersion();
  entry->version = version;
  CHECK(LinkEntry(0, hash, walk_bits));
  FinishPut(from, value, lru_.head(), version, now, outcome);
  table_.Adjust();
  return Status::kStored;
}

void Shard::StoreOver(Found old, const Request& request, uint64_t hash, const Now& now, Outcome* outcome) {
  StoreStats* counters = &state_->counters;
  const Status condition = Condition(request, old);
  if (request.verb == Verb::kCas) {
    if (condition == Status::kNotFound) counters->cas_misses++;
    if (condition == Status::kExists) counters->cas_exists++;
  }
  if (condition != Status::kStored) {
    if (old.is_live()) Describe(At(old.ref), now, outcome);
    outcome->status = condition;
    return;
  }
  NewEntry from;
  from.key = request.key;
  from.value_bytes = request.value.size();
  from.codec = request.codec;
  from.client_flags = request.client_flags;
  from.value_may_change = request.value_may_change;
  from.expires_ms = request.expires_ms;
  if (from.expires_ms == kKeepExpiry) from.expires_ms = old.is_live() ? ExpiresMsOf(At(old.ref)) : kNeverExpires;
  from.fresh_until_ms = request.fresh_until_ms;
  Status status = Put(from, request.value, hash, old.ref, 0, now, outcome);
  if (status == Status::kStored) {
    counters->sets++;
    if (request.verb == Verb::kCas) counters->cas_hits++;
    if (!fills_.empty()) [[unlikely]]
      fills_.Void(hash);
  } else if (status == Status::kTooLarge) {
    status = Refuse(status, request.verb, request.key, hash, outcome);
  } else if (status == Status::kNoMemory) {
    if (!fills_.empty()) fills_.Void(hash);
    // As Refuse(): of an entry that was evicted the log may still have the value. Room was reserved for more than this.
    if (request.verb == Verb::kSet && recorder_.keeps_records() && outcome->record_version == 0) {
      outcome->record_version = recorder_.LeaveDelete(request.key);
    }
  }
  outcome->status = status;
}

Status Shard::Rebuild(Ref* ref, const NewEntry& from, std::string_view before, std::string_view behind, uint64_t hash,
                      const Now& now, bool announce) {
  const Layout layout = memory_.LayoutOf(from);
  EntryHeader* entry = At(*ref);
  const size_t key_bytes = from.key.size();
  const uint32_t old_value_bytes = entry->value_bytes;
  const uint64_t version = entry->version;
  if (!((entry->flags | layout.flags) & kEntryChunked) && PinsOf(entry) == 0 &&
      memory_.arena()->ClassAt(*ref) == layout.size_class) {
    if (announce) Announce(Reason::kReplaced, entry);
    if (IsTimed(entry)) wheel_.Remove(*ref);
    const char* old_value = BytesOf(entry) + StreamOffsetOf(entry->flags, IsLongKey(entry)) + key_bytes;
    char* stream = BytesOf(entry) + StreamOffsetOf(layout.flags, layout.long_key);
    std::memmove(stream + key_bytes + before.size(), old_value, old_value_bytes);
    std::memcpy(stream, from.key.data(), key_bytes);
    if (!before.empty()) std::memcpy(stream + key_bytes, before.data(), before.size());
    if (!behind.empty())
      std::memcpy(stream + key_bytes + before.size() + old_value_bytes, behind.data(), behind.size());
    EntryMemory::WriteFields(entry, from, layout, now);
    state_->payload_bytes += from.value_bytes;
    state_->payload_bytes -= old_value_bytes;
    if (IsTimed(entry)) wheel_.Add(*ref);
    Bump(*ref);
    return Status::kStored;
  }
  if (layout.charge > memory_.state().limit_bytes) return Status::kTooLarge;
  // Both exist for a moment; the old one, now the newest, is not evicted for the new one.
  Bump(*ref);
  if (!MakeRoom(layout.charge, false, true) || !memory_.Allocate(from, layout, 0)) return Status::kNoMemory;
  const Ref old = lru_.head();
  EntryHeader* old_entry = At(old);
  entry = At(memory_.InSlot(0));
  memory_.WriteStream(entry, 0, from.key.data(), key_bytes);
  size_t offset = key_bytes;
  memory_.WriteStream(entry, offset, before.data(), before.size());
  offset += before.size();
  memory_.VisitStream(old_entry, key_bytes, old_value_bytes, [&](const char* piece, size_t bytes) {
    memory_.WriteStream(entry, offset, piece, bytes);
    offset += bytes;
  });
  memory_.WriteStream(entry, offset, behind.data(), behind.size());
  StampAccess(entry, now);
  entry->version = version;
  const uint8_t walk_bits = WalkBitsOf(old_entry);
  RemoveEntry(old, Reason::kReplaced, hash, announce);
  CHECK(LinkEntry(0, hash, walk_bits));
  *ref = lru_.head();
  return Status::kStored;
}

void Shard::Concat(const Request& request, uint64_t hash, const Now& now, Outcome* outcome, ConcatSteps* steps) {
  const Found found = Lookup(request.key, hash, now, Purpose::kOther, StaleTo(request));
  Ref ref = found.ref;
  Status status = Condition(request, found);
  Codec codec;
  if (status == Status::kStored && !JoinCodecs(CodecOf(At(ref)), request.codec, request.value, &codec)) {
    status = Status::kNotStored;
  }
  if (status != Status::kStored) {
    if (found.is_live()) Describe(At(ref), now, outcome);
    outcome->status = status;
    return;
  }
  const EntryHeader* entry = At(ref);
  NewEntry from = KeptOf(entry, request.key);
  from.value_bytes += request.value.size();
  from.codec = codec;
  const uint64_t version = entry->version;
  if (from.value_bytes > state_->value_bytes_max) {
    state_->counters.too_large++;
    outcome->version = version;
    outcome->status = Status::kTooLarge;
    return;
  }
  if (!recorder_.ReserveSet(from)) {
    outcome->status = Status::kLogFull;
    return;
  }
  const bool append = request.verb == Verb::kAppend;
  const bool little = request.value.size() <= kConcatCopiedBytesMax;
  if (append && little && (entry->flags & kEntryChunked) && PinsOf(entry) == 0) {
    status = Extend(&ref, from, request.value, now);
  } else if (steps != nullptr && from.value_bytes > kConcatCopiedBytesMax && BeginConcat(from, ref, steps, &status)) {
    return;
  } else if (status == Status::kStored) {
    status = Rebuild(&ref, from, append ? std::string_view{} : request.value,
                     append ? request.value : std::string_view{}, hash, now, true);
  }
  if (status == Status::kStored) {
    FinishConcat(ref, hash, now, outcome);
    return;
  }
  outcome->version = version;
  if (status == Status::kTooLarge) {
    state_->counters.too_large++;
  } else {
    status = recorder_.NoMemory(status);
  }
  outcome->status = status;
}

void Shard::FinishConcat(Ref ref, uint64_t hash, const Now& now, Outcome* outcome) {
  At(ref)->version = recorder_.NextVersion();
  FinishStore(ref, RecordKind::kSet, At(ref)->version, now, outcome);
  state_->counters.sets++;
  if (!fills_.empty()) [[unlikely]]
    fills_.Void(hash);
  table_.Adjust();
  outcome->status = Status::kStored;
}

// What remains of it is done under later holds of the lock. False: there is no place for another body, or *status says
// why it cannot be.
bool Shard::BeginConcat(const NewEntry& from, Ref old, ConcatSteps* steps, Status* status) {
  const Layout layout = memory_.LayoutOf(from);
  if (layout.charge > memory_.state().limit_bytes) {
    *status = Status::kTooLarge;
    return false;
  }
  int slot = kEntrySlots - 1;
  while (slot > 0 && memory_.InSlot(slot) != 0) slot--;
  if (slot == 0) return false;
  // Both exist for a while; the old one, now the newest, is not evicted for the new one.
  Bump(old);
  if (!steps->room_in_one && RoomStep(layout, true)) {
    steps->wants_room = true;
    return true;
  }
  if (!MakeRoom(layout.charge, false, true) || !memory_.Allocate(from, layout, slot)) {
    *status = Status::kNoMemory;
    return false;
  }
  old = lru_.head();
  EntryHeader* entry = At(memory_.InSlot(slot));
  memory_.WriteStream(entry, 0, from.key.data(), from.key.size());
  memory_.AddSlotBytes(layout.charge);
  state_->body_written_ms[slot] = 0;
  steps->slot = slot;
  steps->version = At(old)->version;
  steps->old_bytes = At(old)->value_bytes;
  return true;
}

bool Shard::CopyConcat(const ConcatSteps& steps, std::string_view key, uint64_t hash, size_t from, size_t to,
                       size_t bytes) {
  const Ref old = Find(key, hash);
  if (old == 0 || IsDead(At(old)) || At(old)->version != steps.version) return false;
  EntryHeader* entry = At(memory_.InSlot(steps.slot));
  size_t offset = KeyBytesOf(entry) + to;
  memory_.VisitStream(At(old), KeyBytesOf(At(old)) + from, bytes, [&](const char* piece, size_t piece_bytes) {
    memory_.WriteStream(entry, offset, piece, piece_bytes);
    offset += piece_bytes;
  });
  return true;
}

bool Shard::EndConcat(const ConcatSteps& steps, const Request& request, uint64_t hash, const Now& now,
                      Outcome* outcome) {
  SettleTouches();
  const Found found = Lookup(request.key, hash, now, Purpose::kOther, StaleTo(request));
  const Ref old = found.ref;
  if (!found.is_live() || At(old)->version != steps.version || Condition(request, found) != Status::kStored) {
    return false;
  }
  EntryHeader* entry = At(memory_.InSlot(steps.slot));
  NewEntry from;
  from.key = request.key;
  from.value_bytes = entry->value_bytes;
  from.client_flags = ClientFlagsOf(entry);
  if (!recorder_.ReserveSet(from, Recorder::EntryIs::kInSlot)) {
    Abandon(steps.slot);
    outcome->status = Status::kLogFull;
    return true;
  }
  ExpiryOf(entry)->expires_ms = ExpiresMsOf(At(old));
  entry->flags |= At(old)->flags & kEntryFetched;
  StampAccess(entry, now);
  const uint8_t walk_bits = WalkBitsOf(At(old));
  RemoveEntry(old, Reason::kReplaced, hash);
  entry = At(memory_.InSlot(steps.slot));
  memory_.RemoveSlotBytes(steps.slot);
  // As a rebuilt entry has it until it gets its own.
  entry->version = steps.version;
  CHECK(LinkEntry(steps.slot, hash, walk_bits));
  FinishConcat(lru_.head(), hash, now, outcome);
  return true;
}

void Shard::Count(const Request& request, uint64_t hash, const Now& now, Outcome* outcome) {
  const bool incr = request.verb == Verb::kIncr;
  StoreStats* counters = &state_->counters;
  const auto [old, presence] = Lookup(request.key, hash, now, Purpose::kOther, StaleTo(request));
  char digits[kDecimalBytesMax];
  if (presence != Presence::kLive) {
    outcome->status = MeetPresence(request.verb, presence);
    if (outcome->status != Status::kNotFound) return;
    (incr ? counters->incr_misses : counters->decr_misses)++;
    if (!request.has_initial) return;
    NewEntry from;
    from.key = request.key;
    from.fresh_until_ms = request.fresh_until_ms;
    const auto end = std::to_chars(digits, digits + sizeof digits, request.initial).ptr;
    from.value_bytes = static_cast<uint64_t>(end - digits);
    from.codec = request.codec;
    from.client_flags = request.client_flags;
    from.expires_ms = request.expires_ms == kKeepExpiry ? kNeverExpires : request.expires_ms;
    outcome->status = Put(from, {digits, static_cast<size_t>(end - digits)}, hash, old, 0, now, outcome);
    if (outcome->status == Status::kStored) {
      outcome->number = request.initial;
      if (!fills_.empty()) [[unlikely]]
        fills_.Void(hash);
    }
    return;
  }
  const EntryHeader* entry = At(old);
  if (request.has_compare && entry->version != request.compare) {
    Describe(entry, now, outcome);
    outcome->status = Status::kExists;
    return;
  }
  const Codec codec = CodecOf(entry);
  uint64_t number = 0;
  bool numeric = codec != Codec::kJson && codec != Codec::kStructured && entry->value_bytes <= kDecimalBytesMax;
  if (numeric) {
    memory_.ReadStream(entry, KeyBytesOf(entry), digits, entry->value_bytes);
    numeric = ParseDecimal(digits, entry->value_bytes, &number);
  }
  if (!numeric) {
    outcome->version = entry->version;
    outcome->status = Status::kNonNumeric;
    return;
  }
  if (incr) {
    number += request.delta;
  } else {
    number -= std::min(number, request.delta);
  }
  const auto end = std::to_chars(digits, digits + sizeof digits, number).ptr;
  size_t length = static_cast<size_t>(end - digits);
  if (request.pad_decimal && length < entry->value_bytes) {
    std::memset(digits + length, ' ', entry->value_bytes - length);
    length = entry->value_bytes;
  }
  NewEntry from = KeptOf(entry, request.key);
  from.value_bytes = length;
  const Status status = Put(from, {digits, length}, hash, old, 0, now, outcome);
  if (status != Status::kStored) {
    if (status == Status::kNoMemory && !fills_.empty()) fills_.Void(hash);
    outcome->status = status;
    return;
  }
  (incr ? counters->incr_hits : counters->decr_hits)++;
  if (!fills_.empty()) [[unlikely]]
    fills_.Void(hash);
  outcome->number = number;
  outcome->status = Status::kFound;
}

Status Shard::SetExpiry(Ref* ref, std::string_view key, uint64_t expires_ms, uint64_t hash, const Now& now) {
  EntryHeader* entry = At(*ref);
  const bool timed = IsTimed(entry);
  if (expires_ms == kKeepExpiry || (expires_ms == kNeverExpires && !timed)) return Status::kStored;
  NewEntry from = KeptOf(entry, key);
  from.expires_ms = expires_ms;
  // A chunked entry changes its head, which a reader behind a pin never looks at; unless it is one that fits into a
  // single chunk without an expiry.
  const bool stays_chunked =
      (entry->flags & kEntryChunked) && (expires_ms != kNeverExpires || (memory_.LayoutOf(from).flags & kEntryChunked));
  if (stays_chunked || (expires_ms != kNeverExpires && timed)) {
    if (timed) wheel_.Remove(*ref);
    ExpiryOf(entry)->expires_ms = expires_ms;
    if (expires_ms != kNeverExpires) wheel_.Add(*ref);
    return Status::kStored;
  }
  // A touch is no access, whether or not it needs another layout.
  const uint32_t access_s = (entry->flags & kEntryHasAccess) ? LoadU32(BytesOf(entry) + OffsetsOf(entry).access) : 0;
  const Status status = Rebuild(ref, from, {}, {}, hash, now, false);
  // The entry is as it was, but what was tried may have moved it: *ref says nothing now.
  if (status != Status::kStored) return status;
  entry = At(*ref);
  if (entry->flags & kEntryHasAccess) StoreU32(BytesOf(entry) + OffsetsOf(entry).access, access_s);
  return status;
}

void Shard::Touch(const Request& request, uint64_t hash, const Now& now, Scratch* scratch, bool may_pin,
                  Outcome* outcome) {
  const bool get = request.verb == Verb::kGetAndTouch;
  StoreStats* counters = &state_->counters;
  const Found found = Lookup(request.key, hash, now, get ? Purpose::kGet : Purpose::kOther, StaleTo(request));
  Ref ref = found.ref;
  if (!found.is_live()) {
    outcome->status = MeetPresence(request.verb, found.presence);
    if (outcome->status != Status::kNotFound) return;
    counters->touches++;
    if (get) CountMiss();
    return;
  }
  if (request.has_compare && At(ref)->version != request.compare) {
    Describe(At(ref), now, outcome);
    outcome->status = Status::kExists;
    return;
  }
  if (!recorder_.ReserveKey(request.key.size())) {
    outcome->status = Status::kLogFull;
    return;
  }
  const size_t scratch_used = scratch == nullptr ? 0 : scratch->used;
  if (get && !request.no_value && !GiveValue(ref, scratch, may_pin, outcome)) return;
  Describe(At(ref), now, outcome);
  const Status status = SetExpiry(&ref, request.key, request.expires_ms, hash, now);
  if (status != Status::kStored) {
    if (outcome->pin.ref != 0) Unpin(outcome->pin.ref);
    if (scratch != nullptr) scratch->used = scratch_used;
    outcome->pin = {};
    outcome->has_value = false;
    outcome->status = recorder_.NoMemory(status);
    return;
  }
  counters->touches++;
  counters->touch_hits++;
  EntryHeader* entry = At(ref);
  if (get) {
    counters->gets++;
    counters->hits++;
    if (!request.no_bump) {
      entry->flags |= kEntryFetched;
      StampAccess(entry, now);
    }
  }
  if (!request.no_bump) Bump(ref);
  outcome->record_version = recorder_.NextVersion();
  recorder_.LeaveEntry(RecordKind::kTouch, ref, outcome->record_version, now);
  if (IsTimed(entry)) recorder_.NoteGone(outcome->record_version);
  outcome->expires_ms = ExpiresMsOf(entry);
  outcome->fresh_until_ms = FreshUntilOf(entry);
  outcome->status = Status::kFound;
  table_.Adjust();
}

void Shard::Remove(const Request& request, uint64_t hash, const Now& now, Scratch* scratch, bool may_pin,
                   Outcome* outcome) {
  StoreStats* counters = &state_->counters;
  const bool evict = request.verb == Verb::kEvict;
  const Found found = Lookup(request.key, hash, now, Purpose::kOther, evict ? StaleIs::kLive : StaleTo(request));
  const Ref ref = found.ref;
  outcome->status = MeetPresence(request.verb, found.presence);
  if (outcome->status == Status::kNotFound) return RemoveAbsent(request, found, hash, outcome);
  if (outcome->status != Status::kStored) return;
  if (request.has_compare && At(ref)->version != request.compare) {
    Describe(At(ref), now, outcome);
    outcome->status = Status::kExists;
    return;
  }
  if (!evict && !recorder_.ReserveKey(request.key.size())) {
    outcome->status = Status::kLogFull;
    return;
  }
  if (request.verb == Verb::kTake && !request.no_value &&
      !GiveValue(ref, scratch, may_pin && !request.no_pin, outcome)) {
    return;
  }
  Describe(At(ref), now, outcome);
  outcome->version = 0;
  if (!evict) {
    counters->deletes++;
    counters->delete_hits++;
    outcome->record_version = recorder_.LeaveDelete(request.key);
  }
  if (!fills_.empty()) [[unlikely]]
    fills_.Void(hash);
  RemoveEntry(ref, evict ? Reason::kEvicted : Reason::kDeleted, hash);
  outcome->status = Status::kFound;
}

void Shard::RemoveAbsent(const Request& request, Found found, uint64_t hash, Outcome* outcome) {
  // `take` and a delete of a version found nothing and change nothing. An unconditional delete takes a stale entry out,
  // and leaves a record in any case: the log may still hold the value of an evicted entry.
  const bool is_delete = request.verb == Verb::kDelete && !request.has_compare;
  if (is_delete && recorder_.keeps_records()) {
    if (!recorder_.ReserveKey(request.key.size())) {
      outcome->status = Status::kLogFull;
      return;
    }
    outcome->record_version = recorder_.LeaveDelete(request.key);
  }
  if (is_delete && found.ref != 0) RemoveEntry(found.ref, Reason::kDeleted, hash);
  if (request.verb != Verb::kEvict) state_->counters.deletes++;
  // The delete of an absent key still says that what a load brings back may be old.
  if (!fills_.empty()) [[unlikely]]
    fills_.Void(hash);
}

bool Shard::BeginFill(std::string_view key, uint64_t hash, bool if_absent, const Now& now, FillTicket* ticket) {
  if (if_absent && Lookup(key, hash, now, Purpose::kOther, StaleIs::kAbsent).is_live()) return false;
  fills_.Begin(hash, ticket);
  return true;
}

// ---- bodies ----

NewEntry Shard::BodyEntryOf(const Request& request, uint32_t value_bytes) {
  NewEntry entry;
  entry.key = request.key;
  entry.value_bytes = value_bytes;
  entry.codec = request.codec;
  entry.client_flags = request.client_flags;
  // That of the entry which it is to replace is known when it does: a chunked entry has room for it.
  entry.expires_ms = request.expires_ms == kKeepExpiry ? kNeverExpires : request.expires_ms;
  entry.fresh_until_ms = request.fresh_until_ms;
  return entry;
}

int Shard::FreeBodySlot(uint64_t charge) const {
  if (memory_.state().slot_bytes + charge > memory_.state().limit_bytes / 2) return 0;
  for (int slot = 1; slot < kEntrySlots; slot++) {
    if (memory_.InSlot(slot) == 0) return slot;
  }
  return 0;
}

void Shard::TakeStalledBodies(uint64_t charge, const Now& now) {
  const auto stalled = [this, &now](int slot) {
    return memory_.InSlot(slot) != 0 && state_->body_written_ms[slot] != 0 &&
           state_->body_written_ms[slot] + kBodyStalledMs <= now.boot_ms;
  };
  uint64_t bytes = 0;
  for (int slot = 1; slot < kEntrySlots; slot++) {
    if (stalled(slot)) bytes += memory_.ChargeOf(At(memory_.InSlot(slot)), memory_.InSlot(slot));
  }
  // Nobody loses one for nothing.
  if (bytes == 0 || memory_.state().slot_bytes - bytes + charge > memory_.state().limit_bytes / 2) return;
  while (FreeBodySlot(charge) == 0) {
    int oldest = 0;
    for (int slot = 1; slot < kEntrySlots; slot++) {
      if (!stalled(slot)) continue;
      if (oldest == 0 || state_->body_written_ms[slot] < state_->body_written_ms[oldest]) oldest = slot;
    }
    if (oldest == 0) return;
    Abandon(oldest);
  }
}

bool Shard::MakeRoomStep(const Request& request, uint32_t value_bytes, const Now& now) {
  SettleTouches();
  const Layout layout = memory_.LayoutOf(BodyEntryOf(request, value_bytes));
  if (value_bytes > state_->value_bytes_max || layout.charge > memory_.state().limit_bytes ||
      recorder_.HoldsRoomFor(layout.charge)) {
    return false;
  }
  TakeStalledBodies(layout.charge, now);
  if (FreeBodySlot(layout.charge) == 0) return false;
  return RoomStep(layout, false);
}

Status Shard::Reserve(const Request& request, uint64_t hash, uint32_t value_bytes, const Now& now, int* slot) {
  SettleTouches();
  const NewEntry from = BodyEntryOf(request, value_bytes);
  const Layout layout = memory_.LayoutOf(from);
  Outcome unused;
  // A set that would not be made (another version, a load that was overtaken) takes nothing away when it is refused.
  const auto refuse = [&](Status status) {
    const Found old = Look(request.key, hash, now, StaleTo(request));
    const Verb verb = Condition(request, old) == Status::kStored ? request.verb : Verb::kAdd;
    return Refuse(status, verb, request.key, hash, &unused);
  };
  if (value_bytes > state_->value_bytes_max || layout.charge > memory_.state().limit_bytes) {
    return refuse(Status::kTooLarge);
  }
  if (recorder_.HoldsRoomFor(layout.charge)) {
    state_->counters.log_full++;
    return Status::kLogFull;
  }
  DCHECK(request.expires_ms != kKeepExpiry || (layout.flags & kEntryChunked));
  TakeStalledBodies(layout.charge, now);
  const int free_slot = FreeBodySlot(layout.charge);
  if (free_slot == 0) {
    // That others are being received is no reason to lose what is there.
    state_->counters.no_memory++;
    return Status::kNoMemory;
  }
  if (!MakeRoom(layout.charge, false, false) || !memory_.Allocate(from, layout, free_slot)) {
    return refuse(Status::kNoMemory);
  }
  EntryHeader* entry = At(memory_.InSlot(free_slot));
  memory_.WriteStream(entry, 0, request.key.data(), request.key.size());
  memory_.AddSlotBytes(layout.charge);
  state_->body_written_ms[free_slot] = now.boot_ms;
  *slot = free_slot;
  return Status::kStored;
}

void Shard::WriteBody(int slot, size_t offset, std::string_view bytes, const Now& now) {
  EntryHeader* entry = At(memory_.InSlot(slot));
  if (now.boot_ms != 0) state_->body_written_ms[slot] = now.boot_ms;
  CHECK(offset + bytes.size() <= entry->value_bytes);
  memory_.WriteStream(entry, KeyBytesOf(entry) + offset, bytes.data(), bytes.size());
}

void Shard::Abandon(int slot) {
  const Ref ref = memory_.InSlot(slot);
  CHECK(slot > 0 && slot < kEntrySlots && ref != 0);
  memory_.RemoveSlotBytes(slot);
  memory_.TakeFromSlot(slot);
  state_->body_generations[slot]++;
  memory_.Free(ref);
}

void Shard::Link(int slot, const Request& request, uint64_t hash, const Now& now, Outcome* outcome) {
  SettleTouches();
  StoreStats* counters = &state_->counters;
  const Found found = Lookup(request.key, hash, now, Purpose::kOther, StaleTo(request));
  const Ref old = found.ref;
  const Status condition = Condition(request, found);
  if (request.verb == Verb::kCas) {
    if (condition == Status::kNotFound) counters->cas_misses++;
    if (condition == Status::kExists) counters->cas_exists++;
  }
  if (condition != Status::kStored) {
    if (found.is_live()) Describe(At(old), now, outcome);
    Abandon(slot);
    outcome->status = condition;
    return;
  }
  if (!recorder_.ReserveSet(BodyEntryOf(request, At(memory_.InSlot(slot))->value_bytes), Recorder::EntryIs::kInSlot)) {
    state_->body_written_ms[slot] = 0;  // it is whole: what it waits for is not its sender
    outcome->status = Status::kLogFull;
    return;
  }
  uint8_t walk_bits = state_->walk_parity;
  if (request.expires_ms == kKeepExpiry && found.is_live()) {
    ExpiryOf(At(memory_.InSlot(slot)))->expires_ms = ExpiresMsOf(At(old));
  }
  if (old != 0) {
    walk_bits = WalkBitsOf(At(old));
    RemoveEntry(old, Reason::kReplaced, hash);
  }
  MakeRoom(0, true, false);
  EntryHeader* entry = At(memory_.InSlot(slot));
  memory_.RemoveSlotBytes(slot);
  StampAccess(entry, now);
  entry->version = recorder_.NextVersion();
  CHECK(LinkEntry(slot, hash, walk_bits));
  counters->sets++;
  if (request.verb == Verb::kCas) counters->cas_hits++;
  FinishStore(lru_.head(), RecordKind::kSet, At(lru_.head())->version, now, outcome);
  if (!fills_.empty()) [[unlikely]]
    fills_.Void(hash);
  table_.Adjust();
  outcome->status = Status::kStored;
}

// ---- records coming in ----

void Shard::MakeRoomFromExpired(const RecordView& record, const Now& now) {
  if (record.kind != RecordKind::kSet || wheel_.empty()) return;
  NewEntry entry;
  entry.key = record.key;
  entry.value_bytes = record.value.size();
  entry.client_flags = record.client_flags;
  entry.expires_ms = record.expires_wall_ms == 0 ? kNeverExpires : kAlreadyExpired;
  const uint64_t charge = memory_.LayoutOf(entry).charge;
  while (memory_.state().charged_bytes + charge > memory_.state().limit_bytes ||
         (state_->entries_limit != 0 && state_->live_entries + state_->dead_entries >= state_->entries_limit)) {
    int budget = kStepEntriesMax;
    const Ref ref = wheel_.Advance(now.boot_ms, &budget);
    if (ref != 0) {
      RemoveEntry(ref, Reason::kExpired);
    } else if (budget >= 0) {
      return;
    }
  }
}

Status Shard::Apply(const RecordView& record, uint64_t hash, const Now& now, bool keep_version) {
  SettleTouches();
  Outcome outcome;
  // While a log is read back, what has expired stays until memory is needed: a touch further on may say that it lives.
  const bool recovering = keep_version && state_->recovering;
  if (recovering) MakeRoomFromExpired(record, now);
  const bool expires = record.expires_wall_ms != 0;
  const bool expired = expires && record.expires_wall_ms <= now.wall_ms && !recovering;
  const uint64_t expires_ms =
      !expires ? kNeverExpires
               : static_cast<uint64_t>(std::max<int64_t>(record.expires_wall_ms - now.WallOffset(), kAlreadyExpired));
  Ref old = Find(record.key, hash);
  if (old != 0 && (IsDead(At(old)) || (IsExpired(At(old), now) && !recovering))) {
    RemoveEntry(old, IsDead(At(old)) ? Reason::kCleared : Reason::kExpired, hash);
    old = 0;
  }
  if (keep_version) {
    if (record.version < state_->cleared_version) return Status::kNotStored;
    recorder_.NoteVersion(record.version);
    if (old != 0 && At(old)->version >= record.version) return Status::kNotStored;
  }
  Status status = Status::kNotFound;
  switch (record.kind) {
    case RecordKind::kSet: {
      if (expired) {
        // It has expired since: what it replaced is gone all the same.
        if (!keep_version && (old != 0 || recorder_.keeps_records())) {
          if (!recorder_.ReserveKey(record.key.size())) return Status::kLogFull;
          recorder_.LeaveDelete(record.key);
        }
        // What a load began to fetch before it may be older.
        if (!fills_.empty()) fills_.Void(hash);
        if (old == 0) return Status::kNotStored;
        RemoveEntry(old, Reason::kReplaced, hash);
        return Status::kNotStored;
      }
      NewEntry from;
      from.key = record.key;
      from.value_bytes = record.value.size();
      from.codec = static_cast<Codec>(record.codec);
      from.client_flags = record.client_flags;
      from.expires_ms = expires_ms;
      std::optional<Recorder::Silence> silence;
      if (keep_version) silence.emplace(&recorder_);
      status = Put(from, record.value, hash, old, keep_version ? record.version : 0, now, &outcome);
      if (keep_version && status == Status::kStored) recorder_.NoteStored(record.version);
      // As after a set: what the record says is newer than what is here, though it cannot be held.
      if (status == Status::kTooLarge) status = Refuse(status, Verb::kSet, record.key, hash, &outcome);
      break;
    }
    case RecordKind::kTouch: {
      if (old == 0) return Status::kNotFound;
      if (!keep_version && !recorder_.ReserveKey(record.key.size())) return Status::kLogFull;
      status = SetExpiry(&old, record.key, expires_ms, hash, now);
      if (status != Status::kStored && !keep_version) return recorder_.NoMemory(status);
      if (status != Status::kStored) {
        // Better gone than there for longer than it should be.
        state_->counters.no_memory++;
        RemoveEntry(Find(record.key, hash), Reason::kEvicted, hash);
        return status;
      }
      if (!keep_version) {
        const uint64_t version = recorder_.NextVersion();
        recorder_.LeaveEntry(RecordKind::kTouch, old, version, now);
        if (expires) recorder_.NoteGone(version);
      }
      table_.Adjust();
      break;
    }
    case RecordKind::kDelete: {
      if (!keep_version && (old != 0 || recorder_.keeps_records())) {
        if (!recorder_.ReserveKey(record.key.size())) return Status::kLogFull;
        recorder_.LeaveDelete(record.key);
      }
      if (old == 0) return Status::kNotFound;
      RemoveEntry(old, Reason::kDeleted, hash);
      status = Status::kStored;
      break;
    }
    case RecordKind::kClear:
    case RecordKind::kClearAt:
      CHECK(false);  // the store's
  }
  if (!fills_.empty()) [[unlikely]]
    fills_.Void(hash);
  return status;
}

}  // namespace cairn
