/**
 * Groups of records from the rings to the log: drained, submitted, settled, and committed to the rings.
 *
 * The embedded log writes and syncs within `submit` and answers at once; a log that answers later has up to `windowMax`
 * groups in flight (flights.ts). A group is what came while the one before it was written: the busier, the larger.
 *
 * | answer           | the group                            | the doors                                              |
 * |------------------|--------------------------------------|--------------------------------------------------------|
 * | committed        | is done                              | hear of it                                             |
 * | full             | is held, and tried again after 5 ms, | wait while there is ring; refuse after PATIENCE_MS     |
 * |                  | then less often, up to RETRY_MS_MAX  | (`full`); waiters fail after STUCK_MS (`stuck`)        |
 * | unknown          | the same; another try settles it     | the same (`failed`); the outcome of writes is unknown  |
 * | conflict, fenced | stays in the rings forever           | `failed`: another process writes the log               |
 */
import type { CairnError } from '../errors.ts';
import { type LogBatch, type LogClock, type LogPort, type LogRange, recordsLost } from '../log/index.ts';
import { type FeedHandle, FeedState, numberWord, Word } from '../native.ts';
import { Flights, type Refusal } from './flights.ts';
import { lostLog } from './log-errors.ts';

/** What a turn drains at most, unless a single record is larger. */
export const BUFFER_BYTES: number = 2 ** 20;
/** A log with a small limit has room for at least LIMIT_GROUPS_MIN groups, unless they are at the minimum already. */
const LIMIT_GROUPS_MIN = 8;
const GROUP_BYTES_MIN = 4096;
/** Turns for which a buffer that a large record needed is kept for the next one. */
const LARGE_BUFFER_TURNS = 64;
/** Between two tries to append groups that were refused. */
const RETRY_MS_MIN = 5;
const RETRY_MS_MAX = 100;
/** How long the doors wait for a log that takes nothing, before they refuse. */
const PATIENCE_MS = 1000;
/** How long requests that were executed, and snapshots, wait for such a log before they fail. */
export const STUCK_MS = 10_000;
/** Between two looks at a log that has not answered. */
const ANSWER_POLL_MS = 1;

/** What was drained in one turn of the rings. */
interface Group {
  readonly turn: number;
  readonly records: Buffer;
  readonly recordCount: number;
  readonly epoch: number;
}

/** Since when groups are held, and when they are tried again. */
interface Trouble {
  readonly sinceMs: number;
  delayMs: number;
  againMs: number;
}

export interface AppendingOptions {
  readonly handle: FeedHandle;
  readonly log: LogPort;
  readonly clock: LogClock;
  /** Stops this thread for `ms` milliseconds. */
  readonly sleep: (ms: number) => void;
  /** Whether the log may outgrow its limit: a snapshot waits for these records only, and then makes room. */
  readonly mayExceedLimit: () => boolean;
  readonly on: {
    /** A group is in the log. */
    committed(bytes: number, recordCount: number): void;
    /** A group was refused for want of room. */
    full(reason: 'limit' | 'disk'): void;
    /** The doors refuse from now on. */
    failed(cause: Error): void;
    /** There is nothing more to append: the cache has ended, or the log is another writer's. */
    ended(outcome: 'ended' | CairnError): void;
  };
}

/** Bytes of a group at most. */
function groupBytes(log: LogPort): number {
  return Math.min(BUFFER_BYTES, Math.max(GROUP_BYTES_MIN, Math.floor(log.usage().limitBytes / LIMIT_GROUPS_MIN)));
}

export class Appending {
  readonly #options: AppendingOptions;
  readonly #handle: FeedHandle;
  readonly #log: LogPort;
  readonly #clock: LogClock;
  readonly #flights: Flights;
  readonly #bufferBytes: number;
  #buffer: Buffer;
  #turnsSinceLarge = 0;
  #trouble: Trouble | undefined;
  /** The log has answered, and not taken everything. */
  #isHeld = false;
  #state: FeedState = FeedState.running;

  constructor(options: AppendingOptions) {
    const { handle, log, clock } = options;
    this.#options = options;
    this.#handle = handle;
    this.#log = log;
    this.#clock = clock;
    this.#flights = new Flights(log, (turn, batch, place) => this.#onCommitted(turn, batch, place));
    this.#bufferBytes = groupBytes(log);
    this.#buffer = Buffer.allocUnsafeSlow(this.#bufferBytes);
  }

  /** What the doors are told of the log. */
  get state(): FeedState {
    return this.#state;
  }

  setState(state: FeedState): void {
    if (this.#state === state) return;
    this.#state = state;
    this.#handle.setFeedState(state);
  }

  /** Groups that are drained and not yet in the log. */
  get count(): number {
    return this.#flights.count;
  }

  /** Another group may be drained. Otherwise pause(). */
  get hasRoom(): boolean {
    return this.#flights.hasRoom;
  }

  /** The log has taken nothing for STUCK_MS. */
  get isStuck(): boolean {
    return this.#trouble !== undefined && this.#clock.steadyMs() - this.#trouble.sinceMs >= STUCK_MS;
  }

  /** The records of one group, once there are any; undefined after `timeoutMs`, and when a larger buffer is needed. */
  drain(timeoutMs: number): Group | undefined {
    const bytes = this.#handle.drain(this.#buffer, timeoutMs);
    if (bytes > 0) {
      const records = this.#buffer.subarray(0, bytes);
      const turn = numberWord(Word.place);
      const epoch = Math.max(numberWord(Word.version), this.#log.epoch);
      const group = { turn, records, recordCount: numberWord(Word.number), epoch };
      this.#fitBuffer(bytes);
      return group;
    }
    if (bytes < 0) {
      this.#options.on.ended('ended');
      return undefined;
    }
    const needed = numberWord(Word.valueBytes);
    if (needed > this.#buffer.length) {
      this.#buffer = Buffer.allocUnsafeSlow(needed);
      this.#turnsSinceLarge = 0;
    } else this.#fitBuffer(0);
    return undefined;
  }

  send({ turn, records, recordCount, epoch }: Group): void {
    this.#exceedLimit();
    this.#flights.send(turn, records, recordCount, epoch);
  }

  /** Sleeps until groups that are held may be tried again, or the log may have answered. */
  pause(): void {
    if (this.#trouble === undefined || !this.#isHeld) {
      if (this.#flights.count > 0) this.#options.sleep(ANSWER_POLL_MS);
      return;
    }
    const waitMs = Math.min(this.#trouble.againMs - this.#clock.steadyMs(), this.#log.syncDueInMs());
    if (waitMs > 0) this.#options.sleep(waitMs);
  }

  /** Hears what became of groups in flight, and tries held ones again if it is time. Whether there were any. */
  settle(nowMs: number): boolean {
    if (this.#trouble !== undefined && this.#isHeld && nowMs >= this.#trouble.againMs) {
      this.#isHeld = false;
      this.#exceedLimit();
      this.#flights.retry();
    }
    if (this.#flights.count === 0 || this.#isHeld) return false;
    const refusal = this.#flights.settle();
    if (refusal !== undefined) {
      this.#isHeld = true;
      this.#onRefused(refusal);
    }
    return true;
  }

  #fitBuffer(bytes: number): void {
    if (this.#buffer.length === this.#bufferBytes) return;
    this.#turnsSinceLarge = bytes > this.#bufferBytes ? 0 : this.#turnsSinceLarge + 1;
    // The group still has the old one.
    if (this.#turnsSinceLarge >= LARGE_BUFFER_TURNS) this.#buffer = Buffer.allocUnsafeSlow(this.#bufferBytes);
  }

  #exceedLimit(): void {
    this.#log.exceedLimit(this.#options.mayExceedLimit());
  }

  // The log takes groups again, even if a window of them is always in flight.
  #onCommitted(turn: number, { records, recordCount }: LogBatch, { position, end }: LogRange): void {
    this.#trouble = undefined;
    this.setState(FeedState.running);
    this.#handle.commitDrained(turn, position, end);
    const bytes = records.reduce((sum, piece) => sum + piece.length, 0);
    this.#options.on.committed(bytes, recordCount);
  }

  #onRefused(result: Refusal): void {
    if (this.#flights.isForGood(result)) {
      this.#options.on.ended(lostLog(this.#log, result));
      return;
    }
    const nowMs = this.#clock.steadyMs();
    const trouble = this.#trouble ?? { sinceMs: nowMs, delayMs: RETRY_MS_MIN / 2, againMs: nowMs };
    trouble.delayMs = Math.min(trouble.delayMs * 2, RETRY_MS_MAX);
    trouble.againMs = nowMs + trouble.delayMs;
    this.#trouble = trouble;
    if (result.kind === 'full') this.#options.on.full(result.reason);
    const elapsedMs = nowMs - trouble.sinceMs;
    if (elapsedMs < PATIENCE_MS) return;
    if (result.kind === 'full') this.setState(elapsedMs < STUCK_MS ? FeedState.full : FeedState.stuck);
    else this.#fail(this.#causeOf(result));
  }

  #causeOf(result: Exclude<Refusal, { kind: 'full' | 'fenced' }>): Error {
    return result.kind === 'unknown' ? result.cause : recordsLost(this.#log.name, this.#log.lost.recordCount);
  }

  // The reason is told once.
  #fail(cause: Error): void {
    if (this.#state !== FeedState.failed) this.#options.on.failed(cause);
    this.setState(FeedState.failed);
  }
}
