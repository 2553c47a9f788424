// A MariaDB server for one file of tests: a new data directory, which listens on a unix socket only and ends with the
// test's process, however that ends.

import { type ChildProcess, execFileSync, spawn } from 'node:child_process';
import { existsSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir, userInfo } from 'node:os';
import { delimiter, join } from 'node:path';
import { loadDriver } from '../../src/backend/driver.ts';
import type { MariadbTarget } from '../../src/backend/mariadb-connection.ts';

/** What tests use of the package mariadb. */
interface Connection {
  query(sql: string): Promise<unknown>;
  end(): Promise<void>;
}

export const PASSWORD = 'correct-horse/battery';

// Debian keeps the server out of the path of users.
const folders = [...(process.env['PATH'] ?? '').split(delimiter), '/usr/sbin', '/usr/local/sbin'];
const find = (name: string): string | undefined =>
  folders.map((folder) => join(folder, name)).find((path) => existsSync(path));
const serverProgram = find('mariadbd');
const installProgram = find('mariadb-install-db');

export const hasMariadb: boolean = serverProgram !== undefined && installProgram !== undefined;
export const MARIADB_MISSING = 'MariaDB is missing (apt-get install mariadb-server)';

// `cat` ends when the test's process does, which may be by kill -9.
const UNTIL_PARENT_ENDS = '"$@" & child=$!; cat; kill -KILL $child; wait $child';

export class MariadbServer {
  readonly directory: string = mkdtempSync(join(tmpdir(), 'cairn-mariadb-'));
  readonly socket: string = join(this.directory, 'socket');
  #child: ChildProcess | undefined;

  static async start(): Promise<MariadbServer> {
    const server = new MariadbServer();
    const options = ['--no-defaults', `--user=${userInfo().username}`, `--datadir=${server.#data}`];
    execFileSync(installProgram!, [...options, '--auth-root-authentication-method=normal', '--skip-test-db'], {
      stdio: ['ignore', 'ignore', 'inherit'],
    });
    await server.run();
    await server.query(`CREATE DATABASE app; CREATE USER cairn IDENTIFIED BY '${PASSWORD}';
      GRANT ALL ON app.* TO cairn`);
    return server;
  }

  get #data(): string {
    return join(this.directory, 'data');
  }

  async run(): Promise<void> {
    const options = [
      ...['--no-defaults', `--user=${userInfo().username}`, `--datadir=${this.#data}`, `--socket=${this.socket}`],
      ...['--skip-networking', '--max-allowed-packet=1G', '--innodb-log-file-size=1G', '--skip-name-resolve'],
      ...['--innodb-flush-log-at-trx-commit=0', `--pid-file=${join(this.directory, 'pid')}`],
    ];
    this.#child = spawn('sh', ['-c', UNTIL_PARENT_ENDS, 'sh', serverProgram!, ...options], {
      stdio: ['pipe', 'ignore', 'ignore'],
    });
    for (;;) {
      try {
        await this.query('SELECT 1');
        return;
      } catch (error) {
        if (this.#child.exitCode !== null) throw error;
        await new Promise((resolve) => setTimeout(resolve, 50));
      }
    }
  }

  async stop(): Promise<void> {
    const child = this.#child;
    if (child !== undefined && child.exitCode === null) {
      const ended = new Promise((resolve) => child.once('exit', resolve));
      child.stdin!.end();
      await ended;
    }
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
