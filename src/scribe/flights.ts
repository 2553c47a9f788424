/**
 * Groups of records that are not yet in the log, oldest first: each was drained in one turn of the rings, is submitted
 * where the one before it is expected to end, and is committed to the rings when the log says that it has it.
 *
 *     sent        the log has still to answer
 *     held        it is not in the log, or that is unknown; retry() submits all of these again, in their order
 *     committed   and kept here only until all before it are
 *
 * A group behind one that did not get into the log is held with it, whatever its own answer was: `conflict`. Only a
 * conflict of a group with nothing before it says that another process writes the log; or that the log has lost what
 * was before (`LogPort.lost`), and then the groups go behind the gap.
 *
 * A log that answers at once has one group in flight at most, and its records stay in the buffer that they were drained
 * to. For any other they are copied, as the buffer is filled again before the answer comes.
 */
import { LOG_TURNS_MAX } from '../limits.ts';
import type { AppendResult, LogBatch, LogPort, LogRange, Position } from '../log/index.ts';

/** Why groups are held. */
export type Refusal = Exclude<AppendResult, { kind: 'committed' }>;

/** Hears of a group that is in the log, and where. */
type OnCommitted = (turn: number, batch: LogBatch, place: LogRange) => void;

interface Flight {
  readonly turn: number;
  batch: LogBatch;
  state: 'sent' | 'held' | 'committed';
  /** When it was submitted last, something before it was not known to be in the log. */
  followsUncertain: boolean;
  refusal: Refusal | undefined;
}

export class Flights {
  readonly #log: LogPort;
  readonly #countMax: number;
  readonly #onCommitted: OnCommitted;
  #flights: Flight[] = [];

  /** `onCommitted` is called once for each group, in any order. */
  constructor(log: LogPort, onCommitted: OnCommitted) {
    this.#log = log;
    this.#countMax = Math.min(log.windowMax, LOG_TURNS_MAX);
    this.#onCommitted = onCommitted;
  }

  get count(): number {
    return this.#flights.length;
  }

  /** Another group may be sent: the log and the rings have room for one more, and none is held that goes first. */
  get hasRoom(): boolean {
    return this.#flights.length < this.#countMax && !this.#flights.some(({ state }) => state === 'held');
  }

  /** REQUIRES: hasRoom. */
  send(turn: number, records: Buffer, recordCount: number, epoch: number): void {
    const kept = this.#log.windowMax === 1 ? records : Buffer.from(records);
    const last = this.#flights.at(-1)?.batch;
    const expectPosition = last === undefined ? this.#log.end : this.#log.endAfter(last.expectPosition, last);
    const batch = { records: [kept], recordCount, epoch, expectPosition };
    const flight: Flight = { turn, batch, state: 'sent', followsUncertain: false, refusal: undefined };
    this.#flights.push(flight);
    this.#submit(flight);
  }

  /** Hears what the log has to say. Why something is held, once nothing is in flight; undefined: nothing is. */
  settle(): Refusal | undefined {
    for (const { ticket, result } of this.#log.poll()) {
      const flight = this.#flights.find(({ turn }) => turn === ticket);
      if (flight === undefined) throw new Error(`The log has answered a batch that is not in flight: ${ticket}`);
      flight.state = result.kind === 'committed' ? 'committed' : 'held';
      flight.refusal = result.kind === 'committed' ? undefined : result;
      if (result.kind === 'committed') this.#onCommitted(flight.turn, flight.batch, result);
    }
    while (this.#flights[0]?.state === 'committed') this.#flights.shift();
    const held = this.#flights.find(({ state }) => state === 'held');
    if (held === undefined || this.#flights.some(({ state }) => state === 'sent')) return undefined;
    return held.refusal;
  }

  /** Whether a refusal that settle() gave says that another process writes the log. */
  isForGood(refusal: Refusal): refusal is Extract<Refusal, { kind: 'conflict' | 'fenced' }> {
    if (refusal.kind === 'fenced') return true;
    const first = this.#flights.find(({ state }) => state === 'held');
    if (refusal.kind !== 'conflict' || first === undefined) return false;
    return !first.followsUncertain && first.batch.expectPosition >= this.#log.lost.end;
  }

  /** Submits again what is held. REQUIRES: settle() has said why it is. */
  retry(): void {
    let end: Position | undefined;
    for (const flight of this.#flights) {
      const isBeforeGap = flight.refusal?.kind === 'conflict' && flight.batch.expectPosition < this.#log.lost.end;
      if (flight.state === 'held') {
        const expectPosition = end ?? (isBeforeGap ? this.#log.end : flight.batch.expectPosition);
        flight.batch = { ...flight.batch, expectPosition };
      }
      end = this.#log.endAfter(flight.batch.expectPosition, flight.batch);
    }
    for (const flight of this.#flights) if (flight.state === 'held') this.#submit(flight);
  }

  #submit(flight: Flight): void {
    flight.state = 'sent';
    const before = this.#flights.slice(0, this.#flights.indexOf(flight));
    flight.followsUncertain = before.some(({ state }) => state !== 'committed');
    // What was sent in an earlier epoch of the log is not refused for that.
    const epoch = Math.max(flight.batch.epoch, this.#log.epoch);
    if (epoch !== flight.batch.epoch) flight.batch = { ...flight.batch, epoch };
    this.#log.submit(flight.turn, flight.batch);
  }
}
