// Clears and their epochs: the barrier that recovery reads back, and what happens when the epochs are used up.
#include <string>

#include "store/entry.h"
#include "support/store_fixture.h"
#include "test.h"

namespace cairn {
namespace {

TEST(StoreEpoch, ClearsGoOnWhenTheEpochsAreUsedUp) {
  StoreOptions options = TestStore::Tiny();
  options.epoch = kEpochMax - 1;
  TestStore store(options);
  uint64_t last = 0;
  for (int i = 0; i < 5; i++) {
    const uint64_t version = store.Set("key", "value").outcome.version;
    EXPECT_GT(version, last) << "versions of a key rise for ever";
    last = version;
    EXPECT_NE(store->Clear(store.now()), 0u);
    EXPECT_FALSE(store.Has("key"));
    store->Verify();
    store.Set("other", "value");
    EXPECT_TRUE(store.Has("other"));
    store->Verify();
  }
  while (store->Maintain(store.now())) {
  }
  EXPECT_EQ(store->Stats().cleared_entries, 0u);
}

RecordView Barrier(uint32_t epoch) {
  RecordView view;
  view.kind = RecordKind::kClear;
  view.version = uint64_t{epoch} << kVersionCounterBits | 7;
  return view;
}

RecordView Stored(const std::string& key, uint32_t epoch) {
  RecordView view;
  view.kind = RecordKind::kSet;
  view.key = key;
  view.value = "value";
  view.version = uint64_t{epoch} << kVersionCounterBits | 3;
  return view;
}

TEST(StoreEpoch, ABarrierReadBackTakesWhatIsOlderAndLeavesWhatIsNewer) {
  StoreOptions options = TestStore::Tiny();
  options.epoch = 9;
  TestStore store(options);
  // As a snapshot of a running cache has them: newer entries among older ones.
  for (int i = 0; i < 200; i++) {
    const std::string key = "key" + std::to_string(i);
    EXPECT_EQ(store->Apply(Stored(key, i % 3 == 0 ? 5 : 3), store.now(), true), Status::kStored);
  }
  EXPECT_EQ(store->Apply(Barrier(4), store.now(), true), Status::kStored);
  store->Verify();
  for (int i = 0; i < 200; i++) EXPECT_EQ(store.Has("key" + std::to_string(i)), i % 3 == 0);
  EXPECT_EQ(store->Apply(Stored("late", 3), store.now(), true), Status::kNotStored);
  EXPECT_GE(store.Set("new", "value").outcome.version, uint64_t{9} << kVersionCounterBits);
  store->Verify();
}

TEST(StoreEpoch, VersionsRiseAboveThoseThatAreReadBack) {
  TestStore store;
  const std::string key = "key";
  RecordView ahead = Stored(key, 700);
  ahead.version += 1000;
  EXPECT_EQ(store->Apply(ahead, store.now(), true), Status::kStored);
  store->Verify();
  EXPECT_GT(store.Set("key", "newer").outcome.version, ahead.version);
  EXPECT_NE(store->Clear(store.now()), 0u);
  EXPECT_FALSE(store.Has("key"));
  store->Verify();
}

TEST(StoreEpoch, ABarrierNewerThanEverythingClearsAtOnce) {
  StoreOptions options = TestStore::Tiny();
  options.epoch = 9;
  TestStore store(options);
  for (int i = 0; i < 200; i++) {
    EXPECT_EQ(store->Apply(Stored("key" + std::to_string(i), 3), store.now(), true), Status::kStored);
  }
  EXPECT_EQ(store->Apply(Barrier(4), store.now(), true), Status::kStored);
  store->Verify();
  EXPECT_EQ(store->Stats().entries, 0u);
  EXPECT_EQ(store->Stats().cleared_entries, 200u);
}

}  // namespace
}  // namespace cairn
