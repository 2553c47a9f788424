/** The options of what a cache keeps in memory, and of its handle. */
import { MEMORY_BYTES_DEFAULT, MEMORY_BYTES_MIN, VALUE_BYTES_MAX } from '../../limits.ts';
import * as kinds from '../kinds.ts';
import type { Loader } from '../loader.ts';
import type { CacheOptions, PromiseOptions } from '../types.ts';
import { PROMISE_OPTIONS } from './promises.ts';
import { checkAll, type Rows } from './row.ts';

/** Of every cache. */
export const ENTRY_OPTIONS = {
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
} as const satisfies Partial<Rows<CacheOptions>>;
