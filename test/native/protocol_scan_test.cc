// `scan`: pages of keys and the cursors between them, over a real store.

#include <set>
#include <string>
#include <string_view>

#include "protocol/key_display.h"
#include "protocol/scan_cursor.h"
#include "support/protocol_client.h"
#include "test.h"

namespace cairn {
namespace {

using test::ProtocolClient;
using test::ProtocolServer;
using test::Set;
using test::TestLog;

struct Page {
  std::set<std::string> keys;
  size_t lines = 0;
  std::string cursor;  // empty: behind END
};

Page Read(const std::string& reply) {
  Page page;
  size_t at = 0;
  for (; reply.compare(at, 4, "key=") == 0; page.lines++) {
    page.keys.insert(reply.substr(at + 4, reply.find(' ', at) - at - 4));
    at = reply.find('\n', at) + 1;
  }
  const std::string end = reply.substr(at);
  if (end == "END\r\n") return page;
  EXPECT_EQ(end.substr(0, 7), "CURSOR ");
  EXPECT_EQ(end.size(), 7 + kScanCursorBytes + 2);
  page.cursor = end.substr(7, kScanCursorBytes);
  return page;
}

Page Scan(ProtocolClient* client, std::string_view cursor, std::string_view rest = {}) {
  return Read(client->Send("scan " + std::string(cursor) + std::string(rest) + "\r\n"));
}

void Fill(ProtocolServer* server, int count) {
  ProtocolClient client(server);
  for (int i = 0; i < count; i++) ASSERT_EQ(client.Send(Set("key" + std::to_string(i), "v")), "STORED\r\n");
}

TEST(ProtocolScan, PagesHaveEveryKeyOnceAndNoMoreThanTheirCount) {
  ProtocolServer server;
  Fill(&server, 3000);
  for (const size_t count : {1, 10, 100, 1000, 5000}) {
    std::set<std::string> all;
    size_t lines = 0;
    std::string cursor = "0";
    do {
      // Each page over another connection: no state is kept.
      ProtocolClient client(&server);
      const Page page = Scan(&client, cursor, " " + std::to_string(count));
      EXPECT_LE(page.lines, std::min<size_t>(count, kScanKeysMax));
      lines += page.lines;
      all.insert(page.keys.begin(), page.keys.end());
      cursor = page.cursor;
    } while (!cursor.empty());
    EXPECT_EQ(lines, 3000);
    EXPECT_EQ(all.size(), 3000);
  }
}

TEST(ProtocolScan, WithoutACountAPageHasAHundredKeys) {
  ProtocolServer server;
  Fill(&server, 300);
  ProtocolClient client(&server);
  EXPECT_EQ(Scan(&client, "0").lines, kScanKeysDefault);
}

TEST(ProtocolScan, ALineIsThatOfAMetadump) {
  ProtocolServer server;
  ProtocolClient client(&server);
  (void)client.Send("set a%b 5 100 3\r\nabc\r\n");
  const std::string dump = client.Send("lru_crawler metadump all\r\n");
  EXPECT_EQ("OK\r\n" + client.Send("scan 0\r\n"), dump);
}

TEST(ProtocolScan, APrefixIsEncodedAsTheKeysAre) {
  ProtocolServer server;
  ProtocolClient client(&server);
  for (const char* key : {"a%b:1", "a%b:2", "a%c", "a"}) (void)client.Send(Set(key, "v"));
  EXPECT_TRUE(Scan(&client, "0", " 10 a%25b%3A").keys == (std::set<std::string>{"a%25b%3A1", "a%25b%3A2"}));
  EXPECT_TRUE(Scan(&client, "0", " 10 a%25b%3a").keys == (std::set<std::string>{"a%25b%3A1", "a%25b%3A2"}));
  EXPECT_TRUE(Scan(&client, "0", " 10 a%25b:").keys == (std::set<std::string>{"a%25b%3A1", "a%25b%3A2"}));
  EXPECT_EQ(Scan(&client, "0", " 10 a").lines, 4);
}

TEST(ProtocolScan, APageLooksAtABoundedNumberOfEntries) {
  ProtocolServer server;
  Fill(&server, 30'000);
  ProtocolClient client(&server);
  (void)client.Send(Set("wanted", "v"));
  std::string cursor = "0";
  size_t pages = 0, lines = 0;
  for (; !cursor.empty(); pages++) {
    const Page page = Scan(&client, cursor, " 1000 wanted");
    lines += page.lines;
    cursor = page.cursor;
  }
  EXPECT_EQ(lines, 1);
  // 4,096 entries a page, and buckets.
  EXPECT_GE(pages, 7);
  EXPECT_LE(pages, 12);
}

TEST(ProtocolScan, APipelineOfScansTakesTurns) {
  ProtocolServer server;
  Fill(&server, 10'000);
  ProtocolClient client(&server);
  std::string scans;
  for (int i = 0; i < 10; i++) scans += "scan 0 1000 none\r\n";
  size_t calls = 1;
  std::string reply = client.FeedOnce(scans);
  for (; client.goes_on(); calls++) reply += client.ContinueOnce();
  // A scan does the work of a call.
  EXPECT_GE(calls, 9);
  EXPECT_EQ(reply.size(), 10 * (7 + kScanCursorBytes + 2));
}

TEST(ProtocolScan, OfACacheOfFewKeysOnePageHasAll) {
  ProtocolServer server;
  Fill(&server, 7);
  ProtocolClient client(&server);
  const Page page = Scan(&client, "0");
  EXPECT_EQ(page.lines, 7);
  EXPECT_EQ(page.cursor, "");
  (void)client.Send("flush_all\r\n");
  EXPECT_EQ(client.Send("scan 0\r\n"), "END\r\n");
}

TEST(ProtocolScan, WrongWordsAreToldOf) {
  ProtocolServer server;
  ProtocolClient client(&server);
  const std::string bad_format = "CLIENT_ERROR bad command line format\r\n";
  for (const std::string& line :
       {std::string("scan"), std::string("scan 0 0"), std::string("scan 0 x"), std::string("scan 0 -1"),
        std::string("scan 0 4294967296"), std::string("scan 0 10 a b"), std::string("scan 0 10 %"),
        std::string("scan 0 10 a%4"), std::string("scan 0 10 %zz"), std::string("scan 0 noreply"),
        "scan 0 10 " + std::string(kLineBytesMax + 1, 'a')}) {
    EXPECT_EQ(client.Send(line + "\r\n"), bad_format);
  }
  for (const std::string& cursor :
       {std::string("1"), std::string("00"), std::string("x"), std::string(kScanCursorBytes, '0'),
        std::string(kScanCursorBytes, 'G'), std::string(kScanCursorBytes + 1, '0')}) {
    EXPECT_EQ(client.Send("scan " + cursor + "\r\n"), "CLIENT_ERROR bad cursor\r\n");
  }
  EXPECT_EQ(client.Send("scan 0 10 " + std::string(kLineBytesMax, 'a') + "\r\n"), "END\r\n");
}

TEST(ProtocolScan, ACursorIsOfItsServerAndAsItWas) {
  ProtocolServer server, other;
  Fill(&server, 300);
  Fill(&other, 300);
  ProtocolClient client(&server), other_client(&other);
  std::string cursor = Scan(&client, "0", " 10").cursor;
  EXPECT_EQ(other_client.Send("scan " + cursor + "\r\n"), "CLIENT_ERROR bad cursor\r\n");
  for (char& digit : cursor) {
    const char before = digit;
    digit = digit == '0' ? '1' : '0';
    EXPECT_EQ(client.Send("scan " + cursor + "\r\n"), "CLIENT_ERROR bad cursor\r\n");
    digit = before;
  }
  EXPECT_EQ(Scan(&client, cursor, " 10").lines, 10);
}

TEST(ProtocolScan, EveryPlaceIsReadAsItWasWritten) {
  const ScanCursors cursors;
  test::Random random(test::Seed());
  for (int i = 0; i < 1000; i++) {
    const KeyPlace place{static_cast<uint32_t>(random.Below(16)), random.Next()};
    char word[kScanCursorBytes];
    cursors.Write(place, word);
    KeyPlace read;
    ASSERT_TRUE(cursors.Read({word, sizeof word}, 16, &read));
    EXPECT_EQ(read.shard, place.shard);
    EXPECT_EQ(read.offset, place.offset);
    EXPECT_FALSE(cursors.Read({word, sizeof word}, place.shard, &read));
  }
}

TEST(ProtocolScan, ItIsRefusedWhereDumpsAre) {
  Service::Options options = ProtocolServer::DefaultOptions();
  options.disable_dumping = true;
  ProtocolServer server(std::move(options));
  ProtocolClient client(&server);
  EXPECT_EQ(client.Send("scan 0\r\n"), "CLIENT_ERROR scan not allowed\r\n");
}

TEST(ProtocolScan, HiddenKeysAreNotFoundByTheirPrefix) {
  Service::Options options = ProtocolServer::DefaultOptions();
  options.hide_keys = true;
  ProtocolServer server(std::move(options));
  ProtocolClient client(&server);
  (void)client.Send(Set("secret", "v"));
  const Page page = Scan(&client, "0");
  ASSERT_EQ(page.lines, 1);
  EXPECT_EQ(page.keys.begin()->size(), kHiddenKeyBytes);
  EXPECT_FALSE(page.keys.contains("secret"));
  EXPECT_EQ(client.Send("scan 0 10 s\r\n"), "CLIENT_ERROR scan with a prefix not allowed\r\n");
}

TEST(ProtocolScan, ALineThatTellsOfAChangeWaitsForTheLog) {
  TestLog log(1);
  Service::Options options = ProtocolServer::DefaultOptions();
  options.log = &log;
  options.ack = Ack::kLogged;
  ProtocolServer server(std::move(options), ProtocolServer::LoggedStore(1));
  ProtocolClient writer(&server), client(&server);
  EXPECT_EQ(writer.Send(Set("a", "v")), "");
  EXPECT_EQ(client.Send("scan 0\r\n"), "");
  log.Commit(server.store());
  EXPECT_EQ(Read(client.ContinueOnce()).lines, 1);
}

TEST(ProtocolScan, BytesThatAreCutAnywhereAreTheSameBytes) {
  ProtocolServer server;
  ProtocolClient whole(&server);
  (void)whole.Send(Set("a", "v"));
  const std::string line = "scan 0 5 a\r\nscan x\r\nmn\r\n";
  const std::string expected = whole.Send(line);
  for (size_t cut = 1; cut < line.size(); cut++) {
    ProtocolClient client(&server);
    std::string reply = client.Send(line.substr(0, cut));
    reply += client.Send(line.substr(cut));
    EXPECT_EQ(reply, expected);
  }
}

}  // namespace
}  // namespace cairn
