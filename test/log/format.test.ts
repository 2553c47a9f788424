// The headers of the log's files: encoded and decoded, cut at every byte, and with every bit flipped.

import { describe, expect, test } from 'vitest';
import { decodeCursors, encodeCursors } from '../../src/log/cursors.ts';
import {
  type BatchHeader,
  batchEnd,
  decodeBatchHeader,
  decodeSegmentHeader,
  encodeBatchHeader,
  encodeSegmentHeader,
  Fault,
  offsetOf,
  positionAt,
  type SegmentHeader,
  segmentName,
  segmentNumbers,
  snapshotName,
  snapshotNumbers,
} from '../../src/log/format.ts';

const segment: SegmentHeader = {
  formatVersion: 3,
  logId: 0xfedc_ba98_7654_3210n,
  number: 123_456,
  base: 2n ** 62n + 8n,
  predecessorEnd: 2n ** 62n - 1024n,
  bornEnd: 2n ** 62n + 72n,
  capacity: 64 * 2 ** 20,
  createdMs: 1_767_225_600_123,
  writer: 0xffff_ffff_ffff_ffffn,
  epoch: 2 ** 20 - 1,
  before: { epoch: 77, writer: 0x0123_4567_89ab_cdefn, recordsBefore: 2n ** 61n },
  recordsLost: 99n,
};

const batch: BatchHeader = {
  kind: 'records',
  payloadBytes: 128 * 2 ** 20,
  position: 2n ** 62n,
  durableEnd: 2n ** 62n - 8n,
  recordsBefore: 2n ** 60n + 1n,
  writer: 0x8000_0000_0000_0001n,
  timeMs: 1_767_225_600_123,
  recordCount: 2 ** 32 - 1,
  epoch: 2 ** 20 - 1,
  payloadCrc: 0xdeadbeef,
};

const cursors = new Map([
  ['write-back', 12_345n],
  ['überall 🌍', 2n ** 62n],
]);

const parsers: [string, Buffer, (bytes: Buffer) => unknown, unknown][] = [
  ['a segment header', encodeSegmentHeader(segment), decodeSegmentHeader, segment],
  ['a batch header', encodeBatchHeader(batch), (bytes) => decodeBatchHeader(bytes), batch],
  ['a cursors file', encodeCursors(7n, cursors), decodeCursors, { logId: 7n, cursors }],
  ['an empty cursors file', encodeCursors(7n, new Map()), decodeCursors, { logId: 7n, cursors: new Map() }],
];

describe.each(parsers)('%s', (_, bytes, decode, value) => {
  test('is decoded as it was encoded', () => {
    expect(decode(bytes)).toEqual(value);
  });

  test('is a fault when it is cut anywhere', () => {
    for (let size = 0; size < bytes.length; size++) expect(decode(bytes.subarray(0, size))).toBeInstanceOf(Fault);
  });

  test('is a fault with any bit flipped', () => {
    for (let bit = 0; bit < bytes.length * 8; bit++) {
      const flipped = Buffer.from(bytes);
      flipped[bit >> 3]! ^= 1 << (bit & 7);
      const fault = decode(flipped);
      expect(fault, `bit ${bit}`).toBeInstanceOf(Fault);
      // A flipped bit in the version does not make it one of a newer version.
      expect((fault as Fault).newerVersion).toBeUndefined();
    }
  });
});

test('every kind of batch is encoded and decoded', () => {
  for (const kind of ['records', 'takeover', 'lost', 'sealed', 'closed'] as const) {
    expect(decodeBatchHeader(encodeBatchHeader({ ...batch, kind }))).toEqual({ ...batch, kind });
  }
});

test('a batch header is found at an offset, and ends where its payload does', () => {
  const bytes = Buffer.concat([Buffer.alloc(24, 7), encodeBatchHeader(batch), Buffer.alloc(8)]);
  expect(decodeBatchHeader(bytes, 24)).toEqual(batch);
  expect(decodeBatchHeader(bytes, 16)).toBeInstanceOf(Fault);
  expect(batchEnd(batch)).toBe(batch.position + 64n + 128n * 2n ** 20n);
});

test('zeros are no header of anything', () => {
  for (const [, , decode] of parsers) expect(decode(Buffer.alloc(4096))).toBeInstanceOf(Fault);
});

test('positions and offsets are counted from the first batch of a segment', () => {
  expect(offsetOf(segment, segment.base)).toBe(128);
  expect(offsetOf(segment, segment.base + 1000n)).toBe(1128);
  expect(positionAt(segment, 1128)).toBe(segment.base + 1000n);
});

test('files are known by their names, and other files are not', () => {
  const names = [
    segmentName(2),
    segmentName(999_999_999_999),
    segmentName(1),
    snapshotName(3),
    'lock',
    'cursors',
    '000000000001.log.tmp',
    '1.log',
    'x000000000001.log',
  ];
  expect(segmentNumbers(names)).toEqual([1, 2, 999_999_999_999]);
  expect(snapshotNumbers(names)).toEqual([3]);
});
