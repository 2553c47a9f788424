// Files that are not what was written. A small log is made once; then every bit of it is flipped, each file is cut at
// every byte, segments are taken away and doubled. What opens afterwards has exactly the entries that were there;
// everything else is refused with the place and the command that repairs. Only behind what was proved to be synced, at
// the very end of a log that was not closed, bytes may be missing: a crash could have left the same.

import { crc32 } from 'node:zlib';
import { describe, expect, test } from 'vitest';
import { type EmbeddedLog, recover } from '../../src/log/index.ts';
import { withCode } from '../support/errors.ts';
import { FaultyDisk } from '../support/faulty-files.ts';
import { appendNow, LogDisk } from '../support/logs.ts';
import { Random } from '../support/random.ts';
import { makeRecord } from '../support/records.ts';

type Image = Map<string, Buffer>;

/** Three segments, a snapshot and cursors. */
function makeLog({ isClosed }: { isClosed: boolean }): { image: Image; entries: string[] } {
  const disk = new LogDisk();
  let log: EmbeddedLog | undefined;
  for (let i = 0; i < 3; i++) {
    log?.close();
    log = disk.open();
    appendNow(log, `${i}.a`, { valueBytes: 4 });
    appendNow(log, `${i}.b`, { count: 2, valueBytes: 1 });
  }
  log!.cursor('feed').advance(log!.committed);
  const start = { position: 0n, recordsBefore: 0n, epoch: 1 };
  const writer = log!.snapshots.begin(start);
  writer.add(makeRecord({ kind: 'set', key: 'snapshot.1', value: 'x' }), 1);
  writer.add(makeRecord({ kind: 'set', key: 'snapshot.2', value: 'y' }), 1);
  const steps = writer.finish(log!.durable, log!.epoch);
  while (!steps.next().done);
  const entries = entriesOf(log!);
  if (isClosed) log!.close();
  return { image: disk.disk.image(), entries };
}

/** Everything that readers get of a log. */
function entriesOf(log: EmbeddedLog): string[] {
  return [...log.entries(log.oldestReadable)]
    .filter(({ epoch }) => epoch <= 6)
    .map(({ kind, position, end, epoch, writer, recordsBefore, recordCount, timeMs, records }) =>
      [kind, position, end, epoch, writer, recordsBefore, recordCount, timeMs, records.toString('hex')].join(' '),
    );
}

/** What is read of an image: all entries, or the code of the error. */
function outcomeOf(image: Image): string[] | { code: string; message: string } {
  const disk = new LogDisk(FaultyDisk.of(image, new Random(1)));
  try {
    const log = disk.open();
    return entriesOf(log);
  } catch (error) {
    if (error instanceof Error && 'code' in error) return { code: String(error.code), message: error.message };
    throw error;
  }
}

function changed(image: Image, path: string, change: (bytes: Buffer) => Buffer): Image {
  return new Map(image).set(path, change(Buffer.from(image.get(path)!)));
}

const segments = ['/data/log/000000000001.log', '/data/log/000000000002.log', '/data/log/000000000003.log'];

describe('a log that was closed', () => {
  const { image, entries } = makeLog({ isClosed: true });

  test('is read whole', () => {
    expect(entries).toHaveLength(9);
    expect(outcomeOf(image)).toEqual(entries);
  });

  test.each(segments)('with any bit of %s flipped is refused, or read whole', (path) => {
    const bits = image.get(path)!.length * 8;
    let refused = 0;
    for (let bit = 0; bit < bits; bit++) {
      const outcome = outcomeOf(
        changed(image, path, (bytes) => {
          bytes[bit >> 3]! ^= 1 << (bit & 7);
          return bytes;
        }),
      );
      if (Array.isArray(outcome)) {
        if (outcome.join() !== entries.join()) expect.fail(`bit ${bit} changes what is read: ${outcome.join('\n')}`);
        continue;
      }
      refused++;
      if (outcome.code !== 'ERR_LOG_CORRUPT' || !outcome.message.includes('npx cairn-cache log repair /data/log')) {
        expect.fail(`bit ${bit}: ${outcome.code} ${outcome.message}`);
      }
    }
    // All but the mark at the end, which says nothing that the next segment does not say.
    expect(refused).toBeGreaterThan(bits - 64 * 8 - 1);
  });

  test.each(segments.slice(0, 2))('with %s cut anywhere is refused', (path) => {
    const size = image.get(path)!.length;
    // The mark at the end may be missing.
    for (let bytes = 0; bytes < size - 64; bytes++) {
      const outcome = outcomeOf(changed(image, path, (whole) => whole.subarray(0, bytes)));
      expect(outcome, `cut after ${bytes} bytes`).toMatchObject({ code: 'ERR_LOG_CORRUPT' });
    }
  });

  test('with its last segment cut anywhere is refused, for a cursor knows where it ended', () => {
    const size = image.get(segments[2]!)!.length;
    for (let bytes = 0; bytes < size - 64; bytes++) {
      const outcome = outcomeOf(changed(image, segments[2]!, (whole) => whole.subarray(0, bytes)));
      expect(outcome, `cut after ${bytes} bytes`).toMatchObject({ code: 'ERR_LOG_CORRUPT' });
    }
  });

  test('without one of its segments is refused', () => {
    for (const path of segments.slice(1)) {
      const without = new Map(image);
      without.delete(path);
      expect(outcomeOf(without), path).toMatchObject({
        code: 'ERR_LOG_CORRUPT',
        message: expect.stringMatching(/missing/),
      });
    }
    // The first segment may have been truncated: only recovery knows whether a snapshot has its entries.
    const without = new Map(image);
    without.delete(segments[0]!);
    const log = new LogDisk(FaultyDisk.of(without, new Random(1))).open();
    expect(() => recover({ log, apply() {} })).toThrow(withCode('ERR_LOG_CORRUPT', /begins at position/));
  });

  test('without any segment is refused, whatever is left of a snapshot, or if only a table of cursors is', () => {
    const disk = new LogDisk();
    const log = disk.open();
    appendNow(log, 'a');
    const writer = log.snapshots.begin({ position: log.committed, recordsBefore: 1n, epoch: log.epoch });
    for (const steps = writer.finish(log.durable, log.epoch); !steps.next().done; );
    log.close();
    const snapshot = disk.path('000000000001.snapshot');
    const only = new Map([[snapshot, disk.disk.bytesOf(snapshot)]]);
    for (let offset = 0; offset < only.get(snapshot)!.length; offset++) {
      const outcome = outcomeOf(changed(only, snapshot, (bytes) => bytes.fill(bytes[offset]! ^ 1, offset, offset + 1)));
      // What seems to be of a newer version is refused as such.
      expect(outcome, `byte ${offset}`).toMatchObject({ code: expect.stringMatching(/ERR_LOG_(CORRUPT|VERSION)/) });
    }
    const again = new LogDisk();
    const empty = again.open();
    empty.cursor('x').advance(empty.committed);
    empty.cursor('x').drop();
    const cursors = new Map([[again.path('cursors'), again.disk.bytesOf(again.path('cursors'))]]);
    expect(outcomeOf(cursors)).toMatchObject({
      code: 'ERR_LOG_CORRUPT',
      message: expect.stringMatching(/no segments/),
    });
  });

  test('without its last segment is refused, even without cursors and snapshot', () => {
    const without = new Map(image);
    for (const path of [segments[2]!, '/data/log/cursors', '/data/log/000000000001.snapshot']) without.delete(path);
    expect(outcomeOf(without)).toMatchObject({
      code: 'ERR_LOG_CORRUPT',
      message: expect.stringMatching(/segment behind this one is missing/),
    });
  });

  test('with a batch of impossible positions is refused, although its checksum is right', () => {
    // Its durable end lies within it.
    const offset = 128 + 64;
    const spoilt = changed(image, segments[2]!, (bytes) => {
      bytes.writeBigUInt64LE(bytes.readBigUInt64LE(offset + 8) + 8n, offset + 16);
      bytes.writeUInt32LE(crc32(bytes.subarray(offset, offset + 60)), offset + 60);
      return bytes;
    });
    expect(outcomeOf(spoilt)).toMatchObject({
      code: 'ERR_LOG_CORRUPT',
      message: expect.stringMatching(/what cannot be of where it lies/),
    });
  });

  test('with a segment that contradicts the one before it is refused', () => {
    const [before, base] = [segments[1]!, segments[2]!].map((path) => image.get(path)!.readBigUInt64LE(32));
    for (const end of [before! - 8n, base! + 8n, base! + 2n ** 40n]) {
      const spoilt = changed(image, segments[2]!, (bytes) => {
        bytes.writeBigUInt64LE(end, 40);
        bytes.writeUInt32LE(crc32(bytes.subarray(0, 124)), 124);
        return bytes;
      });
      expect(outcomeOf(spoilt), `${end}`).toMatchObject({
        code: 'ERR_LOG_CORRUPT',
        message: expect.stringMatching(/which cannot be/),
      });
    }
  });

  test('with one of its segments doubled under another number is refused', () => {
    for (const path of segments) {
      for (const name of ['000000000004.log', '000000000002.log', '000000000001.log']) {
        const target = `/data/log/${name}`;
        if (target === path) continue;
        const outcome = outcomeOf(new Map(image).set(target, image.get(path)!));
        expect(outcome, `${path} as ${name}`).toMatchObject({
          code: 'ERR_LOG_CORRUPT',
          message: expect.stringMatching(/file of segment/),
        });
      }
    }
  });

  test('with a segment of another log is refused', () => {
    const other = new LogDisk();
    other.random();
    for (let i = 0; i < 4; i++) {
      const log = other.open();
      appendNow(log, 'x', { valueBytes: 4 });
      log.close();
    }
    for (const name of ['000000000002.log', '000000000004.log']) {
      const outcome = outcomeOf(new Map(image).set(`/data/log/${name}`, other.disk.bytesOf(other.path(name))));
      expect(outcome, name).toMatchObject({ code: 'ERR_LOG_CORRUPT', message: expect.stringMatching(/another log/) });
    }
  });

  test('with cursors or a snapshot of another log is refused', () => {
    const other = new LogDisk();
    other.random();
    const log = other.open();
    log.cursor('feed').advance(log.committed);
    const steps = log.snapshots.begin({ position: 0n, recordsBefore: 0n, epoch: 1 }).finish(log.durable, 1);
    while (!steps.next().done);
    for (const name of ['cursors', '000000000001.snapshot']) {
      const outcome = outcomeOf(new Map(image).set(`/data/log/${name}`, other.disk.bytesOf(other.path(name))));
      expect(outcome, name).toMatchObject({
        code: 'ERR_LOG_CORRUPT',
        message: expect.stringMatching(`${name}: it belongs to another log`),
      });
    }
  });

  test('with any bit of its only cursors file flipped is refused', () => {
    const path = '/data/log/cursors';
    for (let bit = 0; bit < image.get(path)!.length * 8; bit++) {
      const outcome = outcomeOf(
        changed(image, path, (bytes) => {
          bytes[bit >> 3]! ^= 1 << (bit & 7);
          return bytes;
        }),
      );
      expect(outcome, `bit ${bit}`).toMatchObject({
        code: 'ERR_LOG_CORRUPT',
        message: expect.stringMatching(/cursors/),
      });
    }
  });

  test('with its snapshot cut or any bit of it flipped recovers without it', () => {
    const path = '/data/log/000000000001.snapshot';
    const whole = image.get(path)!;
    const expected = recoverKeys(image);
    expect(expected.fromSnapshot).toBe(2);
    const spoilt = [
      ...Array.from({ length: whole.length * 8 }, (_, bit) => {
        const bytes = Buffer.from(whole);
        bytes[bit >> 3]! ^= 1 << (bit & 7);
        return bytes;
      }),
      ...Array.from({ length: whole.length }, (_, bytes) => whole.subarray(0, bytes)),
    ];
    for (const [i, bytes] of spoilt.entries()) {
      const { fromSnapshot, log, unusable } = recoverKeys(new Map(image).set(path, bytes));
      expect(unusable, `case ${i}`).toHaveLength(1);
      // A chunk that is sound may have been applied before the damage was met.
      expect(fromSnapshot).toBeLessThanOrEqual(2);
      expect(log).toEqual(expected.log);
    }
  });
});

function recoverKeys(image: Image): { fromSnapshot: number; log: string; unusable: readonly unknown[] } {
  const log = new LogDisk(FaultyDisk.of(image, new Random(1))).open();
  let fromSnapshot = 0;
  const seen: string[] = [];
  const { unusable } = recover({
    log,
    apply(records, { source, recordCount }) {
      if (source === 'snapshot') fromSnapshot += recordCount;
      else seen.push(records.toString('hex'));
    },
  });
  return { fromSnapshot, log: seen.join(), unusable };
}

describe('a log that was not closed', () => {
  const made = makeLog({ isClosed: false });
  // Without the cursor and the snapshot, which know where it ended.
  const image = new Map(made.image);
  for (const name of ['cursors', '000000000001.snapshot']) image.delete(`/data/log/${name}`);
  const { entries } = made;
  const last = segments[2]!;
  // With some of the room behind the end that was taken in advance.
  const end = 128 + Number(/^records \d+ (\d+)/.exec(entries.at(-1)!)![1]) - baseOf(image.get(last)!);
  image.set(last, image.get(last)!.subarray(0, end + 80));
  const withoutLast = entries.slice(0, -1);

  test('with any bit of its last segment flipped loses at most the last batch', () => {
    const offset = 128 + Number(/^records (\d+)/.exec(entries.at(-1)!)![1]) - baseOf(image.get(last)!);
    for (let bit = 0; bit < image.get(last)!.length * 8; bit++) {
      const outcome = outcomeOf(
        changed(image, last, (bytes) => {
          bytes[bit >> 3]! ^= 1 << (bit & 7);
          return bytes;
        }),
      );
      const isInLast = bit >> 3 >= offset;
      if (Array.isArray(outcome)) {
        const expected = [entries.join(), ...(isInLast ? [withoutLast.join()] : [])];
        if (!expected.includes(outcome.join())) expect.fail(`bit ${bit} changes what is read: ${outcome.join('\n')}`);
      } else {
        expect(isInLast, `bit ${bit}: ${outcome.message}`).toBe(false);
        expect(outcome.code).toBe('ERR_LOG_CORRUPT');
      }
    }
  });

  test('with its last segment cut anywhere has a prefix of its entries, behind what was made with the segment', () => {
    const bytes = image.get(last)!;
    for (let size = 0; size < bytes.length; size++) {
      const outcome = outcomeOf(changed(image, last, (whole) => whole.subarray(0, size)));
      if (size < 128 + 64) {
        expect(outcome).toMatchObject({ code: 'ERR_LOG_CORRUPT' });
        continue;
      }
      expect(Array.isArray(outcome), JSON.stringify(outcome)).toBe(true);
      const found = outcome as string[];
      expect(found.length).toBeGreaterThanOrEqual(entries.length - 2);
      expect(entries.slice(0, found.length)).toEqual(found);
    }
  });

  test('with anything behind its last batch is read whole', () => {
    const random = new Random();
    for (let i = 0; i < 200; i++) {
      const junk = random.bytes(random.below(300));
      const outcome = outcomeOf(changed(image, last, (bytes) => Buffer.concat([bytes.subarray(0, end), junk])));
      expect(outcome, `CAIRN_SEED=${random.seed}`).toEqual(entries);
    }
  });

  test('with a copy of one of its batches behind its end does not read the batch twice', () => {
    const bytes = image.get(last)!;
    for (const start of [128 + 64, 128 + 64 + 56]) {
      const copy = bytes.subarray(start, end);
      expect(outcomeOf(new Map(image).set(last, Buffer.concat([bytes.subarray(0, end), copy])))).toEqual(entries);
    }
  });
});

function baseOf(bytes: Buffer): number {
  return Number(bytes.readBigUInt64LE(32));
}
