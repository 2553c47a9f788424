#include "model/ops.h"

#include <algorithm>
#include <iterator>

#include "model/words.h"
#include "support/store_fixture.h"

namespace cairn::model {

namespace {

const char* const kOpNames[] = {"request",    "many",       "reserve",     "writeBody",     "link",   "abandon",
                                "readPin",    "unpin",      "clear",       "scheduleClear", "resize", "resizeStep",
                                "openCursor", "stepCursor", "closeCursor", "maintain",      "time",   "wallJump",
                                "apply",      "beginFill",  "endFill",     "resetStats",    "drain",  "commit",
                                "rewind",     "renumber",   "serve"};
static_assert(std::size(kOpNames) == kOpKindCount);

}  // namespace

uint64_t Mix(uint64_t a, uint64_t b) { return test::Random(a * 0x9e3779b97f4a7c15u + b).Next(); }

std::string Describe(const Op& op) {
  std::string text = kOpNames[static_cast<int>(op.kind)];
  if (op.kind == OpKind::kRequest || op.kind == OpKind::kReserve) text += std::string(" ") + NameOf(op.verb);
  text += Format(" key=%u bytes=%u number=%u ttl=%u codec=%u", op.key, op.bytes, op.number, op.ttl, op.codec);
  const char* const names[] = {"compare", "compareWrong", "noBump", "noValue", "initial", "pad",   "decimal",
                               "flags",   "small",        "none",   "fill",    "text",    "fresh", "stale"};
  for (size_t bit = 0; bit < std::size(names); ++bit) {
    if (op.options >> bit & 1) text += std::string(" ") + names[bit];
  }
  return text;
}

Life DrawLife(const std::string& arena, uint64_t seed) {
  test::Random random(Mix(seed, 1));
  Life life;
  life.seed = seed;
  StoreOptions& options = life.options;
  options.memory_bytes = kMemoryBytesMin;
  options.memory_bytes_ceiling = 4 * kMemoryBytesMin;
  options.shard_count = 1;
  options.page_bytes = kPageBytesMin;
  options.secrets = FixedSecrets(Mix(seed, 2));
  options.epoch = static_cast<uint32_t>(random.OneIn(12) ? kEpochMax - 4 - random.Below(4) : random.Between(1, 40));
  options.track_access = random.OneIn(4);
  life.counters_run_over = Mix(seed, 3) % 6 == 0;
  options.hash = random.OneIn(4) ? HashKind::kSipHash : HashKind::kFast;
  // A full ring refuses most changes: half the lives have none, and come further.
  life.records = random.OneIn(2);
  life.recovers = life.records && random.OneIn(2);
  static constexpr uint32_t kQuiet[] = {1, 1, 10, 200};
  life.quiet = kQuiet[random.Below(4)];
  static constexpr uint32_t kTtlShares[] = {2, 2, 30, 1000};
  life.ttl_share = kTtlShares[random.Below(life.recovers ? 3 : 4)];
  life.hold = random.OneIn(3) ? 8 : 1;
  if (arena == "tiny") {
    // Few keys, values of all sizes to 64 KiB: everything happens within a few hundred operations.
    life.key_count = static_cast<uint32_t>(random.Between(20, 400));
    life.size_mode = random.OneIn(4) ? 6 : static_cast<int>(random.Below(3));
  } else if (arena == "small") {
    // Many keys with small values: the table grows and shrinks, classes take pages from one another.
    life.key_count = static_cast<uint32_t>(random.Between(5000, 60'000));
    life.size_mode = random.OneIn(3) ? 3 : 5;
    life.long_keys = 0;
    life.verify_every = 256;
  } else if (arena == "counted") {
    options.entries_max = random.Between(1, 200);
    life.key_count = static_cast<uint32_t>(random.Between(4, 400));
    life.size_mode = static_cast<int>(random.Between(1, 3));
  } else if (arena == "sharded") {
    options.shard_count = uint32_t{2} << random.Below(3);
    options.memory_bytes = options.shard_count * kMemoryBytesMin;
    options.memory_bytes_ceiling = 2 * options.memory_bytes;
    if (random.OneIn(3)) options.entries_max = random.Between(10, 1000);
    life.key_count = static_cast<uint32_t>(random.Between(50, 2000));
    life.size_mode = static_cast<int>(random.Below(4));
    life.verify_every = 16;
  } else if (arena == "long") {
    life.key_count = static_cast<uint32_t>(random.Between(20, 200));
    life.long_keys = 2;
    life.size_mode = static_cast<int>(random.Below(4));
  } else if (arena == "large") {
    // Mostly small, and with a ring: what its records hold then leaves no room for the largest values.
    options.memory_bytes = (random.OneIn(3) ? random.Between(4, 8) : 4) << 20;
    if (random.OneIn(2)) life.records = true;
    options.page_bytes = kPageBytesMin << random.Below(3);
    life.key_count = static_cast<uint32_t>(random.Between(4, 100));
    life.size_mode = 4;
    if (random.OneIn(2)) life.hold = 30;
  } else if (arena == "pages") {
    // Pages so large that values above the copy limit lie in one piece, beside others: pins hold pages of many entries.
    options.page_bytes = 64 * 1024;
    options.memory_bytes = random.Between(8, 12) << 20;
    options.memory_bytes_ceiling = 4 * options.memory_bytes;
    life.key_count = static_cast<uint32_t>(random.Between(50, 2000));
    life.size_mode = 7;
    if (random.OneIn(2)) life.hold = 8;
    life.verify_every = 8;
  } else if (arena == "drift") {
    // Full of entries whose sizes drift: pages change hands between the classes, and what survives is moved together.
    life.size_mode = random.OneIn(4) ? 6 : 5;
    life.key_count =
        static_cast<uint32_t>(life.size_mode == 6 ? random.Between(500, 5000) : random.Between(8000, 30'000));
    life.long_keys = 0;
    life.quiet = 200;
    life.ttl_share = 30;
    life.many = 20;
    life.verify_every = 32;
  } else {
    life.colliding_keys = true;
    options.hash = HashKind::kFast;
    options.secrets = FixedSecrets(seed % 3);
    life.key_count = static_cast<uint32_t>(random.Between(200, 800));
    life.long_keys = 0;
    life.size_mode = static_cast<int>(random.Between(1, 3));
  }
  if (arena != "large" && random.OneIn(3)) options.value_bytes_max = random.Between(100, 70'000);
  if (life.records) {
    // Beside few large pages the reserve for pins would leave little.
    if (arena == "pages") options.memory_bytes += uint64_t{8} << 20;
    if (arena == "pages") options.memory_bytes_ceiling = 4 * options.memory_bytes;
    // Mostly small, so that they are full often.
    options.ring_bytes = random.OneIn(2) ? 1 : random.Between(1, options.memory_bytes / kRingShareMax);
    // Beside the largest ring the smallest memory has no room for the largest values.
    if (options.value_bytes_max == 0 && arena != "large") options.value_bytes_max = 200'000;
  }
  return life;
}

Generator::Generator(const Life& life, uint64_t seed) : life_(life), random_(Mix(seed, 3)) {}

uint32_t Generator::DrawBytes() {
  switch (life_.size_mode) {
    case 0:
      return static_cast<uint32_t>(random_.Below(65'537));
    case 1:
      return static_cast<uint32_t>(random_.Below(uint64_t{1} << random_.Between(1, 16)));
    case 2:
      // Around the edges of classes, chunks and pages.
      return static_cast<uint32_t>((random_.Below(40) * uint64_t{1} << random_.Below(11)) + random_.Below(64));
    case 3:
      return static_cast<uint32_t>(random_.OneIn(200) ? random_.Below(20'000)
                                                      : random_.Below(uint64_t{1} << random_.Between(1, 9)));
    case 4:
      return static_cast<uint32_t>(random_.Below(uint64_t{1} << random_.Between(10, 21)));
    case 7:
      return static_cast<uint32_t>(random_.OneIn(8) ? random_.Below(40'000) : random_.Between(3500, 9000));
    default:
      // Sizes that drift, so that classes have to give pages to one another; up to 500 bytes, or up to 32 KiB.
      if (random_.OneIn(1500)) {
        band_low_ =
            static_cast<uint32_t>(random_.Below(uint64_t{1} << random_.Between(2, life_.size_mode == 5 ? 9 : 15)));
        band_high_ = band_low_ + static_cast<uint32_t>(random_.Between(1, band_low_ / 4 + 8));
      }
      return static_cast<uint32_t>(random_.OneIn(50) ? random_.Below(4000) : random_.Between(band_low_, band_high_));
  }
}

Op Generator::Next() {
  static constexpr struct {
    OpKind kind;
    int weight;
  } kWeights[] = {
      {OpKind::kRequest, 720},  {OpKind::kMany, 30},         {OpKind::kReserve, 25},    {OpKind::kWriteBody, 15},
      {OpKind::kLink, 20},      {OpKind::kAbandon, 4},       {OpKind::kReadPin, 8},     {OpKind::kUnpin, 40},
      {OpKind::kClear, 1},      {OpKind::kScheduleClear, 1}, {OpKind::kResize, 2},      {OpKind::kResizeStep, 10},
      {OpKind::kOpenCursor, 5}, {OpKind::kStepCursor, 40},   {OpKind::kCloseCursor, 2}, {OpKind::kMaintain, 25},
      {OpKind::kTime, 40},      {OpKind::kWallJump, 1},      {OpKind::kApply, 15},      {OpKind::kBeginFill, 8},
      {OpKind::kEndFill, 8},    {OpKind::kResetStats, 1},    {OpKind::kDrain, 60},      {OpKind::kCommit, 30},
      {OpKind::kRewind, 4},     {OpKind::kRenumber, 8},      {OpKind::kServe, 1},
  };
  static constexpr Verb kVerbs[] = {
      Verb::kGet,         Verb::kGet,         Verb::kGet,    Verb::kGet,     Verb::kGet,    Verb::kPeek,
      Verb::kHas,         Verb::kSet,         Verb::kSet,    Verb::kSet,     Verb::kSet,    Verb::kSet,
      Verb::kSet,         Verb::kAdd,         Verb::kAdd,    Verb::kReplace, Verb::kAppend, Verb::kAppend,
      Verb::kPrepend,     Verb::kCas,         Verb::kIncr,   Verb::kDecr,    Verb::kTouch,  Verb::kTouch,
      Verb::kGetAndTouch, Verb::kGetAndTouch, Verb::kDelete, Verb::kTake,    Verb::kEvict,
  };
  int total = 0;
  for (const auto& weight : kWeights) total += weight.weight;
  Op op;
  int at = static_cast<int>(random_.Below(static_cast<uint64_t>(total)));
  for (const auto& weight : kWeights) {
    op.kind = weight.kind;
    at -= weight.weight;
    if (at < 0) break;
  }
  const bool upkeep = op.kind == OpKind::kMaintain || op.kind == OpKind::kTime || op.kind == OpKind::kClear ||
                      op.kind == OpKind::kScheduleClear || op.kind == OpKind::kResize;
  if (upkeep && !random_.OneIn(life_.quiet)) op.kind = OpKind::kRequest;
  // A clear of a cleared store is a separate case.
  if (last_kind_ == OpKind::kClear && random_.OneIn(2)) op.kind = OpKind::kClear;
  last_kind_ = op.kind;
  const bool of_rings = op.kind == OpKind::kDrain || op.kind == OpKind::kCommit || op.kind == OpKind::kRewind;
  if (of_rings && life_.options.ring_bytes == 0) op.kind = OpKind::kRequest;
  const bool of_recovery = op.kind == OpKind::kRenumber || op.kind == OpKind::kServe;
  if (of_recovery && !life_.recovers) op.kind = OpKind::kRequest;
  if (op.kind == OpKind::kOpenCursor && !random_.OneIn(life_.key_count / 2000 + 1)) op.kind = OpKind::kRequest;
  if (op.kind == OpKind::kRequest && life_.many > 1 && random_.OneIn(3)) op.kind = OpKind::kMany;
  const bool gives_up = op.kind == OpKind::kUnpin || op.kind == OpKind::kLink || op.kind == OpKind::kAbandon;
  if (gives_up && !random_.OneIn(life_.hold)) op.kind = OpKind::kRequest;
  op.verb = kVerbs[random_.Below(std::size(kVerbs))];
  // Now and then the same verb many times: the store fills, or empties.
  if (burst_left_ > 0) {
    --burst_left_;
    if (op.kind == OpKind::kRequest) op.verb = burst_verb_;
  } else if (random_.OneIn(400)) {
    burst_left_ = static_cast<uint32_t>(random_.Below(life_.key_count * 2));
    burst_verb_ = random_.OneIn(2)   ? Verb::kSet
                  : random_.OneIn(2) ? Verb::kDelete
                                     : kVerbs[random_.Below(std::size(kVerbs))];
  }
  if (op.kind == OpKind::kMany && life_.many > 1 && !random_.OneIn(3))
    op.verb = random_.OneIn(4) ? Verb::kGet : Verb::kSet;
  op.key =
      static_cast<uint16_t>(random_.OneIn(3) ? random_.Below(life_.key_count / 8 + 1) : random_.Below(life_.key_count));
  op.bytes = DrawBytes();
  op.number = static_cast<uint32_t>(random_.Next());
  op.ttl = static_cast<uint8_t>(op.kind == OpKind::kTime || random_.OneIn(life_.ttl_share) ? random_.Below(256) : 0);
  op.codec = static_cast<uint8_t>(random_.OneIn(3) ? random_.Below(kCodecCount) : 0);
  const auto maybe = [&](uint16_t option, uint64_t n) {
    if (random_.OneIn(n)) op.options |= option;
  };
  maybe(kOptCompareRight, 10);
  maybe(kOptCompareWrong, 20);
  maybe(kOptNoBump, 8);
  maybe(kOptNoValue, 12);
  maybe(kOptInitial, 2);
  maybe(kOptPad, 2);
  maybe(kOptDecimal, op.verb == Verb::kSet ? 5 : 50);
  maybe(kOptClientFlags, 3);
  maybe(kOptSmallScratch, 8);
  maybe(kOptNoScratch, 16);
  maybe(kOptFill, 6);
  maybe(kOptText, 3);
  if (Mix(op.number, 4) % (2 * life_.ttl_share) == 0) op.options |= kOptFresh;
  if (Mix(op.number, 5) % 3 == 0) op.options |= kOptStale;
  if ((op.verb == Verb::kAppend || op.verb == Verb::kPrepend) && !random_.OneIn(4)) op.bytes %= 200;
  return op;
}

bool TakeOp(const uint8_t** data, size_t* size, Op* op) {
  if (*size == 0) return false;
  const auto byte = [&]() -> uint8_t {
    if (*size == 0) return 0;
    --*size;
    return *(*data)++;
  };
  // One byte for the kind, most values being requests; then what the kind looks at.
  const uint8_t kind = byte();
  op->kind = kind < kOpKindCount * 3 ? static_cast<OpKind>(kind % kOpKindCount) : OpKind::kRequest;
  op->verb = static_cast<Verb>(kind % 16);
  op->key = byte() % 64;
  const uint8_t size_byte = byte();
  op->bytes = (uint32_t{size_byte} & 31) << (size_byte >> 5) * 2;  // 0..31, 0..124, ... 0..507904 in steps
  op->bytes = std::min(op->bytes + byte() % 8, uint32_t{70'000});
  op->ttl = byte();
  op->options = static_cast<uint16_t>(byte());
  op->options = static_cast<uint16_t>(op->options | (byte() & 0x3f) << 8);
  op->codec = byte() % kCodecCount;
  op->number = byte();
  return true;
}

}  // namespace cairn::model
