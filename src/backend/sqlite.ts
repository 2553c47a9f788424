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
  AddedAgain,
  Backend,
  Change,
  Cursor,
  CursorMove,
  DeadLetter,
  DeadLetters,
  ErrorClass,
  HistoryRow,
  Loaded,
  Row,
  RowValue,
  WriteBatch,
  WriteOutcome,
} from './backend.ts';
import { mayMove, movesOf } from './cursors.ts';
import { additionOf, alive, GONE } from './dead-letters.ts';
import { type NewestChanges, newestChanges, onlyAddition, withResults } from './newest.ts';
import { refusal, unfit } from './own-errors.ts';
import { Routes, type TablePart } from './routes.ts';
import {
  CURSOR_COLUMNS,
  changeCells,
  cursorCells,
  rowValueOf,
  SCAN_ROWS,
  SCAN_VALUE_BYTES_MAX,
  VALUE_COLUMNS,
} from './sql-rows.ts';
import {
  loadSqlite,
  type OpenedSqlite,
  type OpenSqlite,
  type SqliteCell,
  type SqliteDatabase,
  withStatements,
} from './sqlite-driver.ts';
import { classifySqlite, orRefusal } from './sqlite-errors.ts';
import { cellsOf, cursorIn, SqliteLetters } from './sqlite-letters.ts';
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
  /** How many lanes write at the same time: here, one after another. Default 1. */
  readonly lanes?: number | undefined;
  /** Which package is used; default: the first that is there. */
  readonly load?: (() => Promise<OpenSqlite>) | undefined;
}

const VALUE_NAMES = VALUE_COLUMNS.split(', ');

export class SqliteBackend implements Backend {
  readonly name: string;
  readonly level = 'transactional';
  readonly deadLetters: DeadLetters = {
    list: async (limit, after = 0n) => this.#letters.list(this.#ready(), limit, after),
    oldestOf: async (keys) => this.#letters.oldestOf(this.#ready(), keys),
    drop: async (ids) => {
      const opened = this.#ready();
      return this.#inTransaction(opened, 'BEGIN IMMEDIATE', () => this.#letters.drop(opened, ids));
    },
    addAgain: async (id) => {
      const opened = this.#ready();
      return this.#inTransaction(opened, 'BEGIN IMMEDIATE', () => this.#addAgain(opened, id));
    },
  };
  readonly #options: SqliteOptions;
  readonly #clock: () => number;
  readonly #rules: RuleSet;
  #tables: SqliteTableNames;
  #letters: SqliteLetters;
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
    this.#letters = new SqliteLetters(this.#tables.letters);
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
      if (readsOnly) {
        this.#tables = readableSqliteTables(database, this.#tables);
        this.#letters = new SqliteLetters(this.#tables.letters);
      } else {
        database.exec('PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL');
        makeSqliteTables(database, this.#tables, this.#rules.hasHistory);
      }
      const opened = withStatements(database);
      this.#routes = new Routes(
        this.#rules,
        sqliteEntries(this.#tables.entries),
        await openOwnTables(opened, { rules: this.#rules, readsOnly, lanes: this.#options.lanes ?? 1 }),
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
    return classifySqlite(error);
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
          const isStray = this.#routes.ownOf(name) !== undefined && !this.#letters.has(opened, name);
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
            return isMine && !this.#letters.has(opened, row.key);
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
        if (expiresWallMs === 0 || expiresWallMs > expiredAtMs || this.#letters.has(opened, key)) continue;
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
      opened.database.exec('SAVEPOINT changes; SAVEPOINT batch');
      const hasLetters = this.#letters.areThere(opened);
      const changes = hasLetters ? withResults(newest, (key) => this.#letters.cover(opened, key)) : newest;
      const { parts, misfits } = this.#routes.split(changes);
      const deadLetters = this.#applyAll(opened, changes, parts, misfits);
      if (hasLetters) this.#letters.settle(opened, changes);
      for (const letter of deadLetters) this.#letters.add(opened, letter, batch.to);
      for (const row of batch.history ?? []) this.#addHistory(opened, row);
      return { kind: 'committed', deadLetters };
    });
  }

  #addAgain(opened: OpenedSqlite, id: bigint): AddedAgain {
    const change = additionOf(this.#letters.list(opened, 1, id - 1n)[0], id);
    if (change === undefined) return GONE;
    opened.database.exec('SAVEPOINT batch');
    const { parts, misfits } = this.#routes.split(onlyAddition(change));
    const [refused] = [...misfits, ...this.#apply(opened, parts)];
    if (refused !== undefined) return { outcome: 'refused', reason: refused.error.message };
    this.#letters.drop(opened, [id]);
    return { outcome: 'added', reason: undefined };
  }

  /** REQUIRES: the cursor is where the move begins. */
  #move(opened: OpenedSqlite, { from, to }: CursorMove): void {
    if (to === undefined) opened.prepare(`DELETE FROM ${this.#tables.cursors} WHERE lane = ?`).run(from!.lane);
    else {
      const cells = [...cursorCells(to), this.#clock()];
      opened
        .prepare(
          `INSERT OR REPLACE INTO ${this.#tables.cursors} (${CURSOR_COLUMNS}, moved_ms) VALUES (${cells.map(() => '?')})`,
        )
        .run(...cells);
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

  /** Of a change that is put aside too: the cache has acknowledged it. */
  #addHistory(opened: OpenedSqlite, row: HistoryRow): void {
    const add = opened.prepare(
      `INSERT INTO ${this.#tables.history} (key, ${VALUE_COLUMNS}, kind, logged_ms) VALUES (?, ?, ?, ?, ?, ?, ?, ?)
      ON CONFLICT (key, version) DO NOTHING`,
    );
    orRefusal('a row of history', () => add.run(row.key, ...changeCells(row), row.kind, row.loggedWallMs));
  }

  #rowOf(opened: OpenedSqlite, key: Buffer): RowValue | undefined {
    const own = this.#routes.ownOf(key);
    const row = own === undefined ? this.#entryOf(opened, key) : own.load(opened, key);
    return alive(this.#letters.appliedTo(row, opened, key), this.#clock());
  }

  #entryOf(opened: OpenedSqlite, key: Buffer): RowValue | undefined {
    const [found] = opened.prepare(`SELECT ${VALUE_COLUMNS} FROM ${this.#tables.entries} WHERE key = ?`).all(key);
    return found === undefined ? undefined : rowValueOf(cellsOf(found, VALUE_NAMES));
  }

  #cursorsIn(opened: OpenedSqlite): Cursor[] {
    return opened.prepare(`SELECT ${CURSOR_COLUMNS} FROM ${this.#tables.cursors} ORDER BY lane`).all().map(cursorIn);
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
