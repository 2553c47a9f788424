// Store: values that take several holds of a lock. Bodies that are received, values that are read behind a pin, and an
// append or prepend to a large value.
#include <algorithm>

#include "store/store_inl.h"

namespace cairn {

namespace {

// Steps of making room for a large value, at least; more for the bytes of it. Only a bound for when others take the
// room.
constexpr uint32_t kRoomStepsMin = 64;
// What is copied to or from a large value under one hold of a lock.
constexpr size_t kPieceBytes = 64 * 1024;
// An append or prepend in steps begins again when the value changes meanwhile; after so many times it is done in one.
constexpr int kConcatTries = 4;

// The later holds of the lock of an append or prepend in steps. False: the value has changed meanwhile.
template <class Finish>
bool CopyConcat(Shard* shard, const Shard::ConcatSteps& steps, const Request& request, uint64_t hash, const Now& now,
                Outcome* outcome, Finish finish) {
  const bool append = request.verb == Verb::kAppend;
  const size_t old_at = append ? 0 : request.value.size();
  for (size_t at = 0; at < steps.old_bytes; at += kPieceBytes) {
    const size_t piece = std::min<size_t>(kPieceBytes, steps.old_bytes - at);
    OsLockGuard guard(shard->lock());
    if (!shard->CopyConcat(steps, request.key, hash, at, old_at + at, piece)) return false;
  }
  const size_t added_at = append ? steps.old_bytes : 0;
  for (size_t at = 0; at < request.value.size(); at += kPieceBytes) {
    OsLockGuard guard(shard->lock());
    shard->WriteBody(steps.slot, added_at + at, request.value.substr(at, kPieceBytes), Now{});
  }
  OsLockGuard guard(shard->lock());
  const bool done = shard->EndConcat(steps, request, hash, now, outcome);
  if (done) finish();
  return done;
}

}  // namespace

void Store::ExecuteConcat(const Request& request, const Now& now, Outcome* outcome) {
  const uint32_t index = ShardOf(request.key);
  Shard* shard = ShardAt(index);
  const uint64_t hash = shard->HashOf(request.key);
  auto note = ChangeRing::Note::kNone;
  const auto finish = [&] {
    if (!logged_) return;
    outcome->commit_version = shard->CommitVersionOf(*outcome);
    note = std::max(note, shard->ring()->TakeNote());
  };
  uint32_t room_steps = kRoomStepsMin + static_cast<uint32_t>(value_bytes_max() / 512);
  for (int tries = kConcatTries; tries >= 0; tries--) {
    Shard::ConcatSteps steps;
    do {
      steps = Shard::ConcatSteps{};
      steps.room_in_one = room_steps == 0 || --room_steps == 0;
      *outcome = Outcome{};
      outcome->pin.shard = index;
      OsLockGuard guard(shard->lock());
      shard->SettleTouches();
      shard->Concat(request, hash, now, outcome, tries > 0 ? &steps : nullptr);
      if (steps.slot == 0 && !steps.wants_room) finish();
    } while (steps.wants_room);
    if (steps.slot == 0 || CopyConcat(shard, steps, request, hash, now, outcome, finish)) break;
    OsLockGuard guard(shard->lock());
    shard->Abandon(steps.slot);
  }
  Unlocked(shard->removal_sink());
  Tell(note);
}

void Store::ReadPinned(const Pin& pin, size_t offset, char* data, size_t bytes) const {
  ShardAt(pin.shard)->ReadPinned(pin, offset, data, bytes);
}

void Store::Unpin(const Pin& pin) {
  Shard* shard = ShardAt(pin.shard);
  OsLockGuard guard(shard->lock());
  shard->Unpin(pin.ref);
}

Status Store::Reserve(const Request& request, uint32_t value_bytes, const Now& now, Body* body) {
  CheckClock(now);
  if (IsTimed(request)) uses_time_.store(true, std::memory_order_relaxed);
  const uint32_t index = ShardOf(request.key);
  Shard* shard = ShardAt(index);
  const uint64_t hash = shard->HashOf(request.key);
  int slot = 0;
  Status status;
  // Room in steps, so that nobody waits while thousands of small entries leave for one large value. Others may take it
  // meanwhile; what is missing in the end is made in one go.
  for (uint32_t steps = kRoomStepsMin + value_bytes / 512; steps > 0; steps--) {
    OsLockGuard guard(shard->lock());
    if (!shard->MakeRoomStep(request, value_bytes, now)) break;
  }
  ChangeRing::Note note;
  uint32_t generation = 0;
  {
    OsLockGuard guard(shard->lock());
    status = shard->Reserve(request, hash, value_bytes, now, &slot);
    generation = shard->BodyGeneration(slot);
    note = shard->ring()->TakeNote();
  }
  if (status == Status::kStored) *body = Body{index, static_cast<uint32_t>(slot), value_bytes, generation};
  Unlocked(shard->removal_sink());
  Tell(note);
  return status;
}

bool Store::WriteBody(const Body& body, size_t offset, std::string_view bytes, const Now& now) {
  // Under the lock because a body may move, in pieces so that nobody waits long for it.
  Shard* shard = ShardAt(body.shard);
  const int slot = static_cast<int>(body.ref);
  while (!bytes.empty()) {
    const size_t piece = std::min(bytes.size(), kPieceBytes);
    OsLockGuard guard(shard->lock());
    if (shard->BodyGeneration(slot) != body.generation) return false;
    shard->WriteBody(slot, offset, bytes.substr(0, piece), now);
    offset += piece;
    bytes.remove_prefix(piece);
  }
  return true;
}

void Store::Link(Body* body, const Request& request, const Now& now, Outcome* outcome) {
  CheckClock(now);
  *outcome = Outcome{};
  Shard* shard = ShardAt(body->shard);
  const uint64_t hash = shard->HashOf(request.key);
  ChangeRing::Note note;
  {
    OsLockGuard guard(shard->lock());
    if (shard->BodyGeneration(static_cast<int>(body->ref)) == body->generation) {
      shard->Link(static_cast<int>(body->ref), request, hash, now, outcome);
    } else {
      outcome->status = Status::kNoMemory;
    }
    if (logged_) outcome->commit_version = shard->CommitVersionOf(*outcome);
    note = shard->ring()->TakeNote();
  }
  if (outcome->status != Status::kLogFull) *body = Body{};
  Unlocked(shard->removal_sink());
  Tell(note);
}

void Store::Abandon(Body* body) {
  Shard* shard = ShardAt(body->shard);
  {
    OsLockGuard guard(shard->lock());
    if (shard->BodyGeneration(static_cast<int>(body->ref)) == body->generation) {
      shard->Abandon(static_cast<int>(body->ref));
    }
  }
  *body = Body{};
}

}  // namespace cairn
