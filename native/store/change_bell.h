// Wakes the thread that drains a store's change rings.
//
// The reader sets `wanted`, drains every ring once more (Store::DrainRing, which takes each shard's lock), and only
// then sleeps. A writer leaves its record under that lock and reads `wanted` after releasing it. So either the reader
// sees the record, or the writer sees `wanted`.
#pragma once

#include <atomic>
#include <cstdint>

namespace cairn {

class ChangeBell {
 public:
  // Not 0: ring for every record. 0: only when a ring begins to fill up.
  std::atomic<uint32_t> wanted{0};

  // From any thread, never under a shard's lock. May make system calls; must not call back into the store.
  virtual void Ring() = 0;

 protected:
  ~ChangeBell() = default;
};

}  // namespace cairn
