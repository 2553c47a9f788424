// The acknowledgement level `stored`, and the mode `write-through`: what answers wait for, and what becomes of them
// when the database refuses a change, confirms nothing, or the cache ends. The database is LMDB, in the test's own
// thread where the test holds its calls back.

import { spawnSync } from 'node:child_process';
import { beforeEach, describe, expect, test } from 'vitest';
import type { WriteBatch } from '../../src/backend/index.ts';
import { type Backend, type Cache, type CacheOptions, type CairnError, serve } from '../../src/index.ts';
import { laneOf } from '../../src/write-back/share.ts';
import { DataDirectories } from '../support/data-directories.ts';
import { lmdbOfTests } from '../support/databases-of-tests.ts';
import { dyingModule } from '../support/dying-module.ts';
import { withCode } from '../support/errors.ts';
import { LMDB_MODULE } from '../support/lmdb.ts';
import makeLmdb, { POISON } from '../support/lmdb-backend.mjs';
import { MemcachedSocket } from '../support/memcached-socket.ts';
import { deferred, startThread, until } from '../support/threads.ts';

const directories = new DataDirectories('stored');
const database = lmdbOfTests();
let data: string;
beforeEach(() => {
  data = directories.fresh();
});

// With this delay only a flush at once ends a wait.
function open(options: CacheOptions = {}): Promise<Cache> {
  const writeBack = { delay: '10m', ...options.writeBack } as const;
  return directories.open(data, { store: LMDB_MODULE, ack: 'stored', ...options, writeBack });
}

interface Fault {
  write: (batch: WriteBatch) => Promise<void>;
}

// The database of this test, with what happens before each write of changes.
function faulty(fault: Partial<Fault>): Backend {
  const backend: Backend = makeLmdb();
  const write = backend.write.bind(backend);
  backend.write = async (batch) => {
    if (batch.changes.length > 0) await fault.write?.(batch);
    return write(batch);
  };
  return backend;
}

async function rows(): Promise<Readonly<Record<string, string>>> {
  return (await database.read()).rows;
}

// Whether a call has an answer by now, once the log has everything and other work has had its turn.
async function isAnswered(cache: Cache, promise: Promise<unknown>): Promise<boolean> {
  let isOver = false;
  const end = (): void => {
    isOver = true;
  };
  promise.then(end, end);
  await cache.sync();
  await new Promise(setImmediate);
  return isOver;
}

describe('a promised change at the level stored', () => {
  test('answers when the row is there, without waiting for the delay', async () => {
    const cache = await open();
    const { promises } = cache;
    expect(await promises.set('a', '1')).toBe('stored');
    expect(await rows()).toEqual({ a: '1' });
    await promises.setMany([
      ['b', '2'],
      ['n', 1],
      ['gone', 'x'],
    ]);
    expect(await promises.incr('n', 41)).toBe(42);
    await promises.append('b', '!');
    expect(await promises.add('new', 'x')).toBe('stored');
    expect(await promises.replace('new', 'y')).toBe('stored');
    expect(await promises.delete('gone')).toBe(true);
    expect(await promises.take('a')).toBe('1');
    await promises.update('b', (value) => `${String(value)}?`);
    expect(await promises.touch('b', '1h')).toBe(true);
    const found = await database.read();
    expect(found.rows).toEqual({ b: '2!?', n: '42', new: 'y' });
    expect(found.expiries['b']).toBeGreaterThan(0);
    await promises.deleteMany(['b', 'n']);
    expect(await rows()).toEqual({ new: 'y' });
  });

  test('is chosen by each call', async () => {
    const cache = await open({ ack: 'logged' });
    await cache.promises.set('a', '1');
    expect(await rows()).toEqual({});
    await cache.promises.set('b', '2', { ack: 'stored' });
    expect(await rows()).toEqual({ a: '1', b: '2' });
  });

  test('waits in many threads', async () => {
    const cache = await open({ name: 'stored in threads' });
    const threads = [1, 2, 3].map((n) =>
      startThread(async ({ cairn, data }) => {
        const attached = cairn.Cache.attach('stored in threads');
        for (let i = 0; i < 20; i++) await attached.promises.set(`k${data}-${i}`, `v${i}`);
        attached.close();
      }, n),
    );
    expect(await Promise.all(threads.map(({ exit }) => exit))).toEqual([0, 0, 0]);
    expect(Object.keys(await rows())).toHaveLength(60);
    await cache.close();
  });

  test('reads wait for the log only, and so does what changes nothing', async () => {
    const held = deferred();
    const cache = await open({ store: faulty({ write: () => held.promise }) });
    const set = cache.promises.set('a', '1');
    expect(await cache.promises.get('a')).toBe('1');
    expect(await cache.promises.has('a')).toBe(true);
    expect(await cache.promises.getMany(['a'])).toEqual(['1']);
    expect(await cache.promises.add('a', '2')).toBe('not-stored');
    await cache.promises.clear();
    expect(await isAnswered(cache, set)).toBe(false);
    held.resolve();
    expect(await set).toBe('stored');
    expect(await rows()).toEqual({ a: '1' });
  });

  test('hurries the lane of its key only: what other lanes have waits for the delay', async () => {
    const answer = deferred();
    const written: string[][] = [];
    const backend = faulty({
      write: async ({ to, changes }) => {
        if (to.lane === 0) await answer.promise;
        if (to.lane === 1) written.push(changes.map(({ key }) => `${key}`));
      },
    });
    const cache = await open({ store: backend, writeBack: { lanes: 2 } });
    const keys = Array.from({ length: 20 }, (_, i) => `key-${i}`);
    const stuck = keys.find((key) => laneOf(Buffer.from(key), 2) === 0)!;
    const [first, second] = keys.filter((key) => laneOf(Buffer.from(key), 2) === 1);
    const waits = cache.promises.set(stuck, '1');
    await until(() => (cache.stats().writeBack?.owedRecords ?? 0) === 1);
    await cache.promises.set(first!, '1', { ack: 'logged' });
    await until(() => written.length > 0 || cache.stats().writeBack?.owedRecords === 2);
    expect(written).toEqual([]);
    expect(await cache.promises.set(second!, '1')).toBe('stored');
    expect(written.flat()).toEqual([first, second]);
    answer.resolve();
    expect(await waits).toBe('stored');
  });

  test('answers when a newer value of its key is there, and both went in one batch', async () => {
    const held = deferred();
    const cache = await open({ store: faulty({ write: () => held.promise }) });
    const first = cache.promises.set('first', '1'); // its write is under way while the others gather
    await until(() => (cache.stats().writeBack?.owedRecords ?? 0) > 0);
    const sets = [1, 2, 3].map((value) => cache.promises.set('a', String(value)));
    held.resolve();
    await Promise.all([first, ...sets]);
    expect((await database.read()).history.filter((each) => each.includes(' a@'))).toHaveLength(1);
    expect((await rows())['a']).toBe('3');
  });

  test('rejects for a dead letter, and the others are stored', async () => {
    const cache = await open();
    await expect(cache.promises.set('bad', POISON)).rejects.toEqual(
      withCode('ERR_DEAD_LETTER', /set "bad" was done in memory: the database has refused.*a value that the database/),
    );
    expect(await cache.promises.set('good', '1')).toBe('stored');
    const error: CairnError = await cache.promises
      .setMany([
        ['x', '1'],
        ['bad', POISON],
        ['y', '2'],
      ])
      .then(
        () => expect.unreachable(),
        (reason) => reason,
      );
    expect(error.code).toBe('ERR_DEAD_LETTER');
    expect(error.results).toEqual(['stored', withCode('ERR_DEAD_LETTER', /"bad"/), 'stored']);
    expect(await rows()).toEqual({ good: '1', x: '1', y: '2' });
    // The cache keeps it: in the mode write-back it was acknowledged at other levels.
    expect(cache.get('bad')).toEqual(POISON);
    expect(await cache.promises.set('bad', 'fine')).toBe('stored');
  });

  test('is no level of an atomic batch', async () => {
    const cache = await open();
    const entries: [string, string][] = [['a', '1']];
    await expect(cache.promises.setMany(entries, { atomic: true })).rejects.toEqual(
      withCode('ERR_INVALID_ARGUMENT', /'memory' or 'logged' for an atomic batch/),
    );
    await cache.promises.setMany(entries, { atomic: true, ack: 'logged' });
    expect(cache.get('a')).toBe('1');
  });

  test('is refused by a cache without a database', async () => {
    await expect(directories.open(data, { ack: 'stored' })).rejects.toEqual(
      withCode('ERR_INVALID_ARGUMENT', /'memory' or 'logged', the levels of a cache without a database/),
    );
    const cache = await directories.open(data, {});
    await expect(cache.promises.set('a', '1', { ack: 'stored' })).rejects.toEqual(withCode('ERR_INVALID_ARGUMENT'));
    await expect(serve(cache, { port: 0, host: 'stored:127.0.0.1' })).rejects.toEqual(withCode('ERR_INVALID_ARGUMENT'));
  });
});

describe('a database that confirms nothing', () => {
  const down = (): Promise<never> => Promise.reject(Object.assign(new Error('away'), { transient: true }));

  function unwritable(state: { isDown: boolean; isBroken?: boolean }): Backend {
    const backend = faulty({ write: async () => (state.isDown ? down() : undefined) });
    backend.classify = () => (state.isBroken ? 'halt' : 'transient');
    return backend;
  }

  test('makes a wait unknown after ackTimeout, and further changes are refused before they are made', async () => {
    const state = { isDown: true };
    const cache = await open({ store: unwritable(state), writeBack: { ackTimeout: 300 } });
    await expect(cache.promises.set('a', '1')).rejects.toEqual(
      withCode('ERR_TIMEOUT', /set "a" was done in memory: the log has the change, .*not confirmed it in time/),
    );
    await expect(cache.promises.set('a', '2')).rejects.toEqual(withCode('ERR_STORE_AWAY', /Cannot set/));
    await expect(cache.promises.setMany([['a', '2']])).rejects.toEqual(withCode('ERR_STORE_AWAY'));
    expect(await cache.promises.get('a')).toBe('1');
    expect(await cache.promises.set('b', '1', { ack: 'logged' })).toBe('stored');
    state.isDown = false;
    await until(() => (cache.stats().writeBack?.batches ?? 0) > 0);
    expect(await cache.promises.set('a', '3')).toBe('stored');
    expect(await rows()).toEqual({ a: '3', b: '1' });
  });

  test('because its thread dies again and again ends the waits, too', async () => {
    const module = dyingModule(directories.root, 'write');
    const cache = await open({ store: module });
    await expect(cache.promises.set('a', '1')).rejects.toEqual(withCode('ERR_TIMEOUT', /not confirmed it in time/));
    expect(cache.stats().writeBack?.restarts).toBeGreaterThan(1);
  });

  test('that only a person can mend ends every wait at once', async () => {
    const state = { isDown: true, isBroken: true };
    const cache = await open({ store: unwritable(state), writeBack: { ackTimeout: 0 } });
    await expect(cache.promises.set('a', '1')).rejects.toEqual(
      withCode('ERR_WRITE_BACK', /the log has the change, and nothing is written/),
    );
    await expect(cache.promises.set('a', '2')).rejects.toEqual(withCode('ERR_STORE_AWAY'));
  });

  test('in one of several lanes refuses callers of its keys only, here and on the port', async () => {
    const lanes = 4;
    const keysOf = (lane: number): string[] =>
      Array.from({ length: 100 }, (_, i) => `key-${i}`).filter((key) => laneOf(Buffer.from(key), lanes) === lane);
    const [[away, alsoAway], [well, alsoWell]] = [keysOf(2), keysOf(1)] as [string[], string[]];
    const state = { isDown: true };
    const store = faulty({
      write: async ({ to }) => {
        if (to.lane === 2 && state.isDown) await down();
      },
    });
    store.classify = () => 'transient';
    const cache = await open({ store, shards: lanes, writeBack: { lanes, ackTimeout: 300 } });
    const { promises } = cache;
    await expect(promises.set(away!, '1')).rejects.toEqual(withCode('ERR_TIMEOUT', /not confirmed it in time/));
    await expect(promises.set(alsoAway!, '2')).rejects.toEqual(withCode('ERR_STORE_AWAY'));
    expect(cache.has(alsoAway!)).toBe(false);
    expect(await promises.set(well!, '1')).toBe('stored');
    // Of many, each counts by itself.
    const many = promises.setMany([
      [alsoWell!, '2'],
      [alsoAway!, '2'],
    ]);
    await expect(many).rejects.toMatchObject({
      code: 'ERR_STORE_AWAY',
      results: ['stored', withCode('ERR_STORE_AWAY')],
    });
    const server = await serve(cache, { port: 0, host: '127.0.0.1' });
    const [address] = server.addresses;
    const client = await MemcachedSocket.open((address as { port: number }).port);
    expect(await client.ask(`set ${alsoAway} 0 0 1\r\n3\r\n`)).toBe('SERVER_ERROR the database cannot be written\r\n');
    expect(await client.ask(`set ${alsoWell} 0 0 1\r\n3\r\n`)).toBe('STORED\r\n');
    client.destroy();
    await server.close();
    expect(await rows()).toEqual({ [well!]: '1', [alsoWell!]: '3' });

    state.isDown = false;
    await cache.drain();
    expect(await promises.set(alsoAway!, '4')).toBe('stored');
    expect(await rows()).toEqual({ [well!]: '1', [alsoWell!]: '3', [away!]: '1', [alsoAway!]: '4' });
  });

  test('a call may be more impatient', async () => {
    const cache = await open({ store: unwritable({ isDown: true }) });
    await expect(cache.promises.set('a', '1', { timeout: 100 })).rejects.toEqual(
      withCode('ERR_TIMEOUT', /within 100 ms/),
    );
  });

  test('ends no wait by the end of the cache without an answer', async () => {
    const cache = await open({ store: unwritable({ isDown: true }) });
    const set = cache.promises.set('a', '1');
    set.catch(() => {});
    expect(await isAnswered(cache, set)).toBe(false);
    await cache.close({ timeout: 500 });
    await expect(set).rejects.toEqual(withCode('ERR_WRITE_BACK'));
  });
});

describe('on the port', () => {
  test('replies wait for the database, and a dead letter is an error line', async () => {
    const held = deferred();
    const cache = await open({ store: faulty({ write: () => held.promise }) });
    const server = await serve(cache, { port: 0, host: '127.0.0.1' });
    const [address] = server.addresses;
    const port = address !== undefined && 'port' in address ? address.port : 0;
    expect(server.ack).toBe('stored');
    const client = await MemcachedSocket.open(port);
    const reader = await MemcachedSocket.open(port);
    const replies = client.ask('set a 0 0 1\r\n1\r\nset bad 0 0 6\r\npoison\r\nmn\r\n', 'MN\r\n');
    await until(() => cache.has('a'));
    expect(await reader.ask('get a\r\n', 'END\r\n')).toBe('VALUE a 0 1\r\n1\r\nEND\r\n');
    expect(await isAnswered(cache, replies)).toBe(false);
    held.resolve();
    expect(await replies).toBe('STORED\r\nSERVER_ERROR the database has refused the change\r\nMN\r\n');
    client.destroy();
    reader.destroy();
    await server.close();
  });
});

describe('write-through', () => {
  const through = (options: CacheOptions = {}): Promise<Cache> =>
    directories.open(data, { store: LMDB_MODULE, mode: 'write-through', ...options });

  test('writes at once, and stored is the level of the cache', async () => {
    const cache = await through();
    expect(cache.options).toMatchObject({ mode: 'write-through', ack: 'stored', writeBack: { delay: 0 } });
    expect(await cache.promises.set('a', '1')).toBe('stored');
    expect(await rows()).toEqual({ a: '1' });
  });

  test('an entry that the database refuses leaves the cache, which has the row again', async () => {
    const cache = await through();
    await cache.promises.set('a', '1');
    await expect(cache.promises.set('a', POISON)).rejects.toEqual(withCode('ERR_DEAD_LETTER'));
    expect(cache.get('a')).toBeUndefined();
    expect(await cache.promises.get('a')).toBe('1');
    await expect(cache.promises.add('new', POISON)).rejects.toEqual(withCode('ERR_DEAD_LETTER'));
    expect(await cache.promises.get('new')).toBeUndefined();
  });

  test('so it does if it was touched before the database has refused it', async () => {
    const held = deferred();
    const cache = await through({ store: faulty({ write: () => held.promise }) });
    const bad = cache.promises.set('a', POISON);
    const touched = cache.promises.touch('a', '1h');
    const over = Promise.allSettled([bad, touched]);
    await cache.sync();
    held.resolve();
    await over;
    await expect(bad).rejects.toEqual(withCode('ERR_DEAD_LETTER'));
    expect(cache.get('a')).toBeUndefined();
    expect(await cache.promises.get('a')).toBeUndefined();
  });

  test('a refused value does not come back with the log after a crash', async () => {
    const library = new URL('../../dist/index.js', import.meta.url).href;
    const options = { data, store: LMDB_MODULE, mode: 'write-through' };
    const crash = (body: string): string => {
      const program = `import { Cache } from ${JSON.stringify(library)};
        const cache = await Cache.open(${JSON.stringify(options)});
        ${body}
        process.kill(process.pid, 'SIGKILL');`;
      const args = ['--input-type=module', '--eval', program];
      const { signal, stdout, stderr } = spawnSync(process.execPath, args, { encoding: 'utf8', timeout: 60_000 });
      expect(signal, stderr).toBe('SIGKILL');
      return stdout;
    };
    const said = crash(`await cache.promises.set('a', '1');
      await cache.promises.set('a', 'poison').catch(({ code }) => console.log(code));
      await cache.promises.set('new', 'poison').catch(({ code }) => console.log(code));
      await cache.promises.set('b', '2');`);
    expect(said).toBe('ERR_DEAD_LETTER\nERR_DEAD_LETTER\n');
    // Once more, with a log whose cursor knows that the database has all of it.
    crash('await cache.drain();');
    const cache = await through();
    await cache.drain();
    for (let value: unknown = POISON; value !== '1'; ) value = await cache.promises.get('a');
    expect(await cache.promises.get('new')).toBeUndefined();
    expect(await cache.promises.get('b')).toBe('2');
  });

  test('a newer write of the key stays', async () => {
    const held = deferred();
    let writes = 0;
    const store = faulty({ write: async () => (++writes === 1 ? held.promise : undefined) });
    const cache = await through({ store });
    const bad = cache.promises.set('a', POISON);
    bad.catch(() => {});
    await until(() => writes === 1);
    const good = cache.promises.set('a', 'newer');
    await cache.sync();
    held.resolve();
    await expect(bad).rejects.toEqual(withCode('ERR_DEAD_LETTER'));
    expect(await good).toBe('stored');
    expect(cache.get('a')).toBe('newer');
    expect(await rows()).toEqual({ a: 'newer' });
  });
});

test('no set is answered before the database has it, however fast the log is', async () => {
  const held = deferred();
  let isHeld = true;
  const store = faulty({ write: () => held.promise });
  const cache = await open({ store, shards: 1, ringSize: '1mb', sync: 'none' });
  const early: string[] = [];
  const value = 'x'.repeat(200);
  const sets = Array.from({ length: 20_000 }, async (_, i) => {
    await cache.promises.set(`k${i}`, value);
    if (isHeld) early.push(`k${i}`);
  });
  const all = Promise.all(sets);
  await until(() => (cache.stats().writeBack?.behindBytes ?? 0) > 0);
  await cache.sync();
  await new Promise(setImmediate);
  expect(early).toEqual([]);
  isHeld = false;
  held.resolve();
  await all;
  expect(Object.keys(await rows())).toHaveLength(20_000);
});
