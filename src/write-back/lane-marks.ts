/**
 * What a lane tells memory and waiting callers: that the database has its changes, and which it has refused. Where the
 * answer of the database does not say what was refused, its table of dead letters does.
 */
import type { DeadLetter } from '../backend/index.ts';
import type { Position } from '../log/index.ts';
import type { Batch } from './batcher.ts';
import type { Calls } from './calls.ts';
import { type Letters, lettersBehind } from './letters-behind.ts';
import type { Standing } from './standing.ts';
import type { WriterMarks } from './stored-marks.ts';

export interface LaneMarksOptions {
  /** Of the shards of the lane. */
  readonly marks: WriterMarks;
  readonly standing: Standing;
  readonly logId: bigint;
  /** No dead letter is kept. */
  readonly dropsRefused: boolean;
}

export class LaneMarks {
  readonly #marks: WriterMarks;
  readonly #standing: Standing;
  readonly #logId: bigint;
  readonly #dropsRefused: boolean;
  #haveRecovered = false;

  constructor({ marks, standing, logId, dropsRefused }: LaneMarksOptions) {
    this.#marks = marks;
    this.#standing = standing;
    this.#logId = logId;
    this.#dropsRefused = dropsRefused;
  }

  /** They say that everything that was recovered when the cache was opened is in the database. */
  get haveRecovered(): boolean {
    return this.#haveRecovered;
  }

  /** The database has a batch, without those of its changes that it has put aside. */
  written({ versions }: Batch, deadLetters: readonly DeadLetter[]): void {
    const { share } = this.#standing;
    for (const letter of deadLetters) if (share.has(letter.change.key)) this.#marks.refuse(letter);
    if (versions !== undefined) this.#marks.raise(versions);
  }

  /**
   * Of what changes no row, and so belongs to no batch. The log forgets records behind the marks only: memory looks
   * there for a value that has left it, until its mark says that the database has it.
   */
  passed(): void {
    const { batcher } = this.#standing;
    if (this.#standing.has(this.#marks.openedAt)) {
      this.#marks.raiseRecovered();
      this.#haveRecovered = true;
    }
    const barren = batcher.takeBarren();
    if (barren !== undefined) this.#marks.raise(barren);
  }

  /** A writer of this process may have died behind a batch that the database has. False: the end has come. */
  async catchUp(calls: Calls, position: Position): Promise<boolean> {
    const { confirmed } = this.#standing;
    const behind = await this.lettersOf([this.#standing], calls, position, confirmed);
    if (behind === undefined) return false;
    for (const letter of behind.letters) this.#marks.refuse(letter, true);
    this.#marks.raiseBetween(confirmed, position);
    await this.drop(behind, calls);
    return true;
  }

  /** Whether the table has to be asked for the dead letters of a batch; undefined: the answer was lost. */
  areToBeAsked(deadLetters: readonly DeadLetter[] | undefined): boolean {
    return deadLetters === undefined || (this.#dropsRefused && deadLetters.length > 0);
  }

  /** Dead letters of some lanes up to a position, and behind their cursors or `after`; undefined: the end has come. */
  lettersOf(lanes: readonly Standing[], calls: Calls, end: Position, after?: Position): Promise<Letters | undefined> {
    const afterOf = (key: Buffer): Position | undefined => {
      const lane = lanes.find(({ share }) => share.has(key));
      return lane === undefined ? undefined : (after ?? lane.cursor?.position ?? 0n);
    };
    return calls.untilAnswered((backend) => lettersBehind(backend, { logId: this.#logId, afterOf, end }));
  }

  /**
   * Drops those of a mode that keeps none. Callers have been told, and memory, so that a writer that dies before finds
   * them.
   */
  async drop({ ids }: Letters, calls: Calls): Promise<void> {
    if (!this.#dropsRefused || ids.length === 0) return;
    await calls.untilAnswered(async ({ deadLetters }) => deadLetters?.drop(ids));
  }
}
