// What is particular about the embedded log: its files, when they are synced, what it does about errors of the disk,
// how it makes room. What every log does is in conformance.test.ts, what crashes leave in crash.test.ts.

import { crc32 } from 'node:zlib';
import { describe, expect, test } from 'vitest';
import { decodeSegmentHeader, Fault, FORMAT_VERSION, type SegmentHeader } from '../../src/log/format.ts';
import { type LogNotice, LogReader } from '../../src/log/index.ts';
import { withCode } from '../support/errors.ts';
import { type Fate, FaultyDisk, type FileCall, PowerCut } from '../support/faulty-files.ts';
import { append, appendNow, batchFor, DIRECTORY, keysIn, keysOf, LogDisk, START_MS, take } from '../support/logs.ts';
import { Random } from '../support/random.ts';

function headerOf(disk: LogDisk, name: string): SegmentHeader {
  const header = decodeSegmentHeader(disk.disk.bytesOf(disk.path(name)));
  if (header instanceof Fault) throw new Error(`${name}: the header ${header.why}`);
  return header;
}

const segmentsOf = (disk: LogDisk): string[] => disk.names().filter((name) => name.endsWith('.log'));

/** Counts calls of one kind. */
function counting(disk: LogDisk, kind: FileCall['kind']): { count: number } {
  const counter = { count: 0 };
  disk.disk.fate = (call) => {
    if (call.kind === kind) counter.count++;
    return 'ok';
  };
  return counter;
}

/** Makes the next calls of a kind fail, once the disk is told to. */
function failing(disk: LogDisk, fate: Fate, times: number, ...kinds: FileCall['kind'][]): void {
  let left = times;
  disk.disk.fate = (call) => (kinds.includes(call.kind) && left-- > 0 ? fate : 'ok');
}

/** Makes a sync fail, and then everything that reads the file back. */
function failingToReadBack(disk: LogDisk, error: Exclude<Fate, 'ok' | 'cut'>): void {
  let failed: string | undefined;
  disk.disk.fate = ({ kind, path }) => {
    if (kind === 'sync' && failed === undefined) {
      failed = path;
      return 'EIO';
    }
    return kind === 'read' && path === failed ? error : 'ok';
  };
}

const kindsOf = (notices: readonly LogNotice[]): string[] => notices.map(({ kind }) => kind);

describe('segments', () => {
  test('an empty directory becomes a log of one segment, durable before anything is appended', () => {
    const disk = new LogDisk();
    const log = disk.open();
    expect(segmentsOf(disk)).toEqual(['000000000001.log']);
    expect(log.epoch).toBe(2);
    disk.disk.restart();
    expect(segmentsOf(disk)).toEqual(['000000000001.log']);
    expect(disk.open().epoch).toBe(4);
  });

  test('a segment ends before it would be too large, and the next one says where', () => {
    const disk = new LogDisk();
    const log = disk.open();
    const ends: bigint[] = [];
    for (let i = 0; segmentsOf(disk).length < 4; i++) ends.push(appendNow(log, `${i}`, { valueBytes: 500 }).end);
    for (const [i, name] of segmentsOf(disk).entries()) {
      const header = headerOf(disk, name);
      expect(header.number).toBe(i + 1);
      expect(disk.disk.bytesOf(disk.path(name)).length).toBeLessThanOrEqual(8192);
      if (i === 0) continue;
      expect(header.base).toBe(header.predecessorEnd);
      expect(ends).toContain(header.predecessorEnd);
    }
    expect(keysIn(log)).toEqual(ends.map((_, i) => `${i}.1`));
  });

  test('disk space is allocated ahead of writes, and released when the log is closed', () => {
    const disk = new LogDisk();
    const log = disk.open({ segmentBytes: 16 * 2 ** 20 });
    appendNow(log, 'a');
    const file = disk.path('000000000001.log');
    expect(disk.disk.bytesOf(file).length).toBeGreaterThanOrEqual(4 * 2 ** 20);
    expect(log.usage().bytes).toBe(disk.disk.bytesOf(file).length);
    log.close();
    expect(disk.disk.bytesOf(file).length).toBeLessThan(1024);
  });

  test('a batch that is larger than a segment gets its own segment', () => {
    const disk = new LogDisk();
    const log = disk.open();
    appendNow(log, 'small');
    appendNow(log, 'large', { valueBytes: 100_000 });
    appendNow(log, 'last');
    expect(segmentsOf(disk)).toHaveLength(3);
    expect(headerOf(disk, '000000000002.log').capacity).toBeGreaterThan(100_000);
    log.close();
    expect(keysIn(disk.open())).toEqual(['small.1', 'large.1', 'last.1']);
  });

  test('small, medium and large batches are read back as they were', () => {
    const disk = new LogDisk();
    const log = disk.open({ segmentBytes: 2 ** 20 });
    const sizes = [1, 0, 50_000, 100_000, 300_000, 8, 900_000, 262_144 - 64, 7];
    for (const [i, valueBytes] of sizes.entries()) appendNow(log, `${i}`, { valueBytes, count: i % 3 === 0 ? 3 : 1 });
    const entries = [...log.entries(0n)].filter(({ kind }) => kind === 'records');
    expect(entries.map(({ records }) => records.length)).toEqual(
      sizes.map((valueBytes, i) => (i % 3 === 0 ? 3 : 1) * Math.ceil((40 + 3 + valueBytes) / 8) * 8),
    );
    expect(entries.flatMap(keysOf)).toHaveLength(sizes.length + 6);
  });

  test('thousands of batches over many segments keep their order', () => {
    const disk = new LogDisk();
    const log = disk.open({ segmentBytes: 65_536 });
    const names = Array.from({ length: 5000 }, (_, i) => `${i}`);
    for (const name of names) appendNow(log, name);
    expect(keysIn(log)).toEqual(names.map((name) => `${name}.1`));
    log.close();
    expect(keysIn(disk.open())).toHaveLength(5000);
  });

  test('which entry ends at a position can be told, by its epoch and writer', () => {
    const disk = new LogDisk();
    for (let opening = 0; opening < 4; opening++) {
      const log = disk.open();
      for (let i = 0; i < 12; i++) appendNow(log, `${opening}.${i}`, { valueBytes: 100 * i });
      log.close();
    }
    const log = disk.open();
    const makeReader = () => new LogReader({ directory: DIRECTORY, progress: log.progress, files: disk.disk.files() });
    const reader = makeReader();
    const entries = [...log.entries(0n)];
    expect(new Set(entries.map(({ writer }) => writer)).size).toBe(5);
    for (const { end, epoch, writer } of entries) {
      expect(reader.stateAt(end), `at ${end}`).toMatchObject({ epoch, writer });
      expect(reader.stateAt(end - 8n)).toBeUndefined();
      expect(reader.stateAt(end + 8n)).toBeUndefined();
    }
    for (const position of [-1n, 0n, log.end + 1n]) expect(reader.stateAt(position)).toBeUndefined();
    // The segments of a log that was closed follow each other without a gap.
    for (const { position } of entries) expect(reader.bytesFrom(position)).toBe(Number(log.end - position));
    // The oldest segment says what was before it, and nothing else does.
    log.truncate(entries.at(-8)!.position);
    expect(log.oldestReadable).toBeGreaterThan(0n);
    const late = makeReader();
    const told = entries.filter(({ end }) => late.stateAt(end) !== undefined);
    expect(told[0]!.end).toBe(log.oldestReadable);
    expect(told).toEqual(entries.slice(-told.length));
  });

  test('positions that a crash has left out do not count as bytes', () => {
    const disk = new LogDisk();
    appendNow(disk.open(), 'a', { valueBytes: 1000 });
    disk.disk.restart();
    const log = disk.open();
    appendNow(log, 'b', { valueBytes: 1000 });
    const reader = new LogReader({ directory: DIRECTORY, progress: log.progress, files: disk.disk.files() });
    const entries = [...log.entries(0n)];
    const bytes = entries.reduce((sum, { position, end }) => sum + Number(end - position), 0);
    expect(reader.bytesFrom(0n)).toBe(bytes);
    expect(reader.bytesFrom(entries.at(-1)!.position)).toBe(Number(entries.at(-1)!.end - entries.at(-1)!.position));
  });

  test('an entry can be read alone by its position', () => {
    const log = new LogDisk().open();
    const places = ['a', 'b', 'c'].map((name) => appendNow(log, name, { valueBytes: 3000 }));
    expect(keysOf(log.entryAt(places[1]!.position)!)).toEqual(['b.1']);
    expect(log.entryAt(places[1]!.position + 8n)).toBeUndefined();
    expect(log.entryAt(log.end)).toBeUndefined();
  });

  test('reading may begin where no entry does, with the first behind it', () => {
    const log = new LogDisk().open();
    const places = Array.from({ length: 30 }, (_, i) => appendNow(log, `${i}`, { valueBytes: 900 }));
    for (const [i, { position, end }] of places.entries()) {
      for (const from of [position - 1n, position - 8n, position + 1n, end - 1n]) {
        const expected = from <= position ? i : i + 1;
        const [first] = [...log.entries(from)].flatMap(keysOf);
        expect(first).toBe(expected < places.length ? `${expected}.1` : undefined);
      }
    }
  });
});

describe('syncing', () => {
  test('`always` syncs before each answer, once', () => {
    const disk = new LogDisk();
    const log = disk.open({ segmentBytes: 2 ** 20 });
    const syncs = counting(disk, 'sync');
    for (let i = 1; i <= 5; i++) {
      appendNow(log, `${i}`);
      expect(syncs.count).toBe(i);
      expect(log.durable).toBe(log.committed);
    }
    expect(log.syncDueInMs()).toBe(Number.POSITIVE_INFINITY);
  });

  test('an interval syncs what was appended when it is due, and not before', () => {
    const disk = new LogDisk();
    const log = disk.open({ sync: '20ms', segmentBytes: 2 ** 20 });
    const syncs = counting(disk, 'sync');
    const { position } = appendNow(log, 'a');
    expect(log.syncDueInMs()).toBe(20);
    disk.nowMs += 19;
    appendNow(log, 'b');
    log.syncIfDue();
    expect([syncs.count, log.durable]).toEqual([0, position]);
    expect(log.syncDueInMs()).toBe(1);
    disk.nowMs += 1;
    log.syncIfDue();
    expect([syncs.count, log.durable]).toEqual([1, log.committed]);
    // The next interval begins with the next append; one that comes late takes the sync along.
    disk.nowMs += 500;
    appendNow(log, 'c');
    expect(syncs.count).toBe(1);
    disk.nowMs += 20;
    appendNow(log, 'd');
    expect([syncs.count, log.durable]).toEqual([2, log.committed]);
  });

  test('`none` syncs when a segment ends, and when it is asked to', () => {
    const disk = new LogDisk();
    const log = disk.open({ sync: 'none' });
    const syncs = counting(disk, 'sync');
    const before = log.durable;
    appendNow(log, 'a');
    disk.nowMs += 1e9;
    log.syncIfDue();
    expect([syncs.count, log.durable]).toEqual([0, before]);
    log.sync();
    expect([syncs.count, log.durable]).toEqual([1, log.committed]);
    const { end } = appendNow(log, 'b');
    while (segmentsOf(disk).length < 2) appendNow(log, 'c', { valueBytes: 1000 });
    expect(log.durable).toBeGreaterThan(end);
    expect(log.durable).toBe(headerOf(disk, '000000000002.log').predecessorEnd);
  });

  test('a reader of what is durable does not see more', async () => {
    const disk = new LogDisk();
    const log = disk.open({ sync: 'none' });
    appendNow(log, 'a');
    expect([...log.entries(0n, 'durable')].flatMap(keysOf)).toEqual([]);
    expect([...log.entries(0n)].flatMap(keysOf)).toEqual(['a.1']);
    const reading = take(log.read(0n, { level: 'durable' }), 1);
    log.sync();
    expect((await reading).flatMap(keysOf)).toEqual(['a.1']);
  });

  test.each(['', 'sometimes', '0ms', '10', '-5ms', '1.5ms', '99999999ms', 7, true])('%j is no policy', (sync) => {
    const disk = new LogDisk();
    expect(() => disk.open({ sync: sync as 'always' })).toThrow(withCode('ERR_INVALID_ARGUMENT', /always/));
    expect(disk.names()).toEqual([]);
  });
});

describe('a disk with errors', () => {
  test('a failed sync ends the segment, and the same batch is committed in the next one', () => {
    const disk = new LogDisk();
    const log = disk.open();
    appendNow(log, 'a');
    failing(disk, 'EIO', 1, 'sync');
    appendNow(log, 'b');
    expect(kindsOf(disk.notices)).toEqual(['segment-failed']);
    expect(segmentsOf(disk)).toHaveLength(2);
    expect(keysIn(log)).toEqual(['a.1', 'b.1']);
    appendNow(log, 'c');
    disk.disk.restart();
    expect(keysIn(disk.open())).toEqual(['a.1', 'b.1', 'c.1']);
  });

  test('a sync is never tried again on a file whose sync has failed', () => {
    const disk = new LogDisk();
    const log = disk.open({ sync: 'none' });
    appendNow(log, 'a');
    const synced: string[] = [];
    let failed: string | undefined;
    disk.disk.fate = ({ kind, path }) => {
      if (kind !== 'sync') return 'ok';
      if (failed === undefined) {
        failed = path;
        return 'EIO';
      }
      synced.push(path);
      return 'ok';
    };
    log.sync();
    // The data is in the new segment first. What is synced of the old file then is the mark at its end.
    expect(failed).toContain('000000000001.log');
    expect(synced[0]).toContain('000000000002.log');
    expect(log.durable).toBe(log.committed);
    disk.disk.restart();
    expect(keysIn(disk.open())).toEqual(['a.1']);
  });

  test('what was committed and not synced when a sync fails is written again, at its positions', () => {
    const disk = new LogDisk();
    const log = disk.open({ sync: '10ms' });
    const places = ['a', 'b', 'c'].map((name) => appendNow(log, name));
    failing(disk, 'EIO', 1, 'sync');
    disk.nowMs += 10;
    log.syncIfDue();
    expect(log.durable).toBe(log.committed);
    for (const [i, { position }] of places.entries()) {
      expect(keysOf(log.entryAt(position)!)).toEqual([`${'abc'[i]}.1`]);
    }
    disk.disk.restart();
    expect(keysIn(disk.open())).toEqual(['a.1', 'b.1', 'c.1']);
  });

  test('a reader in a segment that fails goes on in the next segment', () => {
    const disk = new LogDisk();
    const log = disk.open({ sync: 'none' });
    appendNow(log, 'a');
    appendNow(log, 'b');
    const entries = log.entries(0n);
    const next = () => entries.next().value;
    expect(next()?.kind).toBe('takeover');
    expect(keysOf(next()!)).toEqual(['a.1']);
    failing(disk, 'EIO', 1, 'sync');
    log.sync();
    appendNow(log, 'c');
    expect(keysOf(next()!)).toEqual(['b.1']);
    expect(keysOf(next()!)).toEqual(['c.1']);
    expect(next()).toBeUndefined();
  });

  test('as long as no segment can be made, appends are unknown and nothing is durable; then all goes on', () => {
    const disk = new LogDisk();
    const log = disk.open();
    appendNow(log, 'a');
    disk.disk.fate = ({ kind }) => (kind === 'sync' ? 'EIO' : 'ok');
    const batch = batchFor(log, 'b');
    for (let i = 0; i < 3; i++) {
      expect(log.append(batch)).toMatchObject({ kind: 'unknown', cause: { code: 'ERR_LOG_IO' } });
    }
    expect(keysIn(log)).toEqual(['a.1']);
    disk.disk.fate = () => 'ok';
    expect(log.append(batch).kind).toBe('committed');
    expect(keysIn(log)).toEqual(['a.1', 'b.1']);
  });

  test('a batch whose outcome is unknown may be replaced by another one', () => {
    const disk = new LogDisk();
    const log = disk.open();
    disk.disk.fate = ({ kind }) => (kind === 'sync' ? 'EIO' : 'ok');
    expect(log.append(batchFor(log, 'a')).kind).toBe('unknown');
    disk.disk.fate = () => 'ok';
    appendNow(log, 'b');
    expect(keysIn(log)).toEqual(['b.1']);
    log.close();
    expect(keysIn(disk.open())).toEqual(['b.1']);
  });

  test('a failed write ends the segment too', () => {
    const disk = new LogDisk();
    const log = disk.open();
    appendNow(log, 'a');
    failing(disk, 'EIO', 1, 'write');
    appendNow(log, 'b');
    expect(kindsOf(disk.notices)).toEqual(['segment-failed']);
    expect(keysIn(log)).toEqual(['a.1', 'b.1']);
  });

  test('a directory that cannot be synced does not leave two segments with the same batches', () => {
    const disk = new LogDisk();
    const log = disk.open();
    const names: string[] = [];
    const next = (): void => {
      const name = `${names.length}`;
      const result = log.append(batchFor(log, name, { valueBytes: 1000 }));
      if (result.kind === 'committed') names.push(name);
    };
    while (segmentsOf(disk).length < 2) {
      failing(disk, 'EIO', 1, 'sync-directory');
      next();
    }
    disk.disk.fate = () => 'ok';
    for (let i = 0; i < 20; i++) next();
    expect(keysIn(log)).toEqual(names.map((name) => `${name}.1`));
    disk.disk.restart();
    expect(keysIn(disk.open())).toEqual(names.map((name) => `${name}.1`));
  });

  test('what cannot be read back after a failed sync is reported as lost, and the log goes on behind it', () => {
    const disk = new LogDisk();
    const log = disk.open({ sync: 'none' });
    appendNow(log, 'a');
    log.sync();
    const b = appendNow(log, 'b', { count: 3 });
    appendNow(log, 'c', { count: 2 });
    failingToReadBack(disk, 'EIO');
    expect(() => log.sync()).toThrow(withCode('ERR_LOG_IO', /5 records of the log .* are lost/));
    disk.disk.fate = () => 'ok';
    log.sync();
    expect(log.lost).toEqual({ recordCount: 5, end: log.end });
    expect(disk.notices).toContainEqual({ kind: 'lost', position: b.position, end: log.end, recordCount: 5 });
    appendNow(log, 'd');
    const entries = [...log.entries(0n)];
    expect(entries.map(({ kind, recordCount }) => [kind, recordCount])).toEqual([
      ['takeover', 0],
      ['records', 1],
      ['lost', 5],
      ['records', 1],
    ]);
    expect(entries.flatMap(keysOf)).toEqual(['a.1', 'd.1']);
    const reader = new LogReader({ directory: DIRECTORY, progress: log.progress, files: disk.disk.files() });
    for (const { end, epoch, writer } of entries) expect(reader.stateAt(end)).toMatchObject({ epoch, writer });
    log.close();
    expect(keysIn(disk.open())).toEqual(['a.1', 'd.1']);
  });

  test('a file that cannot be opened any more is not one that cannot be read: nothing is lost', () => {
    for (const error of ['EMFILE', 'EIO', 'ESTALE'] as const) {
      const disk = new LogDisk();
      const log = disk.open({ sync: 'none' });
      for (const name of ['a', 'b', 'c']) appendNow(log, name);
      let isFailing = true;
      disk.disk.fate = ({ kind, path }) => {
        if (kind === 'sync' && /\.log/.test(path) && isFailing) {
          isFailing = false;
          return 'EIO';
        }
        return kind === 'open' && path.endsWith('.log') ? error : 'ok';
      };
      log.sync();
      expect(log.durable).toBe(log.committed);
      expect(kindsOf(disk.notices)).toContain('segment-failed');
      expect(log.lost.recordCount).toBe(0);
      disk.disk.fate = () => 'ok';
      disk.disk.restart();
      expect(keysIn(disk.open())).toEqual(['a.1', 'b.1', 'c.1']);
    }
  });

  test('without a descriptor for a new file nothing is lost, and the next sync makes it durable', () => {
    const disk = new LogDisk();
    const log = disk.open({ sync: 'none' });
    for (const name of ['a', 'b', 'c']) appendNow(log, name);
    disk.disk.fate = ({ kind }) => (kind === 'sync' ? 'EIO' : kind === 'open' ? 'EMFILE' : 'ok');
    expect(() => log.sync()).toThrow(withCode('ERR_LOG_IO', /EMFILE/));
    disk.disk.fate = () => 'ok';
    log.sync();
    expect(log.lost.recordCount).toBe(0);
    disk.disk.restart();
    expect(keysIn(disk.open())).toEqual(['a.1', 'b.1', 'c.1']);
  });

  test('a batch counts as lost only after several failed reads', () => {
    for (const error of ['EIO', 'EMFILE', 'ESTALE'] as const) {
      const disk = new LogDisk();
      const log = disk.open({ sync: 'none' });
      appendNow(log, 'a');
      let reads = 0;
      disk.disk.fate = ({ kind }) => {
        if (kind === 'sync' && reads === 0) return 'EIO';
        return kind === 'read' && ++reads === 1 ? error : 'ok';
      };
      // An error that says nothing of the bytes fails the sync, and the next one begins anew.
      if (error !== 'EIO') expect(() => log.sync()).toThrow(withCode('ERR_LOG_IO', new RegExp(error)));
      log.sync();
      expect(keysIn(log)).toEqual(['a.1']);
      expect(log.lost.recordCount).toBe(0);
    }
  });

  test('a batch that its own failed sync loses is appended again behind the gap', () => {
    const disk = new LogDisk();
    const log = disk.open({ sync: '10ms' });
    appendNow(log, 'a');
    log.sync();
    appendNow(log, 'b');
    disk.nowMs += 10;
    failingToReadBack(disk, 'EIO');
    const batch = batchFor(log, 'c');
    const result = log.append(batch);
    expect(kindsOf(disk.notices)).toEqual(['segment-failed', 'lost']);
    const lost = disk.notices.find((notice) => notice.kind === 'lost')!;
    expect(lost.recordCount).toBe(2);
    expect(result).toEqual({ kind: 'committed', position: lost.end, end: log.end });
    expect(keysIn(log)).toEqual(['a.1', 'c.1']);
    disk.disk.fate = () => 'ok';
    log.close();
    expect(keysIn(disk.open())).toEqual(['a.1', 'c.1']);
  });

  test('batches that can be read once and then fail are not copied in part', () => {
    const disk = new LogDisk();
    const log = disk.open({ sync: 'none' });
    appendNow(log, 'a');
    log.sync();
    const { position } = appendNow(log, 'b');
    appendNow(log, 'c');
    const old = disk.path('000000000001.log');
    let reads = 0;
    let failed = false;
    disk.disk.fate = ({ kind, path }) => {
      if (kind === 'sync' && !failed) {
        failed = true;
        return 'EIO';
      }
      // Read to see what is there, and read again to copy it: by then the system has let go of what it had in memory.
      if (failed && kind === 'read' && path.startsWith(old) && ++reads === 2) {
        const bytes = disk.disk.bytesOf(old);
        disk.disk.overwrite(old, bytes.fill(0, 128 + Number(position)));
      }
      return 'ok';
    };
    expect(() => log.sync()).toThrow(withCode('ERR_LOG_IO', /EIO/));
    disk.disk.fate = () => 'ok';
    expect(() => log.sync()).toThrow(withCode('ERR_LOG_IO', /2 records of the log .* are lost/));
    log.sync();
    expect(disk.notices).toContainEqual({ kind: 'lost', position, end: log.end, recordCount: 2 });
    appendNow(log, 'd');
    expect(keysIn(log)).toEqual(['a.1', 'd.1']);
    log.close();
    expect(keysIn(disk.open())).toEqual(['a.1', 'd.1']);
  });

  test('a read that fails is an error to its reader, and neither damage nor a wrong answer', () => {
    const disk = new LogDisk();
    const log = disk.open();
    const batch = batchFor(log, 'a');
    expect(log.append(batch).kind).toBe('committed');
    disk.disk.fate = ({ kind }) => (kind === 'read' ? 'EIO' : 'ok');
    expect(() => keysIn(log)).toThrow(withCode('ERR_LOG_IO', /EIO/));
    expect(() => log.entryAt(batch.expectPosition)).toThrow(withCode('ERR_LOG_IO', /EIO/));
    // Whether it is the same batch cannot be told now.
    expect(log.append(batch)).toMatchObject({ kind: 'unknown', cause: { code: 'ERR_LOG_IO' } });
    appendNow(log, 'b');
    disk.disk.fate = () => 'ok';
    expect(log.append(batch).kind).toBe('committed');
    expect(keysIn(log)).toEqual(['a.1', 'b.1']);
  });

  test('a slow disk makes nothing due before its time', () => {
    const disk = new LogDisk();
    const log = disk.open({ sync: '10ms', segmentBytes: 2 ** 20 });
    disk.disk.fate = ({ kind }) => {
      if (kind === 'sync') disk.nowMs += 700;
      return 'ok';
    };
    appendNow(log, 'a');
    disk.nowMs += 10;
    log.syncIfDue();
    expect(log.syncDueInMs()).toBe(Number.POSITIVE_INFINITY);
    const { position } = appendNow(log, 'b');
    expect(log.durable).toBe(position);
    expect(log.syncDueInMs()).toBe(10);
  });

  test('an interval that cannot sync says so and tries again at the next', () => {
    const disk = new LogDisk();
    const log = disk.open({ sync: '10ms' });
    appendNow(log, 'a');
    disk.disk.fate = ({ kind }) => (kind === 'sync' ? 'EIO' : 'ok');
    disk.nowMs += 10;
    log.syncIfDue();
    expect(kindsOf(disk.notices)).toEqual(['segment-failed', 'sync-failed']);
    expect(log.syncDueInMs()).toBe(10);
    expect(() => log.sync()).toThrow(withCode('ERR_LOG_IO'));
    disk.disk.fate = () => 'ok';
    disk.nowMs += 10;
    log.syncIfDue();
    expect(log.durable).toBe(log.committed);
    expect(keysIn(log)).toEqual(['a.1']);
  });

  test('a disk that fails while the log is opened leaves the log as it was', () => {
    const made = new LogDisk();
    appendNow(made.open(), 'a');
    const image = made.disk.image();
    // Each call of an opening fails in turn.
    for (let failing = 0, isOver = false; !isOver; failing++) {
      const disk = new LogDisk(FaultyDisk.of(image, new Random(failing)));
      disk.disk.fate = ({ index }) => (index === failing ? 'EIO' : 'ok');
      try {
        disk.open().close();
      } catch (error) {
        expect(error).toMatchObject({ code: 'ERR_LOG_IO' });
      }
      isOver = disk.disk.callCount <= failing;
      disk.disk.kill();
      disk.disk.fate = () => 'ok';
      expect(keysIn(disk.open())).toEqual(['a.1']);
    }
  });
});

describe('the entry with which a log is taken over', () => {
  test.each(['always', '10ms', 'none'] as const)('is durable before anything else happens, under sync %s', (sync) => {
    const disk = new LogDisk();
    disk.open({ sync }).close();
    const log = disk.open({ sync });
    const { takeover } = log;
    expect(takeover.epoch).toBe(4);
    expect(log.durable).toBe(takeover.end);
    disk.disk.restart();
    const again = disk.open({ sync });
    expect(new LogReader({ ...disk.options(), progress: again.progress }).stateAt(takeover.end)).toMatchObject({
      epoch: takeover.epoch,
      writer: takeover.writer,
    });
    expect(again.takeover.epoch).toBe(6);
    expect(again.takeover.writer).not.toBe(takeover.writer);
  });

  test('is written by a sync, once a full disk has room for it', () => {
    const disk = new LogDisk();
    disk.open().close();
    const { bytes } = disk.disk;
    disk.disk.capacityBytes = bytes;
    const log = disk.open();
    expect(log.usage().level).toBe('full');
    log.sync();
    expect(log.durable).toBeLessThan(log.takeover.end);
    disk.disk.capacityBytes = Number.POSITIVE_INFINITY;
    log.sync();
    expect(log.durable).toBe(log.takeover.end);
    expect(log.usage().level).toBe('ok');
    appendNow(log, 'a');
    expect(keysIn(log)).toEqual(['a.1']);
  });

  test('is known to each later opening, and none of a copy that was opened is; of what was truncated nothing is said', () => {
    const disk = new LogDisk();
    const openings = [disk.open()];
    for (let i = 0; i < 3; i++) {
      appendNow(openings.at(-1)!, `${i}`);
      openings.at(-1)!.close();
      openings.push(disk.open());
    }
    const log = openings.at(-1)!;
    const reader = new LogReader({ ...disk.options(), progress: log.progress });
    for (const { takeover } of openings) {
      expect(reader.mayHaveHad(takeover)).toBe(true);
      expect(reader.mayHaveHad({ ...takeover, writer: 1n })).toBe(false);
    }
    const { takeover: second } = openings[1]!;
    log.truncate(openings[2]!.takeover.end);
    expect(log.oldestReadable).toBeGreaterThan(second.end);
    const later = new LogReader({ ...disk.options(), progress: log.progress });
    expect(later.mayHaveHad({ ...second, writer: 1n })).toBe(true);
    for (const { takeover } of openings) expect(later.mayHaveHad(takeover)).toBe(true);
    expect(later.mayHaveHad({ ...log.takeover, writer: 1n })).toBe(false);
  });
});

describe('a full disk', () => {
  test('an append is answered with `full`, nothing of it is ever read, and it succeeds once there is room', () => {
    const disk = new LogDisk();
    const log = disk.open();
    const names: string[] = [];
    disk.disk.capacityBytes = disk.disk.bytes + 20_000;
    for (;;) {
      const batch = batchFor(log, `${names.length}`, { valueBytes: 1500 });
      const result = log.append(batch);
      if (result.kind === 'full') {
        expect(result.reason).toBe('disk');
        expect(log.append(batch).kind).toBe('full');
        break;
      }
      names.push(`${names.length}`);
    }
    expect(names.length).toBeGreaterThan(5);
    expect(log.usage().level).toBe('full');
    const keys = names.map((name) => `${name}.1`);
    expect(keysIn(log)).toEqual(keys);
    // After the end of the process too.
    disk.disk.kill();
    disk.disk.capacityBytes = Number.POSITIVE_INFINITY;
    const again = disk.open();
    expect(keysIn(again)).toEqual(keys);
    disk.disk.capacityBytes = disk.disk.bytes;
    while (again.append(batchFor(again, 'x', { valueBytes: 100 })).kind === 'committed') keys.push('x.1');
    disk.disk.capacityBytes = Number.POSITIVE_INFINITY;
    appendNow(again, 'last');
    expect(again.usage().level).toBe('ok');
    expect(keysIn(again)).toEqual([...keys, 'last.1']);
  });

  test('segments that only the older of two snapshots needs are deleted before a write is refused', () => {
    const disk = new LogDisk();
    const log = disk.open();
    const snapshot = (): void => {
      const start = { position: log.committed, recordsBefore: log.recordsBefore, epoch: log.epoch };
      const steps = log.snapshots.begin(start).finish(log.durable, log.epoch);
      while (!steps.next().done);
      log.reclaim();
    };
    snapshot();
    for (let i = 0; i < 30; i++) appendNow(log, `${i}`, { valueBytes: 2000 });
    snapshot();
    const needed = log.committed;
    expect(log.oldestReadable).toBe(0n);
    disk.disk.capacityBytes = disk.disk.bytes;
    for (let i = 0; i < 20; i++) appendNow(log, `x${i}`, { valueBytes: 2000 });
    expect(log.oldestReadable).toBeGreaterThan(0n);
    expect(log.oldestReadable).toBeLessThanOrEqual(needed);
    expect(kindsOf(disk.notices)).not.toContain('level');
    // What the newest needs is not.
    let result = log.append(batchFor(log, 'y', { valueBytes: 2000 }));
    while (result.kind === 'committed') result = log.append(batchFor(log, 'y', { valueBytes: 2000 }));
    expect(result).toEqual({ kind: 'full', reason: 'disk' });
    expect(log.oldestReadable).toBeLessThanOrEqual(needed);
  });

  test.each(['always', 'none'] as const)(
    'a write that is short of nothing but zeros is no batch either (%s)',
    (sync) => {
      // The end of the record is padding: what the room ahead is filled with.
      const disk = new LogDisk();
      const log = disk.open({ sync });
      const batch = batchFor(log, 'b', { valueBytes: 1 });
      for (let missing = 1; missing <= 4; missing++) {
        let isFull = true;
        disk.disk.writtenOfFailed = (bytes) => bytes - missing;
        disk.disk.fate = ({ kind }) => {
          if (kind !== 'write' || !isFull) return 'ok';
          isFull = false;
          return 'ENOSPC';
        };
        expect(log.append(batch)).toEqual({ kind: 'full', reason: 'disk' });
      }
      // And the room that was taken ahead is still there.
      expect(disk.disk.bytesOf(disk.path('000000000001.log')).length).toBe(log.usage().bytes);
      disk.disk.fate = () => 'ok';
      disk.disk.kill();
      expect(keysIn(disk.open())).toEqual([]);
    },
  );

  test('an append that was answered with `full` is not there after a power cut either', () => {
    for (let seed = 1; seed <= 50; seed++) {
      const disk = new LogDisk(new FaultyDisk(new Random(seed)));
      const log = disk.open();
      disk.disk.writtenOfFailed = (bytes) => bytes - 4;
      failing(disk, 'ENOSPC', 1, 'write');
      expect(log.append(batchFor(log, 'b', { valueBytes: 1 })).kind).toBe('full');
      disk.disk.restart();
      expect(keysIn(disk.open()), `seed ${seed}`).toEqual([]);
    }
  });

  test('a batch that a failed segment may have is not refused, as long as there is no room for another segment', () => {
    const disk = new LogDisk();
    const log = disk.open();
    appendNow(log, 'a');
    disk.disk.fate = ({ kind, path }) => {
      if (kind === 'sync') return 'EIO';
      return kind === 'open' && path.endsWith('.tmp') ? 'ENOSPC' : 'ok';
    };
    const batch = batchFor(log, 'b');
    for (let i = 0; i < 3; i++) expect(log.append(batch).kind).toBe('unknown');
    // Which is as well, for it is there.
    disk.disk.fate = () => 'ok';
    disk.disk.kill();
    expect(keysIn(disk.open())).toEqual(['a.1', 'b.1']);
  });

  test('a log opens on a full disk, can be read, and takes batches once there is room', () => {
    const disk = new LogDisk();
    const log = disk.open();
    appendNow(log, 'a');
    const epoch = log.epoch;
    disk.disk.kill();
    disk.disk.capacityBytes = disk.disk.bytes;
    const full = disk.open();
    expect(keysIn(full)).toEqual(['a.1']);
    const batch = batchFor(full, 'b');
    expect(full.append(batch)).toEqual({ kind: 'full', reason: 'disk' });
    expect(full.usage().level).toBe('full');
    expect(() => full.sync()).toThrow(withCode('ERR_LOG_IO'));
    disk.disk.capacityBytes = Number.POSITIVE_INFINITY;
    expect(full.epoch).toBe(epoch + 2);
    // The position that was to be expected has stayed the same.
    expect(full.append(batch).kind).toBe('committed');
    expect(keysIn(full)).toEqual(['a.1', 'b.1']);
    full.close();
    expect(keysIn(disk.open())).toEqual(['a.1', 'b.1']);
  });

  test('a new log on a full disk has no cursors and snapshots before it has a segment', () => {
    const disk = new LogDisk();
    disk.disk.fate = ({ kind, path }) => (kind === 'open' && path.endsWith('.log.tmp') ? 'ENOSPC' : 'ok');
    const log = disk.open();
    expect(() => log.cursor('x').advance(log.committed)).toThrow(withCode('ERR_LOG_IO'));
    expect(() => log.snapshots.begin({ position: 0n, recordsBefore: 0n, epoch: 1 })).toThrow(withCode('ERR_LOG_IO'));
    expect(disk.names()).toEqual([]);
    log.close();
    disk.disk.fate = () => 'ok';
    const again = disk.open();
    appendNow(again, 'a');
    expect(keysIn(again)).toEqual(['a.1']);
  });
});

describe('the limit', () => {
  test.each(['always', 'none'] as const)(
    'an append beyond it is refused, 70 and 85 percent are announced (%s)',
    (sync) => {
      const disk = new LogDisk();
      const log = disk.open({ sync, limitBytes: 80_000 });
      let result = log.append(batchFor(log, 'x', { valueBytes: 2000 }));
      while (result.kind === 'committed') result = log.append(batchFor(log, 'x', { valueBytes: 2000 }));
      expect(result).toEqual({ kind: 'full', reason: 'limit' });
      const usage = log.usage();
      expect(usage.bytes).toBeLessThanOrEqual(80_000);
      expect(usage.bytes).toBeGreaterThan(70_000);
      if (sync === 'none') {
        // Without room ahead the log is never larger than what is in it.
        for (const notice of disk.notices) {
          if (notice.kind !== 'level' || notice.level === 'full') continue;
          const least = notice.level === 'high' ? 0.7 : 0.85;
          expect(notice.usage.bytes / 80_000 - least).toBeLessThan(2200 / 80_000);
        }
      }
      const levels = disk.notices.flatMap((notice) =>
        notice.kind === 'level' ? [[notice.level, Math.floor((100 * notice.usage.bytes) / 80_000) >= 70]] : [],
      );
      expect(levels).toEqual([
        ['high', true],
        ['critical', true],
        ['full', true],
      ]);
    },
  );

  test('segments that neither recovery nor a cursor needs are deleted to make room', async () => {
    const disk = new LogDisk();
    const log = disk.open({ limitBytes: 80_000 });
    const snapshot = (): void => {
      const start = { position: log.committed, recordsBefore: log.recordsBefore, epoch: log.epoch };
      const steps = log.snapshots.begin(start).finish(log.durable, log.epoch);
      while (!steps.next().done);
    };
    for (let i = 0; i < 200; i++) {
      if (i % 10 === 9) snapshot();
      await append(log, `${i}`, { valueBytes: 2000 });
    }
    expect(log.usage().bytes).toBeLessThan(80_000);
    expect(log.usage().oldest).toBeGreaterThan(0n);
    // A cursor that stands still stops it.
    log.cursor('slow').advance(log.committed);
    let result = log.append(batchFor(log, 'x', { valueBytes: 2000 }));
    for (let i = 0; result.kind === 'committed' && i < 200; i++) {
      if (i % 10 === 9) snapshot();
      result = log.append(batchFor(log, 'x', { valueBytes: 2000 }));
    }
    expect(result).toEqual({ kind: 'full', reason: 'limit' });
    log.cursor('slow').advance(log.committed);
    await append(log, 'y', { valueBytes: 2000 });
    expect(log.usage().level).not.toBe('full');
  });

  test('history is kept while the log is at most half full, and then gives way, oldest first', async () => {
    const disk = new LogDisk();
    let log = disk.open({ limitBytes: 160_000 });
    const snapshot = (): void => {
      const start = { position: log.committed, recordsBefore: log.recordsBefore, epoch: log.epoch };
      const steps = log.snapshots.begin(start).finish(log.durable, log.epoch);
      while (!steps.next().done);
      log.reclaim();
    };
    const history = () => log.cursors().get('history of feed')!;
    log.cursor('history of feed').place(0n);
    for (let i = 0; i < 20; i++) await append(log, `${i}`, { valueBytes: 2000 });
    for (let i = 0; i < 3; i++) snapshot();
    expect([log.oldestReadable, history()]).toEqual([0n, 0n]);
    for (let i = 0; i < 100; i++) {
      await append(log, `${i}`, { valueBytes: 2000 });
      if (i % 5 === 4) snapshot();
      expect(history()).toBeGreaterThanOrEqual(log.oldestReadable);
    }
    // As much as there is room for is still there, and no level has begun for its sake.
    const { bytes, level } = log.usage();
    expect([bytes > 50_000, bytes <= 80_000, level]).toEqual([true, true, 'ok']);
    expect(history()).toBe(log.oldestReadable);
    const { size } = new Set(kindsOf(disk.notices));
    expect(size).toBe(0);
    log.close();
    log = disk.open({ limitBytes: 160_000 });
    expect(history()).toBe(log.oldestReadable);
    // A cursor that is not of history keeps its segments, and costs history the rest.
    const slow = log.committed;
    log.cursor('slow').advance(slow);
    for (let i = 0; log.append(batchFor(log, `${i}`, { valueBytes: 2000 })).kind === 'committed'; i++) {
      if (i % 5 === 4) snapshot();
    }
    expect(log.usage().level).toBe('full');
    expect(log.oldestReadable).toBeLessThanOrEqual(slow);
    expect(history()).toBe(log.oldestReadable);
  });

  test('history gives way on a full disk, where its cursor cannot be moved', async () => {
    const disk = new LogDisk();
    const log = disk.open({ limitBytes: 2 ** 20 });
    log.cursor('history of feed').place(0n);
    for (let i = 0; i < 20; i++) await append(log, `${i}`, { valueBytes: 2000 });
    for (let i = 0; i < 2; i++) {
      const start = { position: log.committed, recordsBefore: log.recordsBefore, epoch: log.epoch };
      const steps = log.snapshots.begin(start).finish(log.durable, log.epoch);
      while (!steps.next().done);
    }
    const before = log.usage().bytes;
    let isFull = true;
    disk.disk.fate = ({ kind }) => {
      if (kind === 'remove') isFull = false;
      return isFull && kind === 'write' ? 'ENOSPC' : 'ok';
    };
    await append(log, 'x', { valueBytes: 2000 });
    expect(log.usage().bytes).toBeLessThan(before);
    expect(log.oldestReadable).toBeGreaterThan(0n);
  });

  test('no segment is deleted without a snapshot, wherever the cursors are', () => {
    const disk = new LogDisk();
    const log = disk.open();
    for (let i = 0; i < 30; i++) appendNow(log, `${i}`, { valueBytes: 1000 });
    log.cursor('a').advance(log.committed);
    log.reclaim();
    expect(log.oldestReadable).toBe(0n);
    expect(keysIn(log)).toHaveLength(30);
  });

  test('the segments that the older snapshot needs are kept as long as there is plenty of room', () => {
    const disk = new LogDisk();
    const log = disk.open({ limitBytes: 1_000_000 });
    const positions: bigint[] = [];
    for (let i = 0; i < 3; i++) {
      for (let k = 0; k < 10; k++) appendNow(log, `${i}.${k}`, { valueBytes: 2000 });
      positions.push(log.committed);
      const start = { position: log.committed, recordsBefore: log.recordsBefore, epoch: log.epoch };
      const steps = log.snapshots.begin(start).finish(log.durable, log.epoch);
      while (!steps.next().done);
      log.reclaim();
    }
    expect(log.snapshots.sound.map(({ position }) => position)).toEqual([positions[2], positions[1]]);
    expect(log.oldestReadable).toBeLessThanOrEqual(positions[1]!);
    expect(log.oldestReadable).toBeGreaterThan(0n);
  });

  test.each([
    [{ segmentBytes: 100 }, /segmentBytes/],
    [{ segmentBytes: 2 ** 31 }, /segmentBytes/],
    [{ segmentBytes: 8192.5 }, /segmentBytes/],
    [{ limitBytes: 8192 }, /limitBytes/],
    [{ limitBytes: 'a lot' as unknown as number }, /limitBytes/],
    [{ directory: '' }, /directory/],
  ])('%o is refused', (options, message) => {
    expect(() => new LogDisk().open(options)).toThrow(withCode('ERR_INVALID_ARGUMENT', message));
  });
});

describe('opening', () => {
  test('what a crash has left behind the last whole batch is cut off and reported', () => {
    const disk = new LogDisk();
    const log = disk.open();
    const { end } = appendNow(log, 'a');
    disk.disk.kill();
    const file = disk.path('000000000001.log');
    const bytes = disk.disk.bytesOf(file);
    bytes.write('half a batch', 128 + Number(end));
    disk.disk.put(file, bytes);
    const again = disk.open();
    const place = { file: '000000000001.log', position: end };
    expect(disk.notices).toEqual([
      { kind: 'torn', ...place, bytes: 'half a batch'.length, recordCount: 0 },
      { kind: 'unclosed', ...place, writtenMs: disk.nowMs },
    ]);
    expect(keysIn(again)).toEqual(['a.1']);
  });

  test('a log that was not closed is told with its end and time, and what is cut with what it had', () => {
    const cut = (change: (bytes: Buffer, at: number[]) => Buffer): unknown[] => {
      const disk = new LogDisk();
      const log = disk.open({ sync: 'none' });
      const at: number[] = [];
      for (let i = 0; i < 8; i++) {
        disk.nowMs += 1000;
        at.push(128 + Number(appendNow(log, `${i}`, { count: 3 }).position));
      }
      log.close();
      const file = disk.path('000000000001.log');
      disk.disk.put(file, change(disk.disk.bytesOf(file), at));
      disk.open();
      return disk.notices;
    };
    const place = { file: '000000000001.log', position: expect.any(BigInt) };
    const unclosed = { kind: 'unclosed', ...place, writtenMs: START_MS + 4000 };
    expect(cut((bytes) => bytes)).toEqual([]);
    expect(cut((bytes, at) => bytes.subarray(0, at[4]))).toEqual([unclosed]);
    expect(cut((bytes, at) => bytes.fill(0, at[4]))).toEqual([unclosed]);
    const within = cut((bytes, at) => bytes.subarray(0, at[4]! + 90));
    expect(within).toEqual([{ kind: 'torn', ...place, bytes: expect.any(Number), recordCount: 3 }, unclosed]);
    // Batches that nothing proves to have been synced, behind one that is gone.
    const behind = cut((bytes, at) => bytes.fill(0, at[4], at[5]).fill(0, bytes.length - 64));
    expect(behind).toEqual([{ kind: 'torn', ...place, bytes: expect.any(Number), recordCount: 9 }, unclosed]);
  });

  test('an opening after a crash cuts the old file behind its last batch, which releases allocated space', () => {
    const disk = new LogDisk();
    const log = disk.open();
    appendNow(log, 'a');
    disk.disk.kill();
    const file = disk.path('000000000001.log');
    expect(disk.disk.bytesOf(file).length).toBe(8192);
    disk.open();
    expect(disk.disk.bytesOf(file).length).toBeLessThan(1024);
  });

  test('a segment that the last process has named is durable before the next one is', () => {
    for (let seed = 1; seed <= 60; seed++) {
      const disk = new LogDisk(new FaultyDisk(new Random(seed)));
      const log = disk.open({ segmentBytes: 4096 });
      appendNow(log, 'a', { valueBytes: 3000 });
      // The process ends between the naming and the syncing of the second one.
      disk.disk.fate = ({ kind }) => (kind === 'sync-directory' ? 'cut' : 'ok');
      expect(() => appendNow(log, 'b', { valueBytes: 3000 })).toThrow(PowerCut);
      disk.disk.kill();
      // And in the next, the power goes when the third one has its name.
      let isNamed = false;
      disk.disk.fate = ({ kind }) => {
        if (isNamed) return 'cut';
        isNamed = kind === 'rename';
        return 'ok';
      };
      expect(() => disk.open()).toThrow(PowerCut);
      disk.disk.restart();
      disk.disk.fate = () => 'ok';
      expect(keysIn(disk.open()), `seed ${seed}`).toEqual(['a.1']);
    }
  });

  test('epoch and time go on from those in the newest snapshot', () => {
    const disk = new LogDisk();
    const first = disk.open();
    appendNow(first, 'a');
    disk.nowMs += 3_600_000;
    const start = { position: first.committed, recordsBefore: first.recordsBefore, epoch: 1 };
    const steps = first.snapshots.begin(start).finish(first.durable, 9);
    while (!steps.next().done);
    const { finishedMs } = first.snapshots.sound[0]!;
    disk.disk.kill();
    disk.nowMs -= 3_600_000;
    const second = disk.open();
    expect(second.epoch).toBe(11);
    expect(second.lastTimeMs).toBe(finishedMs);
  });

  test('positions that readers may have seen before a power cut are not given out again', () => {
    const disk = new LogDisk();
    const log = disk.open({ sync: 'none' });
    appendNow(log, 'a');
    log.sync();
    const seen = appendNow(log, 'b').end;
    // The worst: nothing of it is there.
    disk.disk.kill();
    const file = disk.path('000000000001.log');
    const bytes = disk.disk.bytesOf(file);
    disk.disk.put(file, bytes.fill(0, 128 + Number(log.durable)));
    const again = disk.open();
    expect(again.end).toBeGreaterThan(seen);
    appendNow(again, 'c');
    expect(keysIn(again)).toEqual(['a.1', 'c.1']);
    // A reader that was there goes on with what comes now.
    expect([...again.entries(seen)].flatMap(keysOf)).toEqual(['c.1']);
  });

  test('after a clean end the log goes on without a gap', () => {
    const disk = new LogDisk();
    const first = disk.open();
    const { end } = appendNow(first, 'a');
    first.close();
    disk.open();
    const { base, predecessorEnd } = headerOf(disk, '000000000002.log');
    expect([base, predecessorEnd]).toEqual([end, end]);
  });

  test('the last batch of a log that was not closed is written again, since it may not have been synced', () => {
    const disk = new LogDisk();
    const first = disk.open();
    const { position, end } = appendNow(first, 'a');
    disk.disk.kill();
    disk.open();
    const again = headerOf(disk, '000000000002.log');
    expect([again.base, again.predecessorEnd, again.bornEnd]).toEqual([position, position, end]);
  });

  test('time in the log does not go back, whatever the clock does', () => {
    const disk = new LogDisk();
    const first = disk.open();
    appendNow(first, 'a');
    const { lastTimeMs } = first;
    first.close();
    disk.nowMs -= 1_000_000;
    const second = disk.open();
    expect(second.lastTimeMs).toBe(lastTimeMs);
    appendNow(second, 'b');
    const times = [...second.entries(0n)].map(({ timeMs }) => timeMs);
    expect(times).toEqual([...times].sort((a, b) => a - b));
  });

  test('a clock that jumps forth and back makes no sync due, and no entry older than the one before', () => {
    const disk = new LogDisk();
    let wallMs = disk.nowMs;
    const clock = { wallMs: () => wallMs, steadyMs: () => disk.nowMs };
    const log = disk.open({ clock, sync: '10ms' });
    const times: number[] = [];
    for (const jump of [0, 3_600_000, -7_200_000, 3_600_000]) {
      wallMs += jump;
      const { position } = appendNow(log, 'a');
      expect(log.syncDueInMs()).toBe(10);
      times.push(log.entryAt(position)!.timeMs);
      log.sync();
      const start = { position: log.committed, recordsBefore: log.recordsBefore, epoch: log.epoch };
      const steps = log.snapshots.begin(start).finish(log.durable, log.epoch);
      while (!steps.next().done);
    }
    const [first = 0] = times;
    expect(times).toEqual([first, first + 3_600_000, first + 3_600_000, first + 3_600_000]);
    expect(log.lastTimeMs).toBe(first + 3_600_000);
    log.close();
    // A log that is opened with a clock set back keeps to its own last time.
    wallMs = first;
    const again = disk.open({ clock });
    expect(again.lastTimeMs).toBe(first + 3_600_000);
    expect(again.snapshots.sound[0]!.finishedMs).toBe(first + 3_600_000);
  });

  test('time is not before the last segment was made, though what was copied to it is older', () => {
    const disk = new LogDisk();
    const log = disk.open({ sync: 'none' });
    appendNow(log, 'a');
    disk.nowMs += 60_000;
    const madeMs = disk.nowMs;
    let isFailing = true;
    disk.disk.fate = ({ kind }) => {
      if (kind !== 'sync' || !isFailing) return 'ok';
      isFailing = false;
      return 'EIO';
    };
    log.sync();
    expect(segmentsOf(disk)).toHaveLength(2);
    disk.disk.kill();
    disk.nowMs -= 3_600_000;
    expect(disk.open().lastTimeMs).toBe(madeMs);
  });

  test('cursors are taken from the file before, if the last one cannot be read', () => {
    const disk = new LogDisk();
    const first = disk.open();
    const a = appendNow(first, 'a').end;
    first.cursor('x').advance(a);
    first.cursor('x').advance(appendNow(first, 'b').end);
    first.close();
    disk.disk.spoil(disk.path('cursors'), 0);
    const second = disk.open();
    expect(second.cursors().get('x')).toBe(a);
    expect(disk.notices).toEqual([{ kind: 'cursors-old', why: 'cannot be read: EIO' }]);
  });

  test('cursors are taken from the file before, if the last one is damaged', () => {
    const disk = new LogDisk();
    const first = disk.open();
    const a = appendNow(first, 'a').end;
    first.cursor('x').advance(a);
    first.cursor('x').advance(appendNow(first, 'b').end);
    first.close();
    const bytes = disk.disk.bytesOf(disk.path('cursors'));
    bytes[140]! ^= 1;
    disk.disk.put(disk.path('cursors'), bytes);
    const second = disk.open();
    expect(second.cursors().get('x')).toBe(a);
    expect(kindsOf(disk.notices)).toEqual(['cursors-old']);
    second.close();
    disk.disk.put(disk.path('cursors.old'), bytes);
    expect(() => disk.open()).toThrow(withCode('ERR_LOG_CORRUPT', /cursors: .*cairn-cache log repair/));
  });

  test.each(['000000000001.log', '000000000001.snapshot', 'cursors'])(
    'a newer %s is refused by its version',
    (name) => {
      const disk = new LogDisk();
      const first = disk.open();
      first.cursor('x').advance(appendNow(first, 'a').end);
      const start = { position: first.committed, recordsBefore: 1n, epoch: 1 };
      const steps = first.snapshots.begin(start).finish(first.durable, first.epoch);
      while (!steps.next().done);
      first.close();
      const bytes = disk.disk.bytesOf(disk.path(name));
      disk.disk.put(disk.path(name), asNextVersion(bytes));
      const before = disk.disk.image();
      expect(() => disk.open()).toThrow(
        withCode('ERR_LOG_VERSION', new RegExp(`newer.*${name}.*format version ${FORMAT_VERSION + 1}`)),
      );
      expect(disk.disk.image()).toEqual(before);
    },
  );

  test('a log of which only cursors are left is refused', () => {
    const disk = new LogDisk();
    const first = disk.open();
    first.cursor('x').advance(appendNow(first, 'a').end);
    first.close();
    disk.disk.delete(disk.path('000000000001.log'));
    expect(() => disk.open()).toThrow(withCode('ERR_LOG_CORRUPT', /no segments/));
  });

  test('a log that is shorter than a cursor knows is refused', () => {
    const disk = new LogDisk();
    const first = disk.open();
    first.close();
    const image = disk.disk.bytesOf(disk.path('000000000001.log'));
    const second = disk.open();
    second.cursor('x').advance(appendNow(second, 'a').end);
    second.close();
    disk.disk.put(disk.path('000000000001.log'), image);
    disk.disk.delete(disk.path('000000000002.log'));
    expect(() => disk.open()).toThrow(withCode('ERR_LOG_CORRUPT', /cursor "x" is at/));
  });

  test('epochs end where versions cannot hold them', () => {
    const disk = new LogDisk();
    const first = disk.open();
    expect(first.append({ ...batchFor(first, 'a'), epoch: 2 ** 32 - 1 }).kind).toBe('committed');
    expect(() => first.append({ ...batchFor(first, 'a'), epoch: 2 ** 32 })).toThrow(withCode('ERR_INVALID_ARGUMENT'));
    first.close();
    expect(() => disk.open()).toThrow(withCode('ERR_LOG_FULL', /Dump the cache/));
  });

  test('leftovers of what was not finished are removed', () => {
    const disk = new LogDisk();
    disk.open().close();
    for (const name of ['000000000002.log.tmp', 'cursors.tmp', '000000000009.snapshot.tmp', 'photo.tmp']) {
      disk.disk.put(disk.path(name), Buffer.from('half'));
    }
    disk.open().close();
    // Files that the log did not make stay.
    expect(disk.names().filter((name) => name.endsWith('.tmp'))).toEqual(['photo.tmp']);
  });
});

/** The same file, as a version to come might begin it. */
function asNextVersion(bytes: Buffer): Buffer {
  bytes.writeUInt32LE(FORMAT_VERSION + 1, 8);
  bytes.writeUInt32LE(crc32(bytes.subarray(0, 124)), 124);
  return bytes;
}

describe('errors of the system', () => {
  test.each(['EDQUOT', 'ENOSPC'] as const)('%s on a write is a disk without room', (error) => {
    const disk = new LogDisk();
    const log = disk.open();
    appendNow(log, 'a');
    disk.disk.fate = ({ kind }) => (kind === 'write' || kind === 'allocate' ? error : 'ok');
    const batch = batchFor(log, 'b', { valueBytes: 9000 });
    expect(log.append(batch)).toEqual({ kind: 'full', reason: 'disk' });
    disk.disk.fate = () => 'ok';
    expect(log.append(batch)).toMatchObject({ kind: 'committed' });
    expect(keysIn(log)).toEqual(['a.1', 'b.1']);
  });

  test.each(['EIO', 'ESTALE', 'EUCLEAN', 'EBADMSG', 'EMFILE', 'EDQUOT'] as const)(
    '%s on any call of an open log is an answer or an error of ours, and the log goes on after it',
    (error) => {
      for (const kind of ['open', 'write', 'allocate', 'truncate', 'sync', 'rename', 'sync-directory'] as const) {
        const disk = new LogDisk();
        const log = disk.open();
        disk.disk.fate = (call) => (call.kind === kind ? error : 'ok');
        const names = Array.from({ length: 6 }, (_, i) => `${i}`);
        const batches = names.map((name) => {
          const batch = batchFor(log, name, { valueBytes: 3000 });
          const result = log.append(batch);
          if (result.kind === 'unknown') expect(result.cause).toEqual(withCode('ERR_LOG_IO', new RegExp(error)));
          else expect(['committed', 'full']).toContain(result.kind);
          return { batch, result };
        });
        for (const action of [() => log.sync(), () => log.cursor('c').advance(log.committed)]) {
          try {
            action();
          } catch (thrown) {
            expect(thrown).toEqual(withCode('ERR_LOG_IO', new RegExp(error)));
          }
        }
        for (const notice of disk.notices) {
          if (notice.kind !== 'segment-failed' && notice.kind !== 'cleanup-failed') continue;
          const { code, message } = notice.cause as NodeJS.ErrnoException;
          expect([code, message]).toEqual([error, expect.stringMatching(new RegExp(`^${error}: `))]);
        }
        disk.disk.fate = () => 'ok';
        appendNow(log, 'last');
        const found = keysIn(log);
        expect(found.at(-1)).toBe('last.1');
        for (const [i, { result }] of batches.entries()) {
          if (result.kind === 'committed') expect(found).toContain(`${i}.1`);
          if (result.kind === 'full') expect(found).not.toContain(`${i}.1`);
        }
        log.close();
        expect(keysIn(disk.open())).toEqual(found);
      }
    },
  );

  test.each(['EIO', 'ESTALE', 'EUCLEAN', 'EBADMSG', 'EMFILE'] as const)('%s on opening is ERR_LOG_IO', (error) => {
    for (const kind of ['open', 'read', 'list', 'sync-directory'] as const) {
      const disk = new LogDisk();
      appendNow(disk.open(), 'a');
      disk.disk.kill();
      disk.disk.fate = (call) => (call.kind === kind ? error : 'ok');
      expect(() => disk.open()).toThrow(withCode('ERR_LOG_IO', new RegExp(error)));
    }
  });
});
