/**
 * The value codec: encodes a JavaScript value as bytes of a kind, and back. Every kind round-trips exactly;
 * docs/values.md has the table.
 *
 * | value                                   | codec              | bytes                          |
 * |-----------------------------------------|--------------------|--------------------------------|
 * | string                                  | ascii, utf8, wtf8  | the text                       |
 * | number                                  | number             | decimal text                   |
 * | bigint                                  | bigint             | decimal text                   |
 * | boolean, null, plain data               | json               | JSON text, where that is exact |
 * | Buffer, Uint8Array                      | raw                | the bytes                      |
 * | everything else that structured clone takes | structured     | V8's format                    |
 *
 * Bytes from the port are always raw: nothing that a client sends selects a decoder.
 */
import { types } from 'node:util';
import { CairnError, CairnTypeError, reasonOf } from '../errors.ts';
import { JSON_DEPTH_MAX } from '../limits.ts';
import type { RawOption } from '../options.ts';
import { isReadable, unreadable } from './bytes.ts';
import { deserializeClone, serializeClone } from './clone.ts';
import { describe, notStorable } from './not-storable.ts';

/** The kinds of bytes; native/store/request.h and every record have the same numbers. */
export const Codec = {
  raw: 0,
  ascii: 1,
  utf8: 2,
  wtf8: 3,
  number: 4,
  bigint: 5,
  json: 6,
  structured: 7,
} as const;
export type Codec = (typeof Codec)[keyof typeof Codec];

/** The codec of text whose kind the addon determines. */
export const TEXT_CODEC = 0xfc;

/** The names of the kinds in `info()`. */
export const CODEC_NAMES: readonly ValueKind[] = [
  'bytes',
  'text',
  'text',
  'text',
  'number',
  'bigint',
  'json',
  'structured',
];

/** The kind of a stored value; see docs/values.md. */
export type ValueKind = 'bytes' | 'text' | 'number' | 'bigint' | 'json' | 'structured';

/** An encoded value, filled by {@link encode}, which is called too often to make a new one each time. */
export interface Encoded {
  payload: string | Uint8Array;
  codec: number;
}

/**
 * Encodes a value. Throws `ERR_VALUE_NOT_STORABLE`, which names the part that cannot be stored and its place. Text gets
 * {@link TEXT_CODEC}: it may have lone surrogates, which only {@link textCodec} detects.
 */
export function encode(value: unknown, into: Encoded): void {
  switch (typeof value) {
    case 'string':
      into.payload = value;
      into.codec = TEXT_CODEC;
      return;
    case 'number':
      into.payload = value === 0 && 1 / value < 0 ? '-0' : String(value);
      into.codec = Codec.number;
      return;
    case 'bigint':
      into.payload = String(value);
      into.codec = Codec.bigint;
      return;
    case 'boolean':
      into.payload = value ? 'true' : 'false';
      into.codec = Codec.json;
      return;
    case 'object':
      encodeObject(value, into);
      return;
    case 'undefined':
      throw new CairnTypeError(
        'ERR_INVALID_ARGUMENT',
        'Expected value to be something that can be stored, got undefined: to remove an entry use delete(key), to store nothing use null',
      );
    default:
      throw notStorable(`Expected value to be data, got ${describe(value)}`);
  }
}

/**
 * The codec of text with U+FFFD or a lone surrogate: UTF-8 if the text is well-formed, otherwise WTF-8, as which this
 * encodes it.
 */
export function encodeDoubtfulText(text: string, into: Encoded): void {
  if (isWellFormed(text)) {
    into.payload = Buffer.from(text, 'utf8');
    into.codec = Codec.utf8;
  } else {
    into.payload = wtf8Encode(text);
    into.codec = Codec.wtf8;
  }
}

/** The size of a payload of encode(). */
export function bytesOf(payload: unknown): number {
  return typeof payload === 'string' ? Buffer.byteLength(payload) : (payload as Uint8Array).byteLength;
}

const LONE_SURROGATE = /\p{Surrogate}/u;

/** True if the string has no lone surrogates. */
export function isWellFormed(text: string): boolean {
  return !LONE_SURROGATE.test(text);
}

function encodeObject(value: object | null, into: Encoded): void {
  if (value === null) {
    into.payload = 'null';
    into.codec = Codec.json;
    return;
  }
  if (types.isUint8Array(value) && isPlainBytes(value)) {
    if (!isReadable(value)) throw unreadable('value');
    into.payload = value;
    into.codec = Codec.raw;
    return;
  }
  if (isExactJson(value, 0, undefined)) {
    into.payload = JSON.stringify(value);
    into.codec = Codec.json;
    return;
  }
  into.payload = serializeClone(value);
  into.codec = Codec.structured;
}

// Buffers, and instances of Uint8Array itself. Only a realm's own prototype has the constant as its own property; a
// subclass's has not.
function isPlainBytes(value: Uint8Array): boolean {
  if (Buffer.isBuffer(value)) return true;
  const prototype: unknown = Object.getPrototypeOf(value);
  return (
    prototype === Uint8Array.prototype ||
    (typeof prototype === 'object' && prototype !== null && Object.hasOwn(prototype, 'BYTES_PER_ELEMENT'))
  );
}

/**
 * True if `JSON.parse(JSON.stringify(value))` is the value again: plain objects and arrays of strings, finite numbers
 * but -0, booleans and null; no holes, no undefined, nothing twice. (JSON writes lone surrogates as escapes: they
 * survive.) Losses of JSON that structured clone has too, such as symbol keys or a prototype, do not count against
 * JSON.
 */
function isExactJson(value: object, depth: number, seen: Set<object> | undefined): boolean {
  if (depth > JSON_DEPTH_MAX) return false;
  if (Array.isArray(value)) {
    if (!isArrayPrototype(Object.getPrototypeOf(value)) || hasToJson(value)) return false;
    let held = seen;
    for (let i = 0; i < value.length; i++) {
      const element: unknown = value[i];
      if (typeof element === 'object' && element !== null) {
        held ??= new Set([value]);
        if (!isFreshExactJson(element, depth, held)) return false;
      } else if (!isExactPrimitive(element)) {
        return false; // also undefined, as which a hole is read
      }
    }
    // An array may have named properties, as the result of a match has.
    return Object.keys(value).length === value.length;
  }
  const prototype = Object.getPrototypeOf(value);
  if (prototype !== Object.prototype && prototype !== null && !isPlainPrototype(prototype) && !isDataInstance(value)) {
    return false;
  }
  if (types.isProxy(value) || hasToJson(value)) return false;
  let held = seen;
  // Three times faster than Object.keys. It returns inherited properties too, which at worst select structured clone.
  for (const key in value) {
    const member: unknown = (value as Record<string, unknown>)[key];
    if (typeof member === 'object' && member !== null) {
      held ??= new Set([value]);
      if (!isFreshExactJson(member, depth, held)) return false;
    } else if (!isExactPrimitive(member)) {
      return false;
    }
  }
  return true;
}

// Arrays of other realms (vm contexts, test runners) count too. Array.prototype is an array; the prototype of a
// subclass is not.
function isArrayPrototype(prototype: unknown): boolean {
  return prototype === Array.prototype || Array.isArray(prototype);
}

// The Object.prototype of another realm.
function isPlainPrototype(prototype: object): boolean {
  return Object.getPrototypeOf(prototype) === null && Object.hasOwn(prototype, 'hasOwnProperty');
}

// JSON.stringify would call it, also if it comes from an extended prototype.
function hasToJson(value: object): boolean {
  return typeof (value as { toJSON?: unknown }).toJSON === 'function';
}

// An instance of a class with properties only, such as the row of a database client. Structured clone would make the
// same plain object of it. An instance without properties keeps its data elsewhere.
function isDataInstance(value: object): boolean {
  return (
    Object.prototype.toString.call(value) === '[object Object]' && !('toJSON' in value) && Object.keys(value).length > 0
  );
}

function isFreshExactJson(value: object, depth: number, seen: Set<object>): boolean {
  if (seen.has(value)) return false; // JSON would write it twice, or never end
  seen.add(value);
  return isExactJson(value, depth + 1, seen);
}

function isExactPrimitive(value: unknown): boolean {
  switch (typeof value) {
    case 'string':
    case 'boolean':
      return true;
    case 'number':
      return Number.isFinite(value) && (value !== 0 || 1 / value > 0);
    case 'object':
      return true; // null
    default:
      return false;
  }
}

// ---- decoding ----

/**
 * Methods that every Buffer has since Node 0.x, without typings: faster than `toString(encoding, start, end)` and
 * `write`. A separate interface, because an addition to Buffer would reach the users' programs too.
 */
export interface FastBuffer extends Buffer {
  latin1Slice(start: number, end: number): string;
  utf8Slice(start: number, end: number): string;
  utf8Write(text: string, offset?: number, length?: number): number;
}

/**
 * Decodes `buffer[start, end)`, which the caller may overwrite afterwards. `raw` and `flags` are for codec raw. Throws
 * `ERR_VALUE_MALFORMED` if the bytes do not fit the codec.
 */
export function decode(
  codec: number,
  buffer: Buffer,
  start: number,
  end: number,
  raw: RawOption,
  flags: number,
): unknown {
  const bytes = buffer as FastBuffer;
  try {
    switch (codec) {
      case Codec.ascii:
        return bytes.latin1Slice(start, end);
      case Codec.utf8:
        return bytes.utf8Slice(start, end);
      case Codec.wtf8:
        return wtf8Decode(bytes.subarray(start, end) as FastBuffer);
      case Codec.number:
        return Number(bytes.latin1Slice(start, end));
      case Codec.bigint:
        return BigInt(bytes.latin1Slice(start, end));
      case Codec.json:
        return JSON.parse(bytes.utf8Slice(start, end));
      case Codec.structured:
        // V8 makes typed arrays over the memory that it reads, so they need their own copy.
        return deserializeClone(copyOf(bytes, start, end));
      case Codec.raw:
        return decodeRaw(bytes, start, end, raw, flags);
    }
  } catch (error) {
    if (codec === Codec.raw && typeof raw === 'function') throw error; // The user's own.
    if (isStackOverflow(error)) throw error; // The value is sound: the caller has too little stack left.
    const what = codec === Codec.raw ? 'raw bytes' : `a value of kind ${CODEC_NAMES[codec]}`;
    throw new CairnError('ERR_VALUE_MALFORMED', `Cannot decode ${what} of ${end - start} bytes: ${reasonOf(error)}`, {
      cause: error,
    });
  }
  throw new CairnError('ERR_VALUE_MALFORMED', `Cannot decode a value of codec ${codec}`);
}

function isStackOverflow(error: unknown): boolean {
  return error instanceof RangeError && /call stack/.test(error.message);
}

function decodeRaw(bytes: FastBuffer, start: number, end: number, raw: RawOption, flags: number): unknown {
  switch (raw) {
    case 'buffer':
      return copyOf(bytes, start, end);
    case 'string':
      return bytes.utf8Slice(start, end);
    case 'json':
      return JSON.parse(bytes.utf8Slice(start, end));
    default:
      return raw(copyOf(bytes, start, end), flags);
  }
}

function copyOf(bytes: Buffer, start: number, end: number): Buffer {
  const copy = Buffer.allocUnsafe(end - start);
  bytes.copy(copy, 0, start, end);
  return copy;
}

// ---- WTF-8: UTF-8 that also has the three bytes of lone surrogates (Simon Sapin, "The WTF-8 encoding") ----

function wtf8Encode(text: string): Buffer {
  const pieces: Buffer[] = [];
  // With the u flag a pair is one character, so only lone surrogates split here; each is at an odd index.
  for (const [index, piece] of text.split(/(\p{Surrogate})/u).entries()) {
    if (index % 2 === 0) {
      pieces.push(Buffer.from(piece, 'utf8'));
    } else {
      const unit = piece.charCodeAt(0);
      pieces.push(Buffer.from([0xe0 | (unit >> 12), 0x80 | ((unit >> 6) & 0x3f), 0x80 | (unit & 0x3f)]));
    }
  }
  return Buffer.concat(pieces);
}

function wtf8Decode(bytes: FastBuffer): string {
  let text = '';
  let start = 0;
  let at = bytes.indexOf(0xed);
  while (at >= 0) {
    const second = bytes[at + 1];
    const third = bytes[at + 2];
    // ED 80..9F is an ordinary character; ED A0..BF a surrogate.
    if (second !== undefined && third !== undefined && second >= 0xa0) {
      text += bytes.utf8Slice(start, at) + String.fromCharCode(0xd000 | ((second & 0x3f) << 6) | (third & 0x3f));
      start = at + 3;
    }
    at = bytes.indexOf(0xed, at + 3);
  }
  return text + bytes.utf8Slice(start, bytes.length);
}
