/** `cache.stats()`: the type of it, and where its numbers come from. */
import { inspect } from 'node:util';
import { show } from './errors.ts';
import { type FetchCounts, type FlightHandle, fetchCounts } from './fetch/index.ts';
import { Code, feedOf, type NativeHandle, native } from './native.ts';
import { type LogStats, readLogStats } from './scribe/index.ts';
import { readWarmUpStats, readWriteBackStats, type WarmUpStats, type WriteBackStats } from './write-back/index.ts';

/** Counters since the cache was opened or `resetStats` was called, and present sizes. */
export interface CacheStats extends FetchCounts {
  /** Entries; expired ones count until they are removed. */
  entries: number;
  /** Entries that `clear()` removed and whose memory is still being taken back. */
  clearedEntries: number;
  /** The limit on entries; 0: none. */
  maxEntries: number;
  /** The charge of all entries, in bytes; never above `limitBytes`. */
  chargedBytes: number;
  /** `memoryBytes` less headers and reserve. */
  limitBytes: number;
  /** Bytes of keys and values. */
  payloadBytes: number;
  /** The limit on everything: `maxMemory`. */
  memoryBytes: number;
  /** Bytes of memory in use. */
  committedBytes: number;
  /** Bytes of the index's buckets. */
  indexBytes: number;
  /** Pages of memory in use, index included; docs/memory.md has their size. */
  pagesUsed: number;
  /** Empty pages. */
  pagesFree: number;
  /** Pages kept in place while values in them are being read or logged. */
  pinnedPages: number;
  /** Buckets of the index, with twelve places each. */
  buckets: number;
  /** Reads of a key; `peek`, `has`, `info` and `take` do not count. */
  gets: number;
  /** Of these, those that found an entry. */
  hits: number;
  /** Of these, those that found none. */
  misses: number;
  /** Values stored, by any verb. */
  sets: number;
  /** Calls of `touch`, and of the port's `gat`. */
  touches: number;
  /** Of these, those that found an entry. */
  touchHits: number;
  /** Calls of `delete` and `take`. */
  deletes: number;
  /** Of these, those that found an entry. */
  deleteHits: number;
  /** Calls of `incr` and `decr` for a counter that exists, and for one that does not. */
  incrHits: number;
  incrMisses: number;
  decrHits: number;
  decrMisses: number;
  /** Calls of `cas` that stored, found no entry, found another version. */
  casHits: number;
  casMisses: number;
  casExists: number;
  /** Entries that were evicted. */
  evictions: number;
  /** Of these, those that were never read. */
  evictedUnfetched: number;
  /** Entries that expired. */
  expirations: number;
  /** Of these, those that were never read. */
  expiredUnfetched: number;
  /** Reads that found an expired entry; they count as misses. */
  getExpired: number;
  /** Writes refused because the value is larger than `maxValueBytes`. */
  tooLarge: number;
  /** Writes refused because all memory was pinned by reads or by values being received (rare). */
  noMemory: number;
  /** Writes that found no room on the way to the log. */
  logFull: number;
  /** Calls of `clear()` and `flush_all`. */
  clears: number;
  /** Pieces of memory that were moved to empty a page. */
  relocations: number;
  /** Buckets added to the index, and removed from it. */
  splits: number;
  merges: number;
  /** Entries evicted because too many keys share a hash: a sign of a flooding attack. */
  hashFloodEvictions: number;
  /** Entries evicted below the limit because a page was missing. Stays 0. */
  reserveEvictions: number;
  /** Number of shards, each with its own lock. */
  shards: number;
  /** Only for a cache with a log. */
  log?: LogStats;
  /** Only for a cache with a database. */
  writeBack?: WriteBackStats;
  /** Only for a cache with the option `warmUp`, on the thread that has opened it. */
  warmUp?: WarmUpStats;
}

/**
 * The statistics of a cache, with those of write-back if it has a database: `others` are the names of further ones.
 * Undefined: it is closed.
 */
export function readStats(handle: NativeHandle, others?: readonly string[]): CacheStats | undefined {
  const names = native.statNames;
  const numbers = new Float64Array(names.length);
  if (handle.stats(numbers) !== Code.stored) return undefined;
  const stats: Record<string, number> = {};
  for (const [index, name] of names.entries()) stats[name] = numbers[index]!;
  stats['shards'] = handle.shardCount;
  Object.assign(stats, fetchCounts(handle as FlightHandle));
  const feed = feedOf(handle);
  if (feed !== undefined) Object.assign(stats, { log: readLogStats(feed, Date.now()) });
  if (feed !== undefined && others !== undefined) {
    Object.assign(stats, { writeBack: readWriteBackStats(feed, others) });
  }
  const warmUp = readWarmUpStats(handle.cacheId);
  if (warmUp !== undefined) Object.assign(stats, { warmUp });
  return stats as unknown as CacheStats;
}

/** What `console.log(cache)` shows; `stats` is undefined of a closed one. */
export function describeCache(name: string, stats: CacheStats | undefined, options: object): string {
  const which = name === '' ? 'Cache' : `Cache ${show(name)}`;
  if (stats === undefined) return `${which} (closed)`;
  const { entries, chargedBytes, memoryBytes, gets, hits } = stats;
  const mebibytes = (bytes: number): number => Math.round(bytes / 2 ** 16) / 16;
  const shown = {
    entries,
    memory: `${mebibytes(chargedBytes)} of ${mebibytes(memoryBytes)} MiB`,
    hitRatio: gets === 0 ? undefined : Math.round((hits / gets) * 1000) / 1000,
  };
  return `${which} ${inspect(shown, options)}`;
}
