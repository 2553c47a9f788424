/** Options of a cache: what may be given, what is assumed otherwise, and the only checks on it. */
import { resolve } from 'node:path';
import { CairnTypeError, misplaced, outOfRange, show, wrongType } from './errors.ts';
import {
  LANE_COUNT_MAX,
  LOG_LIMIT_BYTES_DEFAULT,
  LOG_SEGMENT_BYTES_DEFAULT,
  LOG_SEGMENT_BYTES_MAX,
  LOG_SEGMENT_BYTES_MIN,
  LOG_SEGMENTS_MIN,
  LOG_SYNC_MS_MAX,
  LOG_VALUES_MIN,
  LOGGED_VALUE_BYTES_MAX,
  MEMORY_BYTES_DEFAULT,
  MEMORY_BYTES_MIN,
  NAME_LENGTH_MAX,
  QUEUE_BYTES_MAX,
  QUEUE_REQUESTS_MAX,
  RING_BYTES_DEFAULT_MAX,
  RING_SHARE_DEFAULT,
  RING_SHARE_MAX,
  SHARD_COUNT_MAX,
  TTL_MS_MAX,
  VALUE_BYTES_MAX,
} from './limits.ts';

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
   * Time to live from now. 0 or `Infinity`: the entry does not expire. `'keep'`: that of the entry which is replaced.
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
type SyncPolicy = 'always' | 'none' | `${number}ms`;

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

const LOG_OPTION_NAMES = [
  'sync',
  'recover',
  'logLimit',
  'segmentSize',
  'ringSize',
  'snapshot',
  'onRecovery',
] as const satisfies readonly (keyof CacheOptions)[];

const CACHE_OPTION_NAMES: readonly (keyof CacheOptions)[] = [
  'name',
  'maxMemory',
  'maxMemoryCeiling',
  'maxEntries',
  'maxValueBytes',
  'ttl',
  'shards',
  'hash',
  'trackAccess',
  'raw',
  'promises',
  'clock',
  'data',
  'ack',
  ...LOG_OPTION_NAMES,
];

// What other caches call the same thing.
const FOREIGN_NAMES: Readonly<Record<string, string>> = {
  max: 'maxEntries',
  maxSize: 'maxMemory',
  maxKeys: 'maxEntries',
  lruSize: 'maxEntries',
  capacity: 'maxEntries',
  limit: 'maxEntries',
  size: 'maxEntries',
  maxBytes: 'maxMemory',
  memory: 'maxMemory',
  memoryLimit: 'maxMemory',
  maxEntrySize: 'maxValueBytes',
  maxValueSize: 'maxValueBytes',
  maxItemSize: 'maxValueBytes',
  ttlMs: 'ttl',
  maxAge: 'ttl',
  stdTTL: 'ttl',
  expiresIn: 'ttl',
  expiration: 'ttl',
  expire: 'ttl',
  shardCount: 'shards',
  threads: 'shards',
  namespace: 'name',
  directory: 'data',
  EX: 'ttl',
  PX: 'ttl',
  ex: 'ttl',
  px: 'ttl',
  maxmemory: 'maxMemory',
  dataDir: 'data',
  path: 'data',
  fsync: 'sync',
  appendfsync: 'sync',
};

/** Options that lru-cache has and that are methods or events here. */
const ELSEWHERE: Readonly<Record<string, string>> = {
  dispose: "on('removal', ...)",
  disposeAfter: "on('removal', ...)",
  onEvict: "on('removal', ...)",
  onEviction: "on('removal', ...)",
  fetchMethod: 'fetch(key, loader)',
  sizeCalculation: 'nothing: sizes are exact without it',
  updateAgeOnGet: 'touch(key, ttl) after a get: reading does not lengthen a life here',
  updateAgeOnHas: 'touch(key, ttl) after a has: asking does not lengthen a life here',
  noUpdateTTL: "set(key, value, { ttl: 'keep' })",
  noUpdateTtl: "set(key, value, { ttl: 'keep' })",
  KEEPTTL: "set(key, value, { ttl: 'keep' })",
  allowStale: 'fetch(key, loader, { staleWhileRevalidate }): get gives nothing that is over',
  allowStaleOnFetchRejection: 'fetch(key, loader, { staleIfError })',
  allowStaleOnFetchAbort: 'fetch(key, loader, { staleIfError })',
  noDeleteOnStaleGet: 'nothing: what is over is not given, and leaves memory by itself',
  ttlAutopurge: 'nothing: what is over leaves memory by itself',
  ttlResolution: 'nothing: times are exact to the millisecond',
  checkperiod: 'nothing: what is over leaves memory by itself',
  checkPeriod: 'nothing: what is over leaves memory by itself',
  deleteOnExpire: 'nothing: what is over leaves memory by itself',
  useClones: 'nothing: values are always copies',
  NX: 'add(key, value), which stores where there is no entry',
  XX: 'replace(key, value), which stores where there is an entry',
  maxmemoryPolicy: 'nothing: the least recently used entry leaves first',
  policy: 'nothing: the least recently used entry leaves first',
  store: 'fetch(key, loader) to load from a database',
  serialize: 'nothing: values are kept as docs/values.md says',
  deserialize: 'nothing: values are kept as docs/values.md says',
};

/** Checks the options of a cache. `usableMemory` is asked for what `'25%'` is of. Throws `ERR_INVALID_ARGUMENT`. */
export function resolveOptions(given: CacheOptions | undefined, usableMemory: () => number): ResolvedOptions {
  const options = checkNames('options', given, CACHE_OPTION_NAMES);
  const maxMemory = parseSize('maxMemory', options.maxMemory, MEMORY_BYTES_DEFAULT, usableMemory);
  if (maxMemory < MEMORY_BYTES_MIN) throw outOfRange('maxMemory', 'at least 4mb', options.maxMemory);
  warnOfMemory(maxMemory, usableMemory());
  const maxMemoryCeiling = parseSize('maxMemoryCeiling', options.maxMemoryCeiling, 0, usableMemory);
  if (maxMemoryCeiling !== 0 && maxMemoryCeiling < maxMemory) {
    throw outOfRange('maxMemoryCeiling', `at least maxMemory (${maxMemory} bytes)`, options.maxMemoryCeiling);
  }
  const maxValueBytes = parseSize('maxValueBytes', options.maxValueBytes, 0, usableMemory);
  if (options.maxValueBytes !== undefined && (maxValueBytes < 1 || maxValueBytes > VALUE_BYTES_MAX)) {
    throw outOfRange('maxValueBytes', 'between 1 byte and 1gb', options.maxValueBytes);
  }
  const log = resolveLogOptions(options, maxMemory, maxValueBytes);
  return {
    ...(log === undefined ? {} : { log }),
    name: checkName(options.name, ''),
    maxMemory,
    maxMemoryCeiling,
    maxEntries: checkEntries(options.maxEntries),
    maxValueBytes: maxValueBytes === 0 && log !== undefined ? loggedValueBytes(log.logLimit, maxMemory) : maxValueBytes,
    ttl: parseDuration('ttl', options.ttl, 0),
    shards: checkShards(options.shards),
    hash: checkChoice('hash', options.hash, ['fast', 'siphash'], 'fast'),
    trackAccess: checkBoolean('trackAccess', options.trackAccess, false),
    ack: checkAck(options.ack, log !== undefined, log === undefined ? 'memory' : 'logged'),
  };
}

let hasWarnedOfMemory = false;

// Address space is all that is taken at first, so that the system refuses such a cache only when it is filled.
function warnOfMemory(maxMemory: number, usable: number): void {
  if (maxMemory <= usable || usable === 0 || hasWarnedOfMemory) return;
  hasWarnedOfMemory = true;
  process.emitWarning(
    `maxMemory is ${maxMemory} bytes, and this process may use ${usable}: the system ends a process that fills more`,
    { type: 'CairnWarning', code: 'CAIRN_MEMORY' },
  );
}

// What the log could never take is refused from the start. 0: a larger default is the store's to choose,
// native/store/store.h.
function loggedValueBytes(logLimit: number, maxMemory: number): number {
  const most = Math.floor(logLimit / LOG_VALUES_MIN);
  return most < Math.max(2 ** 20, Math.floor(maxMemory / 1024)) && most < LOGGED_VALUE_BYTES_MAX ? most : 0;
}

function resolveLogOptions(
  options: CacheOptions,
  maxMemory: number,
  maxValueBytes: number,
): ResolvedLogOptions | undefined {
  if (options.data === undefined) {
    const name = LOG_OPTION_NAMES.find((each) => options[each] !== undefined);
    if (name === undefined) return undefined;
    throw misplaced(`The option ${name} is for a cache with a log: give data, the directory of it, too`);
  }
  if (typeof options.data !== 'string' || options.data === '') throw wrongType('data', 'a directory', options.data);
  if (maxValueBytes > LOGGED_VALUE_BYTES_MAX) {
    throw outOfRange('maxValueBytes', 'at most 64mb where there is a log', options.maxValueBytes);
  }
  const limitGiven = fileSize('logLimit', options.logLimit, 0);
  const segmentSize = fileSize('segmentSize', options.segmentSize, defaultSegment(limitGiven));
  if (segmentSize < LOG_SEGMENT_BYTES_MIN || segmentSize > LOG_SEGMENT_BYTES_MAX) {
    throw outOfRange('segmentSize', 'between 4kb and 1gb', options.segmentSize);
  }
  const leastLimit = LOG_SEGMENTS_MIN * segmentSize;
  if (limitGiven !== 0 && limitGiven < leastLimit) {
    const least =
      options.segmentSize === undefined
        ? `${leastLimit} bytes`
        : `${LOG_SEGMENTS_MIN} times segmentSize (${leastLimit} bytes)`;
    throw outOfRange('logLimit', `at least ${least}`, options.logLimit);
  }
  const logLimit = limitGiven === 0 ? Math.max(LOG_LIMIT_BYTES_DEFAULT, leastLimit) : limitGiven;
  if (maxValueBytes > logLimit / LOG_VALUES_MIN) {
    throw outOfRange('maxValueBytes', `at most a quarter of logLimit (${logLimit})`, options.maxValueBytes);
  }
  const ringDefault = Math.min(RING_BYTES_DEFAULT_MAX, Math.floor(maxMemory / RING_SHARE_DEFAULT));
  const ringSize = fileSize('ringSize', options.ringSize, ringDefault);
  if (ringSize > maxMemory / RING_SHARE_MAX) {
    throw outOfRange('ringSize', `at most a quarter of maxMemory (${maxMemory})`, options.ringSize);
  }
  const snapshot = checkNames<SnapshotOptions>('snapshot', options.snapshot, ['every', 'logBytes', 'atClose']);
  return {
    data: resolve(options.data),
    sync: checkSync(options.sync),
    recover: checkChoice('recover', options.recover, ['log', 'none'], 'log'),
    logLimit,
    segmentSize,
    ringSize,
    snapshot: {
      every: parseDuration('snapshot.every', snapshot.every, SNAPSHOT_EVERY_MS),
      logBytes: fileSize('snapshot.logBytes', snapshot.logBytes, 0),
      atClose: checkBoolean('snapshot.atClose', snapshot.atClose, true),
    },
  };
}

const SNAPSHOT_EVERY_MS = 3_600_000;

function defaultSegment(logLimit: number): number {
  if (logLimit === 0) return LOG_SEGMENT_BYTES_DEFAULT;
  return Math.max(LOG_SEGMENT_BYTES_MIN, Math.min(LOG_SEGMENT_BYTES_DEFAULT, Math.floor(logLimit / 16)));
}

// A share of the memory says nothing about a file.
function fileSize(name: string, value: unknown, otherwise: number): number {
  if (typeof value === 'string' && value.includes('%')) {
    throw outOfRange(name, 'a positive integer of bytes, or text such as "512mb"', value);
  }
  return parseSize(name, value, otherwise, () => 0);
}

function checkSync(value: unknown): SyncPolicy {
  if (value === undefined) return 'always';
  if (value === 'always' || value === 'none') return value;
  const ms = typeof value === 'string' ? durationOf(value) : undefined;
  if (ms !== undefined && ms >= 1 && ms <= LOG_SYNC_MS_MAX) return `${ms}ms`;
  throw (typeof value === 'string' ? outOfRange : wrongType)(
    'sync',
    "'always', 'none' or an interval such as '10ms', from 1 ms to an hour",
    value,
  );
}

/** Checks the option `onRecovery` of an open. */
export function resolveOnRecovery(given: unknown): (progress: RecoveryProgress) => void {
  if (given === undefined) return () => {};
  if (typeof given !== 'function') throw wrongType('onRecovery', 'a function', given);
  return given as (progress: RecoveryProgress) => void;
}

/** A limit on entries; 0: there is none, for `Infinity` too. */
export function checkEntries(given: unknown): number {
  if (given === Number.POSITIVE_INFINITY) return 0;
  return checkInteger('maxEntries', given, 1, Number.MAX_SAFE_INTEGER, 0);
}

/** Checks the option `clock`. */
export function checkClock(given: unknown): (() => number) | undefined {
  if (given === undefined) return undefined;
  if (typeof given !== 'function') throw wrongType('clock', 'a function that gives milliseconds', given);
  return given as () => number;
}

/** Checks the option `raw` of a handle. */
export function resolveRaw(raw: unknown): RawOption {
  if (raw === undefined) return 'buffer';
  if (raw === 'buffer' || raw === 'string' || raw === 'json' || typeof raw === 'function') return raw as RawOption;
  throw wrongType('raw', "'buffer', 'string', 'json' or a function", raw);
}

/** Checks the option `promises` of a handle. */
export function resolvePromiseOptions(
  given: PromiseOptions | undefined,
  usableMemory: () => number,
): ResolvedPromiseOptions {
  const options = checkNames<PromiseOptions>('promises', given, ['lanes', 'maxRequests', 'maxBytes']);
  const lanes = checkInteger('promises.lanes', options.lanes, 1, LANE_COUNT_MAX, 0);
  return {
    lanes: lanes === 0 ? undefined : lanes,
    maxRequests: checkInteger(
      'promises.maxRequests',
      options.maxRequests,
      1,
      Number.MAX_SAFE_INTEGER,
      QUEUE_REQUESTS_MAX,
    ),
    maxBytes: parseSize('promises.maxBytes', options.maxBytes, QUEUE_BYTES_MAX, usableMemory),
  };
}

/** Checks an acknowledgement level. `hasLog`: whether the cache has a log, without which `memory` is the only level. */
export function checkAck(ack: unknown, hasLog: boolean, otherwise: AckLevel): AckLevel {
  const level = ack === undefined ? otherwise : ack;
  if (level === 'memory' || (level === 'logged' && hasLog)) return level;
  const levels = hasLog ? "'memory' or 'logged'" : "'memory', the only level of a cache without a log";
  throw (typeof ack === 'string' ? outOfRange : wrongType)('ack', levels, ack);
}

/** The name of a cache. */
export function checkName(name: unknown, otherwise?: string): string {
  if (name === undefined && otherwise !== undefined) return otherwise;
  if (typeof name !== 'string') throw wrongType('name', 'a string', name);
  if (name === '' || name.length > NAME_LENGTH_MAX) {
    throw outOfRange('name', `a string of 1 to ${NAME_LENGTH_MAX} characters`, name);
  }
  if (/[\p{Cc}\p{Surrogate}]/u.test(name)) throw outOfRange('name', 'text without control characters', name);
  return name;
}

/** Refuses options that do not exist, and says which one was probably meant. */
export function checkNames<T extends object>(what: string, given: T | undefined, names: readonly (keyof T)[]): T {
  if (given === undefined) return {} as T;
  if (typeof given !== 'object' || given === null || Array.isArray(given)) throw wrongType(what, 'an object', given);
  for (const key of Object.keys(given)) {
    if ((names as readonly string[]).includes(key)) continue;
    throw new CairnTypeError(
      'ERR_INVALID_ARGUMENT',
      `Unknown option ${show(key)} in ${what}${suggestion(key, names as readonly string[])}`,
    );
  }
  return given;
}

function suggestion(key: string, names: readonly string[]): string {
  const foreign = Object.hasOwn(FOREIGN_NAMES, key) ? FOREIGN_NAMES[key] : undefined;
  if (foreign !== undefined && names.includes(foreign)) return `: did you mean ${foreign}?`;
  const elsewhere = Object.hasOwn(ELSEWHERE, key) ? ELSEWHERE[key] : undefined;
  if (elsewhere !== undefined) return `: use ${elsewhere}`;
  let nearest: string | undefined;
  let nearestDistance = Math.max(2, Math.floor(key.length / 3)) + 1;
  for (const name of names) {
    const distance = editDistance(key.toLowerCase(), name.toLowerCase());
    if (distance < nearestDistance) {
      nearest = name;
      nearestDistance = distance;
    }
  }
  return nearest === undefined ? `: expected one of ${names.join(', ')}` : `: did you mean ${nearest}?`;
}

function editDistance(a: string, b: string): number {
  let row = Array.from({ length: b.length + 1 }, (_, j) => j);
  for (let i = 1; i <= a.length; i++) {
    const next = [i];
    for (let j = 1; j <= b.length; j++) {
      next[j] = Math.min(row[j]! + 1, next[j - 1]! + 1, row[j - 1]! + (a[i - 1] === b[j - 1] ? 0 : 1));
    }
    row = next;
  }
  return row[b.length]!;
}

const DURATION_UNITS: Readonly<Record<string, number>> = { ms: 1, s: 1000, m: 60_000, h: 3_600_000, d: 86_400_000 };

/** A time span in milliseconds. */
export function parseDuration(name: string, value: unknown, otherwise: number): number {
  if (value === undefined) return otherwise;
  if (typeof value === 'number') {
    if (Number.isInteger(value) && value >= 0 && value <= TTL_MS_MAX) return value;
    if (value === Number.POSITIVE_INFINITY) return 0;
  }
  if (typeof value === 'string') {
    const milliseconds = durationOf(value);
    if (milliseconds !== undefined && milliseconds <= TTL_MS_MAX) return milliseconds;
  }
  const problem = typeof value === 'number' || typeof value === 'string' ? outOfRange : wrongType;
  throw problem(
    name,
    'a non-negative integer of milliseconds, or a number with ms, s, m, h or d, such as "60s"',
    value,
  );
}

// Whole milliseconds; undefined: it is no such text.
function durationOf(text: string): number | undefined {
  const match = /^(\d+(?:\.\d+)?)\s*(ms|s|m|h|d)$/i.exec(text.trim());
  if (match === null) return undefined;
  const milliseconds = Number(match[1]) * DURATION_UNITS[match[2]!.toLowerCase()]!;
  // "0.1s" is 100 whatever binary fractions make of it; "0.5ms" is nothing.
  const whole = Math.round(milliseconds);
  return Math.abs(milliseconds - whole) < 1e-6 ? whole : undefined;
}

const SIZE_UNITS: Readonly<Record<string, number>> = { '': 1, b: 1, k: 2 ** 10, m: 2 ** 20, g: 2 ** 30, t: 2 ** 40 };

/** A size in bytes. */
export function parseSize(name: string, value: unknown, otherwise: number, usableMemory: () => number): number {
  if (value === undefined) return otherwise;
  if (typeof value === 'number' && Number.isSafeInteger(value) && value > 0) return value;
  if (typeof value === 'string') {
    const percent = /^(\d+(?:\.\d+)?)\s*%$/.exec(value.trim());
    if (percent !== null) {
      const share = Number(percent[1]) / 100;
      if (share > 0 && share <= 1) return Math.floor(usableMemory() * share);
    }
    const match = /^(\d+(?:\.\d+)?)\s*(?:([kmgt])(?:i?b)?|b)?$/i.exec(value.trim());
    if (match !== null) {
      const bytes = Math.floor(Number(match[1]) * SIZE_UNITS[(match[2] ?? '').toLowerCase()]!);
      if (bytes > 0 && Number.isSafeInteger(bytes)) return bytes;
    }
  }
  const problem = typeof value === 'number' || typeof value === 'string' ? outOfRange : wrongType;
  throw problem(name, 'a positive integer of bytes, or text such as "512mb" or "25%"', value);
}

/** A whole number within bounds. */
export function checkInteger(name: string, value: unknown, min: number, max: number, otherwise: number): number {
  if (value === undefined) return otherwise;
  if (typeof value !== 'number') throw wrongType(name, `an integer of at least ${min}`, value);
  if (!Number.isInteger(value) || value < min || value > max) {
    throw outOfRange(
      name,
      max === Number.MAX_SAFE_INTEGER ? `an integer of at least ${min}` : `an integer between ${min} and ${max}`,
      value,
    );
  }
  return value;
}

function checkShards(value: unknown): number {
  const shards = checkInteger('shards', value, 1, SHARD_COUNT_MAX, 0);
  if ((shards & (shards - 1)) !== 0) throw outOfRange('shards', `a power of two up to ${SHARD_COUNT_MAX}`, value);
  return shards;
}

/** One of a few words. */
export function checkChoice<T extends string>(name: string, value: unknown, choices: readonly T[], otherwise: T): T {
  if (value === undefined) return otherwise;
  if ((choices as readonly unknown[]).includes(value)) return value as T;
  throw (typeof value === 'string' ? outOfRange : wrongType)(
    name,
    choices.map((choice) => `'${choice}'`).join(' or '),
    value,
  );
}

/** true or false. */
export function checkBoolean(name: string, value: unknown, otherwise: boolean): boolean {
  if (value === undefined) return otherwise;
  if (typeof value !== 'boolean') throw wrongType(name, 'true or false', value);
  return value;
}
