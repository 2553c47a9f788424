// JavaScript values to C++ and back, at the cost that the measurements of Node-API calls allow: a string is read in one
// call into a buffer of the caller; a second one only when it fills up.
#pragma once

#include <napi.h>

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>

#include "base/check.h"
#include "base/limits.h"
#include "store/request.h"

namespace cairn {

// Answers of the addon to src/native.ts, which turns them into results and errors. 0..15 are the store's Status.
// Never thrown as errors from here: the stack that helps the user is in TypeScript.
enum class Code : uint32_t {
  kStored = static_cast<uint32_t>(Status::kStored),
  kNotStored = static_cast<uint32_t>(Status::kNotStored),
  kExists = static_cast<uint32_t>(Status::kExists),
  kNotFound = static_cast<uint32_t>(Status::kNotFound),
  kFound = static_cast<uint32_t>(Status::kFound),
  kNonNumeric = static_cast<uint32_t>(Status::kNonNumeric),
  kTooLarge = static_cast<uint32_t>(Status::kTooLarge),
  kNoMemory = static_cast<uint32_t>(Status::kNoMemory),
  kLogFull = static_cast<uint32_t>(Status::kLogFull),
  kNeedsRoom = static_cast<uint32_t>(Status::kNeedsRoom),
  kNotResident = static_cast<uint32_t>(Status::kNotResident),
  kClosed = 16,             // the handle, or the cache for everybody
  kInvalidKey = 17,         // not a string, Buffer or Uint8Array; empty; too long
  kKeyMaybeIllFormed = 18,  // holds U+FFFD: a lone surrogate or a real one; TypeScript looks and asks again with bytes
  kValueMaybeIllFormed = 19,  // the same in a text value
  kInvalidValue = 20,         // neither string nor bytes
  kOutOfMemory = 21,          // of the process: a buffer for the answer could not be made
  kNameTaken = 22,
  kNoSuchCache = 23,
  kNotReady = 24,
  kRefused = 25,  // takeMessage() has the sentence
};

inline Code CodeOf(Status status) { return static_cast<Code>(status); }

inline napi_value Undefined(napi_env env) {
  napi_value value;
  napi_get_undefined(env, &value);
  return value;
}
inline napi_value Boolean(napi_env env, bool is_true) {
  napi_value value;
  napi_get_boolean(env, is_true, &value);
  return value;
}
inline napi_value Uint32(napi_env env, uint32_t number) {
  napi_value value;
  napi_create_uint32(env, number, &value);
  return value;
}
inline napi_value Double(napi_env env, double number) {
  napi_value value;
  napi_create_double(env, number, &value);
  return value;
}
inline napi_value Text(napi_env env, std::string_view text) {
  napi_value value = nullptr;
  napi_create_string_utf8(env, text.data(), text.size(), &value);
  return value;
}
inline napi_value CodeValue(napi_env env, Code code) { return Uint32(env, static_cast<uint32_t>(code)); }
// The same for callbacks of node-addon-api.
inline Napi::Value CodeNumber(Napi::Env env, Code code) { return Napi::Value(env, CodeValue(env, code)); }

// True if a byte is not ASCII.
bool HasHighBit(const char* data, size_t bytes);

// Makes the string of well-formed UTF-8 that is not all ASCII. Up to a few kilobytes three times as fast as
// napi_create_string_utf8, which goes over the bytes twice, one state at a time. Null if V8 cannot make it.
napi_value Utf8Text(napi_env env, const char* data, size_t bytes);

// What a JavaScript value is, read as text.
enum class TextKind : uint8_t {
  kAscii,
  kUtf8,       // well-formed, not all ASCII
  kIllFormed,  // it holds lone surrogates, or may hold them: U+FFFD stands in their place
  kUnseen,     // long text as V8 wrote it: KindOfUtf8() says what it is
  kTooLong,    // for the room that was given
  kNoText,     // it is no string
};

// kAscii, kUtf8 or kIllFormed, of bytes that V8 wrote.
TextKind KindOfUtf8(const char* data, size_t bytes);

// Brings a string into `room` as UTF-8, and says how many bytes that is. REQUIRES: capacity > kTextRoomMin.
//
// Up to kTextUnitsMax units are asked for as UTF-16, which V8 copies in one go, and made into bytes here, where whether
// they are ASCII and well-formed is found on the way: a third less work than napi_get_value_string_utf8 and a look at
// every byte after it. For longer text that does not pay; `is_long` true says that it probably is such.
[[nodiscard]] TextKind ReadText(napi_env env, napi_value value, bool is_long, char* room, size_t capacity,
                                size_t* bytes);
inline constexpr size_t kTextUnitsMax = 511;
inline constexpr size_t kTextRoomMin = 3 * kTextUnitsMax;

// The bytes of a key for the duration of a call: keys of usual size in the object itself, long ones on the heap, bytes
// of a Buffer where they are (no JavaScript runs in between).
class KeyArgument {
 public:
  // kFound: view() is valid. Otherwise kInvalidKey or kKeyMaybeIllFormed.
  [[nodiscard]] Code Read(napi_env env, napi_value value) {
    size_t bytes = 0;
    const TextKind kind = ReadText(env, value, false, stack_, sizeof(stack_), &bytes);
    if (kind <= TextKind::kUtf8 && bytes != 0) [[likely]] {
      view_ = std::string_view(stack_, bytes);
      return Code::kFound;
    }
    return ReadSlow(env, value, kind, bytes);
  }
  std::string_view view() const { return view_; }

 private:
  Code ReadSlow(napi_env env, napi_value value, TextKind kind, size_t read_bytes);
  char stack_[kTextRoomMin + 1];
  std::unique_ptr<char[]> heap_;
  std::string_view view_;
};

// Bytes of a Buffer, Uint8Array or DataView; false if it is none of them. Valid until JavaScript runs.
bool BytesOf(napi_env env, napi_value value, char** data, size_t* bytes);

// A whole number given as a JavaScript number; `otherwise` if it is not one.
uint64_t NumberOr(napi_env env, napi_value value, uint64_t otherwise);
bool BooleanOr(napi_env env, napi_value value, bool otherwise);
std::string StringOf(napi_env env, napi_value value);
inline uint64_t NumberOr(Napi::Value value, uint64_t otherwise) { return NumberOr(value.Env(), value, otherwise); }
inline bool BooleanOr(Napi::Value value, bool otherwise) { return BooleanOr(value.Env(), value, otherwise); }
inline std::string StringOf(Napi::Value value) { return StringOf(value.Env(), value); }
inline bool BytesOf(Napi::Value value, char** data, size_t* bytes) { return BytesOf(value.Env(), value, data, bytes); }

// The numbers of a typed array of T; null if the value is none.
template <class T>
T* NumbersOf(Napi::Value value, napi_typedarray_type type, size_t* count) {
  if (!value.IsTypedArray() || value.As<Napi::TypedArray>().TypedArrayType() != type) return nullptr;
  auto array = value.As<Napi::TypedArrayOf<T>>();
  *count = array.ElementLength();
  return array.Data();
}

}  // namespace cairn
