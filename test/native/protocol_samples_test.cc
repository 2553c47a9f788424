// What the samples of requests tell: histograms and hot keys against streams whose truth is known, and what
// `stats latencies` and `stats topkeys` make of the requests of clients.
//
// The number of samples of N requests has the mean N / 128 and a standard deviation of about sqrt(N / 387), because
// gaps are uniform between 1 and 255. The bounds here are six standard deviations wide.

#include <algorithm>
#include <charconv>
#include <cmath>
#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "protocol/latency_histogram.h"
#include "protocol/request_observer.h"
#include "protocol/top_keys.h"
#include "support/binary_packet.h"
#include "support/protocol_client.h"
#include "test.h"

namespace cairn {
namespace {

using test::ProtocolClient;
using test::ProtocolServer;
using test::Random;
using test::Seed;
using test::Set;

// ---- histograms ----

TEST(LatencyHistogram, ABucketIsAtMost32NsOrOne32ndWide) {
  Random random(Seed());
  for (int i = 0; i < 200'000; i++) {
    const uint64_t ns = random.Next() >> (28 + random.Below(36));
    const uint64_t last = LatencyHistogram::LastNsOf(LatencyHistogram::BucketOf(ns));
    ASSERT_LE(ns, last);
    ASSERT_LE(last - ns, std::max<uint64_t>(31, ns / 32));
  }
}

TEST(LatencyHistogram, PercentilesAreThoseOfTheDurationsUpToABucket) {
  Random random(Seed());
  std::vector<uint64_t> all;
  LatencyHistogram parts[3];
  LatencyHistogram whole;
  // A few long ones among many short ones.
  for (int i = 0; i < 50'000; i++) {
    const uint64_t ns = random.Below(100) == 0 ? 1'000'000 + random.Below(90'000'000) : 800 + random.Below(5'000);
    all.push_back(ns);
    parts[random.Below(3)].Add(ns);
    whole.Add(ns);
  }
  std::sort(all.begin(), all.end());
  LatencyHistogram merged;
  for (const LatencyHistogram& part : parts) merged += part;
  EXPECT_EQ(merged.count(), 50'000u);
  EXPECT_EQ(merged.max_ns(), all.back());
  for (const uint32_t per_100000 : {1'000u, 50'000u, 99'000u, 99'900u, 100'000u}) {
    const uint64_t exact = all[size_t{per_100000} * all.size() / 100'000 - 1];
    EXPECT_EQ(merged.PercentileNs(per_100000), whole.PercentileNs(per_100000));
    EXPECT_LE(exact, merged.PercentileNs(per_100000));
    EXPECT_LE(merged.PercentileNs(per_100000) - exact, std::max<uint64_t>(31, exact / 32));
  }
}

TEST(LatencyHistogram, ALongerDurationThanTheLastBucketKeepsTheMaximum) {
  LatencyHistogram histogram;
  EXPECT_EQ(histogram.PercentileNs(99'000), 0u);
  histogram.Add(LatencyHistogram::kNsMax + 5'000);
  EXPECT_EQ(histogram.PercentileNs(99'000), LatencyHistogram::kNsMax);
  EXPECT_EQ(histogram.max_ns(), LatencyHistogram::kNsMax + 5'000);
}

// ---- hot keys ----

// Keys with the frequencies of Zipf's law: that of the key with rank r is as 1 / r.
class Zipf {
 public:
  Zipf(uint64_t seed, size_t keys) : random_(seed) {
    double sum = 0;
    for (size_t rank = 1; rank <= keys; rank++) bounds_.push_back(sum += 1.0 / static_cast<double>(rank));
  }
  size_t Next() {
    const double at = bounds_.back() * static_cast<double>(random_.Below(uint64_t{1} << 53)) / 9007199254740992.0;
    return static_cast<size_t>(std::upper_bound(bounds_.begin(), bounds_.end(), at) - bounds_.begin());
  }
  Random* random() { return &random_; }

 private:
  Random random_;
  std::vector<double> bounds_;
};

using Truth = std::map<std::string, uint64_t>;

// The three bounds of Space-Saving, of a stream with these weights.
void ExpectBounds(const std::vector<TopKey>& keys, const Truth& truth, size_t keys_max) {
  uint64_t total = 0;
  for (const auto& each : truth) total += each.second;
  std::map<std::string, TopKey> found;
  for (const TopKey& top : keys) {
    const uint64_t weight = truth.at(top.key);
    ASSERT_LE(weight, top.weight);
    ASSERT_LE(top.weight - top.error, weight);
    ASSERT_LE(top.error, total / TopKeys::kCounters);
    ASSERT_TRUE(found.emplace(top.key, top).second);
  }
  ASSERT_LE(keys.size(), keys_max);
  for (const auto& [key, weight] : truth) {
    if (weight > total / TopKeys::kCounters) ASSERT_TRUE(found.count(key) == 1);
  }
}

TEST(TopKeys, KeepTheBoundsOfSpaceSavingOverASkewedStream) {
  Zipf zipf(Seed(), 20'000);
  TopKeys by_requests;
  TopKeys by_bytes;
  Truth requests;
  Truth bytes;
  for (int i = 0; i < 100'000; i++) {
    const std::string key = "key:" + std::to_string(zipf.Next());
    const uint64_t weight = 1 + zipf.random()->Below(10'000);
    by_requests.Add(key, 1);
    by_bytes.Add(key, weight);
    requests[key]++;
    bytes[key] += weight;
    if (i % 10'000 != 0) continue;
    ExpectBounds(by_requests.Keys(), requests, TopKeys::kCounters);
    ExpectBounds(by_bytes.Keys(), bytes, TopKeys::kCounters);
  }
  EXPECT_EQ(by_requests.total(), 100'000u);
  const std::vector<TopKey> top = MergeTopKeys({&by_requests}, 20);
  ASSERT_EQ(top.size(), 20u);
  EXPECT_EQ(top[0].key, "key:0");
  EXPECT_EQ(top[1].key, "key:1");
}

TEST(TopKeys, MergedStreamsKeepTheBoundsOfTheWhole) {
  Zipf zipf(Seed() + 1, 5'000);
  TopKeys parts[4];
  Truth truth;
  for (int i = 0; i < 100'000; i++) {
    const size_t rank = zipf.Next();
    const std::string key = "key:" + std::to_string(rank);
    // Hot keys are everywhere, each of the others in one part; the parts differ in size.
    const size_t part = rank < 50 ? std::min<size_t>(zipf.random()->Below(16), 3) : rank % 4;
    parts[part].Add(key, 1);
    truth[key]++;
  }
  ExpectBounds(MergeTopKeys({&parts[0], &parts[1], &parts[2], &parts[3]}, SIZE_MAX), truth, 4 * TopKeys::kCounters);
}

TEST(TopKeys, AreExactWhileThereAreCounters) {
  TopKeys keys;
  const std::string longest(kKeyBytesInlineMax, 'k');
  for (uint64_t i = 0; i < TopKeys::kCounters - 1; i++) keys.Add(std::to_string(i), i + 1);
  keys.Add(longest, 1'000);
  for (const TopKey& top : keys.Keys()) EXPECT_EQ(top.error, 0u);
  const std::vector<TopKey> top = MergeTopKeys({&keys}, 2);
  EXPECT_EQ(top[0].key, longest);
  EXPECT_EQ(top[0].weight, 1'000u);
  EXPECT_EQ(top[1].key, "126");
  keys.Clear();
  EXPECT_EQ(keys.total(), 0u);
  EXPECT_TRUE(keys.Keys().empty());
  keys.Add("again", 3);
  EXPECT_EQ(MergeTopKeys({&keys}, 2)[0].weight, 3u);
}

// ---- samples ----

double Deviation(double requests) { return std::sqrt(requests / 387); }

TEST(RequestObserver, APatternAsLongAsTheGapDoesNotHide) {
  const TickClock clock;
  RequestLog log{{}};
  RequestObserver observer(&clock, &log, Seed());
  RequestSamples samples;
  samples.Add(&observer);
  // Each 128th request is for one key.
  constexpr uint64_t kRequests = 1 << 20;
  for (uint64_t i = 0; i < kRequests; i++) {
    if (observer.IsDue()) observer.Sample(CommandClass::kGet, i % 128 == 5 ? "periodic" : "other", 0);
  }
  RequestSamples::HotKeys by_requests;
  RequestSamples::HotKeys by_bytes;
  samples.ReadTopKeys(&by_requests, &by_bytes);
  EXPECT_LT(std::fabs(static_cast<double>(by_requests.total) - kRequests / 128.0), 6 * Deviation(kRequests));
  ASSERT_EQ(by_requests.keys.size(), 2u);
  const double periodic = static_cast<double>(by_requests.keys[1].weight);
  const double expected = kRequests / 128.0 / 128.0;
  EXPECT_LT(std::fabs(periodic - expected), 6 * std::sqrt(expected));
  EXPECT_TRUE(by_bytes.keys.empty());
  samples.Remove(&observer);
}

// The numbers of a list.
std::map<std::string, std::string> StatsOf(ProtocolClient* client, std::string_view topic) {
  std::map<std::string, std::string> stats;
  std::string text = client->Send("stats " + std::string(topic) + "\r\n");
  EXPECT_TRUE(text.ends_with("END\r\n"));
  for (size_t at = 0; text.compare(at, 5, "STAT ") == 0; at = text.find('\n', at) + 1) {
    const size_t name_end = text.find(' ', at + 5);
    stats[text.substr(at + 5, name_end - at - 5)] = text.substr(name_end + 1, text.find('\r', at) - name_end - 1);
  }
  return stats;
}

uint64_t NumberIn(std::string_view text) {
  uint64_t number = 0;
  std::from_chars(text.data(), text.data() + text.size(), number);
  return number;
}

// `key=a requests=640 error=0 share=1.00`: the number behind `name=`.
uint64_t FieldOf(const std::string& line, const std::string& name) {
  const size_t at = line.find(" " + name + "=");
  EXPECT_NE(at, std::string::npos);
  return NumberIn(std::string_view(line).substr(at + name.size() + 2));
}

std::string Repeated(std::string_view request, size_t times) {
  std::string all;
  for (size_t i = 0; i < times; i++) all += request;
  return all;
}

constexpr size_t kMany = 12'800;

void ExpectSamples(const std::map<std::string, std::string>& stats, const std::string& name, double requests) {
  const auto samples = static_cast<double>(NumberIn(stats.at(name + ":samples")));
  EXPECT_LT(std::fabs(samples - requests / 128), 6 * Deviation(requests) + 1);
}

struct ByClass {
  const char* name;
  std::string request;
};

TEST(Latencies, EachCommandIsInItsClass) {
  const std::string block = " 0 0 1\r\nv\r\n";
  const ByClass kClasses[] = {
      {"get", "get a\r\n"},           {"gets", "gets a\r\n"},
      {"gets", "get a b\r\n"},        {"mg", "mg a v\r\n"},
      {"mg", "mg none v\r\n"},        {"set", "set a" + block},
      {"set", "add a" + block},       {"set", "replace a" + block},
      {"set", "append none" + block}, {"set", "set a 0 0 1 noreply\r\nv\r\n"},
      {"ms", "ms a 1\r\nv\r\n"},      {"delete", "delete none\r\n"},
      {"delete", "md none\r\n"},      {"incr", "incr n 1\r\n"},
      {"incr", "decr n 1\r\n"},       {"incr", "ma n\r\n"},
      {"touch", "touch a 0\r\n"},     {"touch", "gat 0 a\r\n"},
      {"other", "version\r\n"},       {"other", "mn\r\n"},
      {"other", "me a\r\n"},
  };
  for (const ByClass& each : kClasses) {
    ProtocolServer server;
    ProtocolClient client(&server);
    client.Send(Set("a", "v") + Set("n", "1"));
    client.Send(Repeated(each.request, kMany));
    const std::map<std::string, std::string> stats = StatsOf(&client, "latencies");
    EXPECT_EQ(stats.at("sample_rate"), "128");
    // Of a command with two keys, the sample of the last one counts.
    ExpectSamples(stats, each.name, kMany);
    for (const char* name : {"get", "gets", "mg", "ms", "delete", "incr", "touch"}) {
      if (name != std::string_view(each.name)) EXPECT_EQ(stats.at(std::string(name) + ":samples"), "0");
    }
  }
}

TEST(Latencies, AGetOfManyKeysIsOneCommandHoweverItsKeysAreGrouped) {
  std::string request = "get";
  for (int i = 0; i < 65; i++) request += " k" + std::to_string(i);
  ProtocolServer server;
  ProtocolClient client(&server);
  client.Send(Repeated(request + "\r\n", kMany));
  const std::map<std::string, std::string> stats = StatsOf(&client, "latencies");
  ExpectSamples(stats, "gets", kMany);
  EXPECT_EQ(stats.at("get:samples"), "0");
}

TEST(Latencies, OfTheBinaryProtocolAreInTheSameClasses) {
  ProtocolServer server;
  ProtocolClient client(&server);
  client.Send(Repeated(test::KeyPacket(0x00, "a"), kMany) + Repeated(test::StorePacket(0x01, "a", "v"), kMany) +
              Repeated(test::KeyPacket(0x04, "b"), kMany) + Repeated(test::TouchPacket(0x1d, "a", 0), kMany) +
              Repeated(test::Noop(), kMany));
  ProtocolClient text(&server);
  const std::map<std::string, std::string> stats = StatsOf(&text, "latencies");
  for (const char* name : {"get", "set", "delete", "touch", "other"}) ExpectSamples(stats, name, kMany);
  for (const char* name : {"gets", "mg", "ms", "incr"}) EXPECT_EQ(stats.at(std::string(name) + ":samples"), "0");
  // The list itself, over the binary protocol.
  EXPECT_NE(client.Send(test::KeyPacket(0x10, "latencies")).find("get:p99_us"), std::string::npos);
  EXPECT_NE(client.Send(test::KeyPacket(0x10, "topkeys")).find("key=a requests="), std::string::npos);
}

TEST(Latencies, ALaterRequestOfAPipelineWaitsForThoseBeforeIt) {
  ProtocolServer server;
  ProtocolClient client(&server);
  std::string pipeline;
  for (int i = 0; i < 4'000; i++) pipeline += i < 2'000 ? "get a\r\n" : "mg a\r\n";
  for (int i = 0; i < 60; i++) client.Send(pipeline);
  const std::map<std::string, std::string> stats = StatsOf(&client, "latencies");
  const auto us = [&stats](const std::string& name) { return std::stod(stats.at(name + "_us")); };
  EXPECT_LT(us("get:p50"), us("mg:p50"));
  for (const std::string& name : {std::string("get"), std::string("mg")}) {
    EXPECT_LT(0.0, us(name + ":p50"));
    EXPECT_LE(us(name + ":p50"), us(name + ":p99"));
    EXPECT_LE(us(name + ":p99"), us(name + ":p999"));
    EXPECT_LE(us(name + ":p999"), us(name + ":max"));
  }
}

TEST(HotKeys, AreRankedByRequestsAndByBytes) {
  ProtocolServer server;
  ProtocolClient client(&server);
  client.Send(Set("often", "v") + Set("large", std::string(100'000, 'v')) + Set("rare", "v"));
  client.Send("stats reset\r\n");
  constexpr size_t kRounds = 3'200;
  std::string round = Repeated("get often\r\n", 20) + "get large\r\nget rare\r\nget none\r\n";
  for (size_t i = 0; i < kRounds; i += 8) client.Send(Repeated(round, 8));
  const std::map<std::string, std::string> stats = StatsOf(&client, "topkeys");
  const std::string& first = stats.at("requests:1");
  EXPECT_EQ(first.substr(0, 10), "key=often ");
  EXPECT_EQ(FieldOf(first, "error"), 0u);
  const double often = static_cast<double>(FieldOf(first, "requests"));
  // 20 of 23; the deviation of a key's requests is at most 128 times the root of its samples.
  EXPECT_LT(std::fabs(often - 20.0 * kRounds), 6 * 128 * std::sqrt(20.0 * kRounds / 128));
  EXPECT_EQ(FieldOf(first, "requests") % 128, 0u);
  const std::string& largest = stats.at("bytes:1");
  EXPECT_EQ(largest.substr(0, 10), "key=large ");
  const double bytes = static_cast<double>(FieldOf(largest, "bytes"));
  EXPECT_LT(std::fabs(bytes / 100'000 - kRounds), 6 * 128 * std::sqrt(kRounds / 128.0));
  // Misses are requests without bytes.
  EXPECT_EQ(stats.count("requests:4"), 1u);
  EXPECT_EQ(stats.count("bytes:4"), 0u);
  EXPECT_EQ(client.Send("stats reset\r\n"), "RESET\r\n");
  EXPECT_EQ(client.Send("stats topkeys\r\n"), "STAT sample_rate 128\r\nSTAT requests 0\r\nSTAT bytes 0\r\nEND\r\n");
  EXPECT_EQ(StatsOf(&client, "latencies").at("get:samples"), "0");
}

TEST(HotKeys, CountValuesThatAreReceivedTooAlsoLargeOnes) {
  ProtocolServer server;
  ProtocolClient client(&server);
  const std::string large = Set("large", std::string(kBodyBufferedBytesMax + 1, 'v'));
  for (int i = 0; i < 3'000; i++) client.Send(large + Set("small", "v"));
  const std::map<std::string, std::string> stats = StatsOf(&client, "topkeys");
  EXPECT_EQ(stats.at("bytes:1").substr(0, 10), "key=large ");
  ExpectSamples(StatsOf(&client, "latencies"), "set", 6'000);
}

TEST(HotKeys, AreHiddenWhereKeysAre) {
  Service::Options options = ProtocolServer::DefaultOptions();
  options.hide_keys = true;
  ProtocolServer server(options);
  ProtocolClient client(&server);
  client.Send(Repeated("get secret:1\r\n", kMany));
  const std::string list = client.Send("stats topkeys\r\n");
  EXPECT_EQ(list.find("secret"), std::string::npos);
  char word[kHiddenKeyBytes];
  const std::string hidden(word, server.service()->keys().WriteHidden("secret:1", word));
  EXPECT_NE(list.find("STAT requests:1 key=" + hidden + " requests="), std::string::npos);
}

TEST(HotKeys, AreNotListedWhereDumpsAreRefused) {
  Service::Options options = ProtocolServer::DefaultOptions();
  options.disable_dumping = true;
  ProtocolServer server(options);
  ProtocolClient client(&server);
  client.Send(Repeated("get secret:1\r\n", kMany));
  const std::map<std::string, std::string> stats = StatsOf(&client, "topkeys");
  EXPECT_EQ(stats.size(), 3u);
  EXPECT_NE(stats.at("requests"), "0");
}

TEST(HotKeys, OfAllThreadsAreMerged) {
  ProtocolServer server;
  Workbench benches[] = {Workbench(server.service()), Workbench(server.service())};
  const auto names = std::make_shared<ConnectionNames>();
  for (Workbench& bench : benches) {
    Session session(&bench, names, server.now);
    for (size_t i = 0; i < kMany; i++) {
      ByteBuffer out;
      session.Feed("get shared\r\n", 0, server.now, &out);
    }
  }
  ProtocolClient client(&server);
  const std::string line = StatsOf(&client, "topkeys").at("requests:1");
  EXPECT_EQ(line.substr(0, 11), "key=shared ");
  EXPECT_LT(std::fabs(static_cast<double>(FieldOf(line, "requests")) - 2.0 * kMany), 6 * 128 * Deviation(2 * kMany));
  ExpectSamples(StatsOf(&client, "latencies"), "get", 2 * kMany);
}

TEST(Latencies, OfARequestThatWaitsIncludeItsWait) {
  StoreOptions store = ProtocolServer::SmallStore();
  store.has_backend = true;
  ProtocolServer server(ProtocolServer::DefaultOptions(), store);
  test::TestDatabase database(&server);
  ProtocolClient client(&server);
  uint64_t woken = 0;
  for (int i = 0; i < 3; i++) {
    // Its block is too large for a remote slot.
    client.FeedOnce(i == 0 ? "add absent 0 0 100000\r\n" + std::string(100'000, 'v') + "\r\n" : "");
    ASSERT_TRUE(client.next == Session::Next::kWait);
    // Other clients are served meanwhile.
    if (i == 0) woken = server.bench()->observer()->woken_ticks();
    ProtocolClient other(&server);
    other.Send("version\r\n");
    EXPECT_LT(woken, server.bench()->observer()->woken_ticks());
    EXPECT_EQ(client.session()->waiting_ticks(), woken);
  }
  EXPECT_TRUE(database.Serve());
  EXPECT_EQ(client.ContinueOnce(), "STORED\r\n");
  EXPECT_EQ(client.session()->waiting_ticks(), 0u);
}

TEST(Latencies, OfARequestInARemoteSlotIncludeItsWait) {
  StoreOptions store = ProtocolServer::SmallStore();
  store.has_backend = true;
  ProtocolServer server(ProtocolServer::DefaultOptions(), store);
  test::TestDatabase database(&server);
  ProtocolClient client(&server);
  ProtocolClient other(&server);
  for (int round = 0; round < 3; round++) {
    for (int i = 0; i < 250; i++) client.Send("mg " + std::to_string(round) + "-" + std::to_string(i) + " v\r\n");
    for (int i = 0; i < 1000; i++) other.Send("version\r\n");
    EXPECT_TRUE(database.Serve());
    EXPECT_EQ(client.ContinueOnce(), Repeated("EN\r\n", 250));
  }
  const std::map<std::string, std::string> stats = StatsOf(&other, "latencies");
  // Each has waited for 1,000 others, so for 500 times their median at least.
  EXPECT_GT(std::stod(stats.at("mg:p50_us")), 100 * std::stod(stats.at("other:p50_us")));
}

}  // namespace
}  // namespace cairn
