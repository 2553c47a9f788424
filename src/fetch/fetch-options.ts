/** The options of `fetch`: their types, and the checks on them. */
import { checkBoolean, checkNames, type Duration, parseDuration } from '../options.ts';
import { checkSignal } from '../patience.ts';

/** The argument of a loader. */
export interface LoadContext<V> {
  /** The key to load, as given to the `fetch` whose loader this is. */
  readonly key: string | Uint8Array;
  /** The old value, if this load refreshes one that is still in the cache; otherwise `undefined`. */
  readonly stale: V | undefined;
  /** Aborted when no caller in any thread waits any more, or when the cache is closed. */
  readonly signal: AbortSignal;
}

/** Gets a value from its source. `undefined`: there is no value; callers get `undefined`, and nothing is stored. */
export type Loader<V, L = V | undefined> = (context: LoadContext<V>) => L | PromiseLike<L>;

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
}

const OPTION_NAMES: readonly (keyof FetchOptions)[] = [
  'ttl',
  'signal',
  'timeout',
  'forceRefresh',
  'staleWhileRevalidate',
  'staleIfError',
];

/** Options after checking. */
export interface Wants {
  readonly ttl: FetchOptions['ttl'];
  readonly signal: AbortSignal | undefined;
  readonly timeoutMs: number;
  readonly forceRefresh: boolean;
  readonly revalidateMs: number;
  readonly errorMs: number;
}

export const NO_WANTS: Wants = {
  ttl: undefined,
  signal: undefined,
  timeoutMs: 0,
  forceRefresh: false,
  revalidateMs: 0,
  errorMs: 0,
};

/** Checks the options of a call. Throws the reason of a signal that is aborted. */
export function checkOptions(given: FetchOptions): Wants {
  checkNames<FetchOptions>('options', given, OPTION_NAMES);
  const { ttl } = given;
  const signal = checkSignal(given.signal);
  // What a number or text stands for is found out when there is a value; that it stands for something, now.
  if (typeof ttl !== 'function') parseDuration('ttl', ttl, 0);
  return {
    ttl,
    signal,
    timeoutMs: parseDuration('timeout', given.timeout, 0),
    forceRefresh: checkBoolean('forceRefresh', given.forceRefresh, false),
    revalidateMs: parseWindow('staleWhileRevalidate', given.staleWhileRevalidate),
    errorMs: parseWindow('staleIfError', given.staleIfError),
  };
}

// For a time to live Infinity is none, which is 0; for a window it is the longest.
function parseWindow(name: string, given: unknown): number {
  return given === Number.POSITIVE_INFINITY ? given : parseDuration(name, given, 0);
}
