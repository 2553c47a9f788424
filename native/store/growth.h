// Prepares memory before a shard grows into it.
//
// The first touch of a large page takes long: the system clears all of it, and a virtual machine may have to get it
// from its host first. So upkeep touches the next large page, at most one, while the shard grows into the present one,
// and returns it if the shard stops growing, together with what is left of the present one, if that is much.
//
//   header | used pages ............ | left of the large page | made ready: one large page |  untouched
//          |                         TouchedEnd()             LargePageEnd()               ahead_end
//
// Thread safety: none; the shard's lock guards it. The caller executes a Step without the lock.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>

#include "base/clock.h"
#include "store/arena.h"

namespace cairn {

inline constexpr uint64_t kLargePageBytes = uint64_t{2} << 20;
// When less than this is left of the large page that a shard grows into, the next one is prepared...
inline constexpr uint64_t kAheadLeadBytes = kLargePageBytes / 4 * 3;
// ... and returned when the shard has not grown for kAheadIdleMs, unless less than kAheadKeptBytes of the present one
// is left.
inline constexpr uint64_t kAheadIdleMs = 40;
inline constexpr uint64_t kAheadKeptBytes = kLargePageBytes / 64;
// What is left of the present large page is returned if it is more than this share of the shard's memory. The rest of
// that page then consists of small pages, so a shard of few large pages keeps it.
inline constexpr uint64_t kLeftShareMax = 64;
inline constexpr uint64_t kLeftLargePagesMin = 4;

// In the mapping.
struct GrowthState {
  uint64_t ahead_end;   // the end of the prepared memory, in the shard's region
  uint64_t grew_ms;     // when the shard last grew
  uint32_t pages_seen;  // ArenaState::pages_touched then
  bool is_given_back;   // of the present large page
};

class Growth {
 public:
  // `base`: the shard's region; its first `header_bytes` are before the pages. Its first `large_bytes` have large
  // pages; 0: nothing is prepared.
  Growth(GrowthState* state, Arena* arena, char* base, uint64_t header_bytes, uint64_t large_bytes)
      : state_(state), arena_(arena), base_(base), header_bytes_(header_bytes), large_bytes_(large_bytes) {}

  struct Step {
    enum class What : uint8_t { kNothing, kPopulate, kGiveBack } what = What::kNothing;
    char* address = nullptr;
    size_t bytes = 0;
  };
  // kShrink returns only memory beyond the limit.
  enum class Purpose : uint8_t { kUpkeep, kShrink };
  Step Begin(const Now& now, Purpose purpose);
  // Called after a kGiveBack was executed.
  void End() { arena_->OpenUnused(); }

  // The arena took a page that was never used before. True: call Begin() soon.
  bool TookFreshPage();
  uint64_t AheadBytes() const { return state_->ahead_end - std::min(state_->ahead_end, LargePageEnd()); }
  // True if memory must be returned should the shard not grow.
  bool MayGiveBack() const { return (AheadBytes() != 0 && !IsAtLargePageEnd()) || IsLeftSpare(); }

 private:
  bool IsWanted() const;
  bool IsLeftSpare() const {
    return large_bytes_ != 0 && !state_->is_given_back && TouchedEnd() >= kLeftLargePagesMin * kLargePageBytes &&
           LargePageEnd() <= large_bytes_ && LargePageEnd() - TouchedEnd() > TouchedEnd() / kLeftShareMax;
  }
  uint64_t page_bytes() const { return arena_->classes().page_bytes(); }
  uint64_t TouchedEnd() const { return header_bytes_ + uint64_t{arena_->state().pages_touched} * page_bytes(); }
  uint64_t LimitEnd() const { return header_bytes_ + uint64_t{arena_->state().pages_total} * page_bytes(); }
  uint64_t LargePageEnd() const { return (TouchedEnd() + kLargePageBytes - 1) & ~(kLargePageBytes - 1); }
  bool IsAtLargePageEnd() const { return LargePageEnd() - TouchedEnd() <= std::max(kAheadKeptBytes, page_bytes()); }

  GrowthState* state_;
  Arena* arena_;
  char* base_;
  uint64_t header_bytes_;
  uint64_t large_bytes_;
};

}  // namespace cairn
