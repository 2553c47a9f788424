/**
 * Numbers about a log, from the scribe to `stats()` in any thread: an array in the addon, in the
 * order of this table.
 */
import { FEED_STAT_COUNT, type FeedHandle, FeedStat } from '../native.ts';

/** Names of FeedState, by number. `stuck` is shown as `full`. */
const FEED_STATES = ['opening', 'running', 'full', 'failed', 'closed', 'full'] as const;
export type FeedStateName = (typeof FEED_STATES)[number];

/**
 * The scribe's numbers; the first two are in src/native.ts too. Times are in milliseconds; points in time are Unix
 * milliseconds, 0 for never.
 */
export const LOG_METRICS = [
  'logBytes',
  'logLimitBytes',
  'segments',
  /** 0 ok, 1 high, 2 critical, 3 full. */
  'level',
  'commits',
  'records',
  'recordBytes',
  'syncs',
  'syncLastMs',
  'syncMeanMs',
  'syncMaxMs',
  'turnMaxMs',
  'snapshots',
  'snapshotsFailed',
  'snapshotAtMs',
  'snapshotMs',
  'snapshotBytes',
  'snapshotEntries',
  'snapshotRunning',
  'recoveryMs',
  'recoveryRecords',
  'recoveryBytes',
  'starts',
  'recordsLost',
] as const;
export type LogMetric = (typeof LOG_METRICS)[number];

export const LOG_LEVELS = ['ok', 'high', 'critical', 'full'] as const;

const PLACES = Object.fromEntries(LOG_METRICS.map((name, place) => [name, place])) as Record<LogMetric, number>;

/** The numbers as the scribe keeps them. */
export class Metrics {
  readonly numbers: Float64Array = new Float64Array(LOG_METRICS.length);

  get(name: LogMetric): number {
    return this.numbers[PLACES[name]]!;
  }

  set(name: LogMetric, value: number): void {
    this.numbers[PLACES[name]] = value;
  }

  add(name: LogMetric, value: number): void {
    this.numbers[PLACES[name]]! += value;
  }

  max(name: LogMetric, value: number): void {
    if (value > this.get(name)) this.set(name, value);
  }
}

/** Of a cache's log, in `cache.stats().log`. Counters are since the cache was opened. */
export interface LogStats {
  /**
   * `running`; `full`: there is no room, and writes are refused once the rings are full; `failed`: records that are not
   * in the log are lost.
   */
  state: FeedStateName;
  /** Bytes of records that the log has not taken yet, of all shards, and the capacity of the rings. */
  ringBytes: number;
  ringCapacityBytes: number;
  /** How full the fullest ring is, from 0 to 1. */
  ringFillWorst: number;
  /** Records that the log has not taken yet, and the age of the oldest, up to one group commit less. */
  recordsWaiting: number;
  oldestWaitingMs: number;
  /** Bytes of the log's segments, and their limit. */
  logBytes: number;
  logLimitBytes: number;
  segments: number;
  /** `high` from 70 % of the limit, `critical` from 85 %, `full` when the log has refused records. */
  level: (typeof LOG_LEVELS)[number];
  /** Group commits, and the records in them and their bytes. */
  commits: number;
  records: number;
  recordBytes: number;
  /** Syncs of the log's files, and the duration of the last, the mean and the longest. */
  syncs: number;
  syncLastMs: number;
  syncMeanMs: number;
  syncMaxMs: number;
  /** The longest turn of the scribe's loop, without waiting. */
  turnMaxMs: number;
  snapshots: number;
  snapshotsFailed: number;
  /** When the last snapshot was complete, in Unix milliseconds; 0: there is none. */
  snapshotAtMs: number;
  /** The age of that snapshot; undefined: there is none. */
  snapshotAgeMs: number | undefined;
  /** Its duration, its size, its number of entries. */
  snapshotMs: number;
  snapshotBytes: number;
  snapshotEntries: number;
  /** Whether a snapshot is being taken. */
  snapshotRunning: boolean;
  /** How long opening took to read the directory, and the records and bytes that it read. */
  recoveryMs: number;
  recoveryRecords: number;
  recoveryBytes: number;
  /** Threads that were started to write the log: more than 1 after one has died. */
  starts: number;
  /**
   * Unsynced records of the log that could not be read back after a failed sync, and that no snapshot has replaced yet.
   * While it is not 0, `sync()` rejects.
   */
  recordsLost: number;
}

/** What the rings of a cache can hold. */
export function ringBytesOf(handle: FeedHandle): number {
  const feed = new Float64Array(FEED_STAT_COUNT);
  handle.feedStats(feed);
  return feed[FeedStat.ringCapacityBytes]!;
}

/** The statistics of a log, from any thread. */
export function readLogStats(handle: FeedHandle, wallMs: number): LogStats {
  const feed = new Float64Array(FEED_STAT_COUNT);
  handle.feedStats(feed);
  const metrics = new Metrics();
  handle.logMetrics(metrics.numbers);
  const of = (name: LogMetric): number => metrics.get(name);
  const snapshotAtMs = of('snapshotAtMs');
  return {
    state: FEED_STATES[feed[FeedStat.state]!]!,
    ringBytes: feed[FeedStat.ringBytes]!,
    ringCapacityBytes: feed[FeedStat.ringCapacityBytes]!,
    ringFillWorst: feed[FeedStat.ringFillWorst]!,
    recordsWaiting: feed[FeedStat.records]! - feed[FeedStat.recordsCommitted]!,
    oldestWaitingMs: feed[FeedStat.lagMs]!,
    logBytes: of('logBytes'),
    logLimitBytes: of('logLimitBytes'),
    segments: of('segments'),
    level: LOG_LEVELS[of('level')]!,
    commits: of('commits'),
    records: of('records'),
    recordBytes: of('recordBytes'),
    syncs: of('syncs'),
    syncLastMs: of('syncLastMs'),
    syncMeanMs: of('syncMeanMs'),
    syncMaxMs: of('syncMaxMs'),
    turnMaxMs: of('turnMaxMs'),
    snapshots: of('snapshots'),
    snapshotsFailed: of('snapshotsFailed'),
    snapshotAtMs,
    snapshotAgeMs: snapshotAtMs === 0 ? undefined : Math.max(0, wallMs - snapshotAtMs),
    snapshotMs: of('snapshotMs'),
    snapshotBytes: of('snapshotBytes'),
    snapshotEntries: of('snapshotEntries'),
    snapshotRunning: of('snapshotRunning') !== 0,
    recoveryMs: of('recoveryMs'),
    recoveryRecords: of('recoveryRecords'),
    recoveryBytes: of('recoveryBytes'),
    starts: of('starts'),
    recordsLost: of('recordsLost'),
  };
}
