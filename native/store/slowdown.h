// How much later changes are answered while the room for changes that a backend lacks gets short. The writer of the
// backend sets it, by how full that room is; doors that can wait have each change of its keys wait that long. Writers
// that wait for their answers then come down to the pace at which the backend takes changes, before the room is full.
//
// Thread safety: any thread may call any method.
#pragma once

#include <atomic>
#include <cstdint>

namespace cairn {

class Slowdown {
 public:
  // ---- the writer ----

  // From now on. 0: changes do not wait.
  void Set(uint32_t ms) { ms_.store(ms, std::memory_order_relaxed); }
  // Changes that have been made to wait, and the sum of their times, since the start.
  uint64_t changes() const { return changes_.load(std::memory_order_relaxed); }
  uint64_t total_ms() const { return total_ms_.load(std::memory_order_relaxed); }

  // ---- doors ----

  uint32_t ms() const { return ms_.load(std::memory_order_relaxed); }
  // A change waits for this time.
  void Count(uint32_t ms) {
    changes_.fetch_add(1, std::memory_order_relaxed);
    total_ms_.fetch_add(ms, std::memory_order_relaxed);
  }

 private:
  std::atomic<uint32_t> ms_{0};
  std::atomic<uint64_t> changes_{0};
  std::atomic<uint64_t> total_ms_{0};
};

}  // namespace cairn
