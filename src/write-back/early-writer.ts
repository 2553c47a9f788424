/**
 * The writer of a cache that is not open yet: brings a part of the log to the database, because memory has no room for
 * the keys that the database does not have (scribe/first-writes.ts). It is a writer like any other (writer.ts), whose
 * log ends where recovery says. It runs in the thread that opens the cache.
 *
 * A database that does not answer is waited for, and so is one that only a person can mend: for WAIT_MS in which it has
 * confirmed nothing. Then the opening is refused, and the log has everything still.
 */
import type { Backend } from '../backend/index.ts';
import { asError, CairnError, reasonOf } from '../errors.ts';
import { type Position, Watermark } from '../log/index.ts';
import type { RecoveryProgress } from '../options/types.ts';
import { RuleSet } from '../rules/index.ts';
import type { Carrier, LogFiles, ProgressListener, Written } from '../scribe/index.ts';
import { systemClock, type WriterClock } from './clock.ts';
import { CALL_TIMEOUT_MS } from './connection.ts';
import type { WriteBackOptions } from './message.ts';
import { OpeningLog } from './opening-log.ts';
import { isUnfit } from './store.ts';
import { NO_MARKS } from './stored-marks.ts';
import { type Committed, Writer, type WriterState } from './writer.ts';

/** How long an opening waits for a database that confirms nothing. */
export const WAIT_MS = 60_000;
/** How often it looks, and tells of its progress. */
const LOOK_MS = 250;

export interface EarlyWriterOptions {
  /** Makes the backend, or rejects if there will never be one; then makes connections. */
  readonly connector: () => Promise<() => Promise<Backend>>;
  /** The name of the database. */
  readonly store: string;
  readonly options: WriteBackOptions;
  /** As that of a writer. */
  readonly isOneOfSeveral?: boolean;
  /** How far the database was, for the writer of the open cache too: memory counts on it. As WriterData says. */
  readonly reached: SharedArrayBuffer;
  readonly clock?: WriterClock;
  /** In [0, 1). */
  readonly random?: () => number;
}

export class EarlyWriter implements Carrier {
  readonly #options: EarlyWriterOptions;
  readonly #clock: WriterClock;
  /** Its reason is why the cache does not open. */
  readonly #stop = new AbortController();
  readonly #begunMs: number;
  #log: OpeningLog | undefined;
  #writer: Writer | undefined;
  #backend: Backend | undefined;
  /** The database was reached, or has confirmed something. */
  #signMs = 0;
  #problem: Error | undefined;
  #written: Written = { records: 0, bytes: 0, deadLetters: 0, elapsedMs: 0 };

  constructor(options: EarlyWriterOptions) {
    this.#options = options;
    this.#clock = options.clock ?? systemClock;
    this.#begunMs = this.#clock.steadyMs();
  }

  get written(): Written {
    return this.#written;
  }

  async reach(files: Omit<LogFiles, 'openedAt'>, confirmed: Position, onProgress: ProgressListener): Promise<void> {
    const { connector, store, options, isOneOfSeveral = false, random = Math.random } = this.#options;
    const watermark = new Watermark(files.progress);
    const connect = await connector();
    const log = new OpeningLog(files, store, confirmed, () => watermark.at('committed'));
    this.#log = log;
    this.#writer = new Writer({
      log,
      lanes: options.lanes,
      isOneOfSeveral,
      marksOf: () => ({ ...NO_MARKS, openedAt: log.end() }),
      connect: async () => {
        this.#backend = await connect();
        return this.#backend;
      },
      limits: options.limits,
      rules: RuleSet.from(options.rules),
      rowsPerSecond: options.rowsPerSecond,
      // The writer of the open cache does that: memory is told of them then. It begins where the log's cursor is.
      dropsRefused: false,
      retainMs: 0,
      reached: this.#options.reached,
      callTimeoutMs: CALL_TIMEOUT_MS,
      clock: this.#clock,
      random,
      on: {
        state: (state, cause) => this.#onState(state, cause),
        committed: (batch) => this.#onCommitted(batch),
        retry: () => {},
        healing: () => {},
        healed: () => {},
        historyShort: () => {},
      },
    });
    this.#writer.ended.catch((error) => this.#stop.abort(asError(error)));
    await this.#patiently(log.reached, () => this.#progress(0, 0, 0), onProgress);
  }

  async write(position: Position, onProgress: ProgressListener): Promise<void> {
    const [log, writer] = [this.#log!, this.#writer!];
    const begunMs = this.#clock.steadyMs();
    const before = this.#written;
    const from = writer.confirmed;
    const total = log.bytesFrom(from) - log.bytesFrom(position);
    const progress = (): RecoveryProgress => {
      const bytes = log.bytesFrom(from) - log.bytesFrom(writer.confirmed);
      return this.#progress(Math.max(0, bytes), Math.max(0, total), this.#clock.steadyMs() - begunMs);
    };
    log.allow(position);
    await this.#patiently(writer.drain(position, this.#stop.signal), progress, onProgress);
    this.#written = { ...this.#written, elapsedMs: before.elapsedMs + this.#clock.steadyMs() - begunMs };
  }

  /** Ends it. Never rejects. */
  async close(): Promise<void> {
    await this.#writer?.close(0);
  }

  // Until the work is done, or is found to be hopeless.
  async #patiently(work: Promise<void>, progress: () => RecoveryProgress, onProgress: ProgressListener): Promise<void> {
    const { signal } = this.#stop;
    this.#signMs = this.#clock.steadyMs();
    let timer: { stop(): void } | undefined;
    const look = (): void => {
      onProgress(progress());
      if (this.#clock.steadyMs() >= this.#signMs + WAIT_MS) this.#stop.abort(this.#awayError());
      else timer = this.#clock.after(LOOK_MS, look);
    };
    look();
    let stop: () => void = () => {};
    const stopped = new Promise<never>((_, reject) => {
      stop = () => reject(signal.reason);
    });
    signal.addEventListener('abort', stop);
    if (signal.aborted) stop();
    try {
      await Promise.race([work, stopped]);
    } finally {
      timer?.stop();
      signal.removeEventListener('abort', stop);
      work.catch(() => {
        // It is not waited for any more.
      });
    }
    onProgress(progress());
  }

  #progress(bytes: number, bytesTotal: number, elapsedMs: number): RecoveryProgress {
    const perSecond = 1000 / Math.max(1, elapsedMs);
    const { records } = this.#written;
    return {
      ...{ source: 'write-back', bytes, bytesTotal, records, elapsedMs: this.#clock.steadyMs() - this.#begunMs },
      ...{ bytesPerSecond: bytes * perSecond, recordsPerSecond: records * perSecond },
      ...(this.#problem === undefined ? {} : { problem: reasonOf(this.#problem) }),
    };
  }

  #onState(state: WriterState, cause: Error | undefined): void {
    this.#problem = cause;
    if (cause !== undefined && (state === 'refused' || isUnfit(cause))) this.#stop.abort(cause);
    if (state !== 'writing' && state !== 'healing') return;
    this.#signMs = this.#clock.steadyMs();
  }

  #onCommitted({ recordCount, bytes, deadLetters }: Committed): void {
    this.#signMs = this.#clock.steadyMs();
    const before = this.#written;
    this.#written = {
      ...before,
      records: before.records + recordCount,
      bytes: before.bytes + bytes,
      deadLetters: before.deadLetters + deadLetters.length,
    };
  }

  #awayError(): CairnError {
    const name = this.#backend?.name ?? 'The database';
    const why = this.#problem === undefined ? 'it does not answer' : reasonOf(this.#problem);
    return new CairnError(
      'ERR_STORE_AWAY',
      `Memory is too small for the keys of the log in ${this.#log!.directory} that the database does not have yet, and ${name} could not be written for ${WAIT_MS / 1000} s: ${why}. The log has every change: open the cache when the database can be written, or with more memory`,
      { cause: this.#problem },
    );
  }
}
