/**
 * The two packages for SQLite behind one small face: better-sqlite3 where it is installed and built, otherwise
 * node:sqlite where Node has it without a flag. Integers come as bigints, blobs as Buffers.
 */
import { CairnError } from '../errors.ts';

export type SqliteCell = Buffer | bigint | number | string | null;
export type SqliteRow = Readonly<Record<string, SqliteCell>>;

export interface SqliteStatement {
  run(...parameters: SqliteCell[]): { readonly changes: number | bigint };
  all(...parameters: SqliteCell[]): SqliteRow[];
}

export interface SqliteDatabase {
  exec(commands: string): void;
  prepare(command: string): SqliteStatement;
  close(): void;
}

/** A database that is open, with its prepared statements by their text. */
export interface OpenedSqlite {
  readonly database: SqliteDatabase;
  prepare(command: string): SqliteStatement;
}

export function withStatements(database: SqliteDatabase): OpenedSqlite {
  const statements = new Map<string, SqliteStatement>();
  return {
    database,
    prepare(command) {
      let statement = statements.get(command);
      if (statement === undefined) {
        statement = database.prepare(command);
        statements.set(command, statement);
      }
      return statement;
    },
  };
}

export type OpenSqlite = (path: string) => SqliteDatabase;

/** What both packages have, as far as it is used here. */
interface RawStatement {
  run(...parameters: SqliteCell[]): { readonly changes: number | bigint };
  all(...parameters: SqliteCell[]): Record<string, unknown>[];
  setReadBigInts?(enabled: boolean): void;
}
interface RawDatabase {
  exec(commands: string): void;
  prepare(command: string): RawStatement;
  close(): void;
  defaultSafeIntegers?(enabled: boolean): void;
}
type RawConstructor = new (path: string) => RawDatabase;

function openerOf(Database: RawConstructor): OpenSqlite {
  return (path) => {
    const database = new Database(path);
    database.defaultSafeIntegers?.(true);
    return {
      exec: (commands) => void database.exec(commands),
      close: () => void database.close(),
      prepare(command) {
        const statement = database.prepare(command);
        statement.setReadBigInts?.(true);
        return {
          run: (...parameters) => statement.run(...parameters),
          all: (...parameters) => statement.all(...parameters).map(withBuffers),
        };
      },
    };
  };
}

/** node:sqlite gives blobs as Uint8Arrays. */
function withBuffers(row: Record<string, unknown>): SqliteRow {
  for (const [name, cell] of Object.entries(row)) {
    if (cell instanceof Uint8Array && !Buffer.isBuffer(cell)) {
      row[name] = Buffer.from(cell.buffer, cell.byteOffset, cell.byteLength);
    }
  }
  return row as SqliteRow;
}

/** better-sqlite3. Throws if it is not installed, or not built for this Node. */
export async function openWithBetterSqlite(): Promise<OpenSqlite> {
  const name: string = 'better-sqlite3';
  const { default: Database } = (await import(name)) as { default: RawConstructor };
  // The package loads its binary with the first database.
  new Database(':memory:').close();
  return openerOf(Database);
}

/** node:sqlite. Throws if this Node does not have it without a flag. */
export async function openWithNodeSqlite(): Promise<OpenSqlite> {
  const name: string = 'node:sqlite';
  const { DatabaseSync } = (await import(name)) as { DatabaseSync: RawConstructor };
  return openerOf(DatabaseSync);
}

export async function loadSqlite(): Promise<OpenSqlite> {
  const causes: unknown[] = [];
  for (const load of [openWithBetterSqlite, openWithNodeSqlite]) {
    try {
      return await load();
    } catch (error) {
      causes.push(error);
    }
  }
  const [ofPackage, ofNode] = causes.map((error) => (error as Error).message.split('\n', 1)[0]);
  throw new CairnError(
    'ERR_DRIVER_MISSING',
    `SQLite needs the package better-sqlite3 (npm install better-sqlite3@12: ${ofPackage}) or a Node that has node:sqlite ` +
      `(22.13 and newer: ${ofNode})`,
    { cause: new AggregateError(causes) },
  );
}
