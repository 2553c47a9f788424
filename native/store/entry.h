// The layout of entries and chunks in the pages of a shard. Links are Refs, offsets from the shard's base in units of 8
// bytes, so nothing depends on the address of the mapping.
//
// An entry:
//
//   offset size
//     0     4  lru_prev      the next newer entry
//     4     4  lru_next      the next older entry
//     8     4  value_bytes
//    12     1  key_bytes     1..250; 255: a long key, its length is an optional field
//    13     1  pins_walks    low nibble: readers that hold it in place; high nibble: a bit for each registered walk
//    14     2  flags         kEntry* below; bits 0 to 2 the codec, or of a stub its StubKind
//    16     8  version       epoch (32 bits) | counter (32 bits): the cas token, and the order of writes to this key
//    24        optional fields, each there if its flag is set, in this order:
//              16  expiry       u64 boot-clock ms | u32 wheel_prev | u32 wheel_next. A chunked entry always has it
//                               (kNeverExpires, if it has no expiry), so that its expiry can change where it is
//               8  freshness    u64 boot-clock ms: from then on the entry is stale
//              12  marks        u64 cas token that a client chose, or 0 | u32 kMark* below
//               4  access       boot-clock seconds of the last access
//               4  client flags
//               4  key length   of a long key
//               4  first chunk  Ref, if the entry is chunked
//            key bytes, then value bytes: one stream. A chunked entry keeps the first kKeyBytesInlineMax bytes of
//            the key here (all of a short key), and the rest of the stream in chunks.
//
// A chunk: 16 bytes of header, then a part of the stream.
//
//     0     4  next          the following chunk, 0 at the end
//     4     4  prev          the chunk before, or the entry
//     8     4  data_bytes
//    12     2  is_first      1: prev is the entry
//    14     2  flags         kind only
//
// Every chunk of memory has its kind in the flags at offset 14, so that a page can be walked. 24 bytes of header and a
// 20-byte key touch one cache line if the entry begins in the first 20 bytes of a line.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>

#include "base/limits.h"
#include "store/request.h"

namespace cairn {

using Ref = uint32_t;

inline constexpr uint16_t kEntryCodecMask = 0x0007;
inline constexpr uint16_t kEntryHasMarks = 1 << 3;
inline constexpr uint16_t kEntryHasExpiry = 1 << 4;
inline constexpr uint16_t kEntryHasClientFlags = 1 << 5;
inline constexpr uint16_t kEntryHasAccess = 1 << 6;
inline constexpr uint16_t kEntryChunked = 1 << 7;
inline constexpr uint16_t kEntryHasFreshness = 1 << 8;
inline constexpr uint16_t kEntryFetched = 1 << 9;
inline constexpr uint16_t kEntryOwed = 1 << 10;  // the backend does not have its value yet: debts.h
inline constexpr uint16_t kEntryStub = 1 << 11;  // it stands for a value that is not in memory: debts.h
inline constexpr int kEntryKindShift = 12;
inline constexpr uint16_t kEntryKindMask = 3 << kEntryKindShift;
inline constexpr uint16_t kEntryRetimed = 1 << 14;   // the backend does not have its expiry yet: debts.h
inline constexpr uint16_t kEntryNegative = 1 << 15;  // the backend has no value: the key is absent until its expiry

enum class ChunkKind : uint8_t {
  kFree = 0,
  kEntry = 1,     // linked: in the table and in the list
  kChunk = 2,     // part of a chunked entry
  kUnlinked = 3,  // an entry that no key leads to: it left while pinned, or is a body being received
};

struct EntryHeader {
  uint32_t lru_prev;
  uint32_t lru_next;
  uint32_t value_bytes;
  uint8_t key_bytes;
  uint8_t pins_walks;
  uint16_t flags;
  uint64_t version;
};
static_assert(sizeof(EntryHeader) == 24);
static_assert(offsetof(EntryHeader, key_bytes) == 12 && offsetof(EntryHeader, pins_walks) == 13 &&
              offsetof(EntryHeader, flags) == 14 && offsetof(EntryHeader, version) == 16);

struct ChunkHeader {
  uint32_t next;
  uint32_t prev;
  uint32_t data_bytes;
  uint16_t is_first;
  uint16_t flags;
};
static_assert(sizeof(ChunkHeader) == 16 && offsetof(ChunkHeader, flags) == offsetof(EntryHeader, flags));

// A piece of memory on a page's free list.
struct FreeChunk {
  uint32_t next_slot;  // index + 1, 0 at the end
  uint32_t unused[2];
  uint16_t unused16;
  uint16_t flags;
};
static_assert(offsetof(FreeChunk, flags) == offsetof(EntryHeader, flags));

struct ExpiryBlock {
  uint64_t expires_ms;
  uint32_t wheel_prev;
  uint32_t wheel_next;
};
static_assert(sizeof(ExpiryBlock) == 16);

inline constexpr size_t kLongKeyMark = 255;
inline constexpr int kVersionCounterBits = 32;
inline constexpr uint64_t kVersionCounterMask = (uint64_t{1} << kVersionCounterBits) - 1;

// The last epoch that a version can have.
inline constexpr uint32_t kEpochMax = ~uint32_t{0};

inline constexpr uint64_t VersionOf(uint32_t epoch, uint64_t counter) {
  return uint64_t{epoch} << kVersionCounterBits | counter;
}
inline uint32_t EpochOf(uint64_t version) { return static_cast<uint32_t>(version >> kVersionCounterBits); }

inline ChunkKind KindOf(uint16_t flags) { return static_cast<ChunkKind>((flags & kEntryKindMask) >> kEntryKindShift); }
inline uint16_t WithKind(uint16_t flags, ChunkKind kind) {
  return static_cast<uint16_t>((flags & ~kEntryKindMask) | (static_cast<uint16_t>(kind) << kEntryKindShift));
}

// What clients of the meta protocol have said of an entry (docs/protocol.md). Only this process knows it: it is in no
// record.
inline constexpr uint32_t kMarkStale = 1;        // serve it, and let one client replace it
inline constexpr uint32_t kMarkWon = 2;          // that client has been told
inline constexpr uint32_t kMarkBinaryKey = 4;    // stored with a key in base64, which replies show as that
inline constexpr uint32_t kMarkPlaceholder = 8;  // has no value yet: stands for the one that the winner will store

// In Outcome::marks only.
inline constexpr uint32_t kMarkWins = 16;     // this client has won
inline constexpr uint32_t kMarkCreated = 32;  // the request has made the placeholder

struct Marks {
  uint64_t cas = 0;  // the cas token; 0: the version
  uint32_t bits = 0;
  bool any() const { return (cas | bits) != 0; }
};
inline constexpr size_t kMarksBytes = 12;

// The offsets of the optional fields of an entry with these flags and this key, from the start of the header.
struct EntryOffsets {
  uint16_t freshness, marks, access, client_flags, key_length, first_chunk, stream;
};

inline constexpr EntryOffsets OffsetsOf(uint16_t flags, bool long_key) {
  EntryOffsets at{};
  uint16_t offset = sizeof(EntryHeader);
  if (flags & kEntryHasExpiry) offset += sizeof(ExpiryBlock);
  at.freshness = offset;
  if (flags & kEntryHasFreshness) offset += sizeof(uint64_t);
  at.marks = offset;
  if (flags & kEntryHasMarks) offset += kMarksBytes;
  at.access = offset;
  if (flags & kEntryHasAccess) offset += 4;
  at.client_flags = offset;
  if (flags & kEntryHasClientFlags) offset += 4;
  at.key_length = offset;
  if (long_key) offset += 4;
  at.first_chunk = offset;
  if (flags & kEntryChunked) offset += 4;
  at.stream = offset;
  return at;
}

// The offset of the stream, by the flags of the optional fields (bits 3 to 8) and whether the key is long; every
// look-up needs it.
inline constexpr int kOptionalFieldShift = 3;
inline constexpr int kOptionalFieldBits = 6;
inline constexpr int kOptionalFieldMask = (1 << kOptionalFieldBits) - 1;
inline constexpr int kOptionalFields = kOptionalFieldMask << kOptionalFieldShift;
static_assert((kEntryHasMarks | kEntryHasExpiry | kEntryHasClientFlags | kEntryHasAccess | kEntryChunked |
               kEntryHasFreshness) == kOptionalFields);
static_assert((kEntryFetched & (kEntryKindMask | kEntryCodecMask | kOptionalFields)) == 0);
inline constexpr bool HasOptionalFields(uint16_t flags) { return (flags & kOptionalFields) != 0; }
struct StreamOffsets {
  uint8_t at[2 << kOptionalFieldBits];
};
inline constexpr StreamOffsets kStreamOffsets = [] {
  StreamOffsets offsets{};
  for (int i = 0; i < 2 << kOptionalFieldBits; i++) {
    const bool long_key = i > kOptionalFieldMask;
    offsets.at[i] = static_cast<uint8_t>(
        OffsetsOf(static_cast<uint16_t>((i & kOptionalFieldMask) << kOptionalFieldShift), long_key).stream);
  }
  return offsets;
}();
inline size_t StreamOffsetOf(uint16_t flags, bool long_key) {
  return kStreamOffsets
      .at[((flags >> kOptionalFieldShift) & kOptionalFieldMask) | (long_key ? 1 << kOptionalFieldBits : 0)];
}
// All optional fields together, drawn above: 24 + 16 + 8 + 12 + 4 + 4 + 4 + 4.
static_assert(OffsetsOf(kOptionalFields, true).stream == 76);
// Expiry and freshness are aligned.
static_assert(OffsetsOf(kEntryHasExpiry | kEntryHasFreshness, false).freshness % alignof(uint64_t) == 0);

inline uint32_t LoadU32(const void* from) {
  uint32_t value;
  std::memcpy(&value, from, sizeof value);
  return value;
}
inline void StoreU32(void* to, uint32_t value) { std::memcpy(to, &value, sizeof value); }

inline char* BytesOf(EntryHeader* entry) { return reinterpret_cast<char*>(entry); }
inline const char* BytesOf(const EntryHeader* entry) { return reinterpret_cast<const char*>(entry); }

inline bool IsLongKey(const EntryHeader* entry) { return entry->key_bytes == kLongKeyMark; }
inline EntryOffsets OffsetsOf(const EntryHeader* entry) { return OffsetsOf(entry->flags, IsLongKey(entry)); }
inline size_t KeyBytesOf(const EntryHeader* entry) {
  if (!IsLongKey(entry)) return entry->key_bytes;
  return LoadU32(BytesOf(entry) + OffsetsOf(entry).key_length);
}
inline ExpiryBlock* ExpiryOf(EntryHeader* entry) {
  return reinterpret_cast<ExpiryBlock*>(BytesOf(entry) + sizeof(EntryHeader));
}
inline const ExpiryBlock* ExpiryOf(const EntryHeader* entry) {
  return reinterpret_cast<const ExpiryBlock*>(BytesOf(entry) + sizeof(EntryHeader));
}
// When an entry ends, and from when on it is stale.
struct Ends {
  uint64_t expires_ms;
  uint64_t fresh_until_ms;
};
inline uint64_t ExpiresMsOf(const EntryHeader* entry) {
  return (entry->flags & kEntryHasExpiry) ? ExpiryOf(entry)->expires_ms : kNeverExpires;
}
// When the entry becomes stale; kAlwaysFresh: never.
inline uint64_t FreshUntilOf(const EntryHeader* entry) {
  if (!(entry->flags & kEntryHasFreshness)) return kAlwaysFresh;
  uint64_t until_ms;
  std::memcpy(&until_ms, BytesOf(entry) + OffsetsOf(entry).freshness, sizeof until_ms);
  return until_ms;
}
inline bool IsExpired(const EntryHeader* entry, const Now& now) {
  static_assert(kNeverExpires == 0);  // so that it is the latest of all below
  return (entry->flags & kEntryHasExpiry) && ExpiryOf(entry)->expires_ms - 1 < now.boot_ms;
}
inline bool IsStale(const EntryHeader* entry, const Now& now) {
  static_assert(kAlwaysFresh == 0);
  return (entry->flags & kEntryHasFreshness) && FreshUntilOf(entry) - 1 < now.boot_ms;
}
// The field, if there is one, stays: kAlwaysFresh is one of its values.
inline void SetFreshUntil(EntryHeader* entry, uint64_t until_ms) {
  if (!(entry->flags & kEntryHasFreshness)) return;
  std::memcpy(BytesOf(entry) + OffsetsOf(entry).freshness, &until_ms, sizeof until_ms);
}
inline Marks MarksOf(const EntryHeader* entry) {
  Marks marks;
  if (!(entry->flags & kEntryHasMarks)) return marks;
  const char* from = BytesOf(entry) + OffsetsOf(entry).marks;
  std::memcpy(&marks.cas, from, sizeof marks.cas);
  marks.bits = LoadU32(from + sizeof marks.cas);
  return marks;
}
// REQUIRES: the entry has the field, or marks.any() is false.
inline void SetMarks(EntryHeader* entry, const Marks& marks) {
  if (!(entry->flags & kEntryHasMarks)) return;
  char* to = BytesOf(entry) + OffsetsOf(entry).marks;
  std::memcpy(to, &marks.cas, sizeof marks.cas);
  StoreU32(to + sizeof marks.cas, marks.bits);
}
// The number that a client compares.
inline uint64_t CasOf(const EntryHeader* entry) {
  const uint64_t chosen = MarksOf(entry).cas;
  return chosen != 0 ? chosen : entry->version;
}
inline bool IsPlaceholder(const EntryHeader* entry) { return (MarksOf(entry).bits & kMarkPlaceholder) != 0; }
// Whether the entry has an expiry, and so is in the wheel.
inline bool IsTimed(const EntryHeader* entry) { return ExpiresMsOf(entry) != kNeverExpires; }
inline uint32_t ClientFlagsOf(const EntryHeader* entry) {
  return (entry->flags & kEntryHasClientFlags) ? LoadU32(BytesOf(entry) + OffsetsOf(entry).client_flags) : 0;
}
inline Codec CodecOf(const EntryHeader* entry) { return static_cast<Codec>(entry->flags & kEntryCodecMask); }

inline int PinsOf(const EntryHeader* entry) { return entry->pins_walks & 0x0f; }
inline void AddPin(EntryHeader* entry) { entry->pins_walks++; }
inline void RemovePin(EntryHeader* entry) { entry->pins_walks--; }
inline uint8_t WalkBitsOf(const EntryHeader* entry) { return entry->pins_walks >> 4; }
inline void SetWalkBits(EntryHeader* entry, uint8_t bits) {
  entry->pins_walks = static_cast<uint8_t>((entry->pins_walks & 0x0f) | (bits << 4));
}

}  // namespace cairn
