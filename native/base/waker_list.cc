#include "base/waker_list.h"

#include <algorithm>
#include <utility>

namespace cairn {

void WakerList::Wake() {
  std::shared_ptr<const List> wakers;
  {
    OsLockGuard guard(&lock_);
    wakers = wakers_;
  }
  for (const std::shared_ptr<Waker>& waker : *wakers) waker->Wake();
}

bool WakerList::empty() {
  OsLockGuard guard(&lock_);
  return wakers_->empty();
}

template <class Edit>
void WakerList::Replace(Edit edit) {
  std::shared_ptr<const List> seen;
  {
    OsLockGuard guard(&lock_);
    seen = wakers_;
  }
  for (;;) {
    auto list = std::make_shared<List>(*seen);
    edit(list.get());
    std::shared_ptr<const List> replaced;  // freed outside the lock
    OsLockGuard guard(&lock_);
    if (wakers_ == seen) {
      replaced = std::move(wakers_);
      wakers_ = std::move(list);
      return;
    }
    seen = wakers_;
  }
}

void WakerList::Add(std::shared_ptr<Waker> waker) {
  Replace([&waker](List* list) { list->push_back(waker); });
}

void WakerList::Remove(const Waker* waker) {
  Replace([waker](List* list) {
    const auto found =
        std::find_if(list->begin(), list->end(), [waker](const auto& each) { return each.get() == waker; });
    if (found != list->end()) list->erase(found);
  });
}

}  // namespace cairn
