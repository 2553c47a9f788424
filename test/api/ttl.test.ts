// Times to live. The store's own clock decides, so the tests that let something expire wait until it has; what exactly
// happens at which millisecond is tested with a clock moved by hand in test/native/store_expiry_test.cc.
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { Cache } from '../../src/index.ts';
import { withCode } from '../support/errors.ts';
import { until } from '../support/threads.ts';

let cache: Cache;
beforeEach(() => {
  cache = new Cache();
});
afterEach(() => cache.close());

const HOUR = 3_600_000;

describe('a time to live', () => {
  test('ends an entry', async () => {
    cache.set('a', 1, { ttl: 20 });
    cache.set('b', 1);
    await until(() => !cache.has('a'));
    expect(cache.get('a')).toBeUndefined();
    expect(cache.peek('a')).toBeUndefined();
    expect(cache.getRemainingTTL('a')).toBe(0);
    expect(cache.delete('a')).toBe(false);
    expect(cache.has('b')).toBe(true);
  });

  test('is reported as the time that is left of it', () => {
    cache.set('a', 1, { ttl: HOUR });
    const left = cache.getRemainingTTL('a');
    expect(left).toBeLessThanOrEqual(HOUR);
    expect(left).toBeGreaterThan(HOUR - 60_000);
    expect(cache.getRemainingTTL('b')).toBe(0);
    cache.set('c', 1);
    expect(cache.getRemainingTTL('c')).toBe(Number.POSITIVE_INFINITY);
  });

  test.each<[string, unknown, 'never' | 'hour']>([
    ['0: never', 0, 'never'],
    ['Infinity: never', Number.POSITIVE_INFINITY, 'never'],
    ['text', '1h', 'hour'],
    ['milliseconds', HOUR, 'hour'],
  ])('of %s', (_name, ttl, expected) => {
    cache.set('a', 1, { ttl: 50 });
    cache.set('a', 2, { ttl: ttl as number });
    const left = cache.getRemainingTTL('a');
    if (expected === 'never') expect(left).toBe(Number.POSITIVE_INFINITY);
    else expect(Math.abs(left - HOUR)).toBeLessThan(60_000);
  });

  test('of an entry is not that of the one that replaces it, unless asked for', () => {
    cache.set('a', 1, { ttl: HOUR });
    cache.set('a', 2);
    expect(cache.getRemainingTTL('a')).toBe(Number.POSITIVE_INFINITY);
    cache.set('b', 1, { ttl: HOUR });
    cache.set('b', 2, { ttl: 'keep' });
    expect(cache.getRemainingTTL('b')).toBeGreaterThan(HOUR - 60_000);
    cache.set('c', 1, { ttl: 'keep' });
    expect(cache.getRemainingTTL('c')).toBe(Number.POSITIVE_INFINITY);
    cache.setMany([['b', 3]], { ttl: 'keep' });
    expect(cache.get('b')).toBe(3);
    expect(cache.getRemainingTTL('b')).toBeGreaterThan(HOUR - 60_000);
  });

  test.each([0, 10, 4096, 4097, 100_000])('is kept on request by a new value of %i bytes', (bytes) => {
    cache.set('a', 'v', { ttl: HOUR });
    cache.set('a', Buffer.alloc(bytes, 'x'), { ttl: 'keep' });
    expect(cache.get('a')).toHaveLength(bytes);
    expect(cache.getRemainingTTL('a')).toBeLessThanOrEqual(HOUR);
    expect(cache.getRemainingTTL('a')).toBeGreaterThan(HOUR - 60_000);
  });

  test('is taken by every verb that stores', () => {
    cache.add('add', 1, { ttl: HOUR });
    cache.set('replace', 1);
    cache.replace('replace', 1, { ttl: HOUR });
    cache.setMany([['many', 1]], { ttl: HOUR });
    cache.incr('incr', 1, { initial: 1, ttl: HOUR });
    cache.update('update', () => 1, { ttl: HOUR });
    for (const key of ['add', 'replace', 'many', 'incr', 'update']) {
      expect(cache.getRemainingTTL(key), key).toBeGreaterThan(HOUR - 60_000);
      expect(cache.getRemainingTTL(key), key).toBeLessThanOrEqual(HOUR);
    }
  });

  test('as long as a number can say does not overflow', () => {
    cache.set('a', 1, { ttl: Number.MAX_SAFE_INTEGER });
    expect(cache.get('a')).toBe(1);
    expect(cache.getRemainingTTL('a')).toBeGreaterThan(9e15);
  });

  test.each([-1, 1.5, Number.NaN, 2 ** 53, '200000000d', '5', '', 'soon', {}, null, true])(
    'of %o is refused',
    (ttl) => {
      expect(() => cache.set('a', 1, { ttl: ttl as never })).toThrow(withCode('ERR_INVALID_ARGUMENT', /Expected ttl/));
      expect(() => cache.touch('a', ttl as never)).toThrow(withCode('ERR_INVALID_ARGUMENT', /Expected ttl/));
      expect(cache.has('a')).toBe(false);
    },
  );
});

describe('touch', () => {
  test('gives a new time to live and makes the entry the most recently used', () => {
    using one = new Cache({ shards: 1 });
    for (const key of ['a', 'b']) one.set(key, 1, { ttl: 50_000 });
    expect(one.touch('a', '1h')).toBe(true);
    expect(one.getRemainingTTL('a')).toBeGreaterThan(HOUR - 60_000);
    expect([...one.keys()]).toEqual(['a', 'b']);
    expect(one.touch('a', 0)).toBe(true);
    expect(one.getRemainingTTL('a')).toBe(Number.POSITIVE_INFINITY);
    expect(one.touch('nothing', 5)).toBe(false);
  });
});

describe('the time to live of the cache', () => {
  test('is that of entries that are stored without one', () => {
    using timed = new Cache({ ttl: '1h' });
    timed.set('text', 'x');
    timed.set('json', {});
    timed.add('add', 1);
    timed.setMany([['many', 'x']]);
    timed.incr('incr', 1, { initial: 1 });
    timed.set('touched', 1, { ttl: 0 });
    timed.touch('touched');
    for (const key of ['text', 'json', 'add', 'many', 'incr', 'touched']) {
      expect(timed.getRemainingTTL(key), key).toBeGreaterThan(HOUR - 60_000);
      expect(timed.getRemainingTTL(key), key).toBeLessThanOrEqual(HOUR);
    }
    timed.set('own', 1, { ttl: '9h' });
    expect(timed.getRemainingTTL('own')).toBeGreaterThan(8 * HOUR);
    timed.set('never', 1, { ttl: 0 });
    expect(timed.getRemainingTTL('never')).toBe(Number.POSITIVE_INFINITY);
  });

  test('holds for attached handles too', () => {
    using timed = new Cache({ name: 'timed', ttl: '1h' });
    using attached = Cache.attach('timed');
    attached.set('a', 'x');
    expect(timed.getRemainingTTL('a')).toBeGreaterThan(HOUR - 60_000);
  });
});

test('entries that expire leave by themselves', async () => {
  for (let i = 0; i < 1000; i++) cache.set(`k${i}`, 'x'.repeat(100), { ttl: 30 });
  await until(() => cache.size === 0);
  expect(cache.stats().expirations).toBe(1000);
});

describe("'keep' where there is no entry to keep it from", () => {
  const sets: Record<string, (cache: Cache, key: string, value: unknown) => unknown> = {
    set: (cache, key, value) => cache.set(key, value, { ttl: 'keep' }),
    add: (cache, key, value) => cache.add(key, value, { ttl: 'keep' }),
    setMany: (cache, key, value) => cache.setMany([[key, value]], { ttl: 'keep' }),
    update: (cache, key, value) => cache.update(key, () => value, { ttl: 'keep' }),
    'promises.set': (cache, key, value) => cache.promises.set(key, value, { ttl: 'keep' }),
    'promises.add': (cache, key, value) => cache.promises.add(key, value, { ttl: 'keep' }),
    'promises.setMany': (cache, key, value) => cache.promises.setMany([[key, value]], { ttl: 'keep' }),
  };
  const values = { text: 'v', object: { a: 1 }, large: 'x'.repeat(300_000), bytes: Buffer.alloc(200_000, 1) };

  test.each(Object.keys(sets))('%s gives that of the cache', async (door) => {
    let now = 0;
    const cache = new Cache({ ttl: '10m', maxMemory: '32mb', clock: () => now });
    const lasting = new Cache({ maxMemory: '32mb' });
    for (const [kind, value] of Object.entries(values)) {
      await sets[door]!(cache, kind, value);
      expect([kind, cache.getRemainingTTL(kind)]).toEqual([kind, 600_000]);
      cache.set('over', value, { ttl: 30 });
      now += 30; // a moment before it is written again
      await sets[door]!(cache, 'over', value);
      expect([kind, cache.getRemainingTTL('over')]).toEqual([kind, 600_000]);
      await sets[door]!(lasting, kind, value);
      expect(lasting.getRemainingTTL(kind)).toBe(Number.POSITIVE_INFINITY);
      if (door.includes('add')) continue;
      cache.set('there', value, { ttl: '1h' });
      await sets[door]!(cache, 'there', value);
      expect([kind, cache.getRemainingTTL('there')]).toEqual([kind, 3_600_000]);
      cache.delete('over');
    }
    await Promise.all([cache.close(), lasting.close()]);
  });
});

test('time that the clock moves between two pieces of a dump counts for the next piece', () => {
  let now = 0;
  using cache = new Cache({ clock: () => now });
  for (let i = 0; i < 100; i++) cache.set(`k${i}`, 'x'.repeat(10_000), { ttl: 1000 });
  const pieces = cache.dump();
  pieces.next();
  expect(pieces.next().value!.length).toBeGreaterThan(10_000);
  now = 1000;
  expect([...pieces]).toEqual([]);
});
