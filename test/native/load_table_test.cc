// Seats, sessions and loaders are driven here as their threads drive them. The store is a real one, because what may be
// stored is decided under its locks. The stress test at the end proves that a loaded value never outlives a write.
#include "process/load_table.h"

#include <atomic>
#include <memory>
#include <mutex>
#include <string>
#include <thread>
#include <unordered_map>
#include <vector>

#include "base/os.h"
#include "store/store.h"
#include "support/store_fixture.h"
#include "test.h"

namespace cairn {
namespace {

using Load = ReadThrough::Load;
using Kind = LoadResult::Kind;

// A waker that a thread can sleep on.
class Bell final : public Waker {
 public:
  void Wake() override {
    count.fetch_add(1);
    rung_.store(1);
    OsWakeWord(&rung_, true);
  }
  void Wait() {
    while (rung_.exchange(0) == 0) OsWaitOnWord(&rung_, 0, -1);
  }
  std::atomic<int> count{0};

 private:
  std::atomic<uint32_t> rung_{0};
};

class LoadTableTest {
 protected:
  LoadTableTest() { table.AddWaker(sessions); }
  ~LoadTableTest() { table.RemoveWaker(sessions.get()); }

  uint64_t Begin(std::string_view key) { return table.Begin(key, store.now()); }
  std::unique_ptr<Loader> NewLoader() { return std::make_unique<Loader>(&table, loader_bell); }
  // The keys that the loader takes; their ids are in `ids`.
  std::vector<std::string> Drain(Loader* loader, size_t count = 100) {
    std::vector<LoadTask> tasks(count);
    tasks.resize(loader->Drain(tasks.data(), count));
    std::vector<std::string> keys;
    for (const LoadTask& task : tasks) {
      keys.emplace_back(task.key);
      ids[std::string(task.key)] = task.id;
    }
    return keys;
  }
  LoadResult ValueOf(const std::string& key, std::string_view value) {
    LoadResult result;
    result.id = ids.at(key);
    result.kind = Kind::kValue;
    result.codec = Codec::kAscii;
    result.client_flags = 7;
    result.value = value;
    return result;
  }
  LoadResult Of(const std::string& key, Kind kind, std::string_view why = {}) {
    LoadResult result;
    result.id = ids.at(key);
    result.kind = kind;
    result.why = why;
    return result;
  }
  void End(Loader* loader, const LoadResult& result) { loader->End(&result, 1, store.now()); }
  // Numbers of loads of the seat that have ended, with the reason of a failure.
  std::vector<std::pair<uint64_t, std::string>> Ended(LoadSeat* seat) {
    std::vector<std::pair<uint64_t, std::string>> all;
    LoadSeat::Ended ended[3];
    while (const size_t count = seat->TakeEnded(ended, 3)) {
      for (size_t i = 0; i < count; i++) all.emplace_back(ended[i].id, ended[i].why == nullptr ? "" : *ended[i].why);
    }
    return all;
  }
  using EndedList = std::vector<std::pair<uint64_t, std::string>>;
  using Keys = std::vector<std::string>;

  TestStore store;
  std::shared_ptr<Bell> sessions = std::make_shared<Bell>();
  std::shared_ptr<Bell> loader_bell = std::make_shared<Bell>();
  std::shared_ptr<Bell> seat_bell = std::make_shared<Bell>();
  std::unordered_map<std::string, uint64_t> ids;
  LoadTable table{&store.store()};
};

TEST_F(LoadTableTest, OneLoadServesAllThatWaitForAKey) {
  auto loader = NewLoader();
  LoadSeat seat(&table, seat_bell);
  const uint64_t first = Begin("a");
  const uint64_t second = Begin("a");
  const uint64_t third = seat.Begin("a", store.now());
  EXPECT_EQ(loader_bell->count.load(), 1);
  EXPECT_EQ(table.load_count(), 1u);
  EXPECT_EQ(table.begun_count(), 1u);
  EXPECT_EQ(table.joined_count(), 2u);
  EXPECT_TRUE(Drain(loader.get()) == Keys{"a"});
  EXPECT_TRUE(table.Poll(first) == Load::kPending);
  const uint64_t late = Begin("a");
  EXPECT_TRUE(Drain(loader.get()).empty());
  EXPECT_EQ(sessions->count.load(), 0);
  End(loader.get(), ValueOf("a", "value"));
  EXPECT_EQ(sessions->count.load(), 1);
  EXPECT_EQ(seat_bell->count.load(), 1);
  for (const uint64_t load : {first, second, late}) {
    EXPECT_TRUE(table.Poll(load) == Load::kLoaded);
    table.Leave(load);
  }
  EXPECT_TRUE(Ended(&seat) == (EndedList{{third, ""}}));
  EXPECT_EQ(seat.waiting_count(), 0u);
  EXPECT_EQ(table.load_count(), 0u);
  const Answer answer = store.Get("a");
  EXPECT_EQ(answer.value, "value");
  EXPECT_EQ(answer.outcome.client_flags, 7u);
  EXPECT_TRUE(answer.outcome.codec == Codec::kAscii);
}

TEST_F(LoadTableTest, LoadsAreTakenInTheirOrderAndEndInAnyInOneCall) {
  auto loader = NewLoader();
  const uint64_t a = Begin("a");
  const uint64_t b = Begin("b");
  table.Prefetch("c", store.now());
  table.Prefetch("a", store.now());
  EXPECT_EQ(loader_bell->count.load(), 1);  // the queue was not empty for the others
  EXPECT_TRUE(Drain(loader.get(), 2) == (Keys{"a", "b"}));
  EXPECT_TRUE(Drain(loader.get(), 2) == Keys{"c"});
  const LoadResult results[] = {ValueOf("c", "3"), Of("b", Kind::kAbsent), ValueOf("a", "1")};
  loader->End(results, 3, store.now());
  EXPECT_EQ(sessions->count.load(), 1);
  EXPECT_TRUE(table.Poll(a) == Load::kLoaded && table.Poll(b) == Load::kLoaded);
  table.Leave(a);
  table.Leave(b);
  EXPECT_EQ(store.Get("a").value + store.Get("c").value, "13");
  EXPECT_TRUE(store.Get("b").status == Status::kNotFound);
  EXPECT_EQ(loader->taken_count(), 0u);
  EXPECT_EQ(table.load_count(), 0u);
}

TEST_F(LoadTableTest, AValueOfEverySizeArrivesWhole) {
  auto loader = NewLoader();
  for (const size_t bytes : {0, 1, 4096, 4097, 70'000, 100'000}) {
    const std::string key = "k" + std::to_string(bytes);
    const std::string value = PatternBytes(bytes, bytes);
    const uint64_t load = Begin(key);
    Drain(loader.get());
    LoadResult result = ValueOf(key, value);
    result.expires_ms = store.now_ms() + 5000;
    End(loader.get(), result);
    EXPECT_TRUE(table.Poll(load) == Load::kLoaded) << bytes;
    table.Leave(load);
    EXPECT_TRUE(store.Get(key).value == value) << bytes;
    EXPECT_EQ(store.Get(key).outcome.expires_ms, store.now_ms() + 5000);
  }
}

TEST_F(LoadTableTest, ALoadOfAPresentKeyEndsAtOnce) {
  store.Set("a", "there");
  LoadSeat seat(&table, seat_bell);
  const uint64_t load = Begin("a");
  EXPECT_TRUE(table.Poll(load) == Load::kLoaded);
  EXPECT_EQ(sessions->count.load(), 1);
  table.Leave(load);
  const uint64_t id = seat.Begin("a", store.now());
  EXPECT_TRUE(Ended(&seat) == (EndedList{{id, ""}}));
  table.Prefetch("a", store.now());
  EXPECT_EQ(table.load_count(), 0u);
}

TEST_F(LoadTableTest, AWriteDuringTheLoadWins) {
  auto loader = NewLoader();
  for (const int how : {0, 1, 2}) {
    const uint64_t load = Begin("a");
    EXPECT_TRUE(Drain(loader.get()) == Keys{"a"});
    if (how == 0) store.Set("a", "written");
    if (how == 1) store.Delete("a");
    if (how == 2) store->Clear(store.now());
    // A request after the write is not served by a load from before it.
    const uint64_t later = Begin("a");
    if (how == 0) {
      EXPECT_TRUE(table.Poll(later) == Load::kLoaded);
    } else {
      EXPECT_TRUE(table.Poll(later) == Load::kPending);
    }
    End(loader.get(), ValueOf("a", "old"));
    EXPECT_TRUE(table.Poll(load) == Load::kLoaded);
    table.Leave(load);
    EXPECT_EQ(store.Get("a").value, how == 0 ? "written" : "");
    if (how != 0) {
      EXPECT_TRUE(Drain(loader.get()) == Keys{"a"});
      End(loader.get(), ValueOf("a", "new"));
      EXPECT_EQ(store.Get("a").value, "new");
    }
    table.Leave(later);
    store.Delete("a");
  }
}

TEST_F(LoadTableTest, AQueuedLoadWhoseKeyIsWrittenIsNotTaken) {
  auto loader = NewLoader();
  const uint64_t load = Begin("a");
  table.Prefetch("b", store.now());
  store.Set("a", "written");
  const uint64_t joined = Begin("b");
  EXPECT_TRUE(Drain(loader.get()) == Keys{"b"});
  EXPECT_TRUE(table.Poll(load) == Load::kLoaded);
  EXPECT_EQ(sessions->count.load(), 1);
  table.Leave(load);
  End(loader.get(), Of("b", Kind::kAgain));
  EXPECT_TRUE(table.Poll(joined) == Load::kLoaded);
  table.Leave(joined);
}

// A store with a database behind it.
class LoadTableAbsenceTest : protected LoadTableTest {
 protected:
  static StoreOptions WithBackend() {
    StoreOptions options = TestStore::Tiny();
    options.has_backend = true;
    return options;
  }
  // What a caller that can wait is answered.
  Status ReadThrough() {
    Request request;
    request.verb = Verb::kHas;
    request.key = "a";
    request.reads_through = true;
    Outcome outcome;
    backed->Execute(request, backed.now(), nullptr, &outcome);
    return outcome.status;
  }
  void End(LoadResult result) {
    loads.Prefetch("a", backed.now());
    LoadTask task;
    ASSERT_EQ(loader.Drain(&task, 1), 1u);
    result.id = task.id;
    loader.End(&result, 1, backed.now());
  }
  TestStore backed{WithBackend()};
  LoadTable loads{&backed.store()};
  Loader loader{&loads, loader_bell};
};

TEST_F(LoadTableAbsenceTest, AnAbsenceHoldsForItsTimeAndASecondAtLeast) {
  EXPECT_TRUE(ReadThrough() == Status::kNotResident);
  LoadResult absent;
  absent.kind = Kind::kAbsent;
  absent.absent_ms = 5000;
  End(absent);
  backed.Advance(4999);
  EXPECT_TRUE(ReadThrough() == Status::kNotFound);
  backed.Advance(2);
  EXPECT_TRUE(ReadThrough() == Status::kNotResident);
  absent.absent_ms = 0;
  End(absent);
  backed.Advance(kAbsentMsMin - 1);
  EXPECT_TRUE(ReadThrough() == Status::kNotFound);
  backed.Advance(2);
  EXPECT_TRUE(ReadThrough() == Status::kNotResident);
}

TEST_F(LoadTableAbsenceTest, ARowThatHasExpiredIsAsGoodAsNone) {
  LoadResult row;
  row.kind = Kind::kValue;
  row.value = "expired";
  row.expires_ms = backed.now_ms();
  End(row);
  EXPECT_TRUE(ReadThrough() == Status::kNotFound);
  // A write ends the absence.
  backed.Set("a", "1");
  EXPECT_EQ(backed.Get("a").value, "1");
}

TEST_F(LoadTableTest, AnUnknownValueIsToldApartFromAFailure) {
  auto loader = NewLoader();
  LoadSeat seat(&table, seat_bell);
  const uint64_t load = Begin("a");
  static_cast<void>(seat.Begin("a", store.now()));
  Drain(loader.get());
  End(loader.get(), Of("a", Kind::kUnknown, "the database is down"));
  EXPECT_TRUE(table.Poll(load) == Load::kUnknown);
  table.Leave(load);
  LoadSeat::Ended ended[2];
  ASSERT_EQ(seat.TakeEnded(ended, 2), 1u);
  EXPECT_TRUE(ended[0].is_unknown);
  EXPECT_EQ(*ended[0].why, "the database is down");
  EXPECT_EQ(table.failed_count(), 1u);
  EXPECT_FALSE(store.Has("a"));
}

TEST_F(LoadTableTest, AFailureIsToldWithItsReason) {
  auto loader = NewLoader();
  LoadSeat seat(&table, seat_bell);
  const uint64_t load = Begin("a");
  const uint64_t id = seat.Begin("a", store.now());
  const uint64_t large = seat.Begin("large", store.now());
  Drain(loader.get());
  End(loader.get(), Of("a", Kind::kFailed, "the database is down"));
  const std::string value(store->value_bytes_max() + 1, 'x');
  End(loader.get(), ValueOf("large", value));
  EXPECT_TRUE(table.Poll(load) == Load::kFailed);
  table.Leave(load);
  EXPECT_TRUE(Ended(&seat) ==
              (EndedList{{id, "the database is down"}, {large, "the value is too large for this cache"}}));
  EXPECT_EQ(table.failed_count(), 2u);
  // The next request tries again.
  const uint64_t again = Begin("a");
  EXPECT_TRUE(Drain(loader.get()) == Keys{"a"});
  End(loader.get(), ValueOf("a", "1"));
  EXPECT_TRUE(table.Poll(again) == Load::kLoaded);
  table.Leave(again);
}

TEST_F(LoadTableTest, ALoadWithoutWaitersStoresItsValue) {
  auto loader = NewLoader();
  {
    LoadSeat seat(&table, seat_bell);
    EXPECT_NE(seat.Begin("a", store.now()), 0u);
    const uint64_t b = seat.Begin("b", store.now());
    table.Leave(Begin("c"));
    seat.Leave(b);
    seat.Leave(b);
    EXPECT_EQ(seat.waiting_count(), 1u);
  }
  EXPECT_TRUE(Drain(loader.get()) == (Keys{"a", "b", "c"}));
  const LoadResult results[] = {ValueOf("a", "1"), ValueOf("b", "2"), ValueOf("c", "3")};
  loader->End(results, 3, store.now());
  EXPECT_EQ(store.Get("a").value + store.Get("b").value + store.Get("c").value, "123");
  EXPECT_EQ(sessions->count.load() + seat_bell->count.load(), 0);
  EXPECT_EQ(table.load_count(), 0u);
}

TEST_F(LoadTableTest, LeavingAnEndedLoadForgetsItsEnd) {
  auto loader = NewLoader();
  LoadSeat seat(&table, seat_bell);
  const uint64_t a = seat.Begin("a", store.now());
  const uint64_t b = seat.Begin("b", store.now());
  Drain(loader.get());
  const LoadResult results[] = {Of("a", Kind::kAgain), Of("b", Kind::kAgain)};
  loader->End(results, 2, store.now());
  EXPECT_EQ(seat_bell->count.load(), 1);
  seat.Leave(a);
  EXPECT_TRUE(Ended(&seat) == (EndedList{{b, ""}}));
  EXPECT_TRUE(Ended(&seat).empty());
}

TEST_F(LoadTableTest, ALoaderThatEndsGivesItsLoadsToTheNext) {
  const uint64_t before = Begin("before");
  auto loader = NewLoader();
  EXPECT_EQ(loader_bell->count.load(), 1);  // it is told of loads that were there before it
  const uint64_t a = Begin("a");
  EXPECT_TRUE(Drain(loader.get()) == (Keys{"before", "a"}));
  store.Set("before", "written");
  loader.reset();
  EXPECT_TRUE(table.Poll(a) == Load::kPending && table.Poll(before) == Load::kPending);
  loader = NewLoader();
  EXPECT_TRUE(Drain(loader.get()) == Keys{"a"});
  EXPECT_TRUE(table.Poll(before) == Load::kLoaded);
  End(loader.get(), ValueOf("a", "1"));
  EXPECT_EQ(store.Get("a").value, "1");
  EXPECT_EQ(store.Get("before").value, "written");
  table.Leave(a);
  table.Leave(before);
}

TEST_F(LoadTableTest, ALateAnswerOfALoaderThatHasGivenItsLoadsBackIsIgnored) {
  auto loader = NewLoader();
  const uint64_t a = Begin("a");
  EXPECT_TRUE(Drain(loader.get()) == Keys{"a"});
  const LoadResult late = ValueOf("a", "late");
  loader = NewLoader();
  End(loader.get(), late);
  EXPECT_TRUE(Drain(loader.get()) == Keys{"a"});
  End(loader.get(), late);
  EXPECT_TRUE(table.Poll(a) == Load::kPending);
  End(loader.get(), ValueOf("a", "1"));
  EXPECT_TRUE(table.Poll(a) == Load::kLoaded);
  EXPECT_EQ(store.Get("a").value, "1");
  table.Leave(a);
}

TEST_F(LoadTableTest, FailAllFailsLoadsUntilThereIsALoader) {
  auto loader = NewLoader();
  LoadSeat seat(&table, seat_bell);
  const uint64_t taken = seat.Begin("taken", store.now());
  Drain(loader.get());
  const uint64_t queued = Begin("queued");
  table.FailAll("the loader cannot start");
  EXPECT_TRUE(table.Poll(queued) == Load::kFailed);
  EXPECT_EQ(sessions->count.load(), 1);
  table.Leave(queued);
  EXPECT_TRUE(Ended(&seat) == (EndedList{{taken, "the loader cannot start"}}));
  const uint64_t refused = Begin("x");
  EXPECT_TRUE(table.Poll(refused) == Load::kFailed);
  table.Leave(refused);
  // The loader that was thought dead may still end what it took: the value is as good as any.
  End(loader.get(), ValueOf("taken", "1"));
  EXPECT_EQ(store.Get("taken").value, "1");
  EXPECT_TRUE(Drain(loader.get()).empty());
  loader = NewLoader();
  const uint64_t load = Begin("y");
  EXPECT_TRUE(Drain(loader.get()) == Keys{"y"});
  const int told = loader_bell->count.load();
  table.Close();
  EXPECT_EQ(loader_bell->count.load(), told + 1);
  EXPECT_TRUE(table.Poll(load) == Load::kFailed);
  table.Leave(load);
  // For good: a loader changes nothing.
  auto late = NewLoader();
  const uint64_t after = Begin("z");
  EXPECT_TRUE(table.Poll(after) == Load::kFailed);
  table.Leave(after);
}

TEST_F(LoadTableTest, EveryBoundRefusesWhatIsAboveIt) {
  LoadTable small(&store.store(), {2, 1000, 3});
  const uint64_t a = small.Begin("a", store.now());
  const uint64_t b = small.Begin("b", store.now());
  EXPECT_EQ(small.Begin("c", store.now()), 0u);  // loads
  const uint64_t again = small.Begin("a", store.now());
  EXPECT_NE(again, 0u);
  EXPECT_EQ(small.Begin("a", store.now()), 0u);  // waiters
  EXPECT_EQ(small.refused_count(), 2u);
  small.Leave(b);  // the load goes on
  EXPECT_EQ(small.Begin("c", store.now()), 0u);
  {
    Loader loader(&small, loader_bell);
    LoadTask tasks[2];
    EXPECT_EQ(loader.Drain(tasks, 2), 2u);
    LoadResult result;
    result.id = tasks[1].id;
    loader.End(&result, 1, store.now());
    EXPECT_EQ(small.Begin(std::string(1000, 'k'), store.now()), 0u);  // bytes of keys
    const uint64_t c = small.Begin("c", store.now());
    EXPECT_NE(c, 0u);
    small.Leave(c);
  }
  small.Leave(a);
  small.Leave(again);
}

// Many threads begin, poll and leave loads as sessions and as handles; loaders take them, some give them back; writers
// write and delete. A database of one word per key stands behind: a writer changes the word before it changes the store
// (as a log is ahead of a cache), and a loader reads the word after it took the load. If a fill could come after a
// newer write, the store would keep a value that is older than the writer's last.
TEST_F(LoadTableTest, AValueOlderThanAWriteNeverStays) {
  constexpr int kKeys = 8;
  constexpr int kRounds = 3000;
  std::atomic<uint64_t> database[kKeys] = {};
  std::atomic<bool> is_over{false};
  const auto key_of = [](uint64_t k) { return "key" + std::to_string(k); };
  std::vector<std::thread> threads;
  for (int l = 0; l < 2; l++) {
    threads.emplace_back([&, l] {
      auto bell = std::make_shared<Bell>();
      auto loader = std::make_unique<Loader>(&table, bell);
      LoadTask tasks[4];
      for (int turn = 0; !is_over.load(); turn++) {
        const size_t count = loader->Drain(tasks, 4);
        if (count == 0) std::this_thread::yield();
        if (turn % 64 == 63 + l) continue;
        if (turn % 64 == 62) {
          loader = std::make_unique<Loader>(&table, bell);  // the old one ends after this one was made
          continue;
        }
        std::string values[4];
        LoadResult results[4];
        for (size_t i = 0; i < count; i++) {
          const uint64_t k = std::stoull(std::string(tasks[i].key.substr(3)));
          values[i] = std::to_string(database[k].load());
          results[i].id = tasks[i].id;
          results[i].kind = turn % 7 == 0 ? Kind::kFailed : Kind::kValue;
          results[i].value = values[i];
        }
        loader->End(results, count, store.now());
      }
    });
  }
  for (uint64_t r = 0; r < 3; r++) {
    threads.emplace_back([&, r] {
      auto bell = std::make_shared<Bell>();
      LoadSeat seat(&table, bell);
      LoadSeat::Ended ended[8];
      uint64_t held = 0;
      for (uint64_t i = 0; !is_over.load(); i++) {
        const std::string key = key_of((i * 7 + r) % kKeys);
        if (i % 3 == 0 && seat.waiting_count() < 64) {
          const uint64_t id = seat.Begin(key, store.now());
          if (i % 2 == 0) seat.Leave(id);
        }
        static_cast<void>(seat.TakeEnded(ended, 8));
        if (held == 0) held = table.Begin(key, store.now());
        if (held != 0 && (i % 5 == 0 || table.Poll(held) != Load::kPending)) {
          table.Leave(held);
          held = 0;
        }
        if (i % 11 == 0) table.Prefetch(key, store.now());
      }
      if (held != 0) table.Leave(held);
    });
  }
  std::vector<std::thread> writers;
  for (uint64_t w = 0; w < 2; w++) {
    writers.emplace_back([&, w] {
      // No two writers share a key, so that the last write of a key is known.
      for (uint64_t i = 1; i <= kRounds; i++) {
        const uint64_t k = (i % (kKeys / 2)) * 2 + w;
        const std::string key = key_of(k);
        const std::string value = std::to_string(i);
        database[k].store(i);
        Request request;
        request.key = key;
        request.value = value;
        request.verb = i % 3 == 0 ? Verb::kDelete : Verb::kSet;
        Outcome outcome;
        store->Execute(request, store.now(), nullptr, &outcome);
        char room[64];
        PlainValue plain;
        const Status status = store->GetPlain(key, store.now(), room, sizeof(room), &plain);
        // Nothing but this value, or its absence, may be seen from here on.
        if (status == Status::kFound) EXPECT_EQ(std::string(room, plain.value_bytes), value);
        if (i % 3 != 0) EXPECT_TRUE(status == Status::kFound);
        if (i % 5 == 0) {
          request.verb = Verb::kEvict;
          store->Execute(request, store.now(), nullptr, &outcome);
        }
      }
    });
  }
  for (std::thread& writer : writers) writer.join();
  is_over.store(true);
  for (std::thread& thread : threads) thread.join();
  Loader loader(&table, loader_bell);
  LoadTask task;
  while (loader.Drain(&task, 1) == 1) {
    LoadResult result;
    result.id = task.id;
    loader.End(&result, 1, store.now());
  }
  EXPECT_EQ(table.load_count(), 0u);
  store->Verify();
}

// ---- without an eviction ----

TEST_F(LoadTableTest, AValueForFreeRoomIsStoredUntilMemoryIsFullAndEvictsNothing) {
  auto loader = NewLoader();
  LoadSeat seat(&table, loader_bell);
  // Within the bound of copies under the lock, and beyond it when there is no room any more.
  for (const size_t bytes : {size_t{20'000}, size_t{1000}, size_t{20'000}}) {
    const std::string value(bytes, 'v');
    uint64_t stored = 0;
    for (;; ++stored) {
      const std::string key = std::to_string(bytes) + ":" + std::to_string(stored);
      ASSERT_LT(stored, 1'000'000u);
      if (store.Peek(key).status == Status::kFound) continue;
      ASSERT_NE(seat.Begin(key, store.now(), LoadInto::kFreeRoom), 0u);
      Drain(loader.get());
      End(loader.get(), ValueOf(key, value));
      LoadSeat::Ended ended;
      ASSERT_EQ(seat.TakeEnded(&ended, 1), 1u);
      EXPECT_TRUE(ended.why == nullptr);
      if (store.Peek(key).status != Status::kFound) break;
    }
    EXPECT_GT(stored, 5u);
    EXPECT_EQ(store->Stats().evictions, 0u);
    store->Verify();
  }
}

TEST_F(LoadTableTest, ARequestThatJoinsALoadForFreeRoomGetsItsValue) {
  auto loader = NewLoader();
  LoadSeat seat(&table, loader_bell);
  const std::string value(1000, 'v');
  for (uint64_t i = 0; store->Stats().evictions == 0; i++) store.Set(std::to_string(i), value);
  const uint64_t evictions = store->Stats().evictions;
  ASSERT_NE(seat.Begin("a", store.now(), LoadInto::kFreeRoom), 0u);
  const uint64_t joined = Begin("a");
  ASSERT_NE(seat.Begin("a", store.now(), LoadInto::kFreeRoom), 0u);
  Drain(loader.get());
  End(loader.get(), ValueOf("a", value));
  EXPECT_TRUE(table.Poll(joined) == Load::kLoaded);
  table.Leave(joined);
  EXPECT_EQ(store.Peek("a").status, Status::kFound);
  EXPECT_GT(store->Stats().evictions, evictions);
  // One that joins when the value has found no room executes its request again, and then begins a load.
  ASSERT_NE(seat.Begin("b", store.now(), LoadInto::kFreeRoom), 0u);
  Drain(loader.get());
  End(loader.get(), ValueOf("b", std::string(100'000, 'v')));
  EXPECT_EQ(store.Peek("b").status, Status::kNotFound);
}

}  // namespace
}  // namespace cairn
