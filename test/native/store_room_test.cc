// A full cache finds room for any value: no request is answered that there is no memory while something can be evicted.
//
// Memory is filled with values of one size until entries have to leave, so that every page serves that size; then
// values of every other size are stored, from one byte to the largest one, by every verb that needs memory. Memory that
// reads, atomic batches and arriving values hold is the subject of store_eviction_test.cc.

#include <algorithm>
#include <string>
#include <vector>

#include "store/store.h"
#include "support/protocol_client.h"
#include "support/store_fixture.h"
#include "test.h"

namespace cairn {
namespace {

using test::ProtocolClient;
using test::ProtocolServer;

// From one byte to the largest value: each power of two, and its neighbours, which may need one chunk more.
std::vector<size_t> Sizes(size_t largest) {
  std::vector<size_t> sizes = {1, largest};
  for (size_t size = 16; size < largest; size *= 4) {
    sizes.push_back(size - 1);
    sizes.push_back(size);
    sizes.push_back(size + 1);
  }
  sizes.push_back(largest / 2);
  sizes.push_back(largest - 1);
  std::sort(sizes.begin(), sizes.end());
  return sizes;
}

std::string ValueOf(size_t bytes) { return std::string(bytes, 'v'); }

// Stores values of `bytes` until entries have left.
void Fill(TestStore& store, size_t bytes) {
  const uint64_t before = store->Stats().evictions;
  const std::string value = ValueOf(bytes);
  for (int i = 0; store->Stats().evictions < before + 64; i++) {
    ASSERT_TRUE(store.Set("fill" + std::to_string(bytes) + "-" + std::to_string(i), value).status == Status::kStored);
  }
  (void)store.removals().Take();
}

StoreOptions FullStore(uint32_t shard_count) {
  StoreOptions options = TestStore::Tiny();
  options.shard_count = shard_count;
  options.memory_bytes = shard_count * kMemoryBytesMin;
  return options;
}

TEST(StoreRoom, AFullCacheTakesValuesOfEverySize) {
  for (const uint32_t shard_count : {1, 2}) {
    TestStore store(FullStore(shard_count));
    const std::vector<size_t> sizes = Sizes(store->value_bytes_max());
    // One size in five is that of the values which fill the memory.
    for (size_t filled = 0; filled < sizes.size(); filled += 5) {
      Fill(store, sizes[filled]);
      for (const size_t size : sizes) {
        const std::string value = ValueOf(size);
        EXPECT_TRUE(store.Set("new", value).status == Status::kStored) << size << " after " << sizes[filled];
        EXPECT_TRUE(store.Get("new").value == value);
        EXPECT_TRUE(store.Delete("new").status == Status::kFound);
        EXPECT_TRUE(store.Do(TestStore::Make(Verb::kAdd, "new", value)).status == Status::kStored);
        EXPECT_TRUE(store.Do(TestStore::Make(Verb::kReplace, "new", value)).status == Status::kStored);
      }
    }
    store->Verify();
  }
}

TEST(StoreRoom, EntriesGrowInAFullCache) {
  TestStore store(FullStore(1));
  const size_t largest = store->value_bytes_max();
  for (const size_t filled : {size_t{1}, size_t{1000}, size_t{20'000}, largest}) {
    Fill(store, filled);
    (void)store.Set("grows", "1");
    for (size_t bytes = 1; bytes * 2 <= largest; bytes *= 2) {
      const Verb verb = bytes % 3 == 0 ? Verb::kPrepend : Verb::kAppend;
      EXPECT_TRUE(store.Do(TestStore::Make(verb, "grows", ValueOf(bytes))).status == Status::kStored) << bytes;
    }
    // A number that gets longer, one that is made, and an entry that gets an expiry.
    Fill(store, filled);
    (void)store.Set("number", "9");
    EXPECT_TRUE(store.Incr("number", ~uint64_t{0} - 9).status == Status::kFound);
    (void)store.Delete("made");
    Request initial = TestStore::Make(Verb::kIncr, "made");
    initial.has_initial = true;
    EXPECT_TRUE(store.Do(initial).status == Status::kStored);
    Request touch = TestStore::Make(Verb::kTouch, "number");
    touch.expires_ms = store.now_ms() + 1000;
    EXPECT_TRUE(store.Do(touch).status == Status::kFound);
  }
  store->Verify();
}

TEST(StoreRoom, MixedSizesAreAlwaysStored) {
  test::Random random(test::Seed());
  TestStore store(FullStore(2));
  const size_t largest = store->value_bytes_max();
  for (int i = 0; i < 6000; i++) {
    // Each magnitude as often as the others.
    const size_t size = std::min<size_t>(largest, 1 + random.Below(size_t{2} << random.Below(20)));
    const std::string key = "key" + std::to_string(random.Below(2000));
    ASSERT_TRUE(store.Set(key, ValueOf(size)).status == Status::kStored);
    if (random.OneIn(50)) (void)store.Get("key" + std::to_string(random.Below(2000)));
    if (random.OneIn(1000)) (void)store->Clear(store.now());
  }
  (void)store.removals().Take();
  store->Verify();
}

// Values above 64 KiB come in pieces, straight into the store.
TEST(StoreRoom, ThePortStoresValuesOfEverySizeInAFullCache) {
  ProtocolServer server;
  ProtocolClient client(&server);
  const size_t largest = 1'048'516 - 2;  // of items of 1 MiB, with keys of three bytes
  for (const size_t filled : {size_t{10}, size_t{5000}, size_t{100'000}, largest}) {
    const std::string value = ValueOf(filled);
    const uint64_t before = server.store()->Stats().evictions;
    for (int i = 0; server.store()->Stats().evictions < before + 32; i++) {
      ASSERT_EQ(client.Send(test::Set("f" + std::to_string(i), value)), "STORED\r\n");
    }
    for (const size_t size : Sizes(largest)) {
      EXPECT_EQ(client.Send(test::Set("new", ValueOf(size))), "STORED\r\n");
      const std::string bytes = std::to_string(size);
      EXPECT_EQ(client.Send("ms new " + bytes + "\r\n" + ValueOf(size) + "\r\n"), "HD\r\n");
    }
  }
  server.store()->Verify();
}

}  // namespace
}  // namespace cairn
