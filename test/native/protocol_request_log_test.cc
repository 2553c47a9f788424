// `stats slow` and `stats large`: which requests are listed, and what the lists tell.

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "base/clock.h"
#include "base/os.h"
#include "base/ticks.h"
#include "protocol/request_log.h"
#include "protocol/request_observer.h"
#include "support/binary_packet.h"
#include "support/protocol_client.h"
#include "test.h"

namespace cairn {
namespace {

using test::ProtocolClient;
using test::ProtocolServer;
using test::Set;

Service::Options OptionsWith(uint64_t slow_ns, uint64_t large_bytes) {
  Service::Options options = ProtocolServer::DefaultOptions();
  options.request_log = {slow_ns, large_bytes};
  return options;
}

// What is behind the number in each line of the list.
std::vector<std::string> Lines(ProtocolClient* client, std::string_view list) {
  std::string reply = client->Send("stats " + std::string(list) + "\r\n");
  EXPECT_TRUE(reply.ends_with("END\r\n")) << reply;
  std::vector<std::string> lines;
  for (size_t at = 0; at < reply.size();) {
    const size_t end = reply.find("\r\n", at);
    const std::string line = reply.substr(at, end - at);
    const size_t word = line.find("time=");
    if (word != std::string::npos) lines.push_back(line.substr(word));
    at = end + 2;
  }
  return lines;
}

// A line without its times.
std::string Steady(const std::string& line) { return line.substr(line.find("requests=")); }

// ---- the log ----

LoggedRequest Entry(uint64_t number, uint64_t wake_up, const std::string& client, uint64_t count = 1) {
  LoggedRequest request;
  request.command = CommandClass::kSet;
  request.key = "k" + std::to_string(number);
  request.client = client;
  request.ns = number;
  request.wake_up = wake_up;
  request.count = count;
  return request;
}

TEST(RequestLog, SlowRequestsOfOneWakeUpOfOneClientAreOneEntry) {
  RequestLog log{{}};
  log.AddSlow(Entry(10, 1, "a", 2));
  log.AddSlow(Entry(11, 1, "b"));
  // Another thread is between them.
  log.AddSlow(Entry(12, 2, "a"));
  log.AddSlow(Entry(13, 1, "a", 3));
  const RequestLog::List list = log.Slow();
  EXPECT_EQ(list.total, 7u);
  ASSERT_EQ(list.entries.size(), 3u);
  EXPECT_EQ(list.entries[0].count, 5u);
  EXPECT_EQ(list.entries[0].key, "k13");
  EXPECT_EQ(list.entries[1].key, "k12");
  EXPECT_EQ(list.entries[2].key, "k11");
  EXPECT_TRUE(log.Large().entries.empty());
}

TEST(RequestLog, EachLargeRequestIsAnEntry) {
  RequestLog log{{}};
  for (int i = 0; i < 3; i++) log.AddLarge(Entry(5, 1, "a"));
  EXPECT_EQ(log.Large().total, 3u);
  EXPECT_EQ(log.Large().entries.size(), 3u);
  EXPECT_TRUE(log.Slow().entries.empty());
}

TEST(RequestLog, TheOldestEntriesGo) {
  RequestLog log{{}};
  for (uint64_t i = 1; i <= 200; i++) {
    log.AddSlow(Entry(i, i, "a"));
    log.AddLarge(Entry(i, i, "a"));
  }
  for (const RequestLog::List& list : {log.Slow(), log.Large()}) {
    EXPECT_EQ(list.total, 200u);
    ASSERT_EQ(list.entries.size(), RequestLog::kEntriesMax);
    EXPECT_EQ(list.entries.front().ns, 200u);
    EXPECT_EQ(list.entries.back().ns, 200 - RequestLog::kEntriesMax + 1);
  }
  log.Clear();
  EXPECT_EQ(log.Slow().total + log.Large().total, 0u);
  EXPECT_TRUE(log.Slow().entries.empty() && log.Large().entries.empty());
}

// ---- which requests ----

constexpr uint64_t kSecond = 1'000'000'000;
constexpr uint64_t kHour = 3600 * kSecond;

// A clock for which a nanosecond has three ticks, whatever the processor counts.
TickClock OldClock() { return TickClock(ReadTicks() - 3 * kHour, OsMonotonicNs() - kHour); }

TEST(TickClock, ABoundIsSevenEighthsOfTheMeasuredRateOnceTheClockIsOld) {
  const uint64_t old = OldClock().TicksBelow(8 * kSecond);
  EXPECT_LE(old, 22 * kSecond);
  EXPECT_GT(old, 20 * kSecond);
  EXPECT_LE(TickClock().TicksBelow(kSecond), kSecond);
}

// An observer of one client, whose clock is old.
struct Observed {
  explicit Observed(uint64_t slow_ns) : log({.slow_ns = slow_ns}) { observer.BeginCall(&client, &now); }

  // A request that took this long.
  void Delete(uint64_t ns, const char* key) {
    observer.BeginWakeUpAt(ReadTicks() - 3 * ns);
    observer.ObserveCommand(CommandClass::kDelete, key);
  }

  const std::string client = "tcp:a";
  const Now now{1, 1'700'000'000'123};
  RequestLog log;
  const TickClock clock = OldClock();
  RequestObserver observer{&clock, &log, test::Seed()};
};

TEST(RequestObserver, ARequestAtTheLimitIsLoggedWhenItsRunEnds) {
  Observed observed(100 * kSecond);
  observed.Delete(50 * kSecond, "fast");
  observed.Delete(101 * kSecond, "slow");
  observed.observer.ObserveCommand(CommandClass::kTouch, "behind");
  EXPECT_EQ(observed.log.Slow().total, 0u);
  observed.observer.EndCall();
  const RequestLog::List list = observed.log.Slow();
  EXPECT_EQ(list.total, 2u);
  ASSERT_EQ(list.entries.size(), 1u);
  const LoggedRequest& entry = list.entries[0];
  EXPECT_TRUE(entry.command == CommandClass::kTouch);
  EXPECT_EQ(entry.key, "behind");
  EXPECT_EQ(entry.client, "tcp:a");
  EXPECT_EQ(entry.wall_ms, 1'700'000'000'123);
  EXPECT_GE(entry.ns, 100 * kSecond);
  EXPECT_LT(entry.ns, kHour);
  // The run is over.
  observed.observer.EndCall();
  EXPECT_EQ(observed.log.Slow().total, 2u);
}

TEST(RequestObserver, RequestsThatHaveWaitedSinceAnotherWakeUpAreAnotherEntry) {
  Observed observed(100 * kSecond);
  observed.Delete(200 * kSecond, "a");
  observed.Delete(300 * kSecond, "b");
  observed.observer.EndCall();
  const RequestLog::List list = observed.log.Slow();
  ASSERT_EQ(list.entries.size(), 2u);
  EXPECT_EQ(list.entries[1].key, "a");
  EXPECT_LT(list.entries[1].ns, 290 * kSecond);
  EXPECT_GE(list.entries[0].ns, 300 * kSecond - kSecond);
}

TEST(RequestObserver, OneRequestThatLooksSlowTeachesItTheRateOfTheCounter) {
  const std::string client = "tcp:a";
  const Now now;
  // Young when the observer is made, and then soon old.
  constexpr uint64_t kAge = 900'000'000;
  const TickClock clock(ReadTicks() - 3 * kAge, OsMonotonicNs() - kAge);
  RequestLog log{{.slow_ns = 100 * kSecond}};
  RequestObserver observer(&clock, &log, test::Seed());
  observer.BeginCall(&client, &now);
  while (clock.TicksBelow(kSecond) <= kSecond) {
  }
  const uint64_t ticks = clock.TicksBelow(80 * kSecond);
  observer.BeginWakeUpAt(ReadTicks() - ticks);
  observer.ObserveCommand(CommandClass::kOther);
  EXPECT_FALSE(observer.IsSlow());
  observer.EndCall();
  EXPECT_EQ(log.Slow().total, 0u);
}

TEST(RequestLog, EveryRequestWithALargeValueIsListed) {
  ProtocolServer server(OptionsWith(RequestLog::kNoLimit, 100));
  ProtocolClient client(&server);
  const std::string large(100, 'v');
  const std::string streamed(100'000, 'w');
  client.Send(Set("a", large) + Set("b", large.substr(1)) + "get a b a\r\nget b\r\nmg a v\r\nmg b v\r\n");
  client.SendInPieces(Set("c", streamed), 50'000);
  // Sent from where it is; and one that is not stored.
  client.Send("get c\r\n");
  client.Send("add a 0 0 100\r\n" + large + "\r\n");
  client.Send("ms d 100\r\n" + large + "\r\ntouch a 0\r\ndelete a\r\n");
  ProtocolClient binary(&server);
  binary.Send(test::KeyPacket(0x00, "d") + test::StorePacket(0x01, "e", large));
  binary.SendInPieces(test::StorePacket(0x01, "f", streamed), 50'000);
  const std::vector<std::string> lines = Lines(&client, "large");
  const char* const expected[] = {
      "requests=1 command=set bytes=100000 client=tcp:test key=f",
      "requests=1 command=set bytes=100 client=tcp:test key=e",
      "requests=1 command=get bytes=100 client=tcp:test key=d",
      "requests=1 command=ms bytes=100 client=tcp:test key=d",
      "requests=1 command=set bytes=100 client=tcp:test key=a",
      "requests=1 command=get bytes=100000 client=tcp:test key=c",
      "requests=1 command=set bytes=100000 client=tcp:test key=c",
      "requests=1 command=mg bytes=100 client=tcp:test key=a",
      "requests=1 command=gets bytes=100 client=tcp:test key=a",
      "requests=1 command=gets bytes=100 client=tcp:test key=a",
      "requests=1 command=set bytes=100 client=tcp:test key=a",
  };
  ASSERT_EQ(lines.size(), std::size(expected));
  for (size_t i = 0; i < lines.size(); i++) EXPECT_EQ(Steady(lines[i]), expected[i]);
  EXPECT_TRUE(Lines(&client, "slow").empty());
  EXPECT_TRUE(client.Send("stats slow\r\n").starts_with("STAT limit_us 0\r\nSTAT total 0\r\n"));
  EXPECT_TRUE(client.Send("stats large\r\n").starts_with("STAT limit_bytes 100\r\nSTAT total 11\r\nSTAT 1 time="));
}

TEST(RequestLog, SlowRequestsOfEveryKindAreListed) {
  // Everything takes a nanosecond.
  ProtocolServer server(OptionsWith(1, RequestLog::kNoLimit));
  ProtocolClient client(&server);
  client.Send("stats reset\r\n");
  client.Send(Set("a", "1") + Set("b", "22"));
  client.Send("get a b none\r\nget a\r\n");
  client.Send("incr a 1\r\n");
  client.Send("mg a v\r\n");
  client.Send("mg none v\r\n");
  client.Send("delete b\r\n");
  client.Send("gat 0 a\r\n");
  client.Send("version\r\n");
  client.Send("flush_all\r\n");
  const char* const expected[] = {
      "requests=1 command=other bytes=0 client=tcp:test",
      "requests=1 command=other bytes=0 client=tcp:test",
      "requests=1 command=touch bytes=1 client=tcp:test key=a",
      "requests=1 command=delete bytes=0 client=tcp:test key=b",
      "requests=1 command=mg bytes=0 client=tcp:test key=none",
      "requests=1 command=mg bytes=1 client=tcp:test key=a",
      "requests=1 command=incr bytes=0 client=tcp:test key=a",
      "requests=4 command=get bytes=1 client=tcp:test key=a",
      "requests=2 command=set bytes=2 client=tcp:test key=b",
  };
  const std::vector<std::string> lines = Lines(&client, "slow");
  // The last is the command that resets.
  ASSERT_EQ(lines.size(), std::size(expected) + 1);
  for (size_t i = 0; i < std::size(expected); i++) EXPECT_EQ(Steady(lines[i]), expected[i]);
  EXPECT_TRUE(Lines(&client, "large").empty());
}

TEST(RequestLog, GetsBeforeOneThatWaitsAreListedAtOnce) {
  StoreOptions store = ProtocolServer::SmallStore();
  store.has_backend = true;
  ProtocolServer server(OptionsWith(1, RequestLog::kNoLimit), store);
  ProtocolClient client(&server);
  client.Send(Set("a", "1"));
  client.Send("get a missing a\r\n");
  ProtocolClient other(&server);
  const std::vector<std::string> lines = Lines(&other, "slow");
  ASSERT_FALSE(lines.empty());
  EXPECT_EQ(Steady(lines[0]), "requests=1 command=gets bytes=1 client=tcp:test key=a");
}

TEST(RequestLog, ARequestThatHasWaitedForALoadIsSlow) {
  StoreOptions store = ProtocolServer::SmallStore();
  store.has_backend = true;
  ProtocolServer server(OptionsWith(100 * kSecond, RequestLog::kNoLimit), store);
  test::TestDatabase database(&server);
  ProtocolClient client(&server);
  ProtocolClient other(&server);
  ByteBuffer out;
  // More ticks than 100 seconds have on any processor.
  server.bench()->observer()->BeginWakeUpAt(ReadTicks() - 10 * 100 * kSecond);
  client.session()->Feed("mg missing v\r\n", 0, server.now, &out);
  EXPECT_EQ(client.Send("mg second v\r\n"), "");
  EXPECT_TRUE(client.Send("").empty());
  EXPECT_TRUE(other.Send("stats slow\r\n").starts_with("STAT limit_us 100000000\r\nSTAT total 0\r\n"));
  EXPECT_TRUE(database.Serve());
  EXPECT_EQ(client.ContinueOnce(), "EN\r\nEN\r\n");
  const std::vector<std::string> lines = Lines(&other, "slow");
  ASSERT_EQ(lines.size(), 1u);
  EXPECT_EQ(Steady(lines[0]), "requests=1 command=mg bytes=0 client=tcp:test key=missing");
}

// ---- what is shown ----

TEST(RequestLog, KeysAreHiddenWithTheOthers) {
  for (const bool hides : {true, false}) {
    Service::Options options = OptionsWith(1, 1);
    options.hide_keys = hides;
    options.disable_dumping = !hides;
    ProtocolServer server(options);
    ProtocolClient client(&server);
    client.Send(Set("secret", "1"));
    for (const char* list : {"slow", "large"}) {
      const std::string line = Lines(&client, list).back();
      EXPECT_EQ(line.find("secret"), std::string::npos) << line;
      char word[kHiddenKeyBytes];
      const std::string hidden(word, server.service()->keys().WriteHidden("secret", word));
      EXPECT_EQ(line.ends_with(" key=" + hidden), hides) << line;
      EXPECT_EQ(line.find(" key=") != std::string::npos, hides) << line;
    }
  }
}

TEST(RequestLog, KeysAreShownAsInAURI) {
  ProtocolServer server(OptionsWith(RequestLog::kNoLimit, 1));
  ProtocolClient client(&server);
  server.now.wall_ms = 1'700'000'000'007;
  client.Send(Set("a:\xff", "1"));
  const std::vector<std::string> lines = Lines(&client, "large");
  ASSERT_EQ(lines.size(), 1u);
  EXPECT_TRUE(lines[0].starts_with("time=1700000000.007 us=")) << lines[0];
  EXPECT_TRUE(lines[0].ends_with(" key=a%3A%FF")) << lines[0];
}

TEST(RequestLog, TheBinaryProtocolHasTheSameLists) {
  ProtocolServer server(OptionsWith(1, 1));
  ProtocolClient client(&server);
  client.Send(Set("a", "1"));
  ProtocolClient binary(&server);
  for (const char* list : {"slow", "large"}) {
    const std::string reply = binary.Send(test::KeyPacket(0x10, list));
    EXPECT_NE(reply.find("command=set bytes=1 client=tcp:test key=a"), std::string::npos) << list;
  }
}

TEST(RequestLog, IsOneForAllThreads) {
  ProtocolServer server(OptionsWith(1, 1));
  {
    Workbench bench(server.service());
    Session session(&bench, std::make_shared<ConnectionNames>(ConnectionNames{"tcp:other", "tcp:here"}), server.now);
    ByteBuffer out;
    session.Feed(Set("a", "1"), 0, server.now, &out);
  }
  // Its thread has ended.
  ProtocolClient client(&server);
  for (const char* list : {"slow", "large"}) {
    const std::vector<std::string> lines = Lines(&client, list);
    ASSERT_FALSE(lines.empty());
    EXPECT_EQ(Steady(lines.back()), "requests=1 command=set bytes=1 client=tcp:other key=a");
  }
}

TEST(RequestLog, IsResetWithTheStatistics) {
  ProtocolServer server(OptionsWith(RequestLog::kNoLimit, 1));
  ProtocolClient client(&server);
  client.Send(Set("a", "1"));
  EXPECT_EQ(Lines(&client, "large").size(), 1u);
  client.Send("stats reset\r\n");
  EXPECT_TRUE(Lines(&client, "large").empty());
  EXPECT_EQ(client.Send("stats large\r\n"), "STAT limit_bytes 1\r\nSTAT total 0\r\nEND\r\n");
}

}  // namespace
}  // namespace cairn
