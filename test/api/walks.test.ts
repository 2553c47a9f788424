// keys, values, entries and the iterator: complete, in order, bounded, and no obstacle to reads and writes meanwhile.
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { Cache } from '../../src/index.ts';
import { withCode } from '../support/errors.ts';
import { expectSame } from '../support/same.ts';

let cache: Cache;
beforeEach(() => {
  cache = new Cache({ shards: 1 });
});
afterEach(() => cache.close());

const fill = (count: number) => {
  for (let i = 0; i < count; i++) cache.set(`k${i}`, i);
};
const names = (from: number, to: number) =>
  Array.from({ length: Math.abs(to - from) }, (_, i) => `k${from < to ? from + i : from - 1 - i}`);

describe('a walk', () => {
  test('goes from the most to the least recently used, or the other way', () => {
    fill(500);
    expect([...cache.keys()]).toEqual(names(500, 0));
    expect([...cache.keys({ order: 'newest' })]).toEqual(names(500, 0));
    expect([...cache.keys({ order: 'oldest' })]).toEqual(names(0, 500));
    cache.get('k0');
    expect([...cache.keys({ limit: 2 })]).toEqual(['k0', 'k499']);
  });

  test.each([0, 1, 63, 64, 65, 499, 500, 501, Number.POSITIVE_INFINITY])('ends after %i entries', (limit) => {
    fill(500);
    expect([...cache.keys({ limit, order: 'oldest' })]).toEqual(names(0, Math.min(limit, 500)));
    expect([...cache.values({ limit, order: 'oldest' })]).toHaveLength(Math.min(limit, 500));
  });

  test('gives keys, values, or both', () => {
    cache.set('a', 'x');
    cache.set('b', { y: 1 });
    expect([...cache.keys()]).toEqual(['b', 'a']);
    expect([...cache.values()]).toEqual([{ y: 1 }, 'x']);
    expect([...cache.entries()]).toEqual([
      ['b', { y: 1 }],
      ['a', 'x'],
    ]);
    expect([...cache]).toEqual([
      ['b', { y: 1 }],
      ['a', 'x'],
    ]);
    expect(Object.fromEntries(cache as Cache & Iterable<[string, unknown]>)).toEqual({ a: 'x', b: { y: 1 } });
  });

  test('gives everything of an empty cache: nothing', () => {
    expect([...cache]).toEqual([]);
  });

  test('gives keys that are text as text, others as Buffers', () => {
    cache.set('ascii', 1);
    cache.set('ü\u{1f511}\ufffd', 2);
    cache.set(Buffer.from([0xff, 0x00]), 3);
    cache.set(Buffer.from([0xed, 0xa0, 0x80]), 4); // what a lone surrogate would be
    cache.set('c\0\n ', 5);
    expect([...cache.keys({ order: 'oldest' })]).toEqual([
      'ascii',
      'ü\u{1f511}\ufffd',
      Buffer.from([0xff, 0x00]),
      Buffer.from([0xed, 0xa0, 0x80]),
      'c\0\n ',
    ]);
    for (const key of cache.keys()) expect(cache.has(key)).toBe(true);
  });

  test('gives values of every kind and size', () => {
    const values = [
      'x',
      5,
      5n,
      null,
      { a: 1 },
      new Date(1),
      Buffer.from('b'),
      '\ud800',
      'x'.repeat(70_000),
      Buffer.alloc(100_000, 1),
      { y: 'y'.repeat(90_000) },
    ];
    for (const [i, value] of values.entries()) cache.set(`k${i}`, value);
    expectSame([...cache.values({ order: 'oldest' })], values);
  });

  test('changes neither order nor counters', () => {
    fill(100);
    [...cache];
    expect([...cache.keys({ order: 'oldest', limit: 3 })]).toEqual(['k0', 'k1', 'k2']);
    expect(cache.stats()).toMatchObject({ gets: 0, hits: 0 });
  });

  test('gives every entry that is there throughout, whatever happens meanwhile', () => {
    using many = new Cache({ shards: 8, maxMemory: '32mb' });
    for (let i = 0; i < 3000; i++) many.set(`stays ${i}`, i);
    for (const order of ['newest', 'oldest'] as const) {
      const seen = new Set<unknown>();
      let step = 0;
      for (const key of many.keys({ order })) {
        seen.add(key);
        step++;
        many.get(`stays ${(step * 7) % 3000}`);
        many.set(`comes ${step}`, 1);
        if (step % 2 === 0) many.delete(`comes ${step - 1}`);
        if (step === 20_000) throw new Error('It does not end');
      }
      for (let i = 0; i < 3000; i++) expect(seen.has(`stays ${i}`), `${order} ${i}`).toBe(true);
    }
  });

  test('may be left in the middle, and others go on', () => {
    fill(1000);
    for (const _key of cache.keys()) break;
    const open = Array.from({ length: 4 }, () => cache.keys({ order: 'oldest' }));
    for (const walk of open) expect(walk.next().value).toBe('k0');
    for (const walk of open) walk.return(undefined);
    expect([...cache.keys()]).toHaveLength(1000);
  });

  test('ends when entries are cleared under it', () => {
    fill(1000);
    const walk = cache.keys();
    walk.next();
    cache.clear();
    let count = 0;
    for (const _key of walk) count++;
    expect(count).toBeLessThan(64);
  });

  test('throws once the cache is closed', () => {
    fill(1000);
    const walk = cache.entries();
    walk.next();
    cache.close();
    expect(() => [...walk]).toThrow(withCode('ERR_CLOSED'));
  });

  test('refuses options that are wrong', () => {
    for (const options of [{ order: 'random' }, { order: 5 }, { limit: -1 }, { limit: 1.5 }, { limit: '5' }]) {
      expect(() => [...cache.keys(options as never)]).toThrow(withCode('ERR_INVALID_ARGUMENT'));
    }
  });
});

describe('what changes between two steps of a walk', () => {
  const fill = (ttl = 0): Cache => {
    const walked = new Cache({ shards: 1 });
    for (let i = 0; i < 100; i++) walked.set(`k${i}`, `v${i}`, { ttl });
    return walked;
  };
  const walks: Record<string, (walked: Cache) => Iterable<unknown>> = {
    keys: (walked) => walked.keys(),
    values: (walked) => walked.values(),
    entries: (walked) => walked.entries({ order: 'oldest' }),
    iterator: (walked) => walked,
  };
  const changes: Record<string, (walked: Cache) => void> = {
    deleted: (walked) => walked.deleteMany(Array.from({ length: 100 }, (_, i) => `k${i}`)),
    cleared: (walked) => walked.clear(),
    evicted: (walked) => {
      for (let i = 0; i < 100; i++) walked.evict(`k${i}`);
    },
  };

  test.each(Object.keys(walks).flatMap((name) => Object.keys(changes).map((change) => [name, change] as const)))(
    '%s give nothing that was %s',
    (name, change) => {
      using walked = fill();
      let given = 0;
      for (const _ of walks[name]!(walked)) if (given++ === 0) changes[change]!(walked);
      expect(given).toBe(1);
    },
  );

  test.each(Object.keys(walks))('%s give nothing that has expired', (name) => {
    let now = 1000;
    using walked = new Cache({ shards: 1, clock: () => now });
    for (let i = 0; i < 100; i++) walked.set(`k${i}`, i, { ttl: 50 });
    let given = 0;
    for (const _ of walks[name]!(walked)) if (given++ === 0) now += 50;
    expect(given).toBe(1);
  });

  test('is given with its present value, and deleted entries do not count against the limit', () => {
    using walked = fill();
    const seen: unknown[] = [];
    for (const [key, value] of walked.entries({ order: 'oldest', limit: 50 })) {
      if (seen.push(value) === 1) for (let i = 1; i < 30; i++) walked.delete(`k${i}`);
      if (seen.length === 1) for (let i = 30; i < 100; i++) walked.set(`k${i}`, 'new');
      if (key !== 'k0') expect(value).toBe('new');
    }
    expect(seen).toHaveLength(50);
  });

  test('in a dump is as it was when its block was asked for', () => {
    using walked = new Cache({ shards: 1, maxMemory: '16mb' });
    for (let i = 0; i < 100; i++) walked.set(`k${i}`, 'v'.repeat(20_000));
    const pieces: Buffer[] = [];
    for (const piece of walked.dump()) if (pieces.push(piece) === 2) walked.clear();
    using loaded = new Cache({ maxMemory: '16mb' });
    loaded.load(pieces);
    expect(loaded.size).toBeLessThan(20);
  });
});
