// The functions that make cache handles, and what a handle can do beside the verbs: clear, resize, close. src/native.ts
// declares their types.
#pragma once

#include <napi.h>

namespace cairn {

void InitHandleBinding(Napi::Env env, Napi::Object exports);

}  // namespace cairn
