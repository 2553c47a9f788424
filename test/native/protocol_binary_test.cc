// The binary protocol over a store with a log and a database: which replies wait, what a quiet request tells, and which
// error a refused request gets. test/protocol/transcripts has what memcached answers; here is what memcached has not.

#include <algorithm>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "protocol/binary_compose.h"
#include "protocol/binary_parse.h"
#include "protocol/limits.h"
#include "protocol/session.h"
#include "support/binary_packet.h"
#include "support/protocol_client.h"
#include "test.h"

namespace cairn {
namespace {

using test::CountPacket;
using test::Hex;
using test::KeyPacket;
using test::Noop;
using test::PacketOf;
using test::ProtocolClient;
using test::ProtocolServer;
using test::StorePacket;
using test::TestDatabase;
using test::TestLog;
using test::Told;
using test::TouchPacket;
using Next = Session::Next;

// A server of one shard at a level, whose log and backend are moved by hand.
struct LevelServer {
  explicit LevelServer(Ack ack, uint64_t item_bytes_max = kItemBytesDefault)
      : log(1), server(Options(&log, ack, item_bytes_max), ProtocolServer::LoggedStore(1)) {}

  static Service::Options Options(TestLog* log, Ack ack, uint64_t item_bytes_max) {
    Service::Options options = ProtocolServer::DefaultOptions();
    options.log = log;
    options.ack = ack;
    options.item_bytes_max = item_bytes_max;
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

// ---- packets ----

TEST(ProtocolBinary, AHeaderIsReadFieldByField) {
  const std::string packet = PacketOf(0x05, {.key = "key",
                                             .extras = std::string("\0\0\0\0\0\0\0\2\0\0\0\0\0\0\1\0\0\0\0\x64", 20),
                                             .cas = 0x0102030405060708,
                                             .opaque = 0xdeadbeef});
  BinaryRequest request;
  size_t needed = 0;
  for (size_t bytes = 1; bytes < packet.size(); bytes++) {
    EXPECT_TRUE(ParsePacket(packet.data(), packet.data() + bytes, &request, &needed) == Packet::kPartial);
    EXPECT_EQ(needed, bytes < 24 ? 24 : packet.size());
  }
  EXPECT_TRUE(ParsePacket(packet.data(), packet.data() + packet.size(), &request, &needed) == Packet::kWhole);
  EXPECT_TRUE(request.info->verb == Verb::kIncr && !request.info->is_quiet);
  EXPECT_EQ(request.key, "key");
  EXPECT_EQ(request.delta, 2U);
  EXPECT_EQ(request.initial, 256U);
  EXPECT_EQ(request.exptime, 100U);
  EXPECT_EQ(request.cas, 0x0102030405060708U);
  EXPECT_EQ(request.id.opaque, 0xdeadbeefU);
  EXPECT_EQ(request.value_bytes, 0U);
}

TEST(ProtocolBinary, AResponseRepeatsOpcodeAndOpaque) {
  ByteBuffer out;
  AppendResponse({.id = {0x0c, 7}, .status = BinaryStatus::kOk, .cas = 9, .extras = "EXTR", .key = "k", .value = "v"},
                 &out);
  EXPECT_EQ(out.view(), std::string("\x81\x0c\0\1\4\0\0\0\0\0\0\6\0\0\0\7\0\0\0\0\0\0\0\x09"
                                    "EXTRkv",
                                    30));
}

TEST(ProtocolBinary, EveryErrorThatARequestCanHaveIsAPacket) {
  for (size_t i = 0; i < sizeof(kReplyText) / sizeof(kReplyText[0]); i++) {
    // shutdown is a command of the text protocol only, with an error line of another form.
    if (static_cast<Reply>(i) == Reply::kShutdownNotEnabled) continue;
    const BinaryError error = ErrorOf(static_cast<Reply>(i));
    EXPECT_TRUE(error.status != BinaryStatus::kOk);
    EXPECT_FALSE(error.message.empty());
    EXPECT_TRUE(error.message.find("SERVER_ERROR") == std::string_view::npos);
    EXPECT_TRUE(error.message.find('\r') == std::string_view::npos);
  }
}

// ---- a session ----

TEST(ProtocolBinary, TheFirstByteOfASessionTellsItsProtocol) {
  for (const Protocols protocols : {Protocols::kAuto, Protocols::kAscii, Protocols::kBinary}) {
    Service::Options options = ProtocolServer::DefaultOptions();
    options.protocols = protocols;
    ProtocolServer server(options);
    ProtocolClient text(&server);
    ProtocolClient binary(&server);
    EXPECT_EQ(text.Send("mn\r\n"), protocols == Protocols::kBinary ? "" : "MN\r\n");
    EXPECT_TRUE((text.next == Next::kClose) == (protocols == Protocols::kBinary));
    EXPECT_TRUE(text.session()->foreign() == Session::Foreign::kNone);
    const bool is_refused = protocols == Protocols::kAscii;
    EXPECT_EQ(Told(binary.Send(Noop())), is_refused ? "" : "0a:00");
    EXPECT_TRUE((binary.next == Next::kClose) == is_refused);
    EXPECT_TRUE((binary.session()->foreign() == Session::Foreign::kBinary) == is_refused);
  }
}

TEST(ProtocolBinary, StatsShowWhichProtocolsAreServed) {
  for (const auto& [protocols, name] :
       {std::pair{Protocols::kAuto, "auto-negotiate"}, std::pair{Protocols::kAscii, "ascii"}}) {
    Service::Options options = ProtocolServer::DefaultOptions();
    options.protocols = protocols;
    ProtocolServer server(options);
    ProtocolClient client(&server);
    const std::string stats = client.Send("stats settings\r\n");
    EXPECT_TRUE(stats.find(std::string("STAT binding_protocol ") + name + "\r\n") != std::string::npos) << name;
  }
}

TEST(ProtocolBinary, ManyQuietGetsAreAnsweredInOrderAndCutAnywhere) {
  std::string bytes;
  std::string expected;
  for (int i = 0; i < 150; i++) {
    const std::string key = "key" + std::to_string(i);
    if (i % 3 == 0) bytes += StorePacket(0x11, key, std::string(static_cast<size_t>(i) * 60, 'v'));
  }
  for (int i = 0; i < 150; i++) bytes += KeyPacket(0x0d, "key" + std::to_string(i));
  bytes += Noop();
  std::string whole;
  {
    ProtocolServer server;
    ProtocolClient client(&server);
    whole = client.Send(bytes);
    const std::string told = Told(whole);
    EXPECT_EQ(std::count(told.begin(), told.end(), ':'), 51);
  }
  for (const size_t piece : {size_t{1}, size_t{7}, size_t{24}, size_t{100}, size_t{5000}}) {
    ProtocolServer server;
    ProtocolClient client(&server);
    EXPECT_EQ(client.SendInPieces(bytes, piece), whole) << piece;
  }
}

TEST(ProtocolBinary, RepliesThatAreNotReadStopTheSessionBetweenTwoPackets) {
  ProtocolServer server;
  ProtocolClient client(&server);
  client.Send(StorePacket(0x01, "a", std::string(100'000, 'a')));
  std::string gets;
  for (int i = 0; i < 40; i++) gets += KeyPacket(0x0c, "a");
  const std::string first = client.FeedOnce(gets + Noop());
  EXPECT_LT(first.size(), kOutputBytesHigh + 200'000);
  EXPECT_TRUE(client.next == Next::kFlush);
  std::string replies = first;
  while (client.goes_on()) replies += client.ContinueOnce();
  EXPECT_EQ(replies.size(), 40 * (24 + 4 + 1 + 100'000) + 24);
}

TEST(ProtocolBinary, AValueThatComesTooSlowlyYieldsItsPlaceAndGetsAnError) {
  ProtocolServer server;
  std::vector<std::unique_ptr<ProtocolClient>> slow;
  const std::string packet = StorePacket(0x01, "slow", std::string(100'000, 's'));
  // More than there are places in both shards, all of one key.
  for (int i = 0; i < 64; i++) {
    slow.push_back(std::make_unique<ProtocolClient>(&server));
    EXPECT_EQ(slow.back()->Send(std::string_view(packet).substr(0, 1000)), "");
    server.Pass(kBodyStalledMs + 1);
  }
  EXPECT_EQ(Told(slow.back()->Send(packet.substr(1000) + Noop())), "01:00 0a:00");
  int lost = 0;
  for (int i = 0; i < 63; i++) {
    const std::string told = Told(slow[static_cast<size_t>(i)]->Send(packet.substr(1000) + Noop()));
    if (told == "01:82=Out of memory allocating item 0a:00")
      lost++;
    else
      EXPECT_EQ(told, "01:00 0a:00");
  }
  EXPECT_GT(lost, 0);
}

// ---- replies that wait ----

const std::vector<std::pair<std::string, std::string>>& Changes() {
  static const std::vector<std::pair<std::string, std::string>> changes = {
      {StorePacket(0x01, "a", "1"), "01:00"},
      {StorePacket(0x11, "a", "1"), ""},
      {StorePacket(0x12, "new", "1"), ""},
      {StorePacket(0x13, "n", "5"), ""},
      {PacketOf(0x0e, {.key = "n", .value = "5"}), "0e:00"},
      {PacketOf(0x19, {.key = "n", .value = "5"}), ""},
      {CountPacket(0x05, "n", 1, 0, 0), "05:00=8"},
      {CountPacket(0x05, "none", 1, 30, 0), "05:00=30"},
      {CountPacket(0x16, "n", 1, 0, 0), ""},
      {TouchPacket(0x1c, "n", 100), "1c:00"},
      {TouchPacket(0x1d, "n", 100), "1d:00=7"},
      {TouchPacket(0x24, "n", 100), "24:00=7"},
      {KeyPacket(0x04, "n"), "04:00"},
      {KeyPacket(0x14, "n"), ""},
      {StorePacket(0x01, "big", std::string(100'000, 'b')), "01:00"},
      {StorePacket(0x11, "big", std::string(100'000, 'b')), ""},
      {StorePacket(0x11, "n", std::string(2 << 20, 'b')), "11:03=Too large."},
  };
  return changes;
}

std::string Joined(const std::string& told, const std::string& more) { return told.empty() ? more : told + " " + more; }

TEST(ProtocolBinary, EveryReplyToAChangeWaitsForTheLogAndSoDoesWhatFollowsAQuietOne) {
  for (const auto& [request, reply] : Changes()) {
    LevelServer logged(Ack::kLogged);
    ProtocolClient client(&logged.server);
    client.Send(StorePacket(0x11, "n", "7"));
    logged.Log();
    client.ContinueOnce();
    EXPECT_EQ(client.Send(request + Noop()), "") << static_cast<int>(request[1]);
    EXPECT_TRUE(client.session()->waits());
    logged.Log();
    EXPECT_EQ(Told(client.ContinueOnce()), Joined(reply, "0a:00"));
    EXPECT_FALSE(client.session()->waits());
  }
}

TEST(ProtocolBinary, AFlushWaitsForTheLog) {
  for (const uint8_t opcode : {0x08, 0x18}) {
    LevelServer logged(Ack::kLogged);
    ProtocolClient client(&logged.server);
    EXPECT_EQ(client.Send(PacketOf(opcode, {}) + Noop()), "");
    logged.Log();
    EXPECT_EQ(Told(client.ContinueOnce()), opcode == 0x08 ? "08:00 0a:00" : "0a:00");
  }
}

TEST(ProtocolBinary, AQuietMissThatTellsOfADeletionWaitsForIt) {
  LevelServer logged(Ack::kLogged);
  ProtocolClient writer(&logged.server);
  ProtocolClient reader(&logged.server);
  writer.Send(StorePacket(0x11, "n", "7"));
  logged.Log();
  writer.Send(KeyPacket(0x14, "n"));
  EXPECT_EQ(reader.Send(KeyPacket(0x09, "n") + Noop()), "");
  logged.Log();
  EXPECT_EQ(Told(reader.ContinueOnce()), "0a:00");
}

TEST(ProtocolBinary, AtTheLevelStoredEveryChangeWaitsForTheBackend) {
  for (const auto& [request, reply] : Changes()) {
    LevelServer stored(Ack::kStored);
    ProtocolClient client(&stored.server);
    client.Send(StorePacket(0x11, "n", "7"));
    stored.Store();
    client.ContinueOnce();
    EXPECT_EQ(client.Send(request + Noop()), "");
    stored.Log();
    EXPECT_EQ(client.ContinueOnce(), "") << static_cast<int>(request[1]);
    stored.Store();
    EXPECT_EQ(Told(client.ContinueOnce()), Joined(reply, "0a:00"));
  }
}

TEST(ProtocolBinary, ADeadLetterIsAnErrorInThePlaceOfItsReplyAlsoOfAQuietRequest) {
  for (const auto& [request, reply] : Changes()) {
    BinaryRequest parsed;
    size_t needed = 0;
    CHECK(ParsePacket(request.data(), request.data() + request.size(), &parsed, &needed) == Packet::kWhole);
    LevelServer stored(Ack::kStored);
    ProtocolClient client(&stored.server);
    client.Send(StorePacket(0x11, "n", "7"));
    stored.Store();
    client.ContinueOnce();
    EXPECT_EQ(client.Send(StorePacket(0x11, "before", "1") + request + Noop()), "");
    stored.StoreAllBut(parsed.key);
    EXPECT_EQ(Told(client.ContinueOnce()), Hex(parsed.id.opcode) + ":84=the database has refused the change 0a:00");
    EXPECT_TRUE(client.next == Next::kRead);
  }
}

TEST(ProtocolBinary, AnErrorInThePlaceOfAReplyHasItsOpaque) {
  LevelServer stored(Ack::kStored);
  ProtocolClient client(&stored.server);
  std::string packet = StorePacket(0x11, "n", "7");
  packet.replace(12, 4, "\1\2\3\4");
  client.Send(packet);
  stored.StoreAllBut("n");
  EXPECT_EQ(client.ContinueOnce().substr(12, 4), "\1\2\3\4");
}

TEST(ProtocolBinary, ABackendThatConfirmsNothingMakesRepliesUnknownAndRefusesChanges) {
  LevelServer stored(Ack::kStored);
  ProtocolClient client(&stored.server);
  client.Send(StorePacket(0x11, "n", "7"));
  stored.Log();
  stored.stored()->SetHealth(0, 1, StoredChanges::Health::kAway);
  EXPECT_EQ(Told(client.ContinueOnce()), "11:84=the change is made, and may not reach the database");
  EXPECT_EQ(Told(client.Send(StorePacket(0x11, "n", "8") + TouchPacket(0x1e, "n", 0) + KeyPacket(0x00, "n"))),
            "11:86=the database cannot be written 1e:86=the database cannot be written 00:00=7");
}

// ---- refusals ----

TEST(ProtocolBinary, AFullLogRefusesChangesAlsoQuietOnes) {
  LevelServer logged(Ack::kLogged);
  ProtocolClient client(&logged.server);
  client.Send(StorePacket(0x11, "n", "7"));
  logged.Log();
  client.ContinueOnce();
  for (const auto& [health, message] : {std::pair{LogView::Health::kFull, "the log is full"},
                                        std::pair{LogView::Health::kFailed, "the log cannot be written"}}) {
    logged.log.SetHealth(health);
    const std::string error = ":86=" + std::string(message);
    const std::string requests = StorePacket(0x11, "n", "8") + CountPacket(0x05, "n", 1, 0, 0) + KeyPacket(0x14, "n") +
                                 TouchPacket(0x1d, "n", 1) + PacketOf(0x18, {}) +
                                 StorePacket(0x11, "n", std::string(100'000, 'b')) + KeyPacket(0x00, "n");
    EXPECT_EQ(Told(client.Send(requests)), "11" + error + " 05" + error + " 14" + error + " 1d" + error + " 18" +
                                               error + " 11" + error + " 00:00=7");
  }
}

TEST(ProtocolBinary, WithoutRoomForItsRecordARequestIsParkedAndThenDone) {
  for (const auto& [request, reply] : Changes()) {
    LevelServer logged(Ack::kLogged);
    ProtocolClient client(&logged.server);
    client.Send(StorePacket(0x11, "n", "7"));
    logged.Log();
    client.ContinueOnce();
    test::FillRing(&logged.server);
    EXPECT_EQ(client.Send(request + Noop()), "");
    EXPECT_TRUE(client.next == Next::kWait) << static_cast<int>(request[1]);
    logged.Log();
    std::string replies = client.ContinueOnce();
    EXPECT_TRUE(client.next == Next::kRead);
    logged.Log();
    replies += client.ContinueOnce();
    EXPECT_EQ(Told(replies), Joined(reply, "0a:00"));
  }
}

// ---- a database ----

TEST(ProtocolBinary, AValueOfTheDatabaseIsLoadedAndManyQuietGetsTakeOneRoundTrip) {
  StoreOptions options = ProtocolServer::SmallStore();
  options.has_backend = true;
  ProtocolServer server(ProtocolServer::DefaultOptions(), options);
  TestDatabase database(&server);
  for (int i = 0; i < 20; i++) database.rows["k" + std::to_string(i)] = std::to_string(i);
  ProtocolClient client(&server);
  std::string gets;
  std::string expected;
  for (int i = 0; i < 20; i++) {
    gets += KeyPacket(0x0d, "k" + std::to_string(i)) + KeyPacket(0x09, "absent");
    expected = Joined(expected, "0d:00=" + std::to_string(i));
  }
  std::string replies = client.Send(gets + Noop());
  while (client.session()->waits() && database.Serve()) {
    do replies += client.ContinueOnce();
    while (client.goes_on());
  }
  EXPECT_EQ(Told(replies), expected + " 0a:00");
  EXPECT_LE(database.round_trips, 2);
}

TEST(ProtocolBinary, EveryRequestThatNeedsAValueWaitsForItsLoad) {
  const std::pair<std::string, std::string> cases[] = {
      {StorePacket(0x02, "n", "1"), "02:02=Data exists for key."},
      {StorePacket(0x03, "n", "1"), "03:00"},
      {StorePacket(0x13, "n", std::string(100'000, 'b')), ""},
      {StorePacket(0x01, "n", "1", 99), "01:02=Data exists for key."},
      {PacketOf(0x0e, {.key = "n", .value = "1"}), "0e:00"},
      {CountPacket(0x05, "n", 1, 50, 0), "05:00=8"},
      {CountPacket(0x05, "absent", 1, 50, 0), "05:00=50"},
      {CountPacket(0x05, "absent", 1, 50, 0xffffffff), "05:01=Not found"},
      {TouchPacket(0x1c, "n", 9), "1c:00"},
      {TouchPacket(0x1d, "n", 9), "1d:00=7"},
      {KeyPacket(0x04, "n", 99), "04:02=Data exists for key."},
      {KeyPacket(0x00, "bad"), "00:86=the value could not be loaded"},
      {KeyPacket(0x09, "bad"), "09:86=the value could not be loaded"},
      {PacketOf(0x19, {.key = "bad", .value = "1"}), "19:86=the value could not be loaded"},
  };
  for (const auto& [request, reply] : cases) {
    StoreOptions options = ProtocolServer::SmallStore();
    options.has_backend = true;
    ProtocolServer server(ProtocolServer::DefaultOptions(), options);
    TestDatabase database(&server);
    database.rows["n"] = "7";
    ProtocolClient client(&server);
    std::string replies = client.Send(request + Noop());
    EXPECT_EQ(replies, "");
    EXPECT_TRUE(client.session()->waits());
    while (client.session()->waits() && database.Serve()) replies += client.ContinueOnce();
    EXPECT_EQ(Told(replies), Joined(reply, "0a:00"));
  }
}

TEST(ProtocolBinary, ChangesAreSlowedOneByOne) {
  LevelServer slowed(Ack::kMemory);
  ProtocolClient client(&slowed.server);
  client.Send(StorePacket(0x11, "n", "7"));
  slowed.stored()->slowdown()->Set(40);
  const std::string requests = KeyPacket(0x00, "n") + TouchPacket(0x1d, "n", 9) + TouchPacket(0x1d, "n", 9) +
                               KeyPacket(0x14, "n") + StorePacket(0x01, "n", std::string(100'000, 'b')) + Noop();
  std::string replies = client.Send(requests);
  for (const std::string told : {"00:00=7", "00:00=7 1d:00=7", "00:00=7 1d:00=7 1d:00=7", "00:00=7 1d:00=7 1d:00=7"}) {
    EXPECT_EQ(Told(replies), told);
    EXPECT_EQ(client.session()->continue_in_ms(), 40U);
    slowed.server.Pass(40);
    replies += client.ContinueOnce();
  }
  EXPECT_EQ(Told(replies), "00:00=7 1d:00=7 1d:00=7 01:00 0a:00");
  EXPECT_EQ(slowed.stored()->slowdown()->changes(), 4U);
}

}  // namespace
}  // namespace cairn
