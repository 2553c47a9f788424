#include <algorithm>
#include <cstdio>
#include <iterator>
#include <utility>

#include "model/harness.h"
#include "model/values.h"
#include "model/words.h"
#include "store/shard.h"
#include "support/shard_access.h"

namespace cairn::model {

bool Harness::FollowUpkeep(bool shrinking_only) {
  // The removals are read here instead of being predicted; each is checked and then expected.
  const std::vector<Removal> actual = removals_.Take();
  const uint32_t count = store_->shard_count();
  for (const Removal& removal : actual) {
    uint32_t shard_index;
    ModelShard& shard = ShardFor(removal.key, &shard_index);
    const ModelShard::Place entry = shard.Find(removal.key);
    if (entry == shard.order.end())
      return Fail("upkeep removed what was not there: " + test::Show(removal.key.substr(0, 40)));
    if (!(removal == Removal{removal.reason, entry->key, entry->value, entry->codec, entry->client_flags})) {
      return Fail("upkeep told another entry than the one that left");
    }
    if (removal.reason == Reason::kExpired && !shrinking_only) {
      if (recovering_) return Fail("upkeep removed what a touch further on in the log may keep");
      if (!shard.IsExpired(*entry)) return Fail("upkeep removed an entry before it expired");
      shard.Leave(entry, Reason::kExpired, ModelShard::Farewell::kUntold);
      ++coverage_.wheel_expirations;
      continue;
    }
    if (removal.reason != Reason::kEvicted) return Fail("upkeep removed an entry for another reason");
    if (entry != std::prev(shard.order.end())) return Fail("upkeep evicted another entry than the oldest");
    const uint64_t target = test::LimitFor(store_.get(), shard_index, resize_memory_ / count);
    const uint64_t entries_target = resize_entries_ == 0 ? 0 : std::max<uint64_t>(resize_entries_ / count, 1);
    const uint64_t charged = shard.known_charge() + shard.dead_charge_max;
    if (charged <= target && (entries_target == 0 || shard.order.size() <= entries_target)) {
      return Fail("upkeep evicted though the limit was kept");
    }
    shard.dead = 0;
    ++coverage_.resize_evictions;
    shard.Leave(entry, Reason::kEvicted, ModelShard::Farewell::kUntold);
  }
  for (uint32_t i = 0; i < count; ++i) {
    const uint64_t entries_target = resize_entries_ == 0 ? 0 : std::max<uint64_t>(resize_entries_ / count, 1);
    const StoreStats stats = store_->ShardStats(i);
    shards_[i].entries_limit =
        entries_target == 0 ? 0 : std::max(entries_target, stats.entries + stats.cleared_entries);
  }
  return true;
}

bool Harness::DoResize(const Op& op, bool step) {
  uint64_t memory = 0, entries = 0;
  if (step) {
    if (!resizing_) return true;
    memory = resize_memory_;
    entries = resize_entries_;
  } else {
    const uint64_t low = kMemoryBytesMin * store_->shard_count();
    // Mostly near the smallest, where every byte is fought for.
    const uint64_t span = (life_.options.memory_bytes_ceiling - low) >> (op.bytes % 4);
    if (op.number % 3 != 0) memory = low + (op.number >> 2) % (span + 1);
    if (resize_entries_ != 0 && op.number % 2 == 0) entries = 1 + op.bytes % 500;
    Refusal refusal;
    if (!store_->CheckResize(memory, &refusal)) return true;
    if (memory != 0) {
      ++(memory < resize_memory_ ? coverage_.resizes_down : coverage_.resizes_up);
      resize_memory_ = memory;
    }
    if (entries != 0) resize_entries_ = entries;
    resizing_ = true;
  }
  BeforeCall();
  const bool done = store_->Resize(memory, entries, store_->uses_time() ? now_ : Now{});
  if (memory != 0 && life_.options.value_bytes_max == 0) {
    uint64_t fits = value_bytes_at_first_;
    for (uint32_t i = 0; i < shards_.size(); ++i) {
      fits = std::min(fits, test::LimitFor(store_.get(), i, memory / shards_.size()) / 2);
    }
    if (fits < value_bytes_at_first_) ++coverage_.value_limits_lowered;
    if (store_->value_bytes_max() != fits) Fail("resized, but the largest value has another size");
    for (ModelShard& shard : shards_) shard.SetValueBytesMax(fits);
  }
  if (!FollowUpkeep(true)) return AfterCall("resize");
  if (done) {
    resizing_ = false;
    for (uint32_t i = 0; i < shards_.size(); ++i) {
      const StoreStats stats = store_->ShardStats(i);
      if (stats.limit_bytes != test::LimitFor(store_.get(), i, resize_memory_ / shards_.size()))
        Fail("resized to another limit");
      if (stats.committed_bytes > resize_memory_ / shards_.size()) Fail("resized, but more memory is held");
    }
  }
  return AfterCall("resize");
}

void Harness::CloseWalk(size_t which) {
  store_->CloseCursor(&cursors_[which].cursor);
  for (ModelShard& shard : shards_) shard.walks.erase(cursors_[which].id);
  cursors_.erase(cursors_.begin() + static_cast<ptrdiff_t>(which));
}

bool Harness::DoCursor(const Op& op) {
  if (op.kind == OpKind::kOpenCursor) {
    if (cursors_.size() >= 6) return true;
    CursorHandle handle;
    store_->OpenCursor(op.number % 2 == 0 ? Cursor::Order::kOldestFirst : Cursor::Order::kNewestFirst, &handle.cursor);
    handle.id = ++walks_;
    handle.cursor.accepts_stale = (op.number & 2) != 0;
    for (ModelShard& shard : shards_) {
      ModelShard::Walk& walk = shard.walks[handle.id];
      walk.accepts_stale = handle.cursor.accepts_stale;
      for (const Entry& entry : shard.order) walk.owed.insert(entry.key);
    }
    cursors_.push_back(std::move(handle));
    return true;
  }
  if (cursors_.empty()) return true;
  const size_t which = op.number % cursors_.size();
  CursorHandle& handle = cursors_[which];
  BeforeCall();
  if (op.kind == OpKind::kCloseCursor) {
    CloseWalk(which);
    return AfterCall("closeCursor");
  }
  const size_t count = 1 + op.bytes % 60;
  const bool with_values = !(op.options & kOptNoValue);
  size_t capacity = scratch_.size();
  if (op.options & kOptSmallScratch) capacity = op.number % 5000;
  Scratch scratch{scratch_.data(), capacity, 0};
  std::vector<WalkedEntry> entries(count);
  bool done = false;
  size_t needed = 0;
  const size_t emitted = store_->StepCursor(&handle.cursor, store_->uses_time() ? now_ : Now{},
                                            with_values ? Emits::kKeysAndValues : Emits::kKeys, entries.data(), count,
                                            &scratch, &done, &needed);
  RunScheduledClear();
  if (emitted > count) return Fail("stepCursor: more than was asked for");
  if (done && emitted != 0) Fail("stepCursor: done, and entries");
  if (!done && emitted == 0 && needed <= capacity) Fail("stepCursor: nothing, though there is room");
  for (size_t i = 0; i < emitted && failure_.empty(); ++i) {
    const WalkedEntry& walked = entries[i];
    const std::string key(scratch_.data() + walked.key_offset, walked.key_bytes);
    uint32_t shard_index;
    ModelShard& shard = ShardFor(key, &shard_index);
    const ModelShard::Place entry = shard.Find(key);
    const bool is_hidden = entry != shard.end() && !handle.cursor.accepts_stale && shard.IsStale(*entry);
    if (entry == shard.order.end() || shard.IsExpired(*entry) || is_hidden) {
      Fail("stepCursor: an entry that is not there");
      break;
    }
    if (walked.value_bytes != entry->value.size() || walked.codec != entry->codec ||
        walked.client_flags != entry->client_flags || walked.version != entry->version ||
        walked.expires_ms != entry->expires_ms || walked.fresh_until_ms != entry->fresh_until_ms ||
        (with_values && entry->value != std::string_view(scratch_.data() + walked.value_offset, walked.value_bytes))) {
      Fail("stepCursor: an entry that differs");
    }
    if (shard.walks[handle.id].owed.erase(key) == 0) ++coverage_.walks_restarted;  // for the second time, or new
    ++coverage_.walked;
  }
  if (done) {
    for (uint32_t i = 0; i < shards_.size(); ++i) {
      for (const std::string& key : shards_[i].walks[handle.id].owed) {
        const ModelShard::Place entry = shards_[i].Find(key);
        if (entry != shards_[i].end() && !shards_[i].IsExpired(*entry) &&
            (handle.cursor.accepts_stale || !shards_[i].IsStale(*entry)))
          Fail("the walk left out " + test::Show(key.substr(0, 40)));
      }
    }
    ++coverage_.walks_finished;
    CloseWalk(which);
  }
  return AfterCall("stepCursor");
}

bool Harness::DoMaintain(bool until_done) {
  for (int turn = 0; turn < 5000; ++turn) {
    BeforeCall();
    const bool more = store_->Maintain(store_->uses_time() ? now_ : Now{});
    RunScheduledClear();
    if (!FollowUpkeep(false)) return AfterCall("maintain");
    if (!more) {
      for (ModelShard& shard : shards_) {
        for (const Entry& entry : shard.order) {
          // An entry stored after it expired waits for the end of the tick in which it was stored.
          const uint64_t due_ms = std::max(entry.expires_ms, entry.filed_ms);
          if (entry.expires_ms != kNeverExpires && (due_ms >> 7) < (now_.boot_ms >> 7) && !recovering_) {
            Fail("upkeep has nothing left to do, but an entry expired a tick ago");
          }
        }
      }
      for (uint32_t i = 0; i < shards_.size(); ++i) {
        if (store_->ShardStats(i).cleared_entries != 0)
          Fail("upkeep has nothing left to do, but cleared entries are there");
      }
    }
    if (!AfterCall("maintain")) return false;
    if (!more || !until_done) break;
    // A shrinking that bodies or pins hold up has no end.
    if (resizing_ && turn > 2000) break;
    if (turn == 4999) return Fail("maintain: upkeep never has nothing left to do");
  }
  return true;
}

}  // namespace cairn::model
