// Single flight for cache.fetch(): a handle's seat in the flight table (process/flight_table.h). src/fetch is the other
// side; src/fetch/flight-binding.ts declares the functions.
//
// The handle's first joinFlight() makes the seat, as one of the handle's parts. So the seat, with everything that the
// handle leads or waits for, ends when the handle is closed or collected or its environment ends.
#pragma once

#include <napi.h>

namespace cairn {

// Adds joinFlight, fillFlight, settleFlight, leaveFlight, takeFlightNews, flightCounts and getAged to every handle.
void InitFlightBinding(Napi::Env env, Napi::Object exports);

}  // namespace cairn
