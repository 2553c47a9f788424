#include "addon/environment.h"

#include <algorithm>
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
void CleanUp(void* data) {
  auto* environment = static_cast<Environment*>(data);
  environment->cleaned_up = true;
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

void FinalizeEnvironment(napi_env, void* data, void*) { delete static_cast<Environment*>(data); }

// Hands a value that did not fit the scratch to JavaScript.
napi_value TakeBuffer(napi_env env, napi_callback_info info) {
  void* data;
  napi_get_cb_info(env, info, nullptr, nullptr, nullptr, &data);
  auto* environment = static_cast<Environment*>(data);
  if (environment->pending_buffer == nullptr) return Undefined(env);
  napi_value buffer = nullptr;
  napi_get_reference_value(env, environment->pending_buffer, &buffer);
  napi_delete_reference(env, environment->pending_buffer);
  environment->pending_buffer = nullptr;
  return buffer;
}

napi_value TakeMessage(napi_env env, napi_callback_info info) {
  void* data;
  napi_get_cb_info(env, info, nullptr, nullptr, nullptr, &data);
  auto* environment = static_cast<Environment*>(data);
  napi_value message = Text(env, environment->message);
  environment->message.clear();
  return message;
}

// An ordinary ArrayBuffer of V8, whose memory does not move, exported for good.
void* Share(napi_env env, napi_value exports, const char* name, size_t bytes) {
  void* data = nullptr;
  napi_value buffer;
  // Fails where the thread is being terminated while it loads the addon: no JavaScript will call anything then.
  if (napi_create_arraybuffer(env, bytes, &data, &buffer) != napi_ok) return nullptr;
  napi_ref kept;
  CHECK(napi_create_reference(env, buffer, 1, &kept) == napi_ok);
  napi_set_named_property(env, exports, name, buffer);
  return data;
}

void SetProperty(napi_env env, napi_value object, const char* name, napi_value value) {
  napi_set_named_property(env, object, name, value);
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

Environment* Environment::Of(napi_env env) {
  void* data = nullptr;
  CHECK(napi_get_instance_data(env, &data) == napi_ok && data != nullptr);
  return static_cast<Environment*>(data);
}

Environment* InitEnvironment(napi_env env, napi_value exports) {
  static std::atomic<uint64_t> next_id{1};
  auto* environment = new Environment;
  environment->env = env;
  environment->id = next_id.fetch_add(1, std::memory_order_relaxed);
  CHECK(napi_set_instance_data(env, environment, FinalizeEnvironment, nullptr) == napi_ok);
  CHECK(napi_add_env_cleanup_hook(env, CleanUp, environment) == napi_ok);

  environment->scratch = static_cast<char*>(Share(env, exports, "scratch", kScratchBytes));
  environment->words = static_cast<uint64_t*>(Share(env, exports, "words", kWordCount * sizeof(uint64_t)));
  environment->marks = static_cast<Mark*>(Share(env, exports, "marks", kChunkKeysMax * sizeof(Mark)));
  AddFunction(env, exports, "takeBuffer", TakeBuffer);
  AddFunction(env, exports, "takeMessage", TakeMessage);
  return environment;
}

CacheHandle* HandleOf(napi_env env, napi_value object) {
  bool is_handle = false;
  if (napi_check_object_type_tag(env, object, &kHandleTag, &is_handle) != napi_ok || !is_handle) return nullptr;
  void* data = nullptr;
  if (napi_unwrap(env, object, &data) != napi_ok) return nullptr;
  return static_cast<CacheHandle*>(data);
}

void AddHandleFunction(napi_env env, CacheHandle* handle, napi_value object, const char* name, napi_callback callback) {
  napi_value function;
  if (napi_create_function(env, name, NAPI_AUTO_LENGTH, callback, handle, &function) != napi_ok) return;
  // Whoever holds the function holds the handle.
  if (napi_set_named_property(env, function, "handle", object) != napi_ok) return;
  napi_set_named_property(env, object, name, function);
}

void AddFunction(napi_env env, napi_value exports, const char* name, napi_callback callback) {
  napi_value function;
  if (napi_create_function(env, name, NAPI_AUTO_LENGTH, callback, Environment::Of(env), &function) != napi_ok) return;
  napi_set_named_property(env, exports, name, function);
}

napi_value MakeHandle(napi_env env, CachePointer cache, bool owner) {
  napi_value object;
  auto handle = std::make_unique<CacheHandle>();
  if (napi_create_object(env, &object) != napi_ok || napi_type_tag_object(env, object, &kHandleTag) != napi_ok ||
      napi_wrap(env, object, handle.get(), FinalizeHandle, nullptr, nullptr) != napi_ok) {
    Registry::Get().Release(&cache, owner, ReleaseKind::kLost);
    return Undefined(env);
  }
  CacheHandle* made = handle.release();  // the finalizer's
  Environment* environment = Environment::Of(env);
  made->instance = cache.get();
  made->store = cache->store();
  made->ttl_ms = cache->options().ttl_ms;
  made->owner = owner;
  made->pointer = std::move(cache);
  Link(made, environment);

  const CacheOptions& options = made->instance->options();
  SetProperty(env, object, "name", Text(env, options.name));
  SetProperty(env, object, "description", Text(env, options.description));
  SetProperty(env, object, "number", Uint32(env, made->number));
  SetProperty(env, object, "cacheId", Double(env, static_cast<double>(made->instance->id())));
  SetProperty(env, object, "shardCount", Uint32(env, made->store->shard_count()));
  SetProperty(env, object, "valueBytesMax", Uint32(env, static_cast<uint32_t>(made->store->value_bytes_max())));
  SetProperty(env, object, "memoryBytesCeiling",
              Double(env, static_cast<double>(made->store->options().memory_bytes_ceiling)));
  for (HandleExtender extend : environment->extenders) extend(env, made, object);
  return object;
}

}  // namespace cairn
