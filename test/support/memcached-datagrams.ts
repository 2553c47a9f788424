// A client of the memcached port over UDP: requests and replies with memcached's frame around them.

import { createSocket, type Socket } from 'node:dgram';
import { once } from 'node:events';
import { vi } from 'vitest';

const PATIENCE = { timeout: 60_000 };

export class MemcachedDatagrams {
  readonly #socket: Socket;
  readonly #datagrams: Buffer[] = [];
  #requestId = 0;

  private constructor(socket: Socket) {
    this.#socket = socket;
    socket.on('message', (message) => this.#datagrams.push(message));
  }

  static async open(port: number, host = '127.0.0.1'): Promise<MemcachedDatagrams> {
    const socket = createSocket(host.includes(':') ? 'udp6' : 'udp4');
    // A large reply is many datagrams at once.
    socket.bind(0);
    await once(socket, 'listening');
    socket.setRecvBufferSize(4 << 20);
    socket.connect(port, host);
    await once(socket, 'connect');
    return new MemcachedDatagrams(socket);
  }

  /** Sends a datagram of these requests, and returns the number by which its replies are known. */
  send(requests: string | Buffer): number {
    const requestId = ++this.#requestId;
    const frame = Buffer.from([requestId >> 8, requestId & 255, 0, 0, 0, 1, 0, 0]);
    this.sendRaw(Buffer.concat([frame, Buffer.from(requests)]));
    return requestId;
  }

  /** Sends a datagram that has its frame already. */
  sendRaw(datagram: Buffer): void {
    this.#socket.send(datagram);
  }

  /** Resolves to all replies to this datagram, when as many have come as their frames say. */
  async replies(requestId: number): Promise<string> {
    const parts = await vi.waitUntil(() => {
      const own = this.#datagrams.filter((message) => message.readUInt16BE(0) === requestId);
      return own.length > 0 && own.length === own[0]!.readUInt16BE(4) ? own : undefined;
    }, PATIENCE);
    const ordered = parts.sort((a, b) => a.readUInt16BE(2) - b.readUInt16BE(2));
    return Buffer.concat(ordered.map((part) => part.subarray(8))).toString('latin1');
  }

  ask(requests: string | Buffer): Promise<string> {
    return this.replies(this.send(requests));
  }

  /** Whether a datagram of replies to this one has come. */
  has(requestId: number): boolean {
    return this.#datagrams.some((message) => message.readUInt16BE(0) === requestId);
  }

  close(): void {
    this.#socket.close();
  }
}
