/** Options of a server: what may be given, what is assumed otherwise, and the only checks on it. */
import { misplaced, namingOptions, outOfRange } from '../errors.ts';
import { OUTPUT_BYTES_CHOSEN_MIN, PORT_DEFAULT } from '../limits.ts';
import {
  type AckLevel,
  type Checked,
  checkAck,
  checkAll,
  type GivenAddress,
  hasLevel,
  isLoopback,
  levelsOf,
  SERVE_OPTIONS,
  type ServeFront,
  type ServeOptions,
  type ServeProtocol,
  type TlsSettings,
  type TlsVerify,
} from '../options.ts';
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

/** One address to listen on. */
export type Listener =
  | {
      readonly host: string;
      readonly port: number;
      readonly optional: boolean;
      readonly ack: AckLevel;
      /** What a client has to show there; undefined: there is no TLS. */
      readonly tls?: TlsVerify | undefined;
      /** Undefined: that of the server. */
      readonly protocol?: ServeProtocol | undefined;
    }
  | { readonly path: string; readonly ack: AckLevel };

/** How clients log in. */
export interface LoginSettings {
  /** `authFile` or `saslFile`. */
  readonly option: 'authFile' | 'saslFile';
  readonly file: string;
}

/** Options after checking. */
export interface ServerSettings {
  readonly listeners: readonly Listener[];
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
  readonly trackSizes: boolean;
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
  const { disableFlushAll, disableDumping, disableWatch, hideKeys, trackSizes, enableShutdown } = options;
  return {
    listeners,
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
    trackSizes,
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

function listenersOf(
  { path, port: given, host: addresses, tls: terms }: Checked<typeof SERVE_OPTIONS>,
  ack: AckLevel,
  highest: AckLevel,
): Listener[] {
  const port = given ?? PORT_DEFAULT;
  const listeners: Listener[] = path === undefined ? [] : [{ path, ack }];
  if (addresses !== undefined) {
    for (const address of addresses) {
      if (address.level !== undefined && !hasLevel(address.level, highest)) {
        throw outOfRange('host', `at the level ${levelsOf(highest)}`, address.text);
      }
      const { host, protocol } = address;
      const tls = tlsOf(address, terms);
      listeners.push({ host, port: address.port ?? port, optional: false, ack: address.level ?? ack, tls, protocol });
    }
  } else if (path === undefined || given !== undefined) {
    const tls = terms?.verify;
    listeners.push(
      { host: '127.0.0.1', port, optional: false, ack, tls },
      { host: '::1', port, optional: true, ack, tls },
    );
  }
  const asking = listeners.find((listener) => 'tls' in listener && (listener.tls ?? 'none') !== 'none');
  if (asking !== undefined && terms?.ca === undefined) {
    throw namingOptions(
      misplaced,
      (say) => `Expected ${say('tls.ca')} where clients show certificates: the file of those that may sign them`,
    );
  }
  return listeners;
}

/** What clients have to show there; undefined: there is no TLS. */
function tlsOf({ text, tls }: GivenAddress, terms: TlsSettings | undefined): TlsVerify | undefined {
  if (terms === undefined && tls !== undefined) {
    throw namingOptions(misplaced, (say) => `Expected ${say('tls')} beside ${text}: without it no address has TLS`);
  }
  return tls === 'off' ? undefined : (tls ?? terms?.verify);
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
