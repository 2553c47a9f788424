// A MariaDB server for one file of tests: a new data directory, which listens on a unix socket only and ends with the
// test's process, however that ends.

import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { loadDriver } from '../../src/backend/driver.ts';
import type { MariadbTarget } from '../../src/backend/mariadb-connection.ts';
import { MariadbData, type ServerProcess } from './database-servers.mjs';

export { MARIADB_MISSING, mariadbPrograms } from './database-servers.mjs';

/** What tests use of the package mariadb. */
interface Connection {
  query(sql: string): Promise<unknown>;
  end(): Promise<void>;
}

export const PASSWORD = 'correct-horse/battery';

export class MariadbServer {
  readonly directory: string = mkdtempSync(join(tmpdir(), 'cairn-mariadb-'));
  readonly #data = new MariadbData(this.directory);
  #process: ServerProcess | undefined;

  static async start(): Promise<MariadbServer> {
    const server = new MariadbServer();
    server.#data.make();
    await server.run();
    await server.query(`CREATE DATABASE app; CREATE USER cairn IDENTIFIED BY '${PASSWORD}';
      GRANT ALL ON app.* TO cairn`);
    return server;
  }

  /** The file that clients connect to. */
  get socket(): string {
    return this.#data.socket;
  }

  async run(): Promise<void> {
    const options = ['--max-allowed-packet=1G', '--innodb-log-file-size=1G', '--skip-name-resolve'];
    this.#process = this.#data.run([...options, '--innodb-flush-log-at-trx-commit=0']);
    await this.#process.isUp(() => this.query('SELECT 1'));
  }

  async stop(): Promise<void> {
    await this.#process?.end();
    rmSync(this.directory, { recursive: true, force: true });
  }

  get target(): MariadbTarget {
    const { socket: socketPath } = this;
    return {
      host: 'localhost',
      port: 3306,
      socketPath,
      user: 'cairn',
      password: PASSWORD,
      database: 'app',
      ssl: false,
    };
  }

  /** Runs commands of the test's administrator. */
  async query(sql: string, database?: string): Promise<unknown> {
    const { createConnection } = await loadDriver('MariaDB', 'mariadb', 'mariadb@3');
    const connect = createConnection as (options: object) => Promise<Connection>;
    const connection = await connect({ socketPath: this.socket, user: 'root', database, multipleStatements: true });
    try {
      return await connection.query(sql);
    } finally {
      await connection.end();
    }
  }
}
