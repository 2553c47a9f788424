#include "protocol/stats_text.h"

#include <cstdio>

namespace cairn {

std::string Microseconds(uint64_t ns) {
  char text[32];
  std::snprintf(text, sizeof text, "%llu.%03llu", static_cast<unsigned long long>(ns / 1000),
                static_cast<unsigned long long>(ns % 1000));
  return text;
}

std::string PerCent(uint64_t part, uint64_t all) {
  char text[32];
  std::snprintf(text, sizeof text, "%.2f",
                all == 0 ? 0.0 : 100.0 * static_cast<double>(part) / static_cast<double>(all));
  return text;
}

}  // namespace cairn
