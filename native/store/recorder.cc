#include "store/recorder.h"

#include "base/check.h"

namespace cairn {

namespace {

int64_t WallMsByClock(uint64_t boot_ms, const Now& now) {
  // A caller that came before anything could expire has read no clock; the entry was given its expiry since. Once in
  // the life of a store, if ever.
  const Now& clock = now.boot_ms != 0 ? now : ReadClock();
  return static_cast<int64_t>(boot_ms) + clock.WallOffset();
}

int64_t ExpiresWallMs(uint64_t expires_ms, const Now& now) {
  return expires_ms == kNeverExpires ? 0 : WallMsByClock(expires_ms, now);
}

// A header without expiry, codec and flags.
RecordHeader HeaderOf(RecordKind kind, uint64_t version, size_t key_bytes, size_t value_bytes, uint16_t fields = 0) {
  RecordHeader header{};
  header.record_bytes = static_cast<uint32_t>(RecordBytes(key_bytes, value_bytes, RecordFieldBytes(fields)));
  header.kind = kind;
  header.fields = fields;
  header.version = version;
  header.key_bytes = static_cast<uint32_t>(key_bytes);
  header.value_bytes = static_cast<uint32_t>(value_bytes);
  return header;
}

}  // namespace

// ---- versions ----

void Recorder::Renumbered(uint64_t counter) {
  state_->last_version = state_->newest_version = counter;
  state_->gone_version = 0;
}

// ---- room ----

RecordFields Recorder::FieldsOf(RecordKind kind, uint64_t fresh_until_ms, const Now& now) const {
  RecordFields fields = extra_;
  if (kind != RecordKind::kSet) fields.DropDelta();
  if (fresh_until_ms != kAlwaysFresh) fields.SetFreshUntil(WallMsByClock(fresh_until_ms, now));
  return fields;
}

bool Recorder::ReserveKeyInRing(size_t key_bytes, uint64_t fresh_until_ms) {
  if (ring_.Reserve(RecordBytes(key_bytes, 0, FieldBytes(fresh_until_ms)))) return true;
  counters_->log_full++;
  return false;
}

bool Recorder::ReserveSetInRing(const NewEntry& entry, EntryIs entry_is) {
  static_assert(kAlwaysFresh == 0);
  const bool has_fields = (entry.fresh_until_ms | extra_.fields) != 0;
  bool reserved;
  if (entry.value_bytes <= kRingInlineValueBytesMax && ring_.pinned_bytes() == 0 && !has_fields) [[likely]] {
    reserved_ = Reserved::kPlain;
    reserved = ring_.Reserve(RecordBytes(entry.key.size(), entry.value_bytes));
  } else {
    reserved_ = has_fields ? Reserved::kWithFields : Reserved::kPlain;
    reserved = ReserveBesidePinned(entry, entry_is);
  }
  if (!reserved) counters_->log_full++;
  return reserved;
}

bool Recorder::ReserveBesidePinned(const NewEntry& entry, EntryIs entry_is) {
  const Layout layout = memory_->LayoutOf(entry);
  const size_t key_bytes = entry.key.size();
  const size_t field_bytes = FieldBytes(entry.fresh_until_ms);
  if (entry_is == EntryIs::kToBeAllocated && HoldsRoomFor(layout.charge)) return false;
  if (entry.value_bytes > kRingInlineValueBytesMax) {
    const uint64_t share_bytes = memory_->state().limit_bytes / kRingPinnedShareMax;
    const uint32_t pages = memory_->arena()->state().pinned_pages + memory_->PinnedPagesOf(layout);
    const bool may_pin = pages <= kRingPinnedPagesMax &&
                         (ring_.pinned_bytes() == 0 || ring_.pinned_bytes() + layout.charge <= share_bytes);
    if (may_pin && ring_.ReservePinned(field_bytes, key_bytes)) {
      reserved_ = Reserved::kPinned;
      return true;
    }
    if (entry.value_bytes > kRingCopiedValueBytesMax) return false;
  }
  return ring_.Reserve(RecordBytes(key_bytes, entry.value_bytes, field_bytes));
}

bool Recorder::ReserveBarrier(Barrier barrier) {
  if (!keeps_records() || ring_.ReserveBarrier(barrier == Barrier::kDue)) return true;
  counters_->log_full++;
  return false;
}

Status Recorder::NoMemory(Status status) {
  if (status == Status::kLogFull) return status;  // for stubs, and counted
  const bool wait = status == Status::kNoMemory && ring_.pinned_bytes() != 0;
  (wait ? counters_->log_full : counters_->no_memory)++;
  return wait ? Status::kLogFull : status;
}

// ---- records ----

uint64_t Recorder::LeaveDelete(std::string_view key) {
  const uint64_t version = NextVersion();
  if (!keeps_records()) [[likely]]
    return version;
  state_->gone_version = version;
  if (extra_.fields & kFieldBatch) [[unlikely]] {
    const RecordFields fields = FieldsOf(RecordKind::kDelete, kAlwaysFresh, Now{});
    ring_.Begin(HeaderOf(RecordKind::kDelete, version, key.size(), 0, fields.fields), fields);
    ring_.Payload(key.data(), key.size());
    ring_.Commit();
    return version;
  }
  ring_.Append(HeaderOf(RecordKind::kDelete, version, key.size(), 0), key.data(), key.data());
  return version;
}

void Recorder::LeaveBarrier(RecordKind kind, uint64_t version, int64_t wall_ms) {
  DCHECK(version > state_->last_version);
  state_->last_version = version;
  if (!keeps_records()) return;
  if (kind == RecordKind::kClear) state_->gone_version = version;
  RecordHeader header = HeaderOf(kind, version, 0, 0);
  header.expires_wall_ms = wall_ms;
  ring_.Append(header, "", "");
}

void Recorder::LeaveSetInRing(const NewEntry& from, const char* value, Ref ref, uint64_t version, const Now& now) {
  if (reserved_ != Reserved::kPlain || from.value_may_change) {
    return LeaveEntryInRing(RecordKind::kSet, ref, version, now);
  }
  ring_.Append({.record_bytes = static_cast<uint32_t>(RecordBytes(from.key.size(), from.value_bytes)),
                .kind = RecordKind::kSet,
                .codec = static_cast<uint8_t>(from.codec),
                .fields = 0,
                .version = version,
                .expires_wall_ms = ExpiresWallMs(from.expires_ms, now),
                .client_flags = from.client_flags,
                .key_bytes = static_cast<uint32_t>(from.key.size()),
                .value_bytes = static_cast<uint32_t>(from.value_bytes),
                .reserved = 0},
               from.key.data(), value);
}

void Recorder::LeaveEntryInRing(RecordKind kind, Ref ref, uint64_t version, const Now& now) {
  const EntryHeader* entry = memory_->At(ref);
  const size_t key_bytes = KeyBytesOf(entry);
  const uint32_t value_bytes = kind == RecordKind::kSet ? entry->value_bytes : 0;
  const RecordFields fields = FieldsOf(kind, FreshUntilOf(entry), now);
  RecordHeader header = HeaderOf(kind, version, key_bytes, value_bytes, fields.fields);
  header.codec = static_cast<uint8_t>(CodecOf(entry));
  header.expires_wall_ms = ExpiresWallMs(ExpiresMsOf(entry), now);
  header.client_flags = ClientFlagsOf(entry);
  const bool has_end = header.expires_wall_ms != 0 || (fields.fields & kFieldFreshness) != 0;
  if (kind == RecordKind::kTouch && has_end) NoteGone(version);
  const bool in_place = value_bytes != 0 && reserved_ == Reserved::kPinned;
  if (in_place) return LeavePinned(header, fields, ref);
  if (!(entry->flags & kEntryChunked) && fields.fields == 0) {
    const char* stream = BytesOf(entry) + StreamOffsetOf(entry->flags, IsLongKey(entry));
    return ring_.Append(header, stream, stream + key_bytes);
  }
  ring_.Begin(header, fields);
  memory_->VisitStream(entry, 0, key_bytes + value_bytes,
                       [this](const char* piece, size_t bytes) { ring_.Payload(piece, bytes); });
  ring_.Commit();
}

void Recorder::LeavePinned(const RecordHeader& header, const RecordFields& fields, Ref ref) {
  Pin pin;
  CHECK(memory_->PinEntry(ref, kRingPinnedPagesMax, &pin));
  ring_.BeginPinned(header, fields);
  memory_->VisitStream(memory_->At(ref), 0, header.key_bytes,
                       [this](const char* piece, size_t bytes) { ring_.Payload(piece, bytes); });
  // As with bytes: the reader is told once, when the values that are kept in place begin to be much.
  const uint64_t much = memory_->state().limit_bytes / kRingPinnedShareMax / 4;
  const uint64_t before = ring_.pinned_bytes();
  ring_.CommitPinned(pin, memory_->ChargeOf(memory_->At(ref), ref));
  if (before < much && ring_.pinned_bytes() >= much) ring_.NoteFull();
}

}  // namespace cairn
