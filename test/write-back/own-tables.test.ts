// Whole caches over SQLite whose rules name tables of the user's: written by the writer's thread, read by the loader.

import { mkdirSync } from 'node:fs';
import { expect } from 'vitest';
import type { CacheOptions } from '../../src/index.ts';
import { DataDirectories } from '../support/data-directories.ts';
import { SQLITE_PACKAGES } from '../support/sqlite.ts';

const directories = new DataDirectories('own-tables');

const there = SQLITE_PACKAGES.find(({ isThere }) => isThere) ?? SQLITE_PACKAGES[0]!;

there.condition(
  'rows of a table, a counter and a history are those that a cache has written, over two lives',
  async () => {
    const data = directories.fresh();
    const folder = directories.fresh();
    mkdirSync(folder, { recursive: true });
    const path = `${folder}/app.sqlite`;
    const query = async (command: string) => {
      const database = (await there.load())(path);
      const rows = database.prepare(command).all();
      database.close();
      return rows.map((row) =>
        Object.fromEntries(
          Object.entries(row).map(([name, cell]) => [name, typeof cell === 'bigint' ? Number(cell) : cell]),
        ),
      );
    };
    const database = (await there.load())(path);
    database.exec(`CREATE TABLE users (id INTEGER PRIMARY KEY, name TEXT, tags JSON, until INTEGER);
    CREATE TABLE counters (id TEXT PRIMARY KEY, n INTEGER NOT NULL) WITHOUT ROWID; INSERT INTO counters VALUES ('a', 100)`);
    database.close();
    const options: CacheOptions = {
      store: `sqlite:${path}`,
      mode: 'write-back',
      writeBack: { delay: 5 },
      rules: [
        { prefix: 'user:', table: 'users', key: 'id', expiresAt: 'until', coalesce: false },
        { prefix: 'n:', table: 'counters', key: 'id', value: { column: 'n' }, counter: true },
      ],
    };
    const cache = await directories.open(data, options);
    cache.set('user:1', { name: 'Ada', tags: ['x'] });
    cache.set('user:1', { name: 'Ada L', tags: [] });
    cache.set('user:2', { name: 'Eve' }, { ttl: '1d' });
    cache.set('user:3', { name: 'Bob' });
    cache.delete('user:3');
    expect(await cache.promises.incr('n:a', 5)).toBe(105);
    await cache.drain();
    expect(await query('SELECT id, name, tags, until > 0 AS ends FROM users ORDER BY id')).toEqual([
      { id: 1, name: 'Ada L', tags: '[]', ends: null },
      { id: 2, name: 'Eve', tags: null, ends: 1 },
    ]);
    expect(await query('SELECT * FROM counters')).toEqual([{ id: 'a', n: 105 }]);
    expect(await query('SELECT kind, CAST(key AS TEXT) AS key FROM cairn_history ORDER BY key, version')).toEqual([
      { kind: 'set', key: 'user:1' },
      { kind: 'set', key: 'user:1' },
      { kind: 'set', key: 'user:2' },
      { kind: 'set', key: 'user:3' },
      { kind: 'delete', key: 'user:3' },
    ]);
    await cache.close();
    const again = await directories.open(data, options);
    again.evict('user:1');
    expect(await again.promises.get('user:1')).toEqual({ id: 1, name: 'Ada L', tags: [] });
    again.set('user:9', { nmae: 'typo' });
    await again.drain();
    expect(await again.writeBack.deadLetters()).toMatchObject([
      { error: 'The table has no column for the field "nmae"', errorCode: undefined },
    ]);
    await again.close();
  },
);
