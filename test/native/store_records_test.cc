// What a mutation leaves for the log: one record with its effect, in the order of versions; nothing for what only
// capacity or time did; and nothing changed where the log has no room.

#include "store/store.h"
#include "support/store_fixture.h"
#include "test.h"

namespace cairn {
namespace {

Request On(Verb verb, std::string_view key, std::string_view value = {}) { return TestStore::Make(verb, key, value); }

TEST(StoreRecords, ASetLeavesTheEntry) {
  TestStore store;
  store.RecordAll();
  const Answer answer = store.Set("key", "value", store.now_ms() + 1000, 7, Codec::kJson);
  const std::vector<StoredRecord> records = store.records().Take();
  ASSERT_EQ(records.size(), 1);
  EXPECT_EQ(records[0].kind, RecordKind::kSet);
  EXPECT_EQ(records[0].key, "key");
  EXPECT_EQ(records[0].value, "value");
  EXPECT_EQ(records[0].codec, static_cast<int>(Codec::kJson));
  EXPECT_EQ(records[0].client_flags, 7);
  EXPECT_EQ(records[0].expires_wall_ms, store.now().wall_ms + 1000);
  EXPECT_EQ(records[0].version, answer.outcome.version);
  EXPECT_EQ(records[0].version, answer.outcome.record_version);
}

TEST(StoreRecords, CountersAndConcatenationsAreLoggedAsWhatTheyProduced) {
  TestStore store;
  store.RecordAll();
  store.Set("key", "41", kNeverExpires, 5);
  store.Incr("key", 1);
  store.Do(On(Verb::kAppend, "key", "x"));
  store.Do(On(Verb::kPrepend, "key", "y"));
  const std::vector<StoredRecord> records = store.records().Take();
  ASSERT_EQ(records.size(), 4);
  const char* values[] = {"41", "42", "42x", "y42x"};
  for (int i = 0; i < 4; ++i) {
    EXPECT_EQ(records[static_cast<size_t>(i)].kind, RecordKind::kSet);
    EXPECT_EQ(records[static_cast<size_t>(i)].value, values[i]);
    EXPECT_EQ(records[static_cast<size_t>(i)].client_flags, 5);
    EXPECT_EQ(records[static_cast<size_t>(i)].expires_wall_ms, 0);
    if (i > 0) EXPECT_GT(records[static_cast<size_t>(i)].version, records[static_cast<size_t>(i) - 1].version);
  }
}

TEST(StoreRecords, ATouchLeavesTheExpiryOnly) {
  TestStore store;
  store.RecordAll();
  const uint64_t version = store.Set("key", "value").outcome.version;
  store.records().Take();
  for (Verb verb : {Verb::kTouch, Verb::kGetAndTouch}) {
    Request touch = On(verb, "key");
    touch.expires_ms = store.now_ms() + 50;
    const Answer answer = store.Do(touch);
    const std::vector<StoredRecord> records = store.records().Take();
    ASSERT_EQ(records.size(), 1);
    EXPECT_EQ(records[0].kind, RecordKind::kTouch);
    EXPECT_EQ(records[0].key, "key");
    EXPECT_EQ(records[0].value, "");
    EXPECT_EQ(records[0].expires_wall_ms, store.now().wall_ms + 50);
    EXPECT_GT(records[0].version, version);
    EXPECT_EQ(records[0].version, answer.outcome.record_version);
  }
}

TEST(StoreRecords, DeleteAndTakeLeaveADelete) {
  TestStore store;
  store.RecordAll();
  for (Verb verb : {Verb::kDelete, Verb::kTake}) {
    const uint64_t version = store.Set("key", "value").outcome.version;
    store.records().Take();
    const Answer answer = store.Do(On(verb, "key"));
    const std::vector<StoredRecord> records = store.records().Take();
    ASSERT_EQ(records.size(), 1);
    EXPECT_EQ(records[0].kind, RecordKind::kDelete);
    EXPECT_EQ(records[0].key, "key");
    EXPECT_EQ(records[0].value, "");
    EXPECT_GT(records[0].version, version);
    EXPECT_EQ(records[0].version, answer.outcome.record_version);
  }
}

TEST(StoreRecords, WhatChangesNothingLeavesNoRecord) {
  TestStore store;
  store.RecordAll();
  store.Set("key", "value");
  store.records().Take();
  for (Verb verb : {Verb::kGet, Verb::kPeek, Verb::kHas, Verb::kAdd, Verb::kCas, Verb::kIncr}) {
    EXPECT_EQ(store.Do(On(verb, "key", "v")).outcome.record_version, 0) << static_cast<int>(verb);
  }
  for (Verb verb : {Verb::kGet, Verb::kReplace, Verb::kAppend, Verb::kIncr, Verb::kTouch, Verb::kTake, Verb::kEvict}) {
    EXPECT_EQ(store.Do(On(verb, "absent", "v")).outcome.record_version, 0) << static_cast<int>(verb);
  }
  Request of_a_version = On(Verb::kDelete, "absent");
  of_a_version.has_compare = true;
  EXPECT_EQ(store.Do(of_a_version).outcome.record_version, 0);
  EXPECT_EQ(store.records().records().size(), 0);
}

// What is absent may have been evicted, and the log may still have it.
TEST(StoreRecords, TheDeleteOfAnAbsentKeyLeavesARecordAllTheSame) {
  TestStore store;
  store.RecordAll();
  const Answer answer = store.Delete("absent");
  EXPECT_EQ(answer.status, Status::kNotFound);
  const std::vector<StoredRecord> records = store.records().Take();
  ASSERT_EQ(records.size(), 1);
  EXPECT_EQ(records[0].kind, RecordKind::kDelete);
  EXPECT_EQ(records[0].key, "absent");
  EXPECT_EQ(records[0].version, answer.outcome.record_version);
  store.records().Fill();
  EXPECT_EQ(store.Delete("absent").status, Status::kLogFull);
  EXPECT_EQ(store->Stats().deletes, 1) << "what was refused was not done";

  TestStore unlogged;
  EXPECT_EQ(unlogged.Delete("absent").outcome.record_version, 0);
}

TEST(StoreRecords, EvictionAndExpiryLeaveNoRecord) {
  StoreOptions options = TestStore::Tiny();
  options.entries_max = 2;
  TestStore store(options);
  store.RecordAll();
  store.Set("a", "v", store.now_ms() + 10);
  store.Set("b", "v");
  store.Set("c", "v");
  store.Advance(10'000);
  store.MaintainAll();
  store.Do(On(Verb::kEvict, "c"));
  EXPECT_EQ(store.records().Take().size(), 3);
}

TEST(StoreRecords, AClearLeavesABarrier) {
  TestStore store;
  store.RecordAll();
  store.Set("key", "v");
  store.records().Take();
  const uint64_t version = store->Clear(store.now());
  const std::vector<StoredRecord> records = store.records().Take();
  ASSERT_EQ(records.size(), 1);
  EXPECT_EQ(records[0].kind, RecordKind::kClear);
  EXPECT_EQ(records[0].key, "");
  EXPECT_EQ(records[0].version, version);
}

TEST(StoreRecords, LongKeysAndLargeValuesAreWhole) {
  TestStore store;
  store.RecordAll();
  const std::string key = PatternBytes(60'000, 1), value = PatternBytes(65'000, 2);
  store.Set(key, value);
  const std::vector<StoredRecord> records = store.records().Take();
  ASSERT_EQ(records.size(), 1);
  EXPECT_TRUE(records[0].key == key);
  EXPECT_TRUE(records[0].value == value);
}

TEST(StoreRecords, ABodyLeavesItsRecordWhenItIsLinked) {
  TestStore store;
  store.RecordAll();
  const std::string value = PatternBytes(50'000, 2);
  Body body;
  ASSERT_EQ(store->Reserve(On(Verb::kSet, "key"), 50'000, store.now(), &body), Status::kStored);
  store->WriteBody(body, 0, value);
  EXPECT_EQ(store.records().records().size(), 0);
  Outcome outcome;
  store->Link(&body, On(Verb::kSet, "key"), store.now(), &outcome);
  const std::vector<StoredRecord> records = store.records().Take();
  ASSERT_EQ(records.size(), 1);
  EXPECT_TRUE(records[0].value == value);
  EXPECT_EQ(records[0].version, outcome.record_version);
}

TEST(StoreRecords, ABodyThatFindsNoRoomInTheLogIsThereToBeLinkedAgain) {
  TestStore store;
  store.RecordAll();
  store.Set("key", "old");
  Body body;
  const Request request = On(Verb::kSet, "key");
  ASSERT_EQ(store->Reserve(request, 5000, store.now(), &body), Status::kStored);
  store->WriteBody(body, 0, std::string(5000, 'b'));
  store.records().Fill();
  Outcome outcome;
  store->Link(&body, request, store.now(), &outcome);
  EXPECT_EQ(outcome.status, Status::kLogFull);
  EXPECT_TRUE(static_cast<bool>(body));
  EXPECT_EQ(store.Get("key").value, "old");
  store.records().MakeRoom();
  store->Link(&body, request, store.now(), &outcome);
  EXPECT_EQ(outcome.status, Status::kStored);
  EXPECT_FALSE(static_cast<bool>(body));
  EXPECT_EQ(store.Get("key").value, std::string(5000, 'b'));
  store->Verify();
}

TEST(StoreRecords, WithoutRoomInTheLogNothingChanges) {
  TestStore store;
  store.RecordAll();
  const uint64_t version = store.Set("key", "10", kNeverExpires, 3).outcome.version;
  store.Set("other", "v");
  store.records().Take();
  store.removals().Take();
  for (Verb verb : {Verb::kSet, Verb::kReplace, Verb::kAppend, Verb::kPrepend, Verb::kCas, Verb::kIncr, Verb::kDecr,
                    Verb::kTouch, Verb::kGetAndTouch, Verb::kDelete, Verb::kTake}) {
    store.records().Fill();
    Request request = On(verb, "key", "5");
    request.compare = version;
    request.delta = 1;
    request.expires_ms = store.now_ms() + 100;
    EXPECT_EQ(store.Do(request).status, Status::kLogFull) << static_cast<int>(verb);
    const Answer peek = store.Peek("key");
    EXPECT_EQ(peek.value, "10");
    EXPECT_EQ(peek.outcome.version, version);
    EXPECT_EQ(peek.outcome.client_flags, 3);
    EXPECT_EQ(peek.outcome.expires_ms, kNeverExpires);
    store.records().MakeRoom();
  }
  for (Verb verb : {Verb::kSet, Verb::kAdd}) {
    store.records().Fill();
    EXPECT_EQ(store.Do(On(verb, "absent", "5")).status, Status::kLogFull);
    store.records().MakeRoom();
    EXPECT_FALSE(store.Has("absent"));
  }
  EXPECT_EQ(store.records().records().size(), 0);
  EXPECT_EQ(store.removals().Take().size(), 0);
  EXPECT_EQ(store->Stats().log_full, 13);
  EXPECT_EQ(store.Set("key", "11").status, Status::kStored) << "and once there is room it goes on";
  store->Verify();
}

TEST(StoreRecords, WhatLeavesNoRecordNeedsNoRoom) {
  TestStore store;
  store.RecordAll();
  store.Set("key", "v");
  store.records().Fill();
  EXPECT_EQ(store.Get("key").value, "v");
  EXPECT_EQ(store.Do(On(Verb::kAdd, "key", "w")).status, Status::kNotStored);
  EXPECT_EQ(store.Do(On(Verb::kReplace, "absent", "w")).status, Status::kNotStored);
  EXPECT_EQ(store.Do(On(Verb::kCas, "key", "w")).status, Status::kExists);
  EXPECT_EQ(store.Do(On(Verb::kIncr, "key")).status, Status::kNonNumeric);
  EXPECT_EQ(store.Do(On(Verb::kTake, "absent")).status, Status::kNotFound);
  EXPECT_EQ(store.Do(On(Verb::kEvict, "key")).status, Status::kFound);
}

TEST(StoreRecords, ASetThatIsTooLargeLeavesADelete) {
  StoreOptions options = TestStore::Tiny();
  options.value_bytes_max = 100;
  TestStore store(options);
  store.RecordAll();
  store.Set("key", "v");
  store.records().Take();
  EXPECT_EQ(store.Set("key", std::string(101, 'x')).status, Status::kTooLarge);
  const std::vector<StoredRecord> records = store.records().Take();
  ASSERT_EQ(records.size(), 1);
  EXPECT_EQ(records[0].kind, RecordKind::kDelete);
  // What it would have replaced may have been evicted, and the log may still have it.
  EXPECT_EQ(store.Set("absent", std::string(101, 'x')).status, Status::kTooLarge);
  ASSERT_EQ(store.records().records().size(), 1);
  EXPECT_EQ(store.records().Take()[0].key, "absent");
  EXPECT_EQ(store.Do(On(Verb::kAdd, "absent", std::string(101, 'x'))).status, Status::kTooLarge);
  EXPECT_EQ(store.records().records().size(), 0) << "an add would have replaced nothing";
}

RecordView View(RecordKind kind, std::string_view key, std::string_view value, uint64_t version,
                int64_t expires_wall_ms = 0) {
  RecordView view;
  view.kind = kind;
  view.key = key;
  view.value = value;
  view.version = version;
  view.expires_wall_ms = expires_wall_ms;
  view.client_flags = 3;
  view.codec = static_cast<uint8_t>(Codec::kJson);
  return view;
}

TEST(StoreApply, ARecordBecomesTheEntryItDescribes) {
  StoreOptions options = TestStore::Tiny();
  options.epoch = 9;
  TestStore store(options);
  store.RecordAll();
  const uint64_t version = VersionOf(3, 5);
  EXPECT_EQ(store->Apply(View(RecordKind::kSet, "key", "value", version, store.now().wall_ms + 60), store.now(),
                         Origin::kLog),
            Status::kStored);
  const Answer get = store.Get("key");
  EXPECT_EQ(get.value, "value");
  EXPECT_EQ(get.outcome.version, version);
  EXPECT_EQ(get.outcome.client_flags, 3);
  EXPECT_EQ(get.outcome.codec, Codec::kJson);
  EXPECT_EQ(get.outcome.expires_ms, store.now_ms() + 60);
  EXPECT_EQ(store.records().records().size(), 0);
  store->Verify();
}

TEST(StoreApply, OnlyAHigherVersionApplies) {
  StoreOptions options = TestStore::Tiny();
  options.epoch = 9;
  TestStore store(options);
  const uint64_t version = VersionOf(3, 5);
  static_cast<void>(store->Apply(View(RecordKind::kSet, "key", "value", version), store.now(), Origin::kLog));
  EXPECT_NE(store->Apply(View(RecordKind::kSet, "key", "same", version), store.now(), Origin::kLog), Status::kStored);
  EXPECT_NE(store->Apply(View(RecordKind::kSet, "key", "older", version - 1), store.now(), Origin::kLog),
            Status::kStored);
  static_cast<void>(store->Apply(View(RecordKind::kDelete, "key", "", version - 1), store.now(), Origin::kLog));
  EXPECT_EQ(store.Get("key").value, "value");
  EXPECT_EQ(store->Apply(View(RecordKind::kSet, "key", "newer", version + 1), store.now(), Origin::kLog),
            Status::kStored);
  EXPECT_EQ(store.Get("key").value, "newer");
  static_cast<void>(store->Apply(View(RecordKind::kDelete, "key", "", version + 2), store.now(), Origin::kLog));
  EXPECT_FALSE(store.Has("key"));
}

TEST(StoreApply, ATouchMovesTheExpiryOnly) {
  StoreOptions options = TestStore::Tiny();
  options.epoch = 9;
  TestStore store(options);
  const uint64_t version = VersionOf(3, 5);
  static_cast<void>(store->Apply(View(RecordKind::kSet, "key", "value", version), store.now(), Origin::kLog));
  static_cast<void>(store->Apply(View(RecordKind::kTouch, "key", "", version + 1, store.now().wall_ms + 77),
                                 store.now(), Origin::kLog));
  const Answer get = store.Get("key");
  EXPECT_EQ(get.value, "value");
  EXPECT_EQ(get.outcome.expires_ms, store.now_ms() + 77);
}

// A touch gives the entry no version, but the absence may be its doing.
TEST(StoreApply, TheAbsenceThatATouchBringsWaitsForItsRecord) {
  for (const bool by_freshness : {false, true}) {
    StoreOptions options = TestStore::Tiny();
    options.ring_bytes = kRingBytesMin;
    TestStore store(options);
    const uint64_t stored = store.Set("key", "value").outcome.version;
    RecordView touch = View(RecordKind::kTouch, "key", "", 1);
    if (by_freshness) {
      touch.optional.SetFreshUntil(store.now().wall_ms + 10);
    } else {
      touch.expires_wall_ms = store.now().wall_ms + 10;
    }
    ASSERT_EQ(store->Apply(touch, store.now(), Origin::kElsewhere), Status::kStored);
    const uint64_t touched = store->LastVersion(0);
    EXPECT_GT(touched, stored);
    EXPECT_EQ(store.Get("key").outcome.commit_version, stored);
    store.Advance(10);
    const Outcome miss = store.Get("key").outcome;
    EXPECT_EQ(miss.status, Status::kNotFound);
    EXPECT_EQ(miss.commit_version, touched);
  }
}

TEST(StoreApply, WhatHasExpiredByTheWallClockDoesNotComeBack) {
  StoreOptions options = TestStore::Tiny();
  options.epoch = 9;
  TestStore store(options);
  const uint64_t version = VersionOf(3, 5);
  static_cast<void>(store->Apply(View(RecordKind::kSet, "key", "value", version, store.now().wall_ms - 1), store.now(),
                                 Origin::kLog));
  EXPECT_FALSE(store.Has("key"));
  static_cast<void>(store->Apply(View(RecordKind::kSet, "past", "value", version, 1), store.now(), Origin::kLog));
  EXPECT_FALSE(store.Has("past"));
  store->Verify();
}

TEST(StoreApply, ALoadedDumpGetsVersionsAndRecordsOfThisStore) {
  StoreOptions options = TestStore::Tiny();
  options.epoch = 9;
  TestStore store(options);
  store.RecordAll();
  EXPECT_EQ(store->Apply(View(RecordKind::kSet, "key", "value", VersionOf(500, 0)), store.now(), Origin::kElsewhere),
            Status::kStored);
  EXPECT_EQ(store.Get("key").outcome.version >> 32, 9);
  const std::vector<StoredRecord> records = store.records().Take();
  ASSERT_EQ(records.size(), 1);
  EXPECT_EQ(records[0].value, "value");
  EXPECT_EQ(records[0].version, store.Get("key").outcome.version);
}

TEST(StoreApply, AClearOfANewerEpochClearsAndRaisesTheEpoch) {
  TestStore store;
  const uint64_t version = store.Set("old", "v").outcome.version;
  const uint64_t barrier = VersionOf(EpochOf(version) + 5, 1);
  EXPECT_EQ(store->Apply(View(RecordKind::kClear, "", "", barrier), store.now(), Origin::kLog), Status::kStored);
  EXPECT_FALSE(store.Has("old"));
  EXPECT_EQ(store->Apply(View(RecordKind::kSet, "late", "v", barrier - 1), store.now(), Origin::kLog),
            Status::kNotStored)
      << "what was written before the barrier stays cleared, however late it comes";
  EXPECT_GT(store.Set("new", "v").outcome.version, barrier);
  store->Verify();
}

TEST(StoreApply, ASetThatIsTooLargeForThisStoreRemovesTheOlderValue) {
  StoreOptions options = TestStore::Tiny();
  options.epoch = 9;
  options.value_bytes_max = 100;
  TestStore store(options);
  static_cast<void>(store->Apply(View(RecordKind::kSet, "key", "old", 1), store.now(), Origin::kLog));
  EXPECT_EQ(store->Apply(View(RecordKind::kSet, "key", std::string(101, 'x'), 2), store.now(), Origin::kLog),
            Status::kTooLarge);
  EXPECT_FALSE(store.Has("key")) << "a stale value is worse than none";
}

}  // namespace
}  // namespace cairn
