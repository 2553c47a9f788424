/**
 * Fetching in a cache with a database: a value that only the database may have is read from there first. The loader of
 * a call is for keys that the database does not have either.
 */
import { CairnError, show } from '../errors.ts';
import { LOAD_TRIES_MAX } from '../limits.ts';
import { Loads, loadError } from '../loads.ts';
import { type LoadHandle, loadsOf } from '../native.ts';
import type { Loader } from '../options.ts';
import type { Wants } from './fetch-options.ts';
import type { FetchCache, Key } from './flight-binding.ts';

/** The loader of a call that has none: the database has no value, and nothing else could have one. */
export const loadNothing: Loader<unknown> = () => undefined;

export class Through {
  readonly #cache: FetchCache;
  readonly #handle: LoadHandle;
  readonly #loads: Loads;

  /** undefined: there is no database behind the cache. */
  static of(cache: FetchCache): Through | undefined {
    const handle = loadsOf(cache.handle);
    return handle === undefined ? undefined : new Through(cache, handle, Loads.of(handle)!);
  }

  private constructor(cache: FetchCache, handle: LoadHandle, loads: Loads) {
    this.#cache = cache;
    this.#handle = handle;
    this.#loads = loads;
  }

  /**
   * Reads values of these keys into memory. undefined: there is nothing to wait for. Otherwise resolves to the wants of
   * the call with the time that is left. REQUIRES: the keys stay as they are.
   */
  bring(keys: readonly Key[], wants: Wants): Promise<Wants> | undefined {
    if (wants.forceRefresh) return undefined;
    const missing = keys.filter((key) => this.#isElsewhere(key));
    return missing.length === 0 ? undefined : this.#bring(missing, wants);
  }

  /** The handle is about to be closed: calls that wait are rejected. */
  end(): void {
    this.#loads.end();
  }

  async #bring(keys: readonly Key[], wants: Wants): Promise<Wants> {
    const startMs = performance.now();
    let { timeoutMs } = wants;
    let missing = keys;
    for (let tries = 0; missing.length > 0; tries++) {
      const what = `Cannot fetch ${show(missing[0])}`;
      if (tries === LOAD_TRIES_MAX) throw loadError(what, missing[0]!, 'it has left memory again');
      const unknown = await this.#loads.load(what, missing, { timeoutMs, signal: wants.signal });
      if (timeoutMs > 0) timeoutMs = Math.max(1, Math.ceil(wants.timeoutMs - (performance.now() - startMs)));
      missing = missing.filter((key) => !unknown.has(key) && this.#isElsewhere(key));
    }
    return { ...wants, timeoutMs };
  }

  #isElsewhere(key: Key): boolean {
    // Most are hits, and this changes neither the order of use nor a counter.
    if (this.#handle.has(key) === true) return false;
    try {
      this.#cache.read(key, this.#handle.getThrough);
      return false;
    } catch (error) {
      if (!(error instanceof CairnError)) throw error;
      if (error.code === 'ERR_NOT_RESIDENT') return true;
      // The read that follows finds it again, and the call loads another value.
      if (error.code === 'ERR_VALUE_MALFORMED') return false;
      throw error;
    }
  }
}
