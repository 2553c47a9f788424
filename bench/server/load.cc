// The load of `npm run bench -- server`, in its own process. It checks how each reply begins and how long it is, and
// prints one line of JSON.
//
//   load --port=N [--connections=50] [--pipeline=1] [--command=get|mg|set|mixed|multi] [--keys=100000] [--value-bytes=32]
//        [--seconds=2] [--warm-up=0.3] [--large-every=N] [--rate=N] [--fill]
//
// A closed loop: connections that each send `pipeline` requests at once, and again when all of them have been answered.
// With `--rate` an open loop: N gets per second, at random moments, by the connections in turns, whether the earlier ones
// have been answered or not. The time of a request begins when it is due, so a server that stops does not hide the
// requests that wait for it.
//
// `mixed`: a set for nine gets. `multi`: gets of 100 keys. `--large-every`: one of N requests is a get of a value of
// 1,000,000 bytes, whose time is not counted. `--fill`: sets every key once, and ends.
#include <arpa/inet.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <ctime>
#include <deque>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

namespace {

struct Options {
  int port = 11211;
  int connections = 50;
  int pipeline = 1;
  std::string command = "get";
  uint64_t keys = 100'000;
  size_t value_bytes = 32;
  double seconds = 2;
  double warm_up = 0.3;
  uint64_t large_every = 0;
  double rate = 0;
  bool fills = false;
};

constexpr int kMultiKeys = 100;
constexpr uint64_t kLargeKeys = 20;
constexpr size_t kLargeBytes = 1'000'000;

[[noreturn]] void Fail(const char* what) {
  std::fprintf(stderr, "load: %s: %s\n", what, std::strerror(errno));
  std::exit(1);
}

uint64_t NowNs(clockid_t clock = CLOCK_MONOTONIC) {
  timespec time;
  clock_gettime(clock, &time);
  return static_cast<uint64_t>(time.tv_sec) * 1'000'000'000 + static_cast<uint64_t>(time.tv_nsec);
}

// xorshift64* (Vigna, 2016).
class Random {
 public:
  explicit Random(uint64_t seed) : state_(seed * 0x9e3779b97f4a7c15 + 1) {}
  uint64_t Next() {
    state_ ^= state_ >> 12;
    state_ ^= state_ << 25;
    state_ ^= state_ >> 27;
    return state_ * 0x2545f4914f6cdd1d;
  }

 private:
  uint64_t state_;
};

struct Client {
  int fd = -1;
  Random random{1};
  std::string out;
  size_t got = 0;      // of an open loop: bytes of a reply that is not whole
  size_t awaited = 0;  // bytes of replies that are still to come
  int next = 0;        // of `mixed`
  bool is_large = false;
  uint64_t begun_ns = 0;
  std::deque<uint64_t> due_ns;  // of an open loop: of the requests that have no answer
};

class Load {
 public:
  explicit Load(const Options& options)
      : options_(options), value_(options.value_bytes, 'v'), input_(new char[kInputBytes]) {
    const std::string length = std::to_string(options_.value_bytes);
    get_reply_ = GetReplyBytes(options_.value_bytes);
    mg_reply_ = std::string("VA ").size() + length.size() + 2 + options_.value_bytes + 2;
  }

  void Fill() {
    Client client = Connect(0);
    uint64_t key = 0;
    while (key < options_.keys) {
      client.out.clear();
      size_t replies = 0;
      for (int i = 0; i < 200 && key < options_.keys; i++) replies += AddSet(&client.out, key++, value_);
      Exchange(&client, replies);
    }
    if (options_.large_every == 0) return;
    const std::string large(kLargeBytes, 'l');
    for (uint64_t i = 0; i < kLargeKeys; i++) {
      client.out.clear();
      Exchange(&client, AddSet(&client.out, LargeKey(i), large));
    }
  }

  void RunClosed() {
    const int epoll = epoll_create1(0);
    const auto clients = ConnectAll(epoll);
    const uint64_t begin_ns = NowNs();
    const uint64_t counted_ns = begin_ns + static_cast<uint64_t>(options_.warm_up * 1e9);
    const uint64_t end_ns = counted_ns + static_cast<uint64_t>(options_.seconds * 1e9);
    uint64_t cpu_ns = 0;
    bool counts = false;
    for (auto& client : clients) Send(client.get());
    for (;;) {
      epoll_event events[256];
      const int count = epoll_wait(epoll, events, 256, 1000);
      if (count < 0 && errno != EINTR) Fail("epoll_wait");
      if (count == 0) {
        errno = 0;
        Fail("no reply within a second");
      }
      const uint64_t now_ns = NowNs();
      if (!counts && now_ns >= counted_ns) {
        counts = true;
        cpu_ns = NowNs(CLOCK_PROCESS_CPUTIME_ID);
        BeginCounting(now_ns);
      }
      if (now_ns >= end_ns) break;
      for (int i = 0; i < count; i++) Receive(static_cast<Client*>(events[i].data.ptr), now_ns);
    }
    Print(static_cast<double>(NowNs(CLOCK_PROCESS_CPUTIME_ID) - cpu_ns));
  }

  // It never sleeps, so that requests leave when they are due. What counts as busy is being late: the share of the
  // requests that left more than kLateNs after they were due.
  void RunOpen() {
    const int epoll = epoll_create1(0);
    const auto clients = ConnectAll(epoll);
    Random random(1);
    const uint64_t begin_ns = NowNs();
    const uint64_t counted_ns = begin_ns + static_cast<uint64_t>(options_.warm_up * 1e9);
    const uint64_t end_ns = counted_ns + static_cast<uint64_t>(options_.seconds * 1e9);
    auto due_ns = static_cast<double>(begin_ns);
    uint64_t sent = 0, late = 0, counted_from = 0;
    bool counts = false;
    for (uint64_t now_ns = begin_ns; now_ns < end_ns; now_ns = NowNs()) {
      if (!counts && now_ns >= counted_ns) {
        counts = true;
        late = 0;
        counted_from = sent;
        BeginCounting(now_ns);
      }
      while (due_ns <= static_cast<double>(now_ns)) {
        Client* client = clients[sent++ % clients.size()].get();
        client->out.clear();
        AddGet(&client->out, client->random.Next() % options_.keys);
        client->due_ns.push_back(static_cast<uint64_t>(due_ns));
        WriteAll(client);
        late += static_cast<double>(now_ns) - due_ns > kLateNs;
        // Independent clients: the times between requests are exponentially distributed.
        const double share = static_cast<double>((random.Next() >> 11) + 1) / static_cast<double>(uint64_t{1} << 53);
        due_ns -= std::log(share) / options_.rate * 1e9;
      }
      epoll_event events[256];
      const int count = epoll_wait(epoll, events, 256, 0);
      if (count < 0 && errno != EINTR) Fail("epoll_wait");
      const uint64_t read_ns = NowNs();
      for (int i = 0; i < count; i++) ReceiveDue(static_cast<Client*>(events[i].data.ptr), read_ns);
    }
    const auto counted = static_cast<double>(std::max<uint64_t>(sent - counted_from, 1));
    Print(static_cast<double>(late) / counted * static_cast<double>(NowNs() - from_ns_));
  }

 private:
  static constexpr size_t kKeyBytes = 20;
  static constexpr size_t kInputBytes = size_t{1} << 20;
  static constexpr double kLateNs = 50'000;

  static size_t GetReplyBytes(size_t value_bytes) {
    return std::string_view("VALUE  0 \r\n\r\n").size() + kKeyBytes + std::to_string(value_bytes).size() + value_bytes;
  }
  // Behind the keys of small values.
  static uint64_t LargeKey(uint64_t number) { return ~number; }

  std::vector<std::unique_ptr<Client>> ConnectAll(int epoll) const {
    std::vector<std::unique_ptr<Client>> clients;
    for (int i = 0; i < options_.connections; i++) {
      clients.push_back(std::make_unique<Client>(Connect(i + 1)));
      epoll_event event = {.events = EPOLLIN, .data = {.ptr = clients.back().get()}};
      if (epoll_ctl(epoll, EPOLL_CTL_ADD, clients.back()->fd, &event) != 0) Fail("epoll_ctl");
    }
    return clients;
  }

  void BeginCounting(uint64_t now_ns) {
    requests_ = 0;
    times_us_.clear();
    from_ns_ = now_ns;
    std::printf("begin\n");
    std::fflush(stdout);
  }

  void Print(double busy_ns) {
    const double elapsed = static_cast<double>(NowNs() - from_ns_);
    std::sort(times_us_.begin(), times_us_.end());
    const auto at = [&](double share) -> double {
      return times_us_.empty() ? 0 : times_us_[static_cast<size_t>(static_cast<double>(times_us_.size() - 1) * share)];
    };
    std::printf("{\"requests\":%lu,\"seconds\":%.4f,\"busy\":%.3f,\"p50\":%.1f,\"p99\":%.1f,\"p999\":%.1f}\n",
                static_cast<unsigned long>(requests_), elapsed / 1e9, busy_ns / elapsed, at(0.5), at(0.99), at(0.999));
  }

  Client Connect(int seed) const {
    Client client;
    client.random = Random(static_cast<uint64_t>(seed) + 1);
    client.fd = socket(AF_INET, SOCK_STREAM, 0);
    sockaddr_in to = {};
    to.sin_family = AF_INET;
    to.sin_port = htons(static_cast<uint16_t>(options_.port));
    to.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    if (connect(client.fd, reinterpret_cast<sockaddr*>(&to), sizeof(to)) != 0) Fail("connect");
    const int yes = 1;
    setsockopt(client.fd, IPPROTO_TCP, TCP_NODELAY, &yes, sizeof(yes));
    return client;
  }

  static size_t Write(int fd, const char* data, size_t bytes) {
    const ssize_t count = send(fd, data, bytes, MSG_NOSIGNAL);
    if (count < 0) Fail("send");
    return static_cast<size_t>(count);
  }
  size_t Read(int fd) const {
    const ssize_t count = recv(fd, input_.get(), kInputBytes, 0);
    if (count == 0) errno = ECONNRESET;
    if (count <= 0) Fail("recv");
    return static_cast<size_t>(count);
  }

  static void AddKey(std::string* out, uint64_t key) {
    char text[kKeyBytes + 1];
    std::snprintf(text, sizeof(text), "key:%016lx", static_cast<unsigned long>(key * 0x9e3779b97f4a7c15));
    out->append(text, kKeyBytes);
  }
  static size_t AddSet(std::string* out, uint64_t key, const std::string& value) {
    out->append("set ");
    AddKey(out, key);
    out->append(" 0 0 ").append(std::to_string(value.size())).append("\r\n").append(value).append("\r\n");
    return std::string_view("STORED\r\n").size();
  }
  size_t AddGet(std::string* out, uint64_t key) const {
    out->append("get ");
    AddKey(out, key);
    out->append("\r\n");
    return get_reply_ + std::string_view("END\r\n").size();
  }

  // Appends a request; returns the bytes of its reply.
  size_t Add(Client* client) const {
    const auto key = [&] { return client->random.Next() % options_.keys; };
    const std::string& command = options_.command;
    client->is_large = options_.large_every != 0 && client->random.Next() % options_.large_every == 0;
    if (client->is_large) {
      AddGet(&client->out, LargeKey(client->random.Next() % kLargeKeys));
      return GetReplyBytes(kLargeBytes) + std::string_view("END\r\n").size();
    }
    if (command == "set") return AddSet(&client->out, key(), value_);
    if (command == "mixed" && client->next++ % 10 == 9) return AddSet(&client->out, key(), value_);
    if (command == "mg") {
      client->out.append("mg ");
      AddKey(&client->out, key());
      client->out.append(" v\r\n");
      return mg_reply_;
    }
    if (command == "multi") {
      client->out.append("get");
      for (int i = 0; i < kMultiKeys; i++) {
        client->out.append(" ");
        AddKey(&client->out, key());
      }
      client->out.append("\r\n");
      // The same key twice is answered twice.
      return kMultiKeys * get_reply_ + std::string_view("END\r\n").size();
    }
    return AddGet(&client->out, key());
  }

  void Send(Client* client) const {
    client->out.clear();
    client->awaited = 0;
    for (int i = 0; i < options_.pipeline; i++) client->awaited += Add(client);
    client->begun_ns = NowNs();
    WriteAll(client);
  }

  static void WriteAll(Client* client) {
    for (size_t sent = 0; sent < client->out.size();)
      sent += Write(client->fd, client->out.data() + sent, client->out.size() - sent);
  }

  void Exchange(Client* client, size_t reply_bytes) const {
    WriteAll(client);
    for (size_t got = 0; got < reply_bytes;) got += Read(client->fd);
  }

  void ReceiveDue(Client* client, uint64_t now_ns) {
    const size_t reply_bytes = get_reply_ + std::string_view("END\r\n").size();
    client->got += Read(client->fd);
    for (; client->got >= reply_bytes; client->got -= reply_bytes) {
      errno = EPROTO;
      if (client->due_ns.empty()) Fail("more replies than requests");
      requests_++;
      times_us_.push_back(static_cast<float>(now_ns - client->due_ns.front()) / 1000);
      client->due_ns.pop_front();
    }
  }

  void Receive(Client* client, uint64_t now_ns) {
    const size_t count = Read(client->fd);
    const char first = input_[0];
    errno = EPROTO;
    if (count > client->awaited || first == 'E' || first == 'C') Fail(std::string(input_.get(), std::min<size_t>(count, 60)).c_str());
    client->awaited -= count;
    if (client->awaited != 0) return;
    requests_ += static_cast<uint64_t>(options_.pipeline);
    if (!client->is_large) times_us_.push_back(static_cast<float>(now_ns - client->begun_ns) / 1000);
    Send(client);
  }

  const Options options_;
  const std::string value_;
  const std::unique_ptr<char[]> input_;
  size_t get_reply_;
  size_t mg_reply_;
  uint64_t requests_ = 0;
  uint64_t from_ns_ = 0;
  std::vector<float> times_us_;
};

}  // namespace

int main(int count, char** words) {
  Options options;
  for (int i = 1; i < count; i++) {
    const std::string_view word = words[i];
    const size_t equals = std::min(word.find('='), word.size());
    const std::string_view name = word.substr(0, equals);
    const char* value = words[i] + std::min(equals + 1, word.size());
    if (name == "--port") {
      options.port = std::atoi(value);
    } else if (name == "--connections") {
      options.connections = std::atoi(value);
    } else if (name == "--pipeline") {
      options.pipeline = std::atoi(value);
    } else if (name == "--command") {
      options.command = value;
    } else if (name == "--keys") {
      options.keys = std::strtoull(value, nullptr, 10);
    } else if (name == "--value-bytes") {
      options.value_bytes = std::strtoull(value, nullptr, 10);
    } else if (name == "--seconds") {
      options.seconds = std::atof(value);
    } else if (name == "--warm-up") {
      options.warm_up = std::atof(value);
    } else if (name == "--large-every") {
      options.large_every = std::strtoull(value, nullptr, 10);
    } else if (name == "--rate") {
      options.rate = std::atof(value);
    } else if (name == "--fill") {
      options.fills = true;
    } else {
      std::fprintf(stderr, "load: unknown option %s\n", words[i]);
      return 2;
    }
  }
  Load load(options);
  if (options.fills) {
    load.Fill();
  } else if (options.rate != 0) {
    load.RunOpen();
  } else {
    load.RunClosed();
  }
}
