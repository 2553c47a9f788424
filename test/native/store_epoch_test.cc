// Versions and clears: counters that run over, the clear that recovery reads back, and renumbering.
#include <algorithm>
#include <set>
#include <string>

#include "store/entry.h"
#include "store/shard.h"
#include "support/shard_access.h"
#include "support/store_fixture.h"
#include "test.h"

namespace cairn {
namespace {

TEST(StoreEpoch, ACounterThatRunsOverRaisesTheEpochAndClearsNothing) {
  StoreOptions options = TestStore::Tiny();
  options.epoch = 7;
  for (uint64_t ring_bytes : {uint64_t{0}, kRingBytesMin}) {
    options.ring_bytes = ring_bytes;
    options.memory_bytes = 8 << 20;
    TestStore store(options);
    test::NoteVersion(store.get(), 0, VersionOf(7, kVersionCounterMask - 10));
    uint64_t last = 0;
    for (int i = 0; i < 20; i++) {
      const Outcome outcome = store.Set("key" + std::to_string(i), "value").outcome;
      EXPECT_EQ(EpochOf(outcome.version), i < 10 ? 7u : 8u);
      EXPECT_GT(outcome.version, last);
      last = outcome.version;
    }
    EXPECT_EQ(store->entries(), 20u);
    Request cas = TestStore::Make(Verb::kCas, "key3", "newer");
    cas.compare = store.Get("key3").outcome.version;
    EXPECT_EQ(store.Do(cas).status, Status::kStored) << "a token outlives the epoch that it was given in";
    EXPECT_NE(store->Clear(store.now()), 0u);
    EXPECT_EQ(store->entries(), 0u);
    store->Verify();
  }
}

TEST(StoreEpoch, AClearIsLaterThanAllThatAnyShardHasGiven) {
  StoreOptions options = TestStore::Tiny();
  options.memory_bytes = 32 << 20;
  options.shard_count = 4;
  options.epoch = 7;
  // The counter of a shard runs over with the clear itself, before it, behind it, or not at all.
  for (uint64_t left : {0, 1, 5, 50, 5000}) {
    TestStore store(options);
    test::NoteVersion(store.get(), 2, VersionOf(7, kVersionCounterMask - left));
    for (int i = 0; i < 40; i++) store.Set("key" + std::to_string(i), "value");
    uint64_t highest = 0;
    for (uint32_t i = 0; i < 4; i++) highest = std::max(highest, store->LastVersion(i));
    EXPECT_EQ(store->Clear(store.now()), highest + 1);
    for (uint32_t i = 0; i < 4; i++) EXPECT_EQ(store->LastVersion(i), highest + 1);
    EXPECT_EQ(store->entries(), 0u);
    for (int i = 0; i < 40; i++) {
      const std::string key = "key" + std::to_string(i);
      EXPECT_FALSE(store.Has(key));
      EXPECT_GT(store.Set(key, "newer").outcome.version, highest + 1);
      EXPECT_EQ(store.Get(key).value, "newer");
    }
    store->Verify();
  }
}

RecordView Barrier(uint32_t epoch) {
  RecordView view;
  view.kind = RecordKind::kClear;
  view.version = VersionOf(epoch, 7);
  return view;
}

RecordView Stored(const std::string& key, uint32_t epoch) {
  RecordView view;
  view.kind = RecordKind::kSet;
  view.key = key;
  view.value = "value";
  view.version = VersionOf(epoch, 3);
  return view;
}

TEST(StoreEpoch, AClearReadBackTakesWhatIsOlderAndLeavesWhatIsNewer) {
  StoreOptions options = TestStore::Tiny();
  options.epoch = 9;
  TestStore store(options);
  // As a snapshot of a running cache has them: newer entries among older ones.
  for (int i = 0; i < 200; i++) {
    const std::string key = "key" + std::to_string(i);
    EXPECT_EQ(store->Apply(Stored(key, i % 3 == 0 ? 5 : 3), store.now(), Origin::kLog), Status::kStored);
  }
  EXPECT_EQ(store->Apply(Barrier(4), store.now(), Origin::kLog), Status::kStored);
  store->Verify();
  for (int i = 0; i < 200; i++) EXPECT_EQ(store.Has("key" + std::to_string(i)), i % 3 == 0);
  EXPECT_EQ(store->Apply(Stored("late", 3), store.now(), Origin::kLog), Status::kNotStored);
  EXPECT_GE(store.Set("new", "value").outcome.version, VersionOf(9, 0));
  store->Verify();
}

TEST(StoreEpoch, AClearReadBackLeavesWhatWasStoredInPlaceSince) {
  StoreOptions options = TestStore::Tiny();
  options.epoch = 9;
  for (bool plainly : {true, false}) {
    TestStore store(options);
    EXPECT_EQ(store->Apply(Stored("key", 3), store.now(), Origin::kLog), Status::kStored);
    EXPECT_EQ(store->Apply(Stored("other", 3), store.now(), Origin::kLog), Status::kStored);
    if (plainly) {
      EXPECT_EQ(store->SetPlain("key", "newer", Codec::kRaw, kNeverExpires, store.now()), Status::kStored);
    } else {
      store.Set("key", "newer");
    }
    EXPECT_EQ(store->Apply(Barrier(4), store.now(), Origin::kLog), Status::kStored);
    store->Verify();
    EXPECT_EQ(store.Get("key").value, "newer");
    EXPECT_FALSE(store.Has("other"));
  }
}

TEST(StoreEpoch, VersionsRiseAboveThoseThatAreReadBack) {
  TestStore store;
  const std::string key = "key";
  RecordView ahead = Stored(key, 700);
  ahead.version += 1000;
  EXPECT_EQ(store->Apply(ahead, store.now(), Origin::kLog), Status::kStored);
  store->Verify();
  EXPECT_GT(store.Set("key", "newer").outcome.version, ahead.version);
  EXPECT_NE(store->Clear(store.now()), 0u);
  EXPECT_FALSE(store.Has("key"));
  store->Verify();
}

TEST(StoreEpoch, AClearNewerThanEverythingClearsAtOnce) {
  StoreOptions options = TestStore::Tiny();
  options.epoch = 9;
  TestStore store(options);
  for (int i = 0; i < 200; i++) {
    EXPECT_EQ(store->Apply(Stored("key" + std::to_string(i), 3), store.now(), Origin::kLog), Status::kStored);
  }
  EXPECT_EQ(store->Apply(Barrier(4), store.now(), Origin::kLog), Status::kStored);
  store->Verify();
  EXPECT_EQ(store->Stats().entries, 0u);
  EXPECT_EQ(store->Stats().cleared_entries, 200u);
}

TEST(StoreEpoch, WhatIsRenumberedIsOlderThanEverythingThatComes) {
  StoreOptions options = TestStore::Tiny();
  options.memory_bytes = 16 << 20;
  options.shard_count = 2;
  options.ring_bytes = 1 << 20;
  TestStore store(options);
  store->SetRecovering(true);
  store->StartEpoch(2);
  for (int i = 0; i < 100; i++) {
    // Of some only the body is left, which a clear has killed.
    if (i == 40) EXPECT_EQ(store->Apply(Barrier(kEpochMax - 1), store.now(), Origin::kLog), Status::kStored);
    const std::string key = "key" + std::to_string(i);
    EXPECT_EQ(store->Apply(Stored(key, i < 40 ? 700 : kEpochMax), store.now(), Origin::kLog), Status::kStored);
  }
  RecordView to_come;
  to_come.kind = RecordKind::kClearAt;
  to_come.version = VersionOf(kEpochMax, 9);
  to_come.expires_wall_ms = store.now().wall_ms + 1000;
  EXPECT_EQ(store->Apply(to_come, store.now(), Origin::kLog), Status::kStored);
  store->Renumber();
  store->StartEpoch(4);
  store->Verify();
  EXPECT_EQ(store->entries(), 60u);
  EXPECT_EQ(EpochOf(store->LastVersion(0)), 4u);
  std::set<uint64_t> versions;
  std::set<uint32_t> shards;
  for (int i = 40; i < 100; i++) {
    const std::string key = "key" + std::to_string(i);
    const uint64_t version = store.Peek(key).outcome.version;
    EXPECT_EQ(EpochOf(version), 0u);
    EXPECT_NE(version, 0u);
    if (store->ShardOf(key) == 0) EXPECT_TRUE(versions.insert(version).second);
    shards.insert(store->ShardOf(key));
  }
  EXPECT_EQ(shards.size(), 2u);
  // The records that come count from the beginning.
  const std::string present = "key50";
  RecordView newer = Stored(present, 2);
  newer.value = "newer";
  EXPECT_EQ(store->Apply(newer, store.now(), Origin::kLog), Status::kStored);
  EXPECT_EQ(store.Get("key50").value, "newer");
  EXPECT_TRUE(store->PendingClear(store.now(), &to_come));
  EXPECT_GT(to_come.version, 0u) << "or a snapshot could not bring it back";
  EXPECT_EQ(store->Apply(Barrier(1), store.now(), Origin::kLog), Status::kStored);
  EXPECT_FALSE(store->PendingClear(store.now(), &to_come));
  EXPECT_EQ(store->entries(), 1u);
  EXPECT_EQ(store->Apply(Stored("late", 700), store.now(), Origin::kLog), Status::kStored)
      << "no trace of what was before";
  store->Renumber();
  store->StartEpoch(4);
  store->SetRecovering(false);
  EXPECT_EQ(EpochOf(store.Set("key", "value").outcome.version), 4u);
  EXPECT_EQ(EpochOf(store->Clear(store.now())), 4u);
  EXPECT_FALSE(store.Has("late"));
  EXPECT_EQ(store.Get("absent").outcome.commit_version, store->LastVersion(store->ShardOf("absent")));
  store->Verify();
}

TEST(StoreEpoch, RenumberingDrawsItsNumbers) {
  std::set<uint64_t> versions;
  for (int life = 0; life < 8; life++) {
    TestStore store;
    store->SetRecovering(true);
    EXPECT_EQ(store->Apply(Stored("key", 700), store.now(), Origin::kLog), Status::kStored);
    store->Renumber();
    versions.insert(store.Peek("key").outcome.version);
  }
  EXPECT_EQ(versions.size(), 8u);
}

}  // namespace
}  // namespace cairn
