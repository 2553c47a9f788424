#include "store/stored_changes.h"

#include <algorithm>
#include <utility>

namespace cairn {

StoredChanges::StoredChanges(uint32_t shard_count)
    : shard_count_(shard_count),
      marks_(shard_count),
      wanted_(std::make_unique<std::atomic<uint64_t>[]>(shard_count)),
      health_(std::make_unique<std::atomic<Health>[]>(shard_count)),
      forgotten_(shard_count, 0) {
  SetHealth(0, shard_count, Health::kRunning);
}

// ---- the writer ----

void StoredChanges::Refuse(uint32_t shard, std::string_view key, uint64_t version, std::string_view reason, Of of) {
  const uint64_t above = marks_.Mark(shard);
  Refused refused{shard, above, version, of, std::string(key), std::string(reason.substr(0, kReasonBytesMax))};
  OsLockGuard guard(&lock_);
  refused_.push_back(std::move(refused));
  if (refused_.size() > kRefusedMax) {
    const Refused& oldest = refused_.front();
    forgotten_[oldest.shard] = std::max(forgotten_[oldest.shard], oldest.version);
    refused_.pop_front();
  }
  has_refused_.store(true, std::memory_order_seq_cst);
}

void StoredChanges::SetHealth(uint32_t from, uint32_t end, Health health) {
  OsLockGuard guard(&lock_);
  for (uint32_t shard = from; shard < end; shard++) health_[shard].store(health, std::memory_order_seq_cst);
  Health worst = Health::kRunning;
  for (uint32_t shard = 0; shard < shard_count_; shard++) worst = std::max(worst, this->health(shard));
  worst_health_.store(worst, std::memory_order_seq_cst);
}

void StoredChanges::SetWriter(std::shared_ptr<Waker> writer) {
  OsLockGuard guard(&lock_);
  writer_.swap(writer);
  // A Want() from before has told another writer, or none.
  is_writer_told_.store(false, std::memory_order_seq_cst);
}

void StoredChanges::RemoveWriter(const Waker* writer) {
  std::shared_ptr<Waker> removed;  // freed without the lock
  OsLockGuard guard(&lock_);
  if (writer_.get() == writer) writer_.swap(removed);
}

bool StoredChanges::TakeWanted() {
  // Before the versions are read: a door that raises one afterwards wakes again.
  is_writer_told_.store(false, std::memory_order_seq_cst);
  return IsWanted(0, shard_count_);
}

bool StoredChanges::IsWanted(uint32_t from, uint32_t end) const {
  for (uint32_t shard = from; shard < end; shard++) {
    if (wanted_[shard].load(std::memory_order_seq_cst) > marks_.Mark(shard)) return true;
  }
  return false;
}

// ---- doors ----

void StoredChanges::Want(uint32_t shard, uint64_t version) {
  std::atomic<uint64_t>& wanted = wanted_[shard];
  uint64_t seen = wanted.load(std::memory_order_relaxed);
  while (seen < version && !wanted.compare_exchange_weak(seen, version, std::memory_order_seq_cst)) {
  }
  if (is_writer_told_.exchange(true, std::memory_order_seq_cst)) return;
  std::shared_ptr<Waker> writer;
  {
    OsLockGuard guard(&lock_);
    writer = writer_;
  }
  if (writer != nullptr) writer->Wake();
}

StoredChanges::Outcome StoredChanges::OutcomeOf(uint32_t shard, std::string_view key, uint64_t version,
                                                std::string* reason) {
  if (version > marks_.Mark(shard)) return health(shard) == Health::kRunning ? Outcome::kPending : Outcome::kUnknown;
  if (!has_refused_.load(std::memory_order_seq_cst)) return Outcome::kStored;
  OsLockGuard guard(&lock_);
  for (const Refused& refused : refused_) {
    const bool is_of_it = refused.shard == shard && refused.above < version && version <= refused.version;
    if (!is_of_it || refused.key != key) continue;
    if (refused.of == Of::kSomeBatches && version != refused.version) return Outcome::kUnknown;
    if (reason != nullptr) *reason = refused.reason;
    return Outcome::kRefused;
  }
  return version <= forgotten_[shard] ? Outcome::kUnknown : Outcome::kStored;
}

bool StoredChanges::IsRefusedSince(uint32_t shard, std::string_view key, uint64_t version, std::string* reason) {
  if (!has_refused_.load(std::memory_order_seq_cst)) return false;
  OsLockGuard guard(&lock_);
  for (const Refused& refused : refused_) {
    if (refused.shard != shard || refused.version < version || refused.key != key) continue;
    if (reason != nullptr) *reason = refused.reason;
    return true;
  }
  return false;
}

}  // namespace cairn
