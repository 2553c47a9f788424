// Writes replies of the text protocol: outcomes -> bytes. Functions over bytes; no store, no I/O.
#pragma once

#include <charconv>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <string_view>

#include "base/limits.h"
#include "protocol/byte_buffer.h"
#include "protocol/response.h"

namespace cairn {

// The longest line before a value: "VALUE ", a key, three numbers of at most 10, 10 and 20 digits, blanks, line end.
inline constexpr size_t kValueLineBytesMax = 6 + kKeyBytesInlineMax + 1 + 10 + 1 + 10 + 1 + 20 + 2;

// The fields of a VALUE line. `cas` is shown if it is not 0, which is no version.
struct ValueLine {
  std::string_view key;
  uint32_t client_flags;
  uint32_t value_bytes;
  uint64_t cas;
};

// Writes the line to `to`, which has room for kValueLineBytesMax; returns the bytes written.
size_t WriteValueLine(const ValueLine& line, char* to);

// "STAT name value\r\n".
void AppendStat(std::string_view name, std::string_view value, ByteBuffer* out);
// The number and a line end: the reply to incr and decr.
void AppendNumber(uint64_t number, ByteBuffer* out);

}  // namespace cairn
