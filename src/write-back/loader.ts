/**
 * The loader: answers the misses of all threads and connections. It takes the keys that wait (loads.ts), and ends each:
 *
 * | of the key there is                        | then                                                              |
 * |--------------------------------------------|-------------------------------------------------------------------|
 * | a stub of a value that left memory before  | the value comes back from the log: the database does not have it  |
 * | the database had it                        | yet                                                               |
 * | a stub that says it is gone                | the request looks again, and finds that                           |
 * | neither, and a rule skips the key          | there is no value                                                 |
 * | neither                                    | the database is asked, for many keys at once                      |
 *
 * A row that is read loses to any newer write: the load's ticket sees to that. And an answer counts only if the cursor
 * that was read with it is not behind the furthest one that was seen: otherwise the database has gone back, and the
 * writer is told; or a standby that lags has answered. Then the database is asked again, as long as a load may take. So
 * it is for a row that has expired while its touch is on the way to the database.
 *
 * While the database does not answer, loads are refused at once: circuit.ts. A load that is refused is an error for the
 * request, or, by an option, a miss for a request that only reads.
 */
import type { Backend, Loaded, RowValue } from '../backend/index.ts';
import { reasonOf } from '../errors.ts';
import { type LoadEnd, Loader, type PendingLoad } from '../loads.ts';
import type { Position } from '../log/index.ts';
import type { LoadHandle } from '../native.ts';
import type { RuleSet } from '../rules/index.ts';
import { Circuit } from './circuit.ts';
import type { WriterClock } from './clock.ts';
import { areBehind } from './reached.ts';
import type { StubResolver } from './stub-resolver.ts';

/** Keys of one question to the database. */
const BATCH_KEYS = 256;
/** Questions at a time. */
const QUESTIONS_MAX = 4;
/** The longest time for which loads are ended in one go: the writer needs the thread, too. */
const SLICE_MS = 10;
/** How often a database is asked again that will have the answer. */
const AGAIN_MS = 50;

/** What loads may take, and leave. */
export interface LoadLimits {
  /** The longest time that a question may take, in milliseconds. */
  readonly timeoutMs: number;
  /** How long a key without a row is known to be absent, in milliseconds; at least a second. */
  readonly negativeMs: number;
  /** While the database does not answer, reads are misses; otherwise they are errors, as all other requests are. */
  readonly failsAsMiss: boolean;
}

/** What the loader tells; called synchronously, must not throw. */
export interface LoaderEvents {
  /** A question to the database has ended. */
  asked(keys: number, elapsedMs: number): void;
  /** Loads have failed. */
  failed(error: Error): void;
  /** The database does not answer: it is left in peace for a while. */
  opened(): void;
}

/** Where the loader reads. */
export interface LoadSource {
  /**
   * By lane: everything of it before this was in the database, as far as it has ever been. None: nothing is written.
   */
  readonly reached: readonly Position[];
  /** The database may have gone back. */
  doubt(): void;
  /** One call of the database. Rejects with its error. */
  use<T>(run: (backend: Backend) => Promise<T>): Promise<T>;
}

export interface LoaderServiceOptions {
  readonly handle: LoadHandle;
  readonly source: LoadSource;
  /** What keys owe; undefined: the cache writes nothing. */
  readonly stubs: StubResolver | undefined;
  /** Which keys the database is asked for; undefined: all. */
  readonly rules: RuleSet | undefined;
  readonly limits: LoadLimits;
  readonly clock: WriterClock;
  /** In [0, 1). */
  readonly random: () => number;
  readonly on: LoaderEvents;
}

export class LoaderService {
  readonly #source: LoadSource;
  readonly #stubs: StubResolver | undefined;
  readonly #rules: RuleSet | undefined;
  readonly #limits: LoadLimits;
  readonly #clock: WriterClock;
  readonly #circuit: Circuit;
  readonly #on: LoaderEvents;
  readonly #loader: Loader;
  #questions = 0;
  #isYielding = false;
  #isClosed = false;

  constructor({ handle, source, stubs, rules, limits, clock, random, on }: LoaderServiceOptions) {
    this.#source = source;
    this.#stubs = stubs;
    this.#rules = rules;
    this.#limits = limits;
    this.#clock = clock;
    this.#circuit = new Circuit({ clock, random });
    this.#on = on;
    this.#loader = new Loader(handle, () => this.#pump());
    this.#pump();
  }

  /** Loads that are not ended wait for the next loader. */
  close(): void {
    if (this.#isClosed) return;
    this.#isClosed = true;
    this.#loader.detach();
  }

  #pump(): void {
    const endMs = this.#clock.steadyMs() + SLICE_MS;
    while (!this.#isClosed && !this.#isYielding && this.#questions < QUESTIONS_MAX) {
      if (this.#clock.steadyMs() >= endMs) {
        this.#isYielding = true;
        void this.#clock.yield().then(() => {
          this.#isYielding = false;
          this.#pump();
        });
        return;
      }
      const loads = this.#loader.drain(BATCH_KEYS);
      if (loads.length === 0) return;
      const ask = this.#answerWithoutDatabase(loads);
      if (ask.length === 0) continue;
      if (this.#circuit.admits()) void this.#askDatabase(ask);
      else this.#refuse(ask, `the database does not answer: ${this.#circuit.why}`, true);
    }
  }

  // `isAway`: the database does not answer. Otherwise it has answered with less than there is.
  #refuse(loads: readonly PendingLoad[], why: string, isAway: boolean): void {
    this.#on.failed(new Error(why));
    const kind = isAway && this.#limits.failsAsMiss ? 'unknown' : 'failed';
    this.#loader.finish(loads.map(({ id }) => ({ kind, id, why })));
  }

  // Ends the loads of keys that the database does not have yet, and of those that it never has; returns the others.
  #answerWithoutDatabase(loads: readonly PendingLoad[]): PendingLoad[] {
    const ends: LoadEnd[] = [];
    const others = loads.filter((load) => {
      const end = this.#endAlone(load);
      if (end !== undefined) ends.push(end);
      return end === undefined;
    });
    for (const end of ends) if (end.kind === 'failed') this.#on.failed(new Error(end.why));
    if (ends.length > 0) this.#loader.finish(ends);
    return others;
  }

  #endAlone({ id, key }: PendingLoad): LoadEnd | undefined {
    const resolved = this.#stubs?.resolve(key);
    if (resolved?.kind === 'failed') return { kind: 'failed', id, why: resolved.why };
    if (resolved?.kind === 'memory') return { kind: 'again', id };
    return this.#rules?.loads(key) === false ? this.#absent(id) : undefined;
  }

  #absent(id: number): LoadEnd {
    return { kind: 'absent', id, forMs: this.#limits.negativeMs };
  }

  async #askDatabase(loads: readonly PendingLoad[], begunMs = this.#clock.steadyMs()): Promise<void> {
    this.#questions++;
    // Before the database is asked: its touch may be written meanwhile.
    const touched = loads.map(({ key }) => this.#stubs?.isTouched(key) ?? false);
    try {
      const askedMs = this.#clock.steadyMs();
      const { rows } = await this.#withinTime(this.#load(loads, begunMs));
      this.#circuit.succeeded();
      this.#on.asked(loads.length, this.#clock.steadyMs() - askedMs);
      const again: PendingLoad[] = [];
      const ends = loads.flatMap((load, i): LoadEnd[] => {
        const row = rows[i];
        if (row !== undefined) return [endOf(load.id, row)];
        if (!touched[i]) return [this.#absent(load.id)];
        again.push(load);
        return [];
      });
      if (!this.#isClosed) this.#loader.finish(ends);
      if (again.length > 0) this.#askAgain(again, begunMs);
    } catch (error) {
      const why = reasonOf(error);
      if (error instanceof Behind) this.#circuit.succeeded();
      else if (this.#circuit.failed(why)) this.#on.opened();
      if (!this.#isClosed) this.#refuse(loads, why, !(error instanceof Behind));
    }
    this.#questions--;
    this.#pump();
  }

  // Their rows have expired, and will be there again when their touches are written.
  #askAgain(loads: readonly PendingLoad[], begunMs: number): void {
    const leftMs = begunMs + this.#limits.timeoutMs - this.#clock.steadyMs();
    if (leftMs <= AGAIN_MS) this.#refuse(loads, 'the database does not have its new expiry yet', false);
    else this.#clock.after(AGAIN_MS, () => void (this.#isClosed || this.#askDatabase(loads, begunMs)));
  }

  async #load(loads: readonly PendingLoad[], begunMs: number): Promise<Loaded> {
    const keys = loads.map(({ key }) => key);
    for (;;) {
      const { reached } = this.#source;
      const loaded = await this.#source.use((backend) => backend.load(keys));
      if (!areBehind(loaded.cursors, keys, reached)) return loaded;
      this.#source.doubt();
      const leftMs = begunMs + this.#limits.timeoutMs - this.#clock.steadyMs();
      if (leftMs <= AGAIN_MS || this.#isClosed) throw new Behind();
      await new Promise<void>((resolve) => this.#clock.after(AGAIN_MS, resolve));
    }
  }

  // What the database answers later is not used.
  async #withinTime<T>(loading: Promise<T>): Promise<T> {
    const { timeoutMs } = this.#limits;
    let timer: { stop(): void } | undefined;
    const late = new Promise<never>((_, reject) => {
      const error = new Error(`the database did not answer within ${timeoutMs} ms`);
      timer = this.#clock.after(timeoutMs, () => reject(error));
    });
    loading.catch(() => {});
    try {
      return await Promise.race([loading, late]);
    } finally {
      timer?.stop();
    }
  }
}

/** The database has answered, and lacks what it had. */
class Behind extends Error {
  constructor() {
    super('the database has gone back to an earlier state');
  }
}

function endOf(id: number, { value, codec, clientFlags, expiresWallMs }: RowValue): LoadEnd {
  return { kind: 'value', id, value, codec, clientFlags, expiresWallMs };
}
