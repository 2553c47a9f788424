// What the replies of a session wait for.
#pragma once

#include <cstdint>

namespace cairn {

enum class Ack : uint8_t {
  kMemory,  // nothing
  kLogged,  // the log has the version that the reply reveals
  kStored,  // of a change: the backend has it; of anything else: as kLogged
};

}  // namespace cairn
