/** A memcached client of few words: one request at a time, and the reply. */
import { Connection } from './connection.ts';

export interface Found {
  readonly value: string;
  readonly clientFlags: number;
}

export class Client {
  readonly #connection: Connection;

  private constructor(connection: Connection) {
    this.#connection = connection;
  }

  /** Rejects if no server listens there. */
  static async open(port: number): Promise<Client> {
    return new Client(await Connection.open(port));
  }

  /** The line that answers a command; undefined: the connection has ended before. */
  async ask(command: string): Promise<string | undefined> {
    this.#connection.send(`${command}\r\n`);
    return this.#take(/^([^\r]*)\r\n/).then((match) => match?.[1]);
  }

  /** `refused`: the value has to be loaded, and the database does not answer. */
  async get(key: string): Promise<Found | 'miss' | 'refused' | undefined> {
    this.#connection.send(`get ${key}\r\n`);
    const head = await this.#take(/^(?:END|SERVER_ERROR[^\r]*|VALUE \S+ (\d+) (\d+))\r\n/);
    if (head === undefined) return undefined;
    if (head[0].startsWith('SERVER_ERROR')) return 'refused';
    if (head[2] === undefined) return 'miss';
    const rest = await this.#take(new RegExp(`^([^]{${head[2]}})\\r\\nEND\\r\\n`));
    return rest === undefined ? undefined : { value: rest[1]!, clientFlags: Number(head[1]) };
  }

  /** The lines of `stats NAME`, by name; undefined: the connection has ended before. */
  async stats(name: string): Promise<ReadonlyMap<string, string> | undefined> {
    this.#connection.send(`stats ${name}\r\n`);
    const match = await this.#take(/^((?:STAT [^\r]*\r\n)*)END\r\n/);
    if (match === undefined) return undefined;
    return new Map([...match[1]!.matchAll(/STAT (\S+) ([^\r]*)/g)].map(([, key, value]) => [key!, value!]));
  }

  #take(pattern: RegExp): Promise<RegExpExecArray | undefined> {
    return this.#connection.take((received) => {
      const found = pattern.exec(received);
      return found === null ? undefined : { found, length: found[0].length };
    });
  }

  close(): void {
    this.#connection.close();
  }
}
