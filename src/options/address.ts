/** Addresses to listen on, as `serve` and the command line take them: `memory:[::1]:11212`. */
import { outOfRange, show, wrongType } from '../errors.ts';
import type { Check } from './kinds.ts';
import type { AckLevel, TlsVerify } from './types.ts';

/** An address that was given, in its parts. */
export interface GivenAddress {
  /** As it was given. */
  readonly text: string;
  readonly level: AckLevel | undefined;
  /** What is said about TLS there; undefined: nothing, so that it is as elsewhere. */
  readonly tls: 'off' | TlsVerify | undefined;
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

/** What may stand in front of an address, each once: its level, and its TLS by memcached's names. */
const PREFIX = /^(memory|logged|stored|notls|btls|mtls):(?!\d{1,5}$)(.+)$/;
const TLS: Readonly<Record<string, 'off' | TlsVerify>> = { notls: 'off', btls: 'none', mtls: 'require' };

/**
 * `host`, `host:port` or `[v6 address]:port`, with prefixes in front or without; a v6 address without a port may stand
 * without its brackets. `memory:11211` is a machine of that name.
 */
function addressOf(text: unknown, name: string): GivenAddress {
  if (typeof text !== 'string') throw wrongType(name, 'a string', text);
  let address = text;
  let level: AckLevel | undefined;
  let tls: GivenAddress['tls'];
  for (;;) {
    const [, prefix = '', rest] = PREFIX.exec(address) ?? [];
    if (rest === undefined) break;
    const isTls = prefix in TLS;
    if ((isTls ? tls : level) !== undefined) {
      throw outOfRange(name, `an address with one ${isTls ? 'word about TLS' : 'level'}`, text);
    }
    if (isTls) tls = TLS[prefix];
    else level = prefix as AckLevel;
    address = rest;
  }
  const parts = { text, level, tls };
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
