/**
 * MariaDB and MySQL as a backend, transactional: tables of InnoDB, which it makes.
 *
 * **The transaction of a batch**: the cursor, conditionally; deletes, sets, touches, each sorted by key; COMMIT.
 * MariaDB gets the rows of a statement in one message. If the database refuses a change for good, the transaction is
 * rolled back and done again with savepoints (halve.ts), and the changes at fault go into the table of dead letters.
 *
 * **Reads** are transactions with a consistent snapshot, so that rows and cursors are of one moment. `readCursors`
 * locks the rows that it reads, so it waits for a transaction that is moving a cursor.
 */
import { CairnError, outOfRange } from '../errors.ts';
import type {
  Backend,
  Change,
  Cursor,
  DeadLetter,
  DeadLetters,
  DeleteChange,
  ErrorClass,
  KeptDeadLetter,
  Loaded,
  Row,
  RowValue,
  SetChange,
  TouchChange,
  WriteBatch,
  WriteOutcome,
} from './backend.ts';
import { mayMove } from './cursors.ts';
import { alive, applied } from './dead-letters.ts';
import { halve, type Savepoints, type Step } from './halve.ts';
import {
  type Cell,
  type CreateConnection,
  loadMariadb,
  MariadbConnection,
  type MariadbSettings,
  type MariadbTarget,
} from './mariadb-connection.ts';
import { classifyMariadb } from './mariadb-errors.ts';
import { type NewestChanges, newestChanges, piecesOf } from './newest.ts';
import { Pool } from './pool.ts';
import { isLongKey, ROW_KEY_BYTES_MAX, rowKeyOf } from './row-key.ts';

export interface MariadbOptions {
  readonly target: MariadbTarget;
  /** For messages, without credentials. */
  readonly name: string;
  /** What the names of the tables begin with. Default: `cairn_`. */
  readonly prefix?: string | undefined;
  readonly loadConnections?: number | undefined;
  readonly writeConnections?: number | undefined;
  readonly connectTimeoutMs?: number | undefined;
  readonly lockTimeoutMs?: number | undefined;
  readonly statementTimeoutMs?: number | undefined;
  readonly idleTimeoutMs?: number | undefined;
  readonly answerGraceMs?: number | undefined;
  /** Unix milliseconds: which rows have expired. */
  readonly clock?: (() => number) | undefined;
}

/** Rows and bytes of a message with many rows. */
const PIECE = { rows: 1000, bytes: 2 ** 20 };
/** Keys of a load: the server keeps to its index for this many. */
const LOAD_KEYS_MAX = 16_384;
const SCAN_ROWS = 256;
const SCAN_VALUE_BYTES_MAX: number = 64 * 1024;

const CURSOR = 'lane, lane_count, log_id, position, epoch, writer';
const VALUE = 'value, codec, client_flags, expires_ms, version';

export class MariadbBackend implements Backend {
  readonly name: string;
  readonly level = 'transactional';
  readonly deadLetters: DeadLetters = {
    list: (limit, after = 0n) => this.#listDeadLetters(limit, after),
    drop: (ids) => this.#dropDeadLetters(ids),
  };
  readonly #options: MariadbOptions;
  readonly #settings: MariadbSettings;
  readonly #clock: () => number;
  readonly #entries: string;
  readonly #cursors: string;
  readonly #letters: string;
  readonly #writers: Pool<MariadbConnection>;
  readonly #loaders: Pool<MariadbConnection>;
  #create: CreateConnection | undefined;
  #isOpen = false;

  constructor(options: MariadbOptions) {
    const { prefix = 'cairn_' } = options;
    this.name = options.name;
    this.#options = options;
    this.#settings = {
      connectTimeoutMs: options.connectTimeoutMs ?? 10_000,
      lockTimeoutMs: options.lockTimeoutMs ?? 10_000,
      statementTimeoutMs: options.statementTimeoutMs ?? 60_000,
      idleTimeoutMs: options.idleTimeoutMs ?? 15_000,
      answerGraceMs: options.answerGraceMs ?? 5_000,
    };
    this.#clock = options.clock ?? Date.now;
    this.#entries = `\`${prefix}entries\``;
    this.#cursors = `\`${prefix}cursors\``;
    this.#letters = `\`${prefix}dead_letters\``;
    this.#writers = new Pool(this.name, options.writeConnections ?? 1, () => this.#connect('READ COMMITTED'));
    this.#loaders = new Pool(this.name, options.loadConnections ?? 4, () => this.#connect('REPEATABLE READ'));
  }

  async #connect(isolation: 'READ COMMITTED' | 'REPEATABLE READ'): Promise<MariadbConnection> {
    this.#create ??= await loadMariadb();
    return MariadbConnection.open(this.#create, this.#options.target, this.#settings, isolation);
  }

  async open(): Promise<void> {
    await this.#writers.use((connection) => this.#makeTables(connection));
    this.#isOpen = true;
  }

  async #makeTables(connection: MariadbConnection): Promise<void> {
    const key = `\`key\` varbinary(${ROW_KEY_BYTES_MAX + 32}) NOT NULL`;
    const value = ['value longblob', 'codec smallint', 'client_flags bigint', 'expires_ms bigint'];
    const [lane, ...rest] = CURSOR.split(', ').map(
      (column) => `${column} ${column.startsWith('lane') ? 'int' : 'bigint'} NOT NULL`,
    );
    const version = 'version bigint NOT NULL';
    const tables: Record<string, string[]> = {
      [this.#entries]: [
        `${key} PRIMARY KEY`,
        ...value.map((column) => `${column} NOT NULL`),
        version,
        'long_key mediumblob',
      ],
      [this.#cursors]: [`${lane} PRIMARY KEY`, ...rest, 'moved_ms bigint NOT NULL'],
      [this.#letters]: [
        ...['id bigint NOT NULL AUTO_INCREMENT PRIMARY KEY', 'kind varchar(10) NOT NULL', key, ...value, version],
        ...['long_key mediumblob', 'error text NOT NULL', 'error_code varchar(100)', lane!, ...rest],
        ...['added_ms bigint NOT NULL', 'superseded tinyint NOT NULL DEFAULT 0', 'KEY live (superseded, `key`)'],
      ],
    };
    const problems: string[] = [];
    for (const [table, columns] of Object.entries(tables)) {
      const name = table.slice(1, -1);
      const [exists] = await connection.run(
        'SELECT engine FROM information_schema.tables WHERE table_schema = DATABASE() AND table_name = ?',
        [name],
      );
      if (exists === undefined) {
        await connection.command(`CREATE TABLE IF NOT EXISTS ${table} (${columns.join(', ')}) ENGINE = InnoDB ROW_FORMAT = DYNAMIC
          DEFAULT CHARACTER SET utf8mb4`);
      } else if (exists[0] !== 'InnoDB') problems.push(`${name} has the engine ${String(exists[0])}, and needs InnoDB`);
      const found = await connection.run(
        `SELECT column_name, CONVERT(data_type USING utf8mb4), is_nullable, column_default IS NULL, column_key, extra
          FROM information_schema.columns WHERE table_schema = DATABASE() AND table_name = ?`,
        [name],
      );
      const ours = columns
        .filter((column) => !column.startsWith('KEY'))
        .map((column) => column.replaceAll('`', '').split(' '));
      for (const [column, type = ''] of ours) {
        const actual = found.find(([other]) => other === column);
        const wanted = type.replace(/\(.*/, '');
        if (actual === undefined) problems.push(`${name} has no column ${column} (${wanted})`);
        else if (actual[1] !== wanted)
          problems.push(`${name}.${column} is ${String(actual[1])}, and has to be ${wanted}`);
      }
      for (const [column, , isNullable, hasNoDefault, , extra] of found) {
        if (ours.some(([known]) => known === column) || isNullable === 'YES' || Number(hasNoDefault) === 0) continue;
        if (!String(extra).includes('auto_increment')) {
          problems.push(`${name}.${String(column)} is NOT NULL without a default, and no value goes there`);
        }
      }
      const [primary] = columns
        .find((column) => column.includes('PRIMARY KEY'))!
        .replaceAll('`', '')
        .split(' ');
      const keys = found.filter(([, , , , kind]) => kind === 'PRI').map(([column]) => column);
      if (keys.length !== 1 || keys[0] !== primary) problems.push(`the primary key of ${name} is not ${primary} alone`);
    }
    // A set would change the row of another key that is equal in such an index, and not the row of its key.
    const entries = this.#entries.slice(1, -1);
    const others = await connection.run(
      `SELECT DISTINCT index_name FROM information_schema.statistics
        WHERE table_schema = DATABASE() AND table_name = ? AND non_unique = 0 AND index_name <> 'PRIMARY'`,
      [entries],
    );
    for (const [index] of others) problems.push(`${entries} has the unique index ${String(index)} besides its key`);
    if (problems.length > 0) {
      throw new CairnError('ERR_BACKEND_UNFIT', `The database cannot be used: ${problems.join('; ')}`);
    }
  }

  async close(): Promise<void> {
    await Promise.all([this.#writers.close(), this.#loaders.close()]);
  }

  classify(error: unknown): ErrorClass {
    return classifyMariadb(error);
  }

  readCursors(): Promise<readonly Cursor[]> {
    return this.#writers.use(async (connection) => {
      this.#check();
      return this.#cursorsIn(connection, ' FOR UPDATE');
    });
  }

  async load(keys: readonly Buffer[]): Promise<Loaded> {
    if (keys.length > LOAD_KEYS_MAX) throw outOfRange('keys', `at most ${LOAD_KEYS_MAX} at once`, keys.length);
    return this.#loaders.use(async (connection) => {
      this.#check();
      await connection.command('START TRANSACTION WITH CONSISTENT SNAPSHOT, READ ONLY');
      const loaded = { rows: await this.#rowsOf(connection, keys), cursors: await this.#cursorsIn(connection) };
      await connection.command('COMMIT');
      return loaded;
    });
  }

  async *scan(signal?: AbortSignal): AsyncGenerator<{ rows: readonly Row[]; cursors: readonly Cursor[] }> {
    signal?.throwIfAborted();
    const connection = await this.#loaders.borrow();
    const abort = (): void => connection.destroy(asError(signal!.reason));
    signal?.addEventListener('abort', abort, { once: true });
    let isSound = false;
    try {
      this.#check();
      yield* this.#scanOn(connection);
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

  async *#scanOn(connection: MariadbConnection) {
    await connection.command('START TRANSACTION WITH CONSISTENT SNAPSHOT, READ ONLY');
    const cursors = await this.#cursorsIn(connection);
    yield { rows: [], cursors };
    // Rows with dead letters come as a load gives them, also those that exist by their dead letter only.
    const page = `SELECT \`key\`, long_key, bytes FROM (
        (SELECT \`key\`, long_key, length(value) AS bytes FROM ${this.#entries} WHERE \`key\` > ? ORDER BY \`key\` LIMIT ${SCAN_ROWS})
        UNION ALL (SELECT \`key\`, long_key, 0 FROM ${this.#letters} WHERE superseded = 0 AND \`key\` > ? ORDER BY \`key\`
          LIMIT ${SCAN_ROWS})) AS found ORDER BY \`key\` LIMIT ${SCAN_ROWS}`;
    for (let last: Buffer = Buffer.alloc(0), isMore = true; isMore; ) {
      const found = await connection.run(page, [last, last]);
      isMore = found.length === SCAN_ROWS;
      const small: Buffer[] = [];
      for (const [rowKey, longKey, bytes] of found) {
        const isRepeated = (rowKey as Buffer).equals(last);
        last = rowKey as Buffer;
        const key = (longKey ?? rowKey) as Buffer;
        if (isRepeated) continue;
        if (Number(bytes) <= SCAN_VALUE_BYTES_MAX) small.push(key);
        else yield { rows: await this.#namedRowsOf(connection, [key]), cursors };
      }
      if (small.length > 0) yield { rows: await this.#namedRowsOf(connection, small), cursors };
    }
    await connection.command('COMMIT');
  }

  async #namedRowsOf(connection: MariadbConnection, keys: readonly Buffer[]): Promise<Row[]> {
    const rows = await this.#rowsOf(connection, keys);
    return keys.flatMap((key, i) => (rows[i] === undefined ? [] : [{ key, ...rows[i] }]));
  }

  async #rowsOf(connection: MariadbConnection, keys: readonly Buffer[]): Promise<(RowValue | undefined)[]> {
    if (keys.length === 0) return [];
    const rowKeys = keys.map(rowKeyOf);
    // Statements are prepared for powers of two; repeated keys change nothing.
    const cells: Cell[] = [...rowKeys];
    const size = 2 ** Math.ceil(Math.log2(cells.length));
    while (cells.length < size) cells.push(rowKeys[0]!);
    const list = `(${Array.from({ length: size }, () => '?').join(',')})`;
    const found = new Map<string, RowValue | undefined>();
    const rows = await connection.run(`SELECT \`key\`, ${VALUE} FROM ${this.#entries} WHERE \`key\` IN ${list}`, cells);
    for (const [key, ...value] of rows) found.set((key as Buffer).toString('latin1'), rowValue(value));
    const letters = await connection.run(
      `SELECT kind, \`key\`, ${VALUE} FROM ${this.#letters} WHERE superseded = 0 AND \`key\` IN ${list} ORDER BY id`,
      cells,
    );
    for (const [kind, key, ...value] of letters) {
      const name = (key as Buffer).toString('latin1');
      found.set(name, applied(found.get(name), changeOf(kind as string, key as Buffer, value)));
    }
    const nowMs = this.#clock();
    return rowKeys.map((key) => alive(found.get(key.toString('latin1')), nowMs));
  }

  write(batch: WriteBatch): Promise<WriteOutcome> {
    const changes = newestChanges(batch.changes);
    return this.#writers.use(async (connection) => {
      this.#check();
      try {
        return await this.#transact(connection, batch, changes, async ({ changes: all, apply }) => {
          await apply(all);
        });
      } catch (error) {
        if (this.classify(error) !== 'permanent') throw error;
        await connection.command('ROLLBACK');
      }
      const deadLetters: DeadLetter[] = [];
      const savepoints: Savepoints = {
        set: () => connection.command('SAVEPOINT cairn'),
        release: () => connection.command('RELEASE SAVEPOINT cairn'),
        rollBack: () => connection.command('ROLLBACK TO SAVEPOINT cairn'),
        isRefusal: (error) => this.classify(error) === 'permanent',
      };
      try {
        return await this.#transact(
          connection,
          batch,
          changes,
          (step) => halve(step, savepoints, deadLetters),
          deadLetters,
        );
      } catch (error) {
        if (this.classify(error) !== 'permanent') throw error;
        const { message } = error as Error;
        throw new CairnError('ERR_BACKEND_UNFIT', `The database refuses a batch as a whole: ${message}`, {
          cause: error,
        });
      }
    });
  }

  async #transact(
    connection: MariadbConnection,
    batch: WriteBatch,
    changes: NewestChanges,
    perform: (step: Step) => Promise<void>,
    deadLetters: readonly DeadLetter[] = [],
  ): Promise<WriteOutcome> {
    const { from, to } = batch;
    await connection.command('START TRANSACTION');
    const isMoved = await (from === undefined ? this.#begin(connection, batch) : this.#move(connection, from, to));
    if (!isMoved) {
      const found = mayMove(await this.#cursorsIn(connection), batch);
      await connection.command('ROLLBACK');
      return { kind: 'moved', found: found.isFree ? undefined : found.found };
    }
    for (const step of this.#stepsOf(connection, changes)) await perform(step);
    const [live] = await connection.command(`SELECT 1 FROM ${this.#letters} WHERE superseded = 0 LIMIT 1`);
    if (live !== undefined) await this.#settle(connection, changes);
    for (const { change, error } of deadLetters) await this.#addDeadLetter(connection, change, error, to);
    await connection.command('COMMIT');
    return { kind: 'committed', deadLetters };
  }

  async #move(connection: MariadbConnection, from: Cursor, to: Cursor): Promise<boolean> {
    const condition = CURSOR.split(', ').map((column) => `${column} = ?`);
    const [, ...moving] = condition;
    const [, ...cells] = cursorCells(to);
    const found = await connection.change(
      `UPDATE ${this.#cursors} SET ${moving.join(', ')}, moved_ms = ? WHERE ${condition.join(' AND ')}`,
      [...cells, this.#clock(), ...cursorCells(from)],
    );
    return found === 1;
  }

  /** The first cursor of a lane. */
  async #begin(connection: MariadbConnection, batch: WriteBatch): Promise<boolean> {
    if (!mayMove(await this.#cursorsIn(connection, ' FOR UPDATE'), batch).isFree) return false;
    try {
      await connection.change(`INSERT INTO ${this.#cursors} (${CURSOR}, moved_ms) VALUES (?, ?, ?, ?, ?, ?, ?)`, [
        ...cursorCells(batch.to),
        this.#clock(),
      ]);
      return true;
    } catch (error) {
      // Another writer began it since.
      if ((error as { errno?: unknown }).errno === 1062) return false;
      throw error;
    }
  }

  *#stepsOf(connection: MariadbConnection, { deletes, sets, touches }: NewestChanges): Generator<Step> {
    const step = <C extends Change>(changes: readonly C[], sql: string, cellsOf: (change: C) => Cell[]): Step => ({
      changes,
      // It is given parts of these changes only.
      apply: (part) => connection.many(sql, (part as readonly C[]).map(cellsOf)),
    });
    const remove = `DELETE FROM ${this.#entries} WHERE \`key\` = ?`;
    for (const part of piecesOf<DeleteChange>(deletes, PIECE)) yield step(part, remove, ({ key }) => [rowKeyOf(key)]);
    const columns = `${VALUE}, long_key`.split(', ');
    const set = `INSERT INTO ${this.#entries} (\`key\`, ${columns.join(', ')}) VALUES (?, ?, ?, ?, ?, ?, ?)
      ON DUPLICATE KEY UPDATE ${columns.map((column) => `${column} = VALUES(${column})`).join(', ')}`;
    for (const part of piecesOf<SetChange>(sets, PIECE)) {
      yield step(part, set, ({ key, value, codec, clientFlags, expiresWallMs, version }) => [
        ...[rowKeyOf(key), value, codec, BigInt(clientFlags), BigInt(expiresWallMs), signed(version)],
        isLongKey(key) ? key : null,
      ]);
    }
    const touch = `UPDATE ${this.#entries} SET expires_ms = ?, version = ? WHERE \`key\` = ?`;
    for (const part of piecesOf<TouchChange>(touches, PIECE)) {
      yield step(part, touch, ({ key, expiresWallMs, version }) => [
        BigInt(expiresWallMs),
        signed(version),
        rowKeyOf(key),
      ]);
    }
  }

  /** Tells earlier dead letters of the keys that these changes are newer. */
  async #settle(connection: MariadbConnection, { deletes, sets, touches }: NewestChanges): Promise<void> {
    const supersede = `UPDATE ${this.#letters} SET superseded = 1 WHERE superseded = 0 AND \`key\` = ?`;
    for (const { key } of [...deletes, ...sets]) await connection.change(supersede, [rowKeyOf(key)]);
    for (const { key, expiresWallMs, version } of touches) {
      await connection.change(`${supersede} AND kind = 'touch'`, [rowKeyOf(key)]);
      await connection.change(
        `UPDATE ${this.#letters} SET expires_ms = ?, version = ? WHERE superseded = 0 AND kind = 'set' AND \`key\` = ?`,
        [BigInt(expiresWallMs), signed(version), rowKeyOf(key)],
      );
    }
  }

  async #addDeadLetter(connection: MariadbConnection, change: Change, error: Error, cursor: Cursor): Promise<void> {
    const { errno, sqlMessage } = error as { errno?: number; sqlMessage?: string };
    const isSet = change.kind === 'set';
    const cells: Cell[] = [
      change.kind,
      rowKeyOf(change.key),
      isSet ? change.value : null,
      isSet ? change.codec : null,
      isSet ? BigInt(change.clientFlags) : null,
      change.kind === 'delete' ? null : BigInt(change.expiresWallMs),
      signed(change.version),
      isLongKey(change.key) ? change.key : null,
      // The message of the package repeats the statement.
      sqlMessage ?? error.message,
      errno === undefined ? null : `${errno}`,
      ...cursorCells(cursor),
      Date.now(),
    ];
    const columns = `kind, \`key\`, ${VALUE}, long_key, error, error_code, ${CURSOR}, added_ms`;
    await connection.change(
      `INSERT INTO ${this.#letters} (${columns}) VALUES (${cells.map(() => '?').join(', ')})`,
      cells,
    );
  }

  async #cursorsIn(connection: MariadbConnection, lock = ''): Promise<Cursor[]> {
    const rows = await connection.command(`SELECT ${CURSOR} FROM ${this.#cursors} ORDER BY lane${lock}`);
    return rows.map(cursorOf);
  }

  async #listDeadLetters(limit: number, after: bigint): Promise<readonly KeptDeadLetter[]> {
    const columns = `id, kind, coalesce(long_key, \`key\`), ${VALUE}, error, error_code, added_ms, superseded, ${CURSOR}`;
    const rows = await this.#loaders.use((connection) => {
      this.#check();
      return connection.run(`SELECT ${columns} FROM ${this.#letters} WHERE id > ? ORDER BY id LIMIT ?`, [after, limit]);
    });
    return rows.map(
      ([
        id,
        kind,
        key,
        value,
        codec,
        clientFlags,
        expiresMs,
        version,
        error,
        errorCode,
        added,
        superseded,
        ...cursor
      ]) => ({
        id: BigInt(id as bigint),
        change: changeOf(kind as string, key as Buffer, [value!, codec!, clientFlags!, expiresMs!, version!]),
        error: error as string,
        errorCode: (errorCode as string | null) ?? undefined,
        cursor: cursorOf(cursor),
        addedWallMs: Number(added),
        isSuperseded: Number(superseded) !== 0,
      }),
    );
  }

  async #dropDeadLetters(ids: readonly bigint[]): Promise<number> {
    return this.#loaders.use(async (connection) => {
      this.#check();
      let count = 0;
      for (const id of ids) count += await connection.change(`DELETE FROM ${this.#letters} WHERE id = ?`, [id]);
      return count;
    });
  }

  #check(): void {
    if (!this.#isOpen) throw new CairnError('ERR_NOT_READY', `${this.name} has not been opened`);
  }
}

/** 64 bits without a sign keep their bits in a bigint column, which has one. */
function signed(bits: bigint): bigint {
  return BigInt.asIntN(64, bits);
}

function unsigned(cell: Cell | undefined): bigint {
  return BigInt.asUintN(64, BigInt(cell as bigint));
}

function cursorCells({ lane, laneCount, logId, position, epoch, writer }: Cursor): Cell[] {
  return [lane, laneCount, signed(logId), signed(position), BigInt(epoch), signed(writer)];
}

function cursorOf([lane, laneCount, logId, position, epoch, writer]: readonly Cell[]): Cursor {
  return {
    lane: Number(lane),
    laneCount: Number(laneCount),
    logId: unsigned(logId),
    position: unsigned(position),
    epoch: Number(epoch),
    writer: unsigned(writer),
  };
}

/** value, codec, client_flags, expires_ms, version */
function rowValue([value, codec, clientFlags, expiresMs, version]: readonly Cell[]): RowValue {
  return {
    value: value as Buffer,
    codec: Number(codec),
    clientFlags: Number(clientFlags),
    expiresWallMs: Number(expiresMs),
    version: unsigned(version),
  };
}

function changeOf(kind: string, key: Buffer, cells: readonly Cell[]): Change {
  if (kind === 'set') return { kind, key, ...rowValue(cells) };
  const [, , , expiresMs, version] = cells;
  if (kind === 'delete') return { kind, key, version: unsigned(version) };
  return { kind: 'touch', key, expiresWallMs: Number(expiresMs), version: unsigned(version) };
}

function asError(reason: unknown): Error {
  return reason instanceof Error ? reason : new Error(String(reason));
}
