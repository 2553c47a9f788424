// Write-back of whole caches to PostgreSQL, on a real server of the test's own.

import { readdirSync } from 'node:fs';
import { beforeEach, expect, test } from 'vitest';
import { handleOf } from '../../src/cache.ts';
import { deadLettersCommand } from '../../src/cli/dead-letters.ts';
import { Cache, type CacheOptions, serve, type WriteBackNotice } from '../../src/index.ts';
import { WriteBackKeeper } from '../../src/write-back/index.ts';
import { laneOf } from '../../src/write-back/share.ts';
import { DataDirectories } from '../support/data-directories.ts';
import { postgresOfTests } from '../support/databases-of-tests.ts';
import { withCode } from '../support/errors.ts';
import { MemcachedSocket } from '../support/memcached-socket.ts';
import { PASSWORD, POSTGRES_MISSING, postgresPrograms } from '../support/postgres.ts';
import { startCli } from '../support/serve-process.ts';
import { skipUnless } from '../support/skip.ts';
import { until } from '../support/threads.ts';

const directories = new DataDirectories('write-back-pg');

skipUnless(postgresPrograms, POSTGRES_MISSING).describe('with PostgreSQL', () => {
  const server = postgresOfTests();
  let data: string;
  beforeEach(async () => {
    data = directories.fresh();
    await server.reset();
  });

  const open = (options: CacheOptions = {}): Promise<Cache> =>
    directories.open(data, { store: server.url(), writeBack: { delay: 5 }, ...options });

  function noticesOf(cache: Cache): WriteBackNotice[] {
    const notices: WriteBackNotice[] = [];
    cache.on('write-back', (notice) => notices.push(notice));
    return notices;
  }

  test('rows have the bytes that the port serves, codec, client flags, expiry and version', async () => {
    const cache = await open();
    cache.set('text', 'grüße');
    cache.set('number', 42);
    cache.set('object', { a: [1, 2] });
    cache.set('expires', 'soon', { ttl: '1h' });
    cache.set('gone', 'x');
    cache.delete('gone');
    await cache.drain();
    expect(await server.entries()).toMatchObject({
      text: Buffer.from('grüße').toString('latin1'),
      number: '42',
      object: '{"a":[1,2]}',
      expires: 'soon',
    });
    expect(await server.entries()).not.toHaveProperty('gone');
    const [row] = await server.query("SELECT expires_ms, version FROM cairn_entries WHERE key = 'expires'");
    expect(Math.abs(Number(row!['expires_ms']) - Date.now() - 3_600_000)).toBeLessThan(60_000);
    expect(BigInt(String(row!['version']))).toBe(cache.info('expires')!.cas);
  });

  test('of four lanes, one whose row is locked holds up no other, and an atomic batch waits for it as a whole', async () => {
    const cache = await open({ shards: 4, maxMemory: '64mb', writeBack: { delay: 5, lanes: 4, ackTimeout: 500 } });
    expect(cache.stats().writeBack).toMatchObject({ lanes: 4 });
    const keys = Array.from({ length: 40 }, (_, i) => `key-${i}`);
    for (const key of keys) cache.set(key, 'old');
    await cache.drain();
    const cursors = await server.query('SELECT lane, lane_count FROM cairn_cursors ORDER BY lane');
    expect(cursors).toEqual([0, 1, 2, 3].map((lane) => ({ lane, lane_count: 4 })));
    const locked = keys.find((key) => laneOf(Buffer.from(key), 4) === 2)!;
    const [held, free] = [true, false].map((isHeld) =>
      keys.filter((key) => (laneOf(Buffer.from(key), 4) === 2) === isHeld),
    ) as [string[], string[]];
    const holder = await server.connect();
    try {
      await holder.query(`BEGIN; SELECT FROM cairn_entries WHERE key = '${locked}' FOR UPDATE`);
      cache.set(locked, 'new');
      for (const key of free) cache.set(key, 'new');
      let stored = await server.entries();
      while (free.some((key) => stored[key] !== 'new')) stored = await server.entries();
      expect(stored[locked]).toBe('old');
      const batch = cache.batch();
      for (const key of [free[0]!, held[1]!]) batch.set(key, 'batch');
      batch.commit();
      for (const key of free.slice(1)) cache.set(key, 'newer');
      cache.set(held[1]!, 'last');
      // Its callers do not wait without a limit because other lanes go on.
      const going = free.find((key) => laneOf(Buffer.from(key), 4) !== laneOf(Buffer.from(free[0]!), 4))!;
      const caller = cache.promises.set(locked, 'newest', { ack: 'stored' }).catch(({ code }) => code);
      let outcome: unknown;
      void caller.then((code) => {
        outcome = code;
      });
      for (let i = 0; outcome === undefined; i++) {
        cache.set(going, i);
        await new Promise((resolve) => setTimeout(resolve, 5));
      }
      expect(outcome).toBe('ERR_TIMEOUT');
      cache.set(going, 'newer');
      await until(() => cache.stats().writeBack!.owedRecords > 0);
      expect((await server.entries())[free[0]!]).toBe('new');
    } finally {
      await holder.query('COMMIT');
      await holder.end();
    }
    await cache.drain();
    expect(await server.entries()).toMatchObject({
      [locked]: 'newest',
      [free[0]!]: 'batch',
      [held[1]!]: 'last',
      [free[1]!]: 'newer',
    });
    await cache.close();
    const one = await open();
    expect(await server.query('SELECT lane, lane_count FROM cairn_cursors')).toEqual([{ lane: 0, lane_count: 1 }]);
    one.set(locked, 'of one lane');
    await one.drain();
    expect((await server.entries())[locked]).toBe('of one lane');
  });

  test('rules lead objects to the rows of a table of the user, and refuse rules without it while it lacks some', async () => {
    await server.query('CREATE TABLE users (id integer PRIMARY KEY, name text, seen timestamptz)');
    const ruled: CacheOptions = {
      mode: 'write-back',
      rules: [
        { prefix: 'user:', table: 'users', key: 'id', value: { columns: ['name'] }, expiresAt: 'seen' },
        { prefix: 'user:draft:', skip: true },
      ],
    };
    const cache = await open(ruled);
    const notices = noticesOf(cache);
    const [address] = (await serve(cache, { port: 0 })).addresses;
    const socket = await MemcachedSocket.open((address as { port: number }).port);
    cache.set('user:1', { name: 'Ada' });
    await socket.ask('set user:2 0 0 14\r\n{"name":"Bob"}\r\n', 'STORED\r\n');
    cache.set('user:3', 'no object');
    cache.set('user:draft:4', { any: 'thing' });
    cache.set('plain', 'x');
    await cache.drain();
    expect(await server.query('SELECT id, name FROM users ORDER BY id')).toEqual([
      { id: 1, name: 'Ada' },
      { id: 2, name: 'Bob' },
    ]);
    expect(await server.entries()).toEqual({ plain: 'x' });
    await until(() => notices.length > 0);
    expect(notices).toMatchObject([{ kind: 'dead-letter', key: 'user:3', change: 'set' }]);
    await cache.writeBack.pause();
    cache.delete('user:1');
    await cache.destroy();
    await expect(open()).rejects.toThrow(withCode('ERR_STORE_REFUSED', /the rule for the prefix "user:"/));
    const elsewhere = { ...ruled.rules![0]!, table: 'others' };
    await expect(open({ ...ruled, rules: [elsewhere, ruled.rules![1]!] })).rejects.toThrow(
      withCode('ERR_STORE_REFUSED'),
    );
    const again = await open(ruled);
    await again.drain();
    expect(await server.query('SELECT id FROM users')).toEqual([{ id: 2 }]);
    await again.close();
    await server.query('ALTER TABLE users DROP COLUMN name');
    await expect(open(ruled)).rejects.toThrow(withCode('ERR_BACKEND_UNFIT', /users has no column name/));
  });

  test('a table of the user is read, and its rows do not change unless the cache is told to write', async () => {
    await server.query(`CREATE TABLE users (tenant text, id integer, name text, PRIMARY KEY (tenant, id));
      INSERT INTO users VALUES ('acme', 1, 'Ada'), ('acme', 2, NULL)`);
    const rules = [{ prefix: 'user:', table: 'users', key: ['tenant', 'id'] }];
    const cache = await Cache.open({ store: server.url(), rules });
    try {
      expect(cache.options.mode).toBe('read-through');
      const found = await cache.promises.getMany(['user:acme:1', 'user:acme:2', 'user:acme:3', 'user:acme:x', 'other']);
      expect(found).toEqual([
        { tenant: 'acme', id: 1, name: 'Ada' },
        { tenant: 'acme', id: 2, name: null },
        ...[undefined, undefined, undefined],
      ]);
      const [address] = (await serve(cache, { port: 0 })).addresses;
      const socket = await MemcachedSocket.open((address as { port: number }).port);
      const line = 'VALUE user:acme:1 0 37\r\n{"tenant":"acme","id":1,"name":"Ada"}\r\nEND\r\n';
      expect(await socket.ask('get user:acme:1\r\n', 'END\r\n')).toBe(line);
      cache.set('user:acme:1', { name: 'own' });
      cache.delete('user:acme:2');
    } finally {
      await cache.close();
    }
    expect(await server.query('SELECT * FROM users ORDER BY id')).toEqual([
      { tenant: 'acme', id: 1, name: 'Ada' },
      { tenant: 'acme', id: 2, name: null },
    ]);
  });

  test('expired rows are removed when the database has everything, and others stay', async () => {
    const first = await open({ writeBack: { sweepRows: 0 } });
    expect(first.options.writeBack).toMatchObject({ sweepRows: 0 });
    first.set('lives', 'x', { ttl: '1h' });
    first.set('forever', 'x');
    await first.close();
    await server.query(`INSERT INTO cairn_entries (key, value, codec, client_flags, expires_ms, version)
      SELECT convert_to('gone:' || i, 'UTF8'), 'x', 1, 0, 1 + i, 1 FROM generate_series(1, 500) AS i`);
    const cache = await open();
    await until(() => cache.stats().writeBack?.sweptRows === 500);
    expect(Object.keys(await server.entries()).sort()).toEqual(['forever', 'lives']);
    expect(cache.stats().writeBack).toMatchObject({ state: 'writing', sweepsFailed: 0 });
  });

  test('every write of a rule without coalescing is a row of history, exactly once, whatever fails', async () => {
    const ruled: CacheOptions = { rules: [{ prefix: 'n:', coalesce: false }] };
    let cache = await open(ruled);
    const expected: string[] = [];
    for (let round = 0; round < 5; round++) {
      for (let i = 0; i < 200; i++) {
        cache.set(`n:${i % 3}`, i);
        expected.push(`set n:${i % 3} ${i}`);
        cache.set('other', i);
      }
      cache.touch('n:1', '1h');
      cache.delete('n:2');
      expected.push('touch n:1 ', 'delete n:2 ');
      // The database, the thread that writes, or the whole cache ends with batches on their way.
      if (round % 3 === 0) {
        await server.crash();
        await server.run();
      } else if (round % 3 === 1) {
        const { thread } = WriteBackKeeper.of(handleOf(cache as Cache<never>).cacheId)!;
        await thread?.terminate();
      } else {
        await cache.destroy();
        cache = await open(ruled);
      }
    }
    await cache.drain();
    const found =
      await server.query(`SELECT kind, encode(key, 'escape') AS key, coalesce(encode(value, 'escape'), '') AS value,
        version, codec, logged_at > now() - interval '1 hour' AS recent FROM cairn_history`);
    expect(found.map(({ kind, key, value }) => `${kind} ${key} ${value}`).sort()).toEqual(expected.sort());
    expect(found.every(({ recent }) => recent === true)).toBe(true);
    expect(new Set(found.map(({ key, version }) => `${key} ${version}`)).size).toBe(found.length);
    expect(await server.entries()).toEqual({ 'n:0': '198', 'n:1': '199', other: '199' });
    await cache.close();
    const last = await server.query("SELECT value FROM cairn_history WHERE key = 'n:0' ORDER BY version DESC LIMIT 1");
    expect(String(last[0]!['value'])).toBe('198');
  });

  test('a rule whose history lacks writes cannot go, and a new one begins with the next write', async () => {
    const cache = await open({ rules: [{ prefix: 'n:', coalesce: false }] });
    await cache.writeBack.pause();
    cache.set('n:1', 1);
    await cache.destroy();
    await expect(open({ rules: [{ prefix: 'n:' }] })).rejects.toThrow(withCode('ERR_STORE_REFUSED', /prefix "n:"/));
    const same = await open({ rules: [{ prefix: 'n:', coalesce: false }] });
    await same.drain();
    expect(await server.query('SELECT kind FROM cairn_history')).toEqual([{ kind: 'set' }]);
    await same.close();
    await (await open({ rules: [{ prefix: 'n:' }] })).close();
  });

  test('a server that is down at start, and goes down under load, costs nothing', async () => {
    await server.crash();
    const cache = await open();
    expect(cache.stats().writeBack?.state).toBe('retrying');
    const notices = noticesOf(cache);
    for (let i = 0; i < 500; i++) cache.set(`key-${i}`, 'first');
    await server.run();
    await cache.drain();
    for (let round = 0; round < 3; round++) {
      for (let i = 0; i < 500; i++) cache.set(`key-${i}`, `${round}`);
      await server.crash();
      await server.run();
    }
    await cache.drain();
    expect(new Set(Object.values(await server.entries()))).toEqual(new Set(['2']));
    await until(() => notices.some(({ kind }) => kind === 'recovered'));
    expect(cache.stats().writeBack).toMatchObject({ state: 'writing', restarts: 0 });
  });

  test('a change that a constraint refuses becomes a dead letter, and the others are written', async () => {
    const cache = await open();
    await server.query("ALTER TABLE cairn_entries ADD CHECK (convert_from(value, 'UTF8') <> 'refused')");
    const notices = noticesOf(cache);
    for (let i = 0; i < 300; i++) cache.set(`key-${i}`, i === 123 ? 'refused' : 'fine');
    await cache.drain();
    const written = await server.entries();
    expect(Object.keys(written)).toHaveLength(299);
    await until(() => notices.length > 0);
    expect(notices).toMatchObject([{ kind: 'dead-letter', key: 'key-123', change: 'set', cause: { code: '23514' } }]);
    const [letter] = await cache.writeBack.deadLetters();
    expect(letter).toMatchObject({ errorCode: '23514', isSuperseded: false });
    expect(letter!.change).toMatchObject({ kind: 'set', key: Buffer.from('key-123'), value: Buffer.from('refused') });
    expect(await cache.writeBack.deadLetters({ after: letter!.id })).toEqual([]);
    const lines: string[] = [];
    const run = (...args: string[]) =>
      deadLettersCommand((line) => lines.push(line)).parseAsync([...args, '--store', server.url()], { from: 'user' });
    await run('list');
    expect(lines).toEqual([expect.stringMatching(/^\d+ .* set "key-123": .*\(23514\)$/), '1 dead letter']);
    cache.set('key-123', 'fine now');
    await cache.drain();
    expect((await server.entries())['key-123']).toBe('fine now');
    expect(await cache.writeBack.deadLetters()).toMatchObject([{ isSuperseded: true }]);
    await run('drop', String(letter!.id));
    expect(lines.at(-1)).toBe('Dropped 1 dead letter');
    expect(await cache.writeBack.dropDeadLetters([letter!.id])).toBe(0);
    await expect(cache.writeBack.dropDeadLetters([1] as never)).rejects.toEqual(
      withCode('ERR_INVALID_ARGUMENT', /ids/),
    );
    await expect(cache.writeBack.deadLetters({ limit: 0 })).rejects.toEqual(withCode('ERR_INVALID_ARGUMENT', /limit/));
  });

  test('at the level stored an answer is that of the row, also of one that is refused', async () => {
    const cache = await open({ ack: 'stored', writeBack: { delay: '10m' } });
    await server.query("ALTER TABLE cairn_entries ADD CHECK (convert_from(value, 'UTF8') <> 'refused')");
    expect(await cache.promises.set('a', '1')).toBe('stored');
    expect(await server.entries()).toEqual({ a: '1' });
    await expect(cache.promises.set('a', 'refused')).rejects.toEqual(withCode('ERR_DEAD_LETTER', /set "a".*check/));
    expect(cache.get('a')).toBe('refused');
    expect(await cache.promises.set('a', '2')).toBe('stored');
    expect(await server.entries()).toEqual({ a: '2' });
  });

  test('write-through keeps no dead letter, and the row is what reads get', async () => {
    const cache = await open({ mode: 'write-through', writeBack: {} });
    await server.query("ALTER TABLE cairn_entries ADD CHECK (convert_from(value, 'UTF8') <> 'refused')");
    await cache.promises.set('a', '1');
    await expect(cache.promises.set('a', 'refused')).rejects.toEqual(withCode('ERR_DEAD_LETTER'));
    expect(cache.get('a')).toBeUndefined();
    expect(await cache.promises.get('a')).toBe('1');
    expect(await cache.writeBack.deadLetters()).toEqual([]);
    expect(cache.stats().writeBack).toMatchObject({ deadLetters: 1 });
  });

  test('a table that is taken away halts it; nothing is lost when it is there again', async () => {
    const cache = await open();
    const notices = noticesOf(cache);
    cache.set('a', '1');
    await cache.drain();
    await server.query('ALTER TABLE cairn_entries RENAME TO elsewhere');
    cache.set('b', '1');
    await until(() => notices.some(({ kind }) => kind === 'halted'));
    expect(cache.stats().writeBack?.state).toBe('halted');
    await server.query('ALTER TABLE elsewhere RENAME TO cairn_entries');
    await cache.close();
    const next = await open();
    await next.drain();
    expect(await server.entries()).toEqual({ a: '1', b: '1' });
  });

  // Copies of the tables with their rows as they are now; the answer puts them back in one transaction.
  async function backUp(): Promise<() => Promise<unknown>> {
    const tables = ['cairn_cursors', 'cairn_entries', 'cairn_dead_letters'];
    for (const table of tables) await server.query(`CREATE TABLE backup_${table} AS SELECT * FROM ${table}`);
    const back = tables.map(
      (table) => `DELETE FROM ${table}; INSERT INTO ${table} OVERRIDING SYSTEM VALUE SELECT * FROM backup_${table};`,
    );
    return () => server.query(`BEGIN; ${back.join(' ')} COMMIT`);
  }

  test('a database that goes back to a backup gets what it lacks from the log', async () => {
    const cache = await open();
    const notices = noticesOf(cache);
    cache.set('a', '1');
    cache.set('gone', '1');
    await cache.drain();
    const putBack = await backUp();
    cache.set('a', '2');
    cache.set('b', '2');
    cache.delete('gone');
    await cache.drain();
    await putBack();
    expect(await server.entries()).toEqual({ a: '1', gone: '1' });
    cache.set('c', '3');
    await cache.drain();
    expect(await server.entries()).toEqual({ a: '2', b: '2', c: '3' });
    expect(notices).toMatchObject([{ kind: 'healing' }, { kind: 'healed' }]);
    expect(cache.stats().writeBack).toMatchObject({ state: 'writing', healings: 1 });
    // Between two lives of the cache, too.
    await cache.close();
    await putBack();
    const next = await open();
    await next.drain();
    expect(await server.entries()).toEqual({ a: '2', b: '2', c: '3' });
  });

  test('a database that goes back further than the log is refused by name', async () => {
    const cache = await open({
      segmentSize: '1mb',
      writeBack: { delay: 5, retainBehind: 0 },
    });
    cache.set('a', '1');
    await cache.drain();
    const putBack = await backUp();
    for (let i = 0; i < 300; i++) await cache.promises.set('a', `${i}`.padEnd(10_000));
    await cache.drain();
    // Snapshots and the log's cursor let it go.
    while (readdirSync(data).includes('000000000001.log')) {
      cache.set('b', '1');
      await cache.drain();
      await cache.snapshot();
    }
    await putBack();
    cache.set('a', 'new');
    await expect(cache.drain()).rejects.toEqual(withCode('ERR_STORE_REFUSED', /has gone back .* is kept from \d+ on/));
    expect(cache.get('a')).toBe('new');
    expect(await server.entries()).toEqual({ a: '1' });
    expect(cache.stats().writeBack?.state).toBe('refused');
  });

  test('a new log takes the database over, and the cache that has written to it is refused', async () => {
    const old = await open();
    old.set('a', '1');
    old.set('b', '1');
    await old.drain();
    const cache = await directories.open(directories.fresh(), { store: server.url(), recover: 'store' });
    expect([cache.get('a'), cache.get('b')]).toEqual(['1', '1']);
    old.set('a', 'old');
    await expect(old.drain()).rejects.toEqual(withCode('ERR_STORE_REFUSED', /belongs to another log/));
    cache.set('b', '2');
    await cache.drain();
    expect(await server.entries()).toEqual({ a: '1', b: '2' });
  });

  test('a table that does not fit keeps the cache from opening, and leaves the directory usable', async () => {
    await server.query('CREATE TABLE cairn_entries (key text PRIMARY KEY)');
    await expect(open()).rejects.toEqual(withCode('ERR_BACKEND_UNFIT'));
    await server.query('DROP TABLE cairn_entries');
    const cache = await open();
    cache.set('a', '1');
    await cache.drain();
    expect(await server.entries()).toEqual({ a: '1' });
  });

  test('the password is in no option, message or output', async () => {
    const cache = await open();
    expect(cache.options.store).toMatch(/^postgresql:\/\/.*\/postgres$/);
    const shown = JSON.stringify([cache.options, cache.stats()]);
    await cache.close();
    const serving = startCli(['serve', '-p', '-1', '--data', data, '--store', server.url()]);
    await serving.printed('Listening on');
    await server.query('ALTER TABLE cairn_cursors RENAME TO elsewhere');
    await serving.stop();
    const printed = serving.stdout + serving.stderr;
    expect(printed).toContain('Writing to postgresql://');
    for (const text of [shown, printed]) {
      for (const secret of [PASSWORD, encodeURIComponent(PASSWORD)]) expect(text).not.toContain(secret);
    }
  });
});
