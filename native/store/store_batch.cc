// Store: many requests in one call.
#include <algorithm>
#include <bitset>
#include <cstring>

#include "store/store_inl.h"

namespace cairn {

// A batch is put in order by shard in windows of this many requests, on the stack.
constexpr size_t kWindowRequests = 256;
// Keys of refused mutations, of a whole batch, by hash; a read that shares a bit with one is refused in vain.
constexpr size_t kRefusedKeysBits = 512;

static_assert(Status::kLogFull < Status::kNeedsRoom && Status::kNeedsRoom < Status::kNotResident,
              "those that say that nothing was done are the last");

static bool IsRead(Verb verb) { return verb == Verb::kGet || verb == Verb::kPeek || verb == Verb::kHas; }

// Which requests of a batch must not be executed because an earlier one of their shard was not: those that come behind
// it keep their order.
class Store::Refusals {
 public:
  bool empty() const { return empty_; }
  // True: the request is refused, and *status says why.
  bool Refuses(uint32_t shard, const Request& request, uint64_t hash, Status* status) {
    if (out_of_room_[shard]) {
      *status = Status::kNeedsRoom;
      return true;
    }
    if (!log_full_[shard]) return false;
    if (!IsRead(request.verb)) keys_[hash % kRefusedKeysBits] = true;
    if (!keys_[hash % kRefusedKeysBits]) return false;
    *status = Status::kLogFull;
    return true;
  }
  // The request was not executed. A value that is not in memory holds nothing back: kNotResident is the answer.
  void Add(uint32_t shard, uint64_t hash, Status status) {
    if (status == Status::kNotResident) return;
    empty_ = false;
    if (status == Status::kNeedsRoom) {
      out_of_room_[shard] = true;
    } else {
      log_full_[shard] = true;
      keys_[hash % kRefusedKeysBits] = true;
    }
  }

 private:
  bool empty_ = true;
  std::bitset<kShardCountMax> out_of_room_;
  std::bitset<kShardCountMax> log_full_;
  std::bitset<kRefusedKeysBits> keys_;  // of mutations
};

// Some requests of a batch, in order by shard: those of shard s are order[begin[s], begin[s + 1]).
struct Store::BatchWindow {
  const Request* requests;
  Outcome* outcomes;
  size_t count;
  uint64_t hashes[kWindowRequests];
  uint16_t order[kWindowRequests];
  uint16_t begin[kShardCountMax + 1];
};

// A counting sort: stable, so that requests for one key keep their order.
void Store::SortByShard(BatchWindow* window) {
  uint8_t shard_of[kWindowRequests];
  uint16_t* begin = window->begin;
  std::memset(begin, 0, (shard_count_ + 1) * sizeof begin[0]);
  for (size_t i = 0; i < window->count; i++) {
    const Request& request = window->requests[i];
    if (IsTimed(request) && !uses_time()) uses_time_.store(true, std::memory_order_relaxed);
    shard_of[i] = static_cast<uint8_t>(ShardOf(request.key));
    window->hashes[i] = ShardAt(0)->HashOf(request.key);  // keyed alike in every shard
    begin[shard_of[i] + 1]++;
  }
  for (uint32_t s = 0; s < shard_count_; s++) begin[s + 1] = static_cast<uint16_t>(begin[s + 1] + begin[s]);
  uint16_t next[kShardCountMax];
  std::memcpy(next, begin, shard_count_ * sizeof begin[0]);
  for (size_t i = 0; i < window->count; i++) window->order[next[shard_of[i]]++] = static_cast<uint16_t>(i);
}

// The requests order[from, to) of a window, which are of one shard, under one hold of its lock.
inline ChangeRing::Note Store::ExecuteGroup(uint32_t index, const BatchWindow& window, size_t from, size_t to,
                                            const Now& now, Scratch* scratch, Refusals* refusals) {
  const uint16_t* order = window.order;
  const uint64_t* hashes = window.hashes;
  Shard* shard = ShardAt(index);
  const ShardGuard guard(shard);
  if (to - from > 1) {
    for (size_t k = from; k < to; k++) shard->entries()->PrefetchBucket(hashes[order[k]]);
    for (size_t k = from; k < to; k++) shard->entries()->PrefetchEntry(hashes[order[k]]);
    for (size_t k = from; k < to; k++) shard->entries()->PrefetchValue(hashes[order[k]]);
  }
  for (size_t k = from; k < to; k++) {
    const size_t i = order[k];
    const Request& request = window.requests[i];
    Outcome* outcome = &window.outcomes[i];
    *outcome = Outcome{};
    if (!refusals->empty() && refusals->Refuses(index, request, hashes[i], &outcome->status)) [[unlikely]]
      continue;
    shard->Execute(request, hashes[i], now, scratch, Pins::kNone, outcome);
    if (outcome->status >= Status::kLogFull) [[unlikely]]
      refusals->Add(index, hashes[i], outcome->status);
  }
  if (!logged_) [[likely]]
    return ChangeRing::Note::kNone;
  for (size_t k = from; k < to; k++) {
    Outcome* outcome = &window.outcomes[order[k]];
    outcome->commit_version = shard->CommitVersionOf(*outcome);
  }
  return shard->ring()->TakeNote();
}

void Store::ExecuteMany(const Request* requests, size_t count, const Now& now, Scratch* scratch, Outcome* outcomes) {
  CheckClock(now);
  Refusals refusals;
  for (size_t start = 0; start < count; start += kWindowRequests) {
    BatchWindow window;
    window.requests = requests + start;
    window.outcomes = outcomes + start;
    window.count = std::min(count - start, kWindowRequests);
    SortByShard(&window);
    // Told once for all of them: a reader that is woken after the first would find a lock taken again and again.
    auto note = ChangeRing::Note::kNone;
    for (uint32_t s = 0; s < shard_count_; s++) {
      for (size_t group = window.begin[s]; group < window.begin[s + 1]; group += kGroupRequests) {
        const size_t end = std::min<size_t>(group + kGroupRequests, window.begin[s + 1]);
        note = std::max(note, ExecuteGroup(s, window, group, end, now, scratch, &refusals));
      }
    }
    Unlocked(ShardAt(0)->removal_sink());
    Tell(note);
  }
}

}  // namespace cairn
