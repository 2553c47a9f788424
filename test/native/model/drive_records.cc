#include <algorithm>
#include <cstdio>
#include <iterator>
#include <utility>

#include "model/harness.h"
#include "model/values.h"
#include "model/words.h"
#include "store/shard.h"

namespace cairn::model {

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

}  // namespace cairn::model
