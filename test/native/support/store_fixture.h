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

namespace cairn {

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

// A record that was committed, owning its bytes.
struct StoredRecord {
  RecordKind kind;
  uint8_t codec;
  uint64_t version;
  int64_t expires_wall_ms;
  uint32_t client_flags;
  std::string key;
  std::string value;
};

// Keeps the records of one shard, and refuses room for them on demand. Aborts the process when the order of the calls
// is not the one the contract gives: that is a bug whoever sees it.
class RecordRecorder final : public RecordSink {
 public:
  [[nodiscard]] bool Reserve(size_t record_bytes) override {
    CHECK(state_ != State::kBegun);
    if (refuse_next_ > 0) {
      --refuse_next_;
      ++refusals_;
      state_ = State::kIdle;
      return false;
    }
    reserved_bytes_ = record_bytes;
    state_ = State::kReserved;
    return true;
  }
  void Begin(const RecordHeader& header) override {
    CHECK(state_ == State::kReserved);
    CHECK(header.record_bytes <= reserved_bytes_);
    CHECK(header.record_bytes == RecordBytes(header.key_bytes, header.value_bytes));
    CHECK(header.reserved0 == 0 && header.reserved1 == 0);
    state_ = State::kBegun;
    header_ = header;
    payload_.clear();
  }
  void Payload(const char* data, size_t bytes) override {
    CHECK(state_ == State::kBegun);
    payload_.append(data, bytes);
    CHECK(payload_.size() <= size_t{header_.key_bytes} + header_.value_bytes);
  }
  void Commit() override {
    CHECK(state_ == State::kBegun);
    CHECK(payload_.size() == size_t{header_.key_bytes} + header_.value_bytes);
    state_ = State::kIdle;
    StoredRecord record;
    record.kind = header_.kind;
    record.codec = header_.codec & 15;
    record.version = header_.version;
    record.expires_wall_ms = header_.expires_wall_ms;
    record.client_flags = header_.client_flags;
    record.key = payload_.substr(0, header_.key_bytes);
    record.value = payload_.substr(header_.key_bytes);
    records_.push_back(std::move(record));
  }

  // The next `count` reservations find no room.
  void RefuseNext(int count) { refuse_next_ = count; }
  int refuse_left() const { return refuse_next_; }
  uint64_t refusals() const { return refusals_; }
  std::vector<StoredRecord> Take() { return std::exchange(records_, {}); }
  const std::vector<StoredRecord>& records() const { return records_; }

 private:
  enum class State { kIdle, kReserved, kBegun };
  State state_ = State::kIdle;
  int refuse_next_ = 0;
  uint64_t refusals_ = 0;
  size_t reserved_bytes_ = 0;
  RecordHeader header_{};
  std::string payload_;
  std::vector<StoredRecord> records_;
};

// Everything that the ring has to give now, record by record; `version` is what the last call told, if any did.
// REQUIRES: the caller is the ring's reader. CHECKs that the bytes are whole records.
inline std::vector<StoredRecord> DrainAll(Store* store, uint32_t shard, uint64_t* version = nullptr,
                                          size_t capacity = size_t{1} << 20) {
  std::vector<StoredRecord> records;
  std::string bytes(capacity, '\0');
  for (;;) {
    const RingDrain drain = store->DrainRing(shard, bytes.data(), bytes.size());
    if (version != nullptr && drain.version != 0) *version = drain.version;
    std::string_view rest(bytes.data(), drain.bytes);
    for (uint32_t i = 0; i < drain.record_count; ++i) {
      RecordView view;
      CHECK(DecodeRecord(rest, &view) == DecodeStatus::kOk);
      rest.remove_prefix(view.record_bytes);
      records.push_back({view.kind, view.codec, view.version, view.expires_wall_ms, view.client_flags,
                         std::string(view.key), std::string(view.value)});
    }
    CHECK(rest.empty());
    if (drain.bytes == 0) {
      if (drain.bytes_needed == 0) return records;
      CHECK(drain.bytes_needed > bytes.size());
      bytes.resize(drain.bytes_needed);
    }
  }
}

// What a request came to, with the value as a string of its own.
struct Answer {
  Status status = Status::kNotFound;
  std::string value;
  Outcome outcome;
};

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

  explicit TestStore(const StoreOptions& options = Tiny()) {
    std::string error;
    store_ = Store::Open(options, &error);
    if (store_ == nullptr) {
      std::fprintf(stderr, "Store::Open: %s\n", error.c_str());
      std::abort();
    }
    now_.boot_ms = 1'000'000;
    now_.wall_ms = 1'700'000'000'000;
    scratch_bytes_.resize(size_t{1} << 20);
    store_->SetRemovalSink(&removals_);
  }

  Store* operator->() { return store_.get(); }
  Store& store() { return *store_; }
  RemovalRecorder& removals() { return removals_; }
  const Now& now() const { return now_; }
  uint64_t now_ms() const { return now_.boot_ms; }
  void Advance(uint64_t ms) {
    now_.boot_ms += ms;
    now_.wall_ms += static_cast<int64_t>(ms);
  }
  // Keeps the records of every shard from now on. REQUIRES: no request was made.
  void RecordAll() {
    std::vector<RecordSink*> sinks;
    for (uint32_t i = 0; i < store_->shard_count(); ++i) {
      records_.push_back(std::make_unique<RecordRecorder>());
      sinks.push_back(records_.back().get());
    }
    sink_array_ = std::move(sinks);
    store_->SetRecordSinks(sink_array_.data());
  }
  RecordRecorder& records(uint32_t shard = 0) { return *records_[shard]; }

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
  // Schedules a clear in so many milliseconds, 0: none. The version that says so, or ~0 if it was refused.
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
  RemovalRecorder removals_;
  std::vector<std::unique_ptr<RecordRecorder>> records_;
  std::vector<RecordSink*> sink_array_;
  std::unique_ptr<Store> store_;
  Now now_;
  std::string scratch_bytes_;
};

}  // namespace cairn
