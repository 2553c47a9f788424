// Changes that are made again after the backend has refused them, unless their keys were changed meanwhile.
#pragma once

#include <napi.h>

namespace cairn {

// Handles of caches with a backend: beginRetry, executeRetry, endRetry.
void InitRetryBinding(Napi::Env env, Napi::Object exports);

}  // namespace cairn
