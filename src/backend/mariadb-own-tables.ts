/**
 * Tables of the user's own in MariaDB and MySQL: the statements on them. mariadb-catalogue.ts finds them.
 *
 * **Keys compare as bytes** by the collations that a key column may have. So a row is found by its index.
 *
 * **Other unique indexes.** `ON DUPLICATE KEY UPDATE` changes the row of whichever unique index has the values already.
 * Where there is another one than that of the key, a set compares the keys, and has the server refuse the row of
 * another key by a conversion that fails, because expressions have no other way to raise an error.
 */
import type { Cell, Column, ReadCell, RuleSet, TablePlan } from '../rules/index.ts';
import type { AddChange, DeleteChange, RowValue, SetChange, TouchChange } from './backend.ts';
import { COUNTER_MODULUS } from './counter.ts';
import { describe, nameInSql, quoted, references } from './mariadb-catalogue.ts';
import type { MariadbConnection, Cell as Parameter } from './mariadb-connection.ts';
import { piecesOf } from './newest.ts';
import { findOwnTables, type OpenOwnTables, OwnTableRows } from './own-table.ts';
import type { OwnTable } from './routes.ts';
import { SCAN_ROWS } from './sql-rows.ts';
import type { SweptPage, SweptTable } from './sweep.ts';

/** Keys of a statement that reads rows. */
const KEYS_MAX = 256;
/** Cells of a message with many rows: what a cell adds to its value is small. */
const CELLS_MAX: number = 2 ** 15;

/** Finds the tables of all rules. Throws `ERR_BACKEND_UNFIT` with every reason against one of them. */
export function openOwnTables(connection: MariadbConnection, options: OpenOwnTables): Promise<MariadbOwnTable[]> {
  return findOwnTables(options, {
    describe: (own) => describe(connection, own, options.readsOnly),
    references: (own) => references(connection, own),
    make: (plan, _, { indexes }) => {
      const isOther = indexes.some((index) => index.toSorted().join('\0') !== plan.own.key.toSorted().join('\0'));
      return new MariadbOwnTable(plan, options.rules, isOther);
    },
  });
}

/** What the failing conversion names. */
const OTHER_ROW = 'cairn: the row of another key';

export class MariadbOwnTable
  extends OwnTableRows
  implements OwnTable<MariadbConnection>, SweptTable<MariadbConnection>
{
  readonly rowsMax: number;
  readonly #table: string;
  readonly #byKey: string;
  readonly #set: string;
  readonly #add: string;
  /** How often the statement has what to add. */
  readonly #addends: number;

  /** `isGuarded`: there is another unique index than that of the key. */
  constructor(plan: TablePlan, rules: RuleSet, isGuarded: boolean) {
    super(plan, rules);
    this.#table = nameInSql(plan.own);
    this.rowsMax = Math.max(1, Math.floor(CELLS_MAX / this.columns.length));
    const keys = plan.key.map(({ name }) => quoted(name));
    this.#byKey = keys.map((key) => `${key} = ?`).join(' AND ');
    const others = this.columns.slice(keys.length).map(({ name }) => `${quoted(name)} = VALUES(${quoted(name)})`);
    const insert = `INSERT INTO ${this.#table} (${this.columns.map(({ name }) => quoted(name)).join(', ')})
      VALUES (${this.columns.map(written).join(', ')})
      ON DUPLICATE KEY UPDATE ${isGuarded ? guard(keys) : `${keys[0]} = ${keys[0]}`}`;
    this.#set = [insert, ...others].join(', ');
    const touched = this.touched.map(({ name }) => `${quoted(name)} = VALUES(${quoted(name)})`);
    const sum = plan.rule.counter ? sumIn(plan.value[0]!) : '';
    this.#add = [insert, sum, ...touched].join(', ');
    // A name of a column may have the sign of a parameter.
    this.#addends = sum.replaceAll(/`(?:[^`]|``)*`/g, '').split('?').length - 1;
  }

  remove(connection: MariadbConnection, deletes: readonly DeleteChange[]): Promise<void> {
    return connection.many(
      `DELETE FROM ${this.#table} WHERE ${this.#byKey}`,
      deletes.map(({ key }) => this.#keyOf(key)),
    );
  }

  set(connection: MariadbConnection, sets: readonly SetChange[]): Promise<void> {
    return this.#write(
      connection,
      this.#set,
      sets.map((set) => this.#parameters(this.rows.cellsOf(set), this.columns)),
    );
  }

  /** REQUIRES: the rule is one of counters. */
  add(connection: MariadbConnection, adds: readonly AddChange[]): Promise<void> {
    return this.#write(
      connection,
      this.#add,
      adds.map((change) => {
        const addends = Array.from({ length: this.#addends }, () => String(change.delta));
        return [...this.#parameters(this.rows.cellsOf(change), this.columns), ...addends];
      }),
    );
  }

  async #write(
    connection: MariadbConnection,
    statement: string,
    rows: readonly (readonly Parameter[])[],
  ): Promise<void> {
    try {
      await connection.many(statement, rows);
    } catch (error) {
      if (!String((error as { sqlMessage?: unknown }).sqlMessage).includes(OTHER_ROW)) throw error;
      const message = 'The row of another key has the same values in a unique index';
      throw Object.assign(new Error(message, { cause: error }), { errno: 1062, sqlState: '23000' });
    }
  }

  touch(connection: MariadbConnection, touches: readonly TouchChange[]): Promise<void> {
    const changed = this.touched.map(({ name }) => `${quoted(name)} = ?`);
    const keyCount = this.plan.key.length;
    return connection.many(
      `UPDATE ${this.#table} SET ${changed.join(', ')} WHERE ${this.#byKey}`,
      touches.map(({ key, expiresWallMs, version }) => {
        const cells = this.rows.touchCells(key, expiresWallMs, version);
        const [ofKey, rest] = [cells.slice(0, keyCount), cells.slice(keyCount)];
        return [...this.#parameters(rest, this.touched), ...this.#parameters(ofKey, this.plan.key)];
      }),
    );
  }

  async load(connection: MariadbConnection, keys: readonly Buffer[]): Promise<(RowValue | undefined)[]> {
    const found: ReadCell[][] = [];
    const asked = this.rowKeys(keys).map((key) => ({ kind: 'delete', key, version: 0n }) as const);
    for (const part of piecesOf(asked, { rows: KEYS_MAX, bytes: connection.packetBytesMax >> 1 })) {
      // Statements are prepared for powers of two; repeated keys change nothing.
      const size = 2 ** Math.ceil(Math.log2(part.length));
      const values = part.map(({ key }) => this.#keyOf(key));
      while (values.length < size) values.push(values.at(-1)!);
      const condition =
        this.plan.key.length === 1
          ? `${quoted(this.plan.key[0]!.name)} IN (${values.map(() => '?').join(', ')})`
          : values.map(() => `(${this.#byKey})`).join(' OR ');
      found.push(...(await this.#select(connection, condition, values.flat())));
    }
    return this.byKey(keys, found);
  }

  /** All rows that are those of keys, in the order of their keys, in pieces. */
  async *scan(connection: MariadbConnection): AsyncGenerator<{ readonly key: Buffer; readonly value: RowValue }[]> {
    const keyCount = this.plan.key.length;
    for (let after: readonly ReadCell[] | undefined, isMore = true; isMore; ) {
      const [behind, values] = this.#behind(after);
      const order = this.plan.key.map(({ name }) => quoted(name)).join(', ');
      const found = await this.#select(connection, `${behind} ORDER BY ${order} LIMIT ${SCAN_ROWS}`, values);
      isMore = found.length === SCAN_ROWS;
      after = found.at(-1)?.slice(0, keyCount);
      yield found.flatMap((cells) => this.entryIn(cells) ?? []);
    }
  }

  /** REQUIRES, as the next one: the plan has an expiry. */
  async page(connection: MariadbConnection, after: readonly unknown[] | undefined, rows: number): Promise<SweptPage> {
    const { key, expiresAt } = this.plan;
    const [behind, values] = this.#behind(after as readonly ReadCell[] | undefined);
    const order = key.map(({ name }) => quoted(name)).join(', ');
    const read = [...key.map((column) => this.#read(column)), this.#read(expiresAt!)];
    const found = (await connection.run(
      `SELECT ${read.join(', ')} FROM ${this.#table} WHERE ${behind} ORDER BY ${order} LIMIT ?`,
      [...values, rows],
    )) as ReadCell[][];
    return { rows: this.sweptRows(found), last: found.length < rows ? undefined : found.at(-1)!.slice(0, key.length) };
  }

  async removeExpired(connection: MariadbConnection, keys: readonly Buffer[], expiredAtMs: number): Promise<number> {
    const remove = `DELETE FROM ${this.#table} WHERE ${this.#byKey} AND ${this.#read(this.plan.expiresAt!)} BETWEEN 1 AND ?`;
    let removed = 0;
    for (const key of keys) {
      removed += await connection.change(remove, [...this.#keyOf(key), BigInt(Math.floor(expiredAtMs))]);
    }
    return removed;
  }

  async #select(connection: MariadbConnection, rest: string, values: readonly Parameter[]): Promise<ReadCell[][]> {
    const read = this.columns.map((column) => this.#read(column));
    const found = await connection.run(`SELECT ${read.join(', ')} FROM ${this.#table} WHERE ${rest}`, values);
    const singles = this.columns.flatMap((column, i) => (column.type.startsWith('float') ? [i] : []));
    for (const cells of found) {
      for (const i of singles) if (cells[i] !== null) cells[i] = shortestSingle(Number(cells[i]));
    }
    return found as ReadCell[][];
  }

  // The rows behind one of them, in the order of the index of the key, which has NULLs first. A comparison of whole
  // tuples would read the index from its beginning.
  #behind(after: readonly ReadCell[] | undefined): [string, Parameter[]] {
    const { key } = this.plan;
    const known = key.map(({ name }) => `${quoted(name)} IS NOT NULL`).join(' AND ');
    if (after === undefined) return [known, []];
    const cells = this.#parameters(after as readonly Cell[], key);
    const steps = key.map(({ name }, i) => {
      const same = key.slice(0, i).map((column) => `${quoted(column.name)} = ? AND `);
      return `(${same.join('')}${quoted(name)} > ?)`;
    });
    return [`(${steps.join(' OR ')}) AND ${known}`, key.flatMap((_, i) => cells.slice(0, i + 1))];
  }

  #keyOf(key: Buffer): Parameter[] {
    return this.#parameters(this.rows.keyCells(key)!, this.plan.key);
  }

  #parameters(cells: readonly Cell[], columns: readonly Column[]): Parameter[] {
    return cells.map((cell, i) => (cell === null ? null : this.#parameter(cell, columns[i]!)));
  }

  #parameter(cell: Exclude<Cell, null>, column: Column): Parameter {
    const text = cell as string;
    if (column === this.plan.expiresAt && column.kind === 'instant') return asTime(new Date(Number(text)));
    switch (column.kind) {
      case 'boolean':
        return cell === true ? 1 : 0;
      case 'integer':
        // The driver sends numbers with a sign.
        return text.length > 18 && column.isUnsigned ? text : BigInt(text);
      case 'float':
        return Number(text);
      case 'instant':
        return utcOf(text);
      default:
        return cell as string | Buffer;
    }
  }

  /** A cell as text, or as bytes. */
  #read(column: Column): string {
    const name = quoted(column.name);
    if (column === this.plan.expiresAt && column.kind === 'instant') {
      return `CAST(ROUND(UNIX_TIMESTAMP(${name}) * 1000) AS CHAR)`;
    }
    switch (column.kind) {
      case 'bytes':
      case 'text':
        return name;
      case 'boolean':
        return `CAST(${name} <> 0 AS CHAR)`;
      case 'integer':
        // ZEROFILL is for people.
        return `CAST(${name} + 0 AS CHAR)`;
      case 'float':
        return `CAST(CAST(${name} AS DOUBLE) AS CHAR)`;
      case 'instant':
        return `DATE_FORMAT(${name}, '%Y-%m-%dT%H:%i:%s.%fZ')`;
      case 'time':
        return `DATE_FORMAT(${name}, '%Y-%m-%dT%H:%i:%s.%f')`;
      case 'date':
        return `DATE_FORMAT(${name}, '%Y-%m-%d')`;
      default:
        return `CAST(${name} AS CHAR)`;
    }
  }
}

function written({ isRequired, otherwise }: Column): string {
  return isRequired && otherwise !== undefined ? `IFNULL(?, ${otherwise})` : '?';
}

/**
 * An assignment that adds, whose parameters are all what to add. A row without a value gets the result. A
 * subtraction stops at 0, or where the number is, if that is below. Columns that have every number of a cache wrap.
 */
function sumIn({ name, kind, bits, isUnsigned }: Column): string {
  const cell = quoted(name);
  // Numbers without a sign would not go below 0 in between.
  const number = kind === 'decimal' ? cell : `CAST(${cell} AS DECIMAL(40))`;
  const sum = `${number} + CAST(? AS DECIMAL(40))`;
  const wraps = kind === 'decimal' || (isUnsigned && bits === 64);
  const added = wraps ? `IF(${number} < ${COUNTER_MODULUS}, MOD(${sum}, ${COUNTER_MODULUS}), ${sum})` : sum;
  const cases = `IF(CAST(? AS DECIMAL(40)) < 0, GREATEST(${sum}, LEAST(${number}, 0)), ${added})`;
  return `${cell} = IFNULL(${cases}, VALUES(${cell}))`;
}

/** An assignment that changes nothing, and fails unless the row is that of the key. */
function guard(keys: readonly string[]): string {
  const same = keys.map((key) => `${key} <=> VALUES(${key})`).join(' AND ');
  // The server would compute a constant also where it is not needed.
  const fails = `CAST(CONCAT('${OTHER_ROW} ', LENGTH(VALUES(${keys[0]}))) AS DATETIME) IS NULL`;
  return `${keys[0]} = IF((${same}) OR ${fails}, ${keys[0]}, NULL)`;
}

/** The time of a moment as the server writes it, in UTC, which is the time of its sessions. */
function asTime(date: Date): string {
  return date.toISOString().replace('T', ' ').replace('Z', '');
}

/** The same of a text with an offset. */
function utcOf(text: string): string {
  const [, day, time, fraction = '', offset] = /^(.{10})T(.{8})(\.\d+)?(.+)$/.exec(text)!;
  if (offset === 'Z') return `${day} ${time}${fraction}`;
  // A day that is none would become another here; the server refuses it.
  if (!isDay(day!)) return `${day} ${time}`;
  return `${asTime(new Date(`${day}T${time}${offset}`)).slice(0, 19)}${fraction}`;
}

function isDay(day: string): boolean {
  const date = new Date(`${day}T00:00:00Z`);
  return !Number.isNaN(date.getTime()) && date.toISOString().startsWith(day);
}

/** A number of 32 bits with the fewest digits that tell it from others of 32 bits. */
function shortestSingle(number: number): string {
  for (let digits = 1; digits < 9; digits++) {
    const text = number.toPrecision(digits);
    if (Math.fround(Number(text)) === number) return text;
  }
  return String(number);
}
