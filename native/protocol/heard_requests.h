// Requests that clients may watch: executes them, and tells the log of the thread what became of them.
//
// As in memcached, every command that looks at its key is a fetch (item_get), a storage command is also a mutation
// (item_store), and a delete that found its key a deletion. An event says what the entry was before the request. The
// entry is looked at only for a watcher; without one the cost is one load and one branch.
#pragma once

#include <cstdint>
#include <string_view>

#include "base/clock.h"
#include "protocol/service.h"
#include "store/request.h"
#include "store/store.h"

namespace cairn {

// An entry before a request for it.
struct EntryBefore {
  bool is_present = false;
  uint32_t value_bytes = 0;
  uint64_t expires_ms = kNeverExpires;
};
EntryBefore LookBefore(Store* store, std::string_view key, const Now& now);
// The same if its requests are heard; otherwise nothing is looked at.
inline EntryBefore LookIfHeard(Workbench* bench, std::string_view key, const Now& now) {
  if (!bench->events()->hears(kRequestStreams)) [[likely]]
    return {};
  return LookBefore(bench->service()->store(), key, now);
}

// The event of a fetch. `status`: kFound, or else it was a miss.
void TellFetch(Workbench* bench, uint64_t client, std::string_view key, const Now& now, Status status,
               uint32_t value_bytes);
// The event of a key that was read, with its count by prefix.
void HearKey(Workbench* bench, uint64_t client, const Request& request, const Now& now, const Outcome& outcome);
// The events of a request that has this outcome; those of a storage command with `value_bytes` bytes. Nothing if it has
// not been executed.
void TellChange(Workbench* bench, uint64_t client, const Request& request, uint64_t value_bytes, const Now& now,
                const EntryBefore& before, const Outcome& outcome);

// The same of a storage command that was refused, with kTooLarge or kNoMemory, before the store was asked.
void TellRefused(Workbench* bench, uint64_t client, const Request& request, Status status, const Now& now,
                 const EntryBefore& before);

void ExecuteAndTell(Workbench* bench, uint64_t client, const Request& request, const Now& now, Scratch* scratch,
                    Outcome* outcome);

// Store::Execute() of a request that changes something, of that session.
inline void ExecuteHeard(Workbench* bench, uint64_t client, const Request& request, const Now& now, Scratch* scratch,
                         Outcome* outcome) {
  if (!bench->events()->hears(kRequestStreams)) [[likely]]
    return bench->service()->store()->Execute(request, now, scratch, outcome);
  ExecuteAndTell(bench, client, request, now, scratch, outcome);
}

// Tells of a key that was read. `outcome`: kFound or kNotFound; nothing otherwise.
inline void HearFetch(Workbench* bench, uint64_t client, const Request& request, const Now& now,
                      const Outcome& outcome) {
  if (bench->events()->hears(kFetchers)) [[unlikely]]
    TellFetch(bench, client, request.key, now, outcome.status, outcome.value_bytes);
}

}  // namespace cairn
