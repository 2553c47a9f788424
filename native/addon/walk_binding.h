// Walks over a cache (keys, values, entries, dump), loading a dump, and the counters.
#pragma once

#include <napi.h>

namespace cairn {

void InitWalkBinding(Napi::Env env, Napi::Object exports);

}  // namespace cairn
