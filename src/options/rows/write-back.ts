/** The options of how changes share transactions. */
import { SLOWDOWN_MS_MAX, SWEEP_ROWS_DEFAULT, WRITE_BACK_BYTES_MAX, WRITE_BACK_ROWS_MAX } from '../../limits.ts';
import * as kinds from '../kinds.ts';
import type { WriteBackOptions } from '../types.ts';
import { digits, timeOrZero } from './flags.ts';
import type { Rows } from './row.ts';

/** As `delay`: none was given, and the mode says it. */
export const DELAY_BY_MODE = -1;

/** `writeBack`. */
export const WRITE_BACK_OPTIONS = {
  maxRows: {
    check: kinds.integer({ without: 1000, min: 1, max: WRITE_BACK_ROWS_MAX }),
    default: '1000',
    doc: 'the number of rows, about, of the largest transaction',
    flag: {
      names: '--write-rows <num>',
      default: '1000',
      doc: 'the number of rows, about, of the largest transaction',
      read: digits,
      expected: 'a whole number',
    },
  },
  maxBytes: {
    check: kinds.fileSize({ without: 4 * 2 ** 20, min: 1024, max: WRITE_BACK_BYTES_MAX }),
    default: "'4mb'",
    doc: 'the bytes of keys and values, about, of the largest transaction',
    flag: { names: '--write-bytes <size>', default: '4mb', doc: 'the bytes, about, of the largest transaction' },
  },
  delay: {
    check: kinds.timer(DELAY_BY_MODE),
    default: "`'50ms'`, 0 with `mode: 'write-through'`",
    doc: 'how long a change waits for others that share its transaction',
    flag: {
      names: '--write-delay <time>',
      default: '50ms, 0 with --mode write-through',
      doc: 'how long a change waits for others that share its transaction',
      read: timeOrZero,
      expected: '0 or a time with its unit, such as "50ms"',
    },
  },
  maxRowsPerSecond: {
    check: kinds.integer({ without: 0, min: 0 }),
    default: 'no limit',
    doc: 'the rows that the database gets in a second, about; beyond it the log keeps the changes',
    flag: {
      names: '--write-rate <num>',
      default: 'no limit',
      doc: 'the rows that the database gets in a second, about',
      read: digits,
      expected: 'a whole number',
    },
  },
  ackTimeout: {
    check: kinds.timer(10_000),
    default: "'10s'",
    doc: 'how long answers at the level `stored` wait while the database confirms nothing; 0: without a limit',
    flag: {
      names: '--ack-timeout <time>',
      default: '10s',
      doc: 'how long replies at the level stored wait while the database confirms nothing; 0: without a limit',
      read: timeOrZero,
      expected: '0 or a time with its unit, such as "10s"',
    },
  },
  retainBehind: {
    check: kinds.duration(600_000),
    default: "'10m'",
    doc: 'how far back the database may go, to a backup or a standby, and get what it lacks from the log; 0: not at all',
    flag: {
      names: '--retain-behind <time>',
      default: '10m',
      doc: 'how far back the database may go and get what it lacks from the log; 0: not at all',
      read: timeOrZero,
      expected: '0 or a time with its unit, such as "10m"',
    },
  },
  lanes: {
    check: kinds.lanes,
    default: '1',
    doc: 'transactions at a time, each of its share of the keys: 1, 2, 4, 8 or 16',
    flag: {
      names: '--write-lanes <num>',
      default: '1',
      doc: 'transactions at a time, each of its share of the keys: 1, 2, 4, 8 or 16',
      read: digits,
      expected: 'a whole number',
    },
  },
  slowdown: {
    check: kinds.timer(100, 0, SLOWDOWN_MS_MAX),
    default: "'100ms'",
    doc: 'how much later, at most, changes are answered while the room for changes that the database lacks gets short; 0: not at all',
    flag: {
      names: '--slowdown <time>',
      default: '100ms',
      doc: 'how much later, at most, changes are answered while the room for changes that the database lacks gets short; 0: not at all',
      read: timeOrZero,
      expected: '0 or a time with its unit, such as "100ms"',
    },
  },
  sweepRows: {
    check: kinds.integer({ without: SWEEP_ROWS_DEFAULT, min: 0, max: WRITE_BACK_ROWS_MAX }),
    default: String(SWEEP_ROWS_DEFAULT),
    doc: 'the number of rows a second, at most, that the sweep of expired rows looks at; 0: expired rows stay',
  },
} as const satisfies Rows<WriteBackOptions>;
