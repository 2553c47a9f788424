// SQLite behind a cache, with each of the packages that are here.

import { mkdirSync, mkdtempSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { afterAll, afterEach, describe, expect, test } from 'vitest';
import { makeBackend } from '../../src/backend/index.ts';
import { SqliteBackend, type SqliteOptions } from '../../src/backend/sqlite.ts';
import { loadSqlite } from '../../src/backend/sqlite-driver.ts';
import { REFUSED, REFUSED_EXPIRY, remove, Subject, set } from '../../src/testing/harness.ts';
import { describeBackend } from '../conformance/backend.ts';
import { describeHistory } from '../conformance/history.ts';
import { withCode } from '../support/errors.ts';
import { SQLITE_PACKAGES } from '../support/sqlite.ts';

const folder = mkdtempSync(join(tmpdir(), 'cairn-sqlite-'));
afterAll(() => rmSync(folder, { recursive: true, force: true }));
let count = 0;
let path = '';
const fresh = (): string => {
  path = join(folder, `${++count}`, 'store.sqlite');
  return path;
};

for (const { name, load, condition } of SQLITE_PACKAGES) {
  condition.describe(`with ${name}`, () => {
    const command = async (text: string): Promise<void> => {
      mkdirSync(dirname(path), { recursive: true });
      const database = (await load())(path);
      database.exec(text);
      database.close();
    };
    const refuse = (): Promise<void> =>
      command(`
        CREATE TRIGGER no_value BEFORE INSERT ON cairn_entries WHEN substr(NEW.value, 1, 7) = X'${hex(REFUSED)}'
          BEGIN SELECT RAISE(ABORT, 'This value is refused'); END;
        CREATE TRIGGER no_other_value BEFORE UPDATE ON cairn_entries WHEN substr(NEW.value, 1, 7) = X'${hex(REFUSED)}'
          OR NEW.expires_ms = ${REFUSED_EXPIRY} BEGIN SELECT RAISE(ABORT, 'This value is refused'); END;
        CREATE TRIGGER no_delete BEFORE DELETE ON cairn_entries WHEN substr(OLD.key, 1, 7) = X'${hex(REFUSED)}'
          BEGIN SELECT RAISE(ABORT, 'This row stays'); END`);

    describeBackend('SQLite', {
      async reset() {
        fresh();
      },
      make: (clock) => new SqliteBackend({ path, clock, load }),
      refuse,
      sweeps: true,
    });

    describe('with rules', () => {
      const subjects: Subject[] = [];
      afterEach(() => Promise.all(subjects.splice(0).map(({ backend }) => backend.close())));

      describeHistory('SQLite', {
        async open(rules) {
          fresh();
          const subject = new Subject((clock) => new SqliteBackend({ path, clock, load, rules }));
          subjects.push(subject);
          await subject.backend.open();
          return subject;
        },
        async rows() {
          const database = (await load())(path);
          const found = database.prepare('SELECT * FROM cairn_history ORDER BY version').all();
          database.close();
          const number = (cell: unknown): bigint | undefined => (cell === null ? undefined : (cell as bigint));
          return found.map((row) => ({
            ...{ key: row['key'] as Buffer, version: number(row['version'])!, kind: row['kind'] as string },
            ...{ value: (row['value'] as Buffer | null) ?? undefined, codec: number(row['codec']) },
            ...{ clientFlags: number(row['client_flags']), expiresMs: number(row['expires_ms']) },
            loggedMs: number(row['logged_ms'])!,
          }));
        },
        refuseLong: () =>
          command(`CREATE TRIGGER no_long BEFORE INSERT ON cairn_history WHEN length(NEW.value) > 4
            BEGIN SELECT RAISE(ABORT, 'too long'); END`),
      });
    });

    describe('SQLite', () => {
      let open: Subject[] = [];
      const opened = async (options: Partial<SqliteOptions> = {}): Promise<Subject> => {
        const subject = new Subject((clock) => new SqliteBackend({ path, clock, load, ...options }));
        open.push(subject);
        await subject.backend.open();
        return subject;
      };
      afterEach(async () => {
        for (const { backend } of open.splice(0)) await backend.close();
        open = [];
      });

      test('makes a file that others may not read', async () => {
        fresh();
        await opened();
        for (const end of ['', '-wal']) expect(statSync(`${path}${end}`).mode & 0o777).toBe(0o600);
      });

      test('waits for another program that writes, and fails as one that may be tried again', async () => {
        fresh();
        const subject = await opened({ busyTimeoutMs: 30 });
        await subject.write(set('key', 'value'));
        const other = (await load())(path);
        other.exec('BEGIN IMMEDIATE');
        const error = await subject.write(set('key', 'new')).catch((reason: unknown) => reason);
        expect(String(error)).toMatch(/locked/);
        expect(subject.backend.classify(error)).toBe('transient');
        expect(await subject.texts('key')).toEqual(['value']);
        other.exec('ROLLBACK');
        other.close();
        await subject.write(set('key', 'new'));
        expect(await subject.texts('key')).toEqual(['new']);
      });

      test('halts for a file that is not its own, or not to be had, and for a table that has gone', async () => {
        const garbage = join(folder, 'garbage');
        writeFileSync(garbage, Buffer.alloc(10_000, 7));
        for (const bad of [garbage, folder, join(garbage, 'store')]) {
          const backend = new SqliteBackend({ path: bad, load });
          const error = await backend.open().catch((reason: unknown) => reason);
          expect(backend.classify(error), `${bad}: ${error}`).toBe('halt');
          await backend.close();
        }
        fresh();
        const subject = await opened();
        await command('DROP TABLE cairn_entries');
        const error = await subject.write(set('key', 'value')).catch((reason: unknown) => reason);
        expect(subject.backend.classify(error)).toBe('halt');
        expect(await subject.backend.readCursors()).toEqual([]);
      });

      test('refuses tables that would not do, with all that is wrong', async () => {
        fresh();
        await command(`CREATE TABLE cairn_entries (key TEXT, value BLOB, mine TEXT NOT NULL);
          CREATE TABLE cairn_cursors (lane INTEGER PRIMARY KEY)`);
        const error = await opened().catch((reason: unknown) => reason);
        expect(error).toEqual(withCode('ERR_BACKEND_UNFIT', /has no column codec/));
        for (const part of ['mine is NOT NULL', 'primary key of "cairn_entries" is not key', 'no column log_id']) {
          expect(String(error)).toContain(part);
        }
      });

      test('halts for a constraint that no change can be blamed for', async () => {
        fresh();
        const subject = await opened();
        await command(`CREATE TRIGGER no_cursor BEFORE INSERT ON cairn_cursors BEGIN SELECT RAISE(ABORT, 'no'); END`);
        const error = await subject.write(set('key', 'value')).catch((reason: unknown) => reason);
        expect(error).toEqual(withCode('ERR_BACKEND_UNFIT', /refuses a batch as a whole: no/));
        expect(await subject.texts('key')).toEqual([undefined]);
      });

      test('halts for a trigger that rolls back the transaction of a batch, of which nothing is left', async () => {
        fresh();
        const subject = await opened();
        await subject.write(set('a', 'old'));
        await command(`CREATE TRIGGER back BEFORE INSERT ON cairn_entries WHEN NEW.key = X'62'
          BEGIN SELECT RAISE(ROLLBACK, 'all of it'); END`);
        const batch = {
          changes: [set('a', 'new'), set('b', '1'), set('c', '1')],
          from: subject.cursor,
          to: subject.next(),
        };
        const error = await subject.backend.write(batch).catch((reason: unknown) => reason);
        expect(subject.backend.classify(error)).toBe('halt');
        expect(await subject.texts('a', 'b', 'c')).toEqual(['old', undefined, undefined]);
        expect(await subject.backend.readCursors()).toEqual([subject.cursor]);
      });

      test('keeps a scan as it began while rows come and go', async () => {
        fresh();
        const subject = await opened();
        await subject.write(...Array.from({ length: 600 }, (_, i) => set(`key ${i}`, 'old')));
        const values = new Set<string>();
        let rowCount = 0;
        for await (const { rows } of subject.backend.scan()) {
          for (const { value } of rows) values.add(value.toString());
          rowCount += rows.length;
          await subject.write(set(`key ${rowCount}`, 'new'), remove(`key ${599 - rowCount}`));
        }
        expect(rowCount).toBe(600);
        expect(values).toEqual(new Set(['old']));
      });
    });
  });
}

const hex = (text: string): string => Buffer.from(text).toString('hex');

test('without any package for SQLite the error names both', async () => {
  const backend = await makeBackend('sqlite:x?prefix=mine_');
  expect(backend.name).toBe('SQLite in x');
  if (SQLITE_PACKAGES.every(({ isThere }) => !isThere)) {
    await expect(loadSqlite()).rejects.toThrow(withCode('ERR_DRIVER_MISSING', /better-sqlite3.*node:sqlite/));
  } else expect(await loadSqlite()).toBeTypeOf('function');
  await expect(makeBackend('sqlite::memory:')).rejects.toThrow(withCode('ERR_INVALID_ARGUMENT', /in memory/));
});
