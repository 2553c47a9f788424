/** An earlier state of a cache's tables in MariaDB or SQLite: copies of them, which the caller removes with them. */
import type { Past } from './failovers.ts';
import { EFFECT_PREFIX } from './noted.ts';

/** One command; the rows that it has found, each as its cells. */
export type Run = (command: string) => Promise<readonly (readonly unknown[])[]>;

export interface SqlPastOptions {
  /** Calls with a connection that has no other use meanwhile. */
  readonly connected: <T>(use: (run: Run) => Promise<T>) => Promise<T>;
  /** Cursors first: a batch locks them first, so that putting back waits for batches and ends in no deadlock. */
  readonly tables: { readonly cursors: string; readonly entries: string; readonly letters: string };
  /** The name of the copy of a table. */
  readonly copyOf: (table: string) => string;
  /** Begins a transaction in which no batch is written. */
  readonly begin: readonly string[];
  /** Makes an empty table like another, unless it is there. */
  readonly make: (copy: string, table: string) => string;
}

export class SqlPast implements Past {
  readonly #options: SqlPastOptions;

  constructor(options: SqlPastOptions) {
    this.#options = options;
  }

  remember(): Promise<void> {
    const { connected, copyOf, make } = this.#options;
    return connected(async (run) => {
      for (const table of this.#tables()) await run(make(copyOf(table), table));
      await this.#inTransaction(run, async () => {
        for (const table of this.#tables()) await replace(run, copyOf(table), table);
      });
    });
  }

  goBack(): Promise<number> {
    const { connected, copyOf, tables } = this.#options;
    const count = async (run: Run, table: string): Promise<number> => {
      const head = `${EFFECT_PREFIX.toString('hex')}`;
      const [row] = await run(
        `SELECT count(*) FROM ${table} WHERE substr(hex(\`key\`), 1, ${head.length}) = '${head.toUpperCase()}'`,
      );
      return Number(row![0]);
    };
    return connected((run) =>
      this.#inTransaction(run, async () => {
        const taken = (await count(run, tables.entries)) - (await count(run, copyOf(tables.entries)));
        for (const table of this.#tables()) await replace(run, table, copyOf(table));
        return taken;
      }),
    );
  }

  #tables(): string[] {
    const { cursors, entries, letters } = this.#options.tables;
    return [cursors, entries, letters];
  }

  async #inTransaction<T>(run: Run, work: () => Promise<T>): Promise<T> {
    for (const command of this.#options.begin) await run(command);
    const result = await work();
    await run('COMMIT');
    return result;
  }
}

async function replace(run: Run, table: string, by: string): Promise<void> {
  await run(`DELETE FROM ${table}`);
  await run(`INSERT INTO ${table} SELECT * FROM ${by}`);
}
