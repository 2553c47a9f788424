/**
 * The log as the scribe and recovery see it: the request log (request-log.ts) with appends that need not be answered at
 * once, and with the calls for opening, recovery and snapshots. The embedded log answers at once; a log across a
 * network answers later, in any order, and sometimes never. Both are tested by test/conformance/log-port.ts, and
 * docs/log-port.md is for authors of another log.
 *
 * **Appends in flight.** A batch says at which position it is to begin. That may be the predicted end
 * (`endAfter`) of a batch that is not answered yet, so that a window of batches is in flight. The log keeps each at its
 * position or not at all. If a batch is committed, all batches before it are too, also those without an answer. A batch
 * whose predecessor did not get into the log is a `conflict`, and is submitted again after the predecessor.
 *
 * **Unknown outcomes.** A batch that was answered with `unknown` may be in the log. The same batch submitted again at
 * the same position settles it: the log reads what it has there, and never keeps it twice.
 *
 * Thread safety: as of the log, one thread.
 */
import type {
  AppendResult,
  LogBatch,
  LogCursor,
  LogEntry,
  LogUsage,
  Position,
  ReadLevel,
  ReadOptions,
} from './request-log.ts';

/** The outcome of a batch that was submitted. */
export interface Settled {
  readonly ticket: number;
  readonly result: AppendResult;
}

/** A cursor of a log whose calls return at once. */
export interface PortCursor extends LogCursor {
  position(): Position | undefined;
  /** May take as long as a sync. */
  advance(position: Position): void;
  place(position: Position): void;
  drop(): void;
}

/**
 * A cursor of history, whose name begins with this: it keeps what its reader has passed for the day on which the reader
 * goes back, as long as the log has room. The log moves it ahead when it gives way.
 */
export const HISTORY_PREFIX = 'history of ';

export function isHistory(name: string): boolean {
  return name.startsWith(HISTORY_PREFIX);
}

/** What a snapshot is taken of. */
export interface SnapshotStart {
  /** Where the log stands before the walk begins: a batch's end. */
  readonly position: Position;
  /** Records in the log before it. */
  readonly recordsBefore: bigint;
  readonly epoch: number;
  /** Entries that should be in it and that a repair could not save. */
  readonly entriesLost?: number;
  /** The format of its records: the present one, unless it is made from what is sound of an older one. */
  readonly formatVersion?: number;
}

/** One snapshot whose beginning and end are sound. */
export interface SnapshotInfo extends SnapshotStart {
  readonly formatVersion: number;
  readonly number: number;
  readonly name: string;
  readonly logId: bigint;
  /** Where the log stood, synced, when the walk was over. */
  readonly end: Position;
  /** The highest epoch of any record in it. */
  readonly epochMax: number;
  /** Wall times, in Unix milliseconds. */
  readonly startedMs: number;
  readonly finishedMs: number;
  readonly recordCount: number;
  readonly chunkCount: number;
  /** Bytes of records. */
  readonly payloadBytes: number;
  readonly fileBytes: number;
}

export interface SnapshotChunk {
  readonly records: Buffer;
  readonly recordCount: number;
}

/** One that has the name of a snapshot; `fault`: why it is none. */
export type FoundSnapshot<Fault extends { readonly why: string } = { readonly why: string }> =
  | { readonly name: string; readonly number: number; readonly info: SnapshotInfo }
  | { readonly name: string; readonly number: number; readonly fault: Fault };

/** A snapshot is not what was written. */
export class SnapshotDamaged extends Error {
  readonly why: string;

  constructor(name: string, why: string) {
    super(`${name}: ${why}`);
    this.why = why;
  }
}

/** A snapshot that is being written. Each call throws `ERR_LOG_IO` if it fails, and the snapshot is discarded then. */
export interface SnapshotSink {
  add(records: Uint8Array, recordCount: number): void;
  /** In steps. `end`: where the log is now durable up to, with everything that the walk may have seen. */
  finish(end: Position, epochMax: number): Generator<void, SnapshotInfo>;
  abort(): void;
}

/** The snapshots that belong to a log. */
export interface SnapshotStore {
  /** Newest first. */
  readonly found: readonly FoundSnapshot[];
  readonly sound: readonly SnapshotInfo[];
  /** The newest that was read from end to end since the log was opened. */
  readonly newestVerified: SnapshotInfo | undefined;
  /** Throws SnapshotDamaged and `ERR_LOG_IO`. */
  read(info: SnapshotInfo): Generator<SnapshotChunk, undefined>;
  /** One at a time. */
  begin(start: SnapshotStart): SnapshotSink;
}

export interface LogPort {
  /** Its name in errors. */
  readonly name: string;
  /** How many batches may be in flight, at least 1. The scribe sends at most LOG_TURNS_MAX. */
  readonly windowMax: number;
  readonly epoch: number;
  /** Where the next batch is to begin if none is in flight. */
  readonly end: Position;
  readonly committed: Position;
  readonly durable: Position;
  /** Records in the log before `committed`, since it was made. */
  readonly recordsBefore: bigint;
  /** Wall time of the last entry. */
  readonly lastTimeMs: number;
  /** Committed records that the log has lost since it was opened, and the position behind the last of them. */
  readonly lost: { readonly recordCount: number; readonly end: Position };
  readonly snapshots: SnapshotStore;
  readonly segmentCount: number;
  usage(): LogUsage;

  // ---- opening ----

  /** Before it, nothing is changed, and nothing can be appended. */
  takeOver(): void;
  /** Reading may begin here and later. */
  readonly oldestReadable: Position;
  bytesFrom(position: Position): number;

  // ---- appending ----

  /** Where a batch ends that begins at a position, if it is kept there. */
  endAfter(position: Position, batch: LogBatch): Position;
  /**
   * Sends a batch; poll() gives its outcome under its ticket, once. REQUIRES: fewer than `windowMax` in
   * flight. Throws as `RequestLog.append`.
   */
  submit(ticket: number, batch: LogBatch): void;
  /** The outcomes since the last call, in any order. */
  poll(): readonly Settled[];
  /**
   * Whether the log is durable up to a position; false: that is under way, call again. Throws `ERR_LOG_IO` if it fails,
   * and with the number of records if it turns out that some are lost. REQUIRES: `upTo` is at most `committed`.
   */
  syncStep(upTo: Position): boolean;
  /** With an interval as policy: to be called at `syncDueInMs()`. */
  syncIfDue(): void;
  syncDueInMs(): number;

  // ---- reading ----

  read(from: Position, options?: ReadOptions): AsyncIterable<LogEntry>;
  /** The entries from a position on that are there now. */
  entries(from: Position, level?: ReadLevel): Generator<LogEntry, undefined>;
  /**
   * The entry that begins at a position. Undefined: none does, it is not committed, or it was truncated, also during
   * the call. Never another entry.
   */
  entryAt(position: Position, level?: ReadLevel): LogEntry | undefined;
  cursor(name: string): PortCursor;
  cursors(): ReadonlyMap<string, Position>;

  // ---- room ----

  truncate(before: Position): Position;
  /** Removes some of the entries that neither a cursor nor recovery needs; true: there are more. */
  reclaim(segmentCountMax?: number): boolean;
  /**
   * Whether a snapshot that begins at a position makes room once it is complete: it frees something, and the limit has
   * room for what is left, which cursors may hold.
   */
  makesRoom(position: Position): boolean;
  /** Whether the log may exceed its limit, for records that a snapshot waits for that makes room. */
  exceedLimit(yes: boolean): void;

  close(): void;
}
