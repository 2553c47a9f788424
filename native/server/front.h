// The native front: an acceptor and loops, each a thread, that serve the clients of a service without JavaScript. Its
// states are those of src/server/front.ts, whose owner drives it.
//
//   Listen()...  ->  Serve()  ->  clients  ->  Close() or Destroy()  ->  kGone  ->  ~Front()
//
// The acceptor takes what the system has accepted, a bounded number at a time, and hands each client to the loop that
// has its turn. Where the process has no file descriptors left it stops for a moment: clients wait in the system's
// queue.
//
// Thread safety: it belongs to the thread that made it. The service outlives its loops.
#pragma once

#ifdef __linux__

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <list>
#include <memory>
#include <string>
#include <vector>

#include "base/os.h"
#include "process/registry.h"
#include "protocol/service.h"
#include "server/front_events.h"
#include "server/loop.h"
#include "server/socket.h"

namespace cairn {

struct FrontLimits {
  size_t connections_max = 1024;
  ClientTimeouts timeouts;
  uint32_t loops = 1;
};

class Front {
 public:
  Front(std::shared_ptr<Waker> owner, FrontLimits limits);
  // Closes everything at once, and waits for its threads.
  ~Front();
  Front(const Front&) = delete;
  Front& operator=(const Front&) = delete;

  // Listens on one more address. 0, or the number of the system's error.
  int Listen(const ListenAddress& address, Ack ack, SocketEnd* end);
  // From now on serves clients with sessions of this service. 0, or the number of the system's error.
  int Serve(Service* service, CachePointer cache);
  // Stops listening, answers complete requests, and closes the connections. kGone is told when all are gone.
  void Close() { Stop(false); }
  // Stops at once.
  void Destroy() { Stop(true); }
  // True once the threads have nothing to do any more.
  bool IsGone() const;
  size_t connection_count() const { return connection_count_.load(std::memory_order_relaxed); }
  FrontEvents* events() { return &events_; }

 private:
  struct Listener {
    Fd socket;
    Ack ack;
    std::string path;  // of a unix socket
    std::string name;  // of its end; empty: each connection has another
    void Close();
  };

  static void Main(void* front);
  bool StartAcceptor();
  void Run();
  // False: it cannot go on now; no file descriptor is left, for example.
  bool AcceptFrom(Listener* listener);
  void Stop(bool at_once);

  const FrontLimits limits_;
  FrontEvents events_;
  std::atomic<size_t> connection_count_{0};
  const std::shared_ptr<EpollWaker> waker_ = std::make_shared<EpollWaker>();
  Fd epoll_;
  OsThread acceptor_ = 0;
  std::atomic<bool> is_stopping_{false};
  std::atomic<bool> has_stopped_{true};
  // Made before the acceptor hands out the first client.
  std::atomic<Service*> service_{nullptr};
  std::vector<std::unique_ptr<Loop>> loops_;
  size_t next_loop_ = 0;
  // Read by the acceptor, which has been told of each by epoll.
  std::list<Listener> listeners_;
};

}  // namespace cairn

#endif  // __linux__
