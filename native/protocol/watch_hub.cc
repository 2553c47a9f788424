#include "protocol/watch_hub.h"

#include <algorithm>
#include <new>
#include <utility>

#include "base/check.h"
#include "base/limits.h"
#include "protocol/event_lines.h"

namespace cairn {

namespace {

void SetTimes(const Now& now, Event* event) {
  if (event->wall_ms == 0) event->wall_ms = now.wall_ms;
  if (event->kind != Event::Kind::kEviction) return;
  const uint64_t now_s = now.boot_ms / 1000;
  event->idle_s =
      event->accessed_s == 0 ? 0 : static_cast<uint32_t>(now_s - std::min<uint64_t>(now_s, event->accessed_s));
  event->ttl_s = event->expires_ms == kNeverExpires
                     ? -1
                     : static_cast<int64_t>(event->expires_ms - std::min(event->expires_ms, now.boot_ms)) / 1000;
}

}  // namespace

// ---- a watcher ----

Watcher::~Watcher() { hub_->Remove(this); }

void Watcher::Proceed(bool takes_lines, const Now& now, ByteBuffer* out) {
  bool rings = false;
  {
    const OsLockGuard guard(&hub_->lock_);
    size_t events = 0;
    const bool had_lines = used_ != 0;
    for (int i = 0; i < WatchHub::kDrainsPerCall && events == i * WatchHub::kEventsPerDrain; i++) {
      if (takes_lines && out->size() >= kWatcherBytes) break;
      events += hub_->Drain(now);
      if (!takes_lines || used_ == 0) continue;
      out->Append({lines_.get(), used_});
      used_ = 0;
    }
    SetInterval(events >= WatchHub::kEventsPerDrain, events != 0 || (takes_lines && had_lines));
    rings = std::exchange(hub_->is_a_watcher_half_full_, false);
  }
  if (rings) hub_->bell_->Wake();
}

void Watcher::SetInterval(bool has_many, bool has_some) {
  if (has_many) {
    interval_ms_ = kIntervalMsMin;
  } else if (has_some) {
    interval_ms_ = std::max(interval_ms_ / 2, kIntervalMsMin);
  } else {
    interval_ms_ = std::min(interval_ms_ + interval_ms_ / 8 + 1, kIntervalMsMax);
  }
}

// ---- the hub ----

static_assert(WatchHub::kEventsPerDrain * kEventLineBytesMax + kSkippedLineBytesMax <= Watcher::kWatcherBytes);

WatchHub::WatchHub(Store* store, Counters* counters, const KeyDisplay* keys, Waker* bell)
    : store_(store), counters_(counters), keys_(keys), bell_(bell), eviction_log_(&last_number_, counters, nullptr) {
  watchers_.reserve(kWatchersMax);
  logs_.push_back(&eviction_log_);
}

WatchHub::~WatchHub() {
  CHECK(watchers_.empty());
  CHECK(logs_.size() == 1);
}

void WatchHub::AddLog(EventLog* log) {
  const OsLockGuard guard(&lock_);
  logs_.push_back(log);
  // Without memory its thread is not heard until the next client watches.
  static_cast<void>(log->Hear(streams_));
}

void WatchHub::RemoveLog(EventLog* log) {
  const OsLockGuard guard(&lock_);
  logs_.erase(std::find(logs_.begin(), logs_.end(), log));
  next_log_ = 0;
}

WatchHub::Answer WatchHub::Add(uint32_t streams, std::unique_ptr<Watcher>* watcher) {
  // Ends behind the lock, if it is not added.
  std::unique_ptr<Watcher> added(new Watcher(this, streams));
  added->lines_.reset(new (std::nothrow) char[Watcher::kWatcherBytes]);
  if (added->lines_ == nullptr) return Answer::kNoMemory;
  const OsLockGuard guard(&lock_);
  if (watchers_.size() == kWatchersMax) return Answer::kTooMany;
  watchers_.push_back(added.get());
  if (!Listen()) {
    watchers_.pop_back();
    static_cast<void>(Listen());
    return Answer::kNoMemory;
  }
  // As in memcached it takes a number, which tells events before it from those after.
  added->first_number_ = last_number_.fetch_add(1, std::memory_order_relaxed) + 1;
  watcher_count_.store(watchers_.size(), std::memory_order_relaxed);
  *watcher = std::move(added);
  return Answer::kAdded;
}

void WatchHub::Remove(Watcher* watcher) {
  const OsLockGuard guard(&lock_);
  const auto found = std::find(watchers_.begin(), watchers_.end(), watcher);
  if (found == watchers_.end()) return;
  watchers_.erase(found);
  watcher_count_.store(watchers_.size(), std::memory_order_relaxed);
  // Fewer streams need no memory.
  static_cast<void>(Listen());
}

bool WatchHub::Listen() {
  streams_ = 0;
  for (const Watcher* watcher : watchers_) streams_ |= watcher->streams_;
  Tap((streams_ & kEvictions) != 0);
  return std::all_of(logs_.begin(), logs_.end(),
                     [this](EventLog* log) REQUIRES_LOCK(lock_) { return log->Hear(streams_); });
}

void WatchHub::Tap(bool yes) {
  RemovalSink* sink = store_->removal_sink();
  if (sink == nullptr || yes == is_tapped_) return;
  is_tapped_ = yes;
  if (yes) {
    sink->AddTap(&evictions_);
  } else {
    sink->RemoveTap(&evictions_);
  }
}

size_t WatchHub::Drain(const Now& now) {
  size_t count = 0;
  for (size_t i = 0; i < logs_.size() && count < kEventsPerDrain; i++) {
    std::string_view* events = logs_[next_log_]->Unread();
    while (!events->empty() && count < kEventsPerDrain) {
      Event event;
      const std::string_view text = EventLog::Next(events, &event);
      SetTimes(now, &event);
      Tell(event, text);
      count++;
    }
    if (events->empty()) next_log_ = (next_log_ + 1) % logs_.size();
  }
  return count;
}

void WatchHub::Tell(const Event& event, std::string_view text) {
  char line[kEventLineBytesMax];
  size_t line_bytes = 0;
  uint64_t sent = 0;
  uint64_t skipped = 0;
  for (Watcher* watcher : watchers_) {
    if ((watcher->streams_ & StreamOf(event.kind)) == 0 || event.number < watcher->first_number_) continue;
    if (line_bytes == 0) line_bytes = static_cast<size_t>(WriteEventLine(event, text, *keys_, line) - line);
    if (line_bytes + kSkippedLineBytesMax > Watcher::kWatcherBytes - watcher->used_) {
      watcher->skipped_++;
      skipped++;
      continue;
    }
    char* to = watcher->lines_.get() + watcher->used_;
    if (const uint64_t count = std::exchange(watcher->skipped_, 0)) to = WriteSkippedLine(count, to);
    to = std::copy_n(line, line_bytes, to);
    const size_t used = static_cast<size_t>(to - watcher->lines_.get());
    constexpr size_t kHalf = Watcher::kWatcherBytes / 2;
    if (watcher->used_ < kHalf && used >= kHalf) is_a_watcher_half_full_ = true;
    watcher->used_ = used;
    sent++;
  }
  if (sent != 0) counters_->AddShared(Counter::kLogWatcherSent, sent);
  if (skipped != 0) counters_->AddShared(Counter::kLogWatcherSkipped, skipped);
}

// ---- evictions ----

// Under the lock of a shard: what needs the time is computed when the log is read.
void WatchHub::Evictions::OnEvicted(const RemovedEntry& entry) {
  // No client can ask for a longer key.
  if (entry.key_bytes() > kKeyBytesInlineMax) return;
  Event event;
  event.kind = Event::Kind::kEviction;
  event.is_fetched = entry.is_fetched();
  event.expires_ms = entry.expires_ms();
  event.accessed_s = entry.accessed_s();
  event.value_bytes = static_cast<uint32_t>(entry.value_bytes());
  log_->AppendCopied(event, entry.key_bytes(), [&entry](char* to) { entry.CopyKey(to); });
}

}  // namespace cairn
