// Records that come in: of an earlier life of this log, with the versions that they have, or of another cache, as
// requests of this one.
#include <algorithm>
#include <string>
#include <utility>

#include "model/model_shard.h"
#include "store/entry.h"

namespace cairn::model {

Status ModelShard::Apply(const RecordView& record, bool keeps_version, bool recovering, Effect* effect) {
  const std::string key(record.key);
  *effect = Effect::kNone;
  const bool expires = record.expires_wall_ms != 0;
  const bool has_expired = expires && record.expires_wall_ms <= setting_.now->wall_ms && !recovering;
  const uint64_t expires_ms = !expires ? kNeverExpires
                                       : static_cast<uint64_t>(std::max<int64_t>(
                                             record.expires_wall_ms - setting_.now->WallOffset(), kAlreadyExpired));
  const bool goes_stale = (record.optional.fields & kFieldFreshness) != 0;
  const uint64_t fresh_until_ms = !goes_stale
                                      ? kAlwaysFresh
                                      : static_cast<uint64_t>(std::max<int64_t>(
                                            record.optional.fresh_until_wall_ms - setting_.now->WallOffset(), 1));
  bool ignored_live;
  Place old = recovering ? Find(key) : Meet(key, false, true, &ignored_live);
  const bool present = old != end();
  if (keeps_version) {
    if (record.version < cleared_version) return Status::kNotStored;
    // Versions given from now on are above any that came in.
    last_version = std::max(last_version, record.version);
    if (present && old->version >= record.version) return Status::kNotStored;
  }
  const bool recorded = !keeps_version;
  if (record.kind == RecordKind::kSet) {
    if (has_expired) {
      // What it replaced is gone all the same.
      if (!MakeAbsent(key, old, recorded, nullptr)) return Status::kLogFull;
      VoidLoads(key);
      if (present) *effect = Effect::kGone;
      return Status::kNotStored;
    }
    Entry next;
    next.key = key;
    next.value = std::string(record.value);
    next.codec = static_cast<Codec>(record.codec);
    next.client_flags = record.client_flags;
    next.expires_ms = expires_ms;
    next.fresh_until_ms = fresh_until_ms;
    Expected ignored;
    const bool too_large = IsTooLarge(next);
    const Status status = Accept(std::move(next), old, {.recorded = recorded, .insists = true}, &ignored);
    if (too_large) ++counters.too_large;
    if (status == Status::kLogFull) {
      if (!too_large) VoidLoads(key);
      return status;
    }
    if (status == Status::kStored && keeps_version) order.front().version = record.version;
    *effect = status == Status::kStored                ? Effect::kStored
              : status == Status::kNoMemory || present ? Effect::kGone
                                                       : Effect::kNone;
    VoidLoads(key);
    return status;
  }
  if (!present) {
    const bool tells = record.kind == RecordKind::kDelete && recorded && journal.keeps_records;
    if (tells && !journal.TakesKey(key.size())) return LogFull();
    if (tells) RecordDelete(key, nullptr);
    VoidLoads(key);
    return Status::kNotFound;
  }
  const size_t field_bytes = goes_stale ? RecordFieldBytes(kFieldFreshness) : 0;
  if (recorded && !journal.TakesKey(key.size(), field_bytes)) return LogFull();
  if (record.kind == RecordKind::kDelete) {
    if (recorded) RecordDelete(key, nullptr);
    Leave(old, Reason::kDeleted);
    *effect = Effect::kGone;
    VoidLoads(key);
    return Status::kStored;
  }
  const Status status = Retime(&old, expires_ms, fresh_until_ms);
  if (status != Status::kStored) {
    if (recorded) return Unmet(status);
    ++counters.no_memory;
    Leave(Find(key), Reason::kEvicted);  // better gone than there for longer than it should be
    return status;
  }
  if (recorded) Record(RecordKind::kTouch, *old);
  *effect = Effect::kRetimed;
  VoidLoads(key);
  return status;
}

}  // namespace cairn::model
