// The native front: an acceptor and loops, each a thread, that serve the clients of a service without JavaScript. Its
// states are those of src/server/front.ts, whose owner drives it.
//
//   Listen()...  ->  Serve()  ->  clients  ->  Close() or Destroy()  ->  kGone  ->  ~Front()
//
// The acceptor takes what the system has accepted, a bounded number at a time, and hands each client to the loop that
// has its turn.
//
// When the system has no room for a client, a file descriptor as a rule, there is a shortage: kNoRoom is told once, and
// the acceptor tries again every kNoRoomMs. Clients wait in the system's queue, those that were accepted before are
// served. The shortage ends when no client waits.
//
// A client above the limit is told so, and its connection stays open until it has closed it, or for two seconds; of
// more than kRefusedMax such connections the further ones are closed at once.
//
// Thread safety: it belongs to the thread that made it. The service outlives its loops.
#pragma once

#ifdef __linux__

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <list>
#include <memory>
#include <optional>
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
  // Of all replies together that clients have not taken; see Loop::CountUnsent().
  size_t unsent_bytes_max = size_t{1} << 30;
};

class Front {
 public:
  Front(std::shared_ptr<Waker> owner, FrontLimits limits);
  // Closes everything at once, and waits for its threads.
  ~Front();
  Front(const Front&) = delete;
  Front& operator=(const Front&) = delete;

  // Listens on one more address. `protocols`: served there; without them, those of the service. 0, or the number of the
  // system's error.
  int Listen(const ListenAddress& address, Ack ack, SocketEnd* end, std::optional<Protocols> protocols = {});
  // From now on serves clients with sessions of this service. 0, or the number of the system's error.
  int Serve(Service* service, CachePointer cache);
  // Stops listening, answers complete requests, and closes the connections. kGone is told when all are gone.
  void Close() { Stop(false); }
  // Stops at once.
  void Destroy() { Stop(true); }
  // True once the threads have nothing to do any more.
  bool IsGone() const;
  size_t connection_count() const { return shared_.connection_count.load(std::memory_order_relaxed); }
  // Refused clients whose connections are open.
  size_t refused_count() const { return shared_.refused_count.load(std::memory_order_relaxed); }
  FrontEvents* events() { return &shared_.events; }

  static constexpr size_t kRefusedMax = 128;

 private:
  struct Listener {
    Fd socket;
    Ack ack;
    std::optional<Protocols> protocols;
    std::string path;  // of a unix socket
    std::string name;  // of its end; empty: each connection has another
    void Close();
  };

  static void Main(void* front);
  bool StartAcceptor();
  void Run();
  enum class Queue { kEmpty, kMoreWait, kNoRoom };
  // Takes clients from the queue of a listener, a bounded number.
  Queue AcceptFrom(Listener* listener);
  // Hands a client to a loop, or tells it that there are too many.
  void Admit(Listener* listener, Service* service, Fd socket, const SocketEnd& peer);
  void BeginShortage(int error);
  void EndShortage();
  void Stop(bool at_once);

  const FrontLimits limits_;
  FrontShared shared_;
  const std::shared_ptr<EpollWaker> waker_ = std::make_shared<EpollWaker>();
  Fd epoll_;
  OsThread acceptor_ = 0;
  std::atomic<bool> is_stopping_{false};
  std::atomic<bool> has_stopped_{true};
  // Made before the acceptor hands out the first client.
  std::atomic<Service*> service_{nullptr};
  size_t next_loop_ = 0;
  // Of the acceptor: when the present shortage began, on the boot clock; 0: there is none.
  uint64_t shortage_since_ms_ = 0;
  // Read by the acceptor, which has been told of each by epoll.
  std::list<Listener> listeners_;
};

}  // namespace cairn

#endif  // __linux__
