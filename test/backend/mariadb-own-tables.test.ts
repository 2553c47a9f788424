// Tables of the user's own in MariaDB, on a real server of the test's own.

import { describe, expect, test } from 'vitest';
import { MariadbBackend, type MariadbOptions } from '../../src/backend/mariadb.ts';
import { add, Subject } from '../../src/testing/harness.ts';
import { describeOwnTables } from '../conformance/own-tables.ts';
import { MARIADB_WIRE } from '../support/cutting-proxy.ts';
import { mariadbOfTests, proxyOfTests } from '../support/databases-of-tests.ts';
import { withCode } from '../support/errors.ts';
import { MARIADB_MISSING, mariadbPrograms } from '../support/mariadb.ts';
import { ownRule, plainRows, setJson, subjectsOf } from '../support/own-tables.ts';
import { skipUnless } from '../support/skip.ts';

const TEXT_KEY = 'varchar(200) CHARACTER SET utf8mb4 COLLATE utf8mb4_nopad_bin';

skipUnless(mariadbPrograms, MARIADB_MISSING).describe('with a server', () => {
  const server = mariadbOfTests();
  const proxy = proxyOfTests(server, MARIADB_WIRE);

  const exec = (commands: string): Promise<unknown> =>
    commands === '' ? Promise.resolve() : server.query(commands, 'app');
  const reset = (commands: string): Promise<void> => server.reset(commands);
  const query = async (command: string): Promise<Record<string, unknown>[]> =>
    plainRows((await server.query(command, 'app')) as object[]);
  const subjectWith = (options: Partial<MariadbOptions>): Subject =>
    new Subject(
      (clock) => new MariadbBackend({ target: server.target, name: 'MariaDB of the test', clock, ...options }),
    );
  const subjects = subjectsOf(reset, (rules, lanes = 1) => subjectWith({ rules, lanes }));
  const { closed, opened } = subjects;

  describeOwnTables('MariaDB', {
    ...{ reset, exec, query, subjects },
    cut: {
      arm: (draw) => proxy.cutAt(draw.below(12), draw.pick(['before', 'after'])),
      disarm: () => proxy.disarm(),
      make: async (rules) => {
        const target = { ...server.target, socketPath: undefined, host: '127.0.0.1', port: proxy.port };
        return subjects.keep(subjectWith({ rules, target }));
      },
    },
    types: { textKey: TEXT_KEY, bytesKey: 'varbinary(200)', bigint: 'bigint', wide: 'decimal(30, 0)' },
    fields: [
      ['boolean', true],
      ['boolean', false],
      ['tinyint', -128],
      ['tinyint unsigned', 255],
      ['smallint', -32768],
      ['mediumint', 2 ** 23 - 1],
      ['int(5) zerofill', 7],
      ['integer unsigned', 2 ** 32 - 1],
      ['bigint', Number.MAX_SAFE_INTEGER],
      ['bigint', '9223372036854775807'],
      ['bigint unsigned', '18446744073709551615'],
      ['decimal(20, 4)', 12.5],
      ['decimal(40, 34)', '0.1000000000000000055511151231257827'],
      ['double', 1e300],
      ['double', 0.1],
      ['float', 0.1],
      ['float', 16777216],
      ['float', 123456.79],
      ['text', 'a "quoted"\n\\ text, grün 🦊 '],
      ['varchar(10)', 'short '],
      ['varchar(3)', '🦊🦊🦊'],
      ['char(10)', 'short'],
      ['json', { a: [1, { b: null }], c: 'x' }],
      ['json', 5],
      ['timestamp(3)', '2026-01-31T12:00:00.123Z'],
      ['timestamp(6)', '2026-01-31T12:00:00.123456Z'],
      ['timestamp(3)', '2026-01-31T00:30:00.5+02:00', '2026-01-30T22:30:00.500Z'],
      ['datetime(3)', '2026-01-31T12:00:00.000'],
      ['datetime(6)', '2026-01-31T12:00:00.123456'],
      ['date', '2026-01-31'],
      ['uuid', '6f1e1c1a-5c1b-4c3c-9a3e-1b2c3d4e5f60'],
      ["enum('happy', 'it''s', '7')", "it's"],
      ["enum('happy', 'sad', '7')", '7'],
    ],
    misfits: [
      ['boolean', 7],
      ['tinyint unsigned', -1],
      ['tinyint', 128],
      ['bigint unsigned', '18446744073709551616'],
      ['varchar(5)', 'too long'],
      ['varchar(5)', 'short '],
      ['char(5)', 'ab '],
      ['tinytext', `${'x'.repeat(255)} `],
      ['text CHARACTER SET latin1', '🦊'],
      ["enum('happy', 'sad')", 'SAD'],
      ["enum('happy', 'sad')", '2'],
      ['date', '2026-02-31'],
      ['timestamp', '2026-02-31T12:00:00Z'],
      ['timestamp', '2026-02-31T12:00:00+02:00'],
      ['timestamp', '2226-02-01T12:00:00Z'],
      ['decimal(4, 2)', 123.4],
      ['json', { a: 'NUL \0' }],
    ],
    refused: [
      [
        'a key of the collation that tables have by default',
        'CREATE TABLE users (id varchar(50) PRIMARY KEY, name text)',
        ownRule('u:', { table: 'users' }),
        /users\.id has the collation utf8mb4_general_ci, which merges texts that differ, as utf8mb4_nopad_bin does not: it cannot be a key/,
      ],
      [
        'a key of a collation that ignores spaces at the end',
        'CREATE TABLE users (id varchar(50) COLLATE utf8mb4_bin PRIMARY KEY, name text)',
        ownRule('u:', { table: 'users' }),
        /users\.id has the collation utf8mb4_bin, which merges/,
      ],
      [
        'a key that cannot have every text',
        'CREATE TABLE users (id varchar(50) CHARACTER SET latin1 COLLATE latin1_nopad_bin PRIMARY KEY, name text)',
        ownRule('u:', { table: 'users' }),
        /users\.id has the collation latin1_nopad_bin, which has not every text/,
      ],
      [
        'a key that is filled up with spaces',
        `CREATE TABLE users (id char(5) COLLATE utf8mb4_nopad_bin PRIMARY KEY, name text)`,
        ownRule('u:', { table: 'users' }),
        /users\.id has the type char\(5\): it cannot be a key/,
      ],
      [
        'a key that is filled up with zeros',
        'CREATE TABLE users (id binary(16) PRIMARY KEY, name text)',
        ownRule('u:', { table: 'users' }),
        /users\.id has the type binary\(16\): it cannot be a key/,
      ],
      [
        'a key of a list of texts',
        "CREATE TABLE users (id enum('a', 'b') COLLATE utf8mb4_nopad_bin PRIMARY KEY, name text)",
        ownRule('u:', { table: 'users' }),
        /users\.id has the type enum\('a','b'\): it cannot be a key/,
      ],
      [
        'a key whose index has the beginning of it only',
        'CREATE TABLE users (id varbinary(500), name text, UNIQUE (id(10)))',
        ownRule('u:', { table: 'users' }),
        /no unique index on id alone/,
      ],
      [
        'a key whose index has no order',
        'CREATE TABLE users (id longblob UNIQUE, name text)',
        ownRule('u:', { table: 'users' }),
        /no unique index on id alone/,
      ],
      [
        'an engine without transactions',
        'CREATE TABLE users (id integer PRIMARY KEY, name text) ENGINE = MyISAM',
        ownRule('u:', { table: 'users' }),
        /users has the engine MyISAM, which has no transactions: change it to InnoDB/,
      ],
      [
        'an expiry without milliseconds',
        'CREATE TABLE users (id integer PRIMARY KEY, until timestamp NULL)',
        ownRule('u:', { table: 'users', expiresAt: 'until' }),
        /users\.until has no milliseconds, as timestamp\(3\) has: it cannot be an expiry/,
      ],
      [
        'a field that no value of JSON stands for',
        'CREATE TABLE users (id integer PRIMARY KEY, place point)',
        ownRule('u:', { table: 'users' }),
        /users\.place has the type point, which no value of JSON stands for/,
      ],
      [
        'a table of another case',
        'CREATE TABLE Users (id integer PRIMARY KEY, name text)',
        ownRule('u:', { table: 'users' }),
        /the table users is missing/,
      ],
    ],
  });

  test('an expiry may be a timestamp, whatever the time zone of the server', async () => {
    await server.query("SET GLOBAL time_zone = '+09:00'");
    const rule = ownRule('t:', { table: 't', expiresAt: 'until' }, true);
    const subject = await opened(
      'CREATE TABLE t (id integer PRIMARY KEY, until timestamp(3) NULL, at timestamp(3) NULL)',
      [rule],
    );
    const until = subject.nowMs + 1234;
    const at = '2030-03-31T01:30:00.123Z';
    await subject.write(
      setJson('t:1', { at }, { expiresWallMs: until }),
      setJson('t:2', {}),
      setJson('t:3', {}, { expiresWallMs: 4_900_000_000_000 }),
    );
    await server.query("SET GLOBAL time_zone = 'SYSTEM'");
    const { rows } = await subject.load('t:1', 't:2', 't:3');
    expect(rows.map((row) => row?.expiresWallMs)).toEqual([until, 0, 4_900_000_000_000]);
    expect(rows[0]!.value.toString()).toBe(`{"id":1,"at":"${at}"}`);
    // A timestamp ends in 2038: the database refuses it.
    expect(await query('SELECT id FROM t ORDER BY id')).toEqual([{ id: 1 }, { id: 2 }]);
    const swept = await subject.backend.sweep!({
      at: [subject.cursor!],
      expiredAtMs: until,
      place: undefined,
      rows: 10,
    });
    expect(swept).toMatchObject({ removed: 0 });
    const last = await subject.backend.sweep!({
      at: [subject.cursor!],
      expiredAtMs: until,
      place: swept!.place,
      rows: 10,
    });
    expect(last).toMatchObject({ removed: 1, place: undefined });
    expect(await query('SELECT id FROM t')).toEqual([{ id: 2 }]);
  });

  test('a field that is left out has the next number of a column that the database numbers', async () => {
    const subject = await opened(
      `CREATE TABLE t (id ${TEXT_KEY}, no integer NOT NULL AUTO_INCREMENT PRIMARY KEY, UNIQUE (id)) AUTO_INCREMENT = 5`,
      [ownRule('t:', { table: 't' })],
    );
    const { deadLetters } = await subject.write(setJson('t:a', {}), setJson('t:b', { no: 90 }), setJson('t:c', {}));
    expect(deadLetters).toEqual([]);
    expect(await query('SELECT * FROM t ORDER BY id')).toEqual([
      { id: 'a', no: 5 },
      { id: 'b', no: 90 },
      { id: 'c', no: 91 },
    ]);
  });

  test('a table of another database is named with it, and what the user may not do there is refused', async () => {
    await server.query(`DROP DATABASE IF EXISTS \`the shop\`; CREATE DATABASE \`the shop\` CHARACTER SET utf8mb4;
      CREATE TABLE \`the shop\`.T (id integer PRIMARY KEY, name text); GRANT SELECT ON \`the shop\`.T TO cairn`);
    await reset('');
    const rules = [ownRule('t:', { table: 'the shop.T' })];
    const refused = await closed(rules);
    const message = /SELECT, INSERT, UPDATE and DELETE on the shop\.T are needed/;
    await expect(refused.backend.open()).rejects.toThrow(withCode('ERR_BACKEND_UNFIT', message));
    await server.query('GRANT INSERT, UPDATE, DELETE ON `the shop`.T TO cairn');
    const subject = await closed(rules);
    await subject.backend.open();
    await subject.write(setJson('t:1', { name: 'x' }));
    expect(await query('SELECT * FROM `the shop`.T')).toEqual([{ id: 1, name: 'x' }]);
    await server.query('DROP DATABASE `the shop`');
  });

  test('a value above the largest message is a dead letter, which is read whole', async () => {
    const subject = await opened('CREATE TABLE t (id integer PRIMARY KEY, data longtext)', [
      ownRule('t:', { table: 't', value: { kind: 'whole', column: 'data' } }),
    ]);
    await subject.backend.close();
    await server.query(`SET GLOBAL max_allowed_packet = ${2 ** 20}`);
    const small = await closed([ownRule('t:', { table: 't', value: { kind: 'whole', column: 'data' } })]);
    await small.backend.open();
    const text = 'grün '.repeat(300_000);
    const { deadLetters } = await small.write(
      { ...setJson('t:1', 0), value: Buffer.from(text), codec: 2 } as ReturnType<typeof setJson>,
      { ...setJson('t:2', 0), value: Buffer.from('x'), codec: 1 } as ReturnType<typeof setJson>,
    );
    await server.query(`SET GLOBAL max_allowed_packet = ${2 ** 30}`);
    expect(deadLetters.map(({ change }) => `${change.key}`)).toEqual(['t:1']);
    expect((await small.texts('t:1'))[0] === text).toBe(true);
    expect(await query('SELECT id FROM t')).toEqual([{ id: 2 }]);
  });
  test('a counter without a sign goes round at 2^64, and stops at 0', async () => {
    const rule = {
      ...ownRule('n:', { table: 'counters', value: { kind: 'whole', column: 'n?' } }),
      counter: true,
    } as const;
    const subject = await opened(
      `CREATE TABLE counters (id integer PRIMARY KEY, \`n?\` bigint unsigned NOT NULL, other integer UNIQUE);
        INSERT INTO counters (id, \`n?\`) VALUES (1, 18446744073709551615), (2, 5), (3, 18446744073709551615)`,
      [rule],
    );
    const changes = [add('n:1', 3n, 2), add('n:2', -9n, 0), add('n:3', -1n, 5), add('n:4', 1n, 7)];
    expect((await subject.write(...changes)).deadLetters).toEqual([]);
    expect(await subject.texts('n:1', 'n:2', 'n:3', 'n:4')).toEqual(['2', '0', '18446744073709551614', '7']);
  });

  describe('rows', () => {
    test('of a table are found by their index, however many keys are asked for', async () => {
      const subject = await opened(
        `CREATE TABLE t (a integer, b ${TEXT_KEY}, n integer, UNIQUE (a, b));
          INSERT INTO t SELECT seq, concat('k', seq), seq FROM seq_1_to_20000`,
        [ownRule('t:', { table: 't', key: ['a', 'b'] })],
      );
      await server.query('FLUSH STATUS');
      const readsBefore = await reads();
      const keys = Array.from({ length: 300 }, (_, i) => `t:${i + 1}:k${i + 1}`);
      expect((await subject.texts(...keys)).filter((text) => text === undefined)).toEqual([]);
      expect((await reads()) - readsBefore).toBeLessThan(5000);
    });

    const reads = async (): Promise<number> => {
      const rows = await query(
        "SHOW GLOBAL STATUS WHERE Variable_name IN ('Handler_read_rnd_next', 'Handler_read_next', 'Handler_read_key')",
      );
      return rows.reduce((total, row) => total + Number(row['Value']), 0);
    };
  });
});
