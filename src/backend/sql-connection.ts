/** What connections to SQL servers have in common: each answer has a deadline, and an end is noticed at any time. */
import type { PooledConnection } from './pool.ts';

/** How long calls may take. */
export interface SqlSettings {
  readonly connectTimeoutMs: number;
  /** A statement that waits longer for a row of another transaction fails. */
  readonly lockTimeoutMs: number;
  /** A statement that takes longer fails. */
  readonly statementTimeoutMs: number;
  /** The database ends a transaction whose client is silent for this long. */
  readonly idleTimeoutMs: number;
  /** How much longer than the database's own limit an answer may take before the network is held to be gone. */
  readonly answerGraceMs: number;
}

interface Emitter {
  on(event: 'error' | 'end', listener: (error?: Error) => void): unknown;
}

/** How long the end of a connection waits for the database. */
const GOODBYE_MS_MAX = 1_000;

export abstract class SqlConnection implements PooledConnection {
  readonly #answerMs: number;
  #brokenBy: Error | undefined;
  #ended: Promise<void> | undefined;

  constructor(driver: Emitter, { statementTimeoutMs, answerGraceMs }: SqlSettings) {
    this.#answerMs = statementTimeoutMs + answerGraceMs;
    // Without a listener, the end of an idle connection would end the process.
    driver.on('error', (error) => {
      this.#brokenBy ??= error ?? new Error('The connection has failed');
    });
    driver.on('end', () => {
      this.#brokenBy ??= new Error('The database has ended the connection');
    });
  }

  get isBroken(): boolean {
    return this.#brokenBy !== undefined;
  }

  /** A command without parameters. */
  abstract command(text: string): Promise<unknown>;

  /** Closes the socket at once. */
  protected abstract cut(): void;

  /** Has the driver end the connection in an orderly way. */
  protected abstract leave(): Promise<void>;

  protected async ask<T>(send: () => Promise<T>): Promise<T> {
    if (this.#brokenBy !== undefined) throw this.#brokenBy;
    const timer = setTimeout(() => {
      const error = new Error(`No answer within ${this.#answerMs} ms`);
      this.destroy(Object.assign(error, { code: 'ETIMEDOUT' }));
    }, this.#answerMs);
    try {
      return await send();
    } catch (error) {
      // Drivers say that the connection was ended; the reason is better.
      throw this.#brokenBy ?? error;
    } finally {
      clearTimeout(timer);
    }
  }

  end(): Promise<void> {
    this.#brokenBy ??= new Error('The connection was closed');
    this.#ended ??= this.#sayGoodbye();
    return this.#ended;
  }

  async #sayGoodbye(): Promise<void> {
    // A network that is gone gives no answer.
    const timer = setTimeout(() => this.cut(), GOODBYE_MS_MAX);
    await this.leave().catch(() => {});
    clearTimeout(timer);
  }

  destroy(error: Error): void {
    this.#brokenBy ??= error;
    this.cut();
  }
}
