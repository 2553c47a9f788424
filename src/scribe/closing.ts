/**
 * The way from a command to close the log to a log that can be closed:
 *
 *     draining    the records of everything that was done before the command get into the log
 *     snapshot    a last one is taken, if the schedule wants it and the cache differs from the one before
 *     last        the records of what was done meanwhile get into the log, and segments that can go are removed
 *
 * After the deadline it is over in any phase.
 */
import type { LogClock } from '../log/index.ts';
import { type FeedHandle, targetsOf } from '../native.ts';
import type { Appending } from './appending.ts';
import type { SnapshotRunner } from './snapshot-runner.ts';

export interface ClosingOptions {
  /** Number of the command. */
  readonly id: number;
  /** 0: as long as it takes. */
  readonly timeoutMs: number;
  readonly takesSnapshot: boolean;
  readonly handle: FeedHandle;
  readonly clock: LogClock;
  readonly appending: Appending;
  readonly snapshots: SnapshotRunner;
}

export class Closing {
  readonly id: number;
  readonly #options: ClosingOptions;
  readonly #deadlineMs: number;
  readonly #targets: BigUint64Array;
  #phase: 'draining' | 'snapshot' | 'last' = 'draining';

  constructor(options: ClosingOptions) {
    const { id, timeoutMs, handle, clock, snapshots } = options;
    this.id = id;
    this.#options = options;
    this.#deadlineMs = timeoutMs === 0 ? Number.POSITIVE_INFINITY : clock.steadyMs() + timeoutMs;
    this.#targets = targetsOf(handle);
    snapshots.beginClosing();
  }

  /** Goes on, once per turn. `written`: the log can be closed. `late`: it has to be, and lacks records. */
  step(): 'going-on' | 'written' | 'late' {
    const { clock, snapshots, takesSnapshot } = this.#options;
    if (this.#phase === 'snapshot' && snapshots.isLastOver) this.#beginLast();
    const isLate = clock.steadyMs() >= this.#deadlineMs;
    if (!this.#isWritten()) return isLate ? 'late' : 'going-on';
    if (isLate || (this.#phase === 'last' && !snapshots.isReclaiming)) return 'written';
    if (this.#phase === 'draining') {
      if (takesSnapshot && snapshots.isOld) {
        snapshots.takeLast();
        this.#phase = 'snapshot';
      } else this.#beginLast();
    }
    return 'going-on';
  }

  #isWritten(): boolean {
    const { appending, handle } = this.#options;
    return appending.count === 0 && handle.covered(this.#targets);
  }

  #beginLast(): void {
    this.#phase = 'last';
    this.#options.handle.readTargets(this.#targets);
  }
}
