#include "store/refusal.h"

namespace cairn {

namespace {

const char* NameOf(Refusal::Option option) {
  switch (option) {
    case Refusal::Option::kMemoryBytes:
      return "memory_bytes";
    case Refusal::Option::kMemoryBytesCeiling:
      return "memory_bytes_ceiling";
    case Refusal::Option::kShardCount:
      return "shard_count";
    case Refusal::Option::kValueBytesMax:
      return "value_bytes_max";
    case Refusal::Option::kPageBytes:
      return "page_bytes";
    case Refusal::Option::kRingBytes:
      return "ring_bytes";
    case Refusal::Option::kEpoch:
      return "epoch";
  }
  return "";
}

}  // namespace

std::string Refusal::ToString() const {
  if (is_none()) return "nothing is refused";
  std::string text = std::string(NameOf(option)) + " " + std::to_string(value) + " breaks rule " +
                     std::to_string(static_cast<int>(rule)) + ": from " + std::to_string(min);
  if (max != kNoMax) text += " to " + std::to_string(max);
  if (shard_count != 0) text += " in " + std::to_string(shard_count) + " shards";
  return text;
}

}  // namespace cairn
