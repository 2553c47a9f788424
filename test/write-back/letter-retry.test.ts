// Dead letters that are tried again, over SQLite: in one process, from another thread, on the command line, and by
// processes that are killed at each step.

import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { beforeEach, describe, expect, test } from 'vitest';
import { handleOf } from '../../src/cache.ts';
import { deadLettersCommand } from '../../src/cli/dead-letters.ts';
import type { Cache, CacheOptions, RetriedDeadLetter } from '../../src/index.ts';
import type { RetryHandle } from '../../src/native.ts';
import { RuleSet } from '../../src/rules/index.ts';
import { LetterRetry, type RetriedLetters } from '../../src/write-back/letter-retry.ts';
import { laneOf } from '../../src/write-back/share.ts';
import { DataDirectories } from '../support/data-directories.ts';
import { withCode } from '../support/errors.ts';
import { startCli, startServe } from '../support/serve-process.ts';
import { skipUnless } from '../support/skip.ts';
import { hasSqlite, SqliteFile } from '../support/sqlite-file.ts';
import { startThread } from '../support/threads.ts';

const directories = new DataDirectories('letter-retry');
const UNBUILT = 'there is no package for SQLite (npm rebuild better-sqlite3)';

skipUnless(hasSqlite, UNBUILT).describe('with SQLite', () => {
  let database: SqliteFile;
  let data: string;
  beforeEach(() => {
    database = new SqliteFile(directories.fresh());
    data = directories.fresh();
  });

  const open = (options: CacheOptions = {}): Promise<Cache<string>> =>
    directories.open(data, { store: database.url, writeBack: { delay: 5 }, ...options });

  /** A cache whose database refuses values. */
  async function refusing(options?: CacheOptions): Promise<Cache<string>> {
    const cache = await open(options);
    await database.refuse();
    return cache;
  }

  const outcomes = (retried: readonly RetriedDeadLetter[]): string[] => retried.map(({ outcome }) => outcome);
  const keysOf = async (cache: Cache<string>): Promise<string[]> =>
    (await cache.writeBack.deadLetters()).map(
      ({ change, isSuperseded }) => `${change.key}${isSuperseded ? ' old' : ''}`,
    );

  /** Another program makes the row of a key hold a text. */
  const setRow = (key: string, text: string): Promise<void> =>
    database.run(`UPDATE cairn_entries SET value = CAST('${text}' AS BLOB) WHERE key = CAST('${key}' AS BLOB)`);

  /** Tries all letters, and does something when the database is asked for the first of them, behind the drain. */
  function retryWith(cache: Cache<string>, meanwhile: () => unknown): Promise<RetriedDeadLetter[]> {
    let isDone = false;
    const letters: RetriedLetters = {
      async list(limit, after = 0n) {
        const found = await cache.writeBack.deadLetters({ limit, after });
        if (limit === 1 && !isDone) {
          isDone = true;
          await meanwhile();
        }
        return found;
      },
      drop: (ids) => cache.writeBack.dropDeadLetters(ids),
      addAgain: async () => undefined,
    };
    const retry = new LetterRetry({
      ...{ letters, rules: undefined, drain: () => cache.drain(), wallMs: Date.now },
      handle: handleOf(cache as Cache<never>) as unknown as RetryHandle,
      load: async (key) => void (await cache.promises.get(key)),
    });
    return retry.run('all');
  }

  test('a set is written with its expiry when the database takes it, and the letter is gone', async () => {
    const cache = await refusing();
    cache.set('a', 'refused', { ttl: '1h' });
    cache.set('b', 'refused');
    cache.set('c', 'fine');
    await cache.drain();
    expect(await database.rows()).toEqual({ c: 'fine' });
    const [first] = await cache.writeBack.deadLetters();
    await database.allow();
    const version = cache.info('a')!.cas;
    const retried = await cache.writeBack.retryDeadLetters([first!.id]);
    expect(retried).toEqual([{ id: first!.id, outcome: 'retried', reason: undefined }]);
    expect(JSON.stringify(retried)).toContain(`"${first!.id}"`);
    expect(await database.rows()).toEqual({ a: 'refused', c: 'fine' });
    const [row] = await database.query("SELECT expires_ms FROM cairn_entries WHERE key = CAST('a' AS BLOB)");
    expect(Math.abs(Number(row!['expires_ms']) - Date.now() - 3_600_000)).toBeLessThan(60_000);
    expect(cache.info('a')!.cas).toBeGreaterThan(version);
    expect(await keysOf(cache)).toEqual(['b']);
    expect(outcomes(await cache.writeBack.retryDeadLetters('all'))).toEqual(['retried']);
    expect(await keysOf(cache)).toEqual([]);
    expect(await cache.writeBack.retryDeadLetters([first!.id])).toMatchObject([{ outcome: 'not-found' }]);
    expect(await cache.writeBack.retryDeadLetters('all')).toEqual([]);
  });

  test('a drain of keys tells of what was refused before, until it is superseded, dropped or tried again', async () => {
    const cache = await refusing();
    const refused = withCode('ERR_DEAD_LETTER', /^Cannot drain "a.*": the database has refused the change for good: /);
    for (const key of ['a', 'a2', 'a3', 'fine']) cache.set(key, key === 'fine' ? 'fine' : 'refused');
    await cache.drain();
    const check = async (...keys: string[]): Promise<void> => {
      for (const key of keys) await expect(cache.drain({ keys: ['none', key] }), key).rejects.toEqual(refused);
    };
    await check('a', 'a2', 'a3');
    for (const key of ['a', 'a2']) cache.evict(key);
    await expect(cache.drain({ keys: [Buffer.from('a')] })).rejects.toEqual(withCode('ERR_DEAD_LETTER'));
    await check('a2');
    await cache.drain({ keys: ['fine', 'none'] });
    cache.set('a', 'fine');
    await cache.drain({ keys: ['a'] });
    const [, second] = await cache.writeBack.deadLetters();
    await cache.writeBack.dropDeadLetters([second!.id]);
    await cache.drain({ keys: ['a2'] });
    // A touch of a change that was refused does not have it written.
    cache.touch('a3', '1h');
    await check('a3');
    await database.allow();
    await cache.writeBack.retryDeadLetters('all');
    await cache.drain({ keys: ['a', 'a2', 'a3', 'fine'] });
  });

  test('a drain of keys finds a dead letter behind many others, also from another life of the cache', async () => {
    const first = await refusing();
    for (let i = 0; i < 100; i++) first.set(`k${i}`, 'refused');
    await first.drain();
    await first.close();
    const cache = await open();
    await expect(cache.drain({ keys: ['k99'] })).rejects.toEqual(withCode('ERR_DEAD_LETTER', /"k99"/));
    await cache.drain({ keys: ['k100'] });
  });

  test('a value that has left memory is written too', async () => {
    const cache = await refusing();
    cache.set('a', 'refused');
    await cache.drain();
    cache.evict('a');
    await database.allow();
    expect(outcomes(await cache.writeBack.retryDeadLetters('all'))).toEqual(['retried']);
    expect(await database.rows()).toEqual({ a: 'refused' });
    expect(cache.get('a')).toBe('refused');
  });

  test('a set that is refused again is a new dead letter, and the old one is gone', async () => {
    const cache = await refusing();
    cache.set('a', 'refused');
    await cache.drain();
    const [before] = await cache.writeBack.deadLetters();
    expect(await cache.writeBack.retryDeadLetters('all')).toMatchObject([
      { id: before!.id, outcome: 'refused', reason: expect.stringContaining('refused') },
    ]);
    const [after, ...more] = await cache.writeBack.deadLetters();
    expect(more).toEqual([]);
    expect(after!.id).toBeGreaterThan(before!.id);
    expect(after).toMatchObject({ isSuperseded: false, change: { value: Buffer.from('refused') } });
    expect(cache.get('a')).toBe('refused');
  });

  test('a later change wins, whenever it was made', async () => {
    const cache = await refusing();
    for (const key of ['a', 'b']) cache.set(key, 'refused');
    await cache.drain();
    await database.allow();
    cache.set('a', 'newer');
    const [a, b] = await cache.writeBack.deadLetters();
    expect(await cache.writeBack.retryDeadLetters([a!.id])).toMatchObject([{ outcome: 'superseded' }]);
    const retried = await retryWith(cache, () => cache.set('b', 'newest'));
    expect(retried).toMatchObject([{ id: b!.id, outcome: 'superseded' }]);
    expect(await database.rows()).toEqual({ a: 'newer', b: 'newest' });
    expect(await keysOf(cache)).toEqual(['a old', 'b old']);
  });

  test('a delete that comes meanwhile wins, and a clear, which changes no row, does not', async () => {
    const cache = await refusing();
    cache.set('a', 'refused');
    await cache.drain();
    await database.allow();
    expect(outcomes(await retryWith(cache, () => cache.delete('a')))).toEqual(['superseded']);
    expect(await database.rows()).toEqual({});
    await database.refuse();
    cache.set('b', 'refused');
    await cache.drain();
    await database.allow();
    expect(outcomes(await retryWith(cache, () => cache.clear()))).toEqual(['retried']);
    expect(await database.rows()).toEqual({ b: 'refused' });
  });

  test('a touch that comes meanwhile counts', async () => {
    const cache = await refusing();
    cache.set('a', 'refused', { ttl: '1h' });
    await cache.drain();
    await database.allow();
    expect(outcomes(await retryWith(cache, () => cache.touch('a', '10h')))).toEqual(['retried']);
    const [row] = await database.query('SELECT expires_ms FROM cairn_entries');
    expect(Math.abs(Number(row!['expires_ms']) - Date.now() - 36_000_000)).toBeLessThan(60_000);
  });

  test('deletes and touches are tried again, the touch of a value that has left memory too', async () => {
    const cache = await open();
    for (const key of ['delete', 'touch', 'away']) cache.set(key, 'refused');
    await cache.drain();
    await database.refuse();
    cache.delete('delete');
    cache.touch('touch', '1h');
    cache.touch('away', '2h');
    await cache.drain();
    cache.evict('away');
    expect(await keysOf(cache)).toEqual(expect.arrayContaining(['delete', 'touch', 'away']));
    await database.allow();
    expect(outcomes(await cache.writeBack.retryDeadLetters('all'))).toEqual(['retried', 'retried', 'retried']);
    const rows = await database.query('SELECT key, expires_ms FROM cairn_entries ORDER BY key');
    expect(rows.map(({ key }) => String(key))).toEqual(['away', 'touch']);
    const hours = rows.map((row) => Math.round((Number(row['expires_ms']) - Date.now()) / 3_600_000));
    expect(hours).toEqual([2, 1]);
    expect(await keysOf(cache)).toEqual([]);
  });

  test('a touch that was refused does not undo one that comes meanwhile', async () => {
    const cache = await open();
    cache.set('a', 'refused');
    await cache.drain();
    await database.refuse();
    cache.touch('a', '1h');
    await cache.drain();
    expect(await keysOf(cache)).toEqual(['a']);
    await database.allow();
    expect(outcomes(await retryWith(cache, () => cache.touch('a', '10h')))).toEqual(['superseded']);
    const [row] = await database.query('SELECT expires_ms FROM cairn_entries');
    expect(Math.abs(Number(row!['expires_ms']) - Date.now() - 36_000_000)).toBeLessThan(60_000);
    expect(Math.abs(cache.getRemainingTTL('a') - 36_000_000)).toBeLessThan(60_000);
  });

  test('a touch of a value that has left memory by then counts too', async () => {
    const cache = await refusing();
    cache.set('a', 'refused', { ttl: '1h' });
    await cache.drain();
    await database.allow();
    const touchAndEvict = (): void => {
      cache.touch('a', '10h');
      cache.evict('a');
    };
    expect(outcomes(await retryWith(cache, touchAndEvict))).toEqual(['retried']);
    const [row] = await database.query('SELECT expires_ms FROM cairn_entries');
    expect(Math.abs(Number(row!['expires_ms']) - Date.now() - 36_000_000)).toBeLessThan(60_000);
  });

  test('an atomic batch is tried again as a whole, without the parts that a later change has superseded', async () => {
    const cache = await refusing();
    const transactions = 'CREATE TABLE effects (key, value, at)';
    const note = 'BEGIN INSERT INTO effects VALUES (NEW.key, NEW.value, (SELECT position FROM cairn_cursors)); END';
    await database.run(`${transactions}; CREATE TRIGGER note AFTER INSERT ON cairn_entries ${note}`);
    for (const [first, second] of [
      ['a', 'b'],
      ['x', 'y'],
    ] as const) {
      cache.batch().set(first, 'part').set(second, 'refused').set(`${first} last`, 'part').delete('gone').commit();
      await cache.drain();
      cache.set('gone', 'again');
    }
    expect(await keysOf(cache)).toHaveLength(8);
    cache.set('a', 'newer');
    await cache.drain();
    await database.allow();
    const letters = await cache.writeBack.deadLetters();
    const partOf = (key: string) => letters.find(({ change }) => String(change.key) === key)!;
    const retried = await cache.writeBack.retryDeadLetters([partOf('b').id]);
    expect(outcomes(retried)).toEqual(['retried', 'retried']);
    expect(retried.map(({ id }) => id).sort()).toEqual([partOf('b').id, partOf('a last').id].sort());
    expect(await database.rows()).toEqual({ a: 'newer', 'a last': 'part', b: 'refused', gone: 'again' });
    const places = await database.query(
      "SELECT DISTINCT at FROM effects WHERE key IN (CAST('b' AS BLOB), CAST('a last' AS BLOB))",
    );
    expect(places, 'one transaction').toHaveLength(1);
    expect(outcomes(await cache.writeBack.retryDeadLetters('all'))).toEqual(['retried', 'retried', 'retried']);
    expect(await database.rows()).toMatchObject({ x: 'part', y: 'refused', 'x last': 'part' });
  });

  test('a touch behind a part of a batch is tried again with the batch, and gives the part its expiry', async () => {
    const cache = await open();
    cache.set('a', 'refused');
    await cache.drain();
    await database.refuse();
    cache.batch().set('a', 'refused').set('b', 'part').commit();
    await cache.drain();
    cache.touch('a', '1h');
    await cache.drain();
    expect(await keysOf(cache)).toEqual(['a', 'b', 'a']);
    await database.allow();
    const touch = (await cache.writeBack.deadLetters()).at(-1)!;
    expect(touch.change.kind).toBe('touch');
    expect(outcomes(await cache.writeBack.retryDeadLetters([touch.id]))).toEqual(['retried', 'retried', 'retried']);
    expect(await database.rows()).toEqual({ a: 'refused', b: 'part' });
    const [row] = await database.query("SELECT expires_ms FROM cairn_entries WHERE key = CAST('a' AS BLOB)");
    expect(Math.abs(Number(row!['expires_ms']) - Date.now() - 3_600_000)).toBeLessThan(60_000);
    expect(await keysOf(cache)).toEqual([]);
  });

  test('a batch of which one part is changed meanwhile is tried anew, and done without that part', async () => {
    const cache = await refusing();
    cache.batch().set('a', 'part').set('b', 'refused').commit();
    await cache.drain();
    await database.allow();
    expect(outcomes(await retryWith(cache, () => cache.set('a', 'newer')))).toEqual(['superseded', 'retried']);
    expect(await database.rows()).toEqual({ a: 'newer', b: 'refused' });
  });

  describe('an addition', () => {
    const rules = [{ prefix: 'n:', counter: true }];

    /** A cache with counters of 5, to whose rows 3 could not be added, because they held a text. */
    async function uncounted(...keys: readonly string[]): Promise<Cache<string>> {
      const cache = await open({ rules });
      for (const key of keys) cache.set(key, '5');
      await cache.drain();
      for (const key of keys) await setRow(key, 'text');
      for (const key of keys) expect(cache.incr(key, 3)).toBe(8);
      await cache.drain();
      expect(await keysOf(cache)).toEqual([...keys]);
      return cache;
    }

    test('is made to whatever number the row has, once, and memory keeps its value', async () => {
      const cache = await uncounted('n:a');
      await setRow('n:a', '100');
      const version = cache.info('n:a')!.cas;
      expect(outcomes(await cache.writeBack.retryDeadLetters('all'))).toEqual(['retried']);
      expect(await database.rows()).toEqual({ 'n:a': '103' });
      expect(cache.info('n:a')!.cas).toBe(version);
      expect(cache.get('n:a')).toBe('8');
      cache.evict('n:a');
      expect(await cache.promises.get('n:a')).toBe('103');
      expect(await keysOf(cache)).toEqual([]);
      expect(await cache.writeBack.retryDeadLetters('all')).toEqual([]);
      await cache.promises.incr('n:a', 1);
      await cache.drain();
      expect(await database.rows()).toEqual({ 'n:a': '104' });
    });

    test('of which a load has told is what the row has then', async () => {
      const cache = await uncounted('n:a');
      await setRow('n:a', '100');
      cache.evict('n:a');
      expect(await cache.promises.get('n:a')).toBe('103');
      expect(await cache.promises.incr('n:a', 10)).toBe(113);
      expect(outcomes(await cache.writeBack.retryDeadLetters('all'))).toEqual(['retried']);
      expect(await database.rows()).toEqual({ 'n:a': '113' });
    });

    test('that is refused once more stays, and one that a set has superseded is not made', async () => {
      const cache = await uncounted('n:a', 'n:b');
      cache.set('n:b', '50');
      const [a, b] = await cache.writeBack.deadLetters();
      expect(await cache.writeBack.retryDeadLetters([a!.id, b!.id])).toEqual([
        { id: a!.id, outcome: 'refused', reason: expect.stringContaining('no number') },
        { id: b!.id, outcome: 'superseded', reason: undefined },
      ]);
      expect(await keysOf(cache)).toEqual(['n:a', 'n:b old']);
      expect(await database.rows()).toEqual({ 'n:a': 'text', 'n:b': '50' });
    });

    test('and others of its key are made all, with a touch that was refused beside them', async () => {
      const cache = await uncounted('n:a');
      expect(cache.incr('n:a', 10)).toBe(18);
      await cache.drain();
      await database.run(`CREATE TRIGGER no_touch BEFORE UPDATE OF expires_ms ON cairn_entries
        WHEN NEW.expires_ms <> OLD.expires_ms BEGIN SELECT RAISE(ABORT, 'No touch'); END`);
      cache.touch('n:a', '1h');
      await cache.drain();
      expect((await cache.writeBack.deadLetters()).map(({ change }) => change.kind)).toEqual(['add', 'add', 'touch']);
      await database.run('DROP TRIGGER no_touch');
      await setRow('n:a', '100');
      expect(outcomes(await cache.writeBack.retryDeadLetters('all'))).toEqual(['retried', 'retried', 'retried']);
      expect(await database.rows()).toEqual({ 'n:a': '113' });
      const [row] = await database.query('SELECT expires_ms FROM cairn_entries');
      expect(Math.abs(Number(row!['expires_ms']) - Date.now() - 3_600_000)).toBeLessThan(60_000);
    });

    test('by a database that cannot make one again is refused by name', async () => {
      const cache = await uncounted('n:a');
      await setRow('n:a', '100');
      expect(await retryWith(cache, () => {})).toMatchObject([
        { outcome: 'failed', reason: 'the database cannot make an addition again: set the key' },
      ]);
      expect(await database.rows()).toEqual({ 'n:a': '100' });
    });
  });

  test('with several lanes each letter is tried by its lane, and a batch of several lanes at one moment', async () => {
    const lanes = 4;
    const cache = await refusing({ shards: lanes, writeBack: { lanes, delay: 5 } });
    const keyOf = (lane: number, name: string): string => {
      for (let i = 0; ; i++) if (laneOf(Buffer.from(`${name} ${i}`), lanes) === lane) return `${name} ${i}`;
    };
    const note = 'BEGIN INSERT INTO effects VALUES (NEW.key, (SELECT group_concat(position) FROM cairn_cursors)); END';
    await database.run(`CREATE TABLE effects (key, at);
      CREATE TRIGGER note AFTER INSERT ON cairn_entries ${note}`);
    const parts = Array.from({ length: lanes }, (_, lane) => keyOf(lane, 'part'));
    const batch = cache.batch();
    for (const [lane, key] of parts.entries()) batch.set(key, lane === 2 ? 'refused' : 'part');
    batch.commit();
    const alone = Array.from({ length: lanes }, (_, lane) => keyOf(lane, 'alone'));
    for (const key of alone) cache.set(key, 'refused');
    await cache.drain();
    expect((await keysOf(cache)).sort()).toEqual([...alone, ...parts].sort());
    expect(await database.rows()).toEqual({});
    await database.allow();
    // One part brings the others with it.
    const letters = await cache.writeBack.deadLetters();
    const first = letters.find(({ change }) => String(change.key) === parts[0])!;
    expect(outcomes(await cache.writeBack.retryDeadLetters([first.id]))).toEqual(parts.map(() => 'retried'));
    const places = await database.query('SELECT DISTINCT at FROM effects');
    expect(places, 'one transaction').toHaveLength(1);
    expect(Object.keys(await database.rows()).sort()).toEqual([...parts].sort());
    expect(outcomes(await cache.writeBack.retryDeadLetters('all'))).toEqual(alone.map(() => 'retried'));
    expect(await keysOf(cache)).toEqual([]);
    expect(Object.keys(await database.rows()).sort()).toEqual([...alone, ...parts].sort());
  });

  test('letters of a batch of several lanes belong together with another number of lanes, too', async () => {
    const first = await refusing({ shards: 4, writeBack: { lanes: 4, delay: 5 } });
    const batch = first.batch();
    const keys = Array.from({ length: 8 }, (_, i) => `key ${i}`);
    for (const key of keys) batch.set(key, 'refused');
    batch.commit();
    await first.drain();
    await first.close();
    await database.allow();
    const cache = await open({ shards: 4, writeBack: { lanes: 2, delay: 5 } });
    const [letter] = await cache.writeBack.deadLetters();
    expect(outcomes(await cache.writeBack.retryDeadLetters([letter!.id]))).toEqual(keys.map(() => 'retried'));
    expect(Object.keys(await database.rows())).toEqual(keys);
  });

  test('what would have expired, and what a rule skips by now, is left as it is', async () => {
    const cache = await refusing();
    cache.set('short', 'refused', { ttl: 1000 });
    cache.set('skipped', 'refused');
    await cache.drain();
    await database.allow();
    const letters: RetriedLetters = {
      list: (limit, after = 0n) => cache.writeBack.deadLetters({ limit, after }),
      drop: (ids) => cache.writeBack.dropDeadLetters(ids),
      addAgain: async () => undefined,
    };
    const rule = { prefix: 'skipped', skip: true, sweeps: false };
    const retry = new LetterRetry({
      ...{ letters, drain: () => cache.drain(), wallMs: () => Date.now() + 1000, load: async () => {} },
      handle: handleOf(cache as Cache<never>) as unknown as RetryHandle,
      rules: new RuleSet([rule as never]),
    });
    expect(await retry.run('all')).toMatchObject([
      { outcome: 'expired' },
      { outcome: 'failed', reason: 'a rule skips the key' },
    ]);
    expect(await keysOf(cache)).toEqual(['short', 'skipped']);
  });

  test('a cache of mode write-through, which keeps none, refuses to try them', async () => {
    const first = await refusing();
    first.set('a', 'refused');
    await first.drain();
    await first.close();
    const cache = await open({ mode: 'write-through', writeBack: {} });
    await expect(cache.writeBack.retryDeadLetters('all')).rejects.toEqual(
      withCode('ERR_INVALID_ARGUMENT', /mode: 'write-back' to retry/),
    );
    expect(await keysOf(cache)).toEqual(['a']);
  });

  test('more letters than one page, and than one round, are tried', async () => {
    const cache = await refusing();
    for (let i = 0; i < 700; i++) cache.set(`k${i}`, `refused ${i}`);
    await cache.drain();
    await database.allow();
    const retried = await cache.writeBack.retryDeadLetters('all');
    expect(retried).toHaveLength(700);
    expect(new Set(outcomes(retried))).toEqual(new Set(['retried']));
    const rows = await database.rows();
    expect(Object.keys(rows)).toHaveLength(700);
    expect(rows['k699']).toBe('refused 699');
    expect(await keysOf(cache)).toEqual([]);
  });

  test('another thread can try them, two callers try them once, and wrong ids are refused', async () => {
    const cache = await refusing({ name: 'retry threads' });
    cache.set('a', 'refused');
    await cache.drain();
    await database.allow();
    const thread = startThread(async ({ cairn, data: name, say }) => {
      const attached = cairn.Cache.attach<string>(name);
      const both = [attached.writeBack.retryDeadLetters('all'), attached.writeBack.retryDeadLetters('all')];
      say((await Promise.all(both)).map((retried) => retried.map(({ outcome }) => outcome)));
    }, cache.name);
    expect(await thread.exit).toBe(0);
    expect(await thread.next()).toEqual([['retried'], []]);
    expect(await database.rows()).toEqual({ a: 'refused' });
    for (const ids of ['some', [1], undefined]) {
      await expect(cache.writeBack.retryDeadLetters(ids as never)).rejects.toEqual(
        withCode('ERR_INVALID_ARGUMENT', /ids.*'all'/),
      );
    }
    await cache.close();
    await expect(cache.writeBack.retryDeadLetters('all')).rejects.toEqual(withCode('ERR_CLOSED'));
  });

  test('the command opens the directory, and says what has become of each', async () => {
    const cache = await refusing();
    cache.set('a', 'refused');
    cache.set('b', 'refused');
    await cache.drain();
    const [letter] = await cache.writeBack.deadLetters();
    const run = async (...args: string[]) => {
      const cli = startCli(['dead-letters', 'retry', '--data', data, '--store', database.url, ...args]);
      const { code } = await cli.ended;
      return { code, said: `${cli.stdout}${cli.stderr}` };
    };
    const locked = await run();
    const said = expect.stringMatching(/^cairn dead-letters retry: .*process.*\n.*kill -USR2/);
    expect(locked).toMatchObject({ code: 1, said });
    await cache.close();
    expect(await run()).toMatchObject({ code: 1, said: expect.stringMatching(/refused: .*\n.*0 dead letters, of 2/) });
    await database.allow();
    const missing = await run(`${letter!.id}`);
    expect(missing).toMatchObject({ code: 1, said: expect.stringContaining(`${letter!.id}  not-found`) });
    const done = await run();
    expect(done).toMatchObject({
      code: 0,
      said: expect.stringContaining('The database has the changes of 2 dead letters, of 2'),
    });
    expect(await database.rows()).toEqual({ a: 'refused', b: 'refused' });
    const lines: string[] = [];
    const list = deadLettersCommand((line) => lines.push(line));
    await list.parseAsync(['list', '--store', database.url], { from: 'user' });
    expect(lines).toEqual(['0 dead letters']);
  });

  test('a server retries them at a signal, without an end, and says what has become of each', async () => {
    const cache = await refusing();
    cache.set('a', 'refused');
    cache.set('b', 'refused');
    await cache.drain();
    const ids = (await cache.writeBack.deadLetters()).map(({ id }) => id);
    await cache.close();
    const serving = await startServe(['--data', data, '--store', database.url]);
    serving.child.kill('SIGUSR2');
    await serving.printed('The database has the changes of 0 dead letters, of 2');
    const again = ids.map((id) => `${id}  refused`);
    for (const line of again) expect(serving.stdout).toContain(line);
    await database.allow();
    serving.child.kill('SIGUSR2');
    await serving.printed('The database has the changes of 2 dead letters, of 2');
    expect(await database.rows()).toEqual({ a: 'refused', b: 'refused' });
    await serving.stop();
    expect(await serving.ended).toEqual({ code: 0, signal: null });
  });

  test('a signal for that while a server closes does not end it', async () => {
    // The writer closes its database when the port is closed, and before the cache is.
    const module = join(directories.root, 'signalled.mjs');
    const backend = new URL('../../dist/backend/index.js', import.meta.url).href;
    writeFileSync(
      module,
      `import { makeBackend } from ${JSON.stringify(backend)};
      export default async () => {
        const backend = await makeBackend(process.env.RETRY_STORE);
        const close = backend.close.bind(backend);
        backend.close = async () => {
          process.kill(process.pid, 'SIGUSR2');
          await close();
          console.log('the database is closed');
        };
        return backend;
      };`,
    );
    const serving = await startServe(['--data', data, '--store', module], { RETRY_STORE: database.url });
    await serving.stop();
    expect(await serving.ended).toEqual({ code: 0, signal: null });
    expect(serving.stdout).toContain('the database is closed');
  });

  // The backend of the process is killed before or behind one of its calls, each in turn, until one comes through.
  test('a process that is killed at any step loses no change and has no effect twice', async () => {
    const module = join(directories.root, 'killed.mjs');
    const backend = new URL('../../dist/backend/index.js', import.meta.url).href;
    writeFileSync(
      module,
      `import { makeBackend } from ${JSON.stringify(backend)};
      let calls = 0;
      const count = () => {
        if (++calls === Number(process.env.RETRY_STEP)) process.kill(process.pid, 'SIGKILL');
      };
      const counted = (call, isBehindToo) => async (...given) => {
        count();
        const result = await call(...given);
        if (isBehindToo) count();
        return result;
      };
      export default async () => {
        const backend = await makeBackend(process.env.RETRY_STORE);
        const { deadLetters } = backend;
        backend.write = counted(backend.write.bind(backend), true);
        const list = counted(deadLetters.list.bind(deadLetters));
        const drop = counted(deadLetters.drop.bind(deadLetters), true);
        const addAgain = counted(deadLetters.addAgain.bind(deadLetters), true);
        Object.defineProperty(backend, 'deadLetters', { value: { list, drop, addAgain } });
        return backend;
      };`,
    );
    let kills = 0;
    for (let step = 1; ; step++) {
      database = new SqliteFile(directories.fresh());
      data = directories.fresh();
      const cache = await open({ rules: [{ prefix: 'n:', counter: true }] });
      cache.set('n:', '5');
      await cache.drain();
      await setRow('n:', 'text');
      await database.refuse();
      cache.batch().set('a', 'part').set('b', 'refused').commit();
      cache.set('c', 'refused');
      cache.incr('n:', 3);
      await cache.drain();
      await cache.close();
      await database.allow();
      await setRow('n:', '100');
      await database.run(`CREATE TABLE effects (key);
        CREATE TRIGGER note AFTER INSERT ON cairn_entries BEGIN INSERT INTO effects VALUES (NEW.key); END;
        CREATE TRIGGER note_more AFTER UPDATE ON cairn_entries BEGIN INSERT INTO effects VALUES (NEW.key); END`);
      const cli = startCli(['dead-letters', 'retry', '--data', data, '--store', module], {
        RETRY_STEP: `${step}`,
        RETRY_STORE: database.url,
      });
      const { signal } = await cli.ended;
      const whole = { a: 'part', b: 'refused', c: 'refused', 'n:': '103' };
      const again = await open();
      expect([again.get('a') ?? 'part', again.get('b') ?? 'refused'], `after step ${step}`).toEqual([
        'part',
        'refused',
      ]);
      await again.writeBack.retryDeadLetters('all');
      expect(await database.rows(), `after step ${step}`).toEqual(whole);
      const effects = await database.query('SELECT key FROM effects');
      expect(effects.map(({ key }) => String(key)).sort(), `after step ${step}`).toEqual(['a', 'b', 'c', 'n:']);
      expect((await again.writeBack.deadLetters()).every(({ isSuperseded }) => isSuperseded)).toBe(true);
      await again.close();
      if (signal !== 'SIGKILL') break;
      kills++;
    }
    expect(kills).toBeGreaterThan(8);
    // Some twenty times a process and two caches.
  }, 600_000);
});
