/**
 * Where a lane stands: what it has gathered of the log, what is on its way, and up to where the database has it.
 *
 *     confirmed ... on its way ... gathered ... the log has more
 */
import type { Cursor } from '../backend/index.ts';
import { later, type Position } from '../log/index.ts';
import type { Batch, Batcher, EntryEnd } from './batcher.ts';
import type { LaneRoom } from './lane-room.ts';
import type { Share } from './share.ts';

export interface StandingOptions {
  readonly room: LaneRoom;
  readonly share: Share;
  readonly batcher: Batcher;
  /** How far the database was: one number, which outlives the lane. */
  readonly reached: BigUint64Array;
  /** More of the lane is in the database. `hasHealed`: everything that it had before it went back. */
  readonly onConfirmed: (hasHealed: boolean) => void;
}

export class Standing {
  readonly share: Share;
  readonly batcher: Batcher;
  /** The cursor of the database; undefined: it was not carried yet. */
  cursor: Cursor | undefined;
  /** What is on its way. */
  writing: Batch | undefined;
  readonly #room: LaneRoom;
  readonly #onConfirmed: StandingOptions['onConfirmed'];
  #confirmed: Position;
  /** The furthest that it was, by whichever writer of the cache: beyond `confirmed` while the database is healed. */
  readonly #reached: BigUint64Array;
  /** The database may lack what it had: its cursors are being read again. */
  #isInDoubt = false;
  /** What the log says of its oldest record behind what has been read, which costs a look into its files. */
  #unread: { readonly from: Position; readonly oldestMs: number } | undefined;

  constructor({ room, share, batcher, reached, onConfirmed }: StandingOptions) {
    this.share = share;
    this.batcher = batcher;
    this.#room = room;
    this.#onConfirmed = onConfirmed;
    this.#reached = reached;
    this.#confirmed = this.reached;
  }

  /** Everything of the lane before this is in the database. */
  get confirmed(): Position {
    return this.#confirmed;
  }

  /** Everything of it before this was in the database at some time. */
  get reached(): Position {
    return this.#reached[0]!;
  }

  /** The database has gone back, and does not have all yet that it had. */
  get isHealing(): boolean {
    return this.#confirmed < this.reached;
  }

  /**
   * Whether the database has everything of it before a position. Of entries without changes there is nothing to
   * confirm, so a position behind which nothing is on its way counts too.
   */
  has(position: Position): boolean {
    if (this.#isInDoubt) return false;
    return (
      this.#confirmed >= position ||
      (this.batcher.position >= position && this.batcher.isEmpty && this.writing?.oldestMs === undefined)
    );
  }

  /**
   * What has been read and is not in the database yet; the log may have more behind it. `oldestMs`: when the log took
   * the oldest record that the database does not have, read or not.
   */
  get owed(): { readonly records: number; readonly bytes: number; readonly oldestMs: number | undefined } {
    const { records, bytes, oldestMs } = this.batcher.waiting;
    const batch = this.writing;
    if (batch === undefined) return { records, bytes, oldestMs: oldestMs ?? this.#oldestUnreadMs() };
    const { recordCount, bytes: batchBytes } = batch.changes;
    return { records: records + recordCount, bytes: bytes + batchBytes, oldestMs: batch.oldestMs ?? oldestMs };
  }

  #oldestUnreadMs(): number | undefined {
    const { log } = this.#room;
    if (this.has(log.end())) return undefined;
    const from = later(this.batcher.position, this.#confirmed);
    if (this.#unread?.from === from) return this.#unread.oldestMs;
    try {
      const oldestMs = log.timeFrom(from);
      if (oldestMs !== undefined) this.#unread = { from, oldestMs };
      return oldestMs;
    } catch {
      // The gatherer will say what is wrong with the log.
      return undefined;
    }
  }

  /** The cursor of the lane at the end of a batch, whose holder is this process still. REQUIRES: it has one. */
  cursorAt({ position, epoch, writer }: EntryEnd): Cursor {
    return { ...this.cursor!, position, epoch, writer };
  }

  /** The database may have gone back: nothing is known to be there until its cursor has been read. */
  doubt(): void {
    this.#isInDoubt = true;
  }

  /** The database has gone back to before what is confirmed. */
  goBack(position: Position): void {
    this.#confirmed = position;
    this.#forget(position);
  }

  /** Goes on from the cursor of the database. What was gathered is read again. */
  begin(position: Position): void {
    this.#forget(position);
    this.confirm(position);
  }

  #forget(position: Position): void {
    this.batcher.begin(position);
    this.writing = undefined;
  }

  /** The database has everything of it before a position. */
  confirm(position: Position): void {
    const wasHealing = this.isHealing;
    this.#isInDoubt = false;
    this.#confirmed = later(this.#confirmed, position);
    this.#reached[0] = later(this.reached, position);
    this.#room.seen();
    this.#onConfirmed(wasHealing && !this.isHealing);
  }
}
