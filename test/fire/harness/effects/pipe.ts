// A memcached connection with many requests on their way. Replies come in the order of the requests, a line each.

import { connect, type Socket } from 'node:net';

export class Pipe {
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
  static open(port: number): Promise<Pipe> {
    return new Promise((resolve, reject) => {
      const socket = connect({ host: '127.0.0.1', port, noDelay: true }, () => {
        socket.off('error', reject);
        resolve(new Pipe(socket));
      });
      socket.once('error', reject);
    });
  }

  send(requests: string): void {
    this.#socket.write(requests, 'latin1');
  }

  /** The next lines, at least one; undefined: the connection has ended, and all its lines were taken. */
  async lines(): Promise<string[] | undefined> {
    for (;;) {
      const end = this.#received.lastIndexOf('\r\n');
      if (end >= 0) {
        const lines = this.#received.slice(0, end).split('\r\n');
        this.#received = this.#received.slice(end + 2);
        return lines;
      }
      if (this.#isClosed) return undefined;
      await new Promise<void>((resolve) => {
        this.#look = resolve;
      });
    }
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
      await new Promise((resolve) => setTimeout(resolve, 50));
    }
  }

  close(): void {
    this.#socket.destroy();
  }
}
