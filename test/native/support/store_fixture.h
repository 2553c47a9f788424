// What tests of the store share: a store with short calls, observers that write down what they are told, and values
// whose bytes say whether they are whole.
#pragma once

#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <mutex>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/check.h"
#include "base/hash.h"
#include "store/store.h"
#include "support/shard_log.h"

namespace cairn {

using test::DrainAll;
using test::StoredRecord;

// Secrets that are the same in every run, so that keys fall where they fell before.
inline HashSecrets FixedSecrets(uint64_t seed) {
  HashSecrets secrets;
  for (uint64_t& word : secrets.words) {
    seed += 0x9e3779b97f4a7c15u;
    uint64_t z = seed;
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    word = (z ^ (z >> 31)) | 1;
  }
  return secrets;
}

// Bytes that are different for every seed and have no period that a chunk size could hide.
inline std::string PatternBytes(size_t bytes, uint64_t seed) {
  std::string out(bytes, '\0');
  uint64_t state = seed * 0x9e3779b97f4a7c15u + 1;
  for (size_t i = 0; i < bytes; i += 8) {
    state ^= state << 13;
    state ^= state >> 7;
    state ^= state << 17;
    std::memcpy(out.data() + i, &state, bytes - i < 8 ? bytes - i : 8);
  }
  return out;
}

// A removal that was reported.
struct Removal {
  Reason reason;
  std::string key;
  std::string value;
  Codec codec;
  uint32_t client_flags;
  bool operator==(const Removal&) const = default;
};

// Writes down every removal, of any thread. (It allocates, which a real sink must not.)
class RemovalRecorder final : public RemovalSink {
 public:
  explicit RemovalRecorder(bool with_values = true) : with_values_(with_values) {}
  void OnRemoved(Reason reason, const RemovedEntry& entry) override {
    Removal removal;
    removal.reason = reason;
    removal.key.resize(entry.key_bytes());
    entry.CopyKey(removal.key.data());
    if (with_values_) {
      removal.value.resize(entry.value_bytes());
      entry.CopyValue(removal.value.data(), removal.value.size());
    }
    removal.codec = entry.codec();
    removal.client_flags = entry.client_flags();
    std::lock_guard<std::mutex> guard(mutex_);
    removals_.push_back(std::move(removal));
  }
  void OnCleared(uint64_t entry_count) override {
    std::lock_guard<std::mutex> guard(mutex_);
    cleared_.push_back(entry_count);
  }

  std::vector<Removal> Take() {
    std::lock_guard<std::mutex> guard(mutex_);
    return std::exchange(removals_, {});
  }
  // What Take() would give.
  std::vector<Removal> Seen() {
    std::lock_guard<std::mutex> guard(mutex_);
    return removals_;
  }
  std::vector<uint64_t> TakeCleared() {
    std::lock_guard<std::mutex> guard(mutex_);
    return std::exchange(cleared_, {});
  }
  // The keys that left for this reason, in order; forgets all removals.
  std::vector<std::string> TakeKeys(Reason reason) {
    std::vector<std::string> keys;
    for (Removal& removal : Take()) {
      if (removal.reason == reason) keys.push_back(std::move(removal.key));
    }
    return keys;
  }

 private:
  const bool with_values_;
  std::mutex mutex_;
  std::vector<Removal> removals_;
  std::vector<uint64_t> cleared_;
};

// What a request came to, with a copy of the value.
struct Answer {
  Status status = Status::kNotFound;
  std::string value;
  Outcome outcome;
};

// Keys of one hash chain of any table with up to 4096 buckets.
inline std::vector<std::string> KeysOfOneChain(const StoreOptions& options, size_t count) {
  std::vector<std::string> keys;
  for (uint64_t i = 0; keys.size() < count; ++i) {
    std::string key = "k" + std::to_string(i);
    if (TableHash(options.hash, key, options.secrets) % 4096 == 17) keys.push_back(std::move(key));
  }
  return keys;
}

// A store with a hand-moved clock, and calls that read as the verbs do. Not thread-safe.
class TestStore {
 public:
  static StoreOptions Tiny() {
    StoreOptions options;
    options.memory_bytes = kMemoryBytesMin;
    options.shard_count = 1;
    options.page_bytes = kPageBytesMin;
    options.secrets = FixedSecrets(1);
    return options;
  }

  explicit TestStore(const StoreOptions& options = Tiny()) : options_(options) {
    Open();
    now_.boot_ms = 1'000'000;
    now_.wall_ms = 1'700'000'000'000;
    scratch_bytes_.resize(size_t{1} << 20);
  }

  Store* operator->() { return store_.get(); }
  Store* get() { return store_.get(); }
  Store& store() { return *store_; }
  RemovalRecorder& removals() { return removals_; }
  const Now& now() const { return now_; }
  uint64_t now_ms() const { return now_.boot_ms; }
  void Advance(uint64_t ms) {
    now_.boot_ms += ms;
    now_.wall_ms += static_cast<int64_t>(ms);
  }
  // Opens the store anew with change rings. REQUIRES: no request was made.
  void RecordAll(uint64_t ring_bytes = kRingBytesMin) {
    options_.ring_bytes = ring_bytes;
    Open();
    for (uint32_t i = 0; i < store_->shard_count(); ++i) logs_.emplace_back(store_.get(), i);
  }
  test::ShardLog& records(uint32_t shard = 0) { return logs_[shard]; }

  Answer Do(const Request& request) {
    Answer answer;
    Scratch scratch{scratch_bytes_.data(), scratch_bytes_.size(), 0};
    store_->Execute(request, now_, &scratch, &answer.outcome);
    if (answer.outcome.status == Status::kNeedsRoom) {
      scratch_bytes_.resize(answer.outcome.value_bytes + size_t{64});
      scratch = Scratch{scratch_bytes_.data(), scratch_bytes_.size(), 0};
      store_->Execute(request, now_, &scratch, &answer.outcome);
    }
    answer.status = answer.outcome.status;
    if (answer.outcome.has_value) {
      answer.value.resize(answer.outcome.value_bytes);
      if (answer.outcome.pin.ref != 0) {
        store_->ReadPinned(answer.outcome.pin, 0, answer.value.data(), answer.value.size());
        store_->Unpin(answer.outcome.pin);
      } else {
        std::memcpy(answer.value.data(), scratch_bytes_.data() + answer.outcome.value_offset, answer.value.size());
      }
    }
    return answer;
  }

  static Request Make(Verb verb, std::string_view key, std::string_view value = {}) {
    Request request;
    request.verb = verb;
    request.key = key;
    request.value = value;
    return request;
  }
  Answer Get(std::string_view key) { return Do(Make(Verb::kGet, key)); }
  Answer Peek(std::string_view key) { return Do(Make(Verb::kPeek, key)); }
  bool Has(std::string_view key) { return Do(Make(Verb::kHas, key)).status == Status::kFound; }
  Answer Set(std::string_view key, std::string_view value, uint64_t expires_ms = kNeverExpires,
             uint32_t client_flags = 0, Codec codec = Codec::kRaw) {
    Request request = Make(Verb::kSet, key, value);
    request.expires_ms = expires_ms;
    request.client_flags = client_flags;
    request.codec = codec;
    return Do(request);
  }
  Answer Delete(std::string_view key) { return Do(Make(Verb::kDelete, key)); }
  Answer Incr(std::string_view key, uint64_t delta) {
    Request request = Make(Verb::kIncr, key);
    request.delta = delta;
    return Do(request);
  }
  // Schedules a clear in `ms` milliseconds, 0: none. The version that says so, or ~0 if it was refused.
  uint64_t ClearIn(uint64_t ms) {
    uint64_t version = 0;
    return store_->ScheduleClear(ms == 0 ? 0 : now_.boot_ms + ms, now_, &version) ? version : ~uint64_t{0};
  }
  // Calls Maintain until it says that there is no more to do.
  void MaintainAll() {
    while (store_->Maintain(now_)) {
    }
  }
  void ResizeAll(uint64_t memory_bytes, uint64_t entries_max) {
    while (!store_->Resize(memory_bytes, entries_max, now_)) {
    }
  }

 private:
  void Open() {
    Refusal refusal;
    store_.reset();
    store_ = Store::Open(options_, &refusal);
    if (store_ == nullptr) {
      std::fprintf(stderr, "Store::Open: %s\n", refusal.ToString().c_str());
      std::abort();
    }
    store_->SetRemovalSink(&removals_);
  }

  RemovalRecorder removals_;
  StoreOptions options_;
  std::unique_ptr<Store> store_;
  std::vector<test::ShardLog> logs_;
  Now now_;
  std::string scratch_bytes_;
};

}  // namespace cairn
