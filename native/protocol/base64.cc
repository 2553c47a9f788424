#include "protocol/base64.h"

#include <array>
#include <cstdint>

namespace cairn {

namespace {

constexpr std::string_view kDigits = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
constexpr uint8_t kNoDigit = 0xff;
constexpr std::array<uint8_t, 256> kValues = [] {
  std::array<uint8_t, 256> values{};
  values.fill(kNoDigit);
  for (size_t i = 0; i < kDigits.size(); i++) values[static_cast<unsigned char>(kDigits[i])] = static_cast<uint8_t>(i);
  return values;
}();

}  // namespace

size_t DecodeBase64(std::string_view text, char* to) {
  if (text.empty() || text.size() % 4 != 0) return 0;
  size_t padding = 0;
  while (padding < 2 && text[text.size() - 1 - padding] == '=') padding++;
  char* const begin = to;
  for (size_t i = 0; i < text.size(); i += 4) {
    const size_t missing = i + 4 == text.size() ? padding : 0;
    uint32_t bits = 0;
    for (size_t j = 0; j < 4; j++) {
      const bool is_padding = j >= 4 - missing;
      const uint8_t value = is_padding ? 0 : kValues[static_cast<unsigned char>(text[i + j])];
      if (value == kNoDigit) return 0;
      bits = bits << 6 | value;
    }
    for (size_t j = 0; j < 3 - missing; j++) *to++ = static_cast<char>(bits >> (16 - 8 * j));
  }
  return static_cast<size_t>(to - begin);
}

char* EncodeBase64(std::string_view bytes, char* to) {
  for (size_t i = 0; i < bytes.size(); i += 3) {
    const size_t there = bytes.size() - i < 3 ? bytes.size() - i : 3;
    uint32_t bits = 0;
    for (size_t j = 0; j < 3; j++) bits = bits << 8 | (j < there ? static_cast<unsigned char>(bytes[i + j]) : 0);
    for (size_t j = 0; j < 4; j++) *to++ = j <= there ? kDigits[bits >> (18 - 6 * j) & 63] : '=';
  }
  return to;
}

}  // namespace cairn
