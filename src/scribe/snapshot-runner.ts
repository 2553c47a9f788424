/**
 * The snapshots of a running cache: which one is under way, which commands wait for it, and which segments of the log
 * it makes free. At most one is under way (snapshot-task.ts); it takes a step in each turn of the scribe. One begins
 * when a thread asks, when the schedule says so (snapshot-plan.ts), when the log is at its limit, and when the log has
 * lost records.
 */
import { CairnError } from '../errors.ts';
import type { LogClock, LogPort, SnapshotInfo } from '../log/index.ts';
import { type FeedHandle, native } from '../native.ts';
import type { Losses } from './losses.ts';
import type { ScribeNotice, SnapshotSchedule, SnapshotSummary } from './message.ts';
import type { Metrics } from './metrics.ts';
import { SnapshotPlan } from './snapshot-plan.ts';
import { SnapshotTask, STEP_BYTES } from './snapshot-task.ts';

/** What one turn takes of a snapshot if it had nothing to append; and at most, while the log has room. */
const BYTES_IDLE: number = 8 * STEP_BYTES;
const BYTES_MAX: number = 16 * STEP_BYTES;
/** Segments that one turn removes. */
const RECLAIM_SEGMENTS = 1;

export interface SnapshotRunnerOptions {
  readonly handle: FeedHandle;
  readonly log: LogPort;
  readonly clock: LogClock;
  readonly metrics: Metrics;
  readonly losses: Losses;
  readonly schedule: SnapshotSchedule;
  /** Bytes of log behind the last snapshot. */
  readonly logBytes: number;
  readonly on: {
    /** One that was asked for is complete, or could not be taken. */
    done(id: number, snapshot: SnapshotSummary): void;
    refused(id: number, cause: unknown): void;
    notice(notice: ScribeNotice): void;
    /** The metrics have changed. */
    news(): void;
    /** The cache has ended. */
    ended(): void;
  };
}

/** What a turn had to do beside. */
export interface TurnWork {
  /** Bytes that were appended. */
  readonly appendedBytes: number;
  /** The process is about to exit. */
  readonly isExiting: boolean;
  /** Why no snapshot can come to its end, because the log takes nothing for too long. */
  readonly stuck: CairnError | undefined;
}

export class SnapshotRunner {
  readonly #options: SnapshotRunnerOptions;
  readonly #handle: FeedHandle;
  readonly #log: LogPort;
  readonly #clock: LogClock;
  readonly #metrics: Metrics;
  readonly #losses: Losses;
  readonly #plan: SnapshotPlan;
  #task: SnapshotTask | undefined;
  #begunMs = 0;
  /** Reads when the present snapshot and the last one were begun. */
  #readsBegun = 0;
  #readsBefore = 0;
  #lostAtBegin = 0;
  /** Commands that the present snapshot answers, and the next one. */
  #askedNow: number[] = [];
  #askedNext: number[] = [];
  /** The log may have segments that can go. The snapshot that recovery has read is a verified one, too. */
  #isReclaiming = true;
  #isClosing = false;
  /** The log has refused the last group because of its limit. */
  #isAtLimit = false;
  #last: 'unwanted' | 'wanted' | 'over' = 'unwanted';

  constructor(options: SnapshotRunnerOptions) {
    const { handle, log, clock, metrics, losses, schedule, logBytes } = options;
    this.#options = options;
    this.#handle = handle;
    this.#log = log;
    this.#clock = clock;
    this.#metrics = metrics;
    this.#losses = losses;
    this.#plan = new SnapshotPlan(schedule, log, clock, logBytes);
  }

  /** A command asks for one. One that is under way began too early for it. */
  ask(id: number): void {
    this.#askedNext.push(id);
  }

  /** `bytes` more are in the log. */
  appended(bytes: number): void {
    this.#isAtLimit = false;
    this.#plan.add(bytes);
  }

  /** One is under way, and needs the next turn. */
  get isWalking(): boolean {
    return this.#task !== undefined && !this.#task.isWaitingForLog && !this.#task.isSyncing;
  }

  /** One is under way, and waits only for the log. */
  get isWaitingForLog(): boolean {
    return this.#task?.isWaitingForLog ?? false;
  }

  /** The log may exceed its limit, for records that the one waits for that is under way. */
  mayExceedLimit(): boolean {
    return this.#task?.mayExceedLimit() ?? false;
  }

  /** One is under way, and the log is being made durable for it. */
  get isSyncing(): boolean {
    return this.#task?.isSyncing ?? false;
  }

  /** Segments are being removed, some in each turn. */
  get isReclaiming(): boolean {
    return this.#isReclaiming;
  }

  /**
   * Milliseconds until one is due by the schedule. None is while the log is at its limit and cursors keep it there: it
   * would wait for records that the log does not take.
   */
  dueInMs(nowMs: number): number {
    if (this.#isAtLimit && !this.#log.makesRoom(this.#log.committed)) return Number.POSITIVE_INFINITY;
    return this.#plan.dueInMs(nowMs);
  }

  /**
   * A group was refused. The log keeps segments for its older snapshot while it is not `high`, also if the disk is full
   * for other reasons: those go now. A log can be at its limit with little behind the last snapshot, if that lies in
   * the middle of a large segment or the limit was higher before. Only another snapshot makes room then.
   */
  makeRoom(reason: 'limit' | 'disk'): void {
    const { newestVerified } = this.#log.snapshots;
    if (reason === 'disk' && newestVerified !== undefined) this.#log.truncate(newestVerified.position);
    else this.#isReclaiming = true;
    this.#isAtLimit = reason === 'limit';
    if (this.#isAtLimit && this.#task === undefined && this.#log.makesRoom(this.#log.committed)) this.#plan.demand();
  }

  /** This turn's share of a snapshot, and of removing segments. */
  step({ appendedBytes, isExiting, stuck }: TurnWork): void {
    if (this.#isReclaiming) this.#isReclaiming = this.#log.reclaim(RECLAIM_SEGMENTS);
    if (isExiting) return;
    if (this.#losses.error() !== undefined) this.#plan.demand();
    if (stuck !== undefined && this.isWaitingForLog) this.#giveUp(stuck);
    if (this.#task === undefined && !this.#begin()) return;
    try {
      const info = this.#task?.step(this.#stepBytes(appendedBytes));
      if (info !== undefined) this.#onDone(info);
    } catch (error) {
      this.#onFailed(error);
    }
  }

  // ---- the end ----

  /** The log is being closed: from now on snapshots begin only when a command or the log's room needs one. */
  beginClosing(): void {
    this.#isClosing = true;
  }

  /** The cache differs from the last snapshot. Reads count too: they change which entries are evicted first. */
  get isOld(): boolean {
    return this.#plan.hasNews || this.#readCount() !== this.#readsBefore;
  }

  /** Takes a last one from the beginning, in place of one that is under way. */
  takeLast(): void {
    this.abandon();
    this.#last = 'wanted';
  }

  /** The last one was taken, or could not be. */
  get isLastOver(): boolean {
    return this.#last === 'over';
  }

  /** Ends the one that is under way. Its commands wait for another one. */
  abandon(): void {
    if (this.#task === undefined) return;
    this.#task.abort();
    this.#askedNext.push(...this.#askedNow.splice(0));
    this.#end();
  }

  /** No more snapshots: takes the commands that wait for one. */
  takeAsked(): number[] {
    return this.#askedNext.splice(0);
  }

  /** Ends the one that is under way, without a word. */
  abort(): void {
    this.#task?.abort();
    this.#task = undefined;
  }

  // ---- one ----

  #begin(): boolean {
    const isAsked = this.#askedNext.length > 0 || this.#last === 'wanted';
    if (!isAsked && this.#isClosing && !this.#plan.isDemanded) return false;
    if (!isAsked && this.dueInMs(this.#clock.steadyMs()) > 0) return false;
    this.#askedNow = this.#askedNext;
    this.#askedNext = [];
    this.#begunMs = this.#clock.steadyMs();
    this.#readsBegun = this.#readCount();
    this.#lostAtBegin = this.#losses.count;
    this.#plan.begin();
    try {
      this.#task = new SnapshotTask({ handle: this.#handle, log: this.#log });
    } catch (error) {
      this.#onFailed(error);
      return false;
    }
    this.#metrics.set('snapshotRunning', 1);
    this.#options.on.news();
    return true;
  }

  // A step takes as many bytes as the log has grown by, so that the log does not outgrow the cache before the snapshot
  // is done, and more if the log has little room left. It is small because threads may wait for the log meanwhile.
  #stepBytes(appendedBytes: number): number {
    if (appendedBytes === 0) return BYTES_IDLE;
    const { level } = this.#log.usage();
    const bytes = Math.max(STEP_BYTES, appendedBytes);
    return level === 'ok' ? Math.min(bytes, BYTES_MAX) : Math.max(BYTES_IDLE, bytes * 2);
  }

  #onDone(info: SnapshotInfo): void {
    const elapsedMs = this.#clock.steadyMs() - this.#begunMs;
    this.#end();
    this.#plan.done(info);
    this.#readsBefore = this.#readsBegun;
    this.#losses.madeGood(this.#lostAtBegin);
    this.#isReclaiming = true;
    this.#metrics.add('snapshots', 1);
    this.#metrics.set('snapshotAtMs', info.finishedMs);
    this.#metrics.set('snapshotMs', elapsedMs);
    this.#metrics.set('snapshotBytes', info.fileBytes);
    this.#metrics.set('snapshotEntries', info.recordCount);
    const snapshot = summaryOf(info);
    for (const id of this.#askedNow.splice(0)) this.#options.on.done(id, snapshot);
    this.#options.on.notice({ kind: 'snapshot', snapshot });
  }

  // Commands that came since would wait for the same log. One at its limit needs another snapshot as soon as that makes
  // room.
  #giveUp(cause: CairnError): void {
    this.#task?.abort();
    this.#askedNow.push(...this.takeAsked());
    if (!this.#isAtLimit) this.#plan.failed();
    this.#refuse(cause);
  }

  #onFailed(error: unknown): void {
    if (!(error instanceof CairnError)) throw error;
    if (error.code === 'ERR_CLOSED') {
      this.#end();
      this.#options.on.ended();
      return;
    }
    this.#plan.failed();
    this.#refuse(error);
  }

  #refuse(error: CairnError): void {
    this.#end();
    this.#metrics.add('snapshotsFailed', 1);
    for (const id of this.#askedNow.splice(0)) this.#options.on.refused(id, error);
    this.#options.on.notice({ kind: 'snapshot-failed', cause: error });
  }

  #end(): void {
    this.#task = undefined;
    this.#log.exceedLimit(false);
    this.#metrics.set('snapshotRunning', 0);
    this.#options.on.news();
    if (this.#last === 'wanted') this.#last = 'over';
  }

  #readCount(): number {
    const names = native.statNames;
    const numbers = new Float64Array(names.length);
    this.#handle.stats(numbers);
    return numbers[names.indexOf('hits')]! + numbers[names.indexOf('touchHits')]!;
  }
}

export function summaryOf(info: SnapshotInfo): SnapshotSummary {
  const { name, position, recordCount, fileBytes, startedMs, finishedMs } = info;
  return { name, position, entries: recordCount, bytes: fileBytes, startedMs, finishedMs };
}
