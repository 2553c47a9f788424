// A cache with a database that is opened on a full disk: the log has no room for the entry by which the writer claims
// the database, until there is room.

import { execFileSync } from 'node:child_process';
import { closeSync, mkdirSync, openSync, rmSync, writeSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeEach, expect, test } from 'vitest';
import type { Cache } from '../../src/index.ts';
import { DataDirectories, endThread, keeperOf } from '../support/data-directories.ts';
import { skipUnless } from '../support/skip.ts';
import { rowsIn } from '../support/stored-rows.ts';

const directories = new DataDirectories('full-disk');
const mountPoint = join(directories.root, 'small disk');
let isMounted = false;
try {
  mkdirSync(mountPoint);
  execFileSync('mount', ['-t', 'tmpfs', '-o', 'size=8m', 'tmpfs', mountPoint], { stdio: 'ignore' });
  isMounted = true;
} catch {
  // Not root, or not Linux: the tests below say so.
}
afterAll(() => {
  if (isMounted) execFileSync('umount', ['-l', mountPoint]);
});

const filler = join(mountPoint, 'filler');
let data: string;
let store: string;

beforeEach(() => {
  data = join(mountPoint, 'log');
  store = `lmdb:${directories.fresh()}`;
});

const open = (): Promise<Cache<string>> =>
  directories.open<string>(data, { store, snapshot: { atClose: false }, writeBack: { delay: 1 } });

function fill(): void {
  const file = openSync(filler, 'w');
  try {
    for (const block = Buffer.alloc(4096); ; ) writeSync(file, block);
  } catch (error) {
    expect(error).toMatchObject({ code: 'ENOSPC' });
  } finally {
    closeSync(file);
  }
}

/** A cache that was opened when its log had no room for the entry. */
async function openedOnFullDisk(): Promise<Cache<string>> {
  const first = await open();
  first.set('first', '1');
  await first.drain();
  await first.close();
  fill();
  const cache = await open();
  expect(cache.get('first')).toBe('1');
  expect(cache.stats().writeBack).toMatchObject({ state: 'halted' });
  return cache;
}

async function goesOn(cache: Cache<string>): Promise<void> {
  rmSync(filler);
  cache.set('second', '2');
  await cache.drain();
  expect(cache.stats().writeBack).toMatchObject({ state: 'writing' });
  await cache.close();
  const again = await open();
  again.set('third', '3');
  await again.drain();
  await again.close();
  expect(await rowsIn(store)).toEqual(new Map(Object.entries({ first: '1', second: '2', third: '3' })));
  rmSync(data, { recursive: true });
}

skipUnless(isMounted, 'needs a small tmpfs, which only root can mount', 'platform').describe('a full disk', () => {
  test('opens the cache with its writer halted, which goes on when there is room', async () => {
    await goesOn(await openedOnFullDisk());
  });

  test('whose log the next thread of the process writes, after the death of the one that had no room', async () => {
    const cache = await openedOnFullDisk();
    cache.on('log', () => {
      // It tells of the death.
    });
    await endThread(keeperOf(cache));
    await goesOn(cache);
  });
});
