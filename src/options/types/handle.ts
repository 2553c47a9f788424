/** The options of a handle. */
import type { Loader } from '../loader.ts';
import type { Size } from './units.ts';

/** The options of `Cache.attach`. */
// biome-ignore lint/suspicious/noExplicitAny: options without a loader are those of any cache
export interface AttachOptions<V = any> {
  /** What reads of this handle return for values that are bytes; see {@link RawOption}. */
  raw?: RawOption;
  /** The queue and the threads of `cache.promises` of this handle. */
  promises?: PromiseOptions;
  /** Loads for `fetch` of this handle if the call brings no loader. */
  loader?: Loader<V>;
}

/**
 * What reads return for values that are bytes, such as those that memcached clients stored: a `Buffer` (default), the
 * bytes as UTF-8 text, the result of `JSON.parse`, or the result of a function of the bytes and their client flags.
 */
export type RawOption = 'buffer' | 'string' | 'json' | ((bytes: Buffer, flags: number) => unknown);

/** The queue and the threads of `cache.promises` of a handle, which its first use creates. */
export interface PromiseOptions {
  /** Threads, each with its share of the shards. Default: one per 4 processors, from 1 to 4. */
  lanes?: number;
  /** The most unanswered requests; each key of `getMany`, `setMany` and `deleteMany` counts as one. Default 65,536. */
  maxRequests?: number;
  /**
   * The most bytes of keys and values in unanswered requests; a batch that `clear()` has cut short counts as 256 KiB.
   * Default 64 MiB.
   */
  maxBytes?: Size;
}

/** PromiseOptions after checking. */
export interface ResolvedPromiseOptions {
  /** undefined: chosen. */
  readonly lanes: number | undefined;
  readonly maxRequests: number;
  readonly maxBytes: number;
}
