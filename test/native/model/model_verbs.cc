// What requests come to: a condition (F1) about what is there, and then a change of the shard, or none.
#include <algorithm>
#include <string>
#include <utility>

#include "base/limits.h"
#include "model/model_shard.h"
#include "model/values.h"

namespace cairn::model {

namespace {

bool IsJoining(Verb verb) { return verb == Verb::kAppend || verb == Verb::kPrepend; }
bool IsCounting(Verb verb) { return verb == Verb::kIncr || verb == Verb::kDecr; }
bool IsTouching(Verb verb) { return verb == Verb::kTouch || verb == Verb::kGetAndTouch; }
bool IsRemoving(Verb verb) { return verb == Verb::kDelete || verb == Verb::kTake || verb == Verb::kEvict; }

// What a request finds out if its key has an entry, or none: kStored if it goes on.
Status IfPresent(Verb verb) { return verb == Verb::kAdd ? Status::kNotStored : Status::kStored; }
Status IfAbsent(const Request& request) {
  switch (request.verb) {
    case Verb::kSet:
    case Verb::kAdd:
      return Status::kStored;
    case Verb::kReplace:
    case Verb::kAppend:
    case Verb::kPrepend:
      return Status::kNotStored;
    case Verb::kIncr:
    case Verb::kDecr:
      return request.has_initial ? Status::kStored : Status::kNotFound;
    default:
      return Status::kNotFound;
  }
}

uint64_t Counted(const Request& request, uint64_t number) {
  return request.verb == Verb::kIncr ? number + request.delta : number - std::min(number, request.delta);
}

}  // namespace

Expected ModelShard::Ask(const Request& request, const std::string& key, const Load* load, const Seen& seen,
                         Scratch* scratch) {
  if (request.verb == Verb::kPeek || request.verb == Verb::kHas) return Look(request, key, seen, scratch);
  if (request.verb == Verb::kGet) return Get(request, key, seen, scratch);
  Expected expected;
  bool present;
  const bool accepts_stale = request.accepts_stale || request.verb == Verb::kEvict;
  const Place here = Meet(key, request.verb == Verb::kGetAndTouch, accepts_stale, &present);
  expected.status = Judge(request, present ? here : end(), load);
  CountCondition(request, present, expected.status);
  if (expected.status != Status::kStored) {
    if (present && expected.status != Status::kNonNumeric) Describe(*here, &expected);
    if (load != nullptr && expected.status == Status::kExists) ++setting_.coverage->fills_voided;
    if (IsRemoving(request.verb) && !present) RemoveAbsent(request, key, here, &expected);
    return expected;
  }
  if (IsJoining(request.verb)) {
    Join(request, key, here, seen, &expected);
  } else if (IsCounting(request.verb)) {
    Count(request, key, here, present, &expected);
  } else if (IsTouching(request.verb)) {
    Touch(request, here, seen, scratch, &expected);
  } else if (IsRemoving(request.verb)) {
    Remove(request, here, seen, scratch, &expected);
  } else {
    Replace(request, key, here, present, &expected);
    if (load != nullptr && expected.status == Status::kStored) ++setting_.coverage->fills_stored;
  }
  return expected;
}

// ---- conditions ----

Status ModelShard::Judge(const Request& request, Place here, const Load* load) const {
  const bool present = here != order.end();
  const Status by_presence = present ? IfPresent(request.verb) : IfAbsent(request);
  if (by_presence != Status::kStored) return by_presence;
  // That an empty value is no number comes before any comparison.
  const bool is_no_number = present && IsCounting(request.verb) && here->value.empty();
  const bool compares = (request.has_compare || request.verb == Verb::kCas) && !is_no_number;
  if (present && compares && here->version != request.compare) return Status::kExists;
  if (load != nullptr && load->voided) return Status::kExists;
  return present ? JudgeContents(request, *here) : Status::kStored;
}

Status ModelShard::JudgeContents(const Request& request, const Entry& here) const {
  Codec codec;
  uint64_t number;
  if (IsJoining(request.verb) && !JoinedCodec(here.codec, request.codec, std::string(request.value), &codec)) {
    return Status::kNotStored;
  }
  const bool is_structure = here.codec == Codec::kJson || here.codec == Codec::kStructured;
  if (IsCounting(request.verb) && (is_structure || !NumberOf(here.value, &number))) return Status::kNonNumeric;
  return Status::kStored;
}

void ModelShard::CountCondition(const Request& request, bool present, Status status) {
  if (request.verb == Verb::kCas && status == Status::kNotFound) ++counters.cas_misses;
  if (request.verb == Verb::kCas && status == Status::kExists) ++counters.cas_exists;
  if (request.verb == Verb::kIncr && !present) ++counters.incr_misses;
  if (request.verb == Verb::kDecr && !present) ++counters.decr_misses;
  if (IsTouching(request.verb) && !present) ++counters.touches;
  if (request.verb == Verb::kGetAndTouch && !present) ++counters.gets, ++counters.misses;
}

// ---- reads ----

bool ModelShard::GiveValue(Place entry, const Seen& seen, Scratch* scratch, Expected* expected) {
  if (entry->value.size() > kCopyUnderLockBytesMax && seen.may_pin) {
    // Whether its pages are held already is not known here: within the budget for sure, beyond it for sure, or as the
    // store says.
    const bool is_certain = pinned_pages + 1 + entry->footprint.partial_pieces <= kPinnedPagesMax;
    const bool is_impossible = entry->is_held() && entry->held->pins == kPinsPerEntryMax;
    if (!is_impossible && (is_certain || seen.pinned)) {
      if (!entry->is_held()) {
        entry->held = std::make_shared<Held>();
        entry->held->value = entry->value;
        entry->held->charge = entry->charge();
      }
      ++entry->held->pins;
      held.insert(entry->held);
      expected->held = entry->held;
      expected->has_value = true;
      expected->value = entry->value;
      return true;
    }
    ++setting_.coverage->copies_of_large;
  }
  if (scratch->capacity - scratch->used < entry->value.size()) {
    expected->status = Status::kNeedsRoom;
    expected->value_bytes = static_cast<uint32_t>(entry->value.size());
    ++setting_.coverage->needs_room;
    return false;
  }
  scratch->used += entry->value.size();
  expected->has_value = true;
  expected->value = entry->value;
  return true;
}

Expected ModelShard::Look(const Request& request, const std::string& key, const Seen& seen, Scratch* scratch) {
  Expected expected;
  const Place entry = Find(key);
  if (entry == end()) return expected;
  if (IsExpired(*entry) || (!request.accepts_stale && IsStale(*entry))) {
    gone_version = std::max(gone_version, entry->version);
    return expected;
  }
  const bool gives = request.verb == Verb::kPeek && !request.no_value;
  if (gives && !GiveValue(entry, seen, scratch, &expected)) return expected;
  Describe(*entry, &expected);
  expected.status = Status::kFound;
  return expected;
}

Expected ModelShard::Get(const Request& request, const std::string& key, const Seen& seen, Scratch* scratch) {
  Expected expected;
  bool live;
  const Place entry = Meet(key, true, request.accepts_stale, &live);
  if (!live) {
    ++counters.gets, ++counters.misses;
    return expected;
  }
  if (!request.no_value && !GiveValue(entry, seen, scratch, &expected)) return expected;
  ++counters.gets, ++counters.hits;
  Describe(*entry, &expected);
  expected.status = Status::kFound;
  if (request.no_bump) return expected;
  entry->fetched = true;
  entry->access_s = now_s();
  Use(entry);
  return expected;
}

// ---- changes ----

void ModelShard::Replace(const Request& request, const std::string& key, Place here, bool live, Expected* expected) {
  const bool insists = request.verb == Verb::kSet;
  Entry next;
  next.key = key;
  next.value = std::string(request.value);
  next.codec = request.codec;
  next.client_flags = request.client_flags;
  next.expires_ms = request.expires_ms;
  next.fresh_until_ms = request.fresh_until_ms;
  if (request.expires_ms == kKeepExpiry) {
    next.expires_ms = live ? here->expires_ms : request.keep_else_ms;
    if (live) next.fresh_until_ms = here->fresh_until_ms;
  }
  if (IsTooLarge(next)) ++counters.too_large, ++setting_.coverage->too_large;
  expected->status = Accept(std::move(next), here, {.recorded = true, .insists = insists}, expected);
  if (expected->status == Status::kNoMemory) ++setting_.coverage->no_memory;
  if (expected->status == Status::kStored) {
    ++counters.sets;
    if (request.verb == Verb::kCas) ++counters.cas_hits;
  }
  // A refusal for want of memory may have taken the old entry away.
  if (expected->status == Status::kStored || expected->status == Status::kNoMemory) VoidLoads(key);
}

void ModelShard::Count(const Request& request, const std::string& key, Place here, bool present, Expected* expected) {
  Entry next;
  next.key = key;
  uint64_t number = request.initial;
  Terms terms;
  if (present) {
    (void)NumberOf(here->value, &number);
    const uint64_t before = number;
    number = Counted(request, number);
    terms.came_by.SetDelta(static_cast<int64_t>(number - before));
    next.codec = here->codec;
    next.client_flags = here->client_flags;
    next.expires_ms = here->expires_ms;
    next.fresh_until_ms = here->fresh_until_ms;
    next.fetched = here->fetched;
  } else {
    next.codec = request.codec;
    next.client_flags = request.client_flags;
    next.expires_ms = request.expires_ms == kKeepExpiry ? request.keep_else_ms : request.expires_ms;
    next.fresh_until_ms = request.fresh_until_ms;
  }
  next.value = std::to_string(number);
  if (present && request.pad_decimal && next.value.size() < here->value.size()) {
    next.value.resize(here->value.size(), ' ');
  }
  expected->status = Accept(std::move(next), here, terms, expected);
  const bool stored = expected->status == Status::kStored;
  if (stored || (present && expected->status == Status::kNoMemory)) VoidLoads(key);
  if (!stored) return;
  expected->check_number = true;
  expected->number = number;
  if (!present) return;
  ++(request.verb == Verb::kIncr ? counters.incr_hits : counters.decr_hits);
  expected->status = Status::kFound;
}

void ModelShard::Join(const Request& request, const std::string& key, Place here, const Seen& seen,
                      Expected* expected) {
  const std::string added(request.value);
  Entry next = *here;
  next.value = request.verb == Verb::kAppend ? next.value + added : added + next.value;
  next.access_s = now_s();
  (void)JoinedCodec(here->codec, request.codec, added, &next.codec);
  if (next.value.size() > setting_.value_bytes_max) {
    ++counters.too_large, ++setting_.coverage->too_large;
    expected->status = Status::kTooLarge;
    return;
  }
  const Way way = RecordWay(next, false);
  if (way == Way::kNoRoom) {
    if (journal.is_ring() && WaitsForJournal(FootprintOf(next).charge)) ++setting_.coverage->ring_waits_for_memory;
    expected->status = LogFull();
    return;
  }
  const bool only_longer = request.verb == Verb::kAppend && here->footprint.in_pieces && !here->is_held() &&
                           added.size() <= kConcatCopiedBytesMax;
  if (!only_longer && seen.may_pin && next.value.size() > kConcatCopiedBytesMax) ++setting_.coverage->concats_in_steps;
  expected->status = Become(&here, std::move(next), only_longer ? Becoming::kLonger : Becoming::kOther);
  if (expected->status == Status::kTooLarge) {
    ++counters.too_large;
  } else if (expected->status != Status::kStored) {
    expected->status = Unmet(expected->status);
    ++setting_.coverage->no_memory;
  } else {
    ++counters.sets;
    RecordSet(here, way);
    expected->mutates = true;
    expected->new_version = true;
    Describe(*here, expected);
    VoidLoads(key);
  }
}

void ModelShard::Touch(const Request& request, Place here, const Seen& seen, Scratch* scratch, Expected* expected) {
  const bool gets = request.verb == Verb::kGetAndTouch;
  const bool keeps = request.expires_ms == kKeepExpiry;
  if (!journal.TakesKey(here->key.size(), keeps ? FieldsOf(*here, {}).bytes() : 0)) {
    expected->status = LogFull();
    return;
  }
  const size_t scratch_used = scratch->used;
  // The reader's hold comes first, so that the value which it reads is the one that stays.
  if (gets && !request.no_value && !GiveValue(here, seen, scratch, expected)) return;
  Describe(*here, expected);
  const Status status = Retime(&here, request.expires_ms, kAlwaysFresh);
  if (status != Status::kStored) {
    scratch->used = scratch_used;
    ++setting_.coverage->no_memory;
    if (expected->held != nullptr) LetGo(expected->held);
    *expected = Expected{};
    expected->status = Unmet(status);
    return;
  }
  ++counters.touches, ++counters.touch_hits;
  if (gets) {
    ++counters.gets, ++counters.hits;
    if (!request.no_bump) {
      here->fetched = true;
      here->access_s = now_s();
    }
  }
  if (!(gets && request.no_bump)) Use(here);
  Record(RecordKind::kTouch, *here);
  expected->mutates = true;
  expected->expires_ms = here->expires_ms;
  expected->fresh_until_ms = here->fresh_until_ms;
  expected->status = Status::kFound;
}

void ModelShard::Remove(const Request& request, Place here, const Seen& seen, Scratch* scratch, Expected* expected) {
  const bool evicts = request.verb == Verb::kEvict;
  const bool leaves_stub = !evicts || (debts != nullptr && debts->IsOwed(here->key));
  if ((!evicts && !journal.TakesKey(here->key.size())) || (leaves_stub && !HasStubRoom(here->key))) {
    expected->status = LogFull();
    return;
  }
  if (request.verb == Verb::kTake && !request.no_value && !GiveValue(here, seen, scratch, expected)) return;
  Describe(*here, expected);
  expected->version = 0;
  expected->status = Status::kFound;
  VoidLoads(here->key);
  if (!evicts) {
    ++counters.deletes, ++counters.delete_hits;
    RecordDelete(here->key, expected);
  }
  Leave(here, evicts ? Reason::kEvicted : Reason::kDeleted);
}

void ModelShard::RemoveAbsent(const Request& request, const std::string& key, Place stale, Expected* expected) {
  const bool deletes = request.verb == Verb::kDelete && !request.has_compare;
  if (deletes && journal.keeps_records) {
    if (!journal.TakesKey(key.size()) || !HasStubRoom(key)) {
      expected->status = LogFull();
      return;
    }
    RecordDelete(key, expected);
  }
  if (deletes && stale != end()) Leave(stale, Reason::kDeleted);
  if (request.verb != Verb::kEvict) ++counters.deletes;
  VoidLoads(key);
}

}  // namespace cairn::model
