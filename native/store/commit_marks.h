// How far the log is, for the doors: for each shard the version up to which every record is committed at the level that
// replies wait for. A reply that reveals a later version is held.
//
// Versions of a shard only rise, and the log commits them in order, so one number per shard is enough. At the level
// `memory` the marks are inactive and cover everything, at the cost of one relaxed load per reply.
//
// A thread that is about to wait for a mark may ring the bell, so that the scribe writes the records in the rings at
// once.
//
// Thread safety: Covers(), Advance() and RingBell() from any thread. A front reads a mark after it was woken; the
// thread that advances marks wakes the fronts afterwards, so no reply is left behind.
#pragma once

#include <atomic>
#include <cstdint>
#include <memory>

#include "store/change_bell.h"

namespace cairn {

class CommitMarks {
 public:
  explicit CommitMarks(uint32_t shard_count)
      : shard_count_(shard_count), marks_(std::make_unique<std::atomic<uint64_t>[]>(shard_count)) {}

  bool active() const { return active_.load(std::memory_order_relaxed); }

  // REQUIRES: shard < the number of shards.
  bool Covers(uint32_t shard, uint64_t version) const { return !active() || version <= Mark(shard); }

  // Ordered with Advance() and with LogWatch::Arm(): a front either sees the mark, or is woken.
  uint64_t Mark(uint32_t shard) const { return marks_[shard].load(std::memory_order_seq_cst); }

  // Never goes back.
  void Advance(uint32_t shard, uint64_t version) {
    std::atomic<uint64_t>& mark = marks_[shard];
    uint64_t seen = mark.load(std::memory_order_relaxed);
    while (seen < version && !mark.compare_exchange_weak(seen, version, std::memory_order_seq_cst)) {
    }
  }
  void AdvanceAll(uint64_t version) {
    for (uint32_t shard = 0; shard < shard_count_; shard++) Advance(shard, version);
  }

  // From now on replies wait for versions above `version`. Called before the first request of a served cache, and by
  // test commands.
  void Activate(uint64_t version) {
    for (uint32_t shard = 0; shard < shard_count_; shard++) marks_[shard].store(version, std::memory_order_release);
    active_.store(true, std::memory_order_release);
  }
  void Deactivate() { active_.store(false, std::memory_order_release); }

  // The bell outlives its last RingBell(). Null: there is none.
  void SetBell(ChangeBell* bell) { bell_.store(bell, std::memory_order_release); }
  void RingBell() {
    ChangeBell* bell = bell_.load(std::memory_order_acquire);
    if (bell != nullptr) bell->Ring();
  }

 private:
  const uint32_t shard_count_;
  std::atomic<bool> active_{false};
  std::atomic<ChangeBell*> bell_{nullptr};
  std::unique_ptr<std::atomic<uint64_t>[]> marks_;
};

}  // namespace cairn
