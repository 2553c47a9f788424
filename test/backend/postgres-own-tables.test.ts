// Tables of the user's own in PostgreSQL, on a real server of the test's own.

import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from 'vitest';
import type { SetChange, SweepPlace, TouchChange } from '../../src/backend/index.ts';
import { Codec } from '../../src/request/codec.ts';
import type { Rule } from '../../src/rules/index.ts';
import { add, remove, type Subject, set } from '../../src/testing/harness.ts';
import { describeHistory } from '../conformance/history.ts';
import { describeOwnTables } from '../conformance/own-tables.ts';
import { CuttingProxy, POSTGRES_WIRE } from '../support/cutting-proxy.ts';
import { withCode } from '../support/errors.ts';
import { ownRule, setJson, subjectWith } from '../support/own-tables.ts';
import { POSTGRES_MISSING, PostgresServer, postgresPrograms } from '../support/postgres.ts';
import { skipUnless } from '../support/skip.ts';

const USERS = 'CREATE TABLE users (id integer PRIMARY KEY, name text, age smallint)';

skipUnless(postgresPrograms, POSTGRES_MISSING).describe('with a server', () => {
  let server: PostgresServer;
  let proxy: CuttingProxy;
  const subjects: Subject[] = [];
  beforeAll(async () => {
    server = await PostgresServer.start();
    proxy = await CuttingProxy.start(server.socket, POSTGRES_WIRE);
  });
  afterAll(async () => {
    await proxy?.stop();
    await server?.stop();
  });
  beforeEach(() => server.query("SET lock_timeout = '5s'; DROP SCHEMA public CASCADE; CREATE SCHEMA public"));
  afterEach(() => Promise.all(subjects.splice(0).map((subject) => subject.backend.close())));

  async function closed(rules: readonly Rule[], port?: number, lanes = 1): Promise<Subject> {
    const subject = await subjectWith(server.url(port), rules, lanes);
    subjects.push(subject);
    return subject;
  }

  async function opened(rules: readonly Rule[], port?: number): Promise<Subject> {
    const subject = await closed(rules, port);
    await subject.backend.open();
    return subject;
  }

  const rowsOf = (table: string, order = 'id'): Promise<Record<string, unknown>[]> =>
    server.query(`SELECT * FROM ${table} ORDER BY ${order}`);

  describeOwnTables('PostgreSQL', {
    async reset(commands) {
      await server.query(`DROP SCHEMA public CASCADE; CREATE SCHEMA public; ${commands}`);
    },
    exec: (commands) => server.query(commands),
    async query(command) {
      const plain = (cell: unknown): unknown =>
        typeof cell === 'string' && /^-?\d{1,15}$/.test(cell) ? Number(cell) : cell;
      return (await server.query(command)).map((row) =>
        Object.fromEntries(Object.entries(row).map(([name, cell]) => [name, plain(cell)])),
      );
    },
    make: closed,
    laned: (rules) => closed(rules, undefined, 4),
    cut: {
      arm: (draw) => proxy.cutAt(draw.below(8), draw.pick(['before', 'after'])),
      disarm: () => proxy.disarm(),
      make: (rules) => closed(rules, proxy.port),
    },
    types: { textKey: 'text', bytesKey: 'bytea', bigint: 'bigint', wide: 'numeric(30, 0)' },
    fields: [
      ['boolean', true],
      ['boolean', false],
      ['smallint', -32768],
      ['integer', 2 ** 31 - 1],
      ['bigint', Number.MAX_SAFE_INTEGER],
      ['bigint', '9223372036854775807'],
      ['numeric(20, 4)', 12.5],
      ['numeric', '0.1000000000000000055511151231257827'],
      ['double precision', 1e300],
      ['real', 0.1],
      ['text', 'a "quoted"\n\\ text, grün 🦊 '],
      ['varchar(10)', 'short '],
      ['json', { a: [1, { b: null }], c: 'x' }],
      ['jsonb', { a: [1, { b: null }], c: 'x' }],
      ['timestamptz', '2026-01-31T12:00:00.123456Z'],
      ['date', '2026-01-31'],
      ['uuid', '6f1e1c1a-5c1b-4c3c-9a3e-1b2c3d4e5f60'],
    ],
    misfits: [
      ['smallint', 32768],
      ['bigint', '9223372036854775808'],
      ['boolean', 1],
      ['varchar(5)', 'too long'],
      ['date', '2026-02-31'],
      ['timestamptz', '2026-02-31T12:00:00Z'],
      ['text', 'NUL \0'],
      ['jsonb', { a: 'NUL \0' }],
    ],
    refused: [
      [
        'a key whose unique index has some rows only',
        'CREATE TABLE users (id integer, tenant integer); CREATE UNIQUE INDEX ON users (id) WHERE tenant > 1',
        ownRule('u:', { table: 'users' }),
        /users has no unique index on id alone/,
      ],
      [
        'an index that is checked at COMMIT only',
        'CREATE TABLE users (id integer UNIQUE DEFERRABLE, name text)',
        ownRule('u:', { table: 'users' }),
        /no unique index on id alone/,
      ],
      [
        'a key that is filled up with spaces',
        'CREATE TABLE users (id char(5) PRIMARY KEY, name text)',
        ownRule('u:', { table: 'users' }),
        /users\.id has the type character: it cannot be a key/,
      ],
      [
        'a key whose collation merges texts',
        `CREATE COLLATION loose (provider = icu, locale = 'und-u-ks-level2', deterministic = false);
         CREATE TABLE users (id text COLLATE loose PRIMARY KEY, name text)`,
        ownRule('u:', { table: 'users' }),
        /users\.id has the collation loose, which merges texts that differ: it cannot be a key/,
      ],
      [
        'a key that the database numbers',
        'CREATE TABLE users (id integer GENERATED ALWAYS AS IDENTITY PRIMARY KEY, name text)',
        ownRule('u:', { table: 'users' }),
        /users\.id is generated by the database: it cannot be a key/,
      ],
      [
        'a field that no value of JSON stands for',
        'CREATE TABLE users (id integer PRIMARY KEY, place point)',
        ownRule('u:', { table: 'users' }),
        /users\.place has the type point, which no value of JSON stands for/,
      ],
      [
        'a table that a crash empties',
        `${USERS}; ALTER TABLE users SET UNLOGGED`,
        ownRule('u:', { table: 'users' }),
        /unlogged/,
      ],
    ],
  });

  describe('rows', () => {
    test.each<[string, string, unknown, string?]>([
      ['boolean', 'boolean', true],
      ['smallint', 'smallint', -32768],
      ['integer', 'integer', 2 ** 31 - 1],
      ['bigint', 'bigint', Number.MAX_SAFE_INTEGER],
      ['bigint beyond 2^53', 'bigint', '9223372036854775807'],
      ['numeric', 'numeric(20, 4)', 12.5],
      ['numeric that no number is', 'numeric', '0.1000000000000000055511151231257827'],
      ['double precision', 'double precision', 1e300],
      ['real', 'real', 0.1],
      ['text', 'text', 'a "quoted"\n\\ text, grün 🦊'],
      ['varchar', 'varchar(10)', 'short'],
      ['json', 'json', { a: [1, { b: null }], c: 'x' }],
      ['jsonb', 'jsonb', { a: [1, { b: null }], c: 'x' }],
      ['a timestamp with a zone', 'timestamptz', '2026-01-31T12:00:00.123Z'],
      ['of microseconds', 'timestamptz', '2026-01-31T12:00:00.123456Z'],
      ['a timestamp of another zone', 'timestamptz', '2026-01-31T12:00:00+02:00', '2026-01-31T10:00:00.000Z'],
      ['a timestamp without a zone', 'timestamp', '2026-01-31T12:00:00.000'],
      ['date', 'date', '2026-01-31'],
      ['uuid', 'uuid', '6f1e1c1a-5c1b-4c3c-9a3e-1b2c3d4e5f60'],
      ['an enumeration', 'mood', 'sad'],
      ['a domain', 'age', 17],
    ])('of the type %s are loaded as they were set', async (_, type, value, loaded = JSON.stringify(value)) => {
      await server.query(`CREATE TYPE mood AS ENUM ('happy', 'sad'); CREATE DOMAIN age AS integer CHECK (VALUE > 0);
        CREATE TABLE t (id bigint PRIMARY KEY, field ${type}); SET timezone = 'Asia/Tokyo';
        ALTER ROLE CURRENT_USER SET timezone = 'Asia/Tokyo'; ALTER ROLE CURRENT_USER SET datestyle = 'German'`);
      const subject = await opened([ownRule('t:', { table: 't' })]);
      const { deadLetters } = await subject.write(setJson('t:1', { field: value }));
      expect(deadLetters).toEqual([]);
      const text = loaded.startsWith('"') || !loaded.startsWith('20') ? loaded : JSON.stringify(loaded);
      const [found] = await subject.texts('t:1');
      expect(JSON.parse(found!)).toEqual({ id: 1, field: JSON.parse(text) });
      await server.query('ALTER ROLE CURRENT_USER RESET ALL');
    });

    test('of a field that is left out have the default of a column that takes no NULL', async () => {
      await server.query(`CREATE TABLE t (id integer PRIMARY KEY, state text NOT NULL DEFAULT 'new',
        note text DEFAULT 'none', total integer GENERATED ALWAYS AS (7) STORED)`);
      const subject = await opened([ownRule('t:', { table: 't' })]);
      await subject.write(setJson('t:1', {}), setJson('t:2', { state: 'old', note: 'x' }));
      expect(await rowsOf('t')).toEqual([
        { id: 1, state: 'new', note: null, total: 7 },
        { id: 2, state: 'old', note: 'x', total: 7 },
      ]);
      await subject.write(setJson('t:2', {}));
      expect(await subject.texts('t:2')).toEqual(['{"id":2,"state":"new","note":null}']);
    });

    test('of a field that is left out have the next number of a column that the database numbers', async () => {
      await server.query(`CREATE SCHEMA "the shop"; CREATE TABLE "the shop"."T" (id integer PRIMARY KEY,
        "No" integer GENERATED BY DEFAULT AS IDENTITY (START WITH 5), own serial)`);
      const subject = await opened([ownRule('t:', { table: 'the shop.T' })]);
      const { deadLetters } = await subject.write(setJson('t:1', {}), setJson('t:2', { No: 90, own: 7 }));
      expect(deadLetters).toEqual([]);
      await subject.write(setJson('t:3', { own: 8 }));
      expect(await rowsOf('"the shop"."T"')).toEqual([
        { id: 1, No: 5, own: 1 },
        { id: 2, No: 90, own: 7 },
        { id: 3, No: 6, own: 8 },
      ]);
    });
  });

  test('sets, deletes and touches of several tables keep the order of their keys and one transaction', async () => {
    await server.query(`CREATE TABLE parents (id integer PRIMARY KEY, name text);
      CREATE TABLE children (id integer PRIMARY KEY, parent integer NOT NULL REFERENCES parents);
      CREATE TABLE seen (n bigserial, tx xid8, what text);
      CREATE FUNCTION note() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
        INSERT INTO seen (tx, what) VALUES (pg_current_xact_id(), TG_OP || ' ' || TG_TABLE_NAME || ' '
          || CASE WHEN TG_OP = 'DELETE' THEN OLD.id ELSE NEW.id END);
        RETURN NULL; END $$;
      CREATE TRIGGER note AFTER INSERT OR DELETE ON parents FOR EACH ROW EXECUTE FUNCTION note();
      CREATE TRIGGER note AFTER INSERT OR DELETE ON children FOR EACH ROW EXECUTE FUNCTION note()`);
    const subject = await opened([ownRule('p:', { table: 'parents' }), ownRule('c:', { table: 'children' })]);
    await subject.write(
      setJson('c:2', { parent: 1 }),
      setJson('c:1', { parent: 1 }),
      setJson('p:1', { name: 'x' }),
      set('plain', 'y'),
    );
    await subject.write(remove('p:1'), remove('c:1'), remove('c:2'));
    const seen = await server.query('SELECT what, tx::text FROM seen ORDER BY n');
    expect(seen.map(({ what }) => what)).toEqual([
      ...['INSERT parents 1', 'INSERT children 1', 'INSERT children 2'],
      ...['DELETE children 1', 'DELETE children 2', 'DELETE parents 1'],
    ]);
    expect(new Set(seen.map(({ tx }) => tx)).size).toBe(2);
  });

  test('a set, a delete and a touch that the rule refuses say why', async () => {
    await server.query(USERS);
    const subject = await opened([ownRule('user:', { table: 'users' })]);
    const { deadLetters } = await subject.write(
      setJson('user:2', { nmae: 'typo' }),
      setJson('user:3', ['no object']),
      set('user:5', '{"name":', { codec: Codec.raw }),
      setJson('user:6', { age: 32768 }),
      setJson('user:08', { name: 'no integer' }),
      setJson('user:9', { id: 10 }),
      setJson('user:10', { name: 'NUL \0' }),
      setJson('user:11', { name: 'flags' }, { clientFlags: 1 }),
    );
    expect(deadLetters.map(({ change, error }) => `${change.key}: ${error.message}`).sort()).toEqual([
      'user:08: No row can have this key: its key columns are id (integer)',
      'user:10: The column name (text) cannot have "NUL \\u0000"',
      'user:11: The table has no column for the client flags 1',
      'user:2: The table has no column for the field "nmae"',
      'user:3: Expected a JSON object: the value is none',
      'user:5: Expected JSON: the value is none',
      'user:6: The column age (smallint) cannot have 32768',
      'user:9: The field id differs from the key',
    ]);
  });

  test('tables of a thousand columns and batches of thousands of rows are written in pieces', async () => {
    const columns = Array.from({ length: 1000 }, (_, i) => `f${i}`);
    await server.query(`CREATE TABLE wide (id integer PRIMARY KEY, ${columns.map((each) => `${each} integer`)});
      ${USERS}`);
    const subject = await opened([ownRule('wide:', { table: 'wide' }), ownRule('user:', { table: 'users' })]);
    await subject.write(
      ...Array.from({ length: 100 }, (_, i) => setJson(`wide:${i}`, { f0: i, f999: -i })),
      ...Array.from({ length: 3000 }, (_, i) => setJson(`user:${i}`, { age: i })),
    );
    expect(await server.query('SELECT count(*)::int, sum(f999)::int FROM wide')).toEqual([{ count: 100, sum: -4950 }]);
    expect(await server.query('SELECT count(*)::int FROM users')).toEqual([{ count: 3000 }]);
    const keys = Array.from({ length: 3000 }, (_, i) => `user:${i}`);
    expect((await subject.texts(...keys)).filter((text) => text !== undefined)).toHaveLength(3000);
    await subject.write(...keys.map((key) => remove(key)));
    expect(await server.query('SELECT count(*)::int FROM users')).toEqual([{ count: 0 }]);
  });

  describe('a counter', () => {
    const rule = (own: object = {}): Rule => ({
      ...ownRule('n:', { table: 'counters', value: { kind: 'whole', column: 'n' }, ...own }),
      counter: true,
    });

    test('is a dead letter where the column has NaN, and where a trigger skips the row', async () => {
      await server.query(`CREATE TABLE counters (id integer PRIMARY KEY, n numeric);
        INSERT INTO counters VALUES (1, 'NaN'), (2, 1.5), (3, 1);
        CREATE FUNCTION skip() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END';
        CREATE TRIGGER skip BEFORE UPDATE ON counters FOR EACH ROW WHEN (NEW.id = 3) EXECUTE FUNCTION skip()`);
      const subject = await opened([rule()]);
      const { deadLetters } = await subject.write(add('n:1', 3n, 4), add('n:2', 3n, 4), add('n:3', 3n, 4));
      expect(deadLetters.map(({ change }) => String(change.key)).sort()).toEqual(['n:1', 'n:3']);
      expect((await rowsOf('counters')).map(({ n }) => n)).toEqual(['NaN', '4.5', '1']);
    });

    test('is added once to each of thousands of rows, some of which are not there, by text keys of two columns', async () => {
      await server.query(`CREATE TABLE counters (a text, id text, n integer NOT NULL, PRIMARY KEY (a, id));
        INSERT INTO counters SELECT 'x', i::text, 1000 FROM generate_series(0, 2999, 2) AS i`);
      const subject = await opened([rule({ key: ['a', 'id'] })]);
      await subject.write(...Array.from({ length: 3000 }, (_, i) => add(`n:x:${i}`, BigInt(i), i + 5)));
      const found = await server.query('SELECT id::int, n FROM counters ORDER BY id::int');
      expect(found).toEqual(Array.from({ length: 3000 }, (_, id) => ({ id, n: id % 2 === 0 ? 1000 + id : id + 5 })));
    });

    test('needs a column of numbers', async () => {
      await server.query('CREATE TABLE counters (id integer PRIMARY KEY, n text)');
      await expect(opened([rule()])).rejects.toThrow(
        withCode('ERR_BACKEND_UNFIT', /counters\.n has the type text: it cannot be a counter/),
      );
    });
  });

  test('rows of history are added with their batch, also those of values that do not fit', async () => {
    await server.query(USERS);
    const rule = { ...ownRule('user:', { table: 'users' }), history: true as const };
    const subject = await opened([rule]);
    const long = `user:${'x'.repeat(3000)}`;
    const logged = (change: SetChange | TouchChange, loggedWallMs: number) => ({ ...change, loggedWallMs });
    const changes = [setJson('user:1', { name: 'Ada' }), setJson('user:2', 'no object'), setJson(long, {})];
    const history = [
      logged(setJson('user:1', { name: 'A' }), 1_900_000_000_123),
      ...changes.map((change) => logged(change, 1_900_000_000_456)),
    ];
    const to = subject.next();
    const outcome = await subject.backend.write({ changes, history, from: undefined, to });
    expect(outcome).toMatchObject({ kind: 'committed', deadLetters: [{}, {}] });
    const found = await server.query(`SELECT kind, coalesce(long_key, key) AS key, value, version,
      round(extract(epoch FROM logged_at) * 1000)::text AS ms FROM cairn_history WHERE kind <> 'touch' ORDER BY version`);
    expect(found.map(({ key, value, ms }) => [String(key), String(value), Number(ms)])).toEqual(
      [...history.slice(1, 4), history[0]!].map((row) => {
        return [String(row.key), row.kind === 'set' ? String(row.value) : '', row.loggedWallMs];
      }),
    );
  });

  describeHistory('PostgreSQL', {
    open: opened,
    async rows() {
      const found =
        await server.query(`SELECT coalesce(long_key, key) AS key, version, kind, value, codec, client_flags,
        expires_ms, round(extract(epoch FROM logged_at) * 1000)::bigint AS logged FROM cairn_history ORDER BY version`);
      const number = (cell: unknown): bigint | undefined => (cell === null ? undefined : BigInt(cell as string));
      return found.map((row) => ({
        ...{ key: row['key'] as Buffer, version: number(row['version'])!, kind: row['kind'] as string },
        ...{ value: (row['value'] as Buffer | null) ?? undefined, codec: number(row['codec']) },
        ...{ clientFlags: number(row['client_flags']), expiresMs: number(row['expires_ms']) },
        loggedMs: number(row['logged'])!,
      }));
    },
    refuseLong: () => server.query('ALTER TABLE cairn_history ADD CHECK (octet_length(value) < 5)'),
  });

  describe('a sweep', () => {
    async function pass(subject: Subject, expiredAtMs: number, rows = 3): Promise<number> {
      let removed = 0;
      let place: SweepPlace | undefined;
      for (let pieces = 0; pieces < 100; pieces++) {
        const swept = await subject.backend.sweep!({ at: [subject.cursor!], expiredAtMs, place, rows });
        removed += swept!.removed;
        place = swept!.place;
        if (place === undefined) return removed;
      }
      throw new Error('The pass does not end');
    }

    test('removes expired rows by a timestamp', async () => {
      await server.query('CREATE TABLE swept (a text, b integer, until timestamptz, UNIQUE (a, b))');
      const both = { table: 'swept', key: ['a', 'b'], expiresAt: 'until' };
      const subject = await opened([ownRule('s:', both, true)]);
      const timeMs = subject.nowMs + 100;
      await subject.write(
        ...Array.from({ length: 8 }, (_, i) => {
          return setJson(`s:a:${i}`, {}, { expiresWallMs: [0, timeMs - 1, timeMs, timeMs + 1][i % 4]! });
        }),
      );
      await server.query("INSERT INTO swept VALUES ('x', 1, '-infinity'), ('x', 2, 'infinity')");
      expect(await pass(subject, timeMs)).toBe(5);
      const left = await server.query('SELECT a, b FROM swept ORDER BY a, b');
      expect(left.map(({ a, b }) => `${a}${b}`)).toEqual(['a0', 'a3', 'a4', 'a7', 'x2']);
    });
  });
});
