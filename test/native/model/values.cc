#include "model/values.h"

#include <algorithm>
#include <cstdlib>

#include "base/limits.h"

namespace cairn::model {

namespace {

bool IsTextCodec(Codec codec) { return codec == Codec::kAscii || codec == Codec::kUtf8 || codec == Codec::kWtf8; }

// Decodes code points, the slow and plain way.
bool IsUtf8Text(const std::string& text) {
  size_t i = 0;
  while (i < text.size()) {
    const auto byte = [&](size_t k) { return static_cast<uint32_t>(static_cast<unsigned char>(text[k])); };
    const uint32_t lead = byte(i);
    size_t more = 0;
    uint32_t point = 0, smallest = 0;
    if (lead < 0x80) {
      ++i;
      continue;
    } else if ((lead & 0xe0) == 0xc0) {
      more = 1, point = lead & 0x1f, smallest = 0x80;
    } else if ((lead & 0xf0) == 0xe0) {
      more = 2, point = lead & 0x0f, smallest = 0x800;
    } else if ((lead & 0xf8) == 0xf0) {
      more = 3, point = lead & 0x07, smallest = 0x10000;
    } else {
      return false;
    }
    if (text.size() - i <= more) return false;
    for (size_t k = 1; k <= more; ++k) {
      if ((byte(i + k) & 0xc0) != 0x80) return false;
      point = (point << 6) | (byte(i + k) & 0x3f);
    }
    if (point < smallest || point > 0x10ffff || (point >= 0xd800 && point <= 0xdfff)) return false;
    i += more + 1;
  }
  return true;
}

}  // namespace

bool JoinedCodec(Codec old, Codec added, const std::string& added_bytes, Codec* joined) {
  const bool added_joins = added == Codec::kRaw || IsTextCodec(added);
  if (!added_joins || (old != Codec::kRaw && !IsTextCodec(old))) return false;
  if (old == Codec::kRaw) {
    *joined = Codec::kRaw;
  } else if (added == Codec::kRaw) {
    const bool ascii = std::all_of(added_bytes.begin(), added_bytes.end(), [](char c) { return (c & 0x80) == 0; });
    if (ascii) {
      *joined = old;
    } else if (!IsUtf8Text(added_bytes)) {
      *joined = Codec::kRaw;
    } else {
      *joined = old == Codec::kAscii ? Codec::kUtf8 : old;
    }
  } else if (old == Codec::kWtf8 || added == Codec::kWtf8) {
    *joined = Codec::kWtf8;
  } else if (old == Codec::kUtf8 || added == Codec::kUtf8) {
    *joined = Codec::kUtf8;
  } else {
    *joined = Codec::kAscii;
  }
  return true;
}

bool NumberOf(const std::string& text, uint64_t* number) {
  const auto blank = [](char c) { return c == ' ' || c == '\t' || c == '\n' || c == '\v' || c == '\f' || c == '\r'; };
  if (text.size() > kDecimalBytesMax) return false;
  size_t i = 0;
  while (i < text.size() && blank(text[i])) ++i;
  const bool negative = i < text.size() && text[i] == '-';
  if (negative || (i < text.size() && text[i] == '+')) ++i;
  std::string digits;
  while (i < text.size() && text[i] >= '0' && text[i] <= '9') digits += text[i++];
  if (digits.empty() || (i < text.size() && text[i] != '\0' && !blank(text[i]))) return false;
  digits.erase(0, std::min(digits.find_first_not_of('0'), digits.size() - 1));
  const std::string largest = "18446744073709551615";
  if (digits.size() > largest.size() || (digits.size() == largest.size() && digits > largest)) return false;
  *number = std::strtoull(digits.c_str(), nullptr, 10);
  if (negative) *number = -*number;
  const std::string read(text.c_str());
  return *number <= INT64_MAX || read.find('-') == std::string::npos;
}

}  // namespace cairn::model
