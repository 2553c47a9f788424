// How durations and sizes are read; test/api/options.test.ts has the options themselves.
import { expect, test } from 'vitest';
import { PROMISE_OPTIONS } from '../src/options/table.ts';
import { CACHE_OPTIONS, parseDuration, parseSize, type Row, SERVE_OPTIONS, SNAPSHOT_OPTIONS } from '../src/options.ts';

test.each([
  [0, 0],
  [1500, 1500],
  ['500ms', 500],
  ['60s', 60_000],
  ['1.5h', 5_400_000],
  ['0.1s', 100],
  ['2 m', 120_000],
  ['7D', 604_800_000],
  [Number.POSITIVE_INFINITY, 0],
])('the duration %o is %i ms', (given, expected) => {
  expect(parseDuration('ttl', given, 7)).toBe(expected);
});

test.each([
  [1000, 1000],
  ['1000', 1000],
  ['10b', 10],
  ['4k', 4096],
  ['4KB', 4096],
  ['4KiB', 4096],
  ['512mb', 512 * 2 ** 20],
  ['1.5g', 1.5 * 2 ** 30],
  ['2tb', 2 * 2 ** 40],
  ['25%', 250],
  ['12.5 %', 125],
  ['100%', 1000],
])('the size %o is %i bytes', (given, expected) => {
  expect(parseSize('maxMemory', given, 7, () => 1000)).toBe(expected);
});

test('durations and sizes that were not given are the default', () => {
  expect(parseDuration('ttl', undefined, 7)).toBe(7);
  expect(parseSize('maxMemory', undefined, 7, () => 1000)).toBe(7);
});

test('every default in the table is what checking nothing gives', () => {
  const usableMemory = (): number => 2 ** 40;
  const named = { ...CACHE_OPTIONS, ...SERVE_OPTIONS, ...PROMISE_OPTIONS, ...SNAPSHOT_OPTIONS };
  for (const [name, row] of Object.entries<Row>(named)) {
    // Words for what is chosen by a rule, and for what there is none of.
    if (!/^('.*'|true|false|0o\d+|[\d,]+)$/.test(row.default) || LOG_OPTIONS_BY_RULE.includes(name)) continue;
    const text = row.default.replaceAll("'", '');
    const shown = /^[\d,]+$|^0o/.test(text)
      ? Number(text.replaceAll(',', ''))
      : text === 'true' || text === 'false'
        ? text === 'true'
        : text;
    expect([name, row.check(undefined, name, usableMemory) ?? shown]).toEqual([
      name,
      row.check(shown, name, usableMemory),
    ]);
  }
});

/** They depend on one another, or on whether there is a log. */
const LOG_OPTIONS_BY_RULE = ['ack', 'logLimit', 'segmentSize'];

test('a flag checks what it is given as the option that it stands for does', () => {
  const { read } = CACHE_OPTIONS.maxMemory.flag;
  expect([read('512'), read('2gb'), read('25%'), read('lots')]).toEqual(['512mb', '2gb', '25%', undefined]);
});
