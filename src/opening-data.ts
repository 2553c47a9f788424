/** How a cache with a log is opened: recovery, and the database that the log is carried to. */
import type { FeedHandle } from './native.ts';
import type { OpeningOptions, ResolvedLoadsOptions, ResolvedLogOptions, ResolvedStoreOptions } from './options.ts';
import { type KeeperOptions, LogKeeper } from './scribe/index.ts';
import {
  EarlyWriter,
  type LoadLimits,
  type Restore,
  restoreFrom,
  STORE_CURSOR,
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
  reached: SharedArrayBuffer,
): Promise<LogKeeper> {
  const { store } = options.cache;
  const onRecovery = options.onRecovery ?? (() => {});
  if (log.recover === 'store') return openRestored(feed, options, log, store!, onRecovery);
  const carrier = store === undefined ? undefined : earlyWriter(options, store, log, reached);
  try {
    return await LogKeeper.open(
      feed,
      { ...keeperOptions(log, store), ...(carrier === undefined ? {} : { carrier }) },
      onRecovery,
    );
  } finally {
    await carrier?.close();
  }
}

function earlyWriter(
  options: OpeningOptions,
  store: ResolvedStoreOptions,
  log: ResolvedLogOptions,
  reached: SharedArrayBuffer,
): EarlyWriter {
  return new EarlyWriter({
    connector: () => storeConnector(options.store!, log.data, store.rules, store.writeBack.lanes),
    options: writerOptions(options, store),
    reached,
  });
}

async function openRestored(
  feed: FeedHandle,
  options: OpeningOptions,
  log: ResolvedLogOptions,
  store: ResolvedStoreOptions,
  onRecovery: NonNullable<OpeningOptions['onRecovery']>,
): Promise<LogKeeper> {
  let restore: Restore;
  try {
    restore = await restoreFrom(options.store!, log.data, store.rules, options.cache.maxMemory);
  } catch (error) {
    feed.close();
    throw error;
  }
  try {
    const { cursor, epochMin } = restore;
    const given = { epochMin, filler: restore, ...(cursor === undefined ? {} : { stored: cursor }) };
    return await LogKeeper.open(feed, { ...keeperOptions(log, store), ...given }, onRecovery);
  } finally {
    await restore.close();
  }
}

/** How far the database of a cache has been, as its writers know. */
export function newReached(store: ResolvedStoreOptions | undefined): SharedArrayBuffer {
  return new SharedArrayBuffer((store?.writeBack.lanes ?? 1) * BigUint64Array.BYTES_PER_ELEMENT);
}

/** Carries the log to the database from now on. If that is refused, the log is closed. */
export async function writeBack(
  options: OpeningOptions,
  store: ResolvedStoreOptions,
  log: LogKeeper,
  cacheId: number,
  reached: SharedArrayBuffer,
): Promise<void> {
  try {
    const writer = { store: options.store!, options: writerOptions(options, store), reached };
    await WriteBackKeeper.open({ cacheId, log, ...writer });
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
): WriteBackOptions {
  const { maxRows, maxBytes, delay, maxRowsPerSecond, ackTimeout, retainBehind, lanes, sweepRows } = writeBack;
  return {
    limits: { rows: maxRows, bytes: maxBytes, delayMs: delay },
    rules,
    rowsPerSecond: maxRowsPerSecond,
    ackTimeoutMs: ackTimeout,
    dropsRefused: mode === 'write-through',
    lanes,
    retainMs: retainBehind,
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

function keeperOptions(log: ResolvedLogOptions, store: ResolvedStoreOptions | undefined): KeeperOptions {
  const { data, sync, recover, logLimit, segmentSize, snapshot } = log;
  return {
    directory: data,
    sync,
    start: recover,
    segmentBytes: segmentSize,
    limitBytes: logLimit,
    snapshots: { everyMs: snapshot.every, logBytes: snapshot.logBytes, isTakenAtClose: snapshot.atClose },
    // From its first record on: a log that has not all of them any more is refused by the writer.
    ...(store === undefined ? { refuseBehind: STORE_CURSOR } : { cursor: { name: STORE_CURSOR } }),
  };
}
