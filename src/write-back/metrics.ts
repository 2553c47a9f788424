/**
 * Numbers about write-back, from the writer to `stats()` in any thread and to the port: an array in the order of this
 * table. The writer and its keeper share it, so that counters go on when a thread is replaced; every other thread sees
 * it in the addon, behind the numbers of the log.
 */
import type { FeedHandle } from '../native.ts';
import { LOG_METRICS } from '../scribe/index.ts';
import type { WriterState } from './writer.ts';

/** Times are in milliseconds. */
export const WRITE_BACK_METRICS = [
  /** The place in WRITER_STATES. */
  'state',
  'behindBytes',
  'owedRecords',
  'owedBytes',
  'oldestUnwrittenMs',
  'batches',
  'records',
  'rows',
  'rowBytes',
  'batchLastRows',
  'batchLastMs',
  'batchMeanMs',
  'batchMaxMs',
  'retries',
  'deadLetters',
  'restarts',
  'healings',
  'historyMs',
  'historyBytes',
  'questions',
  'keysAsked',
  'questionMeanMs',
  'questionMaxMs',
  'loadsFailed',
  'circuitOpened',
  'lanes',
  'sweptRows',
  'sweepsFailed',
  'logPressure',
  'reservePressure',
] as const;
export type WriteBackMetric = (typeof WRITE_BACK_METRICS)[number];

export const WRITER_STATES: readonly WriterState[] = [
  'opening',
  'writing',
  'retrying',
  'halted',
  'paused',
  'refused',
  'closed',
  'healing',
];

const PLACES = Object.fromEntries(WRITE_BACK_METRICS.map((name, place) => [name, place])) as Record<
  WriteBackMetric,
  number
>;

export const NUMBERS_BYTES: number = WRITE_BACK_METRICS.length * Float64Array.BYTES_PER_ELEMENT;

/** The numbers, as all threads see them. One thread changes each of them. */
export class WriteBackMetrics {
  readonly #numbers: Float64Array;

  constructor(numbers: SharedArrayBuffer) {
    this.#numbers = new Float64Array(numbers);
  }

  get(name: WriteBackMetric): number {
    return this.#numbers[PLACES[name]]!;
  }

  set(name: WriteBackMetric, value: number): void {
    this.#numbers[PLACES[name]] = value;
  }

  add(name: WriteBackMetric, value: number): void {
    this.#numbers[PLACES[name]]! += value;
  }

  /** One more of these has ended, after this time: their number, and the mean and the longest time. */
  ended(what: 'batch' | 'question', elapsedMs: number): void {
    const count = what === 'batch' ? 'batches' : 'questions';
    this.add(count, 1);
    this.add(`${what}MeanMs`, (elapsedMs - this.get(`${what}MeanMs`)) / this.get(count));
    this.set(`${what}MaxMs`, Math.max(this.get(`${what}MaxMs`), elapsedMs));
  }

  /** Shows them to all threads. */
  publish(handle: FeedHandle): void {
    handle.setLogMetrics(this.#numbers, LOG_METRICS.length);
  }
}

/** How the port calls them, behind those of the log. */
export const WRITE_BACK_STAT_NAMES: readonly string[] = WRITE_BACK_METRICS.map(
  (name) => `writeBack${name[0]!.toUpperCase()}${name.slice(1)}`,
);

/** Of a cache with a database, in `cache.stats().writeBack`. Counters are since the cache was opened. */
export interface WriteBackStats {
  /**
   * `opening`: the database has not answered yet; `writing`; `healing`: it has gone back to an earlier state, and gets
   * what it lacks from the log; `retrying` and `halted`: it cannot be written, and is
   * tried again; `paused`; `refused`: nothing is written until the cache is opened again; `closed`.
   */
  state: WriterState;
  /** Bytes of the log that the database does not have yet. */
  behindBytes: number;
  /** Of these, what the writer has in memory: records, and bytes of keys and values after coalescing. */
  owedRecords: number;
  owedBytes: number;
  /** The age of the oldest change of them, 0: there is none. */
  oldestUnwrittenMs: number;
  /** Transactions, the records of the log in them, and the rows and bytes that were left after coalescing. */
  batches: number;
  records: number;
  rows: number;
  rowBytes: number;
  /** Records to a row: 1 if no key changed twice within a batch. */
  coalescing: number;
  /** Rows of the last transaction, its duration, the mean and the longest, tries included. */
  batchLastRows: number;
  batchLastMs: number;
  batchMeanMs: number;
  batchMaxMs: number;
  /** Calls of the database that failed and were tried again. */
  retries: number;
  /** Changes that the database refused for good. */
  deadLetters: number;
  /** Threads that were started anew because one died or did not answer. */
  restarts: number;
  /** Times the database had gone back to an earlier state, and was brought to the present one. */
  healings: number;
  /** What the log keeps for that: the time that the database may go back, and the bytes of the log. */
  historyMs: number;
  historyBytes: number;
  /** Questions to the database for rows that were answered, the keys in them, and the mean and the longest time. */
  questions: number;
  keysAsked: number;
  questionMeanMs: number;
  questionMaxMs: number;
  /** Questions that failed, or were not asked because the database did not answer; their requests were refused. */
  loadsFailed: number;
  /** Times that the database was left in peace for a while, because it did not answer. */
  circuitOpened: number;
  /** Lanes that write, each with its share of the keys. */
  lanes: number;
  /** Expired rows that the sweep has removed, and steps of it that failed. */
  sweptRows: number;
  sweepsFailed: number;
  /**
   * How full the log is of changes that the database lacks, and the memory for keys of which it lacks some, in percent:
   * at 100 changes are refused.
   */
  logPressure: number;
  reservePressure: number;
}

/** The statistics, from any thread. */
export function readWriteBackStats(handle: FeedHandle): WriteBackStats {
  const numbers = new Float64Array(LOG_METRICS.length + WRITE_BACK_METRICS.length);
  handle.logMetrics(numbers);
  return statsOf(numbers.subarray(LOG_METRICS.length));
}

function statsOf(numbers: Float64Array): WriteBackStats {
  const of = (name: WriteBackMetric): number => numbers[PLACES[name]]!;
  const rows = of('rows');
  const { state: _, ...others } = Object.fromEntries(WRITE_BACK_METRICS.map((name) => [name, of(name)]));
  return {
    state: WRITER_STATES[of('state')]!,
    ...(others as unknown as Omit<WriteBackStats, 'state' | 'coalescing'>),
    coalescing: rows === 0 ? 1 : of('records') / rows,
  };
}
