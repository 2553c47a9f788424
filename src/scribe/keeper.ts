/**
 * The main thread's side of a log: takes the directory, starts the scribe's thread and another one if that dies, and
 * stands between them and the cache.
 *
 * A cache with a log has one keeper, however many `Cache` objects own it. The keeper has its own handle, so that
 * the cache lives until the log has everything.
 *
 * | the keeper is | the thread is    | sync(), snapshot()       | close()                 | the thread dies        |
 * |---------------|------------------|--------------------------|-------------------------|------------------------|
 * | opening       | recovering       |                          |                         | opening fails          |
 * | running       | at work          | are asked of it          | asks it to end          | another one is started |
 * | running again | at work          | the same, also what the  | the same                | failed                 |
 * |               |                  | first had not answered   |                         |                        |
 * | failed        | not there        | reject with `ERR_LOG_IO` | rejects, if anything is |                        |
 * |               |                  |                          | not in the log          |                        |
 * | closing       | writing the rest | reject with `ERR_CLOSED` | the same promise        | the first: another one |
 * |               |                  |                          |                         | closes; else rejects   |
 * | closed        | not there        | the same                 | the same promise        |                        |
 *
 * The thread keeps the process alive only while a caller awaits one of these promises. When the process exits, this
 * thread waits, for a bounded time, until the records in the rings are in the log: see {@link atExit}.
 */
import { getSystemErrorMap } from 'node:util';
import { BroadcastChannel, SHARE_ENV, Worker } from 'node:worker_threads';
import { CairnError, show } from '../errors.ts';
import { TIMER_MS_MAX } from '../limits.ts';
import { type DirectoryLock, nodeFiles, type Place, PROGRESS_BYTES, placeOf, Watermark } from '../log/index.ts';
import { lockByAddon } from '../native/directory-lock.ts';
import { type FeedHandle, FeedState, native, targetsOf } from '../native.ts';
import type { RecoveryProgress } from '../options/types.ts';
import { type Question, ScribeCommands } from './commands.ts';
import {
  CONTROL_WORDS,
  type Command,
  Control,
  type CursorsBefore,
  errorFrom,
  type LogFiles,
  noticeFrom,
  type OpeningQuestion,
  plainError,
  type RecoverySummary,
  type Report,
  type ScribeData,
  type ScribeNotice,
  type Told,
} from './message.ts';
import { type Carrier, type Filler, help } from './opening-help.ts';
import { type ChannelMessage, channelName, messageOf } from './remote.ts';
import { Unanswered } from './unanswered.ts';

/** How long the exit of the process waits for the log. */
const EXIT_WAIT_MS = 10_000;
/** How often it looks whether the log can still take them. */
const EXIT_LOOK_MS = 50;
/** What close() allows the thread beyond its time, before it does without an answer. */
const CLOSE_GRACE_MS = 2000;

/** What a keeper is made with; the rest is in the files. */
export interface KeeperOptions extends Omit<ScribeData, 'cacheId' | 'control' | 'place' | 'progress'> {
  /** Of a cache that begins with the rows of its database. */
  readonly filler?: Filler;
  /** Of a cache whose log is carried to a database: the database gets first what memory has no room for. */
  readonly carrier?: Carrier;
}

/** Gets the notices of the log. */
export type NoticeListener = (notice: ScribeNotice) => void;

/** Of all caches of this thread that have a log. It hangs on the addon's exports: this module may be loaded twice. */
const shared = native as unknown as { keepers?: Map<number, LogKeeper> };
shared.keepers ??= new Map();
const { keepers } = shared;

export class LogKeeper extends ScribeCommands {
  readonly #handle: FeedHandle;
  readonly #options: KeeperOptions;
  readonly #lock: DirectoryLock;
  readonly #place: Place;
  readonly #control = new Int32Array(new SharedArrayBuffer(4 * CONTROL_WORDS));
  readonly #progress = new SharedArrayBuffer(PROGRESS_BYTES);
  readonly #unanswered = new Unanswered<Command>();
  readonly #listeners = new Set<NoticeListener>();
  #worker: Worker | undefined;
  #awaited = 0;
  #ids = 0;
  #startCount = 0;
  #isOpening = true;
  #gone: Promise<unknown> = Promise.resolve();
  #failure: Error | undefined;
  #channel: BroadcastChannel | undefined;
  #threadError: unknown;
  #recovery: RecoverySummary | undefined;
  #files: LogFiles | undefined;
  #cursorsBefore: CursorsBefore = new Map();
  readonly #openingNotices: ScribeNotice[] = [];
  #onReady: { resolve(): void; reject(error: Error): void } | undefined;
  #onProgress: (progress: RecoveryProgress) => void;
  #closing: Promise<void> | undefined;
  #isClosingLog = false;
  /** `Cache` objects that own the cache. */
  ownerCount = 1;
  /**
   * A reader of the log that ends before it: called when the last owner closes, with the time that it may take (0: no
   * limit), and whether that is meant to finish what is under way. Must not reject.
   */
  endReader: ((timeoutMs: number, finishes: boolean) => Promise<void>) | undefined;

  /** The keeper of a cache, if this thread has it. */
  static of(cacheId: number): LogKeeper | undefined {
    return keepers.get(cacheId);
  }

  /** The promise of the close of a cache of that name, if it is being closed. */
  static closingOf(name: string): Promise<void> | undefined {
    for (const keeper of keepers.values()) if (keeper.#handle.name === name) return keeper.#closing;
    return undefined;
  }

  /**
   * Opens the log of a cache that is not ready, and makes it ready. `owner` is the keeper's from then on; if this
   * rejects, it is closed. Rejects with what the log's directory is refused for, `ERR_LOG_LOCKED`, `ERR_LOG_CORRUPT`,
   * `ERR_LOG_VERSION`, `ERR_LOG_IO`.
   */
  static async open(
    owner: FeedHandle,
    options: KeeperOptions,
    onProgress: (progress: RecoveryProgress) => void,
  ): Promise<LogKeeper> {
    let keeper: LogKeeper;
    try {
      keeper = new LogKeeper(owner, options, onProgress);
    } catch (error) {
      owner.close();
      throw error;
    }
    await keeper.#start(options.start);
    return keeper;
  }

  private constructor(owner: FeedHandle, options: KeeperOptions, onProgress: (progress: RecoveryProgress) => void) {
    super(owner);
    this.#handle = owner;
    this.#options = options;
    this.#onProgress = onProgress;
    const { lock, place } = takeDirectory(options.directory);
    this.#lock = lock;
    this.#place = place;
    keepers.set(owner.cacheId, this);
    if (keepers.size === 1) process.on('exit', atExit);
  }

  /** What opening has read. */
  get recovery(): RecoverySummary | undefined {
    return this.#recovery;
  }

  /** What any thread of the process reads the log with, once the cache is ready; undefined: it is no log of files. */
  get files(): LogFiles | undefined {
    return this.#files;
  }

  /** Puts the cursors back that opening the log has made or taken away. */
  async putCursorsBack(): Promise<void> {
    for (const [name, position] of this.#cursorsBefore) {
      if (position !== undefined) await this.cursor(name).place(position);
      else await this.cursor(name).drop();
    }
  }

  get isClosing(): boolean {
    return this.#closing !== undefined;
  }

  /** The thread that writes the log, if there is one: for tests. */
  get thread(): Worker | undefined {
    return this.#worker;
  }

  listen(listener: NoticeListener): void {
    this.#listeners.add(listener);
  }

  unlisten(listener: NoticeListener): void {
    this.#listeners.delete(listener);
  }

  /**
   * One owner less. The last one ends the cache: the records in the rings are written, a snapshot is taken if the
   * schedule says so, and the log is closed, within `timeoutMs` (0: no limit). If a record did not get into the log, it
   * closes and then rejects.
   */
  release(timeoutMs: number, takesSnapshot: boolean): Promise<void> {
    if (--this.ownerCount > 0) return Promise.resolve();
    this.#closing ??= this.#close(timeoutMs, takesSnapshot);
    return this.#closing;
  }

  async #close(timeoutMs: number, takesSnapshot: boolean): Promise<void> {
    try {
      const begunMs = performance.now();
      await this.#endReader(timeoutMs, takesSnapshot);
      if (timeoutMs > 0) timeoutMs = Math.max(1, timeoutMs - (performance.now() - begunMs));
      if (this.#failure !== undefined) throw this.#failure;
      this.#isClosingLog = true;
      const ended = this.ask({ kind: 'close', timeoutMs, takesSnapshot }).finally(() => this.#gone);
      if (timeoutMs === 0) await this.#await(ended);
      else await this.#within(timeoutMs + CLOSE_GRACE_MS, this.#await(ended));
    } finally {
      this.#forget();
    }
  }

  // It keeps the process alive meanwhile.
  async #endReader(timeoutMs: number, finishes: boolean): Promise<void> {
    const { endReader } = this;
    this.endReader = undefined;
    // Half of the time at most: the log needs some too.
    if (endReader !== undefined) await endReader(timeoutMs / 2, finishes);
  }

  // A thread that hangs in a file call cannot be ended, and does not keep us from closing.
  async #within(timeoutMs: number, ended: Promise<unknown>): Promise<void> {
    let timer: NodeJS.Timeout | undefined;
    const late = new Promise<never>((_, reject) => {
      timer = setTimeout(() => reject(tooLate(this.#options.directory)), Math.min(timeoutMs, TIMER_MS_MAX));
    });
    try {
      await Promise.race([ended, late]);
    } finally {
      clearTimeout(timer);
    }
  }

  #forget(): void {
    if (!keepers.delete(this.#handle.cacheId)) return;
    if (keepers.size === 0) process.off('exit', atExit);
    // The thread, if there still is one, finds that the cache has ended, and the directory is its until it is gone.
    this.#handle.close();
    this.#channel?.close();
    // Readers of the log in other threads end, also if the scribe could not tell them.
    new Watermark(this.#progress).close();
    if (this.#worker === undefined) this.#lock.release();
    this.#listeners.clear();
  }

  // ---- the thread ----

  #start(start: ScribeData['start']): Promise<void> {
    this.#startCount++;
    this.#threadError = undefined;
    const ready = new Promise<void>((resolve, reject) => {
      this.#onReady = { resolve, reject };
    });
    const { filler: _filler, carrier: _carrier, ...options } = this.#options;
    const data: ScribeData = {
      ...options,
      place: this.#place,
      start,
      cacheId: this.#handle.cacheId,
      control: this.#control.buffer as SharedArrayBuffer,
      progress: this.#progress,
    };
    try {
      // Not the program's options: its loaders and instrumentation have nothing to do there.
      const worker = new Worker(WORKER_FILE, { workerData: data, env: SHARE_ENV, execArgv: [], name: 'cairn scribe' });
      this.#worker = worker;
      this.#gone = new Promise((resolve) => worker.once('exit', resolve));
      if (this.#awaited === 0) worker.unref();
      worker.on('message', (report: Report) => this.#onReport(report));
      worker.on('error', (error) => {
        this.#threadError = error;
      });
      worker.on('exit', (code) => this.#onExit(code));
      for (const command of this.#unanswered.commands()) worker.postMessage(command);
    } catch (cause) {
      const message = `The thread that writes the log cannot be started: ${reasonOf(cause)}`;
      this.#fail(new CairnError('ERR_LOG_IO', message, { cause }));
    }
    return this.#await(ready);
  }

  #onReport(report: Report): void {
    switch (report.kind) {
      case 'progress':
        queueMicrotask(() => this.#onProgress(report.progress));
        break;
      case 'ready':
        this.#tellWritten();
        if (this.#isOpening) this.#cursorsBefore = report.cursorsBefore;
        this.#isOpening = false;
        if (report.recovery !== undefined) this.#recovery ??= { ...report.recovery, notices: this.#openingNotices };
        if (report.files !== undefined) this.#files ??= { ...report.files, progress: this.#progress };
        this.#onReady?.resolve();
        this.#onReady = undefined;
        break;
      case 'notice': {
        const notice = noticeFrom(report.notice);
        if (this.#isOpening) this.#openingNotices.push(notice);
        this.#notify(notice);
        break;
      }
      case 'question':
        void this.#answer(report.question);
        break;
      case 'done':
        this.#unanswered.settle(report);
        break;
      case 'failed':
        this.#fail(errorFrom(report.error));
        break;
    }
  }

  #tellWritten(): void {
    const written = this.#options.carrier?.written;
    if (written !== undefined && written.records > 0) this.#openingNotices.push({ kind: 'written-first', ...written });
  }

  async #answer(question: OpeningQuestion): Promise<void> {
    try {
      const { directory, filler, carrier } = this.#options;
      const given = { handle: this.#handle, directory, progress: this.#progress, filler, carrier };
      const result = await help(given, question, (progress) => this.#onProgress(progress));
      this.#worker?.postMessage({ kind: 'answer', result } satisfies Told);
    } catch (error) {
      this.#worker?.postMessage({ kind: 'answer', error: plainError(error) } satisfies Told);
    }
  }

  #onExit(code: number): void {
    this.#worker = undefined;
    if (!keepers.has(this.#handle.cacheId)) {
      this.#lock.release();
      return;
    }
    if (this.#failure !== undefined) {
      this.#settleOpening(this.#failure);
      return;
    }
    const cause = this.#threadError ?? new Error(`The thread has ended with code ${code}`);
    // One that was asked to close has answered before it ends.
    if (this.isClosing && this.#unanswered.count === 0) return;
    if (this.#isOpening || this.#startCount > 1) {
      this.#fail(new CairnError('ERR_LOG_IO', 'The thread that writes the log has ended', { cause }));
    } else {
      this.#notify({ kind: 'restarted', cause });
      this.#start('resume').catch(() => {
        // It has failed, and everybody has been told.
      });
    }
  }

  // For good.
  #fail(error: Error): void {
    if (this.#failure !== undefined) return;
    this.#failure = error;
    this.#handle.setFeedState(FeedState.failed);
    this.#answerOthers(error);
    this.#unanswered.rejectAll(error);
    if (this.#isOpening) this.#settleOpening(error);
    else {
      this.#onReady?.reject(error);
      this.#onReady = undefined;
      if (!this.isClosing) this.#onFailure(error);
    }
  }

  // A caller that hears of the failure may open the directory again, so the thread must be gone.
  #settleOpening(error: Error): void {
    if (!this.#isOpening || this.#worker !== undefined) return;
    this.#isOpening = false;
    this.#forget();
    this.#onReady?.reject(error);
    this.#onReady = undefined;
  }

  // Threads that have attached: there is no scribe to answer them.
  #answerOthers(error: Error): void {
    const channel = new BroadcastChannel(channelName(this.#handle.cacheId));
    const failed: ChannelMessage = { kind: 'failed', error: plainError(error) };
    channel.onmessage = (event) => {
      if (messageOf(event).kind === 'ask') channel.postMessage(failed);
    };
    channel.postMessage(failed);
    channel.unref();
    this.#channel = channel;
  }

  #onFailure(error: Error): void {
    if (this.#listeners.size > 0) {
      this.#notify({ kind: 'failed', cause: error });
      return;
    }
    const { name } = this.#handle;
    const which = name === '' ? 'a cache' : `the cache ${show(name)}`;
    process.emitWarning(`The log of ${which} is not written any more: ${error.message}`, { code: 'ERR_LOG_IO' });
  }

  // What a listener throws is an uncaught error of the program, and not ours to be stopped by.
  #notify(notice: ScribeNotice): void {
    for (const listener of [...this.#listeners]) queueMicrotask(() => listener(notice));
  }

  protected override ask(question: Question, signal?: AbortSignal): Promise<unknown> {
    const command: Command = { ...question, id: ++this.#ids };
    if (this.#failure !== undefined) return Promise.reject(this.#failure);
    const isTooLate = command.kind !== 'close' && this.#isClosingLog;
    if (isTooLate) return Promise.reject(new CairnError('ERR_CLOSED', 'The cache is closed'));
    const answer = this.#unanswered.add(command, signal, () => this.#tell({ kind: 'cancel', id: command.id }));
    this.#tell(command);
    return this.#await(answer);
  }

  #tell(told: Told): void {
    this.#worker?.postMessage(told);
    this.#handle.poke();
  }

  // The thread keeps the process alive meanwhile.
  async #await<T>(promise: Promise<T>): Promise<T> {
    if (++this.#awaited === 1) this.#worker?.ref();
    try {
      return await promise;
    } finally {
      if (--this.#awaited === 0) this.#worker?.unref();
    }
  }

  // ---- the process exits ----

  prepareExit(): void {
    Atomics.store(this.#control, Control.exiting, 1);
    this.#handle.poke();
  }

  /** Blocks until what is in the rings is in the log, or cannot be, or the time is over. */
  waitForLog(deadlineMs: number): void {
    const targets = targetsOf(this.#handle);
    while (performance.now() < deadlineMs) {
      if (this.#handle.waitCommitted(targets, EXIT_LOOK_MS)) return;
      if (this.#worker === undefined || this.#handle.feedState() !== FeedState.running) return;
    }
  }
}

/**
 * Before the process ends, waits until the scribe's thread has written the records in the rings. Handlers of the
 * program that run later may write to the cache too: the thread no longer sleeps, so that it may reach those records,
 * but the process does not wait for them.
 */
function atExit(): void {
  const deadlineMs = performance.now() + EXIT_WAIT_MS;
  for (const keeper of keepers.values()) keeper.prepareExit();
  for (const keeper of keepers.values()) keeper.waitForLog(deadlineMs);
}

// The system's words: "permission denied".
function reasonOf(cause: unknown): string {
  const { code, errno, message } = cause as NodeJS.ErrnoException;
  const words = errno === undefined ? undefined : getSystemErrorMap().get(errno)?.[1];
  return words === undefined ? message : `${words} (${code})`;
}

function takeDirectory(directory: string): { lock: DirectoryLock; place: Place } {
  try {
    nodeFiles.makeDirectory(directory);
  } catch (cause) {
    throw new CairnError('ERR_LOG_IO', `Cannot make or read the directory ${directory}: ${reasonOf(cause)}`, { cause });
  }
  const lock = lockByAddon(directory);
  try {
    return { lock, place: placeOf(nodeFiles, directory, lock.isLost) };
  } catch (cause) {
    lock.release();
    throw new CairnError('ERR_LOG_IO', `Cannot read the directory ${directory}: ${reasonOf(cause)}`, { cause });
  }
}

function tooLate(directory: string): CairnError {
  return new CairnError('ERR_TIMEOUT', `The thread that writes the log in ${directory} does not answer`);
}

// Node 20 does not run TypeScript: from sources (in tests), the thread is the built one.
const WORKER_FILE: URL = new URL(
  import.meta.url.endsWith('.ts') ? '../../dist/scribe/worker.js' : './worker.js',
  import.meta.url,
);
