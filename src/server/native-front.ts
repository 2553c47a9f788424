/**
 * The front of threads of the addon: an acceptor and loops over epoll, without JavaScript between a client and its
 * cache. This thread makes it listen and end, and hears what happens (native/addon/front_binding.h).
 */
import { lookup } from 'node:dns/promises';
import { getSystemErrorName } from 'node:util';
import { CairnError } from '../errors.ts';
import { THREADS_MAX } from '../limits.ts';
import { holdAwake, type Looker, lookers } from '../native/wake.ts';
import { native } from '../native.ts';
import type { DisconnectReason, Front, FrontLimits, FrontOwner, ServerAddress } from './front.ts';
import { isMissing, type ListenOptions, listenError, portFor, removeStaleSocket } from './listen.ts';
import type { Listener } from './listeners.ts';
import { AckCode, protocolCodeOf, sessions } from './native-session.ts';

interface NativeAddress {
  path?: string;
  pathMode?: number;
  host?: string;
  port?: number;
  backlog: number;
  protocol?: number | undefined;
}

interface FrontExports {
  /** That this process may use. */
  processorCount(): number;
  makeFront(options: {
    connectionsMax: number;
    idleTimeoutMs: number;
    stallTimeoutMs: number;
    outputBytesMax: number | undefined;
    loops: number;
  }): number;
  listenFront(front: number, address: NativeAddress, ack: number): number | readonly [host: string, port: number];
  serveFront(front: number, service: number): number;
  closeFront(front: number, atOnce: boolean): void;
  lookAtFront(front: number, events: unknown[]): boolean;
  hearConnectionsOfFront(front: number, yes: boolean): void;
  connectionsOfFront(front: number): number;
  endFront(front: number): void;
}

const fronts = native as unknown as Partial<FrontExports>;

/** In the order of `Ending` in native/server/front_events.h. */
const REASONS: readonly DisconnectReason[] = ['ended', 'stalled', 'idle', 'rejected', 'binary', 'tls', 'output'];
/** In the order of `FrontEvent::Kind`. */
const CONNECTED = 0;
const DISCONNECTED = 1;
const FAILED = 2;
const NO_ROOM = 3;

/** How often it looks whether the cache has been closed. */
const LOOK_MS = 100;

export interface NativeFrontOptions extends FrontLimits, ListenOptions {
  /** Threads that serve clients, beside the one that accepts them. */
  readonly loops: number;
}

/** Whether this platform has it. */
export function hasNativeFront(): boolean {
  return fronts.makeFront !== undefined;
}

/** Processors that this process may use, by the limits of its container too; at most {@link THREADS_MAX}. */
export function processorCount(): number {
  return Math.min(fronts.processorCount?.() ?? 1, THREADS_MAX);
}

export class NativeFront implements Front {
  readonly addresses: ServerAddress[] = [];
  readonly #owner: FrontOwner;
  readonly #options: NativeFrontOptions;
  readonly #native = fronts as FrontExports;
  #state: 'new' | 'open' | 'closing' | 'closed' = 'new';
  readonly #front: number;
  #service = -1;
  #timer: NodeJS.Timeout | undefined;
  #holdsAwake = false;
  readonly #looker: Looker = { look: () => this.#look() };
  #onGone: () => void = () => {};
  readonly #gone = new Promise<void>((resolve) => {
    this.#onGone = resolve;
  });

  constructor(owner: FrontOwner, options: NativeFrontOptions) {
    this.#owner = owner;
    this.#options = options;
    const { maxConnections, ...others } = options;
    this.#front = this.#native.makeFront({ connectionsMax: maxConnections, outputBytesMax: undefined, ...others });
    lookers.add(this.#looker);
  }

  get connectionCount(): number {
    return this.#state === 'closed' ? 0 : this.#native.connectionsOfFront(this.#front);
  }

  async listen(listener: Listener): Promise<void> {
    const { ack } = listener;
    const { backlog, pathMode } = this.#options;
    const address: NativeAddress = { backlog, protocol: protocolCodeOf(listener) };
    if ('path' in listener) {
      await removeStaleSocket(listener.path);
      Object.assign(address, { path: listener.path, pathMode });
    } else {
      const host = await addressOf(listener.host).catch((cause) => {
        throw listenError(listener, cause);
      });
      Object.assign(address, { host, port: portFor(listener, this.addresses) });
    }
    if (this.#state !== 'new') return;
    const result = this.#native.listenFront(this.#front, address, AckCode[ack]);
    if (typeof result === 'number') {
      const cause = Object.assign(
        systemError(result),
        { syscall: 'listen' },
        'path' in listener ? { address: listener.path } : { address: address.host, port: address.port },
      );
      if ('host' in listener && listener.optional && isMissing(cause)) return;
      throw listenError(listener, cause);
    }
    this.#holdAwake(true);
    const [host, port] = result;
    this.addresses.push('path' in listener ? { path: listener.path, ack } : { host, port, ack });
  }

  hearConnections(yes: boolean): void {
    if (this.#state !== 'closed') this.#native.hearConnectionsOfFront(this.#front, yes);
  }

  serve(service: number): void {
    if (this.#state !== 'new') return;
    const error = this.#native.serveFront(this.#front, service);
    if (error !== 0) {
      const cause = systemError(error);
      throw new CairnError('ERR_LISTEN', `Cannot start the threads of the server: ${cause.message}`, { cause });
    }
    this.#state = 'open';
    this.#service = service;
    this.#timer = setInterval(() => {
      if (sessions.isServiceClosed(this.#service)) this.#owner.cacheClosed();
    }, LOOK_MS);
    this.#timer.unref();
  }

  async close(timeoutMs: number): Promise<void> {
    if (this.#state === 'closed') return;
    if (this.#state === 'closing') return this.#gone;
    this.#stop(false);
    const timer = setTimeout(() => this.#stop(true), timeoutMs);
    await this.#gone;
    clearTimeout(timer);
  }

  destroy(): Promise<void> {
    if (this.#state !== 'closed') this.#stop(true);
    return this.#gone;
  }

  #stop(atOnce: boolean): void {
    if (this.#state === 'closed') return;
    this.#state = 'closing';
    this.#native.closeFront(this.#front, atOnce);
  }

  // This thread was woken: by the front, or for another part.
  #look(): void {
    if (this.#state === 'closed') return;
    const events: unknown[] = [];
    const isGone = this.#native.lookAtFront(this.#front, events);
    if (isGone) this.#end();
    for (let i = 0; i < events.length; i += 3) {
      try {
        this.#tell(...(events.slice(i, i + 3) as [number, string, number]));
      } catch (error) {
        // What a listener throws is an uncaught error, and keeps no other from being told.
        queueMicrotask(() => {
          throw error;
        });
      }
    }
    if (isGone) this.#onGone();
  }

  #tell(kind: number, peer: string, detail: number): void {
    if (kind === CONNECTED) this.#owner.connected(peer);
    else if (kind === DISCONNECTED) this.#owner.disconnected(peer, REASONS[detail] ?? 'ended');
    else if (kind === FAILED) this.#owner.failed(systemError(detail));
    else if (kind === NO_ROOM) this.#owner.noRoom(systemError(detail));
  }

  #end(): void {
    this.#state = 'closed';
    clearInterval(this.#timer);
    lookers.delete(this.#looker);
    this.#native.endFront(this.#front);
    this.#holdAwake(false);
  }

  // The process lives as long as it listens.
  #holdAwake(yes: boolean): void {
    if (this.#holdsAwake === yes) return;
    this.#holdsAwake = yes;
    holdAwake(yes);
  }
}

async function addressOf(host: string): Promise<string> {
  return (await lookup(host)).address;
}

function systemError(number: number): NodeJS.ErrnoException {
  const code = getSystemErrorName(-number);
  return Object.assign(new Error(code), { code, errno: -number });
}
