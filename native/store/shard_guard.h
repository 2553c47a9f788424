// Holds a shard's lock, and nothing more: for calls that leave neither records nor removals. See Store::ShardHold.
#pragma once

#include "base/thread_annotations.h"
#include "store/shard.h"

namespace cairn {

class SCOPED_CAPABILITY ShardGuard {
 public:
  explicit ShardGuard(const Shard* shard) ACQUIRE(shard) : shard_(shard) { shard->Lock(); }
  ~ShardGuard() RELEASE() { shard_->Unlock(); }
  ShardGuard(const ShardGuard&) = delete;
  ShardGuard& operator=(const ShardGuard&) = delete;

 private:
  const Shard* const shard_;
};

}  // namespace cairn
