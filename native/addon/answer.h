// The result of a read, for JavaScript. Text and whole numbers become JavaScript values here. Other kinds, which
// TypeScript decodes, are left as bytes in the environment's scratch, or in a Buffer if they are large.
#pragma once

#include <node_api.h>

#include <cstddef>
#include <memory>

#include "addon/convert.h"
#include "addon/environment.h"
#include "store/store.h"

namespace cairn {

// The value itself if it is text or a whole number; null if TypeScript must decode it, or V8 has no room.
napi_value DirectValue(napi_env env, Codec codec, const char* data, size_t bytes);

// Copies a value out of the store that Execute() left pinned or that did not fit the scratch: a JavaScript value if it
// is text, a new Buffer otherwise; null if there is no memory for it. Does not use the scratch. Unpins the value.
napi_value LargeValue(napi_env env, const CacheHandle* handle, const Outcome& outcome, const char* copied);

// Executes a read for which the scratch was too small: the value is then in `*copied`, or pinned. False: out of memory.
[[nodiscard]] bool ExecuteWithRoom(const CacheHandle* handle, const Request& request, const Now& now, Outcome* outcome,
                                   std::unique_ptr<char[]>* copied);

// Leaves the description of a value in the words, and returns the answer that tells src/native.ts to decode it.
napi_value Elsewhere(napi_env env, const CacheHandle* handle, Codec codec, uint32_t bytes, uint32_t client_flags,
                     ValuePlace place);

// Executes a read and returns its answer as native.ts describes it for `get`: the value; undefined for a miss; true to
// decode the value in the words; false to look at the code.
napi_value Answer(napi_env env, const CacheHandle* handle, const Request& request, const Now& now, Outcome* outcome);

// false, with the code in the words.
napi_value Refuse(napi_env env, const CacheHandle* handle, Code code);

}  // namespace cairn
