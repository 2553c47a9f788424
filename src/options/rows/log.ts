/** The options of the log and of its snapshots. */
import { LOG_SEGMENT_BYTES_MAX, LOG_SEGMENT_BYTES_MIN } from '../../limits.ts';
import * as kinds from '../kinds.ts';
import type { AckLevel, CacheOptions, RecoverSource, RecoveryProgress, SnapshotOptions } from '../types.ts';
import { timeOrZero } from './flags.ts';
import { checkAll, type Rows } from './row.ts';

/** `snapshot`. */
export const SNAPSHOT_OPTIONS = {
  every: {
    check: kinds.duration(3_600_000),
    default: "'1h'",
    doc: 'a snapshot after this time, if anything was written since the last one; 0: never for the time alone',
    flag: {
      names: '--snapshot-every <time>',
      default: '1h',
      doc: 'a snapshot after this time, if anything was written; 0: never for the time alone',
      read: timeOrZero,
      expected: '0 or a time with its unit, such as "60s"',
    },
  },
  logBytes: {
    check: kinds.fileSize({ without: 0 }),
    default: 'twice the last snapshot, at least 64 MiB',
    doc: 'a snapshot after this much log',
    flag: { names: '--snapshot-log-bytes <size>', default: 'chosen', doc: 'a snapshot after this much log' },
  },
  atClose: {
    check: kinds.yesOrNo(true),
    default: 'true',
    doc: 'a snapshot when the cache is closed, if the time allows it',
  },
} as const satisfies Rows<SnapshotOptions>;

/** Of a cache with a log. */
export const LOG_OPTIONS = {
  data: {
    check: kinds.directory,
    default: 'none',
    doc: 'a directory for the log of this cache, which then starts with the entries found there. The options below need `data`; see [durability.md](durability.md)',
    flag: {
      names: '--data <dir>',
      default: 'none',
      doc: 'keeps the entries in this directory (`npm start`: `./cairn-data`). The options below are for it',
    },
  },
  sync: {
    check: kinds.syncPolicy,
    default: "'always'",
    doc: "when the log is synced to the disk: `'always'`, at an interval (`'10ms'`), or `'none'`",
    ofLog: true,
    flag: {
      names: '--sync <policy>',
      default: 'always',
      doc: 'when the log goes to the disk: `always`, an interval such as `10ms`, `none`',
    },
  },
  ack: {
    check: kinds.choice<AckLevel | ''>(['memory', 'logged', 'stored'], ''),
    default: "'logged'",
    doc: "what promised verbs and listeners wait for by default: `'memory'`, `'logged'`, or with `store` `'stored'`",
    flag: {
      names: '--ack <level>',
      default: 'logged',
      doc: 'what replies wait for: `logged`, `memory`, or with `--store` `stored`',
    },
  },
  recover: {
    check: kinds.choice<RecoverSource>(['log', 'store', 'none'], 'log'),
    default: "'log'",
    doc: "`'store'` begins with the rows of the database, `'none'` empty; both delete forever what the directory holds",
    ofLog: true,
    flag: {
      names: '--recover <source>',
      default: 'log',
      doc: '`store` begins with the rows of the database, `none` empty; both discard what the directory has, forever',
    },
  },
  logLimit: {
    check: kinds.fileSize({ without: 0 }),
    default: "'4gb'",
    doc: "the disk space for the log's segments, without snapshots; beyond it writes are refused",
    ofLog: true,
    flag: {
      names: '--log-limit <size>',
      default: '4gb',
      doc: "the log's segments, snapshots not counted; beyond it writes are refused",
    },
  },
  segmentSize: {
    check: kinds.fileSize({ without: 0, min: LOG_SEGMENT_BYTES_MIN, max: LOG_SEGMENT_BYTES_MAX }),
    default: "'64mb'",
    doc: 'the size of one segment; by default at most 1/16 of `logLimit`, never more than a quarter',
    ofLog: true,
    flag: { names: '--segment-size <size>', default: '64mb', doc: 'size of one file of the log' },
  },
  ringSize: {
    check: kinds.fileSize({ without: 0 }),
    default: '1/16 of `maxMemory`, at most 16 MiB',
    doc: 'memory for changes that the log has not taken yet; part of `maxMemory`, at most a quarter',
    ofLog: true,
    flag: { names: '--ring <size>', default: 'from `-m`', doc: 'memory for writes on their way to the log' },
  },
  snapshot: {
    check: (given, name, usableMemory) => checkAll(SNAPSHOT_OPTIONS, name, given as SnapshotOptions, usableMemory),
    default: '',
    doc: "`{ every: '1h', logBytes, atClose: true }`: when snapshots are taken",
    ofLog: true,
  },
  onRecovery: {
    check: kinds.callback<(progress: RecoveryProgress) => void>('a function'),
    default: '',
    doc: "a function that is called a few times a second during recovery with `{ source, bytes, bytesTotal, records, ... }`; `source` is `'snapshot'`, `'log'`, `'store'`, or `'write-back'` while [the database gets changes first](write-back.md#when-the-database-is-down)",
    ofLog: true,
  },
} as const satisfies Partial<Rows<CacheOptions>>;
