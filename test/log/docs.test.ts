// The example in docs/log-format.md: it is what the log writes, and it says what its lines say.

import { readFileSync } from 'node:fs';
import { expect, test } from 'vitest';
import { decodeSegmentHeader } from '../../src/log/format.ts';
import type { OpenFile } from '../../src/log/index.ts';
import { scanSegment } from '../../src/log/segment.ts';
import { RecordReader } from '../../src/request/record.ts';
import { FaultyDisk } from '../support/faulty-files.ts';
import { LogDisk, START_MS } from '../support/logs.ts';
import { Random } from '../support/random.ts';
import { makeRecord } from '../support/records.ts';

const page = readFileSync(new URL('../../docs/log-format.md', import.meta.url), 'utf8');

/** The bytes of the page's dump, line by line at the offsets that it says. */
function example(): Buffer {
  const lines = [...page.matchAll(/^([0-9a-f]{4}) {2}((?:[0-9a-f]{2} ){8,16})/gm)];
  const bytes = Buffer.concat(lines.map(([, , hex = '']) => Buffer.from(hex.replaceAll(' ', ''), 'hex')));
  let offset = 0;
  for (const [, at = '', hex = ''] of lines) {
    expect(Number.parseInt(at, 16)).toBe(offset);
    offset += hex.length / 3;
  }
  return bytes;
}

const record = { kind: 'set' as const, key: 'user:1', value: 'Ada', epoch: 2, counter: 1, codec: 1 };

test('the example is what the log writes', () => {
  const disk = new LogDisk();
  const log = disk.open();
  disk.nowMs += 1000;
  log.append({ records: [makeRecord(record)], recordCount: 1, epoch: 2, expectPosition: log.end });
  disk.nowMs += 1000;
  log.close();
  expect(disk.disk.bytesOf(disk.path('000000000001.log')).toString('hex')).toBe(example().toString('hex'));
});

test('the example says what its lines say', () => {
  const bytes = example();
  const header = decodeSegmentHeader(bytes);
  expect(header).toEqual({
    formatVersion: 3,
    logId: 0x1111_1111_1111_1111n,
    number: 1,
    base: 0n,
    predecessorEnd: 0n,
    bornEnd: 64n,
    capacity: 8000,
    createdMs: START_MS,
    writer: 0x2222_2222_2222_2222n,
    epoch: 2,
    before: { epoch: 0, writer: 0n, recordsBefore: 0n },
    recordsLost: 0n,
  });
  const disk = FaultyDisk.of(new Map([['/d/f', bytes]]), new Random(1));
  const file: OpenFile = disk.files().open('/d/f', 'read');
  const batches: unknown[] = [];
  const scan = scanSegment(file, header as Exclude<typeof header, { why: string }>, undefined, {
    visit: ({ header: { kind, position, durableEnd, recordCount, epoch, timeMs }, payload }) => {
      batches.push({ kind, position, durableEnd, recordCount, epoch, timeMs });
      const reader = new RecordReader(payload);
      while (reader.next()) {
        batches.push({ key: reader.key.toString(), value: reader.value.toString(), codec: reader.codec });
      }
    },
  });
  expect(batches).toEqual([
    { kind: 'takeover', position: 0n, durableEnd: 0n, recordCount: 0, epoch: 2, timeMs: START_MS },
    { kind: 'records', position: 64n, durableEnd: 64n, recordCount: 1, epoch: 2, timeMs: START_MS + 1000 },
    { key: 'user:1', value: 'Ada', codec: 1 },
  ]);
  expect(scan).toMatchObject({ end: 184n, durableEnd: 184n, damage: undefined, torn: undefined });
  expect(scan.mark).toMatchObject({ kind: 'closed', position: 184n, durableEnd: 184n, recordsBefore: 1n });
});
