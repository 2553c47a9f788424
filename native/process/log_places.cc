#include "process/log_places.h"

#include <algorithm>

#include "base/check.h"
#include "base/limits.h"

namespace cairn {

static_assert(kLogTracksMax + 1 <= kLogPlacesPerShardMax / 2, "joining neighbours leaves room for more points");

LogPlaces::LogPlaces(uint32_t shard_count)
    : gap_max_(shard_count * kLogPlaceGapPerShard),
      shards_(shard_count, PerShard{.tracks = {Track{}}, .bytes_min = kLogPlaceBytesMin}) {}

void LogPlaces::AddUpTo(uint32_t shard, uint64_t highest, const LogRange& range) {
  OsLockGuard guard(&lock_);
  PerShard* to = &shards_[shard];
  if (highest <= to->highest) return;
  AddPoint(to, 0, {.lowest = to->highest + 1, .highest = highest, .range = range});
}

void LogPlaces::AddRecovered(uint32_t shard, const std::vector<uint64_t>& versions, const LogRange& range) {
  OsLockGuard guard(&lock_);
  PerShard* to = &shards_[shard];
  DCHECK(to->tracks[0].points.empty());
  for (size_t i = 0; i < versions.size();) {
    const uint64_t lowest = versions[i];
    uint64_t highest = lowest;
    for (i++; i < versions.size() && versions[i] - highest <= gap_max_; i++) highest = versions[i];
    AddPoint(to, TrackOf(to, lowest), {.lowest = lowest, .highest = highest, .range = range});
  }
}

// The track of recovered versions that goes on with this one; a new one if there is none and room for it, otherwise the
// nearest.
size_t LogPlaces::TrackOf(PerShard* of, uint64_t lowest) const {
  size_t nearest = 0;
  uint64_t distance = ~uint64_t{0};
  for (size_t i = 1; i < of->tracks.size(); i++) {
    const uint64_t highest = of->tracks[i].highest;
    const uint64_t to_it = highest < lowest ? lowest - highest : highest - lowest;
    if (to_it >= distance) continue;
    nearest = i;
    distance = to_it;
  }
  if (nearest != 0 && (distance <= gap_max_ || of->tracks.size() > kLogTracksMax)) return nearest;
  of->tracks.emplace_back();
  return of->tracks.size() - 1;
}

void LogPlaces::AddPoint(PerShard* to, size_t track, const Point& point) {
  std::vector<Point>* points = &to->tracks[track].points;
  to->tracks[track].highest = point.highest;
  to->highest = std::max(to->highest, point.highest);
  if (!points->empty()) {
    Point* last = &points->back();
    DCHECK(last->range.begin <= point.range.begin);
    if (point.range.end - last->range.begin <= to->bytes_min) {
      last->lowest = std::min(last->lowest, point.lowest);
      last->highest = std::max(last->highest, point.highest);
      last->range.end = std::max(last->range.end, point.range.end);
      return;
    }
  }
  if (to->point_count == kLogPlacesPerShardMax) JoinNeighbours(to);
  points->push_back(point);
  to->point_count++;
}

void LogPlaces::JoinNeighbours(PerShard* of) {
  of->bytes_min *= 2;
  of->point_count = 0;
  for (Track& track : of->tracks) {
    std::vector<Point>* points = &track.points;
    const size_t count = points->size();
    for (size_t i = 0; i < count; i += 2) {
      Point joined = (*points)[i];
      if (i + 1 < count) {
        const Point& behind = (*points)[i + 1];
        joined.lowest = std::min(joined.lowest, behind.lowest);
        joined.highest = std::max(joined.highest, behind.highest);
        joined.range.end = std::max(joined.range.end, behind.range.end);
      }
      (*points)[i / 2] = joined;
    }
    points->resize((count + 1) / 2);
    of->point_count += points->size();
  }
}

void LogPlaces::DropBefore(uint64_t position) {
  OsLockGuard guard(&lock_);
  for (PerShard& shard : shards_) {
    shard.point_count = 0;
    for (Track& track : shard.tracks) {
      const auto kept = std::find_if(track.points.begin(), track.points.end(),
                                     [position](const Point& point) { return point.range.end > position; });
      track.points.erase(track.points.begin(), kept);
      shard.point_count += track.points.size();
    }
    const auto is_over = [](const Track& track) { return track.points.empty(); };
    shard.tracks.erase(std::remove_if(shard.tracks.begin() + 1, shard.tracks.end(), is_over), shard.tracks.end());
    if (shard.point_count == 0) shard.bytes_min = kLogPlaceBytesMin;
  }
}

std::vector<LogRange> LogPlaces::Find(uint32_t shard, uint64_t version) const {
  std::vector<LogRange> found;
  {
    OsLockGuard guard(&lock_);
    for (const Track& track : shards_[shard].tracks) {
      for (const Point& point : track.points) {
        if (point.lowest <= version && version <= point.highest) found.push_back(point.range);
      }
    }
  }
  std::sort(found.begin(), found.end(), [](const LogRange& a, const LogRange& b) { return a.begin < b.begin; });
  // Points of different tracks may overlap: nothing is to be read twice.
  std::vector<LogRange> joined;
  for (const LogRange& range : found) {
    if (joined.empty() || joined.back().end <= range.begin) {
      joined.push_back(range);
    } else {
      joined.back().end = std::max(joined.back().end, range.end);
    }
  }
  return joined;
}

size_t LogPlaces::point_count() const {
  OsLockGuard guard(&lock_);
  size_t count = 0;
  for (const PerShard& shard : shards_) count += shard.point_count;
  return count;
}

}  // namespace cairn
