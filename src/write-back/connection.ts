/**
 * The connection of the writer to its database, made when it is needed. All lanes use the same one.
 *
 * A call that does not return in time counts as failed, and the connection is closed: then calls of other lanes that
 * are under way fail too. It may still have its effect later.
 */
import type { Backend } from '../backend/index.ts';
import { asError } from '../errors.ts';
import type { WriterClock } from './clock.ts';

/** A call of the database that takes longer counts as failed. Its own limits are shorter, and say more. */
export const CALL_TIMEOUT_MS = 120_000;

export interface ConnectionOptions {
  /** Makes the connection to the database; called again when a call has not returned. */
  readonly connect: () => Promise<Backend>;
  /** A call that takes longer counts as failed. */
  readonly callTimeoutMs: number;
  readonly clock: WriterClock;
}

/** What became of a call that did not succeed. */
export interface Failure {
  readonly error: Error;
  /** Only a change of the database or its rights helps. */
  readonly isHalting: boolean;
}

export class Connection {
  readonly #options: ConnectionOptions;
  #backend: Backend | undefined;
  #connecting: Promise<Backend> | undefined;
  #isOpen = false;
  /** How many connections have been closed. */
  #closed = 0;
  #name = 'The database';

  constructor(options: ConnectionOptions) {
    this.#options = options;
  }

  /** How messages call the database. */
  get name(): string {
    return this.#name;
  }

  /** One call, on the connection that there is or on a new one. */
  async once<T>(run: (backend: Backend) => Promise<T>): Promise<{ readonly value: T } | Failure> {
    const { clock, callTimeoutMs } = this.#options;
    let timer: { stop(): void } | undefined;
    try {
      const isLate = new Promise<'late'>((resolve) => {
        timer = clock.after(callTimeoutMs, () => resolve('late'));
      });
      const closed = this.#closed;
      const running = this.#connected().then(run);
      const value = await Promise.race([running, isLate]);
      if (value !== 'late') return { value };
      running.catch(() => {
        // Nothing is waiting for it any more.
      });
      // Another call may have been late before, and has closed the connection of both.
      if (closed === this.#closed) void this.disconnect();
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

  /** Closes the connection, which ends a call in progress; the next call makes another. Never rejects. */
  async disconnect(): Promise<void> {
    const backend = this.#backend;
    this.#closed++;
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
