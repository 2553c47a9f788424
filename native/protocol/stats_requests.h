// `stats slow` and `stats large`: the lists of a RequestLog. docs/protocol.md describes the lines.
#pragma once

#include "protocol/service.h"
#include "protocol/stats.h"

namespace cairn {

void AppendSlowRequests(Service* service, StatSink* out);
void AppendLargeRequests(Service* service, StatSink* out);

}  // namespace cairn
