/** What the errors of SQLite, and of its file, say about the next try. */
import type { ErrorClass } from './backend.ts';
import { classOfOwn, refusal } from './own-errors.ts';

/** By SQLite's primary result code. All others are transient. */
const CLASSES: Readonly<Record<number, ErrorClass>> = {
  1: 'halt', // no such table or column
  3: 'halt', // permission
  8: 'halt', // read-only
  11: 'halt', // damaged
  14: 'halt', // cannot be opened
  18: 'permanent', // too big
  19: 'permanent', // constraint
  20: 'permanent', // mismatch of types
  23: 'halt', // authorization
  26: 'halt', // not a database
};

/** better-sqlite3 has names instead of numbers. */
const NAMES: Readonly<Record<string, number>> = {
  SQLITE_ERROR: 1,
  SQLITE_PERM: 3,
  SQLITE_BUSY: 5,
  SQLITE_READONLY: 8,
  SQLITE_CORRUPT: 11,
  SQLITE_CANTOPEN: 14,
  SQLITE_TOOBIG: 18,
  SQLITE_CONSTRAINT: 19,
  SQLITE_MISMATCH: 20,
  SQLITE_AUTH: 23,
  SQLITE_NOTADB: 26,
};

const HALTING_FILES: ReadonlySet<unknown> = new Set([
  'EPERM',
  'ENOENT',
  'EACCES',
  'EEXIST',
  'ENOTDIR',
  'EISDIR',
  'EROFS',
]);

export function classifySqlite(error: unknown): ErrorClass {
  if (!(error instanceof Error)) return 'transient';
  const own = classOfOwn(error);
  if (own !== undefined) return own;
  const { code, errcode } = error as { code?: unknown; errcode?: unknown };
  if (HALTING_FILES.has(code)) return 'halt';
  // Extended codes have the primary one in their lowest byte, extended names at their beginning.
  const [name = ''] = /^SQLITE_[A-Z]+/.exec(String(code)) ?? [];
  const primary = typeof errcode === 'number' ? errcode & 0xff : NAMES[name];
  return (primary === undefined ? undefined : CLASSES[primary]) ?? 'transient';
}

/** Runs a statement that no change can be blamed for. `what`: the thing that the database would refuse. */
export function orRefusal<T>(what: string, run: () => T): T {
  try {
    return run();
  } catch (error) {
    throw classifySqlite(error) === 'permanent' ? refusal(what, error) : error;
  }
}
