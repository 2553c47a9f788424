// A PostgreSQL server for one file of tests: a new cluster in a temporary directory, which listens on a unix socket
// only and ends with the test's process, however that ends.

import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { loadDriver } from '../../src/backend/driver.ts';
import { PostgresCluster, type ServerProcess } from './database-servers.mjs';

export { POSTGRES_MISSING, postgresPrograms } from './database-servers.mjs';

/** What tests use of the package pg. */
interface Client {
  on(event: 'error', listener: (error: Error) => void): this;
  connect(): Promise<void>;
  query(text: string): Promise<unknown>;
  end(): Promise<void>;
}

const USER = 'cairn';
/** Something that must never be seen: tests look for it in messages. */
export const PASSWORD = 'correct-horse/battery';

export class PostgresServer {
  #placed: PostgresCluster | undefined;
  #process: ServerProcess | undefined;
  #settings: Readonly<Record<string, string>> = {};

  static async start(): Promise<PostgresServer> {
    const server = new PostgresServer();
    await server.begin();
    return server;
  }

  /** Makes its data, and runs it. */
  async begin(): Promise<void> {
    this.#cluster.make({ password: PASSWORD, options: ['--no-sync'] });
    await this.run();
  }

  /** A standby of a server, which gets the log of that through a port of this machine. */
  static async standbyOf(primary: PostgresServer, port: number): Promise<PostgresServer> {
    const server = new PostgresServer();
    await server.#cluster.copy({ socketFolder: primary.directory, password: PASSWORD });
    // A proxy that tells statements apart does not know the question whether there is encryption.
    const plain = 'sslmode=disable gssencmode=disable';
    server.#settings = { primary_conninfo: `host=127.0.0.1 port=${port} user=${USER} password='${PASSWORD}' ${plain}` };
    await server.run();
    return server;
  }

  // The folder is made when it is needed: tests may have a server that never begins.
  get #cluster(): PostgresCluster {
    this.#placed ??= new PostgresCluster(mkdtempSync(join(tmpdir(), 'cairn-pg-')), USER);
    return this.#placed;
  }

  get directory(): string {
    return this.#cluster.folder;
  }

  /** The file that clients connect to. */
  get socket(): string {
    return this.#cluster.socket;
  }

  /** Starts it, or starts it again with all that it has. */
  async run(): Promise<void> {
    this.#process = this.#cluster.run('QUIT', {
      fsync: 'off',
      max_connections: '60',
      ...this.#settings,
    });
    await this.#process.isUp(() => this.query('SELECT 1'));
  }

  /** Ends it at once, as a crash does. */
  async crash(): Promise<void> {
    await this.#process?.end();
  }

  async stop(): Promise<void> {
    await this.crash();
    rmSync(this.directory, { recursive: true, force: true });
  }

  /** Has these tables alone. */
  async reset(commands = ''): Promise<void> {
    await this.query(`DROP SCHEMA public CASCADE; CREATE SCHEMA public; ${commands}`);
  }

  /** The values of Cairn's own rows, by key. */
  async entries(): Promise<Record<string, string>> {
    const found = await this.query("SELECT encode(key, 'escape') AS key, value FROM cairn_entries");
    return Object.fromEntries(found.map(({ key, value }) => [String(key), (value as Buffer).toString('latin1')]));
  }

  /** A URL for its socket, or for a port of this machine that leads there. */
  url(port?: number): string {
    const credentials = `${USER}:${encodeURIComponent(PASSWORD)}`;
    const address = port === undefined ? encodeURIComponent(this.directory) : `127.0.0.1:${port}`;
    return `postgresql://${credentials}@${address}/postgres`;
  }

  /** A connection that the test ends. */
  async connect(): Promise<Client> {
    const { Client: constructor } = await loadDriver('PostgreSQL', 'pg', 'pg@8');
    const client = new (constructor as new (config: object) => Client)({ connectionString: this.url() });
    client.on('error', () => {});
    await client.connect();
    return client;
  }

  /** Runs a command of the test on another connection. */
  async query(text: string): Promise<Record<string, unknown>[]> {
    const client = await this.connect();
    try {
      const { rows } = (await client.query(text)) as { rows: Record<string, unknown>[] };
      return rows;
    } finally {
      await client.end();
    }
  }
}
