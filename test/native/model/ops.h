// Operations and lives. A life is a store opened with drawn options and a sequence of operations on it.
//
// An operation is data (Op), drawn from a seed or from fuzzer input, and means something in every state; so any part of
// a failing sequence can be left out to find a shorter one that fails.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>

#include "store/store.h"
#include "test.h"

namespace cairn::model {

enum class OpKind : uint8_t {
  kRequest,
  kMany,
  kReserve,
  kWriteBody,
  kLink,
  kAbandon,
  kReadPin,
  kUnpin,
  kClear,
  kScheduleClear,
  kResize,
  kResizeStep,
  kOpenCursor,
  kStepCursor,
  kCloseCursor,
  kMaintain,
  kTime,
  kWallJump,
  kApply,
  kBeginFill,
  kEndFill,
  kResetStats,
  kDrain,
  kCommit,
  kRewind,
  kRenumber,
  kServe,
};
inline constexpr int kOpKindCount = static_cast<int>(OpKind::kServe) + 1;

// Bits of Op::options.
inline constexpr uint16_t kOptCompareRight = 1 << 0;
inline constexpr uint16_t kOptCompareWrong = 1 << 1;
inline constexpr uint16_t kOptNoBump = 1 << 2;
inline constexpr uint16_t kOptNoValue = 1 << 3;
inline constexpr uint16_t kOptInitial = 1 << 4;
inline constexpr uint16_t kOptPad = 1 << 5;
inline constexpr uint16_t kOptDecimal = 1 << 6;  // the value is a number in decimal
inline constexpr uint16_t kOptClientFlags = 1 << 7;
inline constexpr uint16_t kOptSmallScratch = 1 << 8;
inline constexpr uint16_t kOptNoScratch = 1 << 9;
inline constexpr uint16_t kOptFill = 1 << 10;
inline constexpr uint16_t kOptText = 1 << 11;   // the value is ASCII text
inline constexpr uint16_t kOptFresh = 1 << 12;  // the value becomes stale
inline constexpr uint16_t kOptStale = 1 << 13;  // a stale value will do

// One operation. Every field means something for every kind, whatever its number: fuzz input need not be checked.
struct Op {
  OpKind kind = OpKind::kRequest;
  Verb verb = Verb::kGet;
  uint8_t codec = 0;
  uint8_t ttl = 0;  // selects an expiry
  uint16_t options = 0;
  uint16_t key = 0;
  uint32_t bytes = 0;   // of a value; or how many, how long
  uint32_t number = 0;  // seeds contents; selects
};

std::string Describe(const Op& op);

// How a store is opened and what is done to it.
struct Life {
  StoreOptions options;
  uint64_t seed = 0;
  bool records = false;  // they are kept; in rings if options.ring_bytes says so
  // It begins as a cache with a log does: records are applied, what is there is renumbered now and then, with nothing
  // but time and upkeep in between, until the first kServe. REQUIRES: records.
  bool recovers = false;
  bool counters_run_over = false;  // the counters of its versions begin just below their end
  bool colliding_keys = false;     // all keys fall into few hash chains
  uint32_t key_count = 100;
  int size_mode = 0;        // see Generator
  uint32_t long_keys = 20;  // one key in this many is long; 0: none
  uint32_t quiet = 1;       // time, upkeep and clears are rarer by this factor
  uint32_t ttl_share = 2;   // one write in this many gets an expiry
  uint32_t hold = 1;        // pins and bodies are released less often by this factor
  uint32_t many = 1;        // batches are more frequent by this factor
  uint32_t verify_every = 1;
};

// The families that --arena names. A Life of one is drawn from the seed.
inline constexpr const char* kArenaNames[] = {"tiny",  "small", "counted", "sharded", "long",
                                              "large", "pages", "drift",   "collide"};
Life DrawLife(const std::string& arena, uint64_t seed);

// Draws operations for a life.
class Generator {
 public:
  Generator(const Life& life, uint64_t seed);
  Op Next();

 private:
  uint32_t DrawBytes();
  const Life life_;
  test::Random random_;
  OpKind last_kind_ = OpKind::kRequest;
  uint32_t burst_left_ = 0;
  Verb burst_verb_ = Verb::kSet;
  uint32_t band_low_ = 0, band_high_ = 100;  // sizes of the present; they drift
};

// The next operation from the front of fuzz input; false when it is used up.
bool TakeOp(const uint8_t** data, size_t* size, Op* op);

// A number drawn from two: the same for the same two.
uint64_t Mix(uint64_t a, uint64_t b);

}  // namespace cairn::model
