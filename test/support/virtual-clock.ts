// A clock that stands still until the test moves it, and then calls back in the order of time. Between two callbacks it
// lets all promises that are ready go on.

import type { WriterClock } from '../../src/write-back/clock.ts';

interface Timer {
  readonly atMs: number;
  readonly order: number;
  readonly callback: () => void;
}

export class VirtualClock implements WriterClock {
  #nowMs = 1000;
  #order = 0;
  readonly #timers = new Set<Timer>();

  steadyMs(): number {
    return this.#nowMs;
  }

  wallMs(): number {
    return this.#nowMs;
  }

  after(ms: number, callback: () => void): { stop(): void } {
    const timer = { atMs: this.#nowMs + ms, order: this.#order++, callback };
    this.#timers.add(timer);
    return { stop: () => void this.#timers.delete(timer) };
  }

  async yield(): Promise<void> {}

  sleep(ms: number): Promise<void> {
    return new Promise((resolve) => this.after(ms, resolve));
  }

  /** Lets so much time pass. */
  async advance(ms: number): Promise<void> {
    const endMs = this.#nowMs + ms;
    for (;;) {
      await this.settle();
      const next = this.#next();
      if (next === undefined || next.atMs > endMs) break;
      this.#nowMs = Math.max(this.#nowMs, next.atMs);
      this.#timers.delete(next);
      next.callback();
    }
    this.#nowMs = endMs;
  }

  /** Time passes in which this thread is busy: nothing is called back. */
  pass(ms: number): void {
    this.#nowMs += ms;
  }

  /** Everything that can go on without time passing does. */
  async settle(): Promise<void> {
    // A turn of the event loop comes when no promise is ready any more.
    await new Promise((resolve) => setImmediate(resolve));
  }

  #next(): Timer | undefined {
    let first: Timer | undefined;
    for (const timer of this.#timers) {
      if (first === undefined || timer.atMs < first.atMs || (timer.atMs === first.atMs && timer.order < first.order)) {
        first = timer;
      }
    }
    return first;
  }
}
