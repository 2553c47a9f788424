// Sessions while changes are slowed, because the backend does not take them: which requests wait before they are
// executed, for how long, and what goes on meanwhile.

#include <string>
#include <string_view>
#include <utility>

#include "protocol/session.h"
#include "support/protocol_client.h"
#include "test.h"

namespace cairn {
namespace {

using test::ProtocolClient;
using test::ProtocolServer;
using test::Set;
using test::TestLog;
using Next = Session::Next;

constexpr uint32_t kSlowMs = 40;

struct SlowedServer {
  SlowedServer() : log(1), server(Options(&log), ProtocolServer::LoggedStore(1)) {
    ProtocolClient client(&server);
    client.Send(Set("n", "7"));
    slowdown()->Set(kSlowMs);
  }

  static Service::Options Options(TestLog* log) {
    Service::Options options = ProtocolServer::DefaultOptions();
    options.log = log;
    return options;
  }
  Slowdown* slowdown() { return server.store()->stored()->slowdown(); }

  TestLog log;
  ProtocolServer server;
};

TEST(ProtocolSlowdown, EveryChangeWaitsBeforeItIsExecuted) {
  const std::pair<std::string, std::string> cases[] = {
      {Set("a", "1"), "STORED\r\n"},
      {"add new 0 0 1\r\n1\r\n", "STORED\r\n"},
      {"append n 0 0 1\r\n5\r\n", "STORED\r\n"},
      {"incr n 1\r\n", "8\r\n"},
      {"touch n 100\r\n", "TOUCHED\r\n"},
      {"gat 100 n\r\n", "VALUE n 0 1\r\n7\r\nEND\r\n"},
      {"get n none\r\ngat 100 none n\r\n", "VALUE n 0 1\r\n7\r\nEND\r\nVALUE n 0 1\r\n7\r\nEND\r\n"},
      {"delete n\r\n", "DELETED\r\n"},
      {Set("big", std::string(100'000, 'b')), "STORED\r\n"},
  };
  for (const auto& [request, reply] : cases) {
    SlowedServer slowed;
    ProtocolClient client(&slowed.server);
    std::string replies = client.Send(request + "mn\r\n");
    EXPECT_EQ(client.next, Next::kWait) << request.substr(0, 30);
    EXPECT_TRUE(client.session()->waits());
    EXPECT_EQ(client.session()->continue_in_ms(), kSlowMs);
    slowed.server.Pass(kSlowMs - 1);
    replies += client.ContinueOnce();
    EXPECT_EQ(client.session()->continue_in_ms(), 1U) << request.substr(0, 30);
    EXPECT_TRUE(replies.empty() || request.starts_with("get")) << replies;
    slowed.server.Pass(1);
    replies += client.ContinueOnce();
    while (client.goes_on()) replies += client.ContinueOnce();
    EXPECT_EQ(replies, reply + "MN\r\n") << request.substr(0, 30);
    EXPECT_EQ(client.session()->continue_in_ms(), 0U);
    EXPECT_FALSE(client.session()->waits());
    EXPECT_EQ(slowed.slowdown()->changes(), 1U) << request.substr(0, 30);
    EXPECT_EQ(slowed.slowdown()->total_ms(), kSlowMs);
  }
}

TEST(ProtocolSlowdown, NothingElseWaits) {
  for (const std::string request : {"get n\r\n", "gets n none\r\n", "flush_all\r\n", "version\r\n", "touch n x\r\n"}) {
    SlowedServer slowed;
    ProtocolClient client(&slowed.server);
    EXPECT_NE(client.Send(request), "") << request;
    EXPECT_EQ(client.next, Next::kRead) << request;
    EXPECT_EQ(slowed.slowdown()->changes(), 0U);
  }
}

TEST(ProtocolSlowdown, EachChangeOfAConnectionWaitsAnewAlsoWithNoReply) {
  SlowedServer slowed;
  ProtocolClient client(&slowed.server);
  EXPECT_EQ(client.Send("incr n 1 noreply\r\nincr n 1 noreply\r\ngat 9 n\r\ngat 9 n\r\nget n\r\n"), "");
  std::string replies;
  for (uint32_t i = 1; i <= 4; i++) {
    EXPECT_EQ(slowed.slowdown()->changes(), i);
    EXPECT_EQ(client.session()->continue_in_ms(), kSlowMs);
    slowed.server.Pass(kSlowMs);
    replies += client.ContinueOnce();
  }
  EXPECT_EQ(slowed.slowdown()->changes(), 4U);
  const std::string value = "VALUE n 0 1\r\n9\r\nEND\r\n";
  EXPECT_EQ(replies, value + value + value);
}

TEST(ProtocolSlowdown, OtherConnectionsGoOnMeanwhile) {
  SlowedServer slowed;
  ProtocolClient writer(&slowed.server);
  ProtocolClient reader(&slowed.server);
  EXPECT_EQ(writer.Send(Set("n", "8")), "");
  EXPECT_EQ(reader.Send("get n\r\n"), "VALUE n 0 1\r\n7\r\nEND\r\n");
  slowed.server.Pass(kSlowMs);
  EXPECT_EQ(writer.ContinueOnce(), "STORED\r\n");
  EXPECT_EQ(reader.Send("get n\r\n"), "VALUE n 0 1\r\n8\r\nEND\r\n");
}

TEST(ProtocolSlowdown, ARequestThatThenFindsNoRoomDoesNotWaitTwice) {
  SlowedServer slowed;
  ProtocolClient writer(&slowed.server);
  // As much as the ring has room for.
  slowed.slowdown()->Set(0);
  const std::string filler = Set("filler", std::string(20'000, 'f'));
  while (writer.Send(filler) == "STORED\r\n") {
  }
  EXPECT_EQ(writer.next, Next::kWait);
  slowed.slowdown()->Set(kSlowMs);
  ProtocolClient client(&slowed.server);
  EXPECT_EQ(client.Send(filler + "mn\r\n"), "");
  slowed.server.Pass(kSlowMs);
  EXPECT_EQ(client.ContinueOnce(), "");
  EXPECT_EQ(client.next, Next::kWait);
  EXPECT_EQ(client.session()->continue_in_ms(), 0U);
  slowed.log.Commit(slowed.server.store());
  EXPECT_EQ(client.ContinueOnce(), "STORED\r\nMN\r\n");
  EXPECT_EQ(slowed.slowdown()->changes(), 1U);
}

TEST(ProtocolSlowdown, WhenItEndsThoseThatWaitGoOnAtOnce) {
  SlowedServer slowed;
  ProtocolClient client(&slowed.server);
  EXPECT_EQ(client.Send(Set("n", "8") + Set("n", "9")), "");
  const int arms = slowed.log.arms;
  EXPECT_GT(arms, 0);  // the news wakes the front
  slowed.slowdown()->Set(0);
  EXPECT_EQ(client.ContinueOnce(), "STORED\r\nSTORED\r\n");
  EXPECT_EQ(client.session()->continue_in_ms(), 0U);
}

}  // namespace
}  // namespace cairn
