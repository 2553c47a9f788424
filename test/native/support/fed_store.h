// A store whose records a test drains as the scribe does, and what came of them.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "base/check.h"
#include "process/change_feed.h"
#include "store/record.h"
#include "store/store.h"
#include "support/store_fixture.h"
#include "test.h"

namespace cairn {

inline constexpr Now kNow{1000, 1'700'000'000'000};

struct Log {
  std::vector<StoredRecord> records;

  // Decodes what a turn gave. Each record is whole, and they are as many as it says.
  void Take(const std::string& bytes, const ChangeFeed::Turn& turn) {
    size_t at = 0;
    uint32_t count = 0;
    while (at < turn.bytes) {
      RecordView view;
      ASSERT_TRUE(DecodeRecord(std::string_view(bytes).substr(at, turn.bytes - at), &view) == DecodeStatus::kOk);
      records.push_back({view.kind, view.codec, view.version, view.expires_wall_ms, view.client_flags,
                         std::string(view.key), std::string(view.value), view.optional});
      at += view.record_bytes;
      count++;
    }
    EXPECT_EQ(count, turn.record_count);
  }
  std::vector<std::string> Keys() const {
    std::vector<std::string> keys;
    for (const StoredRecord& record : records) keys.push_back(record.key);
    return keys;
  }
};

struct Fed {
  std::unique_ptr<Store> store;
  std::unique_ptr<ChangeFeed> feed;
  std::string buffer = std::string(1 << 20, '\0');

  explicit Fed(uint32_t shards = 1, bool has_backend = false) {
    StoreOptions options;
    options.memory_bytes = 64 << 20;
    options.shard_count = shards;
    options.ring_bytes = shards * (1 << 20);
    options.secrets = FixedSecrets(1);
    options.has_backend = has_backend;
    Refusal refusal;
    store = Store::Open(options, &refusal);
    CHECK(store != nullptr);
    feed = std::make_unique<ChangeFeed>(store.get());
    feed->Activate();
    feed->SetState(ChangeFeed::State::kRunning);
  }

  Outcome Do(Verb verb, std::string_view key, std::string_view value = "") {
    Request request;
    request.verb = verb;
    request.key = key;
    request.value = value;
    Outcome outcome;
    store->Execute(request, kNow, nullptr, &outcome);
    return outcome;
  }
  Outcome Set(std::string_view key, std::string_view value = "v") { return Do(Verb::kSet, key, value); }

  ChangeFeed::Turn Drain(Log* log, size_t capacity = 1 << 20, uint32_t timeout_ms = 0) {
    const ChangeFeed::Turn turn = feed->Drain(buffer.data(), capacity, timeout_ms);
    if (log != nullptr) log->Take(buffer, turn);
    return turn;
  }
  // All that was drained.
  void Commit() {
    for (uint32_t left = feed->turns_in_flight(); left > 0; left--) feed->Commit(feed->last_turn() - left + 1);
  }
  bool Covers(std::string_view key, uint64_t version) { return feed->marks()->Covers(store->ShardOf(key), version); }

  // A key of that shard.
  std::string KeyIn(uint32_t shard, int number) const {
    for (int i = 0;; i++) {
      std::string key = "key" + std::to_string(number) + "." + std::to_string(i);
      if (store->ShardOf(key) == shard) return key;
    }
  }
};

}  // namespace cairn
