// Shard: the parts of an atomic batch that are its own. Everything that can be refused comes before anything is
// changed: a plan of the records, the memory and the stubs, and then the memory itself, in which the new values wait
// until they enter. CommitAtomic() cannot fail.
#include <algorithm>

#include "store/shard.h"
#include "store/shard_inl.h"

namespace cairn {

namespace {

NewEntry EntryOf(const Request& request) {
  NewEntry entry;
  entry.key = request.key;
  entry.value_bytes = request.value.size();
  entry.codec = request.codec;
  entry.client_flags = request.client_flags;
  entry.expires_ms = request.expires_ms;
  entry.fresh_until_ms = request.fresh_until_ms;
  return entry;
}

Status Never(AtomicOutcome* outcome, AtomicBound bound, uint64_t wanted, uint64_t limit) {
  outcome->bound = bound;
  outcome->wanted = wanted;
  outcome->limit = limit;
  return Status::kTooLarge;
}

}  // namespace

Status Shard::PlanAtomic(AtomicRun* run, const Now& now, AtomicOutcome* outcome) {
  FreeStubs();
  entries_.SettleTouches();
  uint64_t records = 0;
  uint64_t largest = 0;
  uint64_t stub_bytes = 0;
  for (uint32_t i = 0; i < run->count; i++) {
    const AtomicPart& part = run->parts[i];
    Request& request = *part.request;
    // An entry that has expired or was cleared leaves here, and its stub takes what room it needs before the plan.
    const Found found = entries_.Lookup(request.key, part.hash, now, Purpose::kOther, StaleIs::kLive);
    if (request.fill != nullptr) {
      if (request.fill->voided()) return Status::kExists;
      if (found.is_live()) request.fresh_until_ms = FreshUntilOf(At(found.ref));
    }
    const uint64_t record = AtomicRecordBytes(request);
    records += record;
    largest = std::max(largest, record);
    if (request.verb == Verb::kDelete) {
      if (owed_flag_ != 0) stub_bytes += room_.StubChargeFor(request.key);
      continue;
    }
    if (request.value.size() > state_->value_bytes_max) {
      state_->counters.too_large++;
      outcome->index = part.index;
      return Never(outcome, AtomicBound::kValue, request.value.size(), state_->value_bytes_max);
    }
    run->charge += memory_.LayoutOf(EntryOf(request)).charge;
    run->entries++;
  }
  run->charge += stub_bytes;
  if (recorder_.keeps_records() && !recorder_.ring()->HoldsRun(records, largest)) {
    return Never(outcome, AtomicBound::kRing, records + largest, recorder_.ring()->capacity());
  }
  const uint64_t limit_bytes = memory_.state().limit_bytes;
  if (run->charge > limit_bytes) return Never(outcome, AtomicBound::kMemory, run->charge, limit_bytes);
  const uint64_t entries_limit = state_->entries_limit;
  if (entries_limit != 0 && run->entries > entries_limit) {
    return Never(outcome, AtomicBound::kEntries, run->entries, entries_limit);
  }
  if (!recorder_.ReserveRun(records, largest)) return Status::kLogFull;
  const Status status = room_.PlanMany(run->charge, run->entries, stub_bytes);
  return status == Status::kStored ? status : recorder_.NoMemory(status);
}

// What is owed gives no place to others: the chains must have places for all parts, with what memory gives now.
bool Shard::SetPlacesAside(const AtomicRun& run) {
  HashTable* table = entries_.table();
  table->GrowFor(run.count);
  for (uint32_t i = 0; i < run.count; i++) run.buckets[i] = table->IndexOf(run.parts[i].hash);
  std::sort(run.buckets, run.buckets + run.count);
  uint64_t wanted = 0;
  for (uint32_t i = 0; i < run.count;) {
    const uint32_t begin = i;
    while (i < run.count && run.buckets[i] == run.buckets[begin]) i++;
    if (!entries_.CountBuckets(run.buckets[begin], i - begin, &wanted)) return false;
  }
  return table->SetBucketsAside(wanted);
}

Status Shard::StageAtomic(const AtomicRun& run) {
  std::fill(run.staged, run.staged + run.count, 0);
  memory_.BeginStaging(run.staged);
  bool has_room = room_.MakeMany(run.charge, run.entries);
  for (uint32_t i = 0; i < run.count && has_room; i++) has_room = StagePart(run.parts[i], i);
  // Last, because what makes room takes entries out of their chains.
  if (has_room && owed_flag_ != 0) has_room = SetPlacesAside(run);
  if (has_room) return Status::kStored;
  AbandonAtomic(run);
  return owed_flag_ != 0 ? RefuseStub() : recorder_.NoMemory(Status::kNoMemory);
}

bool Shard::StagePart(const AtomicPart& part, uint32_t staged) {
  const Request& request = *part.request;
  if (request.verb == Verb::kDelete) {
    if (owed_flag_ == 0) return true;
    if (!entries_.AllocateStub(request.key, {})) return false;
  } else {
    const NewEntry from = EntryOf(request);
    if (!memory_.Allocate(from, memory_.LayoutOf(from), 0)) return false;
    EntryHeader* entry = At(memory_.InSlot(0));
    memory_.WriteStream(entry, 0, request.key.data(), request.key.size());
    memory_.WriteStream(entry, request.key.size(), request.value.data(), request.value.size());
  }
  memory_.Stage(staged);
  return true;
}

void Shard::AbandonAtomic(const AtomicRun& run) {
  for (uint32_t i = 0; i < run.count; i++) {
    if (run.staged[i] == 0) continue;
    memory_.Unstage(i);
    memory_.Free(memory_.TakeFromSlot(0));
  }
  memory_.EndStaging();
  entries_.table()->ReleaseBuckets();
}

void Shard::CommitAtomic(const AtomicRun& run, uint64_t batch_id, uint32_t batch_count, const Now& now) {
  for (uint32_t i = 0; i < run.count; i++) {
    const AtomicPart& part = run.parts[i];
    const Recorder::Part mark(&recorder_, batch_id, batch_count, part.index);
    if (part.request->verb == Verb::kDelete) {
      DeletePart(part, i, now);
    } else {
      SetPart(part, i, now);
    }
    VoidFills(part.hash);
  }
  memory_.EndStaging();
  entries_.table()->ReleaseBuckets();
}

void Shard::SetPart(const AtomicPart& part, uint32_t staged, const Now& now) {
  uint8_t walk_bits = entries_.emitted_bits();
  const Ref old = entries_.Lookup(part.request->key, part.hash, now, Purpose::kOther, StaleIs::kLive).ref;
  if (old != 0) {
    if (!IsStub(At(old)) && !entries_.IsDead(At(old))) walk_bits = WalkBitsOf(At(old));
    entries_.Leave(old, Reason::kReplaced, part.hash);
  }
  // Not before: a stub that came above was made in slot 0.
  memory_.Unstage(staged);
  EntryHeader* entry = At(memory_.InSlot(0));
  StampAccess(entry, now);
  entry->version = recorder_.NextVersion();
  entry->flags |= owed_flag_;
  CHECK(entries_.Enter(0, part.hash, walk_bits));
  const Ref ref = entries_.newest();
  recorder_.LeaveOfRun(ref, At(ref)->version, now);
  state_->counters.sets++;
  entries_.Adjust();
}

void Shard::DeletePart(const AtomicPart& part, uint32_t staged, const Now& now) {
  const std::string_view key = part.request->key;
  const Found found = entries_.Lookup(key, part.hash, now, Purpose::kOther, StaleIs::kLive);
  state_->counters.deletes++;
  // The same counts as for a delete by itself.
  if (MeetPresence(*part.request, found.presence) == Status::kStored) state_->counters.delete_hits++;
  Ref stub = found.ref != 0 && IsStub(At(found.ref)) ? found.ref : 0;
  if (found.ref != 0 && stub == 0) entries_.Leave(found.ref, Reason::kDeleted, part.hash);
  if (!recorder_.keeps_records() && !found.is_live()) return;
  const uint64_t version = recorder_.LeaveDelete(key);
  if (owed_flag_ == 0) return;
  memory_.Unstage(staged);
  if (stub == 0) {
    stub = entries_.EnterSlotAsStub(part.hash, {});
    CHECK(stub != 0);
  } else {
    memory_.Free(memory_.TakeFromSlot(0));
  }
  entries_.SetGone(stub, version);
}

}  // namespace cairn
