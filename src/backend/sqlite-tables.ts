/** Makes the tables of an SQLite backend where they are missing, and finds at opening why they would not do. */

import type { AddChange, DeleteChange, SetChange, TouchChange } from './backend.ts';
import { NoNumber, numberOf } from './counter.ts';
import { applied } from './dead-letters.ts';
import { unfit } from './own-errors.ts';
import { CURSOR_COLUMNS, PLACE_COLUMNS, rowValueOf, signed, VALUE_COLUMNS } from './sql-rows.ts';
import type { OpenedSqlite, SqliteDatabase } from './sqlite-driver.ts';

/** A table that gets changes of rows, one after another. */
export interface SqliteTable {
  remove(opened: OpenedSqlite, change: DeleteChange): void;
  set(opened: OpenedSqlite, change: SetChange): void;
  touch(opened: OpenedSqlite, change: TouchChange): void;
  /** Returns why the row cannot be added to, if so. */
  add(opened: OpenedSqlite, change: AddChange): Error | undefined;
}

/** The table of entries. */
export function sqliteEntries(table: string): SqliteTable {
  const names = VALUE_COLUMNS.split(', ');
  const columns = names.map((column) => `${column} = excluded.${column}`);
  const entries: SqliteTable = {
    remove({ prepare }, { key }) {
      prepare(`DELETE FROM ${table} WHERE key = ?`).run(key);
    },
    set({ prepare }, { key, value, codec, clientFlags, expiresWallMs, version }) {
      prepare(
        `INSERT INTO ${table} (key, ${VALUE_COLUMNS}) VALUES (?, ?, ?, ?, ?, ?) ON CONFLICT (key) DO UPDATE SET ${columns}`,
      ).run(key, value, codec, clientFlags, expiresWallMs, signed(version));
    },
    touch({ prepare }, { key, expiresWallMs, version }) {
      prepare(`UPDATE ${table} SET expires_ms = ?, version = ? WHERE key = ?`).run(expiresWallMs, signed(version), key);
    },
    add(opened, change) {
      const [found] = opened.prepare(`SELECT ${VALUE_COLUMNS} FROM ${table} WHERE key = ?`).all(change.key);
      const row = found === undefined ? undefined : rowValueOf(names.map((name) => found[name]));
      if (row !== undefined && numberOf(row.value) === undefined) return new NoNumber();
      entries.set(opened, { kind: 'set', key: change.key, ...applied(row, change)! });
      return undefined;
    },
  };
  return entries;
}

/** The names of the tables, quoted. */
export interface SqliteTableNames {
  readonly entries: string;
  readonly cursors: string;
  readonly letters: string;
  /** There only if a rule keeps history. */
  readonly history: string;
}

interface Layout {
  readonly columns: readonly string[];
  /** The columns of its primary key. */
  readonly key: readonly string[];
}

export function sqliteNames(prefix: string): SqliteTableNames {
  return {
    entries: `"${prefix}entries"`,
    cursors: `"${prefix}cursors"`,
    letters: `"${prefix}dead_letters"`,
    history: `"${prefix}history"`,
  };
}

/** For a cache that only reads: a table that is missing is as an empty one. */
export function readableSqliteTables(database: SqliteDatabase, tables: SqliteTableNames): SqliteTableNames {
  const problems: string[] = [];
  const readable = { ...tables };
  for (const [table, layout] of layoutsOf(tables, false)) {
    const isThere = database.prepare('SELECT 1 FROM pragma_table_info(?)').all(table.slice(1, -1)).length > 0;
    if (isThere) problems.push(...problemsOf(database, table, layout));
    else {
      const name = Object.entries(tables).find(([, its]) => its === table)![0];
      const nothing = layout.columns.map((column) => `NULL AS ${column.split(' ')[0]}`).join(', ');
      Object.assign(readable, { [name]: `(SELECT ${nothing} WHERE 0)` });
    }
  }
  if (problems.length > 0) throw unfit(problems);
  return readable;
}

/** Throws `ERR_BACKEND_UNFIT` with every reason against one of the tables. */
export function makeSqliteTables(database: SqliteDatabase, tables: SqliteTableNames, hasHistory: boolean): void {
  const problems: string[] = [];
  for (const [table, layout] of layoutsOf(tables, hasHistory)) {
    const { columns, key } = layout;
    // Only in this form SQLite counts the column up.
    const lines = columns.map((column) =>
      column === 'id INTEGER NOT NULL' ? 'id INTEGER PRIMARY KEY AUTOINCREMENT' : column,
    );
    if (lines.every((line) => !line.includes('PRIMARY KEY'))) lines.push(`PRIMARY KEY (${key.join(', ')})`);
    database.exec(`CREATE TABLE IF NOT EXISTS ${table} (${lines.join(', ')})`);
    problems.push(...problemsOf(database, table, layout));
  }
  if (problems.length > 0) throw unfit(problems);
  const index = `"${tables.letters.slice(1, -1)}_live"`;
  database.exec(`CREATE INDEX IF NOT EXISTS ${index} ON ${tables.letters} (key) WHERE superseded = 0`);
}

function layoutsOf(tables: SqliteTableNames, hasHistory: boolean): [string, Layout][] {
  const value = ['value BLOB', 'codec INTEGER', 'client_flags INTEGER', 'expires_ms INTEGER'];
  const [key, kind, version] = ['key BLOB NOT NULL', 'kind TEXT NOT NULL', 'version INTEGER NOT NULL'];
  const numbers = (columns: string): string[] => columns.split(', ').map((column) => `${column} INTEGER NOT NULL`);
  const entries = [key, ...value.map((column) => `${column} NOT NULL`), version];
  const letters = [
    ...[
      'id INTEGER NOT NULL',
      kind,
      key,
      ...value,
      version,
      'delta TEXT',
      'atomic INTEGER',
      'error TEXT NOT NULL',
      'error_code TEXT',
      ...numbers(PLACE_COLUMNS),
    ],
    ...['added_ms INTEGER NOT NULL', 'superseded INTEGER NOT NULL DEFAULT 0'],
  ];
  const history = [key, version, kind, ...value, 'logged_ms INTEGER NOT NULL'];
  return [
    [tables.entries, { columns: entries, key: ['key'] }],
    [tables.cursors, { columns: [...numbers(CURSOR_COLUMNS), 'moved_ms INTEGER NOT NULL'], key: ['lane'] }],
    [tables.letters, { columns: letters, key: ['id'] }],
    ...(hasHistory ? [[tables.history, { columns: history, key: ['key', 'version'] }] as [string, Layout]] : []),
  ];
}

function problemsOf(database: SqliteDatabase, table: string, { columns, key }: Layout): string[] {
  const problems: string[] = [];
  const found = database
    .prepare(`SELECT name, type, "notnull", dflt_value, pk FROM pragma_table_info('${table.slice(1, -1)}')`)
    .all();
  const expected = columns.map((column) => column.split(' ') as [string, string]);
  for (const [name, type] of expected) {
    const column = found.find((row) => row['name'] === name);
    if (column === undefined) problems.push(`${table} has no column ${name} (${type})`);
  }
  for (const { name, notnull, dflt_value: otherwise, pk } of found) {
    const isOurs = expected.some(([ours]) => ours === name);
    if (!isOurs && notnull === 1n && otherwise === null && pk === 0n) {
      problems.push(`${table}.${String(name)} is NOT NULL without a default, and no value goes there`);
    }
  }
  const keys = found.filter(({ pk }) => pk !== 0n).map(({ name }) => name);
  if (keys.length !== key.length || !key.every((column) => keys.includes(column))) {
    problems.push(`the primary key of ${table} is not ${key.join(', ')} alone`);
  }
  return problems;
}
