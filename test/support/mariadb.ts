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
  #placed: MariadbData | undefined;
  #process: ServerProcess | undefined;

  static async start(): Promise<MariadbServer> {
    const server = new MariadbServer();
    await server.begin();
    return server;
  }

  /** Makes its data, and runs it. */
  async begin(): Promise<void> {
    this.#data.make();
    await this.run();
    await this.query(`CREATE DATABASE app; CREATE USER cairn IDENTIFIED BY '${PASSWORD}';
      GRANT ALL ON app.* TO cairn`);
  }

  // The folder is made when it is needed: tests may have a server that never begins.
  get #data(): MariadbData {
    this.#placed ??= new MariadbData(mkdtempSync(join(tmpdir(), 'cairn-mariadb-')));
    return this.#placed;
  }

  get directory(): string {
    return this.#data.folder;
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

  /** Has these tables alone in the database `app`. */
  async reset(commands = ''): Promise<void> {
    await this.query('DROP DATABASE IF EXISTS app; CREATE DATABASE app CHARACTER SET utf8mb4');
    if (commands !== '') await this.query(commands, 'app');
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
