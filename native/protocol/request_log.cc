#include "protocol/request_log.h"

#include <algorithm>
#include <utility>

namespace cairn {

// Puts the entry first, in exchange for the one at `place`, which is returned.
RequestLog::Entry RequestLog::Push(Entry entry, Entry* place, Kept* list) {
  Entry* const first = list->entries.data();
  Entry gone = std::move(*place);
  std::move_backward(first, place, place + 1);
  *first = std::move(entry);
  return gone;
}

RequestLog::List RequestLog::Read(const Kept* list) {
  Kept kept;
  {
    const OsLockGuard guard(&lock_);
    kept = *list;
  }
  List copy;
  copy.total = kept.total;
  for (const Entry& entry : kept.entries) {
    if (entry == nullptr) break;
    copy.entries.push_back(*entry);
  }
  return copy;
}

void RequestLog::AddSlow(const LoggedRequest& request) {
  auto entry = std::make_shared<LoggedRequest>(request);
  Entry gone;
  const OsLockGuard guard(&lock_);
  slow_.total += request.count;
  Entry* place = &slow_.entries.back();
  // Entries of other threads may stand before the one of this wake-up.
  for (Entry& same : slow_.entries) {
    if (same == nullptr) break;
    if (same->wake_up != request.wake_up || same->client != request.client) continue;
    entry->count += same->count;
    place = &same;
    break;
  }
  gone = Push(std::move(entry), place, &slow_);
}

void RequestLog::AddLarge(const LoggedRequest& request) {
  auto entry = std::make_shared<const LoggedRequest>(request);
  Entry gone;
  const OsLockGuard guard(&lock_);
  large_.total += request.count;
  gone = Push(std::move(entry), &large_.entries.back(), &large_);
}

void RequestLog::Clear() {
  Kept slow;
  Kept large;
  const OsLockGuard guard(&lock_);
  std::swap(slow, slow_);
  std::swap(large, large_);
}

}  // namespace cairn
