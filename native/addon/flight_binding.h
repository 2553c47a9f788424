// Single flight for cache.fetch(): a handle's seat in the flight table (process/flight_table.h). src/fetch.ts is the
// other side, src/native.ts declares the functions.
//
// The seat is made by the handle's first joinFlight() and lives in the handle's parts, so that it goes when the handle
// is closed or collected or its environment ends, and with it what the handle leads or waits for.
#pragma once

#include <napi.h>

namespace cairn {

// Exports onWake, holdAwake and wakeSelf, and adds joinFlight, fillFlight, settleFlight, leaveFlight, takeFlightNews,
// flightCounts and getWithExpiry to every handle.
void InitFlightBinding(Napi::Env env, Napi::Object exports);

}  // namespace cairn
