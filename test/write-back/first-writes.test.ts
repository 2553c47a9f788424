// More keys that the database does not have than memory has room for at opening: the database gets them first, each
// change once, whatever fails in between; and nothing is lost of a cache that cannot be opened.

import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { readdirSync, readFileSync, statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { beforeEach, describe, expect, test } from 'vitest';
import type { Backend, Cache, CacheOptions, RecoveryProgress } from '../../src/index.ts';
import { DataDirectories, patiently } from '../support/data-directories.ts';
import { lmdbOfTests } from '../support/databases-of-tests.ts';
import { withCode } from '../support/errors.ts';
import { LMDB_MODULE, type LmdbContent } from '../support/lmdb.ts';
import { PlainStore, plainBackend } from '../support/plain-backend.ts';
import { POSTGRES_MISSING, PostgresServer, postgresPrograms } from '../support/postgres.ts';
import { skipUnless } from '../support/skip.ts';

const KEYS = 24_000;
/** Long, so that stubs take more than the memory of SMALL. */
const keyOf = (i: number): string => `key-${i}-`.padEnd(230, 'k');
const SMALL: CacheOptions = { maxMemory: '4mb', shards: 2 };

const directories = new DataDirectories('first-writes');
const database = lmdbOfTests();
let data: string;
beforeEach(() => {
  data = directories.fresh();
});

function open(options: CacheOptions): Promise<Cache> {
  return directories.open(data, { store: LMDB_MODULE, sync: 'none', ...options });
}

/** A log of changes that the database does not have: of each key a set; of some a second one, a delete or a touch. */
async function owe(options: CacheOptions = {}): Promise<void> {
  const cache = await open({ maxMemory: '128mb', shards: 4, ...options });
  await cache.writeBack.pause();
  for (let i = 0; i < KEYS; i++) await patiently(cache, () => cache.set(keyOf(i), `${i}`));
  for (let i = 0; i < KEYS; i += 3) await patiently(cache, () => cache.set(keyOf(i), `${i} again`));
  for (let i = 1; i < KEYS; i += 3) await patiently(cache, () => cache.delete(keyOf(i)));
  for (let i = 2; i < KEYS; i += 6) await patiently(cache, () => cache.touch(keyOf(i), '1h'));
  await cache.close();
}

const valueOf = (i: number): string | undefined => [`${i} again`, undefined, `${i}`][i % 3];

/** The rows are the changes, and no change has had an effect twice. */
function expectWhole({ rows, expiries, history }: LmdbContent): void {
  for (let i = 0; i < KEYS; i++) expect(rows[keyOf(i)]).toBe(valueOf(i));
  for (let i = 2; i < KEYS; i += 6) expect(expiries[keyOf(i)]).toBeGreaterThan(Date.now());
  expect(new Set(history).size).toBe(history.length);
}

const filesOf = (directory: string): Record<string, string> =>
  Object.fromEntries(readdirSync(directory).map((name) => [name, readFileSync(join(directory, name), 'latin1')]));

describe('a memory that is too small for what the database lacks', () => {
  test('the database gets it first, with progress and a notice, and every key is there', async () => {
    await owe();
    expect((await database.read()).history).toEqual([]);
    const progress: RecoveryProgress[] = [];
    const cache = await open({ ...SMALL, onRecovery: (each) => progress.push(each) });
    const written = progress.filter(({ source }) => source === 'write-back');
    expect(written.length).toBeGreaterThan(2);
    for (const { bytes, bytesTotal, problem } of written) {
      expect(bytes).toBeLessThanOrEqual(bytesTotal);
      expect(problem).toBeUndefined();
    }
    const [notice, ...others] = cache.recovery!.notices.filter(({ kind }) => kind === 'written-first');
    expect(others).toEqual([]);
    expect(notice).toMatchObject({ records: expect.any(Number), deadLetters: 0 });
    for (let i = 0; i < KEYS; i += 97) expect(await cache.promises.get(keyOf(i))).toBe(valueOf(i));
    await cache.drain();
    await cache.close();
    expectWhole(await database.read());
  });

  test('a value that the database refuses is a dead letter, and the others are there', async () => {
    const before = await open({});
    await before.writeBack.pause();
    before.set('first', 'poison');
    await before.close();
    await owe();
    const cache = await open(SMALL);
    expect(cache.recovery!.notices).toContainEqual(expect.objectContaining({ kind: 'written-first', deadLetters: 1 }));
    await cache.drain();
    await cache.close();
    expectWhole(await database.read());
  });

  test('kill -9 in the middle, again and again: each change has its effect once', async () => {
    await owe();
    let effects = 0;
    for (const batches of [1, 2, 5]) {
      await openAndKill(batches);
      const { length } = (await database.read()).history;
      expect(length).toBeGreaterThan(effects);
      effects = length;
    }
    const cache = await open(SMALL);
    await cache.drain();
    await cache.close();
    expectWhole(await database.read());
  });

  test('a database that is down at first is waited for, and the progress says why', async () => {
    await owe();
    let fails = 4;
    const problems = new Set<string | undefined>();
    const backend = await failing(() => fails-- > 0);
    const onRecovery = ({ problem }: RecoveryProgress): unknown => problems.add(problem);
    const cache = await open({ ...SMALL, store: backend, onRecovery: onRecovery as CacheOptions['onRecovery'] & {} });
    expect([...problems]).toContain('the database is down');
    await cache.drain();
    await cache.close();
    await backend.close();
  });

  test('a database that is not the log’s is refused, and neither log nor database is changed', async () => {
    await owe();
    database.remove();
    database.make();
    const other = directories.fresh();
    const theirs = await directories.open(other, { store: LMDB_MODULE });
    theirs.set('a', '1');
    await theirs.drain();
    await theirs.close();
    const [files, rows] = [filesOf(data), await database.read()];
    await expect(open(SMALL)).rejects.toEqual(withCode('ERR_STORE_REFUSED', /belongs to another log/));
    expect(filesOf(data)).toEqual(files);
    expect(await database.read()).toEqual(rows);
  });

  test('other rules, by which changes would go elsewhere, are refused before the database gets any', async () => {
    await owe({ rules: [{ prefix: 'other:', skip: true }] });
    const refused = open({ ...SMALL, rules: [{ prefix: 'key-', skip: true }] });
    await expect(refused).rejects.toEqual(withCode('ERR_STORE_REFUSED', /the rules that are given/));
    expect((await database.read()).history).toEqual([]);
  });

  test('a log that is damaged further on is refused, and neither is changed', async () => {
    await owe({ segmentSize: '1mb' });
    const segments = readdirSync(data).filter((name) => name.endsWith('.log'));
    const full = segments.sort().filter((name) => statSync(join(data, name)).size > 500_000);
    // Not the last: its end counts as torn.
    const damaged = join(data, full.at(-2)!);
    const bytes = readFileSync(damaged);
    bytes[250_000] = bytes[250_000]! ^ 0xff;
    writeFileSync(damaged, bytes);
    const files = filesOf(data);
    await expect(open(SMALL)).rejects.toEqual(withCode('ERR_LOG_CORRUPT', /verify/));
    expect(filesOf(data)).toEqual(files);
    expect((await database.read()).history).toEqual([]);
  });
});

skipUnless(postgresPrograms, POSTGRES_MISSING)(
  'PostgreSQL that is down when the cache is opened, and comes back',
  async () => {
    const server = await PostgresServer.start();
    try {
      const store = server.url();
      await owe({ store });
      await server.crash();
      let isBack: Promise<void> | undefined;
      const onRecovery = ({ problem }: RecoveryProgress): void => {
        if (problem !== undefined) isBack ??= server.run();
      };
      const cache = await open({ ...SMALL, store, onRecovery });
      await isBack;
      for (let i = 0; i < KEYS; i += 97) expect(await cache.promises.get(keyOf(i))).toBe(valueOf(i));
      await cache.drain();
      await cache.close();
      const [counted] = await server.query('SELECT count(*)::int AS rows FROM cairn_entries');
      expect(counted).toEqual({ rows: (KEYS * 2) / 3 });
    } finally {
      await server.stop();
    }
  },
  60_000,
);

test('a database that goes back before the cache is open answers no load until it has again what it had', async () => {
  const store = new PlainStore();
  await owe({ store: plainBackend(store, Date.now) });
  const backend = plainBackend(store, Date.now);
  const [write, read, load] = [backend.write, backend.readCursors, backend.load];
  let back: (() => void) | undefined;
  let release: () => void = () => {};
  let held = Promise.resolve();
  let reads = 0;
  let loads = 0;
  backend.write = async (batch) => {
    await held;
    const outcome = await write(batch);
    const [rows, cursors] = [new Map(store.rows), new Map(store.cursors)];
    if (batch.changes.length === 0) return outcome;
    back ??= () => {
      store.rows.clear();
      store.cursors.clear();
      for (const [key, row] of rows) store.rows.set(key, row);
      for (const [lane, cursor] of cursors) store.cursors.set(lane, cursor);
    };
    return outcome;
  };
  backend.readCursors = async () => {
    // Twice by the writer before the cache is open, with its claim between; then by that of the open cache.
    if (++reads === 3) {
      back!();
      held = new Promise((resolve) => {
        release = resolve;
      });
    }
    return read();
  };
  backend.load = (keys) => {
    loads++;
    return load(keys);
  };
  const cache = await open({ ...SMALL, store: backend, writeBack: { maxRows: 300 } });
  const isGone = (i: number): boolean => valueOf(i) !== undefined && !store.rows.has(keyOf(i)) && isUnknown(cache, i);
  const gone = Array.from({ length: KEYS }, (_, i) => i).find(isGone)!;
  expect(gone).toBeDefined();
  const got = cache.promises.get(keyOf(gone));
  await expect.poll(() => loads, { timeout: 30_000 }).toBeGreaterThan(1);
  release();
  expect(await got).toBe(valueOf(gone));
  await cache.close();
}, 60_000);

/** Memory has neither the entry nor a stub. */
function isUnknown(cache: Cache, i: number): boolean {
  try {
    return !cache.has(keyOf(i));
  } catch {
    return false;
  }
}

/** The database of the test, which is down while `isDown` says so, as it is asked at each opening. */
async function failing(isDown: () => boolean): Promise<Backend> {
  const { default: make } = (await import(LMDB_MODULE)) as { default: () => Promise<Backend> | Backend };
  const backend = await make();
  const open = backend.open.bind(backend);
  backend.open = async () => {
    if (isDown()) throw new Error('the database is down');
    await open();
  };
  backend.classify = () => 'transient';
  return backend;
}

const library = new URL('../../dist/index.js', import.meta.url).href;

/** Ends a process that opens the cache with kill -9: the database has the last of some batches, without an answer. */
async function openAndKill(batches: number): Promise<void> {
  const program = `
    import { Cache } from ${JSON.stringify(library)};
    import makeBackend from ${JSON.stringify(LMDB_MODULE)};
    const store = makeBackend();
    const write = store.write.bind(store);
    let batches = 0;
    store.write = async (batch) => {
      const outcome = await write(batch);
      if (batch.changes.length > 0 && ++batches === ${batches}) process.kill(process.pid, 'SIGKILL');
      return outcome;
    };
    const options = ${JSON.stringify({ ...SMALL, data, sync: 'none', writeBack: { maxRows: 300 } })};
    await Cache.open({ ...options, store });
    console.error('It has opened');
  `;
  const child = spawn(process.execPath, ['--input-type=module', '--eval', program], { stdio: 'inherit' });
  const [, signal] = await once(child, 'exit');
  expect(signal).toBe('SIGKILL');
}
