// What a native front tells the thread that owns it: a bounded queue, filled by the front's threads.
//
// Each event wakes the owner, which is the main thread as a rule. So connections are told only while the owner asks for
// them: clients that come and go cost it nothing.
#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "base/os.h"
#include "base/thread_annotations.h"
#include "base/waker.h"

namespace cairn {

// Why a connection was closed. src/server/native-front.ts has the same table.
enum class Ending : uint8_t { kEnded, kStalled, kIdle, kRejected, kBinary, kTls, kOutput };

struct FrontEvent {
  enum class Kind : uint8_t {
    kConnected,     // peer
    kDisconnected,  // peer, ending
    kFailed,        // error: a listening socket does not work
    kNoRoom,        // error: the system lacks room, a file descriptor as a rule, for clients, which wait for it
    kGone,          // the front has stopped: no connection and no listening socket is left
  };
  Kind kind;
  std::string peer = {};
  Ending ending = Ending::kEnded;
  int error = 0;
};

class FrontEvents {
 public:
  explicit FrontEvents(std::shared_ptr<Waker> owner) : owner_(std::move(owner)) {}

  // Whether connections are told, from now on. While they are not, the first client of each protocol that is not
  // served is told all the same.
  void HearConnections(bool yes) { hears_connections_.store(yes, std::memory_order_relaxed); }
  void TellConnected(const std::string& peer) {
    if (hears_connections_.load(std::memory_order_relaxed)) Tell({.kind = FrontEvent::Kind::kConnected, .peer = peer});
  }
  void TellDisconnected(const std::string& peer, Ending why) {
    const bool is_foreign = why == Ending::kBinary || why == Ending::kTls;
    const uint32_t bit = 1u << static_cast<uint32_t>(why);
    const bool is_first = is_foreign && (foreign_told_.fetch_or(bit, std::memory_order_relaxed) & bit) == 0;
    if (!is_first && !hears_connections_.load(std::memory_order_relaxed)) return;
    Tell({.kind = FrontEvent::Kind::kDisconnected, .peer = peer, .ending = why});
  }

  // Connections that come while the owner is busy are told up to a number. The end of a front is always told.
  void Tell(FrontEvent event) {
    {
      const OsLockGuard guard(&lock_);
      if (events_.size() >= kEventsMax && event.kind != FrontEvent::Kind::kGone) return;
      events_.push_back(std::move(event));
    }
    owner_->Wake();
  }

  std::vector<FrontEvent> Take() {
    const OsLockGuard guard(&lock_);
    return std::exchange(events_, {});
  }

 private:
  static constexpr size_t kEventsMax = 64 * 1024;

  const std::shared_ptr<Waker> owner_;
  std::atomic<bool> hears_connections_{false};
  std::atomic<uint32_t> foreign_told_{0};
  OsLock lock_;
  std::vector<FrontEvent> events_ GUARDED_BY(lock_);
};

}  // namespace cairn
