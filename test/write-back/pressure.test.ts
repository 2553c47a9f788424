// What is told while the database does not take changes and the log, or memory, fills up: grades, numbers, and at last
// a refusal that names what is full. No change is lost.

import { describe, expect, test } from 'vitest';
import {
  type Backend,
  type Cache,
  type CacheOptions,
  type CairnError,
  serve,
  type WriteBackNotice,
} from '../../src/index.ts';
import { logPressure, PRESSURE_GRADES, Pressure, slowdownMs } from '../../src/write-back/pressure.ts';
import { DataDirectories } from '../support/data-directories.ts';
import { lmdbOfTests } from '../support/databases-of-tests.ts';
import { LMDB_MODULE } from '../support/lmdb.ts';
import makeLmdb from '../support/lmdb-backend.mjs';
import { MemcachedSocket } from '../support/memcached-socket.ts';
import { deferred, until } from '../support/threads.ts';

describe('the pressure of the log', () => {
  const log = { bytes: 0, limitBytes: 1000, behindBytes: 0, historyBytes: 0 };

  test('is the share of changes that the database lacks of the room that they may have', () => {
    expect(logPressure({ ...log, bytes: 500, behindBytes: 500 })).toBe(50);
    // A snapshot's second way, or a segment that is begun, takes room too.
    expect(logPressure({ ...log, bytes: 800, behindBytes: 200 })).toBe(50);
    expect(logPressure({ ...log, bytes: 1000, behindBytes: 1 })).toBe(100);
    expect(logPressure({ ...log, bytes: 1200, behindBytes: 900 })).toBe(100);
  });

  test('is none while the database has everything, or the log has no limit', () => {
    expect(logPressure({ ...log, bytes: 1000 })).toBe(0);
    expect(logPressure({ ...log, limitBytes: 0, bytes: 1000, behindBytes: 1000 })).toBe(0);
  });

  test('counts what is kept for a database that goes back as room, which it gives', () => {
    expect(logPressure({ ...log, bytes: 1000, behindBytes: 500, historyBytes: 500 })).toBe(50);
  });
});

test('each grade is told once on the way up, and again when it was relieved between', () => {
  const told: string[] = [];
  const pressure = new Pressure((of, percent) => told.push(`${of} ${percent}`));
  for (const percent of [0, 49, 50, 60, 49, 50, 74, 75, 80, 60, 76, 100, 90, 41, 91, 39, 10, 49]) {
    pressure.look('log', percent);
  }
  expect(told).toEqual(['log 50', 'log 75', 'log 90', 'log 0']);
  pressure.look('reserve', 80);
  pressure.look('log', 95);
  expect(told.slice(4)).toEqual(['reserve 75', 'log 90']);
});

test('changes are slowed from the first grade on, by a time that grows up to the limit', () => {
  expect([0, 49, 50].map((percent) => slowdownMs(percent, 100))).toEqual([0, 0, 0]);
  expect([51, 75, 90, 100, 120].map((percent) => slowdownMs(percent, 100))).toEqual([1, 25, 64, 100, 100]);
  expect([51, 100].map((percent) => slowdownMs(percent, 0))).toEqual([0, 0]);
});

describe('of a cache', () => {
  const directories = new DataDirectories('pressure');
  const database = lmdbOfTests();

  interface Filled {
    readonly cache: Cache;
    readonly notices: Extract<WriteBackNotice, { kind: 'pressure' }>[];
    readonly keys: readonly string[];
    readonly error: CairnError;
  }

  /** Sets while the database takes nothing, until a set is refused. */
  async function fill(options: CacheOptions, set: (cache: Cache, key: string) => void): Promise<Filled> {
    const cache = await directories.open<unknown>(directories.fresh(), { store: LMDB_MODULE, ...options });
    const notices: Filled['notices'] = [];
    cache.on('write-back', (notice) => {
      if (notice.kind === 'pressure') notices.push(notice);
    });
    await cache.writeBack.pause();
    const keys: string[] = [];
    for (;;) {
      const key = `key ${keys.length}`.padEnd(200, '.');
      try {
        set(cache, key);
        keys.push(key);
      } catch (error) {
        const { code, message } = error as CairnError;
        expect(code).toBe('ERR_LOG_FULL');
        // The ring is full for a moment, while the log is written.
        if (!message.includes('does not keep up')) return { cache, notices, keys, error: error as CairnError };
        await new Promise((resolve) => setTimeout(resolve, 1));
      }
    }
  }

  async function relieve({ cache, notices, keys }: Filled, of: 'log' | 'reserve'): Promise<void> {
    const percents = notices.map(({ percent }) => percent);
    expect([...percents].sort((a, b) => a - b)).toEqual(percents);
    await cache.writeBack.resume();
    // While the log is full it is refused: what is behind the log may not be in it.
    await patiently(() => cache.drain());
    const { rows } = await database.read();
    expect(Object.keys(rows)).toEqual(expect.arrayContaining([...keys]));
    await until(() => notices.at(-1)?.percent === 0);
    expect(notices.at(-1)).toEqual({ kind: 'pressure', of, percent: 0 });
    await until(() => cache.stats().writeBack![`${of}Pressure`] < 50);
    await patiently(() => cache.set('again', '1'));
  }

  async function patiently(act: () => unknown): Promise<void> {
    for (;;) {
      try {
        await act();
        return;
      } catch (error) {
        expect((error as CairnError).code).toBe('ERR_LOG_FULL');
        await new Promise((resolve) => setTimeout(resolve, 5));
      }
    }
  }

  test('a log that fills up is told, refuses by name, and loses nothing', async () => {
    const value = 'x'.repeat(1000);
    const options = { logLimit: '4mb', ringSize: '256kb', maxMemory: '16mb', shards: 1, sync: 'none' } as const;
    const filled = await fill(options, (cache, key) => cache.set(key, value));
    const { cache, notices, error } = filled;
    expect(error.message).toMatch(/the log has no room on the disk, or has reached logLimit: it takes \d+ of 4194304/);
    await until(() => notices.at(-1)?.percent === PRESSURE_GRADES.at(-1));
    expect(notices.every(({ of }) => of === 'log')).toBe(true);
    expect(cache.stats().writeBack!.logPressure).toBeGreaterThanOrEqual(90);
    await relieve(filled, 'log');
  });

  test('a full log is not let beyond its limit by syncs and writes that are tried again and again', async () => {
    const value = 'x'.repeat(1000);
    const options = { logLimit: '1mb', maxMemory: '64mb', shards: 1, sync: 'none' } as const;
    const filled = await fill(options, (cache, key) => cache.set(key, value));
    const { cache, keys } = filled;
    for (let i = 0; i < 3; i++) {
      await expect(cache.sync()).rejects.toThrow(expect.objectContaining({ code: 'ERR_LOG_FULL' }));
      expect(() => {
        for (const key of keys) cache.set(key, value);
      }).toThrow(/has reached logLimit/);
    }
    expect(cache.stats().log!.logBytes).toBeLessThanOrEqual(cache.stats().log!.logLimitBytes);
    await relieve(filled, 'log');
  });

  test('so is memory for keys whose values have left it', async () => {
    const filled = await fill({ maxMemory: '4mb', shards: 1, sync: 'none' }, (cache, key) => {
      cache.set(key, 'x'.repeat(2000));
    });
    const { cache, notices, error } = filled;
    expect(error.message).toMatch(
      /memory has no room for more keys whose changes the database does not have; try again/,
    );
    await until(() => notices.at(-1)?.percent === PRESSURE_GRADES.at(-1));
    expect(notices.every(({ of }) => of === 'reserve')).toBe(true);
    expect(cache.stats().writeBack!.reservePressure).toBeGreaterThanOrEqual(90);
    await relieve(filled, 'reserve');
  });

  describe('whose log is more than half full', () => {
    const LOG_LIMIT = 4 * 2 ** 20;
    const options = { logLimit: LOG_LIMIT, ringSize: '256kb', maxMemory: '16mb', shards: 1, sync: 'none' } as const;
    const SLOWDOWN = 20;

    /** A database that answers no write until it is let go. */
    function silent(isBack: Promise<void>): Backend {
      const backend: Backend = makeLmdb();
      const write = backend.write.bind(backend);
      backend.write = async (batch) => {
        await isBack;
        return write(batch);
      };
      return backend;
    }

    async function press(slowdown: number) {
      const back = deferred<void>();
      const writeBack = { slowdown };
      const store = silent(back.promise);
      const cache = await directories.open<unknown>(directories.fresh(), { ...options, store, writeBack });
      const stats = () => cache.stats().writeBack!;
      // Changes of synchronous verbs are not slowed.
      // By what the database lacks: a snapshot that is under way takes room in the log for a while.
      for (let i = 0; stats().behindBytes < 0.65 * LOG_LIMIT; i++) {
        await patiently(() => cache.set(`filler ${i}`, 'x'.repeat(1000)));
        // Measured anew for every part of a fourteenth.
        if (i % 300 === 299) {
          await cache.sync();
          await cache.writeBack.resume();
        }
      }
      return { cache, stats, back };
    }

    /** How many changes are slowed meanwhile, as the next measure says. */
    async function slowed(cache: Cache, act: () => Promise<unknown>): Promise<number> {
      const measured = async (): Promise<number> => {
        // Commands of the writer measure.
        await cache.writeBack.resume();
        return cache.stats().writeBack!.slowedChanges;
      };
      const before = await measured();
      await act();
      return (await measured()) - before;
    }

    test('promised changes and those of the port wait, reads do not, and none does when the database has caught up', async () => {
      const { cache, stats, back } = await press(SLOWDOWN);
      await until(() => stats().slowdownMs > 0);
      expect(stats().slowdownMs).toBeLessThanOrEqual(SLOWDOWN);
      const { promises } = cache;
      const server = await serve(cache, { port: 0, host: '127.0.0.1' });
      const [address] = server.addresses;
      const client = await MemcachedSocket.open((address as { port: number }).port);
      const changes = [
        () => promises.set('a', '1'),
        () => promises.set('a', '1', { ack: 'memory' }),
        () => promises.incr('n', 1, { initial: 0 }),
        () => promises.delete('a'),
        () => client.ask('set a 0 0 1\r\n1\r\n', 'STORED\r\n'),
        () => client.ask('incr a 1 noreply\r\nget a\r\n', 'END\r\n'),
        () => promises.batch().set('b', '1').set('c', '1').commit(),
      ];
      const many = () => promises.setMany(Array.from({ length: 5 }, (_, i) => [`m${i}`, i]));
      const reads = [
        () => promises.get('a'),
        () => promises.getMany(['a', 'n']),
        () => client.ask('get a n\r\n', 'END\r\n'),
        async () => cache.set('sync', '1'),
      ];
      for (const change of changes) expect(await slowed(cache, change), String(change)).toBe(1);
      expect(await slowed(cache, many)).toBe(5);
      for (const read of reads) expect(await slowed(cache, read), String(read)).toBe(0);
      expect(stats().slowedMs).toBeGreaterThanOrEqual(stats().slowedChanges);

      back.resolve();
      await cache.drain();
      await until(() => stats().slowdownMs === 0);
      expect(stats().logPressure).toBeLessThanOrEqual(50);
      for (const act of [...changes, many, ...reads]) expect(await slowed(cache, act), String(act)).toBe(0);
      await cache.drain();
      const { rows } = await database.read();
      expect(rows).toMatchObject({ a: '2', b: '1', c: '1', m4: '4', sync: '1' });
      client.destroy();
      await server.close();
    });

    test('a promised change that waits keeps its place in the queue', async () => {
      const { cache, stats, back } = await press(60_000);
      await until(() => stats().slowdownMs > 100);
      const waiting = cache.promises.set('a', '1');
      // It is done, and its answer waits.
      await until(() => cache.get('a') === '1');
      await cache.promises.get('b');
      expect(cache.promises.stats().requests).toBe(1);
      back.resolve();
      await cache.drain();
      await cache.destroy();
      expect(await waiting).toBe('stored');
    });

    test('nothing waits with slowdown: 0', async () => {
      const { cache, stats, back } = await press(0);
      expect(await slowed(cache, () => cache.promises.set('a', '1'))).toBe(0);
      expect(stats()).toMatchObject({ slowdownMs: 0, slowedChanges: 0, slowedMs: 0 });
      back.resolve();
    });
  });
});
