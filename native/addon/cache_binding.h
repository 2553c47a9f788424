// The direct verbs: plain functions on a cache handle that run on the calling thread. src/native.ts declares their
// types and says what each returns. They are hot by measurement, so they call Node-API directly (ARCHITECTURE.md).
#pragma once

#include <napi.h>

#include <cstddef>

#include "addon/convert.h"
#include "addon/environment.h"
#include "addon/payload.h"

namespace cairn {

void InitCacheBinding(Napi::Env env, Napi::Object exports);

// How a function knows its handle: AddHandleFunction(), AddFunction().
enum class HandleBy { kData, kNumber };

// The arguments of a call on a handle; missing ones are undefined.
template <size_t kCount, HandleBy kBy = HandleBy::kData>
struct HandleCall {
  CacheHandle* handle;
  napi_value arguments[kCount];

  HandleCall(napi_env env, napi_callback_info info) {
    size_t count = kCount;
    void* data;
    napi_get_cb_info(env, info, &count, arguments, nullptr, &data);
    if constexpr (kBy == HandleBy::kData) {
      handle = static_cast<CacheHandle*>(data);
    } else {
      handle = static_cast<Environment*>(data)->Named();
    }
  }
  napi_value operator[](size_t index) const { return arguments[index]; }
};

// A call on a handle with a key among its arguments. `code` is kFound if the handle is usable and the key was read.
template <size_t kCount, size_t kKeyIndex = 0, HandleBy kBy = HandleBy::kData>
struct KeyCall : HandleCall<kCount, kBy> {
  KeyArgument key;
  Code code;

  KeyCall(napi_env env, napi_callback_info info) : HandleCall<kCount, kBy>(env, info) {
    code = this->handle->Usable() ? key.Read(env, this->arguments[kKeyIndex]) : Code::kClosed;
  }
};

}  // namespace cairn
