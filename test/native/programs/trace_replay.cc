// Replays a trace of keys against the store, read-through: a miss stores the key.
//
//   trace_replay --entries-max N [--shards N] < keys
//       reads a key per line and prints the counts as a line of JSON:
//       {"requests":N,"hits":N,"misses":N,"evictions":N,"entries":N}
//
//   trace_replay
//       replays a built-in trace and compares the counts with those of an exact LRU
//
// With one shard the store is an exact LRU: the counts are equal, to the last miss. test/traces/ has the same through
// the API, with published traces and counts.

#include <cinttypes>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <list>
#include <memory>
#include <optional>
#include <string>
#include <unordered_map>

#include "store/store.h"
#include "support/store_fixture.h"
#include "test.h"

namespace {

using namespace cairn;

struct Counts {
  uint64_t requests = 0, hits = 0, misses = 0, evictions = 0, entries = 0;
  bool operator==(const Counts&) const = default;
};

void Print(const Counts& counts) {
  std::printf("{\"requests\":%" PRIu64 ",\"hits\":%" PRIu64 ",\"misses\":%" PRIu64 ",\"evictions\":%" PRIu64
              ",\"entries\":%" PRIu64 "}\n",
              counts.requests, counts.hits, counts.misses, counts.evictions, counts.entries);
}

using NextKey = std::function<bool(std::string*)>;

// The counts of the store, or none, having said why.
std::optional<Counts> Replay(uint64_t entries_max, uint32_t shard_count, const NextKey& next) {
  StoreOptions options;
  options.memory_bytes = uint64_t{256} << 20;
  options.shard_count = shard_count;
  options.entries_max = entries_max;
  options.secrets = FixedSecrets(1);
  Refusal refusal;
  const std::unique_ptr<Store> store = Store::Open(options, &refusal);
  if (store == nullptr) {
    std::fprintf(stderr, "%s\n", refusal.ToString().c_str());
    return std::nullopt;
  }
  Counts counts;
  char value[64];
  for (std::string key; next(&key);) {
    ++counts.requests;
    Request request;
    request.key = key;
    Scratch scratch{value, sizeof value, 0};
    Outcome outcome;
    store->Execute(request, Now{}, &scratch, &outcome);
    if (outcome.status == Status::kFound) {
      ++counts.hits;
      continue;
    }
    ++counts.misses;
    request.verb = Verb::kSet;
    request.value = "v";
    store->Execute(request, Now{}, &scratch, &outcome);
    if (outcome.status != Status::kStored) {
      std::fprintf(stderr, "set answered %d\n", static_cast<int>(outcome.status));
      return std::nullopt;
    }
  }
  store->Verify();
  const StoreStats stats = store->Stats();
  if (stats.hits != counts.hits || stats.misses != counts.misses) {
    std::fprintf(stderr,
                 "the store counted %" PRIu64 " hits and %" PRIu64 " misses, the caller %" PRIu64 " and %" PRIu64 "\n",
                 stats.hits, stats.misses, counts.hits, counts.misses);
    return std::nullopt;
  }
  counts.evictions = stats.evictions;
  counts.entries = stats.entries;
  return counts;
}

Counts ReplayExactLru(uint64_t entries_max, const NextKey& next) {
  std::list<std::string> order;  // the newest first
  std::unordered_map<std::string, std::list<std::string>::iterator> index;
  Counts counts;
  for (std::string key; next(&key);) {
    ++counts.requests;
    if (const auto found = index.find(key); found != index.end()) {
      ++counts.hits;
      order.splice(order.begin(), order, found->second);
      continue;
    }
    ++counts.misses;
    order.push_front(key);
    index[key] = order.begin();
    if (order.size() <= entries_max) continue;
    ++counts.evictions;
    index.erase(order.back());
    order.pop_back();
  }
  counts.entries = order.size();
  return counts;
}

// Popular keys, scans, and a working set that moves.
NextKey MadeTrace(uint64_t seed, uint64_t requests) {
  return [random = test::Random(seed), left = requests](std::string* key) mutable {
    if (left-- == 0) return false;
    uint64_t number;
    if (random.OneIn(4)) {
      number = 1'000'000 + left % 7000;
    } else {
      const double uniform =
          static_cast<double>(random.Below(uint64_t{1} << 53)) / static_cast<double>(uint64_t{1} << 53);
      number = static_cast<uint64_t>(std::pow(20'000.0, uniform)) + left / 50'000 * 100;
    }
    *key = std::to_string(number);
    return true;
  };
}

int CompareWithExactLru() {
  for (uint64_t entries_max : {1u, 2u, 10u, 100u, 1000u, 5000u, 100'000u}) {
    const uint64_t seed = entries_max;
    const std::optional<Counts> counts = Replay(entries_max, 1, MadeTrace(seed, 100'000));
    if (!counts) return 1;
    const Counts exact = ReplayExactLru(entries_max, MadeTrace(seed, 100'000));
    if (*counts == exact) continue;
    std::fprintf(stderr, "with %" PRIu64 " entries the store differs from an exact LRU:\n", entries_max);
    Print(*counts);
    Print(exact);
    return 1;
  }
  std::printf("the store is an exact LRU on 100000 requests at each of 7 sizes\n");
  return 0;
}

}  // namespace

int main(int argc, char** argv) {
  if (argc == 1) return CompareWithExactLru();
  uint64_t entries_max = 0;
  uint32_t shard_count = 1;
  for (int i = 1; i < argc; i += 2) {
    const uint64_t value = i + 1 < argc ? std::strtoull(argv[i + 1], nullptr, 10) : 0;
    if (std::strcmp(argv[i], "--entries-max") == 0 && value > 0) {
      entries_max = value;
    } else if (std::strcmp(argv[i], "--shards") == 0 && value > 0) {
      shard_count = static_cast<uint32_t>(value);
    } else {
      std::fprintf(stderr, "Expected --entries-max N or --shards N, got %s\n", argv[i]);
      return 2;
    }
  }
  const NextKey from_input = [](std::string* key) {
    char line[256];
    do {
      if (std::fgets(line, sizeof line, stdin) == nullptr) return false;
      key->assign(line, std::strcspn(line, "\r\n"));
    } while (key->empty());
    return true;
  };
  const std::optional<Counts> counts = Replay(entries_max, shard_count, from_input);
  if (!counts) return 1;
  Print(*counts);
  return 0;
}
