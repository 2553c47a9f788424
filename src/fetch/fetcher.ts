/**
 * fetch(): the value of a key. The first caller loads it, and callers in all threads wait for that load.
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
 * Every caller gets its own copy of the value, as from a later `get`, also the caller whose loader ran: the result does
 * not depend on which call came first.
 */
import { CairnError, isMalformed, malformedValues, show, wrongType } from '../errors.ts';
import { TTL_MS_MAX } from '../limits.ts';
import { holdAwake, type Looker, lookAgain, lookers } from '../native/wake.ts';
import { Code, numberWord, Word } from '../native.ts';
import { parseDuration } from '../options.ts';
import { bytesOf, Codec, decode, type Encoded, encode, encodeDoubtfulText } from '../request/codec.ts';
import { Call, Context, Flight } from './call.ts';
import { checkOptions, type FetchOptions, type Loader, NO_WANTS, type Wants } from './fetch-options.ts';
import {
  ANSWER_ERROR,
  ANSWER_NOTHING,
  type FetchCache,
  type FlightHandle,
  type Key,
  LEAVE_GOES_ON,
  NEWS_ABORT,
  NEWS_AGAIN,
  NEWS_ANSWER,
  NEWS_FIELDS,
  NEWS_LEAD,
  ROLE_ALONE,
  ROLE_LEAD,
  ROLE_PRESENT,
  ROLE_WAIT,
  ROLES,
  SETTLE_AGAIN,
} from './flight-binding.ts';
import { describeError, reviveError } from './loader-errors.ts';
import { Load } from './loads.ts';

/** Batches of news handled in one turn of the event loop, of 64 rows each. */
const NEWS_CALLS_PER_TURN = 16;

/** The fetches of one handle. */
export class Fetcher implements Looker {
  readonly #cache: FetchCache;
  readonly #handle: FlightHandle;
  readonly #flights = new Map<number, Flight>();
  /** Flights that are not shared, and have no number. */
  readonly #alone = new Set<Flight>();
  #hasToldTooLarge = false;

  constructor(cache: FetchCache) {
    this.#cache = cache;
    this.#handle = cache.handle;
  }

  /** Cache.fetch, which has the documentation. */
  fetch(key: Key, loader: Loader<unknown>, options: FetchOptions | undefined): Promise<unknown> {
    try {
      if (typeof loader !== 'function') throw wrongType('loader', 'a function', loader);
      const wants = options === undefined ? NO_WANTS : checkOptions(options);
      if (wants.forceRefresh) {
        const { value, staleMs } = this.#readStale(key);
        const stale = value === UNREADABLE ? undefined : value;
        return this.#start(new Call({ key, loader, wants, refresh: true, stale, ...ifError(stale, staleMs, wants) }));
      }
      if (wants.revalidateMs + wants.errorMs > 0) return this.#fetchOrRevalidate(key, loader, wants);
      const value = readable(() => this.#cache.get(key), UNREADABLE);
      if (value !== undefined && value !== UNREADABLE) return Promise.resolve(value);
      return this.#start(new Call({ key, loader, wants, refresh: value === UNREADABLE }));
    } catch (error) {
      return Promise.reject(error);
    }
  }

  /**
   * The handle is about to be closed, or was closed: all calls are rejected, all loads aborted or left to other
   * threads.
   */
  close(): void {
    const error = this.#cache.error(Code.closed);
    for (const flight of [...this.#flights.values(), ...this.#alone]) {
      this.#end(flight);
      flight.abort(error);
      for (const call of flight.calls) call.reject(error);
    }
  }

  /** Takes the news from other threads for this handle. */
  look(): void {
    for (let calls = 0; calls < NEWS_CALLS_PER_TURN; calls++) {
      const rows = this.#handle.takeFlightNews();
      // The owner closed the cache, and the handle noticed it before the news came here.
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
    const { value, staleMs } = this.#readStale(key);
    if (value === undefined || value === UNREADABLE) {
      return this.#start(new Call({ key, loader, wants, refresh: value === UNREADABLE }));
    }
    if (staleMs < 0) return Promise.resolve(value);
    const parts = { key, loader, wants, refresh: true, stale: value, ...ifError(value, staleMs, wants) };
    if (staleMs >= wants.revalidateMs) return this.#start(new Call(parts));
    this.#revalidate(new Call(parts));
    return Promise.resolve(value);
  }

  // The value, or UNREADABLE, and for how long it has been stale; negative: it is fresh.
  #readStale(key: Key): { value: unknown; staleMs: number } {
    const { getStale } = this.#handle;
    let stalePlusOne = 0;
    const read = (again: Key) => {
      const answer = getStale(again);
      stalePlusOne = numberWord(Word.expiresIn);
      return answer;
    };
    const value = readable(() => this.#cache.read(key, read), UNREADABLE);
    return { value, staleMs: stalePlusOne - 1 };
  }

  #start(call: Call): Promise<unknown> {
    const promise = call.promise();
    call.waitWithin(Load.current, this.#handle.cacheId);
    this.#enter(call);
    if (call.flight !== undefined && !call.isSettled) this.#watch(call);
    return promise;
  }

  // A call without a waiting caller: it counts as waiting, so that the load is not aborted, but it does not wait for
  // other loads.
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
      const value = readable(() => this.#cache.get(call.key), UNREADABLE);
      if (value === UNREADABLE) call.refresh = true;
      if (value === undefined || value === UNREADABLE) return false;
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
      const { value, staleMs } = this.#readStale(call.key);
      if (value !== undefined && value !== UNREADABLE && staleMs < 0) {
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
      // Another call loads it already.
      if (flight === undefined) this.#handle.leaveFlight(id);
      return;
    }
    const circle = call.within?.circleWith(this.#handle.cacheId, call.key);
    if (circle !== undefined) {
      if (flight === undefined) this.#handle.leaveFlight(id);
      call.reject(circle);
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
    call.watch({
      late: (timeoutMs) => {
        const message = `No value for ${show(call.key)} within ${timeoutMs} ms`;
        this.#leave(call, new CairnError('ERR_TIMEOUT', message));
      },
      aborted: (reason) => this.#leave(call, reason),
    });
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
    flight.load = new Load(this.#handle.cacheId, call.key);
    new Promise<unknown>((resolve) => {
      resolve(flight.load!.run(() => call.loader(new Context(flight, call))));
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
    let life: Life;
    try {
      life = this.#lifeOf(call, value);
      encode(value, encoded);
    } catch (error) {
      this.#onFailed(flight, error);
      return;
    }
    let { payload, codec } = encoded;
    if (flight.id !== 0) {
      this.#cache.tick?.();
      // With any answer the value was loaded: callers get it even if the cache does not keep it.
      const { ttlMs, freshMs } = life;
      let code = this.#handle.fillFlight(flight.id, payload, codec, ttlMs, ttlMs !== TTL_NOTHING, freshMs);
      if (code === Code.valueMaybeIllFormed) {
        encodeDoubtfulText(payload as string, encoded);
        ({ payload, codec } = encoded);
        code = this.#handle.fillFlight(flight.id, payload, codec, ttlMs, ttlMs !== TTL_NOTHING, freshMs);
      }
      if (code === Code.tooLarge) this.#tellTooLarge(call.key, bytesOf(payload));
    }
    this.#end(flight);
    if (typeof value !== 'object' || value === null) {
      for (const each of flight.calls) each.resolve(value);
    } else {
      this.#giveCopies(flight, payload, codec);
    }
  }

  // Once only, because a program that fetches such values would be warned of each of them.
  #tellTooLarge(key: Key, bytes: number): void {
    if (this.#hasToldTooLarge) return;
    this.#hasToldTooLarge = true;
    process.emitWarning(
      `fetch() loads ${show(key)} each time: its value of ${bytes} bytes is larger than maxValueBytes (${this.#handle.valueBytesMax}) and is not kept. This is told once for a handle; stats().tooLarge counts`,
      { type: 'CairnWarning', code: 'CAIRN_VALUE_NOT_KEPT' },
    );
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
        flight.abort(new DOMException('No caller waits for the value any more', 'AbortError'));
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

  // Starts over: there may be a value now, or another load, or this call may lead.
  #again(call: Call): void {
    call.flight = undefined;
    try {
      const value = call.refresh ? undefined : readable(() => this.#cache.get(call.key), UNREADABLE);
      if (value === UNREADABLE) call.refresh = true;
      if (value === undefined || value === UNREADABLE) this.#enter(call);
      else call.resolve(value);
    } catch (error) {
      call.reject(error);
    }
  }

  // Each call decodes its own copy, so no two calls share an object.
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

  // A stale window makes the entry live longer than it is fresh.
  #lifeOf(call: Call, value: unknown): Life {
    const { ttl, revalidateMs, errorMs } = call.wants;
    const longerMs = Math.max(revalidateMs, errorMs);
    const given = typeof ttl === 'function' ? ttl(value, call.key) : ttl;
    if (given === Number.POSITIVE_INFINITY) return { ttlMs: 0, freshMs: undefined };
    if (given === undefined && (longerMs === 0 || this.#cache.ttl === 0)) return CACHE_LIFE;
    const ttlMs = parseDuration('ttl', given, this.#cache.ttl);
    if (ttlMs === 0) return { ttlMs: TTL_NOTHING, freshMs: undefined };
    if (longerMs === 0) return { ttlMs, freshMs: undefined };
    return {
      ttlMs: longerMs === Number.POSITIVE_INFINITY ? 0 : Math.min(ttlMs + longerMs, TTL_MS_MAX),
      freshMs: ttlMs,
    };
  }

  // The flight answers no call any more.
  #end(flight: Flight): void {
    this.#release(flight);
    flight.ended = true;
    flight.load?.end();
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

/** How long a loaded value is kept, and how long of that it is fresh. */
interface Life {
  /** Milliseconds, 0: it does not expire, undefined: the cache's own, TTL_NOTHING. */
  readonly ttlMs: number | undefined;
  /** undefined: it is fresh until it expires. */
  readonly freshMs: number | undefined;
}

const CACHE_LIFE: Life = { ttlMs: undefined, freshMs: undefined };

// The answer of the call if the load fails: the old value, unless it has been stale for too long.
function ifError(value: unknown, staleMs: number, { errorMs }: Wants): { takesStaleOnError: boolean } {
  return { takesStaleOnError: value !== undefined && errorMs > 0 && staleMs < errorMs };
}

/** In the place of a value that cannot be decoded. */
const UNREADABLE = Symbol('unreadable');

// The result of a read, or `otherwise` if the value cannot be decoded, which is then loaded again.
function readable(read: () => unknown, otherwise?: symbol): unknown {
  try {
    return read();
  } catch (error) {
    if (error instanceof CairnError && error.code === 'ERR_VALUE_MALFORMED') return otherwise;
    throw error;
  }
}

// Filled by encode() and used up before anything else runs.
const encoded: Encoded = { payload: '', codec: 0 };
