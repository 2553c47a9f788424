// The log behind a service's store, as its sessions see it: how far it has come, whether it goes on, and how to hear of
// both. The real one is the addon's, over the cache's change feed; tests have their own.
//
// Thread safety: any thread may call any method.
#pragma once

#include <cstddef>
#include <cstdint>

#include "store/commit_marks.h"

namespace cairn {

class ServiceLog {
 public:
  enum class State : uint8_t {
    kRunning,  // what is recorded will be committed soon
    kFull,     // there is no room: not before somebody makes some
    kStuck,    // kFull, and so long that nobody is to wait any more
    kFailed,   // it may never be
  };
  // For `stats cairn`.
  struct Numbers {
    uint64_t ring_bytes = 0;  // filled, of all shards
    uint64_t ring_capacity_bytes = 0;
    double ring_fill_worst = 0;  // of the fullest shard, 0 to 1
    uint64_t records = 0;        // since the start
    uint64_t records_committed = 0;
    uint64_t lag_ms = 0;  // the oldest record that is not committed is at most so old
  };

  virtual ~ServiceLog() = default;

  virtual State state() const = 0;
  virtual CommitMarks* marks() = 0;
  // Another number after every commit and every change of state.
  virtual uint32_t progress() const = 0;
  // The next progress wakes the fronts of the service, once. Whoever waits for it reads progress() first, looks, arms,
  // and reads progress() again: what came in between has woken nobody.
  virtual void ArmWaker() = 0;

  virtual Numbers ReadNumbers() const = 0;
  // Numbers that the log's writer reports, in the order of Service::Options::log_metrics.
  virtual void ReadMetrics(double* numbers, size_t count) const = 0;
};

}  // namespace cairn
