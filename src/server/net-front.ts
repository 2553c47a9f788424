/**
 * The front over sockets of node:net. It works on every platform of Node, in one thread, that of its server, and has
 * TLS: a connection of TLS is in its handshake first, and is served when that is done.
 */
import { type AddressInfo, createServer, type Server, type Socket } from 'node:net';
import { performance } from 'node:perf_hooks';
import { type Looker, lookers } from '../native/wake.ts';
import type { TlsVerify } from '../options.ts';
import { Connection, type ConnectionOwner } from './connection.ts';
import type { Front, FrontLimits, FrontOwner, ServerAddress } from './front.ts';
import { endName, type ListenOptions, listen, portFor } from './listen.ts';
import type { Listener } from './listeners.ts';
import { AckCode, ensureOutput, Handshakes, protocolCodeOf, sessions } from './native-session.ts';
import { type BudgetOwner, OutputBudget } from './output-budget.ts';
import type { TlsGate } from './tls-gate.ts';

const TOO_MANY = 'ERROR Too many open connections\r\n';
/** The shortest interval between two checks of timeouts. */
const SWEEP_MS = 1_000;

export class NetFront implements Front {
  readonly addresses: ServerAddress[] = [];
  readonly #owner: FrontOwner;
  readonly #limits: FrontLimits & ListenOptions;
  #state: 'new' | 'open' | 'closing' | 'closed' = 'new';
  #service = -1;
  readonly #servers: Server[] = [];
  /** undefined: no address has TLS. */
  readonly #gate: TlsGate | undefined;
  /** Sockets whose handshake is not done. */
  readonly #handshakes = new Set<Socket>();
  readonly #connections = new Set<Connection>();
  readonly #waiting = new Set<Connection>();
  // This thread was woken: by a commit, a load, or for another part.
  readonly #looker: Looker = {
    look: () => {
      for (const connection of [...this.#waiting]) connection.proceed();
    },
  };
  readonly #budget: OutputBudget<Connection>;
  #sweep: NodeJS.Timeout | undefined;
  #sweepMs = SWEEP_MS;
  #sweptAt = 0;
  #closing: Promise<void> | undefined;
  #onGone: () => void = () => {};
  /** Resolves when closing, and no connection is left. */
  readonly #gone = new Promise<void>((resolve) => {
    this.#onGone = resolve;
  });
  readonly #connectionOwner = {
    coarseNow: 0,
    setWaiting: (connection, waits) => {
      if (waits) this.#waiting.add(connection);
      else this.#waiting.delete(connection);
    },
    countUnsent: (connection, bytes, hasTaken) => this.#budget.count(connection, bytes, hasTaken),
    connectionClosed: (connection) => {
      this.#connections.delete(connection);
      // First: a listener may throw.
      this.#endIfGone();
      this.#owner.disconnected(connection.peer, connection.fault ?? 'ended');
    },
    tick: () => this.#owner.tick?.(),
  } satisfies ConnectionOwner;

  constructor(owner: FrontOwner, limits: FrontLimits & ListenOptions, gate?: TlsGate) {
    this.#owner = owner;
    this.#limits = limits;
    this.#gate = gate;
    const budgetOwner: BudgetOwner<Connection> = {
      changed: (before, now) => sessions.changeUnsent(this.#service, before, now),
      drop: (connection) => {
        sessions.countOutputDrop(this.#service);
        connection.drop('output');
      },
    };
    this.#budget = new OutputBudget(budgetOwner, limits.outputBytesMax ?? Number.POSITIVE_INFINITY);
  }

  get connectionCount(): number {
    return this.#connections.size + this.#handshakes.size;
  }

  // ---- beginning ----

  async listen(listener: Listener): Promise<void> {
    const { ack } = listener;
    const server = createServer({ allowHalfOpen: true, noDelay: true, keepAlive: true }, (socket) =>
      this.#accept(socket, listener),
    );
    if (!(await listen(server, listener, portFor(listener, this.addresses), this.#limits))) return;
    if (this.#state !== 'new') {
      server.close();
      return;
    }
    this.#servers.push(server);
    server.on('error', (error) => this.#owner.failed(error));
    if ('path' in listener) {
      this.addresses.push({ path: listener.path, ack });
    } else {
      const { address, port } = server.address() as AddressInfo;
      this.addresses.push({ host: address, port, ack, ...(listener.tls !== undefined && { tls: true }) });
    }
  }

  // Its connections are of this thread, whether they are told or not.
  hearConnections(): void {}

  serve(service: number): void {
    if (this.#state !== 'new') return;
    this.#state = 'open';
    this.#service = service;
    ensureOutput();
    lookers.add(this.#looker);
    const { stallTimeoutMs, idleTimeoutMs } = this.#limits;
    const shortest = Math.min(stallTimeoutMs, idleTimeoutMs || SWEEP_MS);
    this.#sweepMs = Math.max(20, Math.min(SWEEP_MS, shortest / 4));
    this.#sweptAt = performance.now();
    this.#sweep = setInterval(() => this.#checkTimeouts(), this.#sweepMs);
    this.#sweep.unref();
  }

  // ---- while open ----

  #accept(socket: Socket, listener: Listener): void {
    // Connections that came while the last address was being bound find no service yet.
    if (this.#state !== 'open') {
      socket.destroy();
      return;
    }
    const verify = 'tls' in listener ? listener.tls : undefined;
    const [peer, own] = endsOf(socket, this.addresses);
    const open = (its: Socket): void => this.#open(its, peer, own, listener);
    if (this.connectionCount >= this.#limits.maxConnections) this.#refuse(socket, peer, verify !== undefined);
    else if (verify === undefined) open(socket);
    else this.#shakeHands(socket, peer, verify, open);
  }

  #refuse(socket: Socket, peer: string, isTls: boolean): void {
    sessions.countRejected(this.#service);
    this.#owner.disconnected(peer, 'rejected');
    socket.on('error', () => socket.destroy());
    // A client of TLS would read no words before its handshake.
    if (isTls) {
      socket.destroy();
      return;
    }
    socket.end(TOO_MANY, () => socket.destroySoon());
    socket.resume();
  }

  #shakeHands(socket: Socket, peer: string, verify: TlsVerify, open: (socket: Socket) => void): void {
    this.#handshakes.add(socket);
    socket.once('close', () => {
      this.#handshakes.delete(socket);
      this.#endIfGone();
    });
    this.#gate!.admit(socket, verify, {
      secured: (secured, isResumed) => {
        this.#handshakes.delete(socket);
        sessions.countHandshake(this.#service, isResumed ? Handshakes.resumed : Handshakes.begun);
        open(secured);
      },
      failed: (fault, reason) => {
        if (this.#state === 'closed') return;
        sessions.countHandshake(this.#service, Handshakes.failed);
        this.#owner.disconnected(peer, fault, reason);
      },
    });
  }

  #open(socket: Socket, peer: string, own: string, listener: Listener): void {
    const protocol = protocolCodeOf(listener);
    const session = sessions.openSession(this.#service, peer, own, AckCode[listener.ack], protocol);
    this.#connections.add(new Connection(this.#connectionOwner, socket, session, peer));
    this.#owner.connected(peer);
  }

  #checkTimeouts(): void {
    // While the thread was busy elsewhere it did not read from its clients: that time does not count against them.
    const now = performance.now();
    this.#connectionOwner.coarseNow += Math.min(now - this.#sweptAt, 2 * this.#sweepMs);
    this.#sweptAt = now;
    if (sessions.isServiceClosed(this.#service)) {
      this.#owner.cacheClosed();
      return;
    }
    const timeouts = { idleMs: this.#limits.idleTimeoutMs, stallMs: this.#limits.stallTimeoutMs };
    for (const connection of this.#connections) {
      connection.checkTimeouts(this.#connectionOwner.coarseNow, timeouts);
    }
  }

  // ---- ending ----

  close(timeoutMs: number): Promise<void> {
    if (this.#closing !== undefined || this.#state === 'closed') return this.#gone;
    this.#closing = this.#close(timeoutMs);
    return this.#closing;
  }

  async #close(timeoutMs: number): Promise<void> {
    this.#stopListening();
    for (const connection of [...this.#connections]) connection.shutDown();
    for (const socket of this.#handshakes) socket.destroy();
    const timer = setTimeout(() => {
      for (const connection of this.#connections) connection.destroy();
    }, timeoutMs);
    this.#endIfGone();
    await this.#gone;
    clearTimeout(timer);
  }

  destroy(): Promise<void> {
    this.#stopListening();
    for (const connection of this.#connections) connection.destroy();
    for (const socket of this.#handshakes) socket.destroy();
    // Sockets report their end later; the last one ends this.
    this.#endIfGone();
    return this.#gone;
  }

  #stopListening(): void {
    if (this.#state !== 'closed') this.#state = 'closing';
    for (const server of this.#servers.splice(0)) server.close();
  }

  #endIfGone(): void {
    if (this.#state !== 'closing' || this.connectionCount > 0) return;
    this.#state = 'closed';
    clearInterval(this.#sweep);
    lookers.delete(this.#looker);
    this.#onGone();
  }
}

// What `stats conns` calls both ends, in memcached's way.
function endsOf(socket: Socket, addresses: readonly ServerAddress[]): [peer: string, listener: string] {
  if (socket.remoteAddress === undefined) {
    const unix = addresses.find((address) => 'path' in address);
    return ['unix:', `unix:${unix?.path ?? ''}`];
  }
  const { remoteAddress, remotePort, localAddress, localPort } = socket;
  return [endName('tcp', remoteAddress, remotePort), endName('tcp', localAddress, localPort)];
}
