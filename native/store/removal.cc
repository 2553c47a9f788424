#include "store/removal.h"

#include "base/check.h"

namespace cairn {

void RemovalSink::AddTap(RemovalTap* tap) {
  const OsLockGuard guard(&taps_lock_);
  tap->next_tap_ = taps_;
  taps_ = tap;
  is_tapped_.store(true, std::memory_order_relaxed);
}

void RemovalSink::RemoveTap(RemovalTap* tap) {
  const OsLockGuard guard(&taps_lock_);
  RemovalTap** link = &taps_;
  while (*link != tap) {
    CHECK(*link != nullptr);
    link = &(*link)->next_tap_;
  }
  *link = tap->next_tap_;
  is_tapped_.store(taps_ != nullptr, std::memory_order_relaxed);
}

void RemovalSink::TellTaps(const RemovedEntry& entry) {
  const OsLockGuard guard(&taps_lock_);
  for (RemovalTap* tap = taps_; tap != nullptr; tap = tap->next_tap_) tap->OnEvicted(entry);
}

}  // namespace cairn
