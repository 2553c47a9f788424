// Lists of keys by place: each key that stays comes once, while others come and go and the table grows and shrinks
// between two steps; the bounds of a step; and what is not listed.

#include <map>
#include <set>
#include <string>
#include <vector>

#include "store/key_list.h"
#include "store/shard_guard.h"
#include "store/store.h"
#include "support/store_fixture.h"
#include "test.h"

namespace cairn {
namespace {

StoreOptions Roomy(uint32_t shard_count) {
  StoreOptions options = TestStore::Tiny();
  options.memory_bytes = uint64_t{64} << 20;
  options.shard_count = shard_count;
  return options;
}

// One step. Returns true behind the last key.
bool Step(TestStore& store, KeyPlace* place, size_t count, std::string_view prefix, std::vector<std::string>* keys) {
  static std::string bytes(kKeyBytesMax, '\0');
  KeyListStep step;
  step.prefix = prefix;
  step.count = count;
  step.scratch = {bytes.data(), bytes.size(), 0};
  const bool done = store->ListKeys(store.now(), place, &step);
  EXPECT_LE(step.emitted, count);
  // A chain is looked at whole.
  EXPECT_LT(step.work, kListStepWork + kChainBucketsMax * (kBucketSlots * kListEntryWork + 1));
  const char* key = bytes.data();
  for (size_t i = 0; i < step.emitted; key += step.key_bytes[i++]) keys->emplace_back(key, step.key_bytes[i]);
  return done;
}

std::vector<std::string> ListAll(TestStore& store, size_t count = kStepEntriesMax, std::string_view prefix = {}) {
  std::vector<std::string> keys;
  KeyPlace place;
  while (!Step(store, &place, count, prefix, &keys)) {
  }
  return keys;
}

std::set<std::string> SetOf(const std::vector<std::string>& keys) { return {keys.begin(), keys.end()}; }

TEST(StoreKeyList, AnEmptyStoreEndsAtOnce) {
  TestStore store(Roomy(16));
  std::vector<std::string> keys;
  KeyPlace place;
  EXPECT_TRUE(Step(store, &place, 1, {}, &keys));
  EXPECT_EQ(keys.size(), 0);
}

TEST(StoreKeyList, EveryKeyComesOnceInStepsOfAnySize) {
  TestStore store(Roomy(4));
  std::set<std::string> all;
  for (int i = 0; i < 5000; i++) all.insert("key" + std::to_string(i));
  for (const std::string& key : all) store.Set(key, "v");
  for (const size_t count : {size_t{1}, size_t{2}, size_t{7}, size_t{kStepEntriesMax}}) {
    const std::vector<std::string> keys = ListAll(store, count);
    EXPECT_EQ(keys.size(), all.size());
    EXPECT_TRUE(SetOf(keys) == all);
  }
}

// The keys of one chain come in parts, too.
TEST(StoreKeyList, AFullChainIsListedAKeyAtATime) {
  const StoreOptions options = TestStore::Tiny();
  TestStore store(options);
  const std::vector<std::string> chain = KeysOfOneChain(options, kChainBucketsMax * kBucketSlots);
  for (const std::string& key : chain) store.Set(key, "v");
  for (const size_t count : {size_t{1}, size_t{5}, size_t{kStepEntriesMax}}) {
    const std::vector<std::string> keys = ListAll(store, count);
    EXPECT_EQ(keys.size(), chain.size());
    EXPECT_TRUE(SetOf(keys) == SetOf(chain));
  }
}

// The table has 4,096 buckets at first, and here up to 13,000: it splits and merges thousands of times while a list is
// under way, at random points of it.
TEST(StoreKeyList, KeysThatStayComeOnceWhileTheTableGrowsAndShrinks) {
  test::Random random(test::Seed());
  TestStore store(Roomy(1));
  std::set<std::string> stays;
  for (int i = 0; i < 20'000; i++) stays.insert("stays" + std::to_string(i));
  for (const std::string& key : stays) store.Set(key, "v");
  constexpr int kOthersMax = 100'000;
  int others = 0;
  const auto move_to = [&](int target) {
    while (others < target) store.Set("other" + std::to_string(others++), "v");
    while (others > target) store.Delete("other" + std::to_string(--others));
    store.MaintainAll();
  };
  for (int round = 0; round < 4; round++) {
    move_to(round % 2 == 0 ? 0 : kOthersMax);
    std::map<std::string, int> times;
    KeyPlace place;
    std::vector<std::string> keys;
    for (bool done = false; !done;) {
      done = Step(store, &place, 1 + random.Below(kStepEntriesMax), {}, &keys);
      for (const std::string& key : keys) times[key]++;
      keys.clear();
      if (random.OneIn(100)) move_to(static_cast<int>(random.Below(kOthersMax)));
      // An entry that is replaced stays where it is in the order.
      if (random.OneIn(4)) store.Set("stays" + std::to_string(random.Below(20'000)), "another");
    }
    for (const std::string& key : stays) {
      const int count = times.contains(key) ? times[key] : 0;

      ASSERT_EQ(count, 1);
    }
    for (const auto& [key, count] : times) ASSERT_EQ(count, 1);
  }
  store->Verify();
}

TEST(StoreKeyList, APrefixKeepsOthersOut) {
  TestStore store(Roomy(4));
  for (int i = 0; i < 3000; i++) store.Set((i % 100 == 0 ? "user:" : "item:") + std::to_string(i), "v");
  store.Set("user", "v");
  store.Set("user:", "v");
  store.Set("use", "v");
  EXPECT_EQ(ListAll(store, 5, "user:").size(), 31);
  EXPECT_EQ(ListAll(store, 5, "user").size(), 32);
  EXPECT_EQ(ListAll(store, 5, "none").size(), 0);
}

TEST(StoreKeyList, KeysOfAnySizeFit) {
  TestStore store(Roomy(2));
  std::set<std::string> all;
  for (uint64_t i = 0; i < 6; i++) {
    all.insert(PatternBytes(kKeyBytesMax, i));
    all.insert(PatternBytes(300 + i, i));
  }
  for (const std::string& key : all) ASSERT_TRUE(store.Set(key, "v").status == Status::kStored);
  const std::vector<std::string> keys = ListAll(store);
  EXPECT_EQ(keys.size(), all.size());
  EXPECT_TRUE(SetOf(keys) == all);
}

TEST(StoreKeyList, WhatARequestWouldNotFindIsNotListed) {
  TestStore store(Roomy(1));
  store.Set("expires", "v", store.now_ms() + 10);
  store.Set("stays", "v");
  store.Advance(10);
  EXPECT_EQ(ListAll(store), std::vector<std::string>{"stays"});
  store->Clear(store.now());
  EXPECT_EQ(ListAll(store).size(), 0);
  store.Set("new", "v");
  EXPECT_EQ(ListAll(store), std::vector<std::string>{"new"});
}

TEST(StoreKeyList, AListIsNoUse) {
  StoreOptions options = TestStore::Tiny();
  options.entries_max = 2;
  TestStore store(options);
  store.Set("a", "1");
  store.Set("b", "1");
  ListAll(store);
  EXPECT_FALSE(store.Get("b").outcome.fetched);
  store.Set("c", "1");
  EXPECT_EQ(store.removals().TakeKeys(Reason::kEvicted), std::vector<std::string>{"a"});
}

}  // namespace
}  // namespace cairn
