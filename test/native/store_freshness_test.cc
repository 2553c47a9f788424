// The end of freshness: from that moment on an entry is absent for every request that does not accept stale entries,
// and stays where it is for those that do. And presence as a type: what each verb answers to what a look-up finds.

#include "store/presence.h"
#include "store/store.h"
#include "support/store_fixture.h"
#include "test.h"

namespace cairn {
namespace {

Request Fresh(Verb verb, std::string_view key, std::string_view value, uint64_t until_ms) {
  Request request = TestStore::Make(verb, key, value);
  request.fresh_until_ms = until_ms;
  return request;
}

Request Accepting(Verb verb, std::string_view key, std::string_view value = {}) {
  Request request = TestStore::Make(verb, key, value);
  request.accepts_stale = true;
  return request;
}

// A store with "key" = "10", stale since a millisecond.
struct StaleStore : TestStore {
  StaleStore() {
    Do(Fresh(Verb::kSet, "key", "10", now_ms() + 5));
    Advance(6);
  }
};

TEST(StoreFreshness, AnEntryIsThereUntilItsFreshnessEnds) {
  TestStore store;
  const uint64_t until = store.now_ms() + 5;
  const Answer set = store.Do(Fresh(Verb::kSet, "key", "value", until));
  EXPECT_EQ(set.outcome.fresh_until_ms, until);
  store.Advance(4);
  EXPECT_EQ(store.Get("key").value, "value");
  EXPECT_EQ(store.Get("key").outcome.fresh_until_ms, until);
  store.Advance(1);
  EXPECT_EQ(store.Get("key").status, Status::kNotFound);
  EXPECT_EQ(store.Peek("key").status, Status::kNotFound);
  EXPECT_FALSE(store.Has("key"));
  char room[64];
  PlainValue plain;
  EXPECT_EQ(store->GetPlain("key", store.now(), room, sizeof room, &plain), Status::kNotFound);
  EXPECT_EQ(store->Stats().entries, 1) << "it is still there";
  EXPECT_EQ(store->Stats().expirations, 0);
  for (Verb verb : {Verb::kGet, Verb::kPeek}) {
    const Answer stale = store.Do(Accepting(verb, "key"));
    EXPECT_EQ(stale.value, "value");
    EXPECT_EQ(stale.outcome.fresh_until_ms, until);
  }
  EXPECT_EQ(store.Do(Accepting(Verb::kHas, "key")).status, Status::kFound);
  store->Verify();
}

TEST(StoreFreshness, AnAtomicBatchSetsItAndAnUpdateInABatchKeepsIt) {
  TestStore store;
  const uint64_t until = store.now_ms() + 500;
  Request set = Fresh(Verb::kSet, "key", "1", until);
  ASSERT_EQ(store->ExecuteAtomic(&set, 1, store.now()).status, Status::kStored);
  EXPECT_EQ(store.Get("key").outcome.fresh_until_ms, until);
  FillTicket ticket;
  ASSERT_TRUE(store->BeginFill("key", FillOf::kAnyKey, store.now(), &ticket));
  Request update = TestStore::Make(Verb::kSet, "key", "2");
  update.fill = &ticket;
  ASSERT_EQ(store->ExecuteAtomic(&update, 1, store.now()).status, Status::kStored);
  store->EndFill("key", &ticket);
  EXPECT_EQ(store.Get("key").value, "2");
  EXPECT_EQ(store.Get("key").outcome.fresh_until_ms, until);
}

TEST(StoreFreshness, ItsEndComesWithoutAnExpiryToReadTheClockFor) {
  TestStore store;
  EXPECT_FALSE(store->uses_time());
  store.Do(Fresh(Verb::kSet, "key", "value", store.now_ms() + 5));
  EXPECT_TRUE(store->uses_time());
}

TEST(StoreFreshness, AConditionalVerbFindsAStaleEntryAbsent) {
  struct {
    Verb verb;
    Status status;
  } const cases[] = {{Verb::kReplace, Status::kNotStored}, {Verb::kAppend, Status::kNotStored},
                     {Verb::kPrepend, Status::kNotStored}, {Verb::kCas, Status::kNotFound},
                     {Verb::kIncr, Status::kNotFound},     {Verb::kDecr, Status::kNotFound},
                     {Verb::kTouch, Status::kNotFound},    {Verb::kGetAndTouch, Status::kNotFound},
                     {Verb::kTake, Status::kNotFound}};
  for (const auto& [verb, status] : cases) {
    StaleStore store;
    Request request = TestStore::Make(verb, "key", "5");
    request.compare = store.Do(Accepting(Verb::kPeek, "key")).outcome.version;
    request.delta = 5;
    EXPECT_EQ(store.Do(request).status, status) << static_cast<int>(verb);
    EXPECT_EQ(store.Do(Accepting(Verb::kPeek, "key")).value, "10") << "and leaves it to those that accept it";
    request.accepts_stale = true;
    const Status accepted = store.Do(request).status;
    EXPECT_TRUE(accepted == Status::kStored || accepted == Status::kFound) << static_cast<int>(verb);
    store->Verify();
  }
}

TEST(StoreFreshness, AStoreTakesTheStaleEntrysPlace) {
  for (Verb verb : {Verb::kSet, Verb::kAdd, Verb::kIncr}) {
    for (size_t bytes : {size_t{1}, size_t{300}, size_t{40'000}}) {
      StaleStore store;
      store.removals().Take();
      const std::string value(bytes, '7');
      Request request = TestStore::Make(verb, "key", value);
      request.has_initial = true;
      request.initial = 7;
      const Status status = store.Do(request).status;
      EXPECT_EQ(status, Status::kStored) << static_cast<int>(verb);
      EXPECT_EQ(store.Get("key").value.substr(0, 1), "7");
      EXPECT_EQ(store.Get("key").outcome.fresh_until_ms, kAlwaysFresh);
      EXPECT_EQ(store->Stats().entries, 1);
      EXPECT_EQ(store.removals().TakeKeys(Reason::kReplaced), std::vector<std::string>{"key"});
      store->Verify();
    }
  }
}

TEST(StoreFreshness, AStaleExpiryIsNotKept) {
  TestStore store;
  Request request = Fresh(Verb::kSet, "key", "v", store.now_ms() + 5);
  request.expires_ms = store.now_ms() + 1000;
  store.Do(request);
  store.Advance(6);
  request = TestStore::Make(Verb::kSet, "key", "w");
  request.expires_ms = kKeepExpiry;
  EXPECT_EQ(store.Do(request).outcome.expires_ms, kNeverExpires);
}

TEST(StoreFreshness, AKeptExpiryIsKeptWithItsFreshness) {
  TestStore store;
  for (size_t bytes : {size_t{1}, size_t{300}, size_t{40'000}}) {
    for (uint64_t fresh_ms : {uint64_t{0}, uint64_t{500}}) {
      for (Verb verb : {Verb::kSet, Verb::kReplace, Verb::kCas}) {
        const uint64_t until = fresh_ms == 0 ? kAlwaysFresh : store.now_ms() + fresh_ms;
        Request request = Fresh(Verb::kSet, "key", "v", until);
        request.expires_ms = store.now_ms() + 1000;
        const uint64_t expires = request.expires_ms;
        const std::string value(bytes, 'w');
        Request next = TestStore::Make(verb, "key", value);
        next.compare = store.Do(request).outcome.version;
        next.expires_ms = kKeepExpiry;
        const Answer stored = store.Do(next);
        EXPECT_EQ(stored.status, Status::kStored);
        EXPECT_EQ(stored.outcome.expires_ms, expires);
        EXPECT_EQ(stored.outcome.fresh_until_ms, until);
        EXPECT_EQ(store.Get("key").outcome.fresh_until_ms, until);
      }
    }
  }
}

TEST(StoreFreshness, AValueThatComesInPiecesKeepsTheFreshnessThatItFindsAtItsEnd) {
  TestStore store;
  const std::string value(100'000, 'w');
  for (const bool stale : {false, true}) {
    for (uint64_t until : {uint64_t{kAlwaysFresh}, store.now_ms() + 500}) {
      Request next = TestStore::Make(Verb::kSet, "key", {});
      next.expires_ms = kKeepExpiry;
      next.keep_else_ms = store.now_ms() + 700;
      Body body;
      ASSERT_EQ(store->Reserve(next, static_cast<uint32_t>(value.size()), store.now(), &body), Status::kStored);
      ASSERT_TRUE(store->WriteBody(body, 0, value));
      Request before = Fresh(Verb::kSet, "key", "v", stale ? store.now_ms() : until);
      before.expires_ms = store.now_ms() + 1000;
      store.Do(before);
      Outcome outcome;
      store->Link(&body, next, store.now(), &outcome);
      ASSERT_EQ(outcome.status, Status::kStored);
      EXPECT_EQ(outcome.expires_ms, stale ? next.keep_else_ms : before.expires_ms);
      EXPECT_EQ(outcome.fresh_until_ms, stale ? kAlwaysFresh : until);
      EXPECT_TRUE(store.Get("key").value == value);
      EXPECT_EQ(store.Get("key").outcome.fresh_until_ms, outcome.fresh_until_ms);
      store->Verify();
    }
  }
}

TEST(StoreFreshness, AnExpiryThatIsNotThereToBeKeptIsTheOneGiven) {
  TestStore store;
  for (Verb verb : {Verb::kSet, Verb::kAdd, Verb::kIncr}) {
    Request request = TestStore::Make(verb, "key", "1");
    request.has_initial = true;
    request.expires_ms = kKeepExpiry;
    request.keep_else_ms = store.now_ms() + 700;
    EXPECT_EQ(store.Do(request).outcome.expires_ms, request.keep_else_ms);
    store.Delete("key");
  }
  EXPECT_EQ(store->uses_time(), true);
}

// Of every size around the edges of the size classes: the field may go, stay, or have been what made the value too long
// for one piece.
TEST(StoreFreshness, ATouchMakesAnEntryFresh) {
  TestStore store;
  for (size_t bytes = 0; bytes < 10'000; bytes += bytes < 400 || (bytes > 900 && bytes < 1100) ? 1 : 7) {
    for (uint64_t before : {uint64_t{0}, uint64_t{900}}) {
      for (uint64_t after : {kNeverExpires, uint64_t{800}, kKeepExpiry}) {
        const auto at = [&](uint64_t ms) { return ms == 0 || ms == kKeepExpiry ? ms : store.now_ms() + ms; };
        const uint64_t until = store.now_ms() + 500;
        const std::string value = PatternBytes(bytes, 7);
        Request set = Fresh(Verb::kSet, "key", value, until);
        set.expires_ms = at(before);
        ASSERT_EQ(store.Do(set).status, Status::kStored);
        Request touch = TestStore::Make(Verb::kTouch, "key");
        touch.expires_ms = at(after);
        const Answer touched = store.Do(touch);
        ASSERT_EQ(touched.status, Status::kFound);
        EXPECT_EQ(touched.outcome.expires_ms, after == kKeepExpiry ? at(before) : at(after));
        EXPECT_EQ(touched.outcome.fresh_until_ms, after == kKeepExpiry ? until : kAlwaysFresh);
        ASSERT_EQ(store.Do(TestStore::Make(Verb::kAppend, "key", "+")).status, Status::kStored);
        ASSERT_EQ(store.Do(touch).status, Status::kFound);
        const Answer got = store.Get("key");
        EXPECT_TRUE(got.value == value + "+");
        EXPECT_EQ(got.outcome.fresh_until_ms, touched.outcome.fresh_until_ms);
        store->Verify();
      }
    }
  }
}

TEST(StoreFreshness, ATouchOfAStaleEntryIsForThoseThatAcceptIt) {
  StaleStore store;
  Request touch = TestStore::Make(Verb::kTouch, "key");
  EXPECT_EQ(store.Do(touch).status, Status::kNotFound);
  touch.accepts_stale = true;
  EXPECT_EQ(store.Do(touch).status, Status::kFound);
  EXPECT_EQ(store.Get("key").value, "10");
}

TEST(StoreFreshness, ADeleteTakesAStaleEntryOutAndSaysThatThereWasNone) {
  StaleStore store;
  Request of_a_version = TestStore::Make(Verb::kDelete, "key");
  of_a_version.has_compare = true;
  of_a_version.compare = store.Do(Accepting(Verb::kPeek, "key")).outcome.version;
  EXPECT_EQ(store.Do(of_a_version).status, Status::kNotFound);
  EXPECT_EQ(store->Stats().entries, 1);
  EXPECT_EQ(store.Delete("key").status, Status::kNotFound);
  EXPECT_EQ(store->Stats().entries, 0);
  StaleStore other;
  EXPECT_EQ(other.Do(TestStore::Make(Verb::kEvict, "key")).status, Status::kFound) << "memory is what it is about";
  EXPECT_EQ(other->Stats().entries, 0);
}

TEST(StoreFreshness, AChangedValueKeepsItAndANewOneHasItsOwn) {
  for (size_t bytes : {size_t{2}, size_t{40'000}}) {
    TestStore store;
    const uint64_t until = store.now_ms() + 500;
    const std::string value(bytes, '1');
    store.Do(Fresh(Verb::kSet, "key", value, until));
    for (Verb verb : {Verb::kAppend, Verb::kPrepend}) {
      Request request = TestStore::Make(verb, "key", "2");
      request.expires_ms = store.now_ms() + 900;
      store.Do(request);
      EXPECT_EQ(store.Get("key").outcome.fresh_until_ms, until) << static_cast<int>(verb);
      store->Verify();
    }
    if (bytes < 10) EXPECT_EQ(store.Incr("key", 1).status, Status::kFound);
    EXPECT_EQ(store.Get("key").outcome.fresh_until_ms, until);
    store.Set("key", "new");
    EXPECT_EQ(store.Get("key").outcome.fresh_until_ms, kAlwaysFresh);
  }
}

TEST(StoreFreshness, ABodyHasItToo) {
  TestStore store;
  const uint64_t until = store.now_ms() + 5;
  const Request request = Fresh(Verb::kSet, "key", {}, until);
  Body body;
  ASSERT_EQ(store->Reserve(request, 50'000, store.now(), &body), Status::kStored);
  store->WriteBody(body, 0, std::string(50'000, 'b'));
  Outcome outcome;
  store->Link(&body, request, store.now(), &outcome);
  EXPECT_EQ(outcome.fresh_until_ms, until);
  store.Advance(5);
  EXPECT_FALSE(store.Has("key"));
  EXPECT_EQ(store.Do(Accepting(Verb::kGet, "key")).value, std::string(50'000, 'b'));
  store->Verify();
}

TEST(StoreFreshness, AWalkEmitsStaleEntriesToThoseThatAcceptThem) {
  StaleStore store;
  for (bool accepts : {false, true}) {
    Cursor cursor;
    store->OpenCursor(Cursor::Order::kOldestFirst, &cursor);
    cursor.accepts_stale = accepts;
    char bytes[100];
    Scratch scratch{bytes, sizeof bytes, 0};
    WalkedEntry entry;
    bool done = false;
    size_t needed = 0;
    EXPECT_EQ(store->StepCursor(&cursor, store.now(), Emits::kKeysAndValues, &entry, 1, &scratch, &done, &needed),
              accepts ? 1 : 0);
    if (accepts) EXPECT_EQ(entry.fresh_until_ms, store.now_ms() - 1);
    store->CloseCursor(&cursor);
  }
}

TEST(StoreFreshness, ALoadBeginsForAKeyThatIsStale) {
  StaleStore store;
  FillTicket ticket;
  EXPECT_TRUE(store->BeginFill("key", FillOf::kAbsentKey, store.now(), &ticket));
  store->EndFill("key", &ticket);
}

// An absence that a reader was told must not be taken back by a crash: with a log it waits for what made it.
TEST(StoreFreshness, TheAbsenceOfAStaleEntryWaitsForItsRecord) {
  TestStore store;
  store.RecordAll();
  const Answer set = store.Do(Fresh(Verb::kSet, "key", "v", store.now_ms() + 5));
  store.Advance(6);
  EXPECT_EQ(store.Get("key").outcome.commit_version, set.outcome.version);
  EXPECT_EQ(store.Peek("key").outcome.commit_version, set.outcome.version);
}

}  // namespace
}  // namespace cairn
