/** Options of a server: what may be given, what is assumed otherwise, and the only checks on it. */
import { outOfRange, show, wrongType } from '../errors.ts';
import { TIMER_MS_MAX } from '../limits.ts';
import {
  type AckLevel,
  checkAck,
  checkBoolean,
  checkInteger,
  checkNames,
  type Duration,
  parseDuration,
  parseSize,
  type Size,
} from '../options.ts';

/** What `serve` takes. Everything may be left out. */
export interface ServeOptions {
  /** TCP port. Default 11211; 0: any free one, see `MemcachedServer.addresses`. */
  port?: number;
  /**
   * Interfaces to listen on: addresses or names, each with a port of its own if it brings one (`'10.0.0.5:11212'`,
   * `'[::1]:11212'`) and a level of its own (see `ack`) if that stands in front (`'memory:127.0.0.1:11212'`). Default:
   * loopback only, `127.0.0.1` and, where the machine has it, `::1`.
   */
  host?: string | readonly string[];
  /** Path of a unix socket to listen on. TCP is then off unless `port` or `host` is given too. */
  path?: string;
  /** Permissions of the unix socket. Default 0o700. */
  pathMode?: number;
  /** Connections at the same time; one more is told `ERROR Too many open connections` and closed. Default 1024. */
  maxConnections?: number;
  /** memcached's item size: key, value, client flags and about 60 bytes. 1kb to 1gb, default 1mb. */
  maxItemSize?: Size;
  /** A connection that sends nothing for so long is closed. Default 0: never. */
  idleTimeout?: Duration;
  /**
   * A connection that has not taken its replies for so long, or has not gone on sending a large value or line, is
   * closed.
   * Default 30 s.
   */
  stallTimeout?: Duration;
  /** Connections that the system may queue before they are accepted. Default 1024. */
  backlog?: number;
  /**
   * What a reply waits for. `'memory'`: nothing. `'logged'`: that what it tells of is in the cache's log; reads wait
   * too, so that no client sees what a crash could take back. Default: the cache's own `ack`; without a log there is
   * only `'memory'`. Of an address in `host` that names its level, that counts. A cache may also have several servers.
   */
  ack?: AckLevel;
  /** Answer debugtime, debugpark and their like. For tests only. Default false. */
  testCommands?: boolean;
  /** What `stats settings` says at first; changed by the command `verbosity`. Default 0. */
  verbosity?: number;
  /** What `stats` says of threads. Default 1. */
  threads?: number;
}

/** What a server has to know of its cache. */
export interface ServedCache {
  /** Its own level; undefined: it has no log. */
  readonly ack: AckLevel | undefined;
  /** What the numbers that its log reports are called, in their order. */
  readonly logMetrics: readonly string[];
}

/** A cache that is in memory only. */
export const MEMORY_ONLY: ServedCache = { ack: undefined, logMetrics: [] };

/** One address to listen on. */
export type Listener =
  | { readonly host: string; readonly port: number; readonly optional: boolean; readonly ack: AckLevel }
  | { readonly path: string; readonly ack: AckLevel };

/** Options after checking. */
export interface ServerSettings {
  readonly listeners: readonly Listener[];
  readonly pathMode: number;
  readonly maxConnections: number;
  readonly itemBytesMax: number;
  readonly idleTimeoutMs: number;
  readonly stallTimeoutMs: number;
  readonly backlog: number;
  readonly ack: AckLevel;
  readonly testCommands: boolean;
  readonly verbosity: number;
  readonly threads: number;
}

/** The port that memcached clients try first. */
export const PORT_DEFAULT = 11211;
/** More could not be told apart in the tables of most systems anyway. */
export const CONNECTIONS_MAX: number = 1_000_000;
export const ITEM_BYTES_MIN = 1024;
export const ITEM_BYTES_MAX: number = 2 ** 30;
const ITEM_BYTES_DEFAULT: number = 2 ** 20;
const STALL_TIMEOUT_MS = 30_000;
/** What `sockaddr_un` has room for, less the zero at the end: 108 bytes on Linux, 104 elsewhere. */
const SOCKET_PATH_BYTES_MAX = process.platform === 'linux' ? 107 : 103;

const OPTION_NAMES: readonly (keyof ServeOptions)[] = [
  'port',
  'host',
  'path',
  'pathMode',
  'maxConnections',
  'maxItemSize',
  'idleTimeout',
  'stallTimeout',
  'backlog',
  'ack',
  'testCommands',
  'verbosity',
  'threads',
];

/** Checks the options of a server of that cache. Throws `ERR_INVALID_ARGUMENT`. */
export function resolveServeOptions(given: ServeOptions | undefined, cache: ServedCache = MEMORY_ONLY): ServerSettings {
  const options = checkNames('options', given, OPTION_NAMES);
  const itemBytesMax = parseSize('maxItemSize', options.maxItemSize, ITEM_BYTES_DEFAULT, () => 0);
  if (itemBytesMax < ITEM_BYTES_MIN || itemBytesMax > ITEM_BYTES_MAX) {
    throw outOfRange('maxItemSize', 'between 1kb and 1gb', options.maxItemSize);
  }
  const ack = checkAck(options.ack, cache.ack !== undefined, cache.ack ?? 'memory');
  return {
    listeners: listenersOf(options, ack, cache.ack !== undefined),
    pathMode: checkInteger('pathMode', options.pathMode, 0, 0o777, 0o700),
    maxConnections: checkInteger('maxConnections', options.maxConnections, 1, CONNECTIONS_MAX, 1024),
    itemBytesMax,
    idleTimeoutMs: checkTimeout('idleTimeout', options.idleTimeout, 0, 0),
    stallTimeoutMs: checkTimeout('stallTimeout', options.stallTimeout, 1, STALL_TIMEOUT_MS),
    backlog: checkInteger('backlog', options.backlog, 1, 65_535, 1024),
    ack,
    testCommands: checkBoolean('testCommands', options.testCommands, false),
    verbosity: checkInteger('verbosity', options.verbosity, 0, 2 ** 32 - 1, 0),
    threads: checkInteger('threads', options.threads, 1, 1024, 1),
  };
}

/** Milliseconds that a timer can wait for. */
export function checkTimeout(name: string, value: unknown, min: number, otherwise: number): number {
  const ms = parseDuration(name, value, otherwise);
  if (ms < min || ms > TIMER_MS_MAX) {
    throw outOfRange(name, `between ${min} ms and ${TIMER_MS_MAX} ms`, value);
  }
  return ms;
}

function listenersOf(options: ServeOptions, ack: AckLevel, hasLog: boolean): Listener[] {
  const port = checkInteger('port', options.port, 0, 65_535, PORT_DEFAULT);
  const listeners: Listener[] = [];
  if (options.path !== undefined) {
    if (typeof options.path !== 'string') throw wrongType('path', 'a string', options.path);
    if (options.path === '' || options.path.includes('\0'))
      throw outOfRange('path', 'the path of a socket', options.path);
    checkSocketPath(options.path);
    listeners.push({ path: options.path, ack });
    if (options.port === undefined && options.host === undefined) return listeners;
  }
  if (options.host === undefined) {
    listeners.push({ host: '127.0.0.1', port, optional: false, ack }, { host: '::1', port, optional: true, ack });
    return listeners;
  }
  const hosts = typeof options.host === 'string' ? [options.host] : options.host;
  if (!Array.isArray(hosts)) throw wrongType('host', 'a string or an array of strings', options.host);
  if (hosts.length === 0) throw outOfRange('host', 'at least one address', options.host);
  for (const host of hosts) {
    if (typeof host !== 'string') throw wrongType('host', 'a string', host);
    const [level, address] = levelOf(host);
    if (level === 'logged' && !hasLog) {
      throw outOfRange('host', "at the level 'memory', the only one of a cache without a log", host);
    }
    listeners.push({ ...addressOf(address, port), optional: false, ack: level ?? ack });
  }
  return listeners;
}

// What is longer is cut by Node without a word, and listened on there.
function checkSocketPath(path: string): void {
  const bytes = Buffer.byteLength(path);
  if (process.platform === 'win32' || bytes <= SOCKET_PATH_BYTES_MAX) return;
  throw outOfRange('path', `at most ${SOCKET_PATH_BYTES_MAX} bytes long, the most that the system takes`, bytes);
}

/** The level in front of an address, if there is one. `memory:11211` is a machine of that name. */
function levelOf(text: string): [AckLevel | undefined, string] {
  const [, level, address] = /^(memory|logged):(?!\d{1,5}$)(.+)$/.exec(text) ?? [];
  return [level as AckLevel | undefined, address ?? text];
}

/** `host`, `host:port` or `[v6 address]:port`; a v6 address without a port may stand without its brackets. */
function addressOf(text: string, otherwise: number): { host: string; port: number } {
  const match = /^(?:\[([^[\]]+)\]|([^:[\]\s]+))(?::(\d{1,5}))?$/.exec(text);
  if (match === null) {
    if (/^[0-9a-fA-F:.]*:[0-9a-fA-F:.%\w]*$/.test(text) && text.split(':').length > 2) {
      return { host: text, port: otherwise };
    }
    throw outOfRange('host', 'an address, a name, or one of them with a port', text);
  }
  const port = match[3] === undefined ? otherwise : Number(match[3]);
  if (port > 65_535) throw outOfRange(`the port of ${show(text)}`, 'at most 65535', port);
  return { host: match[1] ?? match[2] ?? '', port };
}
