// The change rings as their reader and the writers see them: what is drained, when space is free again, what is kept in
// place meanwhile, who is told.

#include <algorithm>
#include <cstdlib>
#include <deque>
#include <string>
#include <vector>

#include "store/shard.h"
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

StoreOptions WithTwoRings() {
  StoreOptions options = WithRing();
  options.shard_count = 2;
  options.memory_bytes *= 2;
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

// Records of all sizes go round a ring of the smallest size many times: read in pieces, committed now and then, rewound
// and read again. What comes out is what went in.
TEST(StoreRings, RecordsOfAllSizesGoRound) {
  test::Random random(test::Seed());
  TestStore store(WithRing());
  std::deque<StoredRecord> written;  // and not committed
  size_t drained = 0;
  std::string bytes(100'000, '\0');
  uint64_t refused = 0;
  for (int step = 0; step < 20'000; ++step) {
    if (!random.OneIn(3)) {
      const std::string key = "key" + PatternBytes(random.OneIn(20) ? random.Below(kKeyBytesMax - 3) : 5, step);
      const std::string value = PatternBytes(random.Below(uint64_t{1} << random.Below(15)), step);
      const Answer answer = store.Set(key, value);
      if (answer.status == Status::kLogFull) {
        ++refused;
        continue;
      }
      ASSERT_EQ(answer.status, Status::kStored);
      written.push_back({RecordKind::kSet, 0, answer.outcome.record_version, 0, 0, key, value});
    } else if (random.OneIn(10)) {
      store->RewindRing(0);
      drained = 0;
    } else if (random.OneIn(4)) {
      store->CommitRing(0);
      written.erase(written.begin(), written.begin() + static_cast<ptrdiff_t>(drained));
      drained = 0;
    } else {
      const size_t capacity = random.Below(bytes.size());
      const RingDrain drain = store->DrainRing(0, bytes.data(), capacity);
      ASSERT_LE(drain.bytes, capacity);
      std::string_view rest(bytes.data(), drain.bytes);
      for (uint32_t i = 0; i < drain.record_count; ++i) {
        RecordView view;
        ASSERT_TRUE(DecodeRecord(rest, &view) == DecodeStatus::kOk);
        ASSERT_LT(drained, written.size());
        ASSERT_EQ(view.version, written[drained].version);
        ASSERT_TRUE(view.key == written[drained].key && view.value == written[drained].value);
        rest.remove_prefix(view.record_bytes);
        ++drained;
      }
      ASSERT_TRUE(rest.empty());
      if (drained == written.size()) {
        ASSERT_EQ(drain.bytes_needed, 0);
        ASSERT_EQ(drain.version, store->LastVersion(0));
      } else {
        ASSERT_EQ(drain.bytes_needed, RecordBytes(written[drained].key.size(), written[drained].value.size()));
        ASSERT_GT(drain.bytes + drain.bytes_needed, capacity);
        ASSERT_EQ(drain.version, drain.record_count == 0 ? 0 : written[drained - 1].version);
      }
    }
    if (step % 64 == 0) store->Verify();
  }
  EXPECT_GT(refused, 0);
  EXPECT_GT(store->RingStatsOf(0).records, 10'000);
}

// A record that ends where the ring ends leaves nothing to skip.
TEST(StoreRings, ARecordMayEndWithTheRing) {
  TestStore store(WithRing());
  const std::string value(1024 - kRecordHeaderBytes - 3, 'v');
  static_assert(kRingBytesMin % 1024 == 0);
  for (uint64_t i = 0; i < kRingBytesMin / 1024 * 3; ++i) {
    ASSERT_EQ(store.Set("key", value).status, Status::kStored);
    if (i % 100 != 99) continue;
    const std::vector<StoredRecord> records = DrainAll(&store.store(), 0);
    ASSERT_EQ(records.size(), 100);
    for (const StoredRecord& record : records) ASSERT_EQ(record.value, value);
    store->CommitRing(0);
    store->Verify();
  }
}

// ---- large values ----

StoreOptions Roomy() {
  StoreOptions options = WithRing(1 << 20);
  options.memory_bytes = 256 << 20;
  options.page_bytes = 0;
  options.value_bytes_max = kLoggedValueBytesMax;
  return options;
}

std::string Bytes(size_t megabytes, uint64_t seed) { return PatternBytes(megabytes << 20, seed); }

TEST(StoreRings, AValueOfSixtyFourMegabytesPassesThroughARingOfOne) {
  TestStore store(Roomy());
  const std::string value = PatternBytes(kLoggedValueBytesMax, 1);
  ASSERT_EQ(store.Set("large", value, kNeverExpires, 9).status, Status::kStored);
  EXPECT_LT(store->RingStatsOf(0).fill_bytes, 200);
  store->Verify();
  char small[1000];
  RingDrain drain = store->DrainRing(0, small, sizeof small);
  EXPECT_EQ(drain.bytes, 0);
  EXPECT_EQ(drain.version, 0);
  EXPECT_EQ(drain.bytes_needed, RecordBytes(5, value.size()));
  const std::vector<StoredRecord> records = DrainAll(&store.store(), 0);
  ASSERT_EQ(records.size(), 1);
  EXPECT_EQ(records[0].client_flags, 9);
  EXPECT_TRUE(records[0].value == value);
  store->CommitRing(0);
  EXPECT_EQ(store->Stats().pinned_pages, 0);
  store->Verify();

  // The same as a body that came in pieces.
  Request request = TestStore::Make(Verb::kSet, "body");
  Body body;
  ASSERT_EQ(store->Reserve(request, static_cast<uint32_t>(value.size()), store.now(), &body), Status::kStored);
  store->WriteBody(body, 0, value);
  Outcome outcome;
  store->Link(&body, request, store.now(), &outcome);
  ASSERT_EQ(outcome.status, Status::kStored);
  EXPECT_EQ(outcome.commit_version, outcome.record_version);
  EXPECT_TRUE(DrainAll(&store.store(), 0).at(0).value == value);
  store->CommitRing(0);
  store->Verify();
}

// A whole body that waits for the log does not count as slow: a writer without a place does not get the body's place.
TEST(StoreRings, AWholeBodyThatWaitsForRoomKeepsItsPlace) {
  TestStore store(WithRing());
  const std::string value(1000, 'v');
  const auto bytes = static_cast<uint32_t>(value.size());
  const Request request = TestStore::Make(Verb::kSet, "whole");
  std::vector<Body> bodies(kEntrySlots - 1);
  for (Body& body : bodies) ASSERT_EQ(store->Reserve(request, bytes, store.now(), &body), Status::kStored);
  Body& whole = bodies[0];
  EXPECT_TRUE(store->WriteBody(whole, 0, value, store.now()));
  while (store.Set("key", value).status == Status::kStored) {
  }
  Outcome outcome;
  store->Link(&whole, request, store.now(), &outcome);
  ASSERT_EQ(outcome.status, Status::kLogFull);
  store.Advance(kBodyStalledMs);
  for (size_t i = 1; i < bodies.size(); i++) EXPECT_TRUE(store->WriteBody(bodies[i], 0, "x", store.now()));
  Body more;
  EXPECT_EQ(store->Reserve(request, bytes, store.now(), &more), Status::kNoMemory);
  // Those of whom something is still to come may lose theirs.
  store.Advance(kBodyStalledMs);
  EXPECT_EQ(store->Reserve(request, bytes, store.now(), &more), Status::kStored);
  store->Abandon(&more);
  DrainAll(&store.store(), 0);
  store->CommitRing(0);
  store->Link(&whole, request, store.now(), &outcome);
  EXPECT_EQ(outcome.status, Status::kStored);
  EXPECT_EQ(store.Get("whole").value, value);
  for (size_t i = 1; i < bodies.size(); i++) store->Abandon(&bodies[i]);
  store->Verify();
}

// What a record holds in place is the value that it was written with, whatever becomes of the entry meanwhile; and it
// costs its memory until the log has it.
TEST(StoreRings, WhatIsPinnedOutlivesItsEntry) {
  const char* const ways[] = {"replaced", "deleted", "evicted", "cleared", "touched", "appended", "kept"};
  for (const char* way : ways) {
    TestStore store(Roomy());
    const std::string value = Bytes(8, 3);
    ASSERT_EQ(store.Set("key", value).status, Status::kStored);
    const uint64_t charged = store->Stats().charged_bytes;
    const std::string_view name = way;
    if (name == "replaced") store.Set("key", "small");
    if (name == "deleted") store.Delete("key");
    if (name == "evicted") store.Do(TestStore::Make(Verb::kEvict, "key"));
    if (name == "cleared") {
      EXPECT_NE(store->Clear(store.now()), 0);
      store.MaintainAll();
    }
    if (name == "touched") {
      Request touch = TestStore::Make(Verb::kTouch, "key");
      touch.expires_ms = store.now_ms() + 1000;
      EXPECT_EQ(store.Do(touch).status, Status::kFound);
    }
    if (name == "appended") EXPECT_EQ(store.Do(TestStore::Make(Verb::kAppend, "key", "more")).status, Status::kStored);
    store->Verify();
    EXPECT_GE(store->Stats().charged_bytes, charged) << way;
    std::vector<StoredRecord> records = DrainAll(&store.store(), 0);
    EXPECT_TRUE(records.at(0).value == value) << way;
    if (name == "appended") EXPECT_TRUE(records.at(1).value == value + "more");
    store->RewindRing(0);
    records = DrainAll(&store.store(), 0);
    EXPECT_TRUE(records.at(0).value == value) << way;
    store->CommitRing(0);
    store->Verify();
    EXPECT_EQ(store->Stats().pinned_pages, 0) << way;
    const bool stays = name == "kept" || name == "touched" || name == "appended";
    EXPECT_EQ(store->Stats().charged_bytes > (4 << 20), stays) << way;
    if (name == "kept" || name == "touched") EXPECT_TRUE(store.Get("key").value == value);
  }
}

TEST(StoreRings, WhatTheRingPinsIsBoundedAndRefusedBeforeAnythingChanges) {
  TestStore store(Roomy());
  const uint64_t limit = store->Stats().limit_bytes;
  // Larger than the share that may be pinned in all: one at a time.
  ASSERT_EQ(store.Set("a", PatternBytes(kLoggedValueBytesMax, 1)).status, Status::kStored);
  store->CommitRing(0);
  DrainAll(&store.store(), 0);
  store->CommitRing(0);
  uint64_t pinned = 0;
  while (store.Set("b", Bytes(6, pinned)).status == Status::kStored) ++pinned;
  EXPECT_EQ(pinned, limit / kRingPinnedShareMax / (6 << 20));
  EXPECT_EQ(store.Peek("b").value.size(), 6 << 20);
  EXPECT_TRUE(store.Peek("b").value == Bytes(6, pinned - 1));
  EXPECT_EQ(store->Stats().log_full, 1);
  EXPECT_EQ(store.Do(TestStore::Make(Verb::kAppend, "b", "x")).status, Status::kLogFull);
  EXPECT_EQ(store.Set("c", "small").status, Status::kStored) << "what is copied in needs nothing pinned";
  EXPECT_EQ(store.Get("a").status, Status::kFound) << "and reads go on";
  store->Verify();
  EXPECT_EQ(DrainAll(&store.store(), 0).size(), pinned + 1);
  EXPECT_EQ(store.Set("b", Bytes(6, 99)).status, Status::kLogFull) << "drained is not committed";
  store->CommitRing(0);
  EXPECT_EQ(store.Set("b", Bytes(6, 99)).status, Status::kStored);
  store->Verify();
}

TEST(StoreRings, WhereNoMorePagesCanBePinnedSmallerValuesAreCopied) {
  StoreOptions options = WithRing(2 << 20);
  options.memory_bytes = 32 << 20;
  TestStore store(options);
  size_t stored = 0;
  while (store.Set("k" + std::to_string(stored), PatternBytes(20'000 + stored * 37 % 9000, stored)).status ==
         Status::kStored) {
    ++stored;
  }
  EXPECT_LE(store->Stats().pinned_pages, kRingPinnedPagesMax);
  EXPECT_GT(store->Stats().pinned_pages, 8) << "some were pinned";
  EXPECT_GT(store->RingStatsOf(0).fill_bytes, (2 << 20) - 100'000) << "the others filled the ring";
  store->Verify();
  const std::vector<StoredRecord> records = DrainAll(&store.store(), 0);
  ASSERT_EQ(records.size(), stored);
  for (size_t i = 0; i < stored; ++i) {
    EXPECT_TRUE(records[i].value == PatternBytes(20'000 + i * 37 % 9000, i)) << i;
  }
  store->CommitRing(0);
  EXPECT_EQ(store->Stats().pinned_pages, 0);
  store->Verify();
}

// Memory that only the ring holds comes back by itself: that is a reason to wait, not to fail.
TEST(StoreRings, MemoryThatTheRingHoldsIsWaitedFor) {
  StoreOptions options = WithRing();
  options.value_bytes_max = 3 << 20;
  TestStore store(options);
  const std::string value = Bytes(3, 1);
  ASSERT_EQ(store.Set("a", value).status, Status::kStored);
  ASSERT_EQ(store.Set("b", "1").status, Status::kStored);
  // Beside the pinned value there is room for a second one, but not for the rest that an append needs.
  ASSERT_EQ(store.Do(TestStore::Make(Verb::kReplace, "a", "now small")).status, Status::kStored);
  Body body;
  ASSERT_EQ(store->Reserve(TestStore::Make(Verb::kSet, "body"), 3 << 20, store.now(), &body), Status::kStored);
  Body other;
  EXPECT_EQ(store->Reserve(TestStore::Make(Verb::kSet, "b"), 2 << 20, store.now(), &other), Status::kLogFull);
  EXPECT_EQ(store.Set("b", Bytes(2, 2)).status, Status::kLogFull);
  EXPECT_EQ(store.Get("b").value, "1") << "a refused set takes nothing away";
  EXPECT_EQ(store->Stats().no_memory, 0);
  EXPECT_EQ(store->Stats().log_full, 2);
  DrainAll(&store.store(), 0);
  store->CommitRing(0);
  EXPECT_EQ(store.Set("b", Bytes(2, 2)).status, Status::kStored);
  store->Abandon(&body);
  store->Verify();
}

// ---- who is told ----

class CountingBell final : public ChangeBell {
 public:
  explicit CountingBell(Store* store) : store_(store) {}
  void Ring() override {
    ++rings;
    // No lock of the store is held.
    for (uint32_t i = 0; i < store_->shard_count(); ++i) {
      Shard* shard = store_->shard(i);
      bool is_free = false;
      if (shard->TryLock()) {
        is_free = true;
        shard->Unlock();
      }
      CHECK(is_free);
    }
  }
  int Take() { return std::exchange(rings, 0); }
  int rings = 0;

 private:
  Store* store_;
};

TEST(StoreRings, TheBellRingsWhenItIsWantedAndARecordWasLeft) {
  StoreOptions options = WithTwoRings();
  options.value_bytes_max = 100'000;
  options.memory_bytes = 32 << 20;
  TestStore store(options);
  CountingBell bell(&store.store());
  store->SetChangeBell(&bell);
  store.Set("key", "1");
  EXPECT_EQ(bell.Take(), 0) << "no thread waits";
  bell.wanted.store(1);
  store.Get("key");
  store.Get("absent");
  store.Do(TestStore::Make(Verb::kAdd, "key", "x"));
  store.Do(TestStore::Make(Verb::kEvict, "absent"));
  EXPECT_EQ(bell.Take(), 0) << "no record";
  store.Set("key", "1");
  EXPECT_EQ(bell.Take(), 1);
  store.Incr("key", 1);
  EXPECT_EQ(bell.Take(), 1);
  store.Delete("absent");
  EXPECT_EQ(bell.Take(), 1);
  Request requests[3] = {TestStore::Make(Verb::kSet, "a", "1"), TestStore::Make(Verb::kSet, "b", "1"),
                         TestStore::Make(Verb::kGet, "a")};
  Outcome outcomes[3];
  char room[100];
  Scratch scratch{room, sizeof room, 0};
  store->ExecuteMany(requests, 3, store.now(), &scratch, outcomes);
  EXPECT_EQ(bell.Take(), 1) << "once for a batch";
  Body body;
  ASSERT_EQ(store->Reserve(requests[0], 50'000, store.now(), &body), Status::kStored);
  EXPECT_EQ(bell.Take(), 0);
  Outcome outcome;
  store->Link(&body, requests[0], store.now(), &outcome);
  EXPECT_EQ(bell.Take(), 1);
  EXPECT_EQ(store->Reserve(requests[1], 200'000, store.now(), &body), Status::kTooLarge);
  EXPECT_EQ(bell.Take(), 1) << "a body that is too large removed what was there";
  RecordView record;
  record.key = "applied";
  record.value = "v";
  record.version = 1;
  EXPECT_EQ(store->Apply(record, store.now(), Origin::kElsewhere), Status::kStored);
  EXPECT_EQ(bell.Take(), 1);
  record.version = store->LastVersion(0) + store->LastVersion(1);
  EXPECT_EQ(store->Apply(record, store.now(), Origin::kLog), Status::kStored);
  EXPECT_EQ(bell.Take(), 0) << "what was read from the log does not go back there";
  store->Clear(store.now());
  EXPECT_EQ(bell.Take(), 1);
  store->SetChangeBell(nullptr);
  store.Set("key", "1");
  EXPECT_EQ(bell.Take(), 0);
}

TEST(StoreRings, TheBellRingsUnaskedWhenTheRingBeginsToFill) {
  TestStore store(Roomy());
  CountingBell bell(&store.store());
  store->SetChangeBell(&bell);
  const uint64_t capacity = store->RingStatsOf(0).capacity_bytes;
  for (int round = 0; round < 3; ++round) {
    while (store->RingStatsOf(0).fill_bytes + 1100 < capacity / 4) store.Set("key", PatternBytes(1000, 1));
    EXPECT_EQ(bell.Take(), 0);
    while (store.Set("key", PatternBytes(1000, 1)).status == Status::kStored) {
    }
    EXPECT_EQ(bell.Take(), 1) << "once, on crossing";
    DrainAll(&store.store(), 0);
    store->CommitRing(0);
  }
  // And when much is pinned.
  while (store.Set("key", Bytes(4, 1)).status == Status::kStored) {
  }
  EXPECT_EQ(bell.Take(), 1);
}

// ---- clears ----

void Fill(TestStore* store) {
  while (store->Set("filler", PatternBytes(100, 1)).status == Status::kStored) {
  }
  while (store->Delete("x").status != Status::kLogFull) {
  }
}

TEST(StoreRings, AFullRingHasRoomForOneBarrier) {
  TestStore store(WithRing());
  store.Set("key", "1");
  Fill(&store);
  const uint64_t version = store->Clear(store.now());
  EXPECT_NE(version, 0);
  EXPECT_EQ(version, store->LastVersion(0));
  EXPECT_EQ(store->entries(), 0);
  // Perhaps for two more, depending on where the ring stands; not for a fourth.
  uint64_t last = version;
  int barriers = 1;
  for (uint64_t next; (next = store.ClearIn(1000)) != ~uint64_t{0}; ++barriers) last = next;
  EXPECT_LE(barriers, 3);
  EXPECT_EQ(store->LastVersion(0), last) << "what found no room gave no version";
  EXPECT_EQ(store->Stats().clears, 1);
  const std::vector<StoredRecord> records = DrainAll(&store.store(), 0);
  EXPECT_EQ(records[records.size() - static_cast<size_t>(barriers)].kind, RecordKind::kClear);
  store->CommitRing(0);
  EXPECT_NE(store->Clear(store.now()), 0);
  store->Verify();
}

TEST(StoreRings, AClearThatIsToComeLeavesARecord) {
  TestStore store(WithRing());
  store.Set("key", "1");
  const int64_t wall_ms = store.now().wall_ms;
  const uint64_t first = store.ClearIn(1000);
  EXPECT_EQ(first, store->LastVersion(0)) << "its reply waits for this version";
  const uint64_t second = store.ClearIn(500);
  EXPECT_GT(second, first);
  const uint64_t none = store.ClearIn(0);
  EXPECT_GT(none, second);
  EXPECT_EQ(store.ClearIn(0), none) << "that none is to come is said already";
  const std::vector<StoredRecord> records = DrainAll(&store.store(), 0);
  ASSERT_EQ(records.size(), 4);
  for (size_t i = 1; i < 4; i++) {
    EXPECT_EQ(records[i].kind, RecordKind::kClearAt);
    EXPECT_EQ(records[i].key + records[i].value, "");
  }
  EXPECT_EQ(records[1].version, first);
  EXPECT_EQ(records[1].expires_wall_ms, wall_ms + 1000);
  EXPECT_EQ(records[2].expires_wall_ms, wall_ms + 500);
  EXPECT_EQ(records[3].version, none);
  EXPECT_EQ(records[3].expires_wall_ms, 0);
  EXPECT_EQ(store.Get("absent").outcome.commit_version, 0) << "a miss tells nothing of it";
  store->Verify();
}

TEST(StoreRings, AClearThatIsToComeIsForSnapshotsUntilItHasCome) {
  TestStore store(WithRing());
  RecordView record;
  EXPECT_FALSE(store->PendingClear(store.now(), &record));
  const uint64_t version = store.ClearIn(1000);
  store.Advance(300);
  ASSERT_TRUE(store->PendingClear(store.now(), &record));
  EXPECT_EQ(record.kind, RecordKind::kClearAt);
  EXPECT_EQ(record.version, version);
  EXPECT_EQ(record.expires_wall_ms, store.now().wall_ms + 700);
  store.Advance(700);
  EXPECT_FALSE(store.Has("key"));
  EXPECT_FALSE(store->PendingClear(store.now(), &record));
  store.ClearIn(1000);
  store->Clear(store.now());
  EXPECT_FALSE(store->PendingClear(store.now(), &record));
}

TEST(StoreRings, AClearWhoseTimeHasComeAlwaysFindsRoom) {
  // Wherever the ring stands.
  for (int shift = 0; shift < 40; shift++) {
    TestStore store(WithRing());
    for (int i = 0; i < shift; i++) store.Set("k", std::string(static_cast<size_t>(i) * 7, 'x'));
    DrainAll(&store.store(), 0);
    store->CommitRing(0);
    EXPECT_NE(store.ClearIn(10), ~uint64_t{0});
    Fill(&store);
    while (store.ClearIn(10) != ~uint64_t{0}) {
    }
    EXPECT_EQ(store->Clear(store.now()), 0u);
    const uint64_t version = store->LastVersion(0);
    const uint64_t clears = store->Stats().clears;
    store.Advance(10);
    EXPECT_FALSE(store.Has("filler"));
    EXPECT_EQ(store->Stats().clears, clears + 1);
    EXPECT_EQ(store.ClearIn(10), ~uint64_t{0}) << "which is not to take the room of the next";
    const std::vector<StoredRecord> records = DrainAll(&store.store(), 0);
    EXPECT_EQ(records.back().kind, RecordKind::kClear);
    EXPECT_GT(records.back().version, version);
    store->CommitRing(0);
    store->Verify();
  }
}

// As it is in a log, in a snapshot, or in both; in whatever order they are read.
TEST(StoreRings, TheNewestRecordSaysWhetherAClearIsToCome) {
  const auto record = [](RecordKind kind, uint64_t counter, int64_t wall_ms) {
    RecordView view;
    view.kind = kind;
    view.version = uint64_t{3} << kVersionCounterBits | counter;
    view.expires_wall_ms = wall_ms;
    return view;
  };
  TestStore store(WithRing());
  RecordView pending;
  const int64_t wall_ms = store.now().wall_ms;
  EXPECT_EQ(store->Apply(record(RecordKind::kClearAt, 20, wall_ms + 20), store.now(), Origin::kLog), Status::kStored);
  EXPECT_TRUE(store->uses_time());
  EXPECT_EQ(store->Apply(record(RecordKind::kClearAt, 10, wall_ms + 10), store.now(), Origin::kLog),
            Status::kNotStored);
  EXPECT_EQ(store->Apply(record(RecordKind::kClear, 15, 0), store.now(), Origin::kLog), Status::kStored);
  ASSERT_TRUE(store->PendingClear(store.now(), &pending));
  EXPECT_EQ(pending.expires_wall_ms, wall_ms + 20);
  EXPECT_EQ(store->Apply(record(RecordKind::kClear, 30, 0), store.now(), Origin::kLog), Status::kStored);
  EXPECT_FALSE(store->PendingClear(store.now(), &pending));
  EXPECT_EQ(store->Apply(record(RecordKind::kClearAt, 20, wall_ms + 20), store.now(), Origin::kLog),
            Status::kNotStored);
  EXPECT_EQ(store->Apply(record(RecordKind::kClearAt, 40, wall_ms + 40), store.now(), Origin::kLog), Status::kStored);
  EXPECT_EQ(store->Apply(record(RecordKind::kClearAt, 50, 0), store.now(), Origin::kLog), Status::kStored);
  EXPECT_FALSE(store->PendingClear(store.now(), &pending));
  EXPECT_GT(store.ClearIn(100), uint64_t{3} << kVersionCounterBits | 50) << "versions go on behind it";
}

TEST(StoreRings, AClearThatWasDueIsDoneWhenRecoveryIsOver) {
  for (const bool is_past : {true, false}) {
    TestStore store(WithRing());
    store->StartEpoch(9);
    store->SetRecovering(true);
    RecordView record;
    record.kind = RecordKind::kClearAt;
    record.version = uint64_t{3} << kVersionCounterBits | 20;
    record.expires_wall_ms = is_past ? 5 : store.now().wall_ms + 50;
    EXPECT_EQ(store->Apply(record, store.now(), Origin::kLog), Status::kStored);
    record.kind = RecordKind::kSet;
    record.version++;
    record.expires_wall_ms = 0;
    record.key = "key";
    EXPECT_EQ(store->Apply(record, store.now(), Origin::kLog), Status::kStored);
    store->Maintain(store.now());
    EXPECT_EQ(store->entries(), 1u) << "a clear further on in the log may be newer than what is here";
    store->SetRecovering(false);
    EXPECT_EQ(store.Has("key"), !is_past);
    const std::vector<StoredRecord> records = DrainAll(&store.store(), 0);
    EXPECT_EQ(records.size(), is_past ? 1u : 0u);
    if (is_past) EXPECT_EQ(records[0].kind, RecordKind::kClear);
    store.Advance(50);
    EXPECT_FALSE(store.Has("key"));
    EXPECT_EQ(store->Stats().clears, 1u);
    store->Verify();
  }
}

TEST(StoreRings, AClearHasItsRecordInEveryRing) {
  StoreOptions options = WithRing();
  options.shard_count = 4;
  options.memory_bytes = 32 << 20;
  options.epoch = 5;
  TestStore store(options);
  for (int i = 0; i < 20; i++) store.Set("before" + std::to_string(i), "1");
  const uint64_t to_come = store.ClearIn(1000);
  const uint64_t cleared = store->Clear(store.now());
  EXPECT_EQ(EpochOf(cleared), 5u) << "a clear takes a version, not an epoch";
  for (int i = 0; i < 20; i++) store.Set("behind" + std::to_string(i), "1");
  for (uint32_t shard = 0; shard < 4; shard++) {
    const std::vector<StoredRecord> records = DrainAll(&store.store(), shard);
    const auto clear = std::find_if(records.begin(), records.end(),
                                    [](const StoredRecord& record) { return record.kind == RecordKind::kClear; });
    ASSERT_TRUE(clear != records.end() && clear != records.begin());
    EXPECT_EQ(clear->version, cleared);
    EXPECT_EQ((clear - 1)->kind, RecordKind::kClearAt);
    EXPECT_EQ((clear - 1)->version, to_come);
    for (auto record = records.begin(); record + 1 < clear; ++record) EXPECT_LT(record->version, to_come);
    for (auto record = clear + 1; record != records.end(); ++record) EXPECT_GT(record->version, cleared);
  }
}

TEST(StoreRings, WhatAClearDidToAShardIsToldWhenItsOwnRecordHasBeenDrained) {
  TestStore store(WithTwoRings());
  std::string key = "a";
  while (store->ShardOf(key) != 1) key += "a";
  store.Set(key, "1");
  const uint64_t cleared = store->Clear(store.now());
  EXPECT_EQ(store.Get(key).outcome.commit_version, cleared);
  uint64_t version = 0;
  EXPECT_EQ(DrainAll(&store.store(), 1, &version).size(), 2);
  EXPECT_EQ(version, cleared) << "whatever becomes of shard 0";
}

TEST(StoreRings, AClearThatFindsNoRoomInOneRingChangesNothing) {
  StoreOptions options = WithRing();
  options.shard_count = 4;
  options.memory_bytes = 32 << 20;
  for (uint32_t full = 0; full < 4; full++) {
    TestStore store(options);
    for (int i = 0; i < 20; i++) store.Set("key" + std::to_string(i), "1");
    test::ShardLog(&store.store(), full).Fill();
    const std::vector<uint64_t> before = [&] {
      std::vector<uint64_t> versions;
      for (uint32_t i = 0; i < 4; i++) versions.push_back(store->LastVersion(i));
      return versions;
    }();
    EXPECT_EQ(store->Clear(store.now()), 0u);
    EXPECT_EQ(store.ClearIn(10), ~uint64_t{0});
    EXPECT_EQ(store->entries(), 20u);
    EXPECT_EQ(store->Stats().clears, 0u);
    for (uint32_t i = 0; i < 4; i++) {
      EXPECT_EQ(store->LastVersion(i), before[i]);
      for (const StoredRecord& record : DrainAll(&store.store(), i)) EXPECT_NE(record.kind, RecordKind::kClear);
    }
    store->CommitRing(full);
    EXPECT_NE(store->Clear(store.now()), 0u);
    EXPECT_EQ(store->entries(), 0u);
    store->Verify();
  }
}

// A power cut may keep the records of some rings and lose those of others, each from some record on.
TEST(StoreRings, ACrashBetweenTheRecordsOfOneClearLeavesAllOfItOrNothing) {
  StoreOptions options = WithRing();
  options.shard_count = 4;
  options.memory_bytes = 32 << 20;
  TestStore store(options);
  for (int i = 0; i < 40; i++) store.Set("before" + std::to_string(i), "1");
  const uint64_t cleared = store->Clear(store.now());
  for (int i = 0; i < 40; i++) store.Set("behind" + std::to_string(i), "1");
  std::vector<std::vector<StoredRecord>> rings;
  for (uint32_t i = 0; i < 4; i++) rings.push_back(DrainAll(&store.store(), i));
  for (uint32_t other_shards : {1u, 2u, 8u}) {
    StoreOptions other = TestStore::Tiny();
    other.shard_count = other_shards;
    other.memory_bytes = 64 << 20;
    // Of each ring: nothing, what was before the clear, that and the clear, all.
    for (uint32_t cut = 0; cut < 256; cut++) {
      TestStore recovered(other);
      bool is_cleared = false;
      std::vector<std::string> expected_behind;
      // Rings come one after the other, beginning anywhere.
      for (uint32_t k = 0; k < 4; k++) {
        const uint32_t ring = (k + cut) % 4;
        const uint32_t kept = cut >> (2 * ring) & 3;
        for (const StoredRecord& record : rings[ring]) {
          const bool is_kept =
              kept == 3 || (kept == 2 && record.version <= cleared) || (kept == 1 && record.version < cleared);
          if (!is_kept) continue;
          if (record.kind == RecordKind::kClear) is_cleared = true;
          if (record.version > cleared) expected_behind.push_back(record.key);
          RecordView view;
          view.kind = record.kind;
          view.version = record.version;
          view.key = record.key;
          view.value = record.value;
          (void)recovered->Apply(view, recovered.now(), Origin::kLog);
        }
      }
      size_t expected = expected_behind.size();
      for (const std::string& key : expected_behind) EXPECT_TRUE(recovered.Has(key));
      for (uint32_t ring = 0; ring < 4 && !is_cleared; ring++) {
        for (const StoredRecord& record : rings[ring]) {
          if (record.version < cleared && (cut >> (2 * ring) & 3) != 0) expected++;
        }
      }
      ASSERT_EQ(recovered->entries(), expected) << "cut " << cut;
    }
  }
}

// ---- versions ----

TEST(StoreRings, OutcomesSayWhichVersionTheyRelyOn) {
  TestStore store(WithRing());
  const auto commit = [&](Verb verb, std::string_view key, std::string_view value = {}) {
    return store.Do(TestStore::Make(verb, key, value)).outcome.commit_version;
  };
  EXPECT_EQ(commit(Verb::kGet, "key"), 0) << "nothing has happened that could be taken back";
  const Outcome set = store.Set("key", "abc").outcome;
  EXPECT_EQ(set.commit_version, set.record_version);
  const Outcome other = store.Set("other", "1").outcome;
  for (Verb verb : {Verb::kGet, Verb::kPeek, Verb::kHas, Verb::kAdd, Verb::kIncr}) {
    EXPECT_EQ(commit(verb, "key", "x"), set.version) << "of the entry: " << static_cast<int>(verb);
  }
  Request cas = TestStore::Make(Verb::kCas, "key", "x");
  EXPECT_EQ(store.Do(cas).status, Status::kExists);
  EXPECT_EQ(store.Do(cas).outcome.commit_version, set.version);
  Request versioned = TestStore::Make(Verb::kDelete, "key");
  versioned.has_compare = true;
  EXPECT_EQ(store.Do(versioned).outcome.commit_version, set.version);
  EXPECT_EQ(commit(Verb::kGet, "absent"), 0);

  const Outcome gone = store.Delete("other").outcome;
  EXPECT_EQ(gone.commit_version, gone.record_version);
  EXPECT_GT(gone.commit_version, other.version);
  for (Verb verb : {Verb::kGet, Verb::kPeek, Verb::kHas, Verb::kReplace, Verb::kAppend, Verb::kCas, Verb::kIncr,
                    Verb::kTouch, Verb::kGetAndTouch, Verb::kTake, Verb::kEvict}) {
    EXPECT_EQ(commit(verb, "other", "x"), gone.record_version) << "the absence: " << static_cast<int>(verb);
  }
  EXPECT_EQ(commit(Verb::kGet, "key"), set.version) << "an entry is older than what has gone since";

  // A touch gives the entry no version, but the absence may be its doing.
  Request touch = TestStore::Make(Verb::kTouch, "key");
  touch.expires_ms = store.now_ms() + 10;
  const Outcome touched = store.Do(touch).outcome;
  EXPECT_EQ(touched.commit_version, touched.record_version);
  EXPECT_EQ(commit(Verb::kGet, "key"), set.version);
  store.Advance(10);
  EXPECT_EQ(commit(Verb::kPeek, "key"), touched.record_version);
  EXPECT_EQ(commit(Verb::kGet, "key"), touched.record_version);

  // So may be an entry that was set and has expired, met or not, or was evicted.
  const Outcome brief = store.Set("brief", "v", store.now_ms() + 10).outcome;
  store.Advance(1000);
  EXPECT_EQ(commit(Verb::kHas, "brief"), brief.record_version);
  const Outcome briefer = store.Set("brief", "v", store.now_ms() + 10).outcome;
  store.Advance(1000);
  store.MaintainAll();
  EXPECT_EQ(commit(Verb::kGet, "brief"), briefer.record_version);
  const Outcome evicted = store.Set("evicted", "v").outcome;
  EXPECT_EQ(commit(Verb::kEvict, "evicted"), evicted.version);
  EXPECT_EQ(commit(Verb::kGet, "evicted"), evicted.version);

  const uint64_t cleared = store->Clear(store.now());
  EXPECT_EQ(commit(Verb::kGet, "key"), cleared);

  // A batch says the same.
  store.Set("one", "1");
  const Outcome two = store.Set("two", "2").outcome;
  Request requests[] = {TestStore::Make(Verb::kGet, "two"), TestStore::Make(Verb::kGet, "absent"),
                        TestStore::Make(Verb::kSet, "one", "3")};
  Outcome outcomes[3];
  char room[10];
  Scratch scratch{room, sizeof room, 0};
  store->ExecuteMany(requests, 3, store.now(), &scratch, outcomes);
  EXPECT_EQ(outcomes[0].commit_version, two.version);
  EXPECT_EQ(outcomes[1].commit_version, cleared);
  EXPECT_EQ(outcomes[2].commit_version, outcomes[2].record_version);
}

TEST(StoreRings, WithoutRecordsThereIsNothingToWaitFor) {
  TestStore store;
  EXPECT_FALSE(store->has_rings());
  EXPECT_NE(store.Set("key", "v").outcome.record_version, 0);
  EXPECT_EQ(store.Set("key", "v").outcome.commit_version, 0);
  EXPECT_EQ(store.Get("key").outcome.commit_version, 0);
  store.Delete("key");
  EXPECT_EQ(store.Get("key").outcome.commit_version, 0);
}

TEST(StoreRings, AnEpochThatIsStartedIsAboveWhatIsRecovered) {
  for (const bool before : {true, false}) {
    TestStore store(WithRing());
    if (before) store->StartEpoch(40);
    const uint64_t highest = uint64_t{39} << kVersionCounterBits | 123'456;
    RecordView record;
    record.key = "key";
    record.value = "v";
    record.version = highest;
    EXPECT_EQ(store->Apply(record, store.now(), Origin::kLog), Status::kStored);
    record.kind = RecordKind::kClear;
    record.key = record.value = {};
    record.version = VersionOf(12, 7);
    EXPECT_EQ(store->Apply(record, store.now(), Origin::kLog), Status::kStored);
    if (!before) store->StartEpoch(40);
    EXPECT_GT(store->LastVersion(0), highest);
    const Outcome outcome = store.Set("key", "w").outcome;
    EXPECT_EQ(EpochOf(outcome.version), 40);
    EXPECT_GT(outcome.version, highest);
    EXPECT_EQ(DrainAll(&store.store(), 0).size(), 1) << "what was recovered leaves no record";
    store->StartEpoch(7);
    EXPECT_EQ(EpochOf(store.Set("key", "w").outcome.version), 40) << "never back";
  }
}

// ---- a batch that meets a full log ----

TEST(StoreRings, BehindARefusedMutationOfABatchNothingOfItsKeysIsDone) {
  TestStore store(WithRing());
  store.Set("read", "1");
  store.Set("key", "1");
  Fill(&store);
  const std::string large = PatternBytes(10'000, 1);
  Request requests[] = {
      TestStore::Make(Verb::kGet, "key"),           TestStore::Make(Verb::kSet, "key", large),
      TestStore::Make(Verb::kGet, "key"),           TestStore::Make(Verb::kGet, "read"),
      TestStore::Make(Verb::kReplace, "read", "2"), TestStore::Make(Verb::kGet, "read"),
      TestStore::Make(Verb::kEvict, "filler"),
  };
  Outcome outcomes[7];
  char room[100];
  Scratch scratch{room, sizeof room, 0};
  store->ExecuteMany(requests, 7, store.now(), &scratch, outcomes);
  const Status expected[] = {Status::kFound,   Status::kLogFull, Status::kLogFull, Status::kFound,
                             Status::kLogFull, Status::kLogFull, Status::kLogFull};
  for (int i = 0; i < 7; ++i) EXPECT_EQ(outcomes[i].status, expected[i]) << i;
  DrainAll(&store.store(), 0);
  store->CommitRing(0);
  // Those that were refused, asked again in order.
  std::vector<Request> again;
  for (int i = 0; i < 7; ++i) {
    if (outcomes[i].status == Status::kLogFull) again.push_back(requests[i]);
  }
  std::string more(30'000, '\0');
  scratch = {more.data(), more.size(), 0};
  store->ExecuteMany(again.data(), again.size(), store.now(), &scratch, outcomes);
  EXPECT_EQ(outcomes[0].status, Status::kStored);
  EXPECT_EQ(outcomes[1].value_bytes, large.size());
  EXPECT_EQ(outcomes[3].version, outcomes[2].version);
}

// ---- memory ----

TEST(StoreRings, TheRingIsInsideTheCap) {
  StoreOptions options = WithRing(2 << 20);
  TestStore with(options);
  options.ring_bytes = 0;
  TestStore without(options);
  const uint64_t reserve = uint64_t{kRingPinnedPagesMax - kPinnedPagesMax} * kPageBytesMin;
  const uint64_t difference = without->Stats().limit_bytes - with->Stats().limit_bytes;
  EXPECT_GE(difference, (2 << 20) + reserve);
  EXPECT_LE(difference, (2 << 20) + reserve + kPageBytesMin);
  EXPECT_EQ(with->Stats().memory_bytes, without->Stats().memory_bytes);
  const uint64_t committed = with->Stats().committed_bytes;
  EXPECT_LT(committed, 1 << 20) << "a ring that was not written to takes nothing";
  while (with.Set("key", PatternBytes(1000, 1)).status == Status::kStored) {
  }
  EXPECT_GT(with->Stats().committed_bytes, committed + (2 << 20) - 2000);
  EXPECT_LE(with->Stats().committed_bytes, options.memory_bytes);
}

TEST(StoreRings, AResizeLeavesTheRingsAlone) {
  StoreOptions options = WithRing(1 << 20);
  options.memory_bytes = 16 << 20;
  TestStore store(options);
  std::vector<std::string> values;
  for (uint64_t i = 0; i < 40; ++i) {
    values.push_back(PatternBytes(i % 4 == 0 ? 100'000 : 500, i));
    ASSERT_EQ(store.Set("k" + std::to_string(i), values.back()).status, Status::kStored);
  }
  for (uint64_t memory : {uint64_t{5} << 20, uint64_t{30} << 20, uint64_t{8} << 20}) {
    store.ResizeAll(memory, 0);
    store->Verify();
    EXPECT_EQ(store->RingStatsOf(0).capacity_bytes, 1 << 20);
  }
  const std::vector<StoredRecord> records = DrainAll(&store.store(), 0);
  ASSERT_EQ(records.size(), values.size());
  for (size_t i = 0; i < values.size(); ++i) EXPECT_TRUE(records[i].value == values[i]) << i;
  store->CommitRing(0);
  EXPECT_EQ(store->Stats().pinned_pages, 0);
  store->Verify();
}

TEST(StoreRings, CapacityAndTimeLeaveNoRecord) {
  TestStore store(WithRing());
  for (int i = 0; i < 20'000; ++i) {
    store.Set("k" + std::to_string(i), PatternBytes(500, 1), store.now_ms() + 1000);
    DrainAll(&store.store(), 0, nullptr, 4096);
    store->CommitRing(0);
  }
  EXPECT_GT(store->Stats().evictions, 0);
  store.Advance(10'000);
  store.MaintainAll();
  EXPECT_EQ(store->entries(), 0);
  store.Do(TestStore::Make(Verb::kEvict, "k"));
  EXPECT_EQ(DrainAll(&store.store(), 0).size(), 0);
}

TEST(StoreRings, OptionsThatCannotBeAreRefusedByName) {
  const auto refusal = [](StoreOptions options) {
    Refusal refusal;
    EXPECT_TRUE(Store::Open(options, &refusal) == nullptr);
    return refusal;
  };
  StoreOptions options = WithRing();
  options.ring_bytes = options.memory_bytes / 4 + 1;
  Refusal expected{.rule = Refusal::Rule::kRange,
                   .option = Refusal::Option::kRingBytes,
                   .max = options.memory_bytes / 4,
                   .value = 2'097'153};
  EXPECT_EQ(refusal(options), expected);
  options = WithRing();
  options.memory_bytes = uint64_t{1} << 30;
  options.value_bytes_max = kLoggedValueBytesMax + 1;
  expected.option = Refusal::Option::kValueBytesMax;
  expected.max = 67'108'864;
  expected.value = 67'108'865;
  EXPECT_EQ(refusal(options), expected);
  // Less than the smallest ring is the smallest ring.
  TestStore store(WithRing(1));
  EXPECT_TRUE(store->has_rings());
  EXPECT_EQ(store->RingStatsOf(0).capacity_bytes, kRingBytesMin);
}

// ---- recovery ----

// What was drained, read back into a store of another shape.
TEST(StoreRings, DrainedRecordsMakeTheSameContentsElsewhere) {
  test::Random random(test::Seed());
  StoreOptions options = WithRing();
  options.shard_count = 4;
  options.memory_bytes = 64 << 20;
  options.value_bytes_max = 200'000;
  options.epoch = 3;
  TestStore store(options);
  std::vector<std::string> log;
  std::string bytes(1 << 20, '\0');
  const auto drain = [&] {
    for (uint32_t shard = 0; shard < 4; ++shard) {
      for (;;) {
        const RingDrain drained = store->DrainRing(shard, bytes.data(), bytes.size());
        if (drained.bytes == 0) break;
        log.emplace_back(bytes.data(), drained.bytes);
      }
      store->CommitRing(shard);
    }
  };
  const auto key_of = [](uint64_t i) { return "key" + std::to_string(i); };
  for (int step = 0; step < 6000; ++step) {
    const std::string key = key_of(random.Below(300));
    const uint64_t choice = random.Below(20);
    Request request = TestStore::Make(Verb::kSet, key);
    const std::string value = PatternBytes(random.Below(uint64_t{1} << random.Below(18)), step);
    request.value = value;
    // Odd, so that at the beginning of a tick nothing has expired in this tick.
    if (random.OneIn(3)) request.expires_ms = (store.now_ms() + 1 + random.Below(400'000)) | 1;
    if (choice < 3) request.verb = Verb::kDelete;
    if (choice == 3 || choice == 4) request.verb = Verb::kTouch;
    if (choice == 5) request.verb = Verb::kAppend;
    if (choice == 6) request.verb = Verb::kAdd;
    if (choice == 7) request.verb = Verb::kTake;
    if (store.Do(request).status == Status::kLogFull) {
      drain();
      store.Do(request);
    }
    if (step < 5000 && random.OneIn(1000)) store->Clear(store.now());
    store.Advance(random.Below(200));
    if (random.OneIn(50)) drain();
    if (random.OneIn(100)) store->Maintain(store.now());
  }
  drain();
  ASSERT_EQ(store->Stats().evictions, 0);
  // What expired in an earlier tick is taken out by upkeep; a tick is 128 ms.
  store.Advance(128 - store.now_ms() % 128);

  for (const uint32_t shards : {1u, 8u}) {
    StoreOptions other = options;
    other.shard_count = shards;
    other.memory_bytes = 128 << 20;
    other.secrets = FixedSecrets(99);
    TestStore recovered(other);
    recovered->SetRecovering(true);
    recovered->StartEpoch(1000);
    recovered.Advance(store.now_ms() - recovered.now_ms());
    for (const std::string& batch : log) {
      for (std::string_view rest = batch; !rest.empty();) {
        RecordView view;
        ASSERT_TRUE(DecodeRecord(rest, &view) == DecodeStatus::kOk);
        (void)recovered->Apply(view, recovered.now(), Origin::kLog);
        rest.remove_prefix(view.record_bytes);
      }
    }
    recovered->SetRecovering(false);
    recovered->Verify();
    size_t present = 0;
    for (uint64_t i = 0; i < 300; ++i) {
      const Answer was = store.Peek(key_of(i));
      const Answer is = recovered.Peek(key_of(i));
      ASSERT_EQ(is.status, was.status) << key_of(i);
      if (was.status != Status::kFound) continue;
      ++present;
      EXPECT_TRUE(is.value == was.value) << key_of(i);
      EXPECT_EQ(is.outcome.version, was.outcome.version) << key_of(i);
      EXPECT_EQ(is.outcome.expires_ms, was.outcome.expires_ms) << key_of(i);
    }
    EXPECT_GT(present, 50);
    for (uint32_t shard = 0; shard < shards; ++shard) EXPECT_EQ(DrainAll(&recovered.store(), shard).size(), 0);
    recovered.MaintainAll();
    EXPECT_EQ(recovered->entries(), present);
  }
}

// The log says: it expires at ten; no, at a thousand. Read back at a hundred, the first record must not take it away.
TEST(StoreRings, AnEntryThatWasTouchedInTimeIsRecoveredThoughItsFirstExpiryHasPassed) {
  TestStore store(WithRing());
  store.Set("key", "v", store.now_ms() + 10);
  store.Set("other", "v", store.now_ms() + 10);
  store.Advance(5);
  Request touch = TestStore::Make(Verb::kTouch, "key");
  touch.expires_ms = store.now_ms() + 1000;
  store.Do(touch);
  const std::vector<StoredRecord> records = DrainAll(&store.store(), 0);
  store.Advance(100);
  ASSERT_TRUE(store.Has("key"));

  TestStore recovered(WithRing());
  recovered.Advance(105);
  recovered->SetRecovering(true);
  for (const StoredRecord& record : records) {
    (void)recovered->Apply({.kind = record.kind,
                            .version = record.version,
                            .expires_wall_ms = record.expires_wall_ms,
                            .key = record.key,
                            .value = record.value},
                           recovered.now(), Origin::kLog);
    EXPECT_FALSE(recovered->Maintain(recovered.now()));
    EXPECT_FALSE(recovered.Do(TestStore::Make(Verb::kPeek, "other")).status == Status::kFound) << "never served";
  }
  recovered->SetRecovering(false);
  EXPECT_EQ(recovered.Get("key").value, "v");
  EXPECT_EQ(recovered.Get("key").outcome.expires_ms, store.Get("key").outcome.expires_ms);
  recovered.MaintainAll();
  EXPECT_EQ(recovered->entries(), 1);
  recovered->Verify();
}

// What has expired is kept only as long as nothing else needs the room.
TEST(StoreRings, WhileRecoveringExpiredEntriesGoBeforeLiveOnes) {
  TestStore store(WithRing());
  store->SetRecovering(true);
  store.Advance(10'000'000);
  uint64_t version = 1;
  const auto apply = [&](const std::string& key, int64_t expires_wall_ms) {
    const std::string value = PatternBytes(1000, 1);
    return store->Apply({.version = ++version, .expires_wall_ms = expires_wall_ms, .key = key, .value = value},
                        store.now(), Origin::kLog);
  };
  const int live = 500;
  for (int i = 0; i < live; ++i) ASSERT_EQ(apply("live" + std::to_string(i), 0), Status::kStored);
  for (int i = 0; i < 30'000; ++i) {
    ASSERT_EQ(apply("dead" + std::to_string(i), store.now().wall_ms - 1 - i % 9'000'000), Status::kStored);
  }
  EXPECT_EQ(store->Stats().evictions, 0);
  EXPECT_GT(store->Stats().expirations, 20'000);
  store->SetRecovering(false);
  store.Advance(1000);
  store.MaintainAll();
  EXPECT_EQ(store->entries(), live);
  store->Verify();
}

TEST(StoreRings, AClearOfWhatIsClearedLeavesNoRecord) {
  TestStore store(WithTwoRings());
  store->StartEpoch(5);
  store.Set("key", "value");
  const uint64_t first = store->Clear(store.now());
  for (int i = 0; i < 1000; i++) EXPECT_EQ(store->Clear(store.now()), first);
  EXPECT_EQ(store->Stats().clears, 1001u);
  EXPECT_EQ(DrainAll(&store.store(), 0).size() + DrainAll(&store.store(), 1).size(), 3u);
  store.Delete("absent");
  EXPECT_GT(store->Clear(store.now()), first) << "the log may still have had it";
  const uint64_t second = store.ClearIn(1000);
  EXPECT_GT(store->Clear(store.now()), second) << "it takes the place of one that is to come";
}

// A client that clears and stores a hundred thousand times a second uses up 2^64 versions in a million years.
TEST(StoreRings, AClearTakesOneVersion) {
  TestStore store(WithTwoRings());
  store->StartEpoch(5);
  std::string key = "a";
  while (store->ShardOf(key) != 1) key += "a";
  store.Set(key, "value");
  uint64_t last = store->Clear(store.now());
  for (int i = 0; i < 100'000; i++) {
    EXPECT_EQ(store.Set(key, "value").outcome.version, last + 1);
    const uint64_t version = store->Clear(store.now());
    ASSERT_EQ(version, last + 2);
    last = version;
    for (uint32_t shard = 0; shard < 2 && i % 500 == 0; shard++) {
      DrainAll(&store.store(), shard);
      store->CommitRing(shard);
    }
  }
}

// A load reads elsewhere what may change between two clears, and then stores it.
TEST(StoreRings, AClearOfWhatIsClearedVoidsLoads) {
  TestStore store(WithTwoRings());
  store->StartEpoch(5);
  const uint64_t first = store->Clear(store.now());
  for (const std::string key : {"a", "b", "c", "d", "e", "f"}) {
    FillTicket ticket;
    ASSERT_TRUE(store->BeginFill(key, FillOf::kAbsentKey, store.now(), &ticket));
    EXPECT_EQ(store->Clear(store.now()), first);
    EXPECT_TRUE(ticket.voided()) << key;
    Request request = TestStore::Make(Verb::kSet, key, "value");
    request.fill = &ticket;
    EXPECT_EQ(store.Do(request).status, Status::kExists) << key;
    store->EndFill(key, &ticket);
  }
}

TEST(StoreRings, AClearTakesWhatCameInSinceTheOneBefore) {
  TestStore store(WithRing());
  store->StartEpoch(5);
  const uint64_t first = store->Clear(store.now());
  RecordView record;
  record.kind = RecordKind::kSet;
  record.key = "key";
  record.value = "value";
  record.version = first - 1;
  ASSERT_EQ(store->Apply(record, store.now(), Origin::kLog), Status::kNotStored) << "it is older than the clear";
  record.version = first + 5;
  ASSERT_EQ(store->Apply(record, store.now(), Origin::kLog), Status::kStored);
  ASSERT_TRUE(store.Has("key"));
  const uint64_t second = store->Clear(store.now());
  EXPECT_EQ(second, first + 6);
  EXPECT_FALSE(store.Has("key"));
  // A clear that comes in is as good as one that is called for.
  record.kind = RecordKind::kClear;
  store.Set("key", "value");
  ASSERT_EQ(store->Apply(record, store.now(), Origin::kElsewhere), Status::kStored);
  EXPECT_EQ(store->Clear(store.now()), second + 2);
  store->Verify();
}

TEST(StoreRings, NoLifeBeginsToCountWhereAnotherHasBegun) {
  std::vector<uint64_t> versions;
  for (int life = 0; life < 4; life++) {
    TestStore store(WithRing());
    store->StartEpoch(5);
    versions.push_back(store.Set("key", "value").outcome.version);
    EXPECT_EQ(EpochOf(versions.back()), 5u);
  }
  std::sort(versions.begin(), versions.end());
  EXPECT_TRUE(std::adjacent_find(versions.begin(), versions.end()) == versions.end());
}

// A request that came before anything could expire has read no clock; the entry was given its time meanwhile.
TEST(StoreRings, ARequestWithoutAClockLogsTheTimeThatItFinds) {
  TestStore store(WithRing());
  store.Set("key", "value", store.now_ms() + 1'000'000);
  DrainAll(&store.store(), 0);
  Request request = TestStore::Make(Verb::kAppend, "key", "!");
  Scratch none;
  Outcome outcome;
  store->Execute(request, Now{}, &none, &outcome);
  ASSERT_EQ(outcome.status, Status::kStored);
  const std::vector<StoredRecord> records = DrainAll(&store.store(), 0);
  ASSERT_EQ(records.size(), 1u);
  const int64_t expected = static_cast<int64_t>(outcome.expires_ms) + ReadClock().WallOffset();
  EXPECT_LT(std::abs(records[0].expires_wall_ms - expected), 1'000'000) << "by the real clock";
}

TEST(StoreRings, APlainSetComesBehindAClearThatIsDue) {
  for (bool logged : {true, false}) {
    TestStore store(logged ? WithRing() : TestStore::Tiny());
    store.Set("old", "value");
    store.Set("key", "value");
    ASSERT_NE(store.ClearIn(10), ~uint64_t{0});
    store.Advance(10);
    EXPECT_EQ(store->SetPlain("key", "newer", Codec::kRaw, kNeverExpires, store.now()), Status::kStored);
    EXPECT_FALSE(store.Has("old"));
    EXPECT_EQ(store.Get("key").value, "newer");
    store->Verify();
  }
}

// Changes a value that is being stored when another entry leaves for it.
class Meddler final : public RemovalSink {
 public:
  explicit Meddler(std::string* value) : value_(value) {}
  void OnRemoved(Reason, const RemovedEntry&) override { std::fill(value_->begin(), value_->end(), '?'); }
  void OnCleared(uint64_t) override {}

 private:
  std::string* const value_;
};

TEST(StoreRings, WhatIsLoggedIsWhatIsStoredThoughTheValueMayChange) {
  const StoreOptions options = WithRing();
  TestStore store(options);
  std::string value;
  Meddler meddler(&value);
  store->SetRemovalSink(&meddler);
  // Keys of one bucket, so that one of them gives way when another one has been written.
  int stored = 0;
  for (uint64_t i = 0; store->Stats().hash_flood_evictions == 0; ++i) {
    const std::string key = "k" + std::to_string(i);
    if (TableHash(options.hash, key, options.secrets) % 4096 != 17) continue;
    ASSERT_LT(++stored, 1000);
    value = "value " + key;
    Request request = TestStore::Make(Verb::kSet, key, value);
    request.value_may_change = true;
    ASSERT_EQ(store.Do(request).status, Status::kStored);
    const std::vector<StoredRecord> records = DrainAll(&store.store(), 0);
    ASSERT_EQ(records.size(), 1u);
    EXPECT_EQ(records[0].value, "value " + key);
    EXPECT_EQ(store.Get(key).value, records[0].value);
    store->CommitRing(0);
  }
}

}  // namespace
}  // namespace cairn
