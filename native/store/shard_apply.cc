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

  bool keeps_version() const { return origin == Origin::kLog; }
  bool expires() const { return record.expires_wall_ms != 0; }
  bool HasExpired(const Now& now) const { return expires() && record.expires_wall_ms <= now.wall_ms && !recovering; }
};

Status Shard::Apply(const RecordView& record, uint64_t hash, const Now& now, Origin origin) {
  entries_.SettleTouches();
  const bool recovering = origin == Origin::kLog && state_->recovering;
  if (recovering) MakeRoomFromExpired(record, now);
  Ref old = entries_.Find(record.key, hash);
  if (old != 0 && (entries_.IsDead(At(old)) || (IsExpired(At(old), now) && !recovering))) {
    entries_.Leave(old, Reason::kExpired, hash);
    old = 0;
  }
  if (origin == Origin::kLog) {
    if (record.version < entries_.cleared_version()) return Status::kNotStored;
    recorder_.NoteVersion(record.version);
    if (old != 0 && At(old)->version >= record.version) return Status::kNotStored;
  }
  const Incoming in{record, hash, origin, recovering, EndsOf(record, now), old};
  switch (record.kind) {
    case RecordKind::kSet:
      return in.HasExpired(now) ? ApplyExpiredSet(in) : ApplySet(in, now);
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
  std::optional<Recorder::Silence> silence;
  if (in.keeps_version()) silence.emplace(&recorder_);
  Outcome outcome;
  Status status = Write(from, record.value, in.hash, in.old, in.keeps_version() ? record.version : 0, now, &outcome);
  if (in.keeps_version() && status == Status::kStored) recorder_.NoteStored(record.version);
  // As after a set: what the record says is newer than what is here, though it cannot be held.
  if (status == Status::kTooLarge) status = Refuse(status, Verb::kSet, record.key, in.hash, &outcome);
  // Of an entry that was evicted the log may still have the value. Room was reserved for more than this.
  if (status == Status::kNoMemory && recorder_.keeps_records() && outcome.record_version == 0) {
    recorder_.LeaveDelete(record.key);
  }
  VoidFills(in.hash);
  return status;
}

// The value has expired since, but what it replaced is gone all the same.
Status Shard::ApplyExpiredSet(const Incoming& in) {
  if (!LeaveDeleteOf(in)) return Status::kLogFull;
  // A load that began before the set may bring an older value.
  VoidFills(in.hash);
  if (in.old != 0) entries_.Leave(in.old, Reason::kReplaced, in.hash);
  return Status::kNotStored;
}

Status Shard::ApplyTouch(const Incoming& in, const Now& now) {
  if (in.old == 0) {
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
    entries_.Leave(entries_.Find(key, in.hash), Reason::kEvicted, in.hash);
    return status;
  }
  if (!in.keeps_version()) recorder_.LeaveEntry(RecordKind::kTouch, ref, recorder_.NextVersion(), now);
  entries_.Adjust();
  VoidFills(in.hash);
  return status;
}

Status Shard::ApplyDelete(const Incoming& in) {
  if (!LeaveDeleteOf(in)) return Status::kLogFull;
  VoidFills(in.hash);
  if (in.old == 0) return Status::kNotFound;
  entries_.Leave(in.old, Reason::kDeleted, in.hash);
  return Status::kStored;
}

// The record of a delete, unless it comes from the log. False: the ring has no room.
bool Shard::LeaveDeleteOf(const Incoming& in) {
  if (in.keeps_version() || (in.old == 0 && !recorder_.keeps_records())) return true;
  if (!recorder_.ReserveKey(in.record.key.size())) return false;
  recorder_.LeaveDelete(in.record.key);
  return true;
}

}  // namespace cairn
