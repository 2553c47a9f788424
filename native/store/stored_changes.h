// How far the backend is, for doors whose replies wait for it: for each shard the version up to which the backend has
// every change, the changes that it has refused for good, and whether it takes changes of the shard at all.
//
//   door: executes a change -> Want() -> holds the reply until the mark has passed its version
//   writer: is woken by Want() -> writes at once -> Refuse() for each dead letter -> marks()->Advance() -> wakes doors
//
// The marks alone do not say that a change is in the backend: it may be a dead letter. The writer tells of these before
// it raises the marks, so a door that sees a mark sees them. A dead letter stands for all changes of its key in its
// batch, which are those above the mark as of then. Where several batches may lie there (another thread wrote them),
// the outcome of all but the refused change itself is unknown.
//
// Only the latest kRefusedMax dead letters are kept. A door that looks at a change later than that is told that the
// outcome is unknown.
//
// Thread safety: any thread may call any method. The lock is a leaf.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "base/os.h"
#include "base/thread_annotations.h"
#include "base/waker.h"
#include "store/commit_marks.h"
#include "store/slowdown.h"

namespace cairn {

class StoredChanges {
 public:
  static constexpr size_t kRefusedMax = 4096;
  // The longest reason that is kept of a dead letter, in bytes.
  static constexpr size_t kReasonBytesMax = 500;

  // What the writer says of the backend, for the changes of a shard.
  enum class Health : uint32_t {
    kRunning = 0,
    kAway = 1,     // it has confirmed nothing for the time that callers wait
    kStopped = 2,  // nothing is written until a person acts, or the cache is opened again
  };

  explicit StoredChanges(uint32_t shard_count);
  StoredChanges(const StoredChanges&) = delete;
  StoredChanges& operator=(const StoredChanges&) = delete;

  // The versions up to which the backend has every change, except refused ones.
  CommitMarks* marks() { return &marks_; }
  const CommitMarks* marks() const { return &marks_; }
  // How long changes wait while the room for those that this backend lacks gets short.
  Slowdown* slowdown() { return &slowdown_; }

  // ---- the writer ----

  // Between the mark and a dead letter there is one batch, or there may be several. In several, an earlier change of
  // the key may be in the backend or not.
  enum class Of : uint8_t { kOneBatch, kSomeBatches };
  // The backend has put the change of this version aside, and with it the earlier ones of the key that are above the
  // mark. Called before the mark is raised to it.
  void Refuse(uint32_t shard, std::string_view key, uint64_t version, std::string_view reason, Of of = Of::kOneBatch);
  // For the shards from the first to before the second.
  void SetHealth(uint32_t from, uint32_t end, Health health);
  // Woken when a door begins to wait, until it is removed, or another one is set. TakeWanted() tells it of doors that
  // wait already.
  void SetWriter(std::shared_ptr<Waker> writer);
  void RemoveWriter(const Waker* writer);
  // True: a door waits for a change above the mark. A later Want() wakes again.
  bool TakeWanted();
  // Whether a door waits for such a change of the shards from the first to before the second.
  bool IsWanted(uint32_t from, uint32_t end) const;

  // ---- doors ----

  Health health(uint32_t shard) const { return health_[shard].load(std::memory_order_seq_cst); }
  // The worst of all shards.
  Health health() const { return worst_health_.load(std::memory_order_seq_cst); }
  // A door is about to wait for this version.
  void Want(uint32_t shard, uint64_t version);

  enum class Outcome : uint8_t {
    kPending,
    kStored,   // the backend has it, or a later change of the key
    kRefused,  // it is a dead letter
    kUnknown,  // the backend may have it, now or later
  };
  // What has become of a change. `reason`, where it is not null: of a dead letter.
  Outcome OutcomeOf(uint32_t shard, std::string_view key, uint64_t version, std::string* reason = nullptr);
  // Whether a dead letter of the key is known whose version is at least this. `reason`, where it is not null: of it.
  bool IsRefusedSince(uint32_t shard, std::string_view key, uint64_t version, std::string* reason);

 private:
  struct Refused {
    uint32_t shard;
    uint64_t above;    // the mark before its batch
    uint64_t version;  // of the dead letter
    Of of;
    std::string key;
    std::string reason;
  };

  const uint32_t shard_count_;
  CommitMarks marks_;
  Slowdown slowdown_;
  // The highest version that a door has waited for, by shard.
  const std::unique_ptr<std::atomic<uint64_t>[]> wanted_;
  std::atomic<bool> is_writer_told_{false};
  const std::unique_ptr<std::atomic<Health>[]> health_;  // by shard; written under the lock
  std::atomic<Health> worst_health_{Health::kRunning};
  std::atomic<bool> has_refused_{false};

  OsLock lock_;
  std::shared_ptr<Waker> writer_ GUARDED_BY(lock_);
  std::deque<Refused> refused_ GUARDED_BY(lock_);
  // The highest version of a dead letter that is not kept any more, by shard.
  std::vector<uint64_t> forgotten_ GUARDED_BY(lock_);
};

}  // namespace cairn
