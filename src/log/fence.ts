/**
 * Who may append, decided by readers. A log may have entries of a writer that lost its place without knowing it, twice
 * the same batch after a time-out, or a gap; each reader drops them by the same rule from nothing but the log itself,
 * so that all of them see the same stream. A log that refuses such appends itself (the embedded one holds a lock) needs
 * the rule as a check only.
 *
 * A reader keeps (epoch, writer, records before). What it reads next is valid if it continues that:
 *
 * | entry    | valid if                                                    | then                                   |
 * |----------|-------------------------------------------------------------|----------------------------------------|
 * | takeover | the same records before, a higher epoch                     | its epoch and writer are the current   |
 * | records  | the same records before, the current writer, no lower epoch | its epoch; as many more records before |
 * | lost     | the same records before                                     | what it says of the end of the gap     |
 *
 * Anything else is void. The epoch alone would not do: a counter of versions that runs over raises it too, so that a
 * writer that was replaced could reach the epoch of the one that replaced it. Hence the writer's random number. A
 * take-over that was written in ignorance of a batch is void like anything that does not continue the stream: its
 * writer reads on and tries again.
 */

import type { Position } from './request-log.ts';

/** Where a reader is. */
export interface FenceState {
  readonly epoch: number;
  readonly writer: bigint;
  readonly recordsBefore: bigint;
}

/** What the rule looks at. */
export interface Fenced extends FenceState {
  readonly kind: 'records' | 'takeover' | 'lost';
  readonly recordCount: number;
}

/** A position, and where a reader is there. */
export interface Point {
  readonly position: Position;
  readonly fence: FenceState;
}

/** The entry with which an opening of a log begins. */
export interface Takeover {
  /** Of the opening. Batches may have higher ones: a counter of versions that runs over raises them. */
  readonly epoch: number;
  /** Drawn at random by the opening. */
  readonly writer: bigint;
  /** Where it ends. A full disk has no room for it: then it is written there when there is room. */
  readonly end: Position;
}

/** Before the first entry of a log. */
export const FENCE_START: FenceState = { epoch: 0, writer: 0n, recordsBefore: 0n };

export class Fence {
  #state: FenceState;

  constructor(state: FenceState = FENCE_START) {
    this.#state = { epoch: state.epoch, writer: state.writer, recordsBefore: state.recordsBefore };
  }

  get state(): FenceState {
    return this.#state;
  }

  /** Whether the entry is valid; if it is, it has become part of the state. */
  admit(entry: Fenced): boolean {
    const { epoch, writer, recordsBefore } = this.#state;
    if (entry.recordsBefore !== recordsBefore) return false;
    if (entry.kind === 'takeover' && entry.epoch <= epoch) return false;
    if (entry.kind === 'records' && (entry.writer !== writer || entry.epoch < epoch)) return false;
    this.#state = {
      epoch: entry.epoch,
      writer: entry.writer,
      recordsBefore: recordsBefore + BigInt(entry.recordCount),
    };
    return true;
  }
}
