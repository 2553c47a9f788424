// PostgreSQL behind a cache, on a real server of the test's own.

import { beforeEach, describe, expect, test } from 'vitest';
import type { Backend } from '../../src/backend/index.ts';
import { makeBackend } from '../../src/backend/index.ts';
import { PostgresBackend, type PostgresOptions } from '../../src/backend/postgres.ts';
import { loadPg, PostgresConnection } from '../../src/backend/postgres-connection.ts';
import { bytes, REFUSED, REFUSED_EXPIRY, Subject, set } from '../../src/testing/harness.ts';
import type { BackendHarness } from '../../src/testing/index.ts';
import { describeBackend } from '../conformance/backend.ts';
import { POSTGRES_WIRE } from '../support/cutting-proxy.ts';
import { postgresOfTests, proxyOfTests } from '../support/databases-of-tests.ts';
import { withCode } from '../support/errors.ts';
import { PASSWORD, POSTGRES_MISSING, postgresPrograms } from '../support/postgres.ts';
import { skipUnless } from '../support/skip.ts';

skipUnless(postgresPrograms, POSTGRES_MISSING).describe('with a server', () => {
  const server = postgresOfTests();
  const proxy = proxyOfTests(server, POSTGRES_WIRE);

  const make = (options: Partial<PostgresOptions> = {}): PostgresBackend =>
    new PostgresBackend({ url: server.url(), name: 'PostgreSQL of the test', ...options });
  const reset = async (): Promise<void> => {
    await server.query("SET lock_timeout = '5s'; DROP SCHEMA public CASCADE; CREATE SCHEMA public");
  };
  // Constraints that hold for new rows only, and triggers for what no constraint can refuse.
  const refuse = async (): Promise<void> => {
    const poison = `'${REFUSED}'::bytea`;
    await server.query(`
      ALTER TABLE cairn_entries ADD CHECK (substr(value, 1, ${REFUSED.length}) <> ${poison}) NOT VALID,
        ADD CHECK (expires_ms <> ${REFUSED_EXPIRY}) NOT VALID;
      CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
        IF substr(OLD.key, 1, ${REFUSED.length}) = ${poison} THEN RAISE EXCEPTION 'This row stays'; END IF;
        RETURN OLD;
      END $$;
      CREATE TRIGGER refuse BEFORE DELETE ON cairn_entries FOR EACH ROW EXECUTE FUNCTION refuse()`);
  };
  const harness: BackendHarness = {
    reset,
    make: (clock) => make({ clock }),
    refuse,
    sweeps: true,
    makeCuttable: (clock) => ({
      backend: make({ clock, url: server.url(proxy.port) }),
      cutAt: (index, side) => proxy.cutAt(index, side),
      disarm: () => proxy.disarm(),
    }),
  };
  describeBackend('PostgreSQL', harness);

  describe('a backend', () => {
    let backends: Backend[] = [];
    const opened = async (options: Partial<PostgresOptions> = {}): Promise<Subject> => {
      const subject = new Subject((clock) => make({ clock, ...options }));
      backends.push(subject.backend);
      await subject.backend.open();
      return subject;
    };
    const openError = async (options: Partial<PostgresOptions> = {}): Promise<Error> => {
      const backend = make(options);
      backends.push(backend);
      return backend.open().then(
        () => new Error('It was opened'),
        (error: Error) => error,
      );
    };
    beforeEach(async () => {
      await Promise.all(backends.map((backend) => backend.close()));
      backends = [];
      await reset();
    });

    test('takes schema and prefix from its URL and makes both', async () => {
      const made = await makeBackend(`${server.url()}?schema=of%20cairn&prefix=other_&application_name=mine`);
      backends.push(made);
      await made.open();
      await made.open();
      const tables = await server.query("SELECT tablename FROM pg_tables WHERE schemaname = 'of cairn' ORDER BY 1");
      expect(tables.map((row) => row['tablename'])).toEqual(['other_cursors', 'other_dead_letters', 'other_entries']);
      await server.query('DROP SCHEMA "of cairn" CASCADE');
    });

    test('has no credentials in its name, nor in the errors of a database that refuses them', async () => {
      const made = await makeBackend(server.url());
      expect(made.name).toBe(`PostgreSQL at ${server.directory} (postgres)`);
      const wrong = `wrong-${PASSWORD}`;
      const url = server.url().replace(encodeURIComponent(PASSWORD), encodeURIComponent(wrong));
      const error = await openError({ url });
      expect(`${error.message} ${JSON.stringify(error)} ${error.stack}`).not.toContain('correct-horse');
      expect(error).toMatchObject({ code: '28P01' });
      expect(made.classify(error)).toBe('halt');
      await made.close();
    });

    test('halts for a database that is not there or has no password, and waits for a server that is not there', async () => {
      const made = make();
      const classOf = async (url: string): Promise<string> => made.classify(await openError({ url }));
      expect(await classOf(`${server.url()}_missing`)).toBe('halt');
      expect(await classOf(server.url().replace(/:[^:@/]+@/, '@'))).toBe('halt');
      expect(await classOf('postgresql://cairn@127.0.0.1:1/postgres')).toBe('transient');
      expect(await classOf('postgresql://cairn@%2Fnowhere/postgres')).toBe('transient');
      await made.close();
    });

    test('reads bytes as they are where its role writes them in the older format', async () => {
      const value = Buffer.from([0, 1, 92, 120, 39, 128, 255]);
      await server.query("ALTER ROLE cairn SET bytea_output = 'escape'");
      try {
        const subject = await opened();
        await refuse();
        await subject.write(set('key', value), set('poison', REFUSED));
        expect((await subject.load('key')).rows.map((row) => row?.value)).toEqual([value]);
        expect((await subject.scan()).rows.map((row) => row.value)).toContainEqual(value);
        const [letter] = await subject.backend.deadLetters!.list(10);
        expect(letter!.change).toMatchObject({ key: bytes('poison'), value: bytes(REFUSED) });
      } finally {
        await server.query('ALTER ROLE cairn RESET bytea_output');
      }
    });

    test('opens after it has failed to', async () => {
      const subject = new Subject((clock) => make({ clock, url: server.url(proxy.port) }));
      backends.push(subject.backend);
      proxy.isDown = true;
      await expect(subject.backend.open()).rejects.toThrow();
      await expect(async () => subject.backend.load([])).rejects.toThrow(withCode('ERR_NOT_READY'));
      proxy.isDown = false;
      await subject.backend.open();
      await subject.write(set('key', 'value'));
      expect(await subject.texts('key')).toEqual(['value']);
    });

    const UNFIT: readonly [string, string, RegExp][] = [
      ['a missing column', 'ALTER TABLE cairn_entries DROP codec', /has no column codec \(smallint\)/],
      ['a column of another type', 'ALTER TABLE cairn_entries ALTER version TYPE numeric', /version is numeric/],
      ['a column that needs a value', 'ALTER TABLE cairn_entries ADD mine text NOT NULL', /mine is NOT NULL without/],
      ['no unique key', 'ALTER TABLE cairn_entries DROP CONSTRAINT cairn_entries_pkey', /no unique index on key/],
      ['an unlogged table', 'ALTER TABLE cairn_entries SET UNLOGGED', /is unlogged/],
      ['a newer layout', "COMMENT ON TABLE cairn_cursors IS 'cairn-cache, layout 9: new'", /layout 9/],
      ['a view', 'ALTER TABLE cairn_entries RENAME TO x; CREATE VIEW cairn_entries AS TABLE x', /is not a table/],
    ];
    test.each(UNFIT)('is refused at opening for %s', async (_, command, message) => {
      await opened();
      await server.query(command);
      const error = await openError();
      expect(error).toEqual(withCode('ERR_BACKEND_UNFIT', message));
      expect(make().classify(error)).toBe('halt');
    });

    test('lists all that is wrong at once, and takes columns with defaults', async () => {
      await opened();
      await server.query('ALTER TABLE cairn_entries ADD mine text NOT NULL DEFAULT 1, ADD other int');
      const subject = await opened();
      await subject.write(set('key', 'value'));
      await server.query('ALTER TABLE cairn_entries DROP codec, DROP value; ALTER TABLE cairn_cursors DROP writer');
      const { message } = await openError();
      for (const column of ['codec', 'value', 'writer']) expect(message).toContain(`has no column ${column}`);
    });

    test('says which permissions a user lacks, and needs none to make tables that are there', async () => {
      await opened();
      await server
        .query(`
        DROP OWNED BY guest; DROP ROLE guest`)
        .catch(() => {});
      await server.query(`CREATE ROLE guest LOGIN PASSWORD 'guest'; GRANT USAGE ON SCHEMA public TO guest;
        GRANT SELECT, INSERT, UPDATE, DELETE ON cairn_entries, cairn_cursors TO guest`);
      const url = server.url().replace(/\/\/[^@]+@/, '//guest:guest@');
      expect(await openError({ url })).toEqual(
        withCode('ERR_BACKEND_UNFIT', /DELETE on "public"."cairn_dead_letters"/),
      );
      await server.query('GRANT SELECT, INSERT, UPDATE, DELETE ON cairn_dead_letters TO guest');
      const subject = await opened({ url });
      await subject.write(set('key', 'value'));
      // Another schema's tables it may not make.
      expect(make().classify(await openError({ url, schema: 'elsewhere' }))).toBe('halt');
    });

    test('opened by several at once makes the tables once', async () => {
      const subjects = await Promise.all(Array.from({ length: 6 }, () => opened()));
      await subjects[0]!.write(set('key', 'value'));
      expect(await subjects[5]!.texts('key')).toEqual(['value']);
    });

    test('halts when a table goes away, and goes on when it is back', async () => {
      const subject = await opened();
      await subject.write(set('key', 'value'));
      await server.query('ALTER TABLE cairn_entries RENAME TO gone');
      const batch = { changes: [set('key', 'new')], from: subject.cursor, to: subject.next() };
      const error = await subject.backend.write(batch).catch((reason: unknown) => reason);
      expect(subject.backend.classify(error)).toBe('halt');
      await server.query('ALTER TABLE gone RENAME TO cairn_entries');
      expect(await subject.backend.readCursors()).toEqual([subject.cursor]);
      expect(await subject.backend.write(batch)).toMatchObject({ kind: 'committed' });
    });

    test('puts a change aside that a deferred constraint refuses at COMMIT', async () => {
      const subject = await opened();
      await server.query(`CREATE TABLE allowed (key bytea PRIMARY KEY); INSERT INTO allowed VALUES ('a'), ('c');
        ALTER TABLE cairn_entries ADD FOREIGN KEY (key) REFERENCES allowed DEFERRABLE INITIALLY DEFERRED`);
      const { deadLetters } = await subject.write(set('a', '1'), set('b', '2'), set('c', '3'));
      expect(deadLetters.map(({ change }) => change.key.toString())).toEqual(['b']);
      expect(await server.query('SELECT count(*)::int AS count FROM cairn_entries')).toEqual([{ count: 2 }]);
      expect(await subject.backend.deadLetters!.list(9)).toMatchObject([{ errorCode: '23503' }]);
    });

    test('halts where it may not put a change aside', async () => {
      const subject = await opened();
      await refuse();
      await server.query("ALTER TABLE cairn_dead_letters ADD CHECK (kind <> 'set')");
      const batch = { changes: [set('a', REFUSED)], from: undefined, to: subject.next() };
      const error = await subject.backend.write(batch).catch((reason: unknown) => reason);
      expect(error).toEqual(withCode('ERR_BACKEND_UNFIT', /refuses a batch as a whole/));
      expect(subject.backend.classify(error)).toBe('halt');
      expect(await subject.backend.readCursors()).toEqual([]);
    });

    test('fails within its lock timeout where another transaction holds the cursor, and does not lie about it', async () => {
      const subject = await opened({ lockTimeoutMs: 100 });
      await subject.write(set('key', 'value'));
      const other = await opened({ idleTimeoutMs: 60_000 });
      const holder = await server.connect();
      await holder.query('BEGIN; SELECT * FROM cairn_cursors FOR UPDATE');
      const batch = { changes: [set('key', 'new')], from: subject.cursor, to: subject.next() };
      for (const call of [() => subject.backend.write(batch), () => subject.backend.readCursors()]) {
        const error = await call().catch((reason: unknown) => reason);
        expect(error).toMatchObject({ code: '55P03' });
        expect(subject.backend.classify(error)).toBe('transient');
      }
      const reading = other.backend.readCursors();
      await holder.query('UPDATE cairn_cursors SET position = 77');
      await holder.query('COMMIT');
      expect(await reading).toMatchObject([{ position: 77n }]);
      await holder.end();
    });

    test('has the database end a transaction whose client is silent', async () => {
      const subject = await opened({ idleTimeoutMs: 100, url: server.url(proxy.port) });
      await subject.write(set('key', 'value'));
      // The proxy keeps all that comes after the first statement, as a network does that has gone.
      proxy.holdAt(1);
      const batch = { changes: [set('key', 'new')], from: subject.cursor, to: subject.next() };
      const silent = subject.backend.write(batch);
      silent.catch(() => {});
      while (!proxy.isHolding) await new Promise((resolve) => setTimeout(resolve, 1));
      const other = await opened();
      expect(await other.backend.readCursors()).toEqual([subject.cursor]);
      other.moveTo(subject.cursor);
      await other.write(set('key', 'of another'));
      await subject.backend.close();
      await expect(silent).rejects.toThrow(withCode('ERR_CLOSED'));
      proxy.release();
      expect(await other.texts('key')).toEqual(['of another']);
    });

    test('of several lanes, one that another transaction holds is waited for by none of the others', async () => {
      const lanes = [0, 1].map((lane) => {
        const subject = new Subject((clock) => make({ clock, lanes: 2, lockTimeoutMs: 100 }), lane, 2);
        backends.push(subject.backend);
        return subject;
      });
      for (const { backend } of lanes) await backend.open();
      const [first, second] = lanes as [Subject, Subject];
      await first.write(set('key', 'value', { expiresWallMs: first.nowMs + 1 }));
      await second.write();
      const holder = await server.connect();
      await holder.query('BEGIN; SELECT FROM cairn_cursors WHERE lane = 1 FOR UPDATE');
      expect(await first.backend.readCursors([0])).toHaveLength(2);
      await expect(first.backend.readCursors([1])).rejects.toMatchObject({ code: '55P03' });
      const at = lanes.map(({ cursor }) => cursor!);
      const piece = { at, expiredAtMs: first.nowMs + 2, place: undefined, rows: 10 };
      expect(await first.backend.sweep!(piece)).toMatchObject({ removed: 1 });
      await holder.query('COMMIT');
      await holder.end();
    });

    test('does not wait for the answer of a network that is gone longer than its statements may take', async () => {
      const subject = await opened({ statementTimeoutMs: 200, answerGraceMs: 100, url: server.url(proxy.port) });
      proxy.holdAt(0);
      const error = await subject.load('key').catch((reason: unknown) => reason);
      expect(error).toMatchObject({ code: 'ETIMEDOUT' });
      expect(subject.backend.classify(error)).toBe('transient');
      proxy.release();
      expect(await subject.texts('key')).toEqual([undefined]);
    });

    test('gives the reader of a scan the time that it takes', async () => {
      const subject = await opened({ idleTimeoutMs: 100, loadConnections: 1, url: server.url(proxy.port) });
      const keys = Array.from({ length: 300 }, (_, i) => `key ${i}`);
      await subject.write(...keys.map((key) => set(key, 'value')));
      let count = 0;
      for await (const { rows } of subject.backend.scan()) {
        count += rows.length;
        if (count < keys.length) await new Promise((resolve) => setTimeout(resolve, 300));
      }
      expect(count).toBe(keys.length);
    });

    test('survives that the server ends its connections while they are idle', async () => {
      const subject = await opened();
      await subject.write(set('key', 'value'));
      await subject.texts('key');
      await server.query(
        'SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = $$cairn-cache$$',
      );
      await expect.poll(() => subject.texts('key').catch(() => undefined), { interval: 5 }).toEqual(['value']);
      await subject.write(set('key', 'new'));
      expect(await subject.texts('key')).toEqual(['new']);
    });

    test('survives a crash of the server with a batch on its way', async () => {
      const subject = await opened();
      await subject.write(...Array.from({ length: 100 }, (_, i) => set(`${i}`, 'old')));
      const batch = {
        changes: Array.from({ length: 20_000 }, (_, i) => set(`${i}`, 'new')),
        from: subject.cursor,
        to: subject.next(),
      };
      const writing = subject.backend.write(batch).catch((error: unknown) => error);
      await expect
        .poll(() => server.query("SELECT 1 FROM pg_stat_activity WHERE state <> 'idle' AND query LIKE 'INSERT%'"), {
          interval: 1,
        })
        .not.toEqual([]);
      await server.crash();
      expect(subject.backend.classify(await writing)).toBe('transient');
      expect(subject.backend.classify(await subject.backend.readCursors().catch((error: unknown) => error))).toBe(
        'transient',
      );
      await server.run();
      expect(await subject.backend.readCursors()).toEqual([batch.from]);
      expect(await subject.texts('0', '99', '100')).toEqual(['old', 'old', undefined]);
      expect(await subject.backend.write(batch)).toMatchObject({ kind: 'committed' });
    });

    test('takes a commit that became a rollback for an error', async () => {
      const settings = { connectTimeoutMs: 5000, lockTimeoutMs: 5000, statementTimeoutMs: 5000, idleTimeoutMs: 5000 };
      const more = { answerGraceMs: 1000, applicationName: 'test' };
      const connection = await PostgresConnection.open(await loadPg(), server.url(), { ...settings, ...more });
      await connection.command('BEGIN');
      await expect(connection.command('SELECT 1 / 0')).rejects.toThrow(/division/);
      await expect(connection.commit()).rejects.toThrow(/answered COMMIT with ROLLBACK/);
      await connection.command('BEGIN');
      await connection.commit();
      await connection.end();
    });

    test('commits for good even where the database does not by default', async () => {
      await server.query('ALTER ROLE cairn SET synchronous_commit = off');
      try {
        const subject = await opened({ applicationName: 'looked at' });
        await server.query(`CREATE FUNCTION look() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
            RAISE EXCEPTION '%', current_setting('synchronous_commit'); END $$;
          CREATE TRIGGER look BEFORE INSERT ON cairn_entries EXECUTE FUNCTION look()`);
        const { deadLetters } = await subject.write(set('key', 'value'));
        expect(deadLetters[0]?.error.message).toBe('on');
      } finally {
        await server.query('ALTER ROLE cairn RESET synchronous_commit');
      }
    });
  });
});
