/**
 * The reading verbs of a handle after their first native call: values to decode, keys that may have a lone surrogate,
 * answers that are errors. And verbs of more than one native call.
 */
import { answerError, entryInfo } from './answers.ts';
import { isMalformed, malformedValues, wrongType } from './errors.ts';
import { Code, lowWord, type NativeHandle, native, numberWord, PLACE_BUFFER, scratch, Word, words } from './native.ts';
import type { RawOption } from './options.ts';
import { withJson } from './reports.ts';
import { type EntryInfo, type Key, keyBytes, type ValueWithCas } from './request/arguments.ts';
import { decode } from './request/codec.ts';

/** A native function that reads: a value, `undefined` for a miss, or true or false if there is more to do. */
export type NativeRead = (key: Key) => unknown;

/** Reads that a value may have to be loaded for. */
export type ReadVerb = 'get' | 'peek' | 'getWithCas' | 'take';

/** Calls a yes-or-no verb again if its key was doubtful; throws an answer that is an error. */
export function finishYesNo(
  handle: NativeHandle,
  answer: boolean | Code,
  key: Key,
  verb: 'has' | 'delete' | 'evict' | 'touch',
  ask: (key: Key) => boolean | Code,
): boolean {
  const final = answer === Code.keyMaybeIllFormed ? ask(keyBytes(key)) : answer;
  if (typeof final === 'boolean') return final;
  throw answerError(handle, final, { key, verb });
}

/** The reads of one handle. Cache has the documentation of the verbs. */
export class Reads {
  readonly #handle: NativeHandle;
  readonly #raw: RawOption;
  readonly #peek: NativeHandle['peek'];

  constructor(handle: NativeHandle, raw: RawOption) {
    this.#handle = handle;
    this.#raw = raw;
    this.#peek = handle.peek;
  }

  /** Finishes an answer of `read` that was true or false: decodes the value, reads again, or throws. */
  finish(answer: boolean, key: Key, verb: ReadVerb, read: NativeRead): unknown {
    if (answer) return this.#decode(key);
    const code = lowWord(Word.code);
    if (code !== Code.keyMaybeIllFormed) throw answerError(this.#handle, code, { key, verb });
    const again = read(keyBytes(key));
    if (again === true) return this.#decode(key);
    if (again === false) throw answerError(this.#handle, lowWord(Word.code), { key, verb });
    return again;
  }

  getWithCas(key: Key): ValueWithCas<unknown> | undefined {
    const found = this.#withCas(key, 'getWithCas', this.#handle.getWithCas);
    return found === undefined ? undefined : withJson(found);
  }

  /** Reads, and removes the version that it read, if the value can be decoded. */
  take(key: Key): unknown {
    for (;;) {
      // A miss is counted as a take, not as a peek.
      const found = this.#withCas(key, 'take', this.#peek);
      const code = this.#removeVersion(key, found?.cas ?? 0n);
      if (code === Code.found || (found === undefined && code === Code.notFound)) return found?.value;
      if (code !== Code.exists && code !== Code.notFound) throw answerError(this.#handle, code, { key, verb: 'take' });
    }
  }

  getInto(key: Key, target: Uint8Array): number | undefined {
    const bytes = this.#handle.getInto(key, target);
    if (bytes !== false) return bytes;
    const code = lowWord(Word.code);
    if (code === Code.keyMaybeIllFormed) return this.getInto(keyBytes(key), target);
    if (code === Code.invalidValue) throw wrongType('target', 'a Buffer or Uint8Array', target);
    throw answerError(this.#handle, code, { key, verb: 'get' });
  }

  info(key: Key): EntryInfo | undefined {
    if (!this.#find(key)) return undefined;
    return entryInfo(this.#handle, {
      codec: lowWord(Word.codec),
      bytes: lowWord(Word.valueBytes),
      expiresInMs: numberWord(Word.expiresIn),
      cas: words[Word.version]!,
      flags: lowWord(Word.clientFlags),
      fetched: lowWord(Word.fetched) !== 0,
      idleSeconds: lowWord(Word.idleSeconds),
    });
  }

  remainingTtl(key: Key): number {
    return this.#find(key) ? numberWord(Word.expiresIn) || Number.POSITIVE_INFINITY : 0;
  }

  // True: the words describe the entry.
  #find(key: Key): boolean {
    const { info } = this.#handle;
    let code = info(key);
    if (code === Code.keyMaybeIllFormed) code = info(keyBytes(key));
    if (code === Code.found) return true;
    if (code === Code.notFound) return false;
    throw answerError(this.#handle, code, { key, verb: 'info' });
  }

  // The result of `read`, with the version that it has left in the words.
  #withCas(key: Key, verb: ReadVerb, read: NativeRead): ValueWithCas<unknown> | undefined {
    let value = read(key);
    let cas = words[Word.version]!;
    if (typeof value === 'boolean') {
      value = this.finish(value, key, verb, (again) => {
        const answer = read(again);
        cas = words[Word.version]!;
        return answer;
      });
    }
    return value === undefined ? undefined : { value, cas };
  }

  // Removes the entry if it has this version. Code.exists: it has another.
  #removeVersion(key: Key, cas: bigint): Code {
    words[Word.version] = cas;
    const code = this.#handle.delete(key, true) as Code;
    return code === Code.keyMaybeIllFormed ? this.#removeVersion(keyBytes(key), cas) : code;
  }

  // Decodes the value that the last read has left in the words.
  #decode(key: Key): unknown {
    const codec = lowWord(Word.codec);
    const flags = lowWord(Word.clientFlags);
    const bytes = lowWord(Word.valueBytes);
    const isInScratch = lowWord(Word.place) !== PLACE_BUFFER;
    try {
      return decode(codec, isInScratch ? scratch : native.takeBuffer()!, 0, bytes, this.#raw, flags);
    } catch (error) {
      throw isMalformed(error) ? malformedValues([key], error) : error;
    }
  }
}
