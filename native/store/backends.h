// The backends behind a cache: which of them a key belongs to, and how far each of them is (stored_changes.h).
//
//   key -> the route of the longest prefix that the key begins with -> its backend; without a route: the first one
//
// A backend that is down, or far behind, holds up the keys that belong to it, and no others: marks, waits and loads are
// those of one backend.
//
// Thread safety: routes never change. What is known of a backend is as StoredChanges says.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "base/limits.h"
#include "store/stored_changes.h"

namespace cairn {

// Where the keys with a prefix belong.
struct BackendRoute {
  std::string prefix;
  uint32_t backend = 0;
  // False: the backend never gets them.
  bool is_written = true;
};

class Backends {
 public:
  // REQUIRES: 0 < count <= kBackendsMax, each route leads to one of them, and each has another prefix.
  Backends(uint32_t count, std::vector<BackendRoute> routes, uint32_t shard_count);
  Backends(const Backends&) = delete;
  Backends& operator=(const Backends&) = delete;

  uint32_t count() const { return static_cast<uint32_t>(stored_.size()); }
  bool is_one() const { return count() == 1; }
  StoredChanges* At(uint32_t backend) const { return stored_[backend].get(); }

  // ---- keys ----

  // The bytes of a key, at most, that its route depends on.
  size_t prefix_bytes_max() const { return prefix_bytes_max_; }
  // `key`: the whole, or at least prefix_bytes_max() of it.
  const BackendRoute& RouteOf(std::string_view key) const;
  uint32_t Of(std::string_view key) const { return is_one() ? 0 : RouteOf(key).backend; }
  StoredChanges* For(std::string_view key) const { return At(Of(key)); }
  // Whether all keys belong to one backend, apart from those that no backend gets. False: `*first` and `*other` are
  // two backends, and `*index` is the first key of the other one.
  template <typename KeyAt>
  bool AreOfOne(size_t key_count, const KeyAt& key_at, uint32_t* first, uint32_t* other, size_t* index) const {
    bool has_first = false;
    for (size_t i = 0; i < key_count && !is_one(); i++) {
      const BackendRoute& route = RouteOf(key_at(i));
      if (!route.is_written) continue;
      if (has_first && route.backend != *first) {
        *other = route.backend;
        *index = i;
        return false;
      }
      has_first = true;
      *first = route.backend;
    }
    return true;
  }

  // ---- all of them ----

  // Changes with each mark of the shard; of one backend it is the mark.
  uint64_t SumOfMarks(uint32_t shard) const {
    uint64_t sum = 0;
    for (const auto& stored : stored_) sum += stored->marks()->Mark(shard);
    return sum;
  }
  // The worst.
  StoredChanges::Health health() const;

 private:
  std::vector<std::unique_ptr<StoredChanges>> stored_;
  std::vector<BackendRoute> routes_;  // the longest prefix first; the last is that of all other keys
  size_t prefix_bytes_max_ = 0;
};

}  // namespace cairn
