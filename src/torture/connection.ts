/** A connection to a memcached server of this machine: text that is sent, and pieces of the text that comes back. */
import { connect, type Socket } from 'node:net';

/** What was found at the beginning of a text, and how much of it that is. */
export interface Piece<T> {
  readonly found: T;
  readonly length: number;
}

export class Connection {
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
  static open(port: number): Promise<Connection> {
    return new Promise((resolve, reject) => {
      const socket = connect({ host: '127.0.0.1', port, noDelay: true }, () => {
        socket.off('error', reject);
        resolve(new Connection(socket));
      });
      socket.once('error', reject);
    });
  }

  send(text: string): void {
    this.#socket.write(text, 'latin1');
  }

  /** Takes the next piece once `find` finds it; undefined: the connection has ended before. One caller at a time. */
  async take<T>(find: (received: string) => Piece<T> | undefined): Promise<T | undefined> {
    for (;;) {
      const piece = find(this.#received);
      if (piece !== undefined) {
        this.#received = this.#received.slice(piece.length);
        return piece.found;
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
