// The loader of a handle, for calls of fetch() that bring none, and functions that wrap() keeps the results of.

import { afterEach, beforeEach, describe, expect, expectTypeOf, test } from 'vitest';
import { Cache, type CacheOptions, type FetchInfo, type WrapOptions } from '../../src/index.ts';
import { withCode } from '../support/errors.ts';
import { deferred, until } from '../support/threads.ts';

interface User {
  name: string;
}

describe('the option loader', () => {
  test('loads for a fetch that brings no loader, with the options in its place', async () => {
    const loads: unknown[] = [];
    using cache = new Cache<string>({
      loader: ({ key, stale, signal }) => {
        loads.push([key, stale, signal.aborted]);
        return `value of ${key}`;
      },
    });
    expect(await cache.fetch('a')).toBe('value of a');
    expect(await cache.fetch('a')).toBe('value of a');
    expect(await cache.fetch('a', { forceRefresh: true })).toBe('value of a');
    expect(await cache.fetch('b', undefined as never, { ttl: 1000 })).toBe('value of b');
    expect(await cache.fetch('c', { ttl: '1h' })).toBe('value of c');
    expect(await cache.fetchWithInfo('d', { ttl: '1h' })).toMatchObject({ value: 'value of d', outcome: 'miss' });
    expect(await cache.fetchWithInfo('d')).toMatchObject({ value: 'value of d', outcome: 'hit' });
    expect(loads).toEqual([
      ['a', undefined, false],
      ['a', 'value of a', false],
      ['b', undefined, false],
      ['c', undefined, false],
      ['d', undefined, false],
    ]);
    expect(cache.getRemainingTTL('b')).toBeLessThanOrEqual(1000);
    expect(cache.getRemainingTTL('c')).toBeGreaterThan(3_500_000);
  });

  test('gives way to the loader of a call', async () => {
    using cache = new Cache<string>({ loader: () => expect.fail('loaded') });
    expect(await cache.fetch('k', () => 'of the call')).toBe('of the call');
  });

  test('is that of the handle: each handle of a cache brings its loader or none', async () => {
    using cache = new Cache<string>({ name: 'default loader', loader: () => 'of the owner' });
    using attached = Cache.attach<string>('default loader', { loader: () => 'of the attached' });
    using without = Cache.attach<string>('default loader');
    expect(await attached.fetch('a')).toBe('of the attached');
    expect(await cache.fetch('b')).toBe('of the owner');
    expect(without.get('a')).toBe('of the attached');
    await expect(without.fetch('c')).rejects.toThrow(withCode('ERR_INVALID_ARGUMENT', /without the option loader/));
    using joined = await Cache.open<string>({ name: 'opened', loader: () => 'first' });
    using again = await Cache.open<string>({ name: 'opened', loader: () => 'second' });
    expect([await joined.fetch('a'), await again.fetch('b')]).toEqual(['first', 'second']);
  });

  test('shares one load with calls that bring their own loader', async () => {
    const load = deferred<string>();
    using cache = new Cache<string>({ loader: () => load.promise });
    const calls = [cache.fetch('k'), cache.fetch('k', () => expect.fail('loaded'))];
    load.resolve('v');
    expect(await Promise.all(calls)).toEqual(['v', 'v']);
  });

  test.for([
    ['an option that does not exist', [{ tll: 5 }]],
    ['a loader that is no function', ['load']],
    ['null', [null]],
    ['options twice', [{ ttl: 5 }, { ttl: 5 }]],
  ] as [string, [never, never]][])('does not make up for %s', async ([, [loader, options]]) => {
    using cache = new Cache<string>({ loader: () => expect.fail('loaded') });
    await expect(cache.fetch('k', loader, options)).rejects.toThrow(withCode('ERR_INVALID_ARGUMENT'));
  });

  test('must be a function', () => {
    expect(() => new Cache({ loader: 'load' as never })).toThrow(withCode('ERR_INVALID_ARGUMENT', /loader/));
    expect(() => Cache.attach('x', { loader: 5 as never })).toThrow(withCode('ERR_INVALID_ARGUMENT', /loader/));
  });

  test('has the type of the values of the cache', async () => {
    const ada = { name: 'Ada' };
    using users = new Cache<User>({ loader: async () => ada });
    expectTypeOf(await users.fetch('k')).toEqualTypeOf<User | undefined>();
    expectTypeOf(await users.fetchWithInfo('k')).toEqualTypeOf<FetchInfo<User | undefined>>();
    // @ts-expect-error: this is no user.
    using wrong = new Cache<User>({ loader: () => 5 });
    expect(await wrong.fetch('k')).toBe(5);
    // Options without a loader are those of any cache.
    const options: CacheOptions = { maxMemory: '16mb' };
    using plain = new Cache(options);
    expectTypeOf(plain).toEqualTypeOf<Cache<unknown>>();
    using ofUsers = new Cache<User>(options);
    expect(ofUsers.size).toBe(0);
  });
});

describe('wrap', () => {
  let now: number;
  let cache: Cache;
  beforeEach(() => {
    now = 0;
    cache = new Cache({ maxMemory: '16mb', clock: () => now });
  });
  afterEach(() => cache.close());

  test('keeps the result of a function by the key of its arguments', async () => {
    const calls: unknown[] = [];
    const sum = cache.wrap(
      async (a: number, b: number) => {
        calls.push([a, b]);
        return a + b;
      },
      { key: (a, b) => `sum:${a}:${b}`, ttl: 100 },
    );
    expect([await sum(1, 2), await sum(1, 2), await sum(2, 2)]).toEqual([3, 3, 4]);
    expect(calls).toEqual([
      [1, 2],
      [2, 2],
    ]);
    expect(cache.get('sum:1:2')).toBe(3);
    now = 100;
    expect(await sum(1, 2)).toBe(3);
    expect(calls).toHaveLength(3);
  });

  test('calls the function once for calls at the same time, and gives each a copy', async () => {
    const load = deferred<{ list: number[] }>();
    let calls = 0;
    const wrapped = cache.wrap(
      () => {
        calls++;
        return load.promise;
      },
      { key: () => 'k' },
    );
    const both = [wrapped(), wrapped()];
    const value = { list: [1] };
    load.resolve(value);
    const [first, second] = await Promise.all(both);
    first!.list.push(2);
    expect([value, second, calls]).toEqual([{ list: [1] }, { list: [1] }, 1]);
  });

  test('takes the options of fetch', async () => {
    let loads = 0;
    const wrapped = cache.wrap(() => ++loads, { key: () => 'k', ttl: 100, staleWhileRevalidate: '1h' });
    expect(await wrapped()).toBe(1);
    now = 100;
    expect(await wrapped()).toBe(1);
    await until(() => cache.get('k') === 2);
  });

  test('moves the time of the cache as its methods do', async () => {
    const wrapped = cache.wrap(() => now, { key: () => 'k', ttl: 100 });
    await wrapped();
    now = 99;
    expect(await wrapped()).toBe(0);
    now = 100;
    expect(await wrapped()).toBe(100);
  });

  test('passes on errors of the function and of the key function', async () => {
    const wrapped = cache.wrap(
      (_id: string) => {
        throw new RangeError('no luck');
      },
      {
        key: (id) => {
          if (id === '') throw new TypeError('no id');
          return id;
        },
      },
    );
    await expect(wrapped('a')).rejects.toThrow(RangeError);
    await expect(wrapped('')).rejects.toThrow('no id');
    expect(cache.size).toBe(0);
    const keyless = cache.wrap(() => 1, { key: () => 5 as never });
    await expect(keyless()).rejects.toThrow(withCode('ERR_INVALID_ARGUMENT', /key/));
    cache.close();
    await expect(wrapped('a')).rejects.toThrow(withCode('ERR_CLOSED'));
  });

  test('keeps the name of the function, and does not pass on this', async () => {
    const seen: unknown[] = [];
    function find(this: unknown) {
      seen.push(this);
      return null;
    }
    const object = { find: cache.wrap(find, { key: () => 'k' }) };
    expect(object.find.name).toBe('find');
    await object.find();
    expect(seen).toEqual([undefined]);
  });

  test('finds a function that waits for itself', async () => {
    const wrapped: (id: number) => Promise<unknown> = cache.wrap((id: number) => wrapped(id % 2), {
      key: (id) => `k${id}`,
    });
    await expect(wrapped(2)).rejects.toThrow(withCode('ERR_FETCH_CIRCLE'));
  });

  test.for([
    ['no function', [5, { key: () => 'k' }], /fn to be a function/],
    ['the key first, as in other caches', ['k', () => 5], /fetch\(key, loader\)/],
    ['no options', [() => 5], /key to be a function/],
    ['no key function', [() => 5, { key: 'k' }], /key to be a function/],
    ['a wrong option', [() => 5, { key: () => 'k', tll: 5 }], /did you mean ttl/],
    ['a signal', [() => 5, { key: () => 'k', signal: AbortSignal.abort() }], /signal/],
    ['a wrong ttl', [() => 5, { key: () => 'k', ttl: -1 }], /ttl/],
  ] as [string, [never, never], RegExp][])('refuses %s', ([, [fn, options], message]) => {
    expect(() => cache.wrap(fn, options)).toThrow(withCode('ERR_INVALID_ARGUMENT', message));
  });

  test('keeps the types of arguments and result', async () => {
    const find = cache.wrap(async (id: number): Promise<User | undefined> => ({ name: `${id}` }), {
      key: (id) => {
        expectTypeOf(id).toEqualTypeOf<number>();
        return `user:${id}`;
      },
      ttl: (user) => {
        expectTypeOf(user).toEqualTypeOf<User | undefined>();
        return 5;
      },
    });
    expectTypeOf(find).toEqualTypeOf<(id: number) => Promise<User | undefined>>();
    expect(await find(7)).toEqual({ name: '7' });
    using users = new Cache<User>();
    // @ts-expect-error: this cache has users.
    users.wrap(() => 5, { key: () => 'k' });
    const options: WrapOptions<[string], User> = { key: (name) => name, jitter: '10%' };
    expect(await users.wrap((name: string) => ({ name }), options)('Eve')).toEqual({ name: 'Eve' });
  });
});
