// The replies to `stats`. Names are memcached's; docs/protocol.md says which mean the same here. Names about machinery
// that Cairn does not have are present for tools that look for them, with the value 0, no or NULL. `stats cairn` is a
// separate group, for the log.
#pragma once

#include <cstdint>
#include <string_view>

#include "base/clock.h"
#include "protocol/ack.h"
#include "protocol/service.h"

namespace cairn {

// Takes the names and values of a reply; each protocol writes them in its own way.
class StatSink {
 public:
  virtual void Add(std::string_view name, std::string_view value) = 0;
  void Add(std::string_view name, uint64_t value);

 protected:
  ~StatSink() = default;
};

enum class StatsAnswer : uint8_t { kListed, kReset, kUnknown };

// The reply to `stats TOPIC`; an empty topic is the general one. `ack`: the level of the session.
StatsAnswer AppendStats(std::string_view topic, Service* service, Ack ack, const Now& now, StatSink* out);

}  // namespace cairn
