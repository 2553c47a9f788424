// Loads of values that are not in the store, for the request that needs one. A load ends by storing the value or by
// leaving the key absent; it carries no reply. The request is then executed again against the store.
//
//   Begin(key) -> load     joins a load of that key that is under way, or begins one
//   Prefetch(key)          begins a load for which the caller does not wait; a later Begin() joins it
//   Poll(load)             kPending until the front is woken; then how the load has ended
//   Leave(load)            exactly once per load, in any state: the request has its answer, or its client is gone
//
// Thread safety: any thread may call any method. The implementation wakes the wakers after a load has ended, never
// under a lock.
#pragma once

#include <cstdint>
#include <memory>
#include <string_view>
#include <utility>

#include "base/clock.h"
#include "base/waker_list.h"

namespace cairn {

class ReadThrough {
 public:
  enum class Load : uint8_t {
    kPending,
    kLoaded,  // the store has the value, if there is one: execute the request again
    kFailed,  // the request is to be refused
    // The backend did not answer, and the cache's options say that a read is a miss then. Other requests are refused.
    kUnknown,
  };
  virtual ~ReadThrough() = default;
  // Never 0 for a load; 0: there are too many, the request is to be refused.
  [[nodiscard]] virtual uint64_t Begin(std::string_view key, const Now& now) = 0;
  // Does nothing if there are too many.
  virtual void Prefetch(std::string_view key, const Now& now) = 0;
  [[nodiscard]] virtual Load Poll(uint64_t load) = 0;
  virtual void Leave(uint64_t load) = 0;

  // `waker` is woken after loads that Begin() has given have ended, until it is removed.
  void AddWaker(std::shared_ptr<Waker> waker) { wakers_.Add(std::move(waker)); }
  void RemoveWaker(const Waker* waker) { wakers_.Remove(waker); }

 protected:
  void WakeAll() { wakers_.Wake(); }

 private:
  WakerList wakers_;
};

}  // namespace cairn
