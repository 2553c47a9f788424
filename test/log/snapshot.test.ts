// Snapshot files: what is kept, what is refused, and what a failing disk leaves.

import { describe, expect, test } from 'vitest';
import type { EmbeddedLog, SnapshotInfo } from '../../src/log/index.ts';
import { withCode } from '../support/errors.ts';
import { PowerCut } from '../support/faulty-files.ts';
import { appendNow, LogDisk } from '../support/logs.ts';
import { makeRecord } from '../support/records.ts';

const chunkOf = (...keys: string[]): Buffer =>
  Buffer.concat(keys.map((key) => makeRecord({ kind: 'set', key, value: `value of ${key}` })));

/** Takes a snapshot of these chunks, whose keys are separated by spaces. */
function take(log: EmbeddedLog, ...chunks: string[]): SnapshotInfo {
  const writer = log.snapshots.begin({
    position: log.committed,
    recordsBefore: log.recordsBefore,
    epoch: log.epoch,
  });
  for (const keys of chunks) writer.add(chunkOf(...keys.split(' ')), keys.split(' ').length);
  const steps = writer.finish(log.durable, log.epoch);
  for (;;) {
    const step = steps.next();
    if (step.done) return step.value;
  }
}

const snapshotsOf = (disk: LogDisk): string[] => disk.names().filter((name) => name.includes('.snapshot'));

describe('a snapshot', () => {
  test('is read chunk by chunk as it was written, and says where the log goes on', () => {
    const disk = new LogDisk();
    const log = disk.open();
    const { end } = appendNow(log, 'a', { count: 7 });
    const info = take(log, 'k1 k2 k3', 'k4');
    expect(info).toMatchObject({
      number: 1,
      position: end,
      end,
      recordsBefore: 7n,
      epoch: 2,
      epochMax: 2,
      chunkCount: 2,
      recordCount: 4,
    });
    const chunks = [...log.snapshots.read(info)];
    expect(chunks.map(({ records }) => records)).toEqual([chunkOf('k1', 'k2', 'k3'), chunkOf('k4')]);
    expect(chunks.map(({ recordCount }) => recordCount)).toEqual([3, 1]);
    log.close();
    expect(disk.open().snapshots.sound).toEqual([info]);
  });

  test('may have no records', () => {
    const log = new LogDisk().open();
    expect([...log.snapshots.read(take(log))]).toEqual([]);
  });

  test('has no name before it is whole, synced and read back', () => {
    const disk = new LogDisk();
    const log = disk.open();
    const seen: string[] = [];
    disk.disk.fate = ({ kind, path }) => {
      if (path.includes('snapshot')) seen.push(kind);
      return 'ok';
    };
    take(log, 'a', 'b');
    expect(seen.lastIndexOf('write')).toBeLessThan(seen.lastIndexOf('sync'));
    expect(seen.lastIndexOf('sync')).toBeLessThan(seen.indexOf('read'));
    expect(seen.lastIndexOf('read')).toBeLessThan(seen.indexOf('rename'));
  });

  test('is read back from the disk before it counts: one that differs is discarded', () => {
    const disk = new LogDisk();
    const log = disk.open();
    take(log, 'first');
    const writer = log.snapshots.begin({ position: 0n, recordsBefore: 0n, epoch: 1 });
    writer.add(chunkOf('a'), 1);
    const steps = writer.finish(log.durable, log.epoch);
    steps.next();
    const path = disk.path('000000000002.snapshot.tmp');
    const bytes = disk.disk.bytesOf(path);
    bytes[bytes.length - 150]! ^= 1;
    disk.disk.overwrite(path, bytes);
    expect(() => {
      while (!steps.next().done);
    }).toThrow(withCode('ERR_LOG_IO', /snapshot/));
    expect(snapshotsOf(disk)).toEqual(['000000000001.snapshot']);
  });

  test('two are kept, the newest first', () => {
    const disk = new LogDisk();
    const log = disk.open();
    for (let i = 1; i <= 5; i++) {
      appendNow(log, `${i}`);
      take(log, `${i}`);
      expect(log.snapshots.newestVerified?.number).toBe(i);
    }
    expect(snapshotsOf(disk)).toEqual(['000000000004.snapshot', '000000000005.snapshot']);
    expect(log.snapshots.sound.map(({ number }) => number)).toEqual([5, 4]);
  });

  test('a damaged one does not count as one of the two', () => {
    const disk = new LogDisk();
    const first = disk.open();
    take(first, 'a');
    take(first, 'b');
    first.close();
    disk.disk.put(disk.path('000000000002.snapshot'), Buffer.from('nothing'));
    const second = disk.open();
    take(second, 'c');
    expect(second.snapshots.sound.map(({ number }) => number)).toEqual([3, 1]);
  });

  test('that is discarded, or that a crash interrupts, leaves the earlier snapshots', () => {
    const disk = new LogDisk();
    const log = disk.open();
    take(log, 'a');
    const writer = log.snapshots.begin({ position: 0n, recordsBefore: 0n, epoch: 1 });
    writer.add(chunkOf('b'), 1);
    expect(() => log.snapshots.begin({ position: 0n, recordsBefore: 0n, epoch: 1 })).toThrow(/already/);
    writer.abort();
    writer.abort();
    expect(snapshotsOf(disk)).toEqual(['000000000001.snapshot']);
    log.snapshots.begin({ position: 0n, recordsBefore: 0n, epoch: 1 }).add(chunkOf('c'), 1);
    disk.disk.kill();
    const again = disk.open();
    expect(snapshotsOf(disk)).toEqual(['000000000001.snapshot']);
    expect(take(again, 'd').number).toBe(2);
  });

  test.each(['open', 'write', 'sync', 'rename', 'sync-directory'] as const)(
    'a disk that fails in %s fails the snapshot, not those before it nor the log',
    (kind) => {
      const disk = new LogDisk();
      const log = disk.open();
      take(log, 'a');
      for (const fate of ['EIO', 'ENOSPC'] as const) {
        disk.disk.fate = (call) => (call.kind === kind ? fate : 'ok');
        expect(() => take(log, 'b')).toThrow(withCode('ERR_LOG_IO'));
        disk.disk.fate = () => 'ok';
        expect(log.snapshots.sound.map(({ number }) => number)).toEqual([1]);
      }
      appendNow(log, 'x');
      expect(take(log, 'c').number).toBe(2);
    },
  );

  test('a power cut at any call leaves one that is whole', () => {
    for (let cut = 0, isOver = false; !isOver; cut++) {
      const disk = new LogDisk();
      const log = disk.open();
      appendNow(log, 'x');
      take(log, 'a', 'b');
      const begin = disk.disk.callCount;
      disk.disk.fate = ({ index }) => (index === begin + cut ? 'cut' : 'ok');
      try {
        take(log, 'c', 'd');
        isOver = true;
      } catch (error) {
        if (!(error instanceof PowerCut)) throw error;
      }
      disk.disk.restart();
      disk.disk.fate = () => 'ok';
      const again = disk.open();
      const [newest] = again.snapshots.sound;
      const keys = newest?.number === 2 ? ['c', 'd'] : ['a', 'b'];
      expect([...again.snapshots.read(newest!)].map(({ records }) => records)).toEqual(keys.map((key) => chunkOf(key)));
      if (isOver) expect(newest?.number).toBe(2);
    }
  });

  test('cannot end where the log is not synced, nor before it begins', () => {
    const log = new LogDisk().open({ sync: 'none' });
    log.sync();
    const begun = log.committed;
    const writer = log.snapshots.begin({ position: begun, recordsBefore: 0n, epoch: 1 });
    appendNow(log, 'a');
    for (const end of [log.committed, begun - 1n]) {
      expect(() => writer.finish(end, 1).next()).toThrow(withCode('ERR_INVALID_ARGUMENT', /synced/));
    }
    log.sync();
    const steps = writer.finish(log.committed, 1);
    while (!steps.next().done);
    expect(log.snapshots.newestVerified?.end).toBe(log.committed);
  });

  test('that can no longer be read does not count when the log is truncated', () => {
    const disk = new LogDisk();
    const log = disk.open();
    const infos = [1, 2].map((life) => {
      appendNow(log, `life ${life}`);
      return take(log, 'k1 k2');
    });
    const [first, second] = infos as [SnapshotInfo, SnapshotInfo];
    expect(log.snapshots.newestVerified).toEqual(second);
    const bytes = disk.disk.bytesOf(disk.path(second.name));
    bytes[200]! ^= 1;
    disk.disk.put(disk.path(second.name), bytes);
    expect(() => [...log.snapshots.read(second)]).toThrow('the chunk at offset 128');
    expect(log.snapshots.newestVerified).toEqual(first);
    expect(log.snapshots.sound).toEqual([first]);
  });

  test('with a chunk of another one is damaged', () => {
    const disk = new LogDisk();
    const log = disk.open();
    const [first, second] = [take(log, 'k1 k2'), take(log, 'k3 k4')] as const;
    const bytes = disk.disk.bytesOf(disk.path(second.name));
    disk.disk.bytesOf(disk.path(first.name)).copy(bytes, 128, 128, 128 + 32 + first.payloadBytes);
    disk.disk.put(disk.path(second.name), bytes);
    expect(() => [...log.snapshots.read(second)]).toThrow('belongs to another snapshot');
  });

  test('refuses what are no records', () => {
    const log = new LogDisk().open();
    const writer = log.snapshots.begin({ position: 0n, recordsBefore: 0n, epoch: 1 });
    expect(() => writer.add(Buffer.alloc(41), 1)).toThrow(withCode('ERR_INVALID_ARGUMENT'));
    writer.abort();
  });
});
