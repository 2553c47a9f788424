/** Tables of the user's own in SQLite: the statements on them. sqlite-catalogue.ts finds them. */
import type { Cell, Column, ReadCell, RuleSet, TablePlan } from '../rules/index.ts';
import { isInteger, Misfit } from '../rules/index.ts';
import type { AddChange, DeleteChange, Row, RowValue, TouchChange } from './backend.ts';
import { NoNumber, numberOf } from './counter.ts';
import { findOwnTables, type OpenOwnTables, OwnTableRows } from './own-table.ts';
import { describe, nameInSql, quoted, references } from './sqlite-catalogue.ts';
import type { OpenedSqlite, SqliteCell, SqliteRow } from './sqlite-driver.ts';
import type { SqliteTable } from './sqlite-tables.ts';
import type { SweptPage } from './sweep.ts';

/** Finds the tables of all rules. Throws `ERR_BACKEND_UNFIT` with every reason against one of them. */
export function openOwnTables({ database }: OpenedSqlite, options: OpenOwnTables): Promise<SqliteOwnTable[]> {
  return findOwnTables(options, {
    describe: async (own) => describe(database, own),
    references: async (own) => references(database, own),
    make: (plan) => new SqliteOwnTable(plan, options.rules),
  });
}

export class SqliteOwnTable extends OwnTableRows implements SqliteTable {
  readonly #table: string;
  /** The key columns, compared as bytes whatever their collation. */
  readonly #keys: readonly string[];
  readonly #byKey: string;
  readonly #set: string;
  readonly #select: string;

  constructor(plan: TablePlan, rules: RuleSet) {
    super(plan, rules);
    this.#table = nameInSql(plan.own);
    this.#keys = plan.key.map(({ name, kind }) => `${quoted(name)}${kind === 'text' ? ' COLLATE BINARY' : ''}`);
    this.#byKey = this.#keys.map((key) => `${key} = ?`).join(' AND ');
    const names = this.columns.map(({ name }) => quoted(name));
    const changed = names.slice(plan.key.length).map((name) => `${name} = excluded.${name}`);
    // Whatever the constraints of the table say, no other row is replaced.
    this.#set = `INSERT OR ABORT INTO ${this.#table} (${names.join(', ')})
      VALUES (${this.columns.map(written).join(', ')}) ON CONFLICT (${this.#keys.join(', ')})
      DO ${changed.length === 0 ? 'NOTHING' : `UPDATE SET ${changed.join(', ')}`}`;
    this.#select = `SELECT ${names.map((name, i) => `${name} AS c${i}`).join(', ')} FROM ${this.#table}`;
  }

  remove({ prepare }: OpenedSqlite, { key }: DeleteChange): void {
    prepare(`DELETE FROM ${this.#table} WHERE ${this.#byKey}`).run(...this.#keyOf(key));
  }

  set({ prepare }: OpenedSqlite, set: Row): void {
    prepare(this.#set).run(...parameters(this.rows.cellsOf(set), this.columns));
  }

  touch({ prepare }: OpenedSqlite, { key, expiresWallMs, version }: TouchChange): void {
    const changed = this.touched.map(({ name }) => `${quoted(name)} = ?`);
    const cells = this.rows.touchCells(key, expiresWallMs, version).slice(this.plan.key.length);
    prepare(`UPDATE ${this.#table} SET ${changed.join(', ')} WHERE ${this.#byKey}`).run(
      ...parameters(cells, this.touched),
      ...this.#keyOf(key),
    );
  }

  /** REQUIRES: the rule is one of counters. */
  add(opened: OpenedSqlite, change: AddChange): Error | undefined {
    const [column] = this.plan.value as [Column];
    const name = quoted(column.name);
    const ofKey = this.#keyOf(change.key);
    const [found] = opened.prepare(`SELECT ${name} AS n FROM ${this.#table} WHERE ${this.#byKey}`).all(...ofKey);
    if (found === undefined) {
      this.set(opened, change);
      return undefined;
    }
    const { n } = found;
    // A row without a value gets the result.
    const sum = n === null ? numberOf(change.value)! : typeof n === 'bigint' ? sumIn(n, change.delta) : undefined;
    if (sum === undefined) return new NoNumber();
    if (sum !== BigInt.asIntN(64, sum)) return new Misfit(`The column ${column.name} cannot have ${sum}`);
    const changed = [name, ...this.touched.map((each) => quoted(each.name))].map((each) => `${each} = ?`);
    const cells = this.rows.touchCells(change.key, change.expiresWallMs, change.version).slice(this.plan.key.length);
    opened
      .prepare(`UPDATE ${this.#table} SET ${changed.join(', ')} WHERE ${this.#byKey}`)
      .run(sum, ...parameters(cells, this.touched), ...ofKey);
    return undefined;
  }

  load({ prepare }: OpenedSqlite, key: Buffer): RowValue | undefined {
    if (this.rows.keyCells(key) === undefined) return undefined;
    const found = prepare(`${this.#select} WHERE ${this.#byKey}`).all(...this.#keyOf(key));
    return this.byKey(
      [key],
      found.map((row) => this.#cellsOf(row)),
    )[0];
  }

  /** The next rows in the order of their keys. `last`: where to go on; undefined: there are no more. */
  rowsBehind(
    { prepare }: OpenedSqlite,
    after: readonly SqliteCell[] | undefined,
    limit: number,
  ): { readonly rows: readonly Row[]; readonly last: readonly SqliteCell[] | undefined } {
    const found = prepare(`${this.#select} WHERE ${this.#behind(after)}`).all(...(after ?? []), limit);
    return {
      rows: found.flatMap((row) => {
        const entry = this.entryIn(this.#cellsOf(row));
        return entry === undefined ? [] : [{ key: entry.key, ...entry.value }];
      }),
      last: this.#lastOf(found, limit),
    };
  }

  /** REQUIRES, as the next one: the plan has an expiry. */
  page({ prepare }: OpenedSqlite, after: readonly unknown[] | undefined, limit: number): SweptPage {
    const from = after as readonly SqliteCell[] | undefined;
    const names = [...this.plan.key, this.plan.expiresAt!].map(({ name }, i) => `${quoted(name)} AS c${i}`);
    const found = prepare(`SELECT ${names.join(', ')} FROM ${this.#table} WHERE ${this.#behind(from)}`).all(
      ...(from ?? []),
      limit,
    );
    const keyCount = this.plan.key.length;
    const cells = found.map((row) => [...this.#cellsOf(row).slice(0, keyCount), textOf(row[`c${keyCount}`]!)]);
    return { rows: this.sweptRows(cells), last: this.#lastOf(found, limit) };
  }

  /** Whether the row is removed: it still has such an expiry. */
  removeExpired({ prepare }: OpenedSqlite, key: Buffer, expiredAtMs: number): boolean {
    const expiry = quoted(this.plan.expiresAt!.name);
    const remove = `DELETE FROM ${this.#table} WHERE ${this.#byKey} AND ${expiry} BETWEEN 1 AND ?`;
    return Number(prepare(remove).run(...this.#keyOf(key), expiredAtMs).changes) > 0;
  }

  #keyOf(key: Buffer): SqliteCell[] {
    return parameters(this.rows.keyCells(key)!, this.plan.key);
  }

  #behind(after: readonly SqliteCell[] | undefined): string {
    const known = this.#keys.map((key) => `${key} IS NOT NULL`).join(' AND ');
    const from = after === undefined ? '' : `(${this.#keys.join(', ')}) > (${after.map(() => '?').join(', ')}) AND `;
    return `${from}${known} ORDER BY ${this.#keys.join(', ')} LIMIT ?`;
  }

  #lastOf(found: readonly SqliteRow[], limit: number): readonly SqliteCell[] | undefined {
    return found.length < limit ? undefined : this.plan.key.map((_, i) => found.at(-1)![`c${i}`]!);
  }

  #cellsOf(row: SqliteRow): ReadCell[] {
    return Object.keys(row).map((name, i) => {
      const cell = row[name]!;
      const column = this.columns[i]!;
      if (i >= this.plan.key.length) return fieldOf(cell, column);
      // A column may have a value of another kind than it says, and that is no key.
      const kind = typeof cell === 'bigint' ? 'integer' : typeof cell === 'string' ? 'text' : 'bytes';
      return kind === column.kind && typeof cell !== 'number' ? textOf(cell) : null;
    });
  }
}

/** A subtraction stops at 0, or where the number is, if that is below. */
function sumIn(number: bigint, delta: bigint): bigint {
  const sum = number + delta;
  const floor = number < 0n ? number : 0n;
  return delta < 0n && sum < floor ? floor : sum;
}

function written({ isRequired, otherwise }: Column): string {
  return isRequired && otherwise !== undefined ? `coalesce(?, ${otherwise})` : '?';
}

function parameters(cells: readonly Cell[], columns: readonly Column[]): SqliteCell[] {
  return cells.map((cell, i) => {
    const { kind } = columns[i]!;
    if (typeof cell === 'boolean') return cell ? 1n : 0n;
    if (cell === null || Buffer.isBuffer(cell)) return cell;
    if (kind === 'integer' || (kind === 'decimal' && isInteger(cell, { bits: 64 }))) return BigInt(cell);
    return kind === 'float' || kind === 'decimal' ? Number(cell) : cell;
  });
}

/** A cell of a field as text, or bytes. What another program has put there may be of another kind. */
function fieldOf(cell: SqliteCell, { kind }: Column): ReadCell {
  const text = textOf(cell);
  if (text === null || kind === 'bytes') return text;
  if (kind === 'boolean' && typeof cell === 'bigint') return cell === 0n ? '0' : '1';
  return kind === 'json' ? jsonIn(text.toString()) : text.toString();
}

function jsonIn(text: string): string {
  try {
    JSON.parse(text);
    return text;
  } catch {
    return JSON.stringify(text);
  }
}

function textOf(cell: SqliteCell): ReadCell {
  return typeof cell === 'bigint' || typeof cell === 'number' ? String(cell) : cell;
}
