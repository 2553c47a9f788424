/** Where a server listens, by its options. */
import { misplaced, namingOptions, outOfRange } from '../errors.ts';
import { PORT_DEFAULT } from '../limits.ts';
import {
  type AckLevel,
  type Checked,
  type GivenAddress,
  hasLevel,
  levelsOf,
  type SERVE_OPTIONS,
  type ServeProtocol,
  type TlsSettings,
  type TlsVerify,
} from '../options.ts';

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

/** One address to take datagrams at. */
export interface UdpListener {
  readonly host: string;
  /** 0: any free one. */
  readonly port: number;
  readonly optional: boolean;
  readonly ack: AckLevel;
  /** Undefined: that of the server. */
  readonly protocol?: ServeProtocol | undefined;
}

/** The addresses of TCP, and the unix socket. Throws `ERR_INVALID_ARGUMENT`. */
export function listenersOf(
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

/** UDP is taken at the addresses of TCP, or at loopback where there is none. Throws `ERR_INVALID_ARGUMENT`. */
export function udpListenersOf(
  { udpPort, tls, authFile, saslFile }: Checked<typeof SERVE_OPTIONS>,
  listeners: readonly Listener[],
  ack: AckLevel,
): UdpListener[] {
  if (udpPort === 0) return [];
  const given = { tls, authFile, saslFile };
  for (const name of ['tls', 'authFile', 'saslFile'] as const) {
    if (given[name] === undefined) continue;
    throw namingOptions(
      misplaced,
      (say) =>
        `Expected no ${say('udpPort')} beside ${say(name)}: UDP has neither TLS nor logins, and would pass them by`,
    );
  }
  const port = Math.max(udpPort, 0);
  const tcp = listeners.filter((listener) => 'host' in listener);
  if (tcp.length === 0) {
    return [
      { host: '127.0.0.1', port, optional: false, ack },
      { host: '::1', port, optional: true, ack },
    ];
  }
  const hosts = new Map(tcp.map((listener) => [listener.host, listener]));
  return [...hosts.values()].map(({ host, optional, ack, protocol }) => ({ host, port, optional, ack, protocol }));
}

/** What clients have to show there; undefined: there is no TLS. */
function tlsOf({ text, tls }: GivenAddress, terms: TlsSettings | undefined): TlsVerify | undefined {
  if (terms === undefined && tls !== undefined) {
    throw namingOptions(misplaced, (say) => `Expected ${say('tls')} beside ${text}: without it no address has TLS`);
  }
  return tls === 'off' ? undefined : (tls ?? terms?.verify);
}
