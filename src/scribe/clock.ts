/**
 * Time as the log has it. The wall clock never goes back, as that of a cache with a log does not: it is the machine's, but
 * goes on from where it was when that is set back. So what expires is gone for good, in this process and the next.
 */
import type { LogClock } from '../log/index.ts';

export class ScribeClock implements LogClock {
  readonly #wall: () => number;
  readonly #steady: () => number;
  /** The most that the wall clock was ahead of the steady one. */
  #aheadMs = Number.NEGATIVE_INFINITY;

  constructor(wall: () => number = Date.now, steady: () => number = () => performance.now()) {
    this.#wall = wall;
    this.#steady = steady;
  }

  wallMs(): number {
    this.raise(this.#wall());
    return Math.floor(this.#steady() + this.#aheadMs);
  }

  steadyMs(): number {
    return this.#steady();
  }

  /** It is not before that. */
  raise(wallMs: number): void {
    this.#aheadMs = Math.max(this.#aheadMs, wallMs - this.#steady());
  }
}
