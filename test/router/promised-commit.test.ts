// The promised commit of an atomic batch when the log has no room: tried again for a while, as long as the log runs.

import { afterEach, beforeEach, expect, test, vi } from 'vitest';
import type { Commits } from '../../src/commits.ts';
import { CairnError } from '../../src/errors.ts';
import { ATOMIC_RETRY_MS, ATOMIC_TRIES_MAX } from '../../src/limits.ts';
import type { Patience } from '../../src/patience.ts';
import { Commit } from '../../src/promises/commit.ts';
import { withCode } from '../support/errors.ts';

beforeEach(() => void vi.useFakeTimers());
afterEach(() => void vi.useRealTimers());

const full = new CairnError('ERR_LOG_FULL', 'full');

/** A commit over a log that has no room at the first tries. */
function begin(refusals: number, { patience, isRunning = true }: { patience?: Patience; isRunning?: boolean } = {}) {
  const log = { tries: 0, isRunning, isDone: false };
  const promise = new Promise<void>((resolve, reject) => {
    const commit = new Commit({
      name: 'commit',
      patience,
      resolve,
      reject,
      execute: () => (++log.tries > refusals ? undefined : full),
      done: () => {
        log.isDone = true;
      },
      commits: log as unknown as Commits,
      isHeld: false,
      slowed: () => undefined,
    });
    commit.pass(undefined);
  });
  promise.catch(() => {});
  return { promise, log };
}

test('it is done when there is room', async () => {
  const { promise, log } = begin(3);
  await vi.advanceTimersByTimeAsync(2 * ATOMIC_RETRY_MS);
  expect(log).toMatchObject({ tries: 3, isDone: false });
  await vi.advanceTimersByTimeAsync(ATOMIC_RETRY_MS);
  await promise;
  expect(log).toMatchObject({ tries: 4, isDone: true });
});

test('it is refused in the end', async () => {
  const { promise, log } = begin(Number.POSITIVE_INFINITY);
  await vi.advanceTimersByTimeAsync(ATOMIC_TRIES_MAX * ATOMIC_RETRY_MS);
  await expect(promise).rejects.toBe(full);
  expect(log).toMatchObject({ tries: ATOMIC_TRIES_MAX, isDone: false });
});

test('it is refused at once by a log that does not run', async () => {
  const { promise, log } = begin(1, { isRunning: false });
  await expect(promise).rejects.toBe(full);
  expect(log.tries).toBe(1);
});

test('it is not tried again for a caller that waits no more', async () => {
  const { promise, log } = begin(5, { patience: { timeoutMs: 2.5 * ATOMIC_RETRY_MS, signal: undefined } });
  await vi.advanceTimersByTimeAsync(10 * ATOMIC_RETRY_MS);
  await expect(promise).rejects.toThrow(withCode('ERR_TIMEOUT', /commit within 250 ms: nothing was done/));
  expect(log).toMatchObject({ tries: 3, isDone: false });
});
