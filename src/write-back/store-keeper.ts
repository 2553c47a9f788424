/**
 * The main thread's side of one database: starts its writer (running.ts), and another one if it dies or does not
 * answer, and stands between it and the keeper of all databases of the cache (keeper.ts).
 *
 * | the keeper is | the writer is             | drain(), pause(), resume()     | close()      | the thread dies   |
 * |---------------|---------------------------|--------------------------------|--------------|-------------------|
 * | opening       | asking for the cursor     |                                |              | another begins    |
 * | running       | at work, or restarting    | are asked of it, and of a next | asks it to   | the same          |
 * |               |                           |                                | end          |                   |
 * | closing       | writing the rest          | reject with `ERR_CLOSED`       | same promise | the rest stays in |
 * |               |                           |                                |              | the log           |
 * | closed        | not there                 | the same                       | same promise |                   |
 *
 * The thread keeps the process alive only while a caller awaits one of these promises.
 */
import type { Worker } from 'node:worker_threads';
import type { AddedAgain, KeptDeadLetter, RefusedKey } from '../backend/index.ts';
import { CairnError, misplaced } from '../errors.ts';
import { Loads } from '../loads.ts';
import { AtomicBatches, type BackedHandle, type LoadHandle, type RetryHandle, StoredHealth } from '../native.ts';
import type { StoreTarget } from '../options.ts';
import { RuleSet } from '../rules/index.ts';
import {
  attachScribe,
  errorFrom,
  type LogFiles,
  type LogKeeper,
  type PlainError,
  Unanswered,
} from '../scribe/index.ts';
import { newPulse, Supervisor } from '../supervisor.ts';
import { systemClock, within } from './clock.ts';
import { LetterRetry, type RetriedDeadLetter } from './letter-retry.ts';
import type { StoreNotice, StoreSeat, WriteBackOptions, WriterCommand, WriterReport } from './message.ts';
import { NUMBERS_BYTES, WRITER_STATES, WriteBackMetrics } from './metrics.ts';
import { keptFrom, refusedFrom } from './remote.ts';
import { type RunningEvents, type RunningWriter, WriterHere, WriterThread } from './running.ts';
import { isUnfit } from './store.ts';
import { newWarmUp } from './warm-up-numbers.ts';
import type { WriterState } from './writer.ts';

/** What close() allows the writer beyond its time. */
const CLOSE_GRACE_MS = 3000;

/** A database, and how the log is carried to it. */
export interface CarriedStore {
  readonly seat: StoreSeat;
  /** One that any thread can open, or one that belongs to this thread. */
  readonly store: StoreTarget;
  readonly options: WriteBackOptions;
  /** How far the database was before the cache was open, as WriterData says; 0: no farther than the log has noted. */
  readonly reached: SharedArrayBuffer;
}

export interface StoreKeeperOptions extends CarriedStore {
  readonly cacheId: number;
  readonly log: LogKeeper;
  readonly onNotice: (notice: StoreNotice) => void;
}

export class StoreKeeper {
  readonly #options: StoreKeeperOptions;
  readonly #files: LogFiles;
  readonly #handle: LoadHandle & BackedHandle & RetryHandle;
  readonly #pulse = newPulse();
  readonly #reached: SharedArrayBuffer;
  readonly #numbers = new SharedArrayBuffer(NUMBERS_BYTES);
  readonly #warmUpNumbers: SharedArrayBuffer | undefined;
  readonly #metrics: WriteBackMetrics;
  readonly #unanswered = new Unanswered<WriterCommand>();
  readonly #supervisor: Supervisor<RunningWriter>;
  #ids = 0;
  #isPaused = false;
  /** How many batches there were when the last thread died; undefined: none has. */
  #batchesAtDeath: number | undefined;
  #isClosed = false;
  #closing: Promise<void> | undefined;
  /** Resolves when no dead letters are tried again. */
  #retrying: Promise<unknown> = Promise.resolve();

  constructor(options: StoreKeeperOptions) {
    this.#options = options;
    this.#metrics = new WriteBackMetrics(this.#numbers, options.seat.number);
    const { files } = options.log;
    if (files === undefined) throw new Error('Only a log of files can be written back');
    this.#files = files;
    this.#handle = attachScribe(options.cacheId, options.seat.number) as LoadHandle & BackedHandle & RetryHandle;
    // Until the writer knows the database.
    this.#handle.setAtomicBatches(AtomicBatches.unknown);
    this.#reached = options.reached;
    if (options.options.warmUp !== undefined) this.#warmUpNumbers = newWarmUp(options.cacheId);
    this.#supervisor = new Supervisor({
      start: (died) => this.#start(died),
      onStarted: (running) => {
        for (const command of this.#unanswered.commands()) running.post(command);
      },
      onDeath: (cause, isLast) => this.#onDeath(cause, isLast),
      pulse: this.#pulse,
      task: 'writes to the database',
    });
  }

  /**
   * Starts to write the log to the database. Resolves when the database has been found to belong to the log, or does
   * not answer. Rejects with `ERR_STORE_REFUSED` if it does not, and with what its module throws.
   */
  async open(): Promise<void> {
    await this.#supervisor.open();
  }

  // ---- what a cache asks ----

  async drain(signal?: AbortSignal): Promise<void> {
    const position = await this.#options.log.committedUpTo('durable', signal);
    signal?.throwIfAborted();
    await this.#ask({ kind: 'drain', id: ++this.#ids, position }, signal);
  }

  async pause(): Promise<void> {
    this.#isPaused = true;
    await this.#ask({ kind: 'pause', id: ++this.#ids });
  }

  async resume(): Promise<void> {
    this.#isPaused = false;
    await this.#ask({ kind: 'resume', id: ++this.#ids });
  }

  async deadLetters(limit: number, after: bigint): Promise<readonly KeptDeadLetter[]> {
    return keptFrom(await this.#ask({ kind: 'list-dead-letters', id: ++this.#ids, limit, after }));
  }

  async refusedKey(keys: readonly Uint8Array[]): Promise<RefusedKey | undefined> {
    return refusedFrom(await this.#ask({ kind: 'find-refused-key', id: ++this.#ids, keys }));
  }

  async dropDeadLetters(ids: readonly bigint[]): Promise<number> {
    return (await this.#ask({ kind: 'drop-dead-letters', id: ++this.#ids, ids })) as number;
  }

  async retryDeadLetters(ids: readonly bigint[] | 'all'): Promise<readonly RetriedDeadLetter[]> {
    // A change that is refused once more would be dropped, and be nowhere.
    if (this.#options.options.dropsRefused) {
      throw misplaced(
        "A cache of mode 'write-through' keeps no dead letters: open it with mode: 'write-back' to retry those of before",
      );
    }
    const retry = new LetterRetry({
      letters: {
        list: (limit, after = 0n) => this.deadLetters(limit, after),
        drop: (given) => this.dropDeadLetters(given),
        addAgain: (letter) => this.#addAgain(letter),
      },
      handle: this.#handle,
      rules: RuleSet.from(this.#options.options.rules),
      drain: () => this.drain(),
      load: (key) => this.#load(key),
      wallMs: () => systemClock.wallMs(),
    });
    // One after another: the handle watches the keys of one of them.
    const retried = this.#retrying.then(() => retry.run(ids));
    this.#retrying = retried.catch(() => {});
    return retried;
  }

  async #addAgain(letter: bigint): Promise<AddedAgain | undefined> {
    return (await this.#ask({ kind: 'add-again', id: ++this.#ids, letter })) as AddedAgain | undefined;
  }

  async #load(key: Buffer): Promise<void> {
    const unknown = await Loads.of(this.#handle)!.load('Cannot try a dead letter again', [key]);
    if (unknown.size > 0) throw new CairnError('ERR_NOT_RESIDENT', 'the database did not answer for the value');
  }

  /** The thread that writes, if there is one: for tests. */
  get thread(): Worker | undefined {
    const { running } = this.#supervisor;
    return running instanceof WriterThread ? running.worker : undefined;
  }

  /**
   * Ends the writer; with `finishes`, what the log has by now is written before, within the time (0: no limit). What is
   * left stays in the log. Never rejects. A second call returns the same promise.
   */
  close(timeoutMs: number, finishes: boolean): Promise<void> {
    this.#supervisor.isLast();
    this.#closing ??= this.#close(timeoutMs, finishes);
    return this.#closing;
  }

  async #close(timeoutMs: number, finishes: boolean): Promise<void> {
    const begunMs = performance.now();
    const isLimited = timeoutMs > 0 || !finishes;
    if (finishes) await within(systemClock, isLimited ? timeoutMs : Number.POSITIVE_INFINITY, this.#logged());
    const leftMs = timeoutMs === 0 ? 0 : Math.max(1, timeoutMs - (performance.now() - begunMs));
    // It may have died meanwhile, and then there is no other: the rest stays in the log.
    if (this.#supervisor.isThere) {
      const ended = this.#ask({ kind: 'close', id: ++this.#ids, timeoutMs: leftMs, finishes }).catch(() => {
        // It has died now.
      });
      const limitMs = isLimited ? (finishes ? leftMs : 0) + CLOSE_GRACE_MS : Number.POSITIVE_INFINITY;
      await within(systemClock, limitMs, ended);
    }
    this.#isClosed = true;
    this.#supervisor.end();
    const closed = new CairnError('ERR_CLOSED', 'The cache was closed');
    this.#unanswered.rejectAll(closed);
    this.#metrics.set('state', WRITER_STATES.indexOf('closed'));
    this.#metrics.publish(this.#handle);
    // Their answers do not come any more.
    this.#handle.setStoredHealth(StoredHealth.stopped);
    this.#handle.close();
  }

  // What the cache has done is in the log, where the writer finds it.
  async #logged(): Promise<void> {
    try {
      await this.#options.log.committedUpTo('durable');
    } catch {
      // The log says itself that it cannot be written.
    }
  }

  #ask(command: WriterCommand, signal?: AbortSignal): Promise<unknown> {
    const isTooLate = this.#isClosed || (this.#closing !== undefined && command.kind !== 'close');
    if (isTooLate) return Promise.reject(new CairnError('ERR_CLOSED', 'The cache was closed'));
    const { id } = command;
    const answer = this.#unanswered.add(command, signal, () => this.#supervisor.running?.post({ kind: 'cancel', id }));
    this.#supervisor.running?.post(command);
    return this.#supervisor.holdWhile(answer);
  }

  // ---- the writer ----

  #start(died: (cause: Error) => void): RunningWriter {
    const { seat, store, options, cacheId, log } = this.#options;
    const given = {
      files: this.#files,
      seat,
      options,
      isPaused: this.#isPaused,
      pulse: this.#pulse,
      reached: this.#reached,
      numbers: this.#numbers,
      warmUpNumbers: this.#warmUpNumbers,
    };
    const events: RunningEvents = { report: (report) => this.#onReport(report), died };
    if (store.kind !== 'object') return new WriterThread({ ...given, cacheId, store }, events);
    return new WriterHere({ ...given, backend: store.backend, log, handle: this.#handle }, events);
  }

  #onReport(report: WriterReport): void {
    switch (report.kind) {
      case 'state':
        this.#onState(report.state, report.cause === undefined ? undefined : errorFrom(report.cause));
        break;
      case 'notice':
        this.#options.onNotice(noticeFrom(report.notice));
        break;
      case 'done':
        this.#unanswered.settle(report);
        break;
      case 'failed':
        this.#onFailed(errorFrom(report.error));
        break;
    }
  }

  // A cache is not opened with a database that is not its own, or that only a person can make fit. A disk without room
  // for the log's entry says nothing of the database: it is written when there is room.
  #onState(state: WriterState, cause: Error | undefined): void {
    const isOfLog = cause instanceof CairnError && cause.code === 'ERR_LOG_FULL';
    if (cause !== undefined && (state === 'refused' || (isUnfit(cause) && !isOfLog))) this.#supervisor.isUnfit(cause);
    else this.#supervisor.isFit();
  }

  // Its database cannot be used by any thread, which only opening finds out; later a module may have been taken away.
  #onFailed(error: Error): void {
    this.#handle.setStoredHealth(StoredHealth.stopped);
    if (this.#supervisor.isUnfit(error)) return;
    this.#handle.failLoads(error.message);
    this.#options.onNotice({ kind: 'halted', cause: error });
  }

  #onDeath(cause: Error, isLast: boolean): void {
    if (isLast) {
      this.#unanswered.rejectAll(cause);
      return;
    }
    // Threads that die one after another, and write nothing between, confirm nothing: each begins well, and dies of
    // what it is to write.
    const batches = this.#metrics.get('batches');
    if (batches === this.#batchesAtDeath) this.#handle.setStoredHealth(StoredHealth.away);
    this.#batchesAtDeath = batches;
    this.#metrics.add('restarts', 1);
    this.#metrics.set('state', WRITER_STATES.indexOf('opening'));
    this.#metrics.publish(this.#handle);
    this.#options.onNotice({ kind: 'restarted', cause });
  }
}

// Cloning has made an array of a Buffer.
function noticeFrom(notice: StoreNotice): StoreNotice {
  if (!('cause' in notice)) return notice;
  const cause = errorFrom(notice.cause as PlainError);
  if (notice.kind !== 'dead-letter') return { ...notice, cause };
  return { ...notice, key: typeof notice.key === 'string' ? notice.key : Buffer.from(notice.key), cause };
}
