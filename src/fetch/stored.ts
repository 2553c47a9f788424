/** Reads of the cache for `fetch`: a value that cannot be decoded is loaded again, a stale one is found as stale. */
import { CairnError } from '../errors.ts';
import { numberWord, Word } from '../native.ts';
import type { FetchCache, Key } from './flight-binding.ts';

/** In the place of a value that cannot be decoded. */
export const UNREADABLE = Symbol('unreadable');

/** The entry of a key, fresh or stale. */
export interface Stored {
  /** undefined: there is no entry. */
  readonly value: unknown;
  /** For how long it has been stale; negative: it is fresh. */
  readonly staleMs: number;
  /** For how long it will be fresh; `Infinity`: without end. Of a fresh entry only. */
  readonly leftMs: number;
}

/** The value of a fresh entry, UNREADABLE, or undefined. */
export function readFresh(cache: FetchCache, key: Key): unknown {
  return readable(() => cache.get(key));
}

/** The entry with its freshness. A stale entry is none, unless the caller accepts that. */
export function readStored(cache: FetchCache, key: Key, acceptsStale: boolean): Stored {
  const { getAged } = cache.handle;
  let stalePlusOne = 0;
  let leftMs = 0;
  const read = (again: Key): unknown => {
    const answer = getAged(again, acceptsStale);
    stalePlusOne = numberWord(Word.number);
    leftMs = numberWord(Word.expiresIn);
    return answer;
  };
  const value = readable(() => cache.read(key, read));
  return { value, staleMs: stalePlusOne - 1, leftMs: leftMs || Number.POSITIVE_INFINITY };
}

/** Whether that is a value: neither missing nor unreadable. */
export function isValue(value: unknown): boolean {
  return value !== undefined && value !== UNREADABLE;
}

function readable(read: () => unknown): unknown {
  try {
    return read();
  } catch (error) {
    if (error instanceof CairnError && error.code === 'ERR_VALUE_MALFORMED') return UNREADABLE;
    throw error;
  }
}
