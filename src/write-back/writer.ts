/**
 * The writer: reads the log of a cache and carries it to the database, each change with an effect exactly once. It
 * knows the log by WriterLog and the database by Backend only, and its time by a clock that tests move.
 *
 *     read entries -> gather a batch -> write (cursor first) -> confirmed -> ... and now and then the log's own cursor
 *          \__________ the next batch gathers meanwhile __________/
 *
 * | it is     | because                                             | it leaves that by                          |
 * |-----------|-----------------------------------------------------|--------------------------------------------|
 * | opening   | the cursor of the database has not been read yet    | reading it                                 |
 * | writing   | all is well; there may be nothing to write          |                                            |
 * | retrying  | a call failed that may succeed later                | a call that succeeds; tries forever       |
 * | halted    | only a change of the database or its rights helps,  | the same; tries every 30 s                 |
 * |           | or the log cannot be read                           |                                            |
 * | healing   | the database has gone back to an earlier state, and | the database being where it was before     |
 * |           | gets what it lacks from the log                     |                                            |
 * | paused    | pause()                                             | resume()                                   |
 * | refused   | the database is not that of the log, or not any     | nothing: the cache has to be opened again  |
 * |           | more, or another writer has taken it over           |                                            |
 * | closed    | close()                                             |                                            |
 *
 * **Outcomes.** After a failed write nothing is known: the connection may have broken before, during or after COMMIT.
 * So the writer reads the cursor first. Where the batch would have put it, the batch was committed; where it was, the
 * batch is written again, the same one: nothing is added to a batch that was sent. Anywhere else, identity.ts judges it
 * as at the beginning: a writer of this log that died with a batch on its way may have moved it, and this one goes on
 * from there; a copy of the log stops it. A call that took too long may still have its effect later, while the batch is
 * written again: the cursor decides then which of the two has any.
 *
 * **Healing.** A cursor before the last confirmed one means that the database has gone back, its rows with it. The
 * writer goes on from there, as from any cursor: what is behind it is owed again. While nothing is to be written it
 * looks at the cursor now and then, so that it finds out while the log still has what is needed.
 *
 * This file has its course and its states. Calls of the database are in calls.ts, what is read of the log and what a
 * batch is in gatherer.ts and batcher.ts, the log's own cursor in following-cursor.ts, and what the log keeps for
 * healing in kept-history.ts.
 */
import {
  type Backend,
  type Change,
  type Cursor,
  type DeadLetter,
  type DeadLetters,
  sameCursor,
  type WriteBatch,
} from '../backend/index.ts';
import { CairnError } from '../errors.ts';
import { earlier, later, type Position } from '../log/index.ts';
import type { RuleSet } from '../rules/index.ts';
import { type Batch, Batcher, type BatchLimits, type EntryEnd } from './batcher.ts';
import { Calls, type CallsOptions, type Failure } from './calls.ts';
import { Changed } from './changed.ts';
import { type WriterClock, within } from './clock.ts';
import { FollowingCursor } from './following-cursor.ts';
import { Gatherer } from './gatherer.ts';
import { judge, type LogIdentity, ONE_LANE, Refusal } from './identity.ts';
import { KeptHistory } from './kept-history.ts';
import { type Letters, lettersBehind } from './letters-behind.ts';
import { RowRate } from './row-rate.ts';
import type { WriterMarks } from './stored-marks.ts';
import type { WriterLog } from './writer-log.ts';

export type WriterState = 'opening' | 'writing' | 'healing' | 'retrying' | 'halted' | 'paused' | 'refused' | 'closed';

/** A batch that the database has. */
export interface Committed {
  readonly changes: readonly Change[];
  readonly recordCount: number;
  readonly bytes: number;
  readonly deadLetters: readonly DeadLetter[];
  /** Until the database answered, all tries included. */
  readonly elapsedMs: number;
  readonly position: Position;
}

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

export interface WriterOptions extends Omit<CallsOptions, 'ending' | 'onFailed'> {
  readonly log: WriterLog;
  readonly marks: WriterMarks;
  readonly limits: BatchLimits;
  /** Which keys are written; undefined: all. */
  readonly rules?: RuleSet | undefined;
  /** The rows that the database gets in a second; 0: without a limit. */
  readonly rowsPerSecond: number;
  /** No dead letter is kept. */
  readonly dropsRefused: boolean;
  /** For how long the log keeps what the database has; 0: it does not. */
  readonly retainMs: number;
  /** How far the database was, as WriterData says. */
  readonly reached: SharedArrayBuffer;
  readonly on: WriterEvents;
}

/** How long close() waits for a database that does not answer any more, and then for the log. */
const END_MS = 1000;
/** While nothing is to be written, the cursor of the database is looked at this often. */
export const LOOK_MS = 10_000;

export class Writer {
  readonly #options: WriterOptions;
  readonly #log: WriterLog;
  readonly #clock: WriterClock;
  readonly #changed = new Changed();
  /** No further call is begun. */
  readonly #ending = new AbortController();
  readonly #calls: Calls;
  readonly #batcher: Batcher;
  readonly #rate: RowRate;
  readonly #gatherer: Gatherer;
  #stopGathering = new AbortController();
  readonly #logCursor: FollowingCursor;
  readonly #history: KeptHistory;
  #state: WriterState = 'opening';
  #isPaused = false;
  #closing: Promise<void> | undefined;
  /** The cursor of the database; undefined: it has none. */
  #cursor: Cursor | undefined;
  /** Everything before this is in the database. */
  #confirmed: Position;
  /** The furthest that it was, by whichever writer of the cache: beyond `confirmed` while the database is healed. */
  readonly #reached: BigUint64Array;
  /** When the cursor of the database was last known to be where it should; undefined: it is to be looked at. */
  #seenMs: number | undefined;
  /** What a look at the database has found instead. */
  #moved: readonly Cursor[] | undefined;
  #writing: Batch | undefined;
  #refusal: Refusal | undefined;
  /** What the log says of its oldest record behind what has been read, which costs a look into its files. */
  #unread: { readonly from: Position; readonly oldestMs: number } | undefined;
  /** Resolves when it has ended: closed, or refused. Rejects for a fault of ours. */
  readonly ended: Promise<void>;

  constructor(options: WriterOptions) {
    const { log, marks, connect, limits, rules, callTimeoutMs, clock, random } = options;
    this.#options = options;
    this.#log = log;
    this.#clock = clock;
    this.#reached = new BigUint64Array(options.reached);
    this.#reached[0] = later(this.reached, log.confirmed);
    this.#confirmed = this.reached;
    this.#logCursor = new FollowingCursor(log, clock);
    this.#history = new KeptHistory({
      ...{ log, clock, retainMs: options.retainMs },
      onShort: (keptMs) => options.on.historyShort(keptMs),
    });
    this.#rate = new RowRate(options.rowsPerSecond);
    this.#batcher = new Batcher(limits, marks, rules);
    this.#gatherer = new Gatherer({
      ...{ log, clock, random, batcher: this.#batcher, changed: this.#changed },
      onFailed: (error) => this.#onUnreadable(error),
      onRecovered: () => this.#workIfWell(),
    });
    this.#calls = new Calls({
      ...{ connect, callTimeoutMs, clock, random, ending: this.#ending.signal },
      onFailed: (failure) => this.#onFailed(failure),
    });
    this.ended = this.#run();
  }

  get #isEnding(): boolean {
    return this.#ending.signal.aborted;
  }

  get state(): WriterState {
    return this.#state;
  }

  /** Everything before this is in the database. */
  get confirmed(): Position {
    return this.#confirmed;
  }

  /**
   * Everything before this was in the database at some time. An answer of the database that was asked for later, and
   * whose cursor is before this, is of an earlier state: tell it to doubt().
   */
  get reached(): Position {
    return this.#reached[0]!;
  }

  /** The database has gone back, and does not have all yet that it had. */
  get isHealing(): boolean {
    return this.#confirmed < this.reached;
  }

  /** What the log keeps for a database that goes back: the time that it may go back by, and the bytes. */
  get history(): { readonly ms: number; readonly bytes: number } {
    const { position, keptMs } = this.#history;
    if (position === undefined) return { ms: 0, bytes: 0 };
    const bytes = this.#log.bytesFrom(position) - this.#log.bytesFrom(this.#confirmed);
    return { ms: keptMs, bytes: Math.max(0, bytes) };
  }

  /** The database may have gone back: its cursor is looked at as soon as nothing is to be written. */
  doubt(): void {
    this.#seenMs = undefined;
    this.#changed.notify();
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
    const { records, bytes, oldestMs } = this.#batcher.waiting;
    const batch = this.#writing;
    if (batch === undefined) return { records, bytes, oldestMs: oldestMs ?? this.#oldestUnreadMs() };
    const { recordCount, bytes: batchBytes } = batch.changes;
    return { records: records + recordCount, bytes: bytes + batchBytes, oldestMs: batch.oldestMs ?? oldestMs };
  }

  #oldestUnreadMs(): number | undefined {
    if (this.isIdle) return undefined;
    const from = later(this.#batcher.position, this.#confirmed);
    if (this.#unread?.from === from) return this.#unread.oldestMs;
    try {
      const oldestMs = this.#log.timeFrom(from);
      if (oldestMs !== undefined) this.#unread = { from, oldestMs };
      return oldestMs;
    } catch {
      // The gatherer will say what is wrong with the log.
      return undefined;
    }
  }

  /**
   * Writes everything before a position at once, and resolves when the database has it. Rejects if this writer has
   * stopped, or when the signal says that the caller does not wait any more; while the database cannot be written, it
   * waits.
   */
  async drain(position: Position, signal?: AbortSignal): Promise<void> {
    const look = (): void => this.#changed.notify();
    signal?.addEventListener('abort', look, { once: true });
    this.#batcher.flushTo(position);
    this.#changed.notify();
    try {
      while (!this.has(position)) {
        signal?.throwIfAborted();
        if (this.#refusal !== undefined) throw this.#refusal.error;
        if (this.#state === 'closed') throw new CairnError('ERR_CLOSED', 'The cache was closed');
        await this.#changed.wait();
      }
    } finally {
      signal?.removeEventListener('abort', look);
    }
  }

  /**
   * Whether the database has everything before a position. Of entries without changes there is nothing to confirm, so a
   * position behind which nothing is on its way counts too.
   */
  has(position: Position): boolean {
    return (
      this.#confirmed >= position ||
      (this.#batcher.position >= position && this.#batcher.isEmpty && this.#writing === undefined)
    );
  }

  /** The cursors of the database; none: it has none yet. */
  get cursors(): readonly Cursor[] {
    return this.#cursor === undefined ? [] : [this.#cursor];
  }

  /** One call of the database beside those of the writer. Rejects with its error, and if this writer has stopped. */
  async use<T>(run: (backend: Backend) => Promise<T>): Promise<T> {
    if (this.#refusal !== undefined) throw this.#refusal.error;
    return this.#calls.use(run);
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
    this.#changed.notify();
  }

  /** Writes nothing until resume(); a batch that is being written is finished. */
  pause(): void {
    this.#isPaused = true;
    if (this.#state === 'writing' || this.#state === 'healing') this.#enter('paused');
    this.#changed.notify();
  }

  resume(): void {
    this.#isPaused = false;
    if (this.#state === 'paused') this.#work();
    this.#changed.notify();
  }

  /**
   * Writes what the log has by now, within the time, and ends; 0: at once, `Infinity`: without a limit. A database that
   * only a person can mend, or a pause, is not waited for. What is left stays in the log. Never rejects. A second call
   * returns the same promise.
   */
  close(timeoutMs: number): Promise<void> {
    this.#closing ??= this.#close(timeoutMs);
    return this.#closing;
  }

  async #close(timeoutMs: number): Promise<void> {
    const drained = this.#drainOrGiveUp(this.#log.end());
    if (timeoutMs > 0) await within(this.#clock, timeoutMs, drained);
    this.#ending.abort();
    this.#stopGathering.abort();
    this.#logCursor.stop();
    this.#changed.notify();
    // Ends a call in progress, which may or may not have had its effect. A database that hangs is not waited for.
    await within(this.#clock, END_MS, Promise.all([this.#calls.disconnect(), this.ended.catch(() => {})]));
    await within(this.#clock, END_MS, Promise.all([this.#logCursor.end(this.#confirmed), this.#history.settled()]));
    this.#enter('closed');
    this.#changed.notify();
  }

  async #drainOrGiveUp(position: Position): Promise<void> {
    this.#batcher.flushTo(position);
    this.#changed.notify();
    while (!this.has(position)) {
      if (this.#state === 'halted' || this.#state === 'paused' || this.#refusal !== undefined) return;
      await this.#changed.wait();
    }
  }

  // ---- its course ----

  async #run(): Promise<void> {
    let cursors = await this.#calls.untilAnswered((backend) => backend.readCursors());
    while (cursors !== undefined && (await this.#begin(cursors))) cursors = await this.#carry();
    this.#changed.notify();
  }

  // Finds where to go on. False: it is refused.
  async #begin(cursors: readonly Cursor[]): Promise<boolean> {
    this.#succeeded();
    const found = judge(cursors, this.#identity(), this.#calls.name);
    if (found instanceof Refusal) {
      this.#refusal = found;
      this.#enter('refused', found.error);
      this.#changed.notify();
      return false;
    }
    const position = found?.position ?? 0n;
    this.#cursor = found;
    if (position > this.#confirmed && !(await this.#catchUp(position))) return false;
    // What was gathered is read again. Until then it is on its way, which drain() sees.
    this.#batcher.begin(position);
    this.#writing = undefined;
    if (position < this.#confirmed) await this.#goBack(position);
    this.#confirm(position);
    return true;
  }

  // A writer of this process may have died behind a batch that the database has. False: the end has come.
  async #catchUp(position: Position): Promise<boolean> {
    const { marks } = this.#options;
    const behind = await this.#lettersBehind(this.#confirmed, position);
    if (behind === undefined) return false;
    for (const letter of behind.letters) marks.refuse(letter, true);
    marks.raiseBetween(this.#confirmed, position);
    await this.#dropLetters(behind);
    return true;
  }

  // Those of a mode that keeps none. Callers have been told, and memory, so that a writer that dies before finds them.
  async #dropLetters({ ids }: Letters): Promise<void> {
    if (!this.#options.dropsRefused || ids.length === 0) return;
    await this.#calls.untilAnswered(async ({ deadLetters }) => deadLetters?.drop(ids));
  }

  #lettersBehind(after: Position, end: Position): Promise<Letters | undefined> {
    return this.#calls.untilAnswered((backend) => lettersBehind(backend, { logId: this.#log.logId, after, end }));
  }

  // The database has. From now on everything behind this is owed to it.
  async #goBack(position: Position): Promise<void> {
    this.#confirmed = position;
    this.#options.on.healing(this.#log.bytesFrom(position) - this.#log.bytesFrom(this.reached));
    await this.#logCursor.goBack(position);
  }

  // Carries batches from the cursor on, until it has ended, which is undefined; or until the cursor is elsewhere.
  async #carry(): Promise<readonly Cursor[] | undefined> {
    this.#work();
    this.#stopGathering = new AbortController();
    const gathering = this.#gatherer.run(this.#readFrom(), this.#stopGathering.signal);
    let moved: readonly Cursor[] | undefined;
    for (let batch = await this.#next(); batch !== undefined; batch = await this.#next()) {
      const outcome = await this.#write(batch);
      if (outcome === 'ended') break;
      if (outcome !== 'written') {
        moved = outcome;
        break;
      }
    }
    this.#stopGathering.abort();
    this.#changed.notify();
    await gathering;
    moved ??= this.#moved;
    this.#moved = undefined;
    return moved;
  }

  #readFrom(): Position {
    const { position } = this.#batcher;
    if (!this.isHealing) return this.#logCursor.position;
    const from = earlier(this.#logCursor.position, this.#history.readFrom(position));
    return from < this.#log.oldest() ? position : from;
  }

  // Looks at the cursor of the database when that has not been seen for a while. True: it is elsewhere, or the end has
  // come.
  async #look(): Promise<boolean> {
    const cursors = await this.#calls.untilAnswered((backend) => backend.readCursors());
    if (cursors === undefined) return true;
    this.#succeeded();
    if (cursors.length > 1 || !sameCursor(cursors[0], this.#cursor)) {
      this.#moved = cursors;
      return true;
    }
    this.#see();
    return false;
  }

  #see(): void {
    this.#seenMs = this.#clock.steadyMs();
    this.#history.seen(this.#confirmed);
  }

  // Milliseconds until a batch is to be taken; undefined: when something changes.
  #dueInMs(): number | undefined {
    if (this.#isPaused) return undefined;
    const nowMs = this.#clock.steadyMs();
    const dueInMs = this.#batcher.dueInMs(
      nowMs,
      this.#options.marks.isWanted(),
      this.isHealing ? this.reached : undefined,
    );
    return dueInMs === undefined ? undefined : Math.max(dueInMs, this.#rate.waitMs(nowMs));
  }

  // Takes the next batch when it is due; undefined: there is nothing to write any more.
  async #next(): Promise<Batch | undefined> {
    for (;;) {
      if (this.#isEnding || this.#moved !== undefined) return undefined;
      this.#raiseMarks();
      const dueInMs = this.#dueInMs();
      if (dueInMs === 0) {
        this.#writing = this.#batcher.take();
        this.#rate.count(this.#writing.changes.rowCount, this.#clock.steadyMs());
        // The reader may go on.
        this.#changed.notify();
        return this.#writing;
      }
      if (dueInMs !== undefined) await this.#changedWithin(dueInMs);
      else {
        const lookInMs = this.#seenMs === undefined ? 0 : this.#seenMs + LOOK_MS - this.#clock.steadyMs();
        if (lookInMs > 0) await this.#changedWithin(lookInMs);
        else if (await this.#look()) return undefined;
      }
    }
  }

  // Writes a batch, however often it takes; or finds that the cursor is elsewhere.
  async #write(batch: Batch): Promise<'written' | 'ended' | readonly Cursor[]> {
    const begunMs = this.#clock.steadyMs();
    const changes = batch.changes.list();
    const { history } = batch.changes;
    const rows = history.length === 0 ? { changes } : { changes, history };
    const write: WriteBatch = { ...rows, from: this.#cursor, to: this.#cursorAt(batch.end) };
    for (;;) {
      await this.#resumed();
      if (this.#isEnding) return 'ended';
      const outcome = await this.#calls.once((backend) => backend.write(write));
      let found: readonly Cursor[];
      let deadLetters: readonly DeadLetter[] = [];
      if ('error' in outcome) {
        if (this.#isEnding) return 'ended';
        await this.#calls.failed(outcome);
        const cursors = await this.#calls.untilAnswered((backend) => backend.readCursors());
        if (cursors === undefined) return 'ended';
        found = cursors;
      } else if (outcome.value.kind === 'committed') {
        found = [write.to];
        deadLetters = outcome.value.deadLetters;
      } else found = outcome.value.found === undefined ? [] : [outcome.value.found];

      // Nothing was written: this try counts as a failure, though the database has answered.
      if (found.length < 2 && sameCursor(found[0], write.from)) continue;
      this.#succeeded();
      if (found.length !== 1 || !sameCursor(found[0], write.to)) return found;
      const isToldAll = 'value' in outcome && outcome.value.kind === 'committed';
      let behind: Letters | undefined;
      if (!isToldAll || (this.#options.dropsRefused && deadLetters.length > 0)) {
        behind = await this.#lettersBehind(write.from?.position ?? 0n, write.to.position);
        if (behind === undefined) return 'ended';
        if (!isToldAll) deadLetters = behind.letters;
      }
      this.#cursor = write.to;
      for (const letter of deadLetters) this.#options.marks.refuse(letter);
      if (batch.versions !== undefined) this.#options.marks.raise(batch.versions);
      this.#options.on.committed({
        changes,
        recordCount: batch.changes.recordCount,
        bytes: batch.changes.bytes,
        deadLetters,
        elapsedMs: this.#clock.steadyMs() - begunMs,
        position: write.to.position,
      });
      this.#writing = undefined;
      this.#confirm(write.to.position);
      if (behind !== undefined) await this.#dropLetters(behind);
      return 'written';
    }
  }

  // Of what changes no row, and so belongs to no batch. The log forgets records behind the marks only: memory looks
  // there for a value that has left it, until its mark says that the database has it.
  #raiseMarks(): void {
    const { marks } = this.#options;
    if (this.has(marks.openedAt)) {
      marks.raiseRecovered();
      if (this.#confirmed > this.#logCursor.position) this.#logCursor.follow(this.#confirmed);
    }
    const barren = this.#batcher.takeBarren();
    if (barren !== undefined) marks.raise(barren);
  }

  #cursorAt({ position, epoch, writer }: EntryEnd): Cursor {
    return { ...ONE_LANE, logId: this.#log.logId, position, epoch, writer };
  }

  #identity(): LogIdentity {
    const { directory, logId } = this.#log;
    return {
      directory,
      logId,
      confirmed: this.reached,
      oldest: this.#log.oldest(),
      end: this.#log.end(),
      stateAt: (position) => this.#log.stateAt(position),
    };
  }

  #confirm(position: Position): void {
    const wasHealing = this.isHealing;
    this.#confirmed = later(this.#confirmed, position);
    this.#reached[0] = later(this.reached, position);
    this.#see();
    if (wasHealing && !this.isHealing) {
      this.#options.on.healed();
      if (this.#state === 'healing') this.#work();
    }
    this.#changed.notify();
  }

  // Waits while the writer is paused.
  async #resumed(): Promise<void> {
    while (this.#isPaused && !this.#isEnding) {
      this.#enter('paused');
      await this.#changed.wait();
    }
  }

  #onUnreadable(error: Error): void {
    // The log has removed what the database lacks since it went back.
    if (this.#cursor !== undefined && this.#cursor.position < this.#log.oldest()) this.#moved = [this.#cursor];
    this.#enter('halted', error);
    this.#changed.notify();
  }

  #onFailed({ error, isHalting }: Failure): void {
    this.#options.on.retry(error);
    this.#enter(isHalting ? 'halted' : 'retrying', error);
  }

  #succeeded(): void {
    if (!this.#calls.areFailing) return;
    this.#calls.succeeded();
    this.#workIfWell();
  }

  #workIfWell(): void {
    if (!this.#calls.areFailing && !this.#gatherer.isFailing) this.#work();
  }

  #work(): void {
    this.#enter(this.#isPaused ? 'paused' : this.isHealing ? 'healing' : 'writing');
  }

  // Until something changes, or the time is over.
  async #changedWithin(ms: number): Promise<void> {
    const timer = this.#clock.after(ms, () => this.#changed.notify());
    await this.#changed.wait();
    timer.stop();
  }

  #enter(state: WriterState, cause?: Error): void {
    if (this.#state === state || this.#state === 'closed') return;
    if (this.#state === 'refused' && state !== 'closed') return;
    this.#state = state;
    this.#options.on.state(state, cause);
    this.#changed.notify();
  }
}
