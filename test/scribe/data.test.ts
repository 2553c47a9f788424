// A cache with a log, on real files: what was written is there again, whatever the cache is opened with then.

import { once } from 'node:events';
import { readdirSync, readFileSync, truncateSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { Worker } from 'node:worker_threads';
import { describe, expect, test } from 'vitest';
import { Cache, type RecoveryProgress } from '../../src/index.ts';
import { EmbeddedLog, lockedByCaller, repair } from '../../src/log/index.ts';
import { lockByAddon } from '../../src/native/directory-lock.ts';
import { DataDirectories, patiently } from '../support/data-directories.ts';
import { withCode } from '../support/errors.ts';
import { Random } from '../support/random.ts';
import { makeRecord, type RecordParts } from '../support/records.ts';
import { startThread, until } from '../support/threads.ts';

const data = new DataDirectories('data');

/** Writes a log without a cache, at any time. */
function writeLog(directory: string, wallMs: number, records: Omit<RecordParts, 'epoch' | 'counter'>[]): void {
  const clock = { wallMs: () => wallMs, steadyMs: () => performance.now() };
  const log = EmbeddedLog.open({ directory, clock, lockDirectory: lockedByCaller });
  const { epoch } = log;
  const batch = records.map((record, i) => makeRecord({ ...record, epoch, counter: i + 1 }));
  log.append({ records: batch, recordCount: batch.length, epoch, expectPosition: log.end });
  log.close();
}

describe('what was written', () => {
  test('is there when the cache is opened again: every kind of value, and what became of them', async () => {
    const directory = data.fresh();
    const values: [string, unknown][] = [
      ['text', 'Grüße'],
      ['number', 42],
      ['bigint', 2n ** 63n],
      ['bytes', Buffer.from([0, 255, 10])],
      ['json', { a: [1, null, 'x'] }],
      ['clone', new Map([['a', new Date(0)]])],
      ['null', null],
      ['empty', ''],
      ['large', 'x'.repeat(300_000)],
    ];
    const first = await data.open(directory);
    for (const [key, value] of values) first.set(key, value);
    first.set('deleted', 1);
    first.delete('deleted');
    first.set('counter', 5);
    first.incr('counter', 37);
    first.set('appended', 'a');
    first.append('appended', 'b');
    first.set('taken', 1);
    first.take('taken');
    first.set('kept', 'x', { ttl: '1h' });
    first.set('touched', 'x');
    first.touch('touched', '2h');
    first.set(Buffer.from([1, 2, 0xff]), 'binary key');
    const cas = first.getWithCas('text')!.cas;
    await first.close();

    const second = await data.open(directory);
    for (const [key, value] of values) expect(second.get(key), key).toEqual(value);
    expect(second.has('deleted')).toBe(false);
    expect(second.get('counter')).toBe(42);
    expect(second.get('appended')).toBe('ab');
    expect(second.has('taken')).toBe(false);
    expect(second.getRemainingTTL('kept')).toBeGreaterThan(3_590_000);
    expect(second.getRemainingTTL('kept')).toBeLessThanOrEqual(3_600_000);
    expect(second.getRemainingTTL('touched')).toBeGreaterThan(7_190_000);
    expect(second.get(Buffer.from([1, 2, 0xff]))).toBe('binary key');
    expect(second.getWithCas('text')!.cas).toBe(cas);
    expect(second.size).toBe(values.length + 5);
    // Versions go on above all that were ever given.
    second.set('new', 1);
    expect(second.getWithCas('new')!.cas).toBeGreaterThan(cas);
    await second.close();
  });

  test('before a clear is not, and after it is', async () => {
    const directory = data.fresh();
    const first = await data.open(directory);
    for (let i = 0; i < 1000; i++) first.set(`old${i}`, i);
    first.clear();
    for (let i = 0; i < 10; i++) first.set(`new${i}`, i);
    await first.close();
    const second = await data.open(directory);
    expect([...second.keys()].sort()).toEqual(Array.from({ length: 10 }, (_, i) => `new${i}`));
    await second.close();
  });

  test.each(['always', '20ms', 'none'] as const)('and never closed is there too (%s)', async (sync) => {
    const directory = data.fresh();
    const first = await data.open(directory, { sync });
    for (let i = 0; i < 5000; i++) first.set(`k${i}`, i);
    await first.sync();
    await data.crash(first);
    const second = await data.open(directory, { sync });
    expect(second.recovery?.snapshot).toBeUndefined();
    expect(second.size).toBe(5000);
    expect(second.get('k4999')).toBe(4999);
    await second.close();
  });

  test('by way of fetch, update, load and resize too', async () => {
    const directory = data.fresh();
    const first = await data.open<string>(directory, { snapshot: { atClose: false } });
    await first.fetch('fetched', async () => 'loaded');
    first.set('updated', 'old');
    first.update('updated', () => 'new');
    using other = new Cache<string>();
    other.set('dumped', 'value');
    first.load(other.dump());
    first.set('swapped', 'a');
    first.cas('swapped', 'b', first.getWithCas('swapped')!.cas);
    await first.resize({ maxMemory: '32mb' });
    await first.sync();
    await data.crash(first as Cache);
    const second = await data.open<string>(directory);
    expect(Object.fromEntries(second)).toEqual({
      fetched: 'loaded',
      updated: 'new',
      dumped: 'value',
      swapped: 'b',
    });
    await second.close();
  });

  test('over many lives is the sum of them', async () => {
    const directory = data.fresh();
    const random = new Random();
    const model = new Map<string, number>();
    for (let life = 0; life < 8; life++) {
      const cache = await data.open<number>(directory, {
        shards: random.pick([1, 2, 8]),
        segmentSize: 65_536,
        snapshot: { atClose: random.below(2) === 0, logBytes: random.pick(['100kb', '10mb']) },
      });
      expect(Object.fromEntries(cache), `CAIRN_SEED=${random.seed}, life ${life}`).toEqual(Object.fromEntries(model));
      for (let i = 0; i < 3000; i++) {
        const key = `k${random.below(500)}`;
        const act = random.below(100);
        if (act === 0) {
          cache.clear();
          model.clear();
        } else if (act < 20) {
          cache.delete(key);
          model.delete(key);
        } else {
          cache.set(key, life * 10_000 + i);
          model.set(key, life * 10_000 + i);
        }
      }
      if (random.below(2) === 0) await cache.close();
      else {
        await cache.sync();
        await data.crash(cache as Cache);
      }
    }
  });

  test('is recovered with another number of shards and less memory: the most recent entries stay', async () => {
    const directory = data.fresh();
    const first = await data.open(directory, { maxMemory: '32mb', shards: 4 });
    const value = 'x'.repeat(1000);
    for (let i = 0; i < 20_000; i++) await patiently(first, () => first.set(`k${i}`, value));
    // These are the oldest no more.
    for (let i = 0; i < 1000; i++) first.get(`k${i}`);
    await first.close();

    const second = await data.open(directory, { maxMemory: '8mb', shards: 1 });
    expect(second.recovery?.records).toBe(20_000);
    expect(second.size).toBeLessThan(8000);
    expect(second.size).toBeGreaterThan(3000);
    for (let i = 0; i < 1000; i++) expect(second.has(`k${i}`), `k${i}`).toBe(true);
    expect(second.has('k19999')).toBe(true);
    expect(second.has('k1000')).toBe(false);
    await second.close();

    const third = await data.open(directory, { maxMemory: '64mb', shards: 8 });
    expect(third.has('k0')).toBe(true);
    expect(third.has('k19999')).toBe(true);
    await third.close();
  });

  test('in order of use is evicted in that order afterwards', async () => {
    const directory = data.fresh();
    const first = await data.open(directory, { shards: 1 });
    for (let i = 0; i < 100; i++) first.set(`k${i}`, i);
    for (let i = 0; i < 100; i += 7) first.get(`k${i}`);
    const order = [...first.keys({ order: 'oldest' })];
    await first.close();
    const second = await data.open(directory, { shards: 1 });
    expect([...second.keys({ order: 'oldest' })]).toEqual(order);
    await second.close();
  });

  test('by another thread, and its clears, are there', async () => {
    const directory = data.fresh();
    const first = await data.open(directory, { name: 'data threads' });
    const thread = startThread(({ cairn, data: name }) => {
      const cache = cairn.Cache.attach(name);
      for (let i = 0; i < 10_000; i++) cache.set(`t${i}`, i);
      cache.delete('t5');
    }, 'data threads');
    for (let i = 0; i < 10_000; i++) first.set(`m${i}`, i);
    await thread.exit;
    await first.close();
    const second = await data.open(directory);
    expect(second.size).toBe(19_999);
    await second.close();
  });

  test('from memory that another thread writes to meanwhile is the value that was in memory', async () => {
    const directory = data.fresh();
    const options = { maxMemory: '64mb', snapshot: { every: 0, atClose: false } } as const;
    const first = await data.open<Uint8Array>(directory, options);
    const shared = new SharedArrayBuffer(8192);
    const program = `
      const { workerData, parentPort } = require('node:worker_threads');
      const bytes = new Uint8Array(workerData);
      parentPort.postMessage('writing');
      for (let i = 0; ; i++) bytes.fill(i);
    `;
    const writing = new Worker(program, { eval: true, workerData: shared });
    await once(writing, 'message');
    // Copied with the key, copied by the store, brought in piece by piece, and with an expiry that is to be kept.
    const sizes = [100, 1000, 4096, 5000, 8192];
    const seen = new Map<string, Buffer>();
    for (let i = 0; i < 6000; i++) {
      const key = `key${i}`;
      const value = new Uint8Array(shared, 0, sizes[i % sizes.length]!);
      if (i % 7 === 0) first.setMany([[key, value]]);
      else first.set(key, value, i % 2 === 0 ? { ttl: 'keep' } : {});
      seen.set(key, Buffer.from(first.get(key)!));
      if (i % 200 === 0) await first.sync();
    }
    await writing.terminate();
    await first.close();
    const second = await data.open<Uint8Array>(directory, options);
    for (const [key, bytes] of seen) expect(bytes.equals(second.get(key)!), key).toBe(true);
    await second.close();
  });

  test('as values of 64 MiB goes through a ring of 1 MiB', async () => {
    const directory = data.fresh();
    const options = { maxMemory: '512mb', maxValueBytes: '64mb', ringSize: '1mb', shards: 1 };
    const first = await data.open<Buffer>(directory, options);
    const largest = 64 * 2 ** 20;
    for (let i = 0; i < 3; i++) {
      expect(await first.promises.set(`large${i}`, Buffer.alloc(largest, i + 1))).toBe('stored');
      first.set(`small${i}`, Buffer.from([i]));
    }
    await first.close({ timeout: 0 }); // However slow the disk is.
    const second = await data.open<Buffer>(directory, options);
    for (let i = 0; i < 3; i++) {
      const value = second.get(`large${i}`)!;
      expect(value.length).toBe(largest);
      expect(value.equals(Buffer.alloc(largest, i + 1))).toBe(true);
      expect(second.get(`small${i}`)).toEqual(Buffer.from([i]));
    }
    await second.close({ timeout: 0 });
  }, 240_000);
});

describe('time', () => {
  test('goes on while the cache is closed: what has expired is not there', async () => {
    const directory = data.fresh();
    const now = Date.now();
    writeLog(directory, now - 7_200_000, [
      { kind: 'set', key: 'gone', value: 'x', expiresWallMs: now - 3_600_000 },
      { kind: 'set', key: 'there', value: 'x', expiresWallMs: now + 3_600_000 },
      { kind: 'set', key: 'forever', value: 'x' },
      { kind: 'touch', key: 'forever', expiresWallMs: now - 1 },
    ]);
    const cache = await data.open(directory);
    expect([...cache.keys()]).toEqual(['there']);
    expect(cache.getRemainingTTL('there')).toBeGreaterThan(3_500_000);
    await cache.close();
  });

  test('does not go back when the clock is set back: what had expired stays away', async () => {
    const directory = data.fresh();
    const now = Date.now();
    // The machine's clock was an hour ahead when this was written.
    writeLog(directory, now + 3_600_000, [
      { kind: 'set', key: 'gone', value: 'x', expiresWallMs: now + 1_800_000 },
      { kind: 'set', key: 'there', value: 'x', expiresWallMs: now + 5_400_000 },
    ]);
    const first = await data.open(directory);
    expect([...first.keys()]).toEqual(['there']);
    expect(first.getRemainingTTL('there')).toBeLessThanOrEqual(1_800_000);
    first.set('new', 'x', { ttl: '10m' });
    expect(first.getRemainingTTL('new')).toBeLessThanOrEqual(600_000);
    await first.close();
    const second = await data.open(directory);
    expect(second.getRemainingTTL('new')).toBeLessThanOrEqual(600_000);
    expect(second.getRemainingTTL('new')).toBeGreaterThan(500_000);
    await second.close();
  });

  test('that jumps ahead takes what has expired by it', async () => {
    const directory = data.fresh();
    const now = Date.now();
    // The machine's clock was an hour behind: an entry for ten minutes is long over.
    writeLog(directory, now - 3_600_000, [
      { kind: 'set', key: 'ten minutes', value: 'x', expiresWallMs: now - 3_000_000 },
    ]);
    const cache = await data.open(directory);
    expect([...cache.keys()]).toEqual([]);
    await cache.close();
  });
});

describe("recover: 'none'", () => {
  test('begins empty, and nothing of what was before comes back', async () => {
    const directory = data.fresh();
    const first = await data.open(directory, { segmentSize: 65_536, snapshot: { atClose: false } });
    for (let i = 0; i < 5000; i++) {
      first.set(`old${i}`, 'x'.repeat(100));
      if (i % 300 === 0) await first.sync();
    }
    await first.close();
    const before = segmentsOf(directory);

    const second = await data.open(directory, { recover: 'none' });
    expect(second.size).toBe(0);
    expect(second.recovery).toMatchObject({ from: 'none', records: 0 });
    second.set('new', 1);
    await second.sync();
    // Not closed: what is there then is the log, and the empty snapshot.
    await data.crash(second);
    expect(before.length).toBeGreaterThan(5);
    expect(segmentsOf(directory).filter((name) => before.includes(name))).toEqual([]);

    const third = await data.open(directory);
    expect([...third.keys()]).toEqual(['new']);
    await third.close();
  });

  test('brings nothing back, even if the snapshot of the empty cache is damaged', async () => {
    const directory = data.fresh();
    const first = await data.open(directory, { snapshot: { atClose: false } });
    for (let i = 0; i < 100; i++) first.set(`old${i}`, 'x');
    await first.snapshot();
    first.set('old too', 'x');
    await first.close();
    const second = await data.open(directory, { recover: 'none', snapshot: { atClose: false } });
    second.set('new', 1);
    await second.close();
    const newest = readdirSync(directory)
      .filter((name) => name.endsWith('.snapshot'))
      .sort()
      .at(-1)!;
    truncateSync(join(directory, newest), 200);
    const third = await data.open(directory);
    expect(third.recovery?.unusable).toMatchObject([{ name: newest }]);
    expect([...third.keys()]).toEqual(['new']);
    await third.close();
  });

  test('is a clear to readers of the log', async () => {
    const directory = data.fresh();
    const first = await data.open(directory, { snapshot: { atClose: false } });
    first.set('a', 1);
    await first.close();
    const second = await data.open(directory, { recover: 'none', snapshot: { atClose: false } });
    await second.close();
    const log = EmbeddedLog.open({ directory, lockDirectory: lockedByCaller });
    const kinds = [...log.entries(log.oldestReadable)].flatMap(({ records }) =>
      records.length > 0 ? [records[4]] : [],
    );
    expect(kinds.at(-1)).toBe(4);
    log.close();
  });

  test.each([
    ['the first', (names: readonly string[]) => names[0]!],
    ['one in the middle', (names: readonly string[]) => names[2]!],
    ['the last', (names: readonly string[]) => names.at(-1)!],
  ])(
    'refuses a log that is damaged in %s of its segments, as it does with log, and changes none of them',
    async (_, pick) => {
      const directory = data.fresh();
      const first = await data.open(directory, {
        segmentSize: 65_536,
        sync: 'none',
        snapshot: { every: 0, atClose: false },
      });
      for (let i = 0; i < 3000; i++) {
        first.set(`old${i}`, 'x'.repeat(100));
        if (i % 300 === 0) await first.sync();
      }
      await first.close();
      const names = segmentsOf(directory);
      expect(names.length).toBeGreaterThan(4);
      const path = join(directory, pick(names));
      const bytes = readFileSync(path);
      bytes[300]! ^= 1;
      writeFileSync(path, bytes);
      const before = names.map((name) => readFileSync(join(directory, name)));
      for (const recover of ['log', 'none'] as const) {
        const refused = await data.open(directory, { recover }).catch((error) => error);
        expect(refused).toEqual(withCode('ERR_LOG_CORRUPT', /cairn-cache log repair/));
        if (recover === 'none') expect(refused.message).toContain(`remove ${directory}`);
      }
      for (const [i, name] of names.slice(0, -1).entries()) {
        expect(readFileSync(join(directory, name)).equals(before[i]!), name).toBe(true);
      }
      repair(directory, { lockDirectory: lockedByCaller, random: () => 5n });
      const given = await data.open(directory, { recover: 'none' });
      expect(given.size).toBe(0);
      await given.close();
    },
  );

  test('begins empty although the newest snapshot is damaged', async () => {
    const directory = data.fresh();
    const first = await data.open(directory, { snapshot: { atClose: false } });
    first.set('old', 1);
    await first.snapshot();
    await first.close();
    const [name] = readdirSync(directory).filter((each) => each.endsWith('.snapshot'));
    truncateSync(join(directory, name!), 200);
    const second = await data.open(directory, { recover: 'none' });
    expect(second.size).toBe(0);
    await second.close();
  });

  test('of a new directory is nothing special', async () => {
    const cache = await data.open(data.fresh(), { recover: 'none' });
    cache.set('a', 1);
    await cache.close();
  });
});

function segmentsOf(directory: string): string[] {
  return readdirSync(directory).filter((name) => name.endsWith('.log'));
}

describe('opening', () => {
  test('tells how it gets on, and what it has read', async () => {
    const directory = data.fresh();
    const first = await data.open(directory, { snapshot: { atClose: false } });
    for (let i = 0; i < 1000; i++) first.set(`k${i}`, 'v');
    await first.snapshot();
    first.set('late', 'v');
    await first.close();
    const seen: RecoveryProgress[] = [];
    const second = await data.open(directory, { onRecovery: (progress) => seen.push(progress) });
    expect(seen.at(-1)).toMatchObject({ source: 'log', records: 1001 });
    expect(seen.at(-1)!.bytes).toBe(seen.at(-1)!.bytesTotal);
    expect(second.recovery).toMatchObject({
      from: 'log',
      records: 1001,
      applied: 1001,
      lost: 0,
      unusable: [],
      snapshot: { entries: 1000 },
    });
    expect(second.stats().log).toMatchObject({ state: 'running', recoveryRecords: 1001, starts: 1 });
    await second.close();
  });

  test('is refused while another has the directory, who is named; and is possible when it is free', async () => {
    const directory = data.fresh();
    const first = await data.open(directory);
    await expect(data.open(directory)).rejects.toThrow(withCode('ERR_LOG_LOCKED', new RegExp(`${process.pid}`)));
    await first.close();
    const second = await data.open(directory);
    await second.close();
  });

  test('of a damaged log is refused with the command that repairs it; the directory is free then, and the name', async () => {
    const directory = data.fresh();
    const first = await data.open(directory, { snapshot: { atClose: false } });
    for (let i = 0; i < 100; i++) {
      first.set(`k${i}`, 'x'.repeat(100));
      if (i % 10 === 0) await first.sync();
    }
    await first.close();
    const file = join(directory, '000000000001.log');
    const bytes = readFileSync(file);
    const whole = Buffer.from(bytes);
    bytes[300]! ^= 1;
    writeFileSync(file, bytes);
    for (let i = 0; i < 2; i++) {
      await expect(data.open(directory, { name: 'damaged' })).rejects.toThrow(
        withCode('ERR_LOG_CORRUPT', /cairn-cache log verify .*cairn-cache log repair/s),
      );
    }
    expect(Cache.names).not.toContain('damaged');
    lockByAddon(directory).release();
    writeFileSync(file, whole);
    const second = await data.open(directory, { name: 'damaged' });
    expect(second.size).toBe(100);
    await second.close();
  });

  test('of a directory that cannot be made is refused', async () => {
    const file = join(data.root, 'a file');
    writeFileSync(file, '');
    await expect(data.open(join(file, 'log'))).rejects.toThrow(
      withCode('ERR_LOG_IO', /^Cannot make or read the directory .*log: (not a directory|file already exists) \(E/),
    );
  });

  test('joins a cache of that name with equal options; the last of them closes the log', async () => {
    const directory = data.fresh();
    const options = { name: 'joined' };
    const first = await data.open(directory, options);
    const second = await data.open(directory, options);
    first.set('a', 1);
    await first.close();
    expect(first.closed).toBe(true);
    expect(second.get('a')).toBe(1);
    second.set('b', 2);
    await second.sync();
    await second.close();
    const third = await data.open(directory, options);
    expect(third.size).toBe(2);
    await third.close();
  });

  test('joins with the options that the cache shows', async () => {
    const directory = data.fresh();
    const first = await data.open(directory, { name: 'shown again', sync: '10ms', snapshot: { every: 0 } });
    const second = await Cache.open(first.options);
    first.set('a', 1);
    await first.close();
    expect(second.get('a')).toBe(1);
    await expect(Cache.open({ ...second.options, sync: '20ms' })).rejects.toThrow(withCode('ERR_NAME_TAKEN'));
    await second.close();
    expect(Cache.names).not.toContain('shown again');
  });

  test('while the one of that name is being closed waits for that', async () => {
    const directory = data.fresh();
    const first = await data.open(directory, { name: 'again' });
    first.set('a', 1);
    void first.close();
    const second = await data.open(directory, { name: 'again' });
    expect(second.get('a')).toBe(1);
    await second.close();
  });

  test('is not ready for others before it is done', async () => {
    const directory = data.fresh();
    const opening = data.open(directory, { name: 'not yet' });
    expect(() => Cache.attach('not yet')).toThrow(withCode('ERR_NOT_READY'));
    const cache = await opening;
    using attached = Cache.attach('not yet');
    attached.set('a', 1);
    await attached.sync();
    await cache.close();
    expect(attached.closed).toBe(true);
  });
});

describe('options', () => {
  const refused = async (options: object): Promise<Error> =>
    Cache.open({ data: '/nowhere', ...options } as never).then(
      () => new Error('It was not refused'),
      (error) => error,
    );

  test.each<[object, RegExp]>([
    [{ data: '' }, /data to be a directory, got ""/],
    [{ data: 5 }, /data to be a directory, got 5/],
    [{ sync: 'sometimes' }, /sync to be 'always', 'none' or an interval.*"sometimes"/],
    [{ sync: '0ms' }, /sync.*from 1 ms to an hour, got "0ms"/],
    [{ sync: '4000000ms' }, /sync.*from 1 ms to an hour/],
    [{ sync: '2h' }, /sync.*from 1 ms to an hour, got "2h"/],
    [{ sync: '0.5ms' }, /sync/],
    [{ sync: 10 }, /sync.*got 10/],
    [{ ack: 'stored' }, /ack/],
    [{ recover: 'all' }, /recover to be 'log' or 'store' or 'none'/],
    [{ logLimit: '10%' }, /logLimit.*"10%"/],
    [{ logLimit: 10_000 }, /logLimit to be at least 16384 bytes, got 10000/],
    [
      { logLimit: '8mb', maxValueBytes: '3mb' },
      /maxValueBytes to be at most a quarter of logLimit \(8388608\), got "3mb"/,
    ],
    [
      { logLimit: '100mb', segmentSize: '50mb' },
      /logLimit to be at least 4 times segmentSize \(209715200 bytes\), got "100mb"/,
    ],
    [{ segmentSize: 100 }, /segmentSize to be between 4kb and 1gb/],
    [{ segmentSize: '2gb' }, /segmentSize/],
    [{ ringSize: '32mb' }, /ringSize to be at most a quarter of maxMemory \(67108864\), got "32mb"/],
    [{ maxValueBytes: '65mb', maxMemory: '1gb' }, /maxValueBytes to be at most 64mb where there is a log/],
    [{ snapshot: 5 }, /snapshot to be an object/],
    [{ snapshot: { ever: '1h' } }, /did you mean every/],
    [{ snapshot: { every: 'x' } }, /snapshot.every/],
    [{ snapshot: { logBytes: 0 } }, /snapshot.logBytes/],
    [{ snapshot: { atClose: 1 } }, /snapshot.atClose/],
    [{ onRecovery: 5 }, /onRecovery to be a function/],
  ])('%o is refused', async (options, message) => {
    expect(await refused(options)).toEqual(withCode('ERR_INVALID_ARGUMENT', message));
  });

  test('a log whose limit is below what the rings hold takes a burst all the same, with snapshots in between', async () => {
    const small = { maxMemory: '8mb', ringSize: '64kb', logLimit: '64kb', segmentSize: '16kb' } as const;
    const cache = await data.open(data.fresh(), { ...small, snapshot: { every: 0 } });
    let written = 0;
    try {
      for (; ; written++) cache.set(`k${written}`, 'v'.repeat(500));
    } catch (error) {
      expect(error).toEqual(withCode('ERR_LOG_FULL'));
    }
    expect(written * 500).toBeGreaterThan(2 * 65_536);
    await cache.sync();
    for (let i = 0; i < 4; i++) expect(await cache.promises.set(`p${i}`, 'v'.repeat(2000))).toBe('stored');
    // The last one may be under way, and numbers are given out a few times a second.
    await until(() => cache.stats().log!.snapshots > 0);
    await cache.close();
  });

  test('a value that the log could never take is too large from the start', async () => {
    const cache = await data.open(data.fresh(), { logLimit: '256kb', segmentSize: '64kb' });
    expect(() => cache.set('a', 'x'.repeat(65_537))).toThrow(withCode('ERR_VALUE_TOO_LARGE', /at most 65536 bytes/));
    expect(await cache.promises.set('a', 'x'.repeat(65_536))).toBe('stored');
    await cache.close();
  });

  test.each(['sync', 'recover', 'logLimit', 'segmentSize', 'ringSize', 'snapshot', 'onRecovery'])(
    '%s without data is refused',
    (name) => {
      const given = { sync: 'none', recover: 'none', snapshot: {}, onRecovery: () => {} }[name] ?? '1mb';
      expect(() => new Cache({ [name]: given } as never)).toThrow(
        withCode('ERR_INVALID_ARGUMENT', new RegExp(`The option ${name} is for a cache with a log: give data`)),
      );
    },
  );

  test('data is for Cache.open', () => {
    expect(() => new Cache({ data: '/nowhere' })).toThrow(withCode('ERR_INVALID_ARGUMENT', /Cache\.open/));
  });

  test('data is for the main thread; others attach', async () => {
    const thread = startThread(async ({ cairn, say }) => {
      const error = await cairn.Cache.open({ data: '/nowhere' }).catch((reason) => reason);
      say([error.code, error.message]);
    }, undefined);
    expect(await thread.next()).toEqual(['ERR_INVALID_ARGUMENT', expect.stringMatching(/main thread.*Cache\.attach/)]);
    await thread.exit;
  });

  test('are shown as they were taken, on every handle', async () => {
    const directory = data.fresh();
    const cache = await data.open(directory, { name: 'shown', sync: '5ms', logLimit: '64mb', ack: 'memory' });
    using attached = Cache.attach('shown');
    expect(attached.options).toMatchObject({
      ack: 'memory',
      data: directory,
      sync: '5ms',
      recover: 'log',
      logLimit: 64 * 2 ** 20,
      segmentSize: 4 * 2 ** 20,
      ringSize: 4 * 2 ** 20,
      maxValueBytes: 2 ** 20,
    });
    expect(attached.options.snapshot).toEqual({ every: 3_600_000, atClose: true });
    expect(attached.options.ringSize).toBe(cache.stats().log?.ringCapacityBytes);
    await cache.close();
  });

  test('an interval of syncs may be in any unit', async () => {
    for (const [given, shown] of [
      ['1.5s', '1500ms'],
      ['1h', '3600000ms'],
      ['20ms', '20ms'],
      ['0.07s', '70ms'],
    ] as const) {
      const cache = await data.open(data.fresh(), { sync: given as '20ms' });
      expect(cache.options.sync).toBe(shown);
      await cache.close();
    }
  });

  test('are shown with what was chosen, and taken again', async () => {
    const directory = data.fresh();
    const cache = await data.open(directory, { maxMemory: '64mb', maxEntries: 1e6, snapshot: { every: 0 } });
    const { options } = cache;
    expect(options).toMatchObject({
      logLimit: 4 * 2 ** 30,
      segmentSize: 64 * 2 ** 20,
      ringSize: cache.stats().log?.ringCapacityBytes,
      maxMemoryCeiling: 256 * 2 ** 20,
      snapshot: { every: 0, atClose: true },
    });
    await cache.close();
    const again = await Cache.open(options);
    expect(again.options).toEqual(options);
    await again.close();
  });

  test('a cache without data has no log, and none of its options and statistics', async () => {
    using cache = new Cache();
    for (const name of ['data', 'sync', 'recover', 'logLimit', 'segmentSize', 'ringSize', 'snapshot']) {
      expect(cache.options).not.toHaveProperty(name);
    }
    expect(cache.stats()).not.toHaveProperty('log');
    expect(cache.recovery).toBeUndefined();
    await cache.sync();
    await expect(cache.snapshot()).rejects.toThrow(withCode('ERR_INVALID_ARGUMENT'));
    cache.on('log', () => {}).off('log', () => {});
  });
});
