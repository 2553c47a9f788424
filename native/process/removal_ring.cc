#include "process/removal_ring.h"

#include <algorithm>
#include <cstring>
#include <utility>

#include "base/check.h"
#include "process/janitor.h"

namespace cairn {
namespace {

uint32_t BitOf(Reason reason) { return uint32_t{1} << static_cast<int>(reason); }
uint32_t BitOf(uint8_t reason) { return uint32_t{1} << reason; }

uint32_t PaddedBytes(size_t bytes) { return static_cast<uint32_t>((bytes + 7) & ~size_t{7}); }

}  // namespace

RemovalRing::RemovalRing(size_t ring_bytes) : ring_bytes_(ring_bytes) {
  CHECK(ring_bytes % 8 == 0 && ring_bytes >= 2 * kRemovalEventBytesMax);
  wanted_.store(0, std::memory_order_relaxed);
}

RemovalRing::~RemovalRing() {
  OsLockGuard guard(&lock_);
  CHECK(listeners_ == nullptr);
}

RemovalEventHeader RemovalRing::HeaderAtLocked(uint64_t position) const {
  RemovalEventHeader header = {};
  const char* place = ring_.get() + position % ring_bytes_;
  // A filler may be too short for a whole header.
  std::memcpy(&header, place, 8);
  if (header.reason != kFiller) std::memcpy(&header, place, sizeof header);
  return header;
}

char* RemovalRing::AppendLocked(const RemovalEventHeader& header) {
  if (ring_ == nullptr) return nullptr;
  const uint64_t to_end = ring_bytes_ - head_ % ring_bytes_;
  const uint64_t filler_bytes = header.event_bytes > to_end ? to_end : 0;
  // Make room: what is overwritten is gone for those who have not read it.
  while (head_ + filler_bytes + header.event_bytes - tail_ > ring_bytes_) {
    const RemovalEventHeader oldest = HeaderAtLocked(tail_);
    if (oldest.reason != kFiller) ++overwritten_[oldest.reason];
    tail_ += oldest.event_bytes;
  }
  if (filler_bytes != 0) {
    RemovalEventHeader filler = {};
    filler.event_bytes = static_cast<uint32_t>(filler_bytes);
    filler.reason = kFiller;
    std::memcpy(ring_.get() + head_ % ring_bytes_, &filler, 8);
    head_ += filler_bytes;
  }
  char* place = ring_.get() + head_ % ring_bytes_;
  std::memcpy(place, &header, sizeof header);
  head_ += header.event_bytes;
  return place + sizeof header;
}

void RemovalRing::AppendedLocked(Reason reason) {
  ++written_[static_cast<int>(reason)];
  if ((sleepers_want_ & BitOf(reason)) != 0) pending_.store(true, std::memory_order_relaxed);
}

void RemovalRing::OnRemoved(Reason reason, const RemovedEntry& entry) {
  RemovalEventHeader header = {};
  const size_t key_bytes = entry.key_bytes();
  const size_t value_bytes = entry.value_bytes();
  header.reason = static_cast<uint8_t>(reason);
  header.codec = static_cast<uint8_t>(entry.codec());
  header.key_bytes = static_cast<uint32_t>(key_bytes);
  header.value_bytes = static_cast<uint32_t>(value_bytes);
  header.number = entry.client_flags();
  OsLockGuard guard(&lock_);
  header.has_value = (values_wanted_ & BitOf(reason)) != 0 && value_bytes <= kRemovalValueBytesMax;
  header.event_bytes = PaddedBytes(sizeof header + key_bytes + (header.has_value ? value_bytes : 0));
  char* place = AppendLocked(header);
  if (place == nullptr) return;
  entry.CopyKey(place);
  if (header.has_value) entry.CopyValue(place + key_bytes, value_bytes);
  AppendedLocked(reason);
}

void RemovalRing::OnCleared(uint64_t entry_count) {
  RemovalEventHeader header = {};
  header.event_bytes = sizeof header;
  header.reason = static_cast<uint8_t>(Reason::kCleared);
  header.number = entry_count;
  OsLockGuard guard(&lock_);
  if (AppendLocked(header) != nullptr) AppendedLocked(Reason::kCleared);
}

void RemovalRing::CallJanitor() {
  janitor_called_.store(true, std::memory_order_relaxed);
  pending_.store(true, std::memory_order_relaxed);
}

void RemovalRing::OnUnlocked() {
  if (!pending_.exchange(false, std::memory_order_relaxed)) return;
  if (janitor_called_.exchange(false, std::memory_order_relaxed)) Janitor::Get().Wake();
  constexpr int kWakesPerHold = 16;
  for (bool more = true; more;) {
    std::shared_ptr<Waker> wakers[kWakesPerHold];
    int count = 0;
    {
      OsLockGuard guard(&lock_);
      for (RemovalListener* listener = listeners_; listener != nullptr && count < kWakesPerHold;
           listener = listener->next_) {
        if (!listener->asleep_) continue;
        bool has_events = false;
        for (int reason = 0; reason < kReasonCount; ++reason) {
          has_events |= (listener->interest_.reasons & BitOf(static_cast<uint8_t>(reason))) != 0 &&
                        written_[reason] > listener->passed_[reason];
        }
        if (!has_events) continue;
        listener->asleep_ = false;
        wakers[count++] = listener->waker_;
      }
      more = count == kWakesPerHold;
      UpdateWantedLocked();
    }
    for (int i = 0; i < count; ++i) wakers[i]->Wake();
  }
}

void RemovalRing::UpdateWantedLocked() {
  uint32_t wanted = 0;
  sleepers_want_ = 0;
  values_wanted_ = 0;
  for (RemovalListener* listener = listeners_; listener != nullptr; listener = listener->next_) {
    wanted |= listener->interest_.reasons;
    if (listener->asleep_) sleepers_want_ |= listener->interest_.reasons;
    if (listener->interest_.values) values_wanted_ |= listener->interest_.reasons;
  }
  wanted_.store(closed_ ? 0 : wanted, std::memory_order_relaxed);
}

void RemovalRing::Close() {
  OsLockGuard guard(&lock_);
  closed_ = true;
  UpdateWantedLocked();
}

uint32_t RemovalRing::listener_count() {
  OsLockGuard guard(&lock_);
  return listener_count_;
}

RemovalListener::RemovalListener(RemovalRing* ring, std::shared_ptr<Waker> waker)
    : ring_(ring), waker_(std::move(waker)) {
  // For the first listener; made before the lock is taken, and freed after it by the others.
  std::unique_ptr<char[]> bytes(new char[ring->ring_bytes_]);
  OsLockGuard guard(&ring->lock_);
  if (ring->ring_ == nullptr) {
    ring->ring_ = std::move(bytes);
    ring->tail_ = ring->head_;
    std::copy_n(ring->written_, kReasonCount, ring->overwritten_);
  }
  position_ = ring->head_;
  std::copy_n(ring->written_, kReasonCount, passed_);
  next_ = ring->listeners_;
  ring->listeners_ = this;
  ++ring->listener_count_;
}

RemovalListener::~RemovalListener() {
  std::unique_ptr<char[]> bytes;  // freed after the lock
  OsLockGuard guard(&ring_->lock_);
  RemovalListener** link = &ring_->listeners_;
  while (*link != this) link = &(*link)->next_;
  *link = next_;
  --ring_->listener_count_;
  if (ring_->listeners_ == nullptr) bytes = std::move(ring_->ring_);
  ring_->UpdateWantedLocked();
}

void RemovalListener::SetInterest(RemovalInterest interest) {
  CHECK(interest.reasons < BitOf(static_cast<uint8_t>(kReasonCount)));
  OsLockGuard guard(&ring_->lock_);
  interest_ = interest;
  ring_->UpdateWantedLocked();
}

size_t RemovalListener::Take(char* buffer, size_t capacity, uint64_t* lost) {
  CHECK(capacity >= kRemovalEventBytesMax);
  *lost = 0;
  size_t used = 0;
  for (bool more = true; more;) {
    OsLockGuard guard(&ring_->lock_);
    if (position_ < ring_->tail_) {
      // What was lost comes before what is copied; what is copied already came before what is lost.
      if (used > 0) return used;
      for (int reason = 0; reason < kReasonCount; ++reason) {
        const bool is_wanted = (interest_.reasons & BitOf(static_cast<uint8_t>(reason))) != 0;
        if (is_wanted) *lost += ring_->overwritten_[reason] - passed_[reason];
        passed_[reason] = ring_->overwritten_[reason];
      }
      position_ = ring_->tail_;
    }
    const size_t used_before = used;
    size_t walked = 0;
    while (position_ < ring_->head_ && used - used_before < kTakenBytesPerHold && walked < 4 * kTakenBytesPerHold) {
      const RemovalEventHeader header = ring_->HeaderAtLocked(position_);
      if (header.reason != RemovalRing::kFiller) {
        if ((interest_.reasons & BitOf(header.reason)) != 0) {
          if (header.event_bytes > capacity - used) return used;
          std::memcpy(buffer + used, ring_->ring_.get() + position_ % ring_->ring_bytes_, header.event_bytes);
          used += header.event_bytes;
        }
        ++passed_[header.reason];
      }
      position_ += header.event_bytes;
      walked += header.event_bytes;
    }
    more = position_ < ring_->head_;
    // The listener sleeps only after a call that returned nothing: after a call with events it calls again.
    if (!more && used == 0 && *lost == 0) {
      asleep_ = true;
      ring_->UpdateWantedLocked();
    }
  }
  return used;
}

}  // namespace cairn
