// Shard: records that come in, from a log, a dump or a primary.
#include "store/shard.h"

#include <algorithm>
#include <optional>

#include "store/shard_inl.h"

namespace cairn {

namespace {

uint64_t FreshUntilOf(const RecordView& record, const Now& now) {
  if (!(record.optional.fields & kFieldFreshness)) return kAlwaysFresh;
  const int64_t until_ms = record.optional.fresh_until_wall_ms - now.WallOffset();
  return static_cast<uint64_t>(std::max<int64_t>(until_ms, 1));
}

Ends EndsOf(const RecordView& record, const Now& now) {
  const int64_t wall_ms = record.expires_wall_ms;
  return {wall_ms == 0 ? kNeverExpires
                       : static_cast<uint64_t>(std::max<int64_t>(wall_ms - now.WallOffset(), kAlreadyExpired)),
          FreshUntilOf(record, now)};
}

}  // namespace

void Shard::MakeRoomFromExpired(const RecordView& record, const Now& now) {
  if (record.kind != RecordKind::kSet || !entries_.has_timed()) return;
  NewEntry entry;
  entry.key = record.key;
  entry.value_bytes = record.value.size();
  entry.client_flags = record.client_flags;
  entry.expires_ms = record.expires_wall_ms == 0 ? kNeverExpires : kAlreadyExpired;
  entry.fresh_until_ms = FreshUntilOf(record, now);
  const uint64_t charge = memory_.LayoutOf(entry).charge;
  while (room_.IsFull(charge, RoomFor::kNewEntry)) {
    int budget = kStepEntriesMax;
    if (!entries_.ExpireOne(now, &budget) && budget >= 0) return;
  }
}

// A record that is about to be applied to its key.
struct Shard::Incoming {
  const RecordView& record;
  uint64_t hash;
  Origin origin;
  // While a log is read back, what has expired stays until memory is needed: a touch further on may say that it lives.
  bool recovering;
  Ends ends;
  Ref old;  // the entry under the key; 0: none

  bool keeps_version() const { return origin != Origin::kElsewhere; }
  bool is_owed() const { return origin == Origin::kLogOwed; }
  bool expires() const { return record.expires_wall_ms != 0; }
  bool HasExpired(const Now& now) const { return expires() && record.expires_wall_ms <= now.wall_ms && !recovering; }
};

Status Shard::Apply(const RecordView& record, uint64_t hash, const Now& now, Origin origin) {
  if (origin == Origin::kLogOwed && !entries_.debts().has_backend()) origin = Origin::kLog;
  FreeStubs();
  entries_.SettleTouches();
  const bool keeps_version = origin != Origin::kElsewhere;
  const bool recovering = keeps_version && state_->recovering;
  if (recovering) MakeRoomFromExpired(record, now);
  Ref old = entries_.Find(record.key, hash);
  if (old != 0 && !IsStub(At(old)) && (entries_.IsDead(At(old)) || (IsExpired(At(old), now) && !recovering))) {
    old = entries_.Leave(old, Reason::kExpired, hash);
    if (entries_.Stayed(old)) return Status::kLogFull;
  }
  Incoming in{record, hash, origin, recovering, EndsOf(record, now), old};
  if (keeps_version) {
    const bool was_cleared = record.version < entries_.cleared_version();
    if (was_cleared && !in.is_owed()) return Status::kNotStored;
    recorder_.NoteVersion(record.version);
    // A load leaves no record, so a snapshot has what it brought under a version that no record has, above that of the
    // record whose value it is. The backend had that record then, and has gone back behind it since: without a debt,
    // the key would be evicted, and loaded as it was before. What is of a later record comes again with that.
    if (in.is_owed() && old != 0 && At(old)->version > record.version && !IsStub(At(old)) &&
        (At(old)->flags & (kEntryOwed | kEntryRetimed)) == 0) {
      in.old = old = entries_.Leave(old, Reason::kReplaced, hash);
    }
    if (old != 0 && At(old)->version >= record.version) {
      if (in.is_owed() && At(old)->version == record.version && !IsStub(At(old))) At(old)->flags |= kEntryOwed;
      return Status::kNotStored;
    }
    if (was_cleared) return ApplyAsStub(in);
  }
  switch (record.kind) {
    case RecordKind::kSet:
      if (!in.HasExpired(now)) return ApplySet(in, now);
      return in.is_owed() ? ApplyAsStub(in) : ApplyExpiredSet(in);
    case RecordKind::kTouch:
      return ApplyTouch(in, now);
    case RecordKind::kDelete:
      return ApplyDelete(in);
    case RecordKind::kClear:
    case RecordKind::kClearAt:
      break;  // the store's
  }
  CHECK(false);
  return Status::kNotFound;
}

Status Shard::ApplySet(const Incoming& in, const Now& now) {
  const RecordView& record = in.record;
  NewEntry from;
  from.key = record.key;
  from.value_bytes = record.value.size();
  from.codec = static_cast<Codec>(record.codec);
  from.client_flags = record.client_flags;
  from.expires_ms = in.ends.expires_ms;
  from.fresh_until_ms = in.ends.fresh_until_ms;
  std::optional<Quiet> quiet;
  if (in.keeps_version()) quiet.emplace(this, in.is_owed() ? kEntryOwed : 0);
  Outcome outcome;
  Status status = Write(from, record.value, in.hash, in.old, in.keeps_version() ? record.version : 0, now, &outcome);
  if (in.keeps_version() && status == Status::kStored) recorder_.NoteStored(record.version);
  if (in.is_owed() && status != Status::kStored) return ApplyAsStub(in);
  // As after a set: what the record says is newer than what is here, though it cannot be held.
  if (status == Status::kTooLarge) status = Refuse(status, Verb::kSet, record.key, in.hash, &outcome);
  // Of an entry that was evicted the log may still have the value. Room was reserved for more than this.
  if (status == Status::kNoMemory && recorder_.keeps_records() && outcome.record_version == 0) {
    status = LoseOld(status, record.key, in.hash, &outcome);
  }
  VoidFills(in.hash);
  return status;
}

// The value has expired since, but what it replaced is gone all the same.
Status Shard::ApplyExpiredSet(const Incoming& in) {
  if (!LeaveDeleteOf(in, Reason::kReplaced)) return Status::kLogFull;
  // A load that began before the set may bring an older value.
  VoidFills(in.hash);
  return Status::kNotStored;
}

Status Shard::ApplyTouch(const Incoming& in, const Now& now) {
  const bool has_entry = in.old != 0 && !IsStub(At(in.old)) && !IsNegative(At(in.old));
  if (!has_entry && in.is_owed()) return ApplyAsStub(in);
  if (!has_entry) {
    // Of an absent key too: a load that began before the touch may bring an older value.
    VoidFills(in.hash);
    return Status::kNotFound;
  }
  const std::string_view key = in.record.key;
  if (!in.keeps_version() && !recorder_.ReserveKey(key.size(), in.ends.fresh_until_ms)) return Status::kLogFull;
  Ref ref = in.old;
  const Status status = Retime(&ref, key, in.ends, in.hash, now);
  if (status != Status::kStored && !in.keeps_version()) return recorder_.NoMemory(status);
  if (status != Status::kStored) {
    // An absent entry is right for a cache; one that lives longer than its record says is not.
    state_->counters.no_memory++;
    const Ref left = entries_.Leave(entries_.Find(key, in.hash), Reason::kEvicted, in.hash);
    if (in.is_owed()) return ApplyAsStub(in);
    return entries_.Stayed(left) ? Status::kLogFull : status;
  }
  const uint64_t version = in.keeps_version() ? in.record.version : recorder_.NextVersion();
  if (!in.keeps_version()) recorder_.LeaveEntry(RecordKind::kTouch, ref, version, now);
  if (in.is_owed() || (!in.keeps_version() && owed_flag_ != 0)) entries_.mutable_debts()->NoteTouch(At(ref), version);
  entries_.Adjust();
  VoidFills(in.hash);
  return status;
}

Status Shard::ApplyDelete(const Incoming& in) {
  if (in.is_owed()) return ApplyAsStub(in);
  const bool was_there = in.old != 0;
  if (!LeaveDeleteOf(in, Reason::kDeleted)) return Status::kLogFull;
  VoidFills(in.hash);
  return was_there ? Status::kStored : Status::kNotFound;
}

// The entry leaves, with the record of a delete unless that comes from the log. False: the ring has no room.
bool Shard::LeaveDeleteOf(const Incoming& in, Reason reason) {
  if (in.keeps_version() || (in.old == 0 && !recorder_.keeps_records())) {
    if (in.old != 0) entries_.Leave(in.old, reason, in.hash);
    return true;
  }
  uint64_t version;
  return ReserveDelete(in.record.key, in.old) && LeaveDelete(in.old, in.record.key, in.hash, reason, &version);
}

// What a stub says of the record, over what the table has under its key (0: nothing).
StubInfo Shard::StubInfoOf(const Incoming& in, Ref old) const {
  const RecordView& record = in.record;
  const bool is_over_debt = old != 0 && (IsStub(At(old)) || entries_.debts().Owes(At(old)));
  StubInfo info;
  if (is_over_debt) info = entries_.InfoOf(old);
  if (record.kind == RecordKind::kSet) {
    info.kind = StubKind::kValue;
    info.value_version = record.version;
  } else if (record.kind == RecordKind::kDelete) {
    info.kind = StubKind::kGone;
    info.value_version = 0;
  } else if (!is_over_debt) {
    info.kind = StubKind::kExpiry;
  }
  info.newest_version = record.version;
  info.expires_ms = in.ends.expires_ms;
  info.fresh_until_ms = in.ends.fresh_until_ms;
  return info;
}

// The backend does not have the record yet, and the entry has no room, was cleared, or is gone. Recovery has no writer
// to wait for: the stub may take more than the reserve. kLogFull: it has no memory, and nothing was changed.
Status Shard::ApplyAsStub(const Incoming& in) {
  const std::string_view key = in.record.key;
  const Ref old = entries_.Find(key, in.hash);
  const bool was_there = old != 0;
  StubInfo info = StubInfoOf(in, old);
  if (old == 0 || !IsStub(At(old)) || !entries_.RewriteStub(old, key, info)) {
    const Status room = room_.Make(memory_.LayoutOf(Debts::StubEntryOf(key, info)).charge, RoomFor::kBody);
    if (room != Status::kStored) return room == Status::kLogFull ? room : RefuseStub();
    // What has made room may have moved it, or made a stub of it.
    info = StubInfoOf(in, entries_.Find(key, in.hash));
    if (entries_.EnterStub(key, in.hash, info) == 0) return RefuseStub();
  }
  VoidFills(in.hash);
  return in.record.kind == RecordKind::kDelete && !was_there ? Status::kNotFound : Status::kStored;
}

// ---- stubs ----

bool Shard::StubOf(std::string_view key, uint64_t hash, const Now& now, StubInfo* info) {
  const Found found = entries_.Lookup(key, hash, now, Purpose::kOther, StaleIs::kLive);
  if (found.ref != 0 && IsStub(At(found.ref)) && entries_.SettleStub(found.ref, hash, &fills_)) return false;
  const bool is_owed = found.presence == Presence::kStub || found.presence == Presence::kAbsent;
  if (found.ref == 0 || !is_owed || IsNegative(At(found.ref))) return false;
  *info = entries_.InfoOf(found.ref);
  if (found.presence == Presence::kAbsent) info->kind = StubKind::kGone;
  return true;
}

uint64_t Shard::LastChangeOf(std::string_view key, uint64_t hash, const Now& now, uint64_t* value_version) {
  const Ref ref = entries_.Lookup(key, hash, now, Purpose::kOther, StaleIs::kLive).ref;
  if (ref == 0 || IsNegative(At(ref))) return 0;
  const EntryHeader* entry = At(ref);
  const Debts& debts = entries_.debts();
  const bool is_stub = IsStub(entry);
  if (is_stub ? debts.IsStored(entry) : !debts.Owes(entry)) return 0;
  if (value_version != nullptr) {
    // A touch has the version of the shard's newest one, at least its own: its own is above the mark.
    *value_version = debts.MarkOf(entry) + 1;
    if (!is_stub && debts.OwesValue(entry)) *value_version = entry->version;
    if (is_stub && KindOfStub(entry) == StubKind::kGone) *value_version = entry->version;
    if (is_stub && KindOfStub(entry) == StubKind::kValue) {
      *value_version = std::max(*value_version, debts.InfoOf(entry).value_version);
    }
  }
  if (is_stub || (entry->flags & kEntryRetimed) == 0) return entry->version;
  return std::max(entry->version, debts.newest_touch());
}

Status Shard::Revive(const RecordView& record, uint64_t newest_version, uint64_t hash, const Now& now) {
  FreeStubs();
  const Found found = entries_.Lookup(record.key, hash, now, Purpose::kOther, StaleIs::kLive);
  if (found.presence != Presence::kStub) return Status::kNotFound;
  const StubInfo info = entries_.InfoOf(found.ref);
  if (info.kind != StubKind::kValue || info.newest_version != newest_version) return Status::kNotFound;
  NewEntry from;
  from.key = record.key;
  from.value_bytes = record.value.size();
  from.codec = static_cast<Codec>(record.codec);
  from.client_flags = record.client_flags;
  from.expires_ms = info.expires_ms;
  from.fresh_until_ms = info.fresh_until_ms;
  if (info.value_version != newest_version) from.extra_flags = kEntryRetimed;
  // Without the stub, loads that have read an older row would no longer be told from others.
  VoidFills(hash);
  Outcome outcome;
  // An entry of a version below the last clear would be dead. So this one gets a new version, and a record, which says
  // that nothing was added: other programs may have added to the row since.
  if (info.value_version < entries_.cleared_version()) {
    const Recorder::Extra nothing_added(&recorder_, 0);
    return Write(from, record.value, hash, found.ref, 0, now, &outcome);
  }
  const Quiet quiet(this, kEntryOwed);
  return Write(from, record.value, hash, found.ref, info.value_version, now, &outcome);
}

}  // namespace cairn
