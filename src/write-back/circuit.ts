/**
 * A breaker between loads and a database that does not answer: after failures in a row no question is asked for a
 * while, so that requests are refused at once and the database is left in peace. Then one question is let through. If
 * it succeeds all are, and otherwise the next wait is longer.
 *
 *     closed -- 3 failures in a row --> open -- the wait is over: one question --> closed, or open again
 */
import { retryDelayMs } from './backoff.ts';

/** Failures in a row that open it. */
const FAILURES_MAX = 3;

export interface CircuitOptions {
  readonly clock: { steadyMs(): number };
  /** In [0, 1). */
  readonly random: () => number;
}

export class Circuit {
  readonly #options: CircuitOptions;
  #failures = 0;
  #opensAtMs = 0;
  #isTrying = false;
  #why = '';

  constructor(options: CircuitOptions) {
    this.#options = options;
  }

  get isOpen(): boolean {
    return this.#failures >= FAILURES_MAX;
  }

  /** Of the last failure. */
  get why(): string {
    return this.#why;
  }

  /** Whether a question may be asked. The caller then tells how it has ended. */
  admits(): boolean {
    if (!this.isOpen) return true;
    if (this.#isTrying || this.#options.clock.steadyMs() < this.#opensAtMs) return false;
    this.#isTrying = true;
    return true;
  }

  succeeded(): void {
    this.#failures = 0;
    this.#isTrying = false;
  }

  /** True: it has opened now. */
  failed(why: string): boolean {
    const wasOpen = this.isOpen;
    this.#failures++;
    this.#isTrying = false;
    this.#why = why;
    if (!this.isOpen) return false;
    const waitMs = retryDelayMs(this.#failures - FAILURES_MAX + 1, false, this.#options.random);
    this.#opensAtMs = this.#options.clock.steadyMs() + waitMs;
    return !wasOpen;
  }
}
