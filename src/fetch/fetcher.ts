/**
 * fetch(): the value of a key. A hit answers at once. Otherwise the first caller loads it, and callers in all threads
 * wait for that load ({@link Flights}).
 *
 * ```
 *                    fresh                    stale, within staleWhileRevalidate   stale otherwise, or missing
 *  the answer        the value                the value                            that of a load
 *  a load begins     within refreshAhead:     in the background                    now
 *                    in the background
 * ```
 */
import { wrongType } from '../errors.ts';
import type { Loader } from '../options.ts';
import { Call, type Describe } from './call.ts';
import { checkOptions, type FetchOptions, NO_WANTS, type Wants } from './fetch-options.ts';
import type { FetchCache, Key } from './flight-binding.ts';
import { Flights } from './flights.ts';
import { aheadMsOf } from './life.ts';
import { isValue, readFresh, readStored, UNREADABLE } from './stored.ts';

/** The argument `loader`: left out, or the options in its place, if the handle has a loader. */
export type GivenLoader = Loader<unknown> | FetchOptions | undefined;

/** The fetches of one handle. */
export class Fetcher {
  readonly #cache: FetchCache;
  readonly #flights: Flights;

  constructor(cache: FetchCache) {
    this.#cache = cache;
    this.#flights = new Flights(cache);
  }

  /** Cache.fetch, which has the documentation. */
  fetch(key: Key, loader: GivenLoader, options: FetchOptions | undefined): Promise<unknown> {
    return this.#fetch(key, loader, options, undefined);
  }

  /** Cache.fetchWithInfo, which has the documentation. */
  fetchWithInfo(key: Key, loader: GivenLoader, options: FetchOptions | undefined): Promise<unknown> {
    return this.#fetch(key, loader, options, this.#describe);
  }

  /** A call of a wrapped function. */
  fetchWrapped(key: Key, loader: Loader<unknown>, wants: Wants): Promise<unknown> {
    try {
      this.#cache.tick?.();
      return this.#fetchFresh(key, loader, wants, undefined);
    } catch (error) {
      return Promise.reject(error);
    }
  }

  /** The handle is about to be closed, or was closed: all calls are rejected. */
  close(): void {
    this.#flights.close();
  }

  #fetch(
    key: Key,
    given: GivenLoader,
    options: FetchOptions | undefined,
    describe: Describe | undefined,
  ): Promise<unknown> {
    try {
      if (typeof given !== 'function') return this.#fetchByDefault(key, given, options, describe);
      return this.#fetchFresh(key, given, options === undefined ? NO_WANTS : checkOptions(options), describe);
    } catch (error) {
      return Promise.reject(error);
    }
  }

  // The call brings no loader: the options may stand in its place.
  #fetchByDefault(
    key: Key,
    given: FetchOptions | undefined,
    options: FetchOptions | undefined,
    describe: Describe | undefined,
  ): Promise<unknown> {
    const { loader } = this.#cache;
    const isOptions = given === undefined || (typeof given === 'object' && given !== null && options === undefined);
    if (!isOptions) throw wrongType('loader', 'a function', given);
    if (loader === undefined) {
      throw wrongType('loader', 'a function, because this handle was made without the option loader', given);
    }
    return this.#fetchFresh(key, loader, checkOptions(given ?? options ?? {}), describe);
  }

  #fetchFresh(key: Key, loader: Loader<unknown>, wants: Wants, describe: Describe | undefined): Promise<unknown> {
    if (wants.forceRefresh || wants.asksFreshness || describe !== undefined) {
      return this.#fetchStored(key, loader, wants, describe);
    }
    const value = readFresh(this.#cache, key);
    if (isValue(value)) return Promise.resolve(value);
    return this.#flights.start(new Call({ key, loader, wants, refresh: value === UNREADABLE }));
  }

  // The answer depends on how fresh the entry is.
  #fetchStored(key: Key, loader: Loader<unknown>, wants: Wants, describe: Describe | undefined): Promise<unknown> {
    const { forceRefresh, revalidateMs, errorMs } = wants;
    const present = readStored(this.#cache, key);
    const { value, staleMs, leftMs } = present;
    const isFresh = staleMs < 0;
    const isWanted = isFresh || forceRefresh || revalidateMs + errorMs > 0;
    if (!isValue(value) || !isWanted) {
      const refresh = forceRefresh || value === UNREADABLE;
      return this.#flights.start(new Call({ key, loader, wants, refresh, describe }));
    }
    const parts = { key, loader, wants, refresh: true, present };
    if (forceRefresh || (!isFresh && staleMs >= revalidateMs)) {
      return this.#flights.start(new Call({ ...parts, describe }));
    }
    const aheadMs = isFresh ? aheadMsOf(this.#cache, wants, key, value) : 0;
    if (!isFresh || leftMs <= aheadMs) this.#flights.revalidate(new Call({ ...parts, aheadMs }));
    const outcome = isFresh ? 'hit' : 'stale';
    return Promise.resolve(describe === undefined ? value : describe(key, value, outcome, present));
  }

  readonly #describe: Describe = (key, value, outcome, present) => {
    if (present !== undefined && present.staleMs >= 0) return { value, outcome, ttl: 0, staleFor: present.staleMs };
    // The loader may have closed the cache.
    const ttl = present?.leftMs ?? (this.#cache.handle.isClosed() ? 0 : this.#cache.remainingTtl(key));
    return { value, outcome, ttl, staleFor: 0 };
  };
}
