/** What an embedded log is opened with, its bounds and defaults, and what it has to say between answers. */
import { outOfRange, wrongType } from '../errors.ts';
import {
  LOG_LIMIT_BYTES_DEFAULT,
  LOG_SEGMENT_BYTES_DEFAULT,
  LOG_SEGMENT_BYTES_MAX,
  LOG_SEGMENT_BYTES_MIN,
  LOG_SEGMENTS_MIN,
} from '../limits.ts';
import type { Files } from './files.ts';
import type { Place } from './place.ts';
import type { LogLevel, LogUsage, Position } from './request-log.ts';
import type { SyncPolicy } from './sync-policy.ts';

/** A directory that this process has for itself. */
export interface DirectoryLock {
  /**
   * `with-file`: another process can take the directory if the file `lock` is removed from it, so the log looks at the
   * file before each acknowledgement. Default `never`.
   */
  readonly isLost?: 'never' | 'with-file';
  /** Releases the directory. May be called twice. */
  release(): void;
}

/**
 * Takes a directory, or throws `ERR_LOG_LOCKED` with the pid of the process that has it. src/native/directory-lock.ts
 * does so.
 */
export type LockDirectory = (directory: string) => DirectoryLock;

/** For a caller that has the lock in another thread, because the thread that opens the log may be replaced. */
export const lockedByCaller: LockDirectory = () => ({ release() {} });

/** Time, from the caller. */
export interface LogClock {
  /** Unix milliseconds. */
  wallMs(): number;
  /** Milliseconds of a clock that is never set. */
  steadyMs(): number;
}

export const systemClock: LogClock = { wallMs: () => Date.now(), steadyMs: () => performance.now() };

/** What the log has to say between answers. */
export type LogNotice =
  /** The log has become so full, or is no longer. */
  | { readonly kind: 'level'; readonly level: LogLevel; readonly usage: LogUsage }
  /**
   * At opening: `bytes` behind the last whole batch are cut off, with `recordCount` records in batches whose headers
   * are there. A crash leaves such bytes, and then none of them were acknowledged as durable.
   */
  | {
      readonly kind: 'torn';
      readonly file: string;
      readonly position: Position;
      readonly bytes: number;
      readonly recordCount: number;
    }
  /**
   * At opening: the last process has not closed the log. Its last batch is of `writtenMs`, wall time. Nothing in the
   * file tells a process that was killed from a file that something has cut behind a batch since.
   */
  | { readonly kind: 'unclosed'; readonly file: string; readonly position: Position; readonly writtenMs: number }
  /** A file could not be written or synced. The log goes on in a new segment. */
  | { readonly kind: 'segment-failed'; readonly file: string; readonly cause: unknown }
  /** Committed, not durable yet, and could not be read back after such a failure. */
  | { readonly kind: 'lost'; readonly position: Position; readonly end: Position; readonly recordCount: number }
  /** Batches should be durable by now and are not. The log will try again. */
  | { readonly kind: 'sync-failed'; readonly cause: unknown }
  /** At opening: the cursors' file was damaged; its predecessor is used. */
  | { readonly kind: 'cursors-old'; readonly why: string }
  /** A file that is not needed any more could not be removed, or not be ended properly. It does no harm. */
  | { readonly kind: 'cleanup-failed'; readonly file: string; readonly cause: unknown };

export interface EmbeddedLogOptions {
  /** Where the files are. Made, for this user only, if it is not there. */
  readonly directory: string;
  /** Default `always`. */
  readonly sync?: SyncPolicy;
  /** Default 64 MiB. */
  readonly segmentBytes?: number;
  /** What all segments together may take on the disk, at least four times `segmentBytes`. Default 4 GiB. */
  readonly limitBytes?: number;
  /** Keeps other processes out of the directory. */
  readonly lockDirectory: LockDirectory;
  /** Which directory was locked, if that was done before by another thread (`lockedByCaller`). */
  readonly place?: Place;
  /**
   * Where the log says how far it is, PROGRESS_BYTES of zeros or those of an earlier opening in this process that was
   * not closed: its readers go on. Default: newly allocated memory.
   */
  readonly progress?: SharedArrayBuffer;
  readonly onNotice?: (notice: LogNotice) => void;
  readonly files?: Files;
  readonly clock?: LogClock;
  /** 64 random bits. */
  readonly random?: () => bigint;
}

/** The sizes of a log. Throws `ERR_INVALID_ARGUMENT`. */
export function checkSizes({ segmentBytes = LOG_SEGMENT_BYTES_DEFAULT, limitBytes }: EmbeddedLogOptions): {
  segmentBytes: number;
  limitBytes: number;
} {
  checkSize('segmentBytes', segmentBytes, LOG_SEGMENT_BYTES_MIN, LOG_SEGMENT_BYTES_MAX);
  const least = LOG_SEGMENTS_MIN * segmentBytes;
  const limit = limitBytes ?? Math.max(LOG_LIMIT_BYTES_DEFAULT, least);
  checkSize('limitBytes', limit, least, Number.MAX_SAFE_INTEGER);
  return { segmentBytes: Math.ceil(segmentBytes / 8) * 8, limitBytes: limit };
}

function checkSize(name: string, value: unknown, min: number, max: number): void {
  if (typeof value !== 'number') throw wrongType(name, 'a number of bytes', value);
  if (!Number.isInteger(value) || value < min || value > max) {
    throw outOfRange(name, `a whole number of bytes from ${min} to ${max}`, value);
  }
}
