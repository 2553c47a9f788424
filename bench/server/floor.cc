// The least that a server of this shape can cost: one thread, epoll, one read and one send for each socket that is ready,
// and replies that are bytes of a fixed buffer. It counts requests by their bytes and looks at none.
//
//   floor --request-bytes=N --reply-bytes=N     prints its port, and serves until its input ends
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string>
#include <string_view>
#include <vector>

namespace {

struct Peer {
  int fd;
  size_t part = 0;    // bytes of a request that is not whole
  size_t unsent = 0;  // bytes of replies
};

}  // namespace

int main(int count, char** words) {
  size_t request_bytes = 26, reply_bytes = 72;
  for (int i = 1; i < count; i++) {
    const std::string_view word = words[i];
    const size_t number = std::strtoull(words[i] + std::min(word.find('=') + 1, word.size()), nullptr, 10);
    if (word.starts_with("--request-bytes=")) request_bytes = number;
    if (word.starts_with("--reply-bytes=")) reply_bytes = number;
  }
  const int listener = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
  sockaddr_in own = {};
  own.sin_family = AF_INET;
  own.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  socklen_t own_bytes = sizeof(own);
  if (bind(listener, reinterpret_cast<sockaddr*>(&own), sizeof(own)) != 0 || listen(listener, 1024) != 0 ||
      getsockname(listener, reinterpret_cast<sockaddr*>(&own), &own_bytes) != 0) {
    std::perror("floor");
    return 1;
  }
  std::printf("Listening on 127.0.0.1:%d\n", ntohs(own.sin_port));
  std::fflush(stdout);
  const int epoll = epoll_create1(0);
  epoll_event event = {.events = EPOLLIN, .data = {.ptr = nullptr}};
  epoll_ctl(epoll, EPOLL_CTL_ADD, listener, &event);
  event = {.events = EPOLLIN | EPOLLHUP, .data = {.ptr = &event}};
  epoll_ctl(epoll, EPOLL_CTL_ADD, STDIN_FILENO, &event);
  std::vector<char> input(size_t{1} << 16);
  const std::vector<char> replies(size_t{1} << 20, 'x');
  for (;;) {
    epoll_event events[256];
    const int ready = epoll_wait(epoll, events, 256, -1);
    for (int i = 0; i < ready; i++) {
      if (events[i].data.ptr == &event) return 0;
      auto* peer = static_cast<Peer*>(events[i].data.ptr);
      if (peer == nullptr) {
        const int fd = accept4(listener, nullptr, nullptr, SOCK_NONBLOCK);
        if (fd < 0) continue;
        const int yes = 1;
        setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &yes, sizeof(yes));
        epoll_event its = {.events = EPOLLIN, .data = {.ptr = new Peer{fd}}};
        epoll_ctl(epoll, EPOLL_CTL_ADD, fd, &its);
        continue;
      }
      if ((events[i].events & EPOLLIN) != 0) {
        const ssize_t got = recv(peer->fd, input.data(), input.size(), 0);
        if (got <= 0) {
          close(peer->fd);
          delete peer;
          continue;
        }
        peer->part += static_cast<size_t>(got);
        peer->unsent += peer->part / request_bytes * reply_bytes;
        peer->part %= request_bytes;
      }
      const bool had = (events[i].events & EPOLLOUT) != 0;
      while (peer->unsent != 0) {
        const ssize_t sent = send(peer->fd, replies.data(), std::min(peer->unsent, replies.size()), MSG_NOSIGNAL);
        if (sent < 0) break;
        peer->unsent -= static_cast<size_t>(sent);
      }
      if ((peer->unsent != 0) != had) {
        epoll_event its = {.events = EPOLLIN | (peer->unsent != 0 ? EPOLLOUT : 0u), .data = {.ptr = peer}};
        epoll_ctl(epoll, EPOLL_CTL_MOD, peer->fd, &its);
      }
    }
  }
}
