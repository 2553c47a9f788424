// fetch() in one thread: what is loaded, what is stored, which caller gets which value, and how a caller stops waiting.

import vm from 'node:vm';
import { afterEach, beforeEach, describe, expect, expectTypeOf, test } from 'vitest';
import { Cache, CairnError, PackedKeys, serve } from '../../src/index.ts';
import { DataDirectories } from '../support/data-directories.ts';
import { withCode } from '../support/errors.ts';
import { MemcachedSocket } from '../support/memcached-socket.ts';
import { type Deferred, deferred, until } from '../support/threads.ts';

const data = new DataDirectories('fetch');
let cache: Cache;

beforeEach(() => {
  cache = new Cache({ maxMemory: '16mb' });
});
afterEach(() => cache.close());

/** A loader that is settled by hand and counts its calls. */
function handLoader<T>() {
  const loads: (Deferred<T> & { key: unknown; stale: unknown; signal: AbortSignal })[] = [];
  const load = (context: { key: unknown; stale: unknown; signal: AbortSignal }): Promise<T> => {
    const load = { ...deferred<T>(), key: context.key, stale: context.stale, signal: context.signal };
    loads.push(load);
    return load.promise;
  };
  return { load, loads };
}

describe('a value', () => {
  test('that is absent is loaded and stored', async () => {
    expect(await cache.fetch('k', () => 'loaded')).toBe('loaded');
    expect(cache.get('k')).toBe('loaded');
  });

  test('that is there is given without a load', async () => {
    cache.set('k', 'there');
    expect(await cache.fetch('k', () => expect.fail('loaded'))).toBe('there');
    expect(await cache.fetch(Buffer.from('k'), () => expect.fail('loaded'), { ttl: '1h' })).toBe('there');
  });

  test('is loaded once for all who ask meanwhile', async () => {
    const { load, loads } = handLoader<string>();
    const calls = [cache.fetch('k', load), cache.fetch(Buffer.from('k'), load), cache.fetch('k', load)];
    expect(loads.length).toBe(1);
    loads[0]!.resolve('v');
    expect(await Promise.all(calls)).toEqual(['v', 'v', 'v']);
    expect(cache.stats()).toMatchObject({ fetchLoads: 1, fetchJoins: 2, fetchFlights: 0 });
  });

  test.for([
    ['text', 'grüße'],
    ['text with U+FFFD', 'a\ufffdb'],
    ['text with a lone surrogate', 'a\ud800b'],
    ['empty text', ''],
    ['a number', -0.5],
    ['not a number', Number.NaN],
    ['a bigint', 2n ** 70n],
    ['a boolean', false],
    ['null', null],
    ['plain data', { a: [1, 'ü', null, { b: true }] }],
    ['bytes', Buffer.from([0, 255, 1])],
    ['what only structured clone takes', new Map([[{ a: 1 }, new Date(5)]])],
    ['a typed array', new Float64Array([1.5, 2.5])],
    ['long text', 'ü'.repeat(200_000)],
    ['a large object', { text: 'x'.repeat(200_000) }],
  ] as [string, unknown][])('is the same for the first caller, the others, and later ones: %s', async ([, value]) => {
    const [first, second] = await Promise.all([cache.fetch('k', async () => value), cache.fetch('k', () => value)]);
    const later = await cache.fetch('k', () => expect.fail('loaded'));
    expect(first).toEqual(value);
    expect(second).toEqual(value);
    expect(later).toEqual(value);
    expect(cache.get('k')).toEqual(value);
  });

  test('is a copy for each caller', async () => {
    const value = { list: [1] };
    const [first, second] = await Promise.all([cache.fetch('k', () => value), cache.fetch('k', () => value)]);
    (first as typeof value).list.push(2);
    expect(value).toEqual({ list: [1] });
    expect(second).toEqual({ list: [1] });
    expect(cache.get('k')).toEqual({ list: [1] });
    const bytes = Buffer.from('abc');
    const copies = (await Promise.all([cache.fetch('b', () => bytes), cache.fetch('b', () => bytes)])) as Buffer[];
    copies[0]![0] = 0;
    expect(copies[1]).toEqual(Buffer.from('abc'));
    expect(bytes).toEqual(Buffer.from('abc'));
  });

  test('looks the same to the caller that loaded it as to a later one', async () => {
    class Point {
      x = 1;
    }
    const first = await cache.fetch('k', () => new Point());
    expect(first).not.toBeInstanceOf(Point);
    expect(first).toEqual(cache.get('k'));
  });

  test('that is bytes is read as the handle reads bytes', async () => {
    using texts = new Cache({ raw: 'string' });
    expect(await texts.fetch('k', () => Buffer.from('grüße'))).toBe('grüße');
    expect(texts.get('k')).toBe('grüße');
  });

  test('that is promised by a promise is awaited', async () => {
    expect(await cache.fetch('k', async () => Promise.resolve('v'))).toBe('v');
  });

  test('of ten thousand keys is loaded once for each', async () => {
    const loads = new Map<string, number>();
    const load = async ({ key }: { key: string | Uint8Array }) => {
      loads.set(String(key), (loads.get(String(key)) ?? 0) + 1);
      await null;
      return `value of ${key}`;
    };
    const keys = Array.from({ length: 10_000 }, (_, i) => `key${i}`);
    const values = await Promise.all([...keys, ...keys].map((key) => cache.fetch(key, load)));
    expect(values).toEqual([...keys, ...keys].map((key) => `value of ${key}`));
    expect(loads.size).toBe(10_000);
    expect([...loads.values()].every((count) => count === 1)).toBe(true);
    expect(cache.stats().fetchFlights).toBe(0);
  });

  test('can be loaded by a loader that fetches another key', async () => {
    const value = await cache.fetch('outer', async () => `<${await cache.fetch('inner', () => 'x')}>`);
    expect(value).toBe('<x>');
    expect(cache.get('inner')).toBe('x');
  });
});

test('the type of the answer is that of the values, and undefined if the loader may find that', async () => {
  interface User {
    name: string;
  }
  using users = new Cache<User>();
  const ada = { name: 'Ada' };
  const user = await users.fetch('ada', () => ada);
  expectTypeOf(user).toEqualTypeOf<User>();
  expectTypeOf(await users.fetch('ada', async () => ada)).toEqualTypeOf<User>();
  const maybe = async (): Promise<User | undefined> => undefined;
  const absent = await users.fetch('absent', maybe);
  expectTypeOf(absent).toEqualTypeOf<User | undefined>();
  await users.fetch('eve', ({ stale, signal }) => {
    expectTypeOf(stale).toEqualTypeOf<User | undefined>();
    expectTypeOf(signal).toEqualTypeOf<AbortSignal>();
    return ada;
  });
  // @ts-expect-error: this is no user.
  await users.fetch('bob', () => 'Bob');
  // A cache of something can be passed where a cache of anything is wanted.
  const any: Cache = users;
  expect([user, absent, any.get('bob')]).toEqual([ada, undefined, 'Bob']);
});

describe('a loader', () => {
  test('is given the key as the call had it, and no stale value', async () => {
    const { load, loads } = handLoader<string>();
    const key = Buffer.from('k');
    const call = cache.fetch(key, load);
    expect(loads[0]).toMatchObject({ key, stale: undefined });
    expect(loads[0]!.key).toBe(key);
    expect(loads[0]!.signal.aborted).toBe(false);
    loads[0]!.resolve('v');
    await call;
    expect(loads[0]!.signal.aborted).toBe(false);
  });

  test('that finds undefined gives undefined and stores nothing', async () => {
    let loads = 0;
    const load = async () => {
      loads++;
      return undefined;
    };
    expect(await Promise.all([cache.fetch('k', load), cache.fetch('k', load)])).toEqual([undefined, undefined]);
    expect(cache.has('k')).toBe(false);
    expect(await cache.fetch('k', load)).toBe(undefined);
    expect(loads).toBe(2);
  });

  test('that finds null stores null', async () => {
    expect(await cache.fetch('k', () => null)).toBe(null);
    expect(await cache.fetch('k', () => expect.fail('loaded'))).toBe(null);
  });

  test.for([
    ['rejects', () => Promise.reject(new RangeError('no luck'))],
    [
      'throws',
      () => {
        throw new RangeError('no luck');
      },
    ],
  ] as [string, () => Promise<string>][])(
    'that %s fails all callers with its error and is asked again next time',
    async ([, load]) => {
      const calls = await Promise.allSettled([cache.fetch('k', load), cache.fetch('k', load)]);
      expect(calls.map((call) => call.status)).toEqual(['rejected', 'rejected']);
      const [first, second] = calls as PromiseRejectedResult[];
      expect(first!.reason).toBeInstanceOf(RangeError);
      expect(first!.reason).toBe(second!.reason);
      expect(cache.has('k')).toBe(false);
      expect(await cache.fetch('k', () => 'better')).toBe('better');
    },
  );

  test('that finds what cannot be stored fails all callers', async () => {
    const calls = await Promise.allSettled([
      cache.fetch('k', () => ({ f: () => 1 })),
      cache.fetch('k', () => expect.fail('loaded')),
    ]);
    for (const call of calls) {
      expect(call).toMatchObject({ status: 'rejected', reason: { code: 'ERR_VALUE_NOT_STORABLE' } });
    }
    expect(cache.stats().fetchFlights).toBe(0);
  });

  test('that finds a value above maxValueBytes gives it to all callers and stores nothing', async () => {
    using small = new Cache({ maxValueBytes: '64kb' });
    const large = { text: 'x'.repeat(100_000) };
    expect(await Promise.all([small.fetch('k', () => large), small.fetch('k', () => large)])).toEqual([large, large]);
    expect(small.has('k')).toBe(false);
    expect(small.stats().tooLarge).toBeGreaterThan(0);
  });
});

describe('ttl', () => {
  const remaining = (key: string) => cache.getRemainingTTL(key);

  test('is that of the call that loads', async () => {
    await Promise.all([
      cache.fetch('k', async () => 'v', { ttl: '1h' }),
      cache.fetch('k', async () => 'v', { ttl: '2h' }),
    ]);
    expect(remaining('k')).toBeGreaterThan(3_000_000);
    expect(remaining('k')).toBeLessThanOrEqual(3_600_000);
  });

  test('is the cache’s where none is given', async () => {
    using hourly = new Cache({ ttl: '1h' });
    await hourly.fetch('k', () => 'v');
    await hourly.fetch('forever', () => 'v', { ttl: Number.POSITIVE_INFINITY });
    expect(hourly.getRemainingTTL('k')).toBeLessThanOrEqual(3_600_000);
    expect(hourly.getRemainingTTL('forever')).toBe(Number.POSITIVE_INFINITY);
  });

  test('can depend on the value', async () => {
    const asked: unknown[] = [];
    const ttl = (value: unknown, key: unknown) => {
      asked.push(value, key);
      return (value as { seconds: number }).seconds * 1000;
    };
    expect(await cache.fetch('k', () => ({ seconds: 100 }), { ttl })).toEqual({ seconds: 100 });
    expect(asked).toEqual([{ seconds: 100 }, 'k']);
    expect(remaining('k')).toBeLessThanOrEqual(100_000);
    expect(await cache.fetch('none', () => ({ seconds: 0 }), { ttl })).toEqual({ seconds: 0 });
    expect(cache.has('none')).toBe(false);
  });

  test('0 gives the value to all who wait and keeps nothing', async () => {
    const { load, loads } = handLoader<object>();
    const calls = [cache.fetch('k', load, { ttl: 0 }), cache.fetch('k', load, { ttl: 0 })];
    loads[0]!.resolve({ a: 1 });
    expect(await Promise.all(calls)).toEqual([{ a: 1 }, { a: 1 }]);
    expect(loads.length).toBe(1);
    expect(cache.has('k')).toBe(false);
  });

  test('that is invalid, returned by a function, fails the callers', async () => {
    await expect(cache.fetch('k', () => 'v', { ttl: () => -1 })).rejects.toMatchObject({
      code: 'ERR_INVALID_ARGUMENT',
      message: expect.stringMatching(/^Expected ttl to be a non-negative integer/),
    });
    expect(cache.has('k')).toBe(false);
  });
});

describe('a change of the key while it is loaded', () => {
  const changes: [string, () => unknown, unknown][] = [
    ['set', () => cache.set('k', 'set'), 'set'],
    [
      'set and delete',
      () => {
        cache.set('k', 'set');
        cache.delete('k');
      },
      undefined,
    ],
    ['delete of the absent key', () => cache.delete('k'), undefined],
    ['evict', () => cache.evict('k'), undefined],
    ['clear', () => cache.clear(), undefined],
    ['setMany', () => cache.setMany([['k', 'set']]), 'set'],
    ['deleteMany', () => cache.deleteMany(['k']), undefined],
  ];
  test.for(changes)('%s: the value goes to those who asked before and is not stored', async ([, change, after]) => {
    const { load, loads } = handLoader<string>();
    const before = cache.fetch('k', load);
    change();
    loads[0]!.resolve('old');
    expect(await before).toBe('old');
    expect(cache.get('k')).toBe(after);
  });

  test('lets later callers start a new load', async () => {
    const { load, loads } = handLoader<string>();
    const before = cache.fetch('k', load);
    cache.delete('k');
    const later = [cache.fetch('k', load), cache.fetch('k', load)];
    expect(loads.length).toBe(2);
    loads[1]!.resolve('new');
    expect(await Promise.all(later)).toEqual(['new', 'new']);
    loads[0]!.resolve('old');
    expect(await before).toBe('old');
    expect(cache.get('k')).toBe('new');
  });

  test('of another key does not matter', async () => {
    const { load, loads } = handLoader<string>();
    const call = cache.fetch('k', load);
    for (let i = 0; i < 1000; i++) cache.set(`other${i}`, i);
    cache.get('k');
    loads[0]!.resolve('v');
    await call;
    expect(cache.get('k')).toBe('v');
  });
});

describe('giving up', () => {
  test('of one caller leaves the load to the others', async () => {
    const { load, loads } = handLoader<string>();
    const controller = new AbortController();
    const first = cache.fetch('k', load, { signal: controller.signal });
    const second = cache.fetch('k', load);
    const reason = new Error('enough');
    controller.abort(reason);
    await expect(first).rejects.toBe(reason);
    expect(loads[0]!.signal.aborted).toBe(false);
    loads[0]!.resolve('v');
    expect(await second).toBe('v');
    expect(cache.get('k')).toBe('v');
  });

  test('of the last caller aborts the load, and the next one loads anew', async () => {
    const { load, loads } = handLoader<string>();
    const controllers = [new AbortController(), new AbortController()];
    const calls = controllers.map(({ signal }) => cache.fetch('k', load, { signal }));
    controllers[0]!.abort();
    await expect(calls[0]).rejects.toMatchObject({ name: 'AbortError' });
    expect(loads[0]!.signal.aborted).toBe(false);
    controllers[1]!.abort('why');
    await expect(calls[1]).rejects.toBe('why');
    expect(loads[0]!.signal.aborted).toBe(true);
    expect(loads[0]!.signal.reason).toBe('why');
    expect(cache.stats().fetchFlights).toBe(0);
    const next = cache.fetch('k', load);
    expect(loads.length).toBe(2);
    loads[0]!.resolve('late');
    loads[1]!.resolve('v');
    expect(await next).toBe('v');
  });

  test('before the start: nothing is loaded, nothing is looked up', async () => {
    cache.set('k', 'v');
    await expect(cache.fetch('k', () => 'w', { signal: AbortSignal.abort('no') })).rejects.toBe('no');
  });

  test('by the loader itself, at once', async () => {
    const controller = new AbortController();
    const load = () => {
      controller.abort('from within');
      return 'v';
    };
    await expect(cache.fetch('k', load, { signal: controller.signal })).rejects.toBe('from within');
    expect(cache.stats().fetchFlights).toBe(0);
  });

  test('leaves nothing on the signal once there is an answer', async () => {
    const { signal } = new AbortController();
    let added = 0;
    let removed = 0;
    const add = signal.addEventListener.bind(signal);
    const remove = signal.removeEventListener.bind(signal);
    signal.addEventListener = (...args: Parameters<typeof add>) => {
      added++;
      add(...args);
    };
    signal.removeEventListener = (...args: Parameters<typeof remove>) => {
      removed++;
      remove(...args);
    };
    await cache.fetch('k', async () => 'v', { signal });
    expect([added, removed]).toEqual([1, 1]);
  });

  test('after the timeout: ERR_TIMEOUT, and the load is aborted if no other caller waits', async () => {
    const { load, loads } = handLoader<string>();
    const patient = cache.fetch('k', load);
    const hasty = cache.fetch('k', load, { timeout: 1 });
    await expect(hasty).rejects.toMatchObject({
      code: 'ERR_TIMEOUT',
      message: 'No value for "k" within 1 ms',
    });
    expect(loads[0]!.signal.aborted).toBe(false);
    loads[0]!.resolve('v');
    expect(await patient).toBe('v');
    await expect(cache.fetch('k2', load, { timeout: '1ms' })).rejects.toBeInstanceOf(CairnError);
    expect(loads[1]!.signal.aborted).toBe(true);
  });
});

describe('forceRefresh', () => {
  test('loads though there is a value, which the loader sees', async () => {
    cache.set('k', { old: true });
    const { load, loads } = handLoader<string>();
    const call = cache.fetch('k', load, { forceRefresh: true });
    expect(loads[0]!.stale).toEqual({ old: true });
    expect(cache.get('k')).toEqual({ old: true });
    loads[0]!.resolve('new');
    expect(await call).toBe('new');
    expect(cache.get('k')).toBe('new');
  });

  test('shares a load that is under way', async () => {
    const { load, loads } = handLoader<string>();
    const calls = [cache.fetch('k', load), cache.fetch('k', load, { forceRefresh: true })];
    expect(loads.length).toBe(1);
    loads[0]!.resolve('v');
    expect(await Promise.all(calls)).toEqual(['v', 'v']);
  });

  test('leaves the value alone if the load fails', async () => {
    cache.set('k', 'old');
    await expect(cache.fetch('k', () => Promise.reject(new Error('no')), { forceRefresh: true })).rejects.toThrow('no');
    expect(cache.get('k')).toBe('old');
  });
});

describe('stale values', () => {
  const hour = 3_600_000;
  let now: number;
  let timed: Cache;
  beforeEach(() => {
    now = 0;
    timed = new Cache({ name: 'timed', maxMemory: '16mb', clock: () => now });
  });
  afterEach(() => timed.close());
  const fail = () => Promise.reject(new Error('down'));
  const notCalled = () => expect.fail('loaded');

  test('are those whose time to live is over, and are kept for the longer of both windows', async () => {
    const options = { ttl: '2h', staleWhileRevalidate: '1h', staleIfError: '3h' };
    await timed.fetch('k', () => 'v', options);
    expect(timed.getRemainingTTL('k')).toBe(2 * hour);
    expect(timed.info('k')!.ttl).toBe(2 * hour);
    now = 5 * hour - 1;
    expect(await timed.fetch('k', fail, options)).toBe('v');
    now = 5 * hour;
    await expect(timed.fetch('k', fail, options)).rejects.toThrow('down');
    await timed.fetch('none', () => 'v', { ...options, ttl: 0 });
    expect(timed.has('none')).toBe(false);
  });

  test('are absent for every reader that did not ask for them', async () => {
    const server = await serve(timed, { port: 0, host: '127.0.0.1' });
    const [address] = server.addresses as readonly { port: number }[];
    const client = await MemcachedSocket.open(address!.port);
    const attached = Cache.attach('timed');
    const options = { ttl: 100, staleIfError: Number.POSITIVE_INFINITY };
    const reads: Record<string, () => unknown> = {
      get: () => timed.get('k'),
      peek: () => timed.peek('k'),
      has: () => timed.has('k') || undefined,
      take: () => timed.take('k'),
      info: () => timed.info('k'),
      getWithCas: () => timed.getWithCas('k'),
      getInto: () => timed.getInto('k', Buffer.alloc(8)),
      getRemainingTTL: () => timed.getRemainingTTL('k') || undefined,
      getMany: () => timed.getMany(['k'])[0],
      packed: () => timed.getMany(PackedKeys.from(['k'])).value(0),
      touch: () => timed.touch('k', '1h') || undefined,
      attached: () => attached.get('k'),
      keys: () => [...timed.keys()][0],
      values: () => [...timed.values()][0],
      entries: () => [...timed][0],
      'promises.get': () => timed.promises.get('k'),
      'promises.peek': () => timed.promises.peek('k'),
      'promises.has': async () => (await timed.promises.has('k')) || undefined,
      'promises.take': () => timed.promises.take('k'),
      'promises.info': () => timed.promises.info('k'),
      'promises.getMany': async () => (await timed.promises.getMany(['k']))[0],
      'promises.touch': async () => (await timed.promises.touch('k', '1h')) || undefined,
      replace: () => (timed.replace('k', 'r') === 'stored' ? 'r' : undefined),
      append: () => (timed.append('k', 'r') === 'stored' ? 'r' : undefined),
      incr: () => timed.incr('k'),
      cas: () => (timed.cas('k', 'r', 1n) === 'not-found' ? undefined : 'r'),
      'the port': async () => ((await client.ask('get k\r\n', 'END\r\n')) === 'END\r\n' ? undefined : 'v'),
      'touch of the port': async () => ((await client.ask('touch k 0\r\n')) === 'NOT_FOUND\r\n' ? undefined : 'v'),
    };
    for (const [name, read] of Object.entries(reads)) {
      await timed.fetch('k', () => '1', { ...options, forceRefresh: true });
      now += 100;
      expect([name, await read()]).toEqual([name, undefined]);
      const kept = await timed.fetch('k', fail, options).catch((error: Error) => error);
      expect([name, kept]).toEqual([name, '1']);
    }
    // The one that asks for no window loads, and add finds no entry.
    expect(await timed.fetch('k', () => 'new', { ttl: 100 })).toBe('new');
    now += 100;
    await timed.fetch('k', () => 'old', options);
    now += 100;
    expect(timed.add('k', 'added')).toBe('stored');
    expect(timed.get('k')).toBe('added');
    client.destroy();
    await server.close();
  });

  test('are not what the program has just set, whatever the time to live of the cache', async () => {
    using lasting = new Cache({ ttl: '10m' });
    for (const options of [{ staleIfError: '1h' }, { staleWhileRevalidate: '1h' }]) {
      lasting.set('price', 'just written');
      expect(await lasting.fetch('price', notCalled, options)).toBe('just written');
    }
    timed.set('k', 'short', { ttl: 1000 });
    now = 999;
    expect(await timed.fetch('k', notCalled, { ttl: 1, staleIfError: '1h' })).toBe('short');
    now = 1000;
    expect(await timed.fetch('k', () => 'loaded', { ttl: 1, staleIfError: '1h' })).toBe('loaded');
  });

  test('are as stale as the entry is, and given by the window of the call', async () => {
    await timed.fetch('k', () => 'old', { ttl: 100, staleIfError: '1h' });
    now = 100 + 60_000;
    await expect(timed.fetch('k', fail, { staleIfError: '1m' })).rejects.toThrow('down');
    expect(await timed.fetch('k', fail, { staleIfError: 60_001 })).toBe('old');
    expect(await timed.fetch('k', ({ stale }) => `after ${stale}`, { staleWhileRevalidate: '1m' })).toBe('after old');
  });

  test('are kept without end by windows of Infinity', async () => {
    for (const options of [
      { ttl: 20, staleIfError: Number.POSITIVE_INFINITY },
      { ttl: 20, staleWhileRevalidate: Number.POSITIVE_INFINITY, staleIfError: '1s' },
    ]) {
      timed.clear();
      await timed.fetch('k', () => 'old', options);
      now += 1000 * 24 * hour;
      expect(timed.get('k')).toBeUndefined();
      expect(await timed.fetch('k', fail, options)).toBe('old');
      await until(() => timed.stats().fetchFlights === 0);
    }
  });

  test('begin at the same time after a verb that replaces the value and keeps the expiry', async () => {
    const options = { ttl: 100, staleIfError: '1h' };
    const large = 'x'.repeat(100_000);
    const keepers: Record<string, () => unknown> = {
      set: () => timed.set('k', 'new', { ttl: 'keep' }),
      'set of a large value': () => timed.set('k', large, { ttl: 'keep' }),
      setMany: () => timed.setMany([['k', 'new']], { ttl: 'keep' }),
      replace: () => timed.replace('k', 'new', { ttl: 'keep' }),
      cas: () => timed.cas('k', 'new', timed.getWithCas('k')!.cas, { ttl: 'keep' }),
      update: () => timed.update('k', () => 'new'),
      'promised set': () => timed.promises.set('k', 'new', { ttl: 'keep' }),
      'promised set of a large value': () => timed.promises.set('k', large, { ttl: 'keep' }),
      'promised setMany': () => timed.promises.setMany([['k', 'new']], { ttl: 'keep' }),
      'promised update': () => timed.promises.update('k', () => 'new'),
    };
    for (const [name, keep] of Object.entries(keepers)) {
      await timed.fetch('k', () => 'old', options);
      now += 50;
      await keep();
      expect(timed.getRemainingTTL('k'), name).toBe(50);
      const kept = timed.get('k');
      now += 50;
      expect(timed.get('k'), name).toBeUndefined();
      expect(await timed.fetch('k', fail, options), name).toBe(kept);
    }
  });

  test('are fresh again once they are touched, appended to in time, or set', async () => {
    const options = { ttl: 100, staleWhileRevalidate: '1h' };
    await timed.fetch('k', () => 'v', options);
    expect(timed.touch('k', '1h')).toBe(true);
    now += 1000;
    expect(timed.get('k')).toBe('v');
    expect(await timed.fetch('k', notCalled, options)).toBe('v');
    timed.set('k', 'set');
    now += 24 * hour;
    expect(await timed.fetch('k', notCalled, options)).toBe('set');
  });

  test('are answered at once while one load refreshes them', async () => {
    const options = { ttl: 1, staleWhileRevalidate: hour };
    await timed.fetch('k', () => 'old', options);
    now = 1;
    const { load, loads } = handLoader<string>();
    expect(await timed.fetch('k', load, options)).toBe('old');
    expect(await timed.fetch('k', load, options)).toBe('old');
    expect(loads.length).toBe(1);
    expect(loads[0]!.stale).toBe('old');
    loads[0]!.resolve('new');
    await until(() => timed.get('k') === 'new');
  });

  test('given to one handle while another one loads do not keep that load from being aborted', async () => {
    const options = { ttl: 1, staleWhileRevalidate: hour };
    using other = Cache.attach('timed');
    await timed.fetch('k', () => 'old', options);
    now = 1;
    const controller = new AbortController();
    const { load, loads } = handLoader<string>();
    const call = timed.fetch('k', load, { forceRefresh: true, signal: controller.signal });
    expect(await other.fetch('k', notCalled, options)).toBe('old');
    controller.abort('enough');
    await expect(call).rejects.toBe('enough');
    expect(loads[0]!.signal.aborted).toBe(true);
  });

  test('stay when the refresh fails, which the next call tries again', async () => {
    const options = { ttl: 1, staleWhileRevalidate: hour };
    await timed.fetch('k', () => 'old', options);
    now = 1;
    expect(await timed.fetch('k', fail, options)).toBe('old');
    await until(() => timed.stats().fetchFlights === 0);
    expect(await timed.fetch('k', () => 'new', options)).toBe('old');
    await until(() => timed.get('k') === 'new');
  });

  test('whose refresh hangs are refreshed by another after the timeout', async () => {
    const options = { ttl: 1, staleWhileRevalidate: hour, timeout: 1 };
    await timed.fetch('k', () => 'old', options);
    now = 1;
    const { load, loads } = handLoader<string>();
    expect(await timed.fetch('k', load, options)).toBe('old');
    await until(() => loads[0]!.signal.aborted);
    expect(await timed.fetch('k', () => 'new', options)).toBe('old');
    await until(() => timed.get('k') === 'new');
  });

  test('are stale still when a log or a snapshot brings them back', async () => {
    const directory = data.fresh();
    const options = { ttl: 1, staleIfError: Number.POSITIVE_INFINITY };
    for (const [start, atClose] of [false, true, true].entries()) {
      const logged = await Cache.open({ data: directory, maxMemory: '8mb', snapshot: { atClose } });
      if (start === 0) {
        await logged.fetch('k', () => 'v', options);
        await until(() => !logged.has('k'));
        expect(await logged.fetch('other', () => 'w', { ttl: 60_000, staleIfError: Number.POSITIVE_INFINITY })).toBe(
          'w',
        );
      }
      expect([logged.get('k'), logged.has('k'), [...logged.keys()]]).toEqual([undefined, false, ['other']]);
      expect(await logged.fetch('k', fail, options)).toBe('v');
      expect(logged.get('other')).toBe('w');
      expect(logged.getRemainingTTL('other')).toBeLessThanOrEqual(60_000);
      await logged.close();
    }
  });

  test('are stale still when a dump brings them back', async () => {
    const options = { ttl: 60_000, staleIfError: Number.POSITIVE_INFINITY };
    await timed.fetch('k', () => 'v', options);
    using fresh = new Cache({ clock: () => now });
    using stale = new Cache({ clock: () => now });
    fresh.load(timed.dump());
    expect(fresh.get('k')).toBe('v');
    // A dump has wall-clock times, which go on between the dump and the load.
    expect(Math.abs(fresh.getRemainingTTL('k') - 60_000)).toBeLessThan(5000);
    now += 65_000;
    expect(stale.load(timed.dump())).toEqual({ loaded: 1, skipped: 0 });
    for (const cache of [timed, fresh, stale]) {
      expect([cache.get('k'), [...cache.keys()]]).toEqual([undefined, []]);
      expect(await cache.fetch('k', fail, options)).toBe('v');
    }
  });

  test('that are not due yet are simply hits', async () => {
    const options = { ttl: '1h', staleWhileRevalidate: '1h' };
    await timed.fetch('k', () => 'v', options);
    now = hour - 1;
    expect(await timed.fetch('k', notCalled, options)).toBe('v');
    timed.set('forever', 'v');
    expect(await timed.fetch('forever', notCalled, options)).toBe('v');
  });

  test('are the answer if the loader fails', async () => {
    const options = { ttl: 1, staleIfError: hour };
    await timed.fetch('k', () => ({ old: true }), options);
    now = 1;
    expect(await timed.fetch('k', fail, options)).toEqual({ old: true });
    const both = [timed.fetch('k', fail, options), timed.fetch('k', fail, { forceRefresh: true })];
    const [kept, failed] = await Promise.allSettled(both);
    expect(kept).toMatchObject({ status: 'fulfilled', value: { old: true } });
    expect(failed).toMatchObject({ status: 'rejected' });
    expect(await timed.fetch('k', ({ stale }) => ({ old: false, stale }), options)).toEqual({
      old: false,
      stale: { old: true },
    });
  });
});

describe('when the cache is closed', () => {
  test('fetches that wait are rejected and their loads aborted', async () => {
    const { load, loads } = handLoader<string>();
    const calls = [cache.fetch('k', load), cache.fetch('k', load), cache.fetch('k2', load)];
    cache.close();
    for (const call of calls) await expect(call).rejects.toMatchObject({ code: 'ERR_CLOSED' });
    expect(loads.map((each) => each.signal.aborted)).toEqual([true, true]);
    expect(loads[0]!.signal.reason).toMatchObject({ code: 'ERR_CLOSED' });
    loads[0]!.resolve('late');
    loads[1]!.reject(new Error('late'));
  });

  test('a fetch is rejected', async () => {
    cache.close();
    await expect(cache.fetch('k', () => 'v')).rejects.toMatchObject({ code: 'ERR_CLOSED' });
    await expect(cache.fetch('k', () => 'v', { forceRefresh: true })).rejects.toMatchObject({ code: 'ERR_CLOSED' });
    await expect(cache.fetch('k', () => 'v', { staleIfError: 1 })).rejects.toMatchObject({ code: 'ERR_CLOSED' });
  });

  test('by the loader, its callers are rejected', async () => {
    const load = async () => {
      await cache.close();
      return 'v';
    };
    await expect(cache.fetch('k', load)).rejects.toMatchObject({ code: 'ERR_CLOSED' });
  });

  test('handles of one cache in one thread are closed each for itself', async () => {
    using owner = new Cache({ name: 'two handles' });
    const attached = Cache.attach('two handles');
    const { load, loads } = handLoader<string>();
    const first = attached.fetch('k', load);
    const second = owner.fetch('k', load);
    expect(loads.length).toBe(1);
    await attached.close();
    await expect(first).rejects.toMatchObject({ code: 'ERR_CLOSED' });
    expect(loads[0]!.signal.aborted).toBe(true);
    // The other handle has taken over.
    await until(() => loads.length === 2);
    loads[1]!.resolve('v');
    expect(await second).toBe('v');
  });
});

describe('misuse is refused before anything is loaded', () => {
  const load = () => expect.fail('loaded');
  test.for([
    ['loader', () => cache.fetch('k', 'v' as never), 'Expected loader to be a function, got "v"'],
    [
      'an option',
      () => cache.fetch('k', load, { ttlMs: 5 } as never),
      'Unknown option "ttlMs" in options: did you mean ttl?',
    ],
    ['options', () => cache.fetch('k', load, null as never), 'Expected options to be an object, got null'],
    ['ttl', () => cache.fetch('k', load, { ttl: '5 weeks' }), /^Expected ttl to be .*, got "5 weeks"$/],
    ['timeout', () => cache.fetch('k', load, { timeout: -1 }), /^Expected timeout to be .*, got -1$/],
    ['signal', () => cache.fetch('k', load, { signal: {} as never }), 'Expected signal to be an AbortSignal, got {}'],
    [
      'forceRefresh',
      () => cache.fetch('k', load, { forceRefresh: 1 as never }),
      /^Expected forceRefresh to be true or false/,
    ],
    ['staleIfError', () => cache.fetch('k', load, { staleIfError: 'x' }), /^Expected staleIfError to be /],
    [
      'a number as key',
      () => cache.fetch(5 as never, load),
      /^Expected key to be a string, Buffer or Uint8Array, got 5/,
    ],
    ['an empty key', () => cache.fetch('', load, { forceRefresh: true }), /^Expected key to be 1 to 65536 bytes long/],
    ['a lone surrogate', () => cache.fetch('\ud800', load), /^Expected key to be text without lone surrogates/],
  ] as [string, () => Promise<unknown>, string | RegExp][])('%s', async ([, call, message]) => {
    const error = await call().then(
      () => expect.fail('not refused'),
      (error: Error) => error,
    );
    expect(error).toMatchObject({ code: 'ERR_INVALID_ARGUMENT' });
    expect(error.message).toMatch(message);
  });

  test('a key with U+FFFD is allowed', async () => {
    expect(await cache.fetch('a\ufffd', () => 'v')).toBe('v');
    expect(await cache.fetch('a\ufffd', () => 'w', { forceRefresh: true })).toBe('w');
    expect(await cache.fetch(Buffer.from('a\ufffd'), load)).toBe('w');
  });
});

test('a call that its own loader has ended leaves no timer behind', async () => {
  const timers = () => process.getActiveResourcesInfo().filter((name) => name === 'Timeout').length;
  const before = timers();
  const other = new Cache({ maxMemory: '4mb' });
  const call = other.fetch(
    'k',
    () => {
      void other.close();
      return 'v';
    },
    { timeout: '1h' },
  );
  expect(timers()).toBe(before);
  await expect(call).rejects.toMatchObject({ code: 'ERR_CLOSED' });
});

test('loads beyond the bound end with the handle too', async () => {
  const { load, loads } = handLoader<string>();
  const other = new Cache({ maxMemory: '16mb' });
  const calls = Array.from({ length: 258 }, (_, i) => other.fetch(String(i).padStart(65_536, 'k'), load));
  expect(other.stats().fetchFlights).toBe(256);
  void other.close();
  const outcomes = await Promise.allSettled(calls);
  expect(new Set(outcomes.map((each) => each.status === 'rejected' && each.reason.code))).toEqual(
    new Set(['ERR_CLOSED']),
  );
  expect(loads.every(({ signal }) => signal.aborted)).toBe(true);
});

test('beyond the bound on loads under way a fetch loads for itself and stores nothing', async () => {
  const { load, loads } = handLoader<string>();
  // The table holds 16 MiB of keys; these are as long as keys may be.
  const keyOf = (i: number) => String(i).padStart(65_536, 'k');
  const calls = Array.from({ length: 256 }, (_, i) => cache.fetch(keyOf(i), load));
  const controller = new AbortController();
  calls.push(cache.fetch('one', load), cache.fetch('one', load));
  const aborted = cache.fetch('one', load, { signal: controller.signal });
  expect(loads.length).toBe(259);
  expect(cache.stats().fetchFlights).toBe(256);
  controller.abort('enough');
  await expect(aborted).rejects.toBe('enough');
  expect(loads[258]!.signal.aborted).toBe(true);
  for (const [i, each] of loads.entries()) each.resolve(`value ${i}`);
  expect(await Promise.all(calls)).toEqual(loads.slice(0, 258).map((_, i) => `value ${i}`));
  expect(cache.has('one')).toBe(false);
  expect(await cache.fetch('one', () => 'v')).toBe('v');
  expect(cache.get('one')).toBe('v');
});

describe('a loader that would wait for itself', () => {
  test('is refused when it asks for its own key, and the key is free again', async () => {
    const user = (id: number): Promise<unknown> =>
      cache.fetch(`user:${id}`, async () => ({ ...((await user(id)) as object) }));
    await expect(user(7)).rejects.toThrow(withCode('ERR_FETCH_CIRCLE', /The loader of "user:7" asks for the same key/));
    expect(cache.stats().fetchFlights).toBe(0);
    expect(await cache.fetch('user:7', () => 'fine')).toBe('fine');
  });

  test('is refused over other keys, as bytes, and through another handle', async () => {
    const named = new Cache({ name: 'circle' });
    const other = Cache.attach('circle');
    const a = (): Promise<unknown> => named.fetch('a', () => b());
    const b = (): Promise<unknown> => other.fetch(Buffer.from('b'), async () => c());
    const c = (): Promise<unknown> => named.fetch('c', () => other.fetch(Buffer.from('a'), () => 'never'));
    await expect(a()).rejects.toThrow(withCode('ERR_FETCH_CIRCLE', /loader of "c" asks for "a", whose loader asks/));
    expect(named.stats().fetchFlights).toBe(0);
    await named.close();
  });

  test('is refused when two loads that began apart come to wait for each other', async () => {
    const { promise: begun, resolve: bothHaveBegun } = deferred<void>();
    const load = (key: string, next: string) =>
      cache.fetch(key, async () => {
        await begun;
        return cache.fetch(next, () => 'never');
      });
    const both = [load('a', 'b'), load('b', 'a')];
    bothHaveBegun();
    const outcomes = await Promise.allSettled(both);
    expect(outcomes.map(({ status }) => status)).toEqual(['rejected', 'rejected']);
    for (const outcome of outcomes) expect((outcome as PromiseRejectedResult).reason.code).toBe('ERR_FETCH_CIRCLE');
  });

  test('is not one that asks for stored keys, for other keys, or for its own after it has given its value', async () => {
    cache.set('there', 1);
    let later: Promise<unknown> | undefined;
    const value = await cache.fetch('k', async () => {
      expect(await cache.fetch('there', () => 2)).toBe(1);
      expect(await cache.fetch('other', () => cache.fetch('third', () => 3))).toBe(3);
      later = new Promise((resolve) => setImmediate(resolve)).then(() => {
        cache.delete('k');
        return cache.fetch('k', () => 'again');
      });
      return 'first';
    });
    expect(value).toBe('first');
    expect(await later).toBe('again');
  });

  test('ends at its timeout if the loader never ends, as in a circle that another thread is part of', async () => {
    await expect(cache.fetch('slow', () => new Promise(() => {}), { timeout: 20 })).rejects.toThrow(
      withCode('ERR_TIMEOUT'),
    );
  });
});

describe('patience', () => {
  test('ends with a signal of another vm context, too, in every call that takes a signal', async () => {
    const other = vm.createContext({ AbortController });
    // Something like an AbortSignal that is no instance of this realm's class.
    const { signal, abort } = vm.runInContext(
      `(() => {
        const listeners = new Set();
        const signal = {
          aborted: false, reason: undefined,
          addEventListener: (_, listener) => listeners.add(listener),
          removeEventListener: (_, listener) => listeners.delete(listener),
        };
        return { signal, abort(reason) { signal.aborted = true; signal.reason = reason; for (const each of listeners) each(); } };
      })()`,
      other,
    ) as { signal: AbortSignal; abort(reason: unknown): void };
    const fetched = cache.fetch('k', () => new Promise(() => {}), { signal });
    expect(await cache.promises.set('a', 1, { signal })).toBe('stored');
    abort(new Error('enough'));
    await expect(fetched).rejects.toThrow('enough');
    await expect(cache.promises.get('a', { signal })).rejects.toThrow('enough');
    await expect(cache.fetch('k', () => 1, { signal })).rejects.toThrow('enough');
  });

  test.each(['30d', Number.POSITIVE_INFINITY, 0])('of %s waits longer than one timer counts', async (timeout) => {
    const { promise, resolve } = deferred<string>();
    const fetched = cache.fetch('k', () => promise, { timeout });
    setTimeout(resolve, 20, 'value');
    expect(await fetched).toBe('value');
    expect(await cache.promises.set('a', 1, { timeout })).toBe('stored');
  });
});

test('loaded values that are too large to be stored cause one process warning', async () => {
  const warnings: Error[] = [];
  const listen = (warning: Error) => warnings.push(warning);
  process.on('warning', listen);
  const small = new Cache({ maxMemory: '8mb', maxValueBytes: 1000 });
  for (let i = 0; i < 3; i++) expect(await small.fetch('big', () => 'x'.repeat(2000))).toHaveLength(2000);
  await new Promise((resolve) => setImmediate(resolve));
  process.off('warning', listen);
  expect(warnings.map((warning) => (warning as Error & { code?: string }).code)).toEqual(['CAIRN_VALUE_NOT_KEPT']);
  expect(warnings[0]!.message).toMatch(/"big".*2000 bytes.*maxValueBytes \(1000\)/);
  await small.close();
});

test('a loader gets no stale value if that cannot be decoded', async () => {
  using owner = new Cache({ name: 'undecodable', maxMemory: '16mb' });
  using reader = Cache.attach<unknown>('undecodable', { raw: 'json' });
  owner.set('k', Buffer.from('no json'));
  const load = ({ stale }: { stale: unknown }) => ({ stale: typeof stale });
  expect(await reader.fetch('k', load, { forceRefresh: true })).toEqual({ stale: 'undefined' });
});
