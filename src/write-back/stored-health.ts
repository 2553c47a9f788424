/**
 * Whether callers may wait for the database, by the lane of their key. While some wait for a lane that has confirmed
 * nothing for their time, or that writes nothing until a person acts, it says so: then their waits end, and further
 * changes of its keys that would wait are refused before they are made. The next batch of the lane that is committed
 * ends that.
 */
import { type FeedHandle, StoredHealth } from '../native.ts';
import type { WriterClock } from './clock.ts';
import { Share } from './share.ts';
import type { WriterState } from './writer.ts';

/** States in which nothing is written until a person acts. */
const STOPPED: ReadonlySet<WriterState> = new Set(['halted', 'refused', 'closed']);

export type HealthHandle = Pick<FeedHandle, 'setStoredHealth' | 'isWanted' | 'shardCount'>;

export interface StoredHealthOptions {
  readonly handle: HealthHandle;
  readonly lanes: number;
  readonly clock: WriterClock;
  /** How long callers wait without a confirmation; 0: without a limit. */
  readonly ackTimeoutMs: number;
}

/** That of all lanes. */
export class StoredHealthWatch {
  readonly #lanes: readonly LaneHealth[];

  constructor(options: StoredHealthOptions) {
    this.#lanes = Share.all(options.lanes).map((share) => new LaneHealth(options, share));
  }

  /** The states of the lanes, in their order. */
  onStates(states: readonly WriterState[]): void {
    for (const [lane, state] of states.entries()) this.#lanes[lane]!.onState(state);
  }

  /** A batch of some lanes was committed, of `laneCount`. */
  onCommitted(lanes: readonly number[], laneCount: number): void {
    // While their number changes, those of the one before write.
    if (laneCount !== this.#lanes.length) for (const lane of this.#lanes) lane.onCommitted();
    else for (const lane of lanes) this.#lanes[lane]!.onCommitted();
  }

  /** Called a few times a second. */
  look(): void {
    for (const lane of this.#lanes) lane.look();
  }
}

class LaneHealth {
  readonly #options: StoredHealthOptions;
  readonly #shards: readonly [from: number, end: number];
  #health: StoredHealth = StoredHealth.running;
  /** Callers wait, and nothing has been confirmed since then. */
  #waitingSinceMs: number | undefined;

  constructor(options: StoredHealthOptions, share: Share) {
    this.#options = options;
    this.#shards = share.shards(options.handle.shardCount);
    // The writer before this one may have died while the database was away.
    options.handle.setStoredHealth(this.#health, ...this.#shards);
  }

  onState(state: WriterState): void {
    if (STOPPED.has(state)) this.#tell(StoredHealth.stopped);
    else if (this.#health === StoredHealth.stopped && state !== 'retrying') this.#tell(StoredHealth.running);
  }

  onCommitted(): void {
    this.#waitingSinceMs = undefined;
    if (this.#health === StoredHealth.away) this.#tell(StoredHealth.running);
  }

  look(): void {
    const { handle, clock, ackTimeoutMs } = this.#options;
    if (ackTimeoutMs === 0 || this.#health === StoredHealth.stopped) return;
    if (!handle.isWanted(...this.#shards)) {
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
    this.#options.handle.setStoredHealth(health, ...this.#shards);
  }
}
