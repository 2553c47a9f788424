// What the parts of Store share (store*.cc), in line for the requests that go through it.
#pragma once

#include "store/shard_inl.h"
#include "store/store.h"

namespace cairn {

inline Shard* Store::ShardAt(uint32_t index) const {
  return reinterpret_cast<Shard*>(shards_.get() + size_t{index} * sizeof(Shard));
}

inline bool IsTimed(uint64_t expires_ms) { return expires_ms != kNeverExpires && expires_ms != kKeepExpiry; }
inline bool IsTimed(const Request& request) {
  return IsTimed(request.expires_ms) || request.fresh_until_ms != kAlwaysFresh || request.keep_else_ms != kNeverExpires;
}
inline bool IsConcat(Verb verb) { return verb == Verb::kAppend || verb == Verb::kPrepend; }

}  // namespace cairn
