/**
 * Records which load waits for which, so that a loader that would wait for itself gets an error instead of waiting
 * forever.
 *
 * Each loader runs in its own async context, by which a `fetch` within it is known to be part of that load. Each load
 * that waits for a key is an edge; a `fetch` that would close a circle is refused. Only loads of this thread are known:
 * a circle over several threads is ended by the option `timeout` only.
 */
import { AsyncLocalStorage } from 'node:async_hooks';
import { isUtf8 } from 'node:buffer';
import { CairnError, show } from '../errors.ts';
import type { Key } from './flight-binding.ts';

const running = new AsyncLocalStorage<Load>();
/** Loads whose loaders run in this thread, by cache and key. */
const loads = new Map<string, Load>();

/** A load whose loader runs in this thread: of one key, or of the keys of a batch. */
export class Load {
  readonly #cacheId: number;
  /** The keys that it has still to bring, by their ids. */
  readonly #keys = new Map<string, Key>();
  readonly #waitsFor = new Map<string, number>();

  constructor(cacheId: number) {
    this.#cacheId = cacheId;
  }

  /** The load brings this key too. */
  add(key: Key): void {
    const id = idOf(this.#cacheId, key);
    this.#keys.set(id, key);
    loads.set(id, this);
  }

  /** Runs the loader within this load. */
  run<T>(loader: () => T): T {
    return running.run(this, loader);
  }

  /** The loader has brought this key, or no call waits for it any more. */
  end(key: Key): void {
    const id = idOf(this.#cacheId, key);
    this.#keys.delete(id);
    if (loads.get(id) === this) loads.delete(id);
  }

  /** The load waits for another key from now on, until the returned function is called. */
  waitFor(cacheId: number, key: Key): () => void {
    const id = idOf(cacheId, key);
    this.#waitsFor.set(id, (this.#waitsFor.get(id) ?? 0) + 1);
    return () => {
      const count = this.#waitsFor.get(id)! - 1;
      if (count === 0) this.#waitsFor.delete(id);
      else this.#waitsFor.set(id, count);
    };
  }

  /** The error for a fetch of this load that would wait for the load itself; undefined: it would not. */
  circleWith(cacheId: number, key: Key): CairnError | undefined {
    const circle = this.#circle(idOf(cacheId, key), new Set());
    if (circle === undefined) return undefined;
    const own = show(circle.at(-1));
    const others = circle.slice(0, -1).map((other) => `${show(other)}, whose loader asks for `);
    return new CairnError(
      'ERR_FETCH_CIRCLE',
      `The loader of ${own} asks for ${others.join('')}${others.length === 0 ? 'the same key' : own}: no value would ever come`,
    );
  }

  /** The load in whose loader the caller runs; undefined: none, or one that has ended. */
  static get current(): Load | undefined {
    const load = running.getStore();
    return load === undefined || load.#keys.size === 0 ? undefined : load;
  }

  // The keys of the loads from that one to this one.
  #circle(id: string, seen: Set<string>): Key[] | undefined {
    const load = loads.get(id);
    if (load === undefined || seen.has(id)) return undefined;
    const key = load.#keys.get(id)!;
    if (load === this) return [key];
    seen.add(id);
    for (const next of load.#waitsFor.keys()) {
      const rest = this.#circle(next, seen);
      if (rest !== undefined) return [key, ...rest];
    }
    return undefined;
  }
}

// Text and its bytes are one key.
function idOf(cacheId: number, key: Key): string {
  if (typeof key === 'string') return `${cacheId}:text:${key}`;
  const bytes = Buffer.from(key.buffer, key.byteOffset, key.byteLength);
  return isUtf8(bytes) ? `${cacheId}:text:${bytes.toString('utf8')}` : `${cacheId}:bytes:${bytes.toString('latin1')}`;
}
