// Every verb on every state of a key that it tells apart: absent, present, expired, of another version, of a codec or
// content that it cannot work on.

#include "store/store.h"
#include "support/store_fixture.h"
#include "test.h"

namespace cairn {
namespace {

Request With(Verb verb, std::string_view key, std::string_view value = {}) { return TestStore::Make(verb, key, value); }

TEST(StoreVerbs, GetOfAnAbsentKeyIsNotFound) {
  TestStore store;
  const Answer answer = store.Get("absent");
  EXPECT_EQ(answer.status, Status::kNotFound);
  EXPECT_FALSE(answer.outcome.has_value);
  EXPECT_EQ(answer.outcome.version, 0);
  EXPECT_EQ(answer.outcome.record_version, 0);
}

TEST(StoreVerbs, GetReturnsWhatSetStored) {
  TestStore store;
  const Answer set = store.Set("key", "value", kNeverExpires, 0xfeedbeef, Codec::kJson);
  EXPECT_EQ(set.status, Status::kStored);
  EXPECT_GT(set.outcome.version, 0);
  const Answer get = store.Get("key");
  EXPECT_EQ(get.status, Status::kFound);
  EXPECT_EQ(get.value, "value");
  EXPECT_EQ(get.outcome.client_flags, 0xfeedbeef);
  EXPECT_EQ(get.outcome.codec, Codec::kJson);
  EXPECT_EQ(get.outcome.version, set.outcome.version);
  EXPECT_EQ(get.outcome.expires_ms, kNeverExpires);
}

TEST(StoreVerbs, AnEmptyValueIsAValue) {
  TestStore store;
  store.Set("key", "");
  const Answer get = store.Get("key");
  EXPECT_EQ(get.status, Status::kFound);
  EXPECT_TRUE(get.outcome.has_value);
  EXPECT_EQ(get.outcome.value_bytes, 0);
}

TEST(StoreVerbs, KeysAndValuesMayHoldAnyBytes) {
  TestStore store;
  std::string key, value;
  for (int i = 0; i < 250; ++i) key.push_back(static_cast<char>(i));
  for (int i = 255; i >= 0; --i) value.push_back(static_cast<char>(i));
  store.Set(key, value);
  EXPECT_EQ(store.Get(key).value, value);
  EXPECT_FALSE(store.Has(key.substr(0, 249)));
}

TEST(StoreVerbs, EveryCodecIsKept) {
  TestStore store;
  for (int codec = 0; codec < kCodecCount; ++codec) {
    store.Set("key", "v", kNeverExpires, 0, static_cast<Codec>(codec));
    EXPECT_EQ(store.Get("key").outcome.codec, static_cast<Codec>(codec));
  }
}

TEST(StoreVerbs, TheFirstFetchIsTold) {
  TestStore store;
  store.Set("key", "value");
  EXPECT_FALSE(store.Get("key").outcome.fetched);
  EXPECT_TRUE(store.Get("key").outcome.fetched);
  store.Set("key", "other");
  EXPECT_FALSE(store.Get("key").outcome.fetched) << "a set makes it a new entry";
}

TEST(StoreVerbs, PeekAndHasDoNotCountAsAFetch) {
  TestStore store;
  store.Set("key", "value");
  EXPECT_EQ(store.Peek("key").value, "value");
  EXPECT_TRUE(store.Has("key"));
  EXPECT_FALSE(store.Get("key").outcome.fetched);
}

TEST(StoreVerbs, AGetThatDoesNotBumpDoesNotCountAsAFetch) {
  TestStore store;
  store.Set("key", "value");
  Request request = With(Verb::kGet, "key");
  request.no_bump = true;
  EXPECT_EQ(store.Do(request).value, "value");
  EXPECT_FALSE(store.Get("key").outcome.fetched);
}

TEST(StoreVerbs, AGetWithoutValueTellsTheMetadataOnly) {
  TestStore store;
  store.Set("key", "value", store.now_ms() + 5000, 7);
  Request request = With(Verb::kGet, "key");
  request.no_value = true;
  const Answer answer = store.Do(request);
  EXPECT_EQ(answer.status, Status::kFound);
  EXPECT_FALSE(answer.outcome.has_value);
  EXPECT_EQ(answer.outcome.value_bytes, 5);
  EXPECT_EQ(answer.outcome.client_flags, 7);
  EXPECT_EQ(answer.outcome.expires_ms, store.now_ms() + 5000);
}

TEST(StoreVerbs, HasTellsPresenceWithoutTheValue) {
  TestStore store;
  EXPECT_EQ(store.Do(With(Verb::kHas, "key")).status, Status::kNotFound);
  store.Set("key", "value");
  const Answer answer = store.Do(With(Verb::kHas, "key"));
  EXPECT_EQ(answer.status, Status::kFound);
  EXPECT_FALSE(answer.outcome.has_value);
}

TEST(StoreVerbs, AHitWithoutRoomForItsValueChangesNothing) {
  TestStore store;
  store.Set("key", "0123456789");
  for (Verb verb : {Verb::kGet, Verb::kPeek, Verb::kTake, Verb::kGetAndTouch}) {
    char bytes[9];
    Scratch scratch{bytes, sizeof bytes, 0};
    Outcome outcome;
    Request request = With(verb, "key");
    request.expires_ms = store.now_ms() + 1;
    store->Execute(request, store.now(), &scratch, &outcome);
    EXPECT_EQ(outcome.status, Status::kNeedsRoom);
    EXPECT_EQ(outcome.value_bytes, 10);
    EXPECT_EQ(scratch.used, 0);
  }
  const Answer get = store.Get("key");
  EXPECT_EQ(get.value, "0123456789");
  EXPECT_FALSE(get.outcome.fetched);
  EXPECT_EQ(get.outcome.expires_ms, kNeverExpires);
}

TEST(StoreVerbs, ValuesFollowOneAnotherInTheScratch) {
  TestStore store;
  store.Set("a", "first");
  store.Set("b", "second");
  char bytes[64];
  Scratch scratch{bytes, sizeof bytes, 3};
  Outcome a, b;
  store->Execute(With(Verb::kGet, "a"), store.now(), &scratch, &a);
  store->Execute(With(Verb::kGet, "b"), store.now(), &scratch, &b);
  EXPECT_GE(a.value_offset, 3);
  EXPECT_GE(b.value_offset, a.value_offset + 5);
  EXPECT_EQ(std::string_view(bytes + a.value_offset, 5), "first");
  EXPECT_EQ(std::string_view(bytes + b.value_offset, 6), "second");
  EXPECT_GE(scratch.used, b.value_offset + 6);
}

TEST(StoreVerbs, SetReplacesValueFlagsCodecAndExpiry) {
  TestStore store;
  const Answer first = store.Set("key", "long first value", store.now_ms() + 100, 1, Codec::kJson);
  const Answer second = store.Set("key", "second");
  EXPECT_GT(second.outcome.version, first.outcome.version);
  const Answer get = store.Get("key");
  EXPECT_EQ(get.value, "second");
  EXPECT_EQ(get.outcome.client_flags, 0);
  EXPECT_EQ(get.outcome.codec, Codec::kRaw);
  EXPECT_EQ(get.outcome.expires_ms, kNeverExpires);
  EXPECT_EQ(store->entries(), 1);
}

TEST(StoreVerbs, ASetCanKeepTheExpiry) {
  TestStore store;
  const uint64_t expires = store.now_ms() + 5000;
  store.Set("key", "first", expires);
  store.Set("key", "second", kKeepExpiry);
  EXPECT_EQ(store.Get("key").value, "second");
  EXPECT_EQ(store.Get("key").outcome.expires_ms, expires);
  store.Set("new", "value", kKeepExpiry);
  EXPECT_EQ(store.Get("new").outcome.expires_ms, kNeverExpires);
}

TEST(StoreVerbs, AddStoresOnlyWhatIsAbsent) {
  TestStore store;
  EXPECT_EQ(store.Do(With(Verb::kAdd, "key", "first")).status, Status::kStored);
  EXPECT_EQ(store.Do(With(Verb::kAdd, "key", "second")).status, Status::kNotStored);
  EXPECT_EQ(store.Get("key").value, "first");
}

TEST(StoreVerbs, ReplaceStoresOnlyOverWhatIsPresent) {
  TestStore store;
  EXPECT_EQ(store.Do(With(Verb::kReplace, "key", "first")).status, Status::kNotStored);
  EXPECT_FALSE(store.Has("key"));
  store.Set("key", "first");
  EXPECT_EQ(store.Do(With(Verb::kReplace, "key", "second")).status, Status::kStored);
  EXPECT_EQ(store.Get("key").value, "second");
}

TEST(StoreVerbs, AppendAndPrependExtendAndKeepFlagsAndExpiry) {
  TestStore store;
  const uint64_t expires = store.now_ms() + 5000;
  store.Set("key", "middle", expires, 42);
  const Answer append = store.Do(With(Verb::kAppend, "key", "-end"));
  EXPECT_EQ(append.status, Status::kStored);
  const Answer prepend = store.Do(With(Verb::kPrepend, "key", "start-"));
  EXPECT_EQ(prepend.status, Status::kStored);
  EXPECT_GT(prepend.outcome.version, append.outcome.version);
  const Answer get = store.Get("key");
  EXPECT_EQ(get.value, "start-middle-end");
  EXPECT_EQ(get.outcome.client_flags, 42);
  EXPECT_EQ(get.outcome.expires_ms, expires);
}

TEST(StoreVerbs, AppendAndPrependNeedAPresentKey) {
  TestStore store;
  EXPECT_EQ(store.Do(With(Verb::kAppend, "key", "x")).status, Status::kNotStored);
  EXPECT_EQ(store.Do(With(Verb::kPrepend, "key", "x")).status, Status::kNotStored);
  EXPECT_FALSE(store.Has("key"));
}

TEST(StoreVerbs, AppendWorksOnTextAndBytesOnly) {
  TestStore store;
  for (Codec codec : {Codec::kNumber, Codec::kBigInt, Codec::kJson, Codec::kStructured}) {
    store.Set("key", "12", kNeverExpires, 0, codec);
    EXPECT_EQ(store.Do(With(Verb::kAppend, "key", "3")).status, Status::kNotStored) << static_cast<int>(codec);
    EXPECT_EQ(store.Do(With(Verb::kPrepend, "key", "3")).status, Status::kNotStored) << static_cast<int>(codec);
    EXPECT_EQ(store.Get("key").value, "12");
  }
  for (Codec codec : {Codec::kRaw, Codec::kAscii, Codec::kUtf8, Codec::kWtf8}) {
    store.Set("key", "12", kNeverExpires, 0, codec);
    Request request = With(Verb::kAppend, "key", "3");
    request.codec = codec;
    EXPECT_EQ(store.Do(request).status, Status::kStored) << static_cast<int>(codec);
    EXPECT_EQ(store.Get("key").value, "123");
    EXPECT_EQ(store.Get("key").outcome.codec, codec);
  }
}

TEST(StoreVerbs, CasStoresOnlyOverTheVersionItNames) {
  TestStore store;
  Request request = With(Verb::kCas, "key", "new");
  request.compare = 1;
  EXPECT_EQ(store.Do(request).status, Status::kNotFound);
  const uint64_t version = store.Set("key", "old").outcome.version;
  request.compare = version + 1;
  EXPECT_EQ(store.Do(request).status, Status::kExists);
  EXPECT_EQ(store.Get("key").value, "old");
  request.compare = version;
  const Answer stored = store.Do(request);
  EXPECT_EQ(stored.status, Status::kStored);
  EXPECT_GT(stored.outcome.version, version);
  EXPECT_EQ(store.Get("key").value, "new");
  EXPECT_EQ(store.Do(request).status, Status::kExists) << "the old version is used up";
}

TEST(StoreVerbs, AnyChangeCanDependOnTheVersion) {
  for (Verb verb : {Verb::kSet, Verb::kReplace, Verb::kAppend, Verb::kPrepend, Verb::kIncr, Verb::kDecr, Verb::kTouch,
                    Verb::kDelete}) {
    TestStore store;
    const uint64_t version = store.Set("key", "10").outcome.version;
    Request request = With(verb, "key", "5");
    request.has_compare = true;
    request.compare = version + 1;
    request.expires_ms = store.now_ms() + 10;
    EXPECT_EQ(store.Do(request).status, Status::kExists) << static_cast<int>(verb);
    const Answer get = store.Get("key");
    EXPECT_EQ(get.value, "10");
    EXPECT_EQ(get.outcome.version, version);
    EXPECT_EQ(get.outcome.expires_ms, kNeverExpires);
    request.compare = version;
    const Status status = store.Do(request).status;
    EXPECT_TRUE(status == Status::kStored || status == Status::kFound) << static_cast<int>(verb);
  }
}

TEST(StoreVerbs, IncrAndDecrCountInDecimal) {
  TestStore store;
  store.Set("key", "9", store.now_ms() + 5000, 3);
  const Answer incr = store.Incr("key", 1);
  EXPECT_EQ(incr.status, Status::kFound);
  EXPECT_EQ(incr.outcome.number, 10);
  EXPECT_EQ(store.Get("key").value, "10");
  Request decr = With(Verb::kDecr, "key");
  decr.delta = 4;
  EXPECT_EQ(store.Do(decr).outcome.number, 6);
  const Answer get = store.Get("key");
  EXPECT_EQ(get.value, "6");
  EXPECT_EQ(get.outcome.client_flags, 3);
  EXPECT_EQ(get.outcome.expires_ms, store.now_ms() + 5000);
}

TEST(StoreVerbs, ADecrThatGetsShorterCanKeepTheLength) {
  TestStore store;
  store.Set("key", "100");
  Request decr = With(Verb::kDecr, "key");
  decr.delta = 91;
  decr.pad_decimal = true;
  EXPECT_EQ(store.Do(decr).outcome.number, 9);
  EXPECT_EQ(store.Get("key").value, "9  ");
  EXPECT_EQ(store.Incr("key", 1).outcome.number, 10) << "the blanks do not count";
}

TEST(StoreVerbs, DecrStopsAtZeroAndIncrWraps) {
  TestStore store;
  store.Set("key", "5");
  Request decr = With(Verb::kDecr, "key");
  decr.delta = 6;
  EXPECT_EQ(store.Do(decr).outcome.number, 0);
  store.Set("key", "18446744073709551615");
  EXPECT_EQ(store.Incr("key", 3).outcome.number, 2);
  EXPECT_EQ(store.Get("key").value, "2");
}

TEST(StoreVerbs, IncrOfWhatIsNotANumberIsRefused) {
  TestStore store;
  for (std::string_view value : {"", "x", "-1", "1x", "18446744073709551616", "111111111111111111111"}) {
    store.Set("key", value);
    EXPECT_EQ(store.Incr("key", 1).status, Status::kNonNumeric) << value;
    EXPECT_EQ(store.Get("key").value, value);
  }
}

TEST(StoreVerbs, IncrOfAnAbsentKeyIsNotFoundUnlessItHasAnInitialValue) {
  TestStore store;
  EXPECT_EQ(store.Incr("key", 5).status, Status::kNotFound);
  Request request = With(Verb::kIncr, "key");
  request.delta = 5;
  request.has_initial = true;
  request.initial = 100;
  request.codec = Codec::kNumber;
  request.client_flags = 9;
  request.expires_ms = store.now_ms() + 700;
  const Answer stored = store.Do(request);
  EXPECT_EQ(stored.status, Status::kStored);
  EXPECT_EQ(stored.outcome.number, 100);
  const Answer get = store.Get("key");
  EXPECT_EQ(get.value, "100");
  EXPECT_EQ(get.outcome.codec, Codec::kNumber);
  EXPECT_EQ(get.outcome.client_flags, 9);
  EXPECT_EQ(get.outcome.expires_ms, store.now_ms() + 700);
  EXPECT_EQ(store.Do(request).outcome.number, 105);
}

TEST(StoreVerbs, TouchSetsTheExpiryAndKeepsTheVersion) {
  TestStore store;
  const uint64_t version = store.Set("key", "value").outcome.version;
  Request request = With(Verb::kTouch, "key");
  request.expires_ms = store.now_ms() + 50;
  const Answer touch = store.Do(request);
  EXPECT_EQ(touch.status, Status::kFound);
  EXPECT_FALSE(touch.outcome.has_value);
  EXPECT_EQ(touch.outcome.version, version);
  EXPECT_GT(touch.outcome.record_version, version);
  EXPECT_EQ(store.Get("key").outcome.expires_ms, store.now_ms() + 50);
  request.expires_ms = kNeverExpires;
  EXPECT_EQ(store.Do(request).status, Status::kFound);
  EXPECT_EQ(store.Get("key").outcome.expires_ms, kNeverExpires);
  EXPECT_EQ(store.Do(With(Verb::kTouch, "absent")).status, Status::kNotFound);
}

TEST(StoreVerbs, GetAndTouchDoesBoth) {
  TestStore store;
  store.Set("key", "value");
  Request request = With(Verb::kGetAndTouch, "key");
  request.expires_ms = store.now_ms() + 50;
  const Answer answer = store.Do(request);
  EXPECT_EQ(answer.status, Status::kFound);
  EXPECT_EQ(answer.value, "value");
  EXPECT_EQ(answer.outcome.expires_ms, store.now_ms() + 50);
  EXPECT_EQ(store.Do(With(Verb::kGetAndTouch, "absent")).status, Status::kNotFound);
}

TEST(StoreVerbs, AGetAndTouchThatDoesNotBumpDoesNotCountAsAFetch) {
  TestStore store;
  store.Set("key", "value");
  Request request = With(Verb::kGetAndTouch, "key");
  request.no_bump = true;
  request.expires_ms = store.now_ms() + 50;
  EXPECT_EQ(store.Do(request).value, "value");
  const Answer get = store.Get("key");
  EXPECT_FALSE(get.outcome.fetched);
  EXPECT_EQ(get.outcome.expires_ms, store.now_ms() + 50);
}

TEST(StoreVerbs, DeleteRemoves) {
  TestStore store;
  EXPECT_EQ(store.Delete("key").status, Status::kNotFound);
  const uint64_t version = store.Set("key", "value").outcome.version;
  const Answer answer = store.Delete("key");
  EXPECT_EQ(answer.status, Status::kFound);
  EXPECT_GT(answer.outcome.record_version, version);
  EXPECT_FALSE(store.Has("key"));
  EXPECT_EQ(store.Delete("key").status, Status::kNotFound);
  EXPECT_EQ(store->Stats().charged_bytes, 0);
}

TEST(StoreVerbs, TakeReturnsTheValueAndRemoves) {
  TestStore store;
  EXPECT_EQ(store.Do(With(Verb::kTake, "key")).status, Status::kNotFound);
  store.Set("key", "value", kNeverExpires, 5);
  const Answer answer = store.Do(With(Verb::kTake, "key"));
  EXPECT_EQ(answer.status, Status::kFound);
  EXPECT_EQ(answer.value, "value");
  EXPECT_EQ(answer.outcome.client_flags, 5);
  EXPECT_FALSE(store.Has("key"));
}

TEST(StoreVerbs, EvictRemovesAsEvictionDoes) {
  TestStore store;
  store.RecordAll();
  EXPECT_EQ(store.Do(With(Verb::kEvict, "key")).status, Status::kNotFound);
  store.Set("key", "value");
  store.records().Take();
  store.removals().Take();
  EXPECT_EQ(store.Do(With(Verb::kEvict, "key")).status, Status::kFound);
  EXPECT_FALSE(store.Has("key"));
  EXPECT_EQ(store.records().records().size(), 0);
  EXPECT_EQ(store.removals().TakeKeys(Reason::kEvicted), std::vector<std::string>{"key"});
}

TEST(StoreVerbs, RemovalsCarryReasonKeyValueAndFlags) {
  TestStore store;
  store.Set("key", "first", kNeverExpires, 1, Codec::kUtf8);
  EXPECT_EQ(store.removals().Take().size(), 0);
  store.Set("key", "second", kNeverExpires, 2, Codec::kJson);
  const std::vector<Removal> replaced = store.removals().Take();
  ASSERT_EQ(replaced.size(), 1);
  EXPECT_TRUE((replaced[0] == Removal{Reason::kReplaced, "key", "first", Codec::kUtf8, 1}));
  store.Delete("key");
  const std::vector<Removal> deleted = store.removals().Take();
  ASSERT_EQ(deleted.size(), 1);
  EXPECT_TRUE((deleted[0] == Removal{Reason::kDeleted, "key", "second", Codec::kJson, 2}));
}

TEST(StoreVerbs, VersionsOfAShardRiseStrictly) {
  TestStore store;
  uint64_t last = 0;
  for (int i = 0; i < 100; ++i) {
    const std::string key = "key" + std::to_string(i % 7);
    const uint64_t version =
        i % 3 == 2 ? store.Delete(key).outcome.record_version : store.Set(key, "v").outcome.version;
    if (version == 0) continue;  // deleted nothing
    EXPECT_GT(version, last);
    last = version;
  }
}

TEST(StoreVerbs, TheEpochIsTheHighPartOfTheVersion) {
  StoreOptions options = TestStore::Tiny();
  options.epoch = 77;
  TestStore store(options);
  EXPECT_EQ(store.Set("key", "value").outcome.version >> 32, 77);
}

TEST(StoreVerbs, IdleTimeIsToldWhereAccessIsTracked) {
  StoreOptions options = TestStore::Tiny();
  options.track_access = true;
  TestStore store(options);
  EXPECT_TRUE(store->uses_time());
  store.Set("key", "value");
  store.Advance(5000);
  EXPECT_EQ(store.Get("key").outcome.idle_s, 5);
  EXPECT_EQ(store.Get("key").outcome.idle_s, 0);
  store.Advance(3000);
  EXPECT_EQ(store.Peek("key").outcome.idle_s, 3);
  EXPECT_EQ(store.Peek("key").outcome.idle_s, 3) << "a peek is no access";
}

TEST(StoreVerbs, ATouchIsNoAccess) {
  StoreOptions options = TestStore::Tiny();
  options.track_access = true;
  TestStore store(options);
  store.Set("key", "value");
  store.Advance(5000);
  // Giving an expiry, moving it, taking it away: the first and the last need another layout of the entry.
  for (uint64_t expires_ms : {store.now_ms() + 1'000'000, store.now_ms() + 2'000'000, kNeverExpires}) {
    Request touch = With(Verb::kTouch, "key");
    touch.expires_ms = expires_ms;
    EXPECT_EQ(store.Do(touch).status, Status::kFound);
    EXPECT_EQ(store.Peek("key").outcome.idle_s, 5) << expires_ms;
  }
}

TEST(StoreVerbs, TimeIsNeededOnlyOnceSomethingCanExpire) {
  TestStore store;
  EXPECT_FALSE(store->uses_time());
  store.Set("key", "value");
  EXPECT_FALSE(store->uses_time());
  store.Set("key", "value", store.now_ms() + 10);
  EXPECT_TRUE(store->uses_time());
}

TEST(StoreVerbs, AValueAboveTheOptionIsTooLargeAndASetRemovesTheOldEntry) {
  StoreOptions options = TestStore::Tiny();
  options.value_bytes_max = 100;
  TestStore store(options);
  EXPECT_EQ(store.Set("key", std::string(100, 'x')).status, Status::kStored);
  EXPECT_EQ(store.Do(With(Verb::kReplace, "key", std::string(101, 'y'))).status, Status::kTooLarge);
  EXPECT_EQ(store.Set("key", std::string(101, 'y')).status, Status::kTooLarge);
  EXPECT_FALSE(store.Has("key"));
  EXPECT_EQ(store->Stats().too_large, 2);
}

TEST(StoreVerbs, AnAppendBeyondTheOptionIsTooLargeAndChangesNothing) {
  StoreOptions options = TestStore::Tiny();
  options.value_bytes_max = 100;
  TestStore store(options);
  store.Set("key", std::string(60, 'x'));
  EXPECT_EQ(store.Do(With(Verb::kAppend, "key", std::string(41, 'y'))).status, Status::kTooLarge);
  EXPECT_EQ(store.Get("key").value, std::string(60, 'x'));
  EXPECT_EQ(store.Do(With(Verb::kAppend, "key", std::string(40, 'y'))).status, Status::kStored);
}

TEST(StoreVerbs, APlainSetBeyondTheOptionIsTooLargeThoughItWouldFitInPlace) {
  StoreOptions options = TestStore::Tiny();
  options.value_bytes_max = 70;
  TestStore store(options);
  const std::string fits(70, 'x'), beyond(71, 'x');
  ASSERT_EQ(store->SetPlain("key", fits, Codec::kRaw, kNeverExpires, store.now()), Status::kStored);
  EXPECT_EQ(store->SetPlain("key", beyond, Codec::kRaw, kNeverExpires, store.now()), Status::kTooLarge);
  EXPECT_FALSE(store.Has("key")) << "as after any set that is refused";
  EXPECT_EQ(store->Stats().too_large, 1);
}

// Memory is nearly all held in place, so that an entry fits, but not a second one of its size.
TEST(StoreVerbs, AGetAndTouchThatFindsNoMemoryGivesBackTheRoomOfItsValue) {
  StoreOptions options = TestStore::Tiny();
  options.memory_bytes = 16 << 20;
  options.page_bytes = 64 * 1024;
  TestStore store(options);
  const auto charge_of = [&](const std::string& value, uint64_t expires_ms) {
    store.Set("key", value, expires_ms);
    const uint64_t charge = store->Stats().charged_bytes;
    store.Delete("key");
    return charge;
  };
  // One that needs another size class for an expiry, and less than is pinned.
  std::string value(3000, 'v');
  const auto timed = [&] { return charge_of(value, store.now_ms() + 1000); };
  while (charge_of(value, kNeverExpires) == timed()) value += 'v';
  ASSERT_LE(value.size(), kCopyUnderLockBytesMax);
  const uint64_t needed = charge_of(value, kNeverExpires) + timed();
  std::vector<Pin> pins;
  const auto room = [&] { return store->Stats().limit_bytes - store->Stats().charged_bytes; };
  const uint64_t step = timed();
  for (size_t bytes : {size_t{1} << 20, size_t{1} << 17, size_t{1} << 14, kCopyUnderLockBytesMax + 1}) {
    while (room() >= std::max<uint64_t>(2 * bytes, needed)) {
      const std::string key = "held" + std::to_string(pins.size());
      ASSERT_EQ(store.Set(key, std::string(bytes, 'h')).status, Status::kStored);
      Scratch none;
      Outcome outcome;
      store->Execute(With(Verb::kGet, key), store.now(), &none, &outcome);
      ASSERT_NE(outcome.pin.ref, 0u);
      pins.push_back(outcome.pin);
    }
  }
  ASSERT_LT(room(), needed);
  ASSERT_GE(room(), step);
  ASSERT_EQ(store.Set("key", value).status, Status::kStored);
  Request request = With(Verb::kGetAndTouch, "key");
  request.expires_ms = store.now_ms() + 1000;
  std::string bytes(10'000, '\0');
  Scratch scratch{bytes.data(), bytes.size(), 5};
  Outcome outcome;
  store->Execute(request, store.now(), &scratch, &outcome);
  EXPECT_EQ(outcome.status, Status::kNoMemory);
  EXPECT_FALSE(outcome.has_value);
  EXPECT_EQ(scratch.used, 5);
  for (const Pin& pin : pins) store->Unpin(pin);
  store->Execute(request, store.now(), &scratch, &outcome);
  EXPECT_EQ(outcome.status, Status::kFound);
  EXPECT_EQ(scratch.used, 5 + value.size());
  store->Verify();
}

}  // namespace
}  // namespace cairn
