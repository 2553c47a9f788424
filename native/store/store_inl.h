// Shared by the parts of Store (store*.cc), inlined for the requests.
#pragma once

#include "store/shard_guard.h"
#include "store/shard_inl.h"
#include "store/store.h"

namespace cairn {

inline Shard* Store::ShardAt(uint32_t index) const {
  return reinterpret_cast<Shard*>(shards_.get() + size_t{index} * sizeof(Shard));
}

// Its destructor releases the lock, calls the removal sink's OnUnlocked(), and rings the bell for new records.
template <bool kLogged>
class SCOPED_CAPABILITY Store::HoldOf {
 public:
  HoldOf(Store* store, Shard* shard) ACQUIRE(shard) : store_(store), shard_(shard) { shard->Lock(); }
  ~HoldOf() RELEASE() { EndAndTell(); }
  HoldOf(const HoldOf&) = delete;
  HoldOf& operator=(const HoldOf&) = delete;

 private:
  void EndAndTell() NO_THREAD_SAFETY_ANALYSIS {
    auto note = ChangeRing::Note::kNone;
    if constexpr (kLogged) note = shard_->ring()->TakeNote();
    shard_->Unlock();
    Unlocked(shard_->removal_sink());
    if constexpr (kLogged) store_->Tell(note);
  }

  Store* const store_;
  Shard* const shard_;
};

inline bool IsTimed(uint64_t expires_ms) { return expires_ms != kNeverExpires && expires_ms != kKeepExpiry; }
inline bool IsTimed(const Request& request) {
  return IsTimed(request.expires_ms) || request.fresh_until_ms != kAlwaysFresh || request.keep_else_ms != kNeverExpires;
}

}  // namespace cairn
