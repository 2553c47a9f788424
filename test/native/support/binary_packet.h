// Packets of the binary protocol: requests as bytes, and what is in the bytes of replies.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

#include "base/check.h"

namespace cairn::test {

inline std::string BigEndian(uint64_t number, size_t bytes) {
  std::string text(bytes, '\0');
  for (size_t i = 0; i < bytes; i++) text[bytes - 1 - i] = static_cast<char>(number >> (8 * i));
  return text;
}

inline uint64_t NumberAt(std::string_view bytes, size_t at, size_t count) {
  CHECK(at + count <= bytes.size());
  uint64_t number = 0;
  for (size_t i = 0; i < count; i++) number = number << 8 | static_cast<unsigned char>(bytes[at + i]);
  return number;
}

struct Parts {
  std::string_view key = {};
  std::string_view value = {};
  std::string_view extras = {};
  uint64_t cas = 0;
  uint32_t opaque = 0;
};

inline std::string PacketOf(uint8_t opcode, const Parts& parts) {
  std::string packet = "\x80";
  packet += static_cast<char>(opcode);
  packet += BigEndian(parts.key.size(), 2) + BigEndian(parts.extras.size(), 1) + std::string(3, '\0');
  packet += BigEndian(parts.extras.size() + parts.key.size() + parts.value.size(), 4);
  packet += BigEndian(parts.opaque, 4) + BigEndian(parts.cas, 8);
  return packet.append(parts.extras).append(parts.key).append(parts.value);
}

inline std::string StorePacket(uint8_t opcode, std::string_view key, std::string_view value, uint64_t cas = 0) {
  return PacketOf(opcode, {.key = key, .value = value, .extras = std::string_view("\0\0\0\0\0\0\0\0", 8), .cas = cas});
}
inline std::string KeyPacket(uint8_t opcode, std::string_view key, uint64_t cas = 0) {
  return PacketOf(opcode, {.key = key, .cas = cas});
}
inline std::string TouchPacket(uint8_t opcode, std::string_view key, uint32_t exptime) {
  return PacketOf(opcode, {.key = key, .extras = BigEndian(exptime, 4)});
}
inline std::string CountPacket(uint8_t opcode, std::string_view key, uint64_t delta, uint64_t initial,
                               uint32_t exptime) {
  const std::string extras = BigEndian(delta, 8) + BigEndian(initial, 8) + BigEndian(exptime, 4);
  return PacketOf(opcode, {.key = key, .extras = extras});
}
inline const std::string& Noop() {
  static const std::string noop = PacketOf(0x0a, {});
  return noop;
}

// A byte in hexadecimal.
inline std::string Hex(uint64_t byte) {
  constexpr char kDigits[] = "0123456789abcdef";
  return {kDigits[byte >> 4 & 15], kDigits[byte & 15]};
}

// Each reply as "OPCODE:STATUS", both in hexadecimal, and "=VALUE" if it has one, separated by blanks. The value of a
// count is its number.
inline std::string Told(std::string_view bytes) {
  std::string told;
  while (!bytes.empty()) {
    CHECK(bytes.size() >= 24 && bytes[0] == '\x81');
    const auto opcode = static_cast<unsigned char>(bytes[1]);
    const uint64_t status = NumberAt(bytes, 6, 2);
    const size_t before_value = 24 + NumberAt(bytes, 4, 1) + NumberAt(bytes, 2, 2);
    const size_t end = 24 + NumberAt(bytes, 8, 4);
    CHECK(before_value <= end && end <= bytes.size());
    if (!told.empty()) told += ' ';
    told += Hex(opcode) + ':' + Hex(status);
    const std::string_view value = bytes.substr(before_value, end - before_value);
    const bool is_count = status == 0 && (opcode == 0x05 || opcode == 0x06);
    if (is_count) {
      told += "=" + std::to_string(NumberAt(value, 0, 8));
    } else if (!value.empty()) {
      told.append("=").append(value);
    }
    bytes.remove_prefix(end);
  }
  return told;
}

}  // namespace cairn::test
