#include "store/backends.h"

#include <algorithm>
#include <utility>

#include "base/check.h"

namespace cairn {

Backends::Backends(uint32_t count, std::vector<BackendRoute> routes, uint32_t shard_count)
    : routes_(std::move(routes)) {
  CHECK(count != 0 && count <= kBackendsMax);
  for (uint32_t i = 0; i < count; i++) stored_.push_back(std::make_unique<StoredChanges>(shard_count));
  std::stable_sort(routes_.begin(), routes_.end(),
                   [](const BackendRoute& a, const BackendRoute& b) { return a.prefix.size() > b.prefix.size(); });
  for (const BackendRoute& route : routes_) CHECK(route.backend < count);
  if (!routes_.empty()) prefix_bytes_max_ = routes_.front().prefix.size();
  if (routes_.empty() || !routes_.back().prefix.empty()) routes_.emplace_back();
}

const BackendRoute& Backends::RouteOf(std::string_view key) const {
  const auto found = std::find_if(routes_.begin(), routes_.end() - 1, [key](const BackendRoute& route) {
    return key.substr(0, route.prefix.size()) == route.prefix;
  });
  return *found;
}

StoredChanges::Health Backends::health() const {
  auto worst = StoredChanges::Health::kRunning;
  for (const auto& stored : stored_) worst = std::max(worst, stored->health());
  return worst;
}

}  // namespace cairn
