// The meta protocol over a real store: what recordings of memcached cannot show. That is what becomes of its marks with
// a log, a database and readers who know of freshness; values that come in pieces; and bytes that are cut anywhere.

#include <string>
#include <string_view>
#include <vector>

#include "protocol/base64.h"
#include "protocol/meta_parse.h"
#include "protocol/session.h"
#include "store/entry.h"
#include "store/fill_watch.h"
#include "support/protocol_client.h"
#include "test.h"

namespace cairn {
namespace {

using test::ProtocolClient;
using test::ProtocolServer;
using test::Set;
using test::TestDatabase;
using test::TestLog;
using Next = Session::Next;

constexpr std::string_view kFull = "SERVER_ERROR the log is full\r\n";

struct PlainServer {
  ProtocolServer server;
  ProtocolClient client{&server};
};

// A server of one shard whose replies wait for its log, and perhaps with a database.
struct LoggedServer {
  explicit LoggedServer(bool has_backend = false) : log(1), server(OptionsFor(&log), StoreFor(has_backend)) {}

  static Service::Options OptionsFor(TestLog* log) {
    Service::Options options = ProtocolServer::DefaultOptions();
    options.log = log;
    options.ack = Ack::kLogged;
    return options;
  }
  static StoreOptions StoreFor(bool has_backend) {
    StoreOptions options = ProtocolServer::LoggedStore(1);
    options.has_backend = has_backend;
    return options;
  }
  void Commit() { log.Commit(server.store()); }
  size_t RecordBytes() {
    std::vector<char> bytes(size_t{1} << 20);
    return server.store()->DrainRing(0, bytes.data(), bytes.size()).bytes;
  }
  // What the client is told once the log has everything.
  std::string Ask(ProtocolClient* client, std::string_view bytes) {
    std::string reply = client->Send(bytes);
    Commit();
    return reply + client->ContinueOnce();
  }

  TestLog log;
  ProtocolServer server;
  ProtocolClient client{&server};
};

Outcome Peek(ProtocolServer* server, std::string_view key) {
  Request request;
  request.verb = Verb::kPeek;
  request.key = key;
  request.no_value = true;
  Outcome outcome;
  server->store()->Execute(request, server->now, nullptr, &outcome);
  return outcome;
}

// ---- milliseconds ----

TEST(ProtocolMeta, ATimeInMillisecondsIsExact) {
  PlainServer at;
  EXPECT_EQ(at.client.Send("ms a 1 T1500ms\r\n1\r\nmg a tms v\r\nmg a t\r\n"), "HD\r\nVA 1 t1500ms\r\n1\r\nHD t2\r\n");
  at.server.Pass(1499);
  EXPECT_EQ(at.client.Send("mg a tms\r\n"), "HD t1ms\r\n");
  at.server.Pass(1);
  EXPECT_EQ(at.client.Send("mg a tms\r\n"), "EN\r\n");
}

TEST(ProtocolMeta, EveryCommandTakesMilliseconds) {
  PlainServer at;
  // Touched by mg, with and without a value.
  EXPECT_EQ(at.client.Send("ms a 1\r\n1\r\nmg a tms\r\n"), "HD\r\nHD t-1\r\n");
  EXPECT_EQ(at.client.Send("mg a T250ms tms\r\nmg a v tms\r\n"), "HD t250ms\r\nVA 1 t250ms\r\n1\r\n");
  // Every mode of ms that sets an expiry, and append with N.
  EXPECT_EQ(at.client.Send("ms b 1 ME T20ms\r\n1\r\nms b 1 MR T30ms\r\n1\r\nmg b tms\r\n"), "HD\r\nHD\r\nHD t30ms\r\n");
  EXPECT_EQ(at.client.Send("ms c 1 MA N40ms\r\n1\r\nmg c tms\r\n"), "HD\r\nHD t40ms\r\n");
  // A stale entry, and an emptied one.
  EXPECT_EQ(at.client.Send("md b I T50ms\r\nmg b tms\r\n"), "HD\r\nHD t50ms X W\r\n");
  EXPECT_EQ(at.client.Send("md c x T60ms\r\nmg c tms s\r\n"), "HD\r\nHD t60ms s0\r\n");
  // A number that is made, and one that is counted.
  EXPECT_EQ(at.client.Send("ma n N70ms J1 tms\r\nma n T80ms tms v\r\n"), "HD t70ms\r\nVA 1 t80ms\r\n2\r\n");
  EXPECT_EQ(at.client.Send("mg n tms\r\n"), "HD t80ms\r\n");
  // A placeholder.
  EXPECT_EQ(at.client.Send("mg new N90ms tms\r\n"), "HD t90ms W\r\n");
  at.server.Pass(90);
  EXPECT_EQ(at.client.Send("mg new\r\n"), "EN\r\n");
}

TEST(ProtocolMeta, AClientWinsWithinMillisecondsOfTheEnd) {
  PlainServer at;
  EXPECT_EQ(at.client.Send("ms a 1 T1000ms\r\n1\r\n"), "HD\r\n");
  at.server.Pass(700);
  EXPECT_EQ(at.client.Send("mg a R300ms\r\n"), "HD\r\n");
  EXPECT_EQ(at.client.Send("mg a R301ms\r\nmg a R301ms\r\n"), "HD W\r\nHD Z\r\n");
}

TEST(ProtocolMeta, MillisecondsCountFromNowHoweverManyTheyAre) {
  PlainServer at;
  const auto left = [&](std::string_view time) {
    const std::string reply = at.client.Send("ms a 1 T" + std::string(time) + "\r\n1\r\nmg a tms\r\n");
    return reply.substr(reply.find("\r\n") + 2);
  };
  // More than 30 days in seconds would be a Unix time.
  EXPECT_EQ(left("2592000001ms"), "HD t2592000001ms\r\n");
  EXPECT_EQ(left("1700000001000ms"), "HD t1700000001000ms\r\n");
  EXPECT_EQ(left("9007199254740991ms"), "HD t9007199254740991ms\r\n");
  EXPECT_EQ(left("+5ms"), "HD t5ms\r\n");
  EXPECT_EQ(left("0ms"), "HD t-1\r\n");
  EXPECT_EQ(left("-1ms"), "EN\r\n");
  EXPECT_EQ(left("-9007199254740991ms"), "EN\r\n");
}

TEST(ProtocolMeta, ATimeThatIsNoneIsRefusedAndStoresNothing) {
  PlainServer at;
  for (const std::string_view time : {"ms", "-ms", "+ms", "--1ms", "1.5ms", "1MS", "1Ms", "1m", "1s", "1mss", "1msms",
                                      "9007199254740992ms", "-9007199254740992ms", "18446744073709551616ms", "0x1ms"}) {
    for (const std::string_view letter : {"T", "N", "R"}) {
      const std::string reply =
          at.client.Send("ms a 1 " + std::string(letter) + std::string(time) + "\r\n1\r\nmg a\r\n");
      EXPECT_EQ(reply, "CLIENT_ERROR bad token in command line format\r\nEN\r\n");
    }
  }
}

// ---- replies ----

TEST(ProtocolMeta, WhatIsBehindAHiddenReplyWaitsForIt) {
  LoggedServer at;
  EXPECT_EQ(at.client.Send("ms a 1 q\r\n1\r\nmn\r\n"), "");
  EXPECT_EQ(at.client.ContinueOnce(), "");
  at.Commit();
  EXPECT_EQ(at.client.ContinueOnce(), "MN\r\n");
}

TEST(ProtocolMeta, AHiddenMissWaitsForTheDeletionThatItTellsOf) {
  LoggedServer at;
  EXPECT_EQ(at.Ask(&at.client, Set("a", "1")), "STORED\r\n");
  ProtocolClient other(&at.server);
  EXPECT_EQ(other.Send("md a q\r\n"), "");
  EXPECT_EQ(at.client.Send("mg a q\r\nmn\r\n"), "");
  at.Commit();
  EXPECT_EQ(at.client.ContinueOnce(), "MN\r\n");
}

TEST(ProtocolMeta, AFullLogRefusesOnlyWhatItWouldHaveToKeep) {
  LoggedServer at;
  EXPECT_EQ(at.Ask(&at.client, "ms a 1\r\n1\r\n"), "HD\r\n");
  at.log.SetHealth(LogView::Health::kFull);
  EXPECT_EQ(at.client.Send("mg a T30 v\r\n"), kFull);
  EXPECT_EQ(at.client.Send("ms a 1 q\r\n2\r\n"), kFull);
  EXPECT_EQ(at.client.Send("md a q\r\n"), kFull);
  EXPECT_EQ(at.client.Send("ma a N0 q\r\n"), kFull);
  EXPECT_EQ(at.client.Send("mg a v t\r\n"), "VA 1 t-1\r\n1\r\n");
}

TEST(ProtocolMeta, AKeyThatNoLineHoldsIsAlwaysShownInBase64) {
  PlainServer at;
  EXPECT_EQ(at.client.Send("ms AAEC 1 b\r\n1\r\nmg AAEC b k v\r\n"), "HD\r\nVA 1 kAAEC b\r\n1\r\n");
  // An atomic batch of the API does not know how a key came.
  Request set;
  set.verb = Verb::kSet;
  set.key = std::string_view("\0\1\2", 3);
  set.value = "2";
  Outcome outcome;
  at.server.store()->Execute(set, at.server.now, nullptr, &outcome);
  EXPECT_EQ(at.client.Send("mg AAEC b k v\r\n"), "VA 1 kAAEC b\r\n2\r\n");
}

TEST(ProtocolMeta, EachCommandIsCountedOnce) {
  PlainServer at;
  (void)at.client.SendInPieces("ms a 5\r\n12345\r\nmg a\r\nmd a q\r\nma a\r\nme a\r\nmg\r\nmn\r\n", 1);
  EXPECT_NE(at.client.Send("stats\r\n").find("STAT cmd_meta 6\r\n"), std::string::npos);
}

// ---- marks ----

TEST(ProtocolMeta, MarksLeaveNoRecord) {
  LoggedServer at;
  EXPECT_EQ(at.Ask(&at.client, "ms a 1 T100\r\n1\r\n"), "HD\r\n");
  EXPECT_EQ(at.client.Send("md a I\r\n"), "HD\r\n");
  EXPECT_EQ(at.client.Send("mg a v\r\n"), "VA 1 X W\r\n1\r\n");
  EXPECT_EQ(at.client.Send("mg a R200\r\n"), "HD Z X\r\n");
  EXPECT_EQ(at.RecordBytes(), 0);
  // An expiry is told.
  (void)at.client.Send("md a I T30\r\n");
  EXPECT_GT(at.RecordBytes(), 0);
}

TEST(ProtocolMeta, APlaceholderIsNoEntryForTheLogAndForDumps) {
  LoggedServer at;
  EXPECT_EQ(at.Ask(&at.client, "mg a N30 v\r\n"), "VA 0 W\r\n\r\n");
  EXPECT_EQ(at.Ask(&at.client, "mg a T60\r\n"), "HD Z\r\n");
  EXPECT_EQ(at.Ask(&at.client, "touch a 60\r\n"), "TOUCHED\r\n");
  EXPECT_EQ(at.Ask(&at.client, "get a\r\n"), "VALUE a 0 0\r\n\r\nEND\r\n");
  EXPECT_EQ(at.Ask(&at.client, "lru_crawler metadump all\r\n"), "OK\r\nEND\r\n");
  EXPECT_EQ(at.RecordBytes(), 0);
  // What a client puts there is.
  EXPECT_EQ(at.client.Send("append a 0 0 1\r\n1\r\n"), "");
  EXPECT_GT(at.RecordBytes(), 0);
  at.Commit();
  EXPECT_EQ(at.client.ContinueOnce(), "STORED\r\n");
  EXPECT_EQ(at.Ask(&at.client, "mg a v\r\n"), "VA 1\r\n1\r\n");
}

TEST(ProtocolMeta, APlaceholderThatWasInvalidatedKeepsItsExpiry) {
  PlainServer at;
  EXPECT_EQ(at.client.Send("mg a N1000 t\r\nmd a I\r\nmg a t\r\nmg a t\r\n"),
            "HD t1000 W\r\nHD\r\nHD t1000 X W\r\nHD t1000 Z X\r\n");
}

TEST(ProtocolMeta, AWinOutlastsTouchesAndEndsWithANewValue) {
  PlainServer at;
  const std::string value(5000, 'v');
  for (const std::string_view key : {"small", "large"}) {
    const std::string text = key == "small" ? "1" : value;
    const std::string name(key);
    (void)at.client.Send(Set(key, text));
    (void)at.client.Send("md " + name + " I\r\n");
    EXPECT_EQ(at.client.Send("mg " + name + "\r\n"), "HD X W\r\n");
    EXPECT_EQ(at.client.Send("touch " + name + " 100\r\n"), "TOUCHED\r\n");
    EXPECT_EQ(at.client.Send("touch " + name + " 0\r\n"), "TOUCHED\r\n");
    EXPECT_EQ(at.client.Send("mg " + name + " v\r\n"),
              "VA " + std::to_string(text.size()) + " Z X\r\n" + text + "\r\n");
    (void)at.client.Send("append " + name + " 0 0 1\r\n2\r\n");
    EXPECT_EQ(at.client.Send("mg " + name + "\r\n"), "HD\r\n");
  }
  at.server.store()->Verify();
}

TEST(ProtocolMeta, ReadersWhoKnowOfFreshnessFindAnInvalidatedEntryStale) {
  PlainServer at;
  (void)at.client.Send(Set("a", "1"));
  EXPECT_EQ(Peek(&at.server, "a").fresh_until_ms, kAlwaysFresh);
  (void)at.client.Send("md a I\r\n");
  EXPECT_EQ(Peek(&at.server, "a").fresh_until_ms, at.server.now.boot_ms);
  (void)at.client.Send(Set("a", "2"));
  EXPECT_EQ(Peek(&at.server, "a").fresh_until_ms, kAlwaysFresh);
}

TEST(ProtocolMeta, AnEntryPastItsFreshnessIsStale) {
  PlainServer at;
  Request set;
  set.verb = Verb::kSet;
  set.key = "a";
  set.value = "1";
  set.fresh_until_ms = at.server.now.boot_ms + 1000;
  set.expires_ms = at.server.now.boot_ms + 100'000;
  Outcome outcome;
  at.server.store()->Execute(set, at.server.now, nullptr, &outcome);
  EXPECT_EQ(at.client.Send("mg a v\r\n"), "VA 1\r\n1\r\n");
  at.server.Pass(1001);
  EXPECT_EQ(at.client.Send("get a\r\n"), "END\r\n");
  EXPECT_EQ(at.client.Send("mg a v N30\r\n"), "VA 1 X W\r\n1\r\n");
  EXPECT_EQ(at.client.Send("mg a v\r\n"), "VA 1 Z X\r\n1\r\n");
  EXPECT_EQ(at.client.Send("ms a 1\r\n2\r\nmg a v\r\n"), "HD\r\nVA 1\r\n2\r\n");
}

TEST(ProtocolMeta, AnInvalidationOvertakesALoad) {
  PlainServer at;
  (void)at.client.Send(Set("a", "1"));
  FillTicket ticket;
  CHECK(at.server.store()->BeginFill("a", FillOf::kAnyKey, at.server.now, &ticket));
  EXPECT_FALSE(ticket.voided());
  (void)at.client.Send("md a I\r\n");
  EXPECT_TRUE(ticket.voided());
  at.server.store()->EndFill("a", &ticket);
}

TEST(ProtocolMeta, AClientsTokenIsComparedByAllCommands) {
  PlainServer at;
  EXPECT_EQ(at.client.Send("ms a 1 E7\r\n1\r\n"), "HD\r\n");
  EXPECT_EQ(at.client.Send("gets a\r\n"), "VALUE a 0 1 7\r\n1\r\nEND\r\n");
  const uint64_t token = Peek(&at.server, "a").version;
  EXPECT_EQ(token, 7);
  Request incr;
  incr.verb = Verb::kIncr;
  incr.key = "a";
  incr.has_compare = true;
  incr.compare = 8;
  Outcome outcome;
  at.server.store()->Execute(incr, at.server.now, nullptr, &outcome);
  EXPECT_EQ(outcome.status, Status::kExists);
  EXPECT_EQ(at.client.Send("cas a 0 0 1 7\r\n2\r\n"), "STORED\r\n");
  EXPECT_GT(Peek(&at.server, "a").version, 7);
}

TEST(ProtocolMeta, ReadersLookAtTheTimeFromTheFirstMarkOn) {
  for (const std::string_view request :
       {"md a I\r\n", "mg none N30\r\n", "ma n T30\r\n", "ms a 1 C1 I\r\n2\r\n", "ms none 1 MA N30\r\n1\r\n"}) {
    PlainServer at;
    (void)at.client.Send("ms a 1 E7\r\n1\r\nms n 1\r\n1\r\nmg a v R30\r\nmd none\r\n");
    EXPECT_FALSE(at.server.store()->uses_time());
    (void)at.client.Send(request);
    EXPECT_TRUE(at.server.store()->uses_time());
  }
}

// ---- a database ----

TEST(ProtocolMeta, NothingIsVivifiedThatTheDatabaseHas) {
  StoreOptions options = ProtocolServer::SmallStore();
  options.has_backend = true;
  ProtocolServer server(ProtocolServer::DefaultOptions(), options);
  TestDatabase database(&server);
  database.rows = {{"a", "row"}};
  ProtocolClient client(&server);
  const auto ask = [&](std::string_view bytes) {
    std::string reply = client.Send(bytes);
    while (client.session()->waits() && database.Serve()) reply += client.ContinueOnce();
    return reply;
  };
  EXPECT_EQ(ask("mg a N30 v\r\n"), "VA 3\r\nrow\r\n");
  EXPECT_EQ(ask("mg b N30 v\r\n"), "VA 0 W\r\n\r\n");
  EXPECT_EQ(ask("mg b v\r\n"), "VA 0 Z\r\n\r\n");
  // A row that came later is seen as soon as the placeholder has left.
  database.rows["b"] = "late";
  server.Pass(31'000);
  EXPECT_EQ(ask("mg b v\r\n"), "VA 4\r\nlate\r\n");
  EXPECT_EQ(ask("md none I\r\n"), "NF\r\n");
  EXPECT_EQ(ask("ms none 1 MA N0\r\n1\r\n"), "HD\r\n");
}

TEST(ProtocolMeta, APlaceholderTakesNoDeletionsPlaceThatIsOnItsWayToTheDatabase) {
  LoggedServer at(/*has_backend=*/true);
  EXPECT_EQ(at.Ask(&at.client, Set("a", "1")), "STORED\r\n");
  EXPECT_EQ(at.Ask(&at.client, "md a\r\n"), "HD\r\n");
  EXPECT_EQ(at.Ask(&at.client, "mg a N30\r\n"), "EN\r\n");
}

// ---- large values ----

TEST(ProtocolMeta, AValueInPiecesHasItsTokenAndItsMarks) {
  PlainServer at;
  const std::string value(100'000, 'v');
  const std::string block = value + "\r\n";
  EXPECT_EQ(at.client.SendInPieces("ms a 100000 E1000 T100 c s k O7\r\n" + block, 1000), "HD c1000 s100000 ka O7\r\n");
  EXPECT_EQ(at.client.SendInPieces("ms a 100000 C999 c k\r\n" + block, 1000), "EX c0 ka\r\n");
  EXPECT_EQ(at.client.SendInPieces("ms a 100000 C2000 I\r\n" + block, 1000), "EX\r\n");
  EXPECT_EQ(at.client.SendInPieces("ms a 100000 C500 I E900 T5\r\n" + block, 1000), "HD\r\n");
  EXPECT_EQ(at.client.Send("mg a c t s\r\n"), "HD c900 t100 s100000 X W\r\n");
  EXPECT_EQ(at.client.SendInPieces("ms a 100000 q\r\n" + block, 1000), "");
  EXPECT_EQ(at.client.Send("mg a s t\r\n"), "HD s100000 t-1\r\n");
  at.server.store()->Verify();
}

TEST(ProtocolMeta, AnAppendToALargeValueTakesAToken) {
  PlainServer at;
  (void)at.client.Send(Set("a", std::string(100'000, 'v')));
  EXPECT_EQ(at.client.Send("ms a 1 MA E5 c s\r\n1\r\n"), "HD c5 s100001\r\n");
  EXPECT_EQ(at.client.Send("ms a 1 MA E6 c s\r\n2\r\n"), "HD c6 s100002\r\n");
  EXPECT_EQ(at.client.Send("ms a 1 MP E7 c s\r\n0\r\n"), "HD c7 s100003\r\n");
  EXPECT_EQ(at.client.Send("ms a 1 MA s\r\n3\r\nmg a c\r\n").substr(0, 14), "HD s100004\r\nHD");
  EXPECT_NE(Peek(&at.server, "a").version, 7);
  at.server.store()->Verify();
}

// ---- lines ----

// One server is fed the bytes as they are, others cut in two at every place: the same replies, versions included.
TEST(ProtocolMeta, BytesThatAreCutAnywhereAreTheSameBytes) {
  const std::string script =
      "ms a 3 c k O1 T100\r\nabc\r\nmg a v t f k s c h l O1\r\nmg n N30 q k v\r\nmg n q\r\nmd a I T30 q\r\nmg a v c\r\n"
      "ma i N0 J5 v c t\r\nma i MD D2 v\r\nms AAEC 1 b k\r\n1\r\nmg AAEC b k v\r\nms a x\r\nms a 2 z\r\n12\r\n"
      "me a\r\nms big 70000 k q\r\n" +
      std::string(70'000, 'b') + "\r\nmg big s k\r\nmd a x\r\nmg a v\r\nmn\r\n";
  std::string whole;
  {
    PlainServer at;
    whole = at.client.Send(script);
  }
  EXPECT_EQ(whole.substr(whole.size() - 4), "MN\r\n");
  const size_t big = script.find("bbbb");
  for (size_t place = 1; place<script.size(); place += place> big + 4 && place + 200 < script.size() ? 20'000 : 1) {
    PlainServer at;
    const std::string first = at.client.Send(std::string_view(script).substr(0, place));
    EXPECT_EQ(first + at.client.Send(std::string_view(script).substr(place)), whole);
  }
}

TEST(ProtocolMeta, KeysInBase64AreThoseThatWereEncoded) {
  for (size_t bytes = 1; bytes < 188; bytes++) {
    std::string key;
    for (size_t i = 0; i < bytes; i++) key.push_back(static_cast<char>(i * 37 + bytes));
    char text[Base64Bytes(188)];
    const char* const end = EncodeBase64(key, text);
    const std::string_view encoded(text, static_cast<size_t>(end - text));
    EXPECT_EQ(encoded.size(), Base64Bytes(bytes));
    char decoded[188];
    EXPECT_EQ(std::string_view(decoded, DecodeBase64(encoded, decoded)), key);
  }
  char decoded[8];
  for (const std::string_view wrong : {"", "A", "AA", "AAA", "====", "A===", "AA=A", "AA==AAAA", "AA A", "AA-_"}) {
    EXPECT_EQ(DecodeBase64(wrong, decoded), 0);
  }
}

TEST(ProtocolMeta, OneWrongFlagIsToldOfAndWhich) {
  const std::vector<std::pair<std::string_view, Reply>> lines = {
      {"a z Tx", Reply::kInvalidFlag},
      {"a Tx z", Reply::kInvalidFlag},
      {"a k k Tx", Reply::kDuplicateFlag},
      {"a T Jx", Reply::kBadInitial},
      {"a Jx T", Reply::kBadToken},
      {"a b Tx", Reply::kBadToken},
      {"a b Fx", Reply::kBadKey},
      {"a Fx Tx", Reply::kBadToken},
      {"a Tx b", Reply::kBadKey},
      {"a k k !", Reply::kBadFormat},
      {"a Oxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx", Reply::kOpaqueTooLong},
  };
  for (const auto& [words, reply] : lines) {
    MetaLine line;
    ParseMetaLine(Command::kMetaGet, words, &line);
    EXPECT_TRUE(line.has_error);
    EXPECT_EQ(static_cast<int>(line.error), static_cast<int>(reply));
  }
}

}  // namespace
}  // namespace cairn
