// A record is the effect of one change: the log keeps it, a replica applies it, a dump holds it. It is encoded only
// here; all code behind the store treats it as bytes.
//
//   offset size            little-endian, 8-aligned in a stream: a record is padded with zero bytes to a multiple of 8
//     0     4  record_bytes   the whole record with padding
//     4     1  kind           RecordKind
//     5     1  codec          low nibble; bit 4: client flags are not 0 (informative; such a record may leave it out)
//     6     2  fields         which optional fields there are: RecordField
//     8     8  version        epoch (32 bits) | counter (32 bits)
//    16     8  expires_wall   Unix milliseconds, 0 = never; of kClearAt: when
//    24     4  client_flags
//    28     4  key_bytes
//    32     4  value_bytes
//    36     4  reserved       0
//    40        optional fields, each there if its bit is set, in this order:
//              8  kFieldFreshness  Unix ms: from then on the entry is stale; without it, it is fresh until it expires
//              8  kFieldDelta      what was added to the number that was there, modulo 2^64; 0 also of any value that
//                                  is stored again as it was
//             16  kFieldBatch      id (8) | number of parts (4) | which of them this is, from 0 (4)
//              key, value, padding
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <string_view>

namespace cairn {

// Never change a number: they are on disk.
enum class RecordKind : uint8_t {
  kSet = 1,     // the key now has this value, client flags, expiry and version
  kDelete = 2,  // the key is gone since this version
  kTouch = 3,   // the key has this expiry since this version; the value is the one it had
  kClear = 4,   // every entry of a lower version is gone, in whichever shard; no key
  // A clear is due at expires_wall; 0: none is due. No key. The last of these records, or a later kClear, which cancels
  // it, is in force.
  kClearAt = 5,
};

// Bits of a record's `fields`. Never change one: they are on disk. A record with another bit is refused.
enum RecordField : uint16_t {
  kFieldFreshness = 1 << 0,  // of kSet and kTouch
  kFieldDelta = 1 << 1,      // of kSet
  kFieldBatch = 1 << 2,      // of kSet, kDelete and kTouch
};
inline constexpr uint16_t kRecordFieldsKnown = kFieldFreshness | kFieldDelta | kFieldBatch;

inline constexpr size_t kRecordHeaderBytes = 40;
inline constexpr size_t kRecordFieldBytesMax = 32;

// The size of these optional fields.
inline constexpr size_t RecordFieldBytes(uint16_t fields) {
  return (fields & kFieldFreshness) * 8u + (fields & kFieldDelta) * 4u + (fields & kFieldBatch) * 4u;
}
static_assert(RecordFieldBytes(kFieldFreshness) == 8 && RecordFieldBytes(kFieldDelta) == 8 &&
              RecordFieldBytes(kFieldBatch) == 16);
static_assert(RecordFieldBytes(kRecordFieldsKnown) == kRecordFieldBytesMax);

struct RecordHeader {
  uint32_t record_bytes;
  RecordKind kind;
  uint8_t codec;
  uint16_t fields;
  uint64_t version;
  int64_t expires_wall_ms;
  uint32_t client_flags;
  uint32_t key_bytes;
  uint32_t value_bytes;
  uint32_t reserved;
};
static_assert(sizeof(RecordHeader) == kRecordHeaderBytes && offsetof(RecordHeader, version) == 8);

// Writes a header to the place of its record, at a multiple of 8. `volatile` makes the compiler write each word from a
// register. Otherwise it joins pairs of words in memory, and a read larger than the writes before it waits until all
// earlier writes, also those to a cold entry, have reached the cache.
inline void WriteRecordHeader(const RecordHeader& header, char* out) {
  auto* words = reinterpret_cast<volatile uint64_t*>(out);
  words[0] = header.record_bytes | uint64_t{static_cast<uint8_t>(header.kind)} << 32 | uint64_t{header.codec} << 40 |
             uint64_t{header.fields} << 48;
  words[1] = header.version;
  words[2] = static_cast<uint64_t>(header.expires_wall_ms);
  words[3] = header.client_flags | uint64_t{header.key_bytes} << 32;
  words[4] = header.value_bytes | uint64_t{header.reserved} << 32;
}

// The size of a record with a key, a value and optional fields of these sizes.
inline constexpr size_t RecordBytes(size_t key_bytes, size_t value_bytes, size_t field_bytes = 0) {
  return (kRecordHeaderBytes + field_bytes + key_bytes + value_bytes + 7) & ~size_t{7};
}

// The optional fields of a record; a field without its bit is 0.
struct RecordFields {
  uint16_t fields = 0;
  uint32_t batch_count = 0;         // at least 1
  uint32_t batch_index = 0;         // less than the count
  int64_t fresh_until_wall_ms = 0;  // at least 1
  int64_t delta = 0;
  // The parts of an atomic batch are applied together or not at all. They are in one batch of the log, with one id,
  // which no other atomic batch of the log has.
  uint64_t batch_id = 0;

  size_t bytes() const { return RecordFieldBytes(fields); }
  void SetFreshUntil(int64_t wall_ms) {
    fields |= kFieldFreshness;
    fresh_until_wall_ms = wall_ms > 0 ? wall_ms : 1;
  }
  void SetDelta(int64_t added) {
    fields |= kFieldDelta;
    delta = added;
  }
  void DropDelta() {
    fields &= static_cast<uint16_t>(~kFieldDelta);
    delta = 0;
  }
  void SetBatch(uint64_t id, uint32_t count, uint32_t index) {
    fields |= kFieldBatch;
    batch_id = id;
    batch_count = count;
    batch_index = index;
  }
  bool operator==(const RecordFields&) const = default;
};

// Writes the fields, bytes() in all, to their place in a record; returns the end.
inline char* WriteRecordFields(const RecordFields& fields, char* out) {
  const auto put = [&out](const auto& value) {
    std::memcpy(out, &value, sizeof value);
    out += sizeof value;
  };
  if (fields.fields & kFieldFreshness) put(fields.fresh_until_wall_ms);
  if (fields.fields & kFieldDelta) put(fields.delta);
  if (fields.fields & kFieldBatch) {
    put(fields.batch_id);
    put(fields.batch_count);
    put(fields.batch_index);
  }
  return out;
}

// Where a record that is applied comes from. kLog: from the log of this data; it keeps its version, and leaves no other
// record. kLogOwed: the same, and the backend may not have it (debts.h). kElsewhere: from a dump or another node; it is
// a change like any, with a new version and a record.
enum class Origin : uint8_t { kLog, kLogOwed, kElsewhere };

// A decoded record: views into the bytes from which it was decoded.
struct RecordView {
  RecordKind kind = RecordKind::kSet;
  uint8_t codec = 0;
  uint64_t version = 0;
  int64_t expires_wall_ms = 0;
  uint32_t client_flags = 0;
  std::string_view key;
  std::string_view value;
  size_t record_bytes = 0;
  RecordFields optional = {};
};

// The size of the record that EncodeRecord() makes of it.
inline size_t RecordBytes(const RecordView& record) {
  return RecordBytes(record.key.size(), record.value.size(), record.optional.bytes());
}

// Writes the whole record, padding included, to out[0, RecordBytes(record)) and returns that size. Ignores
// `record_bytes` of the view; bit 4 of the codec follows from the client flags. REQUIRES: DecodeRecord() would accept
// the record; `out` does not overlap key or value.
size_t EncodeRecord(const RecordView& record, char* out);

// kNeedsMore: the bytes end within the record. kMalformed: they cannot be a record. kUnknownField: a record of a later
// version, with an optional field of unknown size.
enum class DecodeStatus : uint8_t { kOk, kNeedsMore, kMalformed, kUnknownField };

// Decodes the record at the start of `bytes`. The view is only written with kOk. Never reads outside `bytes`.
//
// A record is well-formed if its kind is known, a key of 1 to kKeyBytesMax bytes is there (kClear, kClearAt: none), a
// value is there for kSet only, of up to kValueBytesMax bytes, optional fields are those of its kind and within their
// bounds, record_bytes fits all of that, and reserved bits and padding are 0. This does not detect a flipped bit within
// key or value: the files that hold records have checksums for that.
[[nodiscard]] DecodeStatus DecodeRecord(std::string_view bytes, RecordView* view);

// Whether each atomic batch with a part among these records has all its parts there, once each. REQUIRES: whole
// records; bytes behind them that are not a record are ignored.
bool PartsAreWhole(std::string_view records);

}  // namespace cairn
