// A PostgreSQL server for one file of tests: a new cluster in a temporary directory, which listens on a unix socket
// only and ends with the test's process, however that ends.

import { type ChildProcess, execFileSync, spawn } from 'node:child_process';
import { chownSync, existsSync, mkdtempSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { delimiter, join } from 'node:path';
import { loadDriver } from '../../src/backend/driver.ts';

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

/** The folder of initdb and postgres; Debian keeps them out of the path. */
function findPrograms(): string | undefined {
  const debian = '/usr/lib/postgresql';
  const versions = existsSync(debian) ? readdirSync(debian).sort((a, b) => Number(b) - Number(a)) : [];
  const folders = [
    ...versions.map((version) => join(debian, version, 'bin')),
    ...(process.env['PATH'] ?? '').split(delimiter),
  ];
  return folders.find((folder) => existsSync(join(folder, 'initdb')) && existsSync(join(folder, 'postgres')));
}

export const postgresPrograms: string | undefined = findPrograms();
export const POSTGRES_MISSING = 'PostgreSQL is missing (apt-get install postgresql)';

// PostgreSQL refuses to run as root.
function owner(): { uid: number; gid: number } | undefined {
  if (process.getuid?.() !== 0) return undefined;
  const id = (flag: string): number => Number(execFileSync('id', [flag, 'postgres'], { encoding: 'utf8' }));
  return { uid: id('-u'), gid: id('-g') };
}

// `cat` ends when the test's process does, which may be by kill -9.
const UNTIL_PARENT_ENDS = '"$@" & child=$!; cat; kill -QUIT $child; wait $child';

export class PostgresServer {
  readonly directory: string;
  /** The file that clients connect to. */
  readonly socket: string;
  #child: ChildProcess | undefined;
  readonly #owner = owner();

  private constructor() {
    this.directory = mkdtempSync(join(tmpdir(), 'cairn-pg-'));
    if (this.#owner !== undefined) chownSync(this.directory, this.#owner.uid, this.#owner.gid);
    this.socket = join(this.directory, '.s.PGSQL.5432');
  }

  static async start(): Promise<PostgresServer> {
    const server = new PostgresServer();
    const passwordFile = join(server.directory, 'password');
    writeFileSync(passwordFile, PASSWORD);
    if (server.#owner !== undefined) chownSync(passwordFile, server.#owner.uid, server.#owner.gid);
    const options = ['-D', server.#data, '-U', USER, '-A', 'scram-sha-256', '--pwfile', passwordFile];
    execFileSync(join(postgresPrograms!, 'initdb'), [...options, '-E', 'UTF8', '--locale=C', '--no-sync'], {
      ...server.#owner,
      cwd: server.directory,
      stdio: ['ignore', 'ignore', 'inherit'],
    });
    await server.run();
    return server;
  }

  get #data(): string {
    return join(this.directory, 'data');
  }

  /** Starts it, or starts it again with all that it has. */
  async run(): Promise<void> {
    const settings = {
      listen_addresses: '',
      unix_socket_directories: this.directory,
      fsync: 'off',
      max_connections: '60',
      log_min_messages: 'fatal',
    };
    const given = Object.entries(settings).flatMap(([name, value]) => ['-c', `${name}=${value}`]);
    const command = [join(postgresPrograms!, 'postgres'), '-D', this.#data, ...given];
    this.#child = spawn('sh', ['-c', UNTIL_PARENT_ENDS, 'sh', ...command], {
      ...this.#owner,
      cwd: this.directory,
      stdio: ['pipe', 'ignore', 'ignore'],
    });
    for (;;) {
      try {
        await this.query('SELECT 1');
        return;
      } catch (error) {
        if (this.#child.exitCode !== null) throw error;
        await new Promise((resolve) => setTimeout(resolve, 20));
      }
    }
  }

  /** Ends it at once, as a crash does. */
  async crash(): Promise<void> {
    const child = this.#child;
    if (child === undefined || child.exitCode !== null) return;
    const ended = new Promise((resolve) => child.once('exit', resolve));
    child.stdin!.end();
    await ended;
  }

  async stop(): Promise<void> {
    await this.crash();
    rmSync(this.directory, { recursive: true, force: true });
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
