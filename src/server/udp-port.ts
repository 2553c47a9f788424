/**
 * UDP: requests that come in datagrams, each with memcached's frame in front. A datagram is a session of the service:
 * its complete requests are executed, and their replies leave together, in as many datagrams as they need. What is
 * incomplete at its end is dropped, so that no request is put together from the datagrams of two senders.
 *
 *   frame: request id, number of this datagram, datagrams in all, 0; each of 16 bits, the highest byte first
 *
 * Datagrams get lost, and anyone may send them in the name of another machine. So nothing is answered to one that
 * cannot be read, and what there is no room for is dropped: requests, while too many wait, and replies, while the
 * system has not taken those before them.
 *
 * It works on every platform, in the thread of its server.
 */
import { createSocket, type Socket } from 'node:dgram';
import type { AddressInfo } from 'node:net';
import { type Looker, lookers } from '../native/wake.ts';
import type { FrontOwner, ServerAddress } from './front.ts';
import { endName, isMissing, listenError, portFor } from './listen.ts';
import type { UdpListener } from './listeners.ts';
import {
  AckCode,
  ensureOutput,
  FLAG_OVERFLOW,
  FLAG_SLOWED,
  FLAGS_RANGE,
  NEXT_MASK,
  Next,
  protocolCodeOf,
  sessions,
} from './native-session.ts';

const FRAME_BYTES = 8;
/** Of a datagram, its frame included; memcached's, which fits the frames of an Ethernet. */
const DATAGRAM_BYTES_MAX = 1400;
const PAYLOAD_BYTES_MAX: number = DATAGRAM_BYTES_MAX - FRAME_BYTES;
/** Of datagrams that wait: for a log, a load, a time, or their next turn. */
const EXCHANGES_MAX = 1024;
/** Of all replies that wait with them, or for the system to take them. */
const REPLY_BYTES_MAX: number = 16 * 1024 * 1024;

/** A datagram whose requests are not all answered. */
interface Exchange {
  readonly socket: Socket;
  readonly requestId: number;
  readonly port: number;
  readonly address: string;
  readonly session: number;
  readonly replies: Buffer[];
  replyBytes: number;
  /** Continues the session after a time. */
  slowed: NodeJS.Timeout | undefined;
  /** It is dropped then: its client waits no longer. */
  patience: NodeJS.Timeout | undefined;
}

export class UdpPort {
  readonly addresses: ServerAddress[] = [];
  readonly #owner: Pick<FrontOwner, 'failed' | 'tick'>;
  readonly #patienceMs: number;
  #service = -1;
  readonly #sockets: Socket[] = [];
  readonly #waiting = new Set<Exchange>();
  // This thread was woken: by a commit, a load, or for another part.
  readonly #looker: Looker = {
    look: () => {
      for (const exchange of [...this.#waiting]) this.#proceed(exchange);
    },
  };
  /** Of the replies of exchanges, and of datagrams that the system has not taken. */
  #replyBytes = 0;
  #unsent = 0;
  #isClosing = false;
  #onIdle: (() => void) | undefined;

  /** `patienceMs`: how long a request may wait for its log, its load or its time. */
  constructor(owner: Pick<FrontOwner, 'failed' | 'tick'>, patienceMs: number) {
    this.#owner = owner;
    this.#patienceMs = patienceMs;
  }

  /** Listens on one more address. Rejects with `ERR_LISTEN`, except for an optional address that the machine lacks. */
  async listen(listener: UdpListener): Promise<void> {
    const socket = await bind(listener, portFor(listener, this.addresses));
    if (socket === undefined) return;
    if (this.#isClosing) {
      socket.close();
      return;
    }
    this.#sockets.push(socket);
    const { address: host, port } = socket.address() as AddressInfo;
    const own = endName('udp', host, port);
    socket.on('error', (error) => this.#owner.failed(error));
    const codes = [AckCode[listener.ack], protocolCodeOf(listener)] as const;
    socket.on('message', (message, from) => this.#receive(socket, own, message, from, codes));
    this.addresses.push({ host, port, ack: listener.ack, udp: true });
  }

  /** From now on serves clients with sessions of this service. */
  serve(service: number): void {
    if (this.#isClosing || this.#sockets.length === 0) return;
    this.#service = service;
    ensureOutput();
    lookers.add(this.#looker);
  }

  /** Takes no more datagrams, answers those that have come, for this time at most, and closes. */
  async close(timeoutMs: number): Promise<void> {
    this.#isClosing = true;
    for (const socket of this.#sockets) socket.removeAllListeners('message');
    if (this.#waiting.size > 0 || this.#unsent > 0) {
      let timer: NodeJS.Timeout | undefined;
      await new Promise<void>((resolve) => {
        this.#onIdle = resolve;
        timer = setTimeout(resolve, timeoutMs);
      });
      clearTimeout(timer);
    }
    this.destroy();
  }

  /** Closes at once. */
  destroy(): void {
    this.#isClosing = true;
    for (const exchange of [...this.#waiting]) this.#end(exchange);
    for (const socket of this.#sockets.splice(0)) socket.close();
    lookers.delete(this.#looker);
    this.#service = -1;
  }

  #receive(
    socket: Socket,
    own: string,
    message: Buffer,
    from: AddressInfo,
    codes: readonly [ack: number, protocol: number | undefined],
  ): void {
    // Requests of several datagrams are not taken by memcached either.
    if (message.length <= FRAME_BYTES || message.readUInt16BE(4) !== 1) return;
    if (this.#service < 0 || this.#waiting.size >= EXCHANGES_MAX || this.#replyBytes >= REPLY_BYTES_MAX) return;
    const { address, port } = from;
    const exchange: Exchange = {
      socket,
      requestId: message.readUInt16BE(0),
      port,
      address,
      session: sessions.openSession(this.#service, endName('udp', address, port), own, ...codes),
      replies: [],
      replyBytes: 0,
      slowed: undefined,
      patience: undefined,
    };
    this.#waiting.add(exchange);
    this.#owner.tick?.();
    this.#keep(exchange, sessions.feedSession(exchange.session, message.subarray(FRAME_BYTES), 0));
    this.#act(exchange, sessions.endSession(exchange.session, 0));
  }

  #proceed(exchange: Exchange): void {
    if (!this.#waiting.has(exchange)) return;
    this.#owner.tick?.();
    this.#act(exchange, sessions.continueSession(exchange.session, 0));
  }

  // Acts on the result of a native call. Replies leave when all have come, so there are none to wait for.
  #act(exchange: Exchange, result: number): void {
    this.#keep(exchange, result);
    if (this.#replyBytes > REPLY_BYTES_MAX) {
      this.#end(exchange);
      return;
    }
    const next = result & NEXT_MASK;
    if (next === Next.close) {
      this.#finish(exchange);
    } else if (next === Next.flush || next === Next.yield) {
      setImmediate(() => this.#proceed(exchange));
    } else {
      if ((result & FLAG_SLOWED) !== 0 && exchange.slowed === undefined) {
        exchange.slowed = setTimeout(() => {
          exchange.slowed = undefined;
          this.#proceed(exchange);
        }, sessions.continueIn(exchange.session));
      }
      exchange.patience ??= setTimeout(() => this.#end(exchange), this.#patienceMs);
    }
  }

  // Keeps the replies of a native call.
  #keep(exchange: Exchange, result: number): void {
    if (result < FLAGS_RANGE) return;
    const flags = result % FLAGS_RANGE;
    const bytes = (result - flags) / FLAGS_RANGE;
    const overflows = (flags & FLAG_OVERFLOW) !== 0;
    const replies = overflows ? sessions.takeOutput() : Buffer.from(sessions.output!.subarray(0, bytes));
    if (replies === undefined) return;
    exchange.replies.push(replies);
    exchange.replyBytes += replies.length;
    this.#replyBytes += replies.length;
  }

  #finish(exchange: Exchange): void {
    const { socket, requestId, address, port, replyBytes } = exchange;
    const replies = exchange.replies.length === 1 ? exchange.replies[0]! : Buffer.concat(exchange.replies);
    const count = Math.ceil(replyBytes / PAYLOAD_BYTES_MAX);
    for (let number = 0; number < count; number++) {
      const frame = Buffer.alloc(FRAME_BYTES);
      frame.writeUInt16BE(requestId, 0);
      frame.writeUInt16BE(number, 2);
      frame.writeUInt16BE(count, 4);
      const payload = replies.subarray(number * PAYLOAD_BYTES_MAX, (number + 1) * PAYLOAD_BYTES_MAX);
      this.#replyBytes += payload.length;
      this.#unsent++;
      // What cannot be sent is lost, as any datagram may be.
      socket.send([frame, payload], port, address, () => {
        this.#replyBytes -= payload.length;
        this.#unsent--;
        this.#tellIdle();
      });
    }
    this.#end(exchange);
  }

  #end(exchange: Exchange): void {
    if (!this.#waiting.delete(exchange)) return;
    clearTimeout(exchange.slowed);
    clearTimeout(exchange.patience);
    sessions.closeSession(exchange.session);
    this.#replyBytes -= exchange.replyBytes;
    this.#tellIdle();
  }

  #tellIdle(): void {
    if (this.#waiting.size === 0 && this.#unsent === 0) this.#onIdle?.();
  }
}

/** Resolves if all of these addresses can be listened on now; otherwise rejects as listening would. */
export async function probeUdp(listeners: readonly UdpListener[]): Promise<void> {
  for (const listener of listeners) (await bind(listener, Math.max(listener.port, 0)))?.close();
}

/** A socket there; undefined: the machine lacks that address, which is optional. Rejects with `ERR_LISTEN`. */
async function bind(listener: UdpListener, port: number): Promise<Socket | undefined> {
  const { host, optional } = listener;
  const isV6 = host.includes(':');
  const socket = createSocket({ type: isV6 ? 'udp6' : 'udp4', ipv6Only: isV6 });
  try {
    await new Promise<void>((resolve, reject) => {
      socket.once('error', reject);
      socket.bind({ address: host, port, exclusive: true }, resolve);
    });
    socket.removeAllListeners('error');
    return socket;
  } catch (cause) {
    socket.close();
    if (optional && isMissing(cause as NodeJS.ErrnoException)) return undefined;
    throw listenError(listener, cause as NodeJS.ErrnoException);
  }
}
