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

}  // namespace cairn
