/** A flight: one load of one key, as this thread takes part in it. */

import type { LoadContext } from '../options.ts';
import type { Batch } from './batches.ts';
import type { Call } from './call.ts';
import type { Key } from './flight-binding.ts';
import type { Load } from './loads.ts';

/** A membership in a flight: the calls of this thread that share it. Id 0: not shared with other threads. */
export class Flight {
  readonly id: number;
  readonly key: Key;
  readonly calls = new Set<Call>();
  /** For a flight whose loader runs in this thread. */
  load: Load | undefined;
  /** The load is one of several that a call of a loader of many keys brings. */
  batch: Batch | undefined;
  /** The thread is kept alive for it. */
  holds = false;
  ended = false;
  #controller: AbortController | undefined;
  #aborted: { reason: unknown } | undefined;

  constructor(id: number, key: Key) {
    this.id = id;
    this.key = key;
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
    this.batch?.leave(reason);
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

/** The argument of a loader of one key. */
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
