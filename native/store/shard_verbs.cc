// Shard: the verbs that read, touch and remove, and the choice of the verb. shard_store.cc has the verbs that store.
#include "store/shard.h"

#include <algorithm>
#include <cstring>

#include "store/shard_inl.h"

namespace cairn {

void Shard::Execute(const Request& request, uint64_t hash, const Now& now, Scratch* scratch, Pins pins,
                    Outcome* outcome) {
  switch (request.verb) {
    case Verb::kGet:
    case Verb::kPeek:
    case Verb::kHas:
      return Get(request, hash, now, scratch, pins, outcome);
    case Verb::kSet:
    case Verb::kAdd:
    case Verb::kReplace:
    case Verb::kCas:
      FreeStubs();
      return StoreValue(request, hash, now, outcome);
    case Verb::kAppend:
    case Verb::kPrepend:
      FreeStubs();
      entries_.SettleTouches();
      return Concat(request, hash, now, outcome, nullptr);
    case Verb::kIncr:
    case Verb::kDecr:
      FreeStubs();
      return Count(request, hash, now, outcome);
    case Verb::kTouch:
    case Verb::kGetAndTouch:
      FreeStubs();
      entries_.SettleTouches();
      return Touch(request, hash, now, scratch, pins, outcome);
    case Verb::kDelete:
    case Verb::kTake:
    case Verb::kEvict:
      FreeStubs();
      entries_.SettleTouches();
      return Remove(request, hash, now, scratch, pins, outcome);
    case Verb::kMetaGet:
      FreeStubs();
      return MetaGet(request, hash, now, scratch, pins, outcome);
    case Verb::kInvalidate:
      FreeStubs();
      entries_.SettleTouches();
      return Invalidate(request, hash, now, outcome);
  }
}

void Shard::Describe(const EntryHeader* entry, const Now& now, Outcome* outcome) const {
  outcome->codec = CodecOf(entry);
  outcome->fetched = (entry->flags & kEntryFetched) != 0;
  outcome->value_bytes = entry->value_bytes;
  outcome->version = entry->version;
  // The defaults of an outcome say what an entry without such fields has.
  if (!HasOptionalFields(entry->flags)) [[likely]]
    return;
  outcome->client_flags = ClientFlagsOf(entry);
  outcome->expires_ms = ExpiresMsOf(entry);
  outcome->fresh_until_ms = FreshUntilOf(entry);
  if (entry->flags & kEntryHasAccess) {
    // Another thread, whose clock was read a little later, may have been here first.
    const uint32_t now_s = AccessSeconds(now);
    outcome->idle_s = now_s - std::min(now_s, LoadU32(BytesOf(entry) + OffsetsOf(entry).access));
  }
  if (!(entry->flags & kEntryHasMarks)) return;
  outcome->marks = MarksOf(entry).bits;
  outcome->version = CasOf(entry);
  outcome->commit_version = entry->version;
  // Who reads with freshness loads the value anew.
  if (outcome->marks & kMarkStale) outcome->fresh_until_ms = EndMs(outcome->fresh_until_ms, now.boot_ms);
}

bool Shard::GiveValue(Ref ref, Scratch* scratch, Pins pins, Outcome* outcome) {
  const EntryHeader* entry = At(ref);
  const uint32_t bytes = entry->value_bytes;
  outcome->value_bytes = bytes;
  if (bytes > kCopyUnderLockBytesMax && pins == Pins::kAllowed &&
      memory_.PinEntry(ref, kPinnedPagesMax, &outcome->pin)) {
    outcome->has_value = true;
    outcome->pin_may_last = memory_.PinMayLast(ref);
    return true;
  }
  if (scratch == nullptr || scratch->capacity - scratch->used < bytes) {
    outcome->status = Status::kNeedsRoom;
    return false;
  }
  outcome->value_offset = scratch->used;
  outcome->has_value = true;
  char* to = scratch->data + scratch->used;
  if (!((entry->flags & kEntryChunked) || IsLongKey(entry))) [[likely]] {
    if (bytes > 0) std::memcpy(to, BytesOf(entry) + StreamOffsetOf(entry->flags, false) + entry->key_bytes, bytes);
  } else {
    memory_.ReadStream(entry, KeyBytesOf(entry), to, bytes);
  }
  scratch->used += bytes;
  return true;
}

void Shard::TakeValueBack(Scratch* scratch, size_t scratch_used, Outcome* outcome) {
  if (outcome->pin.ref != 0) memory_.Unpin(outcome->pin.ref);
  if (scratch != nullptr) scratch->used = scratch_used;
  outcome->pin = {};
  outcome->pin_may_last = false;
  outcome->has_value = false;
}

void Shard::Get(const Request& request, uint64_t hash, const Now& now, Scratch* scratch, Pins pins, Outcome* outcome) {
  if (request.verb != Verb::kGet) {
    const auto [ref, presence] = entries_.Look(request.key, hash, now, StaleTo(request));
    outcome->status = MeetPresence(request, presence);
    if (outcome->status != Status::kStored) {
      // The expiry must be as durable as the entry was: a reply reveals the absence.
      if (ref != 0 && outcome->status == Status::kNotFound) recorder_.NoteGone(At(ref)->version);
      return;
    }
    if (request.verb == Verb::kPeek && !request.no_value && !GiveValue(ref, scratch, pins, outcome)) return;
    Describe(At(ref), now, outcome);
    outcome->status = Status::kFound;
    return;
  }
  const auto [ref, presence] = entries_.Lookup(request.key, hash, now, Purpose::kGet, StaleTo(request));
  if (presence != Presence::kLive) {
    outcome->status = MeetPresence(request, presence);
    if (outcome->status == Status::kNotFound) entries_.CountMiss();
    return;
  }
  EntryHeader* entry = At(ref);
  if (!request.no_value && !GiveValue(ref, scratch, pins, outcome)) return;
  Describe(entry, now, outcome);
  outcome->status = Status::kFound;
  entries_.CountHit();
  if (!request.no_bump) entries_.Use(ref, entry, now);
}

Status Shard::Remark(Ref* ref, std::string_view key, const Ends& ends, const Marks& marks, uint64_t hash,
                     const Now& now) {
  const uint64_t expires_ms = ends.expires_ms;
  EntryHeader* entry = At(*ref);
  const bool was_timed = IsTimed(entry);
  const bool is_timed = expires_ms != kNeverExpires;
  NewEntry from = KeptOf(entry, key);
  from.expires_ms = expires_ms;
  from.fresh_until_ms = ends.fresh_until_ms;
  from.marks = marks;
  // A chunked entry changes its head, which a reader behind a pin never looks at; unless it is one that fits into a
  // single chunk without these fields.
  const bool chunked = (entry->flags & kEntryChunked) != 0;
  const bool has_expiry = chunked ? (memory_.LayoutOf(from).flags & kEntryChunked) != 0 : is_timed == was_timed;
  const bool has_freshness = ends.fresh_until_ms == kAlwaysFresh || (entry->flags & kEntryHasFreshness) != 0;
  const bool has_marks = !marks.any() || (entry->flags & kEntryHasMarks) != 0;
  if (has_expiry && has_freshness && has_marks) {
    if (was_timed || is_timed) {
      const Entries::Edit edit(&entries_, *ref);
      ExpiryOf(entry)->expires_ms = expires_ms;
    }
    SetFreshUntil(entry, ends.fresh_until_ms);
    SetMarks(entry, marks);
    return Status::kStored;
  }
  // A touch is no access, whether or not it needs another layout.
  const uint32_t access_s = (entry->flags & kEntryHasAccess) ? LoadU32(BytesOf(entry) + OffsetsOf(entry).access) : 0;
  const Status status = Rewrite(ref, from, {}, {}, hash, now, Farewell::kUntold);
  // The entry is as it was, but what was tried may have moved it: *ref says nothing now.
  if (status != Status::kStored) return status;
  entry = At(*ref);
  if (entry->flags & kEntryHasAccess) StoreU32(BytesOf(entry) + OffsetsOf(entry).access, access_s);
  return status;
}

void Shard::LeaveTouch(Ref ref, uint64_t hash, const Now& now, Outcome* outcome) {
  // No record has told of a placeholder.
  if (IsPlaceholder(At(ref))) return;
  outcome->record_version = recorder_.NextVersion();
  recorder_.LeaveEntry(RecordKind::kTouch, ref, outcome->record_version, now);
  if (owed_flag_ != 0) entries_.mutable_debts()->NoteTouch(At(ref), outcome->record_version);
  if (!fills_.empty()) [[unlikely]]
    fills_.VoidTouched(hash);
}

void Shard::Touch(const Request& request, uint64_t hash, const Now& now, Scratch* scratch, Pins pins,
                  Outcome* outcome) {
  const bool get = request.verb == Verb::kGetAndTouch;
  StoreStats* counters = &state_->counters;
  const Found found = entries_.Lookup(request.key, hash, now, get ? Purpose::kGet : Purpose::kOther, StaleTo(request));
  Ref ref = found.ref;
  if (!found.is_live()) {
    outcome->status = MeetPresence(request, found.presence);
    if (outcome->status != Status::kNotFound) return;
    counters->touches++;
    if (get) entries_.CountMiss();
    return;
  }
  if (request.has_compare && CasOf(At(ref)) != request.compare) {
    Describe(At(ref), now, outcome);
    outcome->status = Status::kExists;
    return;
  }
  const Ends ends{request.expires_ms, kAlwaysFresh};
  const uint64_t fresh_until_ms = request.expires_ms == kKeepExpiry ? FreshUntilOf(At(ref)) : kAlwaysFresh;
  if (!recorder_.ReserveKey(request.key.size(), fresh_until_ms)) {
    outcome->status = Status::kLogFull;
    return;
  }
  const size_t scratch_used = scratch == nullptr ? 0 : scratch->used;
  if (get && !request.no_value && !GiveValue(ref, scratch, pins, outcome)) return;
  Describe(At(ref), now, outcome);
  const Status status = Retime(&ref, request.key, ends, hash, now);
  if (status != Status::kStored) {
    TakeValueBack(scratch, scratch_used, outcome);
    outcome->status = recorder_.NoMemory(status);
    return;
  }
  counters->touches++;
  counters->touch_hits++;
  EntryHeader* entry = At(ref);
  if (get) entries_.CountHit();
  if ((get || request.is_read) && !request.no_bump) {
    entry->flags |= kEntryFetched;
    StampAccess(entry, now);
  }
  if (!request.no_bump) entries_.Bump(ref);
  LeaveTouch(ref, hash, now, outcome);
  outcome->expires_ms = ExpiresMsOf(entry);
  outcome->fresh_until_ms = FreshUntilOf(entry);
  outcome->status = Status::kFound;
  entries_.Adjust();
}

void Shard::Remove(const Request& request, uint64_t hash, const Now& now, Scratch* scratch, Pins pins,
                   Outcome* outcome) {
  StoreStats* counters = &state_->counters;
  const bool evict = request.verb == Verb::kEvict;
  const Found found =
      entries_.Lookup(request.key, hash, now, Purpose::kOther, evict ? StaleIs::kLive : StaleTo(request));
  const Ref ref = found.ref;
  outcome->status = MeetPresence(request, found.presence);
  if (outcome->status == Status::kNotFound) return RemoveAbsent(request, found, hash, outcome);
  if (outcome->status != Status::kStored) return;
  if (!found.is_live()) return RemoveAbsent(request, found, hash, outcome);
  if (request.has_compare && CasOf(At(ref)) != request.compare) {
    Describe(At(ref), now, outcome);
    outcome->status = Status::kExists;
    return;
  }
  if (evict ? !room_.MayEvict(ref) : !ReserveDelete(request.key, ref)) {
    outcome->status = Status::kLogFull;
    return;
  }
  const size_t scratch_used = scratch == nullptr ? 0 : scratch->used;
  if (request.verb == Verb::kTake && !request.no_value &&
      !GiveValue(ref, scratch, request.no_pin ? Pins::kNone : pins, outcome)) {
    return;
  }
  Describe(At(ref), now, outcome);
  outcome->version = 0;
  if (evict ? entries_.Stayed(entries_.Leave(ref, Reason::kEvicted, hash))
            : !LeaveDelete(ref, request.key, hash, Reason::kDeleted, &outcome->record_version)) [[unlikely]] {
    TakeValueBack(scratch, scratch_used, outcome);
    outcome->status = Status::kLogFull;
    return;
  }
  if (!evict) {
    counters->deletes++;
    counters->delete_hits++;
  }
  VoidFills(hash);
  outcome->status = Status::kFound;
}

bool Shard::LeaveDelete(Ref ref, std::string_view key, uint64_t hash, Reason reason, uint64_t* version) {
  Ref stub = 0;
  if (owed_flag_ != 0) {
    stub = entries_.LeaveGone(ref, key, hash, reason);
    if (stub == 0) {
      state_->counters.log_full++;
      return false;
    }
  }
  *version = recorder_.LeaveDelete(key);
  if (stub != 0) {
    entries_.SetGone(stub, *version);
  } else if (ref != 0) {
    entries_.Leave(ref, reason, hash);
  }
  return true;
}

void Shard::RemoveAbsent(const Request& request, Found found, uint64_t hash, Outcome* outcome) {
  // `take` and a delete of a version found nothing and change nothing. An unconditional delete takes a stale entry out,
  // and leaves a record in any case: the log may still hold the value of an evicted entry, the backend that of a key
  // without one.
  const bool is_elsewhere = outcome->status == Status::kStored;
  const bool is_delete = request.verb == Verb::kDelete && !request.has_compare;
  if (is_delete && recorder_.keeps_records()) {
    if (!ReserveDelete(request.key, found.ref) ||
        !LeaveDelete(found.ref, request.key, hash, Reason::kDeleted, &outcome->record_version)) {
      outcome->status = Status::kLogFull;
      return;
    }
  } else if (is_delete && found.ref != 0) {
    entries_.Leave(found.ref, Reason::kDeleted, hash);
  }
  if (request.verb != Verb::kEvict) state_->counters.deletes++;
  if (is_elsewhere) {
    state_->counters.delete_hits++;
    outcome->status = Status::kFound;
  }
  // The delete of an absent key still says that what a load brings back may be old.
  VoidFills(hash);
}

bool Shard::BeginFill(std::string_view key, uint64_t hash, FillOf what, const Now& now, FillTicket* ticket) {
  if (what == FillOf::kAbsentKey && entries_.Lookup(key, hash, now, Purpose::kOther, StaleIs::kAbsent).is_live())
    return false;
  const Ref ref = entries_.debts().has_backend() ? entries_.Find(key, hash) : 0;
  // An owed entry that readers hold may have to stay without a stub, though it has left for every request. It would let
  // an older row in once the backend has its record.
  bool stays = false;
  if (ref != 0 && IsStub(At(ref))) {
    entries_.SettleStub(ref, hash, &fills_);
  } else if (ref != 0) {
    stays = (entries_.IsDead(At(ref)) || IsExpired(At(ref), now)) && entries_.debts().Owes(At(ref));
  }
  fills_.Begin(hash, ticket);
  if (stays) fills_.Void(hash);
  return true;
}

}  // namespace cairn
