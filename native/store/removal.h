// Removal events: the entry that left, and the reason. A RemovalSink takes them under the shard's lock.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>

#include "base/os.h"
#include "store/request.h"

namespace cairn {

// The entry that leaves, readable until OnRemoved returns. Keys and values may be in several pieces.
class RemovedEntry {
 public:
  virtual size_t key_bytes() const = 0;
  virtual size_t value_bytes() const = 0;
  virtual Codec codec() const = 0;
  virtual uint32_t client_flags() const = 0;
  virtual void CopyKey(char* data) const = 0;                  // key_bytes() bytes
  virtual void CopyValue(char* data, size_t bytes) const = 0;  // the first `bytes` bytes
  // It has been read; its expiry, on the boot clock; the second of its last access, there, or 0: it is not known.
  virtual bool is_fetched() const = 0;
  virtual uint64_t expires_ms() const = 0;
  virtual uint32_t accessed_s() const = 0;

 protected:
  ~RemovedEntry() = default;
};

// Takes evictions beside the sink, while it is one of its taps. Called under a shard's lock, by the rules of
// OnRemoved().
class RemovalTap {
 public:
  virtual void OnEvicted(const RemovedEntry& entry) = 0;

 protected:
  ~RemovalTap() = default;

 private:
  friend class RemovalSink;
  RemovalTap* next_tap_ = nullptr;
};

class RemovalSink {
 public:
  virtual ~RemovalSink() = default;

  // From now on the tap is told of evictions; RemoveTap(): it is not called any more when this returns. The lock of the
  // taps is taken under a shard's, and a tap may take a leaf under it.
  void AddTap(RemovalTap* tap);
  void RemoveTap(RemovalTap* tap);
  bool is_tapped() const { return is_tapped_.load(std::memory_order_relaxed); }
  void TellTaps(const RemovedEntry& entry);

  // Whether events of this reason are wanted now; if not, the shard makes no call. A relaxed load, from any thread.
  bool wanted(Reason reason) const {
    return ((wanted_.load(std::memory_order_relaxed) >> static_cast<int>(reason)) & 1) != 0;
  }
  // Whether OnUnlocked() has something to do.
  bool pending() const { return pending_.load(std::memory_order_relaxed); }

  // Called under a shard's lock, from any thread, several shards at once: must be short, must not allocate, wait, or
  // call back. The entry is as it was before it left. Not called for cleared entries one by one: OnCleared has their
  // count.
  virtual void OnRemoved(Reason reason, const RemovedEntry& entry) = 0;
  virtual void OnCleared(uint64_t entry_count) = 0;
  // Called under a shard's lock, about once per mebibyte of growth: the janitor should call Store::Maintain soon, to
  // prepare memory into which the cache grows.
  virtual void OnGrowing() {}
  // Called without a lock, when limits were lowered and entries still have to leave: the janitor should call
  // Store::Maintain now.
  virtual void OnShrinking() {}
  // Called after the lock was released, by the thread that made such calls, if pending(). May make system calls.
  virtual void OnUnlocked() {}

 protected:
  std::atomic<uint32_t> wanted_{~uint32_t{0}};  // a bit for each Reason
  std::atomic<bool> pending_{false};

 private:
  std::atomic<bool> is_tapped_{false};
  OsLock taps_lock_;
  RemovalTap* taps_ GUARDED_BY(taps_lock_) = nullptr;
};

}  // namespace cairn
