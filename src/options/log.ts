/** The options of a cache's log. */
import { resolve } from 'node:path';
import { misplaced, outOfRange, wrongType } from '../errors.ts';
import {
  LOG_LIMIT_BYTES_DEFAULT,
  LOG_SEGMENT_BYTES_DEFAULT,
  LOG_SEGMENT_BYTES_MAX,
  LOG_SEGMENT_BYTES_MIN,
  LOG_SEGMENTS_MIN,
  LOG_SYNC_MS_MAX,
  LOG_VALUES_MIN,
  LOGGED_VALUE_BYTES_MAX,
  RING_BYTES_DEFAULT_MAX,
  RING_SHARE_DEFAULT,
  RING_SHARE_MAX,
} from '../limits.ts';
import { checkBoolean, checkChoice, checkNames } from './check.ts';
import { LOG_OPTION_NAMES } from './table.ts';
import type {
  AckLevel,
  CacheOptions,
  RecoveryProgress,
  ResolvedLogOptions,
  SnapshotOptions,
  SyncPolicy,
} from './types.ts';
import { durationOf, parseDuration, parseSize } from './units.ts';

/** Checks them; undefined: the cache has no log. */
export function resolveLogOptions(
  options: CacheOptions,
  maxMemory: number,
  maxValueBytes: number,
): ResolvedLogOptions | undefined {
  if (options.data === undefined) {
    const name = LOG_OPTION_NAMES.find((each) => options[each] !== undefined);
    if (name === undefined) return undefined;
    throw misplaced(`The option ${name} is for a cache with a log: give data, the directory of it, too`);
  }
  if (typeof options.data !== 'string' || options.data === '') throw wrongType('data', 'a directory', options.data);
  if (maxValueBytes > LOGGED_VALUE_BYTES_MAX) {
    throw outOfRange('maxValueBytes', 'at most 64mb where there is a log', options.maxValueBytes);
  }
  const limitGiven = fileSize('logLimit', options.logLimit, 0);
  const segmentSize = fileSize('segmentSize', options.segmentSize, defaultSegment(limitGiven));
  if (segmentSize < LOG_SEGMENT_BYTES_MIN || segmentSize > LOG_SEGMENT_BYTES_MAX) {
    throw outOfRange('segmentSize', 'between 4kb and 1gb', options.segmentSize);
  }
  const leastLimit = LOG_SEGMENTS_MIN * segmentSize;
  if (limitGiven !== 0 && limitGiven < leastLimit) {
    const least =
      options.segmentSize === undefined
        ? `${leastLimit} bytes`
        : `${LOG_SEGMENTS_MIN} times segmentSize (${leastLimit} bytes)`;
    throw outOfRange('logLimit', `at least ${least}`, options.logLimit);
  }
  const logLimit = limitGiven === 0 ? Math.max(LOG_LIMIT_BYTES_DEFAULT, leastLimit) : limitGiven;
  if (maxValueBytes > logLimit / LOG_VALUES_MIN) {
    throw outOfRange('maxValueBytes', `at most a quarter of logLimit (${logLimit})`, options.maxValueBytes);
  }
  const ringDefault = Math.min(RING_BYTES_DEFAULT_MAX, Math.floor(maxMemory / RING_SHARE_DEFAULT));
  const ringSize = fileSize('ringSize', options.ringSize, ringDefault);
  if (ringSize > maxMemory / RING_SHARE_MAX) {
    throw outOfRange('ringSize', `at most a quarter of maxMemory (${maxMemory})`, options.ringSize);
  }
  const snapshot = checkNames<SnapshotOptions>('snapshot', options.snapshot, ['every', 'logBytes', 'atClose']);
  return {
    data: resolve(options.data),
    sync: checkSync(options.sync),
    recover: checkChoice('recover', options.recover, ['log', 'none'], 'log'),
    logLimit,
    segmentSize,
    ringSize,
    snapshot: {
      every: parseDuration('snapshot.every', snapshot.every, SNAPSHOT_EVERY_MS),
      logBytes: fileSize('snapshot.logBytes', snapshot.logBytes, 0),
      atClose: checkBoolean('snapshot.atClose', snapshot.atClose, true),
    },
  };
}

const SNAPSHOT_EVERY_MS = 3_600_000;

function defaultSegment(logLimit: number): number {
  if (logLimit === 0) return LOG_SEGMENT_BYTES_DEFAULT;
  return Math.max(LOG_SEGMENT_BYTES_MIN, Math.min(LOG_SEGMENT_BYTES_DEFAULT, Math.floor(logLimit / 16)));
}

// A share of the memory says nothing about a file.
function fileSize(name: string, value: unknown, otherwise: number): number {
  if (typeof value === 'string' && value.includes('%')) {
    throw outOfRange(name, 'a positive integer of bytes, or text such as "512mb"', value);
  }
  return parseSize(name, value, otherwise, () => 0);
}

function checkSync(value: unknown): SyncPolicy {
  if (value === undefined) return 'always';
  if (value === 'always' || value === 'none') return value;
  const ms = typeof value === 'string' ? durationOf(value) : undefined;
  if (ms !== undefined && ms >= 1 && ms <= LOG_SYNC_MS_MAX) return `${ms}ms`;
  throw (typeof value === 'string' ? outOfRange : wrongType)(
    'sync',
    "'always', 'none' or an interval such as '10ms', from 1 ms to an hour",
    value,
  );
}

/** Checks the option `onRecovery` of an open. */
export function resolveOnRecovery(given: unknown): (progress: RecoveryProgress) => void {
  if (given === undefined) return () => {};
  if (typeof given !== 'function') throw wrongType('onRecovery', 'a function', given);
  return given as (progress: RecoveryProgress) => void;
}

/** Checks an acknowledgement level. `hasLog`: whether the cache has a log, without which `memory` is the only level. */
export function checkAck(ack: unknown, hasLog: boolean, otherwise: AckLevel): AckLevel {
  const level = ack === undefined ? otherwise : ack;
  if (level === 'memory' || (level === 'logged' && hasLog)) return level;
  const levels = hasLog ? "'memory' or 'logged'" : "'memory', the only level of a cache without a log";
  throw (typeof ack === 'string' ? outOfRange : wrongType)('ack', levels, ack);
}
