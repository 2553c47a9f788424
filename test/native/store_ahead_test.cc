// Memory that upkeep makes ready before a growing cache needs it.
#include <string>

#include "store/shard_guard.h"
#include "store/store.h"
#include "support/store_fixture.h"
#include "test.h"

#if defined(__linux__)
#include <sys/mman.h>
#endif

namespace cairn {
namespace {

// Counts how often upkeep was asked for.
class GrowthRecorder final : public RemovalSink {
 public:
  GrowthRecorder() { wanted_.store(0, std::memory_order_relaxed); }
  void OnRemoved(Reason, const RemovedEntry&) override {}
  void OnCleared(uint64_t) override {}
  void OnGrowing() override { ++calls; }
  int calls = 0;
};

StoreOptions Large() {
  StoreOptions options;
  options.memory_bytes = uint64_t{64} << 20;
  options.shard_count = 1;
  options.secrets = FixedSecrets(1);
  return options;
}

// Fills until `growth` has asked for upkeep.
void GrowUntilAsked(TestStore& store, GrowthRecorder* growth, int* i) {
  const int before = growth->calls;
  while (growth->calls == before) store.Set("key" + std::to_string((*i)++), std::string(1000, 'v'));
}

TEST(StoreAhead, UpkeepIsAskedForBeforeALargePageIsUsedUp) {
  TestStore store(Large());
  GrowthRecorder growth;
  store->SetRemovalSink(&growth);
  int i = 0;
  // Some of the 31 large pages behind the first; each asks until it is answered.
  for (int large_pages = 0; large_pages < 20; ++large_pages) {
    GrowUntilAsked(store, &growth, &i);
    const uint64_t before = store->Stats().committed_bytes;
    store.MaintainAll();
    EXPECT_EQ(store->Stats().committed_bytes, before + kLargePageBytes) << large_pages;
    EXPECT_LE(store->Stats().committed_bytes, Large().memory_bytes);
    const int asked = growth.calls;
    store.Set("key" + std::to_string(i++), std::string(1000, 'v'));
    EXPECT_EQ(growth.calls, asked) << "answered";
    store.MaintainAll();
    store->Verify();
  }
  // Up to the limit, and never beyond.
  while (store->Stats().evictions == 0) {
    store.Set("key" + std::to_string(i++), std::string(1000, 'v'));
    if (i % 64 == 0) store.MaintainAll();
    ASSERT_LE(store->Stats().committed_bytes, Large().memory_bytes);
  }
  store->Verify();
}

#if defined(__linux__)
TEST(StoreAhead, WhatIsReadyIsResidentBeforeItsFirstUse) {
  TestStore store(Large());
  GrowthRecorder growth;
  store->SetRemovalSink(&growth);
  int i = 0;
  GrowUntilAsked(store, &growth, &i);
  Shard* shard = store->shard(0);
  const uint64_t page_bytes = store->page_bytes();
  // The pages of one more large page beyond the present one; the last of them is in what is to be made ready.
  const auto used = static_cast<uint32_t>(store->Stats().pages_used);
  const auto last = used + static_cast<uint32_t>(kLargePageBytes / page_bytes);
  const auto resident = [&] {
    unsigned char state = 0;
    char* address = shard->PageAddress(last);
    EXPECT_EQ(mincore(address, OsPageBytes(), &state), 0);
    return (state & 1) != 0;
  };
  EXPECT_FALSE(resident());
  store.MaintainAll();
  EXPECT_TRUE(resident());
  store.Advance(kAheadIdleMs);
  store.MaintainAll();
  EXPECT_FALSE(resident()) << "given back, because the store has not grown";
}
#endif

#if defined(__linux__)
TEST(StoreAhead, WhatIsLeftOfALargePageIsGivenBackWhenNothingGrows) {
  TestStore store(Large());
  GrowthRecorder growth;
  store->SetRemovalSink(&growth);
  int i = 0;
  Shard* shard = store->shard(0);
  const uint64_t page_bytes = store->page_bytes();
  // Into the sixth large page, and less than half of it.
  while (store->Stats().pages_used * page_bytes < 5 * kLargePageBytes + kLargePageBytes / 4) {
    store.Set("key" + std::to_string(i++), std::string(1000, 'v'));
    if (i % 64 == 0) store.MaintainAll();
  }
  const auto first = static_cast<uint32_t>(store->Stats().pages_used) + 2;
  const auto last = first + static_cast<uint32_t>(kLargePageBytes / 4 / page_bytes);
  for (uint32_t page = first; page < last; ++page) *shard->PageAddress(page) = 0;  // as a large page has it
  const auto resident = [&](uint32_t page) {
    unsigned char state = 0;
    EXPECT_EQ(mincore(shard->PageAddress(page), OsPageBytes(), &state), 0);
    return (state & 1) != 0;
  };
  store.MaintainAll();
  EXPECT_TRUE(store->is_ahead());
  EXPECT_TRUE(resident(first) && resident(last - 1));
  store.Advance(kAheadIdleMs);
  store.MaintainAll();
  EXPECT_FALSE(resident(first) || resident(last - 1));
  EXPECT_FALSE(store->is_ahead()) << "once";
  store->Verify();
  const int there = i;
  while (store->Stats().evictions == 0) store.Set("key" + std::to_string(i++), std::string(1000, 'v'));
  EXPECT_GT(i, 4 * there);
  EXPECT_EQ(store->Stats().reserve_evictions, 0);
  store->Verify();
}
#endif

TEST(StoreAhead, WhatIsReadyIsGivenBackWhenNothingGrowsAndOnlyOnceForALargePage) {
  TestStore store(Large());
  GrowthRecorder growth;
  store->SetRemovalSink(&growth);
  int i = 0;
  GrowUntilAsked(store, &growth, &i);
  const uint64_t before = store->Stats().committed_bytes;
  store.MaintainAll();
  EXPECT_TRUE(store->is_ahead());
  store.Advance(kAheadIdleMs - 1);
  store.MaintainAll();
  EXPECT_EQ(store->Stats().committed_bytes, before + kLargePageBytes);
  store.Advance(1);
  store.MaintainAll();
  EXPECT_EQ(store->Stats().committed_bytes, before);
  EXPECT_FALSE(store->is_ahead());
  store->Verify();
  // A cache that grows by a page now and then does not make the same memory ready again and again.
  GrowUntilAsked(store, &growth, &i);
  store.MaintainAll();
  EXPECT_FALSE(store->is_ahead()) << "so little is left that it stays";
  store.Advance(10 * kAheadIdleMs);
  const uint64_t kept = store->Stats().committed_bytes;
  store.MaintainAll();
  EXPECT_EQ(store->Stats().committed_bytes, kept);
  GrowUntilAsked(store, &growth, &i);
  store.MaintainAll();
  EXPECT_TRUE(store->is_ahead()) << "the one after it again long before its time";
  // And what was given back is used as if it had never been there.
  while (store->Stats().evictions == 0) store.Set("key" + std::to_string(i++), std::string(1000, 'v'));
  store->Verify();
}

TEST(StoreAhead, AShrinkingCacheGivesBackWhatWasReady) {
  StoreOptions options = Large();
  TestStore store(options);
  GrowthRecorder growth;
  store->SetRemovalSink(&growth);
  int i = 0;
  for (int large_pages = 0; large_pages < 10; ++large_pages) {
    GrowUntilAsked(store, &growth, &i);
    store.MaintainAll();
  }
  store.ResizeAll(uint64_t{8} << 20, 0);
  store.MaintainAll();
  EXPECT_LE(store->Stats().committed_bytes, uint64_t{8} << 20);
  store->Verify();
}

// What upkeep has closed for a moment while it gives the memory back: growth goes on behind it.
TEST(StoreAhead, GrowthGoesOnWhileMemoryIsGivenBack) {
  TestStore store(Large());
  GrowthRecorder growth;
  store->SetRemovalSink(&growth);
  int i = 0;
  GrowUntilAsked(store, &growth, &i);
  store.MaintainAll();
  store.Advance(kAheadIdleMs);
  Shard* shard = store->shard(0);
  Growth::Step step;
  {
    const ShardGuard guard(shard);
    step = shard->growth()->Begin(store.now(), Growth::Purpose::kUpkeep);
  }
  ASSERT_TRUE(step.what == Growth::Step::What::kGiveBack);
  EXPECT_EQ(step.bytes, kLargePageBytes);
  // More than the pages in front of it hold.
  const int first = i;
  for (; i < first + 4000; ++i) store.Set("key" + std::to_string(i), PatternBytes(1000, static_cast<uint64_t>(i)));
  OsDiscard(step.address, step.bytes);
  store->Verify();
  const uint64_t closed = store->Stats().committed_bytes;
  {
    const ShardGuard guard(shard);
    shard->growth()->End();
  }
  store->Verify();
  EXPECT_EQ(store->Stats().committed_bytes + step.bytes, closed) << "what was passed over is there to be taken";
  for (int k = first; k < i; ++k) {
    ASSERT_TRUE(store.Get("key" + std::to_string(k)).value == PatternBytes(1000, static_cast<uint64_t>(k))) << k;
  }
  // The pages that were passed over are used before fresh ones.
  while (store->Stats().evictions == 0) store.Set("key" + std::to_string(i++), std::string(1000, 'v'));
  EXPECT_EQ(store->Stats().reserve_evictions, 0);
  store->Verify();
}

}  // namespace
}  // namespace cairn
