// A list of the keys, a part at a time, whose place is kept by its caller: the store keeps nothing of it. So any number
// of lists may be under way, one that is not continued costs nothing, and none is ever forgotten.
//
// Keys come in the order of the table: one shard after the other, and in a shard by the bits of the key's hash, read
// from the lowest to the highest. Each chain of the table has a range of that order. A split divides a range in two, a
// merge joins two neighbours, and the place of a key never changes. Hence: a list emits every key that has an entry
// from the list's start to its end, and no key twice.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string_view>

#include "base/clock.h"
#include "base/limits.h"
#include "store/request.h"

namespace cairn {

struct KeyPlace {
  uint32_t shard = 0;   // the number of shards: behind the last key
  uint64_t offset = 0;  // in the order of the shard's table
};

// One step of a list: what is asked for, and what came.
struct KeyListStep {
  std::string_view prefix;  // of the keys that are emitted
  size_t count = 0;         // 1 to kStepEntriesMax
  // The keys, one behind the other. REQUIRES: empty, with room for kKeyBytesMax.
  Scratch scratch;
  uint32_t key_bytes[kStepEntriesMax];
  size_t emitted = 0;
  // Entries and buckets that were looked at, in the time that a bucket takes.
  uint32_t work = 0;
};

// The work of an entry, in that of a bucket.
inline constexpr uint32_t kListEntryWork = 8;
// A step ends when it has done so much, under one hold of the lock.
inline constexpr uint32_t kListStepWork = kStepEntriesMax * kListEntryWork;

}  // namespace cairn
