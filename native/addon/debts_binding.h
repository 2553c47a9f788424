// What the writer and the loader of a cache with a backend ask of its store; see store/debts.h.
#pragma once

#include <napi.h>

namespace cairn {

// Handles of caches with a backend: stubOf, revive, lastChangeOf, stubShare.
void InitDebtsBinding(Napi::Env env, Napi::Object exports);

}  // namespace cairn
