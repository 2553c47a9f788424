// What a request waits for that has no answer yet: a load, room in the log, a time, or the remote slots before it. It
// belongs to the request, which takes it along when it gets a remote slot (remote_replies.h).
//
// A load is any answer that comes from elsewhere: its source (ReadThrough) says when it is there, and the request is
// then executed again.
//
// Not thread-safe: it is its session's. Its holder leaves the load.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

#include "store/read_through.h"
#include "store/slowdown.h"

namespace cairn {

struct RequestWait {
  bool IsPendingLoad() const { return is_for_load && loads->Poll(load) == ReadThrough::Load::kPending; }
  void LeaveLoad() {
    if (load != 0) loads->Leave(load);
    load = 0;
    load_tries = 0;
  }
  // The request is executed again.
  void Stop() {
    is_for_load = false;
    is_for_room = false;
    slow_until_ms = 0;
    slot_bytes = 0;
  }

  ReadThrough* loads = nullptr;
  uint64_t load = 0;  // 0: none is waited for
  std::string load_key;
  uint32_t load_tries = 0;  // loads of load_key that have ended
  bool is_for_load = false;
  bool may_stand_aside = false;  // for the load: requests behind it may be executed
  bool is_for_room = false;
  bool has_slowed = false;  // it has waited for a slowdown
  const Slowdown* slowed_by = nullptr;
  uint64_t slow_until_ms = 0;  // boot clock; 0: not for a slowdown
  size_t slot_bytes = 0;       // that remote slots have to have room for; 0: not for slots
};

}  // namespace cairn
