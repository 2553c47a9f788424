/** The options of a cache, a handle, a server and a call: their types, as given and after checking. */
import type { Backend } from '../backend/index.ts';
import type { Rule } from '../rules/index.ts';
import type { Loader } from './loader.ts';

/** A time span: whole milliseconds, or text such as `'500ms'`, `'60s'`, `'1.5h'`, `'7d'` (units ms, s, m, h, d). */
export type Duration = number | string;

/**
 * A size: whole bytes, or text such as `'512mb'` (units b, kb, mb, gb, tb, each 1024 times the one before, as memcached
 * counts) or `'25%'` of the memory that this process may use.
 */
export type Size = number | string;

/**
 * What reads return for values that are bytes, such as those that memcached clients stored: a `Buffer` (default), the
 * bytes as UTF-8 text, the result of `JSON.parse`, or the result of a function of the bytes and their client flags.
 */
export type RawOption = 'buffer' | 'string' | 'json' | ((bytes: Buffer, flags: number) => unknown);

/** The options of `new Cache` and `Cache.open`, all optional. `V`: the type of the values that `loader` returns. */
// biome-ignore lint/suspicious/noExplicitAny: options without a loader are those of any cache
export interface CacheOptions<V = any> {
  /** The name by which other threads of the process attach; without a name they cannot. Up to 200 characters. */
  name?: string;
  /**
   * The limit on all memory of the cache: keys, values, index and bookkeeping. Default 64 MiB, at least 4 MiB. Address
   * space is reserved at once; memory is used as entries come.
   */
  maxMemory?: Size;
  /**
   * The highest `maxMemory` that `resize()` accepts; only address space is reserved for it. Default 4 times
   * `maxMemory`.
   */
  maxMemoryCeiling?: Size;
  /** The highest number of entries. Default (and `Infinity`): only memory limits it. */
  maxEntries?: number;
  /**
   * The largest value in bytes; larger ones are refused with `ERR_VALUE_TOO_LARGE`. Default 1/1024 of `maxMemory`, at
   * least 1 MiB; at most 1 GiB.
   */
  maxValueBytes?: Size;
  /** Time to live of entries that are stored without a `ttl`; 0 (default): they do not expire. */
  ttl?: Duration;
  /**
   * The number of shards, each with its own lock: a power of two up to 256. Default: chosen from the processors and the
   * size. With 1, the least recently used entry of the whole cache is evicted first, exactly.
   */
  shards?: number;
  /**
   * `'siphash'` if an adversary can choose keys and measure time; `'fast'` (default) is keyed with random secrets too.
   */
  hash?: 'fast' | 'siphash';
  /** Records the time of each entry's last use, for `info().idleSeconds`: 4 bytes per entry. Default false. */
  trackAccess?: boolean;
  /** What reads of this handle return for values that are bytes; see {@link RawOption}. */
  raw?: RawOption;
  /** The queue and the threads of `cache.promises` of this handle. */
  promises?: PromiseOptions;
  /**
   * For tests: the cache takes its time from this function, in milliseconds, instead of the machine's clock. With fake
   * timers: `() => Date.now()`. Each call in the thread that made the cache reads it once; time stands still between
   * calls.
   */
  clock?: () => number;
  /**
   * Loads for `fetch` and `fetchWithInfo` of this handle if the call brings no loader. Handles of other
   * threads bring their own.
   */
  loader?: Loader<V>;
  /** For tests: numbers from 0 to 1 for `jitter` of `fetch` on this handle. Default `Math.random`. */
  random?: () => number;

  /**
   * A directory for the log of this cache: every write goes there too, and the entries are back when the cache is
   * opened again (docs/durability.md). For `Cache.open` on the main thread. The options below need `data`.
   */
  data?: string;
  /**
   * When the log is synced to the disk, after which a power cut does not take a write back. `'always'` (default):
   * before a write is acknowledged at the level `logged`. An interval such as `'10ms'`: at most this time after.
   * `'none'`: when the operating system does it.
   */
  sync?: SyncOption;
  /**
   * The level that promised verbs and listeners wait for by default; see {@link AckLevel}. Default `'logged'`, with
   * `mode: 'write-through'` `'stored'`.
   */
  ack?: AckLevel;
  /**
   * `'log'` (default): the cache starts with the entries of the directory. `'store'`: with the rows of the database, as
   * many as there is memory for; the directory's entries are deleted. `'none'`: empty; they are deleted forever.
   */
  recover?: RecoverSource;
  /**
   * The disk space for the log's segments, without snapshots. Default 4 GiB. Beyond it writes are refused with
   * `ERR_LOG_FULL`.
   */
  logLimit?: Size;
  /** The size of one file of the log. Default 64 MiB, at most 1/16 of `logLimit`. */
  segmentSize?: Size;
  /**
   * Memory for changes that the log has not taken yet; part of `maxMemory`, at most a quarter. Default 1/16, at most 16
   * MiB.
   */
  ringSize?: Size;
  /** When snapshots are taken. */
  snapshot?: SnapshotOptions;
  /** Called a few times a second during recovery, with its progress. */
  onRecovery?: (progress: RecoveryProgress) => void;

  /**
   * The database behind the cache (docs/write-back.md): an address such as `postgres://user@host/database`, the path
   * of a module whose default export returns a `Backend`, or a `Backend`, which is used in this thread. A cache that
   * changes it needs `data`.
   */
  store?: StoreOption;
  /**
   * How the cache uses the database. `'write-back'` (default): each change is written to it in the background.
   * `'write-through'`: each change is written at once, and the default `ack` is `'stored'`; an entry that the database
   * refuses leaves the cache.
   * `'read-through'`: misses are loaded from it, and the cache changes nothing in it. It is the default where `rules`
   * name a table of yours.
   */
  mode?: StoreMode;
  /** How changes are written to the database. */
  writeBack?: WriteBackOptions;
  /** How values are loaded from it. */
  loads?: LoadsOptions;
  /**
   * Rows of the database are put into memory once the cache is open, as many as there is free room for: `true`, or
   * which of them and how fast. `stats().warmUp` says how far it is. Default: false.
   */
  warmUp?: boolean | WarmUpOptions;
  /**
   * What the database gets of which keys. Each rule is for the keys that begin with its prefix; of several the longest
   * prefix counts. Keys without a rule are written. Default: no rules.
   */
  rules?: readonly RuleOptions[];
}

/** A database: its address, the path or the `file:` URL of a module, or an object of the program. */
export type StoreOption = string | Backend;

export type StoreMode = 'read-through' | 'write-back' | 'write-through';

/** What the database gets of the keys that begin with a prefix. */
export interface RuleOptions {
  /** What the keys begin with; `''`: every key that has no other rule. */
  prefix: string;
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

/** When the log is synced to the disk; an interval is from 1 ms to an hour. */
export type SyncOption = 'always' | 'none' | `${number}ms` | `${number}s` | `${number}m` | `${number}h`;

/** When snapshots of a cache with a log are taken. Snapshots make opening faster and the log shorter. */
export interface SnapshotOptions {
  /** This time after the last one, if anything was written since. Default `'1h'`; 0: never by time. */
  every?: Duration;
  /** When the log since the last one has grown to this size. Default twice the last snapshot, at least 64 MiB. */
  logBytes?: Size;
  /** When the cache is closed, if the time suffices. Default true. */
  atClose?: boolean;
}

/** What a cache with a log begins with. */
export type RecoverSource = 'log' | 'store' | 'none';

/** The progress of recovery. */
export interface RecoveryProgress {
  /**
   * What is being read: of the directory a snapshot comes first, if there is one; or the rows of the database.
   * `write-back`: changes are written to the database, because memory has no room for all keys that it lacks.
   */
  readonly source: 'snapshot' | 'log' | 'store' | 'write-back';
  /** Bytes read or written so far, and bytes in all; of the database's, how many memory has room for. */
  readonly bytes: number;
  readonly bytesTotal: number;
  /** Records read or written so far. */
  readonly records: number;
  /** Milliseconds since recovery began. */
  readonly elapsedMs: number;
  /** The mean rates since recovery, or writing, began. */
  readonly bytesPerSecond: number;
  readonly recordsPerSecond: number;
  /** Of `write-back`: why the database cannot be written. It is tried again. */
  readonly problem?: string;
}

/** The options of `serve`, all optional. */
export interface ServeOptions {
  /** TCP port. Default 11211; 0: any free port, see `MemcachedServer.addresses`. */
  port?: number;
  /**
   * Addresses or names to listen on, each optionally with its own port (`'10.0.0.5:11212'`, `'[::1]:11212'`) and with
   * its own level (see `ack`) in front (`'memory:127.0.0.1:11212'`). Default: loopback only, `127.0.0.1` and, if the
   * machine has it, `::1`.
   */
  host?: string | readonly string[];
  /** Path of a unix socket to listen on. Turns TCP off unless `port` or `host` is given too. */
  path?: string;
  /** Permissions of the unix socket. Default 0o700. */
  pathMode?: number;
  /** The most connections; a further one gets `ERROR Too many open connections` and is closed. Default 1024. */
  maxConnections?: number;
  /** memcached's item size: key, value, client flags and about 60 bytes. 1kb to 1gb, default 1mb. */
  maxItemSize?: Size;
  /** Closes a connection that sends nothing for this time. Default 0: never. */
  idleTimeout?: Duration;
  /**
   * Closes a connection that does not read its replies for this time, or stops in the middle of a large value or line.
   * Default 30 s.
   */
  stallTimeout?: Duration;
  /** Connections that the system queues before they are accepted. Default 1024. */
  backlog?: number;
  /**
   * What a reply waits for. `'memory'`: nothing. `'logged'`: the cache's log has what the reply reveals; reads wait
   * too, so no client sees a value that a crash could take back. `'stored'`: the database has the change; reads wait
   * for the log. Default: the cache's own `ack`; without a log `'memory'` is the only level. An address in `host` may
   * name its own level.
   */
  ack?: AckLevel;
  /** Answers the test commands (debugtime, debugpark and others). For tests only. Default false. */
  testCommands?: boolean;
  /** The verbosity in `stats settings`, until the command `verbosity` changes it. Default 0. */
  verbosity?: number;
  /** The number of threads in `stats`. Default 1. */
  threads?: number;
}

/** The options of `Cache.attach`. */
// biome-ignore lint/suspicious/noExplicitAny: options without a loader are those of any cache
export interface AttachOptions<V = any> {
  /** What reads of this handle return for values that are bytes; see {@link RawOption}. */
  raw?: RawOption;
  /** The queue and the threads of `cache.promises` of this handle. */
  promises?: PromiseOptions;
  /** Loads for `fetch` of this handle if the call brings no loader. */
  loader?: Loader<V>;
}

/** The options of verbs that store. */
export interface SetOptions {
  /**
   * Time to live from now. 0 or `Infinity`: the entry does not expire. `'keep'`: keeps the expiry of the entry that is
   * replaced; if there is none, or it has expired, the cache's `ttl` is used. Default: the cache's `ttl`.
   */
  ttl?: Duration | 'keep';
}

/** The options of `setMany`. */
export interface SetManyOptions extends SetOptions {
  /** All entries are stored at one moment, or none. Not with `ttl: 'keep'`. Default: false. */
  atomic?: boolean;
}

/** The options of promised verbs. */
export interface CallOptions {
  /**
   * What the answer waits for. `'memory'`: nothing. `'logged'`: the log has the change, so a crash does not take it
   * back; a read waits for the log to have the value that it read. `'stored'`: the database behind has the change; a
   * read waits as at `'logged'`. Default: the cache's `ack`, which is `'logged'` with a log and `'memory'`, the only
   * level, without.
   */
  ack?: AckLevel;
  /** Rejects with `ERR_TIMEOUT` if there is no answer within this time. Default (and 0): waits forever. */
  timeout?: Duration;
  /** Rejects with the signal's reason when it is aborted. */
  signal?: AbortSignal;
}

/** What an answer waits for: nothing, or that the log has what the answer reveals. */
export type AckLevel = 'memory' | 'logged' | 'stored';

/** The queue and the threads of `cache.promises` of a handle, which its first use creates. */
export interface PromiseOptions {
  /** Threads, each with its share of the shards. Default: one per 4 processors, from 1 to 4. */
  lanes?: number;
  /** The most unanswered requests; each key of `getMany`, `setMany` and `deleteMany` counts as one. Default 65,536. */
  maxRequests?: number;
  /**
   * The most bytes of keys and values in unanswered requests; a batch that `clear()` has cut short counts as 256 KiB.
   * Default 64 MiB.
   */
  maxBytes?: Size;
}

/** The order and the number of a walk's entries. */
export interface WalkOptions {
  /** By last use; exact within a shard, and over all with `shards: 1`. Default `'newest'`. */
  order?: 'newest' | 'oldest';
  /** The most entries to return. Default: all. */
  limit?: number;
}

/** PromiseOptions after checking. */
export interface ResolvedPromiseOptions {
  /** undefined: chosen. */
  readonly lanes: number | undefined;
  readonly maxRequests: number;
  readonly maxBytes: number;
}

/**
 * The options in effect, as `cache.options` returns them: in bytes and milliseconds, with the chosen value for each
 * option left out. `Cache.open` accepts them. A property is missing if the cache has no such thing: no name, no limit
 * on entries, no log.
 */
export interface EffectiveOptions {
  readonly name?: string;
  readonly maxMemory: number;
  readonly maxMemoryCeiling: number;
  readonly maxEntries?: number;
  readonly maxValueBytes: number;
  /** 0: entries do not expire unless they are stored with a time to live. */
  readonly ttl: number;
  readonly shards: number;
  readonly hash: 'fast' | 'siphash';
  readonly trackAccess: boolean;
  /** Of this handle, like `promises`. */
  readonly raw: RawOption;
  readonly promises: { readonly lanes: number; readonly maxRequests: number; readonly maxBytes: number };
  readonly ack: AckLevel;
  /** The absolute path. This and the following properties: only with a log. */
  readonly data?: string;
  readonly sync?: 'always' | 'none' | `${number}ms`;
  readonly recover?: RecoverSource;
  readonly logLimit?: number;
  readonly segmentSize?: number;
  /** Of all shards together. */
  readonly ringSize?: number;
  readonly snapshot?: {
    /** 0: never by time. */
    readonly every: number;
    /** Missing: twice the last snapshot, and at least 64 MiB. */
    readonly logBytes?: number;
    readonly atClose: boolean;
  };
  /** The database, without credentials. This and the following properties: only with one. */
  readonly store?: string;
  readonly mode?: StoreMode;
  readonly writeBack?: ResolvedWriteBackOptions;
  readonly loads?: ResolvedLoadsOptions;
  readonly warmUp?: ResolvedWarmUpOptions;
  /** Only with rules. */
  readonly rules?: readonly Rule[];
}

/** Options after checking, in the units of their names; attached threads read them again. */
export interface ResolvedOptions {
  readonly name: string;
  readonly maxMemory: number;
  /** 0: 4 times `maxMemory`. */
  readonly maxMemoryCeiling: number;
  /** 0: no limit. */
  readonly maxEntries: number;
  /** 0: the default. */
  readonly maxValueBytes: number;
  /** Milliseconds; 0: entries do not expire. */
  readonly ttl: number;
  /** 0: chosen. */
  readonly shards: number;
  readonly hash: 'fast' | 'siphash';
  readonly trackAccess: boolean;
  /** What promised verbs and listeners wait for unless they are told otherwise. */
  readonly ack: AckLevel;
  /** Of a cache with a log. */
  readonly log?: ResolvedLogOptions;
  /** Of a cache with a database. */
  readonly store?: ResolvedStoreOptions;
}

/** Options of the database behind a cache after checking. */
export interface ResolvedStoreOptions {
  /** Its name, without credentials. */
  readonly store: string;
  readonly mode: StoreMode;
  readonly writeBack: ResolvedWriteBackOptions;
  readonly loads: ResolvedLoadsOptions;
  /** undefined: nothing is warmed up. */
  readonly warmUp?: ResolvedWarmUpOptions;
  readonly rules: readonly Rule[];
}

/** In milliseconds. */
/** A limit of 0: there is none. */
export interface ResolvedWarmUpOptions {
  readonly prefix: string;
  readonly limit: number;
  readonly rowsPerSecond: number;
}

export interface ResolvedLoadsOptions {
  readonly timeout: number;
  readonly negativeTtl: number;
  readonly onFailure: LoadFailure;
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
  readonly sweepRows: number;
}

/** The database itself: what must not be seen by other threads, or cannot go there. */
export type StoreTarget =
  /** Any thread can open it. `address`: with credentials. */
  | { readonly kind: 'address'; readonly address: string; readonly name: string }
  | { readonly kind: 'object'; readonly backend: Backend; readonly name: string };

/** An interval is in milliseconds. */
export type SyncPolicy = 'always' | 'none' | `${number}ms`;

/** Options of a cache's log after checking. */
export interface ResolvedLogOptions {
  /** The whole path. */
  readonly data: string;
  readonly sync: SyncPolicy;
  readonly recover: RecoverSource;
  readonly logLimit: number;
  readonly segmentSize: number;
  readonly ringSize: number;
  readonly snapshot: {
    /** 0: never. */
    readonly every: number;
    /** 0: chosen. */
    readonly logBytes: number;
    readonly atClose: boolean;
  };
}
