// Names: two that open one at the same time, options that differ, a prefix for tests, and a clock that a test moves.
import { afterEach, describe, expect, test, vi } from 'vitest';
import { Cache, serve } from '../../src/index.ts';
import { DataDirectories } from '../support/data-directories.ts';
import { withCode } from '../support/errors.ts';
import { MemcachedSocket } from '../support/memcached-socket.ts';

const directories = new DataDirectories('naming');

describe('opening one name', () => {
  test('at the same time, the second waits and joins', async () => {
    const options = { name: 'shop', maxMemory: '8mb', data: directories.fresh() };
    const [first, second, third] = await Promise.all([Cache.open(options), Cache.open(options), Cache.open(options)]);
    first.set('a', 1);
    expect(second.get('a')).toBe(1);
    await first.close();
    expect(third.get('a')).toBe(1);
    await Promise.all([second.close(), third.close()]);
  });

  test('at the same time, the second opens the cache itself if the first fails', async () => {
    const good = { name: 'retried', maxMemory: '8mb', data: directories.fresh() };
    const holder = await Cache.open({ maxMemory: '8mb', data: directories.fresh() });
    const both = await Promise.allSettled([Cache.open({ ...good, data: holder.options.data! }), Cache.open(good)]);
    expect(both.map(({ status }) => status)).toEqual(['rejected', 'fulfilled']);
    expect((both[0] as PromiseRejectedResult).reason).toEqual(
      withCode('ERR_LOG_LOCKED', /of several processes \(cluster, PM2\) each needs its own directory/),
    );
    await (both[1] as PromiseFulfilledResult<Cache>).value.close();
    await holder.close();
  });

  test.each([
    [{ ttl: 5 }, /with the option ttl 600000 instead of 5:/],
    [{ maxMemory: '32mb' }, /with the option maxMemory 16777216 instead of 33554432:/],
    [{ maxEntries: 10 }, /with the option maxEntries 0 instead of 10:/],
    [{ hash: 'siphash' as const }, /with the option hash "fast" instead of "siphash":/],
  ])('with other options names the one that differs: %o', async (other, message) => {
    const options = { name: 'differs', maxMemory: '16mb', ttl: '10m' };
    const cache = await Cache.open(options);
    await expect(Cache.open({ ...options, ...other })).rejects.toThrow(withCode('ERR_NAME_TAKEN', message));
    expect(() => new Cache({ ...options, ...other })).toThrow(withCode('ERR_NAME_TAKEN', message));
    expect(() => new Cache(options)).toThrow(withCode('ERR_NAME_TAKEN', /Cache\.open with the same options joins/));
    const shown = await Cache.open(cache.options as never);
    await shown.close();
    await cache.close();
  });

  test('with data beside one without names data, and the other way round', async () => {
    const options = { name: 'without', maxMemory: '8mb' };
    const data = directories.fresh();
    const without = await Cache.open(options);
    await expect(Cache.open({ ...options, data })).rejects.toThrow(
      withCode('ERR_NAME_TAKEN', /with the option data none instead of "/),
    );
    await without.close();
    const logged = await Cache.open({ ...options, data });
    await expect(Cache.open(options)).rejects.toThrow(
      withCode('ERR_NAME_TAKEN', /with the option data ".*" instead of none/),
    );
    await logged.close();
  });

  test('with another option of the log names it', async () => {
    const options = { name: 'logged', maxMemory: '8mb', data: directories.fresh() };
    const cache = await Cache.open(options);
    await expect(Cache.open({ ...options, snapshot: { every: '2h' } })).rejects.toThrow(
      withCode('ERR_NAME_TAKEN', /snapshot\.every 3600000 instead of 7200000/),
    );
    await expect(Cache.open({ ...options, sync: '1h' })).rejects.toThrow(withCode('ERR_NAME_TAKEN', /sync "always"/));
    await cache.close();
  });
});

describe('CAIRN_NAME_PREFIX', () => {
  afterEach(() => {
    delete process.env['CAIRN_NAME_PREFIX'];
  });

  test('keeps names apart, and is not seen', async () => {
    process.env['CAIRN_NAME_PREFIX'] = 'file 1:';
    const one = new Cache({ name: 'users' });
    process.env['CAIRN_NAME_PREFIX'] = 'file 2:';
    const two = new Cache({ name: 'users' });
    expect(two.name).toBe('users');
    expect(two.options.name).toBe('users');
    expect(Cache.names).toEqual(['users']);
    two.set('a', 2);
    expect(Cache.attach('users').get('a')).toBe(2);
    process.env['CAIRN_NAME_PREFIX'] = 'file 1:';
    expect(Cache.attach(one.name).get('a')).toBeUndefined();
    expect(() => Cache.attach('other')).toThrow(withCode('ERR_NO_SUCH_CACHE', /open are "users"$/));
    await Promise.all([one.close(), two.close()]);
  });
});

describe('the option clock', () => {
  afterEach(() => vi.useRealTimers());

  test('moves the time of a cache with fake timers, for every verb and handle', async () => {
    vi.useFakeTimers({ now: 1_000_000 });
    const cache = new Cache({ name: 'timed', clock: () => Date.now() });
    const attached = Cache.attach('timed');
    cache.set('a', 1, { ttl: '1h' });
    attached.set('b', 2, { ttl: '2h' });
    vi.advanceTimersByTime(3_599_999);
    expect(cache.get('a')).toBe(1);
    expect(cache.getRemainingTTL('a')).toBe(1);
    vi.advanceTimersByTime(1);
    expect(cache.get('a')).toBeUndefined();
    expect(attached.getMany(['a', 'b'])).toEqual([undefined, 2]);
    expect([...cache.keys()]).toEqual(['b']);
    vi.setSystemTime(0);
    expect(cache.getRemainingTTL('b')).toBe(3_600_000);
    vi.advanceTimersByTime(100_000_000);
    vi.useRealTimers();
    expect(await cache.fetch('c', () => 3, { ttl: 5 })).toBe(3);
    expect(cache.has('b')).toBe(false);
    await cache.close();
  });

  test('moves it for promised verbs and dumps', async () => {
    let now = 0;
    const cache = new Cache({ clock: () => now });
    await cache.promises.set('a', 1, { ttl: 1000 });
    const dumped = Buffer.concat([...cache.dump()]);
    now = 999;
    expect(await cache.promises.get('a')).toBe(1);
    now = 1000;
    expect(await cache.promises.get('a')).toBeUndefined();
    now = 1050; // a dump has times of the wall clock, which differ by a millisecond
    cache.load(dumped);
    expect(cache.has('a')).toBe(false);
    await cache.close();
  });

  test('moves it for clients of the port', async () => {
    let now = 0;
    const cache = new Cache({ clock: () => now });
    const server = await serve(cache, { port: 0 });
    const [address] = server.addresses as readonly { port: number }[];
    const client = await MemcachedSocket.open(address!.port);
    cache.set('a', 'x', { ttl: 5000 });
    expect(await client.ask('set b 0 5 1\r\ny\r\n')).toBe('STORED\r\n');
    now = 4000; // memcached counts whole seconds by its own clock
    expect(await client.ask('get a b\r\n', 'END\r\n')).toBe('VALUE a 0 1\r\nx\r\nVALUE b 0 1\r\ny\r\nEND\r\n');
    now = 6000;
    expect(await client.ask('get a b\r\n', 'END\r\n')).toBe('END\r\n');
    client.destroy();
    await server.close();
    await cache.close();
  });

  test('has to give milliseconds', () => {
    expect(() => new Cache({ clock: 5 as never })).toThrow(withCode('ERR_INVALID_ARGUMENT', /clock.*function/));
    expect(() => new Cache({ clock: () => 'now' as never })).toThrow(withCode('ERR_INVALID_ARGUMENT', /clock/));
  });
});
