#include "store/record.h"

#include <bit>
#include <cstring>

#include "base/check.h"
#include "base/limits.h"

namespace cairn {
namespace {

static_assert(std::endian::native == std::endian::little, "records are little-endian and copied as they are");

constexpr uint8_t kCodecMask = 0x0f;
constexpr uint8_t kHasClientFlags = 0x10;

// The largest sum is far below 2^32, so that record_bytes holds it and no sum of parts can wrap.
static_assert(RecordBytes(kKeyBytesMax, kValueBytesMax) < uint64_t{1} << 31);

bool PartsFitKind(RecordKind kind, uint64_t key_bytes, uint64_t value_bytes) {
  switch (kind) {
    case RecordKind::kSet:
      return key_bytes >= 1 && key_bytes <= kKeyBytesMax && value_bytes <= kValueBytesMax;
    case RecordKind::kDelete:
    case RecordKind::kTouch:
      return key_bytes >= 1 && key_bytes <= kKeyBytesMax && value_bytes == 0;
    case RecordKind::kClear:
    case RecordKind::kClearAt:
      return key_bytes == 0 && value_bytes == 0;
  }
  return false;
}

bool IsWellFormed(const RecordHeader& header) {
  if (!PartsFitKind(header.kind, header.key_bytes, header.value_bytes)) return false;
  if ((header.codec & ~(kCodecMask | kHasClientFlags)) != 0) return false;
  if ((header.codec & kHasClientFlags) != 0 && header.client_flags == 0) return false;
  if (header.reserved0 != 0 || header.reserved1 != 0) return false;
  return header.record_bytes == RecordBytes(header.key_bytes, header.value_bytes);
}

}  // namespace

RecordHeader MakeRecordHeader(RecordKind kind, uint8_t codec, uint64_t version, int64_t expires_wall_ms,
                              uint32_t client_flags, size_t key_bytes, size_t value_bytes) {
  DCHECK(codec <= kCodecMask);
  DCHECK(PartsFitKind(kind, key_bytes, value_bytes));
  return {.record_bytes = static_cast<uint32_t>(RecordBytes(key_bytes, value_bytes)),
          .kind = kind,
          .codec = static_cast<uint8_t>(codec | (client_flags != 0 ? kHasClientFlags : 0)),
          .reserved0 = 0,
          .version = version,
          .expires_wall_ms = expires_wall_ms,
          .client_flags = client_flags,
          .key_bytes = static_cast<uint32_t>(key_bytes),
          .value_bytes = static_cast<uint32_t>(value_bytes),
          .reserved1 = 0};
}

size_t EncodeRecord(const RecordView& record, char* out) {
  const RecordHeader header = MakeRecordHeader(record.kind, record.codec, record.version, record.expires_wall_ms,
                                               record.client_flags, record.key.size(), record.value.size());
  char* end = out + header.record_bytes;
  std::memcpy(out, &header, kRecordHeaderBytes);
  out += kRecordHeaderBytes;
  // An empty view may have a null pointer, which memcpy must not be given even for no bytes.
  if (!record.key.empty()) std::memcpy(out, record.key.data(), record.key.size());
  out += record.key.size();
  if (!record.value.empty()) std::memcpy(out, record.value.data(), record.value.size());
  out += record.value.size();
  std::memset(out, 0, static_cast<size_t>(end - out));
  return header.record_bytes;
}

DecodeStatus DecodeRecord(std::string_view bytes, RecordView* view) {
  RecordHeader header;
  if (bytes.size() < kRecordHeaderBytes) {
    // Refuse a size that no record has before a reader waits for so many bytes.
    if (bytes.size() < sizeof(header.record_bytes)) return DecodeStatus::kNeedsMore;
    std::memcpy(&header.record_bytes, bytes.data(), sizeof(header.record_bytes));
    const bool possible = header.record_bytes >= kRecordHeaderBytes && header.record_bytes % 8 == 0 &&
                          header.record_bytes <= RecordBytes(kKeyBytesMax, kValueBytesMax);
    return possible ? DecodeStatus::kNeedsMore : DecodeStatus::kMalformed;
  }
  std::memcpy(&header, bytes.data(), kRecordHeaderBytes);
  if (!IsWellFormed(header)) return DecodeStatus::kMalformed;
  if (bytes.size() < header.record_bytes) return DecodeStatus::kNeedsMore;

  const size_t used_bytes = kRecordHeaderBytes + size_t{header.key_bytes} + header.value_bytes;
  for (size_t i = used_bytes; i < header.record_bytes; ++i) {
    if (bytes[i] != '\0') return DecodeStatus::kMalformed;
  }
  view->kind = header.kind;
  view->codec = header.codec & kCodecMask;
  view->version = header.version;
  view->expires_wall_ms = header.expires_wall_ms;
  view->client_flags = header.client_flags;
  view->key = bytes.substr(kRecordHeaderBytes, header.key_bytes);
  view->value = bytes.substr(kRecordHeaderBytes + header.key_bytes, header.value_bytes);
  view->record_bytes = header.record_bytes;
  return DecodeStatus::kOk;
}

}  // namespace cairn
