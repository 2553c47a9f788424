// Owed entries and stubs (store/debts.h): what every verb makes of each kind of stub, and the rules B1 to B6 of
// model/debts.h, one by one.

#include "store/debts.h"

#include <array>
#include <map>
#include <string>
#include <vector>

#include "store/fill_watch.h"
#include "store/store.h"
#include "support/store_fixture.h"
#include "test.h"

namespace cairn {
namespace {

// A store with a log and a backend, of which the test plays the writer.
class DebtStore : public TestStore {
 public:
  explicit DebtStore(uint64_t memory_bytes = kMemoryBytesMin, uint64_t value_bytes_max = 0)
      : TestStore(Options(memory_bytes, value_bytes_max)) {
    RecordAll();
  }

  // The writer has committed everything up to now.
  void StoreAll() { StoreUpTo(store().LastVersion(0)); }
  void StoreUpTo(uint64_t version) { store().stored_marks()->Advance(0, version); }
  // The key's value leaves memory.
  Status Evict(std::string_view key) { return Do(Make(Verb::kEvict, key)).status; }
  Status Touch(std::string_view key, uint64_t expires_ms) {
    Request request = Make(Verb::kTouch, key);
    request.expires_ms = expires_ms;
    return Do(request).status;
  }
  // What a reader that can wait is told.
  Status Read(std::string_view key) {
    Request request = Make(Verb::kGet, key);
    request.reads_through = true;
    return Do(request).status;
  }
  bool HasStub(std::string_view key, StubInfo* info) { return store().StubOf(key, now(), info); }
  Status Fill(std::string_view key, std::string_view value, bool is_absence = false, uint64_t expires_ms = 0) {
    FillTicket ticket;
    if (!store().BeginFill(key, FillOf::kAbsentKey, now(), &ticket)) return Status::kExists;
    Request request = Make(Verb::kSet, key, value);
    request.fill = &ticket;
    request.from_backend = true;
    request.is_absence = is_absence;
    request.expires_ms = expires_ms;
    const Status status = Do(request).status;
    store().EndFill(key, &ticket);
    return status;
  }
  Status Revive(std::string_view key, std::string_view value, uint64_t newest_version) {
    RecordView record;
    record.key = key;
    record.value = value;
    return store().Revive(record, newest_version, now());
  }

 private:
  static StoreOptions Options(uint64_t memory_bytes, uint64_t value_bytes_max) {
    StoreOptions options = Tiny();
    options.value_bytes_max = value_bytes_max;
    options.memory_bytes = memory_bytes;
    options.has_backend = true;
    return options;
  }
};

enum class Kind { kValue, kExpiry, kGone, kNegative };

void MakeStub(DebtStore* store, Kind kind) {
  switch (kind) {
    case Kind::kValue:
      store->Set("key", "1");
      EXPECT_EQ(store->Evict("key"), Status::kFound);
      break;
    case Kind::kExpiry:
      store->Set("key", "1");
      store->StoreAll();
      EXPECT_EQ(store->Touch("key", store->now_ms() + 50'000), Status::kFound);
      EXPECT_EQ(store->Evict("key"), Status::kFound);
      break;
    case Kind::kGone:
      store->Delete("key");
      break;
    case Kind::kNegative:
      EXPECT_EQ(store->Fill("key", "", true, store->now_ms() + 50'000), Status::kStored);
      break;
  }
}

struct Row {
  Verb verb;
  Status elsewhere, absent;
};
constexpr Row kRows[] = {
    {Verb::kGet, Status::kNotResident, Status::kNotFound},
    {Verb::kPeek, Status::kNotResident, Status::kNotFound},
    {Verb::kHas, Status::kNotResident, Status::kNotFound},
    {Verb::kSet, Status::kStored, Status::kStored},
    {Verb::kAdd, Status::kNotResident, Status::kStored},
    {Verb::kReplace, Status::kNotResident, Status::kNotStored},
    {Verb::kAppend, Status::kNotResident, Status::kNotStored},
    {Verb::kPrepend, Status::kNotResident, Status::kNotStored},
    {Verb::kCas, Status::kNotResident, Status::kNotFound},
    {Verb::kIncr, Status::kNotResident, Status::kNotFound},
    {Verb::kDecr, Status::kNotResident, Status::kNotFound},
    {Verb::kTouch, Status::kNotResident, Status::kNotFound},
    {Verb::kGetAndTouch, Status::kNotResident, Status::kNotFound},
    {Verb::kDelete, Status::kFound, Status::kNotFound},
    {Verb::kTake, Status::kNotResident, Status::kNotFound},
    {Verb::kEvict, Status::kNotFound, Status::kNotFound},
};

TEST(StoreDebts, EveryVerbMeetsEveryKindOfStub) {
  for (const Kind kind : {Kind::kValue, Kind::kExpiry, Kind::kGone, Kind::kNegative}) {
    for (const Row& row : kRows) {
      for (const bool reads_through : {false, true}) {
        DebtStore store;
        MakeStub(&store, kind);
        const uint64_t records = store->RingStatsOf(0).records;
        Request request = TestStore::Make(row.verb, "key", "2");
        request.reads_through = reads_through;
        const Status status = store.Do(request).status;
        const bool is_absent = kind == Kind::kGone || kind == Kind::kNegative;
        EXPECT_EQ(status, is_absent ? row.absent : row.elsewhere)
            << static_cast<int>(kind) << " " << static_cast<int>(row.verb);
        const bool records_one = status == Status::kStored || row.verb == Verb::kDelete;
        EXPECT_EQ(store->RingStatsOf(0).records - records, records_one ? 1 : 0) << static_cast<int>(row.verb);
        StubInfo info;
        if (row.verb == Verb::kDelete) {
          EXPECT_TRUE(store.HasStub("key", &info) && info.kind == StubKind::kGone);
          EXPECT_EQ(info.newest_version, store->LastVersion(0));
        } else if (status == Status::kStored) {
          EXPECT_FALSE(store.HasStub("key", &info));
          EXPECT_EQ(store.Get("key").value, "2");
        } else {
          EXPECT_EQ(store.HasStub("key", &info), kind != Kind::kNegative) << "nothing was changed";
        }
        store->Verify();
      }
    }
  }
}

TEST(StoreDebts, AComparisonAsksForTheValueOfAStub) {
  for (const Verb verb : {Verb::kSet, Verb::kDelete}) {
    DebtStore store;
    MakeStub(&store, Kind::kValue);
    Request request = TestStore::Make(verb, "key", "2");
    request.has_compare = true;
    EXPECT_EQ(store.Do(request).status, Status::kNotResident);
  }
}

TEST(StoreDebts, AStubSaysWhereItsValueIs) {
  DebtStore store;
  const uint64_t expires_ms = store.now_ms() + 500;
  const uint64_t version = store.Set("key", "value", expires_ms).outcome.version;
  EXPECT_EQ(store.Evict("key"), Status::kFound);
  StubInfo info;
  ASSERT_TRUE(store.HasStub("key", &info));
  EXPECT_TRUE(info.kind == StubKind::kValue);
  EXPECT_EQ(info.value_version, version);
  EXPECT_EQ(info.newest_version, version);
  EXPECT_EQ(info.expires_ms, expires_ms);
  EXPECT_EQ(store->entries(), 0);
  EXPECT_EQ(store->Stats().stubs, 1);
  EXPECT_EQ(store->Stats().charged_bytes, store->Stats().stub_bytes);
}

TEST(StoreDebts, ATouchOfAnOwedValueLeavesBothVersions) {
  DebtStore store;
  const uint64_t version = store.Set("key", "value").outcome.version;
  EXPECT_EQ(store.Touch("key", store.now_ms() + 500), Status::kFound);
  store.Evict("key");
  StubInfo info;
  ASSERT_TRUE(store.HasStub("key", &info));
  EXPECT_TRUE(info.kind == StubKind::kValue);
  EXPECT_EQ(info.value_version, version);
  EXPECT_EQ(info.newest_version, store->LastVersion(0));
  EXPECT_EQ(info.expires_ms, store.now_ms() + 500);
}

// ---- revivals ----

TEST(StoreDebts, ARevivedValueIsOwedAsBefore) {
  DebtStore store;
  const std::string value(3000, 'v');
  const uint64_t version = store.Set("key", value, store.now_ms() + 500).outcome.version;
  store.Evict("key");
  const uint64_t records = store->RingStatsOf(0).records;
  EXPECT_EQ(store.Revive("key", value, version), Status::kStored);
  const Answer answer = store.Get("key");
  EXPECT_EQ(answer.value, value);
  EXPECT_EQ(answer.outcome.version, version);
  EXPECT_EQ(answer.outcome.expires_ms, store.now_ms() + 500);
  EXPECT_EQ(store->RingStatsOf(0).records, records) << "no record";
  EXPECT_EQ(store->Stats().stubs, 0);
  store.Evict("key");
  StubInfo info;
  ASSERT_TRUE(store.HasStub("key", &info)) << "still owed";
  EXPECT_EQ(info.value_version, version);
  store->Verify();
}

TEST(StoreDebts, ARevivalIsOfTheStubThatWasSeen) {
  DebtStore store;
  const uint64_t first = store.Set("key", "first").outcome.version;
  store.Evict("key");
  store.Set("key", "second");
  EXPECT_EQ(store.Revive("key", "first", first), Status::kNotFound) << "there is an entry";
  store.Evict("key");
  EXPECT_EQ(store.Revive("key", "first", first), Status::kNotFound) << "another stub";
  store.Delete("key");
  EXPECT_EQ(store.Revive("key", "first", store->LastVersion(0)), Status::kNotFound) << "gone";
  EXPECT_EQ(store.Revive("other", "v", 1), Status::kNotFound);
  EXPECT_EQ(store.Get("key").status, Status::kNotFound);
}

TEST(StoreDebts, ARevivalWithoutRoomLeavesTheStub) {
  DebtStore store;
  const uint64_t version = store.Set("key", "v").outcome.version;
  store.Evict("key");
  EXPECT_EQ(store.Revive("key", std::string(store->value_bytes_max() + 1, 'v'), version), Status::kTooLarge);
  StubInfo info;
  EXPECT_TRUE(store.HasStub("key", &info));
}

// ---- B1 to B6 ----

TEST(StoreDebts, B1AStubIsFreedOnceTheMarkHasPassed) {
  DebtStore store;
  std::vector<uint64_t> versions;
  for (int i = 0; i < 300; ++i) versions.push_back(store.Set("key" + std::to_string(i), "v").outcome.version);
  // They leave in another order than they came.
  for (int i = 299; i >= 0; --i) store.Evict("key" + std::to_string(i));
  EXPECT_EQ(store->Stats().stubs, 300);
  store.StoreUpTo(versions[99]);
  store.MaintainAll();
  EXPECT_EQ(store->Stats().stubs, 200);
  StubInfo info;
  EXPECT_FALSE(store.HasStub("key99", &info));
  EXPECT_TRUE(store.HasStub("key100", &info));
  EXPECT_EQ(store.Read("key99"), Status::kNotResident) << "unknown: the backend has it";
  store->Verify();
  store.StoreAll();
  store.MaintainAll();
  EXPECT_EQ(store->Stats().stubs, 0);
  EXPECT_EQ(store->Stats().charged_bytes, 0);
  store->Verify();
}

// A cache that writes nothing to its backend has every version stored: a delete only makes the backend be asked again.
TEST(StoreDebts, B1AStubThatIsStoredIsAsNone) {
  for (const Kind kind : {Kind::kValue, Kind::kExpiry, Kind::kGone}) {
    DebtStore store;
    MakeStub(&store, kind);
    store.StoreUpTo(~uint64_t{0});
    EXPECT_EQ(store.Read("key"), Status::kNotResident);
    EXPECT_EQ(store.Get("key").status, Status::kNotFound) << "it cannot wait";
    EXPECT_EQ(store.Fill("key", "row"), Status::kStored);
    EXPECT_EQ(store.Get("key").value, "row");
    EXPECT_EQ(store.Delete("key").status, Status::kFound);
    EXPECT_EQ(store.Read("key"), Status::kNotResident);
    EXPECT_EQ(store.Do(TestStore::Make(Verb::kAdd, "key", "v")).status, Status::kNotResident);
    EXPECT_EQ(store.Set("key", "v").status, Status::kStored);
    EXPECT_EQ(store.Evict("key"), Status::kFound);
    store.MaintainAll();
    EXPECT_EQ(store->Stats().stubs, 0);
    store->Verify();
  }
}

TEST(StoreDebts, B1AnEntryThatTheBackendHasLeavesWithoutAStub) {
  DebtStore store;
  store.Set("key", "v");
  store.StoreAll();
  store.Evict("key");
  StubInfo info;
  EXPECT_FALSE(store.HasStub("key", &info));
  EXPECT_EQ(store.Read("key"), Status::kNotResident);
  // A fill is not owed; a change of it is.
  EXPECT_EQ(store.Fill("key", "v"), Status::kStored);
  store.Evict("key");
  EXPECT_FALSE(store.HasStub("key", &info));
  EXPECT_EQ(store.Fill("key", "1"), Status::kStored);
  EXPECT_EQ(store.Incr("key", 1).status, Status::kFound);
  store.Evict("key");
  EXPECT_TRUE(store.HasStub("key", &info) && info.kind == StubKind::kValue);
}

TEST(StoreDebts, B2AnOwedEntryThatExpiresIsGoneWithoutAskingTheBackend) {
  for (const bool by_wheel : {false, true}) {
    DebtStore store;
    store.Set("key", "v", store.now_ms() + 10);
    store.Advance(1000);
    if (by_wheel) store.MaintainAll();
    EXPECT_EQ(store.Do(TestStore::Make(Verb::kPeek, "key")).status, Status::kNotFound);
    EXPECT_EQ(store.Read("key"), Status::kNotFound) << "the backend's row may be older, and live";
    StubInfo info;
    ASSERT_TRUE(store.HasStub("key", &info));
    EXPECT_TRUE(info.kind == StubKind::kGone);
    store.StoreAll();
    store.MaintainAll();
    EXPECT_EQ(store.Read("key"), Status::kNotResident);
    store->Verify();
  }
}

TEST(StoreDebts, B2AStubWhoseExpiryComesIsGone) {
  DebtStore store;
  store.Set("key", "v", store.now_ms() + 10);
  store.Evict("key");
  EXPECT_EQ(store.Read("key"), Status::kNotResident);
  store.Advance(10);
  EXPECT_EQ(store.Read("key"), Status::kNotFound);
  EXPECT_EQ(store.Fill("key", "old row"), Status::kExists);
}

TEST(StoreDebts, B3AFillDoesNotComeOverANewerStub) {
  DebtStore store;
  MakeStub(&store, Kind::kValue);
  EXPECT_EQ(store.Fill("key", "old row"), Status::kExists);
  store.Delete("key");
  EXPECT_EQ(store.Fill("key", "old row"), Status::kExists);
  EXPECT_EQ(store.Fill("key", "", true, store.now_ms() + 50), Status::kExists);
  EXPECT_EQ(store.Read("key"), Status::kNotFound);
}

TEST(StoreDebts, B3AFillTakesTheExpiryOfAStub) {
  for (const size_t bytes : {size_t{10}, size_t{3000}, size_t{200'000}}) {
    DebtStore store(uint64_t{32} << 20);
    MakeStub(&store, Kind::kExpiry);
    const std::string row(bytes, 'r');
    EXPECT_EQ(store.Fill("key", row), Status::kStored);
    const Answer answer = store.Get("key");
    EXPECT_EQ(answer.value, row);
    EXPECT_EQ(answer.outcome.expires_ms, store.now_ms() + 50'000);
    store.Evict("key");
    StubInfo info;
    ASSERT_TRUE(store.HasStub("key", &info)) << "its expiry is still owed";
    EXPECT_TRUE(info.kind == StubKind::kExpiry);
    store->Verify();
  }
}

TEST(StoreDebts, B3ABodyTakesTheExpiryOfAStub) {
  DebtStore store(uint64_t{32} << 20);
  for (const bool has_stub : {true, false}) {
    if (has_stub) MakeStub(&store, Kind::kExpiry);
    const std::string key = has_stub ? "key" : "other";
    FillTicket ticket;
    ASSERT_TRUE(store->BeginFill(key, FillOf::kAbsentKey, store.now(), &ticket));
    Request request = TestStore::Make(Verb::kSet, key);
    request.fill = &ticket;
    request.from_backend = true;
    Body body;
    const std::string row(70'000, 'r');
    ASSERT_EQ(store->Reserve(request, 70'000, store.now(), &body), Status::kStored);
    store->WriteBody(body, 0, row);
    Outcome outcome;
    store->Link(&body, request, store.now(), &outcome);
    store->EndFill(key, &ticket);
    EXPECT_EQ(outcome.status, Status::kStored);
    EXPECT_EQ(outcome.record_version, 0);
    EXPECT_EQ(store.Get(key).value, row);
    EXPECT_EQ(store.Get(key).outcome.expires_ms, has_stub ? store.now_ms() + 50'000 : kNeverExpires);
    store->Verify();
  }
}

TEST(StoreDebts, B3ARowIsNotAbsentWhileAnotherExpiryIsOwedForIt) {
  DebtStore store;
  MakeStub(&store, Kind::kExpiry);
  // The backend leaves out rows that have expired, and has not been told of the touch.
  EXPECT_EQ(store.Fill("key", "", true, store.now_ms() + 50), Status::kExists);
  EXPECT_EQ(store.Read("key"), Status::kNotResident);
  StubInfo info;
  ASSERT_TRUE(store.HasStub("key", &info));
  EXPECT_TRUE(info.kind == StubKind::kExpiry);
}

TEST(StoreDebts, B4AClearTakesNoDebtAway) {
  for (const bool reclaimed : {false, true}) {
    DebtStore store;
    store.Set("stored", "v");
    store.StoreAll();
    const uint64_t version = store.Set("owed", "v").outcome.version;
    store.Set("expires", "v", store.now_ms() + 10);
    store.Delete("gone");
    store->Clear(store.now());
    if (reclaimed) store.MaintainAll();
    EXPECT_EQ(store.Do(TestStore::Make(Verb::kPeek, "owed")).status, Status::kNotResident) << "as its stub would";
    EXPECT_EQ(store.Read("owed"), Status::kNotResident);
    EXPECT_EQ(store.Read("gone"), Status::kNotFound);
    StubInfo info;
    EXPECT_FALSE(store.HasStub("stored", &info));
    ASSERT_TRUE(store.HasStub("owed", &info));
    EXPECT_EQ(info.value_version, version);
    EXPECT_EQ(store.Revive("owed", "v", version), Status::kStored);
    EXPECT_EQ(store.Get("owed").value, "v");
    EXPECT_GT(store.Get("owed").outcome.version, version) << "its version is below the clear's: it is set anew";
    const StoredRecord record = DrainAll(&store.store(), 0).back();
    EXPECT_EQ(record.optional.fields, kFieldDelta) << "and nothing was added to it";
    EXPECT_EQ(record.optional.delta, 0);
    store->Verify();
    store.StoreAll();
    store.MaintainAll();
    EXPECT_EQ(store->Stats().stubs, 0);
    store->Verify();
  }
}

TEST(StoreDebts, B5APrefixThatIsStoredLeavesTheRestOwed) {
  DebtStore store;
  const uint64_t set = store.Set("key", "v").outcome.version;
  store.Touch("key", store.now_ms() + 500);
  store.StoreUpTo(set);
  store.Evict("key");
  StubInfo info;
  ASSERT_TRUE(store.HasStub("key", &info));
  EXPECT_TRUE(info.kind == StubKind::kExpiry) << "the backend has the value, under another expiry";
  EXPECT_EQ(info.expires_ms, store.now_ms() + 500);
  store.StoreAll();
  store.MaintainAll();
  EXPECT_FALSE(store.HasStub("key", &info));
}

// A stub of a value under a touch, of which the backend has the value and not the touch.
uint64_t MakeStubOfAStoredValue(DebtStore* store) {
  const uint64_t set = store->Set("key", "v").outcome.version;
  store->Touch("key", store->now_ms() + 500);
  store->Evict("key");
  StubInfo info;
  EXPECT_TRUE(store->HasStub("key", &info) && info.kind == StubKind::kValue);
  return set;
}

TEST(StoreDebts, B3AStubLeadsToTheRowOnceTheBackendHasTheValue) {
  DebtStore store;
  const uint64_t set = MakeStubOfAStoredValue(&store);
  store.StoreUpTo(set);
  StubInfo info;
  ASSERT_TRUE(store.HasStub("key", &info));
  EXPECT_TRUE(info.kind == StubKind::kExpiry) << "the log may have dropped the value";
  EXPECT_EQ(info.newest_version, store->LastVersion(0));
  EXPECT_EQ(store.Revive("key", "v", info.newest_version), Status::kNotFound);
  EXPECT_EQ(store.Read("key"), Status::kNotResident);
  EXPECT_EQ(store.Fill("key", "v"), Status::kStored);
  EXPECT_EQ(store.Get("key").outcome.expires_ms, store.now_ms() + 500);
  store.Evict("key");
  ASSERT_TRUE(store.HasStub("key", &info)) << "the touch is still owed";
  EXPECT_TRUE(info.kind == StubKind::kExpiry);
  store.StoreAll();
  EXPECT_FALSE(store.HasStub("key", &info));
  EXPECT_EQ(store->Stats().stubs, 0);
  store->Verify();
}

TEST(StoreDebts, B3AMarkThatMovesBeforeARevivalSendsItToTheRow) {
  DebtStore store;
  const uint64_t set = MakeStubOfAStoredValue(&store);
  StubInfo seen;
  ASSERT_TRUE(store.HasStub("key", &seen));
  store.StoreUpTo(set);
  EXPECT_EQ(store.Revive("key", "v", seen.newest_version), Status::kNotFound) << "look the key up again";
  ASSERT_TRUE(store.HasStub("key", &seen));
  EXPECT_TRUE(seen.kind == StubKind::kExpiry);
  EXPECT_EQ(store.Fill("key", "v"), Status::kStored);
}

// Nothing has met the entry yet, so it has no stub: the load is all that remembers it.
TEST(StoreDebts, ALoadThatBeganBesideAnOwedEntryThatHasLeftDoesNotBringAnOlderRow) {
  for (const bool is_cleared : {false, true}) {
    DebtStore store;
    store.Set("key", "v", store.now_ms() + 50);
    if (is_cleared) store->Clear(store.now());
    store.Advance(50);
    FillTicket ticket;
    ASSERT_TRUE(store->BeginFill("key", FillOf::kAnyKey, store.now(), &ticket));
    store.StoreAll();
    Request request = TestStore::Make(Verb::kSet, "key", "old row");
    request.fill = &ticket;
    request.from_backend = true;
    EXPECT_EQ(store.Do(request).status, Status::kExists) << is_cleared;
    store->EndFill("key", &ticket);
    EXPECT_EQ(store.Fill("key", "row"), Status::kStored);
    store->Verify();
  }
}

TEST(StoreDebts, B3ALoadThatBeganBesideAValueDoesNotComeOverItsExpiry) {
  enum class Meets { kNothing, kStubOf, kOtherLoad, kUpkeep };
  for (const Meets meets : {Meets::kNothing, Meets::kStubOf, Meets::kOtherLoad, Meets::kUpkeep}) {
    DebtStore store;
    const uint64_t set = MakeStubOfAStoredValue(&store);
    // It reads the row before the writer has written it.
    FillTicket ticket;
    ASSERT_TRUE(store->BeginFill("key", FillOf::kAbsentKey, store.now(), &ticket));
    store.StoreUpTo(set);
    StubInfo info;
    if (meets == Meets::kStubOf) EXPECT_TRUE(store.HasStub("key", &info));
    FillTicket other;
    if (meets == Meets::kOtherLoad) ASSERT_TRUE(store->BeginFill("key", FillOf::kAbsentKey, store.now(), &other));
    if (meets == Meets::kUpkeep) store.MaintainAll();
    Request request = TestStore::Make(Verb::kSet, "key", "old row");
    request.fill = &ticket;
    request.from_backend = true;
    EXPECT_EQ(store.Do(request).status, Status::kExists) << static_cast<int>(meets);
    store->EndFill("key", &ticket);
    if (meets == Meets::kOtherLoad) {
      request.value = "v";
      request.fill = &other;
      EXPECT_EQ(store.Do(request).status, Status::kStored) << "it began behind the mark";
      store->EndFill("key", &other);
    } else {
      EXPECT_EQ(store.Fill("key", "v"), Status::kStored);
    }
    EXPECT_EQ(store.Get("key").value, "v");
    store->Verify();
  }
}

TEST(StoreDebts, B6WithoutRoomForStubsNothingThatIsOwedLeaves) {
  DebtStore store;
  const std::string value(2000, 'v');
  int count = 0;
  while (store.Set("key" + std::to_string(count), value).status == Status::kStored) {
    store.records().MakeRoom();
    ASSERT_LT(++count, 100'000);
  }
  const StoreStats full = store->Stats();
  EXPECT_GT(full.stubs, 0) << "the reserve was used";
  EXPECT_LE(full.stub_bytes, full.limit_bytes / kStubShareMax);
  const uint64_t last = store->LastVersion(0);
  EXPECT_EQ(store.Set("more", value).status, Status::kLogFull);
  EXPECT_EQ(store.Delete("key" + std::to_string(count - 1)).status, Status::kLogFull);
  EXPECT_EQ(store.Delete("never seen").status, Status::kLogFull);
  EXPECT_EQ(store.Evict("key" + std::to_string(count - 1)), Status::kLogFull);
  EXPECT_EQ(store->LastVersion(0), last) << "nothing was changed";
  EXPECT_EQ(store->Stats().stubs, full.stubs);
  EXPECT_EQ(store->Stats().entries, full.entries);
  EXPECT_EQ(store.Get("key" + std::to_string(count - 1)).value, value) << "reads go on";
  EXPECT_EQ(store.Set("key" + std::to_string(count - 1), value).status, Status::kStored) << "in the same place";
  store->Verify();
  // The writer gets on: the next change frees the stubs that it needs.
  store.StoreAll();
  EXPECT_EQ(store.Set("more", value).status, Status::kStored);
  EXPECT_EQ(store.Delete("never seen").status, Status::kFound);
  store->Verify();
}

TEST(StoreDebts, B6AnExpiredOrClearedEntryKeepsItsPlaceBeyondTheReserve) {
  DebtStore store;
  const std::string value(2000, 'v');
  int count = 0;
  while (store.Set("key" + std::to_string(count), value, store.now_ms() + 100).status == Status::kStored) {
    store.records().MakeRoom();
    ++count;
  }
  const uint64_t stubs = store->Stats().stubs;
  store.Advance(1000);
  store.MaintainAll();
  EXPECT_EQ(store->Stats().entries, 0);
  EXPECT_EQ(store->Stats().stubs, static_cast<uint64_t>(count));
  EXPECT_GT(store->Stats().stubs, stubs);
  store->Verify();
}

// ---- shapes of entries ----

TEST(StoreDebts, EntriesOfEverySizeBecomeStubsAndComeBack) {
  for (const size_t key_bytes : {size_t{1}, size_t{30}, size_t{250}, size_t{251}, size_t{9000}}) {
    for (const size_t bytes :
         {size_t{0}, size_t{1}, size_t{7}, size_t{8}, size_t{9}, size_t{500}, size_t{20'000}, size_t{300'000}}) {
      DebtStore store(uint64_t{32} << 20);
      const std::string key(key_bytes, 'k');
      const std::string value(bytes, 'v');
      const Answer set = store.Set(key, value, bytes % 2 == 0 ? kNeverExpires : store.now_ms() + 99, 7);
      ASSERT_EQ(set.status, Status::kStored);
      store.records().MakeRoom();
      ASSERT_EQ(store.Evict(key), Status::kFound);
      store->Verify();
      StubInfo info;
      ASSERT_TRUE(store.HasStub(key, &info));
      EXPECT_EQ(info.value_version, set.outcome.version);
      EXPECT_EQ(store.Revive(key, value, info.newest_version), Status::kStored);
      EXPECT_EQ(store.Get(key).value, value);
      store->Verify();
      EXPECT_EQ(store.Delete(key).status, Status::kFound);
      EXPECT_EQ(store.Read(key), Status::kNotFound);
      store->Verify();
      store.StoreAll();
      store.MaintainAll();
      EXPECT_EQ(store->Stats().charged_bytes, 0);
    }
  }
}

TEST(StoreDebts, AValueThatIsReadOrWaitsForTheLogBecomesAStubToo) {
  DebtStore store(uint64_t{32} << 20);
  const std::string value(20'000, 'v');
  for (const Verb verb : {Verb::kEvict, Verb::kDelete}) {
    // The ring holds it in place, and a reader too.
    store.Set("key", value);
    char none;
    Scratch scratch{&none, 0, 0};
    Outcome outcome;
    store->Execute(TestStore::Make(Verb::kGet, "key"), store.now(), &scratch, &outcome);
    ASSERT_NE(outcome.pin.ref, 0);
    store.Do(TestStore::Make(verb, "key"));
    store->Verify();
    StubInfo info;
    EXPECT_TRUE(store.HasStub("key", &info));
    std::string read(value.size(), '\0');
    store->ReadPinned(outcome.pin, 0, read.data(), read.size());
    EXPECT_EQ(read, value);
    store->Unpin(outcome.pin);
    store.records().MakeRoom();
    store->Verify();
  }
}

// Everything is owed, and most memory is that of large values that the ring or a reader holds in place, so that they
// give none back when they leave. Whatever the answers are: a key has its newest value, or a stub that says where it
// is.
TEST(StoreDebts, NoDebtIsForgottenWhenLargeEntriesLeaveWhileOthersArePinned) {
  constexpr uint64_t kSeeds = test::kUnderTsan ? 1 : 12;
  for (uint64_t seed = 1; seed <= kSeeds; seed++) {
    DebtStore store;
    test::Random random(seed);
    std::vector<Pin> pins;
    std::map<std::string, bool> has_value;  // of the keys with a record: whether it is a set
    // Long keys too: their stubs are large.
    const size_t key_bytes_max = std::array{size_t{40}, size_t{9000}, size_t{60'000}}[seed % 3];
    std::vector<std::string> keys;
    for (int i = 0; i < 120; i++) {
      keys.push_back("key" + std::to_string(i) + std::string(random.Below(key_bytes_max), 'k'));
    }
    const std::string bytes(90 << 10, 'v');
    for (int step = 0; step < 3000; step++) {
      const std::string& key = keys[random.Below(keys.size())];
      const uint64_t what = random.Below(16);
      Status status = Status::kNotFound;
      if (what < 8) {
        const size_t value_bytes = what < 6 ? (70 << 10) + random.Below(20 << 10) : random.Below(3000);
        const uint64_t expires_ms = random.Below(4) == 0 ? store.now_ms() + random.Below(2000) : kNeverExpires;
        const Answer answer = store.Set(key, std::string_view(bytes).substr(0, value_bytes), expires_ms);
        if (answer.status == Status::kStored) has_value[key] = true;
        // Without memory a set deletes, with a record.
        if (answer.status == Status::kNoMemory && answer.outcome.record_version != 0) has_value[key] = false;
        status = answer.status;
      } else if (what < 11) {
        status = store.Do(TestStore::Make(what == 8 ? Verb::kTake : Verb::kDelete, key)).status;
        if (status == Status::kFound) has_value[key] = false;
      } else if (what == 11) {
        status = store.Evict(key);
      } else if (what == 12) {
        char none;
        Scratch scratch{&none, 0, 0};
        Outcome outcome;
        store->Execute(TestStore::Make(Verb::kGet, key), store.now(), &scratch, &outcome);
        if (outcome.pin.ref != 0) pins.push_back(outcome.pin);
      } else if (what == 13 && !pins.empty()) {
        store->Unpin(pins.back());
        pins.pop_back();
      } else if (what == 14) {
        store.Advance(50);
        store.MaintainAll();
      } else if (random.Below(8) == 0) {
        store.records().MakeRoom();
      }
      // All keys now and then only: their names are long, and hashing them is most of the test.
      const bool looks_at_all = step % 20 == 0;
      for (const auto& [name, is_set] : has_value) {
        if (!looks_at_all && name != key) continue;
        StubInfo info;
        const bool has_stub = store.HasStub(name, &info);
        const Status read = store.Do(TestStore::Make(Verb::kPeek, name)).status;
        if (read == Status::kFound) {
          ASSERT_TRUE(is_set) << "a deleted key is back, seed " << seed << " step " << step;
          continue;
        }
        ASSERT_TRUE(has_stub) << "a debt is forgotten, seed " << seed << " step " << step << " of " << what
                              << " answered " << static_cast<int>(status);
        if (!is_set) ASSERT_EQ(info.kind, StubKind::kGone);
      }
      if (step % 100 == 0) store->Verify();
    }
    while (!pins.empty()) {
      store->Unpin(pins.back());
      pins.pop_back();
    }
    store->Verify();
  }
}

// The stubs of entries that readers and the ring hold need memory beside them. Their keys are long, so that the stubs
// are larger than what a shard has in reserve.
TEST(StoreDebts, AnEntryThatIsHeldStaysUntilItsStubHasMemory) {
  for (const bool by_clear : {false, true}) {
    DebtStore store;
    std::vector<Pin> pins;
    std::vector<std::string> keys;
    const std::string value(70 << 10, 'v');
    for (int i = 0; i < 20; i++) {
      const std::string key = std::to_string(i) + std::string(60'000, 'k');
      if (store.Set(key, value, store.now_ms() + 100).status != Status::kStored) break;
      keys.push_back(key);
      char none;
      Scratch scratch{&none, 0, 0};
      Outcome outcome;
      store->Execute(TestStore::Make(Verb::kGet, key), store.now(), &scratch, &outcome);
      if (outcome.pin.ref == 0) break;
      pins.push_back(outcome.pin);
      store.records().MakeRoom();
    }
    for (int i = 0; store.Set("small" + std::to_string(i), std::string(2000, 'v')).status == Status::kStored; i++) {
      store.records().MakeRoom();
    }
    if (by_clear) {
      store->Clear(store.now());
    } else {
      store.Advance(1000);
    }
    const auto check = [&] {
      for (const std::string& key : keys) {
        const Status read = store.Read(key);
        if (by_clear) {
          EXPECT_EQ(read, Status::kNotResident);
        } else {
          EXPECT_EQ(read, Status::kNotFound) << "expired, without asking the backend";
        }
      }
      store->Verify();
    };
    for (int i = 0; i < 50; i++) store->Maintain(store.now());
    check();
    EXPECT_GT(pins.size(), 8);
    while (!pins.empty()) {
      store->Unpin(pins.back());
      pins.pop_back();
    }
    store.MaintainAll();
    check();
    EXPECT_EQ(store->Stats().cleared_entries, 0);
    for (const std::string& key : keys) {
      StubInfo info;
      EXPECT_TRUE(store.HasStub(key, &info));
    }
  }
}

TEST(StoreDebts, AChainFullOfOwedKeysTakesNoMore) {
  DebtStore store;
  const std::vector<std::string> colliding = KeysOfOneChain(TestStore::Tiny(), 150);
  std::vector<std::string> stored;
  for (const std::string& key : colliding) {
    const uint64_t last = store->LastVersion(0);
    const Status status = store.Set(key, key).status;
    if (status == Status::kStored) {
      stored.push_back(key);
      continue;
    }
    EXPECT_EQ(status, Status::kLogFull);
    EXPECT_EQ(store.Delete(key).status, Status::kLogFull) << "its stub has no place either";
    EXPECT_EQ(store->LastVersion(0), last) << "nothing was changed";
  }
  EXPECT_EQ(store->Stats().hash_flood_evictions, 0);
  EXPECT_LT(stored.size(), colliding.size());
  for (const std::string& key : stored) {
    EXPECT_EQ(store.Get(key).value, key);
    EXPECT_EQ(store.Set(key, key + "!").status, Status::kStored) << "in its place";
    EXPECT_EQ(store.Set(key, std::string(500, 'v')).status, Status::kStored) << "in another";
  }
  store->Verify();
  store.StoreAll();
  EXPECT_EQ(store.Set("k-more", "v").status, Status::kStored);
  for (const std::string& key : colliding) {
    EXPECT_EQ(store.Set(key, key).status, Status::kStored);
    store.StoreAll();
  }
  store->Verify();
}

TEST(StoreDebts, TheStubOfADeleteComesIntoAFullChain) {
  DebtStore store;
  const std::vector<std::string> colliding = KeysOfOneChain(TestStore::Tiny(), 150);
  for (const std::string& key : colliding) EXPECT_EQ(store.Fill(key, key), Status::kStored);
  EXPECT_GT(store->Stats().hash_flood_evictions, 0) << "the chain is full of what the backend has";
  for (int i = 0; i < 20; ++i) EXPECT_EQ(store.Delete(colliding[static_cast<size_t>(i)]).status, Status::kFound);
  StubInfo info;
  for (int i = 0; i < 20; ++i) EXPECT_TRUE(store.HasStub(colliding[static_cast<size_t>(i)], &info));
  store->Verify();
}

// Each would need a stub as large as itself.
TEST(StoreDebts, SmallOwedEntriesAreNotEvictedInVain) {
  DebtStore store;
  int count = 0;
  while (store.Set("key" + std::to_string(count), "1").status == Status::kStored) {
    store.records().MakeRoom();
    ASSERT_LT(++count, 1'000'000);
  }
  EXPECT_EQ(store->Stats().evictions, 0);
  EXPECT_EQ(store->Stats().stubs, 0);
  EXPECT_EQ(store->Stats().entries, static_cast<uint64_t>(count));
  EXPECT_EQ(store.Incr("key0", 1).status, Status::kFound);
  store.StoreAll();
  EXPECT_EQ(store.Set("more", "1").status, Status::kStored);
  store->Verify();
}

// ---- records that come in ----

RecordView View(RecordKind kind, std::string_view key, std::string_view value, uint64_t version, int64_t wall_ms = 0) {
  RecordView record;
  record.kind = kind;
  record.version = version;
  record.key = key;
  record.value = value;
  record.expires_wall_ms = wall_ms;
  return record;
}

TEST(StoreDebts, OwedRecordsThatAreReadBackAreOwed) {
  DebtStore store;
  const int64_t wall_ms = store.now().wall_ms + 5000;
  store->SetRecovering(true);
  const auto apply = [&](const RecordView& record, Origin origin) { return store->Apply(record, store.now(), origin); };
  EXPECT_EQ(apply(View(RecordKind::kSet, "stored", "v", 10), Origin::kLog), Status::kStored);
  EXPECT_EQ(apply(View(RecordKind::kSet, "owed", "v", 11), Origin::kLogOwed), Status::kStored);
  // A snapshot has the entry, and the log its record, which the backend does not have.
  EXPECT_EQ(apply(View(RecordKind::kSet, "again", "v", 12), Origin::kLog), Status::kStored);
  EXPECT_EQ(apply(View(RecordKind::kSet, "again", "v", 12), Origin::kLogOwed), Status::kNotStored);
  EXPECT_EQ(apply(View(RecordKind::kSet, "touched", "v", 13), Origin::kLog), Status::kStored);
  EXPECT_EQ(apply(View(RecordKind::kTouch, "touched", "", 14, wall_ms), Origin::kLogOwed), Status::kStored);
  EXPECT_EQ(apply(View(RecordKind::kTouch, "of a row", "", 15, wall_ms), Origin::kLogOwed), Status::kStored);
  EXPECT_EQ(apply(View(RecordKind::kDelete, "gone", "", 16), Origin::kLogOwed), Status::kNotFound);
  EXPECT_EQ(
      apply(View(RecordKind::kSet, "large", std::string(store->value_bytes_max() + 1, 'v'), 17), Origin::kLogOwed),
      Status::kStored);
  // Twice, as from a log that begins before the snapshot.
  EXPECT_EQ(apply(View(RecordKind::kDelete, "gone", "", 16), Origin::kLogOwed), Status::kNotStored);
  store->SetRecovering(false);
  store->Verify();
  for (const char* key : {"stored", "owed", "again", "touched"}) store.Evict(key);
  StubInfo info;
  EXPECT_FALSE(store.HasStub("stored", &info));
  EXPECT_TRUE(store.HasStub("owed", &info) && info.kind == StubKind::kValue && info.value_version == 11);
  EXPECT_TRUE(store.HasStub("again", &info) && info.kind == StubKind::kValue);
  EXPECT_TRUE(store.HasStub("touched", &info) && info.kind == StubKind::kExpiry);
  EXPECT_EQ(info.newest_version, 14);
  EXPECT_TRUE(store.HasStub("of a row", &info) && info.kind == StubKind::kExpiry);
  EXPECT_EQ(info.expires_ms, store.now_ms() + 5000);
  EXPECT_TRUE(store.HasStub("gone", &info) && info.kind == StubKind::kGone);
  EXPECT_TRUE(store.HasStub("large", &info) && info.kind == StubKind::kValue && info.value_version == 17);
  store->Verify();
}

// The database had the records when their rows were loaded, and then went back behind them: a snapshot has what was
// loaded, with versions that no record has.
TEST(StoreDebts, OwedRecordsAreNotOutrankedByWhatWasLoaded) {
  DebtStore store;
  const int64_t wall_ms = store.now().wall_ms + 50'000;
  store->SetRecovering(true);
  const auto apply = [&](const RecordView& record, Origin origin) { return store->Apply(record, store.now(), origin); };
  for (const char* key : {"set", "touched", "deleted", "set and touched"})
    EXPECT_EQ(apply(View(RecordKind::kSet, key, "loaded", 100), Origin::kLog), Status::kStored);
  // The walk of the snapshot has met a record that the log has further on.
  EXPECT_EQ(apply(View(RecordKind::kSet, "twice", "second", 30), Origin::kLog), Status::kStored);
  EXPECT_EQ(apply(View(RecordKind::kSet, "set", "v", 10), Origin::kLogOwed), Status::kStored);
  EXPECT_EQ(apply(View(RecordKind::kTouch, "touched", "", 11, wall_ms), Origin::kLogOwed), Status::kStored);
  EXPECT_EQ(apply(View(RecordKind::kDelete, "deleted", "", 12), Origin::kLogOwed), Status::kNotFound);
  EXPECT_EQ(apply(View(RecordKind::kSet, "set and touched", "v", 13), Origin::kLogOwed), Status::kStored);
  EXPECT_EQ(apply(View(RecordKind::kSet, "twice", "first", 14), Origin::kLogOwed), Status::kStored);
  EXPECT_EQ(apply(View(RecordKind::kSet, "twice", "second", 30), Origin::kLogOwed), Status::kStored);
  // A second copy of it in the log.
  EXPECT_EQ(apply(View(RecordKind::kSet, "twice", "first", 14), Origin::kLogOwed), Status::kNotStored);
  EXPECT_EQ(apply(View(RecordKind::kTouch, "set and touched", "", 120, wall_ms), Origin::kLogOwed), Status::kStored);
  store->SetRecovering(false);
  store->Verify();
  EXPECT_EQ(store.Get("set").value, "v");
  EXPECT_EQ(store.Get("set and touched").value, "v");
  EXPECT_EQ(store.Get("twice").value, "second");
  for (const char* key : {"set", "set and touched", "twice"}) EXPECT_EQ(store.Evict(key), Status::kFound) << key;
  StubInfo info;
  EXPECT_TRUE(store.HasStub("set", &info) && info.kind == StubKind::kValue && info.value_version == 10);
  EXPECT_TRUE(store.HasStub("touched", &info) && info.kind == StubKind::kExpiry);
  EXPECT_EQ(info.expires_ms, store.now_ms() + 50'000);
  EXPECT_TRUE(store.HasStub("deleted", &info) && info.kind == StubKind::kGone);
  EXPECT_TRUE(store.HasStub("set and touched", &info) && info.kind == StubKind::kValue && info.value_version == 13);
  EXPECT_EQ(info.expires_ms, store.now_ms() + 50'000);
  EXPECT_TRUE(store.HasStub("twice", &info) && info.kind == StubKind::kValue && info.value_version == 30);
  store->Verify();
}

// A log of a cache with more shards: the versions of two keys say nothing of each other.
TEST(StoreDebts, ATouchOfAnotherKeyKeepsNoLaterRecordOut) {
  DebtStore store;
  const int64_t wall_ms = store.now().wall_ms + 50'000;
  const auto apply = [&](const RecordView& record) { return store->Apply(record, store.now(), Origin::kLogOwed); };
  store->SetRecovering(true);
  EXPECT_EQ(apply(View(RecordKind::kSet, "other", "v", 1000)), Status::kStored);
  EXPECT_EQ(apply(View(RecordKind::kTouch, "other", "", 1001, wall_ms)), Status::kStored);
  EXPECT_EQ(apply(View(RecordKind::kSet, "key", "old", 10)), Status::kStored);
  EXPECT_EQ(apply(View(RecordKind::kTouch, "key", "", 11, wall_ms)), Status::kStored);
  EXPECT_EQ(store.Evict("key"), Status::kFound);
  EXPECT_EQ(apply(View(RecordKind::kSet, "key", "new", 12)), Status::kStored);
  EXPECT_EQ(store.Get("key").value, "new");
  EXPECT_EQ(store.Evict("key"), Status::kFound);
  EXPECT_EQ(apply(View(RecordKind::kDelete, "key", "", 13)), Status::kStored);
  store->SetRecovering(false);
  EXPECT_EQ(store.Read("key"), Status::kNotFound);
  store->Verify();
}

TEST(StoreDebts, AnOwedRecordBelowAClearIsAStub) {
  DebtStore store;
  store->SetRecovering(true);
  EXPECT_EQ(store->Apply(View(RecordKind::kSet, "before", "v", 10), store.now(), Origin::kLogOwed), Status::kStored);
  EXPECT_EQ(store->Apply(View(RecordKind::kClear, "", "", 20), store.now(), Origin::kLogOwed), Status::kStored);
  // The rings of other shards reach the log later.
  EXPECT_EQ(store->Apply(View(RecordKind::kSet, "late", "v", 15), store.now(), Origin::kLogOwed), Status::kStored);
  EXPECT_EQ(store->Apply(View(RecordKind::kSet, "stored", "v", 16), store.now(), Origin::kLog), Status::kNotStored);
  store->SetRecovering(false);
  StubInfo info;
  for (const char* key : {"before", "late"}) {
    EXPECT_EQ(store.Read(key), Status::kNotResident);
    EXPECT_TRUE(store.HasStub(key, &info) && info.kind == StubKind::kValue) << key;
  }
  EXPECT_EQ(store->entries(), 0);
  store->Verify();
}

TEST(StoreDebts, RecoveryMayUseMoreThanTheReserve) {
  DebtStore store;
  store->SetRecovering(true);
  const std::string value(2000, 'v');
  constexpr uint64_t kCount = 3000;
  for (uint64_t i = 0; i < kCount; ++i) {
    ASSERT_EQ(
        store->Apply(View(RecordKind::kSet, "key" + std::to_string(i), value, 100 + i), store.now(), Origin::kLogOwed),
        Status::kStored);
  }
  store->SetRecovering(false);
  store->Verify();
  EXPECT_EQ(store->Stats().entries + store->Stats().stubs, kCount) << "every key is known";
  EXPECT_GT(store->Stats().stubs, 0);
}

// The writer has to carry some of it first: nothing that is known is forgotten for it.
TEST(StoreDebts, RecoveryIsRefusedWhatMemoryCannotHoldStubsFor) {
  for (const size_t value_bytes : {size_t{4}, size_t{500}}) {
    DebtStore store;
    const std::string value(value_bytes, 'v');
    const auto key_of = [](uint64_t i) { return std::to_string(i) + std::string(i % 3 == 0 ? 3000 : 200, 'k'); };
    const auto read = [&](uint64_t i, RecordKind kind, uint64_t version) {
      return store->Apply(View(kind, key_of(i), kind == RecordKind::kSet ? value : "", version), store.now(),
                          Origin::kLogOwed);
    };
    store->SetRecovering(true);
    uint64_t count = 0;
    while (read(count, RecordKind::kSet, 100 + count) == Status::kStored) ASSERT_LT(++count, 100'000);
    const auto check = [&](uint64_t known) {
      for (uint64_t i = 0; i < known; ++i) {
        StubInfo info;
        if (store.Peek(key_of(i)).status == Status::kFound) continue;
        ASSERT_TRUE(store.HasStub(key_of(i), &info)) << "a debt is forgotten";
        EXPECT_TRUE(info.kind == StubKind::kValue && info.value_version == 100 + i);
      }
      store->Verify();
    };
    check(count);
    for (const RecordKind kind : {RecordKind::kSet, RecordKind::kDelete, RecordKind::kTouch})
      EXPECT_EQ(read(count, kind, 100 + count), Status::kLogFull);
    check(count);
    StubInfo info;
    EXPECT_FALSE(store.HasStub(key_of(count), &info));
    // What is known already needs no more room.
    EXPECT_EQ(read(1, RecordKind::kDelete, 200'000), Status::kStored);
    ASSERT_TRUE(store.HasStub(key_of(1), &info));
    EXPECT_TRUE(info.kind == StubKind::kGone && info.newest_version == 200'000);
    store->SettleRecovered();
    EXPECT_EQ(store->Stats().stubs, 0);
    EXPECT_EQ(read(count, RecordKind::kSet, 100 + count), Status::kStored);
    store->SetRecovering(false);
    EXPECT_EQ(store.Evict(key_of(count)), Status::kFound);
    EXPECT_TRUE(store.HasStub(key_of(count), &info)) << "it is owed";
    EXPECT_EQ(store.Evict(key_of(count - 2)), Status::kFound);
    EXPECT_FALSE(store.HasStub(key_of(count - 2), &info)) << "it is not";
    store->Verify();
  }
}

// The touch gives the entry another layout, and the largest values have no room beside themselves.
TEST(StoreDebts, AnOwedTouchWithoutRoomForItsEntryIsAStub) {
  for (const Origin origin : {Origin::kLog, Origin::kLogOwed}) {
    // Half of what a shard holds.
    DebtStore store(kMemoryBytesMin, DebtStore()->Stats().limit_bytes / 2);
    store->SetRecovering(true);
    const std::string value(store->value_bytes_max(), 'v');
    ASSERT_EQ(store->Apply(View(RecordKind::kSet, "key", value, 10), store.now(), origin), Status::kStored);
    RecordView touch = View(RecordKind::kTouch, "key", "", 11, store.now().wall_ms + 5000);
    touch.optional.SetFreshUntil(store.now().wall_ms + 4000);
    ASSERT_EQ(store->Apply(touch, store.now(), Origin::kLogOwed), Status::kStored);
    store->SetRecovering(false);
    StubInfo info;
    ASSERT_TRUE(store.HasStub("key", &info)) << "there was no room";
    EXPECT_TRUE(info.kind == (origin == Origin::kLogOwed ? StubKind::kValue : StubKind::kExpiry));
    EXPECT_EQ(info.value_version, origin == Origin::kLogOwed ? 10 : 0);
    EXPECT_EQ(info.newest_version, 11);
    EXPECT_EQ(info.expires_ms, store.now_ms() + 5000);
    EXPECT_EQ(info.fresh_until_ms, store.now_ms() + 4000);
    store->Verify();
  }
}

TEST(StoreDebts, ADeleteOfADumpIsOwed) {
  DebtStore store;
  EXPECT_EQ(store->Apply(View(RecordKind::kDelete, "key", "", 1), store.now(), Origin::kElsewhere), Status::kNotFound);
  StubInfo info;
  ASSERT_TRUE(store.HasStub("key", &info));
  EXPECT_EQ(info.newest_version, store->LastVersion(0));
}

// ---- sets without room ----

TEST(StoreDebts, ASetThatIsTooLargeLeavesAStubThatSaysSo) {
  for (const Kind kind : {Kind::kValue, Kind::kGone, Kind::kNegative}) {
    DebtStore store;
    MakeStub(&store, kind);
    EXPECT_EQ(store.Set("key", std::string(store->value_bytes_max() + 1, 'v')).status, Status::kTooLarge);
    StubInfo info;
    ASSERT_TRUE(store.HasStub("key", &info));
    EXPECT_TRUE(info.kind == StubKind::kGone);
    EXPECT_EQ(info.newest_version, store->LastVersion(0));
    EXPECT_EQ(store.Read("key"), Status::kNotFound);
    store->Verify();
  }
}

// ---- what does not show stubs ----

TEST(StoreDebts, WalksAndSizesShowEntriesOnly) {
  DebtStore store;
  store.Set("here", "v");
  store.Set("stub", "v");
  store.Evict("stub");
  store.Delete("gone");
  EXPECT_EQ(store.Fill("negative", "", true, store.now_ms() + 50'000), Status::kStored);
  EXPECT_EQ(store->entries(), 1);
  EXPECT_EQ(store->Stats().entries, 1);
  EXPECT_EQ(store->Stats().stubs, 2);
  EXPECT_EQ(store->Stats().negative_entries, 1);
  Cursor cursor;
  store->OpenCursor(Cursor::Order::kOldestFirst, &cursor);
  char bytes[1000];
  Scratch scratch{bytes, sizeof bytes, 0};
  WalkedEntry walked[8];
  bool done = false;
  size_t needed = 0;
  size_t count = 0;
  while (!done)
    count += store->StepCursor(&cursor, store.now(), Emits::kKeysAndValues, walked, 8, &scratch, &done, &needed);
  EXPECT_EQ(count, 1);
  store->CloseCursor(&cursor);
  EXPECT_EQ(store.removals().Take().size(), 1) << "the eviction alone";
  store->Clear(store.now());
  EXPECT_EQ(store.removals().TakeCleared(), std::vector<uint64_t>{1});
  store->Verify();
}

TEST(StoreDebts, ANegativeEntryThatIsEvictedIsToldToNoTap) {
  struct Keys final : public RemovalTap {
    void OnEvicted(const RemovedEntry& entry) override {
      std::string key(entry.key_bytes(), '\0');
      entry.CopyKey(key.data());
      told.push_back(key);
    }
    std::vector<std::string> told;
  } tap;
  DebtStore store;
  store.removals().AddTap(&tap);
  EXPECT_EQ(store.Fill("negative", "", true, store.now_ms() + 100'000), Status::kStored);
  const std::string value(10'000, 'v');
  // Fills leave no debts, so that all that is older leaves in its order.
  for (int i = 0; i < 1000 && tap.told.empty(); i++) {
    EXPECT_EQ(store.Fill("key" + std::to_string(i), value, false, kNeverExpires), Status::kStored);
  }
  EXPECT_EQ(store->Stats().negative_entries, 0);
  ASSERT_FALSE(tap.told.empty());
  EXPECT_EQ(tap.told[0], "key0");
  store.removals().RemoveTap(&tap);
}

TEST(StoreDebts, ATouchThatComesInIsOfNoNegativeEntry) {
  DebtStore store;
  EXPECT_EQ(store.Fill("key", "", true, store.now_ms() + 100), Status::kStored);
  const uint64_t records = store->RingStatsOf(0).records;
  const RecordView touch = View(RecordKind::kTouch, "key", "", 1, store.now().wall_ms + 50'000);
  EXPECT_EQ(store->Apply(touch, store.now(), Origin::kElsewhere), Status::kNotFound);
  EXPECT_EQ(store->RingStatsOf(0).records, records);
  store.Advance(100);
  EXPECT_EQ(store.Read("key"), Status::kNotResident) << "the touch did not make it longer";
}

TEST(StoreDebts, ANegativeEntryEndsWithItsTimeOrWithAChange) {
  DebtStore store;
  EXPECT_EQ(store.Fill("key", "", true, store.now_ms() + 100), Status::kStored);
  EXPECT_EQ(store.Read("key"), Status::kNotFound);
  EXPECT_EQ(store.Do(TestStore::Make(Verb::kAdd, "key", "v")).status, Status::kStored);
  EXPECT_EQ(store.Get("key").value, "v");
  EXPECT_EQ(store.Fill("other", "", true, store.now_ms() + 100), Status::kStored);
  store.Advance(101);
  EXPECT_EQ(store.Read("other"), Status::kNotResident);
  EXPECT_EQ(store->Stats().negative_entries, 0);
  store->Verify();
}

TEST(StoreDebts, RenumberedStubsKeepTheVersionOfTheirValue) {
  DebtStore store;
  const uint64_t version = store.Set("key", "v").outcome.version;
  store.Evict("key");
  store->Renumber();
  StubInfo info;
  ASSERT_TRUE(store.HasStub("key", &info));
  EXPECT_EQ(info.value_version, version);
  EXPECT_EQ(EpochOf(info.newest_version), 0);
  store->Verify();
}

TEST(StoreDebts, WithoutABackendNothingIsOwed) {
  TestStore store;
  store.RecordAll();
  store.Set("key", "v");
  store.Do(TestStore::Make(Verb::kEvict, "key"));
  store.Delete("other");
  StubInfo info;
  EXPECT_FALSE(store->StubOf("key", store.now(), &info));
  EXPECT_FALSE(store->StubOf("other", store.now(), &info));
  EXPECT_EQ(store.Get("key").status, Status::kNotFound);
  EXPECT_EQ(store->Stats().stubs, 0);
}

}  // namespace
}  // namespace cairn
