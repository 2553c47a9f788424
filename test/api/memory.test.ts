// The tables of docs/memory.md, tried.

import { readFileSync } from 'node:fs';
import { afterAll, describe, expect, test } from 'vitest';
import { Cache } from '../../src/index.ts';
import { DataDirectories } from '../support/data-directories.ts';

const page = readFileSync(new URL('../../docs/memory.md', import.meta.url), 'utf8');

/** The rows of the table that begins with this heading, as cells without backticks. */
function table(heading: string): string[][] {
  const lines = page.split('\n');
  const start = lines.findIndex((line) => line.startsWith(`| ${heading} |`));
  expect(start, heading).toBeGreaterThan(0);
  const rows: string[][] = [];
  for (let i = start + 2; lines[i]?.startsWith('|'); i++) {
    rows.push(
      lines[i]!.split('|')
        .slice(1, -1)
        .map((cell) => cell.trim().replaceAll('`', '')),
    );
  }
  return rows;
}

const number = (text: string): number => Number(text.replaceAll(',', ''));

describe('what there is for entries', () => {
  const data = new DataDirectories('memory');

  test.each(table('`maxMemory`'))('of %s in %s shards', async (size, shards, pageSize, share, shareWithLog) => {
    const options = { maxMemory: size!.replace(/ ([KMG])iB$/, '$1b').toLowerCase(), shards: Number(shards) };
    const shareOf = (cache: Cache): string => {
      const { limitBytes, memoryBytes } = cache.stats();
      return `${((100 * limitBytes) / memoryBytes).toFixed(1)} %`;
    };
    using cache = new Cache(options);
    expect(shareOf(cache)).toBe(share);
    const { memoryBytes, pagesUsed, pagesFree } = cache.stats();
    const pageBytes = 2 ** Math.floor(Math.log2(memoryBytes / (pagesUsed + pagesFree)));
    expect(`${pageBytes / 1024} KiB`).toBe(pageSize);
    await using logged = await Cache.open({ ...options, data: data.fresh() });
    expect(shareOf(logged)).toBe(shareWithLog);
  });
});

describe('what an entry is charged', () => {
  // Pages of 16 KiB.
  const cache = new Cache({ maxMemory: '256mb', shards: 4 });
  afterAll(() => cache.close());

  test.each(table('key + value, bytes'))('of %s: its class is %s', (sizes, size, beyond) => {
    const [, keyBytes = '', valueBytes = ''] = /^(\d+) \+ ([\d,]+)/.exec(sizes!) ?? [];
    const ttl = sizes!.includes('time to live') ? 1_000_000 : 0;
    cache.set('k'.repeat(number(keyBytes)), 'v'.repeat(number(valueBytes)), { ttl });
    const { chargedBytes, payloadBytes } = cache.stats();
    expect(payloadBytes).toBe(number(keyBytes) + number(valueBytes));
    expect(number(size!) + 8 - payloadBytes).toBe(number(beyond!));
    // And its share of what is left over at the end of a page.
    expect(chargedBytes).toBeGreaterThanOrEqual(number(size!) + 8);
    expect(chargedBytes).toBeLessThanOrEqual(number(size!) + 8 + Math.ceil(number(size!) / 300));
    cache.delete('k'.repeat(number(keyBytes)));
  });
});
