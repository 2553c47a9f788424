#include <algorithm>
#include <cstdio>
#include <iterator>
#include <utility>

#include "model/harness.h"
#include "model/values.h"
#include "model/words.h"
#include "store/shard.h"

namespace cairn::model {

void Harness::FoldApplied(const RecordView& record, ModelShard::Effect effect) {
  const std::string key(record.key);
  switch (effect) {
    case ModelShard::Effect::kNone:
      break;
    case ModelShard::Effect::kStored:
      fold_[key] = {RecordKind::kSet,          record.codec,        record.version,
                    record.expires_wall_ms,    record.client_flags, key,
                    std::string(record.value), record.optional};
      events_.lost.erase(key);
      break;
    case ModelShard::Effect::kGone:
      fold_.erase(key);
      break;
    case ModelShard::Effect::kRetimed:
      if (const auto found = fold_.find(key); found != fold_.end()) {
        found->second.expires_wall_ms = record.expires_wall_ms;
        found->second.optional = record.optional;
      }
      break;
  }
}

bool Harness::DoApply(const Op& op) {
  const std::string& key = KeyName(op.key);
  const std::string value = ValueOf(op);
  uint32_t shard_index;
  ModelShard& shard = ShardFor(key, &shard_index);
  // What is read back leaves no record, so the records would not say all.
  const bool keeps_version = recovering_ || (op.number % 4 != 0 && !has_rings());
  const Origin origin = keeps_version ? Origin::kLog : Origin::kElsewhere;
  RecordView record;
  // While a log is read back the store has to fill in between.
  if (op.number % (recovering_ ? 244 : 61) == 0) return DoApplyClear(op, origin);
  if (op.number % 67 == 0) return DoApplyClearAt(op, origin);
  const RecordKind kinds[] = {RecordKind::kSet, RecordKind::kSet, RecordKind::kSet, RecordKind::kTouch,
                              RecordKind::kDelete};
  record.kind = kinds[(op.number >> 3) % 5];
  record.key = key;
  if (record.kind == RecordKind::kSet) record.value = value;
  record.codec = op.codec % kCodecCount;
  record.client_flags = (op.options & kOptClientFlags) ? op.number | 1 : 0;
  const uint64_t expires_boot = ExpiryOf(op.ttl);
  if (expires_boot != kNeverExpires && expires_boot != kKeepExpiry) {
    record.expires_wall_ms = std::max<int64_t>(static_cast<int64_t>(expires_boot) + now_.WallOffset(), 1);
    // What a log says was said some time ago.
    if (recovering_)
      record.expires_wall_ms = std::max<int64_t>(record.expires_wall_ms - int64_t{op.number >> 9} * 100, 1);
  }
  // Of some that are stale by now, too.
  if ((op.options & kOptFresh) && record.kind != RecordKind::kDelete) {
    record.optional.SetFreshUntil(now_.wall_ms + static_cast<int64_t>(op.number % 400) - 100);
  }
  const ModelShard::Place old = shard.Find(key);
  if (old != shard.order.end() && op.number % 3 != 0) {
    record.version = old->version + (op.number >> 6) % 4 - 1;
  } else {
    // Of this epoch, one of the last before it, or the next.
    const uint32_t back = (op.number >> 6) % std::min(std::max(Epoch(), 1u), 24u);
    const uint32_t epoch =
        back == 0 ? std::min(Epoch() + 1, kEpochMax - 3) : Epoch() - std::min((back - 1) % 6, Epoch());
    record.version = VersionOf(std::max(epoch, 1u), op.number >> 12);
  }
  BeforeCall();
  // Records carry their expiry by the wall clock, so the caller that applies them has read it.
  const Status actual = store_->Apply(record, now_, origin);

  if (recovering_ && record.kind == RecordKind::kSet) {
    Entry to_come;
    to_come.key = key;
    to_come.value = value;
    to_come.client_flags = record.client_flags;
    to_come.expires_ms = record.expires_wall_ms != 0 ? kAlreadyExpired : kNeverExpires;
    to_come.fresh_until_ms = (record.optional.fields & kFieldFreshness) ? 1 : kAlwaysFresh;
    if (!FollowRecovery(shard, shard.FootprintOf(to_come).charge)) return AfterCall("apply");
  }
  ModelShard::Effect effect;
  const Status expected = shard.Apply(record, keeps_version, recovering_, &effect);
  if (keeps_version) FoldApplied(record, effect);
  if (actual != expected) Fail(std::string("expected ") + NameOf(expected) + ", got " + NameOf(actual));
  if (actual == Status::kStored) ++coverage_.applied;
  if (actual == Status::kStored && record.kind == RecordKind::kSet && !keeps_version) {
    // The version is a new one: look it up.
    Outcome peeked;
    Scratch none;
    Request peek;
    peek.verb = Verb::kPeek;
    peek.no_value = true;
    peek.accepts_stale = true;
    peek.key = key;
    store_->Execute(peek, Now{now_.boot_ms < scheduled_clear_ms_ || scheduled_clear_ms_ == 0 ? now_ : Now{}}, &none,
                    &peeked);
    const ModelShard::Place entry = shard.Find(key);
    entry->version = peeked.version;
    if (peeked.status == Status::kFound) {
      if (peeked.version <= shard.last_version) Fail("the version does not rise");
      shard.last_version = peeked.version;
      for (ExpectedRecord& expected_record : shards_[shard_index].new_records) expected_record.version = peeked.version;
    }
  }
  return AfterCall("apply");
}

bool Harness::FollowRecovery(ModelShard& shard, uint64_t charge) {
  const StoreStats& before = before_[IndexOf(shard)];
  uint64_t charged = before.charged_bytes;
  uint64_t entries = before.entries + before.cleared_entries;
  bool evicted = false;
  for (const Removal& removal : removals_.Seen()) {
    evicted = evicted || removal.reason == Reason::kEvicted;
    if (removal.reason != Reason::kExpired) continue;
    const ModelShard::Place entry = shard.Find(removal.key);
    if (entry == shard.order.end() || !shard.IsExpired(*entry))
      return Fail("what has not expired was taken for its room");
    if (evicted) return Fail("an entry was evicted before one that had expired");
    if (charged + charge <= shard.limit && (shard.entries_limit == 0 || entries < shard.entries_limit)) {
      return Fail("what had expired was taken though there is room");
    }
    charged -= entry->charge();
    --entries;
    shard.Leave(entry, Reason::kExpired);
    ++coverage_.recovery_expirations;
  }
  if (!evicted || life_.colliding_keys) return true;
  for (const Entry& entry : shard.order) {
    const uint64_t due_ms = std::max(entry.expires_ms, entry.filed_ms);
    if (entry.expires_ms != kNeverExpires && (due_ms >> 7) < (now_.boot_ms >> 7)) {
      return Fail("an entry was evicted, though another one expired a tick ago");
    }
  }
  return true;
}

// Records of another generation come: what is here is older than all of them, in the order in which it is here.
bool Harness::DoRenumber(const Op& op) {
  if (op.number % 2 == 0 && !DoApplyClear(op, Origin::kLog)) return false;
  BeforeCall();
  store_->Renumber();
  std::map<std::string, StoredRecord> fold;
  for (uint32_t i = 0; i < shards_.size() && failure_.empty(); ++i) {
    ModelShard& shard = shards_[i];
    if (shard.dead != 0) ++coverage_.renumbered_dead;
    if (!shard.order.empty()) ++coverage_.renumbered;
    if (store_->ShardStats(i).cleared_entries != 0) Fail("cleared entries are there");
    uint64_t last = 0;
    for (auto entry = shard.order.rbegin(); entry != shard.order.rend(); ++entry) {
      const Outcome outcome = LookAt(entry->key);
      if (outcome.status != Status::kFound || EpochOf(outcome.version) != 0 || outcome.version <= last) {
        Fail(test::Show(entry->key.substr(0, 40)) + " has no unique number in the order of the list");
      }
      last = entry->version = outcome.version;
      StoredRecord& record = fold[entry->key] = fold_[entry->key];
      record.version = last;
    }
    if (EpochOf(store_->LastVersion(i)) != 0 || store_->LastVersion(i) < last) Fail("a version to come is older");
    shard.cleared_version = shard.gone_version = 0;
    shard.gone_known = true;
  }
  // What was evicted is as good as forgotten: the log has it again, or it is gone.
  fold_ = std::move(fold);
  events_.lost.clear();
  fold_barrier_ = 0;
  scheduled_version_ = fold_said_version_ = 1;
  StartEpoch(1 + op.ttl % 40u);
  return AfterCall("renumber");
}

bool Harness::DoServe() {
  store_->SetRecovering(false);
  recovering_ = false;
  ++coverage_.recovered;
  // What is read back may count for an absence or not: the log has it.
  for (ModelShard& shard : shards_) {
    shard.gone_version = 0;
    shard.gone_known = false;
  }
  // The records that come are about what is here now.
  const auto keep = [this](const RecordView& record) {
    std::string bytes(RecordBytes(record), '\0');
    (void)EncodeRecord(record, bytes.data());
    replay_ += bytes;
  };
  for (const auto& [key, record] : fold_) {
    keep({.kind = RecordKind::kSet,
          .codec = record.codec,
          .version = record.version,
          .expires_wall_ms = record.expires_wall_ms,
          .client_flags = record.client_flags,
          .key = key,
          .value = record.value,
          .optional = record.optional});
  }
  RecordView to_come;
  if (store_->PendingClear(now_, &to_come)) {
    to_come.expires_wall_ms = fold_clear_at_;
    keep(to_come);
  }
  return DoMaintain(false);
}

}  // namespace cairn::model
