// Several databases behind one cache: LMDB for the default keys, SQLite for sessions. Each key reaches its own only,
// and a database that is down holds up its own keys only.

import { spawnSync } from 'node:child_process';
import { cpSync, mkdirSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { beforeEach, describe, expect, test } from 'vitest';
import { type Backend, makeBackend } from '../../src/backend/index.ts';
import { Cache, type CacheOptions, serve, type WriteBackNotice } from '../../src/index.ts';
import { EmbeddedLog } from '../../src/log/index.ts';
import { lockByAddon } from '../../src/native/directory-lock.ts';
import { rebuildDirectory } from '../../src/write-back/index.ts';
import { DataDirectories, patiently } from '../support/data-directories.ts';
import { postgresOfTests } from '../support/databases-of-tests.ts';
import { withCode } from '../support/errors.ts';
import { MemcachedSocket } from '../support/memcached-socket.ts';
import { PlainStore, plainBackend } from '../support/plain-backend.ts';
import { POSTGRES_MISSING, postgresPrograms } from '../support/postgres.ts';
import { startCli, startServe } from '../support/serve-process.ts';
import { skipUnless } from '../support/skip.ts';
import { hasSqlite, SqliteFile } from '../support/sqlite-file.ts';
import { startThread, until } from '../support/threads.ts';

const directories = new DataDirectories('several-stores');
const UNBUILT = 'there is no package for SQLite (npm rebuild better-sqlite3)';
const SESSIONS = { prefix: 'session:', store: 'sessions' };
/** With changes that are not in the database when the cache is ended. */
const LATE: CacheOptions = { writeBack: { delay: '1h' } };

let data: string;
let orders: string;
let sessions: SqliteFile;
/** Of the database of sessions, where down() has made it. */
let isDown: boolean;

beforeEach(() => {
  data = directories.fresh();
  orders = `lmdb:${directories.fresh()}`;
  sessions = new SqliteFile(directories.fresh());
  isDown = false;
});

function options(given: CacheOptions = {}): CacheOptions {
  return { store: orders, stores: { sessions: sessions.url }, rules: [SESSIONS], writeBack: { delay: 5 }, ...given };
}

const open = (given: CacheOptions = {}): Promise<Cache> => directories.open(data, options(given));

/** The database of sessions, which takes no writes and answers no loads while `isDown`. */
async function switchable(): Promise<Backend> {
  const backend = await makeBackend(sessions.url);
  const check = (): void => {
    if (isDown) throw new Error('it is down');
  };
  return new Proxy(backend, {
    get(target, name) {
      const value: unknown = Reflect.get(target, name, target);
      if (name === 'classify')
        return (error: Error) => (error.message === 'it is down' ? 'transient' : target.classify(error));
      if (typeof value !== 'function') return value;
      return async (...given: unknown[]) => {
        if (name === 'write' || name === 'load' || name === 'readCursors') check();
        return value.apply(target, given);
      };
    },
  });
}

/** Values by key. */
async function rowsOf(address: string): Promise<Record<string, string>> {
  const backend = await makeBackend(address);
  const found: Record<string, string> = {};
  await backend.open();
  for await (const { rows } of backend.scan()) for (const { key, value } of rows) found[String(key)] = String(value);
  await backend.close();
  return found;
}

function noticesOf(cache: Cache): WriteBackNotice[] {
  const notices: WriteBackNotice[] = [];
  cache.on('write-back', (notice) => notices.push(notice));
  return notices;
}

skipUnless(hasSqlite, UNBUILT).describe('two databases', () => {
  test('each key reaches its own database only, and is loaded from there', async () => {
    const cache = await open();
    cache.set('order:1', 'book');
    cache.set('session:1', 'ada');
    cache.set('session:2', 'bob');
    cache.delete('session:2');
    await cache.drain();
    expect(await rowsOf(orders)).toEqual({ 'order:1': 'book' });
    expect(await sessions.rows()).toEqual({ 'session:1': 'ada' });
    for (const key of ['order:1', 'session:1']) cache.evict(key);
    expect(cache.get('session:1')).toBeUndefined();
    expect(await cache.promises.getMany(['order:1', 'session:1', 'session:2', 'order:2'])).toEqual([
      'book',
      'ada',
      undefined,
      undefined,
    ]);
  });

  test('options, notices and statistics name the stores, without credentials', async () => {
    const cache = await open();
    expect(cache.options.stores).toEqual({ sessions: sessions.url });
    cache.set('order:1', 'book');
    cache.set('order:2', 'pen');
    cache.set('session:1', 'ada');
    await cache.drain();
    const { stores, ...all } = cache.stats().writeBack!;
    expect(Object.keys(stores!)).toEqual(['default', 'sessions']);
    expect(stores!['default']).toMatchObject({ state: 'writing', rows: 2 });
    expect(stores!['sessions']).toMatchObject({ state: 'writing', rows: 1 });
    expect(all).toMatchObject({ state: 'writing', rows: 3, records: 3, lanes: 2, behindBytes: 0 });
    const server = await serve(cache, { port: 0 });
    const [address] = server.addresses;
    const client = await MemcachedSocket.open((address as { port: number }).port);
    const text = await client.ask('stats cairn\r\n', 'END\r\n');
    await server.close();
    expect(text).toMatch(/STAT write_back_rows 2\r\n/);
    expect(text).toMatch(/STAT write_back:sessions:rows 1\r\n/);
  });

  test('a database that is down holds up its own keys only', async () => {
    const stores = { sessions: await switchable() };
    const cache = await open({ stores, writeBack: { delay: 5, ackTimeout: 500 }, loads: { timeout: 500 } });
    const notices = noticesOf(cache);
    await cache.drain();
    isDown = true;
    cache.set('session:1', 'ada');
    await expect(cache.promises.set('session:2', 'bob', { ack: 'stored' })).rejects.toEqual(withCode('ERR_TIMEOUT'));
    // Orders are written, waited for and loaded all the same.
    await cache.promises.set('order:1', 'book', { ack: 'stored' });
    await cache.drain({ keys: ['order:1'] });
    cache.evict('order:1');
    expect(await cache.promises.get('order:1')).toBe('book');
    await expect(cache.promises.get('session:9')).rejects.toEqual(withCode('ERR_NOT_RESIDENT'));
    await expect(cache.promises.set('session:3', 'eve', { ack: 'stored' })).rejects.toEqual(withCode('ERR_STORE_AWAY'));
    await cache.promises.setMany([['order:2', 'pen']], { ack: 'stored' });
    await until(() => cache.stats().writeBack!.stores!['sessions']!.state === 'retrying');
    expect(cache.stats().writeBack).toMatchObject({ state: 'retrying' });
    expect(cache.stats().writeBack!.stores!['default']).toMatchObject({ state: 'writing' });
    await until(() => notices.some(({ kind, store }) => kind === 'retrying' && store === 'sessions'));
    expect(notices.filter(({ store }) => store !== 'sessions')).toEqual([]);
    await expect(cache.drain({ timeout: 100 })).rejects.toEqual(withCode('ERR_TIMEOUT'));
    isDown = false;
    await cache.drain();
    expect(await sessions.rows()).toEqual({ 'session:1': 'ada', 'session:2': 'bob' });
    expect(await rowsOf(orders)).toEqual({ 'order:1': 'book', 'order:2': 'pen' });
  });

  test('a value that one database lacks comes from the log, however far the other is', async () => {
    const cache = await open({ shards: 1, stores: { sessions: await switchable() } });
    cache.set('session:1', 'old');
    await cache.drain();
    isDown = true;
    cache.set('session:1', 'new');
    cache.set('order:1', 'book');
    await cache.drain({ keys: ['order:1'] });
    for (const key of ['session:1', 'order:1']) cache.evict(key);
    expect(await cache.promises.get('session:1')).toBe('new');
    expect(await cache.promises.get('order:1')).toBe('book');
    isDown = false;
    await cache.drain();
    cache.evict('session:1');
    expect(await cache.promises.get('session:1')).toBe('new');
  });

  test('keys of the database that is up take no room for what the other lacks', async () => {
    const cache = await open({ shards: 1, maxMemory: '8mb', stores: { sessions: await switchable() } });
    await cache.drain();
    isDown = true;
    cache.set('session:1', 'ada');
    const value = 'v'.repeat(1000);
    for (let round = 0; round < 10; round++) {
      for (let i = 0; i < 2000; i++) await patiently(cache, () => cache.set(`order:${round}:${i}`, value));
      await cache.drain({ keys: [`order:${round}:1999`] });
    }
    await until(() => cache.stats().writeBack!.reservePressure <= 1);
    expect(await cache.promises.get('session:1')).toBe('ada');
  });

  test('a database that is down and lacks nothing presses too: its cursor holds the log', async () => {
    const stores = { sessions: await switchable() };
    const cache = await open({ stores, logLimit: '8mb', maxMemory: '32mb', shards: 1, sync: 'none' });
    const pressed: (string | undefined)[] = [];
    cache.on('write-back', (notice) => {
      if (notice.kind === 'pressure') pressed.push(notice.store);
    });
    await cache.drain();
    isDown = true;
    for (let i = 0; pressed.length === 0; i++) {
      // A log that is full without a notice before refuses it.
      cache.set(`order:${i % 50}`, 'x'.repeat(1000));
      if (i % 100 < 99) continue;
      await cache.drain({ keys: ['order:0'] });
      // Commands of the writers measure.
      await cache.writeBack.resume();
    }
    expect(pressed).toEqual(['sessions']);
    expect(cache.stats().writeBack!.stores!['sessions']).toMatchObject({ behindBytes: 0, state: 'retrying' });
    isDown = false;
    await until(() => pressed.length === 2);
    expect(cache.stats().writeBack!.stores!['sessions']!.logPressure).toBeLessThan(50);
  });

  test('the log keeps what a database lacks until its next opening', async () => {
    const first = await open({ stores: { sessions: await switchable() } });
    await first.drain();
    isDown = true;
    first.set('session:1', 'ada');
    first.set('order:1', 'book');
    await first.drain({ keys: ['order:1'] });
    await first.destroy();
    isDown = false;
    const second = await open();
    expect(second.get('session:1')).toBe('ada');
    await second.drain();
    expect(await sessions.rows()).toEqual({ 'session:1': 'ada' });
    await second.close();
    const third = await open();
    expect(third.recovery!.owed).toBe(0);
  });

  test('a database that nothing is written to leaves no log behind the others', async () => {
    const cache = await open();
    for (let i = 0; i < 100; i++) cache.set(`order:${i}`, 'v'.repeat(1000));
    await cache.drain();
    expect(cache.stats().writeBack!.stores!['sessions']).toMatchObject({ rows: 0, behindBytes: 0 });
    await cache.close();
    expect((await open()).recovery!.owed).toBe(0);
  });

  test('a process that is killed loses nothing of either', async () => {
    const program = (count: number): string => `
      import { Cache } from ${JSON.stringify(new URL('../../dist/index.js', import.meta.url).href)};
      const cache = await Cache.open(${JSON.stringify({ ...options(), data, sync: 'always' })});
      for (let i = 0; i < ${count}; i++) {
        await cache.promises.setMany([['order:' + i, 'o' + i], ['session:' + i, 's' + i]]);
      }
      process.kill(process.pid, 'SIGKILL');`;
    const { signal } = spawnSync(process.execPath, ['--input-type=module', '--eval', program(200)]);
    expect(signal).toBe('SIGKILL');
    const cache = await open();
    await cache.drain();
    const [left, right] = [await rowsOf(orders), await sessions.rows()];
    expect(Object.keys(left)).toHaveLength(200);
    expect(Object.keys(right)).toHaveLength(200);
    for (let i = 0; i < 200; i++) expect([left[`order:${i}`], right[`session:${i}`]]).toEqual([`o${i}`, `s${i}`]);
  });

  test('an atomic batch of keys of two databases is refused before anything is done', async () => {
    const cache = await open();
    await cache.drain();
    const batch = cache.batch().set('order:1', 'book').set('session:1', 'ada');
    const refusal = withCode('ERR_INVALID_ARGUMENT', /"session:1" of the store "sessions" beside keys of "default"/);
    expect(() => batch.commit()).toThrow(refusal);
    expect([cache.get('order:1'), cache.get('session:1')]).toEqual([undefined, undefined]);
    await expect(
      cache.promises.setMany(
        [
          ['order:1', 'book'],
          ['session:1', 'ada'],
        ],
        { atomic: true },
      ),
    ).rejects.toEqual(refusal);
    cache.batch().set('session:1', 'ada').set('session:2', 'bob').commit();
    cache.batch().set('order:1', 'book').set('order:2', 'pen').commit();
    await cache.drain();
    expect(Object.keys(await sessions.rows())).toEqual(['session:1', 'session:2']);
    expect(Object.keys(await rowsOf(orders))).toEqual(['order:1', 'order:2']);
  });

  test('keys that a rule skips may be in any atomic batch', async () => {
    const cache = await open({ rules: [SESSIONS, { prefix: 'tmp:', skip: true }] });
    await cache.drain();
    cache.batch().set('session:1', 'ada').set('tmp:1', 'x').commit();
    await cache.drain();
    expect(await sessions.rows()).toEqual({ 'session:1': 'ada' });
    expect(await rowsOf(orders)).toEqual({});
  });

  test('dead letters are those of one database', async () => {
    const other = new SqliteFile(directories.fresh());
    const cache = await open({ store: other.url });
    const notices = noticesOf(cache);
    await cache.drain();
    await sessions.refuse();
    cache.set('session:1', 'refused');
    cache.set('order:1', 'refused');
    await cache.drain();
    expect(await cache.writeBack.deadLetters()).toEqual([]);
    const [letter] = await cache.writeBack.deadLetters({ store: 'sessions' });
    expect(String(letter!.change.key)).toBe('session:1');
    expect(notices).toMatchObject([{ kind: 'dead-letter', key: 'session:1', store: 'sessions' }]);
    await sessions.allow();
    expect(await cache.writeBack.dropDeadLetters([letter!.id])).toBe(0);
    const retried = await cache.writeBack.retryDeadLetters('all', { store: 'sessions' });
    expect(retried).toMatchObject([{ id: letter!.id, outcome: 'retried' }]);
    expect(await sessions.rows()).toEqual({ 'session:1': 'refused' });
    await expect(cache.writeBack.deadLetters({ store: 'other' })).rejects.toEqual(
      withCode('ERR_INVALID_ARGUMENT', /'default' or 'sessions', got "other"/),
    );
  });

  test('in mode write-through, what one database refuses leaves the cache, also after a crash', async () => {
    const mode: CacheOptions = { mode: 'write-through', store: new SqliteFile(directories.fresh()).url };
    const first = await open(mode);
    await first.drain();
    await sessions.refuse();
    await first.promises.set('order:1', 'refused');
    await expect(first.promises.set('session:1', 'refused')).rejects.toEqual(withCode('ERR_DEAD_LETTER'));
    expect([first.get('order:1'), first.peek('session:1')]).toEqual(['refused', undefined]);
    expect(readdirSync(data).filter((name) => name.startsWith('store-refused'))).toEqual([
      'store-refused.sessions.jsonl',
    ]);
    await directories.crash(first);
    const second = await open(mode);
    await second.drain();
    expect(await second.promises.getMany(['order:1', 'session:1'])).toEqual(['refused', undefined]);
  });

  test('the command line has them from a file, names each, and retries the dead letters of one', async () => {
    mkdirSync(data, { recursive: true });
    const file = join(data, 'cairn.json');
    const store = new SqliteFile(directories.fresh()).url;
    writeFileSync(file, JSON.stringify({ ...options({ store }), data: join(data, 'log') }));
    const server = await startServe(['--config', file]);
    const client = await MemcachedSocket.open(server.port);
    expect(server.stdout).toContain(`Writing to ${store}\nWriting to ${sessions.url}\n`);
    await sessions.refuse();
    expect(await client.ask('set order:1 0 0 7\r\nrefused\r\n', '\r\n')).toBe('STORED\r\n');
    expect(await client.ask('set session:1 0 0 7\r\nrefused\r\n', '\r\n')).toBe('STORED\r\n');
    await server.printed('sessions: The database refuses the set of "session:1"');
    await server.stop();
    await sessions.allow();
    const retry = async (...args: string[]): Promise<string> => {
      const cli = startCli(['dead-letters', 'retry', '--config', file, ...args]);
      await cli.ended;
      return cli.stdout;
    };
    expect(await retry()).toBe('The database has the changes of 0 dead letters, of 0\n');
    expect(await retry('--name', 'sessions')).toMatch(
      /^1 +retried\nThe database has the changes of 1 dead letter, of 1\n$/,
    );
    expect(await sessions.rows()).toEqual({ 'session:1': 'refused' });
  });

  test('other threads reach the dead letters of each', async () => {
    const cache = await open({ name: 'several' });
    await cache.drain();
    await sessions.refuse();
    cache.set('session:1', 'refused');
    await cache.drain();
    const thread = startThread(async ({ cairn, data: name, say }) => {
      const attached = cairn.Cache.attach(name);
      const letters = await attached.writeBack.deadLetters({ store: 'sessions' });
      say([letters.length, await attached.writeBack.dropDeadLetters([letters[0]!.id], { store: 'sessions' })]);
      await attached.close();
    }, 'several');
    expect(await thread.next()).toEqual([1, 1]);
  });

  test('memory begins with the rows of all databases, and a new log takes over all of them', async () => {
    const first = await open();
    first.set('order:1', 'book');
    first.set('session:1', 'ada');
    await first.close();
    data = directories.fresh();
    const second = await open({ recover: 'store' });
    expect(second.recovery).toMatchObject({ from: 'store', records: 2 });
    expect([second.get('order:1'), second.get('session:1')]).toEqual(['book', 'ada']);
    second.set('session:1', 'eve');
    second.set('order:2', 'pen');
    await second.close();
    expect(await rowsOf(orders)).toEqual({ 'order:1': 'book', 'order:2': 'pen' });
    expect(await sessions.rows()).toEqual({ 'session:1': 'eve' });
    const third = await open();
    expect(third.get('session:1')).toBe('eve');
  });

  test('a warm-up has the rows of all databases', async () => {
    const first = await open();
    for (let i = 0; i < 10; i++) first.set(`order:${i}`, 'v');
    for (let i = 0; i < 5; i++) first.set(`session:${i}`, 'v');
    await first.close();
    const second = await open({ warmUp: true, recover: 'none' });
    await until(() => second.stats().warmUp!.state === 'done');
    expect(second.stats().warmUp).toMatchObject({ rows: 15 });
    expect([second.peek('order:3'), second.peek('session:3')]).toEqual(['v', 'v']);
  });

  test('misses are loaded from the database of their key without any write', async () => {
    const first = await open();
    first.set('order:1', 'book');
    first.set('session:1', 'ada');
    await first.close();
    const cache = await Cache.open(options({ mode: 'read-through', writeBack: undefined }));
    expect(await cache.promises.getMany(['order:1', 'session:1', 'session:2'])).toEqual(['book', 'ada', undefined]);
    await cache.close();
  });

  test('keys that memory has no room for reach each database before the cache is open', async () => {
    const first = await open({ ...LATE, maxMemory: '64mb' });
    for (let i = 0; i < 60_000; i++) {
      const key = `${i % 2 === 0 ? 'order' : 'session'}:${String(i).padStart(100, '0')}`;
      await patiently(first, () => first.set(key, 'v'));
    }
    await first.destroy();
    const second = await open({ maxMemory: '4mb' });
    expect(second.recovery!.notices.some(({ kind }) => kind === 'written-first')).toBe(true);
    await second.drain();
    expect(Object.keys(await rowsOf(orders))).toHaveLength(30_000);
    expect(Object.keys(await sessions.rows())).toHaveLength(30_000);
  });

  test('a rule that moves unwritten changes to another database is refused by name', async () => {
    const first = await open(LATE);
    first.set('session:1', 'ada');
    await first.destroy();
    const moved = { rules: [{ prefix: 'session:' }, { prefix: 's:', store: 'sessions' }] };
    await expect(open(moved)).rejects.toThrow(withCode('ERR_STORE_REFUSED', /the rule for the prefix "session:"/));
    await (await open()).close();
    const cache = await open(moved);
    cache.set('session:2', 'bob');
    await cache.close();
    expect(await rowsOf(orders)).toEqual({ 'session:2': 'bob' });
    expect(await sessions.rows()).toEqual({ 'session:1': 'ada' });
  });

  test('a database may be added while the log has its first record', async () => {
    const first = await open({ stores: undefined, rules: undefined });
    first.set('order:1', 'book');
    first.set('session:1', 'old');
    await first.close();
    const second = await open();
    second.set('session:2', 'new');
    await second.drain();
    // What the log has of its keys from before, it gets too.
    expect(await sessions.rows()).toEqual({ 'session:1': 'old', 'session:2': 'new' });
    expect(await rowsOf(orders)).toEqual({ 'order:1': 'book', 'session:1': 'old' });
  });

  test('one database under two names is refused, and no change of either store is lost', async () => {
    const alias = sessions.url.replace(/\/([^/]*)$/, '/./$1');
    expect(alias).not.toBe(sessions.url);
    const twice = { store: sessions.url, stores: { sessions: alias } };
    const refusal = withCode('ERR_STORE_REFUSED', /store and stores have it under two names/);
    const first = await open({ ...LATE, store: sessions.url, stores: undefined, rules: undefined });
    first.set('order:1', 'book');
    await first.close();
    await expect(open(twice)).rejects.toEqual(refusal);
    const other = new SqliteFile(directories.fresh());
    const cache = await open({ store: sessions.url, stores: { sessions: other.url } });
    cache.set('session:1', 'ada');
    await cache.drain();
    expect([await sessions.rows(), await other.rows()]).toEqual([{ 'order:1': 'book' }, { 'session:1': 'ada' }]);
    await cache.close();
    // Also where there is nothing yet.
    sessions = new SqliteFile(directories.fresh());
    data = directories.fresh();
    const fresh = { store: sessions.url, stores: { sessions: sessions.url.replace(/\/([^/]*)$/, '/./$1') } };
    await expect(open(fresh)).rejects.toEqual(refusal);
  });

  test('databases that have changed places are refused', async () => {
    const first = await open();
    first.set('order:1', 'book');
    first.set('session:1', 'ada');
    await first.close();
    const swapped = { store: sessions.url, stores: { sessions: orders } };
    await expect(open(swapped)).rejects.toEqual(withCode('ERR_STORE_REFUSED', /or have changed places/));
    const cache = await open();
    cache.set('session:2', 'bob');
    await cache.drain();
    expect([await rowsOf(orders), await sessions.rows()]).toEqual([
      { 'order:1': 'book' },
      { 'session:1': 'ada', 'session:2': 'bob' },
    ]);
  });

  test('a cache is not opened without a database that lacks changes', async () => {
    const first = await open(LATE);
    first.set('session:1', 'ada');
    await first.destroy();
    const without = { stores: undefined, rules: undefined };
    await expect(open(without)).rejects.toThrow(withCode('ERR_STORE_REFUSED', /the store sessions does not have/));
    await (await open()).close();
    const second = await open(without);
    second.set('session:2', 'bob');
    await second.close();
    expect(await rowsOf(orders)).toEqual({ 'session:2': 'bob' });
    // Its cursor does not hold the log any more.
    const log = EmbeddedLog.look({ directory: data, lockDirectory: lockByAddon });
    expect([...log.cursors().keys()].sort()).toEqual(['history of store', 'store']);
    log.close();
  });
});

test('a database that goes back gets what it lacks, while the other goes on', async () => {
  const store = new PlainStore();
  const cache = await open({ stores: { sessions: plainBackend(store, Date.now) } });
  cache.set('session:1', 'ada');
  await cache.drain();
  const [rows, cursors] = [[...store.rows], [...store.cursors]];
  cache.set('session:2', 'bob');
  cache.set('order:1', 'book');
  await cache.drain();
  store.rows.clear();
  for (const [key, row] of rows) store.rows.set(key, row);
  for (const [lane, cursor] of cursors) store.cursors.set(lane, cursor);
  // Where it has gone back unnoticed, memory has what it had; a load waits until the database has it again.
  for (const key of ['session:2', 'order:1']) cache.evict(key);
  expect(await cache.promises.get('order:1')).toBe('book');
  expect(await cache.promises.get('session:2')).toBe('bob');
  cache.set('session:3', 'eve');
  await cache.drain();
  expect([...store.rows.keys()].sort()).toEqual(['session:1', 'session:2', 'session:3']);
  const { stores } = cache.stats().writeBack!;
  expect([stores!['default']!.healings, stores!['sessions']!.healings]).toEqual([0, 1]);
});

test('a database that has gone back too far is rebuilt from its own keys', async () => {
  const path = join(directories.fresh(), 'sessions');
  const small: CacheOptions = {
    ...{ stores: { sessions: `lmdb:${path}` }, sync: 'none', logLimit: '8mb', segmentSize: '1mb', maxMemory: '64mb' },
    ...{ snapshot: { every: 0, atClose: false }, writeBack: { delay: 1, retainBehind: 0 } },
  };
  const first = await open(small);
  first.set('session:1', 'old');
  await first.close();
  cpSync(path, `${path}-old`, { recursive: true });
  const second = await open(small);
  for (let round = 0; round < 4; round++) {
    for (let i = 0; i < 2000; i++) await patiently(second, () => second.set(`order:${i}`, `${round}`.padEnd(1000)));
    second.set(`session:${round}`, 'new');
    await second.drain();
    await second.snapshot();
  }
  await second.close();
  rmSync(path, { recursive: true });
  cpSync(`${path}-old`, path, { recursive: true });
  const before = await rowsOf(orders);
  await expect(open(small)).rejects.toEqual(withCode('ERR_STORE_REFUSED', /has gone back to an earlier state/));
  const rebuild = (name?: string): Promise<unknown> => rebuildDirectory(data, `lmdb:${path}`, () => {}, name);
  await expect(rebuild()).rejects.toEqual(withCode('ERR_INVALID_ARGUMENT', /--name .*"default", "sessions", got none/));
  await rebuild('sessions');
  const third = await open(small);
  await third.drain();
  await third.close();
  expect(await rowsOf(`lmdb:${path}`)).toEqual(
    Object.fromEntries([0, 1, 2, 3].map((round) => [`session:${round}`, 'new'])),
  );
  expect(await rowsOf(orders)).toEqual(before);
});

skipUnless(postgresPrograms, POSTGRES_MISSING).describe('PostgreSQL beside LMDB', () => {
  const server = postgresOfTests();
  beforeEach(() => server.reset());

  test('a table that is missing halts its own database only, in which rows are of four lanes', async () => {
    const stores = { sessions: `lmdb:${directories.fresh()}` };
    const cache = await open({ store: server.url(), stores, writeBack: { delay: 5, lanes: 4 }, maxMemory: '64mb' });
    for (let i = 0; i < 20; i++) cache.set(`order:${i}`, 'book');
    await cache.drain();
    await server.query('ALTER TABLE cairn_entries RENAME TO away');
    for (let i = 0; i < 20; i++) {
      cache.set(`order:${i}`, 'pen');
      cache.set(`session:${i}`, 'ada');
    }
    const state = (store: string): string => cache.stats().writeBack!.stores![store]!.state;
    await until(() => state('default') === 'halted');
    await cache.drain({ keys: Array.from({ length: 20 }, (_, i) => `session:${i}`) });
    await cache.promises.set('session:1', 'eve', { ack: 'stored' });
    expect(state('sessions')).toBe('writing');
    expect(cache.stats().writeBack).toMatchObject({ state: 'halted', lanes: 8 });
    await cache.close();
    await server.query('ALTER TABLE away RENAME TO cairn_entries');
    const again = await open({ store: server.url(), stores, writeBack: { delay: 5, lanes: 4 }, maxMemory: '64mb' });
    await again.drain();
    expect(Object.values(await server.entries())).toEqual(Array.from({ length: 20 }, () => 'pen'));
  });
});

describe('options', () => {
  const backend = (): CacheOptions['store'] => plainBackend(new PlainStore(), Date.now);
  const refused = async (given: CacheOptions, message: RegExp): Promise<void> => {
    await expect(open({ store: backend()!, stores: { sessions: backend()! }, ...given })).rejects.toThrow(
      withCode('ERR_INVALID_ARGUMENT', message),
    );
  };

  test('what stores and rules say of one another is checked by name', async () => {
    await refused({ rules: [{ prefix: 'a', store: 'session' }] }, /names the store "session".*did you mean sessions/);
    await refused({ rules: [] }, /stores has sessions, which no rule names/);
    await refused({ rules: [{ ...SESSIONS, skip: true }] }, /either skip or store/);
    await refused({ stores: { default: backend()! } }, /without default/);
    await refused({ stores: { 'a b': backend()! } }, /a name in stores/);
    await refused({ stores: ['lmdb:'] as never }, /an object of databases/);
    await refused(
      { stores: 'postgres://ada:secret@host/x' as never },
      /an object of databases by their names, got "..."/,
    );
    await refused({ store: undefined }, /give store, the database behind it, too/);
    const same = 'postgres://ada:secret@host/shop';
    await refused({ store: same, stores: { sessions: same } }, /one database, postgres:\/\/host\/shop: give each/);
    await refused(
      { stores: { sessions: 'lmdb:./s' }, rules: [{ ...SESSIONS, table: 't', key: 'k' }] },
      /names a table of yours: that is for .* and the database is lmdb:/,
    );
  });

  test('a second owner joins with equal stores only', async () => {
    const stores = { sessions: `lmdb:${directories.fresh()}` };
    const named = { name: 'stored-twice', stores };
    await open(named);
    await (await open(named)).close();
    await expect(open({ ...named, stores: { sessions: `lmdb:${directories.fresh()}` } })).rejects.toThrow(
      withCode('ERR_NAME_TAKEN', /the option stores/),
    );
  });
});
