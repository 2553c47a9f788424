// A whole cache takes over from another one that lives on: it is opened on a copy of the other one's directory, over
// the same database, and writes nothing. From then on the other one changes nothing there, in none of its lanes.

import { cpSync } from 'node:fs';
import { join } from 'node:path';
import { beforeEach, describe, expect, test } from 'vitest';
import type { Cache, CacheOptions, WriteBackNotice } from '../../src/index.ts';
import { DataDirectories } from '../support/data-directories.ts';
import { postgresOfTests } from '../support/databases-of-tests.ts';
import { withCode } from '../support/errors.ts';
import { POSTGRES_MISSING, postgresPrograms } from '../support/postgres.ts';
import { skipUnless } from '../support/skip.ts';
import { hasSqlite } from '../support/sqlite-file.ts';
import { until } from '../support/threads.ts';

const UNBUILT = 'there is no package for SQLite (npm rebuild better-sqlite3)';
const directories = new DataDirectories('heir');
/** Some in each of four lanes. */
const keys = Array.from({ length: 64 }, (_, i) => `key-${i}`);

const setAll = (cache: Cache, value: string): void => {
  for (const key of keys) cache.set(key, value);
};

/** The directory of a cache that works: a file may have another name by the time it is copied. */
function copyOf(data: string): string {
  for (;;) {
    const copy = directories.fresh();
    try {
      cpSync(data, copy, { recursive: true });
      return copy;
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== 'ENOENT') throw error;
    }
  }
}

/** What the database has: memory is asked for none of it. */
async function rowsOf(cache: Cache, prefix = ''): Promise<Set<unknown>> {
  const wanted = keys.map((key) => prefix + key);
  for (const key of wanted) cache.evict(key);
  return new Set((await cache.promises.getMany(wanted)).map((value) => value ?? 'no row'));
}

function stopsTheOneBefore(storeOf: () => string): void {
  let data: string;
  beforeEach(() => {
    data = directories.fresh();
  });

  const open = (directory: string, lanes = 4): Promise<Cache> => {
    const options: CacheOptions = { store: storeOf(), shards: 4, maxMemory: '64mb', writeBack: { delay: 5, lanes } };
    return directories.open(directory, options);
  };

  test.each([4, 2])('in every lane, before its first change, with %i lanes', async (lanes) => {
    const zombie = await open(data);
    const notices: WriteBackNotice[] = [];
    zombie.on('write-back', (notice) => notices.push(notice));
    setAll(zombie, 'old');
    await zombie.drain();
    const copy = copyOf(data);
    const heir = await open(copy, lanes);
    expect(heir.stats().writeBack!.state).toBe('writing');
    const waiting = zombie.promises.set('stored', '1', { ack: 'stored' });
    waiting.catch(() => {});
    setAll(zombie, 'of the zombie');
    for (const key of keys) zombie.set(`zombie-${key}`, '1');
    await expect(zombie.drain()).rejects.toEqual(withCode('ERR_STORE_REFUSED', /^Another process has taken .* over/));
    await until(() => notices.some(({ kind }) => kind === 'refused'));
    await expect(waiting).rejects.toEqual(withCode('ERR_WRITE_BACK'));
    const late = zombie.promises.set('stored', '2', { ack: 'stored' });
    await expect(late).rejects.toEqual(withCode('ERR_STORE_AWAY'));
    expect(await rowsOf(heir)).toEqual(new Set(['old']));
    expect(await rowsOf(heir, 'zombie-')).toEqual(new Set(['no row']));
    setAll(heir, 'of the heir');
    await heir.drain();
    expect(await rowsOf(heir)).toEqual(new Set(['of the heir']));
    expect(heir.stats().writeBack!.state).toBe('writing');
  });

  test('also in a database that has no row yet, and under a log that is not synced', async () => {
    const options: CacheOptions = {
      store: storeOf(),
      sync: 'none',
      shards: 4,
      maxMemory: '64mb',
      writeBack: { lanes: 4 },
    };
    const zombie = await directories.open(data, options);
    const copy = copyOf(data);
    const heir = await directories.open(copy, options);
    setAll(zombie, 'of the zombie');
    await expect(zombie.drain()).rejects.toEqual(withCode('ERR_STORE_REFUSED', /Another process/));
    expect(await rowsOf(heir)).toEqual(new Set(['no row']));
  });
}

describe('a cache that takes over an LMDB database stops the one before', () => {
  let path = '';
  beforeEach(() => {
    path = directories.fresh();
  });
  stopsTheOneBefore(() => `lmdb:${join(path, 'store.lmdb')}`);
});

skipUnless(hasSqlite, UNBUILT).describe('a cache that takes over an SQLite database stops the one before', () => {
  let path = '';
  beforeEach(() => {
    path = directories.fresh();
  });
  stopsTheOneBefore(() => `sqlite:${join(path, 'store.sqlite')}`);
});

skipUnless(postgresPrograms, POSTGRES_MISSING).describe(
  'a cache that takes over in PostgreSQL stops the one before',
  () => {
    const server = postgresOfTests();
    beforeEach(() => server.reset());
    stopsTheOneBefore(() => server.url());
  },
);
