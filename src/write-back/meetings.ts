/**
 * Where lanes come together for an entry that they have to write as one (crossing.ts). Each lane comes when all that it
 * has before the entry is written, and waits for the others; the last one to come lets the first of them write it.
 *
 * No two lanes wait for each other at different entries: every lane comes to its entries in the order of the log, so
 * all that the lowest of these entries waits for is lanes that are on their way to it.
 */
import type { Position } from '../log/index.ts';
import type { Crossing } from './crossing.ts';

/** What became of a batch of a lane. */
export type LaneOutcome = 'written' | 'moved' | 'ended';

/** A lane as it comes. */
export interface Attendant {
  readonly share: { readonly lane: number };
}

interface Meeting<L> {
  readonly present: L[];
  readonly outcome: Promise<LaneOutcome>;
  settle(outcome: LaneOutcome | Promise<LaneOutcome>): void;
}

export class Meetings<L extends Attendant> {
  readonly #signal: AbortSignal;
  /** By the end of the entry: those that wait for lanes. */
  readonly #open = new Map<Position, Meeting<L>>();

  /** `signal`: ends those that wait. One that is being written ends with its batch. */
  constructor(signal: AbortSignal) {
    this.#signal = signal;
    signal.addEventListener('abort', () => {
      for (const meeting of this.#open.values()) meeting.settle('ended');
      this.#open.clear();
    });
  }

  /** A lane comes to a crossing. Resolves when it has been written. `write`: called once, with all lanes in order. */
  attend(
    lane: L,
    { entry, lanes }: Crossing,
    write: (present: readonly [L, ...L[]]) => Promise<LaneOutcome>,
  ): Promise<LaneOutcome> {
    if (this.#signal.aborted) return Promise.resolve('ended');
    const meeting = this.#open.get(entry.end) ?? this.#call(entry.end);
    meeting.present.push(lane);
    if (meeting.present.length === lanes.length) {
      this.#open.delete(entry.end);
      const present = meeting.present.sort((a, b) => a.share.lane - b.share.lane);
      meeting.settle(write(present as unknown as [L, ...L[]]));
    }
    return meeting.outcome;
  }

  #call(end: Position): Meeting<L> {
    let settle: Meeting<L>['settle'] = () => {};
    const outcome = new Promise<LaneOutcome>((resolve) => {
      settle = resolve;
    });
    const meeting = { present: [], outcome, settle };
    this.#open.set(end, meeting);
    return meeting;
  }
}
