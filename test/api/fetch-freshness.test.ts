// fetch() and the freshness of values: refreshing ahead of the end, stale values after a soft timeout, jitter, and what
// fetchWithInfo says of a value. Time is the cache's clock, timers are fake, random numbers are given.

import { afterEach, beforeEach, describe, expect, expectTypeOf, test, vi } from 'vitest';
import { Cache, type FetchInfo, type FetchOptions } from '../../src/index.ts';
import { withCode } from '../support/errors.ts';
import { type Deferred, deferred, until } from '../support/threads.ts';

let now: number;
let drawn: number;
let cache: Cache<unknown>;

beforeEach(() => {
  now = 0;
  drawn = 0;
  cache = new Cache({ name: 'freshness', maxMemory: '16mb', clock: () => now, random: () => drawn });
});
afterEach(() => {
  vi.useRealTimers();
  return cache.close();
});

const notCalled = () => expect.fail('loaded');
const fail = () => Promise.reject(new Error('down'));
const idle = () => until(() => cache.stats().fetchFlights === 0);

/** A loader that is settled by hand. */
function handLoader() {
  const loads: (Deferred<unknown> & { stale: unknown; signal: AbortSignal })[] = [];
  const load = ({ stale, signal }: { stale: unknown; signal: AbortSignal }): Promise<unknown> => {
    const made = { ...deferred<unknown>(), stale, signal };
    loads.push(made);
    return made.promise;
  };
  return { load, loads };
}

describe('refreshAhead', () => {
  test('of a time starts one load for the hits in that time, which all get the present value', async () => {
    const options = { ttl: 1000, refreshAhead: 200 };
    await cache.fetch('k', () => 'old', options);
    now = 799;
    expect(await cache.fetch('k', notCalled, options)).toBe('old');
    now = 800;
    const { load, loads } = handLoader();
    expect(await cache.fetch('k', load, options)).toBe('old');
    expect(await cache.fetch('k', notCalled, options)).toBe('old');
    expect(await cache.fetch('k', notCalled)).toBe('old');
    expect(loads).toMatchObject([{ stale: 'old' }]);
    loads[0]!.resolve('new');
    await until(() => cache.get('k') === 'new');
    expect(cache.getRemainingTTL('k')).toBe(1000);
    expect(await cache.fetch('k', notCalled, options)).toBe('new');
  });

  test.for([
    ['of the ttl of the call', { ttl: 1000 }],
    ['of the ttl that a function gives for the value', { ttl: (value: unknown) => (value === 'old' ? 1000 : 1) }],
  ] as [string, FetchOptions][])('can be a share %s', async ([, { ttl }]) => {
    const options = { ttl, refreshAhead: '20%' } as FetchOptions;
    await cache.fetch('k', () => 'old', options);
    now = 799;
    expect(await cache.fetch('k', notCalled, options)).toBe('old');
    now = 800;
    expect(await cache.fetch('k', () => 'new', options)).toBe('old');
    await until(() => cache.get('k') === 'new');
  });

  test('can be a share of the ttl of the cache', async () => {
    using timed = new Cache({ ttl: 1000, clock: () => now });
    await timed.fetch('k', () => 'old', { refreshAhead: '50%' });
    now = 500;
    expect(await timed.fetch('k', () => 'new', { refreshAhead: '50%' })).toBe('old');
    await until(() => timed.get('k') === 'new');
  });

  test('looks at the entry, whichever verb stored it, and leaves alone one that does not expire', async () => {
    cache.set('k', 'set', { ttl: 100 });
    cache.set('forever', 'set');
    now = 60;
    expect(await cache.fetch('k', () => 'new', { ttl: '1h', refreshAhead: 40 })).toBe('set');
    await until(() => cache.get('k') === 'new');
    expect(await cache.fetch('forever', notCalled, { ttl: '1h', refreshAhead: '1h' })).toBe('set');
  });

  test('makes no value live longer: after its time it is absent, and the load is waited for', async () => {
    const options = { ttl: 1000, refreshAhead: '10%' };
    await cache.fetch('k', () => 'old', options);
    now = 950;
    const { load, loads } = handLoader();
    expect(await cache.fetch('k', load, options)).toBe('old');
    now = 1000;
    expect(cache.get('k')).toBeUndefined();
    const waiting = cache.fetch('k', notCalled, options);
    loads[0]!.resolve('new');
    expect(await waiting).toBe('new');
  });

  test('of a load that fails changes nothing, and a later hit tries again', async () => {
    const options = { ttl: 1000, refreshAhead: 500 };
    await cache.fetch('k', () => 'old', options);
    now = 500;
    expect(await cache.fetch('k', fail, options)).toBe('old');
    await idle();
    expect(cache.getRemainingTTL('k')).toBe(500);
    expect(await cache.fetch('k', () => 'new', options)).toBe('old');
    await until(() => cache.get('k') === 'new');
  });

  test('stores nothing if the key is written meanwhile', async () => {
    const options = { ttl: 1000, refreshAhead: 500 };
    await cache.fetch('k', () => 'old', options);
    now = 500;
    const { load, loads } = handLoader();
    await cache.fetch('k', load, options);
    cache.set('k', 'written');
    loads[0]!.resolve('loaded');
    await idle();
    expect(cache.get('k')).toBe('written');
  });

  test('goes on if the signal of the hit is aborted afterwards, and ends at its timeout', async () => {
    vi.useFakeTimers({ toFake: ['setTimeout', 'clearTimeout'] });
    const controller = new AbortController();
    const options = { ttl: 1000, refreshAhead: 500, timeout: 100, signal: controller.signal };
    await cache.fetch('k', () => 'old', options);
    now = 500;
    const { load, loads } = handLoader();
    expect(await cache.fetch('k', load, options)).toBe('old');
    controller.abort();
    expect(loads[0]!.signal.aborted).toBe(false);
    vi.advanceTimersByTime(100);
    expect(loads[0]!.signal.aborted).toBe(true);
  });

  test('loads a value whose second reading fails, so that others do not wait in vain', async () => {
    let reads = 0;
    const raw = (bytes: Buffer) => {
      if (++reads === 2) throw new RangeError('not now');
      return bytes.toString();
    };
    using odd = new Cache({ raw, clock: () => now });
    odd.set('k', Buffer.from('old'), { ttl: 100 });
    now = 90;
    expect(await odd.fetch('k', () => 'new', { ttl: 100, refreshAhead: 50 })).toBe('old');
    await until(() => odd.get('k') === 'new');
    expect([reads, odd.stats().fetchFlights]).toEqual([2, 0]);
  });

  test.for(['101%', 'soon', -1, '5 %%', null])('%s is refused', async (refreshAhead) => {
    const options = { refreshAhead } as FetchOptions;
    await expect(cache.fetch('k', notCalled, options)).rejects.toThrow(withCode('ERR_INVALID_ARGUMENT'));
  });
});

describe('softTimeout', () => {
  const options = { ttl: 100, staleIfError: 1000, softTimeout: 50 };
  beforeEach(async () => {
    vi.useFakeTimers({ toFake: ['setTimeout', 'clearTimeout'] });
    await cache.fetch('k', () => 'old', options);
    now = 100;
  });

  test('gives the stale value, and the load goes on and is stored', async () => {
    const { load, loads } = handLoader();
    let answer: unknown;
    const call = cache.fetch('k', load, options).then((value) => {
      answer = value;
    });
    vi.advanceTimersByTime(49);
    await null;
    expect(answer).toBeUndefined();
    vi.advanceTimersByTime(1);
    await call;
    expect(answer).toBe('old');
    expect(loads[0]!.signal.aborted).toBe(false);
    expect(cache.get('k')).toBeUndefined();
    loads[0]!.resolve('new');
    await vi.waitUntil(() => cache.get('k') === 'new');
  });

  test('leaves callers that do not ask for stale values waiting for the same load', async () => {
    const { load, loads } = handLoader();
    const [soft, plain] = [cache.fetch('k', load, options), cache.fetch('k', notCalled)];
    vi.advanceTimersByTime(50);
    expect(await soft).toBe('old');
    loads[0]!.resolve('new');
    expect(await plain).toBe('new');
  });

  test('is not reached by a load that is fast: its value or its error counts', async () => {
    expect(await cache.fetch('k', () => 'new', options)).toBe('new');
    expect(vi.getTimerCount()).toBe(0);
    now = 200;
    expect(await cache.fetch('k', fail, options)).toBe('new');
    expect(vi.getTimerCount()).toBe(0);
  });

  test('without a stale value, or with one that is too old by then, waits for the load', async () => {
    const { load, loads } = handLoader();
    const [absent, old] = [cache.fetch('absent', load, options), cache.fetch('k', load, options)];
    now = 1100;
    vi.advanceTimersByTime(50);
    loads[0]!.resolve('first');
    loads[1]!.resolve('second');
    expect(await Promise.all([absent, old])).toEqual(['first', 'second']);
  });

  test('gives no value that is too old for the call, though the entry is kept for others', async () => {
    const { load, loads } = handLoader();
    const call = cache.fetch('k', load, { ...options, staleIfError: 10 });
    now = 110;
    vi.advanceTimersByTime(50);
    loads[0]!.resolve('new');
    expect(await call).toBe('new');
  });

  test('ends the wait of the loader that asked: a circle through it is none any more', async () => {
    const asked = deferred<void>();
    const inner = async () => {
      await asked.promise;
      return `inner of ${await cache.fetch('outer', notCalled)}`;
    };
    const outer = cache.fetch('outer', async () => {
      const value = await cache.fetch('k', inner, options);
      asked.resolve();
      return value;
    });
    await null;
    vi.advanceTimersByTime(50);
    expect(await outer).toBe('old');
    await vi.waitUntil(() => cache.get('k') === 'inner of old');
  });

  test('gives the value that was written meanwhile', async () => {
    const { load, loads } = handLoader();
    const call = cache.fetchWithInfo('k', load, options);
    cache.set('k', 'written', { ttl: 30 });
    vi.advanceTimersByTime(50);
    expect(await call).toEqual({ value: 'written', outcome: 'hit', ttl: 30, staleFor: 0 });
    loads[0]!.resolve('loaded');
    await vi.waitUntil(() => cache.stats().fetchFlights === 0);
    expect(cache.get('k')).toBe('written');
  });

  test('gives no value that was deleted meanwhile', async () => {
    const { load, loads } = handLoader();
    const call = cache.fetch('k', load, options);
    cache.delete('k');
    vi.advanceTimersByTime(50);
    loads[0]!.resolve('loaded');
    expect(await call).toBe('loaded');
    expect(cache.get('k')).toBeUndefined();
  });

  test('leaves the load to the timeout, which aborts it if no caller waits', async () => {
    const { load, loads } = handLoader();
    const call = cache.fetch('k', load, { ...options, timeout: 200 });
    vi.advanceTimersByTime(50);
    expect(await call).toBe('old');
    vi.advanceTimersByTime(149);
    expect(loads[0]!.signal.aborted).toBe(false);
    vi.advanceTimersByTime(1);
    expect(loads[0]!.signal.aborted).toBe(true);
    expect(loads[0]!.signal.reason).toEqual(withCode('ERR_TIMEOUT'));
  });

  test('after the timeout has no effect', async () => {
    const { load } = handLoader();
    const call = cache.fetch('k', load, { ...options, timeout: 50 });
    vi.advanceTimersByTime(50);
    await expect(call).rejects.toThrow(withCode('ERR_TIMEOUT'));
  });

  test('has answered a caller: its signal does not abort the load any more', async () => {
    const controller = new AbortController();
    const { load, loads } = handLoader();
    const call = cache.fetch('k', load, { ...options, signal: controller.signal });
    vi.advanceTimersByTime(50);
    expect(await call).toBe('old');
    controller.abort();
    expect(loads[0]!.signal.aborted).toBe(false);
  });

  test('without staleIfError is refused', async () => {
    const call = cache.fetch('k', notCalled, { softTimeout: 50, staleWhileRevalidate: '1h' });
    await expect(call).rejects.toThrow(withCode('ERR_INVALID_ARGUMENT', /staleIfError/));
  });
});

describe('jitter', () => {
  test.for([
    [0, 1000],
    [0.25, 950],
    [1, 800],
  ])('shortens the ttl by its part of the random number %d', async ([random, ttl]) => {
    drawn = random!;
    await cache.fetch('time', () => 'v', { ttl: 1000, jitter: 200 });
    await cache.fetch('share', () => 'v', { ttl: 1000, jitter: '20%' });
    expect([cache.getRemainingTTL('time'), cache.getRemainingTTL('share')]).toEqual([ttl, ttl]);
  });

  test('never makes a value live longer than its ttl, nor less than a millisecond', async () => {
    const options = { ttl: () => 10, jitter: '1h' };
    for (drawn of [0, 0.1, 0.5, 0.9, 1]) {
      await cache.fetch('k', () => 'v', { ...options, forceRefresh: true });
      expect(cache.getRemainingTTL('k')).toBeGreaterThanOrEqual(1);
      expect(cache.getRemainingTTL('k')).toBeLessThanOrEqual(10);
    }
    expect(cache.getRemainingTTL('k')).toBe(1);
  });

  test('shortens the freshness, and the stale window begins at its end', async () => {
    drawn = 1;
    const options = { ttl: 100, jitter: '50%', staleIfError: 100 };
    await cache.fetch('k', () => 'v', options);
    now = 50;
    expect(cache.get('k')).toBeUndefined();
    now = 149;
    expect(await cache.fetch('k', fail, options)).toBe('v');
    now = 150;
    await expect(cache.fetch('k', fail, options)).rejects.toThrow('down');
  });

  test('shortens the ttl of the cache too, and leaves a value alone that does not expire or is not stored', async () => {
    drawn = 1;
    using timed = new Cache({ ttl: 1000, clock: () => now, random: () => drawn });
    await timed.fetch('k', () => 'v', { jitter: 100 });
    expect(timed.getRemainingTTL('k')).toBe(900);
    await timed.fetch('forever', () => 'v', { ttl: Number.POSITIVE_INFINITY, jitter: 100 });
    expect(timed.getRemainingTTL('forever')).toBe(Number.POSITIVE_INFINITY);
    await timed.fetch('not kept', () => 'v', { ttl: 0, jitter: 100 });
    expect(timed.has('not kept')).toBe(false);
    await cache.fetch('k', () => 'v', { jitter: '10%' });
    expect(cache.getRemainingTTL('k')).toBe(Number.POSITIVE_INFINITY);
  });

  test('spreads the ends of values by Math.random where no other source is given', async () => {
    using plain = new Cache();
    const ends = new Set<number>();
    for (let i = 0; i < 100; i++) {
      await plain.fetch(`k${i}`, () => 'v', { ttl: '100d', jitter: '50d' });
      ends.add(Math.round(plain.getRemainingTTL(`k${i}`) / 3_600_000));
    }
    expect(ends.size).toBeGreaterThan(50);
  });

  test.for([-0.1, 1.1, Number.NaN, '1'])('refuses %s as a random number', async (random) => {
    drawn = random as number;
    const call = cache.fetch('k', () => 'v', { ttl: 1000, jitter: 100 });
    await expect(call).rejects.toThrow(withCode('ERR_INVALID_ARGUMENT'));
    expect(() => new Cache({ random: random as never })).toThrow(withCode('ERR_INVALID_ARGUMENT'));
  });
});

describe('fetchWithInfo', () => {
  test('says what came from the cache, and what its own load brought', async () => {
    const options = { ttl: 100, staleIfError: 1000 };
    const info = (loader: () => unknown, more?: FetchOptions) => cache.fetchWithInfo('k', loader, more ?? options);
    expect(await info(() => 'v')).toEqual({ value: 'v', outcome: 'miss', ttl: 100, staleFor: 0 });
    now = 30;
    expect(await info(notCalled)).toEqual({ value: 'v', outcome: 'hit', ttl: 70, staleFor: 0 });
    now = 150;
    expect(await info(fail)).toEqual({ value: 'v', outcome: 'stale', ttl: 0, staleFor: 50 });
    expect(await info(() => 'w')).toEqual({ value: 'w', outcome: 'refreshed', ttl: 100, staleFor: 0 });
    const forced = { ttl: '1h', forceRefresh: true };
    expect(await info(() => 'x', forced)).toEqual({ value: 'x', outcome: 'refreshed', ttl: 3_600_000, staleFor: 0 });
  });

  test('says of a value that is refreshed in the background how old it is', async () => {
    const options = { ttl: 100, staleWhileRevalidate: '1h', refreshAhead: 10 };
    await cache.fetch('k', () => 'v', options);
    now = 95;
    expect(await cache.fetchWithInfo('k', fail, options)).toEqual({ value: 'v', outcome: 'hit', ttl: 5, staleFor: 0 });
    await idle();
    now = 100;
    const stale = await cache.fetchWithInfo('k', () => 'w', options);
    expect(stale).toEqual({ value: 'v', outcome: 'stale', ttl: 0, staleFor: 0 });
    await until(() => cache.get('k') === 'w');
  });

  test('says which value another call loaded', async () => {
    const load = deferred<unknown>();
    const calls = [
      cache.fetchWithInfo('k', () => load.promise, { ttl: 100 }),
      cache.fetchWithInfo('k', notCalled, { ttl: 5 }),
    ];
    load.resolve({ a: 1 });
    expect(await Promise.all(calls)).toEqual([
      { value: { a: 1 }, outcome: 'miss', ttl: 100, staleFor: 0 },
      { value: { a: 1 }, outcome: 'joined', ttl: 100, staleFor: 0 },
    ]);
  });

  test('never gives a stale value to a call that asks for none', async () => {
    await cache.fetch('k', () => 'old', { ttl: 100, staleIfError: '1h' });
    now = 100;
    await expect(cache.fetchWithInfo('k', fail, { refreshAhead: '50%' })).rejects.toThrow('down');
    const info = await cache.fetchWithInfo('k', ({ stale }) => `after ${stale}`, { ttl: 100 });
    expect(info).toEqual({ value: 'after undefined', outcome: 'miss', ttl: 100, staleFor: 0 });
    // A stale entry that no option accepts is a miss, in the counters too.
    expect(cache.stats()).toMatchObject({ hits: 0 });
  });

  test('says that a value does not expire, or is not stored', async () => {
    const endless = Number.POSITIVE_INFINITY;
    expect(await cache.fetchWithInfo('k', () => 1)).toEqual({ value: 1, outcome: 'miss', ttl: endless, staleFor: 0 });
    expect(await cache.fetchWithInfo('k', notCalled)).toMatchObject({ outcome: 'hit', ttl: endless });
    for (const loader of [() => undefined, () => 'x'.repeat(2 ** 21)]) {
      expect(await cache.fetchWithInfo('none', loader)).toMatchObject({ outcome: 'miss', ttl: 0 });
    }
    const closing = cache.fetchWithInfo('closed', () => void cache.close());
    await expect(closing).rejects.toThrow(withCode('ERR_CLOSED'));
  });

  test('has the types of fetch', async () => {
    using numbers = new Cache<number>();
    expectTypeOf(await numbers.fetchWithInfo('k', () => 1)).toEqualTypeOf<FetchInfo<number>>();
    const maybe = async (): Promise<number | undefined> => undefined;
    expectTypeOf(await numbers.fetchWithInfo('a', maybe)).toEqualTypeOf<FetchInfo<number | undefined>>();
    // @ts-expect-error: this is no number.
    await numbers.fetchWithInfo('b', () => 'one');
  });
});
