// Atomic batches: all parts or none, at one moment. A random run compares the store with a map after each batch, with
// batches that fit and batches that do not; threads look for a batch of which one read sees more than a later one.

#include <atomic>
#include <map>
#include <optional>
#include <string>
#include <thread>
#include <vector>

#include "process/change_feed.h"
#include "store/shard_guard.h"
#include "store/store.h"
#include "support/fed_store.h"
#include "support/store_fixture.h"
#include "test.h"

namespace cairn {
namespace {

// The parts of a batch, and the bytes that they view.
struct Batch {
  struct Part {
    std::string key;
    std::optional<std::string> value;  // none: a delete
    uint64_t expires_ms = kNeverExpires;
  };
  std::vector<Part> parts;

  Batch& Set(std::string key, std::string value, uint64_t expires_ms = kNeverExpires) {
    parts.push_back({std::move(key), std::move(value), expires_ms});
    return *this;
  }
  Batch& Delete(std::string key) {
    parts.push_back({std::move(key), std::nullopt});
    return *this;
  }
  AtomicOutcome ExecuteOn(Store* store, const Now& now) const {
    std::vector<Request> requests;
    for (const Part& part : parts) {
      requests.push_back(TestStore::Make(part.value ? Verb::kSet : Verb::kDelete, part.key));
      if (part.value) requests.back().value = *part.value;
      requests.back().expires_ms = part.expires_ms;
    }
    return store->ExecuteAtomic(requests.data(), requests.size(), now);
  }
};

StoreOptions Sharded(uint32_t shard_count, bool has_backend = false) {
  StoreOptions options = TestStore::Tiny();
  options.memory_bytes = uint64_t{shard_count} * kShardQuotaBytesMin;
  options.shard_count = shard_count;
  options.has_backend = has_backend;
  return options;
}

std::string KeyIn(Store* store, uint32_t shard, int number) {
  for (int i = 0;; i++) {
    std::string key = "k" + std::to_string(number) + "." + std::to_string(i);
    if (store->ShardOf(key) == shard) return key;
  }
}

// The log has everything now.
void TakeRecords(Store* store, uint32_t shard) {
  DrainAll(store, shard);
  store->CommitRing(shard);
}

TEST(StoreAtomic, AllPartsAreDoneInTheirOrder) {
  TestStore store(Sharded(4));
  store.Set("gone", "x");
  store.Set("old", "x");
  const AtomicOutcome outcome = Batch()
                                    .Set("a", "1")
                                    .Set("old", "new")
                                    .Delete("gone")
                                    .Delete("never was")
                                    .Set("twice", "first")
                                    .Set("twice", "second")
                                    .Set("back", "1")
                                    .Delete("back")
                                    .Set("timed", "t", store.now_ms() + 100)
                                    .ExecuteOn(store.get(), store.now());
  EXPECT_EQ(outcome.status, Status::kStored);
  EXPECT_EQ(store.Get("a").value, "1");
  EXPECT_EQ(store.Get("old").value, "new");
  EXPECT_FALSE(store.Has("gone"));
  EXPECT_EQ(store.Get("twice").value, "second");
  EXPECT_FALSE(store.Has("back"));
  EXPECT_TRUE(store.Has("timed"));
  store.Advance(100);
  EXPECT_FALSE(store.Has("timed"));
  store->Verify();
}

TEST(StoreAtomic, AnEmptyBatchDoesNothing) {
  TestStore store;
  EXPECT_EQ(Batch().ExecuteOn(store.get(), store.now()).status, Status::kStored);
  EXPECT_EQ(store->entries(), 0);
}

TEST(StoreAtomic, ABatchThatNeverFitsNamesItsBoundAndChangesNothing) {
  StoreOptions options = Sharded(2);
  options.entries_max = 40;
  options.value_bytes_max = 64 * 1024;
  TestStore store(options);
  store.RecordAll();
  const std::string here = KeyIn(store.get(), 0, 0);
  const std::string there = KeyIn(store.get(), 1, 0);
  store.Set(here, "old");
  store.Set(there, "old");
  const auto refuses = [&](Batch batch, AtomicBound bound) {
    const AtomicOutcome outcome = batch.ExecuteOn(store.get(), store.now());
    EXPECT_EQ(outcome.status, Status::kTooLarge);
    EXPECT_EQ(outcome.bound, bound);
    EXPECT_GT(outcome.wanted, outcome.limit);
    EXPECT_EQ(store.Get(here).value, "old");
    EXPECT_EQ(store.Get(there).value, "old");
    EXPECT_EQ(store->entries(), 2);
    store->Verify();
  };
  Batch start = Batch().Set(here, "new").Delete(there);
  Batch value = start;
  refuses(value.Set(KeyIn(store.get(), 1, 1), std::string(64 * 1024 + 1, 'v')), AtomicBound::kValue);
  EXPECT_EQ(value.ExecuteOn(store.get(), store.now()).index, 2);
  Batch ring = start;
  for (int i = 1; i < 10; i++) ring.Set(KeyIn(store.get(), 1, i), std::string(32 * 1024, 'v'));
  refuses(ring, AtomicBound::kRing);
  Batch entries = start;
  for (int i = 1; i < 22; i++) entries.Set(KeyIn(store.get(), 1, i), "v");
  refuses(entries, AtomicBound::kEntries);
}

TEST(StoreAtomic, MemoryAndTheWholeBatchAreBoundsToo) {
  TestStore store(Sharded(1));
  store.Set("old", "old");
  Batch memory;
  memory.Set("old", "new");
  for (int i = 0; i < 6; i++) memory.Set("m" + std::to_string(i), std::string(900'000, 'v'));
  EXPECT_EQ(memory.ExecuteOn(store.get(), store.now()).bound, AtomicBound::kMemory);
  Batch records;
  records.Set("old", "new");
  const std::string large(1'000'000, 'v');
  for (int i = 0; i < 68; i++) records.Set("r" + std::to_string(i), large);
  EXPECT_EQ(records.ExecuteOn(store.get(), store.now()).bound, AtomicBound::kRecords);
  EXPECT_EQ(store.Get("old").value, "old");
  store->Verify();
}

TEST(StoreAtomic, AFullRingOfOneShardRefusesTheWholeBatch) {
  TestStore store(Sharded(2));
  store.RecordAll();
  int filled = 0;
  while (store.Set(KeyIn(store.get(), 1, filled), std::string(4096, 'f')).status == Status::kStored) filled++;
  const std::string here = KeyIn(store.get(), 0, 0);
  const std::string there = KeyIn(store.get(), 1, filled + 1);
  const Batch batch = Batch().Set(here, "1").Set(there, std::string(8192, 'v'));
  EXPECT_EQ(batch.ExecuteOn(store.get(), store.now()).status, Status::kLogFull);
  EXPECT_FALSE(store.Has(here));
  EXPECT_FALSE(store.Has(there));
  // A clear still finds its room.
  EXPECT_GT(store->Clear(store.now()), 0);
  for (uint32_t shard = 0; shard < 2; shard++) TakeRecords(store.get(), shard);
  EXPECT_EQ(batch.ExecuteOn(store.get(), store.now()).status, Status::kStored);
  EXPECT_EQ(store.Get(here).value, "1");
  store->Verify();
}

TEST(StoreAtomic, MemoryThatReadersHoldRefusesTheBatch) {
  TestStore store(Sharded(1));
  const std::string large(400'000, 'v');
  std::vector<Pin> pins;
  for (int i = 0; i < 6; i++) {
    const std::string key = "held" + std::to_string(i);
    ASSERT_EQ(store.Set(key, large).status, Status::kStored);
    Outcome outcome;
    Scratch none;
    store->Execute(TestStore::Make(Verb::kGet, key), store.now(), &none, &outcome);
    if (outcome.pin.ref != 0) pins.push_back(outcome.pin);
  }
  ASSERT_GT(pins.size(), 2);
  Batch batch;
  batch.Set("small", "1");
  for (int i = 0; i < 4; i++) batch.Set("large" + std::to_string(i), large);
  EXPECT_EQ(batch.ExecuteOn(store.get(), store.now()).status, Status::kNoMemory);
  EXPECT_FALSE(store.Has("small"));
  for (const Pin& pin : pins) store->Unpin(pin);
  EXPECT_EQ(batch.ExecuteOn(store.get(), store.now()).status, Status::kStored);
  EXPECT_EQ(store.Get("large3").value, large);
  store->Verify();
}

// What a key has in the model: the last value that it was given, which may have been evicted since.
void RandomRun(const StoreOptions& options, bool with_log, uint64_t seed) {
  TestStore store(options);
  if (with_log) store.RecordAll();
  test::Random random(test::Seed() + seed);
  std::map<std::string, std::string> expected;
  int stored = 0;
  int refused = 0;
  for (int round = 0; round < 300; round++) {
    Batch batch;
    std::map<std::string, std::optional<std::string>> changes;
    // Now and then so much that it may not fit.
    const bool is_large = random.OneIn(8);
    const uint64_t count = random.Between(1, is_large ? 12 : 60);
    const uint64_t bytes_max = is_large ? 700'000 : uint64_t{1} << random.Between(3, 15);
    for (uint64_t i = 0; i < count; i++) {
      const std::string key = "key" + std::to_string(random.Below(200));
      if (random.Below(5) == 0) {
        batch.Delete(key);
        changes[key] = std::nullopt;
      } else {
        batch.Set(key, PatternBytes(random.Below(bytes_max), random.Next()));
        changes[key] = batch.parts.back().value;
      }
    }
    // And at times so much that it cannot.
    if (round % 20 == 19) batch.Set("key0", std::string(options.memory_bytes, 'x'));
    const AtomicOutcome outcome = batch.ExecuteOn(store.get(), store.now());
    if (outcome.status == Status::kStored) {
      for (auto& [key, value] : changes) {
        if (value) {
          expected[key] = std::move(*value);
        } else {
          expected.erase(key);
        }
      }
      stored++;
    } else {
      ASSERT_TRUE(outcome.status == Status::kTooLarge || outcome.status == Status::kLogFull);
      refused++;
    }
    for (const auto& [key, value] : expected) {
      const Answer answer = store.Peek(key);
      if (answer.status == Status::kFound) ASSERT_EQ(answer.value, value) << "round " << round;
    }
    // The parts of the newest batch are the newest entries: none of them has been evicted for another one.
    if (outcome.status == Status::kStored) {
      for (const Batch::Part& part : batch.parts) ASSERT_EQ(store.Has(part.key), expected.contains(part.key));
    }
    for (uint64_t other = random.Below(20); other > 0; other--) {
      const std::string key = "key" + std::to_string(random.Below(200));
      const std::string value = PatternBytes(random.Below(3000), random.Next());
      if (store.Set(key, value).status == Status::kStored) expected[key] = value;
    }
    store->Verify();
    if (!with_log) continue;
    for (uint32_t shard = 0; shard < options.shard_count; shard++) {
      TakeRecords(store.get(), shard);
      if (options.has_backend) store->stored_marks()->Advance(shard, store->LastVersion(shard));
    }
  }
  EXPECT_GT(stored, 100);
  EXPECT_GE(refused, 15);
}

TEST(StoreAtomic, RandomBatchesAreAsInAMap) {
  RandomRun(Sharded(1), false, 1);
  RandomRun(Sharded(4), false, 2);
}

TEST(StoreAtomic, RandomBatchesAreAsInAMapWithALog) {
  RandomRun(Sharded(1), true, 3);
  RandomRun(Sharded(4), true, 4);
}

TEST(StoreAtomic, RandomBatchesAreAsInAMapWithABackend) {
  RandomRun(Sharded(1, true), true, 5);
  RandomRun(Sharded(4, true), true, 6);
}

TEST(StoreAtomic, PartsAreOwedAndDeletesLeaveTheirStubs) {
  TestStore store(Sharded(1, true));
  store.RecordAll();
  store.Set("stays", "1");
  ASSERT_EQ(Batch().Set("a", "1").Delete("stays").Delete("elsewhere").ExecuteOn(store.get(), store.now()).status,
            Status::kStored);
  StubInfo info;
  EXPECT_TRUE(store->StubOf("stays", store.now(), &info));
  EXPECT_TRUE(store->StubOf("elsewhere", store.now(), &info));
  EXPECT_EQ(store.Do(TestStore::Make(Verb::kEvict, "a")).status, Status::kFound);
  EXPECT_TRUE(store->StubOf("a", store.now(), &info)) << "an owed entry leaves a stub";
  // Over stubs, and back.
  ASSERT_EQ(Batch().Set("stays", "2").Set("a", "2").ExecuteOn(store.get(), store.now()).status, Status::kStored);
  EXPECT_EQ(store.Get("stays").value, "2");
  EXPECT_EQ(store.Get("a").value, "2");
  store->stored_marks()->Advance(0, store->LastVersion(0));
  store.MaintainAll();
  EXPECT_FALSE(store->StubOf("elsewhere", store.now(), &info));
  store->Verify();
}

TEST(StoreAtomic, ABatchWaitsForTheReserveOfStubs) {
  TestStore store(Sharded(1, true));
  store.RecordAll();
  // Deletes of keys that the backend may have, until the reserve is full.
  int deleted = 0;
  while (store.Delete("d" + std::to_string(deleted)).status == Status::kFound) {
    deleted++;
    TakeRecords(store.get(), 0);
  }
  const Batch batch = Batch().Set("set", "1").Delete("one more").Delete("and another");
  EXPECT_EQ(batch.ExecuteOn(store.get(), store.now()).status, Status::kLogFull);
  EXPECT_FALSE(store.Has("set"));
  store->stored_marks()->Advance(0, store->LastVersion(0));
  EXPECT_EQ(batch.ExecuteOn(store.get(), store.now()).status, Status::kStored);
  EXPECT_EQ(store.Get("set").value, "1");
  store->Verify();
}

// The table has 64 buckets at first, of which no chain may have more than kChainBucketsMax.
TEST(StoreAtomic, ABatchMayHaveMoreKeysThanTheTableHasPlaces) {
  StoreOptions options = Sharded(1, true);
  options.memory_bytes = 16 << 20;
  TestStore store(options);
  store.RecordAll(4 << 20);
  Batch batch;
  for (int i = 0; i < 10'000; i++) batch.Set("key" + std::to_string(i), "v");
  ASSERT_EQ(batch.ExecuteOn(store.get(), store.now()).status, Status::kStored);
  EXPECT_EQ(store->entries(), 10'000);
  EXPECT_GT(store->Stats().buckets, 10'000 / kBucketSlots);
  store->Verify();
}

TEST(StoreAtomic, AChainFullOfOwedKeysRefusesTheBatch) {
  TestStore store(Sharded(1, true));
  store.RecordAll();
  Batch batch;
  for (const std::string& key : KeysOfOneChain(TestStore::Tiny(), kChainBucketsMax * kBucketSlots + 1)) {
    batch.Set(key, "v");
  }
  EXPECT_EQ(batch.ExecuteOn(store.get(), store.now()).status, Status::kLogFull);
  EXPECT_EQ(store->entries(), 0);
  store->Verify();
  batch.parts.pop_back();
  EXPECT_EQ(batch.ExecuteOn(store.get(), store.now()).status, Status::kStored);
  store->Verify();
}

TEST(StoreAtomic, AFullChainOfALaterShardTakesBackWhatIsStaged) {
  TestStore store(Sharded(2, true));
  store.RecordAll();
  const std::string here = KeyIn(store.get(), 0, 0);
  store.Set(here, "old");
  const uint64_t charged_before = store->Stats().charged_bytes;
  Batch batch = Batch().Set(here, "new").Delete(KeyIn(store.get(), 0, 1));
  for (const std::string& key : KeysOfOneChain(TestStore::Tiny(), 4 * kChainBucketsMax * kBucketSlots)) {
    if (store->ShardOf(key) == 1) batch.Set(key, "v");
  }
  ASSERT_GT(batch.parts.size(), kChainBucketsMax * kBucketSlots + 2);
  EXPECT_EQ(batch.ExecuteOn(store.get(), store.now()).status, Status::kLogFull);
  EXPECT_EQ(store.Get(here).value, "old");
  EXPECT_EQ(store->entries(), 1);
  EXPECT_EQ(store->Stats().charged_bytes, charged_before);
  store->Verify();
}

TEST(StoreAtomic, WhatAnotherShardRefusesIsTakenBack) {
  TestStore store(Sharded(1));
  store.Set("old", "old");
  const std::string small(100, 's');
  const std::string large(300'000, 'l');
  std::vector<Request> requests;
  for (const char* key : {"old", "a", "b", "gone"}) requests.push_back(TestStore::Make(Verb::kSet, key, small));
  requests[1].value = large;
  requests[3].verb = Verb::kDelete;
  Shard* shard = store->shard(0);
  std::vector<AtomicPart> parts;
  for (uint32_t i = 0; i < requests.size(); i++) parts.push_back({&requests[i], shard->HashOf(requests[i].key), 0, i});
  std::vector<Ref> staged(parts.size());
  std::vector<uint32_t> buckets(parts.size());
  AtomicRun run{parts.data(), static_cast<uint32_t>(parts.size()), staged.data(), buckets.data()};
  const uint64_t charged_before = store->Stats().charged_bytes;
  {
    const ShardGuard guard(shard);
    AtomicOutcome outcome;
    ASSERT_EQ(shard->PlanAtomic(&run, store.now(), &outcome), Status::kStored);
    ASSERT_EQ(shard->StageAtomic(run), Status::kStored);
    shard->AbandonAtomic(run);
  }
  EXPECT_EQ(store->Stats().charged_bytes, charged_before);
  EXPECT_EQ(store.Get("old").value, "old");
  EXPECT_EQ(store->entries(), 1);
  store->Verify();
}

TEST(StoreAtomic, AFillThatBeganBeforeIsVoid) {
  TestStore store(Sharded(1));
  FillTicket ticket;
  ASSERT_TRUE(store->BeginFill("key", FillOf::kAbsentKey, store.now(), &ticket));
  ASSERT_EQ(Batch().Delete("key").Set("other", "1").ExecuteOn(store.get(), store.now()).status, Status::kStored);
  EXPECT_TRUE(ticket.voided());
  store->EndFill("key", &ticket);
}

TEST(StoreAtomic, ARemovalIsToldForEachReplacedAndDeletedEntry) {
  TestStore store(Sharded(1));
  store.Set("a", "1");
  store.Set("b", "1");
  ASSERT_EQ(Batch().Set("a", "2").Delete("b").ExecuteOn(store.get(), store.now()).status, Status::kStored);
  const std::vector<Removal> removals = store.removals().Take();
  ASSERT_EQ(removals.size(), 2);
  EXPECT_EQ(removals[0].reason, Reason::kReplaced);
  EXPECT_EQ(removals[1].reason, Reason::kDeleted);
}

TEST(StoreAtomic, ThePartsOfABatchAreDrainedInOneTurn) {
  Fed fed(4);
  Batch batch;
  for (uint32_t shard = 0; shard < 4; shard++) {
    batch.Set(fed.KeyIn(shard, 1), std::string(100'000, 'v')).Delete(fed.KeyIn(shard, 2));
  }
  fed.Set(fed.KeyIn(2, 7));
  ASSERT_EQ(batch.ExecuteOn(fed.store.get(), kNow).status, Status::kStored);
  fed.Set(fed.KeyIn(2, 8));
  Log log;
  const ChangeFeed::Turn turn = fed.Drain(&log);
  EXPECT_TRUE(PartsAreWhole(std::string_view(fed.buffer).substr(0, turn.bytes)));
  EXPECT_EQ(log.records.size(), 10);
  int parts = 0;
  for (const StoredRecord& record : log.records) {
    if ((record.optional.fields & kFieldBatch) == 0) continue;
    parts++;
    EXPECT_EQ(record.optional.batch_count, 8);
    EXPECT_EQ(record.key, batch.parts[record.optional.batch_index].key);
  }
  EXPECT_EQ(parts, 8);
  fed.Commit();
}

TEST(StoreAtomic, NoReaderSeesABatchAndThenTheStateBeforeIt) {
  constexpr int kKeys = 12;
  constexpr int kRounds = 4000;
  Fed fed(8);
  std::vector<std::string> keys;
  for (int i = 0; i < kKeys; i++) keys.push_back("key" + std::to_string(i));
  const auto write = [&](int writer, int number) {
    Batch batch;
    // The two writers begin with other keys; the locks are taken in one order nevertheless.
    for (int i = 0; i < kKeys; i++) {
      batch.Set(keys[static_cast<size_t>((i * 5 + writer) % kKeys)], std::to_string(number));
    }
    return batch.ExecuteOn(fed.store.get(), kNow);
  };
  ASSERT_EQ(write(0, 0).status, Status::kStored);
  std::atomic<int> next{0};
  std::atomic<int> writing{2};
  std::atomic<int> mistakes{0};
  std::vector<std::thread> threads;
  for (int writer = 0; writer < 2; writer++) {
    threads.emplace_back([&, writer] {
      for (int round = 0; round < kRounds; round++) {
        while (write(writer, ++next).status == Status::kLogFull) std::this_thread::yield();
      }
      writing--;
    });
  }
  // Reads all keys one after the other, and the first one once more. If it has the same number twice, no batch came in
  // between, because no number comes twice: then all keys have it.
  threads.emplace_back([&] {
    std::vector<std::string> values(kKeys);
    while (writing > 0) {
      // Up to the first key whose value was there before and behind: nothing was written in between.
      char bytes[32];
      for (int i = 0; i <= kKeys; i++) {
        Scratch scratch{bytes, sizeof bytes, 0};
        Outcome outcome;
        fed.store->Execute(TestStore::Make(Verb::kGet, keys[static_cast<size_t>(i % kKeys)]), kNow, &scratch, &outcome);
        const std::string value(bytes + outcome.value_offset, outcome.value_bytes);
        if (i == kKeys) {
          if (value != values[0]) break;
          for (const std::string& other : values) mistakes += other != value;
        } else {
          values[static_cast<size_t>(i)] = value;
        }
      }
    }
  });
  threads.emplace_back([&] {
    while (writing > 0) {
      const ChangeFeed::Turn turn = fed.Drain(nullptr);
      mistakes += !PartsAreWhole(std::string_view(fed.buffer).substr(0, turn.bytes));
      fed.Commit();
    }
  });
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(mistakes.load(), 0);
  fed.store->Verify();
}

}  // namespace
TEST(StoreAtomic, PartsWithTicketsAreDoneUnlessAKeyWasChanged) {
  TestStore store(Sharded(4));
  const Now now = store.now();
  store.Set("a", "old", now.boot_ms + 1000);
  FillTicket tickets[2];
  std::vector<Request> requests = {TestStore::Make(Verb::kSet, "a", "new"), TestStore::Make(Verb::kDelete, "b")};
  const auto begin = [&] {
    for (size_t i = 0; i < 2; i++) {
      ASSERT_TRUE(store.store().BeginFill(requests[i].key, FillOf::kAnyKey, now, &tickets[i]));
      requests[i].fill = &tickets[i];
    }
  };
  const auto end = [&] {
    for (size_t i = 0; i < 2; i++) store.store().EndFill(requests[i].key, &tickets[i]);
  };
  begin();
  store.Set("b", "newer");
  EXPECT_EQ(store.store().ExecuteAtomic(requests.data(), 2, now).status, Status::kExists);
  EXPECT_EQ(store.Get("a").value, "old");
  EXPECT_EQ(store.Get("b").value, "newer");
  end();
  // A touch voids the tickets that watch for it.
  begin();
  store.Do(TestStore::Make(Verb::kTouch, "a"));
  EXPECT_FALSE(tickets[0].voided());
  end();
  tickets[0].WatchTouches();
  begin();
  store.Do(TestStore::Make(Verb::kTouch, "a"));
  EXPECT_TRUE(tickets[0].voided());
  end();
  begin();
  EXPECT_EQ(store.store().ExecuteAtomic(requests.data(), 2, now).status, Status::kStored);
  EXPECT_EQ(store.Get("a").value, "new");
  EXPECT_EQ(store.Do(TestStore::Make(Verb::kHas, "b")).status, Status::kNotFound);
  // The batch itself is a change.
  EXPECT_TRUE(tickets[0].voided());
  end();
}

}  // namespace cairn
