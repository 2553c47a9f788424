// What is larger than a chunk: long keys, chunked values, values of many mebibytes; the two ways in (copied, or
// received as a body) and the two ways out (copied, or read behind a pin).

#include <algorithm>
#include <span>

#include "store/shard_guard.h"
#include "store/store.h"
#include "support/store_fixture.h"
#include "test.h"

namespace cairn {
namespace {

Request On(Verb verb, std::string_view key, std::string_view value = {}) { return TestStore::Make(verb, key, value); }

// A get that must pin.
Outcome GetPinned(TestStore& store, std::string_view key) {
  Scratch none;
  Outcome outcome;
  store->Execute(On(Verb::kGet, key), store.now(), &none, &outcome);
  return outcome;
}

std::string ReadAll(TestStore& store, const Outcome& outcome) {
  std::string bytes(outcome.value_bytes, '\0');
  store->ReadPinned(outcome.pin, 0, bytes.data(), bytes.size());
  return bytes;
}

TEST(StoreLarge, ValuesOfEverySizeAroundTheClassesComeBackWhole) {
  TestStore store;
  for (size_t bytes = 0; bytes < 1200; ++bytes) {
    const std::string value = PatternBytes(bytes, bytes);
    ASSERT_EQ(store.Set("key", value).status, Status::kStored);
    ASSERT_TRUE(store.Get("key").value == value) << bytes;
  }
  for (size_t bytes : {4000u, 4079u, 4080u, 4081u, 4095u, 4096u, 4097u, 8160u, 8192u, 12'345u, 65'535u, 65'536u}) {
    const std::string value = PatternBytes(bytes, bytes);
    ASSERT_EQ(store.Set("key", value).status, Status::kStored);
    ASSERT_TRUE(store.Get("key").value == value) << bytes;
    store->Verify();
  }
  EXPECT_EQ(store->entries(), 1);
}

TEST(StoreLarge, KeysOfEveryLengthAreToldApart) {
  TestStore store;
  const std::string longest = PatternBytes(kKeyBytesMax, 3);
  std::vector<size_t> lengths;
  for (size_t bytes = 1; bytes <= 600; ++bytes) lengths.push_back(bytes);
  for (size_t bytes : {4000u, 4096u, 10'000u, 65'535u, 65'536u}) lengths.push_back(bytes);
  for (size_t bytes : lengths) {
    ASSERT_EQ(store.Set(longest.substr(0, bytes), std::to_string(bytes)).status, Status::kStored) << bytes;
  }
  for (size_t bytes : lengths) {
    ASSERT_EQ(store.Get(longest.substr(0, bytes)).value, std::to_string(bytes)) << bytes;
  }
  store->Verify();
}

TEST(StoreLarge, LongKeysThatDifferInOneByteAreDifferent) {
  TestStore store;
  const std::string base(kKeyBytesMax, 'k');
  for (size_t at : {0u, 249u, 250u, 251u, 255u, 4096u, 65'535u}) {
    std::string key = base;
    key[at] = 'x';
    store.Set(key, std::to_string(at));
  }
  EXPECT_EQ(store.Get(base).status, Status::kNotFound);
  for (size_t at : {0u, 249u, 250u, 251u, 255u, 4096u, 65'535u}) {
    std::string key = base;
    key[at] = 'x';
    EXPECT_EQ(store.Get(key).value, std::to_string(at));
    EXPECT_EQ(store.Delete(key).status, Status::kFound);
  }
  EXPECT_EQ(store->Stats().charged_bytes, 0);
}

TEST(StoreLarge, RemovalsOfLongKeysAndChunkedValuesAreWhole) {
  TestStore store;
  const std::string key = PatternBytes(5000, 1), value = PatternBytes(40'000, 2);
  store.Set(key, value);
  store.Delete(key);
  const std::vector<Removal> removals = store.removals().Take();
  ASSERT_EQ(removals.size(), 1);
  EXPECT_TRUE(removals[0].key == key);
  EXPECT_TRUE(removals[0].value == value);
}

TEST(StoreLarge, AppendGrowsThroughAllForms) {
  TestStore store;
  std::string expected = "s";
  store.Set("key", expected);
  test::Random random(5);
  while (expected.size() < 100'000) {
    const std::string piece = PatternBytes(random.Between(0, 1 + expected.size() / 2), random.Next());
    if (random.OneIn(2)) {
      ASSERT_EQ(store.Do(On(Verb::kAppend, "key", piece)).status, Status::kStored);
      expected += piece;
    } else {
      ASSERT_EQ(store.Do(On(Verb::kPrepend, "key", piece)).status, Status::kStored);
      expected = piece + expected;
    }
    ASSERT_TRUE(store.Get("key").value == expected) << expected.size();
    store->Verify();
  }
}

TEST(StoreLarge, AValueOf64MebibytesComesBackWhole) {
  StoreOptions options;
  options.memory_bytes = uint64_t{256} << 20;
  options.shard_count = 1;
  options.value_bytes_max = uint64_t{64} << 20;
  TestStore store(options);
  const std::string value = PatternBytes(size_t{64} << 20, 9);
  ASSERT_EQ(store.Set("key", value).status, Status::kStored);
  EXPECT_TRUE(store.Get("key").value == value);
  EXPECT_EQ(store.Set("other", value).status, Status::kStored);
  EXPECT_EQ(store.Set("key", value + "x").status, Status::kTooLarge);
  EXPECT_FALSE(store.Has("key"));
  EXPECT_TRUE(store.Get("other").value == value);
  store->Verify();
}

TEST(StoreLarge, TheLargestValueIsHalfOfWhatAShardHolds) {
  StoreOptions options = TestStore::Tiny();
  TestStore reference(options);
  options.value_bytes_max = reference->Stats().limit_bytes / 2;
  TestStore store(options);
  const std::string value = PatternBytes(options.value_bytes_max, 1);
  EXPECT_EQ(store.Set("key", value + "x").status, Status::kTooLarge);
  EXPECT_EQ(store.Set("key", value).status, Status::kStored);
  EXPECT_EQ(store.Set("key", value).status, Status::kStored);
  EXPECT_TRUE(store.Get("key").value == value);
  store->Verify();
}

TEST(StoreLarge, ALargeHitIsPinnedAndReadInPieces) {
  TestStore store;
  const std::string value = PatternBytes(100'000, 4);
  store.Set("key", value);
  const Outcome outcome = GetPinned(store, "key");
  ASSERT_NE(outcome.pin.ref, 0);
  EXPECT_TRUE(outcome.has_value);
  EXPECT_EQ(outcome.status, Status::kFound);
  test::Random random(1);
  for (int i = 0; i < 200; ++i) {
    const size_t offset = random.Below(value.size()), bytes = random.Between(0, value.size() - offset);
    std::string piece(bytes, '\0');
    store->ReadPinned(outcome.pin, offset, piece.data(), bytes);
    ASSERT_TRUE(piece == value.substr(offset, bytes));
  }
  store->Unpin(outcome.pin);
  store->Verify();
  EXPECT_EQ(store->Stats().pinned_pages, 0);
}

TEST(StoreLarge, APinnedValueSurvivesWhateverHappensToItsKey) {
  const std::string value = PatternBytes(30'000, 4);
  const auto check = [&](const char* what, auto change) {
    TestStore store;
    store.Set("key", value);
    const uint64_t charged = store->Stats().charged_bytes;
    const Outcome outcome = GetPinned(store, "key");
    ASSERT_NE(outcome.pin.ref, 0) << what;
    change(store);
    store->Verify();
    EXPECT_GE(store->Stats().charged_bytes, charged) << what << ": it stays charged";
    for (int i = 0; i < 300; ++i) store.Set("filler" + std::to_string(i), std::string(20'000, 'f'));
    EXPECT_TRUE(ReadAll(store, outcome) == value) << what;
    store->Unpin(outcome.pin);
    store->Verify();
  };
  check("overwritten", [](TestStore& store) { store.Set("key", std::string(30'000, 'x')); });
  check("deleted", [](TestStore& store) { store.Delete("key"); });
  check("appended", [](TestStore& store) { store.Do(On(Verb::kAppend, "key", "x")); });
  check("prepended", [](TestStore& store) { store.Do(On(Verb::kPrepend, "key", "x")); });
  check("evicted", [](TestStore& store) { store.Do(On(Verb::kEvict, "key")); });
  check("touched", [](TestStore& store) {
    Request touch = On(Verb::kTouch, "key");
    touch.expires_ms = store.now_ms() + 1000;
    store.Do(touch);
  });
  check("expired", [](TestStore& store) {
    Request touch = On(Verb::kTouch, "key");
    touch.expires_ms = store.now_ms() + 10;
    store.Do(touch);
    store.Advance(10'000);
    store.MaintainAll();
  });
  check("cleared", [](TestStore& store) {
    store->Clear(store.now());
    store.MaintainAll();
  });
}

TEST(StoreLarge, AnUnpinnedZombieGivesItsBytesBack) {
  TestStore store;
  store.Set("key", PatternBytes(30'000, 1));
  const Outcome outcome = GetPinned(store, "key");
  ASSERT_NE(outcome.pin.ref, 0);
  store.Delete("key");
  EXPECT_EQ(store->entries(), 0);
  EXPECT_GT(store->Stats().charged_bytes, 30'000);
  store->Unpin(outcome.pin);
  EXPECT_EQ(store->Stats().charged_bytes, 0);
  store->Verify();
}

TEST(StoreLarge, APinnedTailIsEvictedAsAnyOther) {
  TestStore store;
  store.Set("pinned", PatternBytes(30'000, 1));
  const Outcome outcome = GetPinned(store, "pinned");
  ASSERT_NE(outcome.pin.ref, 0);
  int i = 0;
  while (store->Stats().evictions == 0) store.Set("filler" + std::to_string(i++), std::string(20'000, 'f'));
  const std::vector<std::string> victims = store.removals().TakeKeys(Reason::kEvicted);
  ASSERT_FALSE(victims.empty());
  EXPECT_EQ(victims[0], "pinned");
  EXPECT_FALSE(store.Has("pinned"));
  EXPECT_TRUE(ReadAll(store, outcome) == PatternBytes(30'000, 1));
  store->Unpin(outcome.pin);
  store->Verify();
}

TEST(StoreLarge, PinsAreBoundedAndBeyondThatHitsAreCopied) {
  TestStore store;
  const std::string value = PatternBytes(30'000, 1);
  store.Set("key", value);
  std::vector<Outcome> pins;
  for (int i = 0; i < 40; ++i) {
    const Outcome outcome = GetPinned(store, "key");
    if (outcome.status == Status::kNeedsRoom) break;
    ASSERT_NE(outcome.pin.ref, 0);
    pins.push_back(outcome);
  }
  EXPECT_EQ(pins.size(), kPinsPerEntryMax);
  EXPECT_TRUE(store.Get("key").value == value) << "copied";
  for (const Outcome& outcome : pins) store->Unpin(outcome.pin);
  EXPECT_NE(GetPinned(store, "key").pin.ref, 0);
}

TEST(StoreLarge, ManyPinnedEntriesStayWithinTheBudgetOfPages) {
  TestStore store;
  std::vector<Outcome> pins;
  for (int i = 0; i < 100; ++i) {
    const std::string key = "key" + std::to_string(i);
    store.Set(key, PatternBytes(4500 + static_cast<size_t>(i) * 37, static_cast<uint64_t>(i)));
    Scratch none;
    Outcome outcome;
    store->Execute(On(Verb::kGet, key), store.now(), &none, &outcome);
    if (outcome.pin.ref != 0) pins.push_back(outcome);
    EXPECT_LE(store->Stats().pinned_pages, kPinnedPagesMax);
  }
  EXPECT_GT(pins.size(), 5);
  store->Verify();
  for (const Outcome& outcome : pins) store->Unpin(outcome.pin);
  EXPECT_EQ(store->Stats().pinned_pages, 0);
  store->Verify();
}

TEST(StoreLarge, ABodyReceivedInPiecesIsStoredWhenItIsLinked) {
  TestStore store;
  const std::string value = PatternBytes(70'000, 8);
  Request request = On(Verb::kSet, "key");
  request.client_flags = 5;
  request.expires_ms = store.now_ms() + 1000;
  Body body;
  ASSERT_EQ(store->Reserve(request, static_cast<uint32_t>(value.size()), store.now(), &body), Status::kStored);
  EXPECT_TRUE(static_cast<bool>(body));
  EXPECT_FALSE(store.Has("key"));
  store->Verify();
  for (size_t at = 0; at < value.size();) {
    const size_t bytes = std::min<size_t>(value.size() - at, 1 + at % 5000);
    store->WriteBody(body, at, std::string_view(value).substr(at, bytes));
    at += bytes;
  }
  Outcome outcome;
  store->Link(&body, request, store.now(), &outcome);
  EXPECT_EQ(outcome.status, Status::kStored);
  EXPECT_GT(outcome.version, 0);
  EXPECT_FALSE(static_cast<bool>(body));
  const Answer get = store.Get("key");
  EXPECT_TRUE(get.value == value);
  EXPECT_EQ(get.outcome.client_flags, 5);
  EXPECT_EQ(get.outcome.expires_ms, store.now_ms() + 1000);
  store->Verify();
}

TEST(StoreLarge, ABodyIsChargedWhileItIsReceivedAndDoesNotMove) {
  TestStore store;
  const std::string value = PatternBytes(70'000, 8);
  Body body;
  ASSERT_EQ(store->Reserve(On(Verb::kSet, "key"), 70'000, store.now(), &body), Status::kStored);
  EXPECT_GE(store->Stats().charged_bytes, 70'000);
  store->WriteBody(body, 0, std::string_view(value).substr(0, 40'000));
  for (int i = 0; i < 6000; ++i)
    store.Set("filler" + std::to_string(i), std::string(static_cast<size_t>(i) % 3000, 'f'));
  store->WriteBody(body, 40'000, std::string_view(value).substr(40'000));
  Outcome outcome;
  store->Link(&body, On(Verb::kSet, "key"), store.now(), &outcome);
  EXPECT_EQ(outcome.status, Status::kStored);
  EXPECT_TRUE(store.Get("key").value == value);
  store->Verify();
}

TEST(StoreLarge, ABodyStaysInItsPlaceWhileItIsWritten) {
  TestStore store;
  const std::string value = PatternBytes(70'000, 8);
  Body body;
  ASSERT_EQ(store->Reserve(On(Verb::kSet, "key"), 70'000, store.now(), &body), Status::kStored);
  std::span<char> places[64];
  Pin pin;
  size_t at = 0;
  for (int part = 0; at < value.size(); part++) {
    const size_t count = store->PinBody(body, at, value.size() - at, places, 64, &pin);
    ASSERT_GT(count, 0u);
    // Entries of many sizes come and go, and pages are emptied for others.
    for (int i = 0; i < 3000; ++i) {
      store.Set("filler" + std::to_string(i), std::string(static_cast<size_t>(i * 7 + part * 900) % 3000, 'f'));
    }
    store->Verify();
    for (size_t i = 0; i < count && at < value.size(); i++) {
      // As the system does, with as many bytes as have come.
      const size_t bytes = std::min(places[i].size(), value.size() - at);
      value.copy(places[i].data(), bytes, at);
      at += bytes;
      if (part == 0) break;
    }
    store->UnpinBody(body, pin, store.now());
    EXPECT_EQ(store->Stats().pinned_pages, 0);
  }
  Outcome outcome;
  store->Link(&body, On(Verb::kSet, "key"), store.now(), &outcome);
  EXPECT_EQ(outcome.status, Status::kStored);
  EXPECT_TRUE(store.Get("key").value == value);
  store->Verify();
}

TEST(StoreLarge, ABodyThatIsTakenAwayWhileItIsWrittenIsFreedByItsWriter) {
  TestStore store;
  const uint64_t nothing = store->Stats().charged_bytes;
  Body slow;
  ASSERT_EQ(store->Reserve(On(Verb::kSet, "slow"), 1'040'000, store.now(), &slow), Status::kStored);
  std::span<char> places[2];
  Pin pin;
  ASSERT_EQ(store->PinBody(slow, 0, 1'040'000, places, 2, &pin), 2u);
  store.Advance(kBodyStalledMs);
  Body more;
  ASSERT_EQ(store->Reserve(On(Verb::kSet, "key"), 1'040'000, store.now(), &more), Status::kStored);
  store->Verify();
  EXPECT_GE(store->Stats().charged_bytes, 2'080'000);
  std::fill(places[0].begin(), places[0].end(), 's');
  std::fill(places[1].begin(), places[1].end(), 's');
  store->UnpinBody(slow, pin, store.now());
  EXPECT_LT(store->Stats().charged_bytes, 1'100'000);
  EXPECT_EQ(store->PinBody(slow, 0, 1'040'000, places, 2, &pin), 0u);
  store->Verify();
  store->Abandon(&slow);
  store->Abandon(&more);
  EXPECT_EQ(store->Stats().charged_bytes, nothing);
  EXPECT_EQ(store->Stats().pinned_pages, 0);
  store->Verify();
}

TEST(StoreLarge, AnAbandonedBodyLeavesNoTrace) {
  TestStore store;
  store.Set("key", "old");
  const uint64_t charged = store->Stats().charged_bytes;
  Body body;
  ASSERT_EQ(store->Reserve(On(Verb::kSet, "key"), 70'000, store.now(), &body), Status::kStored);
  store->Abandon(&body);
  EXPECT_FALSE(static_cast<bool>(body));
  EXPECT_EQ(store->Stats().charged_bytes, charged);
  EXPECT_EQ(store.Get("key").value, "old");
  store->Verify();
}

TEST(StoreLarge, ABodyIsLinkedUnderTheConditionOfItsVerb) {
  TestStore store;
  const auto store_body = [&](const Request& request, std::string_view value) {
    Body body;
    const Status reserved = store->Reserve(request, static_cast<uint32_t>(value.size()), store.now(), &body);
    if (reserved != Status::kStored) return reserved;
    store->WriteBody(body, 0, value);
    Outcome outcome;
    store->Link(&body, request, store.now(), &outcome);
    return outcome.status;
  };
  const uint64_t nothing = store->Stats().charged_bytes;
  EXPECT_EQ(store_body(On(Verb::kReplace, "key"), "r"), Status::kNotStored);
  Request cas = On(Verb::kCas, "key");
  cas.compare = 1;
  EXPECT_EQ(store_body(cas, "c"), Status::kNotFound);
  EXPECT_EQ(store->Stats().charged_bytes, nothing);
  EXPECT_EQ(store_body(On(Verb::kAdd, "key"), "first"), Status::kStored);
  EXPECT_EQ(store_body(On(Verb::kAdd, "key"), "second"), Status::kNotStored);
  EXPECT_EQ(store_body(cas, "c"), Status::kExists);
  EXPECT_EQ(store.Get("key").value, "first");
  cas.compare = store.Get("key").outcome.version;
  EXPECT_EQ(store_body(cas, "third"), Status::kStored);
  EXPECT_EQ(store_body(On(Verb::kReplace, "key"), "fourth"), Status::kStored);
  EXPECT_EQ(store.Get("key").value, "fourth");
  EXPECT_EQ(store_body(On(Verb::kSet, "empty"), ""), Status::kStored);
  EXPECT_EQ(store.Get("empty").value, "");
  store->Verify();
}

TEST(StoreLarge, ABodyThatCanNeverFitIsRefusedBeforeItIsSent) {
  TestStore store;
  store.Set("key", "old");
  Body body;
  EXPECT_EQ(
      store->Reserve(On(Verb::kSet, "key"), static_cast<uint32_t>(store->value_bytes_max() + 1), store.now(), &body),
      Status::kTooLarge);
  EXPECT_FALSE(static_cast<bool>(body));
  EXPECT_FALSE(store.Has("key")) << "as a set of that size would";
}

TEST(StoreLarge, ABodyReservedBeforeAClearIsStoredAfterIt) {
  TestStore store;
  Body body;
  const Request request = On(Verb::kSet, "key");
  ASSERT_EQ(store->Reserve(request, 10'000, store.now(), &body), Status::kStored);
  store->WriteBody(body, 0, std::string(10'000, 'b'));
  store->Clear(store.now());
  store.MaintainAll();
  Outcome outcome;
  store->Link(&body, request, store.now(), &outcome);
  EXPECT_EQ(outcome.status, Status::kStored);
  EXPECT_EQ(store.Get("key").value, std::string(10'000, 'b'));
  store.MaintainAll();
  EXPECT_TRUE(store.Has("key"));
  store->Verify();
}

TEST(StoreLarge, ATakeThatMayNotPinLeavesWhatHasNoRoomWhereItIs) {
  TestStore store;
  const std::string value = PatternBytes(30'000, 1);
  store.Set("key", value);
  Request take = On(Verb::kTake, "key");
  take.no_pin = true;
  Scratch none;
  Outcome outcome;
  store->Execute(take, store.now(), &none, &outcome);
  EXPECT_EQ(outcome.status, Status::kNeedsRoom);
  EXPECT_EQ(outcome.pin.ref, 0);
  EXPECT_TRUE(store.Get("key").value == value);
  EXPECT_TRUE(store.Do(take).value == value);
  EXPECT_FALSE(store.Has("key"));
  store->Verify();
}

// A store in which nothing can be evicted: `key` with a value of more than a third of it, and bodies.
class FullStore {
 public:
  FullStore() : value_(PatternBytes(1'020'000, 1)) {
    for (Body& body : bodies_) {
      CHECK(store_->Reserve(On(Verb::kSet, "body"), 112'000, store_.now(), &body) == Status::kStored);
    }
    CHECK(store_.Set("key", value_).status == Status::kStored);
  }
  ~FullStore() {
    for (Body& body : bodies_) store_->Abandon(&body);
  }
  TestStore& operator*() { return store_; }
  const std::string& value() const { return value_; }

 private:
  TestStore store_;
  std::vector<Body> bodies_{17};
  std::string value_;
};

TEST(StoreLarge, ATouchOfALargeValueNeedsNoMemory) {
  FullStore full;
  TestStore& store = *full;
  const uint64_t charged = store->Stats().charged_bytes;
  Request touch = On(Verb::kTouch, "key");
  touch.expires_ms = store.now_ms() + 1000;
  EXPECT_EQ(store.Do(touch).status, Status::kFound);
  EXPECT_EQ(store.Peek("key").outcome.expires_ms, store.now_ms() + 1000);
  store->Verify();
  touch.expires_ms = kNeverExpires;
  EXPECT_EQ(store.Do(touch).status, Status::kFound);
  store->Verify();
  store.Advance(10'000);
  store.MaintainAll();
  EXPECT_TRUE(store.Get("key").value == full.value());
  EXPECT_EQ(store->Stats().charged_bytes, charged);
  touch.expires_ms = store.now_ms() + 1000;
  EXPECT_EQ(store.Do(touch).status, Status::kFound);
  store.Advance(10'000);
  store.MaintainAll();
  EXPECT_EQ(store->entries(), 0);
}

TEST(StoreLarge, ATouchChangesTheExpiryOfALargeValueUnderItsReaders) {
  TestStore store;
  const std::string value = PatternBytes(300'000, 1);
  store.Set("key", value);
  const uint64_t charged = store->Stats().charged_bytes;
  const Outcome outcome = GetPinned(store, "key");
  ASSERT_NE(outcome.pin.ref, 0);
  Request touch = On(Verb::kTouch, "key");
  touch.expires_ms = store.now_ms() + 1000;
  EXPECT_EQ(store.Do(touch).status, Status::kFound);
  EXPECT_EQ(store->Stats().charged_bytes, charged) << "there is still one of it";
  EXPECT_TRUE(ReadAll(store, outcome) == value);
  store->Unpin(outcome.pin);
  store->Verify();
}

TEST(StoreLarge, AnAppendToALargeValueNeedsOnlyWhatItAdds) {
  FullStore full;
  TestStore& store = *full;
  std::string expected = full.value();
  test::Random random(3);
  const uint64_t value_max = store->value_bytes_max();
  for (int i = 0; expected.size() < value_max - 3000; ++i) {
    const std::string piece = PatternBytes(random.Between(0, 2000), random.Next());
    ASSERT_EQ(store.Do(On(Verb::kAppend, "key", piece)).status, Status::kStored) << i;
    expected += piece;
    if (i % 16 == 0) store->Verify();
  }
  EXPECT_TRUE(store.Get("key").value == expected);
  EXPECT_EQ(store.Do(On(Verb::kPrepend, "key", "y")).status, Status::kNoMemory) << "that needs it twice";
  EXPECT_TRUE(store.Get("key").value == expected);
  store->Verify();
}

TEST(StoreLarge, AppendsOfEverySizeLeaveTheChunksThatTheValueWouldHave) {
  TestStore store;
  test::Random random(4);
  for (size_t start : {600u, 4000u, 4080u, 8160u, 20'000u}) {
    std::string expected = PatternBytes(start, 1);
    store.Set("key", expected, store.now_ms() + 100'000, 7);
    for (int i = 0; i < 60; ++i) {
      const std::string piece = PatternBytes(random.Below(uint64_t{1} << random.Below(15)), random.Next());
      ASSERT_EQ(store.Do(On(Verb::kAppend, "key", piece)).status, Status::kStored);
      expected += piece;
      const Answer got = store.Get("key");
      ASSERT_TRUE(got.value == expected);
      EXPECT_EQ(got.outcome.expires_ms, store.now_ms() + 100'000);
      EXPECT_EQ(got.outcome.client_flags, 7);
      store.Set("other", expected, store.now_ms() + 100'000, 7);
      const uint64_t both = store->Stats().charged_bytes;
      store.Delete("other");
      ASSERT_EQ(both, 2 * store->Stats().charged_bytes) << expected.size();
      store->Verify();
    }
    store.Delete("key");
  }
}

TEST(StoreLarge, AnAppendThatJustFillsTheLastChunkTakesNoOther) {
  TestStore store;
  const size_t in_page = store->page_bytes() - sizeof(ChunkHeader);
  const size_t in_largest = store->page_bytes() / 8 - sizeof(ChunkHeader);
  for (size_t in_front : {3 * in_largest, in_page, in_page + 3 * in_largest}) {
    const std::string value = PatternBytes(in_front + in_largest, 1);
    store.Set("key", value.substr(0, value.size() - 9));
    const uint64_t evictions = store->Stats().evictions;
    for (int i = 0; store->Stats().evictions == evictions; ++i) {
      store.Set("small" + std::to_string(i) + "beside" + std::to_string(in_front), "v");
      store.Get("key");
    }
    const StoreStats before = store->Stats();
    ASSERT_EQ(store.Do(On(Verb::kAppend, "key", value.substr(value.size() - 9))).status, Status::kStored);
    EXPECT_EQ(store->Stats().evictions, before.evictions) << in_front;
    EXPECT_EQ(store->Stats().charged_bytes, before.charged_bytes);
    store->Verify();
    EXPECT_TRUE(store.Get("key").value == value);
    // And what comes behind it finds a chunk that is full.
    const std::string more = PatternBytes(in_largest / 2, 2);
    ASSERT_EQ(store.Do(On(Verb::kAppend, "key", more)).status, Status::kStored);
    EXPECT_GT(store->Stats().evictions, before.evictions);
    store->Verify();
    EXPECT_TRUE(store.Get("key").value == value + more);
  }
}

TEST(StoreLarge, APrependToALargeValueGoesInSteps) {
  StoreOptions options = TestStore::Tiny();
  options.memory_bytes = 16 << 20;
  TestStore store(options);
  Shard* shard = store->shard(0);
  const std::string value = PatternBytes(500'000, 1);
  store.Set("key", value);
  const Request request = On(Verb::kPrepend, "key", "more");
  const uint64_t hash = shard->HashOf("key");
  ConcatSteps steps;
  Outcome outcome;
  {
    const ShardGuard guard(shard);
    shard->Concat(request, hash, store.now(), &outcome, &steps);
  }
  ASSERT_NE(steps.slot, 0);
  EXPECT_EQ(steps.old_bytes, 500'000);
  // Others see what was there, and may change it: then it begins again.
  EXPECT_TRUE(store.Get("key").value == value);
  {
    const ShardGuard guard(shard);
    EXPECT_TRUE(shard->CopyConcat(steps, "key", hash, 0, 4, 64 * 1024));
  }
  store->Verify();
  EXPECT_EQ(store.Do(On(Verb::kAppend, "key", "!")).status, Status::kStored);
  {
    const ShardGuard guard(shard);
    EXPECT_FALSE(shard->CopyConcat(steps, "key", hash, 0, 4, 64 * 1024));
    EXPECT_FALSE(shard->EndConcat(steps, request, hash, store.now(), &outcome));
    shard->bodies()->Abandon(steps.slot);
  }
  EXPECT_EQ(store.Do(request).status, Status::kStored);
  EXPECT_TRUE(store.Get("key").value == "more" + value + "!");
  store->Verify();
}

// Neither gives a new version, so the steps go on.
TEST(StoreLarge, WhatIsReadAndTouchedDuringAPrependStaysSo) {
  StoreOptions options = TestStore::Tiny();
  options.memory_bytes = 16 << 20;
  for (bool read : {true, false}) {
    TestStore store(options);
    Shard* shard = store->shard(0);
    const std::string value = PatternBytes(500'000, 1);
    Request set = On(Verb::kSet, "key", value);
    set.expires_ms = store.now_ms() + 1000;
    set.fresh_until_ms = store.now_ms() + 500;
    store.Do(set);
    const Request request = On(Verb::kPrepend, "key", "more");
    const uint64_t hash = shard->HashOf("key");
    ConcatSteps steps;
    Outcome outcome;
    {
      const ShardGuard guard(shard);
      shard->Concat(request, hash, store.now(), &outcome, &steps);
    }
    ASSERT_NE(steps.slot, 0);
    if (read) EXPECT_TRUE(store.Get("key").value == value);
    Request touch = On(Verb::kTouch, "key");
    touch.expires_ms = store.now_ms() + 5000;
    EXPECT_EQ(store.Do(touch).status, Status::kFound);
    {
      const ShardGuard guard(shard);
      EXPECT_TRUE(shard->CopyConcat(steps, "key", hash, 0, 4, value.size()));
      shard->bodies()->Write(steps.slot, 0, "more", Now{});
      EXPECT_TRUE(shard->EndConcat(steps, request, hash, store.now(), &outcome));
    }
    EXPECT_EQ(outcome.status, Status::kStored);
    const Answer answer = store.Peek("key");
    EXPECT_TRUE(answer.value == "more" + value);
    EXPECT_EQ(answer.outcome.expires_ms, store.now_ms() + 5000);
    EXPECT_EQ(answer.outcome.fresh_until_ms, kAlwaysFresh);
    EXPECT_EQ(answer.outcome.fetched, read);
    store->Verify();
    store.Advance(5001);
    EXPECT_FALSE(store.Has("key"));
  }
}

TEST(StoreLarge, APrependMakesItsRoomInSteps) {
  StoreOptions options = TestStore::Tiny();
  options.memory_bytes = 16 << 20;
  TestStore store(options);
  Shard* shard = store->shard(0);
  for (int i = 0; store->Stats().evictions == 0; ++i) store.Set("filler" + std::to_string(i), std::string(100, 'f'));
  store.Set("key", PatternBytes(500'000, 1));
  ConcatSteps steps;
  Outcome outcome;
  const uint64_t before = store->Stats().evictions;
  {
    const ShardGuard guard(shard);
    shard->Concat(On(Verb::kPrepend, "key", "more"), shard->HashOf("key"), store.now(), &outcome, &steps);
  }
  EXPECT_TRUE(steps.wants_room);
  EXPECT_EQ(steps.slot, 0);
  EXPECT_LE(store->Stats().evictions - before, kStepEntriesMax);
  EXPECT_EQ(store.Do(On(Verb::kPrepend, "key", "more")).status, Status::kStored);
  EXPECT_TRUE(store.Get("key").value == "more" + PatternBytes(500'000, 1));
  store->Verify();
}

TEST(StoreLarge, ABodyCanKeepTheExpiryThatItFinds) {
  TestStore store;
  const std::string value = PatternBytes(kBodyKeepsExpiryBytesMin + 1, 1);
  Request request = On(Verb::kSet, "key");
  request.expires_ms = kKeepExpiry;
  const auto store_body = [&] {
    Body body;
    ASSERT_EQ(store->Reserve(request, static_cast<uint32_t>(value.size()), store.now(), &body), Status::kStored);
    EXPECT_TRUE(store->WriteBody(body, 0, value));
    Outcome outcome;
    store->Link(&body, request, store.now(), &outcome);
    EXPECT_EQ(outcome.status, Status::kStored);
    store->Verify();
  };
  store_body();
  EXPECT_EQ(store.Get("key").outcome.expires_ms, kNeverExpires);
  store.Set("key", "small", store.now_ms() + 500);
  store_body();
  EXPECT_EQ(store.Get("key").outcome.expires_ms, store.now_ms() + 500);
  EXPECT_TRUE(store.Get("key").value == value);
  store.Delete("key");
  request.keep_else_ms = store.now_ms() + 700;
  store_body();
  EXPECT_EQ(store.Get("key").outcome.expires_ms, store.now_ms() + 700);
}

TEST(StoreLarge, SlowSendersGiveWayToOthersWhoCannotBegin) {
  TestStore store;
  const auto bytes = static_cast<uint32_t>(20'000);
  std::vector<Body> bodies(kEntrySlots - 1);
  for (Body& body : bodies) {
    ASSERT_EQ(store->Reserve(On(Verb::kSet, "slow"), bytes, store.now(), &body), Status::kStored);
    store.Advance(1);
  }
  store.Set("key", "old");
  store.removals().Take();
  // While every one of them goes on sending, no other sender gets a place; but being refused takes nothing away.
  Body more;
  EXPECT_EQ(store->Reserve(On(Verb::kSet, "key"), bytes, store.now(), &more), Status::kNoMemory);
  EXPECT_EQ(store.Get("key").value, "old");
  EXPECT_EQ(store.removals().Take().size(), 0);
  store.Advance(kBodyStalledMs - 100);
  EXPECT_TRUE(store->WriteBody(bodies[0], 0, "x", store.now()));
  store.Advance(100);
  // Now the second has been silent the longest, and long enough.
  ASSERT_EQ(store->Reserve(On(Verb::kSet, "key"), bytes, store.now(), &more), Status::kStored);
  EXPECT_TRUE(store->WriteBody(bodies[0], 0, "x", store.now()));
  EXPECT_FALSE(store->WriteBody(bodies[1], 0, "x", store.now()));
  EXPECT_TRUE(store->WriteBody(bodies[2], 0, "x", store.now()));
  EXPECT_TRUE(store->WriteBody(more, 0, std::string(bytes, 'm'), store.now()));
  store->Verify();
  Outcome outcome;
  store->Link(&bodies[1], On(Verb::kSet, "slow"), store.now(), &outcome);
  EXPECT_EQ(outcome.status, Status::kNoMemory);
  EXPECT_FALSE(static_cast<bool>(bodies[1]));
  store->Link(&more, On(Verb::kSet, "key"), store.now(), &outcome);
  EXPECT_EQ(outcome.status, Status::kStored);
  EXPECT_EQ(store.Get("key").value, std::string(bytes, 'm'));
  bodies.erase(bodies.begin() + 1);
  for (Body& body : bodies) store->Abandon(&body);
  store->Verify();
}

TEST(StoreLarge, WhatASlowSenderHoldsGoesToOthersToo) {
  TestStore store;
  Body slow;
  ASSERT_EQ(store->Reserve(On(Verb::kSet, "slow"), 1'040'000, store.now(), &slow), Status::kStored);
  Body more;
  EXPECT_EQ(store->Reserve(On(Verb::kSet, "key"), 1'040'000, store.now(), &more), Status::kNoMemory);
  store.Advance(kBodyStalledMs);
  ASSERT_EQ(store->Reserve(On(Verb::kSet, "key"), 1'040'000, store.now(), &more), Status::kStored)
      << "a place is free, but not so much memory";
  EXPECT_FALSE(store->WriteBody(slow, 0, "x", store.now()));
  store->Abandon(&slow);
  store->Abandon(&more);
  store->Verify();
}

TEST(StoreLarge, ASlowSenderKeepsItsPlaceWhenThatWouldNotMakeRoom) {
  TestStore store;
  Body slow;
  Body quick;
  ASSERT_EQ(store->Reserve(On(Verb::kSet, "slow"), 20'000, store.now(), &slow), Status::kStored);
  store.Advance(2 * kBodyStalledMs);
  ASSERT_EQ(store->Reserve(On(Verb::kSet, "quick"), 1'000'000, store.now(), &quick), Status::kStored);
  Body more;
  EXPECT_EQ(store->Reserve(On(Verb::kSet, "key"), 1'040'000, store.now(), &more), Status::kNoMemory);
  EXPECT_TRUE(store->WriteBody(slow, 0, "x", store.now()));
  store->Abandon(&slow);
  store->Abandon(&quick);
  store->Verify();
}

}  // namespace
}  // namespace cairn
