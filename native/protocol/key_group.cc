#include "protocol/key_group.h"

#include "protocol/execute.h"

namespace cairn {

void KeyGroup::Prefetch(size_t begin, size_t end, const Now& now, Store* store, ReadThrough* loads) const {
  for (size_t i = begin; i < end; i++) {
    const Status status = outcomes[i].status;
    // The store has not looked at keys behind a value that found no room.
    if (status == Status::kNotResident || status == Status::kNeedsRoom) {
      cairn::Prefetch(requests[i].key, now, store, loads);
    }
  }
}

}  // namespace cairn
