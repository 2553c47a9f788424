/**
 * PostgreSQL as a backend: sql-backend.ts with the statements of postgres-sql.ts on three tables, which it makes:
 * entries, cursors, dead letters (docs/backends.md). postgres-tables.ts makes and checks them.
 *
 * BEGIN and the move of the cursor are one message. Statements have up to 1,024 rows or 1 MiB.
 */

import type { RuleSet } from '../rules/index.ts';
import { addOrMake } from './add-or-make.ts';
import type {
  AddChange,
  Change,
  Cursor,
  CursorPlace,
  DeadLetter,
  DeleteChange,
  ErrorClass,
  HistoryRow,
  KeptDeadLetter,
  Loaded,
  RefusedKey,
  Row,
  RowValue,
  SetChange,
  TouchChange,
  WriteBatch,
} from './backend.ts';
import { movesOf } from './cursors.ts';
import { alive, answersOf, LETTERS_PIECE, type LiveLetter } from './dead-letters.ts';
import { type NewestChanges, type PieceBounds, piecesOf } from './newest.ts';
import {
  type ClientConstructor,
  loadPg,
  PostgresConnection,
  type Result,
  type SessionSettings,
} from './postgres-connection.ts';
import { classifyPostgres, codeOf } from './postgres-errors.ts';
import { openOwnTables, type PostgresOwnTable } from './postgres-own-tables.ts';
import {
  bytesOf,
  PostgresStatements,
  STATEMENT_BYTES_MAX,
  STATEMENT_ROWS_MAX,
  type Statement,
} from './postgres-sql.ts';
import { openTables } from './postgres-tables.ts';
import { type OwnKeys, Routes, type RowTable } from './routes.ts';
import { rowKeyOf } from './row-key.ts';
import { namedRows, type ScanPiece, SqlBackend, type SqlOptions, type SqlTables } from './sql-backend.ts';
import {
  changeOf,
  cursorOf,
  type FoundCell,
  placeOf,
  rowValueOf,
  SCAN_ROWS,
  SCAN_VALUE_BYTES_MAX,
} from './sql-rows.ts';
import { mayStillSweep, type SweptTable } from './sweep.ts';

export interface PostgresOptions extends SqlOptions {
  /** A connection URL as the package pg takes it. Its credentials stay in it. */
  readonly url: string;
  /** The schema of the tables, made if it is missing. Default: the first of the search path that exists. */
  readonly schema?: string | undefined;
  readonly applicationName?: string | undefined;
}

/** Keys with dead letters of a piece of a scan. */
const SCAN_DEAD_LETTERS = 16;

export class PostgresBackend extends SqlBackend<PostgresConnection> {
  readonly #options: PostgresOptions;
  #driver: ClientConstructor | undefined;

  constructor(options: PostgresOptions) {
    super(options);
    this.#options = options;
  }

  protected async connect(): Promise<PostgresConnection> {
    const { url, applicationName = 'cairn-cache' } = this.#options;
    const settings: SessionSettings = { ...this.settings, applicationName };
    this.#driver ??= await loadPg();
    return PostgresConnection.open(this.#driver, url, settings);
  }

  protected async openTables(connection: PostgresConnection): Promise<PostgresTables> {
    const { schema, prefix = 'cairn_' } = this.#options;
    const { rules, readsOnly } = this;
    const names = { schema, prefix, hasHistory: rules.hasHistory, readsOnly };
    const sql = new PostgresStatements(await openTables(connection, names));
    return new PostgresTables(sql, rules, await openOwnTables(connection, { rules, readsOnly, lanes: this.lanes }));
  }

  classify(error: unknown): ErrorClass {
    return classifyPostgres(error);
  }
}

/** The transaction of reads that have to be of one moment. */
const READING = 'BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY';

class PostgresTables implements SqlTables<PostgresConnection>, RowTable<PostgresConnection> {
  readonly routes: Routes<PostgresOwnTable, RowTable<PostgresConnection>>;
  readonly swept: readonly SweptTable<PostgresConnection>[];
  readonly #sql: PostgresStatements;
  readonly #own: readonly PostgresOwnTable[];

  constructor(sql: PostgresStatements, rules: RuleSet, own: readonly PostgresOwnTable[]) {
    this.#sql = sql;
    this.#own = own;
    this.routes = new Routes(rules, this, own);
    this.swept = [this.#sweptEntries(rules), ...own.filter(({ rows }) => rows.plan.rule.deleteOnExpire)];
  }

  boundsOn(): PieceBounds {
    return { rows: STATEMENT_ROWS_MAX, bytes: STATEMENT_BYTES_MAX };
  }

  async begin(connection: PostgresConnection, batch: WriteBatch) {
    const [first, ...others] = movesOf(batch);
    const [row] = (await connection.command(this.#sql.begin(first!))).rows;
    if (row === undefined) return undefined;
    for (const move of others) {
      if ((await connection.command(this.#sql.move(move))).rows.length === 0) return undefined;
    }
    return { hasDeadLetters: row[0] === 't' };
  }

  remove(connection: PostgresConnection, deletes: readonly DeleteChange[]): Promise<unknown> {
    return connection.run(this.#sql.remove(keysOf(deletes)));
  }

  set(connection: PostgresConnection, sets: readonly SetChange[]): Promise<unknown> {
    return connection.run(this.#sql.upsert(sets));
  }

  touch(connection: PostgresConnection, touches: readonly TouchChange[]): Promise<unknown> {
    return connection.run(this.#sql.touch(touches));
  }

  add(connection: PostgresConnection, adds: readonly AddChange[]): Promise<unknown> {
    return addOrMake(adds, {
      add: async (some) => namesIn(await connection.run(this.#sql.add(some))),
      make: async (some) => namesIn(await connection.run(this.#sql.make(some))),
      nameOf: ({ key }) => nameOf(key),
    });
  }

  addHistory(connection: PostgresConnection, rows: readonly HistoryRow[]): Promise<unknown> {
    return connection.run(this.#sql.addHistory(rows));
  }

  async covered(connection: PostgresConnection, keys: readonly Buffer[]): Promise<(key: Buffer) => boolean> {
    const names = await this.#among(connection, keys, (some) => this.#sql.covered(some));
    return (key) => names.has(nameOf(key));
  }

  async settle(connection: PostgresConnection, { deletes, sets, touches, adds }: NewestChanges): Promise<void> {
    const sql = this.#sql;
    const bounds = { rows: STATEMENT_ROWS_MAX, bytes: Number.POSITIVE_INFINITY };
    for (const part of piecesOf([...deletes, ...sets], bounds)) await connection.run(sql.supersede(keysOf(part)));
    for (const part of piecesOf([...touches, ...adds], bounds)) {
      await connection.run(sql.touchDeadLetters(part));
      await connection.run(sql.supersedeTouches(keysOf(part)));
    }
  }

  addDeadLetter(connection: PostgresConnection, { change, error }: DeadLetter, cursor: CursorPlace): Promise<unknown> {
    return connection.run(this.#sql.addDeadLetter(change, error, codeOf(error), cursor));
  }

  checkAtOnce(connection: PostgresConnection): Promise<unknown> {
    return connection.command('SET CONSTRAINTS ALL IMMEDIATE');
  }

  commit(connection: PostgresConnection): Promise<void> {
    return connection.commit();
  }

  async cursors(
    connection: PostgresConnection,
    waitsFor: readonly number[] | 'all' | 'none',
  ): Promise<readonly Cursor[]> {
    const text = waitsFor === 'none' ? this.#sql.readCursors() : this.#sql.lockCursors(waitsFor);
    return cursorsOf(await connection.command(text));
  }

  async load(connection: PostgresConnection, keys: readonly Buffer[], nowMs: number): Promise<Loaded> {
    if (keys.length === 0) return { rows: [], cursors: await this.cursors(connection, 'none') };
    const own = this.routes.ownKeys(keys);
    if (own.length === 0) {
      const result = await connection.run(this.#sql.load(keys, nowMs));
      const loaded = this.#loadedIn(result);
      // Nearly always that is all.
      if (loaded.letters.length < LETTERS_PIECE) return this.#answers(connection, keys, loaded, nowMs);
    }
    await connection.command(READING);
    const loaded = await this.#loadNow(connection, keys, own, nowMs);
    await connection.command('COMMIT');
    return loaded;
  }

  /** In a transaction of one moment. */
  async #loadNow(
    connection: PostgresConnection,
    keys: readonly Buffer[],
    own: readonly OwnKeys<PostgresOwnTable>[],
    nowMs: number,
  ): Promise<Loaded> {
    const loaded = this.#loadedIn(await connection.run(this.#sql.load(keys, nowMs)));
    for (const { table, keys: its } of own) {
      const values = await table.load(connection, its);
      for (const [i, key] of its.entries()) loaded.found.set(nameOf(key), values[i]);
    }
    return this.#answers(connection, keys, loaded, nowMs);
  }

  #loadedIn({ rows }: Result): LoadedRows {
    const cursors: Cursor[] = [];
    const found = new Map<string, RowValue | undefined>();
    const letters: LiveLetter[] = [];
    for (const row of rows) {
      const [key, value, codec, clientFlags, expiresMs, version, , tag] = row;
      if (key == null) cursors.push(cursorOf(tag!.split(' ')));
      else if (tag == null) found.set(key, rowValueOf(withBytes([value, codec, clientFlags, expiresMs, version])));
      else letters.push(letterIn(row));
    }
    letters.sort((a, b) => (a.id < b.id ? -1 : 1));
    return { cursors, found, letters };
  }

  async #answers(
    connection: PostgresConnection,
    keys: readonly Buffer[],
    { cursors, found, letters }: LoadedRows,
    nowMs: number,
  ): Promise<Loaded> {
    const next = async (name: string, after: bigint): Promise<LiveLetter[]> =>
      (await connection.run(this.#sql.lettersBehind(bytesOf(name), after))).rows.map(letterIn);
    return { rows: await answersOf(keys.map(nameOf), found, { first: letters, next }, nowMs), cursors };
  }

  async *scan(connection: PostgresConnection, clock: () => number): AsyncGenerator<ScanPiece> {
    const sql = this.#sql;
    // The reader of the pieces may take its time.
    await connection.command(
      `${READING}; SET LOCAL idle_in_transaction_session_timeout = 0; SET LOCAL enable_seqscan = on`,
    );
    const cursors = await this.cursors(connection, 'none');
    yield { rows: [], cursors };
    const loaded = async (keys: readonly Buffer[]): Promise<Row[]> => {
      const { rows } = await this.#loadNow(connection, keys, this.routes.ownKeys(keys), clock());
      return namedRows(keys, rows);
    };
    await connection.command(`DECLARE cairn_scan NO SCROLL CURSOR FOR ${sql.scanRows(clock(), SCAN_VALUE_BYTES_MAX)}`);
    for (let isMore = true; isMore; ) {
      const rows: Row[] = [];
      const { rows: fetched } = await connection.command(`FETCH ${SCAN_ROWS} FROM cairn_scan`);
      for (const [key, ...cells] of fetched) {
        const name = bytesOf(key!);
        // Left from before its rule.
        if (this.routes.ownOf(name) !== undefined) continue;
        if (cells[0] != null) rows.push({ key: name, ...rowValueOf(withBytes(cells)) });
        else yield { rows: await loaded([name]), cursors };
      }
      if (rows.length > 0) yield { rows, cursors };
      isMore = fetched.length === SCAN_ROWS;
    }
    for (const table of this.#own)
      for await (const rows of this.#scanOwn(connection, table, clock)) yield { rows, cursors };
    for (let after: Buffer = Buffer.alloc(0); ; ) {
      const { rows: page } = await connection.run(sql.scanDeadLetters(after, SCAN_DEAD_LETTERS));
      if (page.length === 0) break;
      yield { rows: await loaded(page.map(([, key]) => bytesOf(key!))), cursors };
      after = bytesOf(page.at(-1)![0]!);
    }
    await connection.command('COMMIT');
  }

  /** In the transaction of a scan: the rows of a table of the user's own, without those that have dead letters. */
  async *#scanOwn(connection: PostgresConnection, table: PostgresOwnTable, clock: () => number): AsyncGenerator<Row[]> {
    await connection.command(`DECLARE cairn_own NO SCROLL CURSOR FOR ${table.scan()}`);
    for (let isMore = true; isMore; ) {
      const { rows: fetched } = await connection.command(`FETCH ${SCAN_ROWS} FROM cairn_own`);
      isMore = fetched.length === SCAN_ROWS;
      const rows = fetched.flatMap((cells): Row[] => {
        const entry = table.entryOf(cells);
        // A key with a longer prefix has another rule.
        if (entry === undefined || this.routes.ownOf(entry.key) !== table) return [];
        return alive(entry.value, clock()) === undefined ? [] : [{ key: entry.key, ...entry.value }];
      });
      if (rows.length === 0) continue;
      const names = new Set(
        (
          await this.withoutDeadLetters(
            connection,
            rows.map(({ key }) => key),
          )
        ).map(nameOf),
      );
      const sound = rows.filter(({ key }) => names.has(nameOf(key)));
      if (sound.length > 0) yield sound;
    }
    await connection.command('CLOSE cairn_own');
  }

  beginAlone(connection: PostgresConnection, lane: number): Promise<unknown> {
    return connection.command(this.#sql.beginAlone(lane));
  }

  async beginSweep(connection: PostgresConnection, at: readonly Cursor[]) {
    const cursors = cursorsOf(await connection.command(this.#sql.beginSweep(at.length === 1)));
    if (!mayStillSweep(cursors, at)) return undefined;
    return { hasDeadLetters: (await connection.command(this.#sql.anyDeadLetter())).rows.length > 0 };
  }

  async withoutDeadLetters(connection: PostgresConnection, keys: readonly Buffer[]): Promise<readonly Buffer[]> {
    const live = await this.#among(connection, keys, (some) => this.#sql.liveDeadLetters(some));
    return keys.filter((key) => !live.has(nameOf(key)));
  }

  /** The names of those of the keys that statements find. */
  async #among(
    connection: PostgresConnection,
    keys: readonly Buffer[],
    statement: (some: readonly Buffer[]) => Statement,
  ): Promise<ReadonlySet<string>> {
    const found = new Set<string>();
    for (let start = 0; start < keys.length; start += STATEMENT_ROWS_MAX) {
      const result = await connection.run(statement(keys.slice(start, start + STATEMENT_ROWS_MAX)));
      for (const name of namesIn(result)) found.add(name);
    }
    return found;
  }

  #sweptEntries(rules: RuleSet): SweptTable<PostgresConnection> {
    const sql = this.#sql;
    return {
      page: async (connection, after, limit) => {
        const [last = Buffer.alloc(0)] = (after ?? []) as readonly Buffer[];
        const { rows } = await connection.run(sql.sweepPage(last, limit));
        return {
          rows: rows.flatMap(([, key, expiresMs]) => {
            const row = { key: bytesOf(key!), expiresWallMs: Number(expiresMs) };
            return row.expiresWallMs !== 0 && rules.sweeps(row.key) ? [row] : [];
          }),
          last: rows.length < limit ? undefined : [bytesOf(rows.at(-1)![0]!)],
        };
      },
      removeExpired: async (connection, keys, expiredAtMs) => {
        let removed = 0;
        for (let start = 0; start < keys.length; start += STATEMENT_ROWS_MAX) {
          const some = keys.slice(start, start + STATEMENT_ROWS_MAX);
          removed += (await connection.run(sql.removeExpired(some, expiredAtMs))).rowCount ?? 0;
        }
        return removed;
      },
    };
  }

  async listDeadLetters(connection: PostgresConnection, limit: number, after: bigint): Promise<KeptDeadLetter[]> {
    const { rows } = await connection.run(this.#sql.listDeadLetters(limit, after));
    return rows.map(([id, kind, key, value, codec, clientFlags, expiresMs, version, delta, atomic, ...rest]) => {
      const cells = [value, codec, clientFlags, expiresMs, version, delta, atomic] as const;
      const [error, errorCode, cursor, addedMs, isSuperseded] = rest;
      return {
        id: BigInt(id!),
        change: changeOf(kind!, bytesOf(key!), withBytes(cells)),
        error: error!,
        errorCode: errorCode ?? undefined,
        cursor: placeOf(cursor!.split(' ')),
        addedWallMs: Number(addedMs),
        isSuperseded: isSuperseded === 't',
      };
    });
  }

  async oldestDeadLetter(connection: PostgresConnection, keys: readonly Buffer[]): Promise<RefusedKey | undefined> {
    if (keys.length === 0) return undefined;
    const [found] = (await connection.run(this.#sql.oldestDeadLetter(keys))).rows;
    return found && { key: bytesOf(found[0]!), error: found[1]! };
  }

  async dropDeadLetters(connection: PostgresConnection, ids: readonly bigint[]): Promise<number> {
    return (await connection.run(this.#sql.dropDeadLetters(ids))).rowCount ?? 0;
  }
}

/** What the statement of a load has found, by the names of keys. */
interface LoadedRows {
  readonly cursors: Cursor[];
  readonly found: Map<string, RowValue | undefined>;
  readonly letters: LiveLetter[];
}

/** A dead letter from the columns of that statement. */
function letterIn([key, value, codec, clientFlags, expiresMs, version, delta, kind, id]: readonly (
  | string
  | null
)[]): LiveLetter {
  const cells = withBytes([value, codec, clientFlags, expiresMs, version, delta]);
  return { id: BigInt(id!), name: key!, change: changeOf(kind!, bytesOf(key!), cells) };
}

/** The cells of a value, which begin with its bytes. */
function withBytes([value, ...numbers]: readonly (string | null | undefined)[]): FoundCell[] {
  return [value == null ? null : bytesOf(value), ...numbers];
}

/** How results name the row of a key. */
function nameOf(key: Buffer): string {
  return `\\x${rowKeyOf(key).toString('hex')}`;
}

function namesIn({ rows }: Result): string[] {
  return rows.map(([name]) => name!);
}

function cursorsOf({ rows }: Result): Cursor[] {
  return rows.map(([text]) => cursorOf(text!.split(' ')));
}

function keysOf(changes: readonly Change[]): Buffer[] {
  return changes.map(({ key }) => key);
}
