// The replies to `stats`. Names are memcached's; docs/protocol.md says which mean the same here. Names about machinery
// that Cairn does not have are present for tools that look for them, with the value 0, no or NULL. `stats cairn` is a
// separate group, for the log.
#pragma once

#include <string_view>

#include "base/clock.h"
#include "protocol/byte_buffer.h"
#include "protocol/service.h"

namespace cairn {

// Appends the whole reply to `stats TOPIC`: an empty topic is the general one, an unknown one is an ERROR.
// `ack`: the level of the session.
void AppendStats(std::string_view topic, Service* service, Ack ack, const Now& now, ByteBuffer* out);

}  // namespace cairn
