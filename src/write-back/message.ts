/** What the keeper and the writer say to each other, in one thread or between two. Everything can be cloned. */
import { HISTORY_PREFIX } from '../log/index.ts';
import type { ResolvedWarmUpOptions } from '../options.ts';
import { DEFAULT_STORE, type Rule } from '../rules/index.ts';
import type { Answer, LogFiles, PlainError } from '../scribe/index.ts';
import type { BatchLimits } from './batcher.ts';
import type { LoadLimits } from './loader.ts';
import type { Pressed } from './pressure.ts';
import type { SharedStore } from './store.ts';
import type { WriterState } from './writer.ts';

/** How a log is written back. */
export interface WriteBackOptions {
  readonly limits: BatchLimits;
  readonly loads: LoadLimits;
  /** What is put into memory once the cache is open; undefined: nothing. */
  readonly warmUp: ResolvedWarmUpOptions | undefined;
  /** What happens to the changes of which keys: the rules of this database, as rulesOfStore() has them. */
  readonly rules: readonly Rule[];
  /** How many lanes write. */
  readonly lanes: number;
  /** The rows that the database gets in a second; 0: without a limit. */
  readonly rowsPerSecond: number;
  /** How long callers wait while the database confirms nothing; 0: without a limit. */
  readonly ackTimeoutMs: number;
  /** An entry whose change the database has refused leaves the cache, and no dead letter of it is kept. */
  readonly dropsRefused: boolean;
  /** For how long the log keeps what the database has; 0: it does not. */
  readonly retainMs: number;
  /** How long changes wait, at most, while the room for those that the database lacks gets short; 0: not at all. */
  readonly slowdownMs: number;
  /** Rows a second that the sweep looks at; 0: none. */
  readonly sweepRows: number;
  /** The log is synced by the writer, because nothing else does it in time. */
  readonly syncsLog: boolean;
}

/** One of the databases of a cache. */
export interface StoreSeat {
  /** Of the option `stores`; `default`: that of `store`. */
  readonly name: string;
  /** As the addon knows it: 0 is the default one. */
  readonly number: number;
  /** How many there are. */
  readonly count: number;
}

/** Of a cache with one database. */
export const ONLY_STORE: StoreSeat = { name: DEFAULT_STORE, number: 0, count: 1 };

/** workerData of the writer's thread. */
export interface WriterData {
  readonly cacheId: number;
  readonly files: LogFiles;
  readonly store: SharedStore;
  readonly seat: StoreSeat;
  readonly options: WriteBackOptions;
  readonly isPaused: boolean;
  /** Words that show that its event loop turns: supervisor.ts. */
  readonly pulse: SharedArrayBuffer;
  /**
   * The furthest position up to which the database had everything, of 64 bits for each lane: memory counts on it, also
   * if the thread that knew it has died.
   */
  readonly reached: SharedArrayBuffer;
  /** The numbers of metrics.ts. */
  readonly numbers: SharedArrayBuffer;
  /** Of warm-up-numbers.ts; undefined: nothing is warmed up. */
  readonly warmUpNumbers: SharedArrayBuffer | undefined;
}

/** The name of the log's cursor for the default database. */
export const STORE_CURSOR = 'store';

/** The name of the log's cursor for a database. */
export function cursorOf(store: string): string {
  return store === DEFAULT_STORE ? STORE_CURSOR : `${STORE_CURSOR}:${store}`;
}

/** That of the history that is kept for a cursor. */
export function historyOf(cursor: string): string {
  return `${HISTORY_PREFIX}${cursor}`;
}

/** What a writer is told. */
export type WriterTold =
  | WriterCommand
  /** The command of this number is not awaited any more. */
  | { readonly kind: 'cancel'; readonly id: number };

/** What it is asked to do. Each is answered by a `done` with its number. */
export type WriterCommand =
  /** Everything before this position is to be in the database. */
  | { readonly kind: 'drain'; readonly id: number; readonly position: bigint }
  | { readonly kind: 'pause' | 'resume'; readonly id: number }
  /** The result: dead letters; and how many there were. */
  | { readonly kind: 'list-dead-letters'; readonly id: number; readonly limit: number; readonly after: bigint }
  /** The result: RefusedKey; undefined: none of the keys has a dead letter that counts. */
  | { readonly kind: 'find-refused-key'; readonly id: number; readonly keys: readonly Uint8Array[] }
  | { readonly kind: 'drop-dead-letters'; readonly id: number; readonly ids: readonly bigint[] }
  /** The result: AddedAgain; undefined: the database cannot. */
  | { readonly kind: 'add-again'; readonly id: number; readonly letter: bigint }
  /** Ends; with `finishes`, what the log has by then is written before, within the time. 0: no limit. */
  | { readonly kind: 'close'; readonly id: number; readonly timeoutMs: number; readonly finishes: boolean };

/** A change that the database refuses for good, as a notice tells it. */
export interface DeadLetterNotice {
  readonly kind: 'dead-letter';
  /** Text if it is UTF-8. */
  readonly key: string | Buffer;
  readonly change: 'set' | 'delete' | 'touch' | 'add';
  readonly version: bigint;
  readonly cause: unknown;
}

/** A notice of a cache's write-back. `store`: of several databases the one that it is of. */
export type WriteBackNotice = StoreNotice & { readonly store?: string };

/** What happens to one database. */
export type StoreNotice =
  /** The database cannot be written; it is tried again, forever. The log keeps what is to be written. */
  | { readonly kind: 'retrying'; readonly cause: unknown }
  /** The same, and only a change of the database, its rights or the log will help. */
  | { readonly kind: 'halted'; readonly cause: unknown }
  /** It is written again. */
  | { readonly kind: 'recovered' }
  /** The database has gone back to an earlier state, and gets these bytes of the log again. */
  | { readonly kind: 'healing'; readonly bytes: number }
  /** The database has all of that again. */
  | { readonly kind: 'healed' }
  /** The log has no room to keep all of `retainBehind`: it keeps this time of it. */
  | { readonly kind: 'history-short'; readonly keptMs: number }
  /**
   * The log, or the memory for keys that the database does not have, has filled up to this grade: 50, 75 or 90 percent.
   * At 100 changes are refused. 0: it is relieved.
   */
  | { readonly kind: 'pressure'; readonly of: Pressed; readonly percent: number }
  /** The database is not that of this log, or not any more: nothing is written until the cache is opened again. */
  | { readonly kind: 'refused'; readonly cause: unknown }
  /** The thread that writes has died or did not answer, and another one continues. */
  | { readonly kind: 'restarted'; readonly cause: unknown }
  /** The database refused a change for good, and keeps it in its table of dead letters. */
  | DeadLetterNotice
  /** More dead letters of the same batch, which are not told one by one. */
  | { readonly kind: 'dead-letters'; readonly count: number };

export type WriterReport =
  /** `cause` as a plain error. */
  | { readonly kind: 'state'; readonly state: WriterState; readonly cause: PlainError | undefined }
  | { readonly kind: 'notice'; readonly notice: StoreNotice }
  | ({ readonly kind: 'done' } & Answer)
  /** It ends, and another thread would do no better. */
  | { readonly kind: 'failed'; readonly error: PlainError };
