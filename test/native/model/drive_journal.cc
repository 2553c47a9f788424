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

bool IsFreshAsLong(uint64_t fresh_until_ms, const RecordFields& optional, const Now& now) {
  if (!(optional.fields & kFieldFreshness)) return fresh_until_ms == kAlwaysFresh;
  const int64_t until_ms = optional.fresh_until_wall_ms - now.WallOffset();
  return fresh_until_ms == static_cast<uint64_t>(std::max<int64_t>(until_ms, 1));
}

}  // namespace

bool Harness::DoDrain(uint32_t shard_index, size_t capacity) {
  Journal& ring = shards_[shard_index].journal;
  drain_bytes_.assign(capacity, '\x55');
  const RingDrain actual = store_->DrainRing(shard_index, drain_bytes_.data(), capacity);
  size_t bytes = 0, needed = 0;
  uint32_t count = 0;
  uint64_t version = 0;
  std::string_view rest(drain_bytes_.data(), actual.bytes);
  while (ring.drained < ring.records.size()) {
    const ExpectedRecord& expected = ring.records[ring.drained];
    const size_t record_bytes = RecordBytes(expected.key.size(), expected.value.size(), expected.optional.bytes());
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
                              std::string(view.value),
                              view.optional};
    if (!CompareRecord(record, expected)) return false;
    if (view.version <= version) return Fail("drain: versions do not rise");
    version = view.version;
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
  if (actual.version != version) {
    return Fail(Format("drain: version %llx, expected %llx", static_cast<unsigned long long>(actual.version),
                       static_cast<unsigned long long>(version)));
  }
  return CompareRing(shard_index);
}

bool Harness::DoCommit(uint32_t shard_index) {
  BeforeCall();
  store_->CommitRing(shard_index);
  Journal& ring = shards_[shard_index].journal;
  for (size_t i = 0; i < ring.drained; ++i) {
    const ExpectedRecord& record = ring.records[i];
    ring.freed = ring.drained_at;
    if (record.held == nullptr) continue;
    ring.held_charge -= record.held->charge;
    if (record.held->pins == 1 && record.held->left) ++coverage_.ring_zombies;
    shards_[shard_index].LetGo(record.held);
  }
  ring.records.erase(ring.records.begin(), ring.records.begin() + static_cast<ptrdiff_t>(ring.drained));
  ring.seen -= ring.drained;
  ring.drained = 0;
  return AfterCall("commit");
}

bool Harness::DoRewind(uint32_t shard_index) {
  Journal& ring = shards_[shard_index].journal;
  store_->RewindRing(shard_index);
  if (ring.drained > 0) ++coverage_.ring_rewound;
  ring.drained = 0;
  return CompareRing(shard_index);
}

bool Harness::DrainEverything() {
  for (uint32_t i = 0; has_rings() && i < shards_.size(); ++i) {
    while (shards_[i].journal.drained < shards_[i].journal.records.size()) {
      const ExpectedRecord& next = shards_[i].journal.records[shards_[i].journal.drained];
      if (!DoDrain(i, std::max(RecordBytes(next.key.size(), next.value.size(), kRecordFieldBytesMax), size_t{100'000})))
        return false;
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
  Refusal refusal;
  const std::unique_ptr<Store> other = Store::Open(options, &refusal);
  if (other == nullptr) return Fail("replay: " + refusal.ToString());
  other->SetRecovering(true);
  for (std::string_view rest = replay_; !rest.empty();) {
    RecordView record;
    if (DecodeRecord(rest, &record) != DecodeStatus::kOk) return Fail("replay: not a record");
    (void)other->Apply(record, now_, Origin::kLog);
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
    request.accepts_stale = true;
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
        static_cast<uint8_t>(outcome.codec) != record.codec || expires_wall_ms != record.expires_wall_ms ||
        !IsFreshAsLong(outcome.fresh_until_ms, record.optional, now_)) {
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

}  // namespace cairn::model
