/**
 * CachePromises: the promised verbs (`cache.promises`) and their documentation. calls.ts takes each call to the router,
 * terms.ts checks its options, call.ts is a call that waits, and answers.ts reads its answer.
 */
import { EventEmitter } from 'node:events';
import type { NativeHandle } from '../native.ts';
import type { AckLevel, CallOptions, Duration, RawOption, ResolvedPromiseOptions } from '../options.ts';
import { withoutCache } from '../receiver.ts';
import type { CasResult, EntryInfo, Key, StoreResult, ValueWithCas } from '../request/arguments.ts';
import { Verb } from '../request/batch.ts';
import { copyOfBytes } from '../request/bytes.ts';
import type { Router } from '../router/index.ts';
import { readFound, readInfo, readRemaining, readTaken, readValue, readWithCas } from './answers.ts';
import { PromisedAtomicBatch } from './batch.ts';
import { Calls, type PromiseStats } from './calls.ts';
import type { PromisedArithmeticOptions, PromisedSetManyOptions, PromisedSetOptions } from './terms.ts';

export type {
  PromisedArithmeticOptions,
  PromisedAtomicBatch,
  PromisedSetManyOptions,
  PromisedSetOptions,
  PromiseStats,
};

// The calls of a CachePromises; a verb that is called on something else throws.
let callsOf: <V>(promises: CachePromises<V>, verb: string) => Calls;

/**
 * The promised verbs of a cache: the cache's verbs, with the same answers, executed in batches by other threads
 * (lanes). docs/threads.md says which of the two to use.
 *
 * Order: calls of one thread for the same key take effect in the order in which they were made; `clear()` takes effect
 * after all calls made before it. Between different keys, and between promised and synchronous verbs, only awaiting
 * makes an order. A call whose value is in the database only waits for it, and takes effect when the value has come:
 * behind calls for the same key, and clears, that were made meanwhile and need not wait.
 *
 * In a cache with a `store`, a call that needs a value which is not in memory loads it first. It rejects with
 * `ERR_NOT_RESIDENT`, having done nothing, if the value cannot be loaded.
 *
 * A call rejects with `ERR_INVALID_ARGUMENT`, having done nothing, where the synchronous verb throws it (`setMany` and
 * `deleteMany` do the other entries). It rejects with `ERR_QUEUE_FULL`, having done nothing, if too many calls are
 * unanswered (retry after `'drain'`), and with `ERR_CLOSED`, having done nothing, if the cache is closed or closing. It
 * rejects with `ERR_WORKER_EXITED` if the thread with the request died; the request, which the message names, may have
 * been done. With `timeout` it rejects with `ERR_TIMEOUT`, with `signal` with the signal's reason: a request that was
 * not sent by then is not done; one that was sent may be done.
 *
 * | the cache is     | a call     | what was accepted                                                               |
 * |------------------|------------|---------------------------------------------------------------------------------|
 * | open             | accepted   | is done; if a thread dies, its batch fails: ERR_WORKER_EXITED, the rest is done |
 * | closing          | ERR_CLOSED | is finished, then the threads end                                               |
 * | destroyed        | ERR_CLOSED | not sent: ERR_CLOSED, nothing done; sent: ERR_WORKER_EXITED, may be done        |
 * | closed elsewhere | ERR_CLOSED | ERR_CLOSED, nothing done                                                        |
 *
 * Unanswered calls keep the process alive; the threads do not. Emits `'drain'` when the queue has refused a call and
 * has room again.
 */
export class CachePromises<V = unknown> extends EventEmitter<{ drain: [] }> {
  static {
    callsOf = (promises, verb) => {
      try {
        return promises.#calls;
      } catch {
        throw withoutCache(verb, 'cache.promises');
      }
    };
  }

  readonly #calls: Calls;

  /** @internal */
  constructor(handle: NativeHandle, raw: RawOption, options: ResolvedPromiseOptions, ack: AckLevel = 'memory') {
    super();
    this.#calls = new Calls({ handle, raw, options, ack, onDrain: () => this.emit('drain') });
  }

  // ---- reading ----

  /** The value, which becomes the most recently used; `undefined` for a miss. */
  get(key: Key, options?: CallOptions): Promise<V | undefined> {
    return callsOf(this, 'get').ask('get', Verb.get, key, readValue, options) as Promise<V | undefined>;
  }

  /** The value; changes neither the order of use nor the counters. `undefined` for a miss. */
  peek(key: Key, options?: CallOptions): Promise<V | undefined> {
    return callsOf(this, 'peek').ask('peek', Verb.peek, key, readValue, options) as Promise<V | undefined>;
  }

  /**
   * Removes the entry and returns its value; `undefined` for a miss. Of several callers that take an entry, one gets
   * it. If the value cannot be decoded, the entry is put back before the promise rejects, unless the key has a new
   * entry by then: others find no entry in between. It then has a new version, and is the most recently used. The
   * synchronous `take` never removes such an entry.
   */
  take(key: Key, options?: CallOptions): Promise<V | undefined> {
    // What is put back goes under the key as it was when the call was made.
    return callsOf(this, 'take').ask('take', Verb.take, copyOfBytes(key), readTaken, options) as Promise<V | undefined>;
  }

  /** The value with its version, for `cas()`; `undefined` for a miss. */
  getWithCas(key: Key, options?: CallOptions): Promise<ValueWithCas<V> | undefined> {
    return callsOf(this, 'getWithCas').ask('getWithCas', Verb.get, key, readWithCas, options) as Promise<
      ValueWithCas<V> | undefined
    >;
  }

  /** True if the entry exists; changes neither the order of use nor the counters. */
  has(key: Key, options?: CallOptions): Promise<boolean> {
    return callsOf(this, 'has').ask('has', Verb.has, key, readFound, options);
  }

  /** Describes an entry without its value; `undefined` for a miss. Changes nothing. */
  info(key: Key, options?: CallOptions): Promise<EntryInfo | undefined> {
    return callsOf(this, 'info').ask('info', Verb.has, key, readInfo, options);
  }

  /** Milliseconds until the entry expires: `Infinity` without expiry, 0 for a miss. */
  getRemainingTTL(key: Key, options?: CallOptions): Promise<number> {
    return callsOf(this, 'getRemainingTTL').ask(
      'getRemainingTTL',
      Verb.has,
      key,
      readRemaining,
      options,
    ) as Promise<number>;
  }

  /**
   * The values of many keys, in the order of the keys, `undefined` for each miss. Not atomic: other calls may run in
   * between.
   */
  getMany(keys: Iterable<Key>, options?: CallOptions): Promise<(V | undefined)[]> {
    return callsOf(this, 'getMany').askMany('getMany', Verb.get, keys, readValue, options) as Promise<
      (V | undefined)[]
    >;
  }

  // ---- storing ----

  /** Stores a value. Answers as the synchronous `set`, and rejects with its errors. */
  set(key: Key, value: V, options?: PromisedSetOptions): Promise<StoreResult> {
    return callsOf(this, 'set').store('set', Verb.set, key, value, options, undefined) as Promise<StoreResult>;
  }

  /** Stores a value if the key has no entry; `'not-stored'` if it has one. */
  add(key: Key, value: V, options?: PromisedSetOptions): Promise<StoreResult> {
    return callsOf(this, 'add').store('add', Verb.add, key, value, options, undefined) as Promise<StoreResult>;
  }

  /** Stores a value if the key has an entry; `'not-stored'` if it has none. */
  replace(key: Key, value: V, options?: PromisedSetOptions): Promise<StoreResult> {
    return callsOf(this, 'replace').store(
      'replace',
      Verb.replace,
      key,
      value,
      options,
      undefined,
    ) as Promise<StoreResult>;
  }

  /**
   * Adds text or bytes at the end of the value; the entry keeps its time to live. Answers as the synchronous `append`.
   */
  append(key: Key, piece: string | Uint8Array, options?: CallOptions): Promise<StoreResult> {
    return callsOf(this, 'append').join('append', Verb.append, key, piece, options);
  }

  /** Adds text or bytes at the start of the value. Otherwise as `append`. */
  prepend(key: Key, piece: string | Uint8Array, options?: CallOptions): Promise<StoreResult> {
    return callsOf(this, 'prepend').join('prepend', Verb.prepend, key, piece, options);
  }

  /**
   * Stores a value if the entry's version is still `cas`. `'exists'`: the entry has changed; `'not-found'`: it is gone.
   */
  cas(key: Key, value: V, cas: bigint, options?: PromisedSetOptions): Promise<CasResult> {
    return callsOf(this, 'cas').store('cas', Verb.cas, key, value, options, cas) as Promise<CasResult>;
  }

  /**
   * Stores the result of `change(value)`, which may be a promise, in place of the value (`undefined` for a miss). If
   * another caller changed the entry meanwhile, `change` runs again with the new value, so it should have no side
   * effects. The entry keeps its time to live unless `ttl` is given. Returns the stored value. If the result is
   * `undefined`, nothing is stored, and the present value is returned.
   *
   * Rejects as `set`; with the error of `change`; with `ERR_OUT_OF_MEMORY` where `set` answers `'not-stored'`; and with
   * `ERR_TIMEOUT` after 1000 tries, having stored nothing. `timeout` applies to each read and each write.
   */
  update(
    key: Key,
    change: (value: V | undefined) => V | undefined | Promise<V | undefined>,
    options?: PromisedSetOptions,
  ): Promise<V | undefined> {
    const read = (again: Key, call: CallOptions) => this.getWithCas(again, call);
    const made = change as (value: unknown) => unknown;
    return callsOf(this, 'update').update(key, read, made, options) as Promise<V | undefined>;
  }

  /** Adds to a whole number and returns the new one, as the synchronous `incr`. */
  incr(key: Key, by?: number, options?: PromisedArithmeticOptions): Promise<number | 'not-stored' | undefined>;
  incr(key: Key, by: bigint, options?: PromisedArithmeticOptions): Promise<bigint | 'not-stored' | undefined>;
  incr(
    key: Key,
    by: number | bigint = 1,
    options?: PromisedArithmeticOptions,
  ): Promise<number | bigint | 'not-stored' | undefined> {
    return callsOf(this, 'incr').count('incr', Verb.incr, key, by, options);
  }

  /** Subtracts from a whole number, down to 0. Otherwise as `incr`. */
  decr(key: Key, by?: number, options?: PromisedArithmeticOptions): Promise<number | 'not-stored' | undefined>;
  decr(key: Key, by: bigint, options?: PromisedArithmeticOptions): Promise<bigint | 'not-stored' | undefined>;
  decr(
    key: Key,
    by: number | bigint = 1,
    options?: PromisedArithmeticOptions,
  ): Promise<number | bigint | 'not-stored' | undefined> {
    return callsOf(this, 'decr').count('decr', Verb.decr, key, by, options);
  }

  /**
   * Stores many entries, given as pairs of key and value (such as a `Map`), with the same options. Returns the answer
   * of each `set`, in order. A refused entry does not stop the others: after all others are stored, the promise rejects
   * with the first error, whose `results` have the answer or the error of each entry.
   *
   * With `atomic`, all entries are stored at one moment, or none: as `batch()`, with the errors of its `commit`.
   */
  setMany(entries: Iterable<readonly [Key, V]>, options?: PromisedSetManyOptions): Promise<StoreResult[]> {
    return callsOf(this, 'setMany').setMany(entries, options);
  }

  /**
   * Begins an atomic batch, as the synchronous `batch`. Its `commit()` is done on the calling thread, behind all calls
   * made before it. If the log has no room at that moment, it is tried again for 10 s, behind later calls.
   */
  batch(): PromisedAtomicBatch<V> {
    return new PromisedAtomicBatch<V>(callsOf(this, 'batch'));
  }

  // ---- removing ----

  /** Removes an entry. False: the entry did not exist. */
  delete(key: Key, options?: CallOptions): Promise<boolean> {
    return callsOf(this, 'delete').ask('delete', Verb.delete, key, readFound, options);
  }

  /** Removes an entry from memory, as an eviction does. False: the entry did not exist. */
  evict(key: Key, options?: CallOptions): Promise<boolean> {
    return callsOf(this, 'evict').ask('evict', Verb.evict, key, readFound, options);
  }

  /** Removes many entries. Returns the answer of each `delete`, in order; a wrong key is refused as in `setMany`. */
  deleteMany(keys: Iterable<Key>, options?: CallOptions): Promise<boolean[]> {
    return callsOf(this, 'deleteMany').askMany('deleteMany', Verb.delete, keys, readFound, options);
  }

  /** Removes all entries, including those of calls made before it, and none of calls made after it. */
  clear(options?: { ack?: AckLevel }): Promise<void> {
    return callsOf(this, 'clear').clear(options);
  }

  /**
   * Gives an entry a new time to live, from the moment of its execution (default: the cache's `ttl`; 0: it does not
   * expire), and makes it the most recently used. False: the entry does not exist.
   */
  touch(key: Key, ttl?: Duration, options?: CallOptions): Promise<boolean> {
    return callsOf(this, 'touch').touch(key, ttl, options);
  }

  // ---- the queue ----

  /**
   * Resolves when the queue is at most half full and has room for every call that it has refused; at once if that is
   * so. Retry a refused call then.
   */
  drained(): Promise<void> {
    return callsOf(this, 'drained').drained();
  }

  /** The present state of the queue and the lanes. */
  stats(): PromiseStats {
    return callsOf(this, 'stats').stats();
  }

  /**
   * Finishes accepted calls, then ends the threads; later calls are refused. Part of `cache.close()`.
   * @internal
   */
  close(): Promise<void> {
    return callsOf(this, 'close').close();
  }

  /**
   * Ends the threads now; see the table. Part of `cache.destroy()`.
   * @internal
   */
  destroy(): Promise<void> {
    return callsOf(this, 'destroy').destroy();
  }

  /**
   * The handle was closed: answers that wait for the log will not be told.
   * @internal
   */
  handleClosed(): void {
    callsOf(this, 'handleClosed').handleClosed();
  }

  /**
   * For tests.
   * @internal
   */
  get router(): Router | undefined {
    return callsOf(this, 'router').router;
  }
}
