// Walks: order, completeness under hits, writes and removals in between, bounds, and coming to an end.

#include <map>
#include <set>

#include "store/shard_guard.h"
#include "store/store.h"
#include "support/store_fixture.h"
#include "test.h"

namespace cairn {
namespace {

std::string Key(int i) { return "key" + std::to_string(i); }

struct Walked {
  std::string key, value;
  WalkedEntry entry;
};

// One step of a walk, with a scratch that always suffices.
std::vector<Walked> Step(TestStore& store, Cursor* cursor, size_t count, Emits emits, bool* done) {
  static std::string bytes(size_t{2} << 20, '\0');
  std::vector<WalkedEntry> entries(count);
  Scratch scratch{bytes.data(), bytes.size(), 0};
  size_t needed = 0;
  const size_t emitted = store->StepCursor(cursor, store.now(), emits, entries.data(), count, &scratch, done, &needed);
  std::vector<Walked> walked;
  for (size_t i = 0; i < emitted; ++i) {
    const WalkedEntry& entry = entries[i];
    walked.push_back(
        {std::string(bytes.data() + entry.key_offset, entry.key_bytes),
         emits == Emits::kKeysAndValues ? std::string(bytes.data() + entry.value_offset, entry.value_bytes) : "",
         entry});
  }
  return walked;
}

std::vector<Walked> WalkAll(TestStore& store, Cursor::Order order, size_t count = 16,
                            Emits emits = Emits::kKeysAndValues) {
  Cursor cursor;
  store->OpenCursor(order, &cursor);
  std::vector<Walked> all;
  for (bool done = false; !done;) {
    for (Walked& walked : Step(store, &cursor, count, emits, &done)) all.push_back(std::move(walked));
  }
  store->CloseCursor(&cursor);
  return all;
}

std::vector<std::string> KeysOf(const std::vector<Walked>& walked) {
  std::vector<std::string> keys;
  for (const Walked& one : walked) keys.push_back(one.key);
  return keys;
}

TEST(StoreCursor, AnEmptyStoreHasNothingToWalk) {
  TestStore store;
  EXPECT_EQ(WalkAll(store, Cursor::Order::kOldestFirst).size(), 0);
}

TEST(StoreCursor, OldestFirstIsTheOrderOfEviction) {
  TestStore store;
  for (const char* key : {"a", "b", "c", "d"}) store.Set(key, key);
  store.Get("b");
  EXPECT_EQ(KeysOf(WalkAll(store, Cursor::Order::kOldestFirst)), (std::vector<std::string>{"a", "c", "d", "b"}));
  EXPECT_EQ(KeysOf(WalkAll(store, Cursor::Order::kOldestFirst, 1)), (std::vector<std::string>{"a", "c", "d", "b"}));
}

TEST(StoreCursor, NewestFirstIsItsReverse) {
  TestStore store;
  for (const char* key : {"a", "b", "c", "d"}) store.Set(key, key);
  store.Get("b");
  EXPECT_EQ(KeysOf(WalkAll(store, Cursor::Order::kNewestFirst)), (std::vector<std::string>{"b", "d", "c", "a"}));
  EXPECT_EQ(KeysOf(WalkAll(store, Cursor::Order::kNewestFirst, 1)), (std::vector<std::string>{"b", "d", "c", "a"}));
}

TEST(StoreCursor, EveryFieldOfAnEntryIsTold) {
  TestStore store;
  const std::string key = PatternBytes(1000, 1), value = PatternBytes(20'000, 2);
  const uint64_t version = store.Set(key, value, store.now_ms() + 500, 0x12345678, Codec::kJson).outcome.version;
  const std::vector<Walked> walked = WalkAll(store, Cursor::Order::kOldestFirst);
  ASSERT_EQ(walked.size(), 1);
  EXPECT_TRUE(walked[0].key == key);
  EXPECT_TRUE(walked[0].value == value);
  EXPECT_EQ(walked[0].entry.client_flags, 0x12345678);
  EXPECT_EQ(walked[0].entry.codec, Codec::kJson);
  EXPECT_EQ(walked[0].entry.version, version);
  EXPECT_EQ(walked[0].entry.expires_ms, store.now_ms() + 500);
  const std::vector<Walked> keys_only = WalkAll(store, Cursor::Order::kOldestFirst, 16, Emits::kKeys);
  ASSERT_EQ(keys_only.size(), 1);
  EXPECT_EQ(keys_only[0].entry.value_bytes, 20'000);
}

TEST(StoreCursor, AWalkIsNoUse) {
  StoreOptions options = TestStore::Tiny();
  options.entries_max = 2;
  TestStore store(options);
  store.Set("a", "1");
  store.Set("b", "1");
  WalkAll(store, Cursor::Order::kOldestFirst);
  WalkAll(store, Cursor::Order::kNewestFirst);
  EXPECT_FALSE(store.Get("b").outcome.fetched);
  store.Set("c", "1");
  EXPECT_EQ(store.removals().TakeKeys(Reason::kEvicted), std::vector<std::string>{"a"});
}

TEST(StoreCursor, ExpiredAndClearedEntriesAreNotEmitted) {
  TestStore store;
  store.Set("expires", "v", store.now_ms() + 10);
  store.Set("stays", "v");
  store.Advance(10);
  EXPECT_EQ(KeysOf(WalkAll(store, Cursor::Order::kOldestFirst)), std::vector<std::string>{"stays"});
  store->Clear(store.now());
  EXPECT_EQ(WalkAll(store, Cursor::Order::kOldestFirst).size(), 0);
  EXPECT_EQ(WalkAll(store, Cursor::Order::kNewestFirst).size(), 0);
  store.Set("new", "v");
  EXPECT_EQ(KeysOf(WalkAll(store, Cursor::Order::kOldestFirst)), std::vector<std::string>{"new"});
}

TEST(StoreCursor, WhatDoesNotFitIsAskedForAgainWithRoom) {
  TestStore store;
  store.Set("small", "v");
  store.Set("large", std::string(5000, 'x'));
  Cursor cursor;
  store->OpenCursor(Cursor::Order::kOldestFirst, &cursor);
  std::string bytes(100, '\0');
  WalkedEntry entries[4];
  bool done = false;
  size_t needed = 0;
  Scratch scratch{bytes.data(), bytes.size(), 0};
  EXPECT_EQ(store->StepCursor(&cursor, store.now(), Emits::kKeysAndValues, entries, 4, &scratch, &done, &needed), 1);
  EXPECT_FALSE(done);
  scratch = Scratch{bytes.data(), bytes.size(), 0};
  EXPECT_EQ(store->StepCursor(&cursor, store.now(), Emits::kKeysAndValues, entries, 4, &scratch, &done, &needed), 0);
  EXPECT_FALSE(done);
  EXPECT_GE(needed, 5005);
  bytes.resize(needed);
  scratch = Scratch{bytes.data(), bytes.size(), 0};
  EXPECT_EQ(store->StepCursor(&cursor, store.now(), Emits::kKeysAndValues, entries, 4, &scratch, &done, &needed), 1);
  EXPECT_EQ(std::string_view(bytes.data() + entries[0].key_offset, entries[0].key_bytes), "large");
  scratch.used = 0;
  while (!done)
    EXPECT_EQ(store->StepCursor(&cursor, store.now(), Emits::kKeysAndValues, entries, 4, &scratch, &done, &needed), 0);
  store->CloseCursor(&cursor);
}

// A walk in small steps with random requests between them: every key that is never removed in between must come.
void WalkWhileBusy(Cursor::Order order, uint32_t shard_count, bool with_overwrites) {
  StoreOptions options = TestStore::Tiny();
  options.memory_bytes = uint64_t{shard_count} * kShardQuotaBytesMin;
  options.shard_count = shard_count;
  TestStore store(options);
  test::Random random(test::Seed());
  const int kept = 500, gone = 500;
  for (int i = 0; i < kept + gone; ++i) store.Set(Key(i), "v");
  for (int i = 0; i < 2000; ++i) store.Get(Key(static_cast<int>(random.Below(kept + gone))));
  Cursor cursor;
  store->OpenCursor(order, &cursor);
  std::map<std::string, int> seen;
  int steps = 0;
  for (bool done = false; !done; ++steps) {
    for (const Walked& walked : Step(store, &cursor, random.Between(1, 9), Emits::kKeysAndValues, &done))
      ++seen[walked.key];
    ASSERT_LT(steps, 200'000) << "the walk must end";
    for (int i = 0; i < 12; ++i) {
      const int hit = static_cast<int>(random.Below(kept));
      if (with_overwrites && random.OneIn(3)) {
        store.Set(Key(hit), PatternBytes(random.Below(200), random.Next()));
      } else {
        store.Get(Key(hit));
      }
    }
    store.Delete(Key(static_cast<int>(kept + random.Below(gone))));
    if (random.OneIn(3)) store.Set("new" + std::to_string(steps), "v");
  }
  store->CloseCursor(&cursor);
  for (int i = 0; i < kept; ++i) EXPECT_GE(seen[Key(i)], 1) << Key(i) << " in " << shard_count << " shards";
  store->Verify();
}

TEST(StoreCursor, EveryEntryPresentThroughoutIsEmittedAtLeastOnceOldestFirst) {
  WalkWhileBusy(Cursor::Order::kOldestFirst, 1, false);
  WalkWhileBusy(Cursor::Order::kOldestFirst, 4, false);
}

TEST(StoreCursor, EveryEntryPresentThroughoutIsEmittedAtLeastOnceNewestFirst) {
  WalkWhileBusy(Cursor::Order::kNewestFirst, 1, false);
  WalkWhileBusy(Cursor::Order::kNewestFirst, 4, false);
}

TEST(StoreCursor, AKeyThatIsOverwrittenDuringTheWalkIsEmittedToo) {
  WalkWhileBusy(Cursor::Order::kOldestFirst, 1, true);
  WalkWhileBusy(Cursor::Order::kNewestFirst, 1, true);
}

TEST(StoreCursor, AWalkSurvivesTheRemovalOfTheEntryItStandsOn) {
  for (Cursor::Order order : {Cursor::Order::kOldestFirst, Cursor::Order::kNewestFirst}) {
    TestStore store;
    for (int i = 0; i < 100; ++i) store.Set(Key(i), "v");
    Cursor cursor;
    store->OpenCursor(order, &cursor);
    bool done = false;
    std::set<std::string> seen;
    const std::vector<Walked> first = Step(store, &cursor, 10, Emits::kKeys, &done);
    for (const Walked& walked : first) seen.insert(walked.key);
    // Everything around the place where it stands goes: what it has emitted last, and what comes next.
    for (int i = 5; i < 95; ++i) store.Delete(Key(i));
    while (!done) {
      for (const Walked& walked : Step(store, &cursor, 10, Emits::kKeys, &done)) seen.insert(walked.key);
    }
    store->CloseCursor(&cursor);
    for (int i = 0; i < 5; ++i) EXPECT_TRUE(seen.contains(Key(i))) << i;
    for (int i = 95; i < 100; ++i) EXPECT_TRUE(seen.contains(Key(i))) << i;
    store->Verify();
  }
}

TEST(StoreCursor, AClearEndsAWalk) {
  TestStore store;
  for (int i = 0; i < 100; ++i) store.Set(Key(i), "v");
  Cursor cursor;
  store->OpenCursor(Cursor::Order::kOldestFirst, &cursor);
  bool done = false;
  Step(store, &cursor, 10, Emits::kKeys, &done);
  store->Clear(store.now());
  store.MaintainAll();
  int steps = 0;
  while (!done) {
    EXPECT_EQ(Step(store, &cursor, 10, Emits::kKeys, &done).size(), 0);
    ASSERT_LT(++steps, 10);
  }
  store->CloseCursor(&cursor);
}

TEST(StoreCursor, MoreWalksThanCanBeRegisteredEachComeToAnEnd) {
  TestStore store;
  for (int i = 0; i < 100; ++i) store.Set(Key(i), "v");
  std::vector<Cursor> cursors(kCursorsPerShard + 3);
  for (Cursor& cursor : cursors) store->OpenCursor(Cursor::Order::kOldestFirst, &cursor);
  std::vector<std::set<std::string>> seen(cursors.size());
  std::vector<bool> finished(cursors.size());
  for (int round = 0; round < 1000; ++round) {
    for (size_t c = 0; c < cursors.size(); ++c) {
      if (finished[c]) continue;
      bool done = false;
      for (const Walked& walked : Step(store, &cursors[c], 7, Emits::kKeys, &done)) seen[c].insert(walked.key);
      if (!done) continue;
      finished[c] = true;
      store->CloseCursor(&cursors[c]);
    }
    store.Get(Key(round % 100));
  }
  size_t complete = 0;
  for (size_t c = 0; c < cursors.size(); ++c) {
    EXPECT_TRUE(finished[c]) << c;
    if (seen[c].size() == 100) ++complete;
  }
  EXPECT_GE(complete, kCursorsPerShard);
  store->Verify();
}

TEST(StoreCursor, ClosingGivesThePlaceToTheNextWalk) {
  TestStore store;
  for (int i = 0; i < 50; ++i) store.Set(Key(i), "v");
  for (int round = 0; round < 50; ++round) {
    Cursor cursor;
    store->OpenCursor(Cursor::Order::kOldestFirst, &cursor);
    bool done = false;
    Step(store, &cursor, 3, Emits::kKeys, &done);
    store->CloseCursor(&cursor);
    store->Verify();
  }
  EXPECT_EQ(WalkAll(store, Cursor::Order::kOldestFirst).size(), 50);
}

TEST(StoreCursor, UpkeepFinishesWalksThatWereClosedHalfWay) {
  TestStore store;
  for (int i = 0; i < 3000; ++i) store.Set(Key(i), "value");
  for (int walk = 0; walk < kCursorsPerShard; ++walk) {
    Cursor cursor;
    bool done = false;
    store->OpenCursor(walk % 2 == 0 ? Cursor::Order::kOldestFirst : Cursor::Order::kNewestFirst, &cursor);
    Step(store, &cursor, 10, Emits::kKeys, &done);
    store->CloseCursor(&cursor);
  }
  store->Verify();
  // Entries come, go and move meanwhile.
  for (int i = 0; i < 500; ++i) {
    store->Maintain(store.now());
    store.Get(Key(i * 5));
    store.Delete(Key(i * 3));
    store.Set(Key(10'000 + i), "value");
  }
  while (store->Maintain(store.now())) {
  }
  store->Verify();
  Shard* shard = store->shard(0);
  const ShardGuard guard(shard);
  bool ready = false;
  shard->walks()->Open(Cursor::Order::kOldestFirst, &ready);
  EXPECT_TRUE(ready) << "a new walk has nothing to clean up";
}

TEST(StoreCursor, ClearedEntriesAreNotSteppedOver) {
  for (const Cursor::Order order : {Cursor::Order::kOldestFirst, Cursor::Order::kNewestFirst}) {
    TestStore store;
    for (int i = 0; i < 5000; ++i) store.Set(Key(i), "v");
    // Walks that are closed half-way, one in every place: upkeep would have to go the rest of their way.
    for (int i = 0; i < kCursorsPerShard; ++i) {
      Cursor cursor;
      bool done;
      store->OpenCursor(order, &cursor);
      Step(store, &cursor, 10, Emits::kKeys, &done);
      store->CloseCursor(&cursor);
    }
    store->Clear(store.now());
    store->Verify();
    store.Set("live", "v");
    store->Verify();
    Shard* shard = store->shard(0);
    const ShardGuard guard(shard);
    bool ready = false;
    const int slot = shard->walks()->Open(order, &ready);
    ASSERT_TRUE(ready) << "nothing is left to be cleaned";
    shard->walks()->Start(slot, order);
    char bytes[100];
    Scratch scratch{bytes, sizeof bytes, 0};
    WalkedEntry entries[2];
    // One hold of the lock visits 64 entries.
    WalkStep step{.now = store.now(), .entries = entries, .count = 2, .scratch = &scratch};
    shard->walks()->Step(slot, &step);
    EXPECT_EQ(step.emitted, 1);
    EXPECT_TRUE(step.done);
  }
}

TEST(StoreCursor, AWalkThatAClearMeetsIsOver) {
  TestStore store;
  for (int i = 0; i < 1000; ++i) store.Set(Key(i), "v");
  Cursor cursor;
  store->OpenCursor(Cursor::Order::kOldestFirst, &cursor);
  bool done = false;
  EXPECT_EQ(Step(store, &cursor, 10, Emits::kKeys, &done).size(), 10);
  store->Clear(store.now());
  store.Set("later", "v");
  EXPECT_EQ(Step(store, &cursor, 10, Emits::kKeys, &done).size(), 0);
  EXPECT_TRUE(done);
  store->CloseCursor(&cursor);
  EXPECT_EQ(KeysOf(WalkAll(store, Cursor::Order::kOldestFirst)), (std::vector<std::string>{"later"}));
  store.MaintainAll();
  EXPECT_EQ(KeysOf(WalkAll(store, Cursor::Order::kOldestFirst)), (std::vector<std::string>{"later"}));
  store->Verify();
}

}  // namespace
}  // namespace cairn
