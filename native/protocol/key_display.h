// How lists and event lines show keys: encoded as in a URI, or hidden.
//
// A hidden key is a word of 16 hexadecimal digits in its place, by a keyed hash whose secret is of this process's
// making and never leaves it. The same key has the same word for as long as the server lives, so that lines can be
// counted and joined by key. Without the secret, guessed keys cannot be tried against the words.
//
// Thread safety: immutable; any thread.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string_view>

#include "base/limits.h"
#include "protocol/byte_buffer.h"

namespace cairn {

// The most bytes of an encoded key that a client can send.
inline constexpr size_t kEncodedKeyBytesMax = 3 * kKeyBytesInlineMax;
inline constexpr size_t kHiddenKeyBytes = 16;

// Writes the key as in a URI: every byte except letters, digits and -._~ is %XX. Returns the end; up to three bytes for
// each byte of the key.
char* WriteEncoded(std::string_view key, char* to);
// The other way: what an encoded word means, to `to`, which has room for the word. False: a % without two hexadecimal
// digits.
[[nodiscard]] bool ReadEncoded(std::string_view word, char* to, size_t* bytes);

class KeyDisplay {
 public:
  explicit KeyDisplay(bool hides);

  bool hides() const { return hides_; }
  // Encoded, or hidden. At most three bytes for each byte of the key, and no less room than kHiddenKeyBytes.
  char* Write(std::string_view key, char* to) const { return hides_ ? WriteHidden(key, to) : WriteEncoded(key, to); }
  // REQUIRES: room for kHiddenKeyBytes.
  char* WriteHidden(std::string_view key, char* to) const;
  void Append(std::string_view key, ByteBuffer* out) const;

 private:
  const bool hides_;
  uint64_t secret_[2] = {};
};

}  // namespace cairn
