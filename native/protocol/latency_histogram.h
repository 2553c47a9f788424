// Durations in buckets whose width grows with the duration: 32 buckets for each power of two, as in G. Tene's
// HdrHistogram. A bucket is at most 1/32 of its durations wide, so a percentile is at most 3.125 % too large, and never
// too small; below 1,024 ns, at most 32 ns too large. Two histograms are merged by adding them, without a further
// error.
//
// Memory: 7 KiB. Not thread-safe.
#pragma once

#include <algorithm>
#include <array>
#include <bit>
#include <cstddef>
#include <cstdint>

namespace cairn {

class LatencyHistogram {
 public:
  // A longer duration, above 68 seconds, counts as this one; max_ns() is exact.
  static constexpr uint64_t kNsMax = (uint64_t{1} << 36) - 1;

  void Add(uint64_t ns) {
    counts_[BucketOf(std::min(ns, kNsMax))]++;
    count_++;
    max_ns_ = std::max(max_ns_, ns);
  }
  LatencyHistogram& operator+=(const LatencyHistogram& more) {
    for (size_t i = 0; i < kBuckets; i++) counts_[i] += more.counts_[i];
    count_ += more.count_;
    max_ns_ = std::max(max_ns_, more.max_ns_);
    return *this;
  }

  void Clear() { *this = {}; }

  uint64_t count() const { return count_; }
  uint64_t max_ns() const { return max_ns_; }
  // The bound of the bucket that holds the smallest duration which `per_100000` of 100,000 durations do not exceed. 0:
  // there are none.
  uint64_t PercentileNs(uint32_t per_100000) const {
    const uint64_t rank = std::max<uint64_t>((count_ * per_100000 + 99'999) / 100'000, 1);
    uint64_t seen = 0;
    for (size_t i = 0; i < kBuckets; i++) {
      seen += counts_[i];
      if (seen >= rank) return std::min(LastNsOf(i), max_ns_);
    }
    return max_ns_;
  }

  // The bucket of a duration, and the longest duration in a bucket. Public for tests.
  static constexpr size_t BucketOf(uint64_t ns) {
    const uint64_t units = ns / kUnitNs;
    if (units < kBucketsPerPower) return units;
    const int shift = std::bit_width(units) - std::bit_width(kBucketsPerPower);
    return static_cast<size_t>(shift) * kBucketsPerPower + (units >> shift);
  }
  static constexpr uint64_t LastNsOf(size_t bucket) {
    if (bucket < kBucketsPerPower) return (bucket + 1) * kUnitNs - 1;
    const size_t shift = bucket / kBucketsPerPower - 1;
    return (((bucket - shift * kBucketsPerPower + 1) << shift) * kUnitNs) - 1;
  }

 private:
  static constexpr uint64_t kUnitNs = 32;
  static constexpr uint64_t kBucketsPerPower = 32;

 public:
  static constexpr size_t kBuckets = 864;

 private:
  std::array<uint64_t, kBuckets> counts_{};
  uint64_t count_ = 0;
  uint64_t max_ns_ = 0;
};

static_assert(LatencyHistogram::BucketOf(LatencyHistogram::kNsMax) == LatencyHistogram::kBuckets - 1);
static_assert(LatencyHistogram::LastNsOf(LatencyHistogram::kBuckets - 1) == LatencyHistogram::kNsMax);

}  // namespace cairn
