// The optional fields of the records that changes leave: what a count has added, and until when an entry is fresh; and
// what a store makes of them that applies the records.

#include <string>
#include <vector>

#include "store/store.h"
#include "support/store_fixture.h"
#include "test.h"

namespace cairn {
namespace {

StoreOptions WithRing() {
  StoreOptions options = TestStore::Tiny();
  options.memory_bytes = 16 << 20;
  options.ring_bytes = 1 << 20;
  return options;
}

StoredRecord LastOf(TestStore* store) {
  const std::vector<StoredRecord> records = DrainAll(&store->store(), 0);
  (*store)->CommitRing(0);
  CHECK(!records.empty());
  return records.back();
}

TEST(StoreRecordFields, ACountSaysWhatItAdded) {
  TestStore store(WithRing());
  const auto count = [&](Verb verb, uint64_t delta) {
    Request request = TestStore::Make(verb, "n");
    request.delta = delta;
    EXPECT_EQ(store.Do(request).status, Status::kFound);
    return LastOf(&store);
  };
  store.Set("n", "10");
  EXPECT_EQ(LastOf(&store).optional.fields, 0);
  const struct {
    Verb verb;
    uint64_t by;
    const char* result;
    int64_t delta;
  } kCounts[] = {
      {Verb::kIncr, 5, "15", 5},    {Verb::kDecr, 3, "12", -3},
      {Verb::kDecr, 100, "0", -12},  // not below 0: what it took, and not what was asked for
      {Verb::kDecr, 1, "0", 0},     {Verb::kIncr, ~uint64_t{0}, "18446744073709551615", -1},  // modulo 2^64
      {Verb::kIncr, 3, "2", 3},     {Verb::kIncr, uint64_t{1} << 63, "9223372036854775810", INT64_MIN},
  };
  for (const auto& [verb, by, result, delta] : kCounts) {
    const StoredRecord record = count(verb, by);
    EXPECT_EQ(record.value, result);
    EXPECT_EQ(record.optional.fields, kFieldDelta);
    EXPECT_EQ(record.optional.delta, delta);
  }
  // Nothing else is left of it: the next change is none of adding.
  store.Set("n", "7");
  EXPECT_EQ(LastOf(&store).optional.fields, 0);
  store->Verify();
}

TEST(StoreRecordFields, ACounterThatBeginsWasNotAddedTo) {
  TestStore store(WithRing());
  Request request = TestStore::Make(Verb::kIncr, "n");
  request.has_initial = true;
  request.initial = 40;
  EXPECT_EQ(store.Do(request).status, Status::kStored);
  const StoredRecord record = LastOf(&store);
  EXPECT_EQ(record.value, "40");
  EXPECT_EQ(record.optional.fields, 0);
}

TEST(StoreRecordFields, ARefusedCountLeavesNoDelta) {
  TestStore store(WithRing());
  store.Set("n", "text");
  (void)LastOf(&store);
  EXPECT_EQ(store.Incr("n", 1).status, Status::kNonNumeric);
  store.Delete("n");
  EXPECT_EQ(LastOf(&store).optional.fields, 0);
}

// The delete stands for the old number, which is gone.
TEST(StoreRecordFields, TheDeleteOfACountThatFindsNoMemoryHasNoDelta) {
  StoreOptions options = TestStore::Tiny();
  options.ring_bytes = kRingBytesMin;
  TestStore store(options);
  // Values that are being received and read leave memory for a short number, and none for a long one.
  Body body;
  auto body_bytes = static_cast<uint32_t>(store->value_bytes_max());
  while (store->Reserve(TestStore::Make(Verb::kSet, "body"), body_bytes, store.now(), &body) != Status::kStored) {
    body_bytes -= 1000;
  }
  const auto leaves_the_number = [&](size_t bytes) {
    store.Set("n", "9");
    store.Set("read", std::string(bytes, 'r'));
    (void)LastOf(&store);
    return store.Has("n") && store.Has("read");
  };
  std::vector<Pin> pins;
  const auto pin = [&] {
    Scratch none;
    Outcome read;
    store->Execute(TestStore::Make(Verb::kGet, "read"), store.now(), &none, &read);
    ASSERT_NE(read.pin.ref, 0u);
    pins.push_back(read.pin);
    store.Delete("read");
    (void)LastOf(&store);
  };
  while (leaves_the_number(200'000)) pin();
  size_t fits = 0;
  for (size_t step = 1 << 17; step != 0; step /= 2) {
    if (leaves_the_number(fits + step)) fits += step;
  }
  ASSERT_TRUE(leaves_the_number(fits));
  pin();
  Request count = TestStore::Make(Verb::kIncr, "n");
  count.delta = uint64_t{1} << 63;
  ASSERT_EQ(store.Do(count).status, Status::kNoMemory);
  const StoredRecord record = LastOf(&store);
  EXPECT_EQ(record.kind, RecordKind::kDelete);
  EXPECT_EQ(record.key, "n");
  EXPECT_EQ(record.optional.fields, 0);
  for (const Pin& each : pins) store->Unpin(each);
  store->Abandon(&body);
  store->Verify();
}

// In one piece, in several, and kept in place by the ring.
TEST(StoreRecordFields, AStoreThatAppliesTheRecordsHasEntriesThatAreFreshAsLong) {
  for (size_t bytes : {size_t{5}, size_t{5000}, kRingInlineValueBytesMax + 1}) {
    TestStore store(WithRing());
    const std::string value = PatternBytes(bytes, 3);
    Request set = TestStore::Make(Verb::kSet, "key", value);
    set.expires_ms = store.now_ms() + 1000;
    set.fresh_until_ms = store.now_ms() + 500;
    store.Do(set);
    Request keep = TestStore::Make(Verb::kTouch, "key");
    keep.expires_ms = kKeepExpiry;
    store.Do(keep);
    Request append = TestStore::Make(Verb::kAppend, "key", "+");
    store.Do(append);
    Request touch = TestStore::Make(Verb::kTouch, "key");
    touch.expires_ms = store.now_ms() + 800;
    store.Do(touch);
    const std::vector<StoredRecord> records = DrainAll(&store.store(), 0);
    ASSERT_EQ(records.size(), 4);

    TestStore other;
    const auto apply = [&](const StoredRecord& record, Origin origin) {
      const RecordView view = {.kind = record.kind,
                               .codec = record.codec,
                               .version = record.version,
                               .expires_wall_ms = record.expires_wall_ms,
                               .client_flags = record.client_flags,
                               .key = record.key,
                               .value = record.value,
                               .optional = record.optional};
      EXPECT_EQ(other->Apply(view, store.now(), origin), Status::kStored);
      return other.Peek("key").outcome;
    };
    for (const Origin origin : {Origin::kLog, Origin::kElsewhere}) {
      for (size_t i = 0; i < 4; ++i) {
        const bool is_fresh = i == 3;
        const Outcome applied = apply(records[i], origin);
        EXPECT_EQ(records[i].optional.fields, is_fresh ? 0 : kFieldFreshness) << i;
        EXPECT_EQ(applied.expires_ms, store.now_ms() + (is_fresh ? 800u : 1000u)) << i;
        EXPECT_EQ(applied.fresh_until_ms, is_fresh ? kAlwaysFresh : store.now_ms() + 500) << i;
        other->Verify();
      }
      // A touch that takes freshness away from an entry that had room for none.
      EXPECT_EQ(apply(records[3], Origin::kElsewhere).fresh_until_ms, kAlwaysFresh);
      EXPECT_EQ(apply(records[1], Origin::kElsewhere).fresh_until_ms, store.now_ms() + 500);
      other->Verify();
      other.Delete("key");
    }
  }
}

TEST(StoreRecordFields, WhatIsReadBackIsStaleIfItWas) {
  TestStore store;
  RecordView record;
  record.key = "key";
  record.value = "value";
  record.version = VersionOf(2, 1);
  record.optional.SetFreshUntil(store.now().wall_ms - 1000 * 1000);
  store->SetRecovering(true);
  EXPECT_EQ(store->Apply(record, store.now(), Origin::kLog), Status::kStored);
  store->SetRecovering(false);
  EXPECT_FALSE(store.Has("key"));
  EXPECT_EQ(store.Get("key").status, Status::kNotFound);
  Request asks = TestStore::Make(Verb::kGet, "key");
  asks.accepts_stale = true;
  EXPECT_EQ(store.Do(asks).value, "value");
  EXPECT_TRUE(store->uses_time());
  store->Verify();
}

}  // namespace
}  // namespace cairn
