// Reads through to a database by every door, with a Map for the database: a loader in this thread or in a worker takes
// the loads that callers of all threads have begun, and ends them with rows. Store and load table are the addon's own.

import { randomUUID } from 'node:crypto';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { Cache, serve } from '../../src/index.ts';
import { type LoadEnd, Loader, Loads, type PendingLoad } from '../../src/loads.ts';
import { type LoadHandle, loadsOf, type NativeHandle, native } from '../../src/native.ts';
import { resolveOptions } from '../../src/options.ts';
import { Codec } from '../../src/request/codec.ts';
import { withCode } from '../support/errors.ts';
import { MemcachedSocket } from '../support/memcached-socket.ts';
import { startThread, until } from '../support/threads.ts';

const ABSENT_MS = 60_000;

let name: string;
let owner: LoadHandle;
let cache: Cache;
let rows: Map<string, string>;
/** Keys of each round trip. */
let trips: string[][];
let loader: Loader | undefined;
let isPaused: boolean;

/** An owner's handle of a cache with a database. */
function openWithBackend(): LoadHandle {
  const { cache: resolved } = resolveOptions({ name, maxMemory: 16 * 2 ** 20 }, native.usableMemory);
  const handle = native.openCache({
    name: (process.env['CAIRN_NAME_PREFIX'] ?? '') + name,
    description: JSON.stringify(resolved),
    join: false,
    ready: true,
    ringBytes: 0,
    ttlMs: 0,
    memoryBytes: resolved.maxMemory,
    memoryBytesCeiling: 0,
    entriesMax: 0,
    shardCount: 2,
    valueBytesMax: 2 ** 20,
    trackAccess: false,
    siphash: false,
    hasBackend: true,
  }) as NativeHandle;
  return loadsOf(handle)!;
}

function endOf(id: number, key: string): LoadEnd {
  const row = rows.get(key);
  if (key.startsWith('bad')) return { kind: 'failed', id, why: 'the database is down' };
  if (row === undefined) return { kind: 'absent', id, forMs: ABSENT_MS };
  const isNumber = /^\d+$/.test(row);
  const value = { value: Buffer.from(row), codec: isNumber ? Codec.number : Codec.ascii };
  return { kind: 'value', id, ...value, clientFlags: 7, expiresWallMs: 0 };
}

/** Ends the loads that wait, in one round trip. */
function loadAll(): void {
  const loads = loader?.drain(1000) ?? [];
  if (loads.length === 0) return;
  trips.push(loads.map(({ key }) => String(key)));
  loader!.finish(loads.map(({ id, key }) => endOf(id, String(key))));
}

beforeEach(() => {
  name = `loads-${randomUUID()}`;
  owner = openWithBackend();
  cache = Cache.attach(name);
  rows = new Map();
  trips = [];
  isPaused = false;
  loader = new Loader(owner, () => {
    if (!isPaused) loadAll();
  });
});

afterEach(async () => {
  loader?.detach();
  await cache.destroy();
  owner.close();
});

const counts = (): Record<string, number> => {
  const [now, begun, joined, failed, refused] = owner.loadCounts()!;
  return { now, begun, joined, failed, refused };
};

describe('promised verbs', () => {
  test('wait for the value that only the database has', async () => {
    rows.set('a', 'one').set('n', '41').set('b', 'two');
    expect(await cache.promises.get('a')).toBe('one');
    expect(cache.get('a')).toBe('one');
    expect(cache.get('b')).toBe(undefined);
    expect(await cache.promises.has('b')).toBe(true);
    expect(await cache.promises.info('n')).toMatchObject({ flags: 7 });
    expect(await cache.promises.incr('n', 1)).toBe(42);
    expect(await cache.promises.take('b')).toBe('two');
    expect(trips).toEqual([['a'], ['b'], ['n']]);
  });

  test('find a key absent that the database does not have', async () => {
    expect(await cache.promises.get('a')).toBe(undefined);
    expect(await cache.promises.add('a', 'new')).toBe('stored');
    expect(await cache.promises.replace('b', 'x')).toBe('not-stored');
    expect(await cache.promises.touch('c', 1000)).toBe(false);
    expect(await cache.promises.incr('d', 1)).toBe(undefined);
    expect(trips).toEqual([['a'], ['b'], ['c'], ['d']]);
    // Known to be absent.
    expect(await cache.promises.get('b')).toBe(undefined);
    expect(trips).toHaveLength(4);
  });

  test('send a value again as it was when the call was made', async () => {
    rows.set('a', 'one').set('b', 'two');
    const bytes = Buffer.from('-more');
    const key = Buffer.from('a');
    const appended = cache.promises.append(key, bytes);
    bytes.fill('x');
    key.fill('b');
    const large = 'L'.repeat(100_000);
    const replaced = cache.promises.replace('b', large);
    expect(await appended).toBe('stored');
    expect(await replaced).toBe('stored');
    expect(cache.get('a')).toBe('one-more');
    expect(cache.get('b')).toBe(large);
    expect(await cache.promises.add('a', 'x')).toBe('not-stored');
    expect(await cache.promises.cas('a', 'x', 1n)).toBe('exists');
  });

  test('share one load, and many keys one round trip', async () => {
    isPaused = true;
    const keys = Array.from({ length: 500 }, (_, i) => `key${i}`);
    for (const key of keys) if (key !== 'key7') rows.set(key, `value of ${key}`);
    cache.set('key3', 'in memory');
    const calls = [cache.promises.getMany(keys), cache.promises.getMany(keys), cache.promises.get('key1')];
    await until(() => counts()['now'] === 499);
    loadAll();
    const expected = keys.map((key) => rows.get(key));
    expected[3] = 'in memory';
    expect(await Promise.all(calls)).toEqual([expected, expected, 'value of key1']);
    expect(trips).toHaveLength(1);
    expect(counts()).toMatchObject({ now: 0, begun: 499 });
  });

  test('reject with the reason of a load that failed, and do nothing', async () => {
    rows.set('a', '1');
    const why = { message: expect.stringContaining('the database is down') };
    await expect(cache.promises.get('bad')).rejects.toThrow(withCode('ERR_NOT_RESIDENT'));
    await expect(cache.promises.append('bad', 'x')).rejects.toMatchObject(why);
    await expect(cache.promises.getMany(['a', 'bad2', 'bad3'])).rejects.toMatchObject(why);
    expect(cache.size).toBe(1);
    expect(cache.promises.stats()).toMatchObject({ requests: 0, bytes: 0 });
    // A write needs no load, and ends the trouble.
    expect(await cache.promises.set('bad', 'good')).toBe('stored');
    expect(await cache.promises.get('bad')).toBe('good');
  });

  test('stop waiting when their time is over or their signal is aborted, with nothing done', async () => {
    isPaused = true;
    rows.set('a', '1').set('b', '2');
    const error = await cache.promises.append('a', 'x'.repeat(1000), { timeout: 30 }).catch((e: unknown) => e);
    expect(error).toMatchObject({ code: 'ERR_TIMEOUT', message: expect.stringContaining('it was not done') });
    const controller = new AbortController();
    const aborted = cache.promises.getMany(['a', 'b'], { signal: controller.signal });
    await until(() => counts()['begun'] === 2);
    controller.abort(new Error('enough'));
    await expect(aborted).rejects.toThrow('enough');
    expect(cache.promises.stats()).toMatchObject({ requests: 0, bytes: 0 });
    // The loads go on for later requests.
    expect(counts()['now']).toBe(2);
    loadAll();
    expect([cache.get('a'), cache.get('b')]).toEqual([1, 2]);
  });

  test('are refused when their value leaves memory again and again', async () => {
    isPaused = true;
    const call = cache.promises.get('a');
    const settled = call.catch((error: unknown) => error);
    for (let tries = 1; tries <= 4; tries++) {
      let loads: PendingLoad[] = [];
      await until(() => {
        loads = loader!.drain(1);
        return loads.length === 1;
      });
      loader!.finish(loads.map(({ id }) => ({ kind: 'again', id })));
    }
    expect(await settled).toMatchObject({ code: 'ERR_NOT_RESIDENT' });
    expect(counts()).toMatchObject({ now: 0, begun: 4 });
  });

  test('see a write that came while they waited', async () => {
    isPaused = true;
    rows.set('a', 'old');
    const waiting = cache.promises.get('a');
    await until(() => counts()['now'] === 1);
    cache.set('a', 'new');
    loadAll();
    expect(await waiting).toBe('new');
    expect(cache.get('a')).toBe('new');
  });

  test('are finished by close(), and refused by destroy()', async () => {
    isPaused = true;
    rows.set('a', '1');
    const waiting = cache.promises.get('a');
    await until(() => counts()['now'] === 1);
    const closed = cache.close();
    loadAll();
    expect(await waiting).toBe(1);
    await closed;
    cache = Cache.attach(name);
    const refused = cache.promises.get('b');
    const other = cache.fetch('c');
    await until(() => counts()['now'] === 2);
    const both = Promise.allSettled([refused, other]);
    await cache.destroy();
    for (const each of await both) expect(each).toMatchObject({ reason: { code: 'ERR_CLOSED' } });
  });

  test('are rejected when the owner closes the cache', async () => {
    isPaused = true;
    const waiting = Promise.allSettled([cache.promises.get('a'), cache.fetch('b')]);
    await until(() => counts()['now'] === 2);
    owner.close();
    for (const each of await waiting) expect(each).toMatchObject({ reason: { code: 'ERR_CLOSED' } });
    loader = undefined;
  });
});

describe('fetch', () => {
  test('without a loader gives the value of the database, or undefined', async () => {
    rows.set('a', 'one');
    expect(await cache.fetch('a')).toBe('one');
    expect(await cache.fetch('none')).toBe(undefined);
    expect(await cache.fetchWithInfo('a')).toMatchObject({ value: 'one', outcome: 'hit' });
    await expect(cache.fetch('bad')).rejects.toThrow(withCode('ERR_NOT_RESIDENT'));
    using plain = new Cache();
    await expect(plain.fetch('a')).rejects.toThrow(withCode('ERR_INVALID_ARGUMENT'));
  });

  test('calls its loader for a key that the database does not have', async () => {
    rows.set('a', 'one');
    const loads: string[] = [];
    const load = ({ key }: { key: unknown }): string => {
      loads.push(String(key));
      return `loaded ${key}`;
    };
    expect(await cache.fetch('a', load)).toBe('one');
    expect(await cache.fetch('b', load)).toBe('loaded b');
    expect(await cache.fetch('b', load)).toBe('loaded b');
    expect(await cache.fetch('a', load, { forceRefresh: true })).toBe('loaded a');
    expect(loads).toEqual(['b', 'a']);
  });

  test('waits no longer than its time', async () => {
    isPaused = true;
    await expect(cache.fetch('a', { timeout: 20 })).rejects.toThrow(withCode('ERR_TIMEOUT'));
    await expect(cache.fetch('a', { signal: AbortSignal.timeout(20) })).rejects.toThrow(/timeout/);
  });
});

describe('the port', () => {
  test('waits for values, and other connections do not', async () => {
    isPaused = true;
    rows.set('a', 'one').set('b', 'two').set('n', '7');
    const server = await serve(cache, { host: '127.0.0.1', port: 0 });
    try {
      const { port } = server.addresses[0] as { port: number };
      const waiting = await MemcachedSocket.open(port);
      const other = await MemcachedSocket.open(port);
      waiting.send('get a b c\r\nincr n 1\r\nget bad\r\nmn\r\n');
      await until(() => counts()['now'] === 5);
      expect(await other.ask('set x 0 0 1\r\n1\r\n')).toBe('STORED\r\n');
      isPaused = false;
      loadAll();
      expect(await waiting.ask('', 'MN\r\n')).toBe(
        'VALUE a 7 3\r\none\r\nVALUE b 7 3\r\ntwo\r\nEND\r\n8\r\nSERVER_ERROR the value could not be loaded\r\nMN\r\n',
      );
      // None of its loads waits for another.
      expect(trips.flat()).toEqual(['a', 'b', 'c', 'n', 'bad']);
      waiting.destroy();
      other.destroy();
    } finally {
      await server.close();
    }
  });
});

describe('the loader', () => {
  test('serves the waiting callers of other threads', async () => {
    rows.set('a', 'one');
    const thread = startThread(async ({ cairn, data, say }) => {
      const theirs = cairn.Cache.attach(data);
      say(await theirs.promises.getMany(['a', 'b']));
      say(await theirs.fetch('a'));
      await theirs.close();
    }, name);
    expect(await thread.next()).toEqual(['one', undefined]);
    expect(await thread.next()).toBe('one');
    await thread.exit;
  });

  test('may be a thread that dies: its loads wait for the next one', async () => {
    loader!.detach();
    loader = undefined;
    const thread = startThread(async ({ data, say, hear, load }) => {
      const { native: addon } = (await load('native.js')) as unknown as { native: typeof native };
      const { Loader: TheirLoader } = (await load('loads.js')) as unknown as { Loader: typeof Loader };
      const handle = addon.attachById(data) as LoadHandle;
      const taken: { id: number; key: Buffer }[] = [];
      const its = new TheirLoader(handle, () => {
        taken.push(...its.drain(10));
        if (taken.length === 2) say(taken.map(({ key }) => String(key)));
      });
      await hear();
      its.finish([
        { kind: 'value', id: taken[0]!.id, value: taken[0]!.key, codec: 1, clientFlags: 0, expiresWallMs: 0 },
      ]);
      await hear();
    }, owner.cacheId);
    const first = cache.promises.get('a');
    const second = cache.promises.get('b');
    expect(((await thread.next()) as string[]).sort()).toEqual(['a', 'b']);
    thread.tell('finish the first');
    const answered = await Promise.race([first.then(() => 'a'), second.then(() => 'b')]);
    await thread.worker.terminate();
    await thread.exit.catch(() => {});
    expect(counts()['now']).toBe(1);
    rows.set('a', 'next').set('b', 'next');
    loader = new Loader(owner, loadAll);
    expect([await first, await second].sort()).toEqual([answered, 'next']);
  });

  test('that is detached takes nothing more, and its late answers are ignored', async () => {
    isPaused = true;
    const waiting = cache.promises.get('a');
    await until(() => counts()['now'] === 1);
    const first = loader!;
    const [taken] = first.drain(1);
    first.detach();
    rows.set('a', 'next');
    loader = new Loader(owner, () => {
      first.finish([{ ...endOf(taken!.id, 'bad'), id: taken!.id }]);
      expect(first.drain(1)).toEqual([]);
      loadAll();
    });
    expect(await waiting).toBe('next');
  });

  test('that will not come: waiting callers are told why', async () => {
    loader!.detach();
    loader = undefined;
    const waiting = cache.promises.get('a');
    await until(() => counts()['now'] === 1);
    owner.failLoads('the writer has ended');
    await expect(waiting).rejects.toThrow(/the writer has ended/);
    await expect(cache.promises.get('b')).rejects.toThrow(/the writer has ended/);
    rows.set('a', 'one');
    loader = new Loader(owner, loadAll);
    expect(await cache.promises.get('a')).toBe('one');
  });
});

describe('Loads', () => {
  test('load() resolves when all keys are there, and leaves all loads when one fails', async () => {
    rows.set('a', '1').set('b', '2').set('\uFFFD', '3');
    const loads = Loads.of(owner)!;
    await loads.load('Cannot read', ['a', 'b', 'a', Buffer.from('a'), '\uFFFD']);
    expect(cache.getMany(['a', 'b', '\uFFFD'])).toEqual([1, 2, 3]);
    await loads.load('Cannot read', []);
    isPaused = true;
    const failing = loads.load('Cannot read', ['bad', 'c']);
    await until(() => counts()['now'] === 2);
    const [bad] = loader!.drain(1);
    loader!.finish([endOf(bad!.id, 'bad')]);
    await expect(failing).rejects.toThrow('Cannot read: the value of "bad" was not loaded: the database is down');
    await expect(loads.load('Cannot read', ['c'], { timeoutMs: 10, signal: undefined })).rejects.toThrow(
      withCode('ERR_TIMEOUT'),
    );
  });

  test('is one for each handle, and none without a database', () => {
    expect(Loads.of(owner)).toBe(Loads.of(owner));
    using plain = new Cache({ name: `${name}-plain` });
    const handle = native.attachCache((process.env['CAIRN_NAME_PREFIX'] ?? '') + plain.name!) as NativeHandle;
    expect(Loads.of(handle)).toBe(undefined);
    handle.close();
  });
});
