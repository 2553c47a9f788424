// Remote slots: requests that wait for a load, while those behind them on the same connection are executed. Which are
// executed and which wait, in what order replies leave, what bounds hold, and how slots meet the other ways to wait:
// for a commit, for room in the log, for a slowdown. Store and load table are real; a map is the database.

#include <algorithm>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "protocol/execute.h"
#include "protocol/limits.h"
#include "protocol/session.h"
#include "support/binary_packet.h"
#include "support/protocol_client.h"
#include "test.h"

namespace cairn {
namespace {

using test::CountPacket;
using test::Hit;
using test::KeyPacket;
using test::kLoadFailed;
using test::Noop;
using test::PacketOf;
using test::ProtocolClient;
using test::ProtocolServer;
using test::Set;
using test::StorePacket;
using test::TestDatabase;
using test::TestLog;
using test::Told;
using test::TouchPacket;
using Next = Session::Next;

StoreOptions WithBackend() {
  StoreOptions options = ProtocolServer::SmallStore();
  options.has_backend = true;
  return options;
}

// A server whose database has `a` = 1 and `n` = 7, and a second client, which shows what has been executed.
struct RemoteServer {
  RemoteServer() : RemoteServer(ProtocolServer::DefaultOptions(), WithBackend()) {}
  RemoteServer(Service::Options options, StoreOptions store_options, LoadLimits limits = {})
      : server(options, store_options, limits), database(&server), other(&server) {
    database.rows = {{"a", "1"}, {"n", "7"}};
  }

  // What the client is told, once all loads have ended that it waits for.
  std::string Await(ProtocolClient* client) {
    std::string reply;
    while (client->session()->waits() && database.Serve()) {
      do reply += client->ContinueOnce();
      while (client->goes_on());
    }
    return reply;
  }
  // The entry is in memory.
  bool Has(std::string_view key) { return PeekOnly(key, server.now, server.store()).status == Status::kFound; }
  void Evict(std::string_view key) {
    Request request;
    request.verb = Verb::kEvict;
    request.key = key;
    Outcome outcome;
    server.store()->Execute(request, server.now, nullptr, &outcome);
  }

  ProtocolServer server;
  TestDatabase database;
  ProtocolClient other;
};

// ---- what is executed, and in what order ----

TEST(ProtocolRemote, RequestsBehindOneThatWaitsAreExecutedAndTheirRepliesWait) {
  RemoteServer remote;
  ProtocolClient client(&remote.server);
  EXPECT_EQ(client.Send("get a\r\n" + Set("b", "2") + "get b\r\n"), "");
  EXPECT_TRUE(client.next == Next::kRead && client.session()->waits());
  EXPECT_TRUE(remote.Has("b"));
  // It is read on, and executes what comes.
  EXPECT_EQ(client.Send(Set("c", "3") + "delete b\r\nmn\r\nversion\r\nverbosity 1\r\nnonsense\r\n"), "");
  EXPECT_TRUE(remote.Has("c") && !remote.Has("b"));
  EXPECT_EQ(remote.Await(&client), Hit("a", "1") + "END\r\nSTORED\r\n" + Hit("b", "2") +
                                       "END\r\nSTORED\r\nDELETED\r\nMN\r\nVERSION 1.6.45\r\nOK\r\nERROR\r\n");
  EXPECT_FALSE(client.session()->waits());
  EXPECT_EQ(remote.server.loads()->load_count(), 0u);
}

TEST(ProtocolRemote, SeveralLoadsGoOnAtOnceAndAnswersLeaveInOrder) {
  RemoteServer remote;
  ProtocolClient client(&remote.server);
  std::string expected;
  for (int i = 0; i < 100; i++) {
    const std::string key = "k" + std::to_string(i);
    remote.database.rows[key] = std::to_string(i);
    EXPECT_EQ(client.Send("get " + key + "\r\nincr " + key + " 1\r\n"), "");
    expected += Hit(key, std::to_string(i)) + "END\r\n" + std::to_string(i + 1) + "\r\n";
  }
  EXPECT_EQ(remote.server.loads()->begun_count(), 100u);
  EXPECT_EQ(remote.Await(&client), expected);
  EXPECT_EQ(remote.database.round_trips, 1);
}

TEST(ProtocolRemote, RequestsForOneKeyDoNotOvertakeEachOther) {
  const std::pair<std::string, std::string> cases[] = {
      {Set("b", "2") + "touch b 0\r\nget b\r\n", "STORED\r\nTOUCHED\r\n" + Hit("b", "2") + "END\r\n"},
      {Set("a", "X") + "get a\r\n", "STORED\r\n" + Hit("a", "X") + "END\r\n"},
      {"append a 0 0 1\r\n2\r\nget b a\r\n", "STORED\r\n" + Hit("a", "12") + "END\r\n"},
      {"get x\r\ndelete x\r\nadd x 0 0 1\r\n9\r\nget x\r\n",
       "END\r\nNOT_FOUND\r\nSTORED\r\n" + Hit("x", "9") + "END\r\n"},
      {"ms a 1\r\nX\r\nmg YQ== b v\r\n", "HD\r\nVA 1\r\nX\r\n"},
      {"touch a 0\r\nincr a 4 noreply\r\nget b c a\r\n", "TOUCHED\r\n" + Hit("a", "5") + "END\r\n"},
      {"set a 0 0 100000\r\n" + std::string(100'000, 'L') + "\r\nmg a s\r\n", "STORED\r\nHD s100000\r\n"},
      {"get b a\r\nset b 0 0 1\r\n2\r\nget b\r\n", Hit("a", "1") + "END\r\nSTORED\r\n" + Hit("b", "2") + "END\r\n"},
  };
  for (const auto& [requests, reply] : cases) {
    RemoteServer remote;
    ProtocolClient client(&remote.server);
    EXPECT_EQ(client.Send("get a\r\n" + requests), "");
    EXPECT_EQ(remote.Await(&client), Hit("a", "1") + "END\r\n" + reply) << requests.substr(0, 40);
    EXPECT_FALSE(client.session()->waits());
  }
}

TEST(ProtocolRemote, TheKeyOfAFilledSlotIsFreeWhileOtherSlotsWait) {
  RemoteServer remote;
  ProtocolClient client(&remote.server);
  EXPECT_EQ(client.Send("get a\r\n"), "");
  EXPECT_TRUE(remote.database.Serve());
  EXPECT_EQ(client.Send("get n\r\n") + client.ContinueOnce(), Hit("a", "1") + "END\r\n");
  EXPECT_TRUE(client.session()->waits());
  EXPECT_EQ(client.Send("delete a\r\n"), "");
  EXPECT_FALSE(remote.Has("a"));
  EXPECT_EQ(remote.Await(&client), Hit("n", "7") + "END\r\nDELETED\r\n");
}

TEST(ProtocolRemote, AMissingKeyHoldsUpNoOtherOfItsLineOrBehindIt) {
  RemoteServer remote;
  remote.database.rows = {{"a", "1"}, {"c", "3"}, {"e", "5"}};
  remote.other.Send(Set("b", "2") + Set("d", "4"));
  ProtocolClient client(&remote.server);
  // The part before it leaves at once.
  EXPECT_EQ(client.Send("get b a c d\r\nget d\r\nget e\r\nget c b e\r\n"), Hit("b", "2"));
  EXPECT_EQ(remote.server.loads()->begun_count(), 3u);
  EXPECT_EQ(remote.Await(&client), Hit("a", "1") + Hit("c", "3") + Hit("d", "4") + "END\r\n" + Hit("d", "4") +
                                       "END\r\n" + Hit("e", "5") + "END\r\n" + Hit("c", "3") + Hit("b", "2") +
                                       Hit("e", "5") + "END\r\n");
  EXPECT_EQ(remote.database.round_trips, 1);
}

TEST(ProtocolRemote, AGetThatStandsBehindAnotherBeginsItsOtherLoads) {
  RemoteServer remote;
  remote.database.rows["c"] = "3";
  ProtocolClient client(&remote.server);
  // Apart: the first of a group begins the loads of the whole group.
  EXPECT_EQ(client.Send("get a\r\n"), "");
  EXPECT_EQ(client.Send("get a c n\r\n"), "");
  EXPECT_EQ(remote.server.loads()->begun_count(), 3u);
  EXPECT_EQ(remote.Await(&client),
            Hit("a", "1") + "END\r\n" + Hit("a", "1") + Hit("c", "3") + Hit("n", "7") + "END\r\n");
  EXPECT_EQ(remote.database.round_trips, 1);
}

TEST(ProtocolRemote, ARequestIsExecutedWhenItsAnswerIsThereAndSeesWhatIsThereThen) {
  RemoteServer remote;
  ProtocolClient client(&remote.server);
  EXPECT_EQ(client.Send("get a\r\nget n\r\n"), "");
  EXPECT_TRUE(remote.database.Serve());
  remote.other.Send(Set("n", "new"));
  EXPECT_EQ(client.ContinueOnce(), Hit("a", "1") + "END\r\n" + Hit("n", "new") + "END\r\n");
}

TEST(ProtocolRemote, WhatIsAboutTheWholeCacheWaitsForAllSlots) {
  for (const std::string request :
       {"flush_all\r\n", "flush_all 0 noreply\r\n", "stats\r\n", "stats cairn\r\n", "lru_crawler metadump all\r\n",
        "cache_memlimit 64\r\n", "shutdown\r\n", "watch\r\n", "debugtime p\r\n", "refresh_certs\r\n"}) {
    RemoteServer remote;
    ProtocolClient client(&remote.server);
    remote.other.Send(Set("b", "2"));
    EXPECT_EQ(client.Send("get a\r\nget n\r\n" + request + Set("late", "1")), "") << request;
    EXPECT_TRUE(client.next == Next::kWait) << request;
    EXPECT_EQ(client.ContinueOnce(), "") << request;
    EXPECT_TRUE(remote.Has("b") && !remote.Has("late")) << request;
    const std::string begin = Hit("a", "1") + "END\r\n" + Hit("n", "7") + "END\r\n";
    EXPECT_EQ(remote.Await(&client).substr(0, begin.size()), begin) << request;
    EXPECT_TRUE(client.next == Next::kRead) << request;
  }
}

TEST(ProtocolRemote, ABlockThatCannotBeKeptWaitsForAllSlots) {
  const std::string block(70'000, 'L');
  const std::pair<std::string, std::string> cases[] = {
      {"set b 0 0 70000\r\n" + block + "\r\n", "STORED\r\n"},
      {"append b 0 0 70000\r\n" + block + "\r\n", "STORED\r\n"},
      {"set b x 0 3\r\nabc\r\n", "CLIENT_ERROR bad command line format\r\n"},
      {"ms b 70000\r\n" + block + "\r\n", "HD\r\n"},
      {"set b 0 0 2000000\r\n" + std::string(2'000'000, 'T') + "\r\n", "SERVER_ERROR object too large for cache\r\n"},
  };
  for (const auto& [request, reply] : cases) {
    RemoteServer remote;
    remote.other.Send(Set("b", "2"));
    ProtocolClient client(&remote.server);
    EXPECT_EQ(client.Send("get a\r\n" + request.substr(0, request.size() - 3)), "");
    EXPECT_TRUE(client.next == Next::kWait);
    EXPECT_EQ(remote.Await(&client), Hit("a", "1") + "END\r\n");
    EXPECT_EQ(client.Send(request.substr(request.size() - 3) + "mn\r\n"), reply + "MN\r\n");
  }
}

TEST(ProtocolRemote, AWriteWithAShortBlockIsExecutedOnceItIsWhole) {
  RemoteServer remote;
  ProtocolClient client(&remote.server);
  EXPECT_EQ(client.Send("get a\r\nset b 0 0 5\r\nhel"), "");
  EXPECT_TRUE(client.next == Next::kRead);
  EXPECT_FALSE(remote.Has("b"));
  EXPECT_EQ(client.Send("lo\r\nappend a 0 0 2\r\n4"), "");
  EXPECT_TRUE(remote.Has("b"));
  EXPECT_EQ(remote.Await(&client), Hit("a", "1") + "END\r\nSTORED\r\n");
  EXPECT_EQ(client.Send("2\r\nget a\r\n"), "STORED\r\n" + Hit("a", "142") + "END\r\n");
}

TEST(ProtocolRemote, QuietRequestsFillTheirSlotsWithNothing) {
  RemoteServer remote;
  ProtocolClient client(&remote.server);
  EXPECT_EQ(client.Send("mg none v q\r\nmg a v q\r\nincr n 1 noreply\r\nmd a q\r\nmg n v\r\nmn\r\n"), "");
  EXPECT_EQ(remote.Await(&client), "VA 1\r\n1\r\nVA 1\r\n8\r\nMN\r\n");
  EXPECT_FALSE(remote.Has("a"));

  RemoteServer binary;
  ProtocolClient packets(&binary.server);
  EXPECT_EQ(packets.Send(KeyPacket(0x09, "none") + KeyPacket(0x0d, "a") + CountPacket(0x15, "n", 1, 0, 0) +
                         StorePacket(0x11, "b", "2") + KeyPacket(0x00, "n") + Noop()),
            "");
  EXPECT_TRUE(packets.next == Next::kRead && packets.session()->waits());
  EXPECT_EQ(Told(binary.Await(&packets)), "0d:00=1 00:00=8 0a:00");
}

TEST(ProtocolRemote, TheEndOfAConnectionWaitsForItsSlots) {
  for (const std::string quit : {"quit\r\nget n\r\n", ""}) {
    RemoteServer remote;
    ProtocolClient client(&remote.server);
    EXPECT_EQ(client.Send("get a\r\nmn\r\nincr n 1\r\n" + quit), "");
    if (quit.empty()) EXPECT_EQ(client.End(), "");
    EXPECT_TRUE(client.next == Next::kWait && client.session()->waits());
    EXPECT_TRUE(remote.database.Serve());
    EXPECT_EQ(client.ContinueOnce(), Hit("a", "1") + "END\r\nMN\r\n8\r\n");
    EXPECT_TRUE(client.next == Next::kClose);
  }
  RemoteServer remote;
  ProtocolClient packets(&remote.server);
  EXPECT_EQ(packets.Send(KeyPacket(0x00, "a") + PacketOf(0x07, {}) + KeyPacket(0x00, "n")), "");
  EXPECT_TRUE(packets.next == Next::kWait);
  EXPECT_EQ(Told(remote.Await(&packets)), "00:00=1 07:00");
  EXPECT_TRUE(packets.next == Next::kClose);
}

TEST(ProtocolRemote, BinaryRequestsThatEndTheSessionOrAreAboutAllAreInOrder) {
  RemoteServer remote;
  ProtocolClient client(&remote.server);
  EXPECT_EQ(client.Send(KeyPacket(0x00, "a") + PacketOf(0x08, {}) + KeyPacket(0x00, "n")), "");
  EXPECT_TRUE(client.next == Next::kWait);
  EXPECT_EQ(Told(remote.Await(&client)), "00:00=1 08:00 00:00=7");
  RemoteServer foreign;
  ProtocolClient wrong(&foreign.server);
  EXPECT_EQ(wrong.Send(KeyPacket(0x00, "a") + KeyPacket(0x0a, "key")), "");
  EXPECT_TRUE(wrong.next == Next::kWait);
  EXPECT_EQ(Told(foreign.Await(&wrong)), "00:00=1 0a:04=Invalid arguments");
  EXPECT_TRUE(wrong.next == Next::kClose);
}

// ---- loads that end badly, or not at all ----

TEST(ProtocolRemote, ALoadThatFailsIsToldInItsPlace) {
  RemoteServer remote;
  ProtocolClient client(&remote.server);
  EXPECT_EQ(client.Send("get a\r\nget bad n\r\n" + Set("b", "2") + "incr bad 1\r\nget n\r\n"), "");
  EXPECT_EQ(remote.Await(&client), Hit("a", "1") + "END\r\n" + std::string(kLoadFailed) + "STORED\r\n" +
                                       std::string(kLoadFailed) + Hit("n", "7") + "END\r\n");
}

TEST(ProtocolRemote, AClientThatLeavesGivesAllItsLoadsBack) {
  RemoteServer remote;
  {
    ProtocolClient client(&remote.server);
    client.Send("get a\r\nget a n\r\nincr x 1\r\nget y z\r\n" + Set("b", "2") + "append a 0 0 1\r\n1\r\n");
    client.Disconnect();
  }
  EXPECT_TRUE(remote.Has("b"));
  EXPECT_TRUE(remote.database.Serve());
  EXPECT_EQ(remote.server.loads()->load_count(), 0u);
  // In the middle of a slot, too: the second key is loaded again.
  remote.Evict("a");
  remote.Evict("n");
  ProtocolClient client(&remote.server);
  EXPECT_EQ(client.Send("get a n\r\nmn\r\n"), "");
  EXPECT_TRUE(remote.database.Serve());
  remote.Evict("n");
  EXPECT_EQ(client.ContinueOnce(), Hit("a", "1"));
  EXPECT_EQ(remote.server.loads()->load_count(), 1u);
  client.Disconnect();
  EXPECT_TRUE(remote.database.Serve());
  EXPECT_EQ(remote.server.loads()->load_count(), 0u);
}

TEST(ProtocolRemote, AboveTheMostLoadsAConnectionWaitsForItsOwnBeforeItIsRefused) {
  LoadLimits limits;
  limits.loads_max = 2;
  RemoteServer remote(ProtocolServer::DefaultOptions(), WithBackend(), limits);
  remote.database.rows = {{"a", "1"}, {"b", "2"}, {"c", "3"}, {"d", "4"}};
  ProtocolClient client(&remote.server);
  EXPECT_EQ(client.Send("get a\r\nget b\r\nget c\r\nget d\r\n"), "");
  EXPECT_TRUE(client.next == Next::kWait);
  EXPECT_EQ(remote.Await(&client), Hit("a", "1") + "END\r\n" + Hit("b", "2") + "END\r\n" + Hit("c", "3") + "END\r\n" +
                                       Hit("d", "4") + "END\r\n");
}

// ---- bounds ----

TEST(ProtocolRemote, SlotsAreBoundedByTheirNumber) {
  RemoteServer remote;
  ProtocolClient client(&remote.server);
  std::string requests;
  std::string expected;
  for (size_t i = 0; i < kRemoteSlotsMax + 10; i++) {
    const std::string key = "k" + std::to_string(i);
    remote.database.rows[key] = "v";
    requests += "get " + key + "\r\n";
    expected += Hit(key, "v") + "END\r\n";
  }
  EXPECT_EQ(client.Send(requests), "");
  EXPECT_TRUE(client.next == Next::kWait);
  // The first of the group that stopped has begun the loads of the others in it.
  EXPECT_LE(remote.server.loads()->begun_count(), kRemoteSlotsMax + 10);
  EXPECT_EQ(remote.Await(&client), expected);
  EXPECT_TRUE(client.next == Next::kRead);
}

TEST(ProtocolRemote, RequestsInSlotsAreBoundedByTheirBytes) {
  RemoteServer remote;
  ProtocolClient client(&remote.server);
  const std::string block(60'000, 'x');
  EXPECT_EQ(client.Send("get a\r\n"), "");
  std::string expected = Hit("a", "1") + "END\r\n";
  size_t sent = 0;
  for (; client.next == Next::kRead; sent++) {
    EXPECT_EQ(client.Send("set a 0 0 60000\r\n" + block + "\r\n"), "");
    expected += "STORED\r\n";
  }
  EXPECT_TRUE(client.next == Next::kWait);
  EXPECT_LE((sent - 1) * block.size(), kOutputBytesHigh);
  EXPECT_GT((sent + 1) * block.size(), kOutputBytesHigh);
  EXPECT_EQ(remote.Await(&client), expected);
  EXPECT_TRUE(client.next == Next::kRead);
}

TEST(ProtocolRemote, RepliesBehindASlotAreBoundedByTheirBytes) {
  RemoteServer remote;
  const std::string value(10'000, 'v');
  remote.other.Send(Set("b", value));
  ProtocolClient client(&remote.server);
  EXPECT_EQ(client.Send("get a\r\n"), "");
  std::string expected = Hit("a", "1") + "END\r\n";
  size_t sent = 0;
  for (; client.next == Next::kRead && sent < 1000; sent++) {
    EXPECT_EQ(client.Send("get b\r\n"), "");
    expected += Hit("b", value) + "END\r\n";
  }
  EXPECT_TRUE(client.next == Next::kWait);
  // A get is executed before it is seen that its reply was the last.
  EXPECT_LE((sent - 2) * value.size(), kOutputBytesHigh);
  EXPECT_EQ(client.ContinueOnce(), "");
  EXPECT_TRUE(client.next == Next::kWait);
  EXPECT_EQ(remote.Await(&client), expected);
  EXPECT_TRUE(client.next == Next::kRead);
}

TEST(ProtocolRemote, WhatHasLeftCountsForNoBound) {
  RemoteServer remote;
  const std::string value(10'000, 'v');
  remote.other.Send(Set("b", value));
  ProtocolClient client(&remote.server);
  // A slot waits at any time, and twice as much as there is room for passes through.
  EXPECT_EQ(client.Send("get k0\r\n"), "");
  for (size_t i = 1; i * value.size() < 2 * kOutputBytesHigh; i++) {
    EXPECT_EQ(client.Send("get b\r\n"), "");
    EXPECT_TRUE(remote.database.Serve());
    EXPECT_EQ(client.Send("get k" + std::to_string(i) + "\r\n") + client.ContinueOnce(),
              "END\r\n" + Hit("b", value) + "END\r\n");
    EXPECT_TRUE(client.session()->waits() && client.next == Next::kRead) << i;
  }
  EXPECT_EQ(remote.Await(&client), "END\r\n");
}

// A client that does not take its replies stops the filling of slots, too.
TEST(ProtocolRemote, SlotsAreFilledOnlyWhileRepliesLeave) {
  RemoteServer remote;
  const std::string value(100'000, 'v');
  ProtocolClient client(&remote.server);
  std::string expected;
  for (int i = 0; i < 30; i++) {
    const std::string key = "k" + std::to_string(i);
    remote.database.rows[key] = value;
    EXPECT_EQ(client.Send("get " + key + "\r\n"), "");
    expected += Hit(key, value) + "END\r\n";
  }
  EXPECT_TRUE(remote.database.Serve());
  std::string replies = client.ContinueOnce();
  EXPECT_TRUE(client.next == Next::kFlush);
  EXPECT_LE(replies.size(), kOutputBytesHigh + 2 * value.size());
  client.backlog = kOutputBytesHigh;
  EXPECT_EQ(client.ContinueOnce(), "");
  EXPECT_EQ(client.FeedOnce("mn\r\n"), "");
  EXPECT_TRUE(client.next == Next::kFlush);
  client.backlog = 0;
  while (client.goes_on()) replies += client.ContinueOnce();
  EXPECT_EQ(replies, expected + "MN\r\n");
  EXPECT_TRUE(client.next == Next::kRead);
}

// ---- together with the log, and with slowdowns ----

struct LoggedRemote {
  explicit LoggedRemote(Ack ack = Ack::kLogged) : log(1), at(Options(&log, ack), StoreWithRing()), client(&at.server) {}

  static Service::Options Options(TestLog* log, Ack ack) {
    Service::Options options = ProtocolServer::DefaultOptions();
    options.log = log;
    options.ack = ack;
    return options;
  }
  static StoreOptions StoreWithRing() {
    StoreOptions options = ProtocolServer::LoggedStore(1);
    options.has_backend = true;
    return options;
  }
  std::string Commit() {
    log.Commit(at.server.store());
    return client.ContinueOnce();
  }

  TestLog log;
  RemoteServer at;
  ProtocolClient client;
};

TEST(ProtocolRemote, RepliesBeforeInAndBehindSlotsAreHeldForTheLog) {
  LoggedRemote logged;
  ProtocolClient& client = logged.client;
  // Held, remote, held behind it, remote, ready behind it.
  EXPECT_EQ(client.Send(Set("x", "1") + "incr n 1\r\n" + Set("y", "2") + "get a\r\nmn\r\n"), "");
  EXPECT_TRUE(logged.log.rings > 0);
  EXPECT_EQ(logged.Commit(), "STORED\r\n");
  EXPECT_TRUE(client.next == Next::kRead && client.session()->waits());
  EXPECT_TRUE(logged.at.database.Serve());
  // The new number is not in the log yet; what stands behind it is.
  EXPECT_EQ(client.ContinueOnce(), "");
  EXPECT_EQ(logged.Commit(), "8\r\nSTORED\r\n" + Hit("a", "1") + "END\r\nMN\r\n");
  EXPECT_FALSE(client.session()->waits());
}

TEST(ProtocolRemote, RepliesHeldBehindASlotLeaveWithItIfTheyWereCommittedMeanwhile) {
  LoggedRemote logged;
  EXPECT_EQ(logged.client.Send("get bad\r\n" + Set("x", "1") + "get bad2\r\n" + Set("y", "2") + "mn\r\n"), "");
  EXPECT_EQ(logged.Commit(), "");
  EXPECT_TRUE(logged.at.database.Serve());
  EXPECT_EQ(logged.client.ContinueOnce(),
            std::string(kLoadFailed) + "STORED\r\n" + std::string(kLoadFailed) + "STORED\r\nMN\r\n");
  EXPECT_FALSE(logged.client.session()->waits());
}

TEST(ProtocolRemote, AReplyHeldForTheBackendBehindASlotMayBecomeAnError) {
  LoggedRemote logged(Ack::kStored);
  ProtocolClient& client = logged.client;
  EXPECT_EQ(client.Send(Set("x", "1") + "get a\r\n" + Set("y", "2") + "incr y 1\r\nmn\r\n"), "");
  EXPECT_TRUE(logged.at.database.Serve());
  EXPECT_EQ(client.ContinueOnce(), "");
  logged.log.Commit(logged.at.server.store());
  EXPECT_EQ(client.ContinueOnce(), "");
  StoredChanges* const stored = logged.at.server.store()->stored();
  stored->SetHealth(0, 1, StoredChanges::Health::kStopped);
  EXPECT_EQ(client.ContinueOnce(), "SERVER_ERROR the change is made, and may not reach the database\r\n" +
                                       Hit("a", "1") +
                                       "END\r\nSERVER_ERROR the change is made, and may not reach the database\r\n"
                                       "SERVER_ERROR the change is made, and may not reach the database\r\nMN\r\n");
}

TEST(ProtocolRemote, ARemoteRequestThatFindsNoRoomParksTheConnection) {
  LoggedRemote logged(Ack::kMemory);
  ProtocolClient& client = logged.client;
  EXPECT_EQ(client.Send("incr n 1\r\nget a\r\nmn\r\n"), "");
  EXPECT_TRUE(logged.at.database.Serve());
  FillRing(&logged.at.server);
  EXPECT_EQ(client.ContinueOnce(), "");
  EXPECT_TRUE(client.next == Next::kWait && client.session()->waits());
  // Nothing else is executed.
  EXPECT_EQ(client.Send("mn\r\n"), "");
  EXPECT_TRUE(client.next == Next::kWait);
  EXPECT_EQ(logged.Commit(), "8\r\n" + Hit("a", "1") + "END\r\nMN\r\nMN\r\n");
  EXPECT_TRUE(client.next == Next::kRead);
  // A full log refuses it.
  logged.at.Evict("a");
  EXPECT_EQ(client.Send("incr a 1\r\nmn\r\n"), "");
  EXPECT_TRUE(logged.at.database.Serve());
  FillRing(&logged.at.server);
  logged.log.SetHealth(LogView::Health::kFull);
  EXPECT_EQ(client.ContinueOnce(), "SERVER_ERROR the log is full\r\nMN\r\n");
}

TEST(ProtocolRemote, ALogThatFailsEndsTheSessionAndItsLoads) {
  LoggedRemote logged;
  EXPECT_EQ(logged.client.Send(Set("x", "1") + "get a\r\n" + Set("y", "2") + "get n\r\n"), "");
  logged.log.SetHealth(LogView::Health::kFailed);
  EXPECT_EQ(logged.client.ContinueOnce(), "");
  EXPECT_TRUE(logged.client.next == Next::kClose);
  EXPECT_TRUE(logged.at.database.Serve());
  EXPECT_EQ(logged.at.server.loads()->load_count(), 0u);
  // What is held behind a slot cannot be told either.
  LoggedRemote behind;
  EXPECT_EQ(behind.client.Send("get a\r\n" + Set("y", "2") + "get n\r\n"), "");
  behind.log.SetHealth(LogView::Health::kFailed);
  EXPECT_EQ(behind.client.ContinueOnce(), "");
  EXPECT_TRUE(behind.at.database.Serve());
  EXPECT_EQ(behind.client.ContinueOnce(), "SERVER_ERROR the log cannot be written\r\n");
  EXPECT_TRUE(behind.client.next == Next::kClose);
  EXPECT_EQ(behind.at.server.loads()->load_count(), 0u);
}

TEST(ProtocolRemote, ASlowedRequestWaitsOnceAlsoInASlot) {
  LoggedRemote logged(Ack::kMemory);
  ProtocolClient& client = logged.client;
  Slowdown* const slowdown = logged.at.server.store()->stored()->slowdown();
  slowdown->Set(40);
  EXPECT_EQ(client.Send("incr n 1\r\nincr n 1\r\nget a\r\n"), "");
  EXPECT_EQ(client.session()->continue_in_ms(), 40u);
  logged.at.server.Pass(40);
  // The first has waited, and gets a slot; the second waits when it is executed.
  EXPECT_EQ(client.ContinueOnce(), "");
  EXPECT_EQ(client.session()->continue_in_ms(), 0u);
  EXPECT_TRUE(client.next == Next::kRead);
  EXPECT_TRUE(logged.at.database.Serve());
  EXPECT_EQ(client.ContinueOnce(), "8\r\n");
  EXPECT_EQ(client.session()->continue_in_ms(), 40u);
  EXPECT_TRUE(client.next == Next::kWait);
  EXPECT_EQ(client.ContinueOnce(), "");
  logged.at.server.Pass(40);
  EXPECT_EQ(client.ContinueOnce(), "9\r\n" + Hit("a", "1") + "END\r\n");
  EXPECT_EQ(slowdown->changes(), 2u);
}

// ---- many requests, in any order of loads, and cut anywhere ----

// Of one seed.
class Dice {
 public:
  explicit Dice(uint64_t seed) : state_(seed | 1) {}
  uint64_t operator()(uint64_t below) {
    state_ ^= state_ << 13;
    state_ ^= state_ >> 7;
    state_ ^= state_ << 17;
    return (state_ >> 8) % below;
  }

 private:
  uint64_t state_;
};

// Keys of rows that are only read, and leave memory at times; of rows that are changed; and of no rows. (Rows do not
// change here: a changed or deleted one must not be loaded again.)
constexpr uint64_t kReadRows = 5;
std::string ReadKey(Dice* dice) { return "r" + std::to_string((*dice)(kReadRows)); }
std::string RowKey(Dice* dice) { return "w" + std::to_string((*dice)(2)); }
std::string FreeKey(Dice* dice) { return "f" + std::to_string((*dice)(3)); }
std::string ChangedKey(Dice* dice) { return (*dice)(2) == 0 ? RowKey(dice) : FreeKey(dice); }
std::string AnyKey(Dice* dice) { return (*dice)(2) == 0 ? ReadKey(dice) : ChangedKey(dice); }

std::string BlockOf(std::string_view line, const std::string& value) {
  return std::string(line) + "\r\n" + value + "\r\n";
}

std::string TextRequestOf(Dice* dice, bool has_large) {
  const std::string quiet = (*dice)(4) == 0 ? " noreply" : "";
  const std::string digits = std::to_string((*dice)(1000));
  const std::string size = std::to_string(digits.size());
  switch ((*dice)(has_large ? 17 : 16)) {
    case 0:
      return "get " + AnyKey(dice) + " " + AnyKey(dice) + " " + AnyKey(dice) + "\r\n";
    case 1:
      return "gat 0 " + AnyKey(dice) + " " + ReadKey(dice) + "\r\n";
    case 2:
      return BlockOf("set " + ChangedKey(dice) + " 0 0 " + size + quiet, digits);
    case 3:
      return BlockOf("add " + AnyKey(dice) + " 0 0 " + size + quiet, digits);
    case 4:
      return BlockOf("append " + ChangedKey(dice) + " 0 0 1" + quiet, "5");
    case 5:
      return "incr " + ChangedKey(dice) + " 3" + quiet + "\r\n";
    case 6:
      return "touch " + AnyKey(dice) + " 0" + quiet + "\r\n";
    case 7:
      // Its reply tells whether the entry was in memory.
      return "delete " + FreeKey(dice) + " noreply\r\n";
    case 8:
      return "mg " + AnyKey(dice) + " v k" + (quiet.empty() ? "" : " q") + "\r\n";
    case 9:
      return BlockOf("ms " + ChangedKey(dice) + " " + size + (quiet.empty() ? "" : " q"), digits);
    case 10:
      return "ma " + ChangedKey(dice) + " v N0 J7\r\n";
    case 11:
      return "mg " + ReadKey(dice) + " v O7\r\n";
    case 12:
      return "mn\r\n";
    case 13:
      return (*dice)(2) == 0 ? "version\r\n" : "set x y z\r\n";
    case 14:
      return "get bad " + ReadKey(dice) + "\r\n";
    case 15:
      return "get " + ReadKey(dice) + "\r\n";
    default:
      return BlockOf("replace " + ChangedKey(dice) + " 0 0 70000" + quiet, std::string(70'000, '1'));
  }
}

std::string BinaryRequestOf(Dice* dice, bool has_large) {
  const std::string digits = std::to_string((*dice)(1000));
  const uint8_t quiet = (*dice)(2) == 0 ? 0x10 : 0;
  switch ((*dice)(has_large ? 9 : 8)) {
    case 0:
      return KeyPacket(0x00, AnyKey(dice));
    case 1:
      return KeyPacket(0x0d, AnyKey(dice));
    case 2:
      return StorePacket(static_cast<uint8_t>(0x01 + quiet), ChangedKey(dice), digits);
    case 3:
      return StorePacket(static_cast<uint8_t>(0x02 + quiet), AnyKey(dice), digits);
    case 4:
      return PacketOf(quiet == 0 ? 0x0e : 0x19, {.key = ChangedKey(dice), .value = "5"});
    case 5:
      return CountPacket(static_cast<uint8_t>(0x05 + quiet), ChangedKey(dice), 3, 50, 0);
    case 6:
      return TouchPacket(0x1c, AnyKey(dice), 0);
    case 7:
      return Noop();
    default:
      return StorePacket(static_cast<uint8_t>(0x03 + quiet), ChangedKey(dice), std::string(70'000, '1'));
  }
}

// Replies without the versions of entries, which differ between servers.
std::string Readable(std::string replies, bool is_binary) { return is_binary ? Told(replies) : replies; }

// One client, whose stream is cut anywhere, a database that answers now and then, values that leave memory, and, with a
// log, commits now and then. The replies are those of a server that had all values in memory: each key's requests were
// executed in their order, and all replies left in order.
TEST(ProtocolRemote, RandomStreamsAnswerAsIfAllValuesHadBeenInMemory) {
  Dice dice(test::Seed());
  for (int round = 0; round < 160; round++) {
    const bool is_binary = round % 2 == 1;
    const bool is_logged = round % 4 >= 2;
    LoggedRemote logged;
    RemoteServer plain_remote;
    RemoteServer& remote = is_logged ? logged.at : plain_remote;
    ProtocolClient client(&remote.server);
    ProtocolServer reference_server;
    ProtocolClient reference(&reference_server);
    const auto add_row = [&](const std::string& key) {
      remote.database.rows[key] = std::to_string(dice(100));
      reference.Send(Set(key, remote.database.rows[key]));
    };
    for (uint64_t i = 0; i < kReadRows; i++) add_row("r" + std::to_string(i));
    for (int i = 0; i < 2; i++) add_row("w" + std::to_string(i));
    std::string stream;
    for (uint64_t i = 20 + dice(60); i != 0; i--) {
      stream += is_binary ? BinaryRequestOf(&dice, !is_logged) : TextRequestOf(&dice, !is_logged);
    }
    // A load that fails has no counterpart: there the reference is told the line.
    std::string expected;
    if (is_binary) {
      ProtocolClient packets(&reference_server);
      expected = packets.Send(stream);
    } else {
      for (size_t at = 0; at < stream.size();) {
        const size_t bad = std::min(stream.find("get bad ", at), stream.size());
        expected += reference.Send(std::string_view(stream).substr(at, bad - at));
        if (bad == stream.size()) break;
        expected += kLoadFailed;
        at = stream.find('\n', bad) + 1;
      }
    }
    std::string replies;
    size_t sent = 0;
    uint32_t evictions[kReadRows] = {};  // few enough for no request to be refused
    const auto may_send = [&] { return sent != stream.size() && client.next == Next::kRead; };
    while (sent != stream.size() || client.session()->waits() || client.goes_on()) {
      if (client.goes_on()) replies += client.ContinueOnce();
      if (may_send()) {
        const size_t piece = std::min<size_t>(stream.size() - sent, 1 + dice(dice(3) == 0 ? 100'000 : 60));
        replies += client.FeedOnce(std::string_view(stream).substr(sent, piece));
        sent += piece;
      }
      if (dice(may_send() ? 6 : 2) == 0) remote.database.Serve();
      if (is_logged && dice(3) == 0) logged.log.Commit(remote.server.store());
      const uint64_t row = dice(4 * kReadRows);
      if (row < kReadRows && evictions[row]++ < kLoadTriesMax - 1) remote.Evict("r" + std::to_string(row));
      if (dice(2) == 0) replies += client.ContinueOnce();
    }
    replies = Readable(replies, is_binary);
    expected = Readable(expected, is_binary);
    size_t same = 0;
    while (same < std::min(replies.size(), expected.size()) && replies[same] == expected[same]) same++;
    ASSERT_EQ(replies.substr(same), expected.substr(same)) << "round " << round << ", byte " << same;
    EXPECT_EQ(remote.server.loads()->load_count(), 0u);
    remote.server.store()->Verify();
  }
}

TEST(ProtocolRemote, TheAnswersAreTheSameHoweverAStreamIsCut) {
  const std::string text =
      "get a\r\nset b 0 0 1\r\nB\r\nmg n v\r\nappend a 0 0 2\r\nxy\r\nget b a n none\r\nms a 3\r\nnew\r\nget bad a\r\n"
      "incr n 1 noreply\r\nmn\r\nma n v\r\nset b 0 0 2\r\nBB\r\nverbosity 1\r\nget b\r\nmd none q\r\ngat 0 n "
      "a\r\nmn\r\n";
  const std::string packets = KeyPacket(0x00, "a") + StorePacket(0x11, "b", "B") + KeyPacket(0x0d, "n") +
                              PacketOf(0x0e, {.key = "a", .value = "xy"}) + KeyPacket(0x09, "none") +
                              CountPacket(0x05, "n", 1, 0, 0) + KeyPacket(0x00, "bad") + KeyPacket(0x00, "b") +
                              TouchPacket(0x1d, "a", 0) + Noop();
  for (const std::string& stream : {text, packets}) {
    const bool is_binary = stream == packets;
    std::string expected;
    for (size_t cut = 0; cut < stream.size(); cut++) {
      for (const bool serves_between : {true, false}) {
        RemoteServer remote;
        ProtocolClient client(&remote.server);
        std::string replies = client.Send(stream.substr(0, cut));
        if (serves_between) replies += remote.Await(&client);
        replies += client.Send(stream.substr(cut));
        replies = Readable(replies + remote.Await(&client), is_binary);
        if (expected.empty()) expected = replies;
        ASSERT_EQ(replies, expected) << "cut at " << cut;
      }
    }
    RemoteServer remote;
    ProtocolClient client(&remote.server);
    std::string replies;
    for (const char byte : stream) replies += client.Send({&byte, 1});
    EXPECT_EQ(Readable(replies + remote.Await(&client), is_binary), expected);
    if (is_binary) {
      EXPECT_EQ(expected, "00:00=1 0d:00=7 0e:00 05:00=8 00:86=the value could not be loaded 00:00=B 1d:00=1xy 0a:00");
    } else {
      EXPECT_EQ(expected, Hit("a", "1") + "END\r\nSTORED\r\nVA 1\r\n7\r\nSTORED\r\n" + Hit("b", "B") + Hit("a", "1xy") +
                              Hit("n", "7") + "END\r\nHD\r\n" + std::string(kLoadFailed) +
                              "MN\r\nVA 1\r\n9\r\nSTORED\r\nOK\r\n" + Hit("b", "BB") + "END\r\n" + "NF\r\n" +
                              Hit("n", "9") + Hit("a", "new") + "END\r\nMN\r\n");
    }
  }
}

}  // namespace
}  // namespace cairn
