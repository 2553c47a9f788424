// The file of refused changes: kept over crashes, as long as the log may have their records.

import { appendFileSync, mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeEach, expect, test } from 'vitest';
import { RefusedChanges } from '../../src/write-back/refused-changes.ts';

const root = mkdtempSync(join(tmpdir(), 'cairn-refused-'));
afterAll(() => rmSync(root, { recursive: true, force: true }));
let directory: string;
beforeEach(() => {
  directory = mkdtempSync(join(root, 'log-'));
});

const log = { oldestReadable: 0n, end: 100n };
const keysOf = (changes: RefusedChanges): string[] => changes.all.map(({ key }) => key.toString('latin1'));
const lines = (): number => readFileSync(join(directory, 'store-refused.jsonl'), 'latin1').split('\n').length - 1;

test('changes are there when the file is read again, whatever their keys', () => {
  const first = new RefusedChanges(directory, log);
  expect(first.all).toEqual([]);
  first.add(Buffer.from([0, 10, 255]), 7n);
  first.add(Buffer.from('b'), 2n ** 63n);
  const { all } = new RefusedChanges(directory, log);
  expect(all).toEqual([
    { key: Buffer.from([0, 10, 255]), version: 7n, position: 100n },
    { key: Buffer.from('b'), version: 2n ** 63n, position: 100n },
  ]);
});

test('those whose records the log has forgotten are taken out', () => {
  const first = new RefusedChanges(directory, { oldestReadable: 0n, end: 100n });
  first.add(Buffer.from('a'), 1n);
  const second = new RefusedChanges(directory, { oldestReadable: 99n, end: 200n });
  second.add(Buffer.from('b'), 2n);
  expect(keysOf(second)).toEqual(['a', 'b']);
  expect(keysOf(new RefusedChanges(directory, { oldestReadable: 100n, end: 200n }))).toEqual(['b']);
  expect(lines()).toBe(1);
});

test('many changes do not make the file longer than what the log may have', () => {
  const span = { oldestReadable: 0n, end: 0n };
  const changes = new RefusedChanges(directory, span);
  for (let i = 1; i <= 1100; i++) {
    span.end = BigInt(i);
    span.oldestReadable = BigInt(i - 10);
    changes.add(Buffer.from(`${i}`), BigInt(i));
  }
  expect(lines()).toBe(110);
  expect(keysOf(new RefusedChanges(directory, span))).toEqual(Array.from({ length: 10 }, (_, i) => `${1091 + i}`));
});

test('a last line that a crash has cut is left out, and the next change is whole', () => {
  new RefusedChanges(directory, log).add(Buffer.from('a'), 1n);
  appendFileSync(join(directory, 'store-refused.jsonl'), '["Yg==","2');
  const again = new RefusedChanges(directory, log);
  expect(keysOf(again)).toEqual(['a']);
  again.add(Buffer.from('c'), 3n);
  expect(keysOf(new RefusedChanges(directory, log))).toEqual(['a', 'c']);
});
