/**
 * The arguments and answers of the verbs, synchronous and promised: their types, and the only checks on them. All
 * checks throw `ERR_INVALID_ARGUMENT`.
 */
import { types } from 'node:util';
import { CairnError, CairnRangeError, CairnTypeError, outOfRange, show, wrongType } from '../errors.ts';
import { KEY_BYTES_MAX } from '../limits.ts';
import type { Duration } from '../options.ts';
import { copyOfBytes, isReadable, unreadable } from './bytes.ts';
import { bytesOf, isWellFormed, type ValueKind } from './codec.ts';

/**
 * A key: text or bytes, 1 to 65,536 bytes long; for use through the port at most 250. `'a'` and `Buffer.from('a')` are
 * the same key.
 */
export type Key = string | Uint8Array;

/** The answer of `set`, `add`, `replace`, `append` and `prepend`. */
export type StoreResult = 'stored' | 'not-stored';

/** The answer of `cas`. */
export type CasResult = 'stored' | 'exists' | 'not-found' | 'not-stored';

/** An entry's value with its version. */
export interface ValueWithCas<V> {
  value: V;
  /** The entry's version: different after every change of the entry. */
  cas: bigint;
}

/** The answer of `info()`. */
export interface EntryInfo {
  /** The kind of the value. */
  kind: ValueKind;
  /** The size of the stored value in bytes. */
  bytes: number;
  /** Milliseconds until the entry expires; `Infinity`: it does not expire. */
  ttl: number;
  /** The entry's version, for `cas()`. */
  cas: bigint;
  /** The 32-bit flags of the memcached client that stored the value; 0 for values stored by this API. */
  flags: number;
  /** Whether the entry was read since it was stored. */
  fetched: boolean;
  /** Seconds since the entry was last read or stored; undefined unless the cache was made with `trackAccess`. */
  idleSeconds: number | undefined;
}

/** Options of `incr` and `decr`. */
export interface ArithmeticOptions {
  /** The number to store if there is no entry, without adding the delta. Default: none is stored. */
  initial?: number | bigint;
  /**
   * Time to live of an entry that is stored with `initial`. Default: the cache's `ttl`. A present entry keeps its own.
   */
  ttl?: Duration;
}

/** The error for a key that the store refuses. */
export function keyError(key: unknown): Error {
  if (typeof key === 'string' || types.isUint8Array(key)) {
    if (typeof key !== 'string' && !isReadable(key)) {
      return wrongType('key', 'bytes whose memory was not transferred to another thread', key);
    }
    if (typeof key === 'string' && !isWellFormed(key)) return outOfRange('key', 'text without lone surrogates', key);
    const bytes = bytesOf(key);
    if (bytes <= KEY_BYTES_MAX) return outOfRange('key', `1 to ${KEY_BYTES_MAX} bytes long`, key);
    return new CairnRangeError(
      'ERR_INVALID_ARGUMENT',
      `Expected key to be 1 to ${KEY_BYTES_MAX} bytes long, got ${bytes}: ${show(key)}`,
    );
  }
  if (typeof key === 'number' || typeof key === 'bigint') {
    return new CairnTypeError(
      'ERR_INVALID_ARGUMENT',
      `Expected key to be a string, Buffer or Uint8Array, got ${show(key)}: write String(${key}) if that is the key`,
    );
  }
  return wrongType('key', 'a string, Buffer or Uint8Array', key);
}

/** The error for a value that is too large for the cache; `got`: its size, if known. */
export function tooLargeError(key: Key, bytesMax: number, got: number | string | undefined): CairnRangeError {
  return new CairnRangeError(
    'ERR_VALUE_TOO_LARGE',
    `Expected the value of ${show(key)} to be at most ${bytesMax} bytes (maxValueBytes)${got === undefined ? '' : `, got ${got}`}`,
  );
}

/**
 * The error of an update for whose value there is no memory: retrying at once is useless.
 */
export function noRoomToUpdate(key: Key): CairnError {
  return new CairnError(
    'ERR_OUT_OF_MEMORY',
    `Cannot update ${show(key)}: there is no room for its value now, because values that are being read or received hold it`,
  );
}

/** The error of an update that met a change of another thread or client at each try. */
export function changedTooOften(key: Key, tries: number): CairnError {
  return new CairnError('ERR_TIMEOUT', `Gave up updating ${show(key)}: others changed it ${tries} times`);
}

/** The bytes of a key with U+FFFD; throws if that stands for a lone surrogate. */
export function keyBytes(key: Key): Buffer {
  if (typeof key === 'string' && isWellFormed(key)) return Buffer.from(key, 'utf8');
  throw keyError(key);
}

/** The argument of `append` and `prepend`. */
export function checkPiece(piece: unknown): string | Uint8Array {
  if (typeof piece === 'string') return piece;
  // As a Buffer, because an instance of a user's subclass is not plain bytes.
  if (types.isUint8Array(piece)) {
    if (!isReadable(piece)) throw unreadable('piece');
    return Buffer.from(piece.buffer, piece.byteOffset, piece.byteLength);
  }
  throw wrongType('piece', 'a string, Buffer or Uint8Array', piece);
}

/** A version. */
export function checkCas(cas: unknown): bigint {
  if (typeof cas !== 'bigint') throw wrongType('cas', 'a bigint from getWithCas() or info()', cas);
  if (cas < 0n || cas >= 2n ** 64n) throw outOfRange('cas', 'a bigint from getWithCas() or info()', cas);
  return cas;
}

/** A delta or an initial number. */
export function checkAmount(name: string, value: unknown): number | bigint {
  if (typeof value === 'number') {
    if (Number.isSafeInteger(value) && value >= 0) return value;
    const hint = value < 0 && name === 'by' ? ': decr() subtracts' : '';
    throw new CairnRangeError(
      'ERR_INVALID_ARGUMENT',
      `Expected ${name} to be a non-negative integer up to 2^53 - 1, or a bigint, got ${show(value)}${hint}`,
    );
  }
  if (typeof value === 'bigint') {
    if (value >= 0n && value < 2n ** 64n) return value;
    throw outOfRange(name, 'a bigint from 0 to 2^64 - 1', value);
  }
  throw wrongType(name, 'a non-negative integer or bigint', value);
}

/** An iterable. */
export function iterable<T>(name: string, value: Iterable<T>): Iterable<T> {
  if (value === null || value === undefined || typeof value[Symbol.iterator] !== 'function') {
    throw wrongType(name, 'iterable', value);
  }
  return value;
}

/** Keys as an array; the given one, if it is an array. */
export function asArray(name: string, keys: Iterable<Key>): Key[] {
  if (Array.isArray(keys)) return keys as Key[];
  if (typeof keys === 'string') throw wrongType(name, 'an array or other iterable of keys', keys);
  return Array.from(iterable(name, keys), copyOfBytes);
}

/**
 * Pairs of key and value as an array, each checked to be a pair. A generator may reuse a buffer for its next pair (for
 * example, one that reads a file), so its bytes are copied.
 */
export function pairsOf<V>(entries: Iterable<readonly [Key, V]>): readonly (readonly [Key, V])[] {
  const holdsAll = Array.isArray(entries) || types.isMap(entries);
  const pairs: (readonly [Key, V])[] = [];
  for (const entry of iterable('entries', entries)) {
    if (!Array.isArray(entry) || entry.length !== 2) throw wrongType('each entry', '[key, value]', entry);
    const pair = entry as unknown as readonly [Key, V];
    pairs.push(holdsAll ? pair : [copyOfBytes(pair[0]), copyOfBytes(pair[1])]);
  }
  return pairs;
}
