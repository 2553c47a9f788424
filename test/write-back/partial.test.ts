// A directory that can be read only in part, behind which there is a database: the cache does not open, whether the
// database answers or not, and neither is changed. A load would give rows that are older than changes which are lost.

import { readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { beforeEach, expect, test } from 'vitest';
import { makeBackend } from '../../src/backend/index.ts';
import type { Backend, Cache } from '../../src/index.ts';
import { rebuildDirectory } from '../../src/write-back/index.ts';
import { DataDirectories } from '../support/data-directories.ts';
import { withCode } from '../support/errors.ts';
import { rowsIn } from '../support/stored-rows.ts';

const directories = new DataDirectories('partial');
const KEYS = 4000;
let data: string;
let path: string;

beforeEach(async () => {
  data = directories.fresh();
  path = join(directories.fresh(), 'database');
  // In segments of a megabyte: what the database has, what it lacks, a snapshot, and more that it lacks.
  const cache = await open();
  cache.set('written', '1');
  await cache.drain();
  await cache.writeBack.pause();
  for (let i = 0; i < KEYS; i++) await cache.promises.set(`key:${i}`, `${i}`.padEnd(1000), { ack: 'memory' });
  await cache.snapshot();
  for (let i = 0; i < KEYS; i++) await cache.promises.set(`key:${i}`, `${i} later`.padEnd(1000), { ack: 'memory' });
  await cache.sync();
  await cache.close();
});

const open = (store: string | Backend = `lmdb:${path}`): Promise<Cache> =>
  directories.open(data, {
    ...{ store, sync: 'none', maxMemory: '64mb', segmentSize: '1mb', logLimit: '64mb' },
    ...{ snapshot: { every: 0, atClose: false }, writeBack: { delay: 1 } },
  });

async function away(): Promise<Backend> {
  const backend = await makeBackend(`lmdb:${path}`);
  backend.open = async () => {
    throw new Error('the database is down');
  };
  return backend;
}

const rows = (): Promise<Map<string, string>> => rowsIn(`lmdb:${path}`);

const segments = (): string[] => readdirSync(data).filter((name) => name.endsWith('.log'));
const snapshots = (): string[] => readdirSync(data).filter((name) => name.endsWith('.snapshot'));

function filesOf(): Record<string, string> {
  return Object.fromEntries(readdirSync(data).map((name) => [name, readFileSync(join(data, name), 'latin1')]));
}

function damage(name: string): void {
  const bytes = readFileSync(join(data, name));
  const middle = bytes.length >> 1;
  bytes[middle] = bytes[middle]! ^ 0xff;
  writeFileSync(join(data, name), bytes);
}

async function expectRefused(why: RegExp): Promise<void> {
  const files = filesOf();
  for (const store of [await away(), undefined]) {
    await expect(open(store)).rejects.toEqual(withCode('ERR_LOG_CORRUPT', why));
    expect(filesOf()).toEqual(files);
  }
  expect([...(await rows()).keys()]).toEqual(['written']);
}

test('the beginning of the log is gone, though the snapshot has what was resident', async () => {
  for (const name of segments().slice(0, 2)) rmSync(join(data, name));
  await expectRefused(/begins at position \d+, and what its database may lack begins at \d+.*cairn-cache rebuild/);
  // What is left is brought to the database by the command.
  await rebuildDirectory(data, `lmdb:${path}`, () => {});
  const cache = await open();
  await cache.drain();
  const entries = new Map([...cache.entries()] as [string, string][]);
  await cache.close();
  expect(entries.get('key:7')).toBe('7 later'.padEnd(1000));
  expect(await rows()).toEqual(entries);
});

test('a segment that the database needs is damaged, though the snapshot behind it is whole', async () => {
  damage(segments()[1]!);
  await expectRefused(/verify/);
});

test('a segment behind the snapshot is damaged', async () => {
  damage(segments().at(-2)!);
  await expectRefused(/verify/);
});

test('the snapshot is damaged, and the log before it is gone', async () => {
  for (const name of snapshots()) damage(name);
  for (const name of segments().slice(0, 2)) rmSync(join(data, name));
  await expectRefused(/begins at position \d+/);
});

test('a damaged snapshot does no harm where the log has everything', async () => {
  for (const name of snapshots()) damage(name);
  const cache = await open();
  expect(cache.recovery!.unusable.length).toBeGreaterThan(0);
  await cache.drain();
  const entries = new Map([...cache.entries()] as [string, string][]);
  expect(entries.size).toBe(KEYS + 1);
  await cache.close();
  expect(await rows()).toEqual(entries);
});
