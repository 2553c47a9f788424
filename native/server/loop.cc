#include "server/loop.h"

#ifdef __linux__

#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <utility>

#include "base/check.h"

namespace cairn {
namespace {

constexpr int kEventsPerWakeMax = 256;
// The clocks are read once per wake-up, and again after this many clients: their requests may take milliseconds.
constexpr int kClientsPerClock = 16;
constexpr uint64_t kSweepMs = 1000;
constexpr uint64_t kSweepMsMin = 20;

uint64_t SweepMs(ClientTimeouts timeouts) {
  const uint64_t shortest = std::min(timeouts.stall_ms, timeouts.idle_ms == 0 ? kSweepMs : timeouts.idle_ms);
  return std::clamp(shortest / 4, kSweepMsMin, kSweepMs);
}

}  // namespace

// ---- waking ----

EpollWaker::EpollWaker() : event_(eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC)) {}

void EpollWaker::Wake() {
  if (is_pending_.exchange(true)) return;
  const uint64_t one = 1;
  static_cast<void>(!write(fd(), &one, sizeof(one)));
}

bool EpollWaker::Take() {
  if (!is_pending_.load(std::memory_order_relaxed)) return false;
  uint64_t count;
  static_cast<void>(!read(fd(), &count, sizeof(count)));
  // Before the thread looks: what happens from here on wakes it again.
  is_pending_.exchange(false);
  return true;
}

// ---- beginning and ending ----

FrontShared::FrontShared(std::shared_ptr<Waker> owner) : events(std::move(owner)) {}
FrontShared::~FrontShared() = default;

Loop::Loop(Service* service, CachePointer cache, FrontShared* shared, ClientTimeouts timeouts)
    : service_(service),
      cache_(std::move(cache)),
      shared_(shared),
      timeouts_(timeouts),
      sweep_ms_(SweepMs(timeouts)),
      bench_(service, &pinned_) {}

Loop::~Loop() { CHECK(thread_ == 0); }

bool Loop::Start() {
  epoll_ = Fd(epoll_create1(EPOLL_CLOEXEC));
  if (!epoll_.is_open() || waker_->fd() < 0) return false;
  if (inbox_waker_->fd() < 0) return false;
  epoll_event event = {.events = EPOLLIN, .data = {.ptr = nullptr}};
  for (const EpollWaker* waker : {waker_.get(), inbox_waker_.get()}) {
    if (epoll_ctl(epoll_.get(), EPOLL_CTL_ADD, waker->fd(), &event) != 0) return false;
  }
  service_->AddWaker(waker_);
  thread_ = OsStartThread("cairn-loop", Main, this);
  if (thread_ == 0) service_->RemoveWaker(waker_.get());
  return thread_ != 0;
}

void Loop::Join() {
  if (thread_ != 0) OsJoinThread(std::exchange(thread_, 0));
}

void Loop::Adopt(Accepted accepted) {
  {
    const OsLockGuard guard(&lock_);
    inbox_.push_back(std::move(accepted));
  }
  inbox_waker_->Wake();
}

void Loop::Command(Stop stop) {
  Stop before = command_.load(std::memory_order_relaxed);
  while (before < stop && !command_.compare_exchange_weak(before, stop, std::memory_order_release)) {
  }
  inbox_waker_->Wake();
}

// ---- the thread ----

void Loop::Main(void* loop) { static_cast<Loop*>(loop)->Run(); }

void Loop::Run() {
  epoll_event events[kEventsPerWakeMax];
  ReadClocks();
  uint64_t now_ms = swept_at_ms_ = OsBootMs();
  for (;;) {
    const int count = epoll_wait(epoll_.get(), events, kEventsPerWakeMax, WaitMs(now_ms));
    CHECK(count >= 0 || errno == EINTR);
    bench_.observer()->BeginWakeUp();
    bool is_woken = false;
    if (count <= 0) ReadClocks();
    for (int i = 0; i < count; i++) {
      if (i % kClientsPerClock == 0) ReadClocks();
      if (events[i].data.ptr == nullptr) {
        is_woken = true;
      } else {
        static_cast<Client*>(events[i].data.ptr)->OnEvents(events[i].events);
      }
    }
    if (is_woken) {
      if (inbox_waker_->Take()) TakeInbox();
      if (waker_->Take()) ProceedWaiting();
    }
    ProceedRunnable();
    ProceedTimed();
    // Another loop may have found that the oldest of all replies are here.
    KeepBudget();
    now_ms = OsBootMs();
    if (now_ms - swept_at_ms_ >= sweep_ms_) Sweep(now_ms);
    while (!closed_.empty()) delete closed_.PopFront();
    if (doing_ != Stop::kNone && clients_.empty()) break;
  }
  service_->RemoveWaker(waker_.get());
  has_ended_.store(true, std::memory_order_release);
  shared_->events.Tell({.kind = FrontEvent::Kind::kGone});
}

int Loop::WaitMs(uint64_t now_ms) const {
  if (!runnable_.empty()) return 0;
  if (clients_.empty()) return -1;
  uint64_t until_ms = swept_at_ms_ + sweep_ms_;
  if (!timed_.empty()) until_ms = std::min(until_ms, timed_.begin()->first);
  return static_cast<int>(now_ms >= until_ms ? 0 : until_ms - now_ms);
}

void Loop::TakeInbox() {
  const Stop stop = command_.load(std::memory_order_acquire);
  // At the end all are taken: no more come.
  const size_t most = stop == Stop::kNone ? kAdoptedPerTurnMax : SIZE_MAX;
  std::deque<Accepted> arrived;
  {
    const OsLockGuard guard(&lock_);
    if (inbox_.size() <= most) {
      arrived.swap(inbox_);
    } else {
      for (size_t i = 0; i < most; i++) {
        arrived.push_back(std::move(inbox_.front()));
        inbox_.pop_front();
      }
      inbox_waker_->Wake();
    }
  }
  // While there is no client the loop does not look at the time.
  if (clients_.empty()) swept_at_ms_ = OsBootMs();
  for (Accepted& accepted : arrived) {
    auto* client = new Client(this, std::move(accepted));
    // A socket that cannot be watched has closed itself.
    if (!client->is_closed()) clients_.PushBack(&client->all, client);
  }
  if (stop == doing_) return;
  doing_ = stop;
  LinkedList<Client> all;
  clients_.MoveTo(&all);
  while (!all.empty()) {
    Client* client = all.PopFront();
    clients_.PushBack(&client->all, client);
    if (stop == Stop::kDestroy) {
      client->Destroy();
    } else {
      client->ShutDown();
    }
  }
}

void Loop::ProceedWaiting() {
  LinkedList<Client> woken;
  waiting_.MoveTo(&woken);
  while (!woken.empty()) {
    Client* client = woken.PopFront();
    AddWaiting(client);
    client->Proceed();
  }
}

void Loop::ProceedRunnable() {
  LinkedList<Client> turn;
  runnable_.MoveTo(&turn);
  while (!turn.empty()) {
    // Each of them may have taken all of its last turn.
    ReadClocks();
    turn.PopFront()->Proceed();
  }
}

void Loop::ProceedTimed() {
  if (timed_.empty()) return;
  const uint64_t now_ms = OsBootMs();
  while (!timed_.empty() && timed_.begin()->first <= now_ms) {
    Client* client = timed_.begin()->second;
    ContinueIn(client, 0);
    client->Proceed();
  }
}

void Loop::Sweep(uint64_t now_ms) {
  coarse_ms_ += std::min(now_ms - swept_at_ms_, 2 * sweep_ms_);
  swept_at_ms_ = now_ms;
  LinkedList<Client> all;
  clients_.MoveTo(&all);
  while (!all.empty()) {
    Client* client = all.PopFront();
    clients_.PushBack(&client->all, client);
    client->CheckTimeouts(coarse_ms_);
  }
}

// ---- its clients ----

void Loop::ContinueIn(Client* client, uint64_t ms) {
  if (client->continue_at_ms != 0) timed_.erase({std::exchange(client->continue_at_ms, 0), client});
  if (ms == 0) return;
  client->continue_at_ms = OsBootMs() + ms;
  timed_.insert({client->continue_at_ms, client});
}

void Loop::Watch(Client* client, int operation, uint32_t wanted) {
  epoll_event event = {.events = wanted, .data = {.ptr = client}};
  if (epoll_ctl(epoll_.get(), operation, client->fd(), &event) == 0 || operation == EPOLL_CTL_DEL) return;
  // The system has no memory for it.
  CHECK(errno == ENOMEM || errno == ENOSPC);
  client->Destroy();
}

void Loop::CountUnsent(Client* client, size_t before, size_t now, bool has_taken) {
  if (before != now) service_->ChangeUnsent(before, now);
  if (now == 0) {
    if (client->unsent.is_linked()) shared_->unsent_clients.fetch_sub(1, std::memory_order_relaxed);
    client->unsent.Unlink();
  } else if (has_taken || !client->unsent.is_linked()) {
    if (!client->unsent.is_linked()) shared_->unsent_clients.fetch_add(1, std::memory_order_relaxed);
    client->unsent.Unlink();
    client->taken_at_ms = OsBootMs();
    unsent_.PushBack(&client->unsent, client);
  }
  oldest_unsent_ms_.store(unsent_.empty() ? kNever : unsent_.front()->taken_at_ms, std::memory_order_relaxed);
  if (now > before) KeepBudget();
}

Loop* Loop::LoopOfOldestUnsent() const {
  Loop* oldest = nullptr;
  uint64_t oldest_ms = kNever;
  for (const auto& loop : shared_->loops) {
    const uint64_t ms = loop->oldest_unsent_ms_.load(std::memory_order_relaxed);
    if (ms < oldest_ms) {
      oldest = loop.get();
      oldest_ms = ms;
    }
  }
  return oldest;
}

void Loop::KeepBudget() {
  while (service_->unsent_bytes() > shared_->unsent_bytes_max &&
         shared_->unsent_clients.load(std::memory_order_relaxed) > 1 && !unsent_.empty()) {
    Loop* oldest = LoopOfOldestUnsent();
    if (oldest == nullptr) return;
    if (oldest != this) {
      // It comes here at the end of its turn. If its thread does not run in time, this loop's own oldest goes.
      oldest->inbox_waker_->Wake();
      const size_t most = shared_->unsent_bytes_max + shared_->unsent_bytes_max / 4;
      if (service_->unsent_bytes() <= most || unsent_.has_one()) return;
    }
    service_->CountOutputDrop();
    unsent_.front()->Drop(Ending::kOutput);
  }
}

void Loop::Closed(Client* client, Ending why) {
  client->all.Unlink();
  closed_.PushBack(&client->all, client);
  if (client->is_rejected()) {
    shared_->refused_count.fetch_sub(1, std::memory_order_relaxed);
  } else {
    shared_->connection_count.fetch_sub(1, std::memory_order_relaxed);
    shared_->events.TellDisconnected(client->peer(), why);
  }
}

}  // namespace cairn

#endif  // __linux__
