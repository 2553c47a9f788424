/** How a cache with a log is opened: recovery, and the database that the log is carried to. */
import type { FeedHandle } from './native.ts';
import type {
  NamedStore,
  OpeningOptions,
  ResolvedLoadsOptions,
  ResolvedLogOptions,
  ResolvedStoreOptions,
} from './options.ts';
import { DEFAULT_STORE, rulesOfStore } from './rules/index.ts';
import { type KeeperOptions, LogKeeper, type OpeningCursor } from './scribe/index.ts';
import {
  cursorOf,
  EarlyWriter,
  EarlyWriters,
  type LoadLimits,
  Restores,
  STORE_CURSOR,
  type StoreSeat,
  storeConnector,
  WriteBackKeeper,
  type WriteBackOptions,
} from './write-back/index.ts';

/** How long a log that is not used after all may take to close. */
const CLOSE_MS = 10_000;

/**
 * Opens the log, and recovers. `feed` is the keeper's from then on, or closed. `reached`: of newReached(), for
 * writeBack().
 */
export async function openLog(
  feed: FeedHandle,
  options: OpeningOptions,
  log: ResolvedLogOptions,
  reached: readonly SharedArrayBuffer[],
): Promise<LogKeeper> {
  const { store } = options.cache;
  const onRecovery = options.onRecovery ?? (() => {});
  if (log.recover === 'store') return openRestored(feed, options, log, store!, onRecovery);
  const carrier = store === undefined ? undefined : earlyWriters(options, store, log, reached);
  try {
    return await LogKeeper.open(
      feed,
      { ...keeperOptions(options, log), ...(carrier === undefined ? {} : { carrier }) },
      onRecovery,
    );
  } finally {
    await carrier?.close();
  }
}

/** The databases of a cache that has some, the default one first. */
export function storesOf({ store, stores }: OpeningOptions): readonly NamedStore[] {
  return [{ name: DEFAULT_STORE, target: store! }, ...stores];
}

function seatsOf(options: OpeningOptions): (NamedStore & { readonly seat: StoreSeat })[] {
  const stores = storesOf(options);
  return stores.map((each, number) => ({ ...each, seat: { name: each.name, number, count: stores.length } }));
}

function earlyWriters(
  options: OpeningOptions,
  store: ResolvedStoreOptions,
  log: ResolvedLogOptions,
  reached: readonly SharedArrayBuffer[],
): EarlyWriters {
  const writers = seatsOf(options).map(({ name, target, seat }): [string, EarlyWriter] => {
    const { rules } = writerOptions(options, store, name);
    const writer = new EarlyWriter({
      connector: () => storeConnector(target, log.data, rules, store.writeBack.lanes),
      store: name,
      options: writerOptions(options, store, name),
      isOneOfSeveral: seat.count > 1,
      reached: reached[seat.number]!,
    });
    return [name, writer];
  });
  return new EarlyWriters(new Map(writers), store.rules);
}

async function openRestored(
  feed: FeedHandle,
  options: OpeningOptions,
  log: ResolvedLogOptions,
  store: ResolvedStoreOptions,
  onRecovery: NonNullable<OpeningOptions['onRecovery']>,
): Promise<LogKeeper> {
  let restore: Restores;
  try {
    restore = await Restores.open({
      ...{ stores: storesOf(options), directory: log.data, rules: store.rules },
      memoryBytes: options.cache.maxMemory,
    });
  } catch (error) {
    feed.close();
    throw error;
  }
  try {
    const given = { epochMin: restore.epochMin, filler: restore };
    return await LogKeeper.open(feed, { ...keeperOptions(options, log, restore), ...given }, onRecovery);
  } finally {
    await restore.close();
  }
}

/** How far each database of a cache has been, as its writers know. */
export function newReached(store: ResolvedStoreOptions | undefined): readonly SharedArrayBuffer[] {
  const lanes = store?.writeBack.lanes ?? 1;
  return [DEFAULT_STORE, ...Object.keys(store?.stores ?? {})].map(
    () => new SharedArrayBuffer(lanes * BigUint64Array.BYTES_PER_ELEMENT),
  );
}

/** Carries the log to the databases from now on. If that is refused, the log is closed. */
export async function writeBack(
  options: OpeningOptions,
  store: ResolvedStoreOptions,
  log: LogKeeper,
  cacheId: number,
  reached: readonly SharedArrayBuffer[],
): Promise<void> {
  try {
    const stores = seatsOf(options).map(({ name, target, seat }) => {
      return { seat, store: target, options: writerOptions(options, store, name), reached: reached[seat.number]! };
    });
    await WriteBackKeeper.open({ cacheId, log, stores, rules: store.rules });
  } catch (error) {
    await log.release(CLOSE_MS, false).catch(() => {
      // The refusal says more.
    });
    throw error;
  }
}

function writerOptions(
  options: OpeningOptions,
  { writeBack, loads, warmUp, rules, mode }: ResolvedStoreOptions,
  name: string,
): WriteBackOptions {
  const { maxRows, maxBytes, delay, maxRowsPerSecond, ackTimeout, retainBehind, lanes, slowdown, sweepRows } =
    writeBack;
  return {
    limits: { rows: maxRows, bytes: maxBytes, delayMs: delay },
    rules: rulesOfStore(rules, name),
    rowsPerSecond: maxRowsPerSecond,
    ackTimeoutMs: ackTimeout,
    dropsRefused: mode === 'write-through',
    lanes,
    retainMs: retainBehind,
    slowdownMs: slowdown,
    sweepRows,
    loads: limitsOf(loads),
    warmUp,
    syncsLog: options.cache.log!.sync === 'none',
  };
}

/** How values are loaded. */
export function limitsOf({ timeout, negativeTtl, onFailure }: ResolvedLoadsOptions): LoadLimits {
  return { timeoutMs: timeout, negativeMs: negativeTtl, failsAsMiss: onFailure === 'miss' };
}

function keeperOptions(options: OpeningOptions, log: ResolvedLogOptions, restore?: Restores): KeeperOptions {
  const { data, sync, recover, logLimit, segmentSize, snapshot } = log;
  return {
    directory: data,
    sync,
    start: recover,
    segmentBytes: segmentSize,
    limitBytes: logLimit,
    snapshots: { everyMs: snapshot.every, logBytes: snapshot.logBytes, isTakenAtClose: snapshot.atClose },
    refuseBehind: STORE_CURSOR,
    ...(options.store === undefined ? {} : cursorsOf(options, restore)),
  };
}

// From its first record on: a log that has not all of them any more is refused by the writer.
function cursorsOf(options: OpeningOptions, restore: Restores | undefined): Partial<KeeperOptions> {
  const [cursor, ...otherCursors] = storesOf(options).map(({ name }): OpeningCursor => {
    const stored = restore?.storedOf(name);
    return { name: cursorOf(name), ...(stored === undefined ? {} : { stored }) };
  });
  return { cursor: cursor!, otherCursors };
}
