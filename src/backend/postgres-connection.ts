/** One connection to PostgreSQL: what this project needs of the package pg, with a deadline on every answer. */
import { loadDriver } from './driver.ts';
import type { PooledConnection } from './pool.ts';
import type { Statement } from './postgres-sql.ts';

/** A client of pg, as far as it is used here. */
interface Client {
  readonly host: string;
  readonly port: number;
  readonly database: string;
  connect(): Promise<void>;
  query(config: QueryConfig): Promise<Result | Result[]>;
  end(): Promise<void>;
  on(event: 'error', listener: (error: Error) => void): this;
  on(event: 'end', listener: () => void): this;
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

export interface SessionSettings {
  readonly connectTimeoutMs: number;
  readonly lockTimeoutMs: number;
  readonly statementTimeoutMs: number;
  readonly idleTimeoutMs: number;
  /** How much longer than the database's own limit an answer may take before the network is held to be gone. */
  readonly answerGraceMs: number;
  readonly applicationName: string;
}

/** How long the end of a connection waits for the database. */
const GOODBYE_MS_MAX = 1_000;

export async function loadPg(): Promise<ClientConstructor> {
  const { Client: constructor } = await loadDriver('PostgreSQL', 'pg', 'pg@8');
  return constructor as ClientConstructor;
}

export class PostgresConnection implements PooledConnection {
  readonly #client: Client;
  readonly #answerMs: number;
  #brokenBy: Error | undefined;
  #ended: Promise<void> | undefined;

  private constructor(client: Client, answerMs: number) {
    this.#client = client;
    this.#answerMs = answerMs;
    // Without a listener, the end of an idle connection would end the process.
    client.on('error', (error) => {
      this.#brokenBy ??= error;
    });
    client.on('end', () => {
      this.#brokenBy ??= new Error('The database has ended the connection');
    });
  }

  static async open(Client: ClientConstructor, connectionString: string, settings: SessionSettings) {
    const client = new Client({
      connectionString,
      application_name: settings.applicationName,
      connectionTimeoutMillis: settings.connectTimeoutMs,
      keepAlive: true,
      types: { getTypeParser: () => (text: string) => text },
    });
    const connection = new PostgresConnection(client, settings.statementTimeoutMs + settings.answerGraceMs);
    try {
      await client.connect();
      await connection.command(sessionCommands(settings));
    } catch (error) {
      connection.destroy(error as Error);
      throw error;
    }
    return connection;
  }

  get isBroken(): boolean {
    return this.#brokenBy !== undefined;
  }

  /** Simple commands, several with `;` between. Returns the result of the last. */
  async command(text: string): Promise<Result> {
    const result = await this.#ask({ text, rowMode: 'array' });
    return Array.isArray(result) ? result.at(-1)! : result;
  }

  /** Throws also where the database says that it has rolled back instead, as it does after an error. */
  async commit(): Promise<void> {
    const { command } = await this.command('COMMIT');
    if (command !== 'COMMIT') throw new Error(`The database answered COMMIT with ${command}`);
  }

  async run({ name, text, values }: Statement): Promise<Result> {
    return (await this.#ask({ name, text, values, rowMode: 'array' })) as Result;
  }

  async #ask(query: QueryConfig): Promise<Result | Result[]> {
    if (this.#brokenBy !== undefined) throw this.#brokenBy;
    const timer = setTimeout(() => {
      const error = new Error(`No answer within ${this.#answerMs} ms`);
      this.destroy(Object.assign(error, { code: 'ETIMEDOUT' }));
    }, this.#answerMs);
    try {
      return await this.#client.query(query);
    } catch (error) {
      // pg says that the connection was terminated; the reason is better.
      throw this.#brokenBy ?? error;
    } finally {
      clearTimeout(timer);
    }
  }

  end(): Promise<void> {
    this.#brokenBy ??= new Error('The connection was closed');
    this.#ended ??= this.#sayGoodbye();
    return this.#ended;
  }

  async #sayGoodbye(): Promise<void> {
    // A network that is gone gives no answer.
    const timer = setTimeout(() => this.#client.connection.stream.destroy(), GOODBYE_MS_MAX);
    await this.#client.end().catch(() => {});
    clearTimeout(timer);
  }

  destroy(error: Error): void {
    this.#brokenBy ??= error;
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
