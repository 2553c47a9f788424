/**
 * The types of the exports of native/addon/session_binding.h, which describes each call. A result is one number: {@link
 * FLAGS_RANGE} times the bytes of reply in `output`, plus flags.
 */
import { type NativeHandle, native } from '../native.ts';
import type { AckLevel, ServeProtocol } from '../options.ts';
import type { Listener, UdpListener } from './listeners.ts';

/** The options of a service; the numbers and texts below `enableShutdown` are for `stats` only, except `login`. */
export interface NativeServiceOptions {
  /** A version of memcached. */
  version: string;
  cairnVersion: string;
  itemBytesMax: number;
  /** For `stats`; 0: the front has no such limit. */
  outputBytesMax: number;
  /** A {@link ProtocolCode}. */
  protocol: number;
  testCommands: number;
  disableFlushAll: number;
  disableDumping: number;
  disableWatch: number;
  hideKeys: number;
  slowRequestMs: number;
  largeRequestBytes: number;
  trackSizes: number;
  /** One byte; empty: requests are not counted by prefix until a client asks for it. */
  prefixDelimiter: string;
  enableShutdown: number;
  /** The names of the log's numbers, separated by commas. */
  logMetrics: string;
  processId: number;
  connectionsMax: number;
  tcpPort: number;
  udpPort: number;
  threadCount: number;
  backlog: number;
  idleTimeoutSeconds: number;
  verbosity: number;
  interfaces: string;
  socketPath: string;
  /** A {@link LoginCode}. */
  login: number;
  authFile: string;
  /** Undefined: no address has TLS. */
  tls: NativeTlsSettings | undefined;
}

/** What memcached's statistics say of TLS, in its words and numbers. */
export interface NativeTlsSettings {
  chainCert: string;
  key: string;
  caCert: string;
  ciphers: string;
  verifyMode: number;
  keyFormat: number;
  minVersion: string;
  sessionCache: number;
}

/** How a handshake has ended: native/addon/session_binding.h. */
export const Handshakes = { begun: 0, resumed: 1, failed: 2 } as const;

/** What the replies of a session wait for: native/protocol/ack.h. */
export const AckCode: Readonly<Record<AckLevel, number>> = { memory: 0, logged: 1, stored: 2 };

/** Which clients are served: native/protocol/service.h. */
export const ProtocolCode: Readonly<Record<ServeProtocol, number>> = { auto: 0, ascii: 1, binary: 2 };

/** How clients log in: native/protocol/authentication.h. */
export const LoginCode = { none: 0, text: 1, sasl: 2 } as const;

/** Of a listener with its own protocol; undefined: it has that of the server. */
export function protocolCodeOf(listener: Listener | UdpListener): number | undefined {
  const protocol = 'protocol' in listener ? listener.protocol : undefined;
  return protocol && ProtocolCode[protocol];
}

/** What a client has asked for, of the end of the server. */
export const Shutdown = { none: 0, plain: 1, graceful: 2 } as const;

/** The functions of the binding. */
export interface NativeSessions {
  startService(handle: NativeHandle, options: NativeServiceOptions): number | undefined;
  endService(service: number): void;
  isServiceClosed(service: number): boolean;
  countRejected(service: number): void;
  /** `closeSession` follows. */
  countIdleKick(session: number): void;
  /** The bytes of replies that one client has not taken, before and now. */
  changeUnsent(service: number, before: number, now: number): void;
  countOutputDrop(service: number): void;
  /** `how`: one of {@link Handshakes}. */
  countHandshake(service: number, how: number): void;
  /** The server has begun to use certificates. */
  countRefresh(service: number): void;
  /** Whether a client has asked for other certificates; answerRefresh() has to follow. */
  takeRefresh(service: number): boolean;
  /** Answers the clients that have asked before takeRefresh(): with `OK`, or with this line. */
  answerRefresh(service: number, line: string): void;
  /** Who may log in, in the place of those before: `USER:PASSWORD` and a line feed, each. */
  setAccounts(service: number, lines: Uint8Array): void;
  /** A {@link Shutdown}. This thread is woken when a client has asked for one. */
  takeShutdown(service: number): number;
  /** The buffer with the replies of a call, until the next call. */
  output?: Buffer;
  /** `ack`: an {@link AckCode}, default `memory`; `protocol`: a {@link ProtocolCode}, default that of the service. */
  openSession(service: number, peer: string, listener: string, ack?: number, protocol?: number): number;
  closeSession(session: number): void;
  setOutput(buffer: Uint8Array): void;
  takeOutput(): Buffer | undefined;
  feedSession(session: number, chunk: Uint8Array, backlogBytes: number): number;
  continueSession(session: number, backlogBytes: number): number;
  /** Of a result with FLAG_SLOWED: milliseconds. */
  continueIn(session: number): number;
  endSession(session: number, backlogBytes: number): number;
}

export const sessions: NativeSessions = native as unknown as NativeSessions;

/** Results are multiples of this plus flags. */
export const FLAGS_RANGE = 512;
/** What the front does next: the lowest three bits. */
export const Next = { read: 0, flush: 1, wait: 2, close: 3, yield: 4 } as const;
export const NEXT_MASK = 7;
/** Continue it when this thread is woken. */
export const FLAG_WAITS = 8;
/** The replies did not fit the output buffer: take them. */
export const FLAG_OVERFLOW = 16;
/** The client is in the middle of a large value, or line. */
export const FLAG_IN_LARGE_REQUEST = 32;
/** Closed because the client speaks memcached's binary protocol, which the server does not. */
export const FLAG_BINARY = 64;
/** Closed because the client speaks TLS. */
export const FLAG_TLS = 128;
/** Continue it after a time, too: continueIn(). */
export const FLAG_SLOWED = 256;

/** Enough for the usual replies to a chunk of 64 KiB; more replies come in a Buffer of their own. */
const OUTPUT_BYTES: number = 256 * 1024;

/** Leaves the present output buffer to the socket that still writes from it, and takes another. */
export function renewOutput(): void {
  sessions.output = Buffer.allocUnsafeSlow(OUTPUT_BYTES);
  sessions.setOutput(sessions.output);
}

/**
 * Takes an output buffer if this thread has none: there is one per addon, also if this module is loaded twice.
 */
export function ensureOutput(): void {
  if (sessions.output === undefined) renewOutput();
}
