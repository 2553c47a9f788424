/**
 * The writer: reads the log of a cache and carries it to the database, each change with an effect exactly once. It
 * knows the log by WriterLog and the database by Backend only, and its time by a clock that tests move.
 *
 * The work is that of its lanes (lane.ts), each with a share of the keys and a cursor in the database. Where they
 * begin, and how often, course.ts says. This file is what others see of all lanes together.
 *
 * | it is     | because                                             | it leaves that by                          |
 * |-----------|-----------------------------------------------------|--------------------------------------------|
 * | opening   | the cursors of the database have not been read yet, | reading them, and claiming the database    |
 * |           | or name another process than this one              |                                            |
 * | writing   | all is well; there may be nothing to write          |                                            |
 * | retrying  | a call failed that may succeed later                | a call that succeeds; tries forever       |
 * | halted    | only a change of the database or its rights helps,  | the same; tries every 30 s                 |
 * |           | or the log cannot be read, or has no room          |                                            |
 * | healing   | the database has gone back to an earlier state, and | the database being where it was before     |
 * |           | gets what it lacks from the log                     |                                            |
 * | paused    | pause()                                             | resume()                                   |
 * | refused   | the database is not that of the log, or not any     | nothing: the cache has to be opened again  |
 * |           | more, or another writer has taken it over           |                                            |
 * | closed    | close()                                             |                                            |
 *
 * Its lanes may be in different states. It is in the worst of them: halted, retrying, paused, healing, writing.
 *
 * **Outcomes.** What is known after a failed write, delivery.ts says. A cursor that is neither where the batch begins
 * nor where it ends is judged as at the beginning: a writer of this log that died with a batch on its way may have
 * moved it, and this one goes on from there; a copy of the log stops it. A call that took too long may still have its
 * effect later, while the batch is written again: the cursor decides then which of the two has any.
 *
 * **Healing.** A cursor before the last confirmed one means that the database has gone back, its rows with it. The
 * writer goes on from there, as from any cursor: what is behind it is owed again. While a lane has nothing to write it
 * looks at the cursors now and then, so that it finds out while the log still has what is needed.
 *
 * The log's own cursor (following-cursor.ts) and what the log keeps for healing (kept-history.ts) follow the lane that
 * is furthest behind.
 */
import type { Backend, Cursor, DeadLetters } from '../backend/index.ts';
import { CairnError } from '../errors.ts';
import { earlier, later, type Position } from '../log/index.ts';
import type { RuleSet } from '../rules/index.ts';
import type { BatchLimits } from './batcher.ts';
import { Calls } from './calls.ts';
import { Changed } from './changed.ts';
import { type WriterClock, within } from './clock.ts';
import { Connection, type ConnectionOptions, type Failure } from './connection.ts';
import { Course } from './course.ts';
import { FollowingCursor } from './following-cursor.ts';
import type { Refusal } from './identity.ts';
import { Lane, type LaneState } from './lane.ts';
import type { Committed, LaneRoom } from './lane-room.ts';
import { Reaching } from './reaching.ts';
import { RowRate } from './row-rate.ts';
import { Share } from './share.ts';
import type { WriterMarks } from './stored-marks.ts';
import { Watching } from './watching.ts';
import type { WriterLog } from './writer-log.ts';

export type { Committed } from './lane-room.ts';
export { LOOK_MS } from './watching.ts';

export type WriterState = 'opening' | 'writing' | 'healing' | 'retrying' | 'halted' | 'paused' | 'refused' | 'closed';

/** What the writer tells; called synchronously, must not throw. */
export interface WriterEvents {
  /** `cause`: of `retrying`, `halted` and `refused`. */
  state(state: WriterState, cause: Error | undefined): void;
  committed(batch: Committed): void;
  /** A call has failed and is tried again. */
  retry(cause: Error): void;
  /** The database has gone back by this much of the log. */
  healing(bytes: number): void;
  /** It is where it was before. */
  healed(): void;
  /** The log has no room for all of `retainMs`, and keeps this time of it. */
  historyShort(keptMs: number): void;
}

export interface WriterOptions extends ConnectionOptions {
  readonly log: WriterLog;
  /** How many lanes write; a power of two. */
  readonly lanes: number;
  /** The log has writers to other databases, too: it must not seem to owe this one what is theirs. Default: false. */
  readonly isOneOfSeveral?: boolean;
  /** Those of a lane: asked for each of them once. */
  readonly marksOf: (share: Share) => WriterMarks;
  readonly limits: BatchLimits;
  /** Which keys are written; undefined: all. */
  readonly rules?: RuleSet | undefined;
  /** The rows that the database gets in a second from all lanes; 0: without a limit. */
  readonly rowsPerSecond: number;
  /** No dead letter is kept. */
  readonly dropsRefused: boolean;
  /** For how long the log keeps what the database has; 0: it does not. */
  readonly retainMs: number;
  /** How far the database was, as WriterData says. */
  readonly reached: SharedArrayBuffer;
  /** In [0, 1). */
  readonly random: () => number;
  readonly on: WriterEvents;
}

/** How long close() waits for a database that does not answer any more, and then for the log. */
const END_MS = 1000;

/** From the worst on. */
const LANE_STATES: readonly LaneState[] = ['halted', 'retrying', 'paused', 'healing', 'writing'];

export class Writer {
  readonly #options: WriterOptions;
  readonly #log: WriterLog;
  readonly #clock: WriterClock;
  readonly #changed = new Changed();
  /** No further call is begun. */
  readonly #ending = new AbortController();
  readonly #connection: Connection;
  /** Those of the writer itself, between the times in which its lanes are carried. */
  readonly #calls: Calls;
  readonly #logCursor: FollowingCursor;
  readonly #watching: Watching;
  readonly #room: LaneRoom;
  readonly #lanes: readonly Lane[];
  readonly #course: Course;
  readonly #reaching: Reaching;
  #state: WriterState = 'opening';
  #isPaused = false;
  #closing: Promise<void> | undefined;
  #refusal: Refusal | undefined;
  /** Resolves when it has ended: closed, or refused. Rejects for a fault of ours. */
  readonly ended: Promise<void>;

  constructor(options: WriterOptions) {
    const { log, lanes, marksOf, connect, callTimeoutMs, clock, random } = options;
    this.#options = options;
    this.#log = log;
    this.#clock = clock;
    const reached = new BigUint64Array(options.reached);
    for (let lane = 0; lane < lanes; lane++) reached[lane] = later(reached[lane]!, log.confirmed);
    this.#logCursor = new FollowingCursor(log, clock);
    this.#watching = new Watching({
      ...{ log, logCursor: this.#logCursor, clock, retainMs: options.retainMs },
      onShort: (keptMs) => options.on.historyShort(keptMs),
      confirmed: () => this.confirmed,
      carried: () => this.#course.carried,
    });
    this.#connection = new Connection({ connect, callTimeoutMs, clock });
    this.#calls = new Calls({
      ...{ connection: this.#connection, clock, random, ending: this.#ending.signal },
      onFailed: (failure) => this.#onFailed(failure),
    });
    this.#room = this.#makeRoom(options);
    this.#lanes = Share.all(lanes).map(
      (share) =>
        new Lane({
          ...{ room: this.#room, share, marks: marksOf(share) },
          reached: reached.subarray(share.lane, share.lane + 1),
        }),
    );
    this.#course = new Course({
      ...{ room: this.#room, lanes: this.#lanes, calls: this.#calls, logCursor: this.#logCursor },
      ending: this.#ending.signal,
      resumed: () => this.#resumed(),
      onUnclaimed: (cause) => this.#enter('halted', cause),
      onHealing: (bytes) => options.on.healing(bytes),
    });
    this.#reaching = new Reaching({
      ...{ lanes: this.#lanes, movesAlong: this.#room.movesAlong, ending: this.#ending.signal },
      state: () => this.#state,
      refusal: () => this.#refusal,
      wake: () => this.#wake(),
    });
    this.ended = this.#run();
  }

  #makeRoom({
    log,
    lanes,
    isOneOfSeveral = false,
    limits,
    rules,
    rowsPerSecond,
    dropsRefused,
    clock,
    random,
    on,
  }: WriterOptions): LaneRoom {
    return {
      ...{ log, connection: this.#connection, limits, rules, rate: new RowRate(rowsPerSecond) },
      ...{ dropsRefused, clock, random, movesAlong: lanes > 1 || isOneOfSeveral },
      isPaused: () => this.#isPaused,
      readFrom: (position, isHealing) => this.#watching.readFrom(position, isHealing),
      lookInMs: () => this.#watching.lookInMs(),
      look: (calls) => this.#watching.look(calls),
      seen: () => this.#watching.see(),
      progressed: () => this.#follow(),
      state: () => this.#onLaneState(),
      committed: (batch) => on.committed(batch),
      retry: (cause) => on.retry(cause),
      healed: () => {
        if (!this.isHealing) on.healed();
      },
    };
  }

  get #isEnding(): boolean {
    return this.#ending.signal.aborted;
  }

  get state(): WriterState {
    return this.#state;
  }

  /** Everything before this is in the database. */
  get confirmed(): Position {
    return this.#lanes.map(({ confirmed }) => confirmed).reduce(earlier);
  }

  /**
   * By lane: everything of it before this was in the database at some time. An answer of the database that was asked
   * for later, and whose cursors are before this, is of an earlier state: tell it to doubt().
   */
  get reached(): readonly Position[] {
    return this.#lanes.map(({ reached }) => reached);
  }

  /** The state of each lane: its own while it is carried, otherwise that of the writer. */
  get laneStates(): readonly WriterState[] {
    const isOver = this.#state === 'refused' || this.#state === 'closed';
    return this.#lanes.map(({ state }) => (isOver || state === 'resting' ? this.#state : state));
  }

  /** The database has gone back, and does not have all yet that it had. */
  get isHealing(): boolean {
    return this.#lanes.some(({ isHealing }) => isHealing);
  }

  /** What the log keeps for a database that goes back: the time that it may go back by, and the bytes. */
  get history(): { readonly ms: number; readonly bytes: number } {
    return this.#watching.history;
  }

  /** The database may have gone back: its cursors are looked at as soon as a lane has nothing to write. */
  doubt(): void {
    this.#watching.doubt();
    this.#wake();
  }

  /** Everything that the log has is in the database. */
  get isIdle(): boolean {
    return this.has(this.#log.end());
  }

  /**
   * What has been read and is not in the database yet; the log may have more behind it. `oldestMs`: when the log took
   * the oldest record that the database does not have, read or not.
   */
  get owed(): { readonly records: number; readonly bytes: number; readonly oldestMs: number | undefined } {
    const lanes = this.#course.carried.length === 0 ? this.#lanes : this.#course.carried;
    return lanes
      .map(({ owed }) => owed)
      .reduce((all, one) => ({
        records: all.records + one.records,
        bytes: all.bytes + one.bytes,
        oldestMs: earliest(all.oldestMs, one.oldestMs),
      }));
  }

  /**
   * Writes everything before a position at once, and resolves when the database has it. Rejects if this writer has
   * stopped, or when the signal says that the caller does not wait any more; while the database cannot be written, it
   * waits.
   */
  drain(position: Position, signal?: AbortSignal): Promise<void> {
    return this.#reaching.drain(position, signal);
  }

  /** Whether the database has everything before a position. */
  has(position: Position): boolean {
    return this.#lanes.every((lane) => lane.has(position));
  }

  /** The cursors of the database by lane; none: it has none yet, or those of other lanes. */
  get cursors(): readonly Cursor[] {
    const cursors = this.#lanes.map(({ cursor }) => cursor).filter((cursor) => cursor !== undefined);
    return cursors.length === this.#lanes.length ? cursors : [];
  }

  /** One call of the database beside those of the writer. Rejects with its error, and if this writer has stopped. */
  async use<T>(run: (backend: Backend) => Promise<T>): Promise<T> {
    if (this.#refusal !== undefined) throw this.#refusal.error;
    return this.#connection.use(run);
  }

  /** The database's dead letters, over its connection. Rejects as use(). */
  useDeadLetters<T>(use: (letters: DeadLetters) => Promise<T>): Promise<T> {
    return this.use(async (backend) => {
      if (backend.deadLetters !== undefined) return use(backend.deadLetters);
      throw new CairnError('ERR_INVALID_ARGUMENT', `${backend.name} keeps no dead letters`);
    });
  }

  /** A caller waits for a change: it is written at once. */
  hurry(): void {
    this.#wake();
  }

  /** Writes nothing until resume(); batches that are being written are finished. */
  pause(): void {
    this.#isPaused = true;
    for (const lane of this.#course.carried) lane.pause();
    this.#wake();
  }

  resume(): void {
    this.#isPaused = false;
    for (const lane of this.#course.carried) lane.resume();
    this.#wake();
  }

  /**
   * Writes what the log has by now, within the time, and ends; 0: at once, `Infinity`: without a limit. A lane that
   * only a person can mend, or a pause, is not waited for. What is left stays in the log. Never rejects. A second call
   * returns the same promise.
   */
  close(timeoutMs: number): Promise<void> {
    this.#closing ??= this.#close(timeoutMs);
    return this.#closing;
  }

  async #close(timeoutMs: number): Promise<void> {
    const end = this.#log.end();
    const drained = this.#reaching.drainOrGiveUp(end);
    if (timeoutMs > 0) await within(this.#clock, timeoutMs, drained);
    this.#ending.abort();
    this.#logCursor.stop();
    this.#wake();
    // Ends calls in progress, which may or may not have had their effect. A database that hangs is not waited for.
    await within(this.#clock, END_MS, Promise.all([this.#connection.disconnect(), this.ended.catch(() => {})]));
    await within(this.#clock, END_MS, Promise.all([this.#logCursor.end(this.confirmed), this.#watching.settled()]));
    this.#enter('closed');
  }

  async #run(): Promise<void> {
    this.#refusal = await this.#course.run();
    if (this.#refusal !== undefined) this.#enter('refused', this.#refusal.error);
    this.#wake();
  }

  #follow(): void {
    if (this.#course.carried !== this.#lanes) return;
    const { confirmed } = this;
    if (confirmed > this.#logCursor.position && this.#lanes.every(({ hasRecovered }) => hasRecovered)) {
      this.#logCursor.follow(confirmed);
    }
  }

  // Waits while the writer is paused.
  async #resumed(): Promise<void> {
    while (this.#isPaused && !this.#isEnding) {
      this.#enter('paused');
      await this.#changed.wait();
    }
  }

  #wake(): void {
    this.#changed.notify();
    for (const lane of this.#lanes) lane.notify();
    if (this.#course.carried !== this.#lanes) for (const lane of this.#course.carried) lane.notify();
  }

  #onFailed({ error, isHalting }: Failure): void {
    this.#options.on.retry(error);
    this.#enter(isHalting ? 'halted' : 'retrying', error);
  }

  #onLaneState(): void {
    this.#wake();
    const worst = LANE_STATES.find((state) => this.#course.carried.some((lane) => lane.state === state));
    if (worst === undefined || worst === 'resting') return;
    this.#enter(worst, this.#course.carried.find(({ state }) => state === worst)!.cause);
  }

  #enter(state: WriterState, cause?: Error): void {
    if (this.#state === state || this.#state === 'closed') return;
    if (this.#state === 'refused' && state !== 'closed') return;
    this.#state = state;
    this.#options.on.state(state, cause);
    this.#wake();
  }
}

function earliest(a: number | undefined, b: number | undefined): number | undefined {
  return a === undefined || b === undefined ? (a ?? b) : Math.min(a, b);
}
