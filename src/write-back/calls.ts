/**
 * Calls of the database over a connection, each again until it succeeds. Every lane has its own: what one of them waits
 * for after a failure holds no other up.
 */
import type { Backend } from '../backend/index.ts';
import { retryDelayMs } from './backoff.ts';
import { sleep, type WriterClock } from './clock.ts';
import type { Connection, Failure } from './connection.ts';

export interface CallsOptions {
  readonly connection: Pick<Connection, 'once'>;
  readonly clock: WriterClock;
  /** In [0, 1). */
  readonly random: () => number;
  /** From then on none is tried again. */
  readonly ending: AbortSignal;
  /** Called before each wait. */
  readonly onFailed: (failure: Failure) => void;
}

export class Calls {
  readonly #options: CallsOptions;
  /** In a row. */
  #failures = 0;

  constructor(options: CallsOptions) {
    this.#options = options;
  }

  /** A call has failed, and nothing has succeeded since. */
  get areFailing(): boolean {
    return this.#failures > 0;
  }

  /** One call. */
  once<T>(run: (backend: Backend) => Promise<T>): Promise<{ readonly value: T } | Failure> {
    return this.#options.connection.once(run);
  }

  /** A call until it succeeds; undefined: the end has come. The caller says what counts as success: succeeded(). */
  async untilAnswered<T>(run: (backend: Backend) => Promise<T>): Promise<T | undefined> {
    const { ending } = this.#options;
    while (!ending.aborted) {
      const outcome = await this.once(run);
      if (ending.aborted) return undefined;
      if ('value' in outcome) return outcome.value;
      await this.failed(outcome);
    }
    return undefined;
  }

  /** Tells of a failure, and waits until the call may be tried again, or the end comes. */
  async failed(failure: Failure): Promise<void> {
    const { clock, random, ending, onFailed } = this.#options;
    this.#failures++;
    onFailed(failure);
    await sleep(clock, retryDelayMs(this.#failures, failure.isHalting, random), ending);
  }

  /** The database works, as far as the caller can tell. */
  succeeded(): void {
    this.#failures = 0;
  }
}
