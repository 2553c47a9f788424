/**
 * The packed form of many keys and many values: a buffer and a table each. `getMany(packedKeys)` makes no JavaScript
 * value per key, which more than halves its cost; for callers that have bytes and want bytes (proxies, exporters,
 * sums).
 */
import { types } from 'node:util';
import { outOfRange, wrongType } from '../errors.ts';
import { KEY_BYTES_MAX } from '../limits.ts';
import { asArray, keyError } from './arguments.ts';
import { Codec, decode, isWellFormed } from './codec.ts';

/** Columns of a row of the table that the addon fills: codec or mark, offset, bytes. */
export const PACKED_COLUMNS = 3;
const ABSENT = 0xfe;

/** Many keys in one buffer. Make it once and reuse it for the same keys. */
export class PackedKeys {
  /** The bytes of all keys. */
  readonly bytes: Uint8Array;
  /** Where each key ends in `bytes`; the next one begins there. */
  readonly ends: Uint32Array;

  private constructor(bytes: Uint8Array, ends: Uint32Array) {
    this.bytes = bytes;
    this.ends = ends;
  }

  /** The number of keys. */
  get count(): number {
    return this.ends.length;
  }

  /** Packs keys. Throws `ERR_INVALID_ARGUMENT`, as the verbs do. */
  static from(keys: Iterable<string | Uint8Array>): PackedKeys {
    const list = asArray('keys', keys);
    let room = 0;
    for (const key of list) {
      if (typeof key === 'string') room += key.length * 3;
      else if (types.isUint8Array(key)) room += key.length;
      else throw wrongType('key', 'a string, Buffer or Uint8Array', key);
    }
    const bytes = Buffer.allocUnsafeSlow(room);
    const ends = new Uint32Array(list.length);
    let end = 0;
    for (const [index, key] of list.entries()) {
      const start = end;
      if (typeof key === 'string') {
        end += bytes.write(key, end, 'utf8');
        // Nothing but a lone surrogate, or U+FFFD itself, becomes EF BF BD.
        if (end - start !== key.length && !isWellFormed(key)) {
          throw outOfRange('key', 'text without lone surrogates', key);
        }
      } else {
        if (key.length > 0) bytes.set(key, end); // it throws for memory that was transferred, which has no length
        end += key.length;
      }
      if (end === start || end - start > KEY_BYTES_MAX) {
        throw keyError(key);
      }
      ends[index] = end;
    }
    return new PackedKeys(bytes.subarray(0, end), ends);
  }
}

/** The answers to packed keys, in their order. */
export class PackedValues {
  /** The bytes of all values, in no particular order. */
  readonly bytes: Buffer;
  readonly #table: Uint32Array;

  /** @internal */
  constructor(bytes: Buffer, table: Uint32Array) {
    this.bytes = bytes;
    this.#table = table;
  }

  /** How many keys were asked for. */
  get count(): number {
    return this.#table.length / PACKED_COLUMNS;
  }

  /** True if there was an entry for the key number `index`. */
  has(index: number): boolean {
    return this.#row(index) >= 0;
  }

  /** The bytes of a value as the port would serve them: a view of `bytes`, no copy. `undefined` for a miss. */
  slice(index: number): Buffer | undefined {
    const row = this.#row(index);
    if (row < 0) return undefined;
    const start = this.#table[row + 1]!;
    return this.bytes.subarray(start, start + this.#table[row + 2]!);
  }

  /** A value as `get()` gives it (bytes as a `Buffer`). `undefined` for a miss. */
  value(index: number): unknown {
    const row = this.#row(index);
    if (row < 0) return undefined;
    const start = this.#table[row + 1]!;
    return decode(this.#table[row]!, this.bytes, start, start + this.#table[row + 2]!, 'buffer', 0);
  }

  /** True if the value was stored as text. */
  isText(index: number): boolean {
    const row = this.#row(index);
    if (row < 0) return false;
    const codec = this.#table[row];
    return codec === Codec.ascii || codec === Codec.utf8 || codec === Codec.wtf8;
  }

  // Where the row begins, or -1 for a miss.
  #row(index: number): number {
    if (!Number.isInteger(index) || index < 0 || index >= this.count) {
      throw outOfRange('index', `an integer between 0 and ${this.count - 1}`, index);
    }
    const row = index * PACKED_COLUMNS;
    return this.#table[row] === ABSENT ? -1 : row;
  }
}
