/**
 * PostgreSQL as a backend, transactional. Three tables, which it makes: entries, cursors, dead letters
 * (docs/backends.md). postgres-sql.ts has the statements, postgres-tables.ts the tables' making and checking.
 *
 * **The transaction of a batch**: BEGIN with the cursor, conditionally; deletes, sets, touches, each sorted by key, in
 * statements of up to 1,024 rows or 1 MiB; COMMIT. If the database refuses a change for good, the transaction is rolled
 * back and done again with a savepoint around each statement. A statement that fails is halved until the changes at
 * fault stand alone; they go into the table of dead letters.
 *
 * **A connection that is cut** leaves at most one statement on its way, because each waits for the answer to the one
 * before. The database ends the transaction when it notices, or after `idleTimeoutMs`. `readCursors` locks the rows
 * that it reads, so it waits for that end.
 *
 * Connections: one for each lane that writes, and a few for loads and scans. A connection whose call failed is closed.
 */
import { CairnError, outOfRange } from '../errors.ts';
import type {
  Backend,
  Change,
  Cursor,
  DeadLetter,
  DeadLetters,
  ErrorClass,
  KeptDeadLetter,
  Loaded,
  Row,
  RowValue,
  WriteBatch,
  WriteOutcome,
} from './backend.ts';
import { alive, applied } from './dead-letters.ts';
import { halve, type Savepoints, type Step } from './halve.ts';
import { type NewestChanges, newestChanges, piecesOf } from './newest.ts';
import { Pool } from './pool.ts';
import {
  type ClientConstructor,
  loadPg,
  PostgresConnection,
  type Result,
  type SessionSettings,
} from './postgres-connection.ts';
import { classifyPostgres, codeOf } from './postgres-errors.ts';
import {
  bytesOf,
  cursorOf,
  LOAD_KEYS_MAX,
  PostgresStatements,
  STATEMENT_BYTES_MAX,
  STATEMENT_ROWS_MAX,
  type Statement,
  unsigned,
} from './postgres-sql.ts';
import { openTables } from './postgres-tables.ts';
import { rowKeyOf } from './row-key.ts';

export interface PostgresOptions {
  /** A connection URL as the package pg takes it. Its credentials stay in it. */
  readonly url: string;
  /** For messages, without credentials. */
  readonly name: string;
  /** The schema of the tables, made if it is missing. Default: the first of the search path that exists. */
  readonly schema?: string | undefined;
  /** What the names of the tables begin with. Default: `cairn_`. Two caches need two prefixes or schemas. */
  readonly prefix?: string | undefined;
  /** Connections for loads and scans. Default 4. */
  readonly loadConnections?: number | undefined;
  /** Connections for writes: one for each lane. Default 1. */
  readonly writeConnections?: number | undefined;
  readonly connectTimeoutMs?: number | undefined;
  /** A statement that waits longer for a row of another transaction fails. Default 10 s. */
  readonly lockTimeoutMs?: number | undefined;
  /** A statement that takes longer fails. Default 60 s. */
  readonly statementTimeoutMs?: number | undefined;
  /** The database ends a transaction whose client is silent for this long. Default 15 s. */
  readonly idleTimeoutMs?: number | undefined;
  /** How much longer than `statementTimeoutMs` an answer may take before the network counts as gone. Default 5 s. */
  readonly answerGraceMs?: number | undefined;
  readonly applicationName?: string | undefined;
  /** Unix milliseconds: which rows have expired. */
  readonly clock?: (() => number) | undefined;
}

/** Rows of a piece of a scan, and the largest value that comes with its row; larger ones are fetched one by one. */
const SCAN_ROWS = 256;
const SCAN_VALUE_BYTES_MAX: number = 64 * 1024;
/** Keys with dead letters of a piece of a scan. */
const SCAN_DEAD_LETTERS = 16;

export class PostgresBackend implements Backend {
  readonly name: string;
  readonly level = 'transactional';
  readonly deadLetters: DeadLetters = {
    list: (limit, after = 0n) => this.#listDeadLetters(limit, after),
    drop: (ids) => this.#dropDeadLetters(ids),
  };
  readonly #options: PostgresOptions;
  readonly #settings: SessionSettings;
  readonly #clock: () => number;
  readonly #writers: Pool<PostgresConnection>;
  readonly #loaders: Pool<PostgresConnection>;
  #driver: ClientConstructor | undefined;
  /** The last error of a COMMIT. */
  #refusedCommit: unknown;
  /** Undefined until the tables have been found or made. */
  #statements: PostgresStatements | undefined;

  constructor(options: PostgresOptions) {
    this.name = options.name;
    this.#options = options;
    this.#settings = {
      connectTimeoutMs: options.connectTimeoutMs ?? 10_000,
      lockTimeoutMs: options.lockTimeoutMs ?? 10_000,
      statementTimeoutMs: options.statementTimeoutMs ?? 60_000,
      idleTimeoutMs: options.idleTimeoutMs ?? 15_000,
      answerGraceMs: options.answerGraceMs ?? 5_000,
      applicationName: options.applicationName ?? 'cairn-cache',
    };
    this.#clock = options.clock ?? Date.now;
    const connect = () => this.#connect();
    this.#writers = new Pool(this.name, options.writeConnections ?? 1, connect);
    this.#loaders = new Pool(this.name, options.loadConnections ?? 4, connect);
  }

  async open(): Promise<void> {
    const { schema, prefix = 'cairn_' } = this.#options;
    await this.#writers.use(async (connection) => {
      this.#statements = new PostgresStatements(await openTables(connection, { schema, prefix }));
    });
  }

  async close(): Promise<void> {
    await Promise.all([this.#writers.close(), this.#loaders.close()]);
  }

  classify(error: unknown): ErrorClass {
    return classifyPostgres(error);
  }

  readCursors(): Promise<readonly Cursor[]> {
    const sql = this.#opened();
    return this.#writers.use(async (connection) => {
      return cursorsOf(await connection.command(sql.lockCursors()));
    });
  }

  async load(keys: readonly Buffer[]): Promise<Loaded> {
    const sql = this.#opened();
    if (keys.length > LOAD_KEYS_MAX) throw outOfRange('keys', `at most ${LOAD_KEYS_MAX} at once`, keys.length);
    return this.#loaders.use((connection) => this.#loadOn(connection, sql, keys));
  }

  async #loadOn(connection: PostgresConnection, sql: PostgresStatements, keys: readonly Buffer[]): Promise<Loaded> {
    if (keys.length === 0) {
      return { rows: [], cursors: cursorsOf(await connection.command(sql.readCursors())) };
    }
    const nowMs = this.#clock();
    const { rows } = await connection.run(sql.load(keys, nowMs));
    const cursors: Cursor[] = [];
    const found = new Map<string, RowValue | undefined>();
    const deadLetters: { readonly id: bigint; readonly key: string; readonly change: Change }[] = [];
    for (const [key, value, codec, clientFlags, expiresMs, version, tag, id] of rows) {
      const cells = [value, codec, clientFlags, expiresMs, version];
      if (key == null) cursors.push(cursorOf(tag!));
      else if (tag == null) found.set(key, rowValue(cells));
      else deadLetters.push({ id: BigInt(id!), key, change: changeOf(tag, bytesOf(key), cells) });
    }
    // In the order in which they came: a touch is of the value before.
    deadLetters.sort((a, b) => (a.id < b.id ? -1 : 1));
    for (const { key, change } of deadLetters) found.set(key, applied(found.get(key), change));
    return {
      rows: keys.map((key) => alive(found.get(`\\x${rowKeyOf(key).toString('hex')}`), nowMs)),
      cursors,
    };
  }

  async *scan(signal?: AbortSignal): AsyncGenerator<{ rows: readonly Row[]; cursors: readonly Cursor[] }> {
    const sql = this.#opened();
    signal?.throwIfAborted();
    const connection = await this.#loaders.borrow();
    const abort = (): void => connection.destroy(asError(signal!.reason));
    signal?.addEventListener('abort', abort, { once: true });
    let isSound = false;
    try {
      yield* this.#scanOn(connection, sql);
      isSound = true;
    } catch (error) {
      throw this.#loaders.breakOff(connection, error);
    } finally {
      signal?.removeEventListener('abort', abort);
      // The reader may leave before the end, and the transaction is open then.
      if (!isSound) connection.destroy(new Error('The scan was ended'));
      this.#loaders.giveBack(connection);
    }
  }

  async *#scanOn(connection: PostgresConnection, sql: PostgresStatements) {
    // The reader of the pieces may take its time.
    const begin = 'BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY';
    await connection.command(
      `${begin}; SET LOCAL idle_in_transaction_session_timeout = 0; SET LOCAL enable_seqscan = on`,
    );
    const cursors = cursorsOf(await connection.command(sql.readCursors()));
    yield { rows: [], cursors };
    await connection.command(
      `DECLARE cairn_scan NO SCROLL CURSOR FOR ${sql.scanRows(this.#clock(), SCAN_VALUE_BYTES_MAX)}`,
    );
    for (let isMore = true; isMore; ) {
      const rows: Row[] = [];
      const { rows: fetched } = await connection.command(`FETCH ${SCAN_ROWS} FROM cairn_scan`);
      for (const [key, value, ...numbers] of fetched) {
        const name = bytesOf(key!);
        if (value != null) rows.push({ key: name, ...rowValue([value, ...numbers]) });
        else yield { rows: await this.#rowsOf(connection, sql, [name]), cursors };
      }
      if (rows.length > 0) yield { rows, cursors };
      isMore = fetched.length === SCAN_ROWS;
    }
    for (let after: Buffer = Buffer.alloc(0); ; ) {
      const { rows: page } = await connection.run(sql.scanDeadLetters(after, SCAN_DEAD_LETTERS));
      if (page.length === 0) break;
      yield {
        rows: await this.#rowsOf(
          connection,
          sql,
          page.map(([, key]) => bytesOf(key!)),
        ),
        cursors,
      };
      after = bytesOf(page.at(-1)![0]!);
    }
    await connection.command('COMMIT');
  }

  async #rowsOf(connection: PostgresConnection, sql: PostgresStatements, keys: readonly Buffer[]): Promise<Row[]> {
    const { rows } = await this.#loadOn(connection, sql, keys);
    return keys.flatMap((key, i) => (rows[i] === undefined ? [] : [{ key, ...rows[i] }]));
  }

  write(batch: WriteBatch): Promise<WriteOutcome> {
    const sql = this.#opened();
    const changes = newestChanges(batch.changes);
    return this.#writers.use(async (connection) => {
      try {
        return await this.#writeAll(connection, sql, batch, changes);
      } catch (error) {
        if (this.classify(error) !== 'permanent') throw error;
        await connection.command('ROLLBACK');
        return await refusedAsUnfit(this.#writeApart(connection, sql, batch, changes, error === this.#refusedCommit));
      }
    });
  }

  async #writeAll(
    connection: PostgresConnection,
    sql: PostgresStatements,
    batch: WriteBatch,
    changes: NewestChanges,
  ): Promise<WriteOutcome> {
    const moved = await this.#moveCursor(connection, sql, batch);
    if (moved.kind === 'moved') return moved;
    for (const { changes: part, apply } of stepsOf(connection, sql, changes)) await apply(part);
    if (moved.hasDeadLetters) await settle(connection, sql, changes);
    await this.#commit(connection);
    return { kind: 'committed', deadLetters: [] };
  }

  /** The whole batch, with the changes that the database refuses put aside. */
  async #writeApart(
    connection: PostgresConnection,
    sql: PostgresStatements,
    batch: WriteBatch,
    changes: NewestChanges,
    isDeferred: boolean,
  ): Promise<WriteOutcome> {
    const moved = await this.#moveCursor(connection, sql, batch);
    if (moved.kind === 'moved') return moved;
    // A constraint that is checked at COMMIT names no change.
    if (isDeferred) await connection.command('SET CONSTRAINTS ALL IMMEDIATE');
    const deadLetters: DeadLetter[] = [];
    const savepoints: Savepoints = {
      set: () => connection.command('SAVEPOINT cairn'),
      release: () => connection.command('RELEASE SAVEPOINT cairn'),
      rollBack: () => connection.command('ROLLBACK TO SAVEPOINT cairn; RELEASE SAVEPOINT cairn'),
      isRefusal: (error) => this.classify(error) === 'permanent',
    };
    for (const step of stepsOf(connection, sql, changes)) await halve(step, savepoints, deadLetters);
    if (moved.hasDeadLetters) await settle(connection, sql, changes);
    for (const { change, error } of deadLetters) {
      await connection.run(sql.addDeadLetter(change, error, codeOf(error), batch.to));
    }
    await this.#commit(connection);
    return { kind: 'committed', deadLetters };
  }

  async #moveCursor(
    connection: PostgresConnection,
    sql: PostgresStatements,
    { from, to }: WriteBatch,
  ): Promise<{ kind: 'moving'; hasDeadLetters: boolean } | { kind: 'moved'; found: Cursor | undefined }> {
    const [row] = (await refusedAsUnfit(connection.command(sql.begin(from, to)))).rows;
    if (row !== undefined) return { kind: 'moving', hasDeadLetters: row[0] === 't' };
    const cursors = cursorsOf(await connection.command(sql.readCursors()));
    await connection.command('ROLLBACK');
    const isOther = ({ laneCount, logId }: Cursor): boolean => laneCount !== to.laneCount || logId !== to.logId;
    return { kind: 'moved', found: cursors.find(({ lane }) => lane === to.lane) ?? cursors.find(isOther) };
  }

  async #commit(connection: PostgresConnection): Promise<void> {
    try {
      await connection.commit();
    } catch (error) {
      this.#refusedCommit = error;
      throw error;
    }
  }

  async #listDeadLetters(limit: number, after: bigint): Promise<readonly KeptDeadLetter[]> {
    const sql = this.#opened();
    const { rows } = await this.#loaders.use((connection) => connection.run(sql.listDeadLetters(limit, after)));
    return rows.map(([id, kind, key, value, codec, clientFlags, expiresMs, version, ...rest]) => {
      const [error, errorCode, cursor, addedMs, isSuperseded] = rest;
      return {
        id: BigInt(id!),
        change: changeOf(kind!, bytesOf(key!), [value!, codec!, clientFlags!, expiresMs!, version!]),
        error: error!,
        errorCode: errorCode ?? undefined,
        cursor: cursorOf(cursor!),
        addedWallMs: Number(addedMs),
        isSuperseded: isSuperseded === 't',
      };
    });
  }

  async #dropDeadLetters(ids: readonly bigint[]): Promise<number> {
    const sql = this.#opened();
    const { rowCount } = await this.#loaders.use((connection) => connection.run(sql.dropDeadLetters(ids)));
    return rowCount ?? 0;
  }

  #opened(): PostgresStatements {
    if (this.#statements === undefined) throw new CairnError('ERR_NOT_READY', `${this.name} has not been opened`);
    return this.#statements;
  }

  async #connect(): Promise<PostgresConnection> {
    this.#driver ??= await loadPg();
    return PostgresConnection.open(this.#driver, this.#options.url, this.#settings);
  }
}

function* stepsOf(
  connection: PostgresConnection,
  sql: PostgresStatements,
  { deletes, sets, touches }: NewestChanges,
): Generator<Step> {
  const bounds = { rows: STATEMENT_ROWS_MAX, bytes: STATEMENT_BYTES_MAX };
  const step = <C extends Change>(changes: readonly C[], make: (part: readonly C[]) => Statement): Step => ({
    changes,
    // It is given parts of these changes only.
    apply: (part) => connection.run(make(part as readonly C[])),
  });
  for (const part of piecesOf(deletes, bounds)) yield step(part, (some) => sql.remove(keysOf(some)));
  for (const part of piecesOf(sets, bounds)) yield step(part, (some) => sql.upsert(some));
  for (const part of piecesOf(touches, bounds)) yield step(part, (some) => sql.touch(some));
}

/** Tells earlier dead letters of the keys that these changes are newer. */
async function settle(
  connection: PostgresConnection,
  sql: PostgresStatements,
  { deletes, sets, touches }: NewestChanges,
): Promise<void> {
  const bounds = { rows: STATEMENT_ROWS_MAX, bytes: Number.POSITIVE_INFINITY };
  for (const part of piecesOf([...deletes, ...sets], bounds)) await connection.run(sql.supersede(keysOf(part)));
  for (const part of piecesOf(touches, bounds)) {
    await connection.run(sql.touchDeadLetters(part));
    await connection.run(sql.supersedeTouches(keysOf(part)));
  }
}

/** An error that is permanent and that no change can be blamed for: the tables are not as they have to be. */
async function refusedAsUnfit<T>(attempt: Promise<T>): Promise<T> {
  try {
    return await attempt;
  } catch (error) {
    if (classifyPostgres(error) !== 'permanent') throw error;
    const { message } = error as Error;
    throw new CairnError('ERR_BACKEND_UNFIT', `The database refuses a batch as a whole: ${message}`, { cause: error });
  }
}

type Cells = readonly (string | null | undefined)[];

/** value, codec, client_flags, expires_ms, version */
function rowValue([value, codec, clientFlags, expiresMs, version]: Cells): RowValue {
  return {
    value: bytesOf(value!),
    codec: Number(codec),
    clientFlags: Number(clientFlags),
    expiresWallMs: Number(expiresMs),
    version: unsigned(version!),
  };
}

/** A dead letter's change, of the same cells. */
function changeOf(kind: string, key: Buffer, cells: Cells): Change {
  if (kind === 'set') return { kind, key, ...rowValue(cells) };
  const [, , , expiresMs, version] = cells;
  if (kind === 'delete') return { kind, key, version: unsigned(version!) };
  return { kind: 'touch', key, expiresWallMs: Number(expiresMs), version: unsigned(version!) };
}

function cursorsOf({ rows }: Result): Cursor[] {
  return rows.map(([text]) => cursorOf(text!));
}

function keysOf(changes: readonly Change[]): Buffer[] {
  return changes.map(({ key }) => key);
}

function asError(reason: unknown): Error {
  return reason instanceof Error ? reason : new Error(String(reason));
}
