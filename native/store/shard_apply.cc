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

}  // namespace

void Shard::MakeRoomFromExpired(const RecordView& record, const Now& now) {
  if (record.kind != RecordKind::kSet || wheel_.empty()) return;
  NewEntry entry;
  entry.key = record.key;
  entry.value_bytes = record.value.size();
  entry.client_flags = record.client_flags;
  entry.expires_ms = record.expires_wall_ms == 0 ? kNeverExpires : kAlreadyExpired;
  entry.fresh_until_ms = FreshUntilOf(record, now);
  const uint64_t charge = memory_.LayoutOf(entry).charge;
  while (memory_.state().charged_bytes + charge > memory_.state().limit_bytes ||
         (state_->entries_limit != 0 &&
          state_->population.live_entries + state_->population.dead_entries >= state_->entries_limit)) {
    int budget = kStepEntriesMax;
    const Ref ref = wheel_.Advance(now.boot_ms, &budget);
    if (ref != 0) {
      Leave(ref, Reason::kExpired);
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
  const uint64_t fresh_until_ms = FreshUntilOf(record, now);
  Ref old = Find(record.key, hash);
  if (old != 0 && (IsDead(At(old)) || (IsExpired(At(old), now) && !recovering))) {
    Leave(old, Reason::kExpired, hash);
    old = 0;
  }
  if (keep_version) {
    if (record.version < state_->population.cleared_version) return Status::kNotStored;
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
        VoidFills(hash);
        if (old == 0) return Status::kNotStored;
        Leave(old, Reason::kReplaced, hash);
        return Status::kNotStored;
      }
      NewEntry from;
      from.key = record.key;
      from.value_bytes = record.value.size();
      from.codec = static_cast<Codec>(record.codec);
      from.client_flags = record.client_flags;
      from.expires_ms = expires_ms;
      from.fresh_until_ms = fresh_until_ms;
      std::optional<Recorder::Silence> silence;
      if (keep_version) silence.emplace(&recorder_);
      status = Write(from, record.value, hash, old, keep_version ? record.version : 0, now, &outcome);
      if (keep_version && status == Status::kStored) recorder_.NoteStored(record.version);
      // As after a set: what the record says is newer than what is here, though it cannot be held.
      if (status == Status::kTooLarge) status = Refuse(status, Verb::kSet, record.key, hash, &outcome);
      // Of an entry that was evicted the log may still have the value. Room was reserved for more than this.
      if (status == Status::kNoMemory && recorder_.keeps_records() && outcome.record_version == 0) {
        recorder_.LeaveDelete(record.key);
      }
      break;
    }
    case RecordKind::kTouch: {
      if (old == 0) break;
      if (!keep_version && !recorder_.ReserveKey(record.key.size(), fresh_until_ms)) return Status::kLogFull;
      status = Retime(&old, record.key, {expires_ms, fresh_until_ms}, hash, now);
      if (status != Status::kStored && !keep_version) return recorder_.NoMemory(status);
      if (status != Status::kStored) {
        // Better gone than there for longer than it should be.
        state_->counters.no_memory++;
        Leave(Find(record.key, hash), Reason::kEvicted, hash);
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
      if (old == 0) break;
      Leave(old, Reason::kDeleted, hash);
      status = Status::kStored;
      break;
    }
    case RecordKind::kClear:
    case RecordKind::kClearAt:
      CHECK(false);  // the store's
  }
  // Also of an absent key: what a load began to fetch before it may be older than the record.
  VoidFills(hash);
  return status;
}

}  // namespace cairn
