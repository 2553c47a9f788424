// A proxy in front of PostgreSQL that cuts connections at a chosen statement: before the server gets it, or after the
// server has carried it out and before the client gets the answer. It reads the protocol only to tell statements apart.

import { connect, createServer, type Server, type Socket } from 'node:net';

export type CutSide = 'before' | 'after';

/** `held`: from this statement on, nothing passes, as if the network were gone. */
interface Plan {
  left: number;
  readonly side: CutSide | 'held';
}

export class CuttingProxy {
  readonly #server: Server;
  readonly #upstream: string;
  readonly #sockets = new Set<Socket>();
  #plan: Plan | undefined;
  #holding = new Set<() => void>();
  /** Statements that clients have sent. */
  statements = 0;
  /** While set, connections are refused. */
  isDown = false;

  private constructor(upstream: string) {
    this.#upstream = upstream;
    this.#server = createServer((client) => this.#serve(client));
  }

  static async start(upstream: string): Promise<CuttingProxy> {
    const proxy = new CuttingProxy(upstream);
    await new Promise<void>((resolve) => proxy.#server.listen(0, '127.0.0.1', resolve));
    return proxy;
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
    const server = connect(this.#upstream);
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
    const fromClient = new Messages(true);
    // A prepared statement is several messages: they pass together or not at all.
    let statement: Buffer[] = [];
    client.on('data', (chunk) => {
      for (const { type, bytes } of fromClient.read(chunk)) {
        // A simple query, or the end of a prepared one.
        const isStatement = type === 'Q' || type === 'S';
        if (isStatement) {
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
        if (type === '' || !'PBDEC'.includes(type)) {
          server.write(Buffer.concat(statement));
          statement = [];
        }
      }
    });
    const fromServer = new Messages(false);
    server.on('data', (chunk) => {
      for (const { type, bytes } of fromServer.read(chunk)) {
        if (!isAnswerHeld) client.write(bytes);
        // ReadyForQuery: the statement has been carried out.
        else if (type === 'Z') cut();
      }
    });
  }
}

/** Cuts a stream of the protocol into its messages: a letter, a length that counts itself, a body. */
class Messages {
  #rest: Buffer = Buffer.alloc(0);
  /** A client's first message has no letter. */
  #isFirst: boolean;

  constructor(isClient: boolean) {
    this.#isFirst = isClient;
  }

  *read(chunk: Buffer): Generator<{ type: string; bytes: Buffer }> {
    this.#rest = Buffer.concat([this.#rest, chunk]);
    for (;;) {
      const letter = this.#isFirst ? 0 : 1;
      if (this.#rest.length < letter + 4) return;
      const size = letter + this.#rest.readInt32BE(letter);
      if (this.#rest.length < size) return;
      const bytes = this.#rest.subarray(0, size);
      this.#rest = this.#rest.subarray(size);
      const type = this.#isFirst ? '' : String.fromCharCode(bytes[0]!);
      this.#isFirst = false;
      yield { type, bytes };
    }
  }
}
