/**
 * An earlier state of a cache's tables in PostgreSQL: copies of them in the same schema, which the caller has made for
 * this.
 */
import type { Past } from './failovers.ts';

/** The first is the one that a batch locks first, so that putting back waits for batches and ends in no deadlock. */
const TABLES = ['cairn_cursors', 'cairn_entries', 'cairn_dead_letters', 'effects'];

export interface PostgresPastOptions {
  /** Runs commands, several with `;` between; the rows of the last. */
  readonly query: (text: string) => Promise<readonly Record<string, unknown>[]>;
  readonly schema: string;
  /** Leaves the cursors where they are, which no cache can notice: to show that it is found. */
  readonly leavesCursors: boolean;
}

export class PostgresPast implements Past {
  readonly #options: PostgresPastOptions;

  constructor(options: PostgresPastOptions) {
    this.#options = options;
  }

  async remember(): Promise<void> {
    const { query, schema } = this.#options;
    const copies = TABLES.map((table) => {
      return `DROP TABLE IF EXISTS ${schema}.past_${table}; CREATE TABLE ${schema}.past_${table} AS SELECT * FROM ${schema}.${table}`;
    });
    await query(`BEGIN ISOLATION LEVEL REPEATABLE READ; ${copies.join('; ')}; COMMIT`);
  }

  async goBack(): Promise<number> {
    const { query, schema, leavesCursors } = this.#options;
    const tables = TABLES.filter((table) => !leavesCursors || table !== 'cairn_cursors');
    const back = tables.map((table) => {
      return `DELETE FROM ${schema}.${table}; INSERT INTO ${schema}.${table} OVERRIDING SYSTEM VALUE SELECT * FROM ${schema}.past_${table}`;
    });
    const count = `(SELECT count(*) FROM ${schema}.effects) - (SELECT count(*) FROM ${schema}.past_effects) AS taken`;
    await query(
      [
        'BEGIN',
        ...TABLES.map((table) => `LOCK TABLE ${schema}.${table} IN EXCLUSIVE MODE`),
        `CREATE TABLE IF NOT EXISTS ${schema}.taken (taken bigint)`,
        `INSERT INTO ${schema}.taken SELECT ${count}`,
        // What it puts back is no effect of a change.
        `ALTER TABLE ${schema}.cairn_entries DISABLE TRIGGER note`,
        ...back,
        `ALTER TABLE ${schema}.cairn_entries ENABLE TRIGGER note`,
        'COMMIT',
      ].join('; '),
    );
    const [row] = await query(`SELECT taken FROM ${schema}.taken`);
    await query(`DROP TABLE ${schema}.taken`);
    return Number(row!['taken']);
  }
}
