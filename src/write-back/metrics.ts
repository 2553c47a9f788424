/** Numbers about write-back, from the writer to `stats()`: an array in shared memory, in the order of this table. */
import type { WriterState } from './writer.ts';

/** Times are in milliseconds; points in time are Unix milliseconds, 0 for never. */
export const WRITE_BACK_METRICS = [
  /** The place in WRITER_STATES. */
  'state',
  'behindBytes',
  'oldestUnwrittenAtMs',
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
}

/** Of a cache with a database, in `cache.stats().writeBack`. Counters are since the cache was opened. */
export interface WriteBackStats {
  /**
   * `opening`: the database has not answered yet; `writing`; `retrying` and `halted`: it cannot be written, and is
   * tried again; `paused`; `refused`: nothing is written until the cache is opened again; `closed`.
   */
  state: WriterState;
  /** Bytes of the log that the database does not have yet. */
  behindBytes: number;
  /** The age of the oldest change in them, 0: there is none. */
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
}

export function writeBackStats(metrics: WriteBackMetrics, wallMs: number): WriteBackStats {
  const of = (name: WriteBackMetric): number => metrics.get(name);
  const oldestAtMs = of('oldestUnwrittenAtMs');
  const rows = of('rows');
  return {
    state: WRITER_STATES[of('state')]!,
    behindBytes: of('behindBytes'),
    oldestUnwrittenMs: oldestAtMs === 0 ? 0 : Math.max(0, wallMs - oldestAtMs),
    batches: of('batches'),
    records: of('records'),
    rows,
    rowBytes: of('rowBytes'),
    coalescing: rows === 0 ? 1 : of('records') / rows,
    batchLastRows: of('batchLastRows'),
    batchLastMs: of('batchLastMs'),
    batchMeanMs: of('batchMeanMs'),
    batchMaxMs: of('batchMaxMs'),
    retries: of('retries'),
    deadLetters: of('deadLetters'),
    restarts: of('restarts'),
  };
}
