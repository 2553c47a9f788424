// Commands by which an operator changes the server: who hears of them, and which words they take. Their replies are
// also those of the recordings in test/protocol/.

#include <memory>
#include <string>

#include "protocol/service.h"
#include "protocol/session.h"
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

}  // namespace
}  // namespace cairn
