// ExecuteMany: the same as Execute one by one, as far as one key can tell, whatever the shards and the sizes of
// batches.

#include <map>

#include "store/store.h"
#include "support/store_fixture.h"
#include "test.h"

namespace cairn {
namespace {

StoreOptions Sharded(uint32_t shard_count) {
  StoreOptions options = TestStore::Tiny();
  options.memory_bytes = uint64_t{shard_count} * kShardQuotaBytesMin;
  options.shard_count = shard_count;
  return options;
}

TEST(StoreBatch, AnEmptyBatchDoesNothing) {
  TestStore store;
  Scratch scratch;
  store->ExecuteMany(nullptr, 0, store.now(), &scratch, nullptr);
  EXPECT_EQ(store->entries(), 0);
}

TEST(StoreBatch, RequestsForOneKeyKeepTheirOrder) {
  for (uint32_t shards : {1u, 4u, 16u}) {
    TestStore store(Sharded(shards));
    test::Random random(test::Seed() + shards);
    std::map<std::string, std::string> expected;
    std::string bytes(size_t{1} << 20, '\0');
    for (int round = 0; round < 200; ++round) {
      const size_t count = random.Between(1, 150);
      std::vector<std::string> keys(count), values(count);
      std::vector<Request> requests(count);
      std::vector<Outcome> outcomes(count);
      std::vector<std::string> answers(count);  // "-" for a miss
      for (size_t i = 0; i < count; ++i) {
        keys[i] = "key" + std::to_string(random.Below(40));
        values[i] = PatternBytes(random.Below(100), random.Next());
        const Verb verbs[] = {Verb::kGet, Verb::kSet, Verb::kDelete, Verb::kAppend};
        requests[i] = TestStore::Make(verbs[random.Below(4)], keys[i], values[i]);
        std::string& value = expected[keys[i]];  // with a first byte that says "present"
        switch (requests[i].verb) {
          case Verb::kGet:
            answers[i] = value.empty() ? "-" : value;
            break;
          case Verb::kSet:
            value = "+" + values[i];
            break;
          case Verb::kAppend:
            if (!value.empty()) value += values[i];
            break;
          default:
            value.clear();
        }
      }
      Scratch scratch{bytes.data(), bytes.size(), 0};
      store->ExecuteMany(requests.data(), count, store.now(), &scratch, outcomes.data());
      for (size_t i = 0; i < count; ++i) {
        if (requests[i].verb != Verb::kGet) continue;
        std::string got = "-";
        if (outcomes[i].status == Status::kFound) {
          ASSERT_EQ(outcomes[i].pin.ref, 0) << "batches never pin";
          got = "+" + std::string(bytes.data() + outcomes[i].value_offset, outcomes[i].value_bytes);
        }
        ASSERT_EQ(got, answers[i]) << "request " << i << " of round " << round << ", " << shards << " shards";
      }
      store->Verify();
    }
  }
}

TEST(StoreBatch, WhatFindsNoRoomInTheScratchIsAskedForAgain) {
  TestStore store(Sharded(4));
  std::vector<std::string> keys;
  std::vector<Request> requests;
  for (int i = 0; i < 64; ++i) keys.push_back("key" + std::to_string(i));
  for (const std::string& key : keys) {
    store.Set(key, PatternBytes(1000 + key.size() * 500, key.back()));
    requests.push_back(TestStore::Make(Verb::kGet, key));
  }
  std::vector<Outcome> outcomes(64);
  std::string bytes(10'000, '\0');
  std::vector<bool> answered(64);
  size_t left = 64;
  for (int round = 0; left > 0; ++round) {
    ASSERT_LT(round, 64) << "every round must answer at least one";
    std::vector<Request> again;
    std::vector<size_t> which;
    for (size_t i = 0; i < 64; ++i) {
      if (answered[i]) continue;
      again.push_back(requests[i]);
      which.push_back(i);
    }
    Scratch scratch{bytes.data(), bytes.size(), 0};
    store->ExecuteMany(again.data(), again.size(), store.now(), &scratch, outcomes.data());
    for (size_t j = 0; j < again.size(); ++j) {
      if (outcomes[j].status == Status::kNeedsRoom) continue;
      ASSERT_EQ(outcomes[j].status, Status::kFound);
      const std::string& key = keys[which[j]];
      ASSERT_TRUE(std::string(bytes.data() + outcomes[j].value_offset, outcomes[j].value_bytes) ==
                  PatternBytes(1000 + key.size() * 500, key.back()));
      answered[which[j]] = true;
      --left;
    }
  }
}

TEST(StoreBatch, ValuesLargerThanTheCopyLimitAreCopied) {
  TestStore store(Sharded(2));
  const std::string value = PatternBytes(60'000, 1);
  store.Set("a", value);
  store.Set("b", value);
  const Request requests[] = {TestStore::Make(Verb::kGet, "a"), TestStore::Make(Verb::kGet, "absent"),
                              TestStore::Make(Verb::kGet, "b")};
  Outcome outcomes[3];
  std::string bytes(200'000, '\0');
  Scratch scratch{bytes.data(), bytes.size(), 0};
  store->ExecuteMany(requests, 3, store.now(), &scratch, outcomes);
  for (int i : {0, 2}) {
    ASSERT_TRUE(outcomes[i].has_value);
    EXPECT_EQ(outcomes[i].pin.ref, 0);
    EXPECT_TRUE(std::string_view(bytes.data() + outcomes[i].value_offset, outcomes[i].value_bytes) == value);
  }
  EXPECT_EQ(outcomes[1].status, Status::kNotFound);
}

TEST(StoreBatch, KeysAreFoundInTheirShardHoweverTheyAreAskedFor) {
  TestStore store(Sharded(16));
  std::vector<std::string> keys;
  std::vector<Request> requests;
  for (int i = 0; i < 1000; ++i) keys.push_back("key" + std::to_string(i));
  for (const std::string& key : keys) requests.push_back(TestStore::Make(Verb::kSet, key, key));
  std::vector<Outcome> outcomes(1000);
  Scratch scratch;
  store->ExecuteMany(requests.data(), requests.size(), store.now(), &scratch, outcomes.data());
  uint64_t in_shards = 0;
  for (uint32_t shard = 0; shard < 16; ++shard) {
    const uint64_t entries = store->ShardStats(shard).entries;
    EXPECT_GT(entries, 20) << "shard " << shard << " of 16 holds too few of 1000 keys";
    in_shards += entries;
  }
  EXPECT_EQ(in_shards, 1000);
  for (const std::string& key : keys) EXPECT_EQ(store.Get(key).value, key);
}

}  // namespace
}  // namespace cairn
