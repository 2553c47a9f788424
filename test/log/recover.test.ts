// Recovery: which records are applied, in which order, from where, and what is said about it on the way.

import { describe, expect, test } from 'vitest';
import { type EmbeddedLog, type RecordsFrom, type Recovery, recover } from '../../src/log/index.ts';
import type { RecoveryProgress } from '../../src/options/types.ts';
import { RecordReader } from '../../src/request/record.ts';
import { withCode } from '../support/errors.ts';
import { appendNow, LogDisk } from '../support/logs.ts';
import { makeRecord } from '../support/records.ts';

function snapshotOf(log: EmbeddedLog, ...keys: string[]): void {
  const writer = log.snapshots.begin({ position: log.committed, recordsBefore: log.recordsBefore, epoch: log.epoch });
  for (const key of keys) writer.add(makeRecord({ kind: 'set', key }), 1);
  const steps = writer.finish(log.durable, log.epoch);
  while (!steps.next().done);
  log.reclaim();
}

/** As a log does that has little room left. */
function keepNoMoreThanNeeded(log: EmbeddedLog): void {
  log.truncate(log.snapshots.newestVerified!.position);
}

function recovered(log: EmbeddedLog): { applied: string[]; result: Recovery } {
  const applied: string[] = [];
  const result = recover({
    log,
    apply(records, { source, recordCount }) {
      const reader = new RecordReader(records);
      let count = 0;
      for (; reader.next(); count++) applied.push(`${source} ${reader.key}`);
      expect(count).toBe(recordCount);
    },
  });
  return { applied, result };
}

function spoil(disk: LogDisk, name: string, fromEnd: number): void {
  const bytes = disk.disk.bytesOf(disk.path(name));
  bytes[bytes.length - fromEnd]! ^= 1;
  disk.disk.put(disk.path(name), bytes);
}

describe('recovery', () => {
  test('of a new log applies nothing', () => {
    const { applied, result } = recovered(new LogDisk().open());
    expect(applied).toEqual([]);
    expect(result).toMatchObject({ snapshot: undefined, records: 0, lost: 0, unusable: [] });
  });

  test('without a snapshot applies the whole log in order', () => {
    const disk = new LogDisk();
    const log = disk.open();
    for (let i = 0; i < 30; i++) appendNow(log, `${i}`, { valueBytes: 1000, count: 2 });
    log.close();
    const again = disk.open();
    const { applied, result } = recovered(again);
    expect(applied).toEqual(Array.from({ length: 30 }, (_, i) => [`log ${i}.1`, `log ${i}.2`]).flat());
    expect(result).toMatchObject({ snapshot: undefined, records: 60, end: again.end });
  });

  test('says which records are owed to a reader, also those that the snapshot has', () => {
    const disk = new LogDisk();
    const log = disk.open();
    appendNow(log, 'stored');
    const owedFrom = log.committed;
    log.cursor('store').advance(owedFrom);
    appendNow(log, 'owed');
    snapshotOf(log, 'stored.1', 'owed.1');
    appendNow(log, 'after');
    const read = (from: bigint | undefined): { applied: string[]; logBytes: number; records: number } => {
      const applied: string[] = [];
      const { logBytes, records } = recover({
        log,
        owedFrom: from,
        apply(bytes, { source, isOwed }) {
          const reader = new RecordReader(bytes);
          while (reader.next()) applied.push(`${source} ${reader.key}${isOwed ? ' owed' : ''}`);
        },
      });
      return { applied, logBytes, records };
    };
    const snapshot = ['snapshot stored.1', 'snapshot owed.1'];
    const owed = read(owedFrom);
    expect(owed.applied).toEqual([...snapshot, 'log owed.1 owed', 'log after.1 owed']);
    const end = log.committed;
    expect(read(end).applied).toEqual([...snapshot, 'log after.1']);
    expect(read(undefined).applied).toEqual([...snapshot, 'log after.1']);
    // What is behind the snapshot decides when the next one is due.
    expect(owed.logBytes).toBe(read(undefined).logBytes);
  });

  test('applies the newest snapshot, then the log from where it begins', () => {
    const disk = new LogDisk();
    const log = disk.open();
    appendNow(log, 'before');
    snapshotOf(log, 'old');
    appendNow(log, 'between');
    snapshotOf(log, 'k1', 'k2');
    appendNow(log, 'after');
    log.close();
    const { applied, result } = recovered(disk.open());
    expect(applied).toEqual(['snapshot k1', 'snapshot k2', 'log after.1']);
    expect(result.snapshot?.number).toBe(2);
  });

  test('a damaged snapshot makes it use the snapshot before, and more of the log', () => {
    const disk = new LogDisk();
    const log = disk.open();
    appendNow(log, 'before');
    snapshotOf(log, 'old');
    appendNow(log, 'between');
    snapshotOf(log, 'k1', 'k2');
    appendNow(log, 'after');
    log.close();
    // In the second chunk: the first is sound, and applied before that is known.
    spoil(disk, '000000000002.snapshot', 100);
    const again = disk.open();
    const { applied, result } = recovered(again);
    expect(applied).toEqual(['snapshot k1', 'snapshot old', 'log between.1', 'log after.1']);
    expect(result.snapshot?.number).toBe(1);
    expect(result.unusable).toEqual([{ name: '000000000002.snapshot', why: expect.stringMatching(/^the chunk/) }]);
    // What was not read to its end does not let the log be cut.
    expect(again.snapshots.newestVerified?.number).toBe(1);
    // Nor is it the one that is kept for the case that the next one cannot be read either.
    snapshotOf(again, 'new');
    appendNow(again, 'last');
    again.close();
    spoil(disk, '000000000003.snapshot', 100);
    const { applied: third } = recovered(disk.open());
    expect(third).toEqual(['snapshot k1', 'snapshot old', 'log between.1', 'log after.1', 'log last.1']);
  });

  test('an unreadable snapshot makes it use the snapshot before, and more of the log', () => {
    for (const [offset, found] of [
      [0, ['snapshot old', 'log between.1', 'log after.1']],
      [4096, ['snapshot k1', 'snapshot old', 'log between.1', 'log after.1']],
    ] as const) {
      const disk = new LogDisk();
      const log = disk.open();
      snapshotOf(log, 'old');
      appendNow(log, 'between');
      const start = { position: log.committed, recordsBefore: log.recordsBefore, epoch: log.epoch };
      const writer = log.snapshots.begin(start);
      for (const key of ['k1', 'k2']) writer.add(makeRecord({ kind: 'set', key, value: 'v'.repeat(3000) }), 1);
      const steps = writer.finish(log.durable, log.epoch);
      while (!steps.next().done);
      appendNow(log, 'after');
      log.close();
      disk.disk.spoil(disk.path('000000000002.snapshot'), offset);
      const { applied, result } = recovered(disk.open());
      expect(applied).toEqual(found);
      expect(result.unusable).toEqual([
        { name: '000000000002.snapshot', why: expect.stringMatching(/cannot be read: EIO/) },
      ]);
    }
  });

  test('a log that cannot be read ends it with the error of the disk', () => {
    const disk = new LogDisk();
    const log = disk.open();
    for (let i = 0; i < 20; i++) appendNow(log, `${i}`, { valueBytes: 1000 });
    log.close();
    disk.disk.spoil(disk.path('000000000001.log'), 4096);
    const again = disk.open();
    expect(() => recovered(again)).toThrow(withCode('ERR_LOG_IO', /^Cannot read the log in .*: EIO$/));
  });

  test('without any usable snapshot applies all of a log that still has its beginning', () => {
    const disk = new LogDisk();
    const log = disk.open();
    appendNow(log, 'a');
    snapshotOf(log, 'x');
    log.close();
    spoil(disk, '000000000001.snapshot', 1);
    const { applied, result } = recovered(disk.open());
    expect(applied).toEqual(['log a.1']);
    expect(result.unusable).toHaveLength(1);
  });

  test('is refused where there is no way to a whole state', () => {
    const disk = new LogDisk();
    const log = disk.open();
    for (let i = 0; i < 30; i++) appendNow(log, `${i}`, { valueBytes: 1000 });
    snapshotOf(log, 'x');
    keepNoMoreThanNeeded(log);
    expect(log.oldestReadable).toBeGreaterThan(0n);
    log.close();
    spoil(disk, '000000000001.snapshot', 1);
    const again = disk.open();
    expect(() => recovered(again)).toThrow(withCode('ERR_LOG_CORRUPT', /no snapshot.*footer.*cairn-cache log repair/s));
  });

  test('works without the only snapshot, because the log is kept while there is room', () => {
    const disk = new LogDisk();
    let log = disk.open();
    const names = Array.from({ length: 30 }, (_, i) => `${i}`);
    for (const name of names) appendNow(log, name, { valueBytes: 1000 });
    snapshotOf(log, ...names.map((name) => `${name}.1`));
    log.close();
    log = disk.open();
    recovered(log);
    log.reclaim();
    expect(log.oldestReadable).toBe(0n);
    log.close();
    spoil(disk, '000000000001.snapshot', 1);
    expect(recovered(disk.open()).applied).toEqual(names.map((name) => `log ${name}.1`));
  });

  test('the second snapshot frees the log before the first, from which recovery is still possible', () => {
    const disk = new LogDisk();
    const log = disk.open();
    for (let i = 0; i < 30; i++) appendNow(log, `${i}`, { valueBytes: 1000 });
    const first = log.committed;
    snapshotOf(log, 'x');
    for (let i = 30; i < 60; i++) appendNow(log, `${i}`, { valueBytes: 1000 });
    expect(log.oldestReadable).toBe(0n);
    snapshotOf(log, 'y');
    expect(log.oldestReadable).toBeGreaterThan(0n);
    expect(log.oldestReadable).toBeLessThanOrEqual(first);
    spoil(disk, '000000000002.snapshot', 1);
    expect(recovered(log).applied.slice(0, 2)).toEqual(['snapshot x', 'log 30.1']);
  });

  test('a snapshot from before the log begins is not used', () => {
    const disk = new LogDisk();
    const log = disk.open();
    snapshotOf(log, 'x');
    const kept = disk.disk.bytesOf(disk.path('000000000001.snapshot'));
    for (let i = 0; i < 30; i++) appendNow(log, `${i}`, { valueBytes: 1000 });
    snapshotOf(log, 'y');
    snapshotOf(log, 'z');
    log.close();
    disk.disk.put(disk.path('000000000001.snapshot'), kept);
    for (const number of [2, 3]) spoil(disk, `00000000000${number}.snapshot`, 1);
    expect(() => recovered(disk.open())).toThrow(withCode('ERR_LOG_CORRUPT', /000000000001.snapshot.*removed/));
  });

  test('what `apply` throws ends it', () => {
    const disk = new LogDisk();
    const log = disk.open();
    appendNow(log, 'a');
    const apply = (): void => {
      throw new Error('no room');
    };
    expect(() => recover({ log, apply })).toThrow('no room');
  });

  test('damage in a sealed segment is met with its place, and what was before it is applied', () => {
    const disk = new LogDisk();
    const log = disk.open();
    const places = Array.from({ length: 20 }, (_, i) => appendNow(log, `${i}`, { valueBytes: 1000 }));
    log.close();
    const path = disk.path('000000000001.log');
    const bytes = disk.disk.bytesOf(path);
    bytes[128 + Number(places[3]!.position) + 80]! ^= 1;
    disk.disk.put(path, bytes);
    const again = disk.open();
    const applied: string[] = [];
    expect(() => recover({ log: again, apply: (_, { position }) => void applied.push(`${position}`) })).toThrow(
      withCode('ERR_LOG_CORRUPT', new RegExp(`000000000001.log at position ${places[3]!.position} `)),
    );
    expect(applied).toHaveLength(3);
  });

  test('says how far it is, in bytes and records, and ends at the whole', () => {
    const disk = new LogDisk();
    const log = disk.open();
    snapshotOf(log, 'a', 'b', 'c');
    for (let i = 0; i < 10; i++) appendNow(log, `${i}`, { count: 5 });
    const reports: RecoveryProgress[] = [];
    let now = 0;
    recover({
      log,
      apply: () => {
        now += 100;
      },
      clock: { wallMs: () => 0, steadyMs: () => now },
      progressMs: 250,
      onProgress: (progress) => void reports.push(progress),
    });
    expect(reports.map(({ source }) => source)).toEqual(['snapshot', 'log', 'log', 'log', 'log']);
    for (const [i, report] of reports.entries()) {
      expect(report.bytes).toBeLessThanOrEqual(report.bytesTotal);
      if (i > 0) expect(report.records).toBeGreaterThan(reports[i - 1]!.records);
    }
    const last = reports.at(-1)!;
    expect(last).toMatchObject({ records: 53, elapsedMs: 1300, recordsPerSecond: 53 / 1.3 });
    expect(last.bytes).toBe(last.bytesTotal);
  });

  test('does not count positions that crashes have left out, nor room that was taken ahead', () => {
    const disk = new LogDisk();
    const ends: bigint[] = [];
    for (let life = 0; life < 5; life++) {
      const log = disk.open();
      for (let i = 0; i < 3; i++) appendNow(log, `${life}.${i}`);
      ends.push(log.committed);
      if (life === 2) snapshotOf(log, 'a');
      disk.disk.kill();
    }
    // Each crash has left out what its segment had room for.
    expect(ends.at(-1)! - ends[0]!).toBeGreaterThan(3 * 8000);
    const reports: RecoveryProgress[] = [];
    recover({ log: disk.open(), apply() {}, onProgress: (progress) => void reports.push(progress), progressMs: 0 });
    const last = reports.at(-1)!;
    expect(last.bytes).toBe(last.bytesTotal);
    for (const { bytesTotal } of reports) expect(bytesTotal).toBeLessThan(4000);
  });

  test('hands out one batch or chunk at a time, whatever the size of the log', () => {
    const disk = new LogDisk();
    const log = disk.open();
    for (let i = 0; i < 50; i++) appendNow(log, `${i}`, { valueBytes: 3000 });
    const seen: RecordsFrom[] = [];
    recover({
      log,
      apply(records, from) {
        expect(records.length).toBeLessThan(4096);
        seen.push(from);
      },
    });
    expect(seen).toHaveLength(50);
    for (const { recordCount, epoch } of seen) expect([recordCount, epoch]).toEqual([1, 2]);
  });
});
