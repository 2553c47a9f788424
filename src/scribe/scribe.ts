/**
 * The scribe: takes the records of all shards out of the rings and appends them to the log, group by group, for as long
 * as the cache lives. What is appended is committed to the rings, and with that to everybody who waits for it; what is
 * not stays in the rings, so that another scribe finds it there.
 *
 *     drain -> submit -> settle -> commit -> one step of a snapshot -> answers -> drain ...
 *
 * It knows the log by its port (LogPort) only. The embedded log writes and syncs within `submit` and answers at once; a
 * log that answers later has up to `windowMax` groups in flight (flights.ts). The scribe never waits but in `drain`,
 * which the next record ends, and in file calls; all of them are synchronous, and it has its thread to itself. A group
 * is what came while the one before it was written: the busier, the larger.
 *
 * What the log answers, and what follows:
 *
 * | answer           | the group                           | doors                                                 |
 * |------------------|-------------------------------------|-------------------------------------------------------|
 * | committed        | is done                             | hear of it                                            |
 * | full             | is held; tried again, less and less | wait while there is ring; refused after               |
 * |                  | often, up to every RETRY_MS_MAX     | PATIENCE_MS (`full`); who waits gives up after        |
 * |                  |                                     | STUCK_MS (`stuck`)                                    |
 * | unknown          | the same; another try settles it    | the same (`failed`): nothing is known of their writes |
 * | conflict, fenced | is in the rings, for ever           | `failed`: somebody else writes the log                |
 *
 * With an interval as policy a group is committed when it is written; syncs come by the clock.
 */
import { CairnError } from '../errors.ts';
import { type LogBatch, type LogClock, type LogPort, recordsLost, type SnapshotInfo } from '../log/index.ts';
import {
  FEED_STAT_COUNT,
  type FeedHandle,
  FeedStat,
  FeedState,
  native,
  numberWord,
  targetsOf,
  Word,
} from '../native.ts';
import { Flights, type Refusal } from './flights.ts';
import {
  type Command,
  Control,
  plainError,
  plainNotice,
  type Report,
  type ScribeNotice,
  type SnapshotSchedule,
  type SnapshotSummary,
} from './message.ts';
import { LOG_LEVELS, type Metrics } from './metrics.ts';
import { SnapshotPlan } from './snapshot-plan.ts';
import { SnapshotTask, STEP_BYTES } from './snapshot-task.ts';

/** What a turn drains at most, unless a single record is larger. */
export const BUFFER_BYTES: number = 2 ** 20;
/** With a small limit of the log it is less: so many have to fit, but for one that is small already. */
const LIMIT_GROUPS_MIN = 8;
const GROUP_BYTES_MIN = 4096;
/** Turns that a buffer which a large record needed is kept for the next one. */
const LARGE_BUFFER_TURNS = 64;
/** The longest wait: a thread that is to be ended is not held up for longer. */
const WAIT_MS_MAX = 500;
/** The same while somebody waits for what the records are needed for, or the process is about to exit. */
const SHORT_WAIT_MS = 1;
/** How often the numbers for `stats` are given out, while there is news. */
const METRICS_MS = 200;
/** Between two tries to append what was refused. */
const RETRY_MS_MIN = 5;
const RETRY_MS_MAX = 100;
/** For so long the doors wait for a log that takes nothing. Then they refuse. */
const PATIENCE_MS = 1000;
/** And for so long whoever waits for what was done before, or for a snapshot that needs it. */
const STUCK_MS = 10_000;
/** What one turn takes of a snapshot if it had nothing to append; and at most, as long as the log has room. */
const SNAPSHOT_BYTES_IDLE: number = 8 * STEP_BYTES;
const SNAPSHOT_BYTES_MAX: number = 16 * STEP_BYTES;
/** Segments that one turn removes. */
const RECLAIM_SEGMENTS = 1;

/** In place of an error: a sync is under way. */
const PENDING = Symbol('pending');

export interface ScribeOptions {
  readonly handle: FeedHandle;
  readonly log: LogPort;
  readonly clock: LogClock;
  readonly metrics: Metrics;
  readonly snapshots: SnapshotSchedule;
  /** Bytes of log behind the last snapshot. */
  readonly logBytes: number;
  /** The keeper's words; see Control. */
  readonly control: Int32Array;
  /** The next command, if there is one. */
  readonly hear: () => Command | undefined;
  readonly say: (report: Report) => void;
  /** Stops this thread for so long. */
  readonly sleep: (ms: number) => void;
}

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

/** Somebody waits until everything up to these versions is durable. */
interface Sync {
  readonly id: number;
  readonly targets: BigUint64Array;
}

interface Closing {
  readonly id: number;
  readonly deadlineMs: number;
  readonly takesSnapshot: boolean;
  readonly targets: BigUint64Array;
  phase: 'draining' | 'snapshot' | 'last';
}

/** What a group takes of a log at most: a log with a small limit has to have room for several. */
export function groupBytes(log: LogPort): number {
  return Math.min(BUFFER_BYTES, Math.max(GROUP_BYTES_MIN, Math.floor(log.usage().limitBytes / LIMIT_GROUPS_MIN)));
}

export class Scribe {
  readonly #handle: FeedHandle;
  readonly #log: LogPort;
  readonly #clock: LogClock;
  readonly #metrics: Metrics;
  readonly #control: Int32Array;
  readonly #hear: () => Command | undefined;
  readonly #say: (report: Report) => void;
  readonly #sleep: (ms: number) => void;
  readonly #plan: SnapshotPlan;
  readonly #takesSnapshotAtClose: boolean;
  readonly #feedNumbers = new Float64Array(FEED_STAT_COUNT);

  readonly #bufferBytes: number;
  #buffer: Buffer;
  #turnsSinceLarge = 0;
  readonly #flights: Flights;
  #trouble: Trouble | undefined;
  /** The log has answered, and not taken everything. */
  #isHeld = false;
  #state: FeedState = FeedState.running;
  /** Of the groups that the log has taken in this turn. */
  #appendedBytes = 0;

  #syncs: Sync[] = [];
  #snapshot: SnapshotTask | undefined;
  #snapshotBegunMs = 0;
  /** Hits when the present snapshot and the last one were begun. */
  #readsBegun = 0;
  #readsBefore = 0;
  #snapshotFor: number[] = [];
  #snapshotNext: number[] = [];
  /** The log may have segments that nobody needs. What recovery has read is a verified snapshot, too. */
  #isReclaiming = true;
  /** Committed records that the log has lost and that are counted in the metrics; and what those said at the begin. */
  #lostCounted = 0;
  #lostAtBegin = 0;
  #closing: Closing | undefined;
  #outcome: 'closed' | 'ended' | CairnError | undefined;

  #isMetricsDue = false;
  #metricsMs = 0;

  constructor(options: ScribeOptions) {
    const { handle, log, clock, metrics, snapshots, logBytes, control, hear, say, sleep } = options;
    this.#handle = handle;
    this.#log = log;
    this.#flights = new Flights(log, (turn, batch) => this.#onCommitted(turn, batch));
    this.#bufferBytes = groupBytes(log);
    this.#buffer = Buffer.allocUnsafeSlow(this.#bufferBytes);
    this.#clock = clock;
    this.#metrics = metrics;
    this.#control = control;
    this.#hear = hear;
    this.#say = say;
    this.#sleep = sleep;
    this.#plan = new SnapshotPlan(snapshots, log, clock, logBytes);
    this.#takesSnapshotAtClose = snapshots.isTakenAtClose;
    this.#publishMetrics(clock.steadyMs());
  }

  /**
   * Works until it was closed, or the cache has ended; or an error says why nothing more can be written. The log is
   * closed then.
   */
  run(): 'closed' | 'ended' | CairnError {
    this.#handle.setFeedState(FeedState.running);
    for (;;) {
      this.turn();
      if (this.#outcome === undefined) continue;
      this.#snapshot?.abort();
      this.#publishMetrics(this.#clock.steadyMs());
      return this.#outcome;
    }
  }

  /** One turn: waits for records, or for whatever else there is to do. */
  turn(): void {
    for (let command = this.#hear(); command !== undefined; command = this.#hear()) this.#begin(command);
    this.#appendedBytes = 0;
    let begunMs = this.#clock.steadyMs();
    if (this.#flights.hasRoom) {
      const group = this.#drain(this.#waitMs());
      begunMs = this.#clock.steadyMs();
      if (group !== undefined) this.#send(group);
    } else {
      this.#pause();
      begunMs = this.#clock.steadyMs();
    }
    if (this.#outcome === undefined) {
      this.#settle(begunMs);
      this.#log.syncIfDue();
      this.#stepSnapshot();
      this.#answerSyncs();
      this.#goOnClosing();
    }
    const endMs = this.#clock.steadyMs();
    this.#metrics.max('turnMaxMs', endMs - begunMs);
    if (this.#isMetricsDue && endMs - this.#metricsMs >= METRICS_MS) this.#publishMetrics(endMs);
  }

  // ---- records ----

  // What the rings have for one group; undefined: nothing, or a record that needs a larger buffer.
  #drain(timeoutMs: number): Group | undefined {
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
      this.#end('ended');
      return undefined;
    }
    const needed = numberWord(Word.valueBytes);
    if (needed > this.#buffer.length) {
      this.#buffer = Buffer.allocUnsafeSlow(needed);
      this.#turnsSinceLarge = 0;
    } else this.#fitBuffer(0);
    return undefined;
  }

  #fitBuffer(bytes: number): void {
    if (this.#buffer.length === this.#bufferBytes) return;
    this.#turnsSinceLarge = bytes > this.#bufferBytes ? 0 : this.#turnsSinceLarge + 1;
    // The group still has the old one.
    if (this.#turnsSinceLarge >= LARGE_BUFFER_TURNS) this.#buffer = Buffer.allocUnsafeSlow(this.#bufferBytes);
  }

  #send({ turn, records, recordCount, epoch }: Group): void {
    this.#exceedLimit();
    this.#flights.send(turn, records, recordCount, epoch);
  }

  // A snapshot that only waits for these records gives more room than they take.
  #exceedLimit(): void {
    this.#log.exceedLimit(this.#snapshot?.isWaitingForLog ?? false);
  }

  // Hears what became of the groups on their way, and tries again what is held, if it is time.
  #settle(nowMs: number): void {
    if (this.#trouble !== undefined && this.#isHeld && nowMs >= this.#trouble.againMs) {
      this.#isHeld = false;
      this.#exceedLimit();
      this.#flights.retry();
    }
    if (this.#flights.count === 0 || this.#isHeld) return;
    this.#isMetricsDue = true;
    const refusal = this.#flights.settle();
    if (refusal !== undefined) {
      this.#isHeld = true;
      this.#onRefused(refusal);
    } else if (this.#flights.count === 0 && this.#trouble !== undefined) {
      this.#trouble = undefined;
      this.#setState(FeedState.running);
    }
  }

  #onCommitted(turn: number, { records, recordCount }: LogBatch): void {
    this.#handle.commitDrained(turn);
    const bytes = records.reduce((sum, piece) => sum + piece.length, 0);
    this.#appendedBytes += bytes;
    this.#plan.add(bytes);
    this.#metrics.add('commits', 1);
    this.#metrics.add('records', recordCount);
    this.#metrics.add('recordBytes', bytes);
  }

  #onRefused(result: Refusal): void {
    if (result.kind === 'fenced' || (result.kind === 'conflict' && this.#flights.isForGood(result))) {
      this.#end(lostLog(this.#log, result));
      return;
    }
    const nowMs = this.#clock.steadyMs();
    const trouble = this.#trouble ?? { sinceMs: nowMs, delayMs: RETRY_MS_MIN / 2, againMs: nowMs };
    trouble.delayMs = Math.min(trouble.delayMs * 2, RETRY_MS_MAX);
    trouble.againMs = nowMs + trouble.delayMs;
    this.#trouble = trouble;
    if (result.kind === 'full') this.#makeRoom(result.reason);
    if (nowMs - trouble.sinceMs < PATIENCE_MS) return;
    if (result.kind === 'unknown') this.#fail(result.cause);
    else if (result.kind === 'conflict') this.#fail(recordsLost(this.#log.name, this.#log.lost.recordCount));
    else this.#setState(nowMs - trouble.sinceMs < STUCK_MS ? FeedState.full : FeedState.stuck);
  }

  // From now on others are refused: whoever looks after this process is told why, once.
  #fail(cause: Error): void {
    if (this.#state !== FeedState.failed) this.#notify({ kind: 'sync-failed', cause });
    this.#setState(FeedState.failed);
  }

  // The log keeps what its older snapshot needs for as long as it is not high. A disk that is full for other reasons
  // does not know that.
  #makeRoom(reason: 'limit' | 'disk'): void {
    const { newestVerified } = this.#log.snapshots;
    if (reason === 'disk' && newestVerified !== undefined) this.#log.truncate(newestVerified.position);
    else this.#isReclaiming = true;
    // A log can be at its limit with little behind the last snapshot: that lies in the middle of a large segment, or
    // the limit was higher. Nothing but another one makes room then.
    if (reason === 'limit' && this.#snapshot === undefined && this.#log.holdsForSnapshot) this.#plan.demand();
  }

  #setState(state: FeedState): void {
    if (this.#state === state) return;
    this.#state = state;
    this.#handle.setFeedState(state);
  }

  // ---- waiting ----

  #waitMs(): number {
    if (this.#isReclaiming || (this.#snapshot !== undefined && !this.#snapshot.isWaitingForLog)) return 0;
    if (this.#snapshot !== undefined || this.#closing !== undefined || this.#syncs.length > 0) return SHORT_WAIT_MS;
    if (this.#isExiting() || this.#flights.count > 0) return SHORT_WAIT_MS;
    const nowMs = this.#clock.steadyMs();
    let waitMs = Math.min(WAIT_MS_MAX, this.#log.syncDueInMs(), this.#plan.dueInMs(nowMs));
    if (this.#isMetricsDue) waitMs = Math.min(waitMs, this.#metricsMs + METRICS_MS - nowMs);
    return Math.max(0, Math.ceil(waitMs));
  }

  // With groups that the log has refused nothing more is drained.
  #pause(): void {
    if (this.#snapshot !== undefined && !this.#snapshot.isWaitingForLog) return;
    if (this.#trouble === undefined || !this.#isHeld) {
      // The window is full, and the log has still to answer.
      if (this.#flights.count > 0) this.#sleep(SHORT_WAIT_MS);
      return;
    }
    const waitMs = Math.min(this.#trouble.againMs - this.#clock.steadyMs(), this.#log.syncDueInMs());
    if (waitMs > 0) this.#sleep(waitMs);
  }

  #isExiting(): boolean {
    return Atomics.load(this.#control, Control.exiting) !== 0;
  }

  // ---- commands ----

  #begin(command: Command): void {
    if (command.kind === 'sync') this.#syncs.push(command);
    else if (command.kind === 'snapshot') this.#snapshotNext.push(command.id);
    else if (this.#closing === undefined) {
      const { id, timeoutMs, takesSnapshot } = command;
      const deadlineMs = timeoutMs === 0 ? Number.POSITIVE_INFINITY : this.#clock.steadyMs() + timeoutMs;
      this.#closing = { id, deadlineMs, takesSnapshot, targets: targetsOf(this.#handle), phase: 'draining' };
    }
  }

  // With the numbers that whoever asked may look at next.
  #done(id: number, result?: unknown): void {
    this.#publishMetrics(this.#clock.steadyMs());
    this.#say({ kind: 'done', id, result, error: undefined });
  }

  #refuse(id: number, error: unknown): void {
    this.#say({ kind: 'done', id, result: undefined, error: plainError(error) });
  }

  #answerSyncs(): void {
    if (this.#syncs.length === 0) return;
    const left: Sync[] = [];
    let cause: unknown;
    if (isFull(this.#state)) cause = fullLog(this.#log);
    if (this.#state === FeedState.failed) cause = brokenLog(this.#log);
    cause ??= this.#loss();
    for (const sync of this.#syncs) {
      if (cause === undefined && !this.#handle.covered(sync.targets)) {
        left.push(sync);
        continue;
      }
      cause ??= this.#syncLog();
      if (cause === PENDING) left.push(sync);
      else if (cause === undefined) this.#done(sync.id);
      else this.#refuse(sync.id, cause);
    }
    this.#syncs = left;
  }

  // What the log has lost is in the cache still. Until a snapshot has it, nobody is told that it is safe; the number is
  // with the metrics, where a thread that comes after this one finds it.
  #loss(): CairnError | undefined {
    const { recordCount } = this.#log.lost;
    if (recordCount > this.#lostCounted) {
      this.#metrics.add('recordsLost', recordCount - this.#lostCounted);
      this.#lostCounted = recordCount;
      this.#publishMetrics(this.#clock.steadyMs());
    }
    const lost = this.#metrics.get('recordsLost');
    return lost === 0 ? undefined : recordsLost(this.#log.name, lost);
  }

  // Why it cannot; `pending`: the log is not that far yet.
  #syncLog(): unknown {
    try {
      return this.#log.syncStep() ? undefined : PENDING;
    } catch (error) {
      if (!(error instanceof CairnError)) throw error;
      return this.#loss() ?? error;
    }
  }

  // ---- snapshots ----

  #stepSnapshot(): void {
    if (this.#isReclaiming) this.#isReclaiming = this.#log.reclaim(RECLAIM_SEGMENTS);
    if (this.#isExiting()) return;
    if (this.#loss() !== undefined) this.#plan.demand();
    this.#giveUpStuckSnapshot();
    if (this.#snapshot === undefined && !this.#beginSnapshot()) return;
    try {
      const info = this.#snapshot?.step(this.#snapshotBytes());
      if (info !== undefined) this.#onSnapshot(info);
    } catch (error) {
      this.#onSnapshotFailed(error);
    }
  }

  // A snapshot that waits for a log which takes nothing has an end like all that waits for it.
  #giveUpStuckSnapshot(): void {
    if (this.#trouble === undefined || this.#clock.steadyMs() - this.#trouble.sinceMs < STUCK_MS) return;
    if (this.#snapshot === undefined || !this.#snapshot.isWaitingForLog) return;
    const cause = isFull(this.#state) ? fullLog(this.#log) : brokenLog(this.#log);
    this.#snapshot.abort();
    // Those who have asked meanwhile would wait for the same.
    this.#snapshotFor.push(...this.#snapshotNext.splice(0));
    this.#onSnapshotFailed(cause);
  }

  // Little at a time while somebody may wait for the log, but as fast as the log grows, so that it does not outgrow the
  // cache before the snapshot is done; faster where it has little room left.
  #snapshotBytes(): number {
    if (this.#appendedBytes === 0) return SNAPSHOT_BYTES_IDLE;
    const { level } = this.#log.usage();
    const bytes = Math.max(STEP_BYTES, this.#appendedBytes);
    return level === 'ok' ? Math.min(bytes, SNAPSHOT_BYTES_MAX) : Math.max(SNAPSHOT_BYTES_IDLE, bytes * 2);
  }

  #beginSnapshot(): boolean {
    const isAsked = this.#snapshotNext.length > 0 || this.#closing?.phase === 'snapshot';
    if (!isAsked && this.#closing !== undefined && !this.#plan.isDemanded) return false;
    if (!isAsked && this.#plan.dueInMs(this.#clock.steadyMs()) > 0) return false;
    this.#snapshotFor = this.#snapshotNext;
    this.#snapshotNext = [];
    this.#snapshotBegunMs = this.#clock.steadyMs();
    this.#readsBegun = this.#readCount();
    this.#lostAtBegin = this.#metrics.get('recordsLost');
    this.#plan.begin();
    try {
      this.#snapshot = new SnapshotTask({ handle: this.#handle, log: this.#log });
    } catch (error) {
      this.#onSnapshotFailed(error);
      return false;
    }
    this.#metrics.set('snapshotRunning', 1);
    this.#isMetricsDue = true;
    return true;
  }

  #onSnapshot(info: SnapshotInfo): void {
    const elapsedMs = this.#clock.steadyMs() - this.#snapshotBegunMs;
    this.#endSnapshot();
    this.#plan.done(info);
    this.#readsBefore = this.#readsBegun;
    this.#metrics.add('recordsLost', -this.#lostAtBegin);
    this.#isReclaiming = true;
    this.#metrics.add('snapshots', 1);
    this.#metrics.set('snapshotAtMs', info.finishedMs);
    this.#metrics.set('snapshotMs', elapsedMs);
    this.#metrics.set('snapshotBytes', info.fileBytes);
    this.#metrics.set('snapshotEntries', info.recordCount);
    const snapshot = summaryOf(info);
    for (const id of this.#snapshotFor.splice(0)) this.#done(id, snapshot);
    this.#notify({ kind: 'snapshot', snapshot });
  }

  #onSnapshotFailed(error: unknown): void {
    if (!(error instanceof CairnError)) throw error;
    this.#endSnapshot();
    if (error.code === 'ERR_CLOSED') {
      this.#end('ended');
      return;
    }
    this.#plan.failed();
    this.#metrics.add('snapshotsFailed', 1);
    for (const id of this.#snapshotFor.splice(0)) this.#refuse(id, error);
    this.#notify({ kind: 'snapshot-failed', cause: error });
  }

  #endSnapshot(): void {
    this.#snapshot = undefined;
    this.#log.exceedLimit(false);
    this.#metrics.set('snapshotRunning', 0);
    this.#isMetricsDue = true;
    if (this.#closing?.phase === 'snapshot') this.#closeLast(this.#closing);
  }

  // ---- the end ----

  #goOnClosing(): void {
    const closing = this.#closing;
    if (closing === undefined || this.#outcome !== undefined) return;
    const isOver = this.#clock.steadyMs() >= closing.deadlineMs;
    const isWritten = this.#flights.count === 0 && this.#handle.covered(closing.targets);
    if (isOver || (isWritten && closing.phase === 'last' && !this.#isReclaiming)) {
      this.#close(closing, isWritten);
    } else if (isWritten && closing.phase === 'draining') {
      if (closing.takesSnapshot && this.#takesSnapshotAtClose && this.#isSnapshotOld()) {
        // One that is under way is old by now.
        this.#giveUpSnapshot();
        closing.phase = 'snapshot';
      } else this.#closeLast(closing);
    }
  }

  // Reads count too: they change what is evicted first.
  #isSnapshotOld(): boolean {
    return this.#plan.hasNews || this.#readCount() !== this.#readsBefore;
  }

  #readCount(): number {
    const names = native.statNames;
    const numbers = new Float64Array(names.length);
    this.#handle.stats(numbers);
    return numbers[names.indexOf('hits')]! + numbers[names.indexOf('touchHits')]!;
  }

  #closeLast(closing: Closing): void {
    closing.phase = 'last';
    this.#handle.readTargets(closing.targets);
  }

  #giveUpSnapshot(): void {
    if (this.#snapshot === undefined) return;
    this.#snapshot.abort();
    this.#snapshotNext.push(...this.#snapshotFor.splice(0));
    this.#endSnapshot();
  }

  #close(closing: Closing, isWritten: boolean): void {
    this.#giveUpSnapshot();
    let cause: unknown;
    try {
      this.#log.close();
    } catch (error) {
      if (!(error instanceof CairnError)) throw error;
      cause = error;
    }
    cause ??= this.#loss();
    if (!isWritten) cause = notWritten(this.#log, this.#recordsWaiting(), this.#state);
    const closed = new CairnError('ERR_CLOSED', `The log in ${this.#log.name} is closed`);
    for (const { id } of this.#syncs.splice(0)) this.#refuse(id, cause ?? closed);
    for (const id of this.#snapshotNext.splice(0)) this.#refuse(id, cause ?? closed);
    if (cause === undefined) this.#done(closing.id);
    else this.#refuse(closing.id, cause);
    this.#outcome = 'closed';
  }

  #recordsWaiting(): number {
    this.#handle.feedStats(this.#feedNumbers);
    return this.#feedNumbers[FeedStat.records]! - this.#feedNumbers[FeedStat.recordsCommitted]!;
  }

  // Without having been asked to.
  #end(outcome: 'ended' | CairnError): void {
    if (this.#outcome !== undefined) return;
    this.#outcome = outcome;
    if (outcome !== 'ended') this.#setState(FeedState.failed);
    this.#snapshot?.abort();
    this.#snapshot = undefined;
    try {
      this.#log.close();
    } catch (error) {
      if (!(error instanceof CairnError)) throw error;
      this.#notify({ kind: 'sync-failed', cause: error });
    }
  }

  // ---- what is told ----

  #notify(notice: ScribeNotice): void {
    this.#say({ kind: 'notice', notice: plainNotice(notice) });
  }

  #publishMetrics(nowMs: number): void {
    const { bytes, limitBytes, level } = this.#log.usage();
    this.#metrics.set('logBytes', bytes);
    this.#metrics.set('logLimitBytes', limitBytes);
    this.#metrics.set('segments', this.#log.segmentCount);
    this.#metrics.set('level', LOG_LEVELS.indexOf(level));
    this.#handle.setLogMetrics(this.#metrics.numbers);
    this.#metricsMs = nowMs;
    this.#isMetricsDue = false;
  }
}

function isFull(state: FeedState): boolean {
  return state === FeedState.full || state === FeedState.stuck;
}

export function summaryOf(info: SnapshotInfo): SnapshotSummary {
  const { name, position, recordCount, fileBytes, startedMs, finishedMs } = info;
  return { name, position, entries: recordCount, bytes: fileBytes, startedMs, finishedMs };
}

function lostLog({ name: directory }: LogPort, result: Extract<Refusal, { kind: 'conflict' | 'fenced' }>): CairnError {
  const why = result.kind === 'fenced' ? `in epoch ${result.epoch}` : `which ends at position ${result.end}`;
  return new CairnError(
    'ERR_LOG_IO',
    `Somebody else writes the log in ${directory}, ${why}: nothing more is written to it`,
  );
}

function fullLog(log: LogPort): CairnError {
  const { bytes, limitBytes } = log.usage();
  return new CairnError(
    'ERR_LOG_FULL',
    `The log in ${log.name} has no room, on the disk or within logLimit: it takes ${bytes} of ${limitBytes} bytes`,
  );
}

function brokenLog({ name: directory }: LogPort): CairnError {
  return new CairnError('ERR_LOG_IO', `The log in ${directory} cannot be written. It is tried again`);
}

function notWritten({ name: directory }: LogPort, records: number, state: FeedState): CairnError {
  const code = isFull(state) ? 'ERR_LOG_FULL' : state === FeedState.failed ? 'ERR_LOG_IO' : 'ERR_TIMEOUT';
  const why = { ERR_LOG_FULL: 'it has no room', ERR_LOG_IO: 'it cannot be written', ERR_TIMEOUT: 'the time was over' };
  const count = records === 1 ? '1 record' : `${records} records`;
  return new CairnError(code, `${count} did not get into the log in ${directory}: ${why[code]}`);
}
