export type { LoadedMany, ManyContext, ManyLoader } from './batches.ts';
export type { FetchOutcome } from './call.ts';
export type { FetchInfo, FetchManyOptions, FetchOptions } from './fetch-options.ts';
export { Fetcher, type GivenLoader } from './fetcher.ts';
export { type FetchCache, type FetchCounts, type FlightHandle, fetchCounts } from './flight-binding.ts';
export { type AnyFunction, type WrapOptions, wrap } from './wrap.ts';
