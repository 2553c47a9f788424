#include "protocol/remote_replies.h"

#include <algorithm>
#include <functional>

namespace cairn {

namespace {

size_t HashOf(std::string_view key) { return std::hash<std::string_view>()(key); }

}  // namespace

RemoteReplies::~RemoteReplies() {
  for (RemoteSlot& slot : slots_) slot.wait.LeaveLoad();
}

RemoteSlot* RemoteReplies::Add(std::string_view bytes, const Scope& scope) {
  failed_ = failed();
  closed_bytes_ = this->bytes();
  closed_held_ = held_count();
  RemoteSlot* const slot = &slots_.emplace_back();
  slot->request.Append(bytes);
  slot->hashes.reserve(scope.keys.size());
  for (const std::string_view key : scope.keys) {
    slot->hashes.push_back(HashOf(key));
    keys_[slot->hashes.back()]++;
  }
  closed_bytes_ += SlotBytes(*slot);
  return slot;
}

void RemoteReplies::RemoveFirst(HeldReplies* held, ByteBuffer* out) {
  RemoteSlot& slot = slots_.front();
  for (const size_t hash : slot.hashes) {
    const auto at = keys_.find(hash);
    if (--at->second == 0) keys_.erase(at);
  }
  closed_bytes_ -= SlotBytes(slot);
  if (slots_.size() > 1) {
    closed_bytes_ -= slot.behind.bytes();
    closed_held_ -= slot.behind.count();
  }
  held->Follow(&slot.behind, out);
  slots_.pop_front();
}

bool RemoteReplies::HasOneOf(const Scope& scope) const {
  return std::any_of(scope.keys.begin(), scope.keys.end(),
                     [this](std::string_view key) { return keys_.contains(HashOf(key)); });
}

}  // namespace cairn
