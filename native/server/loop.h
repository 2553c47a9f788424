// A thread that serves clients: it waits for their sockets, for the wake-ups of the service, and for times, and drives
// a Session for each client.
//
//   the acceptor -> Adopt() -> inbox -> Client: read, Session, send -> ... -> FrontEvents
//
// Sockets are watched level-triggered, so the system goes through those that are ready in turns, and each gets one read
// of at most kInputBytes per turn. A client whose session stops for its next turn is runnable: it goes on after the
// sockets that are ready.
//
// Thread safety: Adopt(), ShutDown() and Destroy() may be called by any thread; the rest is the loop's.
#pragma once

#ifdef __linux__

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <memory>
#include <set>
#include <span>
#include <utility>
#include <vector>

#include "base/os.h"
#include "base/waker.h"
#include "process/registry.h"
#include "protocol/service.h"
#include "server/client.h"
#include "server/front_events.h"
#include "server/intrusive_list.h"
#include "server/socket.h"

namespace cairn {

// Wakes a thread that waits in epoll_wait(), at most once until it has looked.
class EpollWaker final : public Waker {
 public:
  EpollWaker();
  void Wake() override;
  // True: it was woken since the last call.
  bool Take();
  int fd() const { return event_.get(); }

 private:
  Fd event_;
  std::atomic<bool> is_pending_{false};
};

struct ClientTimeouts {
  uint64_t idle_ms = 0;  // 0: none
  uint64_t stall_ms = 0;
};

class Loop;

// What the loops of a front and its acceptor have together.
struct FrontShared {
  explicit FrontShared(std::shared_ptr<Waker> owner);
  ~FrontShared();
  FrontEvents events;
  std::atomic<size_t> connection_count{0};
  // Refused clients whose connections are still open, so that they can read why.
  std::atomic<size_t> refused_count{0};
  // The output budget: the limit of Service::unsent_bytes(), and the clients that these bytes are for.
  size_t unsent_bytes_max = 0;
  std::atomic<size_t> unsent_clients{0};
  // Complete before the first client comes.
  std::vector<std::unique_ptr<Loop>> loops;
};

class Loop {
 public:
  // The arguments outlive the loop.
  Loop(Service* service, CachePointer cache, FrontShared* shared, ClientTimeouts timeouts);
  // REQUIRES: it has not been started, or Join() was called.
  ~Loop();
  Loop(const Loop&) = delete;
  Loop& operator=(const Loop&) = delete;

  // Starts the thread. False: the system has none.
  [[nodiscard]] bool Start();
  // Takes over a client. REQUIRES: neither ShutDown() nor Destroy() was called.
  void Adopt(Accepted accepted);
  // Answers complete requests and closes the connections; ends when there are none.
  void ShutDown() { Command(Stop::kShutDown); }
  // Closes all connections and ends.
  void Destroy() { Command(Stop::kDestroy); }
  void Join();
  bool has_ended() const { return has_ended_.load(std::memory_order_acquire); }

  // ---- its clients ----

  Workbench* bench() { return &bench_; }
  Store* store() const { return service_->store(); }
  // The values that leave from their entries among the replies of the last call.
  PinnedValues* pinned() { return &pinned_; }
  // Milliseconds that it has listened to its clients: while the thread was busy with one, that time does not count
  // against the others.
  uint64_t now_ms() const { return coarse_ms_; }
  // Both clocks, as of this wake-up: seconds in the protocol may be Unix time.
  const Now& now() const { return now_; }
  // A cache that its owner has closed answers no client.
  bool is_cache_closed() const { return cache_->closed(); }
  ClientTimeouts timeouts() const { return timeouts_; }
  void CountIdleKick() { service_->CountIdleKick(); }
  // Where the next read goes.
  std::span<char> input() { return {input_.get(), kInputBytes}; }
  // Room for the replies of the next call; it is used until the call after.
  ByteBuffer Output() { return {output_.get(), kOutputBytes}; }
  void AddWaiting(Client* client) { waiting_.PushBack(&client->waiting, client); }
  void AddRunnable(Client* client) { runnable_.PushBack(&client->runnable, client); }
  // Continues it after a time; 0: at no time, whatever was asked for before.
  void ContinueIn(Client* client, uint64_t ms);
  // Asks epoll for these events of its socket. `operation`: of epoll_ctl().
  void Watch(Client* client, int operation, uint32_t events);
  // Its unsent replies use `now` bytes, after `before`; `has_taken`: it has taken some of them. It may be closed
  // when this returns: beyond the budget, those clients are dropped that have taken nothing for the longest time. A
  // reply that alone exceeds the budget is sent. The budget is exceeded by a quarter at most, and by one client in each
  // loop.
  void CountUnsent(Client* client, size_t before, size_t now, bool has_taken);
  // It has closed its socket.
  void Closed(Client* client, Ending why);

 private:
  enum class Stop : uint32_t { kNone, kShutDown, kDestroy };

  static void Main(void* loop);
  void Run();
  void ReadClocks() { now_ = cache_->ReadBothClocks(); }
  int WaitMs(uint64_t now_ms) const;
  void TakeInbox();
  void Command(Stop stop);
  void ProceedWaiting();
  void ProceedRunnable();
  void ProceedTimed();
  void Sweep(uint64_t now_ms);
  void KeepBudget();
  Loop* LoopOfOldestUnsent() const;

  static constexpr uint64_t kNever = ~uint64_t{0};
  static constexpr size_t kInputBytes = 64 * 1024;
  static constexpr size_t kOutputBytes = 256 * 1024;
  // New clients that are taken before those it has are served on.
  static constexpr size_t kAdoptedPerTurnMax = 32;

  Service* const service_;
  const CachePointer cache_;
  FrontShared* const shared_;
  const ClientTimeouts timeouts_;
  const uint64_t sweep_ms_;
  PinnedValues pinned_;
  Workbench bench_;
  const std::shared_ptr<EpollWaker> waker_ = std::make_shared<EpollWaker>();  // of the service
  const std::shared_ptr<EpollWaker> inbox_waker_ = std::make_shared<EpollWaker>();
  Fd epoll_;
  OsThread thread_ = 0;
  std::atomic<bool> has_ended_{false};
  std::atomic<Stop> command_{Stop::kNone};

  OsLock lock_;
  std::deque<Accepted> inbox_ GUARDED_BY(lock_);

  // Of its thread.
  const std::unique_ptr<char[]> input_{new char[kInputBytes]};
  const std::unique_ptr<char[]> output_{new char[kOutputBytes]};
  LinkedList<Client> clients_, waiting_, runnable_, closed_;
  // Those with replies that they have not taken, by Client::taken_at_ms.
  LinkedList<Client> unsent_;
  // That of the first; kNever: there is none. The other loops read it.
  std::atomic<uint64_t> oldest_unsent_ms_{kNever};
  std::set<std::pair<uint64_t, Client*>> timed_;  // by Client::continue_at_ms
  Stop doing_ = Stop::kNone;
  Now now_;
  uint64_t coarse_ms_ = 1;
  uint64_t swept_at_ms_ = 0;
};

}  // namespace cairn

#endif  // __linux__
