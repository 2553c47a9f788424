#include "addon/convert.h"

#include <cmath>
#include <cstring>
#include <new>

namespace cairn {
namespace {

// Beyond this many bytes a string may have been cut off by the end of the buffer: V8 writes whole characters only.
constexpr size_t kCutBytes = 4;

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

bool HasReplacement(const char* data, size_t bytes) {
  const char* const end = data + bytes;
  while (true) {
    const char* found = static_cast<const char*>(std::memchr(data, 0xEF, static_cast<size_t>(end - data)));
    if (found == nullptr || end - found < 3) return false;
    if (static_cast<uint8_t>(found[1]) == 0xBF && static_cast<uint8_t>(found[2]) == 0xBD) return true;
    data = found + 1;
  }
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

Code KeyArgument::Read(napi_env env, napi_value value) {
  size_t bytes;
  const napi_status status = napi_get_value_string_utf8(env, value, stack_, sizeof(stack_), &bytes);
  if (status == napi_ok && bytes < sizeof(stack_) - kCutBytes) [[likely]] {
    view_ = std::string_view(stack_, bytes);
    if (HasHighBit(stack_, bytes) && HasReplacement(stack_, bytes)) [[unlikely]]
      return Code::kKeyMaybeIllFormed;
    return bytes != 0 ? Code::kFound : Code::kInvalidKey;
  }
  return ReadSlow(env, value, status == napi_ok);
}

Code KeyArgument::ReadSlow(napi_env env, napi_value value, bool is_string) {
  size_t bytes;
  if (is_string) {
    if (napi_get_value_string_utf8(env, value, nullptr, 0, &bytes) != napi_ok || bytes > kKeyBytesMax) {
      return Code::kInvalidKey;
    }
    heap_.reset(new (std::nothrow) char[bytes + 1]);
    if (heap_ == nullptr) return Code::kOutOfMemory;
    if (napi_get_value_string_utf8(env, value, heap_.get(), bytes + 1, &bytes) != napi_ok) return Code::kInvalidKey;
    view_ = std::string_view(heap_.get(), bytes);
    return HasReplacement(heap_.get(), bytes) ? Code::kKeyMaybeIllFormed : Code::kFound;
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
