// Shard: storing a value, from its conditions to its record; counters; values that come in pieces.
#include "store/shard.h"

#include <algorithm>
#include <charconv>
#include <cstring>
#include <optional>
#include <utility>

#include "store/shard_inl.h"

namespace cairn {

namespace {

// In an entry that is received and will keep the freshness of another one: the field is there, Link() fills it.
constexpr uint64_t kFreshUntilTheLink = ~uint64_t{0};

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

// The number that the value of an entry is in decimal. False: it is not a number.
bool ReadNumber(const EntryMemory& memory, const EntryHeader* entry, uint64_t* number) {
  const Codec codec = CodecOf(entry);
  if (codec == Codec::kJson || codec == Codec::kStructured || entry->value_bytes > kDecimalBytesMax) return false;
  char digits[kDecimalBytesMax];
  memory.ReadStream(entry, KeyBytesOf(entry), digits, entry->value_bytes);
  return ParseDecimal(digits, entry->value_bytes, number);
}

NewEntry BodyEntryOf(const Request& request, uint32_t value_bytes) {
  NewEntry entry;
  entry.key = request.key;
  entry.value_bytes = value_bytes;
  entry.codec = request.codec;
  entry.client_flags = request.client_flags;
  entry.expires_ms = request.expires_ms;
  entry.fresh_until_ms = request.fresh_until_ms;
  if (request.expires_ms == kKeepExpiry) {
    // The expiry of the replaced entry is known at the link. A chunked entry always has the field of the expiry; this
    // asks for that of the freshness.
    entry.expires_ms = request.keep_else_ms;
    entry.fresh_until_ms = kFreshUntilTheLink;
  }
  // The field has to be there, for the expiry of a stub.
  if (request.from_backend && entry.expires_ms == kNeverExpires) entry.expires_ms = kAlreadyExpired;
  if (request.meta != nullptr) {
    entry.marks.cas = request.meta->cas;
    // The field has to be there, for a value that turns out to be older than what it replaces.
    if (request.meta->has_binary_key || request.meta->accepts_lower) entry.marks.bits = kMarkBinaryKey;
  }
  return entry;
}

}  // namespace

Status Shard::ConditionOf(const Request& request, Found found) const {
  const Status status = MeetPresence(request, found.presence);
  if (status != Status::kStored) return status;
  const bool compares = request.has_compare || request.verb == Verb::kCas;
  if (compares && found.is_live() && CasOf(At(found.ref)) != request.compare && !IsLower(request, found)) {
    return Status::kExists;
  }
  if (request.fill != nullptr && request.fill->voided()) return Status::kExists;
  if (request.from_backend && BlocksFill(found)) return Status::kExists;
  return Status::kStored;
}

Status Shard::Refuse(Status status, Verb verb, std::string_view key, uint64_t hash, Outcome* outcome) {
  if (status == Status::kTooLarge) {
    state_->counters.too_large++;
  } else {
    state_->counters.no_memory++;
  }
  if (verb != Verb::kSet) return status;
  VoidFills(hash);
  const Ref old = entries_.Find(key, hash);
  const bool present = old != 0 && !entries_.IsDead(At(old));
  // Of an entry that was evicted the log may still have the value.
  if (!present && !recorder_.keeps_records()) return status;
  if (!recorder_.ReserveKey(key.size())) return Status::kLogFull;
  return LoseOld(status, key, hash, outcome);
}

bool Shard::BlocksFill(Found found) const {
  if (found.ref == 0) return false;
  if (found.is_live()) return true;
  const EntryHeader* entry = At(found.ref);
  if (IsStub(entry)) return found.presence == Presence::kAbsent || KindOfStub(entry) != StubKind::kExpiry;
  return entries_.debts().Owes(entry);
}

Status Shard::LoseOld(Status status, std::string_view key, uint64_t hash, Outcome* outcome) {
  entries_.SettleTouches();
  const Ref old = entries_.Find(key, hash);
  if (owed_flag_ != 0 && room_.MakeForStub(old, key) != Status::kStored) return Status::kLogFull;
  const bool present = old != 0 && !entries_.IsDead(At(old));
  const Ref ref = present || owed_flag_ != 0 ? old : 0;
  return LeaveDelete(ref, key, hash, Reason::kReplaced, &outcome->record_version) ? status : Status::kLogFull;
}

void Shard::FinishStore(Ref ref, const Now& now, Outcome* outcome) {
  const EntryHeader* entry = At(ref);
  recorder_.LeaveEntry(RecordKind::kSet, ref, entry->version, now);
  outcome->version = CasOf(entry);
  outcome->record_version = entry->version;
  outcome->expires_ms = ExpiresMsOf(entry);
  outcome->fresh_until_ms = FreshUntilOf(entry);
  outcome->codec = CodecOf(entry);
  outcome->client_flags = ClientFlagsOf(entry);
  outcome->value_bytes = entry->value_bytes;
}

void Shard::FinishWrite(const NewEntry& from, std::string_view value, Ref ref, uint64_t version, const Now& now,
                        Outcome* outcome) {
  if (recorder_.keeps_records()) [[unlikely]]
    recorder_.LeaveSet(from, value.data(), ref, version, now);
  outcome->version = from.marks.cas != 0 ? from.marks.cas : version;
  outcome->record_version = version;
  outcome->expires_ms = from.expires_ms;
  outcome->fresh_until_ms = from.fresh_until_ms;
  outcome->codec = from.codec;
  outcome->client_flags = from.client_flags;
  outcome->value_bytes = static_cast<uint32_t>(value.size());
}

Status Shard::RefuseWrite(Status room, bool is_lost, std::string_view key, uint64_t hash, Outcome* outcome) {
  if (room == Status::kLogFull) return room;
  state_->counters.no_memory++;
  // A record that is read back and owed becomes a stub (ApplyAsStub()), in place of what is there.
  if (owed_flag_ != 0 && !recorder_.keeps_records()) return Status::kNoMemory;
  // The old entry is gone: the log must say so. A delete's record fits into what was reserved.
  return is_lost ? LoseOld(Status::kNoMemory, key, hash, outcome) : Status::kNoMemory;
}

void Shard::DropStub(std::string_view key, uint64_t hash) {
  const Ref stub = entries_.Find(key, hash);
  if (stub != 0) entries_.Leave(stub, Reason::kReplaced, hash);
}

Status Shard::Write(const NewEntry& from, std::string_view value, uint64_t hash, Ref old, uint64_t version,
                    const Now& now, Outcome* outcome) {
  const Layout layout = memory_.LayoutOf(from);
  if (!FitsAtAll(from, layout)) return Status::kTooLarge;
  if (!recorder_.ReserveSet(from)) return Status::kLogFull;
  if (old != 0 && WriteInPlace(from, layout, value, old, version, now)) {
    FinishWrite(from, value, old, At(old)->version, now, outcome);
    return Status::kStored;
  }
  entries_.SettleTouches();
  uint8_t walk_bits = entries_.emitted_bits();
  bool over_stub = false;
  if (entries_.debts().has_backend()) [[unlikely]] {
    over_stub = old != 0 && IsStub(At(old));
    const Status plan = room_.Plan(layout.charge, RoomFor::kNewEntry, old);
    if (plan != Status::kStored) return RefuseWrite(plan, old != 0 && !over_stub, from.key, hash, outcome);
    if (old != 0 && !over_stub && entries_.debts().Owes(At(old))) {
      // Without memory for the new entry, the key still has its debt.
      if (!entries_.IsDead(At(old))) walk_bits = WalkBitsOf(At(old));
      if (!entries_.LeaveForStub(old, hash, Reason::kReplaced)) return RefuseStub();
      over_stub = true;
    }
    if (over_stub) old = 0;
  }
  if (old != 0) {
    if (!entries_.IsDead(At(old))) walk_bits = WalkBitsOf(At(old));
    entries_.Leave(old, Reason::kReplaced, hash);
  }
  const Status room = room_.MakePlanned(layout.charge, RoomFor::kNewEntry);
  if (room != Status::kStored || !memory_.Allocate(from, layout, 0)) [[unlikely]] {
    return RefuseWrite(room, old != 0, from.key, hash, outcome);
  }
  // The stub stays until its key has another entry, which may have moved it, or freed it.
  if (over_stub) [[unlikely]]
    DropStub(from.key, hash);
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
  entry->flags |= owed_flag_;
  if (!entries_.Enter(0, hash, walk_bits)) [[unlikely]] {
    CHECK(entries_.debts().has_backend());
    memory_.Free(memory_.TakeFromSlot(0));
    return RefuseStub();
  }
  if (version == 0) version = recorder_.NextVersion();
  At(entries_.newest())->version = version;
  FinishWrite(from, value, entries_.newest(), version, now, outcome);
  entries_.Adjust();
  return Status::kStored;
}

void Shard::StoreFill(Found old, const Request& request, uint64_t hash, const Now& now, Outcome* outcome) {
  outcome->status = ConditionOf(request, old);
  if (outcome->status != Status::kStored) {
    if (old.is_live()) Describe(At(old.ref), now, outcome);
    return;
  }
  NewEntry from;
  from.key = request.key;
  from.value_bytes = request.value.size();
  from.codec = request.codec;
  from.client_flags = request.client_flags;
  from.value_may_change = request.value_may_change;
  from.expires_ms = request.expires_ms;
  from.fresh_until_ms = request.fresh_until_ms;
  if (request.is_absence) from.extra_flags = kEntryNegative;
  const bool over_stub = old.ref != 0 && IsStub(At(old.ref));
  if (over_stub && request.is_absence) {
    // The row may only seem to be gone, because its expiry has passed that the stub replaces.
    outcome->status = Status::kExists;
    return;
  }
  if (over_stub) {
    from.expires_ms = ExpiresMsOf(At(old.ref));
    from.extra_flags = kEntryRetimed;
  }
  if (request.only_free_room && room_.IsFull(memory_.LayoutOf(from).charge, RoomFor::kNewEntry)) {
    outcome->status = Status::kNoMemory;
    return;
  }
  const Quiet quiet(this, 0);
  outcome->status = Write(from, request.value, hash, old.ref, 0, now, outcome);
  outcome->record_version = 0;
  if (outcome->status == Status::kStored) {
    state_->counters.sets++;
  } else if (outcome->status == Status::kTooLarge) {
    state_->counters.too_large++;
  }
  VoidFills(hash);
}

void Shard::StoreValue(Found old, const Request& request, uint64_t hash, const Now& now, Outcome* outcome) {
  if (request.from_backend) [[unlikely]]
    return StoreFill(old, request, hash, now, outcome);
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
  from.fresh_until_ms = request.fresh_until_ms;
  if (request.expires_ms == kKeepExpiry) {
    from.expires_ms = old.is_live() ? ExpiresMsOf(At(old.ref)) : request.keep_else_ms;
    if (old.is_live()) from.fresh_until_ms = FreshUntilOf(At(old.ref));
  }
  if (request.meta != nullptr) [[unlikely]]
    ApplyMeta(request, old, &from);
  Status status = Write(from, request.value, hash, old.ref, 0, now, outcome);
  if (status == Status::kStored) {
    counters->sets++;
    if (request.verb == Verb::kCas) counters->cas_hits++;
    VoidFills(hash);
  } else if (status == Status::kTooLarge) {
    status = Refuse(status, request.verb, request.key, hash, outcome);
  } else if (status == Status::kNoMemory) {
    VoidFills(hash);
    // As Refuse(): of an entry that was evicted the log may still have the value. Room was reserved for more than this.
    if (request.verb == Verb::kSet && recorder_.keeps_records() && outcome->record_version == 0) {
      status = LoseOld(status, request.key, hash, outcome);
    }
  }
  outcome->status = status;
}

Status Shard::Rewrite(Ref* ref, const NewEntry& from, std::string_view before, std::string_view behind, uint64_t hash,
                      const Now& now, Farewell farewell) {
  const Layout layout = memory_.LayoutOf(from);
  EntryHeader* entry = At(*ref);
  const size_t key_bytes = from.key.size();
  const uint32_t old_value_bytes = entry->value_bytes;
  const uint64_t version = entry->version;
  if (!((entry->flags | layout.flags) & kEntryChunked) && PinsOf(entry) == 0 &&
      memory_.arena()->ClassAt(*ref) == layout.size_class) {
    if (farewell == Farewell::kTold) entries_.Announce(Reason::kReplaced, entry);
    const Entries::Edit edit(&entries_, *ref);
    const char* old_value = BytesOf(entry) + StreamOffsetOf(entry->flags, IsLongKey(entry)) + key_bytes;
    char* stream = BytesOf(entry) + StreamOffsetOf(layout.flags, layout.long_key);
    std::memmove(stream + key_bytes + before.size(), old_value, old_value_bytes);
    std::memcpy(stream, from.key.data(), key_bytes);
    if (!before.empty()) std::memcpy(stream + key_bytes, before.data(), before.size());
    if (!behind.empty())
      std::memcpy(stream + key_bytes + before.size() + old_value_bytes, behind.data(), behind.size());
    EntryMemory::WriteFields(entry, from, layout, now);
    entries_.Bump(*ref);
    return Status::kStored;
  }
  if (layout.charge > memory_.state().limit_bytes) return Status::kTooLarge;
  // Both exist for a moment; the old one, now the newest, is not evicted for the new one.
  entries_.Bump(*ref);
  const Status room = room_.Make(layout.charge, RoomFor::kNewest);
  if (room != Status::kStored) return room;
  if (!memory_.Allocate(from, layout, 0)) return Status::kNoMemory;
  const Ref old = entries_.newest();
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
  entries_.Leave(old, Reason::kReplaced, hash, farewell);
  CHECK(entries_.Enter(0, hash, walk_bits));
  *ref = entries_.newest();
  return Status::kStored;
}

// Counts a key that has no entry: stores the initial value, if there is one.
void Shard::CountAbsent(const Request& request, Found found, uint64_t hash, const Now& now, Outcome* outcome) {
  outcome->status = MeetPresence(request, found.presence);
  if (outcome->status != Status::kNotFound) return;
  StoreStats* counters = &state_->counters;
  (request.verb == Verb::kIncr ? counters->incr_misses : counters->decr_misses)++;
  if (!request.has_initial) return;
  char digits[kDecimalBytesMax];
  const auto end = std::to_chars(digits, digits + sizeof digits, request.initial).ptr;
  const std::string_view value(digits, static_cast<size_t>(end - digits));
  NewEntry from;
  from.key = request.key;
  from.fresh_until_ms = request.fresh_until_ms;
  from.value_bytes = value.size();
  from.codec = request.codec;
  from.client_flags = request.client_flags;
  from.expires_ms = request.expires_ms == kKeepExpiry ? request.keep_else_ms : request.expires_ms;
  if (request.meta != nullptr) ApplyMeta(request, found, &from);
  outcome->status = Write(from, value, hash, found.ref, 0, now, outcome);
  if (outcome->status != Status::kStored) return;
  outcome->number = request.initial;
  VoidFills(hash);
}

void Shard::Count(const Request& request, uint64_t hash, const Now& now, Outcome* outcome) {
  const bool incr = request.verb == Verb::kIncr;
  StoreStats* counters = &state_->counters;
  const Found found = entries_.Lookup(request.key, hash, now, Purpose::kOther, StaleTo(request));
  if (!found.is_live()) return CountAbsent(request, found, hash, now, outcome);
  const Ref old = found.ref;
  const EntryHeader* entry = At(old);
  // memcached finds that an empty value is no number before it compares.
  if (request.has_compare && CasOf(entry) != request.compare && entry->value_bytes != 0) {
    Describe(entry, now, outcome);
    outcome->status = Status::kExists;
    return;
  }
  uint64_t number = 0;
  if (!ReadNumber(memory_, entry, &number)) {
    Describe(entry, now, outcome);
    outcome->status = Status::kNonNumeric;
    return;
  }
  const uint64_t number_before = number;
  if (incr) {
    number += request.delta;
  } else {
    number -= std::min(number, request.delta);
  }
  char digits[kDecimalBytesMax];
  const auto end = std::to_chars(digits, digits + sizeof digits, number).ptr;
  size_t length = static_cast<size_t>(end - digits);
  if (request.pad_decimal && length < entry->value_bytes) {
    std::memset(digits + length, ' ', entry->value_bytes - length);
    length = entry->value_bytes;
  }
  NewEntry from = KeptOf(entry, request.key);
  from.value_bytes = length;
  // As in memcached, whose longer number is another entry.
  if (length <= entry->value_bytes) from.marks.bits = MarksOf(entry).bits;
  const uint64_t expires_before_ms = from.expires_ms;
  if (request.meta != nullptr) {
    from.marks.cas = request.meta->cas;
    if (request.meta->retimes) {
      from.expires_ms = request.keep_else_ms;
      from.fresh_until_ms = kAlwaysFresh;
    }
  }
  std::optional<Recorder::Extra> extra;
  if (recorder_.keeps_records()) extra.emplace(&recorder_, static_cast<int64_t>(number - number_before));
  const Status status = Write(from, {digits, length}, hash, old, 0, now, outcome);
  if (status != Status::kStored) {
    if (status == Status::kNoMemory) VoidFills(hash);
    outcome->status = status;
    return;
  }
  (incr ? counters->incr_hits : counters->decr_hits)++;
  VoidFills(hash);
  if (request.meta != nullptr) outcome->expires_ms = expires_before_ms;
  outcome->number = number;
  outcome->status = Status::kFound;
}

// ---- values that come in pieces ----

bool Shard::HasFreeRoom(const Request& request) const {
  const NewEntry entry = BodyEntryOf(request, static_cast<uint32_t>(request.value.size()));
  return !room_.IsFull(memory_.LayoutOf(entry).charge, RoomFor::kNewEntry);
}

bool Shard::MakeRoomStep(const Request& request, uint32_t value_bytes, const Now& now) {
  FreeStubs();
  entries_.SettleTouches();
  const Layout layout = memory_.LayoutOf(BodyEntryOf(request, value_bytes));
  if (value_bytes > state_->value_bytes_max || layout.charge > memory_.state().limit_bytes ||
      recorder_.HoldsRoomFor(layout.charge)) {
    return false;
  }
  bodies_.TakeStalled(layout.charge, now);
  if (bodies_.FreeSlot(layout.charge) == 0) return false;
  return room_.MakeStep(layout, RoomFor::kBody);
}

Status Shard::RefuseBody(Status status, const Request& request, uint64_t hash, const Now& now) {
  // A set that would not be made (another version, a load that was overtaken) takes nothing away when it is refused.
  const Found old = entries_.Look(request.key, hash, now, StaleTo(request));
  const bool insists = Condition(request, old) == Status::kStored && !request.from_backend;
  const Verb verb = insists ? request.verb : Verb::kAdd;
  Outcome unused;
  return Refuse(status, verb, request.key, hash, &unused);
}

Status Shard::Reserve(const Request& request, uint64_t hash, uint32_t value_bytes, const Now& now, int* slot) {
  entries_.SettleTouches();
  const NewEntry from = BodyEntryOf(request, value_bytes);
  const Layout layout = memory_.LayoutOf(from);
  if (value_bytes > state_->value_bytes_max || layout.charge > memory_.state().limit_bytes) {
    return RefuseBody(Status::kTooLarge, request, hash, now);
  }
  if (recorder_.HoldsRoomFor(layout.charge)) {
    state_->counters.log_full++;
    return Status::kLogFull;
  }
  DCHECK(request.expires_ms != kKeepExpiry || (layout.flags & kEntryChunked));
  bodies_.TakeStalled(layout.charge, now);
  const int free_slot = bodies_.FreeSlot(layout.charge);
  if (free_slot == 0) {
    // Values being received hold the memory: the present entry stays.
    state_->counters.no_memory++;
    return Status::kNoMemory;
  }
  const Status room = room_.Make(layout.charge, RoomFor::kBody);
  if (room == Status::kLogFull) return room;
  if (room != Status::kStored || !memory_.Allocate(from, layout, free_slot)) {
    return RefuseBody(Status::kNoMemory, request, hash, now);
  }
  EntryHeader* entry = At(memory_.InSlot(free_slot));
  memory_.WriteStream(entry, 0, request.key.data(), request.key.size());
  bodies_.Began(free_slot, layout.charge, now.boot_ms);
  *slot = free_slot;
  return Status::kStored;
}

void Shard::Link(int slot, const Request& request, uint64_t hash, const Now& now, Outcome* outcome) {
  FreeStubs();
  entries_.SettleTouches();
  StoreStats* counters = &state_->counters;
  const Found found = entries_.Lookup(request.key, hash, now, Purpose::kOther, StaleTo(request));
  const bool is_more = found.ref == 0 || IsStub(At(found.ref));
  const Status condition = Condition(request, found);
  if (request.verb == Verb::kCas) {
    if (condition == Status::kNotFound) counters->cas_misses++;
    if (condition == Status::kExists) counters->cas_exists++;
  }
  if (condition != Status::kStored) {
    if (found.is_live()) Describe(At(found.ref), now, outcome);
    outcome->status = condition;
    if (condition == Status::kNotResident) return bodies_.IsWhole(slot);
    return bodies_.Abandon(slot);
  }
  NewEntry from = BodyEntryOf(request, At(memory_.InSlot(slot))->value_bytes);
  if (request.expires_ms == kKeepExpiry) {
    from.fresh_until_ms = found.is_live() ? FreshUntilOf(At(found.ref)) : request.fresh_until_ms;
    SetFreshUntil(At(memory_.InSlot(slot)), from.fresh_until_ms);
  }
  const bool is_lower = IsLower(request, found);
  if (request.meta != nullptr) {
    ApplyMeta(request, found, &from);
    SetMarks(At(memory_.InSlot(slot)), from.marks);
  }
  std::optional<Quiet> quiet;
  if (request.from_backend) quiet.emplace(this, 0);
  if (!recorder_.ReserveSet(from, Recorder::EntryIs::kInSlot) ||
      room_.Plan(0, RoomFor::kNewEntry, found.ref) == Status::kLogFull ||
      (is_more && room_.MakePlanned(0, RoomFor::kNewEntry) == Status::kLogFull)) {
    bodies_.IsWhole(slot);
    outcome->status = Status::kLogFull;
    return;
  }
  // What has made room may have moved a stub.
  const Ref old = is_more && found.ref != 0 ? entries_.Find(request.key, hash) : found.ref;
  uint8_t walk_bits = entries_.emitted_bits();
  if ((request.expires_ms == kKeepExpiry && found.is_live()) || is_lower) {
    ExpiryOf(At(memory_.InSlot(slot)))->expires_ms = ExpiresMsOf(At(old));
  }
  if (request.from_backend) {
    EntryHeader* body = At(memory_.InSlot(slot));
    const bool over_stub = old != 0 && IsStub(At(old));
    ExpiryOf(body)->expires_ms = over_stub ? ExpiresMsOf(At(old)) : request.expires_ms;
    if (over_stub) body->flags |= kEntryRetimed;
  }
  if (old != 0) {
    if (!IsStub(At(old)) && !entries_.IsDead(At(old))) walk_bits = WalkBitsOf(At(old));
    entries_.Leave(old, Reason::kReplaced, hash);
  }
  EntryHeader* entry = At(memory_.InSlot(slot));
  bodies_.Leaves(slot);
  StampAccess(entry, now);
  entry->version = recorder_.NextVersion();
  entry->flags |= owed_flag_;
  if (!entries_.Enter(slot, hash, walk_bits)) [[unlikely]] {
    CHECK(entries_.debts().has_backend());
    memory_.Free(memory_.TakeFromSlot(slot));
    counters->no_memory++;
    outcome->status = Status::kNoMemory;
    return;
  }
  counters->sets++;
  if (request.verb == Verb::kCas) counters->cas_hits++;
  FinishStore(entries_.newest(), now, outcome);
  if (request.from_backend) outcome->record_version = 0;
  VoidFills(hash);
  entries_.Adjust();
  outcome->status = Status::kStored;
}

}  // namespace cairn
