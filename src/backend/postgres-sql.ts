/**
 * The tables of a PostgreSQL backend and the statements on them; docs/backends.md describes both for users.
 */
import type { AddChange, Change, Cursor, CursorMove, CursorPlace, HistoryRow, Row, TouchChange } from './backend.ts';
import { COUNTER_BYTES_MAX, COUNTER_MODULUS, COUNTER_PATTERN } from './counter.ts';
import { LETTERS_PIECE } from './dead-letters.ts';
import { isLongKey, rowKeyOf } from './row-key.ts';
import {
  CURSOR_COLUMNS,
  changeCells,
  cursorCells,
  LETTER_COLUMNS,
  letterCells,
  PLACE_COLUMNS,
  placeCells,
  signed,
  VALUE_COLUMNS,
} from './sql-rows.ts';

/** A cell of a statement's parameters. pg sends Buffers as they are and the rest as text. */
export type Parameter = Buffer | string | number | bigint | null;

export interface Statement {
  /** The same name is the same text: a connection prepares it once. */
  readonly name: string;
  readonly text: string;
  readonly values: readonly Parameter[];
}

/** Rows of a statement: the largest power of two that is worth its time. Research: past 1,000 nothing is gained. */
export const STATEMENT_ROWS_MAX = 1024;
/** Bytes of keys and values of a statement with more than one row. */
export const STATEMENT_BYTES_MAX: number = 2 ** 20;

/** The layout that this code makes and reads; it stands in the comment of the table. */
export const LAYOUT = 1;

export interface Column {
  readonly name: string;
  readonly type: string;
  readonly isRequired: boolean;
}

const required = (name: string, type: string): Column => ({ name, type, isRequired: true });
const optional = (name: string, type: string): Column => ({ name, type, isRequired: false });

export interface Table {
  readonly name: string;
  /** Its name with its schema, quoted. */
  readonly quoted: string;
  readonly columns: readonly Column[];
  /** The columns of its primary key. */
  readonly key: readonly string[];
  readonly comment: string;
}

export interface Tables {
  readonly entries: Table;
  readonly cursors: Table;
  readonly deadLetters: Table;
  /** There only if a rule keeps history. */
  readonly history: Table;
}

export function tablesOf(schema: string, prefix: string): Tables {
  const table = (name: string, key: readonly string[], comment: string, columns: readonly Column[]): Table => ({
    name: prefix + name,
    quoted: `${quoted(schema)}.${quoted(prefix + name)}`,
    key,
    columns,
    comment: `cairn-cache, layout ${LAYOUT}: ${comment}`,
  });
  const value = [optional('value', 'bytea'), optional('codec', 'smallint'), optional('client_flags', 'bigint')];
  const place = [
    required('lane', 'integer'),
    required('lane_count', 'integer'),
    required('log_id', 'bigint'),
    required('position', 'bigint'),
    required('epoch', 'bigint'),
    required('writer', 'bigint'),
  ];
  return {
    entries: table('entries', ['key'], 'one row per key', [
      required('key', 'bytea'),
      ...value.map(({ name, type }) => required(name, type)),
      required('expires_ms', 'bigint'),
      required('version', 'bigint'),
      optional('long_key', 'bytea'),
    ]),
    cursors: table('cursors', ['lane'], 'how far in the log everything is in the rows; never edit it', [
      ...place,
      required('holder_epoch', 'bigint'),
      required('holder_writer', 'bigint'),
      required('moved_at', 'timestamp with time zone'),
    ]),
    deadLetters: table('dead_letters', ['id'], 'changes that the database refused', [
      required('id', 'bigint'),
      required('kind', 'text'),
      required('key', 'bytea'),
      ...value,
      optional('expires_ms', 'bigint'),
      required('version', 'bigint'),
      optional('delta', 'numeric'),
      optional('atomic', 'integer'),
      optional('long_key', 'bytea'),
      required('error', 'text'),
      optional('error_code', 'text'),
      ...place,
      required('added_at', 'timestamp with time zone'),
      required('superseded', 'boolean'),
    ]),
    history: table('history', ['key', 'version'], 'every write of the keys of some rules', [
      required('key', 'bytea'),
      required('version', 'bigint'),
      required('kind', 'text'),
      ...value,
      optional('expires_ms', 'bigint'),
      optional('long_key', 'bytea'),
      required('logged_at', 'timestamp with time zone'),
    ]),
  };
}

/** The commands that make a table. */
export function creation(tables: Tables, table: Table): string[] {
  const defaults: Record<string, string> = { added_at: ' DEFAULT now()', superseded: ' DEFAULT false' };
  const columns = table.columns.map(({ name, type, isRequired }) => {
    const identity = name === 'id' ? ' GENERATED ALWAYS AS IDENTITY' : '';
    return `${quoted(name)} ${type}${identity}${isRequired ? ' NOT NULL' : ''}${defaults[name] ?? ''}`;
  });
  return [
    `CREATE TABLE ${table.quoted} (${columns.join(', ')}, PRIMARY KEY (${table.key.map(quoted).join(', ')}))`,
    `COMMENT ON TABLE ${table.quoted} IS ${literal(table.comment)}`,
    // A load looks here for each of its keys; nearly always the index is empty.
    ...(table === tables.deadLetters
      ? [`CREATE INDEX ${quoted(`${table.name}_live`)} ON ${table.quoted} (key, id) WHERE NOT superseded`]
      : []),
  ];
}

export function quoted(name: string): string {
  return `"${name.replaceAll('"', '""')}"`;
}

function literal(text: string): string {
  return `'${text.replaceAll("'", "''")}'`;
}

/** bytea as text: \x and two digits for each byte. */
export function bytesOf(text: string): Buffer {
  return Buffer.from(text.slice(2), 'hex');
}

const cursorText = `concat_ws(' ', ${CURSOR_COLUMNS})`;
const placeText = `concat_ws(' ', ${PLACE_COLUMNS})`;

/** Repeats a group of parameters: `($1::bytea,$2::bigint),($3,$4)`. Types in the first row are those of all. */
export function groups(count: number, types: readonly string[]): string {
  const rows: string[] = [];
  let next = 1;
  for (let row = 0; row < count; row++) {
    rows.push(`(${types.map((type) => `$${next++}${row === 0 ? `::${type}` : ''}`).join(',')})`);
  }
  return rows.join(',');
}

function places(count: number, first = 1): string {
  return Array.from({ length: count }, (_, i) => `$${first + i}`).join(',');
}

/** The least power of two that is not below the count: statements are prepared for these sizes only. */
export function sizeFor(count: number): number {
  return 2 ** Math.ceil(Math.log2(count));
}

export class PostgresStatements {
  readonly tables: Tables;
  readonly #texts = new Map<string, string>();

  constructor(tables: Tables) {
    this.tables = tables;
  }

  /**
   * Opens the transaction of a batch and moves the cursor: simple commands without parameters, in one round trip, which
   * numbers alone allow. The last of them returns a row if the cursor was where it had to be. The row says whether
   * there are dead letters that a later change may supersede.
   */
  begin(move: CursorMove): string {
    return `BEGIN ISOLATION LEVEL READ COMMITTED; ${this.move(move)}`;
  }

  /** Moves a cursor. A row: it was where it had to be. */
  move({ from, to }: CursorMove): string {
    const { cursors, deadLetters } = this.tables;
    const live = `RETURNING EXISTS (SELECT FROM ${deadLetters.quoted} WHERE NOT superseded)`;
    const names = CURSOR_COLUMNS.split(', ');
    const condition = (at: Cursor): string =>
      cursorCells(at)
        .map((number, i) => `${names[i]} = ${number}`)
        .join(' AND ');
    if (to === undefined) return `DELETE FROM ${cursors.quoted} WHERE ${condition(from!)} ${live}`;
    const cells = cursorCells(to);
    const [, laneCount, logId] = cells;
    if (from === undefined) {
      return `INSERT INTO ${cursors.quoted} (${CURSOR_COLUMNS}, moved_at)
        SELECT ${cells.join(', ')}, now()
        WHERE NOT EXISTS (SELECT FROM ${cursors.quoted} WHERE lane_count <> ${laneCount} OR log_id <> ${logId})
        ON CONFLICT (lane) DO NOTHING ${live}`;
    }
    const [, ...moving] = cells.map((number, i) => `${names[i]} = ${number}`);
    return `UPDATE ${cursors.quoted} SET ${moving.join(', ')}, moved_at = now() WHERE ${condition(from)} ${live}`;
  }

  readCursors(): string {
    return `SELECT ${cursorText} FROM ${this.tables.cursors.quoted} AS its ORDER BY lane`;
  }

  /** The cursors, when no transaction holds one of these lanes any more. */
  lockCursors(lanes: readonly number[] | 'all'): string {
    if (lanes === 'all') return `${this.readCursors()} FOR UPDATE`;
    const those = `WHERE lane IN (${lanes.join(', ')}) ORDER BY lane FOR UPDATE`;
    return `SELECT FROM ${this.tables.cursors.quoted} ${those}; ${this.readCursors()}`;
  }

  /** Opens a transaction that has the cursor of a lane to itself. */
  beginAlone(lane: number): string {
    return `BEGIN ISOLATION LEVEL READ COMMITTED; ${this.lockCursors([lane])}`;
  }

  /** Opens the transaction of a sweep. Its rows are the cursors; locked, if `isLocked`. */
  beginSweep(isLocked: boolean): string {
    return `BEGIN ISOLATION LEVEL READ COMMITTED; ${isLocked ? this.lockCursors('all') : this.readCursors()}`;
  }

  /** A row: there are dead letters that a later change may supersede. */
  anyDeadLetter(): string {
    return `SELECT FROM ${this.tables.deadLetters.quoted} WHERE NOT superseded LIMIT 1`;
  }

  /** The next rows by key: the row key, the whole key, the expiry. */
  sweepPage(after: Buffer, rows: number): Statement {
    const text = `SELECT key, coalesce(long_key, key), expires_ms FROM ${this.tables.entries.quoted}
      WHERE key > $1 ORDER BY key LIMIT $2`;
    return { name: 'cairn_sweep', text, values: [after, rows] };
  }

  removeExpired(keys: readonly Buffer[], expiredAtMs: number): Statement {
    const { quoted: table } = this.tables.entries;
    const size = sizeFor(keys.length);
    const rowKeys: Parameter[] = keys.map(rowKeyOf);
    const name = `cairn_expired_${size}`;
    return {
      name,
      text: this.#text(
        name,
        () => `DELETE FROM ${table} WHERE expires_ms BETWEEN 1 AND $1::bigint AND key IN (${places(size, 2)})`,
      ),
      values: [expiredAtMs, ...filled(rowKeys, size, rowKeys.at(-1)!)],
    };
  }

  /** Makes rows, or replaces them. */
  upsert(sets: readonly Row[]): Statement {
    return this.#insert('cairn_set', sets, (columns) => {
      return `UPDATE SET ${columns.map((column) => `${column} = excluded.${column}`)}`;
    });
  }

  /** Makes those of the rows that are not there, and returns their keys. */
  make(rows: readonly Row[]): Statement {
    return this.#insert('cairn_make', rows, () => 'NOTHING RETURNING key');
  }

  #insert(prefix: string, sets: readonly Row[], onConflict: (columns: readonly string[]) => string): Statement {
    const size = sizeFor(sets.length);
    // Long keys are rare: their column is left out of the usual statement.
    const isLong = sets.some(({ key }) => isLongKey(key));
    const columns = [
      ...['key', 'value', 'codec', 'client_flags', 'expires_ms', 'version'],
      ...(isLong ? ['long_key'] : []),
    ];
    const types = ['bytea', 'bytea', 'smallint', 'bigint', 'bigint', 'bigint', ...(isLong ? ['bytea'] : [])];
    const name = `${prefix}${isLong ? '_long' : ''}_${size}`;
    const text = this.#text(
      name,
      () => `INSERT INTO ${this.tables.entries.quoted} (${columns.join(', ')})
        SELECT * FROM (VALUES ${groups(size, types)}) AS change (${columns.join(', ')}) WHERE key IS NOT NULL
        ON CONFLICT (key) DO ${onConflict(columns.slice(1))}`,
    );
    const values: Parameter[] = [];
    for (const { key, value, codec, clientFlags, expiresWallMs, version } of sets) {
      values.push(rowKeyOf(key), value, codec, clientFlags, expiresWallMs, signed(version));
      if (isLong) values.push(isLongKey(key) ? key : null);
    }
    return { name, text, values: filled(values, size * types.length, null) };
  }

  /** Adds to the numbers of rows, and returns the keys of those that are there. Refused by a row without a number. */
  add(adds: readonly AddChange[]): Statement {
    const { quoted: table } = this.tables.entries;
    const size = sizeFor(adds.length);
    const name = `cairn_add_${size}`;
    const text = this.#text(name, () => {
      const number = `substring(encode(entry.value, 'escape') FROM '${COUNTER_PATTERN}')::numeric`;
      // Text that is no number, so that the cast refuses it. It has a part of the row, so that no plan casts it before.
      const refusal = `('a row of ' || octet_length(entry.value) || ' bytes that hold no number to add to')::numeric`;
      return `UPDATE ${table} AS entry SET expires_ms = change.expires_ms, version = change.version,
          value = convert_to((CASE WHEN octet_length(entry.value) <= ${COUNTER_BYTES_MAX} AND ${number} < ${COUNTER_MODULUS}
            THEN mod(greatest(${number} + change.delta, 0), ${COUNTER_MODULUS}) ELSE ${refusal} END)::text, 'UTF8')
        FROM (VALUES ${groups(size, ['bytea', 'numeric', 'bigint', 'bigint'])}) AS change (key, delta, expires_ms, version)
        WHERE entry.key = change.key RETURNING entry.key`;
    });
    const values: Parameter[] = [];
    for (const { key, delta, expiresWallMs, version } of adds) {
      values.push(rowKeyOf(key), delta, expiresWallMs, signed(version));
    }
    return { name, text, values: filled(values, size * 4, null) };
  }

  /** Removes rows of the table of entries. */
  remove(keys: readonly Buffer[]): Statement {
    return this.#byKeys(
      'cairn_delete',
      keys,
      (list) => `DELETE FROM ${this.tables.entries.quoted} WHERE key IN ${list}`,
    );
  }

  touch(touches: readonly TouchChange[]): Statement {
    const { quoted: table } = this.tables.entries;
    return this.#byTouches('cairn_touch', touches, (list) => `UPDATE ${table} AS entry ${list}`);
  }

  /** What sets and deletes do to earlier dead letters of their keys. */
  supersede(keys: readonly Buffer[]): Statement {
    const { quoted: table } = this.tables.deadLetters;
    const command = `UPDATE ${table} SET superseded = true WHERE NOT superseded AND key IN`;
    return this.#byKeys('cairn_supersede', keys, (list) => `${command} ${list}`);
  }

  /** Those of the keys whose set or delete is put aside. */
  covered(keys: readonly Buffer[]): Statement {
    const { quoted: table } = this.tables.deadLetters;
    const command = `SELECT key FROM ${table} WHERE NOT superseded AND kind IN ('set', 'delete') AND key IN`;
    return this.#byKeys('cairn_covered', keys, (list) => `${command} ${list}`);
  }

  /** What touches and additions do to them: an earlier touch is over, and a value has another expiry. */
  supersedeTouches(keys: readonly Buffer[]): Statement {
    const { quoted: table } = this.tables.deadLetters;
    const command = `UPDATE ${table} SET superseded = true WHERE NOT superseded AND kind = 'touch' AND key IN`;
    return this.#byKeys('cairn_supersede_touches', keys, (list) => `${command} ${list}`);
  }

  touchDeadLetters(touches: readonly Omit<TouchChange, 'kind'>[]): Statement {
    const { quoted: table } = this.tables.deadLetters;
    const rest = "AND NOT entry.superseded AND entry.kind IN ('set', 'add')";
    return this.#byTouches('cairn_touch_letters', touches, (list) => `UPDATE ${table} AS entry ${list} ${rest}`);
  }

  /** Times stand in milliseconds in the parameters. */
  addHistory(rows: readonly HistoryRow[]): Statement {
    const columns = ['key', 'version', 'kind', 'value', 'codec', 'client_flags', 'expires_ms', 'long_key', 'logged_at'];
    const types = ['bytea', 'bigint', 'text', 'bytea', 'smallint', 'bigint', 'bigint', 'bytea', 'bigint'];
    const size = sizeFor(rows.length);
    const name = `cairn_history_${size}`;
    const text = this.#text(
      name,
      () => `INSERT INTO ${this.tables.history.quoted} (${columns.join(', ')})
        SELECT ${columns.slice(0, -1).join(', ')}, to_timestamp(logged_at / 1000.0)
        FROM (VALUES ${groups(size, types)}) AS write (${columns.join(', ')}) WHERE key IS NOT NULL
        ON CONFLICT (key, version) DO NOTHING`,
    );
    const values: Parameter[] = [];
    for (const row of rows) {
      const [value, codec, clientFlags, expiresMs, version] = changeCells(row);
      values.push(rowKeyOf(row.key), version!, row.kind, value!, codec!, clientFlags!, expiresMs!);
      values.push(isLongKey(row.key) ? row.key : null, row.loggedWallMs);
    }
    return { name, text, values: filled(values, size * types.length, null) };
  }

  addDeadLetter(change: Change, error: Error, errorCode: string | undefined, cursor: CursorPlace): Statement {
    const columns = `kind, key, ${LETTER_COLUMNS}, long_key, error, error_code, ${PLACE_COLUMNS}`;
    const name = 'cairn_add_letter';
    const text = `INSERT INTO ${this.tables.deadLetters.quoted} (${columns}) VALUES (${places(18)})`;
    const values = [
      change.kind,
      rowKeyOf(change.key),
      ...letterCells(change),
      isLongKey(change.key) ? change.key : null,
      // Text of PostgreSQL has no NUL.
      error.message.replaceAll('\0', ' '),
      errorCode ?? null,
      ...placeCells(cursor),
    ];
    return { name, text, values };
  }

  /**
   * Columns: id, kind, the whole key, those of LETTER_COLUMNS, error, error_code, the cursor, the time,
   * superseded.
   */
  listDeadLetters(limit: number, after: bigint): Statement {
    const columns = `id, kind, coalesce(long_key, key), ${LETTER_COLUMNS}`;
    const added = 'floor(extract(epoch FROM added_at) * 1000)::bigint';
    const text = `SELECT ${columns}, error, error_code, ${placeText}, ${added}, superseded
      FROM ${this.tables.deadLetters.quoted} WHERE id > $1 ORDER BY id LIMIT $2`;
    return { name: 'cairn_list_letters', text, values: [after.toString(), limit] };
  }

  /** Columns: the whole key, error. An order that no index has keeps the planner to the index of keys. */
  oldestDeadLetter(keys: readonly Buffer[]): Statement {
    const { quoted: table } = this.tables.deadLetters;
    const command = `SELECT coalesce(long_key, key), error FROM ${table} AS its WHERE NOT superseded AND key IN`;
    return this.#byKeys('cairn_oldest_letter', keys, (list) => `${command} ${list} ORDER BY id + 0 LIMIT 1`);
  }

  dropDeadLetters(ids: readonly bigint[]): Statement {
    const text = `DELETE FROM ${this.tables.deadLetters.quoted} WHERE id = ANY ($1::bigint[])`;
    return { name: 'cairn_drop_letters', text, values: [`{${ids.join(',')}}`] };
  }

  /**
   * The cursors, the rows of some keys and the first of their dead letters, as of one moment because it is one
   * statement. An order that no index has keeps the planner to the index of keys. Columns:
   * key, value, codec, client_flags, expires_ms, version, delta, tag (of a cursor its numbers, of a dead letter its
   * kind), id.
   */
  load(keys: readonly Buffer[], nowMs: number): Statement {
    const { entries, cursors, deadLetters } = this.tables;
    const columns = `key, ${VALUE_COLUMNS}`;
    const size = sizeFor(keys.length);
    const name = `cairn_load_${size}`;
    const text = this.#text(name, () => {
      const list = `(${places(size, 2)})`;
      // A row that has expired counts where a dead letter may give it another expiry.
      return `SELECT NULL::bytea, NULL::bytea, NULL::smallint, NULL::bigint, NULL::bigint, NULL::bigint, NULL::numeric,
          ${cursorText}, 0::bigint FROM ${cursors.quoted} AS its
        UNION ALL SELECT ${columns}, NULL, NULL, 0 FROM ${entries.quoted} AS entry WHERE key IN ${list}
          AND (expires_ms = 0 OR expires_ms > $1::bigint
            OR EXISTS (SELECT FROM ${deadLetters.quoted} AS letter WHERE letter.key = entry.key AND NOT superseded))
        UNION ALL (SELECT ${columns}, delta, kind, id FROM ${deadLetters.quoted} AS its
          WHERE NOT superseded AND key IN ${list} ORDER BY id + 0 LIMIT ${LETTERS_PIECE})`;
    });
    const rowKeys: Parameter[] = keys.map(rowKeyOf);
    return { name, text, values: [nowMs, ...filled(rowKeys, size, rowKeys.at(-1)!)] };
  }

  /** The next dead letters of a key, in the same columns. */
  lettersBehind(rowKey: Buffer, after: bigint): Statement {
    const text = `SELECT key, ${VALUE_COLUMNS}, delta, kind, id FROM ${this.tables.deadLetters.quoted} AS its
      WHERE NOT superseded AND key = $1 AND id > $2 ORDER BY id LIMIT ${LETTERS_PIECE}`;
    return { name: 'cairn_letters_behind', text, values: [rowKey, after] };
  }

  /**
   * All rows without dead letters, for a cursor of the database. Columns: the whole key, value (null if it is larger
   * than `bytes`), codec, client_flags, expires_ms, version.
   */
  scanRows(nowMs: number, bytes: number): string {
    const { entries, deadLetters } = this.tables;
    return `SELECT coalesce(long_key, key), CASE WHEN octet_length(value) <= ${bytes} THEN value END,
        codec, client_flags, expires_ms, version
      FROM ${entries.quoted} AS entry WHERE (expires_ms = 0 OR expires_ms > ${nowMs})
        AND NOT EXISTS (SELECT FROM ${deadLetters.quoted} AS letter WHERE letter.key = entry.key AND NOT superseded)`;
  }

  /** The keys that have dead letters, in pages. */
  scanDeadLetters(after: Buffer, limit: number): Statement {
    const text = `SELECT DISTINCT key, coalesce(long_key, key) FROM ${this.tables.deadLetters.quoted} AS its
      WHERE NOT superseded AND key > $1 ORDER BY key LIMIT $2`;
    return { name: 'cairn_scan_letters', text, values: [after, limit] };
  }

  /** Those of the keys that have dead letters. */
  liveDeadLetters(keys: readonly Buffer[]): Statement {
    const { quoted: table } = this.tables.deadLetters;
    const command = `SELECT key FROM ${table} AS its WHERE NOT superseded AND key IN`;
    return this.#byKeys('cairn_live_letters', keys, (list) => `${command} ${list}`);
  }

  #byKeys(prefix: string, keys: readonly Buffer[], command: (list: string) => string): Statement {
    const size = sizeFor(keys.length);
    const name = `${prefix}_${size}`;
    const rowKeys: Parameter[] = keys.map(rowKeyOf);
    return {
      name,
      text: this.#text(name, () => command(`(${places(size)})`)),
      values: filled(rowKeys, size, rowKeys.at(-1)!),
    };
  }

  #byTouches(
    prefix: string,
    touches: readonly Omit<TouchChange, 'kind'>[],
    command: (list: string) => string,
  ): Statement {
    const size = sizeFor(touches.length);
    const name = `${prefix}_${size}`;
    const text = this.#text(name, () =>
      command(`SET expires_ms = change.expires_ms, version = change.version
        FROM (VALUES ${groups(size, ['bytea', 'bigint', 'bigint'])}) AS change (key, expires_ms, version)
        WHERE entry.key = change.key`),
    );
    const values: Parameter[] = [];
    for (const { key, expiresWallMs, version } of touches) values.push(rowKeyOf(key), expiresWallMs, signed(version));
    return { name, text, values: filled(values, size * 3, null) };
  }

  #text(name: string, make: () => string): string {
    let text = this.#texts.get(name);
    if (text === undefined) {
      text = make();
      this.#texts.set(name, text);
    }
    return text;
  }
}

/** Adds cells that change nothing until there are `count`: one prepared statement serves several counts. */
export function filled(values: Parameter[], count: number, cell: Parameter): Parameter[] {
  while (values.length < count) values.push(cell);
  return values;
}
