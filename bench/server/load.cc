// The load of `npm run bench -- server`, in its own process: connections that each send `pipeline` requests at once, and
// again when all of them have been answered. It checks how each reply begins and how long it is, and prints one line of
// JSON.
//
//   load --port=N [--connections=50] [--pipeline=1] [--command=get|mg|set|mixed|multi] [--keys=100000] [--value-bytes=32]
//        [--seconds=2] [--warm-up=0.3] [--fill]
//
// `mixed`: a set for nine gets. `multi`: gets of 100 keys. `--fill`: sets every key once, and ends.
#include <arpa/inet.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <ctime>
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
  bool fills = false;
};

constexpr int kMultiKeys = 100;

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
  size_t sent = 0;
  size_t awaited = 0;  // bytes of replies that are still to come
  int next = 0;        // of `mixed`
  uint64_t begun_ns = 0;
};

class Load {
 public:
  explicit Load(const Options& options)
      : options_(options), value_(options.value_bytes, 'v'), input_(new char[kInputBytes]) {
    const std::string length = std::to_string(options_.value_bytes);
    get_reply_ = std::string("VALUE ").size() + kKeyBytes + std::string(" 0 ").size() + length.size() + 2 +
                 options_.value_bytes + 2;
    mg_reply_ = std::string("VA ").size() + length.size() + 2 + options_.value_bytes + 2;
  }

  void Fill() {
    Client client = Connect(0);
    uint64_t key = 0;
    while (key < options_.keys) {
      client.out.clear();
      size_t replies = 0;
      for (int i = 0; i < 200 && key < options_.keys; i++) replies += AddSet(&client.out, key++);
      for (size_t sent = 0; sent < client.out.size();) sent += Write(client.fd, client.out.data() + sent, client.out.size() - sent);
      for (size_t got = 0; got < replies;) got += Read(client.fd);
    }
  }

  void Run() {
    const int epoll = epoll_create1(0);
    std::vector<std::unique_ptr<Client>> clients;
    for (int i = 0; i < options_.connections; i++) {
      clients.push_back(std::make_unique<Client>(Connect(i + 1)));
      epoll_event event = {.events = EPOLLIN, .data = {.ptr = clients.back().get()}};
      if (epoll_ctl(epoll, EPOLL_CTL_ADD, clients.back()->fd, &event) != 0) Fail("epoll_ctl");
    }
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
        requests_ = 0;
        times_us_.clear();
        cpu_ns = NowNs(CLOCK_PROCESS_CPUTIME_ID);
        from_ns_ = now_ns;
        std::printf("begin\n");
        std::fflush(stdout);
      }
      if (now_ns >= end_ns) break;
      for (int i = 0; i < count; i++) Receive(static_cast<Client*>(events[i].data.ptr), now_ns);
    }
    const double elapsed = static_cast<double>(NowNs() - from_ns_);
    std::sort(times_us_.begin(), times_us_.end());
    const auto at = [&](double share) -> double {
      return times_us_.empty() ? 0 : times_us_[static_cast<size_t>(static_cast<double>(times_us_.size() - 1) * share)];
    };
    std::printf("{\"requests\":%lu,\"seconds\":%.4f,\"busy\":%.3f,\"p50\":%.1f,\"p99\":%.1f,\"p999\":%.1f}\n",
                static_cast<unsigned long>(requests_), elapsed / 1e9,
                static_cast<double>(NowNs(CLOCK_PROCESS_CPUTIME_ID) - cpu_ns) / elapsed, at(0.5), at(0.99), at(0.999));
  }

 private:
  static constexpr size_t kKeyBytes = 20;
  static constexpr size_t kInputBytes = size_t{1} << 20;

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
  size_t AddSet(std::string* out, uint64_t key) const {
    out->append("set ");
    AddKey(out, key);
    out->append(" 0 0 ").append(std::to_string(options_.value_bytes)).append("\r\n").append(value_).append("\r\n");
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
    if (command == "set") return AddSet(&client->out, key());
    if (command == "mixed") return client->next++ % 10 == 9 ? AddSet(&client->out, key()) : AddGet(&client->out, key());
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
    for (size_t sent = 0; sent < client->out.size();)
      sent += Write(client->fd, client->out.data() + sent, client->out.size() - sent);
  }

  void Receive(Client* client, uint64_t now_ns) {
    const size_t count = Read(client->fd);
    const char first = input_[0];
    errno = EPROTO;
    if (count > client->awaited || first == 'E' || first == 'C') Fail(std::string(input_.get(), std::min<size_t>(count, 60)).c_str());
    client->awaited -= count;
    if (client->awaited != 0) return;
    requests_ += static_cast<uint64_t>(options_.pipeline);
    times_us_.push_back(static_cast<float>(now_ns - client->begun_ns) / 1000);
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
  } else {
    load.Run();
  }
}
