/**
 * A server that memcached clients talk to, over sockets of node:net. It works anywhere Node does; it has one thread,
 * that of whoever started it.
 *
 * | state    | new connections      | open connections                      | close()          | destroy() |
 * |----------|----------------------|---------------------------------------|------------------|-----------|
 * | open     | served, up to a limit | served                                | closing          | closed    |
 * | closing  | refused              | answered what they sent, then closed  | the same promise | closed    |
 * | closed   | refused              | none                                  | resolves         | nothing   |
 *
 * A server holds its cache. When the cache is closed, the server destroys itself.
 */
import { EventEmitter } from 'node:events';
import { chmodSync, existsSync, lstatSync, unlinkSync } from 'node:fs';
import { type AddressInfo, connect, createServer, type Server, type Socket } from 'node:net';
import { dirname } from 'node:path';
import { performance } from 'node:perf_hooks';
import { isMainThread } from 'node:worker_threads';
import { CairnError } from '../errors.ts';
import { type Looker, lookers } from '../native/wake.ts';
import type { NativeHandle } from '../native.ts';
import type { AckLevel, Duration } from '../options.ts';
import { Connection, type ConnectionOwner } from './connection.ts';
import { ensureOutput, sessions } from './native-session.ts';
import {
  checkTimeout,
  type Listener,
  MEMORY_ONLY,
  resolveServeOptions,
  type ServedCache,
  type ServeOptions,
  type ServerSettings,
} from './settings.ts';
import { version } from './version.ts';

/** Where a server listens, and what replies wait for there. */
export type ServerAddress =
  | { readonly host: string; readonly port: number; readonly ack: AckLevel }
  | { readonly path: string; readonly ack: AckLevel };

/**
 * What `version` answers. Nothing stands behind the three numbers: libmemcached, and with it php, reads the first three
 * of the text, npm's memcached the last three of its first word. Our own version is in `stats cairn`.
 */
const MEMCACHED_VERSION = '1.6.45';
/** Its level does not matter to whoever only looks at addresses. */
const ANY_CACHE: ServedCache = { ack: 'logged', logMetrics: [] };
const TOO_MANY = 'ERROR Too many open connections\r\n';
/** How long close() lets clients take their replies. */
const CLOSE_TIMEOUT_MS = 5_000;
/** How often timeouts are looked at, at most. */
const SWEEP_MS = 1_000;

/**
 * Why a connection was closed: by its client, at `quit`, or when the server closed; because it took no replies or did
 * not go on with a large value; because it sent nothing; because there were too many; because it speaks memcached's
 * binary protocol, or TLS, which are not served.
 */
export type DisconnectReason = 'ended' | 'stalled' | 'idle' | 'rejected' | 'binary' | 'tls';

/** What a server emits, with what it tells of it. */
export interface MemcachedServerEvents {
  /** Listening sockets are closed, connections are gone, the cache is let go of. */
  close: [];
  /** A listening socket failed; the others go on. */
  error: [error: Error];
  /** A client has come; `peer` is what `stats conns` calls it. */
  connect: [peer: string];
  /** A connection is closed. */
  disconnect: [peer: string, reason: DisconnectReason];
  /**
   * A client is set up for a protocol that is not served, and what to do about it; once for each of them. Without a
   * listener it becomes a warning of the process.
   */
  warning: [message: string];
}

/** A server of a cache: made by `serve`, and listening when that resolves. */
export class MemcachedServer extends EventEmitter<MemcachedServerEvents> {
  /** Where it listens; the port is the one that was found where 0 was asked for. */
  readonly addresses: readonly ServerAddress[] = [];
  readonly #settings: ServerSettings;
  readonly #logMetrics: readonly string[];
  readonly #handle: NativeHandle;
  #service = -1;
  #servers: Server[] = [];
  readonly #connections = new Set<Connection>();
  readonly #owner = {
    coarseNow: 0,
    setWaiting: (connection, waits) => {
      if (waits) this.#waiting.add(connection);
      else this.#waiting.delete(connection);
    },
    connectionClosed: (connection) => {
      this.#connections.delete(connection);
      this.emit('disconnect', connection.peer, connection.fault ?? 'ended');
      this.#warnOf(connection);
      if (this.#connections.size === 0) this.#onConnectionsGone?.();
    },
  } satisfies ConnectionOwner;
  // Somebody woke this thread: a commit, a ticket, or something that is none of ours.
  readonly #looker: Looker = {
    look: () => {
      for (const connection of [...this.#waiting]) connection.proceed();
    },
  };
  readonly #waiting = new Set<Connection>();
  #sweep: NodeJS.Timeout | undefined;
  #sweepMs = SWEEP_MS;
  #sweptAt = 0;
  #closing: Promise<void> | undefined;
  #closed = false;
  readonly #warned = new Set<'binary' | 'tls'>();
  #onConnectionsGone: (() => void) | undefined;

  private constructor(handle: NativeHandle, settings: ServerSettings, logMetrics: readonly string[]) {
    super();
    this.#handle = handle;
    this.#settings = settings;
    this.#logMetrics = logMetrics;
  }

  /**
   * Serves the cache of this handle. Resolves once every address is listened on.
   *
   * Rejects with `ERR_INVALID_ARGUMENT` for a wrong option, `ERR_CLOSED` if the cache is closed, and `ERR_LISTEN`, with
   * the system's error as `cause`, if an address cannot be listened on; nothing is left behind then.
   * @internal
   */
  static async start(
    handle: NativeHandle,
    options?: ServeOptions,
    cache: ServedCache = MEMORY_ONLY,
  ): Promise<MemcachedServer> {
    const server = new MemcachedServer(handle, resolveServeOptions(options, cache), cache.logMetrics);
    try {
      for (const listener of server.#settings.listeners) await server.#listen(listener);
      server.#begin();
    } catch (error) {
      server.destroy();
      throw error;
    }
    return server;
  }

  /**
   * Resolves if `serve` could listen now where these options say, and rejects as it would, with `ERR_LISTEN`. For
   * whoever has something long to do first, such as opening a cache with a large log: an address that is taken is known
   * before. Each address is listened on for a moment; whoever connects then is turned away.
   */
  static async probe(options?: ServeOptions): Promise<void> {
    const settings = resolveServeOptions(options, ANY_CACHE);
    const servers: Server[] = [];
    try {
      for (const listener of settings.listeners) {
        const server = createServer((socket) => socket.destroy());
        if (await listening(server, listener, 'path' in listener ? 0 : listener.port, settings)) servers.push(server);
      }
    } finally {
      await Promise.all(servers.map((server) => new Promise((resolve) => server.close(resolve))));
    }
  }

  /** What its replies wait for, but at addresses that have a level of their own. */
  get ack(): AckLevel {
    return this.#settings.ack;
  }

  /** Connections that are open now. */
  get connectionCount(): number {
    return this.#connections.size;
  }

  /**
   * Stops listening, answers what clients have sent whole, and closes their connections. Those that do not take their
   * replies within `timeout` (default 5 s) are destroyed. Idempotent.
   */
  close(options: { timeout?: Duration } = {}): Promise<void> {
    if (this.#closing !== undefined) return this.#closing;
    let timeoutMs: number;
    try {
      timeoutMs = checkTimeout('timeout', options.timeout, 0, CLOSE_TIMEOUT_MS);
    } catch (error) {
      return Promise.reject(error); // And nothing is closed.
    }
    this.#closing = this.#close(timeoutMs);
    return this.#closing;
  }

  /** Stops at once: connections are destroyed, whatever they wait for. Idempotent. */
  destroy(): void {
    if (this.#closed) return;
    for (const server of this.#servers) server.close();
    for (const connection of this.#connections) connection.destroy();
    // Sockets report their end later; what they belong to is taken apart when the last one has.
    this.#whenConnectionsAreGone(() => this.#end());
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }

  // ---- beginning ----

  async #listen(listener: Listener): Promise<void> {
    const server = createServer({ allowHalfOpen: true, noDelay: true }, (socket) => this.#accept(socket, listener.ack));
    if (!(await listening(server, listener, this.#portFor(listener), this.#settings))) return;
    this.#servers.push(server);
    server.on('error', (error) => this.emit('error', error));
    const addresses = this.addresses as ServerAddress[];
    const { ack } = listener;
    if ('path' in listener) {
      addresses.push({ path: listener.path, ack });
    } else {
      const { address, port } = server.address() as AddressInfo;
      addresses.push({ host: address, port, ack });
    }
  }

  // Both loopback addresses get one port, also when any free one will do.
  #portFor(listener: Listener): number {
    if ('path' in listener) return 0;
    if (listener.port !== 0 || !listener.optional) return listener.port;
    const first = this.addresses[0];
    return first !== undefined && 'port' in first ? first.port : 0;
  }

  #begin(): void {
    const settings = this.#settings;
    const tcp = this.addresses.filter((address) => 'port' in address);
    const path = this.addresses.find((address) => 'path' in address);
    const service = sessions.startService(this.#handle, {
      version: MEMCACHED_VERSION,
      cairnVersion: version,
      itemBytesMax: settings.itemBytesMax,
      testCommands: settings.testCommands ? 1 : 0,
      logMetrics: this.#logMetrics.map(wordsOf).join(','),
      processId: process.pid,
      connectionsMax: settings.maxConnections,
      tcpPort: tcp[0]?.port ?? 0,
      threadCount: settings.threads,
      backlog: settings.backlog,
      idleTimeoutSeconds: Math.ceil(settings.idleTimeoutMs / 1000),
      verbosity: settings.verbosity,
      interfaces: tcp.map((address) => address.host).join(','),
      socketPath: path?.path ?? '',
    });
    if (service === undefined) throw new CairnError('ERR_CLOSED', 'Expected an open cache to serve, got a closed one');
    this.#service = service;
    ensureOutput();
    lookers.add(this.#looker);
    const shortest = Math.min(settings.stallTimeoutMs, settings.idleTimeoutMs || SWEEP_MS);
    this.#sweepMs = Math.max(20, Math.min(SWEEP_MS, shortest / 4));
    this.#sweptAt = performance.now();
    this.#sweep = setInterval(() => this.#checkTimeouts(), this.#sweepMs);
    this.#sweep.unref();
  }

  #accept(socket: Socket, ack: AckLevel): void {
    // Connections that came while the last address was still being bound find no service yet.
    if (this.#service < 0 || this.#closing !== undefined || this.#closed) {
      socket.destroy();
      return;
    }
    const [peer, listener] = endsOf(socket, this.addresses);
    if (this.#connections.size >= this.#settings.maxConnections) {
      sessions.countRejected(this.#service);
      this.emit('disconnect', peer, 'rejected');
      socket.on('error', () => socket.destroy());
      socket.end(TOO_MANY, () => socket.destroySoon());
      socket.resume();
      return;
    }
    const session = sessions.openSession(this.#service, peer, listener, ack === 'logged');
    this.#connections.add(new Connection(this.#owner, socket, session, peer));
    this.emit('connect', peer);
  }

  // ---- while open ----

  #checkTimeouts(): void {
    // A thread that was busy elsewhere has not heard its clients: that time does not count against them.
    const now = performance.now();
    this.#owner.coarseNow += Math.min(now - this.#sweptAt, 2 * this.#sweepMs);
    this.#sweptAt = now;
    if (sessions.isServiceClosed(this.#service)) {
      this.destroy();
      return;
    }
    const timeouts = { idleMs: this.#settings.idleTimeoutMs, stallMs: this.#settings.stallTimeoutMs };
    for (const connection of this.#connections) {
      connection.checkTimeouts(this.#owner.coarseNow, timeouts);
      if (connection.fault === 'idle') sessions.countIdleKick(this.#service);
    }
  }

  #warnOf(connection: Connection): void {
    const { fault, peer } = connection;
    if ((fault !== 'binary' && fault !== 'tls') || this.#warned.has(fault)) return;
    this.#warned.add(fault);
    if (!this.emit('warning', foreignText(peer, fault))) process.emitWarning(foreignText(peer, fault), 'CairnWarning');
  }

  // ---- ending ----

  async #close(timeoutMs: number): Promise<void> {
    if (this.#closed) return;
    for (const server of this.#servers) server.close();
    for (const connection of [...this.#connections]) connection.shutDown();
    const timer = setTimeout(() => {
      for (const connection of this.#connections) connection.destroy();
    }, timeoutMs);
    await new Promise<void>((resolve) => this.#whenConnectionsAreGone(resolve));
    clearTimeout(timer);
    this.#end();
  }

  #whenConnectionsAreGone(then: () => void): void {
    if (this.#connections.size === 0) {
      then();
      return;
    }
    const before = this.#onConnectionsGone;
    this.#onConnectionsGone = () => {
      before?.();
      then();
    };
  }

  #end(): void {
    if (this.#closed) return;
    this.#closed = true;
    clearInterval(this.#sweep);
    lookers.delete(this.#looker);
    if (this.#service >= 0) sessions.endService(this.#service);
    this.#service = -1;
    this.emit('close');
  }
}

/** What is to be done about a client that does not speak the protocol. */
function foreignText(peer: string, reason: 'binary' | 'tls'): string {
  const wrong = reason === 'tls' ? 'speaks TLS' : "speaks memcached's binary protocol";
  const advice =
    reason === 'tls'
      ? 'Turn TLS off in that client'
      : 'Set that client to the text protocol: memcached.sess_binary_protocol=Off and OPT_BINARY_PROTOCOL => false in PHP, binary=False in pylibmc, Protocol.TEXT in spymemcached; memjs has no text protocol';
  return `${peer} ${wrong}, which is not served, and was disconnected. ${advice}`;
}

/** `syncLastMs` is `sync_last_ms` in `stats`. */
function wordsOf(name: string): string {
  return name.replace(/[A-Z]/g, (letter) => `_${letter.toLowerCase()}`);
}

// False: the machine does not have that address, and need not. Rejects with `ERR_LISTEN`.
async function listening(server: Server, listener: Listener, port: number, settings: ServerSettings): Promise<boolean> {
  if ('path' in listener) await removeStaleSocket(listener.path);
  // On Windows the path names a pipe, which has no such permissions.
  const hasMode = 'path' in listener && process.platform !== 'win32';
  try {
    await new Promise<void>((resolve, reject) => {
      server.once('error', reject);
      const where = 'path' in listener ? { path: listener.path } : { host: listener.host, port, ipv6Only: true };
      const listen = () => server.listen({ ...where, backlog: settings.backlog, exclusive: true }, resolve);
      if (hasMode && isMainThread) withMode(settings.pathMode, listen);
      else listen();
    });
    server.removeAllListeners('error');
    if (hasMode && !isMainThread) chmodSync(listener.path, settings.pathMode);
    return true;
  } catch (cause) {
    server.close();
    const { code } = cause as NodeJS.ErrnoException;
    if ('host' in listener && listener.optional && (code === 'EADDRNOTAVAIL' || code === 'EAFNOSUPPORT')) return false;
    throw listenError(listener, cause as NodeJS.ErrnoException);
  }
}

// The socket file, which is made while listen() runs, has its mode from the start: between listening and a chmod,
// others could connect. The mask is the process's, and other threads than the main one may not set it: they are left
// the chmod.
function withMode(mode: number, listen: () => void): void {
  const before = process.umask(~mode & 0o777);
  try {
    listen();
  } finally {
    process.umask(before);
  }
}

function listenError(listener: Listener, cause: NodeJS.ErrnoException): CairnError {
  const where = 'path' in listener ? listener.path : `${listener.host}:${listener.port}`;
  const why: Record<string, string> = {
    EADDRINUSE: 'it is in use',
    EACCES: 'it is not permitted',
    EADDRNOTAVAIL: 'this machine does not have that address',
    ENOTFOUND: 'there is no such name',
    ENOENT: 'its folder does not exist',
    ENOTDIR: 'a part of its path is no folder',
  };
  // Of a folder that is not there, libuv says EACCES.
  const isFile = 'path' in listener && process.platform !== 'win32';
  const isAstray = isFile && !existsSync(dirname(listener.path));
  const inTheWay = isFile && cause.code === 'EADDRINUSE' ? whatIsAt(listener.path) : undefined;
  const reason = inTheWay ?? (isAstray ? why['ENOENT'] : why[cause.code ?? '']) ?? cause.message;
  return new CairnError('ERR_LISTEN', `Cannot listen on ${where}: ${reason}`, { cause });
}

// What keeps a socket from being made there; undefined: a socket, on which somebody listens.
function whatIsAt(path: string): string | undefined {
  const stats = lstatSync(path, { throwIfNoEntry: false });
  if (stats === undefined || stats.isSocket()) return undefined;
  if (stats.isDirectory()) return 'a directory is in the way';
  if (!stats.isSymbolicLink()) return 'a file that is no socket is in the way';
  return existsSync(path) ? 'a symbolic link is in the way' : 'a symbolic link to nothing is in the way';
}

// A socket file that nobody listens on is what an earlier process left. Anything else is not ours to remove.
async function removeStaleSocket(path: string): Promise<void> {
  if (process.platform === 'win32') return;
  if (lstatSync(path, { throwIfNoEntry: false })?.isSocket() !== true) return;
  const dead = await new Promise<boolean>((resolve) => {
    const probe = connect({ path }, () => {
      probe.destroy();
      resolve(false);
    });
    probe.on('error', (error: NodeJS.ErrnoException) => resolve(error.code === 'ECONNREFUSED'));
  });
  if (dead) unlinkSync(path);
}

// What `stats conns` calls both ends, in memcached's way.
function endsOf(socket: Socket, addresses: readonly ServerAddress[]): [peer: string, listener: string] {
  if (socket.remoteAddress === undefined) {
    const unix = addresses.find((address) => 'path' in address);
    return ['unix:', `unix:${unix?.path ?? ''}`];
  }
  const end = (address = '', port = 0) => `tcp${address.includes(':') ? `6:[${address}]` : `:${address}`}:${port}`;
  return [end(socket.remoteAddress, socket.remotePort), end(socket.localAddress, socket.localPort)];
}
