#include "server/front.h"

#ifdef __linux__

#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <string_view>
#include <utility>

#include "base/check.h"

namespace cairn {
namespace {

constexpr std::string_view kTooMany = "ERROR Too many open connections\r\n";
// Clients of one address that are taken before another has its turn.
constexpr int kAcceptedPerTurnMax = 32;
// How long the acceptor waits for a file descriptor to be free before it tries again.
constexpr int kNoRoomMs = 20;

}  // namespace

Front::Front(std::shared_ptr<Waker> owner, FrontLimits limits) : limits_(limits), shared_(std::move(owner)) {
  shared_.unsent_bytes_max = limits.unsent_bytes_max;
}

Front::~Front() {
  Destroy();
  for (const auto& loop : shared_.loops) loop->Join();
}

int Front::Listen(const ListenAddress& address, Ack ack, SocketEnd* end, std::optional<Protocols> protocols) {
  if (is_stopping_.load(std::memory_order_relaxed)) return EBADF;
  Fd socket;
  if (const int error = ListenOn(address, &socket, end); error != 0) return error;
  if (acceptor_ == 0 && !StartAcceptor()) {
    if (!address.path.empty()) unlink(address.path.c_str());
    return EMFILE;
  }
  listeners_.push_back({std::move(socket), ack, protocols, address.path, end->is_any() ? std::string() : end->name()});
  Listener* listener = &listeners_.back();
  epoll_event event = {.events = EPOLLIN, .data = {.ptr = listener}};
  return epoll_ctl(epoll_.get(), EPOLL_CTL_ADD, listener->socket.get(), &event) == 0 ? 0 : errno;
}

bool Front::StartAcceptor() {
  epoll_ = Fd(epoll_create1(EPOLL_CLOEXEC));
  epoll_event event = {.events = EPOLLIN, .data = {.ptr = nullptr}};
  if (!epoll_.is_open() || epoll_ctl(epoll_.get(), EPOLL_CTL_ADD, waker_->fd(), &event) != 0) return false;
  has_stopped_.store(false, std::memory_order_relaxed);
  acceptor_ = OsStartThread("cairn-accept", Main, this);
  if (acceptor_ == 0) has_stopped_.store(true, std::memory_order_relaxed);
  return acceptor_ != 0;
}

int Front::Serve(Service* service, CachePointer cache) {
  if (is_stopping_.load(std::memory_order_relaxed) || service_.load(std::memory_order_relaxed) != nullptr) return 0;
  for (uint32_t i = 0; i < std::max(limits_.loops, 1u); i++) {
    auto loop = std::make_unique<Loop>(service, cache, &shared_, limits_.timeouts);
    if (!loop->Start()) return EAGAIN;
    shared_.loops.push_back(std::move(loop));
  }
  service_.store(service, std::memory_order_release);
  return 0;
}

void Front::Stop(bool at_once) {
  is_stopping_.store(true, std::memory_order_release);
  waker_->Wake();
  // Its addresses are free when this returns, and no loop is given a client behind its command.
  if (acceptor_ != 0) OsJoinThread(std::exchange(acceptor_, 0));
  for (const auto& loop : shared_.loops) {
    if (at_once) {
      loop->Destroy();
    } else {
      loop->ShutDown();
    }
  }
  if (shared_.loops.empty()) shared_.events.Tell({.kind = FrontEvent::Kind::kGone});
}

bool Front::IsGone() const {
  if (!is_stopping_.load(std::memory_order_relaxed) || !has_stopped_.load(std::memory_order_acquire)) return false;
  return std::all_of(shared_.loops.begin(), shared_.loops.end(), [](const auto& loop) { return loop->has_ended(); });
}

// ---- the acceptor ----

void Front::Listener::Close() {
  socket.Close();
  if (!path.empty()) unlink(path.c_str());
  path.clear();
}

void Front::Main(void* front) { static_cast<Front*>(front)->Run(); }

void Front::Run() {
  epoll_event events[16];
  while (!is_stopping_.load(std::memory_order_acquire)) {
    const bool is_short = shortage_since_ms_ != 0;
    if (is_short) {
      // The listening sockets stay ready meanwhile.
      pollfd woken = {.fd = waker_->fd(), .events = POLLIN, .revents = 0};
      static_cast<void>(poll(&woken, 1, kNoRoomMs));
    }
    const int count = epoll_wait(epoll_.get(), events, std::size(events), is_short ? 0 : -1);
    CHECK(count >= 0 || errno == EINTR);
    bool do_clients_wait = false;
    for (int i = 0; i < count; i++) {
      auto* listener = static_cast<Listener*>(events[i].data.ptr);
      if (listener == nullptr) {
        waker_->Take();
        continue;
      }
      const Queue queue = AcceptFrom(listener);
      if (queue == Queue::kNoRoom) BeginShortage(errno);
      if (queue != Queue::kEmpty) do_clients_wait = true;
    }
    if (is_short && !do_clients_wait) EndShortage();
  }
  if (shortage_since_ms_ != 0) EndShortage();
  for (Listener& listener : listeners_) listener.Close();
  has_stopped_.store(true, std::memory_order_release);
  shared_.events.Tell({.kind = FrontEvent::Kind::kGone});
}

void Front::BeginShortage(int error) {
  if (shortage_since_ms_ != 0) return;
  shortage_since_ms_ = OsBootMs();
  if (Service* service = service_.load(std::memory_order_acquire); service != nullptr) service->StopAccepting();
  shared_.events.Tell({.kind = FrontEvent::Kind::kNoRoom, .error = error});
}

void Front::EndShortage() {
  const uint64_t ms = OsBootMs() - std::exchange(shortage_since_ms_, 0);
  if (Service* service = service_.load(std::memory_order_acquire); service != nullptr)
    service->ResumeAccepting(1000 * ms);
}

Front::Queue Front::AcceptFrom(Listener* listener) {
  for (int i = 0; i < kAcceptedPerTurnMax; i++) {
    SocketEnd peer;
    Fd socket(accept4(listener->socket.get(), reinterpret_cast<sockaddr*>(&peer.address), &peer.bytes,
                      SOCK_NONBLOCK | SOCK_CLOEXEC));
    if (!socket.is_open()) {
      switch (errno) {
        case EAGAIN:
          return Queue::kEmpty;
        case EBADF:
        case EINVAL:
        case ENOTSOCK:
          shared_.events.Tell({.kind = FrontEvent::Kind::kFailed, .error = errno});
          epoll_ctl(epoll_.get(), EPOLL_CTL_DEL, listener->socket.get(), nullptr);
          listener->Close();
          return Queue::kEmpty;
        case EMFILE:
        case ENFILE:
        case ENOBUFS:
        case ENOMEM:
          return Queue::kNoRoom;
        default:
          // The client has left, or an error of the network, which accept(2) reports for it.
          continue;
      }
    }
    Service* service = service_.load(std::memory_order_acquire);
    // Clients that came while the last address was being bound find no service yet.
    if (service == nullptr || is_stopping_.load(std::memory_order_relaxed)) continue;
    Admit(listener, service, std::move(socket), peer);
  }
  return Queue::kMoreWait;
}

void Front::Admit(Listener* listener, Service* service, Fd socket, const SocketEnd& peer) {
  const bool is_unix = peer.is_unix();
  const int yes = 1;
  if (!is_unix) setsockopt(socket.get(), IPPROTO_TCP, TCP_NODELAY, &yes, sizeof(yes));
  std::string own_name = listener->name;
  if (own_name.empty()) {
    SocketEnd own;
    if (getsockname(socket.get(), reinterpret_cast<sockaddr*>(&own.address), &own.bytes) == 0) own_name = own.name();
  }
  auto names =
      std::make_shared<const ConnectionNames>(ConnectionNames{peer.name(), std::move(own_name), listener->protocols});
  const bool is_rejected = connection_count() >= limits_.connections_max;
  if (is_rejected) {
    service->CountRejected();
    static_cast<void>(send(socket.get(), kTooMany.data(), kTooMany.size(), MSG_NOSIGNAL));
    shared_.events.TellDisconnected(names->peer, Ending::kRejected);
    if (refused_count() >= kRefusedMax) {
      // Bytes that have not been read would reset the connection, and take the refusal with them.
      char unread[1024];
      static_cast<void>(recv(socket.get(), unread, sizeof(unread), MSG_DONTWAIT));
      return;
    }
    shutdown(socket.get(), SHUT_WR);
    shared_.refused_count.fetch_add(1, std::memory_order_relaxed);
  } else {
    shared_.connection_count.fetch_add(1, std::memory_order_relaxed);
    shared_.events.TellConnected(names->peer);
  }
  const size_t turn = next_loop_++ % shared_.loops.size();
  shared_.loops[turn]->Adopt({std::move(socket), std::move(names), listener->ack, is_unix, is_rejected});
}

}  // namespace cairn

#endif  // __linux__
