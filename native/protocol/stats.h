// The replies to `stats`. Names are memcached's; docs/protocol.md says which mean the same here, and which are there
// for the tools that look for them and say 0, no or NULL because they speak of machinery that does not exist here.
// `stats cairn` is a group of our own, for what memcached has no names for: the log.
#pragma once

#include <string_view>

#include "base/clock.h"
#include "protocol/byte_buffer.h"
#include "protocol/service.h"

namespace cairn {

// Appends the whole reply to `stats TOPIC`; an empty topic is the general one, an unknown one is an ERROR. It is told
// to a session of that level.
void AppendStats(std::string_view topic, Service* service, bool waits_for_log, const Now& now, ByteBuffer* out);

}  // namespace cairn
