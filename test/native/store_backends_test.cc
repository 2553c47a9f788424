// Several backends behind one store (store/backends.h): which of them a key belongs to, and that each holds up its own
// keys only: what they owe, the loads that wait for it, and the replies of sessions.

#include "store/backends.h"

#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "process/load_table.h"
#include "protocol/session.h"
#include "store/fill_watch.h"
#include "store/store.h"
#include "support/protocol_client.h"
#include "support/store_fixture.h"
#include "test.h"

namespace cairn {
namespace {

using test::ProtocolClient;
using test::ProtocolServer;
using test::TestLog;
using Health = StoredChanges::Health;

std::vector<BackendRoute> Routes() { return {{"a:", 1, true}, {"a:b:", 0, true}, {"tmp:", 0, false}}; }

TEST(Backends, TheLongestPrefixOfAKeyCounts) {
  const Backends backends(2, Routes(), 1);
  EXPECT_EQ(backends.Of("a:1"), 1u);
  EXPECT_EQ(backends.Of("a:b:1"), 0u);
  EXPECT_EQ(backends.Of("a:"), 1u);
  EXPECT_EQ(backends.Of("a"), 0u);
  EXPECT_EQ(backends.Of("other"), 0u);
  EXPECT_EQ(backends.prefix_bytes_max(), 4u);
  EXPECT_FALSE(backends.RouteOf("tmp:1").is_written);
}

TEST(Backends, ARouteWithoutAPrefixIsThatOfAllOtherKeys) {
  const Backends backends(3, {{"", 2, true}, {"a", 1, true}}, 1);
  EXPECT_EQ(backends.Of("a"), 1u);
  EXPECT_EQ(backends.Of("b"), 2u);
}

TEST(Backends, KeysAreOfOneApartFromThoseThatNoBackendGets) {
  const Backends backends(2, Routes(), 1);
  uint32_t first = 9;
  uint32_t other = 9;
  size_t index = 9;
  const auto are_of_one = [&](const std::vector<std::string_view>& keys) {
    return backends.AreOfOne(keys.size(), [&keys](size_t i) { return keys[i]; }, &first, &other, &index);
  };
  EXPECT_TRUE(are_of_one({"tmp:1", "a:1", "a:2", "tmp:2"}));
  EXPECT_EQ(first, 1u);
  EXPECT_FALSE(are_of_one({"tmp:1", "x", "a:b:1", "a:1"}));
  EXPECT_EQ(first, 0u);
  EXPECT_EQ(other, 1u);
  EXPECT_EQ(index, 3u);
}

TEST(Backends, TheWorstHealthIsThatOfAll) {
  const Backends backends(2, Routes(), 1);
  EXPECT_TRUE(backends.health() == Health::kRunning);
  backends.At(1)->SetHealth(0, 1, Health::kAway);
  EXPECT_TRUE(backends.health() == Health::kAway);
  EXPECT_TRUE(backends.For("x")->health() == Health::kRunning);
}

// ---- debts ----

StoreOptions TwoBackends() {
  StoreOptions options = TestStore::Tiny();
  options.has_backend = true;
  options.backend_count = 2;
  options.backend_routes = Routes();
  return options;
}

class BackedStore : public TestStore {
 public:
  BackedStore() : TestStore(TwoBackends()) { RecordAll(); }

  // A backend has everything up to now, that of the others passed.
  void StoreAll(uint32_t backend) { store().stored_marks(backend)->Advance(0, store().LastVersion(0)); }
  bool HasStub(std::string_view key) {
    StubInfo info;
    return store().StubOf(key, now(), &info);
  }
  bool IsOwed(std::string_view key) { return store().LastChangeOf(key, now(), nullptr) != 0; }
  void Evict(std::string_view key) { EXPECT_EQ(Do(Make(Verb::kEvict, key)).status, Status::kFound); }
};

TEST(StoreBackends, AKeyIsOwedUntilItsOwnBackendHasIt) {
  BackedStore store;
  store.Set("x", "1");
  store.Set("a:1", "1");
  store.StoreAll(0);
  EXPECT_FALSE(store.IsOwed("x"));
  EXPECT_TRUE(store.IsOwed("a:1"));
  store.Evict("x");
  store.Evict("a:1");
  EXPECT_FALSE(store.HasStub("x"));
  EXPECT_TRUE(store.HasStub("a:1"));
  store.StoreAll(1);
  EXPECT_FALSE(store.HasStub("a:1"));
}

TEST(StoreBackends, StubsOfOneBackendAreFreedWhileThoseOfAnotherStay) {
  BackedStore store;
  for (int i = 0; i < 20; i++) {
    store.Delete("x" + std::to_string(i));
    store.Delete("a:" + std::to_string(i));
  }
  store.StoreAll(0);
  while (store->Maintain(store.now())) continue;
  EXPECT_EQ(store->Stats().stubs, 20u);
  store.StoreAll(1);
  while (store->Maintain(store.now())) continue;
  EXPECT_EQ(store->Stats().stubs, 0u);
}

TEST(StoreBackends, AKeyIsOwedBehindALongPrefixToo) {
  StoreOptions options = TwoBackends();
  const std::string prefix(200, 'p');
  options.backend_routes = {{prefix, 1, true}};
  TestStore store(options);
  store.RecordAll();
  const std::string key = prefix + "key";
  store.Set(key, std::string(5000, 'v'));
  store.Set("x", "1");
  store.store().stored_marks(0)->Advance(0, store.store().LastVersion(0));
  EXPECT_NE(store.store().LastChangeOf(key, store.now(), nullptr), 0u);
  EXPECT_EQ(store.store().LastChangeOf("x", store.now(), nullptr), 0u);
}

// ---- loads ----

class CountingWaker final : public Waker {
 public:
  void Wake() override { count++; }
  int count = 0;
};

TEST(StoreBackends, ALoaderGetsTheLoadsOfItsBackendOnly) {
  BackedStore store;
  LoadTable loads(&store.store());
  const auto bell = std::make_shared<CountingWaker>();
  Loader first(&loads, bell, 0);
  {
    Loader second(&loads, bell, 1);
    loads.Prefetch("x", store.now());
    loads.Prefetch("a:1", store.now());
    LoadTask tasks[2];
    ASSERT_EQ(second.Drain(tasks, 2), 1u);
    EXPECT_EQ(tasks[0].key, "a:1");
    ASSERT_EQ(first.Drain(tasks, 2), 1u);
    EXPECT_EQ(tasks[0].key, "x");
  }
  // What the loader that has ended had is for the next one of its backend.
  LoadTask tasks[2];
  EXPECT_EQ(first.Drain(tasks, 2), 0u);
  Loader third(&loads, bell, 1);
  EXPECT_EQ(third.Drain(tasks, 2), 1u);
}

TEST(StoreBackends, LoadsOfOneBackendFailWithoutThoseOfAnother) {
  BackedStore store;
  LoadTable loads(&store.store());
  const auto bell = std::make_shared<CountingWaker>();
  Loader loader(&loads, bell, 0);
  loads.FailAll("the module is gone", 1);
  LoadSeat seat(&loads, bell);
  const uint64_t failing = seat.Begin("a:1", store.now());
  static_cast<void>(seat.Begin("x", store.now()));
  LoadSeat::Ended ended[2];
  ASSERT_EQ(seat.TakeEnded(ended, 2), 1u);
  EXPECT_EQ(ended[0].id, failing);
  EXPECT_EQ(*ended[0].why, "the module is gone");
  LoadTask tasks[2];
  EXPECT_EQ(loader.Drain(tasks, 2), 1u);
}

// ---- sessions ----

// At the level `stored`, with a log that has everything at once.
struct TwoBackendServer {
  TwoBackendServer() : log(1), server(Options(&log), Shape()) {}
  static Service::Options Options(TestLog* log) {
    Service::Options options = ProtocolServer::DefaultOptions();
    options.log = log;
    options.ack = Ack::kStored;
    return options;
  }
  static StoreOptions Shape() {
    StoreOptions options = ProtocolServer::SmallStore();
    options.shard_count = 1;
    options.ring_bytes = kRingBytesMin;
    options.backend_count = 2;
    options.backend_routes = Routes();
    return options;
  }
  void Store(uint32_t backend) {
    log.Commit(server.store());
    server.store()->stored_marks(backend)->Advance(0, server.store()->LastVersion(0));
  }

  TestLog log;
  ProtocolServer server;
};

TEST(StoreBackends, AReplyWaitsForTheBackendOfItsKey) {
  TwoBackendServer server;
  ProtocolClient client(&server.server);
  EXPECT_EQ(client.Send("set a:1 0 0 1\r\n1\r\n"), "");
  server.Store(0);
  EXPECT_EQ(client.ContinueOnce(), "");
  server.Store(1);
  EXPECT_EQ(client.ContinueOnce(), "STORED\r\n");
}

TEST(StoreBackends, WhileABackendIsAwayChangesOfItsKeysOnlyAreRefused) {
  constexpr std::string_view kAway = "SERVER_ERROR the database cannot be written\r\n";
  TwoBackendServer server;
  ProtocolClient client(&server.server);
  server.server.store()->stored(1)->SetHealth(0, 1, Health::kAway);
  EXPECT_EQ(client.Send("set a:1 0 0 1\r\n1\r\n"), kAway);
  EXPECT_EQ(client.Send("delete a:1\r\n"), kAway);
  EXPECT_EQ(client.Send("gat 100 x a:1\r\n"), kAway);
  EXPECT_EQ(client.Send("set a:b:1 0 0 1\r\n1\r\n"), "");
  server.Store(0);
  EXPECT_EQ(client.ContinueOnce(), "STORED\r\n");
  EXPECT_EQ(client.Send("gat 100 x y\r\n"), "END\r\n");
}

}  // namespace
}  // namespace cairn
