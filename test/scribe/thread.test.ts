import { readdirSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import type { Cache, LogNotice } from '../../src/index.ts';
import { type FeedHandle, FeedState } from '../../src/native.ts';
import { RemoteScribe } from '../../src/scribe/index.ts';
import { DataDirectories, endThread, keeperOf, patiently } from '../support/data-directories.ts';
import { withCode } from '../support/errors.ts';
import { smallDisk } from '../support/small-disk.ts';
import { startThread, until } from '../support/threads.ts';

const data = new DataDirectories('thread');

function hear(cache: Cache): LogNotice[] {
  const heard: LogNotice[] = [];
  cache.on('log', (notice) => heard.push(notice));
  return heard;
}

test('caches that come and go leave nothing behind for the end of the process', async () => {
  const listeners = process.listenerCount('exit');
  for (let i = 0; i < 3; i++) {
    const cache = await data.open(data.fresh(), { snapshot: { atClose: false } });
    expect(process.listenerCount('exit')).toBe(listeners + 1);
    await cache.close();
  }
  expect(process.listenerCount('exit')).toBe(listeners);
});

test('sync() and snapshot() of another thread reject with ERR_CLOSED when the cache has just ended', async () => {
  const handle = {
    cacheId: 4711,
    shardCount: 1,
    feedState: () => FeedState.closed,
    readTargets() {},
    watchCommits() {},
    poke() {},
  };
  const remote = new RemoteScribe(handle as unknown as FeedHandle);
  await expect(remote.sync()).rejects.toThrow(withCode('ERR_CLOSED'));
  await expect(remote.snapshot()).rejects.toThrow(withCode('ERR_CLOSED'));
});

describe('a thread that dies', () => {
  test('is followed by another: nothing is lost, what waits is answered', async () => {
    const directory = data.fresh();
    const cache = await data.open(directory);
    const heard = hear(cache);
    for (let i = 0; i < 1000; i++) cache.set(`a${i}`, i);
    const keeper = keeperOf(cache);
    const died = endThread(keeper);
    for (let i = 0; i < 1000; i++) cache.set(`b${i}`, i);
    const synced = cache.sync();
    const promised = cache.promises.set('c', 1);
    const snapshot = cache.snapshot();
    await died;
    await Promise.all([synced, promised]);
    expect((await snapshot).entries).toBeGreaterThan(1999);
    expect(heard.map(({ kind }) => kind)).toContain('restarted');
    expect(cache.stats().log).toMatchObject({ state: 'running', starts: 2, recordsWaiting: 0 });
    await cache.close();
    const again = await data.open(directory);
    expect(again.size).toBe(2001);
    await again.close();
  });

  test('twice is not: waiting calls get ERR_LOG_IO, reads go on, and committed writes are there', async () => {
    const directory = data.fresh();
    const cache = await data.open(directory, { ringSize: '1mb' });
    const heard = hear(cache);
    const keeper = keeperOf(cache);
    cache.set('before', 1);
    await cache.sync();
    await endThread(keeper);
    await until(() => cache.stats().log?.starts === 2);
    const waits = cache.promises.set('waits', 1).catch((error) => error);
    const syncs = cache.sync().catch((error) => error);
    await endThread(keeper);
    expect(['stored', withCode('ERR_LOG_IO')]).toContainEqual(await waits);
    expect([undefined, withCode('ERR_LOG_IO')]).toContainEqual(await syncs);
    await until(() => heard.some(({ kind }) => kind === 'failed'));
    expect(cache.stats().log?.state).toBe('failed');
    await expect(cache.sync()).rejects.toThrow(withCode('ERR_LOG_IO'));
    await expect(cache.snapshot()).rejects.toThrow(withCode('ERR_LOG_IO'));
    await expect(cache.promises.set('logged', 1)).rejects.toThrow(withCode('ERR_LOG_IO'));
    expect(cache.get('before')).toBe(1);
    // Until the rings are full the cache takes writes, and then says why not.
    expect(() => {
      for (;;) cache.set('x', 'x'.repeat(10_000));
    }).toThrow(withCode('ERR_LOG_IO'));
    expect(cache.get('before')).toBe(1);
    await expect(cache.close()).rejects.toThrow(withCode('ERR_LOG_IO'));
    expect(cache.closed).toBe(true);
    const again = await data.open(directory);
    expect(again.get('before')).toBe(1);
    await again.close();
  });

  test('while it closes: another one writes the rest, and closes the log', async () => {
    const directory = data.fresh();
    const cache = await data.open(directory);
    for (let i = 0; i < 50_000; i++) await patiently(cache, () => cache.set(`k${i}`, i));
    const { thread } = keeperOf(cache);
    const closing = cache.close();
    await thread!.terminate();
    await closing;
    const again = await data.open(directory);
    expect(again.size).toBe(50_000);
    expect(again.recovery?.notices).toEqual([]);
    await again.close();
  });

  test('twice while it closes: close() rejects, and the directory is free', async () => {
    const directory = data.fresh();
    const cache = await data.open(directory);
    for (let i = 0; i < 50_000; i++) await patiently(cache, () => cache.set(`k${i}`, i));
    const keeper = keeperOf(cache);
    const { thread } = keeper;
    const closing = cache.close().then(
      () => undefined,
      (error) => error,
    );
    await thread!.terminate();
    await keeper.thread?.terminate();
    expect([undefined, withCode('ERR_LOG_IO')]).toContainEqual(await closing);
    const again = await data.open(directory);
    await again.close();
  });

  test('twice is a process warning if the cache has no listener for its log', async () => {
    const warnings: Error[] = [];
    const listen = (warning: Error): void => void warnings.push(warning);
    process.on('warning', listen);
    try {
      const cache = await data.open(data.fresh(), { name: 'warned' });
      const keeper = keeperOf(cache);
      for (let deaths = 0; deaths < 2; deaths++) await endThread(keeper);
      await until(() => warnings.some(({ message }) => /The log of the cache "warned"/.test(message)));
    } finally {
      process.off('warning', listen);
    }
  });
});

describe('a thread that has attached', () => {
  /** Does what it is told, and says how that went. */
  const attach = (name: string) =>
    startThread(async ({ cairn, data: name, say, hear }) => {
      const cache = cairn.Cache.attach(name);
      const verbs: Record<string, () => Promise<unknown>> = {
        sync: () => cache.sync(),
        snapshot: () => cache.snapshot(),
        'sync until it fails': async () => {
          say('syncing');
          for (;;) await cache.sync();
        },
        'sync and close': () => Promise.all([cache.sync(), cache.close()]),
      };
      say('ready');
      for (let verb = await hear(); verb !== 'end'; verb = await hear()) {
        cache.set(`by ${verb}`, 1);
        say(
          await verbs[verb as string]!().then(
            () => 'done',
            (error) => error.code,
          ),
        );
      }
    }, name);

  test('may ask for a sync and a snapshot, also of a thread that dies meanwhile', async () => {
    const directory = data.fresh();
    const cache = await data.open(directory, { name: 'asked', sync: 'none' });
    const thread = attach('asked');
    await thread.next();
    for (const verb of ['sync', 'snapshot']) {
      thread.tell(verb);
      expect(await thread.next()).toBe('done');
    }
    expect(cache.stats().log?.snapshots).toBe(1);
    const died = endThread(keeperOf(cache));
    thread.tell('sync');
    expect(await thread.next()).toBe('done');
    await died;
    thread.tell('end');
    await thread.exit;
    await cache.close();
  });

  test('gets ERR_LOG_IO from sync() and snapshot() once the log has failed', async () => {
    const cache = await data.open(data.fresh(), { name: 'told' });
    cache.on('log', () => {});
    const thread = attach('told');
    await thread.next();
    const keeper = keeperOf(cache);
    for (let deaths = 0; deaths < 2; deaths++) await endThread(keeper);
    for (const verb of ['sync', 'snapshot']) {
      thread.tell(verb);
      expect(await thread.next()).toBe('ERR_LOG_IO');
    }
    thread.tell('end');
    await thread.exit;
    await cache.destroy().catch(() => {});
  });

  test.each(['sync until it fails', 'sync and close'])(
    'is told when the cache, or its handle, is closed: %s',
    async (verb) => {
      const cache = await data.open(data.fresh(), { name: verb });
      const thread = attach(verb);
      await thread.next();
      thread.tell(verb);
      if (verb === 'sync until it fails') {
        await thread.next();
        await cache.close();
      }
      expect(await thread.next()).toBe('ERR_CLOSED');
      thread.tell('end');
      await thread.exit;
      await cache.close();
    },
  );
});

describe('a snapshot', () => {
  test('under load, with hits reordering everything, has every entry; writes of the meantime come from the log', async () => {
    const directory = data.fresh();
    const name = 'snapshot under load';
    const cache = await data.open<number>(directory, { name, shards: 2, maxMemory: '64mb' });
    for (let i = 0; i < 50_000; i++) await patiently(cache, () => cache.set(`k${i}`, i));
    const readers = [1, 2].map((seed) =>
      startThread(
        ({ cairn, data: [name, seed], say, hear }) => {
          const attached = cairn.Cache.attach<number>(name as string);
          let state = seed as number;
          let stop = false;
          void hear().then(() => {
            stop = true;
          });
          say('ready');
          const work = (): void => {
            for (let i = 0; i < 2000; i++) {
              state = (Math.imul(state, 1103515245) + 12345) >>> 0;
              attached.get(`k${state % 50_000}`);
            }
            if (stop) say('done');
            else setImmediate(work);
          };
          work();
        },
        [name, seed] as [string, number],
      ),
    );
    for (const reader of readers) await reader.next();
    const model = new Map(Array.from({ length: 50_000 }, (_, i) => [`k${i}`, i]));
    for (let round = 0; round < 3; round++) {
      const taken = cache.snapshot();
      let isTaken = false;
      void taken.then(() => {
        isTaken = true;
      });
      for (let i = 0; !isTaken; i++) {
        const key = `k${(i * 7919) % 50_000}`;
        await patiently(cache, () => cache.set(key, round * 100_000 + i));
        model.set(key, round * 100_000 + i);
        if (i % 500 === 0) await new Promise((resolve) => setImmediate(resolve));
      }
      expect((await taken).entries).toBeGreaterThanOrEqual(50_000);
    }
    for (const reader of readers) {
      reader.tell('stop');
      await reader.next();
      await reader.exit;
    }
    await cache.sync();
    await data.crash(cache as Cache);
    const again = await data.open<number>(directory, { maxMemory: '64mb' });
    expect(again.recovery?.snapshot).toBeDefined();
    expect(again.size).toBe(50_000);
    for (const [key, value] of model) expect(again.get(key), key).toBe(value);
    await again.close();
  });

  test('causes an event, is counted, and shortens the log', async () => {
    const directory = data.fresh();
    const cache = await data.open(directory, { segmentSize: 65_536, snapshot: { logBytes: '500kb' } });
    const heard = hear(cache);
    for (let i = 0; i < 20_000; i++) await patiently(cache, () => cache.set(`k${i % 100}`, 'x'.repeat(100)));
    await cache.sync();
    await until(() => heard.filter(({ kind }) => kind === 'snapshot').length >= 2);
    await cache.sync();
    const { log } = cache.stats();
    expect(log?.snapshots).toBeGreaterThanOrEqual(2);
    expect(log?.snapshotEntries).toBeGreaterThanOrEqual(100);
    expect(log?.snapshotAtMs).toBeGreaterThan(Date.now() - 60_000);
    expect(readdirSync(directory)).not.toContain('000000000001.log');
    await cache.close();
    const again = await data.open(directory);
    expect(again.size).toBe(100);
    await again.close();
  });
});

test('promised writes and syncs of many callers share the syncs of the disk', async () => {
  const cache = await data.open(data.fresh());
  const before = cache.stats().log!.syncs;
  await Promise.all(Array.from({ length: 2000 }, (_, i) => cache.promises.set(`k${i}`, i)));
  await cache.sync();
  const log = cache.stats().log!;
  expect(log.records).toBe(2000);
  expect(log.syncs - before).toBeLessThan(500);
  expect(log.recordsWaiting).toBe(0);
  await cache.close();
});

const small = smallDisk(join(data.root, 'small disk'));

// Leaves no room on the small disk but what the log has taken ahead, and writes until the cache says so; how many
// entries.
function fill(filler: string): void {
  try {
    writeFileSync(filler, Buffer.alloc(16 * 2 ** 20));
  } catch (error) {
    expect(error).toMatchObject({ code: 'ENOSPC' });
  }
}

async function fillUp(cache: Cache<string>, filler: string): Promise<number> {
  fill(filler);
  let written = 0;
  const write = (): string | undefined => {
    for (let i = 0; i < 100_000; i++) {
      try {
        cache.set(`k${written}`, 'x'.repeat(1000));
        written++;
      } catch (error) {
        return (error as Error).message;
      }
    }
    return undefined;
  };
  while (!/no room on the disk/.test(write() ?? '')) await new Promise((resolve) => setImmediate(resolve));
  return written;
}

small.condition.describe('a full disk', () => {
  test('refuses writes, clearly; reads go on; and takes them again when there is room', async () => {
    const filler = join(small.path, 'filler');
    const directory = join(small.path, 'log');
    const cache = await data.open<string>(directory, { ringSize: '1mb', shards: 1, snapshot: { atClose: false } });
    const heard = hear(cache as Cache);
    cache.set('first', 'value');
    await cache.sync();
    const written = await fillUp(cache, filler);
    expect(cache.stats().log).toMatchObject({ state: 'full', level: 'full' });
    await expect(cache.sync()).rejects.toThrow(withCode('ERR_LOG_FULL'));
    await expect(cache.promises.set('x', 'y'.repeat(5000))).rejects.toThrow(withCode('ERR_LOG_FULL'));
    expect(cache.get('first')).toBe('value');
    expect(cache.get('k0')).toBe('x'.repeat(1000));
    expect(heard).toContainEqual(expect.objectContaining({ kind: 'level', level: 'full' }));

    rmSync(filler);
    await until(() => cache.stats().log?.state === 'running');
    expect(await cache.promises.set('after', 'value')).toBe('stored');
    await cache.close();
    const again = await data.open<string>(directory, { snapshot: { atClose: false } });
    expect(again.size).toBe(written + 2);
    expect(again.get('after')).toBe('value');
    await again.close();
    rmSync(directory, { recursive: true });
  });

  test.each(['close', 'destroy'] as const)(
    'does not keep %s(): what waits for the log is told that it may be lost',
    async (how) => {
      const filler = join(small.path, 'filler');
      const directory = join(small.path, 'log');
      const cache = await data.open<string>(directory, { ringSize: '1mb', shards: 1, snapshot: { atClose: false } });
      cache.set('first', 'value');
      await cache.sync();
      fill(filler);
      const full = until(() => cache.stats().log?.state === 'full').then(() => 'full');
      // The first that the log does not take is in the rings, and waits.
      let waits: Promise<unknown>;
      for (let i = 0; ; i++) {
        waits = cache.promises.set(`k${i}`, 'x'.repeat(1000)).catch((error) => error);
        if ((await Promise.race([waits, full])) === 'full') break;
      }
      // Answered behind it, and nothing to wait for.
      expect(await cache.promises.get('first')).toBe('value');
      if (how === 'close') {
        await expect(cache.close({ timeout: 100 })).rejects.toThrow(withCode('ERR_LOG_FULL'));
        expect(await waits).toEqual(withCode('ERR_WORKER_EXITED', /may be lost/));
      } else {
        const destroyed = cache.destroy().catch((error) => error);
        expect(await waits).toEqual(withCode('ERR_WORKER_EXITED', /may be lost/));
        rmSync(filler);
        await destroyed;
      }
      rmSync(filler, { force: true });
      rmSync(directory, { recursive: true });
    },
  );
});
