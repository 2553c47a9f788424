#include "base/clock.h"

#include "base/os.h"

namespace cairn {

Now ReadClock() { return {.boot_ms = OsBootMs(), .wall_ms = OsWallMs()}; }

uint64_t ReadBootMs() { return OsBootMs(); }

}  // namespace cairn
