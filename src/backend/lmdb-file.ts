/**
 * The file of an LMDB backend: what is in it, and the one way in which a batch gets there.
 *
 * | Database  | Key                    | Value                                                 |
 * |-----------|------------------------|-------------------------------------------------------|
 * | `entries` | row key (row-key.ts)   | row-bytes.ts                                          |
 * | `cursors` | lane, 4 bytes          | cursors.ts                                            |
 * | `batches` | `count`                | how many batches the file has had, a double           |
 * | `history` | key and version        | history-bytes.ts; there only if a rule keeps history  |
 *
 * A batch is planned on a snapshot, and performed on the condition that the count of batches is still that of the
 * snapshot. No JavaScript runs inside the transaction: a thread that Node ends there would leave LMDB's lock taken, and
 * the end of the process would wait for it.
 */
import { closeSync, mkdirSync, openSync, readSync } from 'node:fs';
import { dirname } from 'node:path';
import { CairnError } from '../errors.ts';
import type { Cursor, CursorMove } from './backend.ts';
import { decodeCursor, encodeCursor } from './cursors.ts';

/** What is used of the package lmdb. */
export interface Snapshot {
  done(): void;
}
export interface Table {
  get(key: Buffer, options?: { transaction: Snapshot }): Buffer | undefined;
  put(key: Buffer, value: Buffer): unknown;
  remove(key: Buffer): unknown;
  getRange(options: object): Iterable<{ key: Buffer; value: Buffer }>;
  getStats(): Readonly<Record<string, number>>;
  /** Writes what the callback puts and removes in one transaction, if the value begins with this double. */
  ifVersion(key: Buffer, version: number, write: () => void): Promise<boolean>;
  ifNoExists(key: Buffer, write: () => void): Promise<boolean>;
}
export interface Root extends Table {
  openDB(name: string, options: object): Table;
  useReadTransaction(): Snapshot;
  resetReadTxn(): void;
  close(): Promise<void>;
}
export interface Opened {
  readonly root: Root;
  readonly entries: Table;
  readonly cursors: Table;
  readonly batches: Table;
  readonly history: Table | undefined;
}

export interface RowBytes {
  readonly key: Buffer;
  readonly bytes: Buffer;
}
/** What a transaction does, removes before puts. */
export interface Plan {
  readonly kind: 'write';
  /** Of the cursors, in the order in which they are made. */
  readonly moves: readonly CursorMove[];
  /** How many batches the file has had. Undefined: none. */
  readonly count: number | undefined;
  readonly removes: readonly Buffer[];
  readonly puts: readonly RowBytes[];
  /** Rows of history that are not there yet. */
  readonly history: readonly RowBytes[];
}

/** Binary keys and values, compared byte by byte. */
const BINARY = { encoding: 'binary', keyEncoding: 'binary' };

/** The only key of `batches`. */
const COUNT: Buffer = Buffer.from('count');

/** Makes the file, its folder and its databases, unless they are there. `open`: that of the package. */
export function openFile(open: (options: object) => Root, path: string, hasHistory: boolean): Opened {
  mkdirSync(dirname(path), { recursive: true, mode: 0o700 });
  // The package would make it readable for all.
  closeSync(openSync(path, 'a', 0o600));
  checkFile(path);
  // A commit returns when it is on the disk, and so is the batch.
  const root = open({
    ...BINARY,
    path,
    noSubdir: true,
    maxDbs: 4,
    overlappingSync: false,
    // A transaction begins when all of its batch is there, so it never waits for this thread.
    batchStartThreshold: Number.MAX_SAFE_INTEGER,
    // Otherwise the package makes promises that no caller gets, and if a commit fails, they end the process.
    eventTurnBatching: false,
  });
  return {
    root,
    entries: root.openDB('entries', BINARY),
    cursors: root.openDB('cursors', BINARY),
    batches: root.openDB('batches', BINARY),
    history: hasHistory ? root.openDB('history', BINARY) : undefined,
  };
}

export function nameOf(rowKey: Buffer): string {
  return rowKey.toString('latin1');
}

/** False if another batch was written since the plan was made: then this one is not, in no part. */
export async function perform({ entries, cursors, batches, history }: Opened, plan: Plan): Promise<boolean> {
  const { moves, count = 0, removes, puts } = plan;
  const next = Buffer.alloc(8);
  next.writeDoubleLE(count + 1);
  const write = (): void => {
    batches.put(COUNT, next);
    for (const { from, to } of moves) {
      if (to === undefined) cursors.remove(laneKey(from!));
      else cursors.put(laneKey(to), encodeCursor(to));
    }
    for (const key of removes) entries.remove(key);
    for (const { key, bytes } of puts) entries.put(key, bytes);
    for (const { key, bytes } of plan.history) history!.put(key, bytes);
  };
  try {
    return await (plan.count === undefined ? batches.ifNoExists(COUNT, write) : batches.ifVersion(COUNT, count, write));
  } catch (error) {
    // The package promises the reason beside the error.
    const { commitError } = error as { commitError?: Promise<never> };
    if (commitError !== undefined) await commitError;
    throw error;
  }
}

function laneKey({ lane }: Cursor): Buffer {
  const key = Buffer.alloc(4);
  key.writeUInt32BE(lane);
  return key;
}

/** The newest state of the database, until it is done. */
export function snapshotOf({ root }: Opened): Snapshot {
  root.resetReadTxn();
  return root.useReadTransaction();
}

export function cursorsIn({ cursors }: Opened, transaction: Snapshot): Cursor[] {
  return Array.from(cursors.getRange({ transaction }), ({ value }) => decodeCursor(value));
}

/** How many batches the file has had; undefined: none. */
export function countIn({ batches }: Opened, transaction: Snapshot): number | undefined {
  return batches.get(COUNT, { transaction })?.readDoubleLE();
}

/** Rows in the order of their keys, behind one of them. */
export function rangeFrom({ entries }: Opened, after: Buffer | undefined, options: object) {
  return entries.getRange(after === undefined ? options : { ...options, start: after, exclusiveStart: true });
}

/** LMDB ends the process over a file that is not its own, so this looks for its mark first. */
function checkFile(path: string): void {
  const file = openSync(path, 'r');
  try {
    const head = Buffer.alloc(32);
    const length = readSync(file, head, 0, head.length, 0);
    // Pages begin with 16 or 24 bytes of their own, depending on the version of the package.
    const isMarked = [16, 24].some((at) => length >= at + 4 && head.readUInt32LE(at) === 0xbeef_c0de);
    if (length > 0 && !isMarked) throw new CairnError('ERR_BACKEND_UNFIT', `${path} is not a file of LMDB`);
  } finally {
    closeSync(file);
  }
}
