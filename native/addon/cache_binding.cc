#include "addon/cache_binding.h"

#include <memory>

#include "addon/answer.h"

namespace cairn {
namespace {

// ---- reading ----

// get(key), of the cache that the words name: see Answer(). A miss, and a value that V8 makes a string of, take the
// shortest way there is.
napi_value Get(napi_env env, napi_callback_info info) {
  KeyCall<1, 0, HandleBy::kNumber> call(env, info);
  CacheHandle* handle = call.handle;
  if (call.code != Code::kFound) return Refuse(env, handle, call.code);
  const Now now = handle->instance->ReadNow(false);
  char* room = handle->environment->scratch;
  PlainValue found;
  const Status status = handle->store->GetPlain(call.key.view(), now, room, kCopyUnderLockBytesMax, &found);
  if (status == Status::kFound) [[likely]] {
    napi_value value = DirectValue(env, found.codec, room, found.value_bytes);
    if (value != nullptr) [[likely]]
      return value;
    return Elsewhere(env, handle, found.codec, found.value_bytes, found.client_flags, ValuePlace::kScratch);
  }
  if (status == Status::kNotFound) return nullptr;  // which is undefined
  Request request;
  request.key = call.key.view();
  Outcome outcome;
  return Answer(env, handle, request, now, &outcome);
}

// peek(key), getWithCas(key), which is kGet: the same; the words have the cas token.
template <Verb kVerb>
napi_value Read(napi_env env, napi_callback_info info) {
  KeyCall<1> call(env, info);
  if (call.code != Code::kFound) return Refuse(env, call.handle, call.code);
  Request request;
  request.verb = kVerb;
  request.key = call.key.view();
  Outcome outcome;
  napi_value value = Answer(env, call.handle, request, call.handle->instance->ReadNow(false), &outcome);
  call.handle->environment->Set(Word::kVersion, outcome.version);
  return value;
}

// getInto(key, bytes): the size of the value, which was copied if it fits; undefined; false: see the code.
napi_value GetInto(napi_env env, napi_callback_info info) {
  KeyCall<2> call(env, info);
  CacheHandle* handle = call.handle;
  if (call.code != Code::kFound) return Refuse(env, handle, call.code);
  Scratch target;
  if (!BytesOf(env, call[1], &target.data, &target.capacity)) return Refuse(env, handle, Code::kInvalidValue);
  Request request;
  request.key = call.key.view();
  Outcome outcome;
  handle->store->Execute(request, handle->instance->ReadNow(false), &target, &outcome);
  if (outcome.status == Status::kNotFound) return Undefined(env);
  if (outcome.status != Status::kFound && outcome.status != Status::kNeedsRoom) {
    return Refuse(env, handle, CodeOf(outcome.status));
  }
  if (outcome.pin.ref != 0) {
    if (outcome.value_bytes <= target.capacity) {
      handle->store->ReadPinned(outcome.pin, 0, target.data, outcome.value_bytes);
    }
    handle->store->Unpin(outcome.pin);
  }
  return Uint32(env, outcome.value_bytes);
}

// has(key): true, false, or a code.
napi_value Has(napi_env env, napi_callback_info info) {
  KeyCall<1> call(env, info);
  if (call.code != Code::kFound) return CodeValue(env, call.code);
  Request request;
  request.verb = Verb::kHas;
  request.key = call.key.view();
  Scratch scratch;
  Outcome outcome;
  call.handle->store->Execute(request, call.handle->instance->ReadNow(false), &scratch, &outcome);
  if (outcome.status == Status::kNotResident) return CodeValue(env, Code::kNotResident);
  return Boolean(env, outcome.status == Status::kFound);
}

// info(key): kFound with everything in the words, or another code.
napi_value Info(napi_env env, napi_callback_info info) {
  KeyCall<1> call(env, info);
  CacheHandle* handle = call.handle;
  if (call.code != Code::kFound) return CodeValue(env, call.code);
  Request request;
  request.verb = Verb::kHas;
  request.key = call.key.view();
  Scratch scratch;
  Outcome outcome;
  const Now now = handle->instance->ReadNow(false);
  handle->store->Execute(request, now, &scratch, &outcome);
  if (outcome.status != Status::kFound) return CodeValue(env, CodeOf(outcome.status));
  Environment* environment = handle->environment;
  environment->Set(Word::kCodec, static_cast<uint64_t>(outcome.codec));
  environment->Set(Word::kValueBytes, outcome.value_bytes);
  environment->Set(Word::kVersion, outcome.version);
  // An entry that expires in this very millisecond would not have been found.
  const uint64_t end_ms = EndMs(outcome.expires_ms, outcome.fresh_until_ms);
  environment->Set(Word::kExpiresIn, end_ms == kNeverExpires ? 0 : end_ms - now.boot_ms);
  environment->Set(Word::kClientFlags, outcome.client_flags);
  environment->Set(Word::kIdleSeconds, outcome.idle_s);
  environment->Set(Word::kFetched, outcome.fetched ? 1 : 0);
  return CodeValue(env, Code::kFound);
}

// ---- storing ----

// set(key, text), of the cache that the words name: undefined where it was stored, or a code. Text with the cache's
// time to live; everything else is store()'s.
napi_value SetText(napi_env env, napi_callback_info info) {
  KeyCall<2, 0, HandleBy::kNumber> call(env, info);
  CacheHandle* handle = call.handle;
  if (call.code != Code::kFound) return CodeValue(env, call.code);
  Payload payload;
  const Code code = payload.Read(env, handle, call[1]);
  if (code != Code::kFound) return CodeValue(env, code);
  if (payload.text == TextKind::kNoText) return CodeValue(env, Code::kInvalidValue);
  Codec codec;
  if (!payload.CodecOf(&codec)) return CodeValue(env, Code::kValueMaybeIllFormed);
  const Expiry expiry = Expiry::Default(handle);
  const Now now = handle->instance->ReadNow(expiry.timed());
  const uint64_t expires_ms = expiry.At(now);
  Status status;
  if (payload.view.size() <= kCopyUnderLockBytesMax) [[likely]] {
    status = handle->store->SetPlain(call.key.view(), payload.view, codec, expires_ms, now);
    if (status == Status::kStored) [[likely]]
      return nullptr;
  } else {
    Request request;
    request.verb = Verb::kSet;
    request.key = call.key.view();
    request.value = payload.view;
    request.codec = codec;
    request.expires_ms = expires_ms;
    Outcome outcome;
    ExecuteStore(handle->store, request, now, &outcome);
    status = outcome.status;
  }
  return CodeValue(env, CodeOf(status));
}

// store(verb, key, payload, codec, ttl, compare, flags): a code; the words have the version. `codec` kTextCodec: text
// whose kind is found here. `compare` true: only if the version is the one in the words. `flags`: the client flags, 0
// if left out.
napi_value StoreAny(napi_env env, napi_callback_info info) {
  KeyCall<7, 1> call(env, info);
  CacheHandle* handle = call.handle;
  if (call.code != Code::kFound) return CodeValue(env, call.code);
  Request request;
  request.verb = static_cast<Verb>(NumberOr(env, call[0], 0));
  // Before the payload is read: that overwrites nothing but the scratch, yet the words must not depend on it.
  request.has_compare = BooleanOr(env, call[5], false);
  if (request.has_compare) request.compare = handle->environment->Get(Word::kVersion);
  Payload payload;
  const Code code = payload.ReadInto(env, handle, call[2], call[3], &request);
  if (code != Code::kFound) return CodeValue(env, code);
  request.key = call.key.view();
  request.client_flags = static_cast<uint32_t>(NumberOr(env, call[6], 0));
  const Expiry expiry = Expiry::Read(env, handle, call[4]);
  const Expiry otherwise = Expiry::Default(handle);
  const Now now = handle->instance->ReadNow(expiry.timed() || otherwise.timed());
  request.expires_ms = expiry.At(now);
  if (request.expires_ms == kKeepExpiry) request.keep_else_ms = otherwise.At(now);
  Outcome outcome;
  ExecuteStore(handle->store, request, now, &outcome);
  handle->environment->Set(Word::kVersion, outcome.version);
  return CodeValue(env, CodeOf(outcome.status));
}

// arithmetic(verb, key, delta, initial, ttl): a code; the words have the number. `initial` undefined: an absent key
// stays absent. `delta` undefined: it is in the words as the number; `initial` a BigInt: in the words as the version.
napi_value Arithmetic(napi_env env, napi_callback_info info) {
  KeyCall<5, 1> call(env, info);
  CacheHandle* handle = call.handle;
  if (call.code != Code::kFound) return CodeValue(env, call.code);
  Environment* environment = handle->environment;
  Request request;
  request.verb = static_cast<Verb>(NumberOr(env, call[0], 0));
  request.key = call.key.view();
  request.codec = Codec::kNumber;
  request.delta = NumberOr(env, call[2], environment->Get(Word::kNumber));
  napi_valuetype type;
  if (napi_typeof(env, call[3], &type) == napi_ok && type != napi_undefined) {
    request.has_initial = true;
    if (type == napi_bigint) request.codec = Codec::kBigInt;
    request.initial = NumberOr(env, call[3], environment->Get(Word::kVersion));
  }
  const Expiry expiry = Expiry::Read(env, handle, call[4]);
  const Now now = handle->instance->ReadNow(expiry.timed());
  request.expires_ms = expiry.At(now);
  Scratch scratch;
  Outcome outcome;
  handle->store->Execute(request, now, &scratch, &outcome);
  environment->Set(Word::kNumber, outcome.number);
  environment->Set(Word::kCodec, static_cast<uint64_t>(outcome.codec));
  return CodeValue(env, CodeOf(outcome.status));
}

// ---- the rest ----

// delete(key), evict(key): true, false, or a code. With a second argument of true only the version in the words is
// removed, and the answer is always a code.
template <Verb kVerb>
napi_value Remove(napi_env env, napi_callback_info info) {
  KeyCall<2> call(env, info);
  if (call.code != Code::kFound) return CodeValue(env, call.code);
  Request request;
  request.verb = kVerb;
  request.key = call.key.view();
  request.has_compare = BooleanOr(env, call[1], false);
  if (request.has_compare) request.compare = call.handle->environment->Get(Word::kVersion);
  Scratch scratch;
  Outcome outcome;
  call.handle->store->Execute(request, call.handle->instance->ReadNow(false), &scratch, &outcome);
  if (request.has_compare) return CodeValue(env, CodeOf(outcome.status));
  if (outcome.status == Status::kFound) return Boolean(env, true);
  if (outcome.status == Status::kNotFound) return Boolean(env, false);
  return CodeValue(env, CodeOf(outcome.status));
}

// touch(key, ttl): true, false, or a code.
napi_value Touch(napi_env env, napi_callback_info info) {
  KeyCall<2> call(env, info);
  CacheHandle* handle = call.handle;
  if (call.code != Code::kFound) return CodeValue(env, call.code);
  Request request;
  request.verb = Verb::kTouch;
  request.key = call.key.view();
  const Expiry expiry = Expiry::Read(env, handle, call[1]);
  const Now now = handle->instance->ReadNow(expiry.timed());
  request.expires_ms = expiry.At(now);
  Scratch scratch;
  Outcome outcome;
  handle->store->Execute(request, now, &scratch, &outcome);
  if (outcome.status == Status::kFound) return Boolean(env, true);
  if (outcome.status == Status::kNotFound) return Boolean(env, false);
  return CodeValue(env, CodeOf(outcome.status));
}

void ExtendHandle(Napi::Env env, CacheHandle* handle, Napi::Object object) {
  AddHandleFunction(env, handle, object, "peek", Read<Verb::kPeek>);
  AddHandleFunction(env, handle, object, "getWithCas", Read<Verb::kGet>);
  AddHandleFunction(env, handle, object, "getInto", GetInto);
  AddHandleFunction(env, handle, object, "has", Has);
  AddHandleFunction(env, handle, object, "info", Info);
  AddHandleFunction(env, handle, object, "store", StoreAny);
  AddHandleFunction(env, handle, object, "arithmetic", Arithmetic);
  AddHandleFunction(env, handle, object, "delete", Remove<Verb::kDelete>);
  AddHandleFunction(env, handle, object, "evict", Remove<Verb::kEvict>);
  AddHandleFunction(env, handle, object, "touch", Touch);
}

}  // namespace

void InitCacheBinding(Napi::Env env, Napi::Object exports) {
  Environment::Of(env)->extenders.push_back(ExtendHandle);
  AddFunction(env, exports, "get", Get);
  AddFunction(env, exports, "set", SetText);
}

}  // namespace cairn
