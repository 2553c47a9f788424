// What tests ask of one shard of a store, or set in it, each under the shard's lock.
#pragma once

#include "store/shard_guard.h"
#include "store/store.h"

namespace cairn::test {

// The next version that the shard gives is later than this one.
inline void NoteVersion(Store* store, uint32_t index, uint64_t version) {
  Shard* shard = store->shard(index);
  const ShardGuard guard(shard);
  shard->recorder()->NoteVersion(version);
}

// See Shard::LimitFor().
inline uint64_t LimitFor(Store* store, uint32_t index, uint64_t memory_bytes) {
  const Shard* shard = store->shard(index);
  const ShardGuard guard(shard);
  return shard->room()->LimitFor(memory_bytes);
}

}  // namespace cairn::test
