// Opening a log over a real cache, on a disk in memory that fails when told to: what may be shown, and when it is
// refused.

import { afterEach, describe, expect, test } from 'vitest';
import { Cache } from '../../src/index.ts';
import { EmbeddedLog, lockedByCaller, repair, survey } from '../../src/log/index.ts';
import { type FeedHandle, feedOf, native } from '../../src/native.ts';
import type { Question } from '../../src/scribe/commands.ts';
import { openEmbeddedLog } from '../../src/scribe/embedded.ts';
import { CONTROL_WORDS, type Command, type Report, type ScribeData } from '../../src/scribe/message.ts';
import type { Scribe } from '../../src/scribe/scribe.ts';
import { startScribe } from '../../src/scribe/start.ts';
import { withCode } from '../support/errors.ts';
import { FaultyDisk } from '../support/faulty-files.ts';
import { Random } from '../support/random.ts';
import { makeRecord, type RecordParts } from '../support/records.ts';

const NAME = 'start';
const ends: (() => void)[] = [];
afterEach(() => {
  for (const end of ends.splice(0)) end();
});

/** A process on a disk: a cache with its log, all in this thread. */
class Life {
  readonly feed: FeedHandle;
  readonly cache: Cache<string>;
  readonly scribe: Scribe;
  readonly reports: Report[] = [];
  readonly #commands: Command[] = [];
  #id = 0;

  constructor(disk: FaultyDisk, data: Partial<ScribeData> = {}, nowMs = 1_800_000_000_000) {
    const owner = native.openCache({
      ...{ name: NAME, description: '', join: false, ready: false, ttlMs: 0, trackAccess: false, siphash: false },
      ...{ memoryBytes: 2 ** 25, memoryBytesCeiling: 2 ** 25, entriesMax: 0, shardCount: 1 },
      ...{ valueBytesMax: 2 ** 20, ringBytes: 2 ** 20 },
    });
    if (typeof owner === 'number') throw new Error(`The cache cannot be opened: ${owner}`);
    ends.push(() => owner.close());
    this.feed = feedOf(owner)!;
    this.scribe = startScribe({
      handle: this.feed,
      data: {
        cacheId: owner.cacheId,
        directory: '/data',
        sync: 'always',
        segmentBytes: 4096,
        limitBytes: 2 ** 30,
        snapshots: { everyMs: 0, logBytes: 2 ** 40, isTakenAtClose: false },
        start: 'log',
        control: new SharedArrayBuffer(4 * CONTROL_WORDS),
        ...data,
      },
      openLog: openEmbeddedLog(disk.files()),
      clock: { wallMs: () => nowMs, steadyMs: () => performance.now() },
      hear: () => this.#commands.shift(),
      say: (report) => void this.reports.push(report),
    });
    this.cache = Cache.attach<string>(NAME);
  }

  /** Everything that was done is in the log; returns how a command was answered. */
  ask(kind: 'sync' | 'snapshot' | 'close'): Extract<Report, { kind: 'done' }> {
    const targets = new BigUint64Array(this.feed.shardCount);
    this.feed.readTargets(targets);
    if (kind === 'sync') return this.tell({ kind, targets });
    return this.tell(kind === 'snapshot' ? { kind } : { kind, timeoutMs: 1000, takesSnapshot: false });
  }

  tell(question: Question): Extract<Report, { kind: 'done' }> {
    const id = ++this.#id;
    this.#commands.push({ ...question, id });
    for (;;) {
      this.feed.poke();
      this.scribe.turn();
      const answer = this.reports.find((report) => report.kind === 'done' && report.id === id);
      if (answer?.kind === 'done') return answer;
    }
  }

  crash(disk: FaultyDisk): void {
    disk.kill();
    this.feed.close();
  }

  get recovered(): Record<string, string> {
    return Object.fromEntries(this.cache) as Record<string, string>;
  }
}

const newDisk = (): FaultyDisk => new FaultyDisk(new Random(7));

describe('what the last process had not synced', () => {
  const spoiled = (): FaultyDisk => {
    const disk = newDisk();
    const life = new Life(disk, { sync: 'none' });
    life.cache.set('a', '1');
    life.feed.poke();
    life.scribe.turn();
    expect(life.feed.covered(new BigUint64Array([life.feed.commitMark(0)]))).toBe(true);
    life.crash(disk);
    return disk;
  };

  test('is synced before the cache shows it', () => {
    const disk = spoiled();
    const life = new Life(disk);
    expect(life.recovered).toEqual({ a: '1' });
    life.feed.close();
    disk.restart();
    expect(new Life(disk).recovered).toEqual({ a: '1' });
  });

  test('is not shown on a full disk, where a power cut could still take it', () => {
    const disk = spoiled();
    disk.capacityBytes = disk.bytes;
    expect(() => new Life(disk)).toThrow(withCode('ERR_LOG_FULL', /the disk is full/));
    ends.pop()!();
    // At sync level `none` the caller is promised no durability, so recovery shows it.
    const life = new Life(disk, { sync: 'none' });
    expect(life.recovered).toEqual({ a: '1' });
    life.crash(disk);
    disk.capacityBytes = Number.POSITIVE_INFINITY;
    expect(new Life(disk).recovered).toEqual({ a: '1' });
  });

  test('is not needed after a close: a full disk can be opened and read', () => {
    const disk = newDisk();
    const first = new Life(disk);
    first.cache.set('a', '1');
    expect(first.ask('close').error).toBeUndefined();
    first.feed.close();
    disk.capacityBytes = disk.bytes;
    const second = new Life(disk);
    expect(second.recovered).toEqual({ a: '1' });
  });
});

describe("start: 'none'", () => {
  const full = { limitBytes: 4 * 4096 };

  function filled(): FaultyDisk {
    const disk = newDisk();
    const life = new Life(disk, full);
    for (let i = 0; ; i++) {
      life.cache.set(`old${i}`, 'x'.repeat(300));
      life.feed.poke();
      life.scribe.turn();
      if (life.reports.some((report) => report.kind === 'notice' && report.notice.kind === 'level')) break;
    }
    life.crash(disk);
    return disk;
  }

  test('discards a log that is at its limit, too', () => {
    const disk = filled();
    const life = new Life(disk, { ...full, start: 'none' });
    expect(life.recovered).toEqual({});
    life.cache.set('new', '1');
    expect(life.ask('sync').error).toBeUndefined();
    life.crash(disk);
    expect(new Life(disk, full).recovered).toEqual({ new: '1' });
  });

  test('that a power cut interrupts leaves all entries, or none', () => {
    const before = filled();
    const image = before.image();
    const all = Object.keys(new Life(FaultyDisk.of(image, new Random(1))).recovered).length;
    ends.pop()!();
    expect(all).toBeGreaterThan(10);
    let isGone = 0;
    let isThere = 0;
    // The power goes at every file call in turn.
    for (let calls = 0; ; calls++) {
      const disk = FaultyDisk.of(image, new Random(calls));
      const cutAt = disk.callCount + calls;
      disk.fate = ({ index }) => (index === cutAt ? 'cut' : 'ok');
      let isDone = false;
      try {
        const life = new Life(disk, { start: 'none' });
        isDone = true;
        life.feed.close();
        ends.pop();
      } catch {
        ends.pop()!();
      }
      disk.fate = () => 'ok';
      disk.restart();
      const left = Object.keys(new Life(disk).recovered).length;
      ends.pop()!();
      expect([0, all], `the power goes at call ${calls}`).toContain(left);
      if (left === 0) isGone++;
      else isThere++;
      if (isDone) {
        expect(left).toBe(0);
        break;
      }
    }
    expect(isGone).toBeGreaterThan(3);
    expect(isThere).toBeGreaterThan(3);
  });
});

test('a log above its limit, with the last snapshot in the middle of a large segment, is freed by another one', () => {
  const disk = newDisk();
  const first = new Life(disk, { segmentBytes: 2 ** 17 });
  for (let i = 0; i < 100; i++) {
    first.cache.set(`k${i % 10}`, 'x'.repeat(400));
    if (i >= 98) first.ask('snapshot');
    else first.ask('sync');
  }
  // Hardly anything is behind the last snapshot, so that none is due for that. What the last batch has goes to a new
  // segment when the log is opened.
  for (const key of ['last', 'very last']) {
    first.cache.set(key, '1');
    first.ask('sync');
  }
  first.crash(disk);
  const second = new Life(disk, { limitBytes: 4 * 4096 });
  second.cache.set('new', '1');
  expect(second.ask('sync').error).toBeUndefined();
  expect(second.ask('close').error).toBeUndefined();
  second.crash(disk);
  expect(disk.bytes).toBeLessThan(8 * 4096);
  expect(Object.keys(new Life(disk).recovered)).toHaveLength(13);
});

test('a log with bytes that are no record is refused, and closed again', () => {
  const disk = newDisk();
  const options = { directory: '/data', files: disk.files(), lockDirectory: lockedByCaller };
  const log = EmbeddedLog.open(options);
  log.append({ records: [Buffer.alloc(48)], recordCount: 1, epoch: log.epoch, expectPosition: log.end });
  log.close();
  expect(() => new Life(disk)).toThrow(withCode('ERR_LOG_CORRUPT', /records that are none, in the log at position 64/));
  const { segments } = survey('/data', { files: disk.files(), isDeep: false });
  expect(segments).toHaveLength(1);
  expect(segments[0]?.scan.mark?.kind).toBe('closed');
});

describe('records with optional fields', () => {
  const written = (...parts: RecordParts[]): FaultyDisk => {
    const disk = newDisk();
    const log = EmbeddedLog.open({ directory: '/data', files: disk.files(), lockDirectory: lockedByCaller });
    const records = parts.map((each, i) => makeRecord({ epoch: log.epoch, counter: i + 1, ...each }));
    log.append({ records, recordCount: records.length, epoch: log.epoch, expectPosition: log.end });
    log.close();
    return disk;
  };
  const problems = (disk: FaultyDisk): unknown[] =>
    survey('/data', { files: disk.files(), isDeep: true }).problems.filter(({ kind }) => kind !== 'note');

  test('are read back, whole atomic batches too', () => {
    const disk = written(
      { kind: 'set', key: 'counter', value: '7', delta: 3n },
      { kind: 'set', key: 'stale', value: 'old', freshUntilWallMs: 1000 },
      { kind: 'set', key: 'b', value: '1', batch: { id: 9n, count: 2, index: 1 } },
      { kind: 'set', key: 'between', value: '1' },
      { kind: 'delete', key: 'counter', batch: { id: 9n, count: 2, index: 0 } },
    );
    expect(problems(disk)).toEqual([]);
    expect([...new Life(disk).cache.keys()].sort()).toEqual(['b', 'between']);
  });

  test('of which one is not known are of a newer version, and refused by its name', () => {
    const disk = newDisk();
    const log = EmbeddedLog.open({ directory: '/data', files: disk.files(), lockDirectory: lockedByCaller });
    const record = makeRecord({ kind: 'set', key: 'key', value: 'value', epoch: log.epoch });
    record[6] = 0x10;
    log.append({ records: [record], recordCount: 1, epoch: log.epoch, expectPosition: log.end });
    log.close();
    const why = /has the optional field 4, which this version of cairn-cache does not know/;
    expect(() => new Life(disk)).toThrow(withCode('ERR_LOG_VERSION', why));
    expect(problems(disk)).toEqual([expect.objectContaining({ kind: 'newer', text: expect.stringMatching(why) })]);
    expect(() => repair('/data', { files: disk.files(), lockDirectory: lockedByCaller, random: () => 1n })).toThrow(
      withCode('ERR_LOG_VERSION', why),
    );
  });

  test.each<[string, RecordParts[]]>([
    ['one is missing', [{ kind: 'set', key: 'a', batch: { id: 9n, count: 2, index: 0 } }]],
    [
      'one is there twice',
      [
        { kind: 'set', key: 'a', batch: { id: 9n, count: 2, index: 0 } },
        { kind: 'set', key: 'b', batch: { id: 9n, count: 2, index: 0 } },
      ],
    ],
    [
      'two give different counts',
      [
        { kind: 'set', key: 'a', batch: { id: 9n, count: 2, index: 0 } },
        { kind: 'set', key: 'b', batch: { id: 9n, count: 3, index: 1 } },
      ],
    ],
  ])('of an atomic batch of which %s are damage', (_, parts) => {
    const disk = written({ kind: 'set', key: 'sound', value: '1' }, ...parts);
    expect(() => new Life(disk)).toThrow(withCode('ERR_LOG_CORRUPT', /records that are none/));
    expect(problems(disk)).toEqual([
      expect.objectContaining({ kind: 'damage', text: 'it does not have each part of the atomic batch 9 once' }),
    ]);
  });
});

describe('an opening that is refused changes no byte', () => {
  /** Six segments, a torn end, and a file that was not finished; with `only`, recovery needs the snapshot. */
  const made = (only: boolean): FaultyDisk => {
    const disk = newDisk();
    const life = new Life(disk);
    for (let i = 0; i < 24; i++) {
      life.cache.set(`k${i}`, 'x'.repeat(700));
      life.ask('sync');
      if (i === 12 && only) life.ask('snapshot');
    }
    life.crash(disk);
    if (only) {
      const options = { directory: '/data', files: disk.files(), lockDirectory: lockedByCaller };
      const log = EmbeddedLog.open(options);
      for (const _ of log.snapshots.read(log.snapshots.sound[0]!));
      log.truncate(log.snapshots.newestVerified!.position);
      disk.kill();
    }
    const last = disk.names('/data').findLast((name) => name.endsWith('.log'))!;
    const bytes = disk.bytesOf(`/data/${last}`);
    disk.put(`/data/${last}`, Buffer.concat([bytes, Buffer.from('CB torn')]));
    disk.put('/data/000000000099.log.tmp', Buffer.from('half of a header'));
    return disk;
  };
  const flipped = (disk: FaultyDisk, name: string, offset: number): void => {
    const bytes = disk.bytesOf(`/data/${name}`);
    bytes[offset]! ^= 1;
    disk.put(`/data/${name}`, bytes);
  };

  test.each(['log', 'none'] as const)('(start: %s)', (start) => {
    const cases: [string, boolean, (disk: FaultyDisk) => void][] = [
      ['a bit of the second segment', false, (disk) => flipped(disk, '000000000002.log', 1000)],
      ['the only snapshot', true, (disk) => flipped(disk, '000000000001.snapshot', 200)],
      ['the header of the only snapshot', true, (disk) => flipped(disk, '000000000001.snapshot', 40)],
      ['the first segment is gone', false, (disk) => disk.delete('/data/000000000001.log')],
    ];
    for (const [name, only, damage] of cases) {
      const disk = made(only);
      damage(disk);
      const before = disk.image();
      for (let i = 0; i < 3; i++) {
        expect(() => new Life(disk, { start }), name).toThrow(withCode('ERR_LOG_CORRUPT'));
        for (const end of ends.splice(0)) end();
        expect(disk.image(), name).toEqual(before);
      }
    }
    const disk = made(false);
    disk.fate = ({ kind, path }) => (kind === 'read' && path.endsWith('3.log') ? 'EIO' : 'ok');
    const before = disk.image();
    expect(() => new Life(disk, { start })).toThrow(withCode('ERR_LOG_IO'));
    expect(disk.image()).toEqual(before);
  });

  test('unlike one that succeeds, which removes the torn end and the unfinished file', () => {
    const disk = made(true);
    expect(Object.keys(new Life(disk).recovered)).toHaveLength(24);
    expect(disk.names('/data').filter((name) => name.endsWith('.tmp'))).toEqual([]);
  });
});

describe('the cursor of an opening', () => {
  const positionOf = (life: Life): unknown => life.tell({ kind: 'cursor', name: 'store', act: 'position' }).result;

  test('is there when the cache is ready, at the oldest entry or where the caller wants it, and stays where it is', () => {
    const disk = newDisk();
    const first = new Life(disk, { cursor: { name: 'store' } });
    expect(positionOf(first)).toBe(0n);
    first.cache.set('a', '1');
    const end = first.ask('sync').result as bigint;
    const moved = first.tell({ kind: 'cursor', name: 'store', act: { advance: end } });
    expect(moved.error).toBeUndefined();
    first.ask('close');
    first.feed.close();
    const second = new Life(disk, { cursor: { name: 'store' } });
    expect(positionOf(second)).toBe(end);
    second.ask('close');
    second.feed.close();
    const third = new Life(disk, { cursor: { name: 'other', position: end } });
    expect(third.tell({ kind: 'cursor', name: 'other', act: 'position' }).result).toBe(end);
  });

  test('that cannot be written keeps the cache from being opened', () => {
    const disk = newDisk();
    disk.fate = ({ path }) => (path.endsWith('cursors.tmp') ? 'EIO' : 'ok');
    expect(() => new Life(disk, { cursor: { name: 'store' } })).toThrow(withCode('ERR_LOG_IO', /cursors/));
  });

  test('keeps a log from being discarded that has records behind it', () => {
    const disk = newDisk();
    const first = new Life(disk, { cursor: { name: 'store' } });
    first.cache.set('a', '1');
    const end = first.ask('sync').result as bigint;
    first.ask('close');
    first.feed.close();
    const before = disk.bytes;
    const discarded = (): Life => new Life(disk, { cursor: { name: 'store' }, start: 'none' });
    expect(discarded).toThrow(withCode('ERR_STORE_REFUSED', /has 1 record .*: open it with recover: 'log'\./));
    expect(disk.bytes).toBe(before);
    ends.pop()!();
    const second = new Life(disk, { cursor: { name: 'store' } });
    expect(second.recovered).toEqual({ a: '1' });
    expect(second.tell({ kind: 'cursor', name: 'store', act: { advance: end } }).error).toBeUndefined();
    second.ask('close');
    second.feed.close();
    const third = discarded();
    expect(third.recovered).toEqual({});
    third.ask('close');
    third.feed.close();
    // The clear that the discarding has left is owed to no database.
    expect(discarded().recovered).toEqual({});
  });

  test('keeps every entry behind it, also over snapshots', () => {
    const disk = newDisk();
    const life = new Life(disk, { cursor: { name: 'store' } });
    for (let round = 0; round < 10; round++) {
      for (let i = 0; i < 50; i++) life.cache.set(`k${i}`, 'x'.repeat(100));
      expect(life.ask('snapshot').error).toBeUndefined();
    }
    const ready = life.reports.find((report) => report.kind === 'ready');
    expect(ready).toMatchObject({ files: { directory: '/data', openedAt: expect.any(BigInt) } });
    const logs = (): number =>
      disk
        .files()
        .list('/data')
        .filter((name) => name.endsWith('.log')).length;
    const before = logs();
    expect(before).toBeGreaterThanOrEqual(10);
    const end = life.ask('sync').result as bigint;
    expect(life.tell({ kind: 'cursor', name: 'store', act: { advance: end } }).error).toBeUndefined();
    for (let i = 0; i < 20; i++) life.ask('sync');
    expect(logs()).toBeLessThan(before);
  });
});

test('what a dead thread had appended and not committed is appended again, and applied once', () => {
  const disk = newDisk();
  const life = new Life(disk);
  life.cache.set('a', '1');
  // It dies between the append and the commit.
  disk.fate = ({ kind, path }) => (kind === 'sync' && /\.log(\.tmp)?$/.test(path) ? 'cut' : 'ok');
  life.feed.poke();
  expect(() => life.scribe.turn()).toThrow();
  disk.fate = () => 'ok';
  disk.kill();
  const scribe = startScribe({
    handle: life.feed,
    data: {
      cacheId: life.feed.cacheId,
      directory: '/data',
      sync: 'always',
      segmentBytes: 4096,
      limitBytes: 2 ** 30,
      snapshots: { everyMs: 0, logBytes: 2 ** 40, isTakenAtClose: false },
      start: 'resume',
      control: new SharedArrayBuffer(4 * CONTROL_WORDS),
    },
    openLog: openEmbeddedLog(disk.files()),
    clock: { wallMs: () => 1_800_000_000_000, steadyMs: () => performance.now() },
    hear: () => undefined,
    say: () => {},
  });
  life.cache.set('b', '2');
  const targets = new BigUint64Array(1);
  life.feed.readTargets(targets);
  while (!life.feed.covered(targets)) {
    life.feed.poke();
    scribe.turn();
  }
  life.feed.close();
  disk.restart();
  const again = new Life(disk);
  expect(again.recovered).toEqual({ a: '1', b: '2' });
});
