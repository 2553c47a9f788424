// The fronts of a service: woken together. Shared by the service and by those who wake it, so that a wake-up may come
// while the service ends.
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
  // Takes one entry of that waker out.
  void Remove(const Waker* waker);
  bool empty();

 private:
  using List = std::vector<std::shared_ptr<Waker>>;
  // Replaces the list by an edited copy that is made outside the lock.
  template <class Edit>
  void Replace(Edit edit);

  OsLock lock_;
  std::shared_ptr<const List> wakers_ GUARDED_BY(lock_) = std::make_shared<const List>();
};

}  // namespace cairn
