/** A call of fetch(), and the flight that answers it. */
import { type GivingUp, wait } from '../patience.ts';
import type { LoadContext, Loader, Wants } from './fetch-options.ts';
import type { Key } from './flight-binding.ts';
import type { Load } from './loads.ts';

/** The parts of a call. */
export interface CallParts {
  readonly key: Key;
  readonly loader: Loader<unknown>;
  readonly wants: Wants;
  readonly refresh: boolean;
  readonly stale?: unknown;
  readonly takesStaleOnError?: boolean;
}

/** One call of fetch(). Answered once; later answers are ignored. */
export class Call {
  readonly key: Key;
  readonly loader: Loader<unknown>;
  readonly wants: Wants;
  /** True: a present value does not answer it. */
  refresh: boolean;
  /** The value to be refreshed. */
  readonly stale: unknown;
  /** True: if the load fails, the value to be refreshed answers the call. */
  readonly takesStaleOnError: boolean;
  /** No caller waits for it. */
  background = false;
  flight: Flight | undefined;
  /** The load whose loader made this call and waits for it. */
  within: Load | undefined;
  /** Answered, perhaps by its own loader, which may close the cache. */
  isSettled = false;
  #stopWatching: (() => void) | undefined;
  #stopWaiting: (() => void) | undefined;
  #resolve: ((value: unknown) => void) | undefined;
  #reject: ((error: unknown) => void) | undefined;

  constructor({ key, loader, wants, refresh, stale, takesStaleOnError }: CallParts) {
    this.key = key;
    this.loader = loader;
    this.wants = wants;
    this.refresh = refresh;
    this.stale = stale;
    this.takesStaleOnError = takesStaleOnError === true;
  }
  promise(): Promise<unknown> {
    return new Promise((resolve, reject) => {
      this.#resolve = resolve;
      this.#reject = reject;
    });
  }
  resolve(value: unknown): void {
    this.#forget();
    this.#resolve?.(value);
  }
  reject(error: unknown): void {
    this.#forget();
    this.#reject?.(error);
  }
  /** The load has failed. */
  fail(error: unknown): void {
    if (this.takesStaleOnError) this.resolve(this.stale);
    else this.reject(error);
  }
  /** The loader of that load waits for this call. */
  waitWithin(load: Load | undefined, cacheId: number): void {
    this.within = load;
    this.#stopWaiting = load?.waitFor(cacheId, this.key);
  }
  /** Stops waiting as its options say. Its loader, which has run already, may have aborted its signal. */
  watch(giveUp: GivingUp): void {
    const { timeoutMs, signal } = this.wants;
    if (timeoutMs === 0 && signal === undefined) return;
    this.#stopWatching = wait({ timeoutMs, signal: this.background ? undefined : signal }, 'timer', giveUp);
    if (this.isSettled) this.#stopWatching();
  }
  #forget(): void {
    if (this.isSettled) return;
    this.isSettled = true;
    this.#stopWatching?.();
    this.#stopWaiting?.();
  }
}

/** A membership in a flight: the calls of this thread that share it. Id 0: not shared with other threads. */
export class Flight {
  readonly id: number;
  readonly calls = new Set<Call>();
  /** For a flight whose loader runs in this thread. */
  load: Load | undefined;
  /** The thread is kept alive for it. */
  holds = false;
  ended = false;
  #controller: AbortController | undefined;
  #aborted: { reason: unknown } | undefined;

  constructor(id: number) {
    this.id = id;
  }
  add(call: Call): void {
    call.flight = this;
    this.calls.add(call);
  }
  abort(reason: unknown): void {
    this.ended = true;
    if (this.load === undefined) return;
    this.#aborted = { reason };
    this.#controller?.abort(reason);
  }
  /** Made when it is first read: most loaders do not use it. */
  get signal(): AbortSignal {
    if (this.#controller === undefined) {
      this.#controller = new AbortController();
      if (this.#aborted !== undefined) this.#controller.abort(this.#aborted.reason);
    }
    return this.#controller.signal;
  }
}

export class Context implements LoadContext<unknown> {
  readonly key: Key;
  readonly stale: unknown;
  readonly #flight: Flight;

  constructor(flight: Flight, call: Call) {
    this.key = call.key;
    this.stale = call.stale;
    this.#flight = flight;
  }
  get signal(): AbortSignal {
    return this.#flight.signal;
  }
}
