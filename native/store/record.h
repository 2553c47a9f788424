// A record is the effect of one mutation: what the log keeps, a replica applies, a dump holds. It is encoded once,
// here, and never again; everything behind the store treats it as bytes.
//
//   offset size            little-endian, 8-aligned in a stream: a record is padded with zero bytes to a multiple of 8
//     0     4  record_bytes   the whole record with padding
//     4     1  kind           RecordKind
//     5     1  codec          low nibble; bit 4: client flags are not 0 (informative; such a record may leave it out)
//     6     2  reserved       0
//     8     8  version        epoch (32 bits) | counter (32 bits)
//    16     8  expires_wall   Unix milliseconds, 0 = never; of kClearAt: when
//    24     4  client_flags
//    28     4  key_bytes
//    32     4  value_bytes
//    36     4  reserved       0
//    40        key, value, padding
#pragma once

#include <cstddef>
#include <cstdint>
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

inline constexpr size_t kRecordHeaderBytes = 40;

struct RecordHeader {
  uint32_t record_bytes;
  RecordKind kind;
  uint8_t codec;
  uint16_t reserved0;
  uint64_t version;
  int64_t expires_wall_ms;
  uint32_t client_flags;
  uint32_t key_bytes;
  uint32_t value_bytes;
  uint32_t reserved1;
};
static_assert(sizeof(RecordHeader) == kRecordHeaderBytes && offsetof(RecordHeader, version) == 8);

// Writes a header to where its record lies, at a multiple of 8. Word by word from registers, which `volatile` makes
// sure of: a compiler would rather put pairs of words together in memory, and what is read back from there in larger
// pieces than it was written in is waited for until everything written before has reached the cache, a cold entry too.
inline void WriteRecordHeader(const RecordHeader& header, char* out) {
  auto* words = reinterpret_cast<volatile uint64_t*>(out);
  words[0] = header.record_bytes | uint64_t{static_cast<uint8_t>(header.kind)} << 32 | uint64_t{header.codec} << 40 |
             uint64_t{header.reserved0} << 48;
  words[1] = header.version;
  words[2] = static_cast<uint64_t>(header.expires_wall_ms);
  words[3] = header.client_flags | uint64_t{header.key_bytes} << 32;
  words[4] = header.value_bytes | uint64_t{header.reserved1} << 32;
}

// Bytes of the record of a key and a value of these sizes.
inline constexpr size_t RecordBytes(size_t key_bytes, size_t value_bytes) {
  return (kRecordHeaderBytes + key_bytes + value_bytes + 7) & ~size_t{7};
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
};

// The header of a record of these parts; record_bytes and bit 4 of the codec follow from them.
// REQUIRES: codec < 16; key_bytes and value_bytes as DecodeRecord accepts them for this kind.
RecordHeader MakeRecordHeader(RecordKind kind, uint8_t codec, uint64_t version, int64_t expires_wall_ms,
                              uint32_t client_flags, size_t key_bytes, size_t value_bytes);

// Writes the whole record, padding included, to out[0, RecordBytes(key, value)) and returns that size. `record_bytes`
// of the view is not looked at. REQUIRES: as MakeRecordHeader; `out` does not overlap key or value.
size_t EncodeRecord(const RecordView& record, char* out);

enum class DecodeStatus : uint8_t { kOk, kNeedsMore, kMalformed };

// Decodes the record at the start of `bytes`. kNeedsMore: they end within it. kMalformed: they cannot be a record.
// The view is only written with kOk. Never reads outside `bytes`.
//
// A record is well-formed if its kind is known, a key of 1 to kKeyBytesMax bytes is there (kClear, kClearAt: none), a
// value is there for kSet only, of up to kValueBytesMax bytes, record_bytes fits both, and reserved bits and padding
// are 0. It says nothing about a bit that flipped inside key or value: checksums are the business of what carries
// records.
[[nodiscard]] DecodeStatus DecodeRecord(std::string_view bytes, RecordView* view);

}  // namespace cairn
