// The databases of the bench: each with a backend and a raw loop of the same statements with the same package. A raw
// loop knows its batches: it makes no plan, checks nothing and cannot fail halfway.

import { mkdirSync } from 'node:fs';
import { join } from 'node:path';
import { startPostgres } from '../lib/postgres.mjs';
import { startMariadb } from './mariadb.mjs';

const dist = new URL('../../dist/backend/', import.meta.url).href;
const signed = (version) => BigInt.asIntN(64, version);

/** The changes of a batch as parameters of one statement each; there are no deletes in a raw loop. */
async function postgres({ folder, url }) {
  const { default: pg } = await import('pg');
  const server = url === undefined ? await startPostgres(folder) : { url, stop: async () => {} };
  const { PostgresBackend } = await import(`${dist}postgres.js`);
  const client = new pg.Client({ connectionString: server.url });
  await client.connect();
  const names = ['raw', 'raw_cursor', 'entries', 'cursors', 'dead_letters'].map((name) => `cairn_bench_${name}`);
  const drop = () => client.query(`DROP TABLE IF EXISTS ${names.join(', ')}`);
  await drop();
  await client.query(`CREATE TABLE cairn_bench_raw (key bytea PRIMARY KEY, value bytea NOT NULL, codec smallint NOT NULL,
    client_flags bigint NOT NULL, expires_ms bigint NOT NULL, version bigint NOT NULL);
    CREATE TABLE cairn_bench_raw_cursor (lane integer PRIMARY KEY, position bigint NOT NULL);
    INSERT INTO cairn_bench_raw_cursor VALUES (0, 0)`);
  const texts = new Map();
  const insert = (count) => {
    if (!texts.has(count)) {
      const rows = Array.from({ length: count }, (_, i) => `(${[1, 2, 3, 4, 5, 6].map((n) => `$${i * 6 + n}`)})`);
      texts.set(
        count,
        `INSERT INTO cairn_bench_raw VALUES ${rows} ON CONFLICT (key) DO UPDATE SET value = excluded.value,
        codec = excluded.codec, client_flags = excluded.client_flags, expires_ms = excluded.expires_ms,
        version = excluded.version`,
      );
    }
    return texts.get(count);
  };
  return {
    backend: new PostgresBackend({ url: server.url, name: 'bench', prefix: 'cairn_bench_' }),
    async raw(changes) {
      await client.query('BEGIN; UPDATE cairn_bench_raw_cursor SET position = position + 1 WHERE lane = 0');
      const values = [];
      for (const { key, value, codec, clientFlags, expiresWallMs, version } of changes) {
        values.push(key, value, codec, clientFlags, expiresWallMs, signed(version).toString());
      }
      await client.query({ name: `raw_${changes.length}`, text: insert(changes.length), values });
      await client.query('COMMIT');
    },
    async end() {
      await drop();
      await client.end();
      await server.stop();
    },
  };
}

async function mariadb({ folder }) {
  const server = await startMariadb(folder);
  const { MariadbBackend } = await import(`${dist}mariadb.js`);
  const { connection } = server;
  await connection.query(`CREATE TABLE raw (\`key\` varbinary(1056) NOT NULL PRIMARY KEY, value longblob NOT NULL,
    codec smallint NOT NULL, client_flags bigint NOT NULL, expires_ms bigint NOT NULL, version bigint NOT NULL)`);
  await connection.query('CREATE TABLE raw_cursor (lane int PRIMARY KEY, position bigint NOT NULL)');
  await connection.query('INSERT INTO raw_cursor VALUES (0, 0)');
  const columns = ['value', 'codec', 'client_flags', 'expires_ms', 'version'];
  const set = `INSERT INTO raw VALUES (?, ?, ?, ?, ?, ?)
    ON DUPLICATE KEY UPDATE ${columns.map((column) => `${column} = VALUES(${column})`)}`;
  return {
    backend: new MariadbBackend({ target: server.target, name: 'bench' }),
    async raw(changes) {
      await connection.query('START TRANSACTION');
      await connection.query('UPDATE raw_cursor SET position = position + 1 WHERE lane = 0');
      const rows = changes.map(({ key, value, codec, clientFlags, expiresWallMs, version }) => [
        ...[key, value, codec, BigInt(clientFlags), BigInt(expiresWallMs), signed(version)],
      ]);
      await connection.batch(set, rows);
      await connection.query('COMMIT');
    },
    end: () => server.stop(),
  };
}

async function lmdb({ folder }) {
  const { LmdbBackend } = await import(`${dist}lmdb.js`);
  const { open } = await import('lmdb');
  mkdirSync(folder, { recursive: true });
  const raw = open({
    path: join(folder, 'raw.lmdb'),
    noSubdir: true,
    encoding: 'binary',
    keyEncoding: 'binary',
    overlappingSync: false,
  });
  let position = 0;
  return {
    backend: new LmdbBackend({ path: join(folder, 'store.lmdb') }),
    async raw(changes) {
      raw.transactionSync(() => {
        raw.put(Buffer.from('cursor'), Buffer.from(String(++position)));
        for (const { key, value } of changes) raw.put(key, value);
      });
    },
    end: () => raw.close(),
  };
}

async function sqlite({ folder }) {
  const { SqliteBackend } = await import(`${dist}sqlite.js`);
  const { loadSqlite } = await import(`${dist}sqlite-driver.js`);
  mkdirSync(folder, { recursive: true });
  const raw = (await loadSqlite())(join(folder, 'raw.sqlite'));
  raw.exec(`PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL;
    CREATE TABLE entries (key BLOB PRIMARY KEY, value BLOB NOT NULL, codec INTEGER NOT NULL, client_flags INTEGER NOT NULL,
      expires_ms INTEGER NOT NULL, version INTEGER NOT NULL);
    CREATE TABLE cursors (lane INTEGER PRIMARY KEY, position INTEGER NOT NULL);
    INSERT INTO cursors VALUES (0, 0)`);
  const cursor = raw.prepare('UPDATE cursors SET position = position + 1 WHERE lane = 0');
  const set = raw.prepare(`INSERT INTO entries VALUES (?, ?, ?, ?, ?, ?) ON CONFLICT (key) DO UPDATE SET
    value = excluded.value, codec = excluded.codec, client_flags = excluded.client_flags,
    expires_ms = excluded.expires_ms, version = excluded.version`);
  return {
    backend: new SqliteBackend({ path: join(folder, 'store.sqlite') }),
    async raw(changes) {
      raw.exec('BEGIN IMMEDIATE');
      cursor.run();
      for (const { key, value, codec, clientFlags, expiresWallMs, version } of changes) {
        set.run(key, value, codec, clientFlags, expiresWallMs, signed(version));
      }
      raw.exec('COMMIT');
    },
    async end() {
      raw.close();
    },
  };
}

export const SUBJECTS = { postgres, mariadb, lmdb, sqlite };
