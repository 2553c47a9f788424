/** The verbs that load: `fetch` and its family, with their documentation. fetch/ does the work. */
import { answerError } from './answers.ts';
import { CacheEntries } from './cache-entries.ts';
import {
  type AnyFunction,
  type FetchCache,
  Fetcher,
  type FetchInfo,
  type FetchManyOptions,
  type FetchOptions,
  type FlightHandle,
  type GivenLoader,
  type ManyLoader,
  type WrapOptions,
  wrap,
} from './fetch/index.ts';
import type { Opened } from './opening.ts';
import type { Duration, Loader } from './options.ts';
import { Reads } from './reads.ts';
import type { Key } from './request/arguments.ts';

/**
 * The handle is about to be closed: ends its fetches.
 * @internal
 */
export let closeFetches: <V>(cache: CacheFetch<V>) => void;

/** The part of Cache that loads entries that are missing. */
export abstract class CacheFetch<V> extends CacheEntries<V> {
  readonly #opened: Opened;
  #fetcher: Fetcher | undefined;

  static {
    closeFetches = (cache) => cache.#fetcher?.close();
  }

  /** @internal */
  constructor(opened: Opened) {
    super(opened);
    this.#opened = opened;
  }

  /**
   * The value. On a miss, calls `loader` and stores its result. Other callers of `fetch` for the key, in any thread of
   * the process, wait for this load instead of loading too. If the loading thread ends, the next waiting one loads.
   * Every caller gets its own copy, as from `get`, also the one whose loader ran.
   *
   * - A `set`, `delete` or other change of the key, or a `clear`, during the load: callers from before it get the
   *   loaded value, which is not stored. A later call starts a new load.
   * - The loader returns `undefined`: callers get it, nothing is stored. (`null` is a value, with which to store that
   *   something does not exist.)
   * - The loader fails: all callers are rejected with its error, in other threads with an error of the same name,
   *   message and code. Nothing is stored.
   * - The value is larger than `maxValueBytes`, or there is no room for it: callers get it, nothing is stored.
   * - More than 65,536 loads are in flight in the cache: a further load is not shared and stores nothing.
   *
   * Rejects with `ERR_VALUE_NOT_STORABLE` if the loader returns something that cannot be copied, such as a function;
   * with `ERR_TIMEOUT` or the reason of `signal` if the caller stops waiting; with `ERR_FETCH_CIRCLE` if a loader waits
   * for itself; with `ERR_CLOSED` if the cache is closed.
   */
  fetch<L extends V | undefined>(
    key: Key,
    loader: Loader<V, L>,
    options?: FetchOptions<V>,
  ): Promise<V | Extract<L, undefined>>;
  /** As above, with a loader of many keys, which gets the misses of all calls with it in the time `collect`. */
  fetch(key: Key, loader: ManyLoader<V>, options: CollectOptions<V>): Promise<V | undefined>;
  /** As above, with the loader of this handle (option `loader`). Rejects with `ERR_INVALID_ARGUMENT` without one. */
  fetch(key: Key, options?: FetchOptions<V>): Promise<V | undefined>;
  fetch(
    key: Key,
    loader?: Loader<V> | ManyLoader<V> | FetchOptions<V>,
    options?: FetchOptions<V>,
  ): Promise<V | undefined> {
    return this.#fetching.fetch(key, loader as GivenLoader, options as FetchOptions) as Promise<V | undefined>;
  }

  /**
   * As `fetch`, and returns beside the value where it came from and for how long it is fresh: `{ value, outcome, ttl,
   * staleFor }`.
   */
  fetchWithInfo<L extends V | undefined>(
    key: Key,
    loader: Loader<V, L>,
    options?: FetchOptions<V>,
  ): Promise<FetchInfo<V | Extract<L, undefined>>>;
  /** As above, with a loader of many keys. */
  fetchWithInfo(key: Key, loader: ManyLoader<V>, options: CollectOptions<V>): Promise<FetchInfo<V | undefined>>;
  /** As above, with the loader of this handle. */
  fetchWithInfo(key: Key, options?: FetchOptions<V>): Promise<FetchInfo<V | undefined>>;
  fetchWithInfo(
    key: Key,
    loader?: Loader<V> | ManyLoader<V> | FetchOptions<V>,
    options?: FetchOptions<V>,
  ): Promise<FetchInfo<V | undefined>> {
    const answer = this.#fetching.fetchWithInfo(key, loader as GivenLoader, options as FetchOptions);
    return answer as Promise<FetchInfo<V | undefined>>;
  }

  /**
   * The values of many keys, in the order of the keys. One call of `loader` loads the missing ones, and each is stored
   * as by `fetch`: keys that a call in any thread loads already are waited for, not loaded again. A key that the
   * loader's answer does not have is `undefined` here, and nothing is stored for it. The options count for each key.
   *
   * If the load of a key fails, the others are finished and stored; then this rejects with the error of the first such
   * key. `fetchManySettled` has the outcome of each. Without `loader`, the loader of this handle loads each missing
   * key.
   *
   * Rejects as `fetch`; and with `ERR_INVALID_ARGUMENT` if a key is wrong, having loaded nothing, or if the loader
   * returns neither a Map nor an array of as many values as it got keys.
   */
  fetchMany(keys: Iterable<Key>, loader: ManyLoader<V>, options?: FetchManyOptions<V>): Promise<(V | undefined)[]>;
  /** As above, with the loader of this handle, one call for each missing key. */
  fetchMany(keys: Iterable<Key>, options?: FetchOptions<V>): Promise<(V | undefined)[]>;
  fetchMany(
    keys: Iterable<Key>,
    loader?: ManyLoader<V> | FetchOptions<V>,
    options?: FetchManyOptions<V>,
  ): Promise<(V | undefined)[]> {
    const values = this.#fetching.fetchMany(keys, loader as GivenLoader, options as FetchManyOptions);
    return values as Promise<(V | undefined)[]>;
  }

  /**
   * As `fetchMany`, and returns for each key its value or its error, as `Promise.allSettled` does: `{ status:
   * 'fulfilled', value }` or `{ status: 'rejected', reason }`. Rejects only for wrong arguments.
   */
  fetchManySettled(
    keys: Iterable<Key>,
    loader: ManyLoader<V>,
    options?: FetchManyOptions<V>,
  ): Promise<PromiseSettledResult<V | undefined>[]>;
  /** As above, with the loader of this handle, one call for each missing key. */
  fetchManySettled(keys: Iterable<Key>, options?: FetchOptions<V>): Promise<PromiseSettledResult<V | undefined>[]>;
  fetchManySettled(
    keys: Iterable<Key>,
    loader?: ManyLoader<V> | FetchOptions<V>,
    options?: FetchManyOptions<V>,
  ): Promise<PromiseSettledResult<V | undefined>[]> {
    const results = this.#fetching.fetchManySettled(keys, loader as GivenLoader, options as FetchManyOptions);
    return results as Promise<PromiseSettledResult<V | undefined>[]>;
  }

  /**
   * A function with the arguments of `fn` that returns the value of `key(...args)`, as by `fetch`: on a miss it calls
   * `fn(...args)` and stores the result. It takes the options of `fetch`, except `signal`. Calls of equal keys share
   * one call of `fn`, whatever their other arguments are.
   *
   * `fn` is called without `this`: wrap a method as `wrap((id) => users.find(id), ...)`. A value is a copy, also for
   * the caller whose call ran `fn`.
   */
  wrap<A extends unknown[], L extends V | undefined>(
    fn: (...args: A) => L | PromiseLike<L>,
    options: WrapOptions<A, NoInfer<L>>,
  ): (...args: A) => Promise<L> {
    const wrapped = wrap(this.#fetching, fn as AnyFunction, options as unknown as WrapOptions<unknown[]>);
    return wrapped as (...args: A) => Promise<L>;
  }
  // Made when it is first needed.
  get #fetching(): Fetcher {
    this.#fetcher ??= new Fetcher(this.#fetchCache());
    return this.#fetcher;
  }

  #fetchCache(): FetchCache {
    const { handle, raw, loader, random, tick } = this.#opened;
    const reads = new Reads(handle, raw);
    return {
      handle: handle as FlightHandle,
      raw,
      ttl: handle.isClosed() ? 0 : this.#opened.resolved.ttl,
      loader,
      random,
      tick,
      get: (key) => this.get(key),
      getMany: (keys) => this.getMany(keys),
      remainingTtl: (key) => this.getRemainingTTL(key),
      read: (key, read) => {
        const value = read(key);
        return typeof value === 'boolean' ? reads.finish(value, key, 'get', read) : value;
      },
      error: (code, key) => answerError(handle, code, { key }),
    };
  }
}

/** Options of a `fetch` whose loader takes many keys. */
type CollectOptions<V> = FetchManyOptions<V> & { collect: Duration };
