/** The options of a cache and of a handle, and what each must be beside others. */
import { namingOptions, outOfRange } from '../errors.ts';
import { LOG_VALUES_MIN, LOGGED_VALUE_BYTES_MAX } from '../limits.ts';
import { entries, nameOfCache } from './kinds.ts';
import type { Loader } from './loader.ts';
import { checkAck, resolveLogOptions } from './log.ts';
import { resolveStoreOptions } from './store.ts';
import { CACHE_OPTIONS, checkAll } from './table.ts';
import type {
  AckLevel,
  AttachOptions,
  CacheOptions,
  NamedStore,
  RawOption,
  RecoveryProgress,
  ResolvedOptions,
  ResolvedPromiseOptions,
  ResolvedStoreOptions,
  StoreTarget,
} from './types.ts';

/** The options that each handle has for itself; the cache's other options are shared by all its handles. */
export interface HandleOptions {
  readonly raw: RawOption;
  readonly promises: ResolvedPromiseOptions;
  readonly loader?: Loader<unknown> | undefined;
  /** undefined: `Math.random`. */
  readonly random?: (() => number) | undefined;
}

/** The options of a cache that is made or opened. */
export interface OpeningOptions extends HandleOptions {
  readonly cache: ResolvedOptions;
  readonly clock: (() => number) | undefined;
  readonly onRecovery: ((progress: RecoveryProgress) => void) | undefined;
  /** The database; undefined: there is none. */
  readonly store: StoreTarget | undefined;
  /** Of several databases the others. */
  readonly stores: readonly NamedStore[];
}

/** Checks the options of a cache. `usableMemory` is asked for what `'25%'` is of. Throws `ERR_INVALID_ARGUMENT`. */
export function resolveOptions(given: CacheOptions | undefined, usableMemory: () => number): OpeningOptions {
  const options = checkAll(CACHE_OPTIONS, 'options', given, usableMemory);
  const { raw, promises, loader, random, clock, onRecovery, maxMemory, maxMemoryCeiling, maxValueBytes } = options;
  warnOfMemory(maxMemory, usableMemory());
  if (maxMemoryCeiling !== 0 && maxMemoryCeiling < maxMemory) {
    const expected = `(${maxMemory} bytes)`;
    throw outOfRange('maxMemoryCeiling', (say) => `at least ${say('maxMemory')} ${expected}`, given?.maxMemoryCeiling);
  }
  const log = resolveLogOptions(given, options);
  const store = resolveStoreOptions(given, options, log !== undefined);
  const { name, maxEntries, ttl, shards, hash, trackAccess } = options;
  const cache = {
    ...(log === undefined ? {} : { log }),
    ...(store === undefined ? {} : { store }),
    ...{ name, maxMemory, maxMemoryCeiling, maxEntries },
    maxValueBytes: maxValueBytes === 0 && log !== undefined ? loggedValueBytes(log.logLimit, maxMemory) : maxValueBytes,
    ...{ ttl, shards, hash, trackAccess },
    ack: ackOf(given, log !== undefined, store),
  };
  const { store: target, stores } = options;
  return { cache, raw, promises, loader, random, clock, onRecovery, store: target, stores };
}

function ackOf(given: CacheOptions | undefined, hasLog: boolean, store: ResolvedStoreOptions | undefined): AckLevel {
  if (!hasLog) return checkAck(given?.ack, 'memory', 'memory');
  const usual = store?.mode === 'write-through' ? 'stored' : 'logged';
  return checkAck(given?.ack, store === undefined ? 'logged' : 'stored', usual);
}

let hasWarnedOfMemory = false;

// Address space is all that is taken at first, so that the system refuses such a cache only when it is filled.
function warnOfMemory(maxMemory: number, usable: number): void {
  if (maxMemory <= usable || usable === 0 || hasWarnedOfMemory) return;
  hasWarnedOfMemory = true;
  const rest = `is ${maxMemory} bytes, and this process may use ${usable}: the system ends a process that fills more`;
  const warning = namingOptions(
    (text) => new Error(text),
    (say) => `${say('maxMemory')} ${rest}`,
  );
  process.emitWarning(Object.assign(warning, { name: 'CairnWarning', code: 'CAIRN_MEMORY' }));
}

// What the log could never take is refused from the start. 0: a larger default is the store's to choose,
// native/store/store.h.
function loggedValueBytes(logLimit: number, maxMemory: number): number {
  const most = Math.floor(logLimit / LOG_VALUES_MIN);
  return most < Math.max(2 ** 20, Math.floor(maxMemory / 1024)) && most < LOGGED_VALUE_BYTES_MAX ? most : 0;
}

/** Checks the options of a handle that is attached. */
export function resolveHandleOptions(given: AttachOptions | undefined, usableMemory: () => number): HandleOptions {
  const { raw, promises, loader } = CACHE_OPTIONS;
  return checkAll({ raw, promises, loader }, 'options', given, usableMemory);
}

/** A limit on entries; 0: there is none, for `Infinity` too. */
export function checkEntries(given: unknown): number {
  return entries(given, 'maxEntries', () => 0);
}

/** The name of a cache, which has to have one. */
export function checkName(given: unknown): string {
  return nameOfCache(given, 'name', () => 0);
}
