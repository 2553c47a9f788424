/** Loaders, which get a value from its source: their types, for options and calls. */

/** The argument of a loader. */
export interface LoadContext<V> {
  /** The key to load, as given to the `fetch` whose loader this is. */
  readonly key: string | Uint8Array;
  /** The old value, if this load refreshes one that is still in the cache; otherwise `undefined`. */
  readonly stale: V | undefined;
  /** Aborted when no caller in any thread waits any more, or when the cache is closed. */
  readonly signal: AbortSignal;
}

/** Gets a value from its source. `undefined`: there is no value; callers get `undefined`, and nothing is stored. */
export type Loader<V, L = V | undefined> = (context: LoadContext<V>) => L | PromiseLike<L>;
