/**
 * LMDB as a backend, transactional: one file on this machine, larger than memory if need be, without a server. The
 * operating system's page cache keeps what is read often; it is not part of the cache's memory limit.
 *
 * Reads work synchronously on the thread that makes them. Other processes may have the same file open, and another
 * writer is fenced off by the cursor as in any database.
 *
 * **A write** is decided on a snapshot: which rows go, which rows come, and whether the cursor may move. Then a
 * thread of Node's pool performs it, on the condition that no other batch was written since; otherwise the write is
 * decided anew (lmdb-file.ts, which also says what is in the file). The disk has a write that is answered. There are no
 * dead letters: LMDB refuses no value, and a row that holds no number gets the result of an addition.
 *
 * **Room.** The file grows with its rows and never shrinks; freed pages are used again. lmdb-room.ts keeps it within a
 * limit.
 */
import { CairnError } from '../errors.ts';
import { type Rule, RuleSet } from '../rules/index.ts';
import type { Backend, Cursor, ErrorClass, HistoryRow, Loaded, Row, WriteBatch, WriteOutcome } from './backend.ts';
import { mayMove, movesOf } from './cursors.ts';
import { alive, applied } from './dead-letters.ts';
import { loadDriver } from './driver.ts';
import { encodeHistory, historyKeyOf } from './history-bytes.ts';
import {
  countIn,
  cursorsIn,
  nameOf,
  type Opened,
  openFile,
  type Plan,
  perform,
  type Root,
  type RowBytes,
  rangeFrom,
  type Snapshot,
  snapshotOf,
} from './lmdb-file.ts';
import { LmdbRoom } from './lmdb-room.ts';
import { type NewestChanges, newestChanges } from './newest.ts';
import { classOfOwn, unfit } from './own-errors.ts';
import { decodeRow, encodeRow, expiryOf, keyOf, retime } from './row-bytes.ts';
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
  /** Which rows stay when they have expired, and of which keys every write is kept. Default: none. */
  readonly rules?: readonly Rule[] | undefined;
}

/** Rows and bytes of a piece of a scan. */
const SCAN_ROWS = 256;
const SCAN_BYTES: number = 4 * 2 ** 20;

const NONE_EVICTED: ReadonlyMap<string, Buffer> = new Map();

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
  /** Undefined: there is no limit. */
  readonly #room: LmdbRoom | undefined;
  /** Of scans that are under way. */
  readonly #snapshots = new Set<Snapshot>();
  #opened: Opened | undefined;
  #closed: Promise<void> | undefined;

  constructor(options: LmdbOptions) {
    this.#options = options;
    this.name = `LMDB in ${options.path}`;
    this.#clock = options.clock ?? Date.now;
    this.#rules = new RuleSet(options.rules ?? []);
    const { limitBytes, full = 'refuse' } = options;
    this.#room =
      limitBytes === undefined ? undefined : new LmdbRoom({ name: this.name, limitBytes, full, clock: this.#clock });
  }

  async open(): Promise<void> {
    if (this.#closed !== undefined) throw this.#refusal();
    if (this.#opened !== undefined) return;
    const { path } = this.#options;
    const { open } = (await loadDriver('LMDB', 'lmdb', 'lmdb@3')) as { open: (options: object) => Root };
    if (this.#closed !== undefined) throw this.#refusal();
    this.#opened = openFile(open, path, this.#rules.hasHistory);
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
      count: countIn(opened, transaction),
      removes,
      puts: [],
      history: [],
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
    const { entries } = opened;
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
    const history = this.#missingIn(opened, transaction, batch.history ?? []);
    const evicted = this.#room?.evictedFor({ opened, transaction, rows, removed, history }) ?? NONE_EVICTED;
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
      count: countIn(opened, transaction),
      removes: [...removed, ...evicted.values()],
      puts: [...rows, ...touched],
      history,
    };
  }

  /** The rows of history that are not there: the log may have a record twice, also in one batch. */
  #missingIn({ history }: Opened, transaction: Snapshot, rows: readonly HistoryRow[]): readonly RowBytes[] {
    if (rows.length === 0) return [];
    if (history === undefined) throw unfit([`${this.name} was opened without a rule that keeps history`]);
    const missing = new Map<string, RowBytes>();
    for (const row of rows) {
      const key = historyKeyOf(row);
      const name = nameOf(key);
      if (missing.has(name) || history.get(key, { transaction }) !== undefined) continue;
      missing.set(name, { key, bytes: encodeHistory(row) });
    }
    return [...missing.values()];
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
