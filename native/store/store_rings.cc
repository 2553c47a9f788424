// Store: the log's side of it. Records that are taken out of the rings, and records that are read back.
#include <algorithm>

#include "store/store_inl.h"

namespace cairn {

// ---- records that go to the log ----

RingDrain Store::DrainRing(uint32_t index, char* out, size_t capacity, ChangeRing::Parts parts) {
  Shard* shard = ShardAt(index);
  ChangeRing* ring = shard->ring();
  ChangeRing::View view;
  uint64_t last_version;
  {
    const ShardGuard guard(shard);
    view = ring->view();
    last_version = shard->recorder()->last_version();
  }
  RingDrain drain;
  drain.version = last_version;
  drain.place.position = view.from;
  if (view.from != view.to) {
    const ChangeRing::Collected collected =
        ring->Collect(&view, out, capacity, parts,
                      [shard](const Pin& pin, char* data, size_t bytes) { shard->ReadPinned(pin, 0, data, bytes); });
    drain.bytes = collected.bytes;
    drain.record_count = collected.count;
    drain.bytes_needed = collected.bytes_needed;
    drain.at_part = collected.at_part;
    if (view.from != view.to) drain.version = collected.version;
    if (collected.bytes != 0) {
      const ShardGuard guard(shard);
      ring->Advance(view.from);
      drain.place.position = view.from;
    }
  }
  return drain;
}

ChangeRing::Run Store::PartsOfRing(uint32_t index) const {
  Shard* shard = ShardAt(index);
  ChangeRing::View view;
  {
    const ShardGuard guard(shard);
    view = shard->ring()->view();
  }
  return shard->ring()->RunAt(view);
}

void Store::CommitRing(uint32_t index, const RingPlace& place) {
  Shard* shard = ShardAt(index);
  for (bool more = true; more;) {
    const ShardGuard guard(shard);
    more = shard->CommitRingStep(place.position);
  }
}

void Store::CommitRing(uint32_t index) {
  Shard* shard = ShardAt(index);
  RingPlace place;
  {
    const ShardGuard guard(shard);
    place.position = shard->ring()->view().from;
  }
  CommitRing(index, place);
}

void Store::RewindRing(uint32_t index) {
  Shard* shard = ShardAt(index);
  const ShardGuard guard(shard);
  shard->ring()->Rewind();
}

InRing Store::FindInRing(std::string_view key, uint64_t version, char* out, size_t capacity, size_t* bytes) {
  const uint32_t index = ShardOf(key);
  Shard* shard = ShardAt(index);
  Pin pin;  // of a value that is copied without the lock
  char* value = nullptr;
  size_t value_bytes = 0;
  uint64_t at = 0;
  for (bool more = true; more;) {
    const ShardGuard guard(shard);
    const ChangeRing* ring = shard->ring();
    const ChangeRing::Seek seek = ring->SeekVersion(version, kStepEntriesMax, &at);
    if (seek == ChangeRing::Seek::kNone) return InRing::kNone;
    more = seek == ChangeRing::Seek::kMore;
    if (more) continue;
    bool is_pinned = true;
    ChangeRing::View view{at, at + 1};
    const ChangeRing::Collected record =
        ring->Collect(&view, out, capacity, ChangeRing::Parts::kTake,
                      [&](const Pin& kept, char* data, size_t data_bytes) NO_THREAD_SAFETY_ANALYSIS {
                        // The ring has its pages pinned: no other page is.
                        is_pinned = shard->memory()->PinEntry(kept.ref, kRingPinnedPagesMax, &pin);
                        value = data;
                        value_bytes = data_bytes;
                      });
    *bytes = record.bytes_needed != 0 ? record.bytes_needed : record.bytes;
    if (record.bytes_needed != 0) return InRing::kNeedsRoom;
    if (!is_pinned) return InRing::kBusy;
    pin.shard = index;
  }
  if (value != nullptr) {
    shard->ReadPinned(pin, 0, value, value_bytes);
    Unpin(pin);
  }
  RecordView record;
  const bool is_record = DecodeRecord({out, *bytes}, &record) == DecodeStatus::kOk;
  DCHECK(is_record);
  // A clear has the same version in every shard.
  return is_record && record.key == key ? InRing::kCopied : InRing::kNone;
}

RingStats Store::RingStatsOf(uint32_t index) const {
  if (!has_rings()) return {};
  Shard* shard = ShardAt(index);
  const ShardGuard guard(shard);
  const ChangeRing* ring = shard->ring();
  return {ring->fill_bytes(), ring->capacity(), ring->records()};
}

uint64_t Store::LastVersion(uint32_t index) const {
  Shard* shard = ShardAt(index);
  const ShardGuard guard(shard);
  return shard->recorder()->last_version();
}

void Store::Tell(ChangeRing::Note note) {
  if (note == ChangeRing::Note::kNone) [[likely]]
    return;
  ChangeBell* bell = bell_.load(std::memory_order_acquire);
  if (bell == nullptr) return;
  if (note == ChangeRing::Note::kFull || bell->wanted.load(std::memory_order_seq_cst) != 0) bell->Ring();
}

// ---- records that come from a log, a dump or a primary ----

Status Store::Apply(const RecordView& record, const Now& now, Origin origin) {
  if (record.kind == RecordKind::kClear) {
    clear_lock_.Lock();
    const Status status = ApplyClearLocked(record, origin);
    clear_lock_.Unlock();
    Unlocked(ShardAt(0)->removal_sink());
    return status;
  }
  if (record.kind == RecordKind::kClearAt) {
    OsLockGuard guard(&clear_lock_);
    return ApplyClearAtLocked(record, now, origin);
  }
  if (record.expires_wall_ms != 0 || record.optional.fields != 0) uses_time_.store(true, std::memory_order_relaxed);
  Shard* shard = ShardAt(ShardOf(record.key));
  const uint64_t hash = shard->HashOf(record.key);
  const ShardHold hold(this, shard);
  return shard->Apply(record, hash, now, origin);
}

Status Store::FillNegative(std::string_view key, FillTicket* ticket, uint64_t until_ms, const Now& now) {
  Request request;
  request.verb = Verb::kSet;
  request.key = key;
  request.fill = ticket;
  request.from_backend = true;
  request.is_absence = true;
  request.expires_ms = until_ms;
  Scratch none;
  Outcome outcome;
  Execute(request, now, &none, &outcome);
  return outcome.status;
}

bool Store::StubOf(std::string_view key, const Now& now, StubInfo* info) {
  CheckClock(now);
  Shard* shard = ShardAt(ShardOf(key));
  const uint64_t hash = shard->HashOf(key);
  const ShardHold hold(this, shard);
  return shard->StubOf(key, hash, now, info);
}

bool Store::HasFreeRoom(const Request& request) {
  Shard* shard = ShardAt(ShardOf(request.key));
  const ShardHold hold(this, shard);
  return shard->HasFreeRoom(request);
}

double Store::StubShare() const {
  double share = 0;
  for (uint32_t i = 0; i < shard_count_; i++) {
    Shard* shard = ShardAt(i);
    const ShardGuard guard(shard);
    share = std::max(share, shard->StubShare());
  }
  return share;
}

uint64_t Store::LastChangeOf(std::string_view key, const Now& now, uint64_t* value_version) {
  CheckClock(now);
  Shard* shard = ShardAt(ShardOf(key));
  const uint64_t hash = shard->HashOf(key);
  const ShardHold hold(this, shard);
  return shard->LastChangeOf(key, hash, now, value_version);
}

Status Store::Revive(const RecordView& record, uint64_t newest_version, const Now& now) {
  CheckClock(now);
  Shard* shard = ShardAt(ShardOf(record.key));
  const uint64_t hash = shard->HashOf(record.key);
  const ShardHold hold(this, shard);
  return shard->Revive(record, newest_version, hash, now);
}

void Store::SetRecovering(bool recovering) {
  is_recovering_.store(recovering, std::memory_order_relaxed);
  for (uint32_t i = 0; i < shard_count_; i++) {
    Shard* shard = ShardAt(i);
    const ShardGuard guard(shard);
    shard->SetRecovering(recovering);
  }
}

void Store::SettleRecovered() {
  for (uint32_t i = 0; i < shard_count_; i++) {
    Shard* shard = ShardAt(i);
    const ShardGuard guard(shard);
    shard->SettleRecovered();
  }
}

void Store::Renumber() {
  uint64_t counters[kShardCountMax];
  OsRandom(counters, shard_count_ * sizeof counters[0]);
  OsLockGuard guard(&clear_lock_);
  clear_at_version_ = 1;  // a snapshot may say so again
  for (uint32_t i = 0; i < shard_count_; i++) {
    Shard* shard = ShardAt(i);
    const ShardGuard shard_guard(shard);
    shard->Renumber(counters[i] & (kVersionCounterMask >> 1));
  }
}

void Store::StartEpoch(uint32_t epoch) {
  uint64_t counters[kShardCountMax];
  OsRandom(counters, shard_count_ * sizeof counters[0]);
  OsLockGuard guard(&clear_lock_);
  for (uint32_t i = 0; i < shard_count_; i++) {
    Shard* shard = ShardAt(i);
    const ShardGuard shard_guard(shard);
    // The lower half: as many are left as were skipped.
    shard->recorder()->NoteVersion(VersionOf(epoch, counters[i] & (kVersionCounterMask >> 1)));
  }
}

}  // namespace cairn
