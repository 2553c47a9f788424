// The warm-up of a cache: what is in memory then, what is not evicted or overwritten for it, what goes on meanwhile.

import { join } from 'node:path';
import { beforeEach, describe, expect, test } from 'vitest';
import { makeBackend } from '../../src/backend/index.ts';
import { handleOf } from '../../src/cache.ts';
import { Cache, type CacheOptions, type WarmUpStats } from '../../src/index.ts';
import { quietClock } from '../../src/write-back/clock.ts';
import { WarmUp } from '../../src/write-back/warm-up.ts';
import { WarmUpNumbers } from '../../src/write-back/warm-up-numbers.ts';
import { DataDirectories } from '../support/data-directories.ts';
import { postgresOfTests } from '../support/databases-of-tests.ts';
import { POSTGRES_MISSING, postgresPrograms } from '../support/postgres.ts';
import { skipUnless } from '../support/skip.ts';

const directories = new DataDirectories('warm-up');
/** More than one batch of the warm-up, and one piece of a scan. */
const ROWS = 700;
const valueOf = (i: number): string => `value ${i}`;
let store: string;

beforeEach(() => {
  store = `lmdb:${join(directories.fresh(), 'database')}`;
});

/** Rows `key:0`, `key:1`, ... as a cache has written them. */
async function fill(address: string, rows = ROWS, value = valueOf): Promise<string> {
  const data = directories.fresh();
  const cache = await directories.open(data, { store: address, sync: 'none', maxMemory: '128mb' });
  for (let i = 0; i < rows; i++) await cache.promises.set(`key:${i}`, value(i), { ack: 'memory' });
  await cache.drain();
  await cache.close();
  return data;
}

/** When the warm-up is over. */
async function warmed(cache: Cache): Promise<WarmUpStats> {
  await expect.poll(() => cache.stats().warmUp!.state, { timeout: 60_000 }).not.toBe('running');
  return cache.stats().warmUp!;
}

async function reading(options: CacheOptions, use: (cache: Cache) => Promise<void>): Promise<void> {
  const cache = await Cache.open({ store, mode: 'read-through', ...options });
  try {
    await use(cache);
  } finally {
    await cache.close();
  }
}

describe('the rows of the database are in memory', () => {
  test('of a cache that only reads', async () => {
    await fill(store);
    await reading({ warmUp: true }, async (cache) => {
      expect(await warmed(cache)).toMatchObject({ state: 'done', rows: ROWS, residentRows: 0 });
      for (let i = 0; i < ROWS; i++) expect(cache.get(`key:${i}`)).toBe(valueOf(i));
    });
  });

  test('of a cache that writes, beside those that it had', async () => {
    await fill(store);
    const cache = await directories.open(directories.fresh(), { store, recover: 'store', maxMemory: '64mb' });
    for (let i = 0; i < ROWS; i += 2) cache.evict(`key:${i}`);
    await cache.close();
    const data = cache.options.data!;
    const next = await directories.open(data, { store, warmUp: { prefix: 'key:' } });
    const { rows, residentRows, state } = await warmed(next);
    expect([rows + residentRows, state]).toEqual([ROWS, 'done']);
    for (let i = 0; i < ROWS; i++) expect(next.get(`key:${i}`)).toBe(valueOf(i));
    expect(next.options.warmUp).toEqual({ prefix: 'key:', limit: 0, rowsPerSecond: 0 });
  });

  test('only those of a prefix, and not more than the limit', async () => {
    await fill(store);
    await reading({ warmUp: { prefix: 'key:1' } }, async (cache) => {
      await warmed(cache);
      expect(cache.size).toBe(Array.from({ length: ROWS }, (_, i) => `${i}`).filter((i) => i.startsWith('1')).length);
    });
    await reading({ warmUp: { limit: 150, rowsPerSecond: 1_000_000 } }, async (cache) => {
      expect(await warmed(cache)).toMatchObject({ rows: 150, state: 'done' });
      expect(cache.size).toBe(150);
    });
  });

  test('of SQLite', async () => {
    store = `sqlite:${join(directories.fresh(), 'database.sqlite')}`;
    await fill(store);
    await reading({ warmUp: true }, async (cache) => {
      expect(await warmed(cache)).toMatchObject({ state: 'done', rows: ROWS });
    });
  });

  skipUnless(postgresPrograms, POSTGRES_MISSING).describe('of PostgreSQL', () => {
    const server = postgresOfTests();

    test('as of every other database', async () => {
      store = server.url();
      await fill(store);
      await reading({ warmUp: true }, async (cache) => {
        expect(await warmed(cache)).toMatchObject({ state: 'done', rows: ROWS });
      });
    });
  });
});

test('memory is full, too, when only the last rows have found no room', async () => {
  // Two batches, of which the second has a few rows.
  await fill(store, 150);
  await reading({ warmUp: true, maxEntries: 100, shards: 1 }, async (cache) => {
    expect(await warmed(cache)).toMatchObject({ state: 'full' });
    expect(cache.size).toBeLessThanOrEqual(100);
  });
});

test('nothing is evicted for it: it ends when memory is full', async () => {
  await fill(store, 6000, (i) => `${i}`.padEnd(2000));
  await reading({ warmUp: true, maxMemory: '4mb', shards: 2 }, async (cache) => {
    const { state, rows } = await warmed(cache);
    expect(state).toBe('full');
    expect(cache.stats().evictions).toBe(0);
    expect(rows).toBe(cache.size);
    expect(rows).toBeGreaterThan(1000);
    expect(await cache.promises.get('key:5999')).toBe('5999'.padEnd(2000));
  });
});

test('a walk gathers a bounded number of keys, and ends before they are loaded', async () => {
  await fill(store);
  const backend = await makeBackend(store);
  await backend.open();
  const scan = backend.scan.bind(backend);
  let [walks, open, loadsInWalks] = [0, 0, 0];
  backend.scan = async function* (signal) {
    walks++;
    open++;
    try {
      yield* scan(signal);
    } finally {
      open--;
    }
  };
  const load = backend.load.bind(backend);
  backend.load = (keys) => {
    loadsInWalks += open;
    return load(keys);
  };
  const cache = await Cache.open({ store: backend, mode: 'read-through' });
  const numbers = WarmUpNumbers.memory();
  const warmUp = new WarmUp({
    cacheId: handleOf(cache as Cache<never>).cacheId,
    use: (run) => run(backend),
    rules: undefined,
    options: { prefix: '', limit: 0, rowsPerSecond: 0 },
    ...{ numbers, clock: quietClock, random: Math.random, keysMax: 200 },
  });
  await warmUp.ended;
  expect(new WarmUpNumbers(numbers).stats).toMatchObject({ state: 'done', rows: ROWS, residentRows: 0 });
  expect([walks, loadsInWalks]).toEqual([Math.floor(ROWS / 200) + 1, 0]);
  warmUp.close();
  await cache.close();
  await backend.close();
});

test('of a database that is an object, of a cache that writes', async () => {
  const data = await fill(store);
  const backend = await makeBackend(store);
  const cache = await directories.open(data, { store: backend, recover: 'none', warmUp: true });
  expect(await warmed(cache)).toMatchObject({ state: 'done', rows: ROWS });
  await cache.close();
});

describe('meanwhile', () => {
  test('a newer write wins, and a delete, and loads are answered', async () => {
    await fill(store);
    const backend = await makeBackend(store);
    const load = backend.load.bind(backend);
    let cache: Cache | undefined;
    let changed: [string, string] | undefined;
    backend.load = async (keys) => {
      const loaded = await load(keys);
      if (cache !== undefined && changed === undefined && keys.length > 100) {
        // The rows are read, and not in memory yet.
        changed = [keys[3]!.toString(), keys[50]!.toString()];
        cache.set(changed[0], 'newer');
        cache.delete(changed[1]);
        const other = await cache.promises.get('key:699');
        expect(other).toBe(valueOf(699));
      }
      return loaded;
    };
    cache = await Cache.open({ store: backend, mode: 'read-through', warmUp: { rowsPerSecond: 2000 } });
    const { state, rows } = await warmed(cache);
    expect(state).toBe('done');
    const [set, deleted] = changed!;
    expect(cache.get(set)).toBe('newer');
    expect(cache.get(deleted)).toBeUndefined();
    // One of the others was loaded by the request.
    expect(rows).toBe(ROWS - 2);
    await cache.close();
    await backend.close();
  });

  test('a walk that breaks off begins again', async () => {
    await fill(store);
    const backend = await makeBackend(store);
    const scan = backend.scan.bind(backend);
    let walks = 0;
    backend.scan = async function* (signal) {
      const walk = ++walks;
      for await (const piece of scan(signal)) {
        yield piece;
        if (walk === 1 && piece.rows.length > 0) throw new Error('the connection is lost');
      }
    };
    const cache = await Cache.open({ store: backend, mode: 'read-through', warmUp: true });
    expect(await warmed(cache)).toMatchObject({ state: 'done', rows: ROWS });
    expect(walks).toBe(2);
    await cache.close();
    await backend.close();
  });

  test('close() ends it', async () => {
    await fill(store);
    for (const options of [{ mode: 'read-through' }, { data: directories.fresh(), recover: 'store' }] as const) {
      const cache = await Cache.open({ store, ...options, maxMemory: '4mb', warmUp: { rowsPerSecond: 1 } });
      if (options.mode !== undefined) expect(cache.stats().warmUp!.state).toBe('running');
      await cache.close();
      expect(() => cache.stats()).toThrow();
    }
  });
});
