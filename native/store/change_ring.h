// The records of one shard that the log has not taken yet: a ring of bytes, filled under the shard's lock, emptied by
// one reader, the scribe.
//
//        freed              drained                   written        positions in bytes; they only grow, and lie in the
//   -------+------------------+-------------------------+-------     ring modulo its capacity
//          |  on their way to  |  not yet read           |
//          |  the log          |                         |
//
// Reading does not free: Collect() copies records out and Advance() moves `drained`. Their space is freed only when the
// log has them (Free), so that another scribe, or a new segment, gets the same records again (Rewind). Bytes between
// `freed` and `written` do not change, so they are copied without the lock.
//
// Records have the layout of record.h, so a run of them is copied as a whole. No record wraps: the rest at the ring's
// end is skipped, marked by a record_bytes of 0. A large value is not copied in: its entry is pinned until the log has
// it, and Collect() copies the value from the entry. Such a record consists of the header (with kPinnedMark, which no
// record of the log has), the optional fields, the key, padding to a multiple of 8, and a PinnedTail.
//
// Thread safety: every method under the shard's lock, except Collect() and RunAt(), which are called without it. One
// reader at a time calls Collect(), RunAt(), Advance(), Free() and Rewind().
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <string_view>

#include "base/check.h"
#include "base/limits.h"
#include "base/prefetch.h"
#include "store/entry.h"
#include "store/record.h"
#include "store/request.h"

namespace cairn {

// In the mapping, zeroed at first. One cache line, most of which a writer reads.
struct alignas(64) RingState {
  uint64_t written;
  uint64_t drained;
  uint64_t freed;
  uint64_t records;  // written since the start
  // Records between `freed` and `written` whose value is pinned: a list from the oldest on. Position + 1; 0: none.
  uint64_t first_pinned;
  uint64_t last_pinned;
  uint64_t pinned_bytes;  // the charge of their entries
  uint32_t pinned_count;
  uint8_t note;  // ChangeRing::Note
};
static_assert(sizeof(RingState) == 64);

class ChangeRing {
 public:
  // `state` and the `capacity` bytes at `bytes` are in the mapping. REQUIRES: capacity is a power of two, at least
  // kRingBytesMin (or 0, and then no method is called).
  ChangeRing(RingState* state, char* bytes, uint64_t capacity) : state_(state), bytes_(bytes), capacity_(capacity) {
    CHECK((capacity & (capacity - 1)) == 0);
  }

  // ---- writing ----

  // Room for a record with its value. Some room is kept free for clears, so that a clear is refused only if one already
  // waits to be read, and a delayed clear that is due never is.
  [[nodiscard]] bool Reserve(size_t record_bytes) {
    // If the record does not fit before the end, less than its size is skipped.
    return fill_bytes() + 2 * (record_bytes + kBarrierRoomBytes) <= capacity_ ||
           HasRoom(record_bytes, 2 * kBarrierRoomBytes);
  }
  [[nodiscard]] bool ReservePinned(size_t field_bytes, size_t key_bytes) {
    return HasRoom(PinnedBytes(field_bytes, key_bytes), 2 * kBarrierRoomBytes);
  }
  // Room for records that lie one behind the other, `bytes` in all, the largest of them of `largest_bytes`: once their
  // run meets the ring's end, less than that is skipped. HoldsRun(): whether an empty ring has it.
  [[nodiscard]] bool ReserveRun(uint64_t bytes, uint64_t largest_bytes) const {
    return fill_bytes() + bytes + largest_bytes + 2 * kBarrierRoomBytes <= capacity_;
  }
  bool HoldsRun(uint64_t bytes, uint64_t largest_bytes) const {
    return bytes + largest_bytes + 2 * kBarrierRoomBytes <= capacity_;
  }
  // For a clear or a delayed clear; `is_due`: a delayed clear whose time has come.
  [[nodiscard]] bool ReserveBarrier(bool is_due) { return HasRoom(kRecordHeaderBytes, is_due ? 0 : kBarrierRoomBytes); }

  // Writes a whole record without optional fields, from its key and value. REQUIRES: its room was reserved.
  void Append(const RecordHeader& header, const char* key, const char* value) {
    DCHECK(header.fields == 0);
    char* record = Place(header.record_bytes);
    WriteRecordHeader(header, record);
    // Before the payload, which overwrites these bytes if there is no padding.
    const uint64_t padding = 0;
    std::memcpy(record + header.record_bytes - sizeof padding, &padding, sizeof padding);
    record += sizeof header;
    std::memcpy(record, key, header.key_bytes);
    if (header.value_bytes != 0) std::memcpy(record + header.key_bytes, value, header.value_bytes);
    Added(header.record_bytes);
  }
  // In pieces: the key and then the value as payload.
  void Begin(const RecordHeader& header, const RecordFields& fields) { BeginHead(header, fields, header.record_bytes); }
  void Payload(const char* data, size_t bytes) {
    DCHECK(bytes <= static_cast<size_t>(end_ - at_));
    std::memcpy(at_, data, bytes);
    at_ += bytes;
  }
  void Commit() {
    std::memset(at_, 0, static_cast<size_t>(end_ - at_));
    Added(static_cast<uint64_t>(end_ - At(state_->written)));
  }
  // The same for a record whose value stays in its entry: Begin, the key as payload, Commit with the entry's pin and
  // charge.
  void BeginPinned(RecordHeader header, const RecordFields& fields);
  void CommitPinned(const Pin& pin, uint64_t charge);

  // What a writer tells the reader after releasing the lock; TakeNote() resets it.
  enum class Note : uint8_t {
    kNone = 0,    // no record was added
    kRecord = 1,  // a record was added
    kFull = 3,    // and the ring began to fill up
  };
  void NoteFull() { state_->note = static_cast<uint8_t>(Note::kFull); }
  Note TakeNote() {
    const auto note = static_cast<Note>(state_->note);
    if (note != Note::kNone) state_->note = 0;
    return note;
  }

  // ---- reading ----

  struct View {
    uint64_t from;
    uint64_t to;
  };
  View view() const { return {state_->drained, state_->written}; }
  uint64_t fill_bytes() const { return state_->written - state_->freed; }
  uint64_t capacity() const { return capacity_; }
  uint64_t records() const { return state_->records; }
  uint64_t pinned_bytes() const { return state_->pinned_bytes; }
  // Bytes of the ring that were written at least once.
  uint64_t touched_bytes() const { return std::min(state_->written, capacity_); }

  struct Collected {
    size_t bytes = 0;
    uint32_t count = 0;
    uint64_t version = 0;     // of the last record
    size_t bytes_needed = 0;  // of the next record, if it did not fit
    bool at_part = false;     // the next record is a part of an atomic batch, and Parts::kStop
  };
  // Parts of atomic batches: copied like other records, or none of them is, nor a record behind one.
  enum class Parts : uint8_t { kTake, kStop };
  // Copies whole records from position view->from up to view->to, as many as fit into out[0, capacity), and moves
  // view->from behind them. `read(pin, data, bytes)` copies a pinned value.
  template <class Read>
  Collected Collect(View* view, char* out, size_t capacity, Parts parts, Read read) const;

  // The parts of one atomic batch that lie one behind the other.
  struct Run {
    uint64_t batch_id = 0;
    uint32_t batch_count = 0;  // of all parts of the batch, wherever they are
    uint32_t parts = 0;        // of this run; 0: there is none
    size_t bytes = 0;          // that Collect() makes of them
  };
  // The run at the beginning of a view.
  Run RunAt(const View& view) const;

  // Looks for the record of a version that was not freed yet: from position *at on, which is 0 or from an earlier call,
  // at no more than `count` records. *at becomes the record's position, or the place to go on from.
  enum class Seek : uint8_t { kFound, kNone, kMore };
  Seek SeekVersion(uint64_t version, int count, uint64_t* at) const;

  // The reader has copied all records before `position`.
  void Advance(uint64_t position) { state_->drained = position; }
  // The log has the records before `up_to`, where a record ends: frees their space. Calls `unpin(pin)` for up to
  // `count` pinned values; false: there are more, call again. REQUIRES: up_to <= drained.
  template <class Unpin>
  bool Free(uint64_t up_to, int count, Unpin unpin);
  // Records that were copied and not freed are copied again.
  void Rewind() { state_->drained = state_->freed; }

  // Walks everything and CHECKs it; `check(pin)` for each pinned value.
  template <class Check>
  void Verify(Check check) const;

 private:
  // Stands in place of a pinned value.
  struct PinnedTail {
    Pin pin;
    uint64_t charge;
    uint64_t next;  // position + 1 of the next record with a pinned value
  };
  static_assert(sizeof(PinnedTail) == 32);
  static constexpr uint32_t kPinnedMark = 1;
  // A clear's record, and the bytes that may be skipped before it.
  static constexpr uint64_t kBarrierRoomBytes = 2 * kRecordHeaderBytes;

  static constexpr uint64_t PinnedBytes(size_t field_bytes, size_t key_bytes) {
    return RecordBytes(key_bytes, 0, field_bytes) + sizeof(PinnedTail);
  }
  static uint64_t PinnedBytes(const RecordHeader& header) {
    return PinnedBytes(RecordFieldBytes(header.fields), header.key_bytes);
  }
  static_assert(2 * RecordBytes(kKeyBytesMax, kRingInlineValueBytesMax, kRecordFieldBytesMax) + 2 * kBarrierRoomBytes <=
                    kRingBytesMin,
                "an empty ring has room for any record, wherever it stands");

  bool HasRoom(uint64_t bytes, uint64_t spare) const {
    const uint64_t to_end = capacity_ - Offset(state_->written);
    return fill_bytes() + (bytes <= to_end ? bytes : to_end + bytes) + spare <= capacity_;
  }
  // The place of the next record, of `bytes` bytes; skips the rest at the ring's end if it does not fit there.
  char* Place(uint64_t bytes) {
    const uint64_t offset = Offset(state_->written);
    if (bytes > capacity_ - offset) [[unlikely]] {
      std::memset(bytes_ + offset, 0, sizeof(uint64_t));
      Fill(capacity_ - offset);
      return bytes_;
    }
    return bytes_ + offset;
  }
  // The record of `bytes` bytes at `written` is complete.
  void Added(uint64_t bytes) {
    state_->records++;
    state_->note |= static_cast<uint8_t>(Note::kRecord);
    Fill(bytes);
    // The scribe was the last to read the lines of the next record: prefetch them.
    const char* next = At(state_->written);
    for (int line = 1; line <= 4; line++) PrefetchForWrite(next + line * 64);
  }
  // Tells the reader once when a quarter becomes full: when these bytes cross that level.
  void Fill(uint64_t bytes) {
    state_->written += bytes;
    if (fill_bytes() - capacity_ / 4 < bytes) [[unlikely]]
      NoteFull();
  }
  // The offset of a position in the ring, whose capacity is a power of two.
  uint64_t Offset(uint64_t position) const { return position & (capacity_ - 1); }
  const char* At(uint64_t position) const { return bytes_ + Offset(position); }
  char* At(uint64_t position) { return bytes_ + Offset(position); }
  // The header of a record, whose optional fields and key are right behind it.
  RecordHeader HeaderAt(uint64_t position) const {
    RecordHeader header;
    std::memcpy(&header, At(position), sizeof header);
    return header;
  }
  static uint64_t TailOffset(const RecordHeader& header) { return PinnedBytes(header) - sizeof(PinnedTail); }
  void BeginHead(const RecordHeader& header, const RecordFields& fields, uint64_t bytes);

  RingState* state_;
  char* bytes_;
  uint64_t capacity_;
  // The record being written.
  char* at_ = nullptr;
  char* end_ = nullptr;
};

template <class Read>
ChangeRing::Collected ChangeRing::Collect(View* view, char* out, size_t capacity, Parts parts, Read read) const {
  Collected collected;
  uint64_t at = view->from;
  uint64_t run = at;  // of records that are copied as they are
  size_t run_out = 0;
  const auto copy_run = [&] {
    if (at != run) std::memcpy(out + run_out, At(run), at - run);
    run_out = collected.bytes;
  };
  while (at < view->to) {
    // The record before may have ended with the ring.
    if (Offset(at) == 0) {
      copy_run();
      run = at;
    }
    const char* from = At(at);
    uint32_t record_bytes;
    std::memcpy(&record_bytes, from, sizeof record_bytes);
    if (record_bytes == 0) {
      copy_run();
      at += capacity_ - Offset(at);
      run = at;
      continue;
    }
    const RecordHeader header = HeaderAt(at);
    if ((header.fields & kFieldBatch) && parts == Parts::kStop) [[unlikely]] {
      collected.at_part = true;
      break;
    }
    if (record_bytes > capacity - collected.bytes) {
      collected.bytes_needed = record_bytes;
      break;
    }
    collected.count++;
    collected.version = header.version;
    if (header.reserved == 0) [[likely]] {
      at += record_bytes;
      collected.bytes += record_bytes;
      continue;
    }
    copy_run();
    char* to = out + collected.bytes;
    RecordHeader clean = header;
    clean.reserved = 0;
    std::memcpy(to, &clean, sizeof clean);
    const size_t head_bytes = sizeof clean + RecordFieldBytes(header.fields) + header.key_bytes;
    std::memcpy(to + sizeof clean, from + sizeof clean, head_bytes - sizeof clean);
    to += head_bytes;
    PinnedTail tail;
    std::memcpy(&tail, from + TailOffset(header), sizeof tail);
    read(tail.pin, to, size_t{header.value_bytes});
    to += header.value_bytes;
    std::memset(to, 0, static_cast<size_t>(out + collected.bytes + record_bytes - to));
    collected.bytes += record_bytes;
    at += PinnedBytes(header);
    run = at;
    run_out = collected.bytes;
  }
  copy_run();
  view->from = at;
  return collected;
}

template <class Unpin>
bool ChangeRing::Free(uint64_t up_to, int count, Unpin unpin) {
  DCHECK(up_to <= state_->drained);
  while (state_->first_pinned != 0 && state_->first_pinned - 1 < up_to) {
    if (count-- == 0) return false;
    const uint64_t position = state_->first_pinned - 1;
    const RecordHeader header = HeaderAt(position);
    PinnedTail tail;
    std::memcpy(&tail, At(position) + TailOffset(header), sizeof tail);
    state_->first_pinned = tail.next;
    if (tail.next == 0) state_->last_pinned = 0;
    state_->pinned_count--;
    state_->pinned_bytes -= tail.charge;
    state_->freed = position + PinnedBytes(header);
    unpin(tail.pin);
  }
  state_->freed = std::max(state_->freed, up_to);
  return true;
}

template <class Check>
void ChangeRing::Verify(Check check) const {
  CHECK(state_->freed <= state_->drained && state_->drained <= state_->written);
  CHECK(state_->written - state_->freed <= capacity_);
  uint64_t pinned = state_->first_pinned;
  uint64_t last_pinned = 0;
  uint64_t pinned_count = 0;
  uint64_t pinned_bytes = 0;
  uint64_t version = 0;
  bool met_drained = false;
  for (uint64_t at = state_->freed; at < state_->written;) {
    if (at == state_->drained) met_drained = true;
    uint64_t mark;
    std::memcpy(&mark, At(at), sizeof mark);
    if (static_cast<uint32_t>(mark) == 0) {
      at += capacity_ - Offset(at);
      continue;
    }
    const RecordHeader header = HeaderAt(at);
    CHECK(header.version > version);
    version = header.version;
    if (header.reserved == 0) {
      RecordView view;
      CHECK(DecodeRecord({At(at), capacity_ - Offset(at)}, &view) == DecodeStatus::kOk);
      at += header.record_bytes;
      continue;
    }
    CHECK(header.reserved == kPinnedMark && header.kind == RecordKind::kSet && pinned == at + 1);
    PinnedTail tail;
    std::memcpy(&tail, At(at) + TailOffset(header), sizeof tail);
    check(tail.pin);
    last_pinned = pinned;
    pinned = tail.next;
    pinned_count++;
    pinned_bytes += tail.charge;
    at += PinnedBytes(header);
  }
  CHECK(met_drained || state_->drained == state_->written);
  CHECK(pinned == 0 && last_pinned == state_->last_pinned);
  CHECK(pinned_count == state_->pinned_count && pinned_bytes == state_->pinned_bytes);
}

}  // namespace cairn
