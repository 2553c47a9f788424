// Loads from the database behind a cache, for both sides: the handles whose callers wait for a value, and the loader's.
// Only handles of a cache with a backend have these functions; LoadHandle of src/native.ts lists them.
//
//   beginLoads(keys) -> ids        a number for each key; 0: there are too many loads; undefined: the handle is closed
//   leaveLoads(ids)                their callers wait no more
//   takeEndedLoads() -> rows       id, and why it failed or undefined; some of them; undefined: the handle is closed
//   getThrough(key)                as get; Code.notResident if only the backend knows
//   failLoads(why)                 there will be no loader: see LoadTable::FailAll
//   loadCounts() -> numbers        loads now, begun, requests that joined, failed, refused
//
//   attachLoader()                 this handle's thread loads from now on. False: the handle is closed
//   drainLoads(most) -> rows       id, key as a Buffer; undefined: the handle is closed
//   finishLoads(rows)              ends loads: see kResultFields
//   detachLoader()                 the loads that it has go to the next loader
#pragma once

#include <napi.h>

namespace cairn {

void InitLoadBinding(Napi::Env env, Napi::Object exports);

}  // namespace cairn
