/**
 * The calls of one handle, on their way to the router: each becomes requests, a promise, and an object that reads the
 * answer.
 *
 * A request is encoded before its call returns, so that its arguments may be changed at once. Nothing is queued for a
 * call that is refused: it rejects before. The router is made by the first call, its threads by the first batch. The
 * router does not keep this alive: it finishes and ends when the handle is collected.
 */
import { clearError } from '../answers.ts';
import { type AtomicParts, setsOf } from '../atomic.ts';
import { Commits } from '../commits.ts';
import { CairnError, errorKind, outOfRange, show, wrongType } from '../errors.ts';
import { UPDATE_TRIES_MAX } from '../limits.ts';
import { Loads } from '../loads.ts';
import { type FeedHandle, feedOf, type NativeHandle, StoredHealth } from '../native.ts';
import {
  type AckLevel,
  type CallOptions,
  checkNames,
  type Duration,
  parseDuration,
  type RawOption,
  type ResolvedPromiseOptions,
} from '../options.ts';
import {
  asArray,
  changedTooOften,
  checkAmount,
  checkCas,
  checkPiece,
  type Key,
  keyError,
  pairsOf,
  type StoreResult,
  type ValueWithCas,
} from '../request/arguments.ts';
import { type RequestFields, Verb } from '../request/batch.ts';
import { copyOfBytes } from '../request/bytes.ts';
import { type Encoded, encode } from '../request/codec.ts';
import { laneCountOf, Router } from '../router/index.ts';
import { StoredWaits, storeAway } from '../stored-waits.ts';
import { type Read, readBigInt, readFound, readNumber, readStored, readUpdated } from './answers.ts';
import {
  type AnyCall,
  type CallParts,
  failureError,
  type Hold,
  ManyCall,
  maybeLost,
  OneCall,
  type Slow,
} from './call.ts';
import { Commit } from './commit.ts';
import { keptValue } from './reload.ts';
import { SlowAnswers } from './slow-answers.ts';
import {
  type PromisedArithmeticOptions,
  type PromisedSetManyOptions,
  type PromisedSetOptions,
  type Terms,
  TermsOfCalls,
} from './terms.ts';

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

/** The parts of a cache that calls need. */
export interface CallsCache {
  readonly handle: NativeHandle;
  readonly raw: RawOption;
  readonly options: ResolvedPromiseOptions;
  /** The level of the cache. */
  readonly ack: AckLevel;
  readonly onDrain: () => void;
}

/** CachePromises has the documentation of the verbs. */
export class Calls {
  readonly #handle: NativeHandle;
  readonly #raw: RawOption;
  readonly #options: ResolvedPromiseOptions;
  readonly #feed: FeedHandle | undefined;
  readonly #loads: Loads | undefined;
  readonly #terms: TermsOfCalls;
  /** The queue has refused a call, and has room again. */
  readonly onDrain: () => void;
  #router: Router | undefined;
  #commits: Commits | undefined;
  #stored: StoredWaits | undefined;
  #hold: Hold | undefined;
  #holdForStore: Hold | undefined;
  #slow: Slow | undefined;
  #isClosed = false;

  constructor({ handle, raw, options, ack, onDrain }: CallsCache) {
    this.#handle = handle;
    this.#raw = raw;
    this.#options = options;
    this.#feed = feedOf(handle);
    this.#loads = Loads.of(handle);
    this.#terms = new TermsOfCalls(highestAck(this.#feed, this.#loads), ack);
    this.onDrain = onDrain;
  }

  // ---- what is asked ----

  ask<T>(name: string, verb: Verb, key: Key, read: Read<T>, options: CallOptions | undefined): Promise<T> {
    return new Promise((resolve, reject) => {
      const terms = this.#terms.of(options);
      this.#submit({ name, verb, key, value: undefined, fields: undefined, read, terms }, resolve, reject);
    });
  }

  askMany<T>(
    name: string,
    verb: Verb,
    keys: Iterable<Key>,
    read: Read<T>,
    options: CallOptions | undefined,
  ): Promise<T[]> {
    return new Promise((resolve, reject) => {
      const terms = this.#terms.of(options);
      const list = asArray('keys', keys);
      const asked = { name, verb, keys: list, payloads: undefined, fields: undefined, read, terms };
      this.#submitMany(asked, resolve, reject);
    });
  }

  store(
    name: string,
    verb: Verb,
    key: Key,
    value: unknown,
    options: PromisedSetOptions | undefined,
    cas: bigint | undefined,
    read: Read = readStored,
  ): Promise<unknown> {
    return new Promise((resolve, reject) => {
      let terms = this.#terms.usual;
      let fields: RequestFields | undefined;
      if (options !== undefined) ({ terms, fields } = this.#terms.ofSet(options));
      if (verb === Verb.cas) fields = { ...fields, compare: checkCas(cas) };
      encode(value, encoded);
      this.#submit({ name, verb, key, value: encoded, fields, read, terms }, resolve, reject);
    });
  }

  join(
    name: string,
    verb: Verb,
    key: Key,
    piece: string | Uint8Array,
    options: CallOptions | undefined,
  ): Promise<StoreResult> {
    return new Promise((resolve, reject) => {
      const terms = this.#terms.of(options);
      encode(checkPiece(piece), encoded);
      const asked = { name, verb, key, value: encoded, fields: undefined, read: readStored, terms };
      this.#submit(asked, resolve, reject);
    });
  }

  async update(
    key: Key,
    read: (key: Key, options: CallOptions) => Promise<ValueWithCas<unknown> | undefined>,
    change: (value: unknown) => unknown,
    options: PromisedSetOptions | undefined,
  ): Promise<unknown> {
    if (typeof change !== 'function') throw wrongType('change', 'a function', change);
    this.#terms.ofSet(options); // What is wrong is found before `change` runs.
    const { ttl, ...call } = options ?? {};
    const withTtl = ttl === undefined ? call : { ...call, ttl };
    for (let tries = 0; tries < UPDATE_TRIES_MAX; tries++) {
      const found = await read(key, call);
      const value = await change(found?.value);
      if (value === undefined) return found?.value;
      const result =
        found === undefined
          ? await this.store('update', Verb.add, key, value, withTtl, undefined, readUpdated)
          : await this.store('update', Verb.cas, key, value, { ttl: 'keep', ...withTtl }, found.cas, readUpdated);
      if (result === 'stored') return value;
    }
    throw changedTooOften(key, UPDATE_TRIES_MAX);
  }

  count(
    name: string,
    verb: Verb,
    key: Key,
    by: number | bigint,
    options: PromisedArithmeticOptions | undefined,
  ): Promise<number | bigint | 'not-stored' | undefined> {
    return new Promise((resolve, reject) => {
      const delta = checkAmount('by', by);
      const { terms, fields } = this.#terms.ofCount(delta, options);
      const read = typeof delta === 'bigint' ? readBigInt : readNumber;
      this.#submit({ name, verb, key, value: undefined, fields, read, terms }, resolve, reject);
    });
  }

  setMany(
    entries: Iterable<readonly [Key, unknown]>,
    options: PromisedSetManyOptions | undefined,
  ): Promise<StoreResult[]> {
    return new Promise((resolve, reject) => {
      const { terms, fields, isAtomic } = this.#terms.ofSetMany(options);
      if (isAtomic) {
        const parts = setsOf(entries, fields?.ttl);
        this.#commit('setMany', parts, terms, () => resolve(new Array(parts.count).fill('stored')), reject);
        return;
      }
      const keys: Key[] = [];
      const payloads: (Encoded | Error)[] = [];
      for (const [key, value] of pairsOf(entries)) {
        keys.push(key);
        payloads.push(encodedOrError(value));
      }
      const asked = { name: 'setMany', verb: Verb.set, keys, payloads, fields, read: readStored, terms };
      this.#submitMany(asked, resolve, reject);
    });
  }

  /** Commits an atomic batch. `done`: it is done, whatever becomes of the promise. */
  commit(parts: AtomicParts, options: CallOptions | undefined, done: () => void): Promise<void> {
    return new Promise((resolve, reject) => {
      this.#commit('commit', parts, this.#terms.of(options), resolve, reject, done);
    });
  }

  #commit(
    name: string,
    parts: AtomicParts,
    { patience, ack }: Terms,
    resolve: () => void,
    reject: Reject,
    done: () => void = () => {},
  ): void {
    if (ack === 'stored') throw outOfRange('ack', "'memory' or 'logged' for an atomic batch", ack);
    const router = this.#enter(1, name);
    const commit = new Commit({
      name,
      patience,
      resolve,
      reject,
      execute: () => (this.#handle.isClosed() ? this.#closedError(name) : parts.executeOn(this.#handle)),
      done,
      commits: this.#feed === undefined ? undefined : this.#holdOf(router).commits,
      isHeld: ack !== 'memory',
      slowed: () => this.#slowed(),
    });
    router.barrier((failure) => commit.pass(failure));
  }

  clear(options: { ack?: AckLevel } | undefined): Promise<void> {
    return new Promise((resolve, reject) => {
      // No row changes: at the level `stored` it waits for the log.
      const isHeld = this.#terms.ackOf(checkNames<{ ack?: AckLevel }>('options', options, ['ack']).ack) !== 'memory';
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

  touch(key: Key, ttl: Duration | undefined, options: CallOptions | undefined): Promise<boolean> {
    return new Promise((resolve, reject) => {
      const terms = this.#terms.of(options);
      const fields = ttl === undefined ? undefined : { ttl: parseDuration('ttl', ttl, 0) };
      const asked = { name: 'touch', verb: Verb.touch, key, value: undefined, fields, read: readFound, terms };
      this.#submit(asked, resolve, reject);
    });
  }

  // ---- the queue ----

  drained(): Promise<void> {
    return this.#router === undefined ? Promise.resolve() : this.#router.drained();
  }

  stats(): PromiseStats {
    const { maxRequests, maxBytes } = this.#options;
    const counts = this.#router?.counts() ?? { requests: 0, bytes: 0, batches: 0, restarts: 0 };
    return { lanes: laneCountOf(this.#options.lanes, this.#handle.shardCount), ...counts, maxRequests, maxBytes };
  }

  async close(): Promise<void> {
    this.#isClosed = true;
    await this.#router?.close();
  }

  async destroy(): Promise<void> {
    this.#isClosed = true;
    this.#loads?.end();
    this.#slow?.answers.end();
    await this.#router?.destroy();
  }

  handleClosed(): void {
    this.#slow?.answers.end();
    this.#commits?.look();
    this.#stored?.look();
    this.#loads?.look();
  }

  /** For tests. */
  get router(): Router | undefined {
    return this.#router;
  }

  #holdOf(router: Router): Hold {
    this.#commits ??= new Commits(this.#feed!);
    if (this.#hold?.router !== router) this.#hold = { commits: this.#commits, stored: undefined, router };
    return this.#hold;
  }

  // For calls whose changes wait for the database.
  #holdForStoreOf(router: Router): Hold {
    const { commits } = this.#holdOf(router);
    this.#stored ??= new StoredWaits(this.#feed!);
    if (this.#holdForStore?.router !== router) this.#holdForStore = { commits, stored: this.#stored, router };
    return this.#holdForStore;
  }

  #slowOf(router: Router): Slow {
    if (this.#slow?.router !== router) this.#slow = { answers: this.#slow?.answers ?? new SlowAnswers(), router };
    return this.#slow;
  }

  #slowed(): Promise<void> | undefined {
    const ms = this.#loads === undefined ? 0 : (this.#feed?.slowDown() ?? 0);
    if (ms === 0) return undefined;
    return new Promise((resolve) => this.#slowOf(this.#router!).answers.hold(ms, resolve));
  }

  // A change that would wait for a database which confirms no change of its key is not made.
  #away(name: string, verb: Verb, { ack }: Terms, key: Key): CairnError | undefined {
    if (ack !== 'stored' || READS.has(verb) || this.#handle.isClosed()) return undefined;
    // Nearly always all is well.
    const isWell = [undefined, key].some((of) => this.#feed!.storedHealth(of) === StoredHealth.running);
    return isWell ? undefined : storeAway(name);
  }

  // From here on nothing of the user's runs, so that the key which the router has staged stays the one that it appends.

  #submit<T>({ name, verb, key, value, fields, read, terms }: Submission, resolve: Resolve<T>, reject: Reject): void {
    const away = this.#away(name, verb, terms, key);
    if (away !== undefined) throw away;
    const router = this.#stage(name, key);
    const kept = this.#loads === undefined ? key : copyOfBytes(key);
    const call = new OneCall(kept, this.#partsOf(name, read, resolve, reject));
    if (value !== undefined) call.noteSize(0, value.payload);
    if (terms.patience !== undefined) call.batches = [];
    const sent = this.#sentFor(call, router, verb, fields, terms, value);
    try {
      if (value === undefined) router.append(call, 0, verb, sent);
      else router.appendValue(call, 0, verb, value, sent);
    } catch (error) {
      router.leave(1);
      throw noMemory(name, error);
    }
    if (terms.patience !== undefined) call.wait(terms.patience, router);
  }

  #submitMany<T>(asked: ManySubmission, resolve: Resolve<T[]>, reject: Reject): void {
    const { name, verb, keys, payloads, fields, read, terms } = asked;
    const { length } = keys;
    const router = this.#enter(length, name);
    if (length === 0) {
      resolve([]);
      return;
    }
    const kept = this.#loads === undefined ? keys : keys.map((key) => copyOfBytes(key));
    const call = new ManyCall(kept, this.#partsOf(name, read, resolve, reject));
    const sent = this.#sentFor(call, router, verb, fields, terms, undefined);
    // Each entry counts by itself where something is changed.
    const isEachAlone = verb === Verb.set || verb === Verb.delete;
    let entered = 0;
    let refused = 0;
    try {
      for (; entered < length; entered++) {
        const key = keys[entered];
        const payload = payloads?.[entered];
        const wrong = router.stage(key)
          ? payload instanceof Error
            ? payload
            : this.#away(name, verb, terms, key!)
          : keyError(key);
        if (wrong !== undefined) {
          if (!isEachAlone) throw wrong;
          call.refuse(entered, wrong);
          refused++;
        } else if (payload === undefined) {
          router.append(call, entered, verb, sent);
        } else {
          call.noteSize(entered, (payload as Encoded).payload);
          router.appendValue(call, entered, verb, payload as Encoded, sent);
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

  #partsOf<T>(name: string, read: Read, resolve: Resolve<T>, reject: Reject): CallParts {
    return { name, read, handle: this.#handle, raw: this.#raw, resolve: resolve as Resolve<unknown>, reject };
  }

  // The fields that are sent for a call, which is told how to wait for the log and for a value that is not in memory.
  #sentFor(
    call: AnyCall,
    router: Router,
    verb: Verb,
    fields: RequestFields | undefined,
    { ack }: Terms,
    value: Encoded | undefined,
  ): RequestFields | undefined {
    const sent = ack === 'memory' ? fields : held(fields);
    if (ack === 'logged') call.hold = this.#holdOf(router);
    else if (ack === 'stored') call.hold = this.#holdForStoreOf(router);
    if (this.#loads !== undefined && !READS.has(verb)) call.slow = this.#slowOf(router);
    // A set asks for no value, and is never sent again.
    if (this.#loads !== undefined && verb !== Verb.set) {
      const again = value === undefined ? undefined : keptValue(value);
      call.repeat = { loads: this.#loads, router, verb, value: again, fields: sent };
    }
    return sent;
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
      // On the next tick, so that an error of a 'drain' listener does not pass through the router.
      onDrain: () => process.nextTick(() => weak.deref()?.onDrain()),
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

type Resolve<T> = (value: T) => void;
type Reject = (error: unknown) => void;

/** What a call asks. */
interface Asking {
  readonly name: string;
  readonly verb: Verb;
  readonly fields: RequestFields | undefined;
  readonly read: Read;
  readonly terms: Terms;
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

const READS: ReadonlySet<Verb> = new Set([Verb.get, Verb.peek, Verb.has, Verb.evict]);

function highestAck(feed: FeedHandle | undefined, loads: Loads | undefined): AckLevel {
  if (feed === undefined) return 'memory';
  return loads === undefined ? 'logged' : 'stored';
}

// The fields of a request whose answer is to be held.
function held(fields: RequestFields | undefined): RequestFields {
  return fields === undefined ? HELD : { ...fields, hold: true };
}
