/**
 * How far the warm-up of a cache is: memory that the loader's thread shares with the one that has opened the cache. A
 * loader that takes over from one that died finds there whether it is over.
 */
import { native } from '../native.ts';

/** `running`: also while the database does not answer, which is asked again. `full`: there was no more free room. */
export type WarmUpState = 'running' | 'done' | 'full' | 'closed';

const STATES: readonly WarmUpState[] = ['running', 'done', 'full', 'closed'];

/** Of `cache.stats().warmUp`. */
export interface WarmUpStats {
  /** `running`; `done`: all rows were read; `full`: memory has no free room any more; `closed`: the cache has ended. */
  state: WarmUpState;
  /** Rows that were put into memory, and the bytes of their keys and values. */
  rows: number;
  bytes: number;
  /** Rows that the first walk has found in memory. */
  residentRows: number;
  /** Milliseconds since it began, or that it took. */
  elapsedMs: number;
}

const NAMES = ['state', 'rows', 'bytes', 'residentRows', 'elapsedMs'] as const;

export class WarmUpNumbers {
  readonly #numbers: Float64Array;

  constructor(shared: SharedArrayBuffer) {
    this.#numbers = new Float64Array(shared);
  }

  static memory(): SharedArrayBuffer {
    return new SharedArrayBuffer(NAMES.length * Float64Array.BYTES_PER_ELEMENT);
  }

  get state(): WarmUpState {
    return STATES[this.#numbers[0]!]!;
  }

  set state(state: WarmUpState) {
    this.#numbers[0] = STATES.indexOf(state);
  }

  get rows(): number {
    return this.#numbers[1]!;
  }

  /** More of one of them. */
  add(name: 'rows' | 'bytes' | 'residentRows' | 'elapsedMs', value: number): void {
    this.#numbers[NAMES.indexOf(name)]! += value;
  }

  clear(name: 'residentRows'): void {
    this.#numbers[NAMES.indexOf(name)] = 0;
  }

  get stats(): WarmUpStats {
    const [, rows, bytes, residentRows, elapsedMs] = this.#numbers;
    return { state: this.state, rows: rows!, bytes: bytes!, residentRows: residentRows!, elapsedMs: elapsedMs! };
  }
}

/** Of the caches that this thread has opened. On the addon's exports: a thread may have this module twice. */
const shared = native as unknown as { warmUps?: Map<number, WarmUpNumbers[]> };
shared.warmUps ??= new Map();
const warmUps = shared.warmUps;

/** Makes the memory for a cache that is warmed up, from one of its databases. */
export function newWarmUp(cacheId: number): SharedArrayBuffer {
  const memory = WarmUpNumbers.memory();
  warmUps.set(cacheId, [...(warmUps.get(cacheId) ?? []), new WarmUpNumbers(memory)]);
  return memory;
}

/** From the one on that says most of the whole. */
const PROGRESS: readonly WarmUpState[] = ['running', 'full', 'done', 'closed'];

/** From all databases. Undefined: the cache is not warmed up, or another thread has opened it. */
export function readWarmUpStats(cacheId: number): WarmUpStats | undefined {
  return warmUps
    .get(cacheId)
    ?.map(({ stats }) => stats)
    .reduce((all, one) => ({
      state: PROGRESS.find((state) => [all.state, one.state].includes(state))!,
      rows: all.rows + one.rows,
      bytes: all.bytes + one.bytes,
      residentRows: all.residentRows + one.residentRows,
      elapsedMs: Math.max(all.elapsedMs, one.elapsedMs),
    }));
}

/** The cache has ended. */
export function forgetWarmUp(cacheId: number): void {
  warmUps.delete(cacheId);
}
