// Records: encoded, decoded, cut, damaged. Bytes to decode are copied into a heap block of exactly their size, so that
// under the address sanitizer a read beside them ends the test.
#include "store/record.h"

#include <cstdint>
#include <cstring>
#include <string>
#include <string_view>
#include <vector>

#include "base/limits.h"
#include "test.h"

namespace cairn {
namespace {

using test::Random;

std::string Encode(const RecordView& record) {
  // Dirty, so that padding that is not written shows.
  std::string bytes(RecordBytes(record), '\xee');
  EXPECT_EQ(EncodeRecord(record, bytes.data()), bytes.size());
  return bytes;
}

// Bytes in a block of their own, and what they decode to.
struct Decoded {
  explicit Decoded(std::string_view from) : bytes(from.begin(), from.end()) {
    status = DecodeRecord(std::string_view(bytes.data(), bytes.size()), &view);
  }
  std::vector<char> bytes;
  RecordView view;
  DecodeStatus status;
};

void ExpectSame(const RecordView& a, const RecordView& b) {
  EXPECT_EQ(a.kind, b.kind);
  EXPECT_EQ(a.codec, b.codec);
  EXPECT_EQ(a.version, b.version);
  EXPECT_EQ(a.expires_wall_ms, b.expires_wall_ms);
  EXPECT_EQ(a.client_flags, b.client_flags);
  EXPECT_EQ(a.key, b.key);
  EXPECT_EQ(a.value, b.value);
  EXPECT_TRUE(a.optional == b.optional);
}

const RecordView kExample = {.kind = RecordKind::kSet,
                             .codec = 6,
                             .version = 0x0123456789abcdef,
                             .expires_wall_ms = 1'700'000'000'123,
                             .client_flags = 0xdeadbeef,
                             .key = "user:1",
                             .value = "{\"name\":\"Ada\"}"};

// A record of any kind whose parts fit it.
RecordView RandomRecord(Random* random, std::string* key, std::string* value) {
  RecordView record;
  record.kind = static_cast<RecordKind>(random->Between(1, 5));
  *key = random->Bytes(record.kind >= RecordKind::kClear ? 0 : random->Between(1, random->OneIn(20) ? 5000 : 60));
  *value = random->Bytes(record.kind == RecordKind::kSet ? random->Below(random->OneIn(20) ? 50000 : 100) : 0);
  record.codec = static_cast<uint8_t>(random->Below(16));
  record.version = random->Next();
  record.expires_wall_ms = random->OneIn(2) ? 0 : static_cast<int64_t>(random->Next() >> 1);
  record.client_flags = random->OneIn(2) ? 0 : static_cast<uint32_t>(random->Next());
  record.key = *key;
  record.value = *value;
  if (record.kind >= RecordKind::kClear) return record;
  if (record.kind != RecordKind::kDelete && random->OneIn(3)) {
    record.optional.SetFreshUntil(static_cast<int64_t>(random->Next() >> 1 | 1));
  }
  if (record.kind == RecordKind::kSet && random->OneIn(3)) {
    record.optional.SetDelta(static_cast<int64_t>(random->Next()));
  }
  if (random->OneIn(3)) {
    const auto count = static_cast<uint32_t>(random->Between(1, 1000));
    record.optional.SetBatch(random->Next(), count, static_cast<uint32_t>(random->Below(count)));
  }
  return record;
}

TEST(Record, HasTheLayoutOfItsHeader) {
  const std::string bytes = Encode(kExample);
  const std::string expected(
      "\x40\x00\x00\x00"                  // record_bytes: 40 + 6 + 14 = 60, padded to 64
      "\x01\x16\x00\x00"                  // kSet; codec 6 with client flags; reserved
      "\xef\xcd\xab\x89\x67\x45\x23\x01"  // version
      "\x7b\x68\xe5\xcf\x8b\x01\x00\x00"  // 1,700,000,000,123
      "\xef\xbe\xad\xde"                  // client flags
      "\x06\x00\x00\x00"                  // key_bytes
      "\x0e\x00\x00\x00"                  // value_bytes
      "\x00\x00\x00\x00"                  // reserved
      "user:1{\"name\":\"Ada\"}"
      "\x00\x00\x00\x00",  // padding
      64);
  EXPECT_EQ(bytes, expected);
}

TEST(Record, OptionalFieldsLieBeforeTheKeyInTheirOrder) {
  RecordView record = kExample;
  record.optional.SetBatch(0x1122334455667788, 3, 2);
  record.optional.SetDelta(-2);
  record.optional.SetFreshUntil(1'700'000'000'123);
  const std::string bytes = Encode(record);
  const std::string plain = Encode(kExample);
  EXPECT_EQ(bytes.size(), plain.size() + 32);
  EXPECT_EQ(bytes.substr(4, 4), std::string("\x01\x16\x07\x00", 4));
  EXPECT_EQ(bytes.substr(8, 32), plain.substr(8, 32));
  const std::string expected(
      "\x7b\x68\xe5\xcf\x8b\x01\x00\x00"  // fresh until
      "\xfe\xff\xff\xff\xff\xff\xff\xff"  // delta -2
      "\x88\x77\x66\x55\x44\x33\x22\x11"  // id of the batch
      "\x03\x00\x00\x00"                  // it has three parts
      "\x02\x00\x00\x00",                 // this is the last
      32);
  EXPECT_EQ(bytes.substr(40, 32), expected);
  EXPECT_EQ(bytes.substr(72), plain.substr(40));
}

TEST(Record, AnUnknownFieldIsRefusedAsThat) {
  for (int bit = 3; bit < 16; ++bit) {
    std::string bytes = Encode(kExample);
    bytes[static_cast<size_t>(6 + bit / 8)] = static_cast<char>(1 << bit % 8);
    EXPECT_EQ(Decoded(bytes).status, DecodeStatus::kUnknownField);
    // But of no size that no record has, which a shorter piece of it is refused for.
    bytes[0] = 3;
    EXPECT_EQ(Decoded(bytes).status, DecodeStatus::kMalformed);
    EXPECT_EQ(Decoded(bytes.substr(0, 39)).status, DecodeStatus::kMalformed);
  }
}

TEST(Record, FieldsOfAnotherKindAndOutOfBoundsAreRefused) {
  const auto status = [](RecordKind kind, uint16_t fields, std::string_view contents) {
    std::string bytes(RecordBytes(1, 0, contents.size()), '\0');
    RecordHeader header{};
    header.record_bytes = static_cast<uint32_t>(bytes.size());
    header.kind = kind;
    header.fields = fields;
    header.version = 1;
    header.key_bytes = kind >= RecordKind::kClear ? 0 : 1;
    std::memcpy(bytes.data(), &header, sizeof header);
    std::memcpy(bytes.data() + sizeof header, contents.data(), contents.size());
    if (header.key_bytes != 0) bytes[sizeof header + contents.size()] = 'k';
    return Decoded(bytes).status;
  };
  const auto of = [](uint64_t a, uint64_t b = 0) {
    std::string contents(16, '\0');
    std::memcpy(contents.data(), &a, 8);
    std::memcpy(contents.data() + 8, &b, 8);
    return contents;
  };
  const uint64_t one_part = 1;  // count 1, index 0
  EXPECT_EQ(status(RecordKind::kSet, kFieldFreshness, of(5).substr(0, 8)), DecodeStatus::kOk);
  EXPECT_EQ(status(RecordKind::kTouch, kFieldFreshness, of(5).substr(0, 8)), DecodeStatus::kOk);
  EXPECT_EQ(status(RecordKind::kDelete, kFieldFreshness, of(5).substr(0, 8)), DecodeStatus::kMalformed);
  EXPECT_EQ(status(RecordKind::kClear, kFieldFreshness, of(5).substr(0, 8)), DecodeStatus::kMalformed);
  EXPECT_EQ(status(RecordKind::kSet, kFieldFreshness, of(0).substr(0, 8)), DecodeStatus::kMalformed);
  EXPECT_EQ(status(RecordKind::kSet, kFieldFreshness, of(~uint64_t{0}).substr(0, 8)), DecodeStatus::kMalformed);
  EXPECT_EQ(status(RecordKind::kSet, kFieldFreshness, ""), DecodeStatus::kMalformed);
  EXPECT_EQ(status(RecordKind::kSet, kFieldDelta, of(0).substr(0, 8)), DecodeStatus::kOk);
  EXPECT_EQ(status(RecordKind::kTouch, kFieldDelta, of(1).substr(0, 8)), DecodeStatus::kMalformed);
  EXPECT_EQ(status(RecordKind::kDelete, kFieldBatch, of(7, one_part)), DecodeStatus::kOk);
  EXPECT_EQ(status(RecordKind::kClearAt, kFieldBatch, of(7, one_part)), DecodeStatus::kMalformed);
  EXPECT_EQ(status(RecordKind::kSet, kFieldBatch, of(7, 0)), DecodeStatus::kMalformed);
  EXPECT_EQ(status(RecordKind::kSet, kFieldBatch, of(7, 3 | uint64_t{3} << 32)), DecodeStatus::kMalformed);
  EXPECT_EQ(status(RecordKind::kSet, kFieldBatch, of(7, 3 | uint64_t{2} << 32)), DecodeStatus::kOk);
}

TEST(Record, ComesBackAsItWas) {
  Random random(test::Seed());
  for (int round = 0; round < 3000; ++round) {
    std::string key, value;
    const RecordView record = RandomRecord(&random, &key, &value);
    const Decoded decoded(Encode(record));
    ASSERT_EQ(decoded.status, DecodeStatus::kOk) << "round " << round;
    ExpectSame(decoded.view, record);
    EXPECT_EQ(decoded.view.record_bytes, decoded.bytes.size());
    EXPECT_EQ(decoded.view.record_bytes % 8, 0u);
  }
}

TEST(Record, TheLargestKeyAndEveryPaddingComeBack) {
  for (size_t key_bytes :
       {size_t{1}, size_t{2}, kKeyBytesInlineMax, kKeyBytesInlineMax + 1, kKeyBytesMax - 1, kKeyBytesMax}) {
    const std::string key(key_bytes, 'k');
    for (size_t value_bytes = 0; value_bytes < 9; ++value_bytes) {
      const std::string value(value_bytes, 'v');
      RecordView record = kExample;
      record.key = key;
      record.value = value;
      const Decoded decoded(Encode(record));
      ASSERT_EQ(decoded.status, DecodeStatus::kOk) << key_bytes << " + " << value_bytes;
      ExpectSame(decoded.view, record);
    }
  }
}

TEST(Record, RecordsInAStreamAreTakenOneByOne) {
  Random random(test::Seed());
  std::string stream;
  std::vector<std::string> keys(50), values(50);
  std::vector<RecordView> records;
  for (size_t i = 0; i < keys.size(); ++i) {
    records.push_back(RandomRecord(&random, &keys[i], &values[i]));
    stream += Encode(records.back());
  }
  std::string_view rest = stream;
  for (const RecordView& record : records) {
    RecordView view;
    ASSERT_EQ(DecodeRecord(rest, &view), DecodeStatus::kOk);
    ExpectSame(view, record);
    rest.remove_prefix(view.record_bytes);
  }
  EXPECT_EQ(rest.size(), 0u);
  RecordView view;
  EXPECT_EQ(DecodeRecord(rest, &view), DecodeStatus::kNeedsMore);
}

TEST(Record, CutAnywhereItNeedsMore) {
  Random random(test::Seed());
  for (int round = 0; round < 60; ++round) {
    std::string key, value;
    const std::string bytes = Encode(RandomRecord(&random, &key, &value));
    const size_t step = bytes.size() > 1000 ? 97 : 1;
    for (size_t size = 0; size < bytes.size(); size += step) {
      const Decoded decoded(std::string_view(bytes).substr(0, size));
      ASSERT_EQ(decoded.status, DecodeStatus::kNeedsMore) << size << " of " << bytes.size() << " bytes";
      EXPECT_EQ(decoded.view.key.data(), nullptr) << "the view is written with kOk only";
    }
  }
}

// One flipped bit in header or padding either cannot be told from another record, or is refused, or asks for more; it
// is never read beyond. In reserved bytes and padding it is always refused.
TEST(Record, AFlippedBitIsNeverReadBeyondTheBytes) {
  Random random(test::Seed());
  for (int round = 0; round < 40; ++round) {
    std::string key, value;
    const RecordView record = RandomRecord(&random, &key, &value);
    const std::string bytes = Encode(record);
    if (bytes.size() > 2000) continue;
    const size_t used_bytes = kRecordHeaderBytes + record.optional.bytes() + key.size() + value.size();
    for (size_t bit = 0; bit < bytes.size() * 8; ++bit) {
      std::string damaged = bytes;
      const size_t byte = bit / 8;
      damaged[byte] = static_cast<char>(damaged[byte] ^ 1 << bit % 8);
      const Decoded decoded(damaged);
      if (decoded.status == DecodeStatus::kOk) {
        const char* begin = decoded.bytes.data();
        const char* end = begin + decoded.bytes.size();
        ASSERT_TRUE(decoded.view.key.data() >= begin && decoded.view.key.data() + decoded.view.key.size() <= end);
        ASSERT_TRUE(decoded.view.value.data() >= begin && decoded.view.value.data() + decoded.view.value.size() <= end);
        ASSERT_EQ(decoded.view.record_bytes, bytes.size());
        // What was decoded is what a record of these parts looks like: only the informative bit may differ.
        std::string again = Encode(decoded.view);
        again[5] = static_cast<char>(again[5] & 0x0f);
        damaged[5] = static_cast<char>(damaged[5] & 0x0f);
        ASSERT_EQ(again, damaged) << "bit " << bit;
      }
      const bool reserved = (byte >= 36 && byte < 40) || byte >= used_bytes;
      if (reserved || byte < 4) EXPECT_EQ(decoded.status, DecodeStatus::kMalformed) << "bit " << bit;
      // A field more or less makes another size.
      if (bit >= 6 * 8 && bit < 6 * 8 + 3) EXPECT_EQ(decoded.status, DecodeStatus::kMalformed) << "bit " << bit;
      if (bit >= 6 * 8 + 3 && bit < 8 * 8) EXPECT_EQ(decoded.status, DecodeStatus::kUnknownField) << "bit " << bit;
    }
  }
}

TEST(Record, AllPartsOfAnAtomicBatchAreThereOrItIsBroken) {
  const auto part = [](uint64_t id, uint32_t count, uint32_t index) {
    RecordView record = kExample;
    record.optional.SetBatch(id, count, index);
    return Encode(record);
  };
  const std::string plain = Encode(kExample);
  EXPECT_TRUE(PartsAreWhole(""));
  EXPECT_TRUE(PartsAreWhole(plain + plain));
  EXPECT_TRUE(PartsAreWhole(part(7, 1, 0)));
  EXPECT_TRUE(PartsAreWhole(part(7, 2, 1) + plain + part(8, 2, 0) + part(7, 2, 0) + part(8, 2, 1)));
  EXPECT_FALSE(PartsAreWhole(part(7, 2, 1)));
  EXPECT_FALSE(PartsAreWhole(part(7, 2, 0) + part(8, 2, 1)));
  EXPECT_FALSE(PartsAreWhole(part(7, 2, 0) + part(7, 2, 0)));
  EXPECT_FALSE(PartsAreWhole(part(7, 2, 0) + part(7, 2, 1) + part(7, 2, 1)));
  EXPECT_FALSE(PartsAreWhole(part(7, 2, 0) + part(7, 3, 1)));
}

TEST(Record, RandomBytesAreReadInsideOnly) {
  Random random(test::Seed());
  for (int round = 0; round < 20000; ++round) {
    std::string bytes = random.Bytes(random.Below(120));
    // Mostly plausible sizes, or the first check would end nearly all rounds.
    auto put = [&bytes](size_t offset, uint32_t value) {
      if (bytes.size() >= offset + 4) std::memcpy(bytes.data() + offset, &value, 4);
    };
    if (!random.OneIn(4)) {
      const auto key_bytes = static_cast<uint32_t>(random.Below(40));
      const auto value_bytes = static_cast<uint32_t>(random.Below(40));
      put(0, static_cast<uint32_t>(RecordBytes(key_bytes, value_bytes)));
      put(4, static_cast<uint32_t>(random.Below(6) | random.Below(17) << 8));
      put(28, key_bytes);
      put(32, value_bytes);
      put(36, 0);
    }
    const Decoded decoded(bytes);
    if (decoded.status != DecodeStatus::kOk) continue;
    uint64_t sum = 0;
    for (char c : decoded.view.key) sum += static_cast<unsigned char>(c);
    for (char c : decoded.view.value) sum += static_cast<unsigned char>(c);
    EXPECT_GE(sum, 0u);
    EXPECT_LE(decoded.view.record_bytes, bytes.size());
  }
}

// Sets one field of an encoded record; the size of the whole stays as it is unless it is the field.
template <typename Field>
std::string With(size_t offset, Field value) {
  std::string bytes = Encode(kExample);
  std::memcpy(bytes.data() + offset, &value, sizeof(value));
  return bytes;
}

TEST(Record, WhatNoRecordCanBeIsRefused) {
  const auto status = [](const std::string& bytes) { return Decoded(bytes).status; };
  ASSERT_EQ(status(Encode(kExample)), DecodeStatus::kOk);
  for (uint32_t size : {0u, 8u, 39u, 40u, 56u, 63u, 65u, 72u, 0x7fffffffu, 0xfffffff8u, 0xffffffffu}) {
    EXPECT_EQ(status(With(0, size)), DecodeStatus::kMalformed) << "record_bytes " << size;
  }
  for (int kind = 0; kind < 256; ++kind) {
    // The example has a value, which only kSet may.
    EXPECT_EQ(status(With(4, static_cast<uint8_t>(kind))), kind == 1 ? DecodeStatus::kOk : DecodeStatus::kMalformed);
  }
  for (int codec = 0; codec < 256; ++codec) {
    EXPECT_EQ(status(With(5, static_cast<uint8_t>(codec))), codec < 32 ? DecodeStatus::kOk : DecodeStatus::kMalformed);
  }
  EXPECT_EQ(status(With(24, uint32_t{0})), DecodeStatus::kMalformed) << "bit 4 of the codec without client flags";
  for (size_t reserved : {36, 37, 38, 39}) {
    EXPECT_EQ(status(With(reserved, uint8_t{1})), DecodeStatus::kMalformed) << "reserved byte at " << reserved;
  }
  for (size_t padding = 60; padding < 64; ++padding) {
    EXPECT_EQ(status(With(padding, uint8_t{1})), DecodeStatus::kMalformed) << "padding at " << padding;
  }
}

TEST(Record, PartsThatDoNotFitTheKindAreRefused) {
  // A header alone is enough to know, however much is promised to follow.
  const auto status = [](RecordKind kind, uint64_t key_bytes, uint64_t value_bytes) {
    RecordHeader header = {};
    header.kind = kind;
    header.record_bytes = static_cast<uint32_t>(RecordBytes(key_bytes, value_bytes));
    header.key_bytes = static_cast<uint32_t>(key_bytes);
    header.value_bytes = static_cast<uint32_t>(value_bytes);
    return Decoded(std::string_view(reinterpret_cast<const char*>(&header), sizeof(header))).status;
  };
  constexpr auto kMore = DecodeStatus::kNeedsMore;
  constexpr auto kBad = DecodeStatus::kMalformed;
  EXPECT_EQ(status(RecordKind::kSet, kKeyBytesMax, kValueBytesMax), kMore);
  EXPECT_EQ(status(RecordKind::kSet, kKeyBytesMax + 1, 0), kBad);
  EXPECT_EQ(status(RecordKind::kSet, 1, kValueBytesMax + 1), kBad);
  EXPECT_EQ(status(RecordKind::kSet, 0, 1), kBad) << "a value without a key";
  EXPECT_EQ(status(RecordKind::kSet, 0xffffffff, 0xffffffff), kBad);
  EXPECT_EQ(status(RecordKind::kSet, 1, 0), kMore) << "an empty value is a value";
  for (RecordKind kind : {RecordKind::kDelete, RecordKind::kTouch}) {
    EXPECT_EQ(status(kind, 1, 0), kMore);
    EXPECT_EQ(status(kind, kKeyBytesMax, 0), kMore);
    EXPECT_EQ(status(kind, 0, 0), kBad);
    EXPECT_EQ(status(kind, 1, 1), kBad);
    EXPECT_EQ(status(kind, kKeyBytesMax + 1, 0), kBad);
  }
  for (RecordKind kind : {RecordKind::kClear, RecordKind::kClearAt}) {
    EXPECT_EQ(status(kind, 0, 0), DecodeStatus::kOk);
    EXPECT_EQ(status(kind, 1, 0), kBad);
    EXPECT_EQ(status(kind, 0, 1), kBad);
  }
}

TEST(Record, AnImpossibleSizeIsRefusedBeforeTheHeaderIsThere) {
  const auto status = [](uint32_t record_bytes) {
    return Decoded(std::string_view(reinterpret_cast<const char*>(&record_bytes), 4)).status;
  };
  EXPECT_EQ(status(40), DecodeStatus::kNeedsMore);
  constexpr auto kMax = static_cast<uint32_t>(RecordBytes(kKeyBytesMax, kValueBytesMax, kRecordFieldBytesMax));
  EXPECT_EQ(status(kMax), DecodeStatus::kNeedsMore);
  EXPECT_EQ(status(kMax + 8), DecodeStatus::kMalformed);
  EXPECT_EQ(status(0), DecodeStatus::kMalformed);
  EXPECT_EQ(status(32), DecodeStatus::kMalformed);
  EXPECT_EQ(status(44), DecodeStatus::kMalformed);
}

}  // namespace
}  // namespace cairn
