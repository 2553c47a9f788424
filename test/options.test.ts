// How durations and sizes are read; test/api/options.test.ts has the options themselves.
import { readFileSync } from 'node:fs';
import { expect, test } from 'vitest';
import { OPTIONS } from '../src/options/table.ts';
import { parseDuration, parseSize } from '../src/options.ts';

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

test('docs/api.md has every option with its default', () => {
  const lines = readFileSync(new URL('../docs/api.md', import.meta.url), 'utf8').split('\n');
  const start = lines.indexOf('| Option | Default | |') + 2;
  const rows = lines.slice(start, lines.indexOf('', start)).map((line) => line.replaceAll('`', '').split('|'));
  const written = Object.fromEntries(rows.map(([, name, otherwise]) => [name!.trim(), otherwise!.trim()]));
  expect(written).toEqual(Object.fromEntries(Object.entries(OPTIONS).map(([name, row]) => [name, row.default])));
});
