// A cache that only reads its database: misses are loaded, and no row changes.

import { once } from 'node:events';
import { rmSync } from 'node:fs';
import { Worker } from 'node:worker_threads';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { postgresFrom } from '../../src/backend/postgres-url.ts';
import { Cache, type CacheOptions, serve } from '../../src/index.ts';
import { DataDirectories } from '../support/data-directories.ts';
import { postgresOfTests } from '../support/databases-of-tests.ts';
import { dyingModule } from '../support/dying-module.ts';
import { withCode } from '../support/errors.ts';
import { LmdbDirectory } from '../support/lmdb.ts';
import { MemcachedSocket } from '../support/memcached-socket.ts';
import { POSTGRES_MISSING, postgresPrograms } from '../support/postgres.ts';
import { startServe } from '../support/serve-process.ts';
import { skipUnless } from '../support/skip.ts';

const directories = new DataDirectories('read-only');
const cleanUps: (() => unknown)[] = [];
afterEach(async () => {
  for (const cleanUp of cleanUps.splice(0).reverse()) await cleanUp();
});

skipUnless(postgresPrograms, POSTGRES_MISSING).describe('with PostgreSQL', () => {
  const server = postgresOfTests();
  beforeEach(async () => {
    await server.reset();
    const writer = await directories.open(directories.fresh(), { store: server.url() });
    for (const [key, value] of Object.entries({ a: '1', n: '5', t: 'x' })) writer.set(key, value);
    writer.set('short', 'x', { ttl: 50 });
    await writer.drain();
    await writer.close();
  });

  async function open(options: CacheOptions = {}): Promise<Cache> {
    const cache = await Cache.open({ store: server.url(), mode: 'read-through', ...options });
    cleanUps.push(() => cache.close());
    return cache;
  }

  test('misses are loaded, and no verb changes a row', async () => {
    const before = await server.entries();
    const cache = await open();
    expect(cache.get('a')).toBeUndefined();
    expect(await cache.promises.getMany(['a', 'none'])).toEqual(['1', undefined]);
    expect(cache.get('a')).toBe('1');
    expect(await cache.promises.get('short')).toBeUndefined();
    expect(await cache.promises.incr('n', 1)).toBe(6);
    expect(await cache.promises.add('t', 'y')).toBe('not-stored');
    cache.set('a', 'own');
    cache.set('new', 'own');
    expect(await cache.promises.get('a')).toBe('own');
    cache.clear();
    expect(await cache.promises.get('a')).toBe('1');
    expect(await cache.promises.get('new')).toBeUndefined();
    expect(await server.entries()).toEqual(before);
  });

  test('a delete takes the entry out of the cache: the next reader gets the row', async () => {
    const cache = await open();
    expect(await cache.promises.get('a')).toBe('1');
    await server.query("UPDATE cairn_entries SET value = '2' WHERE key = 'a'");
    expect(await cache.promises.get('a')).toBe('1');
    expect(cache.delete('a')).toBe(true);
    expect(await cache.promises.get('a')).toBe('2');
  });

  test('the port and attached threads load too, and cairn serve does', async () => {
    const cache = await open({ name: 'reading' });
    const port = await serve(cache, { port: 0 });
    cleanUps.push(() => port.close());
    const socket = await MemcachedSocket.open((port.addresses[0] as { port: number }).port);
    cleanUps.push(() => socket.destroy());
    expect(await socket.ask('get a none\r\n', 'END\r\n')).toBe('VALUE a 0 1\r\n1\r\nEND\r\n');
    const source = `
      const { parentPort, workerData } = require('node:worker_threads');
      import(workerData).then(async ({ Cache }) => {
        const cache = Cache.attach('reading');
        parentPort.postMessage(await cache.promises.get('t'));
        await cache.close();
      });`;
    const worker = new Worker(source, { eval: true, workerData: new URL('../../dist/index.js', import.meta.url).href });
    expect((await once(worker, 'message'))[0]).toBe('x');

    const process = await startServe(['--store', server.url(), '--mode', 'read-through']);
    cleanUps.push(() => process.stop());
    expect(process.stdout).toContain('Reading from postgres');
    const other = await MemcachedSocket.open(process.port);
    cleanUps.push(() => other.destroy());
    expect(await other.ask('incr n 2\r\n', '\r\n')).toBe('7\r\n');
    expect((await server.entries())['n']).toBe('5');
  });

  test('a database that is away does not keep the cache closed, and is asked again', async () => {
    await server.crash();
    const cache = await open();
    await expect(cache.promises.get('a')).rejects.toEqual(withCode('ERR_NOT_RESIDENT'));
    await server.run();
    await expect.poll(() => cache.promises.get('a').catch(() => 'refused'), { timeout: 20_000 }).toBe('1');
  });

  test('an object of the program is used in its thread, and closed with the cache', async () => {
    const backend = await postgresFrom(server.url(), {});
    const cache = await open({ store: backend });
    expect(await cache.promises.get('a')).toBe('1');
    await cache.close();
    await expect
      .poll(() =>
        backend.load([Buffer.from('a')]).then(
          () => 'open',
          () => 'closed',
        ),
      )
      .toBe('closed');
  });

  test('the loader ends with the cache, and another may be opened by its name', async () => {
    for (let round = 0; round < 3; round++) {
      const cache = await open({ name: 'again' });
      expect(await cache.promises.get('a')).toBe('1');
      await cache.close();
      const idle = "SELECT count(*)::int AS count FROM pg_stat_activity WHERE application_name = 'cairn-cache'";
      await expect.poll(async () => (await server.query(idle))[0]?.['count'], { timeout: 10_000 }).toBe(0);
    }
  });
});

test('a loader that has died, and cannot be started again because its module is gone, keeps no request waiting', async () => {
  const database = new LmdbDirectory().make();
  cleanUps.push(() => database.remove());
  const module = dyingModule(directories.root, 'load');
  const cache = await Cache.open({ store: module, mode: 'read-through' });
  cleanUps.push(() => cache.close());
  rmSync(module);
  const refused = withCode('ERR_NOT_RESIDENT', /dies\.mjs/);
  await expect(cache.promises.get('a')).rejects.toEqual(refused);
  await expect(cache.promises.get('b'), 'nor any later one').rejects.toEqual(refused);
});

test('what does not fit to the mode is refused by name', async () => {
  const store = 'postgres://localhost/x';
  const refusal = (options: CacheOptions): Promise<unknown> => Cache.open(options).catch((error) => error.message);
  expect(await refusal({ store })).toMatch(/give data, the directory of the log, or mode: 'read-through'$/);
  expect(await refusal({ store, mode: 'read-through', data: '/tmp/x' })).toMatch(/The option data is for a cache that/);
  expect(await refusal({ store, mode: 'read-through', writeBack: {} })).toMatch(/The option writeBack is for a cache/);
  expect(() => new Cache({ store, mode: 'read-through' })).toThrow(/is opened by 'await Cache.open/);
  expect(await refusal({ store: './no-such-module.mjs', mode: 'read-through' })).toMatch(/no-such-module/);
});
