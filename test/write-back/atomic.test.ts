// Atomic batches on their way to a database: never divided between two transactions, refused as a whole, and not to be
// had over a database that cannot keep them whole.

import { expect, test } from 'vitest';
import type { Change } from '../../src/backend/index.ts';
import { handleOf } from '../../src/cache.ts';
import { type Backend, Cache, type WriteBackNotice } from '../../src/index.ts';
import { AtomicBatches } from '../../src/native.ts';
import { DataDirectories } from '../support/data-directories.ts';
import { lmdbOfTests } from '../support/databases-of-tests.ts';
import { withCode } from '../support/errors.ts';
import makeLmdb, { POISON } from '../support/lmdb-backend.mjs';
import { PlainStore, plainBackend } from '../support/plain-backend.ts';

const directories = new DataDirectories('write-back-atomic');
const database = lmdbOfTests();

/** A database that notes the changes of each transaction. */
function noting(transactions: (readonly Change[])[]): Backend {
  const backend = makeLmdb();
  const write = backend.write.bind(backend);
  backend.write = async (batch) => {
    const outcome = await write(batch);
    if (outcome.kind === 'committed' && batch.changes.length > 0) transactions.push(batch.changes);
    return outcome;
  };
  return backend;
}

test('a batch is in one transaction, however few rows one may have, and others share it or not', async () => {
  const transactions: (readonly Change[])[] = [];
  const cache = await directories.open(directories.fresh(), {
    store: noting(transactions),
    writeBack: { maxRows: 2, delay: 0 },
    shards: 8,
  });
  for (let number = 1; number <= 20; number++) {
    cache.set(`alone ${number}`, number);
    const batch = cache.batch();
    for (let i = 0; i < 10; i++) batch.set(`k${i}`, number);
    batch.delete(`alone ${number - 1}`).commit();
    if (number % 4 === 0) await cache.promises.set('x', number);
  }
  await cache.drain();
  await cache.close();
  // A batch has no number that another transaction would know, so it is found by its values.
  let last = 0;
  for (const changes of transactions) {
    const parts = changes.filter(({ atomic }) => atomic !== undefined && true);
    const numbers = new Set(parts.flatMap((change) => (change.kind === 'set' ? [String(change.value)] : [])));
    const keys = parts.filter(({ key }) => key.toString().startsWith('k')).map(({ key }) => key.toString());
    if (parts.length === 0) continue;
    expect([...numbers], 'of one transaction').toHaveLength(1);
    expect(keys.sort()).toEqual(Array.from({ length: 10 }, (_, i) => `k${i}`));
    expect(new Set(parts.map(({ atomic }) => atomic)).size).toBe(1);
    expect(Number([...numbers][0])).toBeGreaterThan(last);
    last = Number([...numbers][0]);
  }
  expect(last).toBe(20);
  const { rows } = await database.read();
  for (let i = 0; i < 10; i++) expect(rows[`k${i}`]).toBe('20');
});

test('one refused value makes dead letters of the whole batch, and the cache answers as it did', async () => {
  const notices: WriteBackNotice[] = [];
  const cache = await directories.open(directories.fresh(), { store: makeLmdb(), writeBack: { delay: 5 } });
  cache.on('write-back', (notice) => notices.push(notice));
  cache.setMany(
    [
      ['a', 'old'],
      ['b', 'old'],
    ],
    { atomic: true },
  );
  await cache.drain();
  cache.batch().set('a', 'new').set('b', POISON.toString()).delete('c').commit();
  cache.set('other', 1);
  await cache.drain();
  expect([cache.get('a'), cache.get('b'), cache.get('other')]).toEqual(['new', 'poison', 1]);
  await cache.close();
  expect((await database.read()).rows).toEqual({ a: 'old', b: 'old', other: '1' });
  const letters = notices.flatMap((notice) => (notice.kind === 'dead-letter' ? [notice.key] : []));
  expect(letters.sort()).toEqual(['a', 'b', 'c']);
});

test('a database of level idempotent has none, by any handle and any door', async () => {
  const store = new PlainStore();
  const cache = await directories.open(directories.fresh(), {
    name: 'idempotent',
    store: plainBackend(store, Date.now),
    writeBack: { delay: 5 },
  });
  using attached = Cache.attach('idempotent');
  const refused = withCode('ERR_INVALID_ARGUMENT', /of level idempotent/);
  for (const handle of [cache, attached]) {
    const batch = handle.batch().set('a', 1);
    expect(() => batch.commit()).toThrow(refused);
    expect(() => handle.setMany([['a', 1]], { atomic: true })).toThrow(refused);
    await expect(handle.promises.batch().set('a', 1).commit()).rejects.toThrow(refused);
    await expect(handle.promises.setMany([['a', 1]], { atomic: true })).rejects.toThrow(refused);
  }
  expect(cache.setMany([['b', 1]])).toEqual(['stored']);
  await cache.drain();
  expect([...store.rows.keys()]).toEqual(['b']);
});

test('until the database is known a batch is refused, and may be tried again', async () => {
  const cache = await directories.open(directories.fresh(), { store: makeLmdb() });
  const handle = handleOf(cache as Cache<never>);
  handle.setAtomicBatches(AtomicBatches.unknown);
  const batch = cache.batch().set('a', 1);
  expect(() => batch.commit()).toThrow(withCode('ERR_NOT_READY', /not known yet/));
  handle.setAtomicBatches(AtomicBatches.allowed);
  batch.commit();
  expect(cache.get('a')).toBe(1);
});
