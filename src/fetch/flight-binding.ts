/** The door to flight_binding.cc, and the other parts of a cache that fetching needs. */
import type { Code, NativeHandle } from '../native.ts';
import type { Loader, RawOption } from '../options.ts';

export type Key = string | Uint8Array;

/** The counters of fetching, over all threads. */
export interface FetchCounts {
  /** Loads that were started. */
  fetchLoads: number;
  /** Calls that shared a load instead of starting one. */
  fetchJoins: number;
  /** Loads in flight. */
  fetchFlights: number;
}

/** What flight_binding.cc adds to a handle. */
export interface FlightHandle extends NativeHandle {
  joinFlight(key: Key, ifAbsent: boolean): number;
  fillFlight(
    id: number,
    payload: string | Uint8Array,
    codec: number,
    ttl: number | undefined,
    keep: boolean,
    freshMs: number | undefined,
  ): Code;
  settleFlight(id: number, kind: number, message?: string, name?: string, code?: string): void;
  leaveFlight(id: number): number;
  takeFlightNews(): unknown[] | undefined;
  flightCounts(): [number, number, number] | undefined;
  /**
   * As `get`; with `acceptsStale` for a stale entry, too. `words[Word.expiresIn]`: milliseconds for which it is still
   * fresh, 0: without end; `words[Word.number]`: 0, or milliseconds for which it has been stale, and 1.
   */
  getAged(key: Key, acceptsStale: boolean): unknown;
}

/** The parts of a cache that fetching needs. */
export interface FetchCache {
  readonly handle: FlightHandle;
  readonly raw: RawOption;
  /** Milliseconds; 0: entries do not expire. */
  readonly ttl: number;
  /** What loads for a `fetch` that brings no loader; undefined: nothing does. */
  readonly loader: Loader<unknown> | undefined;
  /** From 0 to 1, for `jitter`. */
  readonly random: () => number;
  /** Moves the cache's time, where its maker gave a clock. */
  readonly tick: (() => void) | undefined;
  get(key: Key): unknown;
  getMany(keys: readonly Key[]): unknown[];
  /** Milliseconds for which the entry is still fresh: `Infinity` without end, 0 for a miss. */
  remainingTtl(key: Key): number;
  /** As `get`, by another function of the handle. */
  read(key: Key, read: (key: Key) => unknown): unknown;
  error(code: number, key?: Key): Error;
}

// The numbers of flight_binding.cc and flight_table.h.
export const ROLES = 8;
export const ROLE_LEAD = 1;
export const ROLE_WAIT = 2;
export const ROLE_PRESENT = 3;
export const ROLE_ALONE = 4;
export const NEWS_ANSWER = 1;
export const NEWS_AGAIN = 2;
export const NEWS_LEAD = 3;
export const NEWS_ABORT = 4;
export const NEWS_FIELDS = 6;
export const ANSWER_NOTHING = 1;
export const ANSWER_ERROR = 2;
export const SETTLE_AGAIN = 0;
export const LEAVE_GOES_ON = 2;

/** Counts of fetching of a cache. */
export function fetchCounts(handle: FlightHandle): FetchCounts {
  const [fetchLoads, fetchJoins, fetchFlights] = handle.flightCounts() ?? [0, 0, 0];
  return { fetchLoads, fetchJoins, fetchFlights };
}
