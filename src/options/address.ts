/** Addresses to listen on, as `serve` and the command line take them: `memory:[::1]:11212`. */
import { outOfRange, show, wrongType } from '../errors.ts';
import type { Check } from './kinds.ts';
import type { AckLevel, ServeProtocol, TlsVerify } from './types.ts';

/** An address that was given, in its parts. */
export interface GivenAddress {
  /** As it was given. */
  readonly text: string;
  readonly level: AckLevel | undefined;
  /** What is said about TLS there; undefined: nothing, so that it is as elsewhere. */
  readonly tls: 'off' | TlsVerify | undefined;
  /** What is served there; undefined: what is served elsewhere. */
  readonly protocol: ServeProtocol | undefined;
  readonly host: string;
  readonly port: number | undefined;
}

/** One or more addresses; undefined: none was given. */
export const addresses: Check<GivenAddress[] | undefined> = (given, name) => {
  if (given === undefined) return undefined;
  const texts = typeof given === 'string' ? [given] : given;
  if (!Array.isArray(texts)) throw wrongType(name, 'a string or an array of strings', given);
  if (texts.length === 0) throw outOfRange(name, 'at least one address', given);
  return texts.map((text) => addressOf(text, name));
};

/** What may stand in front of an address: a level, or one of memcached's prefixes. */
const PREFIX =
  /^(?:(?<level>memory|logged|stored)|(?<tls>notls|btls|mtls)|proto\[(?<protocol>\w*)\]|(?<tag>tag)\[[^\]]*\]):(?!\d{1,5}$)(?<rest>.+)$/;
const TLS: Readonly<Record<string, 'off' | TlsVerify>> = { notls: 'off', btls: 'none', mtls: 'require' };
const PROTOCOLS: Readonly<Record<string, ServeProtocol>> = {
  auto: 'auto',
  negotiating: 'auto',
  ascii: 'ascii',
  binary: 'binary',
};

/**
 * `host`, `host:port` or `[v6 address]:port`, with prefixes in front or without, each kind once, in any order; a v6
 * address without a port may stand without its brackets. `memory:11211` is a machine of that name. A tag, by which
 * memcached's proxy tells listeners apart, has no meaning here.
 */
function addressOf(text: unknown, name: string): GivenAddress {
  if (typeof text !== 'string') throw wrongType(name, 'a string', text);
  let address = text;
  const prefixes: Record<string, string> = {};
  for (let found = PREFIX.exec(address); found !== null; found = PREFIX.exec(address)) {
    const { rest = '', ...kinds } = found.groups!;
    const [kind, word] = Object.entries(kinds).find(([, each]) => each !== undefined)!;
    if (kind in prefixes) throw outOfRange(name, `an address with one prefix of a kind`, text);
    prefixes[kind] = word!;
    address = rest;
  }
  const { level, tls = '', protocol } = prefixes;
  if (protocol !== undefined && !Object.hasOwn(PROTOCOLS, protocol)) {
    throw outOfRange(name, 'an address with proto[ascii], proto[binary] or proto[auto]', text);
  }
  const parts = { text, level: level as AckLevel | undefined, tls: TLS[tls], protocol: PROTOCOLS[protocol ?? ''] };
  const match = /^(?:\[([^[\]]+)\]|([^:[\]\s]+))(?::(\d{1,5}))?$/.exec(address);
  if (match === null) {
    if (/^[0-9a-fA-F:.]*:[0-9a-fA-F:.%\w]*$/.test(address) && address.split(':').length > 2) {
      return { ...parts, host: address, port: undefined };
    }
    throw outOfRange(name, 'an address, a name, or one of them with a port', address);
  }
  const port = match[3] === undefined ? undefined : Number(match[3]);
  if (port !== undefined && port > 65_535) throw outOfRange(`the port of ${show(address)}`, 'at most 65535', port);
  return { ...parts, host: match[1] ?? match[2] ?? '', port };
}

/** An address that only this machine reaches. */
export function isLoopback(host: string): boolean {
  return /^127\.\d+\.\d+\.\d+$|^::1$|^::ffff:127\.|^localhost$/.test(host);
}
