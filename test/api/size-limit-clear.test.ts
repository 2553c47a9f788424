// size, stats, clear, resize: the cache as a whole.
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { Cache } from '../../src/index.ts';
import { withCode } from '../support/errors.ts';
import { until } from '../support/threads.ts';

let cache: Cache;
beforeEach(() => {
  cache = new Cache({ maxMemory: '16mb' });
});
afterEach(() => cache.close());

const fill = (count: number, bytes = 100) => {
  const value = 'x'.repeat(bytes);
  for (let i = 0; i < count; i++) cache.set(`key ${i}`, value);
};

describe('size', () => {
  test('counts entries', () => {
    expect(cache.size).toBe(0);
    fill(10);
    cache.set('key 1', 'again');
    expect(cache.size).toBe(10);
    cache.delete('key 1');
    expect(cache.size).toBe(9);
  });
});

describe('the limit', () => {
  test('in bytes is kept by evicting what was not used for longest', () => {
    for (let i = 0; i < 200_000; i++) {
      cache.set(`key ${i}`, 'x'.repeat(100));
      if (i % 1000 === 0) cache.get('key 0');
    }
    const stats = cache.stats();
    expect(stats.evictions).toBeGreaterThan(50_000);
    expect(stats.chargedBytes).toBeLessThanOrEqual(stats.limitBytes);
    expect(stats.limitBytes).toBeLessThan(16 * 2 ** 20);
    expect(stats.committedBytes).toBeLessThanOrEqual(16 * 2 ** 20);
    expect(cache.get('key 0')).toBe('x'.repeat(100));
    expect(cache.get('key 1')).toBeUndefined();
    expect(cache.has('key 199999')).toBe(true);
  });

  test('in entries is exact with one shard', () => {
    using few = new Cache({ maxEntries: 3, shards: 1 });
    for (const key of ['a', 'b', 'c']) few.set(key, 1);
    few.get('a');
    few.set('d', 1);
    expect([...few.keys()].sort()).toEqual(['a', 'c', 'd']);
  });
});

describe('stats', () => {
  test('have a number for each name', () => {
    expect(Object.keys(cache.stats()).length).toBeGreaterThan(40);
    for (const [name, value] of Object.entries(cache.stats())) expect(value, name).toBeTypeOf('number');
  });

  test('count, and can be set back', () => {
    cache.set('a', 1);
    cache.get('a');
    cache.get('b');
    cache.touch('a', 0);
    cache.incr('a');
    cache.delete('b');
    const expected = {
      gets: 2,
      hits: 1,
      misses: 1,
      touches: 1,
      touchHits: 1,
      incrHits: 1,
      deletes: 1,
      deleteHits: 0,
      entries: 1,
    };
    expect(cache.stats()).toMatchObject(expected);
    cache.resetStats();
    expect(cache.stats()).toMatchObject({
      gets: 0,
      hits: 0,
      misses: 0,
      touches: 0,
      incrHits: 0,
      deletes: 0,
      entries: 1,
    });
  });
});

describe('clear', () => {
  test('removes everything at once and gives the memory back in steps', async () => {
    fill(50_000);
    const full = cache.stats().committedBytes;
    cache.clear();
    expect(cache.size).toBe(0);
    expect(cache.get('key 1')).toBeUndefined();
    expect([...cache]).toEqual([]);
    expect(cache.stats().clears).toBe(1);
    await until(() => cache.stats().clearedEntries === 0);
    expect(cache.stats().committedBytes).toBeLessThanOrEqual(full);
    cache.set('key 1', 'new');
    expect(cache.get('key 1')).toBe('new');
  });

  test('of an empty cache does nothing', () => {
    cache.clear();
    cache.clear();
    expect(cache.size).toBe(0);
  });

  test('spares what is set after it', () => {
    fill(1000);
    cache.clear();
    cache.set('a', 1);
    fill(1000);
    expect(cache.size).toBe(1001);
    expect(cache.get('a')).toBe(1);
  });
});

describe('resize', () => {
  test('grows at once', async () => {
    fill(200_000);
    const before = cache.size;
    await cache.resize({ maxMemory: '32mb' });
    fill(200_000);
    expect(cache.size).toBeGreaterThan(before * 1.7);
    expect(cache.stats().memoryBytes).toBe(32 * 2 ** 20);
  });

  test('shrinks until it is within the limit, and keeps what was used last', async () => {
    fill(100_000);
    await cache.resize({ maxMemory: '8mb' });
    const stats = cache.stats();
    expect(stats.memoryBytes).toBe(8 * 2 ** 20);
    expect(stats.chargedBytes).toBeLessThanOrEqual(stats.limitBytes);
    expect(cache.has('key 99999')).toBe(true);
    expect(cache.has('key 0')).toBe(false);
    await cache.resize({ maxMemory: '16mb' });
    fill(1000);
    expect(cache.size).toBeGreaterThan(1000);
  });

  test('lowers the largest value where none was given, and raises it again', async () => {
    using large = new Cache({ maxMemory: '64mb', shards: 8 });
    const value = 'x'.repeat(2 ** 20);
    large.set('k', value);
    await large.resize({ maxMemory: '8mb' });
    const error = await large.promises.set('k', value).catch((reason: unknown) => reason);
    expect(error).toEqual(withCode('ERR_VALUE_TOO_LARGE', /at most (\d+) bytes/));
    const most = Number(/at most (\d+) bytes/.exec((error as Error).message)?.[1]);
    expect(most).toBeLessThan(2 ** 20);
    expect(() => large.set('k', 'x'.repeat(most + 1))).toThrow(withCode('ERR_VALUE_TOO_LARGE'));
    large.set('k', 'x'.repeat(most));
    await large.resize({ maxMemory: '64mb' });
    large.set('k', value);
    expect(large.get('k')).toBe(value);
    using given = new Cache({ maxMemory: '64mb', shards: 8, maxValueBytes: '1mb' });
    await expect(given.resize({ maxMemory: '8mb' })).rejects.toThrow(
      withCode('ERR_INVALID_ARGUMENT', /enough for values of 1048576 bytes in each of 8 shards/),
    );
  });

  test('changes the number of entries', async () => {
    using few = new Cache({ shards: 1, maxEntries: 1000 });
    for (let i = 0; i < 1000; i++) few.set(`${i}`, i);
    await few.resize({ maxEntries: 10 });
    expect([...few.keys({ order: 'oldest' })]).toEqual(Array.from({ length: 10 }, (_, i) => `${990 + i}`));
    await few.resize({ maxEntries: 20 });
    for (let i = 0; i < 100; i++) few.set(`${i}`, i);
    expect(few.size).toBe(20);
  });

  test('up to the ceiling, and no further', async () => {
    using capped = new Cache({ maxMemory: '8mb', maxMemoryCeiling: '16mb' });
    await capped.resize({ maxMemory: '16mb' });
    await expect(capped.resize({ maxMemory: '17mb' })).rejects.toThrow(
      withCode(
        'ERR_INVALID_ARGUMENT',
        /maxMemory to be between 4194304 and maxMemoryCeiling \(16777216\), got 17825792$/,
      ),
    );
    expect(capped.stats().memoryBytes).toBe(16 * 2 ** 20);
  });

  test.each<[unknown]>([
    [{}],
    [undefined],
    [{ maxMemory: 0 }],
    [{ maxMemory: 'x' }],
    [{ maxEntries: 0 }],
    [{ max: 5 }],
    [5],
    [{ maxMemory: '1kb' }],
  ])('refuses %o', async (limits) => {
    await expect(cache.resize(limits as never)).rejects.toThrow(withCode('ERR_INVALID_ARGUMENT'));
    expect(cache.stats().memoryBytes).toBe(16 * 2 ** 20);
  });
});

test('the time of the last access is kept if asked for', () => {
  using tracked = new Cache({ trackAccess: true });
  tracked.set('a', 1);
  tracked.get('a');
  expect(tracked.info('a')?.idleSeconds).toBeLessThan(30);
});
