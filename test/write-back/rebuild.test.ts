// A database that goes back further than the log is kept: it is refused, and `cairn rebuild` brings all to it that the
// directory has. Then the rows are what the cache has, and the writer goes on.

import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { cpSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { beforeEach, expect, test } from 'vitest';
import { describeRebuilt, rebuildCommand } from '../../src/cli/rebuild.ts';
import type { Cache } from '../../src/index.ts';
import { rebuildDirectory } from '../../src/write-back/index.ts';
import { DataDirectories } from '../support/data-directories.ts';
import { withCode } from '../support/errors.ts';
import { rowsIn } from '../support/stored-rows.ts';

const directories = new DataDirectories('rebuild');
const KEYS = 3000;
let data: string;
let path: string;

beforeEach(() => {
  data = directories.fresh();
  path = join(directories.fresh(), 'database');
});

const open = (): Promise<Cache> =>
  directories.open(data, {
    ...{ store: `lmdb:${path}`, sync: 'none', maxMemory: '64mb', logLimit: '8mb', segmentSize: '1mb' },
    // The log has every delete behind the last snapshot that the test takes.
    ...{ snapshot: { every: 0, atClose: false }, writeBack: { delay: 1, retainBehind: 0 } },
  });

const rows = (): Promise<Map<string, string>> => rowsIn(`lmdb:${path}`);

const entriesOf = (cache: Cache): Map<string, string> => new Map([...cache.entries()] as [string, string][]);

/** The log has forgotten where the database was; returns what the cache has. */
async function goBackTooFar(): Promise<Map<string, string>> {
  const cache = await open();
  for (let i = 0; i < KEYS; i++) cache.set(`key:${i}`, 'first');
  await cache.drain();
  await cache.close();
  const old = `${path}-old`;
  cpSync(path, old, { recursive: true });
  const next = await open();
  for (let round = 0; round < 4; round++) {
    for (let i = 0; i < KEYS; i++) await next.promises.set(`key:${i}`, `${round}`.padEnd(1000), { ack: 'memory' });
    for (let i = 0; i < 100; i++) next.set(`new:${round}:${i}`, 'n');
    await next.drain();
    await next.snapshot();
  }
  for (let i = 1; i < KEYS; i += 50) next.set(`key:${i}`, 'behind the snapshot');
  for (let i = 2; i < KEYS; i += 50) next.delete(`key:${i}`);
  await next.drain();
  const entries = entriesOf(next);
  await next.close();
  rmSync(path, { recursive: true });
  cpSync(old, path, { recursive: true });
  return entries;
}

test('the rows are then what the cache has, and the writer goes on', async () => {
  const entries = await goBackTooFar();
  await expect(open()).rejects.toEqual(
    withCode('ERR_STORE_REFUSED', new RegExp(`gone back .*npx cairn-cache rebuild --data ${data} --store`)),
  );
  const lines: string[] = [];
  const output = {
    ...{ isTerminal: false, write: () => expect.unreachable(), print: (line: string) => lines.push(line) },
    ...{ printError: (line: string) => expect.unreachable(line), setExitCode: () => expect.unreachable() },
  };
  await rebuildCommand(output).parseAsync(['--data', data, '--store', `lmdb:${path}`], { from: 'user' });
  expect(lines[0]).toMatch(/^Rebuilt .*changes of rows/);
  expect(lines[1]).toMatch(/^Not known, because the log begins at position \d+/);
  expect(await rows()).toEqual(entries);
  const cache = await open();
  expect(entriesOf(cache)).toEqual(entries);
  cache.set('key:1', 'later');
  cache.delete('key:3');
  await cache.drain();
  await cache.close();
  const later = new Map(entries).set('key:1', 'later');
  later.delete('key:3');
  expect(await rows()).toEqual(later);
});

test('kill -9 in the middle: the cache is still refused, and the command is run again', async () => {
  const entries = await goBackTooFar();
  for (const batches of [1, 3]) await rebuildAndKill(batches);
  await expect(open()).rejects.toEqual(withCode('ERR_STORE_REFUSED', /gone back/));
  await rebuildDirectory(data, `lmdb:${path}`, () => {});
  expect(await rows()).toEqual(entries);
  const cache = await open();
  await cache.drain();
  await cache.close();
});

test('a database that is not behind the log, or is that of another, is left alone', async () => {
  const cache = await open();
  cache.set('a', '1');
  await cache.drain();
  await cache.close();
  const before = await rows();
  const run = (directory: string): Promise<unknown> => rebuildDirectory(directory, `lmdb:${path}`, () => {});
  await expect(run(data)).rejects.toEqual(withCode('ERR_STORE_REFUSED', /needs no rebuild/));
  const other = directories.fresh();
  await (await directories.open(other)).close();
  await expect(run(other)).rejects.toEqual(withCode('ERR_STORE_REFUSED', /belongs to another log/));
  await expect(run(directories.fresh())).rejects.toEqual(withCode('ERR_INVALID_ARGUMENT', /There is no log in/));
  expect(await rows()).toEqual(before);
});

test('what could not be known is said', () => {
  const rebuilt = { database: 'd', rows: 2, deadLetters: 1, from: 1n, oldest: 5n, snapshotMs: 0 };
  const lines = describeRebuilt({ ...rebuilt, hasCounters: true, hasHistory: true });
  expect(lines).toEqual([
    expect.stringContaining('Rebuilt d: 2 changes'),
    'Refused by the database: 1 change, now dead letters',
    expect.stringContaining('when the snapshot was taken at 1970-01-01'),
    expect.stringContaining('Counters'),
    expect.stringContaining('history'),
  ]);
});

const inner = new URL('../../dist/write-back/rebuild-directory.js', import.meta.url).href;

/** Ends a process that rebuilds with kill -9, when the database has got a number of batches. */
async function rebuildAndKill(batches: number): Promise<void> {
  const program = `
    import { rebuildDirectory } from ${JSON.stringify(inner)};
    let told = 0;
    await rebuildDirectory(${JSON.stringify(data)}, ${JSON.stringify(`lmdb:${path}`)}, () => {
      if (++told === ${batches}) process.kill(process.pid, 'SIGKILL');
    });
  `;
  const child = spawn(process.execPath, ['--input-type=module', '--eval', program], { stdio: 'inherit' });
  const [, signal] = await once(child, 'exit');
  expect(signal).toBe('SIGKILL');
}
