/**
 * How long calls wait: one watch for the calls that began together, with the options of all of them.
 *
 * A call in the background has its answer, or never wanted one. Only the timeout ends it, because a load that no caller
 * waits for must end too.
 */
import { longTimeout, wait } from '../patience.ts';
import type { Call } from './call.ts';

/** What ends a wait. Each is called for every call that is concerned. */
export interface WaitEnds {
  late(call: Call): void;
  aborted(call: Call, reason: unknown): void;
  /** The soft timeout is over. */
  soft(call: Call): void;
}

/** Watches calls until the last one is settled. */
export class Watch {
  readonly #calls: Set<Call>;
  #stopTimer: (() => void) | undefined;
  #stopCallers: (() => void) | undefined;

  /** REQUIRES: the calls are not settled, and have the same options. */
  static over(calls: readonly Call[], ends: WaitEnds): void {
    const [first] = calls;
    if (first === undefined) return;
    const { timeoutMs, signal, softMs } = first.wants;
    if (timeoutMs > 0 || signal !== undefined || softMs > 0) new Watch(calls, ends);
  }

  private constructor(calls: readonly Call[], ends: WaitEnds) {
    this.#calls = new Set(calls);
    const { timeoutMs, signal, softMs } = calls[0]!.wants;
    for (const call of calls) call.watch = this;
    const each = (end: (call: Call) => void): void => {
      for (const call of [...this.#calls]) end(call);
    };
    if (timeoutMs > 0) {
      const late = { late: () => each(ends.late), aborted: () => {} };
      this.#stopTimer = wait({ timeoutMs, signal: undefined }, 'timer', late);
    }
    const hasSoft = softMs > 0 && (timeoutMs === 0 || softMs < timeoutMs);
    const soft = hasSoft ? longTimeout(softMs, 'timer', () => each(ends.soft)) : undefined;
    const aborted = (reason: unknown): void => each((call) => call.background || ends.aborted(call, reason));
    const stopSignal = wait({ timeoutMs: 0, signal }, 'timer', { late: () => {}, aborted });
    this.#stopCallers = () => {
      soft?.stop();
      stopSignal();
    };
    // All may be in the background, or the loader, which has run already, has aborted the signal.
    this.check();
  }

  /** The call needs no watch any more. */
  settled(call: Call): void {
    this.#calls.delete(call);
    this.check();
  }

  /** Stops what watches for no call: a call was settled, or goes on in the background. */
  check(): void {
    if (this.#calls.size === 0) this.#stopTimer?.();
    for (const call of this.#calls) if (!call.background) return;
    this.#stopCallers?.();
  }
}
