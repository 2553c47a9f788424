#include "process/change_feed.h"

#include <algorithm>
#include <utility>

#include "base/check.h"
#include "base/clock.h"
#include "store/entry.h"

namespace cairn {
namespace {

// The scribe's polling interval while records come.
constexpr int kNapMs = 1;
// How long after the last record it keeps polling.
constexpr uint64_t kTrafficMs = 20;

}  // namespace

ChangeFeed::ChangeFeed(Store* store)
    : store_(store),
      shard_count_(store->shard_count()),
      marks_(store->shard_count()),
      places_(store->options().has_backend ? std::make_unique<LogPlaces>(store->shard_count()) : nullptr),
      parts_next_(store->shard_count()),
      drained_(store->shard_count()),
      watches_(std::make_shared<const WatchList>()) {
  CHECK(store->has_rings());
  marks_.SetBell(this);
  store->SetChangeBell(this);
  for (Flight& flight : flights_) flight.drained.resize(shard_count_);
}

ChangeFeed::~ChangeFeed() = default;

void ChangeFeed::SetState(State state) {
  State seen = state_.load(std::memory_order_acquire);
  do {
    if (seen == State::kClosed || seen == state) return;
  } while (!state_.compare_exchange_weak(seen, state, std::memory_order_acq_rel));
  Ring();
  WakeWaiters(true);
}

void ChangeFeed::Activate() {
  Target target;
  ReadTarget(&target);
  // Each shard begins where it stands; Activate() takes one number for all.
  marks_.Activate(0);
  for (uint32_t shard = 0; shard < shard_count_; shard++) {
    drained_[shard].version = target[shard];
    marks_.Advance(shard, target[shard]);
  }
}

// ---- the scribe ----

ChangeFeed::Turn ChangeFeed::Drain(char* out, size_t capacity, uint32_t timeout_ms) {
  CHECK(turns_in_flight() < kLogTurnsMax);
  const uint64_t begun_ms = ReadBootMs();
  uint64_t now_ms = begun_ms;
  Turn turn;
  for (;;) {
    const uint32_t seen = bell_word_.load(std::memory_order_seq_cst);
    drained_at_ms_ = now_ms;
    const bool had_drained = turns_in_flight() > 0;
    const uint64_t rung_at_ms = rung_at_ms_.exchange(0, std::memory_order_relaxed);
    if (Collect(out, capacity, &turn)) {
      traffic_at_ms_ = now_ms;
      // The first record since the last look is as old as its ring, and not as that look.
      if (rung_at_ms != 0 && !had_drained) committed_up_to_ms_.store(rung_at_ms, std::memory_order_relaxed);
      break;
    }
    if (poked_.exchange(false, std::memory_order_seq_cst) || state() == State::kClosed) break;
    const uint64_t waited_ms = now_ms - begun_ms;
    if (waited_ms >= timeout_ms) break;
    auto wait_ms = static_cast<int>(std::min<uint64_t>(timeout_ms - waited_ms, 60'000));
    if (now_ms - traffic_at_ms_ < kTrafficMs) {
      wait_ms = std::min(kNapMs, wait_ms);
    } else if (wanted.load(std::memory_order_relaxed) == 0) {
      rung_at_ms_.store(0, std::memory_order_relaxed);
      // A record may have come before its writer could see that it is waited for: look once more.
      wanted.store(1, std::memory_order_seq_cst);
      continue;
    }
    scribe_waits_.store(true, std::memory_order_seq_cst);
    OsWaitOnWord(&bell_word_, seen, wait_ms);
    scribe_waits_.store(false, std::memory_order_relaxed);
    now_ms = ReadBootMs();
  }
  wanted.store(0, std::memory_order_release);
  return turn;
}

// True if there is something for the log. Versions without a record are committed at once where nothing before them
// waits.
bool ChangeFeed::Collect(char* out, size_t capacity, Turn* turn) {
  // Again where a part was met whose siblings may lie in rings before it, or whose batch is out of the way.
  while (CollectAll(out, capacity, turn) && looks_again_) {
  }
  if (turn->bytes > 0) {
    turn->bytes_needed = 0;
    turn->number = next_turn_++;
    Flight* flight = FlightOf(turn->number);
    flight->is_committed = false;
    flight->record_count = turn->record_count;
    flight->drained_at_ms = drained_at_ms_;
    flight->drained = drained_;
    return true;
  }
  if (turn->bytes_needed != 0) return true;
  if (turns_in_flight() > 0) return false;
  for (uint32_t shard = 0; shard < shard_count_; shard++) {
    if (marks_.Covers(shard, drained_[shard].version)) continue;
    Settle(drained_, 0, drained_at_ms_);
    WakeWaiters(false);
    break;
  }
  if (parts_next_count_ == 0) committed_up_to_ms_.store(drained_at_ms_, std::memory_order_relaxed);
  return false;
}

// One look at every ring, and at the atomic batches as if they were one ring more. False: there is more than the turn
// has room for. The next turn then begins behind the ring which had its part, so that a shard that always has more than
// a turn takes does not keep the others from the log; or with the ring whose next record found no room.
bool ChangeFeed::CollectAll(char* out, size_t capacity, Turn* turn) {
  const uint32_t slots = shard_count_ + 1;
  const uint32_t first = first_slot_;
  first_slot_ = 0;
  looks_again_ = false;
  for (uint32_t i = 0; i < slots; i++) {
    const uint32_t slot = (first + i) % slots;
    const size_t bytes_before = turn->bytes;
    const bool goes_on =
        slot < shard_count_ ? CollectShard(slot, out, capacity, turn) : CollectBatches(out, capacity, turn);
    if (goes_on) continue;
    first_slot_ = turn->bytes > bytes_before ? (slot + 1) % slots : slot;
    return false;
  }
  return true;
}

// False: there is more than the turn has room for.
bool ChangeFeed::CollectShard(uint32_t shard, char* out, size_t capacity, Turn* turn) {
  if (parts_next_[shard].parts != 0) [[unlikely]]
    return true;
  const RingDrain drain = store_->DrainRing(shard, out + turn->bytes, capacity - turn->bytes, ChangeRing::Parts::kStop);
  AddToTurn(shard, drain, turn);
  turn->bytes_needed = drain.bytes_needed;
  if (drain.at_part) [[unlikely]]
    MeetParts(shard);
  return drain.bytes_needed == 0;
}

bool ChangeFeed::CollectBatches(char* out, size_t capacity, Turn* turn) {
  for (WholeBatch batch; FindWholeBatch(&batch);) {
    CHECK(batch.bytes <= kAtomicBatchBytesMax);
    turn->bytes_needed = batch.bytes <= capacity - turn->bytes ? 0 : batch.bytes;
    // The others have their turn first if it is taken, and it is the first of the next turn if it is not.
    first_batch_shard_ = turn->bytes_needed != 0 ? batch.shard : (batch.shard + 1) % shard_count_;
    if (turn->bytes_needed != 0) return false;
    for (uint32_t shard = 0; shard < shard_count_; shard++) {
      ChangeRing::Run* next = &parts_next_[shard];
      if (next->parts == 0 || next->batch_id != batch.id) continue;
      // The room of exactly these records.
      const RingDrain drain = store_->DrainRing(shard, out + turn->bytes, next->bytes, ChangeRing::Parts::kTake);
      CHECK(drain.bytes == next->bytes && drain.record_count == next->parts);
      AddToTurn(shard, drain, turn);
      *next = {};
      parts_next_count_--;
      MeetParts(shard);
    }
    looks_again_ = true;
  }
  return true;
}

bool ChangeFeed::FindWholeBatch(WholeBatch* batch) const {
  if (parts_next_count_ == 0) [[likely]]
    return false;
  for (uint32_t i = 0; i < shard_count_; i++) {
    const uint32_t shard = (first_batch_shard_ + i) % shard_count_;
    const ChangeRing::Run& run = parts_next_[shard];
    if (run.parts == 0) continue;
    uint32_t parts = 0;
    *batch = {.id = run.batch_id, .bytes = 0, .shard = shard};
    for (const ChangeRing::Run& other : parts_next_) {
      if (other.parts == 0 || other.batch_id != run.batch_id) continue;
      parts += other.parts;
      batch->bytes += other.bytes;
    }
    if (parts == run.batch_count) return true;
  }
  return false;
}

// The next record of this ring may be a part.
void ChangeFeed::MeetParts(uint32_t shard) {
  parts_next_[shard] = store_->PartsOfRing(shard);
  if (parts_next_[shard].parts == 0) return;
  parts_next_count_++;
  looks_again_ = true;
}

void ChangeFeed::AddToTurn(uint32_t shard, const RingDrain& drain, Turn* turn) {
  turn->bytes += drain.bytes;
  turn->record_count += drain.record_count;
  if (drain.record_count > 0) {
    turn->epoch = std::max(turn->epoch, EpochOf(drain.version));
    drained_[shard].record_version = drain.version;
  }
  drained_[shard].version = std::max(drained_[shard].version, drain.version);
  drained_[shard].place = drain.place;
}

void ChangeFeed::Commit(uint64_t turn, const LogRange& range) {
  CHECK(turn >= first_turn_ && turn < next_turn_ && !FlightOf(turn)->is_committed);
  FlightOf(turn)->is_committed = true;
  FlightOf(turn)->range = range;
  if (turn != first_turn_) return;
  // One by one, for the numbers; the marks and the rings then move once, to the last of them.
  uint32_t record_count = 0;
  const Flight* last = nullptr;
  for (; first_turn_ < next_turn_ && FlightOf(first_turn_)->is_committed; first_turn_++) {
    last = FlightOf(first_turn_);
    record_count += last->record_count;
    for (uint32_t shard = 0; places_ != nullptr && shard < shard_count_; shard++) {
      places_->AddUpTo(shard, last->drained[shard].record_version, last->range);
    }
  }
  Settle(last->drained, record_count, last->drained_at_ms);
  WakeWaiters(false);
}

void ChangeFeed::Settle(const std::vector<Drained>& drained, uint32_t record_count, uint64_t drained_at_ms) {
  for (uint32_t shard = 0; shard < shard_count_; shard++) {
    store_->CommitRing(shard, drained[shard].place);
    marks_.Advance(shard, drained[shard].version);
  }
  records_committed_.fetch_add(record_count, std::memory_order_relaxed);
  committed_up_to_ms_.store(drained_at_ms, std::memory_order_relaxed);
}

void ChangeFeed::Rewind() {
  for (uint32_t shard = 0; shard < shard_count_; shard++) {
    store_->RewindRing(shard);
    // No place: what is free stays free.
    drained_[shard] = {.version = marks_.Mark(shard), .place = {}, .record_version = 0};
    parts_next_[shard] = {};
  }
  parts_next_count_ = 0;
  first_turn_ = next_turn_;
  traffic_at_ms_ = ReadBootMs();
}

void ChangeFeed::Poke() {
  poked_.store(true, std::memory_order_seq_cst);
  Ring();
}

void ChangeFeed::Ring() {
  uint64_t never = 0;
  if (wanted.load(std::memory_order_relaxed) != 0 && rung_at_ms_.load(std::memory_order_relaxed) == 0) {
    rung_at_ms_.compare_exchange_strong(never, ReadBootMs(), std::memory_order_relaxed);
  }
  bell_word_.fetch_add(1, std::memory_order_seq_cst);
  if (scribe_waits_.load(std::memory_order_seq_cst)) OsWakeWord(&bell_word_, true);
}

// ---- those who wait ----

void ChangeFeed::ReadTarget(Target* target) const {
  for (uint32_t shard = 0; shard < shard_count_; shard++) (*target)[shard] = store_->LastVersion(shard);
}

bool ChangeFeed::Covers(const Target& target) const {
  for (uint32_t shard = 0; shard < shard_count_; shard++) {
    if (!marks_.Covers(shard, target[shard])) return false;
  }
  return true;
}

bool ChangeFeed::WaitCommitted(const Target& target, uint32_t timeout_ms) {
  const uint64_t begun_ms = ReadBootMs();
  for (;;) {
    const uint32_t seen = progress();
    if (Covers(target)) return true;
    const State now = state();
    if (now == State::kFailed || now == State::kClosed) return false;
    const uint64_t waited_ms = ReadBootMs() - begun_ms;
    if (waited_ms >= timeout_ms) return false;
    Ring();
    WaitForRoom(seen, static_cast<uint32_t>(timeout_ms - waited_ms));
  }
}

void ChangeFeed::WaitForRoom(uint32_t seen, uint32_t timeout_ms) {
  commit_waiters_.fetch_add(1, std::memory_order_seq_cst);
  OsWaitOnWord(&commit_word_, seen, static_cast<int>(std::min<uint32_t>(timeout_ms, 60'000)));
  commit_waiters_.fetch_sub(1, std::memory_order_relaxed);
}

template <class Edit>
void ChangeFeed::EditWatches(Edit edit) {
  std::shared_ptr<const WatchList> before;
  for (;;) {
    {
      OsLockGuard guard(&lock_);
      before = watches_;
    }
    auto after = std::make_shared<WatchList>(*before);
    edit(after.get());
    std::shared_ptr<const WatchList> edited = std::move(after);
    OsLockGuard guard(&lock_);
    if (watches_ != before) continue;
    watches_.swap(edited);
    return;
  }
}

std::shared_ptr<LogWatch> ChangeFeed::Watch(std::shared_ptr<Waker> waker) {
  auto watch = std::make_shared<LogWatch>(std::move(waker));
  EditWatches([&](WatchList* list) { list->push_back(watch); });
  return watch;
}

void ChangeFeed::Unwatch(const LogWatch* watch) {
  EditWatches([&](WatchList* list) {
    std::erase_if(*list, [&](const std::shared_ptr<LogWatch>& each) { return each.get() == watch; });
  });
}

void ChangeFeed::WakeWaiters(bool everybody) {
  commit_word_.fetch_add(1, std::memory_order_seq_cst);
  if (commit_waiters_.load(std::memory_order_seq_cst) > 0) OsWakeWord(&commit_word_, true);
  std::shared_ptr<const WatchList> watches;
  {
    OsLockGuard guard(&lock_);
    watches = watches_;
  }
  for (const std::shared_ptr<LogWatch>& watch : *watches) {
    watch->Tell(everybody);
  }
}

LogView::Health ChangeFeed::health() const {
  switch (state()) {
    case State::kOpening:
    case State::kRunning:
      return Health::kRunning;
    case State::kFull:
      return Health::kFull;
    case State::kStuck:
      return Health::kStuck;
    case State::kFailed:
    case State::kClosed:
      break;
  }
  return Health::kFailed;
}

// ---- numbers ----

LogView::Numbers ChangeFeed::ReadNumbers() const {
  Numbers numbers{};
  // Committed first: a record that is committed in between must not count as more than there are.
  numbers.records_committed = records_committed_.load(std::memory_order_relaxed);
  for (uint32_t shard = 0; shard < shard_count_; shard++) {
    const RingStats ring = store_->RingStatsOf(shard);
    numbers.ring_bytes += ring.fill_bytes;
    numbers.ring_capacity_bytes += ring.capacity_bytes;
    numbers.records += ring.records;
    numbers.ring_fill_worst = std::max(numbers.ring_fill_worst,
                                       static_cast<double>(ring.fill_bytes) / static_cast<double>(ring.capacity_bytes));
  }
  // A scribe that is wanted has slept since it found nothing, and the first record wakes it.
  const bool is_asleep = wanted.load(std::memory_order_acquire) != 0;
  const uint64_t since_ms = (is_asleep ? rung_at_ms_ : committed_up_to_ms_).load(std::memory_order_relaxed);
  if (numbers.records > numbers.records_committed && since_ms != 0) numbers.lag_ms = ReadBootMs() - since_ms;
  return numbers;
}

void ChangeFeed::SetMetrics(const double* numbers, size_t count, size_t place) {
  for (size_t i = 0; i < count && place + i < kLogMetricsMax; i++) {
    metrics_[place + i].store(numbers[i], std::memory_order_relaxed);
  }
}

void ChangeFeed::ReadMetrics(double* numbers, size_t count) const {
  for (size_t i = 0; i < std::min(count, kLogMetricsMax); i++) numbers[i] = metrics_[i].load(std::memory_order_relaxed);
}

}  // namespace cairn
