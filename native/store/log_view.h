// The log behind a store, as its readers and the doors in front of it see it: how far it has come, whether it goes on,
// and how to hear of both. The real one is ChangeFeed; tests have their own.
//
// Thread safety: any thread may call any method.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>

#include "base/waker.h"
#include "store/commit_marks.h"

namespace cairn {

// A thread that wants to hear of progress. It hears once after each Arm(): read progress, look, arm, and read progress
// again, because what came in between has woken no one.
class LogWatch {
 public:
  explicit LogWatch(std::shared_ptr<Waker> waker) : waker_(std::move(waker)) {}
  virtual ~LogWatch() = default;
  // The next progress wakes.
  virtual void Arm() { armed_.store(true, std::memory_order_seq_cst); }
  // Called by the log after progress. `always`: also if it was not armed.
  void Tell(bool always) {
    if (armed_.exchange(false, std::memory_order_seq_cst) || always) waker_->Wake();
  }

 private:
  const std::shared_ptr<Waker> waker_;
  std::atomic<bool> armed_{false};
};

class LogView {
 public:
  enum class Health : uint8_t {
    kRunning,  // what is recorded will be committed soon
    kFull,     // there is no room until space is made on the disk
    kStuck,    // kFull for so long that waiting is pointless
    kFailed,   // nothing more will be committed
  };
  struct Numbers {
    uint64_t ring_bytes = 0;  // filled, of all shards
    uint64_t ring_capacity_bytes = 0;
    double ring_fill_worst = 0;      // of the fullest shard, 0 to 1
    uint64_t records = 0;            // since the start
    uint64_t records_committed = 0;  // of them
    uint64_t lag_ms = 0;             // age of the oldest record that is not committed; up to a commit less
  };

  virtual ~LogView() = default;

  virtual Health health() const = 0;
  virtual CommitMarks* marks() = 0;
  // Another number after every commit and every change of health.
  virtual uint32_t progress() const = 0;
  virtual std::shared_ptr<LogWatch> Watch(std::shared_ptr<Waker> waker) = 0;
  virtual void Unwatch(const LogWatch* watch) = 0;

  virtual Numbers ReadNumbers() const = 0;
  // Numbers that the log's writer reports, in an order that the writer's side of the cache knows.
  virtual void ReadMetrics(double* numbers, size_t count) const = 0;
};

}  // namespace cairn
