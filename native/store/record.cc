#include "store/record.h"

#include <algorithm>
#include <bit>
#include <cstring>
#include <map>
#include <set>
#include <utility>

#include "base/check.h"
#include "base/limits.h"

namespace cairn {
namespace {

static_assert(std::endian::native == std::endian::little, "records are little-endian and copied as they are");

constexpr uint8_t kCodecMask = 0x0f;
constexpr uint8_t kHasClientFlags = 0x10;

// The largest sum is far below 2^32, so that record_bytes holds it and no sum of parts can wrap.
constexpr size_t kRecordBytesMax = RecordBytes(kKeyBytesMax, kValueBytesMax, kRecordFieldBytesMax);
static_assert(kRecordBytesMax < uint64_t{1} << 31);

constexpr uint16_t FieldsOfKind(RecordKind kind) {
  switch (kind) {
    case RecordKind::kSet:
      return kFieldFreshness | kFieldDelta | kFieldBatch;
    case RecordKind::kTouch:
      return kFieldFreshness | kFieldBatch;
    case RecordKind::kDelete:
      return kFieldBatch;
    case RecordKind::kClear:
    case RecordKind::kClearAt:
      return 0;
  }
  return 0;
}

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

// Of a record with fields that are not known here, too.
bool IsPossibleSize(uint32_t record_bytes) {
  return record_bytes >= kRecordHeaderBytes && record_bytes % 8 == 0 && record_bytes <= kRecordBytesMax;
}

bool IsWellFormed(const RecordHeader& header) {
  if (!PartsFitKind(header.kind, header.key_bytes, header.value_bytes)) return false;
  if ((header.codec & ~(kCodecMask | kHasClientFlags)) != 0) return false;
  if ((header.codec & kHasClientFlags) != 0 && header.client_flags == 0) return false;
  if (header.reserved != 0) return false;
  if ((header.fields & ~kRecordFieldsKnown) != 0) return IsPossibleSize(header.record_bytes);
  if ((header.fields & ~FieldsOfKind(header.kind)) != 0) return false;
  return header.record_bytes == RecordBytes(header.key_bytes, header.value_bytes, RecordFieldBytes(header.fields));
}

// Those at `from`. False: one is out of its bounds.
bool ReadFields(uint16_t fields, const char* from, RecordFields* out) {
  const auto get = [&from](auto* value) {
    std::memcpy(value, from, sizeof *value);
    from += sizeof *value;
  };
  *out = RecordFields{};
  out->fields = fields;
  if (fields & kFieldFreshness) get(&out->fresh_until_wall_ms);
  if (fields & kFieldDelta) get(&out->delta);
  if (fields & kFieldBatch) {
    get(&out->batch_id);
    get(&out->batch_count);
    get(&out->batch_index);
  }
  return (!(fields & kFieldFreshness) || out->fresh_until_wall_ms > 0) &&
         (!(fields & kFieldBatch) || out->batch_index < out->batch_count);
}

}  // namespace

size_t EncodeRecord(const RecordView& record, char* out) {
  DCHECK(record.codec <= kCodecMask);
  DCHECK(PartsFitKind(record.kind, record.key.size(), record.value.size()));
  DCHECK((record.optional.fields & ~FieldsOfKind(record.kind)) == 0);
  const RecordHeader header{
      .record_bytes = static_cast<uint32_t>(RecordBytes(record)),
      .kind = record.kind,
      .codec = static_cast<uint8_t>(record.codec | (record.client_flags != 0 ? kHasClientFlags : 0)),
      .fields = record.optional.fields,
      .version = record.version,
      .expires_wall_ms = record.expires_wall_ms,
      .client_flags = record.client_flags,
      .key_bytes = static_cast<uint32_t>(record.key.size()),
      .value_bytes = static_cast<uint32_t>(record.value.size()),
      .reserved = 0};
  char* end = out + header.record_bytes;
  std::memcpy(out, &header, kRecordHeaderBytes);
  out = WriteRecordFields(record.optional, out + kRecordHeaderBytes);
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
    // Refuse a size that no record has, so that a reader does not wait for that many bytes.
    if (bytes.size() < sizeof(header.record_bytes)) return DecodeStatus::kNeedsMore;
    std::memcpy(&header.record_bytes, bytes.data(), sizeof(header.record_bytes));
    return IsPossibleSize(header.record_bytes) ? DecodeStatus::kNeedsMore : DecodeStatus::kMalformed;
  }
  std::memcpy(&header, bytes.data(), kRecordHeaderBytes);
  if (!IsWellFormed(header)) return DecodeStatus::kMalformed;
  if ((header.fields & ~kRecordFieldsKnown) != 0) return DecodeStatus::kUnknownField;
  if (bytes.size() < header.record_bytes) return DecodeStatus::kNeedsMore;

  const size_t key_at = kRecordHeaderBytes + RecordFieldBytes(header.fields);
  const size_t used_bytes = key_at + header.key_bytes + header.value_bytes;
  for (size_t i = used_bytes; i < header.record_bytes; ++i) {
    if (bytes[i] != '\0') return DecodeStatus::kMalformed;
  }
  RecordFields optional;
  if (header.fields != 0 && !ReadFields(header.fields, bytes.data() + kRecordHeaderBytes, &optional)) {
    return DecodeStatus::kMalformed;
  }
  view->kind = header.kind;
  view->codec = header.codec & kCodecMask;
  view->version = header.version;
  view->expires_wall_ms = header.expires_wall_ms;
  view->client_flags = header.client_flags;
  view->key = bytes.substr(key_at, header.key_bytes);
  view->value = bytes.substr(key_at + header.key_bytes, header.value_bytes);
  view->record_bytes = header.record_bytes;
  view->optional = optional;
  return DecodeStatus::kOk;
}

bool PartsAreWhole(std::string_view records) {
  // By id: how many parts there are to be, and which are there.
  std::map<uint64_t, std::pair<uint32_t, std::set<uint32_t>>> batches;
  for (RecordView record; DecodeRecord(records, &record) == DecodeStatus::kOk;) {
    records.remove_prefix(record.record_bytes);
    const RecordFields& part = record.optional;
    if (!(part.fields & kFieldBatch)) continue;
    auto& [count, seen] = batches.try_emplace(part.batch_id, part.batch_count, std::set<uint32_t>{}).first->second;
    if (count != part.batch_count || !seen.insert(part.batch_index).second) return false;
  }
  return std::all_of(batches.begin(), batches.end(),
                     [](const auto& batch) { return batch.second.first == batch.second.second.size(); });
}

}  // namespace cairn
