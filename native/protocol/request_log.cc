#include "protocol/request_log.h"

#include <algorithm>

namespace cairn {

namespace {

void Push(const LoggedRequest& request, RequestLog::List* list) {
  list->total += request.count;
  list->entries.push_front(request);
  if (list->entries.size() > RequestLog::kEntriesMax) list->entries.pop_back();
}

}  // namespace

void RequestLog::AddSlow(const LoggedRequest& request) {
  const OsLockGuard guard(&lock_);
  // Entries of other threads may stand before the one of this wake-up.
  const auto same = std::find_if(slow_.entries.begin(), slow_.entries.end(), [&request](const LoggedRequest& entry) {
    return entry.wake_up == request.wake_up && entry.client == request.client;
  });
  const uint64_t count = same == slow_.entries.end() ? 0 : same->count;
  if (count != 0) slow_.entries.erase(same);
  Push(request, &slow_);
  slow_.entries.front().count += count;
}

void RequestLog::AddLarge(const LoggedRequest& request) {
  const OsLockGuard guard(&lock_);
  Push(request, &large_);
}

RequestLog::List RequestLog::Slow() {
  const OsLockGuard guard(&lock_);
  return slow_;
}

RequestLog::List RequestLog::Large() {
  const OsLockGuard guard(&lock_);
  return large_;
}

void RequestLog::Clear() {
  const OsLockGuard guard(&lock_);
  slow_ = List();
  large_ = List();
}

}  // namespace cairn
