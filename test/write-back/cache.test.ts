// Write-back of whole caches to a real database, LMDB, in the writer's thread or in the program's.

import { rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { beforeEach, describe, expect, test, vi } from 'vitest';
import { handleOf } from '../../src/cache.ts';
import { logCommand } from '../../src/cli/log.ts';
import { CairnError } from '../../src/errors.ts';
import { type Backend, Cache, type CacheOptions, serve, type WriteBackNotice } from '../../src/index.ts';
import { feedOf } from '../../src/native.ts';
import { LogKeeper } from '../../src/scribe/index.ts';
import { RemoteWriteBack, WriteBackKeeper } from '../../src/write-back/index.ts';
import { type WriteBackActions, WriteBackHost } from '../../src/write-back/remote.ts';
import { Writer } from '../../src/write-back/writer.ts';
import { DataDirectories } from '../support/data-directories.ts';
import { lmdbOfTests } from '../support/databases-of-tests.ts';
import { withCode } from '../support/errors.ts';
import { LMDB_MODULE, LmdbDirectory } from '../support/lmdb.ts';
import makeLmdb, { POISON } from '../support/lmdb-backend.mjs';
import { MemcachedSocket } from '../support/memcached-socket.ts';
import { deferred, runProgram, startThread, until } from '../support/threads.ts';

const directories = new DataDirectories('write-back');
const database = lmdbOfTests();
let data: string;
beforeEach(() => {
  data = directories.fresh();
});

function open(options: CacheOptions = {}): Promise<Cache> {
  return directories.open(data, { store: LMDB_MODULE, writeBack: { delay: 5 }, ...options });
}

function keeperOf(cache: Cache): WriteBackKeeper {
  return WriteBackKeeper.of(handleOf(cache as Cache<never>).cacheId)!;
}

function noticesOf(cache: Cache): WriteBackNotice[] {
  const notices: WriteBackNotice[] = [];
  cache.on('write-back', (notice) => notices.push(notice));
  return notices;
}

describe.each([
  ['in a thread of the writer', LMDB_MODULE],
  ['in the thread of the program', 'object'],
])('%s', (_, store) => {
  const options = (): CacheOptions => ({ store: store === 'object' ? makeLmdb() : store });

  test('what is set, deleted and touched is in the database after drain()', async () => {
    const cache = await open(options());
    cache.set('a', '1');
    cache.set('b', '2');
    cache.set('c', '3');
    cache.delete('b');
    cache.touch('c', '1h');
    cache.set('n', 5);
    cache.incr('n', 2);
    cache.append('a', '23');
    await cache.drain();
    const { rows } = await database.read();
    expect(rows).toEqual({ a: '123', c: '3', n: '7' });
    expect(cache.stats().writeBack).toMatchObject({ state: 'writing', behindBytes: 0, oldestUnwrittenMs: 0 });
  });

  test('it is so without drain(), too, and after close() without waiting for the delay', async () => {
    const cache = await open({ ...options(), writeBack: { delay: '1h' } });
    cache.set('a', '1');
    await cache.close();
    expect((await database.read()).rows).toEqual({ a: '1' });
  });

  test('what destroy() has left is written at the next opening', async () => {
    const first = await open({ ...options(), writeBack: { delay: '1h' } });
    first.set('a', '1');
    await first.destroy();
    expect((await database.read()).rows).toEqual({});
    const second = await open(options());
    await second.drain();
    expect((await database.read()).rows).toEqual({ a: '1' });
  });

  test('clear, evict and eviction take no row away', async () => {
    const cache = await open({ ...options(), maxEntries: 10, shards: 1 });
    for (let i = 0; i < 100; i++) cache.set(`key-${i}`, 'value');
    cache.evict('key-99');
    cache.clear();
    await cache.drain();
    expect(Object.keys((await database.read()).rows)).toHaveLength(100);
  });

  test('pause() keeps the changes in the log until resume(), and drain() waits', async () => {
    const cache = await open(options());
    await cache.writeBack.pause();
    expect(cache.stats().writeBack?.state).toBe('paused');
    cache.set('a', '1');
    await expect(cache.drain({ timeout: 100 })).rejects.toEqual(withCode('ERR_TIMEOUT', /after 100 ms/));
    await until(() => (cache.stats().writeBack?.behindBytes ?? 0) > 0);
    expect((await database.read()).rows).toEqual({});
    await cache.writeBack.resume();
    await cache.drain();
    expect((await database.read()).rows).toEqual({ a: '1' });
  });

  test('close() does not wait for a writer that is paused', async () => {
    const cache = await open(options());
    await cache.writeBack.pause();
    cache.set('a', '1');
    // If it waited, this would never end.
    await cache.close({ timeout: 0 });
    const next = await open(options());
    await next.drain();
    expect((await database.read()).rows).toEqual({ a: '1' });
  });

  test('a value that the database refuses is told, and the others are written', async () => {
    const cache = await open(options());
    const notices = noticesOf(cache);
    cache.set('a', '1');
    cache.set('bad', POISON);
    cache.set(Buffer.from([0xff, 0]), POISON);
    cache.set('b', '1');
    await cache.drain();
    expect((await database.read()).rows).toEqual({ a: '1', b: '1' });
    await until(() => notices.length === 2);
    const letter = { kind: 'dead-letter', change: 'set', cause: { message: 'a value that the database refuses' } };
    expect(notices).toMatchObject([letter, letter]);
    const keys = notices.map((notice) => (notice.kind === 'dead-letter' ? notice.key : undefined));
    expect(keys).toEqual(expect.arrayContaining(['bad', Buffer.from([0xff, 0])]));
    expect(cache.stats().writeBack).toMatchObject({ deadLetters: 2 });
  });

  test('a log of many segments is written whole', async () => {
    const cache = await open({ ...options(), segmentSize: '256kb', logLimit: '64mb', sync: '10ms' });
    for (let i = 0; i < 3000; i++) {
      cache.set(`key-${i % 500}`, `${i} ${'x'.repeat(500)}`);
      if (i % 100 === 0) await cache.sync();
    }
    await cache.drain();
    const { rows, history } = await database.read();
    expect(Object.keys(rows)).toHaveLength(500);
    for (let i = 0; i < 500; i++) expect(rows[`key-${i}`]).toMatch(new RegExp(`^${2500 + i} `));
    expect(history.length).toBe(new Set(history).size);
  });

  test.each(['always', '10ms', 'none'] as const)('under sync: %s', async (sync) => {
    const cache = await open({ ...options(), sync });
    cache.set('a', '1');
    await until(() => (cache.stats().writeBack?.rows ?? 0) > 0);
    await cache.close();
    expect((await database.read()).rows).toEqual({ a: '1' });
  });
});

describe('the writer', () => {
  test('that dies is restarted, counted and told; every effect is there once', async () => {
    const cache = await open();
    const notices = noticesOf(cache);
    for (let round = 0; round < 4; round++) {
      for (let i = 0; i < 200; i++) cache.set(`key-${i}`, `${round}`);
      await until(() => keeperOf(cache).thread !== undefined);
      await keeperOf(cache).thread!.terminate();
    }
    await cache.drain();
    const { rows, history } = await database.read();
    expect(new Set(Object.values(rows))).toEqual(new Set(['3']));
    expect(history.length).toBe(new Set(history).size);
    expect(cache.stats().writeBack).toMatchObject({ restarts: 4, state: 'writing' });
    expect(notices.map(({ kind }) => kind)).toEqual(Array(4).fill('restarted'));
  });

  test('that dies while drain() waits is asked again', async () => {
    const cache = await open({ writeBack: { delay: '1h' } });
    await cache.writeBack.pause();
    cache.set('a', '1');
    const drained = cache.drain();
    await cache.sync();
    await keeperOf(cache).thread?.terminate();
    await cache.writeBack.resume();
    await drained;
    expect((await database.read()).rows).toEqual({ a: '1' });
  });

  test('that cannot be started again, because its module is gone, keeps no request waiting', async () => {
    const module = join(directories.fresh().replace(/\d+$/, 'removed.mjs'));
    writeFileSync(module, `export { default } from ${JSON.stringify(LMDB_MODULE)};`);
    const cache = await open({ store: module });
    cache.set('a', '1');
    await cache.drain();
    cache.evict('a');
    rmSync(module);
    await keeperOf(cache).thread!.terminate();
    await expect(cache.promises.get('a')).rejects.toEqual(withCode('ERR_NOT_RESIDENT'));
    await cache.destroy();
  });

  test('that does not answer any more is restarted', async () => {
    const module = join(directories.fresh().replace(/\d+$/, 'blocking.mjs'));
    writeFileSync(
      module,
      `import make from ${JSON.stringify(LMDB_MODULE)};
       export default () => {
         const backend = make();
         const write = backend.write.bind(backend);
         backend.write = (batch) => {
           const isStuck = batch.changes.some((change) => String(change.value) === 'stuck') && !process.env.CAIRN_TEST_FREE;
           if (isStuck) {
             process.env.CAIRN_TEST_FREE = '1';
             Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0);
           }
           return write(batch);
         };
         return backend;
       };`,
    );
    const cache = await open({ store: module });
    const notices = noticesOf(cache);
    cache.set('a', 'stuck');
    await cache.drain();
    delete process.env['CAIRN_TEST_FREE'];
    expect((await database.read()).rows).toEqual({ a: 'stuck' });
    expect(notices).toMatchObject([{ kind: 'restarted', cause: { message: expect.stringContaining('not answered') } }]);
  }, 60_000);

  test('goes on when the thread that writes the log has died and is restarted', async () => {
    const cache = await open();
    cache.on('log', () => {});
    cache.set('a', '1');
    await cache.drain();
    await LogKeeper.of(handleOf(cache as Cache<never>).cacheId)!.thread?.terminate();
    cache.set('b', '1');
    await cache.drain();
    expect((await database.read()).rows).toEqual({ a: '1', b: '1' });
  });
});

describe('the keeper', () => {
  test('waits for a module that takes longer to load than a thread may be silent', async () => {
    const module = join(directories.fresh().replace(/\d+$/, 'slow.mjs'));
    writeFileSync(
      module,
      `import make from ${JSON.stringify(LMDB_MODULE)};
       await new Promise((resolve) => setTimeout(resolve, 11_500));
       export default make;`,
    );
    const cache = await open({ store: module });
    cache.set('a', '1');
    await cache.drain();
    expect((await database.read()).rows).toEqual({ a: '1' });
    expect(cache.stats().writeBack).toMatchObject({ restarts: 0 });
  }, 60_000);

  test('closes without a limit of time when the thread dies before it is asked to end', async () => {
    const cache = await open();
    const keeper = keeperOf(cache);
    const log = LogKeeper.of(handleOf(cache as Cache<never>).cacheId)!;
    const logged = deferred();
    const committedUpTo = vi.spyOn(log, 'committedUpTo').mockImplementation(() => logged.promise.then(() => 0n));
    const closed = keeper.close(0, true);
    await keeper.thread!.terminate();
    await until(() => keeper.thread === undefined);
    logged.resolve();
    await closed;
    committedUpTo.mockRestore();
  });

  test('waits for neither the log nor the database for a drain() whose time is over', async () => {
    const cache = await open({ store: makeLmdb() });
    const log = LogKeeper.of(handleOf(cache as Cache<never>).cacheId)!;
    const logged = vi
      .spyOn(log, 'committedUpTo')
      .mockImplementationOnce(
        (_, signal) => new Promise((_, reject) => signal?.addEventListener('abort', () => reject(signal.reason))),
      );
    const written = vi.spyOn(Writer.prototype, 'drain');
    await cache.writeBack.pause();
    cache.set('a', '1');
    const ofLog = cache.drain({ timeout: 50 });
    await expect(ofLog).rejects.toThrow(withCode('ERR_TIMEOUT'));
    await expect(logged.mock.results[0]!.value).rejects.toThrow();
    await expect(cache.drain({ timeout: 300 })).rejects.toThrow(withCode('ERR_TIMEOUT'));
    await expect(written.mock.results[0]!.value).rejects.toThrow();
    vi.restoreAllMocks();
  });

  test('does not keep a process alive for a drain() whose time is over, here and in a thread', () => {
    const { stdout } = runProgram(`
      const options = { data: ${JSON.stringify(data)}, store: ${JSON.stringify(LMDB_MODULE)}, name: 'late drain' };
      const cache = await Cache.open(options);
      await cache.writeBack.pause();
      cache.set('a', '1');
      const told = (error) => console.log(error.code);
      await cache.drain({ timeout: 50 }).catch(told);
      startWorker("Cache.attach('late drain').drain({ timeout: 300 }).catch(({ code }) => console.log(code))");`);
    expect(stdout).toBe('ERR_TIMEOUT\nERR_TIMEOUT\n');
  }, 90_000);
});

describe('opening', () => {
  // A database that is away until `isAway` is false.
  function away(): { backend: Backend; isAway: boolean } {
    const backend = makeLmdb();
    const state = { backend, isAway: true };
    const { open: openNow } = backend;
    backend.open = async () => {
      if (state.isAway) throw new Error('connection refused');
      await openNow.call(backend);
    };
    return state;
  }

  test('does not wait for a database that is away, and says so', async () => {
    const store = away();
    const cache = await open({ store: store.backend });
    expect(cache.stats().writeBack?.state).toBe('retrying');
    const notices = noticesOf(cache);
    cache.set('a', '1');
    expect(cache.get('a')).toBe('1');
    store.isAway = false;
    await cache.drain();
    expect((await database.read()).rows).toEqual({ a: '1' });
    await until(() => notices.length > 0);
    expect(notices.map(({ kind }) => kind)).toEqual(['recovered']);
    expect(cache.stats().writeBack?.retries).toBeGreaterThan(0);
  });

  test('with the database of another log is refused, and can be repeated with the right one', async () => {
    const first = await open();
    first.set('a', '1');
    await first.close();
    const other = directories.fresh();
    await expect(directories.open(other, { store: LMDB_MODULE })).rejects.toEqual(
      withCode('ERR_STORE_REFUSED', /belongs to another log/),
    );
    const again = await open();
    again.set('b', '1');
    await again.drain();
    expect((await database.read()).rows).toEqual({ a: '1', b: '1' });
  });

  test('with an empty database is refused for a log that has written to one, whose beginning is gone', async () => {
    const first = await open();
    first.set('a', '1');
    await first.close();
    const empty = new LmdbDirectory().make();
    await expect(open()).rejects.toEqual(withCode('ERR_STORE_REFUSED', /has no cursor/));
    empty.remove();
  });

  test('without the database is refused while it lacks records, unless their cursor is dropped', async () => {
    const first = await open({ writeBack: { delay: '1h' } });
    await first.writeBack.pause();
    first.set('a', '1');
    first.set('b', '1');
    await first.close();
    await expect(directories.open(data)).rejects.toEqual(
      withCode('ERR_STORE_REFUSED', /2 records that its database does not have.*log drop-cursor .* store$/),
    );
    const lines: string[] = [];
    const output = { print: (line: string) => lines.push(line), printError: (line: string) => lines.push(line) };
    const command = logCommand({ ...output, setExitCode: (code) => lines.push(`${code}`) });
    await command.parseAsync(['drop-cursor', data, 'store'], { from: 'user' });
    expect(lines).toEqual([expect.stringMatching(/^Dropped the cursor store, which was at position 0 of \d+$/), '0']);
    lines.length = 0;
    await command.parseAsync(['inspect', data], { from: 'user' });
    expect(lines.join('\n')).not.toContain('store');
    const without = await directories.open(data);
    expect(without.get('a')).toBe('1');
  });

  test('without the database is as before when it has every record', async () => {
    const first = await open();
    first.set('a', '1');
    await first.drain();
    await first.close();
    const without = await directories.open(data);
    expect(without.get('a')).toBe('1');
  });

  test('a log that had no database before writes all of it', async () => {
    const first = await directories.open(data);
    first.set('a', '1');
    await first.close();
    const second = await open();
    await second.drain();
    expect((await database.read()).rows).toEqual({ a: '1' });
  });

  test('a module that is not there, or makes no backend, is refused by name', async () => {
    await expect(open({ store: './no-such-module.mjs' })).rejects.toThrow(/no-such-module\.mjs/);
    const module = directories.fresh().replace(/\d+$/, 'wrong.mjs');
    writeFileSync(module, 'export default () => ({ open() {} });');
    await expect(open({ store: module })).rejects.toEqual(
      withCode('ERR_INVALID_ARGUMENT', /a backend, which has readCursors\(\)/),
    );
    writeFileSync(module.replace('wrong', 'none'), 'export const x = 1;');
    await expect(open({ store: module.replace('wrong', 'none') })).rejects.toEqual(
      withCode('ERR_INVALID_ARGUMENT', /the default export of .*none\.mjs to be a function/),
    );
  });
});

describe('from other threads', () => {
  test('what they do is written, and they can drain', async () => {
    const cache = await open({ name: 'write-back threads', writeBack: { delay: '1h' } });
    const thread = startThread(async ({ cairn, data: name, say }) => {
      const attached = cairn.Cache.attach<string>(name);
      attached.set('from a thread', '1');
      await attached.drain();
      say(attached.stats().writeBack?.rows);
    }, cache.name);
    expect(await thread.exit).toBe(0);
    expect(await thread.next()).toBe(1);
    expect((await database.read()).rows).toEqual({ 'from a thread': '1' });
  });
});

describe('a remote of write-back', () => {
  function remoteOf(cache: Cache): RemoteWriteBack {
    return new RemoteWriteBack(feedOf(handleOf(Cache.attach(cache.name) as Cache<never>))!);
  }

  // An answer over the closed channel would be an unhandled rejection, of which the run fails.
  test('is told of the end, and the answer that comes after it is dropped', async () => {
    const cache = await directories.open(data, { name: 'remote at the end' });
    const remote = remoteOf(cache);
    const answer = deferred();
    let isAsked = false;
    const drain = (): Promise<void> => {
      isAsked = true;
      return answer.promise;
    };
    const host = new WriteBackHost(handleOf(cache as Cache<never>).cacheId, { drain } as WriteBackActions);
    const drained = remote.drain().catch((error) => error);
    await until(() => isAsked);
    answer.reject(new Error('Too late'));
    host.close(new CairnError('ERR_CLOSED', 'The end'));
    expect(await drained).toEqual(withCode('ERR_CLOSED', /The end/));
  });

  test('that asks between the end of the writer and that of the log is refused', async () => {
    const cache = await open({ name: 'remote after the end' });
    const remote = remoteOf(cache);
    await keeperOf(cache).close(1, false);
    const drained = remote.drain().catch((error) => error);
    await cache.close();
    expect(await drained).toEqual(withCode('ERR_CLOSED'));
    await expect(remote.drain()).rejects.toEqual(withCode('ERR_CLOSED'));
  });

  test('that asks before the keeper begins is answered by it, and cancels what it no longer awaits', async () => {
    const cache = await directories.open(data, { name: 'remote before the beginning' });
    const remote = remoteOf(cache);
    const paused = remote.pause();
    const signals: AbortSignal[] = [];
    const actions: Partial<WriteBackActions> = {
      pause: async () => {},
      drain: (signal) => {
        signals.push(signal!);
        return new Promise(() => {});
      },
    };
    const host = new WriteBackHost(handleOf(cache as Cache<never>).cacheId, actions as WriteBackActions);
    await paused;
    const controller = new AbortController();
    const drained = remote.drain(controller.signal);
    await until(() => signals.length === 1);
    controller.abort();
    await expect(drained).rejects.toBe(controller.signal.reason);
    await until(() => signals[0]!.aborted);
    host.close(new Error('The end'));
  });
});

test('the port has the numbers, too', async () => {
  const cache = await open();
  cache.set('a', '1');
  await cache.drain();
  const server = await serve(cache, { port: 0 });
  const [address] = server.addresses;
  const socket = await MemcachedSocket.open((address as { port: number }).port);
  const stats = await socket.ask('stats cairn\r\n', 'END\r\n');
  await server.close();
  expect(stats).toMatch(/STAT write_back_state 1\r\n/);
  expect(stats).toMatch(/STAT write_back_rows 1\r\n/);
  expect(stats).toMatch(/STAT write_back_oldest_unwritten_ms 0\r\n/);
});

describe('a cache without a database', () => {
  test('has nothing to drain or to pause, and no numbers', async () => {
    const cache = await directories.open(data);
    await expect(cache.drain()).rejects.toEqual(withCode('ERR_INVALID_ARGUMENT', /without store has no database/));
    await expect(cache.writeBack.pause()).rejects.toEqual(withCode('ERR_INVALID_ARGUMENT', /for pause\(\)/));
    expect(cache.stats()).not.toHaveProperty('writeBack');
  });
});

test('after close() drain() says that the cache is closed', async () => {
  const cache = await open();
  await cache.close();
  await expect(cache.drain()).rejects.toEqual(withCode('ERR_CLOSED'));
});

test('two owners share one writer, which ends with the last', async () => {
  const options = { data, name: 'shared by two', store: LMDB_MODULE, writeBack: { delay: 5 } };
  const first = await open(options);
  const second = await open(options);
  await expect(Cache.open({ ...options, writeBack: { delay: 6 } })).rejects.toEqual(
    withCode('ERR_NAME_TAKEN', /writeBack\.delay 5 instead of 6/),
  );
  await first.close();
  second.set('a', '1');
  await second.drain();
  expect((await database.read()).rows).toEqual({ a: '1' });
});

test('the options say the database by name', async () => {
  const cache = await open();
  expect(cache.options).toMatchObject({
    store: LMDB_MODULE,
    mode: 'write-back',
    writeBack: { maxRows: 1000, maxBytes: 4 * 2 ** 20, delay: 5, retainBehind: 600_000 },
  });
});
