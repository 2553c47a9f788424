// Atomic batches on their way from the rings to the log: all parts of a batch are drained in one turn, whatever lies
// around them. The tests leave parts as Recorder::Part says, in the place of the store's own writer of batches.

#include <algorithm>
#include <atomic>
#include <map>
#include <mutex>
#include <set>
#include <string>
#include <thread>
#include <vector>

#include "process/change_feed.h"
#include "store/record.h"
#include "store/shard.h"
#include "support/fed_store.h"
#include "test.h"

namespace cairn {
namespace {

struct Part {
  Verb verb = Verb::kSet;
  std::string key;
  std::string value = "v";
};

// Writes the parts of batches into the rings.
class BatchWriter {
 public:
  explicit BatchWriter(Fed* fed) : fed_(fed) {}

  // One part, under the lock of its shard. `fresh_until_ms`: with another optional field beside.
  Outcome Leave(const Part& part, uint64_t id, uint32_t count, uint32_t index, uint64_t fresh_until_ms = 0) {
    Shard* shard = ShardOf(part);
    ChangeRing::Note note;
    Outcome outcome;
    {
      const ShardGuard guard(shard);
      outcome = LeaveLocked(shard, part, id, count, index, fresh_until_ms);
      note = shard->ring()->TakeNote();
    }
    Tell(note);
    return outcome;
  }

  // All parts, with the locks of all their shards held.
  void LeaveAllAtOnce(const std::vector<Part>& parts, uint64_t id) NO_THREAD_SAFETY_ANALYSIS {
    std::set<Shard*> shards;
    for (const Part& part : parts) shards.insert(ShardOf(part));
    for (Shard* shard : shards) shard->Lock();
    auto note = ChangeRing::Note::kNone;
    for (Shard* shard : shards) {
      for (uint32_t i = 0; i < parts.size(); i++) {
        if (ShardOf(parts[i]) != shard) continue;
        const Outcome outcome = LeaveLocked(shard, parts[i], id, static_cast<uint32_t>(parts.size()), i, 0);
        CHECK(outcome.status != Status::kLogFull);
      }
      note = std::max(note, shard->ring()->TakeNote());
    }
    for (Shard* shard : shards) shard->Unlock();
    Tell(note);
  }

  // All parts, one shard after another; batches that are written so at the same time wait for one another.
  void LeaveOneByOne(const std::vector<Part>& parts, uint64_t id) {
    const std::lock_guard<std::mutex> one_batch(batches_);
    std::map<Shard*, std::vector<uint32_t>> by_shard;
    for (uint32_t i = 0; i < parts.size(); i++) by_shard[ShardOf(parts[i])].push_back(i);
    for (const auto& [shard, indexes] : by_shard) {
      ChangeRing::Note note;
      {
        const ShardGuard guard(shard);
        for (const uint32_t i : indexes) {
          const Outcome outcome = LeaveLocked(shard, parts[i], id, static_cast<uint32_t>(parts.size()), i, 0);
          CHECK(outcome.status != Status::kLogFull);
        }
        note = shard->ring()->TakeNote();
      }
      Tell(note);
    }
  }

 private:
  Shard* ShardOf(const Part& part) const { return fed_->store->shard(fed_->store->ShardOf(part.key)); }

  static Outcome LeaveLocked(Shard* shard, const Part& part, uint64_t id, uint32_t count, uint32_t index,
                             uint64_t fresh_until_ms) NO_THREAD_SAFETY_ANALYSIS {
    Request request;
    request.verb = part.verb;
    request.key = part.key;
    request.value = part.value;
    if (part.verb == Verb::kDelete || part.verb == Verb::kTouch) request.value = "";
    request.fresh_until_ms = fresh_until_ms;
    Outcome outcome;
    const Recorder::Part mark(shard->recorder(), id, count, index);
    shard->Execute(request, shard->HashOf(part.key), kNow, nullptr, Pins::kNone, &outcome);
    return outcome;
  }

  void Tell(ChangeRing::Note note) {
    if (note == ChangeRing::Note::kNone) return;
    if (note == ChangeRing::Note::kFull || fed_->feed->wanted.load() != 0) fed_->feed->Ring();
  }

  Fed* fed_;
  std::mutex batches_;
};

std::vector<uint32_t> PartsIn(const Log& log, uint64_t id) {
  std::vector<uint32_t> indexes;
  for (const StoredRecord& record : log.records) {
    if ((record.optional.fields & kFieldBatch) && record.optional.batch_id == id) {
      indexes.push_back(record.optional.batch_index);
    }
  }
  std::sort(indexes.begin(), indexes.end());
  return indexes;
}

using Indexes = std::vector<uint32_t>;

TEST(ChangeFeedBatches, ThePartsOfABatchAreDrainedInOneTurn) {
  Fed fed(4);
  BatchWriter writer(&fed);
  std::vector<Part> parts;
  for (uint32_t i = 0; i < 8; i++) parts.push_back({Verb::kSet, fed.KeyIn(i % 4, static_cast<int>(i))});
  for (uint32_t shard = 0; shard < 4; shard++) fed.Set(fed.KeyIn(shard, 100));
  writer.LeaveOneByOne(parts, 7);
  for (uint32_t shard = 0; shard < 4; shard++) fed.Set(fed.KeyIn(shard, 200));
  Log log;
  const ChangeFeed::Turn turn = fed.Drain(&log);
  EXPECT_EQ(turn.record_count, 16u);
  EXPECT_TRUE(PartsIn(log, 7) == (Indexes{0, 1, 2, 3, 4, 5, 6, 7}));
  EXPECT_FALSE(fed.Covers(parts[0].key, fed.store->LastVersion(0)));
  fed.Commit();
  for (uint32_t shard = 0; shard < 4; shard++) {
    EXPECT_TRUE(fed.feed->marks()->Covers(shard, fed.store->LastVersion(shard)));
  }
  EXPECT_EQ(fed.feed->ReadNumbers().ring_bytes, uint64_t{0});
}

TEST(ChangeFeedBatches, EveryKindOfRecordMayBeAPart) {
  Fed fed(2);
  BatchWriter writer(&fed);
  const std::string large(100'000, 'x');  // the ring keeps it in place
  fed.Set(fed.KeyIn(0, 1));
  fed.Set(fed.KeyIn(1, 2));
  Log before;
  fed.Drain(&before);
  fed.Commit();
  writer.Leave({Verb::kDelete, fed.KeyIn(0, 1)}, 9, 5, 0);
  writer.Leave({Verb::kSet, fed.KeyIn(0, 3), large}, 9, 5, 1);
  writer.Leave({Verb::kSet, fed.KeyIn(0, 4), "small"}, 9, 5, 2);
  writer.Leave({Verb::kTouch, fed.KeyIn(1, 2)}, 9, 5, 3);
  writer.Leave({Verb::kSet, fed.KeyIn(1, 5), "until"}, 9, 5, 4, kNow.boot_ms + 1000);
  Log log;
  EXPECT_EQ(fed.Drain(&log).record_count, 5u);
  EXPECT_TRUE(PartsIn(log, 9) == (Indexes{0, 1, 2, 3, 4}));
  for (const StoredRecord& record : log.records) {
    EXPECT_EQ(record.optional.batch_count, 5u);
    const bool has_end = record.optional.batch_index == 4;
    EXPECT_EQ(record.optional.fields, has_end ? kFieldBatch | kFieldFreshness : kFieldBatch);
    if (record.optional.batch_index == 1) EXPECT_TRUE(record.value == large);
  }
  // What follows is no part.
  fed.Set(fed.KeyIn(0, 1));
  fed.Do(Verb::kDelete, fed.KeyIn(0, 1));
  Log after;
  EXPECT_EQ(fed.Drain(&after).record_count, 2u);
  for (const StoredRecord& record : after.records) EXPECT_EQ(record.optional.fields, 0);
}

TEST(ChangeFeedBatches, APartWaitsForItsSiblingsAndHoldsBackItsOwnRingOnly) {
  Fed fed(4);
  BatchWriter writer(&fed);
  fed.Set(fed.KeyIn(0, 1));
  const uint64_t part = writer.Leave({Verb::kSet, fed.KeyIn(0, 2)}, 5, 2, 0).record_version;
  fed.Set(fed.KeyIn(0, 3));
  fed.Set(fed.KeyIn(1, 4));
  Log log;
  EXPECT_EQ(fed.Drain(&log).record_count, 2u);
  EXPECT_TRUE(log.Keys() == (std::vector<std::string>{fed.KeyIn(0, 1), fed.KeyIn(1, 4)}));
  fed.Commit();
  EXPECT_EQ(fed.Drain(&log).bytes, 0u);
  EXPECT_FALSE(fed.Covers(fed.KeyIn(0, 2), part));
  EXPECT_GT(fed.feed->ReadNumbers().ring_bytes, 0u);
  // The sibling is behind another record of its ring.
  fed.Set(fed.KeyIn(2, 5));
  writer.Leave({Verb::kSet, fed.KeyIn(2, 6)}, 5, 2, 1);
  Log rest;
  EXPECT_EQ(fed.Drain(&rest).record_count, 4u);
  EXPECT_TRUE(PartsIn(rest, 5) == (Indexes{0, 1}));
  fed.Commit();
  EXPECT_TRUE(fed.Covers(fed.KeyIn(0, 2), part));
}

TEST(ChangeFeedBatches, TheLastPartWakesAScribeThatSleeps) {
  Fed fed(2);
  BatchWriter writer(&fed);
  writer.Leave({Verb::kSet, fed.KeyIn(0, 1)}, 5, 2, 0);
  std::atomic<uint32_t> drained{0};
  std::thread scribe([&] {
    std::string buffer(1 << 20, '\0');
    drained = fed.feed->Drain(buffer.data(), buffer.size(), 600'000).record_count;
  });
  while (fed.feed->wanted.load() == 0 && drained.load() == 0) std::this_thread::yield();
  writer.Leave({Verb::kSet, fed.KeyIn(1, 2)}, 5, 2, 1);
  scribe.join();
  EXPECT_EQ(drained.load(), 2u);
}

TEST(ChangeFeedBatches, ABatchThatFindsLittleRoomIsFirstInTheNextTurn) {
  Fed fed(2);
  BatchWriter writer(&fed);
  const std::string value(1000, 'x');
  fed.Set(fed.KeyIn(0, 1), value);
  writer.LeaveAllAtOnce({{Verb::kSet, fed.KeyIn(0, 2), value}, {Verb::kSet, fed.KeyIn(1, 3), value}}, 5);
  for (int i = 0; i < 10; i++) fed.Set(fed.KeyIn(1, 10 + i), value);
  Log first;
  const ChangeFeed::Turn turn = fed.Drain(&first, 2500);
  EXPECT_EQ(turn.record_count, 1u);
  EXPECT_EQ(turn.bytes_needed, 0u);
  Log second;
  EXPECT_EQ(fed.Drain(&second, 2500).record_count, 2u);
  EXPECT_TRUE(PartsIn(second, 5) == (Indexes{0, 1}));
}

TEST(ChangeFeedBatches, ABatchThatIsLargerThanTheBufferSaysHowLargeItIs) {
  Fed fed(2);
  BatchWriter writer(&fed);
  const std::string value(1000, 'x');
  const std::vector<Part> parts{
      {Verb::kSet, fed.KeyIn(0, 1), value}, {Verb::kSet, fed.KeyIn(0, 2), value}, {Verb::kSet, fed.KeyIn(1, 3), value}};
  writer.LeaveAllAtOnce(parts, 5);
  fed.Set(fed.KeyIn(1, 4));
  size_t bytes = 0;
  for (const Part& part : parts) bytes += RecordBytes(part.key.size(), value.size(), RecordFieldBytes(kFieldBatch));
  const ChangeFeed::Turn small = fed.Drain(nullptr, 1500);
  EXPECT_EQ(small.bytes, 0u);
  EXPECT_EQ(small.bytes_needed, bytes);
  Log log;
  EXPECT_EQ(fed.Drain(&log, small.bytes_needed).record_count, 3u);
  EXPECT_EQ(fed.Drain(&log, 1500).record_count, 1u);
}

TEST(ChangeFeedBatches, NeitherRecordsNorBatchesThatKeepComingKeepTheOthersFromTheLog) {
  Fed fed(4);
  BatchWriter writer(&fed);
  const std::string value(1000, 'x');
  uint64_t id = 100;
  const auto load = [&] {
    // More than a turn takes, of each kind, in shards 0 to 2.
    for (int i = 0; i < 4; i++) fed.Set(fed.KeyIn(0, i), value);
    for (int i = 0; i < 2; i++) {
      writer.LeaveAllAtOnce({{Verb::kSet, fed.KeyIn(1, 1), value}, {Verb::kSet, fed.KeyIn(2, 2), value}}, ++id);
    }
  };
  for (int i = 0; i < 20; i++) load();
  const uint64_t plain = fed.Set(fed.KeyIn(3, 3), value).record_version;
  writer.LeaveAllAtOnce({{Verb::kSet, fed.KeyIn(3, 4), value}}, 1);
  const uint64_t batched = fed.store->LastVersion(3);
  Log log;
  int turns = 0;
  for (; turns < 20 && !fed.feed->marks()->Covers(3, batched); turns++) {
    load();
    fed.Drain(&log, 3000);
    fed.Commit();
  }
  EXPECT_TRUE(fed.feed->marks()->Covers(3, plain));
  EXPECT_TRUE(fed.feed->marks()->Covers(3, batched)) << turns << " turns";
  EXPECT_GT(fed.feed->marks()->Mark(0), uint64_t{0});
}

TEST(ChangeFeedBatches, WhatIsRewoundIsDrainedAsAWholeAgain) {
  Fed fed(4);
  BatchWriter writer(&fed);
  for (uint64_t id = 1; id <= 3; id++) {
    writer.LeaveAllAtOnce({{Verb::kSet, fed.KeyIn(0, 1)}, {Verb::kSet, fed.KeyIn(1, 2)}}, id);
  }
  writer.Leave({Verb::kSet, fed.KeyIn(2, 3)}, 4, 2, 0);
  const size_t one = RecordBytes(fed.KeyIn(0, 1).size(), 1, RecordFieldBytes(kFieldBatch)) +
                     RecordBytes(fed.KeyIn(1, 2).size(), 1, RecordFieldBytes(kFieldBatch));
  Log first;
  EXPECT_EQ(fed.Drain(&first, one).record_count, 2u);
  fed.Commit();
  Log lost;
  EXPECT_EQ(fed.Drain(&lost, one).record_count, 2u);
  fed.feed->Rewind();
  Log again;
  EXPECT_EQ(fed.Drain(&again).record_count, 4u);
  EXPECT_TRUE(PartsIn(again, 1).empty());
  EXPECT_TRUE(PartsIn(again, 2) == (Indexes{0, 1}));
  EXPECT_TRUE(PartsIn(again, 3) == (Indexes{0, 1}));
  fed.feed->Rewind();
  writer.Leave({Verb::kSet, fed.KeyIn(0, 4)}, 4, 2, 1);
  Log whole;
  EXPECT_EQ(fed.Drain(&whole).record_count, 6u);
  EXPECT_TRUE(PartsIn(whole, 4) == (Indexes{0, 1}));
  fed.Commit();
  EXPECT_EQ(fed.feed->ReadNumbers().ring_bytes, uint64_t{0});
}

// Threads write batches over many shards, with other changes between them, while a scribe drains with buffers of all
// sizes, commits turns in any order, and now and then begins anew. Proves: no turn has a part of a batch without all
// others, in whichever way the parts were left; and all batches come.
void Stress(void (BatchWriter::*leave)(const std::vector<Part>&, uint64_t)) {
  constexpr int kBatchWriters = 2;
  constexpr int kOtherWriters = 2;
  constexpr int kBatches = 1500;
  constexpr uint32_t kShards = 8;
  const uint64_t seed = test::Seed();
  Fed fed(kShards);
  BatchWriter writer(&fed);
  std::atomic<bool> done{false};
  std::set<uint64_t> ids;
  uint64_t turns = 0;
  uint64_t torn = 0;
  uint64_t rewinds = 0;
  std::thread scribe([&] {
    test::Random random(seed);
    std::vector<uint64_t> in_flight;
    std::string buffer;
    const auto resize = [&](size_t bytes) {
      // Exactly this room, for the sanitizers.
      buffer = std::string(bytes, '\0');
      buffer.shrink_to_fit();
    };
    size_t needed = 0;
    for (;;) {
      const bool is_last = done.load();
      resize(std::max<size_t>(needed, random.OneIn(3) ? random.Between(200, 4000) : 64 << 10));
      const ChangeFeed::Turn turn = fed.feed->Drain(buffer.data(), buffer.size(), 2);
      needed = turn.bytes_needed;
      if (turn.bytes > 0) {
        turns++;
        in_flight.push_back(turn.number);
        const std::string_view records(buffer.data(), turn.bytes);
        if (!PartsAreWhole(records)) torn++;
        Log log;
        log.Take(buffer, turn);
        for (const StoredRecord& record : log.records) {
          if (record.optional.fields & kFieldBatch) ids.insert(record.optional.batch_id);
        }
      }
      if (random.OneIn(30) || (rewinds == 0 && turn.bytes > 0)) {
        fed.feed->Rewind();
        in_flight.clear();
        rewinds++;
      }
      while (!in_flight.empty() &&
             (fed.feed->turns_in_flight() == kLogTurnsMax || turn.bytes == 0 || random.OneIn(2))) {
        const size_t i = random.Below(in_flight.size());
        fed.feed->Commit(in_flight[i]);
        in_flight.erase(in_flight.begin() + static_cast<std::ptrdiff_t>(i));
      }
      if (is_last && turn.bytes == 0 && needed == 0 && fed.feed->ReadNumbers().ring_bytes == 0) return;
    }
  });
  // All parts of a batch must find room, as its writer has to see to.
  const auto wait_for_room = [&] {
    for (uint32_t shard = 0; shard < kShards; shard++) {
      for (;;) {
        const uint32_t seen = fed.feed->progress();
        const RingStats ring = fed.store->RingStatsOf(shard);
        if (ring.fill_bytes < ring.capacity_bytes / 4) break;
        fed.feed->WaitForRoom(seen, 100);
      }
    }
  };
  std::vector<std::thread> writers;
  for (int w = 0; w < kBatchWriters; w++) {
    writers.emplace_back([&, w] {
      test::Random random(seed + 1 + static_cast<uint64_t>(w));
      for (int i = 0; i < kBatches; i++) {
        std::vector<Part> parts(random.Between(1, 12));
        for (Part& part : parts) {
          part.key = "b" + std::to_string(random.Below(200));
          part.value = std::string(random.OneIn(20) ? random.Between(17'000, 40'000) : random.Below(300), 'x');
        }
        wait_for_room();
        (writer.*leave)(parts, static_cast<uint64_t>(w) << 32 | static_cast<uint64_t>(i));
      }
    });
  }
  for (int w = 0; w < kOtherWriters; w++) {
    writers.emplace_back([&, w] {
      test::Random random(seed + 100 + static_cast<uint64_t>(w));
      for (int i = 0; i < 4 * kBatches; i++) {
        if (i % 8 == 0) wait_for_room();
        const std::string key = "k" + std::to_string(random.Below(200));
        fed.Do(random.OneIn(4) ? Verb::kDelete : Verb::kSet, key, std::string(random.Below(300), 'y'));
      }
    });
  }
  for (std::thread& thread : writers) thread.join();
  done = true;
  scribe.join();
  EXPECT_EQ(torn, 0u);
  EXPECT_EQ(ids.size(), size_t{kBatchWriters} * kBatches);
  ChangeFeed::Target target;
  fed.feed->ReadTarget(&target);
  EXPECT_TRUE(fed.feed->Covers(target));
  fed.store->Verify();
}

TEST(ChangeFeedBatchesStress, EveryTurnHasWholeBatchesOnlyThoughTheirPartsComeOneByOne) {
  Stress(&BatchWriter::LeaveOneByOne);
}

TEST(ChangeFeedBatchesStress, EveryTurnHasWholeBatchesOnlyThoughManyAreWrittenAtATime) {
  Stress(&BatchWriter::LeaveAllAtOnce);
}

}  // namespace
}  // namespace cairn
