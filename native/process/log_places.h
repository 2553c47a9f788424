// Where in the log the records of a shard lie: for a version, the ranges of positions in which its record may be. For
// values that left memory before the database behind the cache had them: the log still has their records.
//
//   a track's points, in the order of the log:    [ lowest, highest | begin ... end )  [ lowest, highest | ... )  ...
//
// A point is a range of the log, and the lowest and the highest version of some of the shard's records in it. Versions
// that this process has given are one track, and rise along it. Recovered records of a shard may come from several
// shards of a log that had another number of them, each of which gave versions for itself: these are told apart by
// distance, a track for each, so that a point covers few versions.
//
// A point covers at least kLogPlaceBytesMin of the log, unless the next record of the track lies further behind. With
// more than kLogPlacesPerShardMax points in a shard, neighbours are joined, and later points cover twice as much.
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
  // Recovered records with these versions, in rising order, lie in this range, which begins where an earlier one of the
  // shard begins or later. REQUIRES: AddUpTo() was not called for this shard.
  void AddRecovered(uint32_t shard, const std::vector<uint64_t>& versions, const LogRange& range);
  // Records before this position are not looked for any more.
  void DropBefore(uint64_t position);

  // The ranges in which the record of a version may lie, in the order of the log. None: the version has no record, its
  // record is not in the log yet, or it was dropped.
  std::vector<LogRange> Find(uint32_t shard, uint64_t version) const;
  // Of all shards.
  size_t point_count() const;

 private:
  struct Point {
    uint64_t lowest;
    uint64_t highest;
    LogRange range;
  };
  struct Track {
    std::vector<Point> points;
    uint64_t highest = 0;  // of the last point
  };
  struct PerShard {
    std::vector<Track> tracks;  // the first: of versions that this process has given
    size_t point_count = 0;
    uint64_t highest = 0;  // of all versions that were added
    uint64_t bytes_min = 0;
  };
  static void AddPoint(PerShard* to, size_t track, const Point& point);
  size_t TrackOf(PerShard* of, uint64_t lowest) const;
  static void JoinNeighbours(PerShard* of);

  const uint64_t gap_max_;
  mutable OsLock lock_;
  std::vector<PerShard> shards_ GUARDED_BY(lock_);
};

}  // namespace cairn
