// Sessions: the order of replies, slots that are held or parked, back-pressure, and what hostile bytes come to. What
// each command answers is the matter of test/protocol/, with memcached's own replies.

#include "protocol/session.h"

#include <algorithm>
#include <atomic>
#include <span>
#include <string>
#include <thread>
#include <vector>

#include "protocol/limits.h"
#include "support/protocol_client.h"
#include "support/shard_log.h"
#include "test.h"

namespace cairn {
namespace {

using test::ProtocolClient;
using test::ProtocolServer;
using test::Set;
using Next = Session::Next;

std::string Repeat(std::string_view text, size_t times) {
  std::string all;
  for (size_t i = 0; i < times; i++) all += text;
  return all;
}

// Pipelines of every command, with everything that can be wrong with one.
const std::vector<std::string>& Pipelines() {
  static const std::vector<std::string> pipelines = {
      "set a 5 0 3\r\nabc\r\nget a\r\ngets a b\r\nget a a a\r\n",
      "add a 0 0 1\r\n1\r\nreplace a 0 0 1\r\n2\r\nappend a 0 0 1\r\n3\r\nprepend a 0 0 1\r\n4\r\ncas a 0 0 1 "
      "0\r\n5\r\n"
      "incr a 1\r\ndecr a 1\r\ntouch a 0\r\ngat 0 a\r\ngats 100 a b\r\ndelete a\r\nflush_all\r\nverbosity 0\r\n"
      "bogus\r\nget\r\nmn\r\nversion\r\n",
      "set a 0 0 1\r\nxyz\r\nget a\r\nset a 0 0 x\r\nversion\r\nset a x 0 9\r\nversion\r\n\r\n\r\n\r\n",
      "set a 0 0 1 noreply\r\n1\r\nadd a 0 0 1 noreply\r\n2\r\nget a\r\ndelete a noreply\r\nincr a 1\r\n",
      "set a 0 0 0\r\n\r\nset b 0 0 2\r\n\r\n\r\nget a b c a\nget b\n",
      "set k 0 0 6\r\nget a\n\r\nget k\r\nset k 0 0 5\r\nabcdefget k\r\nget k\r\n",
      "get " + std::string(251, 'k') + "\r\nget a " + std::string(300, 'k') + " a\r\nset " + std::string(251, 'k') +
          " 0 0 2\r\nxx\r\nset ok 0 0 2\r\nyy\r\nget ok\r\n",
      "get a b c d e f g h i j k l m n o p q r s t u v w x y z 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20 21 "
      "22 "
      "23 24 25 26 27 28 29 30 31 32 33 34 35 36 37 38 39 40 41 42 43 44 45 46 47 48 49 50\r\nset 50 0 0 2\r\nhi\r\n"
      "get 48 49 50\r\n",
      "set n 0 0 2\r\n10\r\ndecr n 1\r\nget n\r\nincr n x\r\nincr n\r\nset n 0 0 1\r\nx\r\nincr n 1\r\nincr m 1\r\n",
      "stats reset\r\nstats sizes\r\nstats bogus\r\nflush_all 0 noreply\r\nflush_all x\r\nflush_all "
      "100\r\nflush_all\r\n",
  };
  return pipelines;
}

std::string ReplyToWhole(std::string_view pipeline) {
  ProtocolServer server;
  ProtocolClient client(&server);
  return client.Send(pipeline);
}

TEST(ProtocolSession, APipelineAnswersTheSameByteByByte) {
  for (const std::string& pipeline : Pipelines()) {
    ProtocolServer server;
    ProtocolClient client(&server);
    EXPECT_EQ(client.SendInPieces(pipeline, 1), ReplyToWhole(pipeline)) << pipeline;
  }
}

TEST(ProtocolSession, APipelineAnswersTheSameWhereverItIsCut) {
  for (const std::string& pipeline : Pipelines()) {
    std::string whole = ReplyToWhole(pipeline);
    for (size_t cut = 1; cut < pipeline.size(); cut++) {
      ProtocolServer server;
      ProtocolClient client(&server);
      std::string reply = client.Send(std::string_view(pipeline).substr(0, cut));
      reply += client.Send(std::string_view(pipeline).substr(cut));
      ASSERT_EQ(reply, whole) << "cut at " << cut;
    }
  }
}

TEST(ProtocolSession, GetsOfOnePipelineSeeTheSetsBeforeThemAndNoneBehind) {
  ProtocolServer server;
  ProtocolClient client(&server);
  EXPECT_EQ(
      client.Send("get a\r\nset a 0 0 1\r\n1\r\nget a b\r\nget a\r\nset a 0 0 1\r\n2\r\nget a\r\n"),
      "END\r\nSTORED\r\nVALUE a 0 1\r\n1\r\nEND\r\nVALUE a 0 1\r\n1\r\nEND\r\nSTORED\r\nVALUE a 0 1\r\n2\r\nEND\r\n");
}

TEST(ProtocolSession, AGroupLargerThanItsRoomAnswersInOrder) {
  ProtocolServer server;
  ProtocolClient client(&server);
  std::string request;
  std::string expected;
  // Values of all sizes: some fit the group's scratch, some do not, some are pinned.
  for (int i = 0; i < 300; i++) {
    std::string key = "key" + std::to_string(i);
    std::string value(static_cast<size_t>(i) * 97 % 9000, static_cast<char>('a' + i % 26));
    ASSERT_EQ(client.Send(Set(key, value)), "STORED\r\n");
    request += "get " + key + " none" + std::to_string(i) + "\r\n";
    expected += "VALUE " + key + " 0 " + std::to_string(value.size()) + "\r\n" + value + "\r\nEND\r\n";
  }
  EXPECT_EQ(client.Send(request), expected);
  std::string multi = "get";
  for (int i = 0; i < 300; i++) multi += " key" + std::to_string(i);
  std::string multi_expected = expected;
  for (size_t at; (at = multi_expected.find("\r\nEND\r\n")) != std::string::npos;) multi_expected.erase(at, 5);
  EXPECT_EQ(client.Send(multi + "\r\n"), multi_expected + "END\r\n");
}

TEST(ProtocolSession, ALargeValueIsStoredHoweverItArrives) {
  std::string value;
  for (int i = 0; i < 300000; i++) value += static_cast<char>(i * 31);
  for (size_t piece : {size_t{1}, size_t{1000}, size_t{65536}, size_t{299999}, size_t{1000000}}) {
    ProtocolServer server;
    ProtocolClient client(&server);
    std::string bytes = Set("big", value) + "get big\r\n";
    EXPECT_EQ(client.SendInPieces(bytes, piece), "STORED\r\nVALUE big 0 300000\r\n" + value + "\r\nEND\r\n") << piece;
    EXPECT_FALSE(client.session()->is_in_large_request());
  }
}

TEST(ProtocolSession, ALargeValueIsStoredHoweverItLandsInItsPlace) {
  std::string value;
  for (int i = 0; i < 300000; i++) value += static_cast<char>(i * 31);
  for (size_t piece : {size_t{1}, size_t{1000}, size_t{65536}, size_t{299999}, size_t{1000000}}) {
    ProtocolServer server;
    ProtocolClient client(&server);
    const std::string first = "set big 0 0 300000\r\n" + value.substr(0, 100);
    EXPECT_EQ(client.Send(first), "");
    size_t landed = 0;
    EXPECT_EQ(client.SendToPlaces(value.substr(100) + "\r\nget big\r\n", piece, &landed),
              "STORED\r\nVALUE big 0 300000\r\n" + value + "\r\nEND\r\n")
        << piece;
    // Not the last bytes of it, if they come by themselves; nor what is behind kLandingBytesMax of one piece.
    EXPECT_GE(landed, 250'000u);
    EXPECT_EQ(server.store()->Stats().pinned_pages, 0);
    server.store()->Verify();
  }
}

TEST(ProtocolSession, ASenderThatLosesItsPlaceWhileBytesLandThereGoesOn) {
  ProtocolServer server;
  ProtocolClient slow(&server);
  // More than half of what can be received at a time.
  EXPECT_EQ(slow.Send("set slow 0 0 1000000\r\n"), "");
  std::vector<std::unique_ptr<ProtocolClient>> others;
  std::span<char> places[3];
  ASSERT_GT(slow.session()->Landing(places, 3), 0);
  server.Pass(kBodyStalledMs);
  std::string answer;
  for (int i = 0; i < 12; i++) {
    others.push_back(std::make_unique<ProtocolClient>(&server));
    EXPECT_EQ(others.back()->Send("set o" + std::to_string(i) + " 0 0 1000000\r\n"), "");
    answer += others.back()->Send(std::string(1'000'000, 'o') + "\r\n");
  }
  server.store()->Verify();
  std::fill(places[0].begin(), places[0].end(), 's');
  slow.session()->Landed(places[0].size(), server.now);
  server.store()->Verify();
  EXPECT_EQ(server.store()->Stats().pinned_pages, 0);
  size_t landed = 0;
  const std::string rest(1'000'000 - places[0].size(), 's');
  const std::string reply = slow.SendToPlaces(rest + "\r\nmn\r\n", 100'000, &landed);
  EXPECT_TRUE(reply == "STORED\r\nMN\r\n" || reply == "SERVER_ERROR out of memory storing object\r\nMN\r\n") << reply;
  // A client that leaves in between.
  EXPECT_EQ(slow.Send("set slow 0 0 1000000\r\n"), "");
  ASSERT_GT(slow.session()->Landing(places, 3), 0);
  slow.Disconnect();
  EXPECT_EQ(server.store()->Stats().pinned_pages, 0);
  server.store()->Verify();
}

TEST(ProtocolSession, ALargeValueThatIsNotCompletedIsAbandoned) {
  ProtocolServer server;
  uint64_t before = server.store()->Stats().charged_bytes;
  for (int i = 0; i < 200; i++) {
    ProtocolClient client(&server);
    EXPECT_EQ(client.Send("set big 0 0 500000\r\n" + std::string(1000, 'x')), "");
    EXPECT_TRUE(client.session()->is_in_large_request());
  }
  EXPECT_EQ(server.store()->Stats().charged_bytes, before);
  server.store()->Verify();
}

TEST(ProtocolSession, SlowSendersDoNotKeepOthersOut) {
  ProtocolServer server;
  // More of them than can be received at a time.
  std::vector<std::unique_ptr<ProtocolClient>> slow;
  const std::string most(100'000, 'x');
  for (int i = 0; i < 200; i++) {
    slow.push_back(std::make_unique<ProtocolClient>(&server));
    slow.back()->Send("set slow" + std::to_string(i) + " 0 0 100001\r\n" + most);
  }
  ProtocolClient client(&server);
  const std::string refused = "SERVER_ERROR out of memory storing object\r\n";
  const std::string set = "set big 0 0 500000\r\n" + std::string(500'000, 'y') + "\r\n";
  client.Send(Set("big", "old"));
  EXPECT_EQ(client.Send(set), refused);
  EXPECT_EQ(client.Send("get big\r\n"), "VALUE big 0 3\r\nold\r\nEND\r\n") << "it was only early";
  server.Pass(kBodyStalledMs);
  EXPECT_EQ(client.Send(set), "STORED\r\n");
  int stored = 0;
  int lost = 0;
  for (const auto& each : slow) {
    const std::string reply = each->Send("x\r\n");
    reply == "STORED\r\n" ? stored++ : lost++;
    if (reply != "STORED\r\n") EXPECT_EQ(reply, refused);
    EXPECT_EQ(each->Send("get none\r\n"), "END\r\n") << "it goes on with the next command";
  }
  EXPECT_GT(stored, 0);
  EXPECT_GT(lost, 0);
  server.store()->Verify();
}

TEST(ProtocolSession, ASenderThatGoesOnKeepsItsPlace) {
  ProtocolServer server;
  std::vector<std::unique_ptr<ProtocolClient>> slow;
  for (int i = 0; i < 200; i++) {
    slow.push_back(std::make_unique<ProtocolClient>(&server));
    slow.back()->Send("set slow" + std::to_string(i) + " 0 0 100010\r\n" + std::string(100'000, 'x'));
  }
  for (int step = 0; step < 6; step++) {
    server.Pass(kBodyStalledMs / 2);
    for (const auto& each : slow) each->Send("x");
  }
  ProtocolClient client(&server);
  const std::string set = "set big 0 0 500000\r\n" + std::string(500'000, 'y') + "\r\n";
  EXPECT_EQ(client.Send(set), "SERVER_ERROR out of memory storing object\r\n") << "no sender has lost its place";
  server.Pass(kBodyStalledMs);
  EXPECT_EQ(client.Send(set), "STORED\r\n");
}

TEST(ProtocolSession, ABadEndOfALargeValueKeepsTheOldOne) {
  ProtocolServer server;
  ProtocolClient client(&server);
  client.Send(Set("big", "old"));
  EXPECT_EQ(client.Send("set big 0 0 100000\r\n" + std::string(100000, 'x') + "abget big\r\n"),
            "CLIENT_ERROR bad data chunk\r\nVALUE big 0 3\r\nold\r\nEND\r\n");
  EXPECT_EQ(client.Send("add big 0 0 100000\r\n" + std::string(100000, 'x') + "\r\n"), "NOT_STORED\r\n");
  EXPECT_EQ(client.Send("replace none 0 0 100000\r\n" + std::string(100000, 'x') + "\r\n"), "NOT_STORED\r\n");
  EXPECT_EQ(client.Send("cas big 0 0 100000 1\r\n" + std::string(100000, 'x') + "\r\n"), "EXISTS\r\n");
  EXPECT_EQ(client.Send("append big 0 0 100000\r\n" + std::string(100000, 'x') + "\r\n"), "STORED\r\n");
  EXPECT_EQ(client.Send("get big\r\n"), "VALUE big 0 100003\r\nold" + std::string(100000, 'x') + "\r\nEND\r\n");
}

TEST(ProtocolSession, TheItemSizeCountsKeyFlagsAndHeader) {
  ProtocolServer server;
  ProtocolClient client(&server);
  EXPECT_EQ(client.Send(Set("a", std::string(1048516, 'v'))), "STORED\r\n");
  EXPECT_EQ(client.Send(Set("a", std::string(1048517, 'v'))), "SERVER_ERROR object too large for cache\r\n");
  EXPECT_EQ(client.Send("get a\r\n"), "END\r\n");
  EXPECT_EQ(client.Send("set a 1 0 1048512\r\n" + std::string(1048512, 'v') + "\r\n"), "STORED\r\n");
  EXPECT_EQ(client.Send("append a 0 0 1\r\nx\r\n"), "NOT_STORED\r\n");
}

TEST(ProtocolSession, ALineWithoutEndClosesTheConnection) {
  for (std::string_view start : {"x", " ", "set k", "gat 0 k"}) {
    ProtocolServer server;
    ProtocolClient client(&server);
    std::string line(start);
    line.resize(kLineBytesMax, 'x');
    EXPECT_EQ(client.Send(line), "");
    EXPECT_EQ(client.next, Next::kRead);
    EXPECT_EQ(client.Send("x"), "");
    EXPECT_EQ(client.next, Next::kClose);
    // Nothing is executed any more.
    EXPECT_EQ(client.Send("\r\nversion\r\n"), "");
    EXPECT_EQ(client.next, Next::kClose);
  }
}

TEST(ProtocolSession, AGetLineMayBeLongButNotWithoutBound) {
  ProtocolServer server;
  ProtocolClient client(&server);
  client.Send(Set("end", "x"));
  EXPECT_EQ(client.SendInPieces("get " + Repeat("miss ", 100000) + "end\r\n", 50000), "VALUE end 0 1\r\nx\r\nEND\r\n");
  std::string endless = "gets " + Repeat("miss ", 1000);
  while (client.next == Next::kRead) EXPECT_EQ(client.Send(endless), "");
  EXPECT_EQ(client.next, Next::kClose);
}

TEST(ProtocolSession, QuitAnswersWhatCameBeforeAndNothingBehind) {
  ProtocolServer server;
  ProtocolClient client(&server);
  EXPECT_EQ(client.Send("set a 0 0 1\r\n1\r\nget a\r\nquit\r\nset a 0 0 1\r\n2\r\n"),
            "STORED\r\nVALUE a 0 1\r\n1\r\nEND\r\n");
  EXPECT_EQ(client.next, Next::kClose);
  ProtocolClient other(&server);
  EXPECT_EQ(other.Send("get a\r\n"), "VALUE a 0 1\r\n1\r\nEND\r\n");
}

TEST(ProtocolSession, AnEndedClientIsAnsweredBeforeTheConnectionCloses) {
  ProtocolServer server;
  ProtocolClient client(&server);
  EXPECT_EQ(client.Send("get a\r\nget"), "END\r\n");
  EXPECT_EQ(client.End(), "");
  EXPECT_EQ(client.next, Next::kClose);
}

// ---- back-pressure ----

TEST(ProtocolSession, ASlowReaderBoundsTheOutput) {
  ProtocolServer server;
  ProtocolClient client(&server);
  std::string value(100000, 'v');
  client.Send(Set("a", value));
  std::string pipeline = Repeat("get a\r\n", 100) + "version\r\n";
  std::string reply = client.FeedOnce(pipeline);
  EXPECT_EQ(client.next, Next::kFlush);
  EXPECT_LT(reply.size(), kOutputBytesHigh + value.size() + 400);
  // Nothing has left: nothing goes on.
  client.backlog = reply.size();
  EXPECT_EQ(client.ContinueOnce(), "");
  EXPECT_EQ(client.next, Next::kFlush);
  EXPECT_EQ(client.FeedOnce(""), "");
  // All has left.
  client.backlog = 0;
  while (client.next == Next::kFlush) {
    std::string more = client.ContinueOnce();
    EXPECT_GT(more.size(), 0u);
    EXPECT_LT(more.size(), kOutputBytesHigh + value.size() + 400);
    reply += more;
  }
  EXPECT_EQ(client.next, Next::kRead);
  EXPECT_EQ(reply, Repeat("VALUE a 0 100000\r\n" + value + "\r\nEND\r\n", 100) + "VERSION 1.6.45\r\n");
}

TEST(ProtocolSession, AMultiGetStopsInTheMiddleAndGoesOnThere) {
  ProtocolServer server;
  ProtocolClient client(&server);
  std::string expected;
  std::string line = "gets";
  for (int i = 0; i < 100; i++) {
    std::string key = "k" + std::to_string(i);
    std::string value(static_cast<size_t>(i) * 500, static_cast<char>('a' + i % 26));
    client.Send(Set(key, value));
    line += " " + key + " none";
  }
  std::string reply = client.FeedOnce(line + "\r\nget k0\r\ndelete k0\r\n");
  EXPECT_EQ(client.next, Next::kFlush);
  // A get-type command in progress sees what others do meanwhile, key by key, as many gets would.
  ProtocolClient other(&server);
  other.Send("delete k99\r\n");
  while (client.goes_on()) reply += client.ContinueOnce();
  size_t at = 0;
  for (int i = 0; i < 99; i++) {
    std::string head = "VALUE k" + std::to_string(i) + " 0 " + std::to_string(i * 500) + " ";
    ASSERT_EQ(reply.substr(at, head.size()), head);
    at = reply.find("\r\n", at) + 2 + static_cast<size_t>(i) * 500 + 2;
  }
  EXPECT_EQ(reply.substr(at), "END\r\nVALUE k0 0 0\r\n\r\nEND\r\nDELETED\r\n");
}

TEST(ProtocolSession, ACallExecutesABoundedNumberOfRequests) {
  ProtocolServer server;
  ProtocolClient client(&server);
  constexpr size_t kRequests = 3 * kRequestsPerCallMax;
  const std::string all_misses = Repeat("END\r\n", kRequests);
  // One request a line, many keys a line, and what wants no reply.
  const std::string pipelines[] = {Repeat("get a\r\n", kRequests), "get" + Repeat(" a", kRequests) + "\r\n",
                                   Repeat("delete a noreply\r\n", kRequests)};
  const std::string replies[] = {all_misses, "END\r\n", ""};
  for (int i = 0; i < 3; i++) {
    std::string reply = client.FeedOnce(pipelines[i]);
    int calls = 1;
    EXPECT_EQ(client.next, Next::kYield);
    EXPECT_LE(reply.size(), (kRequestsPerCallMax + kGroupKeysMax) * 5);
    for (; client.next == Next::kYield; calls++) reply += client.ContinueOnce();
    EXPECT_EQ(client.next, Next::kRead);
    EXPECT_LE(calls, 4);
    EXPECT_EQ(reply, replies[i]);
  }
  // What comes meanwhile is kept, and a client that ends its side is answered all of it.
  std::string reply = client.FeedOnce(pipelines[0]);
  reply += client.FeedOnce("version\r\n");
  EXPECT_EQ(client.next, Next::kYield);
  reply += client.End();
  while (client.next == Next::kYield) reply += client.ContinueOnce();
  EXPECT_EQ(client.next, Next::kClose);
  EXPECT_EQ(reply, all_misses + "VERSION 1.6.45\r\n");
}

TEST(ProtocolSession, BytesThatComeWhileNothingIsExecutedAreKept) {
  ProtocolServer server;
  ProtocolClient client(&server);
  client.Send(Set("a", std::string(500000, 'v')));
  client.backlog = kOutputBytesHigh;
  client.FeedOnce("get a\r\n");
  EXPECT_EQ(client.next, Next::kFlush);
  client.FeedOnce("set b 0 0 1\r\n");
  client.FeedOnce("1\r\nget b\r\nquit\r\n");
  client.backlog = 0;
  std::string reply = client.ContinueOnce();
  EXPECT_EQ(client.next, Next::kClose);
  EXPECT_EQ(reply.substr(reply.find("STORED")), "STORED\r\nVALUE b 0 1\r\n1\r\nEND\r\n");
}

// ---- reply slots: held ----

TEST(ProtocolSlots, AReplyIsHeldUntilItsVersionIsCommittedAndTheOthersWaitBehindIt) {
  ProtocolServer server;
  ProtocolClient client(&server);
  server.service()->commits()->Activate(0);
  EXPECT_EQ(client.Send("version\r\n"), "VERSION 1.6.45\r\n");
  EXPECT_EQ(client.Send("set a 0 0 1\r\n1\r\nversion\r\nget none\r\n"), "");
  EXPECT_TRUE(client.session()->waits());
  EXPECT_EQ(client.next, Next::kRead);
  // Requests behind it are executed all the same.
  EXPECT_EQ(server.store()->entries(), 1);
  EXPECT_EQ(client.ContinueOnce(), "");
  server.service()->commits()->AdvanceAll(UINT64_MAX);
  EXPECT_EQ(client.ContinueOnce(), "STORED\r\nVERSION 1.6.45\r\nEND\r\n");
  EXPECT_FALSE(client.session()->waits());
  EXPECT_EQ(client.Send("get a\r\n"), "VALUE a 0 1\r\n1\r\nEND\r\n");
}

TEST(ProtocolSlots, ReadsOfWhatIsNotCommittedAreHeldForOthersToo) {
  ProtocolServer server;
  ProtocolClient writer(&server);
  ProtocolClient reader(&server);
  writer.Send("set old 0 0 1\r\n1\r\n");
  std::string reply = writer.Send("gets old\r\n");
  uint64_t version = std::stoull(reply.substr(14));
  server.service()->commits()->Activate(0);
  server.service()->commits()->AdvanceAll(version);
  EXPECT_EQ(writer.Send("set old 0 0 1\r\n2\r\n"), "");
  EXPECT_EQ(reader.Send("get none\r\nget old\r\nget none\r\n"), "END\r\n");
  EXPECT_EQ(reader.Send("add old 0 0 1\r\n3\r\n"), "");
  server.service()->commits()->AdvanceAll(version + 1);
  EXPECT_EQ(reader.ContinueOnce(), "VALUE old 0 1\r\n2\r\nEND\r\nEND\r\nNOT_STORED\r\n");
  EXPECT_EQ(writer.ContinueOnce(), "STORED\r\n");
}

TEST(ProtocolSlots, OnlyAReplyThatMayLeaveAtOnceLeavesItsValueInItsEntry) {
  ProtocolServer server;
  PinnedValues pinned;
  Workbench bench(server.service(), &pinned);
  const auto names = std::make_shared<ConnectionNames>();
  Session session(&bench, names, server.now);
  ProtocolClient writer(&server);
  const std::string value(kPinnedValueBytesMin, 'v');
  const std::string smaller(kPinnedValueBytesMin - 1, 's');
  const auto ask = [&](std::string_view bytes) {
    ByteBuffer out;
    session.Feed(bytes, 0, server.now, &out);
    std::string reply(out.view());
    size_t put_in = 0;
    pinned.TakeAll([&](const PinnedValue& found) {
      std::string bytes_of(found.bytes, '\0');
      server.store()->ReadPinned(found.pin, 0, bytes_of.data(), found.bytes);
      server.store()->Unpin(found.pin);
      reply.insert(found.at + put_in, bytes_of);
      put_in += found.bytes;
    });
    return std::make_pair(put_in, reply);
  };
  const std::string line = "VALUE a 0 " + std::to_string(value.size()) + "\r\n" + value + "\r\n";
  writer.Send(Set("a", value));
  writer.Send(Set("b", smaller));
  EXPECT_TRUE(ask("get a\r\n") == std::make_pair(value.size(), line + "END\r\n"));
  // In a group a value is pinned only if there is no room to copy it.
  EXPECT_TRUE(ask("get a a a a a a\r\n").second == line + line + line + line + line + line + "END\r\n");
  const std::string small_line = "VALUE b 0 " + std::to_string(smaller.size()) + "\r\n" + smaller + "\r\n";
  EXPECT_TRUE(ask("get b\r\n") == std::make_pair(size_t{0}, small_line + "END\r\n"));
  // Held replies are bytes in one buffer.
  server.service()->commits()->Activate(0);
  EXPECT_TRUE(ask("get a\r\n") == std::make_pair(size_t{0}, std::string()));
  server.service()->commits()->AdvanceAll(UINT64_MAX);
  ByteBuffer out;
  session.Continue(0, server.now, &out);
  EXPECT_TRUE(out.view() == line + "END\r\n");
  EXPECT_TRUE(ask("get a\r\n") == std::make_pair(value.size(), line + "END\r\n"));
  EXPECT_EQ(server.store()->Stats().pinned_pages, 0);
}

TEST(ProtocolSlots, BehindAHeldReplyAValueIsCopiedAlsoIfItIsCommitted) {
  StoreOptions options = ProtocolServer::SmallStore();
  options.shard_count = 1;  // versions follow the order of the requests
  ProtocolServer server(ProtocolServer::DefaultOptions(), options);
  PinnedValues pinned;
  Workbench bench(server.service(), &pinned);
  Session session(&bench, std::make_shared<ConnectionNames>(), server.now);
  ProtocolClient writer(&server);
  const std::string value(kPinnedValueBytesMin, 'v');
  writer.Send(Set("a", value));
  const std::string gets = writer.Send("gets a\r\n");
  const std::string first_line = gets.substr(0, gets.find("\r\n"));
  const uint64_t version = std::stoull(first_line.substr(first_line.rfind(' ') + 1));
  server.service()->commits()->Activate(version);
  ByteBuffer out;
  session.Feed(Set("b", "1") + "get a\r\n", 0, server.now, &out);
  EXPECT_EQ(out.view(), "");
  EXPECT_TRUE(pinned.empty());
  server.service()->commits()->AdvanceAll(UINT64_MAX);
  session.Continue(0, server.now, &out);
  EXPECT_TRUE(out.view() == "STORED\r\nVALUE a 0 " + std::to_string(value.size()) + "\r\n" + value + "\r\nEND\r\n");
  EXPECT_TRUE(pinned.empty());
}

TEST(ProtocolSlots, SlotsLeaveOneByOneAsTheirVersionsAreCommitted) {
  // One shard, so that versions follow the order of the requests.
  StoreOptions options = ProtocolServer::SmallStore();
  options.shard_count = 1;
  ProtocolServer server(ProtocolServer::DefaultOptions(), options);
  ProtocolClient client(&server);
  client.Send("set n 0 0 1\r\n0\r\n");
  uint64_t version = std::stoull(client.Send("gets n\r\n").substr(12));
  server.service()->commits()->Activate(version);
  EXPECT_EQ(client.Send("incr n 1\r\nincr n 1\r\nmn\r\nincr n 1\r\ntouch n 0\r\ndelete n\r\n"), "");
  const char* expected[] = {"1\r\n", "2\r\nMN\r\n", "3\r\n", "TOUCHED\r\n", "DELETED\r\n"};
  for (uint64_t i = 0; i < 5; i++) {
    server.service()->commits()->AdvanceAll(version + 1 + i);
    EXPECT_EQ(client.ContinueOnce(), expected[i]);
  }
  EXPECT_FALSE(client.session()->waits());
}

TEST(ProtocolSlots, NothingIsHeldForNoreply) {
  ProtocolServer server;
  ProtocolClient client(&server);
  server.service()->commits()->Activate(0);
  EXPECT_EQ(client.Send("set a 0 0 1 noreply\r\n1\r\nmn\r\n"), "MN\r\n");
  EXPECT_FALSE(client.session()->waits());
}

TEST(ProtocolSlots, HeldRepliesAreBoundedInNumberAndBytes) {
  ProtocolServer server;
  ProtocolClient client(&server);
  server.service()->commits()->Activate(0);
  std::string pipeline;
  for (size_t i = 0; i < kHeldMarksMax + 100; i++) pipeline += Set("k" + std::to_string(i % 50), "v");
  EXPECT_EQ(client.FeedOnce(pipeline), "");
  EXPECT_EQ(client.next, Next::kWait);
  uint64_t sets = server.store()->Stats().sets;
  EXPECT_EQ(sets, kHeldMarksMax);
  EXPECT_EQ(client.ContinueOnce(), "");
  EXPECT_EQ(client.next, Next::kWait);
  server.service()->commits()->Deactivate();
  EXPECT_EQ(client.ContinueOnce(), Repeat("STORED\r\n", kHeldMarksMax + 100));
  EXPECT_EQ(client.next, Next::kRead);

  client.Send(Set("big", std::string(400000, 'b')));
  server.service()->commits()->Activate(0);
  EXPECT_EQ(client.FeedOnce(Repeat("get big\r\n", 20)), "");
  EXPECT_EQ(client.next, Next::kWait);
  server.service()->commits()->Deactivate();
  size_t bytes = 0;
  do bytes += client.ContinueOnce().size();
  while (client.next == Next::kFlush);
  EXPECT_EQ(bytes, 20 * (size_t{400000} + 27));
}

TEST(ProtocolSlots, QuitWaitsForHeldReplies) {
  ProtocolServer server;
  ProtocolClient client(&server);
  server.service()->commits()->Activate(0);
  EXPECT_EQ(client.Send("set a 0 0 1\r\n1\r\nquit\r\n"), "");
  EXPECT_EQ(client.next, Next::kWait);
  server.service()->commits()->Deactivate();
  EXPECT_EQ(client.ContinueOnce(), "STORED\r\n");
  EXPECT_EQ(client.next, Next::kClose);
}

// ---- reply slots: parked ----

TEST(ProtocolSlots, AParkedRequestStopsItsOwnConnectionOnly) {
  ProtocolServer server;
  ProtocolClient parked(&server);
  ProtocolClient other(&server);
  EXPECT_EQ(parked.Send("version\r\ndebugpark 7\r\nset a 0 0 1\r\n1\r\nget a\r\n"), "VERSION 1.6.45\r\n");
  EXPECT_EQ(parked.next, Next::kWait);
  EXPECT_TRUE(parked.session()->waits());
  EXPECT_EQ(other.Send("get a\r\nset b 0 0 1\r\n2\r\n"), "END\r\nSTORED\r\n");
  EXPECT_EQ(parked.ContinueOnce(), "");
  EXPECT_EQ(parked.next, Next::kWait);
  EXPECT_EQ(other.Send("debugresume 7 loaded it\r\n"), "OK\r\n");
  EXPECT_EQ(parked.ContinueOnce(), "loaded it\r\nSTORED\r\nVALUE a 0 1\r\n1\r\nEND\r\n");
  EXPECT_EQ(parked.next, Next::kRead);
  EXPECT_EQ(server.service()->test_loads()->size(), 0);
}

TEST(ProtocolSlots, TheFirstAnswerToATicketCounts) {
  TestLoads loads;
  const uint64_t load = loads.Begin("7", Now{});
  ASSERT_NE(load, uint64_t{0});
  EXPECT_TRUE(loads.Poll(load) == ReadThrough::Load::kPending);
  EXPECT_TRUE(loads.Resolve("7", "first"));
  EXPECT_FALSE(loads.Resolve("7", "second"));
  EXPECT_TRUE(loads.Poll(load) == ReadThrough::Load::kLoaded);
  EXPECT_EQ(loads.TextOf(load), "first");
  loads.Leave(load);
  EXPECT_FALSE(loads.Resolve("7", "third")) << "no request waits for it any more";
}

TEST(ProtocolSlots, ATicketIsOpenOnceAndGoneWithItsConnection) {
  ProtocolServer server;
  ProtocolClient other(&server);
  EXPECT_EQ(other.Send("debugresume 7 x\r\n"), "NOT_FOUND\r\n");
  {
    ProtocolClient parked(&server);
    parked.Send("debugpark 7\r\n");
    EXPECT_EQ(other.Send("debugpark 7\r\n"), "SERVER_ERROR that ticket is taken\r\n");
  }
  EXPECT_EQ(server.service()->test_loads()->size(), 0);
  EXPECT_EQ(other.Send("debugresume 7 x\r\n"), "NOT_FOUND\r\n");
  std::vector<std::unique_ptr<ProtocolClient>> clients;
  for (size_t i = 0; i < kTestLoadsMax; i++) {
    clients.push_back(std::make_unique<ProtocolClient>(&server));
    EXPECT_EQ(clients.back()->Send("debugpark " + std::to_string(i) + "\r\n"), "");
  }
  EXPECT_EQ(other.Send("debugpark 1000000\r\n"), "SERVER_ERROR too many requests are parked\r\n");
}

TEST(ProtocolSlots, HeldAndParkedKeepTheOrder) {
  ProtocolServer server;
  ProtocolClient client(&server);
  ProtocolClient other(&server);
  EXPECT_EQ(other.Send("debughold 0\r\n"), "OK\r\n");
  EXPECT_EQ(client.Send("set a 0 0 1\r\n1\r\ndebugpark 1\r\nset b 0 0 1\r\n2\r\n"), "");
  EXPECT_EQ(other.Send("debugresume 1 one\r\n"), "OK\r\n");
  EXPECT_EQ(client.ContinueOnce(), "");
  EXPECT_EQ(client.next, Next::kRead);
  EXPECT_EQ(server.store()->entries(), 2);
  EXPECT_EQ(other.Send("debugcommit all\r\n"), "OK\r\n");
  EXPECT_EQ(client.ContinueOnce(), "STORED\r\none\r\nSTORED\r\n");
}

TEST(ProtocolSlots, WithoutRoomInTheLogARequestIsParkedAndExecutedOnce) {
  StoreOptions store_options = ProtocolServer::SmallStore();
  store_options.ring_bytes = 2 * kRingBytesMin;
  ProtocolServer server(ProtocolServer::DefaultOptions(), store_options);
  test::ShardLog logs[] = {{server.store(), 0}, {server.store(), 1}};
  const auto fill = [&] {
    for (test::ShardLog& log : logs) log.Fill();
  };
  size_t taken = 0;
  const auto take = [&] {
    for (test::ShardLog& log : logs) taken += log.Take().size();
  };
  std::string big(100000, 'b');
  const std::string requests[] = {
      "set a 0 0 1\r\n1\r\n",    Set("big", big),   "incr a 5\r\n",
      "append a 0 0 1\r\n0\r\n", "touch a 100\r\n", "set a 0 0 2000000\r\n" + std::string(2000000, 'x') + "\r\n",
      "set a 0 0 1\r\n1\r\n",    "delete a\r\n",    "flush_all\r\n"};
  const char* replies[] = {"STORED\r\n", "STORED\r\n",  "6\r\n",
                           "STORED\r\n", "TOUCHED\r\n", "SERVER_ERROR object too large for cache\r\n",
                           "STORED\r\n", "DELETED\r\n", "OK\r\n"};
  for (size_t piece : {size_t{1} << 30, size_t{7}}) {
    ProtocolClient client(&server);
    take();
    size_t records = taken;
    for (size_t i = 0; i < std::size(requests); i++) {
      fill();
      std::string request = requests[i] + "mn\r\n";
      std::string reply;
      size_t at = 0;
      while (at < request.size() && client.next == Next::kRead) {
        reply += client.Send(std::string_view(request).substr(at, piece));
        at += piece;
      }
      ASSERT_EQ(reply, "") << requests[i].substr(0, 40);
      ASSERT_EQ(client.next, Next::kWait) << requests[i].substr(0, 40);
      take();
      ASSERT_EQ(taken, records) << requests[i].substr(0, 40);
      reply = client.ContinueOnce();
      while (at < request.size()) {
        reply += client.Send(std::string_view(request).substr(at, piece));
        at += piece;
      }
      ASSERT_EQ(reply, std::string(replies[i]) + "MN\r\n") << requests[i].substr(0, 40);
      records += requests[i] == "flush_all\r\n" ? std::size(logs) : 1;
    }
    take();
    EXPECT_EQ(taken, records);
  }
}

// ---- time ----

TEST(ProtocolSession, DebugtimeMovesTheClock) {
  ProtocolServer server;
  ProtocolClient client(&server);
  EXPECT_EQ(client.Send("set a 0 10 1\r\n1\r\ndebugtime 9\r\nget a\r\n"),
            "STORED\r\nOK\r\nVALUE a 0 1\r\n1\r\nEND\r\n");
  EXPECT_EQ(client.Send("debugtime 1\r\n"), "OK\r\n");
  EXPECT_EQ(client.Send("get a\r\n"), "END\r\n");
  EXPECT_EQ(client.Send("debugtime p\r\nset b 0 5 1\r\n1\r\n"), "OK\r\nSTORED\r\n");
  server.Pass(60'000);
  EXPECT_EQ(client.Send("get b\r\ndebugtime r\r\nmn\r\n"), "VALUE b 0 1\r\n1\r\nEND\r\nOK\r\nMN\r\n");
  EXPECT_EQ(client.Send("get b\r\n"), "END\r\n");
  EXPECT_EQ(client.Send("debugtime x\r\ndebugtime\r\ndebugtime -1\r\n"),
            "ERROR\r\nCLIENT_ERROR bad command line format\r\nERROR\r\n");
}

TEST(ProtocolSession, TestCommandsAreUnknownUnlessAskedFor) {
  Service::Options options = ProtocolServer::DefaultOptions();
  options.test_commands = false;
  ProtocolServer server(options);
  ProtocolClient client(&server);
  EXPECT_EQ(client.Send("debugtime 100\r\ndebugpark 1\r\ndebugresume 1 x\r\ndebughold 0\r\ndebugcommit all\r\n"),
            Repeat("ERROR\r\n", 5));
  EXPECT_EQ(client.Send("debugpark 1 noreply\r\n"), "");
}

TEST(ProtocolSession, ADelayedFlushComesAtItsTime) {
  ProtocolServer server;
  ProtocolClient client(&server);
  EXPECT_EQ(client.Send("set a 0 0 1\r\n1\r\nflush_all 10\r\n"), "STORED\r\nOK\r\n");
  server.Pass(9'999);
  EXPECT_EQ(client.Send("get a\r\n"), "VALUE a 0 1\r\n1\r\nEND\r\n");
  server.Pass(1);
  EXPECT_EQ(client.Send("get a\r\nset a 0 0 1\r\n2\r\nget a\r\n"), "END\r\nSTORED\r\nVALUE a 0 1\r\n2\r\nEND\r\n");
  // A later one replaces it, also one for a time that has passed.
  EXPECT_EQ(client.Send("flush_all 10\r\nflush_all 2592001\r\n"), "OK\r\nOK\r\n");
  server.Pass(20'000);
  EXPECT_EQ(client.Send("get a\r\n"), "VALUE a 0 1\r\n2\r\nEND\r\n");
}

// ---- stats ----

TEST(ProtocolSession, StatsCountWhatMemcachedCounts) {
  ProtocolServer server;
  ProtocolClient client(&server);
  client.Send("get warm\r\nstats reset\r\n");
  const std::string sent =
      "set a 0 0 1\r\n1\r\nget a\r\nget none\r\nincr a 1\r\nincr none 1\r\ndecr a 1\r\ndecr none 1\r\n"
      "delete none\r\ndelete a\r\ntouch none 0\r\ncas none 0 0 1 1\r\n1\r\nset a 0 0 1\r\n1\r\n"
      "cas a 0 0 1 0\r\n1\r\ntouch a 0\r\ngat 0 a\r\ngat 0 none\r\nflush_all\r\n";
  client.Send(sent);
  std::string stats = client.Send("stats\r\n");
  for (std::string_view line :
       {"cmd_get 2",     "cmd_set 4",       "cmd_flush 1",        "cmd_touch 4",         "get_hits 1",
        "get_misses 1",  "delete_misses 1", "delete_hits 1",      "incr_misses 1",       "incr_hits 1",
        "decr_misses 1", "decr_hits 1",     "cas_misses 1",       "cas_hits 0",          "cas_badval 1",
        "touch_hits 2",  "touch_misses 2",  "curr_connections 1", "total_connections 0", "curr_items 0"}) {
    EXPECT_NE(stats.find("STAT " + std::string(line) + "\r\n"), std::string::npos) << line;
  }
  const std::string bytes_read =
      "STAT bytes_read " + std::to_string(sent.size() + std::string_view("stats\r\n").size()) + "\r\n";
  EXPECT_NE(stats.find(bytes_read), std::string::npos) << stats;
}

TEST(ProtocolSession, StatsConnsNamesTheConnections) {
  ProtocolServer server;
  ProtocolClient one(&server);
  ProtocolClient two(&server);
  two.Send("mn\r\n");
  server.Pass(3'000);
  std::string stats = one.Send("stats conns\r\n");
  EXPECT_EQ(stats,
            "STAT 1:addr tcp:test\r\nSTAT 1:listen_addr tcp:here\r\nSTAT 1:state conn_read\r\n"
            "STAT 1:secs_since_last_cmd 0\r\nSTAT 2:addr tcp:test\r\nSTAT 2:listen_addr tcp:here\r\n"
            "STAT 2:state conn_read\r\nSTAT 2:secs_since_last_cmd 3\r\nEND\r\n");
  two.Disconnect();
  EXPECT_EQ(one.Send("stats conns\r\n").find("STAT 2:"), std::string::npos);
}

// ---- hostile bytes ----

TEST(ProtocolHostile, TwoGibibytesThatAreAnnouncedAndNotSentTakeNoMemory) {
  ProtocolServer server;
  uint64_t before = server.store()->Stats().charged_bytes;
  for (std::string_view verb : {"set", "add", "append", "cas"}) {
    ProtocolClient client(&server);
    EXPECT_EQ(client.Send(std::string(verb) + " a 0 0 2147483645 1\r\n"), "");
    EXPECT_EQ(client.Send(std::string(60000, 'x')), "");
    EXPECT_EQ(client.next, Next::kRead);
    EXPECT_TRUE(client.session()->is_in_large_request()) << "or it may stay like that forever";
  }
  EXPECT_EQ(server.store()->Stats().charged_bytes, before);
}

TEST(ProtocolHostile, ASessionInTheMiddleOfALargeRequestSaysSo) {
  ProtocolServer server;
  for (std::string_view verb : {"set", "append", "prepend", "cas"}) {
    for (std::string_view length : {"100000", "2000000", "100000 1 1 1"}) {
      ProtocolClient client(&server);
      EXPECT_FALSE(client.session()->is_in_large_request());
      client.Send(std::string(verb) + " a 0 0 " + std::string(length) + (verb == "cas" ? " 1" : "") + "\r\n");
      client.Send("x");
      EXPECT_TRUE(client.session()->is_in_large_request()) << verb << " " << length;
    }
  }
  for (std::string_view sent :
       {"get a", "set a 0 0 100\r\nx", "set a 0 0 100 1 1\r\nx", "append a 0 0 100\r\n", "mn\r\n"}) {
    ProtocolClient client(&server);
    client.Send(sent);
    EXPECT_FALSE(client.session()->is_in_large_request()) << sent;
  }
  ProtocolClient client(&server);
  std::string line = "get";
  while (line.size() < 100'000) line += " key";
  client.Send(line);
  EXPECT_TRUE(client.session()->is_in_large_request()) << "of keys";
  client.Send("\r\n");
  EXPECT_FALSE(client.session()->is_in_large_request());
  client.Send("append a 0 0 100000\r\n" + std::string(100'000, 'x') + "\r\n");
  EXPECT_FALSE(client.session()->is_in_large_request());
  client.Send("set a 0 0 3000000\r\n" + std::string(3'000'000, 'x') + "\r\n");
  EXPECT_FALSE(client.session()->is_in_large_request());
}

TEST(ProtocolHostile, EveryLengthThatIsNotThatOfTheBlockLeavesTheServerWell) {
  ProtocolServer server;
  const std::string block(600, 'v');
  for (std::string_view verb : {"set", "append", "cas"}) {
    std::vector<std::string> lengths = {"65534", "65536", "65537",      "70000",      "1048516",    "1048517",
                                        "-1",    "",      "4294967295", "2147483647", "9999999999", "1e3"};
    for (int length = 0; length < 700; length++) lengths.push_back(std::to_string(length));
    for (const std::string& length : lengths) {
      ProtocolClient client(&server);
      client.Send(std::string(verb) + " a 0 0 " + length + " 1\r\n" + block + "\r\nmn\r\nget a\r\n");
      client.SendInPieces(std::string(verb) + " a 0 0 " + length + " 1\r\n" + block + "\r\nmn\r\nget a\r\n", 100);
    }
  }
  server.store()->Verify();
  ProtocolClient client(&server);
  EXPECT_EQ(client.Send("flush_all\r\nmn\r\n"), "OK\r\nMN\r\n");
}

TEST(ProtocolHostile, EveryPrefixOfEveryPipelineLeavesTheServerWell) {
  ProtocolServer server;
  for (const std::string& pipeline : Pipelines()) {
    for (size_t length = 0; length < pipeline.size(); length++) {
      ProtocolClient client(&server);
      client.Send(std::string_view(pipeline).substr(0, length));
    }
  }
  server.store()->Verify();
  ProtocolClient client(&server);
  EXPECT_EQ(client.Send("mn\r\n"), "MN\r\n");
}

TEST(ProtocolHostile, PipelinesWithFlippedBytesLeaveTheServerWell) {
  test::Random random(test::Seed());
  ProtocolServer server;
  for (int round = 0; round < 3000; round++) {
    std::string bytes = Pipelines()[random.Below(Pipelines().size())];
    for (uint64_t flips = random.Between(1, 6); flips > 0; flips--) {
      bytes[random.Below(bytes.size())] =
          static_cast<char>(random.OneIn(2) ? random.Next() : "0123456789 \r\n"[random.Below(13)]);
    }
    ProtocolClient client(&server);
    client.SendInPieces(bytes, random.Between(1, bytes.size()));
  }
  server.store()->Verify();
  ProtocolClient client(&server);
  EXPECT_EQ(client.Send("flush_all\r\nmn\r\n"), "OK\r\nMN\r\n");
}

TEST(ProtocolHostile, RandomBytesAreAnsweredOrClosed) {
  test::Random random(test::Seed());
  ProtocolServer server;
  for (int round = 0; round < 300; round++) {
    ProtocolClient client(&server);
    for (int i = 0; i < 20 && client.next == Next::kRead; i++) client.Send(random.Bytes(random.Below(500)));
  }
  server.store()->Verify();
}

// ---- sessions of several threads ----

TEST(ProtocolService, WakersAreCalledUntilTheyAreRemoved) {
  struct CountingWaker : Waker {
    void Wake() override { count++; }
    int count = 0;
  };
  ProtocolServer server;
  auto waker = std::make_shared<CountingWaker>();
  server.service()->AddWaker(waker);
  server.service()->WakeAll();
  EXPECT_EQ(waker->count, 1);
  ProtocolClient client(&server);
  client.Send("debugcommit all\r\n");
  EXPECT_EQ(waker->count, 2);
  server.service()->RemoveWaker(waker.get());
  server.service()->WakeAll();
  EXPECT_EQ(waker->count, 2);
}

// Every thread has its own workbench and sessions, as event loops have; they share the service. Two of them write
// and read replies that are held, while the others advance marks, resolve tickets, wake, and look at what there is to
// see.
TEST(ProtocolService, ThreadsShareAService) {
  struct FlagWaker : Waker {
    void Wake() override { woken.store(true); }
    std::atomic<bool> woken{false};
  };
  ProtocolServer server;
  Service* service = server.service();
  service->commits()->Activate(0);
  constexpr int kRounds = 300;
  std::atomic<int> running{2};
  const Now now = server.now;

  auto front = [&](int which) {
    Workbench bench(service);
    auto waker = std::make_shared<FlagWaker>();
    service->AddWaker(waker);
    for (int round = 0; round < kRounds; round++) {
      auto names = std::make_shared<ConnectionNames>(ConnectionNames{"tcp:" + std::to_string(which), "here"});
      Session session(&bench, names, now);
      std::string ticket = std::to_string(round * 2 + which);
      std::string request = Set("k" + ticket, "value") + "get k" + ticket + " k0 k1\r\ndebugpark " + ticket +
                            "\r\nincr n 1\r\nget none\r\n";
      ByteBuffer out;
      Next next = session.Feed(request, 0, now, &out);
      while (next != Next::kRead || session.waits()) {
        if (!waker->woken.exchange(false)) std::this_thread::yield();
        next = session.Continue(0, now, &out);
      }
      std::string reply(out.view());
      EXPECT_EQ(reply.substr(0, 8), "STORED\r\n");
      EXPECT_NE(reply.find("VALUE k" + ticket + " 0 5\r\nvalue\r\n"), std::string::npos);
      EXPECT_NE(reply.find("END\r\nticket " + ticket + "\r\n"), std::string::npos);
      EXPECT_EQ(reply.substr(reply.size() - 5), "END\r\n");
    }
    service->RemoveWaker(waker.get());
    running--;
  };
  std::thread first(front, 0);
  std::thread second(front, 1);
  std::thread looker([&] {
    while (running.load() > 0) {
      service->ReadCounters();
      for (const Service::Connection& connection : service->Connections(now))
        EXPECT_EQ(connection.names->listener, "here");
      std::this_thread::yield();
    }
  });
  uint64_t committed = 0;
  int ticket = 0;
  while (running.load() > 0) {
    committed += 7;
    service->commits()->AdvanceAll((uint64_t{1} << 44) + committed);
    for (int i = 0; i < 2 * kRounds; i++) {
      std::string id = std::to_string(ticket++ % (2 * kRounds));
      static_cast<void>(service->test_loads()->Resolve(id, "ticket " + id));
    }
    service->WakeAll();
    std::this_thread::yield();
  }
  first.join();
  second.join();
  looker.join();
  EXPECT_EQ(service->test_loads()->size(), 0);
  EXPECT_EQ(service->ConnectionCount(), 0);
  EXPECT_EQ(service->ReadCounters()[Counter::kConnections], 2 * kRounds);
}

}  // namespace
}  // namespace cairn
