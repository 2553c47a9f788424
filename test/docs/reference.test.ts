// The reference documents are complete: docs/stats.md has every field of stats(), docs/cli.md every option of the
// command line, and neither has anything else.
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { Cache } from '../../src/index.ts';
import { RULE_OPTIONS, WRITE_BACK_OPTIONS } from '../../src/options.ts';
import { WRITE_BACK_METRICS } from '../../src/write-back/metrics.ts';
import { startCli } from '../support/serve-process.ts';

/** The first cells of the tables whose first heading is that, without backticks. */
function firstCells(document: string, heading: string): string[] {
  const lines = readFileSync(new URL(`../../docs/${document}`, import.meta.url), 'utf8').split('\n');
  const start = lines.findIndex((line) => line.startsWith(`| ${heading} |`));
  expect(start, heading).toBeGreaterThan(0);
  const cells: string[] = [];
  for (let i = start + 2; lines[i]?.startsWith('|'); i++) cells.push(lines[i]!.split(' | ')[0]!.slice(2));
  return cells.map((cell) => cell.replaceAll('`', ''));
}

test('docs/stats.md has every field of stats(), with and without a log', async () => {
  const data = mkdtempSync(join(tmpdir(), 'cairn-stats-'));
  const cache = await Cache.open({ data, maxMemory: '8mb', sync: 'none' });
  const stats = cache.stats();
  await cache.close();
  rmSync(data, { recursive: true });
  expect(firstCells('stats.md', 'Field').sort()).toEqual([...Object.keys(stats), 'warmUp', 'writeBack'].sort());
  expect(firstCells('stats.md', 'Field of log').sort()).toEqual(Object.keys(stats.log!).sort());
});

test('docs/stats.md has every field of stats().writeBack, and docs/write-back.md every option', () => {
  const fields = [...WRITE_BACK_METRICS, 'coalescing'];
  expect(firstCells('stats.md', 'Field of writeBack').sort()).toEqual(fields.sort());
  expect(firstCells('write-back.md', 'Option of `writeBack`').sort()).toEqual(Object.keys(WRITE_BACK_OPTIONS).sort());
  expect(firstCells('write-back.md', 'Option of a rule').sort()).toEqual(Object.keys(RULE_OPTIONS).sort());
});

describe('docs/cli.md has every option of', () => {
  test.each([['serve'], ['log inspect'], ['log repair'], ['torture'], ['build']])('%s', async (command) => {
    const help = startCli([...command.split(' '), '-h']);
    await help.ended;
    const options = [...help.stdout.matchAll(/^ {2}((?:-\w, )?--[\w-]+(?: <\w+>)?)/gm)].map(([, option]) => option!);
    expect(options.length).toBeGreaterThan(1);
    const listed = firstCells('cli.md', `Option of \`${command}\``);
    if (command === 'serve') listed.push(...firstCells('cli.md', 'Option of memcached'));
    expect(listed.sort()).toEqual(options.filter((option) => option !== '-h, --help').sort());
  });
});
