// Atomic batches: cache.batch(), setMany with `atomic`, and their promised forms. All or nothing, whatever is wrong.

import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { Cache, type CacheOptions, errorKind, type Key } from '../../src/index.ts';
import { DataDirectories } from '../support/data-directories.ts';
import { withCode } from '../support/errors.ts';
import { startThread, type ThreadTools } from '../support/threads.ts';

/** The bounds that docs/api.md names. */
const ATOMIC_PARTS_MAX = 4096;
const ATOMIC_BYTES_MAX = 64 * 2 ** 20;

const data = new DataDirectories('atomic');
let cache: Cache;
beforeEach(() => {
  cache = new Cache({ maxMemory: '64mb' });
});
afterEach(() => cache.close());

/** The ways to set several keys as one. */
const SETS: Record<string, (cache: Cache, pairs: [Key, unknown][]) => Promise<unknown>> = {
  setMany: async (of, pairs) => of.setMany(pairs, { atomic: true }),
  'promised setMany': (of, pairs) => of.promises.setMany(pairs, { atomic: true }),
  batch: async (of, pairs) => {
    const batch = of.batch();
    for (const [key, value] of pairs) batch.set(key, value);
    batch.commit();
  },
  'promised batch': async (of, pairs) => {
    const batch = of.promises.batch();
    for (const [key, value] of pairs) batch.set(key, value);
    await batch.commit();
  },
};

const VALUES = [
  ...['', 'text', 'ünïcode', '\ud800 lone', '\ufffd', 'x'.repeat(50_000), 'é'.repeat(20_000)],
  ...[0, -0, 1.5, Number.NaN, 12345678901234567890n, true, null, { a: ['\ud800', { b: 2 }] }, [undefined]],
  ...[new Map([[{}, 1]]), new Date(5), Buffer.from('bytes'), new Uint8Array(0), Buffer.alloc(300_000, 1)],
];

describe.each(Object.entries(SETS))('%s', (name, set) => {
  test('stores every kind of value under every kind of key', async () => {
    const pairs = VALUES.map((value, i): [Key, unknown] => [i % 2 === 0 ? `k${i}` : Buffer.from(`k${i}`), value]);
    pairs.push(['é', 1], ['x'.repeat(65_536), 2], [new Uint8Array([0, 255]), 3]);
    const answer = await set(cache, pairs);
    if (name.endsWith('setMany')) expect(answer).toEqual(pairs.map(() => 'stored'));
    for (const [key, value] of pairs) {
      const got = cache.get(key);
      expect(got).toEqual(value instanceof Uint8Array ? Buffer.from(value) : value);
      expect(Object.is(got, -0)).toBe(Object.is(value, -0));
    }
  });

  test('the last value of a key that comes twice is the one that stays', async () => {
    await set(cache, [
      ['a', 1],
      ['b', 1],
      [Buffer.from('a'), 2],
    ]);
    expect([cache.get('a'), cache.get('b'), cache.size]).toEqual([2, 1, 2]);
  });

  test.each<[string, Key, unknown, Parameters<typeof withCode>]>([
    ['a value that cannot be stored', 'b', () => {}, ['ERR_VALUE_NOT_STORABLE']],
    ['no value', 'b', undefined, ['ERR_INVALID_ARGUMENT', /undefined/]],
    ['a value that is too large', 'b', Buffer.alloc(2 ** 20 + 1), ['ERR_VALUE_TOO_LARGE', /"b".*1048576.*1048577/]],
    ['an empty key', '', 1, ['ERR_INVALID_ARGUMENT', /key/]],
    ['a key that is too long', 'é'.repeat(32_769), 1, ['ERR_INVALID_ARGUMENT', /65536 bytes/]],
    ['a key with a lone surrogate', '\ud800', 1, ['ERR_INVALID_ARGUMENT', /surrogate/]],
    ['a key that is a number', 5 as never, 1, ['ERR_INVALID_ARGUMENT', /String\(5\)/]],
  ])('%s refuses all, and every entry stays', async (_, key, value, [code, message]) => {
    cache.set('a', 'old');
    cache.set('b', 'old');
    const pairs: [Key, unknown][] = [
      ['a', 'new'],
      [key, value],
      ['c', 'new'],
    ];
    await expect(set(cache, pairs)).rejects.toThrow(withCode(code, message));
    expect([cache.get('a'), cache.get('b'), cache.has('c')]).toEqual(['old', 'old', false]);
  });

  test('more sets than a batch may have are refused', async () => {
    const pairs = Array.from({ length: ATOMIC_PARTS_MAX + 1 }, (_, i): [Key, unknown] => [`k${i}`, i]);
    await expect(set(cache, pairs)).rejects.toThrow(withCode('ERR_BATCH_TOO_LARGE', /at most 4096 sets and deletes/));
    expect(cache.size).toBe(0);
    await set(cache, pairs.slice(1));
    expect(cache.size).toBe(ATOMIC_PARTS_MAX);
  });

  const bounds: [string, CacheOptions, [number, number], RegExp][] = [
    ['bytes', { maxMemory: '512mb' }, [70, 1_000_000], new RegExp(`at most ${ATOMIC_BYTES_MAX} bytes`)],
    ['maxMemory', { maxMemory: '4mb', shards: 1 }, [10, 900_000], /one shard.*bytes of memory \(maxMemory\), got \d+/],
    ['maxEntries', { maxEntries: 16, shards: 1 }, [17, 1], /one shard.*at most 16 entries \(maxEntries\), got 17/],
  ];
  test.each(bounds)('the bound %s is named, and nothing is done', async (_, options, [count, bytes], message) => {
    using small = new Cache({ maxValueBytes: '1mb', ...options });
    small.set('k0', 'old');
    const pairs = Array.from({ length: count }, (_, i): [Key, unknown] => [`k${i}`, Buffer.alloc(bytes)]);
    const error = await set(small, pairs).catch((reason: unknown) => reason);
    expect(error).toEqual(withCode('ERR_BATCH_TOO_LARGE', message));
    expect([errorKind(error), error instanceof RangeError]).toEqual(['misuse', true]);
    expect([small.get('k0'), small.size]).toEqual(['old', 1]);
  });

  test('the bound ringSize is named, and what fits is in the log as a whole', async () => {
    const directory = data.fresh();
    const logged = await data.open(directory, { shards: 1, ringSize: '256kb' });
    const value = 'x'.repeat(100_000);
    const pairs = Array.from({ length: 3 }, (_, i): [Key, unknown] => [`k${i}`, value]);
    await expect(set(logged, pairs)).rejects.toThrow(
      withCode('ERR_BATCH_TOO_LARGE', /one shard.*262144 bytes of records \(ringSize\), got \d+/),
    );
    expect(logged.size).toBe(0);
    await set(
      logged,
      pairs.slice(1).map(([key]) => [key, 'x'.repeat(50_000)]),
    );
    await logged.close();
    const again = await data.open(directory, { shards: 1 });
    expect([...again.keys()].sort()).toEqual(['k1', 'k2']);
  });

  test('entries expire with the time to live of the cache', async () => {
    using timed = new Cache({ ttl: 60_000 });
    await set(timed, [['a', 1]]);
    expect(timed.getRemainingTTL('a')).toBeGreaterThan(59_000);
    expect(timed.getRemainingTTL('a')).toBeLessThanOrEqual(60_000);
  });
});

describe.each([
  ['setMany', async (options: object) => cache.setMany([['a', 1]], options)],
  ['promised setMany', async (options: object) => cache.promises.setMany([['a', 1]], options)],
])('%s', (_, set) => {
  test('takes a time to live with `atomic`, except that of the entry before', async () => {
    await set({ atomic: true, ttl: '1h' });
    expect(cache.getRemainingTTL('a')).toBeGreaterThan(3_500_000);
    await set({ atomic: true, ttl: 0 });
    expect(cache.getRemainingTTL('a')).toBe(Number.POSITIVE_INFINITY);
    await expect(set({ atomic: true, ttl: 'keep' })).rejects.toThrow(
      withCode('ERR_INVALID_ARGUMENT', /'keep'.*atomic batch/),
    );
    await set({ atomic: false, ttl: 'keep' });
  });

  test('refuses what is no yes or no', async () => {
    await expect(set({ atomic: 'yes' })).rejects.toThrow(withCode('ERR_INVALID_ARGUMENT', /atomic.*true or false/));
    await expect(set({ atomc: true })).rejects.toThrow(withCode('ERR_INVALID_ARGUMENT', /did you mean atomic/));
    expect(cache.size).toBe(0);
  });

  test('reads its entries before anything is stored', async () => {
    function* failing(): Generator<[string, number]> {
      yield ['a', 1];
      throw new Error('mine');
    }
    expect(() => cache.setMany(failing(), { atomic: true })).toThrow('mine');
    await expect(cache.promises.setMany(failing(), { atomic: true })).rejects.toThrow('mine');
    expect(() => cache.setMany([['a', 1], ['b'] as never], { atomic: true })).toThrow(withCode('ERR_INVALID_ARGUMENT'));
    expect(cache.size).toBe(0);
    expect(cache.setMany([], { atomic: true })).toEqual([]);
  });
});

describe.each([
  ['batch', () => cache.batch(), async (batch: { commit(): unknown }) => batch.commit()],
  ['promised batch', () => cache.promises.batch(), async (batch: { commit(): unknown }) => batch.commit()],
])('a %s', (_, begin, commit) => {
  test('sets and deletes in order; nothing is seen before the commit', async () => {
    cache.set('gone', 1);
    cache.set('old', 1);
    const value = { text: 'as it was' };
    const batch = begin()
      .set('new', value)
      .delete('gone')
      .set('old', 2, { ttl: 60_000 })
      .delete('never was')
      .set('back', 1)
      .delete('back');
    value.text = 'changed since';
    expect(batch.size).toBe(6);
    expect([cache.has('new'), cache.has('gone')]).toEqual([false, true]);
    await commit(batch);
    expect([cache.get('new'), cache.get('old'), cache.size]).toEqual([{ text: 'as it was' }, 2, 2]);
    expect(cache.getRemainingTTL('old')).toBeGreaterThan(59_000);
  });

  test('keeps what it had when a part is refused', async () => {
    const batch = begin().set('a', 1);
    expect(() => batch.set('b', undefined)).toThrow(withCode('ERR_INVALID_ARGUMENT'));
    expect(() => batch.set('b', 1, { ttl: -1 })).toThrow(withCode('ERR_INVALID_ARGUMENT'));
    expect(() => batch.set('b', 1, { ttl: 'keep' as never })).toThrow(withCode('ERR_INVALID_ARGUMENT', /keep/));
    expect(() => batch.delete('')).toThrow(withCode('ERR_INVALID_ARGUMENT'));
    expect(batch.size).toBe(1);
    await commit(batch);
    expect([...cache.keys()]).toEqual(['a']);
  });

  test('can be committed again if it was refused, and not after it was done', async () => {
    const batch = begin()
      .set('a', 1)
      .set('large', Buffer.alloc(2 ** 20 + 1));
    for (let i = 0; i < 2; i++) await expect(commit(batch)).rejects.toThrow(withCode('ERR_VALUE_TOO_LARGE'));
    const done = begin().set('a', 1);
    await commit(done);
    const used = withCode('ERR_INVALID_ARGUMENT', /was committed: begin another one/);
    await expect(commit(done)).rejects.toThrow(used);
    expect(() => done.set('b', 1)).toThrow(used);
    expect(() => done.delete('b')).toThrow(used);
    expect(cache.size).toBe(1);
  });

  test('without parts does nothing', async () => {
    await commit(begin());
    expect(cache.size).toBe(0);
  });

  test('is refused by a cache that was closed meanwhile', async () => {
    const batch = begin().set('a', 1);
    await cache.close();
    await expect(commit(batch)).rejects.toThrow(withCode('ERR_CLOSED'));
  });
});

describe('a promised commit', () => {
  test('takes effect after the calls made before it, and before those made after', async () => {
    const before = Array.from({ length: 200 }, (_, i) => cache.promises.set(`k${i}`, 'before'));
    const batch = cache.promises.batch();
    for (let i = 0; i < 200; i++) batch.set(`k${i}`, 'batch');
    const committed = batch.commit();
    const after = Array.from({ length: 100 }, (_, i) => cache.promises.set(`k${i}`, 'after'));
    await Promise.all([...before, committed, ...after]);
    expect(cache.getMany(Array.from({ length: 200 }, (_, i) => `k${i}`))).toEqual(
      Array.from({ length: 200 }, (_, i) => (i < 100 ? 'after' : 'batch')),
    );
  });

  test('may not be used while it is under way', async () => {
    const batch = cache.promises.batch().set('a', 1);
    const committed = batch.commit();
    expect(() => batch.set('b', 1)).toThrow(withCode('ERR_INVALID_ARGUMENT'));
    await expect(batch.commit()).rejects.toThrow(withCode('ERR_INVALID_ARGUMENT'));
    await committed;
  });

  test('of which the signal was aborted is not done, and can be committed again', async () => {
    const batch = cache.promises.batch().set('a', 1);
    const controller = new AbortController();
    const committed = batch.commit({ signal: controller.signal });
    controller.abort(new Error('mine'));
    await expect(committed).rejects.toThrow('mine');
    await cache.promises.get('a');
    expect(cache.has('a')).toBe(false);
    await batch.commit();
    expect(cache.get('a')).toBe(1);
  });

  test('is refused by a full queue', async () => {
    using small = new Cache({ promises: { maxRequests: 2 } });
    const calls = [small.promises.get('x'), small.promises.get('x')];
    const batch = small.promises.batch().set('a', 1);
    await expect(batch.commit()).rejects.toThrow(withCode('ERR_QUEUE_FULL', /Cannot commit/));
    await Promise.all(calls);
    await batch.commit();
    expect(small.get('a')).toBe(1);
  });

  test('resolves when the log has it', async () => {
    const directory = data.fresh();
    const logged = await data.open(directory, { sync: 'always' });
    await logged.promises.batch().set('a', 1).delete('b').commit({ ack: 'logged' });
    await logged.promises.setMany([['c', 1]], { atomic: true, ack: 'logged' });
    await data.crash(logged);
    const again = await data.open(directory);
    expect([...again.keys()].sort()).toEqual(['a', 'c']);
  });
});

test('no thread sees a batch and then a state before it', async () => {
  using shared = new Cache({ name: 'atomic over threads', shards: 8 });
  const keys = Array.from({ length: 10 }, (_, i) => `k${i}`);
  const write = (number: number): void => {
    shared.setMany(
      keys.map((key): [Key, unknown] => [key, number]),
      { atomic: true },
    );
  };
  write(0);
  const thread = startThread(({ cairn, data: keysOf, say }: ThreadTools<string[]>) => {
    const attached = cairn.Cache.attach<number>('atomic over threads');
    let mistakes = 0;
    say('reading');
    for (let last = 0; last < 3000; ) {
      for (const key of keysOf) {
        const number = attached.get(key)!;
        if (number < last) mistakes++;
        last = number;
      }
    }
    say(mistakes);
  }, keys);
  expect(await thread.next()).toBe('reading');
  for (let number = 1; number <= 3000; number++) write(number);
  expect(await thread.next()).toBe(0);
  await thread.exit;
});
