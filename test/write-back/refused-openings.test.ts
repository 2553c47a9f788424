// An opening that is refused because of a database leaves the directory as it was: the options of before open it again,
// with every change in its place.

import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { beforeEach, describe, expect, test } from 'vitest';
import type { Cache, CacheOptions } from '../../src/index.ts';
import { EmbeddedLog } from '../../src/log/index.ts';
import { lockByAddon } from '../../src/native/directory-lock.ts';
import { DataDirectories, patiently } from '../support/data-directories.ts';
import { withCode } from '../support/errors.ts';
import { PlainStore, plainBackend } from '../support/plain-backend.ts';

const directories = new DataDirectories('refused-openings');
const RULES = [{ prefix: 'session:', store: 'sessions' }];
/** With changes that are not in the database when the cache is ended. */
const LATE: CacheOptions = { writeBack: { delay: '1h' } };

let data: string;
/** A path at which no file of LMDB can be. */
let bad: string;
let store: PlainStore;

beforeEach(() => {
  data = directories.fresh();
  const folder = directories.fresh();
  mkdirSync(folder, { recursive: true });
  bad = join(folder, 'garbage');
  writeFileSync(bad, Buffer.alloc(100_000, 7));
  store = new PlainStore();
});

const open = (given: CacheOptions = {}): Promise<Cache> =>
  directories.open(data, { store: plainBackend(store, Date.now), writeBack: { delay: 1 }, ...given });

/** What the directory has of its readers. */
function kept(): { cursors: string[]; rules: string | undefined } {
  const log = EmbeddedLog.look({ directory: data, lockDirectory: lockByAddon });
  const cursors = [...log.cursors().keys()].sort();
  log.close();
  try {
    return { cursors, rules: readFileSync(join(data, 'store-rules.json'), 'utf8') };
  } catch {
    return { cursors, rules: undefined };
  }
}

const rows = (of = store): Record<string, string> =>
  Object.fromEntries([...of.rows].map(([key, { value }]) => [key, String(value)]));

const unfit = withCode('ERR_BACKEND_UNFIT', /is not a file of LMDB/);

describe('an opening that is refused', () => {
  const added = (): CacheOptions => ({ stores: { sessions: `lmdb:${bad}` }, rules: RULES });

  test('of one store more leaves the directory to the options of before, and may come later', async () => {
    const first = await open();
    first.set('order:1', 'book');
    first.set('session:1', 'ada');
    await first.close();
    const before = kept();
    await expect(open(added())).rejects.toEqual(unfit);
    expect(kept()).toEqual(before);
    const again = await open();
    again.set('order:2', 'pen');
    await again.close();
    expect(rows()).toEqual({ 'order:1': 'book', 'session:1': 'ada', 'order:2': 'pen' });
    const sessions = new PlainStore();
    const later = await open({ ...added(), stores: { sessions: plainBackend(sessions, Date.now) } });
    later.set('session:2', 'bob');
    await later.drain();
    expect([rows(sessions), rows()]).toEqual([
      { 'session:1': 'ada', 'session:2': 'bob' },
      { 'order:1': 'book', 'session:1': 'ada', 'order:2': 'pen' },
    ]);
  });

  test('of one store more loses nothing that the first one lacks', async () => {
    const first = await open(LATE);
    first.set('order:1', 'book');
    await first.destroy();
    const before = kept();
    await expect(open({ ...LATE, ...added() })).rejects.toEqual(unfit);
    expect(kept()).toEqual(before);
    const again = await open();
    expect(again.get('order:1')).toBe('book');
    await again.drain();
    expect(rows()).toEqual({ 'order:1': 'book' });
  });

  test('of one store more does so if the rules are what is refused, or its module is not there', async () => {
    const first = await open(LATE);
    first.set('session:1', 'ada');
    await first.destroy();
    const before = kept();
    await expect(open(added())).rejects.toEqual(withCode('ERR_STORE_REFUSED', /under no rule/));
    expect(kept()).toEqual(before);
    await (await open()).close();
    const missing = { stores: { sessions: join(data, 'missing.mjs') }, rules: RULES };
    await expect(open(missing)).rejects.toThrow(/missing\.mjs/);
    expect(kept()).toEqual({ ...before, cursors: ['history of store', 'store'] });
    await (await open()).close();
    expect(rows()).toEqual({ 'session:1': 'ada' });
  });

  test('of the first store leaves a log without any', async () => {
    const first = await directories.open(data, {});
    first.set('order:1', 'book');
    await first.close();
    await expect(directories.open(data, { store: `lmdb:${bad}` })).rejects.toEqual(unfit);
    expect(kept()).toEqual({ cursors: [], rules: undefined });
    const again = await directories.open(data, {});
    expect(again.get('order:1')).toBe('book');
  });

  test('of one store less leaves the cursor of the one that is taken away', async () => {
    const sessions = new PlainStore();
    const both = (): CacheOptions => ({ stores: { sessions: plainBackend(sessions, Date.now) }, rules: RULES });
    const first = await open(both());
    first.set('session:1', 'ada');
    await first.close();
    const before = kept();
    expect(before.cursors).toContain('store:sessions');
    await expect(open({ store: `lmdb:${bad}` })).rejects.toEqual(unfit);
    expect(kept()).toEqual(before);
    const again = await open(both());
    again.set('session:2', 'bob');
    await again.drain();
    expect([rows(sessions), rows()]).toEqual([{ 'session:1': 'ada', 'session:2': 'bob' }, {}]);
  });

  test('while the databases get what memory has no room for keeps the rules of before', async () => {
    const first = await open({ maxMemory: '64mb', sync: 'none' });
    await first.writeBack.pause();
    const keyOf = (i: number): string => `order:${i}:`.padEnd(230, 'k');
    for (let i = 0; i < 24_000; i++) await patiently(first, () => first.set(keyOf(i), 'book'));
    await first.close();
    const before = kept();
    const small: CacheOptions = { maxMemory: '4mb', shards: 2, sync: 'none' };
    await expect(open({ ...small, ...added() })).rejects.toEqual(unfit);
    expect(kept()).toEqual(before);
    await (await open({ maxMemory: '64mb' })).close();
    expect(store.rows.size).toBe(24_000);
  });
});
