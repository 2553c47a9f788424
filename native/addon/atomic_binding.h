// Atomic batches, from TypeScript (src/atomic.ts).
#pragma once

#include <napi.h>

namespace cairn {

// Handles: executeAtomic, setAtomicBatches.
void InitAtomicBinding(Napi::Env env, Napi::Object exports);

}  // namespace cairn
