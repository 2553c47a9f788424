/** The verbs of all entries together, with their documentation: counting, limits, walks, dumps. */
import { answerError } from './answers.ts';
import { CacheFetch } from './cache-fetch.ts';
import { Code, type NativeHandle } from './native.ts';
import type { Opened } from './opening.ts';
import type { Size, WalkOptions } from './options.ts';
import { resize } from './resize.ts';
import { type CacheStats, readStats } from './stats.ts';
import { dump, type LoadResult, load, walk } from './walks.ts';

/** The part of Cache for all entries together. */
export abstract class CacheWhole<V> extends CacheFetch<V> {
  readonly #handle: NativeHandle;
  readonly #opened: Opened;

  /** @internal */
  constructor(opened: Opened) {
    super(opened);
    this.#handle = opened.handle;
    this.#opened = opened;
  }

  /** The number of entries; expired ones count until they are removed. */
  get size(): number {
    const size = this.#handle.size();
    if (size < 0) throw answerError(this.#handle, Code.closed);
    return size;
  }

  /** Counters and sizes. */
  stats(): CacheStats {
    const { store } = this.#opened.resolved;
    const stats = readStats(this.#handle, store === undefined ? undefined : Object.keys(store.stores ?? {}));
    if (stats === undefined) throw answerError(this.#handle, Code.closed);
    return stats;
  }

  /** Sets the counters back to 0. */
  resetStats(): void {
    const code = this.#handle.resetStats();
    if (code !== Code.stored) throw answerError(this.#handle, code);
  }

  /**
   * Changes the limits that are given; `maxEntries: Infinity` removes that limit. Higher limits take effect at once.
   * For lower ones it evicts in steps, with a turn of the event loop between steps; the promise resolves when the cache
   * is within the new limits.
   *
   * Rejects with `ERR_INVALID_ARGUMENT` above `maxMemoryCeiling` or below the need of the shards, and with
   * `ERR_OUT_OF_MEMORY` if the system has no memory for it, having changed nothing.
   */
  resize(limits: { maxMemory?: Size; maxEntries?: number }): Promise<void> {
    return resize(this.#handle, limits);
  }

  /**
   * Walks over all keys, a few at a time, without blocking other calls. It returns each entry as it is at that moment,
   * and skips entries that have expired, or were deleted or cleared between two steps. It returns every entry that
   * exists from start to end at least once. An entry that is used or changed meanwhile may come twice; one that is
   * added or removed meanwhile may come or not. Keys that are not text are Buffers. A walk changes neither the order of
   * use nor the counters.
   *
   * `values()` and `entries()` throw `ERR_VALUE_MALFORMED` at a value that cannot be decoded, with its key in
   * `error.keys`; `keys()` returns its key.
   */
  *keys(options?: WalkOptions): Generator<string | Buffer, undefined, undefined> {
    yield* walk(this.#handle, options, (key) => (this.has(key) ? key : undefined));
  }

  /** Walks over all values; as `keys()`. */
  *values(options?: WalkOptions): Generator<V, undefined, undefined> {
    yield* walk(this.#handle, options, (key) => this.peek(key));
  }

  /** Walks over all entries; as `keys()`. */
  *entries(options?: WalkOptions): Generator<[string | Buffer, V], undefined, undefined> {
    yield* walk(this.#handle, options, (key): [string | Buffer, V] | undefined => {
      const value = this.peek(key);
      return value === undefined ? undefined : [key, value];
    });
  }

  /** The same as `entries()`. */
  [Symbol.iterator](): Generator<[string | Buffer, V], undefined, undefined> {
    return this.entries();
  }

  /**
   * All entries as bytes, for `load()`: keys, values of every kind, flags and expiry, oldest first. A walk like
   * `keys()`, in pieces of about 256 KiB, each made when it is asked for: `for (const piece of cache.dump())
   * file.write(piece)`.
   */
  *dump(): Generator<Buffer, undefined, undefined> {
    yield* dump(this.#handle);
  }

  /**
   * Stores the entries of a dump, replacing entries of the same key. Takes the bytes as a whole or in pieces of any
   * size; for a stream of pieces it returns a promise. Throws `ERR_DUMP_MALFORMED` for bytes that are not a dump, or a
   * damaged one; the entries before the damage are then loaded.
   *
   * Load only dumps that you trust as you trust a program: a dump decides how its values are decoded.
   */
  load(bytes: Uint8Array | Iterable<Uint8Array>): LoadResult;
  load(bytes: AsyncIterable<Uint8Array>): Promise<LoadResult>;
  load(bytes: Uint8Array | Iterable<Uint8Array> | AsyncIterable<Uint8Array>): LoadResult | Promise<LoadResult> {
    return load(this.#handle, bytes);
  }
}
