/** The options of `fetch`: their types, and the checks on them. */
import { misplaced, outOfRange } from '../errors.ts';
import { LOADER_KEYS_DEFAULT, LOADER_KEYS_MAX } from '../limits.ts';
import { checkBoolean, checkInteger, checkNames, type Duration, parseDuration, timer } from '../options.ts';
import { checkSignal } from '../patience.ts';
import type { FetchOutcome } from './call.ts';

/** The answer of `fetchWithInfo`. */
export interface FetchInfo<V> {
  value: V;
  /** Where the value came from. */
  outcome: FetchOutcome;
  /**
   * Milliseconds for which the entry of the key is still fresh; `Infinity`: without end; 0: it is stale, or the value
   * is not stored.
   */
  ttl: number;
  /** Milliseconds since the value became stale; 0: it is fresh. */
  staleFor: number;
}

/** Options of `fetch`. The options of the call whose loader runs decide how the value is stored. */
export interface FetchOptions<V = unknown> {
  /**
   * Time to live of a loaded value, or a function that computes it from the value: `(token) => token.expiresInMs`. 0:
   * the waiting callers get the value, and it is not stored (in `set`, 0 means that the entry does not expire).
   * `Infinity`: it does not expire. Default: the cache's `ttl`.
   */
  ttl?: Duration | ((value: V, key: string | Uint8Array) => Duration);
  /** Ends the wait of this caller when it is aborted, with its reason. The load continues for other waiting callers. */
  signal?: AbortSignal;
  /**
   * Ends the wait of this caller after this time, with `ERR_TIMEOUT`. 0 (default): never. The load continues for other
   * waiting callers.
   */
  timeout?: Duration;
  /** Loads even if there is a value; joins a load of the key that is in flight. Default false. */
  forceRefresh?: boolean;
  /**
   * Keeps the loaded value for this time after its `ttl`, as a stale value. In that time a `fetch` with this option
   * returns the stale value at once, while one load, in one thread, replaces it. Every other reader (`get`, `has`, the
   * port, a `fetch` without the option) finds no entry once it is stale. `Infinity`: until its memory is needed.
   * Default 0.
   */
  staleWhileRevalidate?: Duration;
  /**
   * Keeps the loaded value for this time after its `ttl`, as a stale value. In that time a `fetch` with this option
   * returns it if the loader fails. Otherwise as `staleWhileRevalidate`. Default 0.
   */
  staleIfError?: Duration;
  /**
   * Ends the wait of this caller after this time if there is a stale value within `staleIfError`, which it then gets.
   * The load goes on and is stored; `timeout` still bounds it. Without such a value the caller waits on. Needs
   * `staleIfError`. Default 0: never.
   */
  softTimeout?: Duration;
  /**
   * A hit this near to the end of its value's freshness starts one load, in one thread, which replaces the value; the
   * hit itself does not wait. A time such as `'30s'`, or a share of the `ttl` of this call such as `'20%'`. Default 0:
   * values are loaded again only once their time is over.
   */
  refreshAhead?: Duration;
  /**
   * Shortens the `ttl` of a loaded value by a random time of at most this, so that values loaded together do not end
   * together: a time such as `'30s'`, or a share of the `ttl` such as `'10%'`. No value lives longer than its `ttl`, or
   * less than 1 ms. Default 0.
   */
  jitter?: Duration;
}

/** Options of a call whose loader takes many keys: of `fetchMany`, and of `fetch` with `collect`. */
export interface FetchManyOptions<V = unknown> extends FetchOptions<V> {
  /**
   * Collects the misses of all calls on this handle with the same loader for this time, and loads them by one call of
   * the loader. 0: those of calls that are made together, before the running code ends or awaits. Default 0. A `fetch`
   * with `collect` takes a loader of many keys.
   */
  collect?: Duration;
  /** The most keys that one call of the loader gets; more misses are loaded by several calls. Default 1000. */
  batchSize?: number;
}

/** The names of the options of one key. */
export const OPTION_NAMES: readonly (keyof FetchOptions)[] = [
  'ttl',
  'signal',
  'timeout',
  'forceRefresh',
  'staleWhileRevalidate',
  'staleIfError',
  'softTimeout',
  'refreshAhead',
  'jitter',
];

const MANY_OPTION_NAMES: readonly (keyof FetchManyOptions)[] = [...OPTION_NAMES, 'collect', 'batchSize'];

/** How keys are collected for a loader of many. */
export interface Batching {
  readonly collectMs: number;
  readonly keysMax: number;
}

/** A part of a time to live: a time, or a share from 0 to 1. At most one of the two is above 0. */
export interface Part {
  readonly ms: number;
  readonly share: number;
}

/** Options after checking. */
export interface Wants {
  readonly ttl: FetchOptions['ttl'];
  readonly signal: AbortSignal | undefined;
  readonly timeoutMs: number;
  readonly forceRefresh: boolean;
  readonly revalidateMs: number;
  readonly errorMs: number;
  /** 0: it does not end its wait early. */
  readonly softMs: number;
  /** undefined: it refreshes nothing ahead. */
  readonly ahead: Part | undefined;
  /** undefined: the time to live is exact. */
  readonly jitter: Part | undefined;
  /** Whether a stale entry is of use: as the answer, or for the loader of a forced refresh. */
  readonly acceptsStale: boolean;
  /** Whether a hit depends on how fresh the entry is. */
  readonly asksFreshness: boolean;
  /** Of a loader of many keys; undefined: the loader takes one. */
  readonly batching: Batching | undefined;
}

export const NO_WANTS: Wants = {
  ttl: undefined,
  signal: undefined,
  timeoutMs: 0,
  forceRefresh: false,
  revalidateMs: 0,
  errorMs: 0,
  softMs: 0,
  ahead: undefined,
  jitter: undefined,
  acceptsStale: false,
  asksFreshness: false,
  batching: undefined,
};

/** Checks the options of a call. Throws the reason of a signal that is aborted. */
export function checkOptions(given: FetchManyOptions): Wants {
  checkNames<FetchManyOptions>('options', given, MANY_OPTION_NAMES);
  const { ttl } = given;
  const signal = checkSignal(given.signal);
  // The number or text is read again when there is a value; here only to refuse a wrong one at once.
  if (typeof ttl !== 'function') parseDuration('ttl', ttl, 0);
  const revalidateMs = parseWindow('staleWhileRevalidate', given.staleWhileRevalidate);
  const errorMs = parseWindow('staleIfError', given.staleIfError);
  const softMs = parseDuration('softTimeout', given.softTimeout, 0);
  if (softMs > 0 && errorMs === 0) {
    throw misplaced('softTimeout gives the stale value that staleIfError keeps: give staleIfError too');
  }
  const forceRefresh = checkBoolean('forceRefresh', given.forceRefresh, false);
  const ahead = parsePart('refreshAhead', given.refreshAhead);
  return {
    ttl,
    signal,
    timeoutMs: parseDuration('timeout', given.timeout, 0),
    forceRefresh,
    revalidateMs,
    errorMs,
    softMs,
    ahead,
    jitter: parsePart('jitter', given.jitter),
    acceptsStale: revalidateMs + errorMs > 0 || forceRefresh,
    asksFreshness: revalidateMs + errorMs > 0 || ahead !== undefined,
    batching: checkBatching(given),
  };
}

/** What `fetchMany` wants: its loader takes many keys, whether it says how they are collected or not. */
export function checkManyOptions(given: FetchManyOptions | undefined): Wants {
  const options = checkNames<FetchManyOptions>('options', given, MANY_OPTION_NAMES);
  return checkOptions({ ...options, collect: options.collect ?? 0 });
}

// A loader of many keys is known by `collect`.
function checkBatching({ collect, batchSize }: FetchManyOptions): Batching | undefined {
  const keysMax = checkInteger('batchSize', batchSize, 1, LOADER_KEYS_MAX, LOADER_KEYS_DEFAULT);
  if (collect !== undefined) return { collectMs: timer(0)(collect, 'collect', () => 0), keysMax };
  if (batchSize === undefined) return undefined;
  throw misplaced('batchSize is for loaders of many keys: a fetch with such a loader gives collect too');
}

// For a time to live Infinity is none, which is 0; for a window it is the longest.
function parseWindow(name: string, given: unknown): number {
  return given === Number.POSITIVE_INFINITY ? given : parseDuration(name, given, 0);
}

// undefined: there is none.
function parsePart(name: string, given: unknown): Part | undefined {
  const percent = typeof given === 'string' ? /^(\d+(?:\.\d+)?)\s*%$/.exec(given.trim()) : null;
  if (percent === null) {
    const ms = parseDuration(name, given, 0);
    return ms === 0 ? undefined : { ms, share: 0 };
  }
  const share = Number(percent[1]) / 100;
  if (share > 1) throw outOfRange(name, 'a share of at most "100%", or a time such as "30s"', given);
  return share === 0 ? undefined : { ms: 0, share };
}
