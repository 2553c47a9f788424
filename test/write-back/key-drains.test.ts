// drain({ keys }): waits for the changes of some keys, which the writer writes at once.

import { beforeEach, expect, test } from 'vitest';
import type { Backend, DeadLetters, KeptDeadLetter, RefusedKey } from '../../src/backend/index.ts';
import { Cache, type CacheOptions } from '../../src/index.ts';
import { refusedAmong } from '../../src/write-back/refused-keys.ts';
import { DataDirectories } from '../support/data-directories.ts';
import { lmdbOfTests } from '../support/databases-of-tests.ts';
import { withCode } from '../support/errors.ts';
import { LMDB_MODULE } from '../support/lmdb.ts';
import { POISON } from '../support/lmdb-backend.mjs';
import { PlainStore, plainBackend } from '../support/plain-backend.ts';
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

test('the database is asked for the dead letters of the keys alone, also by another thread', async () => {
  const store = new PlainStore();
  const asked: string[][] = [];
  const deadLetters: DeadLetters = {
    list: () => Promise.reject(new Error('the whole table is not read')),
    drop: async () => 0,
    oldestOf: async (keys) => {
      asked.push(keys.map(String));
      const key = keys.find((each) => String(each) === 'bad');
      return key && { key, error: 'it is bad' };
    },
  };
  const backend = Object.assign(plainBackend(store, Date.now), { deadLetters });
  const cache = await open({ store: backend, name: 'key drains by key' });
  cache.set('bad', '1');
  cache.set('good', '1');
  await cache.drain({ keys: ['good', 'none'] });
  const refusal = withCode('ERR_DEAD_LETTER', /^Cannot drain "bad": the database has refused.*it is bad/);
  await expect(cache.drain({ keys: ['good', 'bad'] })).rejects.toEqual(refusal);
  const thread = startThread(async ({ cairn, data: name, say }) => {
    const attached = cairn.Cache.attach<string>(name);
    await attached.drain({ keys: [Buffer.from('good'), 'bad'] }).catch((error: Error) => say(error.message));
  }, cache.name);
  expect(await thread.next()).toMatch(/^Cannot drain "bad": .*it is bad/);
  expect(await thread.exit).toBe(0);
  expect(asked).toEqual([
    ['good', 'none'],
    ['good', 'bad'],
    ['good', 'bad'],
  ]);
});

test('of several databases each is asked for its own keys, and for none that a rule skips', async () => {
  const asked: string[] = [];
  const storeOf = (name: string, refused?: string): Backend => {
    const deadLetters: DeadLetters = {
      list: () => Promise.reject(new Error('the whole table is not read')),
      drop: async () => 0,
      oldestOf: async (keys) => {
        asked.push(`${name}: ${keys}`);
        const key = keys.find((each) => String(each) === refused);
        return key && { key, error: `${name} has refused it` };
      },
    };
    return Object.assign(plainBackend(new PlainStore(), Date.now), { deadLetters });
  };
  const cache = await open({
    ...{ store: storeOf('default', 'session:1'), stores: { sessions: storeOf('sessions', 'session:2') } },
    rules: [
      { prefix: 'session:', store: 'sessions' },
      { prefix: 'skipped:', skip: true },
    ],
  });
  for (const key of ['order:1', 'session:1', 'skipped:1']) cache.set(key, '1');
  await cache.drain({ keys: ['order:1', 'session:1', 'skipped:1'] });
  expect(asked.sort()).toEqual(['default: order:1', 'sessions: session:1']);
  await cache.drain({ keys: ['skipped:1'] });
  await expect(cache.drain({ keys: ['order:1', 'session:2'] })).rejects.toEqual(
    withCode('ERR_DEAD_LETTER', /^Cannot drain "session:2": .*sessions has refused it/),
  );
  expect(asked).toHaveLength(4);
});

test('the keys of a question are bounded, and a table that has no such question is walked once', async () => {
  const keys = Array.from({ length: 1000 }, (_, i) => Buffer.from(`key ${i}`));
  const sizes: number[] = [];
  const oldestOf = async (some: readonly Buffer[]): Promise<RefusedKey | undefined> => {
    sizes.push(some.length);
    return some.some((key) => key.equals(keys[700]!)) ? { key: keys[700]!, error: 'no' } : undefined;
  };
  const list = async (): Promise<never> => expect.unreachable();
  expect(await refusedAmong({ list, oldestOf }, keys)).toEqual({ key: keys[700], error: 'no' });
  expect(await refusedAmong({ list, oldestOf }, keys.slice(0, 700))).toBeUndefined();
  expect(sizes).toEqual([256, 256, 256, 256, 256, 188]);
  const cursor = { lane: 0, laneCount: 1, logId: 7n, position: 1n, epoch: 1, writer: 1n };
  const letters = Array.from({ length: 350 }, (_, i): KeptDeadLetter => {
    const change = { kind: 'delete', key: Buffer.from(`key ${i}`), version: 1n } as const;
    const rest = { errorCode: undefined, cursor, addedWallMs: 0, isSuperseded: i !== 340 };
    return { id: BigInt(i + 1), change, error: `reason ${i}`, ...rest };
  });
  let pages = 0;
  const paged = async (limit: number, after = 0n): Promise<readonly KeptDeadLetter[]> => {
    pages++;
    return letters.filter(({ id }) => id > after).slice(0, limit);
  };
  expect(await refusedAmong({ list: paged }, keys)).toEqual({ key: keys[340], error: 'reason 340' });
  expect(await refusedAmong({ list: paged }, keys.slice(0, 340))).toBeUndefined();
  expect(pages).toBe(8);
});
