/** LMDB and SQLite: a file that is made for it. */
import { existsSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { loadTools, makeBackend } from '../backend/index.ts';
import { LmdbPast } from './lmdb-past.ts';
import { NotedStore } from './noted-store.ts';
import { SqlPast } from './sql-past.ts';

/** The file of an address: that one if it is named, and otherwise one in a new folder. */
async function fileOf(address: string, known: readonly string[]) {
  const { fileAddress } = await loadTools();
  const isNamed = !/^\w+:(\?|$)/.test(address);
  const folder = isNamed ? undefined : mkdtempSync(join(tmpdir(), 'cairn-torture-store-'));
  const { path, parameters } = fileAddress(address, folder, { file: 'store', known });
  if (existsSync(path)) throw new Error(`${path} exists: expected the path of a file that torture makes, or none`);
  const remove = (): void => {
    for (const end of ['', '-lock', '-wal', '-shm']) rmSync(path + end, { force: true });
    if (folder !== undefined) rmSync(dirname(path), { recursive: true, force: true });
  };
  return { path, parameters, remove };
}

export async function lmdbStore(address: string): Promise<NotedStore> {
  const { path, parameters, remove } = await fileOf(address, ['size', 'full']);
  if (parameters.get('full') === 'evict')
    throw new Error('Expected no full=evict: a database that evicts rows loses them, and says so');
  const query = new URLSearchParams([...parameters]).toString();
  const own = `lmdb:${path}${query === '' ? '' : `?${query}`}`;
  const { name } = await makeBackend(own);
  return new NotedStore({ name, address: own, past: new LmdbPast(path), remove });
}

export async function sqliteStore(address: string): Promise<NotedStore> {
  const { path, remove } = await fileOf(address, ['prefix']);
  const { loadSqlite } = await loadTools();
  const own = `sqlite:${path}`;
  const { name } = await makeBackend(own);
  const connect = await loadSqlite();
  const past = new SqlPast({
    connected: async (use) => {
      const database = connect(path);
      try {
        database.exec('PRAGMA busy_timeout = 5000');
        return await use(async (command) => {
          if (!command.startsWith('SELECT')) database.exec(command);
          else return database.prepare(command).all().map(Object.values);
          return [];
        });
      } finally {
        database.close();
      }
    },
    tables: { cursors: 'cairn_cursors', entries: 'cairn_entries', letters: 'cairn_dead_letters' },
    copyOf: (table) => `past_${table}`,
    begin: ['BEGIN IMMEDIATE'],
    make: (copy, table) => `CREATE TABLE IF NOT EXISTS ${copy} AS SELECT * FROM ${table} WHERE 0`,
  });
  return new NotedStore({ name, address: own, past, remove });
}
