// Translates requests of the protocol to requests of the store, and the store's answers to replies.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string_view>

#include "base/clock.h"
#include "protocol/request.h"
#include "protocol/response.h"
#include "store/read_through.h"
#include "store/request.h"
#include "store/store.h"

namespace cairn {

// The store's request for a line that names one key. The caller fills in the value, if there is one.
Request StoreRequestOf(const TextRequest& line, const Now& now);

// The reply to an outcome. REQUIRES: the verb can have this status; it is neither kLogFull nor, for incr and decr,
// kFound (whose reply is a number).
Reply ReplyOf(Verb verb, Status status);

// What is there of a key, without its value: nothing shows that it was looked at.
Outcome PeekOnly(std::string_view key, const Now& now, Store* store);

// Whether the entry of an append or prepend stays within the item size with `more_bytes` added to its value, which
// `present` then describes. Between this check and the append another client may append too; the store's own limit
// holds in any case.
bool FitsItem(const Request& request, size_t more_bytes, uint64_t item_bytes_max, const Now& now, Store* store,
              Outcome* present);

// Begins the load of a key, if its value is not in memory, for a request that waits behind another one.
void Prefetch(std::string_view key, const Now& now, Store* store, ReadThrough* loads);

// flush_all: clears at once, or after that time if it is above 0. A later clear, delayed or not, takes the place of a
// delayed one that is still to come. False: the log has no room; nothing was changed. `version`: of the records of it,
// one in each shard; 0: none.
[[nodiscard]] bool FlushAll(int64_t seconds, const Now& now, Store* store, uint64_t* version);

}  // namespace cairn
