// Removal events for cache.on('removal'): a handle's listener on the cache's ring (process/removal_ring.h, which draws
// the events). src/removals.ts is the other side and declares the functions. Wake-ups come through onWake() of
// thread_waker.h.
#pragma once

#include <napi.h>

namespace cairn {

// Adds listenRemovals and takeRemovals to every handle.
void InitRemovalBinding(Napi::Env env, Napi::Object exports);

}  // namespace cairn
