/**
 * Makes a result or an error of an answer of the store, for the verbs, the promised verbs and fetch. An answer is a
 * `Code` of the addon; the statuses of a batch are the first codes.
 */
import { logRefusal } from './commits.ts';
import { CairnError, show } from './errors.ts';
import { Code, type NativeHandle } from './native.ts';
import type { ResolvedOptions } from './options.ts';
import { withJson } from './reports.ts';
import { type CasResult, type EntryInfo, type Key, keyError, tooLargeError } from './request/arguments.ts';
import { CODEC_NAMES } from './request/codec.ts';

/** The request, as far as an error describes it. */
export interface Asked {
  readonly key?: Key | undefined;
  /** The size of the value to be stored, in bytes. */
  readonly bytes?: number | string | undefined;
  /** The verb of `cache.promises` that does the same. */
  readonly verb?: string | undefined;
  /** The beginning of the message if the log takes no writes: `'Cannot set "k"'`. */
  readonly what?: string | undefined;
}

/** The error for an answer that is not a result. */
export function answerError(handle: NativeHandle, code: number, asked: Asked = {}): Error {
  const which = handle.name === '' ? 'The cache' : `The cache ${show(handle.name)}`;
  const { key } = asked;
  switch (code) {
    case Code.closed:
      return new CairnError('ERR_CLOSED', `${which} is closed`);
    case Code.invalidKey:
      return keyError(key);
    case Code.tooLarge:
      return tooLargeError(key!, handle.valueBytesNow() || handle.valueBytesMax, asked.bytes);
    case Code.logFull:
      return logRefusal(handle, asked.what ?? `${which} cannot take writes now`);
    case Code.notResident:
      return notResident(key, asked.verb);
    case Code.outOfMemory:
      return new CairnError(
        'ERR_OUT_OF_MEMORY',
        `No memory for the answer${key === undefined ? '' : ` to ${show(key)}`}`,
      );
    default: {
      const to = asked.what === undefined ? '' : ` (${asked.what})`;
      return new CairnError('ERR_NATIVE_MISMATCH', `Unexpected answer ${code} of the native addon${to}`);
    }
  }
}

// A synchronous verb never loads, and never waits.
function notResident(key: Key | undefined, verb: string | undefined): CairnError {
  const promised = verb === undefined ? 'the same verb of cache.promises' : `cache.promises.${verb}()`;
  const which = key === undefined ? 'A value' : `The value of ${show(key)}`;
  return new CairnError('ERR_NOT_RESIDENT', `${which} is not in memory: ${promised} loads it first`);
}

/** The error of a clear that was not done; undefined: it was done. */
export function clearError(handle: NativeHandle, code: number): Error | undefined {
  if (code === Code.stored) return undefined;
  const what = 'Cannot clear the cache';
  return answerError(handle, code, { what });
}

const STORE_ANSWERS: Readonly<Record<number, CasResult>> = {
  [Code.stored]: 'stored',
  [Code.notStored]: 'not-stored',
  [Code.noMemory]: 'not-stored',
  [Code.exists]: 'exists',
  [Code.notFound]: 'not-found',
};

/** The result of a verb that stores; undefined: the answer is an error. */
export function storeAnswer(code: number): CasResult | undefined {
  return STORE_ANSWERS[code];
}

type CountAnswer = 'number' | 'not-stored' | 'not-found';

const COUNT_ANSWERS: Readonly<Record<number, CountAnswer>> = {
  [Code.found]: 'number',
  [Code.stored]: 'number',
  [Code.notFound]: 'not-found',
  [Code.nonNumeric]: 'not-stored',
  [Code.notStored]: 'not-stored',
  [Code.noMemory]: 'not-stored',
};

/** The result of `incr` and `decr`; `'number'`: the new number; undefined: the answer is an error. */
export function countAnswer(code: number): CountAnswer | undefined {
  return COUNT_ANSWERS[code];
}

/** The store's description of an entry, in its own numbers. */
export interface EntryNumbers {
  readonly codec: number;
  readonly bytes: number;
  /** 0: it does not expire. */
  readonly expiresInMs: number;
  readonly cas: bigint;
  readonly flags: number;
  readonly fetched: boolean;
  readonly idleSeconds: number;
}

/** The answer of `info`. */
export function entryInfo(handle: NativeHandle, numbers: EntryNumbers): EntryInfo {
  const { codec, bytes, expiresInMs, cas, flags, fetched } = numbers;
  return withJson({
    kind: CODEC_NAMES[codec]!,
    bytes,
    ttl: expiresInMs || Number.POSITIVE_INFINITY,
    cas,
    flags,
    fetched,
    idleSeconds: tracksAccess(handle) ? numbers.idleSeconds : undefined,
  });
}

const tracking = new WeakMap<NativeHandle, boolean>();

function tracksAccess(handle: NativeHandle): boolean {
  let known = tracking.get(handle);
  if (known === undefined) {
    known = (JSON.parse(handle.description) as ResolvedOptions).trackAccess;
    tracking.set(handle, known);
  }
  return known;
}
