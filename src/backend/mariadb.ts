/** MariaDB and MySQL as a backend: sql-backend.ts with the statements of mariadb-sql.ts on tables of InnoDB. */
import type { ErrorClass } from './backend.ts';
import { type CreateConnection, loadMariadb, MariadbConnection, type MariadbTarget } from './mariadb-connection.ts';
import { classifyMariadb } from './mariadb-errors.ts';
import { openOwnTables } from './mariadb-own-tables.ts';
import { MariadbTables } from './mariadb-sql.ts';
import { makeTables } from './mariadb-tables.ts';
import { SqlBackend, type SqlOptions } from './sql-backend.ts';

export interface MariadbOptions extends SqlOptions {
  readonly target: MariadbTarget;
}

export class MariadbBackend extends SqlBackend<MariadbConnection> {
  readonly #options: MariadbOptions;
  #create: CreateConnection | undefined;

  constructor(options: MariadbOptions) {
    super(options);
    this.#options = options;
  }

  protected async connect(purpose: 'write' | 'load'): Promise<MariadbConnection> {
    const isolation = purpose === 'write' ? 'READ COMMITTED' : 'REPEATABLE READ';
    this.#create ??= await loadMariadb();
    return MariadbConnection.open(this.#create, this.#options.target, this.settings, isolation);
  }

  protected async openTables(connection: MariadbConnection): Promise<MariadbTables> {
    const { prefix = 'cairn_' } = this.#options;
    const { rules, readsOnly } = this;
    const names = await makeTables(connection, { prefix, hasHistory: rules.hasHistory, readsOnly });
    return new MariadbTables(names, rules, await openOwnTables(connection, { rules, readsOnly, lanes: this.lanes }));
  }

  classify(error: unknown): ErrorClass {
    return classifyMariadb(error);
  }
}
