#include "addon/environment.h"

#include <algorithm>
#include <limits>
#include <utility>

#include "addon/convert.h"
#include "base/check.h"

namespace cairn {
namespace {

// Tells our handle objects from everything else that JavaScript may pass where one is expected.
constexpr napi_type_tag kHandleTag = {0x6f6e2a4c41d34f0bULL, 0x9c27b6a35be1d8e4ULL};

void Unlink(CacheHandle* handle) {
  if (handle->link == nullptr) return;
  *handle->link = handle->next;
  if (handle->next != nullptr) handle->next->link = handle->link;
  handle->link = nullptr;
  handle->next = nullptr;
  handle->environment->numbered[handle->number] = nullptr;
}

// Takes the first number that is free: of few, and only when a handle is made.
void Link(CacheHandle* handle, Environment* environment) {
  handle->environment = environment;
  handle->next = environment->handles;
  handle->link = &environment->handles;
  if (handle->next != nullptr) handle->next->link = &handle->next;
  environment->handles = handle;
  auto& numbered = environment->numbered;
  const auto free = std::find(numbered.begin(), numbered.end(), nullptr);
  handle->number = static_cast<uint32_t>(free - numbered.begin());
  if (free == numbered.end()) {
    numbered.push_back(handle);
  } else {
    *free = handle;
  }
}

void FinalizeHandle(napi_env, void* data, void*) {
  auto* handle = static_cast<CacheHandle*>(data);
  handle->Release(ReleaseKind::kLost);
  Unlink(handle);
  delete handle;
}

// Runs with the environment's thread still whole, after its last JavaScript. Finalizers come later, in an order that is
// Node's affair: from here on handles and environment do not know of each other.
void CleanUp(Environment* environment) {
  environment->cleaned_up = true;
  environment->pending_buffer.Reset();
  while (environment->handles != nullptr) {
    CacheHandle* handle = environment->handles;
    handle->Release(ReleaseKind::kLost);
    Unlink(handle);
    handle->environment = nullptr;
  }
  for (size_t i = static_cast<size_t>(PartId::kPartCount); i-- > 0;) {
    if (environment->parts[i] != nullptr) environment->parts[i]->OnEnvironmentCleanup();
  }
}

// Hands a value that did not fit the scratch to JavaScript.
Napi::Value TakeBuffer(const Napi::CallbackInfo& info) {
  Environment* environment = Environment::Of(info);
  if (environment->pending_buffer.IsEmpty()) return info.Env().Undefined();
  const Napi::Value buffer = environment->pending_buffer.Value();
  environment->pending_buffer.Reset();
  return buffer;
}

// takeRefusal(): NativeRefusal of src/native.ts.
Napi::Value TakeRefusal(const Napi::CallbackInfo& info) {
  const Refusal refusal = std::exchange(Environment::Of(info)->refusal, Refusal());
  const auto number = [](uint64_t value) {
    return value == Refusal::kNoMax ? std::numeric_limits<double>::infinity() : static_cast<double>(value);
  };
  Napi::Object object = Napi::Object::New(info.Env());
  object.Set("rule", static_cast<double>(refusal.rule));
  object.Set("option", static_cast<double>(refusal.option));
  object.Set("min", number(refusal.min));
  object.Set("max", number(refusal.max));
  object.Set("value", number(refusal.value));
  object.Set("shards", static_cast<double>(refusal.shard_count));
  return object;
}

Napi::Value TakeMessage(const Napi::CallbackInfo& info) {
  return Napi::String::New(info.Env(), std::exchange(Environment::Of(info)->message, std::string()));
}

// An ordinary ArrayBuffer of V8, whose memory does not move, exported for good. Null where the thread is being
// terminated while it loads the addon: no JavaScript will call anything then.
template <class T>
T* Share(Napi::Object exports, const char* name, size_t count) {
  Napi::ArrayBuffer buffer = Napi::ArrayBuffer::New(exports.Env(), count * sizeof(T));
  if (buffer.IsEmpty()) return nullptr;
  Napi::Persistent(buffer).SuppressDestruct();
  exports.Set(name, buffer);
  return static_cast<T*>(buffer.Data());
}

}  // namespace

void CacheHandle::Release(ReleaseKind kind) {
  if (instance == nullptr) return;
  // The parts use it, and go after the registry was told: where the cache ends with this handle, the threads that wait
  // for it are to hear of that, and not that it is their turn to load.
  const CachePointer kept = pointer;
  instance = nullptr;
  store = nullptr;
  Registry::Get().Release(&pointer, owner, kind);
  for (std::unique_ptr<HandlePart>& part : parts) part.reset();
}

Environment* InitEnvironment(Napi::Env env, Napi::Object exports) {
  static std::atomic<uint64_t> next_id{1};
  auto* environment = new Environment;
  environment->env = env;
  environment->id = next_id.fetch_add(1, std::memory_order_relaxed);
  env.SetInstanceData(environment);
  env.AddCleanupHook(CleanUp, environment);

  environment->scratch = Share<char>(exports, "scratch", kScratchBytes);
  environment->words = Share<uint64_t>(exports, "words", kWordCount);
  environment->marks = Share<Mark>(exports, "marks", kChunkKeysMax);
  AddFunction<TakeBuffer>(exports, "takeBuffer");
  AddFunction<TakeRefusal>(exports, "takeRefusal");
  AddFunction<TakeMessage>(exports, "takeMessage");
  return environment;
}

CacheHandle* HandleOf(napi_env env, napi_value object) {
  void* data = nullptr;
  if (!Napi::Value(env, object).IsObject() || !Napi::Object(env, object).CheckTypeTag(&kHandleTag)) return nullptr;
  return napi_unwrap(env, object, &data) == napi_ok ? static_cast<CacheHandle*>(data) : nullptr;
}

void AddFunction(napi_env env, napi_value exports, const char* name, napi_callback callback) {
  napi_value function;
  if (napi_create_function(env, name, NAPI_AUTO_LENGTH, callback, Environment::Of(env), &function) != napi_ok) return;
  napi_set_named_property(env, exports, name, function);
}

void AddHandleFunction(napi_env env, CacheHandle* handle, napi_value object, const char* name, napi_callback callback) {
  napi_value function;
  if (napi_create_function(env, name, NAPI_AUTO_LENGTH, callback, handle, &function) != napi_ok) return;
  KeepHandleFunction(Napi::Object(env, object), name, Napi::Function(env, function));
}

void KeepHandleFunction(Napi::Object object, const char* name, Napi::Function function) {
  if (function.IsEmpty()) return;
  function.Set("handle", object);
  object.Set(name, function);
}

Napi::Value MakeHandle(Napi::Env env, CachePointer cache, bool owner) {
  auto handle = std::make_unique<CacheHandle>();
  Napi::Object object = Napi::Object::New(env);
  // Of what a handle needs, node-addon-api lacks a wrap that is no class.
  if (object.IsEmpty() || napi_wrap(env, object, handle.get(), FinalizeHandle, nullptr, nullptr) != napi_ok) {
    Registry::Get().Release(&cache, owner, ReleaseKind::kLost);
    return env.Undefined();
  }
  CacheHandle* made = handle.release();  // the finalizer's
  object.TypeTag(&kHandleTag);
  Environment* environment = Environment::Of(env);
  made->instance = cache.get();
  made->store = cache->store();
  made->ttl_ms = cache->options().ttl_ms;
  made->owner = owner;
  made->pointer = std::move(cache);
  Link(made, environment);

  const CacheOptions& options = made->instance->options();
  object.Set("name", options.name);
  object.Set("description", options.description);
  object.Set("number", made->number);
  object.Set("cacheId", static_cast<double>(made->instance->id()));
  object.Set("shardCount", made->store->shard_count());
  object.Set("valueBytesMax", static_cast<double>(made->store->value_bytes_max()));
  object.Set("memoryBytesCeiling", static_cast<double>(made->store->options().memory_bytes_ceiling));
  for (HandleExtender extend : environment->extenders) extend(env, made, object);
  return object;
}

}  // namespace cairn
