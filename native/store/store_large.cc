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
// An append or prepend in steps begins again when the value changes meanwhile; after kConcatTries it is done in one.
constexpr int kConcatTries = 4;

}  // namespace

void Store::ExecuteConcat(const Request& request, const Now& now, Outcome* outcome) {
  const uint32_t index = ShardOf(request.key);
  Shard* shard = ShardAt(index);
  const uint64_t hash = shard->HashOf(request.key);
  uint32_t room_steps = kRoomStepsMin + static_cast<uint32_t>(value_bytes_max() / 512);
  for (int tries = kConcatTries; tries >= 0; tries--) {
    ConcatSteps steps;
    do {
      steps = ConcatSteps{};
      steps.room_in_one = room_steps == 0 || --room_steps == 0;
      *outcome = Outcome{};
      outcome->pin.shard = index;
      const ShardHold hold(this, shard);
      shard->entries()->SettleTouches();
      shard->Concat(request, hash, now, outcome, tries > 0 ? &steps : nullptr);
      if (logged_ && steps.slot == 0 && !steps.wants_room) outcome->commit_version = shard->CommitVersionOf(*outcome);
    } while (steps.wants_room);
    if (steps.slot == 0 || CopyConcat(shard, steps, request, hash, now, outcome)) return;
    const ShardGuard guard(shard);
    shard->bodies()->Abandon(steps.slot);
  }
}

// The later holds of the lock of an append or prepend in steps. False: the value has changed meanwhile.
bool Store::CopyConcat(Shard* shard, const ConcatSteps& steps, const Request& request, uint64_t hash, const Now& now,
                       Outcome* outcome) {
  const bool append = request.verb == Verb::kAppend;
  const size_t old_at = append ? 0 : request.value.size();
  for (size_t at = 0; at < steps.old_bytes; at += kPieceBytes) {
    const size_t piece = std::min<size_t>(kPieceBytes, steps.old_bytes - at);
    const ShardGuard guard(shard);
    if (!shard->CopyConcat(steps, request.key, hash, at, old_at + at, piece)) return false;
  }
  const size_t added_at = append ? steps.old_bytes : 0;
  for (size_t at = 0; at < request.value.size(); at += kPieceBytes) {
    const ShardGuard guard(shard);
    shard->bodies()->Write(steps.slot, added_at + at, request.value.substr(at, kPieceBytes), Now{});
  }
  const ShardHold hold(this, shard);
  if (!shard->EndConcat(steps, request, hash, now, outcome)) return false;
  if (logged_) outcome->commit_version = shard->CommitVersionOf(*outcome);
  return true;
}

void Store::ReadPinned(const Pin& pin, size_t offset, char* data, size_t bytes) const {
  ShardAt(pin.shard)->ReadPinned(pin, offset, data, bytes);
}

size_t Store::PinnedPlaces(const Pin& pin, size_t offset, size_t bytes, std::span<char>* places, size_t count) const {
  return ShardAt(pin.shard)->PinnedPlaces(pin, offset, bytes, places, count);
}

void Store::Unpin(const Pin& pin) {
  Shard* shard = ShardAt(pin.shard);
  const ShardGuard guard(shard);
  shard->memory()->Unpin(pin.ref);
}

Status Store::Reserve(const Request& request, uint32_t value_bytes, const Now& now, Body* body) {
  CheckClock(now);
  if (IsTimed(request)) uses_time_.store(true, std::memory_order_relaxed);
  const uint32_t index = ShardOf(request.key);
  Shard* shard = ShardAt(index);
  const uint64_t hash = shard->HashOf(request.key);
  // Room in steps, so that no other caller waits while thousands of small entries leave for one large value. Other
  // callers may take that room meanwhile; Reserve() makes what is missing in one step.
  for (uint32_t steps = kRoomStepsMin + value_bytes / 512; steps > 0; steps--) {
    const ShardHold hold(this, shard);
    if (!shard->MakeRoomStep(request, value_bytes, now)) break;
  }
  const ShardHold hold(this, shard);
  int slot = 0;
  const Status status = shard->Reserve(request, hash, value_bytes, now, &slot);
  if (status == Status::kStored) {
    *body = Body{index, static_cast<uint32_t>(slot), value_bytes, shard->bodies()->GenerationOf(slot)};
  }
  return status;
}

bool Store::WriteBody(const Body& body, size_t offset, std::string_view bytes, const Now& now) {
  // Under the lock because a body may move, in pieces so that no other caller waits long for the lock.
  Shard* shard = ShardAt(body.shard);
  const int slot = static_cast<int>(body.ref);
  while (!bytes.empty()) {
    const size_t piece = std::min(bytes.size(), kPieceBytes);
    const ShardGuard guard(shard);
    if (shard->bodies()->GenerationOf(slot) != body.generation) return false;
    shard->bodies()->Write(slot, offset, bytes.substr(0, piece), now);
    offset += piece;
    bytes.remove_prefix(piece);
  }
  return true;
}

size_t Store::PinBody(const Body& body, size_t offset, size_t bytes, std::span<char>* places, size_t count, Pin* pin) {
  Shard* shard = ShardAt(body.shard);
  const int slot = static_cast<int>(body.ref);
  pin->shard = body.shard;
  const ShardGuard guard(shard);
  if (shard->bodies()->GenerationOf(slot) != body.generation) return 0;
  return shard->bodies()->BeginWrite(slot, offset, bytes, places, count, pin);
}

void Store::UnpinBody(const Body& body, const Pin& pin, const Now& now) {
  Shard* shard = ShardAt(body.shard);
  const int slot = static_cast<int>(body.ref);
  const ShardGuard guard(shard);
  if (shard->bodies()->GenerationOf(slot) == body.generation) {
    shard->bodies()->EndWrite(slot, now);
  } else {
    // It was taken away meanwhile.
    shard->memory()->Unpin(pin.ref);
  }
}

void Store::Link(Body* body, const Request& request, const Now& now, Outcome* outcome) {
  CheckClock(now);
  *outcome = Outcome{};
  Shard* shard = ShardAt(body->shard);
  const uint64_t hash = shard->HashOf(request.key);
  const ShardHold hold(this, shard);
  if (shard->bodies()->GenerationOf(static_cast<int>(body->ref)) == body->generation) {
    shard->Link(static_cast<int>(body->ref), request, hash, now, outcome);
  } else {
    outcome->status = Status::kNoMemory;
  }
  if (logged_) outcome->commit_version = shard->CommitVersionOf(*outcome);
  if (outcome->status != Status::kLogFull && outcome->status != Status::kNotResident) *body = Body{};
}

void Store::Abandon(Body* body) {
  Shard* shard = ShardAt(body->shard);
  const ShardGuard guard(shard);
  if (shard->bodies()->GenerationOf(static_cast<int>(body->ref)) == body->generation) {
    shard->bodies()->Abandon(static_cast<int>(body->ref));
  }
  *body = Body{};
}

}  // namespace cairn
