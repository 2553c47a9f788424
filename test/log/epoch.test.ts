// The epochs of a log: how they go on from one opening to the next, and what those of older formats mean.

import { describe, expect, test } from 'vitest';
import {
  clearedVersion,
  epochAfter,
  epochText,
  eraOf,
  LOG_EPOCH_MAX,
  logEpochOf,
  versionEpochMax,
  versionParts,
} from '../../src/log/epoch.ts';
import { appendNow, LogDisk } from '../support/logs.ts';
import { makeRecord } from '../support/records.ts';

test('an opening leaves out the epoch that a counter may have begun in records that a crash took', () => {
  expect(epochAfter(0)).toBe(2);
  expect(epochAfter(2)).toBe(4);
  expect(epochAfter(LOG_EPOCH_MAX - 2)).toBe(LOG_EPOCH_MAX);
  expect(epochAfter(LOG_EPOCH_MAX - 1)).toBeUndefined();
});

describe.each([1, 2])('format %i', (format) => {
  test('has 20 bits of epoch in a version, and generations in the epoch of the log', () => {
    const version = (700n << 44n) + 12_345n;
    expect(versionParts(format, version)).toEqual({ epoch: 700, counter: 12_345n });
    expect(versionEpochMax(format, 3 * 2 ** 20 + 5)).toBe(5);
    expect(logEpochOf(format, version, 3 * 2 ** 20 + 5)).toBe(3 * 2 ** 20 + 700);
    expect([epochText(format, 5), epochText(format, 2 ** 32 - 1)]).toEqual(['5', '1048575 (generation 4095)']);
  });

  test('clears what was before an epoch', () => {
    expect(clearedVersion(format, (700n << 44n) + 12_345n)).toBe(700n << 44n);
  });

  test('is an era for each generation, and none of them is that of format 3', () => {
    expect(eraOf(format, 5)).toBe(eraOf(format, 2 ** 20 - 1));
    const eras = [eraOf(format, 2 ** 20 - 1), eraOf(format, 2 ** 20), eraOf(format, 2 ** 32 - 1), eraOf(3, 5)];
    expect(new Set(eras).size).toBe(4);
  });
});

test('format 3 compares versions as they are', () => {
  const version = (700n << 32n) + 12_345n;
  expect(versionParts(3, version)).toEqual({ epoch: 700, counter: 12_345n });
  expect(versionEpochMax(3, 2 ** 32 - 1)).toBe(2 ** 32 - 1);
  expect(logEpochOf(3, version, 5)).toBe(700);
  expect(clearedVersion(3, version)).toBe(version);
  expect(eraOf(3, 5)).toBe(eraOf(3, 2 ** 32 - 1));
  expect(epochText(3, 2 ** 20 + 5)).toBe(String(2 ** 20 + 5));
});

describe('a log', () => {
  test('begins an epoch with each opening', () => {
    const disk = new LogDisk();
    for (let life = 1; life < 4; life++) {
      const log = disk.open();
      expect(log.epoch).toBe(2 * life);
      appendNow(log, `life ${life}`);
      disk.disk.kill();
    }
  });

  test('goes on behind an epoch that a counter has begun, and says so when there is none left', () => {
    const disk = new LogDisk();
    const log = disk.open();
    const raise = (epoch: number): void => {
      const records = [makeRecord({ kind: 'set', key: 'over', epoch })];
      expect(log.append({ records, recordCount: 1, epoch, expectPosition: log.end }).kind).toBe('committed');
    };
    raise(3);
    raise(LOG_EPOCH_MAX);
    log.close();
    expect(() => disk.open()).toThrow(/as often as versions can count/);
  });
});
