// Sockets of the native front: file descriptors that close themselves, and listening on an address.
#pragma once

#ifdef __linux__

#include <sys/socket.h>

#include <cstdint>
#include <string>
#include <utility>

namespace cairn {

class Fd {
 public:
  Fd() = default;
  explicit Fd(int number) : number_(number) {}
  Fd(Fd&& other) noexcept : number_(std::exchange(other.number_, -1)) {}
  Fd& operator=(Fd&& other) noexcept {
    if (this != &other) Close();
    number_ = std::exchange(other.number_, number_);
    return *this;
  }
  ~Fd() { Close(); }

  int get() const { return number_; }
  bool is_open() const { return number_ >= 0; }
  void Close();

 private:
  int number_ = -1;
};

struct ListenAddress {
  std::string path;  // of a unix socket; empty: TCP
  uint32_t path_mode = 0;
  std::string host;  // a numeric address
  uint16_t port = 0;
  int backlog = 0;
};

// One end of a connection.
struct SocketEnd {
  sockaddr_storage address = {};
  socklen_t bytes = sizeof(sockaddr_storage);

  bool is_unix() const { return address.ss_family == AF_UNIX; }
  // An address that stands for all of the machine.
  bool is_any() const;
  std::string host() const;
  uint16_t port() const;
  // As memcached has it in `stats conns`: tcp:127.0.0.1:11211, tcp6:[::1]:11211, unix:/path.
  std::string name() const;
};

// Listens, without waiting in any call on the socket. 0, or the number of the system's error.
int ListenOn(const ListenAddress& address, Fd* socket, SocketEnd* end);

}  // namespace cairn

#endif  // __linux__
