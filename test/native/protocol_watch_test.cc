// watch: event lines and their keys, the logs of the threads, and what a watcher is told of that does not read. That
// commands of all protocols leave memcached's lines is the matter of test/protocol/watch.test.ts too.

#include <algorithm>
#include <atomic>
#include <memory>
#include <string>
#include <string_view>
#include <thread>
#include <utility>
#include <vector>

#include "protocol/event_lines.h"
#include "protocol/event_log.h"
#include "protocol/key_display.h"
#include "protocol/watch_hub.h"
#include "support/binary_packet.h"
#include "support/protocol_client.h"
#include "support/store_fixture.h"
#include "test.h"

namespace cairn {
namespace {

using test::ProtocolClient;
using test::ProtocolServer;

using test::Set;

const KeyDisplay& Shown() {
  static const KeyDisplay shown(false);
  return shown;
}

std::string LineOf(const Event& event, std::string_view text, const KeyDisplay& keys = Shown()) {
  char line[kEventLineBytesMax];
  return {line, WriteEventLine(event, text, keys, line)};
}

Event EventOf(Event::Kind kind) {
  Event event;
  event.kind = kind;
  event.wall_ms = 1764446400'007;
  event.number = 12;
  event.client = 3;
  return event;
}

std::vector<std::string> LinesOf(std::string_view text) {
  std::vector<std::string> lines;
  while (!text.empty()) {
    const size_t end = std::min(text.find('\n'), text.size() - 1) + 1;
    lines.emplace_back(text.substr(0, end));
    text.remove_prefix(end);
  }
  return lines;
}

// The lines without the fields that differ from run to run.
std::string Masked(std::string_view text) {
  std::string all;
  for (const std::string& line : LinesOf(text)) all += line.substr(std::min(line.find("type="), line.size()));
  return all;
}

// A client that watches, and the lines that it has been told.
class WatchingClient {
 public:
  WatchingClient(ProtocolServer* server, std::string_view command) : client_(server) {
    EXPECT_EQ(client_.Send(std::string(command) + "\r\n"), "OK\r\n");
  }
  // What has been told since the last call. One call may be answered with a part.
  std::string Told() {
    std::string all;
    for (std::string part = client_.ContinueOnce(); !part.empty(); part = client_.ContinueOnce()) all += part;
    return all;
  }
  ProtocolClient* operator->() { return &client_; }

 private:
  ProtocolClient client_;
};

uint64_t CountOf(ProtocolServer* server, Counter counter) { return server->service()->ReadCounters()[counter]; }

// ---- lines ----

TEST(EventLine, AFetchHasTheKeyAsInAUriItsStatusAndSize) {
  Event event = EventOf(Event::Kind::kItemGet);
  event.status = Status::kFound;
  event.value_bytes = 5;
  EXPECT_EQ(
      LineOf(event, "a b/%\x01~-._Z9\xff"),
      "ts=1764446400.007000 gid=12 type=item_get key=a%20b%2F%25%01~-._Z9%FF status=found clsid=1 cfd=3 size=5\n");
  event.status = Status::kNotFound;
  event.value_bytes = 0;
  EXPECT_EQ(LineOf(event, "k"),
            "ts=1764446400.007000 gid=12 type=item_get key=k status=not_found clsid=0 cfd=3 size=0\n");
}

TEST(EventLine, AMutationHasItsStatusItsCommandAndItsTime) {
  Event event = EventOf(Event::Kind::kItemStore);
  event.status = Status::kStored;
  event.verb = Verb::kPrepend;
  event.ttl_s = 60;
  event.value_bytes = 7;
  EXPECT_EQ(LineOf(event, "k"),
            "ts=1764446400.007000 gid=12 type=item_store key=k status=stored cmd=prepend ttl=60 "
            "clsid=1 cfd=3 size=7\n");
}

TEST(EventLine, EvictionsAndDeletionsHaveNoClient) {
  Event event = EventOf(Event::Kind::kEviction);
  event.ttl_s = -1;
  event.idle_s = 9;
  event.value_bytes = 7;
  event.is_fetched = true;
  EXPECT_EQ(LineOf(event, "k"),
            "ts=1764446400.007000 gid=12 type=eviction key=k fetch=yes ttl=-1 la=9 clsid=1 size=7\n");
  event = EventOf(Event::Kind::kDeleted);
  event.is_meta = true;
  EXPECT_EQ(LineOf(event, "k"), "ts=1764446400.007000 gid=12 type=deleted key=k cmd=md clsid=1 size=0\n");
}

TEST(EventLine, AConnectionHasTheEndOfItsClient) {
  Event event = EventOf(Event::Kind::kConnected);
  EXPECT_EQ(LineOf(event, "tcp:127.0.0.1:41000"),
            "ts=1764446400.007000 gid=12 type=conn_new rip=127.0.0.1 rport=41000 transport=tcp cfd=3\n");
  EXPECT_EQ(LineOf(event, "tcp6:[::1]:41000"),
            "ts=1764446400.007000 gid=12 type=conn_new rip=::1 rport=41000 transport=tcp cfd=3\n");
  event.kind = Event::Kind::kDisconnected;
  event.reason = CloseReason::kIdleTimeout;
  EXPECT_EQ(LineOf(event, "unix:"),
            "ts=1764446400.007000 gid=12 type=conn_close rip=unix rport=0 transport=local reason=idle_timeout cfd=3\n");
}

TEST(EventLine, TheLongestLineHasRoom) {
  Event event = EventOf(Event::Kind::kItemStore);
  event.wall_ms = INT64_MAX;
  event.number = event.client = UINT64_MAX;
  event.value_bytes = UINT32_MAX;
  event.ttl_s = INT64_MIN;
  event.verb = Verb::kPrepend;
  event.status = Status::kNotStored;
  EXPECT_LE(LineOf(event, std::string(kKeyBytesInlineMax, '#')).size(), kEventLineBytesMax);
  event.kind = Event::Kind::kDisconnected;
  event.reason = CloseReason::kIdleTimeout;
  EXPECT_LE(LineOf(event, "tcp6:[" + std::string(5000, 'a') + "]:65535").size(), kEventLineBytesMax);
}

TEST(KeyDisplay, AHiddenKeyIsAWordThatStaysTheSameAndIsNotThatOfAnotherSecret) {
  const KeyDisplay hidden(true);
  const KeyDisplay other(true);
  const auto word_of = [](const KeyDisplay& keys, std::string_view key) {
    ByteBuffer out;
    keys.Append(key, &out);
    return std::string(out.view());
  };
  const std::string word = word_of(hidden, "user:1");
  EXPECT_EQ(word.size(), kHiddenKeyBytes);
  EXPECT_EQ(word.find_first_not_of("0123456789abcdef"), std::string::npos);
  EXPECT_EQ(word_of(hidden, "user:1"), word);
  EXPECT_NE(word_of(hidden, "user:2"), word);
  EXPECT_NE(word_of(other, "user:1"), word);
  // A key that is shorter than its word.
  EXPECT_EQ(word_of(hidden, "u").size(), kHiddenKeyBytes);
}

// ---- a log ----

TEST(EventLog, HearsNothingAndKeepsNothingUntilItIsTold) {
  std::atomic<uint64_t> last{0};
  Counters counters;
  EventLog log(&last, &counters, nullptr);
  log.Append(EventOf(Event::Kind::kItemGet), "k");
  EXPECT_FALSE(log.hears(kFetchers));
  EXPECT_TRUE(log.Unread()->empty());
  EXPECT_EQ(counters.Read()[Counter::kLogWorkerWritten], 0u);
  EXPECT_EQ(counters.Read()[Counter::kLogWorkerDropped], 0u);
  EXPECT_EQ(last.load(), 0u);
}

TEST(EventLog, GivesItsEventsInOrderAndNumbersThem) {
  std::atomic<uint64_t> last{40};
  Counters counters;
  EventLog log(&last, &counters, nullptr);
  ASSERT_TRUE(log.Hear(kFetchers | kMutations));
  EXPECT_TRUE(log.hears(kMutations));
  EXPECT_FALSE(log.hears(kDeletions));
  log.Append(EventOf(Event::Kind::kItemGet), "first");
  log.AppendCopied(EventOf(Event::Kind::kItemStore), 6, [](char* to) { std::copy_n("second", 6, to); });
  std::string_view events = *log.Unread();
  *log.Unread() = {};
  Event event;
  EXPECT_EQ(EventLog::Next(&events, &event), "first");
  EXPECT_EQ(event.number, 41u);
  EXPECT_EQ(EventLog::Next(&events, &event), "second");
  EXPECT_EQ(event.number, 42u);
  EXPECT_TRUE(event.kind == Event::Kind::kItemStore);
  EXPECT_TRUE(events.empty());
  EXPECT_TRUE(log.Unread()->empty());
  ASSERT_TRUE(log.Hear(0));
}

TEST(EventLog, DropsAndCountsWhatFindsNoRoomAndGoesOnWhenItHasBeenRead) {
  std::atomic<uint64_t> last{0};
  Counters counters;
  EventLog log(&last, &counters, nullptr);
  ASSERT_TRUE(log.Hear(kFetchers));
  const std::string key(kKeyBytesInlineMax, 'k');
  for (int i = 0; i < 10'000; i++) log.Append(EventOf(Event::Kind::kItemGet), key);
  const uint64_t written = counters.Read()[Counter::kLogWorkerWritten];
  EXPECT_EQ(written + counters.Read()[Counter::kLogWorkerDropped], 10'000u);
  EXPECT_GT(written, 1000u);
  EXPECT_LT(written, 3000u);
  std::string_view events = *log.Unread();
  *log.Unread() = {};
  EXPECT_LE(events.size(), EventLog::kEventLogBytes);
  uint64_t count = 0;
  Event event;
  for (; !events.empty(); count++) EXPECT_EQ(EventLog::Next(&events, &event), key);
  EXPECT_EQ(count, written);
  // The numbers are those of events that are there.
  EXPECT_EQ(last.load(), written);
  log.Append(EventOf(Event::Kind::kItemGet), key);
  EXPECT_EQ(counters.Read()[Counter::kLogWorkerWritten], written + 1);
  ASSERT_TRUE(log.Hear(0));
}

TEST(EventLog, RingsWhenItIsHalfFull) {
  class Bell final : public Waker {
   public:
    void Wake() override { count++; }
    int count = 0;
  };
  std::atomic<uint64_t> last{0};
  Counters counters;
  Bell bell;
  EventLog log(&last, &counters, &bell);
  ASSERT_TRUE(log.Hear(kFetchers));
  const std::string key(kKeyBytesInlineMax, 'k');
  for (int round = 1; round <= 3; round++) {
    for (int i = 0; i < 100; i++) log.Append(EventOf(Event::Kind::kItemGet), key);
    EXPECT_EQ(bell.count, round - 1);
    for (int i = 0; i < 10'000; i++) log.Append(EventOf(Event::Kind::kItemGet), key);
    EXPECT_EQ(bell.count, round);
    *log.Unread() = {};
  }
  ASSERT_TRUE(log.Hear(0));
}

// ---- the command ----

TEST(Watch, WordsNameStreamsAsInMemcached) {
  ProtocolServer server;
  for (const char* line : {"watch", "watch fetchers", "watch f", "watch mut del conn ev", "watch rawcmds sysevents",
                           "watch proxyreqs proxyevents proxyuser", "watch  fetchers  mutations "}) {
    ProtocolClient client(&server);
    EXPECT_EQ(client.Send(std::string(line) + "\r\n"), "OK\r\n") << line;
    EXPECT_TRUE(client.session()->is_watching());
  }
  for (const char* line : {"watch bogus", "watch fetchersx", "watch fetchers bogus", "watch Fetchers"}) {
    ProtocolClient client(&server);
    EXPECT_EQ(client.Send(std::string(line) + "\r\nmn\r\n"), "ERROR\r\nMN\r\n") << line;
  }
  ProtocolClient client(&server);
  EXPECT_EQ(client.Send("watch bogus noreply\r\nmn\r\n"), "MN\r\n");
}

TEST(Watch, IsForbiddenByItsOption) {
  Service::Options options = ProtocolServer::DefaultOptions();
  options.disable_watch = true;
  ProtocolServer server(options);
  ProtocolClient client(&server);
  EXPECT_EQ(client.Send("watch\r\nmn\r\n"), "CLIENT_ERROR watch commands not allowed\r\nMN\r\n");
}

TEST(Watch, TwentyClientsMayDoIt) {
  ProtocolServer server;
  std::vector<std::unique_ptr<ProtocolClient>> clients;
  for (int i = 0; i < 20; i++) {
    clients.push_back(std::make_unique<ProtocolClient>(&server));
    ASSERT_EQ(clients.back()->Send("watch\r\n"), "OK\r\n");
  }
  EXPECT_EQ(server.service()->watch_hub()->watcher_count(), 20u);
  ProtocolClient more(&server);
  EXPECT_EQ(more.Send("watch\r\nmn\r\n"), "WATCHER_TOO_MANY log watcher limit reached\r\nMN\r\n");
  clients.pop_back();
  EXPECT_EQ(more.Send("watch\r\n"), "OK\r\n");
}

TEST(Watch, DropsWhatTheClientSendsAfterwardsAndEndsWithIt) {
  ProtocolServer server;
  ProtocolClient watcher(&server);
  EXPECT_EQ(watcher.Send("watch\r\nset a 0 0 1\r\nx\r\nversion\r\n"), "OK\r\n");
  EXPECT_EQ(watcher.Send("quit\r\nget a\r\n" + std::string(100'000, 'x')), "");
  EXPECT_TRUE(watcher.next == Session::Next::kRead);
  EXPECT_TRUE(watcher.session()->waits());
  EXPECT_FALSE(watcher.session()->is_in_large_request());
  EXPECT_TRUE(server.bench()->events()->hears(kFetchers));
  EXPECT_EQ(watcher.End(), "");
  EXPECT_TRUE(watcher.next == Session::Next::kClose);
  watcher.Disconnect();
  // There is no watcher any more.
  EXPECT_FALSE(server.bench()->events()->hears(~uint32_t{0}));
  ProtocolClient client(&server);
  EXPECT_EQ(client.Send("get a\r\n"), "END\r\n");
}

TEST(Watch, ACommandInPiecesIsTheSame) {
  ProtocolServer server;
  ProtocolClient watcher(&server);
  EXPECT_EQ(watcher.SendInPieces("get a\r\nwatch fetchers\r\nget b\r\n", 1), "END\r\nOK\r\n");
  EXPECT_TRUE(watcher.session()->is_watching());
}

TEST(Watch, LinesStandBehindRepliesThatAreHeld) {
  ProtocolServer server;
  ProtocolClient client(&server);
  ProtocolClient watcher(&server);
  EXPECT_EQ(client.Send("debughold 0\r\n"), "OK\r\n");
  EXPECT_EQ(watcher.Send(Set("a", "1") + "watch mutations\r\n"), "");
  EXPECT_EQ(client.Send(Set("b", "22")), "");
  EXPECT_EQ(watcher.ContinueOnce(), "");
  ProtocolClient other(&server);
  EXPECT_EQ(other.Send("debugcommit all\r\n"), "OK\r\n");
  std::string told = watcher.ContinueOnce();
  told += watcher.ContinueOnce();
  EXPECT_EQ(told.substr(0, 12), "STORED\r\nOK\r\n");
  EXPECT_EQ(Masked(told.substr(12)), "type=item_store key=b status=stored cmd=set ttl=0 clsid=1 cfd=1 size=2\n");
}

// ---- what requests leave ----

TEST(Watch, TextCommandsLeaveTheLinesOfMemcached) {
  ProtocolServer server;
  ProtocolClient client(&server);
  WatchingClient watcher(&server, "watch fetchers mutations deletions");
  client.Send("get k\r\nset k 5 100 3\r\nabc\r\nget k x\r\nadd k 0 0 3\r\nabc\r\nappend k 0 0 2\r\nde\r\nincr k 1\r\n");
  EXPECT_EQ(Masked(watcher.Told()),
            "type=item_get key=k status=not_found clsid=0 cfd=1 size=0\n"
            "type=item_get key=k status=not_found clsid=0 cfd=1 size=0\n"
            "type=item_store key=k status=stored cmd=set ttl=100 clsid=1 cfd=1 size=3\n"
            "type=item_get key=k status=found clsid=1 cfd=1 size=3\n"
            "type=item_get key=x status=not_found clsid=0 cfd=1 size=0\n"
            "type=item_get key=k status=found clsid=1 cfd=1 size=3\n"
            "type=item_store key=k status=not_stored cmd=add ttl=0 clsid=1 cfd=1 size=3\n"
            "type=item_get key=k status=found clsid=1 cfd=1 size=3\n"
            "type=item_store key=k status=stored cmd=append ttl=100 clsid=1 cfd=1 size=5\n"
            "type=item_get key=k status=found clsid=1 cfd=1 size=5\n");
  client.Send("cas k 0 0 1 1\r\nx\r\ncas x 0 0 1 1\r\nx\r\ntouch k 9\r\ngat 9 k\r\ndelete k\r\ndelete k\r\n");
  EXPECT_EQ(Masked(watcher.Told()),
            "type=item_get key=k status=found clsid=1 cfd=1 size=5\n"
            "type=item_store key=k status=exists cmd=cas ttl=0 clsid=1 cfd=1 size=1\n"
            "type=item_get key=x status=not_found clsid=0 cfd=1 size=0\n"
            "type=item_store key=x status=not_found cmd=cas ttl=0 clsid=1 cfd=1 size=1\n"
            "type=item_get key=k status=found clsid=1 cfd=1 size=5\n"
            "type=item_get key=k status=found clsid=1 cfd=1 size=5\n"
            "type=item_get key=k status=found clsid=1 cfd=1 size=5\n"
            "type=deleted key=k cmd=delete clsid=1 size=5\n"
            "type=item_get key=k status=not_found clsid=0 cfd=1 size=0\n");
}

TEST(Watch, AValueThatComesInPiecesAndOneThatIsTooLargeAreMutations) {
  ProtocolServer server;
  ProtocolClient client(&server);
  WatchingClient watcher(&server, "watch mutations fetchers");
  const std::string large(200'000, 'v');
  EXPECT_EQ(client.SendInPieces(Set("large", large), 50'000), "STORED\r\n");
  EXPECT_EQ(Masked(watcher.Told()),
            "type=item_get key=large status=not_found clsid=0 cfd=1 size=0\n"
            "type=item_store key=large status=stored cmd=set ttl=0 clsid=1 cfd=1 size=200000\n");
  client.Send("set large 0 9 2000000\r\n" + std::string(2'000'000, 'v') + "\r\n");
  EXPECT_EQ(Masked(watcher.Told()),
            "type=item_store key=large status=too_large cmd=set ttl=0 clsid=1 cfd=1 size=0\n"
            "type=item_get key=large status=found clsid=1 cfd=1 size=200000\n");
  // The sum of an append is too large.
  const std::string half(600'000, 'v');
  client.Send(Set("half", half) + "append half 0 0 600000\r\n" + half + "\r\n");
  const std::string told = Masked(watcher.Told());
  EXPECT_NE(told.find("type=item_store key=half status=not_stored cmd=append ttl=0 clsid=1 cfd=1 size=600000\n"),
            std::string::npos)
      << told;
}

TEST(Watch, LargePacketsAreMutationsAlsoThoseThatAreTooLarge) {
  ProtocolServer server;
  ProtocolClient client(&server);
  WatchingClient watcher(&server, "watch mutations fetchers");
  const std::string large(600'000, 'v');
  client.SendInPieces(test::StorePacket(0x01, "large", large), 50'000);
  EXPECT_EQ(Masked(watcher.Told()),
            "type=item_get key=large status=not_found clsid=0 cfd=1 size=0\n"
            "type=item_store key=large status=stored cmd=set ttl=0 clsid=1 cfd=1 size=600000\n");
  client.Send(test::PacketOf(0x0e, {.key = "large", .value = large}));
  EXPECT_EQ(Masked(watcher.Told()),
            "type=item_get key=large status=found clsid=1 cfd=1 size=600000\n"
            "type=item_store key=large status=not_stored cmd=append ttl=0 clsid=1 cfd=1 size=600000\n");
  client.Send(test::StorePacket(0x01, "large", large + large));
  EXPECT_EQ(Masked(watcher.Told()),
            "type=item_store key=large status=too_large cmd=set ttl=0 clsid=1 cfd=1 size=0\n"
            "type=item_get key=large status=found clsid=1 cfd=1 size=600000\n");
}

TEST(Watch, AValueThatTheStoreRefusesIsAMutation) {
  Service::Options options = ProtocolServer::DefaultOptions();
  options.item_bytes_max = 64 << 20;  // above the largest value of the store
  ProtocolServer server(options);
  ProtocolClient client(&server);
  WatchingClient watcher(&server, "watch mutations");
  const std::string value(2'000'000, 'v');
  EXPECT_EQ(client.Send(Set("text", value)), "SERVER_ERROR object too large for cache\r\n");
  ProtocolClient binary(&server);
  EXPECT_NE(binary.Send(test::StorePacket(0x01, "binary", value)), "");
  EXPECT_EQ(Masked(watcher.Told()),
            "type=item_store key=text status=too_large cmd=set ttl=0 clsid=1 cfd=1 size=0\n"
            "type=item_store key=binary status=too_large cmd=set ttl=0 clsid=1 cfd=3 size=0\n");
}

TEST(Watch, MetaCommandsLeaveTheLinesOfMemcached) {
  ProtocolServer server;
  ProtocolClient client(&server);
  WatchingClient watcher(&server, "watch fetchers mutations deletions");
  client.Send(
      "ms m 2 T30\r\nhi\r\nmg m v\r\nmg n N30 v\r\nmd m I\r\nmd m\r\nma c N0 J13\r\nma c\r\nms e 2 ME\r\nhi\r\n"
      "mg bm9l b v\r\nme c\r\n");
  EXPECT_EQ(Masked(watcher.Told()),
            "type=item_get key=m status=not_found clsid=0 cfd=1 size=0\n"
            "type=item_store key=m status=stored cmd=set ttl=30 clsid=1 cfd=1 size=2\n"
            "type=item_get key=m status=found clsid=1 cfd=1 size=2\n"
            "type=item_get key=n status=not_found clsid=0 cfd=1 size=0\n"
            "type=item_get key=m status=found clsid=1 cfd=1 size=2\n"
            "type=item_get key=m status=found clsid=1 cfd=1 size=2\n"
            "type=deleted key=m cmd=md clsid=1 size=2\n"
            "type=item_get key=c status=not_found clsid=0 cfd=1 size=0\n"
            "type=item_get key=c status=not_found clsid=0 cfd=1 size=0\n"
            "type=item_store key=c status=stored cmd=add ttl=0 clsid=1 cfd=1 size=2\n"
            "type=item_get key=c status=found clsid=1 cfd=1 size=2\n"
            "type=item_get key=e status=not_found clsid=0 cfd=1 size=0\n"
            "type=item_store key=e status=stored cmd=add ttl=0 clsid=1 cfd=1 size=2\n"
            "type=item_get key=noe status=not_found clsid=0 cfd=1 size=0\n"
            "type=item_get key=c status=found clsid=1 cfd=1 size=2\n");
}

TEST(Watch, AnAppendThatMakesItsEntryIsOneThatWasStored) {
  ProtocolServer server;
  ProtocolClient client(&server);
  WatchingClient watcher(&server, "watch mutations");
  EXPECT_EQ(client.Send("ms a 1 MA N60\r\nx\r\nms a 1 MA N90\r\ny\r\nms p 1 MP N0\r\nx\r\nms q 1 MA\r\nx\r\n"),
            "HD\r\nHD\r\nHD\r\nNS\r\n");
  EXPECT_EQ(Masked(watcher.Told()),
            "type=item_store key=a status=stored cmd=append ttl=60 clsid=1 cfd=1 size=1\n"
            "type=item_store key=a status=stored cmd=append ttl=60 clsid=1 cfd=1 size=2\n"
            "type=item_store key=p status=stored cmd=prepend ttl=0 clsid=1 cfd=1 size=1\n"
            "type=item_store key=q status=not_stored cmd=append ttl=0 clsid=1 cfd=1 size=1\n");
}

TEST(Watch, PacketsLeaveTheLinesOfMemcached) {
  ProtocolServer server;
  ProtocolClient client(&server);
  WatchingClient watcher(&server, "watch fetchers mutations deletions");
  client.Send(test::StorePacket(0x01, "k", "val") + test::KeyPacket(0x00, "k") + test::KeyPacket(0x00, "miss") +
              test::CountPacket(0x05, "n", 1, 7, 30) + test::CountPacket(0x05, "n", 1, 7, 30) +
              test::StorePacket(0x02, "k", "val") + test::StorePacket(0x01, "k", "val", 99) +
              test::PacketOf(0x0e, {.key = "k", .value = "zz"}) + test::TouchPacket(0x1c, "k", 9) +
              test::KeyPacket(0x04, "k"));
  EXPECT_EQ(Masked(watcher.Told()),
            "type=item_get key=k status=not_found clsid=0 cfd=1 size=0\n"
            "type=item_store key=k status=stored cmd=set ttl=0 clsid=1 cfd=1 size=3\n"
            "type=item_get key=k status=found clsid=1 cfd=1 size=3\n"
            "type=item_get key=miss status=not_found clsid=0 cfd=1 size=0\n"
            "type=item_get key=n status=not_found clsid=0 cfd=1 size=0\n"
            "type=item_get key=n status=not_found clsid=0 cfd=1 size=0\n"
            "type=item_store key=n status=stored cmd=add ttl=30 clsid=1 cfd=1 size=1\n"
            "type=item_get key=n status=found clsid=1 cfd=1 size=1\n"
            "type=item_get key=k status=found clsid=1 cfd=1 size=3\n"
            "type=item_store key=k status=not_stored cmd=add ttl=0 clsid=1 cfd=1 size=3\n"
            "type=item_get key=k status=found clsid=1 cfd=1 size=3\n"
            "type=item_store key=k status=exists cmd=cas ttl=0 clsid=1 cfd=1 size=3\n"
            "type=item_get key=k status=found clsid=1 cfd=1 size=3\n"
            "type=item_store key=k status=stored cmd=append ttl=0 clsid=1 cfd=1 size=5\n"
            "type=item_get key=k status=found clsid=1 cfd=1 size=5\n"
            "type=item_get key=k status=found clsid=1 cfd=1 size=5\n"
            "type=deleted key=k cmd=delete clsid=1 size=5\n");
}

TEST(Watch, EachWatcherIsToldOfItsStreamsFromItsBeginningOn) {
  ProtocolServer server;
  ProtocolClient client(&server);
  WatchingClient first(&server, "watch fetchers");
  client.Send(Set("a", "1"));
  // What has happened before may still be unread.
  WatchingClient second(&server, "watch mutations deletions");
  client.Send("get early\r\n");
  WatchingClient third(&server, "watch fetchers");
  client.Send(Set("b", "1") + "delete b\r\n");
  EXPECT_EQ(Masked(second.Told()),
            "type=item_store key=b status=stored cmd=set ttl=0 clsid=1 cfd=1 size=1\n"
            "type=deleted key=b cmd=delete clsid=1 size=1\n");
  EXPECT_EQ(Masked(third.Told()),
            "type=item_get key=b status=not_found clsid=0 cfd=1 size=0\n"
            "type=item_get key=b status=found clsid=1 cfd=1 size=1\n");
  EXPECT_EQ(Masked(first.Told()),
            "type=item_get key=a status=not_found clsid=0 cfd=1 size=0\n"
            "type=item_get key=early status=not_found clsid=0 cfd=1 size=0\n"
            "type=item_get key=b status=not_found clsid=0 cfd=1 size=0\n"
            "type=item_get key=b status=found clsid=1 cfd=1 size=1\n");
}

TEST(Watch, ARequestThatIsAskedForAgainIsToldOfOnce) {
  ProtocolServer server;
  ProtocolClient client(&server);
  client.Send(Set("k", std::string(300'000, 'v')));
  WatchingClient watcher(&server, "watch");
  // The replies are too many for one call.
  client.Send("get k k k k k k k k k k\r\n");
  EXPECT_EQ(LinesOf(watcher.Told()).size(), 10u);
}

TEST(Watch, LinesHaveTheTimeOfTheRequestAndNumbersThatRise) {
  ProtocolServer server;
  ProtocolClient client(&server);
  WatchingClient watcher(&server, "watch");
  client.Send("get a b\r\n");
  server.Pass(1500);
  client.Send("get c\r\n");
  EXPECT_EQ(watcher.Told(),
            "ts=1700000000.000000 gid=2 type=item_get key=a status=not_found clsid=0 cfd=1 size=0\n"
            "ts=1700000000.000000 gid=3 type=item_get key=b status=not_found clsid=0 cfd=1 size=0\n"
            "ts=1700000001.500000 gid=4 type=item_get key=c status=not_found clsid=0 cfd=1 size=0\n");
}

// ---- connections ----

TEST(Watch, ConnectionsAreToldOfWithTheReasonOfTheirEnd) {
  ProtocolServer server;
  WatchingClient watcher(&server, "watch connevents");
  const auto end_of = [&](auto end) {
    ProtocolClient client(&server);
    end(&client);
    client.Disconnect();
    const std::string told = Masked(watcher.Told());
    EXPECT_EQ(told.find("type=conn_new rip=unix rport=0 transport=local cfd="), 0u) << told;
    const size_t reason = told.find("reason=");
    return told.substr(reason, told.find(' ', reason) - reason);
  };
  EXPECT_EQ(end_of([](ProtocolClient* client) { client->Send("quit\r\n"); }), "reason=normal");
  EXPECT_EQ(end_of([](ProtocolClient* client) { client->End(); }), "reason=normal");
  EXPECT_EQ(end_of([](ProtocolClient* client) { client->Send(test::KeyPacket(0x07, "")); }), "reason=normal");
  EXPECT_EQ(end_of([](ProtocolClient* client) { client->Send("GET / HTTP/1.1\r\n"); }), "reason=error");
  EXPECT_EQ(end_of([](ProtocolClient*) {}), "reason=error");
  EXPECT_EQ(end_of([](ProtocolClient* client) { client->session()->SetCloseReason(CloseReason::kIdleTimeout); }),
            "reason=idle_timeout");
}

// ---- evictions ----

TEST(Watch, EvictionsAreToldOfWithTheirEntries) {
  StoreOptions store_options = ProtocolServer::SmallStore();
  store_options.shard_count = 1;
  store_options.entries_max = 3;
  store_options.track_access = true;
  ProtocolServer server(ProtocolServer::DefaultOptions(), store_options);
  RemovalRecorder sink;
  server.store()->SetRemovalSink(&sink);
  ProtocolClient client(&server);
  client.Send(Set("gone before", "1"));
  client.Send("set a 0 0 2\r\nxx\r\nset b 0 100 3\r\nxxx\r\nset c 0 0 4\r\nxxxx\r\n");
  server.Pass(7000);
  {
    WatchingClient watcher(&server, "watch evictions");
    EXPECT_TRUE(sink.is_tapped());
    client.Send("get a\r\nset d 0 0 1\r\nx\r\nset e 0 0 1\r\nx\r\nset f 0 0 1\r\nx\r\n");
    EXPECT_EQ(Masked(watcher.Told()),
              "type=eviction key=b fetch=no ttl=93 la=7 clsid=1 size=3\n"
              "type=eviction key=c fetch=no ttl=-1 la=7 clsid=1 size=4\n"
              "type=eviction key=a fetch=yes ttl=-1 la=0 clsid=1 size=2\n");
    // No client can ask for such a key.
    Request set;
    const std::string long_key(kKeyBytesInlineMax + 1, 'k');
    set.verb = Verb::kSet;
    set.key = long_key;
    Outcome outcome;
    server.store()->Execute(set, server.now, nullptr, &outcome);
    client.Send("set g 0 0 1\r\nx\r\nset h 0 0 1\r\nx\r\nset i 0 0 1\r\nx\r\n");
    EXPECT_EQ(watcher.Told().find("kkk"), std::string::npos);
  }
  EXPECT_FALSE(sink.is_tapped());
  // Another sink's events are as before.
  EXPECT_FALSE(sink.Take().empty());
}

// ---- a watcher that does not read ----

TEST(Watch, AWatcherThatDoesNotReadLosesLinesAndIsToldHowMany) {
  ProtocolServer server;
  ProtocolClient client(&server);
  ProtocolClient slow(&server);
  WatchingClient fast(&server, "watch");
  ASSERT_EQ(slow.Send("watch\r\n"), "OK\r\n");
  slow.backlog = 1;
  const std::string get = "get " + std::string(kKeyBytesInlineMax, '%') + "\r\n";
  size_t told = 0;
  for (int i = 0; i < 1000; i++) {
    client.Send(get);
    EXPECT_EQ(slow.ContinueOnce(), "");
    told += LinesOf(fast.Told()).size();
  }
  // It has held up no other.
  EXPECT_EQ(told, 1000u);
  slow.backlog = 0;
  const std::vector<std::string> kept = LinesOf(slow.ContinueOnce());
  EXPECT_GT(kept.size(), 200u);
  EXPECT_LT(kept.size(), 400u);
  size_t bytes = 0;
  for (const std::string& line : kept) bytes += line.size();
  EXPECT_LE(bytes, Watcher::kWatcherBytes);
  // It is told by the next line.
  EXPECT_EQ(slow.ContinueOnce(), "");
  client.Send("get after\r\n");
  const std::vector<std::string> after = LinesOf(slow.ContinueOnce());
  ASSERT_EQ(after.size(), 2u);
  EXPECT_EQ(after[0], "skipped=" + std::to_string(1000 - kept.size()) + "\n");
  EXPECT_NE(after[1].find("key=after"), std::string::npos);
  client.Send("get again\r\n");
  EXPECT_EQ(LinesOf(slow.ContinueOnce()).size(), 1u);
  static_cast<void>(fast.Told());

  EXPECT_EQ(CountOf(&server, Counter::kLogWorkerWritten), 1002u);
  EXPECT_EQ(CountOf(&server, Counter::kLogWorkerDropped), 0u);
  EXPECT_EQ(CountOf(&server, Counter::kLogWatcherSkipped), 1000u - kept.size());
  EXPECT_EQ(CountOf(&server, Counter::kLogWatcherSent), 1002u + 2 + kept.size());
  const std::string stats = client.Send("stats\r\n");
  for (const char* line :
       {"STAT log_worker_dropped 0\r\n", "STAT log_worker_written 1002\r\n", "STAT log_watchers 2\r\n"})
    EXPECT_NE(stats.find(line), std::string::npos) << line;
}

TEST(Watch, AWatcherWhoseLinesAnotherHasMadeIsWokenBeforeItsBufferIsFull) {
  class Front final : public Waker {
   public:
    void Wake() override { count++; }
    int count = 0;
  };
  ProtocolServer server;
  const auto front = std::make_shared<Front>();
  server.service()->AddWaker(front);
  ProtocolClient client(&server);
  WatchingClient busy(&server, "watch");
  ProtocolClient other(&server);
  ASSERT_EQ(other.Send("watch\r\n"), "OK\r\n");
  const std::string get = "get " + std::string(kKeyBytesInlineMax, '%') + "\r\n";
  size_t told = 0;
  for (int i = 0; i < 2000; i++) {
    client.Send(get);
    static_cast<void>(busy.Told());
    if (std::exchange(front->count, 0) != 0) told += LinesOf(other.ContinueOnce()).size();
  }
  told += LinesOf(other.ContinueOnce()).size();
  EXPECT_EQ(told, 2000u);
  EXPECT_EQ(CountOf(&server, Counter::kLogWatcherSkipped), 0u);
  server.service()->RemoveWaker(front.get());
}

TEST(Watch, EventsThatNoWatcherHasReadYetAreDroppedAndCounted) {
  ProtocolServer server;
  ProtocolClient client(&server);
  WatchingClient watcher(&server, "watch");
  const std::string get = "get " + std::string(kKeyBytesInlineMax, '%') + "\r\n";
  for (int i = 0; i < 5000; i++) client.Send(get);
  const uint64_t dropped = CountOf(&server, Counter::kLogWorkerDropped);
  EXPECT_GT(dropped, 2000u);
  EXPECT_LT(dropped, 4500u);
  // Its lines have room, also those of the longest keys.
  EXPECT_EQ(LinesOf(watcher.Told()).size(), 5000 - dropped);
  EXPECT_EQ(CountOf(&server, Counter::kLogWatcherSkipped), 0u);
}

TEST(Watch, AsksToBeContinuedSoonerWhileThereAreEvents) {
  ProtocolServer server;
  ProtocolClient client(&server);
  ProtocolClient watcher(&server);
  EXPECT_EQ(watcher.session()->continue_in_ms(), 0u);
  watcher.Send("watch\r\n");
  for (int i = 0; i < 100; i++) EXPECT_EQ(watcher.ContinueOnce(), "");
  EXPECT_EQ(watcher.session()->continue_in_ms(), Watcher::kIntervalMsMax);
  for (int i = 0; i < 20; i++) {
    client.Send("get a\r\n");
    EXPECT_NE(watcher.ContinueOnce(), "");
  }
  EXPECT_EQ(watcher.session()->continue_in_ms(), Watcher::kIntervalMsMin);
}

// Threads that serve, threads that watch, evictions from all of them, and watchers that come and go. Each event reaches
// each watcher that is there from the beginning to the end, or is counted as skipped; none is told twice.
TEST(Watch, EveryEventOfManyThreadsIsToldOrCounted) {
  constexpr int kServing = 3;
  constexpr int kRounds = 400;
  StoreOptions store_options = ProtocolServer::SmallStore();
  store_options.entries_max = 100;
  ProtocolServer server(ProtocolServer::DefaultOptions(), store_options);
  RemovalRecorder sink(/*with_values=*/false);
  server.store()->SetRemovalSink(&sink);

  // They outlive their threads: what is in a log when its workbench ends is told to none.
  std::vector<std::unique_ptr<Workbench>> benches;
  for (int i = 0; i <= kServing; i++) benches.push_back(std::make_unique<Workbench>(server.service()));
  std::atomic<int> serving{kServing};
  const auto serve = [&](int number) {
    Workbench& bench = *benches[static_cast<size_t>(number)];
    const auto names = std::make_shared<const ConnectionNames>(ConnectionNames{"tcp:127.0.0.1:1", "tcp:here"});
    for (int round = 0; round < kRounds; round++) {
      Session session(&bench, names, server.now);
      ByteBuffer out;
      const std::string key = std::to_string(number) + "-" + std::to_string(round);
      session.Feed("set " + key + " 0 0 1\r\nx\r\nget " + key + " nothing\r\ndelete " + key + "\r\nset " + key +
                       " 0 0 1\r\nx\r\nquit\r\n",
                   0, server.now, &out);
    }
    serving.fetch_sub(1);
  };
  struct Seen {
    uint64_t lines = 0;
    uint64_t skipped = 0;
    std::vector<uint64_t> numbers;
  };
  constexpr std::string_view kAll = "watch fetchers mutations deletions evictions connevents\r\n";
  const auto read = [](std::string_view text, Seen* seen) {
    for (const std::string& line : LinesOf(text)) {
      if (line.starts_with("skipped=")) {
        seen->skipped += std::stoull(line.substr(8));
      } else if (const size_t at = line.find(" gid="); at != std::string::npos) {
        seen->lines++;
        seen->numbers.push_back(std::stoull(line.substr(at + 5)));
      }
    }
  };
  const auto visit = [&] {
    Workbench& bench = *benches[kServing];
    const auto names = std::make_shared<const ConnectionNames>(ConnectionNames{"unix:", "unix:here"});
    while (serving.load() != 0) {
      Session session(&bench, names, server.now);
      ByteBuffer out;
      session.Feed("watch evictions\r\n", 0, server.now, &out);
      for (int i = 0; i < 10; i++) session.Continue(0, server.now, &out);
    }
  };

  Workbench bench(server.service());
  const auto names = std::make_shared<const ConnectionNames>(ConnectionNames{"tcp:127.0.0.1:2", "tcp:here"});
  Session watcher(&bench, names, server.now);
  Seen seen;
  ByteBuffer ok;
  watcher.Feed(kAll, 0, server.now, &ok);
  ASSERT_EQ(ok.view(), "OK\r\n");
  std::vector<std::thread> threads;
  for (int i = 0; i < kServing; i++) threads.emplace_back(serve, i);
  threads.emplace_back(visit);
  const auto take = [&] {
    ByteBuffer out;
    watcher.Continue(0, server.now, &out);
    read(out.view(), &seen);
    return !out.empty();
  };
  while (serving.load() != 0) static_cast<void>(take());
  for (std::thread& thread : threads) thread.join();
  while (take()) continue;
  ProtocolClient last(&server);
  last.Send("get last\r\n");
  while (take()) continue;

  EXPECT_EQ(seen.lines + seen.skipped, CountOf(&server, Counter::kLogWorkerWritten));
  EXPECT_GT(seen.lines, uint64_t{kServing * kRounds});
  std::sort(seen.numbers.begin(), seen.numbers.end());
  EXPECT_TRUE(std::adjacent_find(seen.numbers.begin(), seen.numbers.end()) == seen.numbers.end());
}

// ---- hidden keys ----

TEST(Watch, HiddenKeysAreTheSameWordInLinesAndInDumps) {
  Service::Options options = ProtocolServer::DefaultOptions();
  options.hide_keys = true;
  ProtocolServer server(options);
  ProtocolClient client(&server);
  WatchingClient watcher(&server, "watch mutations");
  client.Send(Set("secret", "1"));
  const std::string told = watcher.Told();
  EXPECT_EQ(told.find("secret"), std::string::npos);
  const std::string word = told.substr(told.find("key=") + 4, kHiddenKeyBytes);
  const std::string metadump = client.Send("lru_crawler metadump all\r\n");
  const std::string cachedump = client.Send("stats cachedump 1 0\r\n");
  EXPECT_NE(metadump.find("key=" + word + " exp=-1"), std::string::npos) << metadump;
  EXPECT_NE(cachedump.find("ITEM " + word + " [1 b; 0 s]\r\n"), std::string::npos) << cachedump;
  const std::string mgdump = client.Send("lru_crawler mgdump all\r\n");
  EXPECT_EQ(mgdump, "OK\r\nmg " + word + "\r\nEN\r\n");
  EXPECT_EQ((metadump + cachedump).find("secret"), std::string::npos);
}

}  // namespace
}  // namespace cairn
