#include "protocol/service.h"

#include <algorithm>
#include <utility>

#include "base/check.h"
#include "protocol/session.h"

namespace cairn {

namespace {

void AddCounters(const ProtocolCounters& counters, ServiceStats* stats) {
  stats->bytes_read += counters.bytes_read.load(std::memory_order_relaxed);
  stats->bytes_written += counters.bytes_written.load(std::memory_order_relaxed);
  stats->flushes += counters.flushes.load(std::memory_order_relaxed);
  stats->too_large += counters.too_large.load(std::memory_order_relaxed);
  stats->not_stored += counters.not_stored.load(std::memory_order_relaxed);
  stats->gat_hits += counters.gat_hits.load(std::memory_order_relaxed);
  stats->gat_misses += counters.gat_misses.load(std::memory_order_relaxed);
  stats->yields += counters.yields.load(std::memory_order_relaxed);
  stats->held += counters.held.load(std::memory_order_relaxed);
  stats->parked += counters.parked.load(std::memory_order_relaxed);
  stats->refused += counters.refused.load(std::memory_order_relaxed);
}

}  // namespace

Service::Service(Store* store, Options options, const Now& started)
    : store_(store), options_(std::move(options)), started_(started), own_commits_(store->shard_count()) {
  SetVerbosity(options_.verbosity);
}

Service::~Service() {
  CHECK(workbenches_ == nullptr);
  CHECK(wakers_ == nullptr || wakers_->empty());
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

template <class Edit>
void Service::EditWakers(Edit edit) {
  std::shared_ptr<const WakerList> seen;
  {
    OsLockGuard guard(&lock_);
    seen = wakers_;
  }
  for (;;) {
    auto list = std::make_shared<WakerList>(seen == nullptr ? WakerList() : *seen);
    edit(list.get());
    std::shared_ptr<const WakerList> replaced;  // freed outside the lock
    OsLockGuard guard(&lock_);
    if (wakers_ == seen) {
      replaced = std::move(wakers_);
      wakers_ = std::move(list);
      return;
    }
    seen = wakers_;
  }
}

void Service::WakeAll() {
  std::shared_ptr<const WakerList> wakers;
  {
    OsLockGuard guard(&lock_);
    wakers = wakers_;
  }
  if (wakers == nullptr) return;
  for (const std::shared_ptr<Waker>& waker : *wakers) waker->Wake();
}

void Service::AddWaker(std::shared_ptr<Waker> waker) {
  EditWakers([&waker](WakerList* list) { list->push_back(waker); });
}

void Service::RemoveWaker(const Waker* waker) {
  EditWakers([waker](WakerList* list) {
    std::erase_if(*list, [waker](const std::shared_ptr<Waker>& element) { return element.get() == waker; });
  });
}

ServiceStats Service::Sum() {
  ServiceStats sum = retired_;
  for (Workbench* bench = workbenches_; bench != nullptr; bench = bench->next_) AddCounters(bench->counters_, &sum);
  sum.connections_total = connections_total_;
  sum.connections_rejected = connections_rejected_.load(std::memory_order_relaxed);
  sum.idle_kicks = idle_kicks_.load(std::memory_order_relaxed);
  return sum;
}

ServiceStats Service::Stats() {
  OsLockGuard guard(&lock_);
  ServiceStats stats = Sum();
  stats.bytes_read -= baseline_.bytes_read;
  stats.bytes_written -= baseline_.bytes_written;
  stats.flushes -= baseline_.flushes;
  stats.too_large -= baseline_.too_large;
  stats.not_stored -= baseline_.not_stored;
  stats.gat_hits -= baseline_.gat_hits;
  stats.gat_misses -= baseline_.gat_misses;
  stats.yields -= baseline_.yields;
  stats.held -= baseline_.held;
  stats.parked -= baseline_.parked;
  stats.refused -= baseline_.refused;
  stats.connections_total -= baseline_.connections_total;
  stats.connections_rejected -= baseline_.connections_rejected;
  stats.idle_kicks -= baseline_.idle_kicks;
  stats.connections = session_count_;
  return stats;
}

void Service::ResetStats() {
  store_->ResetStats();
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

Workbench::Workbench(Service* service) : service_(service), scratch_(new char[kGroupScratchBytes]) {
  OsLockGuard guard(&service_->lock_);
  next_ = service_->workbenches_;
  link_ = &service_->workbenches_;
  if (next_ != nullptr) next_->link_ = &next_;
  *link_ = this;
}

Workbench::~Workbench() {
  OsLockGuard guard(&service_->lock_);
  AddCounters(counters_, &service_->retired_);
  *link_ = next_;
  if (next_ != nullptr) next_->link_ = link_;
}

}  // namespace cairn
