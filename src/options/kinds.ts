/** The kinds of options: what each takes, and what it is without. All checks throw `ERR_INVALID_ARGUMENT`. */
import { resolve } from 'node:path';
import { BACKEND_SCHEMES, checkBackend, schemeOf } from '../backend/index.ts';
import { misplaced, outOfRange, wrongType } from '../errors.ts';
import { LANES_MAX, LOG_SYNC_MS_MAX, NAME_LENGTH_MAX, SHARD_COUNT_MAX, TIMER_MS_MAX } from '../limits.ts';
import { checkBoolean, checkChoice, checkInteger } from './check.ts';
import type { RawOption, StoreTarget, SyncPolicy } from './types.ts';
import { durationOf, parseDuration, parseSize } from './units.ts';

/** Makes what is used of what was given; `undefined`: nothing was. `usableMemory` is asked for what `'25%'` is of. */
export type Check<T> = (given: unknown, name: string, usableMemory: () => number) => T;

/** A size within bounds; `without`: what it is if none is given, which need not be within them. */
export function size({ without, min, max }: { without: number; min?: number; max?: number }): Check<number> {
  return (given, name, usableMemory) => {
    if (given === undefined) return without;
    const bytes = parseSize(name, given, without, usableMemory);
    if (bytes >= (min ?? 1) && bytes <= (max ?? Number.MAX_SAFE_INTEGER)) return bytes;
    const range =
      max === undefined ? `at least ${sizeName(min!)}` : `between ${sizeName(min ?? 1)} and ${sizeName(max)}`;
    throw outOfRange(name, range, given);
  };
}

/** A size; 0, and nothing: none. */
export const sizeOrNone: Check<number> = (given, name, usableMemory) =>
  given === 0 || given === '0' ? 0 : parseSize(name, given, 0, usableMemory);

/** A size on the disk: a share of the memory says nothing about it. */
export function fileSize(bounds: { without: number; min?: number; max?: number }): Check<number> {
  const check = size(bounds);
  return (given, name) => {
    if (typeof given === 'string' && given.includes('%')) {
      throw outOfRange(name, 'a positive integer of bytes, or text such as "512mb"', given);
    }
    return check(given, name, () => 0);
  };
}

function sizeName(bytes: number): string {
  if (bytes === 1) return '1 byte';
  const power = [30, 20, 10].find((each) => bytes % 2 ** each === 0) ?? 0;
  return `${bytes / 2 ** power}${{ 30: 'gb', 20: 'mb', 10: 'kb', 0: '' }[power]}`;
}

/** Text; without any, none. */
export function text(what: string): Check<string> {
  return (given, name) => {
    if (given === undefined) return '';
    if (typeof given !== 'string') throw wrongType(name, what, given);
    return given;
  };
}

/** One byte; without any, none. */
export const character: Check<string> = (given, name) => {
  if (given === undefined) return '';
  if (typeof given !== 'string') throw wrongType(name, 'a character', given);
  if (!/^[!-~]$/.test(given)) throw outOfRange(name, 'one visible character of ASCII', given);
  return given;
};

/** Milliseconds. */
export function duration(without: number): Check<number> {
  return (given, name) => parseDuration(name, given, without);
}

/** Milliseconds that a timer can wait for. */
export function timer(without: number, min = 0, max: number = TIMER_MS_MAX): Check<number> {
  return (given, name) => {
    const ms = parseDuration(name, given, without);
    if (given === undefined) return ms;
    if (ms < min || ms > max) throw outOfRange(name, `between ${min} ms and ${max} ms`, given);
    return ms;
  };
}

export function integer({ without, min, max }: { without: number; min: number; max?: number }): Check<number> {
  return (given, name) => checkInteger(name, given, min, max ?? Number.MAX_SAFE_INTEGER, without);
}

export function choice<T extends string>(choices: readonly T[], without: T): Check<T> {
  return (given, name) => checkChoice(name, given, choices, without);
}

export function yesOrNo(without: boolean): Check<boolean> {
  return (given, name) => checkBoolean(name, given, without);
}

/** A function; undefined: there is none. */
export function callback<F>(what: string): Check<F | undefined> {
  return (given, name) => {
    if (given !== undefined && typeof given !== 'function') throw wrongType(name, what, given);
    return given as F | undefined;
  };
}

/** A limit on entries; 0: there is none, for `Infinity` too. */
export const entries: Check<number> = (given, name) =>
  given === Number.POSITIVE_INFINITY ? 0 : checkInteger(name, given, 1, Number.MAX_SAFE_INTEGER, 0);

/** 0: chosen. */
export const shards: Check<number> = (given, name) => {
  const count = checkInteger(name, given, 1, SHARD_COUNT_MAX, 0);
  if ((count & (count - 1)) !== 0) throw outOfRange(name, `a power of two up to ${SHARD_COUNT_MAX}`, given);
  return count;
};

export const lanes: Check<number> = (given, name) => {
  const count = checkInteger(name, given, 1, LANES_MAX, 1);
  if ((count & (count - 1)) !== 0) throw outOfRange(name, `a power of two up to ${LANES_MAX}`, given);
  return count;
};

/** The name of a cache. */
export const nameOfCache: Check<string> = (given, name) => {
  if (typeof given !== 'string') throw wrongType(name, 'a string', given);
  if (given === '' || given.length > NAME_LENGTH_MAX) {
    throw outOfRange(name, `a string of 1 to ${NAME_LENGTH_MAX} characters`, given);
  }
  if (/[\p{Cc}\p{Surrogate}]/u.test(given)) throw outOfRange(name, 'text without control characters', given);
  return given;
};

export const raw: Check<RawOption> = (given, name) => {
  if (given === undefined) return 'buffer';
  if (given === 'buffer' || given === 'string' || given === 'json' || typeof given === 'function') {
    return given as RawOption;
  }
  throw wrongType(name, "'buffer', 'string', 'json' or a function", given);
};

/** The whole path; undefined: there is none. */
export const directory: Check<string | undefined> = (given, name) => {
  if (given === undefined) return undefined;
  if (typeof given !== 'string' || given === '') throw wrongType(name, 'a directory', given);
  return resolve(given);
};

/** The whole path; undefined: there is none. */
export const file: Check<string | undefined> = (given, name) => {
  if (given === undefined) return undefined;
  if (typeof given !== 'string' || given === '') throw wrongType(name, 'the path of a file', given);
  if (given.includes('\0')) throw misplaced(`The option ${name} is no path: it has a zero in it`);
  return resolve(given);
};

export const syncPolicy: Check<SyncPolicy> = (given, name) => {
  if (given === undefined) return 'always';
  if (given === 'always' || given === 'none') return given;
  const ms = typeof given === 'string' ? durationOf(given) : undefined;
  if (ms !== undefined && ms >= 1 && ms <= LOG_SYNC_MS_MAX) return `${ms}ms`;
  throw (typeof given === 'string' ? outOfRange : wrongType)(
    name,
    "'always', 'none' or an interval such as '10ms', from 1 ms to an hour",
    given,
  );
};

/** What `sockaddr_un` has room for, less the zero at the end: 108 bytes on Linux, 104 elsewhere. */
const SOCKET_PATH_BYTES_MAX = process.platform === 'linux' ? 107 : 103;

/** A longer path is cut by Node without a word, and listened on there. */
export const socketPath: Check<string | undefined> = (given, name) => {
  if (given === undefined) return undefined;
  if (typeof given !== 'string') throw wrongType(name, 'a string', given);
  if (given === '' || given.includes('\0')) throw outOfRange(name, 'the path of a socket', given);
  const bytes = Buffer.byteLength(given);
  if (process.platform === 'win32' || bytes <= SOCKET_PATH_BYTES_MAX) return given;
  throw outOfRange(name, `at most ${SOCKET_PATH_BYTES_MAX} bytes long, the most that the system takes`, bytes);
};

/** The database behind a cache; undefined: there is none. */
export const store: Check<StoreTarget | undefined> = (given, name) => {
  if (given === undefined) return undefined;
  if (typeof given === 'object' && given !== null) {
    checkBackend(given, name);
    return { kind: 'object', backend: given, name: given.name };
  }
  if (typeof given !== 'string' || given === '') {
    throw wrongType(name, 'the address of a database, the path of a module, or a Backend', given);
  }
  const scheme = schemeOf(given);
  const expected = `the path of a module, or an address with ${BACKEND_SCHEMES.join(' or ')}`;
  if (scheme === undefined) {
    // An address whose colon is missing: its password is not shown as a path.
    if (/\/\/[^/]*:[^/]*@/.test(given)) throw outOfRange(name, expected, '//...');
    const path = resolve(given);
    return { kind: 'address', address: path, name: path };
  }
  if (scheme !== 'file' && !BACKEND_SCHEMES.includes(`${scheme}:`)) {
    throw outOfRange(name, expected, `${scheme}:...`);
  }
  return { kind: 'address', address: given, name: nameOfAddress(given, scheme) };
};

/** Their addresses are paths, without a user. */
const IN_FILES: readonly string[] = ['file', 'lmdb', 'sqlite'];

// Without credentials, which a parameter may be too: only those of Cairn are kept, since they choose the tables.
function nameOfAddress(address: string, scheme: string): string {
  const [, start = '', rest = ''] = /^([^:]+:(?:\/\/)?)(?:[^/?#]*@)?(.*)$/s.exec(address) ?? [];
  // A password that has `/`, `?` or `#` as they are ends at a later `@`: no part of the address can be told from it.
  if (rest.includes('@') && !IN_FILES.includes(scheme)) return `${start}...`;
  const [, place, query = ''] = /^([^?#]*)(?:\?([^#]*))?/.exec(rest) ?? [];
  const tables = [...new URLSearchParams(query)].filter(([parameter]) => ['schema', 'prefix'].includes(parameter));
  return `${start}${place}${tables.length === 0 ? '' : `?${new URLSearchParams(tables)}`}`;
}
