// What a cache needs that only reads its database: rows that it may read, and nothing else. No table is made.

import { mkdirSync } from 'node:fs';
import { dirname } from 'node:path';
import { afterEach, beforeAll, beforeEach, expect, test } from 'vitest';
import { makeBackend } from '../../src/backend/index.ts';
import { Cache, type RuleOptions } from '../../src/index.ts';
import { DataDirectories } from '../support/data-directories.ts';
import { mariadbOfTests, postgresOfTests } from '../support/databases-of-tests.ts';
import { withCode } from '../support/errors.ts';
import { MARIADB_MISSING, mariadbPrograms } from '../support/mariadb.ts';
import { POSTGRES_MISSING, postgresPrograms } from '../support/postgres.ts';
import { skipUnless } from '../support/skip.ts';
import { SQLITE_PACKAGES } from '../support/sqlite.ts';

const directories = new DataDirectories('rights');
const cleanUps: (() => unknown)[] = [];
afterEach(async () => {
  for (const cleanUp of cleanUps.splice(0).reverse()) await cleanUp();
});

async function open(store: string, rules: readonly RuleOptions[]): Promise<Cache> {
  const cache = await Cache.open({ store, rules, mode: 'read-through' });
  cleanUps.push(() => cache.close());
  return cache;
}

/** Why a database is refused; undefined: it has not answered in time, and the cache was opened without its answer. */
async function refusalOf(store: string): Promise<unknown> {
  return await open(store, [BY_ID]).then(
    () => undefined,
    (error: unknown) => error,
  );
}

/** Writes entries of Cairn's own, as a user with all rights. */
async function write(store: string, entries: Record<string, unknown>): Promise<void> {
  const writer = await directories.open(directories.fresh(), { store });
  for (const [key, value] of Object.entries(entries)) writer.set(key, value);
  await writer.drain();
  await writer.close();
}

const USERS = `CREATE TABLE users (id integer PRIMARY KEY, email varchar(50) NOT NULL, n integer NOT NULL,
  twice integer GENERATED ALWAYS AS (2 * n) STORED)`;
const ROWS = "INSERT INTO users (id, email, n) VALUES (1, 'a@x', 5), (2, 'b@x', 6)";
const BY_ID: RuleOptions = { prefix: 'user:', table: 'users', key: 'id' };
/** Columns that a write could not leave out, or not set. */
const TWICE: RuleOptions = { prefix: 'twice:', table: 'users', key: 'id', value: { columns: ['twice'] } };

/** What a warm-up reads. */
async function scanned(store: string): Promise<string[]> {
  const rule = { prefix: 'user:', skip: false, deleteOnExpire: false } as const;
  const own = { table: 'users', key: ['id'], value: { kind: 'fields', columns: ['n'] } } as const;
  const backend = await makeBackend(store, { rules: [{ ...rule, own }], readsOnly: true });
  cleanUps.push(() => backend.close());
  await backend.open();
  expect(await backend.readCursors()).toEqual([]);
  const found: string[] = [];
  for await (const { rows } of backend.scan()) found.push(...rows.map(({ key, value }) => `${key} ${value}`));
  return found;
}

const SCANNED = ['user:1 {"id":1,"n":5}', 'user:2 {"id":2,"n":6}'];

async function readsUsers(cache: Cache): Promise<void> {
  expect(await cache.promises.get('user:1')).toEqual({ id: 1, email: 'a@x', n: 5 });
  expect(await cache.promises.getMany(['user:2', 'user:3', 'plain'])).toEqual([
    { id: 2, email: 'b@x', n: 6 },
    undefined,
    undefined,
  ]);
  expect(await cache.promises.get('twice:2')).toEqual({ id: 2, twice: 12 });
  cache.set('user:1', 'here only');
  cache.delete('user:2');
  expect(await cache.promises.get('user:2')).toEqual({ id: 2, email: 'b@x', n: 6 });
}

skipUnless(postgresPrograms, POSTGRES_MISSING).describe('of PostgreSQL', () => {
  const server = postgresOfTests();
  let reader: string;
  beforeAll(async () => {
    await server.query("CREATE ROLE reader LOGIN PASSWORD 'secret'");
    reader = server.url().replace(/\/\/[^@]*@/, '//reader:secret@');
  });
  beforeEach(() => server.reset(`GRANT USAGE ON SCHEMA public TO reader; ${USERS}; ${ROWS}`));

  test('a role that may only read a table is enough, and nothing is made', async () => {
    const refused = withCode('ERR_BACKEND_UNFIT', /SELECT on users is needed/);
    await expect.poll(() => refusalOf(reader)).toEqual(refused);
    await server.query('GRANT SELECT ON users TO reader');
    await readsUsers(await open(reader, [BY_ID, TWICE]));
    expect(await scanned(reader)).toEqual(SCANNED);
    expect(await server.query("SELECT relname FROM pg_class WHERE relname LIKE 'cairn%'")).toEqual([]);
    expect(await server.query('SELECT id, n FROM users ORDER BY id')).toEqual([
      { id: 1, n: 5 },
      { id: 2, n: 6 },
    ]);
  });

  test('rows of Cairn are read by a role that may read its tables, and refused by name to others', async () => {
    await write(server.url(), { plain: 'x' });
    await server.query('GRANT SELECT ON users TO reader');
    const refused = withCode('ERR_BACKEND_UNFIT', /SELECT on "public"\."cairn_entries" is needed/);
    await expect.poll(() => refusalOf(reader)).toEqual(refused);
    await server.query('GRANT SELECT ON cairn_entries, cairn_cursors, cairn_dead_letters TO reader');
    const cache = await open(reader, [BY_ID]);
    expect(await cache.promises.get('plain')).toBe('x');
    expect(await cache.promises.get('user:1')).toEqual({ id: 1, email: 'a@x', n: 5 });
  });
});

skipUnless(mariadbPrograms, MARIADB_MISSING).describe('of MariaDB', () => {
  const server = mariadbOfTests();
  let reader: string;
  let writer: string;
  beforeAll(async () => {
    await server.query("CREATE USER reader IDENTIFIED BY 'secret'");
    const { target, socket } = server;
    const rest = `localhost/app?socket=${encodeURIComponent(socket)}`;
    reader = `mariadb://reader:secret@${rest}`;
    writer = `mariadb://${target.user}:${encodeURIComponent(target.password!)}@${rest}`;
  });
  beforeEach(async () => {
    await server.reset(`${USERS}; ${ROWS}; REVOKE ALL PRIVILEGES, GRANT OPTION FROM reader`);
  });

  test('a user that may only read a table is enough, and nothing is made', async () => {
    await server.query('GRANT INSERT ON app.users TO reader');
    const refused = withCode('ERR_BACKEND_UNFIT', /SELECT on users is needed/);
    await expect.poll(() => refusalOf(reader)).toEqual(refused);
    await server.query('GRANT SELECT ON app.users TO reader');
    await readsUsers(await open(reader, [BY_ID, TWICE]));
    expect(await scanned(reader)).toEqual(SCANNED);
    expect(await server.query("SHOW TABLES LIKE 'cairn%'", 'app')).toHaveLength(0);
  });

  test('rows of Cairn are read by a user that may read its tables', async () => {
    await write(writer, { plain: 'x' });
    await server.query('GRANT SELECT ON app.* TO reader');
    const cache = await open(reader, [BY_ID]);
    expect(await cache.promises.get('plain')).toBe('x');
    expect(await cache.promises.get('user:1')).toEqual({ id: 1, email: 'a@x', n: 5 });
  });
});

for (const { name, load, condition } of SQLITE_PACKAGES) {
  condition.describe(`of SQLite by ${name}`, () => {
    test('a file is read as it is, and one that is missing is refused', async () => {
      const path = `${directories.fresh()}/store.sqlite`;
      mkdirSync(dirname(path), { recursive: true });
      const error = await open(`sqlite:${path}`, [BY_ID]).catch((cause: unknown) => cause);
      expect(error).toEqual(withCode('ERR_BACKEND_UNFIT', /there is no file .*store\.sqlite/));
      const database = (await load())(path);
      database.exec(`${USERS}; ${ROWS}`);
      await readsUsers(await open(`sqlite:${path}`, [BY_ID, TWICE]));
      expect(await scanned(`sqlite:${path}`)).toEqual(SCANNED);
      expect(database.prepare('SELECT name FROM sqlite_schema').all()).toEqual([{ name: 'users' }]);
      expect(database.prepare('PRAGMA journal_mode').all()).toEqual([{ journal_mode: 'delete' }]);
      database.close();
    });
  });
}
