/** The options of a cache and of a handle. */
import { outOfRange, wrongType } from '../errors.ts';
import {
  LANE_COUNT_MAX,
  LOG_VALUES_MIN,
  LOGGED_VALUE_BYTES_MAX,
  MEMORY_BYTES_DEFAULT,
  MEMORY_BYTES_MIN,
  NAME_LENGTH_MAX,
  QUEUE_BYTES_MAX,
  QUEUE_REQUESTS_MAX,
  SHARD_COUNT_MAX,
  VALUE_BYTES_MAX,
} from '../limits.ts';
import { checkBoolean, checkChoice, checkInteger, checkNames } from './check.ts';
import { checkAck, resolveLogOptions } from './log.ts';
import { CACHE_OPTION_NAMES } from './table.ts';
import type { CacheOptions, PromiseOptions, RawOption, ResolvedOptions, ResolvedPromiseOptions } from './types.ts';
import { parseDuration, parseSize } from './units.ts';

/** Checks the options of a cache. `usableMemory` is asked for what `'25%'` is of. Throws `ERR_INVALID_ARGUMENT`. */
export function resolveOptions(given: CacheOptions | undefined, usableMemory: () => number): ResolvedOptions {
  const options = checkNames('options', given, CACHE_OPTION_NAMES);
  const maxMemory = parseSize('maxMemory', options.maxMemory, MEMORY_BYTES_DEFAULT, usableMemory);
  if (maxMemory < MEMORY_BYTES_MIN) throw outOfRange('maxMemory', 'at least 4mb', options.maxMemory);
  warnOfMemory(maxMemory, usableMemory());
  const maxMemoryCeiling = parseSize('maxMemoryCeiling', options.maxMemoryCeiling, 0, usableMemory);
  if (maxMemoryCeiling !== 0 && maxMemoryCeiling < maxMemory) {
    throw outOfRange('maxMemoryCeiling', `at least maxMemory (${maxMemory} bytes)`, options.maxMemoryCeiling);
  }
  const maxValueBytes = parseSize('maxValueBytes', options.maxValueBytes, 0, usableMemory);
  if (options.maxValueBytes !== undefined && (maxValueBytes < 1 || maxValueBytes > VALUE_BYTES_MAX)) {
    throw outOfRange('maxValueBytes', 'between 1 byte and 1gb', options.maxValueBytes);
  }
  const log = resolveLogOptions(options, maxMemory, maxValueBytes);
  return {
    ...(log === undefined ? {} : { log }),
    name: checkName(options.name, ''),
    maxMemory,
    maxMemoryCeiling,
    maxEntries: checkEntries(options.maxEntries),
    maxValueBytes: maxValueBytes === 0 && log !== undefined ? loggedValueBytes(log.logLimit, maxMemory) : maxValueBytes,
    ttl: parseDuration('ttl', options.ttl, 0),
    shards: checkShards(options.shards),
    hash: checkChoice('hash', options.hash, ['fast', 'siphash'], 'fast'),
    trackAccess: checkBoolean('trackAccess', options.trackAccess, false),
    ack: checkAck(options.ack, log !== undefined, log === undefined ? 'memory' : 'logged'),
  };
}

let hasWarnedOfMemory = false;

// Address space is all that is taken at first, so that the system refuses such a cache only when it is filled.
function warnOfMemory(maxMemory: number, usable: number): void {
  if (maxMemory <= usable || usable === 0 || hasWarnedOfMemory) return;
  hasWarnedOfMemory = true;
  process.emitWarning(
    `maxMemory is ${maxMemory} bytes, and this process may use ${usable}: the system ends a process that fills more`,
    { type: 'CairnWarning', code: 'CAIRN_MEMORY' },
  );
}

// What the log could never take is refused from the start. 0: a larger default is the store's to choose,
// native/store/store.h.
function loggedValueBytes(logLimit: number, maxMemory: number): number {
  const most = Math.floor(logLimit / LOG_VALUES_MIN);
  return most < Math.max(2 ** 20, Math.floor(maxMemory / 1024)) && most < LOGGED_VALUE_BYTES_MAX ? most : 0;
}

/** A limit on entries; 0: there is none, for `Infinity` too. */
export function checkEntries(given: unknown): number {
  if (given === Number.POSITIVE_INFINITY) return 0;
  return checkInteger('maxEntries', given, 1, Number.MAX_SAFE_INTEGER, 0);
}

/** Checks the option `clock`. */
export function checkClock(given: unknown): (() => number) | undefined {
  if (given === undefined) return undefined;
  if (typeof given !== 'function') throw wrongType('clock', 'a function that gives milliseconds', given);
  return given as () => number;
}

/** Checks the option `raw` of a handle. */
export function resolveRaw(raw: unknown): RawOption {
  if (raw === undefined) return 'buffer';
  if (raw === 'buffer' || raw === 'string' || raw === 'json' || typeof raw === 'function') return raw as RawOption;
  throw wrongType('raw', "'buffer', 'string', 'json' or a function", raw);
}

/** Checks the option `promises` of a handle. */
export function resolvePromiseOptions(
  given: PromiseOptions | undefined,
  usableMemory: () => number,
): ResolvedPromiseOptions {
  const options = checkNames<PromiseOptions>('promises', given, ['lanes', 'maxRequests', 'maxBytes']);
  const lanes = checkInteger('promises.lanes', options.lanes, 1, LANE_COUNT_MAX, 0);
  return {
    lanes: lanes === 0 ? undefined : lanes,
    maxRequests: checkInteger(
      'promises.maxRequests',
      options.maxRequests,
      1,
      Number.MAX_SAFE_INTEGER,
      QUEUE_REQUESTS_MAX,
    ),
    maxBytes: parseSize('promises.maxBytes', options.maxBytes, QUEUE_BYTES_MAX, usableMemory),
  };
}

/** The name of a cache. */
export function checkName(name: unknown, otherwise?: string): string {
  if (name === undefined && otherwise !== undefined) return otherwise;
  if (typeof name !== 'string') throw wrongType('name', 'a string', name);
  if (name === '' || name.length > NAME_LENGTH_MAX) {
    throw outOfRange('name', `a string of 1 to ${NAME_LENGTH_MAX} characters`, name);
  }
  if (/[\p{Cc}\p{Surrogate}]/u.test(name)) throw outOfRange('name', 'text without control characters', name);
  return name;
}

function checkShards(value: unknown): number {
  const shards = checkInteger('shards', value, 1, SHARD_COUNT_MAX, 0);
  if ((shards & (shards - 1)) !== 0) throw outOfRange('shards', `a power of two up to ${SHARD_COUNT_MAX}`, value);
  return shards;
}
