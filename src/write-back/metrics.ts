/**
 * Numbers about write-back, from the writer to `stats()` in any thread and to the port: an array in the order of this
 * table. The writer and its keeper share it, so that counters go on when a thread is replaced; every other thread sees
 * it in the addon, behind the numbers of the log.
 */
import type { FeedHandle } from '../native.ts';
import { DEFAULT_STORE } from '../rules/index.ts';
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
  'slowdownMs',
  'slowedChanges',
  'slowedMs',
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

/** The numbers of one database, as all threads see them. One thread changes each of them. */
export class WriteBackMetrics {
  readonly #numbers: Float64Array;
  readonly #place: number;

  /** `store`: the number of the database. */
  constructor(numbers: SharedArrayBuffer, store = 0) {
    this.#numbers = new Float64Array(numbers);
    this.#place = placeOf(store);
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
    handle.setLogMetrics(this.#numbers, this.#place);
  }
}

/** How the port calls them, behind those of the log. `others`: the names of further databases. */
export function writeBackStatNames(others: readonly string[] = []): readonly string[] {
  return [
    ...WRITE_BACK_METRICS.map((name) => `writeBack${name[0]!.toUpperCase()}${name.slice(1)}`),
    ...others.flatMap((store) => WRITE_BACK_METRICS.map((name) => `writeBack:${store}:${name}`)),
  ];
}

// Among the numbers of the log, which are before those of the databases.
function placeOf(store: number): number {
  return LOG_METRICS.length + store * WRITE_BACK_METRICS.length;
}

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
  /**
   * How long changes wait now before they are answered, because one of these two is high; the number of changes that
   * have waited, and the sum of their times.
   */
  slowdownMs: number;
  slowedChanges: number;
  slowedMs: number;
  /**
   * Of several databases, the same of each by its name; `default` is that of the option `store`. The numbers above are
   * then their sums, or the largest of them where a sum would say nothing, and the state is the worst.
   */
  stores?: Readonly<Record<string, WriteBackStats>>;
}

/** The statistics, from any thread. `others`: the names of further databases, in their order. */
export function readWriteBackStats(handle: FeedHandle, others: readonly string[] = []): WriteBackStats {
  const numbers = new Float64Array(placeOf(others.length + 1));
  handle.logMetrics(numbers);
  const all = [DEFAULT_STORE, ...others].map((name, store): [string, WriteBackStats] => {
    return [name, statsOf(numbers.subarray(placeOf(store), placeOf(store + 1)))];
  });
  return all.length === 1
    ? all[0]![1]
    : { ...together(all.map(([, stats]) => stats)), stores: Object.fromEntries(all) };
}

function statsOf(numbers: Float64Array): WriteBackStats {
  const of = (name: WriteBackMetric): number => numbers[PLACES[name]]!;
  const { state: _, ...others } = Object.fromEntries(WRITE_BACK_METRICS.map((name) => [name, of(name)]));
  return withCoalescing({
    state: WRITER_STATES[of('state')]!,
    ...(others as unknown as Omit<WriteBackStats, 'state' | 'coalescing'>),
  });
}

function withCoalescing(stats: Omit<WriteBackStats, 'coalescing'>): WriteBackStats {
  return { ...stats, coalescing: stats.rows === 0 ? 1 : stats.records / stats.rows };
}

/** From the worst on. */
const SEVERITY: readonly WriterState[] = [
  ...(['refused', 'halted', 'retrying', 'opening'] as const),
  ...(['paused', 'healing', 'writing', 'closed'] as const),
];

/** Of these the sum would say nothing: all databases have one log and one memory, and times do not add up. */
const LARGEST: ReadonlySet<WriteBackMetric> = new Set([
  ...(['behindBytes', 'oldestUnwrittenMs', 'batchLastRows', 'batchLastMs', 'batchMaxMs'] as const),
  ...(['historyMs', 'historyBytes', 'questionMaxMs', 'logPressure', 'reservePressure', 'slowdownMs'] as const),
]);

function together(all: readonly WriteBackStats[]): WriteBackStats {
  const numbers = WRITE_BACK_METRICS.filter((name) => name !== 'state').map((name) => {
    const each = all.map((stats) => stats[name as Exclude<WriteBackMetric, 'state'>]);
    return [name, LARGEST.has(name) ? Math.max(...each) : each.reduce((sum, one) => sum + one, 0)];
  });
  const mean = (what: 'batch' | 'question'): number => {
    const count = what === 'batch' ? 'batches' : 'questions';
    const total = all.reduce((sum, stats) => sum + stats[count], 0);
    return total === 0 ? 0 : all.reduce((sum, stats) => sum + stats[count] * stats[`${what}MeanMs`], 0) / total;
  };
  return withCoalescing({
    ...(Object.fromEntries(numbers) as Omit<WriteBackStats, 'state' | 'coalescing'>),
    state: SEVERITY.find((state) => all.some((stats) => stats.state === state))!,
    batchMeanMs: mean('batch'),
    questionMeanMs: mean('question'),
  });
}
