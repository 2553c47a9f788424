// Reads lines of the text protocol: bytes -> TextRequest. Functions over bytes; no store, no I/O, no allocation.
#pragma once

#include <cstdint>
#include <cstring>
#include <string_view>

#include "protocol/request.h"

namespace cairn {

// Reads one line. `line` is without its end ("\r\n" or "\n"); `line_bytes` is its length with the end, because
// memcached refuses lines of fewer than four bytes before it reads them.
void ParseTextLine(std::string_view line, size_t line_bytes, TextRequest* request);

// The same for a line whose command is treated as unknown.
void ParseUnknownLine(std::string_view line, TextRequest* request);

// The '\n' at which the line at `at` ends; null: there is none before `end`.
inline const char* FindNewline(const char* at, const char* end) {
  return static_cast<const char*>(std::memchr(at, '\n', static_cast<size_t>(end - at)));
}
// Where the line ends whose '\n' is at `newline`: one CR before it belongs to the end.
inline const char* LineEnd(const char* at, const char* newline) {
  return newline != at && newline[-1] == '\r' ? newline - 1 : newline;
}

// Removes the next word from the front of `words`; only blanks separate words. Empty if there is none.
std::string_view NextWord(std::string_view* words);
// The last word; `words` is unchanged.
std::string_view LastWord(std::string_view words);

// Decimal digits and nothing else, up to 2^64 - 1.
[[nodiscard]] bool ParseUint64(std::string_view word, uint64_t* number);
// The same, up to 2^32 - 1.
[[nodiscard]] bool ParseUint32(std::string_view word, uint32_t* number);
// Decimal digits after an optional sign, within 32 bits.
[[nodiscard]] bool ParseInt32(std::string_view word, int32_t* number);

// The length of a data block: two bytes of line end must fit beside it into 31 bits.
[[nodiscard]] bool ParseBodyBytes(std::string_view word, uint32_t* bytes);
// A sign is let through here and not before the length: so it is in memcached.
[[nodiscard]] bool ParseClientFlags(std::string_view word, uint32_t* flags);

// True if every word is short enough to be a key. REQUIRES: `words` is not empty.
bool AreKeys(std::string_view words);

// True if an unfinished line may be as long as kGetLineBytesMax.
bool IsGetLine(std::string_view line);

}  // namespace cairn
