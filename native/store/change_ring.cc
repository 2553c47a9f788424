#include "store/change_ring.h"

namespace cairn {

void ChangeRing::BeginHead(const RecordHeader& header, const RecordFields& fields, uint64_t bytes) {
  DCHECK(header.fields == fields.fields);
  at_ = Place(bytes);
  end_ = at_ + bytes;
  Payload(reinterpret_cast<const char*>(&header), sizeof header);
  at_ = WriteRecordFields(fields, at_);
}

void ChangeRing::BeginPinned(RecordHeader header, const RecordFields& fields) {
  header.reserved = kPinnedMark;
  BeginHead(header, fields, PinnedBytes(header));
}

void ChangeRing::CommitPinned(const Pin& pin, uint64_t charge) {
  char* tail_at = end_ - sizeof(PinnedTail);
  std::memset(at_, 0, static_cast<size_t>(tail_at - at_));
  const PinnedTail tail{pin, charge, 0};
  std::memcpy(tail_at, &tail, sizeof tail);
  const uint64_t link = state_->written + 1;
  if (state_->last_pinned == 0) {
    state_->first_pinned = link;
  } else {
    const uint64_t last = state_->last_pinned - 1;
    std::memcpy(At(last) + TailOffset(HeaderAt(last)) + offsetof(PinnedTail, next), &link, sizeof link);
  }
  state_->last_pinned = link;
  state_->pinned_count++;
  state_->pinned_bytes += charge;
  Added(static_cast<uint64_t>(end_ - At(state_->written)));
}

ChangeRing::Seek ChangeRing::SeekVersion(uint64_t version, int count, uint64_t* at) const {
  *at = std::max(*at, state_->freed);
  while (*at < state_->written) {
    uint32_t record_bytes;
    std::memcpy(&record_bytes, At(*at), sizeof record_bytes);
    if (record_bytes == 0) {
      *at += capacity_ - Offset(*at);
      continue;
    }
    if (count-- == 0) return Seek::kMore;
    const RecordHeader header = HeaderAt(*at);
    // They rise.
    if (header.version >= version) return header.version == version ? Seek::kFound : Seek::kNone;
    *at += header.reserved == 0 ? record_bytes : PinnedBytes(header);
  }
  return Seek::kNone;
}

ChangeRing::Run ChangeRing::RunAt(const View& view) const {
  Run run;
  for (uint64_t at = view.from; at < view.to;) {
    uint32_t record_bytes;
    std::memcpy(&record_bytes, At(at), sizeof record_bytes);
    if (record_bytes == 0) {
      at += capacity_ - Offset(at);
      continue;
    }
    const RecordHeader header = HeaderAt(at);
    if (!(header.fields & kFieldBatch)) break;
    const char* part = At(at) + kRecordHeaderBytes + RecordFieldBytes(header.fields & (kFieldFreshness | kFieldDelta));
    uint64_t id;
    std::memcpy(&id, part, sizeof id);
    if (run.parts != 0 && run.batch_id != id) break;
    run.batch_id = id;
    std::memcpy(&run.batch_count, part + sizeof id, sizeof run.batch_count);
    run.parts++;
    run.bytes += record_bytes;
    at += header.reserved == 0 ? record_bytes : PinnedBytes(header);
  }
  return run;
}

}  // namespace cairn
