#include "addon/handle_binding.h"

#include <string>
#include <utility>
#include <vector>

#include "addon/convert.h"
#include "addon/environment.h"
#include "base/limits.h"
#include "base/os.h"
#include "process/janitor.h"
#include "process/registry.h"

namespace cairn {
namespace {

// ---- what a handle can do beside the verbs ----

// clear(): kStored, kClosed, or, having done nothing, kLogFull.
Napi::Value Clear(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  CacheHandle* handle = HandleOf(info);
  if (!handle->Usable()) return CodeNumber(env, Code::kClosed);
  Store* store = handle->store;
  if (store->Clear(handle->instance->ReadBothClocks()) == 0) {
    return CodeNumber(env, Code::kLogFull);
  }
  Janitor::Get().Wake();
  return CodeNumber(env, Code::kStored);
}

// resize(memoryBytes, entriesMax): one step; kStored when it is done, kNeedsRoom when it wants another call, kNotReady
// when it does but not at once (a value that is being read or received holds it up), kRefused, kClosed.
// 0 leaves a limit as it is.
Napi::Value Resize(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  CacheHandle* handle = HandleOf(info);
  if (!handle->Usable()) return CodeNumber(env, Code::kClosed);
  const uint64_t memory_bytes = NumberOr(info[0], 0);
  const uint64_t entries_max = NumberOr(info[1], 0);
  if (memory_bytes != 0 && !handle->store->CheckResize(memory_bytes, &handle->environment->refusal)) {
    return CodeNumber(env, Code::kRefused);
  }
  bool held_up = false;
  const bool done = handle->store->Resize(memory_bytes, entries_max, handle->instance->ReadBothClocks(), &held_up);
  if (done) Janitor::Get().Wake();
  return CodeNumber(env, done ? Code::kStored : held_up ? Code::kNotReady : Code::kNeedsRoom);
}

// valueBytesNow(): the largest value, which a lower limit may have lowered; 0 once closed.
Napi::Value ValueBytesNow(const Napi::CallbackInfo& info) {
  CacheHandle* handle = HandleOf(info);
  const uint64_t bytes = handle->Usable() ? handle->store->value_bytes_max() : 0;
  return Napi::Number::New(info.Env(), static_cast<double>(bytes));
}

// size(): entries, or -1 once closed.
Napi::Value Size(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  CacheHandle* handle = HandleOf(info);
  if (!handle->Usable()) return Napi::Number::New(env, -1);
  return Napi::Number::New(env, static_cast<double>(handle->store->entries()));
}

// close(): releases the handle.
void Close(const Napi::CallbackInfo& info) {
  CacheHandle* handle = HandleOf(info);
  handle->Release(ReleaseKind::kClosed);
}

// isClosed(): the handle, or the cache for everybody.
Napi::Value IsClosed(const Napi::CallbackInfo& info) {
  CacheHandle* handle = HandleOf(info);
  return Napi::Boolean::New(info.Env(), !handle->Usable());
}

// rawAsBuffer(yes): what get() does with values that came in as bytes; see CacheHandle::raw_as_buffer.
void RawAsBuffer(const Napi::CallbackInfo& info) {
  CacheHandle* handle = HandleOf(info);
  handle->raw_as_buffer = BooleanOr(info[0], true);
}

// setClock(elapsedMs): from now on the cache's time is that long after the first call; see CacheInstance::SetClock.
void SetClock(const Napi::CallbackInfo& info) {
  CacheHandle* handle = HandleOf(info);
  if (handle->Usable()) handle->instance->SetClock(NumberOr(info[0], 0));
}

void ExtendHandle(Napi::Env, CacheHandle* handle, Napi::Object object) {
  AddHandleFunction<Clear>(handle, object, "clear");
  AddHandleFunction<Resize>(handle, object, "resize");
  AddHandleFunction<ValueBytesNow>(handle, object, "valueBytesNow");
  AddHandleFunction<Size>(handle, object, "size");
  AddHandleFunction<Close>(handle, object, "close");
  AddHandleFunction<IsClosed>(handle, object, "isClosed");
  AddHandleFunction<RawAsBuffer>(handle, object, "rawAsBuffer");
  AddHandleFunction<SetClock>(handle, object, "setClock");
}

// ---- making handles ----

Napi::Value Attached(Napi::Env env, AttachStatus status, CachePointer cache) {
  switch (status) {
    case AttachStatus::kAttached:
      return MakeHandle(env, std::move(cache), false);
    case AttachStatus::kNotReady:
      return CodeNumber(env, Code::kNotReady);
    case AttachStatus::kNoSuchCache:
      break;
  }
  return CodeNumber(env, Code::kNoSuchCache);
}

// Three to each: the prefix, the number of its backend, and whether that gets the keys.
std::vector<BackendRoute> RoutesOf(const Napi::Array& rows) {
  std::vector<BackendRoute> routes;
  for (uint32_t i = 0; i + 2 < rows.Length(); i += 3) {
    const Napi::Value backend = rows.Get(i + 1);
    const Napi::Value is_written = rows.Get(i + 2);
    routes.push_back({StringOf(rows.Get(i)), static_cast<uint32_t>(NumberOr(backend, 0)), BooleanOr(is_written, true)});
  }
  return routes;
}

// openCache(options): a handle, or a code. Options: NativeOptions of src/native.ts.
Napi::Value OpenCache(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  const auto given = info[0].As<Napi::Object>();
  CacheOptions options;
  options.name = StringOf(given.Get("name"));
  options.description = StringOf(given.Get("description"));
  options.ttl_ms = NumberOr(given.Get("ttlMs"), 0);
  options.ready = BooleanOr(given.Get("ready"), true);
  options.store.memory_bytes = NumberOr(given.Get("memoryBytes"), options.store.memory_bytes);
  options.store.memory_bytes_ceiling = NumberOr(given.Get("memoryBytesCeiling"), 0);
  options.store.entries_max = NumberOr(given.Get("entriesMax"), 0);
  options.store.shard_count = static_cast<uint32_t>(NumberOr(given.Get("shardCount"), 0));
  options.store.shard_count_min = static_cast<uint32_t>(NumberOr(given.Get("shardCountMin"), 1));
  options.store.value_bytes_max = NumberOr(given.Get("valueBytesMax"), 0);
  options.store.track_access = BooleanOr(given.Get("trackAccess"), false);
  options.store.hash = BooleanOr(given.Get("siphash"), false) ? HashKind::kSipHash : HashKind::kFast;
  options.store.epoch = static_cast<uint32_t>(NumberOr(given.Get("epoch"), 1));
  options.store.ring_bytes = NumberOr(given.Get("ringBytes"), 0);
  options.store.has_backend = BooleanOr(given.Get("hasBackend"), false);
  options.store.backend_count = static_cast<uint32_t>(NumberOr(given.Get("backendCount"), 1));
  if (given.Has("backendRoutes")) options.store.backend_routes = RoutesOf(given.Get("backendRoutes").As<Napi::Array>());
  const bool join = BooleanOr(given.Get("join"), false);
  CachePointer cache;
  switch (Registry::Get().Open(std::move(options), join, &cache, &Environment::Of(info)->refusal)) {
    case OpenStatus::kCreated:
    case OpenStatus::kJoined:
      return MakeHandle(env, std::move(cache), true);
    case OpenStatus::kNameTaken:
      return CodeNumber(env, Code::kNameTaken);
    case OpenStatus::kNotReady:
      return CodeNumber(env, Code::kNotReady);
    case OpenStatus::kRefused:
      break;
  }
  return CodeNumber(env, Code::kRefused);
}

// attachCache(name), attachById(id): a handle, or a code.
Napi::Value AttachCache(const Napi::CallbackInfo& info) {
  CachePointer cache;
  const AttachStatus status = Registry::Get().Attach(StringOf(info[0]), &cache);
  return Attached(info.Env(), status, std::move(cache));
}

Napi::Value AttachById(const Napi::CallbackInfo& info) {
  CachePointer cache;
  const AttachStatus status = Registry::Get().AttachById(NumberOr(info[0], 0), &cache);
  return Attached(info.Env(), status, std::move(cache));
}

// ---- the process ----

// cacheNames(): the names of the open caches of this process.
Napi::Value CacheNames(const Napi::CallbackInfo& info) {
  const std::vector<std::string> names = Registry::Get().Names();
  Napi::Array array = Napi::Array::New(info.Env(), names.size());
  for (uint32_t i = 0; i < names.size(); i++) array.Set(i, names[i]);
  return array;
}

// usableMemory(): bytes that this process may use.
Napi::Value UsableMemory(const Napi::CallbackInfo& info) {
  return Napi::Number::New(info.Env(), static_cast<double>(OsMemoryBytes()));
}

// runtime(): what tests look at: caches that are open in this process, and whether the janitor's thread exists.
Napi::Value Runtime(const Napi::CallbackInfo& info) {
  Napi::Object object = Napi::Object::New(info.Env());
  object.Set("cacheCount", static_cast<double>(Registry::Get().cache_count()));
  object.Set("janitorRuns", Janitor::Get().running());
  return object;
}

// What src/native.ts compares with its own numbers when it loads the addon.
Napi::Object Limits(Napi::Env env) {
  Napi::Object limits = Napi::Object::New(env);
  const auto add = [&](const char* name, uint64_t value) { limits.Set(name, static_cast<double>(value)); };
  add("keyBytesMax", kKeyBytesMax);
  add("valueBytesMax", kValueBytesMax);
  add("memoryBytesMin", kMemoryBytesMin);
  add("shardCountMax", kShardCountMax);
  add("shardBytesMin", kShardQuotaBytesMin);
  add("shardEntriesMin", kShardEntriesMin);
  add("backendsMax", kBackendsMax);
  add("scratchBytes", kScratchBytes);
  add("wordCount", kWordCount);
  add("chunkKeysMax", kChunkKeysMax);
  add("codecCount", kCodecCount);
  return limits;
}

}  // namespace

void InitHandleBinding(Napi::Env env, Napi::Object exports) {
  Environment::Of(env)->extenders.push_back(ExtendHandle);
  AddFunction<OpenCache>(exports, "openCache");
  AddFunction<AttachCache>(exports, "attachCache");
  AddFunction<AttachById>(exports, "attachById");
  AddFunction<CacheNames>(exports, "cacheNames");
  AddFunction<UsableMemory>(exports, "usableMemory");
  AddFunction<Runtime>(exports, "runtime");
  exports.Set("limits", Limits(env));
}

}  // namespace cairn
