/**
 * Time as the log has it. The wall clock never goes back, as that of a cache with a log does not: it is the machine's,
 * but goes on from where it was when that is set back. So what expires is gone for good, in this process and the next.
 */
import type { LogClock } from '../log/index.ts';

export class ScribeClock implements LogClock {
  readonly #machine: LogClock;
  /** The most that the wall clock was ahead of the steady one. */
  #aheadMs = Number.NEGATIVE_INFINITY;

  constructor(machine: LogClock) {
    this.#machine = machine;
  }

  wallMs(): number {
    this.raise(this.#machine.wallMs());
    return Math.floor(this.steadyMs() + this.#aheadMs);
  }

  steadyMs(): number {
    return this.#machine.steadyMs();
  }

  /** It is not before that. */
  raise(wallMs: number): void {
    this.#aheadMs = Math.max(this.#aheadMs, wallMs - this.steadyMs());
  }
}
