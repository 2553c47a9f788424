/**
 * Calls of the database: over a connection that is made when it is needed, each with a limit to its time, and again
 * until one succeeds.
 *
 * A call that does not return in time counts as failed, and its connection is closed. It may still have its effect
 * later.
 */
import type { Backend } from '../backend/index.ts';
import { asError } from '../errors.ts';
import { retryDelayMs } from './backoff.ts';
import { sleep, type WriterClock } from './clock.ts';

/** A call of the database that takes longer counts as failed. Its own limits are shorter, and say more. */
export const CALL_TIMEOUT_MS = 120_000;

export interface CallsOptions {
  /** Makes the connection to the database; called again when a call has not returned. */
  readonly connect: () => Promise<Backend>;
  /** A call that takes longer counts as failed. */
  readonly callTimeoutMs: number;
  readonly clock: WriterClock;
  /** In [0, 1). */
  readonly random: () => number;
  /** From then on none is tried again. */
  readonly ending: AbortSignal;
  /** Called before each wait. */
  readonly onFailed: (failure: Failure) => void;
}

/** What became of a call that did not succeed. */
export interface Failure {
  readonly error: Error;
  /** Only a change of the database or its rights helps. */
  readonly isHalting: boolean;
}

export class Calls {
  readonly #options: CallsOptions;
  #backend: Backend | undefined;
  #connecting: Promise<Backend> | undefined;
  #isOpen = false;
  #name = 'The database';
  /** In a row. */
  #failures = 0;

  constructor(options: CallsOptions) {
    this.#options = options;
  }

  /** How messages call the database. */
  get name(): string {
    return this.#name;
  }

  /** A call has failed, and nothing has succeeded since. */
  get areFailing(): boolean {
    return this.#failures > 0;
  }

  /** One call, on the connection that there is or on a new one. */
  async once<T>(run: (backend: Backend) => Promise<T>): Promise<{ readonly value: T } | Failure> {
    const { clock, callTimeoutMs } = this.#options;
    let timer: { stop(): void } | undefined;
    try {
      const isLate = new Promise<'late'>((resolve) => {
        timer = clock.after(callTimeoutMs, () => resolve('late'));
      });
      const running = this.#connected().then(run);
      const value = await Promise.race([running, isLate]);
      if (value !== 'late') return { value };
      running.catch(() => {
        // Nothing is waiting for it any more.
      });
      void this.disconnect();
      return { error: new Error(`${this.#name} did not answer within ${callTimeoutMs} ms`), isHalting: false };
    } catch (error) {
      const isHalting = this.#backend !== undefined && this.#backend.classify(error) !== 'transient';
      return { error: asError(error), isHalting };
    } finally {
      timer?.stop();
    }
  }

  /** The same, which rejects with the error of the call. */
  async use<T>(run: (backend: Backend) => Promise<T>): Promise<T> {
    const outcome = await this.once(run);
    if ('error' in outcome) throw outcome.error;
    return outcome.value;
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

  /** Closes the connection, which ends a call in progress; the next call makes another. Never rejects. */
  async disconnect(): Promise<void> {
    const backend = this.#backend;
    this.#backend = undefined;
    this.#connecting = undefined;
    this.#isOpen = false;
    try {
      await backend?.close();
    } catch {
      // It is not used any more, whatever its end was.
    }
  }

  // Calls that find no connection at the same time wait for the same one.
  #connected(): Promise<Backend> {
    if (this.#backend !== undefined && this.#isOpen) return Promise.resolve(this.#backend);
    if (this.#connecting === undefined) {
      const connecting = this.#connect().finally(() => {
        if (this.#connecting === connecting) this.#connecting = undefined;
      });
      this.#connecting = connecting;
    }
    return this.#connecting;
  }

  async #connect(): Promise<Backend> {
    const backend = this.#backend ?? (await this.#options.connect());
    this.#backend ??= backend;
    this.#name = backend.name;
    await backend.open();
    // Meanwhile the call may have been too late.
    if (this.#backend === backend) this.#isOpen = true;
    return backend;
  }
}
