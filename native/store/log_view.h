// The log behind a store, as the doors see it: how far it is, whether it takes records, and how to be woken for news of
// both. ChangeFeed implements it; tests have their own.
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

// Wakes a thread for progress of the log, once after each Arm(). The thread reads progress, looks, arms, and reads
// progress again, because progress before Arm() wakes no thread.
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
    kRunning,  // records will be committed soon
    kFull,     // no room until the disk has space again
    kStuck,    // kFull for longer than callers wait
    kFailed,   // no further record will be committed
  };
  struct Numbers {
    uint64_t ring_bytes = 0;  // filled, of all shards
    uint64_t ring_capacity_bytes = 0;
    double ring_fill_worst = 0;      // of the fullest shard, 0 to 1
    uint64_t records = 0;            // since the start
    uint64_t records_committed = 0;  // of them
    uint64_t lag_ms = 0;             // age of the oldest uncommitted record, up to one commit less
  };

  virtual ~LogView() = default;

  virtual Health health() const = 0;
  virtual CommitMarks* marks() = 0;
  // A number that changes with every commit and every change of health.
  virtual uint32_t progress() const = 0;
  virtual std::shared_ptr<LogWatch> Watch(std::shared_ptr<Waker> waker) = 0;
  virtual void Unwatch(const LogWatch* watch) = 0;

  virtual Numbers ReadNumbers() const = 0;
  // Numbers that the scribe reports, in the order of LOG_METRICS (src/scribe/metrics.ts).
  virtual void ReadMetrics(double* numbers, size_t count) const = 0;
};

}  // namespace cairn
