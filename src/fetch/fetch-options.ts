/** What `fetch` takes: the types of it, and the checks on it. */
import { checkBoolean, checkNames, type Duration, parseDuration } from '../options.ts';
import { checkSignal } from '../patience.ts';

/** What a loader is told. */
export interface LoadContext<V> {
  /** The key that is wanted, as the call gave it whose loader this is. */
  readonly key: string | Uint8Array;
  /** The value that is still in the cache, if this refreshes one; otherwise `undefined`. */
  readonly stale: V | undefined;
  /** Aborted when no caller in any thread waits for the value any more, or the cache is closed. */
  readonly signal: AbortSignal;
}

/** Gets a value from where it really is. `undefined`: there is none; callers get `undefined`, and nothing is stored. */
export type Loader<V, L = V | undefined> = (context: LoadContext<V>) => L | PromiseLike<L>;

/** Options of `fetch`. Those of the call that comes to load decide how the value is stored. */
export interface FetchOptions<V = unknown> {
  /**
   * Time to live of a loaded value, or a function that tells it of the value: `(token) => token.expiresInMs`. 0: do not
   * keep it; those who wait get it, and that is all. `Infinity`: it does not expire. Default: the cache's `ttl`.
   * (In `set`, 0 means that the entry does not expire. A loaded value whose time is over is not worth keeping.)
   */
  ttl?: Duration | ((value: V, key: string | Uint8Array) => Duration);
  /** Gives up waiting when it is aborted, with its reason. The load goes on for others who wait. */
  signal?: AbortSignal;
  /** Gives up waiting after that time, with `ERR_TIMEOUT`. 0 (default): never. The load goes on for others who wait. */
  timeout?: Duration;
  /** Load even if there is a value. A load of that key that is under way counts. Default false. */
  forceRefresh?: boolean;
  /**
   * Keep the loaded value that much longer than its `ttl`: it is stale then. A `fetch` with this option gets a value
   * that is stale for less than this time at once, while one load, of one thread, brings a new one. Every other reader
   * (`get`, `has`, the port, a `fetch` without the option) finds no entry once it is stale. `Infinity`: for as long as
   * there is room. Default 0.
   */
  staleWhileRevalidate?: Duration;
  /**
   * Keep the loaded value that much longer than its `ttl`, and answer a `fetch` with this option with it in that time
   * if the loader fails. As for the rest see `staleWhileRevalidate`. Default 0.
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
