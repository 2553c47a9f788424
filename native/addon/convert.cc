#include "addon/convert.h"

#include <cmath>
#include <cstring>
#include <new>

#if defined(__SSE2__)
#include <emmintrin.h>
#endif

namespace cairn {
namespace {

// Beyond this many bytes a string may have been cut off by the end of the buffer: V8 writes whole characters only.
constexpr size_t kCutBytes = 4;

// True if the bytes hold EF BF BD, which is what a lone surrogate becomes when V8 writes UTF-8.
bool HasReplacement(const char* data, size_t bytes) {
  const char* const end = data + bytes;
  while (true) {
    const char* found = static_cast<const char*>(std::memchr(data, 0xEF, static_cast<size_t>(end - data)));
    if (found == nullptr || end - found < 3) return false;
    if (static_cast<uint8_t>(found[1]) == 0xBF && static_cast<uint8_t>(found[2]) == 0xBD) return true;
    data = found + 1;
  }
}

// The low bytes of the units; false if one of them is not ASCII. `bytes` has room for a word more than that.
//
// V8 has written the units sixteen at a time, and the rest of them singly. A load gets what was written just before
// without waiting only from one store, so they are read as they were written. Into `bytes` they go as words, because
// that is how a hash reads them.
inline bool Narrow(const char16_t* units, size_t count, char* bytes) {
  size_t i = 0;
  uint64_t seen = 0;
#if defined(__SSE2__)
  if (count >= 16) {
    __m128i all = _mm_setzero_si128();
    for (; i + 16 <= count; i += 16) {
      const __m128i first = _mm_loadu_si128(reinterpret_cast<const __m128i*>(units + i));
      const __m128i second = _mm_loadu_si128(reinterpret_cast<const __m128i*>(units + i + 8));
      all = _mm_or_si128(all, _mm_or_si128(first, second));
      _mm_storeu_si128(reinterpret_cast<__m128i*>(bytes + i), _mm_packus_epi16(first, second));
    }
    const __m128i beyond = _mm_and_si128(all, _mm_set1_epi16(static_cast<int16_t>(0xff80)));
    if (_mm_movemask_epi8(_mm_cmpeq_epi16(beyond, _mm_setzero_si128())) != 0xffff) return false;
  }
#endif
  for (; i < count; i += 8) {
    uint64_t word = 0;
    const size_t rest = count - i < 8 ? count - i : 8;
    for (size_t k = 0; k < rest; k++) {
      const uint64_t unit = units[i + k];
      seen |= unit;
      word |= unit << (8 * k);
    }
    std::memcpy(bytes + i, &word, sizeof(word));
  }
  return seen < 0x80;
}

// As UTF-8, U+FFFD for lone surrogates. `bytes` has room for three times as many bytes and one more: characters are
// written as words, of which the next one overwrites what is too much.
TextKind Utf8Of(const char16_t* units, size_t count, char* bytes, size_t* size) {
  TextKind kind = TextKind::kUtf8;
  char* to = bytes;
  for (size_t i = 0; i < count; i++) {
    const uint32_t unit = units[i];
    if (unit < 0x80) {
      *to++ = static_cast<char>(unit);
    } else if (unit < 0x800) {
      const auto word = static_cast<uint16_t>(0x80C0 | unit >> 6 | (unit & 0x3F) << 8);
      std::memcpy(to, &word, sizeof(word));
      to += 2;
    } else if ((unit & 0xFC00) == 0xD800 && i + 1 < count && (units[i + 1] & 0xFC00) == 0xDC00) {
      const uint32_t point = 0x10000 + ((unit & 0x3FF) << 10 | (units[++i] & 0x3FF));
      const uint32_t word =
          0x808080F0 | point >> 18 | (point >> 12 & 0x3F) << 8 | (point >> 6 & 0x3F) << 16 | (point & 0x3F) << 24;
      std::memcpy(to, &word, sizeof(word));
      to += 4;
    } else {
      const bool is_lone = (unit & 0xF800) == 0xD800;
      if (is_lone) kind = TextKind::kIllFormed;
      const uint32_t point = is_lone ? 0xFFFD : unit;
      const uint32_t word = 0x8080E0 | point >> 12 | (point >> 6 & 0x3F) << 8 | (point & 0x3F) << 16;
      std::memcpy(to, &word, sizeof(word));
      to += 3;
    }
  }
  *size = static_cast<size_t>(to - bytes);
  return kind;
}

TextKind ReadLongText(napi_env env, napi_value value, char* room, size_t capacity, size_t* bytes) {
  if (napi_get_value_string_utf8(env, value, room, capacity, bytes) != napi_ok) return TextKind::kNoText;
  return *bytes >= capacity - kCutBytes ? TextKind::kTooLong : TextKind::kUnseen;
}

}  // namespace

bool HasHighBit(const char* data, size_t bytes) {
  constexpr uint64_t kHighBits = 0x8080808080808080ULL;
  uint64_t seen = 0;
  size_t i = 0;
  for (; i + 32 <= bytes; i += 32) {
    uint64_t words[4];
    std::memcpy(words, data + i, sizeof(words));
    seen |= words[0] | words[1] | words[2] | words[3];
    if ((seen & kHighBits) != 0) return true;
  }
  for (; i + 8 <= bytes; i += 8) {
    uint64_t word;
    std::memcpy(&word, data + i, sizeof(word));
    seen |= word;
  }
  for (; i < bytes; i++) seen |= static_cast<uint8_t>(data[i]);
  return (seen & kHighBits) != 0;
}

TextKind KindOfUtf8(const char* data, size_t bytes) {
  if (!HasHighBit(data, bytes)) return TextKind::kAscii;
  return HasReplacement(data, bytes) ? TextKind::kIllFormed : TextKind::kUtf8;
}

TextKind ReadText(napi_env env, napi_value value, bool is_long, char* room, size_t capacity, size_t* bytes) {
  DCHECK(capacity > kTextRoomMin);
  if (is_long) [[unlikely]]
    return ReadLongText(env, value, room, capacity, bytes);
  char16_t units[kTextUnitsMax + 2];  // one more, to see that there are no more, and V8's zero
  size_t count;
  if (napi_get_value_string_utf16(env, value, units, kTextUnitsMax + 2, &count) != napi_ok) return TextKind::kNoText;
  if (count > kTextUnitsMax) [[unlikely]]
    return ReadLongText(env, value, room, capacity, bytes);
  if (!Narrow(units, count, room)) [[unlikely]]
    return Utf8Of(units, count, room, bytes);
  *bytes = count;
  return TextKind::kAscii;
}

napi_value Utf8Text(napi_env env, const char* data, size_t bytes) {
  constexpr size_t kUnitsMax = 4096;
  napi_value value = nullptr;
  if (bytes > kUnitsMax) {
    napi_create_string_utf8(env, data, bytes, &value);
    return value;
  }
  char16_t units[kUnitsMax];
  size_t count = 0;
  unsigned seen = 0;  // of all units, to know whether one byte each is enough
  const auto* at = reinterpret_cast<const unsigned char*>(data);
  const unsigned char* const end = at + bytes;
  while (at < end) {
    const unsigned lead = *at;
    unsigned point;
    if (lead < 0x80) {
      point = lead;
      at += 1;
    } else if (lead < 0xE0 && end - at >= 2) {
      point = (lead & 0x1F) << 6 | (at[1] & 0x3F);
      at += 2;
    } else if (lead < 0xF0 && end - at >= 3) {
      point = (lead & 0x0F) << 12 | (at[1] & 0x3Fu) << 6 | (at[2] & 0x3F);
      at += 3;
    } else if (end - at >= 4) {
      point = (lead & 0x07) << 18 | (at[1] & 0x3Fu) << 12 | (at[2] & 0x3Fu) << 6 | (at[3] & 0x3F);
      at += 4;
      point -= 0x10000;
      units[count++] = static_cast<char16_t>(0xD800 | point >> 10);
      point = 0xDC00 | (point & 0x3FF);
    } else {
      // Not well-formed after all: V8 says what it is.
      napi_create_string_utf8(env, data, bytes, &value);
      return value;
    }
    units[count++] = static_cast<char16_t>(point);
    seen |= point;
  }
  if (seen > 0xFF) {
    napi_create_string_utf16(env, units, count, &value);
    return value;
  }
  char narrow[kUnitsMax];
  for (size_t i = 0; i < count; i++) narrow[i] = static_cast<char>(units[i]);
  napi_create_string_latin1(env, narrow, count, &value);
  return value;
}

Code KeyArgument::ReadSlow(napi_env env, napi_value value, TextKind kind, size_t read_bytes) {
  size_t bytes;
  switch (kind) {
    case TextKind::kAscii:
    case TextKind::kUtf8:
      return Code::kInvalidKey;  // empty
    case TextKind::kIllFormed:
      return Code::kKeyMaybeIllFormed;
    case TextKind::kUnseen:
      view_ = std::string_view(stack_, read_bytes);
      return KindOfUtf8(stack_, read_bytes) == TextKind::kIllFormed ? Code::kKeyMaybeIllFormed : Code::kFound;
    case TextKind::kTooLong:
      if (napi_get_value_string_utf8(env, value, nullptr, 0, &bytes) != napi_ok || bytes > kKeyBytesMax) {
        return Code::kInvalidKey;
      }
      heap_.reset(new (std::nothrow) char[bytes + 1]);
      if (heap_ == nullptr) return Code::kOutOfMemory;
      if (napi_get_value_string_utf8(env, value, heap_.get(), bytes + 1, &bytes) != napi_ok) return Code::kInvalidKey;
      view_ = std::string_view(heap_.get(), bytes);
      return KindOfUtf8(heap_.get(), bytes) == TextKind::kIllFormed ? Code::kKeyMaybeIllFormed : Code::kFound;
    case TextKind::kNoText:
      break;
  }
  char* data;
  if (!BytesOf(env, value, &data, &bytes) || bytes == 0 || bytes > kKeyBytesMax) return Code::kInvalidKey;
  // Copied, because another thread may write to it where it is a view of a SharedArrayBuffer, and a key that changes
  // between hashing and comparing is no key.
  char* copy = stack_;
  if (bytes > sizeof(stack_)) {
    heap_.reset(new (std::nothrow) char[bytes]);
    if (heap_ == nullptr) return Code::kOutOfMemory;
    copy = heap_.get();
  }
  std::memcpy(copy, data, bytes);
  view_ = std::string_view(copy, bytes);
  return Code::kFound;
}

bool BytesOf(napi_env env, napi_value value, char** data, size_t* bytes) {
  napi_typedarray_type type;
  size_t length;
  void* start;
  if (napi_get_typedarray_info(env, value, &type, &length, &start, nullptr, nullptr) != napi_ok) return false;
  if (type != napi_uint8_array) return false;
  *data = static_cast<char*>(start);
  *bytes = length;
  return true;
}

uint64_t NumberOr(napi_env env, napi_value value, uint64_t otherwise) {
  double number;
  if (napi_get_value_double(env, value, &number) != napi_ok) return otherwise;
  // Infinity is the largest number here; NaN and negative numbers are not whole numbers.
  if (!(number >= 0)) return otherwise;
  if (number >= 18446744073709551615.0) return ~uint64_t{0};
  return static_cast<uint64_t>(number);
}

bool BooleanOr(napi_env env, napi_value value, bool otherwise) {
  bool result;
  return napi_get_value_bool(env, value, &result) == napi_ok ? result : otherwise;
}

std::string StringOf(napi_env env, napi_value value) {
  size_t bytes;
  std::string result;
  if (napi_get_value_string_utf8(env, value, nullptr, 0, &bytes) != napi_ok) return result;
  result.resize(bytes + 1);
  napi_get_value_string_utf8(env, value, result.data(), bytes + 1, &bytes);
  result.resize(bytes);
  return result;
}

}  // namespace cairn
