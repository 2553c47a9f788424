/**
 * Waits until the lanes of a writer have reached a position of the log, and writes at once what is before it. Where the
 * log has other writers, lanes of this one or writers to other databases, the cursors come along also without changes.
 */
import { CairnError } from '../errors.ts';
import type { Position } from '../log/index.ts';
import type { Refusal } from './identity.ts';
import type { Lane } from './lane.ts';
import type { WriterState } from './writer.ts';

export interface ReachingOptions {
  readonly lanes: readonly Lane[];
  /** As lane-room.ts says. */
  readonly movesAlong: boolean;
  /** Of the writer. */
  readonly state: () => WriterState;
  readonly refusal: () => Refusal | undefined;
  readonly ending: AbortSignal;
  /** Has every wait look again. */
  readonly wake: () => void;
}

export class Reaching {
  readonly #options: ReachingOptions;

  constructor(options: ReachingOptions) {
    this.#options = options;
  }

  /**
   * Resolves when the database has everything before a position. Rejects if the writer has stopped, or when the signal
   * says that the caller does not wait any more; while the database cannot be written, it waits.
   */
  async drain(position: Position, signal?: AbortSignal): Promise<void> {
    const { lanes, movesAlong, state, refusal, wake } = this.#options;
    signal?.addEventListener('abort', wake, { once: true });
    for (const lane of lanes) lane.flushTo(position);
    try {
      for (const lane of lanes) {
        while (!lane.has(position)) {
          signal?.throwIfAborted();
          const refused = refusal();
          if (refused !== undefined) throw refused.error;
          if (state() === 'closed') throw new CairnError('ERR_CLOSED', 'The cache was closed');
          await lane.changed();
        }
      }
      if (movesAlong) await Promise.all(lanes.map((lane) => this.#comeAlong(lane, position)));
    } finally {
      signal?.removeEventListener('abort', wake);
    }
  }

  /**
   * The same, but resolves also when there is no hope: a lane that only a person can mend, or a pause. Never rejects.
   */
  async drainOrGiveUp(position: Position): Promise<void> {
    await Promise.all(this.#options.lanes.map((lane) => this.#laneOrGiveUp(lane, position)));
  }

  async #laneOrGiveUp(lane: Lane, position: Position): Promise<void> {
    lane.flushTo(position);
    while (!lane.has(position) && !this.#options.ending.aborted) {
      if (this.#isStuck(lane) || this.#options.refusal() !== undefined) return;
      await lane.changed();
    }
    if (this.#options.movesAlong) await this.#comeAlong(lane, position);
  }

  // Moves the cursor of a lane that has nothing before a position: otherwise the log would seem to owe what other
  // writers have there. A database that does not answer now is not waited for.
  async #comeAlong(lane: Lane, position: Position): Promise<void> {
    lane.moveTo(position);
    while (lane.confirmed < position && !this.#options.ending.aborted) {
      if (lane.state !== 'writing' && lane.state !== 'healing') return;
      await lane.changed();
    }
  }

  // Only a person can have it go on, or a lane that it waits for.
  #isStuck(lane: Lane, seen: Set<Lane> = new Set()): boolean {
    seen.add(lane);
    const state = lane.state === 'resting' ? this.#options.state() : lane.state;
    if (state === 'halted' || state === 'paused') return true;
    const met = lane.meets.map((number) => this.#options.lanes[number]!);
    return met.some((other) => !seen.has(other) && this.#isStuck(other, seen));
  }
}
