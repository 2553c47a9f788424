/**
 * CachePromises: the promised verbs (`cache.promises`). Checks what it is given, hands requests to the router, and
 * makes of each answer a value or an error.
 *
 * A call is a promise and an object that knows how to read the answer; its request is encoded before the call returns,
 * so that what was passed may be changed at once. Nothing is queued for a call that is refused: it rejects before.
 *
 * The router is made by the first call, its threads by the first batch. A CachePromises that is collected with its
 * cache lets its router finish and end.
 */
import { EventEmitter } from 'node:events';
import { clearError } from '../answers.ts';
import { Commits } from '../commits.ts';
import { CairnError, errorKind, show, wrongType } from '../errors.ts';
import { UPDATE_TRIES_MAX } from '../limits.ts';
import { type FeedHandle, feedOf, type NativeHandle } from '../native.ts';
import {
  type AckLevel,
  type CallOptions,
  checkAck,
  checkNames,
  type Duration,
  parseDuration,
  type RawOption,
  type ResolvedPromiseOptions,
} from '../options.ts';
import { checkPatience, type Patience } from '../patience.ts';
import {
  type ArithmeticOptions,
  asArray,
  type CasResult,
  changedTooOften,
  checkAmount,
  checkCas,
  checkPiece,
  type EntryInfo,
  type Key,
  keyError,
  pairsOf,
  type StoreResult,
  type ValueWithCas,
} from '../request/arguments.ts';
import { KEEP_EXPIRY, type RequestFields, Verb } from '../request/batch.ts';
import { copyOfBytes } from '../request/bytes.ts';
import { type Encoded, encode } from '../request/codec.ts';
import { laneCountOf, Router } from '../router/index.ts';
import {
  type Read,
  readBigInt,
  readFound,
  readInfo,
  readNumber,
  readRemaining,
  readStored,
  readTaken,
  readUpdated,
  readValue,
  readWithCas,
} from './answers.ts';
import { failureError, type Hold, ManyCall, maybeLost, OneCall } from './call.ts';

/** The answer of `cache.promises.stats()`. */
export interface PromiseStats {
  /** Accepted requests that are not answered; each key of `getMany`, `setMany` and `deleteMany` counts as one. */
  requests: number;
  /** Bytes of keys and values in these requests. */
  bytes: number;
  /** The limits of the queue. */
  maxRequests: number;
  maxBytes: number;
  /** Threads that serve this handle after its first promised call. */
  lanes: number;
  /** Batches sent to these threads so far. */
  batches: number;
  /** Threads that were started to replace one that died. */
  restarts: number;
}

/** Options of the promised `set`, `add`, `replace`, `cas`, `setMany` and `update`. */
export interface PromisedSetOptions extends CallOptions {
  /** As for the synchronous verbs. */
  ttl?: Duration | 'keep';
}

/** Options of the promised `incr` and `decr`. */
export interface PromisedArithmeticOptions extends ArithmeticOptions, CallOptions {}

const CALL_NAMES: readonly (keyof CallOptions)[] = ['signal', 'timeout', 'ack'];
const SET_NAMES: readonly (keyof PromisedSetOptions)[] = ['signal', 'timeout', 'ack', 'ttl'];
const ARITHMETIC_NAMES: readonly (keyof PromisedArithmeticOptions)[] = ['signal', 'timeout', 'ack', 'initial', 'ttl'];

/** What a call is asked with beside its arguments. */
interface Terms {
  readonly patience: Patience | undefined;
  /** The answer waits until what it tells of is in the log. */
  readonly hold: boolean;
}

/**
 * The promised verbs of a cache: the cache's verbs, with the same answers, executed in batches by other threads
 * (lanes). docs/threads.md says which of the two to use.
 *
 * Order: calls of one thread for the same key take effect in the order in which they were made; `clear()` takes effect
 * after all calls made before it. Between different keys, and between promised and synchronous verbs, only awaiting
 * makes an order.
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
  readonly #handle: NativeHandle;
  readonly #raw: RawOption;
  readonly #options: ResolvedPromiseOptions;
  readonly #feed: FeedHandle | undefined;
  readonly #usual: Terms;
  #router: Router | undefined;
  #commits: Commits | undefined;
  #hold: Hold | undefined;
  #isClosed = false;

  /** @internal */
  constructor(handle: NativeHandle, raw: RawOption, options: ResolvedPromiseOptions, ack: AckLevel = 'memory') {
    super();
    this.#handle = handle;
    this.#raw = raw;
    this.#options = options;
    this.#feed = feedOf(handle);
    this.#usual = { patience: undefined, hold: ack !== 'memory' && this.#feed !== undefined };
  }

  /** @internal */
  static is(value: unknown): boolean {
    return typeof value === 'object' && value !== null && #handle in value;
  }

  // ---- reading ----

  /** The value, which becomes the most recently used; `undefined` for a miss. */
  get(key: Key, options?: CallOptions): Promise<V | undefined> {
    return this.#ask('get', Verb.get, key, readValue, options) as Promise<V | undefined>;
  }

  /** The value; changes neither the order of use nor the counters. `undefined` for a miss. */
  peek(key: Key, options?: CallOptions): Promise<V | undefined> {
    return this.#ask('peek', Verb.peek, key, readValue, options) as Promise<V | undefined>;
  }

  /**
   * Removes the entry and returns its value; `undefined` for a miss. Of several callers that take an entry, one gets
   * it. If the value cannot be decoded, the entry is put back before the promise rejects, unless the key has a new
   * entry by then: others find no entry in between. It then has a new version, and is the most recently used. The
   * synchronous `take` never removes such an entry.
   */
  take(key: Key, options?: CallOptions): Promise<V | undefined> {
    // What is put back goes under the key as it was when the call was made.
    return this.#ask('take', Verb.take, copyOfBytes(key), readTaken, options) as Promise<V | undefined>;
  }

  /** The value with its version, for `cas()`; `undefined` for a miss. */
  getWithCas(key: Key, options?: CallOptions): Promise<ValueWithCas<V> | undefined> {
    return this.#ask('getWithCas', Verb.get, key, readWithCas, options) as Promise<ValueWithCas<V> | undefined>;
  }

  /** True if the entry exists; changes neither the order of use nor the counters. */
  has(key: Key, options?: CallOptions): Promise<boolean> {
    return this.#ask('has', Verb.has, key, readFound, options) as Promise<boolean>;
  }

  /** Describes an entry without its value; `undefined` for a miss. Changes nothing. */
  info(key: Key, options?: CallOptions): Promise<EntryInfo | undefined> {
    return this.#ask('info', Verb.has, key, readInfo, options) as Promise<EntryInfo | undefined>;
  }

  /** Milliseconds until the entry expires: `Infinity` without expiry, 0 for a miss. */
  getRemainingTTL(key: Key, options?: CallOptions): Promise<number> {
    return this.#ask('getRemainingTTL', Verb.has, key, readRemaining, options) as Promise<number>;
  }

  /**
   * The values of many keys, in the order of the keys, `undefined` for each miss. Not atomic: other calls may run in
   * between.
   */
  getMany(keys: Iterable<Key>, options?: CallOptions): Promise<(V | undefined)[]> {
    return this.#askMany('getMany', Verb.get, keys, readValue, options) as Promise<(V | undefined)[]>;
  }

  // ---- storing ----

  /** Stores a value. Answers as the synchronous `set`, and rejects with its errors. */
  set(key: Key, value: V, options?: PromisedSetOptions): Promise<StoreResult> {
    return this.#store('set', Verb.set, key, value, options, undefined) as Promise<StoreResult>;
  }

  /** Stores a value if the key has no entry; `'not-stored'` if it has one. */
  add(key: Key, value: V, options?: PromisedSetOptions): Promise<StoreResult> {
    return this.#store('add', Verb.add, key, value, options, undefined) as Promise<StoreResult>;
  }

  /** Stores a value if the key has an entry; `'not-stored'` if it has none. */
  replace(key: Key, value: V, options?: PromisedSetOptions): Promise<StoreResult> {
    return this.#store('replace', Verb.replace, key, value, options, undefined) as Promise<StoreResult>;
  }

  /**
   * Adds text or bytes at the end of the value; the entry keeps its time to live. Answers as the synchronous `append`.
   */
  append(key: Key, piece: string | Uint8Array, options?: CallOptions): Promise<StoreResult> {
    return this.#join('append', Verb.append, key, piece, options);
  }

  /** Adds text or bytes at the start of the value. Otherwise as `append`. */
  prepend(key: Key, piece: string | Uint8Array, options?: CallOptions): Promise<StoreResult> {
    return this.#join('prepend', Verb.prepend, key, piece, options);
  }

  /**
   * Stores a value if the entry's version is still `cas`. `'exists'`: the entry has changed; `'not-found'`: it is gone.
   */
  cas(key: Key, value: V, cas: bigint, options?: PromisedSetOptions): Promise<CasResult> {
    return this.#store('cas', Verb.cas, key, value, options, cas) as Promise<CasResult>;
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
  async update(
    key: Key,
    change: (value: V | undefined) => V | undefined | Promise<V | undefined>,
    options?: PromisedSetOptions,
  ): Promise<V | undefined> {
    if (typeof change !== 'function') throw wrongType('change', 'a function', change);
    this.#setTerms(options); // What is wrong is found before `change` runs.
    const { ttl, ...call } = options ?? {};
    const withTtl = ttl === undefined ? call : { ...call, ttl };
    for (let tries = 0; tries < UPDATE_TRIES_MAX; tries++) {
      const found = await this.getWithCas(key, call);
      const value = await change(found?.value);
      if (value === undefined) return found?.value;
      const result =
        found === undefined
          ? await this.#store('update', Verb.add, key, value, withTtl, undefined, readUpdated)
          : await this.#store('update', Verb.cas, key, value, { ttl: 'keep', ...withTtl }, found.cas, readUpdated);
      if (result === 'stored') return value;
    }
    throw changedTooOften(key, UPDATE_TRIES_MAX);
  }

  /** Adds to a whole number and returns the new one, as the synchronous `incr`. */
  incr(key: Key, by?: number, options?: PromisedArithmeticOptions): Promise<number | 'not-stored' | undefined>;
  incr(key: Key, by: bigint, options?: PromisedArithmeticOptions): Promise<bigint | 'not-stored' | undefined>;
  incr(
    key: Key,
    by: number | bigint = 1,
    options?: PromisedArithmeticOptions,
  ): Promise<number | bigint | 'not-stored' | undefined> {
    return this.#count('incr', Verb.incr, key, by, options);
  }

  /** Subtracts from a whole number, down to 0. Otherwise as `incr`. */
  decr(key: Key, by?: number, options?: PromisedArithmeticOptions): Promise<number | 'not-stored' | undefined>;
  decr(key: Key, by: bigint, options?: PromisedArithmeticOptions): Promise<bigint | 'not-stored' | undefined>;
  decr(
    key: Key,
    by: number | bigint = 1,
    options?: PromisedArithmeticOptions,
  ): Promise<number | bigint | 'not-stored' | undefined> {
    return this.#count('decr', Verb.decr, key, by, options);
  }

  /**
   * Stores many entries, given as pairs of key and value (such as a `Map`), with the same options. Returns the answer
   * of each `set`, in order. A refused entry does not stop the others: after all others are stored, the promise rejects
   * with the first error, whose `results` have the answer or the error of each entry.
   */
  setMany(entries: Iterable<readonly [Key, V]>, options?: PromisedSetOptions): Promise<StoreResult[]> {
    return new Promise((resolve, reject) => {
      const { terms, fields } = this.#setTerms(options);
      const keys: Key[] = [];
      const payloads: (Encoded | Error)[] = [];
      for (const [key, value] of pairsOf(entries)) {
        keys.push(key);
        payloads.push(encodedOrError(value));
      }
      const settle = { resolve: resolve as (value: unknown) => void, reject };
      this.#submitMany({ name: 'setMany', verb: Verb.set, keys, payloads, fields, read: readStored, terms, ...settle });
    });
  }

  // ---- removing ----

  /** Removes an entry. False: the entry did not exist. */
  delete(key: Key, options?: CallOptions): Promise<boolean> {
    return this.#ask('delete', Verb.delete, key, readFound, options) as Promise<boolean>;
  }

  /** Removes an entry from memory, as an eviction does. False: the entry did not exist. */
  evict(key: Key, options?: CallOptions): Promise<boolean> {
    return this.#ask('evict', Verb.evict, key, readFound, options) as Promise<boolean>;
  }

  /** Removes many entries. Returns the answer of each `delete`, in order; a wrong key is refused as in `setMany`. */
  deleteMany(keys: Iterable<Key>, options?: CallOptions): Promise<boolean[]> {
    return this.#askMany('deleteMany', Verb.delete, keys, readFound, options) as Promise<boolean[]>;
  }

  /** Removes all entries, including those of calls made before it, and none of calls made after it. */
  clear(options?: { ack?: AckLevel }): Promise<void> {
    return new Promise((resolve, reject) => {
      const isHeld = this.#isHeld(checkNames<{ ack?: AckLevel }>('options', options, ['ack']).ack);
      const router = this.#enter(1);
      const { clear } = this.#handle;
      const closed = this.#closedError.bind(this, 'clear');
      router.barrier((failure) => {
        if (failure !== undefined) {
          reject(failureError(failure, 'clear'));
          return;
        }
        const error = this.#handle.isClosed() ? closed() : clearError(this.#handle, clear());
        if (error !== undefined) reject(error);
        else if (isHeld)
          this.#holdOf(router)
            .commits.all((why) => maybeLost('clear', why))
            .then(resolve, reject);
        else resolve();
      });
    });
  }

  /**
   * Gives an entry a new time to live, from the moment of its execution (default: the cache's `ttl`; 0: it does not
   * expire), and makes it the most recently used. False: the entry does not exist.
   */
  touch(key: Key, ttl?: Duration, options?: CallOptions): Promise<boolean> {
    return new Promise((resolve, reject) => {
      const terms = this.#terms(options);
      const fields = ttl === undefined ? undefined : { ttl: parseDuration('ttl', ttl, 0) };
      this.#submit({
        name: 'touch',
        verb: Verb.touch,
        key,
        value: undefined,
        fields,
        read: readFound,
        terms,
        resolve: resolve as never,
        reject,
      });
    });
  }

  // ---- the queue ----

  /**
   * Resolves when the queue is at most half full and has room for every call that it has refused; at once if that is
   * so. Retry a refused call then.
   */
  drained(): Promise<void> {
    return this.#router === undefined ? Promise.resolve() : this.#router.drained();
  }

  /** The present state of the queue and the lanes. */
  stats(): PromiseStats {
    const { maxRequests, maxBytes } = this.#options;
    const counts = this.#router?.counts() ?? { requests: 0, bytes: 0, batches: 0, restarts: 0 };
    return { lanes: laneCountOf(this.#options.lanes, this.#handle.shardCount), ...counts, maxRequests, maxBytes };
  }

  /**
   * Finishes accepted calls, then ends the threads; later calls are refused. Part of `cache.close()`.
   * @internal
   */
  async close(): Promise<void> {
    this.#isClosed = true;
    await this.#router?.close();
  }

  /**
   * Ends the threads now; see the table. Part of `cache.destroy()`.
   * @internal
   */
  async destroy(): Promise<void> {
    this.#isClosed = true;
    await this.#router?.destroy();
  }

  /**
   * The handle was closed: answers that wait for the log will not be told.
   * @internal
   */
  handleClosed(): void {
    this.#commits?.look();
  }

  /**
   * For tests.
   * @internal
   */
  get router(): Router | undefined {
    return this.#router;
  }

  // ---- calls ----

  #ask(name: string, verb: Verb, key: Key, read: Read, options: CallOptions | undefined): Promise<unknown> {
    return new Promise((resolve, reject) => {
      const terms = this.#terms(options);
      this.#submit({
        name,
        verb,
        key,
        value: undefined,
        fields: undefined,
        read,
        terms,
        resolve,
        reject,
      });
    });
  }

  #askMany(
    name: string,
    verb: Verb,
    keys: Iterable<Key>,
    read: Read,
    options: CallOptions | undefined,
  ): Promise<unknown[]> {
    return new Promise((resolve, reject) => {
      const terms = this.#terms(options);
      const settle = { resolve: resolve as (value: unknown) => void, reject };
      const list = asArray('keys', keys);
      this.#submitMany({ name, verb, keys: list, payloads: undefined, fields: undefined, read, terms, ...settle });
    });
  }

  #store(
    name: string,
    verb: Verb,
    key: Key,
    value: unknown,
    options: PromisedSetOptions | undefined,
    cas: bigint | undefined,
    read: Read = readStored,
  ): Promise<unknown> {
    return new Promise((resolve, reject) => {
      let terms = this.#usual;
      let fields: RequestFields | undefined;
      if (options !== undefined) ({ terms, fields } = this.#setTerms(options));
      if (verb === Verb.cas) fields = { ...fields, compare: checkCas(cas) };
      encode(value, encoded);
      this.#submit({ name: name, verb: verb, key, value: encoded, fields: fields, read: read, terms, resolve, reject });
    });
  }

  #join(
    name: string,
    verb: Verb,
    key: Key,
    piece: string | Uint8Array,
    options: CallOptions | undefined,
  ): Promise<StoreResult> {
    return new Promise((resolve, reject) => {
      const terms = this.#terms(options);
      encode(checkPiece(piece), encoded);
      this.#submit({
        name,
        verb,
        key,
        value: encoded,
        fields: undefined,
        read: readStored,
        terms,
        resolve: resolve as never,
        reject,
      });
    });
  }

  #terms(options: CallOptions | undefined): Terms {
    if (options === undefined) return this.#usual;
    return this.#termsOf(checkNames<CallOptions>('options', options, CALL_NAMES));
  }

  #termsOf(given: CallOptions): Terms {
    return { patience: checkPatience(given), hold: this.#isHeld(given.ack) };
  }

  #setTerms(options: PromisedSetOptions | undefined): { terms: Terms; fields: RequestFields | undefined } {
    if (options === undefined) return { terms: this.#usual, fields: undefined };
    const given = checkNames<PromisedSetOptions>('options', options, SET_NAMES);
    const terms = this.#termsOf(given);
    const { ttl } = given;
    if (ttl === undefined) return { terms, fields: undefined };
    return { terms, fields: { ttl: ttl === 'keep' ? KEEP_EXPIRY : parseDuration('ttl', ttl, 0) } };
  }

  #isHeld(ack: unknown): boolean {
    return checkAck(ack, this.#feed !== undefined, this.#usual.hold ? 'logged' : 'memory') !== 'memory';
  }

  #holdOf(router: Router): Hold {
    this.#commits ??= new Commits(this.#feed!);
    if (this.#hold?.router !== router) this.#hold = { commits: this.#commits, router };
    return this.#hold;
  }

  #count(
    name: string,
    verb: Verb,
    key: Key,
    by: number | bigint,
    options: PromisedArithmeticOptions | undefined,
  ): Promise<number | bigint | 'not-stored' | undefined> {
    return new Promise((resolve, reject) => {
      const delta = checkAmount('by', by);
      const given = checkNames<PromisedArithmeticOptions>('options', options, ARITHMETIC_NAMES);
      const terms = this.#termsOf(given);
      const fields: RequestFields = {
        delta: BigInt(delta),
        initial: given.initial === undefined ? undefined : BigInt(checkAmount('initial', given.initial)),
        initialIsBigInt: typeof given.initial === 'bigint',
        ttl: given.ttl === undefined ? undefined : parseDuration('ttl', given.ttl, 0),
      };
      const read = typeof delta === 'bigint' ? readBigInt : readNumber;
      this.#submit({
        name,
        verb,
        key,
        value: undefined,
        fields,
        read,
        terms,
        resolve: resolve as never,
        reject,
      });
    });
  }

  // From here on nothing of the user's runs, so that the key which the router has staged stays the one that it appends.

  #submit({ name, verb, key, value, fields, read, terms, resolve, reject }: Submission): void {
    const router = this.#stage(name, key);
    const call = new OneCall(key, { name, read, handle: this.#handle, raw: this.#raw, resolve, reject });
    if (value !== undefined) call.noteSize(0, value.payload);
    if (terms.patience !== undefined) call.batches = [];
    if (terms.hold) call.hold = this.#holdOf(router);
    const all = terms.hold ? held(fields) : fields;
    try {
      if (value === undefined) router.append(call, 0, verb, all);
      else router.appendValue(call, 0, verb, value, all);
    } catch (error) {
      router.leave(1);
      throw noMemory(name, error);
    }
    if (terms.patience !== undefined) call.wait(terms.patience, router);
  }

  #submitMany({ name, verb, keys, payloads, fields, read, terms, resolve, reject }: ManySubmission): void {
    const { length } = keys;
    const router = this.#enter(length, name);
    if (length === 0) {
      resolve([]);
      return;
    }
    const call = new ManyCall(keys, { name, read, handle: this.#handle, raw: this.#raw, resolve, reject });
    if (terms.hold) call.hold = this.#holdOf(router);
    const all = terms.hold ? held(fields) : fields;
    // Each entry counts by itself where something is changed.
    const isEachAlone = verb === Verb.set || verb === Verb.delete;
    let entered = 0;
    let refused = 0;
    try {
      for (; entered < length; entered++) {
        const key = keys[entered];
        const payload = payloads?.[entered];
        const wrong = router.stage(key) ? (payload instanceof Error ? payload : undefined) : keyError(key);
        if (wrong !== undefined) {
          if (!isEachAlone) throw wrong;
          call.refuse(entered, wrong);
          refused++;
        } else if (payload === undefined) {
          router.append(call, entered, verb, all);
        } else {
          call.noteSize(entered, (payload as Encoded).payload);
          router.appendValue(call, entered, verb, payload as Encoded, all);
        }
      }
    } catch (error) {
      // What was appended is in no batch that was sent.
      router.withdraw(call);
      router.leave(length - entered + refused);
      throw errorKind(error) === 'misuse' ? error : noMemory(name, error);
    }
    if (refused > 0) router.leave(refused);
    if (terms.patience !== undefined) call.wait(terms.patience, router);
  }

  #stage(name: string, key: Key): Router {
    const router = this.#router ?? this.#open();
    if (!router.stage(key)) throw keyError(key);
    return this.#enter(1, name);
  }

  // The router, which has counted the requests of a call in.
  #enter(requestCount: number, name = 'clear'): Router {
    const router = this.#router ?? this.#open();
    if (this.#isClosed || router.isClosing) throw this.#closedError(name);
    if (!router.enter(requestCount)) {
      throw new CairnError(
        'ERR_QUEUE_FULL',
        `Cannot ${name}: the queue has ${router.counts().requests} of ${this.#options.maxRequests} requests and ${router.counts().bytes} of ${this.#options.maxBytes} bytes; try again after 'drain'`,
      );
    }
    return router;
  }

  #open(): Router {
    // Not `this`: the router lives while its threads do, and must not keep the cache alive.
    const weak = new WeakRef(this);
    const router = new Router({
      cacheId: this.#handle.cacheId,
      shardCount: this.#handle.shardCount,
      laneCount: this.#options.lanes,
      bounds: { requestsMax: this.#options.maxRequests, bytesMax: this.#options.maxBytes },
      // In a turn of its own: what a listener throws is not the router's affair.
      onDrain: () => process.nextTick(() => weak.deref()?.emit('drain')),
    });
    if (this.#isClosed || this.#handle.isClosed()) void router.close();
    this.#router = router;
    abandoned.register(this, router);
    return router;
  }

  #closedError(name: string): CairnError {
    const which = this.#handle.name === '' ? 'the cache' : `the cache ${show(this.#handle.name)}`;
    return new CairnError('ERR_CLOSED', `Cannot ${name}: ${which} is closed`);
  }
}

/** A request on its way to the router: what is asked, and who is told. */
interface Asking {
  readonly name: string;
  readonly verb: Verb;
  readonly fields: RequestFields | undefined;
  readonly read: Read;
  readonly terms: Terms;
  readonly resolve: (value: unknown) => void;
  readonly reject: (error: unknown) => void;
}

interface Submission extends Asking {
  readonly key: Key;
  /** What encode() has made, of a verb that has a value. */
  readonly value: Encoded | undefined;
}

interface ManySubmission extends Asking {
  readonly keys: readonly Key[];
  /** Of a verb that has values: each encoded, or why it cannot be. */
  readonly payloads: readonly (Encoded | Error)[] | undefined;
}

function encodedOrError(value: unknown): Encoded | Error {
  const payload: Encoded = { payload: '', codec: 0 };
  try {
    encode(value, payload);
    return payload;
  } catch (error) {
    return error as Error;
  }
}

// Nothing else can go wrong with a request whose arguments are right.
function noMemory(name: string, cause: unknown): CairnError {
  return new CairnError('ERR_OUT_OF_MEMORY', `Cannot ${name}: there is no memory for the request`, { cause });
}

const abandoned = new FinalizationRegistry<Router>((router) => void router.close());

// Filled by encode() and used up before anything else runs.
const encoded: Encoded = { payload: '', codec: 0 };

// ---- options ----

const HELD: RequestFields = { hold: true };

// The fields of a request whose answer is to be held.
function held(fields: RequestFields | undefined): RequestFields {
  return fields === undefined ? HELD : { ...fields, hold: true };
}
