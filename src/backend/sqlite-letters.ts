/** The table of dead letters in SQLite. */
import type { Change, Cursor, CursorPlace, DeadLetter, KeptDeadLetter, RefusedKey, RowValue } from './backend.ts';
import { applied, LETTERS_PIECE } from './dead-letters.ts';
import type { NewestChanges } from './newest.ts';
import {
  CURSOR_COLUMNS,
  changeOf,
  cursorOf,
  LETTER_COLUMNS,
  letterCells,
  PLACE_COLUMNS,
  placeCells,
  placeOf,
  signed,
} from './sql-rows.ts';
import type { OpenedSqlite, SqliteCell, SqliteRow } from './sqlite-driver.ts';
import { orRefusal } from './sqlite-errors.ts';

const CURSOR_NAMES = CURSOR_COLUMNS.split(', ');
const PLACE_NAMES = PLACE_COLUMNS.split(', ');
const LETTER_NAMES = LETTER_COLUMNS.split(', ');

export class SqliteLetters {
  readonly #table: string;

  constructor(table: string) {
    this.#table = table;
  }

  /** Whether a later change may have to settle any. */
  areThere({ prepare }: OpenedSqlite): boolean {
    return prepare(`SELECT 1 FROM ${this.#table} WHERE superseded = 0 LIMIT 1`).all().length > 0;
  }

  /** Whether the key has one. */
  has({ prepare }: OpenedSqlite, key: Buffer): boolean {
    return prepare(`SELECT 1 FROM ${this.#table} WHERE superseded = 0 AND key = ? LIMIT 1`).all(key).length > 0;
  }

  /** Whether a set or a delete of the key is put aside. */
  cover({ prepare }: OpenedSqlite, key: Buffer): boolean {
    const command = `SELECT 1 FROM ${this.#table} WHERE superseded = 0 AND kind IN ('set', 'delete') AND key = ? LIMIT 1`;
    return prepare(command).all(key).length > 0;
  }

  /** The row of the key as if the changes had been applied. */
  appliedTo(row: RowValue | undefined, { prepare }: OpenedSqlite, key: Buffer): RowValue | undefined {
    const letters = prepare(`SELECT id, kind, key, ${LETTER_COLUMNS} FROM ${this.#table}
      WHERE superseded = 0 AND key = ? AND id > ? ORDER BY id LIMIT ${LETTERS_PIECE}`);
    let result = row;
    for (let last = 0n, isMore = true; isMore; ) {
      const found = letters.all(key, last);
      for (const letter of found) result = applied(result, letterIn(letter));
      isMore = found.length === LETTERS_PIECE;
      if (isMore) last = found.at(-1)!['id'] as bigint;
    }
    return result;
  }

  /** Tells earlier dead letters of the keys that these changes are newer. */
  settle({ prepare }: OpenedSqlite, { deletes, sets, touches, adds }: NewestChanges): void {
    const command = `UPDATE ${this.#table} SET superseded = 1 WHERE superseded = 0 AND key = ?`;
    for (const { key } of [...deletes, ...sets]) prepare(command).run(key);
    for (const { key, expiresWallMs, version } of [...touches, ...adds]) {
      prepare(`${command} AND kind = 'touch'`).run(key);
      prepare(
        `UPDATE ${this.#table} SET expires_ms = ?, version = ? WHERE superseded = 0 AND kind IN ('set', 'add') AND key = ?`,
      ).run(expiresWallMs, signed(version), key);
    }
  }

  add({ prepare }: OpenedSqlite, { change, error }: DeadLetter, cursor: CursorPlace): void {
    const columns = `kind, key, ${LETTER_COLUMNS}, error, error_code, ${PLACE_COLUMNS}, added_ms`;
    const { code } = error as { code?: unknown };
    const cells: SqliteCell[] = [
      ...[change.kind, change.key, ...letterCells(change), error.message],
      ...[code === undefined ? null : String(code), ...placeCells(cursor), Date.now()],
    ];
    const add = prepare(`INSERT INTO ${this.#table} (${columns}) VALUES (${cells.map(() => '?')})`);
    orRefusal('a dead letter', () => add.run(...cells));
  }

  list({ prepare }: OpenedSqlite, limit: number, after: bigint): readonly KeptDeadLetter[] {
    const found = prepare(`SELECT * FROM ${this.#table} WHERE id > ? ORDER BY id LIMIT ?`).all(after, limit);
    return found.map((row) => ({
      id: row['id'] as bigint,
      change: letterIn(row),
      error: row['error'] as string,
      errorCode: (row['error_code'] as string | null) ?? undefined,
      cursor: placeOf(cellsOf(row, PLACE_NAMES)),
      addedWallMs: Number(row['added_ms']),
      isSuperseded: row['superseded'] !== 0n,
    }));
  }

  oldestOf({ prepare }: OpenedSqlite, keys: readonly Buffer[]): RefusedKey | undefined {
    const first = prepare(`SELECT id, error FROM ${this.#table} WHERE superseded = 0 AND key = ? ORDER BY id LIMIT 1`);
    let oldest: { readonly id: bigint; readonly refused: RefusedKey } | undefined;
    for (const key of keys) {
      const [found] = first.all(key);
      const id = found?.['id'] as bigint | undefined;
      if (id === undefined || (oldest !== undefined && oldest.id < id)) continue;
      oldest = { id, refused: { key, error: found!['error'] as string } };
    }
    return oldest?.refused;
  }

  /** In a transaction; returns how many there were. */
  drop({ prepare }: OpenedSqlite, ids: readonly bigint[]): number {
    const drop = prepare(`DELETE FROM ${this.#table} WHERE id = ?`);
    return ids.reduce((count, id) => count + Number(drop.run(id).changes), 0);
  }
}

/** The cells of some columns of a row, in their order. */
export function cellsOf(row: SqliteRow, columns: readonly string[]): (SqliteCell | undefined)[] {
  return columns.map((column) => row[column]);
}

export function cursorIn(row: SqliteRow): Cursor {
  return cursorOf(cellsOf(row, CURSOR_NAMES));
}

function letterIn(row: SqliteRow): Change {
  return changeOf(row['kind'] as string, row['key'] as Buffer, cellsOf(row, LETTER_NAMES));
}
