/**
 * A front connects the clients with the sessions of a service: it listens, accepts, feeds bytes to sessions, writes
 * replies, closes connections that take too long, and ends. net-front.ts is the front over node:net. A suite,
 * test/conformance/front.ts, specifies every front.
 *
 * | state   | listen() | serve() | a client comes            | its connections      | close() | destroy() |
 * |---------|----------|---------|---------------------------|----------------------|---------|-----------|
 * | new     | listens  | open    | is disconnected           | -                    | closed  | closed    |
 * | open    | -        | -       | is served, up to a limit  | are served           | closing | closed    |
 * | closing | -        | -       | is refused                | are answered, closed | -       | closed    |
 * | closed  | -        | -       | is refused                | are gone             | nothing | nothing   |
 *
 * Of one connection, in any front:
 *
 * | its session      | bytes come              | the client ends its side   | the client is gone, or a write fails |
 * |------------------|-------------------------|----------------------------|--------------------------------------|
 * | is read          | are fed                 | it is answered, then ended | its session is dropped               |
 * | has to wait (1)  | wait in the system      | it is answered later       | its session is dropped               |
 * | is over          | are read and thrown away | it is closed              | it is closed                         |
 *
 * (1) For replies to leave, for a commit, a load or room in the log, or for its next turn: after each native call a
 * front gives other connections their turn.
 */
import type { AckLevel } from '../options.ts';
import type { Listener } from './listeners.ts';

/** An address on which a server listens, and its level: what replies wait for there. */
export type ServerAddress =
  | { readonly host: string; readonly port: number; readonly ack: AckLevel; readonly tls?: true; readonly udp?: true }
  | { readonly path: string; readonly ack: AckLevel };

/**
 * Why a connection was closed. `'ended'`: by its client, at `quit`, or when the server closed. `'stalled'`: it did not
 * read its replies, or stopped in the middle of a large value or line. `'idle'`: it sent nothing. `'rejected'`: there
 * were too many connections. `'binary'`, `'tls'`: it speaks memcached's binary protocol, or TLS, which is not served
 * there. `'plaintext'`: it does not speak TLS, and that address has it; `'handshake'`: its handshake failed.
 * `'output'`: the replies that clients had not taken used more than `maxOutput`, and it had taken nothing for longest.
 */
export type DisconnectReason =
  | 'ended'
  | 'stalled'
  | 'idle'
  | 'rejected'
  | 'binary'
  | 'tls'
  | 'plaintext'
  | 'handshake'
  | 'output';

/** What a front reports to its server. */
export interface FrontOwner {
  connected(peer: string): void;
  /** `detail`: of a handshake, what was wrong with it. */
  disconnected(peer: string, reason: DisconnectReason, detail?: string): void;
  /** A listening socket failed; the others go on. */
  failed(error: Error): void;
  /** The system lacks room for new clients, which wait until there is some. Once for each such time. */
  noRoom(error: NodeJS.ErrnoException): void;
  /** The cache behind the service has been closed: the front cannot go on. */
  cacheClosed(): void;
  /** To be called before a session is fed or continued: moves the cache's time, where its maker gave a clock. */
  readonly tick?: (() => void) | undefined;
}

/** Limits of a front. */
export interface FrontLimits {
  readonly maxConnections: number;
  /** 0: none. */
  readonly idleTimeoutMs: number;
  readonly stallTimeoutMs: number;
  /** Of replies that clients have not taken; undefined: there is no limit of note. */
  readonly outputBytesMax?: number;
}

export interface Front {
  /** Where it listens. */
  readonly addresses: readonly ServerAddress[];
  readonly connectionCount: number;
  /** Listens on one more address. Rejects with `ERR_LISTEN`, except for an optional address that the machine lacks. */
  listen(listener: Listener): Promise<void>;
  /**
   * Whether connected() and disconnected() are called, from now on: they may cost the thread something. At first they
   * are not, except for the first client of each protocol that is not served.
   */
  hearConnections(yes: boolean): void;
  /** From now on serves clients with sessions of this service. */
  serve(service: number): void;
  /**
   * Stops listening, answers complete requests, and closes the connections; destroys those that are open after the
   * timeout. Resolves when all connections and all sessions of the service are gone.
   */
  close(timeoutMs: number): Promise<void>;
  /** Stops at once. Resolves as close() does. */
  destroy(): Promise<void>;
}
