#include "addon/cache_binding.h"

#include <cstring>
#include <memory>
#include <new>
#include <string>
#include <utility>

#include "addon/answer.h"
#include "process/janitor.h"
#include "process/registry.h"

namespace cairn {
namespace {

// ---- reading ----

// get(key), of the cache that the words name: see Answer(). A miss, and a value that V8 makes a string of, take the
// shortest way there is.
napi_value Get(napi_env env, napi_callback_info info) {
  KeyCall<1, 0, HandleBy::kNumber> call(env, info);
  CacheHandle* handle = call.handle;
  if (call.code != Code::kFound) return Refusal(env, handle, call.code);
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
  if (call.code != Code::kFound) return Refusal(env, call.handle, call.code);
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
  if (call.code != Code::kFound) return Refusal(env, handle, call.code);
  Scratch target;
  if (!BytesOf(env, call[1], &target.data, &target.capacity)) return Refusal(env, handle, Code::kInvalidValue);
  Request request;
  request.key = call.key.view();
  Outcome outcome;
  handle->store->Execute(request, handle->instance->ReadNow(false), &target, &outcome);
  if (outcome.status == Status::kNotFound) return Undefined(env);
  if (outcome.status != Status::kFound && outcome.status != Status::kNeedsRoom) {
    return Refusal(env, handle, CodeOf(outcome.status));
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
  environment->Set(Word::kExpiresIn, outcome.expires_ms == kNeverExpires ? 0 : outcome.expires_ms - now.boot_ms);
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
  const Now now = handle->instance->ReadNow(expiry.timed());
  request.expires_ms = expiry.At(now);
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

// clear(): kStored, kClosed, or, having done nothing, kLogFull or kRefused (no epochs are left for clears).
napi_value Clear(napi_env env, napi_callback_info info) {
  HandleCall<1> call(env, info);
  if (!call.handle->Usable()) return CodeValue(env, Code::kClosed);
  Store* store = call.handle->store;
  if (store->Clear(call.handle->instance->ReadBothClocks()) == 0) {
    return CodeValue(env, store->ClearsAreUsedUp() ? Code::kRefused : Code::kLogFull);
  }
  Janitor::Get().Wake();
  return CodeValue(env, Code::kStored);
}

// resize(memoryBytes, entriesMax): one step; kStored when it is done, kNeedsRoom when it wants another call, kNotReady
// when it does but not at once (a value that is being read or received holds it up), kRefused with a sentence, kClosed.
// 0 leaves a limit as it is.
napi_value Resize(napi_env env, napi_callback_info info) {
  HandleCall<2> call(env, info);
  CacheHandle* handle = call.handle;
  if (!handle->Usable()) return CodeValue(env, Code::kClosed);
  const uint64_t memory_bytes = NumberOr(env, call[0], 0);
  const uint64_t entries_max = NumberOr(env, call[1], 0);
  if (memory_bytes != 0 && !handle->store->CheckResize(memory_bytes, &handle->environment->message)) {
    return CodeValue(env, Code::kRefused);
  }
  bool held_up = false;
  const bool done = handle->store->Resize(memory_bytes, entries_max, handle->instance->ReadBothClocks(), &held_up);
  if (done) Janitor::Get().Wake();
  return CodeValue(env, done ? Code::kStored : held_up ? Code::kNotReady : Code::kNeedsRoom);
}

// size(): entries, or -1 once closed.
napi_value Size(napi_env env, napi_callback_info info) {
  HandleCall<1> call(env, info);
  if (!call.handle->Usable()) return Double(env, -1);
  return Double(env, static_cast<double>(call.handle->store->entries()));
}

// close(): gives up the handle.
napi_value Close(napi_env env, napi_callback_info info) {
  HandleCall<1> call(env, info);
  call.handle->Release(ReleaseKind::kClosed);
  return Undefined(env);
}

// isClosed(): the handle, or the cache for everybody.
napi_value IsClosed(napi_env env, napi_callback_info info) {
  HandleCall<1> call(env, info);
  return Boolean(env, !call.handle->Usable());
}

// rawAsBuffer(yes): what get() does with values that came in as bytes; see CacheHandle::raw_as_buffer.
napi_value RawAsBuffer(napi_env env, napi_callback_info info) {
  HandleCall<1> call(env, info);
  call.handle->raw_as_buffer = BooleanOr(env, call[0], true);
  return Undefined(env);
}

// setClock(elapsedMs): from now on the cache's time is that long after the first call; see CacheInstance::SetClock.
napi_value SetClock(napi_env env, napi_callback_info info) {
  HandleCall<1> call(env, info);
  if (call.handle->Usable()) call.handle->instance->SetClock(NumberOr(env, call[0], 0));
  return Undefined(env);
}

void ExtendHandle(napi_env env, CacheHandle* handle, napi_value object) {
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
  AddHandleFunction(env, handle, object, "clear", Clear);
  AddHandleFunction(env, handle, object, "resize", Resize);
  AddHandleFunction(env, handle, object, "size", Size);
  AddHandleFunction(env, handle, object, "close", Close);
  AddHandleFunction(env, handle, object, "isClosed", IsClosed);
  AddHandleFunction(env, handle, object, "rawAsBuffer", RawAsBuffer);
  AddHandleFunction(env, handle, object, "setClock", SetClock);
}

// ---- making handles ----

napi_value Named(napi_env env, napi_value object, const char* name) {
  napi_value value = nullptr;
  return napi_get_named_property(env, object, name, &value) == napi_ok ? value : Undefined(env);
}

// openCache(options): a handle, or a code. Options: NativeOptions of src/native.ts.
napi_value OpenCache(napi_env env, napi_callback_info info) {
  napi_value given;
  size_t count = 1;
  void* data;
  napi_get_cb_info(env, info, &count, &given, nullptr, &data);
  auto* environment = static_cast<Environment*>(data);
  CacheOptions options;
  options.name = StringOf(env, Named(env, given, "name"));
  options.description = StringOf(env, Named(env, given, "description"));
  options.ttl_ms = NumberOr(env, Named(env, given, "ttlMs"), 0);
  options.ready = BooleanOr(env, Named(env, given, "ready"), true);
  options.store.memory_bytes = NumberOr(env, Named(env, given, "memoryBytes"), options.store.memory_bytes);
  options.store.memory_bytes_ceiling = NumberOr(env, Named(env, given, "memoryBytesCeiling"), 0);
  options.store.entries_max = NumberOr(env, Named(env, given, "entriesMax"), 0);
  options.store.shard_count = static_cast<uint32_t>(NumberOr(env, Named(env, given, "shardCount"), 0));
  options.store.value_bytes_max = NumberOr(env, Named(env, given, "valueBytesMax"), 0);
  options.store.track_access = BooleanOr(env, Named(env, given, "trackAccess"), false);
  options.store.hash = BooleanOr(env, Named(env, given, "siphash"), false) ? HashKind::kSipHash : HashKind::kFast;
  options.store.epoch = static_cast<uint32_t>(NumberOr(env, Named(env, given, "epoch"), 1));
  options.store.ring_bytes = NumberOr(env, Named(env, given, "ringBytes"), 0);
  const bool join = BooleanOr(env, Named(env, given, "join"), false);
  CachePointer cache;
  switch (Registry::Get().Open(std::move(options), join, &cache, &environment->message)) {
    case OpenStatus::kCreated:
    case OpenStatus::kJoined:
      return MakeHandle(env, std::move(cache), true);
    case OpenStatus::kNameTaken:
      return CodeValue(env, Code::kNameTaken);
    case OpenStatus::kNotReady:
      return CodeValue(env, Code::kNotReady);
    case OpenStatus::kRefused:
      break;
  }
  return CodeValue(env, Code::kRefused);
}

napi_value Attached(napi_env env, AttachStatus status, CachePointer cache) {
  switch (status) {
    case AttachStatus::kAttached:
      return MakeHandle(env, std::move(cache), false);
    case AttachStatus::kNotReady:
      return CodeValue(env, Code::kNotReady);
    case AttachStatus::kNoSuchCache:
      break;
  }
  return CodeValue(env, Code::kNoSuchCache);
}

// attachCache(name), attachById(id): a handle, or a code.
napi_value AttachCache(napi_env env, napi_callback_info info) {
  napi_value name;
  size_t count = 1;
  napi_get_cb_info(env, info, &count, &name, nullptr, nullptr);
  CachePointer cache;
  const AttachStatus status = Registry::Get().Attach(StringOf(env, name), &cache);
  return Attached(env, status, std::move(cache));
}

napi_value AttachById(napi_env env, napi_callback_info info) {
  napi_value id;
  size_t count = 1;
  napi_get_cb_info(env, info, &count, &id, nullptr, nullptr);
  CachePointer cache;
  const AttachStatus status = Registry::Get().AttachById(NumberOr(env, id, 0), &cache);
  return Attached(env, status, std::move(cache));
}

// cacheNames(): the names of the open caches of this process.
napi_value CacheNames(napi_env env, napi_callback_info) {
  const std::vector<std::string> names = Registry::Get().Names();
  napi_value array = nullptr;
  napi_create_array_with_length(env, names.size(), &array);
  for (size_t i = 0; i < names.size(); i++) {
    napi_set_element(env, array, static_cast<uint32_t>(i), Text(env, names[i]));
  }
  return array;
}

// usableMemory(): bytes that this process may use.
napi_value UsableMemory(napi_env env, napi_callback_info) { return Double(env, static_cast<double>(OsMemoryBytes())); }

// runtime(): what tests look at: caches that are open in this process, and whether the janitor's thread exists.
napi_value Runtime(napi_env env, napi_callback_info) {
  napi_value object = nullptr;
  napi_create_object(env, &object);
  napi_set_named_property(env, object, "cacheCount", Double(env, static_cast<double>(Registry::Get().cache_count())));
  napi_set_named_property(env, object, "janitorRuns", Boolean(env, Janitor::Get().running()));
  return object;
}

void AddLimit(napi_env env, napi_value limits, const char* name, uint64_t value) {
  napi_set_named_property(env, limits, name, Double(env, static_cast<double>(value)));
}

}  // namespace

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
        if (outcome->status == Status::kNoMemory) break;  // this thread has slept so long that others took the place
        if (outcome->status == Status::kLogFull) store->Abandon(&body);  // Link keeps it then
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

void InitCacheBinding(napi_env env, napi_value exports) {
  Environment::Of(env)->extenders.push_back(ExtendHandle);
  AddFunction(env, exports, "get", Get);
  AddFunction(env, exports, "set", SetText);
  AddFunction(env, exports, "openCache", OpenCache);
  AddFunction(env, exports, "attachCache", AttachCache);
  AddFunction(env, exports, "attachById", AttachById);
  AddFunction(env, exports, "cacheNames", CacheNames);
  AddFunction(env, exports, "usableMemory", UsableMemory);
  AddFunction(env, exports, "runtime", Runtime);
  napi_value limits = nullptr;
  napi_create_object(env, &limits);
  AddLimit(env, limits, "keyBytesMax", kKeyBytesMax);
  AddLimit(env, limits, "valueBytesMax", kValueBytesMax);
  AddLimit(env, limits, "memoryBytesMin", kMemoryBytesMin);
  AddLimit(env, limits, "shardCountMax", kShardCountMax);
  AddLimit(env, limits, "scratchBytes", kScratchBytes);
  AddLimit(env, limits, "wordCount", kWordCount);
  AddLimit(env, limits, "chunkKeysMax", kChunkKeysMax);
  AddLimit(env, limits, "codecCount", kCodecCount);
  napi_set_named_property(env, exports, "limits", limits);
}

}  // namespace cairn
