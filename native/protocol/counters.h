// The counters of the port, one per line; stats.cc says where each is shown.
#pragma once

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>

namespace cairn {

enum class Counter : uint8_t {
  kBytesRead,
  kBytesWritten,
  kFlushes,   // flush_all
  kTooLarge,  // refused by the item size, before the store was asked
  // memcached counts every storage command, and counts gat apart from get. The store counts stored values, and counts
  // both as gets. These are the differences.
  kNotStored,
  kGatHits,
  kGatMisses,
  kMetaCommands,  // mg, ms, md, ma and me
  kYields,        // times that a session stopped because its replies had not left
  // Effects of the log on requests.
  kHeld,     // replies, or values in them, that waited for a commit
  kParked,   // requests that waited for room in the log, or for a load
  kRefused,  // requests that were not executed, or whose reply was withheld
  // Connections.
  kConnections,
  kConnectionsRejected,
  kIdleKicks,
  kListenDisabled,  // times that the front could accept no client, and for how long
  kListenDisabledUs,
  kOutputDrops,  // clients that were disconnected because too many bytes of replies waited
  // Logins, and those that failed.
  kLogins,
  kLoginsFailed,
  // TLS: sessions that handshakes began, and handshakes that failed.
  kTlsSessions,
  kTlsFailures,
  // Events for clients that watch: those that found no room in a thread's log, or in the buffer of a watcher, and the
  // others.
  kLogWorkerDropped,
  kLogWorkerWritten,
  kLogWatcherSkipped,
  kLogWatcherSent,
};
inline constexpr size_t kCounterCount = static_cast<size_t>(Counter::kLogWatcherSent) + 1;

// Values of all counters at one moment, or differences of them.
class CounterValues {
 public:
  uint64_t operator[](Counter counter) const { return values_[static_cast<size_t>(counter)]; }
  CounterValues& operator+=(const CounterValues& more) {
    for (size_t i = 0; i < kCounterCount; i++) values_[i] += more.values_[i];
    return *this;
  }
  CounterValues& operator-=(const CounterValues& less) {
    for (size_t i = 0; i < kCounterCount; i++) values_[i] -= less.values_[i];
    return *this;
  }

 private:
  friend class Counters;
  std::array<uint64_t, kCounterCount> values_{};
};

// Live counters, which any thread may read. Either one thread writes them, with Add(), or several do, with AddShared().
class Counters {
 public:
  // One writer: no locked instruction is needed.
  void Add(Counter counter, uint64_t count) {
    std::atomic<uint64_t>& value = values_[static_cast<size_t>(counter)];
    value.store(value.load(std::memory_order_relaxed) + count, std::memory_order_relaxed);
  }
  void AddShared(Counter counter, uint64_t count) {
    values_[static_cast<size_t>(counter)].fetch_add(count, std::memory_order_relaxed);
  }
  CounterValues Read() const {
    CounterValues values;
    for (size_t i = 0; i < kCounterCount; i++) values.values_[i] = values_[i].load(std::memory_order_relaxed);
    return values;
  }

 private:
  std::array<std::atomic<uint64_t>, kCounterCount> values_{};
};

}  // namespace cairn
