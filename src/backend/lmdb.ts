/**
 * LMDB as a backend, transactional: one file on this machine, larger than memory if need be, without a server. The
 * operating system's page cache keeps what is read often; it is not part of the cache's memory limit.
 *
 * Reads work synchronously on the thread that makes them. Other processes may have the same file open, and another
 * writer is fenced off by the cursor as in any database.
 *
 * **A write** is decided on a snapshot: which rows go, which rows come, and whether the cursor may move. Then a
 * thread of Node's pool performs it, on the condition that the count of batches is still that of the snapshot. If
 * another batch was written since, the write is decided anew. No JavaScript runs inside the transaction: a thread that
 * Node ends there would leave LMDB's lock taken, and the end of the process would wait for it. The disk has a write
 * that is answered.
 *
 * **In the file** there are three databases: `entries` (row key -> row-bytes.ts), `cursors` (lane -> cursors.ts) and
 * `batches` (their count, a double). There are no dead letters: LMDB refuses no value, and a row
 * that holds no number gets the result of an addition.
 *
 * **Room.** The file grows with its rows and never shrinks; freed pages are used again. With a limit, pages in use are
 * counted before each batch. If the batch does not fit, `full` says what happens: `'refuse'` refuses it, until the
 * limit is raised; `'evict'` removes other rows in its transaction.
 */
import { closeSync, mkdirSync, openSync, readSync } from 'node:fs';
import { dirname } from 'node:path';
import { CairnError } from '../errors.ts';
import { type Rule, RuleSet } from '../rules/index.ts';
import type { Backend, Cursor, CursorMove, ErrorClass, Loaded, Row, WriteBatch, WriteOutcome } from './backend.ts';
import { decodeCursor, encodeCursor, mayMove, movesOf } from './cursors.ts';
import { alive, applied } from './dead-letters.ts';
import { loadDriver } from './driver.ts';
import { type NewestChanges, newestChanges } from './newest.ts';
import { classOfOwn } from './own-errors.ts';
import { decodeRow, encodeRow, expiryOf, keyOf, retime, versionOf } from './row-bytes.ts';
import { rowKeyOf } from './row-key.ts';
import { mayStillSweep, type SweepPiece, type Swept } from './sweep.ts';

export interface LmdbOptions {
  /** The file. Its folder is made if it is missing. */
  readonly path: string;
  /** Bytes of pages in use, about. Undefined: as much as the disk has. */
  readonly limitBytes?: number | undefined;
  readonly full?: 'refuse' | 'evict' | undefined;
  /** Unix milliseconds: which rows have expired. */
  readonly clock?: (() => number) | undefined;
  /** Which rows stay when they have expired. Default: none. */
  readonly rules?: readonly Rule[] | undefined;
}

/** What is used of the package lmdb. */
interface Snapshot {
  done(): void;
}
interface Table {
  get(key: Buffer, options?: { transaction: Snapshot }): Buffer | undefined;
  put(key: Buffer, value: Buffer): unknown;
  remove(key: Buffer): unknown;
  getRange(options: object): Iterable<{ key: Buffer; value: Buffer }>;
  getStats(): Readonly<Record<string, number>>;
  /** Writes what the callback puts and removes in one transaction, if the value begins with this double. */
  ifVersion(key: Buffer, version: number, write: () => void): Promise<boolean>;
  ifNoExists(key: Buffer, write: () => void): Promise<boolean>;
}
interface Root extends Table {
  openDB(name: string, options: object): Table;
  useReadTransaction(): Snapshot;
  resetReadTxn(): void;
  close(): Promise<void>;
}
interface Opened {
  readonly root: Root;
  readonly entries: Table;
  readonly cursors: Table;
  readonly batches: Table;
}

interface RowBytes {
  readonly key: Buffer;
  readonly bytes: Buffer;
}
/** What a transaction does, removes before puts. */
interface Plan {
  readonly kind: 'write';
  /** Of the cursors, in the order in which they are made. */
  readonly moves: readonly CursorMove[];
  /** How many batches the file has had. Undefined: none. */
  readonly count: number | undefined;
  readonly removes: readonly Buffer[];
  readonly puts: readonly RowBytes[];
}

/** Binary keys and values, compared byte by byte. */
const BINARY = { encoding: 'binary', keyEncoding: 'binary' };

/** The only key of `batches`. */
const COUNT: Buffer = Buffer.from('count');

/** Rows and bytes of a piece of a scan. */
const SCAN_ROWS = 256;
const SCAN_BYTES: number = 4 * 2 ** 20;

/** Rows that an eviction looks at at once; it removes the older half of them. */
const EVICTION_ROWS = 16;
/** An eviction makes this part of the limit free beyond the batch's need. */
const EVICTION_SHARE = 64;

/**
 * LMDB's numbers of damage, and of files that cannot be opened Node's names and the system's numbers, which the package
 * reports as codes.
 */
const HALTING: ReadonlySet<unknown> = new Set([
  ...[-30_797, -30_796, -30_795, -30_794, -30_793],
  ...['EPERM', 'ENOENT', 'EACCES', 'EEXIST', 'ENOTDIR', 'EISDIR', 'EROFS'],
  ...[1, 2, 13, 17, 20, 21, 30],
]);

export class LmdbBackend implements Backend {
  readonly name: string;
  readonly level = 'transactional';
  readonly #options: LmdbOptions;
  readonly #clock: () => number;
  readonly #rules: RuleSet;
  /** Of scans that are under way. */
  readonly #snapshots = new Set<Snapshot>();
  #opened: Opened | undefined;
  #closed: Promise<void> | undefined;
  /** Where the next eviction begins. */
  #hand: Buffer | undefined;

  constructor(options: LmdbOptions) {
    this.#options = options;
    this.name = `LMDB in ${options.path}`;
    this.#clock = options.clock ?? Date.now;
    this.#rules = new RuleSet(options.rules ?? []);
  }

  async open(): Promise<void> {
    if (this.#closed !== undefined) throw this.#refusal();
    if (this.#opened !== undefined) return;
    const { path } = this.#options;
    const { open } = (await loadDriver('LMDB', 'lmdb', 'lmdb@3')) as { open: (options: object) => Root };
    if (this.#closed !== undefined) throw this.#refusal();
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
    this.#opened = {
      root,
      entries: root.openDB('entries', BINARY),
      cursors: root.openDB('cursors', BINARY),
      batches: root.openDB('batches', BINARY),
    };
  }

  close(): Promise<void> {
    this.#closed ??= this.#end();
    return this.#closed;
  }

  async #end(): Promise<void> {
    for (const snapshot of this.#snapshots) snapshot.done();
    this.#snapshots.clear();
    await this.#opened?.root.close();
  }

  classify(error: unknown): ErrorClass {
    if (!(error instanceof Error)) return 'transient';
    const { code } = error as { code?: unknown };
    return classOfOwn(error) ?? (HALTING.has(code) ? 'halt' : 'transient');
  }

  async readCursors(): Promise<readonly Cursor[]> {
    return this.#reading((opened, snapshot) => cursorsIn(opened, snapshot));
  }

  async load(keys: readonly Buffer[]): Promise<Loaded> {
    const nowMs = this.#clock();
    return this.#reading((opened, transaction) => ({
      rows: keys.map((key) => {
        const bytes = opened.entries.get(rowKeyOf(key), { transaction });
        return bytes === undefined ? undefined : alive(decodeRow(bytes), nowMs);
      }),
      cursors: cursorsIn(opened, transaction),
    }));
  }

  async *scan(signal?: AbortSignal): AsyncGenerator<{ rows: readonly Row[]; cursors: readonly Cursor[] }> {
    signal?.throwIfAborted();
    const opened = this.#ready();
    const nowMs = this.#clock();
    const snapshot = snapshotOf(opened);
    this.#snapshots.add(snapshot);
    try {
      const cursors = cursorsIn(opened, snapshot);
      yield { rows: [], cursors };
      let last: Buffer | undefined;
      for (let isMore = true; isMore; ) {
        signal?.throwIfAborted();
        this.#ready();
        const rows: Row[] = [];
        let total = 0;
        isMore = false;
        for (const { key, value } of rangeFrom(opened, last, { transaction: snapshot, snapshot: true })) {
          last = Buffer.from(key);
          const row = alive(decodeRow(value), nowMs);
          if (row !== undefined) rows.push({ key: Buffer.from(keyOf(last, value)), ...row });
          total += value.length;
          isMore = rows.length === SCAN_ROWS || total >= SCAN_BYTES;
          if (isMore) break;
        }
        if (rows.length > 0) yield { rows, cursors };
      }
    } finally {
      if (this.#snapshots.delete(snapshot)) snapshot.done();
    }
  }

  async write(batch: WriteBatch): Promise<WriteOutcome> {
    const changes = newestChanges(batch.changes);
    const rows = changes.sets.map((change) => ({ key: rowKeyOf(change.key), bytes: encodeRow(change) }));
    for (;;) {
      const plan = this.#reading((opened, snapshot) => this.#plan(opened, snapshot, batch, changes, rows));
      if (plan.kind === 'moved') return plan;
      if (await perform(this.#ready(), plan)) return { kind: 'committed', deadLetters: [] };
    }
  }

  async sweep(piece: SweepPiece): Promise<Swept | undefined> {
    for (;;) {
      const found = this.#reading((opened, snapshot) => this.#sweepPlan(opened, snapshot, piece));
      if (found === undefined) return undefined;
      const { plan, place } = found;
      const removed = plan.removes.length;
      if (removed === 0 || (await perform(this.#ready(), plan))) return { removed, place };
    }
  }

  /** What a piece of a sweep removes of this state of the database; the cursor stays where it is. */
  #sweepPlan(opened: Opened, transaction: Snapshot, { at, expiredAtMs, place, rows }: SweepPiece) {
    if (!mayStillSweep(cursorsIn(opened, transaction), at)) return undefined;
    const removes: Buffer[] = [];
    let last: Buffer | undefined;
    let count = 0;
    const from = place?.after?.[0] as Buffer | undefined;
    for (const { key, value } of rangeFrom(opened, from, { transaction, limit: rows })) {
      last = Buffer.from(key);
      count++;
      const expiresMs = expiryOf(value);
      if (expiresMs !== 0 && expiresMs <= expiredAtMs && this.#rules.sweeps(keyOf(last, value))) removes.push(last);
    }
    const plan: Plan = {
      kind: 'write',
      moves: [],
      count: opened.batches.get(COUNT, { transaction })?.readDoubleLE(),
      removes,
      puts: [],
    };
    return { plan, place: count < rows ? undefined : { table: 0, after: [last] } };
  }

  /** What a batch does to this state of the database. */
  #plan(
    opened: Opened,
    transaction: Snapshot,
    batch: WriteBatch,
    { deletes, touches, adds }: NewestChanges,
    sets: readonly RowBytes[],
  ): Plan | (WriteOutcome & { kind: 'moved' }) {
    const { entries, batches } = opened;
    const cursor = mayMove(cursorsIn(opened, transaction), batch);
    if (!cursor.isFree) return { kind: 'moved', found: cursor.found };
    const removed = deletes.map(({ key }) => rowKeyOf(key));
    const added = adds.map((change): RowBytes => {
      const key = rowKeyOf(change.key);
      const bytes = entries.get(key, { transaction });
      const row = bytes === undefined ? undefined : decodeRow(bytes);
      return { key, bytes: encodeRow({ key: change.key, ...applied(row, change)! }) };
    });
    const rows = [...sets, ...added];
    const evicted = this.#evictedFor(opened, transaction, rows, removed);
    const touched = touches.flatMap(({ key, expiresWallMs, version }) => {
      const rowKey = rowKeyOf(key);
      const bytes = evicted.has(nameOf(rowKey)) ? undefined : entries.get(rowKey, { transaction });
      if (bytes === undefined) return [];
      const copy = Buffer.from(bytes);
      retime(copy, expiresWallMs, version);
      return [{ key: rowKey, bytes: copy }];
    });
    return {
      kind: 'write',
      moves: movesOf(batch),
      count: batches.get(COUNT, { transaction })?.readDoubleLE(),
      removes: [...removed, ...evicted.values()],
      puts: [...rows, ...touched],
    };
  }

  /** The rows that have to go so that the batch fits the limit, by name. Throws if it cannot. */
  #evictedFor(
    opened: Opened,
    transaction: Snapshot,
    rows: readonly RowBytes[],
    removed: readonly Buffer[],
  ): Map<string, Buffer> {
    const evicted = new Map<string, Buffer>();
    const { limitBytes, full = 'refuse' } = this.#options;
    if (limitBytes === undefined || rows.length === 0) return evicted;
    const { entries } = opened;
    const { pageSize = 4096, ...stats } = entries.getStats();
    const pages =
      (stats['treeBranchPageCount'] ?? 0) + (stats['treeLeafPageCount'] ?? 0) + (stats['overflowPages'] ?? 0);
    // Of values of more than half a page, whole pages are used.
    const hasPages = (bytes: Buffer): boolean => bytes.length >= pageSize / 2;
    const sizeOf = (bytes: Buffer): number =>
      hasPages(bytes) ? Math.ceil(bytes.length / pageSize) * pageSize : bytes.length;
    const needed = rows.reduce((total, { bytes }) => total + sizeOf(bytes), 0);
    let excess = pages * pageSize + needed - limitBytes;
    if (excess <= 0) return evicted;
    for (const key of removed) {
      const bytes = entries.get(key, { transaction });
      if (bytes !== undefined && hasPages(bytes)) excess -= sizeOf(bytes);
    }
    if (excess <= 0) return evicted;
    if (full === 'refuse' || needed > limitBytes) {
      throw new CairnError('ERR_BACKEND_FULL', `${this.name} is full: its limit is ${limitBytes} bytes`);
    }
    excess += limitBytes / EVICTION_SHARE;
    const gone = new Set(removed.map(nameOf));
    const nowMs = this.#clock();
    let isSecondRound = false;
    while (excess > 0) {
      const found: { key: Buffer; expired: boolean; version: bigint; bytes: number }[] = [];
      for (const { key, value } of rangeFrom(opened, this.#hand, { transaction })) {
        const name = nameOf(key);
        if (gone.has(name) || evicted.has(name)) continue;
        const expiresMs = expiryOf(value);
        const expired = expiresMs !== 0 && expiresMs <= nowMs;
        found.push({ key: Buffer.from(key), expired, version: versionOf(value), bytes: sizeOf(value) });
        if (found.length === EVICTION_ROWS) break;
      }
      this.#hand = found.length === EVICTION_ROWS ? found.at(-1)!.key : undefined;
      if (found.length === 0) {
        if (isSecondRound) break;
        isSecondRound = true;
        continue;
      }
      isSecondRound = false;
      const inOrder = found.sort((a, b) => Number(b.expired) - Number(a.expired) || (a.version < b.version ? -1 : 1));
      for (const { key, bytes } of inOrder.slice(0, Math.ceil(found.length / 2))) {
        evicted.set(nameOf(key), key);
        excess -= bytes;
      }
    }
    return evicted;
  }

  #reading<T>(read: (opened: Opened, snapshot: Snapshot) => T): T {
    const opened = this.#ready();
    const snapshot = snapshotOf(opened);
    try {
      return read(opened, snapshot);
    } finally {
      snapshot.done();
    }
  }

  #ready(): Opened {
    if (this.#closed !== undefined) throw this.#refusal();
    if (this.#opened === undefined) throw new CairnError('ERR_NOT_READY', `${this.name} has not been opened`);
    return this.#opened;
  }

  #refusal(): CairnError {
    return new CairnError('ERR_CLOSED', `${this.name} is closed`);
  }
}

function nameOf(rowKey: Buffer): string {
  return rowKey.toString('latin1');
}

/** False if another batch was written since the plan was made: then this one is not, in no part. */
async function perform({ entries, cursors, batches }: Opened, plan: Plan): Promise<boolean> {
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
function snapshotOf({ root }: Opened): Snapshot {
  root.resetReadTxn();
  return root.useReadTransaction();
}

/** All cursors, of a snapshot or of the transaction under way. */
function cursorsIn({ cursors }: Opened, transaction?: Snapshot): Cursor[] {
  const options = transaction === undefined ? {} : { transaction };
  return Array.from(cursors.getRange(options), ({ value }) => decodeCursor(value));
}

/** Rows in the order of their keys, behind one of them. */
function rangeFrom({ entries }: Opened, after: Buffer | undefined, options: object) {
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
