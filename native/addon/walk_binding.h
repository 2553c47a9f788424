// Walks over a cache (keys, values, entries, dump), loading a dump, and the counters.
#pragma once

#include <node_api.h>

namespace cairn {

void InitWalkBinding(napi_env env, napi_value exports);

}  // namespace cairn
