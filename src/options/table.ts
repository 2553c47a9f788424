/**
 * Every option of a cache and of `serve`: what checks it, what it is without, and the line that documents it. The
 * checks, `cairn serve -h`, docs/api.md and docs/cli.md follow this table (test/tables.test.ts compares the documents
 * with it).
 *
 * What an option must be beside others is in cache.ts, log.ts, and src/server/settings.ts.
 */
import {
  CONNECTIONS_MAX,
  ITEM_BYTES_DEFAULT,
  ITEM_BYTES_MAX,
  ITEM_BYTES_MIN,
  LANE_COUNT_MAX,
  LOG_SEGMENT_BYTES_MAX,
  LOG_SEGMENT_BYTES_MIN,
  MEMORY_BYTES_DEFAULT,
  MEMORY_BYTES_MIN,
  PORT_DEFAULT,
  QUEUE_BYTES_MAX,
  QUEUE_REQUESTS_MAX,
  SWEEP_ROWS_DEFAULT,
  VALUE_BYTES_MAX,
  WRITE_BACK_BYTES_MAX,
  WRITE_BACK_ROWS_MAX,
} from '../limits.ts';
import type { Rule } from '../rules/index.ts';
import { addresses } from './address.ts';
import { checkNames } from './check.ts';
import * as kinds from './kinds.ts';
import type { Loader } from './loader.ts';
import * as ofRules from './rules.ts';
import type {
  AckLevel,
  CacheOptions,
  LoadFailure,
  LoadsOptions,
  PromiseOptions,
  RecoverSource,
  RecoveryProgress,
  ResolvedWarmUpOptions,
  RuleOptions,
  ServeOptions,
  SnapshotOptions,
  StoreMode,
  WarmUpOptions,
  WriteBackOptions,
} from './types.ts';

/** One option. */
export interface Row<T = unknown> {
  readonly check: kinds.Check<T>;
  /** What it is if it is left out, as docs/api.md says it. */
  readonly default: string;
  /** The line of docs/api.md. */
  readonly doc: string;
  /** For a cache with a log only. */
  readonly ofLog?: true;
  /** For a cache with a database only. */
  readonly ofStore?: true;
  /** Its flag of `cairn serve`. */
  readonly flag?: Flag;
}

/** A flag of the command line. */
export interface Flag {
  /** `-m, --memory-limit <num>`. */
  readonly names: string;
  /** As -h and docs/cli.md say it; `''`: there is none. */
  readonly default: string;
  /** The line of -h and docs/cli.md. */
  readonly doc: string;
  /** Makes an option of the text; undefined: it is not `expected`. Left out: the text is the option. */
  readonly read?: (text: string) => unknown;
  readonly expected?: string;
}

/** Options by their names. */
export type Rows<Given> = { readonly [Name in keyof Required<Given>]: Row };

/** What checking makes of options. */
export type Checked<R> = { readonly [Name in keyof R]: R[Name] extends Row<infer T> ? T : never };

/** Checks each option by itself. `what`: `options`, or the option that has these. */
export function checkAll<R extends Readonly<Record<string, Row>>>(
  rows: R,
  what: string,
  given: object | undefined,
  usableMemory: () => number,
): Checked<R> {
  const options = checkNames<Record<string, unknown>>(what, given as Record<string, unknown>, Object.keys(rows));
  const prefix = what === 'options' ? '' : `${what}.`;
  const checked = Object.entries(rows).map(([name, row]) => [
    name,
    row.check(options[name], prefix + name, usableMemory),
  ]);
  return Object.fromEntries(checked) as Checked<R>;
}

const digits = (text: string): number | undefined => (/^\d+$/.test(text) ? Number(text) : undefined);

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
      read: (text) => (text === '0' ? 0 : /^\d+$/.test(text) ? undefined : text),
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
      read: (text) => (text === '0' ? 0 : /^\d+$/.test(text) ? undefined : text),
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
      read: (text) => (text === '0' ? 0 : /^\d+$/.test(text) ? undefined : text),
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
      read: (text) => (text === '0' ? 0 : /^\d+$/.test(text) ? undefined : text),
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
  sweepRows: {
    check: kinds.integer({ without: SWEEP_ROWS_DEFAULT, min: 0, max: WRITE_BACK_ROWS_MAX }),
    default: String(SWEEP_ROWS_DEFAULT),
    doc: 'the number of rows a second, at most, that the sweep of expired rows looks at; 0: expired rows stay',
  },
} as const satisfies Rows<WriteBackOptions>;

const loadFailures = kinds.choice<LoadFailure>(['error', 'miss'], 'error');

/** `loads`. */
export const LOADS_OPTIONS = {
  timeout: {
    check: kinds.timer(5000, 1),
    default: "'5s'",
    doc: 'a question to the database that takes longer has failed, and so have the requests that need it',
    flag: {
      names: '--load-timeout <time>',
      default: '5s',
      doc: 'a question to the database that takes longer has failed, and so have the requests that need it',
      read: (text) => (/^\d+$/.test(text) ? undefined : text),
      expected: 'a time with its unit, such as "5s"',
    },
  },
  negativeTtl: {
    check: kinds.timer(1000, 1000, 3_600_000),
    default: "'1s'",
    doc: 'how long a key without a row is known to be absent; between a second and an hour',
    flag: {
      names: '--negative-ttl <time>',
      default: '1s',
      doc: 'how long a key without a row is known to be absent',
      read: (text) => (/^\d+$/.test(text) ? undefined : text),
      expected: 'a time with its unit, such as "1s"',
    },
  },
  onFailure: {
    check: loadFailures,
    default: "'error'",
    doc: "what a read is while the database does not answer: `'error'`, or `'miss'`, with which `fetch` calls its loader",
    flag: {
      names: '--load-failure <answer>',
      default: 'error',
      doc: 'the reply to a `get` while the database does not answer: `error`, or `miss`',
    },
  },
} as const satisfies Rows<LoadsOptions>;

/** `warmUp`. */
export const WARM_UP_OPTIONS = {
  prefix: {
    check: kinds.text('the text that keys begin with'),
    default: "`''`",
    doc: 'only keys that begin with it',
  },
  limit: {
    check: kinds.integer({ without: 0, min: 0 }),
    default: 'no limit',
    doc: 'the number of rows, at most, that are put into memory',
  },
  rowsPerSecond: {
    check: kinds.integer({ without: 0, min: 0 }),
    default: 'no limit',
    doc: 'the rows that the database is asked for in a second, about',
  },
} as const satisfies Rows<WarmUpOptions>;

// `true`: everything.
function warmUp(given: unknown, name: string, usableMemory: () => number): ResolvedWarmUpOptions | undefined {
  if (given === undefined || given === false) return undefined;
  return checkAll(WARM_UP_OPTIONS, name, given === true ? {} : (given as WarmUpOptions), usableMemory);
}

/** Each of `rules`. */
export const RULE_OPTIONS = {
  prefix: {
    check: ofRules.prefix,
    default: '',
    doc: "what the keys begin with; `''`: every key that has no other rule",
  },
  skip: {
    check: kinds.yesOrNo(false),
    default: 'false',
    doc: 'the keys are in memory and in the log only: the database never gets them',
  },
  coalesce: {
    check: kinds.yesOrNo(true),
    default: 'true',
    doc: '`false`: every write is kept, too, as a row of the table `cairn_history`',
  },
  counter: {
    check: kinds.yesOrNo(false),
    default: 'false',
    doc: '`incr` and `decr` add to the row, so that what other programs add to it stays: [counters](#counters)',
  },
  table: {
    check: ofRules.table,
    default: "Cairn's own",
    doc: "a table of yours that has the rows, with its schema if it has one: `'shop.users'`. The options below are for it",
  },
  key: {
    check: ofRules.keyColumns,
    default: '',
    doc: 'its key columns: the text behind the prefix, of several columns with `:` between',
  },
  value: {
    check: ofRules.value,
    default: "`'json'`",
    doc: "`'json'`: each field of a JSON object in the column of that name. `{ columns: ['name'] }`: in these columns only. `{ column: 'data' }`: the whole value in one column",
  },
  expiresAt: {
    check: ofRules.column,
    default: 'none',
    doc: 'the column of the expiry; without one, rows do not expire',
  },
  version: { check: ofRules.column, default: 'none', doc: 'the column of the version of a change' },
  clientFlags: {
    check: ofRules.column,
    default: 'none',
    doc: "the column of memcached's client flags; without one, values with flags are dead letters",
  },
  deleteOnExpire: {
    check: (given, name) => (given === undefined ? undefined : kinds.yesOrNo(false)(given, name, () => 0)),
    default: '`true`, of a table of yours `false`',
    doc: 'rows that have expired are removed; of a table of yours only with `expiresAt`',
  },
} as const satisfies Rows<RuleOptions>;

// Here, because a rule has a table of options.
function rules(given: unknown, name: string, usableMemory: () => number): readonly Rule[] {
  return ofRules.rulesOf(given, name, (rule, itsName) => {
    const checked = checkAll(RULE_OPTIONS, itsName, rule as RuleOptions, usableMemory);
    return ofRules.ruleOf(checked, rule as RuleOptions, itsName);
  });
}

/** `promises`. */
export const PROMISE_OPTIONS = {
  lanes: {
    check: (given, name) =>
      kinds.integer({ without: 0, min: 1, max: LANE_COUNT_MAX })(given, name, () => 0) || undefined,
    default: 'one for every 4 processors, from 1 to 4',
    doc: 'threads, each serving its share of the shards',
  },
  maxRequests: {
    check: kinds.integer({ without: QUEUE_REQUESTS_MAX, min: 1 }),
    default: '65,536',
    doc: 'requests that may be unanswered at a time; each key of `getMany` and the like counts',
  },
  maxBytes: {
    check: kinds.size({ without: QUEUE_BYTES_MAX }),
    default: "'64mb'",
    doc: 'bytes of keys and values that they may hold',
  },
} as const satisfies Rows<PromiseOptions>;

const modes = kinds.choice<StoreMode>(['read-through', 'write-back', 'write-through'], 'write-back');

/** `new Cache` and `Cache.open`. */
export const CACHE_OPTIONS = {
  name: {
    check: (given, name, usableMemory) => (given === undefined ? '' : kinds.nameOfCache(given, name, usableMemory)),
    default: 'none',
    doc: 'other threads attach by this name; up to 200 characters',
  },
  maxMemory: {
    check: kinds.size({ without: MEMORY_BYTES_DEFAULT, min: MEMORY_BYTES_MIN }),
    default: "'64mb'",
    doc: 'the limit on all memory of the cache: keys, values, index, bookkeeping. At least 4 MiB',
    flag: {
      names: '-m, --memory-limit <num>',
      default: '64',
      doc: 'megabytes, all included; or `2gb`, or `25%` of the memory that this process may use',
      read: (text) =>
        /^\d+$/.test(text) ? `${text}mb` : /^\d+(\.\d+)?\s*(%|[kmgt]i?b?|b)$/i.test(text) ? text : undefined,
      expected: 'megabytes, such as 512, a size such as 2gb, or a share such as 25%',
    },
  },
  maxMemoryCeiling: {
    check: kinds.size({ without: 0 }),
    default: '4 x `maxMemory`',
    doc: 'the highest `maxMemory` that `resize` accepts; the cache reserves address space for it, not memory',
  },
  maxEntries: { check: kinds.entries, default: 'none', doc: 'the highest number of entries' },
  maxValueBytes: {
    check: kinds.size({ without: 0, max: VALUE_BYTES_MAX }),
    default: '1/1024 of `maxMemory`, at least 1 MiB',
    doc: 'larger values are refused. At most 1 GiB and half a shard; with `data`, at most 64 MiB and a quarter of `logLimit`',
  },
  ttl: {
    check: kinds.duration(0),
    default: '0',
    doc: 'time to live of entries that are stored without a `ttl`; 0: they do not expire',
  },
  shards: {
    check: kinds.shards,
    default: '[chosen](memory.md#what-the-limit-counts)',
    doc: 'number of shards, each with its own lock: a power of two up to 256. With 1, eviction follows one exact order',
  },
  hash: {
    check: kinds.choice<'fast' | 'siphash'>(['fast', 'siphash'], 'fast'),
    default: "'fast'",
    doc: "`'siphash'` if an adversary can choose keys and measure time",
  },
  trackAccess: {
    check: kinds.yesOrNo(false),
    default: 'false',
    doc: "records the time of each entry's last use, for `info().idleSeconds`; 4 bytes per entry",
  },
  raw: {
    check: kinds.raw,
    default: "'buffer'",
    doc: "what reads of this handle return for bytes: `'buffer'`, `'string'`, `'json'` or `(bytes, flags) => value`",
  },
  promises: {
    check: (given, name, usableMemory) => checkAll(PROMISE_OPTIONS, name, given as PromiseOptions, usableMemory),
    default: '',
    doc: '`{ lanes, maxRequests, maxBytes }` of `cache.promises`, see [threads.md](threads.md)',
  },
  clock: {
    check: kinds.callback<() => number>('a function that gives milliseconds'),
    default: "the machine's",
    doc: 'for tests: the cache takes its time from this function, in milliseconds: `() => Date.now()` with fake timers',
  },
  loader: {
    check: kinds.callback<Loader<unknown>>('a function that returns the value of a key'),
    default: 'none',
    doc: 'loads for `fetch(key)` without a loader, on this handle; it gets `{ key, stale, signal }`',
  },
  random: {
    check: kinds.callback<() => number>('a function that gives numbers from 0 to 1'),
    default: '`Math.random`',
    doc: 'for tests: the numbers from 0 to 1 for `jitter` of `fetch`',
  },
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
  store: {
    check: kinds.store,
    default: 'none',
    doc: 'the database behind: an address (`postgres://...`), the path of a module, or a `Backend`. The options below need `store`; see [write-back.md](write-back.md)',
    flag: {
      names: '--store <database>',
      default: 'none',
      doc: 'the database behind: `postgres://user@host/name` (password: `PGPASSWORD`), or a module. The options below are for it',
    },
  },
  mode: {
    check: (given, name): StoreMode | undefined => (given === undefined ? undefined : modes(given, name, () => 0)),
    default: "'write-back'",
    doc: "`'write-back'`: each change is written to the database in the background; `'write-through'`: at once, and answers wait for it (`ack: 'stored'`); `'read-through'`: misses are loaded from it, and nothing is written, which is the default where `rules` name a table of yours",
    ofStore: true,
    flag: {
      names: '--mode <mode>',
      default: 'write-back',
      doc: '`write-back`: each change is written to the database in the background; `write-through`: at once, and replies wait for it; `read-through`: misses are loaded from it, and nothing is written',
    },
  },
  writeBack: {
    check: (given, name, usableMemory) => checkAll(WRITE_BACK_OPTIONS, name, given as WriteBackOptions, usableMemory),
    default: '',
    doc: "`{ maxRows: 1000, maxBytes: '4mb', delay: '50ms', maxRowsPerSecond: 0, ackTimeout: '10s', retainBehind: '10m', lanes: 1, sweepRows: 1000 }`: how changes share transactions",
    ofStore: true,
  },
  loads: {
    check: (given, name, usableMemory) => checkAll(LOADS_OPTIONS, name, given as LoadsOptions, usableMemory),
    default: '',
    doc: "`{ timeout: '5s', negativeTtl: '1s', onFailure: 'error' }`: how values are loaded from the database",
    ofStore: true,
  },
  warmUp: {
    check: warmUp,
    default: '`false`',
    doc: '`true`, or `{ prefix, limit, rowsPerSecond }`: rows are put into memory once the cache is open, see [write-back.md](write-back.md#warm-up)',
    ofStore: true,
    flag: {
      names: '--warm-up',
      default: '',
      doc: 'puts the rows of the database into memory, as many as there is room for, while the server serves',
    },
  },
  rules: {
    check: rules,
    default: 'none',
    doc: "`[{ prefix: 'session:', skip: true }]`: what the database gets of which keys, see [write-back.md](write-back.md#rules)",
    ofStore: true,
  },
} as const satisfies Rows<CacheOptions>;

/** `serve`. */
export const SERVE_OPTIONS = {
  port: {
    check: (given, name, usableMemory) =>
      given === undefined ? undefined : kinds.integer({ without: 0, min: 0, max: 65_535 })(given, name, usableMemory),
    default: String(PORT_DEFAULT),
    doc: '0: any free port, see `server.addresses`',
    flag: {
      names: '-p, --port <num>',
      default: '11211',
      doc: 'TCP port; -1: any free one, 0: none',
      read: (text) => (text === '-1' ? -1 : digits(text)),
      expected: 'a port, -1 for any that is free, or 0 for none',
    },
  },
  host: {
    check: addresses,
    default: 'loopback',
    doc: "addresses, each with its own port and level if given: `['127.0.0.1', 'memory:[::1]:11212']`",
    flag: {
      names: '-l, --listen <addr>',
      default: 'loopback',
      doc: 'addresses, separated by commas, each with a port and a level if it needs them: `10.0.0.5,[::1]:11212,memory:127.0.0.1:11213`',
      read: (text) => text.split(',').map((host) => host.trim()),
    },
  },
  path: {
    check: kinds.socketPath,
    default: 'none',
    doc: 'a unix socket, of at most 107 bytes (macOS: 103); turns TCP off unless `port` or `host` is given',
    flag: {
      names: '-s, --unix-socket <file>',
      default: 'none',
      doc: 'a unix socket; no TCP then, unless `-p` or `-l` is given',
    },
  },
  pathMode: {
    check: kinds.integer({ without: 0o700, min: 0, max: 0o777 }),
    default: '0o700',
    doc: 'the permissions of the unix socket',
    flag: {
      names: '-a, --unix-mask <mask>',
      default: '700',
      doc: 'the permissions of the unix socket, in octal',
      read: (text) => (/^0?[0-7]{1,3}$/.test(text) ? Number.parseInt(text, 8) : undefined),
      expected: 'an octal number up to 777',
    },
  },
  ack: {
    check: kinds.choice<AckLevel | ''>(['memory', 'logged', 'stored'], ''),
    default: 'that of the cache',
    doc: "what replies wait for: `'memory'`, `'logged'` or `'stored'`",
  },
  maxConnections: {
    check: kinds.integer({ without: 1024, min: 1, max: CONNECTIONS_MAX }),
    default: '1024',
    doc: 'a further connection gets an error and is closed',
    flag: {
      names: '-c, --conn-limit <num>',
      default: '1024',
      doc: 'connections at a time',
      read: digits,
      expected: 'a whole number',
    },
  },
  maxItemSize: {
    check: kinds.size({ without: ITEM_BYTES_DEFAULT, min: ITEM_BYTES_MIN, max: ITEM_BYTES_MAX }),
    default: "'1mb'",
    doc: 'key, value and about 60 bytes; above 1 MiB, raise `maxValueBytes` of the cache too',
    flag: {
      names: '-I, --max-item-size <num>',
      default: '1m',
      doc: 'key, value and header together, 1k to 1024m',
      read: (text) => digits(text) ?? (/^\d+(\.\d+)?\s*([kmgt]i?b?|b)$/i.test(text) ? text : undefined),
      expected: 'bytes, such as 1048576, or a size such as 2m',
    },
  },
  idleTimeout: {
    check: kinds.timer(0),
    default: '0',
    doc: 'closes a connection that sends nothing for this time; 0: never',
    flag: {
      names: '-o, --extended <list>',
      default: '',
      doc: '`idle_timeout=SECONDS`: closes connections without a command for this time',
      read: idleTimeout,
      expected: '`idle_timeout=SECONDS`',
    },
  },
  stallTimeout: {
    check: kinds.timer(30_000, 1),
    default: "'30s'",
    doc: 'closes a connection that does not read its replies, or stops in the middle of a large value or line',
  },
  backlog: {
    check: kinds.integer({ without: 1024, min: 1, max: 65_535 }),
    default: '1024',
    doc: 'connections that the system queues',
    flag: {
      names: '-b, --listen-backlog <num>',
      default: '1024',
      doc: 'connections that the system queues',
      read: digits,
      expected: 'a whole number',
    },
  },
  testCommands: {
    check: kinds.yesOrNo(false),
    default: 'false',
    doc: 'answers the [test commands](protocol.md#test-commands)',
    flag: { names: '--test-commands', default: '', doc: 'answers `debugtime` and its like; for tests only' },
  },
  verbosity: {
    check: kinds.integer({ without: 0, min: 0, max: 2 ** 32 - 1 }),
    default: '0',
    doc: 'what `stats settings` reports; no other effect',
    flag: {
      names: '-v, --verbose',
      default: '',
      doc: 'prints refused and dropped connections and what the log does; `-vv` also those that come and go',
    },
  },
  threads: {
    check: kinds.integer({ without: 1, min: 1, max: 1024 }),
    default: '1',
    doc: 'what `stats` reports; no other effect',
    flag: {
      names: '-t, --threads <num>',
      default: '1',
      doc: 'what `stats` says; one thread serves all connections in this version',
      read: digits,
      expected: 'a whole number',
    },
  },
} as const satisfies Rows<ServeOptions>;

// Of several, the last counts.
function idleTimeout(text: string): number | undefined {
  const seconds = text.split(',').map((each) => /^idle_timeout=(\d{1,7})$/.exec(each.trim())?.[1]);
  return seconds.includes(undefined) ? undefined : Number(seconds.at(-1)) * 1000;
}

/** The options that only a cache with a log has. */
export const LOG_OPTION_NAMES: readonly (keyof CacheOptions)[] = Object.entries<Row>(CACHE_OPTIONS)
  .filter(([, row]) => row.ofLog)
  .map(([name]) => name as keyof CacheOptions);

/** The options that only a cache with a database has. */
export const STORE_OPTION_NAMES: readonly (keyof CacheOptions)[] = Object.entries<Row>(CACHE_OPTIONS)
  .filter(([, row]) => row.ofStore)
  .map(([name]) => name as keyof CacheOptions);
