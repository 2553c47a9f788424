/**
 * A server that memcached clients talk to: the service over a cache, the front that brings it clients, and the end of
 * both.
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
import { CairnError, misplaced, reasonOf } from '../errors.ts';
import { type Looker, lookers } from '../native/wake.ts';
import type { NativeHandle } from '../native.ts';
import { type AckLevel, type Duration, type ServeOptions, timer } from '../options.ts';
import { version } from '../version.ts';
import { readAccounts } from './accounts.ts';
import { readCertificates, UnfitCertificates } from './certificates.ts';
import type { DisconnectReason, Front, FrontOwner, ServerAddress } from './front.ts';
import { probe } from './listen.ts';
import { NativeFront } from './native-front.ts';
import { LoginCode, ProtocolCode, Shutdown, sessions } from './native-session.ts';
import { NetFront } from './net-front.ts';
import { MEMORY_ONLY, resolveServeOptions, type ServedCache, type ServerSettings } from './settings.ts';
import { TlsGate } from './tls-gate.ts';
import { refusalOf, statsOfTls } from './tls-words.ts';
import { probeUdp, UdpPort } from './udp-port.ts';

/**
 * What `version` answers. Nothing stands behind the three numbers: libmemcached, and with it php, reads the first three
 * of the text, npm's memcached the last three of its first word. Our own version is in `stats cairn`.
 */
const MEMCACHED_VERSION = '1.6.45';
/** Its level does not matter for a test of addresses. */
const ANY_CACHE: ServedCache = { ack: 'stored', highestAck: 'stored', logMetrics: [] };
/** How long close() lets clients take their replies. */
const closeTimeout = timer(5_000);

/** The events of a server, with their arguments. */
export interface MemcachedServerEvents {
  /** Listening sockets and connections are closed, and the cache is released. */
  close: [];
  /** A listening socket failed; the others go on. */
  error: [error: Error];
  /** A client has connected, after the listener was added; `peer` is its name in `stats conns`. */
  connect: [peer: string];
  /** A connection is closed. */
  disconnect: [peer: string, reason: DisconnectReason];
  /**
   * A client speaks a protocol that is not served, or its handshake has failed (once for each kind), certificates that
   * a client wanted to be reloaded cannot be used, or the system has no room for new clients, so that they wait (once
   * for each such time); the message says what to do. Without a listener it becomes a warning of the process.
   */
  warning: [message: string];
  /** A client has ended the server with `shutdown`, which `enableShutdown` allows: it is closing. */
  shutdown: [graceful: boolean];
}

/** A server of a cache, made by `serve`, which resolves when it listens. */
export class MemcachedServer extends EventEmitter<MemcachedServerEvents> {
  readonly #settings: ServerSettings;
  readonly #logMetrics: readonly string[];
  readonly #handle: NativeHandle;
  readonly #front: Front;
  readonly #udp: UdpPort;
  /** undefined: no address has TLS. */
  readonly #gate: TlsGate | undefined;
  /** Until the service has them. */
  #accounts: Buffer | undefined;
  #service = -1;
  #closing: Promise<void> | undefined;
  #closed = false;
  readonly #warned = new Set<DisconnectReason>();
  readonly #owner: FrontOwner = {
    connected: (peer) => this.emit('connect', peer),
    disconnected: (peer, reason, detail) => {
      this.emit('disconnect', peer, reason);
      const text = foreignText(peer, reason, this.#settings, detail);
      if (text === undefined || this.#warned.has(reason)) return;
      this.#warned.add(reason);
      this.#warn(text);
    },
    failed: (error) => this.emit('error', error),
    noRoom: ({ code = '' }) => this.#warn(noRoomText(code)),
    cacheClosed: () => this.destroy(),
  };

  // This thread was woken: a client may have asked for other certificates, or for the end.
  readonly #looker: Looker = { look: () => this.#look() };

  private constructor(handle: NativeHandle, settings: ServerSettings, cache: ServedCache) {
    super();
    this.#handle = handle;
    this.#settings = settings;
    this.#logMetrics = cache.logMetrics;
    const { tls, login } = settings;
    this.#accounts = login && readAccounts(login);
    this.#gate = tls === undefined ? undefined : new TlsGate(tls, readCertificates(tls));
    const owner = { ...this.#owner, tick: cache.tick };
    this.#front = frontFor(owner, settings, this.#gate);
    this.#udp = new UdpPort(owner, settings.stallTimeoutMs);
    this.#hearConnections();
  }

  /**
   * Serves the cache of this handle. Resolves once every address is listened on.
   *
   * Rejects with `ERR_INVALID_ARGUMENT` for a wrong option, certificate or file of passwords, `ERR_CLOSED` if the cache
   * is closed, and `ERR_LISTEN`, with the system's error as `cause`, if an address cannot be listened on; nothing is
   * left behind then.
   * @internal
   */
  static async start(
    handle: NativeHandle,
    options?: ServeOptions,
    cache: ServedCache = MEMORY_ONLY,
  ): Promise<MemcachedServer> {
    const server = new MemcachedServer(handle, resolveServeOptions(options, cache), cache);
    try {
      for (const listener of server.#settings.listeners) await server.#front.listen(listener);
      for (const listener of server.#settings.udpListeners) await server.#udp.listen(listener);
      server.#begin();
    } catch (error) {
      server.destroy();
      throw error;
    }
    return server;
  }

  /**
   * Resolves if `serve` could listen now with these options; otherwise rejects as `serve` does, with `ERR_LISTEN`, or
   * with `ERR_INVALID_ARGUMENT` for certificates or passwords that cannot be used. Call it before a long start, such as
   * opening a cache with a large log, to learn early that an address is taken. It listens on each address for a moment;
   * a client that connects then is disconnected.
   */
  static async probe(options?: ServeOptions): Promise<void> {
    const settings = resolveServeOptions(options, ANY_CACHE);
    if (settings.tls !== undefined) readCertificates(settings.tls);
    if (settings.login !== undefined) readAccounts(settings.login);
    await probe(settings.listeners, settings);
    await probeUdp(settings.udpListeners);
  }

  /** The addresses that it listens on; for port 0, with the port that the system chose. */
  get addresses(): readonly ServerAddress[] {
    return [...this.#front.addresses, ...this.#udp.addresses];
  }

  /** What replies wait for, at addresses without their own level. */
  get ack(): AckLevel {
    return this.#settings.ack;
  }

  /** The number of open connections. */
  get connectionCount(): number {
    return this.#front.connectionCount;
  }

  /**
   * Stops listening, answers complete requests, and closes the connections. Connections that do not read their replies
   * within `timeout` (default 5 s) are destroyed. Idempotent.
   */
  close(options: { timeout?: Duration } = {}): Promise<void> {
    if (this.#closing !== undefined) return this.#closing;
    let timeoutMs: number;
    try {
      timeoutMs = closeTimeout(options.timeout, 'timeout', () => 0);
    } catch (error) {
      return Promise.reject(error); // And nothing is closed.
    }
    this.#closing = Promise.all([this.#front.close(timeoutMs), this.#udp.close(timeoutMs)]).then(() => this.#end());
    return this.#closing;
  }

  /** Stops at once and destroys all connections. Idempotent. */
  destroy(): void {
    if (this.#closed) return;
    this.#udp.destroy();
    void this.#front.destroy().then(() => this.#end());
  }

  /**
   * Reads the files of the option `tls` again; handshakes that begin from now on use them, open connections go on.
   * Throws `ERR_INVALID_ARGUMENT` if they cannot be used, and the former ones stay in use. SIGHUP does the same to
   * `cairn serve`, and the command `refresh_certs` to any server of TLS.
   */
  reloadCertificates(): void {
    const { tls } = this.#settings;
    if (tls === undefined) throw misplaced('Expected a server with the option tls, got one without');
    this.#gate!.renew(readCertificates(tls));
    if (this.#service >= 0) sessions.countRefresh(this.#service);
  }

  /**
   * Reads the file of the option `authFile` or `saslFile` again; logins from now on are held against it, and clients
   * that have logged in stay so. Throws `ERR_INVALID_ARGUMENT` if it cannot be used, and the former names and passwords
   * stay in use. SIGHUP does the same to `cairn serve`.
   */
  reloadPasswords(): void {
    const { login } = this.#settings;
    if (login === undefined) throw misplaced('Expected a server with the option authFile or saslFile, got one without');
    const accounts = readAccounts(login);
    if (this.#service >= 0) sessions.setAccounts(this.#service, accounts);
    else this.#accounts = accounts;
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }

  #begin(): void {
    const settings = this.#settings;
    const tcp = this.#front.addresses.filter((address) => 'port' in address);
    const [udp] = this.#udp.addresses;
    const path = this.addresses.find((address) => 'path' in address);
    const service = sessions.startService(this.#handle, {
      version: MEMCACHED_VERSION,
      cairnVersion: version,
      itemBytesMax: settings.itemBytesMax,
      outputBytesMax: settings.outputBytesMax,
      protocol: ProtocolCode[settings.protocol],
      testCommands: Number(settings.testCommands),
      disableFlushAll: Number(settings.disableFlushAll),
      disableDumping: Number(settings.disableDumping),
      disableWatch: Number(settings.disableWatch),
      hideKeys: Number(settings.hideKeys),
      slowRequestMs: settings.slowRequestMs,
      largeRequestBytes: settings.largeRequestBytes,
      trackSizes: Number(settings.trackSizes),
      prefixDelimiter: settings.prefixDelimiter,
      enableShutdown: Number(settings.enableShutdown),
      logMetrics: this.#logMetrics.map(wordsOf).join(','),
      processId: process.pid,
      connectionsMax: settings.maxConnections,
      tcpPort: tcp[0]?.port ?? 0,
      udpPort: udp !== undefined && 'port' in udp ? udp.port : 0,
      threadCount: settings.threads,
      backlog: settings.backlog,
      idleTimeoutSeconds: Math.ceil(settings.idleTimeoutMs / 1000),
      verbosity: settings.verbosity,
      interfaces: tcp.map((address) => address.host).join(','),
      socketPath: path?.path ?? '',
      login: loginCodeOf(settings),
      authFile: settings.login?.file ?? '',
      tls: settings.tls && statsOfTls(settings.tls),
    });
    if (service === undefined) throw new CairnError('ERR_CLOSED', 'Expected an open cache to serve, got a closed one');
    this.#service = service;
    if (this.#accounts !== undefined) sessions.setAccounts(service, this.#accounts);
    this.#accounts = undefined;
    if (this.#gate !== undefined || settings.enableShutdown) lookers.add(this.#looker);
    this.#front.serve(service);
    this.#udp.serve(service);
  }

  #look(): void {
    if (this.#service < 0) return;
    if (this.#gate !== undefined && sessions.takeRefresh(this.#service)) this.#answerRefresh();
    const asked = sessions.takeShutdown(this.#service);
    if (asked === Shutdown.none || this.#closing !== undefined) return;
    void this.close();
    // What a listener throws is an uncaught error, and keeps no other looker from looking.
    queueMicrotask(() => this.emit('shutdown', asked === Shutdown.graceful));
  }

  #answerRefresh(): void {
    let answer = 'OK';
    try {
      this.reloadCertificates();
    } catch (error) {
      const part = error instanceof UnfitCertificates ? error.part : 'cert';
      answer = refusalOf(part, this.#settings.tls!);
      this.#warn(`The certificates stay as they were: ${reasonOf(error)}`);
    }
    sessions.answerRefresh(this.#service, answer);
  }

  #warn(text: string): void {
    if (!this.emit('warning', text)) process.emitWarning(text, 'CairnWarning');
  }

  // Connections are told only while someone listens for them.
  #hearConnections(): void {
    const look = (event: string | symbol, more: number): void => {
      if (event !== 'connect' && event !== 'disconnect') return;
      const listeners = this.listenerCount('connect') + this.listenerCount('disconnect');
      this.#front.hearConnections(listeners + more > 0);
    };
    // The first is emitted before its listener is there.
    const emitter = this as unknown as EventEmitter;
    emitter.on('newListener', (event) => look(event, 1));
    emitter.on('removeListener', (event) => look(event, 0));
  }

  /** @internal */
  override removeAllListeners(event?: keyof MemcachedServerEvents): this {
    super.removeAllListeners(event);
    if (event === undefined) this.#hearConnections();
    return this;
  }

  #end(): void {
    if (this.#closed) return;
    this.#closed = true;
    lookers.delete(this.#looker);
    if (this.#service >= 0) sessions.endService(this.#service);
    this.#service = -1;
    this.emit('close');
  }
}

function loginCodeOf({ login }: ServerSettings): number {
  if (login === undefined) return LoginCode.none;
  return login.option === 'authFile' ? LoginCode.text : LoginCode.sasl;
}

function frontFor(owner: FrontOwner, settings: ServerSettings, gate: TlsGate | undefined): Front {
  if (settings.front === 'node') return new NetFront(owner, settings, gate);
  return new NativeFront(owner, { ...settings, loops: settings.threads });
}

/** What is to be done about a client that cannot be served; undefined: its end is no such thing. */
function foreignText(
  peer: string,
  reason: DisconnectReason,
  { login }: ServerSettings,
  detail = '',
): string | undefined {
  switch (reason) {
    case 'tls':
      return `${peer} speaks TLS, which is not served there, and was disconnected. Turn TLS off in that client, or give the server certificates (-Z, the option tls)`;
    case 'binary':
      return `${peer} speaks memcached's binary protocol, which is not served, and was disconnected. Set that client to the text protocol: memcached.sess_binary_protocol=Off and OPT_BINARY_PROTOCOL => false in PHP, binary=False in pylibmc, Protocol.TEXT in spymemcached; or ${login === undefined ? 'serve both protocols (-B auto)' : 'have clients log in to the binary protocol (-S, saslFile)'}`;
    case 'plaintext':
      return `${peer} does not speak TLS, which that address has, and was disconnected. Turn TLS on in that client, or listen on an address without it too (-l notls:ADDRESS)`;
    case 'handshake':
      return `${peer} was disconnected before it was served: ${detail}. Further handshakes that fail are counted (ssl_handshake_errors in stats)`;
    default:
      return undefined;
  }
}

function noRoomText(code: string): string {
  const advice = 'New ones wait until others leave, those connected are served';
  if (code === 'EMFILE') {
    return `This process may open no more files (${code}), so no more clients. ${advice}. Raise its limit (ulimit -n, LimitNOFILE=), or lower that of connections`;
  }
  return `The system has no room for more clients (${code}). ${advice}`;
}

/** `syncLastMs` is `sync_last_ms` in `stats`. */
function wordsOf(name: string): string {
  return name.replace(/[A-Z]/g, (letter) => `_${letter.toLowerCase()}`);
}
