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
  if (shards_[0].journal.TakesBarrier(is_promised)) return true;
  (void)shards_[0].LogFull();
  return false;
}

// No epoch is left for a clear. Each shard then clears by its own counter; but a barrier for all shards needs an epoch,
// so with records there is no clear any more.
bool Harness::EpochsUsedUp() const { return epoch_ == kEpochMax; }

// Those that are left are for other openings of the log; a clear that was promised takes one of them all the same.
bool Harness::ClearsUsedUp() const { return thrifty_ && epoch_ >= kEpochMax - kEpochsForOpenings; }

void Harness::ClearModel() {
  if (!EpochsUsedUp()) ++epoch_;
  uint64_t count = 0;
  for (ModelShard& shard : shards_) {
    count += shard.Clear();
    if (shard.epoch < epoch_) {
      shard.epoch = epoch_;
      shard.last_version = shard.cleared_version = uint64_t{epoch_} << kVersionCounterBits;
    } else {
      // The shard may have given none yet.
      shard.cleared_version = std::max(shard.last_version, uint64_t{epoch_} << kVersionCounterBits) + 1;
    }
    shard.gone_version = std::max(shard.gone_version, shard.last_version);
    shard.gone_known = false;
  }
  if (count > 0) expected_cleared_.push_back(count);
  scheduled_clear_ms_ = 0;
  scheduled_wall_ms_ = 0;
  scheduled_known_ = false;
  cleared_at_.clear();
  last_clear_version_ = 0;
  ++coverage_.clears;
}

void Harness::RunScheduledClear() {
  if (recovering_ || scheduled_clear_ms_ == 0 || now_.boot_ms < scheduled_clear_ms_) return;
  if (life_.records && EpochsUsedUp()) return;
  if (!TakesBarrier(true)) {
    // A ring always has the room.
    if (has_rings()) Fail("a clear whose time has come finds no room");
    return;
  }
  ++coverage_.scheduled_clears;
  ClearModel();
  shards_[0].RecordBarrier(0, epoch_);
}

bool Harness::Schedule(uint64_t at_ms) {
  const int64_t wall_ms = at_ms == 0 ? 0 : static_cast<int64_t>(at_ms) + now_.WallOffset();
  if (at_ms != 0 && ClearsUsedUp()) return false;
  if (life_.records && (at_ms != 0 || scheduled_clear_ms_ != 0)) {
    if (!TakesBarrier(false)) return false;
    Entry to_come;
    to_come.expires_ms = at_ms;
    shards_[0].Record(RecordKind::kClearAt, to_come);
  }
  scheduled_clear_ms_ = at_ms;
  scheduled_wall_ms_ = wall_ms;
  return true;
}

void Harness::StartEpoch(uint32_t epoch) {
  const std::vector<uint64_t> before = LastVersions();
  store_->StartEpoch(epoch);
  thrifty_ = true;
  epoch_ = std::max(epoch_, epoch);
  for (uint32_t i = 0; i < shards_.size(); ++i) {
    ModelShard& shard = shards_[i];
    shard.epoch = std::max(shard.epoch, epoch);
    shard.last_version = store_->LastVersion(i);
    if (EpochOf(shard.last_version) != shard.epoch || shard.last_version < before[i]) Fail("the epoch did not start");
  }
  for (ModelShard& shard : shards_) {
    shard.journal.barrier = shard.journal.barrier_committed = std::max(shard.journal.barrier, epoch);
  }
}

std::vector<uint64_t> Harness::LastVersions() const {
  std::vector<uint64_t> versions;
  for (uint32_t i = 0; i < store_->shard_count(); ++i) versions.push_back(store_->LastVersion(i));
  return versions;
}

bool Harness::DoClear() {
  BeforeCall();
  const std::vector<uint64_t> before = LastVersions();
  const uint64_t version = store_->Clear(store_->uses_time() ? now_ : Now{});
  if (version != 0 && LastVersions() == before) {
    // It is the one before it, and all that it does is to void what loads have begun since.
    const bool is_clear = scheduled_clear_ms_ == 0 && std::all_of(shards_.begin(), shards_.end(),
                                                                  [](const ModelShard& s) { return s.order.empty(); });
    if (!thrifty_ || !is_clear || (!cleared_at_.empty() && cleared_at_ != before)) Fail("not cleared");
    if (EpochOf(version) != epoch_ || (last_clear_version_ != 0 && version != last_clear_version_)) {
      Fail("a clear of what is cleared is not the one before it");
    }
    for (Ticket& ticket : tickets_) ticket.load->voided = true;
    ++coverage_.thrifty_clears;
    return AfterCall("clear");
  }
  if (thrifty_ && cleared_at_ == before) Fail("a clear of what is cleared takes an epoch");
  if ((life_.records && EpochsUsedUp()) || ClearsUsedUp() || !TakesBarrier(false)) {
    if (version != 0) Fail("cleared without room in the log");
    return AfterCall("clear");
  }
  ClearModel();
  cleared_at_ = LastVersions();
  last_clear_version_ = version;
  scheduled_version_ = version;
  scheduled_known_ = true;
  if ((version >> kVersionCounterBits) != epoch_) Fail("the barrier has another epoch");
  shards_[0].RecordBarrier(version, epoch_);
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
  if (is_done) {
    std::vector<ExpectedRecord>& records = shards_[0].new_records;
    if (!records.empty() && records.back().kind == RecordKind::kClearAt) records.back().version = version;
    scheduled_version_ = version;
    scheduled_known_ = true;
  }
  return AfterCall("scheduleClear");
}

// A barrier that is read back: what is of an older epoch is gone, what is newer stays.
bool Harness::DoApplyClear(const Op& op, bool keep_version) {
  RecordView record;
  record.kind = RecordKind::kClear;
  const uint32_t low = epoch_ > 5 ? epoch_ - 5 : 1;
  const uint32_t epoch = std::min<uint32_t>(low + (op.number >> 6) % 7, kEpochMax);
  record.version = uint64_t{epoch} << kVersionCounterBits | (op.number >> 12);
  BeforeCall();
  const Status actual = store_->Apply(record, now_, keep_version);
  Status expected = Status::kStored;
  if (keep_version) {
    const uint64_t barrier = uint64_t{epoch} << kVersionCounterBits;
    uint64_t count = 0;
    for (ModelShard& shard : shards_) {
      if (barrier <= shard.cleared_version) continue;
      count += shard.Clear(barrier);
      shard.cleared_version = barrier;
      shard.last_version = std::max(shard.last_version, barrier);
      shard.epoch = std::max(shard.epoch, epoch);
    }
    if (count > 0) expected_cleared_.push_back(count);
    epoch_ = std::max(epoch_, epoch);
    std::erase_if(fold_, [&](const auto& item) { return item.second.version < barrier; });
    // Where a clear is to come, the version of what says so is known.
    if (scheduled_known_ && record.version > scheduled_version_) {
      scheduled_version_ = record.version;
      scheduled_clear_ms_ = 0;
      fold_clear_at_ = scheduled_wall_ms_ = 0;
    }
    ++coverage_.barriers_applied;
  } else if ((life_.records && EpochsUsedUp()) || !TakesBarrier(false)) {
    expected = Status::kLogFull;
  } else {
    ClearModel();
    shards_[0].RecordBarrier(0, epoch_);
  }
  if (actual != expected) Fail(std::string("expected ") + NameOf(expected) + ", got " + NameOf(actual));
  return AfterCall("applyClear");
}

// A clear to come that is read back: the newest record decides whether there is one.
bool Harness::DoApplyClearAt(const Op& op, bool keep_version) {
  RecordView record;
  record.kind = RecordKind::kClearAt;
  const uint64_t at_ms = op.number % 3 == 0 ? 0 : now_.boot_ms + (op.number >> 4) % 2000;
  if (at_ms != 0) record.expires_wall_ms = static_cast<int64_t>(at_ms) + now_.WallOffset();
  record.version = std::max(scheduled_version_, uint64_t{1}) + (op.number >> 6) % 4 - 1;
  if (op.number % 5 == 0) record.version = uint64_t{std::min(epoch_, kEpochMax - 3)} << kVersionCounterBits | op.number;
  BeforeCall();
  const Status actual = store_->Apply(record, now_, keep_version);
  Status expected = Status::kStored;
  if (!keep_version) {
    const bool was_to_come = scheduled_clear_ms_ != 0;
    if (!Schedule(at_ms)) expected = Status::kLogFull;
    RecordView to_come;
    if (actual == Status::kStored && at_ms != 0 && store_->PendingClear(now_, &to_come)) {
      scheduled_version_ = to_come.version;
      scheduled_known_ = true;
    } else if (actual == Status::kStored && was_to_come && life_.records) {
      scheduled_known_ = false;
    }
  } else if (!scheduled_known_) {
    expected = actual;
  } else if (record.version <= scheduled_version_) {
    expected = Status::kNotStored;
  }
  if (actual != expected) Fail(std::string("expected ") + NameOf(expected) + ", got " + NameOf(actual));
  if (keep_version && actual == Status::kStored) {
    ModelShard& shard = shards_[0];
    cleared_at_.clear();
    epoch_ = std::max(epoch_, EpochOf(record.version));
    shard.epoch = std::max(shard.epoch, EpochOf(record.version));
    if (EpochOf(record.version) == shard.epoch) shard.last_version = std::max(shard.last_version, record.version);
    scheduled_clear_ms_ = at_ms;
    fold_clear_at_ = scheduled_wall_ms_ = record.expires_wall_ms;
    scheduled_version_ = record.version;
    scheduled_known_ = true;
    ++coverage_.schedules_applied;
  }
  return AfterCall("applyClearAt");
}

}  // namespace cairn::model
