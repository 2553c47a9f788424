// Reads lines of the meta protocol: bytes -> MetaLine. Functions over bytes; no store, no I/O, no allocation.
//
// A flag is a letter and what follows it. All commands take all flags, and use those that they know.
//
// T, N and R take milliseconds too, as "T1500ms". memcached refuses a number with letters behind it, so a client that
// asks memcached for milliseconds gets an error and not another time.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string_view>

#include "base/limits.h"
#include "protocol/exptime.h"
#include "protocol/request.h"
#include "protocol/response.h"

namespace cairn {

// The most words of a line, its command included.
inline constexpr size_t kMetaWordsMax = 20;
// The most bytes of an opaque token, its letter included.
inline constexpr size_t kOpaqueBytesMax = 32;

// A parsed line. Views point into it, or into the bytes that were parsed. Not copied, because of the former.
struct MetaLine {
  MetaLine() = default;
  MetaLine(const MetaLine&) = delete;
  MetaLine& operator=(const MetaLine&) = delete;

  Command command = Command::kMetaGet;
  bool has_error = false;
  Reply error = Reply::kError;
  // ms: a data block of body_bytes and a line end follow, also if the line is wrong.
  bool has_body = false;
  uint32_t body_bytes = 0;

  std::string_view key;
  // b: the key came in base64, and `key` is what that means.
  bool is_base64 = false;

  // The flags in their order; a flag is there at most once.
  std::string_view flags[kMetaWordsMax];
  size_t flag_count = 0;
  bool has(char letter) const {
    const unsigned index = static_cast<unsigned char>(letter);
    return index >= 64 && index < 128 && (letters >> (index - 64) & 1) != 0;
  }
  uint64_t letters = 0;

  // What followed the letters; 0 if the flag is not there.
  uint32_t client_flags = 0;  // F
  FlagTime time;              // T
  FlagTime vivify_time;       // N
  FlagTime recache_time;      // R
  uint64_t compare = 0;       // C
  uint64_t cas = 0;           // E
  uint64_t delta = 1;         // D
  uint64_t initial = 0;       // J
  char mode = '\0';           // M, in capitals as memcached has them; '\0' without M

 private:
  friend void ParseMetaLine(Command command, std::string_view words, MetaLine* line);
  char decoded_[kKeyBytesInlineMax];
};

// Reads `words`, what is behind the command's name.
void ParseMetaLine(Command command, std::string_view words, MetaLine* line);

}  // namespace cairn
