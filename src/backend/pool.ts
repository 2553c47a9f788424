/**
 * Connections of one purpose: opened when they are needed, at most `max`, kept while they are sound.
 *
 * | state of the pool | use()                                                      | close()                          |
 * |-------------------|------------------------------------------------------------|----------------------------------|
 * | open              | takes an idle connection, opens one, or waits for its turn | ends idle ones, breaks busy ones |
 * | closed            | rejects with `ERR_CLOSED`                                  | the same promise                 |
 *
 * A connection whose job fails is broken off and never used again: the transaction that it may have open ends with it.
 */
import { CairnError } from '../errors.ts';

/** Calls that wait for a connection; further ones are refused. */
export const POOL_WAITERS_MAX = 4096;

export interface PooledConnection {
  /** The other side, or a failed call, has ended it. */
  readonly isBroken: boolean;
  /** Says goodbye and ends. Never rejects. */
  end(): Promise<void>;
  /** Ends at once: calls in progress reject with this error. Never throws. */
  destroy(error: Error): void;
}

interface Waiter {
  readonly take: () => void;
  readonly refuse: (error: Error) => void;
}

export class Pool<C extends PooledConnection> {
  readonly #name: string;
  readonly #max: number;
  readonly #open: () => Promise<C>;
  readonly #idle: C[] = [];
  readonly #busy = new Set<C>();
  readonly #waiters: Waiter[] = [];
  /** Connections that are being opened. */
  #opening = 0;
  #closed: Promise<void> | undefined;

  constructor(name: string, max: number, open: () => Promise<C>) {
    this.#name = name;
    this.#max = max;
    this.#open = open;
  }

  /** Runs a job on a connection that nothing else uses meanwhile. */
  async use<T>(job: (connection: C) => Promise<T>): Promise<T> {
    const connection = await this.borrow();
    let result: T;
    try {
      result = await job(connection);
    } catch (error) {
      throw this.breakOff(connection, error);
    }
    this.giveBack(connection);
    return result;
  }

  /** Ends the use of a connection after an error; returns the error that the caller is to throw. */
  breakOff(connection: C, error: unknown): unknown {
    const reason = this.#closed === undefined ? error : this.#refusal(error);
    connection.destroy(reason instanceof Error ? reason : new Error(String(reason)));
    this.giveBack(connection);
    return reason;
  }

  close(): Promise<void> {
    this.#closed ??= this.#end();
    return this.#closed;
  }

  async #end(): Promise<void> {
    // Once #closed is set: what runs until the first await runs before.
    await undefined;
    for (const waiter of this.#waiters.splice(0)) waiter.refuse(this.#refusal());
    for (const connection of this.#busy) connection.destroy(this.#refusal());
    await Promise.all(this.#idle.splice(0).map((connection) => connection.end()));
  }

  /** A connection until it is given back or broken off. */
  async borrow(): Promise<C> {
    for (;;) {
      if (this.#closed !== undefined) throw this.#refusal();
      const idle = this.#idle.pop();
      if (idle !== undefined) {
        if (idle.isBroken) continue;
        this.#busy.add(idle);
        return idle;
      }
      if (this.#busy.size + this.#opening < this.#max) return this.#openOne();
      if (this.#waiters.length >= POOL_WAITERS_MAX) {
        throw new CairnError('ERR_QUEUE_FULL', `${this.#name}: ${POOL_WAITERS_MAX} calls wait for a connection`);
      }
      await new Promise<void>((take, refuse) => this.#waiters.push({ take, refuse }));
    }
  }

  async #openOne(): Promise<C> {
    this.#opening++;
    let connection: C;
    try {
      connection = await this.#open();
    } catch (error) {
      this.#opening--;
      this.#wakeOne();
      throw this.#closed === undefined ? error : this.#refusal(error);
    }
    this.#opening--;
    if (this.#closed !== undefined) {
      connection.destroy(this.#refusal());
      throw this.#refusal();
    }
    this.#busy.add(connection);
    return connection;
  }

  /** A second time does nothing. */
  giveBack(connection: C): void {
    if (!this.#busy.delete(connection)) return;
    if (!connection.isBroken) {
      if (this.#closed === undefined) this.#idle.push(connection);
      else connection.destroy(this.#refusal());
    }
    this.#wakeOne();
  }

  #wakeOne(): void {
    this.#waiters.shift()?.take();
  }

  #refusal(cause?: unknown): CairnError {
    return new CairnError('ERR_CLOSED', `${this.#name} is closed`, cause === undefined ? undefined : { cause });
  }
}
