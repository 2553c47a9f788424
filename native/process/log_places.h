// Where in the log the records of a shard lie: for a version, the ranges of positions in which its record may be. For
// values that left memory before the database behind the cache had them: the log still has their records.
//
//   a shard's points, in the order of the log:    [ lowest, highest | begin ... end )  [ lowest, highest | ... )  ...
//
// A point is a range of the log, and the lowest and the highest version of the shard's records in it. The versions of
// points overlap only if the log was written with another number of shards. A point covers at least kLogPlaceBytesMin
// of the log, unless the next record of the shard lies further behind. With more than kLogPlacesPerShardMax points,
// neighbours are joined and later points cover twice as much.
//
// Thread safety: any thread may call any method. The lock is a leaf.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "base/os.h"

namespace cairn {

// Positions from `begin` up to, and not including, `end`.
struct LogRange {
  uint64_t begin = 0;
  uint64_t end = 0;
  bool operator==(const LogRange&) const = default;
};

class LogPlaces {
 public:
  explicit LogPlaces(uint32_t shard_count);

  // All records of the shard with versions above those of its last point, up to `highest`, lie in this range, which
  // begins where the last point's begins or later. Nothing, if a point has this version already.
  void AddUpTo(uint32_t shard, uint64_t highest, const LogRange& range);
  // The same for records whose lowest version is known, and may lie between those of earlier points.
  void Add(uint32_t shard, uint64_t lowest, uint64_t highest, const LogRange& range);
  // Records before this position are not looked for any more.
  void DropBefore(uint64_t position);

  // The ranges in which the record of a version may lie, in the order of the log: writes up to `count`, and returns how
  // many there are. 0: the version has no record, its record is not in the log yet, or it was dropped.
  size_t Find(uint32_t shard, uint64_t version, LogRange* ranges, size_t count) const;
  // Of all shards.
  size_t point_count() const;

 private:
  struct Point {
    uint64_t lowest;
    uint64_t highest;
    LogRange range;
  };
  struct PerShard {
    std::vector<Point> points;
    uint64_t highest = 0;  // of all versions that were added
    uint64_t bytes_min;
  };
  void AddPoint(PerShard* to, const Point& point) REQUIRES_LOCK(lock_);

  mutable OsLock lock_;
  std::vector<PerShard> shards_ GUARDED_BY(lock_);
};

}  // namespace cairn
