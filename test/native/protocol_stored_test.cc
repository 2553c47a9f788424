// Sessions at the level `stored`: the reply to a change waits for the backend, everything else for the log. What a dead
// letter, and a backend that confirms nothing, make of the replies.

#include <string>
#include <string_view>
#include <vector>

#include "protocol/limits.h"
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
using Health = StoredChanges::Health;

constexpr std::string_view kRefused = "SERVER_ERROR the database has refused the change\r\n";
constexpr std::string_view kUnknown = "SERVER_ERROR the change is made, and may not reach the database\r\n";
constexpr std::string_view kAway = "SERVER_ERROR the database cannot be written\r\n";

// A server, of one shard unless told otherwise, whose log and backend are moved by hand.
struct StoredServer {
  explicit StoredServer(uint64_t item_bytes_max = kItemBytesDefault, bool has_backend = false, uint32_t shard_count = 1)
      : log(shard_count), server(Options(&log, item_bytes_max), Shape(has_backend, shard_count)) {}

  static Service::Options Options(TestLog* log, uint64_t item_bytes_max) {
    Service::Options options = ProtocolServer::DefaultOptions();
    options.log = log;
    options.ack = Ack::kStored;
    options.item_bytes_max = item_bytes_max;
    return options;
  }
  static StoreOptions Shape(bool has_backend, uint32_t shard_count) {
    StoreOptions options = ProtocolServer::LoggedStore(shard_count);
    options.has_backend = has_backend;
    return options;
  }

  StoredChanges* stored() { return server.store()->stored(); }
  void Log() { log.Commit(server.store()); }
  // The log and the backend have everything.
  void Store() {
    Log();
    stored()->marks()->Advance(0, server.store()->LastVersion(0));
  }
  // The same, but the last change of the key is a dead letter.
  void StoreAllBut(std::string_view key) {
    Log();
    stored()->Refuse(0, key, server.store()->LastVersion(0), "");
    Store();
  }

  TestLog log;
  ProtocolServer server;
};

TEST(ProtocolStored, TheReplyToEveryChangeWaitsForTheBackend) {
  const std::pair<std::string, std::string> cases[] = {
      {Set("a", "1"), "STORED\r\n"},
      {"add new 0 0 1\r\n1\r\n", "STORED\r\n"},
      {"replace n 0 0 1\r\n5\r\n", "STORED\r\n"},
      {"append n 0 0 1\r\n5\r\n", "STORED\r\n"},
      {"incr n 1\r\n", "8\r\n"},
      {"decr n 1\r\n", "6\r\n"},
      {"touch n 100\r\n", "TOUCHED\r\n"},
      {"gat 100 n\r\n", "VALUE n 0 1\r\n7\r\nEND\r\n"},
      {"delete n\r\n", "DELETED\r\n"},
      {"delete none\r\n", "NOT_FOUND\r\n"},  // which takes the row away, if there is one
      {Set("big", std::string(100'000, 'b')), "STORED\r\n"},
      // The value does not fit, so the present one is removed, which is a change of the row.
      {Set("n", std::string(2 << 20, 'b')), "SERVER_ERROR object too large for cache\r\n"},
  };
  for (const auto& [request, reply] : cases) {
    StoredServer stored;
    ProtocolClient client(&stored.server);
    client.Send(Set("n", "7"));
    stored.Store();
    EXPECT_EQ(client.ContinueOnce(), "STORED\r\n");
    EXPECT_FALSE(stored.stored()->TakeWanted());
    EXPECT_EQ(client.Send(request + "mn\r\n"), "") << request.substr(0, 30);
    EXPECT_TRUE(stored.stored()->TakeWanted()) << request.substr(0, 30);
    stored.Log();
    EXPECT_EQ(client.ContinueOnce(), "") << request.substr(0, 30);
    EXPECT_TRUE(client.session()->waits()) << request.substr(0, 30);
    stored.Store();
    EXPECT_EQ(client.ContinueOnce(), reply + "MN\r\n") << request.substr(0, 30);
    EXPECT_FALSE(client.session()->waits());
  }
}

TEST(ProtocolStored, EverythingElseWaitsForTheLog) {
  for (const std::string request : {"get n\r\n", "add n 0 0 1\r\n1\r\n", "cas n 0 0 1 1\r\n9\r\n", "flush_all\r\n"}) {
    StoredServer stored;
    ProtocolClient writer(&stored.server);
    ProtocolClient reader(&stored.server);
    writer.Send(Set("n", "7"));
    EXPECT_EQ(reader.Send(request + "get n\r\n"), "") << request;
    stored.Log();
    EXPECT_NE(reader.ContinueOnce(), "") << request;
    EXPECT_FALSE(reader.session()->waits()) << request;
    EXPECT_EQ(writer.ContinueOnce(), "");
  }
}

// The port takes such a value, and the store does not: it removes the present one too.
TEST(ProtocolStored, TheReplyToASetThatTheStoreRefusesWaitsForTheBackend) {
  const std::string request = Set("n", std::string(2 << 20, 'b')) + "mn\r\n";
  StoredServer stored(uint64_t{8} << 20, /*has_backend=*/true);
  ProtocolClient client(&stored.server);
  client.Send(Set("n", "7"));
  stored.Store();
  client.ContinueOnce();
  EXPECT_EQ(client.Send(request), "");
  stored.Log();
  EXPECT_EQ(client.ContinueOnce(), "");
  stored.Store();
  EXPECT_EQ(client.ContinueOnce(), "SERVER_ERROR object too large for cache\r\nMN\r\n");
  // Once more: the backend may refuse to remove the row, which the reply tells of.
  client.Send(Set("n", "7"));
  stored.Store();
  client.ContinueOnce();
  EXPECT_EQ(client.Send(request), "");
  stored.StoreAllBut("n");
  EXPECT_EQ(client.ContinueOnce(), std::string(kRefused) + "MN\r\n");
}

TEST(ProtocolStored, TheReplyToASetThatIsTooLargeTellsOfItsDeadLetter) {
  StoredServer stored;
  ProtocolClient client(&stored.server);
  EXPECT_EQ(client.Send(Set("a", std::string(2 << 20, 'b'))), "");
  stored.StoreAllBut("a");
  EXPECT_EQ(client.ContinueOnce(), kRefused);
}

TEST(ProtocolStored, ADeadLetterIsAnErrorLineInThePlaceOfItsReply) {
  StoredServer stored;
  ProtocolClient client(&stored.server);
  EXPECT_EQ(client.Send(Set("a", "1") + "get b\r\n" + Set("b", "2") + "get a\r\n"), "");
  stored.StoreAllBut("b");
  EXPECT_EQ(client.ContinueOnce(), "STORED\r\nEND\r\n" + std::string(kRefused) + "VALUE a 0 1\r\n1\r\nEND\r\n");
  EXPECT_FALSE(client.session()->waits());
  EXPECT_EQ(client.Send(Set("b", "3")), "");
  stored.Store();
  EXPECT_EQ(client.ContinueOnce(), "STORED\r\n");
}

TEST(ProtocolStored, RepliesBehindTheFirstThatWaitsWaitToo) {
  StoredServer stored;
  ProtocolClient client(&stored.server);
  EXPECT_EQ(client.Send(Set("a", "1") + Set("b", "2")), "");
  const uint64_t first = stored.server.store()->LastVersion(0) - 1;
  stored.Log();
  stored.stored()->marks()->Advance(0, first);
  EXPECT_EQ(client.ContinueOnce(), "STORED\r\n");
  EXPECT_TRUE(client.session()->waits());
  stored.stored()->Refuse(0, "b", first + 1, "");
  stored.Store();
  EXPECT_EQ(client.ContinueOnce(), kRefused);
}

TEST(ProtocolStored, ABackendThatConfirmsNothingMakesRepliesUnknownAndRefusesChanges) {
  for (const Health health : {Health::kAway, Health::kStopped}) {
    StoredServer stored;
    ProtocolClient client(&stored.server);
    EXPECT_EQ(client.Send(Set("a", "1")), "");
    stored.Log();
    stored.stored()->SetHealth(0, 1, health);
    EXPECT_EQ(client.ContinueOnce(), kUnknown);
    EXPECT_EQ(client.Send("get a\r\n"), "VALUE a 0 1\r\n1\r\nEND\r\n");
    EXPECT_EQ(client.Send(Set("a", "2") + "delete a\r\n" + Set("a", std::string(100'000, 'x'))),
              std::string(kAway) + std::string(kAway) + std::string(kAway));
    EXPECT_EQ(client.Send("get a\r\n"), "VALUE a 0 1\r\n1\r\nEND\r\n");
    stored.stored()->SetHealth(0, 1, Health::kRunning);
    EXPECT_EQ(client.Send(Set("a", "2")), "");
    stored.Store();
    EXPECT_EQ(client.ContinueOnce(), "STORED\r\n");
  }
}

// A key of that shard.
std::string KeyOf(StoredServer* stored, uint32_t shard) {
  for (uint32_t i = 0;; i++) {
    std::string key = "k" + std::to_string(i);
    if (stored->server.store()->ShardOf(key) == shard) return key;
  }
}

TEST(ProtocolStored, OfABackendThatConfirmsNothingOfOneShardOnlyItsKeysAreRefused) {
  StoredServer stored(kItemBytesDefault, false, 2);
  ProtocolClient client(&stored.server);
  const std::string away = KeyOf(&stored, 1);
  const std::string well = KeyOf(&stored, 0);
  EXPECT_EQ(client.Send(Set(away, "1")), "");
  stored.Log();
  stored.stored()->SetHealth(1, 2, Health::kAway);
  EXPECT_EQ(client.ContinueOnce(), kUnknown);
  const std::string big(100'000, 'x');
  for (const std::string& request : {Set(away, "2"), "delete " + away + "\r\n", "gat 100 " + away + "\r\n",
                                     "gat 100 " + well + " " + away + "\r\n", Set(away, big)}) {
    EXPECT_EQ(client.Send(request), kAway) << request.substr(0, 30);
  }
  const std::pair<std::string, std::string> others[] = {
      {Set(well, "2"), "STORED\r\n"},
      {"gat 100 " + well + "\r\n", "VALUE " + well + " 0 1\r\n2\r\nEND\r\n"},
      {"delete " + well + "\r\n", "DELETED\r\n"},
      {Set(well, big), "STORED\r\n"}};
  for (const auto& [request, reply] : others) {
    EXPECT_EQ(client.Send(request), "") << request.substr(0, 30);
    stored.Store();
    EXPECT_EQ(client.ContinueOnce(), reply);
  }
}

TEST(ProtocolStored, ALineOfManyPiecesThatCannotSayItEndsTheSession) {
  StoredServer stored;
  ProtocolClient client(&stored.server);
  client.Send(Set("a", "1"));
  stored.Store();
  client.ContinueOnce();
  EXPECT_EQ(client.Send("gat 100 a\r\n"), "");
  stored.StoreAllBut("a");
  EXPECT_EQ(client.ContinueOnce(), "");
  EXPECT_TRUE(client.next == Next::kClose);
}

TEST(ProtocolStored, ALogThatFailsEndsTheSession) {
  StoredServer stored;
  ProtocolClient client(&stored.server);
  EXPECT_EQ(client.Send(Set("a", "1")), "");
  stored.log.SetHealth(LogView::Health::kFailed);
  EXPECT_EQ(client.ContinueOnce(), "");
  EXPECT_TRUE(client.next == Next::kClose);
}

TEST(ProtocolStored, NothingIsHeldForNoreply) {
  StoredServer stored;
  ProtocolClient client(&stored.server);
  EXPECT_EQ(client.Send("set a 0 0 1 noreply\r\n1\r\nmn\r\n"), "MN\r\n");
  EXPECT_FALSE(client.session()->waits());
}

TEST(ProtocolStored, TheLevelIsShown) {
  StoredServer stored;
  ProtocolClient client(&stored.server);
  EXPECT_NE(client.Send("stats cairn\r\n").find("STAT ack stored\r\n"), std::string::npos);
}

}  // namespace
}  // namespace cairn
