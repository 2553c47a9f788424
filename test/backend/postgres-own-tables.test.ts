// Tables of the user's own in PostgreSQL, on a real server of the test's own.

import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from 'vitest';
import type { Change, SetChange, SweepPlace, TouchChange } from '../../src/backend/index.ts';
import { Codec } from '../../src/request/codec.ts';
import type { Rule } from '../../src/rules/index.ts';
import { add, compare, Draw, RowsModel, remove, type Subject, set, touch } from '../../src/testing/harness.ts';
import { describeHistory } from '../conformance/history.ts';
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

  async function closed(rules: readonly Rule[], port?: number): Promise<Subject> {
    const subject = await subjectWith(server.url(port), rules);
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

  describe('rows', () => {
    test('have the fields of an object, and a load gives the object', async () => {
      await server.query(USERS);
      const subject = await opened([ownRule('user:', { table: 'users' })]);
      const { deadLetters } = await subject.write(
        setJson('user:1', { name: 'Ada', age: 36 }),
        setJson('user:2', { id: 2, age: null }),
        setJson('other:1', { name: 'Eve' }),
      );
      expect(deadLetters).toEqual([]);
      expect(await rowsOf('users')).toEqual([
        { id: 1, name: 'Ada', age: 36 },
        { id: 2, name: null, age: null },
      ]);
      const { rows, cursors } = await subject.load('user:1', 'user:3', 'user:2', 'other:1', 'user:1');
      expect(rows.map((row) => row?.value.toString())).toEqual([
        '{"id":1,"name":"Ada","age":36}',
        undefined,
        '{"id":2,"name":null,"age":null}',
        '{"name":"Eve"}',
        '{"id":1,"name":"Ada","age":36}',
      ]);
      expect(rows[0]).toMatchObject({ codec: Codec.json, clientFlags: 0, expiresWallMs: 0, version: 0n });
      expect(cursors).toEqual([subject.cursor]);
      await subject.write(remove('user:1'), setJson('user:2', { name: 'Bob' }), touch('user:2', 5));
      expect(await rowsOf('users')).toEqual([{ id: 2, name: 'Bob', age: null }]);
      expect(await server.query('SELECT count(*)::int FROM cairn_entries')).toEqual([{ count: 1 }]);
    });

    test('of another program are loaded', async () => {
      await server.query(`${USERS}; INSERT INTO users VALUES (7, 'Eve', 30)`);
      const subject = await opened([ownRule('user:', { table: 'users' })]);
      expect(await subject.texts('user:7')).toEqual(['{"id":7,"name":"Eve","age":30}']);
    });

    test('have expiry, version and client flags where there are columns for them', async () => {
      await server.query(`CREATE TABLE s (id text PRIMARY KEY, data text NOT NULL, until timestamptz,
        changed bigint NOT NULL, flags bigint NOT NULL)`);
      const own = { value: { kind: 'whole', column: 'data' }, expiresAt: 'until', version: 'changed' } as const;
      const subject = await opened([ownRule('s:', { table: 's', ...own, clientFlags: 'flags' })]);
      const soon = subject.nowMs + 1234;
      await subject.write(
        set('s:a', 'text', { codec: Codec.ascii, clientFlags: 2 ** 32 - 1, expiresWallMs: soon }),
        set('s:b', 'grün', { codec: Codec.utf8, version: 2n ** 63n + 5n }),
        set('s:c', 'raw', { codec: Codec.raw }),
      );
      const { rows } = await subject.load('s:a', 's:b', 's:c');
      expect(rows[0]).toMatchObject({ codec: Codec.ascii, clientFlags: 2 ** 32 - 1, expiresWallMs: soon });
      expect(rows[1]).toMatchObject({ codec: Codec.utf8, version: 2n ** 63n + 5n, expiresWallMs: 0 });
      expect(rows[2]!.value.toString()).toBe('raw');
      const change = touch('s:b', subject.nowMs + 1);
      await subject.write(change, touch('s:missing', 5));
      expect((await subject.load('s:b')).rows[0]).toMatchObject({
        expiresWallMs: subject.nowMs + 1,
        version: change.version,
      });
      subject.nowMs += 1;
      expect(await subject.texts('s:a', 's:b')).toEqual(['text', undefined]);
      await subject.write(touch('s:a', 0));
      subject.nowMs += 10_000;
      expect(await subject.texts('s:a')).toEqual(['text']);
      expect(await server.query("SELECT until FROM s WHERE id = 'a'")).toEqual([{ until: null }]);
    });

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

    test('are only those columns that the rule names; others keep what they have', async () => {
      await server.query(`${USERS}; INSERT INTO users VALUES (1, 'Ada', 36)`);
      const subject = await opened([
        ownRule('age:', { table: 'users', value: { kind: 'fields', columns: ['age'] } }),
        ownRule('name:', { table: 'users', value: { kind: 'whole', column: 'name' } }),
      ]);
      await subject.write(setJson('age:1', { age: 37 }));
      await subject.write(set('name:1', 'Ada L', { codec: Codec.ascii }));
      expect(await rowsOf('users')).toEqual([{ id: 1, name: 'Ada L', age: 37 }]);
      expect(await subject.texts('age:1', 'name:1', 'name:2')).toEqual(['{"id":1,"age":37}', 'Ada L', undefined]);
    });

    test('have keys of several columns, and of bytes', async () => {
      await server.query(`CREATE SCHEMA shop; CREATE TABLE shop."order lines" (tenant uuid, "no" bytea, n integer,
        UNIQUE ("no", tenant))`);
      const own = { table: 'shop.order lines', key: ['tenant', 'no'], value: { kind: 'whole', column: 'n' } } as const;
      const subject = await opened([ownRule('o:', own)]);
      const tenant = '6f1e1c1a-5c1b-4c3c-9a3e-1b2c3d4e5f60';
      const key = Buffer.concat([Buffer.from(`o:${tenant}:a:`), Buffer.from([0, 255])]);
      await subject.write(set(key, '42', { codec: Codec.number }));
      expect(await subject.texts(key, `o:${tenant}`, 'o:x:y')).toEqual(['42', undefined, undefined]);
      expect((await subject.scan()).rows.map((row) => row.key)).toEqual([key]);
      await subject.write(remove(key));
      expect(await subject.texts(key)).toEqual([undefined]);
    });

    test('that differ only by what collations merge are different rows', async () => {
      await server.query('CREATE TABLE t (id text PRIMARY KEY, n integer)');
      const subject = await opened([ownRule('t:', { table: 't' })]);
      const keys = ['t:a', 't:A', 't:a ', 't:ä', 't:', 't:a\u0301', 't:á'];
      await subject.write(...keys.map((key, n) => setJson(key, { n })));
      const found = await subject.texts(...keys);
      expect(found.map((text) => (JSON.parse(text!) as { n: number }).n)).toEqual(keys.map((_, n) => n));
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

  describe('dead letters', () => {
    test('are values that do not fit, in the transaction of their batch', async () => {
      await server.query(USERS);
      const subject = await opened([ownRule('user:', { table: 'users' })]);
      const { deadLetters } = await subject.write(
        setJson('user:1', { name: 'Ada' }),
        setJson('user:2', { nmae: 'typo' }),
        setJson('user:3', ['no object']),
        set('user:4', 'text', { codec: Codec.ascii }),
        set('user:5', '{"name":', { codec: Codec.raw }),
        setJson('user:6', { age: 32768 }),
        setJson('user:7', { name: 7 }),
        setJson('user:x', { name: 'no integer' }),
        setJson('user:08', { name: 'no integer' }),
        setJson('user:9', { id: 10 }),
        setJson('user:10', { name: 'NUL \0' }),
        setJson('user:11', { name: 'flags' }, { clientFlags: 1 }),
        remove('user:x'),
        touch('user:y', 5),
        setJson('user:12', { name: 'Bob' }),
      );
      const reasons = deadLetters.map(({ change, error }) => `${change.key}: ${error.message}`);
      expect(reasons.sort()).toEqual([
        'user:08: No row can have this key: its key columns are id (integer)',
        'user:10: The column name (text) cannot have "NUL \\u0000"',
        'user:11: The table has no column for the client flags 1',
        'user:2: The table has no column for the field "nmae"',
        'user:3: Expected a JSON object: the value is none',
        'user:4: Expected a JSON object: the value is none',
        'user:5: Expected JSON: the value is none',
        'user:6: The column age (smallint) cannot have 32768',
        'user:7: The column name (text) cannot have 7',
        'user:9: The field id differs from the key',
      ]);
      expect(await rowsOf('users')).toMatchObject([{ id: 1 }, { id: 12 }]);
      // The cache has acknowledged it: a load gives it until a later change is written.
      expect(await subject.texts('user:7', 'user:x')).toEqual(['{"name":7}', undefined]);
      expect(await subject.backend.deadLetters!.list(100)).toHaveLength(10);
      await subject.write(setJson('user:7', { name: 'Eve' }), remove('user:08'));
      expect(await subject.texts('user:7', 'user:08')).toEqual(['{"id":7,"name":"Eve","age":null}', undefined]);
      const { rows } = await subject.scan();
      expect(rows.map(({ key }) => `${key}`).sort()).toEqual(
        ['1', '2', '3', '4', '5', '6', '7', '9', '10', '11', '12'].map((id) => `user:${id}`).sort(),
      );
    });

    test('are all changes of an atomic batch with a value that does not fit, in whichever tables', async () => {
      await server.query(`${USERS}; INSERT INTO users VALUES (1, 'Ada', 36)`);
      const subject = await opened([ownRule('user:', { table: 'users' })]);
      const part = (change: Change): Change => ({ ...change, atomic: 1 });
      const { deadLetters } = await subject.write(
        part(remove('user:1')),
        part(setJson('user:2', { unknown: 1 })),
        part(set('plain', 'x')),
        { ...setJson('user:3', { name: 'Eve' }), atomic: 2 },
        { ...set('other', 'y'), atomic: 2 },
        setJson('user:4', { unknown: 2 }),
      );
      expect(deadLetters.map(({ change }) => `${change.key}`).sort()).toEqual(['plain', 'user:1', 'user:2', 'user:4']);
      expect(await rowsOf('users')).toMatchObject([{ id: 1 }, { id: 3 }]);
      expect(await server.query("SELECT encode(key, 'escape') AS key FROM cairn_entries")).toEqual([{ key: 'other' }]);
      expect(await subject.texts('user:1', 'plain')).toEqual([undefined, 'x']);
    });

    test('are values that the database refuses, among those that do not fit', async () => {
      await server.query(`CREATE TABLE users (id integer PRIMARY KEY, name varchar(5) UNIQUE,
        age integer CHECK (age > 0), born date)`);
      const subject = await opened([ownRule('user:', { table: 'users' })]);
      const { deadLetters } = await subject.write(
        ...Array.from({ length: 20 }, (_, i) => setJson(`user:${i}`, { name: `n${i}`, age: 1 })),
        setJson('user:30', { age: 0 }),
        setJson('user:31', { name: 'too long' }),
        setJson('user:90', { name: 'n7' }),
        setJson('user:33', { born: '2026-02-31' }),
        setJson('user:34', { unknown: 1 }),
        set('plain', 'x'),
      );
      expect(deadLetters.map(({ change }) => `${change.key}`).sort()).toEqual(
        ['30', '31', '33', '34', '90'].map((id) => `user:${id}`),
      );
      expect(await rowsOf('users')).toHaveLength(20);
      expect(await subject.texts('plain')).toEqual(['x']);
    });
  });

  test('rows are those of a Map after many random batches, with batches that break off', async () => {
    await server.query(`CREATE TABLE t (id integer PRIMARY KEY, field text, until bigint NOT NULL,
      changed bigint NOT NULL)`);
    const rules = [ownRule('t:', { table: 't', expiresAt: 'until', version: 'changed' })];
    const subject = await opened(rules, proxy.port);
    const model = new RowsModel();
    const draw = new Draw(4711);
    const keys = Array.from({ length: 12 }, (_, i) => Buffer.from(i < 8 ? `t:${i}` : `plain:${i}`));
    for (let round = 0; round < 60; round++) {
      const changes = Array.from({ length: 1 + draw.below(10) }, () => {
        const key = `${draw.pick(keys)}`;
        const expiresWallMs = draw.pick([0, 0, subject.nowMs + draw.below(100)]);
        const kind = draw.below(6);
        if (kind === 0) return remove(key);
        if (kind === 1) return touch(key, expiresWallMs);
        const field = draw.pick(['x', 'grün', null]);
        const value = key.startsWith('t:') ? { id: Number(key.slice(2)), field } : { field };
        return setJson(key, value, { expiresWallMs });
      });
      const to = subject.next();
      const batch = { changes, from: subject.cursor, to };
      if (draw.below(3) === 0) {
        proxy.cutAt(draw.below(8), draw.pick(['before', 'after']));
        await subject.backend.write(batch).catch(() => {});
        proxy.disarm();
        const [cursor] = await subject.backend.readCursors();
        if (cursor?.position !== to.position) await subject.backend.write(batch);
      } else await subject.backend.write(batch);
      subject.moveTo(to);
      model.apply(changes);
      subject.nowMs += draw.below(20);
      await compare(subject, model, keys);
    }
  });

  test('a scan gives each key once, by the rule of the longest prefix', async () => {
    await server.query(`${USERS}; CREATE TABLE names (id text PRIMARY KEY, n integer)`);
    const before = await opened([]);
    await before.write(set('user:5', 'from before the rule'), set('plain', 'x'));
    const subject = await opened([ownRule('user:', { table: 'users' }), ownRule('', { table: 'names' })]);
    subject.moveTo(before.cursor);
    await subject.write(setJson('user:1', { name: 'Ada' }), setJson('key', { n: 1 }));
    await server.query("INSERT INTO names VALUES ('user:1', 5)");
    const { rows } = await subject.scan();
    expect(rows.map(({ key, value }) => `${key} ${value}`)).toEqual([
      'user:1 {"id":1,"name":"Ada","age":null}',
      'key {"id":"key","n":1}',
    ]);
    expect(await subject.texts('user:5', 'plain')).toEqual([undefined, undefined]);
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

    test('adds to its column, and keeps what another program has added', async () => {
      await server.query(`CREATE TABLE counters (id integer PRIMARY KEY, n bigint, until bigint, changed bigint);
        INSERT INTO counters VALUES (1, 100), (2, 5), (3, NULL), (4, -5), (5, -5)`);
      const subject = await opened([rule({ expiresAt: 'until', version: 'changed' })]);
      const changes = [
        add('n:1', 7n, 8, { expiresWallMs: 5 }),
        add('n:2', -7n, 0),
        add('n:3', 7n, 8),
        add('n:4', 3n, 3),
        add('n:5', -3n, 3),
        add('n:6', 7n, 8, { expiresWallMs: 9 }),
      ];
      expect((await subject.write(...changes)).deadLetters).toEqual([]);
      const numbers = ['107', '0', '8', '-2', '-5', '8'];
      expect((await rowsOf('counters')).map(({ n }) => String(n))).toEqual(numbers);
      expect((await rowsOf('counters')).map(({ until }) => Number(until))).toEqual([5, 0, 0, 0, 0, 9]);
      await server.query('UPDATE counters SET n = n + 1000 WHERE id = 1; DELETE FROM counters WHERE id = 6');
      await subject.write(add('n:1', 1n, 9), add('n:6', 1n, 9));
      expect(await subject.texts('n:1', 'n:6')).toEqual(['1108', '9']);
    });

    test('is a dead letter where the column cannot have the sum, and others are committed', async () => {
      await server.query(`CREATE TABLE counters (id integer PRIMARY KEY, n smallint NOT NULL);
        INSERT INTO counters SELECT i, 32000 FROM generate_series(1, 40) AS i`);
      const subject = await opened([rule()]);
      const changes = Array.from({ length: 40 }, (_, i) => add(`n:${i + 1}`, i === 20 ? 1000n : 1n, 5));
      const { deadLetters } = await subject.write(...changes, add('n:50', 1n, 70_000), add('n:x', 1n, 1));
      expect(deadLetters.map(({ change }) => String(change.key)).sort()).toEqual(['n:21', 'n:50', 'n:x']);
      const found = await rowsOf('counters');
      expect(found.map(({ n }) => n)).toEqual(Array.from({ length: 40 }, (_, i) => (i === 20 ? 32_000 : 32_001)));
      // As if the sum were there.
      expect(await subject.texts('n:21', 'n:50', 'n:20')).toEqual(['33000', '70000', '32001']);
    });

    test('takes a column of decimals, and goes round at 2^64', async () => {
      await server.query(`CREATE TABLE counters (id integer PRIMARY KEY, n numeric(30, 0));
        INSERT INTO counters VALUES (1, 18446744073709551615), (2, 18446744073709551616)`);
      const subject = await opened([rule()]);
      await subject.write(
        add('n:1', 3n, 2),
        add('n:2', 3n, 2),
        set('n:3', '18446744073709551615', { codec: Codec.number }),
      );
      expect((await rowsOf('counters')).map(({ n }) => n)).toEqual([
        '2',
        '18446744073709551619',
        '18446744073709551615',
      ]);
      expect(await subject.texts('n:3')).toEqual(['18446744073709551615']);
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

    test.each(['timestamptz', 'bigint'])('removes expired rows of tables whose rule says so (%s)', async (type) => {
      await server.query(`CREATE TABLE swept (a text, b integer, until ${type}, UNIQUE (a, b));
        CREATE TABLE kept (id integer PRIMARY KEY, until ${type})`);
      const both = { table: 'swept', key: ['a', 'b'], expiresAt: 'until' };
      const subject = await opened([
        ownRule('s:', both, true),
        { prefix: 's:keep:', skip: false, deleteOnExpire: false },
        ownRule('k:', { table: 'kept', expiresAt: 'until' }),
        { prefix: 'keep:', skip: false, deleteOnExpire: false },
      ]);
      const timeMs = subject.nowMs + 100;
      const expiring = (key: string, i: number) => {
        return setJson(key, {}, { expiresWallMs: [0, timeMs - 1, timeMs, timeMs + 1][i % 4]! });
      };
      await subject.write(
        ...Array.from({ length: 20 }, (_, i) => expiring(`s:${'ab'[i % 2]}:${i}`, i)),
        ...['k:1', 'keep:1', 'other:1', 's:keep:1'].map((key) => expiring(key, 1)),
      );
      // A row of another program, which the longer prefix has, and one that no key can have.
      const until = type === 'bigint' ? '1' : "'2001-01-01Z'";
      await server.query(`INSERT INTO swept VALUES ('keep', 1, ${until}), (NULL, 1, ${until})`);
      expect(await pass(subject, timeMs)).toBe(11);
      expect(await server.query('SELECT a, b FROM swept ORDER BY b, a')).toEqual([
        { a: 'a', b: 0 },
        { a: 'keep', b: 1 },
        { a: null, b: 1 },
        ...Array.from({ length: 20 }, (_, i) => ({ a: 'ab'[i % 2], b: i })).filter(
          ({ b }) => b > 1 && b % 4 !== 1 && b % 4 !== 2,
        ),
      ]);
      expect(await server.query('SELECT id FROM kept')).toHaveLength(1);
      expect(await subject.texts('keep:1', 'other:1', 's:keep:1')).toEqual(['{}', undefined, '{}']);
      expect(await pass(subject, timeMs, 1000)).toBe(0);
    });

    test.each([1, 2, 3, 100])('goes on behind rows that no key can have, %i at a time', async (rows) => {
      await server.query('CREATE TABLE t (a text, b bytea, until bigint, UNIQUE (a, b))');
      const subject = await opened([ownRule('t:', { table: 't', key: ['a', 'b'], expiresAt: 'until' }, true)]);
      const more = { expiresWallMs: subject.nowMs + 100 };
      await subject.write(...['a:1', 'a:2', 'b:', 'c:1'].map((key) => setJson(`t:${key}`, {}, more)));
      await server.query(`INSERT INTO t VALUES ('a', NULL, 1), ('a', NULL, 1), ('a', NULL, 1), ('b', NULL, 1),
        (NULL, '3', 1), (NULL, NULL, 1), (NULL, NULL, 1)`);
      expect(await pass(subject, subject.nowMs + 100, rows)).toBe(4);
      expect(await server.query('SELECT * FROM t WHERE until > 1')).toEqual([]);
    });

    test('leaves a piece with a row that the database keeps, and removes those of others', async () => {
      await server.query(`CREATE TABLE t (id integer PRIMARY KEY, until bigint);
        CREATE TABLE refers (t integer REFERENCES t)`);
      const subject = await opened([ownRule('t:', { table: 't', expiresAt: 'until' }, true)]);
      const timeMs = subject.nowMs + 100;
      const more = { expiresWallMs: timeMs };
      await subject.write(...Array.from({ length: 9 }, (_, i) => setJson(`t:${i}`, {}, more)));
      await server.query('INSERT INTO refers VALUES (4)');
      expect(await pass(subject, timeMs)).toBe(6);
      expect((await rowsOf('t')).map(({ id }) => id)).toEqual([3, 4, 5]);
    });
  });

  describe('open refuses by name', () => {
    test.each<[string, string, Rule, RegExp]>([
      ['a table that is missing', '', ownRule('u:', { table: 'users' }), /the table users is missing/],
      ['a view', `${USERS}; CREATE VIEW v AS SELECT * FROM users`, ownRule('u:', { table: 'v' }), /v is not a table/],
      [
        'a key column that is missing',
        USERS,
        ownRule('u:', { table: 'users', key: ['uid'] }),
        /users has no column uid/,
      ],
      [
        'a key without a unique index',
        'CREATE TABLE users (id integer, tenant integer, UNIQUE (id, tenant)); CREATE UNIQUE INDEX ON users (id) WHERE tenant > 1',
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
        'a column that nothing maps to',
        'CREATE TABLE users (id integer PRIMARY KEY, name text, email text NOT NULL)',
        ownRule('u:', { table: 'users', value: { kind: 'fields', columns: ['name'] } }),
        /users\.email is NOT NULL without a default, and no value goes there/,
      ],
      [
        'a key of a type that merges keys',
        'CREATE TABLE users (id numeric PRIMARY KEY, name text)',
        ownRule('u:', { table: 'users' }),
        /users\.id has the type numeric: it cannot be a key/,
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
        'a generated column',
        'CREATE TABLE users (id integer PRIMARY KEY, n integer, twice integer GENERATED ALWAYS AS (2 * n) STORED)',
        ownRule('u:', { table: 'users', value: { kind: 'fields', columns: ['twice'] } }),
        /users\.twice is generated by the database: it cannot be a field/,
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
        'an expiry of another type',
        USERS,
        ownRule('u:', { table: 'users', expiresAt: 'name' }),
        /users\.name has the type text: it cannot be an expiry/,
      ],
      [
        'a column with two uses',
        USERS,
        ownRule('u:', { table: 'users', value: { kind: 'fields', columns: ['id'] } }),
        /names the column id twice/,
      ],
      [
        'a table that a crash empties',
        `${USERS}; ALTER TABLE users SET UNLOGGED`,
        ownRule('u:', { table: 'users' }),
        /unlogged/,
      ],
    ])('%s', async (_, commands, rule, message) => {
      await server.query(commands);
      const subject = await closed([rule]);
      await expect(subject.backend.open()).rejects.toThrow(withCode('ERR_BACKEND_UNFIT', message));
    });

    test('every reason at once', async () => {
      await server.query('CREATE TABLE users (id numeric, email text NOT NULL)');
      const subject = await closed([
        ownRule('u:', { table: 'users', value: { kind: 'fields', columns: ['name'] } }),
        ownRule('x:', { table: 'missing' }),
      ]);
      const message = /numeric.*no column name.*email is NOT NULL.*no unique index.*table missing is missing/;
      await expect(subject.backend.open()).rejects.toThrow(withCode('ERR_BACKEND_UNFIT', message));
    });
  });
});
