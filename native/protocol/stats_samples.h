// `stats latencies` and `stats topkeys`: what the samples of all threads tell. docs/protocol.md has the names and the
// bounds of the errors.
#pragma once

#include "protocol/service.h"
#include "protocol/stats.h"

namespace cairn {

void AppendLatencies(Service* service, StatSink* out);
void AppendTopKeys(Service* service, StatSink* out);

}  // namespace cairn
