// A memcached connection with many requests on their way. Replies come in the order of the requests, a line each.

import { Connection } from '../../../../src/torture/connection.ts';
import { sleep } from '../../../../src/torture/sleep.ts';

export class Pipe {
  readonly #connection: Connection;

  private constructor(connection: Connection) {
    this.#connection = connection;
  }

  /** Rejects if no server listens there. */
  static async open(port: number): Promise<Pipe> {
    return new Pipe(await Connection.open(port));
  }

  send(requests: string): void {
    this.#connection.send(requests);
  }

  /** The next lines, at least one; undefined: the connection has ended, and all its lines were taken. */
  lines(): Promise<string[] | undefined> {
    return this.#connection.take((received) => {
      const end = received.lastIndexOf('\r\n');
      return end < 0 ? undefined : { found: received.slice(0, end).split('\r\n'), length: end + 2 };
    });
  }

  /** The values of some keys, which have no line ends; undefined: there is none. Tries again what is refused. */
  async get(keys: readonly string[]): Promise<(string | undefined)[]> {
    for (;;) {
      this.send(`get ${keys.join(' ')}\r\n`);
      const lines: string[] = [];
      while (!/^(END|SERVER_ERROR.*)$/.test(lines.at(-1) ?? '')) {
        const more = await this.lines();
        if (more === undefined) throw new Error('The server does not answer any more');
        lines.push(...more);
      }
      if (lines.at(-1) === 'END') {
        const found = new Map<string, string>();
        for (let i = 0; i + 1 < lines.length; i += 2) found.set(lines[i]!.split(' ')[1]!, lines[i + 1]!);
        return keys.map((key) => found.get(key));
      }
      await sleep(50);
    }
  }

  close(): void {
    this.#connection.close();
  }
}
