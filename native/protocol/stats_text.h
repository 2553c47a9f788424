// How statistics write their values.
#pragma once

#include <cstdint>
#include <string>

namespace cairn {

// "15234.567" of nanoseconds.
std::string Microseconds(uint64_t ns);
// "12.50", of the share of `part` in `all`.
std::string PerCent(uint64_t part, uint64_t all);

}  // namespace cairn
