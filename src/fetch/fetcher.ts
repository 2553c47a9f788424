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
import { CairnError, misplaced, wrongType } from '../errors.ts';
import type { Loader } from '../options.ts';
import { asArray } from '../request/arguments.ts';
import { copyOfBytes } from '../request/bytes.ts';
import type { ManyLoader } from './batches.ts';
import { type AnyLoader, Call, type Describe } from './call.ts';
import { checkManyOptions, checkOptions, type FetchManyOptions, NO_WANTS, type Wants } from './fetch-options.ts';
import type { FetchCache, Key } from './flight-binding.ts';
import { Flights } from './flights.ts';
import { aheadMsOf } from './life.ts';
import { isValue, readFresh, readStored, type Stored, UNREADABLE } from './stored.ts';
import { loadNothing, Through } from './through.ts';

/** The argument `loader`: left out, or the options in its place, if the handle has a loader. */
export type GivenLoader = Loader<unknown> | ManyLoader<unknown> | FetchManyOptions | undefined;

/** The fetches of one handle. */
export class Fetcher {
  readonly #cache: FetchCache;
  readonly #flights: Flights;
  readonly #through: Through | undefined;

  constructor(cache: FetchCache) {
    this.#cache = cache;
    this.#through = Through.of(cache);
    this.#flights = new Flights(cache);
  }

  /** Cache.fetch, which has the documentation. */
  fetch(key: Key, loader: GivenLoader, options: FetchManyOptions | undefined): Promise<unknown> {
    return this.#fetch(key, loader, options, undefined);
  }

  /** Cache.fetchWithInfo, which has the documentation. */
  fetchWithInfo(key: Key, loader: GivenLoader, options: FetchManyOptions | undefined): Promise<unknown> {
    return this.#fetch(key, loader, options, this.#describe);
  }

  /** Cache.fetchMany, which has the documentation. */
  async fetchMany(keys: Iterable<Key>, loader: GivenLoader, options: FetchManyOptions | undefined): Promise<unknown[]> {
    const results = await this.fetchManySettled(keys, loader, options);
    return results.map((result) => {
      if (result.status === 'rejected') throw result.reason;
      return result.value;
    });
  }

  /** Cache.fetchManySettled, which has the documentation. */
  async fetchManySettled(
    keys: Iterable<Key>,
    given: GivenLoader,
    options: FetchManyOptions | undefined,
  ): Promise<PromiseSettledResult<unknown>[]> {
    let list: readonly Key[] = asArray('keys', keys);
    let loader: AnyLoader;
    let wants: Wants;
    if (typeof given === 'function') {
      loader = given;
      wants = checkManyOptions(options);
    } else {
      ({ loader, wants } = this.#byDefault(given, options));
    }
    if (this.#through !== undefined) {
      list = list.map(copyOfBytes);
      wants = (await this.#through.bring(list, wants)) ?? wants;
    }
    // All keys are read before a load begins, so that a wrong key refuses the call as a whole.
    const entries =
      wants.forceRefresh || wants.asksFreshness
        ? list.map((key) => readStored(this.#cache, key, wants.acceptsStale))
        : this.#readAll(list);
    const results: PromiseSettledResult<unknown>[] = entries.map(({ value }) => ({ status: 'fulfilled', value }));
    const waiting: { call: Call; place: number }[] = [];
    const refreshing: Call[] = [];
    for (const [place, present] of entries.entries()) {
      const call = this.#callFor(list[place]!, loader, wants, present, undefined);
      if (call === undefined) continue;
      if (call.background) refreshing.push(call);
      else waiting.push({ call, place });
    }
    this.#flights.revalidate(refreshing);
    const loaded = await Promise.allSettled(this.#flights.start(waiting.map(({ call }) => call)));
    for (const [i, { place }] of waiting.entries()) results[place] = loaded[i]!;
    return results;
  }

  /** A call of a wrapped function. */
  fetchWrapped(key: Key, loader: Loader<unknown>, wants: Wants): Promise<unknown> {
    try {
      this.#cache.tick?.();
      return this.#fetchOne(key, loader, wants, undefined);
    } catch (error) {
      return Promise.reject(error);
    }
  }

  /** The handle is about to be closed, or was closed: all calls are rejected. */
  close(): void {
    this.#through?.end();
    this.#flights.close();
  }

  #fetch(
    key: Key,
    given: GivenLoader,
    options: FetchManyOptions | undefined,
    describe: Describe | undefined,
  ): Promise<unknown> {
    try {
      if (typeof given !== 'function') {
        const { loader, wants } = this.#byDefault(given, options);
        return this.#fetchOne(key, loader, wants, describe);
      }
      return this.#fetchOne(key, given, options === undefined ? NO_WANTS : checkOptions(options), describe);
    } catch (error) {
      return Promise.reject(error);
    }
  }

  // Of a call that brings no loader: the options may stand in its place.
  #byDefault(
    given: FetchManyOptions | undefined,
    options: FetchManyOptions | undefined,
  ): { loader: Loader<unknown>; wants: Wants } {
    const loader = this.#cache.loader ?? (this.#through === undefined ? undefined : loadNothing);
    const isOptions = given === undefined || (typeof given === 'object' && given !== null && options === undefined);
    if (!isOptions) throw wrongType('loader', 'a function', given);
    if (loader === undefined) {
      throw wrongType('loader', 'a function, because this handle was made without the option loader', given);
    }
    const wants = checkOptions(given ?? options ?? {});
    if (wants.batching !== undefined) {
      throw misplaced('collect is for loaders of many keys; the option loader of a handle takes one: give the loader');
    }
    return { loader, wants };
  }

  #fetchOne(key: Key, loader: AnyLoader, wants: Wants, describe: Describe | undefined): Promise<unknown> {
    if (this.#through === undefined) return this.#fetchHere(key, loader, wants, describe);
    const own = copyOfBytes(key);
    const brought = this.#through.bring([own], wants);
    if (brought === undefined) return this.#fetchHere(key, loader, wants, describe);
    return brought.then((left) => this.#fetchHere(own, loader, left, describe));
  }

  #fetchHere(key: Key, loader: AnyLoader, wants: Wants, describe: Describe | undefined): Promise<unknown> {
    if (wants.forceRefresh || wants.asksFreshness || describe !== undefined) {
      return this.#fetchStored(key, loader, wants, describe);
    }
    const value = readFresh(this.#cache, key);
    if (isValue(value)) return Promise.resolve(value);
    return this.#flights.start([new Call({ key, loader, wants, refresh: value === UNREADABLE })])[0]!;
  }

  // The answer depends on how fresh the entry is.
  #fetchStored(key: Key, loader: AnyLoader, wants: Wants, describe: Describe | undefined): Promise<unknown> {
    const present = readStored(this.#cache, key, wants.acceptsStale);
    const call = this.#callFor(key, loader, wants, present, describe);
    if (call !== undefined && !call.background) return this.#flights.start([call])[0]!;
    if (call !== undefined) this.#flights.revalidate([call]);
    const { value, staleMs } = present;
    const outcome = staleMs < 0 ? 'hit' : 'stale';
    return Promise.resolve(describe === undefined ? value : describe(key, value, outcome, present));
  }

  // The call that loads; undefined: the present value is the answer, and stays. In the background: it is the answer,
  // and is refreshed.
  #callFor(
    key: Key,
    loader: AnyLoader,
    wants: Wants,
    present: Stored,
    describe: Describe | undefined,
  ): Call | undefined {
    const { forceRefresh } = wants;
    const { value, staleMs, leftMs } = present;
    const isFresh = staleMs < 0;
    if (!isValue(value)) {
      return new Call({ key, loader, wants, refresh: forceRefresh || value === UNREADABLE, describe });
    }
    const parts = { key, loader, wants, refresh: true, present };
    if (forceRefresh || (!isFresh && staleMs >= wants.revalidateMs)) return new Call({ ...parts, describe });
    const aheadMs = isFresh ? aheadMsOf(this.#cache, wants, key, value) : 0;
    return isFresh && leftMs > aheadMs ? undefined : new Call({ ...parts, aheadMs, background: true });
  }

  // The fresh entries of many keys.
  #readAll(keys: readonly Key[]): Stored[] {
    let values: unknown[];
    try {
      values = this.#cache.getMany(keys);
    } catch (error) {
      if (!(error instanceof CairnError) || error.code !== 'ERR_VALUE_MALFORMED') throw error;
      values = keys.map((key) => readFresh(this.#cache, key));
    }
    return values.map((value) => ({ value, staleMs: -1, leftMs: Number.POSITIVE_INFINITY }));
  }

  readonly #describe: Describe = (key, value, outcome, present) => {
    if (present !== undefined && present.staleMs >= 0) return { value, outcome, ttl: 0, staleFor: present.staleMs };
    // The loader may have closed the cache.
    const ttl = present?.leftMs ?? (this.#cache.handle.isClosed() ? 0 : this.#cache.remainingTtl(key));
    return { value, outcome, ttl, staleFor: 0 };
  };
}
