#include "model/journal.h"

namespace cairn::model {

namespace {

// A barrier, and what it may have to skip.
constexpr uint64_t kBarrierBytes = 80;
constexpr uint64_t kSpareBytes = 2 * kBarrierBytes;
// Behind the key, in place of a value that is held.
constexpr uint64_t kReferenceBytes = 32;

}  // namespace

bool Journal::HasRoom(uint64_t bytes, uint64_t spare) const {
  if (!is_ring()) return true;
  const uint64_t to_end = capacity - written % capacity;
  return fill_bytes() + (bytes <= to_end ? bytes : to_end + bytes) + spare <= capacity;
}

bool Journal::TakesKey(size_t key_bytes, size_t field_bytes) const { return TakesWhole(key_bytes, 0, field_bytes); }

bool Journal::TakesWhole(size_t key_bytes, size_t value_bytes, size_t field_bytes) const {
  return HasRoom(RecordBytes(key_bytes, value_bytes, field_bytes), kSpareBytes);
}

bool Journal::TakesReference(size_t key_bytes, size_t field_bytes) const {
  return is_ring() && HasRoom(RecordBytes(key_bytes, 0, field_bytes) + kReferenceBytes, kSpareBytes);
}

bool Journal::TakesBarrier(bool is_promised) const {
  return HasRoom(RecordBytes(0, 0), is_promised ? 0 : kBarrierBytes);
}

bool Journal::Place(ExpectedRecord* record) {
  if (!is_ring()) return false;
  const size_t key_bytes = record->key.size(), field_bytes = record->optional.bytes();
  const uint64_t bytes = record->held != nullptr ? RecordBytes(key_bytes, 0, field_bytes) + kReferenceBytes
                                                 : RecordBytes(key_bytes, record->value.size(), field_bytes);
  const uint64_t to_end = capacity - written % capacity;
  const bool skips = bytes > to_end;
  if (skips) written += to_end;
  record->ring_begin = written;
  written += bytes;
  ++count;
  record->ring_end = written;
  return skips;
}

}  // namespace cairn::model
