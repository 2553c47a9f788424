// A Refusal says why a store cannot be opened or resized as asked: which option, what was expected of it, and the value
// that came, in numbers. src/refusals.ts makes the sentence that users read, with their names of the options.
#pragma once

#include <cstdint>
#include <ostream>
#include <string>

namespace cairn {

struct Refusal {
  // One of StoreOptions.
  enum class Option : uint8_t {
    kMemoryBytes = 0,
    kMemoryBytesCeiling = 1,
    kShardCount = 2,
    kValueBytesMax = 3,
    kPageBytes = 4,
    kRingBytes = 5,
    kEpoch = 6,
  };
  // What it breaks.
  enum class Rule : uint8_t {
    kNone = 0,           // nothing is refused
    kRange = 1,          // from min to max
    kPowerOfTwo = 2,     // a power of two from min to max
    kShardShare = 3,     // from min to max in each of shard_count shards; `value` is for all of them
    kShardCapacity = 4,  // at most max, half of what one shard can hold
    kValuesFit = 5,      // enough for two values of min bytes in each of shard_count shards
    kAddressSpace = 6,   // the system reserves no `value` bytes of address space
    kMemory = 7,         // the system has no `value` bytes of memory
  };
  static constexpr uint64_t kNoMax = ~uint64_t{0};

  Rule rule = Rule::kNone;
  Option option = Option::kMemoryBytes;
  uint64_t min = 0;
  uint64_t max = kNoMax;
  uint64_t value = 0;
  uint32_t shard_count = 0;

  bool operator==(const Refusal&) const = default;
  bool is_none() const { return rule == Rule::kNone; }
  // The numbers, for tests and programs.
  std::string ToString() const;
};

inline std::ostream& operator<<(std::ostream& stream, const Refusal& refusal) { return stream << refusal.ToString(); }

}  // namespace cairn
