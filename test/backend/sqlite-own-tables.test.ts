// Tables of the user's own in SQLite, with each of the packages that are here.

import { mkdirSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { afterAll, describe, expect, test } from 'vitest';
import { SqliteBackend } from '../../src/backend/sqlite.ts';
import { Codec } from '../../src/request/codec.ts';
import { Subject, set } from '../../src/testing/harness.ts';
import { describeOwnTables } from '../conformance/own-tables.ts';
import { ownRule, plainRows, setJson, subjectsOf } from '../support/own-tables.ts';
import { SQLITE_PACKAGES } from '../support/sqlite.ts';

const folder = mkdtempSync(join(tmpdir(), 'cairn-sqlite-own-'));
afterAll(() => rmSync(folder, { recursive: true, force: true }));

for (const { name, load, condition } of SQLITE_PACKAGES) {
  condition.describe(`with ${name}`, () => {
    let path = '';
    let count = 0;
    const exec = async (commands: string): Promise<void> => {
      const database = (await load())(path);
      database.exec(commands);
      database.close();
    };
    const reset = (commands: string): Promise<void> => {
      path = join(folder, `${name.replace(':', '-')}-${++count}`, 'store.sqlite');
      mkdirSync(dirname(path), { recursive: true });
      return exec(commands);
    };
    const query = async (command: string): Promise<Record<string, unknown>[]> => {
      const database = (await load())(path);
      const rows = database.prepare(command).all();
      database.close();
      return plainRows(rows);
    };
    const subjects = subjectsOf(reset, (rules, lanes = 1) => {
      return new Subject((clock) => new SqliteBackend({ path, clock, load, rules, lanes }));
    });
    const { opened } = subjects;

    describeOwnTables('SQLite', {
      ...{ reset, exec, query, subjects },
      types: { textKey: 'text', bytesKey: 'blob', bigint: 'bigint' },
      fields: [
        ['boolean', true],
        ['boolean', false],
        ['integer', Number.MAX_SAFE_INTEGER],
        ['integer', '9223372036854775807'],
        ['smallint', 100_000],
        ['numeric', 12.5],
        ['numeric', 5],
        ['decimal(10, 2)', 1e300],
        ['numeric', '9007199254740993'],
        ['real', 0.1],
        ['double precision', 5],
        ['real', 1e300],
        ['text', 'a "quoted"\n\\ text, grün 🦊 '],
        ['varchar(3)', 'longer than it says'],
        ['text', '007'],
        ['json', { a: [1, { b: null }], c: 'x' }],
        ['json', 5],
        ['json', '5'],
        ['datetime', '2026-01-31T12:00:00.000Z'],
        ['date', '2026-01-31'],
        ['uuid', '6f1e1c1a-5c1b-4c3c-9a3e-1b2c3d4e5f60'],
      ],
      misfits: [
        ['boolean', 7],
        ['integer', 1.5],
        ['integer', '9223372036854775808'],
        ['numeric', '0.1000000000000000055511151231257827'],
        ['datetime', '1700000000'],
        ['uuid', '1e5'],
        ['text', 'NUL \0'],
        ['text', 5],
        ['json', { a: 'NUL \0' }],
        ['integer CHECK (field > 0)', -1],
      ],
      refused: [
        [
          'a key whose collation does not mind case',
          'CREATE TABLE users (id text COLLATE NOCASE PRIMARY KEY, name text)',
          ownRule('u:', { table: 'users' }),
          /users\.id has the collation NOCASE in its unique index, which merges texts that differ: it cannot be a key/,
        ],
        [
          'a key whose collation ignores spaces at the end, in a table without row numbers',
          'CREATE TABLE users (id text COLLATE RTRIM PRIMARY KEY, name text) WITHOUT ROWID',
          ownRule('u:', { table: 'users' }),
          /users\.id has the collation RTRIM/,
        ],
        [
          'a key whose unique index has some rows only',
          'CREATE TABLE users (id text, n integer); CREATE UNIQUE INDEX some ON users (id) WHERE n > 1',
          ownRule('u:', { table: 'users' }),
          /no unique index on id alone/,
        ],
        [
          'a key whose unique index is that of an expression',
          'CREATE TABLE users (id text, n integer); CREATE UNIQUE INDEX other ON users (lower(id))',
          ownRule('u:', { table: 'users' }),
          /no unique index on id alone/,
        ],
        [
          'a virtual table',
          'CREATE VIRTUAL TABLE users USING fts5 (id, name)',
          ownRule('u:', { table: 'users' }),
          /users is not a table/,
        ],
        [
          'a column without a type',
          'CREATE TABLE users (id integer PRIMARY KEY, any)',
          ownRule('u:', { table: 'users' }),
          /users\.any has the type none, which no value of JSON stands for/,
        ],
        [
          'a column of any type',
          'CREATE TABLE users (id integer PRIMARY KEY, free any) STRICT',
          ownRule('u:', { table: 'users' }),
          /users\.free has the type any, which no value/i,
        ],
        [
          'a column whose type SQLite takes for a number',
          'CREATE TABLE users (id integer PRIMARY KEY, name string)',
          ownRule('u:', { table: 'users' }),
          /users\.name has the type string, which no value/i,
        ],
        [
          'a table of another schema',
          'CREATE TABLE users (id integer PRIMARY KEY, name text)',
          ownRule('u:', { table: 'shop.users' }),
          /the table shop\.users is missing/,
        ],
      ],
    });

    describe('a table', () => {
      test.each([
        ['whose key is the number of the row', 'id INTEGER PRIMARY KEY, name text', ''],
        ['whose key has an index beside the number of the row', 'id INTEGER PRIMARY KEY DESC, name text', ''],
        ['without row numbers', 'id integer PRIMARY KEY, name text', 'WITHOUT ROWID'],
        ['of strict types', 'id integer PRIMARY KEY, name text', 'STRICT'],
        ['of strict types without row numbers', 'id integer PRIMARY KEY, name text', 'STRICT, WITHOUT ROWID'],
      ])('%s has the rows of keys', async (_, columns, kind) => {
        const subject = await opened(`CREATE TABLE "the users" (${columns}) ${kind}`, [
          ownRule('u:', { table: 'main.the users' }),
        ]);
        const keys = ['u:1', 'u:-5', 'u:9223372036854775807', 'u:0'];
        await subject.write(...keys.map((key) => setJson(key, { name: key })), setJson('u:x', { name: 'none' }));
        await subject.write(setJson('u:1', { name: 'new' }), setJson('u:0', {}));
        expect(await subject.texts(...keys)).toEqual([
          '{"id":1,"name":"new"}',
          '{"id":-5,"name":"u:-5"}',
          '{"id":"9223372036854775807","name":"u:9223372036854775807"}',
          '{"id":0,"name":null}',
        ]);
        expect((await subject.scan()).rows).toHaveLength(5);
        expect(await query('SELECT count(*) AS n FROM "the users"')).toEqual([{ n: 4 }]);
      });

      test('whose key column does not mind case may have an index that does', async () => {
        const subject = await opened(
          'CREATE TABLE t (id text COLLATE NOCASE, n integer); CREATE UNIQUE INDEX bytes ON t (id COLLATE BINARY)',
          [ownRule('t:', { table: 't' })],
        );
        await subject.write(setJson('t:a', { n: 1 }), setJson('t:A', { n: 2 }));
        await subject.write(setJson('t:a', { n: 3 }));
        expect(await subject.texts('t:a', 't:A', 't:b')).toEqual(['{"id":"a","n":3}', '{"id":"A","n":2}', undefined]);
        expect((await subject.scan()).rows).toHaveLength(2);
      });

      test('that would replace another row does not', async () => {
        const subject = await opened(
          `CREATE TABLE t (id integer PRIMARY KEY, email text UNIQUE ON CONFLICT REPLACE);
            INSERT INTO t VALUES (1, 'a@x')`,
          [ownRule('t:', { table: 't' })],
        );
        const { deadLetters } = await subject.write(setJson('t:2', { email: 'a@x' }));
        expect(deadLetters).toHaveLength(1);
        expect(await query('SELECT * FROM t')).toEqual([{ id: 1, email: 'a@x' }]);
      });

      test('with values of other kinds than its columns say is loaded as JSON', async () => {
        const subject = await opened(
          `CREATE TABLE t (id text PRIMARY KEY, n integer, x real, j json, b boolean, s text);
            INSERT INTO t VALUES ('a', 'no number', 'none', '{not json', 5, x'61'), ('b', 1.5, 7, '[1]', 0, 'x'),
              ('c', '0x10', 9e999, 12, NULL, NULL), (x'64', 1, 1, '1', 1, 'blob')`,
          [ownRule('t:', { table: 't' })],
        );
        const found = await subject.texts('t:a', 't:b', 't:c', 't:d');
        expect(found.map((text) => text && JSON.parse(text))).toEqual([
          { id: 'a', n: 'no number', x: null, j: '{not json', b: true, s: 'a' },
          { id: 'b', n: 1.5, x: 7, j: [1], b: false, s: 'x' },
          { id: 'c', n: '0x10', x: null, j: 12, b: null, s: null },
          undefined,
        ]);
        // A blob is no text, so its row is that of no key.
        expect((await subject.scan()).rows.map(({ key }) => `${key}`)).toEqual(['t:a', 't:b', 't:c']);
      });

      test('with the whole value in one column has bytes, text and numbers', async () => {
        const subject = await opened(
          'CREATE TABLE b (id text PRIMARY KEY, data blob); CREATE TABLE n (id text PRIMARY KEY, data integer)',
          [
            ownRule('b:', { table: 'b', value: { kind: 'whole', column: 'data' } }),
            ownRule('n:', { table: 'n', value: { kind: 'whole', column: 'data' } }),
          ],
        );
        const bytes = Buffer.from([0, 255, 10]);
        const { deadLetters } = await subject.write(
          { ...set('b:1', 'x', { codec: Codec.raw }), value: bytes } as ReturnType<typeof set>,
          set('n:1', '42', { codec: Codec.number }),
          set('n:2', 'text', { codec: Codec.ascii }),
        );
        expect(deadLetters.map(({ change }) => `${change.key}`)).toEqual(['n:2']);
        const { rows } = await subject.load('b:1', 'n:1');
        expect([rows[0]!.value, rows[1]!.value.toString()]).toEqual([bytes, '42']);
      });
    });
  });
}
