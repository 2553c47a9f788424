// `cairn rebuild` of one of several stores: a database gets no key of another store, also if the log does not know any
// more which store holds it; and a database that the directory never had gets nothing.

import { cpSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { beforeEach, describe, expect, test } from 'vitest';
import { makeBackend } from '../../src/backend/index.ts';
import type { Cache, CacheOptions } from '../../src/index.ts';
import { EmbeddedLog } from '../../src/log/index.ts';
import { lockByAddon } from '../../src/native/directory-lock.ts';
import { set } from '../../src/testing/harness.ts';
import { rebuildDirectory } from '../../src/write-back/index.ts';
import { DataDirectories } from '../support/data-directories.ts';
import { withCode } from '../support/errors.ts';
import { rowsIn } from '../support/stored-rows.ts';

const directories = new DataDirectories('rebuild-names');
const RULES = [
  { prefix: 'session:', store: 'sessions' },
  { prefix: 'session:secret:', skip: true },
];
/** The log forgets what is before its last snapshot. */
const SHORT: CacheOptions = {
  ...{ sync: 'none', logLimit: '8mb', segmentSize: '1mb', maxMemory: '64mb' },
  snapshot: { every: 0, atClose: false },
};

let data: string;
let orders: string;
let sessions: string;

beforeEach(() => {
  data = directories.fresh();
  orders = join(directories.fresh(), 'orders');
  sessions = join(directories.fresh(), 'sessions');
});

const open = (): Promise<Cache> =>
  directories.open(data, {
    ...{ ...SHORT, store: `lmdb:${orders}`, stores: { sessions: `lmdb:${sessions}` }, rules: RULES },
    writeBack: { delay: 1, retainBehind: 0 },
  });

const rebuild = (path: string, name?: string): Promise<unknown> =>
  rebuildDirectory(data, `lmdb:${path}`, () => {}, name);

const rows = async (path: string): Promise<Record<string, string>> => Object.fromEntries(await rowsIn(`lmdb:${path}`));

function cursors(): unknown {
  const log = EmbeddedLog.look({ directory: data, lockDirectory: lockByAddon });
  const found = [...log.cursors()];
  log.close();
  return found;
}

/** Writes until the log has forgotten its beginning. */
async function writeOn(cache: Cache): Promise<void> {
  for (let round = 0; round < 4; round++) {
    for (let i = 0; i < 2000; i++) await cache.promises.set(`order:${i}`, `${round}`.padEnd(1000), { ack: 'memory' });
    await cache.promises.set(`session:${round}`, 'new');
    if (cache.options.store !== undefined) await cache.drain();
    await cache.snapshot();
  }
}

/** Both databases have gone back further than the log is kept, and the log does not know the opening of then. */
async function goBackTooFar(): Promise<void> {
  const first = await open();
  first.set('session:0', 'old');
  first.set('order:0', 'old');
  await first.close();
  for (const path of [orders, sessions]) cpSync(path, `${path}-old`);
  const second = await open();
  await writeOn(second);
  await second.close();
  for (const path of [orders, sessions]) {
    rmSync(path);
    cpSync(`${path}-old`, path);
  }
}

describe('a rebuild of one of several stores', () => {
  test('is refused by name for the database of another one, and changes nothing', async () => {
    await goBackTooFar();
    const before = cursors();
    await expect(rebuild(sessions, 'default')).rejects.toEqual(
      withCode('ERR_STORE_REFUSED', /has rows of "sessions" only, and none of the store "default"/),
    );
    await expect(rebuild(orders, 'sessions')).rejects.toEqual(
      withCode('ERR_STORE_REFUSED', /has rows of "default" only, and none of the store "sessions"/),
    );
    for (const name of ['session', 'store:sessions', 'Sessions', '', 'store', 'constructor']) {
      const refusal = withCode('ERR_INVALID_ARGUMENT', /--name .*"default", "sessions", got "/);
      await expect(rebuild(sessions, name)).rejects.toEqual(refusal);
    }
    expect(cursors()).toEqual(before);
    expect([await rows(orders), await rows(sessions)]).toEqual([{ 'order:0': 'old' }, { 'session:0': 'old' }]);
    await rebuild(sessions, 'sessions');
    await rebuild(orders, 'default');
    expect(await rows(sessions)).toEqual(Object.fromEntries([0, 1, 2, 3].map((round) => [`session:${round}`, 'new'])));
    expect(Object.keys(await rows(orders))).toHaveLength(2000);
    await (await open()).close();
  });

  test('is done for a database without rows, and for one that also has rows of others', async () => {
    await goBackTooFar();
    rmSync(sessions);
    await rebuild(sessions, 'sessions');
    expect(Object.keys(await rows(sessions))).toHaveLength(4);
    // As rows are left of a store that had the keys before its rule.
    const backend = await makeBackend(`lmdb:${orders}`);
    await backend.open();
    const [to] = await backend.readCursors();
    await backend.write({ changes: [set('a', 'left'), set('session:9', 'left')], from: to, to: to! });
    await backend.close();
    await rebuild(orders, 'default');
    expect(await rows(orders)).toMatchObject({ a: 'left', 'session:9': 'left', 'order:0': '3'.padEnd(1000) });
  });
});

test('a database without rows is not rebuilt from a log that has its first record: the cache writes it', async () => {
  const first = await open();
  first.set('session:1', 'ada');
  await first.close();
  rmSync(sessions);
  await expect(rebuild(sessions, 'sessions')).rejects.toEqual(withCode('ERR_STORE_REFUSED', /needs no rebuild/));
  expect(await rows(sessions)).toEqual({});
});

test('a log that never had a database is brought to none', async () => {
  const cache = await directories.open(data, SHORT);
  await writeOn(cache);
  await cache.close();
  const before = cursors();
  for (const name of [undefined, 'default']) {
    await expect(rebuild(orders, name)).rejects.toEqual(
      withCode('ERR_STORE_REFUSED', /has never been a database of the log in .*never had the store "default"/),
    );
  }
  expect(cursors()).toEqual(before);
  expect(await rows(orders)).toEqual({});
  const again = await directories.open(data, SHORT);
  expect(again.get('session:0')).toBe('new');
});
