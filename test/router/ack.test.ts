// Promised verbs of a cache with a log. The test is the scribe: what is committed, and when, is in its hands.
import { afterEach, beforeEach, describe, expect, test, vi } from 'vitest';
import { errorKind } from '../../src/errors.ts';
import { type FeedHandle, FeedState, LogMetricPlace, native, numberWord, targetsOf, Word } from '../../src/native.ts';
import type { AckLevel } from '../../src/options.ts';
import { CachePromises } from '../../src/promises/index.ts';
import { LOG_METRICS } from '../../src/scribe/metrics.ts';
import { withCode } from '../support/errors.ts';

let handle: FeedHandle;
const buffer = Buffer.alloc(2 ** 20);

beforeEach(() => {
  const opened = native.openCache({
    name: '',
    description: '{}',
    join: false,
    ready: false,
    ttlMs: 0,
    memoryBytes: 64 * 2 ** 20,
    memoryBytesCeiling: 0,
    entriesMax: 0,
    shardCount: 2,
    valueBytesMax: 0,
    trackAccess: false,
    siphash: false,
    ringBytes: 2 ** 20,
  });
  if (typeof opened === 'number') throw new Error(JSON.stringify(native.takeRefusal()));
  handle = opened as FeedHandle;
  handle.startFeed(7, 0);
  handle.finishRecovery();
});

afterEach(() => {
  handle.close();
});

function promisesOf(ack: AckLevel, maxRequests = 1000): CachePromises {
  return new CachePromises(handle, 'buffer', { lanes: 1, maxRequests, maxBytes: 2 ** 26 }, ack);
}

/** Takes everything from the rings; the records that were in them. */
function drain(): number {
  let records = 0;
  for (let bytes = handle.drain(buffer, 0); bytes > 0; bytes = handle.drain(buffer, 0)) {
    records += countOf(buffer.subarray(0, bytes));
    handle.commitDrained(numberWord(Word.place));
  }
  return records;
}

function countOf(records: Buffer): number {
  let count = 0;
  for (let at = 0; at < records.length; at += records.readUInt32LE(at)) count++;
  return count;
}

const nextTurn = (): Promise<void> => new Promise((resolve) => setImmediate(resolve));

/** Whether it is still open after everything else that was asked for is answered. */
async function isPending(promise: Promise<unknown>, others: CachePromises): Promise<boolean> {
  let isSettled = false;
  const settle = (): void => {
    isSettled = true;
  };
  promise.then(settle, settle);
  // The lane answers in order, and news of commits have a turn of the event loop to come.
  await others.has('some other key', { ack: 'memory' });
  for (let turn = 0; turn < 5; turn++) await nextTurn();
  return !isSettled;
}

describe('at the level logged', () => {
  test('a write resolves when it is in the log', async () => {
    const promises = promisesOf('logged');
    const set = promises.set('a', 1);
    expect(await isPending(set, promises)).toBe(true);
    expect(promises.stats().requests).toBe(1);
    expect(drain()).toBe(1);
    expect(await set).toBe('stored');
    expect(promises.stats()).toMatchObject({ requests: 0, bytes: 0 });
    await promises.close();
  });

  test.each<[string, (promises: CachePromises) => Promise<unknown>, unknown]>([
    ['get', (promises) => promises.get('a'), 'old'],
    ['has', (promises) => promises.has('a'), true],
    ['info', async (promises) => (await promises.info('a'))?.kind, 'text'],
    ['getMany', (promises) => promises.getMany(['b', 'a']), [undefined, 'old']],
    ['a failed add', (promises) => promises.add('a', 'x'), 'not-stored'],
    ['a failed cas', (promises) => promises.cas('a', 'x', 1n), 'exists'],
    ['append', (promises) => promises.append('a', 'x'), 'stored'],
    ['touch', (promises) => promises.touch('a', 5000), true],
    ['update', (promises) => promises.update('a', () => undefined), 'old'],
  ])('%s waits for what it tells of', async (_, ask, answer) => {
    const promises = promisesOf('logged');
    await promises.set('a', 'old', { ack: 'memory' });
    const asked = ask(promises);
    expect(await isPending(asked, promises)).toBe(true);
    drain();
    expect(await asked).toEqual(answer);
    await promises.close();
  });

  test('a read of a committed entry resolves at once', async () => {
    const promises = promisesOf('logged');
    await promises.set('a', 'old', { ack: 'memory' });
    drain();
    expect(await promises.get('a')).toBe('old');
    expect(await promises.getMany(['a', 'b'])).toEqual(['old', undefined]);
    await promises.close();
  });

  test('an absence waits for the delete that made it', async () => {
    const promises = promisesOf('logged');
    await promises.set('a', 'old', { ack: 'memory' });
    drain();
    await promises.delete('a', { ack: 'memory' });
    const get = promises.get('a');
    expect(await isPending(get, promises)).toBe(true);
    drain();
    expect(await get).toBeUndefined();
    await promises.close();
  });

  test('the delete of an absent key leaves a record: the log may still have its value', async () => {
    const promises = promisesOf('logged');
    const gone = promises.delete('absent');
    expect(await isPending(gone, promises)).toBe(true);
    expect(drain()).toBe(1);
    expect(await gone).toBe(false);
    await promises.close();
  });

  test('setMany resolves when all of it is in the log', async () => {
    const promises = promisesOf('logged');
    const set = promises.setMany(Array.from({ length: 100 }, (_, i) => [`key${i}`, i]));
    expect(await isPending(set, promises)).toBe(true);
    expect(promises.stats().requests).toBe(100);
    expect(drain()).toBe(100);
    expect(new Set(await set)).toEqual(new Set(['stored']));
    await promises.close();
  });

  test('a value that is too large is refused when the log knows that the old one is gone', async () => {
    const promises = promisesOf('logged');
    await promises.set('a', 'old', { ack: 'memory' });
    drain();
    const set = promises.set('a', 'x'.repeat(2 ** 21));
    expect(await isPending(set, promises)).toBe(true);
    const refused = expect(set).rejects.toThrow(withCode('ERR_VALUE_TOO_LARGE'));
    expect(drain()).toBe(1);
    await refused;
    expect(await promises.get('a')).toBeUndefined();
    await promises.close();
  });

  test('clear resolves when its barrier is in the log', async () => {
    const promises = promisesOf('logged');
    await promises.set('a', 'old', { ack: 'memory' });
    drain();
    const clear = promises.clear();
    expect(await isPending(clear, promises)).toBe(true);
    const get = promises.get('a');
    expect(await isPending(get, promises)).toBe(true);
    expect(drain()).toBe(2); // one in the ring of each shard
    await clear;
    expect(await get).toBeUndefined();
    await promises.close();
  });

  test('a call may ask for less, and a cache for less than a call', async () => {
    const promises = promisesOf('logged');
    expect(await promises.set('a', 1, { ack: 'memory' })).toBe('stored');
    expect(await promises.get('a', { ack: 'memory' })).toBe(1);
    await promises.close();
    const lazy = promisesOf('memory');
    expect(await lazy.set('b', 1)).toBe('stored');
    const set = lazy.set('b', 2, { ack: 'logged' });
    expect(await isPending(set, lazy)).toBe(true);
    drain();
    expect(await set).toBe('stored');
    await expect(lazy.set('b', 2, { ack: 'stored' as never })).rejects.toThrow(
      withCode('ERR_INVALID_ARGUMENT', /Expected ack to be 'memory' or 'logged'/),
    );
    await lazy.close();
  });

  test('calls that wait for the log fill the queue', async () => {
    const promises = promisesOf('logged', 10);
    const sets = Array.from({ length: 10 }, (_, i) => promises.set(`key${i}`, i));
    await nextTurn();
    await expect(promises.set('one more', 1)).rejects.toThrow(withCode('ERR_QUEUE_FULL'));
    // The lane may not have answered yet.
    while (drain() === 0) await nextTurn();
    while (promises.stats().requests > 0) {
      drain();
      await nextTurn();
    }
    expect(await Promise.all(sets)).toHaveLength(10);
    expect(await promises.get('key3')).toBe(3);
    await promises.close();
  });

  test('a clear waits for what was done in every shard', async () => {
    const promises = promisesOf('logged');
    for (let i = 0; i < 20; i++) await promises.set(`k${i}`, 'x'.repeat(100), { ack: 'memory' });
    const clear = promises.clear();
    await promises.has('k0', { ack: 'memory' });
    const targets = targetsOf(handle);
    let halves = 0;
    while (!handle.covered(targets)) {
      expect(await isPending(clear, promises)).toBe(true);
      if (targets.some((target, shard) => handle.commitMark(shard) >= target)) halves++;
      expect(handle.drain(buffer.subarray(0, 256), 0)).toBeGreaterThan(0);
      handle.commitDrained(numberWord(Word.place));
    }
    expect(halves).toBeGreaterThan(0);
    await clear;
    await promises.close();
  });

  test('close waits for the log', async () => {
    const promises = promisesOf('logged');
    const set = promises.set('a', 1);
    const close = promises.close();
    for (let turn = 0; turn < 20; turn++) await nextTurn();
    while (promises.stats().requests > 0) {
      drain();
      await nextTurn();
    }
    expect(await set).toBe('stored');
    await close;
  });

  test('a call that times out says that its outcome is unknown', async () => {
    const promises = promisesOf('logged');
    await promises.has('a'); // The lane's thread is there.
    await expect(promises.set('a', 1, { timeout: 20 })).rejects.toThrow(
      withCode('ERR_TIMEOUT', /it may or may not have been done/),
    );
    drain();
    expect(await promises.get('a')).toBe(1);
    await promises.close();
  });

  test('a time that is longer than a timer counts is waited for to its end', async () => {
    const promises = promisesOf('logged');
    await promises.has('a');
    vi.useFakeTimers({ toFake: ['setTimeout', 'clearTimeout'] });
    try {
      const timerMax = 2 ** 31 - 1;
      const set = promises.set('a', 1, { timeout: 2 * timerMax + 500 });
      const caught = expect(set).rejects.toThrow(withCode('ERR_TIMEOUT', /within 4294967794 ms/));
      expect(await isPending(set, promises)).toBe(true);
      for (const ms of [timerMax, timerMax, 499]) vi.advanceTimersByTime(ms);
      expect(await isPending(set, promises)).toBe(true);
      vi.advanceTimersByTime(1);
      await caught;
    } finally {
      vi.useRealTimers();
    }
    drain();
    await promises.close();
  });

  test('if the log fails, waiting calls are rejected, and reads of committed entries go on', async () => {
    const promises = promisesOf('logged');
    await promises.set('kept', 1, { ack: 'memory' });
    drain();
    const set = promises.set('a', 1);
    expect(await isPending(set, promises)).toBe(true);
    const caught = expect(set).rejects.toThrow(withCode('ERR_LOG_IO', /^The request set "a" may be lost: /));
    handle.setFeedState(FeedState.failed);
    await caught;
    expect(await promises.get('kept')).toBe(1);
    await expect(promises.get('a')).rejects.toThrow(withCode('ERR_LOG_IO'));
    expect(await promises.get('a', { ack: 'memory' })).toBe(1);
    await promises.close();
  });
});

describe('a clear that waits for the log', () => {
  test.each([
    [FeedState.failed, 'ERR_LOG_IO', 'damaged'],
    [FeedState.stuck, 'ERR_TIMEOUT', 'unknown'],
    [FeedState.closed, 'ERR_WORKER_EXITED', 'unknown'],
  ] as const)('is told that it may be lost, as other calls are, when the log ends (%i)', async (state, code, kind) => {
    const promises = promisesOf('logged');
    const set = promises.set('a', 1);
    const clear = promises.clear();
    expect(await isPending(set, promises)).toBe(true);
    expect(await isPending(clear, promises)).toBe(true);
    const results = Promise.allSettled([set, clear]);
    handle.setFeedState(state);
    const reasons = (await results).map((result) => result.status === 'rejected' && result.reason);
    expect(reasons[0]).toEqual(withCode(code, /^The request set "a" may be lost: the /));
    expect(reasons[1]).toEqual(withCode(code, /^The request clear may be lost: the /));
    expect(reasons.map(errorKind)).toEqual([kind, kind]);
    await promises.close();
  });
});

describe('a log without room', () => {
  const LARGE = 'x'.repeat(10_000);

  test('rejects reads of uncommitted entries, and lets writes wait', async () => {
    const promises = promisesOf('logged');
    const set = promises.set('a', 1);
    expect(await isPending(set, promises)).toBe(true);
    const held = promises.get('a');
    expect(await isPending(held, promises)).toBe(true);
    const refused = expect(held).rejects.toThrow(withCode('ERR_LOG_FULL', /^The request get "a" cannot be answered: /));
    handle.setFeedState(FeedState.full);
    await refused;
    await expect(promises.getMany(['b', 'a'])).rejects.toThrow(withCode('ERR_LOG_FULL'));
    expect(await promises.get('b')).toBeUndefined();
    expect(await isPending(set, promises)).toBe(true);
    handle.setFeedState(FeedState.running);
    drain();
    expect(await set).toBe('stored');
    expect(await promises.get('a')).toBe(1);
    await promises.close();
  });

  test.each([
    [FeedState.full, 'ERR_LOG_FULL', /no room on the disk/],
    [FeedState.stuck, 'ERR_LOG_FULL', /no room on the disk/],
    [FeedState.failed, 'ERR_LOG_IO', /cannot be written/],
  ] as const)('refuses new writes, having done nothing (%i)', async (state, code, message) => {
    const promises = promisesOf('logged');
    handle.setFeedState(state);
    await expect(promises.set('a', 1)).rejects.toThrow(withCode(code, message));
    await expect(promises.delete('a')).rejects.toThrow(withCode(code, message));
    await expect(promises.set('large', 'x'.repeat(300_000))).rejects.toThrow(withCode(code, message));
    expect(await promises.get('a')).toBeUndefined();
    // Who does not wait is not refused, as long as there is room on the way.
    expect(await promises.set('b', 1, { ack: 'memory' })).toBe('stored');
    handle.setFeedState(FeedState.running);
    drain();
    expect(await promises.get('b')).toBe(1);
    await promises.close();
  });

  test('for long ends the calls that wait with ERR_TIMEOUT: their records may still reach the log', async () => {
    const promises = promisesOf('logged');
    const set = promises.set('a', 1);
    expect(await isPending(set, promises)).toBe(true);
    handle.setFeedState(FeedState.full);
    expect(await isPending(set, promises)).toBe(true);
    const given = expect(set).rejects.toThrow(withCode('ERR_TIMEOUT', /survives the process only if/));
    handle.setFeedState(FeedState.stuck);
    await given;
    handle.setFeedState(FeedState.running);
    drain();
    expect(await promises.get('a')).toBe(1);
    await promises.close();
  });

  test('lets calls wait, and keeps their order', async () => {
    const promises = promisesOf('memory');
    const sets = Array.from({ length: 300 }, (_, i) => promises.set('key', `${i}${LARGE}`));
    let settled = 0;
    for (const set of sets) void set.then(() => settled++);
    let records = 0;
    while (settled < sets.length) {
      await nextTurn();
      records += drain();
    }
    records += drain();
    expect(records).toBe(300);
    expect(await promises.get('key')).toBe(`299${LARGE}`);
    await promises.close();
  });

  test.each([
    [FeedState.full, 'ERR_LOG_FULL', /no room on the disk, or has reached logLimit: it takes 600 of 1000 bytes$/],
    [FeedState.failed, 'ERR_LOG_IO', /cannot be written/],
  ] as const)('refuses them when waiting is pointless (%i), and reads go on', async (state, code, message) => {
    const promises = promisesOf('memory');
    const { logBytes, logLimitBytes } = LogMetricPlace;
    const numbers = new Float64Array(LOG_METRICS.length);
    // As the scribe calls them.
    numbers[LOG_METRICS.indexOf('logBytes')] = 600;
    numbers[LOG_METRICS.indexOf('logLimitBytes')] = 1000;
    expect([numbers[logBytes], numbers[logLimitBytes]]).toEqual([600, 1000]);
    handle.setLogMetrics(numbers);
    handle.setFeedState(state);
    const results = await Promise.allSettled(Array.from({ length: 300 }, (_, i) => promises.set(`key${i}`, LARGE)));
    const refused = results.filter((result) => result.status === 'rejected');
    expect(refused.length).toBeGreaterThan(100);
    expect(refused[0]!.reason).toEqual(withCode(code, message));
    expect(await promises.get('key0')).toBe(LARGE);
    const last = results.findIndex((result) => result.status === 'rejected');
    expect(await promises.get(`key${last}`)).toBeUndefined();
    handle.setFeedState(FeedState.running);
    drain();
    expect(await promises.set(`key${last}`, 'now')).toBe('stored');
    await promises.close();
  });
});
