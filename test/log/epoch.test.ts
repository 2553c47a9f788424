// The epochs of a log: how they go on from one opening to the next, and when a new generation begins.

import { describe, expect, test } from 'vitest';
import {
  epochAfter,
  epochText,
  generationOf,
  LOG_EPOCH_MAX,
  logEpochOf,
  raisedEpoch,
  storeEpochOf,
} from '../../src/log/epoch.ts';
import { EPOCH_MAX } from '../../src/request/record.ts';
import { appendNow, LogDisk } from '../support/logs.ts';
import { makeRecord } from '../support/records.ts';

const HALF = 2 ** 19;

describe('the epoch of the next opening', () => {
  test.each([
    ['is one more', 1, 2],
    ['is one more as long as half of them are left', HALF - 1, HALF],
    ['begins anew from there on', HALF, 2 ** 20 + 1],
    ['begins anew when all are used', EPOCH_MAX, 2 ** 20 + 1],
    ['goes on in its generation', 7 * 2 ** 20 + 5, 7 * 2 ** 20 + 6],
    ['begins anew in each of them', 7 * 2 ** 20 + HALF + 5, 8 * 2 ** 20 + 1],
    ['uses the last generation to its end', LOG_EPOCH_MAX - 1, LOG_EPOCH_MAX],
    ['is none behind that', LOG_EPOCH_MAX, undefined],
  ])('%s', (_, present, next) => {
    expect(epochAfter(present, true)).toBe(next);
  });

  test('stays in the generation for who goes on with a store', () => {
    expect(epochAfter(HALF, false)).toBe(HALF + 1);
    expect(epochAfter(EPOCH_MAX - 1, false)).toBe(EPOCH_MAX);
    expect(epochAfter(EPOCH_MAX, false)).toBeUndefined();
  });
});

test('an epoch of the log is a generation and an epoch of the store', () => {
  for (const [generation, storeEpoch] of [
    [0, 1],
    [0, EPOCH_MAX],
    [1, 0],
    [4095, EPOCH_MAX],
  ] as const) {
    const epoch = logEpochOf(storeEpoch, generation * 2 ** 20);
    expect([generationOf(epoch), storeEpochOf(epoch)]).toEqual([generation, storeEpoch]);
  }
  expect(LOG_EPOCH_MAX).toBe(logEpochOf(EPOCH_MAX, 4095 * 2 ** 20));
  expect([epochText(5), epochText(2 ** 20 + 5)]).toEqual(['5', '5 (generation 1)']);
});

test('the epoch of a group is that of its records in the generation of the log, and never behind the log', () => {
  const second = 2 ** 20;
  expect(raisedEpoch(7, 5)).toBe(7);
  expect(raisedEpoch(3, 5)).toBe(5);
  expect(raisedEpoch(7, second + 5)).toBe(second + 7);
  expect(raisedEpoch(3, second + 5)).toBe(second + 5);
});

describe('a log', () => {
  const raised = (epoch: number): LogDisk => {
    const disk = new LogDisk();
    const log = disk.open();
    const record = makeRecord({ kind: 'set', key: 'old', epoch: storeEpochOf(epoch) });
    expect(log.append({ records: [record], recordCount: 1, epoch, expectPosition: log.end }).kind).toBe('committed');
    log.close();
    return disk;
  };

  test('whose epochs are half used begins a new generation when it is opened, and goes on in it', () => {
    const disk = raised(HALF);
    for (let life = 1; life < 4; life++) {
      const log = disk.open();
      expect(log.epoch).toBe(2 ** 20 + life);
      appendNow(log, `life ${life}`);
      disk.disk.kill();
    }
  });

  test('does not if it is told not to, and says so when there is no epoch left', () => {
    expect(raised(HALF).open({ renumbers: false }).epoch).toBe(HALF + 1);
    expect(() => raised(EPOCH_MAX).open({ renumbers: false })).toThrow(/as often as versions can count/);
    expect(() => raised(LOG_EPOCH_MAX).open()).toThrow(/as often as versions can count/);
  });
});
