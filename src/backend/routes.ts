/**
 * Which table has the row of a key, by the rules of the cache: Cairn's table of entries, or one of the user's own. The
 * course of a batch (sql-backend.ts) asks for the parts of its changes, and writes each part to its table.
 */
import type { Rule, RuleSet, TableRows } from '../rules/index.ts';
import type { AddChange, Change, DeadLetter, DeleteChange, RowValue, SetChange, TouchChange } from './backend.ts';
import type { NewestChanges } from './newest.ts';

/** A table that gets changes of rows, sorted by key, in pieces. */
export interface RowTable<C> {
  /** The most rows of a piece, if that is fewer than usual. */
  readonly rowsMax?: number;
  remove(connection: C, deletes: readonly DeleteChange[]): Promise<unknown>;
  set(connection: C, sets: readonly SetChange[]): Promise<unknown>;
  touch(connection: C, touches: readonly TouchChange[]): Promise<unknown>;
  add(connection: C, adds: readonly AddChange[]): Promise<unknown>;
}

/** A table of the user's own. */
export interface OwnTable<C> extends RowTable<C> {
  readonly rows: TableRows;
  /** By index of the key; undefined: there is no row. Expired rows too. */
  load(connection: C, keys: readonly Buffer[]): Promise<(RowValue | undefined)[]>;
}

/** The changes of one table. */
export interface TablePart<T> {
  readonly table: T;
  readonly changes: NewestChanges;
}

/** The keys of one table of the user's own. */
export interface OwnKeys<T> {
  readonly table: T;
  readonly keys: readonly Buffer[];
}

interface MutablePart<T> extends TablePart<T> {
  readonly changes: {
    readonly deletes: DeleteChange[];
    readonly sets: SetChange[];
    readonly touches: TouchChange[];
    readonly adds: AddChange[];
  };
}

/** `Own`: a table of the user's own; `Entries`: Cairn's. */
export class Routes<Own extends { readonly rows: TableRows }, Entries> {
  readonly #rules: RuleSet;
  readonly #entries: Entries;
  readonly #own: ReadonlyMap<Rule, Own>;

  constructor(rules: RuleSet, entries: Entries, own: readonly Own[]) {
    this.#rules = rules;
    this.#entries = entries;
    this.#own = new Map(own.map((table) => [table.rows.plan.rule, table]));
  }

  /** The user's own tables, in the order of their rules. */
  get own(): readonly Own[] {
    return [...this.#own.values()];
  }

  /** The user's own table of a key; undefined: Cairn's table has its row. */
  ownOf(key: Buffer): Own | undefined {
    return this.#own.size === 0 ? undefined : this.#own.get(this.#rules.of(key));
  }

  /**
   * The changes of each table: Cairn's first, the others in the order of their rules. `misfits`: sets and additions
   * that cannot become rows. Deletes and touches of keys that no row can have are left out, and touches of a table
   * without expiry.
   */
  split(changes: NewestChanges): {
    readonly parts: readonly TablePart<Own | Entries>[];
    readonly misfits: DeadLetter[];
  } {
    const misfits: DeadLetter[] = [];
    if (this.#own.size === 0) return { parts: [{ table: this.#entries, changes }], misfits };
    const parts = new Map<Own | undefined, MutablePart<Own | Entries>>();
    for (const own of [undefined, ...this.#own.values()]) {
      parts.set(own, { table: own ?? this.#entries, changes: { deletes: [], sets: [], touches: [], adds: [] } });
    }
    const partOf = (change: Change): [Own | undefined, MutablePart<Own>['changes']] => {
      const own = this.ownOf(change.key);
      return [own, parts.get(own)!.changes];
    };
    for (const change of changes.deletes) {
      const [own, its] = partOf(change);
      if (own === undefined || own.rows.keyCells(change.key) !== undefined) its.deletes.push(change);
    }
    for (const change of changes.sets) {
      const [own, its] = partOf(change);
      const misfit = own?.rows.prepare(change);
      if (misfit === undefined) its.sets.push(change);
      else misfits.push({ change, error: misfit });
    }
    for (const change of changes.adds) {
      const [own, its] = partOf(change);
      const misfit = own?.rows.prepare(change);
      if (misfit === undefined) its.adds.push(change);
      else misfits.push({ change, error: misfit });
    }
    for (const change of changes.touches) {
      const [own, its] = partOf(change);
      if (own === undefined || own.rows.takesTouch(change.key)) its.touches.push(change);
    }
    return { parts: [...parts.values()], misfits };
  }

  /** Those of the keys whose rows are in tables of the user's own, by table. */
  ownKeys(keys: readonly Buffer[]): readonly OwnKeys<Own>[] {
    if (this.#own.size === 0) return [];
    const parts = new Map<Own, Buffer[]>();
    for (const key of keys) {
      const table = this.ownOf(key);
      if (table === undefined) continue;
      const its = parts.get(table);
      if (its === undefined) parts.set(table, [key]);
      else its.push(key);
    }
    return [...parts].map(([table, its]) => ({ table, keys: its }));
  }
}
