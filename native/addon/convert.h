// Converts JavaScript values to C++ and back, with as few Node-API calls as possible: a string is read in one call into
// a buffer of the caller, and in a second one only if the buffer is full.
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

// Answers of the addon to src/native.ts, which turns them into results and errors. 0..15 are the store's Status. The
// addon throws no errors, because the stack that helps the user is in TypeScript.
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
  kClosed = 16,               // the handle, or the cache for all handles
  kInvalidKey = 17,           // not a string, Buffer or Uint8Array; or empty; or too long
  kKeyMaybeIllFormed = 18,    // has U+FFFD, perhaps for a lone surrogate; TypeScript checks and calls again with bytes
  kValueMaybeIllFormed = 19,  // the same in a text value
  kInvalidValue = 20,         // neither string nor bytes
  kOutOfMemory = 21,          // the process has no memory for a buffer for the answer
  kNameTaken = 22,
  kNoSuchCache = 23,
  kNotReady = 24,
  kRefused = 25,        // takeRefusal() says why
  kNotAtomic = 26,      // the database behind cannot keep an atomic batch whole
  kAtomicUnknown = 27,  // it has not said yet whether it can
  kSeveralStores = 28,  // the keys of an atomic batch belong to several databases
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

// Makes the string of well-formed UTF-8 that is not all ASCII. Up to a few kilobytes this is three times as fast as
// napi_create_string_utf8, which reads the bytes twice, one state at a time. Null if V8 cannot make it.
napi_value Utf8Text(napi_env env, const char* data, size_t bytes);

// The kind of a JavaScript value that was read as text.
enum class TextKind : uint8_t {
  kAscii,
  kUtf8,       // well-formed, not all ASCII
  kIllFormed,  // has, or may have, lone surrogates: U+FFFD stands in their place
  kUnseen,     // long text as V8 wrote it: KindOfUtf8() tells its kind
  kTooLong,    // longer than the given room
  kNoText,     // not a string
};

// The kind of bytes that V8 wrote: kAscii, kUtf8 or kIllFormed.
TextKind KindOfUtf8(const char* data, size_t bytes);

// Writes a string to `room` as UTF-8, and its size to `*bytes`. REQUIRES: capacity > kTextRoomMin.
//
// Up to kTextUnitsMax units are read as UTF-16, which V8 copies at once, and encoded here, which also finds whether
// they are ASCII and well-formed: a third less work than napi_get_value_string_utf8 and a scan of the bytes. For longer
// text this does not pay; `is_long`: the text is probably longer.
[[nodiscard]] TextKind ReadText(napi_env env, napi_value value, bool is_long, char* room, size_t capacity,
                                size_t* bytes);
inline constexpr size_t kTextUnitsMax = 511;
inline constexpr size_t kTextRoomMin = 3 * kTextUnitsMax;

// The bytes of a key for the duration of a call: keys of usual size in this object, long ones on the heap, and those of
// a Buffer in place (no JavaScript runs meanwhile).
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

// The bytes of a Buffer, Uint8Array or DataView; false for other values. Valid until JavaScript runs.
bool BytesOf(napi_env env, napi_value value, char** data, size_t* bytes);

// An expiry in Unix milliseconds (0: never), as the boot clock has it.
inline uint64_t BootExpiryOf(uint64_t wall_ms, const Now& now) {
  if (wall_ms == 0) return kNeverExpires;
  const int64_t boot_ms = static_cast<int64_t>(wall_ms) - now.WallOffset();
  return boot_ms <= 0 ? kAlreadyExpired : static_cast<uint64_t>(boot_ms);
}

// The value as a whole number; `otherwise` if it is not one.
uint64_t NumberOr(napi_env env, napi_value value, uint64_t otherwise);
bool BooleanOr(napi_env env, napi_value value, bool otherwise);
std::string StringOf(napi_env env, napi_value value);
inline uint64_t NumberOr(Napi::Value value, uint64_t otherwise) { return NumberOr(value.Env(), value, otherwise); }
inline bool BooleanOr(Napi::Value value, bool otherwise) { return BooleanOr(value.Env(), value, otherwise); }
inline std::string StringOf(Napi::Value value) { return StringOf(value.Env(), value); }
inline bool BytesOf(Napi::Value value, char** data, size_t* bytes) { return BytesOf(value.Env(), value, data, bytes); }

// The numbers of a typed array of T; null for other values.
template <class T>
T* NumbersOf(Napi::Value value, napi_typedarray_type type, size_t* count) {
  if (!value.IsTypedArray() || value.As<Napi::TypedArray>().TypedArrayType() != type) return nullptr;
  auto array = value.As<Napi::TypedArrayOf<T>>();
  *count = array.ElementLength();
  return array.Data();
}

}  // namespace cairn
