// Records are found by key and version in ranges of the log that include them, in any thread that reads it, whatever
// becomes of the log meanwhile. A model keeps where each record is: one that is not found was truncated.

import { describe, expect, test } from 'vitest';
import { type LogRange, LogReader, recordOf } from '../../src/log/index.ts';
import { RecordReader } from '../../src/request/record.ts';
import { LogDisk } from '../support/logs.ts';
import { Random } from '../support/random.ts';
import { makeRecord } from '../support/records.ts';

interface Written {
  readonly key: Buffer;
  readonly version: bigint;
  readonly value: string;
  readonly range: LogRange;
}

class Desk {
  readonly disk = new LogDisk();
  readonly random: Random;
  readonly written: Written[] = [];
  log = this.disk.open({ segmentBytes: 8192 });
  #counter = 0;

  constructor(seed: number) {
    this.random = new Random(seed);
  }

  append(): void {
    const { epoch } = this.log;
    const fresh = Array.from({ length: 1 + this.random.below(20) }, () => {
      const counter = ++this.#counter;
      const key = `k${this.random.below(50)}`;
      const value = `${counter} ${'x'.repeat(this.random.below(200))}`;
      const version = (BigInt(epoch) << 32n) + BigInt(counter);
      return { key, value, version, bytes: makeRecord({ kind: 'set', key, value, epoch, counter }) };
    });
    const result = this.log.append({
      records: fresh.map(({ bytes }) => bytes),
      recordCount: fresh.length,
      epoch,
      expectPosition: this.log.end,
    });
    if (result.kind !== 'committed') throw new Error(result.kind);
    const { position, end } = result;
    for (const { key, version, value } of fresh)
      this.written.push({ key: Buffer.from(key), version, value, range: { position, end } });
  }

  /** A range that has the record, and others around it, as a table with few points gives it. */
  around({ range }: Written): LogRange {
    const wider = BigInt(this.random.below(20_000));
    const { position, end } = range;
    return { position: position > wider ? position - wider : 0n, end: end + BigInt(this.random.below(20_000)) };
  }

  get reader(): LogReader {
    return new LogReader({ directory: this.log.directory, progress: this.log.progress, files: this.disk.disk.files() });
  }
}

function valueOf(record: Buffer): string {
  const reader = new RecordReader(record);
  expect(reader.next()).toBe(true);
  return reader.value.toString();
}

describe('a record', () => {
  test.each([1, 2, 3, 4, 5, 6])('is found in its range, or was truncated (seed %i)', (seed) => {
    const desk = new Desk(seed);
    const { random } = desk;
    let reader = desk.reader;
    let found = 0;
    let gone = 0;
    for (let round = 0; round < 60; round++) {
      for (let i = random.below(8); i > 0; i--) desk.append();
      if (random.below(6) === 0) {
        const record = random.pick(desk.written);
        if (record !== undefined) desk.log.truncate(record.range.position);
      }
      if (random.below(15) === 0) {
        desk.log.close();
        desk.log = desk.disk.open({ segmentBytes: 8192 });
        reader = desk.reader;
      }
      for (let i = 0; i < 10 && desk.written.length > 0; i++) {
        const record = random.pick(desk.written);
        const answer = recordOf(
          random.below(2) === 0 ? reader : desk.log,
          [desk.around(record)],
          record.key,
          record.version,
        );
        const isThere = record.range.position >= desk.log.oldestReadable;
        expect(answer.kind, `${record.version}`).toBe(isThere ? 'found' : 'gone');
        if (answer.kind === 'found') expect(valueOf(answer.record)).toBe(record.value);
        if (isThere) found++;
        else gone++;
      }
    }
    expect(found).toBeGreaterThan(0);
    expect(gone).toBeGreaterThan(0);
  });

  test('is found in any of several ranges, and only with its own key and version', () => {
    const desk = new Desk(7);
    for (let i = 0; i < 30; i++) desk.append();
    const record = desk.written[40]!;
    const other = desk.written.at(-1)!;
    const find = (ranges: LogRange[], key = record.key, version = record.version): string =>
      recordOf(desk.reader, ranges, key, version).kind;
    expect(find([record.range, other.range])).toBe('found');
    expect(find([other.range, record.range])).toBe('found');
    expect(find([other.range])).toBe('gone');
    expect(find([])).toBe('gone');
    expect(find([record.range], Buffer.from('another'))).toBe('gone');
    expect(find([record.range], record.key, record.version + 1_000_000n)).toBe('gone');
    // Behind the end of the log, as of a log that was lost.
    expect(find([{ position: desk.log.end + 64n, end: desk.log.end + 128n }])).toBe('gone');
  });
});
