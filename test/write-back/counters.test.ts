// Counters of whole caches in PostgreSQL, with another program that adds to the same rows.

import { beforeEach, describe, expect, test } from 'vitest';
import { type Cache, type CacheOptions, serve } from '../../src/index.ts';
import { DataDirectories } from '../support/data-directories.ts';
import { postgresOfTests } from '../support/databases-of-tests.ts';
import { MemcachedSocket } from '../support/memcached-socket.ts';
import { POSTGRES_MISSING, postgresPrograms } from '../support/postgres.ts';
import { skipUnless } from '../support/skip.ts';
import { until } from '../support/threads.ts';

const directories = new DataDirectories('write-back-counters');
const MOST = 2n ** 64n - 1n;

skipUnless(postgresPrograms, POSTGRES_MISSING).describe('with PostgreSQL', () => {
  const server = postgresOfTests();
  let data: string;
  beforeEach(async () => {
    data = directories.fresh();
    await server.reset();
  });

  const rules = [{ prefix: 'n:', counter: true }];
  const open = (options: CacheOptions = {}): Promise<Cache> =>
    directories.open(data, { store: server.url(), writeBack: { delay: 5 }, rules, ...options });

  /** Another program adds to counters. */
  const addInSql = (number: number): Promise<unknown> =>
    server.query(`UPDATE cairn_entries SET value = convert_to((encode(value, 'escape')::numeric + ${number})::text, 'UTF8')
      WHERE encode(key, 'escape') ~ '^[nm]:'`);

  type Step = (cache: Cache) => unknown;
  /** Steps one after the other, `drain` with the other program's 1000 behind it, and what row and cache have then. */
  const drain: Step = async (cache) => {
    await cache.drain();
    await addInSql(1000);
  };
  const cells: [string, Step[], string | undefined, unknown][] = [
    ['incr adds', [(c) => c.set('n:a', 5), drain, (c) => c.incr('n:a', 3), (c) => c.incr('n:a')], '1009', 9],
    ['decr takes away', [(c) => c.set('n:a', 5), drain, (c) => c.decr('n:a', 3)], '1002', 2],
    ['decr at 0 takes away what was there', [(c) => c.set('n:a', 5), drain, (c) => c.decr('n:a', 300)], '1000', 0],
    ['decr of 0 takes nothing away', [(c) => c.set('n:a', 0), drain, (c) => c.decr('n:a', 3)], '1000', 0],
    ['incr goes round', [(c) => c.set('n:a', MOST - 1000n), drain, (c) => c.incr('n:a', 1003)], '1002', 2n],
    [
      'a large incr goes as it is',
      [(c) => c.set('n:a', 5n), drain, (c) => c.incr('n:a', 2n ** 63n)],
      `${2n ** 63n + 1005n}`,
      2n ** 63n + 5n,
    ],
    [
      'initial is a set',
      [(c) => c.promises.incr('n:a', 3, { initial: 7 }), drain, (c) => c.incr('n:a', 3)],
      '1010',
      10,
    ],
    ['set replaces', [(c) => c.set('n:a', 5), drain, (c) => c.incr('n:a'), (c) => c.set('n:a', 2)], '2', 2],
    [
      'set and incr are a set of the result',
      [(c) => c.set('n:a', 5), drain, (c) => c.set('n:a', 2), (c) => c.incr('n:a')],
      '3',
      3,
    ],
    [
      'delete deletes',
      [(c) => c.set('n:a', 5), drain, (c) => c.incr('n:a'), (c) => c.delete('n:a')],
      undefined,
      undefined,
    ],
    [
      'delete, then incr with initial, is a set',
      [
        (c) => c.set('n:a', 5),
        drain,
        (c) => c.delete('n:a'),
        (c) => c.incr('n:a', 1, { initial: 7 }),
        (c) => c.incr('n:a'),
      ],
      '8',
      8,
    ],
    [
      'of one that has expired, incr with initial is a set',
      [
        (c) => c.set('n:a', 5, { ttl: 1 }),
        drain,
        (c) => until(() => !c.has('n:a')),
        (c) => c.promises.incr('n:a', 1, { initial: 7 }),
        (c) => c.incr('n:a', 2),
      ],
      '9',
      9,
    ],
    [
      'append is a set',
      [(c) => c.set('n:a', '5'), drain, (c) => c.incr('n:a'), (c) => c.append('n:a', '0')],
      '60',
      '60',
    ],
    [
      'cas is a set',
      [(c) => c.set('n:a', 5), drain, (c) => c.incr('n:a'), (c) => c.cas('n:a', 1, c.getWithCas('n:a')!.cas)],
      '1',
      1,
    ],
    [
      'of a row that another program has deleted, the result is the row',
      [
        (c) => c.set('n:a', 5),
        (c) => c.drain(),
        () => server.query('DELETE FROM cairn_entries'),
        (c) => c.incr('n:a', 3),
      ],
      '8',
      8,
    ],
    ['of another prefix, it is a set', [(c) => c.set('m:a', 5), drain, (c) => c.incr('m:a', 3)], '8', 8],
  ];
  test.each(cells)('%s', async (_, steps, row, value) => {
    const cache = await open();
    for (const step of steps) await step(cache);
    await cache.drain();
    const [key] = Object.keys(await server.entries());
    expect(Object.values(await server.entries())[0]).toBe(row);
    expect(cache.get(key ?? 'n:a')).toEqual(value);
    // What others have added is seen when the row is loaded.
    cache.evict('n:a');
    const loaded = await cache.promises.get('n:a');
    if (key === 'n:a') expect(String(loaded)).toBe(row);
    else expect(loaded).toBe(undefined);
  });

  test('incr and decr of the port add, and a touch lengthens the row that they add to', async () => {
    const cache = await open();
    const [address] = (await serve(cache, { port: 0 })).addresses;
    const socket = await MemcachedSocket.open((address as { port: number }).port);
    await socket.ask('set n:a 7 0 3\r\n100\r\n', 'STORED\r\n');
    await drain(cache);
    await socket.ask('decr n:a 5\r\n', '95\r\n');
    await socket.ask('incr n:a 2\r\n', '97\r\n');
    await socket.ask('touch n:a 3600\r\n', 'TOUCHED\r\n');
    await socket.ask('decr n:a 90\r\n', '7\r\n');
    await cache.drain();
    expect(await server.entries()).toEqual({ 'n:a': '1007' });
    const [row] = await server.query('SELECT client_flags, expires_ms FROM cairn_entries');
    expect(Number(row!['client_flags'])).toBe(7);
    expect(Math.abs(Number(row!['expires_ms']) - Date.now() - 3_600_000)).toBeLessThan(600_000);
  });

  test('a value that left memory before its additions were written is answered with what the cache knew', async () => {
    const cache = await open();
    cache.set('n:a', 5);
    await drain(cache);
    await cache.writeBack.pause();
    cache.incr('n:a', 3);
    cache.evict('n:a');
    expect(await cache.promises.get('n:a')).toBe(8);
    await cache.writeBack.resume();
    await cache.drain();
    expect(cache.get('n:a')).toBe(8);
    cache.evict('n:a');
    expect(await cache.promises.get('n:a')).toBe(1008);
    expect(await cache.promises.incr('n:a')).toBe(1009);
    await cache.drain();
    expect(await server.entries()).toEqual({ 'n:a': '1009' });
  });

  test('a clear takes no addition away, and what is stored again from the log adds nothing', async () => {
    const cache = await open({ rules: [...rules, { prefix: 'h:', coalesce: false }] });
    cache.set('n:a', 5);
    cache.set('h:a', 'x');
    await drain(cache);
    await cache.writeBack.pause();
    cache.incr('n:a', 3);
    cache.set('h:a', 'y');
    cache.clear();
    expect(await cache.promises.get('n:a')).toBe(8);
    expect(await cache.promises.get('h:a')).toBe('y');
    cache.incr('n:a', 2);
    await cache.writeBack.resume();
    await cache.drain();
    expect(await server.entries()).toEqual({ 'n:a': '1010', 'h:a': 'y' });
    const history = await server.query("SELECT encode(value, 'escape') AS value FROM cairn_history ORDER BY version");
    expect(history).toEqual([{ value: 'x' }, { value: 'y' }]);
  });

  test('additions that a cache leaves are added when it is opened again, once, also behind a snapshot', async () => {
    let cache = await open();
    for (let i = 0; i < 20; i++) cache.set(`n:${i}`, i);
    await drain(cache);
    for (let round = 0; round < 4; round++) {
      await cache.writeBack.pause();
      for (let i = 0; i < 20; i++) cache.incr(`n:${i}`, 10);
      if (round % 2 === 1) await cache.snapshot();
      for (let i = 0; i < 20; i++) cache.decr(`n:${i}`, 1);
      await cache.destroy();
      cache = await open();
      expect(cache.get('n:7')).toBe(7 + 9 * (round + 1));
      await cache.drain();
    }
    expect(await server.entries()).toEqual(
      Object.fromEntries(Array.from({ length: 20 }, (_, i) => [`n:${i}`, `${1036 + i}`])),
    );
  });

  test('a database that goes back gets what it lacks added, and keeps what others have added since', async () => {
    const cache = await open();
    const notices: string[] = [];
    cache.on('write-back', ({ kind }) => notices.push(kind));
    cache.set('n:a', 5);
    await drain(cache);
    cache.incr('n:a', 3);
    await cache.drain();
    await server.query(`CREATE TABLE past_entries AS SELECT * FROM cairn_entries;
      CREATE TABLE past_cursors AS SELECT * FROM cairn_cursors`);
    for (let i = 0; i < 10; i++) {
      cache.incr('n:a', 10);
      await cache.promises.incr('n:b', 1, { initial: 50 });
      await cache.drain();
    }
    expect(await server.entries()).toEqual({ 'n:a': '1108', 'n:b': '59' });
    await addInSql(500);
    await server.query(`BEGIN; DELETE FROM cairn_entries; INSERT INTO cairn_entries SELECT * FROM past_entries;
      DELETE FROM cairn_cursors; INSERT INTO cairn_cursors SELECT * FROM past_cursors; COMMIT`);
    await addInSql(20_000);
    cache.incr('n:a');
    await cache.drain();
    await until(() => notices.includes('healed'));
    expect(await server.entries()).toEqual({ 'n:a': '21109', 'n:b': '59' });
  });

  describe('a row that holds no number', () => {
    test('makes dead letters, which loads answer with, until the key is set', async () => {
      const cache = await open();
      const notices: unknown[] = [];
      cache.on('write-back', (notice) => notices.push(notice));
      cache.set('n:a', 5);
      cache.set('n:b', 5);
      await cache.drain();
      await server.query("UPDATE cairn_entries SET value = 'x' WHERE key = 'n:a'");
      cache.incr('n:a', 3);
      cache.incr('n:b', 3);
      await cache.drain();
      expect(await server.entries()).toEqual({ 'n:a': 'x', 'n:b': '8' });
      await until(() => notices.length > 0);
      expect(notices).toMatchObject([{ kind: 'dead-letter', key: 'n:a', change: 'add' }]);
      const [letter] = await cache.writeBack.deadLetters();
      expect(letter!.change).toMatchObject({ kind: 'add', delta: 3n, value: Buffer.from('8') });
      cache.incr('n:a', 4);
      await cache.drain();
      cache.evict('n:a');
      expect(await cache.promises.get('n:a')).toBe(12);
      // A number again: the dead letters are as if they were added to it.
      await server.query("UPDATE cairn_entries SET value = '100' WHERE key = 'n:a'");
      cache.evict('n:a');
      expect(await cache.promises.get('n:a')).toBe(107);
      cache.set('n:a', 1);
      await cache.drain();
      expect(await server.entries()).toEqual({ 'n:a': '1', 'n:b': '8' });
      expect((await cache.writeBack.deadLetters()).every(({ isSuperseded }) => isSuperseded)).toBe(true);
    });

    test('makes the caller fail that waits for the database', async () => {
      const cache = await open();
      cache.set('n:a', 5);
      await cache.drain();
      await server.query("UPDATE cairn_entries SET value = 'x' WHERE key = 'n:a'");
      await expect(cache.promises.incr('n:a', 3, { ack: 'stored' })).rejects.toMatchObject({ code: 'ERR_DEAD_LETTER' });
      await server.query("UPDATE cairn_entries SET value = '7' WHERE key = 'n:a'");
      expect(await cache.promises.incr('n:a', 3, { ack: 'stored' })).toBe(11);
      expect(await server.entries()).toEqual({ 'n:a': '10' });
    });
  });

  test('an atomic batch may set counters, and additions behind it are in its rows', async () => {
    const cache = await open();
    cache.set('n:a', 5);
    await drain(cache);
    await cache.writeBack.pause();
    cache.incr('n:a');
    cache.batch().set('n:a', 100).set('n:b', 200).commit();
    cache.incr('n:a', 3);
    cache.decr('n:b', 3);
    await cache.writeBack.resume();
    await cache.drain();
    expect(await server.entries()).toEqual({ 'n:a': '103', 'n:b': '197' });
    await addInSql(1000);
    cache.incr('n:a');
    await cache.drain();
    expect(await server.entries()).toEqual({ 'n:a': '1104', 'n:b': '1197' });
  });

  test('a column of a table of the user is counted in by several programs', async () => {
    await server.query(
      'CREATE TABLE pages (id integer PRIMARY KEY, views bigint NOT NULL DEFAULT 0); INSERT INTO pages VALUES (7, 100)',
    );
    const own = { prefix: 'views:', table: 'pages', key: 'id', value: { column: 'views' }, counter: true };
    const cache = await open({ mode: 'write-back', rules: [own] });
    expect(await cache.promises.incr('views:7')).toBe(101);
    await server.query('UPDATE pages SET views = views + 1000');
    for (let i = 0; i < 50; i++) await cache.promises.incr('views:7');
    await cache.promises.incr('views:8', 1, { initial: 1 });
    await cache.drain();
    expect(await server.query('SELECT id, views::int FROM pages ORDER BY id')).toEqual([
      { id: 7, views: 1151 },
      { id: 8, views: 1 },
    ]);
  });
});
