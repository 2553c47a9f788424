#include "protocol/request_observer.h"

#include <algorithm>
#include <memory>

namespace cairn {

std::string_view NameOf(CommandClass command) {
  constexpr std::string_view kNames[] = {"get", "gets", "mg", "set", "ms", "delete", "incr", "touch", "other"};
  static_assert(std::size(kNames) == kCommandClassCount);
  return kNames[static_cast<size_t>(command)];
}

CommandClass ClassOf(const Request& request) {
  if (IsStorage(request.verb)) return request.meta != nullptr ? CommandClass::kMetaSet : CommandClass::kSet;
  switch (request.verb) {
    case Verb::kGet:
      return CommandClass::kGet;
    case Verb::kMetaGet:
      return CommandClass::kMetaGet;
    case Verb::kDelete:
    case Verb::kInvalidate:
      return CommandClass::kDelete;
    case Verb::kIncr:
    case Verb::kDecr:
      return CommandClass::kArithmetic;
    case Verb::kTouch:
    case Verb::kGetAndTouch:
      return CommandClass::kTouch;
    default:
      return CommandClass::kOther;
  }
}

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
