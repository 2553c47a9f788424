/** One connection to MariaDB or MySQL: what this project needs of the package mariadb, with a deadline on answers. */
import { loadDriver } from './driver.ts';
import type { PooledConnection } from './pool.ts';

/** A cell of a parameter or a row. */
export type Cell = Buffer | string | number | bigint | null;

interface DriverConnection {
  query(options: object): Promise<unknown>;
  execute(options: object, values: readonly Cell[]): Promise<unknown>;
  batch(options: object, values: readonly (readonly Cell[])[]): Promise<unknown>;
  end(): Promise<void>;
  destroy(): void;
  on(event: 'error' | 'end', listener: (error?: Error) => void): unknown;
  readonly info: { isMariaDB(): boolean };
}

export type CreateConnection = (options: object) => Promise<DriverConnection>;

export interface MariadbTarget {
  readonly host: string;
  readonly port: number;
  readonly socketPath: string | undefined;
  readonly user: string | undefined;
  readonly password: string | undefined;
  readonly database: string;
  readonly ssl: boolean;
}

export interface MariadbSettings {
  readonly connectTimeoutMs: number;
  readonly lockTimeoutMs: number;
  readonly statementTimeoutMs: number;
  readonly idleTimeoutMs: number;
  readonly answerGraceMs: number;
}

export async function loadMariadb(): Promise<CreateConnection> {
  const { createConnection } = await loadDriver('MariaDB or MySQL', 'mariadb', 'mariadb@3');
  return createConnection as CreateConnection;
}

export class MariadbConnection implements PooledConnection {
  readonly #connection: DriverConnection;
  readonly #answerMs: number;
  #brokenBy: Error | undefined;

  private constructor(connection: DriverConnection, answerMs: number) {
    this.#connection = connection;
    this.#answerMs = answerMs;
    // Without a listener, the end of an idle connection would end the process.
    connection.on('error', (error) => {
      this.#brokenBy ??= error ?? new Error('The connection has failed');
    });
    connection.on('end', () => {
      this.#brokenBy ??= new Error('The database has ended the connection');
    });
  }

  static async open(
    create: CreateConnection,
    target: MariadbTarget,
    settings: MariadbSettings,
    isolation: 'READ COMMITTED' | 'REPEATABLE READ',
  ): Promise<MariadbConnection> {
    const driver = await create({
      ...target,
      connectTimeout: settings.connectTimeoutMs,
      keepAliveDelay: 10_000,
      // Bytes are sent as they are. Values of this size are the largest of a cache with a log.
      maxAllowedPacket: 2 ** 30,
      // Errors repeat the statement otherwise, and with it keys and values.
      logParam: false,
      logger: { error: () => {}, warning: () => {} },
    });
    const connection = new MariadbConnection(driver, settings.statementTimeoutMs + settings.answerGraceMs);
    try {
      for (const command of sessionCommands(settings, isolation, driver.info.isMariaDB())) {
        await connection.command(command);
      }
    } catch (error) {
      connection.destroy(error as Error);
      throw error;
    }
    return connection;
  }

  get isBroken(): boolean {
    return this.#brokenBy !== undefined;
  }

  command(sql: string): Promise<Cell[][]> {
    return this.#ask(() => this.#connection.query({ sql, rowsAsArray: true })) as Promise<Cell[][]>;
  }

  /** A prepared statement. */
  async run(sql: string, values: readonly Cell[]): Promise<Cell[][]> {
    return (await this.#ask(() => this.#connection.execute({ sql, rowsAsArray: true }, values))) as Cell[][];
  }

  /** The number of rows that a prepared statement has found. */
  async change(sql: string, values: readonly Cell[]): Promise<number> {
    const { affectedRows } = (await this.#ask(() => this.#connection.execute({ sql }, values))) as {
      affectedRows: number;
    };
    return affectedRows;
  }

  /** One statement for many rows of parameters: in one message where the server can. */
  async many(sql: string, rows: readonly (readonly Cell[])[]): Promise<void> {
    if (rows.length > 0) await this.#ask(() => this.#connection.batch({ sql }, rows));
  }

  async #ask(send: () => Promise<unknown>): Promise<unknown> {
    if (this.#brokenBy !== undefined) throw this.#brokenBy;
    const timer = setTimeout(() => {
      this.destroy(Object.assign(new Error(`No answer within ${this.#answerMs} ms`), { code: 'ETIMEDOUT' }));
    }, this.#answerMs);
    try {
      return await send();
    } catch (error) {
      throw this.#brokenBy ?? error;
    } finally {
      clearTimeout(timer);
    }
  }

  async end(): Promise<void> {
    this.#brokenBy ??= new Error('The connection was closed');
    await this.#connection.end().catch(() => {});
  }

  destroy(error: Error): void {
    this.#brokenBy ??= error;
    this.#connection.destroy();
  }
}

function sessionCommands(settings: MariadbSettings, isolation: string, isMariadb: boolean): string[] {
  const seconds = (ms: number): number => Math.max(1, Math.ceil(ms / 1000));
  return [
    // What does not fit is refused, not cut off.
    "SET SESSION sql_mode = 'STRICT_ALL_TABLES,NO_ENGINE_SUBSTITUTION'",
    `SET SESSION TRANSACTION ISOLATION LEVEL ${isolation}`,
    `SET SESSION innodb_lock_wait_timeout = ${seconds(settings.lockTimeoutMs)}`,
    ...(isMariadb
      ? [
          `SET SESSION max_statement_time = ${settings.statementTimeoutMs / 1000}`,
          `SET SESSION idle_transaction_timeout = ${seconds(settings.idleTimeoutMs)}`,
        ]
      : [`SET SESSION wait_timeout = ${seconds(settings.idleTimeoutMs)}`]),
  ];
}
