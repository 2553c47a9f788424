// The native front without JavaScript, for ThreadSanitizer and AddressSanitizer above all: clients of many threads that
// check what they get, leave in every way, and find the front ended under them. What a front does for its clients is
// specified by test/conformance/front.ts.
#ifdef __linux__

#include "server/front.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <map>
#include <string>
#include <thread>
#include <vector>

#include "process/registry.h"
#include "support/protocol_client.h"
#include "test.h"

namespace cairn {
namespace {

using test::Set;

class CountingWaker final : public Waker {
 public:
  void Wake() override {
    wakes_.fetch_add(1);
    OsWakeWord(&wakes_, true);
  }
  uint32_t count() const { return wakes_.load(); }
  // Until something else was told than `before`.
  uint32_t Wait(uint32_t before) {
    while (wakes_.load() == before) OsWaitOnWord(&wakes_, before, 1000);
    return wakes_.load();
  }

 private:
  std::atomic<uint32_t> wakes_{0};
};

// A front over TCP, and its cache.
class Served {
 public:
  // `path`: over a unix socket there.
  Served(FrontLimits limits, const char* name, const std::string& path = {}) {
    CacheOptions options;
    options.name = name;
    options.store.memory_bytes = 4 * kMemoryBytesMin;
    Refusal refusal;
    CHECK(Registry::Get().Open(std::move(options), false, &cache_, &refusal) == OpenStatus::kCreated);
    Service::Options service_options;
    service_options.version = "1.6.45";
    service_options.test_commands = true;
    service_ = std::make_unique<Service>(cache_->store(), std::move(service_options), cache_->ReadBothClocks());
    front_ = std::make_unique<Front>(waker_, limits);
    front_->events()->HearConnections(true);
    ListenAddress address;
    address.path = path;
    address.path_mode = 0600;
    address.host = "127.0.0.1";
    address.backlog = 100;
    SocketEnd end;
    CHECK(front_->Listen(address, Ack::kMemory, &end) == 0);
    port_ = end.port();
    CHECK(front_->Serve(service_.get(), cache_) == 0);
  }
  ~Served() {
    front_.reset();
    service_.reset();
    Registry::Get().Release(&cache_, true, ReleaseKind::kClosed);
  }

  Front* front() { return front_.get(); }
  Store* store() { return cache_->store(); }
  Service* service() { return service_.get(); }
  uint32_t wakes() const { return waker_->count(); }

  // A client with a blocking socket.
  int Connect() const {
    const int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    sockaddr_in to = {};
    to.sin_family = AF_INET;
    to.sin_port = htons(port_);
    to.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    if (connect(fd, reinterpret_cast<sockaddr*>(&to), sizeof(to)) == 0) return fd;
    close(fd);
    return -1;
  }

  // Takes events until a condition holds of all that came.
  template <class Condition>
  void Until(Condition holds) {
    uint32_t seen = 0;
    for (;;) {
      for (FrontEvent& event : front_->events()->Take()) events_.push_back(std::move(event));
      if (holds(events_)) return;
      seen = waker_->Wait(seen);
    }
  }
  void UntilGone() {
    Until([this](const auto&) { return front_->IsGone(); });
    for (FrontEvent& event : front_->events()->Take()) events_.push_back(std::move(event));
  }
  size_t Count(FrontEvent::Kind kind) const {
    return static_cast<size_t>(
        std::count_if(events_.begin(), events_.end(), [kind](const FrontEvent& event) { return event.kind == kind; }));
  }

 private:
  const std::shared_ptr<CountingWaker> waker_ = std::make_shared<CountingWaker>();
  CachePointer cache_;
  std::unique_ptr<Service> service_;
  std::unique_ptr<Front> front_;
  std::vector<FrontEvent> events_;
  uint16_t port_ = 0;
};

bool SendAll(int fd, std::string_view bytes) {
  while (!bytes.empty()) {
    const ssize_t count = send(fd, bytes.data(), bytes.size(), MSG_NOSIGNAL);
    if (count <= 0) return false;
    bytes.remove_prefix(static_cast<size_t>(count));
  }
  return true;
}

// Reads until the text ends with `end`; false: the connection has ended before.
bool ReadUntil(int fd, std::string_view end, std::string* text) {
  char buffer[64 * 1024];
  while (text->size() < end.size() || std::string_view(*text).substr(text->size() - end.size()) != end) {
    const ssize_t count = recv(fd, buffer, sizeof(buffer), 0);
    if (count <= 0) return false;
    text->append(buffer, static_cast<size_t>(count));
  }
  return true;
}

void Leave(int fd, bool resets) {
  if (resets) {
    const linger at_once = {.l_onoff = 1, .l_linger = 0};
    setsockopt(fd, SOL_SOCKET, SO_LINGER, &at_once, sizeof(at_once));
  }
  close(fd);
}

TEST(NativeFront, ClientsOfManyThreadsGetTheirOwnAnswers) {
  constexpr int kThreads = 4;
  constexpr int kConnections = test::kUnderTsan ? 40 : 120;
  Served served({.connections_max = 1000, .timeouts = {.idle_ms = 0, .stall_ms = 60'000}, .loops = 3}, "front-many");
  std::atomic<int> wrong{0};
  std::atomic<uint64_t> answered{0};
  std::vector<std::thread> threads;
  for (int t = 0; t < kThreads; t++) {
    threads.emplace_back([&, t] {
      test::Random random(test::Seed() + static_cast<uint64_t>(t));
      for (int c = 0; c < kConnections; c++) {
        const int fd = served.Connect();
        if (fd < 0) {
          wrong++;
          return;
        }
        const std::string key = "k" + std::to_string(t);
        for (int i = static_cast<int>(random.Below(8)); i >= 0; i--) {
          const std::string value(random.OneIn(4) ? random.Between(1, 300'000) : random.Between(1, 100),
                                  static_cast<char>('a' + c % 26));
          std::string answer;
          const std::string wanted =
              "STORED\r\nVALUE " + key + " 0 " + std::to_string(value.size()) + "\r\n" + value + "\r\nEND\r\nMN\r\n";
          if (!SendAll(fd, Set(key, value) + "get " + key + "\r\nmn\r\n") || !ReadUntil(fd, "\r\nMN\r\n", &answer) ||
              answer != wanted) {
            wrong++;
          }
          answered++;
        }
        switch (random.Below(4)) {
          case 0:  // in the middle of a large answer
            SendAll(fd, Set("large", std::string(900'000, 'l')) + "get large large large large\r\n");
            break;
          case 1:  // in the middle of a request
            SendAll(fd, "set " + key + " 0 0 500000\r\nabc");
            break;
          case 2: {
            std::string rest;
            shutdown(fd, SHUT_WR);
            ReadUntil(fd, "never", &rest);
            break;
          }
          default:
            break;
        }
        Leave(fd, random.OneIn(2));
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(wrong.load(), 0);
  EXPECT_GE(answered.load(), static_cast<uint64_t>(kThreads * kConnections));
  served.front()->Close();
  served.UntilGone();
  EXPECT_EQ(served.front()->connection_count(), 0u);
  EXPECT_EQ(served.Count(FrontEvent::Kind::kConnected), static_cast<size_t>(kThreads * kConnections));
  EXPECT_EQ(served.Count(FrontEvent::Kind::kDisconnected), static_cast<size_t>(kThreads * kConnections));
  served.store()->Verify();
}

TEST(NativeFront, EndsUnderItsClients) {
  for (int round = 0; round < 12; round++) {
    auto served = std::make_unique<Served>(
        FrontLimits{.connections_max = 1000, .timeouts = {.idle_ms = 0, .stall_ms = 60'000}, .loops = 2}, "front-end");
    std::atomic<bool> is_over{false};
    std::atomic<uint64_t> answered{0};
    std::vector<std::thread> threads;
    for (int t = 0; t < 3; t++) {
      threads.emplace_back([&] {
        while (!is_over.load()) {
          const int fd = served->Connect();
          if (fd < 0) continue;
          std::string answer;
          if (SendAll(fd, Set("a", "1") + "get a\r\nmn\r\n") && ReadUntil(fd, "MN\r\n", &answer)) answered++;
          Leave(fd, false);
        }
      });
    }
    while (answered.load() < 30) std::this_thread::yield();
    if (round % 3 == 0) {
      served->front()->Destroy();
      served->UntilGone();
      EXPECT_EQ(served->Count(FrontEvent::Kind::kConnected), served->Count(FrontEvent::Kind::kDisconnected));
    } else if (round % 3 == 1) {
      served->front()->Close();
      served->UntilGone();
      EXPECT_EQ(served->Count(FrontEvent::Kind::kConnected), served->Count(FrontEvent::Kind::kDisconnected));
    } else {
      // Its destructor ends it.
      is_over = true;
      for (std::thread& thread : threads) thread.join();
      threads.clear();
    }
    is_over = true;
    for (std::thread& thread : threads) thread.join();
    served.reset();
  }
}

TEST(NativeFront, ServesOnWhenNoFileDescriptorIsLeft) {
  Served served({.connections_max = 1000, .timeouts = {.idle_ms = 0, .stall_ms = 60'000}, .loops = 1}, "front-full");
  const int first = served.Connect();
  std::string answer;
  ASSERT_TRUE(SendAll(first, "mn\r\n") && ReadUntil(first, "MN\r\n", &answer));
  rlimit before;
  getrlimit(RLIMIT_NOFILE, &before);
  const rlimit low = {.rlim_cur = 64, .rlim_max = before.rlim_max};
  ASSERT_TRUE(setrlimit(RLIMIT_NOFILE, &low) == 0);
  // This process takes all but one, which the client's side gets: the server's side finds none.
  std::vector<int> taken;
  for (int fd; (fd = open("/dev/null", O_RDONLY | O_CLOEXEC)) >= 0;) taken.push_back(fd);
  ASSERT_TRUE(!taken.empty());
  close(taken.back());
  taken.pop_back();
  const int waiting = served.Connect();
  EXPECT_GE(waiting, 0);
  for (int i = 0; i < 100; i++) {
    answer.clear();
    EXPECT_TRUE(SendAll(first, "mn\r\n") && ReadUntil(first, "MN\r\n", &answer));
  }
  served.Until([&](const auto&) { return served.Count(FrontEvent::Kind::kNoRoom) > 0; });
  EXPECT_FALSE(served.service()->is_accepting());
  for (int fd : taken) close(fd);
  setrlimit(RLIMIT_NOFILE, &before);
  answer.clear();
  EXPECT_TRUE(SendAll(waiting, "mn\r\n") && ReadUntil(waiting, "MN\r\n", &answer));
  while (!served.service()->is_accepting()) OsSleepUs(1000);
  const CounterValues counters = served.service()->ReadCounters();
  EXPECT_EQ(counters[Counter::kListenDisabled], 1u);
  EXPECT_GT(counters[Counter::kListenDisabledUs], 0u);
  // The acceptor has tried many times, and told it once.
  EXPECT_EQ(served.Count(FrontEvent::Kind::kNoRoom), 1u);
  close(waiting);
  close(first);
}

TEST(NativeFront, FewRefusedClientsStay) {
  Served served({.connections_max = 1, .timeouts = {.idle_ms = 0, .stall_ms = 60'000}, .loops = 1}, "front-refused");
  const int first = served.Connect();
  std::string answer;
  ASSERT_TRUE(SendAll(first, "mn\r\n") && ReadUntil(first, "MN\r\n", &answer));
  std::vector<int> refused;
  size_t most = 0;
  for (size_t i = 0; i < 2 * Front::kRefusedMax; i++) {
    refused.push_back(served.Connect());
    answer.clear();
    // Each reads why, whether its connection stays or not.
    EXPECT_TRUE(ReadUntil(refused.back(), "ERROR Too many open connections\r\n", &answer));
    most = std::max(most, served.front()->refused_count());
  }
  EXPECT_LE(most, Front::kRefusedMax);
  EXPECT_GT(most, 1u);
  EXPECT_EQ(served.service()->ReadCounters()[Counter::kConnectionsRejected], 2 * Front::kRefusedMax);
  for (int fd : refused) close(fd);
  while (served.front()->refused_count() != 0) OsSleepUs(1000);
  answer.clear();
  EXPECT_TRUE(SendAll(first, "mn\r\n") && ReadUntil(first, "MN\r\n", &answer));
  close(first);
}

TEST(NativeFront, ClientsThatComeAndGoWakeItsOwnerOnlyIfItAsks) {
  Served served({.connections_max = 1000, .timeouts = {.idle_ms = 0, .stall_ms = 60'000}, .loops = 2}, "front-quiet");
  served.front()->events()->HearConnections(false);
  const uint32_t before = served.wakes();
  const auto come_and_go = [&served](std::string_view request) {
    const int fd = served.Connect();
    std::string answer;
    EXPECT_TRUE(SendAll(fd, request) && !ReadUntil(fd, "never", &answer));
    close(fd);
  };
  for (int i = 0; i < 300; i++) come_and_go("mn\r\nquit\r\n");
  while (served.front()->connection_count() != 0) OsSleepUs(1000);
  EXPECT_EQ(served.wakes(), before);
  // Of a protocol that is not served the first client is told.
  for (int i = 0; i < 10; i++) come_and_go(std::string_view("\x16\x03\x01\x02\0\x01\0\x01", 8));  // TLS
  while (served.front()->connection_count() != 0) OsSleepUs(1000);
  EXPECT_EQ(served.wakes(), before + 1);
  served.front()->events()->HearConnections(true);
  come_and_go("quit\r\n");
  served.Until([&](const auto&) { return served.Count(FrontEvent::Kind::kDisconnected) == 2; });
  EXPECT_EQ(served.Count(FrontEvent::Kind::kConnected), 1u);
}

// A client of a unix socket, of whose replies the system keeps little.
int ConnectToPath(const std::string& path) {
  const int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
  sockaddr_un to = {};
  to.sun_family = AF_UNIX;
  path.copy(to.sun_path, sizeof(to.sun_path) - 1);
  if (connect(fd, reinterpret_cast<sockaddr*>(&to), sizeof(to)) == 0) return fd;
  close(fd);
  return -1;
}

// A client that asks for more than the system takes for it, and reads nothing.
int ConnectDeafClient(Served* served) {
  const int fd = served->Connect();
  std::string gets;
  for (int i = 0; i < 20; i++) gets += "get large\r\n";
  CHECK(fd >= 0 && SendAll(fd, gets));
  return fd;
}

TEST(NativeFront, DropsThoseThatHaveTakenNothingForLongestBeyondItsOutputBudget) {
  constexpr size_t kBudget = 8 << 20;
  constexpr int kDeaf = 30;
  Served served({.connections_max = 1000,
                 .timeouts = {.idle_ms = 0, .stall_ms = 600'000},
                 .loops = 2,
                 .unsent_bytes_max = kBudget},
                "front-budget");
  const int reader = served.Connect();
  std::string answer;
  ASSERT_TRUE(SendAll(reader, Set("large", std::string(900'000, 'l'))) && ReadUntil(reader, "STORED\r\n", &answer));
  std::vector<int> deaf;
  size_t most = 0;
  for (int i = 0; i < kDeaf; i++) {
    deaf.push_back(ConnectDeafClient(&served));
    // It has stopped: its replies are as many as may wait.
    while (served.service()->ReadCounters()[Counter::kYields] <= static_cast<uint64_t>(i)) OsSleepUs(1000);
    most = std::max(most, served.service()->unsent_bytes());
    answer.clear();
    ASSERT_TRUE(SendAll(reader, "get large\r\n") && ReadUntil(reader, "END\r\n", &answer));
    EXPECT_GT(answer.size(), 900'000u);
  }
  // Each thread may exceed it by the replies of one client.
  EXPECT_LE(most, kBudget + 2 * (4 << 20));
  EXPECT_GE(most, kBudget / 2);
  // Eight have no room for more than the least at which a client stops.
  while (served.service()->ReadCounters()[Counter::kOutputDrops] < kDeaf - 8) OsSleepUs(1000);
  while (served.service()->unsent_bytes() > kBudget) OsSleepUs(1000);
  const uint64_t drops = served.service()->ReadCounters()[Counter::kOutputDrops];
  size_t told = 0;
  served.Until([&](const std::vector<FrontEvent>& events) {
    told = static_cast<size_t>(std::count_if(events.begin(), events.end(), [](const FrontEvent& event) {
      return event.kind == FrontEvent::Kind::kDisconnected && event.ending == Ending::kOutput;
    }));
    return told >= drops;
  });
  // The first has been dropped and finds that out, the last one has not.
  answer.clear();
  EXPECT_FALSE(ReadUntil(deaf.front(), "never", &answer));
  EXPECT_LT(answer.size(), 20 * 900'000u);
  std::string all;
  while (all.size() < 20 * 900'000u) {
    answer.clear();
    ASSERT_TRUE(ReadUntil(deaf.back(), "END\r\n", &answer));
    all += answer;
  }
  for (int fd : deaf) close(fd);
  close(reader);
  while (served.front()->connection_count() != 0) OsSleepUs(1000);
  EXPECT_EQ(served.service()->unsent_bytes(), 0u);
}

TEST(NativeFront, SendsAReplyThatAloneExceedsItsOutputBudget) {
  Served served({.connections_max = 1000,
                 .timeouts = {.idle_ms = 0, .stall_ms = 600'000},
                 .loops = 1,
                 .unsent_bytes_max = 100'000},
                "front-alone");
  const int fd = served.Connect();
  std::string answer;
  ASSERT_TRUE(SendAll(fd, Set("large", std::string(900'000, 'l'))) && ReadUntil(fd, "STORED\r\n", &answer));
  answer.clear();
  std::string get = "get";
  for (int i = 0; i < 20; i++) get += " large";
  ASSERT_TRUE(SendAll(fd, get + "\r\n"));
  while (served.service()->unsent_bytes() <= 100'000) OsSleepUs(1000);
  ASSERT_TRUE(ReadUntil(fd, "END\r\n", &answer));
  EXPECT_GT(answer.size(), 20 * 900'000u);
  EXPECT_EQ(served.service()->ReadCounters()[Counter::kOutputDrops], 0u);
  close(fd);
}

TEST(NativeFront, GoesOnBeforeAllRepliesHaveLeft) {
  const std::string path = "cairn-front-low.sock";
  unlink(path.c_str());
  Served served({.connections_max = 10, .timeouts = {.idle_ms = 0, .stall_ms = 600'000}, .loops = 1}, "front-low",
                path);
  const int fd = ConnectToPath(path);
  std::string answer;
  ASSERT_TRUE(SendAll(fd, Set("large", std::string(900'000, 'l'))) && ReadUntil(fd, "STORED\r\n", &answer));
  ASSERT_TRUE(SendAll(fd, "get large\r\nget large\r\nget large\r\n"));
  while (served.service()->ReadCounters()[Counter::kYields] == 0) OsSleepUs(1000);
  EXPECT_EQ(served.store()->Stats().hits, 2u);
  // Of two replies, 1,800,062 bytes, the client has 1,560,000 and the system up to 208 KiB: some still wait.
  std::vector<char> bytes(1'560'000);
  for (size_t taken = 0; taken < bytes.size();) {
    const ssize_t count = recv(fd, bytes.data() + taken, bytes.size() - taken, 0);
    ASSERT_TRUE(count > 0);
    taken += static_cast<size_t>(count);
  }
  while (served.store()->Stats().hits != 3) OsSleepUs(1000);
  close(fd);
}

TEST(NativeFront, AnswersAllThatHasComeBeforeItCloses) {
  const std::string path = "cairn-front-last.sock";
  unlink(path.c_str());
  for (int round = 0; round < 20; round++) {
    Served served({.connections_max = 10, .timeouts = {.idle_ms = 0, .stall_ms = 600'000}, .loops = 1}, "front-last",
                  path);
    const int fd = ConnectToPath(path);
    std::string answer;
    ASSERT_TRUE(SendAll(fd, "mn\r\n") && ReadUntil(fd, "MN\r\n", &answer));
    // More than one read, all of which the system has when this returns.
    constexpr size_t kRequests = 20'000;
    std::string requests;
    for (size_t i = 0; i < kRequests; i++) requests += "mn\r\n";
    ASSERT_TRUE(SendAll(fd, requests));
    served.front()->Close();
    answer.clear();
    EXPECT_FALSE(ReadUntil(fd, "never", &answer));
    EXPECT_EQ(answer.size(), kRequests * 4);
    served.UntilGone();
    close(fd);
  }
}

uint64_t CpuUs() {
  uint64_t user_us, system_us;
  OsCpuTimes(&user_us, &system_us);
  return user_us + system_us;
}

// A loop that is woken again and again uses what a busy machine leaves it of the time, and a sleeping one next to none.
bool LoopsSleep() {
  const uint64_t before = CpuUs();
  OsSleepUs(400'000);
  return CpuUs() - before < 50'000;
}

TEST(NativeFront, SleepsOnceASlowReaderHasTakenAll) {
  Served served({.connections_max = 1000, .timeouts = {.idle_ms = 0, .stall_ms = 60'000}, .loops = 1}, "front-slow");
  const int fd = served.Connect();
  constexpr int kGets = 12;
  const std::string value(900'000, 'l');
  std::string answer;
  ASSERT_TRUE(SendAll(fd, Set("large", value)) && ReadUntil(fd, "STORED\r\n", &answer));
  std::string gets;
  for (int i = 0; i < kGets; i++) gets += "get large\r\n";
  ASSERT_TRUE(SendAll(fd, gets));
  // Replies wait by then: what follows is read late.
  OsSleepUs(50'000);
  size_t ends = 0;
  char buffer[64 * 1024];
  for (size_t got = 0; got < kGets * (value.size() + std::string("VALUE large 0 900000\r\n\r\nEND\r\n").size());) {
    const ssize_t count = recv(fd, buffer, sizeof(buffer), 0);
    ASSERT_TRUE(count > 0);
    got += static_cast<size_t>(count);
    ends++;
  }
  EXPECT_GT(ends, size_t{kGets});
  EXPECT_TRUE(LoopsSleep());
  close(fd);
}

// ---- large values, sent from their entries ----

// A client of a unix socket, whose buffer has a fixed size: it takes less than 900,000 bytes.
int ConnectTo(const std::string& path) {
  const int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
  sockaddr_un to = {};
  to.sun_family = AF_UNIX;
  path.copy(to.sun_path, sizeof(to.sun_path) - 1);
  CHECK(connect(fd, reinterpret_cast<sockaddr*>(&to), sizeof(to)) == 0);
  return fd;
}

// The loop has done what clients had sent before. REQUIRES: one loop.
void AwaitTurn(int fd) {
  std::string answer;
  CHECK(SendAll(fd, "mn\r\n") && ReadUntil(fd, "MN\r\n", &answer));
}

template <class Condition>
void Await(Condition holds) {
  while (!holds()) OsSleepUs(1000);
}

std::string Numbers(size_t bytes) {
  std::string value;
  while (value.size() < bytes) value += std::to_string(value.size()) + ' ';
  value.resize(bytes);
  return value;
}

TEST(NativeFront, ALargeValueLeavesFromItsEntryAsItWasWhenItWasAskedFor) {
  const std::string path = "cairn-front-pinned.sock";
  unlink(path.c_str());
  Served served({.connections_max = 1000, .timeouts = {.idle_ms = 0, .stall_ms = 60'000}, .loops = 1}, "front-pinned",
                path);
  Store* store = served.store();
  const std::string value = Numbers(900'000);
  const int other = ConnectTo(path);
  for (const char* change : {"set large 0 0 3\r\nnew\r\n", "delete large\r\n", "append large 0 0 1\r\nx\r\n",
                             "prepend large 0 0 1\r\nx\r\n", "touch large -1\r\n", "flush_all\r\n"}) {
    const int fd = ConnectTo(path);
    std::string answer;
    ASSERT_TRUE(SendAll(other, Set("large", value)) && ReadUntil(other, "STORED\r\n", &answer));
    ASSERT_TRUE(SendAll(fd, "get large\r\n"));
    char first;
    ASSERT_TRUE(recv(fd, &first, 1, MSG_PEEK) == 1);
    AwaitTurn(other);
    EXPECT_GT(store->Stats().pinned_pages, 0u);
    // Its memory would be used again, if it were free.
    ASSERT_TRUE(SendAll(other, change));
    for (int i = 0; i < 1000; i++) {
      ASSERT_TRUE(SendAll(other, Set("filler" + std::to_string(i), std::string(20'000, 'f'))));
      ASSERT_TRUE(ReadUntil(other, "STORED\r\n", &answer));
    }
    store->Verify();
    EXPECT_GT(store->Stats().pinned_pages, 0u);
    answer.clear();
    ASSERT_TRUE(ReadUntil(fd, "END\r\n", &answer));
    EXPECT_TRUE(answer == "VALUE large 0 900000\r\n" + value + "\r\nEND\r\n") << change;
    AwaitTurn(other);
    EXPECT_EQ(store->Stats().pinned_pages, 0u);
    close(fd);
  }
  close(other);
  store->Verify();
}

TEST(NativeFront, ClientsThatDoNotReadPinLittleAndLeaveNoPins) {
  const std::string path = "cairn-front-stuck.sock";
  unlink(path.c_str());
  Served served({.connections_max = 1000, .timeouts = {.idle_ms = 0, .stall_ms = 60'000}, .loops = 1}, "front-stuck",
                path);
  Store* store = served.store();
  constexpr size_t kClients = 40;
  constexpr size_t kGets = 8;
  const int other = ConnectTo(path);
  std::vector<int> fds;
  std::string values[kClients];
  for (size_t c = 0; c < kClients; c++) {
    const std::string key = "k" + std::to_string(c % 30);
    values[c] = Numbers(60'000 + c % 30);
    std::string answer;
    ASSERT_TRUE(SendAll(other, Set(key, values[c])) && ReadUntil(other, "STORED\r\n", &answer));
    fds.push_back(ConnectTo(path));
    std::string gets;
    for (size_t i = 0; i < kGets; i++) gets += "get " + key + "\r\n";
    ASSERT_TRUE(SendAll(fds.back(), gets));
    char first;
    ASSERT_TRUE(recv(fds.back(), &first, 1, MSG_PEEK) == 1);
    AwaitTurn(other);
    EXPECT_LE(store->Stats().pinned_pages, kPinnedPagesMax * store->shard_count());
  }
  EXPECT_GT(store->Stats().pinned_pages, 0u);
  store->Verify();
  // There is room for others all the same.
  for (int i = 0; i < 1000; i++) {
    std::string answer;
    ASSERT_TRUE(SendAll(other, Set("filler" + std::to_string(i), std::string(20'000, 'f'))));
    ASSERT_TRUE(ReadUntil(other, "\r\n", &answer));
    EXPECT_EQ(answer, "STORED\r\n");
  }
  for (size_t c = 0; c < kClients; c += 2) {
    std::string wanted, answer;
    for (size_t i = 0; i < kGets; i++) {
      wanted += "VALUE k" + std::to_string(c % 30) + " 0 " + std::to_string(values[c].size()) + "\r\n" + values[c] +
                "\r\nEND\r\n";
    }
    ASSERT_TRUE(SendAll(fds[c], "mn\r\n") && ReadUntil(fds[c], "MN\r\n", &answer));
    EXPECT_TRUE(answer == wanted + "MN\r\n") << c;
  }
  for (size_t c = 0; c < kClients; c++) Leave(fds[c], c % 4 == 1);
  Await([store] { return store->Stats().pinned_pages == 0; });
  close(other);
  store->Verify();
}

TEST(NativeFront, EndsWhileValuesArePinned) {
  for (const bool destroys : {true, false}) {
    const std::string path = "cairn-front-ends.sock";
    unlink(path.c_str());
    auto served = std::make_unique<Served>(
        FrontLimits{.connections_max = 1000, .timeouts = {.idle_ms = 0, .stall_ms = 60'000}, .loops = 1}, "front-ends",
        path);
    const int fd = ConnectTo(path);
    std::string answer;
    ASSERT_TRUE(SendAll(fd, Set("large", Numbers(900'000))) && ReadUntil(fd, "STORED\r\n", &answer));
    ASSERT_TRUE(SendAll(fd, "get large\r\n"));
    Await([&] { return served->store()->Stats().pinned_pages != 0; });
    if (destroys) {
      served->front()->Destroy();
      served->UntilGone();
      EXPECT_EQ(served->store()->Stats().pinned_pages, 0u);
      served->store()->Verify();
    }
    served.reset();
    close(fd);
  }
}

TEST(NativeFront, ValuesThatOthersReplaceAreSentWhole) {
  constexpr size_t kKeys = 6;
  constexpr int kRounds = test::kUnderTsan ? 60 : 200;
  Served served({.connections_max = 1000, .timeouts = {.idle_ms = 0, .stall_ms = 60'000}, .loops = 2},
                "front-replaced");
  std::atomic<int> wrong{0};
  std::vector<std::thread> threads;
  for (int t = 0; t < 4; t++) {
    threads.emplace_back([&, t] {
      test::Random random(test::Seed() + static_cast<uint64_t>(t));
      const int fd = served.Connect();
      for (int round = 0; round < kRounds; round++) {
        std::string asked;
        for (size_t i = random.Between(1, 4); i > 0; i--) {
          const std::string key = "k" + std::to_string(random.Below(kKeys));
          switch (random.Below(4)) {
            case 0:
              asked += Set(key, std::string(random.Between(1, 200'000), static_cast<char>('a' + random.Below(26))));
              break;
            case 1:
              asked += "delete " + key + "\r\n";
              break;
            default:
              asked += "get " + key + " k0 k1\r\n";
          }
        }
        std::string answer;
        if (!SendAll(fd, asked + "mn\r\n") || !ReadUntil(fd, "MN\r\n", &answer)) wrong++;
        // Every value has its size, and the bytes of one set.
        for (size_t at = answer.find("VALUE "); at != std::string::npos; at = answer.find("VALUE ", at)) {
          const size_t bytes = std::stoull(answer.substr(answer.find(" 0 ", at) + 3));
          at = answer.find("\r\n", at) + 2;
          if (answer.find_first_not_of(answer[at], at) != at + bytes) wrong++;
          at += bytes;
        }
      }
      close(fd);
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(wrong.load(), 0);
  Await([&] { return served.store()->Stats().pinned_pages == 0; });
  served.store()->Verify();
}

TEST(NativeFront, WhatAClientHasSentBeforeItLeavesIsExecuted) {
  Served served({.connections_max = 1000, .timeouts = {.idle_ms = 0, .stall_ms = 60'000}, .loops = 1}, "front-left");
  const int other = served.Connect();
  std::string answer;
  ASSERT_TRUE(SendAll(other, Set("reply", std::string(20'000, 'r'))) && ReadUntil(other, "STORED\r\n", &answer));
  for (int i = 0; i < 20; i++) {
    const int fd = served.Connect();
    const std::string key = "left" + std::to_string(i);
    // It leaves a reply unread, so its end resets the connection. The reply fits the system's buffers: where a send
    // fails, the client is gone, as it is to memcached.
    char first;
    ASSERT_TRUE(SendAll(fd, "get reply\r\n") && recv(fd, &first, 1, 0) == 1);
    ASSERT_TRUE(SendAll(fd, "set " + key + " 0 0 1 noreply\r\n1\r\n"));
    close(fd);
    served.Until([&served, i](const auto&) {
      return served.Count(FrontEvent::Kind::kDisconnected) == static_cast<size_t>(i) + 1;
    });
    answer.clear();
    ASSERT_TRUE(SendAll(other, "get " + key + "\r\n") && ReadUntil(other, "END\r\n", &answer));
    EXPECT_EQ(answer, "VALUE " + key + " 0 1\r\n1\r\nEND\r\n");
  }
  close(other);
}

TEST(NativeFront, AUnixClientThatLeavesWhileItIsStoppedIsServedToItsEnd) {
  const std::string path = "cairn-front-left.sock";
  unlink(path.c_str());
  Served served({.connections_max = 1000, .timeouts = {.idle_ms = 0, .stall_ms = 60'000}, .loops = 1}, "front-unix",
                path);
  constexpr int kSets = 60'000;
  for (int i = 0; i < 3; i++) {
    const int fd = ConnectToPath(path);
    ASSERT_TRUE(fd >= 0);
    std::string sets;
    for (int k = 0; k < kSets; k++) sets += "set k 0 0 5 noreply\r\n" + std::to_string(10'000 + k) + "\r\n";
    ASSERT_TRUE(SendAll(fd, sets));
    close(fd);
  }
  served.Until([&served](const auto&) {
    return served.Count(FrontEvent::Kind::kDisconnected) == 3 && served.front()->connection_count() == 0;
  });
  EXPECT_EQ(served.store()->Stats().sets, uint64_t{3 * kSets});
}

TEST(NativeFront, AProcessThatIsBeingStartedKeepsNoClient) {
  Served served({.connections_max = 1000, .timeouts = {.idle_ms = 0, .stall_ms = 60'000}, .loops = 1}, "front-fork");
  const int fd = served.Connect();
  std::string answer;
  ASSERT_TRUE(SendAll(fd, "mn\r\n") && ReadUntil(fd, "MN\r\n", &answer));
  int until_over[2];
  ASSERT_TRUE(pipe(until_over) == 0);
  // Until it executes a program, it has all sockets of this process.
  const pid_t child = fork();
  if (child == 0) {
    close(until_over[1]);
    char byte;
    static_cast<void>(!read(until_over[0], &byte, 1));
    _exit(0);
  }
  shutdown(fd, SHUT_WR);
  served.Until([&served](const auto&) { return served.front()->connection_count() == 0; });
  char byte;
  EXPECT_EQ(recv(fd, &byte, 1, 0), 0);
  // Its socket is in no epoll: one that is wakes the loop again and again, with a client that is gone.
  EXPECT_TRUE(LoopsSleep());
  close(until_over[1]);
  close(until_over[0]);
  waitpid(child, nullptr, 0);
  close(fd);
}

TEST(NativeFront, ItsAddressIsFreeWhenItIsDestroyed) {
  uint16_t port = 0;
  for (int round = 0; round < 30; round++) {
    Front front(std::make_shared<CountingWaker>(), {});
    ListenAddress address;
    address.host = "127.0.0.1";
    address.port = port;
    address.backlog = 10;
    SocketEnd end;
    ASSERT_EQ(front.Listen(address, Ack::kMemory, &end), 0) << "round " << round;
    port = end.port();
    front.Destroy();
  }
}

TEST(NativeFront, ListensOnAnAddressWithAZone) {
  Front front(std::make_shared<CountingWaker>(), {});
  ListenAddress address;
  address.host = "::1%lo";
  address.backlog = 10;
  SocketEnd end;
  const int error = front.Listen(address, Ack::kMemory, &end);
  // Some machines have no IPv6.
  EXPECT_TRUE(error == 0 || error == EADDRNOTAVAIL || error == EAFNOSUPPORT) << error;
}

TEST(NativeFront, AUnixSocketHasItsModeAndGoesWithItsFront) {
  const std::string path = "cairn-front-test.sock";
  unlink(path.c_str());
  {
    Front front(std::make_shared<CountingWaker>(), {});
    ListenAddress address;
    address.path = path;
    address.path_mode = 0640;
    address.backlog = 10;
    SocketEnd end;
    ASSERT_EQ(front.Listen(address, Ack::kMemory, &end), 0);
    EXPECT_EQ(access(path.c_str(), F_OK), 0);
    Front other(std::make_shared<CountingWaker>(), {});
    EXPECT_EQ(other.Listen(address, Ack::kMemory, &end), EADDRINUSE);
    address.path = std::string(200, 'p');
    EXPECT_EQ(other.Listen(address, Ack::kMemory, &end), ENAMETOOLONG);
  }
  EXPECT_NE(access(path.c_str(), F_OK), 0);
}

}  // namespace
}  // namespace cairn

#endif  // __linux__
