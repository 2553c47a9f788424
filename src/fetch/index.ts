export type { FetchOutcome } from './call.ts';
export type { FetchInfo, FetchOptions, LoadContext, Loader } from './fetch-options.ts';
export { Fetcher } from './fetcher.ts';
export { type FetchCache, type FetchCounts, type FlightHandle, fetchCounts } from './flight-binding.ts';
