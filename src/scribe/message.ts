/** What the keeper and the scribe's thread say to each other. Everything is cloned on its way. */
import { CairnError, CairnRangeError, CairnTypeError, ERROR_KINDS, type ErrorCode } from '../errors.ts';
import type { LogNotice, Place, RecoveryProgress, SyncPolicy } from '../log/index.ts';

/** When snapshots are taken. */
export interface SnapshotSchedule {
  /** Milliseconds between two; 0: never for the time alone. */
  readonly everyMs: number;
  /** Bytes of log behind the last one; 0: as many as twice the last snapshot, and at least 64 MiB. */
  readonly logBytes: number;
  readonly isTakenAtClose: boolean;
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
  /** `resume`: another thread had the log and has died; the cache is as it was. */
  readonly start: 'log' | 'none' | 'resume';
  /** Words that the keeper sets; see {@link Control}. */
  readonly control: SharedArrayBuffer;
}

/** Places in {@link ScribeData.control}. */
export const Control = {
  /** The process is about to exit: no sleep from here on, for nobody can wake the thread. */
  exiting: 0,
} as const;
export const CONTROL_WORDS = 1;

/** What the scribe is asked to do. Each is answered by a `done` with its number. */
export type Command =
  /** Everything up to these versions is to be durable. */
  | { readonly kind: 'sync'; readonly id: number; readonly targets: BigUint64Array }
  | { readonly kind: 'snapshot'; readonly id: number }
  /** Write what is there, take a snapshot if that is the schedule, close the log. 0: as long as it takes. */
  | { readonly kind: 'close'; readonly id: number; readonly timeoutMs: number; readonly takesSnapshot: boolean };

/** What the scribe says. */
export type Report =
  | { readonly kind: 'progress'; readonly progress: RecoveryProgress }
  /** The cache is ready. */
  | { readonly kind: 'ready'; readonly recovery: RecoveredByThread | undefined }
  | { readonly kind: 'notice'; readonly notice: ScribeNotice }
  | { readonly kind: 'done'; readonly id: number; readonly result: unknown; readonly error: PlainError | undefined }
  /** It ends, and another thread would do no better. */
  | { readonly kind: 'failed'; readonly error: PlainError };

/** What opening a cache has read. */
export interface RecoverySummary {
  /** What it began with, as the option `recover` says: `none` gives up what the directory had. */
  readonly from: 'log' | 'none';
  /** The snapshot that it began with, if there was one. */
  readonly snapshot: SnapshotSummary | undefined;
  /** Snapshots that could not be used, and why. */
  readonly unusable: readonly { readonly name: string; readonly why: string }[];
  /** Records that were read, of snapshot and log; and those that changed the cache. */
  readonly records: number;
  readonly applied: number;
  readonly bytes: number;
  /** Records that the log says are lost, and entries that a repair found lost of the snapshot. */
  readonly lost: number;
  readonly elapsedMs: number;
  /** What the log had to say meanwhile, when nobody could listen: an end that a crash has torn, say. */
  readonly notices: readonly ScribeNotice[];
}

/** What of it the scribe's thread tells; the notices have gone before. */
export type RecoveredByThread = Omit<RecoverySummary, 'notices'>;

/** One snapshot. */
export interface SnapshotSummary {
  readonly name: string;
  /** Where the log stood when it was begun. */
  readonly position: bigint;
  /** And one more, if a clear is to come: it is kept with them. */
  readonly entries: number;
  /** Bytes of its file. */
  readonly bytes: number;
  /** Unix milliseconds. */
  readonly startedMs: number;
  readonly finishedMs: number;
}

/** What the log of a cache has to say, beside answers. */
export type ScribeNotice =
  | LogNotice
  | { readonly kind: 'snapshot'; readonly snapshot: SnapshotSummary }
  /** The one before it is still there. It will be tried again. */
  | { readonly kind: 'snapshot-failed'; readonly cause: unknown }
  /** The thread that writes the log has died, and another one goes on. */
  | { readonly kind: 'restarted'; readonly cause: unknown }
  /** Nothing more gets into the log: what is not in it will be lost with the process. Reads go on. */
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
