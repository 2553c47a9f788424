// What `serve` prints of a cache that keeps its data, as texts.

import { describe, expect, test } from 'vitest';
import {
  countText,
  describeEnd,
  describeLoss,
  describeNotice,
  describeRecovery,
  durationText,
  NoticeFilter,
  progressBar,
  RecoveryDisplay,
  secondsText,
  sizeText,
} from '../../src/cli/serve-data.ts';
import type { AckLevel, LogNotice, RecoveryProgress, RecoverySummary } from '../../src/index.ts';

const progress = (more: Partial<RecoveryProgress> = {}): RecoveryProgress => ({
  source: 'log',
  bytes: 512 * 1024,
  bytesTotal: 2 * 2 ** 20,
  records: 4321,
  elapsedMs: 100,
  bytesPerSecond: 5 * 2 ** 20,
  recordsPerSecond: 43_210,
  ...more,
});

const recovery = (more: Partial<RecoverySummary> = {}): RecoverySummary =>
  ({
    from: 'log',
    snapshot: undefined,
    unusable: [],
    records: 2000,
    applied: 1500,
    bytes: 3 * 2 ** 20,
    lost: 0,
    elapsedMs: 1234,
    notices: [],
    ...more,
  }) as RecoverySummary;

function display(isTerminal: boolean): { shown: RecoveryDisplay; text: () => string } {
  let text = '';
  const shown = new RecoveryDisplay({
    isTerminal,
    write: (more) => {
      text += more;
    },
  });
  return { shown, text: () => text };
}

describe('the progress of recovery', () => {
  test('a bar says how far, of what, and how fast', () => {
    expect(progressBar(progress())).toBe(
      'Recovering [######------------------] 25 % of the log: 512.0 KiB of 2.0 MiB, 4,321 records, 5.0 MiB/s',
    );
    expect(progressBar(progress({ source: 'write-back', problem: 'it is down' }))).toBe(
      'Recovering [######------------------] writing to the database first, 25 %: 512.0 KiB of 2.0 MiB, 4,321 records, 5.0 MiB/s: it is down',
    );
    expect(progressBar(progress({ bytes: 0 }))).toContain('[------------------------] 0 %');
    expect(progressBar(progress({ bytes: 3 * 2 ** 20, source: 'snapshot' }))).toContain(
      '[########################] 100 % of the snapshot',
    );
    expect(progressBar(progress({ bytes: 0, bytesTotal: 0 }))).toContain('100 %');
  });

  test('is one line that is drawn over on a terminal, and gone at the end', () => {
    const { shown, text } = display(true);
    shown.show(progress());
    shown.show(progress({ bytes: 2 ** 20 }));
    expect(text().match(/\n/)).toBeNull();
    expect(text().split('\r')).toHaveLength(3);
    shown.end();
    expect(text().endsWith('\r\x1b[K')).toBe(true);
    const before = text();
    shown.end();
    expect(text()).toBe(before);
  });

  test('is a line every five seconds elsewhere, without control characters', () => {
    const { shown, text } = display(false);
    for (let elapsedMs = 0; elapsedMs <= 12_000; elapsedMs += 250) shown.show(progress({ elapsedMs }));
    shown.end();
    expect(text()).toBe('Recovering 25 % of the log: 512.0 KiB of 2.0 MiB, 4,321 records, 5.0 MiB/s\n'.repeat(2));
  });
});

describe('what was recovered', () => {
  test('is said in one line', () => {
    expect(describeRecovery('./d', recovery(), 1500)).toEqual({
      line: 'Recovered 1,500 entries from ./d: log, 2,000 records, 3.0 MiB, in 1.23 s',
      warnings: [],
    });
    expect(describeRecovery('./d', recovery({ snapshot: {} as never, records: 1 }), 1).line).toBe(
      'Recovered 1 entry from ./d: snapshot and log, 1 record, 3.0 MiB, in 1.23 s',
    );
    expect(describeRecovery('./d', recovery({ records: 0 }), 0).line).toBe('./d holds no entries yet');
    expect(describeRecovery('./d', recovery({ from: 'none' }), 0).line).toBe('Began empty: what ./d held is discarded');
  });

  test('a torn end is told', () => {
    const notices: LogNotice[] = [
      { kind: 'torn', file: 'log-1.seg', position: 77n, bytes: 70, recordCount: 1 },
      { kind: 'unclosed', file: 'log-1.seg', position: 77n, writtenMs: 0 },
    ];
    const cut =
      '; not closed, last written at 1970-01-01T00:00:00.000Z; 70 bytes of a write that was cut short are left out';
    const some = describeRecovery('./d', recovery({ notices }), 5);
    expect(some.line.endsWith(cut)).toBe(true);
    expect(some.warnings).toEqual([]);
    expect(describeRecovery('./d', recovery({ notices, records: 0 }), 0).line).toBe(`./d holds no entries yet${cut}`);
  });

  test('what is missing is a warning', () => {
    const unusable = [{ name: 'snapshot-7', why: 'its footer is missing' }];
    const notices: LogNotice[] = [{ kind: 'cursors-old', why: 'its checksum is wrong' }];
    expect(describeRecovery('./d', recovery({ unusable, lost: 3, notices }), 5).warnings).toEqual([
      'Snapshot snapshot-7 could not be used: its footer is missing',
      '3 records of the log in ./d are known to be lost',
      'The file of cursors was damaged, and the one before it is used: its checksum is wrong',
    ]);
    expect(describeRecovery('./d', recovery({ lost: 1 }), 5).warnings).toEqual([
      '1 record of the log in ./d is known to be lost',
    ]);
  });
});

describe('what a crash can take, in one sentence', () => {
  const lossOf = (ack: AckLevel, sync: string, syncMs?: number): string =>
    describeLoss({ directory: './d', ack, sync, syncMs });

  test.each([
    [
      'logged',
      'always',
      'replies wait until it is on the disk (a sync takes 0.35 ms here): no crash, of this process or of the machine, takes back what was answered',
    ],
    [
      'logged',
      '10ms',
      'wait until it is written (a sync takes 0.35 ms here): a crash of this process takes back nothing that was answered, one of the machine up to the last 10 ms',
    ],
    ['logged', 'none', 'one of the machine what the system had not yet put on the disk, often half a minute'],
    [
      'memory',
      'always',
      'do not wait for that (a sync takes 0.35 ms here): a crash of this process can take back the last moments before it, and so can one of the machine',
    ],
    [
      'stored',
      '10ms',
      'to changes wait until the database has them (a sync takes 0.35 ms here): no crash, of this process or of the machine, takes back a change that was answered',
    ],
    ['memory', '100ms', 'the last moments before it, one of the machine also up to the last 100 ms'],
    ['memory', 'none', 'one of the machine also what the system had not yet put on the disk'],
  ] as const)('replies wait for %s, sync %s', (ack, sync, text) => {
    expect(lossOf(ack, sync, 0.349)).toContain(text);
    expect(lossOf(ack, sync, 0.349)).toMatch(/^Data is kept in \.\/d, and replies /);
    expect(lossOf(ack, sync)).not.toContain('a sync takes');
  });
});

test('every notice of a log is a sentence', () => {
  const usage = { bytes: 3 * 2 ** 20, limitBytes: 4 * 2 ** 20, oldest: 0n, end: 0n };
  const cause = new Error('EIO: i/o error');
  const snapshot = { name: 's', position: 0n, entries: 2, bytes: 2048, startedMs: 1000, finishedMs: 1500 };
  const notices: [LogNotice, string][] = [
    [{ kind: 'level', level: 'ok', usage: { ...usage, level: 'ok' } }, 'The log has room: it takes 3.0 MiB of 4.0 MiB'],
    [{ kind: 'level', level: 'high', usage: { ...usage, level: 'high' } }, 'The log takes 3.0 MiB of 4.0 MiB'],
    [
      { kind: 'level', level: 'critical', usage: { ...usage, level: 'critical' } },
      'The log is nearly full: it takes 3.0 MiB of 4.0 MiB',
    ],
    [
      { kind: 'level', level: 'full', usage: { ...usage, level: 'full' } },
      'The log has no room, on the disk or within its limit: it takes 3.0 MiB of 4.0 MiB',
    ],
    [{ kind: 'torn', file: 'f', position: 7n, bytes: 70, recordCount: 2 }, 'behind position 7 in f'],
    [{ kind: 'unclosed', file: 'f', position: 7n, writtenMs: 0 }, 'f ends at position 7, written at 1970-01-01'],
    [{ kind: 'segment-failed', file: 'f', cause }, 'f cannot be written, and the log goes on in a new file: EIO'],
    [{ kind: 'lost', position: 0n, end: 9n, recordCount: 1 }, '1 record of the log could not be read back'],
    [{ kind: 'sync-failed', cause }, 'tried again: EIO'],
    [{ kind: 'cursors-old', why: 'torn' }, 'the one before it is used: torn'],
    [{ kind: 'cleanup-failed', file: 'f', cause: 'busy' }, 'f could not be removed: busy'],
    [{ kind: 'snapshot', snapshot }, 'Snapshot: 2 entries, 2.0 KiB, in 0.50 s'],
    [{ kind: 'snapshot-failed', cause }, 'A snapshot could not be taken, which is tried again: EIO'],
    [
      { kind: 'written-first', records: 1200, bytes: 9, deadLetters: 1, elapsedMs: 1500 },
      'it got 1,200 records first, in 1.50 s, of which it refused 1 change',
    ],
    [{ kind: 'restarted', cause }, 'has died, and another one goes on: EIO'],
    [{ kind: 'failed', cause }, 'The log is not written any more.'],
  ];
  for (const [notice, text] of notices) expect(describeNotice(notice)).toContain(text);
});

test('of its levels only the last two are said, and their end', () => {
  const usage = { bytes: 3 * 2 ** 20, limitBytes: 4 * 2 ** 20, oldest: 0n, end: 0n };
  const said = (...levels: ('ok' | 'high' | 'critical' | 'full')[]): string[] => {
    const filter = new NoticeFilter();
    return levels.filter((level) => filter.isWorthSaying({ kind: 'level', level, usage: { ...usage, level } }));
  };
  expect(said('high', 'ok', 'high', 'ok')).toEqual([]);
  expect(said('high', 'critical', 'ok', 'high', 'ok')).toEqual(['critical', 'ok']);
  expect(said('full', 'critical', 'high', 'ok', 'full', 'ok')).toEqual(['full', 'critical', 'high', 'full', 'ok']);
  const filter = new NoticeFilter();
  expect(filter.isWorthSaying({ kind: 'cleanup-failed', file: 'f', cause: 'busy' })).toBe(false);
  expect(filter.isWorthSaying({ kind: 'sync-failed', cause: 'EIO' })).toBe(true);
});

test('numbers with their units', () => {
  expect(countText(1, 'entry', 'entries')).toBe('1 entry');
  expect(countText(1_234_567, 'record')).toBe('1,234,567 records');
  expect([0, 1023, 1024, 1536 * 1024, 5 * 2 ** 40].map(sizeText)).toEqual([
    '0 bytes',
    '1023 bytes',
    '1.0 KiB',
    '1.5 MiB',
    '5.0 TiB',
  ]);
  expect([5, 1500, 61_000].map(secondsText)).toEqual(['0.01 s', '1.50 s', '61 s']);
  expect([0.04, 2.34, 17.6, 2500].map(durationText)).toEqual(['0.04 ms', '2.3 ms', '18 ms', '2.50 s']);
  expect(describeEnd('./d', 2)).toBe('Stopped: 2 entries are kept in ./d');
});
