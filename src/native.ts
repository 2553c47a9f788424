/**
 * The store's door: loads the addon, declares what it exports, and is the only importer of it. Nothing here checks what
 * users pass: the addon answers with a {@link Code}, and the caller makes an error of it.
 *
 * The addon is loaded once per thread. What a call leaves beside its result is in {@link words} and {@link scratch}
 * until the next call of this thread.
 */
import { endianness } from 'node:os';
import { CairnError } from './errors.ts';
import {
  KEY_BYTES_MAX,
  MEMORY_BYTES_MIN,
  SHARD_BYTES_MIN,
  SHARD_COUNT_MAX,
  SHARD_ENTRIES_MIN,
  STORES_MAX,
  VALUE_BYTES_MAX,
} from './limits.ts';
import { loadNative } from './native/load.ts';
import { Codec } from './request/codec.ts';

/** Answers of the addon: native/addon/convert.h has the same numbers. */
export const Code = {
  stored: 0,
  notStored: 1,
  exists: 2,
  notFound: 3,
  found: 4,
  nonNumeric: 5,
  tooLarge: 6,
  noMemory: 7,
  logFull: 8,
  needsRoom: 9,
  notResident: 10,
  closed: 16,
  invalidKey: 17,
  keyMaybeIllFormed: 18,
  valueMaybeIllFormed: 19,
  invalidValue: 20,
  outOfMemory: 21,
  nameTaken: 22,
  noSuchCache: 23,
  notReady: 24,
  refused: 25,
  notAtomic: 26,
  atomicUnknown: 27,
  severalStores: 28,
} as const;
export type Code = number;

/** Places in {@link words}: native/addon/environment.h has the same numbers. */
export const Word = {
  code: 0,
  codec: 1,
  valueBytes: 2,
  place: 3,
  version: 4,
  expiresIn: 6,
  number: 7,
  clientFlags: 8,
  idleSeconds: 9,
  fetched: 10,
  cache: 5,
} as const;

/** Where a value is that `get` left to be decoded. */
export const PLACE_BUFFER = 2;

/** What is left to do about a value of a chunk: {@link marks} has four numbers for each. */
export const MARK_WORDS = 4;
export const MARK_DONE = 0xff;
export const MARK_FAILED = 0xfd;
export const MARK_ELSEWHERE = 0xffffffff;

/** As a time to live: leave the expiry as it is. */
export const TTL_KEEP = -1;
/** In `words[Word.expiresIn]` before `setChunk`: the cache's own time to live. */
export const TTL_DEFAULT: bigint = BigInt.asUintN(64, -1n);

type NativeKey = string | Uint8Array;
declare const walkBrand: unique symbol;
/** A walk in progress; closed by `closeWalk` or when it is collected. */
export interface NativeWalk {
  readonly [walkBrand]: true;
}

/**
 * A cache as one `Cache` object holds it. The functions are plain: they may be called without the object, and keep it
 * alive. Reads answer with the value, `undefined` for a miss, `true` when the words say where the value is and how to
 * decode it, or `false` when `words[Word.code]` says why there is none.
 */
export interface NativeHandle {
  readonly name: string;
  readonly description: string;
  /** Names it to {@link nativeGet} and {@link nativeSet}, for as long as it is held. */
  readonly number: number;
  readonly cacheId: number;
  readonly shardCount: number;
  /** Larger values are refused, also those above {@link NativeHandle.valueBytesNow}. */
  readonly valueBytesMax: number;
  /** What `resize` may go up to. */
  readonly memoryBytesCeiling: number;

  peek(key: NativeKey): unknown;
  getWithCas(key: NativeKey): unknown;
  getInto(key: NativeKey, target: Uint8Array): number | undefined | false;
  has(key: NativeKey): boolean | Code;
  info(key: NativeKey): Code;
  store(
    verb: number,
    key: NativeKey,
    payload: string | Uint8Array,
    codec: number,
    ttl: number | undefined,
    compare: boolean,
    clientFlags?: number,
  ): Code;
  arithmetic(
    verb: number,
    key: NativeKey,
    delta: number | undefined,
    initial: number | bigint | undefined,
    ttl: number | undefined,
  ): Code;
  delete(key: NativeKey, compare?: boolean): boolean | Code;
  evict(key: NativeKey): boolean | Code;
  touch(key: NativeKey, ttl: number | undefined): boolean | Code;
  clear(): Code;
  resize(memoryBytes: number, entriesMax: number): Code;
  /** The largest value now, which a lower limit on memory may have lowered; 0 once closed. */
  valueBytesNow(): number;
  size(): number;
  close(): void;
  isClosed(): boolean;
  rawAsBuffer(yes: boolean): void;
  /** From now on the cache's time is that long after the first call, and stands still. It never goes back. */
  setClock(elapsedMs: number): void;

  getChunk(...keys: NativeKey[]): unknown[] | false;
  deleteChunk(...keys: NativeKey[]): number | false;
  setChunk(...keysPayloadsCodecs: unknown[]): number | false;
  getPacked(
    keys: Uint8Array,
    ends: Uint32Array,
    values: Uint8Array,
    used: number,
    table: Uint32Array,
    missing: boolean,
  ): number | false;

  /**
   * Executes the parts of an atomic batch, as src/atomic.ts encodes them. `tooLarge`: the words say what does not fit:
   * `place` an {@link AtomicBound}, `number` what there is of it, `version` the limit, `valueBytes` the part.
   * `severalStores`: `place` and `number` are two backends, `valueBytes` a part that is of the second.
   */
  executeAtomic(parts: Uint8Array): Code;
  /** Before other calls of a writer or a loader: this handle is that of the backend of this number, not of 0. */
  useBackend(number: number): void;
  /** Of all handles of the cache, for keys of the backend of this one. */
  setAtomicBatches(rule: AtomicBatches): void;

  openWalk(newest: boolean, acceptsStale: boolean): NativeWalk | Code;
  stepWalk(walk: NativeWalk, entriesMax: number): unknown[] | undefined | Code;
  closeWalk(walk: NativeWalk): void;
  dumpStep(walk: NativeWalk, target: Uint8Array, withExpired?: boolean): number | false;
  load(records: Uint8Array): number | false;
  stats(numbers: Float64Array): Code;
  resetStats(): Code;
}

/** What an atomic batch does not fit into: native/store/atomic_batch.h has the same. */
export const AtomicBound = { value: 1, records: 2, ring: 3, memory: 4, entries: 5 } as const;

/** Whether callers may write atomic batches: native/process/registry.h has the same. */
export const AtomicBatches = { allowed: 0, unknown: 1, refused: 2 } as const;
export type AtomicBatches = (typeof AtomicBatches)[keyof typeof AtomicBatches];

/** What a stub says: the log has the value; the key was deleted; the database has the value, under another expiry. */
export const StubKind = { value: 0, gone: 1, expiry: 2 } as const;

/** What the stub of a key says whose value left memory before the database had it. */
export interface NativeStub {
  readonly kind: (typeof StubKind)[keyof typeof StubKind];
  /** Of the record that has the value; 0n: none. */
  readonly valueVersion: bigint;
  /** Of the newest record of the key: names this stub to `revive`. */
  readonly newestVersion: bigint;
}

/** What a handle has beside, if its cache has a backend: native/addon/debts_binding.cc says what each does. */
export interface BackedHandle extends FeedHandle {
  stubOf(key: NativeKey): NativeStub | undefined;
  /**
   * Puts the value of a log's record back in place of a stub. A code: `stored`; `not-found`: the stub is another one by
   * now, look the key up again; otherwise there is no room, and the stub stays.
   */
  revive(record: Uint8Array, newestVersion: bigint): Code;
  /**
   * Whether the database does not have all changes of a key yet. `Word.place`: its shard; `Word.version`: the version
   * to wait for; `Word.number`: the least version that its newest dead letter would have.
   */
  lastChangeOf(key: NativeKey): boolean | Code;
  /** How much is taken of the memory for keys that the database does not have yet, from 0 to 1. */
  stubShare(): number;
}

/**
 * What a handle has beside, if its cache has a backend, for changes that are made again: native/addon/retry_binding.cc
 * says what each does.
 */
export interface RetryHandle extends NativeHandle {
  beginRetry(keys: readonly Uint8Array[]): boolean;
  executeRetry(rows: readonly unknown[]): Code;
  endRetry(): void;
}

/** What a handle has beside, if its cache has a log: native/addon/feed_binding.h says what each does. */
export interface FeedHandle extends NativeHandle {
  startFeed(epoch: number, wallFloorMs: number): void;
  /** `begin`, `end`: of the group in the log that has them, if they are owed to a backend. */
  applyRecords(records: Uint8Array, begin?: bigint, end?: bigint): number;
  settleRecovered(): void;
  renumber(epoch: number): void;
  finishRecovery(): void;
  dumpPendingClear(target: Uint8Array): number;
  drain(target: Uint8Array, timeoutMs: number): number;
  /**
   * What a turn drained is in the log, between these positions; undefined: nothing will look for it. Turns may come in
   * any order, each once.
   */
  commitDrained(turn: number, begin?: bigint, end?: bigint): void;
  /** No record before this position is looked for by `placesOf`. */
  dropPlaces(before: bigint): void;
  rewindDrained(): void;
  setFeedState(state: FeedState): void;
  /** `place`: of the first of them among all numbers, default 0. */
  setLogMetrics(numbers: Float64Array, place?: number): void;
  poke(): void;
  ringBell(): void;
  feedStats(numbers: Float64Array): number;
  logMetrics(numbers: Float64Array): void;
  readTargets(versions: BigUint64Array): void;
  covered(versions: BigUint64Array): boolean;
  waitCommitted(versions: BigUint64Array, timeoutMs: number): boolean;
  watchCommits(): void;
  /**
   * The ranges of the log that may have the record of a key with this version: fills in begin and end of each, as many
   * as fit, and returns how many there are. Of a cache with a backend; otherwise there are none.
   */
  placesOf(key: Uint8Array, version: bigint, ranges: BigUint64Array): number;
  /**
   * The record of a key with this version, if it is not in the log yet: its bytes. 0: it is not there. -1: it does not
   * fit, and needs `Word.valueBytes`. -2: too many threads are reading it; call again.
   */
  findInRing(key: Uint8Array, version: bigint, target: Uint8Array): number;
  commitMark(shard: number): bigint;
  feedState(): FeedState;
  // What the database has: native/addon/stored_binding.h says what each does.
  collectVersions(records: Uint8Array, versions: BigUint64Array): boolean;
  /** `ofSome`: between the stored mark and this change there may be several batches. */
  refuseStored(key: Uint8Array, version: bigint, reason: string, ofSome?: boolean): void;
  markStored(versions: BigUint64Array): void;
  dropStored(key: Uint8Array, version: bigint): void;
  tellStored(): void;
  setStoredHealth(health: StoredHealth, from?: number, end?: number): void;
  listenWanted(): void;
  takeWanted(): boolean;
  isWanted(from: number, end: number): boolean;
  /** The number of the key's backend. */
  wantStored(shard: number, key: NativeKey, version: bigint): number;
  storedOutcome(shard: number, key: NativeKey, version: bigint): number | string;
  refusedSince(shard: number, key: NativeKey, version: bigint): string | undefined;
  /** Of the backend of a key, and its shard; without one: the worst of all. */
  storedHealth(key?: NativeKey): StoredHealth;
  setSlowdown(ms: number): void;
  slowedChanges(): [changes: number, ms: number];
  slowDown(): number;
  epoch(): number;
}

/** What has become of a change, for callers that wait for the database; a string instead: why it was refused. */
export const StoredOutcome = { pending: 0, stored: 1, unknown: 3 } as const;

/** What the writer says of the database: native/store/stored_changes.h has the words. */
export const StoredHealth = { running: 0, away: 1, stopped: 2 } as const;
export type StoredHealth = (typeof StoredHealth)[keyof typeof StoredHealth];

/** What a handle has beside, if a database is behind its cache: native/addon/load_binding.h says what each does. */
export interface LoadHandle extends NativeHandle {
  /** `onlyFreeRoom`: nothing is evicted for the values; one without room is not stored, and its load ends well. */
  beginLoads(keys: readonly NativeKey[], onlyFreeRoom?: boolean): number[] | undefined;
  leaveLoads(ids: readonly number[]): void;
  /** Three to each: its id, why it has failed, and whether a read is a miss then. */
  takeEndedLoads(): (number | string | boolean | undefined)[] | undefined;
  /** As `get`; false with Code.notResident if only the database knows whether there is a value. */
  getThrough(key: NativeKey): unknown;
  failLoads(why: string): void;
  loadCounts(): [now: number, begun: number, joined: number, failed: number, refused: number] | undefined;
  attachLoader(): boolean;
  detachLoader(): void;
  drainLoads(most: number): (number | Buffer)[] | undefined;
  finishLoads(rows: readonly unknown[]): void;
}

/** The handle of a cache with a database behind it; undefined for others. */
export function loadsOf(handle: NativeHandle): LoadHandle | undefined {
  return 'beginLoads' in handle ? (handle as LoadHandle) : undefined;
}

/** How a cache's log is: native/process/change_feed.h draws the states. */
export const FeedState = { opening: 0, running: 1, full: 2, failed: 3, closed: 4, stuck: 5 } as const;
export type FeedState = (typeof FeedState)[keyof typeof FeedState];

/** Places in what `feedStats` fills in: native/addon/feed_binding.h has the same table. */
export const FeedStat = {
  state: 0,
  ringBytes: 1,
  ringCapacityBytes: 2,
  ringFillWorst: 3,
  records: 4,
  recordsCommitted: 5,
  lagMs: 6,
} as const;
export const FEED_STAT_COUNT = 7;
/**
 * Places of what `logMetrics` fills in that others read than those who know them all: the first in
 * src/scribe/metrics.ts.
 */
export const LogMetricPlace = { logBytes: 0, logLimitBytes: 1 } as const;
/** As many numbers fit `setLogMetrics`. */
export const LOG_METRICS_MAX = 512;

/** The handle of a cache that has a log; undefined for others. */
export function feedOf(handle: NativeHandle): FeedHandle | undefined {
  return 'drain' in handle ? (handle as FeedHandle) : undefined;
}

/** The versions up to which everything was done by now, of all shards. */
export function targetsOf(handle: FeedHandle): BigUint64Array {
  const targets = new BigUint64Array(handle.shardCount);
  handle.readTargets(targets);
  return targets;
}

/** Which option of the store is refused: native/store/refusal.h has the same. */
export const RefusedOption = {
  memoryBytes: 0,
  memoryBytesCeiling: 1,
  shardCount: 2,
  valueBytesMax: 3,
  pageBytes: 4,
  ringBytes: 5,
  epoch: 6,
} as const;

/** What it breaks; `Refusal` of native/store/refusal.h says what each means. */
export const RefusedRule = {
  none: 0,
  range: 1,
  powerOfTwo: 2,
  shardShare: 3,
  shardCapacity: 4,
  valuesFit: 5,
  addressSpace: 6,
  memory: 7,
} as const;

/** Why a cache cannot be opened or resized as asked. */
export interface NativeRefusal {
  readonly rule: number;
  readonly option: number;
  readonly min: number;
  /** `Infinity`: there is no upper bound. */
  readonly max: number;
  readonly value: number;
  readonly shards: number;
}

/** What a cache is opened with. */
export interface NativeOptions {
  name: string;
  description: string;
  join: boolean;
  ready: boolean;
  ttlMs: number;
  memoryBytes: number;
  memoryBytesCeiling: number;
  entriesMax: number;
  shardCount: number;
  /** Of those that are chosen where `shardCount` is 0. Default 1. */
  shardCountMin?: number;
  valueBytesMax: number;
  trackAccess: boolean;
  siphash: boolean;
  /** For the rings of a cache with a log, all shards together; 0: it has none. */
  ringBytes: number;
  /** A database is behind the cache: a key without an entry may have a value there. Default: false. */
  hasBackend?: boolean;
  /** Of several databases, how many. Default 1. */
  backendCount?: number;
  /** Which keys belong to which: to each prefix the number of a database, and whether that gets them. */
  backendRoutes?: readonly (string | number | boolean)[];
}

/** What the addon exports; other stages declare what their own bindings add. */
export interface Native {
  readonly scratch: ArrayBuffer;
  readonly words: ArrayBuffer;
  readonly marks: ArrayBuffer;
  readonly limits: Readonly<Record<string, number>>;
  readonly statNames: readonly string[];
  get(key: NativeKey): unknown;
  set(key: NativeKey, text: string): Code | undefined;
  openCache(options: NativeOptions): NativeHandle | Code;
  attachCache(name: string): NativeHandle | Code;
  attachById(id: number): NativeHandle | Code;
  /** As attachById, for a cache that may not be ready yet. */
  attachForScribe(id: number): NativeHandle | Code;
  cacheNames(): string[];
  usableMemory(): number;
  takeBuffer(): Buffer | undefined;
  /** Why the last call answered Code.refused. */
  takeRefusal(): NativeRefusal;
  takeMessage(): string;
  runtime(): { cacheCount: number; janitorRuns: boolean };
}

/** The addon of this thread. */
export const native: Native = checked(loadNative() as Native);

/** Where small values lie that the addon left to be decoded. */
export const scratch: Buffer = Buffer.from(native.scratch);
/** 64-bit words that calls leave beside their results; see {@link Word}. */
export const words: BigUint64Array = new BigUint64Array(native.words);
/** What is left to do about the values of a chunk; see {@link MARK_WORDS}. */
export const marks: Uint32Array = new Uint32Array(native.marks);
/** Keys that cross in one call. */
export const CHUNK_KEYS_MAX: number = native.limits['chunkKeysMax']!;

const halves = new Uint32Array(native.words);
const LOW = endianness() === 'LE' ? 0 : 1;

/** The low half of a word: codecs, sizes, codes. */
export function lowWord(index: number): number {
  return halves[index * 2 + LOW]!;
}

const { get, set } = native;
const callee = new Uint32Array(native.words, (Word.cache * 2 + LOW) * 4, 1);

/**
 * The verbs that are called most are functions for all caches of the thread, and are told the cache by its number: V8
 * calls a native function directly only where it has seen no other, as it would with a second cache.
 */
export function nativeGet(number: number, key: NativeKey): unknown {
  callee[0] = number;
  return get(key);
}

/** `undefined`: stored. */
export function nativeSet(number: number, key: NativeKey, text: string): Code | undefined {
  callee[0] = number;
  return set(key, text);
}

/** A word as a number: exact up to 2^53, the nearest beyond. */
export function numberWord(index: number): number {
  return halves[index * 2 + LOW]! + halves[index * 2 + 1 - LOW]! * 2 ** 32;
}

function checked(loaded: Native): Native {
  const expected: Readonly<Record<string, number>> = {
    keyBytesMax: KEY_BYTES_MAX,
    valueBytesMax: VALUE_BYTES_MAX,
    memoryBytesMin: MEMORY_BYTES_MIN,
    shardCountMax: SHARD_COUNT_MAX,
    shardBytesMin: SHARD_BYTES_MIN,
    shardEntriesMin: SHARD_ENTRIES_MIN,
    backendsMax: STORES_MAX,
    codecCount: Object.keys(Codec).length,
  };
  for (const [name, value] of Object.entries(expected)) {
    const found = loaded.limits?.[name];
    if (found !== value) {
      throw new CairnError(
        'ERR_NATIVE_MISMATCH',
        `The native addon belongs to another version of cairn-cache: its ${name} is ${found}, expected ${value}. Build it again: npx cairn-cache build`,
      );
    }
  }
  return loaded;
}
