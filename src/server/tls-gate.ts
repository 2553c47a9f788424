/**
 * The gate of TLS: a socket goes in, and comes out encrypted when its handshake is done. One gate serves all addresses
 * of a server in its thread, also those where clients have other things to show.
 *
 * A socket that fails is closed, and told once. The time of a handshake is limited (`handshakeTimeout`), their
 * number by the limit of connections, which counts them.
 *
 * node:tls does the handshake: a tls.Server that listens nowhere is given the sockets, which is how it verifies
 * clients, times handshakes, and takes other certificates while sockets are open.
 */
import { constants } from 'node:crypto';
import type { Socket } from 'node:net';
import { createServer, type Server, type TLSSocket } from 'node:tls';
import type { TlsSettings, TlsVerify } from '../options.ts';
import type { TlsTerms } from './certificates.ts';

/**
 * Why a handshake failed. `'plaintext'`: the client does not speak TLS. `'handshake'`: they did not agree, or it took
 * too long. `'ended'`: the client has left before anything was wrong.
 */
export type HandshakeFault = 'plaintext' | 'handshake' | 'ended';

/** What is told of a socket that was let in. Exactly one of the two, once. */
export interface Handshake {
  /** It is done. `isResumed`: the client has continued an earlier session. */
  secured(socket: TLSSocket, isResumed: boolean): void;
  /** The socket is closed. `reason`: in words, for the log. */
  failed(fault: HandshakeFault, reason: string): void;
}

/** What OpenSSL calls bytes that are no record of TLS. */
const NO_RECORD =
  /^ERR_SSL_(HTTP_REQUEST|HTTPS_PROXY_REQUEST|WRONG_VERSION_NUMBER|PACKET_LENGTH_TOO_LONG|UNKNOWN_PROTOCOL|UNSUPPORTED_PROTOCOL_VERSION|RECORD_LENGTH_MISMATCH)$/;

export class TlsGate {
  readonly #settings: TlsSettings;
  #terms: TlsTerms;
  /** By what clients have to show. */
  readonly #servers = new Map<TlsVerify, Server>();
  readonly #handshakes = new WeakMap<Socket, Handshake>();

  constructor(settings: TlsSettings, terms: TlsTerms) {
    this.#settings = settings;
    this.#terms = terms;
  }

  /** Begins the handshake of a socket whose client has to show that. */
  admit(socket: Socket, verify: TlsVerify, handshake: Handshake): void {
    this.#handshakes.set(socket, handshake);
    // A client that ends its side has left; once it is served it may still read.
    socket.allowHalfOpen = false;
    // node:tls tells of a socket that fails behind its end, if at all.
    socket.once('close', () => setImmediate(() => this.#fail(socket, 'ended', 'it has left')));
    this.#serverFor(verify).emit('connection', socket);
  }

  /** Handshakes that begin from now on use these. */
  renew(terms: TlsTerms): void {
    this.#terms = terms;
    for (const server of this.#servers.values()) {
      server.setSecureContext(this.#context());
      server.setTicketKeys(terms.ticketKeys);
    }
  }

  #serverFor(verify: TlsVerify): Server {
    const known = this.#servers.get(verify);
    if (known !== undefined) return known;
    const server = createServer(
      {
        ...this.#context(),
        ticketKeys: this.#terms.ticketKeys,
        requestCert: verify !== 'none',
        // `request`: a wrong certificate is refused below, none is not.
        rejectUnauthorized: verify === 'require',
        handshakeTimeout: this.#settings.handshakeTimeout,
      },
      (socket) => this.#secured(socket, verify),
    );
    server.on('tlsClientError', (error, socket) => {
      this.#fail(rawOf(socket), ...faultOf(error, socket));
      socket.destroy();
    });
    this.#servers.set(verify, server);
    return server;
  }

  #context(): object {
    const noTickets = this.#settings.sessionCache ? 0 : constants.SSL_OP_NO_TICKET;
    return {
      ...this.#terms.context,
      secureOptions: constants.SSL_OP_NO_RENEGOTIATION | noTickets,
      sessionIdContext: 'cairn',
    };
  }

  #secured(socket: TLSSocket, verify: TlsVerify): void {
    const raw = rawOf(socket);
    if (verify === 'request' && !socket.authorized && socket.getPeerX509Certificate() !== undefined) {
      this.#fail(raw, 'handshake', refusalOf(socket));
      socket.destroy();
      return;
    }
    const handshake = this.#handshakes.get(raw);
    this.#handshakes.delete(raw);
    socket.allowHalfOpen = true;
    if (handshake === undefined) socket.destroy();
    else handshake.secured(socket, socket.isSessionReused());
  }

  #fail(raw: Socket, fault: HandshakeFault, reason: string): void {
    const handshake = this.#handshakes.get(raw);
    this.#handshakes.delete(raw);
    handshake?.failed(fault, reason);
  }
}

// Since Node 0.11; without it a socket could not be told from others once it has failed.
function rawOf(socket: TLSSocket): Socket {
  return (socket as unknown as { _parent: Socket })._parent;
}

// A socket of a client with a wrong certificate is closed by node:tls without an error that says so.
function faultOf(error: NodeJS.ErrnoException, socket: TLSSocket): [fault: HandshakeFault, reason: string] {
  const { code = '', message } = error;
  if (NO_RECORD.test(code)) return ['plaintext', message];
  if (code === 'ERR_TLS_HANDSHAKE_TIMEOUT') return ['handshake', 'its handshake took too long'];
  if (code !== 'ECONNRESET') return ['handshake', (error as { reason?: string }).reason ?? message];
  return isRefused(socket) ? ['handshake', refusalOf(socket)] : ['ended', 'it has left'];
}

function isRefused(socket: TLSSocket): boolean {
  return !socket.authorized && (socket.authorizationError ?? null) !== null;
}

function refusalOf({ authorizationError }: TLSSocket): string {
  return `its certificate is not accepted (${authorizationError})`;
}
