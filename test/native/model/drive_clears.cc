#include <algorithm>
#include <cstdio>
#include <iterator>
#include <utility>

#include "model/harness.h"
#include "model/values.h"
#include "model/words.h"
#include "store/shard.h"

namespace cairn::model {

bool Harness::TakesBarrier(bool is_promised) {
  for (ModelShard& shard : shards_) {
    if (shard.journal.TakesBarrier(is_promised)) continue;
    (void)shard.LogFull();
    return false;
  }
  return true;
}

uint64_t Harness::TakeVersionOfAll() {
  const uint64_t version = ++last_of_all_;
  for (ModelShard& shard : shards_) shard.last_version = version;
  return version;
}

bool Harness::AreAsCleared() const {
  return std::all_of(shards_.begin(), shards_.end(), [this](const ModelShard& shard) {
    return shard.cleared_version == shard.last_version && shard.cleared_version == last_of_all_;
  });
}

// C1. A clear has one version for all shards, later than all that they have given, and a record in each. C2. A clear of
// what is cleared is the one before it: it only voids what loads have begun since.
uint64_t Harness::ClearModel(bool is_promised) {
  uint64_t version = last_of_all_;
  if (AreAsCleared()) {
    for (Ticket& ticket : tickets_) ticket.load->voided = true;
    ++coverage_.repeated_clears;
  } else {
    if (!TakesBarrier(is_promised)) return 0;
    version = TakeVersionOfAll();
    uint64_t count = 0;
    for (ModelShard& shard : shards_) {
      count += shard.Clear();
      shard.cleared_version = shard.gone_version = version;
      shard.gone_known = true;
      shard.RecordBarrier(RecordKind::kClear, version, 0);
    }
    if (count > 0) expected_cleared_.push_back(count);
    ++coverage_.clears;
  }
  scheduled_clear_ms_ = 0;
  scheduled_wall_ms_ = 0;
  scheduled_version_ = version;
  return version;
}

void Harness::RunScheduledClear() {
  if (recovering_ || scheduled_clear_ms_ == 0 || now_.boot_ms < scheduled_clear_ms_) return;
  if (ClearModel(true) == 0) {
    Fail("a clear whose time has come finds no room");
  } else {
    ++coverage_.scheduled_clears;
  }
}

bool Harness::Schedule(uint64_t at_ms) {
  const int64_t wall_ms = at_ms == 0 ? 0 : static_cast<int64_t>(at_ms) + now_.WallOffset();
  if (life_.records && (at_ms != 0 || scheduled_clear_ms_ != 0)) {
    if (!TakesBarrier(false)) return false;
    scheduled_version_ = TakeVersionOfAll();
    for (ModelShard& shard : shards_) shard.RecordBarrier(RecordKind::kClearAt, scheduled_version_, at_ms);
  }
  scheduled_clear_ms_ = at_ms;
  scheduled_wall_ms_ = wall_ms;
  return true;
}

void Harness::StartEpoch(uint32_t epoch) {
  const std::vector<uint64_t> before = LastVersions();
  store_->StartEpoch(epoch);
  for (uint32_t i = 0; i < shards_.size(); ++i) {
    ModelShard& shard = shards_[i];
    shard.last_version = store_->LastVersion(i);
    const uint32_t expected = std::max(EpochOf(before[i]), epoch);
    if (EpochOf(shard.last_version) != expected || shard.last_version < before[i]) Fail("the epoch did not start");
  }
}

uint32_t Harness::Epoch() const {
  uint64_t last = 0;
  for (const ModelShard& shard : shards_) last = std::max(last, shard.last_version);
  return EpochOf(last);
}

std::vector<uint64_t> Harness::LastVersions() const {
  std::vector<uint64_t> versions;
  for (uint32_t i = 0; i < store_->shard_count(); ++i) versions.push_back(store_->LastVersion(i));
  return versions;
}

bool Harness::DoClear() {
  BeforeCall();
  const uint64_t version = store_->Clear(store_->uses_time() ? now_ : Now{});
  const uint64_t expected = ClearModel(false);
  if (version != expected) {
    Fail(Format("clear: version %llx, expected %llx", static_cast<unsigned long long>(version),
                static_cast<unsigned long long>(expected)));
  }
  return AfterCall("clear");
}

bool Harness::DoScheduleClear(const Op& op) {
  const uint64_t at_ms = op.number % 4 == 0 ? 0 : now_.boot_ms + op.number % 2000;
  BeforeCall();
  uint64_t version = ~uint64_t{0};
  const bool is_done = store_->ScheduleClear(at_ms, now_, &version);
  RunScheduledClear();
  const bool is_expected = Schedule(at_ms);
  if (is_done != is_expected) Fail(is_done ? "scheduled without room in the log" : "not scheduled");
  if (is_done && version != scheduled_version_) Fail("the record of a clear to come has another version");
  return AfterCall("scheduleClear");
}

// A clear that is read back: what has a lower version is gone, what is newer stays.
bool Harness::DoApplyClear(const Op& op, Origin origin) {
  RecordView record;
  record.kind = RecordKind::kClear;
  const uint32_t low = Epoch() > 5 ? Epoch() - 5 : 1;
  const uint32_t epoch = std::min<uint32_t>(low + (op.number >> 6) % 7, kEpochMax - 3);
  record.version = VersionOf(epoch, op.number >> 12);
  BeforeCall();
  const Status actual = store_->Apply(record, now_, origin);
  Status expected = Status::kStored;
  if (origin == Origin::kLog) {
    uint64_t count = 0;
    for (ModelShard& shard : shards_) {
      if (record.version <= shard.cleared_version) continue;
      count += shard.Clear(record.version);
      shard.cleared_version = record.version;
      shard.last_version = std::max(shard.last_version, record.version);
    }
    if (count > 0) expected_cleared_.push_back(count);
    std::erase_if(fold_, [&](const auto& item) { return item.second.version < record.version; });
    if (record.version > scheduled_version_) {
      scheduled_version_ = fold_said_version_ = record.version;
      scheduled_clear_ms_ = 0;
      fold_clear_at_ = scheduled_wall_ms_ = 0;
    }
    ++coverage_.barriers_applied;
  } else if (ClearModel(false) == 0) {
    expected = Status::kLogFull;
  }
  if (actual != expected) Fail(std::string("expected ") + NameOf(expected) + ", got " + NameOf(actual));
  return AfterCall("applyClear");
}

// A clear to come that is read back: the newest record decides whether there is one.
bool Harness::DoApplyClearAt(const Op& op, Origin origin) {
  RecordView record;
  record.kind = RecordKind::kClearAt;
  const uint64_t at_ms = op.number % 3 == 0 ? 0 : now_.boot_ms + (op.number >> 4) % 2000;
  if (at_ms != 0) record.expires_wall_ms = static_cast<int64_t>(at_ms) + now_.WallOffset();
  record.version = std::max(scheduled_version_, uint64_t{1}) + (op.number >> 6) % 4 - 1;
  if (op.number % 5 == 0) record.version = VersionOf(std::min(Epoch(), kEpochMax - 3), op.number);
  BeforeCall();
  const Status actual = store_->Apply(record, now_, origin);
  Status expected = Status::kStored;
  if (origin == Origin::kElsewhere) {
    if (!Schedule(at_ms)) expected = Status::kLogFull;
  } else if (record.version <= scheduled_version_) {
    expected = Status::kNotStored;
  }
  if (actual != expected) Fail(std::string("expected ") + NameOf(expected) + ", got " + NameOf(actual));
  if (origin == Origin::kLog && actual == Status::kStored) {
    ModelShard& shard = shards_[0];
    shard.last_version = std::max(shard.last_version, record.version);
    scheduled_clear_ms_ = at_ms;
    fold_clear_at_ = scheduled_wall_ms_ = record.expires_wall_ms;
    scheduled_version_ = fold_said_version_ = record.version;
    ++coverage_.schedules_applied;
  }
  return AfterCall("applyClearAt");
}

}  // namespace cairn::model
