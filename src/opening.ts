/**
 * How a handle comes to be: made, joined or attached; with a log, recovered. And what a cache was made with, as others
 * see it.
 */
import { isMainThread } from 'node:worker_threads';
import { clockOf, startClock } from './clock.ts';
import { elsewhere } from './copies.ts';
import { CairnError, misplaced, show } from './errors.ts';
import { Code, type FeedHandle, feedOf, type NativeHandle, type NativeOptions, native } from './native.ts';
import { limitsOf, newReached, openLog, storesOf, writeBack } from './opening-data.ts';
import {
  type AttachOptions,
  type CacheOptions,
  checkName,
  type EffectiveOptions,
  type HandleOptions,
  type Loader,
  type OpeningOptions,
  type RawOption,
  type ResolvedLogOptions,
  type ResolvedOptions,
  type ResolvedPromiseOptions,
  type ResolvedStoreOptions,
  resolveHandleOptions,
  resolveOptions,
} from './options.ts';
import { ReadThroughKeeper } from './read-through/index.ts';
import { refusalError } from './refusals.ts';
import { laneCountOf } from './router/index.ts';
import { DEFAULT_STORE, rulesOfStore, storeOf } from './rules/index.ts';
import { LogKeeper, ringBytesOf } from './scribe/index.ts';

/** A handle that was made, joined or attached, for the constructor of Cache. */
export class Opened {
  readonly handle: NativeHandle;
  readonly raw: RawOption;
  readonly promises: ResolvedPromiseOptions;
  /** For a `fetch` that brings no loader. */
  readonly loader: Loader<unknown> | undefined;
  /** From 0 to 1. */
  readonly random: () => number;
  /** Moves the cache's time, where its maker gave a clock. */
  readonly tick: (() => void) | undefined;
  /** Of a handle that owns a cache with a log. */
  readonly keeper: LogKeeper | undefined;
  #resolved: ResolvedOptions | undefined;

  constructor(handle: NativeHandle, { raw, promises, loader, random }: HandleOptions, keeper?: LogKeeper) {
    this.handle = handle;
    this.raw = raw;
    this.promises = promises;
    this.loader = loader;
    this.random = random ?? Math.random;
    this.tick = clockOf(handle);
    this.keeper = keeper;
  }

  /** What the cache was made with, by any handle. */
  get resolved(): ResolvedOptions {
    this.#resolved ??= JSON.parse(this.handle.description) as ResolvedOptions;
    return this.#resolved;
  }
}

// ---- names ----

// Names of tests that share a process are kept apart by it. Read at each use: a test's setup sets it.
function namePrefix(): string {
  return process.env['CAIRN_NAME_PREFIX'] ?? '';
}

// What the addon calls a cache of that name.
function nativeName(name: string): string {
  return name === '' ? '' : namePrefix() + name;
}

/** The name that a cache was given. */
export function givenName(handle: NativeHandle): string {
  const { name } = handle;
  const prefix = namePrefix();
  return name.startsWith(prefix) ? name.slice(prefix.length) : name;
}

/** The names of the caches that are open in this process, of those that this thread's prefix reaches. */
export function openNames(): string[] {
  const prefix = namePrefix();
  return native
    .cacheNames()
    .filter((name) => name.startsWith(prefix))
    .map((name) => name.slice(prefix.length));
}

// ---- making, joining, attaching ----

/** `new Cache(options)`. */
export function make(given: CacheOptions | undefined): Opened {
  const options = resolveOptions(given, native.usableMemory);
  const { log, store } = options.cache;
  if (log !== undefined) {
    throw misplaced(
      `A cache with data is opened by 'await Cache.open({ data, ... })', which recovers before it resolves`,
    );
  }
  if (store === undefined) return openNative(options, false);
  throw misplaced(
    `A cache with store is opened by 'await Cache.open({ store, ... })', which asks the database before it resolves`,
  );
}

/** `Cache.open(options)`. */
export async function open(given: CacheOptions | undefined): Promise<Opened> {
  const options = resolveOptions(given, native.usableMemory);
  const { log, store } = options.cache;
  if (log !== undefined) return openOneByOne(options, () => openLogged(options, log));
  return store === undefined ? openNative(options, true) : openOneByOne(options, () => openReading(options, store));
}

/** `Cache.attach(name, options)`. */
export function attach(name: string, options: AttachOptions | undefined): Opened {
  const checked = checkName(name);
  const own = resolveHandleOptions(options, native.usableMemory);
  const handle = native.attachCache(nativeName(checked));
  if (typeof handle === 'number') throw openingError(handle, checked);
  return new Opened(handle, own);
}

/** Openings under way of caches with a log or a database, by name. */
const openings = new Map<string, Promise<unknown>>();

// Two that open one name at the same time: the second waits, and joins what the first has made.
async function openOneByOne(options: OpeningOptions, open: () => Promise<Opened>): Promise<Opened> {
  const { name } = options.cache;
  if (name === '') return open();
  for (let other = openings.get(name); other !== undefined; other = openings.get(name)) {
    await other.catch(() => {
      // Its caller is told. This one tries for itself.
    });
  }
  const opening = open();
  openings.set(name, opening);
  try {
    return await opening;
  } finally {
    openings.delete(name);
  }
}

// A cache with a log. Its keeper has the owner's handle, so that the cache lives until the log has everything.
async function openLogged(options: OpeningOptions, log: ResolvedLogOptions): Promise<Opened> {
  const { name } = options.cache;
  if (!isMainThread) {
    throw misplaced('A cache with data is opened on the main thread; other threads use Cache.attach(name)');
  }
  const closing = name === '' ? undefined : LogKeeper.closingOf(nativeName(name));
  if (closing !== undefined) {
    await closing.catch(() => {
      // The caller of close() is told.
    });
  }
  const first = openNative(options, true);
  const joined = LogKeeper.of(first.handle.cacheId);
  if (joined !== undefined) {
    joined.ownerCount++;
    return new Opened(first.handle, first, joined);
  }
  const { store } = options.cache;
  const feed = feedOf(first.handle)!;
  const reached = newReached(store);
  const keeper = await openLog(feed, options, log, reached);
  if (store !== undefined) await writeBack(options, store, keeper, first.handle.cacheId, reached);
  const handle = native.attachById(first.handle.cacheId);
  if (typeof handle === 'number') throw openingError(handle, name);
  return new Opened(handle, first, keeper);
}

/** Caches of this process that only read their database, by their numbers, of which each is given once. */
const readers = new Set<number>();

// A cache whose misses the database answers. One that is open by this name is joined.
async function openReading(options: OpeningOptions, { loads, warmUp, rules }: ResolvedStoreOptions): Promise<Opened> {
  if (!isMainThread) {
    throw misplaced('A cache with store is opened on the main thread; other threads use Cache.attach(name)');
  }
  const opened = openNative(options, true);
  const { handle } = opened;
  const { cacheId } = handle;
  if (readers.has(cacheId)) return opened;
  readers.add(cacheId);
  try {
    const stores = storesOf(options).map(async ({ name, target }, number) => {
      const own = { store: target, number, rules: rulesOfStore(rules, name) };
      await ReadThroughKeeper.open({ cacheId, ...own, loads: limitsOf(loads), warmUp });
    });
    // None is left in the middle of its opening.
    for (const each of await Promise.allSettled(stores)) if (each.status === 'rejected') throw each.reason;
  } catch (error) {
    readers.delete(cacheId);
    handle.close();
    throw error;
  }
  return opened;
}

function openNative(options: OpeningOptions, join: boolean): Opened {
  const handle = openOrJoin(options.cache, join);
  if (options.clock !== undefined) startClock(handle, options.clock);
  return new Opened(handle, options);
}

function openOrJoin(options: ResolvedOptions, join: boolean): NativeHandle {
  const handle = nativeOpen(options, JSON.stringify(options), join);
  if (typeof handle !== 'number') return handle;
  if (handle !== Code.nameTaken) throw openingError(handle, options.name);
  const other = native.attachCache(nativeName(options.name));
  if (typeof other === 'number') throw openingError(handle, options.name);
  try {
    const difference = firstDifference(options, other);
    if (difference !== undefined) throw nameTaken(options.name, difference);
    if (!join) throw nameTaken(options.name, '');
    const joined = nativeOpen(options, other.description, true);
    if (typeof joined === 'number') throw openingError(joined, options.name);
    return joined;
  } finally {
    other.close();
  }
}

function nativeOpen(options: ResolvedOptions, description: string, join: boolean): NativeHandle | number {
  return native.openCache({
    name: nativeName(options.name),
    description,
    join,
    ready: options.log === undefined,
    ringBytes: options.log?.ringSize ?? 0,
    ttlMs: options.ttl,
    memoryBytes: options.maxMemory,
    memoryBytesCeiling: options.maxMemoryCeiling,
    entriesMax: options.maxEntries,
    shardCount: options.shards,
    shardCountMin: options.store?.writeBack.lanes ?? 1,
    valueBytesMax: options.maxValueBytes,
    trackAccess: options.trackAccess,
    siphash: options.hash === 'siphash',
    hasBackend: options.store !== undefined,
    ...backendsOf(options.store),
  });
}

// Of several databases: how many, and which keys belong to which.
function backendsOf(store: ResolvedStoreOptions | undefined): Pick<NativeOptions, 'backendCount' | 'backendRoutes'> {
  if (store?.stores === undefined) return {};
  const names = [DEFAULT_STORE, ...Object.keys(store.stores)];
  const backendRoutes = store.rules.flatMap((rule) => [rule.prefix, names.indexOf(storeOf(rule)), !rule.skip]);
  return { backendCount: names.length, backendRoutes };
}

// ---- what a cache was made with ----

/** What `cache.options` shows: what was resolved, with what the store has made of it. */
export function effectiveOptions(
  handle: NativeHandle,
  resolved: ResolvedOptions,
  raw: RawOption,
  promises: ResolvedPromiseOptions,
): EffectiveOptions {
  const { log, store, name, maxEntries, ...rest } = resolved;
  const feed = feedOf(handle);
  return {
    ...(name === '' ? {} : { name }),
    ...rest,
    ...(maxEntries === 0 ? {} : { maxEntries }),
    maxMemoryCeiling: handle.memoryBytesCeiling,
    maxValueBytes: handle.valueBytesMax,
    shards: handle.shardCount,
    raw,
    promises: { ...promises, lanes: laneCountOf(promises.lanes, handle.shardCount) },
    ...(log === undefined || feed === undefined ? {} : effectiveLogOptions(log, feed)),
    ...store,
  };
}

function effectiveLogOptions(log: ResolvedLogOptions, feed: FeedHandle): Partial<EffectiveOptions> {
  const { every, logBytes, atClose } = log.snapshot;
  return {
    ...log,
    ringSize: feed.isClosed() ? log.ringSize : ringBytesOf(feed),
    snapshot: logBytes === 0 ? { every, atClose } : { every, logBytes, atClose },
  };
}

// The first option that differs from what a cache was made with, in words; undefined: none. What `cache.options` shows
// of that cache is as good as what it was given.
function firstDifference(options: ResolvedOptions, other: NativeHandle): string | undefined {
  const given = JSON.parse(other.description) as ResolvedOptions;
  const own = resolveHandleOptions(undefined, () => 0);
  const {
    raw,
    promises,
    store: _name,
    stores: _names,
    mode: _mode,
    writeBack: _writeBack,
    loads: _loads,
    warmUp: _warmUp,
    rules: _rules,
    ...shown
  } = effectiveOptions(other, given, own.raw, own.promises);
  const [mine, theirs, chosen] = [flat(options), flat(given), flat({ ...given, ...shown, log: logOf(given, shown) })];
  // First `data`: with it, other options have other defaults.
  for (const name of new Set(['data', ...Object.keys(mine), ...Object.keys(theirs)])) {
    const value = mine[name];
    if (value === theirs[name] || value === chosen[name]) continue;
    const say = (each: unknown): string => (each === undefined ? 'none' : show(each));
    return `with the option ${name} ${say(chosen[name])} instead of ${say(value)}`;
  }
  return undefined;
}

function logOf(given: ResolvedOptions, shown: Partial<EffectiveOptions>): ResolvedLogOptions | undefined {
  return given.log === undefined ? undefined : { ...given.log, ringSize: shown.ringSize! };
}

// Every option by its name, those of the log and of snapshots included.
function flat(options: ResolvedOptions): Record<string, unknown> {
  const { log, store, ...rest } = options;
  const { snapshot, ...ofLog } = log ?? {};
  const { writeBack, loads, warmUp, rules, stores, ...ofStore } = store ?? {};
  const nested = (prefix: string, inner: object = {}): object =>
    Object.fromEntries(Object.entries(inner).map(([name, value]) => [`${prefix}.${name}`, value]));
  return {
    ...{
      ...rest,
      ...ofLog,
      ...nested('snapshot', snapshot),
      ...ofStore,
      ...nested('writeBack', writeBack),
      ...nested('loads', loads),
    },
    // As text, so that equal ones are the same.
    ...(rules === undefined ? {} : { rules: JSON.stringify(rules) }),
    ...(stores === undefined ? {} : { stores: JSON.stringify(stores) }),
    ...(warmUp === undefined ? {} : { warmUp: JSON.stringify(warmUp) }),
  };
}

// ---- errors ----

function nameTaken(name: string, difference: string): CairnError {
  const open = `A cache named ${show(name)} is open in this process`;
  const attach = `Cache.attach(${show(name)}) gives a handle of it`;
  return new CairnError(
    'ERR_NAME_TAKEN',
    difference === ''
      ? `${open}: ${attach}, and Cache.open with the same options joins it as one more owner`
      : `${open} ${difference}: ${attach}, and Cache.open joins it with equal options`,
  );
}

function openingError(code: number, name: string): Error {
  switch (code) {
    case Code.nameTaken:
      return nameTaken(name, '');
    case Code.noSuchCache: {
      const names = openNames();
      const known = names.length === 0 ? 'none is open' : `open are ${names.slice(0, 10).map(show).join(', ')}`;
      return new CairnError(
        'ERR_NO_SUCH_CACHE',
        `There is no cache named ${show(name)} in this process: ${known}${elsewhere(name)}`,
      );
    }
    case Code.notReady:
      return new CairnError('ERR_NOT_READY', `The cache ${show(name)} is still recovering`);
    case Code.refused:
      return refusalError(native.takeRefusal());
    default:
      return new CairnError('ERR_NATIVE_MISMATCH', `Unexpected answer ${code} of the native addon`);
  }
}
