// The caches that are compared, each behind the same few verbs. Where a cache has the verb under the same name, it is
// the cache's own method: nothing stands in between.

import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

/** What is loaded once, and how a cache for `entries` entries of `entryBytes` bytes of key and value is made of it. */
const makers = {
  cairn: {
    load: () => import('cairn-cache'),
    make({ Cache }, { entries, entryBytes, evicts }) {
      // Room for all: where entries are to be evicted, their number is what is limited, as with the others.
      const maxMemory = Math.max(2 * entries * (entryBytes + 48), 64 * 2 ** 20);
      return new Cache(evicts ? { maxMemory, maxEntries: entries } : { maxMemory });
    },
  },
  'lru-cache': {
    load: () => import('lru-cache'),
    make: ({ LRUCache }, { entries }) => new LRUCache({ max: entries }),
  },
  mnemonist: {
    load: () => import('mnemonist'),
    make: ({ LRUMap }, { entries }) => new LRUMap(entries),
  },
  'tiny-lru': {
    load: () => import('tiny-lru'),
    make: ({ lru }, { entries }) => lru(entries),
  },
  'quick-lru': {
    load: () => import('quick-lru'),
    make: ({ default: QuickLRU }, { entries }) => new QuickLRU({ maxSize: entries }),
  },
  lmdb: { load: () => import('lmdb'), make: makeLmdb },
  // No cache, but the floor of all the others in JavaScript.
  Map: { load: () => undefined, make: () => new Map() },
};

function makeLmdb({ open }, { entries, entryBytes }) {
  const path = mkdtempSync(join(tmpdir(), 'cairn-bench-lmdb-'));
  process.on('exit', () => rmSync(path, { recursive: true, force: true }));
  const mapSize = Math.max(8 * entries * (entryBytes + 100), 256 * 2 ** 20);
  const database = open({ path, encoding: 'string', noSync: true, mapSize });
  return {
    get: (key) => database.get(key),
    has: (key) => database.doesExist(key),
    // A transaction by itself is a different promise than a cache's; writes are compared in transactions of 1000.
    setAll: (pairs) =>
      database.transactionSync(() => {
        for (const [key, value] of pairs) database.put(key, value);
      }),
    close: () => database.close(),
  };
}

/** All names, the subject first. */
export const cacheNames = Object.keys(makers);

/** Loads what makeCache() needs; it does so itself, but not where that would be measured. */
export const loadCache = (name) => makers[name].load();

export async function makeCache(name, options) {
  return makers[name].make(await loadCache(name), options);
}

/** Puts entries [from, to) into a cache. */
export function fill(cache, from, to, keyOf, valueOf) {
  if (cache.setAll !== undefined) {
    const pairs = [];
    for (let i = from; i < to; i++) pairs.push([keyOf(i), valueOf(i)]);
    cache.setAll(pairs);
    return;
  }
  for (let i = from; i < to; i++) cache.set(keyOf(i), valueOf(i));
}

/** Stops the run: a figure of something else than was announced is worse than none. */
export function mustHold(condition, what) {
  if (!condition) throw new Error(`The benchmark does not measure what it says: ${what}`);
}
