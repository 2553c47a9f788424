// What each verb makes of what is under its key (store/presence.h): the table itself, and every door of a store with a
// backend.

#include "store/presence.h"

#include <array>
#include <string>

#include "store/fill_watch.h"
#include "store/store.h"
#include "support/store_fixture.h"
#include "test.h"

namespace cairn {
namespace {

constexpr Status kGoesOn = Status::kStored;
constexpr Status kElsewhere = Status::kNotResident;

struct Row {
  Verb verb;
  Status absent, live, stub, unknown;
};
constexpr Row kRows[] = {
    {Verb::kGet, Status::kNotFound, kGoesOn, kElsewhere, kElsewhere},
    {Verb::kPeek, Status::kNotFound, kGoesOn, kElsewhere, kElsewhere},
    {Verb::kHas, Status::kNotFound, kGoesOn, kElsewhere, kElsewhere},
    {Verb::kSet, kGoesOn, kGoesOn, kGoesOn, kGoesOn},
    {Verb::kAdd, kGoesOn, Status::kNotStored, kElsewhere, kElsewhere},
    {Verb::kReplace, Status::kNotStored, kGoesOn, kElsewhere, kElsewhere},
    {Verb::kAppend, Status::kNotStored, kGoesOn, kElsewhere, kElsewhere},
    {Verb::kPrepend, Status::kNotStored, kGoesOn, kElsewhere, kElsewhere},
    {Verb::kCas, Status::kNotFound, kGoesOn, kElsewhere, kElsewhere},
    {Verb::kIncr, Status::kNotFound, kGoesOn, kElsewhere, kElsewhere},
    {Verb::kDecr, Status::kNotFound, kGoesOn, kElsewhere, kElsewhere},
    {Verb::kTouch, Status::kNotFound, kGoesOn, kElsewhere, kElsewhere},
    {Verb::kGetAndTouch, Status::kNotFound, kGoesOn, kElsewhere, kElsewhere},
    {Verb::kDelete, Status::kNotFound, kGoesOn, kGoesOn, kGoesOn},
    {Verb::kTake, Status::kNotFound, kGoesOn, kElsewhere, kElsewhere},
    {Verb::kEvict, Status::kNotFound, kGoesOn, Status::kNotFound, Status::kNotFound},
};

bool IsRead(Verb verb) { return verb == Verb::kGet || verb == Verb::kPeek || verb == Verb::kHas; }

TEST(Presence, EveryVerbHasItsAnswer) {
  for (const Row& row : kRows) {
    Request request;
    request.verb = row.verb;
    request.reads_through = true;
    const int verb = static_cast<int>(row.verb);
    EXPECT_EQ(MeetPresence(request, Presence::kAbsent), row.absent) << verb;
    EXPECT_EQ(MeetPresence(request, Presence::kStale), row.absent) << verb;
    EXPECT_EQ(MeetPresence(request, Presence::kLive), row.live) << verb;
    EXPECT_EQ(MeetPresence(request, Presence::kStub), row.stub) << verb;
    EXPECT_EQ(MeetPresence(request, Presence::kUnknown), row.unknown) << verb;
    request.reads_through = false;
    EXPECT_EQ(MeetPresence(request, Presence::kStub), row.stub) << verb;
    EXPECT_EQ(MeetPresence(request, Presence::kUnknown), IsRead(row.verb) ? Status::kNotFound : row.unknown) << verb;
  }
}

TEST(Presence, AComparisonNeedsTheValueThatMayBeElsewhere) {
  for (const Verb verb : {Verb::kSet, Verb::kDelete}) {
    Request request;
    request.verb = verb;
    request.has_compare = true;
    EXPECT_EQ(MeetPresence(request, Presence::kStub), kElsewhere);
    EXPECT_EQ(MeetPresence(request, Presence::kUnknown), kElsewhere);
    EXPECT_EQ(MeetPresence(request, Presence::kLive), kGoesOn);
  }
}

TestStore Backed() {
  StoreOptions options = TestStore::Tiny();
  options.has_backend = true;
  return TestStore(options);
}

Request On(Verb verb, std::string_view key, bool reads_through) {
  Request request = TestStore::Make(verb, key, "1");
  request.reads_through = reads_through;
  return request;
}

TEST(StoreBackend, AKeyWithoutAnEntryIsUnknownToEveryVerb) {
  for (const Row& row : kRows) {
    for (const bool reads_through : {false, true}) {
      TestStore store(Backed());
      const Answer answer = store.Do(On(row.verb, "key", reads_through));
      Status expected = IsRead(row.verb) && !reads_through ? Status::kNotFound : row.unknown;
      if (row.verb == Verb::kDelete) expected = Status::kFound;
      EXPECT_EQ(answer.status, expected) << static_cast<int>(row.verb) << reads_through;
      store->Verify();
    }
  }
}

TEST(StoreBackend, TheOtherDoorsKnowAnUnknownKeyToo) {
  TestStore store(Backed());
  char room[16];
  PlainValue value;
  EXPECT_EQ(store->GetPlain("key", store.now(), room, sizeof room, &value), Status::kNeedsRoom) << "Execute() decides";
  const Request requests[] = {On(Verb::kGet, "key", true), On(Verb::kIncr, "key", false),
                              On(Verb::kSet, "other", false), On(Verb::kGet, "other", true)};
  std::array<Outcome, 4> outcomes;
  char bytes[64];
  Scratch scratch{bytes, sizeof bytes, 0};
  store->ExecuteMany(requests, 4, store.now(), &scratch, outcomes.data());
  EXPECT_EQ(outcomes[0].status, Status::kNotResident);
  EXPECT_EQ(outcomes[1].status, Status::kNotResident);
  EXPECT_EQ(outcomes[2].status, Status::kStored);
  EXPECT_EQ(outcomes[3].status, Status::kFound);
  // A value that comes in pieces, and an append, which have doors of their own.
  Request add = On(Verb::kAdd, "body", false);
  Body body;
  ASSERT_EQ(store->Reserve(add, 100'000, store.now(), &body), Status::kStored);
  Outcome outcome;
  store->Link(&body, add, store.now(), &outcome);
  EXPECT_EQ(outcome.status, Status::kNotResident);
  EXPECT_EQ(store.Do(On(Verb::kAppend, "body", false)).status, Status::kNotResident);
  store->Verify();
}

TEST(StoreBackend, AnEntryThatLeftIsUnknown) {
  TestStore store(Backed());
  store.Set("evicted", "v");
  store.Do(On(Verb::kEvict, "evicted", false));
  EXPECT_EQ(store.Do(On(Verb::kGet, "evicted", true)).status, Status::kNotResident);
  store.Set("expired", "v", store.now_ms() + 1);
  store.Advance(2);
  EXPECT_EQ(store.Do(On(Verb::kPeek, "expired", true)).status, Status::kNotResident);
  EXPECT_EQ(store.Do(On(Verb::kGet, "expired", true)).status, Status::kNotResident);
  store.Set("cleared", "v");
  store->Clear(store.now());
  EXPECT_EQ(store.Do(On(Verb::kHas, "cleared", true)).status, Status::kNotResident);
  EXPECT_EQ(store.Do(On(Verb::kHas, "cleared", false)).status, Status::kNotFound);
}

Request FillOfBackend(std::string_view key, std::string_view value, FillTicket* ticket) {
  Request request = TestStore::Make(Verb::kSet, key, value);
  request.fill = ticket;
  request.from_backend = true;
  return request;
}

TEST(StoreBackend, AFillIsStoredWithoutARecord) {
  StoreOptions options = TestStore::Tiny();
  options.has_backend = true;
  TestStore store(options);
  store.RecordAll();
  FillTicket ticket;
  ASSERT_TRUE(store->BeginFill("key", FillOf::kAbsentKey, store.now(), &ticket));
  const Answer answer = store.Do(FillOfBackend("key", "row", &ticket));
  store->EndFill("key", &ticket);
  EXPECT_EQ(answer.status, Status::kStored);
  EXPECT_EQ(answer.outcome.record_version, 0);
  EXPECT_EQ(store.Get("key").value, "row");
  EXPECT_EQ(store->RingStatsOf(0).records, 0);
  EXPECT_GT(store.Get("key").outcome.version, 0) << "a cas token";
  store.Set("next", "v");
  EXPECT_EQ(store->RingStatsOf(0).records, 1) << "other changes leave records again";
}

TEST(StoreBackend, AFillDoesNotReplaceAnEntry) {
  TestStore store(Backed());
  FillTicket ticket;
  ASSERT_TRUE(store->BeginFill("key", FillOf::kAbsentKey, store.now(), &ticket));
  store.Set("key", "newer");
  EXPECT_EQ(store.Do(FillOfBackend("key", "row", &ticket)).status, Status::kExists) << "the ticket is void";
  store->EndFill("key", &ticket);
  ASSERT_TRUE(store->BeginFill("key", FillOf::kAnyKey, store.now(), &ticket));
  EXPECT_EQ(store.Do(FillOfBackend("key", "row", &ticket)).status, Status::kExists) << "the key has an entry";
  store->EndFill("key", &ticket);
  EXPECT_EQ(store.Get("key").value, "newer");
}

TEST(StoreBackend, AFillThatFindsNoRoomChangesNothing) {
  TestStore store(Backed());
  store.RecordAll();
  FillTicket ticket;
  ASSERT_TRUE(store->BeginFill("key", FillOf::kAbsentKey, store.now(), &ticket));
  const std::string large(store->value_bytes_max() + 1, 'v');
  EXPECT_EQ(store.Do(FillOfBackend("key", large, &ticket)).status, Status::kTooLarge);
  store->EndFill("key", &ticket);
  EXPECT_EQ(store->RingStatsOf(0).records, 0) << "the backend has the value: nothing was deleted";
  EXPECT_EQ(store.Do(On(Verb::kGet, "key", true)).status, Status::kNotResident);
}

TEST(StoreBackend, WithoutABackendNothingIsUnknown) {
  TestStore store;
  for (const Row& row : kRows) {
    const Status status = store.Do(On(row.verb, "key" + std::to_string(static_cast<int>(row.verb)), true)).status;
    EXPECT_EQ(status, row.absent) << static_cast<int>(row.verb);
  }
}

}  // namespace
}  // namespace cairn
