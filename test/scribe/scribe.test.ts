// The scribe's loop over a log on a disk in memory that fails when told to. The cache is a stand-in: what threads and
// real files do is in the other files of this folder.

import { describe, expect, test } from 'vitest';
import { type EmbeddedLog, type EmbeddedLogOptions, recover, type SyncPolicy } from '../../src/log/index.ts';
import { FeedState } from '../../src/native.ts';
import { BUFFER_BYTES } from '../../src/scribe/appending.ts';
import { CONTROL_WORDS, type Heard, type Report, type SnapshotSchedule } from '../../src/scribe/message.ts';
import { type LogMetric, Metrics } from '../../src/scribe/metrics.ts';
import { Scribe } from '../../src/scribe/scribe.ts';
import { withCode } from '../support/errors.ts';
import { LogDisk } from '../support/logs.ts';
import { MemoryFeed, replay } from '../support/memory-feed.ts';
import { makeRecord } from '../support/records.ts';

const NO_SNAPSHOTS: SnapshotSchedule = { everyMs: 0, logBytes: 2 ** 40, isTakenAtClose: false };

class Desk {
  readonly disk: LogDisk;
  readonly feed: MemoryFeed;
  readonly log: EmbeddedLog;
  readonly scribe: Scribe;
  readonly metrics = new Metrics();
  readonly reports: Report[] = [];
  readonly commands: Heard[] = [];
  readonly control = new Int32Array(CONTROL_WORDS);

  constructor(
    options: Partial<EmbeddedLogOptions> = {},
    snapshots: SnapshotSchedule = NO_SNAPSHOTS,
    disk: LogDisk = new LogDisk(),
  ) {
    this.disk = disk;
    this.log = this.disk.open({ segmentBytes: 2 ** 20, ...options });
    this.feed = new MemoryFeed(this.log.epoch);
    // Time passes while the scribe waits.
    this.feed.onWait = (ms) => {
      this.disk.nowMs += ms;
    };
    this.scribe = new Scribe({
      handle: this.feed.handle,
      log: this.log,
      clock: this.disk.options().clock!,
      metrics: this.metrics,
      snapshots,
      logBytes: 0,
      control: this.control,
      hear: () => this.commands.shift(),
      say: (report) => void this.reports.push(report),
      sleep: (ms) => {
        this.disk.nowMs += ms;
      },
    });
  }

  get(name: LogMetric): number {
    return this.metrics.get(name);
  }

  turns(count: number): void {
    for (let i = 0; i < count; i++) this.scribe.turn();
  }

  turnUntil(condition: () => boolean): void {
    for (let i = 0; !condition(); i++) {
      if (i === 10_000) throw new Error('It did not come to that in 10,000 turns');
      this.scribe.turn();
    }
  }

  targets(): BigUint64Array {
    const targets = new BigUint64Array(1);
    this.feed.readTargets(targets);
    return targets;
  }

  answerTo(id: number): Extract<Report, { kind: 'done' }> | undefined {
    return this.reports.find((report) => report.kind === 'done' && report.id === id) as never;
  }

  notices(): string[] {
    return this.reports.flatMap((report) => (report.kind === 'notice' ? [report.notice.kind] : []));
  }

  /** What another process would find, in the order in which it would be applied. */
  found(): Map<string, string> {
    const log = this.disk.open({ segmentBytes: 2 ** 20 });
    const values = new Map<string, string>();
    recover({ log, apply: (records) => replay(values, records) });
    log.close();
    return values;
  }
}

describe('records', () => {
  test('that come together are one group, committed when it is in the log', () => {
    const desk = new Desk();
    for (let i = 0; i < 100; i++) desk.feed.set(`k${i}`, 'v');
    desk.turns(1);
    expect(desk.feed.events.filter(({ kind }) => kind === 'commit')).toEqual([{ kind: 'commit', count: 100 }]);
    expect(desk.get('commits')).toBe(1);
    expect(desk.get('records')).toBe(100);
    expect(desk.log.durable).toBe(desk.log.end);
    expect(desk.found().size).toBe(100);
  });

  test('beyond a buffer are the next group', () => {
    const desk = new Desk();
    for (let i = 0; i < 25; i++) desk.feed.set(`k${i}`, Buffer.alloc(BUFFER_BYTES / 10));
    desk.turns(3);
    expect(desk.get('commits')).toBe(3);
    expect(desk.feed.uncommitted).toBe(0);
  });

  test('larger than the buffer get a large enough one, which is freed afterwards', () => {
    const desk = new Desk();
    desk.feed.set('large', Buffer.alloc(5 * BUFFER_BYTES, 'x'));
    desk.feed.set('small', 'v');
    desk.turns(4);
    expect(desk.feed.uncommitted).toBe(0);
    for (let i = 0; i < 70; i++) {
      desk.feed.set(`k${i}`, 'v');
      desk.turns(1);
    }
    // With a small buffer again, these are three groups.
    const before = desk.get('commits');
    for (let i = 0; i < 25; i++) desk.feed.set(`m${i}`, Buffer.alloc(BUFFER_BYTES / 10));
    desk.turns(3);
    expect(desk.get('commits') - before).toBe(3);
    expect(desk.found().get('large')).toHaveLength(5 * BUFFER_BYTES);
  });

  test('under an interval are committed when written, and synced by the clock while nothing else comes', () => {
    const desk = new Desk({ sync: '50ms' });
    desk.feed.set('a', '1');
    desk.turns(1);
    expect(desk.feed.uncommitted).toBe(0);
    expect(desk.log.durable).toBeLessThan(desk.log.end);
    desk.turnUntil(() => desk.log.durable === desk.log.end);
    const waits = desk.feed.events.flatMap((event) => (event.kind === 'wait' ? [event.ms] : []));
    expect(Math.max(...waits)).toBeLessThanOrEqual(50);
  });

  test("of an older epoch than that of the log are appended in the log's", () => {
    const disk = new LogDisk();
    disk.open().close();
    const desk = new Desk();
    const log = desk.log;
    const old = new MemoryFeed(log.epoch - 1);
    Object.assign(desk, { feed: old });
    old.set('a', '1');
    const scribe = new Scribe({
      handle: old.handle,
      log,
      clock: desk.disk.options().clock!,
      metrics: desk.metrics,
      snapshots: NO_SNAPSHOTS,
      logBytes: 0,
      control: desk.control,
      hear: () => undefined,
      say: () => {},
      sleep: () => {},
    });
    scribe.turn();
    expect(old.uncommitted).toBe(0);
    expect(desk.found().get('a')).toBe('1');
  });

  test('are waited for at most 500 ms, and only 1 ms once the process exits', () => {
    const desk = new Desk();
    desk.turns(5);
    const waits = (): number[] => desk.feed.events.flatMap((event) => (event.kind === 'wait' ? [event.ms] : []));
    expect(Math.max(...waits())).toBe(500);
    desk.control[0] = 1;
    desk.turns(1);
    expect(waits().at(-1)).toBe(1);
  });
});

test('a sync that is not awaited any more is not answered', () => {
  const desk = new Desk();
  desk.feed.set('a', 'v');
  const targets = desk.targets();
  targets[0]! += 1n;
  desk.commands.push({ kind: 'sync', id: 1, targets }, { kind: 'sync', id: 2, targets });
  desk.turns(2);
  desk.commands.push({ kind: 'cancel', id: 1 });
  desk.turns(2);
  desk.feed.set('b', 'v');
  desk.turnUntil(() => desk.answerTo(2) !== undefined);
  desk.turns(2);
  expect(desk.answerTo(1)).toBeUndefined();
});

describe('a log without room', () => {
  test('keeps its group, makes writes wait, then refuses them, then ends waits; and goes on when there is room', () => {
    const desk = new Desk();
    desk.disk.disk.capacityBytes = desk.disk.disk.bytes;
    desk.feed.set('a', '1');
    const begunMs = desk.disk.nowMs;
    desk.turns(1);
    expect(desk.feed.uncommitted).toBe(1);
    expect(desk.feed.state).toBe(FeedState.opening);
    // Nothing is drained meanwhile that could not be appended either.
    desk.feed.set('b', '2');
    desk.turnUntil(() => desk.feed.state === FeedState.full);
    expect(desk.disk.nowMs - begunMs).toBeGreaterThanOrEqual(1000);
    expect(desk.disk.nowMs - begunMs).toBeLessThan(1200);
    expect(desk.feed.uncommitted).toBe(2);
    expect(desk.notices()).toEqual([]);

    // After ten seconds callers stop waiting.
    desk.commands.push({ kind: 'sync', id: 7, targets: desk.targets() });
    desk.turnUntil(() => desk.feed.state === FeedState.stuck);
    expect(desk.disk.nowMs - begunMs).toBeGreaterThanOrEqual(10_000);
    expect(desk.disk.nowMs - begunMs).toBeLessThan(10_200);
    desk.commands.push({ kind: 'sync', id: 8, targets: desk.targets() });
    desk.turns(2);
    for (const id of [7, 8]) expect(desk.answerTo(id)?.error).toMatchObject({ code: 'ERR_LOG_FULL' });

    desk.disk.disk.capacityBytes = Number.POSITIVE_INFINITY;
    desk.turnUntil(() => desk.feed.uncommitted === 0);
    expect(desk.feed.state).toBe(FeedState.running);
    expect(desk.feed.uncommitted).toBe(0);
    expect(desk.found()).toEqual(
      new Map([
        ['a', '1'],
        ['b', '2'],
      ]),
    );
  });

  test('is not synced for a command that waits for level committed', () => {
    const desk = new Desk({ sync: 'none' });
    desk.feed.set('a', '1');
    desk.commands.push({ kind: 'sync', id: 1, targets: desk.targets(), level: 'committed' });
    desk.turnUntil(() => desk.answerTo(1) !== undefined);
    expect(desk.answerTo(1)?.result).toBe(desk.log.committed);
    expect(desk.log.durable).toBeLessThan(desk.log.committed);
    desk.commands.push({ kind: 'sync', id: 2, targets: desk.targets(), level: 'durable' });
    desk.turnUntil(() => desk.answerTo(2) !== undefined);
    expect(desk.answerTo(2)?.result).toBe(desk.log.durable);
    expect(desk.log.durable).toBe(desk.log.committed);
  });

  test('refuses a sync once it is known to be full', () => {
    const desk = new Desk();
    desk.disk.disk.capacityBytes = desk.disk.disk.bytes;
    desk.feed.set('a', '1');
    desk.commands.push({ kind: 'sync', id: 7, targets: desk.targets() });
    desk.turns(1);
    expect(desk.answerTo(7)).toBeUndefined();
    desk.turnUntil(() => desk.answerTo(7) !== undefined);
    expect(desk.answerTo(7)?.error).toMatchObject({
      code: 'ERR_LOG_FULL',
      message: expect.stringMatching(/no room, on the disk or within its limit: it takes \d+ of \d+ bytes$/),
    });
  });

  test('is still synced when that is due', () => {
    const desk = new Desk({ sync: '50ms' });
    desk.feed.set('a', '1');
    desk.turns(1);
    const dueMs = desk.disk.nowMs + 50;
    expect(desk.log.durable).toBeLessThan(desk.log.end);
    desk.disk.disk.fate = ({ kind }) => (kind === 'write' ? 'ENOSPC' : 'ok');
    desk.feed.set('b', '2');
    desk.turnUntil(() => desk.log.durable === desk.log.committed);
    expect(desk.disk.nowMs).toBe(dueMs);
    expect(desk.feed.uncommitted).toBe(1);
  });

  test('because of its limit gets room from a snapshot, whose last records may exceed the limit', () => {
    // The walk sees a record that the log has no room for, and must not be finished without it.
    const desk = new Desk(
      { segmentBytes: 4096, limitBytes: 16_384 },
      { everyMs: 0, logBytes: 2 ** 40, isTakenAtClose: false },
    );
    for (let i = 0; i < 400; i++) {
      desk.feed.set(`k${i % 10}`, Buffer.alloc(500, String(i % 10)));
      desk.turnUntil(() => desk.feed.uncommitted === 0);
      expect(desk.feed.state).not.toBe(FeedState.full);
    }
    expect(desk.get('snapshots')).toBeGreaterThan(3);
    expect(desk.found().size).toBe(10);
    expect(desk.log.usage().bytes).toBeLessThan(2 * 16_384);
  });

  describe('that a cursor keeps at its limit', () => {
    const limitBytes = 16_384;

    /** Sets values until the log refuses them for good. */
    function full(): Desk {
      const desk = new Desk({ segmentBytes: 4096, limitBytes });
      desk.log.cursor('holds').advance(0n);
      for (let i = 0; desk.feed.state !== FeedState.stuck; i++) {
        if (i < 200) desk.feed.set(`k${i % 10}`, Buffer.alloc(500, String(i % 10)));
        desk.turns(1);
      }
      return desk;
    }

    test('does not exceed it for snapshots, which make no room there', () => {
      const desk = full();
      expect(desk.log.usage().bytes).toBeLessThanOrEqual(limitBytes);
      const failed = desk.get('snapshotsFailed');
      desk.commands.push({ kind: 'snapshot', id: 1 });
      desk.turnUntil(() => desk.answerTo(1) !== undefined);
      expect(desk.answerTo(1)?.error).toMatchObject({ code: 'ERR_LOG_FULL' });
      desk.turns(1000);
      expect(desk.log.usage().bytes).toBeLessThanOrEqual(limitBytes);
      // None is begun that could not be finished.
      expect(desk.get('snapshotsFailed')).toBe(failed + 1);
    });

    test('gets room from a snapshot as soon as the cursor has passed', () => {
      const desk = full();
      for (let id = 1; id <= 5; id++) {
        desk.commands.push({ kind: 'snapshot', id });
        desk.turnUntil(() => desk.answerTo(id) !== undefined);
      }
      const fullMs = desk.disk.nowMs;
      desk.log.cursor('holds').advance(desk.log.committed);
      desk.turnUntil(() => desk.feed.uncommitted === 0);
      expect(desk.disk.nowMs - fullMs).toBeLessThan(1000);
      expect(desk.found().size).toBe(10);
    });

    test('exceeds it only for a snapshot that brings it back below', () => {
      const desk = full();
      const cursor = desk.log.cursor('holds');
      const ringBytes = desk.feed.uncommitted * 600;
      expect(ringBytes).toBeGreaterThan(2 * limitBytes);
      cursor.advance(desk.log.committed);
      desk.turnUntil(() => desk.feed.uncommitted === 0);
      const most = limitBytes + ringBytes;
      const { bytes } = desk.log.usage();
      expect(bytes).toBeGreaterThan(2 * limitBytes);
      expect(bytes).toBeLessThanOrEqual(most);

      const moveUntil = (isThere: (position: bigint) => boolean): void => {
        while (!isThere(cursor.position()!)) cursor.advance(desk.log.entryAt(cursor.position()!)!.end);
      };
      // The next snapshot would free a little, and leave more than the limit.
      for (let i = 0; i < 10; i++) desk.feed.set(`k${i}`, Buffer.alloc(500, String(i)));
      const newest = desk.log.snapshots.sound[0]!.position;
      moveUntil((position) => position > newest + 8192n);
      desk.turnUntil(() => desk.feed.state === FeedState.stuck);
      expect(desk.feed.uncommitted).toBe(10);
      expect(desk.log.usage().bytes).toBeLessThanOrEqual(bytes);

      moveUntil((position) => desk.log.committed - position < limitBytes / 2);
      desk.turnUntil(() => desk.feed.uncommitted === 0);
      expect(desk.log.usage().bytes).toBeLessThanOrEqual(most);
      expect(desk.found().size).toBe(10);
    });
  });
});

describe('a disk that fails', () => {
  test('for a moment: the group is appended once', () => {
    const desk = new Desk();
    let failures = 3;
    desk.disk.disk.fate = ({ kind }) => (kind === 'sync' && failures-- > 0 ? 'EIO' : 'ok');
    desk.feed.set('a', '1');
    desk.turnUntil(() => desk.feed.uncommitted === 0);
    expect(desk.feed.state).not.toBe(FeedState.failed);
    expect(desk.found()).toEqual(new Map([['a', '1']]));
    expect(desk.log.recordsBefore).toBe(1n);
  });

  test('for long: waiting calls are rejected, and the log goes on when the disk works again', () => {
    const desk = new Desk();
    desk.disk.disk.fate = ({ kind }) => (kind === 'write' || kind === 'sync' ? 'EIO' : 'ok');
    desk.feed.set('a', '1');
    desk.commands.push({ kind: 'sync', id: 1, targets: desk.targets() });
    desk.turnUntil(() => desk.answerTo(1) !== undefined);
    expect(desk.answerTo(1)?.error).toMatchObject({ code: 'ERR_LOG_IO' });
    expect(desk.feed.state).toBe(FeedState.failed);
    const told = (): number => desk.notices().filter((kind) => kind === 'sync-failed').length;
    expect(told()).toBe(1);
    desk.turns(20);
    expect(told()).toBe(1); // However often it is tried.
    desk.disk.disk.fate = () => 'ok';
    desk.turnUntil(() => desk.feed.uncommitted === 0);
    expect(desk.feed.state).toBe(FeedState.running);
    expect(desk.found()).toEqual(new Map([['a', '1']]));
  });
});

describe('an error that Node has no name for', () => {
  test('of a quota is a full disk', () => {
    const desk = new Desk();
    desk.disk.disk.fate = ({ kind }) => (kind === 'write' || kind === 'allocate' ? 'EDQUOT' : 'ok');
    desk.feed.set('a', 'v'.repeat(5_000_000));
    desk.turnUntil(() => desk.feed.state === FeedState.full);
    desk.disk.disk.fate = () => 'ok';
    desk.turnUntil(() => desk.feed.uncommitted === 0);
    expect(desk.feed.state).toBe(FeedState.running);
  });

  test.each(['ESTALE', 'EUCLEAN', 'EBADMSG', 'EDQUOT'] as const)('%s never ends the log', (error) => {
    for (const suffix of ['.log', '.snapshot.tmp', '.log.tmp']) {
      const desk = new Desk();
      desk.disk.disk.fate = ({ kind, path }) =>
        (kind === 'write' || kind === 'sync') && path.endsWith(suffix) ? error : 'ok';
      desk.feed.set('a', '1');
      desk.commands.push({ kind: 'snapshot', id: 1 });
      desk.turns(50);
      if (suffix === '.snapshot.tmp') expect(desk.answerTo(1)?.error).toMatchObject({ code: 'ERR_LOG_IO' });
      desk.disk.disk.fate = () => 'ok';
      desk.turnUntil(() => desk.feed.uncommitted === 0);
      desk.commands.push({ kind: 'snapshot', id: 2 });
      desk.turnUntil(() => desk.answerTo(2) !== undefined);
      expect(desk.answerTo(2)?.error).toBeUndefined();
      expect(desk.found()).toEqual(new Map([['a', '1']]));
    }
  });
});

describe('records that could not be read back after a failed sync', () => {
  /** A log that has lost three records, in a cache that has them. */
  function lossy(sync: SyncPolicy = 'none'): Desk {
    const desk = new Desk({ sync });
    for (const key of ['a', 'b', 'c']) desk.feed.set(key, '1');
    desk.turns(1);
    let failed: string | undefined;
    desk.disk.disk.fate = ({ kind, path }) => {
      if (kind === 'sync' && failed === undefined) {
        failed = path;
        return 'EIO';
      }
      return kind === 'read' && path === failed ? 'EIO' : 'ok';
    };
    return desk;
  }

  test('reject waiting syncs and later ones, until a snapshot has saved the entries', () => {
    const desk = lossy();
    desk.commands.push({ kind: 'sync', id: 1, targets: desk.targets() });
    desk.turnUntil(() => desk.answerTo(1) !== undefined);
    expect(desk.answerTo(1)?.error).toMatchObject({ code: 'ERR_LOG_IO', message: expect.stringMatching(/3 records/) });
    expect(desk.get('recordsLost')).toBe(3);
    desk.disk.disk.fate = ({ path }) => (path.endsWith('.snapshot.tmp') ? 'EIO' : 'ok');
    desk.commands.push({ kind: 'sync', id: 2, targets: desk.targets() });
    desk.turnUntil(() => desk.answerTo(2) !== undefined);
    expect(desk.answerTo(2)?.error).toMatchObject({ code: 'ERR_LOG_IO', message: expect.stringMatching(/3 records/) });
    desk.disk.disk.fate = () => 'ok';
    desk.turnUntil(() => desk.notices().includes('snapshot'));
    desk.commands.push({ kind: 'sync', id: 3, targets: desk.targets() });
    desk.turnUntil(() => desk.answerTo(3) !== undefined);
    expect(desk.answerTo(3)?.error).toBeUndefined();
    expect(desk.get('recordsLost')).toBe(0);
    desk.disk.disk.restart();
    expect([...desk.found().keys()].sort()).toEqual(['a', 'b', 'c']);
  });

  test('while a snapshot is taken are not in it; the next snapshot saves them', () => {
    const desk = lossy();
    const { fate } = desk.disk.disk;
    desk.disk.disk.fate = () => 'ok';
    for (let i = 0; i < 20; i++) desk.feed.set(`large ${i}`, Buffer.alloc(200_000));
    desk.turnUntil(() => desk.feed.uncommitted === 0);
    desk.commands.push({ kind: 'snapshot', id: 1 });
    desk.turns(1);
    expect(desk.feed.openWalks).toBe(1);
    desk.disk.disk.fate = (call) => (call.path.includes('.log') ? fate(call) : 'ok');
    desk.feed.set('d', '1');
    desk.turnUntil(() => desk.feed.uncommitted === 0);
    desk.commands.push({ kind: 'sync', id: 2, targets: desk.targets() });
    desk.turnUntil(() => desk.answerTo(2) !== undefined);
    const lost = desk.get('recordsLost');
    expect(lost).toBeGreaterThan(0);
    desk.turnUntil(() => desk.answerTo(1) !== undefined);
    expect(desk.answerTo(1)?.error).toBeUndefined();
    expect(desk.get('recordsLost')).toBe(lost);
    desk.turnUntil(() => desk.notices().filter((kind) => kind === 'snapshot').length === 2);
    expect(desk.get('recordsLost')).toBe(0);
  });

  test('reject a close that takes no snapshot', () => {
    const desk = lossy();
    desk.commands.push({ kind: 'close', id: 1, timeoutMs: 0, takesSnapshot: false });
    expect(desk.scribe.run()).toBe('closed');
    expect(desk.answerTo(1)?.error).toMatchObject({ code: 'ERR_LOG_IO', message: expect.stringMatching(/3 records/) });
  });

  test('do not count a group as lost that cannot be appended behind them at once: it is appended later', () => {
    const desk = lossy('10ms');
    const { fate } = desk.disk.disk;
    let failures = 0;
    desk.disk.disk.fate = (call) => {
      // Writes behind the gap fail, and as often as makes the log answer with a conflict.
      if (failures < 3 && call.kind === 'write' && desk.disk.names().includes('000000000002.log')) {
        failures++;
        return 'EIO';
      }
      return fate(call);
    };
    desk.disk.nowMs += 10;
    desk.feed.set('d', '1');
    desk.turnUntil(() => desk.feed.uncommitted === 0);
    expect(failures).toBe(3);
    desk.disk.disk.fate = () => 'ok';
    desk.turnUntil(() => desk.notices().includes('snapshot'));
    expect([...desk.found().keys()].sort()).toEqual(['a', 'b', 'c', 'd']);
  });
});

test('another process that writes to the log ends the scribe: waiting calls are rejected, the records stay', () => {
  const desk = new Desk();
  desk.feed.set('a', '1');
  // As if the log had gone on without the scribe.
  const { append } = desk.log;
  desk.log.append = () => ({ kind: 'conflict', end: 4711n });
  desk.commands.push({ kind: 'sync', id: 7, targets: desk.targets() });
  const outcome = desk.scribe.run();
  desk.log.append = append;
  expect(outcome).toEqual(withCode('ERR_LOG_IO', /Another process writes.*4711/));
  expect(desk.answerTo(7)?.error).toMatchObject({ code: 'ERR_LOG_IO', message: (outcome as Error).message });
  expect(desk.feed.state).toBe(FeedState.failed);
  expect(desk.feed.uncommitted).toBe(1);
});

test('the end of the cache ends the scribe', () => {
  const desk = new Desk();
  desk.feed.isEnded = true;
  expect(desk.scribe.run()).toBe('ended');
});

describe('snapshots', () => {
  const small: SnapshotSchedule = { everyMs: 0, logBytes: 10_000, isTakenAtClose: true };

  test('are taken when the log has grown, and the log is cut', () => {
    const desk = new Desk({ segmentBytes: 4096 }, small);
    for (let i = 0; i < 100; i++) {
      desk.feed.set(`k${i % 7}`, Buffer.alloc(500, String(i % 7)));
      desk.turns(3);
    }
    expect(desk.get('snapshots')).toBeGreaterThan(2);
    expect(desk.log.oldestReadable).toBeGreaterThan(0n);
    expect(desk.notices().filter((kind) => kind === 'snapshot')).toHaveLength(desk.get('snapshots'));
    expect(desk.feed.openWalks).toBe(0);
    expect([...desk.found().keys()].sort()).toEqual(['k0', 'k1', 'k2', 'k3', 'k4', 'k5', 'k6']);
  });

  test('are taken by the clock, if anything was written', () => {
    const desk = new Desk({}, { everyMs: 60_000, logBytes: 0, isTakenAtClose: false });
    desk.disk.nowMs += 100_000;
    desk.turns(3);
    expect(desk.get('snapshots')).toBe(0);
    desk.feed.set('a', '1');
    desk.turnUntil(() => desk.get('snapshots') === 1);
    const atMs = desk.disk.nowMs;
    desk.turns(100);
    expect(desk.get('snapshots')).toBe(1);
    desk.feed.set('a', '2');
    desk.turnUntil(() => desk.get('snapshots') === 2);
    expect(desk.disk.nowMs - atMs).toBeGreaterThanOrEqual(60_000);
  });

  test('wait until the log has everything that the walk may have seen', () => {
    const desk = new Desk();
    for (let i = 0; i < 10; i++) desk.feed.set(`k${i}`, Buffer.alloc(100_000));
    desk.turns(1);
    desk.commands.push({ kind: 'snapshot', id: 1 });
    // Written while it walks, and the disk takes no more.
    desk.turns(1);
    desk.feed.set('late', 'v');
    const { fate } = desk.disk.disk;
    desk.disk.disk.fate = ({ kind, path }) => (kind === 'write' && path.includes('.log') ? 'ENOSPC' : 'ok');
    desk.turns(50);
    expect(desk.answerTo(1)).toBeUndefined();
    desk.disk.disk.fate = fate;
    desk.turnUntil(() => desk.answerTo(1) !== undefined);
    const { info } = desk.log.snapshots.found[0] as { info: { end: bigint } };
    expect(info.end).toBe(desk.log.durable);
  });

  test('that are asked for while one is taken come after that one', () => {
    const desk = new Desk();
    desk.feed.set('a', '1');
    desk.turns(1);
    desk.commands.push({ kind: 'snapshot', id: 1 });
    desk.turns(1);
    desk.commands.push({ kind: 'snapshot', id: 2 }, { kind: 'snapshot', id: 3 });
    desk.turnUntil(() => desk.answerTo(3) !== undefined);
    expect(desk.get('snapshots')).toBe(2);
    expect(desk.answerTo(1)?.result).toMatchObject({ entries: 1 });
    expect(desk.answerTo(2)?.result).toEqual(desk.answerTo(3)?.result);
  });

  test('delay no group: the scribe drains the rings between two steps', () => {
    const desk = new Desk();
    for (let i = 0; i < 40; i++) desk.feed.set(`k${i}`, Buffer.alloc(100_000));
    desk.turnUntil(() => desk.feed.uncommitted === 0);
    desk.commands.push({ kind: 'snapshot', id: 1 });
    let turns = 0;
    while (desk.answerTo(1) === undefined) {
      desk.feed.set('a', String(turns++));
      desk.turns(1);
      expect(desk.feed.uncommitted).toBe(0);
    }
    expect(turns).toBeGreaterThan(30);
  });

  test('are taken a step a turn while the log grows, and faster where it has little room left', () => {
    const turnsOf = (share: number): number => {
      const limitBytes = 2 ** 20;
      const desk = new Desk({ segmentBytes: 2 ** 17, limitBytes });
      // The cursor keeps all segments.
      desk.log.cursor('holds').advance(0n);
      for (let written = 0; written < share * limitBytes; written += 60_000) {
        desk.feed.set(`k${written}`, Buffer.alloc(60_000));
        desk.turnUntil(() => desk.feed.uncommitted === 0);
      }
      desk.turnUntil(() => desk.get('snapshotRunning') === 0);
      for (let i = 0; i < 60; i++) {
        desk.feed.entries.set(`old${i}`, makeRecord({ kind: 'set', key: `old${i}`, value: Buffer.alloc(60_000) }));
      }
      desk.commands.push({ kind: 'snapshot', id: 1 });
      for (let turns = 1; ; turns++) {
        desk.feed.set('busy', 'v');
        desk.turns(1);
        if (desk.answerTo(1) !== undefined) return turns;
      }
    };
    expect(turnsOf(0.3)).toBeGreaterThan(60);
    expect(turnsOf(0.75)).toBeLessThan(40);
  });

  test('that fail leave the one before, and are tried again after growing delays', () => {
    const desk = new Desk({}, small);
    desk.feed.set('a', Buffer.alloc(20_000));
    desk.turnUntil(() => desk.get('snapshots') === 1);
    desk.disk.disk.fate = ({ kind, path }) => (kind === 'write' && path.includes('.snapshot') ? 'EIO' : 'ok');
    desk.feed.set('a', Buffer.alloc(20_000));
    const failedAt: number[] = [];
    desk.turnUntil(() => {
      if (desk.get('snapshotsFailed') > failedAt.length) failedAt.push(desk.disk.nowMs);
      return failedAt.length === 4;
    });
    const [first, second, third, fourth] = failedAt as [number, number, number, number];
    expect(second - first).toBeGreaterThanOrEqual(1000);
    expect(third - second).toBeGreaterThanOrEqual(2000);
    expect(fourth - third).toBeGreaterThanOrEqual(4000);
    expect(desk.notices()).toContain('snapshot-failed');
    expect(desk.log.snapshots.sound).toHaveLength(1);
    desk.disk.disk.fate = () => 'ok';
    desk.turnUntil(() => desk.get('snapshots') === 2);
  });

  test('that are asked for and fail reject', () => {
    const desk = new Desk();
    desk.disk.disk.fate = ({ path }) => (path.includes('.snapshot') ? 'EIO' : 'ok');
    desk.commands.push({ kind: 'snapshot', id: 1 });
    desk.turns(2);
    expect(desk.answerTo(1)?.error).toMatchObject({ code: 'ERR_LOG_IO' });
  });
});

describe('a snapshot that waits for a log which takes nothing', () => {
  test.each([
    ['EIO', 'ERR_LOG_IO'],
    ['ENOSPC', 'ERR_LOG_FULL'],
  ] as const)('(%s) is abandoned after ten seconds, and every call that asked for one fails (%s)', (error, code) => {
    const desk = new Desk();
    desk.feed.set('a', '1');
    desk.turns(1);
    desk.disk.disk.fate = ({ kind, path }) =>
      path.includes('.log') && (kind === 'write' || kind === 'allocate' || kind === 'open') ? error : 'ok';
    desk.feed.set('b', 'v'.repeat(5_000_000));
    desk.turns(1);
    const begun = desk.disk.nowMs;
    desk.commands.push({ kind: 'snapshot', id: 1 });
    desk.turnUntil(() => desk.disk.nowMs > begun + 5000);
    expect(desk.answerTo(1)).toBeUndefined();
    desk.commands.push({ kind: 'snapshot', id: 2 });
    desk.turnUntil(() => desk.answerTo(1) !== undefined && desk.answerTo(2) !== undefined);
    expect(desk.disk.nowMs - begun).toBeLessThan(11_000);
    for (const id of [1, 2]) expect(desk.answerTo(id)?.error).toMatchObject({ code });
    // One that is asked for now does not wait at all: it is known that the log takes nothing.
    desk.commands.push({ kind: 'snapshot', id: 3 });
    desk.turnUntil(() => desk.answerTo(3) !== undefined);
    expect(desk.answerTo(3)?.error).toMatchObject({ code });
    expect(desk.feed.openWalks).toBe(0);
    desk.disk.disk.fate = () => 'ok';
    desk.commands.push({ kind: 'snapshot', id: 4 });
    desk.turnUntil(() => desk.answerTo(4) !== undefined);
    expect(desk.answerTo(4)?.error).toBeUndefined();
    expect([...desk.found().keys()]).toEqual(['a', 'b']);
  });
});

test('while the process exits no snapshot is begun, and none goes on', () => {
  const desk = new Desk();
  for (let i = 0; i < 40; i++) desk.feed.set(`k${i}`, Buffer.alloc(100_000));
  desk.turnUntil(() => desk.feed.uncommitted === 0);
  desk.commands.push({ kind: 'snapshot', id: 1 });
  desk.turns(1);
  desk.control[0] = 1;
  desk.feed.set('last', 'v');
  desk.turns(100);
  expect(desk.feed.uncommitted).toBe(0);
  expect([desk.get('snapshotRunning'), desk.get('snapshots')]).toEqual([1, 0]);
});

describe('closing', () => {
  const atClose: SnapshotSchedule = { everyMs: 0, logBytes: 2 ** 40, isTakenAtClose: true };
  const close = (desk: Desk, timeoutMs = 10_000): void => {
    desk.commands.push({ kind: 'close', id: 99, timeoutMs, takesSnapshot: true });
  };

  test('writes what is there, takes a snapshot, closes the log', () => {
    const desk = new Desk({}, atClose);
    for (let i = 0; i < 100; i++) desk.feed.set(`k${i}`, 'v');
    close(desk);
    expect(desk.scribe.run()).toBe('closed');
    expect(desk.answerTo(99)?.error).toBeUndefined();
    expect(desk.get('snapshots')).toBe(1);
    const log = desk.disk.open();
    expect(log.snapshots.sound[0]?.recordCount).toBe(100);
    log.close();
  });

  test('and opening remove the segments that the snapshot has made superfluous', () => {
    const disk = new LogDisk();
    for (let life = 0; life < 6; life++) {
      const desk = new Desk({ segmentBytes: 4096 }, atClose, disk);
      for (let i = 0; i < 100; i++) {
        desk.feed.set(`k${i}`, Buffer.alloc(500));
        desk.turns(1);
      }
      close(desk);
      expect(desk.scribe.run()).toBe('closed');
      // Those that the snapshot before needs are kept.
      expect(disk.names().filter((name) => name.endsWith('.log')).length).toBeLessThan(40);
    }
  });

  test('takes the last snapshot from the beginning, also for those that have asked for the one under way', () => {
    const desk = new Desk({}, atClose);
    for (let i = 0; i < 40; i++) desk.feed.set(`k${i}`, Buffer.alloc(100_000));
    desk.turnUntil(() => desk.feed.uncommitted === 0);
    desk.commands.push({ kind: 'snapshot', id: 1 });
    desk.turns(1);
    expect(desk.feed.openWalks).toBe(1);
    desk.feed.set('late', 'v');
    close(desk);
    expect(desk.scribe.run()).toBe('closed');
    expect(desk.answerTo(1)?.result).toMatchObject({ entries: 41 });
    expect(desk.answerTo(1)?.error).toBeUndefined();
    expect(desk.get('snapshots')).toBe(1);
  });

  test('leaves the snapshot out if nothing has happened since the last', () => {
    for (const writesMore of [true, false]) {
      const desk = new Desk({}, atClose);
      desk.feed.set('a', '1');
      desk.commands.push({ kind: 'snapshot', id: 1 });
      desk.turnUntil(() => desk.answerTo(1) !== undefined);
      if (writesMore) desk.feed.set('a', '2');
      close(desk);
      desk.scribe.run();
      expect(desk.get('snapshots')).toBe(writesMore ? 2 : 1);
    }
  });

  test('without a snapshot takes none, though one is due', () => {
    const desk = new Desk({}, { everyMs: 0, logBytes: 10_000, isTakenAtClose: true });
    desk.feed.set('a', Buffer.alloc(20_000));
    desk.commands.push({ kind: 'close', id: 99, timeoutMs: 10_000, takesSnapshot: false });
    expect(desk.scribe.run()).toBe('closed');
    expect(desk.answerTo(99)?.error).toBeUndefined();
    expect(desk.get('snapshots')).toBe(0);
    expect(desk.found().size).toBe(1);
  });

  test('ends at its timeout, and says how many records did not get into the log', () => {
    const desk = new Desk({}, atClose);
    desk.disk.disk.fate = ({ kind }) => (kind === 'write' || kind === 'allocate' ? 'ENOSPC' : 'ok');
    desk.feed.set('a', '1');
    desk.feed.set('b', '1');
    desk.turns(1);
    close(desk, 200);
    expect(desk.scribe.run()).toBe('closed');
    expect(desk.answerTo(99)?.error).toMatchObject({
      code: 'ERR_TIMEOUT',
      message: expect.stringMatching(/^2 records/),
    });
  });

  test('answers every command that still waits', () => {
    const desk = new Desk();
    desk.feed.set('a', '1');
    desk.commands.push({ kind: 'sync', id: 1, targets: desk.targets() });
    close(desk);
    desk.commands.push({ kind: 'snapshot', id: 2 });
    desk.scribe.run();
    expect(desk.answerTo(1)?.error).toBeUndefined();
    expect(desk.answerTo(2)).toBeDefined();
  });
});
