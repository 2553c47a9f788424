/**
 * The encoding of a batch in both directions: requests into a block, answers out of it. native/addon/batch_binding.h
 * draws the layout and has the same numbers; the addon checks the first word of every block.
 *
 * A block is memory that the sender and the lane's thread both see. One side at a time uses it: the sender until it
 * posts the batch, then the lane's thread until it answers. A request is written straight into it and its answer read
 * straight out of it, so a promised call allocates only its promise.
 *
 * A value that is too large for a block travels beside it, in its own piece (a transferred ArrayBuffer).
 */
import { endianness } from 'node:os';
import { isUint8Array } from 'node:util/types';
import { Codec, type Encoded, encodeDoubtfulText, type FastBuffer, isWellFormed, TEXT_CODEC } from './codec.ts';

export const BATCH_BLOCK_BYTES: number = 256 * 1024;
export const BATCH_ROWS_MAX: number = 2048;
/**
 * Values up to this size are in the block. An empty block has room for one such request with the longest key and every
 * field, or for hundreds of ordinary requests.
 */
export const VALUE_BYTES_INLINE_MAX: number = 16 * 1024;

const HEADER_BYTES = 64;
const REQUESTS_END = 96 * 1024;
const ROW_BYTES = 56;
const MAGIC = 0x43420005;

// Words of the header.
const WORD_MAGIC = 0;
const WORD_REQUEST_COUNT = 1;
const WORD_REQUESTS_END = 2;
const WORD_ROWS_DONE = 3;

/** The verbs of the store; native/store/request.h has the same numbers. */
export const Verb = {
  get: 0,
  peek: 1,
  has: 2,
  set: 3,
  add: 4,
  replace: 5,
  append: 6,
  prepend: 7,
  cas: 8,
  incr: 9,
  decr: 10,
  touch: 11,
  getAndTouch: 12,
  delete: 13,
  take: 14,
  evict: 15,
  /** A request that its caller withdrew before it was sent. */
  nothing: 255,
} as const;
export type Verb = (typeof Verb)[keyof typeof Verb];

const FLAG_TTL = 1;
const FLAG_COMPARE = 2;
const FLAG_DELTA = 4;
const FLAG_INITIAL = 8;
const FLAG_PIECE = 16;
const FLAG_KEEP_EXPIRY = 32;
const FLAG_HOLD = 64;

const REQUEST_HEADER_BYTES = 16;
// The header, five 64-bit fields, and the padding before the next request.
const REQUEST_OVERHEAD_BYTES_MAX = REQUEST_HEADER_BYTES + 5 * 8 + 3;

/** As `ttl` of a request: keeps the entry's expiry. */
export const KEEP_EXPIRY = -1;

const LITTLE_ENDIAN: boolean = endianness() === 'LE';
const TWO_32 = 2 ** 32;

/** The optional 64-bit fields of a request. */
export interface RequestFields {
  /** Milliseconds from the time of storing; 0: never expires; KEEP_EXPIRY. Missing: the cache's time to live. */
  readonly ttl?: number | undefined;
  readonly compare?: bigint | undefined;
  readonly delta?: bigint | undefined;
  readonly initial?: bigint | undefined;
  /** `initial` is stored as a bigint instead of a number. */
  readonly initialIsBigInt?: boolean | undefined;
  /** The answer says which version must be in the log before the caller may see it. */
  readonly hold?: boolean | undefined;
}

/** The bytes of a value from a lane: `bytes[start, end)`. */
export interface ValueBytes {
  readonly bytes: Buffer;
  readonly start: number;
  readonly end: number;
  /** No other value shares these bytes: they may be kept without a copy. */
  readonly isOwn: boolean;
}

/** A value that is too large for a block: it fills its own ArrayBuffer. */
interface Piece {
  readonly bytes: Uint8Array<ArrayBuffer>;
  readonly codec: number;
}

export class Block {
  readonly memory: SharedArrayBuffer = new SharedArrayBuffer(BATCH_BLOCK_BYTES);
  readonly #bytes: FastBuffer = Buffer.from(this.memory) as unknown as FastBuffer;
  readonly #words: Uint32Array = new Uint32Array(this.memory);
  readonly #words64: BigUint64Array = new BigUint64Array(this.memory);
  #end = HEADER_BYTES;
  #pieces: Uint8Array<ArrayBuffer>[] = [];
  #pieceBytes = 0;
  #rowCount = 0;

  /** Requests in it. */
  get rowCount(): number {
    return this.#rowCount;
  }

  /** The bytes of its requests, including values outside of the block. */
  get requestBytes(): number {
    return this.#end - HEADER_BYTES + this.#pieceBytes;
  }

  /** Values outside of the block, transferred with it. */
  get pieces(): readonly Uint8Array<ArrayBuffer>[] {
    return this.#pieces;
  }

  /**
   * Whether there is room for a request with a key of this size and an inline value of at most `valueBytesMax` bytes.
   */
  hasRoom(keyBytes: number, valueBytesMax: number): boolean {
    return (
      this.#rowCount < BATCH_ROWS_MAX &&
      this.#end + REQUEST_OVERHEAD_BYTES_MAX + keyBytes + valueBytesMax <= REQUESTS_END
    );
  }

  /** Forgets all requests. */
  reset(): void {
    this.#end = HEADER_BYTES;
    this.#rowCount = 0;
    if (this.#pieces.length > 0) this.#pieces = [];
    this.#pieceBytes = 0;
  }

  // Each of these appends one request and returns its row. REQUIRES: hasRoom() for it.

  /** A request without a value. */
  append(verb: Verb, key: StagedKey, fields: RequestFields | undefined): number {
    const start = this.#end;
    const at = this.#putKey(start, verb, key, fields, undefined);
    // The codec with which `initial` is stored.
    if (verb === Verb.incr || verb === Verb.decr) {
      this.#bytes[start + 1] = fields?.initialIsBigInt === true ? Codec.bigint : Codec.number;
    }
    return this.#finish(start, at, at);
  }

  /** A request with a value, as encode() left it. */
  appendValue(verb: Verb, key: StagedKey, value: Encoded, fields: RequestFields | undefined): number {
    const { payload, codec } = value;
    if (typeof payload !== 'string') return this.#appendBytes(verb, key, payload, codec, fields);
    if (textRoom(payload) < 0) return this.#appendPiece(verb, key, textPiece(payload, codec), fields);
    const start = this.#end;
    const at = this.#putKey(start, verb, key, fields, undefined);
    const written = this.#bytes.utf8Write(payload, at);
    let found = codec;
    if (codec === TEXT_CODEC) {
      found = written === payload.length ? Codec.ascii : Codec.utf8;
      if (found === Codec.utf8 && !isWellFormed(payload)) {
        // The same number of bytes, because U+FFFD, which replaces a lone surrogate, has three bytes too.
        found = Codec.wtf8;
        this.#bytes.set(doubtful(payload).bytes, at);
      }
    }
    this.#bytes[start + 1] = found;
    return this.#finish(start, at, at + written);
  }

  #appendBytes(
    verb: Verb,
    key: StagedKey,
    bytes: Uint8Array,
    codec: number,
    fields: RequestFields | undefined,
  ): number {
    if (bytes.byteLength > VALUE_BYTES_INLINE_MAX) {
      const copy = new Uint8Array(bytes.byteLength);
      copy.set(bytes);
      return this.#appendPiece(verb, key, { bytes: copy, codec }, fields);
    }
    const start = this.#end;
    const at = this.#putKey(start, verb, key, fields, undefined);
    this.#bytes[start + 1] = codec;
    this.#bytes.set(bytes, at);
    return this.#finish(start, at, at + bytes.byteLength);
  }

  #appendPiece(verb: Verb, key: StagedKey, piece: Piece, fields: RequestFields | undefined): number {
    const start = this.#end;
    const at = this.#putKey(start, verb, key, fields, this.#pieces.length);
    this.#bytes[start + 1] = piece.codec;
    this.#pieces.push(piece.bytes);
    this.#pieceBytes += piece.bytes.byteLength;
    return this.#finish(start, at, at);
  }

  /** Turns the requests of these rows, in ascending order, into no-ops. Called before the block is sent. */
  withdraw(rows: readonly number[]): void {
    let at = HEADER_BYTES;
    let row = 0;
    for (const wanted of rows) {
      for (; row < wanted; row++) at = this.#endOf(at);
      this.#bytes[at] = Verb.nothing;
    }
  }

  /** Writes the header. The block belongs to the lane's thread from here until it answers. */
  seal(): void {
    this.#words[WORD_MAGIC] = MAGIC;
    this.#words[WORD_REQUEST_COUNT] = this.#rowCount;
    this.#words[WORD_REQUESTS_END] = this.#end;
    this.#words[WORD_ROWS_DONE] = 0;
  }

  // The answers of the lane's thread.

  /** Rows before this one may be read. */
  get rowsDone(): number {
    return this.#words[WORD_ROWS_DONE]!;
  }

  /** native/store/request.h's Status. */
  status(row: number): number {
    return this.#bytes[REQUESTS_END + row * ROW_BYTES]!;
  }

  codec(row: number): number {
    return this.#bytes[REQUESTS_END + row * ROW_BYTES + 1]!;
  }

  /** The entry had been read before. */
  isFetched(row: number): boolean {
    return this.#bytes[REQUESTS_END + row * ROW_BYTES + 2] !== 0;
  }

  idleSeconds(row: number): number {
    return this.#words[this.#row(row) + 5]!;
  }

  clientFlags(row: number): number {
    return this.#words[this.#row(row) + 1]!;
  }

  valueBytes(row: number): number {
    return this.#words[this.#row(row) + 2]!;
  }

  /** The place of the value of a row. `pieces`: those that came with the answer. */
  value(row: number, pieces: readonly Buffer[]): ValueBytes {
    const word = this.#row(row);
    const start = this.#words[word + 3]!;
    const end = start + this.#words[word + 2]!;
    const number = this.#words[word + 4]!;
    if (number === 0) return { bytes: this.#bytes, start, end, isOwn: false };
    const bytes = pieces[number - 1]!;
    return { bytes, start, end, isOwn: start === 0 && end === bytes.byteLength };
  }

  version(row: number): bigint {
    return this.#words64[(REQUESTS_END + row * ROW_BYTES) / 8 + 3]!;
  }

  /** incr, decr: the result. Others: milliseconds until the entry expires, 0: never. */
  number(row: number): bigint {
    return this.#words64[(REQUESTS_END + row * ROW_BYTES) / 8 + 4]!;
  }

  /** The version of shard(row) that the answer reveals, if it is not in the log yet; otherwise 0. */
  commitVersion(row: number): bigint {
    return this.#words64[(REQUESTS_END + row * ROW_BYTES) / 8 + 5]!;
  }

  shard(row: number): number {
    return this.#words[this.#row(row) + 12]!;
  }

  /** Whether the request has left a record of a change. */
  hasChanged(row: number): boolean {
    return this.#words[this.#row(row) + 13] !== 0;
  }

  /** How long the answer waits, because the database does not take changes; 0: it does not. */
  slowedMs(row: number): number {
    return Math.max(0, this.#words[this.#row(row) + 13]! - 1);
  }

  #row(row: number): number {
    return (REQUESTS_END + row * ROW_BYTES) / 4;
  }

  // Writes a request without its codec and its value. Returns the place of the value.
  #putKey(
    start: number,
    verb: Verb,
    key: StagedKey,
    fields: RequestFields | undefined,
    piece: number | undefined,
  ): number {
    const words = this.#words;
    let flags = 0;
    let word = (start + REQUEST_HEADER_BYTES) >>> 2;
    if (fields !== undefined) {
      const { ttl, compare, delta, initial } = fields;
      if (ttl !== undefined) {
        if (ttl === KEEP_EXPIRY) flags |= FLAG_KEEP_EXPIRY;
        else {
          flags |= FLAG_TTL;
          word = this.#putNumber(word, ttl);
        }
      }
      if (compare !== undefined) {
        flags |= FLAG_COMPARE;
        word = this.#putBigInt(word, compare);
      }
      if (delta !== undefined) {
        flags |= FLAG_DELTA;
        word = this.#putBigInt(word, delta);
      }
      if (initial !== undefined) {
        flags |= FLAG_INITIAL;
        word = this.#putBigInt(word, initial);
      }
      if (fields.hold === true) flags |= FLAG_HOLD;
    }
    if (piece !== undefined) {
      flags |= FLAG_PIECE;
      word = this.#putNumber(word, piece);
    }
    const head = start >>> 2;
    words[head] = LITTLE_ENDIAN ? verb | (flags << 16) : (verb << 24) | flags; // verb, codec, 16 bits of flags
    words[head + 1] = key.byteLength;
    words[head + 2] = 0;
    words[head + 3] = 0;
    const at = word * 4;
    if (key.byteLength <= KEY_BYTES_SHORT) {
      // A call to V8's copy function costs more than these few words.
      const source = key.words;
      const count = (key.byteLength + 3) >>> 2;
      for (let i = 0; i < count; i++) words[word + i] = source[i]!;
    } else {
      this.#bytes.set(key.bytes.subarray(0, key.byteLength), at);
    }
    return at + key.byteLength;
  }

  #finish(start: number, valueStart: number, end: number): number {
    this.#words[(start >>> 2) + 2] = end - valueStart;
    this.#end = (end + 3) & ~3;
    return this.#rowCount++;
  }

  #putNumber(word: number, value: number): number {
    const high = Math.floor(value / TWO_32);
    const low = value - high * TWO_32;
    this.#words[word] = LITTLE_ENDIAN ? low : high;
    this.#words[word + 1] = LITTLE_ENDIAN ? high : low;
    return word + 2;
  }

  #putBigInt(word: number, value: bigint): number {
    const low = Number(BigInt.asUintN(32, value));
    const high = Number(BigInt.asUintN(32, value >> 32n));
    this.#words[word] = LITTLE_ENDIAN ? low : high;
    this.#words[word + 1] = LITTLE_ENDIAN ? high : low;
    return word + 2;
  }

  // Where the request that starts at `at` ends.
  #endOf(at: number): number {
    const head = at >>> 2;
    const flags = LITTLE_ENDIAN ? this.#words[head]! >>> 16 : this.#words[head]! & 0xffff;
    let fields = 0;
    for (
      let bits = flags & (FLAG_TTL | FLAG_COMPARE | FLAG_DELTA | FLAG_INITIAL | FLAG_PIECE);
      bits !== 0;
      bits >>>= 1
    ) {
      fields += bits & 1;
    }
    return (at + REQUEST_HEADER_BYTES + fields * 8 + this.#words[head + 1]! + this.#words[head + 2]! + 3) & ~3;
  }
}

/** The room to ask for: the most bytes that a payload takes in a block; 0 if it is outside of the block. */
export function payloadRoom(payload: string | Uint8Array): number {
  if (typeof payload === 'string') return Math.max(0, textRoom(payload));
  return payload.byteLength <= VALUE_BYTES_INLINE_MAX ? payload.byteLength : 0;
}

// The most bytes that a text takes in a block; -1 if it is outside of the block.
function textRoom(text: string): number {
  if (text.length * 3 <= VALUE_BYTES_INLINE_MAX) return text.length * 3;
  if (text.length > VALUE_BYTES_INLINE_MAX) return -1;
  const bytes = Buffer.byteLength(text);
  return bytes <= VALUE_BYTES_INLINE_MAX ? bytes : -1;
}

function textPiece(text: string, codec: number): Piece {
  const bytes = new Uint8Array(Buffer.byteLength(text));
  (Buffer.from(bytes.buffer) as unknown as FastBuffer).utf8Write(text);
  if (codec !== TEXT_CODEC) return { bytes, codec };
  if (bytes.byteLength === text.length) return { bytes, codec: Codec.ascii };
  return isWellFormed(text) ? { bytes, codec: Codec.utf8 } : doubtful(text);
}

// A text with lone surrogates.
function doubtful(text: string): Piece {
  const encoded: Encoded = { payload: '', codec: 0 };
  encodeDoubtfulText(text, encoded);
  return { bytes: Uint8Array.from(encoded.payload as Uint8Array), codec: encoded.codec };
}

// Keys up to this size are handled word by word.
const KEY_BYTES_SHORT = 64;

/**
 * The bytes of one key, between its call and the block of its lane, which its hash selects. There is one per router: a
 * key is staged, hashed and appended before the next key comes.
 */
export class StagedKey {
  readonly bytes: Uint8Array;
  readonly words: Uint32Array;
  byteLength = 0;
  readonly #encoder = new TextEncoder();
  readonly #bytesMax: number;

  constructor(keyBytesMax: number) {
    // Three bytes more, for a character that begins at the last allowed byte, so that a key which is too long is
    // detected.
    const memory = new ArrayBuffer((keyBytesMax + 8) & ~7);
    this.bytes = new Uint8Array(memory);
    this.words = new Uint32Array(memory);
    this.#bytesMax = keyBytesMax;
  }

  /**
   * Stages a key. False: it is not a valid key. Strings must be well-formed Unicode, because two strings that differ in
   * their lone surrogates would be the same key.
   */
  take(key: unknown): boolean {
    if (typeof key === 'string') {
      if (key.length <= KEY_BYTES_SHORT && LITTLE_ENDIAN && this.#takeAscii(key)) return key !== '';
      const { read, written } = this.#encoder.encodeInto(key, this.bytes);
      this.byteLength = written;
      if (written === key.length) return written !== 0 && written <= this.#bytesMax;
      return read === key.length && written <= this.#bytesMax && isWellFormed(key);
    }
    if (isUint8Array(key)) {
      this.byteLength = key.byteLength;
      if (this.byteLength === 0 || this.byteLength > this.#bytesMax) return false;
      this.bytes.set(key);
      return true;
    }
    return false;
  }

  // Four characters to a word, in two thirds of the time of a call to the encoder. False: not all are ASCII.
  #takeAscii(key: string): boolean {
    const { words } = this;
    const { length } = key;
    const whole = length & ~3;
    let seen = 0;
    let word = 0;
    let at = 0;
    for (; at < whole; at += 4) {
      const first = key.charCodeAt(at);
      const second = key.charCodeAt(at + 1);
      const third = key.charCodeAt(at + 2);
      const fourth = key.charCodeAt(at + 3);
      seen |= first | second | third | fourth;
      words[word++] = first | (second << 8) | (third << 16) | (fourth << 24);
    }
    let last = 0;
    for (; at < length; at++) {
      const unit = key.charCodeAt(at);
      seen |= unit;
      last |= unit << ((at & 3) * 8);
    }
    words[word] = last;
    this.byteLength = length;
    return seen < 0x80;
  }
}
