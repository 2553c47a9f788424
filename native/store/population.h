// The live and the dead entries of a shard. A clear makes all entries dead at once; their memory is freed in steps.
#pragma once

#include <cstdint>

#include "store/entry.h"

namespace cairn {

// In the mapping.
// Invariant: dead entries are the cold end of the list, from `newest_dead` on.
struct Population {
  uint64_t cleared_version;  // entries of a lower version are dead
  uint64_t live_entries;
  uint64_t dead_entries;
  uint64_t payload_bytes;  // key and value bytes of both
  Ref newest_dead;         // 0: there are none

  bool IsDead(const EntryHeader* entry) const { return entry->version < cleared_version; }
  uint64_t entries() const { return live_entries + dead_entries; }
};

}  // namespace cairn
