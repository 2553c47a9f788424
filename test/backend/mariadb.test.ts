// MariaDB behind a cache, on a real server of the test.

import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from 'vitest';
import type { Backend } from '../../src/backend/index.ts';
import { MariadbBackend, type MariadbOptions } from '../../src/backend/mariadb.ts';
import { REFUSED, REFUSED_EXPIRY, Subject, set } from '../../src/testing/harness.ts';
import { describeBackend } from '../conformance/backend.ts';
import { CuttingProxy, MARIADB_WIRE } from '../support/cutting-proxy.ts';
import { withCode } from '../support/errors.ts';
import { hasMariadb, MARIADB_MISSING, MariadbServer, PASSWORD } from '../support/mariadb.ts';
import { skipUnless } from '../support/skip.ts';

skipUnless(hasMariadb, MARIADB_MISSING).describe('with a server', () => {
  let server: MariadbServer;
  let proxy: CuttingProxy;
  beforeAll(async () => {
    server = await MariadbServer.start();
    proxy = await CuttingProxy.start(server.socket, MARIADB_WIRE);
  });
  afterAll(async () => {
    await proxy?.stop();
    await server?.stop();
  });

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
    makeCuttable: (clock) => ({
      backend: make({
        clock,
        target: { ...server.target, socketPath: undefined, host: '127.0.0.1', port: proxy.port },
      }),
      cutAt: (index, side) => proxy.cutAt(index, side),
      disarm: () => proxy.disarm(),
    }),
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
