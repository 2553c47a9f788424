#include "server/socket.h"

#ifdef __linux__

#include <arpa/inet.h>
#include <net/if.h>
#include <netinet/in.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <cerrno>
#include <cstddef>
#include <cstring>

namespace cairn {
namespace {

const sockaddr_in& V4(const sockaddr_storage& address) { return reinterpret_cast<const sockaddr_in&>(address); }
const sockaddr_in6& V6(const sockaddr_storage& address) { return reinterpret_cast<const sockaddr_in6&>(address); }
const sockaddr_un& Unix(const sockaddr_storage& address) { return reinterpret_cast<const sockaddr_un&>(address); }

// 0, or the number of the error.
int AddressOf(const ListenAddress& from, SocketEnd* end) {
  if (!from.path.empty()) {
    auto& to = reinterpret_cast<sockaddr_un&>(end->address);
    if (from.path.size() >= sizeof(to.sun_path)) return ENAMETOOLONG;
    to.sun_family = AF_UNIX;
    std::memcpy(to.sun_path, from.path.c_str(), from.path.size() + 1);
    end->bytes = static_cast<socklen_t>(offsetof(sockaddr_un, sun_path) + from.path.size() + 1);
    return 0;
  }
  auto& v4 = reinterpret_cast<sockaddr_in&>(end->address);
  if (inet_pton(AF_INET, from.host.c_str(), &v4.sin_addr) == 1) {
    v4.sin_family = AF_INET;
    v4.sin_port = htons(from.port);
    end->bytes = sizeof(sockaddr_in);
    return 0;
  }
  auto& v6 = reinterpret_cast<sockaddr_in6&>(end->address);
  v6 = {};
  const size_t zone = from.host.find('%');
  if (inet_pton(AF_INET6, from.host.substr(0, zone).c_str(), &v6.sin6_addr) != 1) return EINVAL;
  if (zone != std::string::npos) v6.sin6_scope_id = if_nametoindex(from.host.c_str() + zone + 1);
  v6.sin6_family = AF_INET6;
  v6.sin6_port = htons(from.port);
  end->bytes = sizeof(sockaddr_in6);
  return 0;
}

}  // namespace

void Fd::Close() {
  if (number_ >= 0) close(std::exchange(number_, -1));
}

bool SocketEnd::is_any() const {
  if (address.ss_family == AF_INET) return V4(address).sin_addr.s_addr == htonl(INADDR_ANY);
  return address.ss_family == AF_INET6 && IN6_IS_ADDR_UNSPECIFIED(&V6(address).sin6_addr);
}

std::string SocketEnd::host() const {
  char text[INET6_ADDRSTRLEN] = {};
  if (address.ss_family == AF_INET) inet_ntop(AF_INET, &V4(address).sin_addr, text, sizeof(text));
  if (address.ss_family == AF_INET6) inet_ntop(AF_INET6, &V6(address).sin6_addr, text, sizeof(text));
  return text;
}

uint16_t SocketEnd::port() const {
  if (address.ss_family == AF_INET) return ntohs(V4(address).sin_port);
  return address.ss_family == AF_INET6 ? ntohs(V6(address).sin6_port) : 0;
}

std::string SocketEnd::name() const {
  if (is_unix()) {
    // The client's end has no name.
    std::string name("unix:");
    return bytes <= offsetof(sockaddr_un, sun_path) ? name : name.append(Unix(address).sun_path);
  }
  std::string name(address.ss_family == AF_INET ? "tcp:" : "tcp6:[");
  name.append(host()).append(address.ss_family == AF_INET ? ":" : "]:");
  return name.append(std::to_string(port()));
}

int ListenOn(const ListenAddress& address, Fd* socket, SocketEnd* end) {
  if (const int error = AddressOf(address, end); error != 0) return error;
  const int family = end->address.ss_family;
  Fd opened(::socket(family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0));
  if (!opened.is_open()) return errno;
  const int yes = 1;
  if (family != AF_UNIX && setsockopt(opened.get(), SOL_SOCKET, SO_REUSEADDR, &yes, sizeof(yes)) != 0) return errno;
  // The sockets of its clients inherit it: one whose machine has gone is noticed in the end.
  if (family != AF_UNIX && setsockopt(opened.get(), SOL_SOCKET, SO_KEEPALIVE, &yes, sizeof(yes)) != 0) return errno;
  if (family == AF_INET6 && setsockopt(opened.get(), IPPROTO_IPV6, IPV6_V6ONLY, &yes, sizeof(yes)) != 0) return errno;
  // The file that bind() makes gets the mode of its socket, less the process's mask: it never has a wider one.
  if (family == AF_UNIX && fchmod(opened.get(), address.path_mode) != 0) return errno;
  if (bind(opened.get(), reinterpret_cast<const sockaddr*>(&end->address), end->bytes) != 0) return errno;
  const bool has_mode = family != AF_UNIX || chmod(address.path.c_str(), address.path_mode) == 0;
  if (!has_mode || listen(opened.get(), address.backlog) != 0) {
    const int error = errno;
    if (family == AF_UNIX) unlink(address.path.c_str());
    return error;
  }
  end->bytes = sizeof(end->address);
  if (getsockname(opened.get(), reinterpret_cast<sockaddr*>(&end->address), &end->bytes) != 0) return errno;
  *socket = std::move(opened);
  return 0;
}

}  // namespace cairn

#endif  // __linux__
