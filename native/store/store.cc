#include "store/store.h"

#include "base/hash_inl.h"
#include "store/store_inl.h"

namespace cairn {

void StoreStats::Add(const StoreStats& other) {
  static_assert(sizeof(StoreStats) % sizeof(uint64_t) == 0);
  auto* to = reinterpret_cast<uint64_t*>(this);
  const auto* from = reinterpret_cast<const uint64_t*>(&other);
  for (size_t i = 0; i < sizeof(StoreStats) / sizeof(uint64_t); i++) to[i] += from[i];
}

Shard* Store::shard(uint32_t index) { return ShardAt(index); }

uint32_t Store::ShardOf(std::string_view key) const { return shard_count_ == 1 ? 0 : RoutingHash(key) >> shard_shift_; }

inline Shard* Store::Route(std::string_view key, uint32_t* index, uint64_t* hash) const {
  *hash = inlined::TableHash(options_.hash, key, options_.secrets);
  *index = shard_count_ == 1 ? 0 : inlined::RoutingHash(key) >> shard_shift_;
  Shard* shard = ShardAt(*index);
  shard->HintBucket(*hash);
  return shard;
}

template <bool kLogged>
void Store::ExecuteOne(const Request& request, const Now& now, Scratch* scratch, Outcome* outcome) {
  if (IsTimed(request) && !uses_time()) uses_time_.store(true, std::memory_order_relaxed);
  *outcome = Outcome{};
  uint32_t index;
  uint64_t hash;
  Shard* shard = Route(request.key, &index, &hash);
  const HoldOf<kLogged> hold(this, shard);
  shard->Execute(request, hash, now, scratch, Pins::kAllowed, outcome);
  if constexpr (kLogged) outcome->commit_version = shard->CommitVersionOf(*outcome);
  outcome->pin.shard = index;
}

// Nothing but jumps, so that no way pays for what only another one has to keep.
void Store::Execute(const Request& request, const Now& now, Scratch* scratch, Outcome* outcome) {
  const bool is_concat = IsConcat(request.verb);
  if (now.boot_ms < attention_at_ms_.load(std::memory_order_relaxed) && !is_concat) [[likely]]
    return ExecuteOne<false>(request, now, scratch, outcome);
  if (logged_ && now.boot_ms < logged_clear_at_ms_.load(std::memory_order_relaxed) && !is_concat) [[likely]]
    return ExecuteOne<true>(request, now, scratch, outcome);
  ExecuteAttentively(request, now, scratch, outcome);
}

void Store::ExecuteAttentively(const Request& request, const Now& now, Scratch* scratch, Outcome* outcome) {
  if (now.boot_ms >= clear_at_ms()->load(std::memory_order_relaxed)) RunScheduledClear(now);
  if (IsConcat(request.verb)) {
    ExecuteConcat(request, now, outcome);
  } else if (logged_) {
    ExecuteOne<true>(request, now, scratch, outcome);
  } else {
    ExecuteOne<false>(request, now, scratch, outcome);
  }
}

Status Store::GetPlain(std::string_view key, const Now& now, char* room, size_t capacity, PlainValue* value) {
  // A read leaves no record: with a log, too, all that may need attention is a clear that is due.
  if (now.boot_ms >= attention_at_ms_.load(std::memory_order_relaxed) &&
      (!logged_ || now.boot_ms >= logged_clear_at_ms_.load(std::memory_order_relaxed))) [[unlikely]] {
    return Status::kNeedsRoom;
  }
  uint32_t index;
  uint64_t hash;
  Shard* shard = Route(key, &index, &hash);
  const HoldOf<false> hold(this, shard);
  return shard->GetPlain(key, hash, now, room, capacity, value);
}

template <bool kLogged>
Status Store::SetPlainOne(std::string_view key, std::string_view value, Codec codec, uint64_t expires_ms,
                          const Now& now) {
  if (IsTimed(expires_ms) && !uses_time()) uses_time_.store(true, std::memory_order_relaxed);
  uint32_t index;
  uint64_t hash;
  Shard* shard = Route(key, &index, &hash);
  const HoldOf<kLogged> hold(this, shard);
  return shard->SetPlain<kLogged>(key, value, codec, expires_ms, hash, now);
}

Status Store::SetPlain(std::string_view key, std::string_view value, Codec codec, uint64_t expires_ms, const Now& now) {
  DCHECK(expires_ms != kKeepExpiry);
  if (now.boot_ms < attention_at_ms_.load(std::memory_order_relaxed)) [[likely]]
    return SetPlainOne<false>(key, value, codec, expires_ms, now);
  if (logged_ && now.boot_ms < logged_clear_at_ms_.load(std::memory_order_relaxed)) [[likely]]
    return SetPlainOne<true>(key, value, codec, expires_ms, now);
  Scratch scratch;
  Outcome outcome;
  ExecuteAttentively(PlainSet(key, value, codec, expires_ms), now, &scratch, &outcome);
  return outcome.status;
}

bool Store::BeginFill(std::string_view key, FillOf what, const Now& now, FillTicket* ticket) {
  CheckClock(now);
  Shard* shard = ShardAt(ShardOf(key));
  const uint64_t hash = shard->HashOf(key);
  const ShardHold hold(this, shard);
  return shard->BeginFill(key, hash, what, now, ticket);
}

void Store::EndFill(std::string_view key, FillTicket* ticket) {
  Shard* shard = ShardAt(ShardOf(key));
  const ShardGuard guard(shard);
  shard->fills()->End(ticket);
}

StoreStats Store::ShardStats(uint32_t index) const {
  Shard* shard = ShardAt(index);
  const ShardGuard guard(shard);
  return shard->Stats();
}

StoreStats Store::Stats() const {
  StoreStats total;
  for (uint32_t i = 0; i < shard_count_; i++) total.Add(ShardStats(i));
  // Not sums of the shards' parts: what was asked for, and what was done once for all of them.
  total.memory_bytes = memory_bytes_.load(std::memory_order_relaxed);
  total.entries_max = entries_max_.load(std::memory_order_relaxed);
  total.clears = clears_.load(std::memory_order_relaxed);
  return total;
}

void Store::ResetStats() {
  clears_.store(0, std::memory_order_relaxed);
  for (uint32_t i = 0; i < shard_count_; i++) {
    Shard* shard = ShardAt(i);
    const ShardGuard guard(shard);
    shard->ResetStats();
  }
}

uint64_t Store::entries() const {
  uint64_t count = 0;
  for (uint32_t i = 0; i < shard_count_; i++) {
    const Shard* shard = ShardAt(i);
    const ShardGuard guard(shard);
    count += shard->entries()->live();
  }
  return count;
}

RemovalSink* Store::removal_sink() const { return ShardAt(0)->removal_sink(); }

void Store::SetRemovalSink(RemovalSink* sink) {
  for (uint32_t i = 0; i < shard_count_; i++) ShardAt(i)->SetRemovalSink(sink);
}

void Store::Verify() const {
  for (uint32_t i = 0; i < shard_count_; i++) {
    Shard* shard = ShardAt(i);
    const ShardGuard guard(shard);
    shard->Verify();
  }
}

}  // namespace cairn
