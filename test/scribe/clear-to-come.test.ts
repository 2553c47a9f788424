// A clear that is to come (`flush_all 10`) and the end of the process: the log has it, snapshots have it, and its delay
// goes on while no process runs.

import { describe, expect, test, vi } from 'vitest';
import { type Cache, serve } from '../../src/index.ts';
import { EmbeddedLog, lockedByCaller, survey } from '../../src/log/index.ts';
import { RecordKind, RecordReader } from '../../src/request/record.ts';
import { DataDirectories } from '../support/data-directories.ts';
import { MemcachedSocket } from '../support/memcached-socket.ts';
import { makeRecord, type RecordParts } from '../support/records.ts';

const data = new DataDirectories('clear-to-come');
const HOUR_MS = 3_600_000;

/** One more life of a log, without a cache: these records, at that time, in an epoch that is not less than so much. */
function writeLog(directory: string, wallMs: number, records: Omit<RecordParts, 'epoch'>[], epochMin = 0): void {
  const clock = { wallMs: () => wallMs, steadyMs: () => performance.now() };
  const log = EmbeddedLog.open({ directory, clock, lockDirectory: lockedByCaller });
  const epoch = Math.max(log.epoch, epochMin);
  const batch = records.map((record, i) => makeRecord({ counter: i + 1, ...record, epoch }));
  log.append({ records: batch, recordCount: batch.length, epoch, expectPosition: log.end });
  log.close();
}

/** The kinds of the records of a log. */
function kindsIn(directory: string): number[] {
  const log = EmbeddedLog.open({ directory, lockDirectory: lockedByCaller });
  const kinds: number[] = [];
  // A clear, and one that is to come, have a record of the same version from each shard.
  let barrier = 0n;
  for (const { records } of log.entries(log.oldestReadable)) {
    for (const reader = new RecordReader(records); reader.next(); ) {
      if (reader.key.length === 0 && reader.version === barrier) continue;
      if (reader.key.length === 0) barrier = reader.version;
      kinds.push(reader.kind);
    }
  }
  log.close();
  return kinds;
}

const set = (key: string): Omit<RecordParts, 'epoch'> => ({ kind: 'set', key, value: 'v', codec: 1 });
const clearAt = (expiresWallMs: number): Omit<RecordParts, 'epoch'> => ({ kind: 'clearAt', expiresWallMs });

/** The time for which `writeLog` had a clear to come passes, and `key`, stored now, is there all the same. */
async function expectNoClearOf(key: string, cache: Cache, directory: string): Promise<void> {
  cache.set(key, 'v');
  await cache.close();
  writeLog(directory, Date.now() + 2 * HOUR_MS, [set('c')]);
  const again = await data.open(directory);
  expect(Object.fromEntries(again)).toEqual({ [key]: 'v', c: 'v' });
  await again.close();
}

describe('a clear to come', () => {
  test('whose time passed while no process ran is done before the first read, and only once', async () => {
    const directory = data.fresh();
    const nowMs = Date.now();
    writeLog(directory, nowMs - 2 * HOUR_MS, [set('a'), clearAt(nowMs - HOUR_MS), set('b')]);
    const cache = await data.open(directory, { snapshot: { atClose: false } });
    expect(cache.size).toBe(0);
    expect([cache.get('a'), cache.get('b')]).toEqual([undefined, undefined]);
    cache.set('c', 1);
    await cache.sync();
    await data.crash(cache);
    expect(kindsIn(directory)).toEqual([
      RecordKind.set,
      RecordKind.clearAt,
      RecordKind.set,
      RecordKind.clear,
      RecordKind.set,
    ]);
    const again = await data.open(directory);
    expect(Object.fromEntries(again)).toEqual({ c: 1 });
    await again.close();
  });

  test('makes reads that see its effect wait for its record', async () => {
    const directory = data.fresh();
    const nowMs = Date.now();
    writeLog(directory, nowMs - 2 * HOUR_MS, [set('a'), clearAt(nowMs - HOUR_MS)]);
    const cache = await data.open(directory, { snapshot: { atClose: false } });
    expect(await cache.promises.get('a')).toBeUndefined();
    await data.crash(cache);
    expect(kindsIn(directory)).toContain(RecordKind.clear);
  });

  test('whose time the log has passed comes though the clock was set back', async () => {
    const directory = data.fresh();
    const nowMs = Date.now();
    writeLog(directory, nowMs, [set('a'), clearAt(nowMs + HOUR_MS)]);
    writeLog(directory, nowMs + 2 * HOUR_MS, [{ kind: 'delete', key: 'other' }]);
    const cache = await data.open(directory);
    expect(cache.size).toBe(0);
    await cache.close();
  });

  test('whose time is still ahead comes at that time', async () => {
    const directory = data.fresh();
    const nowMs = Date.now();
    writeLog(directory, nowMs, [set('a'), clearAt(nowMs + 500)]);
    const cache = await data.open(directory);
    const found = cache.get('a');
    if (Date.now() < nowMs + 400) expect(found).toBe('v');
    await vi.waitUntil(() => cache.get('a') === undefined, { timeout: 60_000 });
    expect(Date.now()).toBeGreaterThanOrEqual(nowMs + 490);
    cache.set('b', 1);
    await cache.close();
    const again = await data.open(directory);
    expect(Object.fromEntries(again)).toEqual({ b: 1 });
    await again.close();
  });

  test.each([
    ['taken back', (nowMs: number) => [clearAt(nowMs - HOUR_MS), clearAt(0), set('a')]],
    ['put off', (nowMs: number) => [clearAt(nowMs - HOUR_MS), clearAt(nowMs + HOUR_MS), set('a')]],
    ['followed by a clear', (nowMs: number) => [clearAt(nowMs - HOUR_MS), { kind: 'clear' as const }, set('a')]],
  ])('that was %s does not come', async (_, records) => {
    const directory = data.fresh();
    const nowMs = Date.now();
    writeLog(directory, nowMs - 2 * HOUR_MS, [...records(nowMs), set('a')]);
    const cache = await data.open(directory);
    expect(Object.fromEntries(cache)).toEqual({ a: 'v' });
    await cache.close();
  });

  test('is in the snapshot, because the log before the snapshot is deleted', async () => {
    const directory = data.fresh();
    const nowMs = Date.now();
    writeLog(directory, nowMs, [set('a'), clearAt(nowMs + HOUR_MS)]);
    for (let life = 0; life < 3; life++) {
      const cache = await data.open(directory, { segmentSize: 4096 });
      expect(cache.get('a')).toBe('v');
      await cache.snapshot();
      await cache.close();
    }
    // The last life's log has nothing of it.
    const { snapshots, segments } = survey(directory, { isDeep: true });
    expect(segments[0]!.header.base).toBeGreaterThan(64n);
    expect(snapshots.length).toBe(2);
    writeLog(directory, nowMs + 2 * HOUR_MS, [set('b')]);
    const cache = await data.open(directory);
    expect(cache.size).toBe(0);
    await cache.close();
  });

  test('that was cancelled after a snapshot does not come back from the snapshot', async () => {
    const directory = data.fresh();
    const nowMs = Date.now();
    writeLog(directory, nowMs, [set('a'), clearAt(nowMs + HOUR_MS)]);
    const cache = await data.open(directory, { snapshot: { atClose: false } });
    await cache.snapshot();
    cache.clear();
    await expectNoClearOf('b', cache, directory);
  });

  test('does not come to a directory whose entries were discarded', async () => {
    const directory = data.fresh();
    const nowMs = Date.now();
    writeLog(directory, nowMs, [set('a'), clearAt(nowMs + HOUR_MS)]);
    const cache = await data.open(directory, { recover: 'none' });
    await expectNoClearOf('b', cache, directory);
  });

  test('that a client of the port was promised survives the thread of the log', async () => {
    const directory = data.fresh();
    const cache = await data.open(directory, { snapshot: { atClose: false } });
    cache.set('a', 1);
    // Records of different shards have no order among those that are drained together.
    await cache.sync();
    const server = await serve(cache, { port: 0, host: '127.0.0.1' });
    const [address] = server.addresses;
    const client = await MemcachedSocket.open((address as { port: number }).port);
    expect(await client.ask('flush_all 3600\r\n', '\r\n')).toBe('OK\r\n');
    client.destroy();
    await server.close();
    expect(cache.get('a')).toBe(1);
    await data.crash(cache);
    expect(kindsIn(directory)).toEqual([RecordKind.set, RecordKind.clearAt]);
    writeLog(directory, Date.now() + 2 * HOUR_MS, [set('b')]);
    const again = await data.open(directory);
    expect(again.size).toBe(0);
    await again.close();
  });
});
