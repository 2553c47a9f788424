/** A call of fetch(), and the flight that answers it. */
import { type GivingUp, wait } from '../patience.ts';
import type { LoadContext, Loader, Wants } from './fetch-options.ts';
import type { Key } from './flight-binding.ts';
import type { Load } from './loads.ts';

/** What a call is made of. */
export interface CallParts {
  readonly key: Key;
  readonly loader: Loader<unknown>;
  readonly wants: Wants;
  readonly refresh: boolean;
  readonly stale?: unknown;
  readonly takesStaleOnError?: boolean;
}

/** One call of fetch(). Answered once; what comes later is ignored. */
export class Call {
  readonly key: Key;
  readonly loader: Loader<unknown>;
  readonly wants: Wants;
  /** A value that is there does not answer it. */
  refresh: boolean;
  /** The value that is to be refreshed. */
  readonly stale: unknown;
  /** If the load fails, the value that is to be refreshed answers the call. */
  readonly takesStaleOnError: boolean;
  /** No caller waits for it. */
  background = false;
  flight: Flight | undefined;
  /** The load whose loader has made the call, if it waits for it. */
  within: Load | undefined;
  /** Answered, perhaps by its own loader, which may close the cache at once. */
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
  /** Gives up as its options say. Its loader, which has run already, may have aborted its signal. */
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

/** A membership in a flight: the calls of this thread that share it. Id 0: it is not shared with anybody. */
export class Flight {
  readonly id: number;
  readonly calls = new Set<Call>();
  /** Of a flight whose loader runs in this thread. */
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
  /** Made when it is first asked for: most loaders do not look at it. */
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
