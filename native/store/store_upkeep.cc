// Store: changed limits, and the upkeep that otherwise waits for callers.
#include <algorithm>

#include "store/store_inl.h"

namespace cairn {

namespace {

constexpr int kReturnPagesMax = 16;
// How long upkeep pauses after a caller had to sleep for the lock: longer than it takes to wake that caller. It pauses
// after each of the next kUpkeepPauses holds too: more callers may come, and upkeep that does little but hold locks
// would probably be holding one when its processor is taken away.
constexpr uint32_t kUpkeepPauseUs = 100;
constexpr uint32_t kUpkeepPauses = 64;

// What a step of making memory ready, or of giving it back, does without the lock.
void DoAhead(Shard* shard, const Growth::Step& step) {
  if (step.what == Growth::Step::What::kPopulate) OsPopulate(step.address, step.bytes);
  if (step.what != Growth::Step::What::kGiveBack) return;
  OsDiscard(step.address, step.bytes);
  const ShardGuard guard(shard);
  shard->growth()->End();
}

}  // namespace

bool Store::CheckResize(uint64_t memory_bytes, Refusal* refusal) const {
  if (memory_bytes == 0) return true;
  if (memory_bytes < kMemoryBytesMin || memory_bytes > options_.memory_bytes_ceiling) {
    *refusal = {.rule = Refusal::Rule::kRange,
                .min = kMemoryBytesMin,
                .max = options_.memory_bytes_ceiling,
                .value = memory_bytes};
    return false;
  }
  const uint64_t largest = options_.value_bytes_max;
  const uint64_t needed = value_bytes_are_given_ ? largest : std::min(largest, kValueBytesMaxLowest);
  if (needed > HalfOfShard(memory_bytes)) {
    *refusal = {.rule = Refusal::Rule::kValuesFit, .min = needed, .value = memory_bytes, .shard_count = shard_count_};
    return false;
  }
  if (!CommitFor(memory_bytes)) {
    *refusal = {.rule = Refusal::Rule::kMemory, .value = memory_bytes};
    return false;
  }
  return true;
}

uint64_t Store::HalfOfShard(uint64_t memory_bytes) const {
  uint64_t limit = ~uint64_t{0};
  for (uint32_t i = 0; i < shard_count_; i++) {
    const Shard* shard = ShardAt(i);
    const ShardGuard guard(shard);
    limit = std::min(limit, shard->room()->LimitFor(memory_bytes / shard_count_));
  }
  return limit / 2;
}

bool Store::CommitFor(uint64_t memory_bytes) const {
  const uint64_t wanted = memory_bytes / shard_count_;
  for (uint32_t i = 0; wanted != 0 && i < shard_count_; i++) {
    const uint64_t header_bytes = ShardAt(i)->header_bytes();
    if (!OsCommit(BaseOf(i) + header_bytes, std::min(wanted, shard_stride_bytes_ - header_bytes))) return false;
  }
  return true;
}

bool Store::Resize(uint64_t memory_bytes, uint64_t entries_max, const Now& now, bool* held_up) {
  // Address space before limits: no lock is held across a system call. Where the system refuses there is nothing to
  // call again for; CheckResize() says so.
  if (!CommitFor(memory_bytes)) return true;
  SetLimits(memory_bytes, entries_max);
  bool done = true;
  bool moved = false;
  for (uint32_t i = 0; i < shard_count_; i++) {
    Shard* shard = ShardAt(i);
    Growth::Step ahead;
    {
      const ShardHold hold(this, shard);
      if (!shard->room()->ShrinkStep(&moved)) done = false;
      ahead = shard->growth()->Begin(now, Growth::Purpose::kShrink);
    }
    DoAhead(shard, ahead);
    if (ReturnPages(shard, Growth::Purpose::kShrink)) {
      done = false;
      moved = true;
    }
  }
  if (RemovalSink* sink = ShardAt(0)->removal_sink(); sink != nullptr && !done) {
    sink->OnShrinking();
    Unlocked(sink);
  }
  if (held_up != nullptr) *held_up = !done && !moved;
  return done;
}

void Store::SetLimits(uint64_t memory_bytes, uint64_t entries_max) {
  OsLockGuard guard(&clear_lock_);
  if (memory_bytes != 0) {
    memory_bytes_.store(memory_bytes, std::memory_order_relaxed);
    if (!value_bytes_are_given_) {
      const uint64_t fits = std::min(options_.value_bytes_max, HalfOfShard(memory_bytes));
      value_bytes_max_.store(fits, std::memory_order_relaxed);
    }
  }
  if (entries_max != 0) {
    entries_max_.store(entries_max >= kEntriesUnlimited ? 0 : entries_max, std::memory_order_relaxed);
  }
  const uint64_t quota = memory_bytes_.load(std::memory_order_relaxed) / shard_count_;
  const uint64_t entries_all = entries_max_.load(std::memory_order_relaxed);
  const uint64_t entries_limit = entries_all == 0 ? 0 : std::max(entries_all / shard_count_, uint64_t{1});
  for (uint32_t i = 0; i < shard_count_; i++) {
    Shard* shard = ShardAt(i);
    const ShardGuard shard_guard(shard);
    shard->room()->SetLimits(quota, entries_limit);
    shard->SetValueBytesMax(value_bytes_max());
  }
}

bool Store::ReturnPages(Shard* shard, Growth::Purpose purpose) {
  if (!returns_pages_) return false;
  uint32_t pages[kReturnPagesMax];
  int count;
  {
    const ShardGuard guard(shard);
    count = shard->room()->BeginReturn(pages, kReturnPagesMax, purpose);
  }
  if (count == 0) return false;
  for (int i = 0; i < count; i++) OsDiscard(shard->PageAddress(pages[i]), page_bytes_);
  const ShardGuard guard(shard);
  shard->memory()->arena()->EndReturn(pages, count);
  return true;
}

bool Store::Maintain(const Now& now) {
  CheckClock(now);
  bool more = false;
  bool ahead = false;
  for (uint32_t i = 0; i < shard_count_; i++) {
    Shard* shard = ShardAt(i);
    shard->Lock();
    if (shard->MaintainStep(now)) more = true;
    const Growth::Step step = shard->growth()->Begin(now, Growth::Purpose::kUpkeep);
    if (shard->growth()->MayGiveBack()) ahead = true;
    // Upkeep takes the lock again and again; a caller who is being woken would find it taken each time.
    const bool caller_waits = shard->UnlockAndTell();
    const uint32_t pauses = caller_waits ? kUpkeepPauses : upkeep_pauses_.load(std::memory_order_relaxed);
    if (pauses != 0) {
      upkeep_pauses_.store(pauses - 1, std::memory_order_relaxed);
      OsSleepUs(kUpkeepPauseUs);
    }
    DoAhead(shard, step);
    if (ReturnPages(shard, Growth::Purpose::kUpkeep)) more = true;
  }
  is_ahead_.store(ahead, std::memory_order_relaxed);
  Unlocked(ShardAt(0)->removal_sink());
  return more;
}

}  // namespace cairn
