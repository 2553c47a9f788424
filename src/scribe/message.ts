/** What the keeper and the scribe's thread say to each other. Everything is cloned on its way. */
import { CairnError, CairnRangeError, CairnTypeError, ERROR_KINDS, type ErrorCode } from '../errors.ts';
import type { LogNotice, Place, Position, ReadLevel, SyncPolicy, Takeover } from '../log/index.ts';
import type { RecoveryProgress } from '../options/types.ts';
import type { Written } from './opening-help.ts';

/** When snapshots are taken. */
export interface SnapshotSchedule {
  /** Milliseconds between two; 0: never for the time alone. */
  readonly everyMs: number;
  /** Bytes of log behind the last one; 0: as many as twice the last snapshot, and at least 64 MiB. */
  readonly logBytes: number;
  readonly isTakenAtClose: boolean;
}

/** What a thread of this process reads the log's files with: `new LogReader(files)`. It may be posted to a thread. */
export interface LogFiles {
  readonly directory: string;
  /** How far the log is. Also the next scribe's, if this one dies. */
  readonly progress: SharedArrayBuffer;
  /** Drawn when the log was made. */
  readonly logId: bigint;
  /** Of this process. It stays that of the first scribe, if this one dies. */
  readonly takeover: Takeover;
  /** The end of the log when the cache became ready: recovered records lie before it, this process's behind it. */
  readonly openedAt: Position;
}

/**
 * A cursor that is there before the cache is ready, so that the log keeps what its reader needs. Records behind it are
 * owed to the reader: recovery tells the cache so.
 */
export interface OpeningCursor {
  readonly name: string;
  /** Where it begins if it is new. Default: at the oldest entry that the log has. */
  readonly position?: Position;
  /** Up to where in which log its database has everything. */
  readonly stored?: StoredPlace;
}

/** The place in a log up to which a database has everything, with the epoch and the writer of the entry before it. */
export interface StoredPlace {
  readonly logId: bigint;
  readonly position: Position;
  readonly epoch: number;
  readonly writer: bigint;
}

/** workerData of the scribe's thread. */
export interface ScribeData {
  readonly cacheId: number;
  readonly directory: string;
  /** Which one that is: the one that the keeper has locked. */
  readonly place?: Place;
  readonly sync: SyncPolicy;
  readonly segmentBytes: number | undefined;
  readonly limitBytes: number | undefined;
  readonly snapshots: SnapshotSchedule;
  readonly cursor?: OpeningCursor;
  /** Those of further readers. */
  readonly otherCursors?: readonly OpeningCursor[];
  /**
   * A log that has records behind a cursor of this name, or of one that begins with it and a colon, is refused unless
   * that is one of the above: a reader that is not there has to have them.
   */
  readonly refuseBehind?: string;
  /** Where the log says how far it is, PROGRESS_BYTES. */
  readonly progress?: SharedArrayBuffer;
  /** `resume`: another thread had the log and has died; the cache is as it was. */
  readonly start: 'log' | 'none' | 'store' | 'resume';
  /** The cache's epoch is at least this: a database has rows of lower versions. */
  readonly epochMin?: number;
  /** Words that the keeper sets; see {@link Control}. */
  readonly control: SharedArrayBuffer;
}

/** Places in {@link ScribeData.control}. */
export const Control = {
  /** The process is about to exit: no sleep from here on, because the main thread can no longer wake this one. */
  exiting: 0,
} as const;
export const CONTROL_WORDS = 1;

/** What the scribe is told by its keeper. */
export type Told =
  | Command
  /** The command of this number is not awaited any more. */
  | { readonly kind: 'cancel'; readonly id: number }
  /** Of the question that it asks while it opens the log. */
  | { readonly kind: 'answer'; readonly result?: OpeningAnswer; readonly error?: PlainError };

/** What it is told once the log is open. */
export type Heard = Exclude<Told, { kind: 'answer' }>;

/** What a log that has a database needs of another thread while it is opened: opening-help.ts. */
export type OpeningQuestion =
  /** Put the rows into memory. */
  | { readonly kind: 'fill'; readonly epoch: number }
  /** Move the cursor of the database to this log and position. */
  | { readonly kind: 'adopt'; readonly logId: bigint; readonly takeover: Takeover; readonly position: Position }
  /**
   * Find out whether the database can be written from this log, which is taken over when the answer is there. Where the
   * log's own cursor is: `confirmed`.
   */
  | { readonly kind: 'reach'; readonly logId: bigint; readonly takeover: Takeover; readonly confirmed: Position }
  /** Bring everything before a position to it. */
  | { readonly kind: 'write'; readonly position: Position };

/** What filling has come to. Of another question: nothing. */
export interface OpeningAnswer {
  readonly rows: number;
  readonly bytes: number;
  /** There was no room for more. */
  readonly isFull: boolean;
}

/** What the scribe is asked to do. Each is answered by a `done` with its number. */
export type Command =
  /** Everything up to these versions is to be durable, or only committed. The result is a position behind it. */
  | { readonly kind: 'sync'; readonly id: number; readonly targets: BigUint64Array; readonly level?: ReadLevel }
  /** The result of `position` is that. */
  | { readonly kind: 'cursor'; readonly id: number; readonly name: string; readonly act: CursorAct }
  | { readonly kind: 'snapshot'; readonly id: number }
  /** Write what is there, take a snapshot if that is the schedule, close the log. 0: as long as it takes. */
  | { readonly kind: 'close'; readonly id: number; readonly timeoutMs: number; readonly takesSnapshot: boolean };

/** What is done to a cursor of the log. */
export type CursorAct = 'position' | 'drop' | { readonly advance: Position } | { readonly place: Position };

/** Where cursors were that opening the log has made or taken away; undefined: there was none. */
export type CursorsBefore = ReadonlyMap<string, Position | undefined>;

/** What the scribe says. */
export type Report =
  | { readonly kind: 'progress'; readonly progress: RecoveryProgress }
  /** The cache is ready. `files`: of a log that is files. */
  | {
      readonly kind: 'ready';
      readonly recovery: RecoveredByThread | undefined;
      readonly files: Omit<LogFiles, 'progress'> | undefined;
      readonly cursorsBefore: CursorsBefore;
    }
  | { readonly kind: 'notice'; readonly notice: ScribeNotice }
  | { readonly kind: 'question'; readonly question: OpeningQuestion }
  | { readonly kind: 'done'; readonly id: number; readonly result: unknown; readonly error: PlainError | undefined }
  /** It ends, and another thread would do no better. */
  | { readonly kind: 'failed'; readonly error: PlainError };

/** What opening a cache read from its directory. */
export interface RecoverySummary {
  /** The option `recover`: with `none` the directory's entries were deleted, with `store` rows came in their place. */
  readonly from: 'log' | 'none' | 'store';
  /** The snapshot that recovery began with, if there was one. */
  readonly snapshot: SnapshotSummary | undefined;
  /** Snapshots that could not be used, each with the reason. */
  readonly unusable: readonly { readonly name: string; readonly why: string }[];
  /** Records read from snapshot and log, or rows of the database; and the number of those that changed the cache. */
  readonly records: number;
  readonly applied: number;
  readonly bytes: number;
  /**
   * Changes that the log did not know to be in the database when the cache ended; after a crash it may be some that the
   * database has. 0: there is none, or no database.
   */
  readonly owed: number;
  /** Of `store`: memory was full before every row was read. */
  readonly isFull: boolean;
  /** Records that the log reports as lost, and entries of the snapshot that a repair could not save. */
  readonly lost: number;
  readonly elapsedMs: number;
  /**
   * Notices of the log during recovery, before a listener could exist: for example, of an end that a crash has torn.
   */
  readonly notices: readonly ScribeNotice[];
}

/** What of it the scribe's thread tells; the notices have gone before. */
export type RecoveredByThread = Omit<RecoverySummary, 'notices'>;

/** One snapshot. */
export interface SnapshotSummary {
  readonly name: string;
  /** The position of the log when the snapshot began. */
  readonly position: bigint;
  /** One more if a delayed clear is pending, which the snapshot holds too. */
  readonly entries: number;
  /** Bytes of its file. */
  readonly bytes: number;
  /** Unix milliseconds. */
  readonly startedMs: number;
  readonly finishedMs: number;
}

/** A notice of a cache's log. */
export type ScribeNotice =
  | LogNotice
  | { readonly kind: 'snapshot'; readonly snapshot: SnapshotSummary }
  /** The previous snapshot is kept; a new one will be tried. */
  | { readonly kind: 'snapshot-failed'; readonly cause: unknown }
  /** At opening: memory had no room for all keys that the database lacked, so it got these changes first. */
  | ({ readonly kind: 'written-first' } & Written)
  /** The thread that writes the log has died, and another one continues. */
  | { readonly kind: 'restarted'; readonly cause: unknown }
  /** No further record gets into the log: records that are not in it are lost with the process. Reads go on. */
  | { readonly kind: 'failed'; readonly cause: unknown };

/** An error on its way: cloning alone loses its code. */
export interface PlainError {
  readonly name: string;
  readonly message: string;
  readonly code: string | undefined;
  readonly stack: string | undefined;
  readonly cause: PlainError | undefined;
}

export function plainError(error: unknown): PlainError {
  if (!(error instanceof Error)) {
    return { name: 'Error', message: String(error), code: undefined, stack: undefined, cause: undefined };
  }
  const { code } = error as { code?: unknown };
  return {
    name: error.name,
    message: error.message,
    code: typeof code === 'string' ? code : undefined,
    stack: error.stack,
    cause: error.cause === undefined ? undefined : plainError(error.cause),
  };
}

/** What plainError() was made of, or something that says the same. */
export function errorFrom({ name, message, code, stack, cause }: PlainError): Error {
  const options = cause === undefined ? undefined : { cause: errorFrom(cause) };
  const error = makeError(name, message, code, options);
  if (stack !== undefined) error.stack = stack;
  return error;
}

function makeError(name: string, message: string, code: string | undefined, options: ErrorOptions | undefined): Error {
  if (code === undefined || !Object.hasOwn(ERROR_KINDS, code)) {
    return Object.assign(new Error(message, options), code === undefined ? { name } : { name, code });
  }
  const kind = { TypeError: CairnTypeError, RangeError: CairnRangeError }[name] ?? CairnError;
  return new kind(code as ErrorCode, message, options);
}

/** A notice as it travels: errors in it as plain ones. */
export function plainNotice(notice: ScribeNotice): ScribeNotice {
  return 'cause' in notice ? { ...notice, cause: plainError(notice.cause) } : notice;
}

export function noticeFrom(notice: ScribeNotice): ScribeNotice {
  return 'cause' in notice ? { ...notice, cause: errorFrom(notice.cause as PlainError) } : notice;
}
