// What backends share, without a database: addresses, packages, the changes of a batch, connections.

import { EventEmitter } from 'node:events';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { pathToFileURL } from 'node:url';
import { afterAll, describe, expect, test } from 'vitest';
import { loadDriver } from '../../src/backend/driver.ts';
import { checkBackend, makeBackend } from '../../src/backend/index.ts';
import { classifyMariadb } from '../../src/backend/mariadb-errors.ts';
import { newestChanges, piecesOf } from '../../src/backend/newest.ts';
import { Pool, type PooledConnection } from '../../src/backend/pool.ts';
import { classifyPostgres } from '../../src/backend/postgres-errors.ts';
import { isLongKey, rowKeyOf } from '../../src/backend/row-key.ts';
import { SqlConnection } from '../../src/backend/sql-connection.ts';
import { Draw, RowsModel, set } from '../../src/testing/harness.ts';
import { randomChange } from '../../src/testing/random-cases.ts';
import { ODD_KEYS } from '../../src/testing/row-cases.ts';
import { withCode } from '../support/errors.ts';
import { Random } from '../support/random.ts';

const folder = mkdtempSync(join(tmpdir(), 'cairn-backend-'));
afterAll(() => rmSync(folder, { recursive: true }));

describe('an address', () => {
  test('of an unknown scheme is refused with the schemes that are known', async () => {
    const error = withCode(
      'ERR_INVALID_ARGUMENT',
      /"oracle:": known are lmdb:, mariadb:, mysql:, postgres:, postgresql:, sqlite:/,
    );
    await expect(makeBackend('oracle://scott:tiger@host/db')).rejects.toThrow(error);
    await expect(makeBackend('oracle://scott:tiger@host/db')).rejects.not.toThrow(/tiger/);
  });

  test('names a database without its credentials', async () => {
    const names: Record<string, string> = {
      'postgres://u:p@db.example:5433/app': 'PostgreSQL at db.example:5433 (app)',
      'POSTGRES://u:p%40ss@db.example/app?sslmode=require': 'PostgreSQL at db.example (app)',
      'postgresql:///app?host=/run/postgresql': 'PostgreSQL at /run/postgresql (app)',
      'postgresql://u@%2Frun%2Fpg/app': 'PostgreSQL at /run/pg (app)',
      'postgres:': 'PostgreSQL at localhost',
      'mysql://u:p%40@db.example:3307/app?prefix=a_': 'MySQL at db.example:3307 (app)',
      'mariadb://u:p@/app?socket=/run/mysqld.sock': 'MariaDB at /run/mysqld.sock (app)',
    };
    for (const [address, name] of Object.entries(names)) {
      expect((await makeBackend(address)).name, address).toBe(name);
    }
  });

  test.each(['u:p@ss@host/db', 'u:p/ss@host/db', 'u:p?ss@host/db', 'u:p#ss@host/db', 'u:p@ss/w?rd@host/db'])(
    'whose password is not encoded (%s) is refused without a word of it',
    async (rest) => {
      const error = await makeBackend(`postgres://${rest}`).catch((reason: unknown) => reason);
      expect(error).toEqual(withCode('ERR_INVALID_ARGUMENT', /to be encoded/));
      expect(String(error).replace('password', '')).not.toContain('ss');
    },
  );

  test.each(['u:p@ss@host/db', 'u:p/ss@host/db', 'u:p?ss@host/db', 'u:p#ss@host/db', 'u:p@host', 'u:p@host/db?ss=1'])(
    'of MariaDB that is not whole (%s) is refused without its password',
    async (rest) => {
      const error = await makeBackend(`mysql://${rest}`).catch((reason: unknown) => reason);
      expect(error).toEqual(withCode('ERR_INVALID_ARGUMENT'));
      expect(String(error)).not.toContain('u:p');
    },
  );

  test.each(['?prefix=a-b', '?prefix=a;drop', `?prefix=${'a'.repeat(41)}`, '?schema='])(
    'with %s is refused',
    async (tail) => {
      await expect(makeBackend(`postgres://u:p@host/db${tail}`)).rejects.toThrow(withCode('ERR_INVALID_ARGUMENT'));
    },
  );

  test('of a module gives the backend that its default export makes', async () => {
    const path = join(folder, 'mine.mjs');
    const methods = 'async open() {}, readCursors() {}, load() {}, scan() {}, write() {}, classify() {}, close() {}';
    writeFileSync(
      path,
      `export default ({ clock }) => ({ name: \`mine \${clock()}\`, level: 'idempotent', ${methods} })`,
    );
    for (const address of [path, pathToFileURL(path).href]) {
      expect((await makeBackend(address, { clock: () => 7 })).name).toBe('mine 7');
    }
    writeFileSync(join(folder, 'none.mjs'), 'export const other = 1');
    await expect(makeBackend(join(folder, 'none.mjs'))).rejects.toThrow(
      withCode('ERR_INVALID_ARGUMENT', /default export/),
    );
  });
});

test('an object that is no backend is refused with what it lacks', () => {
  const whole = Object.fromEntries(
    ['open', 'readCursors', 'load', 'scan', 'write', 'classify', 'close'].map((name) => [name, () => {}]),
  );
  const check = (value: unknown) => () => checkBackend(value, 'the store');
  expect(check({ ...whole, name: 'x', level: 'transactional' })).not.toThrow();
  expect(check(undefined)).toThrow(/the store to be a backend, got undefined/);
  expect(check({ ...whole, name: 'x', level: 'idempotent', scan: 1, load: undefined })).toThrow(
    /which has load\(\), scan\(\) too/,
  );
  expect(check({ ...whole, password: 'secret', scan: 1 })).toThrow(/^(?!.*secret).* which has scan\(\) too$/);
  expect(check({ ...whole, name: 'x', level: 'eventual' })).toThrow(/"transactional" or "idempotent", got "eventual"/);
  expect(check({ ...whole, level: 'idempotent' })).toThrow(/name of the store/);
});

describe('the package of a database', () => {
  const failing = (code: string, message: string) => async () => {
    throw Object.assign(new Error(message), { code });
  };

  test('that is missing is an error with the command that installs it', async () => {
    const missing = failing('ERR_MODULE_NOT_FOUND', "Cannot find package 'pg' imported from x");
    const error = withCode('ERR_DRIVER_MISSING', /^PostgreSQL needs the package pg: npm install pg@8$/);
    await expect(loadDriver('PostgreSQL', 'pg', 'pg@8', missing)).rejects.toThrow(error);
  });

  test('that is there but lacks another package throws what it throws', async () => {
    const broken = failing('ERR_MODULE_NOT_FOUND', "Cannot find package 'pg-types' imported from pg");
    await expect(loadDriver('PostgreSQL', 'pg', 'pg@8', broken)).rejects.toThrow(/pg-types/);
  });

  test('may be of either kind of module', async () => {
    expect(await loadDriver('A', 'a', 'a', async () => ({ default: { Client: 1 } }))).toMatchObject({ Client: 1 });
    expect(await loadDriver('A', 'a', 'a', async () => ({ Client: 2, default: { Client: 1 } }))).toMatchObject({
      Client: 2,
    });
  });
});

describe('the changes of a batch', () => {
  test('come to what they leave when they are applied in turn', () => {
    const { seed } = new Random();
    const draw = new Draw(seed);
    for (let round = 0; round < 60; round++) {
      const keys = ODD_KEYS.slice(0, 1 + draw.below(20));
      const [before, changes] = [20, 30].map((most) =>
        Array.from({ length: draw.below(most) }, () => randomChange(draw, keys)),
      ) as [ReturnType<typeof randomChange>[], ReturnType<typeof randomChange>[]];
      const { deletes, sets, touches } = newestChanges(changes);
      const [expected, actual] = [new RowsModel(), new RowsModel()];
      expected.apply([...before, ...changes]);
      actual.apply(before);
      // Each key is in one place, so the order does not matter.
      actual.apply([...touches, ...sets, ...deletes]);
      expect(new Map(actual.rows(0).map((row) => [row.key.toString('latin1'), row])), `CAIRN_SEED=${seed}`).toEqual(
        new Map(expected.rows(0).map((row) => [row.key.toString('latin1'), row])),
      );
      for (const some of [deletes, sets, touches]) {
        const names = some.map(({ key }) => key);
        expect([...names].sort(Buffer.compare)).toEqual(names);
      }
      const all = [...deletes, ...sets, ...touches].map(({ key }) => key.toString('latin1'));
      expect(new Set(all).size).toBe(all.length);
    }
  });

  test('are cut by rows and by bytes, and none is lost', () => {
    const sizes = [1, 5, 100, 3, 3, 3, 3, 1, 200];
    const changes = sizes.map((size, i) => set(`${i}`, Buffer.alloc(size)));
    const cut = (rows: number, most: number): number[][] =>
      [...piecesOf(changes, { rows, bytes: most })].map((piece) => piece.map(({ value }) => value.length));
    expect(cut(3, 1000)).toEqual([
      [1, 5, 100],
      [3, 3, 3],
      [3, 1, 200],
    ]);
    expect(cut(100, 12)).toEqual([[1, 5], [100], [3, 3, 3], [3, 1], [200]]);
    expect(cut(100, 8)).toEqual([[1, 5], [100], [3, 3], [3, 3], [1], [200]]);
    expect(cut(1, 1)).toEqual(sizes.map((size) => [size]));
    expect([...piecesOf([], { rows: 1, bytes: 1 })]).toEqual([]);
  });
});

test('a row key is the key itself up to 1,024 bytes, and longer ones differ from all others', () => {
  const keys = [...ODD_KEYS, ...[1023, 1024, 1025, 1055, 1056, 1057].map((length) => Buffer.alloc(length, 'z'))];
  for (const key of keys) {
    expect(isLongKey(key)).toBe(key.length > 1024);
    if (!isLongKey(key)) expect(rowKeyOf(key)).toBe(key);
    else expect(rowKeyOf(key)).toHaveLength(1056);
  }
  expect(new Set(keys.map((key) => rowKeyOf(key).toString('latin1'))).size).toBe(keys.length);
});

test('errors of PostgreSQL are classified by their SQLSTATE, and what is unknown is tried again', () => {
  const classOf = (code: string): string => classifyPostgres(Object.assign(new Error('x'), { code }));
  const expected = {
    permanent: ['22001', '22P02', '23502', '23505', '23514', '44000', '54000', 'P0001'],
    halt: [
      '28P01',
      '28000',
      '3D000',
      '3F000',
      '42P01',
      '42703',
      '42501',
      'XX001',
      'CERT_HAS_EXPIRED',
      'ERR_BACKEND_UNFIT',
    ],
    transient: [
      ...['08006', '40001', '40P01', '53300', '53100', '55P03', '57P01', '57014', '25006', '25P03', 'XX000', '0A000'],
      ...[
        'ECONNREFUSED',
        'ECONNRESET',
        'ETIMEDOUT',
        'ENOENT',
        'EPIPE',
        'ENOTFOUND',
        'ERR_CLOSED',
        'ERR_QUEUE_FULL',
        '',
      ],
    ],
  };
  for (const [kind, codes] of Object.entries(expected))
    for (const code of codes) expect(classOf(code), code).toBe(kind);
  expect(classifyPostgres(new Error('Connection terminated unexpectedly'))).toBe('transient');
  expect(classifyPostgres(new Error('The server does not support SSL connections'))).toBe('halt');
  expect(classifyPostgres('not an error')).toBe('transient');
});

test('errors of MariaDB and MySQL are classified by number and SQLSTATE, and what is unknown is tried again', () => {
  const classOf = (errno: number, sqlState: string) =>
    classifyMariadb(Object.assign(new Error('x'), { errno, sqlState }));
  const expected = {
    permanent: [
      [1048, '23000'],
      [1062, '23000'],
      [1406, '22001'],
      [1452, '23000'],
      [1644, '45000'],
      [4025, '23000'],
      [3819, 'HY000'],
    ],
    halt: [
      [1044, '42000'],
      [1045, '28000'],
      [1146, '42S02'],
      [1054, '42S22'],
      [1142, '42000'],
    ],
    transient: [
      [1205, 'HY000'],
      [1213, '40001'],
      [1040, '08004'],
      [2006, '08S01'],
      [1290, 'HY000'],
      [-1, ''],
    ],
  } as const;
  for (const [kind, errors] of Object.entries(expected)) {
    for (const [errno, sqlState] of errors) expect(classOf(errno, sqlState), `${errno}`).toBe(kind);
  }
  expect(classifyMariadb(Object.assign(new Error('x'), { code: 'ECONNREFUSED' }))).toBe('transient');
});

test('the end of a connection waits for the database a second at most, and once', async () => {
  let goodbyes = 0;
  class Silent extends SqlConnection {
    #finish: (() => void) | undefined;
    async command(): Promise<void> {}
    protected leave(): Promise<void> {
      goodbyes++;
      return new Promise((resolve) => {
        this.#finish = resolve;
      });
    }
    protected cut(): void {
      this.#finish?.();
    }
  }
  const limits = { connectTimeoutMs: 1, lockTimeoutMs: 1, statementTimeoutMs: 1, idleTimeoutMs: 1, answerGraceMs: 1 };
  const connection = new Silent(new EventEmitter(), limits);
  expect(connection.isBroken).toBe(false);
  const ending = connection.end();
  expect(connection.isBroken).toBe(true);
  await Promise.all([ending, connection.end()]);
  expect(goodbyes).toBe(1);
});

describe('a pool of connections', () => {
  class FakeConnection implements PooledConnection {
    isBroken = false;
    ended = 0;
    destroyedBy: Error | undefined;
    async end(): Promise<void> {
      this.isBroken = true;
      this.ended++;
    }
    destroy(error: Error): void {
      this.isBroken = true;
      this.destroyedBy ??= error;
    }
  }
  const poolOf = (max: number) => {
    const made: FakeConnection[] = [];
    const pool = new Pool('the pool', max, async () => {
      made.push(new FakeConnection());
      return made.at(-1)!;
    });
    return { pool, made };
  };
  const gate = () => {
    let open = (): void => {};
    const passed = new Promise<void>((resolve) => {
      open = resolve;
    });
    return { open, passed };
  };

  test('opens no more than it may, and gives them to the calls in turn', async () => {
    const { pool, made } = poolOf(2);
    const { open, passed } = gate();
    const order: number[] = [];
    const calls = [1, 2, 3, 4, 5].map((number) =>
      pool.use(async () => {
        await passed;
        order.push(number);
      }),
    );
    open();
    await Promise.all(calls);
    expect(order).toEqual([1, 2, 3, 4, 5]);
    expect(made).toHaveLength(2);
  });

  test('never uses a connection again whose job failed, or that the other side has ended', async () => {
    const { pool, made } = poolOf(1);
    const failure = new Error('failed');
    await expect(pool.use(() => Promise.reject(failure))).rejects.toBe(failure);
    expect(made[0]!.destroyedBy).toBe(failure);
    await pool.use(async () => {});
    made[1]!.isBroken = true;
    await pool.use(async (connection) => expect(connection).toBe(made[2]));
    expect(made).toHaveLength(3);
  });

  test('lets the next call try where an opening fails', async () => {
    let isDown = true;
    const pool = new Pool('the pool', 1, async () => {
      if (isDown) throw new Error('down');
      return new FakeConnection();
    });
    const calls = [1, 2, 3].map(() => pool.use(async () => 'done'));
    isDown = true;
    const settled = await Promise.allSettled(calls);
    expect(settled.map(({ status }) => status)).toEqual(['rejected', 'rejected', 'rejected']);
    isDown = false;
    expect(await pool.use(async () => 'done')).toBe('done');
  });

  test('closes: idle ones end, busy ones break, waiting and later calls are refused', async () => {
    const { pool, made } = poolOf(2);
    await Promise.all([pool.use(async () => {}), pool.use(async () => {})]);
    const { passed } = gate();
    const busy = pool.use(() =>
      Promise.race([passed, new Promise((_, reject) => setTimeout(reject, 20, new Error('cut')))]),
    );
    const [alsoBusy, waiting] = [pool.use(() => Promise.reject(new Error('cut'))), pool.use(async () => {})];
    const refused = withCode('ERR_CLOSED', /the pool is closed/);
    const settled = Promise.allSettled([busy, alsoBusy, waiting]);
    await Promise.all([pool.close(), pool.close()]);
    for (const result of await settled) expect(result).toMatchObject({ status: 'rejected', reason: refused });
    await expect(pool.use(async () => {})).rejects.toThrow(refused);
    expect(made.every(({ isBroken }) => isBroken)).toBe(true);
  });

  test('refuses calls when too many wait', async () => {
    const { pool } = poolOf(1);
    const { open, passed } = gate();
    const calls = Array.from({ length: 4097 }, () => pool.use(() => passed));
    await expect(pool.use(() => passed)).rejects.toThrow(withCode('ERR_QUEUE_FULL', /4096 calls wait/));
    open();
    await Promise.all(calls);
  });

  test('closed while it opens a connection, lets that go', async () => {
    const { open, passed } = gate();
    const made = new FakeConnection();
    const pool = new Pool('the pool', 1, async () => {
      await passed;
      return made;
    });
    const call = pool.use(async () => {});
    const settled = call.catch((error: unknown) => error);
    await pool.close();
    open();
    expect(await settled).toMatchObject({ code: 'ERR_CLOSED' });
    expect(made.isBroken).toBe(true);
  });
});
