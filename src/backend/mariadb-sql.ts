/**
 * What calls do with the tables of a MariaDB backend. MariaDB gets the rows of a statement in one message.
 *
 * **Reads** are transactions with a consistent snapshot, so that rows and cursors are of one moment.
 *
 * **Messages** have a bound, the server's `max_allowed_packet`: pieces of changes and of keys keep below it. A value
 * that does not fit alone becomes a dead letter. The server has no way to put a value of that size together, so the
 * rest of it stands in further rows, of kind `part`, with the id of the dead letter as their `error_code`.
 */

import type { RuleSet } from '../rules/index.ts';
import type {
  AddChange,
  Change,
  Cursor,
  CursorMove,
  CursorPlace,
  DeadLetter,
  DeleteChange,
  HistoryRow,
  KeptDeadLetter,
  Loaded,
  RefusedKey,
  RowValue,
  SetChange,
  TouchChange,
  WriteBatch,
} from './backend.ts';
import { COUNTER_BYTES_MAX, COUNTER_MODULUS, COUNTER_PATTERN } from './counter.ts';
import { inTheWay, movesOf } from './cursors.ts';
import { alive, answersOf, LETTERS_PIECE, type LiveLetter } from './dead-letters.ts';
import type { Cell, MariadbConnection } from './mariadb-connection.ts';
import { MESSAGE_TOO_LARGE, MessageTooLarge } from './mariadb-errors.ts';
import type { MariadbOwnTable } from './mariadb-own-tables.ts';
import type { TableNames } from './mariadb-tables.ts';
import type { NewestChanges, PieceBounds } from './newest.ts';
import { Routes, type RowTable } from './routes.ts';
import { isLongKey, ROW_KEY_BYTES_MAX, rowKeyOf } from './row-key.ts';
import { namedRows, type ScanPiece, type SqlTables } from './sql-backend.ts';
import {
  CURSOR_COLUMNS,
  changeCells,
  changeOf,
  cursorCells,
  cursorOf,
  LETTER_COLUMNS,
  LOAD_KEYS_MAX,
  letterCells,
  PLACE_COLUMNS,
  placeCells,
  placeOf,
  rowValueOf,
  SCAN_ROWS,
  SCAN_VALUE_BYTES_MAX,
  signed,
  VALUE_COLUMNS,
} from './sql-rows.ts';
import { mayStillSweep, type SweptTable } from './sweep.ts';

/** Rows and bytes of a message with many rows. */
const PIECE: PieceBounds = { rows: 1000, bytes: 2 ** 20 };
/** What a row adds to a message beside its key and value, at most, with some room. */
const ROW_BYTES_MAX = 256;
/** Keys of a list, of which the server is asked once. */
const LISTED_KEYS_MAX = 256;
/** A key in a list, with its length. */
const LISTED_KEY_BYTES_MAX: number = ROW_KEY_BYTES_MAX + 64;

export class MariadbTables implements SqlTables<MariadbConnection>, RowTable<MariadbConnection> {
  readonly routes: Routes<MariadbOwnTable, RowTable<MariadbConnection>>;
  readonly swept: readonly SweptTable<MariadbConnection>[];
  readonly #entries: string;
  readonly #cursors: string;
  readonly #letters: string;
  readonly #history: string;

  constructor({ entries, cursors, letters, history }: TableNames, rules: RuleSet, own: readonly MariadbOwnTable[]) {
    this.routes = new Routes(rules, this, own);
    this.swept = [this.#sweptEntries(rules), ...own.filter(({ rows }) => rows.plan.rule.deleteOnExpire)];
    this.#entries = entries;
    this.#cursors = cursors;
    this.#letters = letters;
    this.#history = history;
  }

  boundsOn({ packetBytesMax }: MariadbConnection): PieceBounds {
    const half = packetBytesMax >> 1;
    return { rows: Math.min(PIECE.rows, Math.ceil(half / ROW_BYTES_MAX)), bytes: Math.min(PIECE.bytes, half) };
  }

  async begin(connection: MariadbConnection, batch: WriteBatch, nowMs: number) {
    await connection.command('START TRANSACTION');
    for (const move of movesOf(batch)) if (!(await this.#move(connection, move, nowMs))) return undefined;
    const [live] = await connection.command(`SELECT 1 FROM ${this.#letters} AS its WHERE superseded = 0 LIMIT 1`);
    return { hasDeadLetters: live !== undefined };
  }

  async #move(connection: MariadbConnection, { from, to }: CursorMove, nowMs: number): Promise<boolean> {
    if (from === undefined) return this.#makeCursor(connection, to!, nowMs);
    const condition = CURSOR_COLUMNS.split(', ').map((column) => `${column} = ?`);
    if (to === undefined) {
      const gone = `DELETE FROM ${this.#cursors} WHERE ${condition.join(' AND ')}`;
      return (await connection.change(gone, cursorCells(from))) === 1;
    }
    const [, ...moving] = condition;
    const [, ...cells] = cursorCells(to);
    const found = await connection.change(
      `UPDATE ${this.#cursors} SET ${moving.join(', ')}, moved_ms = ? WHERE ${condition.join(' AND ')}`,
      [...cells, nowMs, ...cursorCells(from)],
    );
    return found === 1;
  }

  /** The first cursor of a lane. */
  async #makeCursor(connection: MariadbConnection, to: Cursor, nowMs: number): Promise<boolean> {
    if (inTheWay(await this.cursors(connection, 'all'), to) !== undefined) return false;
    const cells: Cell[] = [...cursorCells(to), nowMs];
    try {
      await connection.change(
        `INSERT INTO ${this.#cursors} (${CURSOR_COLUMNS}, moved_ms) VALUES (${cells.map(() => '?').join(', ')})`,
        cells,
      );
      return true;
    } catch (error) {
      // Another writer began it since.
      if ((error as { errno?: unknown }).errno === 1062) return false;
      throw error;
    }
  }

  remove(connection: MariadbConnection, deletes: readonly DeleteChange[]): Promise<void> {
    return connection.many(
      `DELETE FROM ${this.#entries} WHERE \`key\` = ?`,
      deletes.map(({ key }) => [rowKeyOf(key)]),
    );
  }

  set(connection: MariadbConnection, sets: readonly SetChange[]): Promise<void> {
    const columns = `${VALUE_COLUMNS}, long_key`.split(', ');
    return connection.many(
      `INSERT INTO ${this.#entries} (\`key\`, ${columns.join(', ')}) VALUES (?, ?, ?, ?, ?, ?, ?)
      ON DUPLICATE KEY UPDATE ${columns.map((column) => `${column} = VALUES(${column})`).join(', ')}`,
      sets.map(({ key, value, codec, clientFlags, expiresWallMs, version }) => [
        ...[rowKeyOf(key), value, codec, BigInt(clientFlags), BigInt(expiresWallMs), signed(version)],
        isLongKey(key) ? key : null,
      ]),
    );
  }

  touch(connection: MariadbConnection, touches: readonly TouchChange[]): Promise<void> {
    return connection.many(
      `UPDATE ${this.#entries} SET expires_ms = ?, version = ? WHERE \`key\` = ?`,
      touches.map(({ key, expiresWallMs, version }) => [BigInt(expiresWallMs), signed(version), rowKeyOf(key)]),
    );
  }

  addHistory(connection: MariadbConnection, rows: readonly HistoryRow[]): Promise<void> {
    const columns = ['`key`', ...VALUE_COLUMNS.split(', '), 'kind', 'long_key', 'logged_ms'];
    return connection.many(
      `INSERT INTO ${this.#history} (${columns.join(', ')}) VALUES (${columns.map(() => '?').join(', ')})
      ON DUPLICATE KEY UPDATE version = version`,
      rows.map((row) => [
        ...[rowKeyOf(row.key), ...changeCells(row), row.kind],
        ...[isLongKey(row.key) ? row.key : null, BigInt(row.loggedWallMs)],
      ]),
    );
  }

  /** A row without a number would get NULL, which its column refuses. */
  add(connection: MariadbConnection, adds: readonly AddChange[]): Promise<void> {
    const columns = `${VALUE_COLUMNS}, long_key`.split(', ');
    const text = 'CONVERT(value USING latin1)';
    const number = `CAST(REGEXP_SUBSTR(${text}, '[0-9]+') AS DECIMAL(65))`;
    const isNumber = `length(value) <= ${COUNTER_BYTES_MAX} AND ${text} REGEXP '${COUNTER_PATTERN}'`;
    const sum = `MOD(GREATEST(${number} + CAST(? AS DECIMAL(65)), 0), ${COUNTER_MODULUS})`;
    return connection.many(
      `INSERT INTO ${this.#entries} (\`key\`, ${columns.join(', ')}) VALUES (?, ?, ?, ?, ?, ?, ?)
      ON DUPLICATE KEY UPDATE expires_ms = VALUES(expires_ms), version = VALUES(version),
        value = IF(${isNumber}, IF(${number} < ${COUNTER_MODULUS}, CAST(${sum} AS CHAR), NULL), NULL)`,
      adds.map(({ key, value, codec, clientFlags, expiresWallMs, version, delta }) => [
        ...[rowKeyOf(key), value, codec, BigInt(clientFlags), BigInt(expiresWallMs), signed(version)],
        ...[isLongKey(key) ? key : null, String(delta)],
      ]),
    );
  }

  async covered(connection: MariadbConnection, keys: readonly Buffer[]): Promise<(key: Buffer) => boolean> {
    const names = new Set<string>();
    const live = `SELECT 1 FROM ${this.#letters} WHERE superseded = 0 AND kind IN ('set', 'delete') AND \`key\` = ? LIMIT 1`;
    for (const key of keys) {
      if ((await connection.run(live, [rowKeyOf(key)])).length > 0) names.add(nameOf(key));
    }
    return (key) => names.has(nameOf(key));
  }

  async settle(connection: MariadbConnection, { deletes, sets, touches, adds }: NewestChanges): Promise<void> {
    const supersede = `UPDATE ${this.#letters} SET superseded = 1 WHERE superseded = 0 AND \`key\` = ?`;
    for (const { key } of [...deletes, ...sets]) await connection.change(supersede, [rowKeyOf(key)]);
    for (const { key, expiresWallMs, version } of [...touches, ...adds]) {
      await connection.change(`${supersede} AND kind = 'touch'`, [rowKeyOf(key)]);
      await connection.change(
        `UPDATE ${this.#letters} SET expires_ms = ?, version = ? WHERE superseded = 0 AND kind IN ('set', 'add') AND \`key\` = ?`,
        [BigInt(expiresWallMs), signed(version), rowKeyOf(key)],
      );
    }
  }

  async addDeadLetter(
    connection: MariadbConnection,
    { change, error }: DeadLetter,
    cursor: CursorPlace,
  ): Promise<void> {
    const { errno, sqlMessage } = error as { errno?: number; sqlMessage?: string };
    // The message of the package repeats the statement.
    const reason = sqlMessage ?? error.message;
    const code = errno === undefined ? null : `${errno}`;
    const { kind } = change;
    if (kind !== 'set' || !(error instanceof MessageTooLarge)) {
      await this.#insertLetter(connection, kind, change, [reason, code], cursor);
      return;
    }
    const { value } = change;
    const room = connection.packetBytesMax >> 1;
    const partAt = (at: number): Change => ({ ...change, value: value.subarray(at, at + room) });
    await this.#insertLetter(connection, kind, partAt(0), [reason, code], cursor);
    const [row] = await connection.command('SELECT LAST_INSERT_ID()');
    for (let at = room; at < value.length; at += room) {
      await this.#insertLetter(connection, 'part', partAt(at), ['', `${row![0]}`], cursor);
    }
  }

  #insertLetter(
    connection: MariadbConnection,
    kind: string,
    change: Change,
    error: readonly Cell[],
    cursor: CursorPlace,
  ): Promise<number> {
    const cells: Cell[] = [
      ...[kind, rowKeyOf(change.key), ...letterCells(change), isLongKey(change.key) ? change.key : null],
      ...[...error, ...placeCells(cursor), Date.now()],
    ];
    const columns = `kind, \`key\`, ${LETTER_COLUMNS}, long_key, error, error_code, ${PLACE_COLUMNS}, added_ms`;
    return connection.change(
      `INSERT INTO ${this.#letters} (${columns}) VALUES (${cells.map(() => '?').join(', ')})`,
      cells,
    );
  }

  commit(connection: MariadbConnection): Promise<unknown> {
    return connection.command('COMMIT');
  }

  async cursors(
    connection: MariadbConnection,
    waitsFor: readonly number[] | 'all' | 'none',
  ): Promise<readonly Cursor[]> {
    const select = `SELECT ${CURSOR_COLUMNS} FROM ${this.#cursors} AS its`;
    if (Array.isArray(waitsFor)) {
      await connection.command(`${select} WHERE lane IN (${waitsFor.join(', ')}) ORDER BY lane FOR UPDATE`);
    }
    const rows = await connection.command(`${select} ORDER BY lane${waitsFor === 'all' ? ' FOR UPDATE' : ''}`);
    return rows.map(cursorOf);
  }

  async load(connection: MariadbConnection, keys: readonly Buffer[], nowMs: number): Promise<Loaded> {
    await this.#beginReading(connection);
    const rows = await this.#rowsOf(connection, keys, nowMs);
    const cursors = await this.cursors(connection, 'none');
    await connection.command('COMMIT');
    return { rows, cursors };
  }

  async beginAlone(connection: MariadbConnection, lane: number): Promise<void> {
    await connection.command('START TRANSACTION');
    await this.cursors(connection, [lane]);
  }

  async beginSweep(connection: MariadbConnection, at: readonly Cursor[]) {
    await connection.command('START TRANSACTION');
    if (!mayStillSweep(await this.cursors(connection, at.length === 1 ? 'all' : 'none'), at)) return undefined;
    const [live] = await connection.command(`SELECT 1 FROM ${this.#letters} AS its WHERE superseded = 0 LIMIT 1`);
    return { hasDeadLetters: live !== undefined };
  }

  async withoutDeadLetters(connection: MariadbConnection, keys: readonly Buffer[]): Promise<readonly Buffer[]> {
    const live = new Set<string>();
    for (let start = 0; start < keys.length; start += LISTED_KEYS_MAX) {
      const some = keys.slice(start, start + LISTED_KEYS_MAX).map(rowKeyOf);
      const list = `SELECT DISTINCT \`key\` FROM ${this.#letters} AS its WHERE superseded = 0 AND \`key\` IN (${some.map(() => '?')})`;
      for (const [key] of await connection.run(list, some)) live.add(nameOf(key));
    }
    return keys.filter((key) => !live.has(nameOf(rowKeyOf(key))));
  }

  #sweptEntries(rules: RuleSet): SweptTable<MariadbConnection> {
    return {
      page: async (connection, after, limit) => {
        const [last = Buffer.alloc(0)] = (after ?? []) as readonly Buffer[];
        const page = `SELECT \`key\`, coalesce(long_key, \`key\`), expires_ms FROM ${this.#entries} WHERE \`key\` > ?
          ORDER BY \`key\` LIMIT ?`;
        const rows = await connection.run(page, [last, limit]);
        return {
          rows: rows.flatMap(([, key, expiresMs]) => {
            const row = { key: key as Buffer, expiresWallMs: Number(expiresMs) };
            return row.expiresWallMs !== 0 && rules.sweeps(row.key) ? [row] : [];
          }),
          last: rows.length < limit ? undefined : [rows.at(-1)![0]],
        };
      },
      removeExpired: async (connection, keys, expiredAtMs) => {
        let removed = 0;
        const remove = `DELETE FROM ${this.#entries} WHERE \`key\` = ? AND expires_ms BETWEEN 1 AND ?`;
        for (const key of keys) removed += await connection.change(remove, [rowKeyOf(key), BigInt(expiredAtMs)]);
        return removed;
      },
    };
  }

  async *scan(connection: MariadbConnection, clock: () => number): AsyncGenerator<ScanPiece> {
    // The reader of the pieces may take its time.
    await connection.mayIdle(true);
    await this.#beginReading(connection);
    const cursors = await this.cursors(connection, 'none');
    yield { rows: [], cursors };
    const loaded = async (keys: readonly Buffer[]) => {
      return namedRows(keys, await this.#rowsOf(connection, keys, clock()));
    };
    // Rows with dead letters come as a load gives them, also those that exist by their dead letter only.
    const page = `SELECT \`key\`, long_key, bytes FROM (
        (SELECT \`key\`, long_key, length(value) AS bytes FROM ${this.#entries} AS its WHERE \`key\` > ? ORDER BY \`key\` LIMIT ${SCAN_ROWS})
        UNION ALL (SELECT \`key\`, long_key, 0 FROM ${this.#letters} AS its WHERE superseded = 0 AND kind <> 'part' AND \`key\` > ? ORDER BY \`key\`
          LIMIT ${SCAN_ROWS})) AS found ORDER BY \`key\` LIMIT ${SCAN_ROWS}`;
    for (let last: Buffer = Buffer.alloc(0), isMore = true; isMore; ) {
      const found = await connection.run(page, [last, last]);
      isMore = found.length === SCAN_ROWS;
      const small: Buffer[] = [];
      // A row of such a key is left from before its rule, unless it is a dead letter.
      const strays: Buffer[] = [];
      for (const [rowKey, longKey, bytes] of found) {
        const isRepeated = (rowKey as Buffer).equals(last);
        last = rowKey as Buffer;
        const key = (longKey ?? rowKey) as Buffer;
        if (isRepeated) continue;
        if (this.routes.ownOf(key) !== undefined) strays.push(key);
        else if (Number(bytes) <= SCAN_VALUE_BYTES_MAX) small.push(key);
        else yield { rows: await loaded([key]), cursors };
      }
      if (strays.length > 0) {
        const sound = new Set(await this.withoutDeadLetters(connection, strays));
        small.push(...strays.filter((key) => !sound.has(key)));
      }
      if (small.length > 0) yield { rows: await loaded(small), cursors };
    }
    for (const table of this.routes.own) {
      for await (const found of table.scan(connection)) {
        // A key with a longer prefix has another rule.
        const mine = found.filter(({ key, value }) => {
          return this.routes.ownOf(key) === table && alive(value, clock()) !== undefined;
        });
        const sound = new Set(
          await this.withoutDeadLetters(
            connection,
            mine.map(({ key }) => key),
          ),
        );
        const rows = mine.flatMap(({ key, value }) => (sound.has(key) ? [{ key, ...value }] : []));
        if (rows.length > 0) yield { rows, cursors };
      }
    }
    await connection.command('COMMIT');
    await connection.mayIdle(false);
  }

  #beginReading(connection: MariadbConnection): Promise<unknown> {
    return connection.command('START TRANSACTION WITH CONSISTENT SNAPSHOT, READ ONLY');
  }

  /** In a transaction: the rows as of its snapshot. */
  async #rowsOf(connection: MariadbConnection, keys: readonly Buffer[], nowMs: number) {
    const rowKeys = keys.map(rowKeyOf);
    const names = rowKeys.map((key) => key.toString('latin1'));
    const found = new Map<string, RowValue | undefined>();
    const letters: LiveLetter[] = [];
    // Of powers of two, the largest whose list fits into half a message. The server keeps to its index for it.
    const fitting = 2 ** Math.floor(Math.log2(connection.packetBytesMax / 2 / LISTED_KEY_BYTES_MAX));
    const most = Math.max(1, Math.min(LOAD_KEYS_MAX, fitting));
    for (let start = 0; start < rowKeys.length; start += most) {
      // Statements are prepared for powers of two; repeated keys change nothing.
      const cells: Cell[] = rowKeys.slice(start, start + most);
      const size = 2 ** Math.ceil(Math.log2(cells.length));
      while (cells.length < size) cells.push(cells[0]!);
      const list = `(${Array.from({ length: size }, () => '?').join(',')})`;
      const rows = `SELECT \`key\`, ${VALUE_COLUMNS} FROM ${this.#entries} AS its WHERE \`key\` IN ${list}`;
      for (const [key, ...value] of await connection.run(rows, cells)) found.set(nameOf(key), rowValueOf(value));
      if (letters.length < LETTERS_PIECE) {
        letters.push(...(await this.#lettersIn(connection, `\`key\` IN ${list}`, 'id + 0', cells)));
      }
    }
    letters.sort((a, b) => (a.id < b.id ? -1 : 1)).splice(LETTERS_PIECE);
    for (const { table, keys: its } of this.routes.ownKeys(keys)) {
      const values = await table.load(connection, its);
      for (const [i, key] of its.entries()) found.set(nameOf(rowKeyOf(key)), values[i]);
    }
    const next = (name: string, after: bigint): Promise<LiveLetter[]> =>
      this.#lettersIn(connection, '`key` = ? AND id > ?', 'id', [Buffer.from(name, 'latin1'), after]);
    return answersOf(names, found, { first: letters, next }, nowMs);
  }

  /** A piece of the dead letters of some keys. An order that no index has keeps the server to the index of keys. */
  async #lettersIn(
    connection: MariadbConnection,
    condition: string,
    order: string,
    cells: readonly Cell[],
  ): Promise<LiveLetter[]> {
    const kept = await connection.run(
      `SELECT id, error_code, kind, \`key\`, ${LETTER_COLUMNS} FROM ${this.#letters} AS its
        WHERE superseded = 0 AND kind <> 'part' AND ${condition} ORDER BY ${order} LIMIT ${LETTERS_PIECE}`,
      cells,
    );
    const parts = partsBy(await this.#partsOf(connection, kept));
    return kept.map(([id, , kind, key, ...value]) => ({
      id: BigInt(id as bigint),
      name: nameOf(key),
      change: joined(changeOf(kind as string, key as Buffer, value), parts.get(`${id}`)),
    }));
  }

  async listDeadLetters(connection: MariadbConnection, limit: number, after: bigint): Promise<KeptDeadLetter[]> {
    const columns = `id, error_code, kind, coalesce(long_key, \`key\`), error, added_ms, superseded, ${LETTER_COLUMNS}, ${PLACE_COLUMNS}`;
    const rows = await connection.run(
      `SELECT ${columns} FROM ${this.#letters} AS its WHERE id > ? AND kind <> 'part' ORDER BY id LIMIT ?`,
      [after, limit],
    );
    const parts = partsBy(await this.#partsOf(connection, rows));
    return rows.map(([id, errorCode, kind, key, error, addedMs, superseded, ...cells]) => ({
      id: BigInt(id as bigint),
      change: joined(changeOf(kind as string, key as Buffer, cells), parts.get(`${id}`)),
      error: error as string,
      errorCode: (errorCode as string | null) ?? undefined,
      cursor: placeOf(cells.slice(LETTER_COLUMNS.split(', ').length)),
      addedWallMs: Number(addedMs),
      isSuperseded: Number(superseded) !== 0,
    }));
  }

  async oldestDeadLetter(connection: MariadbConnection, keys: readonly Buffer[]): Promise<RefusedKey | undefined> {
    if (keys.length === 0) return undefined;
    const [found] = await connection.run(
      `SELECT coalesce(long_key, \`key\`), error FROM ${this.#letters} AS its
        WHERE superseded = 0 AND kind <> 'part' AND \`key\` IN (${keys.map(() => '?')}) ORDER BY id + 0 LIMIT 1`,
      keys.map(rowKeyOf),
    );
    return found && { key: found[0] as Buffer, error: found[1] as string };
  }

  /** The rest of large values. `letters`: their rows, which begin with the number and the code of the error. */
  async #partsOf(connection: MariadbConnection, letters: readonly Cell[][]): Promise<Cell[][]> {
    const large = letters.filter(([, errorCode]) => errorCode === `${MESSAGE_TOO_LARGE}`);
    if (large.length === 0) return [];
    const list = large.map(([id]) => `'${id}'`).join(', ');
    return connection.command(
      `SELECT error_code, value FROM ${this.#letters} AS its WHERE kind = 'part' AND error_code IN (${list}) ORDER BY id`,
    );
  }

  async dropDeadLetters(connection: MariadbConnection, ids: readonly bigint[]): Promise<number> {
    let count = 0;
    for (const id of ids) {
      const isPart = "kind = 'part'";
      await connection.change(`DELETE FROM ${this.#letters} WHERE id > ? AND ${isPart} AND error_code = ?`, [
        id,
        `${id}`,
      ]);
      count += await connection.change(`DELETE FROM ${this.#letters} WHERE id = ? AND NOT ${isPart}`, [id]);
    }
    return count;
  }
}

/** The rest of values, by the name of their dead letter. */
function partsBy(rows: readonly (readonly (Cell | undefined)[])[]): Map<string, Buffer[]> {
  const parts = new Map<string, Buffer[]>();
  for (const [name, part] of rows) {
    parts.set(name as string, [...(parts.get(name as string) ?? []), part as Buffer]);
  }
  return parts;
}

function joined(change: Change, parts: readonly Buffer[] | undefined): Change {
  if (parts === undefined || change.kind !== 'set') return change;
  return { ...change, value: Buffer.concat([change.value, ...parts]) };
}

function nameOf(key: Cell | undefined): string {
  return (key as Buffer).toString('latin1');
}
