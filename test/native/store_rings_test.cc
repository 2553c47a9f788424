// The change rings as their reader and the writers see them: what is drained, when space is free again, what is kept in
// place meanwhile, who is told.

#include "store/store.h"
#include "support/store_fixture.h"
#include "test.h"

namespace cairn {
namespace {

StoreOptions WithRing(uint64_t ring_bytes = kRingBytesMin) {
  StoreOptions options = TestStore::Tiny();
  options.memory_bytes = 8 << 20;
  options.ring_bytes = ring_bytes;
  return options;
}

TEST(StoreRings, DrainedRecordsAreTheMutationsInOrder) {
  TestStore store(WithRing());
  const Answer set = store.Set("a", "1", store.now_ms() + 1000, 7, Codec::kJson);
  const Answer incr = (store.Set("n", "41"), store.Incr("n", 1));
  const Answer gone = store.Delete("a");
  uint64_t version = 0;
  const std::vector<StoredRecord> records = DrainAll(&store.store(), 0, &version);
  ASSERT_EQ(records.size(), 4);
  EXPECT_EQ(records[0].kind, RecordKind::kSet);
  EXPECT_EQ(records[0].key, "a");
  EXPECT_EQ(records[0].value, "1");
  EXPECT_EQ(records[0].client_flags, 7);
  EXPECT_EQ(records[0].codec, static_cast<int>(Codec::kJson));
  EXPECT_EQ(records[0].expires_wall_ms, store.now().wall_ms + 1000);
  EXPECT_EQ(records[0].version, set.outcome.record_version);
  EXPECT_EQ(records[2].value, "42");
  EXPECT_EQ(records[2].version, incr.outcome.record_version);
  EXPECT_EQ(records[3].kind, RecordKind::kDelete);
  EXPECT_EQ(records[3].version, gone.outcome.record_version);
  EXPECT_EQ(version, gone.outcome.record_version);
  EXPECT_EQ(version, store->LastVersion(0));
  store->Verify();
}

TEST(StoreRings, SpaceIsFreeAtCommitAndNotBefore) {
  TestStore store(WithRing());
  const std::string value = PatternBytes(1000, 1);
  uint64_t stored = 0;
  while (store.Set("key", value).status == Status::kStored) stored++;
  EXPECT_GT(stored, 200);
  EXPECT_EQ(store->RingStatsOf(0).records, stored);
  EXPECT_EQ(store->RingStatsOf(0).capacity_bytes, kRingBytesMin);
  EXPECT_EQ(DrainAll(&store.store(), 0).size(), stored);
  EXPECT_EQ(store.Set("key", value).status, Status::kLogFull);
  store->RewindRing(0);
  EXPECT_EQ(DrainAll(&store.store(), 0).size(), stored);
  EXPECT_EQ(DrainAll(&store.store(), 0).size(), 0);
  EXPECT_EQ(store.Set("key", value).status, Status::kLogFull);
  store->CommitRing(0);
  EXPECT_EQ(store->RingStatsOf(0).fill_bytes, 0);
  EXPECT_EQ(store.Set("key", value).status, Status::kStored);
  store->RewindRing(0);
  EXPECT_EQ(DrainAll(&store.store(), 0).size(), 1);
  store->Verify();
}

}  // namespace
}  // namespace cairn
