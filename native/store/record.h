// A record is the effect of one mutation: what the log keeps, a replica applies, a dump holds. It is encoded once,
// here, and never again; everything behind the store treats it as bytes.
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
//              8  kFieldDelta      what was added to the number that was there, modulo 2^64
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
  // A clear is to come at expires_wall; 0: none is. No key. What holds is the last of these and of kClear, which says
  // that none is to come any more.
  kClearAt = 5,
};

// Bits of a record's `fields`. Never change one: they are on disk. A record with a bit that is not here is refused.
enum RecordField : uint16_t {
  kFieldFreshness = 1 << 0,  // of kSet and kTouch
  kFieldDelta = 1 << 1,      // of kSet
  kFieldBatch = 1 << 2,      // of kSet, kDelete and kTouch
};
inline constexpr uint16_t kRecordFieldsKnown = kFieldFreshness | kFieldDelta | kFieldBatch;

inline constexpr size_t kRecordHeaderBytes = 40;
inline constexpr size_t kRecordFieldBytesMax = 32;

// Bytes of the optional fields of a record that has these.
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

// Writes a header to where its record lies, at a multiple of 8. Word by word from registers, which `volatile` makes
// sure of: a compiler would rather put pairs of words together in memory, and what is read back from there in larger
// pieces than it was written in is waited for until everything written before has reached the cache, a cold entry too.
inline void WriteRecordHeader(const RecordHeader& header, char* out) {
  auto* words = reinterpret_cast<volatile uint64_t*>(out);
  words[0] = header.record_bytes | uint64_t{static_cast<uint8_t>(header.kind)} << 32 | uint64_t{header.codec} << 40 |
             uint64_t{header.fields} << 48;
  words[1] = header.version;
  words[2] = static_cast<uint64_t>(header.expires_wall_ms);
  words[3] = header.client_flags | uint64_t{header.key_bytes} << 32;
  words[4] = header.value_bytes | uint64_t{header.reserved} << 32;
}

// Bytes of the record of a key and a value of these sizes, with optional fields of so many bytes.
inline constexpr size_t RecordBytes(size_t key_bytes, size_t value_bytes, size_t field_bytes = 0) {
  return (kRecordHeaderBytes + field_bytes + key_bytes + value_bytes + 7) & ~size_t{7};
}

// The optional fields of a record; those whose bit is not set are 0.
struct RecordFields {
  uint16_t fields = 0;
  uint32_t batch_count = 0;         // at least 1
  uint32_t batch_index = 0;         // less than the count
  int64_t fresh_until_wall_ms = 0;  // at least 1
  int64_t delta = 0;
  // The parts of an atomic batch are applied together or not at all. They lie in one batch of the log, and have one id,
  // which no other atomic batch in the log has.
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
  void SetBatch(uint64_t id, uint32_t count, uint32_t index) {
    fields |= kFieldBatch;
    batch_id = id;
    batch_count = count;
    batch_index = index;
  }
  bool operator==(const RecordFields&) const = default;
};

// Writes bytes() of them to where they lie in a record, and returns the end of that.
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

// A decoded record: views into the bytes it was decoded from.
struct RecordView {
  RecordKind kind = RecordKind::kSet;
  uint8_t codec = 0;
  uint64_t version = 0;
  int64_t expires_wall_ms = 0;
  uint32_t client_flags = 0;
  std::string_view key;
  std::string_view value;
  size_t record_bytes = 0;
  RecordFields optional;
};

// Bytes of the record that EncodeRecord() makes of it.
inline size_t RecordBytes(const RecordView& record) {
  return RecordBytes(record.key.size(), record.value.size(), record.optional.bytes());
}

// Writes the whole record, padding included, to out[0, RecordBytes(record)) and returns that size. `record_bytes` of
// the view is not looked at; bit 4 of the codec follows from the client flags.
// REQUIRES: what DecodeRecord() accepts; `out` does not overlap key or value.
size_t EncodeRecord(const RecordView& record, char* out);

// kNeedsMore: the bytes end within the record. kMalformed: they cannot be a record. kUnknownField: one with an optional
// field that is not known here, and so of a size that is not known; a later version wrote it.
enum class DecodeStatus : uint8_t { kOk, kNeedsMore, kMalformed, kUnknownField };

// Decodes the record at the start of `bytes`. The view is only written with kOk. Never reads outside `bytes`.
//
// A record is well-formed if its kind is known, a key of 1 to kKeyBytesMax bytes is there (kClear, kClearAt: none), a
// value is there for kSet only, of up to kValueBytesMax bytes, optional fields are those of its kind and within their
// bounds, record_bytes fits all of that, and reserved bits and padding are 0. It says nothing about a bit that flipped
// inside key or value: checksums are the business of the files that hold records.
[[nodiscard]] DecodeStatus DecodeRecord(std::string_view bytes, RecordView* view);

// Whether all parts are there, each once, of every atomic batch that these records have a part of. REQUIRES: they are
// whole records; what behind them is none is not looked at.
bool PartsAreWhole(std::string_view records);

}  // namespace cairn
