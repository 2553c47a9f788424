// Store: opening and its end. Options are resolved, the number of shards is chosen, memory is mapped, shards are made.
#include <algorithm>
#include <bit>
#include <new>

#include "store/store_inl.h"

namespace cairn {

namespace {

// Large pages pay off for a shard that fills several of them; for a small one the last, half-filled one weighs too
// much.
constexpr uint64_t kHugePagesFromQuotaBytes = 4 * kLargePageBytes;
// Of the mapping, given back at a time by the destructor.
constexpr uint64_t kReleaseStepBytes = uint64_t{32} << 20;
// The largest value, where none is given and memory is small.
constexpr uint64_t kValueBytesMaxSmall = uint64_t{1} << 20;
// The highest ceiling of a shard that is chosen where references would not reach all of the mapping.
constexpr uint64_t kShardCeilingBytesMax = kShardBytesMax / 2;

uint64_t RoundUpToLargePage(uint64_t bytes) { return (bytes + kLargePageBytes - 1) & ~(kLargePageBytes - 1); }

uint64_t ChoosePageBytes(uint64_t quota_bytes) {
  return std::clamp(std::bit_floor(quota_bytes / kPagesPerShard), kPageBytesMin, kPageBytesMax);
}

uint64_t ValueBytesMaxOf(const StoreOptions& options) {
  return options.ring_bytes == 0 ? kValueBytesMax : kLoggedValueBytesMax;
}

Refusal OutOfRange(Refusal::Option option, uint64_t min, uint64_t max, uint64_t value) {
  return {.rule = Refusal::Rule::kRange, .option = option, .min = min, .max = max, .value = value};
}

// 0: one is chosen.
bool IsPowerOfTwoUpTo(uint64_t value, uint64_t min, uint64_t max) {
  return value == 0 || (std::has_single_bit(value) && value >= min && value <= max);
}

Refusal NoPowerOfTwo(Refusal::Option option, uint64_t min, uint64_t max, uint64_t value) {
  return {.rule = Refusal::Rule::kPowerOfTwo, .option = option, .min = min, .max = max, .value = value};
}

// Whether each option is one that can be.
Refusal CheckOptions(const StoreOptions& options) {
  using Option = Refusal::Option;
  const uint64_t memory_bytes = options.memory_bytes;
  if (memory_bytes < kMemoryBytesMin) {
    return OutOfRange(Option::kMemoryBytes, kMemoryBytesMin, Refusal::kNoMax, memory_bytes);
  }
  if (options.memory_bytes_ceiling < memory_bytes) {
    return OutOfRange(Option::kMemoryBytesCeiling, memory_bytes, Refusal::kNoMax, options.memory_bytes_ceiling);
  }
  if (!IsPowerOfTwoUpTo(options.shard_count, 1, kShardCountMax)) {
    return NoPowerOfTwo(Option::kShardCount, 1, kShardCountMax, options.shard_count);
  }
  if (!IsPowerOfTwoUpTo(options.page_bytes, kPageBytesMin, kPageBytesMax)) {
    return NoPowerOfTwo(Option::kPageBytes, kPageBytesMin, kPageBytesMax, options.page_bytes);
  }
  if (options.ring_bytes > memory_bytes / kRingShareMax) {
    return OutOfRange(Option::kRingBytes, 0, memory_bytes / kRingShareMax, options.ring_bytes);
  }
  if (options.value_bytes_max > ValueBytesMaxOf(options)) {
    return OutOfRange(Option::kValueBytesMax, 0, ValueBytesMaxOf(options), options.value_bytes_max);
  }
  if (options.epoch == 0) return OutOfRange(Option::kEpoch, 1, ~uint32_t{0}, options.epoch);
  return {};
}

// As many shards as the cores can use, or fewer, so that each is large enough; but not fewer than the options ask for.
uint32_t ChooseShardCount(const StoreOptions& options) {
  uint32_t shards = std::min(std::bit_floor(std::max(kShardsPerProcessor * OsCpuCount(), 1u)), kShardCountMax);
  shards = std::max(shards, options.shard_count_min);
  const uint64_t quota_min = std::max(kShardQuotaBytesMin, kValuesPerShardMin * options.value_bytes_max);
  const auto is_too_many = [&] {
    return options.memory_bytes / shards < quota_min ||
           (options.entries_max != 0 && options.entries_max / shards < kShardEntriesMin);
  };
  while (shards > options.shard_count_min && is_too_many()) shards /= 2;
  return shards;
}

// Has the ceiling of a shard be within reach of a reference: with more shards, or a lower ceiling, where `given` leaves
// the choice.
Refusal FitShards(const StoreOptions& given, StoreOptions* options) {
  // What lies before the pages takes up to 1/128 as much again, and has to be within reach of a reference too.
  const uint64_t mapped_bytes = options->memory_bytes_ceiling + options->ring_bytes;
  if (mapped_bytes / options->shard_count <= kShardBytesMax - kShardBytesMax / 64) return {};
  const auto ceiling = [options] { return options->memory_bytes_ceiling / options->shard_count; };
  while (given.shard_count == 0 && options->shard_count < kShardCountMax && ceiling() > kShardCeilingBytesMax) {
    options->shard_count *= 2;
  }
  if (ceiling() <= kShardCeilingBytesMax) return {};
  if (given.memory_bytes_ceiling != 0 || options->memory_bytes / options->shard_count > kShardCeilingBytesMax) {
    const bool is_ceiling = given.memory_bytes_ceiling != 0;
    return {.rule = Refusal::Rule::kShardShare,
            .option = is_ceiling ? Refusal::Option::kMemoryBytesCeiling : Refusal::Option::kMemoryBytes,
            .max = kShardCeilingBytesMax,
            .value = is_ceiling ? given.memory_bytes_ceiling : given.memory_bytes,
            .shard_count = options->shard_count};
  }
  options->memory_bytes_ceiling = kShardCeilingBytesMax * options->shard_count;
  return {};
}

// Fills in what is not given. FitValueBytesMax() may lower value_bytes_max later, to what a shard can hold.
Refusal ResolveOptions(const StoreOptions& given, StoreOptions* options) {
  *options = given;
  if (options->memory_bytes_ceiling == 0) options->memory_bytes_ceiling = options->memory_bytes * 4;
  Refusal refusal = CheckOptions(*options);
  if (!refusal.is_none()) return refusal;
  if (options->value_bytes_max == 0) {
    options->value_bytes_max = std::clamp(options->memory_bytes / 1024, kValueBytesMaxSmall, ValueBytesMaxOf(*options));
  }
  if (options->shard_count == 0) options->shard_count = ChooseShardCount(*options);
  refusal = FitShards(given, options);
  if (options->page_bytes == 0) options->page_bytes = ChoosePageBytes(options->memory_bytes / options->shard_count);
  if (options->system_page_bytes == 0) options->system_page_bytes = OsPageBytes();
  if (options->secrets.IsZero()) options->secrets = DrawHashSecrets();
  return refusal;
}

}  // namespace

std::unique_ptr<Store> Store::Open(const StoreOptions& given, Refusal* refusal) {
  StoreOptions options;
  *refusal = ResolveOptions(given, &options);
  if (!refusal->is_none()) return nullptr;
  std::unique_ptr<Store> store(new Store(options, given.value_bytes_max != 0));
  *refusal = store->Map();
  if (refusal->is_none()) *refusal = store->MakeShards();
  if (refusal->is_none()) *refusal = store->FitValueBytesMax();
  return refusal->is_none() ? std::move(store) : nullptr;
}

Store::Store(const StoreOptions& options, bool value_bytes_are_given)
    : options_(options),
      page_bytes_(options.page_bytes),
      returns_pages_(options.page_bytes >= options.system_page_bytes),
      shard_shift_(32 - std::countr_zero(options.shard_count)),
      value_bytes_are_given_(value_bytes_are_given),
      value_bytes_max_(options.value_bytes_max),
      uses_time_(options.track_access),
      memory_bytes_(options.memory_bytes),
      entries_max_(options.entries_max),
      backends_(options.backend_count, options.backend_routes, options.shard_count),
      classes_(std::make_unique<SizeClasses>(options.page_bytes)) {
  if (options.ring_bytes == 0) return;
  ring_bytes_ = std::max(std::bit_floor(options.ring_bytes / options.shard_count), kRingBytesMin);
  KeepRecords();
}

void Store::KeepRecords() {
  if (logged_) return;
  logged_clear_at_ms_.store(attention_at_ms_.exchange(0, std::memory_order_relaxed), std::memory_order_relaxed);
  logged_ = true;
  uint64_t first_id;
  OsRandom(&first_id, sizeof first_id);
  atomic_ids_.store(first_id, std::memory_order_relaxed);
}

Refusal Store::Map() {
  const uint64_t pages_bytes = uint64_t{PagesCeiling()} * page_bytes_;
  shard_stride_bytes_ = RoundUpToLargePage(ShardHeaderBytes() + pages_bytes);
  mapping_bytes_ = shard_stride_bytes_ * options_.shard_count + kLargePageBytes;
  mapping_ = OsReserve(mapping_bytes_);
  if (mapping_ == nullptr) return {.rule = Refusal::Rule::kAddressSpace, .value = mapping_bytes_};
  base_ = reinterpret_cast<char*>(RoundUpToLargePage(reinterpret_cast<uintptr_t>(mapping_)));
  const uint64_t quota = options_.memory_bytes / options_.shard_count;
  for (uint32_t i = 0; i < options_.shard_count; i++) {
    if (!OsCommit(BaseOf(i), ShardHeaderBytes() + std::min(pages_bytes, quota))) {
      return {.rule = Refusal::Rule::kMemory, .value = quota};
    }
  }
  return {};
}

Refusal Store::MakeShards() {
  const uint64_t quota = options_.memory_bytes / options_.shard_count;
  const uint64_t entries_limit =
      options_.entries_max == 0 ? 0 : std::max(options_.entries_max / options_.shard_count, uint64_t{1});
  // Only what lies within the quota as a whole: rounding up must not take memory beyond the limit.
  const uint64_t large_bytes = quota >= kHugePagesFromQuotaBytes ? quota & ~(kLargePageBytes - 1) : 0;
  shards_ = std::make_unique<char[]>(sizeof(Shard) * options_.shard_count);
  for (uint32_t i = 0; i < options_.shard_count; i++) {
    if (large_bytes != 0) OsAdviseHugePages(BaseOf(i), large_bytes);
    const ShardConfig config{.index = i,
                             .hash = options_.hash,
                             .secrets = options_.secrets,
                             .track_access = options_.track_access,
                             .classes = classes_.get(),
                             .header_bytes = ShardHeaderBytes(),
                             .ring_bytes = ring_bytes_,
                             .pages_ceiling = PagesCeiling(),
                             .large_bytes = large_bytes,
                             .backends = options_.has_backend ? &backends_ : nullptr};
    auto* shard = new (ShardAt(i)) Shard(BaseOf(i), config);
    shard_count_ = i + 1;
    const ShardGuard guard(shard);
    if (!shard->Init(quota, entries_limit, options_.epoch)) {
      return {.rule = Refusal::Rule::kShardShare,
              .min = kMemoryBytesMin,
              .value = options_.memory_bytes,
              .shard_count = options_.shard_count};
    }
  }
  return {};
}

Refusal Store::FitValueBytesMax() {
  Shard* first = ShardAt(0);
  uint64_t half;
  {
    const ShardGuard guard(first);
    half = first->room()->LimitFor(options_.memory_bytes / shard_count_) / 2;
  }
  if (options_.value_bytes_max > half) {
    if (value_bytes_are_given_ || options_.value_bytes_max != kValueBytesMaxSmall) {
      return {.rule = Refusal::Rule::kShardCapacity,
              .option = Refusal::Option::kValueBytesMax,
              .max = half,
              .value = options_.value_bytes_max,
              .shard_count = shard_count_};
    }
    options_.value_bytes_max = half;
    value_bytes_max_.store(half, std::memory_order_relaxed);
  }
  for (uint32_t i = 0; i < shard_count_; i++) {
    Shard* shard = ShardAt(i);
    const ShardGuard guard(shard);
    shard->SetValueBytesMax(options_.value_bytes_max);
  }
  return {};
}

uint32_t Store::PagesCeiling() const {
  return static_cast<uint32_t>(options_.memory_bytes_ceiling / options_.shard_count / page_bytes_);
}

uint64_t Store::ShardHeaderBytes() const { return ShardState::HeaderBytes(PagesCeiling(), page_bytes_) + ring_bytes_; }

Store::~Store() {
  for (uint32_t i = 0; i < shard_count_; i++) ShardAt(i)->~Shard();
  if (mapping_ == nullptr) return;
  // In steps, because giving back gigabytes in one call holds up every other thread that maps memory meanwhile.
  for (uint64_t at = 0; at < mapping_bytes_; at += kReleaseStepBytes) {
    OsDecommit(static_cast<char*>(mapping_) + at, std::min(kReleaseStepBytes, mapping_bytes_ - at));
  }
  OsRelease(mapping_, mapping_bytes_);
}

}  // namespace cairn
