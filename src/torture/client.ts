/** A memcached client of few words: one request at a time, and the reply. */
import { connect, type Socket } from 'node:net';

export interface Found {
  readonly value: string;
  readonly clientFlags: number;
}

export class Client {
  readonly #socket: Socket;
  #received = '';
  #isClosed = false;
  #look: (() => void) | undefined;

  private constructor(socket: Socket) {
    this.#socket = socket;
    socket.setEncoding('latin1');
    socket.on('data', (text: string) => {
      this.#received += text;
      this.#look?.();
    });
    socket.on('error', () => {});
    socket.on('close', () => {
      this.#isClosed = true;
      this.#look?.();
    });
  }

  /** Rejects if no server listens there. */
  static open(port: number): Promise<Client> {
    return new Promise((resolve, reject) => {
      const socket = connect({ host: '127.0.0.1', port, noDelay: true }, () => {
        socket.off('error', reject);
        resolve(new Client(socket));
      });
      socket.once('error', reject);
    });
  }

  /** The line that answers a command; undefined: the connection has ended before. */
  async ask(command: string): Promise<string | undefined> {
    this.#socket.write(`${command}\r\n`, 'latin1');
    return this.#take(/^([^\r]*)\r\n/).then((match) => match?.[1]);
  }

  /** `refused`: the value has to be loaded, and the database does not answer. */
  async get(key: string): Promise<Found | 'miss' | 'refused' | undefined> {
    this.#socket.write(`get ${key}\r\n`, 'latin1');
    const head = await this.#take(/^(?:END|SERVER_ERROR[^\r]*|VALUE \S+ (\d+) (\d+))\r\n/);
    if (head === undefined) return undefined;
    if (head[0].startsWith('SERVER_ERROR')) return 'refused';
    if (head[2] === undefined) return 'miss';
    const rest = await this.#take(new RegExp(`^([^]{${head[2]}})\\r\\nEND\\r\\n`));
    return rest === undefined ? undefined : { value: rest[1]!, clientFlags: Number(head[1]) };
  }

  /** The lines of `stats NAME`, by name; undefined: the connection has ended before. */
  async stats(name: string): Promise<ReadonlyMap<string, string> | undefined> {
    this.#socket.write(`stats ${name}\r\n`, 'latin1');
    const match = await this.#take(/^((?:STAT [^\r]*\r\n)*)END\r\n/);
    if (match === undefined) return undefined;
    return new Map([...match[1]!.matchAll(/STAT (\S+) ([^\r]*)/g)].map(([, key, value]) => [key!, value!]));
  }

  async #take(pattern: RegExp): Promise<RegExpExecArray | undefined> {
    for (;;) {
      const match = pattern.exec(this.#received);
      if (match !== null) {
        this.#received = this.#received.slice(match[0].length);
        return match;
      }
      if (this.#isClosed) return undefined;
      await new Promise<void>((resolve) => {
        this.#look = resolve;
      });
    }
  }

  close(): void {
    this.#socket.destroy();
  }
}
