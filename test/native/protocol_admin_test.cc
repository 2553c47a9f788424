// Commands by which an operator changes the server: who hears of them, and which words they take. Their replies are
// also those of the recordings in test/protocol/.

#include <memory>
#include <string>
#include <string_view>

#include "protocol/service.h"
#include "protocol/session.h"
#include "store/removal.h"
#include "store/store.h"
#include "support/protocol_client.h"
#include "test.h"

namespace cairn {
namespace {

using test::ProtocolClient;
using test::ProtocolServer;
using Shutdown = Service::Shutdown;

struct CountingWaker final : Waker {
  void Wake() override { count++; }
  int count = 0;
};

TEST(ProtocolAdmin, AShutdownWakesTheOwnerAndEndsItsConnection) {
  for (const bool is_graceful : {false, true}) {
    const auto owner = std::make_shared<CountingWaker>();
    Service::Options options = ProtocolServer::DefaultOptions();
    options.enable_shutdown = true;
    options.owner = owner;
    ProtocolServer server(std::move(options));
    ProtocolClient client(&server), other(&server);
    EXPECT_EQ(client.Send("shutdown soon\r\nshutdown graceful now\r\nshutdown graceful noreply\r\n"),
              "CLIENT_ERROR invalid shutdown mode\r\nCLIENT_ERROR invalid shutdown mode\r\n");
    EXPECT_TRUE(server.service()->TakeShutdown() == Shutdown::kNone);
    EXPECT_EQ(owner->count, 0);
    const std::string line = is_graceful ? "shutdown graceful\r\n" : "shutdown\r\n";
    EXPECT_EQ(client.Send("set a 0 0 1\r\n1\r\n" + line + "get a\r\n"), "STORED\r\n");
    EXPECT_TRUE(client.next == Session::Next::kClose);
    EXPECT_EQ(owner->count, 1);
    EXPECT_TRUE(server.service()->TakeShutdown() == (is_graceful ? Shutdown::kGraceful : Shutdown::kPlain));
    EXPECT_TRUE(server.service()->TakeShutdown() == Shutdown::kNone) << "it is told once";
    EXPECT_EQ(other.Send("get a\r\n"), "VALUE a 0 1\r\n1\r\nEND\r\n") << "the end is the owner's matter";
  }
}

TEST(ProtocolAdmin, AShutdownIsRefusedUnlessItIsEnabled) {
  const auto owner = std::make_shared<CountingWaker>();
  Service::Options options = ProtocolServer::DefaultOptions();
  options.owner = owner;
  ProtocolServer server(std::move(options));
  ProtocolClient client(&server);
  for (const char* line : {"shutdown\r\n", "shutdown graceful\r\n", "shutdown bogus\r\n"}) {
    EXPECT_EQ(client.Send(line), "SERVER_ERROR: shutdown not enabled\r\n");
  }
  EXPECT_EQ(client.Send("shutdown noreply\r\nmn\r\n"), "MN\r\n");
  EXPECT_EQ(owner->count, 0);
  EXPECT_TRUE(server.service()->TakeShutdown() == Shutdown::kNone);
}

std::string LinesOf(int count, std::string_view prefix, size_t value_bytes) {
  std::string lines;
  for (int i = 0; i < count; i++) {
    const std::string key = std::string(prefix) + std::to_string(i);
    lines +=
        "set " + key + " 0 0 " + std::to_string(value_bytes) + " noreply\r\n" + std::string(value_bytes, 'v') + "\r\n";
  }
  return lines;
}

struct ShrinkRecorder final : RemovalSink {
  void OnRemoved(Reason, const RemovedEntry&) override {}
  void OnCleared(uint64_t) override {}
  void OnShrinking() override { count++; }
  int count = 0;
};

TEST(ProtocolAdmin, ALowerMemlimitEvictsAFewEntriesAndLeavesTheRestToTheJanitor) {
  ShrinkRecorder janitor;
  StoreOptions options = ProtocolServer::SmallStore();
  options.value_bytes_max = 0;
  ProtocolServer server(ProtocolServer::DefaultOptions(), options);
  server.store()->SetRemovalSink(&janitor);
  ProtocolClient client(&server);
  client.Send(LinesOf(20'000, "k", 1000));
  const uint64_t entries = server.store()->entries();
  EXPECT_EQ(client.Send("cache_memlimit 8\r\n"), "OK\r\n");
  EXPECT_EQ(janitor.count, 1);
  EXPECT_GE(server.store()->entries(), entries - 2 * kStepEntriesMax) << "a step in each of two shards";
  EXPECT_NE(client.Send("stats\r\n").find("STAT limit_maxbytes 8388608\r\n"), std::string::npos);
  while (server.store()->Maintain(server.now)) {
  }
  const StoreStats stats = server.store()->Stats();
  EXPECT_LE(stats.charged_bytes, stats.limit_bytes);
  EXPECT_LE(stats.committed_bytes, uint64_t{8} << 20);
  EXPECT_LT(stats.entries, entries);
  // What was stored last is there, and a higher limit holds more at once.
  EXPECT_EQ(client.Send("mg k19999 s\r\n"), "HD s1000\r\n");
  EXPECT_EQ(client.Send("cache_memlimit 16\r\n"), "OK\r\n");
  client.Send(LinesOf(20'000, "m", 1000));
  EXPECT_GE(server.store()->entries(), entries * 9 / 10);
  EXPECT_EQ(janitor.count, 1) << "nothing has to leave";
  server.store()->Verify();
}

TEST(ProtocolAdmin, AMemlimitThatTheStoreCannotHaveIsRefused) {
  ProtocolServer server;  // of 16 MiB, which holds values of 1 MiB in each of two shards
  ProtocolClient client(&server);
  const uint64_t before = server.store()->Stats().memory_bytes;
  const std::string refused = "MEMLIMIT_ADJUST_FAILED out of bounds or unable to adjust\r\n";
  EXPECT_EQ(client.Send("cache_memlimit 65\r\n"), refused) << "four times the memory is the ceiling";
  EXPECT_EQ(client.Send("cache_memlimit 1000000000\r\n"), refused);
  EXPECT_EQ(client.Send("cache_memlimit 1000000000 noreply\r\n"), "");
  EXPECT_EQ(client.Send("cache_memlimit 1000000001\r\n"),
            "MEMLIMIT_ADJUST_FAILED input value is megabytes not bytes\r\n");
  EXPECT_EQ(client.Send("cache_memlimit 7\r\n"), "MEMLIMIT_TOO_SMALL cannot set maxbytes to less than 8m\r\n");
  EXPECT_EQ(client.Send("cache_memlimit\r\ncache_memlimit x\r\n"), "ERROR\r\nERROR\r\n");
  EXPECT_EQ(server.store()->Stats().memory_bytes, before);
  EXPECT_EQ(client.Send("cache_memlimit 64\r\n"), "OK\r\n");
  EXPECT_EQ(server.store()->Stats().memory_bytes, uint64_t{64} << 20);
}

}  // namespace
}  // namespace cairn
