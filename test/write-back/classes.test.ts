// The faults that write-behind caches have had, class by class, each with the test that this one does not have it. Some
// are tested elsewhere. writer.test.ts: a failed batch and a newer value, a day without the database, a call that
// hangs, a batch whose COMMIT was not answered, a copy of the log, a database that goes back. cache.test.ts: a thread
// that dies or does not answer, a clear, an eviction. postgres.test.ts: a constraint.

import { beforeEach, describe, expect, test } from 'vitest';
import type { Cache, CacheOptions } from '../../src/index.ts';
import { Changes } from '../../src/write-back/coalesce.ts';
import { DataDirectories } from '../support/data-directories.ts';
import { lmdbOfTests } from '../support/databases-of-tests.ts';
import { LMDB_MODULE } from '../support/lmdb.ts';
import { MemcachedSocket } from '../support/memcached-socket.ts';
import { POSTGRES_MISSING, PostgresServer, postgresPrograms } from '../support/postgres.ts';
import { makeRecord } from '../support/records.ts';
import { startCli } from '../support/serve-process.ts';
import { skipUnless } from '../support/skip.ts';

const directories = new DataDirectories('write-back-classes');
const database = lmdbOfTests();
let data: string;
beforeEach(() => {
  data = directories.fresh();
});

const open = (options: CacheOptions = {}): Promise<Cache> =>
  directories.open(data, { store: LMDB_MODULE, writeBack: { delay: 5 }, ...options });

/** The port that `serve` has printed. */
function portOf(output: string): number {
  return Number(/Listening on 127\.0\.0\.1:(\d+)/.exec(output)![1]);
}

skipUnless(postgresPrograms, POSTGRES_MISSING)(
  '1, the owner dies while the database is down: the next process writes what it had acknowledged',
  async () => {
    const server = await PostgresServer.start();
    const args = ['serve', '-p', '-1', '-l', '127.0.0.1', '--data', data, '--store', server.url()];
    const first = startCli(args);
    await first.printed('Listening on');
    await server.crash();
    const socket = await MemcachedSocket.open(portOf(first.stdout));
    for (let i = 0; i < 50; i++) expect(await socket.ask(`set key-${i} 0 0 1\r\n${i % 10}\r\n`)).toBe('STORED\r\n');
    first.child.kill('SIGKILL');
    await first.ended;
    await server.run();
    const second = startCli(args);
    await second.printed('Listening on');
    let count = 0;
    for (let tries = 0; count < 50 && tries < 300; tries++) {
      const [row] = await server.query('SELECT count(*) AS count FROM cairn_entries');
      count = Number(row!['count']);
      await new Promise((resolve) => setTimeout(resolve, 100));
    }
    expect(count, second.stdout + second.stderr).toBe(50);
    await second.stop();
    await server.stop();
  },
  120_000,
);

test('2, cleaning up after a flush does not take a newer write: it is written next', async () => {
  const cache = await open({ writeBack: { delay: 0, maxRows: 1 } });
  for (let i = 0; i < 500; i++) cache.set('key', `${i}`);
  await cache.drain();
  cache.set('key', 'last');
  await cache.drain();
  expect((await database.read()).rows).toEqual({ key: 'last' });
});

test('4, sets and deletes do not swap, however they mix', async () => {
  const cache = await open({ writeBack: { delay: 1, maxRows: 7 } });
  for (let i = 0; i < 2000; i++) {
    const key = `key-${i % 10}`;
    if (i % 3 === 0) cache.delete(key);
    else cache.set(key, `${i}`);
  }
  const expected = Object.fromEntries([...cache.entries()].map(([key, value]) => [String(key), String(value)]));
  await cache.drain();
  expect((await database.read()).rows).toEqual(expected);
});

test('9, a shutdown does not drop the tail: SIGTERM writes it, and what is left is told at the next start', async () => {
  const environment = { CAIRN_TEST_LMDB: database.path };
  const args = ['serve', '-p', '-1', '-l', '127.0.0.1', '--data', data, '--store', LMDB_MODULE, '--write-delay', '1h'];
  const first = startCli(args, environment);
  await first.printed('Listening on');
  const socket = await MemcachedSocket.open(portOf(first.stdout));
  await socket.ask('set a 0 0 1\r\n1\r\n');
  await first.stop();
  expect((await database.read()).rows).toEqual({ a: '1' });

  const second = startCli(args, environment);
  await second.printed('Listening on');
  const again = await MemcachedSocket.open(portOf(second.stdout));
  await again.ask('set b 0 0 1\r\n1\r\n');
  second.child.kill('SIGKILL');
  await second.ended;
  const third = startCli(args, environment);
  await third.printed(/^\d{2,3} bytes of the log are still on their way to the database$/m);
  await third.stop();
  expect((await database.read()).rows).toEqual({ a: '1', b: '1' });
}, 60_000);

describe('13, a time to live near the delay', () => {
  test.each([
    ['1ms', 0],
    ['1ms', 100],
    ['20ms', 20],
    ['100ms', 5],
    ['1h', 50],
  ] as const)('ttl %s, delay %d ms: the row has the value and its expiry', async (ttl, delay) => {
    const cache = await open({ writeBack: { delay } });
    const nowMs = Date.now();
    for (let i = 0; i < 50; i++) cache.set(`key-${i}`, 'value', { ttl });
    await new Promise((resolve) => setTimeout(resolve, 40));
    await cache.drain();
    const { rows, expiries } = await database.read();
    expect(Object.values(rows)).toEqual(Array(50).fill('value'));
    const ttlMs = { '1ms': 1, '20ms': 20, '100ms': 100, '1h': 3_600_000 }[ttl];
    for (const expiry of Object.values(expiries)) expect(Math.abs(expiry - nowMs - ttlMs)).toBeLessThan(5000);
  });
});

test('14, no record vanishes at the end of a buffer: sizes around every limit of a batch', () => {
  const limit = 1000;
  for (let size = limit - 200; size <= limit + 200; size++) {
    const changes = new Changes();
    changes.add(makeRecord({ kind: 'set', key: 'before', value: 'x' }));
    changes.add(makeRecord({ kind: 'set', key: 'key', value: 'v'.repeat(size) }));
    changes.add(makeRecord({ kind: 'set', key: 'behind', value: 'x' }));
    expect(changes.list().map((change) => (change.kind === 'set' ? change.value.length : -1))).toEqual([1, size, 1]);
  }
});

test('14, the same through log and database, with values around 16 KiB, 64 KiB and the size of a batch', async () => {
  const cache = await open({ writeBack: { delay: 1, maxBytes: 65_536 }, segmentSize: '256kb', logLimit: '64mb' });
  const sizes = [16_384, 65_536].flatMap((size) => [-130, -65, -64, -63, -1, 0, 1].map((more) => size + more));
  for (const size of sizes) {
    cache.set(`key-${size}`, 'v'.repeat(size));
    await cache.sync();
  }
  await cache.drain();
  const { rows } = await database.read();
  expect(sizes.map((size) => rows[`key-${size}`]?.length)).toEqual(sizes);
});

test('17, an evict storm on keys that are being written neither waits forever nor takes a row', async () => {
  const cache = await open({ writeBack: { delay: 0 } });
  for (let round = 0; round < 200; round++) {
    for (let i = 0; i < 20; i++) cache.set(`hot-${i}`, `${round}`);
    for (let i = 0; i < 20; i += 2) cache.evict(`hot-${i}`);
  }
  await cache.drain();
  const { rows } = await database.read();
  expect(Object.keys(rows)).toHaveLength(20);
  expect(new Set(Object.values(rows))).toEqual(new Set(['199']));
});
