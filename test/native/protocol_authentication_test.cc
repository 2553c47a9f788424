// Clients that have to log in: what they may send before, what a login is, and how accounts are compared and replaced.
// test/protocol/transcripts/auth.json has what memcached answers to the text protocol, and binary-sasl.json to SASL.

#include <algorithm>
#include <memory>
#include <string>
#include <string_view>

#include "protocol/authentication.h"
#include "protocol/limits.h"
#include "protocol/session.h"
#include "support/binary_packet.h"
#include "support/protocol_client.h"
#include "test.h"

namespace cairn {
namespace {

using test::KeyPacket;
using test::Noop;
using test::PacketOf;
using test::ProtocolClient;
using test::ProtocolServer;
using test::Set;
using test::StorePacket;
using test::Told;
using Next = Session::Next;

constexpr std::string_view kAccounts = "user:pass\nanother:word with: blanks\n";
constexpr std::string_view kUnauthenticated = "CLIENT_ERROR unauthenticated\r\n";
constexpr std::string_view kFailure = "CLIENT_ERROR authentication failure\r\n";

struct LoginServer {
  explicit LoginServer(Login login) : server(Options(login)) {
    server.service()->authentication()->Replace(std::string(kAccounts));
  }
  static Service::Options Options(Login login) {
    Service::Options options = ProtocolServer::DefaultOptions();
    options.login = login;
    return options;
  }
  uint64_t Count(Counter counter) { return server.service()->ReadCounters()[counter]; }
  uint64_t entries() { return server.store()->Stats().entries; }

  ProtocolServer server;
};

std::string Plain(std::string_view user, std::string_view password, std::string_view identity = "") {
  std::string message(identity);
  return message.append(1, '\0').append(user).append(1, '\0').append(password);
}
std::string Start(std::string_view message, std::string_view mechanism = "PLAIN") {
  return PacketOf(0x21, {.key = mechanism, .value = message});
}
std::string Step(std::string_view message) { return PacketOf(0x22, {.key = "PLAIN", .value = message}); }
const std::string& List() {
  static const std::string list = PacketOf(0x20, {});
  return list;
}

// ---- accounts ----

TEST(Accounts, AnAccountIsOneNameWithItsWholePassword) {
  const Accounts accounts("a:b\nuser:one:two\nuser:other\nempty:\n:else");
  EXPECT_EQ(accounts.size(), 5u);
  EXPECT_TRUE(accounts.Has({"a", "b"}));
  EXPECT_TRUE(accounts.Has({"user", "one:two"}));
  EXPECT_TRUE(accounts.Has({"user", "other"}));
  EXPECT_TRUE(accounts.Has({"empty", ""}));
  EXPECT_TRUE(accounts.Has({"", "else"}));
  EXPECT_FALSE(accounts.Has({"user", "one"}));
  EXPECT_FALSE(accounts.Has({"user", "one:two:"}));
  EXPECT_FALSE(accounts.Has({"a", "other"}));
  EXPECT_FALSE(accounts.Has({"", ""}));
}

// The comparison clamps the index of the shorter text: a password that goes on with its last letter is another one.
TEST(Accounts, NothingThatIsLongerOrShorterIsTheSame) {
  const Accounts accounts("user:pass\n");
  for (const std::string_view wrong : {"pas", "passs", "passsss", "s", "", "PASS", "pasS", "xass"}) {
    EXPECT_FALSE(accounts.Has({"user", wrong}));
  }
  for (const std::string_view wrong : {"use", "userr", "", "User"}) EXPECT_FALSE(accounts.Has({wrong, "pass"}));
}

TEST(Accounts, WithoutAnyNoClientLogsIn) {
  const Accounts accounts("\nno colon\n");
  EXPECT_EQ(accounts.size(), 0u);
  EXPECT_FALSE(accounts.Has({"", ""}));
  Authentication authentication(Login::kText);
  EXPECT_FALSE(authentication.Allows({"", ""}));
}

TEST(Accounts, TheLongestOneCanLogIn) {
  const std::string password(kAccountBytesMax - 4, 'p');
  const Accounts accounts("user:" + password + "\nuser:" + password + "p\n");
  EXPECT_TRUE(accounts.Has({"user", password}));
  EXPECT_FALSE(accounts.Has({"user", password + "p"}));
}

// ---- the text protocol ----

TEST(TextLogin, NothingIsExecutedBeforeAndEverythingBehindIt) {
  LoginServer world(Login::kText);
  ProtocolClient client(&world.server);
  EXPECT_EQ(client.Send(Set("k", "value")), "CLIENT_ERROR bad authentication token format\r\n");
  EXPECT_EQ(client.Send("flush_all\r\nshutdown\r\nget k\r\n"),
            std::string(kUnauthenticated).append(kUnauthenticated).append(kUnauthenticated));
  EXPECT_EQ(world.entries(), 0u);
  EXPECT_EQ(world.Count(Counter::kFlushes), 0u);
  EXPECT_EQ(client.Send(Set("k", "user pass") + Set("k", "1") + "get k\r\n"),
            "STORED\r\nSTORED\r\nVALUE k 0 1\r\n1\r\nEND\r\n");
  EXPECT_EQ(world.Count(Counter::kLogins), 1u);
  EXPECT_EQ(world.Count(Counter::kLoginsFailed), 0u);
}

TEST(TextLogin, ALoginIsReadHoweverItsBytesCome) {
  const std::string bytes = "get a\r\n" + Set("k", "user wrong") + Set("k", "another word with: blanks") + "mn\r\n";
  const std::string expected = std::string(kUnauthenticated).append(kFailure) + "STORED\r\nMN\r\n";
  for (size_t cut = 0; cut <= bytes.size(); cut++) {
    LoginServer world(Login::kText);
    ProtocolClient client(&world.server);
    const std::string first = client.Send(std::string_view(bytes).substr(0, cut));
    EXPECT_EQ(first + client.Send(std::string_view(bytes).substr(cut)), expected);
  }
  for (const size_t piece : {size_t{1}, size_t{2}, size_t{3}}) {
    LoginServer world(Login::kText);
    ProtocolClient client(&world.server);
    EXPECT_EQ(client.SendInPieces(bytes, piece), expected);
    EXPECT_EQ(world.Count(Counter::kLogins), 2u);
    EXPECT_EQ(world.Count(Counter::kLoginsFailed), 1u);
  }
}

TEST(TextLogin, WhatClientsSendBeforeIsBounded) {
  LoginServer world(Login::kText);
  ProtocolClient line(&world.server);
  EXPECT_EQ(line.Send("get " + std::string(kLineBytesMax, 'a')), "");
  EXPECT_EQ(line.next, Next::kClose);
  ProtocolClient block(&world.server);
  EXPECT_EQ(block.Send("set k 0 0 16385\r\n"), "CLIENT_ERROR auth token too long\r\n");
  EXPECT_EQ(block.Send("set k 0 0 4294967295\r\n"), "CLIENT_ERROR auth token too long\r\n");
  EXPECT_EQ(block.Send("set k 0 0 4294967296\r\n"), kUnauthenticated);
  EXPECT_EQ(block.Send("set k 0 0 16384\r\n"), "");
  EXPECT_EQ(block.Send("user " + std::string(16384 - 5, 'p') + "\r\n"), kFailure);
  EXPECT_EQ(block.next, Next::kRead);
  // A client that asks without end has its turns, as others do.
  ProtocolClient crowd(&world.server);
  std::string lines;
  for (size_t i = 0; i < kRequestsPerCallMax + 1; i++) lines += "get a\r\n";
  EXPECT_EQ(crowd.FeedOnce(lines).size(), kRequestsPerCallMax * kUnauthenticated.size());
  EXPECT_EQ(crowd.next, Next::kYield);
  EXPECT_EQ(crowd.ContinueOnce(), kUnauthenticated);
}

TEST(TextLogin, TheBinaryProtocolIsNoWayAround) {
  LoginServer world(Login::kText);
  auto names = std::make_shared<ConnectionNames>(ConnectionNames{"tcp:test", "tcp:here", Protocols::kBinary});
  Session session(world.server.bench(), names, world.server.now);
  ByteBuffer out;
  EXPECT_EQ(session.Feed(StorePacket(0x01, "k", "v"), 0, world.server.now, &out), Next::kClose);
  EXPECT_EQ(session.foreign(), Session::Foreign::kBinary);
  EXPECT_TRUE(out.empty());
  EXPECT_EQ(world.entries(), 0u);
}

TEST(TextLogin, OtherAccountsCountForLaterLogins) {
  LoginServer world(Login::kText);
  ProtocolClient client(&world.server);
  EXPECT_EQ(client.Send(Set("k", "user pass")), "STORED\r\n");
  world.server.service()->authentication()->Replace("user:new\n");
  EXPECT_EQ(client.Send("mn\r\n"), "MN\r\n");
  ProtocolClient other(&world.server);
  EXPECT_EQ(other.Send(Set("k", "user pass") + Set("k", "another word with: blanks")),
            std::string(kFailure).append(kFailure));
  EXPECT_EQ(other.Send(Set("k", "user new") + "mn\r\n"), "STORED\r\nMN\r\n");
}

// ---- SASL ----

TEST(Sasl, ClientsLogInAtOnceOrAreAskedForTheirPassword) {
  LoginServer world(Login::kSasl);
  ProtocolClient at_once(&world.server);
  EXPECT_EQ(Told(at_once.Send(List() + Start(Plain("user", "pass")) + Noop())),
            "20:00=PLAIN 21:00=Authenticated 0a:00");
  ProtocolClient asked(&world.server);
  EXPECT_EQ(Told(asked.Send(Start("", "plain") + List() + Step("nothing") +
                            Step(Plain("another", "word with: blanks", "another")) + Noop())),
            "21:21 20:00=PLAIN 22:20=Auth failure. 22:00=Authenticated 0a:00");
  EXPECT_EQ(world.Count(Counter::kLogins), 3u);
  EXPECT_EQ(world.Count(Counter::kLoginsFailed), 1u);
}

TEST(Sasl, EveryOtherRequestBeforeItEndsTheSession) {
  for (int opcode = 0; opcode < 256; opcode++) {
    LoginServer world(Login::kSasl);
    ProtocolClient client(&world.server);
    const bool is_login = opcode >= 0x20 && opcode <= 0x22;
    if (is_login || opcode == 0x0b) continue;
    const std::string packet = PacketOf(static_cast<uint8_t>(opcode), {.key = "k", .value = "v"});
    EXPECT_EQ(Told(client.Send(packet + List())), test::Hex(static_cast<uint64_t>(opcode)) + ":20=Auth failure.");
    EXPECT_EQ(client.next, Next::kClose);
    EXPECT_EQ(world.entries(), 0u);
  }
  LoginServer world(Login::kSasl);
  ProtocolClient client(&world.server);
  EXPECT_EQ(Told(client.Send(PacketOf(0x0b, {}))), "0b:00=1.6.45");
  EXPECT_EQ(client.next, Next::kRead);
}

TEST(Sasl, MessagesThatAreWrongAreNoLogin) {
  const std::string nul(1, '\0');
  const std::string wrong[] = {Plain("user", "wrong"),
                               Plain("user", "passs"),
                               Plain("other", "pass"),
                               Plain("user", "pass", "another"),
                               Plain("user", ""),
                               Plain("", "pass"),
                               Plain("user", "pass") + nul,
                               Plain("user", "pass") + nul + "x",
                               "user" + nul + "pass",
                               "user",
                               nul,
                               nul + nul,
                               Plain("user", std::string(kLoginBytesMax - 6, 'p'))};
  LoginServer world(Login::kSasl);
  for (const std::string& message : wrong) {
    ProtocolClient client(&world.server);
    EXPECT_EQ(Told(client.Send(Start(message))), "21:20=Auth failure.");
    EXPECT_EQ(Told(client.Send(Start(Plain("user", "pass"), "CRAM-MD5"))), "21:20=Auth failure.");
    EXPECT_EQ(Told(client.Send(Step(Plain("user", "pass")))), "22:20=Auth failure.");
    EXPECT_EQ(Told(client.Send(Start(Plain("user", "pass")))), "21:00=Authenticated");
    EXPECT_EQ(world.Count(Counter::kLogins), 4u);
    EXPECT_EQ(world.Count(Counter::kLoginsFailed), 3u);
    world.server.service()->ResetStats();
  }
}

TEST(Sasl, AClientThatLogsInAgainIsLoggedOutFirst) {
  const std::string in = Start(Plain("user", "pass"));
  for (const std::string& again : {List(), Start(Plain("user", "wrong")), Start(""), Step(Plain("user", "pass"))}) {
    LoginServer world(Login::kSasl);
    ProtocolClient client(&world.server);
    EXPECT_EQ(Told(client.Send(in + Noop())), "21:00=Authenticated 0a:00");
    client.Send(again);
    EXPECT_EQ(client.next, Next::kRead);
    EXPECT_EQ(Told(client.Send(StorePacket(0x01, "k", "v"))), "01:20=Auth failure.");
    EXPECT_EQ(client.next, Next::kClose);
    EXPECT_EQ(world.entries(), 0u);
  }
}

TEST(Sasl, TooLongMessagesAndNamesAreRefusedAndDiscarded) {
  LoginServer world(Login::kSasl);
  ProtocolClient client(&world.server);
  EXPECT_EQ(Told(client.Send(Start(std::string(kLoginBytesMax + 1, 'p')))), "21:82=Out of memory");
  EXPECT_EQ(Told(client.Send(Start("x", std::string(33, 'X')))), "21:04=Invalid arguments");
  EXPECT_EQ(Told(client.Send(Start("x", std::string(32, 'X')))), "21:20=Auth failure.");
  EXPECT_EQ(Told(client.Send(Start(Plain("user", "pass")) + KeyPacket(0x00, "k"))),
            "21:00=Authenticated 00:01=Not found");
}

TEST(Sasl, ALoginIsReadHoweverItsBytesCome) {
  const std::string bytes = List() + Start("") + Step(Plain("user", "no")) + Step(Plain("user", "pass")) +
                            StorePacket(0x01, "k", "v") + Start(std::string(kLoginBytesMax + 1, 'p')) + Noop();
  const std::string expected =
      "20:00=PLAIN 21:21 22:20=Auth failure. 22:00=Authenticated 01:00 21:82=Out of memory 0a:00";
  const size_t cuts = bytes.find(std::string(100, 'p'));
  for (size_t cut = 0; cut < cuts; cut++) {
    LoginServer world(Login::kSasl);
    ProtocolClient client(&world.server);
    const std::string first = client.Send(std::string_view(bytes).substr(0, cut));
    EXPECT_EQ(Told(first + client.Send(std::string_view(bytes).substr(cut))), expected);
  }
  LoginServer world(Login::kSasl);
  ProtocolClient client(&world.server);
  EXPECT_EQ(Told(client.SendInPieces(bytes, 1)), expected);
}

TEST(Sasl, TheTextProtocolIsNoWayAround) {
  LoginServer world(Login::kSasl);
  auto names = std::make_shared<ConnectionNames>(ConnectionNames{"tcp:test", "tcp:here", Protocols::kAscii});
  Session session(world.server.bench(), names, world.server.now);
  ByteBuffer out;
  const std::string set = Set("key", std::string(100, 'v'));
  EXPECT_EQ(session.Feed(set, 0, world.server.now, &out), Next::kClose);
  EXPECT_TRUE(out.empty());
  EXPECT_EQ(world.entries(), 0u);
}

TEST(Sasl, WithoutItItsPacketsAreUnknown) {
  ProtocolServer server;
  ProtocolClient client(&server);
  EXPECT_EQ(Told(client.Send(List() + Start(Plain("user", "pass")) + Noop())),
            "20:81=Unknown command 21:81=Unknown command 0a:00");
}

}  // namespace
}  // namespace cairn
