#include "process/log_places.h"

#include <algorithm>

#include "base/check.h"
#include "base/limits.h"

namespace cairn {

LogPlaces::LogPlaces(uint32_t shard_count)
    : shards_(shard_count, PerShard{.points = {}, .highest = 0, .bytes_min = kLogPlaceBytesMin}) {}

void LogPlaces::AddUpTo(uint32_t shard, uint64_t highest, const LogRange& range) {
  OsLockGuard guard(&lock_);
  PerShard* to = &shards_[shard];
  if (highest <= to->highest) return;
  AddPoint(to, {.lowest = to->highest + 1, .highest = highest, .range = range});
}

void LogPlaces::Add(uint32_t shard, uint64_t lowest, uint64_t highest, const LogRange& range) {
  DCHECK(lowest <= highest);
  OsLockGuard guard(&lock_);
  AddPoint(&shards_[shard], {.lowest = lowest, .highest = highest, .range = range});
}

void LogPlaces::AddPoint(PerShard* to, const Point& point) {
  std::vector<Point>* points = &to->points;
  const auto join = [](Point* before, const Point& behind) {
    before->lowest = std::min(before->lowest, behind.lowest);
    before->highest = std::max(before->highest, behind.highest);
    before->range.end = std::max(before->range.end, behind.range.end);
  };
  DCHECK(points->empty() || points->back().range.begin <= point.range.begin);
  to->highest = std::max(to->highest, point.highest);
  if (!points->empty() && point.range.end - points->back().range.begin <= to->bytes_min) {
    join(&points->back(), point);
    return;
  }
  if (points->size() == kLogPlacesPerShardMax) {
    to->bytes_min *= 2;
    for (size_t i = 0; i < points->size() / 2; i++) {
      (*points)[i] = (*points)[2 * i];
      join(&(*points)[i], (*points)[2 * i + 1]);
    }
    points->resize(points->size() / 2);
  }
  points->push_back(point);
}

void LogPlaces::DropBefore(uint64_t position) {
  OsLockGuard guard(&lock_);
  for (PerShard& shard : shards_) {
    const auto kept = std::find_if(shard.points.begin(), shard.points.end(),
                                   [position](const Point& point) { return point.range.end > position; });
    shard.points.erase(shard.points.begin(), kept);
    if (shard.points.empty()) shard.bytes_min = kLogPlaceBytesMin;
  }
}

size_t LogPlaces::Find(uint32_t shard, uint64_t version, LogRange* ranges, size_t count) const {
  OsLockGuard guard(&lock_);
  size_t found = 0;
  for (const Point& point : shards_[shard].points) {
    if (version < point.lowest || version > point.highest) continue;
    if (found < count) ranges[found] = point.range;
    found++;
  }
  return found;
}

size_t LogPlaces::point_count() const {
  OsLockGuard guard(&lock_);
  size_t count = 0;
  for (const PerShard& shard : shards_) count += shard.points.size();
  return count;
}

}  // namespace cairn
