// The caches of a process, by name: shared by all its threads.
//
// A CacheInstance is a cache: its store, its name, its removal events, flights, loads and change feed. Handles hold it:
// one per `Cache` object of an environment, one per listening server. An owner is a handle that `new Cache` or
// `Cache.open` made; the others were attached.
//
// How a cache ends:
//
//   an owner closes, others of its owners are open   the handle is gone, nothing else happens
//   the last owner closes                            the cache ends for everybody: the name is free, every other
//                                                    handle answers "closed" from its next call on
//   an attached handle closes                        the handle is gone
//   a handle is lost (collected, environment ended)  the handle is gone; a lost owner does not end the cache
//   the last handle of any kind is gone              the cache ends
//
// Ending never waits, and never frees memory that another thread uses: it marks the instance closed and, if other
// handles keep the mapping, empties the store (an O(shards) clear; the janitor frees the memory in steps). The object
// lives until the last shared_ptr is gone. The janitor then deletes it, so that dropping the last reference is cheap on
// any thread.
//
// Thread safety: everything here may be called from any thread. Nothing here calls JavaScript or waits for it.
// Lock order: Registry's lock, then the store's own. Never taken under a shard's lock.
#pragma once

#include <array>
#include <atomic>
#include <cstdint>
#include <limits>
#include <list>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "base/clock.h"
#include "base/os.h"
#include "store/store.h"

namespace cairn {

class ChangeFeed;
class FlightTable;
class LoadTable;
class RemovalRing;

struct CacheOptions {
  // Empty: the cache has no name, and no thread can attach to it by name.
  std::string name;
  StoreOptions store;
  // Time to live of entries that are stored without one, in milliseconds; 0: they do not expire.
  uint64_t ttl_ms = 0;
  // The user's options as TypeScript encodes them, to be read again in another environment. Two opens of one name are
  // equal if their descriptions are.
  std::string description;
  // False: the cache is recovering; threads can attach to it only after Registry::MarkReady.
  bool ready = true;
};

class CacheInstance {
 public:
  enum class State : uint32_t { kOpening, kOpen, kClosed };

  ~CacheInstance();
  CacheInstance(const CacheInstance&) = delete;
  CacheInstance& operator=(const CacheInstance&) = delete;

  const std::string& name() const { return options_.name; }
  const CacheOptions& options() const { return options_; }
  Store* store() const { return store_.get(); }
  // Never null. Both are made with the cache, outlive every call on the store, and are closed when the cache ends.
  RemovalRing* removals() const { return removals_.get(); }
  FlightTable* flights() const { return flights_.get(); }
  // Null: there is no database behind the cache.
  LoadTable* loads() const { return loads_.get(); }
  // Null: the cache has no log.
  ChangeFeed* feed() const { return feed_.get(); }

  State state() const { return state_.load(std::memory_order_acquire); }
  bool closed() const { return state() == State::kClosed; }

  // The time for a request. `timed`: the request itself has an expiry. Otherwise the clock is read only if the store
  // needs it; see Store::uses_time().
  Now ReadNow(bool timed) const {
    Now now;
    if (timed || store_->uses_time()) [[unlikely]] {
      if (feed_ != nullptr) return ReadBothClocks();
      now.boot_ms = BootMs();
    }
    return now;
  }
  // Both clocks. With a log the wall clock never goes back, even if the machine's is set back: an expiry that was
  // logged must still be right after the next start.
  Now ReadBothClocks() const;
  // For tests: from now on the cache's time is that of the first such call plus `elapsed_ms`, and stands still until
  // the next call. It never goes back.
  void SetClock(uint64_t elapsed_ms);
  // From now on the wall clock is at least `wall_ms`, in Unix milliseconds.
  void RaiseWallClock(int64_t wall_ms);

  // Whether callers may write atomic batches of keys of a backend: not if it cannot keep them whole. kUnknown: it has
  // not said what it is yet. The numbers are known to src/native.ts.
  enum class AtomicBatches : uint8_t { kAllowed = 0, kUnknown = 1, kRefused = 2 };
  AtomicBatches atomic_batches(uint32_t backend) const {
    return atomic_batches_[backend].load(std::memory_order_relaxed);
  }
  void SetAtomicBatches(uint32_t backend, AtomicBatches rule) {
    atomic_batches_[backend].store(rule, std::memory_order_relaxed);
  }

  // Increases with every instance of the process, never reused.
  uint64_t id() const { return id_; }

 private:
  friend class Registry;
  friend class Janitor;
  CacheInstance(CacheOptions options, std::unique_ptr<Store> store, uint64_t id);

  uint64_t BootMs() const {
    const uint64_t set_ms = set_boot_ms_.load(std::memory_order_relaxed);
    return set_ms == 0 ? ReadBootMs() : set_ms;
  }

  CacheOptions options_;
  std::unique_ptr<RemovalRing> removals_;  // destroyed after the store, which calls it
  std::unique_ptr<ChangeFeed> feed_;       // the same
  std::unique_ptr<Store> store_;
  std::unique_ptr<FlightTable> flights_;
  std::unique_ptr<LoadTable> loads_;
  std::atomic<State> state_;
  // The largest difference seen between the wall clock and the boot clock.
  mutable std::atomic<int64_t> wall_offset_ms_{std::numeric_limits<int64_t>::min()};
  // For a cache whose clock is set: when it was first set, on the boot clock, and its time now. 0: it is not set.
  std::atomic<uint64_t> clock_begun_ms_{0};
  std::atomic<uint64_t> set_boot_ms_{0};
  std::array<std::atomic<AtomicBatches>, kBackendsMax> atomic_batches_{};  // kAllowed
  const uint64_t id_;
  // Guarded by the registry's lock.
  uint32_t owner_count_ = 0;
  uint32_t handle_count_ = 0;  // owners included
};

using CachePointer = std::shared_ptr<CacheInstance>;

enum class OpenStatus : uint8_t {
  kCreated,
  kJoined,     // an open cache has that name and an equal description: the handle is one more owner
  kNameTaken,  // an open cache has that name, and `join` is false or the descriptions differ
  kNotReady,   // `join` is true, but the cache of that name is still recovering
  kRefused,    // the store could not be opened; the sentence says why
};

enum class AttachStatus : uint8_t { kAttached, kNoSuchCache, kNotReady };

enum class ReleaseKind : uint8_t {
  kClosed,  // close() or destroy() was called
  kLost,    // collected, or its environment ended
};

class Registry {
 public:
  // Made on first use and never destroyed: threads may outlive every static destructor.
  static Registry& Get();

  // Makes a cache and one owner handle to it. With `join`, a cache of that name and an equal description is joined.
  [[nodiscard]] OpenStatus Open(CacheOptions options, bool join, CachePointer* cache, Refusal* refusal);
  // One more handle to the cache of that name.
  [[nodiscard]] AttachStatus Attach(std::string_view name, CachePointer* cache);
  // The same by CacheInstance::id(), for the cache's own threads; the cache need not have a name.
  [[nodiscard]] AttachStatus AttachById(uint64_t id, CachePointer* cache);
  // The same for the scribe, which makes the cache ready.
  [[nodiscard]] AttachStatus AttachUnready(uint64_t id, CachePointer* cache);
  // One more handle to a cache that the caller already holds; false once it is closed. For servers.
  [[nodiscard]] bool AddHandle(const CachePointer& cache);
  // Releases a handle and the reference. Every successful call above is followed by exactly one Release.
  void Release(CachePointer* cache, bool owner, ReleaseKind kind);
  // kOpening -> kOpen.
  void MarkReady(const CachePointer& cache);

  // Names of the open caches, in no order; unnamed ones are left out.
  std::vector<std::string> Names();
  size_t cache_count();

 private:
  Registry() = default;
  template <typename Predicate>
  AttachStatus AttachWhere(Predicate wanted, bool unready, CachePointer* cache);
  OsLock lock_;  // nothing is allocated under it
  // Every open cache. Searches are linear, because a process has few caches, and opening one maps memory. Each cache
  // has a handle, which is released under the lock only; so a pointer taken here is never the last reference.
  std::list<std::weak_ptr<CacheInstance>> caches_ GUARDED_BY(lock_);
  std::atomic<uint64_t> next_id_{1};
};

}  // namespace cairn
