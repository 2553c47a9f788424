/**
 * The storing verbs of a handle, except the fast path of `set` for text: encode the value, let the addon store it, and
 * make a result or an error of the answer.
 */
import { answerError, countAnswer, storeAnswer } from './answers.ts';
import { wrongType } from './errors.ts';
import { UPDATE_TRIES_MAX } from './limits.ts';
import { Code, lowWord, type NativeHandle, numberWord, TTL_KEEP, Word, words } from './native.ts';
import { checkBoolean, checkNames, parseDuration, type SetManyOptions, type SetOptions } from './options.ts';
import {
  type ArithmeticOptions,
  type CasResult,
  changedTooOften,
  checkAmount,
  checkCas,
  type Key,
  keyBytes,
  noRoomToUpdate,
  type StoreResult,
  type ValueWithCas,
} from './request/arguments.ts';
import { Verb } from './request/batch.ts';
import { bytesOf, type Encoded, encode, encodeDoubtfulText } from './request/codec.ts';

/** The terms on which a value is stored. */
interface Terms {
  /** Milliseconds, 0, TTL_KEEP, or undefined for the cache's own. */
  readonly ttl: number | undefined;
  /** The version that the entry must have. */
  readonly compare?: bigint;
}

// Filled by encodeValue() and used up before anything else runs.
const encoded: Encoded = { payload: '', codec: 0 };

function encodeValue(value: unknown): Encoded {
  encode(value, encoded);
  return encoded;
}

// What the API calls it.
function nameOf(verb: Verb): string | undefined {
  return Object.entries(Verb).find(([, number]) => number === verb)?.[0];
}

/** The given time to live, as {@link Writes.store} takes it. */
export function ttlOf(options: SetOptions | undefined): number | undefined {
  if (options === undefined) return undefined;
  const { ttl } = checkNames<SetOptions>('options', options, ['ttl']);
  if (ttl === undefined) return undefined;
  return ttl === 'keep' ? TTL_KEEP : parseDuration('ttl', ttl, 0);
}

/** The terms of `setMany`. */
export function manyTermsOf(options: SetManyOptions | undefined): { ttl: number | undefined; isAtomic: boolean } {
  if (options === undefined) return { ttl: undefined, isAtomic: false };
  const { atomic, ttl } = checkNames<SetManyOptions>('options', options, ['ttl', 'atomic']);
  return { ttl: ttlOf(ttl === undefined ? undefined : { ttl }), isAtomic: checkBoolean('atomic', atomic, false) };
}

/** Refuses options of `append` and `prepend`, because a caller might expect a `ttl` there to have an effect. */
export function checkNone(verb: string, none: readonly unknown[]): void {
  if (none.length === 0 || none[0] === undefined) return;
  throw wrongType(`options of ${verb}`, 'left out, because the value keeps its time to live', none[0]);
}

/** The writes of one handle. Cache has the documentation of the verbs. */
export class Writes {
  readonly #handle: NativeHandle;
  readonly #store: NativeHandle['store'];

  constructor(handle: NativeHandle) {
    this.#handle = handle;
    this.#store = handle.store;
  }

  /** `ttl`: milliseconds, 0, TTL_KEEP, or undefined for the cache's own. */
  store(verb: Verb, key: Key, value: unknown, ttl: number | undefined): StoreResult {
    const { payload, codec } = encodeValue(value);
    return this.answer(verb, this.#send(verb, key, payload, codec, { ttl }), key, payload) as StoreResult;
  }

  cas(key: Key, value: unknown, cas: bigint, ttl: number | undefined): CasResult {
    const { payload, codec } = encodeValue(value);
    const code = this.#send(Verb.cas, key, payload, codec, { ttl, compare: checkCas(cas) });
    return this.answer(Verb.cas, code, key, payload);
  }

  /** The result of a verb that has sent `payload`; throws its error. */
  answer(verb: Verb, code: Code, key: Key, payload: unknown): CasResult {
    const answer = storeAnswer(code);
    if (answer !== undefined) return answer;
    let bytes: number | string = bytesOf(payload);
    if (code === Code.tooLarge && (verb === Verb.append || verb === Verb.prepend)) {
      bytes = `${this.#presentBytes(key)} and ${bytes} more`;
    }
    throw answerError(this.#handle, code, { key, bytes, verb: nameOf(verb) });
  }

  update(
    key: Key,
    read: (key: Key) => ValueWithCas<unknown> | undefined,
    change: (value: unknown) => unknown,
    ttl: number | undefined,
  ): unknown {
    for (let tries = 0; tries < UPDATE_TRIES_MAX; tries++) {
      const found = read(key);
      const value = change(found?.value);
      if (value === undefined) return found?.value;
      const { payload, codec } = encodeValue(value);
      const code =
        found === undefined
          ? this.#send(Verb.add, key, payload, codec, { ttl })
          : this.#send(Verb.cas, key, payload, codec, { ttl: ttl ?? TTL_KEEP, compare: found.cas });
      if (code === Code.stored) return value;
      if (code === Code.noMemory) throw noRoomToUpdate(key);
      if (code !== Code.exists && code !== Code.notFound && code !== Code.notStored) {
        throw answerError(this.#handle, code, { key, bytes: bytesOf(payload), verb: 'update' });
      }
    }
    throw changedTooOften(key, UPDATE_TRIES_MAX);
  }

  arithmetic(
    verb: Verb,
    key: Key,
    by: number | bigint,
    options: ArithmeticOptions | undefined,
  ): number | bigint | 'not-stored' | undefined {
    const delta = checkAmount('by', by);
    let initial: number | bigint | undefined;
    let ttl: number | undefined;
    if (options !== undefined) {
      const given = checkNames<ArithmeticOptions>('options', options, ['initial', 'ttl']);
      if (given.initial !== undefined) initial = checkAmount('initial', given.initial);
      if (given.ttl !== undefined) ttl = parseDuration('ttl', given.ttl, 0);
    }
    if (typeof delta === 'bigint') words[Word.number] = delta;
    if (typeof initial === 'bigint') words[Word.version] = initial;
    const code = this.#handle.arithmetic(verb, key, typeof delta === 'bigint' ? undefined : delta, initial, ttl);
    if (code === Code.keyMaybeIllFormed) return this.arithmetic(verb, keyBytes(key), by, options);
    switch (countAnswer(code)) {
      case 'number':
        return typeof delta === 'bigint' ? words[Word.number]! : numberWord(Word.number);
      case 'not-found':
        return undefined;
      case 'not-stored':
        return 'not-stored';
      default:
        throw answerError(this.#handle, code, { key, verb: nameOf(verb) });
    }
  }

  // A doubtful key or value is sent again in another form.
  #send(verb: Verb, key: Key, payload: string | Uint8Array, codec: number, terms: Terms): Code {
    const { ttl, compare } = terms;
    if (compare !== undefined) words[Word.version] = compare;
    const code = this.#store(verb, key, payload, codec, ttl, compare !== undefined);
    if (code === Code.keyMaybeIllFormed) return this.#send(verb, keyBytes(key), payload, codec, terms);
    if (code === Code.valueMaybeIllFormed) {
      encodeDoubtfulText(payload as string, encoded);
      return this.#send(verb, key, encoded.payload, encoded.codec, terms);
    }
    return code;
  }

  // The size of the present value, for an error.
  #presentBytes(key: Key): number {
    const { info } = this.#handle;
    let code = info(key);
    if (code === Code.keyMaybeIllFormed) code = info(keyBytes(key));
    return code === Code.found ? lowWord(Word.valueBytes) : 0;
  }
}
