#include "protocol/key_display.h"

#include <algorithm>

#include "base/os.h"
#include "base/sip_hash.h"

namespace cairn {

namespace {

bool IsUnreserved(char c) {
  return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '-' || c == '.' ||
         c == '_' || c == '~';
}

// -1: none.
int HexDigit(char c) {
  if (c >= '0' && c <= '9') return c - '0';
  const char small = static_cast<char>(c | 0x20);
  return small >= 'a' && small <= 'f' ? small - 'a' + 10 : -1;
}

}  // namespace

char* WriteEncoded(std::string_view key, char* to) {
  constexpr char kDigits[] = "0123456789ABCDEF";
  for (const char c : key) {
    if (IsUnreserved(c)) {
      *to++ = c;
      continue;
    }
    const auto byte = static_cast<unsigned char>(c);
    *to++ = '%';
    *to++ = kDigits[byte >> 4];
    *to++ = kDigits[byte & 15];
  }
  return to;
}

bool ReadEncoded(std::string_view word, char* to, size_t* bytes) {
  const char* const begin = to;
  for (size_t i = 0; i < word.size(); i++) {
    if (word[i] != '%') {
      *to++ = word[i];
      continue;
    }
    const int high = i + 2 < word.size() ? HexDigit(word[i + 1]) : -1;
    const int low = i + 2 < word.size() ? HexDigit(word[i + 2]) : -1;
    if (high < 0 || low < 0) return false;
    *to++ = static_cast<char>(high << 4 | low);
    i += 2;
  }
  *bytes = static_cast<size_t>(to - begin);
  return true;
}

KeyDisplay::KeyDisplay(bool hides) : hides_(hides) {
  if (hides) OsRandom(secret_, sizeof secret_);
}

char* KeyDisplay::WriteHidden(std::string_view key, char* to) const {
  constexpr char kDigits[] = "0123456789abcdef";
  const uint64_t hash = SipHash<2, 4>(key, secret_[0], secret_[1]);
  for (size_t i = 0; i < kHiddenKeyBytes; i++) *to++ = kDigits[(hash >> (60 - 4 * i)) & 15];
  return to;
}

void KeyDisplay::Append(std::string_view key, ByteBuffer* out) const {
  char* const room = out->Room(std::max(3 * key.size(), kHiddenKeyBytes));
  if (room != nullptr) out->Advance(static_cast<size_t>(Write(key, room) - room));
}

}  // namespace cairn
