import { expect, test } from 'vitest';
import { HALTED_RETRY_MS, RETRY_MS_FIRST, RETRY_MS_MAX, retryDelayMs } from '../../src/write-back/backoff.ts';
import { Random } from '../support/random.ts';

test('waits double from the first to the longest, and stay there', () => {
  const waits = Array.from({ length: 12 }, (_, i) => retryDelayMs(i + 1, false, () => 0));
  expect(waits.slice(0, 4)).toEqual([50, 100, 200, 400]);
  expect([waits[0], waits.at(-1)]).toEqual([RETRY_MS_FIRST, RETRY_MS_MAX]);
  expect(retryDelayMs(100_000, false, () => 0)).toBe(RETRY_MS_MAX);
});

test('chance takes off up to half', () => {
  const random = new Random();
  for (let i = 0; i < 100; i++) {
    const wait = retryDelayMs(4, false, () => random.below(1000) / 1000);
    expect(wait).toBeGreaterThanOrEqual(200);
    expect(wait).toBeLessThanOrEqual(400);
  }
});

test('what only a person can mend is tried slowly from the first time on', () => {
  expect(retryDelayMs(1, true, () => 0)).toBe(HALTED_RETRY_MS);
});
