// The promised verbs, held against the synchronous ones: the same calls on two caches, one through `promises`, must
// give the same answers, errors included, and leave the same entries. What only the promised form has follows.
import { isDeepStrictEqual } from 'node:util';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { Cache, CairnError, CairnRangeError, CairnTypeError, serve } from '../../src/index.ts';
import { withCode } from '../support/errors.ts';
import { membersOf } from '../support/members.ts';
import { MemcachedSocket } from '../support/memcached-socket.ts';
import { Random } from '../support/random.ts';

let cache: Cache;
let twin: Cache;
beforeEach(() => {
  const options = { maxMemory: '64mb', maxValueBytes: '1mb', shards: 1 };
  cache = new Cache(options);
  twin = new Cache(options);
});
afterEach(() => Promise.all([cache.close(), twin.close()]));

type Verb = keyof Cache & keyof Cache['promises'];

/** What a call came to: its value, or the class and code of its error. */
async function outcome(call: () => unknown): Promise<unknown> {
  try {
    return { value: await call() };
  } catch (error) {
    const known = [CairnTypeError, CairnRangeError, CairnError].find((type) => error instanceof type);
    return known === undefined ? { error } : { type: known.name, code: (error as CairnError).code };
  }
}

/** Makes a call on both, compares, and returns the answer. */
async function both(verb: Verb, ...args: unknown[]): Promise<unknown> {
  const call = (target: object) => () => (target as Record<string, (...args: unknown[]) => unknown>)[verb]!(...args);
  const expected = await outcome(call(twin));
  const found = await outcome(call(cache.promises));
  if (!isDeepStrictEqual(found, expected)) expect({ verb, found }).toEqual({ verb, found: expected });
  return (found as { value: unknown }).value;
}

const hostile = '\ud800';
const KEYS: unknown[] = [
  '',
  'k'.repeat(65_537),
  'é'.repeat(40_000),
  hostile,
  1,
  1n,
  null,
  undefined,
  Symbol('s'),
  {},
  [],
  Buffer.alloc(0),
  Buffer.alloc(65_537),
];

describe('the same as the synchronous verbs', () => {
  test('for values of every kind', async () => {
    const values = [
      '',
      'text',
      'ünïcode',
      hostile,
      0,
      -0,
      1.5,
      Number.NaN,
      -7,
      12345678901234567890n,
      true,
      null,
      { a: [1, { b: 2 }] },
      [undefined],
      new Map([[{}, 1]]),
      new Date(5),
      /x/g,
      Buffer.from('bytes'),
      new Uint8Array(0),
      new Float64Array([1.5]),
      'x'.repeat(50_000),
      'é'.repeat(20_000),
      Buffer.alloc(300_000, 1),
      Array.from({ length: 9000 }, (_, i) => i),
    ];
    for (const value of values) {
      expect(await both('set', 'k', value)).toBe('stored');
      await both('get', 'k');
      await both('peek', 'k');
      await both('info', 'k');
    }
    await both(
      'setMany',
      values.map((value, i) => [`k${i}`, value]),
    );
    await both(
      'getMany',
      values.map((_, i) => `k${i}`),
    );
  });

  test('for values that cannot be stored', async () => {
    for (const value of [
      undefined,
      () => {},
      Symbol('s'),
      Promise.resolve(),
      { deep: { fn() {} } },
      new WeakMap(),
      new URL('http://x'),
    ]) {
      await both('set', 'k', value);
      await both('setMany', [
        ['a', 1],
        ['b', value],
      ]);
    }
    await both('set', 'k', Buffer.alloc(2 ** 20 + 1));
    await both('add', 'k', 'x'.repeat(2 ** 20 + 1));
  });

  test('for keys of every kind', async () => {
    for (const key of [
      'a',
      'é',
      '\ufffd',
      'x'.repeat(250),
      'y'.repeat(65_536),
      Buffer.from('a'),
      new Uint8Array([0, 255]),
    ]) {
      await both('set', key, 'v');
      await both('get', key);
      await both('getMany', [key, 'missing', key]);
      expect(await both('delete', key)).toBe(true);
    }
  });

  test('for invalid keys', async () => {
    for (const key of KEYS) {
      for (const verb of [
        'get',
        'peek',
        'take',
        'has',
        'delete',
        'evict',
        'touch',
        'info',
        'getWithCas',
        'getRemainingTTL',
        'incr',
      ] as const) {
        await both(verb, key);
      }
      await both('set', key, 1);
      await both('getMany', ['a', key]);
      await both('deleteMany', ['a', key]);
      await both('setMany', [[key, 1]]);
    }
    await both('getMany', 'abc');
    await both('getMany', 5);
    await both('setMany', null);
    await both('setMany', [['a']]);
  });

  test('for invalid options', async () => {
    for (const options of [{ tl: 1 }, 5, { ttl: -1 }, { ttl: 'soon' }, { ttl: 1.5 }, null])
      await both('set', 'k', 'v', options);
    for (const ttl of [-1, 'soon', {}, 'keep']) await both('touch', 'k', ttl);
    for (const by of [-1, 1.5, 'x', 2 ** 53, -1n, 2n ** 64n, null]) await both('incr', 'n', by);
    for (const cas of [1, undefined, -1n, 2n ** 64n]) await both('cas', 'k', 'v', cas);
    for (const piece of [1, undefined, {}]) await both('append', 'k', piece);
  });

  test('for whole numbers', async () => {
    expect(await both('incr', 'n')).toBeUndefined();
    expect(await both('incr', 'n', 5, { initial: 10 })).toBe(10);
    expect(await both('incr', 'n', 5)).toBe(15);
    expect(await both('decr', 'n', 100n)).toBe(0n);
    await both('set', 'n', 2 ** 53 - 1);
    await both('incr', 'n', 2n ** 63n);
    await both('get', 'n');
    await both('set', 'text', 'abc');
    expect(await both('incr', 'text')).toBe('not-stored');
    await both('incr', 'short', 1, { initial: 1, ttl: '1h' });
  });

  test('for random calls', async () => {
    const random = new Random();
    const key = () => `k${random.below(8)}`;
    const value = () =>
      random.pick<unknown>([
        random.below(100),
        'text',
        'ü',
        { n: random.below(5) },
        Buffer.alloc(random.below(30_000)),
        null,
      ]);
    try {
      for (let i = 0; i < 600; i++) {
        await random.pick([
          () => both('get', key()),
          () => both('set', key(), value()),
          () => both('set', key(), value(), random.pick([{ ttl: 0 }, { ttl: 'keep' }, {}])),
          () => both('add', key(), value()),
          () => both('replace', key(), value()),
          () => both('append', key(), random.pick<string | Buffer>(['x', 'ö', Buffer.from([200])])),
          () => both('prepend', key(), 'p'),
          () => both('take', key()),
          () => both('peek', key()),
          () => both('has', key()),
          () => both('delete', key()),
          () => both('evict', key()),
          () => both('touch', key(), 0),
          () => both('incr', key(), random.below(10)),
          () => both('decr', key(), BigInt(random.below(10)), { initial: 7 }),
          () => both('getRemainingTTL', key()),
          () => both('getMany', [key(), key(), key()]),
          () => both('deleteMany', [key()]),
          () =>
            both('setMany', [
              [key(), value()],
              [key(), value()],
            ]),
          () => (random.below(10) === 0 ? both('clear') : undefined),
        ])();
      }
      expect([...cache.entries({ order: 'oldest' })]).toEqual([...twin.entries({ order: 'oldest' })]);
      const { gets, hits, sets, deletes, deleteHits, touches, incrHits } = twin.stats();
      expect(cache.stats()).toMatchObject({ gets, hits, sets, deletes, deleteHits, touches, incrHits });
    } catch (error) {
      throw new Error(`Failed with CAIRN_SEED=${random.seed}`, { cause: error });
    }
  });

  test('every verb that reads or changes entries has a promised form', () => {
    // What a promise has no use for: walks and whole-cache matters, and a buffer of the caller's that is filled
    // meanwhile.
    const others = [
      'getInto',
      'size',
      'keys',
      'values',
      'entries',
      'dump',
      'load',
      'resize',
      'stats',
      'resetStats',
      'fetch',
      'fetchWithInfo',
      'fetchMany',
      'fetchManySettled',
      'wrap',
      'writeBack',
      'promises',
      'close',
      'destroy',
      'closed',
      'name',
      'options',
      'sync',
      'snapshot',
      'recovery',
      'drain',
      'listen',
      'on',
      'once',
      'off',
      'addListener',
      'removeListener',
      'emit',
      'listenerCount',
    ];
    const verbs = membersOf(Cache.prototype).filter(({ name }) => !others.includes(name));
    expect(verbs.filter(({ name }) => !(name in cache.promises))).toEqual([]);
  });
});

describe('what was passed', () => {
  test('may be changed as soon as the call has returned', async () => {
    const small = Buffer.from('before');
    const large = Buffer.alloc(100_000, 1);
    const object = { n: 1 };
    const key = Buffer.from('key');
    const calls = [
      cache.promises.set('small', small),
      cache.promises.set('large', large),
      cache.promises.set('object', object),
      cache.promises.set(key, 1),
    ];
    small.fill(0);
    large.fill(0);
    object.n = 2;
    key.fill(0);
    await Promise.all(calls);
    expect(cache.get('small')).toEqual(Buffer.from('before'));
    expect((cache.get('large') as Buffer).equals(Buffer.alloc(100_000, 1))).toBe(true);
    expect(cache.get('object')).toEqual({ n: 1 });
    expect(cache.get('key')).toBe(1);
  });

  test('comes back as a copy, however large', async () => {
    for (const size of [10, 10_000, 300_000]) {
      await cache.promises.set('k', Buffer.alloc(size, 1));
      const first = (await cache.promises.get('k')) as Buffer;
      first.fill(2);
      const [second] = (await cache.promises.getMany(['k'])) as Buffer[];
      expect(second!.equals(Buffer.alloc(size, 1))).toBe(true);
      await cache.promises.get('k');
      expect(first.equals(Buffer.alloc(size, 2))).toBe(true);
    }
  });

  test('is encoded before anything else runs, even where that calls the cache again', async () => {
    let inner: Promise<unknown> | undefined;
    const value = {
      get sly() {
        inner ??= cache.promises.set('inner', 'inner value');
        return 1;
      },
    };
    expect(await cache.promises.set('outer', value)).toBe('stored');
    expect(await inner).toBe('stored');
    expect(cache.get('outer')).toEqual({ sly: 1 });
    expect(cache.get('inner')).toBe('inner value');
  });
});

describe('with many', () => {
  test('a wrong key of a read refuses the whole call, as does something that is no pair', async () => {
    const keys = Array.from({ length: 3000 }, (_, i) => `k${i}`);
    await expect(cache.promises.getMany([...keys, ''])).rejects.toThrow(withCode('ERR_INVALID_ARGUMENT', /key/));
    await expect(cache.promises.setMany([['a', 1], ['b'] as never])).rejects.toThrow(withCode('ERR_INVALID_ARGUMENT'));
    await cache.promises.get('a');
    expect(cache.size).toBe(0);
    expect(cache.promises.stats()).toMatchObject({ requests: 0, bytes: 0 });
  });

  test('a value that is too large rejects the call, and the others are stored', async () => {
    const call = cache.promises.setMany([
      ['a', 1],
      ['large', Buffer.alloc(2 ** 21)],
      ['b', 2],
    ]);
    await expect(call).rejects.toThrow(withCode('ERR_VALUE_TOO_LARGE', /"large"/));
    expect(cache.getMany(['a', 'b', 'large'])).toEqual([1, 2, undefined]);
  });

  test('no keys give no answers', async () => {
    expect(await cache.promises.getMany([])).toEqual([]);
    expect(await cache.promises.setMany(new Map())).toEqual([]);
    expect(await cache.promises.deleteMany(new Set<string>())).toEqual([]);
  });

  test('more keys than a batch holds keep their order', async () => {
    const entries = Array.from({ length: 20_000 }, (_, i): [string, number] => [`k${i}`, i]);
    await cache.promises.setMany(new Map(entries));
    const values = await cache.promises.getMany(entries.map(([key]) => key));
    expect(values.every((value, i) => value === i)).toBe(true);
  });
});

describe('options', () => {
  test('ttl counts from when the value is stored', async () => {
    await cache.promises.set('k', 'v', { ttl: '1h' });
    expect(await cache.promises.getRemainingTTL('k')).toBeGreaterThan(3_590_000);
    expect(await cache.promises.getRemainingTTL('k')).toBeLessThanOrEqual(3_600_000);
    await cache.promises.set('k', 'w', { ttl: 'keep' });
    expect(cache.getRemainingTTL('k')).toBeGreaterThan(3_590_000);
    expect(await cache.promises.touch('k', 0)).toBe(true);
    expect(await cache.promises.getRemainingTTL('k')).toBe(Number.POSITIVE_INFINITY);
    expect(await cache.promises.getRemainingTTL('none')).toBe(0);
  });

  test('without ttl an entry gets the ttl of the cache', async () => {
    const short = new Cache({ ttl: '1h' });
    await short.promises.set('k', 'v');
    expect(short.getRemainingTTL('k')).toBeGreaterThan(3_590_000);
    await short.promises.setMany([['l', 'v']], { ttl: 0 });
    expect(short.getRemainingTTL('l')).toBe(Number.POSITIVE_INFINITY);
    await short.close();
  });

  test('raw is that of the handle', async () => {
    const name = 'promises raw';
    const owner = new Cache({ name, raw: 'string' });
    const attached = Cache.attach(name, { raw: (bytes, flags) => [bytes.length, flags] });
    await owner.promises.set('k', Buffer.from('text'));
    await owner.promises.set('large', Buffer.alloc(100_000, 'x'));
    expect(await owner.promises.get('k')).toBe('text');
    expect(await owner.promises.get('large')).toBe('x'.repeat(100_000));
    expect(await attached.promises.getMany(['k', 'large'])).toEqual([
      [4, 0],
      [100_000, 0],
    ]);
    await attached.close();
    await owner.close();
  });

  test('what a raw function throws is what the call rejects with', async () => {
    const name = 'promises raw throws';
    const owner = new Cache({
      name,
      raw: () => {
        throw new Error('from raw');
      },
    });
    await owner.promises.set('k', Buffer.from('text'));
    await expect(owner.promises.get('k')).rejects.toThrow('from raw');
    await expect(owner.promises.getMany(['k', 'none'])).rejects.toThrow('from raw');
    await owner.close();
  });

  test('an ack level that needs a log is refused', async () => {
    expect(await cache.promises.set('k', 'v', { ack: 'memory' })).toBe('stored');
    for (const ack of ['logged', 'stored', 'replicated'] as 'logged'[]) {
      await expect(cache.promises.set('k', 'w', { ack })).rejects.toThrow(
        withCode('ERR_INVALID_ARGUMENT', /Expected ack to be 'memory', the only level of a cache without a log, got/),
      );
      await expect(cache.promises.delete('k', { ack })).rejects.toThrow(withCode('ERR_INVALID_ARGUMENT'));
      await expect(cache.promises.clear({ ack })).rejects.toThrow(withCode('ERR_INVALID_ARGUMENT'));
    }
    await expect(cache.promises.set('k', 'w', { ack: 'soon' as never })).rejects.toThrow(
      withCode('ERR_INVALID_ARGUMENT'),
    );
    expect(await cache.promises.get('k', { ack: 'memory' })).toBe('v');
    await expect(cache.promises.get('k', { ack: 'logged' })).rejects.toThrow(withCode('ERR_INVALID_ARGUMENT'));
    expect(cache.get('k')).toBe('v');
  });

  test('a signal that is aborted refuses the call with its reason', async () => {
    const reason = new Error('no');
    await expect(cache.promises.set('k', 'v', { signal: AbortSignal.abort(reason) })).rejects.toBe(reason);
    await expect(cache.promises.getMany(['k'], { signal: AbortSignal.abort() })).rejects.toMatchObject({
      name: 'AbortError',
    });
    await expect(cache.promises.get('k', { signal: {} as never })).rejects.toThrow(
      withCode('ERR_INVALID_ARGUMENT', /signal/),
    );
    await expect(cache.promises.get('k', { timeout: -1 })).rejects.toThrow(withCode('ERR_INVALID_ARGUMENT', /timeout/));
    expect(await cache.promises.get('k', { timeout: '10s', signal: new AbortController().signal })).toBeUndefined();
  });

  test('of the queue and the lanes are checked and shown', async () => {
    expect(() => new Cache({ promises: { lanes: 0 } })).toThrow(withCode('ERR_INVALID_ARGUMENT', /promises.lanes/));
    expect(() => new Cache({ promises: { lanes: 65 } })).toThrow(withCode('ERR_INVALID_ARGUMENT'));
    expect(() => new Cache({ promises: { maxRequests: 0 } })).toThrow(withCode('ERR_INVALID_ARGUMENT'));
    expect(() => new Cache({ promises: { maxBytes: 'much' } })).toThrow(withCode('ERR_INVALID_ARGUMENT'));
    expect(() => new Cache({ promises: { queue: 5 } as never })).toThrow(
      withCode('ERR_INVALID_ARGUMENT', /Unknown option "queue"/),
    );
    const wide = new Cache({ shards: 4, promises: { lanes: 64, maxRequests: 100, maxBytes: '1mb' } });
    await wide.promises.setMany(Array.from({ length: 100 }, (_, i): [string, number] => [`k${i}`, i]));
    expect(wide.promises.stats()).toMatchObject({
      lanes: 4,
      maxRequests: 100,
      maxBytes: 2 ** 20,
      requests: 0,
      bytes: 0,
      restarts: 0,
    });
    await wide.close();
  });
});

describe('update', () => {
  test('replaces the value by what a function makes or promises of it', async () => {
    expect(await cache.promises.update('n', (n) => ((n as number | undefined) ?? 0) + 1)).toBe(1);
    expect(await cache.promises.update('n', async (n) => (n as number) + 1, { ttl: '1h' })).toBe(2);
    expect(cache.getRemainingTTL('n')).toBeGreaterThan(3_590_000);
    expect(await cache.promises.update('n', (n) => (n as number) + 1)).toBe(3);
    expect(cache.getRemainingTTL('n')).toBeGreaterThan(3_590_000);
    expect(await cache.promises.update('n', () => undefined)).toBe(3);
    expect(await cache.promises.update('none', () => undefined)).toBeUndefined();
    expect(cache.has('none')).toBe(false);
  });

  test('loses none of many at once', async () => {
    await Promise.all(
      Array.from({ length: 50 }, () => cache.promises.update('n', (n) => ((n as number | undefined) ?? 0) + 1)),
    );
    expect(cache.get('n')).toBe(50);
  });

  test('rejects with what the function throws, and refuses what is none', async () => {
    await expect(
      cache.promises.update('n', () => {
        throw new Error('from change');
      }),
    ).rejects.toThrow('from change');
    await expect(cache.promises.update('n', 5 as never)).rejects.toThrow(withCode('ERR_INVALID_ARGUMENT', /change/));
    await expect(cache.promises.update('n', () => 1, { tl: 1 } as never)).rejects.toThrow(
      withCode('ERR_INVALID_ARGUMENT'),
    );
    expect(cache.size).toBe(0);
  });
});

test('the two surfaces see one cache', async () => {
  cache.set('a', 1);
  expect(await cache.promises.get('a')).toBe(1);
  await cache.promises.set('a', 2);
  expect(cache.get('a')).toBe(2);
  const found = await cache.promises.getWithCas('a');
  cache.set('a', 3);
  expect(await cache.promises.cas('a', 4, found!.cas)).toBe('exists');
  expect(cache.cas('a', 5, (await cache.promises.info('a'))!.cas)).toBe('stored');
  expect(await cache.promises.cas('none', 1, 1n)).toBe('not-found');
});

describe('take of a value that cannot be decoded', () => {
  const odd = (): never => {
    throw new Error('odd');
  };

  test('puts the entry back, with its time to live', async () => {
    using owner = new Cache({ name: 'taken' });
    using reader = Cache.attach('taken', { raw: odd });
    owner.set('k', Buffer.from('bytes'), { ttl: '1h' });
    const before = owner.getWithCas('k')!;
    await expect(reader.promises.take('k')).rejects.toThrow('odd');
    expect(owner.getWithCas('k')).toEqual({ value: Buffer.from('bytes'), cas: expect.any(BigInt) });
    expect(owner.getWithCas('k')!.cas).not.toBe(before.cas);
    expect(owner.getRemainingTTL('k')).toBeGreaterThan(3_500_000);
  });

  test('puts it back with the flags of its client', async () => {
    using owner = new Cache({ name: 'taken-flags' });
    using reader = Cache.attach('taken-flags', { raw: odd });
    const server = await serve(owner, { port: 0, host: '127.0.0.1' });
    const [address] = server.addresses as readonly { port: number }[];
    const client = await MemcachedSocket.open(address!.port);
    expect(await client.ask('set k 77 0 5\r\nbytes\r\n')).toBe('STORED\r\n');
    await expect(reader.promises.take('k')).rejects.toThrow('odd');
    expect(owner.info('k')!.flags).toBe(77);
    client.destroy();
    await server.close();
  });

  test('does not overwrite a value that the same thread stores under the key meanwhile', async () => {
    using owner = new Cache({ name: 'taken-set' });
    using reader = Cache.attach('taken-set', { raw: odd });
    owner.set('k', Buffer.from('bytes'));
    const taken = reader.promises.take('k');
    const stored = reader.promises.set('k', 'new');
    await expect(taken).rejects.toThrow('odd');
    expect(await stored).toBe('stored');
    expect(owner.get('k')).toBe('new');
  });

  test('says in its error that the entry could not be put back, if the cache has ended', async () => {
    const owner = new Cache({ name: 'taken-for-good' });
    using reader = Cache.attach('taken-for-good', {
      raw: () => {
        void owner.destroy();
        return odd();
      },
    });
    owner.set('k', Buffer.from('bytes'));
    await expect(reader.promises.take('k')).rejects.toThrow(
      withCode('ERR_VALUE_MALFORMED', /odd; and the entry of "k" could not be put back/),
    );
  });
});

test('the synchronous take removes the value that it returns, if another is stored while it decodes', () => {
  using owner = new Cache({ name: 'taken-late' });
  let stores = 1;
  const raw = (bytes: Uint8Array): string => {
    if (stores-- > 0) owner.set('k', 'newer');
    return String(bytes);
  };
  using reader = Cache.attach('taken-late', { raw });
  owner.set('k', Buffer.from('older'));
  expect(reader.take('k')).toBe('newer');
  expect(owner.has('k')).toBe(false);
});
