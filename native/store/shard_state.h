// What a shard is made with (ShardConfig), and what it keeps in the mapping (ShardState): the states of its parts, in
// the order of their use. ShardState may lie at any address, and in memory that processes share: it has offsets, and no
// pointers.
//
// Thread safety: the lock in it guards it.
#pragma once

#include <cstddef>
#include <cstdint>

#include "base/hash.h"
#include "base/os.h"
#include "store/arena.h"
#include "store/bodies.h"
#include "store/change_ring.h"
#include "store/commit_marks.h"
#include "store/debts.h"
#include "store/entry_memory.h"
#include "store/growth.h"
#include "store/hash_table.h"
#include "store/lru_list.h"
#include "store/population.h"
#include "store/recorder.h"
#include "store/store_stats.h"
#include "store/timer_wheel.h"
#include "store/walks.h"

namespace cairn {

struct ShardConfig {
  uint32_t index;  // of the shard in its store
  HashKind hash;
  HashSecrets secrets;
  bool track_access;
  const SizeClasses* classes;
  uint64_t header_bytes;  // of the region before the first page, the ring included, which is its end
  uint64_t ring_bytes;
  uint32_t pages_ceiling;
  uint64_t large_bytes;      // of the region, the part with large pages; 0: none
  const Backends* backends;  // null: there is none
};

// The state of a shard in the mapping, without the page descriptors, the directory and the pages behind it. A read
// writes the first cache line, which travels between the processors of its readers, and needs the second, which they
// all keep: changes write it, reads do not. Every kTouchesMax-th read writes the list, in the third.
struct ShardState {
  // Of the state, the descriptors and the directory for `pages` pages, rounded up to whole pages.
  static uint64_t HeaderBytes(uint32_t pages, uint64_t page_bytes);

  alignas(64) TouchState touches;  // hits whose move to the front of the list is still to be done, in order
  OsLock lock;
  Population population;
  TableState table;
  alignas(64) LruState lru;
  RecorderState recorder;
  MemoryState memory;
  uint64_t limit_target_bytes;  // memory.limit_bytes follows it down in steps
  uint64_t entries_limit;       // total; 0 = none
  uint64_t entries_limit_target;
  uint64_t memory_bytes;
  uint64_t value_bytes_max;
  WalksState walks;
  BodiesState bodies;
  DebtsState debts;
  alignas(64) WheelState wheel;
  ArenaState arena;
  StoreStats counters;  // only the counters since opening
  alignas(64) GrowthState growth;
  bool recovering;  // see Store::SetRecovering
  RingState ring;
};
static_assert(offsetof(ShardState, table) + offsetof(TableState, split) + sizeof(TableState::split) <= 128);
static_assert(offsetof(ShardState, lock) + sizeof(OsLock) == 64 && offsetof(ShardState, population) == 64);

}  // namespace cairn
