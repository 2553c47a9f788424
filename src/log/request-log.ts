/**
 * The request log: one ordered stream of batches of records, appended to by one writer, read from any place by any
 * number of readers. Recovery, write-back, replicas and change feeds are such readers. The embedded log
 * (embedded-log.ts) is files in a directory. test/conformance/request-log.ts tests every log, and docs/log-port.md is
 * for authors of another one.
 *
 * Every log promises:
 * - **Order.** A batch has one position, batches are read in the order of their positions, and none is read twice from
 *   one `read()`. Positions grow along the log and are never used again, not even for what a crash took away.
 * - **All or nothing.** A batch is read with exactly the bytes that were appended, or not at all.
 * - **Commitment.** A batch that was answered with `committed` survives a power cut if commits are synced, and the end
 *   of the process otherwise. A batch that was answered with `conflict`, `fenced` or `full` is never read. One that was
 *   answered with `unknown` may be read or not; appending it again at the same position settles that, and never stores
 *   it twice.
 * - **One writer.** Opening a log for writing takes it over: from then on all batches of earlier writers are void for
 *   every reader (fence.ts).
 */

/** A place in the log. Only the order of positions has a meaning; the rest is the log's business. */
export type Position = bigint;

/** A part of the log: from a position up to, and not including, another. */
export interface LogRange {
  readonly position: Position;
  readonly end: Position;
}

export function earlier(a: Position, b: Position): Position {
  if (a < b) return a;
  return b;
}

export function later(a: Position, b: Position): Position {
  if (a < b) return b;
  return a;
}

/** A value, or a promise of it: the embedded log answers at once, for all its file calls are synchronous. */
export type Awaitable<T> = T | Promise<T>;

/** What is appended together, committed together and read together. */
export interface LogBatch {
  /**
   * Encoded records, whole, one behind the other, in as many pieces as the caller has them in. Not kept, not changed.
   */
  readonly records: readonly Uint8Array[];
  /** How many records that is. */
  readonly recordCount: number;
  /** The store's epoch: not below that of any record in it, nor below that of an earlier batch. */
  readonly epoch: number;
  /** Where the batch is to begin: the `end` of what the caller knows to be committed. */
  readonly expectPosition: Position;
}

export type AppendResult =
  /**
   * It is in the log, at this place: the one that was expected, or behind records that the log has just reported as
   * lost. Also for a batch that was committed before at the position that was expected.
   */
  | { readonly kind: 'committed'; readonly position: Position; readonly end: Position }
  /** The log ends elsewhere, and what begins at the expected position is not this batch. Nothing was appended. */
  | { readonly kind: 'conflict'; readonly end: Position }
  /** Another writer has taken over, in this epoch. This handle appends nothing any more. */
  | { readonly kind: 'fenced'; readonly epoch: number }
  /**
   * No room: the log's own limit is reached, or the disk is full. Nothing was appended; the same batch may be tried
   * again.
   */
  | { readonly kind: 'full'; readonly reason: 'limit' | 'disk' }
  /** It may or may not have been committed. Append the same batch again to find out. */
  | { readonly kind: 'unknown'; readonly cause: Error };

/** What a reader gets. */
export interface LogEntry {
  /**
   * `records`: a batch. `takeover`: a writer opened the log; it has no records. `lost`: that many records were here and
   * a repair, or an I/O error that was reported at the time, took them; a reader that must not miss any starts anew.
   */
  readonly kind: 'records' | 'takeover' | 'lost';
  readonly position: Position;
  /** Where to go on reading, and what a cursor advances to when this is done. */
  readonly end: Position;
  readonly epoch: number;
  /** The format that it was written in; see epoch.ts. `records` are as the present format has them. */
  readonly formatVersion: number;
  /** The writer that appended it: a number that each writer draws at random. */
  readonly writer: bigint;
  /** Records in the log before this entry, since it was made. */
  readonly recordsBefore: bigint;
  readonly recordCount: number;
  /** Wall time of the append in Unix milliseconds. Never less than in an earlier entry. */
  readonly timeMs: number;
  /** The encoded records. Belongs to the reader. */
  readonly records: Buffer;
}

export interface ReadOptions {
  /** Ends the reading without an error. */
  readonly signal?: AbortSignal;
  /** `committed` (default): as soon as it is appended. `durable`: only what a power cut leaves in the log. */
  readonly level?: ReadLevel;
}

export type ReadLevel = 'committed' | 'durable';

/** A reader's place, kept with the log under a name. The log keeps everything from the lowest cursor on. */
export interface LogCursor {
  readonly name: string;
  /** Undefined: there is no cursor of that name yet, and nothing is kept for it. */
  position(): Awaitable<Position | undefined>;
  /**
   * Makes the cursor, or moves it ahead; it is durable, and so is the log up to there, when this is done. Refuses to go
   * back, to begin where the log was truncated, and to go beyond what is committed.
   */
  advance(position: Position): Awaitable<void>;
  /** The same, also to a position before that where it is: what the reader had passed is owed to it again. */
  place(position: Position): Awaitable<void>;
  /** Forgets it. */
  drop(): Awaitable<void>;
}

/** How full a log is: from 70 %, from 85 %, and when an append was refused. */
export type LogLevel = 'ok' | 'high' | 'critical' | 'full';

export interface LogUsage {
  /** Bytes that the log takes, and may take. */
  readonly bytes: number;
  readonly limitBytes: number;
  readonly level: LogLevel;
  /** Where the oldest entry begins, and where the next will. */
  readonly oldest: Position;
  readonly end: Position;
}

/** A log that this process has taken over for writing. */
export interface RequestLog {
  /** The epoch of the last batch; after opening, the one that the take-over raised it to. */
  readonly epoch: number;
  /** Where the next batch is to begin. */
  readonly end: Position;
  /** What may be read, and what of it a power cut would leave. `durable <= committed <= end`. */
  readonly committed: Position;
  readonly durable: Position;

  /** Throws `ERR_INVALID_ARGUMENT` for what can never be a batch and `ERR_CLOSED`; everything else is an answer. */
  append(batch: LogBatch): Awaitable<AppendResult>;
  /** Makes all that is committed durable. Throws `ERR_LOG_IO` if that fails; it may be tried again. */
  sync(): Awaitable<void>;
  /**
   * The entries from a position on, and then each as it comes, until the log is closed or the signal says so. `from`
   * need not be where an entry begins: the first that begins there or behind it is the first that is read. Throws
   * `ERR_INVALID_ARGUMENT` for a position that was truncated or that the log never had, `ERR_LOG_IO` where it cannot be
   * read, and `ERR_LOG_CORRUPT` where it is not what was written.
   */
  read(from: Position, options?: ReadOptions): AsyncIterable<LogEntry>;
  cursor(name: string): LogCursor;
  cursors(): Awaitable<ReadonlyMap<string, Position>>;
  /**
   * Removes entries before a position, unless a cursor needs them; the log may keep more. REQUIRES: recovery does not
   * need them. Returns the new oldest position.
   */
  truncate(before: Position): Awaitable<Position>;
  usage(): Awaitable<LogUsage>;
  /** Makes everything durable and releases the log. Readers end. A second call does nothing. */
  close(): Awaitable<void>;
}
