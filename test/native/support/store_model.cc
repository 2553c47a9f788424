#include "support/store_model.h"

#include <algorithm>
#include <cstdarg>
#include <cstdio>
#include <iterator>
#include <mutex>
#include <utility>

#include "store/shard.h"

namespace cairn::model {

namespace {

std::string Format(const char* format, ...) {
  char text[512];
  va_list arguments;
  va_start(arguments, format);
  std::vsnprintf(text, sizeof text, format, arguments);
  va_end(arguments);
  return text;
}

const char* const kVerbNames[] = {"get", "peek", "has",  "set",   "add",         "replace", "append", "prepend",
                                  "cas", "incr", "decr", "touch", "getAndTouch", "delete",  "take",   "evict"};
const char* const kStatusNames[] = {"stored",      "not-stored", "exists",    "not-found", "found",
                                    "non-numeric", "too-large",  "no-memory", "log-full",  "needs-room"};
const char* const kReasonNames[] = {"evicted", "expired", "deleted", "replaced", "cleared"};
const char* const kOpNames[] = {"request",    "many",       "reserve",     "writeBody",     "link",       "abandon",
                                "readPin",    "unpin",      "clear",       "scheduleClear", "resize",     "resizeStep",
                                "openCursor", "stepCursor", "closeCursor", "maintain",      "time",       "wallJump",
                                "apply",      "refuse",     "beginFill",   "endFill",       "resetStats", "drain",
                                "commit",     "rewind",     "renumber",    "serve"};
static_assert(std::size(kOpNames) == kOpKindCount);

const char* NameOf(Status status) { return kStatusNames[static_cast<int>(status)]; }

bool IsStoring(Verb verb) {
  switch (verb) {
    case Verb::kSet:
    case Verb::kAdd:
    case Verb::kReplace:
    case Verb::kAppend:
    case Verb::kPrepend:
    case Verb::kCas:
    case Verb::kIncr:
    case Verb::kDecr:
      return true;
    default:
      return false;
  }
}

bool IsTextCodec(Codec codec) { return codec == Codec::kAscii || codec == Codec::kUtf8 || codec == Codec::kWtf8; }

// Decodes code points, the slow and plain way.
bool IsUtf8Text(const std::string& text) {
  size_t i = 0;
  while (i < text.size()) {
    const auto byte = [&](size_t k) { return static_cast<uint32_t>(static_cast<unsigned char>(text[k])); };
    const uint32_t lead = byte(i);
    size_t more = 0;
    uint32_t point = 0, smallest = 0;
    if (lead < 0x80) {
      ++i;
      continue;
    } else if ((lead & 0xe0) == 0xc0) {
      more = 1, point = lead & 0x1f, smallest = 0x80;
    } else if ((lead & 0xf0) == 0xe0) {
      more = 2, point = lead & 0x0f, smallest = 0x800;
    } else if ((lead & 0xf8) == 0xf0) {
      more = 3, point = lead & 0x07, smallest = 0x10000;
    } else {
      return false;
    }
    if (text.size() - i <= more) return false;
    for (size_t k = 1; k <= more; ++k) {
      if ((byte(i + k) & 0xc0) != 0x80) return false;
      point = (point << 6) | (byte(i + k) & 0x3f);
    }
    if (point < smallest || point > 0x10ffff || (point >= 0xd800 && point <= 0xdfff)) return false;
    i += more + 1;
  }
  return true;
}

// The codec of old and added text together; false if they cannot be joined. docs/values.md has the table.
bool JoinedCodec(Codec old, Codec added, const std::string& added_bytes, Codec* joined) {
  const bool added_joins = added == Codec::kRaw || IsTextCodec(added);
  if (!added_joins || (old != Codec::kRaw && !IsTextCodec(old))) return false;
  if (old == Codec::kRaw) {
    *joined = Codec::kRaw;
  } else if (added == Codec::kRaw) {
    const bool ascii = std::all_of(added_bytes.begin(), added_bytes.end(), [](char c) { return (c & 0x80) == 0; });
    if (ascii) {
      *joined = old;
    } else if (!IsUtf8Text(added_bytes)) {
      *joined = Codec::kRaw;
    } else {
      *joined = old == Codec::kAscii ? Codec::kUtf8 : old;
    }
  } else if (old == Codec::kWtf8 || added == Codec::kWtf8) {
    *joined = Codec::kWtf8;
  } else if (old == Codec::kUtf8 || added == Codec::kUtf8) {
    *joined = Codec::kUtf8;
  } else {
    *joined = Codec::kAscii;
  }
  return true;
}

// The number that a value spells; false if it is none. Blanks and a plus sign may precede it, a blank may end it.
bool NumberOf(const std::string& text, uint64_t* number) {
  const auto blank = [](char c) { return c == ' ' || c == '\t' || c == '\n' || c == '\v' || c == '\f' || c == '\r'; };
  if (text.size() > kDecimalBytesMax) return false;
  size_t i = 0;
  while (i < text.size() && blank(text[i])) ++i;
  if (i < text.size() && text[i] == '+') ++i;
  std::string digits;
  while (i < text.size() && text[i] >= '0' && text[i] <= '9') digits += text[i++];
  if (digits.empty() || (i < text.size() && !blank(text[i]))) return false;
  digits.erase(0, std::min(digits.find_first_not_of('0'), digits.size() - 1));
  const std::string largest = "18446744073709551615";
  if (digits.size() > largest.size() || (digits.size() == largest.size() && digits > largest)) return false;
  *number = std::strtoull(digits.c_str(), nullptr, 10);
  return true;
}

uint64_t Mix(uint64_t a, uint64_t b) { return test::Random(a * 0x9e3779b97f4a7c15u + b).Next(); }

}  // namespace

std::string Describe(const Op& op) {
  std::string text = kOpNames[static_cast<int>(op.kind)];
  if (op.kind == OpKind::kRequest || op.kind == OpKind::kReserve)
    text += std::string(" ") + kVerbNames[static_cast<int>(op.verb)];
  text += Format(" key=%u bytes=%u number=%u ttl=%u codec=%u", op.key, op.bytes, op.number, op.ttl, op.codec);
  const char* const names[] = {"compare", "compareWrong", "noBump", "noValue", "initial", "pad",
                               "decimal", "flags",        "small",  "none",    "fill",    "text"};
  for (size_t bit = 0; bit < std::size(names); ++bit) {
    if (op.options >> bit & 1) text += std::string(" ") + names[bit];
  }
  return text;
}

// ---- lives and operations ----

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
  options.epoch = static_cast<uint32_t>(random.OneIn(12) ? kEpochMax - random.Below(4) : random.Between(1, 40));
  options.track_access = random.OneIn(4);
  options.hash = random.OneIn(4) ? HashKind::kSipHash : HashKind::kFast;
  life.records = !random.OneIn(3);
  const bool rings = life.records && !random.OneIn(3);
  life.recovers = life.records && random.OneIn(2);
  static constexpr uint32_t kQuiet[] = {1, 1, 10, 200};
  life.quiet = kQuiet[random.Below(4)];
  static constexpr uint32_t kTtlShares[] = {2, 2, 30, 1000};
  life.ttl_share = kTtlShares[random.Below(4)];
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
    options.memory_bytes = random.Between(4, 8) << 20;
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
  if (rings) {
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
      {OpKind::kTime, 40},      {OpKind::kWallJump, 1},      {OpKind::kApply, 15},      {OpKind::kRefuse, 6},
      {OpKind::kBeginFill, 8},  {OpKind::kEndFill, 8},       {OpKind::kResetStats, 1},  {OpKind::kDrain, 60},
      {OpKind::kCommit, 30},    {OpKind::kRewind, 4},        {OpKind::kRenumber, 8},    {OpKind::kServe, 3},
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
  // A clear of what is cleared is a case of its own.
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
  op->options = static_cast<uint16_t>(op->options | (byte() & 0x0f) << 8);
  op->codec = byte() % kCodecCount;
  op->number = byte();
  return true;
}

// ---- coverage ----

void Coverage::Add(const Coverage& other) {
  static_assert(sizeof(Coverage) % sizeof(uint64_t) == 0);
  auto* to = reinterpret_cast<uint64_t*>(this);
  const auto* from = reinterpret_cast<const uint64_t*>(&other);
  for (size_t i = 0; i < sizeof(Coverage) / sizeof(uint64_t); ++i) to[i] += from[i];
}

// clang-format off: it aligns this list anew each time.
#define CAIRN_MODEL_COVERAGE(X) \
  X(evictions) X(expirations) X(wheel_expirations) X(relocations) X(splits) X(merges) X(pins) X(zombies) \
  X(copies_of_large) X(bodies_linked) X(bodies_refused) X(clears) X(scheduled_clears) X(schedules_applied) \
  X(barriers_applied) X(resizes_up) X(resizes_down) X(resize_evictions) X(walks_finished) X(walked) \
  X(walks_restarted) X(log_full) X(too_large) X(no_memory) X(needs_room) X(applied) X(fills_voided) X(fills_stored) \
  X(in_place) X(rebuilt) X(plain_gets) X(plain_sets) X(records) X(ring_full) X(ring_pinned) X(ring_copied_large) \
  X(ring_zombies) X(ring_drained) X(ring_rewound) X(ring_wrapped) X(ring_waits_for_memory) X(ring_waits_for_barrier) \
  X(ring_replayed) X(extended) X(concats_in_steps) X(bodies_lost) X(renumbered) X(renumbered_dead) X(recovered) \
  X(recovery_expirations) X(thrifty_clears)
// clang-format on

std::string Coverage::Missing(bool with_collisions) const {
  std::string missing;
#define X(name) \
  if (name == 0) missing += " " #name;
  CAIRN_MODEL_COVERAGE(X)
#undef X
  if (with_collisions && flood_evictions == 0) missing += " flood_evictions";
  return missing;
}

std::string Coverage::Text() const {
  std::string text = Format("steps=%llu lives=%llu flood_evictions=%llu", static_cast<unsigned long long>(steps),
                            static_cast<unsigned long long>(lives), static_cast<unsigned long long>(flood_evictions));
#define X(name) text += Format(" " #name "=%llu", static_cast<unsigned long long>(name));
  CAIRN_MODEL_COVERAGE(X)
#undef X
  return text;
}

// ---- set-up ----

Harness::Harness(const Life& life) : life_(life) {
  std::string error;
  store_ = Store::Open(life.options, &error);
  if (store_ == nullptr) {
    std::fprintf(stderr, "Store::Open: %s\n", error.c_str());
    std::abort();
  }
  store_->SetRemovalSink(&removals_);
  const uint32_t count = store_->shard_count();
  shards_.resize(count);
  expected_records_.resize(count);
  refuse_.resize(count);
  if (store_->has_rings()) {
    rings_.resize(count);
    for (uint32_t i = 0; i < count; ++i) {
      rings_[i].capacity = store_->RingStatsOf(i).capacity_bytes;
      rings_[i].barrier = rings_[i].barrier_committed = life.options.epoch;
    }
  } else if (life.records) {
    for (uint32_t i = 0; i < count; ++i) {
      recorders_.push_back(std::make_unique<RecordRecorder>());
      sinks_.push_back(recorders_.back().get());
    }
    store_->SetRecordSinks(sinks_.data());
  }
  epoch_ = life.options.epoch;
  for (ModelShard& shard : shards_) shard.epoch = epoch_;
  uses_time_ = life.options.track_access;
  now_.boot_ms = 1'000'000 + life.seed % 100'000;
  now_.wall_ms = 1'700'000'000'000;
  scratch_.resize(size_t{5} << 19);
  resize_memory_ = life.options.memory_bytes;
  resize_entries_ = life.options.entries_max;
  for (uint32_t i = 0; i < count; ++i) {
    shards_[i].entries_limit = resize_entries_ == 0 ? 0 : std::max<uint64_t>(resize_entries_ / count, 1);
  }
  if (life.recovers) {
    StartEpoch(life.options.epoch);
    store_->SetRecovering(true);
    recovering_ = true;
  }

  // The size classes, as native/store/arena.h promises them: 8-byte steps to 128, 16-byte steps to 256, then 8 per
  // doubling up to an eighth of a page; above 1 KiB the size that fills the page with as many chunks.
  page_bytes_ = store_->page_bytes();
  std::set<uint32_t> sizes;
  for (uint32_t size = 32; size <= page_bytes_ / 8; size += 8) {
    bool is_class = size <= 128 || (size <= 256 && size % 16 == 0);
    for (uint32_t power = 256; power < page_bytes_ / 8; power *= 2) {
      if (size > power && size <= power * 2 && size % (power / 8) == 0) is_class = true;
    }
    if (!is_class) continue;
    const uint32_t in_page = static_cast<uint32_t>(page_bytes_) / size;
    sizes.insert(size <= 1024 ? size : static_cast<uint32_t>(page_bytes_) / in_page / 8 * 8);
  }
  for (uint32_t size : sizes) {
    const uint32_t in_page = static_cast<uint32_t>(page_bytes_) / size;
    class_sizes_.push_back(size);
    class_charges_.push_back((static_cast<uint32_t>(page_bytes_) + in_page - 1) / in_page);
  }
  class_of_.resize(class_sizes_.back() / 8 + 1);
  for (size_t units = 0, c = 0; units < class_of_.size(); ++units) {
    while (class_sizes_[c] < units * 8) ++c;
    class_of_[units] = static_cast<int>(c);
  }
}

Harness::~Harness() {
  for (PinHandle& handle : pins_) store_->Unpin(handle.pin);
  for (BodyHandle& handle : bodies_) store_->Abandon(&handle.body);
  for (Ticket& ticket : tickets_) store_->EndFill(KeyName(ticket.key), ticket.ticket.get());
}

bool Harness::Fail(const std::string& what) {
  if (failure_.empty()) failure_ = what;
  return false;
}

const std::string& Harness::KeyName(uint32_t key) {
  key %= life_.key_count;
  if (key_names_.empty()) key_names_.resize(life_.key_count);
  std::string& name = key_names_[key];
  if (!name.empty()) return name;
  if (life_.colliding_keys) {
    // Keys whose hash puts them into one of three chains of any table of up to 4096 buckets: searched once.
    static std::mutex mutex;
    static std::map<uint64_t, std::vector<std::string>> found;
    std::lock_guard<std::mutex> guard(mutex);
    std::vector<std::string>& keys = found[life_.options.secrets.words[0]];
    for (uint64_t i = keys.empty() ? 0 : std::strtoull(keys.back().c_str() + 1, nullptr, 10) + 1; keys.size() <= key;
         ++i) {
      std::string candidate = "c" + std::to_string(i);
      const uint64_t hash = TableHash(life_.options.hash, candidate, life_.options.secrets);
      if ((hash & 4095) % 1400 == 5) keys.push_back(std::move(candidate));
    }
    return name = keys[key];
  }
  name = "k" + std::to_string(key);
  const uint64_t draw = Mix(life_.seed ^ 0x6b6579, key);
  if (life_.long_keys != 0 && draw % life_.long_keys == 0) {
    const uint64_t bytes = 251 + (draw >> 8) % (uint64_t{1} << (draw >> 32) % 17);
    name += PatternBytes(std::min<uint64_t>(bytes, kKeyBytesMax) - name.size(), draw);
  } else if (draw % 5 == 1) {
    name += PatternBytes((draw >> 8) % (251 - name.size()), draw);
  }
  return name;
}

std::string Harness::ValueOf(const Op& op) const {
  if (op.options & kOptDecimal) {
    std::string text = std::to_string(op.number % 3 == 0 ? ~uint64_t{0} - op.number % 100 : op.number % 1000);
    if (op.number % 17 == 0) text = std::string(op.number % 110, '0') + text;
    if (op.number % 7 == 0) text = (op.number % 2 == 0 ? " " : "+") + text;
    if (op.number % 11 == 0) text += std::string(op.number % 13 == 0 ? 130 : 2, ' ');
    return text;
  }
  std::string value = PatternBytes(op.bytes, op.number | uint64_t{1} << 40);
  if (op.options & kOptText) {
    for (char& byte : value) byte &= 0x7f;
    // And now and then a letter that takes more than one byte.
    if (op.number % 3 == 0) value += "\xc3\xa9\xf0\x9f\x90\xa2";
  }
  return value;
}

uint64_t Harness::ExpiryOf(uint8_t selector) const {
  if (selector < 60) return kNeverExpires;
  if (selector < 75) return kKeepExpiry;
  if (selector < 80) return kAlreadyExpired;
  // Exponential: one millisecond to some years, and times just before and behind the edges of the wheel's levels.
  const int exponent = (selector - 80) * 38 / 176;
  const uint64_t ms = (uint64_t{1} << exponent) + selector % 5 - 2;
  return now_.boot_ms + std::max<uint64_t>(ms, 1) % (uint64_t{1} << 39);
}

// ---- the model's own arithmetic ----

int Harness::ClassOf(uint64_t bytes) const { return class_of_[(bytes + 7) / 8]; }

Harness::Layout Harness::LayoutOf(size_t key_bytes, uint64_t value_bytes, uint64_t expires_ms,
                                  uint32_t client_flags) const {
  uint64_t fields = 24;
  if (expires_ms != kNeverExpires) fields += 16;
  if (life_.options.track_access) fields += 4;
  if (client_flags != 0) fields += 4;
  if (key_bytes > 250) fields += 4;
  Layout layout;
  layout.charge = 8;  // its place in the table
  if (fields + key_bytes + value_bytes <= class_sizes_.back()) {
    layout.size_class = ClassOf(fields + key_bytes + value_bytes);
    layout.charge += class_charges_[static_cast<size_t>(layout.size_class)];
    return layout;
  }
  layout.chunked = true;
  if (expires_ms == kNeverExpires) fields += 16;  // such an entry has room for an expiry in any case
  const uint64_t key_in_head = std::min<uint64_t>(key_bytes, 250);
  layout.size_class = ClassOf(fields + 4 + key_in_head);
  layout.charge += class_charges_[static_cast<size_t>(layout.size_class)];
  uint64_t rest = key_bytes + value_bytes - key_in_head;
  const uint64_t in_page = page_bytes_ - 16, in_largest = class_sizes_.back() - 16;
  for (; rest >= in_page; rest -= in_page) layout.charge += page_bytes_;
  for (; rest >= in_largest; rest -= in_largest, ++layout.nonwhole_chunks) layout.charge += class_charges_.back();
  if (rest > 0) {
    layout.charge += class_charges_[static_cast<size_t>(ClassOf(rest + 16))];
    ++layout.nonwhole_chunks;
  }
  return layout;
}

// ---- the model's moves ----

Harness::ModelShard& Harness::ShardFor(const std::string& key, uint32_t* index) {
  const uint32_t shard = store_->ShardOf(key);
  if (index != nullptr) *index = shard;
  return shards_[shard];
}

Harness::List::iterator Harness::Find(ModelShard& shard, const std::string& key) {
  const auto found = shard.index.find(key);
  return found == shard.index.end() ? shard.lru.end() : found->second;
}

Harness::List::iterator Harness::Lookup(ModelShard& shard, const std::string& key, bool is_get) {
  const List::iterator entry = Find(shard, key);
  if (entry == shard.lru.end() || !IsExpired(*entry)) return entry;
  if (is_get) ++shard.counters.get_expired;
  Unlink(shard, entry, Reason::kExpired, true);
  return shard.lru.end();
}

void Harness::ForgetInWalks(const std::string& key) {
  const uint32_t shard = store_->ShardOf(key);
  for (CursorHandle& handle : cursors_) handle.must[shard].erase(key);
}

void Harness::Unlink(ModelShard& shard, List::iterator entry, Reason reason, bool announce, bool keep_walks) {
  if (announce) {
    expected_removals_.push_back({reason, entry->key, entry->value, entry->codec, entry->client_flags});
  }
  if (reason == Reason::kEvicted) {
    ++shard.counters.evictions;
    if (!entry->fetched) ++shard.counters.evicted_unfetched;
  } else if (reason == Reason::kExpired) {
    ++shard.counters.expirations;
    if (!entry->fetched) ++shard.counters.expired_unfetched;
  }
  if (reason == Reason::kEvicted || reason == Reason::kExpired) {
    lost_.insert(entry->key);
    shard.gone_version = std::max(shard.gone_version, entry->version);
  }
  shard.live_charge -= entry->charge;
  shard.payload -= entry->key.size() + entry->value.size();
  if (entry->pins() > 0) {
    entry->held->left = true;
    shard.zombie_charge += entry->charge;
    ++coverage_.zombies;
  }
  if (!keep_walks) ForgetInWalks(entry->key);
  shard.index.erase(entry->key);
  shard.lru.erase(entry);
}

bool Harness::MakeRoom(ModelShard& shard, uint64_t charge, bool new_entry, bool keep_newest) {
  // What cannot be evicted, or gives nothing back when it is: bodies, and entries that are held in place.
  std::set<const Held*> counted;
  uint64_t cleared = 0;
  const uint64_t pinned = PinnedCharge(shard, &counted, &cleared);
  uint64_t kept = shard.body_charge + pinned;
  if (keep_newest && !counted.contains(shard.lru.front().held.get())) kept += shard.lru.front().charge;
  if (kept + charge > shard.limit) return false;
  const uint64_t fixed = shard.body_charge + cleared;
  const auto full = [&] {
    return fixed + shard.zombie_charge + shard.live_charge + charge > shard.limit ||
           (new_entry && shard.entries_limit != 0 && shard.lru.size() >= shard.entries_limit);
  };
  // Cleared entries are the cold end: no live one leaves while there are any.
  while (full()) {
    shard.dead = 0;
    if (shard.lru.empty() || (keep_newest && shard.lru.size() == 1)) return Fail("the model finds no victim");
    Unlink(shard, std::prev(shard.lru.end()), Reason::kEvicted, true);
  }
  return true;
}

Harness::List::iterator Harness::LinkFront(ModelShard& shard, Entry entry) {
  flood_slot_ = expected_removals_.size();
  flood_shard_ = static_cast<uint32_t>(&shard - shards_.data());
  shard.live_charge += entry.charge;
  shard.payload += entry.key.size() + entry.value.size();
  shard.lru.push_front(std::move(entry));
  shard.index[shard.lru.front().key] = shard.lru.begin();
  return shard.lru.begin();
}

uint64_t Harness::PinnedCharge(const ModelShard& shard, std::set<const Held*>* counted, uint64_t* cleared) const {
  uint64_t pinned = 0;
  const auto count = [&](const std::shared_ptr<Held>& held) {
    if (held == nullptr || !counted->insert(held.get()).second) return;
    pinned += held->charge;
    if (held->cleared) *cleared += held->charge;
  };
  const auto shard_index = static_cast<uint32_t>(&shard - shards_.data());
  for (const PinHandle& handle : pins_) {
    if (handle.shard == shard_index) count(handle.held);
  }
  if (has_rings()) {
    for (const ExpectedRecord& record : rings_[shard_index].records) count(record.pinned);
    for (const ExpectedRecord& record : expected_records_[shard_index]) count(record.pinned);
  }
  return pinned;
}

bool Harness::Refused(uint32_t shard_index) {
  ++shards_[shard_index].counters.log_full;
  ++coverage_.log_full;
  if (has_rings()) ++coverage_.ring_full;
  return false;
}

bool Harness::RingHasRoom(const Ring& ring, uint64_t bytes, uint64_t spare) const {
  const uint64_t to_end = ring.capacity - ring.written % ring.capacity;
  return ring.written - ring.freed + (bytes <= to_end ? bytes : to_end + bytes) + spare <= ring.capacity;
}

bool Harness::RingHoldsRoom(const ModelShard& shard, uint64_t charge) const {
  if (!has_rings() || rings_[static_cast<size_t>(&shard - shards_.data())].pinned_charge == 0) return false;
  std::set<const Held*> counted;
  uint64_t cleared = 0;
  return shard.body_charge + PinnedCharge(shard, &counted, &cleared) + charge > shard.limit;
}

// A little is left for a barrier: one, and what it may have to skip.
static constexpr uint64_t kBarrierBytes = 80;
static constexpr uint64_t kSpareBytes = 2 * kBarrierBytes;
// Behind the key, in place of a value that is pinned.
static constexpr uint64_t kTailBytes = 32;

bool Harness::ReserveRecord(uint32_t shard_index, size_t key_bytes) {
  if (has_rings()) {
    return RingHasRoom(rings_[shard_index], RecordBytes(key_bytes, 0), kSpareBytes) || Refused(shard_index);
  }
  if (!life_.records || refuse_[shard_index] == 0) return true;
  --refuse_[shard_index];
  return Refused(shard_index);
}

bool Harness::ReserveBarrier(bool is_due) {
  if (has_rings()) return RingHasRoom(rings_[0], RecordBytes(0, 0), is_due ? 0 : kBarrierBytes) || Refused(0);
  return ReserveRecord(0, 0);
}

bool Harness::ReserveEntry(uint32_t shard_index, const Entry& entry, bool in_body) {
  if (!has_rings()) return ReserveRecord(shard_index, entry.key.size());
  Ring& ring = rings_[shard_index];
  const ModelShard& shard = shards_[shard_index];
  const Layout layout = LayoutOf(entry.key.size(), entry.value.size(), entry.expires_ms, entry.client_flags);
  ring.reserved_pinned = false;
  if (!in_body && RingHoldsRoom(shard, layout.charge)) {
    ++coverage_.ring_waits_for_memory;
    return Refused(shard_index);
  }
  const bool large = entry.value.size() > kRingInlineValueBytesMax;
  if (large) {
    const uint64_t pages = before_[shard_index].pinned_pages + 1 + layout.nonwhole_chunks;
    const bool fits_share =
        ring.pinned_charge == 0 || ring.pinned_charge + layout.charge <= shard.limit / kRingPinnedShareMax;
    if (pages <= kRingPinnedPagesMax && fits_share &&
        RingHasRoom(ring, RecordBytes(entry.key.size(), 0) + kTailBytes, kSpareBytes)) {
      ring.reserved_pinned = true;
      ++coverage_.ring_pinned;
      return true;
    }
    if (entry.value.size() > kRingCopiedValueBytesMax) return Refused(shard_index);
  }
  if (!RingHasRoom(ring, RecordBytes(entry.key.size(), entry.value.size()), kSpareBytes)) return Refused(shard_index);
  if (large) ++coverage_.ring_copied_large;
  return true;
}

void Harness::PinForRing(uint32_t shard_index, Entry* entry) {
  if (!has_rings() || !rings_[shard_index].reserved_pinned) return;
  entry->held = std::make_shared<Held>();
  entry->held->value = entry->value;
  entry->held->charge = entry->charge;
  entry->held->pins = 1;
  rings_[shard_index].pinned_charge += entry->charge;
}

Status Harness::NoMemory(ModelShard& shard, Status status) {
  const auto shard_index = static_cast<uint32_t>(&shard - shards_.data());
  if (status == Status::kNoMemory && has_rings() && rings_[shard_index].pinned_charge != 0) {
    ++coverage_.ring_waits_for_memory;
    Refused(shard_index);
    return Status::kLogFull;
  }
  ++shard.counters.no_memory;
  return status;
}

void Harness::ExpectRecord(uint32_t shard_index, RecordKind kind, const Entry& entry) {
  ExpectedRecord record;
  record.kind = kind;
  record.version = 0;
  record.key = entry.key;
  if (kind == RecordKind::kSet) {
    record.value = entry.value;
    lost_.erase(entry.key);
  }
  if (kind != RecordKind::kDelete) {
    record.codec = static_cast<uint8_t>(entry.codec);
    record.client_flags = entry.client_flags;
    record.expires_wall_ms =
        entry.expires_ms == kNeverExpires ? 0 : static_cast<int64_t>(entry.expires_ms) + now_.WallOffset();
  }
  if (has_rings()) {
    Ring& ring = rings_[shard_index];
    uint64_t bytes = RecordBytes(record.key.size(), record.value.size());
    if (kind == RecordKind::kSet && ring.reserved_pinned) {
      bytes = RecordBytes(record.key.size(), 0) + kTailBytes;
      record.pinned = entry.held;
    }
    const uint64_t to_end = ring.capacity - ring.written % ring.capacity;
    if (bytes > to_end) {
      ring.written += to_end;
      ++coverage_.ring_wrapped;
    }
    record.ring_begin = ring.written;
    ring.written += bytes;
    ring.count++;
    record.ring_end = ring.written;
  }
  expected_records_[shard_index].push_back(std::move(record));
}

void Harness::ExpectBarrier(uint64_t version) {
  if (!life_.records) return;
  ExpectRecord(0, RecordKind::kClear, Entry{});
  expected_records_[0].back().version = version;
  expected_records_[0].back().epoch = epoch_;
}

void Harness::ExpectDelete(uint32_t shard_index, const std::string& key, Expected* expected) {
  Entry gone;
  gone.key = key;
  ExpectRecord(shard_index, RecordKind::kDelete, gone);
  if (expected != nullptr) expected->mutates = true;
}

void Harness::VoidFills(const std::string& key) {
  for (Ticket& ticket : tickets_) {
    if (KeyName(ticket.key) == key) ticket.voided = true;
  }
}

// Stores `from` in place of `old` (end: none): key, value, codec, flags, expiry and fetched of `from` are given.
Status Harness::Put(ModelShard& shard, Entry from, List::iterator old, bool log, Expected* expected) {
  const auto shard_index = static_cast<uint32_t>(&shard - shards_.data());
  const Layout layout = LayoutOf(from.key.size(), from.value.size(), from.expires_ms, from.client_flags);
  if (from.value.size() > store_->value_bytes_max() || layout.charge > shard.limit) return Status::kTooLarge;
  if (log && !ReserveEntry(shard_index, from, false)) return Status::kLogFull;
  const bool replaces = old != shard.lru.end();
  from.charge = layout.charge;
  from.size_class = layout.size_class;
  from.chunked = layout.chunked;
  from.nonwhole_chunks = layout.nonwhole_chunks;
  from.access_s = static_cast<uint32_t>(now_.boot_ms / 1000);
  from.filed_ms = now_.boot_ms;
  const bool in_place =
      replaces && !old->chunked && !layout.chunked && old->pins() == 0 && old->size_class == layout.size_class;
  if (replaces) Unlink(shard, old, Reason::kReplaced, true, true);
  if (!in_place && !MakeRoom(shard, layout.charge, true, false)) {
    ++shard.counters.no_memory;
    ForgetInWalks(from.key);
    if (replaces) {
      if (log) {
        ExpectRecord(shard_index, RecordKind::kDelete, from);
        expected->mutates = true;
      }
    }
    return Status::kNoMemory;
  }
  if (in_place) ++coverage_.in_place;
  if (log) {
    PinForRing(shard_index, &from);
    ExpectRecord(shard_index, RecordKind::kSet, from);
  }
  const List::iterator entry = LinkFront(shard, std::move(from));
  if (in_place) flood_slot_ = ~uint64_t{0};
  expected->mutates = true;
  expected->new_version = true;
  expected->check_entry = true;
  DescribeEntry(*entry, expected);
  return Status::kStored;
}

// The same entry with the value, codec and expiry of `changed`.
Status Harness::Rebuild(ModelShard& shard, List::iterator* entry, Entry changed, bool announce_replaced) {
  const Layout layout = LayoutOf(changed.key.size(), changed.value.size(), changed.expires_ms, changed.client_flags);
  Entry& old = **entry;
  const bool in_place = !old.chunked && !layout.chunked && old.pins() == 0 && old.size_class == layout.size_class;
  if (!in_place) {
    ++coverage_.rebuilt;
    if (layout.charge > shard.limit) return Status::kTooLarge;
    // Both exist for a moment; the old one, now the newest, is not evicted for the new one.
    shard.lru.splice(shard.lru.begin(), shard.lru, *entry);
    if (!MakeRoom(shard, layout.charge, false, true)) return Status::kNoMemory;
  }
  changed.version = old.version;
  changed.filed_ms = now_.boot_ms;
  changed.charge = layout.charge;
  changed.size_class = layout.size_class;
  changed.chunked = layout.chunked;
  changed.nonwhole_chunks = layout.nonwhole_chunks;
  changed.held = nullptr;
  Unlink(shard, *entry, Reason::kReplaced, announce_replaced, true);
  *entry = LinkFront(shard, std::move(changed));
  if (in_place) flood_slot_ = ~uint64_t{0};
  return Status::kStored;
}

// A chunked entry with more behind its value: what has to be there beside it for a moment is what the new chunks take
// that replace those of another size, or come behind them.
Status Harness::Extend(ModelShard& shard, List::iterator* entry, Entry changed) {
  const Layout layout = LayoutOf(changed.key.size(), changed.value.size(), changed.expires_ms, changed.client_flags);
  if (layout.charge > shard.limit) return Status::kTooLarge;
  shard.lru.splice(shard.lru.begin(), shard.lru, *entry);
  // Size class and charge of each: two classes may be charged alike.
  const auto chunks = [&](uint64_t value_bytes) {
    std::vector<std::pair<int, uint64_t>> sizes;
    uint64_t rest = changed.key.size() + value_bytes - std::min<uint64_t>(changed.key.size(), 250);
    const uint64_t in_page = page_bytes_ - 16, in_largest = class_sizes_.back() - 16;
    for (; rest >= in_page; rest -= in_page) sizes.emplace_back(-1, page_bytes_);
    for (; rest >= in_largest; rest -= in_largest) sizes.emplace_back(ClassOf(in_largest + 16), class_charges_.back());
    if (rest > 0) sizes.emplace_back(ClassOf(rest + 16), class_charges_[static_cast<size_t>(ClassOf(rest + 16))]);
    return sizes;
  };
  const auto before = chunks((*entry)->value.size()), after = chunks(changed.value.size());
  const uint64_t old_rest =
      (changed.key.size() + (*entry)->value.size() - std::min<uint64_t>(changed.key.size(), 250)) % (page_bytes_ - 16) %
      (class_sizes_.back() - 16);
  // The chunk for the rest stays if it is of the same class, and nothing comes behind it.
  size_t same = 0;
  while (same < before.size() && same < after.size() && before[same] == after[same]) ++same;
  const bool last_is_rest = old_rest != 0;
  if (last_is_rest && same == before.size() && after.size() > before.size()) --same;
  uint64_t added = 0;
  for (size_t i = same; i < after.size(); ++i) added += after[i].second;
  if (!MakeRoom(shard, added, false, true)) return Status::kNoMemory;
  ++coverage_.extended;
  changed.version = (*entry)->version;
  changed.charge = layout.charge;
  changed.nonwhole_chunks = layout.nonwhole_chunks;
  changed.held = nullptr;
  Unlink(shard, *entry, Reason::kReplaced, true, true);
  *entry = LinkFront(shard, std::move(changed));
  flood_slot_ = ~uint64_t{0};
  return Status::kStored;
}

Status Harness::SetExpiry(ModelShard& shard, List::iterator* entry, uint64_t expires_ms) {
  const bool has = (*entry)->expires_ms != kNeverExpires;
  if (expires_ms == kKeepExpiry || (expires_ms == kNeverExpires && !has)) return Status::kStored;
  // A chunked entry is given another expiry as it is, unless it need not be chunked without one.
  const Entry& old = **entry;
  const bool stays_chunked =
      old.chunked && LayoutOf(old.key.size(), old.value.size(), expires_ms, old.client_flags).chunked;
  if ((expires_ms != kNeverExpires && has) || stays_chunked) {
    (*entry)->expires_ms = expires_ms;
    (*entry)->filed_ms = now_.boot_ms;
    return Status::kStored;
  }
  Entry changed = **entry;
  changed.expires_ms = expires_ms;
  return Rebuild(shard, entry, std::move(changed), false);
}

void Harness::DescribeEntry(const Entry& entry, Expected* expected) const {
  expected->check_entry = true;
  expected->fetched = entry.fetched;
  expected->codec = entry.codec;
  expected->client_flags = entry.client_flags;
  expected->version = entry.version;
  expected->expires_ms = entry.expires_ms;
  expected->value_bytes = static_cast<uint32_t>(entry.value.size());
  if (life_.options.track_access) expected->idle_s = static_cast<uint32_t>(now_.boot_ms / 1000) - entry.access_s;
}

// ---- requests ----

bool Harness::GiveValue(ModelShard& shard, List::iterator entry, bool may_pin, const Outcome* actual, Scratch* scratch,
                        Expected* expected) {
  const bool large = entry->value.size() > kCopyUnderLockBytesMax;
  if (large && may_pin) {
    // Whether the pages of its chunks are pinned already is not known here: within the budget for sure, beyond it for
    // sure, or as the store says.
    const uint64_t pages = before_[static_cast<size_t>(&shard - shards_.data())].pinned_pages;
    const bool certain = pages + 1 + entry->nonwhole_chunks <= kPinnedPagesMax;
    const bool impossible = entry->pins() == kPinsPerEntryMax;
    // What refuses a get-and-touch comes behind its value, and takes the pin back. The value is chunked: whether it was
    // pinned or copied makes no difference to what is refused.
    const bool taken_back = actual->status == Status::kNoMemory || actual->status == Status::kLogFull;
    const bool pinned = actual->pin.ref != 0 || taken_back;
    if (!impossible && (certain || pinned)) {
      if (entry->held == nullptr || entry->held->pins == 0) {
        entry->held = std::make_shared<Held>();
        entry->held->value = entry->value;
        entry->held->charge = entry->charge;
      }
      expected->pinned = entry->held;
      expected->has_value = true;
      expected->value = entry->value;
      return true;
    }
    ++coverage_.copies_of_large;
  }
  if (scratch->capacity - scratch->used < entry->value.size()) {
    expected->status = Status::kNeedsRoom;
    expected->value_bytes = static_cast<uint32_t>(entry->value.size());
    ++coverage_.needs_room;
    return false;
  }
  scratch->used += entry->value.size();
  expected->has_value = true;
  expected->value = entry->value;
  return true;
}

void Harness::ExecuteGet(ModelShard& shard, const Request& request, const std::string& key, const Outcome* actual,
                         Scratch* scratch, Expected* expected) {
  const bool may_pin = scratch != nullptr && actual->pin.shard != ~0u;
  if (request.verb != Verb::kGet) {
    const List::iterator entry = Find(shard, key);
    if (entry == shard.lru.end()) return;
    if (IsExpired(*entry)) {
      shard.gone_version = std::max(shard.gone_version, entry->version);
      return;
    }
    if (request.verb == Verb::kPeek && !request.no_value &&
        !GiveValue(shard, entry, may_pin, actual, scratch, expected))
      return;
    DescribeEntry(*entry, expected);
    expected->status = Status::kFound;
    return;
  }
  const List::iterator entry = Lookup(shard, key, true);
  if (entry == shard.lru.end()) {
    ++shard.counters.gets;
    ++shard.counters.misses;
    return;
  }
  if (!request.no_value && !GiveValue(shard, entry, may_pin, actual, scratch, expected)) return;
  ++shard.counters.gets;
  ++shard.counters.hits;
  DescribeEntry(*entry, expected);
  expected->status = Status::kFound;
  if (request.no_bump) return;
  entry->fetched = true;
  entry->access_s = static_cast<uint32_t>(now_.boot_ms / 1000);
  shard.lru.splice(shard.lru.begin(), shard.lru, entry);
}

Status Harness::Condition(const Request& request, ModelShard& shard, List::iterator entry) const {
  const bool present = entry != shard.lru.end();
  if (request.verb == Verb::kAdd && present) return Status::kNotStored;
  const bool needs = request.verb == Verb::kReplace || request.verb == Verb::kAppend || request.verb == Verb::kPrepend;
  if (needs && !present) return Status::kNotStored;
  if (request.verb == Verb::kCas && !present) return Status::kNotFound;
  if ((request.has_compare || request.verb == Verb::kCas) && present && entry->version != request.compare) {
    return Status::kExists;
  }
  if (request.fill != nullptr) {
    for (const Ticket& ticket : tickets_) {
      if (ticket.ticket.get() == request.fill && ticket.voided) return Status::kExists;
    }
  }
  return Status::kStored;
}

void Harness::Execute(const Request& request, const std::string& key, bool may_pin, const Outcome* actual,
                      Scratch* scratch, Expected* expected) {
  uint32_t shard_index;
  ModelShard& shard = ShardFor(key, &shard_index);
  StoreStats& counters = shard.counters;
  Outcome oracle = *actual;
  oracle.pin.shard = may_pin ? 0 : ~0u;
  switch (request.verb) {
    case Verb::kGet:
    case Verb::kPeek:
    case Verb::kHas:
      return ExecuteGet(shard, request, key, &oracle, scratch, expected);
    case Verb::kSet:
    case Verb::kAdd:
    case Verb::kReplace:
    case Verb::kCas: {
      const List::iterator old = Lookup(shard, key, false);
      const bool present = old != shard.lru.end();
      expected->status = Condition(request, shard, old);
      if (request.verb == Verb::kCas) {
        if (expected->status == Status::kNotFound) ++counters.cas_misses;
        if (expected->status == Status::kExists) ++counters.cas_exists;
      }
      if (expected->status != Status::kStored) {
        if (present) DescribeEntry(*old, expected);
        if (request.fill != nullptr && expected->status == Status::kExists) ++coverage_.fills_voided;
        return;
      }
      Entry from;
      from.key = key;
      from.value = std::string(request.value);
      from.codec = request.codec;
      from.client_flags = request.client_flags;
      from.expires_ms = request.expires_ms;
      if (from.expires_ms == kKeepExpiry) from.expires_ms = present ? old->expires_ms : kNeverExpires;
      expected->status = Put(shard, std::move(from), old, true, expected);
      if (expected->status == Status::kStored) {
        ++counters.sets;
        if (request.verb == Verb::kCas) ++counters.cas_hits;
        if (request.fill != nullptr) ++coverage_.fills_stored;
        VoidFills(key);
      } else if (expected->status == Status::kNoMemory) {
        ++coverage_.no_memory;
        VoidFills(key);
        // What was evicted may still be in the log.
        if (request.verb == Verb::kSet && !present && life_.records) ExpectDelete(shard_index, key, expected);
      } else if (expected->status == Status::kTooLarge) {
        ++coverage_.too_large;
        ++counters.too_large;
        if (request.verb != Verb::kSet) return;
        VoidFills(key);
        if (!present && !life_.records) return;
        if (!ReserveRecord(shard_index, key.size())) {
          expected->status = Status::kLogFull;
          return;
        }
        ExpectDelete(shard_index, key, expected);
        if (present) Unlink(shard, old, Reason::kReplaced, true);
      }
      return;
    }
    case Verb::kAppend:
    case Verb::kPrepend: {
      List::iterator entry = Lookup(shard, key, false);
      expected->status = Condition(request, shard, entry);
      const std::string added(request.value);
      Codec codec = Codec::kRaw;
      if (expected->status == Status::kStored && !JoinedCodec(entry->codec, request.codec, added, &codec)) {
        expected->status = Status::kNotStored;
      }
      if (expected->status != Status::kStored) {
        if (entry != shard.lru.end()) DescribeEntry(*entry, expected);
        return;
      }
      Entry changed = *entry;
      changed.value = request.verb == Verb::kAppend ? changed.value + added : added + changed.value;
      changed.codec = codec;
      changed.access_s = static_cast<uint32_t>(now_.boot_ms / 1000);
      if (changed.value.size() > store_->value_bytes_max()) {
        ++counters.too_large;
        ++coverage_.too_large;
        expected->status = Status::kTooLarge;
        return;
      }
      if (!ReserveEntry(shard_index, changed, false)) {
        expected->status = Status::kLogFull;
        return;
      }
      const bool extends = request.verb == Verb::kAppend && entry->chunked && entry->pins() == 0 &&
                           added.size() <= kConcatCopiedBytesMax;
      if (!extends && may_pin && changed.value.size() > kConcatCopiedBytesMax) ++coverage_.concats_in_steps;
      expected->status =
          extends ? Extend(shard, &entry, std::move(changed)) : Rebuild(shard, &entry, std::move(changed), true);
      if (expected->status != Status::kStored) {
        if (expected->status == Status::kTooLarge) {
          ++counters.too_large;
        } else {
          expected->status = NoMemory(shard, expected->status);
          ++coverage_.no_memory;
        }
        return;
      }
      ++counters.sets;
      PinForRing(shard_index, &*entry);
      ExpectRecord(shard_index, RecordKind::kSet, *entry);
      expected->mutates = true;
      expected->new_version = true;
      DescribeEntry(*entry, expected);
      VoidFills(key);
      return;
    }
    case Verb::kIncr:
    case Verb::kDecr: {
      const bool incr = request.verb == Verb::kIncr;
      const List::iterator old = Lookup(shard, key, false);
      Entry from;
      from.key = key;
      if (old == shard.lru.end()) {
        ++(incr ? counters.incr_misses : counters.decr_misses);
        if (!request.has_initial) return;
        from.value = std::to_string(request.initial);
        from.codec = request.codec;
        from.client_flags = request.client_flags;
        from.expires_ms = request.expires_ms == kKeepExpiry ? kNeverExpires : request.expires_ms;
        expected->status = Put(shard, std::move(from), old, true, expected);
        if (expected->status == Status::kStored) {
          expected->check_number = true;
          expected->number = request.initial;
          VoidFills(key);
        }
        return;
      }
      if (request.has_compare && old->version != request.compare) {
        DescribeEntry(*old, expected);
        expected->status = Status::kExists;
        return;
      }
      uint64_t number = 0;
      if (old->codec == Codec::kJson || old->codec == Codec::kStructured || !NumberOf(old->value, &number)) {
        expected->status = Status::kNonNumeric;
        return;
      }
      number = incr ? number + request.delta : number - std::min(number, request.delta);
      from.value = std::to_string(number);
      if (request.pad_decimal && from.value.size() < old->value.size()) from.value.resize(old->value.size(), ' ');
      from.codec = old->codec;
      from.client_flags = old->client_flags;
      from.expires_ms = old->expires_ms;
      from.fetched = old->fetched;
      expected->status = Put(shard, std::move(from), old, true, expected);
      if (expected->status == Status::kNoMemory) VoidFills(key);
      if (expected->status != Status::kStored) return;
      ++(incr ? counters.incr_hits : counters.decr_hits);
      expected->status = Status::kFound;
      expected->check_number = true;
      expected->number = number;
      VoidFills(key);
      return;
    }
    case Verb::kTouch:
    case Verb::kGetAndTouch: {
      const bool get = request.verb == Verb::kGetAndTouch;
      List::iterator entry = Lookup(shard, key, get);
      if (entry == shard.lru.end()) {
        ++counters.touches;
        if (get) {
          ++counters.gets;
          ++counters.misses;
        }
        return;
      }
      if (request.has_compare && entry->version != request.compare) {
        DescribeEntry(*entry, expected);
        expected->status = Status::kExists;
        return;
      }
      if (!ReserveRecord(shard_index, key.size())) {
        expected->status = Status::kLogFull;
        return;
      }
      const size_t scratch_used = scratch == nullptr ? 0 : scratch->used;
      if (get && !request.no_value && !GiveValue(shard, entry, may_pin, &oracle, scratch, expected)) return;
      DescribeEntry(*entry, expected);
      // The pin comes first, so that the entry that is read is the one that is held.
      const std::shared_ptr<Held> pinned = expected->pinned;
      if (pinned != nullptr) ++pinned->pins;
      const Status status = SetExpiry(shard, &entry, request.expires_ms);
      if (pinned != nullptr) --pinned->pins;
      if (status != Status::kStored) {
        if (scratch != nullptr) scratch->used = scratch_used;
        ++coverage_.no_memory;
        expected->status = NoMemory(shard, status);
        expected->check_entry = false;
        expected->has_value = false;
        expected->pinned = nullptr;
        return;
      }
      ++counters.touches;
      ++counters.touch_hits;
      if (get) {
        ++counters.gets;
        ++counters.hits;
        if (!request.no_bump) {
          entry->fetched = true;
          entry->access_s = static_cast<uint32_t>(now_.boot_ms / 1000);
        }
      }
      if (!(get && request.no_bump)) shard.lru.splice(shard.lru.begin(), shard.lru, entry);
      ExpectRecord(shard_index, RecordKind::kTouch, *entry);
      expected->mutates = true;
      expected->expires_ms = entry->expires_ms;
      expected->status = Status::kFound;
      return;
    }
    case Verb::kDelete:
    case Verb::kTake:
    case Verb::kEvict: {
      const bool evict = request.verb == Verb::kEvict;
      const List::iterator entry = Lookup(shard, key, false);
      if (entry == shard.lru.end()) {
        if (request.verb == Verb::kDelete && !request.has_compare && life_.records) {
          if (!ReserveRecord(shard_index, key.size())) {
            expected->status = Status::kLogFull;
            return;
          }
          ExpectDelete(shard_index, key, expected);
        }
        if (!evict) ++counters.deletes;
        VoidFills(key);
        return;
      }
      if (request.has_compare && entry->version != request.compare) {
        DescribeEntry(*entry, expected);
        expected->status = Status::kExists;
        return;
      }
      if (!evict && !ReserveRecord(shard_index, key.size())) {
        expected->status = Status::kLogFull;
        return;
      }
      if (request.verb == Verb::kTake && !request.no_value &&
          !GiveValue(shard, entry, may_pin, &oracle, scratch, expected))
        return;
      DescribeEntry(*entry, expected);
      expected->version = 0;
      expected->status = Status::kFound;
      if (!evict) {
        ++counters.deletes;
        ++counters.delete_hits;
        ExpectRecord(shard_index, RecordKind::kDelete, *entry);
        expected->mutates = true;
      }
      VoidFills(key);
      if (expected->pinned != nullptr) ++expected->pinned->pins;
      Unlink(shard, entry, evict ? Reason::kEvicted : Reason::kDeleted, true);
      if (expected->pinned != nullptr) --expected->pinned->pins;
      return;
    }
  }
}

uint64_t Harness::ClearShard(ModelShard& shard, uint64_t below) {
  const uint32_t shard_index = static_cast<uint32_t>(&shard - shards_.data());
  uint64_t count = 0;
  for (List::iterator entry = shard.lru.begin(); entry != shard.lru.end();) {
    if (entry->version >= below) {
      ++entry;
      continue;
    }
    ++count;
    if (entry->pins() > 0) entry->held->cleared = true;
    ++shard.dead;
    shard.dead_charge_max += entry->charge;
    shard.live_charge -= entry->charge;
    shard.payload -= entry->key.size() + entry->value.size();
    for (CursorHandle& handle : cursors_) handle.must[shard_index].erase(entry->key);
    shard.index.erase(entry->key);
    entry = shard.lru.erase(entry);
  }
  for (Ticket& ticket : tickets_) {
    if (store_->ShardOf(KeyName(ticket.key)) == shard_index) ticket.voided = true;
  }
  return count;
}

// No epoch is left for a clear. Each shard then clears by its own counter; but a barrier for all shards needs an epoch,
// so with records there is no clear any more.
bool Harness::EpochsUsedUp() const { return epoch_ == kEpochMax; }

// Those that are left are for other openings of the log; a clear that was promised takes one of them all the same.
bool Harness::ClearsUsedUp() const { return thrifty_ && epoch_ >= kEpochMax - kEpochsForOpenings; }

void Harness::ClearModel() {
  if (!EpochsUsedUp()) ++epoch_;
  uint64_t count = 0;
  for (ModelShard& shard : shards_) {
    count += ClearShard(shard);
    if (shard.epoch < epoch_) {
      shard.epoch = epoch_;
      shard.last_version = shard.cleared_version = uint64_t{epoch_} << kVersionCounterBits;
    } else {
      // The shard may have given none yet.
      shard.cleared_version = std::max(shard.last_version, uint64_t{epoch_} << kVersionCounterBits) + 1;
    }
    shard.gone_version = std::max(shard.gone_version, shard.last_version);
    shard.gone_known = false;
  }
  if (count > 0) expected_cleared_.push_back(count);
  scheduled_clear_ms_ = 0;
  scheduled_wall_ms_ = 0;
  scheduled_known_ = false;
  cleared_at_.clear();
  last_clear_version_ = 0;
  ++coverage_.clears;
}

void Harness::RunScheduledClear() {
  if (recovering_ || scheduled_clear_ms_ == 0 || now_.boot_ms < scheduled_clear_ms_) return;
  if (life_.records && EpochsUsedUp()) return;
  if (!ReserveBarrier(true)) {
    // A ring always has the room.
    if (has_rings()) Fail("a clear whose time has come finds no room");
    return;
  }
  ++coverage_.scheduled_clears;
  ClearModel();
  ExpectBarrier(0);
}

bool Harness::Schedule(uint64_t at_ms) {
  const int64_t wall_ms = at_ms == 0 ? 0 : static_cast<int64_t>(at_ms) + now_.WallOffset();
  if (at_ms != 0 && ClearsUsedUp()) return false;
  if (life_.records && (at_ms != 0 || scheduled_clear_ms_ != 0)) {
    if (!ReserveBarrier(false)) return false;
    Entry to_come;
    to_come.expires_ms = at_ms;
    ExpectRecord(0, RecordKind::kClearAt, to_come);
  }
  scheduled_clear_ms_ = at_ms;
  scheduled_wall_ms_ = wall_ms;
  return true;
}

// ---- running and comparing ----

void Harness::BeforeCall() {
  expected_removals_.clear();
  expected_cleared_.clear();
  for (auto& records : expected_records_) records.clear();
  flood_slot_ = ~uint64_t{0};
  before_.resize(shards_.size());
  for (uint32_t i = 0; i < shards_.size(); ++i) {
    before_[i] = store_->ShardStats(i);
    shards_[i].limit = before_[i].limit_bytes;
  }
}

bool Harness::CompareOutcome(const Request& request, const std::string& key, const Outcome& actual,
                             const Expected& expected, const char* scratch, bool batch) {
  const auto what = [&] {
    return std::string(kVerbNames[static_cast<int>(request.verb)]) + " " + test::Show(key.substr(0, 40));
  };
  if (actual.status != expected.status) {
    return Fail(what() + ": expected " + NameOf(expected.status) + ", got " + NameOf(actual.status));
  }
  uint32_t shard_index;
  ModelShard& shard = ShardFor(key, &shard_index);
  if (expected.status == Status::kNeedsRoom) {
    if (actual.value_bytes != expected.value_bytes || actual.has_value)
      return Fail(what() + ": needs room for something else");
    return true;
  }
  if (actual.has_value != expected.has_value) return Fail(what() + (actual.has_value ? ": a value" : ": no value"));
  if (expected.mutates != (actual.record_version != 0)) {
    return Fail(what() + (expected.mutates ? ": no record version" : ": a record version though nothing was changed"));
  }
  if (expected.mutates) {
    if (actual.record_version <= shard.last_version) {
      return Fail(what() + Format(": version %llx does not rise above %llx",
                                  static_cast<unsigned long long>(actual.record_version),
                                  static_cast<unsigned long long>(shard.last_version)));
    }
    if (EpochOf(actual.record_version) != shard.epoch) return Fail(what() + ": a version of another epoch");
    shard.last_version = actual.record_version;
    for (ExpectedRecord& record : expected_records_[shard_index]) {
      if (record.key == key && record.version == 0) record.version = actual.record_version;
    }
  }
  uint64_t version = expected.version;
  if (expected.new_version) {
    version = actual.record_version;
    const List::iterator entry = Find(shard, key);
    if (entry != shard.lru.end()) entry->version = version;
  }
  if (expected.check_entry) {
    if (actual.codec != expected.codec)
      return Fail(what() +
                  Format(": codec %d, expected %d", static_cast<int>(actual.codec), static_cast<int>(expected.codec)));
    if (actual.client_flags != expected.client_flags) return Fail(what() + ": client flags differ");
    if (actual.version != version) {
      return Fail(what() + Format(": version %llx, expected %llx", static_cast<unsigned long long>(actual.version),
                                  static_cast<unsigned long long>(version)));
    }
    if (actual.expires_ms != expected.expires_ms) {
      return Fail(what() + Format(": expires at %llu, expected %llu",
                                  static_cast<unsigned long long>(actual.expires_ms),
                                  static_cast<unsigned long long>(expected.expires_ms)));
    }
    if (actual.value_bytes != expected.value_bytes)
      return Fail(what() + Format(": %u value bytes, expected %u", actual.value_bytes, expected.value_bytes));
    if (!IsStoring(request.verb)) {
      if (actual.fetched != expected.fetched)
        return Fail(what() + Format(": fetched %d, expected %d", actual.fetched, expected.fetched));
      if (actual.idle_s != expected.idle_s)
        return Fail(what() + Format(": idle %u s, expected %u s", actual.idle_s, expected.idle_s));
    }
  }
  if (expected.check_number && actual.number != expected.number) return Fail(what() + ": another number");
  if (expected.status != Status::kLogFull && !CompareCommitVersion(actual, shard, shard_index, batch)) {
    return Fail(what() + ": " + std::exchange(failure_, {}));
  }
  if (expected.has_value) {
    std::string value(actual.value_bytes, '\0');
    if (actual.pin.ref != 0) {
      if (expected.pinned == nullptr) return Fail(what() + ": pinned beyond the bounds");
      store_->ReadPinned(actual.pin, 0, value.data(), value.size());
    } else {
      if (expected.pinned != nullptr) return Fail(what() + ": copied though it could be pinned");
      std::memcpy(value.data(), scratch + actual.value_offset, value.size());
    }
    if (value != expected.value) return Fail(what() + ": another value");
  } else if (actual.pin.ref != 0) {
    return Fail(what() + ": a pin without a value");
  }
  if (actual.pin.ref != 0) {
    ++expected.pinned->pins;
    ++coverage_.pins;
    pins_.push_back({shard_index, actual.pin, expected.pinned});
  }
  return true;
}

bool Harness::CompareCommitVersion(const Outcome& actual, ModelShard& shard, uint32_t shard_index, bool batch) {
  const auto hex = [](uint64_t number) { return static_cast<unsigned long long>(number); };
  if (!life_.records) return actual.commit_version == 0 || Fail("a commit version without records");
  const uint64_t told = actual.record_version != 0 ? actual.record_version : actual.version;
  if (told != 0) {
    return actual.commit_version == told ||
           Fail(Format("commit version %llx, expected %llx", hex(actual.commit_version), hex(told)));
  }
  // Records that are read back are no absence of this cache's own making.
  if (!has_rings()) return true;
  // In a batch, others of the shard may have gone since.
  const bool exact = shard.gone_known && !batch;
  if (actual.commit_version < shard.gone_version || actual.commit_version > store_->LastVersion(shard_index) ||
      (exact && actual.commit_version != shard.gone_version)) {
    return Fail(Format("commit version %llx of an absence, expected %s %llx", hex(actual.commit_version),
                       exact ? "exactly" : "at least", hex(shard.gone_version)));
  }
  return true;
}

bool Harness::CompareRemovals() {
  std::vector<Removal> actual = removals_.Take();
  // In a batch the shards work one after another, and so does the model.
  if (flood_slot_ != ~uint64_t{0} && actual.size() > expected_removals_.size()) {
    const StoreStats now = store_->ShardStats(flood_shard_);
    const uint64_t floods = now.hash_flood_evictions - before_[flood_shard_].hash_flood_evictions;
    const size_t extra = actual.size() - expected_removals_.size();
    if (extra <= floods) {
      ModelShard& shard = shards_[flood_shard_];
      for (size_t i = 0; i < extra; ++i) {
        const Removal removal = actual[flood_slot_];
        const List::iterator entry = Find(shard, removal.key);
        if (removal.reason != Reason::kEvicted || entry == shard.lru.end())
          return Fail("a flood victim that was not there");
        const Removal expected{Reason::kEvicted, entry->key, entry->value, entry->codec, entry->client_flags};
        if (!(removal == expected)) return Fail("a flood victim that differs");
        Unlink(shard, entry, Reason::kEvicted, false);
        ++coverage_.flood_evictions;
        actual.erase(actual.begin() + static_cast<ptrdiff_t>(flood_slot_));
      }
    }
  }
  const auto show = [](const std::vector<Removal>& removals, size_t i) {
    if (i >= removals.size()) return std::string("nothing");
    return std::string(kReasonNames[static_cast<int>(removals[i].reason)]) + " " +
           test::Show(removals[i].key.substr(0, 30)) + Format(" (%zu bytes)", removals[i].value.size());
  };
  for (size_t i = 0; i < std::max(actual.size(), expected_removals_.size()); ++i) {
    if (i < actual.size() && i < expected_removals_.size() && actual[i] == expected_removals_[i]) continue;
    return Fail(Format("removal %zu of %zu (expected %zu) is ", i, actual.size(), expected_removals_.size()) +
                show(actual, i) + ", expected " + show(expected_removals_, i));
  }
  if (removals_.TakeCleared() != expected_cleared_) return Fail("cleared counts differ");
  return true;
}

void Harness::Fold(const StoredRecord& record) {
  // The barrier may come before what the other shards had to say by then.
  if (record.version < fold_barrier_) return;
  switch (record.kind) {
    case RecordKind::kSet:
      fold_[record.key] = record;
      break;
    case RecordKind::kDelete:
      fold_.erase(record.key);
      break;
    case RecordKind::kTouch: {
      const auto found = fold_.find(record.key);
      if (found == fold_.end()) {
        Fail("a touch of what the records do not have");
        return;
      }
      found->second.expires_wall_ms = record.expires_wall_ms;
      break;
    }
    case RecordKind::kClear:
      fold_barrier_ = uint64_t{EpochOf(record.version)} << kVersionCounterBits;
      std::erase_if(fold_, [&](const auto& item) { return item.second.version < fold_barrier_; });
      fold_clear_at_ = 0;
      break;
    case RecordKind::kClearAt:
      fold_clear_at_ = record.expires_wall_ms;
      break;
  }
}

bool Harness::CompareRecord(const StoredRecord& a, const ExpectedRecord& e) {
  ++coverage_.records;
  if (a.kind != e.kind || a.key != e.key || a.value != e.value || a.client_flags != e.client_flags ||
      a.expires_wall_ms != e.expires_wall_ms || (a.kind != RecordKind::kDelete && a.codec != e.codec)) {
    return Fail(
        Format("a record of kind %d (expected %d) differs: codec %d/%d, flags %u/%u, expires %lld/%lld, value "
               "%zu/%zu, key %zu/%zu",
               static_cast<int>(a.kind), static_cast<int>(e.kind), a.codec, e.codec, a.client_flags, e.client_flags,
               static_cast<long long>(a.expires_wall_ms), static_cast<long long>(e.expires_wall_ms), a.value.size(),
               e.value.size(), a.key.size(), e.key.size()));
  }
  if (e.version != 0 && a.version != e.version) {
    return Fail(Format("record version %llx, expected %llx", static_cast<unsigned long long>(a.version),
                       static_cast<unsigned long long>(e.version)));
  }
  return true;
}

bool Harness::CompareRecords() {
  if (!life_.records) return true;
  for (uint32_t i = 0; i < shards_.size(); ++i) {
    std::vector<ExpectedRecord>& expected = expected_records_[i];
    ModelShard& shard = shards_[i];
    for (const ExpectedRecord& record : expected) {
      const bool goes = record.kind == RecordKind::kDelete || record.kind == RecordKind::kClear ||
                        (record.kind == RecordKind::kTouch && record.expires_wall_ms != 0);
      if (!goes) continue;
      if (record.version == 0) shard.gone_known = false;
      if (record.version > shard.gone_version) {
        shard.gone_version = record.version;
        shard.gone_known = true;
      }
    }
    if (has_rings()) {
      std::move(expected.begin(), expected.end(), std::back_inserter(rings_[i].records));
      expected.clear();
      if (!CompareRing(i)) return false;
      continue;
    }
    const std::vector<StoredRecord> actual = recorders_[i]->Take();
    if (actual.size() != expected.size())
      return Fail(Format("%zu records, expected %zu", actual.size(), expected.size()));
    for (size_t k = 0; k < actual.size(); ++k) {
      const StoredRecord& a = actual[k];
      const ExpectedRecord& e = expected[k];
      if (!CompareRecord(a, e)) return false;
      if (e.version == 0 && a.kind != RecordKind::kClear && a.version <= shard.last_version) {
        return Fail("the version of a record does not rise");
      }
      shard.last_version = std::max(shard.last_version, a.version);
      Fold(a);
      if (!failure_.empty()) return false;
    }
    if (recorders_[i]->refuse_left() != refuse_[i]) {
      return Fail(Format("%d refusals left, expected %d", recorders_[i]->refuse_left(), refuse_[i]));
    }
  }
  return true;
}

bool Harness::CompareRing(uint32_t shard_index) {
  const Ring& ring = rings_[shard_index];
  const RingStats actual = store_->RingStatsOf(shard_index);
  if (actual.fill_bytes == ring.written - ring.freed && actual.records == ring.count) return true;
  return Fail(
      Format("ring %u holds %llu bytes, %llu records so far; expected %llu and %llu", shard_index,
             static_cast<unsigned long long>(actual.fill_bytes), static_cast<unsigned long long>(actual.records),
             static_cast<unsigned long long>(ring.written - ring.freed), static_cast<unsigned long long>(ring.count)));
}

bool Harness::DoDrain(uint32_t shard_index, size_t capacity) {
  Ring& ring = rings_[shard_index];
  drain_bytes_.assign(capacity, '\x55');
  const RingDrain actual = store_->DrainRing(shard_index, drain_bytes_.data(), capacity);
  size_t bytes = 0, needed = 0;
  uint32_t count = 0;
  uint64_t version = 0;
  std::string_view rest(drain_bytes_.data(), actual.bytes);
  while (ring.drained < ring.records.size()) {
    const ExpectedRecord& expected = ring.records[ring.drained];
    const size_t record_bytes = RecordBytes(expected.key.size(), expected.value.size());
    if (bytes + record_bytes > capacity) {
      needed = record_bytes;
      break;
    }
    RecordView view;
    if (DecodeRecord(rest, &view) != DecodeStatus::kOk || view.record_bytes != record_bytes) {
      return Fail(Format("drain: record %u is none, or another one", count));
    }
    const StoredRecord record{view.kind,
                              view.codec,
                              view.version,
                              view.expires_wall_ms,
                              view.client_flags,
                              std::string(view.key),
                              std::string(view.value)};
    if (!CompareRecord(record, expected)) return false;
    if (view.version <= version) return Fail("drain: versions do not rise");
    version = view.version;
    if (view.kind == RecordKind::kClear) {
      if (EpochOf(version) != expected.epoch) return Fail("drain: a barrier of another epoch");
      ring.barrier = expected.epoch;
    }
    bytes += record_bytes;
    ++count;
    rest.remove_prefix(record_bytes);
    ++coverage_.ring_drained;
    if (++ring.drained <= ring.seen) continue;
    ring.seen = ring.drained;
    Fold(record);
    if (!failure_.empty()) return false;
    replay_whole_ = replay_whole_ && replay_.size() < (size_t{64} << 20);
    if (replay_whole_) replay_.append(drain_bytes_.data() + bytes - record_bytes, record_bytes);
  }
  if (actual.bytes != bytes || actual.record_count != count || actual.bytes_needed != needed) {
    return Fail(Format("drain: %zu bytes, %u records, %zu needed; expected %zu, %u, %zu", actual.bytes,
                       actual.record_count, actual.bytes_needed, bytes, count, needed));
  }
  // What is skipped before a record that did not fit has been passed.
  if (count > 0) ring.drained_at = needed == 0 ? ring.written : ring.records[ring.drained].ring_begin;
  if (needed == 0) version = store_->LastVersion(shard_index);
  // What a clear did to the other shards is not told of before its barrier in shard 0 has been drained.
  const uint32_t barrier = rings_[0].barrier;
  if (shard_index != 0 && EpochOf(version) > barrier) {
    for (size_t i = rings_[0].drained; i < rings_[0].records.size(); ++i) {
      if (rings_[0].records[i].kind != RecordKind::kClear) continue;
      version = (uint64_t{barrier} << kVersionCounterBits) | kVersionCounterMask;
      ++coverage_.ring_waits_for_barrier;
      break;
    }
  }
  if (actual.version != version) {
    return Fail(Format("drain: version %llx, expected %llx", static_cast<unsigned long long>(actual.version),
                       static_cast<unsigned long long>(version)));
  }
  return CompareRing(shard_index);
}

bool Harness::DoCommit(uint32_t shard_index) {
  BeforeCall();
  store_->CommitRing(shard_index);
  Ring& ring = rings_[shard_index];
  for (size_t i = 0; i < ring.drained; ++i) {
    const ExpectedRecord& record = ring.records[i];
    ring.freed = ring.drained_at;
    if (record.pinned == nullptr) continue;
    Held& held = *record.pinned;
    ring.pinned_charge -= held.charge;
    if (--held.pins == 0 && held.left) {
      shards_[shard_index].zombie_charge -= held.charge;
      ++coverage_.ring_zombies;
    }
  }
  ring.records.erase(ring.records.begin(), ring.records.begin() + static_cast<ptrdiff_t>(ring.drained));
  ring.seen -= ring.drained;
  ring.drained = 0;
  ring.barrier_committed = ring.barrier;
  return AfterCall("commit");
}

bool Harness::DoRewind(uint32_t shard_index) {
  Ring& ring = rings_[shard_index];
  store_->RewindRing(shard_index);
  if (ring.drained > 0) ++coverage_.ring_rewound;
  ring.drained = 0;
  ring.barrier = ring.barrier_committed;
  return CompareRing(shard_index);
}

bool Harness::DrainEverything() {
  for (uint32_t i = 0; i < rings_.size(); ++i) {
    while (rings_[i].drained < rings_[i].records.size()) {
      const ExpectedRecord& next = rings_[i].records[rings_[i].drained];
      if (!DoDrain(i, std::max(RecordBytes(next.key.size(), next.value.size()), size_t{100'000}))) return false;
    }
  }
  return true;
}

// What was drained, applied to a store of another shape, is what the records say.
bool Harness::Replay() {
  if (!has_rings() || !replay_whole_) return true;
  StoreOptions options = life_.options;
  options.memory_bytes = uint64_t{64} << 20;
  options.memory_bytes_ceiling = 0;
  options.shard_count = life_.options.shard_count == 1 ? 4 : 1;
  options.entries_max = 0;
  options.value_bytes_max = uint64_t{3} << 20;
  options.page_bytes = 0;
  options.ring_bytes = 0;
  options.epoch = 1;
  options.hash = HashKind::kFast;
  options.secrets = FixedSecrets(77);
  std::string error;
  const std::unique_ptr<Store> other = Store::Open(options, &error);
  if (other == nullptr) return Fail("replay: " + error);
  other->SetRecovering(true);
  for (std::string_view rest = replay_; !rest.empty();) {
    RecordView record;
    if (DecodeRecord(rest, &record) != DecodeStatus::kOk) return Fail("replay: not a record");
    (void)other->Apply(record, now_, true);
    rest.remove_prefix(record.record_bytes);
    ++coverage_.ring_replayed;
  }
  RecordView to_come;
  if (other->PendingClear(now_, &to_come) != (fold_clear_at_ != 0)) return Fail("replay: another clear is to come");
  const bool is_over = fold_clear_at_ != 0 && fold_clear_at_ <= now_.wall_ms;
  other->SetRecovering(false);
  other->Verify();
  const StoreStats stats = other->Stats();
  const bool all_fit = stats.evictions + stats.expirations + stats.too_large + stats.no_memory == 0;
  size_t found = 0;
  // Two numbers may have the same name.
  const std::set<std::string> names(key_names_.begin(), key_names_.end());
  for (const std::string& key : names) {
    if (key.empty()) continue;
    const auto expected = fold_.find(key);
    const bool is_there = !is_over && expected != fold_.end() &&
                          (expected->second.expires_wall_ms == 0 || expected->second.expires_wall_ms > now_.wall_ms);
    Request request;
    request.verb = Verb::kPeek;
    request.key = key;
    Scratch scratch{scratch_.data(), scratch_.size(), 0};
    Outcome outcome;
    other->Execute(request, now_, &scratch, &outcome);
    if (outcome.status != Status::kFound) {
      if (is_there && all_fit) return Fail("replay: " + test::Show(key.substr(0, 40)) + " is missing");
      continue;
    }
    ++found;
    std::string value(outcome.value_bytes, '\0');
    if (outcome.pin.ref != 0) {
      other->ReadPinned(outcome.pin, 0, value.data(), value.size());
      other->Unpin(outcome.pin);
    } else {
      std::memcpy(value.data(), scratch_.data() + outcome.value_offset, value.size());
    }
    if (!is_there) return Fail("replay: " + test::Show(key.substr(0, 40)) + " is there");
    const StoredRecord& record = expected->second;
    const int64_t expires_wall_ms =
        outcome.expires_ms == kNeverExpires ? 0 : static_cast<int64_t>(outcome.expires_ms) + now_.WallOffset();
    if (value != record.value || outcome.version != record.version || outcome.client_flags != record.client_flags ||
        static_cast<uint8_t>(outcome.codec) != record.codec || expires_wall_ms != record.expires_wall_ms) {
      return Fail("replay: " + test::Show(key.substr(0, 40)) + " differs");
    }
  }
  const auto is_live = [&](const auto& item) {
    return !is_over && (item.second.expires_wall_ms == 0 || item.second.expires_wall_ms > now_.wall_ms);
  };
  if (all_fit && found != static_cast<size_t>(std::count_if(fold_.begin(), fold_.end(), is_live))) {
    return Fail("replay: another number of entries");
  }
  return true;
}

bool Harness::CompareFold() {
  if (!life_.records) return true;
  if (!DrainEverything()) return false;
  size_t live = 0;
  for (ModelShard& shard : shards_) {
    for (const Entry& entry : shard.lru) {
      ++live;
      const auto found = fold_.find(entry.key);
      if (found == fold_.end()) return Fail("the records do not have " + test::Show(entry.key.substr(0, 40)));
      const StoredRecord& record = found->second;
      if (record.version != entry.version || record.value != entry.value || record.client_flags != entry.client_flags ||
          record.codec != static_cast<uint8_t>(entry.codec) ||
          (record.expires_wall_ms == 0) != (entry.expires_ms == kNeverExpires)) {
        return Fail("the records have " + test::Show(entry.key.substr(0, 40)) + " otherwise");
      }
    }
  }
  size_t missing = 0;
  for (const auto& [key, record] : fold_) {
    if (Find(ShardFor(key), key) != ShardFor(key).lru.end()) continue;
    ++missing;
    if (!lost_.contains(key))
      return Fail("the records have " + test::Show(key.substr(0, 40)) + ", which left without a trace");
  }
  if (live + missing != fold_.size()) return Fail("the fold has another size");
  if (fold_clear_at_ != scheduled_wall_ms_) return Fail("the records say otherwise when a clear is to come");
  RecordView to_come;
  if (store_->PendingClear(now_, &to_come) != (scheduled_clear_ms_ != 0) ||
      to_come.expires_wall_ms !=
          (scheduled_clear_ms_ == 0 ? 0 : static_cast<int64_t>(scheduled_clear_ms_) + now_.WallOffset())) {
    return Fail("another clear is to come");
  }
  return true;
}

bool Harness::CompareShards() {
  for (uint32_t i = 0; i < shards_.size(); ++i) {
    ModelShard& shard = shards_[i];
    const StoreStats actual = store_->ShardStats(i);
    const auto differ = [&](const char* name, uint64_t a, uint64_t e) {
      return Fail(Format("shard %u: %s is %llu, expected %llu", i, name, static_cast<unsigned long long>(a),
                         static_cast<unsigned long long>(e)));
    };
    if (actual.entries != shard.lru.size()) return differ("entries", actual.entries, shard.lru.size());
    if (actual.cleared_entries > shard.dead) return differ("cleared_entries", actual.cleared_entries, shard.dead);
    shard.dead = actual.cleared_entries;
    uint64_t dead_pinned = 0;
    std::set<const Held*> counted;
    (void)PinnedCharge(shard, &counted, &dead_pinned);
    const uint64_t known = shard.live_charge + shard.zombie_charge + shard.body_charge;
    if (actual.charged_bytes < known + dead_pinned)
      return differ("charged_bytes", actual.charged_bytes, known + dead_pinned);
    const uint64_t pool = actual.charged_bytes - known;
    if (shard.dead == 0 && pool != dead_pinned)
      return differ("charged_bytes", actual.charged_bytes, known + dead_pinned);
    if (pool > shard.dead_charge_max)
      return differ("charged_bytes", actual.charged_bytes, known + shard.dead_charge_max);
    shard.dead_charge_max = pool;
    if (actual.charged_bytes > actual.limit_bytes)
      return differ("charged_bytes above limit_bytes", actual.charged_bytes, actual.limit_bytes);
    if (shard.dead == 0 && actual.payload_bytes != shard.payload)
      return differ("payload_bytes", actual.payload_bytes, shard.payload);
    if (actual.reserve_evictions != 0) return differ("reserve_evictions", actual.reserve_evictions, 0);
#define CAIRN_MODEL_COUNTERS(X) \
  X(gets)                       \
  X(hits)                       \
  X(misses)                     \
  X(sets)                       \
  X(touches)                    \
  X(touch_hits)                 \
  X(deletes)                    \
  X(delete_hits)                \
  X(incr_hits)                  \
  X(incr_misses)                \
  X(decr_hits)                  \
  X(decr_misses)                \
  X(cas_hits)                   \
  X(cas_misses)                 \
  X(cas_exists)                 \
  X(evictions)                  \
  X(evicted_unfetched) X(expirations) X(expired_unfetched) X(get_expired) X(too_large) X(no_memory) X(log_full)
#define X(name) \
  if (actual.name != shard.counters.name) return differ(#name, actual.name, shard.counters.name);
    CAIRN_MODEL_COUNTERS(X)
#undef X
  }
  for (const Ticket& ticket : tickets_) {
    if (ticket.ticket->voided() != ticket.voided)
      return Fail(ticket.voided ? "a ticket was not voided" : "a ticket was voided");
  }
  return true;
}

bool Harness::AfterCall(const char* what) {
  const bool good = failure_.empty() && CompareRemovals() && CompareRecords() && CompareShards();
  if (!good) failure_ = std::string(what) + ": " + failure_;
  return good;
}

Request Harness::MakeRequest(const Op& op, const std::string& key, const std::string& value) {
  Request request;
  request.verb = op.verb;
  request.codec = static_cast<Codec>(op.codec % kCodecCount);
  request.key = key;
  request.value = value;
  request.expires_ms = ExpiryOf(op.ttl);
  request.client_flags = (op.options & kOptClientFlags) ? op.number | 1 : 0;
  request.no_bump = (op.options & kOptNoBump) && (op.verb == Verb::kGet || op.verb == Verb::kGetAndTouch);
  request.no_value = (op.options & kOptNoValue) != 0;
  request.has_initial = (op.options & kOptInitial) != 0;
  request.pad_decimal = (op.options & kOptPad) != 0;
  request.delta = op.number % 5 == 0 ? ~uint64_t{0} - op.number : op.number % 300;
  request.initial = op.number % 4 == 0 ? ~uint64_t{0} : op.number % 1000;
  ModelShard& shard = ShardFor(key);
  const List::iterator entry = Find(shard, key);
  const uint64_t version = entry == shard.lru.end() ? 1 : entry->version;
  request.has_compare = (op.options & (kOptCompareRight | kOptCompareWrong)) != 0;
  request.compare = (op.options & kOptCompareWrong) ? version + 1 + op.number % 3 : version;
  return request;
}

bool Harness::DoRequest(const Op& op) {
  const std::string& key = KeyName(op.key);
  const std::string value = ValueOf(op);
  Request request = MakeRequest(op, key, value);
  if (request.verb == Verb::kSet && (op.options & kOptFill)) {
    for (Ticket& ticket : tickets_) {
      if (KeyName(ticket.key) == key) request.fill = ticket.ticket.get();
    }
  }
  const bool timed = request.expires_ms != kNeverExpires && request.expires_ms != kKeepExpiry;
  // Until something can expire, the clock need not be read.
  const Now now = store_->uses_time() || timed ? now_ : Now{};
  size_t capacity = scratch_.size();
  if (op.options & kOptSmallScratch) capacity = op.number % 5000;
  if (op.options & kOptNoScratch) capacity = 0;
  Scratch scratch{scratch_.data(), capacity, 0};
  Scratch model_scratch = scratch;
  BeforeCall();
  Outcome actual;
  const bool plainly = op.number % 2 == 0 && AskPlainly(request, now, &scratch, &actual);
  if (!plainly) store_->Execute(request, now, &scratch, &actual);
  RunScheduledClear();
  Expected expected;
  Execute(request, key, true, &actual, &model_scratch, &expected);
  if (plainly) {
    // How it was before the request cannot be looked at any more.
    actual.fetched = expected.fetched;
    actual.idle_s = expected.idle_s;
  }
  if (!CompareOutcome(request, key, actual, expected, scratch_.data())) return AfterCall("");
  if (actual.pin.ref == 0 && scratch.used != model_scratch.used) {
    Fail("scratch.used differs");
  }
  return AfterCall(kVerbNames[static_cast<int>(request.verb)]);
}

Outcome Harness::LookAt(std::string_view key) {
  Request look;
  look.verb = Verb::kHas;
  look.key = key;
  Scratch none;
  Outcome outcome;
  store_->Execute(look, Now{}, &none, &outcome);
  return outcome;
}

bool Harness::AskPlainly(const Request& request, const Now& now, Scratch* scratch, Outcome* outcome) {
  uint32_t shard_index;
  ShardFor(std::string(request.key), &shard_index);
  if (request.verb == Verb::kGet && !request.no_bump && !request.no_value) {
    PlainValue value;
    const Status status =
        store_->GetPlain(request.key, now, scratch->data, std::min(scratch->capacity, kCopyUnderLockBytesMax), &value);
    if (status == Status::kNeedsRoom) return false;
    *outcome = LookAt(request.key);
    outcome->status = status;
    if (status == Status::kFound) {
      outcome->codec = value.codec;
      outcome->value_bytes = value.value_bytes;
      outcome->client_flags = value.client_flags;
      outcome->has_value = true;
      scratch->used = value.value_bytes;
    }
    ++coverage_.plain_gets;
    return true;
  }
  const bool clear_is_due = scheduled_clear_ms_ != 0 && now.boot_ms >= scheduled_clear_ms_;
  if (request.verb == Verb::kSet && !request.has_compare && request.fill == nullptr && request.client_flags == 0 &&
      request.expires_ms != kKeepExpiry && request.value.size() <= kCopyUnderLockBytesMax && !clear_is_due) {
    const uint64_t last_version = store_->LastVersion(shard_index);
    const Status status = store_->SetPlain(request.key, request.value, request.codec, request.expires_ms, now);
    const uint64_t version = store_->LastVersion(shard_index);
    *outcome = LookAt(request.key);
    outcome->status = status;
    if (version != last_version) outcome->record_version = version;
    if (version != last_version && life_.records) outcome->commit_version = version;
    ++coverage_.plain_sets;
    return true;
  }
  return false;
}

bool Harness::DoMany(const Op& op) {
  test::Random random(op.number);
  const size_t count = 1 + op.number % 80;
  // Either whatever comes, or neighbouring keys treated alike, which fills and empties a store.
  const bool alike = (op.options & (kOptText | kOptPad)) != 0;
  const uint32_t size = std::min(op.bytes, 9000u);
  std::vector<std::string> values(count);
  std::vector<Request> requests(count);
  std::vector<Outcome> outcomes(count);
  std::vector<const std::string*> keys(count);
  bool timed = false;
  for (size_t i = 0; i < count; ++i) {
    Op one = op;
    one.kind = OpKind::kRequest;
    one.key = static_cast<uint16_t>(alike ? op.key + i : random.OneIn(4) ? op.key : random.Below(life_.key_count));
    one.verb = alike ? op.verb : random.OneIn(2) ? Verb::kGet : static_cast<Verb>(random.Below(16));
    // In lives with overlong chains victims of a batch could not be told apart, so batches only read there.
    if (life_.colliding_keys) one.verb = Verb::kGet;
    one.number = static_cast<uint32_t>(random.Next());
    one.bytes = static_cast<uint32_t>(alike ? size + random.Below(8) : random.Below(uint64_t{1} << random.Below(15)));
    one.ttl = static_cast<uint8_t>(random.OneIn(life_.ttl_share) ? random.Next() : 0);
    one.codec = static_cast<uint8_t>(random.OneIn(3) ? random.Below(kCodecCount) : 0);
    one.options = static_cast<uint16_t>(random.Next() & random.Next() & random.Next());
    one.options &= static_cast<uint16_t>(~(kOptCompareRight | kOptCompareWrong | kOptFill));
    if (has_rings()) {
      // Whether there are pages to pin for a large value is known for one request at a time.
      if (one.verb == Verb::kAppend || one.verb == Verb::kPrepend) one.verb = Verb::kSet;
      one.bytes = std::min(one.bytes, 16'000u);
    }
    if (one.verb == Verb::kCas) one.verb = Verb::kSet;  // the version to compare with is known only as it is reached
    keys[i] = &KeyName(one.key);
    values[i] = ValueOf(one);
    requests[i] = MakeRequest(one, *keys[i], values[i]);
    if (requests[i].expires_ms != kNeverExpires && requests[i].expires_ms != kKeepExpiry) timed = true;
  }
  size_t capacity = scratch_.size();
  if (op.options & kOptSmallScratch) capacity = op.number % 20'000;
  Scratch scratch{scratch_.data(), capacity, 0};
  Scratch model_scratch = scratch;
  BeforeCall();
  store_->ExecuteMany(requests.data(), count, store_->uses_time() || timed ? now_ : Now{}, &scratch, outcomes.data());
  RunScheduledClear();
  // Keys that must not be read any more, because a mutation of theirs was refused; others may share a bit with one.
  std::set<std::string> refused;
  std::set<uint64_t> refused_bits;
  const auto refuse = [&](const std::string& key) {
    refused.insert(key);
    refused_bits.insert(TableHash(life_.options.hash, key, life_.options.secrets) % 512);
  };
  for (uint32_t shard = 0; shard < shards_.size(); ++shard) {
    bool out_of_room = false;
    bool log_full = false;
    for (size_t i = 0; i < count; ++i) {
      if (store_->ShardOf(*keys[i]) != shard) continue;
      if (out_of_room) {
        // Nothing behind the first that found no room was done, so that asking again keeps the order.
        if (outcomes[i].status != Status::kNeedsRoom) Fail("done behind a request of its shard that found no room");
        continue;
      }
      if (log_full) {
        const Verb verb = requests[i].verb;
        const bool read = verb == Verb::kGet || verb == Verb::kPeek || verb == Verb::kHas;
        const bool was_refused = outcomes[i].status == Status::kLogFull;
        if (!was_refused && (!read || refused.contains(*keys[i]))) Fail("done behind a request that found no room");
        if (was_refused && read &&
            !refused_bits.contains(TableHash(life_.options.hash, *keys[i], life_.options.secrets) % 512)) {
          Fail("a read was refused for nothing");
        }
        if (!read) refuse(*keys[i]);
        if (was_refused) continue;
      }
      out_of_room = outcomes[i].status == Status::kNeedsRoom;
      if (outcomes[i].status == Status::kLogFull) {
        log_full = true;
        refuse(*keys[i]);
      }
      Expected expected;
      Execute(requests[i], *keys[i], false, &outcomes[i], &model_scratch, &expected);
      if (!CompareOutcome(requests[i], *keys[i], outcomes[i], expected, scratch_.data(), true))
        return AfterCall("many");
    }
  }
  return AfterCall("many");
}

// Whether another body may begin; takes those away that have stalled, the one that was written to first before others,
// if that is what it takes.
bool Harness::HasBodyPlace(uint32_t shard_index, uint64_t charge, const Now& now) {
  ModelShard& shard = shards_[shard_index];
  const auto fits = [&](uint64_t charge_less, int count_less) {
    return shard.bodies - count_less < kBodiesMax - 1 && shard.body_charge - charge_less + charge <= shard.limit / 2;
  };
  std::vector<BodyHandle*> stalled;
  uint64_t stalled_charge = 0;
  for (BodyHandle& handle : bodies_) {
    const bool slow = handle.written_ms != 0 && handle.written_ms + kBodyStalledMs <= now.boot_ms;
    if (handle.lost || handle.body.shard != shard_index || !slow) continue;
    stalled.push_back(&handle);
    stalled_charge += handle.charge;
  }
  if (stalled.empty() || !fits(stalled_charge, static_cast<int>(stalled.size()))) return fits(0, 0);
  std::sort(stalled.begin(), stalled.end(), [](const BodyHandle* a, const BodyHandle* b) {
    return std::pair(a->written_ms, a->body.ref) < std::pair(b->written_ms, b->body.ref);
  });
  for (BodyHandle* handle : stalled) {
    if (fits(0, 0)) break;
    handle->lost = true;
    shard.body_charge -= handle->charge;
    --shard.bodies;
    ++coverage_.bodies_lost;
  }
  return fits(0, 0);
}

bool Harness::DoReserve(const Op& op) {
  static constexpr Verb kBodyVerbs[] = {Verb::kSet, Verb::kSet, Verb::kAdd, Verb::kReplace, Verb::kCas};
  if (bodies_.size() > 70) return true;
  Op one = op;
  one.verb = kBodyVerbs[static_cast<int>(op.verb) % 5];
  const std::string& key = KeyName(op.key);
  std::string value = ValueOf(one);
  Request request = MakeRequest(one, key, {});
  // Not for bodies that may be small.
  if (request.expires_ms == kKeepExpiry && value.size() <= kBodyKeepsExpiryBytesMin) request.expires_ms = kNeverExpires;
  const bool timed = request.expires_ms != kNeverExpires && request.expires_ms != kKeepExpiry;
  Body body;
  BeforeCall();
  const Now now = store_->uses_time() || timed ? now_ : Now{};
  const Status actual = store_->Reserve(request, static_cast<uint32_t>(value.size()), now, &body);
  RunScheduledClear();
  uint32_t shard_index;
  ModelShard& shard = ShardFor(key, &shard_index);
  const Layout layout = LayoutOf(key.size(), value.size(), request.expires_ms, request.client_flags);
  Status expected = Status::kStored;
  if (value.size() > store_->value_bytes_max() || layout.charge > shard.limit) {
    expected = Status::kTooLarge;
  } else if (RingHoldsRoom(shard, layout.charge)) {
    Refused(shard_index);
    expected = Status::kLogFull;
  } else if (!HasBodyPlace(shard_index, layout.charge, now)) {
    ++shard.counters.no_memory;
    ++coverage_.bodies_refused;
    if (actual != Status::kNoMemory) Fail(std::string("expected no-memory, got ") + NameOf(actual));
    return AfterCall("reserve");
  } else if (!MakeRoom(shard, layout.charge, false, false)) {
    expected = Status::kNoMemory;
  }
  if (expected == Status::kTooLarge || expected == Status::kNoMemory) {
    ++coverage_.bodies_refused;
    ++(expected == Status::kTooLarge ? shard.counters.too_large : shard.counters.no_memory);
    const List::iterator old = Find(shard, key);
    const bool other_version =
        request.has_compare && old != shard.lru.end() && !IsExpired(*old) && old->version != request.compare;
    if (request.verb == Verb::kSet && !other_version) {
      VoidFills(key);
      if (old != shard.lru.end() || life_.records) {
        if (ReserveRecord(shard_index, key.size())) {
          if (life_.records) ExpectDelete(shard_index, key, nullptr);
          if (old != shard.lru.end()) Unlink(shard, old, Reason::kReplaced, true);
        } else {
          expected = Status::kLogFull;
        }
      }
    }
  }
  if (actual != expected) Fail(std::string("expected ") + NameOf(expected) + ", got " + NameOf(actual));
  if (static_cast<bool>(body) != (actual == Status::kStored)) Fail("a body that does not fit the status");
  if (body) {
    ++shard.bodies;
    shard.body_charge += layout.charge;
    request.key = {};
    bodies_.push_back({body, request, op.key, std::move(value), layout.charge, layout, 0, now.boot_ms, false});
  }
  return AfterCall("reserve");
}

bool Harness::DoWriteBody(const Op& op) {
  if (bodies_.empty()) return true;
  BodyHandle& handle = bodies_[op.number % bodies_.size()];
  const size_t bytes = std::min<size_t>(handle.value.size() - handle.written, op.bytes);
  BeforeCall();
  const Now now = store_->uses_time() ? now_ : Now{};
  const bool written =
      store_->WriteBody(handle.body, handle.written, std::string_view(handle.value).substr(handle.written, bytes), now);
  if (bytes > 0 && written == handle.lost) Fail(written ? "a lost body was written to" : "a body was lost");
  if (bytes > 0 && now.boot_ms != 0) handle.written_ms = now.boot_ms;
  handle.written += bytes;
  return AfterCall("writeBody");
}

bool Harness::DoLink(const Op& op, bool abandon) {
  if (bodies_.empty()) return true;
  const size_t which = op.number % bodies_.size();
  BodyHandle& handle = bodies_[which];
  const std::string& key = KeyName(handle.key);
  uint32_t shard_index;
  ModelShard& shard = ShardFor(key, &shard_index);
  BeforeCall();
  if (handle.lost) {
    Request request = handle.request;
    request.key = key;
    Outcome actual;
    if (abandon) {
      store_->Abandon(&handle.body);
    } else {
      store_->Link(&handle.body, request, store_->uses_time() ? now_ : Now{}, &actual);
      RunScheduledClear();
      if (actual.status != Status::kNoMemory) Fail(std::string("expected no-memory, got ") + NameOf(actual.status));
    }
    if (handle.body) Fail("a lost body was not taken");
    bodies_.erase(bodies_.begin() + static_cast<ptrdiff_t>(which));
    return AfterCall("lost");
  }
  if (abandon) {
    store_->Abandon(&handle.body);
    shard.body_charge -= handle.charge;
    --shard.bodies;
    bodies_.erase(bodies_.begin() + static_cast<ptrdiff_t>(which));
    return AfterCall("abandon");
  }
  if (handle.written < handle.value.size()) {
    (void)store_->WriteBody(handle.body, handle.written, std::string_view(handle.value).substr(handle.written));
    handle.written = handle.value.size();
  }
  Request request = handle.request;
  request.key = key;
  Outcome actual;
  store_->Link(&handle.body, request, store_->uses_time() ? now_ : Now{}, &actual);
  RunScheduledClear();
  Expected expected;
  const List::iterator old = Lookup(shard, key, false);
  const bool present = old != shard.lru.end();
  expected.status = Condition(request, shard, old);
  if (request.verb == Verb::kCas) {
    if (expected.status == Status::kNotFound) ++shard.counters.cas_misses;
    if (expected.status == Status::kExists) ++shard.counters.cas_exists;
  }
  bool keeps_body = false;
  Entry from;
  from.key = key;
  from.value = handle.value;
  from.codec = request.codec;
  from.client_flags = request.client_flags;
  from.expires_ms = request.expires_ms;
  if (from.expires_ms == kKeepExpiry) from.expires_ms = present ? old->expires_ms : kNeverExpires;
  if (expected.status != Status::kStored) {
    if (present) DescribeEntry(*old, &expected);
    shard.body_charge -= handle.charge;
    --shard.bodies;
  } else if (!ReserveEntry(shard_index, from, true)) {
    expected.status = Status::kLogFull;
    keeps_body = true;
    handle.written_ms = 0;
  } else {
    from.charge = handle.charge;
    from.size_class = handle.layout.size_class;
    from.chunked = handle.layout.chunked;
    from.nonwhole_chunks = handle.layout.nonwhole_chunks;
    from.access_s = static_cast<uint32_t>(now_.boot_ms / 1000);
    from.filed_ms = now_.boot_ms;
    if (present) Unlink(shard, old, Reason::kReplaced, true, true);
    MakeRoom(shard, 0, true, false);
    shard.body_charge -= handle.charge;
    --shard.bodies;
    PinForRing(shard_index, &from);
    ExpectRecord(shard_index, RecordKind::kSet, from);
    if (!life_.records) expected_records_[shard_index].clear();
    DescribeEntry(*LinkFront(shard, std::move(from)), &expected);
    expected.mutates = true;
    expected.new_version = true;
    ++shard.counters.sets;
    if (request.verb == Verb::kCas) ++shard.counters.cas_hits;
    VoidFills(key);
    ++coverage_.bodies_linked;
  }
  if (!CompareOutcome(request, key, actual, expected, nullptr)) return AfterCall("link");
  if (static_cast<bool>(handle.body) != keeps_body) return Fail("link: the body was not taken, or it was");
  if (!keeps_body) bodies_.erase(bodies_.begin() + static_cast<ptrdiff_t>(which));
  return AfterCall("link");
}

bool Harness::DoReadPin(const Op& op, bool release) {
  if (pins_.empty()) return true;
  const size_t which = op.number % pins_.size();
  PinHandle& handle = pins_[which];
  const std::string& value = handle.held->value;
  const size_t offset = op.bytes % (value.size() + 1);
  const size_t bytes = release ? value.size() - offset : (op.number >> 8) % (value.size() - offset + 1);
  std::string read(bytes, '\0');
  store_->ReadPinned(handle.pin, offset, read.data(), bytes);
  if (read != std::string_view(value).substr(offset, bytes)) return Fail("a pinned value changed");
  if (!release) return true;
  BeforeCall();
  store_->Unpin(handle.pin);
  Held& held = *handle.held;
  if (--held.pins == 0 && held.left) shards_[handle.shard].zombie_charge -= held.charge;
  pins_.erase(pins_.begin() + static_cast<ptrdiff_t>(which));
  return AfterCall("unpin");
}

std::vector<uint64_t> Harness::LastVersions() const {
  std::vector<uint64_t> versions;
  for (uint32_t i = 0; i < store_->shard_count(); ++i) versions.push_back(store_->LastVersion(i));
  return versions;
}

bool Harness::DoClear() {
  BeforeCall();
  const std::vector<uint64_t> before = LastVersions();
  const uint64_t version = store_->Clear(store_->uses_time() ? now_ : Now{});
  if (version != 0 && LastVersions() == before) {
    // It is the one before it, and all that it does is to void what loads have begun since.
    const bool is_clear = scheduled_clear_ms_ == 0 && std::all_of(shards_.begin(), shards_.end(),
                                                                  [](const ModelShard& s) { return s.lru.empty(); });
    if (!thrifty_ || !is_clear || (!cleared_at_.empty() && cleared_at_ != before)) Fail("not cleared");
    if (EpochOf(version) != epoch_ || (last_clear_version_ != 0 && version != last_clear_version_)) {
      Fail("a clear of what is cleared is not the one before it");
    }
    for (Ticket& ticket : tickets_) ticket.voided = true;
    ++coverage_.thrifty_clears;
    return AfterCall("clear");
  }
  if (thrifty_ && cleared_at_ == before) Fail("a clear of what is cleared takes an epoch");
  if ((life_.records && EpochsUsedUp()) || ClearsUsedUp() || !ReserveBarrier(false)) {
    if (version != 0) Fail("cleared without room in the log");
    return AfterCall("clear");
  }
  ClearModel();
  cleared_at_ = LastVersions();
  last_clear_version_ = version;
  scheduled_version_ = version;
  scheduled_known_ = true;
  if ((version >> kVersionCounterBits) != epoch_) Fail("the barrier has another epoch");
  ExpectBarrier(version);
  return AfterCall("clear");
}

bool Harness::DoScheduleClear(const Op& op) {
  const uint64_t at_ms = op.number % 4 == 0 ? 0 : now_.boot_ms + op.number % 2000;
  BeforeCall();
  uint64_t version = ~uint64_t{0};
  const bool is_done = store_->ScheduleClear(at_ms, now_, &version);
  RunScheduledClear();
  const bool is_expected = Schedule(at_ms);
  if (is_done != is_expected) Fail(is_done ? "scheduled without room in the log" : "not scheduled");
  if (is_done) {
    std::vector<ExpectedRecord>& records = expected_records_[0];
    if (!records.empty() && records.back().kind == RecordKind::kClearAt) records.back().version = version;
    scheduled_version_ = version;
    scheduled_known_ = true;
  }
  return AfterCall("scheduleClear");
}

bool Harness::FollowUpkeep(bool shrinking_only) {
  // The removals are read here instead of being predicted; each is checked and then expected.
  const std::vector<Removal> actual = removals_.Take();
  const uint32_t count = store_->shard_count();
  for (const Removal& removal : actual) {
    uint32_t shard_index;
    ModelShard& shard = ShardFor(removal.key, &shard_index);
    const List::iterator entry = Find(shard, removal.key);
    if (entry == shard.lru.end())
      return Fail("upkeep removed what was not there: " + test::Show(removal.key.substr(0, 40)));
    if (!(removal == Removal{removal.reason, entry->key, entry->value, entry->codec, entry->client_flags})) {
      return Fail("upkeep told another entry than the one that left");
    }
    if (removal.reason == Reason::kExpired && !shrinking_only) {
      if (recovering_) return Fail("upkeep removed what a touch further on in the log may keep");
      if (!IsExpired(*entry)) return Fail("upkeep removed an entry before it expired");
      Unlink(shard, entry, Reason::kExpired, false);
      ++coverage_.wheel_expirations;
      continue;
    }
    if (removal.reason != Reason::kEvicted) return Fail("upkeep removed an entry for another reason");
    if (entry != std::prev(shard.lru.end())) return Fail("upkeep evicted another entry than the oldest");
    const uint64_t target = store_->shard(shard_index)->LimitFor(resize_memory_ / count);
    const uint64_t entries_target = resize_entries_ == 0 ? 0 : std::max<uint64_t>(resize_entries_ / count, 1);
    const uint64_t charged = shard.live_charge + shard.zombie_charge + shard.body_charge + shard.dead_charge_max;
    if (charged <= target && (entries_target == 0 || shard.lru.size() <= entries_target)) {
      return Fail("upkeep evicted though the limit was kept");
    }
    shard.dead = 0;
    ++coverage_.resize_evictions;
    Unlink(shard, entry, Reason::kEvicted, false);
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
    std::string error;
    if (!store_->CheckResize(memory, &error)) return true;
    if (memory != 0) {
      ++(memory < resize_memory_ ? coverage_.resizes_down : coverage_.resizes_up);
      resize_memory_ = memory;
    }
    if (entries != 0) resize_entries_ = entries;
    resizing_ = true;
  }
  BeforeCall();
  const bool done = store_->Resize(memory, entries, store_->uses_time() ? now_ : Now{});
  if (!FollowUpkeep(true)) return AfterCall("resize");
  if (done) {
    resizing_ = false;
    for (uint32_t i = 0; i < shards_.size(); ++i) {
      const StoreStats stats = store_->ShardStats(i);
      if (stats.limit_bytes != store_->shard(i)->LimitFor(resize_memory_ / shards_.size()))
        Fail("resized to another limit");
      if (stats.committed_bytes > resize_memory_ / shards_.size()) Fail("resized, but more memory is held");
    }
  }
  return AfterCall("resize");
}

bool Harness::DoCursor(const Op& op) {
  if (op.kind == OpKind::kOpenCursor) {
    if (cursors_.size() >= 6) return true;
    CursorHandle handle;
    store_->OpenCursor(op.number % 2 == 0 ? Cursor::Order::kOldestFirst : Cursor::Order::kNewestFirst, &handle.cursor);
    for (ModelShard& shard : shards_) {
      std::set<std::string> keys;
      for (const Entry& entry : shard.lru) keys.insert(entry.key);
      handle.must.push_back(std::move(keys));
    }
    cursors_.push_back(std::move(handle));
    return true;
  }
  if (cursors_.empty()) return true;
  const size_t which = op.number % cursors_.size();
  CursorHandle& handle = cursors_[which];
  BeforeCall();
  if (op.kind == OpKind::kCloseCursor) {
    store_->CloseCursor(&handle.cursor);
    cursors_.erase(cursors_.begin() + static_cast<ptrdiff_t>(which));
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
  const size_t emitted = store_->StepCursor(&handle.cursor, store_->uses_time() ? now_ : Now{}, with_values,
                                            entries.data(), count, &scratch, &done, &needed);
  RunScheduledClear();
  if (emitted > count) return Fail("stepCursor: more than was asked for");
  if (done && emitted != 0) Fail("stepCursor: done, and entries");
  if (!done && emitted == 0 && needed <= capacity) Fail("stepCursor: nothing, though there is room");
  for (size_t i = 0; i < emitted && failure_.empty(); ++i) {
    const WalkedEntry& walked = entries[i];
    const std::string key(scratch_.data() + walked.key_offset, walked.key_bytes);
    uint32_t shard_index;
    ModelShard& shard = ShardFor(key, &shard_index);
    const List::iterator entry = Find(shard, key);
    if (entry == shard.lru.end() || IsExpired(*entry)) {
      Fail("stepCursor: an entry that is not there");
      break;
    }
    if (walked.value_bytes != entry->value.size() || walked.codec != entry->codec ||
        walked.client_flags != entry->client_flags || walked.version != entry->version ||
        walked.expires_ms != entry->expires_ms || walked.has_value != with_values ||
        (with_values && entry->value != std::string_view(scratch_.data() + walked.value_offset, walked.value_bytes))) {
      Fail("stepCursor: an entry that differs");
    }
    if (handle.must[shard_index].erase(key) == 0) ++coverage_.walks_restarted;  // for the second time, or new
    ++coverage_.walked;
  }
  if (done) {
    for (uint32_t i = 0; i < shards_.size(); ++i) {
      for (const std::string& key : handle.must[i]) {
        const List::iterator entry = Find(shards_[i], key);
        if (entry != shards_[i].lru.end() && !IsExpired(*entry))
          Fail("the walk left out " + test::Show(key.substr(0, 40)));
      }
    }
    ++coverage_.walks_finished;
    store_->CloseCursor(&handle.cursor);
    cursors_.erase(cursors_.begin() + static_cast<ptrdiff_t>(which));
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
        for (const Entry& entry : shard.lru) {
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

bool Harness::DoApply(const Op& op) {
  const std::string& key = KeyName(op.key);
  const std::string value = ValueOf(op);
  uint32_t shard_index;
  ModelShard& shard = ShardFor(key, &shard_index);
  // What is read back leaves no record, so the records would not say all.
  const bool keep_version = recovering_ || (op.number % 4 != 0 && !has_rings());
  RecordView record;
  // While a log is read back the store has to fill in between.
  if (op.number % (recovering_ ? 244 : 61) == 0) return DoApplyClear(op, keep_version);
  if (op.number % 67 == 0) return DoApplyClearAt(op, keep_version);
  const RecordKind kinds[] = {RecordKind::kSet, RecordKind::kSet, RecordKind::kSet, RecordKind::kTouch,
                              RecordKind::kDelete};
  record.kind = kinds[(op.number >> 3) % 5];
  record.key = key;
  if (record.kind == RecordKind::kSet) record.value = value;
  record.codec = op.codec % kCodecCount;
  record.client_flags = (op.options & kOptClientFlags) ? op.number | 1 : 0;
  const uint64_t expires_boot = ExpiryOf(op.ttl);
  if (expires_boot != kNeverExpires && expires_boot != kKeepExpiry) {
    record.expires_wall_ms = std::max<int64_t>(static_cast<int64_t>(expires_boot) + now_.WallOffset(), 1);
    // What a log says was said some time ago.
    if (recovering_)
      record.expires_wall_ms = std::max<int64_t>(record.expires_wall_ms - int64_t{op.number >> 9} * 100, 1);
  }
  List::iterator old = Find(shard, key);
  if (old != shard.lru.end() && op.number % 3 != 0) {
    record.version = old->version + (op.number >> 6) % 4 - 1;
  } else {
    // Of this epoch, one of the last before it, or the next.
    const uint32_t back = (op.number >> 6) % std::min(epoch_ + 1, 24u);
    const uint32_t epoch = back == 0 ? std::min(epoch_ + 1, kEpochMax - 3) : epoch_ - (back - 1) % 6;
    record.version = uint64_t{std::max(epoch, 1u)} << kVersionCounterBits | (op.number >> 12);
  }
  // Where the epochs are used up, the version from which on a shard is cleared is not known here.
  if (EpochsUsedUp() && keep_version && !life_.records) record.version &= ~(uint64_t{1} << kVersionCounterBits);
  BeforeCall();
  // Records carry their expiry by the wall clock, so whoever applies them has read it.
  const Status actual = store_->Apply(record, now_, keep_version);

  const bool expires = record.expires_wall_ms != 0;
  // While a log is read back, what has expired stays until its memory is needed.
  const bool expired = expires && record.expires_wall_ms <= now_.wall_ms && !recovering_;
  const uint64_t expires_ms =
      !expires ? kNeverExpires
               : static_cast<uint64_t>(std::max<int64_t>(record.expires_wall_ms - now_.WallOffset(), kAlreadyExpired));
  if (recovering_ && record.kind == RecordKind::kSet) {
    const Layout layout =
        LayoutOf(key.size(), value.size(), expires ? kAlreadyExpired : kNeverExpires, record.client_flags);
    if (!FollowRecovery(shard, layout.charge)) return AfterCall("apply");
  }
  old = recovering_ ? Find(shard, key) : Lookup(shard, key, false);
  const bool present = old != shard.lru.end();
  Status expected = Status::kNotFound;
  Expected outcome;
  if (keep_version) epoch_ = std::max(epoch_, EpochOf(record.version));
  const auto follow = [&] {
    if (keep_version) {
      expected = Status::kNotStored;
      if (record.version < shard.cleared_version) return;
      cleared_at_.clear();
      // Versions given from now on are higher than any that came in.
      shard.epoch = std::max(shard.epoch, EpochOf(record.version));
      if (EpochOf(record.version) == shard.epoch) shard.last_version = std::max(shard.last_version, record.version);
      if (present && old->version >= record.version) return;
      expected = Status::kNotFound;
    }
    if (record.kind == RecordKind::kSet && expired) {
      expected = Status::kNotStored;
      if (!keep_version && (present || life_.records)) {
        if (!ReserveRecord(shard_index, key.size())) {
          expected = Status::kLogFull;
          return;
        }
        ExpectDelete(shard_index, key, nullptr);
      }
      VoidFills(key);
      if (!present) return;
      if (keep_version) fold_.erase(key);
      Unlink(shard, old, Reason::kReplaced, true);
      return;
    }
    if (record.kind == RecordKind::kSet) {
      Entry from;
      from.key = key;
      from.value = value;
      from.codec = static_cast<Codec>(record.codec);
      from.client_flags = record.client_flags;
      from.expires_ms = expires_ms;
      expected = Put(shard, std::move(from), old, !keep_version, &outcome);
      if (expected == Status::kStored && keep_version) {
        Find(shard, key)->version = record.version;
        StoredRecord stored{RecordKind::kSet,    record.codec, record.version, record.expires_wall_ms,
                            record.client_flags, key,          value};
        fold_[key] = stored;
        lost_.erase(key);
      }
      if (expected == Status::kNoMemory && keep_version) fold_.erase(key);
      if (expected == Status::kTooLarge) {
        // As after a set: what the record says is newer than what is here.
        ++shard.counters.too_large;
        VoidFills(key);
        if (!keep_version && (present || life_.records)) {
          if (!ReserveRecord(shard_index, key.size())) {
            expected = Status::kLogFull;
            return;
          }
          ExpectDelete(shard_index, key, nullptr);
        }
        if (keep_version && present) fold_.erase(key);
        if (present) Unlink(shard, old, Reason::kReplaced, true);
      }
    } else if (record.kind == RecordKind::kDelete && !present && !keep_version && life_.records) {
      if (ReserveRecord(shard_index, key.size())) {
        ExpectDelete(shard_index, key, nullptr);
      } else {
        expected = Status::kLogFull;
      }
      return;
    } else if (!present) {
      return;
    } else if (record.kind == RecordKind::kTouch) {
      if (!keep_version && !ReserveRecord(shard_index, key.size())) {
        expected = Status::kLogFull;
        return;
      }
      expected = SetExpiry(shard, &old, expires_ms);
      if (expected != Status::kStored) {
        expected = NoMemory(shard, expected);
        // Better gone than there for longer than it should be.
        if (keep_version) Unlink(shard, Find(shard, key), Reason::kEvicted, true);
        return;
      }
      if (!keep_version) {
        ExpectRecord(shard_index, RecordKind::kTouch, *old);
      } else if (const auto found = fold_.find(key); found != fold_.end()) {
        found->second.expires_wall_ms = record.expires_wall_ms;
      }
    } else {
      if (!keep_version) {
        if (!ReserveRecord(shard_index, key.size())) {
          expected = Status::kLogFull;
          return;
        }
        ExpectRecord(shard_index, RecordKind::kDelete, *old);
      } else {
        fold_.erase(key);
      }
      Unlink(shard, old, Reason::kDeleted, true);
      expected = Status::kStored;
    }
    VoidFills(key);
  };
  follow();
  if (!life_.records) expected_records_[shard_index].clear();
  if (actual != expected) Fail(std::string("expected ") + NameOf(expected) + ", got " + NameOf(actual));
  if (actual == Status::kStored) ++coverage_.applied;
  if (actual == Status::kStored && record.kind == RecordKind::kSet && !keep_version) {
    // The version is a new one: look it up.
    Outcome peeked;
    Scratch none;
    Request peek;
    peek.verb = Verb::kPeek;
    peek.no_value = true;
    peek.key = key;
    store_->Execute(peek, Now{now_.boot_ms < scheduled_clear_ms_ || scheduled_clear_ms_ == 0 ? now_ : Now{}}, &none,
                    &peeked);
    const List::iterator entry = Find(shard, key);
    entry->version = peeked.version;
    if (peeked.status == Status::kFound) {
      if (peeked.version <= shard.last_version) Fail("the version does not rise");
      shard.last_version = peeked.version;
      for (ExpectedRecord& expected_record : expected_records_[shard_index]) expected_record.version = peeked.version;
    }
  }
  return AfterCall("apply");
}

// A barrier that is read back: what is of an older epoch is gone, what is newer stays.
bool Harness::DoApplyClear(const Op& op, bool keep_version) {
  RecordView record;
  record.kind = RecordKind::kClear;
  const uint32_t low = epoch_ > 5 ? epoch_ - 5 : 1;
  const uint32_t epoch = std::min<uint32_t>(low + (op.number >> 6) % 7, kEpochMax);
  record.version = uint64_t{epoch} << kVersionCounterBits | (op.number >> 12);
  BeforeCall();
  const Status actual = store_->Apply(record, now_, keep_version);
  Status expected = Status::kStored;
  if (keep_version) {
    const uint64_t barrier = uint64_t{epoch} << kVersionCounterBits;
    uint64_t count = 0;
    for (ModelShard& shard : shards_) {
      if (barrier <= shard.cleared_version) continue;
      count += ClearShard(shard, barrier);
      shard.cleared_version = barrier;
      shard.last_version = std::max(shard.last_version, barrier);
      shard.epoch = std::max(shard.epoch, epoch);
    }
    if (count > 0) expected_cleared_.push_back(count);
    epoch_ = std::max(epoch_, epoch);
    std::erase_if(fold_, [&](const auto& item) { return item.second.version < barrier; });
    // Where a clear is to come, the version of what says so is known.
    if (scheduled_known_ && record.version > scheduled_version_) {
      scheduled_version_ = record.version;
      scheduled_clear_ms_ = 0;
      fold_clear_at_ = scheduled_wall_ms_ = 0;
    }
    ++coverage_.barriers_applied;
  } else if ((life_.records && EpochsUsedUp()) || !ReserveBarrier(false)) {
    expected = Status::kLogFull;
  } else {
    ClearModel();
    ExpectBarrier(0);
  }
  if (actual != expected) Fail(std::string("expected ") + NameOf(expected) + ", got " + NameOf(actual));
  return AfterCall("applyClear");
}

// A clear to come that is read back: the newest record decides whether there is one.
bool Harness::DoApplyClearAt(const Op& op, bool keep_version) {
  RecordView record;
  record.kind = RecordKind::kClearAt;
  const uint64_t at_ms = op.number % 3 == 0 ? 0 : now_.boot_ms + (op.number >> 4) % 2000;
  if (at_ms != 0) record.expires_wall_ms = static_cast<int64_t>(at_ms) + now_.WallOffset();
  record.version = std::max(scheduled_version_, uint64_t{1}) + (op.number >> 6) % 4 - 1;
  if (op.number % 5 == 0) record.version = uint64_t{std::min(epoch_, kEpochMax - 3)} << kVersionCounterBits | op.number;
  BeforeCall();
  const Status actual = store_->Apply(record, now_, keep_version);
  Status expected = Status::kStored;
  if (!keep_version) {
    const bool was_to_come = scheduled_clear_ms_ != 0;
    if (!Schedule(at_ms)) expected = Status::kLogFull;
    RecordView to_come;
    if (actual == Status::kStored && at_ms != 0 && store_->PendingClear(now_, &to_come)) {
      scheduled_version_ = to_come.version;
      scheduled_known_ = true;
    } else if (actual == Status::kStored && was_to_come && life_.records) {
      scheduled_known_ = false;
    }
  } else if (!scheduled_known_) {
    expected = actual;
  } else if (record.version <= scheduled_version_) {
    expected = Status::kNotStored;
  }
  if (actual != expected) Fail(std::string("expected ") + NameOf(expected) + ", got " + NameOf(actual));
  if (keep_version && actual == Status::kStored) {
    ModelShard& shard = shards_[0];
    cleared_at_.clear();
    epoch_ = std::max(epoch_, EpochOf(record.version));
    shard.epoch = std::max(shard.epoch, EpochOf(record.version));
    if (EpochOf(record.version) == shard.epoch) shard.last_version = std::max(shard.last_version, record.version);
    scheduled_clear_ms_ = at_ms;
    fold_clear_at_ = scheduled_wall_ms_ = record.expires_wall_ms;
    scheduled_version_ = record.version;
    scheduled_known_ = true;
    ++coverage_.schedules_applied;
  }
  return AfterCall("applyClearAt");
}

bool Harness::FollowRecovery(ModelShard& shard, uint64_t charge) {
  const StoreStats& before = before_[static_cast<size_t>(&shard - shards_.data())];
  uint64_t charged = before.charged_bytes;
  uint64_t entries = before.entries + before.cleared_entries;
  bool evicted = false;
  for (const Removal& removal : removals_.Seen()) {
    evicted = evicted || removal.reason == Reason::kEvicted;
    if (removal.reason != Reason::kExpired) continue;
    const List::iterator entry = Find(shard, removal.key);
    if (entry == shard.lru.end() || !IsExpired(*entry)) return Fail("what has not expired was taken for its room");
    if (evicted) return Fail("an entry was evicted before one that had expired");
    if (charged + charge <= shard.limit && (shard.entries_limit == 0 || entries < shard.entries_limit)) {
      return Fail("what had expired was taken though there is room");
    }
    charged -= entry->charge;
    --entries;
    Unlink(shard, entry, Reason::kExpired, true);
    ++coverage_.recovery_expirations;
  }
  if (!evicted || life_.colliding_keys) return true;
  for (const Entry& entry : shard.lru) {
    const uint64_t due_ms = std::max(entry.expires_ms, entry.filed_ms);
    if (entry.expires_ms != kNeverExpires && (due_ms >> 7) < (now_.boot_ms >> 7)) {
      return Fail("an entry was evicted, though another one expired a tick ago");
    }
  }
  return true;
}

void Harness::StartEpoch(uint32_t epoch) {
  const std::vector<uint64_t> before = LastVersions();
  store_->StartEpoch(epoch);
  thrifty_ = true;
  epoch_ = std::max(epoch_, epoch);
  for (uint32_t i = 0; i < shards_.size(); ++i) {
    ModelShard& shard = shards_[i];
    shard.epoch = std::max(shard.epoch, epoch);
    shard.last_version = store_->LastVersion(i);
    if (EpochOf(shard.last_version) != shard.epoch || shard.last_version < before[i]) Fail("the epoch did not start");
  }
  for (Ring& ring : rings_) ring.barrier = ring.barrier_committed = std::max(ring.barrier, epoch);
}

// Records of another generation come: what is here is older than all of them, in the order in which it is here.
bool Harness::DoRenumber(const Op& op) {
  if (op.number % 2 == 0 && !DoApplyClear(op, true)) return false;
  BeforeCall();
  store_->Renumber();
  std::map<std::string, StoredRecord> fold;
  for (uint32_t i = 0; i < shards_.size() && failure_.empty(); ++i) {
    ModelShard& shard = shards_[i];
    if (shard.dead != 0) ++coverage_.renumbered_dead;
    if (!shard.lru.empty()) ++coverage_.renumbered;
    if (store_->ShardStats(i).cleared_entries != 0) Fail("cleared entries are there");
    uint64_t last = 0;
    for (auto entry = shard.lru.rbegin(); entry != shard.lru.rend(); ++entry) {
      const Outcome outcome = LookAt(entry->key);
      if (outcome.status != Status::kFound || EpochOf(outcome.version) != 0 || outcome.version <= last) {
        Fail(test::Show(entry->key.substr(0, 40)) + " has no number of its own in the order of the list");
      }
      last = entry->version = outcome.version;
      StoredRecord& record = fold[entry->key] = fold_[entry->key];
      record.version = last;
    }
    if (EpochOf(store_->LastVersion(i)) != 0 || store_->LastVersion(i) < last) Fail("a version to come is older");
    shard.epoch = 0;
    shard.cleared_version = shard.gone_version = 0;
    shard.gone_known = true;
  }
  // What was evicted is as good as forgotten: the log has it again, or it is gone.
  fold_ = std::move(fold);
  lost_.clear();
  fold_barrier_ = 0;
  for (Ring& ring : rings_) ring.barrier = ring.barrier_committed = 0;
  epoch_ = 0;
  scheduled_version_ = 1;
  scheduled_known_ = true;
  StartEpoch(1 + op.ttl % 40u);
  return AfterCall("renumber");
}

bool Harness::DoServe() {
  store_->SetRecovering(false);
  recovering_ = false;
  ++coverage_.recovered;
  // What is read back may count for an absence or not: the log has it.
  for (ModelShard& shard : shards_) {
    shard.gone_version = 0;
    shard.gone_known = false;
  }
  // The records that come are about what is here now.
  const auto keep = [this](const RecordView& record) {
    std::string bytes(RecordBytes(record.key.size(), record.value.size()), '\0');
    (void)EncodeRecord(record, bytes.data());
    replay_ += bytes;
  };
  for (const auto& [key, record] : fold_) {
    keep({.kind = RecordKind::kSet,
          .codec = record.codec,
          .version = record.version,
          .expires_wall_ms = record.expires_wall_ms,
          .client_flags = record.client_flags,
          .key = key,
          .value = record.value});
  }
  RecordView to_come;
  if (store_->PendingClear(now_, &to_come)) {
    to_come.expires_wall_ms = fold_clear_at_;
    keep(to_come);
  }
  return DoMaintain(false);
}

bool Harness::DoFill(const Op& op) {
  if (op.kind == OpKind::kEndFill) {
    if (tickets_.empty()) return true;
    const size_t which = op.number % tickets_.size();
    store_->EndFill(KeyName(tickets_[which].key), tickets_[which].ticket.get());
    if (tickets_[which].ticket->voided() != tickets_[which].voided)
      return Fail("endFill: the ticket forgot whether it is void");
    tickets_.erase(tickets_.begin() + static_cast<ptrdiff_t>(which));
    return true;
  }
  if (tickets_.size() >= 20) return true;
  const std::string& key = KeyName(op.key);
  const bool if_absent = op.number % 2 == 0;
  Ticket ticket{op.key, std::make_unique<FillTicket>()};
  BeforeCall();
  const bool began = store_->BeginFill(key, if_absent, store_->uses_time() ? now_ : Now{}, ticket.ticket.get());
  RunScheduledClear();
  ModelShard& shard = ShardFor(key);
  const bool expected = !if_absent || Lookup(shard, key, false) == shard.lru.end();
  if (began != expected) Fail(began ? "a fill began though the entry is there" : "a fill did not begin");
  if (began) tickets_.push_back(std::move(ticket));
  return AfterCall("beginFill");
}

bool Harness::Step(const Op& op) {
  ++step_;
  ++coverage_.steps;
  bool good = true;
  OpKind kind = op.kind;
  const bool of_recovery = kind == OpKind::kRenumber || kind == OpKind::kServe;
  const bool at_any_time = kind == OpKind::kTime || kind == OpKind::kWallJump || kind == OpKind::kMaintain;
  if (recovering_ && !of_recovery && !at_any_time) kind = OpKind::kApply;
  if (!recovering_ && of_recovery) kind = OpKind::kRequest;
  switch (kind) {
    case OpKind::kRequest:
      good = DoRequest(op);
      break;
    case OpKind::kMany:
      good = DoMany(op);
      break;
    case OpKind::kReserve:
      good = DoReserve(op);
      break;
    case OpKind::kWriteBody:
      good = DoWriteBody(op);
      break;
    case OpKind::kLink:
      good = DoLink(op, false);
      break;
    case OpKind::kAbandon:
      good = DoLink(op, true);
      break;
    case OpKind::kReadPin:
      good = DoReadPin(op, false);
      break;
    case OpKind::kUnpin:
      good = DoReadPin(op, true);
      break;
    case OpKind::kClear:
      good = DoClear();
      break;
    case OpKind::kScheduleClear:
      good = DoScheduleClear(op);
      break;
    case OpKind::kResize:
      good = DoResize(op, false);
      break;
    case OpKind::kResizeStep:
      good = DoResize(op, true);
      break;
    case OpKind::kOpenCursor:
    case OpKind::kStepCursor:
    case OpKind::kCloseCursor:
      good = DoCursor(op);
      break;
    case OpKind::kMaintain:
      good = DoMaintain(op.number % 4 == 0);
      break;
    case OpKind::kTime: {
      // Mostly milliseconds; sometimes up to months.
      const uint64_t ms = 1 + op.number % (uint64_t{1} << (op.ttl < 160 ? 5 : op.ttl < 250 ? (op.ttl - 150) / 5 : 33));
      now_.boot_ms += ms;
      now_.wall_ms += static_cast<int64_t>(ms);
      break;
    }
    case OpKind::kWallJump:
      now_.wall_ms += static_cast<int64_t>(op.number % 20'000'000) - 10'000'000;
      break;
    case OpKind::kApply:
      good = DoApply(op);
      break;
    case OpKind::kRefuse:
      if (recorders_.empty()) break;
      for (uint32_t i = 0; i < shards_.size(); ++i) {
        refuse_[i] = static_cast<int>(op.number % 3);
        recorders_[i]->RefuseNext(refuse_[i]);
      }
      break;
    case OpKind::kBeginFill:
    case OpKind::kEndFill:
      good = DoFill(op);
      break;
    case OpKind::kResetStats: {
      const StoreStats stats = store_->Stats();
      coverage_.relocations += stats.relocations;
      coverage_.splits += stats.splits;
      coverage_.merges += stats.merges;
      store_->ResetStats();
      for (ModelShard& shard : shards_) {
        coverage_.evictions += shard.counters.evictions;
        coverage_.expirations += shard.counters.expirations;
        shard.counters = StoreStats{};
      }
      break;
    }
    case OpKind::kDrain:
      // Often everything, sometimes a piece.
      if (!rings_.empty()) good = DoDrain(op.number % rings_.size(), op.number % 3 == 0 ? op.bytes : size_t{3} << 20);
      break;
    case OpKind::kCommit:
      if (!rings_.empty()) good = DoCommit(op.number % rings_.size());
      break;
    case OpKind::kRewind:
      if (!rings_.empty()) good = DoRewind(op.number % rings_.size());
      break;
    case OpKind::kRenumber:
      good = DoRenumber(op);
      break;
    case OpKind::kServe:
      good = DoServe();
      break;
  }
  if (good && step_ % life_.verify_every == 0) store_->Verify();
  if (good && step_ % (512 + life_.key_count) == 0) good = CompareFold();
  return good && failure_.empty();
}

bool Harness::Finish() {
  if (recovering_ && !DoServe()) return false;
  Op op;
  op.number = 0;
  while (!pins_.empty()) {
    if (!DoReadPin(op, true)) return false;
  }
  while (!bodies_.empty()) {
    if (!DoLink(op, true)) return false;
  }
  if (!DrainEverything()) return false;
  for (uint32_t i = 0; i < rings_.size(); ++i) {
    if (!DoCommit(i)) return false;
  }
  if (!DoMaintain(true)) return false;
  for (int i = 0; i < 20'000 && resizing_; ++i) {
    if (!DoResize(op, true)) return false;
  }
  if (resizing_) return Fail("a resize has no end");
  if (!CompareFold() || !Replay()) return false;
  // Every entry once more, in the order of the list.
  for (uint32_t i = 0; i < shards_.size(); ++i) {
    for (const Entry& entry : shards_[i].lru) {
      if (IsExpired(entry)) continue;
      Request request;
      request.verb = Verb::kPeek;
      request.key = entry.key;
      Scratch scratch{scratch_.data(), scratch_.size(), 0};
      Outcome outcome;
      store_->Execute(request, scheduled_clear_ms_ == 0 && store_->uses_time() ? now_ : Now{}, &scratch, &outcome);
      std::string value(outcome.value_bytes, '\0');
      if (outcome.pin.ref != 0) {
        store_->ReadPinned(outcome.pin, 0, value.data(), value.size());
        store_->Unpin(outcome.pin);
      } else if (outcome.has_value) {
        std::memcpy(value.data(), scratch_.data() + outcome.value_offset, value.size());
      }
      if (outcome.status != Status::kFound || value != entry.value || outcome.version != entry.version) {
        return Fail("at the end " + test::Show(entry.key.substr(0, 40)) + " differs");
      }
    }
  }
  // The order of the list, seen from the cold end.
  if (scheduled_clear_ms_ == 0 && shards_.size() == 1) {
    for (CursorHandle& handle : cursors_) store_->CloseCursor(&handle.cursor);
    cursors_.clear();
    Cursor cursor;
    store_->OpenCursor(Cursor::Order::kOldestFirst, &cursor);
    auto expected = shards_[0].lru.rbegin();
    for (bool done = false; !done;) {
      WalkedEntry walked[16];
      Scratch scratch{scratch_.data(), scratch_.size(), 0};
      size_t needed = 0;
      const size_t count =
          store_->StepCursor(&cursor, store_->uses_time() ? now_ : Now{}, false, walked, 16, &scratch, &done, &needed);
      for (size_t i = 0; i < count; ++i) {
        while (expected != shards_[0].lru.rend() && IsExpired(*expected)) ++expected;
        if (expected == shards_[0].lru.rend() ||
            expected->key != std::string_view(scratch_.data() + walked[i].key_offset, walked[i].key_bytes)) {
          return Fail("the order of the list differs");
        }
        ++expected;
      }
    }
    while (expected != shards_[0].lru.rend() && IsExpired(*expected)) ++expected;
    if (expected != shards_[0].lru.rend()) return Fail("the list is longer than the walk");
    store_->CloseCursor(&cursor);
  }
  store_->Verify();
  const StoreStats stats = store_->Stats();
  if (stats.pinned_pages != 0) return Fail("pages are pinned, though no pin is held");
  coverage_.relocations += stats.relocations;
  coverage_.splits += stats.splits;
  coverage_.merges += stats.merges;
  for (const ModelShard& shard : shards_) {
    coverage_.evictions += shard.counters.evictions;
    coverage_.expirations += shard.counters.expirations;
  }
  ++coverage_.lives;
  return failure_.empty();
}

}  // namespace cairn::model
