/**
 * getMany, setMany and deleteMany: keys cross to the addon in batches of up to 128.
 *
 * A read with a wrong key reads nothing. In `setMany` and `deleteMany` a refused entry does not stop the others; the
 * first error is thrown at the end, and carries the result of each entry.
 */
import { answerError } from './answers.ts';
import { type CairnError, firstError, isMalformed, type ManyResult, malformedValues } from './errors.ts';
import {
  CHUNK_KEYS_MAX,
  Code,
  lowWord,
  MARK_DONE,
  MARK_ELSEWHERE,
  MARK_FAILED,
  MARK_WORDS,
  marks,
  type NativeHandle,
  numberWord,
  scratch,
  TTL_DEFAULT,
  TTL_KEEP,
  Word,
  words,
} from './native.ts';
import type { RawOption } from './options.ts';
import { asArray, type Key, keyBytes, pairsOf, type StoreResult } from './request/arguments.ts';
import { Verb } from './request/batch.ts';
import { bytesOf, Codec, decode, type Encoded, encode, encodeDoubtfulText } from './request/codec.ts';
import { PACKED_COLUMNS, type PackedKeys, PackedValues } from './request/packed.ts';

/** The parts of a cache that these verbs need. */
export interface ManyCache {
  readonly handle: NativeHandle;
  readonly raw: RawOption;
  /** Stores one entry; `ttl` as for {@link Many.set}. */
  set(key: Key, value: unknown, ttl: number | undefined): StoreResult;
  delete(key: Key): boolean;
}

/** Values of a batch that cannot be decoded, and the error of the first. */
interface Malformed {
  readonly places: number[];
  readonly error: CairnError;
}

/** The same for several batches. */
interface MalformedKeys {
  readonly keys: Key[];
  error: CairnError | undefined;
}

/** Entries for the addon: key, payload and codec in turn, and the place of each in the results. */
interface Outgoing {
  readonly fields: unknown[];
  readonly places: number[];
}

// Longer text may not fit the scratch, which all texts of a batch share.
const BATCH_TEXT_MAX = Math.floor(scratch.length / 3) - 4;
/** In the marks: the addon has not executed this request. */
const NOT_DONE = 0xffff_fffe;

// Filled by encode() and used up before anything else runs.
const encoded: Encoded = { payload: '', codec: 0 };

/** The verbs for many of one handle. */
export class Many {
  readonly #cache: ManyCache;
  readonly #handle: NativeHandle;

  constructor(cache: ManyCache) {
    this.#cache = cache;
    this.#handle = cache.handle;
  }

  /** Cache.getMany, which has the documentation, as do the others. */
  get(keys: Iterable<Key>): unknown[] {
    const list = asArray('keys', keys);
    if (list.length <= CHUNK_KEYS_MAX) return this.#readBatch(list);
    const values: unknown[] = [];
    const bad: MalformedKeys = { keys: [], error: undefined };
    for (let at = 0; at < list.length; at += CHUNK_KEYS_MAX) {
      for (const value of this.#readBatch(list.slice(at, at + CHUNK_KEYS_MAX), bad)) values.push(value);
    }
    if (bad.error !== undefined) throw malformedValues(bad.keys, bad.error);
    return values;
  }

  /** `ttl`: milliseconds, 0, TTL_KEEP, or undefined for the cache's own. */
  set(entries: Iterable<readonly [Key, unknown]>, ttl: number | undefined): StoreResult[] {
    const pairs = pairsOf(entries);
    const results: ManyResult[] = new Array(pairs.length);
    let batch: Outgoing = { fields: [], places: [] };
    const send = (): void => {
      if (batch.places.length > 0) this.#writeBatch(batch, ttl, results);
      batch = { fields: [], places: [] };
    };
    for (const [place, [key, value]] of pairs.entries()) {
      // Alone, in its turn: an entry that keeps its time to live, and text that is longer than the scratch.
      if (ttl === TTL_KEEP || (typeof value === 'string' && value.length > BATCH_TEXT_MAX)) {
        send();
        results[place] = outcomeOf(() => this.#cache.set(key, value, ttl));
        continue;
      }
      try {
        encode(value, encoded);
      } catch (error) {
        results[place] = error as Error;
        continue;
      }
      const { payload, codec } = encoded;
      if (typeof payload === 'string' && payload.length > BATCH_TEXT_MAX) {
        send();
        results[place] = outcomeOf(() => this.#cache.set(key, value, ttl));
        continue;
      }
      batch.fields.push(key, payload, codec);
      if (batch.places.push(place) === CHUNK_KEYS_MAX) send();
    }
    send();
    const error = firstError(results);
    if (error !== undefined) throw error;
    return results as StoreResult[];
  }

  delete(keys: Iterable<Key>): boolean[] {
    const list = asArray('keys', keys);
    const results: ManyResult[] = [];
    for (let at = 0; at < list.length; at += CHUNK_KEYS_MAX) {
      this.#deleteBatch(list.slice(at, at + CHUNK_KEYS_MAX), results);
    }
    const error = firstError(results);
    if (error !== undefined) throw error;
    return results as boolean[];
  }

  getPacked(keys: PackedKeys): PackedValues {
    const table = new Uint32Array(keys.count * PACKED_COLUMNS);
    // Most values are small; those that do not fit are read again, with enough room.
    let values = Buffer.allocUnsafeSlow(Math.max(1024, keys.count * 128));
    let used = 0;
    let missing = false;
    while (keys.count !== 0) {
      const answer = this.#handle.getPacked(keys.bytes, keys.ends, values, used, table, missing);
      if (answer === false) throw this.#error('getMany', lowWord(Word.code), keys.bytes);
      used = answer;
      const bytes = numberWord(Word.number);
      if (bytes === 0) break;
      missing = true;
      const larger = Buffer.allocUnsafeSlow(used + bytes + (bytes >> 2));
      values.copy(larger, 0, 0, used);
      values = larger;
    }
    return new PackedValues(values.subarray(0, used), table);
  }

  // ---- reading ----

  // Malformed values go to `bad`, if given.
  #readBatch(keys: readonly Key[], bad?: MalformedKeys): unknown[] {
    visit(keys, 1);
    const { getChunk } = this.#handle;
    let values = getChunk.apply(undefined, keys as Key[]);
    if (values === false) {
      const mended = keys.slice();
      do {
        this.#mendKey(mended);
        values = getChunk.apply(undefined, mended);
      } while (values === false);
    }
    const malformed = lowWord(Word.number) === 0 ? undefined : this.#decodeMarks(values);
    if (malformed !== undefined) {
      const found = malformed.places.map((place) => keys[place]!);
      if (bad === undefined) throw malformedValues(found, malformed.error);
      bad.keys.push(...found);
      bad.error ??= malformed.error;
    }
    return values;
  }

  // Decodes the values of a batch that the addon has left to decode. A user's function comes last, because it may use
  // the cache, and with it the marks and the scratch. Returns the places of malformed values, with the error of the
  // first; undefined: none.
  #decodeMarks(values: unknown[]): Malformed | undefined {
    const later: [at: number, bytes: Buffer, flags: number][] = [];
    let malformed: Malformed | undefined;
    const mine = this.#cache.raw;
    const raw = typeof mine === 'function' ? 'buffer' : mine;
    for (let i = 0; i < values.length; i++) {
      const mark = i * MARK_WORDS;
      const codec = marks[mark]!;
      if (codec === MARK_DONE) continue;
      if (codec === MARK_FAILED) throw this.#error('getMany', Code.outOfMemory);
      const start = marks[mark + 1]!;
      const bytes = marks[mark + 2]!;
      const flags = marks[mark + 3]!;
      try {
        values[i] =
          start === MARK_ELSEWHERE
            ? decode(codec, values[i] as Buffer, 0, bytes, raw, flags)
            : decode(codec, scratch, start, start + bytes, raw, flags);
      } catch (error) {
        if (!isMalformed(error)) throw error;
        malformed ??= { places: [], error };
        malformed.places.push(i);
        continue;
      }
      if (codec === Codec.raw && raw !== mine) later.push([i, values[i] as Buffer, flags]);
    }
    for (const [at, bytes, flags] of later) values[at] = decode(Codec.raw, bytes, 0, bytes.length, mine, flags);
    return malformed;
  }

  // A batch was refused: replaces the doubtful key by its bytes, or throws.
  #mendKey(keys: Key[]): void {
    const code = lowWord(Word.code);
    const index = lowWord(Word.number);
    if (code !== Code.keyMaybeIllFormed) throw this.#error('getMany', code, keys[index]);
    keys[index] = keyBytes(keys[index]!);
  }

  // ---- writing ----

  // A refused entry is mended or left out, and the rest sent again: entries before it may be stored already, and are
  // stored again.
  #writeBatch({ fields, places }: Outgoing, ttl: number | undefined, results: ManyResult[]): void {
    const expiresIn = ttl === undefined ? TTL_DEFAULT : BigInt(ttl);
    visit(fields, 3);
    while (places.length > 0) {
      words[Word.code] = BigInt(Verb.set);
      words[Word.expiresIn] = expiresIn;
      if (this.#handle.setChunk.apply(undefined, fields) !== false) break;
      const index = lowWord(Word.number);
      const error = this.#mendEntry(fields, index * 3);
      if (error === undefined) continue;
      results[places[index]!] = error;
      fields.splice(index * 3, 3);
      places.splice(index, 1);
    }
    for (const [i, place] of places.entries()) {
      results[place] = this.#storeResult(marks[i * MARK_WORDS]!, fields[i * 3] as Key, fields[i * 3 + 1]);
    }
  }

  // The error of the refused entry; undefined: it was mended.
  #mendEntry(fields: unknown[], at: number): Error | undefined {
    const code = lowWord(Word.code);
    if (code === Code.closed) throw this.#error('setMany', code);
    if (code === Code.keyMaybeIllFormed) {
      try {
        fields[at] = keyBytes(fields[at] as Key);
        return undefined;
      } catch (error) {
        return error as Error;
      }
    }
    if (code === Code.valueMaybeIllFormed) {
      encodeDoubtfulText(fields[at + 1] as string, encoded);
      fields[at + 1] = encoded.payload;
      fields[at + 2] = encoded.codec;
      return undefined;
    }
    return this.#error('setMany', code, fields[at] as Key, fields[at + 1]);
  }

  #storeResult(code: number, key: Key, payload: unknown): ManyResult {
    if (code === Code.stored) return 'stored';
    if (code === Code.notStored || code === Code.noMemory) return 'not-stored';
    return this.#error('setMany', code, key, payload);
  }

  #deleteBatch(keys: Key[], results: ManyResult[]): void {
    visit(keys, 1);
    for (let i = 0; i < keys.length; i++) marks[i * MARK_WORDS] = NOT_DONE;
    const isWhole = this.#handle.deleteChunk.apply(undefined, keys) !== false;
    if (!isWhole && lowWord(Word.code) === Code.closed) throw this.#error('deleteMany', Code.closed);
    const codes = Array.from(keys, (_, i) => marks[i * MARK_WORDS]!); // holes included
    for (const [i, code] of codes.entries()) {
      // In a batch with a wrong key, keys before it may have been deleted. The rest is deleted one by one.
      if (code === NOT_DONE) results.push(outcomeOf(() => this.#cache.delete(keys[i]!)));
      else if (code === Code.found || code === Code.notFound) results.push(code === Code.found);
      else results.push(this.#error('deleteMany', code, keys[i]!));
    }
  }

  #error(verb: 'getMany' | 'setMany' | 'deleteMany', code: number, key?: Key, payload?: unknown): Error {
    return answerError(this.#handle, code, { key, verb, bytes: payload === undefined ? undefined : bytesOf(payload) });
  }
}

function outcomeOf<T extends ManyResult>(call: () => T): ManyResult {
  try {
    return call();
  } catch (error) {
    if (!(error instanceof Error) || (error as { code?: unknown }).code === 'ERR_CLOSED') throw error;
    return error;
  }
}

let _lengthsSeen = 0;

// Reads a character of every key of a batch before the addon reads them one by one: keys that were not used for a while
// are out of the processor's caches, and here the waits for them overlap (a quarter of getMany's time). Keeps the
// result, so that the compiler does not remove the loop.
function visit(batch: readonly unknown[], stride: number): void {
  let seen = 0;
  for (let i = 0; i < batch.length; i += stride) {
    const key = batch[i];
    if (typeof key === 'string') seen ^= key.length;
  }
  _lengthsSeen = seen;
}
