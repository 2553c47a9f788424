/** `cache.stats()`: the type of it, and where its numbers come from. */
import { inspect } from 'node:util';
import { show } from './errors.ts';
import { type FetchCounts, type FlightHandle, fetchCounts } from './fetch/index.ts';
import { Code, feedOf, type NativeHandle, native } from './native.ts';
import { type LogStats, readLogStats } from './scribe/index.ts';

/** Counters since the cache was opened (or `resetStats`), and sizes now. */
export interface CacheStats extends FetchCounts {
  /** Entries; expired ones count until they are removed. */
  entries: number;
  /** Entries that `clear()` removed and whose memory is still being taken back. */
  clearedEntries: number;
  /** The limit on entries; 0: none. */
  maxEntries: number;
  /** What the entries are charged, in bytes; never above `limitBytes`. */
  chargedBytes: number;
  /** `memoryBytes` less index and reserves. */
  limitBytes: number;
  /** Bytes of keys and values. */
  payloadBytes: number;
  /** The cap: `maxMemory`. */
  memoryBytes: number;
  /** Bytes that have been used so far and not been given back to the system. */
  committedBytes: number;
  /** Bytes of buckets of the index. */
  indexBytes: number;
  /** Pages of memory in use, index included; docs/memory.md has their size. */
  pagesUsed: number;
  /** Pages that nothing lies in. */
  pagesFree: number;
  /** Pages that stay as they are while values in them are being read. */
  pinnedPages: number;
  /** Buckets of the index, of twelve places each. */
  buckets: number;
  /** Reads; `peek`, `has`, `info` and `take` do not count. */
  gets: number;
  /** Of these, those that found an entry. */
  hits: number;
  /** Of these, those that found none. */
  misses: number;
  /** Values stored, by whichever verb. */
  sets: number;
  /** Calls of `touch`, and of the port's `gat`. */
  touches: number;
  /** Of these, those that found an entry. */
  touchHits: number;
  /** Deletions that were asked for, those by `take` included. */
  deletes: number;
  /** Of these, those that found an entry. */
  deleteHits: number;
  /** Counters that were there, and that were not. */
  incrHits: number;
  incrMisses: number;
  decrHits: number;
  decrMisses: number;
  /** `cas` that stored, found no entry, found another version. */
  casHits: number;
  casMisses: number;
  casExists: number;
  /** Entries that left for want of room. */
  evictions: number;
  /** Of these, those that were never read. */
  evictedUnfetched: number;
  /** Entries that left because their time was over. */
  expirations: number;
  /** Of these, those that were never read. */
  expiredUnfetched: number;
  /** Reads that met an expired entry. */
  getExpired: number;
  /** Writes that were refused because the value is larger than may be. */
  tooLarge: number;
  /** Writes that were refused because values being read or received hold all the room. */
  noMemory: number;
  /** Writes that found no room on their way to the log. */
  logFull: number;
  /** `clear()` and `flush_all`. */
  clears: number;
  /** Pieces of memory that were moved so that a page could be emptied. */
  relocations: number;
  /** Buckets that the index has grown by, and shrunk by. */
  splits: number;
  merges: number;
  /** Entries that left because too many keys share a hash: a sign of a flooding attack. */
  hashFloodEvictions: number;
  /** Entries that left below the limit, for want of a page. Stays 0. */
  reserveEvictions: number;
  /** Slices with a lock each. */
  shards: number;
  /** Of a cache with a log. */
  log?: LogStats;
}

/** The statistics of a cache; undefined: it is closed. */
export function readStats(handle: NativeHandle): CacheStats | undefined {
  const names = native.statNames;
  const numbers = new Float64Array(names.length);
  if (handle.stats(numbers) !== Code.stored) return undefined;
  const stats: Record<string, number> = {};
  for (const [index, name] of names.entries()) stats[name] = numbers[index]!;
  stats['shards'] = handle.shardCount;
  Object.assign(stats, fetchCounts(handle as FlightHandle));
  const feed = feedOf(handle);
  if (feed !== undefined) Object.assign(stats, { log: readLogStats(feed, Date.now()) });
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
