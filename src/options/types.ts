/** The types of what a cache, a handle and a call take, and of what is made of them. */

/** A time span: whole milliseconds, or text such as `'500ms'`, `'60s'`, `'1.5h'`, `'7d'` (units ms, s, m, h, d). */
export type Duration = number | string;

/**
 * A size: whole bytes, or text such as `'512mb'` (units b, kb, mb, gb, tb, each 1024 times the one before, as memcached
 * counts) or `'25%'` of the memory that this process may use.
 */
export type Size = number | string;

/**
 * What reads give for values that are bytes, such as those that memcached clients stored: a `Buffer` (default), the
 * text that they are in UTF-8, what `JSON.parse` makes of them, or what a function makes of them and their client
 * flags.
 */
export type RawOption = 'buffer' | 'string' | 'json' | ((bytes: Buffer, flags: number) => unknown);

/** What `new Cache` and `Cache.open` take. Everything may be left out. */
export interface CacheOptions {
  /** Other threads of the process attach by this name; without one they cannot. Up to 200 characters. */
  name?: string;
  /**
   * All that the cache may hold, keys, values, index and bookkeeping together. Default 64 MiB, at least 4 MiB. Address
   * space is set aside at once, memory is used as entries come.
   */
  maxMemory?: Size;
  /** What `resize()` may raise `maxMemory` to; only address space is set aside for it. Default 4 times `maxMemory`. */
  maxMemoryCeiling?: Size;
  /** At most so many entries. Default (and `Infinity`): memory alone decides. */
  maxEntries?: number;
  /**
   * Larger values are refused with `ERR_VALUE_TOO_LARGE`. Default 1/1024 of `maxMemory`, at least 1 MiB; at most 1 GiB.
   */
  maxValueBytes?: Size;
  /** Time to live of entries that are stored without one; 0 (default): they do not expire. */
  ttl?: Duration;
  /**
   * Slices of the cache with a lock each: a power of two up to 256. Default: chosen from the processors and the size.
   * With 1 the least recently used entry of the whole cache is the one that is evicted, exactly.
   */
  shards?: number;
  /** `'siphash'` where keys are chosen by an adversary who can measure time; `'fast'` (default) is keyed too. */
  hash?: 'fast' | 'siphash';
  /** Keep when each entry was last read, for `info().idleSeconds`: 4 bytes an entry. Default false. */
  trackAccess?: boolean;
  /** What reads give for values that are bytes; see {@link RawOption}. Of this handle: another may read otherwise. */
  raw?: RawOption;
  /** How `cache.promises` of this handle works. */
  promises?: PromiseOptions;
  /**
   * For tests: the cache's time follows this function (milliseconds) instead of the machine's clock. With fake timers:
   * `() => Date.now()`. It is read at the beginning of each call in the thread that made the cache, and time stands
   * still in between.
   */
  clock?: () => number;

  /**
   * A directory of this cache's own: what is written goes to a log there too, and is back when the cache is opened
   * again (docs/durability.md). For `Cache.open` on the main thread. What follows is for a cache with a log only.
   */
  data?: string;
  /**
   * When what is written becomes safe from a power cut: `'always'` (default): before it is acknowledged at the level
   * `logged`; an interval such as `'10ms'`: at most so long after; `'none'`: when the system gets to it.
   */
  sync?: SyncOption;
  /** What promised verbs and listeners wait for unless they are told otherwise. Default `'logged'`. */
  ack?: AckLevel;
  /** `'log'` (default): the cache begins with what the directory has. `'none'`: that is given up. */
  recover?: 'log' | 'none';
  /**
   * What the log's segments may take on the disk, snapshots not counted. Default 4 GiB. Beyond it writes are refused
   * with `ERR_LOG_FULL`.
   */
  logLimit?: Size;
  /** The log is cut into files of this size. Default 64 MiB, and not more than 1/16 of `logLimit`. */
  segmentSize?: Size;
  /**
   * Memory for what the log has still to take; part of `maxMemory`, at most a quarter. Default 1/16, at most 16 MiB.
   */
  ringSize?: Size;
  /** When snapshots are taken. */
  snapshot?: SnapshotOptions;
  /** Is told how recovery gets on, a few times a second. */
  onRecovery?: (progress: RecoveryProgress) => void;
}

/** When what was logged is synced to the disk; an interval is from 1 ms to an hour. */
export type SyncOption = 'always' | 'none' | `${number}ms` | `${number}s` | `${number}m` | `${number}h`;

/** When snapshots of a cache with a log are taken. They make opening it faster, and the log shorter. */
export interface SnapshotOptions {
  /** So long after the last one, if anything was written since. Default `'1h'`; 0: never for the time alone. */
  every?: Duration;
  /** When the log behind the last one has grown to this. Default twice the last snapshot, at least 64 MiB. */
  logBytes?: Size;
  /** When the cache is closed, as far as the time allows. Default true. */
  atClose?: boolean;
}

/** How recovery gets on. */
export interface RecoveryProgress {
  /** The kind of file that is being read now: a snapshot comes first, if there is one. */
  readonly source: 'snapshot' | 'log';
  /** Bytes that were read, and that there are altogether. */
  readonly bytes: number;
  readonly bytesTotal: number;
  /** Records that were read. */
  readonly records: number;
  /** Milliseconds since it began. */
  readonly elapsedMs: number;
  /** Both on the average since it began. */
  readonly bytesPerSecond: number;
  readonly recordsPerSecond: number;
}

/** What `serve` takes. Everything may be left out. */
export interface ServeOptions {
  /** TCP port. Default 11211; 0: any free one, see `MemcachedServer.addresses`. */
  port?: number;
  /**
   * Interfaces to listen on: addresses or names, each with a port of its own if it brings one (`'10.0.0.5:11212'`,
   * `'[::1]:11212'`) and a level of its own (see `ack`) if that stands in front (`'memory:127.0.0.1:11212'`). Default:
   * loopback only, `127.0.0.1` and, where the machine has it, `::1`.
   */
  host?: string | readonly string[];
  /** Path of a unix socket to listen on. TCP is then off unless `port` or `host` is given too. */
  path?: string;
  /** Permissions of the unix socket. Default 0o700. */
  pathMode?: number;
  /** Connections at the same time; one more is told `ERROR Too many open connections` and closed. Default 1024. */
  maxConnections?: number;
  /** memcached's item size: key, value, client flags and about 60 bytes. 1kb to 1gb, default 1mb. */
  maxItemSize?: Size;
  /** A connection that sends nothing for so long is closed. Default 0: never. */
  idleTimeout?: Duration;
  /**
   * A connection that has not taken its replies for so long, or has not gone on sending a large value or line, is
   * closed.
   * Default 30 s.
   */
  stallTimeout?: Duration;
  /** Connections that the system may queue before they are accepted. Default 1024. */
  backlog?: number;
  /**
   * What a reply waits for. `'memory'`: nothing. `'logged'`: that what it tells of is in the cache's log; reads wait
   * too, so that no client sees what a crash could take back. Default: the cache's own `ack`; without a log there is
   * only `'memory'`. Of an address in `host` that names its level, that counts. A cache may also have several servers.
   */
  ack?: AckLevel;
  /** Answer debugtime, debugpark and their like. For tests only. Default false. */
  testCommands?: boolean;
  /** What `stats settings` says at first; changed by the command `verbosity`. Default 0. */
  verbosity?: number;
  /** What `stats` says of threads. Default 1. */
  threads?: number;
}

/** What `Cache.attach` takes. */
export interface AttachOptions {
  /** What reads give for values that are bytes; see {@link RawOption}. */
  raw?: RawOption;
  /** How `cache.promises` of this handle works. */
  promises?: PromiseOptions;
}

/** What verbs that store take. */
export interface SetOptions {
  /**
   * Time to live from now. 0 or `Infinity`: the entry does not expire. `'keep'`: that of the entry which is replaced;
   * where there is none, or it has expired, the cache's `ttl`.
   * Default: the cache's `ttl`.
   */
  ttl?: Duration | 'keep';
}

/** What promised verbs take. */
export interface CallOptions {
  /**
   * How far what the answer tells of has to have come. `'memory'`: nothing is waited for. `'logged'`: it is in the log,
   * so that a crash does not take it back; a read waits too, for what it has read. Default: that of the cache, which is
   * `'logged'` with a log and otherwise `'memory'`, the only level there.
   */
  ack?: AckLevel;
  /** Rejects with `ERR_TIMEOUT` if there is no answer within this time. Default (and 0): waits as long as it takes. */
  timeout?: Duration;
  /** Rejects with the signal's reason when it is aborted. */
  signal?: AbortSignal;
}

/** How far what an answer tells of has to have come: nothing is waited for, or the log has it. */
export type AckLevel = 'memory' | 'logged';

/** How `cache.promises` of a handle works; made when it is first used. */
export interface PromiseOptions {
  /** Threads, each serving its share of the shards. Default: one for every 4 processors, from 1 to 4. */
  lanes?: number;
  /** Requests that may be unanswered at a time; each key of `getMany` and the like counts. Default 65,536. */
  maxRequests?: number;
  /**
   * Bytes of keys and values that they may hold; a batch that `clear()` has cut short counts as 256 KiB. Default 64
   * MiB.
   */
  maxBytes?: Size;
}

/** Which entries a walk gives, and in which order. */
export interface WalkOptions {
  /** By last use; exact within a shard, and over all with `shards: 1`. Default `'newest'`. */
  order?: 'newest' | 'oldest';
  /** At most so many. Default: all. */
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
 * What a cache is made with, as `cache.options` gives it: bytes, milliseconds, and numbers that were chosen in the
 * place of options that were left out. `Cache.open` takes it again. What is left out here does not exist: a name, a
 * limit on entries, a log.
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
  /** Of this handle, as `promises` is. */
  readonly raw: RawOption;
  readonly promises: { readonly lanes: number; readonly maxRequests: number; readonly maxBytes: number };
  readonly ack: AckLevel;
  /** The whole path. This and what follows: of a cache with a log. */
  readonly data?: string;
  readonly sync?: 'always' | 'none' | `${number}ms`;
  readonly recover?: 'log' | 'none';
  readonly logLimit?: number;
  readonly segmentSize?: number;
  /** Of all shards together. */
  readonly ringSize?: number;
  readonly snapshot?: {
    /** 0: never for the time alone. */
    readonly every: number;
    /** Left out: twice the last snapshot, and at least 64 MiB. */
    readonly logBytes?: number;
    readonly atClose: boolean;
  };
}

/** Options after checking, in the units of their names; what an attached thread reads again. */
export interface ResolvedOptions {
  readonly name: string;
  readonly maxMemory: number;
  /** 0: 4 times `maxMemory`. */
  readonly maxMemoryCeiling: number;
  /** 0: no limit. */
  readonly maxEntries: number;
  /** 0: the default. */
  readonly maxValueBytes: number;
  /** Milliseconds; 0: for ever. */
  readonly ttl: number;
  /** 0: chosen. */
  readonly shards: number;
  readonly hash: 'fast' | 'siphash';
  readonly trackAccess: boolean;
  /** What promised verbs and listeners wait for unless they are told otherwise. */
  readonly ack: AckLevel;
  /** Of a cache with a log. */
  readonly log?: ResolvedLogOptions;
}

/** An interval is in milliseconds. */
export type SyncPolicy = 'always' | 'none' | `${number}ms`;

/** Options of a cache's log after checking. */
export interface ResolvedLogOptions {
  /** The whole path. */
  readonly data: string;
  readonly sync: SyncPolicy;
  readonly recover: 'log' | 'none';
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
