// The addon's state per environment, that is, per thread that loaded it (and per copy of the module in that thread):
// Node-API's instance data.
//
// Thread safety: everything here belongs to the thread of its environment, except the CacheInstance behind a handle.
// Life cycle:
//
//   module init          an Environment is made, its shared words and its scratch are exported
//   a handle is made     it is linked into the Environment; its functions hold it, so it lives as long as any of them
//   handle.close()       the instance is released; the functions answer kClosed from then on
//   handle collected     the same, then the struct is freed
//   cleanup hook         (worker ended or terminated, natural end of the main thread) every handle is released, then
//                        every part is told, last first. No JavaScript runs after it.
//   finalizers           free the structs
//
// worker.terminate() may come at any moment. From then on every Node-API call that could run JavaScript fails
// (napi_set_*, napi_call_function, napi_create_function, ...), and no JavaScript will see the result. So such a failure
// is not a bug and is not CHECKed: the function returns what it has. process.exit() and uncaught exceptions on the main
// thread run neither hooks nor finalizers: only memory that dies with the process may depend on them.
#pragma once

#include <napi.h>

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "process/registry.h"
#include "store/request.h"

namespace cairn {

struct Environment;

// Bytes that JavaScript sees as `exports.scratch`: the addon puts small values there for it to decode.
inline constexpr size_t kScratchBytes = 64 * 1024;
// Words that JavaScript sees as `exports.words`, an ArrayBuffer.
inline constexpr size_t kWordCount = 16;

// The most keys of one call of getMany, setMany or deleteMany.
inline constexpr size_t kChunkKeysMax = 128;

// The work left for one value of a chunk. JavaScript sees kChunkKeysMax of them as `exports.marks`.
struct Mark {
  uint32_t codec;   // Codec, a Code (set, delete), or one of the kMark... below
  uint32_t offset;  // of the bytes in the scratch; kMarkElsewhere: a Buffer in the value's place has them
  uint32_t bytes;
  uint32_t client_flags;
};
inline constexpr uint32_t kMarkDone = 0xFF;    // the value is there
inline constexpr uint32_t kMarkAbsent = 0xFE;  // no entry
inline constexpr uint32_t kMarkFailed = 0xFD;  // the entry exists, but there is no memory for its value
inline constexpr uint32_t kMarkElsewhere = ~uint32_t{0};
// As the codec of a payload: text of a kind that is not known yet.
inline constexpr uint32_t kTextCodec = 0xFC;

// What a call leaves in the words, besides its result; src/native.ts has the same table. Words have 64 bits; the 32-bit
// view has them at twice the index (little-endian low half).
enum class Word : uint32_t {
  kCode = 0,        // Code of the last call that answered "look here"
  kCodec = 1,       // Codec of the value
  kValueBytes = 2,  // its size
  kPlace = 3,       // ValuePlace
  kVersion = 4,     // cas token
  kExpiresIn = 6,   // milliseconds until expiry; 0: never
  kNumber = 7,      // the result of incr and decr
  kClientFlags = 8,
  kIdleSeconds = 9,
  kFetched = 10,
  kCache = 5,  // set by the caller: the number of the cache of this call; see AddFunction()
};

// The place of a value that was not returned as a JavaScript value.
enum class ValuePlace : uint32_t {
  kNone = 0,
  kScratch = 1,  // at the start of exports.scratch
  kBuffer = 2,   // exports.takeBuffer() returns it, once
};

// State that a *_binding.cc keeps per environment.
class EnvironmentPart {
 public:
  virtual ~EnvironmentPart() = default;
  // The environment ends: release thread-safe functions, references and waiting requests. JavaScript cannot be called.
  virtual void OnEnvironmentCleanup() = 0;
};

enum class PartId : uint32_t {
  kWaker,
  kSession,
  kFlight,
  kRemovals,
  kBatch,
  kLog,
  kMany,
  kLock,
  kLoads,
  kLoader,
  kStored,
  kRetry,
  kFront,  // behind kSession: parts are ended from the last to the first
  kPartCount
};

// State that a *_binding.cc keeps per handle. Destroyed by the handle's thread when the handle is released, while the
// instance still exists; also when the environment ends.
class HandlePart {
 public:
  virtual ~HandlePart() = default;
};

// One `Cache` object of one environment. The data pointer of its functions.
struct CacheHandle {
  // Null once closed, or released at the end of the environment. Read it at the start of every call.
  CacheInstance* instance = nullptr;
  // The store of `instance`, which saves hot paths a load. Null if that is.
  Store* store = nullptr;
  Environment* environment = nullptr;
  CachePointer pointer;  // keeps `instance` alive; copy it to give the cache to a thread
  uint64_t ttl_ms = 0;   // the cache's: for entries that are stored without one
  bool owner = false;
  // That of the writer or the loader which has this handle, see useBackend().
  uint32_t backend = 0;
  // Values of codec kRaw are returned as Buffers; false: TypeScript decodes them (option `raw`).
  bool raw_as_buffer = true;
  std::unique_ptr<HandlePart> parts[static_cast<size_t>(PartId::kPartCount)];
  uint32_t number = 0;  // its place in Environment::numbered
  // Linked list of the environment's handles.
  CacheHandle* next = nullptr;
  CacheHandle** link = nullptr;

  // True if calls may use `store`. The first call after the cache has ended releases it here.
  bool Usable() {
    if (instance != nullptr && !instance->closed()) [[likely]]
      return true;
    Release(ReleaseKind::kLost);
    return false;
  }
  // Releases the instance; idempotent.
  void Release(ReleaseKind kind);
};

// Called for every new handle, to add a binding's functions to it (AddHandleFunction).
using HandleExtender = void (*)(Napi::Env env, CacheHandle* handle, Napi::Object object);

struct Environment {
  napi_env env = nullptr;
  // Unique in the process, never reused: identifies the environment to other threads.
  uint64_t id = 0;
  char* scratch = nullptr;    // kScratchBytes, seen by JavaScript
  uint64_t* words = nullptr;  // kWordCount, seen by JavaScript
  Mark* marks = nullptr;      // kChunkKeysMax, seen by JavaScript
  bool cleaned_up = false;
  // True if the last stored text was long; see ReadText().
  bool text_is_long = false;

  // Values larger than the scratch, between a call and takeBuffer().
  Napi::Reference<Napi::Value> pending_buffer;
  // Why a call answered kRefused, between it and takeRefusal().
  Refusal refusal;
  // What the system has said of a lock, between a call and takeMessage().
  std::string message;

  CacheHandle* handles = nullptr;
  // The same by their numbers; a number is reused when its handle is gone. Null at a free number.
  std::vector<CacheHandle*> numbered;
  std::vector<HandleExtender> extenders;
  std::unique_ptr<EnvironmentPart> parts[static_cast<size_t>(PartId::kPartCount)];

  void Set(Word word, uint64_t value) { words[static_cast<size_t>(word)] = value; }
  uint64_t Get(Word word) const { return words[static_cast<size_t>(word)]; }
  // The handle whose number is in the words. REQUIRES: JavaScript has the handle, and has set its number.
  CacheHandle* Named() const {
    const uint64_t number = Get(Word::kCache);
    CHECK(number < numbered.size());
    return numbered[number];
  }

  // The Environment of `env`. CHECKs that it exists: every export of the addon is called in one.
  static Environment* Of(napi_env env) {
    auto* environment = Napi::Env(env).GetInstanceData<Environment>();
    CHECK(environment != nullptr);
    return environment;
  }
  // The environment of the called function; see AddFunction().
  static Environment* Of(const Napi::CallbackInfo& info) { return static_cast<Environment*>(info.Data()); }
};

inline CacheHandle* HandleOf(const Napi::CallbackInfo& info) { return static_cast<CacheHandle*>(info.Data()); }

// Makes the environment of `env` and exports `words`, `scratch`, `marks`, `takeBuffer`, `takeRefusal`, `takeMessage`.
// Called once, first thing in Init.
Environment* InitEnvironment(Napi::Env env, Napi::Object exports);

// The handle behind a handle object that JavaScript passes; null for other values. Not for hot paths (about 100 ns),
// which get their handle as the data pointer of a function made by AddHandleFunction.
CacheHandle* HandleOf(napi_env env, napi_value object);

// A function is made of a callback in one of two ways:
//
//   AddFunction<Callback>(exports, "name")      a callback of node-addon-api: Napi::Value or void (CallbackInfo&)
//   AddFunction(env, exports, "name", callback) a callback of Node-API itself, for the verbs that are measured as hot
//
// and the same for handles. The data pointer of an exported function is the Environment; that of a handle's function is
// the handle, which the function keeps alive.
//
// The hottest verbs are exported functions, one for all caches of the environment, which get their cache by its number
// (Environment::Named). Compiled code calls a native function directly if it has met no other function at that place:
// with a function for each cache, a second cache in the thread made every call of both a fifth more expensive.
void AddFunction(napi_env env, napi_value exports, const char* name, napi_callback callback);
void AddHandleFunction(napi_env env, CacheHandle* handle, napi_value object, const char* name, napi_callback callback);

// Makes `function` a property of the handle object, and the object a property of the function.
void KeepHandleFunction(Napi::Object object, const char* name, Napi::Function function);

template <auto kCallback>
void AddFunction(Napi::Object exports, const char* name) {
  const Napi::Env env = exports.Env();
  exports.Set(name, Napi::Function::New<kCallback>(env, name, Environment::Of(env)));
}
template <auto kCallback>
void AddHandleFunction(CacheHandle* handle, Napi::Object object, const char* name) {
  KeepHandleFunction(object, name, Napi::Function::New<kCallback>(object.Env(), name, handle));
}

// Makes the handle object of a cache, which openCache() and attachCache() return. Takes over the registry's handle.
Napi::Value MakeHandle(Napi::Env env, CachePointer cache, bool owner);

}  // namespace cairn
