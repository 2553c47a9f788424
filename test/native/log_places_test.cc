// Where the log has a record: see process/log_places.h.
#include "process/log_places.h"

#include <algorithm>
#include <atomic>
#include <map>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "process/change_feed.h"
#include "store/shard.h"
#include "support/fed_store.h"
#include "test.h"

namespace cairn {
namespace {

bool Includes(const std::vector<LogRange>& ranges, uint64_t position) {
  return std::any_of(ranges.begin(), ranges.end(),
                     [position](const LogRange& range) { return range.begin <= position && position < range.end; });
}

TEST(LogPlaces, AVersionIsInTheRangeThatCameWithIt) {
  LogPlaces places(2);
  constexpr uint64_t kFar = 10 * kLogPlaceBytesMin;
  places.AddUpTo(0, 10, {0, 100});
  places.AddUpTo(1, 7, {0, 100});
  places.AddUpTo(0, 20, {kFar, kFar + 100});
  EXPECT_TRUE(places.Find(0, 1) == (std::vector<LogRange>{{0, 100}}));
  EXPECT_TRUE(places.Find(0, 10) == (std::vector<LogRange>{{0, 100}}));
  EXPECT_TRUE(places.Find(0, 11) == (std::vector<LogRange>{{kFar, kFar + 100}}));
  EXPECT_TRUE(places.Find(0, 21).empty());
  EXPECT_TRUE(places.Find(1, 8).empty());
  // It is there already.
  places.AddUpTo(0, 20, {2 * kFar, 2 * kFar + 100});
  EXPECT_TRUE(places.Find(0, 20) == (std::vector<LogRange>{{kFar, kFar + 100}}));
}

TEST(LogPlaces, SmallGroupsAreOnePointAndLargeOnesOneEach) {
  LogPlaces places(1);
  uint64_t position = 0;
  uint64_t version = 0;
  for (int i = 0; i < 64; i++) {
    places.AddUpTo(0, ++version, {position, position + 1024});
    position += 1024;
  }
  EXPECT_EQ(places.point_count(), size_t{1});
  for (int i = 0; i < 4; i++) {
    places.AddUpTo(0, ++version, {position, position + 2 * kLogPlaceBytesMin});
    position += 2 * kLogPlaceBytesMin;
  }
  EXPECT_EQ(places.point_count(), size_t{5});
}

TEST(LogPlaces, WhatIsBeforeAPositionIsDropped) {
  LogPlaces places(1);
  for (uint64_t i = 0; i < 10; i++) {
    places.AddUpTo(0, i + 1, {i * kLogPlaceBytesMin, (i + 1) * kLogPlaceBytesMin});
  }
  places.DropBefore(3 * kLogPlaceBytesMin + 1);
  EXPECT_TRUE(places.Find(0, 3).empty());
  EXPECT_EQ(places.Find(0, 4).size(), size_t{1}) << "it may be behind the position";
  EXPECT_EQ(places.Find(0, 10).size(), size_t{1});
  places.DropBefore(100 * kLogPlaceBytesMin);
  EXPECT_EQ(places.point_count(), size_t{0});
  // Versions go on where they were.
  places.AddUpTo(0, 5, {200 * kLogPlaceBytesMin, 201 * kLogPlaceBytesMin});
  EXPECT_EQ(places.point_count(), size_t{0});
}

TEST(LogPlaces, RecoveredVersionsOfSeveralShardsAreToldApart) {
  LogPlaces places(1);
  constexpr uint64_t kOther = 1 << 20;
  for (uint64_t i = 0; i < 8; i++) {
    const LogRange range{i * kLogPlaceBytesMin, (i + 1) * kLogPlaceBytesMin};
    places.AddRecovered(0, {10 * i + 1, 10 * i + 5, kOther + 10 * i, kOther + 10 * i + 9}, range);
  }
  EXPECT_TRUE(places.Find(0, 25) == (std::vector<LogRange>{{2 * kLogPlaceBytesMin, 3 * kLogPlaceBytesMin}}));
  EXPECT_TRUE(places.Find(0, kOther + 77) == (std::vector<LogRange>{{7 * kLogPlaceBytesMin, 8 * kLogPlaceBytesMin}}));
  EXPECT_TRUE(places.Find(0, 10'000).empty());
  // New versions are above all of them.
  places.AddUpTo(0, 2 * kOther, {8 * kLogPlaceBytesMin, 10 * kLogPlaceBytesMin});
  EXPECT_TRUE(places.Find(0, kOther + 80) == (std::vector<LogRange>{{8 * kLogPlaceBytesMin, 10 * kLogPlaceBytesMin}}));
  EXPECT_EQ(places.Find(0, kOther + 79).size(), size_t{1});
}

// The log of a cache with many shards, read by one with few: also behind clears, which set all shards to one version.
TEST(LogPlaces, TheLogOfManyShardsIsFoundByFewWithoutReadingMuchOfIt) {
  constexpr uint32_t kOldShards = 32;
  test::Random random(test::Seed());
  LogPlaces places(2);
  uint64_t versions[kOldShards];
  for (uint64_t& version : versions) version = random.Below(uint64_t{1} << 31);
  struct Written {
    uint32_t shard;
    uint64_t version;
    uint64_t position;
  };
  std::vector<Written> written;
  uint64_t position = 0;
  for (int group = 0; group < 3000; group++) {
    std::vector<uint64_t> of_shard[2];
    const LogRange range{position, position + random.Between(1000, 400'000)};
    for (uint32_t old = 0; old < kOldShards; old++) {
      // Some are written to much more than others.
      for (uint64_t i = random.Below(1 + old * 2); i > 0; i--) {
        of_shard[old % 2].push_back(++versions[old]);
        if (random.OneIn(20)) written.push_back({old % 2, versions[old], position});
      }
    }
    for (uint32_t shard = 0; shard < 2; shard++) {
      std::sort(of_shard[shard].begin(), of_shard[shard].end());
      if (!of_shard[shard].empty()) places.AddRecovered(shard, of_shard[shard], range);
    }
    position = range.end;
    if (group == 2000) {
      const uint64_t cleared = *std::max_element(std::begin(versions), std::end(versions)) + 1;
      for (uint64_t& version : versions) version = cleared;
    }
    EXPECT_LE(places.point_count(), 2 * kLogPlacesPerShardMax);
  }
  uint64_t bytes = 0;
  for (const Written& record : written) {
    const std::vector<LogRange> ranges = places.Find(record.shard, record.version);
    ASSERT_TRUE(Includes(ranges, record.position));
    for (const LogRange& range : ranges) bytes += range.end - range.begin;
  }
  EXPECT_LT(bytes / written.size(), position / 10) << position << " bytes of log";
}

// Random groups of some shards: every version is found in the range of its group, and the number of points is bounded.
TEST(LogPlaces, EveryVersionIsFoundHoweverManyThereAre) {
  test::Random random(test::Seed());
  constexpr uint32_t kShards = 4;
  LogPlaces places(kShards);
  struct Written {
    uint32_t shard;
    uint64_t version;
    uint64_t position;
  };
  std::vector<Written> written;
  uint64_t versions[kShards] = {100, 2000, 30, 7};
  uint64_t position = 0;
  uint64_t dropped = 0;
  for (int group = 0; group < 6000; group++) {
    const uint64_t bytes = random.OneIn(3) ? random.Between(100, 5000) : random.Between(50'000, 1'000'000);
    for (uint32_t shard = 0; shard < kShards; shard++) {
      if (random.OneIn(shard + 1)) continue;
      versions[shard] += random.Between(1, 10);
      written.push_back({shard, versions[shard], position});
      places.AddUpTo(shard, versions[shard], {position, position + bytes});
    }
    position += bytes;
    if (random.OneIn(1000)) {
      dropped = random.Between(dropped, position);
      places.DropBefore(dropped);
    }
    EXPECT_LE(places.point_count(), kShards * kLogPlacesPerShardMax);
  }
  for (const Written& record : written) {
    const std::vector<LogRange> ranges = places.Find(record.shard, record.version);
    EXPECT_LE(ranges.size(), size_t{1});
    if (record.position >= dropped) ASSERT_TRUE(Includes(ranges, record.position));
  }
}

// ---- the ring and the feed ----

struct Found {
  InRing answer;
  StoredRecord record;
};

Found FindInRing(Fed* fed, std::string_view key, uint64_t version, size_t capacity = 1 << 20) {
  std::string bytes(capacity, '\0');
  size_t size = 0;
  Found found{};
  found.answer = fed->store->FindInRing(key, version, bytes.data(), bytes.size(), &size);
  if (found.answer == InRing::kNeedsRoom) found.record.version = size;
  if (found.answer != InRing::kCopied) return found;
  RecordView view;
  CHECK(DecodeRecord({bytes.data(), size}, &view) == DecodeStatus::kOk && view.record_bytes == size);
  found.record = {view.kind,
                  view.codec,
                  view.version,
                  view.expires_wall_ms,
                  view.client_flags,
                  std::string(view.key),
                  std::string(view.value),
                  view.optional};
  return found;
}

TEST(FindInRing, ARecordIsThereUntilItsTurnIsCommitted) {
  Fed fed(2);
  const std::string large(200'000, 'x');
  const std::string key = fed.KeyIn(1, 7);
  for (int i = 0; i < 500; i++) fed.Set(fed.KeyIn(1, 100), "before");
  const uint64_t small = fed.Set(key, "small").record_version;
  const uint64_t pinned = fed.Set(key, large).record_version;
  const uint64_t gone = fed.Do(Verb::kDelete, key).record_version;
  const auto all_are_there = [&] {
    EXPECT_TRUE(FindInRing(&fed, key, small).record.value == "small");
    EXPECT_TRUE(FindInRing(&fed, key, pinned).record.value == large);
    EXPECT_TRUE(FindInRing(&fed, key, gone).record.kind == RecordKind::kDelete);
  };
  all_are_there();
  EXPECT_TRUE(FindInRing(&fed, fed.KeyIn(1, 8), small).answer == InRing::kNone) << "another key";
  EXPECT_TRUE(FindInRing(&fed, key, gone + 1).answer == InRing::kNone);
  EXPECT_TRUE(FindInRing(&fed, key, 1).answer == InRing::kNone);
  const Found needs = FindInRing(&fed, key, pinned, 1000);
  EXPECT_TRUE(needs.answer == InRing::kNeedsRoom);
  EXPECT_EQ(needs.record.version, RecordBytes(key.size(), large.size()));
  fed.Drain(nullptr);
  all_are_there();
  fed.feed->Rewind();
  fed.Drain(nullptr);
  all_are_there();
  fed.Commit();
  for (const uint64_t version : {small, pinned, gone}) {
    EXPECT_TRUE(FindInRing(&fed, key, version).answer == InRing::kNone);
  }
  fed.store->Verify();
}

// A value that the ring keeps in place outlives its entry, and a reader that has begun outlives the commit. Readers
// copy the newest value again and again. In every other round the writer waits until a reader has the whole value: so
// much is certain, however the threads are scheduled. In the other rounds it waits until a reader has begun to look,
// commits after a random moment, and writes the next value, of another letter, where the last one was. A reader of
// freed memory finds letters of both, or is lost in it, and then the test does not end.
TEST(FindInRing, AValueIsWholeWhileTheRingFreesIt) {
  constexpr int kRounds = 120;
  constexpr size_t kLeastBytes = 50'000;
  constexpr size_t kMostBytes = 300'000;
  Fed fed(1);
  std::atomic<uint64_t> newest{0};
  std::atomic<bool> done{false};
  std::atomic<uint64_t> begun{0};
  std::atomic<uint64_t> last_copied{0};
  std::atomic<uint64_t> torn{0};
  std::vector<std::thread> readers;
  for (int r = 0; r < 2; r++) {
    readers.emplace_back([&] {
      std::string bytes(RecordBytes(3, kMostBytes), '\0');
      while (!done.load()) {
        const uint64_t version = newest.load();
        if (version == 0) continue;
        begun++;
        size_t size = 0;
        if (fed.store->FindInRing("key", version, bytes.data(), bytes.size(), &size) != InRing::kCopied) continue;
        RecordView view;
        CHECK(DecodeRecord({bytes.data(), size}, &view) == DecodeStatus::kOk);
        const std::string_view value = view.value;
        // One letter, as often as it is long.
        if (value.size() < kLeastBytes || value.substr(1) != value.substr(0, value.size() - 1)) torn++;
        last_copied = version;
      }
    });
  }
  test::Random random(test::Seed());
  std::string buffer(1 << 20, '\0');
  for (int i = 0; i < kRounds; i++) {
    const std::string value(random.Between(kLeastBytes, kMostBytes), static_cast<char>('a' + i % 26));
    const uint64_t version = fed.Set("key", value).record_version;
    CHECK(version != 0);
    newest = version;
    if (i % 2 == 0) {
      while (last_copied.load() != version) std::this_thread::yield();
    }
    if (random.OneIn(3)) fed.Do(Verb::kDelete, "key");
    CHECK(fed.feed->Drain(buffer.data(), buffer.size(), 0).bytes > 0);
    const uint64_t seen = begun.load();
    while (begun.load() == seen) std::this_thread::yield();
    for (uint64_t turns = random.Below(2000); turns > 0; turns--) static_cast<void>(begun.load());
    fed.Commit();
  }
  done = true;
  for (std::thread& reader : readers) reader.join();
  EXPECT_EQ(torn.load(), 0u);
  fed.store->Verify();
}

TEST(FindInRing, ARecordThatIsNotInTheRingHasItsPlace) {
  Fed fed(4, true);
  test::Random random(test::Seed());
  struct Written {
    std::string key;
    uint64_t version;
  };
  std::vector<Written> written;
  std::multimap<std::string, LogRange> log;  // key and version, and where it is
  uint64_t position = 0;
  std::vector<std::pair<uint64_t, std::vector<StoredRecord>>> in_flight;
  const auto commit_all = [&](bool shuffled) {
    std::vector<std::pair<uint64_t, LogRange>> ranges;
    for (const auto& [turn, records] : in_flight) {
      const LogRange range{position, position + 100'000};
      position = range.end;
      for (const StoredRecord& record : records) log.insert({record.key + "@" + std::to_string(record.version), range});
      ranges.push_back({turn, range});
    }
    if (shuffled) std::reverse(ranges.begin(), ranges.end());
    for (const auto& [turn, range] : ranges) fed.feed->Commit(turn, range);
    in_flight.clear();
  };
  for (int i = 0; i < 3000; i++) {
    const std::string key = "k" + std::to_string(random.Below(300));
    written.push_back({key, fed.Set(key, std::string(random.Below(300), 'v')).record_version});
    if (!random.OneIn(10)) continue;
    Log drained;
    const ChangeFeed::Turn turn = fed.Drain(&drained, random.Between(500, 20'000));
    if (turn.bytes > 0) in_flight.push_back({turn.number, drained.records});
    if (random.OneIn(20)) {
      // What was in flight may be in the log, and comes again.
      fed.feed->Rewind();
      in_flight.clear();
      position += 50'000;
    }
    if (in_flight.size() == kLogTurnsMax || random.OneIn(4)) commit_all(random.OneIn(2));
  }
  size_t in_ring = 0;
  for (const Written& record : written) {
    if (FindInRing(&fed, record.key, record.version).answer == InRing::kCopied) {
      in_ring++;
      continue;
    }
    const std::vector<LogRange> ranges = fed.feed->places()->Find(fed.store->ShardOf(record.key), record.version);
    const std::string name = record.key + "@" + std::to_string(record.version);
    const auto [begin, end] = log.equal_range(name);
    const bool is_there =
        std::any_of(begin, end, [&](const auto& entry) { return Includes(ranges, entry.second.begin); });
    ASSERT_TRUE(is_there) << name;
  }
  EXPECT_GT(in_ring, size_t{0});
  EXPECT_LT(in_ring, written.size());
}

TEST(FindInRing, ACacheWithoutABackendKeepsNoPlaces) {
  Fed fed;
  EXPECT_TRUE(fed.feed->places() == nullptr);
}

}  // namespace
}  // namespace cairn
