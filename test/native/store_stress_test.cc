// Many threads on few shards, for ThreadSanitizer above all. What is proved without it: every value that any thread
// reads (copied, pinned, batched or walked) is one that some thread wrote whole under that very key, because values
// carry their key, their writer and a checksum; for one thread the versions of a key never go back, and one version
// never has two values; counters lose no increment; and when all is over the invariants hold and every byte is
// accounted for.

#include <algorithm>
#include <atomic>
#include <thread>
#include <unordered_map>

#include "store/store.h"
#include "support/store_fixture.h"
#include "test.h"

namespace cairn {
namespace {

constexpr int kOperationsPerThread = test::kUnderTsan ? 30'000 : 60'000;

// A value that says who wrote it under what key, and whether it is whole.
struct Stamp {
  uint32_t key;
  uint32_t writer;
  uint64_t sequence;
  uint64_t checksum;  // of the three above and the bytes behind
};

uint64_t Checksum(const Stamp& stamp, std::string_view rest) {
  uint64_t sum =
      0xcbf29ce484222325u ^ stamp.key ^ (uint64_t{stamp.writer} << 32) ^ (stamp.sequence * 0x9e3779b97f4a7c15u);
  for (unsigned char byte : rest) sum = (sum ^ byte) * 0x100000001b3u;
  return sum;
}

std::string StampedValue(uint32_t key, uint32_t writer, uint64_t sequence, size_t extra_bytes) {
  Stamp stamp{key, writer, sequence, 0};
  std::string value(sizeof stamp, '\0');
  value += PatternBytes(extra_bytes, sequence * 31 + writer);
  stamp.checksum = Checksum(stamp, std::string_view(value).substr(sizeof stamp));
  std::memcpy(value.data(), &stamp, sizeof stamp);
  return value;
}

std::string KeyName(uint32_t key) {
  // Some keys are long: they continue in chunks.
  std::string name = "key" + std::to_string(key);
  if (key % 16 == 7) name += std::string(300 + key % 700, 'k');
  return name;
}

class Hammer {
 public:
  Hammer(Store* store, uint32_t writer, uint32_t key_count, uint64_t seed)
      : store_(store), writer_(writer), key_count_(key_count), random_(seed), bytes_(size_t{1} << 20, '\0') {}

  void Run(int operations) {
    for (int i = 0; i < operations && failures == 0; ++i) {
      now_.boot_ms += random_.Below(3);
      now_.wall_ms = static_cast<int64_t>(now_.boot_ms);
      One();
    }
    for (Held& held : held_) Release(held);
    held_.clear();
  }

  int failures = 0;
  std::string failure;
  uint64_t pins = 0, hits = 0, walked = 0;

 private:
  struct Held {
    uint32_t key;
    Outcome outcome;
  };

  void Fail(std::string what, uint32_t key) {
    ++failures;
    failure = what + " at key " + std::to_string(key);
  }

  void CheckValue(uint32_t key, std::string_view value, uint64_t version) {
    Stamp stamp;
    if (value.size() < sizeof stamp) return Fail("a value of " + std::to_string(value.size()) + " bytes", key);
    std::memcpy(&stamp, value.data(), sizeof stamp);
    if (stamp.key != key) return Fail("the value of key " + std::to_string(stamp.key), key);
    if (stamp.checksum != Checksum(stamp, value.substr(sizeof stamp))) return Fail("a torn value", key);
    const uint64_t token = stamp.sequence * 64 + stamp.writer;
    if (version == 0) return;
    auto [seen, is_new] = seen_.try_emplace(key, Seen{version, token});
    if (is_new) return;
    if (version < seen->second.version) return Fail("a version that went back", key);
    if (version == seen->second.version && token != seen->second.token) return Fail("two values of one version", key);
    seen->second = Seen{version, token};
  }

  void Release(Held& held) {
    std::string value(held.outcome.value_bytes, '\0');
    store_->ReadPinned(held.outcome.pin, 0, value.data(), value.size());
    CheckValue(held.key, value, 0);
    store_->Unpin(held.outcome.pin);
  }

  size_t ExtraBytes() { return random_.Below(uint64_t{1} << random_.Between(1, random_.OneIn(8) ? 16 : 10)); }

  void One() {
    const uint32_t key = static_cast<uint32_t>(random_.OneIn(2) ? random_.Below(key_count_) : random_.Below(16));
    const std::string name = KeyName(key);
    Request request = TestStore::Make(Verb::kGet, name);
    Outcome outcome;
    Scratch scratch{bytes_.data(), bytes_.size(), 0};
    switch (random_.Below(20)) {
      default: {
        if (random_.OneIn(8)) scratch.capacity = 4096;
        store_->Execute(request, now_, &scratch, &outcome);
        if (outcome.status != Status::kFound) return;
        ++hits;
        if (outcome.pin.ref == 0) {
          return CheckValue(key, std::string_view(bytes_.data() + outcome.value_offset, outcome.value_bytes),
                            outcome.version);
        }
        ++pins;
        held_.push_back({key, outcome});
        if (held_.size() > 3) {
          Release(held_.front());
          held_.erase(held_.begin());
        }
        return;
      }
      case 0:
      case 1:
      case 2:
      case 3:
      case 4: {
        const std::string value = StampedValue(key, writer_, ++sequence_, ExtraBytes());
        const Verb verbs[] = {Verb::kSet, Verb::kSet, Verb::kSet, Verb::kAdd, Verb::kReplace};
        request.verb = verbs[random_.Below(5)];
        request.value = value;
        if (random_.OneIn(3)) request.expires_ms = now_.boot_ms + random_.Between(1, 3000);
        if (random_.OneIn(4)) request.client_flags = 1;
        store_->Execute(request, now_, &scratch, &outcome);
        return;
      }
      case 5:
        request.verb = random_.OneIn(2) ? Verb::kDelete : Verb::kEvict;
        store_->Execute(request, now_, &scratch, &outcome);
        return;
      case 6: {
        request.verb = random_.OneIn(2) ? Verb::kTouch : Verb::kGetAndTouch;
        request.expires_ms = random_.OneIn(2) ? kNeverExpires : now_.boot_ms + random_.Between(1, 3000);
        store_->Execute(request, now_, &scratch, &outcome);
        if (outcome.pin.ref != 0) {
          store_->Unpin(outcome.pin);
        } else if (outcome.has_value) {
          CheckValue(key, std::string_view(bytes_.data() + outcome.value_offset, outcome.value_bytes), outcome.version);
        }
        return;
      }
      case 7: {
        const std::string value = StampedValue(key, writer_, ++sequence_, 2000 + random_.Below(60'000));
        request.verb = Verb::kSet;
        Body body;
        if (store_->Reserve(request, static_cast<uint32_t>(value.size()), now_, &body) != Status::kStored) return;
        for (size_t at = 0; at < value.size(); at += 10'000) {
          store_->WriteBody(body, at, std::string_view(value).substr(at, 10'000));
        }
        if (random_.OneIn(8)) {
          store_->Abandon(&body);
        } else {
          store_->Link(&body, request, now_, &outcome);
        }
        return;
      }
      case 8: {
        // Values first: a request holds views of keys and values, which must not move any more.
        std::vector<std::string> names, values;
        std::vector<uint32_t> keys;
        std::vector<Request> requests;
        for (int i = 0; i < 40; ++i) {
          keys.push_back(static_cast<uint32_t>(random_.Below(key_count_)));
          names.push_back(KeyName(keys.back()));
          values.push_back(StampedValue(keys.back(), writer_, ++sequence_, random_.Below(200)));
        }
        for (size_t i = 0; i < names.size(); ++i) {
          const Verb verbs[] = {Verb::kGet, Verb::kGet, Verb::kGet, Verb::kSet, Verb::kDelete};
          requests.push_back(TestStore::Make(verbs[random_.Below(5)], names[i], values[i]));
        }
        std::vector<Outcome> outcomes(requests.size());
        store_->ExecuteMany(requests.data(), requests.size(), now_, &scratch, outcomes.data());
        for (size_t i = 0; i < outcomes.size(); ++i) {
          if (requests[i].verb != Verb::kGet || outcomes[i].status != Status::kFound) continue;
          ++hits;
          const std::string_view value(bytes_.data() + outcomes[i].value_offset, outcomes[i].value_bytes);
          CheckValue(keys[i], value, outcomes[i].version);
        }
        return;
      }
      case 9: {
        if (!random_.OneIn(40)) return;
        Cursor cursor;
        store_->OpenCursor(random_.OneIn(2) ? Cursor::Order::kOldestFirst : Cursor::Order::kNewestFirst, &cursor);
        WalkedEntry entries[32];
        bool done = false;
        for (int step = 0; !done && step < 100; ++step) {
          scratch.used = 0;
          size_t needed = 0;
          const size_t count =
              store_->StepCursor(&cursor, now_, Emits::kKeysAndValues, entries, 32, &scratch, &done, &needed);
          for (size_t i = 0; i < count; ++i) {
            const std::string_view walked_key(bytes_.data() + entries[i].key_offset, entries[i].key_bytes);
            const uint32_t k =
                static_cast<uint32_t>(std::strtoul(std::string(walked_key.substr(3, 8)).c_str(), nullptr, 10));
            if (walked_key != KeyName(k)) Fail("a walked key that was never written", k);
            CheckValue(k, std::string_view(bytes_.data() + entries[i].value_offset, entries[i].value_bytes), 0);
            ++walked;
          }
        }
        store_->CloseCursor(&cursor);
        return;
      }
    }
  }

  struct Seen {
    uint64_t version;
    uint64_t token;
  };

  Store* const store_;
  const uint32_t writer_;
  const uint32_t key_count_;
  test::Random random_;
  std::string bytes_;
  Now now_{1'000'000, 1'000'000};
  uint64_t sequence_ = 0;
  std::vector<Held> held_;
  std::unordered_map<uint32_t, Seen> seen_;
};

TEST(StoreStress, EveryValueReadIsOneThatWasWritten) {
  StoreOptions options;
  options.memory_bytes = 8 << 20;
  options.memory_bytes_ceiling = 16 << 20;
  options.shard_count = 2;
  options.page_bytes = kPageBytesMin;
  options.secrets = FixedSecrets(test::Seed());
  RemovalRecorder removals(false);
  Refusal refusal;
  const std::unique_ptr<Store> store = Store::Open(options, &refusal);
  ASSERT_TRUE(store != nullptr) << refusal;
  store->SetRemovalSink(&removals);

  constexpr uint32_t kHammers = 4;
  std::vector<std::unique_ptr<Hammer>> hammers;
  for (uint32_t i = 0; i < kHammers; ++i) {
    hammers.push_back(std::make_unique<Hammer>(store.get(), i, 3000, test::Seed() * 7 + i));
  }
  std::atomic<bool> stop{false};
  std::thread janitor([&] {
    test::Random random(test::Seed() ^ 0x6a616e);
    Now now{1'000'000, 1'000'000};
    bool grown = false;
    for (int round = 0; !stop.load(); ++round) {
      now.boot_ms += random.Below(4);
      while (store->Maintain(now) && !stop.load()) {
      }
      if (round % 37 == 36) store->Clear(now);
      uint64_t version;
      if (round % 101 == 100) static_cast<void>(store->ScheduleClear(now.boot_ms + 5, now, &version));
      if (round % 53 == 52) {
        grown = !grown;
        while (!store->Resize(grown ? 16 << 20 : 8 << 20, 0, now)) {
        }
      }
      static_cast<void>(store->Stats());
      if (round % 11 == 0) removals.Take();
      std::this_thread::yield();
    }
  });
  std::vector<std::thread> threads;
  for (auto& hammer : hammers) threads.emplace_back([&hammer] { hammer->Run(kOperationsPerThread); });
  for (std::thread& thread : threads) thread.join();
  stop = true;
  janitor.join();

  uint64_t pins = 0, hits = 0, walked = 0;
  for (const auto& hammer : hammers) {
    EXPECT_EQ(hammer->failures, 0) << hammer->failure;
    pins += hammer->pins;
    hits += hammer->hits;
    walked += hammer->walked;
  }
  EXPECT_GT(hits, 1000);
  EXPECT_GT(pins, 100);
  EXPECT_GT(walked, 100);
  store->Verify();
  const Now late{uint64_t{1} << 40, int64_t{1} << 40};
  store->Clear(late);
  while (store->Maintain(late)) {
  }
  EXPECT_EQ(store->Stats().charged_bytes, 0) << "something was lost";
  EXPECT_EQ(store->Stats().pinned_pages, 0);
  EXPECT_EQ(store->Stats().entries, 0);
}

TEST(StoreStress, CountersLoseNoIncrement) {
  StoreOptions options = TestStore::Tiny();
  options.memory_bytes = 16 << 20;
  options.shard_count = 4;
  Refusal refusal;
  const std::unique_ptr<Store> store = Store::Open(options, &refusal);
  ASSERT_TRUE(store != nullptr) << refusal;
  constexpr int kCounters = 5, kThreads = 4, kIncrements = kOperationsPerThread / 4;
  const auto run = [&](int thread) {
    test::Random random(static_cast<uint64_t>(thread));
    char bytes[64];
    for (int i = 0; i < kIncrements; ++i) {
      const std::string key = "counter" + std::to_string(i % kCounters);
      Request request = TestStore::Make(Verb::kIncr, key);
      request.delta = 1;
      request.has_initial = true;
      request.initial = 1;
      Outcome outcome;
      Scratch scratch{bytes, sizeof bytes, 0};
      if (random.OneIn(2)) {
        store->Execute(request, Now{}, &scratch, &outcome);
        continue;
      }
      // The same through get and cas.
      for (;;) {
        Request get = TestStore::Make(Verb::kGet, key);
        scratch.used = 0;
        store->Execute(get, Now{}, &scratch, &outcome);
        Request store_request = TestStore::Make(Verb::kAdd, key);
        uint64_t number = 1;
        if (outcome.status == Status::kFound) {
          number =
              std::strtoull(std::string(bytes + outcome.value_offset, outcome.value_bytes).c_str(), nullptr, 10) + 1;
          store_request.verb = Verb::kCas;
          store_request.compare = outcome.version;
        }
        const std::string text = std::to_string(number);
        store_request.value = text;
        store->Execute(store_request, Now{}, &scratch, &outcome);
        if (outcome.status == Status::kStored) break;
      }
    }
  };
  std::vector<std::thread> threads;
  for (int i = 0; i < kThreads; ++i) threads.emplace_back(run, i);
  for (std::thread& thread : threads) thread.join();
  uint64_t total = 0;
  for (int i = 0; i < kCounters; ++i) {
    char bytes[64];
    Scratch scratch{bytes, sizeof bytes, 0};
    Outcome outcome;
    const std::string key = "counter" + std::to_string(i);
    store->Execute(TestStore::Make(Verb::kGet, key), Now{}, &scratch, &outcome);
    total += std::strtoull(std::string(bytes + outcome.value_offset, outcome.value_bytes).c_str(), nullptr, 10);
  }
  EXPECT_EQ(total, uint64_t{kThreads} * kIncrements);
}

TEST(StoreStress, RecordsOfAShardComeInTheOrderOfTheirVersionsAndFoldToTheContents) {
  StoreOptions options = TestStore::Tiny();
  options.memory_bytes = 16 << 20;
  options.shard_count = 2;
  options.ring_bytes = 2 * kRingBytesMin;
  Refusal refusal;
  const std::unique_ptr<Store> store = Store::Open(options, &refusal);
  ASSERT_TRUE(store != nullptr) << refusal;
  const auto run = [&](uint32_t thread) {
    test::Random random(thread + test::Seed());
    for (int i = 0; i < kOperationsPerThread / 4; ++i) {
      const std::string key = "key" + std::to_string(random.Below(50));
      const std::string value = std::to_string(thread) + "-" + std::to_string(i);
      Request request = TestStore::Make(random.OneIn(4)   ? Verb::kDelete
                                        : random.OneIn(3) ? Verb::kAdd
                                                          : Verb::kSet,
                                        key, value);
      Outcome outcome;
      Scratch scratch;
      store->Execute(request, Now{}, &scratch, &outcome);
      if (random.OneIn(2000)) store->Clear(Now{});
    }
  };
  std::vector<StoredRecord> all;
  uint64_t last[2] = {};
  const auto drain = [&] {
    for (uint32_t shard = 0; shard < 2; ++shard) {
      for (StoredRecord& record : DrainAll(store.get(), shard)) {
        EXPECT_GT(record.version, last[shard]);
        last[shard] = record.version;
        all.push_back(std::move(record));
      }
      store->CommitRing(shard);
    }
  };
  std::atomic<bool> done{false};
  std::thread reader([&] {
    while (!done.load()) drain();
  });
  std::vector<std::thread> threads;
  for (uint32_t i = 0; i < 4; ++i) threads.emplace_back(run, i);
  for (std::thread& thread : threads) thread.join();
  done.store(true);
  reader.join();
  drain();

  std::unordered_map<std::string, StoredRecord> contents;
  uint64_t cleared = 0;
  for (const StoredRecord& record : all) {
    if (record.kind == RecordKind::kClear) cleared = std::max(cleared, record.version);
  }
  for (StoredRecord& record : all) {
    if (record.key.empty() || record.version < cleared) continue;
    const std::string key = record.key;
    if (record.kind == RecordKind::kDelete) {
      contents.erase(key);
    } else {
      contents[key] = std::move(record);
    }
  }
  EXPECT_EQ(store->entries(), contents.size());
  for (const auto& [key, record] : contents) {
    char bytes[64];
    Scratch scratch{bytes, sizeof bytes, 0};
    Outcome outcome;
    store->Execute(TestStore::Make(Verb::kGet, key), Now{}, &scratch, &outcome);
    EXPECT_EQ(outcome.status, Status::kFound) << key;
    EXPECT_EQ(outcome.version, record.version) << key;
    EXPECT_EQ(std::string_view(bytes + outcome.value_offset, outcome.value_bytes), record.value) << key;
  }
}

}  // namespace
}  // namespace cairn
