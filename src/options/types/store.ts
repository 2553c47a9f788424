/** The options of the database behind a cache. */
import type { Backend } from '../../backend/index.ts';
import type { Rule } from '../../rules/index.ts';
import type { Duration, Size } from './units.ts';

/** A database: its address, the path or the `file:` URL of a module, or an object of the program. */
export type StoreOption = string | Backend;

export type StoreMode = 'read-through' | 'write-back' | 'write-through';

/** How changes are written to the database. */
export interface WriteBackOptions {
  /** The number of rows, about, of the largest transaction. Default 1000. */
  maxRows?: number;
  /** The bytes of keys and values, about, of the largest transaction. Default 4 MiB. */
  maxBytes?: Size;
  /**
   * How long a change waits for others, which then share its transaction. Default 50 ms; 0 with `mode:
   * 'write-through'`.
   */
  delay?: Duration;
  /**
   * How far back the database may go, to a backup or a standby, and get what it lacks from the log. Default 10 minutes;
   * 0: not at all.
   */
  retainBehind?: Duration;
  /**
   * Transactions at a time, each of its share of the keys: 1, 2, 4, 8 or 16. More lanes help a database that is far
   * away, or that works on several transactions at once. A cache has at least as many shards. Default 1.
   */
  lanes?: number;
  /** The number of rows a second, at most, that the sweep of expired rows looks at; 0: none. Default 1000. */
  sweepRows?: number;
  /**
   * The rows that the database gets in a second, about; beyond it the log keeps the changes. Default 0: no limit.
   */
  maxRowsPerSecond?: number;
  /**
   * How long answers at the level `'stored'` wait while the database confirms nothing. Default 10 s; 0: without a
   * limit.
   */
  ackTimeout?: Duration;
  /**
   * How much later, at most, promised changes and those of the port are answered while the database does not take
   * changes and the log, or memory, is more than half full of them. Default 100 ms; 0: not at all.
   */
  slowdown?: Duration;
}

/** Which rows are put into memory when the cache is open. */
export interface WarmUpOptions {
  /** Only keys that begin with it. Default: all. */
  prefix?: string;
  /** The number of rows, at most, that are put into memory. Default: no limit. */
  limit?: number;
  /** The rows that the database is asked for in a second, about. Default: no limit. */
  rowsPerSecond?: number;
}

/** How values are loaded from the database. */
export interface LoadsOptions {
  /** A question to the database that takes longer has failed, and so have the requests that need it. Default 5 s. */
  timeout?: Duration;
  /** How long a key without a row is known to be absent: at least a second, and an hour at most. Default 1 s. */
  negativeTtl?: Duration;
  /**
   * What a read is whose value is in the database only, while the database does not answer: `'error'` (default), or
   * `'miss'`, with which `fetch` calls its loader. Requests that depend on the value and change it are errors.
   */
  onFailure?: LoadFailure;
}

export type LoadFailure = 'error' | 'miss';

/** What the database gets of the keys that begin with a prefix. */
export interface RuleOptions {
  /** What the keys begin with; `''`: every key that has no other rule. */
  prefix: string;
  /** The name of one of `stores`, which has these keys. Default: the database of `store`. */
  store?: string;
  /** True: the keys are in memory and in the log only; the database never gets them. Default false. */
  skip?: boolean;
  /**
   * False: every write of these keys is kept, too, as a row of the table `cairn_history`, exactly once. Default true:
   * of a key that changes several times within a transaction, the last change counts.
   */
  coalesce?: boolean;
  /**
   * True: `incr` and `decr` of these keys add to the row, so that what other programs add to it stays. Default false:
   * the row gets the result.
   */
  counter?: boolean;
  /**
   * A table of yours that has the rows of these keys, with its schema if it has one: `'shop.users'`. It is never made
   * or changed. Default: the table that Cairn makes.
   */
  table?: string;
  /** With `table`: its key columns, which have the text behind the prefix; of several columns with `:` between. */
  key?: string | readonly string[];
  /** With `table`: where values are. Default `'json'`: each field of a JSON object in the column of that name. */
  value?: RuleValue;
  /** With `table`: the column of the expiry. Without one, rows do not expire. */
  expiresAt?: string;
  /** With `table`: the column of the version of a change. */
  version?: string;
  /** With `table`: the column of memcached's client flags. Without one, values with flags are refused. */
  clientFlags?: string;
  /**
   * True: rows that have expired are removed. Default true; of a table of yours, which needs `expiresAt` for it, false.
   */
  deleteOnExpire?: boolean;
}

/** Where the values of a table are: in all columns, in these, or whole in one. */
export type RuleValue = 'json' | { readonly columns: readonly string[] } | { readonly column: string };

/** The database itself: what must not be seen by other threads, or cannot go there. */
export type StoreTarget =
  /** Any thread can open it. `address`: with credentials. */
  | { readonly kind: 'address'; readonly address: string; readonly name: string }
  | { readonly kind: 'object'; readonly backend: Backend; readonly name: string };

/** A database of a cache, and its name there. */
export interface NamedStore {
  readonly name: string;
  readonly target: StoreTarget;
}

/** Options of the database behind a cache after checking. */
export interface ResolvedStoreOptions {
  /** Its name, without credentials. */
  readonly store: string;
  /** Of several databases the others, by their names, in the same way. */
  readonly stores?: Readonly<Record<string, string>>;
  readonly mode: StoreMode;
  readonly writeBack: ResolvedWriteBackOptions;
  readonly loads: ResolvedLoadsOptions;
  /** undefined: nothing is warmed up. */
  readonly warmUp?: ResolvedWarmUpOptions;
  readonly rules: readonly Rule[];
}

export interface ResolvedWriteBackOptions {
  readonly maxRows: number;
  readonly maxBytes: number;
  /** Milliseconds. */
  readonly delay: number;
  /** 0: no limit. */
  readonly maxRowsPerSecond: number;
  /** 0: without a limit. */
  readonly ackTimeout: number;
  readonly retainBehind: number;
  readonly lanes: number;
  /** 0: changes are not slowed. */
  readonly slowdown: number;
  readonly sweepRows: number;
}

/** In milliseconds. */
export interface ResolvedLoadsOptions {
  readonly timeout: number;
  readonly negativeTtl: number;
  readonly onFailure: LoadFailure;
}

/** A limit of 0: there is none. */
export interface ResolvedWarmUpOptions {
  readonly prefix: string;
  readonly limit: number;
  readonly rowsPerSecond: number;
}
