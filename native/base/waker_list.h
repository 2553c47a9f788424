// Threads that are woken together: the fronts of a service, the services that wait for loads. Shared by its owner and
// the threads that wake it, so that a wake-up may come while the owner ends.
#pragma once

#include <memory>
#include <vector>

#include "base/os.h"
#include "base/waker.h"

namespace cairn {

class WakerList final : public Waker {
 public:
  // Wakes all, outside the lock.
  void Wake() override;
  void Add(std::shared_ptr<Waker> waker);
  // Removes one entry of that waker.
  void Remove(const Waker* waker);
  bool empty();

 private:
  using List = std::vector<std::shared_ptr<Waker>>;
  // Replaces the list by an edited copy, which is made outside the lock.
  template <class Edit>
  void Replace(Edit edit);

  OsLock lock_;
  std::shared_ptr<const List> wakers_ GUARDED_BY(lock_) = std::make_shared<const List>();
};

}  // namespace cairn
