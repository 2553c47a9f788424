/** A call of fetch(), or of one key of fetchMany(): which value answers it. */
import type { Loader } from '../options.ts';
import type { ManyLoader } from './batches.ts';
import type { Wants } from './fetch-options.ts';
import type { Flight } from './flight.ts';
import type { Key } from './flight-binding.ts';
import type { Load } from './loads.ts';
import type { Stored } from './stored.ts';
import type { Watch } from './watch.ts';

/**
 * Where the answer of a fetch came from:
 *
 * - `'hit'`: the cache had the value, fresh.
 * - `'miss'`: the cache had none; this call's loader ran.
 * - `'refreshed'`: this call's loader ran and replaced a value that the cache still had.
 * - `'joined'`: the load of another call, in any thread, gave it.
 * - `'stale'`: the cache had the value, stale, and the options of the call accept that.
 */
export type FetchOutcome = 'hit' | 'miss' | 'refreshed' | 'joined' | 'stale';

/** A loader of one key; of many, if the call's options have `batching`. */
export type AnyLoader = Loader<unknown> | ManyLoader<unknown>;

/** The parts of a call. */
export interface CallParts {
  readonly key: Key;
  readonly loader: AnyLoader;
  readonly wants: Wants;
  readonly refresh: boolean;
  /** Makes the answer of the value; undefined: the value is the answer. */
  readonly describe?: Describe | undefined;
  /** The entry to be refreshed. */
  readonly present?: Stored;
  /** The entry is refreshed for this time before its end. */
  readonly aheadMs?: number;
  readonly background?: boolean;
}

/** Makes the answer of `fetchWithInfo`. `present`: the entry that gave the value, if it was not loaded. */
export type Describe = (key: Key, value: unknown, outcome: FetchOutcome, present: Stored | undefined) => unknown;

/** One call of fetch(). Answered once; later answers are ignored. */
export class Call {
  readonly key: Key;
  readonly loader: AnyLoader;
  readonly wants: Wants;
  /** True: a present value does not answer it. */
  refresh: boolean;
  readonly present: Stored | undefined;
  readonly aheadMs: number;
  /** No caller waits for it: the load goes on for the cache. */
  background: boolean;
  /** Ends the wait of the call early. */
  watch: Watch | undefined;
  flight: Flight | undefined;
  /** The load whose loader made this call and waits for it. */
  within: Load | undefined;
  /** Answered, perhaps by its own loader, which may close the cache. */
  isSettled = false;
  readonly #describe: Describe | undefined;
  #stopWaiting: (() => void) | undefined;
  #resolve: ((value: unknown) => void) | undefined;
  #reject: ((error: unknown) => void) | undefined;

  constructor({ key, loader, wants, refresh, describe, present, aheadMs, background }: CallParts) {
    this.key = key;
    this.loader = loader;
    this.wants = wants;
    this.refresh = refresh;
    this.#describe = describe;
    this.present = present;
    this.aheadMs = aheadMs ?? 0;
    this.background = background === true;
  }
  /** The value to be refreshed. */
  get stale(): unknown {
    return this.present?.value;
  }
  promise(): Promise<unknown> {
    return new Promise((resolve, reject) => {
      this.#resolve = resolve;
      this.#reject = reject;
    });
  }
  resolve(value: unknown, outcome: FetchOutcome, present?: Stored): void {
    this.#forget();
    this.#answer(value, outcome, present);
  }
  reject(error: unknown): void {
    this.#forget();
    this.#reject?.(error);
  }
  /** The load has failed: the old value answers the call if it accepts that. */
  fail(error: unknown): void {
    const { present, wants } = this;
    if (present === undefined || wants.errorMs === 0 || present.staleMs >= wants.errorMs) this.reject(error);
    else this.resolve(present.value, present.staleMs < 0 ? 'hit' : 'stale', present);
  }
  /** The caller gets this value now; the call stays in its flight in the background. */
  answerEarly(present: Stored): void {
    this.#stopWaitingWithin();
    this.background = true;
    this.#answer(present.value, present.staleMs < 0 ? 'hit' : 'stale', present);
    this.watch?.check();
  }
  /** The loader of that load waits for this call. */
  waitWithin(load: Load | undefined, cacheId: number): void {
    this.within = load;
    this.#stopWaiting = load?.waitFor(cacheId, this.key);
  }
  // The promise is settled once; what comes later only ends the call.
  #answer(value: unknown, outcome: FetchOutcome, present: Stored | undefined): void {
    const resolve = this.#resolve;
    if (resolve === undefined) return;
    this.#resolve = undefined;
    this.#reject = undefined;
    resolve(this.#describe === undefined ? value : this.#describe(this.key, value, outcome, present));
  }
  #forget(): void {
    if (this.isSettled) return;
    this.isSettled = true;
    this.#stopWaitingWithin();
    this.watch?.settled(this);
  }
  #stopWaitingWithin(): void {
    this.#stopWaiting?.();
    this.#stopWaiting = undefined;
  }
}
