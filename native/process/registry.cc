#include "process/registry.h"

#include <algorithm>
#include <utility>

#include "base/check.h"
#include "process/change_feed.h"
#include "process/flight_table.h"
#include "process/janitor.h"
#include "process/load_table.h"
#include "process/removal_ring.h"

namespace cairn {

CacheInstance::CacheInstance(CacheOptions options, std::unique_ptr<Store> store, uint64_t id)
    : options_(std::move(options)),
      removals_(std::make_unique<RemovalRing>()),
      store_(std::move(store)),
      flights_(std::make_unique<FlightTable>()),
      state_(options_.ready ? State::kOpen : State::kOpening),
      id_(id) {
  store_->SetRemovalSink(removals_.get());
  if (options_.store.has_backend) loads_ = std::make_unique<LoadTable>(store_.get());
  if (store_->has_rings()) feed_ = std::make_unique<ChangeFeed>(store_.get());
}

CacheInstance::~CacheInstance() = default;

Now CacheInstance::ReadBothClocks() const {
  Now now = ReadClock();
  const uint64_t set_ms = set_boot_ms_.load(std::memory_order_relaxed);
  if (set_ms != 0) {
    now.wall_ms += static_cast<int64_t>(set_ms) - static_cast<int64_t>(now.boot_ms);
    now.boot_ms = set_ms;
  }
  if (feed_ == nullptr) return now;
  const int64_t offset_ms = now.WallOffset();
  int64_t most_ms = wall_offset_ms_.load(std::memory_order_relaxed);
  while (offset_ms > most_ms && !wall_offset_ms_.compare_exchange_weak(most_ms, offset_ms, std::memory_order_relaxed)) {
  }
  now.wall_ms = static_cast<int64_t>(now.boot_ms) + std::max(most_ms, offset_ms);
  return now;
}

void CacheInstance::SetClock(uint64_t elapsed_ms) {
  uint64_t begun_ms = 0;
  const uint64_t now_ms = ReadBootMs();
  if (clock_begun_ms_.compare_exchange_strong(begun_ms, now_ms, std::memory_order_relaxed)) begun_ms = now_ms;
  const uint64_t wanted_ms = begun_ms + elapsed_ms;
  uint64_t set_ms = set_boot_ms_.load(std::memory_order_relaxed);
  while (wanted_ms > set_ms && !set_boot_ms_.compare_exchange_weak(set_ms, wanted_ms, std::memory_order_relaxed)) {
  }
}

void CacheInstance::RaiseWallClock(int64_t wall_ms) {
  const int64_t offset_ms = wall_ms - static_cast<int64_t>(ReadBootMs());
  int64_t most_ms = wall_offset_ms_.load(std::memory_order_relaxed);
  while (offset_ms > most_ms && !wall_offset_ms_.compare_exchange_weak(most_ms, offset_ms, std::memory_order_relaxed)) {
  }
}

Registry& Registry::Get() {
  static Registry* const registry = new Registry;
  return *registry;
}

OpenStatus Registry::Open(CacheOptions options, bool join, CachePointer* cache, Refusal* refusal) {
  // Mapping memory is a system call, so it happens outside the lock, as all of making the cache does; a name that is
  // taken in between costs a mapping that was never touched.
  CachePointer made;
  std::list<std::weak_ptr<CacheInstance>> place;
  while (true) {
    bool is_opened = false;
    {
      OsLockGuard guard(&lock_);
      if (!options.name.empty()) {
        for (const std::weak_ptr<CacheInstance>& weak : caches_) {
          CachePointer other = weak.lock();
          if (other == nullptr || other->closed() || other->name() != options.name) continue;
          if (!join || other->options().description != options.description) return OpenStatus::kNameTaken;
          if (other->state() != CacheInstance::State::kOpen) return OpenStatus::kNotReady;
          other->owner_count_++;
          other->handle_count_++;
          *cache = std::move(other);
          return OpenStatus::kJoined;
        }
      }
      if (made != nullptr) {
        made->owner_count_ = 1;
        made->handle_count_ = 1;
        caches_.splice(caches_.end(), place);
        is_opened = true;
      }
    }
    if (is_opened) {
      Janitor::Get().Add(made);
      *cache = std::move(made);
      return OpenStatus::kCreated;
    }
    std::unique_ptr<Store> store = Store::Open(options.store, refusal);
    if (store == nullptr) return OpenStatus::kRefused;
    made = CachePointer(new CacheInstance(options, std::move(store), next_id_.fetch_add(1, std::memory_order_relaxed)),
                        [](CacheInstance* instance) { Janitor::Get().Bury(instance); });
    place.push_back(made);
  }
}

template <typename Predicate>
AttachStatus Registry::AttachWhere(Predicate wanted, bool unready, CachePointer* cache) {
  OsLockGuard guard(&lock_);
  for (const std::weak_ptr<CacheInstance>& weak : caches_) {
    CachePointer found = weak.lock();
    if (found == nullptr || found->closed() || !wanted(*found)) continue;
    if (!unready && found->state() != CacheInstance::State::kOpen) return AttachStatus::kNotReady;
    found->handle_count_++;
    *cache = std::move(found);
    return AttachStatus::kAttached;
  }
  return AttachStatus::kNoSuchCache;
}

AttachStatus Registry::Attach(std::string_view name, CachePointer* cache) {
  return AttachWhere([&](const CacheInstance& each) { return !name.empty() && each.name() == name; }, false, cache);
}

AttachStatus Registry::AttachById(uint64_t id, CachePointer* cache) {
  return AttachWhere([&](const CacheInstance& each) { return each.id() == id; }, false, cache);
}

AttachStatus Registry::AttachUnready(uint64_t id, CachePointer* cache) {
  return AttachWhere([&](const CacheInstance& each) { return each.id() == id; }, true, cache);
}

bool Registry::AddHandle(const CachePointer& cache) {
  OsLockGuard guard(&lock_);
  if (cache->closed()) return false;
  cache->handle_count_++;
  return true;
}

void Registry::Release(CachePointer* cache, bool owner, ReleaseKind kind) {
  CachePointer released = std::move(*cache);
  cache->reset();
  bool ended = false;
  bool others;
  {
    OsLockGuard guard(&lock_);
    CHECK(released->handle_count_ > 0);
    others = --released->handle_count_ > 0;
    bool last_owner = false;
    if (owner) {
      CHECK(released->owner_count_ > 0);
      // A lost owner stays counted: the count stays above 0, so only the end of all handles then ends the cache.
      if (kind == ReleaseKind::kClosed) last_owner = --released->owner_count_ == 0;
    }
    if (!released->closed() && (last_owner || !others)) {
      released->state_.store(CacheInstance::State::kClosed, std::memory_order_release);
      std::erase_if(caches_, [&](const std::weak_ptr<CacheInstance>& weak) {
        CachePointer other = weak.lock();
        return other == nullptr || other == released;
      });
      ended = true;
    }
  }
  if (!ended) return;
  released->removals_->Close();
  released->flights_->Close();
  if (released->loads_ != nullptr) released->loads_->Close();
  if (released->feed_ != nullptr) released->feed_->SetState(ChangeFeed::State::kClosed);
  // Memory comes back from here on, though handles that have not noticed yet keep the mapping. A store with a log keeps
  // its entries until the mapping goes: a clear would be one more record.
  if (others && released->feed_ == nullptr) {
    released->store_->Clear(ReadClock());
    Janitor::Get().Wake();
  }
}

void Registry::MarkReady(const CachePointer& cache) {
  OsLockGuard guard(&lock_);
  if (cache->state() == CacheInstance::State::kOpening) {
    cache->state_.store(CacheInstance::State::kOpen, std::memory_order_release);
  }
}

std::vector<std::string> Registry::Names() {
  std::vector<CachePointer> caches;
  for (size_t count = cache_count() + 1;; count *= 2) {
    caches.reserve(count);
    OsLockGuard guard(&lock_);
    if (caches_.size() > caches.capacity()) continue;  // more have been opened meanwhile
    for (const std::weak_ptr<CacheInstance>& weak : caches_) {
      if (CachePointer cache = weak.lock(); cache != nullptr) caches.push_back(std::move(cache));
    }
    break;
  }
  std::vector<std::string> names;
  for (const CachePointer& cache : caches) {
    if (!cache->closed() && !cache->name().empty()) names.push_back(cache->name());
  }
  return names;
}

size_t Registry::cache_count() {
  OsLockGuard guard(&lock_);
  return static_cast<size_t>(
      std::count_if(caches_.begin(), caches_.end(), [](const std::weak_ptr<CacheInstance>& weak) {
        CachePointer cache = weak.lock();
        return cache != nullptr && !cache->closed();
      }));
}

}  // namespace cairn
