/**
 * Cache: the verbs and their documentation. The one file that wires the stages together.
 *
 * A verb on the hot path is one native call and one comparison: the addon returns the value itself where that is text,
 * a whole number or a miss, and `true` or `false` where there is more to do (native.ts says what). The rest of each
 * verb is elsewhere: reads.ts, writes.ts, many.ts, walks.ts, cache-log.ts, removals.ts, resize.ts, ending.ts.
 */

import { inspect } from 'node:util';
import { type Asked, answerError, clearError } from './answers.ts';
import { CacheLog } from './cache-log.ts';
import { register } from './copies.ts';
import { type CloseOptions, Ending } from './ending.ts';
import { wrongType } from './errors.ts';
import { type FetchCache, Fetcher, type FetchOptions, type FlightHandle, type Loader } from './fetch/index.ts';
import { Many } from './many.ts';
import { Code, type NativeHandle, nativeGet, nativeSet } from './native.ts';
import { attach, effectiveOptions, givenName, make, Opened, open, openNames } from './opening.ts';
import {
  type AttachOptions,
  type CacheOptions,
  type Duration,
  type EffectiveOptions,
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
import { checkNone, ttlOf, Writes } from './writes.ts';

/**
 * The native handle behind a cache, for the other stages.
 * @internal
 */
export let handleOf: (cache: Cache<never>) => NativeHandle;

// Whether it is one of this copy's.
let isCache: (value: unknown) => boolean;

/**
 * A cache outside the JavaScript heap, bounded in bytes, that all threads of the process can share.
 *
 * Values are copies: what `get` returns is never the object that was set. The verbs here run on the calling thread and
 * return when they are done. Each throws `ERR_CLOSED` once the cache is closed, and `ERR_INVALID_ARGUMENT` for a key
 * that is not a string, `Buffer` or `Uint8Array` of 1 to 65,536 bytes (text without lone surrogates).
 *
 * States: a handle is open from the start; `close()` closes it for good. The first cache of a name is made by
 * `new Cache` or `Cache.open` and has this handle as its owner; `Cache.open` with equal options joins as one more
 * owner; `Cache.attach` gets a handle that is no owner. When its last owner closes, a cache ends for everybody, with
 * all it holds; it also ends when its last handle of any kind is gone (closed, collected, or with its thread).
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
   * Throws `ERR_INVALID_ARGUMENT` for an option that does not exist or is out of range, `ERR_NAME_TAKEN` if the process
   * has an open cache of that name, and `ERR_OUT_OF_MEMORY` if the system refuses the address space.
   */
  constructor(options?: CacheOptions);
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
   * Makes a cache, or joins the open one of that name if it was made with equal options: both are owners then.
   * Rejects as the constructor throws; `ERR_NAME_TAKEN` names the option that differs. Of two calls for one name at the
   * same time the second waits for the first, and joins.
   *
   * With `data`, what its directory has is in the cache when this resolves, and what is written goes there
   * (docs/durability.md). Rejects with `ERR_LOG_LOCKED` if somebody has the directory, with `ERR_LOG_CORRUPT`,
   * `ERR_LOG_VERSION` or `ERR_LOG_IO` if it cannot be read, all without having changed anything in it; and on any other
   * thread than the main one with `ERR_INVALID_ARGUMENT`: there, `Cache.attach`.
   */
  static async open<V = unknown>(options?: CacheOptions): Promise<Cache<V>> {
    return new Cache<V>(await open(options));
  }

  /**
   * A handle to the cache of that name, from any thread of the process. Never makes one: throws `ERR_NO_SUCH_CACHE` if
   * there is none, and `ERR_NOT_READY` while it is recovering. Closing the handle detaches it and does no more.
   */
  static attach<V = unknown>(name: string, options?: AttachOptions): Cache<V> {
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
   * What the cache was made with, in bytes and milliseconds, with what was chosen where an option was left out; `raw`
   * and `promises` are those of this handle. `Cache.open` takes it again. What `resize` has changed is in `stats()`.
   */
  get options(): EffectiveOptions {
    const { raw, promises } = this.#opened;
    this.#options ??= Object.freeze(effectiveOptions(this.#handle, this.#resolvedOptions(), raw, promises));
    return this.#options;
  }

  /** What `Cache.open` has read of `data`; undefined without, and for handles that were attached. */
  get recovery(): RecoverySummary | undefined {
    return this.#log.recovery;
  }

  /** The promised verbs: the same ones, executed by threads of their own in batches. docs/threads.md says when. */
  get promises(): CachePromises<V> {
    if (this.#promises === undefined) {
      const ack = this.closed ? 'memory' : this.#resolvedOptions().ack;
      const { raw, promises, tick } = this.#opened;
      this.#promises = new CachePromises<V>(this.#handle, raw, promises, ack);
      if (tick !== undefined) tickBefore(this.#promises, CachePromises.prototype, tick);
    }
    return this.#promises;
  }

  /** True once this handle was closed, or the cache by its last owner. */
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
    return this.#reads.finish(value, key, (again) => nativeGet(number, again)) as V | undefined;
  }

  /** The value; neither its place in the order nor the counters change. `undefined` for a miss. */
  peek(key: Key): V | undefined {
    const value = this.#peek(key);
    return (typeof value === 'boolean' ? this.#reads.finish(value, key, this.#peek) : value) as V | undefined;
  }

  /**
   * The value, and removes the entry; `undefined` for a miss. Of several threads that take one entry, one gets it.
   * Throws `ERR_VALUE_MALFORMED`, or what the handle's `raw` function throws, for a value that cannot be decoded: the
   * entry stays.
   */
  take(key: Key): V | undefined {
    return this.#reads.take(key) as V | undefined;
  }

  /** The value with its version, for `cas()`; `undefined` for a miss. */
  getWithCas(key: Key): ValueWithCas<V> | undefined {
    return this.#reads.getWithCas(key) as ValueWithCas<V> | undefined;
  }

  /**
   * Copies the bytes of the value into `target`, as the port would serve them, whatever kind it is; makes no garbage.
   * Returns their number, or `undefined` for a miss. More than `target.length`: nothing was copied.
   */
  getInto(key: Key, target: Uint8Array): number | undefined {
    return this.#reads.getInto(key, target);
  }

  /** True if there is an entry; neither its place in the order nor the counters change. */
  has(key: Key): boolean {
    const answer = this.#has(key);
    return typeof answer === 'boolean' ? answer : finishYesNo(this.#handle, answer, key, this.#has);
  }

  /** What is known of an entry beside its value; `undefined` for a miss. Changes nothing. */
  info(key: Key): EntryInfo | undefined {
    return this.#reads.info(key);
  }

  /** Milliseconds until the entry expires: `Infinity` if it does not, 0 if there is none. */
  getRemainingTTL(key: Key): number {
    return this.#reads.remainingTtl(key);
  }

  /**
   * The values of many keys, in their order, `undefined` for each miss; one native call for up to 128 keys. Packed keys
   * give packed values.
   *
   * Throws `ERR_VALUE_MALFORMED` if some cannot be decoded, with their keys as `error.keys`; the others can.
   */
  getMany(keys: Iterable<Key>): (V | undefined)[];
  getMany(keys: PackedKeys): PackedValues;
  getMany(keys: Iterable<Key> | PackedKeys): (V | undefined)[] | PackedValues {
    if (keys instanceof PackedKeys) return this.#forMany.getPacked(keys);
    return this.#forMany.get(keys) as (V | undefined)[];
  }

  // ---- storing ----

  /**
   * Stores a value, in any case. `'not-stored'`: there is no room now, because values that are being read or received
   * hold it; an entry that was there is gone then.
   *
   * Throws `ERR_VALUE_NOT_STORABLE` for functions, symbols, promises and what holds them; `ERR_VALUE_TOO_LARGE` above
   * `maxValueBytes` (the entry that was there is gone); `ERR_INVALID_ARGUMENT` for `undefined` or a wrong `ttl`;
   * `ERR_LOG_FULL` if the cache has a log that does not keep up.
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

  /** Stores a value if there is no entry of that key, else `'not-stored'`. Throws as `set`. */
  add(key: Key, value: V, options?: SetOptions): StoreResult {
    return this.#writes.store(Verb.add, key, value, ttlOf(options));
  }

  /** Stores a value if there is an entry of that key, else `'not-stored'`. Throws as `set`. */
  replace(key: Key, value: V, options?: SetOptions): StoreResult {
    return this.#writes.store(Verb.replace, key, value, ttlOf(options));
  }

  /**
   * Adds text or bytes behind the value, which keeps its time to live. `'not-stored'`: there is no entry, or its value
   * is neither text nor bytes. Throws `ERR_VALUE_TOO_LARGE` if the result would be, having changed nothing.
   */
  append(key: Key, piece: string | Uint8Array, ...none: []): StoreResult {
    checkNone('append', none);
    return this.#writes.store(Verb.append, key, checkPiece(piece), undefined);
  }

  /** The same in front of the value. */
  prepend(key: Key, piece: string | Uint8Array, ...none: []): StoreResult {
    checkNone('prepend', none);
    return this.#writes.store(Verb.prepend, key, checkPiece(piece), undefined);
  }

  /**
   * Stores a value if the entry's version is still `cas`, as `getWithCas` or `info` gave it. `'exists'`: it has
   * changed; `'not-found'`: it is gone. Throws as `set`.
   */
  cas(key: Key, value: V, cas: bigint, options?: SetOptions): CasResult {
    return this.#writes.cas(key, value, cas, ttlOf(options));
  }

  /**
   * Replaces the value by what `change` makes of it (of `undefined`, if there is none), and again if somebody else was
   * faster; so `change` may run several times and should do nothing else. The entry keeps its time to live unless one
   * is given. Returns the value that was stored. If `change` returns `undefined`, nothing is stored and the value that
   * is there is returned.
   *
   * Throws as `set`, `ERR_OUT_OF_MEMORY` where that gives `'not-stored'`, and `ERR_TIMEOUT` after 1000 tries: nothing
   * was stored then.
   */
  update(key: Key, change: (value: V | undefined) => V | undefined, options?: SetOptions): V | undefined {
    if (typeof change !== 'function') throw wrongType('change', 'a function', change);
    const read = (again: Key): ValueWithCas<unknown> | undefined => this.getWithCas(again);
    return this.#writes.update(key, read, change as (value: unknown) => unknown, ttlOf(options)) as V | undefined;
  }

  /**
   * Adds to a whole number, kept as a number, a bigint, or decimal text, and returns the new one: modulo 2^64, as
   * memcached counts. `undefined`: there is no entry and no `initial`. `'not-stored'`: the value is not a non-negative
   * whole number. With a bigint delta the answer is a bigint; with a number it is one, exact up to 2^53.
   */
  incr(key: Key, by?: number, options?: ArithmeticOptions): number | 'not-stored' | undefined;
  incr(key: Key, by: bigint, options?: ArithmeticOptions): bigint | 'not-stored' | undefined;
  incr(key: Key, by: number | bigint = 1, options?: ArithmeticOptions): number | bigint | 'not-stored' | undefined {
    return this.#writes.arithmetic(Verb.incr, key, by, options);
  }

  /** Subtracts from a whole number, down to 0 and not below. Otherwise as `incr`. */
  decr(key: Key, by?: number, options?: ArithmeticOptions): number | 'not-stored' | undefined;
  decr(key: Key, by: bigint, options?: ArithmeticOptions): bigint | 'not-stored' | undefined;
  decr(key: Key, by: number | bigint = 1, options?: ArithmeticOptions): number | bigint | 'not-stored' | undefined {
    return this.#writes.arithmetic(Verb.decr, key, by, options);
  }

  /**
   * Stores many entries: pairs of key and value (a `Map` is such), all with the same options; one native call for up to
   * 128. Returns what each `set` would have returned, in order.
   *
   * Each entry counts by itself: one that `set` would throw for stops no other. If there is such an entry, the first
   * error is thrown when all others are stored; its `results` have the answer or the error of each entry, in order. If
   * `entries` gives something that is no pair, or throws, nothing is stored.
   */
  setMany(entries: Iterable<readonly [Key, V]>, options?: SetOptions): StoreResult[] {
    return this.#forMany.set(entries, ttlOf(options));
  }

  // ---- removing ----

  /** Removes an entry. False: there was none. */
  delete(key: Key): boolean {
    const answer = this.#delete(key);
    return typeof answer === 'boolean' ? answer : finishYesNo(this.#handle, answer, key, this.#delete);
  }

  /**
   * Removes an entry from memory as if room had been needed: where there is a database or a log behind the cache they
   * keep it. False: there was none.
   */
  evict(key: Key): boolean {
    const { evict } = this.#handle;
    return finishYesNo(this.#handle, evict(key), key, evict);
  }

  /**
   * Removes many entries; one native call for up to 128. Returns what each `delete` would have returned, in order. A
   * wrong key stops no other: the first error is thrown in the end, with `results` as `setMany` has them.
   */
  deleteMany(keys: Iterable<Key>): boolean[] {
    return this.#forMany.delete(keys);
  }

  /** Removes everything at once, whatever the size; memory is given back in steps afterwards. */
  clear(): void {
    const error = clearError(this.#handle, this.#handle.clear());
    if (error !== undefined) throw error;
  }

  /**
   * Gives an entry a new time to live from now (default: that of the cache; 0: it does not expire) and makes it the
   * most recently used. False: there is none.
   */
  touch(key: Key, ttl?: Duration): boolean {
    const ttlMs = ttl === undefined ? undefined : parseDuration('ttl', ttl, 0);
    const answer = this.#touch(key, ttlMs);
    if (typeof answer === 'boolean') return answer;
    return finishYesNo(this.#handle, answer, key, (again) => this.#touch(again, ttlMs));
  }

  // ---- loading ----

  /**
   * The value, or what `loader` finds if there is none: it is stored, and everybody who asks for the key meanwhile, in
   * any thread of the process, waits for it instead of loading too. If the thread that loads ends, the next one that
   * waits loads. Each caller gets its own copy, as `get` would give it; so does the caller whose loader ran.
   *
   * - A `set`, `delete` or other change of the key, or a `clear`, while it is loaded: the value goes to those who asked
   *   before, and is not stored. Whoever asks later starts a new load.
   * - The loader finds `undefined`: callers get it, nothing is stored. (`null` is a value: store that something is
   *   not.)
   * - It fails: all callers are rejected with its error; those in other threads with one of the same name, message and
   *   code. Nothing is stored.
   * - The value is larger than `maxValueBytes`, or there is no room now: callers get it, nothing is stored.
   * - More than 65,536 loads are under way in the cache: this one is not shared and stores nothing.
   *
   * Rejects with `ERR_VALUE_NOT_STORABLE` if the loader finds something that cannot be copied, such as a function; with
   * `ERR_TIMEOUT` or the reason of `signal` if the caller stops waiting; with `ERR_CLOSED` if the cache is closed.
   */
  fetch<L extends V | undefined>(
    key: Key,
    loader: Loader<V, L>,
    options?: FetchOptions<V>,
  ): Promise<V | Extract<L, undefined>> {
    this.#fetcher ??= new Fetcher(this.#fetchCache());
    const value = this.#fetcher.fetch(key, loader as Loader<unknown>, options as FetchOptions);
    return value as Promise<V | Extract<L, undefined>>;
  }

  // ---- events ----

  /**
   * Calls `listener` when entries leave, whichever thread or client removed them:
   *
   * - `'removal'`, with batches of `{ key, reason, value? }`; with options also which reasons, and whether with values.
   *   Expired entries are told of when they are met or reclaimed, not at the millisecond.
   * - `'cleared'`, with how many entries `clear()` removed; they are not told of one by one.
   * - `'removals-lost'`, with how many events this thread did not get to before the ring (1 MiB) was full. Whoever
   *   causes them never waits for those who listen.
   *
   * - `'log'`, with what the log of the cache has to say, each told apart by its `kind` (docs/durability.md lists
   *   them): on handles of the thread that has opened the cache.
   *
   * Listening does not keep the process alive; it keeps the handle until `off` or `close()`.
   */
  on(event: 'removal', listener: CacheEvents<V>['removal'], options?: RemovalOptions): this;
  on(event: 'cleared' | 'removals-lost', listener: (count: number) => void): this;
  on(event: 'log', listener: NoticeListener): this;
  on(event: keyof CacheEvents<V> | 'log', listener: AnyListener<V>, options?: RemovalOptions): this {
    if (event === 'log') this.#log.listen(listener as NoticeListener, false);
    else this.#listening().add(event, listener as CacheEvents<V>[typeof event], options, false);
    return this;
  }

  /** As `on`, for the first batch or event only. */
  once(event: 'removal', listener: CacheEvents<V>['removal'], options?: RemovalOptions): this;
  once(event: 'cleared' | 'removals-lost', listener: (count: number) => void): this;
  once(event: 'log', listener: NoticeListener): this;
  once(event: keyof CacheEvents<V> | 'log', listener: AnyListener<V>, options?: RemovalOptions): this {
    if (event === 'log') this.#log.listen(listener as NoticeListener, true);
    else this.#listening().add(event, listener as CacheEvents<V>[typeof event], options, true);
    return this;
  }

  /** Ends what `on` or `once` began; of a listener that was added twice, the later one. */
  off<E extends keyof CacheEvents<V>>(event: E, listener: CacheEvents<V>[E]): this;
  off(event: 'log', listener: NoticeListener): this;
  off(event: keyof CacheEvents<V> | 'log', listener: AnyListener<V>): this {
    if (event === 'log') this.#log.unlisten(listener as NoticeListener);
    else this.#removals?.remove(event, listener as CacheEvents<V>[typeof event]);
    return this;
  }

  // ---- the whole ----

  /** How many entries there are; expired ones count until they are removed. */
  get size(): number {
    const size = this.#handle.size();
    if (size < 0) throw this.#error(Code.closed);
    return size;
  }

  /** Counters and sizes. */
  stats(): CacheStats {
    const stats = readStats(this.#handle);
    if (stats === undefined) throw this.#error(Code.closed);
    return stats;
  }

  /** Sets the counters back to 0. */
  resetStats(): void {
    const code = this.#handle.resetStats();
    if (code !== Code.stored) throw this.#error(code);
  }

  /**
   * Changes the limits; what is left out stays, and `maxEntries: Infinity` is no limit. Growing takes effect at once.
   * Shrinking evicts in steps with a turn of the event loop in between; the promise resolves when the cache is within
   * the new limits.
   *
   * Rejects with `ERR_INVALID_ARGUMENT` above `maxMemoryCeiling` or below what the shards need, having changed nothing.
   */
  resize(limits: { maxMemory?: Size; maxEntries?: number }): Promise<void> {
    return resize(this.#handle, limits);
  }

  /**
   * Walks over all keys, a few at a time, without stopping anybody. What is given is there when it is given, with the
   * value of that moment: nothing that has expired, or was deleted or cleared between two steps. Every entry that is
   * there from start to end is given at least once; one that is used or changed meanwhile may be given twice, one that
   * comes or goes may be given or not. Keys that are not text are Buffers. Nothing is touched or counted.
   *
   * `values()` and `entries()` throw `ERR_VALUE_MALFORMED` when they come to a value that cannot be decoded, with its
   * key in `error.keys`; `keys()` goes past it.
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
   * Everything as bytes, for `load()`: keys, values of every kind, flags and expiry, oldest first. A walk as `keys()`
   * is one, in pieces of about 256 KiB, each of what is there when it is asked for:
   * `for (const piece of cache.dump()) file.write(piece)`.
   */
  *dump(): Generator<Buffer, undefined, undefined> {
    yield* dump(this.#handle);
  }

  /**
   * Stores the entries of a dump, over those of the same key that are there. Takes the bytes as a whole or in pieces
   * cut anywhere; a stream of them gives a promise. Throws `ERR_DUMP_MALFORMED` for bytes that are no dump or a damaged
   * one: what came before the damage is loaded then.
   *
   * Load only what you trust as you trust a program: a dump decides how its values are decoded.
   */
  load(bytes: Uint8Array | Iterable<Uint8Array>): LoadResult;
  load(bytes: AsyncIterable<Uint8Array>): Promise<LoadResult>;
  load(bytes: Uint8Array | Iterable<Uint8Array> | AsyncIterable<Uint8Array>): LoadResult | Promise<LoadResult> {
    return load(this.#handle, bytes);
  }

  // ---- the log ----

  /**
   * Resolves when everything that was written so far, by whichever thread or client, is on the disk: safe from a power
   * cut, under every `sync`. Without `data` there is nothing to wait for.
   *
   * Rejects with `ERR_LOG_FULL` if the log has no room, with `ERR_LOG_IO` if it cannot be written: the cache has it,
   * the disk may not; and with `ERR_CLOSED`.
   */
  sync(): Promise<void> {
    return this.#log.sync();
  }

  /**
   * Takes a snapshot of everything that is there now, without stopping anybody, and resolves when it is on the disk and
   * was read back. They are taken on schedule too (option `snapshot`). Rejects with `ERR_LOG_IO` if it cannot be
   * written: the one before it is still there; with `ERR_INVALID_ARGUMENT` without `data`.
   */
  snapshot(): Promise<SnapshotSummary> {
    return this.#log.snapshot();
  }

  // ---- the end ----

  /**
   * Closes this handle: promised calls that were accepted are finished and new ones refused, then the handle is given
   * up (before close() returns, if promised verbs were not used). If it was the last owner's, the cache ends for
   * everybody: its name is free, other handles throw `ERR_CLOSED`, its memory is given back in steps. What this handle
   * fetches is rejected; loads that other threads wait for go on there. Removal events that happened before are
   * delivered first. Closing again gives the same promise.
   *
   * With `data`, the last owner also writes what the log has still to take, has a snapshot taken and closes the log,
   * within `timeout` (default 10 s; 0: as long as it takes): the snapshot is left out if the time does not allow it,
   * and if even the log did not get everything, this rejects, with `ERR_LOG_FULL`, `ERR_LOG_IO` or `ERR_TIMEOUT`. The
   * cache is closed then too. Promised calls that still wait for the log when the time is over are given up as by
   * `destroy()`.
   */
  close(options?: CloseOptions): Promise<void> {
    return this.#ending.close(options);
  }

  /**
   * Closes this handle without finishing anything: promised calls that were not sent reject with `ERR_CLOSED` and are
   * not done, those that were with `ERR_WORKER_EXITED` and may be; so do those that were done and wait for the log,
   * and say that they may be lost. Resolves when the threads of this handle have ended. What was written goes to the
   * log nevertheless, if there is one, as with `close()`; there is no snapshot.
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
    this.#removals?.close();
    this.#fetcher?.close();
    this.#handle.close();
    this.#promises?.handleClosed();
  }

  #fetchCache(): FetchCache {
    return {
      handle: this.#handle as FlightHandle,
      raw: this.#opened.raw,
      ttl: this.closed ? 0 : this.#resolvedOptions().ttl,
      tick: this.#opened.tick,
      get: (key) => this.get(key),
      peek: (key) => this.peek(key),
      read: (key, read) => {
        const value = read(key);
        return typeof value === 'boolean' ? this.#reads.finish(value, key, read) : value;
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

  // The error for an answer that is no outcome.
  #error(code: number, asked?: Asked): Error {
    return answerError(this.#handle, code, asked);
  }
}

guardReceivers(Cache.prototype, isCache, ['get', 'set']);
register(openNames);

type AnyListener<V> = CacheEvents<V>[keyof CacheEvents<V>] | NoticeListener;
