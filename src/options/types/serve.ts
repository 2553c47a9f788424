/** The options of `serve`. */
import type { AckLevel } from './log.ts';
import type { Duration, Size } from './units.ts';

/** What serves connections. */
export type ServeFront = 'native' | 'node';

/** The protocol of the clients that are served. */
export type ServeProtocol = 'auto' | 'ascii' | 'binary';

/** The options of `serve`, all optional. */
export interface ServeOptions {
  /** TCP port. Default 11211; 0: any free port, see `MemcachedServer.addresses`. */
  port?: number;
  /**
   * Addresses or names to listen on, each optionally with its own port (`'10.0.0.5:11212'`, `'[::1]:11212'`) and with
   * its own level (see `ack`) in front (`'memory:127.0.0.1:11212'`). Default: loopback only, `127.0.0.1` and, if the
   * machine has it, `::1`.
   */
  host?: string | readonly string[];
  /** Path of a unix socket to listen on. Turns TCP off unless `port` or `host` is given too. */
  path?: string;
  /** Permissions of the unix socket. Default 0o700. */
  pathMode?: number;
  /** The most connections; a further one gets `ERROR Too many open connections` and is closed. Default 1024. */
  maxConnections?: number;
  /**
   * The memory for replies that clients have not taken yet, of all clients together. Beyond it, clients are
   * disconnected, first those that have taken nothing for the longest time. Default: a quarter of `maxMemory`, at least
   * 16 MiB and 4 times `maxItemSize`. For `front: 'native'`.
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
  /** Refuses `lru_crawler metadump` and `stats cachedump`, which list the keys. Default false. */
  disableDumping?: boolean;
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
