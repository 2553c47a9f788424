// Misses are answered by the database, and by the log for what the database does not have yet: in the writer's thread
// and in that of a database that is an object.

import { beforeEach, expect, test } from 'vitest';
import { type Cache, type CacheOptions, serve } from '../../src/index.ts';
import { DataDirectories } from '../support/data-directories.ts';
import { postgresOfTests } from '../support/databases-of-tests.ts';
import { withCode } from '../support/errors.ts';
import { MemcachedSocket } from '../support/memcached-socket.ts';
import { POSTGRES_MISSING, postgresPrograms } from '../support/postgres.ts';
import { skipUnless } from '../support/skip.ts';

const directories = new DataDirectories('read-through');

skipUnless(postgresPrograms, POSTGRES_MISSING).describe('with PostgreSQL', () => {
  const server = postgresOfTests();
  let data: string;
  beforeEach(async () => {
    data = directories.fresh();
    await server.reset();
  });

  const open = (options: CacheOptions = {}): Promise<Cache> =>
    directories.open(data, { store: server.url(), writeBack: { delay: 5 }, ...options });

  // What is not in memory any more.
  async function evicted(cache: Cache, entries: Record<string, string>): Promise<void> {
    for (const [key, value] of Object.entries(entries)) cache.set(key, value);
    await cache.drain();
    for (const key of Object.keys(entries)) cache.evict(key);
  }

  test('a promised get, fetch and the port read a row that is not in memory; a key without a row is a miss', async () => {
    const cache = await open();
    await evicted(cache, { a: '1', b: '2', c: '3' });
    expect(cache.get('a')).toBeUndefined();
    expect(await cache.promises.get('a')).toBe('1');
    expect(cache.get('a'), 'it is in memory now').toBe('1');
    expect(await cache.fetch('b', () => 'loaded')).toBe('2');
    expect(await cache.promises.get('none')).toBeUndefined();
    expect(await cache.promises.getMany(['a', 'c', 'none'])).toEqual(['1', '3', undefined]);
    cache.evict('c');
    const port = await serve(cache, { port: 0 });
    const socket = await MemcachedSocket.open((port.addresses[0] as { port: number }).port);
    expect(await socket.ask('get c none\r\n', 'END\r\n')).toBe('VALUE c 0 1\r\n3\r\nEND\r\n');
    await port.close();
  });

  test('a conditional verb decides by the row: promised ones load it, synchronous ones say so', async () => {
    const cache = await open();
    await evicted(cache, { n: '5', text: 'a', there: 'x' });
    expect(() => cache.incr('n', 1)).toThrow(withCode('ERR_NOT_RESIDENT'));
    expect(await cache.promises.incr('n', 1)).toBe(6);
    expect(await cache.promises.append('text', 'b')).toBe('stored');
    expect(await cache.promises.add('there', 'new')).toBe('not-stored');
    expect(await cache.promises.add('new', 'new')).toBe('stored');
    await cache.drain();
    expect(await server.entries()).toEqual({ n: '6', text: 'ab', there: 'x', new: 'new' });
  });

  test('what the database does not have yet comes from the log: never the older row', async () => {
    const cache = await open({ maxMemory: '16mb', writeBack: { delay: '1h' } });
    await evicted(cache, { old: 'row', deleted: 'row', same: 'row' });
    cache.set('old', 'newer');
    cache.set('deleted', 'x');
    cache.delete('deleted');
    await cache.sync();
    cache.evict('old');
    expect(await cache.promises.get('old')).toBe('newer');
    expect(await cache.promises.get('deleted')).toBeUndefined();
    expect(await cache.promises.get('same')).toBe('row');
    // More than memory holds: all of them are owed.
    const value = 'x'.repeat(20_000);
    for (let i = 0; i < 1500; i++) await cache.promises.set(`key-${i}`, `${i} ${value}`);
    expect(cache.size).toBeLessThan(1500);
    for (let i = 0; i < 1500; i += 7)
      expect(String(await cache.promises.get(`key-${i}`)).slice(0, 8)).toBe(`${i} ${value}`.slice(0, 8));
    await cache.drain();
    for (let i = 0; i < 1500; i += 7)
      expect(String(await cache.promises.get(`key-${i}`)).slice(0, 8)).toBe(`${i} ${value}`.slice(0, 8));
  });

  test('a row that expired is a miss, and a loaded one expires when the row does', async () => {
    const cache = await open();
    cache.set('short', '1', { ttl: 60 });
    cache.set('long', '1', { ttl: '1h' });
    await cache.drain();
    cache.evict('short');
    cache.evict('long');
    await new Promise((resolve) => setTimeout(resolve, 100));
    expect(await cache.promises.get('short')).toBeUndefined();
    expect(await cache.promises.get('long')).toBe('1');
    expect(cache.getRemainingTTL('long')).toBeGreaterThan(3_500_000);
    expect(cache.getRemainingTTL('long')).toBeLessThanOrEqual(3_600_000);
  });

  test('after a restart rows are read, and what was not written comes from the log', async () => {
    const first = await open();
    await evicted(first, { a: '1' });
    await first.writeBack.pause();
    first.set('b', '2');
    await first.close();
    const second = await open();
    expect(await second.promises.get('a')).toBe('1');
    expect(await second.promises.get('b')).toBe('2');
  });

  test('a database that is away refuses the request, and answers it when it is back', async () => {
    const cache = await open();
    await evicted(cache, { a: '1' });
    await server.crash();
    await expect(cache.promises.get('a')).rejects.toEqual(withCode('ERR_NOT_RESIDENT'));
    await server.run();
    expect(await cache.promises.get('a')).toBe('1');
  });

  test('the database is not asked for keys that a rule skips', async () => {
    const first = await open();
    await evicted(first, { 'session:1': 'row', other: 'row' });
    await first.close();
    const cache = await open({ rules: [{ prefix: 'session:', skip: true }] });
    expect(await cache.promises.get('other')).toBe('row');
    cache.evict('session:1');
    expect(await cache.promises.get('session:1')).toBeUndefined();
    expect(await cache.promises.add('session:1', 'own')).toBe('stored');
    // Its changes are owed to no database, so that nothing of it stays when it leaves memory.
    await expect
      .poll(() => {
        cache.evict('session:1');
        return cache.promises.get('session:1');
      })
      .toBeUndefined();
  });

  test('writes that a rule skips go on in the smallest cache', async () => {
    const cache = await open({ maxMemory: '4mb', rules: [{ prefix: 'session:', skip: true }] });
    const value = 'x'.repeat(100);
    for (let i = 0; i < 60_000; i += 500) {
      const keys = Array.from({ length: 500 }, (_, j) => `session:${i + j}`);
      await Promise.all(keys.map((key) => cache.promises.set(key, value)));
    }
    expect(cache.size).toBeGreaterThan(1000);
    expect(await server.query('SELECT count(*)::int AS rows FROM cairn_entries')).toEqual([{ rows: 0 }]);
  });

  test('a database that does not answer is left in peace for a while, and asked again', async () => {
    const cache = await open({ loads: { timeout: '200ms' } });
    await evicted(cache, { a: '1' });
    const refused = (): Promise<unknown> => cache.promises.get('a').catch(({ code, message }) => [code, message]);
    // The row cannot be read while another transaction has the table.
    const client = await server.connect();
    await client.query('BEGIN; LOCK TABLE cairn_entries');
    try {
      expect(await refused()).toEqual(['ERR_NOT_RESIDENT', expect.stringContaining('did not answer within 200 ms')]);
      await expect
        .poll(refused)
        .toEqual(['ERR_NOT_RESIDENT', expect.stringContaining('the database does not answer: ')]);
      await expect.poll(() => cache.stats().writeBack?.circuitOpened).toBeGreaterThan(0);
      await expect.poll(() => cache.stats().writeBack?.loadsFailed).toBeGreaterThan(3);
    } finally {
      await client.query('ROLLBACK');
      await client.end();
    }
    await expect.poll(() => refused(), { timeout: 20_000 }).toBe('1');
    await expect.poll(() => cache.stats().writeBack?.questions).toBeGreaterThan(0);
  });

  test('a key without a row is asked for again when it has been absent for negativeTtl', async () => {
    const insert = (key: string): Promise<unknown> =>
      server.query(
        `INSERT INTO cairn_entries (key, value, codec, client_flags, expires_ms, version) VALUES ('${key}', '1', 1, 0, 0, 1)`,
      );
    const patient = await open({ loads: { negativeTtl: '1h' } });
    expect(await patient.promises.get('a')).toBeUndefined();
    expect(await patient.promises.get('b')).toBeUndefined();
    await insert('a');
    expect(await patient.promises.get('a'), 'known to be absent').toBeUndefined();
    expect(await patient.promises.add('b', 'now')).toBe('stored');
    expect(await patient.promises.get('b')).toBe('now');
    await patient.close();
    const cache = await open({ loads: { negativeTtl: '1s' } });
    expect(await cache.promises.get('c')).toBeUndefined();
    await insert('c');
    await expect.poll(() => cache.promises.get('c'), { timeout: 20_000 }).toBe('1');
  });

  test('a row that has expired while its touch is on the way is there again, and never absent', async () => {
    const cache = await open({ loads: { timeout: '300ms' } });
    cache.set('k', 'kept', { ttl: '1h' });
    await cache.drain();
    await cache.writeBack.pause();
    cache.touch('k', '2h');
    cache.evict('k');
    await server.query('UPDATE cairn_entries SET expires_ms = 1000');
    await expect(cache.promises.get('k')).rejects.toEqual(withCode('ERR_NOT_RESIDENT'));
    await cache.writeBack.resume();
    await expect.poll(() => cache.promises.get('k').catch(() => 'refused')).toBe('kept');
    expect(cache.getRemainingTTL('k')).toBeGreaterThan(60_000);
  });

  test('an older value that is being loaded does not replace a newer one', async () => {
    const cache = await open();
    for (let round = 0; round < 50; round++) {
      await evicted(cache, { k: `old ${round}` });
      const got = cache.promises.get('k');
      cache.set('k', `new ${round}`);
      expect([`old ${round}`, `new ${round}`]).toContain(await got);
      expect(cache.get('k')).toBe(`new ${round}`);
    }
  });
});
