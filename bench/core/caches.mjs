// The caches that are compared, each behind the same few verbs. Where a cache has the verb under the same name, it is
// the cache's own method: nothing stands in between.

import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

/** Makes a cache for `entries` entries of `entryBytes` bytes of key and value. */
const makers = {
  async cairn({ entries, entryBytes, evicts }) {
    const { Cache } = await import('cairn-cache');
    // Room for all: where entries are to be evicted, their number is what is limited, as with the others.
    const maxMemory = Math.max(2 * entries * (entryBytes + 48), 64 * 2 ** 20);
    return new Cache(evicts ? { maxMemory, maxEntries: entries } : { maxMemory });
  },
  async 'lru-cache'({ entries }) {
    const { LRUCache } = await import('lru-cache');
    return new LRUCache({ max: entries });
  },
  async mnemonist({ entries }) {
    const { LRUMap } = await import('mnemonist');
    return new LRUMap(entries);
  },
  async 'tiny-lru'({ entries }) {
    const { lru } = await import('tiny-lru');
    return lru(entries);
  },
  async 'quick-lru'({ entries }) {
    const { default: QuickLRU } = await import('quick-lru');
    return new QuickLRU({ maxSize: entries });
  },
  async lmdb({ entries, entryBytes }) {
    const { open } = await import('lmdb');
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
  },
  // No cache, but the floor of all the others in JavaScript.
  async Map() {
    return new Map();
  },
};

/** All names, the subject first. */
export const cacheNames = Object.keys(makers);

export function makeCache(name, options) {
  return makers[name](options);
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
