#include <algorithm>
#include <cstdio>
#include <iterator>
#include <utility>

#include "model/harness.h"
#include "model/values.h"
#include "model/words.h"
#include "store/shard.h"

namespace cairn::model {

namespace {

constexpr uint64_t kVersionsPerRequest = 64;

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

}  // namespace

void Harness::BeforeCall() {
  events_.Clear();
  expected_cleared_.clear();
  before_.resize(shards_.size());
  last_of_all_ = 0;
  for (uint64_t version : LastVersions()) last_of_all_ = std::max(last_of_all_, version);
  for (uint32_t i = 0; i < shards_.size(); ++i) {
    before_[i] = store_->ShardStats(i);
    shards_[i].new_records.clear();
    shards_[i].limit = before_[i].limit_bytes;
    shards_[i].pinned_pages = before_[i].pinned_pages;
  }
}

bool Harness::CompareOutcome(const Request& request, const std::string& key, const Outcome& actual,
                             const Expected& expected, const char* scratch, bool batch) {
  const auto what = [&] { return std::string(NameOf(request.verb)) + " " + test::Show(key.substr(0, 40)); };
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
    // A request takes one version, or one for what it removes and one for what it stores.
    if (actual.record_version - shard.last_version > kVersionsPerRequest)
      return Fail(what() + ": versions are left out");
    if (EpochOf(actual.record_version) > EpochOf(shard.last_version)) ++coverage_.counters_over;
    shard.last_version = actual.record_version;
    for (ExpectedRecord& record : shards_[shard_index].new_records) {
      if (record.key == key && record.version == 0) record.version = actual.record_version;
    }
  }
  uint64_t version = expected.version;
  if (expected.new_version) {
    version = actual.record_version;
    const ModelShard::Place entry = shard.Find(key);
    if (entry != shard.order.end()) entry->version = version;
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
    if (actual.fresh_until_ms != expected.fresh_until_ms) {
      return Fail(what() + Format(": fresh until %llu, expected %llu",
                                  static_cast<unsigned long long>(actual.fresh_until_ms),
                                  static_cast<unsigned long long>(expected.fresh_until_ms)));
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
      if (expected.held == nullptr) return Fail(what() + ": pinned beyond the bounds");
      store_->ReadPinned(actual.pin, 0, value.data(), value.size());
    } else {
      if (expected.held != nullptr) return Fail(what() + ": copied though it could be pinned");
      std::memcpy(value.data(), scratch + actual.value_offset, value.size());
    }
    if (value != expected.value) return Fail(what() + ": another value");
  } else if (actual.pin.ref != 0) {
    return Fail(what() + ": a pin without a value");
  }
  if (actual.pin.ref != 0) {
    ++coverage_.pins;
    pins_.push_back({shard_index, actual.pin, expected.held});
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
  if (events_.flood_shard != nullptr && actual.size() > events_.removals.size()) {
    const uint32_t flooded = IndexOf(*events_.flood_shard);
    const StoreStats now = store_->ShardStats(flooded);
    const uint64_t floods = now.hash_flood_evictions - before_[flooded].hash_flood_evictions;
    const size_t extra = actual.size() - events_.removals.size();
    if (extra <= floods) {
      ModelShard& shard = *events_.flood_shard;
      for (size_t i = 0; i < extra; ++i) {
        const Removal removal = actual[events_.flood_slot];
        const ModelShard::Place entry = shard.Find(removal.key);
        if (removal.reason != Reason::kEvicted || entry == shard.order.end())
          return Fail("a flood victim that was not there");
        const Removal expected{Reason::kEvicted, entry->key, entry->value, entry->codec, entry->client_flags};
        if (!(removal == expected)) return Fail("a flood victim that differs");
        shard.Leave(entry, Reason::kEvicted, ModelShard::Farewell::kUntold);
        ++coverage_.flood_evictions;
        actual.erase(actual.begin() + static_cast<ptrdiff_t>(events_.flood_slot));
      }
    }
  }
  const auto show = [](const std::vector<Removal>& removals, size_t i) {
    if (i >= removals.size()) return std::string("nothing");
    return std::string(NameOf(removals[i].reason)) + " " + test::Show(removals[i].key.substr(0, 30)) +
           Format(" (%zu bytes)", removals[i].value.size());
  };
  for (size_t i = 0; i < std::max(actual.size(), events_.removals.size()); ++i) {
    if (i < actual.size() && i < events_.removals.size() && actual[i] == events_.removals[i]) continue;
    return Fail(Format("removal %zu of %zu (expected %zu) is ", i, actual.size(), events_.removals.size()) +
                show(actual, i) + ", expected " + show(events_.removals, i));
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
      found->second.optional = record.optional;
      break;
    }
    case RecordKind::kClear:
      fold_barrier_ = record.version;
      std::erase_if(fold_, [&](const auto& item) { return item.second.version < fold_barrier_; });
      [[fallthrough]];
    case RecordKind::kClearAt:
      // Each shard has it: the newest decides.
      if (record.version <= fold_said_version_) break;
      fold_said_version_ = record.version;
      fold_clear_at_ = record.kind == RecordKind::kClear ? 0 : record.expires_wall_ms;
      break;
  }
}

bool Harness::CompareRecord(const StoredRecord& a, const ExpectedRecord& e) {
  ++coverage_.records;
  if (a.kind != e.kind || a.key != e.key || a.value != e.value || a.client_flags != e.client_flags ||
      a.expires_wall_ms != e.expires_wall_ms || a.optional != e.optional ||
      (a.kind != RecordKind::kDelete && a.codec != e.codec)) {
    return Fail(Format(
        "a record of kind %d (expected %d) differs: codec %d/%d, flags %u/%u, expires %lld/%lld, value "
        "%zu/%zu, key %zu/%zu, fields %u/%u, fresh %lld/%lld, delta %lld/%lld",
        static_cast<int>(a.kind), static_cast<int>(e.kind), a.codec, e.codec, a.client_flags, e.client_flags,
        static_cast<long long>(a.expires_wall_ms), static_cast<long long>(e.expires_wall_ms), a.value.size(),
        e.value.size(), a.key.size(), e.key.size(), a.optional.fields, e.optional.fields,
        static_cast<long long>(a.optional.fresh_until_wall_ms), static_cast<long long>(e.optional.fresh_until_wall_ms),
        static_cast<long long>(a.optional.delta), static_cast<long long>(e.optional.delta)));
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
    std::vector<ExpectedRecord>& expected = shards_[i].new_records;
    ModelShard& shard = shards_[i];
    for (const ExpectedRecord& record : expected) {
      const bool has_end = record.expires_wall_ms != 0 || (record.optional.fields & kFieldFreshness) != 0;
      const bool goes = record.kind == RecordKind::kDelete || record.kind == RecordKind::kClear ||
                        (record.kind == RecordKind::kTouch && has_end);
      if (!goes) continue;
      if (record.version == 0) shard.gone_known = false;
      if (record.version > shard.gone_version) {
        shard.gone_version = record.version;
        shard.gone_known = true;
      }
    }
    std::move(expected.begin(), expected.end(), std::back_inserter(shard.journal.records));
    expected.clear();
    if (!CompareRing(i)) return false;
  }
  return true;
}

bool Harness::CompareRing(uint32_t shard_index) {
  const Journal& ring = shards_[shard_index].journal;
  const RingStats actual = store_->RingStatsOf(shard_index);
  if (actual.fill_bytes == ring.written - ring.freed && actual.records == ring.count) return true;
  return Fail(
      Format("ring %u holds %llu bytes, %llu records so far; expected %llu and %llu", shard_index,
             static_cast<unsigned long long>(actual.fill_bytes), static_cast<unsigned long long>(actual.records),
             static_cast<unsigned long long>(ring.written - ring.freed), static_cast<unsigned long long>(ring.count)));
}

bool Harness::CompareFold() {
  if (!life_.records) return true;
  if (!DrainEverything()) return false;
  size_t live = 0;
  for (ModelShard& shard : shards_) {
    for (const Entry& entry : shard.order) {
      ++live;
      const auto found = fold_.find(entry.key);
      if (found == fold_.end()) return Fail("the records do not have " + test::Show(entry.key.substr(0, 40)));
      const StoredRecord& record = found->second;
      if (record.version != entry.version || record.value != entry.value || record.client_flags != entry.client_flags ||
          record.codec != static_cast<uint8_t>(entry.codec) ||
          (record.expires_wall_ms == 0) != (entry.expires_ms == kNeverExpires) ||
          !(record.optional.fields & kFieldFreshness) != (entry.fresh_until_ms == kAlwaysFresh)) {
        return Fail("the records have " + test::Show(entry.key.substr(0, 40)) + " otherwise");
      }
    }
  }
  size_t missing = 0;
  for (const auto& [key, record] : fold_) {
    if (ShardFor(key).Find(key) != ShardFor(key).end()) continue;
    ++missing;
    if (!events_.lost.contains(key))
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
    if (actual.entries != shard.order.size()) return differ("entries", actual.entries, shard.order.size());
    if (actual.cleared_entries > shard.dead) return differ("cleared_entries", actual.cleared_entries, shard.dead);
    shard.dead = actual.cleared_entries;
    const uint64_t dead_held = shard.DeadHeldCharge();
    const uint64_t known = shard.known_charge();
    if (actual.charged_bytes < known + dead_held)
      return differ("charged_bytes", actual.charged_bytes, known + dead_held);
    const uint64_t pool = actual.charged_bytes - known;
    if (shard.dead == 0 && pool != dead_held) return differ("charged_bytes", actual.charged_bytes, known + dead_held);
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
    if (ticket.ticket->voided() != ticket.load->voided)
      return Fail(ticket.load->voided ? "a ticket was not voided" : "a ticket was voided");
  }
  return true;
}

bool Harness::AfterCall(const char* what) {
  if (!events_.broken.empty()) Fail(events_.broken);
  const bool good = failure_.empty() && CompareRemovals() && CompareRecords() && CompareShards();
  if (!good) failure_ = std::string(what) + ": " + failure_;
  return good;
}

}  // namespace cairn::model
