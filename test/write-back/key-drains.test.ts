// drain({ keys }): waits for the changes of some keys, which the writer writes at once.

import { beforeEach, expect, test } from 'vitest';
import { Cache, type CacheOptions } from '../../src/index.ts';
import { DataDirectories } from '../support/data-directories.ts';
import { lmdbOfTests } from '../support/databases-of-tests.ts';
import { withCode } from '../support/errors.ts';
import { LMDB_MODULE } from '../support/lmdb.ts';
import { POISON } from '../support/lmdb-backend.mjs';
import { startThread } from '../support/threads.ts';

const directories = new DataDirectories('key-drains');
const database = lmdbOfTests();
let data: string;
beforeEach(() => {
  data = directories.fresh();
});

// With this delay only a caller that waits has a change written.
function open(options: CacheOptions = {}): Promise<Cache> {
  return directories.open(data, { store: LMDB_MODULE, writeBack: { delay: '10m' }, ...options });
}

const rows = async (): Promise<Readonly<Record<string, string>>> => (await database.read()).rows;
const bad = POISON.toString();

test('what was set, deleted or touched is in the database, whether it is in memory or not', async () => {
  const cache = await open();
  cache.set('gone', '0');
  await cache.drain({ keys: ['gone'] });
  expect(await rows()).toEqual({ gone: '0' });
  cache.delete('gone');
  await cache.drain({ keys: ['gone'] });
  expect(await rows()).toEqual({});
  cache.set('away', '1');
  cache.evict('away');
  await cache.drain({ keys: ['away'] });
  expect(await rows()).toEqual({ away: '1' });
  cache.set('touched', '2');
  await cache.drain({ keys: new Set(['touched']) });
  cache.touch('touched', '1h');
  await cache.drain({ keys: [Buffer.from('touched')] });
  expect((await database.read()).history.at(-1)).toMatch(/^touch touched@/);
  for (let i = 0; i < 100; i++) cache.set(`\uFFFD${i}`, String(i));
  await cache.drain({ keys: Array.from({ length: 100 }, (_, i) => `\uFFFD${i}`) });
  expect((await rows())[Buffer.from('\uFFFD99').toString('latin1')]).toBe('99');
});

test('what the database has is not waited for, whatever else is on its way', async () => {
  const cache = await open();
  cache.set('a', '1');
  await cache.drain({ keys: ['a'] });
  cache.evict('a');
  await cache.writeBack.pause();
  cache.set('other', '1');
  await cache.drain({ keys: ['a', 'none'] });
  // A row that was loaded has a version of which the database will never hear.
  expect(await cache.promises.get('a')).toBe('1');
  expect(await cache.promises.get('none')).toBeUndefined();
  await cache.drain({ keys: ['a', 'none'] });
  await cache.drain({ keys: [] });
  await expect(cache.drain({ keys: ['other'], timeout: 20 })).rejects.toEqual(withCode('ERR_TIMEOUT'));
  const drained = cache.drain({ keys: ['other'] });
  await cache.writeBack.resume();
  await drained;
  expect(await rows()).toEqual({ a: '1', other: '1' });
});

test('a dead letter rejects, also of a key that was touched, and a later change of the key does not', async () => {
  const cache = await open();
  cache.set('bad', bad);
  cache.set('good', '1');
  const refused = withCode('ERR_DEAD_LETTER', /^Cannot drain "bad": the database has refused/);
  await expect(cache.drain({ keys: ['good', 'bad'] })).rejects.toEqual(refused);
  expect(await rows()).toEqual({ good: '1' });
  await cache.drain({ keys: ['good'] });
  cache.set('bad', bad);
  cache.touch('bad', '1h');
  cache.touch('good', '1h');
  await expect(cache.drain({ keys: ['bad'] })).rejects.toEqual(refused);
  cache.set('bad', bad);
  cache.touch('bad', '1h');
  cache.touch('good', '1h');
  cache.evict('bad');
  await expect(cache.drain({ keys: ['bad'] })).rejects.toEqual(refused);
  cache.set('bad', 'better');
  await cache.drain({ keys: ['bad'] });
  expect(await rows()).toEqual({ bad: 'better', good: '1' });
});

test('another thread can wait, and the end of the cache ends a wait', async () => {
  const cache = await open({ name: 'key drains' });
  const thread = startThread(async ({ cairn, data: name, say }) => {
    const attached = cairn.Cache.attach<string>(name);
    attached.set('from a thread', '1');
    await attached.drain({ keys: ['from a thread'] });
    say('drained');
  }, cache.name);
  expect(await thread.exit).toBe(0);
  expect(await thread.next()).toBe('drained');
  expect(await rows()).toEqual({ 'from a thread': '1' });
  using attached = Cache.attach('key drains');
  await cache.writeBack.pause();
  cache.set('late', '1');
  const waits = [cache.drain({ keys: ['late'] }), attached.drain({ keys: ['late'] })];
  const ends = Promise.allSettled(waits);
  await cache.close();
  for (const end of await ends) {
    expect(end).toMatchObject({
      status: 'rejected',
      reason: { code: expect.stringMatching(/WRITE_BACK|EXITED|CLOSED/) },
    });
  }
});

test('wrong keys are refused, and a cache without a database', async () => {
  const cache = await open();
  for (const keys of [[''], ['\uD800'], [1], 'key', 7, { a: 1 }]) {
    await expect(cache.drain({ keys: keys as never })).rejects.toEqual(withCode('ERR_INVALID_ARGUMENT'));
  }
  using plain = new Cache();
  await expect(plain.drain({ keys: ['a'] })).rejects.toEqual(withCode('ERR_INVALID_ARGUMENT', /without store/));
});
