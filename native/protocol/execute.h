// Requests of the protocol as the store takes them, and what its answers are called on the wire.
#pragma once

#include "base/clock.h"
#include "protocol/request.h"
#include "protocol/response.h"
#include "store/request.h"

namespace cairn {

// What the store is asked for a line that names one key. The value, if there is one, is still to be filled in.
Request StoreRequestOf(const TextRequest& line, const Now& now);

// The reply to an outcome. REQUIRES: the status is one that the verb can have, and neither kLogFull nor, for incr and
// decr, kFound (whose reply is a number).
Reply ReplyOf(Verb verb, Status status);

// The version whose commit makes the reply to this outcome true for ever; 0 if it tells of nothing that could be lost.
inline uint64_t CommitVersionOf(const Outcome& outcome) {
  return outcome.record_version != 0 ? outcome.record_version : outcome.version;
}

}  // namespace cairn
