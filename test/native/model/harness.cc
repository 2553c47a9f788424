#include <algorithm>
#include <cstdio>
#include <iterator>
#include <mutex>
#include <utility>

#include "model/harness.h"
#include "model/values.h"
#include "model/words.h"
#include "store/shard.h"
#include "support/shard_access.h"

namespace cairn::model {

Harness::Harness(const Life& life) : life_(life) {
  Refusal refusal;
  store_ = Store::Open(life.options, &refusal);
  if (store_ == nullptr) {
    std::fprintf(stderr, "Store::Open: %s\n", refusal.ToString().c_str());
    std::abort();
  }
  store_->SetRemovalSink(&removals_);
  const uint32_t count = store_->shard_count();
  resize_memory_ = life.options.memory_bytes;
  resize_entries_ = life.options.entries_max;
  value_bytes_at_first_ = store_->value_bytes_max();
  sizes_ = std::make_unique<Sizes>(store_->page_bytes(), life.options.track_access);
  for (uint32_t i = 0; i < count; ++i) {
    ModelShard& shard = shards_.emplace_back(ShardSetting{.sizes = sizes_.get(),
                                                          .now = &now_,
                                                          .tracks_access = life.options.track_access,
                                                          .value_bytes_max = store_->value_bytes_max(),
                                                          .events = &events_,
                                                          .coverage = &coverage_});
    // V2: a counter that runs over raises the epoch, and nothing else happens.
    if (life.counters_run_over) {
      test::NoteVersion(store_.get(), i, VersionOf(life.options.epoch, kVersionCounterMask - 20 * (i + 1)));
    }
    shard.last_version = store_->LastVersion(i);
    shard.entries_limit = resize_entries_ == 0 ? 0 : std::max<uint64_t>(resize_entries_ / count, 1);
    shard.journal.keeps_records = life.records;
    if (store_->has_rings()) {
      shard.journal.capacity = store_->RingStatsOf(i).capacity_bytes;
    }
  }
  now_.boot_ms = 1'000'000 + life.seed % 100'000;
  now_.wall_ms = 1'700'000'000'000;
  scratch_.resize(size_t{5} << 19);
  if (life.recovers) {
    StartEpoch(life.options.epoch);
    store_->SetRecovering(true);
    recovering_ = true;
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

ModelShard& Harness::ShardFor(const std::string& key, uint32_t* index) {
  const uint32_t shard = store_->ShardOf(key);
  if (index != nullptr) *index = shard;
  return shards_[shard];
}

uint32_t Harness::IndexOf(const ModelShard& shard) const {
  for (uint32_t i = 0; i < shards_.size(); ++i) {
    if (&shards_[i] == &shard) return i;
  }
  CHECK(false);
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
      if (has_rings()) good = DoDrain(op.number % shards_.size(), op.number % 3 == 0 ? op.bytes : size_t{3} << 20);
      break;
    case OpKind::kCommit:
      if (has_rings()) good = DoCommit(op.number % shards_.size());
      break;
    case OpKind::kRewind:
      if (has_rings()) good = DoRewind(op.number % shards_.size());
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
  for (uint32_t i = 0; has_rings() && i < shards_.size(); ++i) {
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
    for (const Entry& entry : shards_[i].order) {
      if (shards_[i].IsExpired(entry)) continue;
      Request request;
      request.verb = Verb::kPeek;
      request.accepts_stale = true;
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
    while (!cursors_.empty()) CloseWalk(0);
    Cursor cursor;
    cursor.accepts_stale = true;
    store_->OpenCursor(Cursor::Order::kOldestFirst, &cursor);
    auto expected = shards_[0].order.rbegin();
    for (bool done = false; !done;) {
      WalkedEntry walked[16];
      Scratch scratch{scratch_.data(), scratch_.size(), 0};
      size_t needed = 0;
      const size_t count = store_->StepCursor(&cursor, store_->uses_time() ? now_ : Now{}, Emits::kKeys, walked, 16,
                                              &scratch, &done, &needed);
      for (size_t i = 0; i < count; ++i) {
        while (expected != shards_[0].order.rend() && shards_[0].IsExpired(*expected)) ++expected;
        if (expected == shards_[0].order.rend() ||
            expected->key != std::string_view(scratch_.data() + walked[i].key_offset, walked[i].key_bytes)) {
          return Fail("the order of the list differs");
        }
        ++expected;
      }
    }
    while (expected != shards_[0].order.rend() && shards_[0].IsExpired(*expected)) ++expected;
    if (expected != shards_[0].order.rend()) return Fail("the list is longer than the walk");
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
