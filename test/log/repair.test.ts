// What `cairn log repair` makes of damaged logs: they open, everything that is sound is still there, what is lost is
// said, and the files as they were are kept. Random damage of every kind is put on random logs as well.

import { describe, expect, test } from 'vitest';
import { describeRepair, type EmbeddedLog, recover, repair, survey } from '../../src/log/index.ts';
import { withCode } from '../support/errors.ts';
import { FaultyDisk, PowerCut } from '../support/faulty-files.ts';
import { appendNow, DIRECTORY, keysOf, LogDisk } from '../support/logs.ts';
import { Random } from '../support/random.ts';
import { makeRecord } from '../support/records.ts';

/** Rounds of the random test. CAIRN_TEST_FACTOR=20 makes it a long one. */
const ROUNDS: number = 300 * Number(process.env['CAIRN_TEST_FACTOR'] ?? 1);

const segment = (number: number): string => `${String(number).padStart(12, '0')}.log`;

/** A closed log of several segments, with batches 0, 1, 2, ... of two records each. */
function makeLog(count = 30, body?: (log: EmbeddedLog, i: number) => void): LogDisk {
  const disk = new LogDisk();
  const log = disk.open();
  for (let i = 0; i < count; i++) {
    appendNow(log, `${i}`, { count: 2, valueBytes: 500 });
    body?.(log, i);
  }
  log.close();
  return disk;
}

function snapshotOf(log: EmbeddedLog, ...chunks: string[]): void {
  const writer = log.snapshots.begin({ position: log.committed, recordsBefore: log.recordsBefore, epoch: log.epoch });
  for (const key of chunks) writer.add(makeRecord({ kind: 'set', key, value: 'v'.repeat(100) }), 1);
  const steps = writer.finish(log.durable, log.epoch);
  while (!steps.next().done);
  log.reclaim();
}

/** The same where the log has little room left: nothing is kept that the snapshot has. */
function snapshotOnly(log: EmbeddedLog, ...chunks: string[]): void {
  snapshotOf(log, ...chunks);
  log.truncate(log.snapshots.newestVerified!.position);
}

/** A log that has seen crashes and errors of the disk as well. */
function eventfulLog(random: Random): LogDisk {
  const disk = new LogDisk();
  let log = disk.open();
  const end = (): void => {
    if (random.below(2) === 0) log.close();
    else disk.disk.kill();
  };
  for (let i = 0, count = 5 + random.below(40); i < count; i++) {
    appendNow(log, `${i}`, { count: 2, valueBytes: 500 });
    const event = random.below(60);
    if (event < 4) snapshotOf(log, `s${i}`, `t${i}`);
    else if (event < 10) log.cursor('x').advance(log.committed);
    else if (event < 15) {
      end();
      log = disk.open({ sync: random.pick(['always', 'none']) });
    } else if (event < 20) {
      // Twice: the log is synced by being written again.
      let failing = 1 + random.below(2);
      disk.disk.fate = ({ kind }) => (kind === 'sync' && failing-- > 0 ? 'EIO' : 'ok');
      try {
        log.sync();
      } catch (error) {
        expect(error).toMatchObject({ code: 'ERR_LOG_IO' });
      }
      disk.disk.fate = () => 'ok';
    }
  }
  end();
  return disk;
}

function repaired(disk: LogDisk, isDryRun = false) {
  return repair(DIRECTORY, {
    files: disk.disk.files(),
    lockDirectory: () => ({ release() {} }),
    random: () => disk.random(),
    wallMs: () => disk.nowMs,
    isDryRun,
  });
}

const damageIn = (disk: LogDisk) =>
  survey(DIRECTORY, { files: disk.disk.files(), isDeep: true }).problems.filter(({ kind }) => kind !== 'note');

/** What recovery applies: keys of the snapshot, batches of the log by number, and how many records it misses. */
function contentsOf(disk: LogDisk) {
  const log = disk.open();
  const snapshot: string[] = [];
  const batches: number[] = [];
  const { lost } = recover({
    log,
    apply(records, { source }) {
      const key = keysOf({ ...emptyEntry, recordCount: source === 'log' ? 2 : 1, records })[0]!;
      if (source === 'snapshot') snapshot.push(key);
      else batches.push(Number.parseInt(key, 10));
    },
  });
  appendNow(log, 'afterwards');
  log.close();
  return { snapshot, batches, lost };
}

const emptyEntry = {
  kind: 'records' as const,
  position: 0n,
  end: 0n,
  epoch: 0,
  formatVersion: 3,
  writer: 0n,
  recordsBefore: 0n,
  timeMs: 0,
};

const numbers = (count: number, ...without: number[]): number[] =>
  Array.from({ length: count }, (_, i) => i).filter((i) => !without.includes(i));

function change(disk: LogDisk, name: string, edit: (bytes: Buffer) => Buffer | undefined): void {
  const bytes = disk.disk.bytesOf(disk.path(name));
  disk.disk.put(disk.path(name), edit(bytes) ?? bytes);
}

function flip(disk: LogDisk, name: string, offset: number): void {
  change(disk, name, (bytes) => {
    bytes[offset]! ^= 1;
    return bytes;
  });
}

/** Where the batch of a number lies: its segment's name and the offset there. */
function placeOf(disk: LogDisk, number: number): { name: string; offset: number; bytes: number } {
  const log = disk.open();
  for (const entry of log.entries(0n)) {
    if (entry.kind !== 'records' || keysOf(entry)[0] !== `${number}.1`) continue;
    for (let i = disk.names().length; i > 0; i--) {
      const name = segment(i);
      if (!disk.names().includes(name)) continue;
      const base = disk.disk.bytesOf(disk.path(name)).readBigUInt64LE(32);
      if (base <= entry.position) {
        const offset = 128 + Number(entry.position - base);
        return { name, offset, bytes: Number(entry.end - entry.position) };
      }
    }
  }
  throw new Error(`There is no batch ${number}`);
}

describe('repair', () => {
  test('of a sound log changes nothing', () => {
    const disk = makeLog();
    const before = disk.disk.image();
    const result = repaired(disk);
    expect(result).toMatchObject({ actions: [], lostRecords: 0, backup: undefined });
    expect(disk.disk.image()).toEqual(before);
  });

  test('puts a gap over a damaged batch, keeps all others, and tells readers how many records are missing', () => {
    for (const where of [0, 20, 70]) {
      const disk = makeLog();
      const { name, offset } = placeOf(disk, 3);
      flip(disk, name, offset + where);
      const { lostRecords, after } = repaired(disk);
      expect(lostRecords).toBe(2);
      expect(after.problems.filter(({ kind }) => kind === 'damage')).toEqual([]);
      expect(contentsOf(disk)).toEqual({ snapshot: [], batches: numbers(30, 3), lost: 2 });
    }
  });

  test('keeps what an earlier process wrote behind a damaged batch, where it was copied', () => {
    const disk = new LogDisk();
    const first = disk.open({ sync: 'none' });
    for (let i = 0; i < 3; i++) appendNow(first, `${i}`, { count: 2, valueBytes: 500 });
    disk.disk.kill();
    disk.open().close();
    const bytes = disk.disk.bytesOf(disk.path(segment(2)));
    bytes[300]! ^= 1;
    disk.disk.put(disk.path(segment(2)), bytes);
    expect(repaired(disk).lostRecords).toBe(2);
    expect(contentsOf(disk)).toEqual({ snapshot: [], batches: [1, 2], lost: 2 });
  });

  test('puts one gap over damaged batches that follow one another', () => {
    const disk = makeLog();
    const { name, offset, bytes } = placeOf(disk, 3);
    flip(disk, name, offset);
    flip(disk, name, offset + bytes + 100);
    expect(repaired(disk).lostRecords).toBe(4);
    expect(contentsOf(disk)).toEqual({ snapshot: [], batches: numbers(30, 3, 4), lost: 4 });
  });

  test('replaces the end of a segment that was cut off', () => {
    const disk = makeLog();
    const { name, offset } = placeOf(disk, 4);
    change(disk, name, (bytes) => bytes.subarray(0, offset + 10));
    repaired(disk);
    const { batches, lost } = contentsOf(disk);
    expect(batches).toContain(3);
    expect(batches).not.toContain(4);
    expect(batches).toContain(10);
    expect(batches.length + lost / 2).toBe(30);
  });

  test('makes a damaged header anew, and loses nothing by it', () => {
    const disk = makeLog();
    for (const number of [1, 2, 3]) {
      flip(disk, segment(number), 40);
      expect(repaired(disk).lostRecords).toBe(0);
      expect(damageIn(disk)).toEqual([]);
    }
    expect(contentsOf(disk)).toEqual({ snapshot: [], batches: numbers(30), lost: 0 });
  });

  test('goes on without a segment that is missing', () => {
    const disk = makeLog();
    disk.disk.delete(disk.path(segment(2)));
    const { lostRecords } = repaired(disk);
    const { batches, lost } = contentsOf(disk);
    expect(lost).toBe(lostRecords);
    expect(batches.length + lost / 2).toBe(30);
    expect(batches[0]).toBe(0);
    expect(batches.at(-1)).toBe(29);
  });

  test('goes on without several that are missing', () => {
    const disk = makeLog(60);
    for (const number of [2, 3, 5]) disk.disk.delete(disk.path(segment(number)));
    repaired(disk);
    const { batches, lost } = contentsOf(disk);
    expect(batches.length + lost / 2).toBe(60);
  });

  test('goes on behind an end that is missing, at positions and epochs that were never given out', () => {
    const disk = makeLog();
    const ends = disk.open();
    const { end, epoch } = ends;
    ends.cursor('feed').advance(ends.committed);
    ends.close();
    const last = disk
      .names()
      .filter((name) => name.endsWith('.log'))
      .at(-1)!;
    disk.disk.delete(disk.path(last));
    repaired(disk);
    const log = disk.open();
    expect(log.end).toBeGreaterThan(end);
    expect(log.epoch).toBeGreaterThan(epoch);
    expect([...log.entries(log.cursors().get('feed')!)].map(({ kind }) => kind)).toContain('lost');
  });

  test('takes a doubled segment away', () => {
    const disk = makeLog();
    const copies = disk.names().filter((name) => name.endsWith('.log'));
    disk.disk.put(disk.path(segment(copies.length + 1)), disk.disk.bytesOf(disk.path(segment(2))));
    expect(repaired(disk).lostRecords).toBe(0);
    expect(contentsOf(disk)).toEqual({ snapshot: [], batches: numbers(30), lost: 0 });
  });

  test('takes away a copy of a later segment that has lost its header as well', () => {
    const disk = makeLog(60);
    change(disk, segment(2), () => disk.disk.bytesOf(disk.path(segment(5))).fill(0, 0, 128));
    const { lostRecords } = repaired(disk);
    const { batches, lost } = contentsOf(disk);
    expect(lost).toBe(lostRecords);
    expect(lost).toBeGreaterThan(0);
    expect(batches.length + lost / 2).toBe(60);
  });

  test('says what is lost of a segment whose beginning is damaged with its header', () => {
    const disk = makeLog();
    const { name, offset } = placeOf(disk, 8);
    expect(name).toBe(segment(2));
    change(disk, name, (bytes) => bytes.fill(1, 40, offset));
    const { lostRecords, before } = repaired(disk);
    expect(before.problems.map(({ text }) => text)).toContain('the header has the wrong checksum');
    const { batches, lost } = contentsOf(disk);
    expect(lost).toBe(lostRecords);
    expect(lost).toBeGreaterThan(0);
    expect(batches.length + lost / 2).toBe(30);
    expect(batches).toContain(8);
  });

  test('does not read twice what was written again, where the header that says so is damaged', () => {
    const disk = new LogDisk();
    const log = disk.open({ sync: 'none' });
    for (const name of ['0', '1']) appendNow(log, name, { count: 2 });
    log.sync();
    for (const name of ['2', '3']) appendNow(log, name, { count: 2 });
    // The sync fails, and the old segment can be neither marked nor cut: 2 and 3 are in both.
    disk.disk.writtenOfFailed = () => 0;
    let syncs = 0;
    disk.disk.fate = ({ kind, path }) => {
      // By whichever name it was opened.
      const isOld = path.startsWith(disk.path(segment(1)));
      return (kind === 'sync' && syncs++ === 0) || (isOld && kind === 'write') ? 'EIO' : 'ok';
    };
    log.sync();
    disk.disk.fate = () => 'ok';
    appendNow(log, '4', { count: 2 });
    log.close();
    for (const number of [1, 2]) expect(disk.disk.bytesOf(disk.path(segment(number))).includes('3.1')).toBe(true);
    flip(disk, segment(2), 40);
    expect(repaired(disk).lostRecords).toBe(0);
    expect(contentsOf(disk)).toEqual({ snapshot: [], batches: numbers(5), lost: 0 });
  });

  test('takes damaged cursors away', () => {
    const disk = makeLog(5, (log) => log.cursor('x').advance(log.committed));
    for (const name of ['cursors', 'cursors.old']) flip(disk, name, 130);
    expect(() => disk.open()).toThrow(withCode('ERR_LOG_CORRUPT'));
    repaired(disk);
    expect(disk.open().cursors().size).toBe(0);
  });

  test('keeps the sound chunks of a damaged snapshot, if there is no other', () => {
    for (const spoilt of [['b'], ['a', 'c'], ['d']]) {
      const disk = makeLog(30, (log, i) => {
        if (i === 20) snapshotOnly(log, 'a', 'b', 'c', 'd');
      });
      const name = '000000000001.snapshot';
      change(disk, name, (bytes) => {
        // The four chunks lie behind a header of 128 bytes, the footer behind them.
        const chunk = (bytes.length - 128 - 80) / 4;
        for (const key of spoilt) bytes[128 + 'abcd'.indexOf(key) * chunk + chunk - 20]! ^= 1;
        return bytes;
      });
      expect(() => contentsOf(disk)).toThrow(withCode('ERR_LOG_CORRUPT'));
      const options = { files: disk.disk.files(), lockDirectory: () => ({ release() {} }), random: () => 1n };
      const before = disk.disk.image();
      const dry = repair(DIRECTORY, { ...options, isDryRun: true });
      expect(disk.disk.image()).toEqual(before);
      const done = repaired(disk);
      expect([dry.lostEntries, done.lostEntries]).toEqual([spoilt.length, spoilt.length]);
      for (const lines of [[...describeRepair(dry)], [...describeRepair(done)]]) {
        expect(lines.join('\n')).toMatch(new RegExp(`At least ${spoilt.length} entr.* lost`));
        expect(lines.join('\n')).not.toContain('should be there is sound');
      }
      const log = disk.open();
      expect(recover({ log, apply() {} }).lost).toBe(spoilt.length);
      log.close();
      const { snapshot, batches } = contentsOf(disk);
      expect(snapshot).toEqual(['a', 'b', 'c', 'd'].filter((key) => !spoilt.includes(key)));
      expect(batches).toEqual(numbers(30).slice(21));
    }
  });

  test('counts the entries that a damaged snapshot loses: all with its header, none with its footer', () => {
    const of = (change_: (bytes: Buffer) => Buffer): number => {
      const disk = makeLog(30, (log, i) => {
        if (i === 20) snapshotOnly(log, 'a', 'b', 'c', 'd');
      });
      change(disk, '000000000001.snapshot', change_);
      return repaired(disk).lostEntries;
    };
    const flipAt = (offset: number) => (bytes: Buffer) => bytes.fill(bytes.at(offset)! ^ 1, bytes.length + offset);
    expect(of((bytes) => bytes.fill(bytes[20]! ^ 1, 20, 21))).toBe(4);
    expect(of(flipAt(-1))).toBe(0);
    expect(of((bytes) => bytes.subarray(0, bytes.length - 81))).toBe(1);
  });

  test('goes on with what the log has, if there is no snapshot of what was before', () => {
    const disk = makeLog(30, (log, i) => {
      if (i === 20) snapshotOnly(log, 'a');
    });
    disk.disk.delete(disk.path('000000000001.snapshot'));
    const before = survey(DIRECTORY, { files: disk.disk.files(), isDeep: false });
    expect(before.problems.map(({ text }) => text)).toContainEqual(expect.stringContaining('no snapshot'));
    // The number of lost entries is unknown: at least one.
    expect(repaired(disk).lostEntries).toBe(1);
    const { snapshot, batches } = contentsOf(disk);
    expect(snapshot).toEqual([]);
    expect(batches).toEqual(numbers(30).slice(30 - batches.length));
    expect(batches.length).toBeGreaterThan(0);
  });

  test('makes a log of a snapshot alone', () => {
    const disk = makeLog(3, (log) => snapshotOf(log, 'a', 'b'));
    disk.disk.delete(disk.path(segment(1)));
    repaired(disk);
    expect(contentsOf(disk)).toMatchObject({ snapshot: ['a', 'b'], batches: [] });
  });

  test('only says what it would do, if it is asked to', () => {
    const disk = makeLog();
    flip(disk, segment(1), 300);
    const before = disk.disk.image();
    const { actions, backup } = repaired(disk, true);
    expect(actions).toHaveLength(1);
    expect(backup).toBeUndefined();
    expect(disk.disk.image()).toEqual(before);
  });

  test('keeps the files as they were', () => {
    const disk = makeLog();
    flip(disk, segment(1), 300);
    const damaged = disk.disk.bytesOf(disk.path(segment(1)));
    const { backup } = repaired(disk);
    expect(backup).toBe(`${DIRECTORY}/before-repair-1`);
    expect(disk.disk.bytesOf(`${backup}/${segment(1)}`)).toEqual(damaged);
  });

  test('does not take memory for the log', () => {
    const disk = new LogDisk();
    const log = disk.open({ segmentBytes: 4 * 2 ** 20 });
    for (let i = 0; i < 90; i++) appendNow(log, `${i}`, { count: 2, valueBytes: 50_000 });
    log.close();
    flip(disk, segment(1), 40);
    flip(disk, segment(2), 200);
    let largest = 0;
    const files = disk.disk.files();
    const { after } = repair(DIRECTORY, {
      lockDirectory: () => ({ release() {} }),
      random: () => disk.random(),
      files: {
        ...files,
        open(path, mode) {
          const file = files.open(path, mode);
          const count = (bytes: number): void => {
            largest = Math.max(largest, bytes);
          };
          return {
            ...file,
            read(target, offset) {
              count(target.length);
              return file.read(target, offset);
            },
            write(pieces, offset) {
              for (const { length } of pieces) count(length);
              file.write(pieces, offset);
            },
          };
        },
      },
    });
    expect(after.problems.filter(({ kind }) => kind === 'damage')).toEqual([]);
    const { batches, lost } = contentsOf(disk);
    expect([batches.length, lost]).toEqual([89, 2]);
    expect(largest).toBeLessThanOrEqual(2 ** 20);
  });

  test('takes what cannot be read for damage, and puts it where it can be read', () => {
    const { name, offset, bytes } = placeOf(makeLog(), 3);
    // In a batch, in a header, in the snapshot, in the cursors, and in the room ahead of a log that was not closed.
    const places: [string, number, number][] = [
      [name, offset + 600, 1],
      [name, offset - 100, 2],
      [segment(2), 0, 1],
      ['000000000001.snapshot', 0, 0],
      ['cursors', 0, 0],
      [segment(5), 2048, 0],
    ];
    expect(bytes).toBeGreaterThan(1024);
    for (const [file, at, batchesAtMost] of places) {
      const disk = makeLog(20, (log, i) => {
        if (i === 0) log.cursor('archive').advance(0n);
        log.cursor('x').advance(log.committed);
      });
      const log = disk.open({ segmentBytes: 65_536 });
      log.cursor('x').advance(log.committed);
      snapshotOf(log, 'a');
      appendNow(log, '20', { count: 2, valueBytes: 500 });
      disk.disk.kill();
      disk.disk.spoil(disk.path(file), at);
      const found = survey(DIRECTORY, { files: disk.disk.files(), isDeep: true });
      const unreadable = {
        kind: 'damage',
        file,
        offset: expect.any(Number),
        text: expect.stringMatching(/cannot be read/),
      };
      expect(found.problems).toContainEqual(unreadable);
      const { after, lostRecords } = repaired(disk);
      expect(after.problems.filter(({ kind }) => kind === 'damage')).toEqual([]);
      expect(lostRecords).toBeLessThanOrEqual(2 * 4 * batchesAtMost);
      contentsOf(disk);
    }
  });

  test('is refused while the log is open, and for a newer format', () => {
    const disk = makeLog();
    const lockDirectory = () => {
      throw Object.assign(new Error('in use'), { code: 'ERR_LOG_LOCKED' });
    };
    expect(() => repair(DIRECTORY, { files: disk.disk.files(), lockDirectory, random: () => 1n })).toThrow(
      withCode('ERR_LOG_LOCKED'),
    );
  });

  test('that is interrupted can be done again', () => {
    const made = makeLog();
    flip(made, segment(1), 300);
    flip(made, segment(2), 40);
    made.disk.delete(made.path(segment(3)));
    const image = made.disk.image();
    const whole = new LogDisk(FaultyDisk.of(image, new Random(1)));
    repaired(whole);
    const expected = contentsOf(whole);
    for (let cut = 0, isOver = false; !isOver; cut++) {
      const disk = new LogDisk(FaultyDisk.of(image, new Random(cut)));
      disk.disk.fate = ({ index }) => (index === cut ? 'cut' : 'ok');
      try {
        repaired(disk);
        isOver = true;
      } catch (error) {
        if (!(error instanceof PowerCut)) throw error;
      }
      disk.disk.restart();
      disk.disk.fate = () => 'ok';
      repaired(disk);
      expect(contentsOf(disk)).toEqual(expected);
    }
  });

  test('makes any damage one that opens, invents nothing and keeps the order', { timeout: 600_000 }, () => {
    const random = new Random();
    for (let round = 0; round < ROUNDS; round++) {
      const disk = eventfulLog(random);
      for (let hits = 1 + random.below(4); hits > 0; hits--) {
        if (disk.names().length === 0) break;
        const name = random.pick(disk.names());
        const path = disk.path(name);
        const bytes = disk.disk.bytesOf(path);
        const kind = random.below(6);
        if (kind === 0) disk.disk.delete(path);
        else if (kind === 1) disk.disk.put(path, bytes.subarray(0, random.below(bytes.length + 1)));
        else if (kind === 2) disk.disk.put(disk.path(random.pick(disk.names())), bytes);
        else if (kind === 3) disk.disk.put(disk.path(segment(1 + random.below(9))), bytes);
        else if (bytes.length > 0) {
          const start = random.below(bytes.length);
          const end = start + 1 + random.below(kind === 4 ? 1 : 2000);
          bytes.fill(random.below(256), start, Math.min(end, bytes.length));
          disk.disk.put(path, bytes);
        }
      }
      const context = `round ${round}, CAIRN_SEED=${random.seed}`;
      try {
        const { after } = repaired(disk);
        expect(after.problems.filter(({ kind }) => kind !== 'note')).toEqual([]);
        const { batches } = contentsOf(disk);
        expect(batches).toEqual([...new Set(batches)].sort((a, b) => a - b));
      } catch (error) {
        throw new Error(`Failed in ${context}`, { cause: error });
      }
    }
  });
});
