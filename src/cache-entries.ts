/**
 * The verbs of entries, of one and of many: reading, storing, removing; with their documentation.
 *
 * A verb on the hot path is one native call and one comparison: the addon returns the value itself if it is text, a
 * whole number or a miss, and `true` or `false` if there is more to do (native.ts says what). The rest of each verb is
 * in reads.ts, writes.ts and many.ts.
 */
import { answerError, clearError } from './answers.ts';
import { AtomicBatch, setsOf } from './atomic.ts';
import { wrongType } from './errors.ts';
import { Many } from './many.ts';
import { Code, type NativeHandle, nativeGet, nativeSet } from './native.ts';
import type { Opened } from './opening.ts';
import { type Duration, parseDuration, type RawOption, type SetManyOptions, type SetOptions } from './options.ts';
import { finishYesNo, Reads } from './reads.ts';
import { withoutCache } from './receiver.ts';
import {
  type ArithmeticOptions,
  type CasResult,
  checkPiece,
  type EntryInfo,
  type Key,
  type StoreResult,
  type ValueWithCas,
} from './request/arguments.ts';
import { Verb } from './request/batch.ts';
import { PackedKeys, type PackedValues } from './request/packed.ts';
import { checkNone, manyTermsOf, ttlOf, Writes } from './writes.ts';

/** The part of Cache that reads, stores and removes entries. */
export abstract class CacheEntries<V> {
  readonly #handle: NativeHandle;
  readonly #raw: RawOption;
  readonly #reads: Reads;
  readonly #writes: Writes;
  #many: Many | undefined;

  // Fields, so that a call costs no look-up on the handle.
  readonly #number: number;
  readonly #peek: NativeHandle['peek'];
  readonly #has: NativeHandle['has'];
  readonly #delete: NativeHandle['delete'];
  readonly #touch: NativeHandle['touch'];

  /** @internal */
  constructor({ handle, raw }: Opened) {
    this.#handle = handle;
    this.#raw = raw;
    this.#reads = new Reads(handle, raw);
    this.#writes = new Writes(handle);
    this.#number = handle.number;
    this.#peek = handle.peek;
    this.#has = handle.has;
    this.#delete = handle.delete;
    this.#touch = handle.touch;
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
   *
   * With `atomic`, all entries are stored at one moment, or none: as `batch()`, with the errors of its `commit`.
   */
  setMany(entries: Iterable<readonly [Key, V]>, options?: SetManyOptions): StoreResult[] {
    const { ttl, isAtomic } = manyTermsOf(options);
    if (!isAtomic) return this.#forMany.set(entries, ttl);
    const parts = setsOf(entries, ttl);
    const error = parts.executeOn(this.#handle);
    if (error !== undefined) throw error;
    return new Array(parts.count).fill('stored');
  }

  /**
   * Begins an atomic batch: sets and deletes that `commit()` does at one moment, all or none.
   *
   * Every read sees all of a batch or nothing of it: a read that begins after one which has seen a part sees every
   * part. A call for many keys (`getMany`, a walk, a dump) reads one key after another, and a batch may be committed in
   * between. With a log, a crash leaves all of a batch or nothing; with a database, its rows change in one transaction,
   * and if the database refuses one of them, all become dead letters.
   */
  batch(): AtomicBatch<V> {
    if (this.#handle.isClosed()) throw answerError(this.#handle, Code.closed);
    return new AtomicBatch<V>(this.#handle);
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

  // Made when it is first needed.
  get #forMany(): Many {
    this.#many ??= new Many({
      handle: this.#handle,
      raw: this.#raw,
      set: (key, value, ttl) => this.#writes.store(Verb.set, key, value, ttl),
      delete: (key) => this.delete(key),
    });
    return this.#many;
  }
}
