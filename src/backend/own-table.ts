/**
 * What tables of the user's own have in common, whichever SQL database has them: how they are found at opening, and
 * what their rows are. The statements are those of a dialect.
 */
import {
  type Column,
  type FoundTable,
  type OwnTableRule,
  planTable,
  type ReadCell,
  type Rule,
  type RuleSet,
  type TablePlan,
  TableRows,
} from '../rules/index.ts';
import type { RowValue } from './backend.ts';
import { unfit } from './own-errors.ts';
import type { SweptPage } from './sweep.ts';

/** How tables are opened. */
export interface OpenOwnTables {
  readonly rules: RuleSet;
  /** Rows are only read: what only a write could do wrong does not matter. */
  readonly readsOnly: boolean;
  /** How many lanes write at the same time. */
  readonly lanes: number;
}

/** A foreign key: its name, and the table that it refers to. */
export interface Reference {
  readonly name: string;
  /** As in FoundTable. */
  readonly identity: string;
}

/** A dialect: reads the catalogue, and makes the table of a rule when it would do. */
export interface OwnDialect<T, Found extends FoundTable> {
  /** Undefined: there is no such table. */
  describe(own: OwnTableRule): Promise<Found | undefined>;
  /** The foreign keys of a table. */
  references(own: OwnTableRule): Promise<readonly Reference[]>;
  /** `index`: of the table among those of the rules. */
  make(plan: TablePlan, index: number, found: Found): T;
}

/**
 * Finds the tables of all rules. Throws `ERR_BACKEND_UNFIT` with every reason against one of them, or against two rules
 * that name the same table: a delete by one would take the row from the other, and lanes would write it in any order.
 * With several lanes, no table may refer to one of them by a foreign key, itself included.
 */
export async function findOwnTables<T, Found extends FoundTable>(
  { rules, readsOnly, lanes }: OpenOwnTables,
  { describe, references, make }: OwnDialect<T, Found>,
): Promise<T[]> {
  const problems: string[] = [];
  const tables: T[] = [];
  const rulesBy = new Map<string, Rule>();
  for (const rule of rules.rules) {
    if (rule.own === undefined) continue;
    const { table } = rule.own;
    const found = await describe(rule.own);
    if (found === undefined) {
      problems.push(`the table ${table} is missing`);
      continue;
    }
    const plan = planTable(rule, rule.own, found, { readsOnly });
    if (Array.isArray(plan)) problems.push(...plan);
    else tables.push(make(plan, tables.length, found));
    const other = rulesBy.get(found.identity);
    rulesBy.set(found.identity, rule);
    if (other === undefined || readsOnly) continue;
    const names = `${JSON.stringify(other.prefix)} and ${JSON.stringify(rule.prefix)}`;
    problems.push(`the rules for ${names} name one table, ${table}: two keys would change one row`);
  }
  if (lanes > 1 && !readsOnly) {
    for (const { own } of rulesBy.values()) {
      for (const { name, identity } of await references(own!)) {
        const to = rulesBy.get(identity)?.own?.table;
        if (to === undefined) continue;
        const what = `${own!.table} refers to ${to} by the foreign key ${name}`;
        problems.push(`${what}: with ${lanes} lanes, a row may be written before the one that it refers to`);
      }
    }
  }
  if (problems.length > 0) throw unfit(problems);
  return tables;
}

export abstract class OwnTableRows {
  readonly rows: TableRows;
  protected readonly plan: TablePlan;
  /** All columns that are written, in the order of cells. */
  protected readonly columns: readonly Column[];
  readonly #rules: RuleSet;

  constructor(plan: TablePlan, rules: RuleSet) {
    this.rows = new TableRows(plan);
    this.plan = plan;
    const { key, value, expiresAt, version, clientFlags } = plan;
    this.columns = [...key, ...value, expiresAt, version, clientFlags].filter((column) => column !== undefined);
    this.#rules = rules;
  }

  /** The columns that a touch writes behind those of the key. */
  protected get touched(): readonly Column[] {
    return [this.plan.expiresAt, this.plan.version].filter((column) => column !== undefined);
  }

  /** Those of the keys that a row can have. */
  protected rowKeys(keys: readonly Buffer[]): readonly Buffer[] {
    return keys.filter((key) => this.rows.keyCells(key) !== undefined);
  }

  /** The key and the value of a row; undefined: it is the row of no key, or has no value. */
  protected entryIn(cells: readonly ReadCell[]): { readonly key: Buffer; readonly value: RowValue } | undefined {
    const key = this.rows.keyOf(cells.slice(0, this.plan.key.length));
    const value = key === undefined ? undefined : this.rows.valueOf(cells);
    return key === undefined || value === undefined ? undefined : { key, value };
  }

  /** The rows of some keys, by index of the key. `found`: cells of rows, in any order. */
  protected byKey(keys: readonly Buffer[], found: readonly (readonly ReadCell[])[]): (RowValue | undefined)[] {
    const values = new Map<string, RowValue>();
    for (const cells of found) {
      const entry = this.entryIn(cells);
      if (entry !== undefined) values.set(entry.key.toString('latin1'), entry.value);
    }
    return keys.map((key) => values.get(key.toString('latin1')));
  }

  /** What a sweep looks at. `found`: rows as the cells of their key and, behind it, their expiry in milliseconds. */
  protected sweptRows(found: readonly (readonly ReadCell[])[]): SweptPage['rows'] {
    return found.flatMap((cells) => {
      const key = this.rows.keyOf(cells.slice(0, this.plan.key.length));
      const expiresMs = cells[this.plan.key.length];
      // A key with a longer prefix has another rule.
      return key === undefined || expiresMs == null || this.#rules.of(key) !== this.plan.rule
        ? []
        : [{ key, expiresWallMs: Number(expiresMs) }];
    });
  }
}
