// Keys in base64 (RFC 4648, with padding), as the meta protocol has them. Functions over bytes.
#pragma once

#include <cstddef>
#include <string_view>

namespace cairn {

inline constexpr size_t Base64Bytes(size_t bytes) { return (bytes + 2) / 3 * 4; }

// Decodes to `to`, which has room for three quarters of the text. Returns the bytes written; 0: it is not base64.
size_t DecodeBase64(std::string_view text, char* to);

// Writes Base64Bytes(bytes.size()) characters to `to`, and returns their end.
char* EncodeBase64(std::string_view bytes, char* to);

}  // namespace cairn
