// A plain socket that speaks to a memcached server: bytes out, and waits for what comes back.

import { connect, type NetConnectOpts, type Socket } from 'node:net';
import { type ConnectionOptions, connect as connectTls } from 'node:tls';

export class MemcachedSocket {
  readonly socket: Socket;
  #received: Buffer[] = [];
  #receivedBytes = 0;
  #ended = false;
  #closed = false;
  readonly #looks = new Set<() => void>();

  private constructor(socket: Socket) {
    this.socket = socket;
    const look = (): void => {
      for (const each of this.#looks) each();
    };
    socket.on('data', (chunk: Buffer) => {
      this.#received.push(chunk);
      this.#receivedBytes += chunk.length;
      look();
    });
    socket.on('end', () => {
      this.#ended = true;
      look();
    });
    socket.on('error', () => {});
    socket.on('close', () => {
      this.#closed = true;
      look();
    });
  }

  static open(where: number | string, options: Partial<NetConnectOpts> = {}): Promise<MemcachedSocket> {
    return new Promise((resolve, reject) => {
      const target = typeof where === 'number' ? { host: '127.0.0.1', port: where } : { path: where };
      const socket = connect({ ...target, noDelay: true, allowHalfOpen: true, ...options } as NetConnectOpts, () => {
        socket.off('error', reject);
        resolve(new MemcachedSocket(socket));
      });
      socket.once('error', reject);
    });
  }

  /** The same over TLS; the certificate of the server is not looked at. */
  static secure(port: number, options: ConnectionOptions = {}): Promise<MemcachedSocket> {
    return new Promise((resolve, reject) => {
      const where = { host: '127.0.0.1', port, rejectUnauthorized: false };
      const socket = connectTls({ ...where, ...options }, () => {
        socket.off('error', reject);
        resolve(new MemcachedSocket(socket));
      });
      socket.once('error', reject);
    });
  }

  get receivedBytes(): number {
    return this.#receivedBytes;
  }

  send(text: string | Buffer): void {
    this.socket.write(typeof text === 'string' ? Buffer.from(text, 'latin1') : text);
  }

  /** Takes everything that has come, as latin1 text. */
  take(): string {
    const text = Buffer.concat(this.#received).toString('latin1');
    this.#received = [];
    this.#receivedBytes = 0;
    return text;
  }

  /** Resolves when the condition holds; rejects if the connection closes before. */
  until(what: string, condition: () => boolean): Promise<void> {
    return new Promise((resolve, reject) => {
      const look = (): void => {
        if (condition()) {
          this.#looks.delete(look);
          resolve();
        } else if (this.#closed) {
          this.#looks.delete(look);
          reject(
            new Error(`Expected ${what}, but the connection closed after ${JSON.stringify(this.take().slice(0, 200))}`),
          );
        }
      };
      this.#looks.add(look);
      look();
    });
  }

  /** Sends, and resolves to what has come once it ends in `end`. */
  async ask(text: string, end = '\r\n'): Promise<string> {
    this.send(text);
    await this.until(`a reply that ends in ${JSON.stringify(end)}`, () => this.#endsIn(end));
    return this.take();
  }

  /** Resolves to what has come when the server has closed its side. */
  async ending(): Promise<string> {
    await this.until('the server to close', () => this.#ended || this.#closed);
    return this.take();
  }

  destroy(): void {
    this.socket.destroy();
  }

  #endsIn(end: string): boolean {
    let tail = '';
    for (let i = this.#received.length - 1; i >= 0 && tail.length < end.length; i--) {
      tail = this.#received[i]!.toString('latin1') + tail;
    }
    return tail.endsWith(end);
  }
}
