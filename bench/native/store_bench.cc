// What one operation of a store costs without JavaScript around it: the floor under every figure of bench/core, and a
// program small enough for a profiler.
//
//   cmake -S native -B native/build-bench -DCAIRN_BENCH=ON && cmake --build native/build-bench --target store_bench
//   native/build-bench/store_bench --entries=100000,16000000 --only=get
//
// Method: a stream of requests is made before the clock runs and is read in order, as a server reads its buffers. Every
// row is measured once per round, and the rounds go through all rows, so that a change of the machine's mood meets all
// of them alike; printed are the median and the range over the rounds, in nanoseconds of the thread's CPU time per
// request. The first row touches no store: if it is not flat, nothing below it can be trusted.
//
// Rows that write run on a store of their own, so that the reading rows always meet the same one.

#include <time.h>

#include <algorithm>
#include <charconv>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <thread>
#include <vector>

#include "base/hash.h"
#include "store/store.h"

namespace cairn {
namespace {

struct Options {
  std::vector<uint64_t> entries = {100'000};
  size_t key_bytes = 20;
  size_t value_bytes = 100;
  uint32_t shards = 0;
  uint64_t memory_mib = 0;  // of a store; 0: what the entries need, at least 64
  int rounds = 7;
  size_t requests = size_t{1} << 20;  // of a stream; a measurement goes through it once
  std::string only;                   // rows whose name contains it
};

uint64_t ThreadCpuNs() {
  timespec time;
  clock_gettime(CLOCK_THREAD_CPUTIME_ID, &time);
  return static_cast<uint64_t>(time.tv_sec) * 1'000'000'000 + static_cast<uint64_t>(time.tv_nsec);
}

uint64_t WallNs() {
  timespec time;
  clock_gettime(CLOCK_MONOTONIC, &time);
  return static_cast<uint64_t>(time.tv_sec) * 1'000'000'000 + static_cast<uint64_t>(time.tv_nsec);
}

// SplitMix64 (G. Steele, D. Lea, C. Flood, "Fast splittable pseudorandom number generators", OOPSLA 2014).
class Random {
 public:
  explicit Random(uint64_t seed) : state_(seed) {}
  uint64_t Next() {
    uint64_t z = state_ += 0x9e3779b97f4a7c15;
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9;
    z = (z ^ (z >> 27)) * 0x94d049bb133111eb;
    return z ^ (z >> 31);
  }
  double Unit() { return static_cast<double>(Next() >> 11) * 0x1p-53; }
  uint64_t Below(uint64_t bound) { return Next() % bound; }

 private:
  uint64_t state_;
};

// Ranks 0..n-1 with probability proportional to 1 / (rank + 1)^s: rejection-inversion (W. Hörmann, G. Derflinger,
// "Rejection-inversion to generate variates from monotone discrete distributions", ACM TOMACS 6(3), 1996).
class Zipf {
 public:
  Zipf(uint64_t n, double s) : n_(static_cast<double>(n)), s_(s) {
    low_ = Integral(1.5) - 1;
    high_ = Integral(n_ + 0.5);
    accept_ = 2 - Inverse(Integral(2.5) - std::pow(2, -s_));
  }
  uint64_t Next(Random* random) const {
    for (;;) {
      const double u = high_ + random->Unit() * (low_ - high_);
      const double x = Inverse(u);
      const double k = std::clamp(std::floor(x + 0.5), 1.0, n_);
      if (k - x <= accept_ || u >= Integral(k + 0.5) - std::pow(k, -s_)) return static_cast<uint64_t>(k) - 1;
    }
  }

 private:
  double Integral(double x) const { return std::expm1((1 - s_) * std::log(x)) / (1 - s_); }
  double Inverse(double u) const { return std::exp(std::log1p(u * (1 - s_)) / (1 - s_)); }

  double n_, s_, low_, high_, accept_;
};

// The key of an entry: text of key_bytes in which neighbours in number differ in many places.
void WriteKey(uint64_t number, char* key, size_t bytes) {
  static const char kDigits[] = "0123456789abcdefghijklmnopqrstuvwxyz";
  uint64_t bits = number * 0x9e3779b97f4a7c15;  // odd: no two numbers alike
  for (size_t i = 0; i < bytes; i++) {
    key[i] = i < 13 ? kDigits[bits % 36] : static_cast<char>('a' + i % 26);
    bits /= 36;
  }
}

// Keys one behind the other, as they lie in a buffer that was received.
class Stream {
 public:
  template <class Pick>
  Stream(size_t count, size_t key_bytes, Pick pick) : key_bytes_(key_bytes), bytes_(count * key_bytes) {
    for (size_t i = 0; i < count; i++) WriteKey(pick(), bytes_.data() + i * key_bytes, key_bytes);
  }
  size_t size() const { return bytes_.size() / key_bytes_; }
  std::string_view operator[](size_t i) const { return {bytes_.data() + i * key_bytes_, key_bytes_}; }

 private:
  size_t key_bytes_;
  std::vector<char> bytes_;
};

std::unique_ptr<Store> OpenStore(const Options& options, uint64_t memory_bytes, uint64_t entries_max) {
  StoreOptions store_options;
  store_options.memory_bytes = memory_bytes;
  store_options.entries_max = entries_max;
  store_options.shard_count = options.shards;
  Refusal refusal;
  auto store = Store::Open(store_options, &refusal);
  if (store == nullptr) {
    std::fprintf(stderr, "%s\n", refusal.ToString().c_str());
    std::exit(1);
  }
  return store;
}

void MustHave(bool condition, const char* what) {
  if (condition) return;
  std::fprintf(stderr, "The benchmark does not measure what it says: %s\n", what);
  std::exit(1);
}

struct Row {
  std::string name;
  std::function<uint64_t()> run;  // returns the number of requests it made
  std::vector<double> cpu_ns = {};
  std::vector<double> wall_ns = {};
};

class Bench {
 public:
  Bench(const Options& options, uint64_t entries)
      : options_(options),
        entries_(entries),
        value_(options.value_bytes, 'v'),
        memory_bytes_(options.memory_mib != 0 ? options.memory_mib << 20
                                              : std::max<uint64_t>(entries * EntryRoom(options), uint64_t{64} << 20)) {}

  void Run() {
    Prepare();
    std::vector<Row> rows = Rows();
    std::erase_if(rows, [this](const Row& row) { return row.name.find(options_.only) == std::string::npos; });
    for (int round = -1; round < options_.rounds; round++) {
      for (Row& row : rows) {
        const uint64_t wall = WallNs();
        const uint64_t cpu = ThreadCpuNs();
        const auto requests = static_cast<double>(row.run());
        if (round < 0) continue;  // the first one warms up
        row.cpu_ns.push_back(static_cast<double>(ThreadCpuNs() - cpu) / requests);
        row.wall_ns.push_back(static_cast<double>(WallNs() - wall) / requests);
      }
    }
    std::printf("%llu entries, keys of %zu bytes, values of %zu bytes, %u shards, %s hit ratio 1\n",
                static_cast<unsigned long long>(entries_), options_.key_bytes, options_.value_bytes,
                reading_->shard_count(), "reading rows:");
    std::printf("  %-34s %10s %19s %10s\n", "", "cpu ns", "range", "wall ns");
    for (Row& row : rows) {
      std::sort(row.cpu_ns.begin(), row.cpu_ns.end());
      std::sort(row.wall_ns.begin(), row.wall_ns.end());
      const size_t middle = row.cpu_ns.size() / 2;
      std::printf("  %-34s %10.1f %9.1f-%-9.1f %10.1f\n", row.name.c_str(), row.cpu_ns[middle], row.cpu_ns.front(),
                  row.cpu_ns.back(), row.wall_ns[middle]);
    }
    std::printf("\n");
  }

 private:
  // More than an entry of that size takes, so that nothing is evicted where nothing should be.
  static uint64_t EntryRoom(const Options& options) { return (options.key_bytes + options.value_bytes + 60) * 5 / 4; }

  void Prepare() {
    reading_ = OpenStore(options_, memory_bytes_, 0);
    Fill(reading_.get(), entries_);
    MustHave(reading_->entries() == entries_, "the store does not hold every entry");
    Random random(1);
    const auto make = [&](auto pick) { return Stream(options_.requests, options_.key_bytes, pick); };
    const Zipf zipf(entries_, 0.99);
    uniform_ = std::make_unique<Stream>(make([&] { return random.Below(entries_); }));
    // The hottest ranks are spread over the key space.
    zipf_ = std::make_unique<Stream>(make([&] { return zipf.Next(&random) * 0x9e3779b1 % entries_; }));
    absent_ = std::make_unique<Stream>(make([&] { return entries_ + random.Below(entries_); }));
  }

  void Fill(Store* store, uint64_t count) {
    std::vector<char> key(options_.key_bytes);
    Outcome outcome;
    Scratch scratch;
    Request request;
    request.verb = Verb::kSet;
    request.value = value_;
    for (uint64_t i = 0; i < count; i++) {
      WriteKey(i, key.data(), key.size());
      request.key = {key.data(), key.size()};
      store->Execute(request, Now{}, &scratch, &outcome);
    }
  }

  uint64_t Single(Store* store, Verb verb, const Stream& stream, bool hit) {
    std::vector<char> room(options_.value_bytes + 64);
    Request request;
    request.verb = verb;
    request.value = value_;
    Outcome outcome;
    uint64_t found = 0;
    for (size_t i = 0; i < stream.size(); i++) {
      Scratch scratch{room.data(), room.size(), 0};
      request.key = stream[i];
      store->Execute(request, Now{}, &scratch, &outcome);
      found += outcome.status == Status::kFound || outcome.status == Status::kStored;
    }
    MustHave(found == (hit ? stream.size() : 0), "a request was not answered as it should be");
    return stream.size();
  }

  uint64_t Many(Store* store, Verb verb, const Stream& stream, size_t group) {
    std::vector<char> room(group * (options_.value_bytes + 8));
    std::vector<Request> requests(group);
    std::vector<Outcome> outcomes(group);
    uint64_t found = 0;
    size_t done = 0;
    for (; done + group <= stream.size(); done += group) {
      for (size_t i = 0; i < group; i++) {
        requests[i].verb = verb;
        requests[i].key = stream[done + i];
        requests[i].value = value_;
      }
      Scratch scratch{room.data(), room.size(), 0};
      store->ExecuteMany(requests.data(), group, Now{}, &scratch, outcomes.data());
      for (const Outcome& outcome : outcomes) {
        found += outcome.status == Status::kFound || outcome.status == Status::kStored;
      }
    }
    MustHave(found == done, "a request was not answered as it should be");
    return done;
  }

  // Keys that no store has seen, in the order of their numbers.
  Stream Fresh(uint64_t* next) {
    return Stream(options_.requests, options_.key_bytes, [next] { return (*next)++; });
  }

  // `threads` threads read at once; the CPU time is the sum of theirs, so it is counted here and not by the caller.
  static double Together(int threads, const std::function<uint64_t(int)>& work) {
    std::vector<double> each(static_cast<size_t>(threads));
    std::vector<std::thread> running;
    for (int t = 0; t < threads; t++) {
      running.emplace_back([&, t] {
        const uint64_t cpu = ThreadCpuNs();
        const auto count = static_cast<double>(work(t));
        each[static_cast<size_t>(t)] = static_cast<double>(ThreadCpuNs() - cpu) / count;
      });
    }
    for (std::thread& thread : running) thread.join();
    double sum = 0;
    for (double ns : each) sum += ns;
    return sum / threads;
  }

  std::vector<Row> Rows() {
    std::vector<Row> rows;
    const auto add = [&](std::string name, std::function<uint64_t()> run) {
      rows.push_back({std::move(name), std::move(run)});
    };
    add("control: both hashes of a key", [this] {
      uint64_t sum = 0;
      for (size_t i = 0; i < uniform_->size(); i++) {
        sum += TableHashFast((*uniform_)[i], reading_->options().secrets) + RoutingHash((*uniform_)[i]);
      }
      MustHave(sum != 1, "a sum that is not to be optimised away");
      return static_cast<uint64_t>(uniform_->size());
    });
    const struct {
      const char* name;
      const Stream* stream;
    } streams[] = {{"uniform", uniform_.get()}, {"zipf 0.99", zipf_.get()}};
    for (const auto& [name, stream] : streams) {
      const Stream* requests = stream;
      const std::string suffix = std::string(", ") + name;
      add("get, singly" + suffix, [=, this] { return Single(reading_.get(), Verb::kGet, *requests, true); });
      add("peek, singly" + suffix, [=, this] { return Single(reading_.get(), Verb::kPeek, *requests, true); });
      for (size_t group : {4, 16, 32, 64, 256}) {
        add("get, groups of " + std::to_string(group) + suffix,
            [=, this] { return Many(reading_.get(), Verb::kGet, *requests, group); });
      }
    }
    add("get, singly, miss", [this] { return Single(reading_.get(), Verb::kGet, *absent_, false); });
    add("has, singly, uniform", [this] { return Single(reading_.get(), Verb::kHas, *uniform_, true); });

    // A store that is full after its share of entries.
    writing_ = OpenStore(options_, memory_bytes_, entries_);
    next_fresh_ = 2 * entries_;
    Fill(writing_.get(), entries_);
    add("set, overwrite, uniform", [this] { return Single(reading_.get(), Verb::kSet, *uniform_, true); });
    add("set, groups of 64, overwrite", [this] { return Many(reading_.get(), Verb::kSet, *uniform_, 64); });
    add("set, new key evicts", [this] {
      const Stream fresh = Fresh(&next_fresh_);
      return Single(writing_.get(), Verb::kSet, fresh, true);
    });
    add("set, groups of 64, new key evicts", [this] {
      const Stream fresh = Fresh(&next_fresh_);
      return Many(writing_.get(), Verb::kSet, fresh, 64);
    });
    add("  (of the two above: making the keys)", [this] {
      const Stream fresh = Fresh(&next_fresh_);
      return static_cast<uint64_t>(fresh.size());
    });
    return rows;
  }

 public:
  // Two threads: on one store, and on a store each.
  void RunThreads() {
    other_ = OpenStore(options_, memory_bytes_, 0);
    Fill(other_.get(), entries_);
    const struct {
      const char* name;
      int threads;
      bool apart;
    } rows[] = {{"one thread", 1, false}, {"two threads, one store", 2, false}, {"two threads, a store each", 2, true}};
    std::vector<std::vector<double>> all(std::size(rows));
    for (int round = -1; round < options_.rounds; round++) {
      for (size_t i = 0; i < std::size(rows); i++) {
        const double ns = Together(rows[i].threads, [&](int t) {
          Store* store = rows[i].apart && t == 1 ? other_.get() : reading_.get();
          return Single(store, Verb::kGet, *uniform_, true);
        });
        if (round >= 0) all[i].push_back(ns);
      }
    }
    std::printf("  get, singly, uniform: CPU ns per request of each thread\n");
    for (size_t i = 0; i < std::size(rows); i++) {
      std::sort(all[i].begin(), all[i].end());
      std::printf("  %-34s %10.1f %9.1f-%-9.1f\n", rows[i].name, all[i][all[i].size() / 2], all[i].front(),
                  all[i].back());
    }
    std::printf("\n");
  }

 private:
  const Options options_;
  const uint64_t entries_;
  const std::string value_;
  const uint64_t memory_bytes_;
  std::unique_ptr<Store> reading_, writing_, other_;
  std::unique_ptr<Stream> uniform_, zipf_, absent_;
  uint64_t next_fresh_ = 0;
};

[[noreturn]] void Usage() {
  std::fputs(
      "store_bench [--entries=N,N...] [--key-bytes=20] [--value-bytes=100] [--shards=0 (chosen)]\n"
      "            [--memory=MiB (what the entries need)] [--rounds=7]\n"
      "            [--requests=1048576] [--only=TEXT (rows whose name contains it)] [--threads]\n",
      stderr);
  std::exit(2);
}

uint64_t NumberIn(std::string_view text) {
  uint64_t number = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), number);
  if (error != std::errc{} || end != text.data() + text.size()) Usage();
  return number;
}

int Main(int argc, char** argv) {
  Options options;
  bool threads = false;
  for (int i = 1; i < argc; i++) {
    const std::string_view argument = argv[i];
    const size_t equals = argument.find('=');
    const std::string_view name = argument.substr(0, equals);
    std::string_view value = equals == std::string_view::npos ? "" : argument.substr(equals + 1);
    if (name == "--entries") {
      options.entries.clear();
      for (;;) {
        const size_t comma = value.find(',');
        options.entries.push_back(NumberIn(value.substr(0, comma)));
        if (comma == std::string_view::npos) break;
        value.remove_prefix(comma + 1);
      }
    } else if (name == "--key-bytes") {
      options.key_bytes = NumberIn(value);
    } else if (name == "--value-bytes") {
      options.value_bytes = NumberIn(value);
    } else if (name == "--shards") {
      options.shards = static_cast<uint32_t>(NumberIn(value));
    } else if (name == "--memory") {
      options.memory_mib = NumberIn(value);
    } else if (name == "--rounds") {
      options.rounds = static_cast<int>(NumberIn(value));
    } else if (name == "--requests") {
      options.requests = NumberIn(value);
    } else if (name == "--only") {
      options.only = value;
    } else if (name == "--threads") {
      threads = true;
    } else {
      Usage();
    }
  }
  // Keys are told apart by their first 13 bytes.
  if (options.key_bytes < 13 || options.rounds < 1 || options.requests < 256) Usage();
  for (uint64_t entries : options.entries) {
    Bench bench(options, entries);
    bench.Run();
    if (threads) bench.RunThreads();
  }
  return 0;
}

}  // namespace
}  // namespace cairn

int main(int argc, char** argv) { return cairn::Main(argc, argv); }
