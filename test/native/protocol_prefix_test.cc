// stats detail: which requests are counted by the prefix of their keys, in both protocols. Debian's memcached 1.6.18
// gives the same counts.

#include <string>
#include <string_view>
#include <thread>
#include <vector>

#include "protocol/prefix_stats.h"
#include "support/binary_packet.h"
#include "support/protocol_client.h"
#include "test.h"

namespace cairn {
namespace {

using test::KeyPacket;
using test::ProtocolClient;
using test::ProtocolServer;
using test::Set;
using test::StorePacket;
using test::TouchPacket;

Service::Options Counting(char delimiter = ':') {
  Service::Options options = ProtocolServer::DefaultOptions();
  options.prefix_delimiter = delimiter;
  options.counts_prefixes = true;
  return options;
}

// What is counted of these requests.
std::string CountsOf(std::string_view requests) {
  ProtocolServer server(Counting());
  ProtocolClient client(&server);
  client.Send(requests);
  return client.Send("stats detail dump\r\n");
}

TEST(PrefixStats, CountGetsSetsAndDeletionsWhateverBecomesOfThem) {
  EXPECT_EQ(CountsOf("get a:1 plain b:2\r\ngets a:3\r\ngat 0 a:1\r\n"),
            "PREFIX a get 3 hit 0 set 0 del 0\r\nPREFIX b get 1 hit 0 set 0 del 0\r\nEND\r\n");
  EXPECT_EQ(CountsOf(Set("a:1", "v") + "get a:1\r\ngat 0 a:1\r\nadd a:1 0 0 1\r\nv\r\nappend a:2 0 0 1\r\nv\r\n"),
            "PREFIX a get 2 hit 2 set 3 del 0\r\nEND\r\n");
  EXPECT_EQ(CountsOf("delete a:1\r\nset a:1 0 0 1 noreply\r\nv\r\ndelete a:1\r\n"),
            "PREFIX a get 0 hit 0 set 1 del 2\r\nEND\r\n");
  // The key begins with the delimiter: an empty prefix.
  EXPECT_EQ(CountsOf("get :x :y a:b:c\r\n"),
            "PREFIX  get 2 hit 0 set 0 del 0\r\nPREFIX a get 1 hit 0 set 0 del 0\r\nEND\r\n");
}

TEST(PrefixStats, CountSetsWhoseValueIsRefusedWrongOrLarge) {
  EXPECT_EQ(CountsOf("set a:1 0 0 3\r\n1\r\n\r\n\r\n"), "PREFIX a get 0 hit 0 set 1 del 0\r\nEND\r\n");
  EXPECT_EQ(CountsOf(Set("a:1", std::string(2'000'000, 'v'))), "PREFIX a get 0 hit 0 set 1 del 0\r\nEND\r\n");
  EXPECT_EQ(CountsOf(Set("a:1", std::string(kBodyBufferedBytesMax + 1, 'v')) + "get a:1\r\n"),
            "PREFIX a get 1 hit 1 set 1 del 0\r\nEND\r\n");
}

TEST(PrefixStats, ASetThatComesInPiecesIsCountedOnce) {
  ProtocolServer server(Counting());
  ProtocolClient client(&server);
  client.SendInPieces(Set("a:1", "value") + Set("a:2", std::string(kBodyBufferedBytesMax + 1, 'v')), 7);
  EXPECT_EQ(client.Send("stats detail dump\r\n"), "PREFIX a get 0 hit 0 set 2 del 0\r\nEND\r\n");
}

TEST(PrefixStats, OtherCommandsAreNotCounted) {
  EXPECT_EQ(CountsOf("ms a:1 1\r\nv\r\nmg a:1 v\r\nmd a:1\r\nma a:1 N0\r\nincr a:1 1\r\ntouch a:1 0\r\nme a:1\r\n"),
            "END\r\n");
}

TEST(PrefixStats, OfTheBinaryProtocolAreTheSame) {
  ProtocolServer server(Counting());
  ProtocolClient binary(&server);
  ProtocolClient text(&server);
  for (const uint8_t get : {0x00, 0x09, 0x0c, 0x0d}) binary.Send(KeyPacket(get, "q:1"));
  binary.Send(StorePacket(0x01, "q:1", "v") + TouchPacket(0x1d, "q:1", 0) + TouchPacket(0x1c, "q:1", 0));
  binary.Send(StorePacket(0x01, "q:2", std::string(2'000'000, 'v')));
  binary.Send(StorePacket(0x01, "q:3", std::string(kBodyBufferedBytesMax + 1, 'v')));
  binary.Send(KeyPacket(0x04, "q:1"));
  const std::string counts = "PREFIX q get 5 hit 1 set 3 del 1\r\nEND\r\n";
  EXPECT_EQ(text.Send("stats detail dump\r\n"), counts);
  const std::string dump = binary.Send(KeyPacket(0x10, "detail dump"));
  EXPECT_NE(dump.find("detailed" + counts), std::string::npos);
  EXPECT_EQ(dump.size(), 24 + std::string("detailed").size() + counts.size() + 24);
}

TEST(PrefixStats, AreTurnedOnAndOffAndReset) {
  ProtocolServer server;
  ProtocolClient client(&server);
  EXPECT_NE(client.Send("stats settings\r\n").find("STAT detail_enabled no\r\n"), std::string::npos);
  client.Send("get a:1\r\n");
  EXPECT_EQ(client.Send("stats detail on\r\n"), "OK\r\n");
  EXPECT_NE(client.Send("stats settings\r\n").find("STAT detail_enabled yes\r\n"), std::string::npos);
  client.Send("get a:1\r\n");
  EXPECT_EQ(client.Send("stats detail off\r\n"), "OK\r\n");
  client.Send("get a:1\r\n");
  EXPECT_EQ(client.Send("stats detail dump\r\n"), "PREFIX a get 1 hit 0 set 0 del 0\r\nEND\r\n");
  EXPECT_EQ(client.Send("stats detail\r\n"), "CLIENT_ERROR usage: stats detail on|off|dump\r\n");
  EXPECT_EQ(client.Send("stats detail onx\r\n"), "CLIENT_ERROR usage: stats detail on|off|dump\r\n");
  EXPECT_EQ(client.Send("stats reset\r\nstats detail dump\r\n"), "RESET\r\nEND\r\n");
  ProtocolClient binary(&server);
  binary.Send(KeyPacket(0x10, "detail on"));
  client.Send("get b:1\r\n");
  binary.Send(KeyPacket(0x10, "detail off"));
  client.Send("get b:1\r\n");
  EXPECT_EQ(client.Send("stats detail dump\r\n"), "PREFIX b get 1 hit 0 set 0 del 0\r\nEND\r\n");
  EXPECT_NE(binary.Send(KeyPacket(0x10, "detail bogus")).find("Not found"), std::string::npos);
  EXPECT_EQ(binary.Send(KeyPacket(0x10, "detail")).size(), 24u);
}

TEST(PrefixStats, FollowTheDelimiter) {
  ProtocolServer server(Counting('/'));
  ProtocolClient client(&server);
  client.Send("get x/a:1\r\nget y:a\r\n");
  EXPECT_EQ(client.Send("stats detail dump\r\n"), "PREFIX x get 1 hit 0 set 0 del 0\r\nEND\r\n");
  EXPECT_NE(client.Send("stats settings\r\n").find("STAT stat_key_prefix /\r\n"), std::string::npos);
}

TEST(PrefixStats, AreRefusedWhereDumpsAreAndHiddenWhereKeysAre) {
  Service::Options options = Counting();
  options.disable_dumping = true;
  ProtocolServer closed(options);
  ProtocolClient client(&closed);
  for (const std::string& word : {std::string(), std::string(" on"), std::string(" dump")}) {
    EXPECT_EQ(client.Send("stats detail" + word + "\r\n"), "CLIENT_ERROR stats detail not allowed\r\n");
  }
  ProtocolClient binary(&closed);
  EXPECT_NE(binary.Send(KeyPacket(0x10, "detail dump")).find("Auth failure."), std::string::npos);
  options = Counting();
  options.hide_keys = true;
  ProtocolServer hiding(options);
  ProtocolClient other(&hiding);
  char word[kHiddenKeyBytes];
  const std::string hidden(word, hiding.service()->keys().WriteHidden("secret", word));
  EXPECT_EQ(other.Send("get secret:1\r\nstats detail dump\r\n"),
            "END\r\nPREFIX " + hidden + " get 1 hit 0 set 0 del 0\r\nEND\r\n");
}

TEST(PrefixStats, HaveABound) {
  const KeyDisplay shown(false);
  PrefixStats stats(':', true, &shown);
  for (size_t i = 0; i < PrefixStats::kPrefixesMax + 10; i++) {
    stats.Count(std::to_string(i) + ":k", PrefixStats::Event::kSet);
  }
  stats.Count("0:k", PrefixStats::Event::kSet);
  ByteBuffer out;
  stats.AppendAll(&out);
  const std::string text(out.view());
  size_t lines = 0;
  for (const char c : text) lines += c == '\n';
  EXPECT_EQ(lines, PrefixStats::kPrefixesMax + 1);
  EXPECT_NE(text.find("PREFIX 0 get 0 hit 0 set 2 del 0\r\n"), std::string::npos);
}

TEST(PrefixStats, CountFromManyThreads) {
  const KeyDisplay shown(false);
  PrefixStats stats(':', true, &shown);
  std::vector<std::thread> threads;
  for (int i = 0; i < 4; i++) {
    threads.emplace_back([&stats] {
      for (int n = 0; n < 5'000; n++) stats.Count("a:" + std::to_string(n), PrefixStats::Event::kHit);
    });
  }
  for (std::thread& thread : threads) thread.join();
  ByteBuffer out;
  stats.AppendAll(&out);
  EXPECT_EQ(std::string(out.view()), "PREFIX a get 20000 hit 20000 set 0 del 0\r\nEND\r\n");
}

}  // namespace
}  // namespace cairn
