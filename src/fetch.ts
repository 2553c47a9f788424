/**
 * fetch(): the value of a key, loaded by whoever asks first while all others wait, in whatever thread they are.
 *
 * The addon knows one membership for each key and handle (native/process/flight_table.h); a {@link Flight} here is that
 * membership, and holds the {@link Call}s of this thread that share it.
 *
 * ```
 *  fetch() -> hit? ---------------------------------------------------> value
 *          -> join -> lead: run the loader -> fill -> settle ---------> every call here, every waiting thread
 *                  -> wait: news: an answer --------------------------> every call here
 *                                 "you lead": as above
 *                                 "look again": each call starts over
 *                  -> the table is full: run the loader, share nothing, store nothing
 * ```
 *
 * Every caller gets its own copy of the value, as a later `get` would give it, the one that loaded it too: what comes
 * back does not depend on who was first.
 */
import { inspect } from 'node:util';
import {
  CairnError,
  CairnRangeError,
  CairnTypeError,
  ERROR_KINDS,
  type ErrorCode,
  isMalformed,
  malformedValues,
  show,
  wrongType,
} from './errors.ts';
import { TIMER_MS_MAX } from './limits.ts';
import { holdAwake, type Looker, lookAgain, lookers } from './native/wake.ts';
import { Code, type NativeHandle, numberWord, Word } from './native.ts';
import { checkBoolean, checkNames, type Duration, parseDuration, type RawOption } from './options.ts';
import { Codec, decode, type Encoded, encode, encodeDoubtfulText } from './request/codec.ts';

type Key = string | Uint8Array;

/** What a loader is told. */
export interface LoadContext<V> {
  /** The key that is wanted, as the call gave it whose loader this is. */
  readonly key: string | Uint8Array;
  /** The value that is still in the cache, if this refreshes one; otherwise `undefined`. */
  readonly stale: V | undefined;
  /** Aborted when nobody waits for the value any more, in any thread, or the cache is closed. */
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
   * Keep the value so much longer than its `ttl`, and answer with it at once in that time while one load, of one
   * thread, brings a new one. `get` sees it all that time. Pass the same to every `fetch` of a key: how old a value is
   * follows from when it leaves. Default 0.
   */
  staleWhileRevalidate?: Duration;
  /**
   * Keep the value so much longer than its `ttl`, and answer with it in that time if the loader fails. As for the rest
   * see `staleWhileRevalidate`. Default 0.
   */
  staleIfError?: Duration;
}

/** Counts of fetching, over all threads. */
export interface FetchCounts {
  /** Loads that were started. */
  fetchLoads: number;
  /** Calls that shared a load instead of starting one. */
  fetchJoins: number;
  /** Loads under way now. */
  fetchFlights: number;
}

/** What flight_binding.cc adds to a handle. */
export interface FlightHandle extends NativeHandle {
  joinFlight(key: Key, ifAbsent: boolean): number;
  fillFlight(id: number, payload: string | Uint8Array, codec: number, ttl: number | undefined, keep: boolean): Code;
  settleFlight(id: number, kind: number, message?: string, name?: string, code?: string): void;
  leaveFlight(id: number): number;
  takeFlightNews(): unknown[] | undefined;
  flightCounts(): [number, number, number] | undefined;
  getWithExpiry(key: Key): unknown;
}

/** What fetching needs of a cache. */
export interface FetchCache {
  readonly handle: FlightHandle;
  readonly raw: RawOption;
  /** Milliseconds; 0: for ever. */
  readonly ttl: number;
  get(key: Key): unknown;
  peek(key: Key): unknown;
  /** As `get`, by another function of the handle. */
  read(key: Key, read: (key: Key) => unknown): unknown;
  /** A key that holds U+FFFD, as bytes. */
  keyBytes(key: Key): Uint8Array;
  error(code: number, key?: Key): Error;
}

// The numbers of flight_binding.cc and flight_table.h.
const ROLES = 8;
const ROLE_LEAD = 1;
const ROLE_WAIT = 2;
const ROLE_PRESENT = 3;
const ROLE_ALONE = 4;
const NEWS_ANSWER = 1;
const NEWS_AGAIN = 2;
const NEWS_LEAD = 3;
const NEWS_ABORT = 4;
const NEWS_FIELDS = 6;
const ANSWER_NOTHING = 1;
const ANSWER_ERROR = 2;
const SETTLE_AGAIN = 0;
const LEAVE_GOES_ON = 2;

/** Rows of news that are dealt with in one turn of the event loop: 64 at a time. */
const NEWS_CALLS_PER_TURN = 16;
/** Of an error's message, as other threads see it. */
const MESSAGE_LENGTH_MAX = 8 * 1024;

const OPTION_NAMES: readonly (keyof FetchOptions)[] = [
  'ttl',
  'signal',
  'timeout',
  'forceRefresh',
  'staleWhileRevalidate',
  'staleIfError',
];

/** Options after checking. */
interface Wants {
  readonly ttl: FetchOptions['ttl'];
  readonly signal: AbortSignal | undefined;
  readonly timeoutMs: number;
  readonly forceRefresh: boolean;
  readonly revalidateMs: number;
  readonly errorMs: number;
}

const NO_WANTS: Wants = {
  ttl: undefined,
  signal: undefined,
  timeoutMs: 0,
  forceRefresh: false,
  revalidateMs: 0,
  errorMs: 0,
};

/** The fetches of one handle. */
export class Fetcher implements Looker {
  readonly #cache: FetchCache;
  readonly #handle: FlightHandle;
  readonly #flights = new Map<number, Flight>();
  /** Those that are shared with nobody, and have no number. */
  readonly #alone = new Set<Flight>();

  constructor(cache: FetchCache) {
    this.#cache = cache;
    this.#handle = cache.handle;
  }

  /** Cache.fetch, which has the documentation. */
  fetch(key: Key, loader: Loader<unknown>, options: FetchOptions | undefined): Promise<unknown> {
    try {
      if (typeof loader !== 'function') throw wrongType('loader', 'a function', loader);
      const wants = options === undefined ? NO_WANTS : checkOptions(options);
      if (wants.signal?.aborted) throw wants.signal.reason;
      if (wants.forceRefresh) return this.#start(new Call(key, loader, wants, true, this.#cache.peek(key)));
      if (wants.revalidateMs + wants.errorMs === 0) {
        const value = this.#cache.get(key);
        return value !== undefined
          ? Promise.resolve(value)
          : this.#start(new Call(key, loader, wants, false, undefined));
      }
      return this.#fetchOrRevalidate(key, loader, wants);
    } catch (error) {
      return Promise.reject(error);
    }
  }

  /** The handle is about to be closed, or has been: all calls are rejected, all loads aborted or left to others. */
  close(): void {
    const error = this.#cache.error(Code.closed);
    for (const flight of [...this.#flights.values(), ...this.#alone]) {
      this.#end(flight);
      flight.abort(error);
      for (const call of flight.calls) call.reject(error);
    }
  }

  /** Takes what other threads have left for this handle. */
  look(): void {
    for (let calls = 0; calls < NEWS_CALLS_PER_TURN; calls++) {
      const rows = this.#handle.takeFlightNews();
      // The cache was closed by its owner, and the handle has noticed it before the news of it came here.
      if (rows === undefined) this.close();
      if (rows === undefined || rows.length === 0) return;
      for (let at = 0; at < rows.length; at += NEWS_FIELDS) {
        const flight = this.#flights.get(rows[at] as number);
        if (flight !== undefined) this.#onNews(flight, rows, at + 1);
      }
    }
    lookAgain();
  }

  // ---- how a call begins ----

  #fetchOrRevalidate(key: Key, loader: Loader<unknown>, wants: Wants): Promise<unknown> {
    const { value, overdueMs } = this.#readWithAge(key, wants);
    if (value === undefined) return this.#start(new Call(key, loader, wants, false, undefined));
    if (overdueMs < 0) return Promise.resolve(value);
    if (overdueMs >= wants.revalidateMs) return this.#start(new Call(key, loader, wants, true, value));
    this.#revalidate(new Call(key, loader, wants, true, value));
    return Promise.resolve(value);
  }

  // The value, and for how long its time to live has been over; negative: it is not.
  #readWithAge(key: Key, wants: Wants): { value: unknown; overdueMs: number } {
    const { getWithExpiry } = this.#handle;
    let expiresInMs = 0;
    const value = this.#cache.read(key, (again) => {
      const answer = getWithExpiry(again);
      expiresInMs = numberWord(Word.expiresIn);
      return answer;
    });
    const longerMs = Math.max(wants.revalidateMs, wants.errorMs);
    return { value, overdueMs: expiresInMs === 0 ? -1 : longerMs - expiresInMs };
  }

  #start(call: Call): Promise<unknown> {
    const promise = call.promise();
    this.#enter(call);
    if (call.flight !== undefined && !call.isSettled) this.#watch(call);
    return promise;
  }

  // A call that nobody waits for: it counts as waiting, so that the load is not aborted, but it does not wait for
  // others.
  #revalidate(call: Call): void {
    call.background = true;
    this.#enter(call);
    if (call.flight !== undefined && !call.isSettled) this.#watch(call);
  }

  // Gives the call a flight, or answers it.
  #enter(call: Call): void {
    while (!this.#tryToEnter(call));
  }

  // False: there was a value, which is gone again.
  #tryToEnter(call: Call): boolean {
    let joined = this.#handle.joinFlight(call.key, !call.refresh);
    if (joined === -Code.keyMaybeIllFormed) {
      joined = this.#handle.joinFlight(this.#cache.keyBytes(call.key), !call.refresh);
    }
    if (joined < 0) {
      call.reject(this.#cache.error(-joined, call.key));
      return true;
    }
    const id = Math.floor(joined / ROLES);
    const role = joined % ROLES;
    if (role === ROLE_PRESENT) {
      const value = this.#cache.get(call.key);
      if (value === undefined) return false;
      call.resolve(value);
    } else if (role === ROLE_LEAD) {
      this.#lead(id, call);
    } else if (role === ROLE_WAIT) {
      this.#wait(id, call);
    } else if (role === ROLE_ALONE) {
      const flight = new Flight(0);
      this.#alone.add(flight);
      this.#load(flight, call);
    } else {
      call.reject(this.#cache.error(Code.closed));
    }
    return true;
  }

  #lead(id: number, call: Call): void {
    if (call.refresh && !call.wants.forceRefresh) {
      // Another thread may have refreshed it after this one saw that it was due.
      const { value, overdueMs } = this.#readWithAge(call.key, call.wants);
      if (value !== undefined && overdueMs < 0) {
        this.#handle.settleFlight(id, SETTLE_AGAIN);
        call.resolve(value);
        return;
      }
    }
    const flight = new Flight(id);
    this.#add(flight);
    this.#load(flight, call);
  }

  #wait(id: number, call: Call): void {
    let flight = this.#flights.get(id);
    if (call.background) {
      // Somebody is at it.
      if (flight === undefined) this.#handle.leaveFlight(id);
      return;
    }
    if (flight === undefined) {
      flight = new Flight(id);
      this.#add(flight);
      flight.holds = true;
      holdAwake(true);
    }
    flight.add(call);
  }

  #add(flight: Flight): void {
    this.#flights.set(flight.id, flight);
    lookers.add(this);
  }

  // ---- how a call leaves before the end ----

  #watch(call: Call): void {
    const { timeoutMs, signal } = call.wants;
    if (timeoutMs > 0) {
      const giveUp = () => {
        const message = `No value for ${show(call.key)} within ${timeoutMs} ms`;
        this.#leave(call, new CairnError('ERR_TIMEOUT', message));
      };
      call.timer = setTimeout(giveUp, Math.min(timeoutMs, TIMER_MS_MAX));
    }
    if (signal === undefined || call.background) return;
    call.onAbort = () => this.#leave(call, signal.reason);
    if (signal.aborted) {
      call.onAbort(); // By the loader, which has run already.
    } else {
      signal.addEventListener('abort', call.onAbort, { once: true });
    }
  }

  #leave(call: Call, reason: unknown): void {
    const { flight } = call;
    call.reject(reason);
    if (flight === undefined) return;
    flight.calls.delete(call);
    if (flight.calls.size > 0 || flight.ended) return;
    if (flight.id !== 0 && this.#handle.leaveFlight(flight.id) === LEAVE_GOES_ON) return;
    this.#end(flight);
    flight.abort(reason);
  }

  // ---- how a flight ends ----

  #load(flight: Flight, call: Call): void {
    this.#release(flight);
    flight.add(call);
    flight.leads = true;
    new Promise<unknown>((resolve) => {
      resolve(call.loader(new Context(flight, call)));
    }).then(
      (value) => this.#onLoaded(flight, call, value),
      (error) => this.#onFailed(flight, error),
    );
  }

  #onLoaded(flight: Flight, call: Call, value: unknown): void {
    if (flight.ended) return;
    if (value === undefined) {
      this.#end(flight);
      if (flight.id !== 0) this.#handle.settleFlight(flight.id, ANSWER_NOTHING);
      for (const each of flight.calls) each.resolve(undefined);
      return;
    }
    let ttlMs: number | undefined;
    try {
      ttlMs = this.#ttlOf(call, value);
      encode(value, encoded);
    } catch (error) {
      this.#onFailed(flight, error);
      return;
    }
    let { payload, codec } = encoded;
    if (flight.id !== 0) {
      // Whatever it answers, the value was loaded: the cache not keeping it is no reason to keep it from the callers.
      const code = this.#handle.fillFlight(flight.id, payload, codec, ttlMs, ttlMs !== TTL_NOTHING);
      if (code === Code.valueMaybeIllFormed) {
        encodeDoubtfulText(payload as string, encoded);
        ({ payload, codec } = encoded);
        this.#handle.fillFlight(flight.id, payload, codec, ttlMs, ttlMs !== TTL_NOTHING);
      }
    }
    this.#end(flight);
    if (typeof value !== 'object' || value === null) {
      for (const each of flight.calls) each.resolve(value);
    } else {
      this.#giveCopies(flight, payload, codec);
    }
  }

  #onFailed(flight: Flight, error: unknown): void {
    if (flight.ended) return;
    this.#end(flight);
    if (flight.id !== 0) {
      const { message, name, code } = describeError(error);
      this.#handle.settleFlight(flight.id, ANSWER_ERROR, message, name, code);
    }
    for (const call of flight.calls) call.fail(error);
  }

  #onNews(flight: Flight, rows: unknown[], at: number): void {
    switch (rows[at]) {
      case NEWS_ANSWER:
        this.#end(flight);
        this.#onAnswer(flight, rows, at + 1);
        break;
      case NEWS_AGAIN:
        this.#end(flight);
        for (const call of flight.calls) this.#again(call);
        break;
      case NEWS_LEAD: {
        const [call] = flight.calls;
        if (call !== undefined) this.#load(flight, call);
        break;
      }
      case NEWS_ABORT:
        this.#end(flight);
        flight.abort(new DOMException('Nobody waits for the value any more', 'AbortError'));
        break;
      default: {
        const error = this.#cache.error(Code.closed);
        this.#end(flight);
        flight.abort(error);
        for (const call of flight.calls) call.reject(error);
      }
    }
  }

  #onAnswer(flight: Flight, rows: unknown[], at: number): void {
    const payload = rows[at + 1];
    switch (rows[at]) {
      case ANSWER_NOTHING:
        for (const call of flight.calls) call.resolve(undefined);
        break;
      case ANSWER_ERROR: {
        const error = reviveError(payload as string, rows[at + 2] as string, rows[at + 3] as string);
        for (const call of flight.calls) call.fail(error);
        break;
      }
      default:
        if (payload instanceof Uint8Array) {
          this.#giveCopies(flight, payload, rows[at + 2] as number);
        } else if (payload !== undefined) {
          for (const call of flight.calls) call.resolve(payload);
        } else {
          for (const call of flight.calls) call.fail(this.#cache.error(Code.outOfMemory, call.key));
        }
    }
  }

  // Starts over: there may be a value now, or somebody else's load, or this call's turn has come.
  #again(call: Call): void {
    call.flight = undefined;
    try {
      const value = call.refresh ? undefined : this.#cache.get(call.key);
      if (value !== undefined) call.resolve(value);
      else this.#enter(call);
    } catch (error) {
      call.reject(error);
    }
  }

  // Each call decodes for itself: no two of them share an object.
  #giveCopies(flight: Flight, payload: string | Uint8Array, codec: number): void {
    for (const call of flight.calls) {
      try {
        call.resolve(this.#decode(payload, codec));
      } catch (error) {
        call.fail(isMalformed(error) ? malformedValues([call.key], error) : error);
      }
    }
  }

  #decode(payload: string | Uint8Array, codec: number): unknown {
    if (codec === Codec.json && typeof payload === 'string') return JSON.parse(payload);
    const bytes =
      typeof payload === 'string'
        ? Buffer.from(payload, 'utf8')
        : Buffer.from(payload.buffer, payload.byteOffset, payload.byteLength);
    return decode(codec, bytes, 0, bytes.length, this.#cache.raw, 0);
  }

  // For the addon: milliseconds, 0 for ever, undefined for the cache's own, TTL_NOTHING.
  #ttlOf(call: Call, value: unknown): number | undefined {
    const { ttl, revalidateMs, errorMs } = call.wants;
    const longerMs = Math.max(revalidateMs, errorMs);
    const given = typeof ttl === 'function' ? ttl(value, call.key) : ttl;
    if (given === Number.POSITIVE_INFINITY) return 0;
    if (given === undefined) return longerMs === 0 || this.#cache.ttl === 0 ? undefined : this.#cache.ttl + longerMs;
    const ttlMs = parseDuration('ttl', given, 0);
    return ttlMs === 0 ? TTL_NOTHING : ttlMs + longerMs;
  }

  // The flight answers nobody any more.
  #end(flight: Flight): void {
    this.#release(flight);
    flight.ended = true;
    if (flight.id === 0) this.#alone.delete(flight);
    else this.#flights.delete(flight.id);
    if (this.#flights.size === 0) lookers.delete(this);
  }

  #release(flight: Flight): void {
    if (!flight.holds) return;
    flight.holds = false;
    holdAwake(false);
  }
}

const TTL_NOTHING = -2;

/** Counts of fetching of a cache. */
export function fetchCounts(handle: FlightHandle): FetchCounts {
  const [fetchLoads, fetchJoins, fetchFlights] = handle.flightCounts() ?? [0, 0, 0];
  return { fetchLoads, fetchJoins, fetchFlights };
}

// Filled by encode() and used up before anything else runs.
const encoded: Encoded = { payload: '', codec: 0 };

/** One call of fetch(). Answered once; what comes later is ignored. */
class Call {
  readonly key: Key;
  readonly loader: Loader<unknown>;
  readonly wants: Wants;
  /** A value that is there does not answer it. */
  readonly refresh: boolean;
  /** The value that is to be refreshed. */
  readonly stale: unknown;
  /** Nobody waits for it. */
  background = false;
  flight: Flight | undefined;
  timer: NodeJS.Timeout | undefined;
  onAbort: (() => void) | undefined;
  /** Answered, perhaps by its own loader, which may close the cache at once. */
  isSettled = false;
  #resolve: ((value: unknown) => void) | undefined;
  #reject: ((error: unknown) => void) | undefined;

  constructor(key: Key, loader: Loader<unknown>, wants: Wants, refresh: boolean, stale: unknown) {
    this.key = key;
    this.loader = loader;
    this.wants = wants;
    this.refresh = refresh;
    this.stale = stale;
  }
  promise(): Promise<unknown> {
    return new Promise((resolve, reject) => {
      this.#resolve = resolve;
      this.#reject = reject;
    });
  }
  resolve(value: unknown): void {
    this.#forget();
    this.#resolve?.(value);
  }
  reject(error: unknown): void {
    this.#forget();
    this.#reject?.(error);
  }
  /** The load has failed. */
  fail(error: unknown): void {
    if (this.wants.errorMs > 0 && this.stale !== undefined) this.resolve(this.stale);
    else this.reject(error);
  }
  #forget(): void {
    this.isSettled = true;
    clearTimeout(this.timer);
    if (this.onAbort !== undefined) this.wants.signal?.removeEventListener('abort', this.onAbort);
  }
}

/** A membership in a flight: the calls of this thread that share it. Id 0: it is not shared with anybody. */
class Flight {
  readonly id: number;
  readonly calls = new Set<Call>();
  /** This thread runs the loader. */
  leads = false;
  /** The thread is kept alive for it. */
  holds = false;
  ended = false;
  #controller: AbortController | undefined;
  #aborted: { reason: unknown } | undefined;

  constructor(id: number) {
    this.id = id;
  }
  add(call: Call): void {
    call.flight = this;
    this.calls.add(call);
  }
  abort(reason: unknown): void {
    this.ended = true;
    if (!this.leads) return;
    this.#aborted = { reason };
    this.#controller?.abort(reason);
  }
  /** Made when it is first asked for: most loaders do not look at it. */
  get signal(): AbortSignal {
    if (this.#controller === undefined) {
      this.#controller = new AbortController();
      if (this.#aborted !== undefined) this.#controller.abort(this.#aborted.reason);
    }
    return this.#controller.signal;
  }
}

class Context implements LoadContext<unknown> {
  readonly key: Key;
  readonly stale: unknown;
  readonly #flight: Flight;

  constructor(flight: Flight, call: Call) {
    this.key = call.key;
    this.stale = call.stale;
    this.#flight = flight;
  }
  get signal(): AbortSignal {
    return this.#flight.signal;
  }
}

function checkOptions(given: FetchOptions): Wants {
  checkNames<FetchOptions>('options', given, OPTION_NAMES);
  const { ttl, signal } = given;
  if (signal !== undefined && !isAbortSignal(signal)) throw wrongType('signal', 'an AbortSignal', signal);
  // What a number or text stands for is found out when there is a value; that it stands for something, now.
  if (typeof ttl !== 'function') parseDuration('ttl', ttl, 0);
  return {
    ttl,
    signal,
    timeoutMs: parseDuration('timeout', given.timeout, 0),
    forceRefresh: checkBoolean('forceRefresh', given.forceRefresh, false),
    revalidateMs: parseDuration('staleWhileRevalidate', given.staleWhileRevalidate, 0),
    errorMs: parseDuration('staleIfError', given.staleIfError, 0),
  };
}

// By what is used of it: those of other realms (vm contexts, test runners) count too.
function isAbortSignal(signal: unknown): signal is AbortSignal {
  if (typeof signal !== 'object' || signal === null) return false;
  const { aborted, addEventListener, removeEventListener } = signal as Partial<AbortSignal>;
  return (
    typeof aborted === 'boolean' && typeof addEventListener === 'function' && typeof removeEventListener === 'function'
  );
}

// ---- errors between threads: name, message and code travel, the rest stays where it happened ----

function describeError(error: unknown): { message: string; name: string; code: string } {
  try {
    if (typeof error === 'object' && error !== null && 'message' in error) {
      const { message, name, code } = error as { message: unknown; name?: unknown; code?: unknown };
      return {
        message: String(message).slice(0, MESSAGE_LENGTH_MAX),
        name: typeof name === 'string' ? name.slice(0, 100) : 'Error',
        code: typeof code === 'string' || typeof code === 'number' ? JSON.stringify(code).slice(0, 200) : '',
      };
    }
    const message = typeof error === 'string' ? error : inspect(error, { depth: 1 });
    return { message: message.slice(0, MESSAGE_LENGTH_MAX), name: 'Error', code: '' };
  } catch {
    // A getter that throws, or an object that cannot be shown.
    return { message: 'The loader failed with something that cannot be described', name: 'Error', code: '' };
  }
}

const BUILT_IN_ERRORS: Readonly<Record<string, ErrorConstructor>> = {
  TypeError,
  RangeError,
  SyntaxError,
  ReferenceError,
  URIError,
  EvalError,
};

function reviveError(message: string, name: string, code: string): Error {
  let known: string | number | undefined;
  try {
    known = code === '' ? undefined : (JSON.parse(code) as string | number);
  } catch {
    known = code; // It was too long and is cut off.
  }
  if (typeof known === 'string' && Object.hasOwn(ERROR_KINDS, known)) {
    if (name === 'TypeError') return new CairnTypeError(known as ErrorCode, message);
    if (name === 'RangeError') return new CairnRangeError(known as ErrorCode, message);
    if (name === 'CairnError') return new CairnError(known as ErrorCode, message);
  }
  const error: Error & { code?: string | number } = new (BUILT_IN_ERRORS[name] ?? Error)(message);
  if (error.name !== name) Object.defineProperty(error, 'name', { value: name, configurable: true, writable: true });
  if (known !== undefined) error.code = known;
  return error;
}
