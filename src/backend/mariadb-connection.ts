/** One connection to MariaDB or MySQL: what this project needs of the package mariadb, with a deadline on answers. */
import { loadDriver } from './driver.ts';
import { MessageTooLarge } from './mariadb-errors.ts';
import { SqlConnection, type SqlSettings } from './sql-connection.ts';

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

export async function loadMariadb(): Promise<CreateConnection> {
  const { createConnection } = await loadDriver('MariaDB or MySQL', 'mariadb', 'mariadb@3');
  return createConnection as CreateConnection;
}

/** What a message has beside the bytes of its cells, at most: numbers, lengths, the text of an error. */
const MESSAGE_OVERHEAD_BYTES_MAX = 4096;
/** As long as Windows allows, in seconds: 23 days. */
const IDLE_SECONDS_MAX = 2_000_000;

export class MariadbConnection extends SqlConnection {
  readonly #connection: DriverConnection;
  readonly #idleSeconds: number;
  #packetBytesMax = 0;

  private constructor(connection: DriverConnection, settings: SqlSettings) {
    super(connection, settings);
    this.#connection = connection;
    this.#idleSeconds = secondsOf(settings.idleTimeoutMs);
  }

  static async open(
    create: CreateConnection,
    target: MariadbTarget,
    settings: SqlSettings,
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
      // JSON of a column is its text.
      jsonStrings: true,
    });
    const connection = new MariadbConnection(driver, settings);
    try {
      for (const command of sessionCommands(settings, isolation, driver.info.isMariaDB())) {
        await connection.command(command);
      }
      await connection.mayIdle(false);
      const [row] = await connection.command('SELECT @@max_allowed_packet');
      connection.#packetBytesMax = Number(row![0]);
    } catch (error) {
      connection.destroy(error as Error);
      throw error;
    }
    return connection;
  }

  /** Otherwise the server is MySQL. */
  get isMariadb(): boolean {
    return this.#connection.info.isMariaDB();
  }

  /** The server's `max_allowed_packet`: it ends a connection that sends a larger message. */
  get packetBytesMax(): number {
    return this.#packetBytesMax;
  }

  /** Whether the server is to keep a transaction whose client is silent: by default it ends it after a while. */
  async mayIdle(isPatient: boolean): Promise<void> {
    // MySQL has a limit for all connections only.
    if (!this.isMariadb) {
      await this.command(`SET SESSION wait_timeout = ${isPatient ? IDLE_SECONDS_MAX : this.#idleSeconds}`);
      return;
    }
    const limit = isPatient ? 0 : this.#idleSeconds;
    await this.command(`SET SESSION idle_transaction_timeout = ${limit}, SESSION idle_readonly_transaction_timeout = ${limit},
      SESSION wait_timeout = ${isPatient ? IDLE_SECONDS_MAX : 'DEFAULT'}`);
  }

  command(sql: string): Promise<Cell[][]> {
    return this.ask(() => this.#connection.query({ sql, rowsAsArray: true })) as Promise<Cell[][]>;
  }

  /** A prepared statement. */
  async run(sql: string, values: readonly Cell[]): Promise<Cell[][]> {
    return (await this.ask(() => this.#connection.execute({ sql, rowsAsArray: true }, values))) as Cell[][];
  }

  /** The number of rows that a prepared statement has found. */
  async change(sql: string, values: readonly Cell[]): Promise<number> {
    this.#refuseIfTooLarge(values);
    const { affectedRows } = (await this.ask(() => this.#connection.execute({ sql }, values))) as {
      affectedRows: number;
    };
    return affectedRows;
  }

  /** One statement for many rows of parameters: in one message where the server can. */
  async many(sql: string, rows: readonly (readonly Cell[])[]): Promise<void> {
    if (rows.length === 0) return;
    for (const row of rows) this.#refuseIfTooLarge(row);
    await this.ask(() => this.#connection.batch({ sql }, rows));
  }

  /** The server would end the connection in the middle of the message, and that looks like a network that breaks. */
  #refuseIfTooLarge(cells: readonly Cell[]): void {
    let bytes = MESSAGE_OVERHEAD_BYTES_MAX;
    for (const cell of cells) {
      if (Buffer.isBuffer(cell)) bytes += cell.length;
      else if (typeof cell === 'string') bytes += Buffer.byteLength(cell);
    }
    if (bytes > this.#packetBytesMax) {
      throw new MessageTooLarge(
        `A change needs a message of ${bytes} bytes, and the server's max_allowed_packet is ${this.#packetBytesMax}`,
      );
    }
  }

  protected leave(): Promise<void> {
    return this.#connection.end();
  }

  protected cut(): void {
    this.#connection.destroy();
  }
}

function secondsOf(ms: number): number {
  return Math.max(1, Math.ceil(ms / 1000));
}

function sessionCommands(settings: SqlSettings, isolation: string, isMariadb: boolean): string[] {
  return [
    // What does not fit is refused, not cut off.
    "SET SESSION sql_mode = 'STRICT_ALL_TABLES,NO_ENGINE_SUBSTITUTION'",
    // Columns of the user's own tables have moments, which no change to summer time may make two of.
    "SET SESSION time_zone = '+00:00'",
    `SET SESSION TRANSACTION ISOLATION LEVEL ${isolation}`,
    `SET SESSION innodb_lock_wait_timeout = ${secondsOf(settings.lockTimeoutMs)}`,
    ...(isMariadb ? [`SET SESSION max_statement_time = ${settings.statementTimeoutMs / 1000}`] : []),
  ];
}
