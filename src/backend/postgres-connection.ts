/** One connection to PostgreSQL: what this project needs of the package pg, as an SQL connection. */
import { loadDriver } from './driver.ts';
import type { Statement } from './postgres-sql.ts';
import { SqlConnection, type SqlSettings } from './sql-connection.ts';

/** A client of pg, as far as it is used here. */
interface Client {
  readonly host: string;
  readonly port: number;
  readonly database: string;
  connect(): Promise<void>;
  query(config: QueryConfig): Promise<Result | Result[]>;
  end(): Promise<void>;
  on(event: 'error' | 'end', listener: (error?: Error) => void): this;
  readonly connection: { readonly stream: { destroy(error?: Error): void; unref(): void } };
}

interface QueryConfig {
  readonly text: string;
  readonly name?: string;
  readonly values?: readonly unknown[];
  readonly rowMode: 'array';
}

/** Cells are text as PostgreSQL writes it, whatever their type. */
export interface Result {
  readonly rows: readonly (readonly (string | null)[])[];
  readonly rowCount: number | null;
  /** What the database has done: `COMMIT`. */
  readonly command: string | null;
}

export type ClientConstructor = new (config: object) => Client;

export interface SessionSettings extends SqlSettings {
  readonly applicationName: string;
}

export async function loadPg(): Promise<ClientConstructor> {
  const { Client: constructor } = await loadDriver('PostgreSQL', 'pg', 'pg@8');
  return constructor as ClientConstructor;
}

export class PostgresConnection extends SqlConnection {
  readonly #client: Client;

  private constructor(client: Client, settings: SqlSettings) {
    super(client, settings);
    this.#client = client;
  }

  static async open(Client: ClientConstructor, connectionString: string, settings: SessionSettings) {
    const client = new Client({
      connectionString,
      application_name: settings.applicationName,
      connectionTimeoutMillis: settings.connectTimeoutMs,
      keepAlive: true,
      types: { getTypeParser: () => (text: string) => text },
    });
    const connection = new PostgresConnection(client, settings);
    try {
      await client.connect();
      await connection.command(sessionCommands(settings));
    } catch (error) {
      connection.destroy(error as Error);
      throw error;
    }
    return connection;
  }

  /** Simple commands, several with `;` between. Returns the result of the last. */
  async command(text: string): Promise<Result> {
    const result = await this.ask(() => this.#client.query({ text, rowMode: 'array' }));
    return Array.isArray(result) ? result.at(-1)! : result;
  }

  /** Throws also where the database says that it has rolled back instead, as it does after an error. */
  async commit(): Promise<void> {
    const { command } = await this.command('COMMIT');
    if (command !== 'COMMIT') throw new Error(`The database answered COMMIT with ${command}`);
  }

  async run({ name, text, values }: Statement): Promise<Result> {
    return (await this.ask(() => this.#client.query({ name, text, values, rowMode: 'array' }))) as Result;
  }

  protected leave(): Promise<void> {
    return this.#client.end();
  }

  protected cut(): void {
    this.#client.connection.stream.destroy();
  }
}

function sessionCommands(settings: SessionSettings): string {
  return [
    `SET lock_timeout = ${settings.lockTimeoutMs}`,
    `SET statement_timeout = ${settings.statementTimeoutMs}`,
    `SET idle_in_transaction_session_timeout = ${settings.idleTimeoutMs}`,
    // A host that is cut off in the middle of a statement is found by these alone. Ignored for unix sockets.
    'SET tcp_keepalives_idle = 10; SET tcp_keepalives_interval = 5; SET tcp_keepalives_count = 3',
    // All statements but the scan look rows up by key. A plan that was made while a table was small must not read all
    // of it later: a prepared statement keeps its plan.
    'SET enable_seqscan = off',
    // Statements by key gain nothing from compiled code, and a table that is read whole now costs more than 10^10,
    // which would have each of them compiled.
    'SET jit = off',
    // Cells of bytes are read in this format, and a role or a database may have another.
    "SET bytea_output = 'hex'",
    // Otherwise a crash of the database could take back commits that the writer has counted.
    "SELECT set_config('synchronous_commit', 'on', false) WHERE current_setting('synchronous_commit') = 'off'",
  ].join('; ');
}
