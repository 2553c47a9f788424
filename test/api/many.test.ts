// getMany, setMany, deleteMany: the same as one at a time, in one call; with a model that makes sure of it.
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { Cache, type CairnError, type Key, PackedKeys } from '../../src/index.ts';
import { withCode } from '../support/errors.ts';
import { withRandom } from '../support/random.ts';
import { expectSame } from '../support/same.ts';

let cache: Cache;
beforeEach(() => {
  cache = new Cache({ maxMemory: '32mb' });
});
afterEach(() => cache.close());

const VALUES: unknown[] = [
  'text',
  '',
  'ü€\u{1f511}',
  'lone \ud800',
  'replacement \ufffd',
  0,
  -1.5,
  12345,
  7n,
  true,
  null,
  { a: [1] },
  new Date(5),
  Buffer.from([0, 255]),
  Buffer.alloc(0),
  'x'.repeat(5000),
  'ü'.repeat(40_000),
  Buffer.alloc(5000, 1),
  Buffer.alloc(100_000, 2),
  { long: 'y'.repeat(70_000) },
  'z'.repeat(70_000),
];

describe('getMany', () => {
  test('gives the values in the order of the keys, undefined for each miss', () => {
    cache.set('a', 1);
    cache.set('b', 'two');
    expect(cache.getMany(['b', 'x', 'a', 'b'])).toEqual(['two', undefined, 1, 'two']);
    expect(cache.getMany([])).toEqual([]);
    expect(cache.getMany(new Set(['a']))).toEqual([1]);
    expect(cache.getMany([Buffer.from('a'), new Uint8Array([0x62])])).toEqual([1, 'two']);
  });

  test('counts and moves as get does', () => {
    using one = new Cache({ shards: 1 });
    for (const key of ['a', 'b', 'c']) one.set(key, key);
    one.getMany(['a', 'x', 'b']);
    expect(one.stats()).toMatchObject({ gets: 3, hits: 2, misses: 1 });
    expect([...one.keys({ order: 'oldest' })]).toEqual(['c', 'a', 'b']);
  });

  test.each([1, 127, 128, 129, 1000])('takes %i keys', (count) => {
    const keys = Array.from({ length: count }, (_, i) => `key ${i}`);
    for (const [i, key] of keys.entries()) if (i % 3 !== 0) cache.set(key, i);
    expect(cache.getMany(keys)).toEqual(keys.map((_, i) => (i % 3 === 0 ? undefined : i)));
  });

  test('gives values of every kind and size', () => {
    for (const [i, value] of VALUES.entries()) cache.set(`k${i}`, value);
    expectSame(cache.getMany(VALUES.map((_, i) => `k${i}`)), VALUES);
  });

  test('gives more values than its scratch holds', () => {
    const keys = Array.from({ length: 128 }, (_, i) => `k${i}`);
    for (const kind of [
      (i: number) => String(i).repeat(2000),
      (i: number) => ({ i, s: 's'.repeat(3000) }),
      (i: number) => Buffer.alloc(3000, i),
    ]) {
      for (const [i, key] of keys.entries()) cache.set(key, kind(i));
      expectSame(
        cache.getMany(keys),
        keys.map((_, i) => kind(i)),
      );
    }
  });

  test('takes keys that are together longer than its key buffer', () => {
    const keys = Array.from({ length: 20 }, (_, i) => `${i}`.padEnd(60_000, 'k'));
    for (const [i, key] of keys.entries()) cache.set(key, i);
    expect(cache.getMany(keys)).toEqual(keys.map((_, i) => i));
    expect(cache.deleteMany(keys)).toEqual(keys.map(() => true));
  });

  test('takes keys that hold U+FFFD, and refuses lone surrogates', () => {
    cache.set('\ufffd', 1);
    cache.set('a\ufffd', 2);
    expect(cache.getMany(['\ufffd', 'x', 'a\ufffd'])).toEqual([1, undefined, 2]);
    expect(() => cache.getMany(['a', '\ud800'])).toThrow(withCode('ERR_INVALID_ARGUMENT', /lone surrogates.*d800/));
  });

  test.each<[unknown, RegExp]>([
    [[''], /1 to 65536 bytes/],
    [['a', 5], /got 5: write String\(5\)/],
    [['x'.repeat(65_537)], /1 to 65536 bytes/],
    [[undefined], /key/],
    [new Array(2), /key/],
    ['abc', /keys to be an array/],
    [5, /keys/],
    [undefined, /keys/],
  ])('refuses %o', (keys, message) => {
    expect(() => cache.getMany(keys as Key[])).toThrow(withCode('ERR_INVALID_ARGUMENT', message));
    expect(() => cache.deleteMany(keys as Key[])).toThrow(withCode('ERR_INVALID_ARGUMENT', message));
  });
});

describe('setMany', () => {
  test('stores pairs, the entries of a Map, and what a generator gives', () => {
    expect(
      cache.setMany([
        ['a', 1],
        ['b', { x: 1 }],
      ]),
    ).toEqual(['stored', 'stored']);
    expect(cache.setMany(new Map([['c', 'x']]))).toEqual(['stored']);
    function* pairs(): Generator<[string, number]> {
      yield ['d', 4];
    }
    expect(cache.setMany(pairs())).toEqual(['stored']);
    expect(cache.getMany(['a', 'b', 'c', 'd'])).toEqual([1, { x: 1 }, 'x', 4]);
    expect(cache.setMany([])).toEqual([]);
  });

  test('stores values of every kind and size', () => {
    const pairs = VALUES.map((value, i): [string, unknown] => [`k${i}`, value]);
    expect(cache.setMany(pairs)).toEqual(VALUES.map(() => 'stored'));
    for (const [key, value] of pairs) expectSame(cache.get(key), value, key);
  });

  test('the last of several values of one key wins, whatever their sizes', () => {
    const large = 'L'.repeat(10_000);
    const huge = 'H'.repeat(100_000);
    for (const values of [
      ['a', large, 'b'],
      [large, 'a', large],
      ['a', huge],
      [huge, 'a', large, 'c'],
    ]) {
      cache.setMany(values.map((value): [string, string] => ['k', value]));
      expect(cache.get('k')).toBe(values.at(-1));
    }
  });

  test.each([127, 128, 129, 1000])('stores %i entries', (count) => {
    const pairs = Array.from({ length: count }, (_, i): [string, string] => [`k${i}`, `v${i}`.repeat(100)]);
    expect(cache.setMany(pairs)).toHaveLength(count);
    expect(cache.getMany(pairs.map(([key]) => key))).toEqual(pairs.map(([, value]) => value));
  });

  test('takes keys with U+FFFD and text in doubt', () => {
    expect(
      cache.setMany([
        ['\ufffd', '\ufffd'],
        ['a\ufffd', '\ud800'],
        ['b', 'ü'],
      ]),
    ).toEqual(['stored', 'stored', 'stored']);
    expect(cache.getMany(['\ufffd', 'a\ufffd', 'b'])).toEqual(['\ufffd', '\ud800', 'ü']);
  });

  test.each<[unknown, string, RegExp]>([
    [[['a', undefined]], 'ERR_INVALID_ARGUMENT', /undefined/],
    [[['', 1]], 'ERR_INVALID_ARGUMENT', /1 to 65536/],
    [[[5, 1]], 'ERR_INVALID_ARGUMENT', /String\(5\)/],
    [[['a', () => 1]], 'ERR_VALUE_NOT_STORABLE', /function/],
    [[['a']], 'ERR_INVALID_ARGUMENT', /\[key, value\]/],
    [['ab'], 'ERR_INVALID_ARGUMENT', /\[key, value\]/],
    [[['\ud800', 1]], 'ERR_INVALID_ARGUMENT', /surrogate/],
    [5, 'ERR_INVALID_ARGUMENT', /entries/],
    [undefined, 'ERR_INVALID_ARGUMENT', /entries/],
    [[['a', 'x'.repeat(1_100_000)]], 'ERR_VALUE_TOO_LARGE', /"a"/],
    [[['a', Buffer.alloc(1_100_000)]], 'ERR_VALUE_TOO_LARGE', /"a"/],
  ])('refuses %o', (entries, code, message) => {
    expect(() => cache.setMany(entries as [string, unknown][])).toThrow(withCode(code as never, message));
  });
});

describe('deleteMany', () => {
  test('says of each key whether there was an entry', () => {
    cache.setMany([
      ['a', 1],
      ['b', 2],
    ]);
    expect(cache.deleteMany(['a', 'x', 'b', 'a'])).toEqual([true, false, true, false]);
    expect(cache.size).toBe(0);
    expect(cache.deleteMany([])).toEqual([]);
  });
});

describe('packed keys', () => {
  test('give packed values', () => {
    for (const [i, value] of VALUES.entries()) cache.set(`k${i}`, value);
    const keys = PackedKeys.from(['nothing', ...VALUES.map((_, i) => `k${i}`), 'nothing either']);
    const values = cache.getMany(keys);
    expect(values.count).toBe(VALUES.length + 2);
    expect(values.has(0)).toBe(false);
    expect(values.value(0)).toBeUndefined();
    expect(values.slice(values.count - 1)).toBeUndefined();
    for (const [i, value] of VALUES.entries()) {
      expect(values.has(i + 1)).toBe(true);
      expectSame(values.value(i + 1), value);
      expect(values.isText(i + 1)).toBe(typeof value === 'string');
    }
    expect(values.slice(1)).toEqual(Buffer.from('text'));
    expect(values.slice(9)).toEqual(Buffer.from('7'));
  });

  test('may be used again, and may be empty', () => {
    const keys = PackedKeys.from(['a', Buffer.from('b')]);
    expect(keys.count).toBe(2);
    cache.setMany([
      ['a', 1],
      ['b', 2],
    ]);
    expect(cache.getMany(keys).value(1)).toBe(2);
    cache.set('b', 3);
    expect(cache.getMany(keys).value(1)).toBe(3);
    expect(cache.getMany(PackedKeys.from([])).count).toBe(0);
  });

  test('find values whose total exceeds the first buffer', () => {
    const keys = Array.from({ length: 700 }, (_, i) => `k${i}`);
    for (const [i, key] of keys.entries()) cache.set(key, Buffer.alloc(i * 20, i));
    const values = cache.getMany(PackedKeys.from(keys));
    for (const i of keys.keys()) expectSame(values.slice(i), Buffer.alloc(i * 20, i));
  });

  test('refuse invalid keys, and an index out of range', () => {
    const transferred = new Uint8Array(1);
    structuredClone(transferred, { transfer: [transferred.buffer] });
    for (const key of ['', 5, null, '\ud800', 'x'.repeat(65_537), Buffer.alloc(0), transferred]) {
      expect(() => PackedKeys.from([key as string])).toThrow(withCode('ERR_INVALID_ARGUMENT', /key/));
    }
    cache.set('a', 1);
    const values = cache.getMany(PackedKeys.from(['a']));
    for (const index of [-1, 1, 0.5, Number.NaN])
      expect(() => values.value(index)).toThrow(withCode('ERR_INVALID_ARGUMENT', /index/));
  });
});

test('verbs for many keys have the results of verbs for one key', () => {
  withRandom((random) => {
    using other = new Cache({ maxMemory: '32mb' });
    const keys = Array.from({ length: 300 }, (_, i) => `${i}`.repeat(1 + random.below(30)));
    for (let round = 0; round < 200; round++) {
      const some = Array.from({ length: random.below(200) }, () => random.pick(keys));
      switch (random.below(3)) {
        case 0:
          expectSame(
            cache.getMany(some),
            some.map((key) => other.get(key)),
          );
          break;
        case 1:
          expectSame(
            cache.deleteMany(some),
            some.map((key) => other.delete(key)),
          );
          break;
        default: {
          const pairs = some.map((key): [string, unknown] => [key, random.pick(VALUES)]);
          expectSame(
            cache.setMany(pairs),
            pairs.map(([key, value]) => other.set(key, value)),
          );
        }
      }
    }
    expectSame(new Map(cache.entries()), new Map(other.entries()));
  });
});

describe('an entry that is refused', () => {
  type Pairs = readonly (readonly [Key, unknown])[];
  const doors: Record<string, { set(pairs: Pairs): unknown; delete(keys: Key[]): unknown }> = {
    sync: { set: (pairs) => cache.setMany(pairs), delete: (keys) => cache.deleteMany(keys) },
    'sync, keeping the expiry': {
      set: (pairs) => cache.setMany(pairs, { ttl: 'keep' }),
      delete: (keys) => cache.deleteMany(keys),
    },
    'of a generator': {
      set: (pairs) =>
        cache.setMany(
          (function* () {
            yield* pairs;
          })(),
        ),
      delete: (keys) => cache.deleteMany(new Set(keys)),
    },
    promised: { set: (pairs) => cache.promises.setMany(pairs), delete: (keys) => cache.promises.deleteMany(keys) },
  };
  const bad: Record<string, readonly [Key, unknown]> = {
    'is too large': ['bad', 'x'.repeat(2 << 20)],
    'cannot be stored': ['bad', () => 1],
    'is undefined': ['bad', undefined],
    'has a wrong key': ['', 1],
    'has a key that is none': [5 as never, 1],
    'has a key with lone surrogates': ['\ud800', 1],
  };
  const caught = async (call: () => unknown): Promise<CairnError> => {
    try {
      await call();
    } catch (error) {
      return error as CairnError;
    }
    throw new Error('Expected an error');
  };

  test.each(Object.keys(doors).flatMap((door) => Object.keys(bad).map((what) => [door, what] as const)))(
    'stops no other: %s, one that %s',
    async (door, what) => {
      for (const at of [0, 1, 130, 299]) {
        cache.clear();
        const pairs: [Key, unknown][] = Array.from({ length: 300 }, (_, i) => [`k${i}`, i]);
        pairs[at] = [...bad[what]!];
        const error = await caught(() => doors[door]!.set(pairs));
        expect(error.code).toMatch(/^ERR_(INVALID_ARGUMENT|VALUE_TOO_LARGE|VALUE_NOT_STORABLE)$/);
        expect(error.results).toEqual(pairs.map((_, i) => (i === at ? error : 'stored')));
        expect(cache.size).toBe(299);
        expect(cache.getMany(['k2', 'k298'])).toEqual([2, 298]);
      }
    },
  );

  test.each(Object.keys(doors))('is reported with all others that are refused: %s', async (door) => {
    const error = await caught(() =>
      doors[door]!.set([
        ['a', () => 1],
        ['b', 2],
        ['', 3],
      ]),
    );
    expect(error.code).toBe('ERR_VALUE_NOT_STORABLE');
    expect(error.results).toEqual([error, 'stored', withCode('ERR_INVALID_ARGUMENT')]);
  });

  test.each(Object.keys(doors))('by a deletion does not keep the other keys from being deleted: %s', async (door) => {
    const long = (i: number) => `k${i}`.padEnd(60_000, 'x');
    for (const key of [(i: number) => `k${i}`, long]) {
      const keys: Key[] = Array.from({ length: 40 }, (_, i) => key(i));
      for (const each of keys) cache.set(each, 1);
      cache.delete(keys[3]!);
      keys[20] = '';
      const error = await caught(() => doors[door]!.delete(keys));
      expect(error.code).toBe('ERR_INVALID_ARGUMENT');
      expect(error.results).toEqual(keys.map((_, i) => (i === 20 ? error : i !== 3)));
      expect(cache.size).toBe(1);
      cache.clear();
    }
  });

  test('because it is not a pair refuses the whole list: nothing is stored', async () => {
    const pairs = [...Array.from({ length: 300 }, (_, i) => [`k${i}`, i]), ['k']] as never;
    expect(() => cache.setMany(pairs)).toThrow(withCode('ERR_INVALID_ARGUMENT', /each entry/));
    await expect(cache.promises.setMany(pairs)).rejects.toThrow(withCode('ERR_INVALID_ARGUMENT', /each entry/));
    expect(cache.size).toBe(0);
  });
});
