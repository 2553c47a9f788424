/**
 * A database that goes back to an earlier state under load, as a failover to a standby that lagged does: its tables and
 * cursors are copied, and a while later put back together in one transaction.
 */
import type { Random } from './random.ts';
import { sleep } from './sleep.ts';

/** One earlier state of a database. */
export interface Past {
  /** Keeps the present state, of one moment. Rejects if the database does not answer; the one before is kept then. */
  remember(): Promise<void>;
  /** Makes the kept state the present one; returns how many effects that has taken back. */
  goBack(): Promise<number>;
}

export interface FailoversOptions {
  readonly past: Past;
  readonly random: Random;
  /** How far back, at most. */
  readonly backMs: number;
}

export class Failovers {
  readonly #options: FailoversOptions;
  #running: { readonly stop: AbortController; readonly over: Promise<void> } | undefined;
  times = 0;
  effectsTaken = 0;

  constructor(options: FailoversOptions) {
    this.#options = options;
  }

  /** Over and over from now on. */
  start(): void {
    const stop = new AbortController();
    this.#running = { stop, over: this.#run(stop.signal) };
  }

  /** Resolves when none is under way. What was remembered is not used any more. */
  async stop(): Promise<void> {
    const running = this.#running;
    this.#running = undefined;
    running?.stop.abort();
    await running?.over;
  }

  async #run(signal: AbortSignal): Promise<void> {
    const { past, random, backMs } = this.#options;
    while (!signal.aborted) {
      try {
        await past.remember();
        await sleep(random.below(backMs), signal);
        if (!signal.aborted) await this.goBack();
      } catch {
        // It is stopped, or cut off, meanwhile.
      }
      await sleep(random.below(backMs), signal);
    }
  }

  async goBack(): Promise<void> {
    this.effectsTaken += await this.#options.past.goBack();
    this.times++;
  }
}
