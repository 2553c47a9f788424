// Sessions over a store with a database behind it: which requests wait for a load, what they answer when it has ended,
// and what becomes of loads that fail, of values that leave memory again, and of clients that leave. Store and load
// table are real; a map is the database. The answers are compared with those of a server whose memory had the values
// all the time.

#include <functional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "protocol/limits.h"
#include "protocol/session.h"
#include "support/protocol_client.h"
#include "test.h"

namespace cairn {
namespace {

using test::Hit;
using test::kLoadFailed;
using test::ProtocolClient;
using test::ProtocolServer;
using test::Set;
using test::TestDatabase;
using test::TestLog;
using Next = Session::Next;

constexpr std::string_view kTooMany = "SERVER_ERROR too many values are being loaded\r\n";
constexpr std::string_view kNotResident = "SERVER_ERROR the value is not in memory\r\n";

// A line and its block.
std::string Storage(std::string_view line, std::string_view value) {
  return std::string(line) + "\r\n" + std::string(value) + "\r\n";
}

StoreOptions WithBackend() {
  StoreOptions options = ProtocolServer::SmallStore();
  options.has_backend = true;
  return options;
}

struct LoadingServer {
  explicit LoadingServer(LoadLimits limits = {})
      : server(ProtocolServer::DefaultOptions(), WithBackend(), limits), database(&server) {}

  // What a client is told that sends these bytes and waits.
  std::string Ask(ProtocolClient* client, std::string_view bytes) { return Await(client, client->Send(bytes)); }
  std::string Await(ProtocolClient* client, std::string reply = {}) {
    for (bool is_served = true; is_served && client->session()->waits();) {
      is_served = database.Serve();
      do reply += client->ContinueOnce();
      while (client->goes_on());
    }
    return reply;
  }
  void Evict(std::string_view key) {
    Request request;
    request.verb = Verb::kEvict;
    request.key = key;
    Outcome outcome;
    server.store()->Execute(request, server.now, nullptr, &outcome);
  }
  std::string Stat(std::string_view name) {
    ProtocolClient client(&server);
    const std::string stats = client.Send("stats\r\n");
    const std::string begin = "STAT " + std::string(name) + " ";
    const size_t at = stats.find(begin);
    return at == std::string::npos ? "" : stats.substr(at + begin.size(), stats.find("\r\n", at) - at - begin.size());
  }

  ProtocolServer server;
  TestDatabase database;
};

const std::string kLarge(100'000, 'L');

const std::vector<std::string>& Requests() {
  static const std::vector<std::string> requests = {
      "get n\r\n",
      "gat 100 n\r\n",
      "get n n n\r\n",
      "add n 0 0 1\r\n1\r\n",
      "replace n 0 0 1\r\n5\r\n",
      "append n 0 0 1\r\n5\r\n",
      "prepend n 0 0 1\r\n5\r\n",
      "append n 0 0 1048516\r\n" + std::string(1048516, 'y') + "\r\n",
      "cas n 0 0 1 12345\r\n1\r\n",
      "incr n 3\r\n",
      "decr n 3\r\n",
      "touch n 100\r\n",
      Set("n", "8"),
      Set("n", kLarge),
      Storage("add n 0 0 100000", kLarge),
      Storage("replace n 0 0 100000", kLarge),
      Storage("cas n 0 0 100000 12345", kLarge),
      "replace n 0 0 1 noreply\r\n5\r\n",
      "append n 0 0 1 noreply\r\n5\r\n",
      "incr n 3 noreply\r\n",
      "touch n 100 noreply\r\n",
      Storage("replace n 0 0 100000 noreply", kLarge),
  };
  return requests;
}

TEST(ProtocolLoads, ARequestAnswersAsIfTheValueHadBeenInMemory) {
  for (const std::string& request : Requests()) {
    for (const bool has_row : {true, false}) {
      LoadingServer loading;
      ProtocolServer plain;
      ProtocolClient client(&loading.server);
      ProtocolClient reference(&plain);
      if (has_row) {
        loading.database.rows["n"] = "7";
        reference.Send(Set("n", "7"));
      }
      const std::string all = "mn\r\n" + request + "mn\r\nget n\r\nget other n\r\n";
      EXPECT_EQ(loading.Ask(&client, all), reference.Send(all)) << request.substr(0, 30) << has_row;
      EXPECT_TRUE(client.next == Next::kRead) << request.substr(0, 30);
      EXPECT_EQ(loading.server.loads()->load_count(), 0u);
    }
  }
}

TEST(ProtocolLoads, TheAnswersAreTheSameHoweverThePipelineIsCut) {
  const std::string pipeline =
      "get a\r\nset b 0 0 1\r\nB\r\nget a b c d\r\nappend c 0 0 2\r\nxy\r\nincr n 1\r\nget bad1 a\r\nget n\r\n"
      "add d 0 0 1 noreply\r\nD\r\nget c d\r\ngat 0 e a\r\ntouch e 0\r\ncas a 0 0 1 9\r\nz\r\nmn\r\n";
  const auto fill = [](TestDatabase* database) {
    database->rows = {{"a", "one"}, {"b", "two"}, {"c", "three"}, {"n", "41"}, {"e", ""}};
  };
  std::string expected;
  {
    LoadingServer loading;
    fill(&loading.database);
    ProtocolClient client(&loading.server);
    expected = loading.Ask(&client, pipeline);
    EXPECT_EQ(expected, Hit("a", "one") + "END\r\nSTORED\r\n" + Hit("a", "one") + Hit("b", "B") + Hit("c", "three") +
                            "END\r\nSTORED\r\n42\r\n" + std::string(kLoadFailed) + Hit("n", "42") + "END\r\n" +
                            Hit("c", "threexy") + Hit("d", "D") + "END\r\n" + Hit("e", "") + Hit("a", "one") +
                            "END\r\nTOUCHED\r\nEXISTS\r\nMN\r\n");
  }
  for (size_t cut = 1; cut < pipeline.size(); cut++) {
    for (const bool serves_between : {true, false}) {
      LoadingServer loading;
      fill(&loading.database);
      ProtocolClient client(&loading.server);
      std::string reply = client.Send(pipeline.substr(0, cut));
      if (serves_between) reply = loading.Await(&client, reply);
      reply += loading.Ask(&client, pipeline.substr(cut));
      ASSERT_EQ(reply, expected) << cut;
    }
  }
  LoadingServer loading;
  fill(&loading.database);
  ProtocolClient client(&loading.server);
  std::string reply;
  for (const char byte : pipeline) reply += loading.Ask(&client, {&byte, 1});
  EXPECT_EQ(reply, expected);
}

TEST(ProtocolLoads, OnlyTheConnectionThatAsksWaitsAndKeepsItsOrder) {
  LoadingServer loading;
  loading.database.rows["a"] = "1";
  ProtocolClient waiting(&loading.server);
  ProtocolClient other(&loading.server);
  EXPECT_EQ(waiting.Send("mn\r\nget a\r\n" + Set("b", "2") + "get b\r\n"), "MN\r\n");
  EXPECT_TRUE(waiting.next == Next::kRead && waiting.session()->waits());
  EXPECT_EQ(other.Send(Set("c", "3") + "get c\r\n"), "STORED\r\n" + Hit("c", "3") + "END\r\n");
  // A wake-up for another's load finds its own still under way.
  EXPECT_EQ(waiting.ContinueOnce(), "");
  EXPECT_TRUE(waiting.session()->waits());
  EXPECT_EQ(loading.server.loads()->begun_count(), 1u);
  // A second connection joins the load.
  EXPECT_EQ(other.Send("get a\r\n"), "");
  EXPECT_EQ(loading.server.loads()->joined_count(), 1u);
  EXPECT_TRUE(loading.database.Serve());
  EXPECT_EQ(waiting.ContinueOnce(), Hit("a", "1") + "END\r\nSTORED\r\n" + Hit("b", "2") + "END\r\n");
  EXPECT_EQ(other.ContinueOnce(), Hit("a", "1") + "END\r\n");
  EXPECT_FALSE(waiting.session()->waits() || other.session()->waits());
  EXPECT_EQ(loading.database.round_trips, 1);
}

TEST(ProtocolLoads, AGetOfManyKeysCostsOneRoundTrip) {
  for (const size_t count : {2, 63, 64, 65, 300, 1000}) {
    LoadingServer loading;
    ProtocolClient client(&loading.server);
    std::string request = "get";
    std::string expected;
    for (size_t i = 0; i < count; i++) {
      const std::string key = "key" + std::to_string(i);
      request += " " + key;
      const std::string value = "value" + std::to_string(i);
      expected += Hit(key, value);
      if (i % 3 == 0) {
        client.Send(Set(key, value));
      } else {
        loading.database.rows[key] = value;
      }
    }
    EXPECT_EQ(loading.Ask(&client, request + "\r\n"), expected + "END\r\n") << count;
    EXPECT_EQ(loading.database.round_trips, 1) << count;
  }
}

TEST(ProtocolLoads, ConsecutiveGetsShareTheRoundTripToo) {
  LoadingServer loading;
  loading.database.rows = {{"a", "1"}, {"b", "2"}, {"c", "3"}};
  ProtocolClient client(&loading.server);
  EXPECT_EQ(loading.Ask(&client, "get a\r\nget x b\r\ngat 0 c\r\n"),
            Hit("a", "1") + "END\r\n" + Hit("b", "2") + "END\r\n" + Hit("c", "3") + "END\r\n");
  EXPECT_EQ(loading.database.round_trips, 1);
}

TEST(ProtocolLoads, ALoadThatFailsRefusesItsRequestOnly) {
  for (const std::string& request : Requests()) {
    // A longer key would make the item too large.
    if (request.starts_with("set") || request.size() > 1'000'000) continue;
    LoadingServer loading;
    ProtocolClient client(&loading.server);
    std::string bad = request;
    for (size_t at = bad.find(" n"); at != std::string::npos && at < 20; at = bad.find(" n", at + 1)) {
      if (bad[at + 2] == ' ' || bad[at + 2] == '\r') bad.replace(at, 2, " bad");
    }
    const std::string line = bad.substr(0, bad.find("\r\n"));
    const bool is_quiet = line.ends_with("noreply");
    EXPECT_EQ(loading.Ask(&client, bad + "mn\r\n"), std::string(is_quiet ? "" : kLoadFailed) + "MN\r\n") << line;
    EXPECT_TRUE(client.next == Next::kRead);
    // The next request tries again.
    EXPECT_EQ(client.Send("get bad\r\n"), "") << line;
    EXPECT_EQ(loading.Await(&client), kLoadFailed);
    EXPECT_EQ(loading.server.loads()->load_count(), 0u);
  }
  LoadingServer loading;
  loading.database.rows = {{"a", "1"}, {"c", "3"}};
  ProtocolClient client(&loading.server);
  EXPECT_EQ(loading.Ask(&client, "get a bad c\r\nget c\r\n"),
            Hit("a", "1") + std::string(kLoadFailed) + Hit("c", "3") + "END\r\n");
  EXPECT_EQ(loading.Ask(&client, "gat 0 bad a\r\n"), kLoadFailed);
  EXPECT_EQ(loading.Stat("get_misses"), "0");
}

TEST(ProtocolLoads, AboveTheMostLoadsARequestIsRefused) {
  LoadLimits limits;
  limits.loads_max = 2;
  LoadingServer loading(limits);
  loading.database.rows = {{"a", "1"}, {"b", "2"}, {"c", "3"}};
  ProtocolClient first(&loading.server);
  ProtocolClient second(&loading.server);
  EXPECT_EQ(first.Send("get a b c\r\n"), "");
  EXPECT_EQ(second.Send("get c\r\nadd c 0 0 1\r\n1\r\nmn\r\n"),
            std::string(kTooMany) + std::string(kTooMany) + "MN\r\n");
  EXPECT_EQ(second.Send(Storage("add c 0 0 100000", kLarge) + "mn\r\n"), std::string(kTooMany) + "MN\r\n");
  EXPECT_EQ(loading.Await(&first), Hit("a", "1") + Hit("b", "2") + Hit("c", "3") + "END\r\n");
  EXPECT_EQ(loading.Ask(&second, "get c\r\n"), Hit("c", "3") + "END\r\n");
}

TEST(ProtocolLoads, AValueThatLeavesMemoryAgainIsLoadedAgainUpToABound) {
  LoadingServer loading;
  loading.database.rows = {{"a", "1"}, {"b", "2"}};
  for (const std::string request : {"get a b\r\n", "incr a 1\r\n"}) {
    const uint64_t begun = loading.server.loads()->begun_count();
    ProtocolClient client(&loading.server);
    EXPECT_EQ(client.Send(request + "mn\r\n"), "");
    for (uint32_t tries = 1; tries <= kLoadTriesMax; tries++) {
      EXPECT_TRUE(loading.database.Serve());
      loading.Evict("a");
      EXPECT_EQ(client.ContinueOnce(), tries < kLoadTriesMax ? "" : std::string(kNotResident) + "MN\r\n") << tries;
    }
    EXPECT_TRUE(client.next == Next::kRead);
    EXPECT_LE(loading.server.loads()->begun_count() - begun, kLoadTriesMax + 1u);
    // Counted anew for the next request.
    EXPECT_EQ(client.Send("get a\r\n"), "");
    EXPECT_TRUE(loading.database.Serve());
    loading.Evict("a");
    EXPECT_EQ(loading.Await(&client, client.ContinueOnce()), Hit("a", "1") + "END\r\n");
    loading.Evict("a");
    loading.Evict("b");
  }
  EXPECT_EQ(loading.server.loads()->load_count(), 0u);
}

TEST(ProtocolLoads, ValuesThatWereFoundAndHaveLeftAreLoadedWithTheOthers) {
  LoadingServer loading;
  loading.database.rows = {{"a", "1"}, {"b", "2"}, {"c", "3"}};
  ProtocolClient client(&loading.server);
  EXPECT_EQ(loading.Ask(&client, "get a c\r\n"), Hit("a", "1") + Hit("c", "3") + "END\r\n");
  EXPECT_EQ(client.Send("get a b c\r\n"), Hit("a", "1"));
  loading.Evict("a");
  loading.Evict("c");
  EXPECT_EQ(loading.Await(&client), Hit("b", "2") + Hit("c", "3") + "END\r\n");
}

TEST(ProtocolLoads, AWriteWhileItWaitsIsAnswered) {
  LoadingServer loading;
  loading.database.rows["n"] = "1";
  ProtocolClient waiting(&loading.server);
  ProtocolClient writer(&loading.server);
  EXPECT_EQ(waiting.Send("get n\r\nincr n 1\r\n"), "");
  EXPECT_EQ(writer.Send(Set("n", "50")), "STORED\r\n");
  EXPECT_EQ(loading.Await(&waiting), Hit("n", "50") + "END\r\n51\r\n");
}

TEST(ProtocolLoads, AClientThatLeavesGivesItsLoadBack) {
  for (const std::string& request : Requests()) {
    if (request.starts_with("set")) continue;
    LoadingServer loading;
    loading.database.rows["n"] = "7";
    const uint64_t before = loading.server.store()->Stats().charged_bytes;
    {
      ProtocolClient client(&loading.server);
      client.Send(request);
      EXPECT_TRUE(client.session()->waits()) << request.substr(0, 30);
      client.Disconnect();
    }
    EXPECT_EQ(loading.server.store()->Stats().charged_bytes, before) << request.substr(0, 30);
    EXPECT_EQ(loading.server.loads()->load_count(), 1u);
    EXPECT_TRUE(loading.database.Serve());
    EXPECT_EQ(loading.server.loads()->load_count(), 0u);
    // Between the end of the load and the wake-up, too.
    loading.Evict("n");
    {
      ProtocolClient client(&loading.server);
      client.Send(request);
      EXPECT_TRUE(loading.database.Serve());
    }
    EXPECT_EQ(loading.server.loads()->load_count(), 0u);
    loading.server.store()->Verify();
  }
}

TEST(ProtocolLoads, AClientThatHasEndedItsSideGetsItsAnswer) {
  LoadingServer loading;
  loading.database.rows["a"] = "1";
  ProtocolClient client(&loading.server);
  EXPECT_EQ(client.Send("get a\r\nmn\r\n"), "");
  EXPECT_EQ(client.End(), "");
  EXPECT_TRUE(client.next == Next::kWait);
  EXPECT_TRUE(loading.database.Serve());
  EXPECT_EQ(client.ContinueOnce(), Hit("a", "1") + "END\r\nMN\r\n");
  EXPECT_TRUE(client.next == Next::kClose);
}

TEST(ProtocolLoads, AParkedTicketAndAParkedKeyDoNotMeet) {
  LoadingServer loading;
  loading.database.rows["7"] = "seven";
  ProtocolClient client(&loading.server);
  ProtocolClient other(&loading.server);
  EXPECT_EQ(client.Send("get 7\r\ndebugpark 7\r\nget 7 8\r\n"), "");
  EXPECT_EQ(other.Send("debugresume 7 early\r\n"), "NOT_FOUND\r\n");
  EXPECT_TRUE(loading.database.Serve());
  EXPECT_EQ(client.ContinueOnce(), Hit("7", "seven") + "END\r\n");
  EXPECT_FALSE(loading.database.Serve());
  EXPECT_EQ(other.Send("debugresume 7 late\r\n"), "OK\r\n");
  EXPECT_EQ(loading.Await(&client, client.ContinueOnce()), "late\r\n" + Hit("7", "seven") + "END\r\n");
}

TEST(ProtocolLoads, AGetAndTouchThatIsRefusedIsNeitherAHitNorAMiss) {
  LoadingServer loading;
  loading.database.rows["a"] = "1";
  ProtocolClient client(&loading.server);
  EXPECT_EQ(loading.Ask(&client, "gat 0 bad\r\n"), kLoadFailed);
  EXPECT_EQ(loading.Stat("get_touch_misses") + loading.Stat("touch_misses"), "0");
  EXPECT_EQ(loading.Ask(&client, "gat 0 a\r\ngat 0 none\r\n"), Hit("a", "1") + "END\r\nEND\r\n");
}

// Held replies, requests that wait for room and requests that wait for a load, of one connection.
TEST(ProtocolLoads, ARequestMayWaitForALoadBehindRepliesThatWaitForTheLog) {
  TestLog log(1);
  Service::Options options = ProtocolServer::DefaultOptions();
  options.log = &log;
  options.ack = Ack::kLogged;
  StoreOptions store_options = WithBackend();
  store_options.shard_count = 1;
  store_options.ring_bytes = kRingBytesMin;
  ProtocolServer server(options, store_options);
  TestDatabase database(&server);
  database.rows["n"] = "7";
  ProtocolClient client(&server);
  EXPECT_EQ(client.Send(Set("a", "1") + "incr n 1\r\nget n\r\n"), "");
  log.Commit(server.store());
  EXPECT_EQ(client.ContinueOnce(), "STORED\r\n");
  EXPECT_TRUE(client.session()->waits());
  EXPECT_TRUE(database.Serve());
  EXPECT_EQ(client.ContinueOnce(), "");  // the new number is not in the log yet
  log.Commit(server.store());
  EXPECT_EQ(client.ContinueOnce(), "8\r\n" + Hit("n", "8") + "END\r\n");
  EXPECT_FALSE(client.session()->waits());
}

// Several connections and a database that answers now and then, in a random order; no two connections share a key,
// so that its answers are those of a server that had all values in memory.
TEST(ProtocolLoads, InterleavedConnectionsAnswerAsIfEachWereAlone) {
  uint64_t state = test::Seed() | 1;
  const auto random = [&state](uint64_t below) {
    state ^= state << 13;
    state ^= state >> 7;
    state ^= state << 17;
    return (state >> 8) % below;
  };
  for (int round = 0; round < 30; round++) {
    LoadingServer loading;
    ProtocolServer plain;
    std::vector<std::unique_ptr<ProtocolClient>> clients;
    std::vector<std::string> replies(4);
    std::vector<std::string> scripts(4);
    std::vector<std::string> expected(4);
    std::vector<size_t> sent(4);
    for (size_t c = 0; c < 4; c++) {
      clients.push_back(std::make_unique<ProtocolClient>(&loading.server));
      ProtocolClient reference(&plain);
      const auto key = [&](uint64_t k) { return "c" + std::to_string(c) + "k" + std::to_string(k); };
      for (uint64_t k = 0; k < 4; k += 2) {
        const std::string value = std::to_string(random(100));
        loading.database.rows[key(k)] = value;
        reference.Send(Set(key(k), value));
      }
      for (int i = 0; i < 20; i++) {
        const std::string k = key(random(4));
        switch (random(7)) {
          case 0:
            scripts[c] += "get " + k + " " + key(random(4)) + "\r\n";
            break;
          case 1:
            scripts[c] += "append " + k + " 0 0 1\r\n5\r\n";
            break;
          case 2:
            scripts[c] += "incr " + k + " 3\r\n";
            break;
          case 3:
            scripts[c] += "add " + k + " 0 0 1\r\n2\r\n";
            break;
          case 4:
            scripts[c] += "touch " + k + " 0\r\n";
            break;
          case 5:
            scripts[c] += Storage("replace " + k + " 0 0 70000", std::string(70'000, 'r'));
            break;
          default:
            scripts[c] += "gat 0 " + k + "\r\n";
            break;
        }
      }
      expected[c] = reference.Send(scripts[c]);
    }
    for (bool is_over = false; !is_over;) {
      const size_t c = random(4);
      const size_t piece = std::min<size_t>(scripts[c].size() - sent[c], random(random(2) == 0 ? 40 : 40'000));
      replies[c] += clients[c]->Send(std::string_view(scripts[c]).substr(sent[c], piece));
      sent[c] += piece;
      if (random(3) == 0) loading.database.Serve();
      is_over = true;
      for (size_t d = 0; d < 4; d++) {
        if (random(2) == 0) replies[d] += clients[d]->ContinueOnce();
        while (clients[d]->goes_on()) replies[d] += clients[d]->ContinueOnce();
        is_over = is_over && sent[d] == scripts[d].size() && !clients[d]->session()->waits();
      }
    }
    for (size_t c = 0; c < 4; c++) EXPECT_TRUE(replies[c] == expected[c]) << "round " << round << " client " << c;
    EXPECT_EQ(loading.server.loads()->load_count(), 0u);
    loading.server.store()->Verify();
  }
}

}  // namespace
}  // namespace cairn
