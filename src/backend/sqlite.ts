/**
 * SQLite as a backend, transactional: tables in a file of this machine, which other programs can read. The file is in
 * WAL mode, and a commit returns when the disk has it.
 *
 * All calls work synchronously on the thread that makes them. A scan has another connection, so that a write may
 * come between two of its pieces.
 *
 * A statement that SQLite refuses leaves the transaction as it was before. So a change that is refused for good goes
 * into the table of dead letters at once, and the batch goes on.
 */
import { closeSync, existsSync, mkdirSync, openSync } from 'node:fs';
import { dirname } from 'node:path';
import { CairnError } from '../errors.ts';
import { type Rule, RuleSet } from '../rules/index.ts';
import { AtomicLetters } from './atomic-letters.ts';
import type {
  Backend,
  Change,
  Cursor,
  CursorMove,
  DeadLetter,
  DeadLetters,
  ErrorClass,
  HistoryRow,
  KeptDeadLetter,
  Loaded,
  Row,
  RowValue,
  WriteBatch,
  WriteOutcome,
} from './backend.ts';
import { mayMove, movesOf } from './cursors.ts';
import { alive, applied } from './dead-letters.ts';
import { type NewestChanges, newestChanges, withResults } from './newest.ts';
import { classOfOwn, refusal, unfit } from './own-errors.ts';
import { Routes, type TablePart } from './routes.ts';
import {
  CURSOR_COLUMNS,
  changeCells,
  changeOf,
  cursorCells,
  cursorOf,
  LETTER_COLUMNS,
  letterCells,
  rowValueOf,
  SCAN_ROWS,
  SCAN_VALUE_BYTES_MAX,
  signed,
  VALUE_COLUMNS,
} from './sql-rows.ts';
import {
  loadSqlite,
  type OpenedSqlite,
  type OpenSqlite,
  type SqliteCell,
  type SqliteDatabase,
  type SqliteRow,
  withStatements,
} from './sqlite-driver.ts';
import { openOwnTables, type SqliteOwnTable } from './sqlite-own-tables.ts';
import {
  makeSqliteTables,
  readableSqliteTables,
  type SqliteTable,
  type SqliteTableNames,
  sqliteEntries,
  sqliteNames,
} from './sqlite-tables.ts';
import { mayStillSweep, type SweepPiece, type Swept, type SweptPage } from './sweep.ts';

export interface SqliteOptions {
  /** The file. Its folder is made if it is missing. */
  readonly path: string;
  /** What the names of the tables begin with. Default: `cairn_`. */
  readonly prefix?: string | undefined;
  /** How long a call waits for another program's transaction. Default 5 s. */
  readonly busyTimeoutMs?: number | undefined;
  /** Unix milliseconds: which rows have expired. */
  readonly clock?: (() => number) | undefined;
  /** Which rows stay when they have expired. Default: none. */
  readonly rules?: readonly Rule[] | undefined;
  /** Nothing is written: the file is there, and tables that are missing are as empty ones. */
  readonly readsOnly?: boolean | undefined;
  /** Which package is used; default: the first that is there. */
  readonly load?: (() => Promise<OpenSqlite>) | undefined;
}

const CURSOR_NAMES = CURSOR_COLUMNS.split(', ');
const VALUE_NAMES = VALUE_COLUMNS.split(', ');
const LETTER_NAMES = LETTER_COLUMNS.split(', ');

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

export class SqliteBackend implements Backend {
  readonly name: string;
  readonly level = 'transactional';
  readonly deadLetters: DeadLetters = {
    list: async (limit, after = 0n) => this.#listDeadLetters(limit, after),
    drop: async (ids) => this.#dropDeadLetters(ids),
  };
  readonly #options: SqliteOptions;
  readonly #clock: () => number;
  readonly #rules: RuleSet;
  #tables: SqliteTableNames;
  /** Which table has which rows. */
  #routes: Routes<SqliteOwnTable, SqliteTable>;
  readonly #scans = new Set<SqliteDatabase>();
  #connect: OpenSqlite | undefined;
  #opened: OpenedSqlite | undefined;
  #isClosed = false;

  constructor(options: SqliteOptions) {
    const { prefix = 'cairn_' } = options;
    this.#options = options;
    this.name = `SQLite in ${options.path}`;
    this.#clock = options.clock ?? Date.now;
    this.#rules = new RuleSet(options.rules ?? []);
    this.#tables = sqliteNames(prefix);
    this.#routes = new Routes(this.#rules, sqliteEntries(this.#tables.entries), []);
  }

  async open(): Promise<void> {
    this.#refuseIfClosed();
    if (this.#opened !== undefined) return;
    const connect = await (this.#options.load ?? loadSqlite)();
    this.#refuseIfClosed();
    const { path, readsOnly = false } = this.#options;
    if (readsOnly) {
      if (!existsSync(path)) throw unfit([`there is no file ${path}`]);
    } else {
      mkdirSync(dirname(path), { recursive: true, mode: 0o700 });
      // SQLite would make it readable for all.
      closeSync(openSync(path, 'a', 0o600));
    }
    this.#connect = connect;
    const database = this.#openOne();
    try {
      if (readsOnly) this.#tables = readableSqliteTables(database, this.#tables);
      else {
        database.exec('PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL');
        makeSqliteTables(database, this.#tables, this.#rules.hasHistory);
      }
      const opened = withStatements(database);
      this.#routes = new Routes(
        this.#rules,
        sqliteEntries(this.#tables.entries),
        await openOwnTables(opened, { rules: this.#rules, readsOnly }),
      );
      this.#refuseIfClosed();
      this.#opened = opened;
    } catch (error) {
      database.close();
      throw error;
    }
  }

  #openOne(): SqliteDatabase {
    const database = this.#connect!(this.#options.path);
    const { busyTimeoutMs = 5_000, readsOnly = false } = this.#options;
    database.exec(`PRAGMA busy_timeout = ${busyTimeoutMs}${readsOnly ? '; PRAGMA query_only = ON' : ''}`);
    return database;
  }

  async close(): Promise<void> {
    if (this.#isClosed) return;
    this.#isClosed = true;
    for (const database of this.#scans) database.close();
    this.#scans.clear();
    this.#opened?.database.close();
  }

  classify(error: unknown): ErrorClass {
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

  async readCursors(): Promise<readonly Cursor[]> {
    return this.#cursorsIn(this.#ready());
  }

  async load(keys: readonly Buffer[]): Promise<Loaded> {
    const opened = this.#ready();
    return this.#inTransaction(opened, 'BEGIN', () => ({
      rows: keys.map((key) => this.#rowOf(opened, key)),
      cursors: this.#cursorsIn(opened),
    }));
  }

  async *scan(signal?: AbortSignal): AsyncGenerator<{ rows: readonly Row[]; cursors: readonly Cursor[] }> {
    signal?.throwIfAborted();
    this.#ready();
    const database = this.#openOne();
    this.#scans.add(database);
    const opened = withStatements(database);
    try {
      database.exec('BEGIN');
      const cursors = this.#cursorsIn(opened);
      yield { rows: [], cursors };
      this.#refuseIfClosed();
      // Rows with dead letters come as a load gives them, also those that exist by their dead letter only.
      const page = database.prepare(`SELECT key, length(value) AS bytes FROM ${this.#tables.entries} WHERE key > ?
        UNION SELECT key, 0 FROM ${this.#tables.letters} WHERE superseded = 0 AND key > ? ORDER BY key LIMIT ${SCAN_ROWS}`);
      for (let last: Buffer = Buffer.alloc(0), isMore = true; isMore; ) {
        signal?.throwIfAborted();
        const found = page.all(last, last);
        isMore = found.length === SCAN_ROWS;
        const rows: Row[] = [];
        for (const { key, bytes } of found) {
          const name = key as Buffer;
          const isRepeated = name.equals(last);
          last = name;
          // Of a key of the user's own tables, a row is left from before its rule, unless it is a dead letter.
          const isStray = this.#routes.ownOf(name) !== undefined && !this.#hasDeadLetter(opened, name);
          const row = isRepeated || isStray ? undefined : this.#rowOf(opened, name);
          if (row === undefined) continue;
          if (Number(bytes) <= SCAN_VALUE_BYTES_MAX) rows.push({ key: name, ...row });
          else {
            yield { rows: [{ key: name, ...row }], cursors };
            this.#refuseIfClosed();
          }
        }
        if (rows.length > 0) yield { rows, cursors };
        this.#refuseIfClosed();
      }
      for (const table of this.#routes.own) {
        for (let after: readonly SqliteCell[] | undefined, isMore = true; isMore; ) {
          signal?.throwIfAborted();
          const found = table.rowsBehind(opened, after, SCAN_ROWS);
          after = found.last;
          isMore = after !== undefined;
          const rows = found.rows.filter((row) => {
            // A key with a longer prefix has another rule, and those with dead letters have been.
            const isMine = this.#routes.ownOf(row.key) === table && alive(row, this.#clock()) !== undefined;
            return isMine && !this.#hasDeadLetter(opened, row.key);
          });
          if (rows.length > 0) yield { rows, cursors };
          this.#refuseIfClosed();
        }
      }
    } finally {
      if (this.#scans.delete(database)) database.close();
    }
  }

  async sweep({ at, expiredAtMs, place, rows }: SweepPiece): Promise<Swept | undefined> {
    const opened = this.#ready();
    return this.#inTransaction(opened, 'BEGIN IMMEDIATE', () => {
      if (!mayStillSweep(this.#cursorsIn(opened), at)) return undefined;
      const { table: index, after } = place ?? { table: 0, after: undefined };
      const tables = [undefined, ...this.#routes.own.filter(({ rows: { plan } }) => plan.rule.deleteOnExpire)];
      const table = tables[index];
      const page = table === undefined ? this.#page(opened, after, rows) : table.page(opened, after, rows);
      let removed = 0;
      for (const { key, expiresWallMs } of page.rows) {
        if (expiresWallMs === 0 || expiresWallMs > expiredAtMs || this.#hasDeadLetter(opened, key)) continue;
        if (this.#removeIfAllowed(opened, key, expiredAtMs, table)) removed++;
      }
      if (page.last !== undefined) return { removed, place: { table: index, after: page.last } };
      return { removed, place: index + 1 < tables.length ? { table: index + 1, after: undefined } : undefined };
    });
  }

  /** What a sweep looks at in the table of entries. */
  #page(opened: OpenedSqlite, after: readonly unknown[] | undefined, rows: number): SweptPage {
    const [last = Buffer.alloc(0)] = (after ?? []) as readonly Buffer[];
    const found = opened
      .prepare(`SELECT key, expires_ms FROM ${this.#tables.entries} WHERE key > ? ORDER BY key LIMIT ?`)
      .all(last, rows);
    return {
      rows: found
        .map(({ key, expires_ms: expiresMs }) => ({ key: key as Buffer, expiresWallMs: Number(expiresMs) }))
        .filter(({ key }) => this.#rules.sweeps(key)),
      last: found.length < rows ? undefined : [found.at(-1)!['key']],
    };
  }

  #hasDeadLetter(opened: OpenedSqlite, key: Buffer): boolean {
    const live = `SELECT 1 FROM ${this.#tables.letters} WHERE superseded = 0 AND key = ? LIMIT 1`;
    return opened.prepare(live).all(key).length > 0;
  }

  // A trigger or another row may refuse: SQLite undoes the one statement then.
  #removeIfAllowed(opened: OpenedSqlite, key: Buffer, expiredAtMs: number, table: SqliteOwnTable | undefined): boolean {
    try {
      if (table !== undefined) return table.removeExpired(opened, key, expiredAtMs);
      opened.prepare(`DELETE FROM ${this.#tables.entries} WHERE key = ?`).run(key);
      return true;
    } catch (error) {
      if (this.classify(error) !== 'permanent') throw error;
      return false;
    }
  }

  async write(batch: WriteBatch): Promise<WriteOutcome> {
    const opened = this.#ready();
    const newest = newestChanges(batch.changes);
    return this.#inTransaction(opened, 'BEGIN IMMEDIATE', (): WriteOutcome => {
      const cursor = mayMove(this.#cursorsIn(opened), batch);
      if (!cursor.isFree) return { kind: 'moved', found: cursor.found };
      for (const move of movesOf(batch)) this.#move(opened, move);
      const cells = cursorCells(batch.to);
      opened.database.exec('SAVEPOINT changes; SAVEPOINT batch');
      const [live] = opened.prepare(`SELECT 1 FROM ${this.#tables.letters} WHERE superseded = 0 LIMIT 1`).all();
      const changes = live === undefined ? newest : withResults(newest, (key) => this.#isCovered(opened, key));
      const { parts, misfits } = this.#routes.split(changes);
      const deadLetters = this.#applyAll(opened, changes, parts, misfits);
      if (live !== undefined) this.#settle(opened, changes);
      for (const { change, error } of deadLetters) this.#addDeadLetter(opened, change, error, cells);
      for (const row of batch.history ?? []) this.#addHistory(opened, row);
      return { kind: 'committed', deadLetters };
    });
  }

  /** REQUIRES: the cursor is where the move begins. */
  #move(opened: OpenedSqlite, { from, to }: CursorMove): void {
    if (to === undefined) opened.prepare(`DELETE FROM ${this.#tables.cursors} WHERE lane = ?`).run(from!.lane);
    else {
      opened
        .prepare(
          `INSERT OR REPLACE INTO ${this.#tables.cursors} (${CURSOR_COLUMNS}, moved_ms) VALUES (?, ?, ?, ?, ?, ?, ?)`,
        )
        .run(...cursorCells(to), this.#clock());
    }
  }

  /** The changes without those that are put aside, which it returns. */
  #applyAll(
    opened: OpenedSqlite,
    changes: NewestChanges,
    parts: readonly TablePart<SqliteTable>[],
    misfits: readonly DeadLetter[],
  ): DeadLetter[] {
    const atomic = new AtomicLetters();
    atomic.learn(misfits);
    const alone = misfits.filter(({ change }) => !atomic.isOut(change));
    for (;;) {
      const applied = parts.map((part) => ({ ...part, changes: atomic.without(part.changes) }));
      const deadLetters = this.#apply(opened, applied);
      if (!atomic.learn(deadLetters)) return [...alone, ...deadLetters, ...atomic.of(changes)];
      opened.database.exec('ROLLBACK TO changes; SAVEPOINT batch');
    }
  }

  /**
   * A table whose rows refer to those of another stands behind it: rows are removed from the last table on, and set
   * from the first on.
   */
  #apply(opened: OpenedSqlite, parts: readonly TablePart<SqliteTable>[]): DeadLetter[] {
    const deadLetters: DeadLetter[] = [];
    const attempt = (change: Change, run: () => unknown): void => {
      try {
        const error = run();
        if (error instanceof Error) deadLetters.push({ change, error });
      } catch (error) {
        if (this.classify(error) !== 'permanent') throw error;
        // A trigger may have rolled back all of the transaction: then there is no such savepoint, and this throws.
        opened.database.exec('RELEASE batch; SAVEPOINT batch');
        deadLetters.push({ change, error: error as Error });
      }
    };
    for (const { table, changes } of parts.toReversed()) {
      for (const change of changes.deletes) attempt(change, () => table.remove(opened, change));
    }
    for (const { table, changes } of parts) {
      for (const change of changes.sets) attempt(change, () => table.set(opened, change));
      for (const change of changes.touches) attempt(change, () => table.touch(opened, change));
      for (const change of changes.adds) attempt(change, () => table.add(opened, change));
    }
    return deadLetters;
  }

  /** Whether a set or a delete of the key is put aside. */
  #isCovered(opened: OpenedSqlite, key: Buffer): boolean {
    const command = `SELECT 1 FROM ${this.#tables.letters} WHERE superseded = 0 AND kind IN ('set', 'delete') AND key = ? LIMIT 1`;
    return opened.prepare(command).all(key).length > 0;
  }

  /** Tells earlier dead letters of the keys that these changes are newer. */
  #settle(opened: OpenedSqlite, { deletes, sets, touches, adds }: NewestChanges): void {
    const command = `UPDATE ${this.#tables.letters} SET superseded = 1 WHERE superseded = 0 AND key = ?`;
    for (const { key } of [...deletes, ...sets]) opened.prepare(command).run(key);
    for (const { key, expiresWallMs, version } of [...touches, ...adds]) {
      opened.prepare(`${command} AND kind = 'touch'`).run(key);
      opened
        .prepare(
          `UPDATE ${this.#tables.letters} SET expires_ms = ?, version = ? WHERE superseded = 0 AND kind IN ('set', 'add') AND key = ?`,
        )
        .run(expiresWallMs, signed(version), key);
    }
  }

  #addDeadLetter(opened: OpenedSqlite, change: Change, error: Error, cursor: readonly SqliteCell[]): void {
    const columns = `kind, key, ${LETTER_COLUMNS}, error, error_code, ${CURSOR_COLUMNS}, added_ms`;
    const cells: SqliteCell[] = [
      change.kind,
      change.key,
      ...letterCells(change),
      error.message,
      String((error as { code?: unknown }).code),
      ...cursor,
      Date.now(),
    ];
    const add = opened.prepare(`INSERT INTO ${this.#tables.letters} (${columns}) VALUES (${cells.map(() => '?')})`);
    this.#orRefusal('a dead letter', () => add.run(...cells));
  }

  /** Of a change that is put aside too: the cache has acknowledged it. */
  #addHistory(opened: OpenedSqlite, row: HistoryRow): void {
    const add = opened.prepare(
      `INSERT INTO ${this.#tables.history} (key, ${VALUE_COLUMNS}, kind, logged_ms) VALUES (?, ?, ?, ?, ?, ?, ?, ?)
      ON CONFLICT (key, version) DO NOTHING`,
    );
    this.#orRefusal('a row of history', () => add.run(row.key, ...changeCells(row), row.kind, row.loggedWallMs));
  }

  #orRefusal(what: string, run: () => unknown): void {
    try {
      run();
    } catch (error) {
      throw this.classify(error) === 'permanent' ? refusal(what, error) : error;
    }
  }

  #rowOf(opened: OpenedSqlite, key: Buffer): RowValue | undefined {
    const own = this.#routes.ownOf(key);
    const letters = opened
      .prepare(
        `SELECT kind, key, ${LETTER_COLUMNS} FROM ${this.#tables.letters} WHERE superseded = 0 AND key = ? ORDER BY id`,
      )
      .all(key);
    let row = own === undefined ? this.#entryOf(opened, key) : own.load(opened, key);
    for (const letter of letters) row = applied(row, letterIn(letter));
    return alive(row, this.#clock());
  }

  #entryOf(opened: OpenedSqlite, key: Buffer): RowValue | undefined {
    const [found] = opened.prepare(`SELECT ${VALUE_COLUMNS} FROM ${this.#tables.entries} WHERE key = ?`).all(key);
    return found === undefined ? undefined : rowValueOf(cellsOf(found, VALUE_NAMES));
  }

  #cursorsIn(opened: OpenedSqlite): Cursor[] {
    return opened.prepare(`SELECT ${CURSOR_COLUMNS} FROM ${this.#tables.cursors} ORDER BY lane`).all().map(cursorIn);
  }

  #listDeadLetters(limit: number, after: bigint): readonly KeptDeadLetter[] {
    const found = this.#ready()
      .prepare(`SELECT * FROM ${this.#tables.letters} WHERE id > ? ORDER BY id LIMIT ?`)
      .all(after, limit);
    return found.map((row) => ({
      id: row['id'] as bigint,
      change: letterIn(row),
      error: row['error'] as string,
      errorCode: (row['error_code'] as string | null) ?? undefined,
      cursor: cursorIn(row),
      addedWallMs: Number(row['added_ms']),
      isSuperseded: row['superseded'] !== 0n,
    }));
  }

  #dropDeadLetters(ids: readonly bigint[]): number {
    const opened = this.#ready();
    const drop = opened.prepare(`DELETE FROM ${this.#tables.letters} WHERE id = ?`);
    return this.#inTransaction(opened, 'BEGIN IMMEDIATE', () =>
      ids.reduce((count, id) => count + Number(drop.run(id).changes), 0),
    );
  }

  #inTransaction<T>({ database }: OpenedSqlite, begin: string, work: () => T): T {
    database.exec(begin);
    try {
      const result = work();
      database.exec('COMMIT');
      return result;
    } catch (error) {
      try {
        database.exec('ROLLBACK');
      } catch {
        // SQLite has ended the transaction itself; the first error says why.
      }
      // A constraint that is checked at COMMIT names no change.
      throw this.classify(error) === 'permanent' ? refusal('a batch as a whole', error) : error;
    }
  }

  #ready(): OpenedSqlite {
    this.#refuseIfClosed();
    if (this.#opened === undefined) throw new CairnError('ERR_NOT_READY', `${this.name} has not been opened`);
    return this.#opened;
  }

  #refuseIfClosed(): void {
    if (this.#isClosed) throw new CairnError('ERR_CLOSED', `${this.name} is closed`);
  }
}

/** The cells of some columns of a row, in their order. */
function cellsOf(row: SqliteRow, columns: readonly string[]): (SqliteCell | undefined)[] {
  return columns.map((column) => row[column]);
}

function cursorIn(row: SqliteRow): Cursor {
  return cursorOf(cellsOf(row, CURSOR_NAMES));
}

function letterIn(row: SqliteRow): Change {
  return changeOf(row['kind'] as string, row['key'] as Buffer, cellsOf(row, LETTER_NAMES));
}
