// Fills a store with more entries than a JavaScript Map can hold, and asks it about every one of them.
//
//   many_entries [--entries N]    default 300,000, which takes a moment under a sanitizer; `npm run check` asks for
//                                 20 million, which take a gibibyte
//
// Nothing may depend on there being few: every key is found with its value while the table grows, nothing is evicted as
// long as there is room, a deleted key is gone and its neighbours are not, a store that is made smaller keeps the
// entries that were used last, and a cleared one gives everything back. Verify() walks all of it in between.

#include <cinttypes>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <string>
#include <string_view>

#include "store/store.h"
#include "support/store_fixture.h"

namespace {

using namespace cairn;

constexpr size_t kKeyBytes = 8;
constexpr size_t kValueBytes = 4;
constexpr uint64_t kCountMin = 300'000;
// Of such an entry, its place in the index included: docs/memory.md.
constexpr uint64_t kEntryBytes = 48;

// Key and value of entry `number`; the value is of the key, and of no other one near it.
struct Entry {
  explicit Entry(uint64_t number) {
    const uint64_t spread = number * 0x9e3779b97f4a7c15u;  // odd: no two numbers have the same key
    std::memcpy(key_bytes, &spread, kKeyBytes);
    const uint32_t check = static_cast<uint32_t>(number ^ (spread >> 32));
    std::memcpy(value_bytes, &check, kValueBytes);
  }
  std::string_view key() const { return {key_bytes, kKeyBytes}; }
  std::string_view value() const { return {value_bytes, kValueBytes}; }
  char key_bytes[kKeyBytes];
  char value_bytes[kValueBytes];
};

#define EXPECT_THAT(condition, ...)               \
  do {                                            \
    if (!(condition)) {                           \
      std::fprintf(stderr, "" __VA_ARGS__);       \
      std::fprintf(stderr, ": %s\n", #condition); \
      return 1;                                   \
    }                                             \
  } while (false)

// Whether the entry is there; with another value than its own the process ends.
bool Has(Store* store, uint64_t number) {
  const Entry entry(number);
  char room[64];
  PlainValue value;
  const Status status = store->GetPlain(entry.key(), Now{}, room, sizeof room, &value);
  if (status == Status::kNotFound) return false;
  CHECK(status == Status::kFound);
  CHECK((std::string_view{room, value.value_bytes} == entry.value()));
  return true;
}

int Run(uint64_t count) {
  StoreOptions options;
  options.memory_bytes = count * kEntryBytes * 11 / 10 + (uint64_t{16} << 20);
  Refusal refusal;
  const std::unique_ptr<Store> store = Store::Open(options, &refusal);
  EXPECT_THAT(store != nullptr, "%s", refusal.ToString().c_str());

  for (uint64_t number = 0; number < count; ++number) {
    const Entry entry(number);
    EXPECT_THAT(store->SetPlain(entry.key(), entry.value(), Codec::kRaw, kNeverExpires, Now{}) == Status::kStored,
                "entry %" PRIu64, number);
    // One of those before, while the table grows.
    EXPECT_THAT(Has(store.get(), number / 2), "entry %" PRIu64 " after %" PRIu64, number / 2, number);
  }
  StoreStats stats = store->Stats();
  EXPECT_THAT(stats.entries == count, "%" PRIu64 " entries", stats.entries);
  EXPECT_THAT(stats.evictions == 0, "%" PRIu64 " evictions", stats.evictions);
  EXPECT_THAT(stats.charged_bytes <= stats.limit_bytes, "filled");
  EXPECT_THAT(stats.committed_bytes <= stats.memory_bytes, "filled");
  store->Verify();

  for (uint64_t number = 0; number < count; number += 2) {
    const Entry entry(number);
    Request request;
    request.verb = Verb::kDelete;
    request.key = entry.key();
    Scratch scratch;
    Outcome outcome;
    store->Execute(request, Now{}, &scratch, &outcome);
    EXPECT_THAT(outcome.status == Status::kFound, "the deletion of entry %" PRIu64, number);
  }
  for (uint64_t number = 0; number < count; ++number) {
    EXPECT_THAT(Has(store.get(), number) == (number % 2 == 1), "entry %" PRIu64, number);
  }
  stats = store->Stats();
  EXPECT_THAT(stats.entries == count / 2, "%" PRIu64 " entries", stats.entries);
  EXPECT_THAT(stats.merges > 0, "the table has not become smaller");
  store->Verify();

  // To a fifth of what it was, in which not all of the half that is left has room: what was used first goes.
  while (!store->Resize(options.memory_bytes / 5, 0, Now{})) {
  }
  stats = store->Stats();
  EXPECT_THAT(stats.charged_bytes <= stats.limit_bytes, "made smaller");
  EXPECT_THAT(stats.entries > 0 && stats.entries < count / 2, "%" PRIu64 " entries", stats.entries);
  EXPECT_THAT(stats.entries + stats.evictions == count / 2, "%" PRIu64 " entries", stats.entries);
  uint64_t kept = 0;
  // The shards are not equally full; a tenth is more than they can differ by.
  const uint64_t surely_kept = count - stats.entries * 2 * 9 / 10;
  const uint64_t surely_gone = count - stats.entries * 2 * 11 / 10;
  for (uint64_t number = 1; number < count; number += 2) {
    const bool is_there = Has(store.get(), number);
    kept += is_there;
    EXPECT_THAT(is_there || number < surely_kept, "entry %" PRIu64 " is among the last", number);
    EXPECT_THAT(!is_there || number >= surely_gone, "entry %" PRIu64 " is among the first", number);
  }
  EXPECT_THAT(kept == stats.entries, "%" PRIu64 " of %" PRIu64, kept, stats.entries);
  store->Verify();

  CHECK(store->Clear(Now{}) != 0);
  while (store->Maintain(Now{})) {
  }
  stats = store->Stats();
  EXPECT_THAT(stats.entries == 0 && stats.cleared_entries == 0 && stats.charged_bytes == 0, "cleared");
  store->Verify();
  std::printf("%" PRIu64 " entries were filled in, read, deleted, evicted and cleared\n", count);
  return 0;
}

}  // namespace

int main(int argc, char** argv) {
  if (argc == 1) return Run(kCountMin);
  const uint64_t count = argc == 3 && std::strcmp(argv[1], "--entries") == 0 ? std::strtoull(argv[2], nullptr, 10) : 0;
  if (count < kCountMin) {
    std::fprintf(stderr, "Expected --entries N, at least %" PRIu64 "\n", kCountMin);
    return 2;
  }
  return Run(count);
}
