/** The options of a cache's log. */
import { misplaced, outOfRange, wrongType } from '../errors.ts';
import {
  LOG_LIMIT_BYTES_DEFAULT,
  LOG_SEGMENT_BYTES_DEFAULT,
  LOG_SEGMENT_BYTES_MIN,
  LOG_SEGMENTS_MIN,
  LOG_VALUES_MIN,
  LOGGED_VALUE_BYTES_MAX,
  RING_BYTES_DEFAULT_MAX,
  RING_SHARE_DEFAULT,
  RING_SHARE_MAX,
} from '../limits.ts';
import { type CACHE_OPTIONS, type Checked, LOG_OPTION_NAMES } from './table.ts';
import type { AckLevel, CacheOptions, ResolvedLogOptions } from './types.ts';

/** What they are beside one another; undefined: the cache has no log. `options`: each was checked by itself. */
export function resolveLogOptions(
  given: CacheOptions | undefined,
  options: Checked<typeof CACHE_OPTIONS>,
): ResolvedLogOptions | undefined {
  const { data, maxMemory, maxValueBytes, sync, recover, snapshot, store } = options;
  if (data === undefined) {
    const name = LOG_OPTION_NAMES.find((each) => given?.[each] !== undefined);
    if (name === undefined) return undefined;
    throw misplaced(`The option ${name} is for a cache with a log: give data, the directory of it, too`);
  }
  if (recover === 'store' && store === undefined) {
    throw misplaced("recover: 'store' is for a cache with a database: give store, the database behind it, too");
  }
  if (maxValueBytes > LOGGED_VALUE_BYTES_MAX) {
    throw outOfRange('maxValueBytes', 'at most 64mb where there is a log', given?.maxValueBytes);
  }
  const segmentSize = options.segmentSize === 0 ? defaultSegment(options.logLimit) : options.segmentSize;
  const leastLimit = LOG_SEGMENTS_MIN * segmentSize;
  if (options.logLimit !== 0 && options.logLimit < leastLimit) {
    throw outOfRange(
      'logLimit',
      (say) =>
        options.segmentSize === 0
          ? `at least ${leastLimit} bytes`
          : `at least ${LOG_SEGMENTS_MIN} times ${say('segmentSize')} (${leastLimit} bytes)`,
      given?.logLimit,
    );
  }
  const logLimit = options.logLimit === 0 ? Math.max(LOG_LIMIT_BYTES_DEFAULT, leastLimit) : options.logLimit;
  if (maxValueBytes > logLimit / LOG_VALUES_MIN) {
    throw outOfRange(
      'maxValueBytes',
      (say) => `at most a quarter of ${say('logLimit')} (${logLimit})`,
      given?.maxValueBytes,
    );
  }
  const ringDefault = Math.min(RING_BYTES_DEFAULT_MAX, Math.floor(maxMemory / RING_SHARE_DEFAULT));
  const ringSize = options.ringSize === 0 ? ringDefault : options.ringSize;
  if (ringSize > maxMemory / RING_SHARE_MAX) {
    throw outOfRange('ringSize', (say) => `at most a quarter of ${say('maxMemory')} (${maxMemory})`, given?.ringSize);
  }
  return { data, sync, recover, logLimit, segmentSize, ringSize, snapshot };
}

function defaultSegment(logLimit: number): number {
  if (logLimit === 0) return LOG_SEGMENT_BYTES_DEFAULT;
  return Math.max(LOG_SEGMENT_BYTES_MIN, Math.min(LOG_SEGMENT_BYTES_DEFAULT, Math.floor(logLimit / 16)));
}

const ACK_LEVELS: readonly AckLevel[] = ['memory', 'logged', 'stored'];

/** Whether a cache has a level. `highest`: the highest that it has. */
export function hasLevel(level: AckLevel, highest: AckLevel): boolean {
  return ACK_LEVELS.indexOf(level) <= ACK_LEVELS.indexOf(highest);
}

/** The levels that a cache has, in words. */
export function levelsOf(highest: AckLevel): string {
  switch (highest) {
    case 'memory':
      return "'memory', the only level of a cache without a log";
    case 'logged':
      return "'memory' or 'logged', the levels of a cache without a database";
    case 'stored':
      return "'memory', 'logged' or 'stored'";
  }
}

/** Checks an acknowledgement level. `highest`: the highest that the cache has. */
export function checkAck(ack: unknown, highest: AckLevel, otherwise: AckLevel): AckLevel {
  const level = ack === undefined ? otherwise : ack;
  if (ACK_LEVELS.includes(level as AckLevel) && hasLevel(level as AckLevel, highest)) return level as AckLevel;
  throw (typeof ack === 'string' ? outOfRange : wrongType)('ack', levelsOf(highest), ack);
}
