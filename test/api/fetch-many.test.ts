// fetchMany() in one thread, and fetch() with a loader of many keys: which keys the loader gets, what becomes of its
// answer for each of them, and how calls are collected. Time is the cache's clock; timers are fake where they count.

import { afterEach, beforeEach, describe, expect, expectTypeOf, test, vi } from 'vitest';
import { Cache, type FetchManyOptions, type LoadedMany, type ManyContext, type ManyLoader } from '../../src/index.ts';
import { withCode } from '../support/errors.ts';
import { type Deferred, deferred, until } from '../support/threads.ts';

type Key = string | Uint8Array;
let now: number;
let cache: Cache<unknown>;

beforeEach(() => {
  now = 0;
  cache = new Cache({ maxMemory: '16mb', clock: () => now });
});
afterEach(() => {
  vi.useRealTimers();
  return cache.close();
});

const notCalled = () => expect.fail('loaded');
const idle = () => until(() => cache.stats().fetchFlights === 0);

/** A loader that answers at once, with the value of each key, and remembers which keys it got. */
function valueLoader() {
  const calls: (readonly Key[])[] = [];
  const load = ({ keys }: ManyContext<unknown>): Map<Key, unknown> => {
    calls.push(keys);
    return new Map(keys.map((key) => [key, `value of ${key}`]));
  };
  return { load, calls };
}

/** A loader that is settled by hand. */
function handLoader() {
  const loads: (Deferred<LoadedMany<unknown>> & ManyContext<unknown>)[] = [];
  const load = ({ keys, stale, signal }: ManyContext<unknown>): Promise<LoadedMany<unknown>> => {
    const made = { ...deferred<LoadedMany<unknown>>(), keys, stale, signal };
    loads.push(made);
    return made.promise;
  };
  return { load, loads };
}

describe('fetchMany', () => {
  test('loads the missing keys by one call, stores them, and returns all values in the order of the keys', async () => {
    const { load, calls } = valueLoader();
    cache.set('b', 'stored');
    const bytes = Buffer.from([0xff, 1]);
    expect(await cache.fetchMany(['a', 'b', bytes, 'c'], load)).toEqual([
      'value of a',
      'stored',
      `value of ${bytes}`,
      'value of c',
    ]);
    expect(calls).toEqual([['a', bytes, 'c']]);
    expect(cache.getMany(['a', bytes, 'c'])).toEqual(['value of a', `value of ${bytes}`, 'value of c']);
    expect(await cache.fetchMany(['a', 'c'], notCalled)).toEqual(['value of a', 'value of c']);
  });

  test('takes any iterable of keys, none at all included', async () => {
    const { load, calls } = valueLoader();
    expect(await cache.fetchMany(new Set(['a', 'b']), load)).toEqual(['value of a', 'value of b']);
    expect(await cache.fetchMany([], load)).toEqual([]);
    expect(calls).toHaveLength(1);
  });

  test('loads a key that comes twice once, and gives a copy for each', async () => {
    const calls: (readonly Key[])[] = [];
    const load = ({ keys }: ManyContext<unknown>) => {
      calls.push(keys);
      return keys.map(() => ({ list: [1] }));
    };
    const values = (await cache.fetchMany(['k', Buffer.from('k'), 'k'], load)) as { list: number[] }[];
    values[0]!.list.push(2);
    expect(values).toEqual([{ list: [1, 2] }, { list: [1] }, { list: [1] }]);
    expect(calls).toEqual([['k']]);
  });

  test('waits for keys that other calls load, in both directions', async () => {
    const single = deferred<unknown>();
    const { load, loads } = handLoader();
    const first = cache.fetch('a', () => single.promise);
    const many = cache.fetchMany(['a', 'b'], load);
    const last = cache.fetch('b', notCalled);
    await null;
    expect(loads.map(({ keys }) => keys)).toEqual([['b']]);
    loads[0]!.resolve(['of many']);
    single.resolve('of one');
    expect(await Promise.all([first, many, last])).toEqual(['of one', ['of one', 'of many'], 'of many']);
    expect(cache.stats()).toMatchObject({ fetchLoads: 2, fetchJoins: 2, fetchFlights: 0 });
  });

  test('takes the answer as an array, or as a Map that may have keys in other forms and more of them', async () => {
    const [a, b] = [Buffer.from('a'), 'ü'];
    expect(await cache.fetchMany([a, b], async () => [1, 2])).toEqual([1, 2]);
    cache.clear();
    const answer = new Map<Key, unknown>([
      ['a', 1],
      [new TextEncoder().encode('ü'), 2],
      ['more', 3],
    ]);
    expect(await cache.fetchMany([a, b], () => answer)).toEqual([1, 2]);
    expect(cache.has('more')).toBe(false);
  });

  test('returns undefined for keys that have no value, stores nothing for them, and asks again', async () => {
    const loader = async () =>
      new Map<Key, unknown>([
        ['a', 1],
        ['b', undefined],
        ['c', null],
      ]);
    expect(await cache.fetchMany(['a', 'b', 'c', 'd'], loader)).toEqual([1, undefined, null, undefined]);
    expect(cache.getMany(['a', 'b', 'c', 'd'])).toEqual([1, undefined, null, undefined]);
    const { load, calls } = valueLoader();
    await cache.fetchMany(['a', 'b', 'c', 'd'], load);
    expect(calls).toEqual([['b', 'd']]);
  });

  test('gives more keys than batchSize to several calls of the loader', async () => {
    const { load, calls } = valueLoader();
    const keys = Array.from({ length: 2500 }, (_, i) => `k${i}`);
    expect(await cache.fetchMany(keys, load)).toEqual(keys.map((key) => `value of ${key}`));
    expect(calls.map((each) => each.length)).toEqual([1000, 1000, 500]);
    cache.clear();
    expect(await cache.fetchMany(['a', 'b', 'c'], load, { batchSize: 2 })).toHaveLength(3);
    expect(calls.slice(3)).toEqual([['a', 'b'], ['c']]);
  });

  test('counts the options of fetch for each key', async () => {
    const options: FetchManyOptions = { ttl: (value) => (value === 'value of a' ? 100 : 200), staleIfError: '1h' };
    const { load, calls } = valueLoader();
    await cache.fetchMany(['a', 'b'], load, options);
    expect([cache.getRemainingTTL('a'), cache.getRemainingTTL('b')]).toEqual([100, 200]);
    now = 100;
    const fail = () => Promise.reject(new Error('down'));
    expect(await cache.fetchMany(['a', 'b'], fail, options)).toEqual(['value of a', 'value of b']);
    await cache.fetchMany(['b', 'a'], load, { forceRefresh: true });
    expect(calls.slice(1)).toEqual([['b', 'a']]);
    const { load: loadLater, loads } = handLoader();
    const call = cache.fetchMany(['a', 'c'], loadLater, { forceRefresh: true });
    await null;
    expect(loads[0]!.stale).toEqual(['value of a', undefined]);
    loads[0]!.resolve(['new', 'c']);
    expect(await call).toEqual(['new', 'c']);
  });

  test('refreshes in the background what is due, with what is missing, by one call', async () => {
    const options = { ttl: 100, staleWhileRevalidate: '1h', refreshAhead: 10 };
    await cache.fetchMany(['stale'], () => ['old'], options);
    now = 20;
    await cache.fetchMany(['ahead', 'fresh'], () => ['old', 'old'], { ...options, ttl: 90 });
    await cache.fetchMany(['fresh'], () => ['old'], { ...options, forceRefresh: true });
    now = 105;
    const { load, loads } = handLoader();
    const call = cache.fetchMany(['stale', 'ahead', 'fresh', 'missing'], load, options);
    await null;
    expect(loads.map(({ keys }) => [...keys].sort())).toEqual([['ahead', 'missing', 'stale']]);
    loads[0]!.resolve(new Map(loads[0]!.keys.map((key) => [key, `new ${key}`])));
    expect(await call).toEqual(['old', 'old', 'old', 'new missing']);
    expect(cache.getMany(['stale', 'ahead', 'fresh'])).toEqual(['new stale', 'new ahead', 'old']);
  });

  test('never gives a stale value to a call that asks for none', async () => {
    await cache.fetchMany(['a', 'b'], () => ['old', 'old'], { ttl: 100, staleIfError: '1h' });
    now = 100;
    expect(await cache.fetchMany(['a'], ({ stale }) => [stale], { ttl: 100 })).toEqual([[undefined]]);
    const ahead = cache.fetchMany(['b'], () => Promise.reject(new Error('down')), { refreshAhead: 5 });
    await expect(ahead).rejects.toThrow('down');
  });

  test('stores nothing for a key that is written during the load', async () => {
    const { load, loads } = handLoader();
    const call = cache.fetchMany(['a', 'b'], load);
    await null;
    cache.set('a', 'written');
    loads[0]!.resolve(['loaded', 'loaded']);
    expect(await call).toEqual(['loaded', 'loaded']);
    expect(cache.getMany(['a', 'b'])).toEqual(['written', 'loaded']);
  });

  test('loads again what this handle cannot decode', async () => {
    using json = new Cache({ raw: 'json' });
    json.set('bad', Buffer.from('{'));
    json.set('good', Buffer.from('{}'));
    expect(await json.fetchMany(['good', 'bad'], () => ['repaired'])).toEqual([{}, 'repaired']);
  });

  test('uses the loader of the handle, for each key, where the call brings none', async () => {
    using single = new Cache<string>({ loader: ({ key }) => (key === 'bad' ? undefined : `value of ${key}`) });
    expect(await single.fetchMany(['a', 'bad'])).toEqual(['value of a', undefined]);
    expect(await single.fetchMany(['b'], { ttl: '1h' })).toEqual(['value of b']);
    expect(single.getRemainingTTL('b')).toBeLessThanOrEqual(3_600_000);
    await expect(single.fetchMany(['a'], { collect: 5 } as never)).rejects.toThrow(withCode('ERR_INVALID_ARGUMENT'));
    await expect(cache.fetchMany(['a'])).rejects.toThrow(withCode('ERR_INVALID_ARGUMENT', /option loader/));
  });

  test('finds a loader that waits for a key that it loads', async () => {
    const loader: ManyLoader<unknown> = ({ keys }) => cache.fetchMany([...keys].reverse(), loader);
    await expect(cache.fetchMany(['a', 'b'], loader)).rejects.toThrow(
      withCode('ERR_FETCH_CIRCLE', /loader of "b" asks for the same key/),
    );
    const outer = async () => [1, await cache.fetch('one', notCalled)];
    const one = cache.fetch('one', () => cache.fetchMany(['x', 'y'], outer));
    await expect(one).rejects.toThrow(withCode('ERR_FETCH_CIRCLE', /"one", whose loader asks for "x"/));
    expect(cache.stats().fetchFlights).toBe(0);
  });

  test('has the types of the values', async () => {
    using numbers = new Cache<number>();
    const values = await numbers.fetchMany(['a'], async ({ keys, stale }) => {
      expectTypeOf(stale).toEqualTypeOf<readonly (number | undefined)[]>();
      return new Map(keys.map((key) => [key, 1]));
    });
    expectTypeOf(values).toEqualTypeOf<(number | undefined)[]>();
    const settled = await numbers.fetchManySettled(['a', 'b'], () => [new Error('no')]);
    expectTypeOf(settled).toEqualTypeOf<PromiseSettledResult<number | undefined>[]>();
    // @ts-expect-error: this is no number.
    await numbers.fetchMany(['c'], () => ['text']);
    const one = await numbers.fetch('d', ({ keys }) => keys.map(() => 1), { collect: 0 });
    expectTypeOf(one).toEqualTypeOf<number | undefined>();
  });
});

describe('the load of a key that fails', () => {
  const loader = () =>
    new Map<Key, unknown>([
      ['a', 1],
      ['b', new RangeError('no b')],
      ['c', () => {}],
    ]);

  test('leaves the others alone; the first error in the order of the keys rejects the call', async () => {
    await expect(cache.fetchMany(['a', 'b', 'c'], loader)).rejects.toThrow(new RangeError('no b'));
    expect(cache.get('a')).toBe(1);
    await expect(cache.fetchMany(['c', 'b'], loader)).rejects.toThrow(withCode('ERR_VALUE_NOT_STORABLE'));
  });

  test('is told of each key by fetchManySettled', async () => {
    cache.set('d', 'stored');
    expect(await cache.fetchManySettled(['a', 'b', 'c', 'd', 'e'], loader)).toEqual([
      { status: 'fulfilled', value: 1 },
      { status: 'rejected', reason: new RangeError('no b') },
      { status: 'rejected', reason: withCode('ERR_VALUE_NOT_STORABLE') },
      { status: 'fulfilled', value: 'stored' },
      { status: 'fulfilled', value: undefined },
    ]);
  });

  test('fails another call that waits for it, and no other', async () => {
    const { load, loads } = handLoader();
    const many = cache.fetchManySettled(['a', 'b'], load);
    const [a, b] = [cache.fetch('a', notCalled), cache.fetch('b', notCalled)];
    await null;
    loads[0]!.resolve([1, new RangeError('no b')]);
    await expect(b).rejects.toThrow('no b');
    expect(await a).toBe(1);
    expect(await many).toMatchObject([{ status: 'fulfilled' }, { status: 'rejected' }]);
  });

  test.for([
    [
      'throws',
      () => {
        throw new RangeError('down');
      },
    ],
    ['rejects', () => Promise.reject(new RangeError('down'))],
  ] as [string, ManyLoader<unknown>][])('because the loader %s fails all of its keys', async ([, load]) => {
    cache.set('b', 'stored');
    const results = await cache.fetchManySettled(['a', 'b', 'c'], load);
    expect(results.map(({ status }) => status)).toEqual(['rejected', 'fulfilled', 'rejected']);
    await expect(cache.fetchMany(['a', 'b'], load)).rejects.toThrow('down');
    expect(cache.stats().fetchFlights).toBe(0);
  });

  test.for([
    ['nothing', undefined, /got undefined/],
    ['an object', { a: 1 }, /a Map by key, or an array of 2 values/],
    ['too few values', [1], /got an array of 1/],
    ['a Map with keys that are no keys', new Map([[1, 1]]), /each key of the Map/],
  ] as [string, never, RegExp][])(
    'because the loader returned %s is the fault of the loader',
    async ([, answer, text]) => {
      const call = cache.fetchMany(['a', 'b'], () => answer);
      await expect(call).rejects.toThrow(withCode('ERR_INVALID_ARGUMENT', text));
    },
  );
});

describe('a wrong argument refuses the call before anything is loaded', () => {
  test.for([
    ['keys', [5, notCalled], /keys/],
    ['text as keys', ['abc', notCalled], /keys/],
    ['a key', [['a', 5], notCalled], /key/],
    ['a key of stale ones', [['a', ''], notCalled, { staleIfError: '1h' }], /key/],
    ['the loader', [['a'], 'load'], /loader/],
    ['an option', [['a'], notCalled, { bachSize: 5 }], /did you mean batchSize/],
    ['batchSize', [['a'], notCalled, { batchSize: 0 }], /batchSize/],
    ['a large batchSize', [['a'], notCalled, { batchSize: 65_537 }], /batchSize/],
    ['collect', [['a'], notCalled, { collect: -1 }], /collect/],
    ['collect beyond timers', [['a'], notCalled, { collect: '30d' }], /collect/],
    ['options', [['a'], notCalled, 5], /options/],
  ] as [string, [never, never, never], RegExp][])('%s', async ([, [keys, load, options], text]) => {
    for (const verb of ['fetchMany', 'fetchManySettled'] as const) {
      await expect(cache[verb](keys, load, options)).rejects.toThrow(withCode('ERR_INVALID_ARGUMENT', text));
    }
    expect(cache.stats().fetchLoads).toBe(0);
  });

  test('batchSize without collect, for one key', async () => {
    const call = cache.fetch('k', notCalled, { batchSize: 5 } as never);
    await expect(call).rejects.toThrow(withCode('ERR_INVALID_ARGUMENT', /collect/));
  });
});

describe('a caller that stops waiting', () => {
  test('by its signal aborts the load if no other call waits for any of the keys', async () => {
    const { load, loads } = handLoader();
    const controller = new AbortController();
    const many = cache.fetchMany(['a', 'b'], load, { signal: controller.signal });
    await null;
    const other = cache.fetch('b', notCalled);
    controller.abort('enough');
    await expect(many).rejects.toBe('enough');
    expect(loads[0]!.signal.aborted).toBe(false);
    loads[0]!.resolve([1, 2]);
    expect(await other).toBe(2);
    expect(cache.has('a')).toBe(false);

    const again = new AbortController();
    const last = cache.fetchMany(['c', 'd'], load, { signal: again.signal });
    await null;
    again.abort('enough');
    await expect(last).rejects.toBe('enough');
    expect(loads[1]!.signal).toMatchObject({ aborted: true, reason: 'enough' });
    expect(cache.stats().fetchFlights).toBe(0);
  });

  test('before the loader is called leaves its keys out', async () => {
    const { load, calls } = valueLoader();
    const controller = new AbortController();
    const left = cache.fetchMany(['a'], load, { signal: controller.signal });
    const stays = cache.fetchMany(['b'], load);
    controller.abort('enough');
    await expect(left).rejects.toBe('enough');
    expect(await stays).toEqual(['value of b']);
    expect(calls).toEqual([['b']]);
  });

  test('by its timeout has the values that came in time in fetchManySettled', async () => {
    vi.useFakeTimers({ toFake: ['setTimeout', 'clearTimeout'] });
    const { load, loads } = handLoader();
    const call = cache.fetchManySettled(['a', 'b', 'c'], load, { batchSize: 2, timeout: 100 });
    await null;
    loads[0]!.resolve([1, 2]);
    await vi.waitUntil(() => cache.has('b'));
    vi.advanceTimersByTime(100);
    expect(await call).toEqual([
      { status: 'fulfilled', value: 1 },
      { status: 'fulfilled', value: 2 },
      { status: 'rejected', reason: withCode('ERR_TIMEOUT', /"c" within 100 ms/) },
    ]);
    expect(loads[1]!.signal.aborted).toBe(true);
    expect(vi.getTimerCount()).toBe(0);
  });

  test('by its soft timeout gets stale values where there are, and the load goes on', async () => {
    vi.useFakeTimers({ toFake: ['setTimeout', 'clearTimeout'] });
    const options = { ttl: 100, staleIfError: '1h', softTimeout: 50, timeout: 200 };
    await cache.fetchMany(['a', 'b'], () => ['old a', 'old b'], options);
    now = 100;
    const { load, loads } = handLoader();
    const call = cache.fetchManySettled(['a', 'missing', 'b'], load, options);
    await null;
    vi.advanceTimersByTime(50);
    loads[0]!.resolve(['new a', 'new', 'new b']);
    expect(await call).toMatchObject([{ value: 'old a' }, { value: 'new' }, { value: 'old b' }]);
    expect(cache.getMany(['a', 'b'])).toEqual(['new a', 'new b']);
    expect(vi.getTimerCount()).toBe(0);
  });

  test('by its signal leaves the loads of the keys that have stale values by then to go on', async () => {
    vi.useFakeTimers({ toFake: ['setTimeout', 'clearTimeout'] });
    const controller = new AbortController();
    const options = { ttl: 100, staleIfError: '1h', softTimeout: 50, signal: controller.signal };
    await cache.fetchMany(['a'], () => ['old a'], options);
    now = 100;
    const { load, loads } = handLoader();
    const call = cache.fetchManySettled(['a', 'missing'], load, options);
    await null;
    vi.advanceTimersByTime(50);
    controller.abort('enough');
    expect(await call).toMatchObject([{ value: 'old a' }, { reason: 'enough' }]);
    expect(loads[0]!.signal.aborted).toBe(false);
    loads[0]!.resolve(['new a', 'too late']);
    await vi.waitUntil(() => cache.get('a') === 'new a');
    expect(cache.has('missing')).toBe(false);
  });

  test('listens to its signal once, whatever the number of keys, and leaves nothing on it', async () => {
    const { signal } = new AbortController();
    const add = vi.spyOn(signal, 'addEventListener');
    const remove = vi.spyOn(signal, 'removeEventListener');
    await cache.fetchMany(['a', 'b', 'c'], valueLoader().load, { signal });
    expect([add.mock.calls.length, remove.mock.calls.length]).toEqual([1, 1]);
  });
});

describe('collect', () => {
  beforeEach(() => vi.useFakeTimers({ toFake: ['setTimeout', 'clearTimeout'] }));

  test('collects the misses of all calls with one loader in its time into one call', async () => {
    const { load, calls } = valueLoader();
    const options = { collect: '2ms' };
    const other = valueLoader();
    const first = [cache.fetch('a', load, options), cache.fetchWithInfo('b', load, options)];
    vi.advanceTimersByTime(1);
    const second = [cache.fetch('a', load, options), cache.fetchMany(['b', 'c'], load, options)];
    const apart = cache.fetch('d', other.load, options);
    expect(calls).toEqual([]);
    vi.advanceTimersByTime(1);
    expect(calls).toEqual([['a', 'b', 'c']]);
    vi.advanceTimersByTime(1);
    expect(other.calls).toEqual([['d']]);
    const info = { value: 'value of b', outcome: 'miss', ttl: Number.POSITIVE_INFINITY, staleFor: 0 };
    expect(await Promise.all(first)).toEqual(['value of a', info]);
    expect(await Promise.all(second)).toEqual(['value of a', ['value of b', 'value of c']]);
    expect(await apart).toBe('value of d');
    expect(await cache.fetch('a', notCalled, options)).toBe('value of a');
    expect(vi.getTimerCount()).toBe(0);
  });

  test('keeps the bytes of a key as they were when the call was made', async () => {
    const { load, calls } = valueLoader();
    const key = Buffer.from('a');
    const call = cache.fetch(key, load, { collect: 2 });
    key[0] = 0x62;
    vi.advanceTimersByTime(2);
    expect(await call).toBe('value of a');
    expect(calls).toEqual([[Buffer.from('a')]]);
    expect(cache.get('a')).toBe('value of a');
  });

  test('ends when the batch is full', async () => {
    const { load, calls } = valueLoader();
    const options = { collect: '1h', batchSize: 2 };
    const pair = [cache.fetch('a', load, options), cache.fetch('b', load, options)];
    const third = cache.fetch('c', load, options);
    expect(calls).toEqual([['a', 'b']]);
    expect(await Promise.all(pair)).toEqual(['value of a', 'value of b']);
    vi.advanceTimersByTime(3_600_000);
    expect(await third).toBe('value of c');
  });

  test('of 0 collects the calls that are made together', async () => {
    const { load, calls } = valueLoader();
    const together = [cache.fetch('a', load, { collect: 0 }), cache.fetch('b', load, { collect: 0 })];
    expect(await Promise.all(together)).toEqual(['value of a', 'value of b']);
    await cache.fetch('c', load, { collect: 0 });
    expect(calls).toEqual([['a', 'b'], ['c']]);
  });

  test('ends when a call with other terms comes, which begins a new batch', async () => {
    const { load, calls } = valueLoader();
    const first = cache.fetch('a', load, { collect: '1h' });
    const second = cache.fetch('b', load, { collect: '1m' });
    expect(calls).toEqual([['a']]);
    vi.advanceTimersByTime(60_000);
    expect(calls).toEqual([['a'], ['b']]);
    expect(await Promise.all([first, second])).toEqual(['value of a', 'value of b']);
  });

  test('stores each value as the call wants that brought its key', async () => {
    const { load } = valueLoader();
    const calls = [cache.fetch('a', load, { collect: 2, ttl: 10 }), cache.fetch('b', load, { collect: 2, ttl: 20 })];
    vi.advanceTimersByTime(2);
    await Promise.all(calls);
    expect([cache.getRemainingTTL('a'), cache.getRemainingTTL('b')]).toEqual([10, 20]);
  });

  test('does not call the loader if all callers have left, or the handle was closed', async () => {
    const options = { collect: '2ms', timeout: 1 };
    const late = cache.fetch('a', notCalled, options);
    vi.advanceTimersByTime(1);
    await expect(late).rejects.toThrow(withCode('ERR_TIMEOUT'));
    vi.advanceTimersByTime(1);
    const closed = cache.fetch('b', notCalled, { collect: '2ms' });
    void cache.close();
    await expect(closed).rejects.toThrow(withCode('ERR_CLOSED'));
    vi.advanceTimersByTime(2);
  });

  test('finds a circle through a batch that has not been loaded yet', async () => {
    const asking: ManyLoader<unknown> = async () => [await cache.fetch('c', notCalled)];
    const circle = cache.fetch('c', () => cache.fetch('d', asking, { collect: 2 }));
    vi.advanceTimersByTime(2);
    await expect(circle).rejects.toThrow(withCode('ERR_FETCH_CIRCLE', /"d" asks for "c", whose loader asks for "d"/));
    expect(cache.stats().fetchFlights).toBe(0);
  });

  test('refreshes together what is due at the same time', async () => {
    const options = { ttl: 100, refreshAhead: 50, collect: 2 };
    const { load, calls } = valueLoader();
    const missing = Promise.all(['a', 'b'].map((key) => cache.fetch(key, load, options)));
    vi.advanceTimersByTime(2);
    await missing;
    now = 60;
    await Promise.all(['a', 'b'].map((key) => cache.fetch(key, load, options)));
    vi.advanceTimersByTime(2);
    vi.useRealTimers();
    await idle();
    expect(calls).toEqual([
      ['a', 'b'],
      ['a', 'b'],
    ]);
    expect(cache.getRemainingTTL('b')).toBe(100);
  });
});

test('a clock that fails when values are stored fails the calls for them, and no other waits', async () => {
  let isBroken = false;
  const clock = () => {
    if (isBroken) throw new RangeError('no time');
    return 0;
  };
  using broken = new Cache({ clock });
  const { load, loads } = handLoader();
  const call = broken.fetchManySettled(['a', 'b'], load);
  await null;
  isBroken = true;
  loads[0]!.resolve([1, 2]);
  expect(await call).toMatchObject([{ reason: { message: 'no time' } }, { reason: { message: 'no time' } }]);
  isBroken = false;
});

test('when the cache is closed, a fetchMany that waits is rejected and its load aborted', async () => {
  const { load, loads } = handLoader();
  const many = cache.fetchMany(['a', 'b'], load);
  await null;
  void cache.close();
  await expect(many).rejects.toThrow(withCode('ERR_CLOSED'));
  expect(loads[0]!.signal.aborted).toBe(true);
  loads[0]!.resolve([1, 2]);
  await expect(cache.fetchMany(['a'], load)).rejects.toThrow(withCode('ERR_CLOSED'));
});
