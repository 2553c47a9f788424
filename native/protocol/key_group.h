// Keys of get-type commands that are looked up together, over commands that follow one another on a connection. The
// dialects put keys into the group of their thread, and reply in the order of the keys. It is empty between calls on
// sessions.
//
// Not thread-safe: it is its workbench's.
#pragma once

#include <cstddef>
#include <memory>

#include "base/clock.h"
#include "protocol/limits.h"
#include "store/read_through.h"
#include "store/request.h"
#include "store/store.h"

namespace cairn {

struct KeyGroup {
  // The part of a key that is not in the request of the same index.
  struct Key {
    bool with_cas;  // gets, gats
    bool is_last;   // of its command: END follows
  };

  // Looks all keys up: each has its outcome then, and `scratch` the small values. Empties the group, and returns how
  // many they were. Only a request by itself is ever pinned.
  size_t LookUp(const Now& now, Store* store) {
    const size_t looked_up = count;
    count = 0;
    Scratch values{scratch.get(), kGroupScratchBytes, 0};
    if (looked_up == 1) {
      store->Execute(requests[0], now, &values, &outcomes[0]);
    } else {
      store->ExecuteMany(requests, looked_up, now, &values, outcomes);
    }
    return looked_up;
  }
  // Begins the loads of the keys from `begin` up to `end`, so that all take one round trip.
  void Prefetch(size_t begin, size_t end, const Now& now, Store* store, ReadThrough* loads) const;

  size_t count = 0;
  Request requests[kGroupKeysMax];
  Key keys[kGroupKeysMax];
  Outcome outcomes[kGroupKeysMax];
  std::unique_ptr<char[]> scratch{new char[kGroupScratchBytes]};
};

}  // namespace cairn
