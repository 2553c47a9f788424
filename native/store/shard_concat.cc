// Shard: append and prepend, in one hold of the lock or in steps.
#include "store/shard.h"

#include <algorithm>
#include <cstring>

#include "base/utf8.h"
#include "store/shard_inl.h"

namespace cairn {

namespace {

bool IsText(Codec codec) { return codec == Codec::kAscii || codec == Codec::kUtf8 || codec == Codec::kWtf8; }

// The codec of a value with something of another codec put before or behind it; see docs/values.md. False: it cannot
// be.
bool JoinCodecs(Codec old, Codec added_codec, std::string_view added, Codec* joined) {
  if (old == Codec::kRaw) {
    *joined = Codec::kRaw;
    return added_codec == Codec::kRaw || IsText(added_codec);
  }
  if (!IsText(old)) return false;
  if (added_codec == Codec::kRaw) {
    // From the port: text stays text as long as it is.
    if (IsAscii(added)) {
      *joined = old;
    } else if (IsUtf8(added)) {
      *joined = old == Codec::kWtf8 ? Codec::kWtf8 : Codec::kUtf8;
    } else {
      *joined = Codec::kRaw;
    }
    return true;
  }
  if (!IsText(added_codec)) return false;
  *joined = std::max(old, added_codec);
  return true;
}
static_assert(Codec::kAscii < Codec::kUtf8 && Codec::kUtf8 < Codec::kWtf8);

}  // namespace

void Shard::Concat(const Request& request, uint64_t hash, const Now& now, Outcome* outcome, ConcatSteps* steps) {
  const Found found = entries_.Lookup(request.key, hash, now, Purpose::kOther, StaleTo(request));
  Ref ref = found.ref;
  Status status = Condition(request, found);
  Codec codec;
  if (status == Status::kStored && !JoinCodecs(CodecOf(At(ref)), request.codec, request.value, &codec)) {
    status = Status::kNotStored;
  }
  if (status != Status::kStored) {
    if (found.is_live()) Describe(At(ref), now, outcome);
    outcome->status = status;
    return;
  }
  const EntryHeader* entry = At(ref);
  NewEntry from = KeptOf(entry, request.key);
  from.value_bytes += request.value.size();
  from.codec = codec;
  if (request.meta != nullptr) from.marks.cas = request.meta->cas;
  const uint64_t version = CasOf(entry);
  if (from.value_bytes > state_->value_bytes_max) {
    state_->counters.too_large++;
    outcome->version = version;
    outcome->status = Status::kTooLarge;
    return;
  }
  if (!recorder_.ReserveSet(from)) {
    outcome->status = Status::kLogFull;
    return;
  }
  const bool append = request.verb == Verb::kAppend;
  const bool little = request.value.size() <= kConcatCopiedBytesMax;
  const bool has_marks = !from.marks.any() || (entry->flags & kEntryHasMarks) != 0;
  if (append && little && (entry->flags & kEntryChunked) && PinsOf(entry) == 0 && has_marks) {
    status = Extend(&ref, from, request.value, now);
  } else if (steps != nullptr && from.value_bytes > kConcatCopiedBytesMax && BeginConcat(from, ref, steps, &status)) {
    return;
  } else if (status == Status::kStored) {
    status = Rewrite(&ref, from, append ? std::string_view{} : request.value,
                     append ? request.value : std::string_view{}, hash, now, Farewell::kTold);
  }
  if (status == Status::kStored) {
    FinishConcat(request, ref, hash, now, outcome);
    return;
  }
  outcome->version = version;
  if (status == Status::kTooLarge) {
    state_->counters.too_large++;
  } else {
    status = recorder_.NoMemory(status);
  }
  outcome->status = status;
}

void Shard::FinishConcat(const Request& request, Ref ref, uint64_t hash, const Now& now, Outcome* outcome) {
  // Of an entry that became longer where it is.
  Marks marks;
  if (request.meta != nullptr) marks.cas = request.meta->cas;
  SetMarks(At(ref), marks);
  At(ref)->version = recorder_.NextVersion();
  At(ref)->flags |= owed_flag_;
  FinishStore(ref, now, outcome);
  state_->counters.sets++;
  VoidFills(hash);
  entries_.Adjust();
  outcome->status = Status::kStored;
}

// Begins the steps that later holds of the lock finish. False: no body slot is free, or *status says why it is refused.
bool Shard::BeginConcat(const NewEntry& from, Ref old, ConcatSteps* steps, Status* status) {
  const Layout layout = memory_.LayoutOf(from);
  if (layout.charge > memory_.state().limit_bytes) {
    *status = Status::kTooLarge;
    return false;
  }
  const int slot = bodies_.AnySlot();
  if (slot == 0) return false;
  // Both exist for a while; the old one, now the newest, is not evicted for the new one.
  entries_.Bump(old);
  if (!steps->room_in_one && room_.MakeStep(layout, RoomFor::kNewest)) {
    steps->wants_room = true;
    return true;
  }
  const Status room = room_.Make(layout.charge, RoomFor::kNewest);
  if (room != Status::kStored || !memory_.Allocate(from, layout, slot)) {
    *status = room == Status::kLogFull ? room : Status::kNoMemory;
    return false;
  }
  old = entries_.newest();
  EntryHeader* entry = At(memory_.InSlot(slot));
  memory_.WriteStream(entry, 0, from.key.data(), from.key.size());
  bodies_.Began(slot, layout.charge, 0);
  steps->slot = slot;
  steps->version = At(old)->version;
  steps->old_bytes = At(old)->value_bytes;
  return true;
}

bool Shard::CopyConcat(const ConcatSteps& steps, std::string_view key, uint64_t hash, size_t from, size_t to,
                       size_t bytes) {
  const Ref old = entries_.Find(key, hash);
  if (old == 0 || IsStub(At(old)) || entries_.IsDead(At(old)) || At(old)->version != steps.version) return false;
  EntryHeader* entry = At(memory_.InSlot(steps.slot));
  size_t offset = KeyBytesOf(entry) + to;
  memory_.VisitStream(At(old), KeyBytesOf(At(old)) + from, bytes, [&](const char* piece, size_t piece_bytes) {
    memory_.WriteStream(entry, offset, piece, piece_bytes);
    offset += piece_bytes;
  });
  return true;
}

bool Shard::EndConcat(const ConcatSteps& steps, const Request& request, uint64_t hash, const Now& now,
                      Outcome* outcome) {
  entries_.SettleTouches();
  const Found found = entries_.Lookup(request.key, hash, now, Purpose::kOther, StaleTo(request));
  const Ref old = found.ref;
  if (!found.is_live() || At(old)->version != steps.version || Condition(request, found) != Status::kStored) {
    return false;
  }
  EntryHeader* entry = At(memory_.InSlot(steps.slot));
  NewEntry from;
  from.key = request.key;
  from.value_bytes = entry->value_bytes;
  from.client_flags = ClientFlagsOf(entry);
  from.fresh_until_ms = FreshUntilOf(At(old));
  from.marks = MarksOf(entry);
  if (!recorder_.ReserveSet(from, Recorder::EntryIs::kInSlot)) {
    bodies_.Abandon(steps.slot);
    outcome->status = Status::kLogFull;
    return true;
  }
  // A touch meanwhile gives the old entry no other version.
  ExpiryOf(entry)->expires_ms = ExpiresMsOf(At(old));
  SetFreshUntil(entry, FreshUntilOf(At(old)));
  entry->flags |= At(old)->flags & kEntryFetched;
  StampAccess(entry, now);
  const uint8_t walk_bits = WalkBitsOf(At(old));
  entries_.Leave(old, Reason::kReplaced, hash);
  entry = At(memory_.InSlot(steps.slot));
  bodies_.Leaves(steps.slot);
  // As a rebuilt entry has it until it gets its own.
  entry->version = steps.version;
  CHECK(entries_.Enter(steps.slot, hash, walk_bits));
  FinishConcat(request, entries_.newest(), hash, now, outcome);
  return true;
}

Status Shard::Extend(Ref* ref, const NewEntry& from, std::string_view added, const Now& now) {
  const Layout layout = memory_.LayoutOf(from);
  if (layout.charge > memory_.state().limit_bytes) return Status::kTooLarge;
  entries_.Bump(*ref);
  const Extension extension = memory_.PlanExtension(layout, added.size());
  EntryMemory::TakenChunks taken;
  // The entry may move while memory is taken, but it stays the newest.
  const Status room = room_.Make(memory_.ChargeOf(extension.wanted), RoomFor::kNewest);
  if (room == Status::kLogFull) return room;
  if (room != Status::kStored || !memory_.TakeChunks(extension, entries_.newest_address(), &taken)) {
    return Status::kNoMemory;
  }
  const Ref head = entries_.newest();
  EntryHeader* entry = At(head);
  entries_.Announce(Reason::kReplaced, entry);
  memory_.Splice(extension, head, taken, added);
  {
    const Entries::Edit edit(&entries_, head);
    entry->value_bytes = static_cast<uint32_t>(from.value_bytes);
  }
  entry->flags &= static_cast<uint16_t>(~kEntryCodecMask);
  entry->flags |= static_cast<uint16_t>(from.codec);
  StampAccess(entry, now);
  *ref = head;
  return Status::kStored;
}

}  // namespace cairn
