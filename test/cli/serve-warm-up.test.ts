import { afterEach, beforeEach, expect, test, vi } from 'vitest';
import { describeWarmUp, showWarmUp, type WarmedStats, warmUpBar } from '../../src/cli/serve-warm-up.ts';

const stats = (more: Partial<WarmedStats['warmUp']> = {}): WarmedStats => ({
  ...{ chargedBytes: 500, limitBytes: 1000 },
  warmUp: { state: 'running', rows: 1200, bytes: 3 * 2 ** 20, residentRows: 0, elapsedMs: 1500, ...more },
});

beforeEach(() => vi.useFakeTimers());
afterEach(() => vi.useRealTimers());

test('the bar is how full memory is', () => {
  expect(warmUpBar(stats())).toBe('Warming up [############------------] 1,200 rows of the database, 3.0 MiB');
});

test('the end says what memory has, and whether it is full', () => {
  expect(describeWarmUp(stats({ state: 'done' }).warmUp)).toBe(
    'Warmed up: memory has 1,200 rows of the database, 3.0 MiB, in 1.50 s',
  );
  expect(describeWarmUp(stats({ state: 'full', residentRows: 1 }).warmUp)).toBe(
    'Warmed up: memory has 1,200 rows of the database, 3.0 MiB, beside 1 row that it had, in 1.50 s. Memory is full: other rows are loaded when they are asked for',
  );
});

test('a terminal has a bar until it is over, and other output a line every few seconds', () => {
  for (const isTerminal of [true, false]) {
    const lines: string[] = [];
    let [text, now] = ['', stats()];
    showWarmUp({
      output: {
        isTerminal,
        write: (more) => {
          text += more;
        },
      },
      stats: () => now,
      print: (line) => lines.push(line),
    });
    now = stats({ elapsedMs: 6000 });
    vi.advanceTimersByTime(300);
    expect(text.includes('Warming up [')).toBe(isTerminal);
    expect(lines).toEqual(isTerminal ? [] : ['Warming up: 1,200 rows of the database, 3.0 MiB']);
    now = stats({ state: 'done' });
    vi.advanceTimersByTime(10_000);
    expect(lines.at(-1)).toContain('Warmed up');
    expect(lines).toHaveLength(isTerminal ? 1 : 2);
    expect(text.endsWith('\r\x1b[K')).toBe(isTerminal);
  }
});

test('a cache that is closed, or not warmed up, shows nothing', () => {
  const lines: string[] = [];
  const output = { isTerminal: false, write: () => expect.unreachable() };
  showWarmUp({ output, stats: () => undefined, print: (line) => lines.push(line) });
  showWarmUp({ output, stats: () => stats({ state: 'closed' }), print: (line) => lines.push(line) });
  vi.advanceTimersByTime(10_000);
  expect(lines).toEqual([]);
});
