// What an opening says of the changes that the database did not have when the cache ended.

import { join } from 'node:path';
import { expect, test } from 'vitest';
import { describeOwed } from '../../src/cli/serve-store.ts';
import type { Cache } from '../../src/index.ts';
import { DataDirectories } from '../support/data-directories.ts';

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
