// The way of records from the rings to the log and of the marks back: see process/change_feed.h.
#include "process/change_feed.h"

#include <atomic>
#include <chrono>
#include <deque>
#include <map>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include "base/clock.h"
#include "store/fill_watch.h"
#include "store/record.h"
#include "support/fed_store.h"
#include "support/store_fixture.h"
#include "test.h"

namespace cairn {
namespace {

struct CountingWaker final : Waker {
  std::atomic<int> count{0};
  void Wake() override { count++; }
};

TEST(ChangeFeed, WhatIsDrainedIsCommittedAsAWhole) {
  Fed fed;
  const uint64_t first = fed.Set("a").record_version;
  const uint64_t second = fed.Set("b").record_version;
  Log log;
  const ChangeFeed::Turn turn = fed.Drain(&log);
  EXPECT_EQ(turn.record_count, 2u);
  EXPECT_EQ(turn.epoch, EpochOf(first));
  EXPECT_TRUE(log.Keys() == (std::vector<std::string>{"a", "b"}));
  EXPECT_FALSE(fed.Covers("a", first)) << "it is drained, not committed";
  const uint64_t third = fed.Set("c").record_version;
  fed.Commit();
  EXPECT_TRUE(fed.Covers("a", first));
  EXPECT_TRUE(fed.Covers("b", second));
  EXPECT_FALSE(fed.Covers("c", third));
  EXPECT_EQ(fed.Drain(&log).record_count, 1u);
  fed.Commit();
  EXPECT_TRUE(fed.Covers("c", third));
  EXPECT_EQ(fed.Drain(&log).bytes, 0u);
}

TEST(ChangeFeed, WhatWasNotCommittedIsDrainedAgain) {
  Fed fed(4);
  std::vector<std::string> keys;
  for (int i = 0; i < 40; i++) {
    keys.push_back("key" + std::to_string(i));
    fed.Set(keys.back());
  }
  Log half;
  fed.Drain(&half);
  fed.Set("later");
  fed.feed->Rewind();
  Log log;
  fed.Drain(&log);
  EXPECT_EQ(log.records.size(), 41u);
  fed.Commit();
  ChangeFeed::Target target;
  fed.feed->ReadTarget(&target);
  EXPECT_TRUE(fed.feed->Covers(target));
  EXPECT_EQ(fed.feed->ReadNumbers().records, 41u);
  EXPECT_EQ(fed.feed->ReadNumbers().records_committed, 41u);
  EXPECT_EQ(fed.feed->ReadNumbers().ring_bytes, 0u);
}

// Who takes over may have less room in a turn.
TEST(ChangeFeed, WhatWasRewoundIsNotCommittedBeforeItIsDrainedAgain) {
  Fed fed;
  const std::string value(1000, 'x');
  const uint64_t first = fed.Set("a", value).record_version;
  const uint64_t second = fed.Set("b", value).record_version;
  Log log;
  EXPECT_EQ(fed.Drain(&log).record_count, 2u);
  fed.feed->Rewind();
  EXPECT_EQ(fed.Drain(&log, 1500).record_count, 1u);
  fed.Commit();
  EXPECT_TRUE(fed.Covers("a", first));
  EXPECT_FALSE(fed.Covers("b", second)) << "it is not in the log";
  EXPECT_EQ(fed.Drain(&log, 1500).record_count, 1u);
  fed.Commit();
  EXPECT_TRUE(fed.Covers("b", second));
}

TEST(ChangeFeed, ALookThatFindsNothingDoesNotCommitWhatWasDrainedBefore) {
  Fed fed;
  const uint64_t version = fed.Set("a").record_version;
  Log log;
  EXPECT_EQ(fed.Drain(&log).record_count, 1u);
  EXPECT_EQ(fed.Drain(&log).bytes, 0u);
  EXPECT_FALSE(fed.Covers("a", version)) << "the log does not have it";
  EXPECT_GT(fed.feed->ReadNumbers().ring_bytes, 0u);
  fed.Commit();
  EXPECT_TRUE(fed.Covers("a", version));
}

TEST(ChangeFeed, AShardThatHasMoreThanATurnTakesDoesNotKeepTheOthersFromTheLog) {
  constexpr uint32_t kShards = 4;
  for (uint32_t busy = 0; busy < kShards; busy++) {
    Fed fed(kShards);
    const std::string busy_key = fed.KeyIn(busy, 0);
    const std::string value(1000, 'x');
    for (int i = 0; i < 20; i++) fed.Set(busy_key, value);
    uint64_t versions[kShards] = {};
    for (uint32_t shard = 0; shard < kShards; shard++) {
      if (shard != busy) versions[shard] = fed.Set(fed.KeyIn(shard, 1)).record_version;
    }
    Log log;
    for (uint32_t turn = 0; turn < 3; turn++) {
      for (int i = 0; i < 20; i++) fed.Set(busy_key, value);
      fed.Drain(&log, 5000);
      fed.Commit();
    }
    for (uint32_t shard = 0; shard < kShards; shard++) {
      EXPECT_TRUE(fed.Covers(fed.KeyIn(shard, 1), versions[shard])) << busy << " is busy, " << shard << " waits";
    }
  }
}

TEST(ChangeFeed, ARecordThatFindsLittleRoomLeftIsFirstInTheNextTurn) {
  Fed fed(2);
  const std::string small = fed.KeyIn(0, 0), large = fed.KeyIn(1, 0);
  const uint64_t version = fed.Set(large, std::string(4000, 'x')).record_version;
  Log log;
  for (uint32_t turn = 0; turn < 2; turn++) {
    for (int i = 0; i < 2; i++) fed.Set(small, std::string(500, 'x'));
    fed.Drain(&log, 4500);
    fed.Commit();
  }
  EXPECT_TRUE(fed.Covers(large, version));
}

// However long the scribe has slept before.
TEST(ChangeFeed, ARecordThatWakesTheScribeIsAsOldAsItIs) {
  Fed fed;
  fed.Set("before");
  Log log;
  fed.Drain(&log);
  fed.Commit();
  std::string buffer(4096, '\0');
  ChangeFeed::Turn turn;
  std::thread scribe([&] { turn = fed.feed->Drain(buffer.data(), buffer.size(), 600'000); });
  while (fed.feed->wanted.load() == 0) std::this_thread::yield();
  const uint64_t slept_from_ms = ReadBootMs();
  while (ReadBootMs() - slept_from_ms < 300) std::this_thread::sleep_for(std::chrono::milliseconds(5));
  EXPECT_EQ(fed.feed->ReadNumbers().lag_ms, 0u) << "nothing waits";
  const uint64_t written_ms = ReadBootMs();
  fed.Set("woken");
  const uint64_t lag_at_once_ms = fed.feed->ReadNumbers().lag_ms;
  EXPECT_LE(lag_at_once_ms, ReadBootMs() - written_ms);
  scribe.join();
  ASSERT_EQ(turn.record_count, 1u);
  while (ReadBootMs() - written_ms < 20) std::this_thread::yield();
  const LogView::Numbers numbers = fed.feed->ReadNumbers();
  EXPECT_LE(numbers.lag_ms, ReadBootMs() - written_ms) << "not as old as the scribe's last look";
  EXPECT_GT(numbers.lag_ms, 0u) << "it is not committed yet";
  fed.Commit();
  EXPECT_EQ(fed.feed->ReadNumbers().lag_ms, 0u);
}

TEST(ChangeFeed, ARecordThatIsTooLargeForTheTurnSaysSo) {
  Fed fed;
  fed.Set("small", std::string(100, 'x'));
  fed.Set("large", std::string(300'000, 'x'));
  Log log;
  ChangeFeed::Turn turn = fed.Drain(&log, 4096);
  EXPECT_EQ(turn.record_count, 1u);
  fed.Commit();
  turn = fed.Drain(&log, 4096);
  EXPECT_EQ(turn.bytes, 0u);
  ASSERT_GE(turn.bytes_needed, 300'000u);
  turn = fed.Drain(&log, turn.bytes_needed);
  EXPECT_EQ(turn.record_count, 1u);
  EXPECT_EQ(log.records[1].value.size(), 300'000u);
  fed.Commit();
}

// What a loader found is kept like any other value: without a database behind the cache no other copy exists, and a
// reader that was shown it at the level `logged` must find it after a crash.
TEST(ChangeFeed, AFillIsARecordLikeAnyOther) {
  Fed fed;
  FillTicket ticket;
  ASSERT_TRUE(fed.store->BeginFill("key", FillOf::kAbsentKey, kNow, &ticket));
  Request request;
  request.verb = Verb::kSet;
  request.key = "key";
  request.value = "filled";
  request.fill = &ticket;
  Outcome outcome;
  fed.store->Execute(request, kNow, nullptr, &outcome);
  fed.store->EndFill("key", &ticket);
  ASSERT_TRUE(outcome.status == Status::kStored);
  Log log;
  fed.Drain(&log);
  ASSERT_EQ(log.records.size(), 1u);
  EXPECT_EQ(log.records[0].value, "filled");
  EXPECT_FALSE(fed.Covers("key", outcome.version));
  fed.Commit();
  EXPECT_TRUE(fed.Covers("key", outcome.version));
}

// A clear leaves its record in shard 0 only. A reader that finds an entry of another shard absent because of it must
// not be answered before that record is in the log.
TEST(ChangeFeed, NoMarkPassesAClearThatIsNotInTheLog) {
  Fed fed(2);
  const std::string other = fed.KeyIn(1, 0);
  fed.Set(other);
  fed.Drain(nullptr);
  fed.Commit();
  // Shard 0 has more than a turn takes before the record of the clear, shard 1 nothing but what comes after it.
  for (int i = 0; i < 20; i++) fed.Set(fed.KeyIn(0, i), std::string(1000, 'x'));
  fed.store->Clear(kNow);
  const Outcome miss = fed.Do(Verb::kHas, other);
  ASSERT_TRUE(miss.status == Status::kNotFound);
  ASSERT_NE(miss.commit_version, 0u);
  const uint64_t after = fed.Set(other).record_version;
  Log log;
  int turns = 0;
  bool is_cleared = false;
  while (!is_cleared) {
    ASSERT_LT(turns++, 100);
    fed.Drain(&log, 4096);
    fed.Commit();
    for (const StoredRecord& record : log.records) is_cleared = is_cleared || record.kind == RecordKind::kClear;
    if (!is_cleared) {
      EXPECT_FALSE(fed.Covers(other, miss.commit_version));
      EXPECT_FALSE(fed.Covers(other, after));
    }
  }
  while (fed.Drain(&log, 4096).bytes > 0) fed.Commit();
  EXPECT_TRUE(fed.Covers(other, miss.commit_version));
  EXPECT_TRUE(fed.Covers(other, after));
  EXPECT_GT(turns, 1) << "or nothing was cut short";
}

TEST(ChangeFeed, ARecordWakesAScribeThatSleeps) {
  Fed fed;
  for (int round = 0; round < 20; round++) {
    std::atomic<uint32_t> drained{0};
    std::thread scribe([&] {
      std::string buffer(65536, '\0');
      // The time is longer than any test may take: without a wake-up it fails by its deadline.
      const ChangeFeed::Turn turn = fed.feed->Drain(buffer.data(), buffer.size(), 600'000);
      drained = turn.record_count;
      fed.Commit();
    });
    // It sleeps deeply only after it had nothing to do for a while.
    while (fed.feed->wanted.load() == 0) std::this_thread::yield();
    fed.Set("key");
    scribe.join();
    EXPECT_EQ(drained.load(), 1u);
  }
}

TEST(ChangeFeed, APokeEndsADrain) {
  Fed fed;
  fed.feed->Poke();
  EXPECT_EQ(fed.Drain(nullptr, 1 << 20, 600'000).bytes, 0u) << "a poke before it counts too";
  std::thread scribe([&] { fed.feed->Drain(fed.buffer.data(), fed.buffer.size(), 600'000); });
  fed.feed->Poke();
  scribe.join();
  std::thread last([&] { fed.feed->Drain(fed.buffer.data(), fed.buffer.size(), 600'000); });
  fed.feed->SetState(ChangeFeed::State::kClosed);
  last.join();
  fed.feed->SetState(ChangeFeed::State::kRunning);
  EXPECT_TRUE(fed.feed->state() == ChangeFeed::State::kClosed) << "closed is forever";
}

TEST(ChangeFeed, AWaiterIsToldOfItsCommitOrThatNoneWillCome) {
  Fed fed;
  ChangeFeed::Target target;
  fed.feed->ReadTarget(&target);
  EXPECT_TRUE(fed.feed->WaitCommitted(target, 600'000)) << "nothing to wait for";
  fed.Set("key");
  fed.feed->ReadTarget(&target);
  EXPECT_FALSE(fed.feed->WaitCommitted(target, 1)) << "there is no scribe";
  std::thread waiter([&] { EXPECT_TRUE(fed.feed->WaitCommitted(target, 600'000)); });
  fed.Drain(nullptr);
  fed.Commit();
  waiter.join();
  fed.Set("key");
  fed.feed->ReadTarget(&target);
  std::thread hopeless([&] { EXPECT_FALSE(fed.feed->WaitCommitted(target, 600'000)); });
  fed.feed->SetState(ChangeFeed::State::kFailed);
  hopeless.join();
}

TEST(ChangeFeed, AWatchHearsOfTheNextCommitAndOfEveryState) {
  Fed fed;
  auto waker = std::make_shared<CountingWaker>();
  const std::shared_ptr<LogWatch> watch = fed.feed->Watch(waker);
  const auto commit_one = [&] {
    fed.Set("a");
    fed.Drain(nullptr);
    fed.Commit();
  };
  commit_one();
  EXPECT_EQ(waker->count.load(), 0) << "not armed";
  watch->Arm();
  commit_one();
  commit_one();
  EXPECT_EQ(waker->count.load(), 1) << "once";
  fed.feed->SetState(ChangeFeed::State::kFull);
  EXPECT_EQ(waker->count.load(), 2);
  fed.feed->Unwatch(watch.get());
  watch->Arm();
  fed.feed->SetState(ChangeFeed::State::kRunning);
  EXPECT_EQ(waker->count.load(), 2);
}

// Writers raise counters under keys of their own and wait now and then until what they did is committed; the scribe
// appends to a log, and at times dies with what it drained. Proves: what was acknowledged is in the log at that moment,
// and per key the log goes back only where it repeats what was not committed.
TEST(ChangeFeedThreads, WhatIsAcknowledgedIsInTheLog) {
  constexpr int kWriters = 3;
  constexpr int kKeys = 16;
  const uint64_t seed = test::Seed();
  Fed fed(4);
  std::mutex mutex;  // of the log
  std::map<std::string, uint64_t> newest;
  std::atomic<bool> stop{false};
  std::atomic<uint64_t> refused{0};
  std::thread scribe([&] {
    test::Random random(seed);
    std::string buffer(64 << 10, '\0');
    while (true) {
      const ChangeFeed::Turn turn = fed.feed->Drain(buffer.data(), buffer.size(), 5);
      if (turn.bytes == 0 && stop.load()) break;
      if (random.OneIn(10)) {
        fed.feed->Rewind();
        continue;
      }
      Log log;
      log.Take(buffer, turn);
      {
        std::lock_guard<std::mutex> guard(mutex);
        for (const StoredRecord& record : log.records) newest[record.key] = std::stoull(record.value);
      }
      fed.Commit();
    }
  });
  std::vector<std::thread> writers;
  for (int w = 0; w < kWriters; w++) {
    writers.emplace_back([&, w] {
      test::Random random(seed + 1 + static_cast<uint64_t>(w));
      std::vector<uint64_t> counters(kKeys);
      for (int i = 0; i < 4000; i++) {
        const size_t k = random.Below(kKeys);
        const std::string key = "w" + std::to_string(w) + "k" + std::to_string(k);
        const Outcome outcome = fed.Set(key, std::to_string(++counters[k]));
        if (outcome.status == Status::kLogFull) {
          refused++;
          --counters[k];
          fed.feed->WaitForRoom(fed.feed->progress(), 1);
          continue;
        }
        if (!random.OneIn(50)) continue;
        ChangeFeed::Target target{};
        target[fed.store->ShardOf(key)] = outcome.record_version;
        ASSERT_TRUE(fed.feed->WaitCommitted(target, 600'000));
        std::lock_guard<std::mutex> guard(mutex);
        ASSERT_GE(newest[key], counters[k]) << key;
      }
    });
  }
  for (std::thread& thread : writers) thread.join();
  stop = true;
  scribe.join();
  ChangeFeed::Target target;
  fed.feed->ReadTarget(&target);
  EXPECT_TRUE(fed.feed->Covers(target));
  fed.store->Verify();
}

TEST(ChangeFeed, TurnsInFlightAreCommittedInAnyOrderAndCountWhenAllBeforeThemAre) {
  Fed fed;
  std::vector<uint64_t> turns;
  std::vector<uint64_t> versions;
  Log log;
  for (int i = 0; i < 4; i++) {
    versions.push_back(fed.Set(fed.KeyIn(0, i)).record_version);
    turns.push_back(fed.Drain(&log).number);
  }
  EXPECT_EQ(fed.feed->turns_in_flight(), 4u);
  const auto committed = [&] {
    size_t count = 0;
    while (count < versions.size() && fed.feed->marks()->Covers(0, versions[count])) count++;
    EXPECT_EQ(fed.feed->ReadNumbers().records_committed, count);
    return count;
  };
  fed.feed->Commit(turns[2]);
  fed.feed->Commit(turns[1]);
  EXPECT_EQ(committed(), size_t{0}) << "the first is not in the log";
  fed.feed->Commit(turns[0]);
  EXPECT_EQ(committed(), size_t{3});
  EXPECT_EQ(fed.feed->turns_in_flight(), 1u);
  // What came behind the last turn is not committed with it.
  const uint64_t later = fed.Set(fed.KeyIn(0, 9)).record_version;
  fed.feed->Commit(turns[3]);
  EXPECT_EQ(committed(), size_t{4});
  EXPECT_FALSE(fed.feed->marks()->Covers(0, later));
  EXPECT_TRUE(fed.feed->ReadNumbers().ring_bytes > 0);
  fed.Drain(&log);
  fed.Commit();
  EXPECT_EQ(fed.feed->ReadNumbers().ring_bytes, uint64_t{0});
}

TEST(ChangeFeed, ATurnFreesItsOwnPartOfEveryRingAndOfPinnedValues) {
  Fed fed;
  Log log;
  const std::string large(100'000, 'v');
  std::vector<uint64_t> turns;
  std::vector<uint64_t> bytes;
  for (int i = 0; i < 3; i++) {
    fed.Set(fed.KeyIn(0, i), large);
    fed.Set(fed.KeyIn(fed.store->shard_count() - 1, i), "small");
    turns.push_back(fed.Drain(&log).number);
    bytes.push_back(fed.feed->ReadNumbers().ring_bytes);
  }
  for (int i = 0; i < 3; i++) {
    fed.feed->Commit(turns[static_cast<size_t>(i)]);
    EXPECT_EQ(fed.feed->ReadNumbers().ring_bytes, i < 2 ? bytes[2] - bytes[static_cast<size_t>(i)] : 0);
    fed.store->Verify();
  }
}

TEST(ChangeFeed, ARewindDrainsAgainWhatNoTurnHasCommittedFromTheFirstGapOn) {
  Fed fed;
  Log log;
  std::vector<uint64_t> turns;
  for (int i = 0; i < 3; i++) {
    fed.Set(fed.KeyIn(0, i));
    turns.push_back(fed.Drain(nullptr).number);
  }
  fed.feed->Commit(turns[0]);
  fed.feed->Commit(turns[2]);
  fed.feed->Rewind();
  EXPECT_EQ(fed.feed->turns_in_flight(), 0u);
  fed.Drain(&log);
  EXPECT_TRUE(log.Keys() == (std::vector<std::string>{fed.KeyIn(0, 1), fed.KeyIn(0, 2)}));
  fed.Commit();
  EXPECT_EQ(fed.feed->ReadNumbers().ring_bytes, uint64_t{0});
}

TEST(ChangeFeed, TheWindowIsRefilledAsOftenAsItIsEmptied) {
  Fed fed;
  Log log;
  size_t written = 0;
  for (int round = 0; round < 5; round++) {
    for (uint32_t i = 0; i < kLogTurnsMax; i++) {
      fed.Set("k" + std::to_string(written++));
      ASSERT_TRUE(fed.Drain(&log).number != 0);
    }
    EXPECT_EQ(fed.feed->turns_in_flight(), kLogTurnsMax);
    // From the last to the first.
    for (uint32_t i = 0; i < kLogTurnsMax; i++) fed.feed->Commit(fed.feed->last_turn() - i);
    EXPECT_EQ(fed.feed->turns_in_flight(), 0u);
    EXPECT_EQ(fed.feed->ReadNumbers().records_committed, written);
  }
  EXPECT_EQ(log.Keys().size(), written);
}

}  // namespace
}  // namespace cairn
