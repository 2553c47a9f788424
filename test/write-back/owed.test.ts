// What an opening says of the changes that the database did not have when the cache ended.

import { join } from 'node:path';
import { expect, test } from 'vitest';
import { describeOwed } from '../../src/cli/serve-store.ts';
import type { Cache } from '../../src/index.ts';
import { DataDirectories } from '../support/data-directories.ts';
import { PlainStore, plainBackend } from '../support/plain-backend.ts';

const directories = new DataDirectories('owed');

test('the number of changes is there until the database has them', async () => {
  const data = directories.fresh();
  const store = `lmdb:${join(directories.fresh(), 'database')}`;
  const open = (): Promise<Cache> => directories.open(data, { store });
  const first = await open();
  expect(first.recovery!.owed).toBe(0);
  first.set('before', '1');
  await first.drain();
  await first.writeBack.pause();
  first.set('a', '1');
  first.set('a', '2');
  first.delete('before');
  first.touch('a', '1h');
  first.clear();
  await first.close();
  const second = await open();
  expect(second.recovery!.owed).toBe(4);
  await second.drain();
  await second.close();
  const third = await open();
  expect(third.recovery!.owed).toBe(0);
  await third.close();
  const begun = await directories.open(data, { store, recover: 'none' });
  expect(begun.recovery!.owed).toBe(0);
  await begun.close();
});

test('serve says how many they are', () => {
  expect(describeOwed(1)).toBe('1 change of the last run is not known to be in the database, and is written now');
  expect(describeOwed(2000)).toContain('2,000 changes of the last run are');
});

// A load leaves no record. A snapshot has its value with a version that no record has, which must not say that the
// database has the record whose value it is.
test('what was loaded before the database went back is owed to it, also from a snapshot', async () => {
  const data = directories.fresh();
  const database = new PlainStore();
  let isHeld = false;
  const open = (): Promise<Cache> => {
    const backend = plainBackend(database, Date.now);
    const { write } = backend;
    backend.write = (batch) => (isHeld && batch.changes.length > 0 ? new Promise(() => {}) : write(batch));
    return directories.open(data, { store: backend, writeBack: { delay: 1 } });
  };
  const first = await open();
  first.set('key', 'old');
  await first.drain();
  const [rows, cursors] = [new Map(database.rows), new Map(database.cursors)];
  first.set('key', 'new');
  await first.drain();
  first.evict('key');
  expect(await first.promises.get('key')).toBe('new');
  isHeld = true;
  for (const [name, row] of rows) database.rows.set(name, row);
  for (const [lane, cursor] of cursors) database.cursors.set(lane, cursor);
  // Its load finds out. The log's own cursor goes back, and nothing more reaches the database.
  first.promises.get('another').catch(() => {});
  await expect.poll(() => first.stats().writeBack!.state, { timeout: 10_000 }).toBe('healing');
  await first.snapshot();
  await first.close({ timeout: '1s' });
  const second = await open();
  expect(second.recovery!.snapshot).toBeDefined();
  expect(second.recovery!.owed).toBe(1);
  second.evict('key');
  expect(await second.promises.get('key')).toBe('new');
  isHeld = false;
  await second.close({ timeout: '1s' });
  const third = await open();
  await third.drain();
  expect(database.rows.get('key')!.value.toString()).toBe('new');
  await third.close();
});
