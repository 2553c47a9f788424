// What a native front tells the thread that owns it: a bounded queue, filled by the front's threads.
#pragma once

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
enum class Ending : uint8_t { kEnded, kStalled, kIdle, kRejected, kBinary, kTls };

struct FrontEvent {
  enum class Kind : uint8_t {
    kConnected,     // peer
    kDisconnected,  // peer, ending
    kFailed,        // error: a listening socket does not work
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
  OsLock lock_;
  std::vector<FrontEvent> events_ GUARDED_BY(lock_);
};

}  // namespace cairn
