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
  EXPECT_TRUE(store->BeginFill("key", true, store.now(), &ticket));
  store.Set("key", "newer");
  Request request = SetOf("key");
  request.fill = &ticket;
  Body body;
  EXPECT_EQ(store->Reserve(request, too_large, store.now(), &body), Status::kTooLarge);
  EXPECT_TRUE(store.Has("key"));
  store->EndFill("key", &ticket);
  // One that was not overtaken replaces what is there, so that its refusal takes it away, as a set's does.
  EXPECT_TRUE(store->BeginFill("key", false, store.now(), &ticket));
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
    ASSERT_TRUE(store->BeginFill("key", false, store.now(), &ticket));
    RecordView record;
    record.kind = RecordKind::kSet;
    record.key = "key";
    record.value = "newer";
    record.expires_wall_ms = store.now().wall_ms - 1;
    EXPECT_EQ(store->Apply(record, store.now(), false), Status::kNotStored);
    EXPECT_TRUE(ticket.voided());
    store->EndFill("key", &ticket);
  }
}

// The record says of its key what no other does: what a load began to fetch before it may be older, also if there is
// nothing to delete or to touch.
TEST(StoreRefusals, ARecordOfAnAbsentKeyVoidsTheLoadsThatBeganBeforeIt) {
  for (const RecordKind kind : {RecordKind::kDelete, RecordKind::kTouch}) {
    for (const bool keep_version : {false, true}) {
      TestStore store;
      FillTicket ticket;
      ASSERT_TRUE(store->BeginFill("key", false, store.now(), &ticket));
      RecordView record;
      record.kind = kind;
      record.key = "key";
      record.version = VersionOf(9, 1);
      EXPECT_EQ(store->Apply(record, store.now(), keep_version), Status::kNotFound);
      EXPECT_TRUE(ticket.voided());
      store->EndFill("key", &ticket);
    }
  }
}

// Otherwise the log would bring an older value of the key back, which was evicted.
TEST(StoreRefusals, ARecordThatFindsNoMemoryLeavesADelete) {
  StoreOptions options = TestStore::Tiny();
  options.ring_bytes = kRingBytesMin;
  TestStore store(options);
  // A body that is being received, and values that are being read: neither gives memory back.
  Body body;
  const auto value_bytes_max = static_cast<uint32_t>(store->value_bytes_max());
  uint32_t body_bytes = value_bytes_max;
  while (store->Reserve(SetOf("other"), body_bytes, store.now(), &body) != Status::kStored) body_bytes -= 1000;
  std::vector<Pin> pins;
  for (uint64_t held = body_bytes; held + value_bytes_max < store->Stats().limit_bytes; held += 100'000) {
    const std::string key = "read" + std::to_string(pins.size());
    ASSERT_EQ(store.Set(key, std::string(100'000, 'r')).status, Status::kStored);
    (void)DrainAll(&store.store(), 0);
    store->CommitRing(0);
    Scratch none;
    Outcome read;
    store->Execute(TestStore::Make(Verb::kGet, key), store.now(), &none, &read);
    ASSERT_NE(read.pin.ref, 0u);
    pins.push_back(read.pin);
  }
  const std::string value(value_bytes_max, 'v');
  RecordView record;
  record.key = "key";
  record.value = value;
  ASSERT_EQ(store->Apply(record, store.now(), false), Status::kNoMemory);
  const std::vector<StoredRecord> records = DrainAll(&store.store(), 0);
  ASSERT_EQ(records.size(), 1);
  EXPECT_EQ(records[0].kind, RecordKind::kDelete);
  EXPECT_EQ(records[0].key, "key");
  for (const Pin& pin : pins) store->Unpin(pin);
  store->Abandon(&body);
  store->Verify();
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
}

}  // namespace
}  // namespace cairn
