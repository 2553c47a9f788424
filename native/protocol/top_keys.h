// The keys with the largest weights of a stream, in bounded memory: Space-Saving (A. Metwally, D. Agrawal, A. El
// Abbadi, "Efficient Computation of Frequent and Top-k Elements in Data Streams", ICDT 2005), with weights.
//
// There are kCounters counters. A key without one takes the counter with the smallest weight, adds to that weight, and
// remembers it as its error. So of a stream with the total weight W,
//   - a key's true weight is at least its counter less its error, and at most its counter;
//   - no error is above W / kCounters;
//   - every key with a weight above W / kCounters has a counter.
// Streams of several threads are merged by MergeTopKeys() (P. K. Agarwal et al., "Mergeable Summaries", PODS 2012), for
// which the three hold with W of all of them.
//
// Memory: 38 KiB. Not thread-safe.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "base/limits.h"

namespace cairn {

// A key and its weight, which is between weight - error and weight.
struct TopKey {
  std::string key;
  uint64_t weight = 0;
  uint64_t error = 0;
};

class TopKeys {
 public:
  static constexpr size_t kCounters = 128;

  TopKeys() { Clear(); }
  // Adds to the weight of a key. REQUIRES: it has at most kKeyBytesInlineMax bytes.
  void Add(std::string_view key, uint64_t weight);
  void Clear();

  uint64_t total() const { return total_; }
  size_t count() const { return count_; }
  // The keys with a counter, in no order.
  std::vector<TopKey> Keys() const;
  // The weight that a key without a counter has at most.
  uint64_t floor() const { return count_ < kCounters ? 0 : counters_[heap_[0]].weight; }

 private:
  struct Counter {
    uint64_t weight;
    uint64_t error;
    uint32_t hash;
    uint8_t place;  // in heap_
    uint8_t key_bytes;
    char key[kKeyBytesInlineMax];
    std::string_view text() const { return {key, key_bytes}; }
  };
  // Twice the counters, so that runs of taken slots are short.
  static constexpr size_t kSlots = 256;
  static constexpr uint8_t kNone = 0xff;
  static_assert(kCounters < kNone && kSlots >= 2 * kCounters && kKeyBytesInlineMax <= 0xff);

  // The slot of a key, or the empty slot where it would be.
  size_t FindSlot(std::string_view key, uint32_t hash) const;
  void EmptySlot(size_t slot);
  // Moves a counter down the heap, below all that are smaller.
  void Sink(size_t place);
  void Rise(size_t place);

  uint64_t total_ = 0;
  size_t count_ = 0;
  std::array<uint8_t, kSlots> slots_;    // hash -> counter, with linear probing
  std::array<uint8_t, kCounters> heap_;  // counters, the smallest weight first
  std::array<Counter, kCounters> counters_;
};

// The keys of several streams together, the largest weight first, at most `count` of them.
std::vector<TopKey> MergeTopKeys(const std::vector<const TopKeys*>& parts, size_t count);

}  // namespace cairn
