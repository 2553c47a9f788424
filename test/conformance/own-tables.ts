// Tables of the user's own, as every SQL database has to lead the keys of a rule to them. Types and statements that
// differ come from the harness; what only one database has is tested beside its other tests.

import { describe, expect, test } from 'vitest';
import type { Change } from '../../src/backend/index.ts';
import { Codec } from '../../src/request/codec.ts';
import type { Rule } from '../../src/rules/index.ts';
import { add, compare, Draw, RowsModel, remove, type Subject, set, touch } from '../../src/testing/harness.ts';
import { withCode } from '../support/errors.ts';
import { ownRule, type Subjects, setJson, sweepOnce } from '../support/own-tables.ts';

export interface OwnTablesHarness {
  /** Empties the database and runs commands of the user's. */
  reset(commands: string): Promise<void>;
  exec(commands: string): Promise<unknown>;
  /** Rows as objects; whole numbers as numbers. */
  query(command: string): Promise<Record<string, unknown>[]>;
  readonly subjects: Subjects;
  /** Has the next write of the subject fail somewhere in its course, if the database is behind a network. */
  cut?: { arm(draw: Draw): void; disarm(): void; make(rules: readonly Rule[]): Promise<Subject> };
  readonly types: {
    /** Of text that can be a key. */
    readonly textKey: string;
    readonly bytesKey: string;
    readonly bigint: string;
    /** Of whole numbers beyond 2^64; undefined: there is none. */
    readonly wide?: string;
  };
  /** Types of a field, with a value of JSON, and what a load gives if that differs. */
  readonly fields: readonly (readonly [type: string, value: unknown, loaded?: unknown])[];
  /** Types of a field with values that they would keep as others: dead letters. */
  readonly misfits: readonly (readonly [type: string, value: unknown])[];
  /** What `open` refuses: a name, commands, a rule, the message. */
  readonly refused: readonly (readonly [name: string, commands: string, rule: Rule, message: RegExp])[];
}

const USERS = 'CREATE TABLE users (id integer PRIMARY KEY, name text, age smallint)';

export function describeOwnTables(name: string, harness: OwnTablesHarness): void {
  const { query, exec, types } = harness;
  const { closed, opened } = harness.subjects;
  const countOf = async (table: string): Promise<unknown> =>
    (await query(`SELECT count(*) AS n FROM ${table}`))[0]!['n'];

  describe(`tables of the user's own in ${name}`, () => {
    test('have the fields of an object, and a load gives the object', async () => {
      const subject = await opened(USERS, [ownRule('user:', { table: 'users' })]);
      const { deadLetters } = await subject.write(
        setJson('user:1', { name: 'Ada', age: 36 }),
        setJson('user:2', { id: 2, age: null }),
        setJson('other:1', { name: 'Eve' }),
      );
      expect(deadLetters).toEqual([]);
      expect(await query('SELECT * FROM users ORDER BY id')).toEqual([
        { id: 1, name: 'Ada', age: 36 },
        { id: 2, name: null, age: null },
      ]);
      const { rows, cursors } = await subject.load('user:1', 'user:3', 'user:2', 'other:1', 'user:1', 'user:01');
      expect(rows.map((row) => row?.value.toString())).toEqual([
        '{"id":1,"name":"Ada","age":36}',
        undefined,
        '{"id":2,"name":null,"age":null}',
        '{"name":"Eve"}',
        '{"id":1,"name":"Ada","age":36}',
        undefined,
      ]);
      expect(rows[0]).toMatchObject({ codec: Codec.json, clientFlags: 0, expiresWallMs: 0, version: 0n });
      expect(cursors).toEqual([subject.cursor]);
      await subject.write(remove('user:1'), setJson('user:2', { name: 'Bob' }), touch('user:2', 5));
      expect(await query('SELECT * FROM users')).toEqual([{ id: 2, name: 'Bob', age: null }]);
      expect(await countOf('cairn_entries')).toBe(1);
    });

    test('have rows of other programs, which are loaded', async () => {
      const subject = await opened(`${USERS}; INSERT INTO users VALUES (7, 'Eve', 30)`, [
        ownRule('user:', { table: 'users' }),
      ]);
      expect(await subject.texts('user:7')).toEqual(['{"id":7,"name":"Eve","age":30}']);
    });

    test('have expiry, version and client flags where there are columns for them', async () => {
      const own = { value: { kind: 'whole', column: 'data' }, expiresAt: 'until', version: 'changed' } as const;
      const subject = await opened(
        `CREATE TABLE s (id ${types.textKey} PRIMARY KEY, data text NOT NULL, until ${types.bigint},
          changed ${types.bigint} NOT NULL, flags ${types.bigint} NOT NULL)`,
        [ownRule('s:', { table: 's', ...own, clientFlags: 'flags' })],
      );
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
      const { rows: after } = await subject.load('s:b');
      expect(after[0]).toMatchObject({ expiresWallMs: subject.nowMs + 1, version: change.version });
      subject.nowMs += 1;
      expect(await subject.texts('s:a', 's:b')).toEqual(['text', undefined]);
      await subject.write(touch('s:a', 0));
      subject.nowMs += 10_000;
      expect(await subject.texts('s:a')).toEqual(['text']);
      expect(await query("SELECT until FROM s WHERE id = 'a'")).toEqual([{ until: null }]);
    });

    test.each(harness.fields)(
      'have fields of the type %s, which are loaded as they were set: %j',
      async (type, value, loaded) => {
        const subject = await opened(`CREATE TABLE t (id integer PRIMARY KEY, field ${type})`, [
          ownRule('t:', { table: 't' }),
        ]);
        const { deadLetters } = await subject.write(setJson('t:1', { field: value }));
        expect(deadLetters).toEqual([]);
        const [found] = await subject.texts('t:1');
        expect(JSON.parse(found!)).toEqual({ id: 1, field: loaded === undefined ? value : loaded });
        // A value that was loaded can be set.
        expect(await subject.write(setJson('t:2', { field: JSON.parse(found!).field }))).toMatchObject({
          deadLetters: [],
        });
        expect(await subject.texts('t:2')).toEqual([found!.replace('"id":1', '"id":2')]);
      },
    );

    test.each(harness.misfits)(
      'have no values of the type %s that would stand there as others: %j',
      async (type, value) => {
        const subject = await opened(`CREATE TABLE t (id integer PRIMARY KEY, field ${type})`, [
          ownRule('t:', { table: 't' }),
        ]);
        const { deadLetters } = await subject.write(setJson('t:1', { field: value }), setJson('t:2', {}));
        expect(deadLetters.map(({ change }) => `${change.key}`)).toEqual(['t:1']);
        expect(await query('SELECT id FROM t')).toEqual([{ id: 2 }]);
      },
    );

    test('have the default of a column that takes no NULL where a field is left out', async () => {
      const subject = await opened(
        `CREATE TABLE t (id integer PRIMARY KEY, state ${types.textKey} NOT NULL DEFAULT 'new', n integer NOT NULL DEFAULT 7,
          note ${types.textKey} DEFAULT 'none', total integer GENERATED ALWAYS AS (7) STORED)`,
        [ownRule('t:', { table: 't' })],
      );
      await subject.write(setJson('t:1', {}), setJson('t:2', { state: 'old', n: 8, note: 'x' }));
      expect(await query('SELECT * FROM t ORDER BY id')).toEqual([
        { id: 1, state: 'new', n: 7, note: null, total: 7 },
        { id: 2, state: 'old', n: 8, note: 'x', total: 7 },
      ]);
      await subject.write(setJson('t:2', {}));
      expect(await subject.texts('t:2')).toEqual(['{"id":2,"state":"new","n":7,"note":null}']);
    });

    test('are changed only in those columns that the rule names', async () => {
      const subject = await opened(`${USERS}; INSERT INTO users VALUES (1, 'Ada', 36)`, [
        ownRule('age:', { table: 'users', value: { kind: 'fields', columns: ['age'] } }),
      ]);
      await subject.write(setJson('age:1', { age: 37 }), setJson('age:2', { age: 5 }));
      expect(await query('SELECT * FROM users ORDER BY id')).toEqual([
        { id: 1, name: 'Ada', age: 37 },
        { id: 2, name: null, age: 5 },
      ]);
      expect(await subject.texts('age:1', 'age:3')).toEqual(['{"id":1,"age":37}', undefined]);
    });

    test('have keys of several columns, and of bytes', async () => {
      const own = { table: 'order_lines', key: ['tenant', 'line'], value: { kind: 'whole', column: 'n' } } as const;
      const subject = await opened(
        `CREATE TABLE order_lines (tenant ${types.textKey}, line ${types.bytesKey}, n integer, UNIQUE (line, tenant))`,
        [ownRule('o:', own)],
      );
      const key = Buffer.concat([Buffer.from('o:x:a:'), Buffer.from([0, 255])]);
      const keys = [key, Buffer.from('o:x:A:'), Buffer.from('o:x:'), Buffer.from('o:X:'), Buffer.from('o:x: ')];
      await subject.write(...keys.map((each, i) => set(each, `${i}`, { codec: Codec.number })));
      expect(await subject.texts(...keys)).toEqual(['0', '1', '2', '3', '4']);
      expect(await subject.texts('o:x', 'o:y:', 'o:x:a')).toEqual([undefined, undefined, undefined]);
      const found = (await subject.scan()).rows.map((row) => row.key.toString('latin1'));
      expect(found.sort()).toEqual(keys.map((each) => each.toString('latin1')).sort());
      await subject.write(remove(key), remove(keys[2]!));
      expect(await subject.texts(...keys)).toEqual([undefined, '1', undefined, '3', '4']);
    });

    test('have one row for each text, also for texts that collations merge', async () => {
      const subject = await opened(`CREATE TABLE t (id ${types.textKey} PRIMARY KEY, n integer)`, [
        ownRule('t:', { table: 't' }),
      ]);
      const keys = ['t:a', 't:A', 't:a ', 't:a  ', 't:ä', 't:', 't: ', 't:a\u0301', 't:á', 't:🦊', 't:1', 't:01'];
      await subject.write(...keys.map((key, n) => setJson(key, { n })));
      const numbers = (texts: readonly (string | undefined)[]) => texts.map((text) => text && JSON.parse(text).n);
      expect(numbers(await subject.texts(...keys))).toEqual(keys.map((_, n) => n));
      await subject.write(remove('t:a '), setJson('t:A', { n: 50 }), remove('t:1'));
      expect(numbers(await subject.texts('t:a', 't:A', 't:a ', 't:a  ', 't:1', 't:01'))).toEqual([
        0,
        50,
        undefined,
        3,
        undefined,
        11,
      ]);
    });

    test('have no row for keys that no text is', async () => {
      const subject = await opened(`CREATE TABLE t (id ${types.textKey} PRIMARY KEY, n integer)`, [
        ownRule('t:', { table: 't' }),
      ]);
      const keys = [Buffer.from('t:a\0b'), Buffer.concat([Buffer.from('t:'), Buffer.from([0xff])])];
      const { deadLetters } = await subject.write(
        ...keys
          .map((key) => setJson(key.toString('latin1'), { n: 1 }))
          .map((change, i) => ({ ...change, key: keys[i]! })),
      );
      expect(deadLetters.map(({ change }) => change.key)).toEqual(expect.arrayContaining(keys));
      expect(await countOf('t')).toBe(0);
      await subject.write(...keys.map((key) => remove(key)));
      expect((await subject.load(...keys)).rows).toEqual([undefined, undefined]);
    });

    test('refuse the row of another key with the same values in a unique index, as a dead letter', async () => {
      const subject = await opened(
        `CREATE TABLE users (id integer PRIMARY KEY, email ${types.textKey} UNIQUE, n integer);
          INSERT INTO users VALUES (1, 'a@x', 1), (2, 'b@x', 2)`,
        [ownRule('user:', { table: 'users' })],
      );
      const { deadLetters } = await subject.write(
        setJson('user:1', { email: 'new@x', n: 5 }),
        setJson('user:2', { email: 'b@x', n: 6 }),
        setJson('user:3', { email: 'b@x', n: 7 }),
        setJson('user:4', { n: 8 }),
      );
      expect(deadLetters.map(({ change }) => `${change.key}`)).toEqual(['user:3']);
      expect(deadLetters[0]!.error.message).toMatch(/unique/i);
      expect(await query('SELECT * FROM users ORDER BY id')).toEqual([
        { id: 1, email: 'new@x', n: 5 },
        { id: 2, email: 'b@x', n: 6 },
        { id: 4, email: null, n: 8 },
      ]);
    });

    test('take values that do not fit as dead letters, in the transaction of their batch', async () => {
      const subject = await opened(USERS, [ownRule('user:', { table: 'users' })]);
      const { deadLetters } = await subject.write(
        setJson('user:1', { name: 'Ada' }),
        setJson('user:2', { nmae: 'typo' }),
        setJson('user:3', ['no object']),
        set('user:4', 'text', { codec: Codec.ascii }),
        set('user:5', '{"name":', { codec: Codec.raw }),
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
      expect(deadLetters.map(({ change }) => `${change.key}`).sort()).toEqual(
        ['08', '10', '11', '2', '3', '4', '5', '7', '9'].map((id) => `user:${id}`),
      );
      expect(await query('SELECT id FROM users ORDER BY id')).toEqual([{ id: 1 }, { id: 12 }]);
      // The cache has acknowledged it: a load gives it until a later change is written.
      expect(await subject.texts('user:7', 'user:x')).toEqual(['{"name":7}', undefined]);
      const kept = await subject.backend.deadLetters!.list(100);
      expect(kept.map(({ errorCode }) => errorCode)).toEqual(Array.from({ length: 9 }, () => undefined));
      await subject.write(setJson('user:7', { name: 'Eve' }), remove('user:08'));
      expect(await subject.texts('user:7', 'user:08')).toEqual(['{"id":7,"name":"Eve","age":null}', undefined]);
      const { rows } = await subject.scan();
      expect(rows.map(({ key }) => `${key}`).sort()).toEqual(
        ['1', '2', '3', '4', '5', '7', '9', '10', '11', '12'].map((id) => `user:${id}`).sort(),
      );
    });

    test('take JSON of any program, unless a number would be rounded', async () => {
      const subject = await opened('CREATE TABLE t (id integer PRIMARY KEY, doc json)', [
        ownRule('doc:', { table: 't', value: { kind: 'whole', column: 'doc' } }),
      ]);
      const raw = (key: string, text: string) => set(key, text, { codec: Codec.raw });
      const { deadLetters } = await subject.write(
        raw('doc:1', '{ "a": [1.50, "9007199254740993"] }'),
        raw('doc:2', '{"a":{"id":9007199254740993}}'),
      );
      expect(deadLetters.map(({ change, error }) => `${change.key} ${error.message}`)).toEqual([
        'doc:2 The number 9007199254740993 would be rounded to 9007199254740992',
      ]);
      expect((await subject.texts('doc:1', 'doc:2')).map((text) => text?.replaceAll(' ', ''))).toEqual([
        '{"a":[1.5,"9007199254740993"]}',
        '{"a":{"id":9007199254740993}}',
      ]);
    });

    test('take all changes of an atomic batch with a value that does not fit as dead letters', async () => {
      const subject = await opened(`${USERS}; INSERT INTO users VALUES (1, 'Ada', 36)`, [
        ownRule('user:', { table: 'users' }),
      ]);
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
      expect(await query('SELECT id FROM users ORDER BY id')).toEqual([{ id: 1 }, { id: 3 }]);
      expect(await countOf('cairn_entries')).toBe(1);
      expect(await subject.texts('user:1', 'plain', 'other')).toEqual([undefined, 'x', 'y']);
    });

    test('take values that the database refuses as dead letters, among those that do not fit', async () => {
      const subject = await opened(
        `CREATE TABLE users (id integer PRIMARY KEY, name ${types.textKey} UNIQUE, age integer CHECK (age > 0))`,
        [ownRule('user:', { table: 'users' })],
      );
      const { deadLetters } = await subject.write(
        ...Array.from({ length: 20 }, (_, i) => setJson(`user:${i}`, { name: `n${i}`, age: 1 })),
        setJson('user:30', { age: 0 }),
        setJson('user:90', { name: 'n7' }),
        setJson('user:34', { unknown: 1 }),
        set('plain', 'x'),
      );
      expect(deadLetters.map(({ change }) => `${change.key}`).sort()).toEqual(['user:30', 'user:34', 'user:90']);
      expect(await countOf('users')).toBe(20);
      expect(await subject.texts('plain')).toEqual(['x']);
    });

    test('are set and emptied in the order of their rules, in one transaction with the entries', async () => {
      const subject = await opened(
        `CREATE TABLE parents (id integer PRIMARY KEY, name text);
          CREATE TABLE children (id integer PRIMARY KEY, parent integer NOT NULL, FOREIGN KEY (parent) REFERENCES parents (id))`,
        [ownRule('p:', { table: 'parents' }), ownRule('c:', { table: 'children' })],
      );
      const first = await subject.write(
        setJson('c:2', { parent: 1 }),
        setJson('c:1', { parent: 1 }),
        setJson('p:1', { name: 'x' }),
        set('plain', 'y'),
      );
      expect(first.deadLetters).toEqual([]);
      expect([await countOf('parents'), await countOf('children')]).toEqual([1, 2]);
      const last = await subject.write(remove('p:1'), remove('c:1'), remove('c:2'));
      expect(last.deadLetters).toEqual([]);
      expect([await countOf('parents'), await countOf('children')]).toEqual([0, 0]);
    });

    test('have the rows of a Map after many random batches, with batches that break off', async () => {
      await harness.reset(`CREATE TABLE t (id integer PRIMARY KEY, field text, until ${types.bigint} NOT NULL,
        changed ${types.bigint} NOT NULL)`);
      const { cut } = harness;
      const make = cut?.make ?? closed;
      const subject = await make([ownRule('t:', { table: 't', expiresAt: 'until', version: 'changed' })]);
      await subject.backend.open();
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
        if (cut !== undefined && draw.below(3) === 0) {
          cut.arm(draw);
          await subject.backend.write(batch).catch(() => {});
          cut.disarm();
          const [cursor] = await subject.backend.readCursors();
          if (cursor?.position !== to.position) await subject.backend.write(batch);
        } else await subject.backend.write(batch);
        subject.moveTo(to);
        model.apply(changes);
        subject.nowMs += draw.below(20);
        await compare(subject, model, keys);
      }
    });

    describe('with counters', () => {
      const rule = (own: object = {}): Rule => ({
        ...ownRule('n:', { table: 'counters', value: { kind: 'whole', column: 'n' }, ...own }),
        counter: true,
      });

      test('have what was added, and keep what another program has added', async () => {
        const subject = await opened(
          `CREATE TABLE counters (id integer PRIMARY KEY, n ${types.bigint}, until ${types.bigint}, changed ${types.bigint});
            INSERT INTO counters (id, n) VALUES (1, 100), (2, 5), (3, NULL), (4, -5), (5, -5)`,
          [rule({ expiresAt: 'until', version: 'changed' })],
        );
        const changes = [
          add('n:1', 7n, 8, { expiresWallMs: 5 }),
          add('n:2', -7n, 0),
          add('n:3', 7n, 8),
          add('n:4', 3n, 3),
          add('n:5', -3n, 3),
          add('n:6', 7n, 8, { expiresWallMs: 9 }),
        ];
        expect((await subject.write(...changes)).deadLetters).toEqual([]);
        const found = await query('SELECT n, until, changed FROM counters ORDER BY id');
        expect(found).toEqual(
          [107, 0, 8, -2, -5, 8].map((n, i) => {
            const until = [5, null, null, null, null, 9][i];
            return { n, until, changed: Number(changes[i]!.version) };
          }),
        );
        await exec('UPDATE counters SET n = n + 1000 WHERE id = 1; DELETE FROM counters WHERE id = 6');
        await subject.write(add('n:1', 1n, 9), add('n:6', 1n, 9));
        expect(await subject.texts('n:1', 'n:6')).toEqual(['1108', '9']);
      });

      test('refuse a sum that the column cannot have as a dead letter, and others are committed', async () => {
        const rows = Array.from({ length: 40 }, (_, i) => `(${i + 1}, 9223372036854775000)`);
        const subject = await opened(
          `CREATE TABLE counters (id integer PRIMARY KEY, n ${types.bigint} NOT NULL); INSERT INTO counters VALUES ${rows}`,
          [rule()],
        );
        const changes = Array.from({ length: 40 }, (_, i) => add(`n:${i + 1}`, i === 20 ? 1000n : 1n, 5));
        const { deadLetters } = await subject.write(...changes, add('n:50', 1n, 2n ** 63n), add('n:x', 1n, 1));
        expect(deadLetters.map(({ change }) => `${change.key}`).sort()).toEqual(['n:21', 'n:50', 'n:x']);
        // As if the sum were there.
        expect(await subject.texts('n:21', 'n:50', 'n:20')).toEqual([
          ...['9223372036854776000', '9223372036854775808'],
          '9223372036854775001',
        ]);
      });

      if (types.wide !== undefined) {
        test('go round at 2^64 in a wider column', async () => {
          const subject = await opened(
            `CREATE TABLE counters (id integer PRIMARY KEY, n ${types.wide});
            INSERT INTO counters VALUES (1, 18446744073709551615), (2, 18446744073709551616)`,
            [rule()],
          );
          const max = '18446744073709551615';
          await subject.write(add('n:1', 3n, 2), add('n:2', 3n, 2), set('n:3', max, { codec: Codec.number }));
          expect(await subject.texts('n:1', 'n:2', 'n:3')).toEqual(['2', '18446744073709551619', max]);
        });
      }
    });

    test('are scanned with the entries: each key once, by the rule of the longest prefix', async () => {
      await harness.reset(`${USERS}; CREATE TABLE names (id ${types.textKey} PRIMARY KEY, n integer)`);
      const before = await closed([]);
      await before.backend.open();
      await before.write(set('user:5', 'from before the rule'), set('plain', 'x'));
      const subject = await closed([ownRule('user:', { table: 'users' }), ownRule('', { table: 'names' })]);
      await subject.backend.open();
      subject.moveTo(before.cursor);
      await subject.write(setJson('user:1', { name: 'Ada' }), setJson('key', { n: 1 }), setJson('user:2', { typo: 1 }));
      await exec("INSERT INTO names VALUES ('user:1', 5)");
      const { rows } = await subject.scan();
      expect(rows.map(({ key, value }) => `${key} ${value}`).sort()).toEqual([
        'key {"id":"key","n":1}',
        'user:1 {"id":1,"name":"Ada","age":null}',
        'user:2 {"typo":1}',
      ]);
      expect(await subject.texts('user:5', 'plain')).toEqual([undefined, undefined]);
    });

    test('may be wide, and batches, loads and scans may have thousands of their rows', async () => {
      const columns = Array.from({ length: 500 }, (_, i) => `f${i} integer`);
      const subject = await opened(
        `CREATE TABLE wide (id integer PRIMARY KEY, ${columns});
          CREATE TABLE pairs (a integer, b ${types.textKey}, age integer, PRIMARY KEY (b, a))`,
        [ownRule('wide:', { table: 'wide' }), ownRule('pair:', { table: 'pairs', key: ['a', 'b'] })],
      );
      const keys = Array.from({ length: 3000 }, (_, i) => `pair:${i % 7}:${i}`);
      await subject.write(
        ...Array.from({ length: 100 }, (_, i) => setJson(`wide:${i}`, { f0: i, f499: -i })),
        ...keys.map((key, age) => setJson(key, { age })),
      );
      expect(await query('SELECT f0 + f499 AS n FROM wide WHERE f0 = 99')).toEqual([{ n: 0 }]);
      expect(await countOf('wide')).toBe(100);
      expect(await countOf('pairs')).toBe(3000);
      const texts = await subject.texts(...keys);
      expect(texts.map((text) => text && JSON.parse(text).age)).toEqual(keys.map((_, age) => age));
      expect((await subject.scan()).rows).toHaveLength(3100);
      await subject.write(...keys.map((key) => remove(key)));
      expect(await countOf('pairs')).toBe(0);
    });

    describe('in a sweep', () => {
      test('lose their expired rows if their rule says so', async () => {
        const both = { table: 'swept', key: ['a', 'b'], expiresAt: 'until' };
        const subject = await opened(
          `CREATE TABLE swept (a ${types.textKey}, b integer, until ${types.bigint}, UNIQUE (a, b));
            CREATE TABLE kept (id integer PRIMARY KEY, until ${types.bigint})`,
          [
            ownRule('s:', both, true),
            { prefix: 's:keep:', skip: false, deleteOnExpire: false },
            ownRule('k:', { table: 'kept', expiresAt: 'until' }),
            { prefix: 'keep:', skip: false, deleteOnExpire: false },
          ],
        );
        const timeMs = subject.nowMs + 100;
        const expiring = (key: string, i: number) => {
          return setJson(key, {}, { expiresWallMs: [0, timeMs - 1, timeMs, timeMs + 1][i % 4]! });
        };
        await subject.write(
          ...Array.from({ length: 20 }, (_, i) => expiring(`s:${'ab'[i % 2]}:${i}`, i)),
          ...['k:1', 'keep:1', 'other:1', 's:keep:1'].map((key) => expiring(key, 1)),
        );
        // A row of another program, which the longer prefix has, and one that no key can have.
        await exec("INSERT INTO swept VALUES ('keep', 1, 1), (NULL, 1, 1)");
        expect(await sweepOnce(subject, timeMs)).toBe(11);
        const left = await query('SELECT a, b FROM swept ORDER BY b, a');
        expect(left.map(({ a, b }) => `${a} ${b}`).sort()).toEqual(
          [
            ...['keep 1', 'null 1'],
            ...Array.from({ length: 20 }, (_, b) => b).flatMap((b) =>
              b % 4 === 0 || b % 4 === 3 ? [`${'ab'[b % 2]} ${b}`] : [],
            ),
          ].sort(),
        );
        expect(await countOf('kept')).toBe(1);
        expect(await subject.texts('keep:1', 'other:1', 's:keep:1')).toEqual(['{}', undefined, '{}']);
        expect(await sweepOnce(subject, timeMs, 1000)).toBe(0);
      });

      test.each([1, 2, 3, 100])('are walked past rows that no key can have, %i at a time', async (rows) => {
        const subject = await opened(
          `CREATE TABLE t (a ${types.textKey}, b ${types.bytesKey}, until ${types.bigint}, UNIQUE (a, b))`,
          [ownRule('t:', { table: 't', key: ['a', 'b'], expiresAt: 'until' }, true)],
        );
        const more = { expiresWallMs: subject.nowMs + 100 };
        await subject.write(...['a:1', 'a:2', 'b:', 'c:1'].map((key) => setJson(`t:${key}`, {}, more)));
        await exec(`INSERT INTO t VALUES ('a', NULL, 1), ('a', NULL, 1), ('a', NULL, 1), ('b', NULL, 1),
          (NULL, '3', 1), (NULL, NULL, 1), (NULL, NULL, 1)`);
        expect(await sweepOnce(subject, subject.nowMs + 100, rows)).toBe(4);
        expect(await query('SELECT * FROM t WHERE until > 1')).toEqual([]);
      });

      test('keep a row that the database keeps, and lose others', async () => {
        const subject = await opened(
          `CREATE TABLE t (id integer PRIMARY KEY, until ${types.bigint});
            CREATE TABLE refers (t integer, FOREIGN KEY (t) REFERENCES t (id))`,
          [ownRule('t:', { table: 't', expiresAt: 'until' }, true)],
        );
        const timeMs = subject.nowMs + 100;
        await subject.write(...Array.from({ length: 9 }, (_, i) => setJson(`t:${i}`, {}, { expiresWallMs: timeMs })));
        await exec('INSERT INTO refers VALUES (4)');
        expect(await sweepOnce(subject, timeMs)).toBeGreaterThanOrEqual(6);
        const left = (await query('SELECT id FROM t ORDER BY id')).map(({ id }) => id);
        expect(left).toContain(4);
        expect(left.every((id) => [3, 4, 5].includes(id as number))).toBe(true);
      });

      test('keep a row whose longer expiry was refused', async () => {
        const subject = await opened(
          `CREATE TABLE t (id integer PRIMARY KEY, until ${types.bigint} CHECK (until < 4000000000000))`,
          [ownRule('t:', { table: 't', expiresAt: 'until' }, true)],
        );
        const timeMs = subject.nowMs + 100;
        await subject.write(...[1, 2].map((i) => setJson(`t:${i}`, {}, { expiresWallMs: timeMs })));
        const { deadLetters } = await subject.write(touch('t:1', 4_000_000_000_000));
        expect(deadLetters).toHaveLength(1);
        expect(await sweepOnce(subject, timeMs)).toBe(1);
        expect(await query('SELECT id FROM t')).toEqual([{ id: 1 }]);
      });
    });

    describe('are refused by name at the opening:', () => {
      const users = (own: Partial<Parameters<typeof ownRule>[1]> = {}) => ownRule('u:', { table: 'users', ...own });
      test.each<readonly [string, string, Rule, RegExp]>([
        ['a table that is missing', '', users(), /the table users is missing/],
        ['a view', `${USERS}; CREATE VIEW v AS SELECT * FROM users`, ownRule('u:', { table: 'v' }), /v is not a table/],
        ['a key column that is missing', USERS, users({ key: ['uid'] }), /users has no column uid/],
        [
          'a key without a unique index',
          'CREATE TABLE users (id integer, tenant integer, UNIQUE (id, tenant))',
          users(),
          /users has no unique index on id alone/,
        ],
        [
          'a column that nothing maps to',
          `CREATE TABLE users (id integer PRIMARY KEY, name text, email ${types.textKey} NOT NULL)`,
          users({ value: { kind: 'fields', columns: ['name'] } }),
          /users\.email is NOT NULL without a default, and no value goes there/,
        ],
        [
          'a key of a type that merges keys',
          'CREATE TABLE users (id decimal(10, 2) PRIMARY KEY, name text)',
          users(),
          /users\.id has the type \S+.*: it cannot be a key/,
        ],
        [
          'a generated column',
          'CREATE TABLE users (id integer PRIMARY KEY, n integer, twice integer GENERATED ALWAYS AS (2 * n) STORED)',
          users({ value: { kind: 'fields', columns: ['twice'] } }),
          /users\.twice is generated by the database: it cannot be a field/,
        ],
        [
          'an expiry of another type',
          USERS,
          users({ expiresAt: 'name' }),
          /users\.name has the type text.*: it cannot be an expiry/i,
        ],
        [
          'a column with two uses',
          USERS,
          users({ value: { kind: 'fields', columns: ['id'] } }),
          /names the column id twice/,
        ],
        ...harness.refused,
      ])('%s', async (_, commands, rule, message) => {
        await harness.reset(commands);
        const subject = await closed([rule]);
        await expect(subject.backend.open()).rejects.toThrow(withCode('ERR_BACKEND_UNFIT', message));
      });

      test('two rules for one table', async () => {
        await harness.reset(USERS);
        const subject = await closed([ownRule('u:', { table: 'users' }), ownRule('user:', { table: 'users' })]);
        const message = /the rules for "u:" and "user:" name one table, users: two keys would change one row/;
        await expect(subject.backend.open()).rejects.toThrow(withCode('ERR_BACKEND_UNFIT', message));
      });

      test('with several lanes, tables that refer to one another or to themselves', async () => {
        await harness.reset(`CREATE TABLE parents (id integer PRIMARY KEY, name ${types.textKey}, boss integer,
            CONSTRAINT chief FOREIGN KEY (boss) REFERENCES parents (id));
          CREATE TABLE children (id integer PRIMARY KEY, parent integer,
            CONSTRAINT family FOREIGN KEY (parent) REFERENCES parents (id));
          CREATE TABLE towns (id integer PRIMARY KEY);
          CREATE TABLE houses (id integer PRIMARY KEY, town integer, FOREIGN KEY (town) REFERENCES towns (id))`);
        const rules = ['parents', 'children', 'houses'].map((table) => ownRule(`${table}:`, { table }));
        await (await closed(rules)).backend.open();
        const laned = await closed(rules, 4);
        const message =
          /parents refers to parents by the foreign key (chief|0): with 4 lanes.*children refers to parents by the foreign key (family|0)/s;
        await expect(laned.backend.open()).rejects.toThrow(withCode('ERR_BACKEND_UNFIT', message));
        // One such table alone, and one that refers to a table of no rule.
        await (await closed(rules.slice(1), 4)).backend.open();
      });

      test('every reason at once', async () => {
        await harness.reset(`CREATE TABLE users (id decimal(10, 2), email ${types.textKey} NOT NULL)`);
        const subject = await closed([
          ownRule('u:', { table: 'users', value: { kind: 'fields', columns: ['name'] } }),
          ownRule('x:', { table: 'missing' }),
        ]);
        const message =
          /id has the type.*no column name.*email is NOT NULL.*no unique index.*table missing is missing/i;
        await expect(subject.backend.open()).rejects.toThrow(withCode('ERR_BACKEND_UNFIT', message));
      });
    });
  });
}
