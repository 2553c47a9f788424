// Any bytes as a stream of records, and records whole and damaged: what is read lies inside, what decodes encodes to
// the same bytes again, and a prefix of a record is never taken for a whole one.
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <string>
#include <string_view>
#include <vector>

#include "base/check.h"
#include "base/limits.h"
#include "store/record.h"

namespace cairn {
namespace {

void CheckRecord(std::string_view bytes, const RecordView& view) {
  CHECK(view.record_bytes >= kRecordHeaderBytes && view.record_bytes <= bytes.size());
  CHECK(view.record_bytes == RecordBytes(view));
  CHECK(view.key.data() == bytes.data() + kRecordHeaderBytes + view.optional.bytes());
  CHECK(view.value.data() == view.key.data() + view.key.size());
  CHECK(view.codec < 16 && view.key.size() <= kKeyBytesMax && view.value.size() <= kValueBytesMax);

  std::string again(view.record_bytes, '\xee');
  CHECK(EncodeRecord(view, again.data()) == view.record_bytes);
  std::string once(bytes.substr(0, view.record_bytes));
  // Bit 4 of the codec may be left out by who wrote it; we always write it.
  CHECK((once[5] & 0x10) == 0 || view.client_flags != 0);
  if (view.client_flags != 0) once[5] = static_cast<char>(once[5] | 0x10);
  CHECK(again == once);

  RecordView cut;
  for (size_t size :
       {size_t{0}, size_t{3}, size_t{4}, kRecordHeaderBytes - 1, kRecordHeaderBytes, view.record_bytes - 1}) {
    if (size >= view.record_bytes) continue;
    CHECK(DecodeRecord(bytes.substr(0, size), &cut) == DecodeStatus::kNeedsMore);
  }
}

// Reads bytes as a stream of records. They lie in a block of exactly their size, so that the sanitizer sees a read
// beside them.
void CheckStream(const std::vector<char>& block) {
  std::string_view rest(block.data(), block.size());
  for (;;) {
    RecordView view;
    const DecodeStatus status = DecodeRecord(rest, &view);
    if (status != DecodeStatus::kOk) {
      // More bytes never make a record of what is malformed.
      if (status == DecodeStatus::kMalformed && rest.size() < 4096) {
        CHECK(DecodeRecord(std::string(rest) + std::string(64, '\0'), &view) == DecodeStatus::kMalformed);
      }
      return;
    }
    CheckRecord(rest, view);
    rest.remove_prefix(view.record_bytes);
  }
}

// A record whose parts come from `input`, always well-formed.
std::string MakeRecord(std::string_view input) {
  auto take = [&input](size_t bytes) {
    uint64_t number = 0;
    bytes = bytes < input.size() ? bytes : input.size();
    std::memcpy(&number, input.data(), bytes);
    input.remove_prefix(bytes);
    return number;
  };
  RecordView view;
  view.kind = static_cast<RecordKind>(take(1) % 5 + 1);
  view.codec = take(1) % 16;
  view.version = take(8);
  view.expires_wall_ms = static_cast<int64_t>(take(8));
  view.client_flags = static_cast<uint32_t>(take(4));
  const uint64_t fields = take(1);
  const bool barrier = view.kind == RecordKind::kClear || view.kind == RecordKind::kClearAt;
  if ((fields & 1) && !barrier && view.kind != RecordKind::kDelete) {
    view.optional.SetFreshUntil(static_cast<int64_t>(take(8)));
  }
  if ((fields & 2) && view.kind == RecordKind::kSet) view.optional.SetDelta(static_cast<int64_t>(take(8)));
  if ((fields & 4) && !barrier) {
    const auto count = static_cast<uint32_t>(take(4) | 1);
    view.optional.SetBatch(take(8), count, static_cast<uint32_t>(take(4)) % count);
  }
  const size_t key_bytes = take(2);
  if (!barrier) {
    view.key = input.substr(0, key_bytes);
    if (view.key.empty()) view.key = "k";
    if (view.kind == RecordKind::kSet && key_bytes < input.size()) view.value = input.substr(key_bytes);
  }
  std::string bytes(RecordBytes(view), '\xee');
  CHECK(EncodeRecord(view, bytes.data()) == bytes.size());
  RecordView again;
  CHECK(DecodeRecord(bytes, &again) == DecodeStatus::kOk);
  CHECK(again.kind == view.kind && again.codec == view.codec && again.version == view.version &&
        again.expires_wall_ms == view.expires_wall_ms && again.client_flags == view.client_flags &&
        again.key == view.key && again.value == view.value && again.optional == view.optional);
  return bytes;
}

}  // namespace
}  // namespace cairn

// The first byte says what the rest is: a stream as it stands; the parts of a record; or four bytes of damage to the
// record that is made of the rest.
extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  if (size == 0) return 0;
  const std::string_view input(reinterpret_cast<const char*>(data) + 1, size - 1);
  if (data[0] % 3 == 0) {
    cairn::CheckStream({input.begin(), input.end()});
    return 0;
  }
  const bool damage = data[0] % 3 == 2 && input.size() >= 4;
  std::string record = cairn::MakeRecord(damage ? input.substr(4) : input);
  if (damage) {
    const auto at =
        (static_cast<unsigned char>(input[0]) | static_cast<size_t>(static_cast<unsigned char>(input[1])) << 8);
    record[at % record.size()] = static_cast<char>(record[at % record.size()] ^ input[2]);
    if (input[3] & 1) record += record;
    record.resize(record.size() - static_cast<unsigned char>(input[3]) / 8 % record.size());
  }
  cairn::CheckStream({record.begin(), record.end()});
  return 0;
}
