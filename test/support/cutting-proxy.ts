// A proxy in front of a database that cuts connections at a chosen statement: before the server gets it, or after the
// server has carried it out and before the client gets the answer. It reads the protocol only to tell statements apart.

import { connect, createServer, type Server, type Socket } from 'node:net';

export type CutSide = 'before' | 'after';

/** One message of a protocol. */
interface Message {
  readonly bytes: Buffer;
  /** From a client: the last of a statement, which an answer follows. From a server: the statement is carried out. */
  readonly isEnd: boolean;
  /** From a client: more of the same statement follows, and passes together with it or not at all. */
  readonly isPart: boolean;
}

/** How a protocol cuts each direction of a connection into messages. */
export interface Wire {
  fromClient(): (chunk: Buffer) => Iterable<Message>;
  fromServer(): (chunk: Buffer) => Iterable<Message>;
}

/** `held`: from this statement on, nothing passes, as if the network were gone. */
interface Plan {
  left: number;
  readonly side: CutSide | 'held';
}

export class CuttingProxy {
  readonly #server: Server;
  readonly #wire: Wire;
  readonly #sockets = new Set<Socket>();
  #plan: Plan | undefined;
  #holding = new Set<() => void>();
  /** Statements that clients have sent. */
  statements = 0;
  /** The file that new connections lead to. */
  upstream = '';
  /** While set, connections are refused. */
  isDown = false;

  constructor(wire: Wire) {
    this.#wire = wire;
    this.#server = createServer((client) => this.#serve(client));
  }

  static async start(upstream: string, wire: Wire): Promise<CuttingProxy> {
    const proxy = new CuttingProxy(wire);
    await proxy.begin(upstream);
    return proxy;
  }

  async begin(upstream: string): Promise<void> {
    this.upstream = upstream;
    await new Promise<void>((resolve) => this.#server.listen(0, '127.0.0.1', resolve));
  }

  get port(): number {
    return (this.#server.address() as { port: number }).port;
  }

  /** Cuts one connection at its `index`th statement from now, counted from 0. */
  cutAt(index: number, side: CutSide): void {
    this.#plan = { left: index, side };
  }

  /** Lets nothing more pass on the connection that comes to its statement of this number. */
  holdAt(index: number): void {
    this.#plan = { left: index, side: 'held' };
  }

  get isHolding(): boolean {
    return this.#holding.size > 0;
  }

  /** Cuts the connections on which nothing passes. */
  release(): void {
    for (const cut of this.#holding) cut();
    this.#holding.clear();
  }

  /** Whether the cut was made; there is none to come from now on. */
  disarm(): boolean {
    const wasMade = this.#plan === undefined;
    this.#plan = undefined;
    return wasMade;
  }

  /** Breaks all connections. */
  cutAll(): void {
    for (const socket of this.#sockets) socket.destroy();
  }

  async stop(): Promise<void> {
    this.cutAll();
    await new Promise((resolve) => this.#server.close(resolve));
  }

  #serve(client: Socket): void {
    if (this.isDown) {
      client.destroy();
      return;
    }
    const server = connect(this.upstream);
    client.setNoDelay(true);
    const cut = (): void => {
      client.destroy();
      server.destroy();
    };
    for (const socket of [client, server]) {
      this.#sockets.add(socket);
      socket.on('error', cut);
      socket.on('close', () => {
        this.#sockets.delete(socket);
        cut();
      });
    }
    let isAnswerHeld = false;
    const fromClient = this.#wire.fromClient();
    let statement: Buffer[] = [];
    client.on('data', (chunk) => {
      for (const { bytes, isEnd, isPart } of fromClient(chunk)) {
        if (isEnd) {
          this.statements++;
          if (this.#plan !== undefined && this.#plan.left-- === 0) {
            const { side } = this.#plan;
            this.#plan = undefined;
            if (side === 'before') {
              cut();
              return;
            }
            if (side === 'held') {
              // Ends of connections do not pass either.
              this.#holding.add(cut);
              client.removeAllListeners('data').removeAllListeners('close').resume();
              server.removeAllListeners('data').removeAllListeners('close').pause();
              return;
            }
            isAnswerHeld = true;
          }
        }
        statement.push(bytes);
        if (!isPart) {
          server.write(Buffer.concat(statement));
          statement = [];
        }
      }
    });
    const fromServer = this.#wire.fromServer();
    server.on('data', (chunk) => {
      for (const { bytes, isEnd } of fromServer(chunk)) {
        if (!isAnswerHeld) client.write(bytes);
        else if (isEnd) cut();
      }
    });
  }
}

/** Cuts a stream into pieces: `sizeOf` says how long the next is, once enough of it is here. */
function* pieces(
  rest: { bytes: Buffer },
  chunk: Buffer,
  sizeOf: (bytes: Buffer) => number | undefined,
): Generator<Buffer> {
  rest.bytes = Buffer.concat([rest.bytes, chunk]);
  for (;;) {
    const size = sizeOf(rest.bytes);
    if (size === undefined || rest.bytes.length < size) return;
    const piece = rest.bytes.subarray(0, size);
    rest.bytes = rest.bytes.subarray(size);
    yield piece;
  }
}

/** PostgreSQL: a letter, a length that counts itself, a body. A client's first message has no letter. */
export const POSTGRES_WIRE: Wire = {
  fromClient() {
    const rest = { bytes: Buffer.alloc(0) };
    let letterBytes = 0;
    const sizeOf = (bytes: Buffer): number | undefined =>
      bytes.length < letterBytes + 4 ? undefined : letterBytes + bytes.readInt32BE(letterBytes);
    return function* (chunk) {
      for (const bytes of pieces(rest, chunk, sizeOf)) {
        const type = letterBytes === 0 ? '' : String.fromCharCode(bytes[0]!);
        letterBytes = 1;
        // Parse, Bind, Describe, Execute and Close come before a Sync; a simple query is alone.
        yield { bytes, isEnd: type === 'Q' || type === 'S', isPart: type !== '' && 'PBDEC'.includes(type) };
      }
    };
  },
  fromServer() {
    const rest = { bytes: Buffer.alloc(0) };
    const sizeOf = (bytes: Buffer): number | undefined => (bytes.length < 5 ? undefined : 1 + bytes.readInt32BE(1));
    return function* (chunk) {
      // ReadyForQuery: the statement has been carried out.
      for (const bytes of pieces(rest, chunk, sizeOf)) yield { bytes, isEnd: bytes[0] === 0x5a, isPart: false };
    };
  },
};

/** MariaDB: three bytes of length, a number that begins at 0 with each command, a body. */
export const MARIADB_WIRE: Wire = {
  fromClient() {
    const rest = { bytes: Buffer.alloc(0) };
    const sizeOf = (bytes: Buffer): number | undefined => (bytes.length < 5 ? undefined : 4 + bytes.readUIntLE(0, 3));
    return function* (chunk) {
      for (const bytes of pieces(rest, chunk, sizeOf)) {
        // Quit and the end of a prepared statement have no answer.
        const isCommand = bytes[3] === 0 && bytes[4] !== 0x01 && bytes[4] !== 0x19;
        yield { bytes, isEnd: isCommand, isPart: false };
      }
    };
  },
  fromServer: () =>
    function* (bytes) {
      // An answer begins when the command has been carried out.
      yield { bytes, isEnd: true, isPart: false };
    },
};
