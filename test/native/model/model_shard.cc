#include <algorithm>
#include <cstdio>
#include <iterator>
#include <utility>

#include "model/harness.h"
#include "model/values.h"
#include "model/words.h"
#include "store/shard.h"

namespace cairn::model {

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

}  // namespace cairn::model
