// Expiry: exact to the millisecond for every request, and memory comes back without any request. Clear and the delayed
// clear, which are expiry of everything.

#include "store/store.h"
#include "support/store_fixture.h"
#include "test.h"

namespace cairn {
namespace {

std::string Key(int i) { return "key" + std::to_string(i); }
Request On(Verb verb, std::string_view key, std::string_view value = {}) { return TestStore::Make(verb, key, value); }

TEST(StoreExpiry, AnEntryIsThereUntilItsMillisecondAndGoneFromThen) {
  for (Verb verb : {Verb::kGet, Verb::kPeek, Verb::kHas, Verb::kTouch, Verb::kGetAndTouch, Verb::kTake, Verb::kDelete,
                    Verb::kEvict}) {
    for (uint64_t ttl_ms : {1u, 2u, 100u, 127u, 128u, 129u, 1000u, 8191u, 8192u, 8193u, 524'288u, 40'000'000u}) {
      TestStore store;
      const uint64_t expires = store.now_ms() + ttl_ms;
      store.Set("before", "v", expires);
      store.Set("at", "v", expires);
      store.Advance(ttl_ms - 1);
      Request request = On(verb, "before");
      request.expires_ms = kNeverExpires;
      EXPECT_EQ(store.Do(request).status, Status::kFound) << static_cast<int>(verb) << " after " << ttl_ms - 1;
      store.Advance(1);
      request.key = "at";
      EXPECT_EQ(store.Do(request).status, Status::kNotFound) << static_cast<int>(verb) << " after " << ttl_ms;
      store->Verify();
    }
  }
}

TEST(StoreExpiry, ForWritesAnExpiredEntryIsAbsent) {
  const auto expired_store = [] {
    auto store = std::make_unique<TestStore>();
    store->Set("key", "1", store->now_ms() + 10);
    store->Advance(10);
    return store;
  };
  EXPECT_EQ(expired_store()->Do(On(Verb::kAdd, "key", "v")).status, Status::kStored);
  EXPECT_EQ(expired_store()->Do(On(Verb::kReplace, "key", "v")).status, Status::kNotStored);
  EXPECT_EQ(expired_store()->Do(On(Verb::kAppend, "key", "v")).status, Status::kNotStored);
  EXPECT_EQ(expired_store()->Do(On(Verb::kPrepend, "key", "v")).status, Status::kNotStored);
  EXPECT_EQ(expired_store()->Do(On(Verb::kIncr, "key")).status, Status::kNotFound);
  EXPECT_EQ(expired_store()->Do(On(Verb::kDecr, "key")).status, Status::kNotFound);
  EXPECT_EQ(expired_store()->Do(On(Verb::kCas, "key", "v")).status, Status::kNotFound);
  auto store = expired_store();
  store->Set("key", "new", kKeepExpiry);
  EXPECT_EQ(store->Get("key").value, "new");
  EXPECT_EQ(store->Get("key").outcome.expires_ms, kNeverExpires) << "there was no expiry to keep";
}

TEST(StoreExpiry, AnEntryStoredExpiredIsNeverSeen) {
  TestStore store;
  EXPECT_EQ(store.Set("key", "v", kAlreadyExpired).status, Status::kStored);
  EXPECT_FALSE(store.Has("key"));
  EXPECT_EQ(store.Get("key").status, Status::kNotFound);
  store.Set("key", "v");
  EXPECT_EQ(store.Set("key", "w", kAlreadyExpired).status, Status::kStored);
  EXPECT_FALSE(store.Has("key")) << "and what it replaced is gone as well";
  store->Verify();
}

TEST(StoreExpiry, ATouchInTimeMovesTheExpiry) {
  TestStore store;
  store.Set("key", "v", store.now_ms() + 100);
  store.Advance(99);
  Request touch = On(Verb::kTouch, "key");
  touch.expires_ms = store.now_ms() + 100;
  store.Do(touch);
  store.Advance(99);
  EXPECT_TRUE(store.Has("key"));
  store.Advance(1);
  EXPECT_FALSE(store.Has("key"));
}

TEST(StoreExpiry, ATouchCanTakeTheExpiryAwayAndGiveOne) {
  TestStore store;
  store.Set("key", std::string(100, 'x'), store.now_ms() + 100);
  Request touch = On(Verb::kTouch, "key");
  touch.expires_ms = kNeverExpires;
  store.Do(touch);
  store.Advance(1'000'000'000);
  EXPECT_EQ(store.Get("key").value, std::string(100, 'x'));
  touch.expires_ms = store.now_ms() + 5;
  store.Do(touch);
  EXPECT_EQ(store.Get("key").value, std::string(100, 'x'));
  store.Advance(5);
  EXPECT_FALSE(store.Has("key"));
  store->Verify();
}

TEST(StoreExpiry, UpkeepReclaimsWhatHasExpiredWithoutItsBeingRead) {
  TestStore store;
  test::Random random(7);
  int count = 0;
  uint64_t last = 0;
  for (; count < 3000; ++count) {
    const uint64_t ttl_ms = random.Between(1, uint64_t{1} << random.Between(1, 32));
    last = std::max(last, ttl_ms);
    store.Set(Key(count), "v", store.now_ms() + ttl_ms);
  }
  store.Set("stays", "v");
  for (uint64_t passed = 0; passed < last + 1000;) {
    const uint64_t step = random.Between(1, uint64_t{1} << random.Between(1, 30));
    passed += step;
    store.Advance(step);
    store.MaintainAll();
    store->Verify();
  }
  EXPECT_EQ(store->entries(), 1);
  EXPECT_EQ(store->Stats().expirations, 3000);
  EXPECT_EQ(store.removals().TakeKeys(Reason::kExpired).size(), 3000);
  EXPECT_TRUE(store.Has("stays"));
}

TEST(StoreExpiry, UpkeepReclaimsWithinATickOfTheWheel) {
  // The wheel's tick is 128 ms: an entry is reclaimed no later than that after it expired, and never before.
  TestStore store;
  for (uint64_t ttl_ms : {1u, 64u, 127u, 128u, 500u, 8192u, 9000u, 600'000u, 40'000'000u}) {
    store.Set("key", "v", store.now_ms() + ttl_ms);
    store.Advance(ttl_ms - 1);
    store.MaintainAll();
    EXPECT_EQ(store->entries(), 1) << ttl_ms;
    store.Advance(1 + 256);
    store.MaintainAll();
    EXPECT_EQ(store->entries(), 0) << ttl_ms;
  }
}

TEST(StoreExpiry, OneTurnOfUpkeepVisitsABoundedNumber) {
  TestStore store;
  for (int i = 0; i < 5000; ++i) store.Set(Key(i), "v", store.now_ms() + 1000);
  store.Advance(5000);
  int turns = 1;
  uint64_t before = store->entries();
  while (store->Maintain(store.now())) {
    ++turns;
    EXPECT_LE(before - store->entries(), 4 * kStepEntriesMax);
    before = store->entries();
  }
  EXPECT_GE(turns, 5000 / (4 * kStepEntriesMax));
  EXPECT_EQ(store->entries(), 0);
}

TEST(StoreExpiry, ExpiredAndUnfetchedAreCounted) {
  TestStore store;
  store.Set("read", "v", store.now_ms() + 100);
  store.Set("unread", "v", store.now_ms() + 100);
  store.Get("read");
  store.Advance(100);
  EXPECT_EQ(store.Get("read").status, Status::kNotFound);
  store.Advance(1000);
  store.MaintainAll();
  const StoreStats stats = store->Stats();
  EXPECT_EQ(stats.expirations, 2);
  EXPECT_EQ(stats.expired_unfetched, 1);
  EXPECT_EQ(stats.get_expired, 1);
}

TEST(StoreExpiry, AJumpOfMonthsExpiresWhatIsDueAndNothingElse) {
  TestStore store;
  const uint64_t day = 86'400'000;
  for (int i = 0; i < 200; ++i) store.Set(Key(i), "v", store.now_ms() + static_cast<uint64_t>(i + 1) * day);
  store.Advance(100 * day);
  store.MaintainAll();
  store.Advance(1000);
  store.MaintainAll();
  EXPECT_EQ(store->entries(), 100);
  for (int i = 100; i < 200; ++i) EXPECT_TRUE(store.Has(Key(i))) << i;
  store->Verify();
}

TEST(StoreClear, EverythingIsGoneAtOnceAndMemoryComesBackInSteps) {
  TestStore store;
  for (int i = 0; i < 5000; ++i) store.Set(Key(i), "value");
  const uint64_t last_version = store.Set("last", "v").outcome.version;
  const uint64_t barrier = store->Clear(store.now());
  EXPECT_GT(barrier, last_version);
  EXPECT_EQ(store->entries(), 0);
  EXPECT_FALSE(store.Has("last"));
  EXPECT_EQ(store.Get("key17").status, Status::kNotFound);
  EXPECT_GT(store->Stats().cleared_entries, 0) << "not yet reclaimed";
  EXPECT_EQ(store.removals().TakeCleared(), std::vector<uint64_t>{5001});
  store->Verify();
  int turns = 1;
  while (store->Maintain(store.now())) ++turns;
  EXPECT_GT(turns, 5001 / (4 * kStepEntriesMax));
  EXPECT_EQ(store->Stats().cleared_entries, 0);
  EXPECT_EQ(store->Stats().charged_bytes, 0);
  EXPECT_EQ(store.removals().Take().size(), 0) << "clearing is one event";
  store->Verify();
}

TEST(StoreClear, WhatIsStoredAfterwardsStays) {
  TestStore store;
  store.Set("old", "v");
  store->Clear(store.now());
  const uint64_t version = store.Set("old", "new").outcome.version;
  EXPECT_EQ(store.Get("old").value, "new");
  EXPECT_EQ(store->entries(), 1);
  EXPECT_EQ(store.Do(On(Verb::kAdd, "other", "v")).status, Status::kStored);
  store.MaintainAll();
  EXPECT_EQ(store.Get("old").value, "new");
  EXPECT_EQ(store.Get("old").outcome.version, version);
  store->Verify();
}

TEST(StoreClear, ClearedEntriesAreTheColdEnd) {
  StoreOptions options = TestStore::Tiny();
  options.entries_max = 10;
  TestStore store(options);
  for (int i = 0; i < 10; ++i) store.Set(Key(i), "v");
  store->Clear(store.now());
  for (int i = 10; i < 20; ++i) store.Set(Key(i), "v");
  EXPECT_EQ(store->entries(), 10);
  EXPECT_EQ(store->Stats().evictions, 0);
  for (int i = 10; i < 20; ++i) EXPECT_TRUE(store.Has(Key(i)));
}

TEST(StoreClear, ADelayedClearHappensAtItsTime) {
  TestStore store;
  store.Set("key", "v");
  store.ClearIn(1000);
  EXPECT_TRUE(store->uses_time());
  store.Advance(999);
  EXPECT_TRUE(store.Has("key"));
  store.Advance(1);
  EXPECT_FALSE(store.Has("key"));
  store.Set("key", "v");
  store.Advance(5000);
  EXPECT_TRUE(store.Has("key")) << "it happens once";
}

TEST(StoreClear, ADelayedClearCanBeReplacedAndCancelled) {
  TestStore store;
  store.Set("key", "v");
  store.ClearIn(10);
  store.ClearIn(100);
  store.Advance(50);
  EXPECT_TRUE(store.Has("key"));
  store.ClearIn(0);
  store.Advance(500);
  EXPECT_TRUE(store.Has("key"));
}

TEST(StoreClear, AClearTakesThePlaceOfADelayedOne) {
  TestStore store;
  store.ClearIn(10);
  store->Clear(store.now());
  store.Set("key", "v");
  store.Advance(50);
  EXPECT_TRUE(store.Has("key"));
}

TEST(StoreClear, ADelayedClearWhoseTimeHasComeIsNotReplaced) {
  TestStore store;
  store.Set("key", "v");
  store.ClearIn(10);
  store.Advance(10);
  store.ClearIn(1000);
  EXPECT_EQ(store->entries(), 0u);
  EXPECT_EQ(store->Stats().clears, 1u);
}

TEST(StoreClear, TheVersionRisesWithEveryClear) {
  TestStore store;
  const uint64_t before = store.Set("key", "v").outcome.version;
  const uint64_t first = store->Clear(store.now());
  EXPECT_LT(before, first);
  EXPECT_GT(store.Set("key", "v").outcome.version, first);
  const uint64_t second = store->Clear(store.now());
  EXPECT_GT(second, first + 1);
  EXPECT_EQ(store->Stats().clears, 2);
}

TEST(StoreClear, APinnedEntryCanBeReadAfterAClear) {
  TestStore store;
  const std::string value = PatternBytes(50'000, 1);
  store.Set("key", value);
  Scratch none;
  Outcome outcome;
  store->Execute(On(Verb::kGet, "key"), store.now(), &none, &outcome);
  ASSERT_NE(outcome.pin.ref, 0);
  store->Clear(store.now());
  store.MaintainAll();
  for (int i = 0; i < 500; ++i) store.Set(Key(i), std::string(9000, 'x'));
  std::string read(value.size(), '\0');
  store->ReadPinned(outcome.pin, 0, read.data(), read.size());
  EXPECT_TRUE(read == value);
  store->Unpin(outcome.pin);
  store->Verify();
}

}  // namespace
}  // namespace cairn
