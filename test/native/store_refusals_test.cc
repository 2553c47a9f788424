// What a refusal leaves as it was: a set that would not have been made takes nothing away because it is too large.
#include <string>
#include <vector>

#include "store/fill_watch.h"
#include "support/store_fixture.h"
#include "test.h"

namespace cairn {
namespace {

Request SetOf(const char* key) {
  Request request;
  request.verb = Verb::kSet;
  request.key = key;
  return request;
}

TEST(StoreRefusals, AnOvertakenFillThatIsTooLargeLeavesWhatWasSetMeanwhile) {
  TestStore store;
  const auto too_large = static_cast<uint32_t>(store->value_bytes_max() + 1);
  FillTicket ticket;
  EXPECT_TRUE(store->BeginFill("key", FillOf::kAbsentKey, store.now(), &ticket));
  store.Set("key", "newer");
  Request request = SetOf("key");
  request.fill = &ticket;
  Body body;
  EXPECT_EQ(store->Reserve(request, too_large, store.now(), &body), Status::kTooLarge);
  EXPECT_TRUE(store.Has("key"));
  store->EndFill("key", &ticket);
  // One that was not overtaken replaces what is there, so that its refusal takes it away, as a set's does.
  EXPECT_TRUE(store->BeginFill("key", FillOf::kAnyKey, store.now(), &ticket));
  EXPECT_EQ(store->Reserve(request, too_large, store.now(), &body), Status::kTooLarge);
  EXPECT_FALSE(store.Has("key"));
  store->EndFill("key", &ticket);
  store->Verify();
}

TEST(StoreRefusals, ASetOfAnotherVersionThatIsTooLargeTakesNothingAway) {
  TestStore store;
  const uint64_t version = store.Set("key", "value").outcome.version;
  Request request = SetOf("key");
  request.has_compare = true;
  request.compare = version + 1;
  Body body;
  const auto too_large = static_cast<uint32_t>(store->value_bytes_max() + 1);
  EXPECT_EQ(store->Reserve(request, too_large, store.now(), &body), Status::kTooLarge);
  EXPECT_TRUE(store.Has("key"));
  request.compare = version;
  EXPECT_EQ(store->Reserve(request, too_large, store.now(), &body), Status::kTooLarge);
  EXPECT_FALSE(store.Has("key"));
  store->Verify();
}

TEST(StoreRefusals, ARecordThatHasExpiredVoidsTheLoadsThatBeganBeforeIt) {
  for (const bool present : {false, true}) {
    TestStore store;
    if (present) store.Set("key", "value");
    FillTicket ticket;
    ASSERT_TRUE(store->BeginFill("key", FillOf::kAnyKey, store.now(), &ticket));
    RecordView record;
    record.kind = RecordKind::kSet;
    record.key = "key";
    record.value = "newer";
    record.expires_wall_ms = store.now().wall_ms - 1;
    EXPECT_EQ(store->Apply(record, store.now(), Origin::kElsewhere), Status::kNotStored);
    EXPECT_TRUE(ticket.voided());
    store->EndFill("key", &ticket);
  }
}

// The record says of its key what no other does: what a load began to fetch before it may be older, also if there is
// nothing to delete or to touch.
TEST(StoreRefusals, ARecordOfAnAbsentKeyVoidsTheLoadsThatBeganBeforeIt) {
  for (const RecordKind kind : {RecordKind::kDelete, RecordKind::kTouch}) {
    for (const Origin origin : {Origin::kElsewhere, Origin::kLog}) {
      TestStore store;
      FillTicket ticket;
      ASSERT_TRUE(store->BeginFill("key", FillOf::kAnyKey, store.now(), &ticket));
      RecordView record;
      record.kind = kind;
      record.key = "key";
      record.version = VersionOf(9, 1);
      EXPECT_EQ(store->Apply(record, store.now(), origin), Status::kNotFound);
      EXPECT_TRUE(ticket.voided());
      store->EndFill("key", &ticket);
    }
  }
}

// A store without memory for the largest value: a body that is being received, and values that are being read, hold all
// but less than that.
class HeldStore : public TestStore {
 public:
  HeldStore() : TestStore(Options()) {
    const auto value_bytes_max = static_cast<uint32_t>(store().value_bytes_max());
    uint32_t body_bytes = value_bytes_max;
    while (store().Reserve(SetOf("other"), body_bytes, now(), &body_) != Status::kStored) body_bytes -= 1000;
    for (uint64_t held = body_bytes; held + value_bytes_max < store().Stats().limit_bytes; held += 100'000) {
      const std::string key = "read" + std::to_string(pins_.size());
      CHECK(Set(key, std::string(100'000, 'r')).status == Status::kStored);
      TakeRecords();
      Scratch none;
      Outcome read;
      store().Execute(Make(Verb::kGet, key), now(), &none, &read);
      CHECK(read.pin.ref != 0);
      pins_.push_back(read.pin);
    }
  }
  ~HeldStore() {
    for (const Pin& pin : pins_) store().Unpin(pin);
    store().Abandon(&body_);
    store().Verify();
  }

  std::vector<StoredRecord> TakeRecords() {
    std::vector<StoredRecord> records = DrainAll(&store(), 0);
    store().CommitRing(0);
    return records;
  }

 private:
  static StoreOptions Options() {
    StoreOptions options = Tiny();
    options.ring_bytes = kRingBytesMin;
    return options;
  }

  Body body_;
  std::vector<Pin> pins_;
};

// Otherwise the log would bring an older value of the key back, which was evicted.
TEST(StoreRefusals, ARecordThatFindsNoMemoryLeavesADelete) {
  HeldStore store;
  const std::string value(store->value_bytes_max(), 'v');
  RecordView record;
  record.key = "key";
  record.value = value;
  ASSERT_EQ(store->Apply(record, store.now(), Origin::kElsewhere), Status::kNoMemory);
  const std::vector<StoredRecord> records = store.TakeRecords();
  ASSERT_EQ(records.size(), 1);
  EXPECT_EQ(records[0].kind, RecordKind::kDelete);
  EXPECT_EQ(records[0].key, "key");
}

// The entry has no place for the end of its freshness, and there is no memory for another one beside it.
TEST(StoreRefusals, AnAppliedTouchThatFindsNoMemoryTakesTheEntryOutIfItComesFromTheLog) {
  for (const Origin origin : {Origin::kElsewhere, Origin::kLog}) {
    HeldStore store;
    size_t bytes = store->value_bytes_max();
    while (store.Set("key", std::string(bytes, 'v')).status != Status::kStored) bytes -= 1000;
    store.TakeRecords();
    RecordView touch;
    touch.kind = RecordKind::kTouch;
    touch.key = "key";
    touch.version = VersionOf(9, 1);
    touch.optional.SetFreshUntil(store.now().wall_ms + 10);
    ASSERT_EQ(store->Apply(touch, store.now(), origin), Status::kNoMemory);
    EXPECT_EQ(store.TakeRecords().size(), 0);
    EXPECT_EQ(store.Has("key"), origin == Origin::kElsewhere);
    if (origin == Origin::kElsewhere) EXPECT_EQ(store.Get("key").outcome.fresh_until_ms, kAlwaysFresh);
  }
}

TEST(StoreRefusals, AShardNeverReachesBeyondItsReferences) {
  StoreOptions options;
  options.shard_count = 1;
  // With the descriptors before the pages this would be more than the 32 GiB that a reference spans.
  options.memory_bytes_ceiling = kShardBytesMax - (uint64_t{1} << 20);
  Refusal refusal;
  EXPECT_TRUE(Store::Open(options, &refusal) == nullptr);
  EXPECT_TRUE(refusal.rule == Refusal::Rule::kShardShare) << refusal;
  EXPECT_EQ(refusal.max, uint64_t{16} << 30);
  // So would this one with the ring.
  options.memory_bytes_ceiling = kShardBytesMax - kShardBytesMax / 64;
  options.ring_bytes = kRingBytesMin;
  EXPECT_TRUE(Store::Open(options, &refusal) == nullptr);
  EXPECT_TRUE(refusal.rule == Refusal::Rule::kShardShare) << refusal;
}

}  // namespace
}  // namespace cairn
