import { closeSync, openSync, rmSync, writeSync } from 'node:fs';
import { join } from 'node:path';
import { beforeEach, expect, test } from 'vitest';
import type { Cache } from '../../src/index.ts';
import { DataDirectories, endThread, keeperOf } from '../support/data-directories.ts';
import { smallDisk } from '../support/small-disk.ts';
import { rowsIn } from '../support/stored-rows.ts';

const directories = new DataDirectories('full-disk');
const small = smallDisk(join(directories.root, 'small disk'));

const filler = join(small.path, 'filler');
let data: string;
let store: string;

beforeEach(() => {
  data = join(small.path, 'log');
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

small.condition.describe('a full disk', () => {
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
