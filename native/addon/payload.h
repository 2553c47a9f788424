// The arguments of a storing verb: the bytes of a value, their codec, and the entry's expiry.
#pragma once

#include <napi.h>

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string_view>

#include "addon/convert.h"
#include "addon/environment.h"
#include "store/store.h"

namespace cairn {

// The expiry that a verb stores: `ttl` is undefined (the cache's default), 0 (never), -1 (keep the entry's), or
// milliseconds.
struct Expiry {
  enum class Kind : uint8_t { kNever, kKeep, kIn } kind = Kind::kNever;
  uint64_t ttl_ms = 0;

  static Expiry Read(napi_env env, const CacheHandle* handle, napi_value ttl);
  static Expiry Default(const CacheHandle* handle) {
    return {handle->ttl_ms != 0 ? Kind::kIn : Kind::kNever, handle->ttl_ms};
  }
  bool timed() const { return kind == Kind::kIn; }
  uint64_t At(const Now& now) const {
    return kind == Kind::kIn ? now.boot_ms + ttl_ms : kind == Kind::kKeep ? kKeepExpiry : kNeverExpires;
  }
};

// The bytes of a payload that TypeScript passes: a string, or bytes. Strings of usual size are copied to the scratch;
// so are bytes if there is a log: see Request::value_may_change.
struct Payload {
  std::string_view view;
  TextKind text = TextKind::kNoText;
  bool may_change = false;  // JavaScript's own bytes, which another thread may change
  std::unique_ptr<char[]> heap;

  // kFound, kInvalidValue, kTooLarge or kOutOfMemory.
  [[nodiscard]] Code Read(napi_env env, const CacheHandle* handle, napi_value value);
  // Read() into a request, with the codec. If `codec` is kTextCodec or undefined, the codec is that of the text, and
  // the code may be kValueMaybeIllFormed. Other codes are those of Read().
  [[nodiscard]] Code ReadInto(napi_env env, const CacheHandle* handle, napi_value value, napi_value codec,
                              Request* request);
  // The codec of text: kAscii or kUtf8. False: the text has U+FFFD, which may stand for a lone surrogate.
  [[nodiscard]] bool CodecOf(Codec* codec) const;
};

// Executes a storing request: values above kCopyUnderLockBytesMax are copied in without a lock if the verb allows it.
void ExecuteStore(Store* store, const Request& request, const Now& now, Outcome* outcome);

// The same for text that ReadText() has read.
[[nodiscard]] bool CodecOfText(TextKind kind, const char* data, size_t bytes, Codec* codec);

}  // namespace cairn
