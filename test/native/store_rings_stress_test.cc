// Four writers, one reader of the rings, upkeep and clears, for ThreadSanitizer above all. What is proved without it:
//
//   - the reader sleeps without a time limit whenever the rings are empty, so a bell that does not ring is a hang;
//   - what it drains are whole records of rising versions, small ones, pinned ones and bodies, whatever becomes of the
//     entries meanwhile, with gaps nowhere: when a version has been reported as drained, every record up to it that any
//     writer left has come out before;
//   - a clear is one moment: each shard has its record, with the same version, before what it reports of it, and
//     entries of lower versions are gone; counters that run over meanwhile change nothing of that;
//   - a writer that finds the log full gets on as soon as something was committed (the reader begins when one has);
//   - everything that was drained and committed, in that order, makes the contents of the store in another one.

#include <algorithm>
#include <atomic>
#include <thread>
#include <vector>

#include "store/commit_marks.h"
#include "store/shard.h"
#include "store/store.h"
#include "support/shard_access.h"
#include "support/store_fixture.h"
#include "test.h"

namespace cairn {
namespace {

constexpr int kWriters = 4;
constexpr int kOperations = 6000;
constexpr uint32_t kKeys = 150;
constexpr uint32_t kShards = 2;

class WordBell final : public ChangeBell {
 public:
  void Ring() override {
    word.fetch_add(1);
    OsWakeWord(&word, true);
  }
  std::atomic<uint32_t> word{0};
};

// The reader. `committed` is what a log would hold.
class Reader {
 public:
  explicit Reader(Store* store) : store_(store), random_(test::Seed() ^ 77) { store_->SetChangeBell(&bell); }

  // Until `done` and nothing is left.
  void Run(const std::atomic<bool>* done) {
    for (;;) {
      const uint32_t seen = bell.word.load();
      const bool last = done->load();
      bell.wanted.store(1, std::memory_order_seq_cst);
      if (Turn()) {
        bell.wanted.store(0);
        continue;
      }
      if (last) return;
      OsWaitOnWord(&bell.word, seen, -1);
    }
  }

  // A version that was reported as drained, and how many records of its shard had come out by then.
  struct Report {
    uint64_t version;
    size_t record_count;
  };
  struct PerShard {
    std::vector<uint64_t> versions;  // of the records, in order
    std::vector<uint64_t> clears;    // of them
    std::vector<Report> reports;
  };

  WordBell bell;
  CommitMarks marks{kShards};
  std::atomic<uint32_t> commits{0};
  std::atomic<uint64_t> log_full{0};  // how often a writer found no room
  std::string committed;
  PerShard shards[kShards];
  uint64_t rewinds = 0;
  int failures = 0;

 private:
  // One look at every ring; commits or rewinds what came. False: nothing came.
  bool Turn() {
    bool any = false;
    for (uint32_t shard = 0; shard < kShards; ++shard) {
      std::string buffer(random_.OneIn(4) ? random_.Between(100, 5000) : 400'000, '\0');
      const RingDrain drain = store_->DrainRing(shard, buffer.data(), buffer.size());
      std::string_view rest(buffer.data(), drain.bytes);
      for (uint32_t i = 0; i < drain.record_count; ++i) {
        RecordView record;
        if (DecodeRecord(rest, &record) != DecodeStatus::kOk) return Fail("not a record");
        PerShard* of = &pending_[shard];
        const uint64_t before = !of->versions.empty()             ? of->versions.back()
                                : !shards[shard].versions.empty() ? shards[shard].versions.back()
                                                                  : 0;
        if (record.version <= before) return Fail("versions do not rise");
        if (record.kind == RecordKind::kSet && !IsWhole(record)) return Fail("a value is torn");
        of->versions.push_back(record.version);
        if (record.kind == RecordKind::kClear) of->clears.push_back(record.version);
        rest.remove_prefix(record.record_bytes);
      }
      if (!rest.empty()) return Fail("more bytes than records");
      pending_bytes_.append(buffer.data(), drain.bytes);
      if (drain.version != 0) {
        const size_t count = shards[shard].versions.size() + pending_[shard].versions.size();
        pending_[shard].reports.push_back({drain.version, count});
      }
      any = any || drain.bytes != 0 || drain.bytes_needed != 0;
    }
    if (random_.OneIn(20) || (any && rewinds == 0)) {
      for (uint32_t shard = 0; shard < kShards; ++shard) {
        store_->RewindRing(shard);
        pending_[shard] = {};
      }
      pending_bytes_.clear();
      ++rewinds;
      return true;
    }
    if (random_.OneIn(3)) Commit();
    if (!any) Commit();
    return any;
  }

  void Commit() {
    for (uint32_t shard = 0; shard < kShards; ++shard) {
      store_->CommitRing(shard);
      PerShard* from = &pending_[shard];
      PerShard* to = &shards[shard];
      to->versions.insert(to->versions.end(), from->versions.begin(), from->versions.end());
      to->clears.insert(to->clears.end(), from->clears.begin(), from->clears.end());
      to->reports.insert(to->reports.end(), from->reports.begin(), from->reports.end());
      if (!from->reports.empty()) marks.Advance(shard, from->reports.back().version);
      *from = {};
    }
    committed += pending_bytes_;
    pending_bytes_.clear();
    commits.fetch_add(1);
    OsWakeWord(&commits, true);
  }

  // A value is one byte, which the key decides, as often as it is long; numbers and what was appended to them aside.
  static bool IsWhole(const RecordView& record) {
    return record.value.find_first_not_of(static_cast<char>('a' + record.key.back() % 20)) == std::string_view::npos;
  }
  bool Fail(const char* what) {
    if (failures++ == 0) std::fprintf(stderr, "reader: %s\n", what);
    return false;
  }

  Store* store_;
  test::Random random_;
  PerShard pending_[kShards];
  std::string pending_bytes_;
};

struct Acknowledged {
  uint32_t shard;
  uint64_t version;
};

class Writer {
 public:
  Writer(Store* store, Reader* reader, uint32_t number)
      : store_(store), reader_(reader), random_(test::Seed() * 31 + number) {}

  void Run() {
    for (int i = 0; i < kOperations; ++i) {
      now_.boot_ms = 1000 + static_cast<uint64_t>(i);
      now_.wall_ms = static_cast<int64_t>(now_.boot_ms);
      One();
    }
  }
  std::vector<Acknowledged> acknowledged;

 private:
  void One() {
    std::string key = "key" + std::to_string(random_.Below(kKeys));
    const size_t bytes = random_.OneIn(8) ? random_.Between(10'000, 150'000) : random_.Below(600);
    const std::string value(bytes, static_cast<char>('a' + key.back() % 20));
    static constexpr Verb kVerbs[] = {Verb::kSet,    Verb::kSet,   Verb::kSet,  Verb::kAdd, Verb::kReplace,
                                      Verb::kDelete, Verb::kTouch, Verb::kTake, Verb::kGet, Verb::kAppend};
    Request request = TestStore::Make(kVerbs[random_.Below(std::size(kVerbs))], key, value);
    if (request.verb == Verb::kAppend) request.value = request.value.substr(0, 10);
    if (request.verb == Verb::kTouch) request.expires_ms = 1'000'000 + random_.Below(1000);
    request.no_value = true;
    if (random_.OneIn(1500)) {
      for (;;) {
        const uint32_t seen = reader_->commits.load();
        if (store_->Clear(now_) != 0) return;
        WaitForRoom(seen);
      }
    }
    if (random_.OneIn(10)) return Many(key, value);
    if (bytes > 10'000 && random_.OneIn(3)) return FromBody(key, value);
    Outcome outcome;
    Scratch scratch;
    for (;;) {
      const uint32_t seen = reader_->commits.load();
      store_->Execute(request, now_, &scratch, &outcome);
      if (outcome.status != Status::kLogFull) break;
      WaitForRoom(seen);
    }
    Acknowledge(key, outcome);
  }

  void Many(const std::string& key, const std::string& value) {
    std::vector<Request> requests(5, TestStore::Make(Verb::kSet, key, value));
    requests[1].verb = Verb::kGet;
    requests[1].no_value = true;
    requests[3].verb = Verb::kDelete;
    std::vector<Outcome> outcomes(requests.size());
    while (!requests.empty()) {
      const uint32_t seen = reader_->commits.load();
      Scratch scratch;
      store_->ExecuteMany(requests.data(), requests.size(), now_, &scratch, outcomes.data());
      std::vector<Request> again;
      for (size_t i = 0; i < requests.size(); ++i) {
        if (outcomes[i].status == Status::kLogFull) again.push_back(requests[i]);
        if (outcomes[i].status != Status::kLogFull) Acknowledge(key, outcomes[i]);
      }
      requests = std::move(again);
      if (!requests.empty()) WaitForRoom(seen);
    }
  }

  void FromBody(const std::string& key, const std::string& value) {
    const Request request = TestStore::Make(Verb::kSet, key);
    Body body;
    for (;;) {
      const uint32_t seen = reader_->commits.load();
      const Status status = store_->Reserve(request, static_cast<uint32_t>(value.size()), now_, &body);
      if (status == Status::kStored) break;
      if (status != Status::kLogFull) return;
      WaitForRoom(seen);
    }
    store_->WriteBody(body, 0, value);
    Outcome outcome;
    for (;;) {
      const uint32_t seen = reader_->commits.load();
      store_->Link(&body, request, now_, &outcome);
      if (outcome.status != Status::kLogFull) break;
      WaitForRoom(seen);
    }
    Acknowledge(key, outcome);
  }

  void Acknowledge(const std::string& key, const Outcome& outcome) {
    if (outcome.record_version != 0) acknowledged.push_back({store_->ShardOf(key), outcome.record_version});
  }
  void WaitForRoom(uint32_t seen) {
    reader_->log_full.fetch_add(1);
    OsWaitOnWord(&reader_->commits, seen, -1);
  }

  Store* store_;
  Reader* reader_;
  test::Random random_;
  Now now_;
};

TEST(StoreStress, WhatTheRingsGiveIsAllThatWasWrittenInOrder) {
  StoreOptions options = TestStore::Tiny();
  options.memory_bytes = 64 << 20;
  options.page_bytes = 0;
  options.shard_count = kShards;
  options.ring_bytes = kShards * kRingBytesMin;
  options.value_bytes_max = 1 << 20;
  options.epoch = 2;
  Refusal refusal;
  const std::unique_ptr<Store> store = Store::Open(options, &refusal);
  ASSERT_TRUE(store != nullptr) << refusal;
  for (uint32_t shard = 0; shard < kShards; ++shard) {
    test::NoteVersion(store.get(), shard, VersionOf(options.epoch, kVersionCounterMask - 3000 * (shard + 1)));
  }
  Reader reader(store.get());
  std::atomic<bool> done{false};
  std::thread reading([&] {
    while (reader.log_full.load() == 0) std::this_thread::yield();
    reader.Run(&done);
  });
  std::thread upkeep([&] {
    Now now;
    now.boot_ms = 1;
    while (!done.load()) {
      if (!store->Maintain(now)) std::this_thread::yield();
      (void)store->RingStatsOf(0);
    }
  });
  std::vector<Writer> writers;
  for (uint32_t i = 0; i < kWriters; ++i) writers.emplace_back(store.get(), &reader, i);
  std::vector<std::thread> threads;
  for (Writer& writer : writers) threads.emplace_back([&writer] { writer.Run(); });
  for (std::thread& thread : threads) thread.join();
  done.store(true);
  reader.bell.Ring();
  reading.join();
  upkeep.join();

  ASSERT_EQ(reader.failures, 0);
  EXPECT_GT(reader.rewinds, 0);
  EXPECT_GT(reader.shards[0].clears.size(), 0);
  for (const Reader::PerShard& shard : reader.shards) {
    EXPECT_TRUE(shard.clears == reader.shards[0].clears);
    EXPECT_GT(EpochOf(shard.versions.back()), options.epoch) << "its counter ran over";
  }
  store->Verify();
  for (const Writer& writer : writers) {
    for (const Acknowledged& one : writer.acknowledged) {
      const Reader::PerShard& shard = reader.shards[one.shard];
      const auto at = std::lower_bound(shard.versions.begin(), shard.versions.end(), one.version);
      ASSERT_TRUE(at != shard.versions.end() && *at == one.version) << "an acknowledged record never came";
      const auto report = std::find_if(shard.reports.begin(), shard.reports.end(),
                                       [&](const Reader::Report& each) { return each.version >= one.version; });
      ASSERT_TRUE(report != shard.reports.end());
      ASSERT_GT(report->record_count, static_cast<size_t>(at - shard.versions.begin()))
          << "reported as drained before it came";
    }
  }
  for (uint32_t shard = 0; shard < kShards; ++shard) {
    EXPECT_TRUE(reader.marks.Covers(shard, store->LastVersion(shard)));
    EXPECT_EQ(store->RingStatsOf(shard).fill_bytes, 0);
    const Reader::PerShard& read = reader.shards[shard];
    for (const uint64_t clear : read.clears) {
      const auto at = std::lower_bound(read.versions.begin(), read.versions.end(), clear);
      const auto report = std::find_if(read.reports.begin(), read.reports.end(),
                                       [&](const Reader::Report& each) { return each.version >= clear; });
      ASSERT_TRUE(report != read.reports.end());
      ASSERT_GT(report->record_count, static_cast<size_t>(at - read.versions.begin())) << "told of before it came";
    }
  }
  EXPECT_EQ(store->Stats().pinned_pages, 0);
  ASSERT_EQ(store->Stats().evictions, 0);

  // The log, read back elsewhere.
  StoreOptions other = options;
  other.shard_count = 4;
  other.ring_bytes = 0;
  other.memory_bytes = 128 << 20;
  const std::unique_ptr<Store> recovered = Store::Open(other, &refusal);
  ASSERT_TRUE(recovered != nullptr) << refusal;
  Now now;
  now.boot_ms = 10'000;
  now.wall_ms = 10'000;
  for (std::string_view rest = reader.committed; !rest.empty();) {
    RecordView record;
    ASSERT_TRUE(DecodeRecord(rest, &record) == DecodeStatus::kOk);
    (void)recovered->Apply(record, now, Origin::kLog);
    rest.remove_prefix(record.record_bytes);
  }
  EXPECT_EQ(recovered->entries(), store->entries());
  for (uint32_t i = 0; i < kKeys; ++i) {
    const std::string key = "key" + std::to_string(i);
    Request request = TestStore::Make(Verb::kPeek, key);
    request.no_value = true;
    Outcome was, is;
    store->Execute(request, now, nullptr, &was);
    recovered->Execute(request, now, nullptr, &is);
    ASSERT_EQ(is.status, was.status) << key;
    EXPECT_EQ(is.version, was.version) << key;
    EXPECT_EQ(is.value_bytes, was.value_bytes) << key;
    EXPECT_EQ(is.expires_ms, was.expires_ms) << key;
  }
  recovered->Verify();
}

}  // namespace
}  // namespace cairn
