// Sessions over a store with a log: what is held until it is committed, by whom, and what becomes of requests while the
// log has no room, is full, or has failed. The rings are real; the log is told when to take what they have.

#include <string>
#include <string_view>
#include <vector>

#include "protocol/limits.h"
#include "protocol/session.h"
#include "support/protocol_client.h"
#include "test.h"

namespace cairn {
namespace {

using test::Hit;
using test::ProtocolClient;
using test::ProtocolServer;
using test::Set;
using test::TestLog;
using Next = Session::Next;
using Health = LogView::Health;

constexpr std::string_view kFull = "SERVER_ERROR the log is full\r\n";
constexpr std::string_view kFailed = "SERVER_ERROR the log cannot be written\r\n";

// Counts how often it is woken.
class CountingWaker final : public Waker {
 public:
  void Wake() override { wakes++; }
  int wakes = 0;
};

// A server of one shard, whose replies wait for the log, or do not.
struct LoggedServer {
  explicit LoggedServer(bool waits_for_log = true, uint32_t shard_count = 1)
      : log(shard_count), server(OptionsFor(&log, waits_for_log), StoreFor(shard_count)) {
    waker = std::make_shared<CountingWaker>();
    server.service()->AddWaker(waker);
  }
  ~LoggedServer() { server.service()->RemoveWaker(waker.get()); }

  static Service::Options OptionsFor(TestLog* log, bool waits_for_log) {
    Service::Options options = ProtocolServer::DefaultOptions();
    options.log = log;
    options.ack = waits_for_log ? Ack::kLogged : Ack::kMemory;
    return options;
  }
  static StoreOptions StoreFor(uint32_t shard_count) {
    StoreOptions options = ProtocolServer::SmallStore();
    options.shard_count = shard_count;
    options.ring_bytes = shard_count * kRingBytesMin;
    return options;
  }

  Store* store() { return server.store(); }
  void Commit() { log.Commit(server.store()); }
  void FillRings() { test::FillRing(&server); }
  std::string Stat(std::string_view name) {
    ProtocolClient client(&server);
    const std::string stats = client.Send("stats cairn\r\n");
    const std::string begin = "STAT " + std::string(name) + " ";
    const size_t at = stats.find(begin);
    if (at == std::string::npos) return "";
    return stats.substr(at + begin.size(), stats.find("\r\n", at) - at - begin.size());
  }

  TestLog log;
  ProtocolServer server;
  std::shared_ptr<CountingWaker> waker;
};

// ---- held ----

TEST(ProtocolLog, EveryReplyThatTellsOfAChangeWaitsForIt) {
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
      {"flush_all\r\n", "OK\r\n"},
      {"flush_all 100\r\n", "OK\r\n"},
      {Set("big", std::string(100'000, 'b')), "STORED\r\n"},
      {Set("n", std::string(2'000'000, 'b')), "SERVER_ERROR object too large for cache\r\n"},
  };
  for (const auto& [request, reply] : cases) {
    LoggedServer logged(/*waits_for_log=*/true, /*shard_count=*/2);
    ProtocolClient client(&logged.server);
    client.Send(Set("n", "7"));
    logged.Commit();
    client.ContinueOnce();
    EXPECT_FALSE(client.session()->waits());
    EXPECT_EQ(client.Send(request + "mn\r\n"), "") << request.substr(0, 30);
    EXPECT_TRUE(client.session()->waits()) << request.substr(0, 30);
    EXPECT_EQ(client.ContinueOnce(), "") << request.substr(0, 30);
    logged.Commit();
    EXPECT_EQ(client.ContinueOnce(), reply + "MN\r\n") << request.substr(0, 30);
    EXPECT_FALSE(client.session()->waits());
  }
}

TEST(ProtocolLog, EveryReplyThatTellsOfAnUncommittedEntryWaitsForItToo) {
  const std::pair<std::string, std::string> cases[] = {
      {"get a\r\n", "VALUE a 0 1\r\nx\r\nEND\r\n"},
      {"add a 0 0 1\r\n1\r\n", "NOT_STORED\r\n"},
      {"cas a 0 0 1 1\r\n1\r\n", "EXISTS\r\n"},
      {"incr a 1\r\n", "CLIENT_ERROR cannot increment or decrement non-numeric value\r\n"},
      {"append a 0 0 1048516\r\n" + std::string(1048516, 'y') + "\r\n", "NOT_STORED\r\n"},
  };
  for (const auto& [request, reply] : cases) {
    LoggedServer logged;
    ProtocolClient writer(&logged.server);
    ProtocolClient reader(&logged.server);
    EXPECT_EQ(writer.Send(Set("a", "x")), "");
    EXPECT_EQ(reader.Send(request), "") << request.substr(0, 30);
    logged.Commit();
    EXPECT_EQ(reader.ContinueOnce(), reply) << request.substr(0, 30);
    // Now that the entry is committed, the reply does not wait.
    EXPECT_EQ(reader.Send(request), reply) << request.substr(0, 30);
  }
}

TEST(ProtocolLog, EveryReplyThatTellsOfAnAbsenceWaitsForTheDeletion) {
  const std::pair<std::string, std::string> cases[] = {
      {"get a\r\n", "END\r\n"},
      {"get b a b\r\n", "VALUE b 0 1\r\n2\r\nVALUE b 0 1\r\n2\r\nEND\r\n"},
      {"gat 100 a\r\n", "END\r\n"},
      {"replace a 0 0 1\r\n1\r\n", "NOT_STORED\r\n"},
      {"append a 0 0 1\r\n1\r\n", "NOT_STORED\r\n"},
      {"cas a 0 0 1 1\r\n1\r\n", "NOT_FOUND\r\n"},
      {"incr a 1\r\n", "NOT_FOUND\r\n"},
      {"touch a 0\r\n", "NOT_FOUND\r\n"},
      {"delete a\r\n", "NOT_FOUND\r\n"},
  };
  for (const auto& [request, reply] : cases) {
    LoggedServer logged;
    ProtocolClient writer(&logged.server);
    ProtocolClient reader(&logged.server);
    writer.Send(Set("a", "1") + Set("b", "2"));
    logged.Commit();
    writer.ContinueOnce();
    EXPECT_EQ(reader.Send("get b\r\n"), "VALUE b 0 1\r\n2\r\nEND\r\n");
    EXPECT_EQ(writer.Send("delete a\r\n"), "");
    const std::string early = reader.Send(request);
    EXPECT_EQ(early, request.starts_with("get b") ? "VALUE b 0 1\r\n2\r\n" : "") << request;
    EXPECT_TRUE(reader.session()->waits()) << request;
    logged.Commit();
    EXPECT_EQ(early + reader.ContinueOnce(), reply) << request;
  }
}

TEST(ProtocolLog, AMissAfterAClearWaitsForTheBarrierInWhicheverShard) {
  LoggedServer logged(/*waits_for_log=*/true, /*shard_count=*/2);
  ProtocolClient writer(&logged.server);
  std::string keys[2];
  for (int i = 0; keys[0].empty() || keys[1].empty(); i++) {
    const std::string key = "k" + std::to_string(i);
    keys[logged.store()->ShardOf(key)] = key;
  }
  writer.Send(Set(keys[0], "0") + Set(keys[1], "1"));
  logged.Commit();
  writer.ContinueOnce();
  EXPECT_EQ(writer.Send("flush_all\r\n"), "");
  for (const std::string& key : keys) {
    ProtocolClient reader(&logged.server);
    EXPECT_EQ(reader.Send("get " + key + "\r\n"), "");
    EXPECT_TRUE(reader.session()->waits());
  }
  logged.Commit();
  EXPECT_EQ(writer.ContinueOnce(), "OK\r\n");
  EXPECT_EQ(writer.Send("get " + keys[0] + " " + keys[1] + "\r\n"), "END\r\n");
}

TEST(ProtocolLog, NothingIsHeldAtTheLevelMemoryAndNothingForNoreply) {
  LoggedServer logged(/*waits_for_log=*/false);
  ProtocolClient client(&logged.server);
  EXPECT_EQ(client.Send(Set("a", "1") + "get a\r\ndelete a\r\nget a\r\n"),
            "STORED\r\nVALUE a 0 1\r\n1\r\nEND\r\nDELETED\r\nEND\r\n");
  EXPECT_EQ(logged.log.rings, 0);

  LoggedServer waiting;
  ProtocolClient quiet(&waiting.server);
  EXPECT_EQ(quiet.Send("set a 0 0 1 noreply\r\n1\r\ndelete a noreply\r\nincr n 1 noreply\r\nflush_all noreply\r\n"
                       "set b 0 0 2000000 noreply\r\n" +
                       std::string(2'000'000, 'x') + "\r\nmn\r\n"),
            "MN\r\n");
  EXPECT_FALSE(quiet.session()->waits());
  EXPECT_EQ(waiting.log.rings, 0);
  EXPECT_EQ(waiting.log.arms, 0);
}

// Listeners of one server may differ in their level.
TEST(ProtocolLog, SessionsOfOneServiceHaveEachTheirLevel) {
  for (const bool waits_for_log : {false, true}) {
    LoggedServer logged(waits_for_log);  // what a session is told counts, whatever the service's own level is
    const auto names = std::make_shared<ConnectionNames>(ConnectionNames{"tcp:test", "tcp:here"});
    Session patient(logged.server.bench(), names, logged.server.now, Ack::kLogged);
    Session quick(logged.server.bench(), names, logged.server.now, Ack::kMemory);
    const auto feed = [&logged](Session* session, const std::string& bytes) {
      ByteBuffer out;
      session->Feed(bytes, 0, logged.server.now, &out);
      return std::string(out.view());
    };
    EXPECT_EQ(feed(&quick, Set("a", "1") + "get a\r\n"), "STORED\r\n" + Hit("a", "1") + "END\r\n");
    EXPECT_EQ(feed(&patient, "get a\r\n"), "");
    EXPECT_EQ(feed(&quick, "stats cairn\r\n").rfind("STAT version 0.1.0\r\nSTAT ack memory\r\n", 0), 0u);
    logged.Commit();
    ByteBuffer out;
    patient.Continue(0, logged.server.now, &out);
    EXPECT_EQ(out.view(), Hit("a", "1") + "END\r\n");
    EXPECT_EQ(feed(&patient, "stats cairn\r\n").rfind("STAT version 0.1.0\r\nSTAT ack logged\r\n", 0), 0u);
    // One that does not wait goes on where the log takes nothing, as long as there is room on the way to it.
    logged.log.SetHealth(Health::kFull);
    EXPECT_EQ(feed(&patient, Set("b", "1")), "SERVER_ERROR the log is full\r\n");
    EXPECT_EQ(feed(&quick, Set("b", "1")), "STORED\r\n");
  }
}

TEST(ProtocolLog, TheBellIsRungOnceForAllThatACallLeavesHeld) {
  LoggedServer logged;
  ProtocolClient client(&logged.server);
  client.Send(Set("a", "1") + Set("b", "2") + "get a b\r\n");
  EXPECT_EQ(logged.log.rings, 1);
  EXPECT_EQ(logged.log.arms, 1);
  // Looking again brings nothing new to hurry for, but has to be armed again.
  client.ContinueOnce();
  EXPECT_EQ(logged.log.rings, 1);
  EXPECT_EQ(logged.log.arms, 2);
  client.Send("mn\r\n");
  EXPECT_EQ(logged.log.rings, 1);
  client.Send(Set("c", "3"));
  EXPECT_EQ(logged.log.rings, 2);
  logged.Commit();
  client.ContinueOnce();
  client.Send("get a\r\n");
  EXPECT_EQ(logged.log.rings, 2);
  EXPECT_EQ(logged.Stat("replies_held"), "5");
}

TEST(ProtocolLog, ACommitBetweenLookingAndArmingIsNotMissed) {
  static LoggedServer* racing;
  LoggedServer logged;
  racing = &logged;
  ProtocolClient client(&logged.server);
  logged.log.on_arm = [] { racing->Commit(); };
  EXPECT_EQ(client.Send(Set("a", "1")), "");
  EXPECT_EQ(logged.waker->wakes, 1);
  logged.log.on_arm = nullptr;
  EXPECT_EQ(client.ContinueOnce(), "STORED\r\n");
  EXPECT_EQ(logged.waker->wakes, 1);
}

TEST(ProtocolLog, QuitAndTheEndOfAClientWaitForTheCommit) {
  LoggedServer logged;
  ProtocolClient quitting(&logged.server);
  ProtocolClient ending(&logged.server);
  EXPECT_EQ(quitting.Send(Set("a", "1") + "quit\r\n"), "");
  EXPECT_EQ(quitting.next, Next::kWait);
  EXPECT_EQ(ending.Send(Set("b", "1")), "");
  EXPECT_EQ(ending.End(), "");
  EXPECT_EQ(ending.next, Next::kWait);
  logged.Commit();
  EXPECT_EQ(quitting.ContinueOnce(), "STORED\r\n");
  EXPECT_EQ(quitting.next, Next::kClose);
  EXPECT_EQ(ending.ContinueOnce(), "STORED\r\n");
  EXPECT_EQ(ending.next, Next::kClose);
}

TEST(ProtocolLog, AValueThatTheStoreHasNoRoomForIsRefusedWhenTheOldOneIsGoneForGood) {
  TestLog log(1);
  Service::Options options = LoggedServer::OptionsFor(&log, /*waits_for_log=*/true);
  options.item_bytes_max = uint64_t{8} << 20;  // above what the store takes
  ProtocolServer server(options, LoggedServer::StoreFor(1));
  ProtocolClient client(&server);
  client.Send(Set("n", "old"));
  log.Commit(server.store());
  EXPECT_EQ(client.ContinueOnce(), "STORED\r\n");
  EXPECT_EQ(client.Send(Set("n", std::string(2'000'000, 'b')) + "mn\r\n"), "");
  EXPECT_TRUE(client.session()->waits());
  log.Commit(server.store());
  EXPECT_EQ(client.ContinueOnce(), "SERVER_ERROR object too large for cache\r\nMN\r\n");
  EXPECT_EQ(client.Send("get n\r\n"), "END\r\n");
}

// ---- no room: parked ----

TEST(ProtocolLog, WithoutRoomARequestIsParkedUntilACommit) {
  const std::pair<std::string, std::string> cases[] = {
      {Set("n", "1"), "STORED\r\n"},
      {Set("n", std::string(100'000, 'b')), "STORED\r\n"},
      {Set("n", std::string(2'000'000, 'b')), "SERVER_ERROR object too large for cache\r\n"},
      {"incr n 1\r\n", "8\r\n"},
      {"append n 0 0 1\r\n5\r\n", "STORED\r\n"},
      {"touch n 100\r\n", "TOUCHED\r\n"},
      {"gat 100 none n\r\n", "VALUE n 0 1\r\n7\r\nEND\r\n"},
      {"get n\r\ngat 100 n\r\nget n\r\n",
       "VALUE n 0 1\r\n7\r\nEND\r\nVALUE n 0 1\r\n7\r\nEND\r\nVALUE n 0 1\r\n7\r\nEND\r\n"},
      {"delete n\r\n", "DELETED\r\n"},
  };
  for (const bool waits_for_log : {false, true}) {
    for (const auto& [request, reply] : cases) {
      LoggedServer logged(waits_for_log);
      ProtocolClient client(&logged.server);
      ProtocolClient other(&logged.server);
      client.Send(Set("n", "7"));
      logged.Commit();
      client.ContinueOnce();
      logged.FillRings();
      const int rings = logged.log.rings;
      std::string told = client.Send(request + "mn\r\n");
      EXPECT_EQ(client.next, Next::kWait) << request.substr(0, 30);
      EXPECT_TRUE(client.session()->waits());
      EXPECT_EQ(logged.log.rings, rings + 1);
      EXPECT_EQ(client.ContinueOnce(), "") << request.substr(0, 30);
      EXPECT_EQ(client.next, Next::kWait);
      EXPECT_EQ(logged.log.rings, rings + 1);
      // Others go on with what needs no room.
      EXPECT_EQ(other.Send("get n\r\n"), "VALUE n 0 1\r\n7\r\nEND\r\n");
      logged.Commit();
      told += client.ContinueOnce();
      EXPECT_EQ(client.next, Next::kRead) << request.substr(0, 30);
      logged.Commit();
      told += client.ContinueOnce();
      EXPECT_EQ(told, reply + "MN\r\n") << request.substr(0, 30);
      EXPECT_EQ(logged.Stat("requests_parked"), "1");
      EXPECT_EQ(logged.Stat("requests_refused"), "0");
      EXPECT_NE(logged.Stat("ring_full"), "0");
    }
  }
}

TEST(ProtocolLog, AClearFindsRoomWhereOthersDoNotAndTheNextIsParked) {
  LoggedServer logged;
  ProtocolClient client(&logged.server);
  logged.FillRings();
  EXPECT_EQ(client.Send("flush_all\r\n"), "");
  EXPECT_EQ(client.next, Next::kRead);
  int clears = 1;
  while (client.next == Next::kRead) {
    EXPECT_EQ(client.Send("flush_all 100\r\n"), "");
    clears++;
    ASSERT_LT(clears, 10);
  }
  EXPECT_EQ(client.next, Next::kWait);
  logged.Commit();
  std::string told = client.ContinueOnce();
  logged.Commit();
  told += client.ContinueOnce();
  std::string expected;
  for (int i = 0; i < clears; i++) expected += "OK\r\n";
  EXPECT_EQ(told, expected);
}

// ---- full and failed: refused ----

// Every request that would leave a record.
const std::vector<std::string>& Mutations() {
  static const std::vector<std::string> mutations = {
      Set("n", "1"),
      "add new 0 0 1\r\n1\r\n",
      "replace n 0 0 1\r\n1\r\n",
      "append n 0 0 1\r\n1\r\n",
      "prepend n 0 0 1\r\n1\r\n",
      "cas n 0 0 1 1\r\n1\r\n",
      Set("n", std::string(100'000, 'b')),
      Set("n", std::string(2'000'000, 'b')),
      "incr n 1\r\n",
      "decr n 1\r\n",
      "touch n 100\r\n",
      "gat 100 n n none\r\n",
      "gats 100 n\r\n",
      "delete n\r\n",
      "flush_all\r\n",
      "flush_all 100\r\n",
  };
  return mutations;
}

TEST(ProtocolLog, WhileTheLogTakesNothingMutationsAreRefusedAndDoNothing) {
  for (const Health state : {Health::kFull, Health::kStuck, Health::kFailed}) {
    const std::string_view refusal = state == Health::kFailed ? kFailed : kFull;
    for (const std::string& request : Mutations()) {
      for (const size_t piece : {size_t{1} << 30, size_t{50'001}}) {
        LoggedServer logged;
        ProtocolClient client(&logged.server);
        client.Send(Set("n", "7"));
        logged.Commit();
        client.ContinueOnce();
        logged.log.SetHealth(state);
        const uint64_t records = logged.store()->RingStatsOf(0).records;
        EXPECT_EQ(client.SendInPieces(request + "get n\r\n", piece),
                  std::string(refusal) + "VALUE n 0 1\r\n7\r\nEND\r\n")
            << request.substr(0, 30);
        EXPECT_EQ(client.next, Next::kRead);
        EXPECT_FALSE(client.session()->waits());
        EXPECT_EQ(logged.store()->RingStatsOf(0).records, records) << request.substr(0, 30);
        EXPECT_EQ(logged.Stat("requests_refused"), "1");
        EXPECT_EQ(logged.Stat("log"), state == Health::kFailed ? "failed" : "full");
        // And goes on where there is room again.
        if (state == Health::kFailed) continue;
        logged.log.SetHealth(Health::kRunning);
        EXPECT_EQ(client.Send(Set("n", "2")), "");
        logged.Commit();
        EXPECT_EQ(client.ContinueOnce(), "STORED\r\n");
      }
    }
  }
}

TEST(ProtocolLog, NoreplyHidesARefusal) {
  LoggedServer logged;
  ProtocolClient client(&logged.server);
  logged.log.SetHealth(Health::kFull);
  EXPECT_EQ(client.Send("set a 0 0 1 noreply\r\n1\r\nset a 0 0 100000 noreply\r\n" + std::string(100'000, 'x') +
                        "\r\nincr a 1 noreply\r\ndelete a noreply\r\ntouch a 1 noreply\r\nflush_all noreply\r\nmn\r\n"),
            "MN\r\n");
  EXPECT_EQ(logged.store()->entries(), 0);
}

TEST(ProtocolLog, WhatStopsTheLogInTheMiddleOfALargeValueRefusesItAndFreesItsMemory) {
  LoggedServer logged;
  ProtocolClient client(&logged.server);
  const uint64_t charged = logged.store()->Stats().charged_bytes;
  const std::string request = Set("big", std::string(100'000, 'b'));
  EXPECT_EQ(client.Send(std::string_view(request).substr(0, 50'000)), "");
  EXPECT_TRUE(client.session()->is_in_large_request());
  logged.log.SetHealth(Health::kFull);
  EXPECT_EQ(client.Send(std::string_view(request).substr(50'000)), kFull);
  EXPECT_FALSE(client.session()->is_in_large_request());
  EXPECT_EQ(logged.store()->Stats().charged_bytes, charged);
  logged.store()->Verify();
}

TEST(ProtocolLog, AParkedRequestIsRefusedWhenTheLogTurnsOutToBeFull) {
  for (const bool waits_for_log : {false, true}) {
    for (const Health state : {Health::kFull, Health::kFailed}) {
      for (const std::string& request : Mutations()) {
        // A clear has reserved room, or needs none; and the version of the cas is not the entry's.
        if (request.starts_with("flush_all") || request.starts_with("cas")) continue;
        LoggedServer logged(waits_for_log);
        ProtocolClient client(&logged.server);
        client.Send(Set("n", "7"));
        logged.Commit();
        client.ContinueOnce();
        logged.FillRings();
        std::string told = client.Send(request + "mn\r\n");
        ASSERT_EQ(client.next, Next::kWait) << request.substr(0, 30);
        logged.log.SetHealth(state);
        told += client.ContinueOnce();
        EXPECT_EQ(client.next, Next::kRead) << request.substr(0, 30);
        EXPECT_EQ(told, std::string(state == Health::kFull ? kFull : kFailed) + "MN\r\n") << request.substr(0, 30);
        ProtocolClient reader(&logged.server);
        EXPECT_EQ(reader.Send("get n\r\n"), "VALUE n 0 1\r\n7\r\nEND\r\n") << request.substr(0, 30);
      }
    }
  }
}

TEST(ProtocolLog, AtTheLevelMemoryAFullLogRefusesOnlyWhatFindsNoRoom) {
  LoggedServer logged(/*waits_for_log=*/false);
  ProtocolClient client(&logged.server);
  logged.log.SetHealth(Health::kFull);
  EXPECT_EQ(client.Send(Set("n", "7") + "get n\r\n"), "STORED\r\nVALUE n 0 1\r\n7\r\nEND\r\n");
  logged.FillRings();
  EXPECT_EQ(client.Send(Set("n", "8") + "get n\r\n"), std::string(kFull) + "VALUE n 0 1\r\n7\r\nEND\r\n");
  // A touch that finds none ends its own command, not the reads around it.
  EXPECT_EQ(client.Send("get n\r\ngat 9 n n\r\nget n\r\n"),
            Hit("n", "7") + "END\r\n" + std::string(kFull) + Hit("n", "7") + "END\r\n");
}

TEST(ProtocolLog, ReadsOfWhatTheLogDoesNotHaveAreRefusedAndOthersGoOn) {
  for (const Health state : {Health::kFull, Health::kFailed}) {
    const std::string refusal(state == Health::kFull ? kFull : kFailed);
    LoggedServer logged(/*waits_for_log=*/true, /*shard_count=*/2);
    // Keys of one shard each.
    std::string kept;
    std::string fresh;
    for (int i = 0; kept.empty() || fresh.empty(); i++) {
      const std::string key = "k" + std::to_string(i);
      (logged.store()->ShardOf(key) == 0 ? kept : fresh) = key;
    }
    ProtocolClient writer(&logged.server);
    writer.Send(Set(kept, "kept"));
    logged.Commit();
    writer.ContinueOnce();
    EXPECT_EQ(writer.Send(Set(fresh, "fresh")), "");
    logged.log.SetHealth(state);
    ProtocolClient reader(&logged.server);
    EXPECT_EQ(reader.Send("get " + kept + "\r\n"), Hit(kept, "kept") + "END\r\n");
    EXPECT_EQ(reader.Send("get " + fresh + "\r\n"), refusal);
    // The error line ends the command, wherever it stands among its keys; the next one is whole.
    EXPECT_EQ(reader.Send("get " + kept + " " + fresh + " " + kept + " " + fresh + "\r\nget " + kept + "\r\n"),
              Hit(kept, "kept") + refusal + Hit(kept, "kept") + "END\r\n");
    std::string many = "get " + fresh;
    for (size_t i = 0; i < 3 * kGroupKeysMax; i++) many += " " + kept;
    EXPECT_EQ(reader.Send(many + "\r\nget " + kept + "\r\n"), refusal + Hit(kept, "kept") + "END\r\n");
    EXPECT_EQ(reader.next, Next::kRead);
    EXPECT_FALSE(reader.session()->waits());
  }
}

TEST(ProtocolLog, ADumpTellsOnlyOfWhatTheLogHas) {
  for (const std::string line : {"lru_crawler metadump all\r\n", "stats cachedump 1 0\r\n"}) {
    LoggedServer logged;
    ProtocolClient writer(&logged.server);
    writer.Send(Set("kept", "kept"));
    logged.Commit();
    writer.ContinueOnce();
    EXPECT_EQ(writer.Send(Set("fresh", "fresh")), "");
    const auto tells_of = [](const std::string& reply, std::string_view key) {
      return reply.find("=" + std::string(key) + " ") != std::string::npos ||
             reply.find("ITEM " + std::string(key) + " ") != std::string::npos;
    };
    // The newest entry comes first: its line is held, and all that is behind it.
    ProtocolClient reader(&logged.server);
    const std::string before = reader.Send(line + "mn\r\n");
    EXPECT_FALSE(tells_of(before, "fresh") || tells_of(before, "kept")) << before;
    EXPECT_TRUE(reader.session()->waits());
    // A log that takes nothing will not have the entry: the dump leaves it out, and out of the limit.
    logged.log.SetHealth(Health::kFull);
    ProtocolClient other(&logged.server);
    const std::string without = other.Send(line[0] == 's' ? "stats cachedump 1 1\r\n" : line);
    EXPECT_TRUE(tells_of(without, "kept") && !tells_of(without, "fresh")) << without;
    EXPECT_TRUE(without.ends_with("END\r\n")) << without;
    logged.log.SetHealth(Health::kRunning);
    logged.Commit();
    const std::string after = reader.ContinueOnce();
    EXPECT_TRUE(tells_of(after, "fresh") && tells_of(after, "kept")) << after;
    EXPECT_TRUE(after.ends_with("END\r\nMN\r\n")) << after;
  }
}

TEST(ProtocolLog, ALargeValueThatIsNotCommittedIsRefusedWithoutLeavingItPinned) {
  LoggedServer logged;
  ProtocolClient writer(&logged.server);
  writer.Send(Set("big", std::string(200'000, 'b')) + Set("small", "s"));
  logged.log.SetHealth(Health::kFull);
  ProtocolClient reader(&logged.server);
  const uint64_t pinned = logged.store()->Stats().pinned_pages;
  EXPECT_EQ(reader.Send("get big\r\n"), kFull);
  EXPECT_EQ(reader.Send("get small big\r\n"), kFull);
  EXPECT_EQ(logged.store()->Stats().pinned_pages, pinned);
}

TEST(ProtocolLog, RepliesThatAreHeldWaitOnWhileTheLogIsFull) {
  LoggedServer logged;
  ProtocolClient client(&logged.server);
  EXPECT_EQ(client.Send(Set("a", "1")), "");
  logged.log.SetHealth(Health::kFull);
  EXPECT_EQ(client.ContinueOnce(), "");
  // The order is kept: the refusal waits behind what may yet come true.
  EXPECT_EQ(client.Send(Set("a", "2")), "");
  EXPECT_EQ(client.next, Next::kRead);
  logged.log.SetHealth(Health::kRunning);
  logged.Commit();
  EXPECT_EQ(client.ContinueOnce(), "STORED\r\n" + std::string(kFull));
  EXPECT_EQ(client.Send("get a\r\n"), "VALUE a 0 1\r\n1\r\nEND\r\n");
}

TEST(ProtocolLog, HeldRepliesAreDiscardedWhenTheLogHasBeenFullForLong) {
  LoggedServer logged;
  ProtocolClient client(&logged.server);
  ProtocolClient other(&logged.server);
  EXPECT_EQ(client.Send(Set("a", "1") + "get a\r\n"), "");
  logged.log.SetHealth(Health::kFull);
  EXPECT_EQ(client.ContinueOnce(), "");
  EXPECT_EQ(client.next, Next::kRead);
  logged.log.SetHealth(Health::kStuck);
  EXPECT_EQ(client.ContinueOnce(), "");
  EXPECT_EQ(client.next, Next::kClose) << "it was done, and may be kept or not: nothing can be said";
  EXPECT_FALSE(client.session()->waits());
  // As when it is full for everybody else.
  EXPECT_EQ(other.Send(Set("b", "1")), kFull);
  EXPECT_EQ(other.Send("get a\r\n"), kFull);
  EXPECT_EQ(other.Send("get none\r\n"), "END\r\n");
  EXPECT_EQ(other.next, Next::kRead);
  logged.log.SetHealth(Health::kRunning);
  logged.Commit();
  EXPECT_EQ(other.Send("get a\r\n"), "VALUE a 0 1\r\n1\r\nEND\r\n") << "here it was kept";
}

TEST(ProtocolLog, RepliesThatAreHeldWhenTheLogFailsAreNeverSent) {
  const std::string requests[] = {Set("a", "1"), "get a\r\n", "version\r\n", "delete a\r\n", "get none\r\n"};
  for (size_t count = 1; count <= std::size(requests); count++) {
    LoggedServer logged;
    ProtocolClient client(&logged.server);
    client.Send(Set("old", "1"));
    logged.Commit();
    client.ContinueOnce();
    EXPECT_EQ(client.Send("get old\r\n"), "VALUE old 0 1\r\n1\r\nEND\r\n");
    std::string pipeline;
    for (size_t i = 0; i < count; i++) pipeline += requests[i];
    EXPECT_EQ(client.Send(pipeline), "");
    logged.log.SetHealth(Health::kFailed);
    EXPECT_EQ(client.ContinueOnce(), "");
    EXPECT_EQ(client.next, Next::kClose);
    EXPECT_FALSE(client.session()->waits());
    EXPECT_EQ(client.Send("get old\r\n"), "");
    EXPECT_EQ(client.next, Next::kClose);
  }
  // What was committed before it failed is sent, and then the connection is closed.
  LoggedServer logged;
  ProtocolClient client(&logged.server);
  EXPECT_EQ(client.Send(Set("a", "1")), "");
  logged.Commit();
  EXPECT_EQ(client.session()->waits(), true);
  logged.log.SetHealth(Health::kFailed);
  EXPECT_EQ(client.ContinueOnce(), "STORED\r\n");
  EXPECT_EQ(client.next, Next::kRead);
}

// ---- stats ----

TEST(ProtocolLog, StatsCairnSaysHowTheLogIsDoing) {
  ProtocolServer memory_only;
  ProtocolClient plain(&memory_only);
  EXPECT_EQ(plain.Send("stats cairn\r\n"), "STAT version 0.1.0\r\nSTAT ack memory\r\nSTAT log none\r\nEND\r\n");

  TestLog log(1);
  log.numbers.ring_bytes = 10;
  log.numbers.ring_capacity_bytes = 1000;
  log.numbers.ring_fill_worst = 0.01;
  log.numbers.records = 7;
  log.numbers.records_committed = 5;
  log.numbers.lag_ms = 3;
  Service::Options options = ProtocolServer::DefaultOptions();
  options.log = &log;
  options.ack = Ack::kLogged;
  options.log_metrics = {"syncs", "sync_mean_ms", "snapshot_at_ms", "other_at_ms"};
  ProtocolServer server(options, LoggedServer::StoreFor(1));
  log.metrics = {12, 0.25, static_cast<double>(server.now.wall_ms - 5000), 0};
  ProtocolClient client(&server);
  EXPECT_EQ(client.Send("stats cairn\r\n"),
            "STAT version 0.1.0\r\nSTAT ack logged\r\nSTAT log running\r\nSTAT ring_bytes 10\r\nSTAT "
            "ring_capacity_bytes 1000\r\n"
            "STAT ring_fill_worst 0.010\r\nSTAT ring_full 0\r\nSTAT records_waiting 2\r\nSTAT oldest_waiting_ms 3\r\n"
            "STAT replies_held 0\r\nSTAT requests_parked 0\r\nSTAT requests_refused 0\r\nSTAT syncs 12\r\n"
            "STAT sync_mean_ms 0.250\r\nSTAT snapshot_age_ms 5000\r\nEND\r\n");
  // memcached's own statistics say nothing of it.
  EXPECT_EQ(client.Send("stats\r\n").find("log_ring"), std::string::npos);
  EXPECT_EQ(client.Send("debughold 1\r\n"), "SERVER_ERROR this listener waits for the log\r\n");
}

TEST(ProtocolLog, StatsResetForgetsWhatTheLogDidToRequests) {
  LoggedServer logged;
  ProtocolClient client(&logged.server);
  client.Send(Set("a", "1"));
  logged.Commit();
  client.ContinueOnce();
  EXPECT_EQ(logged.Stat("replies_held"), "1");
  EXPECT_EQ(client.Send("stats reset\r\n"), "RESET\r\n");
  EXPECT_EQ(logged.Stat("replies_held"), "0");
}

}  // namespace
}  // namespace cairn
