// What a read found, as JavaScript gets it. Text and whole numbers become JavaScript values here; what only TypeScript
// can decode is left as bytes in the environment's scratch, or in a Buffer of its own where it is large.
#pragma once

#include <node_api.h>

#include <cstddef>
#include <memory>

#include "addon/convert.h"
#include "addon/environment.h"
#include "store/store.h"

namespace cairn {

// The value itself where it is text or a whole number; null where TypeScript has to decode it (or V8 has no room).
napi_value DirectValue(napi_env env, Codec codec, const char* data, size_t bytes);

// A value that Execute() left pinned or that did not fit the scratch, brought out of the store: a JavaScript value if
// it is text, a new Buffer otherwise; null if there is no memory for it. Does not touch the scratch. Unpins.
napi_value LargeValue(napi_env env, const CacheHandle* handle, const Outcome& outcome, const char* copied);

// Executes a reading request for which the scratch was too small: the value is in `*copied` (or pinned) afterwards.
// False: out of memory.
[[nodiscard]] bool ExecuteWithRoom(const CacheHandle* handle, const Request& request, const Now& now, Outcome* outcome,
                                   std::unique_ptr<char[]>* copied);

// What src/native.ts wants to know of a value whose bytes are elsewhere: the answer that says so.
napi_value Elsewhere(napi_env env, const CacheHandle* handle, Codec codec, uint32_t bytes, uint32_t client_flags,
                     ValuePlace place);

// Executes a reading request and returns its answer as native.ts describes it for `get`: the value, undefined for a
// miss, true for "decode it: see the words", false for "see the code".
napi_value Answer(napi_env env, const CacheHandle* handle, const Request& request, const Now& now, Outcome* outcome);

// false, with the code in the words.
napi_value Refusal(napi_env env, const CacheHandle* handle, Code code);

}  // namespace cairn
