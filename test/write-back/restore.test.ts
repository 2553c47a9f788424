// A cache that begins with the rows of its database: what is in memory then, who may write to the database from there
// on, and what is refused.

import { cpSync, existsSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { beforeEach, describe, expect, test } from 'vitest';
import { makeBackend } from '../../src/backend/index.ts';
import { logCommand } from '../../src/cli/log.ts';
import type { Backend, Cache, CacheOptions, RecoveryProgress } from '../../src/index.ts';
import { Codec } from '../../src/request/codec.ts';
import { DataDirectories } from '../support/data-directories.ts';
import { withCode } from '../support/errors.ts';

const directories = new DataDirectories('restore');
/** Of the database. */
let path: string;
let data: string;

beforeEach(() => {
  path = join(directories.fresh(), 'database');
  data = directories.fresh();
});

function open(options: CacheOptions = {}, directory = data): Promise<Cache> {
  return directories.open(directory, { store: `lmdb:${path}`, writeBack: { delay: 5 }, ...options });
}

async function withDatabase<T>(use: (backend: Backend) => Promise<T>): Promise<T> {
  const backend = await makeBackend(`lmdb:${path}`);
  try {
    await backend.open();
    return await use(backend);
  } finally {
    await backend.close();
  }
}

/** Keys with their values and versions. */
function rows(): Promise<Record<string, [string, bigint]>> {
  return withDatabase(async (backend) => {
    const found: Record<string, [string, bigint]> = {};
    for await (const piece of backend.scan()) {
      for (const { key, value, version } of piece.rows) found[key.toString()] = [value.toString(), version];
    }
    return found;
  });
}

const filesOf = (directory: string): Record<string, string> =>
  Object.fromEntries(readdirSync(directory).map((name) => [name, readFileSync(join(directory, name), 'latin1')]));

async function write(entries: Record<string, string>, directory = data): Promise<void> {
  const cache = await open({}, directory);
  for (const [key, value] of Object.entries(entries)) cache.set(key, value);
  await cache.drain();
  await cache.close();
}

describe('with a new log', () => {
  test('a cache has the rows of its database in memory, whole, and owes none of them', async () => {
    const first = await open();
    first.set('a', '1');
    first.set('json', { deep: [1, 2] });
    first.set('ends', 'soon', { ttl: '1h' });
    first.set('large', Buffer.alloc(400_000, 7));
    await first.drain();
    await first.close();
    const before = await rows();

    const cache = await open({ recover: 'store' }, directories.fresh());
    expect([cache.get('a'), cache.get('json'), cache.get('large')]).toEqual([
      '1',
      { deep: [1, 2] },
      Buffer.alloc(400_000, 7),
    ]);
    expect(cache.info('ends')!.ttl).toBeGreaterThan(3_500_000);
    expect(cache.recovery).toMatchObject({ from: 'store', records: 4, applied: 4, isFull: false });
    await cache.drain();
    await cache.close();
    expect(await rows()).toEqual(before);
  });

  test('the database follows it from then on, in versions above all of its rows, and the log before is refused', async () => {
    const old = directories.fresh();
    await write({ a: '1', b: '1' }, old);
    for (let i = 0; i < 5; i++) await (await open({}, old)).close();
    await write({ b: '2' }, old);
    const before = await rows();
    const cache = await open({ recover: 'store' });
    cache.set('b', '3');
    await cache.drain();
    await cache.close();
    const after = await rows();
    expect([after['a'], after['b']![0]]).toEqual([before['a'], '3']);
    expect(after['b']![1]).toBeGreaterThan(before['b']![1]);
    await expect(open({}, old)).rejects.toEqual(withCode('ERR_STORE_REFUSED', /belongs to another log/));
    // Versions stay above them, also over an opening that has written nothing.
    await (await open({ recover: 'store' }, directories.fresh())).close();
  });

  test('versions stay above those of the rows if the first opening writes nothing', async () => {
    const old = directories.fresh();
    for (let i = 0; i < 5; i++) await (await open({}, old)).close();
    await write({ a: '1' }, old);
    const before = await rows();
    await (await open({ recover: 'store' })).close();
    await write({ a: '2' });
    const after = await rows();
    expect(after['a']![0]).toBe('2');
    expect(after['a']![1]).toBeGreaterThan(before['a']![1]);
  });

  test('a database that has no cursor, or nothing, is as good', async () => {
    const cache = await open({ recover: 'store' });
    expect(cache.size).toBe(0);
    cache.set('a', '1');
    await cache.drain();
    await cache.close();
    expect(await rows()).toMatchObject({ a: ['1', expect.anything()] });
  });

  test('the next opening begins with what memory had, and with the changes since', async () => {
    await write({ a: '1', b: '1', c: '1' }, directories.fresh());
    const cache = await open({ recover: 'store' });
    cache.set('a', '2');
    cache.delete('b');
    await cache.close();
    const next = await open();
    expect([next.get('a'), next.get('b'), next.get('c')]).toEqual(['2', undefined, '1']);
  });

  test('rows that have no room are loaded when they are asked for, and progress is told', async () => {
    const entries = Object.fromEntries(Array.from({ length: 400 }, (_, i) => [`key-${i}`, `${i}`.padEnd(50_000)]));
    const old = await open({ maxMemory: '64mb' }, directories.fresh());
    for (const [key, value] of Object.entries(entries)) await old.promises.set(key, value);
    await old.drain();
    await old.close();
    const progress: RecoveryProgress[] = [];
    const cache = await open({ recover: 'store', maxMemory: '8mb', onRecovery: (each) => progress.push(each) });
    expect(cache.recovery?.isFull).toBe(true);
    expect(cache.recovery!.records).toBeLessThan(400);
    expect(cache.size).toBeGreaterThan(60);
    for (const [key, value] of Object.entries(entries)) expect(await cache.promises.get(key)).toBe(value);
    for (const each of progress) expect(each.source).toBe('store');
  });
});

describe('with the log that the database has', () => {
  test('memory begins with the rows, and the log goes on', async () => {
    await write({ a: '1', b: '1' });
    await withDatabase(async (backend) => {
      const [cursor] = await backend.readCursors();
      const change = {
        key: Buffer.from('b'),
        value: Buffer.from('other'),
        codec: Codec.ascii,
        clientFlags: 0,
        expiresWallMs: 0,
      };
      const outcome = await backend.write({
        changes: [{ kind: 'set', version: 9n, ...change }],
        from: cursor,
        to: cursor!,
      });
      expect(outcome.kind).toBe('committed');
    });
    const cache = await open({ recover: 'store' });
    expect([cache.get('a'), cache.get('b')]).toEqual(['1', 'other']);
    cache.set('c', '1');
    await cache.close();
    const next = await open();
    expect([next.get('a'), next.get('b'), next.get('c')]).toEqual(['1', 'other', '1']);
    await next.close();
    expect(Object.keys(await rows())).toEqual(['a', 'b', 'c']);
  });

  test('records that the database does not have are not discarded by accident', async () => {
    await write({ a: '1' });
    const cache = await open({ writeBack: { delay: '1h' } });
    cache.set('a', '2');
    cache.set('b', '2');
    await cache.writeBack.pause();
    await cache.close();
    const before = filesOf(data);
    const refused = withCode(
      'ERR_STORE_REFUSED',
      /2 records that its database does not have.*recover: 'log'.*drop-cursor/,
    );
    await expect(open({ recover: 'store' })).rejects.toEqual(refused);
    expect(filesOf(data)).toEqual(before);
    const output = { print: () => {}, printError: () => {}, setExitCode: () => {} };
    await logCommand(output).parseAsync(['drop-cursor', data, 'store'], { from: 'user' });
    const next = await open({ recover: 'store' });
    expect([next.get('a'), next.get('b')]).toEqual(['1', undefined]);
    next.set('c', '1');
    await next.close();
    // What had not reached the database is lost, also to it.
    expect(Object.entries(await rows()).map(([key, [value]]) => [key, value])).toEqual([
      ['a', '1'],
      ['c', '1'],
    ]);
  });

  test('nor are those that the database had, before it went back to an earlier state', async () => {
    await write({ a: '1' });
    const backup = join(directories.fresh(), 'backup');
    cpSync(path, backup, { recursive: true });
    await write({ a: '2', b: '2' });
    rmSync(path, { recursive: true });
    cpSync(backup, path, { recursive: true });
    await expect(open({ recover: 'store' })).rejects.toEqual(
      withCode('ERR_STORE_REFUSED', /2 records that its database does not have.*recover: 'log'/),
    );
    const cache = await open();
    await cache.drain();
    expect(Object.entries(await rows()).map(([key, [value]]) => [key, value])).toEqual([
      ['a', '2'],
      ['b', '2'],
    ]);
  });

  test('what the log has not noted yet, and the database has, keeps it from nothing', async () => {
    const cache = await open();
    cache.set('a', '1');
    await cache.drain();
    await cache.destroy();
    const next = await open({ recover: 'store' });
    expect(next.get('a')).toBe('1');
  });
});

describe('what is refused changes nothing:', () => {
  // The program's own backend, whose scan or write fails.
  async function failing(parts: (backend: Backend) => Partial<Backend>): Promise<Backend> {
    const backend = await makeBackend(`lmdb:${path}`);
    return Object.assign(Object.create(backend) as Backend, bound(backend), parts(backend));
  }

  function bound(backend: Backend): Backend {
    const methods = ['open', 'readCursors', 'load', 'scan', 'write', 'classify', 'close'] as const;
    return Object.fromEntries([
      ['name', backend.name],
      ['level', backend.level],
      ...methods.map((name) => [name, backend[name].bind(backend)]),
    ]) as unknown as Backend;
  }

  test('a database that can be read in part only', async () => {
    await write({ a: '1', b: '1' });
    const [files, before] = [filesOf(data), await rows()];
    const store = await failing((backend) => ({
      async *scan() {
        yield* backend.scan();
        throw new Error('the disk is gone');
      },
    }));
    await expect(open({ recover: 'store', store })).rejects.toEqual(
      withCode('ERR_STORE_REFUSED', /cannot begin with the rows of .*: the disk is gone\. Nothing was changed/),
    );
    await store.close();
    expect([filesOf(data), await rows()]).toEqual([files, before]);
    const cache = await open();
    expect(cache.get('b')).toBe('1');
  });

  test('a database that another cache writes to meanwhile', async () => {
    await write({ a: '1' }, directories.fresh());
    const store = await failing((backend) => ({
      async write(batch) {
        const [from] = await backend.readCursors();
        await backend.write({ changes: [], from, to: { ...from!, position: from!.position + 8n } });
        return backend.write(batch);
      },
    }));
    await expect(open({ recover: 'store', store })).rejects.toEqual(
      withCode('ERR_STORE_REFUSED', /another cache writes to it.*open the cache again/),
    );
    await store.close();
    const cache = await open({ recover: 'store' });
    expect(cache.get('a')).toBe('1');
  });

  test('no database', async () => {
    await expect(directories.open(data, { recover: 'store' })).rejects.toEqual(
      withCode('ERR_INVALID_ARGUMENT', /recover: 'store' is for a cache with a database/),
    );
    const away = 'postgres://localhost:1/none';
    await expect(directories.open(data, { recover: 'store', store: away })).rejects.toEqual(
      withCode('ERR_STORE_REFUSED', /cannot begin with the rows of PostgreSQL at localhost:1 .*Nothing was changed/),
    );
    expect(existsSync(data)).toBe(false);
  });
});
