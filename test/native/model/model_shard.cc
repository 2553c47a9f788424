#include "model/model_shard.h"

#include <algorithm>
#include <iterator>
#include <utility>

#include "base/limits.h"

namespace cairn::model {

void Events::Clear() {
  removals.clear();
  flood_shard = nullptr;
}

// ---- questions ----

ModelShard::Place ModelShard::Find(const std::string& key) {
  const auto found = by_key.find(key);
  return found == by_key.end() ? order.end() : found->second;
}

bool ModelShard::IsExpired(const Entry& entry) const {
  return entry.expires_ms != kNeverExpires && entry.expires_ms <= setting_.now->boot_ms;
}

bool ModelShard::IsStale(const Entry& entry) const {
  return entry.fresh_until_ms != kAlwaysFresh && entry.fresh_until_ms <= setting_.now->boot_ms;
}

uint64_t ModelShard::HeldCharge() const {
  uint64_t charge = 0;
  for (const std::shared_ptr<Held>& each : held) charge += each->charge;
  return charge;
}

uint64_t ModelShard::DeadHeldCharge() const {
  uint64_t charge = 0;
  for (const std::shared_ptr<Held>& each : held) charge += each->cleared ? each->charge : 0;
  return charge;
}

bool ModelShard::HasRoom(uint64_t charge, const Entry* stays) const {
  const uint64_t staying = stays == nullptr || stays->is_held() ? 0 : stays->charge();
  return body_charge + HeldCharge() + staying + charge <= limit;
}

std::vector<ModelShard::Place> ModelShard::Victims(uint64_t charge, bool comes, const Entry* stays,
                                                   const Entry* replaced, bool* is_enough) const {
  const auto charge_given_back = [](const Entry& entry) { return entry.is_held() ? 0 : entry.charge(); };
  uint64_t sum = known_charge() + DeadHeldCharge() + charge;
  uint64_t count = order.size();
  if (replaced != nullptr) sum -= charge_given_back(*replaced), --count;
  const auto is_full = [&] { return sum > limit || (comes && entries_limit != 0 && count >= entries_limit); };
  std::vector<Place> victims;
  for (auto oldest = order.end(); is_full() && oldest != order.begin();) {
    --oldest;
    if (&*oldest == replaced || &*oldest == stays) continue;
    victims.push_back(by_key.at(oldest->key));
    sum -= charge_given_back(*oldest), --count;
  }
  *is_enough = !is_full();
  return victims;
}

ModelShard::Found ModelShard::PresenceOf(const std::string& key) {
  const Place entry = Find(key);
  if (entry != end() && !IsExpired(*entry)) return Found::kLive;
  return debts != nullptr && debts->IsOwed(key) ? Found::kStub : Found::kAbsent;
}

bool ModelShard::NeedsLive(Verb verb) { return verb != Verb::kSet && verb != Verb::kDelete && verb != Verb::kEvict; }

size_t ModelShard::Stubs() const {
  if (debts == nullptr) return 0;
  const std::vector<std::string> keys = debts->owed_keys();
  return static_cast<size_t>(
      std::count_if(keys.begin(), keys.end(), [this](const std::string& key) { return !by_key.contains(key); }));
}

bool ModelShard::HasStubRoom(const std::string& key) const {
  const bool is_stub = debts != nullptr && debts->IsOwed(key) && !by_key.contains(key);
  return debts == nullptr || is_stub || Stubs() < stubs_max;
}

bool ModelShard::LacksStubs(uint64_t charge, bool comes, const Entry* stays, const Entry* replaced) const {
  if (debts == nullptr) return false;
  bool is_enough;
  const std::vector<Place> victims = Victims(charge, comes, stays, replaced, &is_enough);
  const auto is_owed = [this](Place victim) { return debts->IsOwed(victim->key); };
  const auto left = static_cast<size_t>(std::count_if(victims.begin(), victims.end(), is_owed));
  return left > 0 && Stubs() + left > stubs_max;
}

bool ModelShard::WaitsForJournal(uint64_t charge) const {
  return journal.held_charge != 0 && !HasRoom(charge, nullptr);
}

Footprint ModelShard::FootprintOf(const Entry& entry) const {
  return setting_.sizes->Of(entry.key.size(), entry.value.size(), entry.expires_ms != kNeverExpires,
                            entry.fresh_until_ms != kAlwaysFresh, entry.client_flags != 0);
}

bool ModelShard::IsTooLarge(const Entry& entry) const {
  return entry.value.size() > setting_.value_bytes_max || FootprintOf(entry).charge > limit;
}

bool ModelShard::TakesSamePlace(const Entry& entry, const Entry& next) {
  return !entry.footprint.in_pieces && !next.footprint.in_pieces && !entry.is_held() &&
         entry.footprint.size_class == next.footprint.size_class;
}

Status ModelShard::RefusalToAccept(const Entry& next, const Entry* old, bool in_same_place, Way way) const {
  if (IsTooLarge(next)) return Status::kTooLarge;
  if (way == Way::kNoRoom || (!in_same_place && LacksStubs(next.charge(), true, nullptr, old))) return Status::kLogFull;
  if (in_same_place || HasRoom(next.charge(), nullptr)) return Status::kStored;
  return HasStubRoom(next.key) ? Status::kNoMemory : Status::kLogFull;
}

Status ModelShard::RefusalToBecome(const Entry& entry, const Entry& next, bool in_same_place, uint64_t needed) const {
  if (in_same_place) return Status::kStored;
  if (next.charge() > limit) return Status::kTooLarge;
  if (LacksStubs(needed, false, &entry, nullptr)) return Status::kLogFull;
  return HasRoom(needed, &entry) ? Status::kStored : Status::kNoMemory;
}

void ModelShard::Describe(const Entry& entry, Expected* expected) const {
  expected->check_entry = true;
  expected->fetched = entry.fetched;
  expected->codec = entry.codec;
  expected->client_flags = entry.client_flags;
  expected->version = entry.version;
  expected->expires_ms = entry.expires_ms;
  expected->fresh_until_ms = entry.fresh_until_ms;
  expected->value_bytes = static_cast<uint32_t>(entry.value.size());
  if (setting_.tracks_access) expected->idle_s = now_s() - entry.access_s;
}

// ---- moves ----

ModelShard::Place ModelShard::Meet(const std::string& key, bool counts, bool accepts_stale, bool* live) {
  const Place entry = Find(key);
  *live = false;
  if (entry == end()) return entry;
  if (IsExpired(*entry)) {
    if (counts) ++counters.get_expired;
    Leave(entry, Reason::kExpired);
    return end();
  }
  *live = accepts_stale || !IsStale(*entry);
  if (!*live) {
    gone_version = std::max(gone_version, entry->version);
    ++setting_.coverage->stale_absent;
  } else if (IsStale(*entry)) {
    ++setting_.coverage->stale_accepted;
  }
  return entry;
}

void ModelShard::Leave(Place entry, Reason reason, Farewell farewell) {
  if (farewell == Farewell::kTold || farewell == Farewell::kSucceeded) {
    setting_.events->removals.push_back({reason, entry->key, entry->value, entry->codec, entry->client_flags});
  }
  if (reason == Reason::kEvicted || reason == Reason::kExpired) {
    uint64_t& all = reason == Reason::kEvicted ? counters.evictions : counters.expirations;
    uint64_t& unfetched = reason == Reason::kEvicted ? counters.evicted_unfetched : counters.expired_unfetched;
    ++all;
    if (!entry->fetched) ++unfetched;
    setting_.events->lost.insert(entry->key);
    gone_version = std::max(gone_version, entry->version);
  }
  live_charge -= entry->charge();
  payload -= entry->key.size() + entry->value.size();
  if (entry->is_held()) {
    entry->held->left = true;
    left_charge += entry->charge();
    ++setting_.coverage->zombies;
  }
  if (farewell == Farewell::kTold || farewell == Farewell::kUntold) ForgetOwed(entry->key);
  ForgetOwedIfStale(*entry);
  by_key.erase(entry->key);
  order.erase(entry);
}

void ModelShard::LetOldestLeave(uint64_t charge, bool comes, const Entry* stays) {
  if (!HasRoom(charge, stays)) return;
  bool is_enough;
  const std::vector<Place> victims = Victims(charge, comes, stays, nullptr, &is_enough);
  if (!is_enough) setting_.events->broken = "the model finds no victim";
  if (!victims.empty()) dead = 0;  // no living entry leaves while there are any
  for (const Place victim : victims) Leave(victim, Reason::kEvicted);
}

ModelShard::Place ModelShard::Enter(Entry entry, bool in_same_place) {
  setting_.events->flood_slot = setting_.events->removals.size();
  setting_.events->flood_shard = in_same_place ? nullptr : this;
  live_charge += entry.charge();
  payload += entry.key.size() + entry.value.size();
  order.push_front(std::move(entry));
  by_key[order.front().key] = order.begin();
  return order.begin();
}

void ModelShard::VoidLoads(const std::string& key) {
  for (const std::shared_ptr<Load>& load : loads) load->voided = load->voided || load->key == key;
}

void ModelShard::ForgetOwed(const std::string& key) {
  for (auto& [id, walk] : walks) walk.owed.erase(key);
}

void ModelShard::ForgetOwedIfStale(const Entry& entry) {
  if (!IsStale(entry)) return;
  for (auto& [id, walk] : walks) {
    if (!walk.accepts_stale) walk.owed.erase(entry.key);
  }
}

void ModelShard::LetGo(const std::shared_ptr<Held>& held_value) {
  if (--held_value->pins > 0) return;
  if (held_value->left) left_charge -= held_value->charge;
  held.erase(held_value);
}

Status ModelShard::Accept(Entry next, Place old, const Terms& terms, Expected* expected) {
  const bool replaces = old != end();
  const std::string key = next.key;
  next.footprint = FootprintOf(next);
  next.access_s = now_s();
  next.filed_ms = setting_.now->boot_ms;
  const bool in_same_place = replaces && TakesSamePlace(*old, next);
  const Way way = terms.recorded ? RecordWay(next, false, terms.came_by) : Way::kWhole;
  const Status status = RefusalToAccept(next, replaces ? &*old : nullptr, in_same_place, way);
  switch (status) {
    case Status::kTooLarge:
      if (!terms.insists) return status;
      VoidLoads(key);
      return MakeAbsent(key, old, terms.recorded, expected) ? status : Status::kLogFull;
    case Status::kLogFull:
      if (journal.is_ring() && WaitsForJournal(next.charge())) ++setting_.coverage->ring_waits_for_memory;
      return LogFull();
    case Status::kNoMemory:
      ++counters.no_memory;
      if (replaces) Leave(old, Reason::kReplaced);
      ForgetOwed(key);
      if (terms.recorded && (replaces || (terms.insists && journal.keeps_records))) RecordDelete(key, expected);
      return status;
    default:
      break;
  }
  if (replaces) Leave(old, Reason::kReplaced, Farewell::kSucceeded);
  if (in_same_place) ++setting_.coverage->in_place;
  if (!in_same_place) LetOldestLeave(next.charge(), true, nullptr);
  const Place entry = Enter(std::move(next), in_same_place);
  if (terms.recorded) RecordSet(entry, way, terms.came_by);
  expected->mutates = true;
  expected->new_version = true;
  Describe(*entry, expected);
  return Status::kStored;
}

bool ModelShard::MakeAbsent(const std::string& key, Place old, bool recorded, Expected* expected) {
  const bool present = old != end();
  if (recorded && (present || journal.keeps_records)) {
    if (!journal.TakesKey(key.size()) || !HasStubRoom(key)) {
      LogFull();
      return false;
    }
    RecordDelete(key, expected);
  }
  if (present) Leave(old, Reason::kReplaced);
  return true;
}

Status ModelShard::Become(Place* place, Entry next, Becoming becoming) {
  const Entry& entry = **place;
  const bool only_longer = becoming == Becoming::kLonger;
  next.footprint = FootprintOf(next);
  // Its head stays, with all that is in it.
  if (only_longer && entry.footprint.has_freshness) {
    next.footprint = setting_.sizes->Of(next.key.size(), next.value.size(), true, true, next.client_flags != 0);
  }
  next.held = nullptr;
  const bool in_same_place = !only_longer && TakesSamePlace(entry, next);
  const uint64_t needed = only_longer
                              ? setting_.sizes->OfLongerEnd(entry.key.size(), entry.value.size(), next.value.size())
                              : next.charge();
  const Status status = RefusalToBecome(entry, next, in_same_place, needed);
  if (!only_longer && !in_same_place) ++setting_.coverage->rebuilt;
  if (status == Status::kTooLarge || status == Status::kLogFull) return status;
  Use(*place);
  if (status != Status::kStored) return status;
  if (only_longer) ++setting_.coverage->extended;
  if (!in_same_place) LetOldestLeave(needed, false, &entry);
  if (!only_longer) next.filed_ms = setting_.now->boot_ms;
  Leave(*place, Reason::kReplaced, becoming == Becoming::kRetimed ? Farewell::kSucceededUntold : Farewell::kSucceeded);
  *place = Enter(std::move(next), in_same_place || only_longer);
  return Status::kStored;
}

Status ModelShard::Retime(Place* place, uint64_t expires_ms, uint64_t fresh_until_ms) {
  if (expires_ms == kKeepExpiry) return Status::kStored;
  if ((*place)->fresh_until_ms != kAlwaysFresh && fresh_until_ms == kAlwaysFresh) ++setting_.coverage->made_fresh;
  if (fresh_until_ms != kAlwaysFresh) ++setting_.coverage->made_stale;
  Entry next = **place;
  next.expires_ms = expires_ms;
  next.fresh_until_ms = fresh_until_ms;
  // Where there is room for both they are written: for an expiry beside another one, or in pieces, unless it need not
  // be in pieces any more.
  const bool expires = expires_ms != kNeverExpires, expired_some_time = (*place)->expires_ms != kNeverExpires;
  const bool has_expiry = (*place)->footprint.in_pieces ? FootprintOf(next).in_pieces : expires == expired_some_time;
  if (has_expiry && (fresh_until_ms == kAlwaysFresh || (*place)->footprint.has_freshness)) {
    ForgetOwedIfStale(**place);
    (*place)->expires_ms = expires_ms;
    (*place)->fresh_until_ms = fresh_until_ms;
    if (expires || expired_some_time) (*place)->filed_ms = setting_.now->boot_ms;
    return Status::kStored;
  }
  return Become(place, std::move(next), Becoming::kRetimed);
}

bool ModelShard::Admit(Entry next, Place old, uint64_t charge, Expected* expected) {
  const Way way = RecordWay(next, true);
  if (way == Way::kNoRoom) {
    LogFull();
    return false;
  }
  if (old != end()) Leave(old, Reason::kReplaced, Farewell::kSucceeded);
  LetOldestLeave(0, true, nullptr);
  body_charge -= charge;
  --bodies;
  next.access_s = now_s();
  next.filed_ms = setting_.now->boot_ms;
  const Place entry = Enter(std::move(next), false);
  RecordSet(entry, way);
  Describe(*entry, expected);
  expected->mutates = true;
  expected->new_version = true;
  ++setting_.coverage->bodies_linked;
  return true;
}

uint64_t ModelShard::Clear(uint64_t below) {
  uint64_t count = 0;
  for (Place entry = order.begin(); entry != end();) {
    if (entry->version >= below) {
      ++entry;
      continue;
    }
    ++count;
    if (entry->is_held()) entry->held->cleared = true;
    ++dead;
    dead_charge_max += entry->charge();
    live_charge -= entry->charge();
    payload -= entry->key.size() + entry->value.size();
    ForgetOwed(entry->key);
    by_key.erase(entry->key);
    entry = order.erase(entry);
  }
  for (const std::shared_ptr<Load>& load : loads) load->voided = true;
  return count;
}

// ---- records ----

ModelShard::Way ModelShard::RecordWay(const Entry& entry, bool is_body, const RecordFields& came_by) const {
  const size_t key_bytes = entry.key.size(), value_bytes = entry.value.size();
  const size_t field_bytes = FieldsOf(entry, came_by).bytes();
  if (!journal.is_ring()) return journal.TakesWhole(key_bytes, value_bytes, field_bytes) ? Way::kWhole : Way::kNoRoom;
  const Footprint footprint = FootprintOf(entry);
  if (!is_body && WaitsForJournal(footprint.charge)) return Way::kNoRoom;
  if (value_bytes > kRingInlineValueBytesMax) {
    const bool in_share =
        journal.held_charge == 0 || journal.held_charge + footprint.charge <= limit / kRingPinnedShareMax;
    const bool in_pages = pinned_pages + 1 + footprint.partial_pieces <= kRingPinnedPagesMax;
    if (in_share && in_pages && journal.TakesReference(key_bytes, field_bytes)) return Way::kReference;
    if (value_bytes > kRingCopiedValueBytesMax) return Way::kNoRoom;
  }
  return journal.TakesWhole(key_bytes, value_bytes, field_bytes) ? Way::kWhole : Way::kNoRoom;
}

void ModelShard::RecordSet(Place entry, Way way, const RecordFields& came_by) {
  if (way == Way::kReference) {
    entry->held = std::make_shared<Held>();
    entry->held->value = entry->value;
    entry->held->charge = entry->charge();
    entry->held->pins = 1;
    held.insert(entry->held);
    journal.held_charge += entry->charge();
    ++setting_.coverage->ring_pinned;
  } else if (journal.is_ring() && entry->value.size() > kRingInlineValueBytesMax) {
    ++setting_.coverage->ring_copied_large;
  }
  Record(RecordKind::kSet, *entry, came_by);
  if (way == Way::kReference) new_records.back().held = entry->held;
  if (journal.Place(&new_records.back())) ++setting_.coverage->ring_wrapped;
  setting_.events->lost.erase(entry->key);
}

RecordFields ModelShard::FieldsOf(const Entry& entry, const RecordFields& came_by) const {
  RecordFields fields = came_by;
  if (entry.fresh_until_ms == kAlwaysFresh) return fields;
  fields.SetFreshUntil(static_cast<int64_t>(entry.fresh_until_ms) + setting_.now->WallOffset());
  return fields;
}

void ModelShard::Record(RecordKind kind, const Entry& entry, const RecordFields& came_by) {
  ExpectedRecord record;
  record.kind = kind;
  record.key = entry.key;
  if (kind == RecordKind::kSet) record.value = entry.value;
  if (kind != RecordKind::kDelete) {
    record.codec = static_cast<uint8_t>(entry.codec);
    record.client_flags = entry.client_flags;
    record.expires_wall_ms =
        entry.expires_ms == kNeverExpires ? 0 : static_cast<int64_t>(entry.expires_ms) + setting_.now->WallOffset();
    record.optional = FieldsOf(entry, came_by);
    if (record.optional.fields & kFieldFreshness) ++setting_.coverage->records_freshness;
    if (record.optional.fields & kFieldDelta) ++setting_.coverage->records_delta;
  }
  new_records.push_back(std::move(record));
  if (kind != RecordKind::kSet && journal.Place(&new_records.back())) ++setting_.coverage->ring_wrapped;
}

void ModelShard::RecordDelete(const std::string& key, Expected* expected) {
  Entry gone;
  gone.key = key;
  Record(RecordKind::kDelete, gone);
  if (expected != nullptr) expected->mutates = true;
}

void ModelShard::RecordBarrier(RecordKind kind, uint64_t version, uint64_t at_ms) {
  if (!journal.keeps_records) return;
  Entry barrier;
  barrier.expires_ms = at_ms;
  Record(kind, barrier);
  new_records.back().version = version;
}

Status ModelShard::LogFull() {
  ++counters.log_full;
  ++setting_.coverage->log_full;
  if (journal.is_ring()) ++setting_.coverage->ring_full;
  return Status::kLogFull;
}

Status ModelShard::Unmet(Status refusal) {
  if (refusal == Status::kLogFull) return LogFull();
  if (refusal == Status::kNoMemory && journal.held_charge != 0) {
    ++setting_.coverage->ring_waits_for_memory;
    return LogFull();
  }
  ++counters.no_memory;
  return refusal;
}

}  // namespace cairn::model
