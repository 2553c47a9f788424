/**
 * Whether callers may wait for the database. While some do and it has confirmed nothing for their time, or nothing is
 * written until a person acts, it says so: then their waits end, and further changes that would wait are refused before
 * they are made. The next batch that is committed ends that. Of several lanes, the one that confirms nothing counts:
 * for which of them a caller waits, this does not know.
 */
import { type FeedHandle, StoredHealth } from '../native.ts';
import type { WriterClock } from './clock.ts';
import type { WriterState } from './writer.ts';

/** States in which nothing is written until a person acts. */
const STOPPED: ReadonlySet<WriterState> = new Set(['halted', 'refused', 'closed']);

export type HealthHandle = Pick<FeedHandle, 'setStoredHealth' | 'takeWanted'>;

export interface StoredHealthOptions {
  readonly handle: HealthHandle;
  readonly clock: WriterClock;
  /** How long callers wait without a confirmation; 0: without a limit. */
  readonly ackTimeoutMs: number;
}

export class StoredHealthWatch {
  readonly #options: StoredHealthOptions;
  #health: StoredHealth = StoredHealth.running;
  /** Callers wait, and nothing has been confirmed since then. */
  #waitingSinceMs: number | undefined;

  constructor(options: StoredHealthOptions) {
    this.#options = options;
    // The writer before this one may have died while the database was away.
    options.handle.setStoredHealth(this.#health);
  }

  onState(state: WriterState): void {
    if (STOPPED.has(state)) this.#tell(StoredHealth.stopped);
    else if (this.#health === StoredHealth.stopped && state !== 'retrying') this.#tell(StoredHealth.running);
  }

  /**
   * A batch was committed. `sendingSinceMs`: since when the oldest of those is on its way that other lanes write;
   * undefined: there is none. Callers may wait for that one, so its time goes on.
   */
  onCommitted(sendingSinceMs?: number): void {
    this.#waitingSinceMs = sendingSinceMs;
    const { clock, ackTimeoutMs } = this.#options;
    const isLate = sendingSinceMs !== undefined && clock.steadyMs() - sendingSinceMs >= ackTimeoutMs;
    if (this.#health === StoredHealth.away && !isLate) this.#tell(StoredHealth.running);
  }

  /** Called a few times a second. */
  look(): void {
    const { handle, clock, ackTimeoutMs } = this.#options;
    if (ackTimeoutMs === 0 || this.#health === StoredHealth.stopped) return;
    if (!handle.takeWanted()) {
      this.onCommitted();
      return;
    }
    const nowMs = clock.steadyMs();
    this.#waitingSinceMs ??= nowMs;
    if (nowMs - this.#waitingSinceMs >= ackTimeoutMs) this.#tell(StoredHealth.away);
  }

  #tell(health: StoredHealth): void {
    if (this.#health === health) return;
    this.#health = health;
    this.#waitingSinceMs = undefined;
    this.#options.handle.setStoredHealth(health);
  }
}
