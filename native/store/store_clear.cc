// Store: clears, which are one moment in all shards; at once, at a time that is set, or read back from a log.
#include <algorithm>

#include "store/store_inl.h"

namespace cairn {

// Holds the locks of all shards: what is done meanwhile happens at one moment for all of them. They are taken in the
// order of the shards, and only under clear_lock_. Other threads that hold a shard's lock wait for another's only in an
// atomic batch, which takes them in the same order: no cycle is possible.
//
// Clang cannot follow that many locks: methods of this class touch the shards, and nothing else does meanwhile.
class Store::AllShards {
 public:
  explicit AllShards(const Store* store) NO_THREAD_SAFETY_ANALYSIS : store_(store) {
    for (uint32_t i = 0; i < count(); i++) At(i)->Lock();
  }
  ~AllShards() NO_THREAD_SAFETY_ANALYSIS {
    for (uint32_t i = 0; i < count(); i++) At(i)->Unlock();
  }
  AllShards(const AllShards&) = delete;
  AllShards& operator=(const AllShards&) = delete;

  bool ReserveBarrier(Recorder::Barrier barrier) const NO_THREAD_SAFETY_ANALYSIS {
    for (uint32_t i = 0; i < count(); i++) {
      if (!At(i)->recorder()->ReserveBarrier(barrier)) return false;
    }
    return true;
  }
  void LeaveBarrier(RecordKind kind, uint64_t version, int64_t wall_ms) const NO_THREAD_SAFETY_ANALYSIS {
    for (uint32_t i = 0; i < count(); i++) At(i)->recorder()->LeaveBarrier(kind, version, wall_ms);
  }
  // How many entries were alive.
  uint64_t Clear(uint64_t version) const NO_THREAD_SAFETY_ANALYSIS {
    uint64_t entries = 0;
    for (uint32_t i = 0; i < count(); i++) entries += At(i)->Clear(version);
    return entries;
  }
  void VoidFills() const NO_THREAD_SAFETY_ANALYSIS {
    for (uint32_t i = 0; i < count(); i++) At(i)->fills()->VoidAll();
  }
  // The last version that any shard has given.
  uint64_t LastVersion() const NO_THREAD_SAFETY_ANALYSIS {
    uint64_t last = 0;
    for (uint32_t i = 0; i < count(); i++) last = std::max(last, At(i)->recorder()->last_version());
    return last;
  }
  // Nothing was done since the last clear.
  bool AreAsCleared() const NO_THREAD_SAFETY_ANALYSIS {
    for (uint32_t i = 0; i < count(); i++) {
      if (!At(i)->is_as_cleared()) return false;
    }
    return true;
  }
  ChangeRing::Note TakeNotes() const {
    auto note = ChangeRing::Note::kNone;
    for (uint32_t i = 0; i < count(); i++) note = std::max(note, At(i)->ring()->TakeNote());
    return note;
  }

 private:
  uint32_t count() const { return store_->shard_count_; }
  Shard* At(uint32_t index) const { return store_->ShardAt(index); }

  const Store* const store_;
};

uint64_t Store::Clear(const Now&) {
  clear_lock_.Lock();
  const uint64_t version = ClearLocked(Recorder::Barrier::kRequested);
  clear_lock_.Unlock();
  Unlocked(ShardAt(0)->removal_sink());
  return version;
}

uint64_t Store::ClearLocked(Recorder::Barrier barrier) {
  uint64_t version;
  uint64_t entries = 0;
  auto note = ChangeRing::Note::kNone;
  {
    const AllShards all(this);
    if (all.AreAsCleared()) {
      // The clear before is this one too: nothing is left to be told. But what a load has begun to fetch since then may
      // be older than this one.
      version = all.LastVersion();
      all.VoidFills();
    } else {
      if (!all.ReserveBarrier(barrier)) return 0;
      version = all.LastVersion() + 1;
      entries = all.Clear(version);
      note = all.TakeNotes();
    }
  }
  RemovalSink* sink = ShardAt(0)->removal_sink();
  if (sink != nullptr && entries > 0 && sink->wanted(Reason::kCleared)) sink->OnCleared(entries);
  clears_.fetch_add(1, std::memory_order_relaxed);
  SetClearAt(0, version);
  Tell(note);
  return version;
}

bool Store::ScheduleClear(uint64_t at_ms, const Now& now, uint64_t* version) {
  // One whose time has come is not replaced any more.
  CheckClock(now);
  OsLockGuard guard(&clear_lock_);
  if (!ScheduleLocked(at_ms, now)) return false;
  *version = clear_at_version_;
  return true;
}

bool Store::ScheduleLocked(uint64_t at_ms, const Now& now) {
  uint64_t version = clear_at_version_;
  const bool is_none = clear_at_ms()->load(std::memory_order_relaxed) == ~uint64_t{0};
  if (logged_ && !(at_ms == 0 && is_none)) {
    const int64_t wall_ms = at_ms == 0 ? 0 : static_cast<int64_t>(at_ms) + now.WallOffset();
    auto note = ChangeRing::Note::kNone;
    {
      const AllShards all(this);
      if (!all.ReserveBarrier(Recorder::Barrier::kRequested)) return false;
      version = all.LastVersion() + 1;
      all.LeaveBarrier(RecordKind::kClearAt, version, wall_ms);
      note = all.TakeNotes();
    }
    Tell(note);
  }
  SetClearAt(at_ms, version);
  return true;
}

void Store::SetClearAt(uint64_t at_ms, uint64_t version) {
  if (at_ms != 0) uses_time_.store(true, std::memory_order_relaxed);
  clear_at_version_ = version;
  clear_at_ms()->store(at_ms == 0 ? ~uint64_t{0} : at_ms, std::memory_order_relaxed);
}

bool Store::PendingClear(const Now& now, RecordView* record) {
  OsLockGuard guard(&clear_lock_);
  const uint64_t at_ms = clear_at_ms()->load(std::memory_order_relaxed);
  if (at_ms == ~uint64_t{0}) return false;
  *record = RecordView{};
  record->kind = RecordKind::kClearAt;
  record->version = clear_at_version_;
  record->expires_wall_ms = static_cast<int64_t>(at_ms) + now.WallOffset();
  return true;
}

void Store::RunScheduledClear(const Now& now) {
  if (is_recovering_.load(std::memory_order_relaxed)) return;
  clear_lock_.Lock();
  if (now.boot_ms >= clear_at_ms()->load(std::memory_order_relaxed)) ClearLocked(Recorder::Barrier::kDue);
  clear_lock_.Unlock();
  Unlocked(ShardAt(0)->removal_sink());
}

Status Store::ApplyClearLocked(const RecordView& record, Origin origin) {
  if (origin != Origin::kElsewhere) {
    uint64_t entries = 0;
    for (uint32_t i = 0; i < shard_count_; i++) {
      Shard* shard = ShardAt(i);
      const ShardGuard shard_guard(shard);
      entries += shard->ApplyClear(record.version);
    }
    RemovalSink* sink = ShardAt(0)->removal_sink();
    if (sink != nullptr && entries > 0 && sink->wanted(Reason::kCleared)) sink->OnCleared(entries);
    if (record.version > clear_at_version_) SetClearAt(0, record.version);
    clears_.fetch_add(1, std::memory_order_relaxed);
    return Status::kStored;
  }
  return ClearLocked(Recorder::Barrier::kRequested) == 0 ? Status::kLogFull : Status::kStored;
}

Status Store::ApplyClearAtLocked(const RecordView& record, const Now& now, Origin origin) {
  const int64_t wall_ms = record.expires_wall_ms;
  const uint64_t at_ms =
      wall_ms == 0 ? 0 : static_cast<uint64_t>(std::max<int64_t>(wall_ms - now.WallOffset(), kAlreadyExpired));
  if (origin == Origin::kElsewhere) return ScheduleLocked(at_ms, now) ? Status::kStored : Status::kLogFull;
  if (record.version <= clear_at_version_) return Status::kNotStored;
  {
    Shard* shard = ShardAt(0);
    const ShardGuard guard(shard);
    shard->recorder()->NoteVersion(record.version);
  }
  SetClearAt(at_ms, record.version);
  return Status::kStored;
}

}  // namespace cairn
