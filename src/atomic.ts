/**
 * Atomic batches: sets and deletes of some keys that take effect as one, or not at all. They are encoded here, part by
 * part, and executed by one native call (native/store/store_atomic.cc).
 *
 * | a batch is | set, delete                  | commit                              | then it is          |
 * |------------|------------------------------|-------------------------------------|---------------------|
 * | open       | add a part                   | does all parts                      | committed           |
 * |            |                              | is refused, and has done nothing    | open                |
 * | committing | `ERR_INVALID_ARGUMENT`       | `ERR_INVALID_ARGUMENT`              |                     |
 * | committed  | `ERR_INVALID_ARGUMENT`       | `ERR_INVALID_ARGUMENT`              |                     |
 */
import { endianness } from 'node:os';
import { types } from 'node:util';
import { answerError } from './answers.ts';
import { CairnError, CairnRangeError, CairnTypeError, misplaced, namingOptions, show } from './errors.ts';
import { ATOMIC_BYTES_MAX, ATOMIC_PARTS_MAX, KEY_BYTES_MAX } from './limits.ts';
import { AtomicBound, Code, lowWord, type NativeHandle, numberWord, TTL_KEEP, Word } from './native.ts';
import type { Duration, ResolvedOptions, SetOptions } from './options.ts';
import { type Key, keyError, pairsOf } from './request/arguments.ts';
import { Verb } from './request/batch.ts';
import { Codec, type Encoded, encode, encodeDoubtfulText, isWellFormed, TEXT_CODEC } from './request/codec.ts';
import { DEFAULT_STORE } from './rules/index.ts';
import { ttlOf } from './writes.ts';

/** The options of `set` of a batch. */
export interface BatchSetOptions {
  /** Time to live from the commit on. 0 or `Infinity`: the entry does not expire. Default: the cache's `ttl`. */
  ttl?: Duration;
}

// native/addon/atomic_binding.cc has the same: verb and codec, sizes of key and value, nothing, the time to live.
const HEADER_BYTES = 24;
const TTL_OF_CACHE = -1;
const FIRST_BYTES = 1024;

// Filled by encode() and used up before anything else runs.
const encoded: Encoded = { payload: '', codec: 0 };

/** The parts of a batch, as bytes. */
export class AtomicParts {
  #bytes: Buffer = Buffer.alloc(FIRST_BYTES);
  #view = viewOf(this.#bytes);
  #end = 0;
  readonly #keys: Key[] = [];

  get count(): number {
    return this.#keys.length;
  }

  /** Throws, and adds nothing, for what `set` refuses, and for a part too many. `ttl` undefined: the cache's. */
  set(key: Key, value: unknown, ttl: number | undefined): void {
    encode(value, encoded);
    if (typeof encoded.payload === 'string') textToBytes(encoded);
    this.#add(Verb.set, key, encoded.payload as Uint8Array, encoded.codec, ttl ?? TTL_OF_CACHE);
  }

  delete(key: Key): void {
    this.#add(Verb.delete, key, NOTHING, Codec.raw, 0);
  }

  /** All or nothing: the error if nothing was done. */
  executeOn(handle: NativeHandle): Error | undefined {
    const code = handle.executeAtomic(this.#bytes.subarray(0, this.#end));
    switch (code) {
      case Code.stored:
        return undefined;
      case Code.tooLarge:
        return this.#tooLarge(handle);
      case Code.noMemory:
        return new CairnError(
          'ERR_OUT_OF_MEMORY',
          'There is no room for the batch now, because values that are being read or received hold it',
        );
      case Code.notAtomic:
        return new CairnTypeError(
          'ERR_INVALID_ARGUMENT',
          'The database behind the cache is of level idempotent: it cannot keep an atomic batch whole',
        );
      case Code.severalStores:
        return this.#ofSeveralStores(handle);
      case Code.atomicUnknown:
        return new CairnError('ERR_NOT_READY', 'The database behind the cache is not known yet: try again later');
      default:
        return answerError(handle, code, { what: 'Cannot commit the batch' });
    }
  }

  #add(verb: Verb, key: Key, value: Uint8Array, codec: number, ttl: number): void {
    const keyBytes = bytesOfKey(key);
    const end = align(this.#end + HEADER_BYTES + keyBytes.byteLength + value.byteLength);
    if (this.count === ATOMIC_PARTS_MAX) throw tooManyParts();
    if (end > ATOMIC_BYTES_MAX) throw batchTooLarge(`${ATOMIC_BYTES_MAX} bytes together`, `${end}`);
    if (end > this.#bytes.length) this.#grow(end);
    const view = this.#view;
    view.setUint32(this.#end, verb | (codec << 8), LITTLE_ENDIAN);
    view.setUint32(this.#end + 4, keyBytes.byteLength, LITTLE_ENDIAN);
    view.setUint32(this.#end + 8, value.byteLength, LITTLE_ENDIAN);
    view.setFloat64(this.#end + 16, ttl, LITTLE_ENDIAN);
    this.#bytes.set(keyBytes, this.#end + HEADER_BYTES);
    this.#bytes.set(value, this.#end + HEADER_BYTES + keyBytes.byteLength);
    this.#end = end;
    this.#keys.push(typeof key === 'string' ? key : keyBytes);
  }

  #grow(end: number): void {
    const larger = Buffer.alloc(Math.min(align(ATOMIC_BYTES_MAX), Math.max(end, 2 * this.#bytes.length)));
    this.#bytes.copy(larger, 0, 0, this.#end);
    this.#bytes = larger;
    this.#view = viewOf(larger);
  }

  // The same.
  #ofSeveralStores(handle: NativeHandle): Error {
    const { store } = JSON.parse(handle.description) as ResolvedOptions;
    const names = [DEFAULT_STORE, ...Object.keys(store?.stores ?? {})];
    const [first, other] = [names[lowWord(Word.place)]!, names[numberWord(Word.number)]!];
    const key = show(this.#keys[lowWord(Word.valueBytes)]);
    return new CairnTypeError(
      'ERR_INVALID_ARGUMENT',
      `Expected the keys of an atomic batch to be of one store, got ${key} of the store ${show(other)} beside keys of ${show(first)}: no transaction is of two databases`,
    );
  }

  // As the words say it.
  #tooLarge(handle: NativeHandle): Error {
    const bound = lowWord(Word.place);
    const wanted = numberWord(Word.number);
    const limit = numberWord(Word.version);
    switch (bound) {
      case AtomicBound.value: {
        const key = this.#keys[lowWord(Word.valueBytes)];
        return answerError(handle, Code.tooLarge, { key, bytes: wanted });
      }
      case AtomicBound.records:
        return batchTooLarge(`${limit} bytes together, as records of the log`, `${wanted}`);
      case AtomicBound.ring:
        return inOneShard((say) => `${limit} bytes of records (${say('ringSize')})`, wanted);
      case AtomicBound.memory:
        return inOneShard((say) => `${limit} bytes of memory (${say('maxMemory')})`, wanted);
      default:
        return inOneShard((say) => `${limit} entries (${say('maxEntries')})`, wanted);
    }
  }
}

/** The sets and deletes of a batch until its commit, of which there are two kinds: at once, and promised. */
export abstract class OpenBatch<V> {
  readonly #parts = new AtomicParts();
  /** @internal */
  protected isOpen = true;

  /** The number of sets and deletes so far. */
  get size(): number {
    return this.#parts.count;
  }

  /**
   * Adds a set. The value is encoded at once. Throws the errors of `cache.set` for a wrong key, value or `ttl`, and
   * `ERR_BATCH_TOO_LARGE` for a part too many; the batch is then as before.
   */
  set(key: Key, value: V, options?: BatchSetOptions): this {
    this.partsFor('set').set(key, value, atomicTtlOf(options));
    return this;
  }

  /** Adds a delete. */
  delete(key: Key): this {
    this.partsFor('delete').delete(key);
    return this;
  }

  /** @internal */
  protected partsFor(verb: string): AtomicParts {
    if (!this.isOpen) throw committedBefore(verb);
    return this.#parts;
  }
}

/** The sets and deletes of `cache.batch()`. */
export class AtomicBatch<V = unknown> extends OpenBatch<V> {
  readonly #handle: NativeHandle;

  /** @internal */
  constructor(handle: NativeHandle) {
    super();
    this.#handle = handle;
  }

  /**
   * Does all sets and deletes, in their order, at one moment. If it throws, nothing was done, and the batch can be
   * committed again: `ERR_BATCH_TOO_LARGE` names the bound that it exceeds, `ERR_VALUE_TOO_LARGE` the key;
   * `ERR_LOG_FULL` and `ERR_OUT_OF_MEMORY` say that there is no room now.
   */
  commit(): void {
    const error = this.partsFor('commit').executeOn(this.#handle);
    if (error !== undefined) throw error;
    this.isOpen = false;
  }
}

/** A batch that sets all pairs. */
export function setsOf(entries: Iterable<readonly [Key, unknown]>, ttl: number | undefined): AtomicParts {
  refuseKeep(ttl);
  const parts = new AtomicParts();
  for (const [key, value] of pairsOf(entries)) parts.set(key, value, ttl);
  return parts;
}

// The time to live of a part: that of a batch does not depend on what is there.
function atomicTtlOf(options: BatchSetOptions | undefined): number | undefined {
  const ttl = ttlOf(options as SetOptions | undefined);
  refuseKeep(ttl);
  return ttl;
}

function refuseKeep(ttl: number | undefined): void {
  if (ttl === TTL_KEEP) throw misplaced(`ttl: 'keep' cannot be used in an atomic batch: give the time to live`);
}

// The error for a batch that is used after its commit.
function committedBefore(verb: string): CairnTypeError {
  return new CairnTypeError(
    'ERR_INVALID_ARGUMENT',
    `${verb} was called on a batch that was committed: begin another one with cache.batch()`,
  );
}

const LITTLE_ENDIAN = endianness() === 'LE';
const NOTHING = new Uint8Array(0);

function viewOf(bytes: Buffer): DataView {
  return new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
}

function align(bytes: number): number {
  return Math.ceil(bytes / 8) * 8;
}

function bytesOfKey(key: Key): Uint8Array {
  if (typeof key === 'string') {
    if (key.length === 0 || key.length > KEY_BYTES_MAX || !isWellFormed(key)) throw keyError(key);
    const bytes = Buffer.from(key, 'utf8');
    if (bytes.length > KEY_BYTES_MAX) throw keyError(key);
    return bytes;
  }
  // A view of memory that was transferred away is empty too.
  if (!types.isUint8Array(key) || key.byteLength === 0 || key.byteLength > KEY_BYTES_MAX) throw keyError(key);
  return Buffer.from(key);
}

function textToBytes(into: Encoded): void {
  const text = into.payload as string;
  const isText = into.codec === TEXT_CODEC;
  if (isText && !isWellFormed(text)) {
    encodeDoubtfulText(text, into);
    return;
  }
  const bytes = Buffer.from(text, 'utf8');
  if (isText) into.codec = bytes.length === text.length ? Codec.ascii : Codec.utf8;
  into.payload = bytes;
}

function batchTooLarge(most: string, got: string): CairnRangeError {
  return new CairnRangeError('ERR_BATCH_TOO_LARGE', `Expected an atomic batch to have at most ${most}, got ${got}`);
}

function tooManyParts(): CairnRangeError {
  return batchTooLarge(`${ATOMIC_PARTS_MAX} sets and deletes`, 'more');
}

// A batch is divided among shards by its keys, so the bound is that of one shard.
function inOneShard(most: (say: (option: string) => string) => string, got: number): CairnRangeError {
  return namingOptions(
    (text) => new CairnRangeError('ERR_BATCH_TOO_LARGE', text),
    (say) => `Expected the keys of an atomic batch that fall into one shard to have at most ${most(say)}, got ${got}`,
  );
}
