/** The options of a cache and of a handle: as given, after checking, and in effect. */
import type { Rule } from '../../rules/index.ts';
import type { Loader } from '../loader.ts';
import type { PromiseOptions, RawOption } from './handle.ts';
import type {
  AckLevel,
  RecoverSource,
  RecoveryProgress,
  ResolvedLogOptions,
  SnapshotOptions,
  SyncOption,
} from './log.ts';
import type {
  LoadsOptions,
  ResolvedLoadsOptions,
  ResolvedStoreOptions,
  ResolvedWarmUpOptions,
  ResolvedWriteBackOptions,
  RuleOptions,
  StoreMode,
  StoreOption,
  WarmUpOptions,
  WriteBackOptions,
} from './store.ts';
import type { Duration, Size } from './units.ts';

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
   * Further databases by their names, each for the keys of the rules that name it: `{ sessions: 'lmdb:./sessions' }`
   * beside `rules: [{ prefix: 'session:', store: 'sessions' }]`. Keys of other rules, and without a rule, are those of
   * `store`.
   */
  stores?: Readonly<Record<string, StoreOption>>;
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
  /** Only with several databases. */
  readonly stores?: Readonly<Record<string, string>>;
  readonly mode?: StoreMode;
  readonly writeBack?: ResolvedWriteBackOptions;
  readonly loads?: ResolvedLoadsOptions;
  readonly warmUp?: ResolvedWarmUpOptions;
  /** Only with rules. */
  readonly rules?: readonly Rule[];
}
