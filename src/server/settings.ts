/** Options of a server: what may be given, what is assumed otherwise, and the only checks on it. */
import { misplaced, namingOptions, outOfRange } from '../errors.ts';
import { OUTPUT_BYTES_CHOSEN_MIN } from '../limits.ts';
import {
  type AckLevel,
  type Checked,
  checkAck,
  checkAll,
  isLoopback,
  SERVE_OPTIONS,
  type ServeFront,
  type ServeOptions,
  type ServeProtocol,
  type TlsSettings,
} from '../options.ts';
import { type Listener, listenersOf, type UdpListener, udpListenersOf } from './listeners.ts';
import { hasNativeFront, processorCount } from './native-front.ts';

/** What a server has to know of its cache. */
export interface ServedCache {
  /** Its own level, and the highest that it has. */
  readonly ack: AckLevel;
  readonly highestAck: AckLevel;
  /** Its `maxMemory`; undefined: not known. */
  readonly memoryBytes?: number;
  /** What the numbers that its log reports are called, in their order. */
  readonly logMetrics: readonly string[];
  /** Moves the cache's time, where its maker gave a clock. */
  readonly tick?: (() => void) | undefined;
}

/** A cache that is in memory only. */
export const MEMORY_ONLY: ServedCache = { ack: 'memory', highestAck: 'memory', logMetrics: [] };

/** How clients log in. */
export interface LoginSettings {
  /** `authFile` or `saslFile`. */
  readonly option: 'authFile' | 'saslFile';
  readonly file: string;
}

/** Options after checking. */
export interface ServerSettings {
  readonly listeners: readonly Listener[];
  readonly udpListeners: readonly UdpListener[];
  readonly pathMode: number;
  readonly maxConnections: number;
  readonly itemBytesMax: number;
  readonly outputBytesMax: number;
  readonly idleTimeoutMs: number;
  readonly stallTimeoutMs: number;
  readonly backlog: number;
  readonly ack: AckLevel;
  /** Undefined: no address has TLS. */
  readonly tls: TlsSettings | undefined;
  /** How clients log in, and the file of who may; undefined: none has to. */
  readonly login: LoginSettings | undefined;
  readonly protocol: ServeProtocol;
  readonly testCommands: boolean;
  readonly disableFlushAll: boolean;
  readonly disableDumping: boolean;
  readonly disableWatch: boolean;
  readonly hideKeys: boolean;
  /** 0: none is listed. */
  readonly slowRequestMs: number;
  readonly largeRequestBytes: number;
  readonly trackSizes: boolean;
  readonly prefixDelimiter: string;
  readonly enableShutdown: boolean;
  readonly verbosity: number;
  readonly front: ServeFront;
  /** That serve connections. */
  readonly threads: number;
}

/** Checks the options of a server of that cache. Throws `ERR_INVALID_ARGUMENT`. */
export function resolveServeOptions(given: ServeOptions | undefined, cache: ServedCache = MEMORY_ONLY): ServerSettings {
  const options = checkAll(SERVE_OPTIONS, 'options', given, () => 0);
  const ack = checkAck(given?.ack, cache.highestAck, cache.ack);
  const front = frontOf(options.front, cache, options.tls !== undefined);
  const {
    pathMode,
    maxConnections,
    maxItemSize,
    maxOutput,
    idleTimeout,
    stallTimeout,
    backlog,
    protocol,
    testCommands,
  } = options;
  const login = loginOf(options);
  const listeners = listenersOf(options, ack, cache.highestAck);
  if (login !== undefined) checkLogin(login, given ?? {}, listeners);
  const { disableFlushAll, disableDumping, disableWatch, hideKeys, trackSizes, prefixDelimiter, enableShutdown } =
    options;
  return {
    listeners,
    udpListeners: udpListenersOf(options, listeners, ack),
    pathMode,
    maxConnections,
    itemBytesMax: maxItemSize,
    // A client that takes its replies has up to two of the largest on the way.
    outputBytesMax:
      maxOutput || Math.max(OUTPUT_BYTES_CHOSEN_MIN, Math.floor((cache.memoryBytes ?? 0) / 4), 4 * maxItemSize),
    idleTimeoutMs: idleTimeout,
    stallTimeoutMs: stallTimeout,
    backlog,
    ack,
    tls: options.tls,
    login,
    protocol: login === undefined ? protocol : PROTOCOL_OF[login.option],
    testCommands,
    disableFlushAll,
    disableDumping,
    disableWatch,
    hideKeys,
    slowRequestMs: options.slowRequest,
    largeRequestBytes: options.largeRequest,
    trackSizes,
    prefixDelimiter,
    enableShutdown,
    verbosity: options.verbosity,
    front,
    threads: front === 'node' ? 1 : options.threads || processorCount(),
  };
}

// Only its own thread may call the clock of a cache; and only JavaScript has node:tls.
function frontOf(given: ServeFront | '', { tick }: ServedCache, hasTls: boolean): ServeFront {
  const reason = !hasNativeFront()
    ? 'this platform has no other'
    : tick !== undefined
      ? 'the cache has a clock'
      : hasTls
        ? 'it has TLS'
        : '';
  if (given === 'native' && reason !== '') throw outOfRange('front', `'node', since ${reason}`, given);
  return given || (reason === '' ? 'native' : 'node');
}

// ---- logins ----

/** Each way to log in is that of one protocol. */
const PROTOCOL_OF = { authFile: 'ascii', saslFile: 'binary' } as const;

function loginOf({ authFile, saslFile }: Checked<typeof SERVE_OPTIONS>): LoginSettings | undefined {
  if (authFile !== undefined && saslFile !== undefined) {
    throw namingOptions(
      misplaced,
      (say) => `Expected ${say('authFile')} or ${say('saslFile')}, got both: a server has one protocol to log in to`,
    );
  }
  if (authFile !== undefined) return { option: 'authFile', file: authFile };
  return saslFile === undefined ? undefined : { option: 'saslFile', file: saslFile };
}

/** Clients of another protocol could not log in, and PLAIN is for wires that no stranger reads. */
function checkLogin({ option }: LoginSettings, given: ServeOptions, listeners: readonly Listener[]): void {
  const only = PROTOCOL_OF[option];
  const name = only === 'ascii' ? 'text' : 'binary';
  if (given.protocol !== undefined && given.protocol !== only) {
    throw outOfRange('protocol', (say) => `'${only}' beside ${say(option)}`, given.protocol);
  }
  for (const listener of listeners) {
    if (!('host' in listener)) continue;
    const { host, protocol = only, tls } = listener;
    if (protocol !== only) {
      throw namingOptions(
        misplaced,
        (say) =>
          `Expected the ${name} protocol at ${host}, where ${say(option)} has clients log in, got proto[${protocol}]`,
      );
    }
    if (option === 'saslFile' && tls === undefined && !isLoopback(host)) {
      throw namingOptions(
        misplaced,
        (say) =>
          `Expected ${say('tls')} or a loopback address beside ${say(option)}, got ${host}: passwords would be sent there as they are`,
      );
    }
  }
}
