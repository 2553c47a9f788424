// A walk over a store, as its caller sees it: its place, and the entries that it emits.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>

#include "store/request.h"

namespace cairn {

// A walk over all entries, oldest first or newest first. Every entry that exists from the start of the walk to its end
// is emitted at least once, also with hits in between. An entry that is inserted meanwhile may be emitted or not; an
// entry may be emitted twice. Step() visits shards in turn. The caller may move it; it has no destructor, call
// CloseCursor().
struct Cursor {
  enum class Order : uint8_t { kOldestFirst, kNewestFirst };
  Order order = Order::kOldestFirst;
  bool accepts_stale = false;  // emits entries past the end of their freshness too
  uint32_t shards_done = 0;
  uint32_t next_shard = 0;
  struct PerShard {
    int8_t slot = -1;  // of kCursorsPerShard
    bool done = false;
    uint32_t generation = 0;
  };
  std::unique_ptr<PerShard[]> shards;
};

// What a step of a walk copies to the scratch.
enum class Emits : uint8_t { kKeys, kKeysAndValues };

// An entry at the moment when a walk emitted it. Key and value are in the scratch at these offsets.
struct WalkedEntry {
  size_t key_offset;
  uint32_t key_bytes;
  size_t value_offset;
  uint32_t value_bytes;
  Codec codec;
  uint32_t client_flags;
  uint64_t version;
  uint64_t expires_ms;
  uint64_t fresh_until_ms;
};

}  // namespace cairn
