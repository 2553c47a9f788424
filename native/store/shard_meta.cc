// Shard: the verbs of the meta protocol, and what it asks of those that store. A client that reads can win: it is told
// to store the value anew, while all others are given the old one, or a placeholder.
//
//   who wins   the first reader of a stale entry, of one that ends soon, or of an absent key that gets a placeholder
//   until      the entry is replaced, or is marked as stale again
//
// Marks and placeholders are this process's own: they leave no record, so the log, the backend and other processes know
// nothing of them.
#include "store/shard.h"

#include <optional>

#include "store/shard_inl.h"

namespace cairn {

namespace {

// Whether this reader is the one that is to store the value anew.
bool Wins(const MetaOptions& meta, const EntryHeader* entry, uint32_t marks) {
  if (marks & kMarkWon) return false;
  if ((marks & kMarkStale) != 0 || meta.recache_before_ms == kKeepExpiry) return true;
  return IsTimed(entry) && ExpiresMsOf(entry) < meta.recache_before_ms;
}

}  // namespace

void Shard::MetaGet(const Request& request, uint64_t hash, const Now& now, Scratch* scratch, Pins pins,
                    Outcome* outcome) {
  const bool touches = request.expires_ms != kKeepExpiry;
  StoreStats* counters = &state_->counters;
  const Found found = entries_.Lookup(request.key, hash, now, Purpose::kGet, StaleIs::kLive);
  if (!found.is_live()) {
    outcome->status = MeetPresence(request, found.presence);
    if (outcome->status != Status::kNotFound) return;
    counters->touches += touches;
    entries_.CountMiss();
    if (request.meta->vivifies) Vivify(request, found, hash, now, outcome);
    return;
  }
  Ref ref = found.ref;
  EntryHeader* entry = At(ref);
  Marks marks = MarksOf(entry);
  // What has come to the end of its freshness is stale for this protocol, too.
  if (IsStale(entry, now)) marks.bits |= kMarkStale;
  const uint32_t bits = marks.bits;
  bool wins = Wins(*request.meta, entry, bits);
  Ends ends{ExpiresMsOf(entry), FreshUntilOf(entry)};
  if (touches) {
    if (!recorder_.ReserveKey(request.key.size())) {
      outcome->status = Status::kLogFull;
      return;
    }
    ends = {request.expires_ms, kAlwaysFresh};
  }
  const size_t scratch_used = scratch == nullptr ? 0 : scratch->used;
  if (!request.no_value && !GiveValue(ref, scratch, pins, outcome)) return;
  Describe(entry, now, outcome);
  if (touches || wins) {
    entries_.SettleTouches();
    if (wins) marks.bits |= kMarkWon;
    // A win is told only if it is remembered.
    if (!touches) marks.bits &= MarksOf(entry).bits | kMarkWon;
    const Status status = Remark(&ref, request.key, ends, marks, hash, now);
    if (status != Status::kStored && touches) {
      TakeValueBack(scratch, scratch_used, outcome);
      outcome->status = recorder_.NoMemory(status);
      return;
    }
    if (status != Status::kStored) {
      wins = false;
      ref = entries_.Find(request.key, hash);
    }
    entry = At(ref);
  }
  outcome->marks = bits | (wins ? kMarkWins : 0);
  outcome->status = Status::kFound;
  entries_.CountHit();
  if (!request.no_bump) entries_.Use(ref, entry, now);
  if (!touches) return;
  counters->touches++;
  counters->touch_hits++;
  LeaveTouch(ref, hash, now, outcome);
  entries_.Adjust();
}

void Shard::Vivify(const Request& request, Found found, uint64_t hash, const Now& now, Outcome* outcome) {
  // The backend may have the key, or is still to hear of its delete, which stands in its place: a miss is the answer,
  // and no client wins.
  if (found.presence == Presence::kUnknown || BlocksFill(found)) return;
  NewEntry from;
  from.key = request.key;
  from.expires_ms = request.keep_else_ms;
  from.marks = {request.meta->cas, kMarkPlaceholder | kMarkWon};
  if (request.meta->has_binary_key) from.marks.bits |= kMarkBinaryKey;
  const Quiet quiet(this, 0);
  const Status status = Write(from, {}, hash, found.ref, 0, now, outcome);
  outcome->record_version = 0;
  if (status != Status::kStored) return;
  // From now on a load of the key has nothing to say.
  VoidFills(hash);
  outcome->marks = kMarkPlaceholder | kMarkCreated | kMarkWins | (from.marks.bits & kMarkBinaryKey);
  outcome->has_value = !request.no_value;
  outcome->status = Status::kFound;
}

void Shard::Invalidate(const Request& request, uint64_t hash, const Now& now, Outcome* outcome) {
  StoreStats* counters = &state_->counters;
  const MetaOptions& meta = *request.meta;
  const Found found = entries_.Lookup(request.key, hash, now, Purpose::kOther, StaleTo(request));
  if (!found.is_live()) {
    outcome->status = MeetPresence(request, found.presence);
    if (outcome->status == Status::kNotFound) counters->deletes++;
    return;
  }
  if (request.has_compare && CasOf(At(found.ref)) != request.compare) {
    Describe(At(found.ref), now, outcome);
    outcome->status = Status::kExists;
    return;
  }
  if (!meta.drops_value) {
    MarkStale(request, found.ref, hash, now, outcome);
  } else {
    NewEntry from;
    from.key = request.key;
    from.client_flags = request.client_flags;
    from.expires_ms = request.expires_ms == kKeepExpiry ? kNeverExpires : request.expires_ms;
    from.marks.cas = meta.cas;
    from.marks.bits = MarksOf(At(found.ref)).bits & kMarkBinaryKey;
    if (meta.makes_stale) from.marks.bits |= kMarkStale;
    if (meta.cas == 0) from.marks.cas = meta.makes_stale ? recorder_.NextVersion() : CasOf(At(found.ref));
    const Status status = Write(from, {}, hash, found.ref, 0, now, outcome);
    outcome->status = status == Status::kStored ? Status::kFound : status;
    VoidFills(hash);
  }
  if (outcome->status != Status::kFound) return;
  counters->deletes++;
  counters->delete_hits++;
}

void Shard::MarkStale(const Request& request, Ref ref, uint64_t hash, const Now& now, Outcome* outcome) {
  const EntryHeader* entry = At(ref);
  const bool touches = request.expires_ms != kKeepExpiry;
  if (touches && !recorder_.ReserveKey(request.key.size())) {
    outcome->status = Status::kLogFull;
    return;
  }
  Marks marks = MarksOf(entry);
  marks.bits = (marks.bits | kMarkStale) & ~kMarkWon;
  // The entry keeps its version, which is that of its record.
  marks.cas = request.meta->cas != 0 ? request.meta->cas : recorder_.NextVersion();
  const Ends ends = touches ? Ends{request.expires_ms, kAlwaysFresh} : Ends{ExpiresMsOf(entry), FreshUntilOf(entry)};
  const Status status = Remark(&ref, request.key, ends, marks, hash, now);
  if (status != Status::kStored) {
    outcome->status = recorder_.NoMemory(status);
    return;
  }
  Describe(At(ref), now, outcome);
  if (touches) LeaveTouch(ref, hash, now, outcome);
  // A load that began before would bring the value that is stale now.
  VoidFills(hash);
  outcome->status = Status::kFound;
  entries_.Adjust();
}

bool Shard::IsLower(const Request& request, Found found) const {
  return request.meta != nullptr && request.meta->accepts_lower && found.is_live() &&
         request.compare < CasOf(At(found.ref));
}

void Shard::ApplyMeta(const Request& request, Found found, NewEntry* entry) const {
  entry->marks = {request.meta->cas, request.meta->has_binary_key ? kMarkBinaryKey : 0};
  if (!IsLower(request, found)) return;
  const EntryHeader* old = At(found.ref);
  entry->marks.bits |= kMarkStale | (MarksOf(old).bits & kMarkWon);
  entry->expires_ms = ExpiresMsOf(old);
  entry->fresh_until_ms = kAlwaysFresh;
}

}  // namespace cairn
