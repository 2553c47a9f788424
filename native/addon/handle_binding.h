// The functions that make cache handles, and the functions of a handle besides the verbs: clear, resize, close.
// src/native.ts declares their types.
#pragma once

#include <napi.h>

namespace cairn {

void InitHandleBinding(Napi::Env env, Napi::Object exports);

}  // namespace cairn
