/**
 * The flights of one handle: which load each call shares, and how a load ends.
 *
 * The addon knows one membership for each key and handle (native/process/flight_table.h); a {@link Flight} here is that
 * membership, and holds the {@link Call}s of this thread that share it.
 *
 * ```
 *  start() -> join -> lead: run the loader -> fill -> settle ---------> every call here, every waiting thread
 *                  -> wait: news: an answer --------------------------> every call here
 *                                 "you lead": as above
 *                                 "look again": each call starts over
 *                  -> the table is full: run the loader, share nothing, store nothing
 * ```
 *
 * Every caller gets its own copy of the value, as from a later `get`, also the caller whose loader ran: the result does
 * not depend on which call came first.
 *
 * A call that has its answer may stay in its flight in the background: it refreshes a value that it gave as it was.
 */
import { CairnError, isMalformed, malformedValues, show } from '../errors.ts';
import { holdAwake, type Looker, lookAgain, lookers } from '../native/wake.ts';
import { Code } from '../native.ts';
import type { Loader } from '../options.ts';
import { keyBytes } from '../request/arguments.ts';
import { Batches } from './batches.ts';
import type { Call, FetchOutcome } from './call.ts';
import { type Filled, Filling } from './filling.ts';
import { Context, Flight } from './flight.ts';
import {
  ANSWER_ERROR,
  ANSWER_NOTHING,
  type FetchCache,
  type FlightHandle,
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
import { isValue, readFresh, readStored, type Stored, UNREADABLE } from './stored.ts';
import { type WaitEnds, Watch } from './watch.ts';

/** Batches of news handled in one turn of the event loop, of 64 rows each. */
const NEWS_CALLS_PER_TURN = 16;

/** The flights that the calls of one handle take part in. */
export class Flights implements Looker {
  readonly #cache: FetchCache;
  readonly #handle: FlightHandle;
  readonly #flights = new Map<number, Flight>();
  /** Flights that are not shared, and have no number. */
  readonly #alone = new Set<Flight>();
  readonly #batches: Batches;
  readonly #filling: Filling;

  constructor(cache: FetchCache) {
    this.#cache = cache;
    this.#handle = cache.handle;
    this.#filling = new Filling(cache);
    this.#batches = new Batches(cache.handle.cacheId, {
      loaded: (flight, call, value) => this.#onLoaded(flight, call, value),
      failed: (flight, error) => this.#onFailed(flight, error),
    });
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

  /** The calls, which have the same options, each get a flight or an answer. */
  start(calls: readonly Call[]): Promise<unknown>[] {
    const within = Load.current;
    const promises = calls.map((call) => {
      const promise = call.promise();
      call.waitWithin(within, this.#handle.cacheId);
      this.#enter(call);
      return promise;
    });
    this.#watch(calls);
    return promises;
  }

  /**
   * Calls in the background: they count as waiting, so that their loads are not aborted, but do not wait for other
   * loads.
   */
  revalidate(calls: readonly Call[]): void {
    for (const call of calls) this.#enter(call);
    this.#watch(calls);
  }

  // Gives the call a flight, or answers it.
  #enter(call: Call): void {
    try {
      while (!this.#tryToEnter(call));
    } catch (error) {
      call.reject(error);
    }
  }

  // False: there was a value, which is gone again.
  #tryToEnter(call: Call): boolean {
    let joined = this.#handle.joinFlight(call.key, !call.refresh);
    if (joined === -Code.keyMaybeIllFormed) {
      joined = this.#handle.joinFlight(keyBytes(call.key), !call.refresh);
    }
    if (joined < 0) {
      call.reject(this.#cache.error(-joined, call.key));
      return true;
    }
    const id = Math.floor(joined / ROLES);
    const role = joined % ROLES;
    if (role === ROLE_PRESENT) {
      const value = readFresh(this.#cache, call.key);
      if (value === UNREADABLE) call.refresh = true;
      if (!isValue(value)) return false;
      call.resolve(value, 'hit');
    } else if (role === ROLE_LEAD) {
      this.#lead(id, call);
    } else if (role === ROLE_WAIT) {
      this.#wait(id, call);
    } else if (role === ROLE_ALONE) {
      const flight = new Flight(0, call.key);
      this.#alone.add(flight);
      this.#load(flight, call);
    } else {
      call.reject(this.#cache.error(Code.closed));
    }
    return true;
  }

  #lead(id: number, call: Call): void {
    const refreshed = call.refresh && !call.wants.forceRefresh ? this.#refreshed(call) : undefined;
    if (refreshed !== undefined) {
      this.#handle.settleFlight(id, SETTLE_AGAIN);
      call.resolve(refreshed.value, 'hit', refreshed);
      return;
    }
    const flight = new Flight(id, call.key);
    this.#add(flight);
    this.#load(flight, call);
  }

  // The entry, if another thread has refreshed it after this one saw that it was due.
  #refreshed(call: Call): Stored | undefined {
    try {
      const present = readStored(this.#cache, call.key, false);
      return isValue(present.value) && present.leftMs > call.aheadMs ? present : undefined;
    } catch {
      return undefined; // An entry that cannot be read is loaded: the other threads wait for this one's load.
    }
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
      flight = new Flight(id, call.key);
      this.#add(flight);
    }
    flight.add(call);
    this.#hold(flight);
  }

  #add(flight: Flight): void {
    this.#flights.set(flight.id, flight);
    lookers.add(this);
  }

  // ---- how a call leaves before the end ----

  #watch(calls: readonly Call[]): void {
    const waiting = calls.filter((call) => call.flight !== undefined && !call.isSettled);
    Watch.over(waiting, this.#waitEnds);
  }

  readonly #waitEnds: WaitEnds = {
    late: (call) => {
      const message = `No value for ${show(call.key)} within ${call.wants.timeoutMs} ms`;
      this.#leave(call, new CairnError('ERR_TIMEOUT', message));
    },
    aborted: (call, reason) => this.#leave(call, reason),
    soft: (call) => this.#onSoftTimeout(call),
  };

  // Reads the entry now, not when the call began: it may have been written since, deleted, or gone stale for too long.
  #onSoftTimeout(call: Call): void {
    let present: Stored;
    try {
      this.#cache.tick?.();
      present = readStored(this.#cache, call.key, true);
    } catch {
      return; // The value cannot be read now: the call waits on for its load.
    }
    if (!isValue(present.value) || present.staleMs >= call.wants.errorMs) return;
    call.answerEarly(present);
    const { flight } = call;
    if (flight !== undefined && [...flight.calls].every((each) => each.background)) this.#release(flight);
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
    if (call.wants.batching !== undefined) {
      this.#batches.add(flight, call);
      return;
    }
    const load = new Load(this.#handle.cacheId);
    load.add(call.key);
    flight.load = load;
    new Promise<unknown>((resolve) => {
      resolve(load.run(() => (call.loader as Loader<unknown>)(new Context(flight, call))));
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
      for (const each of flight.calls) each.resolve(undefined, outcomeOf(each, call));
      return;
    }
    let filled: Filled;
    try {
      filled = this.#filling.fill(flight.id, call, value);
    } catch (error) {
      this.#onFailed(flight, error);
      return;
    }
    this.#end(flight);
    if (typeof value !== 'object' || value === null) {
      for (const each of flight.calls) each.resolve(value, outcomeOf(each, call));
    } else {
      this.#giveCopies(flight, filled, call);
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
        for (const call of flight.calls) call.resolve(undefined, 'joined');
        break;
      case ANSWER_ERROR: {
        const error = reviveError(payload as string, rows[at + 2] as string, rows[at + 3] as string);
        for (const call of flight.calls) call.fail(error);
        break;
      }
      default:
        if (payload instanceof Uint8Array) {
          this.#giveCopies(flight, { payload, codec: rows[at + 2] as number });
        } else if (payload !== undefined) {
          for (const call of flight.calls) call.resolve(payload, 'joined');
        } else {
          for (const call of flight.calls) call.fail(this.#cache.error(Code.outOfMemory, call.key));
        }
    }
  }

  // Starts over: there may be a value now, or another load, or this call may lead.
  #again(call: Call): void {
    call.flight = undefined;
    try {
      const value = call.refresh ? undefined : readFresh(this.#cache, call.key);
      if (value === UNREADABLE) call.refresh = true;
      if (isValue(value)) call.resolve(value, 'hit');
      else this.#enter(call);
    } catch (error) {
      call.reject(error);
    }
  }

  // Each call decodes its own copy, so no two calls share an object. `leader`: the call of this thread that loaded it.
  #giveCopies(flight: Flight, filled: Filled, leader?: Call): void {
    for (const call of flight.calls) {
      try {
        call.resolve(this.#filling.copyOf(filled), outcomeOf(call, leader));
      } catch (error) {
        call.fail(isMalformed(error) ? malformedValues([call.key], error) : error);
      }
    }
  }

  // The flight answers no call any more.
  #end(flight: Flight): void {
    this.#release(flight);
    flight.ended = true;
    flight.load?.end(flight.key);
    if (flight.id === 0) this.#alone.delete(flight);
    else this.#flights.delete(flight.id);
    if (this.#flights.size === 0) lookers.delete(this);
  }

  // A flight whose loader runs in another thread, for which a caller waits here, keeps this thread alive.
  #hold(flight: Flight): void {
    if (flight.holds || flight.load !== undefined) return;
    flight.holds = true;
    holdAwake(true);
  }

  #release(flight: Flight): void {
    if (!flight.holds) return;
    flight.holds = false;
    holdAwake(false);
  }
}

// `leader`: the call whose loader gave the value.
function outcomeOf(call: Call, leader: Call | undefined): FetchOutcome {
  if (call !== leader) return 'joined';
  return call.present === undefined ? 'miss' : 'refreshed';
}
