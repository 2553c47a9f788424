#include "addon/answer.h"

#include <cstring>
#include <new>

#include "addon/convert.h"

namespace cairn {
namespace {

// Decimal digits that a double always holds exactly.
constexpr size_t kExactDigits = 15;

// Whole numbers as String(number) writes them; everything else ("-0", fractions, exponents) is TypeScript's.
napi_value WholeNumber(napi_env env, const char* data, size_t bytes) {
  size_t i = 0;
  const bool negative = bytes > 0 && data[0] == '-';
  if (negative) i = 1;
  if (i == bytes || bytes - i > kExactDigits || (negative && data[i] == '0')) return nullptr;
  int64_t number = 0;
  for (; i < bytes; i++) {
    const unsigned digit = static_cast<unsigned char>(data[i]) - '0';
    if (digit > 9) return nullptr;
    number = number * 10 + digit;
  }
  return Double(env, static_cast<double>(negative ? -number : number));
}

// What is answered with a value that LargeValue() has made.
napi_value GiveLarge(napi_env env, const CacheHandle* handle, const Outcome& outcome, napi_value value) {
  switch (outcome.codec) {
    case Codec::kAscii:
    case Codec::kUtf8:
      return value;
    case Codec::kRaw:
      if (handle->raw_as_buffer) return value;
      break;
    default:
      break;
  }
  Environment* environment = handle->environment;
  environment->pending_buffer.Reset(Napi::Value(env, value), 1);
  return Elsewhere(env, handle, outcome.codec, outcome.value_bytes, outcome.client_flags, ValuePlace::kBuffer);
}

napi_value AnswerLarge(napi_env env, const CacheHandle* handle, const Outcome& outcome, const char* copied) {
  napi_value value = LargeValue(env, handle, outcome, copied);
  if (value == nullptr) return Refuse(env, handle, Code::kOutOfMemory);
  return GiveLarge(env, handle, outcome, value);
}

}  // namespace

napi_value Elsewhere(napi_env env, const CacheHandle* handle, Codec codec, uint32_t bytes, uint32_t client_flags,
                     ValuePlace place) {
  Environment* environment = handle->environment;
  environment->Set(Word::kCodec, static_cast<uint64_t>(codec));
  environment->Set(Word::kValueBytes, bytes);
  environment->Set(Word::kPlace, static_cast<uint64_t>(place));
  environment->Set(Word::kClientFlags, client_flags);
  return Boolean(env, true);
}

napi_value DirectValue(napi_env env, Codec codec, const char* data, size_t bytes) {
  napi_value value = nullptr;
  switch (codec) {
    case Codec::kAscii:
      if (napi_create_string_latin1(env, data, bytes, &value) != napi_ok) return nullptr;
      return value;
    case Codec::kUtf8:
      return Utf8Text(env, data, bytes);
    case Codec::kNumber:
      return WholeNumber(env, data, bytes);
    default:
      return nullptr;
  }
}

napi_value LargeValue(napi_env env, const CacheHandle* handle, const Outcome& outcome, const char* copied) {
  const size_t bytes = outcome.value_bytes;
  const bool pinned = outcome.pin.ref != 0;
  napi_value value = nullptr;
  if (outcome.codec == Codec::kAscii || outcome.codec == Codec::kUtf8) {
    std::unique_ptr<char[]> text;
    if (pinned) {
      text.reset(new (std::nothrow) char[bytes]);
      if (text != nullptr) handle->store->ReadPinned(outcome.pin, 0, text.get(), bytes);
      handle->store->Unpin(outcome.pin);
      if (text == nullptr) return nullptr;
      copied = text.get();
    }
    return DirectValue(env, outcome.codec, copied, bytes);
  }
  void* data = nullptr;
  if (napi_create_buffer(env, bytes, &data, &value) != napi_ok) {
    // Node has thrown; the error that names the key is made in TypeScript.
    napi_value error;
    napi_get_and_clear_last_exception(env, &error);
    value = nullptr;
  }
  if (pinned) {
    if (value != nullptr) handle->store->ReadPinned(outcome.pin, 0, static_cast<char*>(data), bytes);
    handle->store->Unpin(outcome.pin);
  } else if (value != nullptr && bytes != 0) {
    std::memcpy(data, copied, bytes);
  }
  return value;
}

bool ExecuteWithRoom(const CacheHandle* handle, const Request& request, const Now& now, Outcome* outcome,
                     std::unique_ptr<char[]>* copied) {
  // Another thread may replace the entry by a larger one between two tries, so the number of tries has no fixed limit;
  // each try means that the other thread made progress.
  while (outcome->status == Status::kNeedsRoom) {
    const size_t bytes = outcome->value_bytes;
    copied->reset(new (std::nothrow) char[bytes]);
    if (*copied == nullptr) return false;
    Scratch scratch{copied->get(), bytes, 0};
    *outcome = Outcome{};
    handle->store->Execute(request, now, &scratch, outcome);
  }
  return true;
}

napi_value Answer(napi_env env, const CacheHandle* handle, const Request& request, const Now& now, Outcome* outcome) {
  Scratch scratch{handle->environment->scratch, kScratchBytes, 0};
  handle->store->Execute(request, now, &scratch, outcome);
  if (outcome->status == Status::kFound && outcome->pin.ref == 0) [[likely]] {
    const char* data = scratch.data + outcome->value_offset;
    napi_value value = DirectValue(env, outcome->codec, data, outcome->value_bytes);
    if (value != nullptr) [[likely]]
      return value;
    DCHECK(outcome->value_offset == 0);
    return Elsewhere(env, handle, outcome->codec, outcome->value_bytes, outcome->client_flags, ValuePlace::kScratch);
  }
  if (outcome->status == Status::kNotFound) return Undefined(env);
  std::unique_ptr<char[]> copied;
  if (!ExecuteWithRoom(handle, request, now, outcome, &copied)) return Refuse(env, handle, Code::kOutOfMemory);
  if (outcome->status == Status::kNotFound) return Undefined(env);
  if (outcome->status != Status::kFound) return Refuse(env, handle, CodeOf(outcome->status));
  return AnswerLarge(env, handle, *outcome, copied.get() + outcome->value_offset);
}

napi_value Refuse(napi_env env, const CacheHandle* handle, Code code) {
  handle->environment->Set(Word::kCode, static_cast<uint64_t>(code));
  return Boolean(env, false);
}

}  // namespace cairn
