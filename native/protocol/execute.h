// Translates requests of the protocol to requests of the store, and the store's answers to replies.
#pragma once

#include "base/clock.h"
#include "protocol/request.h"
#include "protocol/response.h"
#include "store/request.h"

namespace cairn {

// The store's request for a line that names one key. The caller fills in the value, if there is one.
Request StoreRequestOf(const TextRequest& line, const Now& now);

// The reply to an outcome. REQUIRES: the verb can have this status; it is neither kLogFull nor, for incr and decr,
// kFound (whose reply is a number).
Reply ReplyOf(Verb verb, Status status);

}  // namespace cairn
