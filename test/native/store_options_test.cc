// Opening: which options are refused and why, what is chosen for those left out, and the cap.

#include <algorithm>
#include <bit>

#include "base/os.h"
#include "store/store.h"
#include "support/shard_access.h"
#include "support/store_fixture.h"
#include "test.h"

namespace cairn {
namespace {

using Option = Refusal::Option;
using Rule = Refusal::Rule;

Refusal RefusalOf(const StoreOptions& options) {
  Refusal refusal;
  const std::unique_ptr<Store> store = Store::Open(options, &refusal);
  EXPECT_EQ(store == nullptr, !refusal.is_none());
  return refusal;
}

TEST(StoreOptions, TheSmallestMemoryOpensAndLessIsRefused) {
  StoreOptions options;
  options.shard_count = 1;
  options.memory_bytes = kMemoryBytesMin;
  EXPECT_EQ(RefusalOf(options), Refusal{});
  options.memory_bytes = kMemoryBytesMin - 1;
  const Refusal expected{.rule = Rule::kRange, .min = kMemoryBytesMin, .value = kMemoryBytesMin - 1};
  EXPECT_EQ(RefusalOf(options), expected);
}

TEST(StoreOptions, AShardCountThatIsNoPowerOfTwoIsRefused) {
  StoreOptions options;
  for (uint32_t shards : {3u, 6u, 7u, 512u, 1000u}) {
    options.shard_count = shards;
    const Refusal expected{
        .rule = Rule::kPowerOfTwo, .option = Option::kShardCount, .min = 1, .max = kShardCountMax, .value = shards};
    EXPECT_EQ(RefusalOf(options), expected);
  }
}

TEST(StoreOptions, APageSizeThatIsNoPowerOfTwoOrOutOfRangeIsRefused) {
  StoreOptions options;
  for (uint64_t page_bytes : {1u, 2048u, 5000u, 12'288u}) {
    options.page_bytes = page_bytes;
    const Refusal expected{.rule = Rule::kPowerOfTwo,
                           .option = Option::kPageBytes,
                           .min = kPageBytesMin,
                           .max = kPageBytesMax,
                           .value = page_bytes};
    EXPECT_EQ(RefusalOf(options), expected);
  }
}

TEST(StoreOptions, AValueSizeThatAShardCannotHoldIsRefused) {
  StoreOptions options;
  options.memory_bytes = 4 << 20;
  options.shard_count = 1;
  options.value_bytes_max = 100 << 20;
  Refusal refusal = RefusalOf(options);
  EXPECT_TRUE(refusal.rule == Rule::kShardCapacity && refusal.option == Option::kValueBytesMax) << refusal;
  EXPECT_EQ(refusal.value, 104'857'600);
  EXPECT_TRUE(refusal.max > 1 << 20 && refusal.max < 2 << 20) << refusal;
  // What it names can be.
  options.value_bytes_max = refusal.max;
  EXPECT_EQ(RefusalOf(options), Refusal{});
  options.value_bytes_max = kValueBytesMax + 1;
  const Refusal expected{
      .rule = Rule::kRange, .option = Option::kValueBytesMax, .max = kValueBytesMax, .value = kValueBytesMax + 1};
  EXPECT_EQ(RefusalOf(options), expected);
}

TEST(StoreOptions, AShareOfTheMemoryThatIsTooSmallForAShardIsRefused) {
  StoreOptions options;
  options.memory_bytes = 4 << 20;
  options.shard_count = 256;
  const Refusal expected{.rule = Rule::kShardShare, .min = kMemoryBytesMin, .value = 4 << 20, .shard_count = 256};
  EXPECT_EQ(RefusalOf(options), expected);
}

TEST(StoreOptions, MemoryBeyondAllReferencesIsRefusedByTheOptionThatWasGiven) {
  StoreOptions options;
  options.memory_bytes = uint64_t{1} << 50;
  Refusal expected{
      .rule = Rule::kShardShare, .max = kShardBytesMax / 2, .value = uint64_t{1} << 50, .shard_count = kShardCountMax};
  EXPECT_EQ(RefusalOf(options), expected);
  options.memory_bytes = 64 << 20;
  options.memory_bytes_ceiling = uint64_t{1} << 50;
  expected.option = Option::kMemoryBytesCeiling;
  EXPECT_EQ(RefusalOf(options), expected);
}

TEST(StoreOptions, ACeilingBelowTheMemoryIsRefused) {
  StoreOptions options;
  options.memory_bytes = 64 << 20;
  options.memory_bytes_ceiling = 32 << 20;
  const Refusal expected{
      .rule = Rule::kRange, .option = Option::kMemoryBytesCeiling, .min = 64 << 20, .value = 32 << 20};
  EXPECT_EQ(RefusalOf(options), expected);
}

TEST(StoreOptions, AnEpochOfNoneIsRefused) {
  StoreOptions options;
  options.epoch = 0;
  const Refusal expected{.rule = Rule::kRange, .option = Option::kEpoch, .min = 1, .max = ~uint32_t{0}};
  EXPECT_EQ(RefusalOf(options), expected);
}

TEST(StoreOptions, TheNumberOfShardsFollowsFromWhatAShardNeeds) {
  const auto shards = [](uint64_t memory_bytes, uint64_t entries_max, uint64_t value_bytes_max) {
    StoreOptions options;
    options.memory_bytes = memory_bytes;
    options.memory_bytes_ceiling = memory_bytes;
    options.entries_max = entries_max;
    options.value_bytes_max = value_bytes_max;
    Refusal refusal;
    const std::unique_ptr<Store> store = Store::Open(options, &refusal);
    return store == nullptr ? 0 : store->shard_count();
  };
  const uint32_t many = shards(uint64_t{8} << 30, 0, 1 << 20);
  EXPECT_EQ(many, std::min(std::bit_floor(8 * OsCpuCount()), 256u));
  EXPECT_EQ(shards(4 << 20, 0, 1000), 1);
  EXPECT_EQ(shards(uint64_t{1} << 30, 1000, 1000), 1) << "1000 entries are one exact order";
  EXPECT_EQ(shards(uint64_t{1} << 30, 5000, 1000), std::min(many, 4u));
  EXPECT_EQ(shards(uint64_t{1} << 30, 0, uint64_t{16} << 20), std::min(many, 8u));
  EXPECT_EQ(shards(uint64_t{16} << 20, 0, 1000), std::min(many, 4u));
}

TEST(StoreOptions, AsManyShardsAreChosenAsTheOptionsAskFor) {
  const auto shards = [](uint32_t shard_count_min, uint64_t entries_max, uint32_t shard_count) {
    StoreOptions options;
    options.memory_bytes = uint64_t{1} << 30;
    options.memory_bytes_ceiling = options.memory_bytes;
    options.entries_max = entries_max;
    options.value_bytes_max = 1000;
    options.shard_count = shard_count;
    options.shard_count_min = shard_count_min;
    Refusal refusal;
    const std::unique_ptr<Store> store = Store::Open(options, &refusal);
    return store == nullptr ? 0 : store->shard_count();
  };
  EXPECT_EQ(shards(1, 1000, 0), 1);
  EXPECT_EQ(shards(8, 1000, 0), 8);
  EXPECT_EQ(shards(256, 0, 0), 256) << "beyond those that the processors can use, too";
  EXPECT_EQ(shards(8, 1000, 2), 2) << "a number that is given counts";
}

TEST(StoreOptions, AResizeIsRefusedIfAShardCouldNotHoldTwoOfTheLargestValues) {
  StoreOptions options = TestStore::Tiny();
  options.memory_bytes = 16 << 20;
  options.shard_count = 1;
  options.value_bytes_max = 2 << 20;
  TestStore store(options);
  int refused = 0;
  for (uint64_t bytes = kMemoryBytesMin; bytes < options.memory_bytes; bytes += 64 << 10) {
    Refusal refusal;
    const bool fits = test::LimitFor(store.get(), 0, bytes) >= 2 * options.value_bytes_max;
    ASSERT_EQ(store->CheckResize(bytes, &refusal), fits) << bytes;
    if (fits) continue;
    const Refusal expected{.rule = Rule::kValuesFit, .min = options.value_bytes_max, .value = bytes, .shard_count = 1};
    ASSERT_EQ(refusal, expected);
    refused++;
  }
  EXPECT_GT(refused, 0);
}

uint64_t HalfOfShard(TestStore& store, uint64_t memory_bytes) {
  const uint32_t count = store->shard_count();
  uint64_t least = ~uint64_t{0};
  for (uint32_t i = 0; i < count; ++i) least = std::min(least, test::LimitFor(store.get(), i, memory_bytes / count));
  return least / 2;
}

TEST(StoreOptions, ALowerLimitLowersTheLargestValueThatWasNotGiven) {
  StoreOptions options = TestStore::Tiny();
  options.memory_bytes = 64 << 20;
  options.memory_bytes_ceiling = 0;
  options.shard_count = 8;
  options.value_bytes_max = 0;
  TestStore store(options);
  const uint64_t at_first = store->value_bytes_max();
  ASSERT_EQ(at_first, uint64_t{1} << 20);
  store.ResizeAll(8 << 20, 0);
  const uint64_t lowered = store->value_bytes_max();
  EXPECT_EQ(lowered, HalfOfShard(store, 8 << 20));
  EXPECT_LT(lowered, at_first);
  EXPECT_EQ(store.Set("k", PatternBytes(lowered, 1)).status, Status::kStored);
  EXPECT_EQ(store.Set("k", PatternBytes(lowered, 2)).status, Status::kStored) << "beside its old value";
  EXPECT_EQ(store.Set("k", PatternBytes(lowered + 1, 3)).status, Status::kTooLarge);
  store->Verify();
  store.ResizeAll(128 << 20, 0);
  EXPECT_EQ(store->value_bytes_max(), at_first) << "never above that of the options";
  EXPECT_EQ(store.Set("k", PatternBytes(at_first, 4)).status, Status::kStored);
}

TEST(StoreOptions, ALimitThatHoldsOnlySmallValuesIsRefused) {
  StoreOptions options = TestStore::Tiny();
  options.memory_bytes = 64 << 20;
  options.memory_bytes_ceiling = 0;
  options.shard_count = 32;
  options.value_bytes_max = 0;
  TestStore store(options);
  int refused = 0;
  for (uint64_t bytes = kMemoryBytesMin; bytes < options.memory_bytes; bytes += 64 << 10) {
    Refusal refusal;
    const bool fits = HalfOfShard(store, bytes) >= kValueBytesMaxLowest;
    ASSERT_EQ(store->CheckResize(bytes, &refusal), fits) << bytes;
    if (fits) continue;
    const Refusal expected{.rule = Rule::kValuesFit, .min = kValueBytesMaxLowest, .value = bytes, .shard_count = 32};
    ASSERT_EQ(refusal, expected);
    refused++;
  }
  EXPECT_GT(refused, 0);
}

TEST(StoreOptions, DifferentStoresHaveDifferentSecretsUnlessTheyAreGiven) {
  // Nothing public shows a secret; but that both work and neither is all zero can be seen through the hash they chose.
  StoreOptions options;
  Refusal refusal;
  const std::unique_ptr<Store> a = Store::Open(options, &refusal), b = Store::Open(options, &refusal);
  ASSERT_TRUE(a != nullptr && b != nullptr);
  EXPECT_FALSE(a->options().secrets.IsZero());
  EXPECT_FALSE(b->options().secrets.IsZero());
  EXPECT_TRUE(a->options().secrets.words != b->options().secrets.words);
}

TEST(StoreOptions, BothHashesServe) {
  for (HashKind hash : {HashKind::kFast, HashKind::kSipHash}) {
    StoreOptions options = TestStore::Tiny();
    options.hash = hash;
    TestStore store(options);
    for (int i = 0; i < 3000; ++i) store.Set("key" + std::to_string(i), std::to_string(i));
    for (int i = 0; i < 3000; ++i) ASSERT_EQ(store.Get("key" + std::to_string(i)).value, std::to_string(i));
    store->Verify();
  }
}

TEST(StoreOptions, EveryPageSizeServes) {
  for (uint64_t page_bytes = kPageBytesMin; page_bytes <= kPageBytesMax; page_bytes *= 2) {
    StoreOptions options = TestStore::Tiny();
    options.memory_bytes = std::max<uint64_t>(kMemoryBytesMin, page_bytes * 512);
    options.page_bytes = page_bytes;
    TestStore store(options);
    EXPECT_EQ(store->page_bytes(), page_bytes);
    test::Random random(page_bytes);
    for (int i = 0; i < 3000; ++i) {
      const std::string key = "key" + std::to_string(random.Below(500));
      const size_t bytes = random.Below(uint64_t{1} << random.Below(17));
      ASSERT_EQ(store.Set(key, PatternBytes(bytes, bytes)).status, Status::kStored);
      const Answer get = store.Get("key" + std::to_string(random.Below(500)));
      if (get.status == Status::kFound) ASSERT_TRUE(get.value == PatternBytes(get.value.size(), get.value.size()));
    }
    store->Verify();
  }
}

// Where the system's pages are larger (16 KiB on Apple's processors, 64 KiB on some of ARM's), the neighbours of a free
// page would lose what they hold.
TEST(StoreOptions, PagesThatAreSmallerThanTheSystemsKeepTheirMemory) {
  for (uint64_t system_page_bytes : {4096, 16384, 65536}) {
    StoreOptions options = TestStore::Tiny();
    options.memory_bytes = 4 * kMemoryBytesMin;
    options.shard_count = 1;
    options.page_bytes = 16384;
    options.system_page_bytes = system_page_bytes;
    TestStore store(options);
    for (int i = 0; i < 10'000; ++i) store.Set("key" + std::to_string(i), PatternBytes(1000, i));
    for (int i = 1000; i < 10'000; ++i) store.Delete("key" + std::to_string(i));
    const uint64_t before = store->Stats().committed_bytes;
    store.MaintainAll();
    const bool returned = store->Stats().committed_bytes < before / 2;
    EXPECT_EQ(returned, system_page_bytes <= options.page_bytes) << system_page_bytes;
    for (int i = 0; i < 1000; ++i) ASSERT_TRUE(store.Get("key" + std::to_string(i)).value == PatternBytes(1000, i));
    store.ResizeAll(kMemoryBytesMin, 0);
    for (int i = 0; i < 10'000; ++i) store.Set("more" + std::to_string(i), PatternBytes(1000, i));
    EXPECT_LE(store->Stats().charged_bytes, store->Stats().limit_bytes);
    store->Verify();
  }
}

TEST(StoreOptions, TheCapHoldsWhateverIsStored) {
  // Of the smallest memory: index, headers, slack and reserves are inside it.
  TestStore store;
  test::Random random(test::Seed());
  for (int i = 0; i < 60'000; ++i) {
    const std::string key = random.OneIn(50) ? PatternBytes(random.Between(1, 60'000), random.Next())
                                             : "key" + std::to_string(random.Below(30'000));
    store.Set(key, std::string(random.Below(uint64_t{1} << random.Below(15)), 'x'));
    if (i % 500 != 0) continue;
    const StoreStats stats = store->Stats();
    ASSERT_LE(stats.committed_bytes, kMemoryBytesMin);
    ASSERT_LE(stats.charged_bytes, stats.limit_bytes);
    ASSERT_EQ(stats.reserve_evictions, 0);
  }
  store->Verify();
}

TEST(StoreOptions, AnEmptyStoreUsesLittleMemory) {
  StoreOptions options;
  options.memory_bytes = uint64_t{1} << 30;
  Refusal refusal;
  const std::unique_ptr<Store> store = Store::Open(options, &refusal);
  ASSERT_TRUE(store != nullptr) << refusal;
  EXPECT_EQ(store->Stats().entries, 0);
  EXPECT_EQ(store->Stats().charged_bytes, 0);
  EXPECT_LE(store->Stats().index_bytes, options.memory_bytes / 100);
}

}  // namespace
}  // namespace cairn
