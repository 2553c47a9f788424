#include "store/store.h"

#include <algorithm>
#include <bit>
#include <bitset>
#include <cstring>
#include <new>

#include "base/hash_inl.h"
#include "store/shard_inl.h"

namespace cairn {

namespace {

constexpr uint64_t kHugePageBytes = kLargePageBytes;
// Large pages pay off for a shard that fills several of them; for a small one the last, half-filled one weighs too
// much.
constexpr uint64_t kHugePagesFromQuotaBytes = 4 * kHugePageBytes;
// A batch is put in order by shard in windows of so many requests, on the stack.
constexpr size_t kWindowRequests = 256;
// Keys of refused mutations, of a whole batch, by hash; a read that shares a bit with one is refused in vain.
constexpr size_t kRefusedKeysBits = 512;
constexpr int kReturnPagesMax = 16;
// Steps of making room for a large value, at least; more for the bytes of it. Only a bound for when others take the
// room.
constexpr uint32_t kRoomStepsMin = 64;
// What upkeep waits after somebody had to sleep for the lock: longer than it takes to wake them. And after so many
// holds more: where there is one such caller there are others to come, and upkeep that does little else than hold locks
// would be holding one when its processor is taken away.
constexpr uint32_t kUpkeepPauseUs = 100;
constexpr uint32_t kUpkeepPauses = 64;
// What is copied to or from a large value under one hold of a lock.
constexpr size_t kPieceBytes = 64 * 1024;
// An append or prepend in steps begins again when the value changes meanwhile; after so many times it is done in one.
constexpr int kConcatTries = 4;
// Of the mapping, given back at a time by the destructor.
constexpr uint64_t kReleaseStepBytes = uint64_t{32} << 20;

std::string Expected(const char* what, const char* expected, uint64_t came) {
  return std::string("Expected ") + what + " to be " + expected + ", got " + std::to_string(came);
}

uint64_t ChoosePageBytes(uint64_t quota_bytes) {
  return std::clamp(std::bit_floor(quota_bytes / kPagesPerShard), kPageBytesMin, kPageBytesMax);
}

// What a step of making memory ready, or of giving it back, does without the lock.
void DoAhead(Shard* shard, const Growth::Step& step) {
  if (step.what == Growth::Step::What::kPopulate) OsPopulate(step.address, step.bytes);
  if (step.what != Growth::Step::What::kGiveBack) return;
  OsDiscard(step.address, step.bytes);
  OsLockGuard guard(shard->lock());
  shard->growth()->End();
}

bool IsRead(Verb verb) { return verb == Verb::kGet || verb == Verb::kPeek || verb == Verb::kHas; }
static_assert(Status::kLogFull < Status::kNeedsRoom && Status::kNeedsRoom < Status::kNotResident,
              "those that say that nothing was done are the last");

bool IsConcat(Verb verb) { return verb == Verb::kAppend || verb == Verb::kPrepend; }

bool IsTimed(uint64_t expires_ms) { return expires_ms != kNeverExpires && expires_ms != kKeepExpiry; }
bool IsTimed(const Request& request) {
  return IsTimed(request.expires_ms) || request.fresh_until_ms != kAlwaysFresh || request.keep_else_ms != kNeverExpires;
}

}  // namespace

void StoreStats::Add(const StoreStats& other) {
  static_assert(sizeof(StoreStats) % sizeof(uint64_t) == 0);
  auto* to = reinterpret_cast<uint64_t*>(this);
  const auto* from = reinterpret_cast<const uint64_t*>(&other);
  for (size_t i = 0; i < sizeof(StoreStats) / sizeof(uint64_t); i++) to[i] += from[i];
}

Store::Store(const StoreOptions& options) : options_(options) {}

Shard* Store::ShardAt(uint32_t index) const {
  return reinterpret_cast<Shard*>(shards_.get() + size_t{index} * sizeof(Shard));
}

std::unique_ptr<Store> Store::Open(const StoreOptions& given, std::string* error) {
  StoreOptions options = given;
  if (options.memory_bytes < kMemoryBytesMin) {
    *error = Expected("memory_bytes", "at least 4194304", options.memory_bytes);
    return nullptr;
  }
  if (options.memory_bytes_ceiling == 0) options.memory_bytes_ceiling = options.memory_bytes * 4;
  if (options.memory_bytes_ceiling < options.memory_bytes) {
    *error = Expected("memory_bytes_ceiling", "at least memory_bytes", options.memory_bytes_ceiling);
    return nullptr;
  }
  if (options.shard_count != 0 && (!std::has_single_bit(options.shard_count) || options.shard_count > kShardCountMax)) {
    *error = Expected("shard_count", "a power of two up to 256", options.shard_count);
    return nullptr;
  }
  if (options.value_bytes_max > kValueBytesMax) {
    *error = Expected("value_bytes_max", "at most 1073741824", options.value_bytes_max);
    return nullptr;
  }
  if (options.page_bytes != 0 && (!std::has_single_bit(options.page_bytes) || options.page_bytes < kPageBytesMin ||
                                  options.page_bytes > kPageBytesMax)) {
    *error = Expected("page_bytes", "a power of two from 4096 to 262144", options.page_bytes);
    return nullptr;
  }
  if (options.ring_bytes > options.memory_bytes / kRingShareMax) {
    *error = Expected("ring_bytes", "at most a quarter of memory_bytes", options.ring_bytes);
    return nullptr;
  }
  const uint64_t value_bytes_max = options.ring_bytes == 0 ? kValueBytesMax : kLoggedValueBytesMax;
  if (options.ring_bytes != 0 && options.value_bytes_max > value_bytes_max) {
    *error = Expected("value_bytes_max", "at most 67108864 where there are change rings", options.value_bytes_max);
    return nullptr;
  }
  if (options.epoch == 0) {
    *error = Expected("epoch", "from 1 to 4294967295", options.epoch);
    return nullptr;
  }
  const bool value_max_given = options.value_bytes_max != 0;
  if (!value_max_given) {
    options.value_bytes_max = std::clamp(options.memory_bytes / 1024, uint64_t{1} << 20, value_bytes_max);
  }
  uint32_t shards = options.shard_count;
  if (shards == 0) {
    shards = std::min(std::bit_floor(std::max(2 * OsCpuCount(), 1u)), kShardCountMax);
    const uint64_t quota_min = std::max(kShardQuotaBytesMin, 32 * options.value_bytes_max);
    while (shards > 1 && (options.memory_bytes / shards < quota_min ||
                          (options.entries_max != 0 && options.entries_max / shards < kShardEntriesMin))) {
      shards /= 2;
    }
  }
  // What lies before the pages takes up to 1/128 as much again, and has to be within reach of a reference too.
  const uint64_t mapped_bytes = options.memory_bytes_ceiling + options.ring_bytes;
  if (mapped_bytes / shards > kShardBytesMax - kShardBytesMax / 64) {
    while (given.shard_count == 0 && shards < kShardCountMax &&
           options.memory_bytes_ceiling / shards > kShardBytesMax / 2) {
      shards *= 2;
    }
    if (options.memory_bytes_ceiling / shards > kShardBytesMax / 2) {
      if (given.memory_bytes_ceiling != 0 || options.memory_bytes / shards > kShardBytesMax / 2) {
        *error =
            Expected("memory_bytes_ceiling / shard_count", "at most 16 GiB", options.memory_bytes_ceiling / shards);
        return nullptr;
      }
      options.memory_bytes_ceiling = kShardBytesMax / 2 * shards;
    }
  }
  options.shard_count = shards;
  if (options.secrets.IsZero()) options.secrets = DrawHashSecrets();

  const uint64_t quota = options.memory_bytes / shards;
  const uint64_t page_bytes = options.page_bytes != 0 ? options.page_bytes : ChoosePageBytes(quota);
  const uint64_t ceiling_quota = options.memory_bytes_ceiling / shards;
  const auto pages_ceiling = static_cast<uint32_t>(ceiling_quota / page_bytes);

  std::unique_ptr<Store> store(new Store(options));
  store->classes_ = std::make_unique<SizeClasses>(page_bytes);
  store->page_bytes_ = page_bytes;
  const uint64_t system_page_bytes = options.system_page_bytes != 0 ? options.system_page_bytes : OsPageBytes();
  store->returns_pages_ = page_bytes >= system_page_bytes;
  store->shard_count_ = shards;
  store->shard_shift_ = 32 - std::countr_zero(shards);
  store->memory_bytes_.store(options.memory_bytes);
  store->entries_max_.store(options.entries_max);
  store->value_bytes_max_.store(options.value_bytes_max);
  store->uses_time_.store(options.track_access);
  if (options.ring_bytes != 0) {
    store->ring_bytes_ = std::max(std::bit_floor(options.ring_bytes / shards), kRingBytesMin);
    store->KeepRecords();
  }

  const uint64_t header_bytes = Shard::HeaderBytes(pages_ceiling, page_bytes) + store->ring_bytes_;
  store->shard_stride_bytes_ =
      (header_bytes + uint64_t{pages_ceiling} * page_bytes + kHugePageBytes - 1) & ~(kHugePageBytes - 1);
  store->mapping_bytes_ = store->shard_stride_bytes_ * shards + kHugePageBytes;
  store->mapping_ = OsReserve(store->mapping_bytes_);
  if (store->mapping_ == nullptr) {
    *error = "Cannot reserve " + std::to_string(store->mapping_bytes_) + " bytes of address space";
    return nullptr;
  }
  const auto address = reinterpret_cast<uintptr_t>(store->mapping_);
  store->base_ = reinterpret_cast<char*>((address + kHugePageBytes - 1) & ~(kHugePageBytes - 1));
  store->shards_ = std::make_unique<char[]>(sizeof(Shard) * shards);
  for (uint32_t i = 0; i < shards; i++) {
    char* base = store->base_ + uint64_t{i} * store->shard_stride_bytes_;
    if (!OsCommit(base, header_bytes + std::min(uint64_t{pages_ceiling} * page_bytes, quota))) {
      for (uint32_t k = 0; k < i; k++) store->ShardAt(k)->~Shard();
      store->shards_.reset();
      *error = "Cannot commit " + std::to_string(quota) + " bytes of memory";
      return nullptr;
    }
    // Only what lies within the quota as a whole: rounding up must not take memory beyond the limit.
    const uint64_t large_bytes = quota >= kHugePagesFromQuotaBytes ? quota & ~(kHugePageBytes - 1) : 0;
    if (large_bytes != 0) OsAdviseHugePages(base, large_bytes);
    const Shard::Config config{i,
                               options.hash,
                               options.secrets,
                               options.track_access,
                               store->classes_.get(),
                               header_bytes,
                               store->ring_bytes_,
                               pages_ceiling,
                               large_bytes};
    auto* shard = new (store->ShardAt(i)) Shard(base, config);
    const bool fits = shard->Init(
        quota, options.entries_max == 0 ? 0 : std::max(options.entries_max / shards, uint64_t{1}), options.epoch);
    if (!fits || options.value_bytes_max > shard->LimitFor(quota) / 2) {
      if (fits && !value_max_given && options.value_bytes_max == uint64_t{1} << 20) {
        options.value_bytes_max = store->options_.value_bytes_max = shard->LimitFor(quota) / 2;
        store->value_bytes_max_.store(options.value_bytes_max);
      } else {
        *error = fits ? Expected("value_bytes_max",
                                 ("at most " + std::to_string(shard->LimitFor(quota) / 2) +
                                  ", half of what one of the shards can hold")
                                     .c_str(),
                                 options.value_bytes_max)
                      : Expected("memory_bytes / shard_count", "at least 4194304", quota);
        for (uint32_t k = 0; k <= i; k++) store->ShardAt(k)->~Shard();
        store->shards_.reset();
        return nullptr;
      }
    }
    shard->SetValueBytesMax(options.value_bytes_max);
  }
  return store;
}

Store::~Store() {
  if (shards_ != nullptr) {
    for (uint32_t i = 0; i < shard_count_; i++) ShardAt(i)->~Shard();
  }
  if (mapping_ == nullptr) return;
  // In steps, because giving back gigabytes in one call holds up every other thread that maps memory meanwhile.
  for (uint64_t at = 0; at < mapping_bytes_; at += kReleaseStepBytes) {
    OsDecommit(static_cast<char*>(mapping_) + at, std::min(kReleaseStepBytes, mapping_bytes_ - at));
  }
  OsRelease(mapping_, mapping_bytes_);
}

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
  ChangeRing::Note note = ChangeRing::Note::kNone;
  {
    OsLockGuard guard(shard->lock());
    shard->Execute(request, hash, now, scratch, true, outcome);
    if constexpr (kLogged) {
      outcome->commit_version = shard->CommitVersionOf(*outcome);
      note = shard->ring()->TakeNote();
    }
  }
  outcome->pin.shard = index;
  Unlocked(shard->removal_sink());
  if constexpr (kLogged) Tell(note);
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
  Status status;
  {
    OsLockGuard guard(shard->lock());
    status = shard->GetPlain(key, hash, now, room, capacity, value);
  }
  Unlocked(shard->removal_sink());
  return status;
}

template <bool kLogged>
Status Store::SetPlainOne(std::string_view key, std::string_view value, Codec codec, uint64_t expires_ms,
                          const Now& now) {
  if (IsTimed(expires_ms) && !uses_time()) uses_time_.store(true, std::memory_order_relaxed);
  uint32_t index;
  uint64_t hash;
  Shard* shard = Route(key, &index, &hash);
  Status status;
  ChangeRing::Note note = ChangeRing::Note::kNone;
  {
    OsLockGuard guard(shard->lock());
    status = shard->SetPlain<kLogged>(key, value, codec, expires_ms, hash, now);
    if constexpr (kLogged) note = shard->ring()->TakeNote();
  }
  Unlocked(shard->removal_sink());
  if constexpr (kLogged) Tell(note);
  return status;
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

namespace {

// The later holds of the lock of an append or prepend in steps. False: the value has changed meanwhile.
template <class Finish>
bool CopyConcat(Shard* shard, const Shard::ConcatSteps& steps, const Request& request, uint64_t hash, const Now& now,
                Outcome* outcome, Finish finish) {
  const bool append = request.verb == Verb::kAppend;
  const size_t old_at = append ? 0 : request.value.size();
  for (size_t at = 0; at < steps.old_bytes; at += kPieceBytes) {
    const size_t piece = std::min<size_t>(kPieceBytes, steps.old_bytes - at);
    OsLockGuard guard(shard->lock());
    if (!shard->CopyConcat(steps, request.key, hash, at, old_at + at, piece)) return false;
  }
  const size_t added_at = append ? steps.old_bytes : 0;
  for (size_t at = 0; at < request.value.size(); at += kPieceBytes) {
    OsLockGuard guard(shard->lock());
    shard->WriteBody(steps.slot, added_at + at, request.value.substr(at, kPieceBytes), Now{});
  }
  OsLockGuard guard(shard->lock());
  const bool done = shard->EndConcat(steps, request, hash, now, outcome);
  if (done) finish();
  return done;
}

}  // namespace

void Store::ExecuteConcat(const Request& request, const Now& now, Outcome* outcome) {
  const uint32_t index = ShardOf(request.key);
  Shard* shard = ShardAt(index);
  const uint64_t hash = shard->HashOf(request.key);
  auto note = ChangeRing::Note::kNone;
  const auto finish = [&] {
    if (!logged_) return;
    outcome->commit_version = shard->CommitVersionOf(*outcome);
    note = std::max(note, shard->ring()->TakeNote());
  };
  uint32_t room_steps = kRoomStepsMin + static_cast<uint32_t>(value_bytes_max() / 512);
  for (int tries = kConcatTries; tries >= 0; tries--) {
    Shard::ConcatSteps steps;
    do {
      steps = Shard::ConcatSteps{};
      steps.room_in_one = room_steps == 0 || --room_steps == 0;
      *outcome = Outcome{};
      outcome->pin.shard = index;
      OsLockGuard guard(shard->lock());
      shard->SettleTouches();
      shard->Concat(request, hash, now, outcome, tries > 0 ? &steps : nullptr);
      if (steps.slot == 0 && !steps.wants_room) finish();
    } while (steps.wants_room);
    if (steps.slot == 0 || CopyConcat(shard, steps, request, hash, now, outcome, finish)) break;
    OsLockGuard guard(shard->lock());
    shard->Abandon(steps.slot);
  }
  Unlocked(shard->removal_sink());
  Tell(note);
}

void Store::ExecuteMany(const Request* requests, size_t count, const Now& now, Scratch* scratch, Outcome* outcomes) {
  CheckClock(now);
  RemovalSink* sink = ShardAt(0)->removal_sink();
  // Shards in which a request could not be done, and why; keys of mutations that were refused, by hash.
  std::bitset<kShardCountMax> stuck;
  std::bitset<kShardCountMax> out_of_room;
  std::bitset<kRefusedKeysBits> refused_keys;
  auto note = ChangeRing::Note::kNone;
  for (size_t start = 0; start < count; start += kWindowRequests) {
    const size_t window = std::min(count - start, kWindowRequests);
    uint64_t hashes[kWindowRequests];
    uint8_t shard_of[kWindowRequests];
    uint16_t order[kWindowRequests];
    // A counting sort by shard: stable, so that requests for one key keep their order.
    uint16_t begin[kShardCountMax + 1];
    std::memset(begin, 0, (shard_count_ + 1) * sizeof begin[0]);
    for (size_t i = 0; i < window; i++) {
      const Request& request = requests[start + i];
      if (IsTimed(request) && !uses_time()) uses_time_.store(true, std::memory_order_relaxed);
      shard_of[i] = static_cast<uint8_t>(ShardOf(request.key));
      hashes[i] = ShardAt(0)->HashOf(request.key);  // keyed alike in every shard
      begin[shard_of[i] + 1]++;
    }
    for (uint32_t s = 0; s < shard_count_; s++) begin[s + 1] = static_cast<uint16_t>(begin[s + 1] + begin[s]);
    uint16_t next[kShardCountMax];
    std::memcpy(next, begin, shard_count_ * sizeof begin[0]);
    for (size_t i = 0; i < window; i++) order[next[shard_of[i]]++] = static_cast<uint16_t>(i);

    for (uint32_t s = 0; s < shard_count_; s++) {
      Shard* shard = ShardAt(s);
      for (size_t group = begin[s]; group < begin[s + 1]; group += kGroupRequests) {
        const size_t end = std::min<size_t>(group + kGroupRequests, begin[s + 1]);
        OsLockGuard guard(shard->lock());
        if (end - group > 1) {
          for (size_t k = group; k < end; k++) shard->PrefetchBucket(hashes[order[k]]);
          for (size_t k = group; k < end; k++) shard->PrefetchEntry(hashes[order[k]]);
          for (size_t k = group; k < end; k++) shard->PrefetchValue(hashes[order[k]]);
        }
        bool is_stuck = stuck[s];
        for (size_t k = group; k < end; k++) {
          const size_t i = order[k];
          Outcome* outcome = &outcomes[start + i];
          *outcome = Outcome{};
          if (is_stuck) [[unlikely]] {
            if (out_of_room[s]) {
              outcome->status = Status::kNeedsRoom;
              continue;
            }
            const size_t key_bit = hashes[i] % kRefusedKeysBits;
            if (!IsRead(requests[start + i].verb)) refused_keys[key_bit] = true;
            if (refused_keys[key_bit]) {
              outcome->status = Status::kLogFull;
              continue;
            }
          }
          shard->Execute(requests[start + i], hashes[i], now, scratch, false, outcome);
          if (outcome->status >= Status::kLogFull) [[unlikely]] {
            stuck[s] = is_stuck = true;
            if (outcome->status == Status::kLogFull) {
              refused_keys[hashes[i] % kRefusedKeysBits] = true;
            } else {
              out_of_room[s] = true;
            }
          }
        }
        if (logged_) [[unlikely]] {
          for (size_t k = group; k < end; k++) {
            Outcome* outcome = &outcomes[start + order[k]];
            outcome->commit_version = shard->CommitVersionOf(*outcome);
          }
          note = std::max(note, shard->ring()->TakeNote());
        }
      }
    }
    Unlocked(sink);
    Tell(note);
  }
}

void Store::ReadPinned(const Pin& pin, size_t offset, char* data, size_t bytes) const {
  ShardAt(pin.shard)->ReadPinned(pin, offset, data, bytes);
}

void Store::Unpin(const Pin& pin) {
  Shard* shard = ShardAt(pin.shard);
  OsLockGuard guard(shard->lock());
  shard->Unpin(pin.ref);
}

Status Store::Reserve(const Request& request, uint32_t value_bytes, const Now& now, Body* body) {
  CheckClock(now);
  if (IsTimed(request)) uses_time_.store(true, std::memory_order_relaxed);
  const uint32_t index = ShardOf(request.key);
  Shard* shard = ShardAt(index);
  const uint64_t hash = shard->HashOf(request.key);
  int slot = 0;
  Status status;
  // Room in steps, so that nobody waits while thousands of small entries leave for one large value. Others may take it
  // meanwhile; what is missing in the end is made in one go.
  for (uint32_t steps = kRoomStepsMin + value_bytes / 512; steps > 0; steps--) {
    OsLockGuard guard(shard->lock());
    if (!shard->MakeRoomStep(request, value_bytes, now)) break;
  }
  ChangeRing::Note note;
  uint32_t generation = 0;
  {
    OsLockGuard guard(shard->lock());
    status = shard->Reserve(request, hash, value_bytes, now, &slot);
    generation = shard->BodyGeneration(slot);
    note = shard->ring()->TakeNote();
  }
  if (status == Status::kStored) *body = Body{index, static_cast<uint32_t>(slot), value_bytes, generation};
  Unlocked(shard->removal_sink());
  Tell(note);
  return status;
}

bool Store::WriteBody(const Body& body, size_t offset, std::string_view bytes, const Now& now) {
  // Under the lock because a body may move, in pieces so that nobody waits long for it.
  Shard* shard = ShardAt(body.shard);
  const int slot = static_cast<int>(body.ref);
  while (!bytes.empty()) {
    const size_t piece = std::min(bytes.size(), kPieceBytes);
    OsLockGuard guard(shard->lock());
    if (shard->BodyGeneration(slot) != body.generation) return false;
    shard->WriteBody(slot, offset, bytes.substr(0, piece), now);
    offset += piece;
    bytes.remove_prefix(piece);
  }
  return true;
}

void Store::Link(Body* body, const Request& request, const Now& now, Outcome* outcome) {
  CheckClock(now);
  *outcome = Outcome{};
  Shard* shard = ShardAt(body->shard);
  const uint64_t hash = shard->HashOf(request.key);
  ChangeRing::Note note;
  {
    OsLockGuard guard(shard->lock());
    if (shard->BodyGeneration(static_cast<int>(body->ref)) == body->generation) {
      shard->Link(static_cast<int>(body->ref), request, hash, now, outcome);
    } else {
      outcome->status = Status::kNoMemory;
    }
    if (logged_) outcome->commit_version = shard->CommitVersionOf(*outcome);
    note = shard->ring()->TakeNote();
  }
  if (outcome->status != Status::kLogFull) *body = Body{};
  Unlocked(shard->removal_sink());
  Tell(note);
}

void Store::Abandon(Body* body) {
  Shard* shard = ShardAt(body->shard);
  {
    OsLockGuard guard(shard->lock());
    if (shard->BodyGeneration(static_cast<int>(body->ref)) == body->generation) {
      shard->Abandon(static_cast<int>(body->ref));
    }
  }
  *body = Body{};
}

// Holds the locks of all shards: what is done meanwhile happens at one moment for all of them. They are taken in the
// order of the shards, and only under clear_lock_. A thread that holds one shard's lock never waits for another's, so
// each of these waits ends with what one thread does under one lock.
class Store::AllShards {
 public:
  explicit AllShards(const Store* store) : store_(store) {
    for (uint32_t i = 0; i < store_->shard_count_; i++) store_->ShardAt(i)->lock()->Lock();
  }
  ~AllShards() {
    for (uint32_t i = 0; i < store_->shard_count_; i++) store_->ShardAt(i)->lock()->Unlock();
  }
  AllShards(const AllShards&) = delete;
  AllShards& operator=(const AllShards&) = delete;

  bool ReserveBarrier(Recorder::Barrier barrier) const {
    for (uint32_t i = 0; i < store_->shard_count_; i++) {
      if (!store_->ShardAt(i)->recorder()->ReserveBarrier(barrier)) return false;
    }
    return true;
  }
  // Later than every version that any shard has given.
  uint64_t NextVersion() const {
    uint64_t last = 0;
    for (uint32_t i = 0; i < store_->shard_count_; i++) {
      last = std::max(last, store_->ShardAt(i)->recorder()->last_version());
    }
    return last + 1;
  }
  // Nothing was done since the last clear.
  bool AreAsCleared() const {
    for (uint32_t i = 0; i < store_->shard_count_; i++) {
      if (!store_->ShardAt(i)->is_as_cleared()) return false;
    }
    return true;
  }
  ChangeRing::Note TakeNotes() const {
    auto note = ChangeRing::Note::kNone;
    for (uint32_t i = 0; i < store_->shard_count_; i++) note = std::max(note, store_->ShardAt(i)->ring()->TakeNote());
    return note;
  }

 private:
  const Store* const store_;
};

uint64_t Store::Clear(const Now&) {
  clear_lock_.Lock();
  const uint64_t version = ClearLocked(Recorder::Barrier::kRequested);
  clear_lock_.Unlock();
  Unlocked(ShardAt(0)->removal_sink());
  return version;
}

uint64_t Store::ClearLocked(Recorder::Barrier barrier) {
  uint64_t version;
  uint64_t entries = 0;
  auto note = ChangeRing::Note::kNone;
  {
    const AllShards all(this);
    if (all.AreAsCleared()) {
      // The clear before is this one too: nothing is left to be told. But what a load has begun to fetch since then may
      // be older than this one.
      version = ShardAt(0)->recorder()->last_version();
      for (uint32_t i = 0; i < shard_count_; i++) ShardAt(i)->VoidFills();
    } else {
      if (!all.ReserveBarrier(barrier)) return 0;
      version = all.NextVersion();
      for (uint32_t i = 0; i < shard_count_; i++) entries += ShardAt(i)->Clear(version);
      note = all.TakeNotes();
    }
  }
  RemovalSink* sink = ShardAt(0)->removal_sink();
  if (sink != nullptr && entries > 0 && sink->wanted(Reason::kCleared)) sink->OnCleared(entries);
  clears_.fetch_add(1, std::memory_order_relaxed);
  SetClearAt(0, version);
  Tell(note);
  return version;
}

bool Store::ScheduleClear(uint64_t at_ms, const Now& now, uint64_t* version) {
  // One whose time has come is not replaced any more.
  CheckClock(now);
  OsLockGuard guard(&clear_lock_);
  if (!ScheduleLocked(at_ms, now)) return false;
  *version = clear_at_version_;
  return true;
}

bool Store::ScheduleLocked(uint64_t at_ms, const Now& now) {
  uint64_t version = clear_at_version_;
  const bool is_none = clear_at_ms()->load(std::memory_order_relaxed) == ~uint64_t{0};
  if (logged_ && !(at_ms == 0 && is_none)) {
    const int64_t wall_ms = at_ms == 0 ? 0 : static_cast<int64_t>(at_ms) + now.WallOffset();
    auto note = ChangeRing::Note::kNone;
    {
      const AllShards all(this);
      if (!all.ReserveBarrier(Recorder::Barrier::kRequested)) return false;
      version = all.NextVersion();
      for (uint32_t i = 0; i < shard_count_; i++) {
        ShardAt(i)->recorder()->LeaveBarrier(RecordKind::kClearAt, version, wall_ms);
      }
      note = all.TakeNotes();
    }
    Tell(note);
  }
  SetClearAt(at_ms, version);
  return true;
}

void Store::SetClearAt(uint64_t at_ms, uint64_t version) {
  if (at_ms != 0) uses_time_.store(true, std::memory_order_relaxed);
  clear_at_version_ = version;
  clear_at_ms()->store(at_ms == 0 ? ~uint64_t{0} : at_ms, std::memory_order_relaxed);
}

bool Store::PendingClear(const Now& now, RecordView* record) {
  OsLockGuard guard(&clear_lock_);
  const uint64_t at_ms = clear_at_ms()->load(std::memory_order_relaxed);
  if (at_ms == ~uint64_t{0}) return false;
  *record = RecordView{};
  record->kind = RecordKind::kClearAt;
  record->version = clear_at_version_;
  record->expires_wall_ms = static_cast<int64_t>(at_ms) + now.WallOffset();
  return true;
}

void Store::RunScheduledClear(const Now& now) {
  if (is_recovering_.load(std::memory_order_relaxed)) return;
  clear_lock_.Lock();
  if (now.boot_ms >= clear_at_ms()->load(std::memory_order_relaxed)) ClearLocked(Recorder::Barrier::kDue);
  clear_lock_.Unlock();
  Unlocked(ShardAt(0)->removal_sink());
}

bool Store::CheckResize(uint64_t memory_bytes, std::string* error) const {
  if (memory_bytes == 0) return true;
  if (memory_bytes < kMemoryBytesMin || memory_bytes > options_.memory_bytes_ceiling) {
    *error = Expected("memory_bytes",
                      ("from 4194304 to the ceiling of " + std::to_string(options_.memory_bytes_ceiling)).c_str(),
                      memory_bytes);
    return false;
  }
  uint64_t limit = ~uint64_t{0};
  for (uint32_t i = 0; i < shard_count_; i++) {
    OsLockGuard guard(ShardAt(i)->lock());
    limit = std::min(limit, ShardAt(i)->LimitFor(memory_bytes / shard_count_));
  }
  if (value_bytes_max() > limit / 2) {
    *error = Expected("memory_bytes",
                      ("enough for values of " + std::to_string(value_bytes_max()) + " bytes in each of " +
                       std::to_string(shard_count_) + " shards")
                          .c_str(),
                      memory_bytes);
    return false;
  }
  if (!CommitFor(memory_bytes)) {
    *error = "Cannot commit " + std::to_string(memory_bytes) + " bytes of memory";
    return false;
  }
  return true;
}

bool Store::CommitFor(uint64_t memory_bytes) const {
  const uint64_t wanted = memory_bytes / shard_count_;
  for (uint32_t i = 0; wanted != 0 && i < shard_count_; i++) {
    const uint64_t header_bytes = ShardAt(i)->header_bytes();
    char* pages = base_ + uint64_t{i} * shard_stride_bytes_ + header_bytes;
    if (!OsCommit(pages, std::min(wanted, shard_stride_bytes_ - header_bytes))) return false;
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
      OsLockGuard shard_guard(shard->lock());
      if (!shard->ShrinkStep(&moved)) done = false;
      ahead = shard->growth()->Begin(now, Growth::Purpose::kShrink);
    }
    DoAhead(shard, ahead);
    if (ReturnPages(shard, true)) {
      done = false;
      moved = true;
    }
  }
  Unlocked(ShardAt(0)->removal_sink());
  if (held_up != nullptr) *held_up = !done && !moved;
  return done;
}

void Store::SetLimits(uint64_t memory_bytes, uint64_t entries_max) {
  OsLockGuard guard(&clear_lock_);
  if (memory_bytes != 0) memory_bytes_.store(memory_bytes, std::memory_order_relaxed);
  if (entries_max != 0) {
    entries_max_.store(entries_max >= kEntriesUnlimited ? 0 : entries_max, std::memory_order_relaxed);
  }
  const uint64_t quota = memory_bytes_.load(std::memory_order_relaxed) / shard_count_;
  const uint64_t entries_all = entries_max_.load(std::memory_order_relaxed);
  const uint64_t entries_limit = entries_all == 0 ? 0 : std::max(entries_all / shard_count_, uint64_t{1});
  for (uint32_t i = 0; i < shard_count_; i++) {
    OsLockGuard shard_guard(ShardAt(i)->lock());
    ShardAt(i)->SetLimits(quota, entries_limit);
  }
}

bool Store::ReturnPages(Shard* shard, bool shrinking) {
  if (!returns_pages_) return false;
  uint32_t pages[kReturnPagesMax];
  int count;
  {
    OsLockGuard guard(shard->lock());
    count = shard->BeginReturn(pages, kReturnPagesMax, shrinking);
  }
  if (count == 0) return false;
  for (int i = 0; i < count; i++) OsDiscard(shard->PageAddress(pages[i]), page_bytes_);
  OsLockGuard guard(shard->lock());
  shard->EndReturn(pages, count);
  return true;
}

bool Store::Maintain(const Now& now) {
  CheckClock(now);
  bool more = false;
  bool ahead = false;
  for (uint32_t i = 0; i < shard_count_; i++) {
    Shard* shard = ShardAt(i);
    shard->lock()->Lock();
    if (shard->MaintainStep(now)) more = true;
    const Growth::Step step = shard->growth()->Begin(now, Growth::Purpose::kUpkeep);
    if (shard->growth()->MayGiveBack()) ahead = true;
    // Upkeep takes the lock again and again; a caller who is being woken would find it taken each time.
    const bool somebody_waits = shard->lock()->UnlockAndTell();
    const uint32_t pauses = somebody_waits ? kUpkeepPauses : upkeep_pauses_.load(std::memory_order_relaxed);
    if (pauses != 0) {
      upkeep_pauses_.store(pauses - 1, std::memory_order_relaxed);
      OsSleepUs(kUpkeepPauseUs);
    }
    DoAhead(shard, step);
    if (ReturnPages(shard, false)) more = true;
  }
  is_ahead_.store(ahead, std::memory_order_relaxed);
  Unlocked(ShardAt(0)->removal_sink());
  return more;
}

void Store::OpenCursor(Cursor::Order order, Cursor* cursor) {
  cursor->order = order;
  cursor->shards_done = 0;
  cursor->next_shard = 0;
  cursor->shards = std::make_unique<Cursor::PerShard[]>(shard_count_);
}

void Store::StartWalk(uint32_t index, Cursor::Order order, Cursor::PerShard* walk) {
  Shard* shard = ShardAt(index);
  for (;;) {
    bool ready;
    uint32_t generation;
    {
      OsLockGuard guard(shard->lock());
      walk->slot = static_cast<int8_t>(shard->walks()->Open(order, &ready));
      generation = shard->walks()->GenerationOf(walk->slot);
      if (ready) {
        walk->generation = shard->walks()->Start(walk->slot, order);
        return;
      }
    }
    // An abandoned walk left marks behind: finish it, in steps, then start.
    for (;;) {
      OsLockGuard guard(shard->lock());
      if (!shard->walks()->IsCurrent(walk->slot, generation)) break;
      if (shard->walks()->Clean(walk->slot)) {
        walk->generation = shard->walks()->Start(walk->slot, order);
        return;
      }
    }
  }
}

size_t Store::StepCursor(Cursor* cursor, const Now& now, bool with_values, WalkedEntry* entries, size_t count,
                         Scratch* scratch, bool* done, size_t* bytes_needed) {
  CheckClock(now);
  *done = false;
  *bytes_needed = 0;
  while (cursor->shards_done < shard_count_) {
    const uint32_t index = cursor->next_shard;
    Cursor::PerShard* walk = &cursor->shards[index];
    if (walk->done) {
      cursor->next_shard = (index + 1) % shard_count_;
      continue;
    }
    Shard* shard = ShardAt(index);
    if (walk->slot < 0) StartWalk(index, cursor->order, walk);
    WalkStep step{.now = now,
                  .stale_is = cursor->accepts_stale ? StaleIs::kLive : StaleIs::kAbsent,
                  .with_values = with_values,
                  .entries = entries,
                  .count = count,
                  .scratch = scratch};
    bool current;
    {
      OsLockGuard guard(shard->lock());
      Walks* walks = shard->walks();
      current = walks->IsCurrent(walk->slot, walk->generation);
      if (current) {
        walks->Step(walk->slot, &step);
        if (step.done) walks->Close(walk->slot, walk->generation);
      }
    }
    walk->done = step.done;
    *bytes_needed = step.bytes_needed;
    const size_t emitted = step.emitted;
    if (!current) {
      // The slot went to another walk: this shard again from its beginning. What was emitted comes twice.
      walk->slot = -1;
      continue;
    }
    if (walk->done) cursor->shards_done++;
    if (emitted == 0 && *bytes_needed != 0) return 0;
    cursor->next_shard = (index + 1) % shard_count_;
    if (emitted > 0) return emitted;
  }
  *done = true;
  return 0;
}

void Store::CloseCursor(Cursor* cursor) {
  if (cursor->shards == nullptr) return;
  for (uint32_t i = 0; i < shard_count_; i++) {
    const Cursor::PerShard& walk = cursor->shards[i];
    if (walk.slot < 0 || walk.done) continue;
    OsLockGuard guard(ShardAt(i)->lock());
    ShardAt(i)->walks()->Close(walk.slot, walk.generation);
  }
  cursor->shards.reset();
  cursor->shards_done = shard_count_;
}

Status Store::Apply(const RecordView& record, const Now& now, bool keep_version) {
  if (record.kind == RecordKind::kClear) {
    clear_lock_.Lock();
    const Status status = ApplyClearLocked(record, keep_version);
    clear_lock_.Unlock();
    Unlocked(ShardAt(0)->removal_sink());
    return status;
  }
  if (record.kind == RecordKind::kClearAt) {
    OsLockGuard guard(&clear_lock_);
    return ApplyClearAtLocked(record, now, keep_version);
  }
  if (record.expires_wall_ms != 0) uses_time_.store(true, std::memory_order_relaxed);
  Shard* shard = ShardAt(ShardOf(record.key));
  const uint64_t hash = shard->HashOf(record.key);
  ChangeRing::Note note;
  Status status;
  {
    OsLockGuard guard(shard->lock());
    status = shard->Apply(record, hash, now, keep_version);
    note = shard->ring()->TakeNote();
  }
  Unlocked(shard->removal_sink());
  Tell(note);
  return status;
}

void Store::SetRecovering(bool recovering) {
  is_recovering_.store(recovering, std::memory_order_relaxed);
  for (uint32_t i = 0; i < shard_count_; i++) {
    OsLockGuard guard(ShardAt(i)->lock());
    ShardAt(i)->SetRecovering(recovering);
  }
}

void Store::Renumber() {
  uint64_t counters[kShardCountMax];
  OsRandom(counters, shard_count_ * sizeof counters[0]);
  OsLockGuard guard(&clear_lock_);
  clear_at_version_ = 1;  // a snapshot may say so again
  for (uint32_t i = 0; i < shard_count_; i++) {
    OsLockGuard shard_guard(ShardAt(i)->lock());
    ShardAt(i)->Renumber(counters[i] & (kVersionCounterMask >> 1));
  }
}

Status Store::ApplyClearLocked(const RecordView& record, bool keep_version) {
  if (keep_version) {
    uint64_t entries = 0;
    for (uint32_t i = 0; i < shard_count_; i++) {
      OsLockGuard shard_guard(ShardAt(i)->lock());
      entries += ShardAt(i)->ApplyClear(record.version);
    }
    RemovalSink* sink = ShardAt(0)->removal_sink();
    if (sink != nullptr && entries > 0 && sink->wanted(Reason::kCleared)) sink->OnCleared(entries);
    if (record.version > clear_at_version_) SetClearAt(0, record.version);
    clears_.fetch_add(1, std::memory_order_relaxed);
    return Status::kStored;
  }
  return ClearLocked(Recorder::Barrier::kRequested) == 0 ? Status::kLogFull : Status::kStored;
}

Status Store::ApplyClearAtLocked(const RecordView& record, const Now& now, bool keep_version) {
  const int64_t wall_ms = record.expires_wall_ms;
  const uint64_t at_ms =
      wall_ms == 0 ? 0 : static_cast<uint64_t>(std::max<int64_t>(wall_ms - now.WallOffset(), kAlreadyExpired));
  if (!keep_version) return ScheduleLocked(at_ms, now) ? Status::kStored : Status::kLogFull;
  if (record.version <= clear_at_version_) return Status::kNotStored;
  {
    OsLockGuard guard(ShardAt(0)->lock());
    ShardAt(0)->recorder()->NoteVersion(record.version);
  }
  SetClearAt(at_ms, record.version);
  return Status::kStored;
}

bool Store::BeginFill(std::string_view key, bool if_absent, const Now& now, FillTicket* ticket) {
  CheckClock(now);
  Shard* shard = ShardAt(ShardOf(key));
  const uint64_t hash = shard->HashOf(key);
  bool began;
  {
    OsLockGuard guard(shard->lock());
    began = shard->BeginFill(key, hash, if_absent, now, ticket);
  }
  Unlocked(shard->removal_sink());
  return began;
}

void Store::EndFill(std::string_view key, FillTicket* ticket) {
  Shard* shard = ShardAt(ShardOf(key));
  OsLockGuard guard(shard->lock());
  shard->EndFill(ticket);
}

// ---- change rings ----

RingDrain Store::DrainRing(uint32_t index, char* out, size_t capacity) {
  Shard* shard = ShardAt(index);
  ChangeRing* ring = shard->ring();
  ChangeRing::View view;
  uint64_t last_version;
  {
    OsLockGuard guard(shard->lock());
    view = ring->view();
    last_version = shard->recorder()->last_version();
  }
  RingDrain drain;
  drain.version = last_version;
  drain.place.position = view.from;
  if (view.from != view.to) {
    const ChangeRing::Collected collected =
        ring->Collect(&view, out, capacity,
                      [shard](const Pin& pin, char* data, size_t bytes) { shard->ReadPinned(pin, 0, data, bytes); });
    drain.bytes = collected.bytes;
    drain.record_count = collected.count;
    drain.bytes_needed = collected.bytes_needed;
    if (view.from != view.to) drain.version = collected.version;
    if (collected.bytes != 0) {
      OsLockGuard guard(shard->lock());
      ring->Advance(view.from);
      drain.place.position = view.from;
    }
  }
  return drain;
}

void Store::CommitRing(uint32_t index, const RingPlace& place) {
  Shard* shard = ShardAt(index);
  for (bool more = true; more;) {
    OsLockGuard guard(shard->lock());
    more = shard->CommitRingStep(place.position);
  }
}

void Store::CommitRing(uint32_t index) {
  RingPlace place;
  {
    OsLockGuard guard(ShardAt(index)->lock());
    place.position = ShardAt(index)->ring()->view().from;
  }
  CommitRing(index, place);
}

void Store::RewindRing(uint32_t index) {
  Shard* shard = ShardAt(index);
  OsLockGuard guard(shard->lock());
  shard->ring()->Rewind();
}

RingStats Store::RingStatsOf(uint32_t index) const {
  if (!has_rings()) return {};
  Shard* shard = ShardAt(index);
  OsLockGuard guard(shard->lock());
  const ChangeRing* ring = shard->ring();
  return {ring->fill_bytes(), ring->capacity(), ring->records()};
}

uint64_t Store::LastVersion(uint32_t index) const {
  Shard* shard = ShardAt(index);
  OsLockGuard guard(shard->lock());
  return shard->recorder()->last_version();
}

void Store::StartEpoch(uint32_t epoch) {
  uint64_t counters[kShardCountMax];
  OsRandom(counters, shard_count_ * sizeof counters[0]);
  OsLockGuard guard(&clear_lock_);
  for (uint32_t i = 0; i < shard_count_; i++) {
    OsLockGuard shard_guard(ShardAt(i)->lock());
    // The lower half: as many are left as were skipped.
    ShardAt(i)->recorder()->NoteVersion(VersionOf(epoch, counters[i] & (kVersionCounterMask >> 1)));
  }
}

void Store::Tell(ChangeRing::Note note) {
  if (note == ChangeRing::Note::kNone) [[likely]]
    return;
  ChangeBell* bell = bell_.load(std::memory_order_acquire);
  if (bell == nullptr) return;
  if (note == ChangeRing::Note::kFull || bell->wanted.load(std::memory_order_seq_cst) != 0) bell->Ring();
}

StoreStats Store::ShardStats(uint32_t index) const {
  Shard* shard = ShardAt(index);
  OsLockGuard guard(shard->lock());
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
    OsLockGuard guard(ShardAt(i)->lock());
    ShardAt(i)->ResetStats();
  }
}

uint64_t Store::entries() const {
  uint64_t count = 0;
  for (uint32_t i = 0; i < shard_count_; i++) {
    OsLockGuard guard(ShardAt(i)->lock());
    count += ShardAt(i)->live_entries();
  }
  return count;
}

void Store::KeepRecords() {
  if (logged_) return;
  logged_clear_at_ms_.store(attention_at_ms_.exchange(0, std::memory_order_relaxed), std::memory_order_relaxed);
  logged_ = true;
}

void Store::SetRemovalSink(RemovalSink* sink) {
  for (uint32_t i = 0; i < shard_count_; i++) ShardAt(i)->SetRemovalSink(sink);
}

void Store::Verify() const {
  for (uint32_t i = 0; i < shard_count_; i++) {
    OsLockGuard guard(ShardAt(i)->lock());
    ShardAt(i)->Verify();
  }
}

}  // namespace cairn
