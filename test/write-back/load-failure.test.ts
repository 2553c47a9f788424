// What requests answer while the database does not answer for a value that only it may have: an error, or, with
// `loads.onFailure: 'miss'`, a miss for those that only read.

import { describe, expect, test } from 'vitest';
import { type Backend, type Cache, type CacheOptions, serve } from '../../src/index.ts';
import { DataDirectories } from '../support/data-directories.ts';
import { lmdbOfTests } from '../support/databases-of-tests.ts';
import { withCode } from '../support/errors.ts';
import makeLmdb from '../support/lmdb-backend.mjs';
import { MemcachedSocket } from '../support/memcached-socket.ts';
import { startThread, until } from '../support/threads.ts';

const directories = new DataDirectories('load-failure');
const database = lmdbOfTests();

type Fault = 'rejects' | 'hangs';

/** A cache whose database has the rows `key` and `number`, which are not in memory, and answers no load any more. */
async function down(options: CacheOptions = {}, fault: Fault = 'rejects'): Promise<Cache<string>> {
  const backend: Backend = makeLmdb();
  const load = backend.load.bind(backend);
  const state = { isDown: false };
  backend.load = (keys) => {
    if (!state.isDown) return load(keys);
    return fault === 'rejects' ? Promise.reject(new Error('connection refused')) : new Promise(() => {});
  };
  const cache = await directories.open<string>(directories.fresh(), {
    store: backend,
    writeBack: { delay: 5 },
    ...options,
  });
  cache.set('key', 'value');
  cache.set('number', '7');
  await cache.drain();
  cache.evict('key');
  cache.evict('number');
  state.isDown = true;
  return cache;
}

const loads = { onFailure: 'miss' } as const;
const refused = withCode('ERR_NOT_RESIDENT', /was not loaded/);

describe('promised verbs', () => {
  test('that read are misses', async () => {
    const { promises, ...cache } = await down({ loads }).then((it) => ({ promises: it.promises, it }));
    expect(await promises.get('key')).toBeUndefined();
    expect(await promises.peek('key')).toBeUndefined();
    expect(await promises.has('key')).toBe(false);
    expect(await promises.info('key')).toBeUndefined();
    expect(await promises.getWithCas('key')).toBeUndefined();
    expect(await promises.getRemainingTTL('key')).toBe(0);
    cache.it.set('here', '1');
    expect(await promises.getMany(['key', 'here', 'number'])).toEqual([undefined, '1', undefined]);
  });

  test('that depend on the value and change the entry stay errors, and change nothing', async () => {
    const cache = await down({ loads });
    const { promises } = cache;
    const calls = [
      () => promises.add('key', 'new'),
      () => promises.replace('key', 'new'),
      () => promises.append('key', 'new'),
      () => promises.incr('number', 1),
      () => promises.cas('key', 'new', 1n),
      () => promises.touch('key', '1h'),
      () => promises.take('key'),
      () => promises.update('key', () => 'new'),
    ];
    for (const call of calls) await expect(call()).rejects.toEqual(refused);
    await cache.drain();
    expect((await database.read()).rows).toEqual({ key: 'value', number: '7' });
    // A set needs no row.
    expect(await promises.set('key', 'new')).toBe('stored');
    expect(await promises.get('key')).toBe('new');
  });

  test('are errors without the option', async () => {
    const { promises } = await down();
    await expect(promises.get('key')).rejects.toEqual(refused);
    await expect(promises.getMany(['key', 'number'])).rejects.toEqual(refused);
  });

  test('are misses after a question without an answer too, and while the database is left in peace', async () => {
    const cache = await down({ loads: { ...loads, timeout: 20 } }, 'hangs');
    for (let i = 0; i < 3; i++) expect(await cache.promises.get(`key`)).toBeUndefined();
    await until(() => cache.stats().writeBack!.circuitOpened > 0);
    expect(await cache.promises.get('key')).toBeUndefined();
    await expect(cache.promises.incr('number', 1)).rejects.toEqual(refused);
  });

  test('of another thread are misses too', async () => {
    const cache = await down({ loads, name: 'load failure' });
    const thread = startThread(async ({ cairn, data: name, say }) => {
      const attached = cairn.Cache.attach<string>(name);
      say([await attached.promises.get('key'), await attached.fetch('number', () => 'loaded')]);
    }, cache.name);
    expect(await thread.exit).toBe(0);
    expect(await thread.next()).toEqual([undefined, 'loaded']);
  });
});

test('fetch calls its loader, and the database gets what it gives', async () => {
  const cache = await down({ loads });
  expect(await cache.fetch('key', () => 'loaded')).toBe('loaded');
  expect(cache.get('key')).toBe('loaded');
  await cache.drain();
  expect((await database.read()).rows['key']).toBe('loaded');
  expect(await cache.fetch('number')).toBeUndefined();
  database.remove();
  database.make();
  const strict = await down();
  await expect(strict.fetch('key', () => 'loaded')).rejects.toEqual(refused);
});

test.each([
  [loads, 'END\r\n', 'VALUE here 0 1\r\n1\r\nEND\r\n'],
  [undefined, 'SERVER_ERROR', 'SERVER_ERROR'],
])('on the port, with %o', async (given, alone, beside) => {
  const cache = await down(given === undefined ? {} : { loads: given });
  cache.set('here', '1');
  const server = await serve(cache, { port: 0, host: '127.0.0.1' });
  const [address] = server.addresses;
  const client = await MemcachedSocket.open(address !== undefined && 'port' in address ? address.port : 0);
  const ask = async (command: string): Promise<string> => {
    const reply = await client.ask(`${command}\r\nmn\r\n`, 'MN\r\n');
    return reply.replace(/MN\r\n$/, '');
  };
  expect(await ask('get key')).toMatch(new RegExp(`^${alone}`));
  expect(await ask('gets key number')).toMatch(new RegExp(`^${alone}`));
  expect(await ask('get key here number')).toMatch(new RegExp(`^${beside}`));
  for (const command of [
    'gat 100 key',
    'touch key 100',
    'incr number 1',
    'add key 0 0 1\r\nx',
    'append key 0 0 1\r\nx',
  ]) {
    expect(await ask(command), command).toMatch(/^SERVER_ERROR /);
  }
  expect(await ask('get here')).toBe('VALUE here 0 1\r\n1\r\nEND\r\n');
  await cache.drain();
  expect((await database.read()).rows).toEqual({ here: '1', key: 'value', number: '7' });
  client.destroy();
  await server.close();
});
