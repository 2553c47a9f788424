// MariaDB behind a cache, on a real server of the test.

import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import type { Backend } from '../../src/backend/index.ts';
import { MariadbBackend, type MariadbOptions } from '../../src/backend/mariadb.ts';
import { loadMariadb, MariadbConnection } from '../../src/backend/mariadb-connection.ts';
import { bytes, NOW_MS, REFUSED, REFUSED_EXPIRY, remove, Subject, set, touch } from '../../src/testing/harness.ts';
import { describeBackend } from '../conformance/backend.ts';
import { describeHistory } from '../conformance/history.ts';
import { MARIADB_WIRE } from '../support/cutting-proxy.ts';
import { mariadbOfTests, proxyOfTests } from '../support/databases-of-tests.ts';
import { withCode } from '../support/errors.ts';
import { MARIADB_MISSING, mariadbPrograms, PASSWORD } from '../support/mariadb.ts';
import { skipUnless } from '../support/skip.ts';

skipUnless(mariadbPrograms, MARIADB_MISSING).describe('with a server', () => {
  const server = mariadbOfTests();
  const proxy = proxyOfTests(server, MARIADB_WIRE);

  const make = (options: Partial<MariadbOptions> = {}): MariadbBackend =>
    new MariadbBackend({ target: server.target, name: 'MariaDB of the test', ...options });
  const reset = async (): Promise<void> => {
    await server.query('DROP DATABASE IF EXISTS app; CREATE DATABASE app');
  };
  const refuse = async (): Promise<void> => {
    const signal = "SIGNAL SQLSTATE '45000' SET MESSAGE_TEXT = 'This is refused'";
    const isPoison = `LEFT(NEW.value, 7) = '${REFUSED}' OR NEW.expires_ms = ${REFUSED_EXPIRY}`;
    await server.query(
      `CREATE TRIGGER a BEFORE INSERT ON cairn_entries FOR EACH ROW IF ${isPoison} THEN ${signal}; END IF;
      CREATE TRIGGER b BEFORE UPDATE ON cairn_entries FOR EACH ROW IF ${isPoison} THEN ${signal}; END IF;
      CREATE TRIGGER c BEFORE DELETE ON cairn_entries FOR EACH ROW IF LEFT(OLD.\`key\`, 7) = '${REFUSED}' THEN ${signal}; END IF`,
      'app',
    );
  };
  describeBackend('MariaDB', {
    reset,
    make: (clock) => make({ clock }),
    refuse,
    sweeps: true,
    makeCuttable: (clock) => ({
      backend: make({
        clock,
        target: { ...server.target, socketPath: undefined, host: '127.0.0.1', port: proxy.port },
      }),
      cutAt: (index, side) => proxy.cutAt(index, side),
      disarm: () => proxy.disarm(),
    }),
  });

  describe('with rules', () => {
    const subjects: Subject[] = [];
    afterEach(() => Promise.all(subjects.splice(0).map(({ backend }) => backend.close())));

    describeHistory('MariaDB', {
      async open(rules) {
        await reset();
        const subject = new Subject((clock) => make({ clock, rules }));
        subjects.push(subject);
        await subject.backend.open();
        return subject;
      },
      async rows() {
        const found = await server.query(
          `SELECT coalesce(long_key, \`key\`) AS name, version, kind, value, codec, client_flags, expires_ms, logged_ms
            FROM cairn_history ORDER BY version`,
          'app',
        );
        const number = (cell: unknown): bigint | undefined => (cell === null ? undefined : BigInt(cell as bigint));
        return (found as Record<string, unknown>[]).map((row) => ({
          ...{ key: row['name'] as Buffer, version: number(row['version'])!, kind: row['kind'] as string },
          ...{ value: (row['value'] as Buffer | null) ?? undefined, codec: number(row['codec']) },
          ...{ clientFlags: number(row['client_flags']), expiresMs: number(row['expires_ms']) },
          loggedMs: number(row['logged_ms'])!,
        }));
      },
      refuseLong: () => server.query('ALTER TABLE cairn_history ADD CHECK (length(value) < 5)', 'app'),
    });
  });

  describe('a backend', () => {
    let backends: Backend[] = [];
    const opened = async (options: Partial<MariadbOptions> = {}): Promise<Subject> => {
      const subject = new Subject((clock) => make({ clock, ...options }));
      backends.push(subject.backend);
      await subject.backend.open();
      return subject;
    };
    const openError = async (options: Partial<MariadbOptions> = {}): Promise<Error> => {
      const backend = make(options);
      backends.push(backend);
      return backend.open().then(
        () => new Error('It was opened'),
        (error: Error) => error,
      );
    };
    beforeEach(reset);
    afterEach(async () => {
      for (const backend of backends.splice(0)) await backend.close();
      backends = [];
    });

    test('halts for a wrong password, of which no error tells, and for a missing database', async () => {
      const wrong = await openError({ target: { ...server.target, password: `wrong-${PASSWORD}` } });
      expect(make().classify(wrong)).toBe('halt');
      expect(`${wrong.message} ${JSON.stringify(wrong)} ${wrong.stack}`).not.toContain('correct-horse');
      expect(make().classify(await openError({ target: { ...server.target, database: 'none' } }))).toBe('halt');
      expect(make().classify(await openError({ target: { ...server.target, socketPath: '/nowhere' } }))).toBe(
        'transient',
      );
    });

    test('refuses tables that would not do, with all that is wrong', async () => {
      await server.query('CREATE TABLE cairn_entries (`key` int, mine int NOT NULL) ENGINE = MyISAM', 'app');
      const error = await openError();
      expect(error).toEqual(withCode('ERR_BACKEND_UNFIT', /engine MyISAM, and needs InnoDB/));
      for (const part of [
        'key is int',
        'no column value',
        'mine is NOT NULL',
        'primary key of cairn_entries is not key',
      ]) {
        expect(error.message).toContain(part);
      }
    });

    test('refuses entries with another unique index, which a set would take for its key', async () => {
      const subject = await opened();
      await server.query('CREATE INDEX plain ON cairn_entries (version)', 'app');
      await opened();
      await server.query('CREATE UNIQUE INDEX mine ON cairn_entries (codec, version)', 'app');
      const error = await openError();
      expect(error).toEqual(withCode('ERR_BACKEND_UNFIT', /cairn_entries has the unique index mine besides its key/));
      expect(error.message).not.toContain('plain');
      expect(subject.backend.classify(error)).toBe('halt');
    });

    test('fails within its lock timeout where another transaction holds the cursor', async () => {
      const subject = await opened({ lockTimeoutMs: 1000 });
      await subject.write(set('key', 'value'));
      const holding = server.query('BEGIN; SELECT * FROM cairn_cursors FOR UPDATE; DO SLEEP(2); ROLLBACK', 'app');
      const batch = { changes: [set('key', 'new')], from: subject.cursor, to: subject.next() };
      await new Promise((resolve) => setTimeout(resolve, 300));
      const error = await subject.backend.write(batch).catch((reason: unknown) => reason);
      expect(error).toMatchObject({ errno: 1205 });
      expect(subject.backend.classify(error)).toBe('transient');
      await holding;
      expect(await subject.backend.readCursors()).toEqual([subject.cursor]);
      expect(await subject.backend.write(batch)).toMatchObject({ kind: 'committed' });
    });

    test('keeps pieces of changes and of keys below the largest message that the server takes', async () => {
      await server.query('SET GLOBAL max_allowed_packet = 65536');
      try {
        const subject = await opened();
        const keys = Array.from({ length: 400 }, (_, i) => `${i} `.padEnd(1000, 'k'));
        await subject.write(...keys.map((key) => set(key, 'v'.repeat(500))));
        await subject.write(...keys.map((key) => set(key, '')));
        expect(await subject.texts(...keys)).toEqual(keys.map(() => ''));
        await subject.write(...keys.map((key) => remove(key)));
        expect((await subject.scan()).rows).toEqual([]);
      } finally {
        await server.query('SET GLOBAL max_allowed_packet = 1073741824');
      }
    });

    test('puts a value aside that is above the largest message of the server, and reads it whole', async () => {
      await server.query('SET GLOBAL max_allowed_packet = 65536');
      try {
        const subject = await opened();
        const large = (key: string, size: number) => set(key, Buffer.alloc(size, `${key} of some size `), { codec: 6 });
        const bodies = [large('b', 61_439), large('c', 61_440), large('d', 65_536), large('e', 300_001)];
        const { deadLetters } = await subject.write(set('a', 'small'), ...bodies, set('f', 'small'));
        expect(deadLetters.map(({ change }) => change.key.toString())).toEqual(['c', 'd', 'e']);
        for (const { error } of deadLetters) expect(subject.backend.classify(error)).toBe('permanent');
        const later = await opened();
        later.moveTo(subject.cursor);
        expect((await later.load('a', 'b', 'c', 'd', 'e', 'f')).rows.map((row) => row?.value)).toEqual([
          ...[bytes('small'), ...bodies.map(({ value }) => value), bytes('small')],
        ]);
        expect((await later.scan()).rows).toHaveLength(6);
        const kept = await later.backend.deadLetters!.list(10);
        expect(kept.map(({ change }) => change)).toEqual(bodies.slice(1));
        expect(kept[0]).toMatchObject({
          errorCode: '1153',
          error: expect.stringMatching(/max_allowed_packet is 65536/),
        });
        expect(await later.backend.deadLetters!.list(1, kept[0]!.id)).toEqual([kept[1]]);
        await later.write(set('d', 'new'), touch('e', NOW_MS + 1000));
        expect((await later.load('d', 'e')).rows).toMatchObject([
          { value: bytes('new') },
          { value: bodies[3]!.value, expiresWallMs: NOW_MS + 1000 },
        ]);
        // Of the parts of a dead letter none is left, and none is a letter.
        expect(await later.backend.deadLetters!.drop([...kept.map(({ id }) => id), kept[2]!.id + 1n])).toBe(3);
        expect(await server.query('SELECT count(*) AS n FROM cairn_dead_letters', 'app')).toEqual([{ n: 0n }]);
        expect(await later.texts('c', 'd', 'e')).toEqual([undefined, 'new', undefined]);
      } finally {
        await server.query('SET GLOBAL max_allowed_packet = 1073741824');
      }
    });

    test('halts for a message above the bound that the server answers itself', () => {
      const error = Object.assign(new Error('Got a packet bigger than max_allowed_packet'), {
        errno: 1153,
        sqlState: '08S01',
      });
      expect(make().classify(error)).toBe('halt');
    });

    test('gives the reader of a scan the time that it takes, and no other transaction', async () => {
      const subject = await opened({ idleTimeoutMs: 1000, loadConnections: 1 });
      await subject.write(...Array.from({ length: 300 }, (_, i) => set(`key ${i}`, 'value')));
      // The limits of the server are those of a session that sets none.
      await server.query('SET GLOBAL idle_readonly_transaction_timeout = 1; SET GLOBAL wait_timeout = 1');
      try {
        const slow = await opened({ idleTimeoutMs: 1000, loadConnections: 1 });
        let count = 0;
        for await (const { rows } of slow.backend.scan()) {
          count += rows.length;
          if (count < 300) await new Promise((resolve) => setTimeout(resolve, 2200));
        }
        expect(count).toBe(300);
      } finally {
        await server.query('SET GLOBAL idle_readonly_transaction_timeout = 0; SET GLOBAL wait_timeout = 28800');
      }
      const connection = await MariadbConnection.open(
        await loadMariadb(),
        server.target,
        {
          connectTimeoutMs: 1000,
          lockTimeoutMs: 1000,
          statementTimeoutMs: 1000,
          idleTimeoutMs: 7000,
          answerGraceMs: 1000,
        },
        'REPEATABLE READ',
      );
      const limits = 'SELECT @@idle_transaction_timeout, @@idle_readonly_transaction_timeout, @@wait_timeout';
      const before = await connection.command(limits);
      expect(before.flat().map(Number)).toEqual([7, 7, 28_800]);
      await connection.mayIdle(true);
      await connection.mayIdle(false);
      expect(await connection.command(limits)).toEqual(before);
      await connection.end();
    });

    test('limits a transaction again on the connection that a scan has used', async () => {
      const target = { ...server.target, socketPath: undefined, host: '127.0.0.1', port: proxy.port };
      const subject = await opened({ target, idleTimeoutMs: 1000, loadConnections: 1 });
      await subject.write(set('key', 'value'));
      await subject.scan();
      const idle = async (): Promise<unknown> =>
        server.query("SELECT id FROM information_schema.processlist WHERE user = 'cairn'");
      expect(await idle()).toHaveLength(2);
      // The transaction of the load has begun, and nothing more comes.
      proxy.holdAt(1);
      const silent = subject.backend.load([bytes('key')]);
      silent.catch(() => {});
      await expect.poll(idle, { interval: 20, timeout: 5000 }).toHaveLength(1);
      proxy.release();
      await expect(silent).rejects.toThrow();
    });

    test('has the server end a transaction whose client is silent', async () => {
      const target = { ...server.target, socketPath: undefined, host: '127.0.0.1', port: proxy.port };
      const subject = await opened({ target, idleTimeoutMs: 1000 });
      await subject.write(set('key', 'value'));
      proxy.holdAt(2);
      const batch = { changes: [set('key', 'new')], from: subject.cursor, to: subject.next() };
      const silent = subject.backend.write(batch);
      silent.catch(() => {});
      while (!proxy.isHolding) await new Promise((resolve) => setTimeout(resolve, 1));
      const other = await opened();
      expect(await other.backend.readCursors()).toEqual([subject.cursor]);
      await subject.backend.close();
      await expect(silent).rejects.toThrow(withCode('ERR_CLOSED'));
      proxy.release();
      expect(await other.texts('key')).toEqual(['value']);
    });

    test('survives that the server ends its connections', async () => {
      const subject = await opened();
      await subject.write(set('key', 'value'));
      await subject.texts('key');
      await server.query("KILL USER 'cairn'");
      await expect.poll(() => subject.texts('key').catch(() => undefined), { interval: 5 }).toEqual(['value']);
      await expect.poll(() => subject.backend.readCursors().catch(() => undefined), { interval: 5 }).toHaveLength(1);
      await subject.write(set('key', 'new'));
      expect(await subject.texts('key')).toEqual(['new']);
    });
  });
});
