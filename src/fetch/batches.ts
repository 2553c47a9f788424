/**
 * Loads of many keys by one call of a loader.
 *
 * Each key has its flight, as in `fetch`: a batch only collects flights whose loads this thread leads, calls the loader
 * once for all of them, and gives each its part of the answer. A batch is open until its time is over or it is full:
 * without `collect` until the code that runs now has ended, so that it has the misses of one `fetchMany`.
 */
import { types } from 'node:util';
import { CairnTypeError, show, wrongType } from '../errors.ts';
import { copyOfBytes } from '../request/bytes.ts';
import type { Call } from './call.ts';
import type { Batching } from './fetch-options.ts';
import type { Flight } from './flight.ts';
import type { Key } from './flight-binding.ts';
import { Load } from './loads.ts';

/** The argument of a loader of many keys. */
export interface ManyContext<V> {
  /** The keys to load: missing ones, each once, in no particular order. */
  readonly keys: readonly (string | Uint8Array)[];
  /** For each key, by its index, the old value that this load refreshes; otherwise `undefined`. */
  readonly stale: readonly (V | undefined)[];
  /** Aborted when no caller in any thread waits for any of the keys, or when the cache is closed. */
  readonly signal: AbortSignal;
}

/**
 * The answer of a loader of many keys: a Map by key, or an array of values in the order of the keys. A key that is
 * missing from it, or whose value is `undefined`, has no value: nothing is stored for it. An `Error` in the place of a
 * value fails the calls for its key only.
 */
export type LoadedMany<V> =
  | ReadonlyMap<string | Uint8Array, V | Error | undefined>
  | readonly (V | Error | undefined)[];

/** Gets the values of many keys from their source. */
export type ManyLoader<V> = (context: ManyContext<V>) => LoadedMany<V> | PromiseLike<LoadedMany<V>>;

/** What becomes of each flight of a batch. */
export interface BatchEnds {
  loaded(flight: Flight, call: Call, value: unknown): void;
  failed(flight: Flight, error: unknown): void;
}

/** A flight whose load this thread leads, and the call whose options count. */
interface Member {
  /** Bytes are copied: the caller may change its buffer before the loader is called. */
  readonly key: Key;
  readonly flight: Flight;
  readonly call: Call;
}

/** The batches of one handle. */
export class Batches {
  readonly #cacheId: number;
  readonly #ends: BatchEnds;
  /** Batches that still take members. At most one for each loader. */
  readonly #open = new Map<ManyLoader<unknown>, Batch>();

  constructor(cacheId: number, ends: BatchEnds) {
    this.#cacheId = cacheId;
    this.#ends = ends;
  }

  /** The flight is loaded with the batch of its loader. REQUIRES: the call's options have `batching`. */
  add(flight: Flight, call: Call): void {
    const loader = call.loader as ManyLoader<unknown>;
    const batching = call.wants.batching!;
    let batch = this.#open.get(loader);
    if (batch !== undefined && !batch.isLike(batching)) {
      batch.run();
      batch = undefined;
    }
    if (batch === undefined) {
      batch = new Batch(this.#cacheId, loader, batching, this.#ends, () => this.#open.delete(loader));
      this.#open.set(loader, batch);
    }
    batch.add(flight, call);
  }
}

/** One call of a loader of many keys. */
export class Batch {
  readonly #loader: ManyLoader<unknown>;
  readonly #batching: Batching;
  readonly #ends: BatchEnds;
  readonly #onRun: () => void;
  readonly #load: Load;
  readonly #timer: NodeJS.Timeout | undefined;
  readonly #controller = new AbortController();
  #members: Member[] = [];
  /** Members whose loads were not aborted. */
  #wantedCount = 0;
  #hasRun = false;

  constructor(cacheId: number, loader: ManyLoader<unknown>, batching: Batching, ends: BatchEnds, onRun: () => void) {
    this.#loader = loader;
    this.#batching = batching;
    this.#ends = ends;
    this.#onRun = onRun;
    this.#load = new Load(cacheId);
    if (batching.collectMs > 0) this.#timer = setTimeout(() => this.run(), batching.collectMs);
    else queueMicrotask(() => this.run());
  }

  isLike({ collectMs, keysMax }: Batching): boolean {
    return collectMs === this.#batching.collectMs && keysMax === this.#batching.keysMax;
  }

  add(flight: Flight, call: Call): void {
    this.#load.add(flight.key);
    flight.load = this.#load;
    flight.batch = this;
    this.#members.push({ key: copyOfBytes(flight.key), flight, call });
    this.#wantedCount++;
    if (this.#members.length === this.#batching.keysMax) this.run();
  }

  /** The load of a member was aborted. */
  leave(reason: unknown): void {
    if (--this.#wantedCount === 0) this.#controller.abort(reason);
  }

  /** Calls the loader; a second time it does nothing. */
  run(): void {
    if (this.#hasRun) return;
    this.#hasRun = true;
    clearTimeout(this.#timer);
    this.#onRun();
    // The callers of the others have left, or the handle was closed.
    const members = this.#members.filter(({ flight }) => !flight.ended);
    this.#members = members;
    if (members.length === 0) return;
    const keys = members.map(({ key }) => key);
    const stale = members.map(({ call }) => call.stale);
    const context: ManyContext<unknown> = { keys: [...keys], stale, signal: this.#controller.signal };
    new Promise<unknown>((resolve) => {
      resolve(this.#load.run(() => this.#loader(context)));
    })
      .then((answer) => valuesOf(keys, answer))
      .then(
        (values) => this.#give(values),
        (error) => {
          for (const { flight } of members) this.#ends.failed(flight, error);
        },
      );
  }

  #give(values: readonly unknown[]): void {
    for (const [i, { flight, call }] of this.#members.entries()) {
      const value = values[i];
      if (value instanceof Error || types.isNativeError(value)) this.#ends.failed(flight, value);
      else this.#ends.loaded(flight, call, value);
    }
  }
}

// The values of the keys, by index; undefined for each that the answer does not have.
function valuesOf(keys: readonly Key[], answer: unknown): readonly unknown[] {
  if (types.isMap(answer)) return keys.map(lookIn(answer));
  if (Array.isArray(answer) && answer.length === keys.length) return answer;
  const got = Array.isArray(answer) ? `an array of ${answer.length}` : show(answer);
  throw new CairnTypeError(
    'ERR_INVALID_ARGUMENT',
    `Expected the loader to return a Map by key, or an array of ${keys.length} values in the order of the keys, got ${got}`,
  );
}

// Bytes are the same key as other bytes, or text, of the same content: a Map does not know that.
function lookIn(answer: ReadonlyMap<unknown, unknown>): (key: Key) => unknown {
  let byText: Map<string, unknown> | undefined;
  return (key) => {
    if (answer.has(key)) return answer.get(key);
    byText ??= new Map([...answer].map(([each, value]) => [textOf(each), value]));
    return byText.get(textOf(key));
  };
}

function textOf(key: unknown): string {
  if (typeof key === 'string') return Buffer.from(key).toString('latin1');
  if (types.isUint8Array(key)) return Buffer.from(key.buffer, key.byteOffset, key.byteLength).toString('latin1');
  throw wrongType('each key of the Map that the loader returns', 'a string, Buffer or Uint8Array', key);
}
