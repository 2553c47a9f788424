#include "store/growth.h"

namespace cairn {

bool Growth::IsWanted() const {
  const ArenaState& arena = arena_->state();
  const uint64_t end = LargePageEnd();
  if (state_->ahead_end > end || end + kLargePageBytes > large_bytes_ || arena.closed_to != 0) return false;
  if (!IsAtLargePageEnd() && (state_->is_given_back || end - TouchedEnd() > kAheadLeadBytes)) return false;
  // Not beyond what the shard may use, and not while there are pages that go first.
  return LimitEnd() >= end + kLargePageBytes && arena.free_count == 0 && arena.returned_count == 0;
}

bool Growth::TookFreshPage() {
  if (large_bytes_ == 0) return false;
  const uint64_t end = LargePageEnd();
  if (end > state_->ahead_end) state_->ahead_end = end;
  if (TouchedEnd() - page_bytes() == end - kLargePageBytes) state_->is_given_back = false;
  return IsWanted();
}

Growth::Step Growth::Begin(const Now& now, Purpose purpose) {
  if (large_bytes_ == 0) return {};
  const ArenaState& arena = arena_->state();
  const uint64_t end = LargePageEnd();
  const bool grew = arena.pages_touched != state_->pages_seen && purpose == Purpose::kUpkeep;
  if (grew) {
    state_->pages_seen = arena.pages_touched;
    state_->grew_ms = now.boot_ms;
  }
  if (grew && IsWanted()) {
    state_->ahead_end = end + kLargePageBytes;
    return {Step::What::kPopulate, base_ + end, kLargePageBytes};
  }
  if (arena.closed_to != 0) return {};
  const bool is_idle =
      !grew && purpose == Purpose::kUpkeep && !IsAtLargePageEnd() && now.boot_ms >= state_->grew_ms + kAheadIdleMs;
  const uint64_t first = is_idle && IsLeftSpare() ? TouchedEnd() : end;
  const uint64_t last = std::max(state_->ahead_end, end);
  if (first == last || (!is_idle && LimitEnd() >= state_->ahead_end)) return {};
  const auto from = static_cast<uint32_t>((first - header_bytes_) / page_bytes());
  const auto to = static_cast<uint32_t>((last - header_bytes_) / page_bytes());
  if (to >= arena.pages_ceiling) return {};
  arena_->CloseUnused(from, to);
  const Step step{Step::What::kGiveBack, base_ + first, last - first};
  state_->ahead_end = end;
  state_->is_given_back = true;
  return step;
}

}  // namespace cairn
