// A survey of a log that goes on meanwhile: between any two of its file calls the log is appended to, begins segments,
// takes snapshots and gives segments up. Nothing of that looks like damage. (What a survey finds in damaged logs is in
// repair.test.ts and test/cli/log.test.ts.)

import { describe, expect, test } from 'vitest';
import { describeBatches, type EmbeddedLog, type Survey, survey } from '../../src/log/index.ts';
import { appendNow, DIRECTORY, LogDisk } from '../support/logs.ts';

function snapshotOf(log: EmbeddedLog): void {
  const writer = log.snapshots.begin({ position: log.committed, recordsBefore: log.recordsBefore, epoch: log.epoch });
  log.sync();
  const steps = writer.finish(log.durable, log.epoch);
  while (!steps.next().done);
  log.reclaim();
}

/** What the process that has the log does in the meantime. */
const meantime: Record<string, (log: EmbeddedLog) => void> = {
  'two batches': (log) => {
    // The second proves that the first was there.
    for (const name of ['x', 'y']) {
      appendNow(log, name);
      log.sync();
    }
  },
  'a segment and more': (log) => {
    for (let i = 0; i < 12; i++) appendNow(log, `x${i}`, { valueBytes: 1000 });
    log.cursor('feed').advance(log.committed);
  },
  'a cursor': (log) => {
    appendNow(log, 'x');
    log.cursor('feed').advance(log.committed);
  },
  'snapshots, and segments deleted': (log) => {
    for (let i = 0; i < 30; i++) appendNow(log, `x${i}`, { valueBytes: 1000 });
    log.cursor('feed').advance(log.committed);
    snapshotOf(log);
    appendNow(log, 'y', { valueBytes: 8000 });
    snapshotOf(log);
  },
};

describe('a log that goes on while it is looked at', () => {
  for (const sync of ['always', 'none'] as const) {
    test.each(Object.keys(meantime))(`looks sound (sync ${sync}, %s)`, (name) => {
      let isOver = false;
      for (let at = 0; !isOver; at++) {
        const disk = new LogDisk();
        const log = disk.open({ sync });
        for (let i = 0; i < 20; i++) appendNow(log, `${i}`, { valueBytes: 1000 });
        log.cursor('feed').advance(log.committed);
        snapshotOf(log);
        let calls = 0;
        disk.disk.fate = () => {
          if (calls++ === at) meantime[name]!(log);
          return 'ok';
        };
        const found: Survey = survey(DIRECTORY, { files: disk.disk.files(), isDeep: false });
        const lines = [...describeBatches(found, { files: disk.disk.files() })];
        isOver = calls <= at;
        expect(
          found.problems.filter(({ kind }) => kind !== 'note'),
          `call ${at}`,
        ).toEqual([]);
        expect(lines.filter((line) => line.includes('DAMAGE'))).toEqual([]);
        expect(found.problems.map(({ text }) => text)).toContain('the log is in use, or was not closed');
      }
    });
  }
});
