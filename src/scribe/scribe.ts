/**
 * The scribe: takes the records of all shards out of the rings and appends them to the log, group by group, for as long
 * as the cache lives. Groups that the log has are committed to the rings, and with that to every thread that waits for
 * them. Other records stay in the rings, where another scribe finds them.
 *
 *     drain -> submit -> settle -> commit -> one step of a snapshot -> answers -> drain ...
 *
 * Its parts: appending.ts has the groups and the state that the doors see; snapshot-runner.ts the snapshots and the
 * segments that they make free; losses.ts counts records that the log has lost; closing.ts is the way to the end. It
 * knows the log by its port (LogPort) only.
 *
 * The scribe never waits but in `drain`, which the next record ends, and in file calls; all of them are synchronous,
 * and it has its thread to itself. With an interval as policy a group is committed when it is written; syncs come by
 * the clock.
 */
import { CairnError, errorKind } from '../errors.ts';
import { earlier, isHistory, type LogClock, type LogPort, type Position, type ReadLevel } from '../log/index.ts';
import { FEED_STAT_COUNT, type FeedHandle, FeedStat, FeedState } from '../native.ts';
import { Appending } from './appending.ts';
import { Closing } from './closing.ts';
import { notWritten, whyRefusing } from './log-errors.ts';
import { Losses } from './losses.ts';
import {
  type Command,
  Control,
  type Heard,
  plainError,
  plainNotice,
  type Report,
  type ScribeNotice,
  type SnapshotSchedule,
} from './message.ts';
import { LOG_LEVELS, type Metrics } from './metrics.ts';
import { SnapshotRunner } from './snapshot-runner.ts';

/** The longest wait: a thread that is to be ended is not held up for longer. */
const WAIT_MS_MAX = 500;
/** The same while a command waits for records to be safe, or the process is about to exit. */
const SHORT_WAIT_MS = 1;
/** How often the numbers for `stats` are given out, while there is news. */
const METRICS_MS = 200;

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
  readonly hear: () => Heard | undefined;
  readonly say: (report: Report) => void;
  /** Stops this thread for `ms` milliseconds. */
  readonly sleep: (ms: number) => void;
}

/** A command waits until everything up to these versions is durable, or committed. */
interface Sync {
  readonly id: number;
  readonly targets: BigUint64Array;
  /** Default `durable`. */
  readonly level?: ReadLevel;
  /** They are in the log before this position; undefined: not all of them are. */
  end?: Position;
}

export class Scribe {
  readonly #options: ScribeOptions;
  readonly #handle: FeedHandle;
  readonly #log: LogPort;
  readonly #clock: LogClock;
  readonly #metrics: Metrics;
  readonly #appending: Appending;
  readonly #snapshots: SnapshotRunner;
  readonly #losses: Losses;
  readonly #feedNumbers = new Float64Array(FEED_STAT_COUNT);

  /** Of the groups that the log has taken in this turn. */
  #appendedBytes = 0;
  #syncs: Sync[] = [];
  #closing: Closing | undefined;
  #outcome: 'closed' | 'ended' | CairnError | undefined;
  #isMetricsDue = false;
  #metricsMs = 0;

  constructor(options: ScribeOptions) {
    const { handle, log, clock, metrics, sleep } = options;
    this.#options = options;
    this.#handle = handle;
    this.#log = log;
    this.#clock = clock;
    this.#metrics = metrics;
    this.#losses = new Losses(log, metrics, () => this.#publishMetrics(clock.steadyMs()));
    this.#snapshots = new SnapshotRunner({
      handle,
      log,
      clock,
      metrics,
      losses: this.#losses,
      schedule: options.snapshots,
      logBytes: options.logBytes,
      on: {
        done: (id, snapshot) => this.#done(id, snapshot),
        refused: (id, cause) => this.#refuse(id, cause),
        notice: (notice) => this.#notify(notice),
        news: () => {
          this.#isMetricsDue = true;
        },
        ended: () => this.#end('ended'),
      },
    });
    this.#appending = new Appending({
      handle,
      log,
      clock,
      sleep,
      mayExceedLimit: () => this.#snapshots.mayExceedLimit(),
      on: {
        committed: (bytes, recordCount) => this.#onCommitted(bytes, recordCount),
        full: (reason) => this.#snapshots.makeRoom(reason),
        failed: (cause) => this.#notify({ kind: 'sync-failed', cause }),
        ended: (outcome) => this.#end(outcome),
      },
    });
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
      this.#snapshots.abort();
      this.#publishMetrics(this.#clock.steadyMs());
      return this.#outcome;
    }
  }

  /** One turn: waits for records or other work, and does some of each. */
  turn(): void {
    for (let command = this.#options.hear(); command !== undefined; command = this.#options.hear()) {
      this.#begin(command);
    }
    this.#appendedBytes = 0;
    const group = this.#waitForGroup();
    const begunMs = this.#clock.steadyMs();
    if (group !== undefined) this.#appending.send(group);
    if (this.#outcome === undefined) this.#work(begunMs);
    const endMs = this.#clock.steadyMs();
    this.#metrics.max('turnMaxMs', endMs - begunMs);
    if (this.#isMetricsDue && endMs - this.#metricsMs >= METRICS_MS) this.#publishMetrics(endMs);
  }

  // ---- waiting ----

  #waitForGroup(): ReturnType<Appending['drain']> {
    if (this.#appending.hasRoom) return this.#appending.drain(this.#waitMs());
    if (!this.#snapshots.isWalking) this.#appending.pause();
    return undefined;
  }

  #waitMs(): number {
    if (this.#snapshots.isReclaiming || this.#snapshots.isWalking) return 0;
    if (this.#snapshots.isWaitingForLog || this.#snapshots.isSyncing) return SHORT_WAIT_MS;
    if (this.#closing !== undefined || this.#syncs.length > 0) return SHORT_WAIT_MS;
    if (this.#isExiting() || this.#appending.count > 0) return SHORT_WAIT_MS;
    const nowMs = this.#clock.steadyMs();
    let waitMs = Math.min(WAIT_MS_MAX, this.#log.syncDueInMs(), this.#snapshots.dueInMs(nowMs));
    if (this.#isMetricsDue) waitMs = Math.min(waitMs, this.#metricsMs + METRICS_MS - nowMs);
    return Math.max(0, Math.ceil(waitMs));
  }

  #isExiting(): boolean {
    return Atomics.load(this.#options.control, Control.exiting) !== 0;
  }

  // ---- the parts of a turn ----

  #work(nowMs: number): void {
    if (this.#appending.settle(nowMs)) this.#isMetricsDue = true;
    if (this.#outcome === undefined) {
      this.#log.syncIfDue();
      this.#stepSnapshot();
    }
    // Also if that was the end: they would wait forever.
    this.#answerSyncs();
    this.#stepClosing();
  }

  #onCommitted(bytes: number, recordCount: number): void {
    this.#appendedBytes += bytes;
    this.#snapshots.appended(bytes);
    this.#metrics.add('commits', 1);
    this.#metrics.add('records', recordCount);
    this.#metrics.add('recordBytes', bytes);
  }

  #stepSnapshot(): void {
    this.#snapshots.step({
      appendedBytes: this.#appendedBytes,
      isExiting: this.#isExiting(),
      stuck: this.#appending.isStuck ? whyRefusing(this.#log, this.#appending.state) : undefined,
    });
  }

  #answerSyncs(): void {
    if (this.#syncs.length === 0) return;
    const left: Sync[] = [];
    let cause: CairnError | undefined = this.#outcome instanceof CairnError ? this.#outcome : this.#whyNotSafe();
    for (const sync of this.#syncs) {
      if (cause === undefined && !this.#handle.covered(sync.targets)) {
        left.push(sync);
        continue;
      }
      let isDone = false;
      if (cause === undefined) {
        sync.end ??= this.#log.committed;
        try {
          isDone = sync.level === 'committed' || this.#log.syncStep(sync.end);
        } catch (error) {
          if (!(error instanceof CairnError)) throw error;
          cause = this.#losses.error() ?? error;
        }
      }
      if (cause !== undefined) this.#refuse(sync.id, cause);
      else if (isDone) this.#done(sync.id, sync.end);
      else left.push(sync);
    }
    this.#syncs = left;
  }

  #whyNotSafe(): CairnError | undefined {
    return whyRefusing(this.#log, this.#appending.state) ?? this.#losses.error();
  }

  // ---- commands ----

  #begin(command: Heard): void {
    if (command.kind === 'sync') this.#syncs.push(command);
    else if (command.kind === 'cancel') this.#syncs = this.#syncs.filter(({ id }) => id !== command.id);
    else if (command.kind === 'snapshot') this.#snapshots.ask(command.id);
    else if (command.kind === 'cursor') this.#useCursor(command);
    else if (this.#closing === undefined) {
      const { id, timeoutMs, takesSnapshot } = command;
      this.#closing = new Closing({
        id,
        timeoutMs,
        takesSnapshot: takesSnapshot && this.#options.snapshots.isTakenAtClose,
        handle: this.#handle,
        clock: this.#clock,
        appending: this.#appending,
        snapshots: this.#snapshots,
      });
    }
  }

  // What the log refuses is the answer.
  #useCursor({ id, name, act }: Extract<Command, { kind: 'cursor' }>): void {
    try {
      const cursor = this.#log.cursor(name);
      if (act === 'position') this.#done(id, cursor.position());
      else {
        if (act === 'drop') cursor.drop();
        else if ('place' in act) cursor.place(act.place);
        else cursor.advance(act.advance);
        this.#handle.dropPlaces(lowestCursor(this.#log));
        this.#done(id);
      }
    } catch (error) {
      if (errorKind(error) === undefined) throw error;
      this.#refuse(id, error);
    }
  }

  // With the numbers that the caller may look at next.
  #done(id: number, result?: unknown): void {
    this.#publishMetrics(this.#clock.steadyMs());
    this.#options.say({ kind: 'done', id, result, error: undefined });
  }

  #refuse(id: number, error: unknown): void {
    this.#options.say({ kind: 'done', id, result: undefined, error: plainError(error) });
  }

  #notify(notice: ScribeNotice): void {
    this.#options.say({ kind: 'notice', notice: plainNotice(notice) });
  }

  // ---- the end ----

  #stepClosing(): void {
    const closing = this.#closing;
    if (closing === undefined || this.#outcome !== undefined) return;
    const step = closing.step();
    if (step !== 'going-on') this.#close(closing.id, step === 'written');
  }

  #close(id: number, isWritten: boolean): void {
    this.#snapshots.abandon();
    let cause = this.#closeLog() ?? this.#losses.error();
    if (!isWritten) cause = notWritten(this.#log, this.#recordsWaiting(), this.#appending.state);
    const closed = new CairnError('ERR_CLOSED', `The log in ${this.#log.name} is closed`);
    for (const sync of this.#syncs.splice(0)) this.#refuse(sync.id, cause ?? closed);
    for (const asked of this.#snapshots.takeAsked()) this.#refuse(asked, cause ?? closed);
    if (cause === undefined) this.#done(id);
    else this.#refuse(id, cause);
    this.#outcome = 'closed';
  }

  // Without a command.
  #end(outcome: 'ended' | CairnError): void {
    if (this.#outcome !== undefined) return;
    this.#outcome = outcome;
    if (outcome !== 'ended') this.#appending.setState(FeedState.failed);
    this.#snapshots.abort();
    const cause = this.#closeLog();
    if (cause !== undefined) this.#notify({ kind: 'sync-failed', cause });
  }

  #closeLog(): CairnError | undefined {
    try {
      this.#log.close();
      return undefined;
    } catch (error) {
      if (!(error instanceof CairnError)) throw error;
      return error;
    }
  }

  #recordsWaiting(): number {
    this.#handle.feedStats(this.#feedNumbers);
    return this.#feedNumbers[FeedStat.records]! - this.#feedNumbers[FeedStat.recordsCommitted]!;
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

// No reader needs what is before it, unless it goes back.
function lowestCursor(log: LogPort): Position {
  let lowest = log.committed;
  for (const [name, position] of log.cursors()) if (!isHistory(name)) lowest = earlier(lowest, position);
  return lowest;
}
