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
 * | paused    | pause()                                             | resume()                                   |
 * | refused   | the database is not that of the log, or not any     | nothing: the cache has to be opened again  |
 * |           | more, or another writer has taken it over           |                                            |
 * | closed    | close()                                             |                                            |
 *
 * **Outcomes.** After a failed write nothing is known: the connection may have broken before, during or after COMMIT.
 * So the writer reads the cursor first. Where the batch would have put it, the batch was committed; where it was, the
 * batch is written again, the same one: nothing is added to a batch that was sent. Anywhere else, identity.ts judges it
 * as at the beginning: a writer of this log that died with a batch on its way may have moved it, and this one goes on
 * from there; a copy of the log, or a database that has gone back, stops it.
 *
 * A call that does not return in time counts as failed, and its connection is closed. It may still
 * have its effect later; the cursor decides then which of the two has any.
 */
import type { Backend, Change, Cursor, DeadLetter, DeadLetters, WriteBatch } from '../backend/index.ts';
import { CairnError } from '../errors.ts';
import type { FenceState, LogEntry, Position } from '../log/index.ts';
import { retryDelayMs } from './backoff.ts';
import { type Batch, Batcher, type BatchLimits, type EntryEnd } from './batcher.ts';
import { Changed } from './changed.ts';
import type { WriterClock } from './clock.ts';
import { judge, type LogIdentity, ONE_LANE, Refusal, sameCursor } from './identity.ts';

/** The log as the writer uses it. */
export interface WriterLog {
  readonly directory: string;
  readonly logId: bigint;
  /** Everything before this is known to be in the database: the log's own cursor as of opening. */
  readonly confirmed: Position;
  /** The end of what a power cut leaves. */
  end(): Position;
  /** Bytes of it from a position on. */
  bytesFrom(position: Position): number;
  /** Epoch and writer of the entry that ends at a position; undefined: none does. */
  stateAt(position: Position): Pick<FenceState, 'epoch' | 'writer'> | undefined;
  /** The entries that a power cut leaves from a position on, and then each as it comes, until the signal says so. */
  read(from: Position, signal: AbortSignal): AsyncIterable<LogEntry>;
  /** Moves the log's own cursor: the log needs nothing before this position for the writer any more. */
  advance(position: Position): Promise<void>;
}

export type WriterState = 'opening' | 'writing' | 'retrying' | 'halted' | 'paused' | 'refused' | 'closed';

/** A batch that the database has. */
export interface Committed {
  readonly changes: readonly Change[];
  readonly recordCount: number;
  readonly bytes: number;
  readonly deadLetters: readonly DeadLetter[];
  /** Until the database answered, all tries included. */
  readonly elapsedMs: number;
  /** When the log took the oldest record of it. */
  readonly oldestMs: number;
  readonly position: Position;
}

/** What the writer tells; called synchronously, must not throw. */
export interface WriterEvents {
  /** `cause`: of `retrying`, `halted` and `refused`. */
  state(state: WriterState, cause: Error | undefined): void;
  committed(batch: Committed): void;
  /** A call has failed and is tried again. */
  retry(cause: Error): void;
}

export interface WriterOptions {
  readonly log: WriterLog;
  /** Makes the connection to the database; called again when a call has not returned. */
  readonly connect: () => Promise<Backend>;
  readonly limits: BatchLimits;
  /** A call that takes longer counts as failed. */
  readonly callTimeoutMs: number;
  readonly clock: WriterClock;
  /** In [0, 1). */
  readonly random: () => number;
  readonly on: WriterEvents;
}

/** The log's own cursor follows at most this often: each move costs a sync. */
export const LOG_CURSOR_MS = 1000;
/** The longest time for which entries are read in one go. */
const SLICE_MS = 10;

/** How long close() waits for a database that does not answer any more, and then for the log. */
const END_MS = 1000;

interface Failure {
  readonly error: Error;
  readonly isHalting: boolean;
}

interface LogCursorPlace {
  position: Position;
  /** When it was moved to there. */
  movedMs: number;
  /** Moves it. */
  timer: { stop(): void } | undefined;
}

export class Writer {
  readonly #options: WriterOptions;
  readonly #log: WriterLog;
  readonly #clock: WriterClock;
  readonly #changed = new Changed();
  #stopReading = new AbortController();
  readonly #batcher: Batcher;
  #backend: Backend | undefined;
  #isOpen = false;
  #name = 'The database';
  #state: WriterState = 'opening';
  #isPaused = false;
  #closing: Promise<void> | undefined;
  /** No further call is begun. */
  #isEnding = false;
  /** The cursor of the database; undefined: it has none. */
  #cursor: Cursor | undefined;
  /** Everything before this is in the database. */
  #confirmed: Position;
  #writing: Batch | undefined;
  #refusal: Refusal | undefined;
  /** Failures in a row. */
  #failures = 0;
  #readError: Error | undefined;
  readonly #logCursor: LogCursorPlace;
  /** Resolves when it has ended: closed, or refused. Rejects for a fault of ours. */
  readonly ended: Promise<void>;

  constructor(options: WriterOptions) {
    this.#options = options;
    this.#log = options.log;
    this.#clock = options.clock;
    this.#confirmed = options.log.confirmed;
    this.#batcher = new Batcher(options.limits);
    this.#logCursor = { position: options.log.confirmed, movedMs: Number.NEGATIVE_INFINITY, timer: undefined };
    this.ended = this.#run();
  }

  get state(): WriterState {
    return this.#state;
  }

  /** Everything before this is in the database. */
  get confirmed(): Position {
    return this.#confirmed;
  }

  /** Everything that the log has is in the database. */
  get isIdle(): boolean {
    return this.#has(this.#log.end());
  }

  /** What has been read and is not in the database yet; the log may have more behind it. */
  get owed(): { readonly records: number; readonly bytes: number; readonly oldestMs: number | undefined } {
    const { records, bytes, oldestMs } = this.#batcher.waiting;
    const batch = this.#writing;
    if (batch === undefined) return { records, bytes, oldestMs };
    const { recordCount, bytes: batchBytes } = batch.changes;
    return { records: records + recordCount, bytes: bytes + batchBytes, oldestMs: batch.oldestMs };
  }

  /**
   * Writes everything before a position at once, and resolves when the database has it. Rejects if this writer has
   * stopped; while the database cannot be written, it waits.
   */
  async drain(position: Position): Promise<void> {
    this.#batcher.flushTo(position);
    this.#changed.notify();
    while (!this.#has(position)) {
      if (this.#refusal !== undefined) throw this.#refusal.error;
      if (this.#state === 'closed') throw new CairnError('ERR_CLOSED', 'The cache was closed');
      await this.#changed.wait();
    }
  }

  // A position behind which nothing is on its way, too: of entries without changes there is nothing to confirm.
  #has(position: Position): boolean {
    return (
      this.#confirmed >= position ||
      (this.#batcher.position >= position && this.#batcher.isEmpty && this.#writing === undefined)
    );
  }

  /** The database's dead letters, over its connection. Rejects with what the database answers. */
  async useDeadLetters<T>(use: (letters: DeadLetters) => Promise<T>): Promise<T> {
    const outcome = await this.#call(async (backend) => {
      if (backend.deadLetters !== undefined) return use(backend.deadLetters);
      throw new CairnError('ERR_INVALID_ARGUMENT', `${backend.name} keeps no dead letters`);
    });
    if ('error' in outcome) throw outcome.error;
    return outcome.value;
  }

  /** Writes nothing until resume(); a batch that is being written is finished. */
  pause(): void {
    this.#isPaused = true;
    if (this.#state === 'writing') this.#enter('paused');
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
    if (timeoutMs > 0) await this.#within(timeoutMs, drained);
    this.#isEnding = true;
    this.#stopReading.abort();
    this.#changed.notify();
    // Ends a call in progress, which may or may not have had its effect. A database that hangs is not waited for.
    await this.#within(END_MS, Promise.all([this.#disconnect(), this.ended.catch(() => {})]));
    this.#logCursor.timer?.stop();
    await this.#within(END_MS, this.#moveLogCursor());
    this.#enter('closed');
    this.#changed.notify();
  }

  async #drainOrGiveUp(position: Position): Promise<void> {
    this.#batcher.flushTo(position);
    this.#changed.notify();
    while (!this.#has(position)) {
      if (this.#state === 'halted' || this.#state === 'paused' || this.#refusal !== undefined) return;
      await this.#changed.wait();
    }
  }

  // ---- its course ----

  async #run(): Promise<void> {
    let cursors = await this.#persist((backend) => backend.readCursors());
    while (cursors !== undefined && this.#begin(cursors)) cursors = await this.#carry();
    this.#stopReading.abort();
    this.#changed.notify();
  }

  // Finds where to go on. False: it is refused.
  #begin(cursors: readonly Cursor[]): boolean {
    this.#succeeded();
    const found = judge(cursors, this.#identity(), this.#name);
    if (found instanceof Refusal) {
      this.#refusal = found;
      this.#enter('refused', found.error);
      this.#changed.notify();
      return false;
    }
    this.#cursor = found;
    // What was gathered is read again. Until then it is on its way, which drain() sees.
    this.#batcher.begin(found?.position ?? 0n);
    this.#writing = undefined;
    this.#confirm(found?.position ?? 0n);
    return true;
  }

  // Carries batches from the cursor on, until it has ended, which is undefined; or until the cursor is elsewhere.
  async #carry(): Promise<readonly Cursor[] | undefined> {
    this.#work();
    this.#stopReading = new AbortController();
    const gathering = this.#gather(this.#stopReading.signal);
    let moved: readonly Cursor[] | undefined;
    for (let batch = await this.#next(); batch !== undefined; batch = await this.#next()) {
      const outcome = await this.#write(batch);
      if (outcome === 'ended') break;
      if (outcome !== 'written') {
        moved = outcome;
        break;
      }
      this.#followWithLogCursor();
    }
    this.#stopReading.abort();
    this.#changed.notify();
    await gathering;
    return moved;
  }

  // Takes the next batch when it is due; undefined: there is nothing to write any more.
  async #next(): Promise<Batch | undefined> {
    for (;;) {
      if (this.#isEnding) return undefined;
      const dueInMs = this.#isPaused ? undefined : this.#batcher.dueInMs(this.#clock.steadyMs());
      if (dueInMs === 0) {
        this.#writing = this.#batcher.take();
        // The reader may go on.
        this.#changed.notify();
        return this.#writing;
      }
      if (dueInMs === undefined) await this.#changed.wait();
      else await this.#changedWithin(dueInMs);
    }
  }

  // Writes a batch, however often it takes; or finds that the cursor is elsewhere.
  async #write(batch: Batch): Promise<'written' | 'ended' | readonly Cursor[]> {
    const begunMs = this.#clock.steadyMs();
    const changes = batch.changes.list();
    const write: WriteBatch = { changes, from: this.#cursor, to: this.#cursorAt(batch.end) };
    for (;;) {
      await this.#resumed();
      if (this.#isEnding) return 'ended';
      const outcome = await this.#call((backend) => backend.write(write));
      let found: readonly Cursor[];
      let deadLetters: readonly DeadLetter[] = [];
      if ('error' in outcome) {
        if (this.#isEnding) return 'ended';
        await this.#failed(outcome);
        const cursors = await this.#persist((backend) => backend.readCursors());
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
      this.#cursor = write.to;
      this.#options.on.committed({
        changes,
        recordCount: batch.changes.recordCount,
        bytes: batch.changes.bytes,
        deadLetters,
        elapsedMs: this.#clock.steadyMs() - begunMs,
        oldestMs: batch.oldestMs,
        position: write.to.position,
      });
      this.#writing = undefined;
      this.#confirm(write.to.position);
      return 'written';
    }
  }

  #cursorAt({ position, epoch, writer }: EntryEnd): Cursor {
    return { ...ONE_LANE, logId: this.#log.logId, position, epoch, writer };
  }

  #identity(): LogIdentity {
    const { directory, logId } = this.#log;
    return {
      directory,
      logId,
      confirmed: this.#confirmed,
      end: this.#log.end(),
      stateAt: (position) => this.#log.stateAt(position),
    };
  }

  #confirm(position: Position): void {
    if (position > this.#confirmed) this.#confirmed = position;
    this.#changed.notify();
  }

  // ---- reading the log ----

  // Gathers entries until it is told to stop. An error of the log halts the writer.
  async #gather(signal: AbortSignal): Promise<void> {
    let sliceEndMs = this.#clock.steadyMs() + SLICE_MS;
    let from = this.#confirmed;
    for (let failures = 0; !signal.aborted; ) {
      try {
        for await (const entry of this.#log.read(from, signal)) {
          while (this.#batcher.isFull && !signal.aborted) await this.#changed.wait();
          if (signal.aborted) return;
          if (entry.kind === 'lost') throw lost(this.#log.directory, entry);
          this.#batcher.add(entry, this.#clock.steadyMs());
          from = entry.end;
          failures = 0;
          this.#readAgain();
          this.#changed.notify();
          // A long log leaves room for the database's answers.
          if (this.#clock.steadyMs() < sliceEndMs) continue;
          await this.#clock.yield();
          sliceEndMs = this.#clock.steadyMs() + SLICE_MS;
        }
        // The log was closed.
        if (!signal.aborted) return;
      } catch (error) {
        this.#readError = asError(error);
        this.#enter('halted', this.#readError);
        await this.#sleep(retryDelayMs(++failures, true, this.#options.random), signal);
      }
    }
  }

  #readAgain(): void {
    if (this.#readError === undefined) return;
    this.#readError = undefined;
    if (this.#failures === 0) this.#work();
  }

  // ---- calls of the database ----

  // One call, on the connection that there is or on a new one.
  async #call<T>(run: (backend: Backend) => Promise<T>): Promise<{ readonly value: T } | Failure> {
    let timer: { stop(): void } | undefined;
    try {
      const isLate = new Promise<'late'>((resolve) => {
        timer = this.#clock.after(this.#options.callTimeoutMs, () => resolve('late'));
      });
      const running = this.#connected().then(run);
      const value = await Promise.race([running, isLate]);
      if (value !== 'late') return { value };
      running.catch(() => {
        // Nothing is waiting for it any more.
      });
      const error = new Error(`${this.#name} did not answer within ${this.#options.callTimeoutMs} ms`);
      void this.#disconnect();
      return { error, isHalting: false };
    } catch (error) {
      const isHalting = this.#backend !== undefined && this.#backend.classify(error) !== 'transient';
      return { error: asError(error), isHalting };
    } finally {
      timer?.stop();
    }
  }

  async #connected(): Promise<Backend> {
    if (this.#backend !== undefined && this.#isOpen) return this.#backend;
    this.#backend ??= await this.#options.connect();
    const backend = this.#backend;
    this.#name = backend.name;
    await backend.open();
    // Meanwhile the call may have been too late.
    if (this.#backend === backend) this.#isOpen = true;
    return backend;
  }

  async #disconnect(): Promise<void> {
    const backend = this.#backend;
    this.#backend = undefined;
    this.#isOpen = false;
    try {
      await backend?.close();
    } catch {
      // It is not used any more, whatever its end was.
    }
  }

  // Waits while the writer is paused.
  async #resumed(): Promise<void> {
    while (this.#isPaused && !this.#isEnding) {
      this.#enter('paused');
      await this.#changed.wait();
    }
  }

  // A call until it succeeds; undefined: the writer has ended. The caller says what counts as progress.
  async #persist<T>(run: (backend: Backend) => Promise<T>): Promise<T | undefined> {
    for (;;) {
      if (this.#isEnding) return undefined;
      const outcome = await this.#call(run);
      if (this.#isEnding) return undefined;
      if ('value' in outcome) return outcome.value;
      await this.#failed(outcome);
    }
  }

  // Says so, and waits.
  async #failed({ error, isHalting }: Failure): Promise<void> {
    this.#failures++;
    this.#options.on.retry(error);
    this.#enter(isHalting ? 'halted' : 'retrying', error);
    await this.#sleep(retryDelayMs(this.#failures, isHalting, this.#options.random));
  }

  #succeeded(): void {
    if (this.#failures === 0) return;
    this.#failures = 0;
    if (this.#readError === undefined) this.#work();
  }

  #work(): void {
    this.#enter(this.#isPaused ? 'paused' : 'writing');
  }

  // ---- the log's own cursor ----

  #followWithLogCursor(): void {
    const place = this.#logCursor;
    if (place.timer !== undefined) return;
    const waitMs = place.movedMs + LOG_CURSOR_MS - this.#clock.steadyMs();
    place.timer = this.#clock.after(Math.max(0, waitMs), () => {
      place.timer = undefined;
      if (!this.#isEnding) void this.#moveLogCursor();
    });
  }

  async #moveLogCursor(): Promise<void> {
    const position = this.#confirmed;
    if (position <= this.#logCursor.position) return;
    this.#logCursor.movedMs = this.#clock.steadyMs();
    try {
      await this.#log.advance(position);
      this.#logCursor.position = position;
    } catch {
      // The log says itself that it cannot be written. Until the next time it keeps more than it needs.
    }
  }

  // ---- waiting ----

  // Until something changes, or the time is over.
  async #changedWithin(ms: number): Promise<void> {
    const timer = this.#clock.after(ms, () => this.#changed.notify());
    await this.#changed.wait();
    timer.stop();
  }

  // The whole time, unless the writer ends before, or the signal comes.
  async #sleep(ms: number, signal?: AbortSignal): Promise<void> {
    let isOver = false;
    const timer = this.#clock.after(ms, () => {
      isOver = true;
      this.#changed.notify();
    });
    while (!isOver && !this.#isEnding && !signal?.aborted) await this.#changed.wait();
    timer.stop();
  }

  async #within(ms: number, work: Promise<unknown>): Promise<void> {
    if (ms === Number.POSITIVE_INFINITY) {
      await work;
      return;
    }
    let timer: { stop(): void } | undefined;
    const late = new Promise<void>((resolve) => {
      timer = this.#clock.after(ms, resolve);
    });
    await Promise.race([late, work]);
    timer?.stop();
  }

  #enter(state: WriterState, cause?: Error): void {
    if (this.#state === state || this.#state === 'closed') return;
    if (this.#state === 'refused' && state !== 'closed') return;
    this.#state = state;
    this.#options.on.state(state, cause);
    this.#changed.notify();
  }
}

function lost(directory: string, { recordCount, position }: LogEntry): CairnError {
  return new CairnError(
    'ERR_WRITE_BACK',
    `${recordCount} records of the log in ${directory} behind position ${position} are lost: the database does not get them`,
  );
}

function asError(error: unknown): Error {
  return error instanceof Error ? error : new Error(String(error));
}
