#include "addon/payload.h"

#include <cstring>
#include <new>

#include "base/limits.h"

namespace cairn {

Code Payload::Read(napi_env env, const CacheHandle* handle, napi_value value) {
  Environment* environment = handle->environment;
  size_t bytes = 0;
  text = ReadText(env, value, environment->text_is_long, environment->scratch, kScratchBytes, &bytes);
  if (text < TextKind::kTooLong) [[likely]] {
    environment->text_is_long = bytes > kTextUnitsMax;
    view = std::string_view(environment->scratch, bytes);
    return Code::kFound;
  }
  if (text == TextKind::kTooLong) {
    if (napi_get_value_string_utf8(env, value, nullptr, 0, &bytes) != napi_ok) return Code::kInvalidValue;
    if (bytes > kValueBytesMax) return Code::kTooLarge;
    heap.reset(new (std::nothrow) char[bytes + 1]);
    if (heap == nullptr) return Code::kOutOfMemory;
    if (napi_get_value_string_utf8(env, value, heap.get(), bytes + 1, &bytes) != napi_ok) return Code::kInvalidValue;
    view = std::string_view(heap.get(), bytes);
    return Code::kFound;
  }
  char* data;
  if (!BytesOf(env, value, &data, &bytes)) return Code::kInvalidValue;
  if (bytes > kValueBytesMax) return Code::kTooLarge;
  view = std::string_view(data, bytes);
  may_change = true;
  if (bytes <= kCopyUnderLockBytesMax && handle->store->has_rings()) {
    std::memcpy(environment->scratch, data, bytes);
    view = std::string_view(environment->scratch, bytes);
    may_change = false;
  }
  return Code::kFound;
}

Expiry Expiry::Read(napi_env env, const CacheHandle* handle, napi_value ttl) {
  double number;
  if (napi_get_value_double(env, ttl, &number) != napi_ok) return Default(handle);
  if (number < 0) return {Kind::kKeep, 0};
  if (number == 0) return {Kind::kNever, 0};
  return {Kind::kIn, static_cast<uint64_t>(number)};
}

void ExecuteStore(Store* store, const Request& request, const Now& now, Outcome* outcome) {
  // Its size has 32 bits.
  if (request.value.size() > kCopyUnderLockBytesMax && request.value.size() <= kValueBytesMax &&
      (request.expires_ms != kKeepExpiry || request.value.size() > kBodyKeepsExpiryBytesMin)) [[unlikely]] {
    switch (request.verb) {
      case Verb::kSet:
      case Verb::kAdd:
      case Verb::kReplace:
      case Verb::kCas: {
        // It will be refused, and Execute() says what came of that.
        if (request.value.size() > store->value_bytes_max()) break;
        Body body;
        outcome->status = store->Reserve(request, static_cast<uint32_t>(request.value.size()), now, &body);
        // Too many bodies are on their way: then it is copied under the lock.
        if (outcome->status == Status::kNoMemory) break;
        if (outcome->status != Status::kStored) return;
        if (!store->WriteBody(body, 0, request.value)) break;
        store->Link(&body, request, now, outcome);
        if (outcome->status == Status::kNoMemory) break;  // this thread stalled, and its place was taken away
        if (body) store->Abandon(&body);                  // Link keeps one that may be linked again
        return;
      }
      default:
        break;
    }
  }
  Scratch scratch;
  store->Execute(request, now, &scratch, outcome);
}

bool CodecOfText(TextKind kind, const char* data, size_t bytes, Codec* codec) {
  if (kind >= TextKind::kUnseen) kind = KindOfUtf8(data, bytes);
  *codec = kind == TextKind::kAscii ? Codec::kAscii : Codec::kUtf8;
  return kind != TextKind::kIllFormed;
}

Code Payload::ReadInto(napi_env env, const CacheHandle* handle, napi_value value, napi_value codec, Request* request) {
  const Code code = Read(env, handle, value);
  if (code != Code::kFound) return code;
  request->value = view;
  request->value_may_change = may_change;
  const uint64_t number = NumberOr(env, codec, kTextCodec);
  if (number < kCodecCount) {
    request->codec = static_cast<Codec>(number);
    return Code::kFound;
  }
  return CodecOf(&request->codec) ? Code::kFound : Code::kValueMaybeIllFormed;
}

bool Payload::CodecOf(Codec* codec) const { return CodecOfText(text, view.data(), view.size(), codec); }

}  // namespace cairn
