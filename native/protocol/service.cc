#include "protocol/service.h"

#include <algorithm>
#include <utility>

#include "base/check.h"
#include "protocol/session.h"

namespace cairn {

Service::Service(Store* store, Options options, const Now& started)
    : store_(store),
      options_(std::move(options)),
      started_(started),
      own_commits_(store->shard_count()),
      authentication_(options_.login) {
  SetVerbosity(options_.verbosity);
  if (options_.log != nullptr) log_watch_ = options_.log->Watch(wakers_);
  if (options_.loads != nullptr) options_.loads->AddWaker(wakers_);
  test_loads_.AddWaker(wakers_);
  certificates_.AddWaker(wakers_);
  certificates_.SetOwner(options_.owner);
  CountRefresh(started_);
}

Service::~Service() {
  CHECK(workbenches_ == nullptr);
  CHECK(wakers_->empty());
  if (log_watch_ != nullptr) options_.log->Unwatch(log_watch_.get());
  if (options_.loads != nullptr) options_.loads->RemoveWaker(wakers_.get());
}

Now Service::MovedTime(const Now& now) const {
  uint64_t boot_ms = now.boot_ms + time_ahead_ms_.load(std::memory_order_relaxed);
  uint64_t stopped_at_ms = time_stopped_at_ms_.load(std::memory_order_relaxed);
  if (stopped_at_ms != 0) boot_ms = stopped_at_ms;
  return {boot_ms, static_cast<int64_t>(boot_ms) + now.WallOffset()};
}

void Service::MoveTime(uint64_t ms) {
  time_ahead_ms_.fetch_add(ms, std::memory_order_relaxed);
  if (uint64_t stopped_at_ms = time_stopped_at_ms_.load(std::memory_order_relaxed)) {
    time_stopped_at_ms_.store(stopped_at_ms + ms, std::memory_order_relaxed);
  }
  time_moved_.store(true, std::memory_order_relaxed);
}

void Service::StopTime(const Now& time) {
  if (time_stopped_at_ms_.load(std::memory_order_relaxed) != 0) return;
  time_stopped_at_ms_.store(time.boot_ms, std::memory_order_relaxed);
  time_moved_.store(true, std::memory_order_relaxed);
}

CounterValues Service::Sum() {
  CounterValues sum = retired_;
  sum += own_counters_.Read();
  for (const Workbench* bench = workbenches_; bench != nullptr; bench = bench->next_) sum += bench->counters_.Read();
  return sum;
}

CounterValues Service::ReadCounters() {
  OsLockGuard guard(&lock_);
  CounterValues values = Sum();
  values -= baseline_;
  return values;
}

size_t Service::ConnectionCount() {
  OsLockGuard guard(&lock_);
  return session_count_;
}

void Service::ResetStats() {
  store_->ResetStats();
  samples_.Clear();
  request_log_.Clear();
  prefixes_.Clear();
  OsLockGuard guard(&lock_);
  baseline_ = Sum();
}

std::vector<Service::Connection> Service::Connections(const Now& now) {
  size_t count;
  {
    OsLockGuard guard(&lock_);
    count = session_count_;
  }
  std::vector<Connection> connections(count);
  size_t filled = 0;
  {
    OsLockGuard guard(&lock_);
    for (const Session* session = sessions_; session != nullptr && filled != count; session = session->next_) {
      uint64_t last_ms = session->last_command_ms_.load(std::memory_order_relaxed);
      Connection* connection = &connections[filled++];
      connection->id = session->id_;
      connection->names = session->names_;
      connection->idle_ms = now.boot_ms > last_ms ? now.boot_ms - last_ms : 0;
    }
  }
  connections.resize(filled);
  std::reverse(connections.begin(), connections.end());
  return connections;
}

namespace {

uint64_t DrawSeed() {
  uint64_t seed;
  OsRandom(&seed, sizeof seed);
  return seed;
}

}  // namespace

Workbench::Workbench(Service* service, PinnedValues* pinned)
    : service_(service),
      pinned_(pinned),
      events_(service->watch_hub()->last_number(), &service->own_counters_, service->wakers_.get()),
      observer_(&service->tick_clock_, &service->request_log_, DrawSeed()) {
  service->watch_hub()->AddLog(&events_);
  service->samples()->Add(&observer_);
  for (Request& request : group_.requests) request.reads_through = service->loads() != nullptr;
  OsLockGuard guard(&service_->lock_);
  next_ = service_->workbenches_;
  link_ = &service_->workbenches_;
  if (next_ != nullptr) next_->link_ = &next_;
  *link_ = this;
}

Workbench::~Workbench() {
  service_->samples()->Remove(&observer_);
  service_->watch_hub()->RemoveLog(&events_);
  OsLockGuard guard(&service_->lock_);
  service_->retired_ += counters_.Read();
  *link_ = next_;
  if (next_ != nullptr) next_->link_ = link_;
}

}  // namespace cairn
