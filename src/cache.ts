/**
 * Cache: the verbs and their documentation. The one file that wires the stages together.
 *
 * A verb on the hot path is one native call and one comparison: the addon returns the value itself if it is text, a
 * whole number or a miss, and `true` or `false` if there is more to do (native.ts says what). The rest of each verb is
 * in reads.ts, writes.ts, many.ts, walks.ts, cache-log.ts, removals.ts, resize.ts and ending.ts.
 */

import { inspect } from 'node:util';
import { type Asked, answerError, clearError } from './answers.ts';
import { CacheLog } from './cache-log.ts';
import { CacheWriteBack, type DrainOptions, type WriteBack } from './cache-write-back.ts';
import { register } from './copies.ts';
import { type CloseOptions, Ending } from './ending.ts';
import { wrongType } from './errors.ts';
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
import { Many } from './many.ts';
import { Code, type NativeHandle, nativeGet, nativeSet } from './native.ts';
import { attach, effectiveOptions, givenName, make, Opened, open, openNames } from './opening.ts';
import {
  type AttachOptions,
  type CacheOptions,
  type Duration,
  type EffectiveOptions,
  type Loader,
  parseDuration,
  type ResolvedOptions,
  type SetOptions,
  type Size,
  type WalkOptions,
} from './options.ts';
import { CachePromises } from './promises/index.ts';
import { finishYesNo, Reads } from './reads.ts';
import { guardReceivers, NOT_CLONEABLE, tickBefore, withoutCache } from './receiver.ts';
import { type CacheEvents, type RemovalHandle, type RemovalOptions, Removals } from './removals.ts';
import {
  type ArithmeticOptions,
  type CasResult,
  checkPiece,
  type EntryInfo,
  type Key,
  keyBytes,
  type StoreResult,
  type ValueWithCas,
} from './request/arguments.ts';
import { Verb } from './request/batch.ts';
import { PackedKeys, type PackedValues } from './request/packed.ts';
import { resize } from './resize.ts';
import type { NoticeListener, RecoverySummary, SnapshotSummary } from './scribe/index.ts';
import { type CacheStats, describeCache, readStats } from './stats.ts';
import { dump, type LoadResult, load, walk } from './walks.ts';
import type { WriteBackListener } from './write-back/index.ts';
import { checkNone, ttlOf, Writes } from './writes.ts';

/**
 * The native handle behind a cache, for the other stages.
 * @internal
 */
export let handleOf: (cache: Cache<never>) => NativeHandle;

// True for a Cache of this copy of the module.
let isCache: (value: unknown) => boolean;

/**
 * A cache outside the JavaScript heap, limited in bytes, which all threads of the process can share.
 *
 * Values are copies: `get` never returns the object that was set. The verbs here run on the calling thread and are done
 * when they return. Each throws `ERR_CLOSED` on a closed cache, and `ERR_INVALID_ARGUMENT` for a key that is not a
 * string, `Buffer` or `Uint8Array` of 1 to 65,536 bytes (text without lone surrogates).
 *
 * A handle is open until `close()` or `destroy()`. `new Cache` and `Cache.open` make a cache, and their handle is its
 * owner. `Cache.open` with the name and equal options of an open cache joins it as one more owner. `Cache.attach`
 * returns a handle that is not an owner. A cache ends for all handles when its last owner closes. It also ends when its
 * last handle of any kind is gone: closed, garbage-collected, or ended with its thread.
 */
export class Cache<V = unknown> {
  static {
    isCache = (value) => typeof value === 'object' && value !== null && #number in value;
    handleOf = (cache) => (cache as unknown as Cache<unknown>).#handle;
  }

  readonly #handle: NativeHandle;
  readonly #opened: Opened;
  readonly #reads: Reads;
  readonly #writes: Writes;
  readonly #log: CacheLog;
  readonly #writeBack: CacheWriteBack;
  readonly #ending: Ending;
  #resolved: ResolvedOptions | undefined;
  #options: EffectiveOptions | undefined;
  #promises: CachePromises<V> | undefined;
  #many: Many | undefined;
  #fetcher: Fetcher | undefined;
  #removals: Removals | undefined;

  // Fields, so that a call costs no look-up on the handle.
  readonly #number: number;
  readonly #peek: NativeHandle['peek'];
  readonly #has: NativeHandle['has'];
  readonly #delete: NativeHandle['delete'];
  readonly #touch: NativeHandle['touch'];

  /**
   * Makes a cache, ready at once, with this handle as its owner.
   *
   * Throws `ERR_INVALID_ARGUMENT` for an option that is unknown or out of range, `ERR_NAME_TAKEN` if the process has an
   * open cache of that name, and `ERR_OUT_OF_MEMORY` if the system refuses the address space.
   */
  constructor(options?: CacheOptions<NoInfer<V>>);
  /** @internal */
  constructor(opened: Opened);
  constructor(given?: CacheOptions | Opened) {
    const opened = given instanceof Opened ? given : make(given);
    const { handle, raw, tick } = opened;
    this.#handle = handle;
    this.#opened = opened;
    this.#reads = new Reads(handle, raw);
    this.#writes = new Writes(handle);
    this.#log = new CacheLog(handle, opened.keeper);
    this.#writeBack = new CacheWriteBack(handle, () => this.#resolvedOptions());
    this.#ending = new Ending({
      handle,
      log: this.#log,
      promises: () => this.#promises as CachePromises<never> | undefined,
      closeNow: () => this.#closeNow(),
    });
    if (raw !== 'buffer') handle.rawAsBuffer(false);
    this.#number = handle.number;
    this.#peek = handle.peek;
    this.#has = handle.has;
    this.#delete = handle.delete;
    this.#touch = handle.touch;
    Object.defineProperty(this, 'Cache.attach(name)', NOT_CLONEABLE);
    if (tick !== undefined) tickBefore(this, Cache.prototype, tick);
  }

  /**
   * Makes a cache, or joins the open cache of that name if its options are equal; both handles are then owners. Rejects
   * with the errors of the constructor; `ERR_NAME_TAKEN` names the option that differs. Of two calls for one name at
   * the same time, the second waits for the first and joins.
   *
   * With `data`, the entries of the directory are in the cache when this resolves, and every write goes to the log
   * there (docs/durability.md). Rejects with `ERR_LOG_LOCKED` if another process has the directory, and with
   * `ERR_LOG_CORRUPT`, `ERR_LOG_VERSION` or `ERR_LOG_IO` if it cannot be read; the directory is then unchanged. In
   * other threads than the main one, rejects with `ERR_INVALID_ARGUMENT`: use `Cache.attach` there.
   */
  static async open<V = unknown>(options?: CacheOptions<NoInfer<V>>): Promise<Cache<V>> {
    return new Cache<V>(await open(options));
  }

  /**
   * A handle to the open cache of that name, in any thread of the process. Throws `ERR_NO_SUCH_CACHE` if there is no
   * such cache, and `ERR_NOT_READY` while it is recovering. Closing the handle only detaches it.
   */
  static attach<V = unknown>(name: string, options?: AttachOptions<NoInfer<V>>): Cache<V> {
    return new Cache<V>(attach(name, options));
  }

  /** The names of the caches that are open in this process. */
  static get names(): string[] {
    return openNames();
  }

  /** The name; `''` if it has none. */
  get name(): string {
    return givenName(this.#handle);
  }

  /**
   * The options in effect, in bytes and milliseconds, with the chosen value for each option left out; `raw` and
   * `promises` are those of this handle. `Cache.open` accepts them. `stats()` has the limits that `resize` has changed.
   */
  get options(): EffectiveOptions {
    const { raw, promises } = this.#opened;
    this.#options ??= Object.freeze(effectiveOptions(this.#handle, this.#resolvedOptions(), raw, promises));
    return this.#options;
  }

  /** What `Cache.open` read from `data`; undefined without `data`, and for attached handles. */
  get recovery(): RecoverySummary | undefined {
    return this.#log.recovery;
  }

  /** The same verbs as promises, executed in batches by other threads. docs/threads.md says when to use them. */
  get promises(): CachePromises<V> {
    if (this.#promises === undefined) {
      const ack = this.closed ? 'memory' : this.#resolvedOptions().ack;
      const { raw, promises, tick } = this.#opened;
      this.#promises = new CachePromises<V>(this.#handle, raw, promises, ack);
      if (tick !== undefined) tickBefore(this.#promises, CachePromises.prototype, tick);
    }
    return this.#promises;
  }

  /** True after this handle was closed, or the cache by its last owner. */
  get closed(): boolean {
    return this.#handle.isClosed();
  }

  // ---- reading ----

  /** The value, which becomes the most recently used; `undefined` for a miss. */
  get(key: Key): V | undefined {
    let number: number;
    try {
      number = this.#number;
    } catch {
      throw withoutCache('get');
    }
    const value = nativeGet(number, key);
    if (typeof value !== 'boolean') return value as V | undefined;
    return this.#reads.finish(value, key, 'get', (again) => nativeGet(number, again)) as V | undefined;
  }

  /** The value; changes neither the order of use nor the counters. `undefined` for a miss. */
  peek(key: Key): V | undefined {
    const value = this.#peek(key);
    return (typeof value === 'boolean' ? this.#reads.finish(value, key, 'peek', this.#peek) : value) as V | undefined;
  }

  /**
   * Removes the entry and returns its value; `undefined` for a miss. Of several threads that take an entry, one gets
   * it. If the value cannot be decoded, throws `ERR_VALUE_MALFORMED`, or the error of the handle's `raw` function, and
   * keeps the entry.
   */
  take(key: Key): V | undefined {
    return this.#reads.take(key) as V | undefined;
  }

  /** The value with its version, for `cas()`; `undefined` for a miss. */
  getWithCas(key: Key): ValueWithCas<V> | undefined {
    return this.#reads.getWithCas(key) as ValueWithCas<V> | undefined;
  }

  /**
   * Copies the bytes of a value of any kind into `target`, as the port would serve them; makes no garbage. Returns the
   * size of the value, or `undefined` for a miss. If the size is above `target.length`, nothing was copied.
   */
  getInto(key: Key, target: Uint8Array): number | undefined {
    return this.#reads.getInto(key, target);
  }

  /** True if the entry exists; changes neither the order of use nor the counters. */
  has(key: Key): boolean {
    const answer = this.#has(key);
    return typeof answer === 'boolean' ? answer : finishYesNo(this.#handle, answer, key, 'has', this.#has);
  }

  /** Describes an entry without its value; `undefined` for a miss. Changes nothing. */
  info(key: Key): EntryInfo | undefined {
    return this.#reads.info(key);
  }

  /** Milliseconds until the entry expires: `Infinity` without expiry, 0 for a miss. */
  getRemainingTTL(key: Key): number {
    return this.#reads.remainingTtl(key);
  }

  /**
   * The values of many keys, in the order of the keys, `undefined` for each miss; one native call for up to 128 keys.
   * For packed keys, returns packed values.
   *
   * Throws `ERR_VALUE_MALFORMED` if some values cannot be decoded; `error.keys` has all their keys.
   */
  getMany(keys: Iterable<Key>): (V | undefined)[];
  getMany(keys: PackedKeys): PackedValues;
  getMany(keys: Iterable<Key> | PackedKeys): (V | undefined)[] | PackedValues {
    if (keys instanceof PackedKeys) return this.#forMany.getPacked(keys);
    return this.#forMany.get(keys) as (V | undefined)[];
  }

  // ---- storing ----

  /**
   * Stores a value, replacing one that is there. `'not-stored'`: all memory is pinned by reads or by values being
   * received (rare); an entry that was there is then gone.
   *
   * Throws `ERR_VALUE_NOT_STORABLE` for functions, symbols, promises and values that contain them;
   * `ERR_VALUE_TOO_LARGE` above `maxValueBytes` (an entry that was there is then gone); `ERR_INVALID_ARGUMENT` for
   * `undefined` or a wrong `ttl`; `ERR_LOG_FULL` if the cache's log does not keep up.
   */
  set(key: Key, value: V, options?: SetOptions): StoreResult {
    let number: number;
    try {
      number = this.#number;
    } catch {
      throw withoutCache('set');
    }
    if (typeof value === 'string' && options === undefined) {
      const code = nativeSet(number, key, value);
      if (code === undefined || code === Code.stored) return 'stored';
      if (code !== Code.keyMaybeIllFormed && code !== Code.valueMaybeIllFormed) {
        return this.#writes.answer(Verb.set, code, key, value) as StoreResult;
      }
    }
    return this.#writes.store(Verb.set, key, value, ttlOf(options));
  }

  /** Stores a value if the key has no entry; `'not-stored'` if it has one. Throws as `set`. */
  add(key: Key, value: V, options?: SetOptions): StoreResult {
    return this.#writes.store(Verb.add, key, value, ttlOf(options));
  }

  /** Stores a value if the key has an entry; `'not-stored'` if it has none. Throws as `set`. */
  replace(key: Key, value: V, options?: SetOptions): StoreResult {
    return this.#writes.store(Verb.replace, key, value, ttlOf(options));
  }

  /**
   * Adds text or bytes at the end of the value; the entry keeps its time to live. `'not-stored'`: there is no entry, or
   * its value is neither text nor bytes. Throws `ERR_VALUE_TOO_LARGE` if the result would be too large, and changes
   * nothing then.
   */
  append(key: Key, piece: string | Uint8Array, ...none: []): StoreResult {
    checkNone('append', none);
    return this.#writes.store(Verb.append, key, checkPiece(piece), undefined);
  }

  /** Adds text or bytes at the start of the value. Otherwise as `append`. */
  prepend(key: Key, piece: string | Uint8Array, ...none: []): StoreResult {
    checkNone('prepend', none);
    return this.#writes.store(Verb.prepend, key, checkPiece(piece), undefined);
  }

  /**
   * Stores a value if the entry's version is still `cas`, from `getWithCas` or `info`. `'exists'`: the entry has
   * changed; `'not-found'`: it is gone. Throws as `set`.
   */
  cas(key: Key, value: V, cas: bigint, options?: SetOptions): CasResult {
    return this.#writes.cas(key, value, cas, ttlOf(options));
  }

  /**
   * Stores `change(value)` in place of the value (`undefined` for a miss). If another caller changed the entry
   * meanwhile, `change` runs again with the new value, so it should have no side effects. The entry keeps its time to
   * live unless `ttl` is given. Returns the stored value. If `change` returns `undefined`, nothing is stored, and the
   * present value is returned.
   *
   * Throws as `set`; `ERR_OUT_OF_MEMORY` where `set` returns `'not-stored'`; and `ERR_TIMEOUT` after 1000 tries, having
   * stored nothing.
   */
  update(key: Key, change: (value: V | undefined) => V | undefined, options?: SetOptions): V | undefined {
    if (typeof change !== 'function') throw wrongType('change', 'a function', change);
    const read = (again: Key): ValueWithCas<unknown> | undefined => this.getWithCas(again);
    return this.#writes.update(key, read, change as (value: unknown) => unknown, ttlOf(options)) as V | undefined;
  }

  /**
   * Adds to a whole number, stored as a number, a bigint or decimal text, and returns the new one: modulo 2^64, as
   * memcached counts. `undefined`: there is no entry and no `initial`. `'not-stored'`: the value is not a non-negative
   * whole number. With a bigint delta the answer is a bigint; with a number it is a number, exact up to 2^53.
   */
  incr(key: Key, by?: number, options?: ArithmeticOptions): number | 'not-stored' | undefined;
  incr(key: Key, by: bigint, options?: ArithmeticOptions): bigint | 'not-stored' | undefined;
  incr(key: Key, by: number | bigint = 1, options?: ArithmeticOptions): number | bigint | 'not-stored' | undefined {
    return this.#writes.arithmetic(Verb.incr, key, by, options);
  }

  /** Subtracts from a whole number, down to 0. Otherwise as `incr`. */
  decr(key: Key, by?: number, options?: ArithmeticOptions): number | 'not-stored' | undefined;
  decr(key: Key, by: bigint, options?: ArithmeticOptions): bigint | 'not-stored' | undefined;
  decr(key: Key, by: number | bigint = 1, options?: ArithmeticOptions): number | bigint | 'not-stored' | undefined {
    return this.#writes.arithmetic(Verb.decr, key, by, options);
  }

  /**
   * Stores many entries, given as pairs of key and value (such as a `Map`), with the same options; one native call for
   * up to 128. Returns the answer of each `set`, in order.
   *
   * A refused entry does not stop the others. After all others are stored, the first error is thrown; its `results`
   * have the answer or the error of each entry, in order. If `entries` yields something that is not a pair, or throws,
   * nothing is stored.
   */
  setMany(entries: Iterable<readonly [Key, V]>, options?: SetOptions): StoreResult[] {
    return this.#forMany.set(entries, ttlOf(options));
  }

  // ---- removing ----

  /** Removes an entry. False: the entry did not exist. */
  delete(key: Key): boolean {
    const answer = this.#delete(key);
    return typeof answer === 'boolean' ? answer : finishYesNo(this.#handle, answer, key, 'delete', this.#delete);
  }

  /**
   * Removes an entry from memory, as an eviction does: the log of the cache keeps it. False: the entry did not exist.
   */
  evict(key: Key): boolean {
    const { evict } = this.#handle;
    return finishYesNo(this.#handle, evict(key), key, 'evict', evict);
  }

  /**
   * Removes many entries; one native call for up to 128. Returns the answer of each `delete`, in order. A wrong key
   * does not stop the others: the first error is thrown at the end, with `results` as in `setMany`.
   */
  deleteMany(keys: Iterable<Key>): boolean[] {
    return this.#forMany.delete(keys);
  }

  /** Removes all entries at once, whatever their number; their memory is freed in steps afterwards. */
  clear(): void {
    const error = clearError(this.#handle, this.#handle.clear());
    if (error !== undefined) throw error;
  }

  /**
   * Gives an entry a new time to live from now (default: the cache's `ttl`; 0: it does not expire) and makes it the
   * most recently used. False: the entry does not exist.
   */
  touch(key: Key, ttl?: Duration): boolean {
    const ttlMs = ttl === undefined ? undefined : parseDuration('ttl', ttl, 0);
    const answer = this.#touch(key, ttlMs);
    if (typeof answer === 'boolean') return answer;
    return finishYesNo(this.#handle, answer, key, 'touch', (again) => this.#touch(again, ttlMs));
  }

  // ---- loading ----

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

  // ---- events ----

  /**
   * Calls `listener` for events of the cache, caused by any thread or client:
   *
   * - `'removal'`: entries have left, in batches of `{ key, reason, value? }`. Options select the reasons, and values.
   *   The event of an expired entry comes when the entry is found or removed, not at the millisecond of its expiry.
   * - `'cleared'`: the number of entries that `clear()` removed, without an event for each.
   * - `'removals-lost'`: the number of events that this thread did not read before the ring (1 MiB) was full. No call
   *   waits for a listener.
   *
   * - `'log'`: notices of the cache's log, each with its `kind` (docs/durability.md lists them), on handles of the
   *   thread that opened the cache.
   * - `'write-back'`: notices of write-back, likewise (docs/write-back.md lists them).
   *
   * Listening does not keep the process alive. It keeps the handle from garbage collection until `off` or `close()`.
   */
  on(event: 'removal', listener: CacheEvents<V>['removal'], options?: RemovalOptions): this;
  on(event: 'cleared' | 'removals-lost', listener: (count: number) => void): this;
  on(event: 'log', listener: NoticeListener): this;
  on(event: 'write-back', listener: WriteBackListener): this;
  on(event: EventName<V>, listener: AnyListener<V>, options?: RemovalOptions): this {
    if (event === 'log') this.#log.listen(listener as NoticeListener, false);
    else if (event === 'write-back') this.#writeBack.listen(listener as WriteBackListener, false);
    else this.#listening().add(event, listener as CacheEvents<V>[typeof event], options, false);
    return this;
  }

  /** As `on`, for the first event only. */
  once(event: 'removal', listener: CacheEvents<V>['removal'], options?: RemovalOptions): this;
  once(event: 'cleared' | 'removals-lost', listener: (count: number) => void): this;
  once(event: 'log', listener: NoticeListener): this;
  once(event: 'write-back', listener: WriteBackListener): this;
  once(event: EventName<V>, listener: AnyListener<V>, options?: RemovalOptions): this {
    if (event === 'log') this.#log.listen(listener as NoticeListener, true);
    else if (event === 'write-back') this.#writeBack.listen(listener as WriteBackListener, true);
    else this.#listening().add(event, listener as CacheEvents<V>[typeof event], options, true);
    return this;
  }

  /** Removes a listener of `on` or `once`; if it was added twice, the later one. */
  off<E extends keyof CacheEvents<V>>(event: E, listener: CacheEvents<V>[E]): this;
  off(event: 'log', listener: NoticeListener): this;
  off(event: 'write-back', listener: WriteBackListener): this;
  off(event: EventName<V>, listener: AnyListener<V>): this {
    if (event === 'log') this.#log.unlisten(listener as NoticeListener);
    else if (event === 'write-back') this.#writeBack.unlisten(listener as WriteBackListener);
    else this.#removals?.remove(event, listener as CacheEvents<V>[typeof event]);
    return this;
  }

  // ---- the whole ----

  /** The number of entries; expired ones count until they are removed. */
  get size(): number {
    const size = this.#handle.size();
    if (size < 0) throw this.#error(Code.closed);
    return size;
  }

  /** Counters and sizes. */
  stats(): CacheStats {
    const stats = readStats(this.#handle, this.#resolvedOptions().store !== undefined);
    if (stats === undefined) throw this.#error(Code.closed);
    return stats;
  }

  /** Sets the counters back to 0. */
  resetStats(): void {
    const code = this.#handle.resetStats();
    if (code !== Code.stored) throw this.#error(code);
  }

  /**
   * Changes the limits that are given; `maxEntries: Infinity` removes that limit. Higher limits take effect at once.
   * For lower ones it evicts in steps, with a turn of the event loop between steps; the promise resolves when the cache
   * is within the new limits.
   *
   * Rejects with `ERR_INVALID_ARGUMENT` above `maxMemoryCeiling` or below the need of the shards, and with
   * `ERR_OUT_OF_MEMORY` if the system has no memory for it, having changed nothing.
   */
  resize(limits: { maxMemory?: Size; maxEntries?: number }): Promise<void> {
    return resize(this.#handle, limits);
  }

  /**
   * Walks over all keys, a few at a time, without blocking other calls. It returns each entry as it is at that moment,
   * and skips entries that have expired, or were deleted or cleared between two steps. It returns every entry that
   * exists from start to end at least once. An entry that is used or changed meanwhile may come twice; one that is
   * added or removed meanwhile may come or not. Keys that are not text are Buffers. A walk changes neither the order of
   * use nor the counters.
   *
   * `values()` and `entries()` throw `ERR_VALUE_MALFORMED` at a value that cannot be decoded, with its key in
   * `error.keys`; `keys()` returns its key.
   */
  *keys(options?: WalkOptions): Generator<string | Buffer, undefined, undefined> {
    yield* walk(this.#handle, options, (key) => (this.has(key) ? key : undefined));
  }

  /** Walks over all values; as `keys()`. */
  *values(options?: WalkOptions): Generator<V, undefined, undefined> {
    yield* walk(this.#handle, options, (key) => this.peek(key));
  }

  /** Walks over all entries; as `keys()`. */
  *entries(options?: WalkOptions): Generator<[string | Buffer, V], undefined, undefined> {
    yield* walk(this.#handle, options, (key): [string | Buffer, V] | undefined => {
      const value = this.peek(key);
      return value === undefined ? undefined : [key, value];
    });
  }

  /** The same as `entries()`. */
  [Symbol.iterator](): Generator<[string | Buffer, V], undefined, undefined> {
    return this.entries();
  }

  /**
   * All entries as bytes, for `load()`: keys, values of every kind, flags and expiry, oldest first. A walk like
   * `keys()`, in pieces of about 256 KiB, each made when it is asked for: `for (const piece of cache.dump())
   * file.write(piece)`.
   */
  *dump(): Generator<Buffer, undefined, undefined> {
    yield* dump(this.#handle);
  }

  /**
   * Stores the entries of a dump, replacing entries of the same key. Takes the bytes as a whole or in pieces of any
   * size; for a stream of pieces it returns a promise. Throws `ERR_DUMP_MALFORMED` for bytes that are not a dump, or a
   * damaged one; the entries before the damage are then loaded.
   *
   * Load only dumps that you trust as you trust a program: a dump decides how its values are decoded.
   */
  load(bytes: Uint8Array | Iterable<Uint8Array>): LoadResult;
  load(bytes: AsyncIterable<Uint8Array>): Promise<LoadResult>;
  load(bytes: Uint8Array | Iterable<Uint8Array> | AsyncIterable<Uint8Array>): LoadResult | Promise<LoadResult> {
    return load(this.#handle, bytes);
  }

  // ---- the log ----

  /**
   * Resolves when everything written so far, by any thread or client, is on the disk, where a power cut does not take
   * it; under every `sync`. Without `data` it resolves at once.
   *
   * Rejects with `ERR_LOG_FULL` if the log has no room, with `ERR_LOG_IO` if it cannot be written (the cache has the
   * entries, the disk may not), and with `ERR_CLOSED`.
   */
  sync(): Promise<void> {
    return this.#log.sync();
  }

  /**
   * Takes a snapshot of all entries, without blocking other calls, and resolves when it is on the disk and was read
   * back. Snapshots are also taken on schedule (option `snapshot`). Rejects with `ERR_LOG_IO` if it cannot be written,
   * and keeps the previous snapshot then; with `ERR_INVALID_ARGUMENT` without `data`.
   */
  snapshot(): Promise<SnapshotSummary> {
    return this.#log.snapshot();
  }

  // ---- the database behind ----

  /**
   * Resolves when the database has everything that was done so far, by any thread or client. Writes it at once, and
   * waits while the database cannot be written, or writing is paused.
   *
   * Rejects with `ERR_TIMEOUT` after `timeout` (nothing is lost: the log has it, and it is written on); with
   * `ERR_STORE_REFUSED` if the database is not that of the log any more; with `ERR_INVALID_ARGUMENT` without `store`;
   * and as `sync()`.
   */
  drain(options?: DrainOptions): Promise<void> {
    return this.#writeBack.drain(options);
  }

  /** Pauses and resumes writing to the database. */
  get writeBack(): WriteBack {
    return this.#writeBack.control;
  }

  // ---- the end ----

  /**
   * Closes this handle: finishes accepted promised calls, refuses new ones, then closes the handle (before close()
   * returns, if no promised verb was used). If it was the last owner, the cache ends: its name is free, other handles
   * throw `ERR_CLOSED`, and its memory is freed in steps. Calls of `fetch` on this handle are rejected; loads that
   * other threads wait for continue there. Removal events from before are delivered first. Closing again returns the
   * same promise.
   *
   * With `data`, the last owner also writes the remaining records, takes a snapshot and closes the log, within
   * `timeout` (default 10 s; 0: no limit). The snapshot is left out if the time does not suffice. If the log did not
   * get all records, this rejects with `ERR_LOG_FULL`, `ERR_LOG_IO` or `ERR_TIMEOUT`; the cache is closed all the same.
   * Promised calls that still wait for the log when the time is over are rejected as by `destroy()`.
   */
  close(options?: CloseOptions): Promise<void> {
    return this.#ending.close(options);
  }

  /**
   * Closes this handle without finishing promised calls. Calls that were not sent reject with `ERR_CLOSED` and are not
   * done. Calls that were sent reject with `ERR_WORKER_EXITED` and may be done; so do calls that wait for the log, with
   * a message that says that they may be lost. Resolves when the threads of this handle have ended. With `data`,
   * changes already made still reach the log, as with `close()`, but no snapshot is taken.
   */
  destroy(): Promise<void> {
    return this.#ending.destroy();
  }

  /** `using cache = new Cache()` destroys it at the end of the block. */
  [Symbol.dispose](): void {
    void this.destroy();
  }

  /** `await using cache = await Cache.open(...)` closes it at the end of the block. */
  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }

  /** What `console.log(cache)` shows. */
  [inspect.custom](_depth: number, options: object): string {
    return describeCache(this.name, this.closed ? undefined : readStats(this.#handle), options);
  }

  // ---- the parts, each made when it is first needed ----

  #closeNow(): void {
    this.#log.close();
    this.#writeBack.close();
    this.#removals?.close();
    this.#fetcher?.close();
    this.#handle.close();
    this.#promises?.handleClosed();
  }

  get #fetching(): Fetcher {
    this.#fetcher ??= new Fetcher(this.#fetchCache());
    return this.#fetcher;
  }

  #fetchCache(): FetchCache {
    return {
      handle: this.#handle as FlightHandle,
      raw: this.#opened.raw,
      ttl: this.closed ? 0 : this.#resolvedOptions().ttl,
      loader: this.#opened.loader,
      random: this.#opened.random,
      tick: this.#opened.tick,
      get: (key) => this.get(key),
      getMany: (keys) => this.getMany(keys),
      remainingTtl: (key) => this.getRemainingTTL(key),
      read: (key, read) => {
        const value = read(key);
        return typeof value === 'boolean' ? this.#reads.finish(value, key, 'get', read) : value;
      },
      keyBytes,
      error: (code, key) => this.#error(code, { key }),
    };
  }

  get #forMany(): Many {
    this.#many ??= new Many({
      handle: this.#handle,
      raw: this.#opened.raw,
      set: (key, value, ttl) => this.#writes.store(Verb.set, key, value, ttl),
      delete: (key) => this.delete(key),
    });
    return this.#many;
  }

  #resolvedOptions(): ResolvedOptions {
    this.#resolved ??= JSON.parse(this.#handle.description) as ResolvedOptions;
    return this.#resolved;
  }

  #listening(): Removals {
    this.#removals ??= new Removals({
      handle: this.#handle as RemovalHandle,
      raw: this.#opened.raw,
      error: (code) => this.#error(code),
    });
    return this.#removals;
  }

  // The error for an answer that is not an outcome.
  #error(code: number, asked?: Asked): Error {
    return answerError(this.#handle, code, asked);
  }
}

guardReceivers(Cache.prototype, isCache, ['get', 'set']);
register(openNames);

/** Options of a `fetch` whose loader takes many keys. */
type CollectOptions<V> = FetchManyOptions<V> & { collect: Duration };

type EventName<V> = keyof CacheEvents<V> | 'log' | 'write-back';
type AnyListener<V> = CacheEvents<V>[keyof CacheEvents<V>] | NoticeListener | WriteBackListener;
