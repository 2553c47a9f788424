// The ring is driven here as shards drive it: events are appended by OnRemoved and OnCleared, then OnUnlocked is called
// by the same thread if pending() says so.
#include "process/removal_ring.h"

#include <algorithm>
#include <atomic>
#include <cstring>
#include <deque>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <thread>
#include <vector>

#include "test.h"

namespace cairn {
namespace {

constexpr uint32_t kAll = (1u << kReasonCount) - 1;
constexpr size_t kSmallRingBytes = 2 * kRemovalEventBytesMax;

uint32_t Bit(Reason reason) { return 1u << static_cast<int>(reason); }

class CountingWaker final : public Waker {
 public:
  void Wake() override { count.fetch_add(1); }
  std::atomic<int> count{0};
};

class TestEntry final : public RemovedEntry {
 public:
  TestEntry(std::string key, std::string value, Codec codec = Codec::kRaw, uint32_t client_flags = 0)
      : key_(std::move(key)), value_(std::move(value)), codec_(codec), client_flags_(client_flags) {}
  size_t key_bytes() const override { return key_.size(); }
  size_t value_bytes() const override { return value_.size(); }
  Codec codec() const override { return codec_; }
  uint32_t client_flags() const override { return client_flags_; }
  void CopyKey(char* data) const override { std::memcpy(data, key_.data(), key_.size()); }
  void CopyValue(char* data, size_t bytes) const override { std::memcpy(data, value_.data(), bytes); }
  bool is_fetched() const override { return false; }
  uint64_t expires_ms() const override { return kNeverExpires; }
  uint32_t accessed_s() const override { return 0; }

 private:
  std::string key_, value_;
  Codec codec_;
  uint32_t client_flags_;
};

struct Event {
  Reason reason;
  std::string key;
  std::optional<std::string> value;
  uint64_t number;
  Codec codec;
  bool operator==(const Event&) const = default;
};

// What one Take() returned, read as the header file says that it lies there.
struct Taken {
  std::vector<Event> events;
  uint64_t lost = 0;
  size_t bytes = 0;
};

Taken Take(RemovalListener* listener, size_t capacity = kRemovalEventBytesMax) {
  static thread_local std::string buffer;
  buffer.resize(capacity);
  Taken taken;
  taken.bytes = listener->Take(buffer.data(), capacity, &taken.lost);
  for (size_t offset = 0; offset < taken.bytes;) {
    RemovalEventHeader header;
    std::memcpy(&header, buffer.data() + offset, sizeof header);
    Event event{static_cast<Reason>(header.reason), {}, {}, header.number, static_cast<Codec>(header.codec)};
    const char* key = buffer.data() + offset + sizeof header;
    event.key.assign(key, header.key_bytes);
    if (header.has_value) event.value = std::string(key + header.key_bytes, header.value_bytes);
    taken.events.push_back(std::move(event));
    offset += header.event_bytes;
  }
  return taken;
}

// Takes until there is no more.
Taken TakeAll(RemovalListener* listener) {
  Taken all;
  while (true) {
    Taken taken = Take(listener);
    if (taken.bytes == 0 && taken.lost == 0) return all;
    all.lost += taken.lost;
    all.bytes += taken.bytes;
    for (Event& event : taken.events) all.events.push_back(std::move(event));
  }
}

void Remove(RemovalRing* ring, Reason reason, const std::string& key, const std::string& value = "") {
  if (!ring->wanted(reason)) return;
  ring->OnRemoved(reason, TestEntry(key, value));
  if (ring->pending()) ring->OnUnlocked();
}

struct Ear {
  explicit Ear(RemovalRing* ring, RemovalInterest interest = {kAll, false})
      : waker(std::make_shared<CountingWaker>()), listener(ring, waker) {
    listener.SetInterest(interest);
  }
  std::shared_ptr<CountingWaker> waker;
  RemovalListener listener;
};

TEST(RemovalRing, NoReasonIsWantedWithoutAListener) {
  RemovalRing ring;
  for (int reason = 0; reason < kReasonCount; ++reason) EXPECT_FALSE(ring.wanted(static_cast<Reason>(reason)));
  {
    Ear ear(&ring, {Bit(Reason::kEvicted) | Bit(Reason::kCleared), false});
    EXPECT_TRUE(ring.wanted(Reason::kEvicted));
    EXPECT_TRUE(ring.wanted(Reason::kCleared));
    EXPECT_FALSE(ring.wanted(Reason::kReplaced));
  }
  for (int reason = 0; reason < kReasonCount; ++reason) EXPECT_FALSE(ring.wanted(static_cast<Reason>(reason)));
  EXPECT_EQ(ring.listener_count(), 0u);
}

TEST(RemovalRing, AnEventThatComesWhileTheLastListenerLeavesIsHarmless) {
  RemovalRing ring;
  {
    Ear ear(&ring);
  }
  ring.OnRemoved(Reason::kEvicted, TestEntry("k", "v"));  // the shard had asked wanted() before
  ring.OnCleared(3);
  ring.OnUnlocked();
  Ear ear(&ring);
  EXPECT_EQ(TakeAll(&ear.listener).events.size(), 0u);
}

TEST(RemovalRing, WhatWasBeforeTheFirstListenerIsNotLostToHim) {
  RemovalRing ring(kSmallRingBytes);
  const auto remove = [&ring](int count) {
    for (int i = 0; i < count; ++i) Remove(&ring, Reason::kEvicted, std::to_string(i), "v");
  };
  {
    Ear before(&ring);
    remove(15000);
  }
  Ear ear(&ring);
  remove(20000);
  const Taken all = TakeAll(&ear.listener);
  EXPECT_GT(all.lost, 0u);
  EXPECT_EQ(all.lost + all.events.size(), 20000u);
}

TEST(RemovalRing, EventsComeInOrderWithKeyReasonAndCount) {
  RemovalRing ring;
  Ear ear(&ring);
  Remove(&ring, Reason::kEvicted, "a");
  Remove(&ring, Reason::kExpired, std::string("b\0c", 3));
  ring.OnCleared(77);
  Remove(&ring, Reason::kDeleted, "d");
  Remove(&ring, Reason::kReplaced, std::string(kKeyBytesMax, 'x'));
  const std::vector<Event> events = TakeAll(&ear.listener).events;
  ASSERT_EQ(events.size(), 5u);
  EXPECT_TRUE(events[0] == (Event{Reason::kEvicted, "a", {}, 0, Codec::kRaw}));
  EXPECT_TRUE(events[1] == (Event{Reason::kExpired, std::string("b\0c", 3), {}, 0, Codec::kRaw}));
  EXPECT_TRUE(events[2] == (Event{Reason::kCleared, "", {}, 77, Codec::kRaw}));
  EXPECT_TRUE(events[3] == (Event{Reason::kDeleted, "d", {}, 0, Codec::kRaw}));
  EXPECT_EQ(events[4].key, std::string(kKeyBytesMax, 'x'));
}

TEST(RemovalRing, ValuesComeOnlyIfWantedAndOnlyUpToTheirBound) {
  RemovalRing ring;
  Ear ear(&ring, {kAll, false});
  Remove(&ring, Reason::kDeleted, "k", "plain");
  EXPECT_FALSE(TakeAll(&ear.listener).events.at(0).value.has_value());
  ear.listener.SetInterest({kAll, true});
  const std::string longest(kRemovalValueBytesMax, 'v');
  ring.OnRemoved(Reason::kDeleted, TestEntry("k", longest, Codec::kJson, 42));
  Remove(&ring, Reason::kDeleted, "k", longest + "v");
  Remove(&ring, Reason::kDeleted, "k", "");
  const std::vector<Event> events = TakeAll(&ear.listener).events;
  ASSERT_EQ(events.size(), 3u);
  EXPECT_EQ(events[0].value.value(), longest);
  EXPECT_EQ(events[0].number, 42u);
  EXPECT_EQ(events[0].codec, Codec::kJson);
  EXPECT_FALSE(events[1].value.has_value());
  EXPECT_EQ(events[2].value.value(), "");
}

TEST(RemovalRing, EachListenerHearsOfItsReasonsFromTheMomentItListens) {
  RemovalRing ring;
  Ear evictions(&ring, {Bit(Reason::kEvicted), false});
  Remove(&ring, Reason::kEvicted, "1");
  Ear all(&ring);
  Remove(&ring, Reason::kEvicted, "2");
  Remove(&ring, Reason::kDeleted, "3");
  std::vector<Event> events = TakeAll(&evictions.listener).events;
  ASSERT_EQ(events.size(), 2u);
  EXPECT_EQ(events[0].key, "1");
  EXPECT_EQ(events[1].key, "2");
  events = TakeAll(&all.listener).events;
  ASSERT_EQ(events.size(), 2u);
  EXPECT_EQ(events[0].key, "2");
  EXPECT_EQ(events[1].key, "3");
}

TEST(RemovalRing, ASleeperIsWokenOnceAndAgainOnlyAfterItHasReadEverything) {
  RemovalRing ring;
  Ear ear(&ring);
  Remove(&ring, Reason::kEvicted, "1");
  EXPECT_EQ(ear.waker->count.load(), 1);
  Remove(&ring, Reason::kEvicted, "2");
  EXPECT_EQ(ear.waker->count.load(), 1);
  EXPECT_EQ(Take(&ear.listener).events.size(), 2u);
  Remove(&ring, Reason::kEvicted, "3");
  EXPECT_EQ(ear.waker->count.load(), 1) << "it has not been told that there is no more";
  EXPECT_EQ(Take(&ear.listener).events.size(), 1u);
  EXPECT_EQ(Take(&ear.listener).bytes, 0u);
  Remove(&ring, Reason::kEvicted, "4");
  EXPECT_EQ(ear.waker->count.load(), 2);
}

TEST(RemovalRing, ASleeperIsNotWokenForReasonsItDoesNotWant) {
  RemovalRing ring;
  Ear evictions(&ring, {Bit(Reason::kEvicted), false});
  Ear all(&ring);
  Remove(&ring, Reason::kDeleted, "1");
  EXPECT_EQ(evictions.waker->count.load(), 0);
  EXPECT_EQ(all.waker->count.load(), 1);
  Remove(&ring, Reason::kEvicted, "2");
  EXPECT_EQ(evictions.waker->count.load(), 1);
  EXPECT_EQ(all.waker->count.load(), 1);
}

TEST(RemovalRing, MoreSleepersThanOneHoldOfTheLockWakesAreAllWoken) {
  RemovalRing ring;
  std::vector<std::unique_ptr<Ear>> ears;
  for (int i = 0; i < 50; ++i) ears.push_back(std::make_unique<Ear>(&ring));
  Remove(&ring, Reason::kEvicted, "1");
  for (const auto& ear : ears) {
    EXPECT_EQ(ear->waker->count.load(), 1);
    EXPECT_EQ(TakeAll(&ear->listener).events.size(), 1u);
  }
}

TEST(RemovalRing, AfterCloseNothingIsWantedAndWhatIsThereCanBeTaken) {
  RemovalRing ring;
  Ear ear(&ring);
  Remove(&ring, Reason::kEvicted, "1");
  ring.Close();
  for (int reason = 0; reason < kReasonCount; ++reason) EXPECT_FALSE(ring.wanted(static_cast<Reason>(reason)));
  EXPECT_EQ(TakeAll(&ear.listener).events.size(), 1u);
  Ear late(&ring);
  EXPECT_FALSE(ring.wanted(Reason::kEvicted));
}

// A plain deque of events stands for the ring; random events, listeners of random interests and random reads are
// compared with it. Small keys and the largest ones make the ring wrap at every alignment, with and without fillers.
TEST(RemovalRing, EventsReadAndLostAddUpToEventsWritten) {
  test::Random random(test::Seed());
  RemovalRing ring(kSmallRingBytes);
  struct Reader {
    explicit Reader(RemovalRing* ring, RemovalInterest interest) : ear(ring, interest), interest(interest) {}
    Ear ear;
    RemovalInterest interest;
    std::deque<Event> expected;  // wanted and not read yet, lost ones included
    uint64_t lost = 0;
  };
  std::vector<std::unique_ptr<Reader>> readers;
  for (int i = 0; i < 3; ++i) {
    readers.push_back(std::make_unique<Reader>(
        &ring, RemovalInterest{i == 0 ? kAll : 1 + static_cast<uint32_t>(random.Below(kAll)), i == 1}));
  }
  for (int step = 0; step < 6000; ++step) {
    if (!random.OneIn(60)) {
      const auto reason = static_cast<Reason>(random.Below(kReasonCount));
      if (!ring.wanted(reason)) continue;
      Event event{reason, {}, {}, random.Below(1000), Codec::kRaw};
      if (reason == Reason::kCleared) {
        ring.OnCleared(event.number);
      } else {
        event.key = random.Bytes(random.OneIn(40) ? random.Between(1, kKeyBytesMax) : random.Between(1, 300));
        std::string value = random.Bytes(random.OneIn(20) ? random.Below(2 * kRemovalValueBytesMax) : random.Below(50));
        ring.OnRemoved(reason, TestEntry(event.key, value, Codec::kRaw, static_cast<uint32_t>(event.number)));
        if (value.size() <= kRemovalValueBytesMax) event.value = std::move(value);
      }
      if (ring.pending()) ring.OnUnlocked();
      for (const auto& reader : readers) {
        if ((reader->interest.reasons & Bit(reason)) != 0) reader->expected.push_back(event);
      }
    } else {
      Reader& reader = *readers[random.Below(readers.size())];
      const Taken taken = Take(&reader.ear.listener, kRemovalEventBytesMax + 8 * random.Below(1000));
      ASSERT_LE(taken.lost, reader.expected.size());
      reader.expected.erase(reader.expected.begin(), reader.expected.begin() + static_cast<long>(taken.lost));
      reader.lost += taken.lost;
      for (const Event& event : taken.events) {
        ASSERT_FALSE(reader.expected.empty());
        const Event& expected = reader.expected.front();
        ASSERT_EQ(event.key, expected.key);
        ASSERT_EQ(event.reason, expected.reason);
        ASSERT_EQ(event.number, expected.number);
        if (reader.interest.values) {
          ASSERT_TRUE(event.value == expected.value);
        }
        reader.expected.pop_front();
      }
    }
  }
  uint64_t lost = 0;
  for (const auto& reader : readers) {
    const Taken rest = TakeAll(&reader->ear.listener);
    EXPECT_EQ(rest.lost + rest.events.size(), reader->expected.size());
    lost += reader->lost + rest.lost;
  }
  EXPECT_GT(lost, 0u) << "the ring was meant to overflow";
}

// Four writers, each with its own keys and a sequence per key, and two readers that come and read until they are told
// that there is no more. Proves: per key the order is kept; what is read and what is lost add up to what was written; a
// sleeping reader is always woken (otherwise the test does not end).
TEST(RemovalRing, ThreadsWriteWhileOthersReadAndNothingIsMiscounted) {
  constexpr int kWriters = 4;
  constexpr int kEventsPerWriter = 20000;
  RemovalRing ring(kSmallRingBytes);
  class Bell final : public Waker {
   public:
    void Wake() override {
      rung.store(1);
      OsWakeWord(&rung, true);
    }
    void Wait() {
      while (rung.exchange(0) == 0) OsWaitOnWord(&rung, 0, -1);
    }
    std::atomic<uint32_t> rung{0};
  };
  struct Result {
    uint64_t read = 0, lost = 0;
    bool in_order = true;
  };
  const auto read = [&](RemovalListener* listener, Bell* bell, Result* result) {
    std::map<std::string, int> last;
    while (result->read + result->lost < uint64_t{kWriters} * kEventsPerWriter) {
      const Taken taken = Take(listener, 256 * 1024);
      result->lost += taken.lost;
      for (const Event& event : taken.events) {
        const size_t dot = event.key.find('.');
        const int sequence = std::stoi(event.key.substr(dot + 1));
        const auto [entry, is_new] = last.try_emplace(event.key.substr(0, dot), sequence);
        if (!is_new) {
          result->in_order &= sequence > entry->second;
          entry->second = sequence;
        }
        ++result->read;
      }
      if (taken.bytes == 0 && taken.lost == 0) bell->Wait();
    }
  };
  const auto bell1 = std::make_shared<Bell>();
  const auto bell2 = std::make_shared<Bell>();
  auto listener1 = std::make_unique<RemovalListener>(&ring, bell1);
  auto listener2 = std::make_unique<RemovalListener>(&ring, bell2);
  listener1->SetInterest({kAll, true});
  listener2->SetInterest({kAll, false});
  Result result1, result2;
  std::vector<std::thread> threads;
  threads.emplace_back([&] { read(listener1.get(), bell1.get(), &result1); });
  threads.emplace_back([&] { read(listener2.get(), bell2.get(), &result2); });
  for (int writer = 0; writer < kWriters; ++writer) {
    threads.emplace_back([&ring, writer] {
      const std::string value(40, 'v');
      for (int i = 0; i < kEventsPerWriter; ++i) {
        const std::string key = "w" + std::to_string(writer) + "k" + std::to_string(i % 7) + "." + std::to_string(i);
        Remove(&ring, Reason::kReplaced, key, value);
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_TRUE(result1.in_order);
  EXPECT_TRUE(result2.in_order);
  EXPECT_EQ(result1.read + result1.lost, uint64_t{kWriters} * kEventsPerWriter);
  EXPECT_EQ(result2.read + result2.lost, uint64_t{kWriters} * kEventsPerWriter);
}

// Listeners come and go, with the ring's memory, while a writer writes.
TEST(RemovalRing, ListenersComeAndGoWhileEventsAreWritten) {
  RemovalRing ring(kSmallRingBytes);
  std::atomic<bool> stop{false};
  std::thread writer([&] {
    for (int i = 0; !stop.load(); ++i) Remove(&ring, Reason::kEvicted, "key" + std::to_string(i));
  });
  std::vector<std::thread> threads;
  std::atomic<uint64_t> heard{0};
  for (int t = 0; t < 2; ++t) {
    threads.emplace_back([&] {
      for (int round = 0; round < 200; ++round) {
        Ear ear(&ring);
        uint64_t got = 0;
        while (got == 0) {
          const Taken taken = Take(&ear.listener);
          got += taken.events.size() + taken.lost;
          if (got == 0) std::this_thread::yield();
        }
        heard += got;
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  stop.store(true);
  writer.join();
  EXPECT_GE(heard.load(), 400u);
  EXPECT_EQ(ring.listener_count(), 0u);
}

}  // namespace
}  // namespace cairn
