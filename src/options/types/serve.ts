/** The options of `serve`. */
import type { AckLevel } from './log.ts';
import type { Duration, Size } from './units.ts';

/** What serves connections. */
export type ServeFront = 'native' | 'node';

/** The protocol of the clients that are served. */
export type ServeProtocol = 'auto' | 'ascii' | 'binary';

/** What a client has to show at an address of TLS. */
export type TlsVerify = 'none' | 'request' | 'require';

/** A version of TLS. */
export type TlsVersion = 'TLSv1' | 'TLSv1.1' | 'TLSv1.2' | 'TLSv1.3';

/** The option `tls` of `serve`. Its files are read when the server starts, and by `server.reloadCertificates()`. */
export interface TlsOptions {
  /** The file of the server's certificate, in PEM, with those that lead to its root behind it. */
  cert: string;
  /** The file of the certificate's private key. Default: that of `cert`. */
  key?: string;
  /** The form of the private key. Default `'pem'`. */
  keyFormat?: 'pem' | 'der';
  /** The file of the certificates, in PEM, that may sign those of clients. */
  ca?: string;
  /**
   * `'require'`: a client must show a certificate that one of `ca` has signed. `'request'`: it need not have one, but a
   * wrong one is refused. Default `'none'`: it is not asked. An address in `host` may differ.
   */
  verify?: TlsVerify;
  /** A list of ciphers, as OpenSSL takes it. Default: that of Node. */
  ciphers?: string;
  /** The oldest version that is spoken. Default `'TLSv1.2'`. */
  minVersion?: TlsVersion;
  /** Gives clients tickets, with which they resume a session at less cost. Default false. */
  sessionCache?: boolean;
  /** Closes a connection whose handshake takes longer. Default 10 s. */
  handshakeTimeout?: Duration;
}

/** The options of `serve`, all optional. */
export interface ServeOptions {
  /** TCP port. Default 11211; 0: any free port, see `MemcachedServer.addresses`. */
  port?: number;
  /**
   * Addresses or names to listen on, each optionally with its own port (`'10.0.0.5:11212'`, `'[::1]:11212'`) and with
   * its own level (see `ack`) in front (`'memory:127.0.0.1:11212'`). With `tls`, `notls:` in front is an address
   * without it, `btls:` one that asks no client for a certificate, `mtls:` one that requires it. `proto[ascii]:` and
   * `proto[binary]:` serve one protocol there. Default: loopback only, `127.0.0.1` and, if the machine has it, `::1`.
   */
  host?: string | readonly string[];
  /**
   * UDP port, at the addresses of TCP. Default 0: none; -1: any free one. Not beside `tls`, and no client is asked for
   * anything there.
   */
  udpPort?: number;
  /** Path of a unix socket to listen on. Turns TCP off unless `port` or `host` is given too. */
  path?: string;
  /** Permissions of the unix socket. Default 0o700. */
  pathMode?: number;
  /** TLS at all TCP addresses; a unix socket has none. It is served by node:tls, in the calling thread. */
  tls?: TlsOptions;
  /**
   * A file of lines `user:password`. Clients have to log in with one of them before anything else: by a `set` of any
   * key whose value is `user password`, as memcached has it with `-Y`. Only the text protocol is served then.
   */
  authFile?: string;
  /**
   * The same for the binary protocol: clients log in by SASL with the mechanism PLAIN. Only the binary protocol is
   * served then, and each address is loopback, or has `tls`: PLAIN sends the password as it is.
   */
  saslFile?: string;
  /** The most connections; a further one gets `ERROR Too many open connections` and is closed. Default 1024. */
  maxConnections?: number;
  /**
   * The memory for replies that clients have not taken yet, of all clients together. Beyond it, clients are
   * disconnected, first those that have taken nothing for the longest time. Default: a quarter of `maxMemory`, at least
   * 16 MiB and 4 times `maxItemSize`.
   */
  maxOutput?: Size;
  /** memcached's item size: key, value, client flags and about 60 bytes. 1kb to 1gb, default 1mb. */
  maxItemSize?: Size;
  /** Closes a connection that sends nothing for this time. Default 0: never. */
  idleTimeout?: Duration;
  /**
   * Closes a connection that does not read its replies for this time, or stops in the middle of a large value or line.
   * Default 30 s.
   */
  stallTimeout?: Duration;
  /** Connections that the system queues before they are accepted. Default 1024. */
  backlog?: number;
  /**
   * What a reply waits for. `'memory'`: nothing. `'logged'`: the cache's log has what the reply reveals; reads wait
   * too, so no client sees a value that a crash could take back. `'stored'`: the database has the change; reads wait
   * for the log. Default: the cache's own `ack`; without a log `'memory'` is the only level. An address in `host` may
   * name its own level.
   */
  ack?: AckLevel;
  /**
   * `'ascii'`: only the text protocol; a client that begins with the binary protocol is disconnected. `'binary'`: only
   * the binary protocol. Default `'auto'`: the first byte of a connection tells.
   */
  protocol?: ServeProtocol;
  /** Answers the test commands (debugtime, debugpark and others). For tests only. Default false. */
  testCommands?: boolean;
  /** Refuses `flush_all`, so that no client can clear the cache. Default false. */
  disableFlushAll?: boolean;
  /**
   * Refuses `scan`, `lru_crawler metadump`, `lru_crawler mgdump` and `stats cachedump`, which list the keys.
   * Default false.
   */
  disableDumping?: boolean;
  /** Refuses `watch`, which shows what clients ask for, and their keys. Default false. */
  disableWatch?: boolean;
  /**
   * `watch`, `scan`, `stats topkeys`, `slow`, `large` and `detail`, `lru_crawler metadump`, `mgdump` and
   * `stats cachedump` show a keyed hash in the place of each key, the same for the same key until the server ends.
   * Default false.
   */
  hideKeys?: boolean;
  /** `stats slow` lists requests that take this long or longer. Default 10 ms; 0: none. */
  slowRequest?: Duration;
  /** `stats large` lists requests with a value of this size or more. Default 0: none. */
  largeRequest?: Size;
  /** Has `stats sizes` count the entries by their sizes. Default false. */
  trackSizes?: boolean;
  /**
   * Counts requests by the part of their keys before this character, for `stats detail`. Without it, a client can have
   * the server count them, by `:`.
   */
  prefixDelimiter?: string;
  /**
   * Has `shutdown` close the server, as `close()` does, after the event `'shutdown'`. The cache stays open. Default
   * false: clients cannot end the server.
   */
  enableShutdown?: boolean;
  /** The verbosity in `stats settings`, until the command `verbosity` changes it. Default 0. */
  verbosity?: number;
  /** Threads that serve connections, 1 to 64; one more accepts them. Default: one for each processor. */
  threads?: number;
  /**
   * What serves connections. `'native'`: threads of the addon, without JavaScript; Linux only. `'node'`: the calling
   * thread, by node:net; `threads` has no effect. Default: `'native'` where it is, unless the cache has a clock of its
   * maker.
   */
  front?: ServeFront;
}
