#include "protocol/top_keys.h"

#include <algorithm>
#include <cstring>
#include <unordered_map>
#include <utility>

#include "base/hash.h"

namespace cairn {

void TopKeys::Clear() {
  total_ = 0;
  count_ = 0;
  slots_.fill(kNone);
}

void TopKeys::Add(std::string_view key, uint64_t weight) {
  total_ += weight;
  const uint32_t hash = RoutingHash(key);
  size_t slot = FindSlot(key, hash);
  if (slots_[slot] != kNone) {
    Counter& counter = counters_[slots_[slot]];
    counter.weight += weight;
    return Sink(counter.place);
  }
  const bool is_full = count_ == kCounters;
  const uint8_t index = is_full ? heap_[0] : static_cast<uint8_t>(count_);
  Counter& counter = counters_[index];
  if (is_full) {
    EmptySlot(FindSlot(counter.text(), counter.hash));
    slot = FindSlot(key, hash);
  }
  counter.error = is_full ? counter.weight : 0;
  counter.weight = counter.error + weight;
  counter.hash = hash;
  counter.key_bytes = static_cast<uint8_t>(key.size());
  std::memcpy(counter.key, key.data(), key.size());
  slots_[slot] = index;
  if (is_full) return Sink(0);
  counter.place = index;
  heap_[count_++] = index;
  Rise(index);
}

size_t TopKeys::FindSlot(std::string_view key, uint32_t hash) const {
  size_t slot = hash % kSlots;
  while (slots_[slot] != kNone) {
    const Counter& counter = counters_[slots_[slot]];
    if (counter.hash == hash && counter.text() == key) break;
    slot = (slot + 1) % kSlots;
  }
  return slot;
}

// Those behind it move up, if they are behind their own slots (D. Knuth, TAOCP 3, 6.4, algorithm R).
void TopKeys::EmptySlot(size_t slot) {
  size_t hole = slot;
  for (size_t next = (hole + 1) % kSlots; slots_[next] != kNone; next = (next + 1) % kSlots) {
    const size_t home = counters_[slots_[next]].hash % kSlots;
    if ((next - home) % kSlots < (next - hole) % kSlots) continue;
    slots_[hole] = slots_[next];
    hole = next;
  }
  slots_[hole] = kNone;
}

void TopKeys::Sink(size_t place) {
  const uint8_t index = heap_[place];
  const uint64_t weight = counters_[index].weight;
  for (;;) {
    size_t child = 2 * place + 1;
    if (child >= count_) break;
    if (child + 1 < count_ && counters_[heap_[child + 1]].weight < counters_[heap_[child]].weight) child++;
    if (counters_[heap_[child]].weight >= weight) break;
    heap_[place] = heap_[child];
    counters_[heap_[place]].place = static_cast<uint8_t>(place);
    place = child;
  }
  heap_[place] = index;
  counters_[index].place = static_cast<uint8_t>(place);
}

void TopKeys::Rise(size_t place) {
  const uint8_t index = heap_[place];
  const uint64_t weight = counters_[index].weight;
  while (place != 0) {
    const size_t parent = (place - 1) / 2;
    if (counters_[heap_[parent]].weight <= weight) break;
    heap_[place] = heap_[parent];
    counters_[heap_[place]].place = static_cast<uint8_t>(place);
    place = parent;
  }
  heap_[place] = index;
  counters_[index].place = static_cast<uint8_t>(place);
}

std::vector<TopKey> TopKeys::Keys() const {
  std::vector<TopKey> keys(count_);
  for (size_t i = 0; i < count_; i++)
    keys[i] = {std::string(counters_[i].text()), counters_[i].weight, counters_[i].error};
  return keys;
}

// A key without a counter in one part may have had its floor there.
std::vector<TopKey> MergeTopKeys(const std::vector<const TopKeys*>& parts, size_t count) {
  uint64_t floors = 0;
  for (const TopKeys* part : parts) floors += part->floor();
  std::unordered_map<std::string, TopKey> merged;
  for (const TopKeys* part : parts) {
    for (TopKey& key : part->Keys()) {
      TopKey& sum = merged.try_emplace(key.key, TopKey{key.key, floors, floors}).first->second;
      sum.weight += key.weight - part->floor();
      sum.error -= part->floor() - key.error;
    }
  }
  std::vector<TopKey> keys;
  keys.reserve(merged.size());
  for (auto& each : merged) keys.push_back(std::move(each.second));
  std::sort(keys.begin(), keys.end(), [](const TopKey& a, const TopKey& b) {
    return a.weight != b.weight ? a.weight > b.weight : a.key < b.key;
  });
  if (keys.size() > count) keys.resize(count);
  return keys;
}

}  // namespace cairn
