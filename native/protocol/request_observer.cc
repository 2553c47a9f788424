#include "protocol/request_observer.h"

#include <algorithm>
#include <memory>

namespace cairn {

// xorshift64* (S. Vigna, "An experimental exploration of Marsaglia's xorshift generators, scrambled").
uint32_t RequestObserver::NextGap() {
  random_ ^= random_ >> 12;
  random_ ^= random_ << 25;
  random_ ^= random_ >> 27;
  return static_cast<uint32_t>(((random_ * 0x2545f4914f6cdd1d) >> 32) % (2 * kSampleRate - 1)) + 1;
}

void RequestObserver::Sample(CommandClass command, std::string_view key, uint64_t value_bytes, bool is_whole) {
  countdown_ = NextGap();
  const uint64_t ns = is_whole ? clock_->NsOf(ReadTicks() - woken_ticks_) : 0;
  const OsLockGuard guard(&lock_);
  if (is_whole) latencies_[static_cast<size_t>(command)].Add(ns);
  if (key.empty()) return;
  by_requests_.Add(key, 1);
  if (value_bytes != 0) by_bytes_.Add(key, value_bytes);
}

uint64_t RequestObserver::TicksBelowSlow() const {
  const uint64_t slow_ns = log_->limits().slow_ns;
  return slow_ns == RequestLog::kNoLimit ? slow_ns : clock_->TicksBelow(slow_ns);
}

void RequestObserver::LogLarge(CommandClass command, std::string_view key, uint64_t value_bytes) {
  LoggedRequest request;
  request.command = command;
  request.key = key;
  request.client = *client_;
  request.wall_ms = now_->wall_ms;
  request.ns = clock_->NsOf(ReadTicks() - woken_ticks_);
  request.bytes = value_bytes;
  request.count = 1;
  log_->AddLarge(request);
}

void RequestObserver::LogSlow(CommandClass command, std::string_view key, uint64_t value_bytes, uint64_t count) {
  const uint64_t ticks = ReadTicks() - woken_ticks_;
  // Those behind a slow one of the run have waited for it too.
  if (run_.count == 0 && clock_->NsOf(ticks) < log_->limits().slow_ns) {
    slow_ticks_ = TicksBelowSlow();
    return;
  }
  run_.command = command;
  run_.key = key;
  run_.bytes = value_bytes;
  run_.count += count;
  run_ticks_ = ticks;
}

void RequestObserver::LogRun() {
  run_.client = *client_;
  run_.wall_ms = now_->wall_ms;
  run_.ns = clock_->NsOf(run_ticks_);
  run_.wake_up = woken_ticks_;
  log_->AddSlow(run_);
  run_.count = 0;
}

void RequestObserver::AddLatencies(Latencies* sum) {
  const OsLockGuard guard(&lock_);
  for (size_t i = 0; i < kCommandClassCount; i++) (*sum)[i] += latencies_[i];
}

void RequestObserver::CopyTopKeys(TopKeys* by_requests, TopKeys* by_bytes) {
  const OsLockGuard guard(&lock_);
  *by_requests = by_requests_;
  *by_bytes = by_bytes_;
}

void RequestObserver::Clear() {
  const OsLockGuard guard(&lock_);
  for (LatencyHistogram& histogram : latencies_) histogram.Clear();
  by_requests_.Clear();
  by_bytes_.Clear();
}

// ---- of all threads ----

void RequestSamples::Add(RequestObserver* observer) {
  const OsLockGuard guard(&lock_);
  observers_.push_back(observer);
}

void RequestSamples::Remove(RequestObserver* observer) {
  const OsLockGuard guard(&lock_);
  observers_.erase(std::find(observers_.begin(), observers_.end(), observer));
}

void RequestSamples::Clear() {
  const OsLockGuard guard(&lock_);
  for (RequestObserver* observer : observers_) observer->Clear();
}

void RequestSamples::ReadLatencies(Latencies* sum) {
  const OsLockGuard guard(&lock_);
  for (RequestObserver* observer : observers_) observer->AddLatencies(sum);
}

void RequestSamples::ReadTopKeys(HotKeys* by_requests, HotKeys* by_bytes) {
  struct Part {
    TopKeys requests;
    TopKeys bytes;
  };
  std::vector<std::unique_ptr<Part>> parts;
  {
    const OsLockGuard guard(&lock_);
    for (RequestObserver* observer : observers_) {
      parts.push_back(std::make_unique<Part>());
      observer->CopyTopKeys(&parts.back()->requests, &parts.back()->bytes);
    }
  }
  std::vector<const TopKeys*> requests;
  std::vector<const TopKeys*> bytes;
  for (const std::unique_ptr<Part>& part : parts) {
    requests.push_back(&part->requests);
    bytes.push_back(&part->bytes);
    by_requests->total += part->requests.total();
    by_bytes->total += part->bytes.total();
  }
  by_requests->keys = MergeTopKeys(requests, kTopKeysShown);
  by_bytes->keys = MergeTopKeys(bytes, kTopKeysShown);
}

}  // namespace cairn
